//! Views for notebooks: HTML, with all text escaped.

use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::Value;
use surprisal_engine::explain;
use surprisal_engine::store::atomic;

use crate::errors::raised;
use crate::values;

/// `text` as the content of an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

/// A token of an explained text.
#[pyclass(frozen, get_all, module = "surprisal_lm")]
#[derive(Clone)]
pub(crate) struct Token {
    /// The token as in the text.
    token: String,
    /// −ln q; infinite for probability zero.
    nats: f64,
    /// Whether it is unknown: then the numbers are those of `<unk>`.
    unknown: bool,
    /// Its rank by probability, from 1.
    rank: usize,
    /// The likeliest tokens in its place with their probabilities.
    likeliest: Vec<(String, f64)>,
}

#[pymethods]
impl Token {
    fn __repr__(&self) -> String {
        format!("Token(token={:?}, nats={}, rank={})", self.token, self.nats, self.rank)
    }
}

impl Token {
    /// A span whose colour says how surprising the token is: none below 0 nats, full from 8 nats
    /// on.
    fn html(&self) -> String {
        /// Surprisal of full colour.
        const MOST: f64 = 8.0;
        let guesses = self.likeliest.iter().map(|(token, p)| format!("{token} {:.1} %", 100.0 * p));
        let guesses: Vec<String> = guesses.collect();
        let title = format!("{:.3} nats, rank {}\nlikeliest: {}", self.nats, self.rank, guesses.join(", "));
        let share = (self.nats / MOST).clamp(0.0, 1.0);
        let line = if self.unknown { ";text-decoration:underline dotted" } else { "" };
        format!(
            "<span title=\"{}\" style=\"background:rgba(224,62,32,{:.2});border-radius:2px{line}\">{}</span>",
            escaped(&title),
            0.75 * share,
            escaped(&self.token)
        )
    }
}

/// A text with the surprisal of each of its tokens; shown as coloured text in a notebook.
#[pyclass(frozen, module = "surprisal_lm")]
pub(crate) struct Explanation {
    tokens: Vec<Token>,
    evaluation: Value,
    words: bool,
}

impl Explanation {
    pub(crate) fn new(found: explain::Explanation) -> PyResult<Self> {
        let evaluation = serde_json::to_value(found.evaluation).map_err(raised)?;
        let token = |it: explain::ScoredToken| Token {
            token: it.token,
            nats: it.nats,
            unknown: it.unknown,
            rank: it.rank,
            likeliest: it.likeliest.into_iter().map(|guess| (guess.token, guess.probability)).collect(),
        };
        Ok(Self { tokens: found.tokens.into_iter().map(token).collect(), evaluation, words: found.words })
    }
}

#[pymethods]
impl Explanation {
    /// Every scored token.
    #[getter]
    fn tokens(&self) -> Vec<Token> {
        self.tokens.clone()
    }

    /// The evaluation of the text, as `Model.evaluate` gives it.
    #[getter]
    fn evaluation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        values::json(py, &self.evaluation)
    }

    /// The tokens as HTML: the redder, the more surprising, with numbers under the pointer.
    #[getter]
    fn html(&self) -> String {
        let between = if self.words { " " } else { "" };
        let spans: Vec<String> = self
            .tokens
            .iter()
            .map(|token| {
                // A newline ends the line that it is in, and so does the mark of a line's end.
                let ends = token.token.contains('⏎') || token.token == "</s>";
                token.html() + if ends { "<br>" } else { between }
            })
            .collect();
        format!(
            "<div style=\"font-family:monospace;line-height:1.7;white-space:pre-wrap\">{}</div>",
            spans.concat()
        )
    }

    fn _repr_html_(&self) -> String {
        self.html()
    }

    fn __repr__(&self) -> String {
        let shown = self.tokens.iter().map(|token| format!("{:>9.4}  {}\n", token.nats, token.token));
        shown.collect::<String>().trim_end().to_owned()
    }
}

/// A report: a page by itself, which a notebook shows in a frame.
#[pyclass(frozen, module = "surprisal_lm")]
pub(crate) struct Report {
    /// The page.
    #[pyo3(get)]
    html: String,
}

impl Report {
    pub(crate) fn new(html: String) -> Self {
        Self { html }
    }
}

#[pymethods]
impl Report {
    #[new]
    fn of_html(html: String) -> Self {
        Self::new(html)
    }

    /// Writes the page.
    fn save(&self, path: PathBuf) -> PyResult<()> {
        atomic::write(path, self.html.as_bytes()).map_err(raised)
    }

    fn _repr_html_(&self) -> String {
        // A frame of its own, without scripts of ours: styles of the page stay in it.
        format!(
            "<iframe srcdoc=\"{}\" sandbox=\"allow-scripts\" style=\"width:100%;height:640px;border:0\"></iframe>",
            escaped(&self.html)
        )
    }

    fn __repr__(&self) -> String {
        format!("<surprisal_lm.Report of {} bytes: .save(path) writes it>", self.html.len())
    }
}
