//! The forward algorithm: the probability of a text, over all the ways in which it can have been written.
//!
//! α(s), the probability of the text so far and of standing in state s, is kept for the states where it is not zero. After a
//! choice there are as many as there are alternatives; after a few characters nearly always one again.

use super::automaton::{Automaton, Memory, Node, START};
use crate::{Error, Result};

/// The most states followed at once.
const MAX_STATES: usize = 1 << 16;

/// In the middle of what `node` writes, with what is remembered.
#[derive(Clone, Copy, Debug)]
struct State {
    node: u32,
    /// The bytes of the node's text that have been written.
    written: u32,
    memory: Memory,
    /// α, scaled so that the sum over all states is 1 after each character.
    alpha: f64,
}

pub(super) struct Forward<'a> {
    automaton: &'a Automaton,
    states: Vec<State>,
    next: Vec<State>,
    /// ln of the product of the scales.
    log_probability: f64,
}

impl<'a> Forward<'a> {
    pub(super) fn new(automaton: &'a Automaton) -> Result<Self> {
        let mut states = Vec::new();
        add_reachable(automaton, START, Memory::default(), 1.0, &mut states, 0)?;
        Ok(Self { automaton, states, next: Vec::new(), log_probability: 0.0 })
    }

    /// ln p(the text so far).
    pub(super) fn log_probability(&self) -> f64 {
        self.log_probability
    }

    /// Whether the last byte could not come.
    pub(super) fn is_impossible(&self) -> bool {
        self.states.is_empty()
    }

    /// The characters that can come next, in their order, with their probabilities.
    pub(super) fn next(&self) -> Result<Vec<(char, f64)>> {
        let mut by_byte = [0.0; 128];
        for state in &self.states {
            let text = self.automaton.text(state.node, state.memory).as_bytes();
            let byte = text.get(state.written as usize).copied().unwrap_or(u8::MAX);
            *by_byte.get_mut(byte as usize).ok_or(Error::NotAscii)? += state.alpha;
        }
        let total: f64 = by_byte.iter().sum();
        let possible = by_byte.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        Ok(possible.map(|(byte, weight)| (byte as u8 as char, weight / total)).collect())
    }

    /// Reads one more byte, which stands at `offset`. Over bytes the result is the same as over characters.
    pub(super) fn advance(&mut self, byte: u8, offset: usize) -> Result<()> {
        self.next.clear();
        let mut entered = false;
        for state in &self.states {
            let text = self.automaton.text(state.node, state.memory).as_bytes();
            if text.get(state.written as usize) != Some(&byte) {
                continue;
            }
            let written = state.written + 1;
            if (written as usize) < text.len() {
                self.next.push(State { written, ..*state });
            } else if let Node::Text { next, .. } | Node::Cell { next, .. } =
                self.automaton.nodes[state.node as usize]
            {
                add_reachable(self.automaton, next, state.memory, state.alpha, &mut self.next, offset)?;
                entered = true;
            }
        }
        std::mem::swap(&mut self.states, &mut self.next);
        // Two ways can meet only where a node is entered.
        if entered {
            self.merge();
        }
        let total: f64 = self.states.iter().map(|state| state.alpha).sum();
        self.log_probability += total.ln();
        for state in &mut self.states {
            state.alpha /= total;
        }
        Ok(())
    }

    /// Adds up the states that are the same.
    fn merge(&mut self) {
        // Stable, so that sums are always taken in the same order.
        self.states.sort_by_key(|state| (state.node, state.written, state.memory));
        self.states.dedup_by(|later, earlier| {
            let same =
                (later.node, later.written, later.memory) == (earlier.node, earlier.written, earlier.memory);
            if same {
                earlier.alpha += later.alpha;
            }
            same
        });
    }
}

/// Adds the writing nodes that are reached from `node` without writing. Ends, as no story is empty.
fn add_reachable(
    automaton: &Automaton,
    node: u32,
    memory: Memory,
    weight: f64,
    states: &mut Vec<State>,
    offset: usize,
) -> Result<()> {
    let mut pending = vec![(node, memory, weight)];
    while let Some((node, memory, weight)) = pending.pop() {
        if states.len() + pending.len() >= MAX_STATES {
            return Err(Error::Ambiguous { offset, limit: MAX_STATES });
        }
        match &automaton.nodes[node as usize] {
            Node::Text { .. } | Node::Cell { .. } => {
                states.push(State { node, written: 0, memory, alpha: weight })
            }
            Node::Choice(choices) => {
                pending
                    .extend(choices.iter().map(|(probability, next)| (*next, memory, weight * probability)));
            }
            Node::Draw { variable, next, .. } => {
                let rows = automaton.rows(node, automaton.excluded(node, memory));
                pending.extend(
                    rows.map(|(row, probability)| (*next, memory.with(*variable, row), weight * probability)),
                );
            }
        }
    }
    Ok(())
}
