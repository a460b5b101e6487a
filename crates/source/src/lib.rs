//! Sources of known entropy: programs that generate text whose exact probability they can compute.
//!
//! A source is an endless stream of characters. The forward algorithm (Rabiner, "A tutorial on
//! hidden Markov models", 1989, section III.A) gives the exact -ln p(text | text before) of a
//! sample: the H(p) in H(p, q) = H(p) + KL(p‖q), which no model's cross-entropy can be below on
//! average.
//!
//! There are two kinds, both read from small text files (format: `data/README.md`):
//! - [`grammar`]: stories from weighted choices, with variables that are drawn and referred to;
//! - [`markov`]: a Markov chain over characters.

mod error;
pub mod grammar;
mod lexer;
pub mod markov;

pub use error::{Error, Result};

use self::{grammar::Grammar, lexer::Token, markov::Markov};

/// The name and text of each embedded source.
const EMBEDDED: &[(&str, &str)] = &[
    ("stories", include_str!("../sources/stories.source")),
    ("babble", include_str!("../sources/babble.source")),
    ("bells", include_str!("../sources/bells.source")),
];

/// A callback for each position of a text, with the possible characters and their probabilities.
pub type Visit<'a> = dyn FnMut(&[(char, f64)]) + 'a;

/// A generator of text with exact probabilities.
#[derive(Debug)]
pub struct Source(Kind);

#[derive(Debug)]
enum Kind {
    Grammar(Grammar),
    Markov(Markov),
}

impl Source {
    /// The names of the embedded sources; the first is the default.
    pub fn names() -> &'static [&'static str] {
        const NAMES: &[&str] = &[EMBEDDED[0].0, EMBEDDED[1].0, EMBEDDED[2].0];
        NAMES
    }

    /// The embedded source with this name, if there is one.
    pub fn embedded(name: &str) -> Option<Self> {
        let (_, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        Self::parse(text).ok()
    }

    /// Reads a source file, whose first word is its kind: `grammar` or `markov`.
    ///
    /// # Errors
    /// [`Error::Parse`] with the line.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = lexer::lines(text)?;
        let kind = match lines.first().map(|line| line.tokens.as_slice()) {
            Some([Token::Word(word)]) if word == "grammar" => Kind::Grammar(Grammar::parse(&lines[1..])?),
            Some([Token::Word(word)]) if word == "markov" => Kind::Markov(Markov::parse(&lines[1..])?),
            _ => {
                let line = lines.first().map_or(1, |line| line.number);
                return Err(Error::parse(line, "a source begins with `grammar` or `markov`"));
            }
        };
        Ok(Self(kind))
    }

    /// A text of at least `min_bytes` bytes that ends with a story or a line. The same seed gives
    /// the same text on every machine.
    pub fn sample(&self, seed: u64, min_bytes: usize) -> String {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.sample(seed, min_bytes),
            Kind::Markov(markov) => markov.sample(seed, min_bytes),
        }
    }

    /// -ln p(`text` | `prefix`) in nats, where `prefix` is the start of the stream and may be
    /// empty.
    ///
    /// Both may end anywhere. The time is linear in both lengths.
    ///
    /// # Errors
    /// [`Error::Impossible`] with the first position of probability zero.
    pub fn nats(&self, prefix: &str, text: &str) -> Result<f64> {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.nats(prefix, text),
            Kind::Markov(markov) => markov.nats(prefix, text),
        }
    }

    /// Calls `visit` with p(· | all text before) for every character of `text`, which follows
    /// `prefix`: the possible characters and their probabilities, which sum to one.
    ///
    /// # Errors
    /// [`Error::Impossible`], as [`Self::nats`]; [`Error::NotAscii`] for a source with other
    /// characters.
    pub fn predictions(&self, prefix: &str, text: &str, visit: &mut Visit<'_>) -> Result<()> {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.predictions(prefix, text, visit),
            Kind::Markov(markov) => markov.predictions(prefix, text, visit),
        }
    }

    /// The order of a Markov chain; `None` for a grammar, whose context has no fixed length.
    pub fn markov_order(&self) -> Option<usize> {
        match &self.0 {
            Kind::Grammar(_) => None,
            Kind::Markov(markov) => Some(markov.order()),
        }
    }

    /// The number of free parameters of a Markov chain, Σ (possible characters − 1) over its
    /// recurrent contexts; `None` for a grammar.
    pub fn free_parameters(&self) -> Option<usize> {
        match &self.0 {
            Kind::Grammar(_) => None,
            Kind::Markov(markov) => Some(markov.free_parameters()),
        }
    }

    /// The entropy rate in nats per character, in closed form.
    ///
    /// For a Markov chain it is Σ π(s) Σ -p(c|s) ln p(c|s), with π the stationary distribution of
    /// its contexts s. For a grammar it is the expected surprisal of a story's choices over its
    /// expected length: an upper bound, and exact if no text has two derivations.
    pub fn entropy_rate(&self) -> f64 {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.entropy_rate(),
            Kind::Markov(markov) => markov.entropy_rate(),
        }
    }
}
