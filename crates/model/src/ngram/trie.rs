//! The queryable form of a counted model: a forward trie in packed arrays, in memory or mapped from a file.
//!
//! Level k holds the k-grams in order of their words, so that the continuations of a context lie together: a point query
//! searches among them, and the whole distribution reads them in a row. What a gram and a context contribute is
//!
//! ```text
//! q(w | h) = value(hw) · scale(h) + backoff(h) · q(w | h')     hw seen, interpolated
//! q(w | h) = value(hw) · scale(h)                              hw seen, backed off
//! q(w | h) = backoff(h) · q(w | h')                            hw unseen, h a context
//! q(w | h) = missing · q(w | h')                               h never seen as a context (missing = 1 for a distribution)
//! ```
//!
//! with h' the context without its first word, and level 1 holding q(w) itself. Values and (scale, backoff) pairs are
//! few, because counts are: an element stores the index of its value, in as many bits as that needs, and the table holds
//! it as an f64. Nothing is rounded, and the sum over all words is one to the last digits of an f64.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::MAX_ORDER;
use super::packed::{Bytes, Offsets, Packed, bits_for, offsets_len, pack, pack_offsets, packed_len};
use crate::{Error, Result};

/// How a seen gram's value and the lower order combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The value is added to what backs off.
    Interpolate,
    /// A seen gram is its value alone.
    BackOff,
    /// Only the longest context speaks; what it leaves goes to the uniform distribution (add-k).
    Longest,
}

/// What a context does with its words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// Multiplies the values of the grams seen in it.
    pub scale: f64,
    /// Multiplies the lower order.
    pub backoff: f64,
}

impl Weight {
    /// A context that was never followed by anything: the lower order answers.
    pub const NONE: Self = Self { scale: 0.0, backoff: 1.0 };
}

/// One order, unpacked. Level 1 has an entry for every word of the vocabulary, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The last word of each gram; grams are sorted by all their words. Not kept for level 1.
    pub words: Vec<u32>,
    /// The continuations of gram i are `starts[i]..starts[i + 1]` of the next level; empty at the highest order.
    pub starts: Vec<u32>,
    /// Index into `numerators` of each gram.
    pub values: Vec<u32>,
    /// The different values.
    pub numerators: Vec<f64>,
    /// Index into `weights` of each gram as a context; empty at the highest order.
    pub contexts: Vec<u32>,
    /// The different weights.
    pub weights: Vec<Weight>,
}

/// The shape of a [`Trie`]: with the bytes of its sections, all there is to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`, which is context only.
    pub bos: Option<u32>,
    /// How values and lower orders combine.
    pub combine: Combine,
    /// What the lower order is multiplied by where the context was never seen.
    pub missing: f64,
    /// Whether every gram's suffix is a gram too, so that a word unseen in a context is unseen in every longer one.
    pub complete: bool,
    /// One entry an order.
    pub levels: Vec<LevelHeader>,
}

/// The shape of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelHeader {
    /// How many grams.
    pub grams: u32,
    /// How many different values.
    pub values: u32,
    /// How many different weights.
    pub weights: u32,
}

/// The sections of one order, in this sequence.
pub const SECTIONS: usize = 7;

/// A counted model that answers queries.
#[derive(Debug, Clone)]
pub struct Trie {
    header: Header,
    levels: Vec<Level>,
}

#[derive(Debug, Clone)]
struct Level {
    words: Bytes,
    values: Bytes,
    numerators: Vec<f64>,
    contexts: Bytes,
    weights: Vec<Weight>,
    unary: Bytes,
    samples: Bytes,
}

