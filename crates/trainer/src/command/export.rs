//! `surprisal export`: a model in another program's format.

use serde_json::json;
use surprisal_formats::{arpa, ngram};
use surprisal_kernels::threads::Pool;

use crate::cli;
use crate::config::cores;
use crate::failure::{Failure, Result};
use crate::models;
use crate::output::{Output, bytes};

/// Runs the command.
pub(crate) fn run(arguments: &cli::Export, output: &Output) -> Result<()> {
    let named = arguments.out.extension().and_then(|extension| extension.to_str());
    let format = arguments.format.as_deref().or(named).unwrap_or_default().to_owned();
    if !matches!(format.as_str(), "arpa" | "ngram") {
        return Err(Failure::usage(format!("--format is \"{format}\"")).hint("one of: arpa, ngram"));
    }
    super::count::check_bits(arguments.quantize)?;
    let loaded = models::load(&arguments.model)?;
    let Some(model) = loaded.model.ngram() else {
        return Err(Failure::usage(format!("a {} cannot be written as {format}", loaded.kind))
            .hint("only n-gram models can"));
    };
    let pool = Pool::new(cores())?;
    let size = if format == "arpa" {
        let estimate = pool.install(|| model.trie().to_estimate())?;
        pool.install(|| arpa::write(&arguments.out, &estimate, &loaded.tokenizer))?
    } else if let Some(bits) = arguments.quantize {
        let model = pool.install(|| model.quantized(bits))?;
        pool.install(|| ngram::write(&arguments.out, &model, &loaded.tokenizer))?
    } else {
        pool.install(|| ngram::write(&arguments.out, model, &loaded.tokenizer))?
    };
    output.say(format!("wrote {} ({})", arguments.out.display(), bytes(size)));
    output.event(&json!({ "event": "result", "written": [{ "path": arguments.out, "bytes": size }] }))
}
