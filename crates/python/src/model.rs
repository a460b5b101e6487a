//! Models: loading, scoring, sampling.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use surprisal_engine::data::note_tokens;
use surprisal_engine::explain::{EncodedText, explain};
use surprisal_engine::generation::{Generator, Limits};
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::sampling::{Opening, Sampling};
use surprisal_engine::score::score_lines;
use surprisal_engine::text::{EvaluationText, InputOptions};
use surprisal_engine::word_sums::by_word;
use surprisal_engine::{Context, Error, Result, evaluate, runs};
use surprisal_platform::threads::Pool;

use crate::errors::raised;
use crate::show::{Explanation, Report};
use crate::values::{self, Lines};
use crate::work;

/// Tokens of a sample, and the most of a line where lines are counted.
const TOKENS: usize = 500;
const TOKENS_PER_LINE: usize = 10_000;

/// A language model: what `load` opens, or `train` has trained.
///
/// Surprisals are −ln q in nats, log-probabilities are natural. Arrays are NumPy's, or memoryviews
/// of doubles where NumPy is not installed. With `threads`, work is done on so many threads of the
/// calling thread's own; without it, on those of the process. Results do not depend on it.
#[pyclass(frozen, module = "surprisal_lm")]
pub(crate) struct Model {
    loaded: Arc<LoadedModel>,
    path: PathBuf,
    stride: Option<usize>,
}

impl Model {
    pub(crate) fn open(
        py: Python<'_>,
        path: PathBuf,
        stride: Option<usize>,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let loaded = work::compute(py, threads, |ctx| {
            let mut loaded = models::load(&path, ctx)?;
            stride.map_or(Ok(()), |stride| loaded.set_stride(stride)).map(|()| loaded)
        })?;
        Ok(Self { loaded: Arc::new(loaded), path, stride })
    }

    fn tokens(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        match tokens.cast::<PyString>() {
            Ok(text) => {
                let text = text.to_str()?;
                let ids = py.detach(|| self.loaded.tokenizer.encode(text)).map_err(raised)?;
                Ok(self.loaded.tokenizer.bos().into_iter().chain(ids).collect())
            }
            Err(_) => {
                let tokens: Vec<u32> = tokens.extract()?;
                let size = self.loaded.tokenizer.vocab_size();
                match tokens.iter().find(|id| **id as usize >= size) {
                    Some(id) => Err(PyIndexError::new_err(format!("{id} is no token: there are {size}"))),
                    None => Ok(tokens),
                }
            }
        }
    }
}

#[pymethods]
impl Model {
    /// Opens a run's folder, a checkpoint, a model's folder, a mixture, a Hugging Face folder, an
    /// ARPA file, an `.ngram` file or a KenLM binary, told apart by content. `stride` is the number
    /// of tokens between the windows of a model that has windows.
    #[staticmethod]
    #[pyo3(signature = (path, *, stride = None, threads = None))]
    fn load(py: Python<'_>, path: PathBuf, stride: Option<usize>, threads: Option<usize>) -> PyResult<Self> {
        Self::open(py, path, stride, threads)
    }

    /// The path that it was loaded from.
    #[getter]
    fn path(&self) -> &OsStr {
        self.path.as_os_str()
    }

    /// The kind, such as "ngram" or "transformer".
    #[getter]
    fn kind(&self) -> &str {
        &self.loaded.kind
    }

    /// The length of the longest n-gram; None for a model without n-grams.
    #[getter]
    fn order(&self) -> Option<usize> {
        self.loaded.model.order()
    }

    /// The number of parameters, or of n-grams.
    #[getter]
    fn parameters(&self) -> u64 {
        self.loaded.model.parameters()
    }