impl Trie {
    /// Packs `tables`, one an order.
    ///
    /// # Errors
    /// [`Error::Config`] when the tables do not fit together.
    pub fn pack(
        vocab_size: u32,
        bos: Option<u32>,
        combine: Combine,
        missing: f64,
        complete: bool,
        tables: Vec<Table>,
    ) -> Result<Self> {
        let header = Header {
            vocab_size,
            bos,
            combine,
            missing,
            complete,
            levels: tables
                .iter()
                .map(|table| LevelHeader {
                    grams: table.values.len() as u32,
                    values: table.numerators.len() as u32,
                    weights: table.weights.len() as u32,
                })
                .collect(),
        };
        header.check()?;
        let order = tables.len();
        let pack_level = |(index, table): (usize, Table)| {
            let bits = header.bits(index);
            let numbers = |values: &[u32], bits| pack(bits, values.iter().map(|&value| u64::from(value)));
            let words = if index == 0 { Vec::new() } else { numbers(&table.words, bits.word) };
            let (contexts, offsets) = if index + 1 < order {
                (numbers(&table.contexts, bits.context), pack_offsets(&table.starts))
            } else {
                (Vec::new(), pack_offsets(&[]))
            };
            let top = index + 1 == order;
            Level {
                words: words.into(),
                values: numbers(&table.values, bits.value).into(),
                numerators: table.numerators,
                contexts: contexts.into(),
                weights: table.weights,
                unary: if top { Vec::new() } else { offsets.unary }.into(),
                samples: if top { Vec::new() } else { offsets.samples }.into(),
            }
        };
        let levels = tables.into_par_iter().enumerate().map(pack_level).collect();
        Ok(Self { header, levels })
    }

    /// A trie from its header and sections, as [`Self::sections`] gave them.
    ///
    /// # Errors
    /// [`Error::Config`] when a section is not as long as the header says. What the sections hold is not looked at: no
    /// content makes a query panic.
    pub fn from_sections(header: Header, sections: &[Bytes]) -> Result<Self> {
        header.check()?;
        let wanted = header.section_lens()?;
        if wanted.len() != sections.len() {
            return Err(wrong(format!("there are {} sections, not {}", sections.len(), wanted.len())));
        }
        if let Some(i) = (0..wanted.len()).find(|&i| sections[i].as_slice().len() != wanted[i]) {
            let got = sections[i].as_slice().len();
            return Err(wrong(format!("section {i} has {got} bytes, not {}", wanted[i])));
        }
        let level = |parts: &[Bytes]| Level {
            words: parts[0].clone(),
            values: parts[1].clone(),
            numerators: floats(parts[2].as_slice()),
            contexts: parts[3].clone(),
            weights: floats(parts[4].as_slice())
                .chunks_exact(2)
                .map(|pair| Weight { scale: pair[0], backoff: pair[1] })
                .collect(),
            unary: parts[5].clone(),
            samples: parts[6].clone(),
        };
        let levels: Vec<Level> = sections.chunks_exact(SECTIONS).map(level).collect();
        let usable = |x: f64| x.is_finite() && x >= 0.0;
        for (index, level) in levels.iter().enumerate() {
            let weights = level.weights.iter().flat_map(|weight| [weight.scale, weight.backoff]);
            if !level.numerators.iter().copied().chain(weights).all(usable) {
                return Err(wrong(format!("a value of order {} is no probability", index + 1)));
            }
        }
        Ok(Self { header, levels })
    }

    /// The shape.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of every section: [`SECTIONS`] an order. What is large is shared, not copied.
    pub fn sections(&self) -> Vec<Bytes> {
        let little = |values: Vec<f64>| {
            Bytes::from(values.into_iter().flat_map(f64::to_le_bytes).collect::<Vec<u8>>())
        };
        self.levels
            .iter()
            .flat_map(|level| {
                let weights =
                    level.weights.iter().flat_map(|weight| [weight.scale, weight.backoff]).collect();
                [
                    level.words.clone(),
                    level.values.clone(),
                    little(level.numerators.clone()),
                    level.contexts.clone(),
                    little(weights),
                    level.unary.clone(),
                    level.samples.clone(),
                ]
            })
            .collect()
    }

    /// The longest gram.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// How many grams of `order` words there are.
    pub fn grams(&self, order: usize) -> usize {
        self.header.levels.get(order - 1).map_or(0, |level| level.grams as usize)
    }

