//! New text from a model, token by token.

use surprisal_model::LanguageModel;
use surprisal_text::Tokenizer;

use crate::error::{Advice, Error, Result, no_numbers};
use crate::sampling::{Opening, Sampling};
use crate::streams::{Purpose, stream};
use crate::wording::many;

/// Draws `tokens` tokens after `opening` and hands each piece of text to `emit` as soon as it is whole characters.
/// Returns how many were drawn. What of the opening is to be shown is emitted first.
///
/// # Errors
/// `emit`'s; a model that gives no numbers, or holds every next token impossible.
pub fn write(
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
                return Err(no_numbers("this model"));
            }
            return Err(Error::failed(format!(
                "after {} the model holds every next token impossible",
                many(drawn as u64, "token")
            ))
            .hint(Advice::OtherStart));
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

/// Emits what has become readable since the last call. A character whose bytes are not all there yet waits, unless
/// this is the end.
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
