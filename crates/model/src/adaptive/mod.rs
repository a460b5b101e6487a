//! A model that learns while it reads: the contexts of a text, counted as they come, and a frozen
//! model beside them, mixed by weights that are learnt online.
//!
//! A token is named by binary decisions, from the root of a tree to its leaf, so the probability of
//! a token is a product, and the tokens' sum to one whatever the decisions' are. A decision is
//! predicted as in Mahoney's PAQ and lpaq: in each context (the last n tokens for several n, words,
//! skipped tokens) a counter has a probability and the last outcomes; the logits of all counters,
//! of the longest repeat and of the frozen model are mixed by weights that depend on the context
//! and follow the gradient of the nats; adaptive probability maps correct the result. Nothing is
//! learnt from a token before all its decisions are predicted, so a distribution is a function of
//! the tokens before it.

mod counters;
mod frozen;
mod mixing;
mod tree;

use self::counters::{AdaptiveMap, Found, LEVELS, Slots};
pub use self::frozen::Frozen;
use self::frozen::Sums;
use self::mixing::{Apm, LANES, Logistic, MAX_LOGIT, Mixer};
use self::tree::{BitTree, Node};
use crate::{Result, Session, check_tokens};

/// Orders of the contexts of the last tokens.
const ORDERS: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 8, 12];
/// Contexts of words, or of skipped tokens.
const OTHERS: usize = 5;
const CONTEXTS: usize = ORDERS.len() + OTHERS;
/// Lengths of repeats from which a match is followed, the longest first.
const MATCHES: [usize; 2] = [16, 7];
/// Inputs of the mixers: two per context, one per match, of the frozen model, and a constant.
const INPUTS: usize = (2 * CONTEXTS + MATCHES.len() + 2).next_multiple_of(LANES);
const FROZEN: usize = 2 * CONTEXTS + MATCHES.len();
/// Mixers of the first layer, each with a context that chooses its weights.
const MIXERS: usize = 4;
/// Inputs of the last mixer: the first layer, and the frozen model.
const LAST: usize = (MIXERS + 1).next_multiple_of(LANES);
/// Sets of weights chosen by a node or a token.
const SETS: usize = 1024;
const APM_CONTEXTS: usize = 1 << 16;

/// Settings of an [`Online`] model.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// |V|.
    pub vocab_size: usize,
    /// A weight for each token, such as its count: frequent tokens take fewer decisions, and less
    /// time. Empty for equal weights.
    pub weights: Vec<u64>,
    /// For each token, whether it is part of a word that several tokens spell, as letters are.
    /// Empty where tokens are whole words.
    pub letters: Vec<bool>,
    /// The number of tokens that will be read, by which memory is sized: about 450 bytes per token,
    /// and between 1 MiB and 512 MiB.
    pub tokens: usize,
}

/// A decision of a token's path, as it was predicted.
#[derive(Clone)]
struct Decision {
    node: Node,
    /// The number of the node among those of its slot, from 1.
    inside: usize,
    inputs: [f32; INPUTS],
    /// The history in each context, where there is one.
    histories: [usize; CONTEXTS],
    /// The state of each match, and the bit that it predicts.
    matched: [Option<(usize, bool)>; MATCHES.len()],
    sets: [usize; MIXERS],
    outputs: [f32; MIXERS],
    last_inputs: [f32; LAST],
    last_set: usize,
    mixed: f32,
    apms: [(usize, f32); 2],
    p: f32,
}

/// A place to follow in the tokens that were read.
#[derive(Debug, Clone, Copy, Default)]
struct Match {
    /// The index of the predicted token.
    at: usize,
    /// Tokens in common before it; 0 without a match.
    length: usize,
}

/// A model that learns from the tokens it reads.
///
/// ```
/// # use surprisal_model::adaptive::{Online, Settings};
/// let mut online = Online::new(Settings { vocab_size: 3, tokens: 100, ..Settings::default() });
/// let first = online.read(1, None); // ln q
/// (0..50).for_each(|_| drop(online.read(1, None)));
/// assert!(online.read(1, None) > first);
/// let sum: f64 = online.row(None).iter().map(|log_prob| log_prob.exp()).sum();
/// assert!((sum - 1.0).abs() < 1e-9);
/// ```
pub struct Online {
    settings: Settings,
    tree: BitTree,
    logistic: Logistic,
    slots: Slots,
    maps: Vec<AdaptiveMap>,
    match_maps: Vec<AdaptiveMap>,
    mixers: Vec<Mixer>,
    last: Mixer,
    apms: [Apm; 2],
    /// All tokens read.
    history: Vec<u32>,
    hashes: [u64; CONTEXTS],
    /// Hashes of the letters of the present word and of the word before.
    words: [u64; 2],
    matches: [Match; MATCHES.len()],
    /// For each of [`MATCHES`], where a hash of so many tokens was last followed by a token.
    followed: [Vec<u32>; MATCHES.len()],
    frozen: Sums,
    has_met_frozen: bool,
    /// Tokens read before the frozen model's first distribution.
    met_at: usize,
    /// The decisions of the present token and the slots of its contexts, four levels at a time.
    path: Vec<Decision>,
    groups: Vec<[Found; CONTEXTS]>,
}