    /// A view to ask questions of.
    pub fn view(&self) -> View<'_> {
        let levels = self.levels.iter().enumerate().map(|(index, level)| {
            let bits = self.header.bits(index);
            let grams = self.header.levels[index].grams as usize;
            let above = self.header.levels.get(index + 1).map_or(0, |next| next.grams as usize);
            LevelView {
                grams,
                words: Packed::new(level.words.as_slice(), bits.word),
                values: Packed::new(level.values.as_slice(), bits.value),
                numerators: &level.numerators,
                contexts: Packed::new(level.contexts.as_slice(), bits.context),
                weights: &level.weights,
                offsets: Offsets::new(level.unary.as_slice(), level.samples.as_slice(), grams, above),
                above,
            }
        });
        View { header: &self.header, levels: levels.collect() }
    }

    /// Back to tables.
    pub fn unpack(&self) -> Vec<Table> {
        let view = self.view();
        let table = |index: usize| {
            let (level, top) = (&view.levels[index], index + 1 == view.levels.len());
            let all = |packed: Packed<'_>| (0..level.grams).map(|i| packed.get(i) as u32).collect();
            let mut starts = Vec::new();
            if !top {
                starts.push(0);
                starts.extend((0..level.grams).map(|node| level.children(node).end as u32));
            }
            Table {
                words: if index == 0 { Vec::new() } else { all(level.words) },
                starts,
                values: all(level.values),
                numerators: level.numerators.to_vec(),
                contexts: if top { Vec::new() } else { all(level.contexts) },
                weights: level.weights.to_vec(),
            }
        };
        (0..view.levels.len()).map(table).collect()
    }
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|&chunk| f64::from_le_bytes(chunk)).collect()
}

fn wrong(message: String) -> Error {
    Error::Config { message }
}

struct Bits {
    word: u32,
    value: u32,
    context: u32,
}

impl Header {
    fn bits(&self, index: usize) -> Bits {
        let largest = |n: u32| bits_for(u64::from(n.saturating_sub(1)));
        let level = self.levels[index];
        Bits { word: largest(self.vocab_size), value: largest(level.values), context: largest(level.weights) }
    }

    fn check(&self) -> Result<()> {
        if !(1..=MAX_ORDER).contains(&self.levels.len()) {
            return Err(wrong(format!("an order of {}, not from 1 to {MAX_ORDER}", self.levels.len())));
        }
        if self.levels[0].grams != self.vocab_size {
            return Err(wrong(format!("{} unigrams for {} words", self.levels[0].grams, self.vocab_size)));
        }
        if self.bos.is_some_and(|bos| bos >= self.vocab_size) {
            return Err(wrong("<s> lies outside the vocabulary".into()));
        }
        if !(self.missing.is_finite() && self.missing >= 0.0) {
            return Err(wrong(format!("a factor of {} for unseen contexts", self.missing)));
        }
        Ok(())
    }

    /// How many bytes each section has.
    ///
    /// # Errors
    /// [`Error::Config`] for a shape that no memory could hold.
    pub fn section_lens(&self) -> Result<Vec<usize>> {
        let too_large = || wrong("the sizes are impossible".into());
        let mut lens = Vec::new();
        for (index, level) in self.levels.iter().enumerate() {
            let bits = self.bits(index);
            let grams = u64::from(level.grams);
            let above = self.levels.get(index + 1).map(|next| u64::from(next.grams));
            let (unary, samples) = match above {
                Some(above) => offsets_len(grams, above).ok_or_else(too_large)?,
                None => (0, 0),
            };
            let packed = |bits| packed_len(bits, grams).ok_or_else(too_large);
            lens.extend([
                if index == 0 { 0 } else { packed(bits.word)? },
                packed(bits.value)?,
                level.values as usize * 8,
                if above.is_some() { packed(bits.context)? } else { 0 },
                level.weights as usize * 16,
                unary,
                samples,
            ]);
        }
        Ok(lens)
    }
}

/// A [`Trie`] with its sections at hand.
#[derive(Debug, Clone)]
pub struct View<'a> {
    header: &'a Header,
    levels: Vec<LevelView<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct LevelView<'a> {
    grams: usize,
    words: Packed<'a>,
    values: Packed<'a>,
    numerators: &'a [f64],
    contexts: Packed<'a>,
    weights: &'a [Weight],
    offsets: Offsets<'a>,
    above: usize,
}

