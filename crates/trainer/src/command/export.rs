//! `surprisal export`: writes a model in another format.
//!
//! The formats are arpa, ngram and kenlm for n-gram models, infgram for ∞-gram models; and for
//! transformers with GPT-2's or Llama's architecture hf, a folder that `transformers` loads, and
//! gguf, a file that llama.cpp loads.

use std::path::Path;

use serde_json::json;
use surprisal_engine::formats::hf::{self, HuggingFaceConfig, HuggingFaceTokenizer};
use surprisal_engine::formats::{arpa, gguf, infinigram, kenlm, ngram};
use surprisal_engine::model::neural::NeuralConfig;
use surprisal_engine::model::ngram::NgramModel;
use surprisal_engine::text::{Tokenizer, TokenizerKind};

use crate::cli;
use crate::command::count::FLAGS;
use crate::error::{Error, Result, name_flags};
use crate::output::Output;
use crate::wording::{many, shown, thousands};
use surprisal_engine::Context;
use surprisal_engine::models;
use surprisal_engine::outputs;

pub(crate) fn run(arguments: &cli::ExportArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let format = arguments.format.clone().unwrap_or_else(|| outputs::suffix(&arguments.out));
    if !matches!(format.as_str(), "arpa" | "ngram" | "infgram" | "kenlm" | "hf" | "gguf") {
        let out = arguments.out.display();
        return Err(Error::usage(format!("{out} has no known format"))
            .hint("give --format arpa, ngram, infgram, kenlm, hf or gguf, or a name that ends so"));
    }
    if arguments.quantize.is_some() && format != "ngram" {
        return Err(Error::usage(format!("--quantize has no effect with --format {format}"))
            .hint("only .ngram files can be quantized"));
    }
    if arguments.prune.is_some() {
        return Err(Error::usage("--prune needs the counts of n-grams, which a model does not have")
            .hint("`merge` COUNTS with --prune, or give --prune-entropy here"));
    }
    if arguments.prune_entropy.is_some() && !matches!(format.as_str(), "arpa" | "ngram" | "kenlm") {
        return Err(Error::usage(format!("--prune-entropy has no effect with --format {format}"))
            .hint("only n-gram models can be pruned"));
    }
    let (out, inputs) = (arguments.out.as_path(), [&arguments.model]);
    let _reserved =
        if format == "hf" { outputs::folder(out, &inputs)? } else { outputs::files([out], &inputs)? };
    let loaded = models::load(&arguments.model, ctx)?;
    if matches!(format.as_str(), "hf" | "gguf") {
        return transformer(arguments, format == "gguf", &loaded, output);
    }
    if loaded.model.kenlm().is_some() {
        return Err(Error::usage(format!(
            "a KenLM binary cannot be written as {format}: its n-grams can be looked up, but not listed"
        ))
        .hint("export the ARPA file that it was built from"));
    }
    if loaded.model.mixture().is_some() {
        return Err(Error::usage(format!("a mixture cannot be written as {format}"))
            .hint("`mix` its n-gram models again, with --weights and --out MIXED.arpa"));
    }
    if let Some(model) = loaded.model.infinigram().filter(|_| format == "infgram") {
        return wrote(out, infinigram::write(out, model, &loaded.tokenizer)?, output);
    }
    let Some(model) = loaded.model.ngram().filter(|_| format != "infgram") else {
        return Err(Error::usage(format!(
            "a model of kind \"{}\" cannot be written as {format}",
            loaded.kind
        ))
        .hint("only n-gram models can"));
    };
    let pool = ctx.pool;
    let pruned = arguments.prune_entropy.map(|threshold| pool.install(|| model.pruned(threshold)));
    let pruned = pruned.transpose().map_err(|error| name_flags(Error::usage(error.to_string()), FLAGS))?;
    if let Some(pruned) = &pruned {
        let (kept, all) = (thousands(pruned.parameters()), many(model.parameters(), "n-gram"));
        output.info(format!("{kept} of {all} are kept"));
    }
    let model = pruned.as_ref().unwrap_or(model);
    let packed = arguments.quantize.map(|bits| pool.install(|| model.quantized(bits))).transpose()?;
    let model = packed.as_ref().unwrap_or(model);
    let size = pool.install(|| write(&format, out, model, &loaded.tokenizer, ctx))?;
    wrote(out, size, output)
}

