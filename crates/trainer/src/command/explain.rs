//! `surprisal explain`: the surprisal of a text, token by token, and the computation of one token's
//! loss.

mod arithmetic;
mod show;

use std::io::IsTerminal;

use clap::ColorChoice;
use serde::Serialize;
use serde_json::json;
use surprisal_engine::loss::information;
use surprisal_engine::model::LanguageModel;
use surprisal_engine::text::{Granularity, InputOptions, TokenText, encode_text};

use crate::align::align;
use crate::cli;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::wording::{many, number, one_line};
use surprisal_engine::Context;
use surprisal_engine::data::note_tokens;
use surprisal_engine::evaluate::{self, Evaluation};
use surprisal_engine::models::{self, LoadedModel, Model};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::sampling::ranking;

/// The explanation of a neural model's loss on the first token.
const STARTS_UNIFORM: &str = "the first token has no context, which this model was never trained on: there every \
                              token is equally likely, as in `eval`";

#[derive(Debug, Clone, Serialize)]
struct ScoredToken {
    token: String,
    /// The token is unknown: the numbers are those of `<unk>`.
    unknown: bool,
    /// Infinite for probability zero; null in JSON.
    nats: f64,
    bits: f64,
    /// The rank of the token by probability, from 1.
    rank: usize,
    likeliest: Vec<Guess>,
}

#[derive(Debug, Clone, Serialize)]
struct Guess {
    token: String,
    probability: f64,
}

struct Explanation {
    name: String,
    kind: String,
    tokens: Vec<ScoredToken>,
    /// The evaluation, as `eval` reports for a file with this text.
    evaluation: Evaluation,
    /// Whether tokens are words, shown with spaces in between.
    words: bool,
    /// Whether the first token has no context, which the model was not trained on.
    starts_uniform: bool,
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
        readings.push(read(&loaded, name, &text, arguments.top, ctx.pool)?);
    }
    if arguments.step.is_some() {
        return Ok(());
    }
    if output.json() {
        for reading in &readings {
            let evaluation = serde_json::to_value(reading.evaluation)?;
            output.event(&json!({
                "event": "explain", "model": reading.name, "kind": reading.kind, "tokens": reading.tokens,
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

/// The text, encoded as for an evaluation of a model.
struct EncodedText {
    tokens: TokenText,
    /// Every scored token as in the text, and whether it is unknown.
    shown: Vec<(String, bool)>,
}

impl EncodedText {
    fn new(loaded: &LoadedModel, text: &str, ctx: &Context<'_>) -> Result<Self> {
        let tokenizer = &loaded.tokenizer;
        let (read, mut unknown) = encode_text(
            "the text",
            text,
            tokenizer,
            &loaded.inputs(InputOptions::default()),
            loaded.reading(),
        )?;
        ctx.notes(&read.notices)?;
        let tokens = read.tokens;
        let scored = (0..).zip(tokens.ids.iter()).filter(|(_, id)| Some(**id) != tokens.bos());
        let shown = scored.map(|(position, &id)| match unknown.remove(&position) {
            Some(word) => (word, true),
            None => (tokenizer.token(id), false),
        });
        Ok(Self { shown: shown.collect(), tokens })
    }

    /// The number of tokens at the start of each sequence that are not scored.
    fn from(&self) -> usize {
        usize::from(self.tokens.bos().is_some())
    }
}

fn label(token: &str, unknown: bool) -> String {
    if unknown { format!("{token} (unknown)") } else { token.to_owned() }
}

fn read(
    loaded: &LoadedModel,
    name: String,
    text: &EncodedText,
    top: usize,
    pool: &Pool,
) -> Result<Explanation> {
    let (model, tokenizer): (&dyn LanguageModel, _) = (&*loaded.model, &loaded.tokenizer);
    let evaluation = loaded.evaluate(&text.tokens, None, pool)?;
    // These are bit-identical to those of the evaluation.
    let log_probs = evaluate::log_probs(model, &text.tokens, pool)?;
    let mut scored = text.shown.iter().zip(&log_probs);
    let mut tokens = Vec::new();
    for ids in text.tokens.sequences() {
        model.for_each_distribution(ids, text.from(), &mut |i, row| {
            let Some(((token, unknown), log_prob)) = scored.next() else { return };
            let guess = |&id: &u32| Guess { token: tokenizer.token(id), probability: row[id as usize].exp() };
            tokens.push(ScoredToken {
                token: token.clone(),
                unknown: *unknown,
                nats: -log_prob,
                bits: information::bits(-log_prob),
                rank: 1 + row.iter().filter(|other| **other > row[ids[i] as usize]).count(),
                likeliest: ranking(row, 0..row.len() as u32).iter().take(top).map(guess).collect(),
            });
        })?;
    }
    let starts_uniform = text.from() == 0 && loaded.model.neural().is_some();
    let words = tokenizer.granularity() == Granularity::Word;
    Ok(Explanation { name, kind: loaded.kind.clone(), tokens, evaluation, words, starts_uniform })
}

impl Explanation {
    fn heading(&self) -> String {
        let evaluation = &self.evaluation;
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
        if self.starts_uniform {
            heading.push_str(&format!("{STARTS_UNIFORM}\n"));
        }
        heading
    }
}

/// The logits at `position` of a sequence, and true; or ln q and false for a model without logits.
fn scores(loaded: &LoadedModel, ids: &[u32], from: usize, position: usize) -> Result<(Vec<f64>, bool)> {
    Ok(match &loaded.model {
        Model::Neural(lm) if position > 0 => {
            (lm.logits(&ids[lm.context(ids.len(), from, position)..position])?, true)
        }
        model => (model.next_log_probs(&ids[..position])?, false),
    })
}

/// A token in quotes, with invisible characters escaped.
fn quoted(token: &str) -> String {
    format!("\"{}\"", token.escape_debug())
}
