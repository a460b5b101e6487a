//! The drop-in for KenLM's Python module, whose numbers are KenLM's to the bit for back-off models:
//! logarithms to base 10, as 32-bit floats that are added in its order.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyString, PyTuple, PyType};
use surprisal_engine::formats::kenlm;
use surprisal_engine::kind::Kind;
use surprisal_engine::model::ngram;
use surprisal_engine::models::{self, LoadedModel, Model};
use surprisal_engine::text::TextMode;
use surprisal_engine::{Context, Error, Result};

use crate::work;

/// Bytes of a sentence from which on the GIL is released: a shorter one takes less time than that.
const LONG: usize = 1 << 14;

/// The context of a model: of which kind, and what of the text it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Empty,
    Ngram(ngram::State),
    Kenlm(kenlm::State),
}

/// The context of a word, which queries read and write: ordered, hashable and copyable. States of
/// one model are equal if every word after them has the same score.
#[pyclass(module = "surprisal_lm._native")]
#[derive(Debug, Clone)]
pub(crate) struct KenlmState {
    place: Place,
}

#[pymethods]
impl KenlmState {
    #[new]
    fn new() -> Self {
        Self { place: Place::Empty }
    }

    fn __richcmp__(&self, other: PyRef<'_, Self>, op: CompareOp) -> bool {
        op.matches(self.place.cmp(&other.place))
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.place.hash(&mut hasher);
        hasher.finish()
    }

    fn __copy__(&self) -> Self {
        self.clone()
    }

    #[pyo3(signature = (_memo = None))]
    fn __deepcopy__(&self, _memo: Option<&Bound<'_, PyAny>>) -> Self {
        self.clone()
    }
}

/// The score of a word in full.
#[pyclass(frozen, get_all, module = "surprisal_lm._native")]
pub(crate) struct FullScoreReturn {
    /// log10 of its probability.
    log_prob: f64,
    /// The length of the longest n-gram that it ends.
    ngram_length: usize,
    /// Whether it is not in the vocabulary.
    oov: bool,
}

#[pymethods]
impl FullScoreReturn {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let log_prob = self.log_prob.into_pyobject(py)?.repr()?;
        let oov = if self.oov { "True" } else { "False" };
        Ok(format!("FullScoreReturn({log_prob}, {}, {oov})", self.ngram_length))
    }
}

/// Buffers of scoring: the ids of words, and a block of queries.
#[derive(Default)]
struct Scratch {
    ids: Vec<u32>,
    block: ngram::QueryBlock,
}

thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());

/// Queries of a model.
enum Query<'a> {
    Ngram { view: ngram::View<'a>, bos: Option<u32> },
    Kenlm(kenlm::Query<'a>),
}

impl Query<'_> {
    fn begun(&self) -> Place {
        match self {
            Self::Ngram { view, bos } => {
                let mut state = ngram::State::EMPTY;
                bos.map(|bos| view.advance(&mut state, bos));
                Place::Ngram(state)
            }
            Self::Kenlm(query) => Place::Kenlm(query.begun()),
        }
    }

    /// Scores `ids` after `place`; `visit` receives log10 and the matched length of each.
    #[inline]
    fn score(
        &self,
        place: &Place,
        ids: &[u32],
        block: &mut ngram::QueryBlock,
        visit: impl FnMut(f32, usize),
    ) -> Place {
        match self {
            Self::Ngram { view, .. } => {
                let mut state = match place {
                    Place::Ngram(state) => *state,
                    _ => ngram::State::EMPTY,
                };
                view.each_log10(block, &mut state, ids, visit);
                Place::Ngram(state)
            }
            Self::Kenlm(query) => {
                let mut state = match place {
                    Place::Kenlm(state) => *state,
                    _ => kenlm::State::EMPTY,
                };
                query.each(&mut state, ids, visit);
                Place::Kenlm(state)
            }
        }
    }

    /// The part of `place` on which later words depend.
    fn shortened(&self, place: Place) -> Place {
        match (self, place) {
            (Self::Ngram { view, .. }, Place::Ngram(mut state)) => {
                view.shorten(&mut state);
                if state.context_len() == 0 { Place::Empty } else { Place::Ngram(state) }
            }
            (_, Place::Kenlm(state)) if state.words().is_empty() => Place::Empty,
            (_, place) => place,
        }
    }
}

/// The words of a sentence, between C's and Python's white space and NULs.
fn words(sentence: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C | 0);
    sentence.split(is_space).filter(|word| !word.is_empty())
}

