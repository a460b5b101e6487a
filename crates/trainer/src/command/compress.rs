//! `surprisal compress` and `surprisal decompress`: arithmetic coding by any model.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;
use surprisal_engine::compress::{Sizes, compress, decompress, others};
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::store::{atomic, read};
use surprisal_engine::text::is_standard_input;
use surprisal_engine::{Context, outputs};

use crate::align::align;
use crate::cli;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::wording::{many, number, shown, thousands};

/// The model, if one is named before the file, and the content of the file.
fn read_inputs(paths: &[PathBuf], ctx: &Context<'_>) -> Result<(Option<LoadedModel>, Vec<u8>)> {
    let (file, model) = paths.split_last().ok_or_else(|| Error::usage("name a file"))?;
    let loaded = model.first().map(|path| ctx.pool.install(|| models::load(path, ctx))).transpose()?;
    if !is_standard_input(file) {
        return Ok((loaded, read::read_regular(file)?));
    }
    let mut content = Vec::new();
    let failed = |error| Error::failed(format!("cannot read standard input: {error}"));
    std::io::stdin().lock().read_to_end(&mut content).map_err(failed)?;
    Ok((loaded, content))
}

fn write(out: &Path, bytes: &[u8], output: &Output) -> Result<()> {
    atomic::write(out, bytes)?;
    output.info(format!("wrote {} ({})", shown(out), many(bytes.len() as u64, "byte")));
    Ok(())
}

pub(crate) fn run(arguments: &cli::CompressArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let paths = &arguments.coding.paths;
    if paths.len() == 1 && arguments.adapt {
        return Err(Error::usage("--adapt has no effect without a model: then all is learnt from the file"));
    }
    let out = &arguments.coding.out;
    let _reserved = outputs::files([out.as_path()], paths)?;
    let (loaded, content) = read_inputs(paths, ctx)?;
    let started = std::time::Instant::now();
    let (file, sizes) = compress(loaded.as_ref(), &content, arguments.adapt, ctx)?;
    let seconds = started.elapsed().as_secs_f64();
    write(out, &file, output)?;
    let others = others(&content);
    if output.json() {
        let Sizes { bytes, tokens, nats, coded, patch, compressed } = sizes;
        let others: serde_json::Map<String, serde_json::Value> =
            others.into_iter().map(|(name, size)| (name.to_owned(), size.into())).collect();
        return output.event(&json!({
            "event": "result", "written": [{ "path": out.display().to_string(), "bytes": compressed }],
            "bytes": bytes, "tokens": tokens, "nats": nats, "coded_bytes": coded, "patch_bytes": patch,
            "compressed_bytes": compressed, "adaptive": arguments.adapt || loaded.is_none(), "others": others,
            "seconds": seconds,
        }));
    }
    output.info(report(&sizes, &others));
    Ok(())
}

/// The sizes, a row each, and the identity of nats and bytes.
fn report(sizes: &Sizes, others: &[(&'static str, u64)]) -> String {
    let row = |name: &str, size: u64| {
        let bits = 8.0 * size as f64 / sizes.bytes as f64;
        vec![name.to_owned(), thousands(size), number(bits, 4)]
    };
    let mut rows = vec![["", "bytes", "bits per byte"].map(str::to_owned).to_vec()];
    rows.push(row("the file", sizes.bytes));
    rows.push(row("surprisal", sizes.compressed));
    rows.extend(others.iter().map(|&(name, size)| row(name, size)));
    let corrections = match sizes.patch {
        0 => String::new(),
        patch => format!(", what the tokens do not say {} bytes", thousands(patch)),
    };
    format!(
        "{}{} of {} nats / (8 ln 2) = {} bytes; coded in {}{corrections}, the header {}",
        align(&rows),
        many(sizes.tokens, "token"),
        number(sizes.nats / sizes.tokens.max(1) as f64, 4),
        number(sizes.nats / (8.0 * std::f64::consts::LN_2), 1),
        thousands(sizes.coded),
        thousands(sizes.compressed - sizes.coded - sizes.patch),
    )
}

pub(crate) fn undo(arguments: &cli::CodingArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let out = &arguments.out;
    let _reserved = outputs::files([out.as_path()], &arguments.paths)?;
    let (loaded, file) = read_inputs(&arguments.paths, ctx)?;
    let name = shown(&arguments.paths[arguments.paths.len() - 1]);
    let content = decompress(loaded.as_ref(), &file, ctx).map_err(|error| error.within(name))?;
    write(out, &content, output)?;
    let bytes = content.len();
    output.event(
        &json!({ "event": "result", "written": [{ "path": out.display().to_string(), "bytes": bytes }] }),
    )
}
