//! Guess the next letter: a student's guesses beside the models', all by the same number.

use serde_json::{Value, json};
use surprisal_engine::loss::information::bits;
use surprisal_engine::text::TokenizerKind;

use crate::app::{App, Ask};
use crate::bigrams::name;
use crate::problem::{Problem, Result};

/// Guesses of a game.
const MOST: usize = 200;
/// Letters of the context that are shown, and that models see.
const SHOWN: usize = 160;
const SEEN: usize = 400;
/// Models beside the student.
const MOST_MODELS: usize = 4;

/// A game from letter `from` of the validation text on. A guess is a letter with the probability
/// that the student gives it; the other letters share the rest, so that the student, too, has a
/// distribution and a cross-entropy.
pub(crate) fn game(app: &App, ask: &Ask) -> Result<Value> {
    let id = app.text_id(ask);
    let text = app.text(&id)?;
    let (tokenizer, ids) = (&text.data.tokenizer, &text.data.val.ids);
    let guesses: Vec<(String, f64)> = serde_json::from_str(ask.query.text("guesses", "[]"))
        .map_err(|error| Problem::bad(format!("guesses are pairs of a letter and a probability: {error}")))?;
    if guesses.len() > MOST {
        return Err(Problem::bad(format!("a game has at most {MOST} guesses")));
    }
    let last = ids.len().saturating_sub(guesses.len() + 1);
    let from = ask.query.whole("from", SHOWN.min(last), 0..=last)?;
    let vocab_size = tokenizer.vocab_size();
    let names: Vec<&str> = ask.query.text("models", "bigram,5gram").split(',').take(MOST_MODELS).collect();
    let models = names.iter().map(|id_of| app.model(id_of, &id)).collect::<Result<Vec<_>>>()?;
    if let Some(other) = models
        .iter()
        .find(|model| model.tokenizer.kind() != TokenizerKind::Char || model.model.vocab_size() != vocab_size)
    {
        let kind = &other.kind;
        return Err(Problem::bad(format!("a model of kind {kind} has other letters than this text")));
    }
    let letter = |id: u32| name(tokenizer, id);
    // No letter of the text is unknown.
    let letters: Vec<u32> = (0..vocab_size as u32).filter(|id| Some(*id) != tokenizer.unk()).collect();
    let (mut rounds, mut sums) = (Vec::new(), vec![0.0; models.len() + 1]);
    for (at, (guess, confidence)) in (from..).zip(&guesses) {
        if !(confidence.is_finite() && *confidence > 0.0 && *confidence < 1.0) {
            return Err(Problem::bad(format!("a probability is above 0 and below 1, not {confidence}")));
        }
        let guessed = letters.iter().copied().find(|&id| letter(id) == *guess);
        let guessed = guessed.ok_or_else(|| Problem::bad(format!("{guess:?} is no letter of this text")))?;
        let truth = ids[at];
        let rest = (1.0 - confidence) / (letters.len() - 1).max(1) as f64;
        let own = -(if guessed == truth { *confidence } else { rest }).ln();
        sums[0] += own;
        let mut of_models = Vec::new();
        for (model, sum) in models.iter().zip(&mut sums[1..]) {
            let row = model.model.next_log_probs(&ids[at.saturating_sub(SEEN)..at])?;
            let (of_truth, of_guess) = (-row[truth as usize], -row[guessed as usize]);
            *sum += of_truth;
            of_models.push(json!({ "truth": of_truth, "guess": of_guess, "truth_bits": bits(of_truth) }));
        }
        rounds.push(json!({
            "guess": guess, "confidence": confidence, "truth": letter(truth), "nats": own, "bits": bits(own),
            "models": of_models,
        }));
    }
    let at = from + guesses.len();
    let n = guesses.len().max(1) as f64;
    let means: Vec<f64> = sums.iter().map(|sum| sum / n).collect();
    Ok(json!({
        "context": tokenizer.decode(&ids[at.saturating_sub(SHOWN)..at]), "from": from, "last": last,
        "letters": letters.iter().map(|&id| letter(id)).collect::<Vec<_>>(), "models": names,
        "rounds": rounds, "means": means, "uniform": (letters.len() as f64).ln(),
    }))
}
