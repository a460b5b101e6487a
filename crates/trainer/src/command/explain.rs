//! `surprisal explain`: the surprisal of a text, token by token, and the computation of one token's
//! loss.

mod arithmetic;
mod show;

use std::io::IsTerminal;

use clap::ColorChoice;
use serde_json::json;

use crate::align::align;
use crate::cli;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::wording::{many, number, one_line};
use surprisal_engine::Context;
use surprisal_engine::data::note_tokens;
use surprisal_engine::explain::{self, EncodedText, Explanation};
use surprisal_engine::models;

/// The explanation of a neural model's loss on the first token.
const STARTS_UNIFORM: &str = "the first token has no context, which this model was never trained on: there every \
                              token is equally likely, as in `eval`";

struct Reading {
    name: String,
    kind: String,
    explanation: Explanation,
}

pub(crate) fn run(arguments: &cli::ExplainArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    if arguments.text.is_empty() {
        return Err(Error::usage("--text is empty").hint("give a text, e.g. --text \"Once upon\""));
    }
    if let Some(epsilon) = arguments.smoothing.filter(|epsilon| !(0.0..=1.0).contains(epsilon)) {
        return Err(Error::usage(format!("--smoothing is {epsilon}, but must be from 0 to 1")));
    }
    if arguments.color.is_some() && output.json() {
        return Err(Error::usage("--color has no effect with --json").hint("omit one of them"));
    }
    let mut readings = Vec::new();
    for path in &arguments.models {
        let loaded = models::load(path, ctx)?;
        let name = path.display().to_string();
        if let Some(step) = arguments.step {
            arithmetic::walk(&loaded, &name, arguments, step, ctx, output)?;
            continue;
        }
        let text = EncodedText::new(&loaded, &arguments.text, ctx)?;
        note_tokens(&text.tokens, "the text", &name, ctx)?;
        let explanation = explain::explain(&loaded, &text, arguments.top, ctx.pool)?;
        readings.push(Reading { name, kind: loaded.kind, explanation });
    }
    if arguments.step.is_some() {
        return Ok(());
    }
    if output.json() {
        for Reading { name, kind, explanation } in &readings {
            let evaluation = serde_json::to_value(explanation.evaluation)?;
            output.event(&json!({
                "event": "explain", "model": name, "kind": kind, "tokens": explanation.tokens,
                "nats_per_token": evaluation["nats_per_token"], "perplexity": evaluation["perplexity"],
                "bits_per_byte": evaluation["bits_per_byte"], "eval": evaluation,
            }))?;
        }
        return Ok(());
    }
    let colours = match arguments.color {
        Some(ColorChoice::Always) => true,
        Some(ColorChoice::Never) => false,
        Some(ColorChoice::Auto) | None => {
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
        }
    };
    let mut text = String::new();
    for reading in &readings {
        text.push_str(&reading.heading());
        text.push_str(&show::strip(reading, colours));
        text.push('\n');
    }
    text.push_str(&show::legend(colours));
    text.push('\n');
    text.push_str(&align(&show::table(&readings)));
    text.push_str(&show::tenth_of_a_nat(&readings));
    if colours { output.write_styled(&text) } else { output.write_stdout(&text) }
}

fn label(token: &str, unknown: bool) -> String {
    if unknown { format!("{token} (unknown)") } else { token.to_owned() }
}

impl Reading {
    fn heading(&self) -> String {
        let evaluation = &self.explanation.evaluation;
        let nats = evaluation.nats_per_token();
        let tokens = many(evaluation.tokens, "token");
        let mut heading = format!("{} ({}): ", one_line(&self.name), self.kind);
        if evaluation.unnormalized {
            heading.push_str(&format!(
                "log score {:.4} per token over {tokens}; no perplexity, because these scores do not sum to one\n",
                -nats
            ));
        } else {
            heading.push_str(&format!(
                "{} nats per token, perplexity {}, {} bits per byte over {tokens}\n",
                number(nats, 4),
                number(evaluation.perplexity(), 3),
                evaluation.bits_per_byte_shown()
            ));
        }
        if let Some(unknown) = evaluation.unknown() {
            heading.push_str(&format!("{unknown}\n"));
        }
        if self.explanation.starts_uniform {
            heading.push_str(&format!("{STARTS_UNIFORM}\n"));
        }
        heading
    }
}

/// A token in quotes, with invisible characters escaped.
fn quoted(token: &str) -> String {
    format!("\"{}\"", token.escape_debug())
}
