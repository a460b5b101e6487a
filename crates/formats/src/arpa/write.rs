//! Writes ARPA files: order by order, the lines of an order in parallel chunks that are written in
//! sequence.

use std::{
    ops::Range,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rayon::prelude::*;
use surprisal_model::ngram::{BackoffScheme, Estimate, Probabilities};
use surprisal_text::{Granularity, TextMode, Tokenizer};

use super::{LOG_ZERO, SCORES_DECLARATION, TOKENIZER_PREFIX, declaration};
use crate::file::FileWriter;
use crate::ordered_writer::OrderedWriter;
use crate::token_strings::{Context, NgramTree, StringTable, TextBuffer};
use crate::{Error, Result};

/// The result of writing a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The size of the file in bytes.
    pub bytes: u64,
    /// Notes about content that this or other programs cannot read or misinterpret.
    pub notices: Vec<String>,
}

/// Writes the file `path`, replacing an old one.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), then the old file is unchanged; [`Error::Unsupported`] for a
/// model that is not a back-off model: add-k from order 2, whose unseen words all have the same
/// probability; stupid backoff from order 3, which multiplies by 0.4 after an unseen context.
pub fn write(path: impl AsRef<Path>, estimate: &Estimate, tokenizer: &Tokenizer) -> Result<Written> {
    if tokenizer.vocab_size() != estimate.vocab_size as usize {
        let (tokens, words) = (estimate.vocab_size, tokenizer.vocab_size());
        let problem = format!("the model has {tokens} tokens, but the tokenizer has {words}");
        return Err(Error::malformed("the model", &problem));
    }
    let order = estimate.tables.len();
    let mut writer = FileWriter::create(path)?;
    supported(estimate.scheme, estimate.unseen_context_factor, order)?;
    let mut out = OrderedWriter::new(|bytes: &[u8]| writer.put(bytes));
    let grams = estimate.tables.iter().map(|table| table.value_ids.len() as u64);
    out.put(head(tokenizer, estimate.unseen_context_factor, grams)?.as_bytes())?;
    let zeros = levels(estimate, &StringTable::from_tokenizer(tokenizer), &mut out)?;
    out.put(END)?;
    let notices = notices(tokenizer, estimate.unseen_context_factor, zeros);
    Ok(Written { bytes: writer.commit()?, notices })
}

/// The end of a file.
pub(super) const END: &[u8] = b"\n\\end\\\n";

/// The lines before the sections of the orders, with the numbers of n-grams.
pub(super) fn head(
    tokenizer: &Tokenizer,
    unseen_context_factor: f64,
    grams: impl Iterator<Item = u64>,
) -> Result<String> {
    let kind = tokenizer.kind();
    let declared = declaration(kind, tokenizer.mode());
    let mut header = declared.as_ref().map_or_else(String::new, |line| format!("{line}\n"));
    if kind.granularity() == Granularity::Subword {
        let json = tokenizer.to_json()?;
        // JSON has line breaks only between its values.
        header +=
            &format!("{TOKENIZER_PREFIX}{}\n", String::from_utf8_lossy(&json).replace(['\n', '\r'], " "));
    }
    if declared.is_some() {
        header.push('\n');
    }
    if unseen_context_factor != 1.0 {
        header += &format!("{SCORES_DECLARATION}\n\n");
    }
    header += "\\data\\\n";
    for (order, grams) in (1..).zip(grams) {
        header += &format!("ngram {order}={grams}\n");
    }
    Ok(header)
}

/// Notes about content that this or other programs cannot read or misinterpret.
pub(super) fn notices(tokenizer: &Tokenizer, unseen_context_factor: f64, zeros: bool) -> Vec<String> {
    let (kind, unit) = (tokenizer.kind(), tokenizer.mode());
    let declared = declaration(kind, unit);
    let mut notices = Vec::new();
    if declared.is_some() {
        let of = match unit {
            TextMode::Stream => "a stream",
            TextMode::Line => "lines",
            TextMode::Document => "documents",
        };
        let but = match unit {
            TextMode::Stream | TextMode::Document => {
                "KenLM refuses it because <s> is missing, and other programs take the tokens for words"
            }
            TextMode::Line => "other programs take them for words",
        };
        notices.push(format!(
            "the tokens are {kind} tokens of {of}, not words in sentences, as the first line says; {but}"
        ));
    }
    if unseen_context_factor != 1.0 {
        let notice = "scores of stupid backoff do not sum to one, as the file says; other programs take them for probabilities";
        notices.push(notice.into());
    }
    if zeros {
        let notice =
            "probabilities and weights of zero are written as -inf; KenLM refuses a file with such weights";
        notices.push(notice.into());
    }
    if declared.is_none() && tokenizer.words().is_some_and(|mut words| words.any(|word| word == "<UNK>")) {
        notices.push("the file has the word <UNK> besides <unk>; KenLM does not distinguish them".into());
    }
    notices
}

/// Refuses models that are not back-off models.
pub(super) fn supported(scheme: BackoffScheme, unseen_context_factor: f64, order: usize) -> Result<()> {
    let problem = if scheme == BackoffScheme::LongestOnly && order > 1 {
        "an add-k model does not back off: it gives all unseen words the same probability"
    } else if unseen_context_factor != 1.0 && order > 2 {
        "stupid backoff multiplies by a factor after an unseen context"
    } else {
        return Ok(());
    };
    let hint = "choose another smoothing, or the .ngram format, which supports every model";
    Err(Error::Unsupported { what: "an ARPA file", problem: problem.into(), hint })
}

