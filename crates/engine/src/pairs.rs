//! Minimal pairs: which of two texts that differ in one point a model finds likelier (BLiMP,
//! Warstadt et al. 2020).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use surprisal_text::{InputOptions, encode_text};

use crate::error::{Error, Result};
use crate::events::Context;
use crate::models::LoadedModel;
use crate::score;
use crate::spelling::Speller;

/// Pairs of a task at a time.
const PAIRS_PER_TASK: usize = 64;

/// A text that should be likelier, and one that should not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The text that should be likelier.
    pub good: String,
    /// The other.
    pub bad: String,
    /// The name of its group.
    pub group: Option<String>,
}

/// The share of pairs that a model judges right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupResult {
    /// The group; `None` for all pairs.
    pub group: Option<String>,
    /// The number of pairs.
    pub pairs: u64,
    /// The share whose good text is likelier; a tie is half right.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson 1927).
    pub interval: (f64, f64),
    /// Pairs whose texts are equally likely.
    pub ties: u64,
    /// The mean of ln q(good) − ln q(bad) in nats; infinite where one is impossible.
    pub nats: f64,
}

/// The pairs in the lines of `text`, the content of the file `name`: the good text, a tab, the bad
/// one, and optionally a tab and a group.
///
/// # Errors
/// The first line that is not so; a text without pairs.
pub fn parse(name: &str, text: &str) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for (line, row) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        if row.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = row.split('\t').collect();
        let (good, bad, group) = match fields[..] {
            [good, bad] => (good, bad, None),
            [good, bad, group] => (good, bad, Some(group.to_owned())),
            _ => {
                return Err(Error::usage(format!(
                    "{name}, line {line}: {} where a pair has 2 or 3",
                    crate::wording::many(fields.len() as u64, "field")
                ))
                .hint("a line is: good text, tab, bad text, and if wanted a tab and a group"));
            }
        };
        if good.trim().is_empty() || bad.trim().is_empty() {
            return Err(Error::usage(format!("{name}, line {line}: one of the two texts is empty")));
        }
        pairs.push(Pair { good: good.to_owned(), bad: bad.to_owned(), group });
    }
    if pairs.is_empty() {
        return Err(Error::usage(format!("{name} has no pairs")));
    }
    Ok(pairs)
}

/// The pairs of the file at `path`, which may be compressed, in UTF-16, or `-`.
///
/// # Errors
/// A file that cannot be read; as [`parse`].
pub fn read(path: &Path) -> Result<Vec<Pair>> {
    let cannot = |reason| Error::failed(format!("cannot read {}: {reason}", path.display()));
    let mut bytes = Vec::new();
    match surprisal_text::open_converted(path)? {
        Some(mut reader) => std::io::Read::read_to_end(&mut reader, &mut bytes).map(drop).map_err(cannot)?,
        None => bytes = std::fs::read(path).map_err(cannot)?,
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::usage(format!("{}: {}", path.display(), error.utf8_error())))?;
    parse(&path.display().to_string(), &text)
}

/// The accuracies of the groups by name, and that of all pairs last.
///
/// A text is scored as a line of its own: between `<s>` and `</s>`, or for models without them
/// between newlines, if the model knows newlines. Its surprisal is the sum over all its tokens,
/// with the cost of spelling unknown words.
///
/// # Errors
/// A model that is not a distribution; a failure of the model.
pub fn judge(loaded: &LoadedModel, pairs: &[Pair], ctx: &Context<'_>) -> Result<Vec<GroupResult>> {
    if !loaded.model.is_distribution() {
        return Err(Error::usage(
            "the scores of this model are not a distribution, so its texts do not compare",
        ));
    }
    let texts: Vec<&str> = pairs.iter().flat_map(|pair| [pair.good.as_str(), pair.bad.as_str()]).collect();
    let nats = surprisals(loaded, &texts, ctx)?;
    let mut groups: BTreeMap<Option<&str>, Vec<f64>> = BTreeMap::new();
    let mut all = Vec::new();
    for (pair, nats) in pairs.iter().zip(nats.chunks_exact(2)) {
        // Two impossible texts are a tie.
        let gain = if nats[0] == nats[1] { 0.0 } else { nats[1] - nats[0] };
        all.push(gain);
        if let Some(group) = &pair.group {
            groups.entry(Some(group)).or_default().push(gain);
        }
    }
    groups
        .into_iter()
        .map(|(group, gains)| Ok(accuracy(group, &gains)))
        .chain([Ok(accuracy(None, &all))])
        .collect()
}