impl LevelView<'_> {
    #[inline]
    fn value(&self, gram: usize) -> f64 {
        self.numerators.get(self.values.get(gram) as usize).copied().unwrap_or(0.0)
    }

    #[inline]
    fn weight(&self, gram: usize) -> Weight {
        self.weights.get(self.contexts.get(gram) as usize).copied().unwrap_or(Weight::NONE)
    }

    #[inline]
    fn children(&self, node: usize) -> std::ops::Range<usize> {
        let range = self.offsets.children(node);
        range.start.min(self.above)..range.end.min(self.above)
    }

    /// The gram of `word` among `range`.
    #[inline]
    fn find(&self, range: std::ops::Range<usize>, word: u32) -> Option<usize> {
        let (mut low, mut len) = (range.start, range.len());
        if len == 0 {
            return None;
        }
        // Halving without a branch that depends on the data.
        while len > 1 {
            let half = len / 2;
            let right = self.words.get(low + half) <= u64::from(word);
            low = if right { low + half } else { low };
            len -= half;
        }
        (self.words.get(low) == u64::from(word)).then_some(low)
    }
}

/// No node.
const NONE: u32 = u32::MAX;

/// What a model remembers of the text so far: the grams that it ends with, shortest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    nodes: [u32; MAX_ORDER - 1],
    len: usize,
}

impl State {
    /// Before any text.
    pub const EMPTY: Self = Self { nodes: [NONE; MAX_ORDER - 1], len: 0 };

    /// The longest context of this text that the model knows, in words.
    pub fn known(&self) -> usize {
        (0..self.len).rev().find(|&i| self.nodes[i] != NONE).map_or(0, |i| i + 1)
    }
}

/// A word's probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// q(w | context).
    pub probability: f64,
    /// How many words the longest gram has that ends with it.
    pub matched: usize,
}