/// Mixes `value` into a hash.
fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ mixed >> 32
}

impl Online {
    /// A model that has read nothing.
    pub fn new(settings: Settings) -> Self {
        let logistic = Logistic::new();
        let tree = BitTree::new(settings.vocab_size, &settings.weights);
        // About seven new slots per token; a table is at most 512 MiB.
        let bits = (settings.tokens.saturating_mul(7).max(1).ilog2() + 1).clamp(14, 23);
        let match_bits = (settings.tokens.max(1).ilog2() + 1).clamp(10, 22);
        let mut first = [0.0; INPUTS];
        first[..2 * CONTEXTS].fill(0.15);
        first[2 * CONTEXTS..FROZEN].fill(0.25);
        let sets = [16 * 4, SETS, SETS, (ORDERS.len() + 1) * 8];
        let mut last = [0.0; LAST];
        last[..MIXERS].fill(1.0 / MIXERS as f32);
        Self {
            slots: Slots::new(bits),
            maps: (0..CONTEXTS).map(|_| AdaptiveMap::of_histories(1023.0)).collect(),
            match_maps: MATCHES.iter().map(|_| AdaptiveMap::new(64, 1023.0)).collect(),
            mixers: sets.iter().map(|&sets| Mixer::new(sets, &first)).collect(),
            last: Mixer::new(ORDERS.len() + 1, &last),
            apms: [Apm::new(SETS, &logistic), Apm::new(APM_CONTEXTS, &logistic)],
            history: Vec::new(),
            hashes: [0; CONTEXTS],
            words: [0; 2],
            matches: Default::default(),
            followed: std::array::from_fn(|_| vec![0; 1 << match_bits]),
            frozen: Sums::default(),
            has_met_frozen: false,
            met_at: 0,
            path: Vec::new(),
            groups: Vec::new(),
            settings,
            tree,
            logistic,
        }
        .after_reading()
    }

    /// |V|.
    pub fn vocab_size(&self) -> usize {
        self.settings.vocab_size
    }

    /// Reads a token that is only context, such as the beginning of a sentence.
    pub fn skip(&mut self, token: u32) {
        self.append(token);
    }

    /// Reads `token`, which must be in the vocabulary, and returns its ln q before that. `frozen`
    /// is ln q of every token by the frozen model.
    pub fn read(&mut self, token: u32, frozen: Option<&[f64]>) -> f64 {
        let mut q = 1.0;
        self.walk(frozen, |split, p| {
            let bit = token >= split;
            q *= if bit { p } else { 1.0 - p };
            bit
        });
        libm::log(q)
    }

    /// ln q of every token.
    pub fn row(&mut self, frozen: Option<&[f64]>) -> Vec<f64> {
        self.set_frozen(frozen);
        let mut row = vec![0.0; self.vocab_size()];
        // Inner nodes, their q, and the slots and the node inside them.
        let mut open = vec![(self.tree.root(), 1.0, [Found::default(); CONTEXTS], 1)];
        while let Some((node, q, mut found, mut inside)) = open.pop() {
            if let Some(token) = node.leaf() {
                row[token as usize] = libm::log(q);
                continue;
            }
            if node.depth % LEVELS == 0 {
                (found, inside) = (self.find(&node), 1);
            }
            let p = f64::from(self.predict(&node, inside, &found).p);
            open.push((self.tree.child(&node, true), q * p, found, 2 * inside + 1));
            open.push((self.tree.child(&node, false), q * (1.0 - p), found, 2 * inside));
        }
        row
    }

