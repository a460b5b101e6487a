//! `surprisal cache`: the tokens of large texts that are kept.

use serde_json::{Value, json};
use surprisal_engine::token_cache::{self, Entry};

use crate::cli;
use crate::error::Result;
use crate::output::Output;
use crate::wording::{bytes, labelled, many};

pub(crate) fn run(arguments: &cli::CacheArgs, output: &Output) -> Result<()> {
    let folder = token_cache::folder()?;
    if arguments.clear {
        let (files, size) = token_cache::clear()?;
        output.info(format!(
            "removed {} ({}) from {}",
            many(files as u64, "file"),
            bytes(size),
            folder.display()
        ));
        return output.event(&json!({ "event": "result", "removed": files, "bytes": size }));
    }
    let entries = token_cache::list()?;
    if output.json() {
        let files: Vec<Value> = entries
            .iter()
            .map(|Entry { path, bytes, footer, .. }| {
                let text = footer.as_ref().map(|footer| &footer.name);
                let tokens = footer.as_ref().map(|footer| footer.counts.tokens);
                json!({ "path": path.display().to_string(), "bytes": bytes, "text": text, "tokens": tokens })
            })
            .collect();
        return output
            .event(&json!({ "event": "result", "folder": folder.display().to_string(), "files": files }));
    }
    let mut lines = vec![("folder".to_owned(), folder.display().to_string())];
    for Entry { path, bytes: size, footer, .. } in &entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let label = name.chars().take(12).collect();
        let what = match footer {
            Some(footer) => format!("{}, {}", many(footer.counts.tokens, "token"), footer.name),
            None => "the remains of a run that was killed".into(),
        };
        lines.push((label, format!("{} ({what})", bytes(*size))));
    }
    let total = entries.iter().map(|entry| entry.bytes).sum();
    lines.push(("all".into(), format!("{}; --clear removes them", bytes(total))));
    output.write_stdout(&labelled(&lines, 18))
}
