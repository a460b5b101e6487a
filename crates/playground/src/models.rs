//! The models of the page: n-gram models of every text, those of its runs, and the one that it was
//! started with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::{Context, Control, Silent, config};
use surprisal_platform::threads::Pool;

use crate::lru::Lru;
use crate::problem::{Problem, Result};
use crate::texts::Texts;

/// Bytes of the models that are held, about 16 for every parameter or n-gram.
const HELD: usize = 256 << 20;
/// The id of the model that the page was started with.
pub(crate) const GIVEN: &str = "given";
/// The start of the id of a run's model.
pub(crate) const RUN: &str = "run:";

/// An n-gram model: its id, name, order and smoothing.
type Counted = (&'static str, &'static str, usize, &'static str);

/// The n-gram models that every screen offers. One hundredth is added to every count, so that
/// none gives what a student writes the probability zero.
pub(crate) const COUNTED: [Counted; 2] = [
    ("bigram", "bigram, add-0.01", 2, "smoothing = \"add_k\"\nk = 0.01"),
    ("5gram", "5-gram, add-0.01", 5, "smoothing = \"add_k\"\nk = 0.01"),
];

/// Where the weights of a run are, and how new they are.
pub(crate) type FindRun<'a> = dyn Fn(&str) -> Option<(PathBuf, u64)> + 'a;

#[derive(Debug)]
pub(crate) struct Models {
    given: Option<PathBuf>,
    held: Lru<Held>,
}

/// A model by itself, so that a store of them can be printed.
pub(crate) struct Held(pub(crate) LoadedModel);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.kind)
    }
}

impl std::ops::Deref for Held {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.0
    }
}

impl Models {
    pub(crate) fn new(given: Option<&Path>) -> Self {
        Self {
            given: given.map(Path::to_owned),
            held: Lru::new(HELD, |held| 16 * held.model.parameters() as usize),
        }
    }

    /// The model of this id, counted on the text `text` if it is a counted one.
    pub(crate) fn get(
        &self,
        id: &str,
        text: &str,
        texts: &Texts,
        runs: &FindRun<'_>,
        pool: &Pool,
    ) -> Result<Arc<Held>> {
        let control = Control::new();
        let ctx = Context::new(pool, &Silent, &control);
        if let Some((_, _, order, smoothing)) = COUNTED.iter().find(|(of, ..)| *of == id) {
            return self.counted(*order, smoothing, text, texts, pool);
        }
        let (path, version) = match id.strip_prefix(RUN) {
            Some(name) => {
                runs(name).ok_or_else(|| Problem::not_found(format!("there is no run {name:?} here")))?
            }
            None => {
                let given = self.given.clone().filter(|_| id == GIVEN);
                (given.ok_or_else(|| Problem::not_found(format!("there is no model {id:?} here")))?, 0)
            }
        };
        self.held.get(&format!("{id} {version}"), || Ok(Held(models::load(&path, &ctx)?)))
    }

    /// An n-gram model of the text `text` with lines of a config's `[model]`.
    pub(crate) fn counted(
        &self,
        order: usize,
        smoothing: &str,
        text: &str,
        texts: &Texts,
        pool: &Pool,
    ) -> Result<Arc<Held>> {
        let data = texts.get(text, pool)?;
        self.held.get(&format!("{order} {smoothing} {text}"), || {
            let control = Control::new();
            let ctx = Context::new(pool, &Silent, &control);
            let settings = format!("[model]\nkind = \"ngram\"\norder = {order}\n{smoothing}\n");
            let mut loaded = config::parse("the page", &settings, &[])?;
            config::check(&mut loaded)?;
            Ok(Held(models::counted(loaded.config, &data.data, &ctx)?))
        })
    }
}