/// −ln q of each of `texts`, in nats.
fn surprisals(loaded: &LoadedModel, texts: &[&str], ctx: &Context<'_>) -> Result<Vec<f64>> {
    let tokenizer = &loaded.tokenizer;
    let context = score::newline(tokenizer)?;
    let inputs = loaded.inputs(InputOptions::default());
    let mut speller = None;
    let mut sequences = Vec::new();
    let mut spelling = vec![0.0; texts.len()];
    for (text, cost) in texts.iter().zip(&mut spelling) {
        let line = if context.is_empty() { (*text).to_owned() } else { format!("{text}\n") };
        let (encoded, unknown) = encode_text("a pair", &line, tokenizer, &inputs, loaded.reading())?;
        for word in unknown.values() {
            if speller.is_none() {
                speller = Some(Speller::new(tokenizer, ctx.pool)?);
            }
            if let Some(Some(speller)) = &speller {
                *cost += speller.nats(word)?;
            }
        }
        sequences.push([context.as_slice(), &encoded.tokens.ids].concat());
    }
    let from = context.len() + usize::from(tokenizer.bos().is_some());
    let tasks = texts.len().div_ceil(PAIRS_PER_TASK);
    let parts = ctx.pool.map(tasks, |task| {
        let own = &sequences[task * PAIRS_PER_TASK..sequences.len().min((task + 1) * PAIRS_PER_TASK)];
        let batch: Vec<&[u32]> = own.iter().map(Vec::as_slice).collect();
        let mut sums = vec![0.0; own.len()];
        loaded
            .model
            .each_log_probs(&batch, from, &mut |i, log_probs| sums[i] = -log_probs.iter().sum::<f64>())
            .map(|()| sums)
    });
    let parts: std::result::Result<Vec<Vec<f64>>, _> = parts.into_iter().collect();
    Ok(parts?.concat().iter().zip(&spelling).map(|(nats, cost)| nats + cost).collect())
}

fn accuracy(group: Option<&str>, gains: &[f64]) -> GroupResult {
    let ties = gains.iter().filter(|&&gain| gain == 0.0).count();
    let right = gains.iter().filter(|&&gain| gain > 0.0).count() as f64 + ties as f64 / 2.0;
    let n = gains.len() as f64;
    GroupResult {
        group: group.map(str::to_owned),
        pairs: gains.len() as u64,
        accuracy: right / n,
        interval: wilson(right, n),
        ties: ties as u64,
        nats: gains.iter().sum::<f64>() / n,
    }
}

/// The 95 % interval of a share of which `right` of `n` were observed (Wilson 1927).
fn wilson(right: f64, n: f64) -> (f64, f64) {
    let (z, share) = (1.959_963_984_540_054_f64, right / n);
    let scale = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_pairs_with_groups_or_an_error_with_the_line() {
        let pair = |good: &str, bad: &str, group: Option<&str>| Pair {
            good: good.into(),
            bad: bad.into(),
            group: group.map(str::to_owned),
        };
        let found = parse("p.tsv", "\u{feff}a b\ta c\n\nd\te\tg h\r\n").unwrap();
        assert_eq!(found, [pair("a b", "a c", None), pair("d", "e", Some("g h"))]);
        for (text, said) in [("a b\n", "line 1: 1 field"), ("a\tb\nc\t \n", "line 2"), ("\n", "no pairs")] {
            let error = parse("p.tsv", text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn an_interval_of_a_share_is_wilsons() {
        // Newcombe (1998), table I: 81 of 263, and 0 of 20.
        let (low, high) = wilson(81.0, 263.0);
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        let (low, high) = wilson(0.0, 20.0);
        assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5, "{high}");
        let found = accuracy(Some("g"), &[1.0, -2.0, 0.0, f64::INFINITY]);
        assert_eq!((found.pairs, found.accuracy, found.ties), (4, 0.625, 1));
    }
}