/// Writes the section of every order; returns whether a probability or weight is zero.
fn levels(
    estimate: &Estimate,
    words: &StringTable,
    out: &mut OrderedWriter<impl FnMut(&[u8]) -> Result<()> + Send>,
) -> Result<bool> {
    let zeros = AtomicBool::new(
        estimate.tables.iter().any(|table| table.distinct_weights.iter().any(|w| w.backoff <= 0.0)),
    );
    let tree = NgramTree {
        words: estimate.tables.iter().map(|table| table.words.as_slice()).collect(),
        child_offsets: estimate.tables.iter().map(|table| table.child_offsets.as_slice()).collect(),
        strings: words,
    };
    let mut lower: Vec<f64> = Vec::new();
    for (len, table) in estimate.tables.iter().enumerate() {
        let weights = StringTable::new(table.distinct_weights.len(), |weight| {
            let mut text = TextBuffer::default();
            push_log10(table.distinct_weights[weight as usize].backoff, &mut text);
            text.as_bytes().to_vec()
        });
        let probabilities = estimate.level(len, &lower);
        // The next order needs these probabilities.
        let above = if len + 1 < estimate.tables.len() { table.value_ids.len() } else { 0 };
        let kept: Vec<AtomicU64> = (0..above).into_par_iter().map(|_| AtomicU64::new(0)).collect();
        let level =
            LevelWriter { estimate, tree: &tree, len, probabilities, weights, kept: &kept, zeros: &zeros };
        out.put(format!("\n\\{}-grams:\n", len + 1).as_bytes())?;
        out.put_parallel(table.value_ids.len(), |grams, text| level.text(grams, text))?;
        lower = kept.into_iter().map(|bits| f64::from_bits(bits.into_inner())).collect();
    }
    Ok(zeros.into_inner())
}

struct LevelWriter<'a> {
    estimate: &'a Estimate,
    tree: &'a NgramTree<'a>,
    /// The number of words of a context.
    len: usize,
    probabilities: Probabilities<'a>,
    weights: StringTable,
    /// The bits of the probabilities, if the next order needs them.
    kept: &'a [AtomicU64],
    /// Set if a probability is zero.
    zeros: &'a AtomicBool,
}

impl LevelWriter<'_> {
    /// Appends the lines of the n-grams `grams`.
    fn text(&self, grams: Range<usize>, text: &mut TextBuffer) {
        let contexts = &self.estimate.tables[self.len].weight_ids;
        let mut context = Context::new(self.tree, self.len, grams.start);
        for gram in grams {
            context.advance(self.tree, gram);
            let probability = self.probabilities.probability(context.node(), gram);
            if let Some(kept) = self.kept.get(gram) {
                kept.store(probability.to_bits(), Ordering::Relaxed);
            }
            if self.len == 0 && Some(gram as u32) == self.estimate.bos {
                text.push(b'0');
            } else {
                if probability <= 0.0 {
                    self.zeros.store(true, Ordering::Relaxed);
                }
                push_log10(probability, text);
            }
            text.push(b'\t');
            context.put(self.tree, gram, text);
            if let Some(&weight) = contexts.get(gram) {
                text.end_in(b'\t');
                self.weights.put(weight, text);
            }
            text.end_in(b'\n');
        }
    }
}

/// Appends log10 of a probability or a weight.
#[inline]
pub(super) fn push_log10(x: f64, text: &mut TextBuffer) {
    if x <= 0.0 {
        text.extend(LOG_ZERO.as_bytes());
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let decimal = buffer.format_finite(log10(x));
    text.extend(decimal.strip_suffix(".0").unwrap_or(decimal).as_bytes());
}

/// log10 of a probability or a weight above zero as a 32-bit float; values near 0 are rounded as
/// the module describes.
#[inline]
pub(crate) fn log10(x: f64) -> f32 {
    const NEAR: f64 = 1.0 / (1 << 20) as f64;
    const GRID: f64 = (1_u64 << 44) as f64;
    let log = x.ln() * std::f64::consts::LOG10_E;
    let log = if log.abs() < NEAR { (log * GRID).round() / GRID } else { log };
    // Adding 0 makes -0 a 0.
    log as f32 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(x: f64) -> String {
        let mut text = TextBuffer::default();
        push_log10(x, &mut text);
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn logarithms_are_short_and_come_back() {
        for (x, written) in [
            (1.0, "0"),
            (0.1, "-1"),
            (0.5, "-0.30103"),
            (0.0, "-inf"),
            (1e-100, "-100"),
            (2.0, "0.30103"),
            (1.0 - f64::EPSILON, "0"),
        ] {
            assert_eq!(decimal(x), written);
        }
        // Computed as the reader does.
        let again = |text: &str| decimal(10_f64.powf(f64::from(text.parse::<f32>().unwrap())));
        let mut x = 0.999_999_999_9_f64;
        while x > 1e-60 {
            for x in [x, 1.0 - x.min(0.5) * 1e-6, 1.0 + x] {
                let text = decimal(x);
                assert_eq!(again(&text), text, "{x}");
            }
            x *= 0.9973;
        }
    }
}
