//! The allowed dependencies between crates, and the absence of cycles between modules of a crate.
//!
//! A module and its submodules count as one; dependencies among them are ignored. Sibling modules
//! must have no cycle. A re-exported name (`use child::Name`) counts as a name of its own module.
//! Test code does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use syn::visit::Visit;

/// The workspace crates that each crate may use, besides `platform`, which every other crate may
/// use.
const ARROWS: &[(&str, &[&str])] = &[
    ("trainer", &["playground", "report", "engine"]),
    ("playground", &["report", "engine"]),
    ("report", &["engine"]),
    ("engine", &["formats", "store", "text", "source", "model", "loss", "ops", "kernels"]),
    ("formats", &["model", "text", "store"]),
    ("model", &["ops", "kernels"]),
    ("ops", &["kernels"]),
    ("loss", &["kernels"]),
    ("text", &["source"]),
    ("store", &[]),
    ("source", &[]),
    ("kernels", &[]),
    ("platform", &[]),
];

/// The crates that may use candle.
const CANDLE: &[&str] = &["ops", "loss", "model", "formats", "engine"];

type Dependencies = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The dependencies of the workspace's crates, by folder name.
fn dependencies() -> Dependencies {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = |path: &Value| {
        let path = Path::new(path.as_str().unwrap());
        path.file_name().unwrap().to_string_lossy().into_owned()
    };
    let uses = |package: &Value| -> BTreeSet<String> {
        let all = package["dependencies"].as_array().unwrap().iter();
        let built = all.filter(|dependency| dependency["kind"] != "dev");
        built
            .map(|dependency| match &dependency["path"] {
                Value::Null => dependency["name"].as_str().unwrap().to_owned(),
                path => folder(path),
            })
            .collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            (folder(&manifest.parent().unwrap().to_string_lossy().into_owned().into()), uses(package))
        })
        .collect()
}

/// The uses that [`ARROWS`] and [`CANDLE`] do not allow.
fn wrong_arrows(dependencies: &Dependencies) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, uses) in dependencies {
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| crate_name == name) else {
            wrong.push(format!("{name} is not in ARROWS"));
            continue;
        };
        for used in uses {
            let ours = dependencies.contains_key(used) && used != "platform";
            let candle = used.starts_with("candle") && !CANDLE.contains(&name.as_str());
            if ours && !allowed.contains(&used.as_str()) || candle || name == "platform" && used == "platform"
            {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    wrong
}

/// A module path from the crate's root, which is empty.
type Module = Vec<String>;

/// The modules of a crate: the paths that each uses, and the names that it re-exports.
#[derive(Default)]
struct Modules {
    paths: BTreeMap<Module, BTreeSet<Module>>,
    names: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Modules {
    fn of(file: &Path) -> Self {
        let mut modules = Self::default();
        modules.read(file, Vec::new());
        modules
    }

    fn read(&mut self, file: &Path, module: Module) {
        let text = std::fs::read_to_string(file).unwrap();
        let items = syn::parse_file(&text).unwrap().items;
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let own = ["lib", "main", "mod"].contains(&stem.as_str());
        let folder = if own { file.parent().unwrap().to_owned() } else { file.with_extension("") };
        self.add(&items, module, &folder);
    }

    fn add(&mut self, items: &[syn::Item], module: Module, folder: &Path) {
        self.paths.entry(module.clone()).or_default();
        for item in items {
            match item {
                syn::Item::Mod(inner) if !is_test(&inner.attrs) => {
                    let name = inner.ident.to_string();
                    let child = [module.as_slice(), std::slice::from_ref(&name)].concat();
                    if let Some((_, items)) = &inner.content {
                        self.add(items, child, &folder.join(&name));
                    } else {
                        let file = folder.join(format!("{name}.rs"));
                        let file = if file.is_file() { file } else { folder.join(&name).join("mod.rs") };
                        self.read(&file, child);
                    }
                }
                syn::Item::Mod(_) => {}
                syn::Item::Use(item) if !is_test(&item.attrs) => {
                    self.add_use(&item.tree, &module, &mut Vec::new());
                }
                syn::Item::Fn(item) if is_test(&item.attrs) => {}
                syn::Item::Impl(item) if is_test(&item.attrs) => {}
                item => {
                    let mut found = Paths::default();
                    found.visit_item(item);
                    for path in found.0 {
                        self.note(&module, &path);
                    }
                }
            }
        }
    }

    fn add_use(&mut self, tree: &syn::UseTree, module: &Module, before: &mut Module) {
        let mut named = |before: &Module, ident: &syn::Ident, name: String| {
            let mut path = before.clone();
            if ident != "self" {
                path.push(ident.to_string());
            }
            if let Some(path) = self.note(module, &path) {
                self.names.entry(module.clone()).or_default().insert(name, path);
            }
        };
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_use(&path.tree, module, before);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, module, before);
                }
            }
            syn::UseTree::Name(name) => named(before, &name.ident, name.ident.to_string()),
            syn::UseTree::Rename(rename) => named(before, &rename.ident, rename.rename.to_string()),
            syn::UseTree::Glob(_) => drop(self.note(module, before)),
        }
    }

    /// Records that `module` uses `path`; returns the path from the crate's root if it is inside
    /// the crate.
    fn note(&mut self, module: &Module, path: &[String]) -> Option<Module> {
        let mut whole = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (whole, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            _ if path.len() < 2 => return None,
            _ => {}
        }
        while let Some(("super", after)) = rest.split_first().map(|(first, after)| (first.as_str(), after)) {
            whole.pop();
            rest = after;
        }
        whole.extend_from_slice(rest);
        self.paths.entry(module.clone()).or_default().insert(whole.clone());
        Some(whole)
    }

    /// The module of `path`, through re-exports.
    fn resolve(&self, path: &[String], depth: usize) -> Module {
        let mut module = Vec::new();
        for (index, name) in path.iter().enumerate() {
            module.push(name.clone());
            if self.paths.contains_key(&module) {
                continue;
            }
            module.pop();
            let passed = self.names.get(&module).and_then(|names| names.get(name));
            return match passed.filter(|passed| depth < 8 && passed.as_slice() != path) {
                Some(passed) => self.resolve(&[passed.as_slice(), &path[index + 1..]].concat(), depth + 1),
                None => module,
            };
        }
        module
    }

    /// The dependencies between sibling modules, by parent module.
    fn arrows(&self) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
        let mut arrows: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (from, paths) in &self.paths {
            for path in paths {
                let to = self.resolve(path, 0);
                let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                    let level = arrows.entry(from[..common].to_vec()).or_default();
                    level.entry(a.clone()).or_default().insert(b.clone());
                }
            }
        }
        arrows
    }

    /// The cycles between modules.
    fn circles(&self) -> Vec<String> {
        let mut circles = BTreeSet::new();
        for (level, arrows) in self.arrows() {
            let reach: BTreeMap<&String, BTreeSet<&String>> =
                arrows.keys().map(|from| (from, reach(&arrows, from))).collect();
            for (from, reached) in &reach {
                let group: BTreeSet<&String> = reached
                    .iter()
                    .filter(|to| reach.get(*to).is_some_and(|back| back.contains(from)))
                    .copied()
                    .collect();
                if group.len() > 1 {
                    let group: Vec<&str> = group.into_iter().map(String::as_str).collect();
                    circles.insert(format!("{}: {}", level.join("::"), group.join(" ↔ ")));
                }
            }
        }
        circles.into_iter().collect()
    }
}

