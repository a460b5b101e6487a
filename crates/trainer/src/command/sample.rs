//! `surprisal sample`: new text, token by token, as it is drawn.

use surprisal_model::LanguageModel;
use surprisal_text::Tokenizer;

use crate::cli;
use crate::failure::{Failure, Result};
use crate::models;
use crate::output::{Output, many};
use crate::sampling::{Opening, Sampling};
use crate::streams::{Purpose, stream};

/// Runs the command.
pub(crate) fn run(arguments: &cli::Sample, output: &Output) -> Result<()> {
    let cli::Sample { temperature, top_k, top_p, seed, .. } = *arguments;
    let sampling = Sampling::new(temperature, top_k, top_p)?;
    let of_chance = [("top-k", top_k.is_some()), ("top-p", top_p.is_some()), ("seed", seed.is_some())];
    if let Some((flag, _)) = of_chance.iter().find(|(_, given)| *given && temperature == 0.0) {
        let message = format!("--temperature 0 always takes the most likely token: --{flag} changes nothing");
        return Err(Failure::usage(message).hint("leave it away, or take a temperature above 0"));
    }
    let seed = seed.unwrap_or(1);
    let loaded = models::load(&arguments.model, output)?;
    let opening = match arguments.prompt.as_str() {
        "" => loaded.opening()?,
        prompt => Opening::prompt(&loaded.tokenizer, prompt, arguments.allow_unknown)?,
    };
    let started = std::time::Instant::now();
    let mut text = String::new();
    let drawn =
        write(&*loaded.model, &loaded.tokenizer, &opening, arguments.tokens, sampling, seed, |piece| {
            text.push_str(piece);
            if output.json() { Ok(()) } else { output.written(piece) }
        })?;
    if output.json() {
        return output.event(&serde_json::json!({
            "event": "sample", "prompt": arguments.prompt, "text": text, "tokens": drawn, "seed": seed,
            "temperature": temperature, "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    if text.ends_with('\n') { Ok(()) } else { output.data("\n") }
}

/// Draws `tokens` tokens after `opening` and hands each piece of text to `emit` as soon as it is whole characters.
/// Returns how many were drawn. What of the opening is to be shown is emitted first.
pub(crate) fn write(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    opening: &Opening,
    tokens: usize,
    sampling: Sampling,
    seed: u64,
    mut emit: impl FnMut(&str) -> Result<()>,
) -> Result<usize> {
    let mut rng = stream(seed, Purpose::Sampling);
    let lines = tokenizer.bos();
    let start: Vec<u32> = lines.into_iter().collect();
    let context = [&start, &opening.before, &opening.first].map(Vec::as_slice).concat();
    let mut session = model.session()?;
    let mut log_probs = session.feed(&context)?;
    if opening.first.is_empty() {
        Opening::choose(tokenizer, &opening.before, &mut log_probs);
    }
    // Decoded afresh from the last line start, so that tokens which are parts of characters or words come out whole.
    let mut pending = opening.first.clone();
    let mut shown = String::new();
    for drawn in 0..tokens {
        flush(tokenizer, &pending, &mut shown, false, &mut emit)?;
        let Some(token) = sampling.draw(&log_probs, &mut rng) else {
            if log_probs.iter().any(|log_prob| log_prob.is_nan()) {
                return Err(crate::evaluate::no_numbers("this model"));
            }
            return Err(Failure::failed(format!(
                "after {} the model holds every next token impossible",
                many(drawn as u64, "token")
            ))
            .hint("smooth its counts (add_k), or try another --prompt or --seed"));
        };
        if lines.is_some() && Some(token) == tokenizer.eos() {
            flush(tokenizer, &pending, &mut shown, true, &mut emit)?;
            emit("\n")?;
            pending.clear();
            shown.clear();
            session = model.session()?;
            log_probs = session.feed(&start)?;
        } else {
            pending.push(token);
            if drawn + 1 < tokens {
                log_probs = session.feed(&[token])?;
            }
        }
    }
    flush(tokenizer, &pending, &mut shown, true, &mut emit)?;
    Ok(tokens)
}

/// A little of what `model` writes after `step` steps.
pub(crate) fn of_the_moment(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    opening: &Opening,
    step: u64,
) -> Result<String> {
    const TOKENS: usize = 160;
    let mut text = String::new();
    let sampling = Sampling::new(0.8, None, None)?;
    let emit = |piece: &str| {
        text.push_str(piece);
        Ok(())
    };
    write(model, tokenizer, opening, TOKENS, sampling, step, emit)?;
    Ok(text)
}

/// Emits what has become readable since the last call. A character whose bytes are not all there yet waits, unless
/// this is the end.
fn flush(
    tokenizer: &Tokenizer,
    pending: &[u32],
    shown: &mut String,
    end: bool,
    emit: &mut impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let text = tokenizer.decode(pending)?;
    let whole = if end { text.as_str() } else { text.trim_end_matches('\u{FFFD}') };
    if let Some(fresh) = whole.strip_prefix(shown.as_str())
        && !fresh.is_empty()
    {
        emit(fresh)?;
        *shown = whole.to_owned();
    }
    Ok(())
}