fn wrote(out: &Path, size: u64, output: &Output) -> Result<()> {
    output.wrote(out, size);
    output.event(
        &json!({ "event": "result", "written": [{ "path": out.display().to_string(), "bytes": size }] }),
    )
}

/// Writes an n-gram model as an arpa, ngram or KenLM file and returns its size in bytes.
pub(super) fn write(
    format: &str,
    out: &Path,
    model: &NgramModel,
    tokenizer: &Tokenizer,
    ctx: &Context<'_>,
) -> Result<u64> {
    if format == "ngram" {
        return Ok(ngram::write(out, model, tokenizer)?);
    }
    if format == "kenlm" {
        return Ok(kenlm::write(out, model, tokenizer)?);
    }
    let written = arpa::write(out, &model.trie().to_estimate()?, tokenizer)?;
    ctx.notes(&written.notices)?;
    Ok(written.bytes)
}

/// Writes a folder with config.json, model.safetensors and the tokenizer, or a GGUF file.
fn transformer(
    arguments: &cli::ExportArgs,
    is_gguf: bool,
    loaded: &models::LoadedModel,
    output: &Output,
) -> Result<()> {
    let neural = loaded.model.neural();
    let config = neural.and_then(|neural| match neural.config() {
        NeuralConfig::Transformer(config) => HuggingFaceConfig::from_transformer(config),
        NeuralConfig::Bigram(_)
        | NeuralConfig::Mlp(_)
        | NeuralConfig::Lstm(_)
        | NeuralConfig::Gru(_)
        | NeuralConfig::Custom(_) => None,
    });
    let (Some(neural), Some(config)) = (neural, config) else {
        let format = if is_gguf { "GGUF" } else { "Hugging Face" };
        return Err(Error::usage(format!("this {} has no {format} format", loaded.kind)).hint(
            "supported are transformers with layer norm, learned positions and GELU (GPT-2), or with norm = \"rms\", position = \"rope\" \
             and activation = \"swiglu\" (Llama); both without qk_norm, softcap and bigram_rows",
        ));
    };
    let tensors = neural.parameters().iter().map(|p| (p.name.clone(), p.var.as_tensor().clone())).collect();
    let (tokenizer, out) = (&loaded.tokenizer, arguments.out.as_path());
    if is_gguf {
        let size = gguf::write(out, &config, &tensors, tokenizer)?;
        output.wrote(out, size);
        return output.event(
            &json!({ "event": "result", "written": [{ "path": out.display().to_string(), "bytes": size }] }),
        );
    }
    // A tokenizer of a file has names of its own for <s> and </s>.
    let own = |id| String::from_utf8_lossy(&tokenizer.codec().token_name(id)).into_owned();
    let is_file = tokenizer.kind() == TokenizerKind::File;
    let name = |id: Option<u32>| id.map(|id| (id, if is_file { own(id) } else { tokenizer.token(id) }));
    let tokenizer = HuggingFaceTokenizer {
        json: tokenizer.to_json()?,
        unk: name(tokenizer.unk()),
        // A document starts after the end of another.
        bos: name(tokenizer.bos().or(tokenizer.eos())),
        eos: name(tokenizer.eos()),
    };
    hf::write(out, &config, &tensors, Some(&tokenizer))?;
    output.info(format!("wrote the folder {}", shown(out)));
    output.event(&json!({ "event": "result", "written": [{ "path": out.display().to_string() }] }))
}
