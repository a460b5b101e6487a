//! `surprisal completions` and `surprisal man`: what shells and `man` know of the command line.

use std::iter;
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;
use surprisal_engine::outputs;
use surprisal_engine::store::{atomic, parents::ParentFolders};

use crate::error::{Error, Result};
use crate::output::Output;
use crate::usage;
use crate::wording::{many, shown};

pub(crate) fn completions(shell: Shell, output: &Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut usage::command(), "surprisal", &mut script);
    let script = String::from_utf8_lossy(&script);
    if output.json() {
        return output.event(&json!({ "event": "result", "shell": shell.to_string(), "script": script }));
    }
    output.write_sample(&script)
}

pub(crate) fn man(folder: &Path, output: &Output) -> Result<()> {
    outputs::writable(folder, &[] as &[&Path])?;
    // Names the commands as their pages are named, surprisal-train and so on.
    let mut command = usage::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    for command in iter::once(&command).chain(command.get_subcommands()) {
        let page = Man::new(command.clone()).source(concat!("surprisal ", env!("CARGO_PKG_VERSION")));
        let path = folder.join(page.get_filename());
        let old = std::fs::read(&path).unwrap_or_default();
        if !old.is_empty() && !String::from_utf8_lossy(&old).contains("\n.TH surprisal") {
            let message =
                format!("`{}` is already there, and no manual page of this program", path.display());
            return Err(Error::usage(message).hint("name another folder with --out"));
        }
        let mut text = Vec::new();
        page.render(&mut text).map_err(|reason| Error::failed(reason.to_string()))?;
        let text = String::from_utf8_lossy(&text).replace(".SH EXTRA\nExamples:", ".SH EXAMPLES");
        pages.push((path, text));
    }
    let _parents = ParentFolders::create(&pages[0].0)?;
    for (path, text) in &pages {
        atomic::write(path, text.as_bytes())?;
    }
    output.info(format!("wrote {} into {}", many(pages.len() as u64, "manual page"), shown(folder)));
    let paths: Vec<String> = pages.iter().map(|(path, _)| path.display().to_string()).collect();
    output.event(&json!({ "event": "result", "written": paths }))
}
