//! Generation of text, token by token.

use surprisal_model::LanguageModel;
use surprisal_text::Tokenizer;

use crate::error::{Advice, Error, Result, no_numbers};
use crate::rng::{RngStream, rng_for};
use crate::sampling::{Opening, Sampling};
use crate::wording::many;

/// Draws `tokens` tokens after `opening` and passes the text to `emit` in chunks of whole
/// characters, the opening's first. Stops at the end of a document. Gives the number of tokens
/// drawn.
///
/// # Errors
/// An error of `emit`; predictions that are NaN, or all of probability zero.
pub fn generate(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    opening: &Opening,
    tokens: usize,
    sampling: Sampling,
    seed: u64,
    mut emit: impl FnMut(&str) -> Result<()>,
) -> Result<usize> {
    let mut rng = rng_for(seed, RngStream::Sampling);
    let lines = tokenizer.bos();
    let start: Vec<u32> = lines.into_iter().collect();
    let context = [&start, &opening.before, &opening.first].map(Vec::as_slice).concat();
    let mut session = model.session()?;
    let mut log_probs = session.feed(&context)?;
    if opening.first.is_empty() {
        Opening::choose(tokenizer, &opening.before, &mut log_probs);
    }
    // Decoded from the start of the line, because tokens may be parts of characters or words.
    let mut pending = opening.first.clone();
    let mut shown = String::new();
    for drawn in 0..tokens {
        flush(tokenizer, &pending, &mut shown, false, &mut emit)?;
        let Some(token) = sampling.draw(&log_probs, &mut rng) else {
            if log_probs.iter().any(|log_prob| log_prob.is_nan()) {
                return Err(no_numbers("this model"));
            }
            return Err(Error::failed(format!(
                "after {} every next token has probability zero",
                many(drawn as u64, "token")
            ))
            .hint(Advice::OtherStart));
        };
        if Some(token) == tokenizer.eos() {
            if lines.is_none() {
                flush(tokenizer, &pending, &mut shown, true, &mut emit)?;
                return Ok(drawn + 1);
            }
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

/// Emits the new text since the last call, but for an incomplete last character unless `end`.
fn flush(
    tokenizer: &Tokenizer,
    pending: &[u32],
    shown: &mut String,
    end: bool,
    emit: &mut impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let text = tokenizer.decode(pending);
    let whole = if end { text.as_str() } else { text.trim_end_matches('\u{FFFD}') };
    if let Some(fresh) = whole.strip_prefix(shown.as_str())
        && !fresh.is_empty()
    {
        emit(fresh)?;
        *shown = whole.to_owned();
    }
    Ok(())
}
