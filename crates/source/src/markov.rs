//! A Markov chain over characters: the next character depends on the last `order` ones.
//!
//! ```text
//! markov
//! order 2
//! start "\n"                   # the stream starts as if after a line
//! "a": 3 "n" 2 "r" " "         # after a, for any character before it
//! "ta": 5 "l" "n"              # but after ta, this
//! ```
//!
//! The longest matching context is used. Some context must be reachable from every context; then
//! the chain has one stationary distribution π, and the entropy rate is Σ π(s) H(row of s).

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Error, Result, Visit,
    lexer::{Line, Token},
};

const MAX_ORDER: usize = 8;
const MAX_STATES: usize = 512;

/// A chain whose states are the reachable contexts; state 0 is the start.
#[derive(Debug)]
pub struct Markov {
    order: usize,
    rows: Vec<Vec<Transition>>,
    /// The recurrent class: states that lead to each other and to no others.
    recurrent: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Transition {
    character: char,
    probability: f64,
    to: usize,
}

impl Markov {
    pub(super) fn parse(lines: &[Line]) -> Result<Self> {
        let (mut order, mut start) = (None, None);
        let mut contexts = BTreeMap::new();
        for line in lines {
            match line.tokens.as_slice() {
                [Token::Word(word), Token::Weight(value)] if word == "order" && order.is_none() => {
                    let whole = (1..=MAX_ORDER).find(|order| (*order as f64).total_cmp(value).is_eq());
                    let problem = || Error::parse(line.number, format!("the order is 1 to {MAX_ORDER}"));
                    order = Some(whole.ok_or_else(problem)?);
                }
                [Token::Word(word), Token::Text(text)] if word == "start" && start.is_none() => {
                    start = Some(text.clone());
                }
                [Token::Text(context), Token::Colon, row @ ..] if !row.is_empty() => {
                    let row = parse_row(line, row)?;
                    if contexts.insert(context.clone(), row).is_some() {
                        let problem = format!("the context \"{}\" is a duplicate", context.escape_debug());
                        return Err(Error::parse(line.number, problem));
                    }
                }
                _ => {
                    let problem = "this is neither `order N`, `start \"...\"` nor `\"context\": WEIGHT \"character\" ...`";
                    return Err(Error::parse(line.number, problem));
                }
            }
        }
        let last = lines.last().map_or(1, |line| line.number);
        let missing = |what: &str| Error::parse(last, format!("the source has no `{what}`"));
        let (order, start) = (order.ok_or_else(|| missing("order"))?, start.ok_or_else(|| missing("start"))?);
        Self::compile(order, &start, &contexts).map_err(|problem| Error::parse(last, problem))
    }

    /// Numbers the reachable contexts breadth first from the start.
    fn compile(
        order: usize,
        start: &str,
        contexts: &BTreeMap<String, Vec<(char, f64)>>,
    ) -> Result<Self, String> {
        let mut states = vec![suffix(start, order).to_owned()];
        let mut numbers = BTreeMap::from([(states[0].clone(), 0)]);
        let mut rows = Vec::new();
        while rows.len() < states.len() {
            let context = states[rows.len()].clone();
            let row = (0..=context.len())
                .filter(|index| context.is_char_boundary(*index))
                .find_map(|index| contexts.get(&context[index..]))
                .ok_or_else(|| format!("no context matches \"{}\"", context.escape_debug()))?;
            let total: f64 = row.iter().map(|(_, weight)| weight).sum();
            let mut transitions = Vec::new();
            for (character, weight) in row {
                let next = suffix(&format!("{context}{character}"), order).to_owned();
                let to = *numbers.entry(next.clone()).or_insert_with(|| {
                    states.push(next);
                    states.len() - 1
                });
                transitions.push(Transition { character: *character, probability: weight / total, to });
            }
            if states.len() > MAX_STATES {
                return Err(format!("the chain has more than {MAX_STATES} contexts"));
            }
            rows.push(transitions);
        }
        // If a class can be reached from every state, its states lead to no root outside it and to
        // every root inside it, so the last root is inside.
        let reachable: Vec<_> = (0..rows.len()).map(|state| reachable(&rows, state)).collect();
        let root = (0..rows.len()).fold(0, |root, state| if reachable[state][root] { root } else { state });
        if let Some(state) = (0..rows.len()).find(|state| !reachable[*state][root]) {
            return Err(format!(
                "there is no way to \"{1}\" from \"{0}\": the file has two separate chains",
                states[state].escape_debug(),
                states[root].escape_debug()
            ));
        }
        let recurrent = (0..rows.len()).filter(|state| reachable[root][*state]).collect();
        Ok(Self { order, rows, recurrent })
    }

    /// A text of at least `min_bytes` bytes that ends with a line if the chain has line ends.
    pub fn sample(&self, seed: u64, min_bytes: usize) -> String {
        let mut recurring = self.recurrent.iter().flat_map(|state| &self.rows[*state]);
        let has_lines = recurring.any(|step| step.character == '\n');
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut text = String::with_capacity(min_bytes + 64);
        let mut state = 0;
        while text.len() < min_bytes || (has_lines && !text.is_empty() && !text.ends_with('\n')) {
            let row = &self.rows[state];
            let mut left: f64 = random.random();
            // A remainder from rounding goes to the last one.
            let drawn = row.iter().find(|step| {
                left -= step.probability;
                left < 0.0
            });
            let Some(step) = drawn.or(row.last()) else { break };
            text.push(step.character);
            state = step.to;
        }
        text
    }