    /// The number of tokens.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.loaded.tokenizer.vocab_size()
    }

    /// The kind of token: "byte", "char", "word", "bpe" or another.
    #[getter]
    fn tokenizer(&self) -> &'static str {
        self.loaded.tokenizer.kind().name()
    }

    /// "line" where lines are sentences, "document" where texts end with a mark, or "stream".
    #[getter]
    fn unit<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        values::json(py, &serde_json::to_value(self.loaded.tokenizer.mode()).unwrap_or_default())
    }

    /// The id of `<s>`, if lines are sentences.
    #[getter]
    fn bos(&self) -> Option<u32> {
        self.loaded.tokenizer.bos()
    }

    /// The id of `</s>`, if there is one.
    #[getter]
    fn eos(&self) -> Option<u32> {
        self.loaded.tokenizer.eos()
    }

    /// The id of `<unk>`, if there is one.
    #[getter]
    fn unk(&self) -> Option<u32> {
        self.loaded.tokenizer.unk()
    }

    /// Whether probabilities sum to one. Those of stupid backoff do not.
    #[getter]
    fn is_distribution(&self) -> bool {
        self.loaded.model.is_distribution()
    }

    /// Whether its run is finished; True for a model without a run.
    #[getter]
    fn finished(&self) -> bool {
        self.loaded.unfinished.is_none()
    }

    /// The result of its run, as in the last line of metrics.jsonl; None without a finished run.
    #[getter]
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.loaded.last_result().map(|result| values::json(py, &result)).transpose()
    }

    /// The ids of a text, without `<s>` and `</s>`.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        py.detach(|| self.loaded.tokenizer.encode(text)).map_err(raised)
    }

    /// The text of ids.
    fn decode(&self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyResult<String> {
        if tokens.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("decode takes ids; encode takes a text"));
        }
        Ok(self.loaded.tokenizer.decode(&self.tokens(py, tokens)?))
    }

    /// A token as it is shown to a person.
    fn token(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<String> {
        let tokens = self.tokens(py, PyTuple::new(py, [id])?.as_any())?;
        Ok(self.loaded.tokenizer.token(tokens[0]))
    }

    /// The id of a word or character of the vocabulary, special tokens included; None for another.
    fn id(&self, word: &str) -> Option<u32> {
        self.loaded.tokenizer.id(word.as_bytes())
    }

    /// The surprisal of each line by itself in nats, over all of its tokens. The context is `<s>`
    /// where lines are sentences, and a newline otherwise; `bos` and `eos` say whether `<s>` is the
    /// context and whether `</s>` is scored.
    #[pyo3(signature = (lines, *, bos = true, eos = true, threads = None))]
    fn score<'py>(
        &self,
        py: Python<'py>,
        lines: &Bound<'py, PyAny>,
        bos: bool,
        eos: bool,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (mut given, mut lines, mut scores) = (Lines::iterate(lines)?, Lines::default(), Vec::new());
        // The options of no lines are checked, too.
        while lines.read(&mut given)? || scores.is_empty() {
            let log_probs = work::compute(py, threads, |ctx| {
                score_lines(&self.loaded, lines.len(), &|i| lines.get(i), (bos, eos), ctx.pool)
            })?;
            if log_probs.is_empty() {
                break;
            }
            scores.extend(log_probs.iter().map(|log_prob| 0.0 - log_prob));
        }
        values::floats(py, &scores)
    }

    /// The words of a text with their surprisals, summed over their tokens.
    #[pyo3(signature = (text, *, threads = None))]
    fn words(&self, py: Python<'_>, text: &str, threads: Option<usize>) -> PyResult<Vec<Word>> {
        work::compute(py, threads, |ctx| {
            let (loaded, text) = (&*self.loaded, EncodedText::new(&self.loaded, text, ctx)?);
            let log_probs = evaluate::log_probs(&*loaded.model, &text.tokens, ctx.pool)?;
            let nats: Vec<f64> = log_probs.iter().map(|log_prob| -log_prob).collect();
            let bos = loaded.tokenizer.bos();
            let ids: Vec<u32> = text.tokens.ids.iter().copied().filter(|id| Some(*id) != bos).collect();
            let unknown = |at: usize| text.shown[at].1.then_some(text.shown[at].0.as_str());
            let words = by_word(&loaded.tokenizer, &ids, &nats, unknown).into_iter();
            Ok(words
                .map(|it| Word { word: it.word, nats: it.nats, tokens: it.pieces, unknown: it.unknown })
                .collect())
        })
    }

    /// ln q(`tokens[i]` | `tokens[:i]`) for every i from `start` on.
    #[pyo3(signature = (tokens, start = 0, *, threads = None))]
    fn log_probs<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        start: usize,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tokens = self.tokens(py, tokens)?;
        let log_probs = work::compute(py, threads, |_| Ok(self.loaded.model.log_probs(&tokens, start)?))?;
        values::floats(py, &log_probs)
    }

    /// ln q of every token after `context`: ids, or a text, which begins with `<s>` where the model
    /// has that.
    #[pyo3(signature = (context = None, *, threads = None))]
    fn next<'py>(
        &self,
        py: Python<'py>,
        context: Option<&Bound<'py, PyAny>>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let context = match context {
            Some(context) => self.tokens(py, context)?,
            None => self.loaded.tokenizer.bos().into_iter().collect(),
        };
        let row = work::compute(py, threads, |_| Ok(self.loaded.model.next_log_probs(&context)?))?;
        values::floats(py, &row)
    }

    /// The number of times that each token follows `context`, ids or a text, in the text of an
    /// ∞-gram model.
    fn next_counts(&self, py: Python<'_>, context: &Bound<'_, PyAny>) -> PyResult<BTreeMap<u32, u32>> {
        let context = self.tokens(py, context)?;
        let Some(model) = self.loaded.model.infinigram() else {
            let error = Error::usage("the model has no counts of every context");
            return Err(raised(error.hint("train one with model = {\"kind\": \"infinigram\"}")));
        };
        Ok(py.detach(|| model.next_counts(&context).into_iter().collect()))
    }

    /// The evaluation on texts, or on the run's own validation text, as `surprisal eval --json` has
    /// it: nats_per_token, perplexity, bits_per_byte, tokens, oov and more.
    #[pyo3(signature = (texts = None, *, threads = None))]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        texts: Option<Vec<PathBuf>>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let evaluation = work::compute(py, threads, |ctx| {
            let inputs = self.loaded.inputs(InputOptions::default());
            let (text, source) = self.loaded.evaluation_text(&texts.unwrap_or_default(), &inputs, ctx)?;
            let EvaluationText { tokens, name, .. } = text;
            note_tokens(&tokens, &name, "the model", ctx)?;
            Ok(serde_json::to_value(self.loaded.evaluate(&tokens, source, ctx.pool)?)?)
        })?;
        values::json(py, &evaluation)
    }

    /// Pieces of a sampled text, which begins with `prompt`: an iterator that draws ahead on a
    /// thread of its own. `number` is that of the sample, from 0: each of a seed is another.
    #[pyo3(signature = (
        prompt = "", *, tokens = None, lines = None, stop = None, temperature = 0.8, top_k = None, top_p = None,
        min_p = None, repetition_penalty = 1.0, seed = 1, number = 0, allow_unknown = false,
    ))]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: &str,
        tokens: Option<usize>,
        lines: Option<usize>,
        stop: Option<String>,
        temperature: f64,
        top_k: Option<usize>,
        top_p: Option<f64>,
        min_p: Option<f64>,
        repetition_penalty: f64,
        seed: u64,
        number: u64,
        allow_unknown: bool,
    ) -> PyResult<Generation> {
        /// Pieces that are drawn ahead.
        const AHEAD: usize = 64;
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty };
        let sampling = sampling.check().map_err(raised)?;
        let usual = if lines.is_some() { TOKENS_PER_LINE } else { TOKENS };
        let limits = Limits { tokens: tokens.unwrap_or(usual), lines, stop };
        let opening = work::compute(py, None, |_| {
            let own = self.loaded.opening()?;
            if prompt.is_empty() {
                return Ok(own);
            }
            let any_bytes = own.any_bytes;
            Ok(Opening { any_bytes, ..self.loaded.prompt(prompt, allow_unknown)? })
        })?;
        let pool = Pool::new(1).map_err(raised)?;
        let (send, pieces) = sync_channel(AHEAD);
        let loaded = self.loaded.clone();
        let draw = move || {
            let sample = || {
                let generator =
                    Generator::new(&*loaded.model, &loaded.tokenizer, &opening, sampling, allow_unknown);
                // Nobody listens any more.
                let gone = |_| Error::failed("the iterator is gone");
                generator.sample(&limits, seed, number, |piece| send.send(Ok(piece.to_owned())).map_err(gone))
            };
            if let Err(error) = pool.install(sample) {
                drop(send.send(Err(error)));
            }
        };
        let started = std::thread::Builder::new().name("surprisal-sample".into()).spawn(draw);
        started.map_err(|error| raised(Error::failed(format!("cannot start a thread: {error}"))))?;
        Ok(Generation { pieces: Mutex::new(pieces) })
    }

    /// The surprisal of every token of a text, with the `top` likeliest tokens in its place; shown
    /// as coloured text in a notebook.
    #[pyo3(signature = (text, *, top = 5, threads = None))]
    fn explain(
        &self,
        py: Python<'_>,
        text: &str,
        top: usize,
        threads: Option<usize>,
    ) -> PyResult<Explanation> {
        let found = work::compute(py, threads, |ctx| {
            let text = EncodedText::new(&self.loaded, text, ctx)?;
            explain(&self.loaded, &text, top, ctx.pool)
        })?;
        Explanation::new(found)
    }

    /// The report of its run, which a notebook shows; the run's texts may have moved to `data`.
    #[pyo3(signature = (*, data = None, threads = None))]
    fn report(&self, py: Python<'_>, data: Option<PathBuf>, threads: Option<usize>) -> PyResult<Report> {
        let render = |ctx: &Context<'_>| {
            runs::open(&self.path)?;
            surprisal_report::render_run(&self.path, data.as_deref(), ctx)
        };
        work::compute(py, threads, render).map(Report::new)
    }

    fn __repr__(&self) -> String {
        format!("<surprisal_lm.Model: {} from {}>", self.loaded.kind, self.path.display())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let load = py.import("surprisal_lm._loading")?.getattr("load")?;
        Ok((load, (self.path.as_os_str(), self.stride).into_pyobject(py)?))
    }
}

/// A word of a text.
#[pyclass(frozen, get_all, module = "surprisal_lm")]
pub(crate) struct Word {
    /// The word without white space, or the name of the mark that ends a line.
    word: String,
    /// −ln q over all of its tokens.
    nats: f64,
    /// The number of its tokens.
    tokens: usize,
    /// The number of `<unk>` among them.
    unknown: usize,
}

#[pymethods]
impl Word {
    fn __repr__(&self) -> String {
        format!("Word(word={:?}, nats={}, tokens={})", self.word, self.nats, self.tokens)
    }
}

/// An iterator over the pieces of a sampled text.
#[pyclass(frozen, module = "surprisal_lm")]
pub(crate) struct Generation {
    pieces: Mutex<Receiver<Result<String>>>,
}

#[pymethods]
impl Generation {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        const LOOK: Duration = Duration::from_millis(50);
        loop {
            let received = py.detach(|| {
                let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                pieces.recv_timeout(LOOK)
            });
            match received {
                Ok(piece) => return piece.map(Some).map_err(raised),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            }
        }
    }

    /// The rest of the text.
    fn text(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = String::new();
        while let Some(piece) = self.__next__(py)? {
            text.push_str(&piece);
        }
        Ok(text)
    }
}