impl View<'_> {
    /// The longest gram.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// q(`word`) without context.
    #[inline]
    pub fn unigram(&self, word: u32) -> f64 {
        self.levels[0].value(word as usize)
    }

    /// 1 / (how many words can be predicted).
    pub fn uniform(&self) -> f64 {
        1.0 / f64::from((self.header.vocab_size - u32::from(self.header.bos.is_some())).max(1))
    }

    /// q(`word` | the text that led to `state`), and the state after the word.
    #[inline]
    pub fn score(&self, state: &State, word: u32) -> (Score, State) {
        let Header { combine, missing, complete, .. } = *self.header;
        let order = self.levels.len();
        let mut next = State::EMPTY;
        let mut score = Score { probability: self.unigram(word), matched: 1 };
        if order > 1 {
            next.nodes[0] = word;
        }
        if Some(word) == self.header.bos {
            // A sentence begins, and nothing before it counts.
            next.len = 1.min(order - 1);
            return (Score { probability: 0.0, matched: 1 }, next);
        }
        next.len = (state.len + 1).min(order - 1);
        if combine == Combine::Longest && state.len > 0 {
            score.probability = self.uniform();
        }
        for (len, &node) in state.nodes[..state.len].iter().enumerate() {
            if node == NONE {
                if complete && missing == 1.0 {
                    break;
                }
                score.probability *= missing;
                continue;
            }
            let (level, above) = (&self.levels[len], &self.levels[len + 1]);
            let weight = level.weight(node as usize);
            let found = if complete && score.matched <= len {
                None
            } else {
                above.find(level.children(node as usize), word)
            };
            let speaks = combine != Combine::Longest || len + 1 == state.len;
            if speaks {
                score.probability = match found {
                    Some(gram) if combine == Combine::BackOff => above.value(gram) * weight.scale,
                    Some(gram) => above.value(gram) * weight.scale + weight.backoff * score.probability,
                    None => weight.backoff * score.probability,
                };
            }
            if let Some(gram) = found {
                score.matched = len + 2;
                if len + 1 < order - 1 {
                    next.nodes[len + 1] = gram as u32;
                }
            }
        }
        (score, next)
    }

    /// ln q of each of `words`, read on from `state`.
    pub fn log_probs(&self, state: &mut State, words: &[u32]) -> Vec<f64> {
        let score = |&word: &u32| {
            let (score, next) = self.score(state, word);
            *state = next;
            score.probability.ln()
        };
        words.iter().map(score).collect()
    }

    /// The state after `context`, which needs no more than its last words.
    pub fn state_after(&self, context: &[u32]) -> State {
        let order = self.levels.len();
        let mut state = State::EMPTY;
        let mut used = &context[context.len() - context.len().min(order - 1)..];
        if let Some(bos) = self.header.bos
            && let Some(at) = used.iter().rposition(|&word| word == bos)
        {
            used = &used[at..];
        }
        for len in 1..=used.len() {
            // The gram of the last `len` words, from its first word on.
            let gram = &used[used.len() - len..];
            state.nodes[len - 1] = self.find(gram).map_or(NONE, |node| node as u32);
        }
        state.len = used.len();
        state
    }

    /// The index of `gram` among those of its length.
    pub fn find(&self, gram: &[u32]) -> Option<usize> {
        let (&first, rest) = gram.split_first()?;
        let mut node = (first < self.header.vocab_size).then_some(first as usize)?;
        for (len, &word) in rest.iter().enumerate() {
            node = self.levels.get(len + 1)?.find(self.levels[len].children(node), word)?;
        }
        Some(node)
    }

    /// The continuations of the context at `state` of `len` words (from 1): words, and their grams' indices.
    pub fn continuations(&self, state: &State, len: usize) -> Vec<(u32, usize)> {
        let Some(&node) = state.nodes[..state.len].get(len - 1).filter(|&&node| node != NONE) else {
            return Vec::new();
        };
        let above = &self.levels[len];
        self.levels[len - 1]
            .children(node as usize)
            .map(|gram| (above.words.get(gram) as u32, gram))
            .collect()
    }

    /// Writes ln q(· | the text that led to `state`) to `out`, of length |V|; `log_unigrams` is ln q(·) without context.
    ///
    /// Instead of |V| point queries, the unigrams are scaled once by all that backs off (an addition to their logarithms),
    /// and only words that were seen in one of the contexts are computed: with B the product of the backoffs so far, each
    /// keeps q / B, to which a longer context only adds.
    pub fn distribution(&self, state: &State, log_unigrams: &[f64], out: &mut [f64]) {
        let Header { combine, missing, bos, .. } = *self.header;
        let uniform = (combine == Combine::Longest && state.len > 0).then(|| self.uniform());
        let mut factor = 1.0_f64;
        // Whether words that no context has seen have any probability left.
        let mut rest = true;
        // Seen words with q / factor; until the end, `out` holds where in this list a word is, counted from 1.
        let mut seen: Vec<(u32, f64)> = Vec::new();
        out.fill(0.0);
        for (len, &node) in state.nodes[..state.len].iter().enumerate() {
            if combine == Combine::Longest && len + 1 < state.len {
                continue;
            }
            if node == NONE {
                factor *= missing;
                continue;
            }
            let (level, above) = (&self.levels[len], &self.levels[len + 1]);
            let weight = level.weight(node as usize);
            if weight.backoff > 0.0 {
                factor *= weight.backoff;
            } else {
                // Nothing of the lower orders is left: start anew.
                seen.drain(..).for_each(|(word, _)| out[word as usize] = 0.0);
                (factor, rest) = (1.0, false);
            }
            for gram in level.children(node as usize) {
                let word = above.words.get(gram) as u32;
                let Some(place) = out.get_mut(word as usize) else { continue };
                let share = above.value(gram) * weight.scale / factor;
                if *place == 0.0 {
                    let lower = if rest { uniform.unwrap_or_else(|| self.unigram(word)) } else { 0.0 };
                    seen.push((word, lower));
                    *place = seen.len() as f64;
                }
                let ratio = &mut seen[*place as usize - 1].1;
                *ratio = if combine == Combine::BackOff { share } else { *ratio + share };
            }
        }
        let log_factor = if rest { factor.ln() } else { f64::NEG_INFINITY };
        match uniform {
            Some(uniform) => out.fill(log_factor + uniform.ln()),
            None => out.iter_mut().zip(log_unigrams).for_each(|(out, unigram)| *out = log_factor + unigram),
        }
        for (word, ratio) in seen {
            out[word as usize] = (ratio * factor).ln();
        }
        if let Some(bos) = bos {
            out[bos as usize] = f64::NEG_INFINITY;
        }
    }
}
