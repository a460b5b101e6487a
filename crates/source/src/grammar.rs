//! Stories from weighted choices.
//!
//! ```text
//! grammar
//! start story
//!
//! table hero: name kind they
//!   3 "Mira" "fox" "she"
//!   2 "Otto" "bear" "he"
//!
//! rule story
//!   "<hero = hero><opening> <^hero.they> found <thing>.\n"
//! rule opening
//!   2 "Once there was a <hero.kind> called <hero.name>."
//!   1 "<hero.name> the <hero.kind> was hungry."
//! rule thing
//!   3 "a kettle" "a map" 2 "nothing"
//! ```
//!
//! A rule is a list of alternatives, each with its weight (default 1). In an alternative,
//! `<opening>` is another rule; `<hero = hero>` draws a row of a table and stores it in a variable;
//! `<friend = hero except hero>` draws a different row; `<hero.name>` is a cell of the stored row,
//! and `<^hero.name>` the same with a capital. When the start rule ends, it starts again.
//!
//! No rule can contain itself, so the grammar is a finite automaton (`automaton`), and the
//! probability of any text is computed in one pass (`forward`).

mod automaton;
mod entropy;
mod forward;
mod parser;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::{
    automaton::{Automaton, Memory, Node, START},
    forward::Forward,
};
use super::{Error, Result, Visit, lexer::Line};

/// A story grammar, compiled.
#[derive(Debug)]
pub struct Grammar {
    automaton: Automaton,
}

impl Grammar {
    pub(super) fn parse(lines: &[Line]) -> Result<Self> {
        Ok(Self { automaton: automaton::compile(&parser::parse(lines)?)? })
    }

    /// Whole stories of at least `min_bytes` bytes together.
    pub fn sample(&self, seed: u64, min_bytes: usize) -> String {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut text = String::with_capacity(min_bytes + 1024);
        let (mut node, mut memory) = (START, Memory::default());
        loop {
            if node == START && text.len() >= min_bytes {
                return text;
            }
            node = match &self.automaton.nodes[node as usize] {
                Node::Text { next, .. } | Node::Cell { next, .. } => {
                    text += self.automaton.text(node, memory);
                    *next
                }
                Node::Choice(choices) => choices[draw(&mut random, choices.iter().map(|choice| choice.0))].1,
                Node::Draw { variable, next, .. } => {
                    let rows: Vec<_> =
                        self.automaton.rows(node, self.automaton.excluded(node, memory)).collect();
                    memory = memory.with(*variable, rows[draw(&mut random, rows.iter().map(|row| row.1))].0);
                    *next
                }
            };
        }
    }

    /// The expected surprisal of a story's choices over its expected length, in nats per character.
    ///
    /// An upper bound on the entropy rate, exact if no text has two derivations.
    pub fn entropy_rate(&self) -> f64 {
        let story = entropy::expected(&self.automaton);
        story.nats / story.characters
    }

    /// Runs the forward algorithm over `prefix` and `text`, with a call of `visit` before each
    /// byte.
    fn forward(
        &self,
        prefix: &str,
        text: &str,
        mut visit: impl FnMut(usize, &Forward<'_>) -> Result<()>,
    ) -> Result<Forward<'_>> {
        let mut forward = Forward::new(&self.automaton)?;
        for (offset, byte) in prefix.bytes().chain(text.bytes()).enumerate() {
            visit(offset, &forward)?;
            forward.advance(byte, offset)?;
            if forward.is_impossible() {
                return Err(Error::impossible(prefix, text, offset));
            }
        }
        Ok(forward)
    }

    /// -ln p(`text` | `prefix`).
    pub(super) fn nats(&self, prefix: &str, text: &str) -> Result<f64> {
        let mut before = 0.0;
        let whole = self.forward(prefix, text, |offset, forward| {
            if offset == prefix.len() {
                before = forward.log_probability();
            }
            Ok(())
        })?;
        Ok(if text.is_empty() { 0.0 } else { before - whole.log_probability() })
    }

    /// Calls `visit` with the next-character distribution at each position of `text`.
    pub(super) fn predictions(&self, prefix: &str, text: &str, visit: &mut Visit<'_>) -> Result<()> {
        let next = |offset, forward: &Forward<'_>| {
            if offset >= prefix.len() {
                visit(&forward.next()?);
            }
            Ok(())
        };
        self.forward(prefix, text, next).map(drop)
    }
}

/// Draws an index with these probabilities, which sum to one.
fn draw(random: &mut ChaCha8Rng, probabilities: impl Iterator<Item = f64>) -> usize {
    let mut left: f64 = random.random();
    let mut last = 0;
    for (index, probability) in probabilities.enumerate() {
        last = index;
        left -= probability;
        if left < 0.0 {
            break;
        }
    }
    // A remainder from rounding goes to the last index.
    last
}