/// The bytes of a str or of bytes.
fn bytes<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes());
    }
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!("Cannot convert {} to string", value.get_type().repr()?))),
    }
}

/// A language model with KenLM's interface: of an ARPA file, a KenLM binary or an `.ngram` file of
/// words in sentences.
#[pyclass(module = "surprisal_lm._native", subclass, frozen, weakref)]
pub(crate) struct KenlmModel {
    loaded: Arc<LoadedModel>,
    path: Py<PyBytes>,
    order: usize,
    unk: u32,
    eos: u32,
}

/// The model at `path`, its order, `<unk>` and `</s>`.
///
/// An ARPA file becomes hash tables in memory, as KenLM's module makes of it: sentences are scored
/// one at a time here, and a hash table is faster for that than a trie.
fn open(path: &std::path::Path, ctx: &Context<'_>) -> Result<(LoadedModel, usize, u32, u32)> {
    let mut loaded = models::load(path, ctx)?;
    if let (Some(model), Kind::Arpa { .. }) = (loaded.model.ngram(), Kind::detect(path)?) {
        // A model that KenLM does not have stays as it is.
        if let Ok(bytes) = kenlm::to_bytes(model, &loaded.tokenizer) {
            let (tables, tokenizer) = kenlm::from_bytes(bytes)?;
            (loaded.model, loaded.tokenizer) = (Model::Kenlm(Box::new(tables)), tokenizer);
        }
    }
    let tokenizer = &loaded.tokenizer;
    let sentences = tokenizer.mode() == TextMode::Line && tokenizer.words().is_some();
    match (loaded.model.order(), tokenizer.unk(), tokenizer.eos()) {
        (Some(order), Some(unk), Some(eos)) if sentences => Ok((loaded, order, unk, eos)),
        _ => Err(Error::usage("it is no n-gram model of words in sentences")
            .hint("surprisal_lm.Model.load opens models of every kind")),
    }
}

impl KenlmModel {
    fn query(&self) -> Query<'_> {
        match (self.loaded.model.kenlm(), self.loaded.model.ngram()) {
            (Some(model), _) => Query::Kenlm(model.query()),
            (None, Some(model)) => {
                Query::Ngram { view: model.trie().view(), bos: self.loaded.tokenizer.bos() }
            }
            // `open` refuses other models.
            (None, None) => unreachable!("a model without n-grams"),
        }
    }

    fn id(&self, word: &[u8]) -> u32 {
        self.loaded.tokenizer.id(word).unwrap_or(self.unk)
    }

    /// Calls `visit` with log10 of each word of a sentence, the matched length, and whether the
    /// word is unknown.
    fn each(&self, sentence: &[u8], bos: bool, eos: bool, mut visit: impl FnMut(f32, usize, bool)) {
        let query = self.query();
        let start = if bos { query.begun() } else { Place::Empty };
        SCRATCH.with_borrow_mut(|Scratch { ids, block }| {
            ids.clear();
            self.loaded.tokenizer.ids(words(sentence), self.unk, ids);
            ids.extend(eos.then_some(self.eos));
            let mut known = ids.iter().map(|&id| id != self.unk);
            query.score(&start, ids, block, |log10, matched| {
                visit(log10, matched, !known.next().unwrap_or_default());
            });
        });
    }

    /// The score of one word after a state, and the state after it.
    fn one(&self, state: &KenlmState, word: &[u8]) -> PyResult<(f32, usize, bool, Place)> {
        let fits = match (&state.place, self.loaded.model.kenlm()) {
            (Place::Empty, _) => true,
            (Place::Ngram(state), None) => state.context_len() < self.order,
            (Place::Kenlm(state), Some(_)) => state.words().len() < self.order,
            _ => false,
        };
        if !fits {
            return Err(PyValueError::new_err("the state is of another model"));
        }
        let (query, id) = (self.query(), self.id(word));
        let mut scored = (0.0, 0);
        let next = SCRATCH.with_borrow_mut(|scratch| {
            let visit = |log10, matched| scored = (log10, matched);
            query.score(&state.place, &[id], &mut scratch.block, visit)
        });
        Ok((scored.0, scored.1, id == self.unk, query.shortened(next)))
    }
}