fn reach<'a>(arrows: &'a BTreeMap<String, BTreeSet<String>>, from: &'a String) -> BTreeSet<&'a String> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for to in arrows.get(module).into_iter().flatten() {
            if reached.insert(to) {
                next.push(to);
            }
        }
    }
    reached
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// All paths in the code.
#[derive(Default)]
struct Paths(Vec<Module>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    /// Macros are not parsed, but paths from the crate's root are found in them.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let text = call.tokens.to_string().replace(' ', "");
        for (at, _) in text.match_indices("crate::") {
            let names = text[at..].split("::").map(|name| {
                name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            });
            self.0.push(names.take_while(|name| !name.is_empty()).collect());
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let dependencies = dependencies();
    assert_eq!(dependencies.len(), ARROWS.len(), "{dependencies:?}");
    assert_eq!(wrong_arrows(&dependencies), Vec::<String>::new());
}

#[test]
fn an_upward_arrow_and_candle_in_the_store_are_found() {
    let mut planted = dependencies();
    planted.get_mut("store").unwrap().insert("candle-core".into());
    planted.get_mut("loss").unwrap().insert("model".into());
    planted.get_mut("platform").unwrap().insert("kernels".into());
    planted.insert("novel".into(), BTreeSet::new());
    assert_eq!(
        wrong_arrows(&planted),
        ["loss uses model", "novel is not in ARROWS", "platform uses kernels", "store uses candle-core"]
    );
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for (name, _) in ARROWS {
        let source = root().join("crates").join(name).join("src");
        let modules = Modules::of(&source.join("lib.rs"));
        assert!(!modules.paths.is_empty());
        circles.extend(modules.circles().into_iter().map(|circle| format!("{name} {circle}")));
    }
    assert_eq!(circles, Vec::<String>::new());
}

#[test]
fn a_planted_circle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        surprisal_store::atomic::write(path, text.as_bytes()).unwrap();
    };
    file("lib.rs", "mod a; mod b; mod c; mod d; pub use b::Named;");
    file("a.rs", "pub fn f() -> String { format!(\"{}\", crate::Named::of(1)) }");
    file("b.rs", "use crate::c::inner::g; pub struct Named; #[cfg(test)] mod tests { use crate::d::h; }");
    file("c.rs", "pub mod inner; use inner::g;");
    file("c/inner.rs", "pub fn g() { super::super::a::f(); }");
    file("d.rs", "use crate::{a, b};");
    assert_eq!(Modules::of(&folder.path().join("lib.rs")).circles(), [": a ↔ b ↔ c"]);
    file("c/inner.rs", "pub fn g() { super::g(); }");
    assert!(Modules::of(&folder.path().join("lib.rs")).circles().is_empty());
}
