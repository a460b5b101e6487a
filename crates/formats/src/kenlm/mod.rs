//! KenLM's binary files (Heafield 2011, "KenLM: Faster and Smaller Language Model Queries"), read
//! through a memory map: format version 5 of <https://github.com/kpu/kenlm>, all six structures.
//!
//! ```text
//! magic and test values: 88 bytes   parameters: 20   n-grams per order: 8 each, padded to 8 bytes
//! vocabulary: hashes of words       tables: 1-grams, 2-grams, …       words, each before a zero
//! ```
//!
//! Numbers are little-endian, logarithms are log10 as 32-bit floats. N-grams are looked up from
//! their last word back: probing tables have a hash of the n-gram, a trie has a path. A hash does
//! not say of which words it is, so n-grams of such a file cannot be listed.
//!
//! Opening reads the words and checks every length against the size of the file. Damage in tables
//! cannot be noticed before it is used: then look-ups stay within their table, and a score that is
//! no number is an error.

mod header;
mod probing;
mod score;
mod trie;
mod vocabulary;
mod write;

pub use crate::kenlm_problem::Problem;
pub use header::{Structure, has_magic};
pub use write::{to_bytes, write};

use std::path::Path;

use rayon::prelude::*;
use surprisal_model::ngram::packed::Bytes;
use surprisal_model::{
    ContextBin, Error as ModelError, LanguageModel, Result as ModelResult, Visit, check_tokens,
};
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

use crate::{Error, Result, file};
use header::Header;
pub use score::State;
use score::{Score, Scored};

/// The name in errors if the bytes do not come from a file.
const WHAT: &str = "the KenLM binary";
/// log10 q(`<unk>`) if the ARPA file had none.
const LOG_UNKNOWN: f32 = -100.0;
/// The id of `<unk>` in every file.
const UNK: u32 = 0;
/// Words per task of a distribution.
const WORDS_PER_TASK: usize = 1 << 12;
/// Words whose n-grams are prefetched together.
const PREFETCHED: usize = 8;

/// The back-off model of a KenLM binary.
///
/// Its scores are KenLM's, also of log10 −99, which is no zero here as it is in an ARPA file. Where
/// an n-gram of the ARPA file has a suffix that the file lacks, the binary has that suffix as well.
pub struct Kenlm {
    structure: Structure,
    counts: Vec<u64>,
    /// The id in the file of each token; the first tokens are `<unk>`, `<s>` and `</s>`.
    ids: Vec<u32>,
    tables: Tables,
    notices: Vec<String>,
    bytes: Bytes,
}

enum Tables {
    Probing(probing::Tables),
    Trie(trie::Tables),
}

/// Memory-maps the file `path`.
///
/// # Errors
/// [`Error::Kenlm`] with the [`Problem`]; [`Io`](surprisal_store::Error::Io).
pub fn open(path: impl AsRef<Path>) -> Result<(Kenlm, Tokenizer)> {
    let path = path.as_ref();
    from_bytes(file::read(path)?).map_err(|error| error.in_file(path))
}

/// The model in the bytes of a file, which are shared, not copied, and its word tokenizer in line
/// mode: `<unk>`, `<s>`, `</s>`, then the other words in the order of the file.
///
/// # Errors
/// As [`open`].
pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<(Kenlm, Tokenizer)> {
    read(bytes.into())
}

fn read(bytes: Bytes) -> Result<(Kenlm, Tokenizer)> {
    let failed = |problem| Error::Kenlm { what: WHAT.into(), problem };
    let header = Header::parse(bytes.as_slice()).map_err(failed)?;
    let mut sections = Sections { bytes: &bytes, at: header.len };
    let (hashes, tables) = match header.structure.trie() {
        None => {
            let hashes = vocabulary::Hashes::table(&mut sections, &header).map_err(failed)?;
            (hashes, probing::Tables::new(&mut sections, &header).map(Tables::Probing))
        }
        Some(kind) => {
            let hashes = vocabulary::Hashes::sorted(&mut sections, &header).map_err(failed)?;
            (hashes, trie::Tables::new(&mut sections, &header, kind).map(Tables::Trie))
        }
    };
    let tables = tables.map_err(failed)?;
    if !header.has_words {
        return Err(failed(Problem::NoWords));
    }
    let words = bytes.slice(sections.at..usize::MAX);
    let words = hashes.words(words.as_slice()).map_err(failed)?;
    let vocabulary::Numbered { tokens, ids, has_bos } = vocabulary::number(&words).map_err(failed)?;
    let tokenizer = Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, tokens)?;
    let mut model =
        Kenlm { structure: header.structure, counts: header.counts, ids, tables, notices: Vec::new(), bytes };
    if model.view().unigram(UNK).0 <= LOG_UNKNOWN {
        model.notices.push(format!("the file has no <unk>: unknown words get log10 q = {LOG_UNKNOWN}"));
    }
    if !has_bos {
        model.notices.push("the file has no <s>: sentences begin without a context".into());
    }
    Ok((model, tokenizer))
}