#[pymethods]
impl KenlmModel {
    /// Opens a model. `config` is accepted and has no effect: files are memory-mapped.
    #[new]
    #[pyo3(signature = (path, config = None))]
    fn new(py: Python<'_>, path: &Bound<'_, PyAny>, config: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let _ = config;
        let os = py.import("os")?;
        let absolute = os.getattr("path")?.call_method1("abspath", (PyBytes::new(py, bytes(path)?),))?;
        let file: PathBuf = os.call_method1("fsdecode", (&absolute,))?.extract()?;
        let opened = work::compute(py, None, |ctx| open(&file, ctx));
        let (loaded, order, unk, eos) = opened.map_err(|error| {
            let message = format!("Cannot read model '{}' ({})", file.display(), error.value(py));
            let raised = PyOSError::new_err(message);
            raised.set_cause(py, Some(error));
            raised
        })?;
        let path = absolute.cast_into::<PyBytes>()?.unbind();
        Ok(Self { loaded: Arc::new(loaded), path, order, unk, eos })
    }

    /// The absolute path, as bytes.
    #[getter]
    fn path(&self, py: Python<'_>) -> Py<PyBytes> {
        self.path.clone_ref(py)
    }

    /// The length of the longest n-gram.
    #[getter]
    fn order(&self) -> usize {
        self.order
    }

    /// log10 of the probability of a sentence, whose words are between white space: after `<s>`
    /// with `bos`, and with `</s>` after it with `eos`.
    #[pyo3(signature = (sentence, bos = true, eos = true))]
    fn score(&self, py: Python<'_>, sentence: &Bound<'_, PyAny>, bos: bool, eos: bool) -> PyResult<f64> {
        let sentence = bytes(sentence)?;
        let score = || {
            let mut sum = 0.0;
            self.each(sentence, bos, eos, |log10, _, _| sum += log10);
            sum
        };
        Ok(f64::from(if sentence.len() < LONG { score() } else { py.detach(score) }))
    }

    /// The perplexity of a sentence, `</s>` included.
    fn perplexity(&self, py: Python<'_>, sentence: &Bound<'_, PyAny>) -> PyResult<f64> {
        let count = words(bytes(sentence)?).count() + 1;
        let score = self.score(py, sentence, true, true)?;
        Ok(10_f64.powf(-score / count as f64))
    }

    /// An iterator over log10 of the probability of each word, the length of the longest n-gram
    /// that it ends, and whether it is not in the vocabulary.
    #[pyo3(signature = (sentence, bos = true, eos = true))]
    fn full_scores<'py>(
        &self,
        py: Python<'py>,
        sentence: &Bound<'py, PyAny>,
        bos: bool,
        eos: bool,
    ) -> PyResult<Bound<'py, PyIterator>> {
        let mut scores = Vec::new();
        self.each(bytes(sentence)?, bos, eos, |log10, matched, oov| {
            scores.push((f64::from(log10), matched, oov));
        });
        PyList::new(py, scores)?.try_iter()
    }

    /// Makes `state` the context at the beginning of a sentence.
    #[pyo3(name = "BeginSentenceWrite")]
    fn begin_sentence_write(&self, mut state: PyRefMut<'_, KenlmState>) {
        state.place = self.query().begun();
    }

    /// Makes `state` the empty context.
    #[pyo3(name = "NullContextWrite")]
    fn null_context_write(&self, mut state: PyRefMut<'_, KenlmState>) {
        state.place = Place::Empty;
    }

    /// log10 of the probability of `word` after `in_state`; `out_state` becomes the context after
    /// it.
    #[pyo3(name = "BaseScore")]
    fn base_score(
        &self,
        in_state: &Bound<'_, KenlmState>,
        word: &Bound<'_, PyAny>,
        out_state: &Bound<'_, KenlmState>,
    ) -> PyResult<f64> {
        Ok(self.base_full_score(in_state, word, out_state)?.log_prob)
    }

    /// The same with the length of the longest n-gram and whether the word is unknown.
    #[pyo3(name = "BaseFullScore")]
    fn base_full_score(
        &self,
        in_state: &Bound<'_, KenlmState>,
        word: &Bound<'_, PyAny>,
        out_state: &Bound<'_, KenlmState>,
    ) -> PyResult<FullScoreReturn> {
        let (log10, ngram_length, oov, next) = self.one(&*in_state.try_borrow()?, bytes(word)?)?;
        out_state.try_borrow_mut()?.place = next;
        Ok(FullScoreReturn { log_prob: f64::from(log10), ngram_length, oov })
    }

    fn __contains__(&self, word: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.id(bytes(word)?) != self.unk)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = py.import("os")?.getattr("path")?.call_method1("basename", (&self.path,))?;
        Ok(format!("<Model from {}>", name.repr()?))
    }

    fn __reduce__<'py>(this: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let path = PyTuple::new(this.py(), [this.get().path.clone_ref(this.py())])?;
        Ok((this.get_type(), path))
    }
}