    /// Follows the states of `prefix` and `text`; `visit` gets the row and the step of each
    /// character of `text`.
    fn follow(
        &self,
        prefix: &str,
        text: &str,
        mut visit: impl FnMut(&[Transition], &Transition) -> Result<()>,
    ) -> Result<()> {
        let mut state = 0;
        let characters =
            prefix.char_indices().chain(text.char_indices().map(|(at, c)| (prefix.len() + at, c)));
        for (offset, character) in characters {
            let row = &self.rows[state];
            let step = row.iter().find(|step| step.character == character);
            let step = step.ok_or_else(|| Error::impossible(prefix, text, offset))?;
            if offset >= prefix.len() {
                visit(row, step)?;
            }
            state = step.to;
        }
        Ok(())
    }

    /// -ln p(`text` | `prefix`): the sum over the steps.
    pub(super) fn nats(&self, prefix: &str, text: &str) -> Result<f64> {
        let mut nats = 0.0;
        self.follow(prefix, text, |_, step| {
            nats -= step.probability.ln();
            Ok(())
        })?;
        Ok(nats)
    }

    /// The number of characters in a full context.
    pub(super) fn order(&self) -> usize {
        self.order
    }

    /// Σ (possible characters − 1) over the recurrent contexts.
    pub(super) fn free_parameters(&self) -> usize {
        self.recurrent.iter().map(|state| self.rows[*state].len() - 1).sum()
    }

    /// Calls `visit` with the next-character distribution at each position of `text`.
    pub(super) fn predictions(&self, prefix: &str, text: &str, visit: &mut Visit<'_>) -> Result<()> {
        self.follow(prefix, text, |row, _| {
            let next: Vec<(char, f64)> = row.iter().map(|step| (step.character, step.probability)).collect();
            if next.iter().any(|(character, _)| !character.is_ascii()) {
                return Err(Error::NotAscii);
            }
            visit(&next);
            Ok(())
        })
    }

    /// The entropy rate Σ π(s) H(row of s), in nats per character.
    pub fn entropy_rate(&self) -> f64 {
        let entropy = |state: &usize| {
            self.rows[*state].iter().map(|step| -step.probability * step.probability.ln()).sum::<f64>()
        };
        self.stationary().iter().zip(&self.recurrent).map(|(share, state)| share * entropy(state)).sum()
    }

    /// The stationary distribution over the recurrent states, in their order, by state reduction,
    /// which has no subtractions and so no cancellation (Grassmann, Taksar and Heyman,
    /// "Regenerative analysis and steady state distributions for Markov chains", 1985).
    fn stationary(&self) -> Vec<f64> {
        let n = self.recurrent.len();
        let mut p = vec![vec![0.0; n]; n];
        for (from, state) in self.recurrent.iter().enumerate() {
            for step in &self.rows[*state] {
                if let Ok(to) = self.recurrent.binary_search(&step.to) {
                    p[from][to] += step.probability;
                }
            }
        }
        for last in (1..n).rev() {
            let out: f64 = p[last][..last].iter().sum();
            let leaving = p[last].clone();
            for row in &mut p[..last] {
                row[last] /= out;
                for to in 0..last {
                    row[to] += row[last] * leaving[to];
                }
            }
        }
        let mut share = vec![1.0; n];
        for state in 1..n {
            share[state] = (0..state).map(|from| share[from] * p[from][state]).sum();
        }
        let total: f64 = share.iter().sum();
        share.iter().map(|share| share / total).collect()
    }
}

/// Whether each state can be reached from `start`, which itself can.
fn reachable(rows: &[Vec<Transition>], start: usize) -> Vec<bool> {
    let mut reached = vec![false; rows.len()];
    let mut pending = vec![start];
    reached[start] = true;
    while let Some(state) = pending.pop() {
        for step in &rows[state] {
            if !std::mem::replace(&mut reached[step.to], true) {
                pending.push(step.to);
            }
        }
    }
    reached
}

fn parse_row(line: &Line, tokens: &[Token]) -> Result<Vec<(char, f64)>> {
    let mut row: Vec<(char, f64)> = Vec::new();
    for (weight, text) in line.weighted(tokens)? {
        let mut characters = text.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else {
            return Err(Error::parse(
                line.number,
                format!("\"{}\" is not one character", text.escape_debug()),
            ));
        };
        if row.iter().any(|(known, _)| *known == character) {
            return Err(Error::parse(
                line.number,
                format!("\"{}\" is a duplicate", character.escape_debug()),
            ));
        }
        row.push((character, weight));
    }
    Ok(row)
}

/// The last `count` characters.
fn suffix(text: &str, count: usize) -> &str {
    let start = text.char_indices().rev().nth(count - 1).map_or(0, |(index, _)| index);
    &text[start..]
}
