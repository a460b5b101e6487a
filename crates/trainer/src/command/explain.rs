//! `surprisal explain`: what models feel, token by token, and the arithmetic behind one of them.

mod arithmetic;
mod show;

use std::io::IsTerminal;

use serde::Serialize;
use serde_json::json;
use surprisal_loss::information;

use crate::cli;
use crate::compare::table::align;
use crate::failure::{Failure, Result};
use crate::models::{self, LoadedModel, Model};
use crate::output::Output;

/// One token under one model.
#[derive(Debug, Clone, Serialize)]
struct Told {
    token: String,
    /// Infinite where the model held it impossible.
    #[serde(serialize_with = "finite")]
    nats: f64,
    #[serde(serialize_with = "finite")]
    bits: f64,
    /// 1: the model's first guess.
    rank: usize,
    likeliest: Vec<Guess>,
}

/// What a model expected.
#[derive(Debug, Clone, Serialize)]
struct Guess {
    token: String,
    probability: f64,
}

/// A model's reading of the text.
struct Reading {
    name: String,
    kind: String,
    told: Vec<Told>,
    bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn finite<S: serde::Serializer>(value: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(serializer)
}

/// Runs the command.
pub(crate) fn run(arguments: &cli::Explain, output: &Output) -> Result<()> {
    if arguments.text.is_empty() {
        return Err(
            Failure::usage("--text is empty").hint("give the text to be read, e.g. --text \"Once upon\"")
        );
    }
    let mut readings = Vec::new();
    for path in &arguments.models {
        let loaded = models::load(path, output)?;
        let name = path.display().to_string();
        if let Some(step) = arguments.step {
            arithmetic::walk(&loaded, &name, arguments, step, output)?;
            continue;
        }
        readings.push(read(&loaded, name, arguments)?);
    }
    if arguments.step.is_some() {
        return Ok(());
    }
    if output.json() {
        for reading in &readings {
            output.event(&json!({
                "event": "explain", "model": reading.name, "kind": reading.kind, "tokens": reading.told,
                "nats_per_token": Some(reading.nats_per_token()).filter(|nats| nats.is_finite()),
                "perplexity": Some(reading.nats_per_token().exp()).filter(|value| value.is_finite()),
                "bits_per_byte": Some(reading.bits_per_byte()).filter(|value| value.is_finite()),
            }))?;
        }
        return Ok(());
    }
    let colours = match arguments.color {
        cli::Color::Always => true,
        cli::Color::Never => false,
        cli::Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let mut text = String::new();
    for reading in &readings {
        text.push_str(&reading.heading());
        text.push_str(&show::strip(&reading.told, colours));
        text.push('\n');
    }
    text.push_str(&show::legend(colours));
    text.push('\n');
    text.push_str(&align(&show::table(&readings)));
    text.push_str(&show::tenth(&readings));
    output.data(&text)
}

/// The ids of the text, and how many at the front are context only.
fn ids(loaded: &LoadedModel, text: &str) -> Result<(Vec<u32>, usize)> {
    let mut ids: Vec<u32> = loaded.tokenizer.bos().into_iter().collect();
    let from = ids.len();
    ids.extend(loaded.tokenizer.encode(text)?);
    if ids.len() == from {
        return Err(Failure::failed("the text has no token"));
    }
    Ok((ids, from))
}

/// The tokens of `row`, likeliest first.
fn ranking(row: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
    order
}

fn read(loaded: &LoadedModel, name: String, arguments: &cli::Explain) -> Result<Reading> {
    let (ids, from) = ids(loaded, &arguments.text)?;
    let mut told = Vec::new();
    loaded.model.distributions(&ids, from, &mut |i, row| {
        let order = ranking(row);
        let nats = -row[ids[i] as usize];
        told.push(Told {
            token: loaded.tokenizer.token(ids[i]),
            nats,
            bits: information::bits(nats),
            rank: 1 + row.iter().filter(|log_prob| **log_prob > -nats).count(),
            likeliest: order
                .iter()
                .take(arguments.top)
                .map(|&id| Guess { token: loaded.tokenizer.token(id), probability: row[id as usize].exp() })
                .collect(),
        });
    })?;
    Ok(Reading { name, kind: loaded.kind.clone(), told, bytes: arguments.text.len() as u64 })
}

impl Reading {
    fn nats(&self) -> f64 {
        self.told.iter().map(|told| told.nats).sum()
    }

    fn nats_per_token(&self) -> f64 {
        self.nats() / self.told.len() as f64
    }

    fn bits_per_byte(&self) -> f64 {
        information::bits_per_byte(self.nats(), self.bytes)
    }

    fn heading(&self) -> String {
        let nats = self.nats_per_token();
        format!(
            "{} ({}): {nats:.4} nats a token, perplexity {:.3}, {:.4} bits a byte over {} tokens\n",
            self.name,
            self.kind,
            nats.exp(),
            self.bits_per_byte(),
            self.told.len()
        )
    }
}

/// Raw scores before the softmax; a counted model has none, and ln q takes their place.
fn scores(loaded: &LoadedModel, context: &[u32]) -> Result<(Vec<f64>, bool)> {
    Ok(match &loaded.model {
        Model::Neural(lm) if !context.is_empty() => (lm.logits(context)?, true),
        model => (model.next(context)?, false),
    })
}

/// A token in quotes, with what cannot be seen made visible.
fn quoted(token: &str) -> String {
    format!("\"{}\"", token.escape_debug())
}