    /// Goes from the root to a leaf by the decisions of `choose`, which is given the first token to
    /// the right and the probability of going there; learns them, reads the token and returns it.
    pub fn walk(&mut self, frozen: Option<&[f64]>, mut choose: impl FnMut(u32, f64) -> bool) -> u32 {
        self.set_frozen(frozen);
        self.path.clear();
        self.groups.clear();
        let (mut node, mut inside) = (self.tree.root(), 1);
        let token = loop {
            if let Some(token) = node.leaf() {
                break token;
            }
            if node.depth % LEVELS == 0 {
                self.groups.push(self.find(&node));
                inside = 1;
            }
            let found = self.groups.last().expect("the root has slots");
            let decision = self.predict(&node, inside, found);
            let bit = choose(self.tree.split(&node), f64::from(decision.p));
            self.path.push(decision);
            node = self.tree.child(&node, bit);
            inside = 2 * inside + usize::from(bit);
        };
        self.learn(token);
        self.append(token);
        token
    }

    fn after_reading(mut self) -> Self {
        self.update_contexts();
        self
    }

    fn set_frozen(&mut self, frozen: Option<&[f64]>) {
        self.frozen.set(frozen);
        if frozen.is_some() && !std::mem::replace(&mut self.has_met_frozen, true) {
            // A frozen model is believed until there is something to believe beside it.
            self.met_at = self.history.len();
            let share = self.met_at as f32 / (self.met_at as f32 + 10000.0);
            let mut first = [0.0; LAST];
            first[..MIXERS].fill(0.9 * share / MIXERS as f32);
            first[MIXERS] = 1.0 - 0.8 * share;
            self.last.start(&first);
        }
    }

    /// The slots of all contexts for the four levels from `node`.
    fn find(&self, node: &Node) -> [Found; CONTEXTS] {
        let hashes: [u64; CONTEXTS] =
            std::array::from_fn(|i| mix(self.hashes[i], (node.number as u64) << 8 | i as u64));
        // The slots come from memory at the same time.
        for &hash in &hashes {
            self.slots.prefetch(hash);
        }
        hashes.map(|hash| self.slots.find(hash))
    }

    fn predict(&self, node: &Node, inside: usize, found: &[Found; CONTEXTS]) -> Decision {
        let split = self.tree.split(node);
        let (mut inputs, mut histories) = ([0.0; INPUTS], [0; CONTEXTS]);
        let mut known = 0;
        for i in 0..CONTEXTS {
            let counter = self.slots.counter(&found[i], inside);
            histories[i] = counter.history();
            if !counter.is_new() {
                known += usize::from(i < ORDERS.len());
                inputs[2 * i] = self.logistic.stretch(self.maps[i].p(histories[i]));
                inputs[2 * i + 1] = self.logistic.stretch12(counter.p12());
            }
        }
        let mut matched = [None; MATCHES.len()];
        let mut longest = 0;
        for (m, found) in self.matches.iter().enumerate() {
            let Some(&token) = self.history.get(found.at).filter(|_| found.length > 0) else { continue };
            if (node.start..node.end).contains(&token) {
                let bit = token >= split;
                let state = found.length.min(15) + 16 * usize::from(found.length > 31).min(3);
                let logit = self.logistic.stretch(self.match_maps[m].p(state));
                inputs[2 * CONTEXTS + m] = if bit { logit } else { -logit };
                matched[m] = Some((state, bit));
                longest = longest.max(found.length.min(15));
            }
        }
        let frozen = self.frozen.logit(node, split);
        inputs[FROZEN] = frozen;
        inputs[FROZEN + 1] = 0.3;
        let before = self.history.last().map_or(0, |&token| token as usize);
        let sets = [
            longest * 4 + node.depth.min(3),
            node.number % SETS,
            before % SETS,
            known * 8 + node.depth.min(7),
        ];
        let outputs: [f32; MIXERS] =
            std::array::from_fn(|k| self.mixers[k].dot(sets[k], &inputs).clamp(-MAX_LOGIT, MAX_LOGIT));
        let mut last_inputs = [0.0; LAST];
        last_inputs[..MIXERS].copy_from_slice(&outputs);
        last_inputs[MIXERS] = frozen;
        let logit = self.last.dot(known, &last_inputs).clamp(-MAX_LOGIT, MAX_LOGIT);
        let mixed = self.logistic.squash(logit);
        let (p0, at0) = self.apms[0].refine(node.number % SETS, logit);
        let context = mix(self.hashes[2], node.number as u64) as usize % APM_CONTEXTS;
        let (p1, at1) = self.apms[1].refine(context, logit);
        let p = (0.34 * mixed + 0.33 * p0 + 0.33 * p1).clamp(1.0 / 65536.0, 65535.0 / 65536.0);
        Decision {
            node: *node,
            inside,
            inputs,
            histories,
            matched,
            sets,
            outputs,
            last_inputs,
            last_set: known,
            mixed,
            apms: [at0, at1],
            p,
        }
    }

