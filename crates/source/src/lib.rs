//! Sources of known entropy: where the text comes from a program, its exact probability is known, and so is the least
//! cross-entropy that any model can reach on it.
//!
//! A source is an endless stream of characters. Every sample of it can be scored under the source itself, -ln p(text | what came
//! before), exactly, by the forward algorithm (Rabiner, "A tutorial on hidden Markov models", 1989, section III.A): this is the
//! H(p) of H(p, q) = H(p) + KL(p‖q), and what a model's loss has above it is the model's own error.
//!
//! Two kinds, both read from small text files (`data/README.md` describes the format):
//! - [`grammar`]: stories told by weighted choices, with characters who are remembered and referred to;
//! - [`markov`]: a Markov chain over characters, whose entropy rate has a closed form.

mod error;
pub mod grammar;
mod lexer;
pub mod markov;

pub use error::{Error, Result};

use self::{grammar::Grammar, lexer::Token, markov::Markov};

/// The sources that are part of the program: name and text.
const EMBEDDED: &[(&str, &str)] = &[
    ("stories", include_str!("../sources/stories.source")),
    ("babble", include_str!("../sources/babble.source")),
];

/// What is told of each place of a text: the characters that can come there, with their probabilities.
pub type Visit<'a> = dyn FnMut(&[(char, f64)]) + 'a;

/// A program that writes text, and knows how probable each text is.
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
        const NAMES: &[&str] = &[EMBEDDED[0].0, EMBEDDED[1].0];
        NAMES
    }

    /// The embedded source of this name, if there is one.
    pub fn embedded(name: &str) -> Option<Self> {
        let (_, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        Self::parse(text).ok()
    }

    /// Reads a source file: its first word, `grammar` or `markov`, says which kind it is.
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

    /// A text of at least `min_bytes` bytes that ends where a story or a line does; the same for the same seed on every machine.
    pub fn sample(&self, seed: u64, min_bytes: usize) -> String {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.sample(seed, min_bytes),
            Kind::Markov(markov) => markov.sample(seed, min_bytes),
        }
    }

    /// -ln p(`text` | `prefix`) in nats: the probability that the stream, having begun with `prefix`, goes on with `text`.
    ///
    /// Both may be cut anywhere. An empty prefix is the beginning of the stream. Takes time linear in both lengths.
    ///
    /// # Errors
    /// [`Error::Impossible`] with the place where the source cannot have written this.
    pub fn nats(&self, prefix: &str, text: &str) -> Result<f64> {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.nats(prefix, text),
            Kind::Markov(markov) => markov.nats(prefix, text),
        }
    }

    /// p(· | everything before) for every character of `text`, which comes after `prefix`: `visit` is given the characters
    /// that can come there with their probabilities, which sum to one.
    ///
    /// # Errors
    /// [`Error::Impossible`], as [`Self::nats`]; [`Error::NotAscii`] for a source that writes anything else, as then a byte is
    /// not a character.
    pub fn predictions(&self, prefix: &str, text: &str, visit: &mut Visit<'_>) -> Result<()> {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.predictions(prefix, text, visit),
            Kind::Markov(markov) => markov.predictions(prefix, text, visit),
        }
    }

    /// How many characters back a Markov chain remembers; `None` for a grammar, whose memory has no such bound.
    pub fn markov_order(&self) -> Option<usize> {
        match &self.0 {
            Kind::Grammar(_) => None,
            Kind::Markov(markov) => Some(markov.order()),
        }
    }

    /// The entropy rate in nats a character, in closed form.
    ///
    /// A Markov chain's is Σ π(s) Σ -p(c|s) ln p(c|s), with π the stationary distribution of its contexts s. A grammar's is the
    /// expected surprisal of a story's choices over its expected length; that is the entropy rate as long as no text has two
    /// derivations, and an upper bound otherwise.
    pub fn entropy_rate(&self) -> f64 {
        match &self.0 {
            Kind::Grammar(grammar) => grammar.entropy_rate(),
            Kind::Markov(markov) => markov.entropy_rate(),
        }
    }
}