/// The parts of a file, one after another.
struct Sections<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Sections<'_> {
    /// The next `len` bytes; no length is one above any file's.
    fn take(&mut self, len: Option<u64>) -> Result<Bytes, Problem> {
        let file = self.bytes.as_slice().len();
        let end = len.and_then(|len| usize::try_from(len).ok()?.checked_add(self.at));
        let Some(end) = end.filter(|&end| end <= file) else {
            return Err(Problem::TooShort { needed: end.unwrap_or(usize::MAX), len: file });
        };
        let section = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(section)
    }
}

/// `N` bytes from `at`; zeros past the end.
#[inline]
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// The float at `at`; zero past the end.
#[inline]
fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(bytes_at(bytes, at))
}

impl Kenlm {
    /// The data structure of the file.
    pub fn structure(&self) -> Structure {
        self.structure
    }

    /// The number of n-grams of each order, as the file's header has it.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The bytes of the file, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Notices about what the file lacks.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Whether n-grams begin with `<unk>`.
    pub fn has_unk_as_context(&self) -> bool {
        let (log10_prob, log10_backoff) = self.view().unigram(UNK);
        log10_prob > LOG_UNKNOWN && score::is_context(log10_backoff)
    }

    fn view(&self) -> Box<dyn Score + '_> {
        match &self.tables {
            Tables::Probing(tables) => Box::new(tables.view()),
            Tables::Trie(tables) => Box::new(tables.view()),
        }
    }

    /// log10 q of a token after `state`, and the state after it.
    #[inline]
    fn score(&self, view: &dyn Score, state: &State, token: u32) -> (Scored, State) {
        match self.ids.get(token as usize).copied() {
            // A sentence begins: the context before it is dropped.
            Some(word) if token == vocabulary::BOS => {
                let begun = if word == vocabulary::ABSENT { State::EMPTY } else { view.begun(word) };
                (Scored { log10: f64::NEG_INFINITY, log10_f32: f32::NEG_INFINITY, matched: 1 }, begun)
            }
            word => view.score(state, word.unwrap_or(UNK)),
        }
    }

    fn state_after(&self, view: &dyn Score, context: &[u32]) -> State {
        let used = &context[context.len() - context.len().min(self.counts.len() - 1)..];
        used.iter().fold(State::EMPTY, |state, &token| self.score(view, &state, token).1)
    }

    /// Scores `tokens[from..]`.
    fn each(
        &self,
        view: &dyn Score,
        tokens: &[u32],
        from: usize,
        mut add: impl FnMut(Scored) -> ModelResult<()>,
    ) -> ModelResult<()> {
        check_tokens(tokens, self.vocab_size())?;
        let out = ModelError::FromOutOfRange { from, len: tokens.len() };
        let (context, scored) = tokens.split_at_checked(from).ok_or(out)?;
        let mut state = self.state_after(view, context);
        for tokens in scored.chunks(PREFETCHED) {
            prefetch(view, &self.ids, &state, tokens);
            for &token in tokens {
                let (scored, next) = self.score(view, &state, token);
                add(scored)?;
                state = next;
            }
        }
        Ok(())
    }

    fn log_probs_with(&self, view: &dyn Score, tokens: &[u32], from: usize) -> ModelResult<Vec<f64>> {
        let mut log_probs = Vec::with_capacity(tokens.len().saturating_sub(from));
        self.each(view, tokens, from, |scored| {
            log_probs.push(nats(scored)?);
            Ok(())
        })?;
        Ok(log_probs)
    }
}