    /// Learns the decisions of the path to `token`.
    fn learn(&mut self, token: u32) {
        // The longer a model has read, the less one decision changes it.
        let rate = 0.002 + 0.02 / (1.0 + self.history.len() as f32 / 10000.0);
        let since = (self.history.len() - self.met_at) as f32;
        let last_rate = 0.0005 + 0.01 / (1.0 + since / 3000.0);
        for (level, decision) in self.path.iter().enumerate() {
            let bit = token >= self.tree.split(&decision.node);
            let target = f32::from(bit as u8);
            let found = &mut self.groups[level / LEVELS];
            for i in 0..CONTEXTS {
                self.slots.take(&mut found[i]);
                self.slots.observe(&found[i], decision.inside, bit, 2048);
                if decision.histories[i] > 0 {
                    self.maps[i].observe(decision.histories[i], bit);
                }
            }
            for (m, matched) in decision.matched.iter().enumerate() {
                if let Some((state, predicted)) = *matched {
                    self.match_maps[m].observe(state, predicted == bit);
                }
            }
            for k in 0..MIXERS {
                let p = self.logistic.squash(decision.outputs[k]);
                self.mixers[k].learn(decision.sets[k], &decision.inputs, rate * (target - p));
            }
            let step = last_rate * (target - decision.mixed);
            self.last.learn(decision.last_set, &decision.last_inputs, step);
            for (apm, at) in self.apms.iter_mut().zip(decision.apms) {
                apm.learn(at, bit, 0.02);
            }
        }
    }

    /// Appends a token to what was read.
    fn append(&mut self, token: u32) {
        self.history.push(token);
        if self.settings.letters.get(token as usize).is_some_and(|&is_letter| is_letter) {
            self.words[0] = mix(self.words[0], u64::from(token) + 1);
        } else if self.words[0] != 0 {
            self.words = [0, self.words[0]];
        }
        self.update_contexts();
    }

    fn update_contexts(&mut self) {
        let n = self.history.len();
        let back = |k: usize| n.checked_sub(k).map_or(0, |i| u64::from(self.history[i]) + 1);
        let (mut hash, mut next) = (0, 0);
        for order in 0..=ORDERS[ORDERS.len() - 1] {
            if order > 0 {
                hash = mix(hash, back(order));
            }
            if ORDERS[next] == order {
                self.hashes[next] = hash;
                next += 1;
            }
        }
        let [word, before] = self.words;
        let skipped = mix(mix(0, back(2)), back(3));
        self.hashes[ORDERS.len()..].copy_from_slice(&[
            mix(word, 1),
            mix(word, before),
            skipped,
            mix(skipped, back(4)),
            mix(mix(0, back(1)), back(3)),
        ]);
        for (m, &least) in MATCHES.iter().enumerate() {
            let found = &mut self.matches[m];
            let goes_on = found.length > 0 && self.history[found.at] == self.history[n - 1];
            *found =
                if goes_on { Match { at: found.at + 1, length: found.length + 1 } } else { Match::default() };
            if n < least {
                continue;
            }
            let hash =
                self.history[n - least..].iter().fold(0, |hash, &token| mix(hash, u64::from(token) + 1));
            let at = hash as usize % self.followed[m].len();
            if found.length == 0 {
                let place = self.followed[m][at] as usize;
                let alike =
                    (0..place.min(32)).take_while(|i| self.history[place - 1 - i] == self.history[n - 1 - i]);
                let length = alike.count();
                if length >= least {
                    *found = Match { at: place, length };
                }
            }
            self.followed[m][at] = n as u32;
        }
    }
}

/// A session of a model that learns while it reads.
pub struct AdaptiveSession<'a> {
    online: Online,
    frozen: Option<Box<dyn Session + 'a>>,
    /// The frozen model's distribution after what was read.
    row: Option<Vec<f64>>,
}

impl<'a> AdaptiveSession<'a> {
    /// A session of `online`, which may have read something, with a frozen model's at the beginning
    /// of a text beside it.
    ///
    /// # Errors
    /// A failure of the frozen model.
    pub fn new(online: Online, mut frozen: Option<Box<dyn Session + 'a>>) -> Result<Self> {
        let row = frozen.as_mut().map(|frozen| frozen.feed(&[])).transpose()?;
        Ok(Self { online, frozen, row })
    }
}

impl Session for AdaptiveSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.online.vocab_size())?;
        for token in tokens {
            self.online.read(*token, self.row.as_deref());
            self.row = self.frozen.as_mut().map(|frozen| frozen.feed(&[*token])).transpose()?;
        }
        Ok(self.online.row(self.row.as_deref()))
    }
}

#[cfg(test)]
mod tests;
