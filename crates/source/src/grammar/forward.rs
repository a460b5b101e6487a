//! The forward algorithm: the probability of a text, summed over all its derivations.
//!
//! α(s) is the joint probability of the text so far and state s, stored for the states where it is
//! not zero. A choice adds a state per alternative; a few characters later nearly always one is
//! left.

use super::automaton::{Automaton, Memory, Node, START};
use crate::{Error, Result};

/// The maximum number of states with α > 0.
const MAX_STATES: usize = 1 << 16;

/// A position within the text that `node` emits, with the variables' rows.
#[derive(Clone, Copy, Debug)]
struct State {
    node: u32,
    /// The number of bytes of the node's text so far.
    written: u32,
    memory: Memory,
    /// α, scaled after each byte so that the sum over all states is 1.
    alpha: f64,
}

pub(super) struct Forward<'a> {
    automaton: &'a Automaton,
    states: Vec<State>,
    next: Vec<State>,
    /// The logarithm of the product of the scales.
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

    /// Whether the last byte had probability zero.
    pub(super) fn is_impossible(&self) -> bool {
        self.states.is_empty()
    }

    /// The possible next characters, sorted, with their probabilities.
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

    /// Reads the byte at `offset`. The result over bytes is the same as over characters.
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
        // States can become equal only where a node is entered.
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

    /// Merges equal states.
    fn merge(&mut self) {
        // A stable sort, so that the order of the sums is fixed.
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

/// Adds the emitting nodes that are reachable from `node` through choices and draws. Terminates
/// because no story is empty.
fn add_reachable(
    automaton: &Automaton,
    node: u32,
    memory: Memory,
    alpha: f64,
    states: &mut Vec<State>,
    offset: usize,
) -> Result<()> {
    let mut pending = vec![(node, memory, alpha)];
    while let Some((node, memory, weight)) = pending.pop() {
        if states.len() + pending.len() >= MAX_STATES {
            return Err(Error::Ambiguous { offset, limit: MAX_STATES });
        }
        match &automaton.nodes[node as usize] {
            Node::Text { .. } | Node::Cell { .. } => {
                states.push(State { node, written: 0, memory, alpha: weight });
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