/// Prefetches what the scores of at most [`PREFETCHED`] `tokens` after `state` need.
fn prefetch(view: &dyn Score, ids: &[u32], state: &State, tokens: &[u32]) {
    let mut words = [UNK; PREFETCHED];
    for (word, &token) in words.iter_mut().zip(tokens) {
        *word = ids.get(token as usize).copied().unwrap_or(UNK);
    }
    view.prefetch(state, &words[..tokens.len()]);
}

/// Queries word by word, with KenLM's numbers to the bit.
pub struct Query<'a> {
    ids: &'a [u32],
    view: Box<dyn Score + 'a>,
}

impl Kenlm {
    /// Queries of this model.
    pub fn query(&self) -> Query<'_> {
        Query { ids: &self.ids, view: self.view() }
    }
}

impl Query<'_> {
    /// The state at the beginning of a sentence.
    pub fn begun(&self) -> State {
        match self.ids[vocabulary::BOS as usize] {
            vocabulary::ABSENT => State::EMPTY,
            word => self.view.begun(word),
        }
    }

    /// Visits log10 q of each of `tokens` after `state`, summed in 32 bits, and the length of the
    /// longest n-gram that it ends; `state` becomes that after them. `<s>` is a word like any other
    /// here.
    pub fn each(&self, state: &mut State, tokens: &[u32], mut visit: impl FnMut(f32, usize)) {
        let word =
            |token: u32| self.ids.get(token as usize).copied().filter(|&word| word != vocabulary::ABSENT);
        for tokens in tokens.chunks(PREFETCHED) {
            prefetch(&*self.view, self.ids, state, tokens);
            for &token in tokens {
                let (scored, next) = self.view.score(state, word(token).unwrap_or(UNK));
                visit(scored.log10_f32, scored.matched);
                *state = next;
            }
        }
    }
}

/// The natural logarithm of a probability.
fn nats(scored: Scored) -> ModelResult<f64> {
    if scored.log10.is_nan() || scored.log10 == f64::INFINITY {
        let problem = format!("{WHAT} is damaged: log10 of a probability is {}", scored.log10);
        return Err(ModelError::Config(problem));
    }
    Ok(scored.log10 * std::f64::consts::LN_10)
}

impl LanguageModel for Kenlm {
    fn vocab_size(&self) -> usize {
        self.ids.len()
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> ModelResult<Vec<f64>> {
        self.log_probs_with(self.view().as_ref(), tokens, from)
    }

    fn next_log_probs(&self, context: &[u32]) -> ModelResult<Vec<f64>> {
        check_tokens(context, self.vocab_size())?;
        let view = self.view();
        let state = self.state_after(view.as_ref(), context);
        let tokens = (0..self.ids.len() as u32).into_par_iter().with_min_len(WORDS_PER_TASK);
        tokens.map(|token| nats(self.score(view.as_ref(), &state, token).0)).collect()
    }

    fn each_log_probs(&self, sequences: &[&[u32]], from: usize, visit: &mut Visit<'_>) -> ModelResult<()> {
        let view = self.view();
        for (i, tokens) in sequences.iter().enumerate() {
            visit(i, &self.log_probs_with(view.as_ref(), tokens, from)?);
        }
        Ok(())
    }

    fn matched_orders(&self, tokens: &[u32], from: usize) -> ModelResult<Option<Vec<usize>>> {
        let mut orders = Vec::new();
        self.each(self.view().as_ref(), tokens, from, |scored| {
            orders.push(scored.matched);
            Ok(())
        })?;
        Ok(Some(orders))
    }

    /// Bins by length: the file does not say how many words follow a context.
    fn context_bins(&self, tokens: &[u32], from: usize) -> ModelResult<Option<Vec<ContextBin>>> {
        check_tokens(tokens, self.vocab_size())?;
        let out = ModelError::FromOutOfRange { from, len: tokens.len() };
        let (context, rest) = tokens.split_at_checked(from).ok_or(out)?;
        let view = self.view();
        let mut state = self.state_after(view.as_ref(), context);
        let mut bins = vec![ContextBin { length: state.len(), class: 0 }];
        for &token in rest {
            state = self.score(view.as_ref(), &state, token).1;
            bins.push(ContextBin { length: state.len(), class: 0 });
        }
        Ok(Some(bins))
    }
}
