//! The ∞-gram: n-grams of every length, counted in the suffix array of a text (Liu et al. 2024,
//! "Infini-gram: Scaling Unbounded n-gram Language Models to a Trillion Tokens").
//!
//! All places where a context occurs are next to each other in the suffix array, sorted by what
//! follows. Counts of the longest context alone make the loss of nearly every text infinite, so all
//! the contexts that end a text are interpolated (Jelinek and Mercer 1980), from the empty one up:
//!
//! ```text
//! q_0(w) = 1 / |V|     q_k(w) = λ c(h_k w) / c(h_k) + (1 − λ) q_{k−1}(w)
//! ```
//!
//! λ depends on the length and the count of the context, and on whether one token has always
//! followed it; see [`Weights`]. Of contexts with the same count, each is always preceded by the
//! same tokens, and only the longest is one of the h_k. There are few of these, however long the
//! text that was met before.

mod weights;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use libsais::SuffixArrayConstruction;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use surprisal_platform::prefetch::prefetch;

pub use self::weights::Weights;
use self::weights::{Bin, Level};
use crate::ngram::packed::Bytes;
use crate::{ContextBin, Error, LanguageModel, Result, Session, check_tokens, scored};

/// Occurrences from which what follows a context is kept.
const FREQUENT: u32 = 1 << 11;
/// The last tokens of a text that are looked for at once: from so many on, all lengths are of one
/// class.
const DIRECT: usize = 32;
/// Prefetch distance in suffixes.
const PREFETCHED: u32 = 16;
/// Tokens per task of scoring.
const TOKENS_PER_TASK: usize = 1 << 12;
/// Bytes of a place in the text.
const PLACE: usize = 4;

/// The part of an [`Infinigram`] that is stored beside its text and suffix array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`, which is context and never predicted.
    pub bos: Option<u32>,
    /// Tokens of the text.
    pub tokens: u32,
    /// The weights of contexts.
    pub weights: Weights,
}

/// An ∞-gram model. It is the text, as many bytes per token as the vocabulary needs, and its suffix
/// array, four bytes per token; both may be a memory-mapped file.
///
/// ```
/// # use surprisal_model::{LanguageModel, infinigram::Infinigram};
/// let text: Vec<u32> = [0, 1, 2, 3].repeat(50);
/// let model = Infinigram::new(&text, 4, None).unwrap();
/// assert_eq!(model.next_counts(&[2, 3]), [(0, 49)]);
/// let q = model.next_log_probs(&[0, 1, 2]).unwrap();
/// assert!(q[3] > q[0].max(q[1]).max(q[2]));
/// assert!((q.iter().map(|log_prob| log_prob.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
/// ```
pub struct Infinigram {
    header: Header,
    /// Bytes of a token.
    width: usize,
    text: Bytes,
    suffixes: Bytes,
    /// Where the suffixes that begin with each token start, and the end.
    starts: OnceLock<Vec<u32>>,
    /// The followers of frequent contexts, by their length and first suffix.
    followers: RwLock<BTreeMap<(u32, u32), Arc<Followers>>>,
}

/// Tokens that follow a context, and where the suffixes that go on so start; then the end.
type Followers = [(u32, u32)];

/// Suffixes next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suffixes {
    start: u32,
    end: u32,
}

impl Suffixes {
    fn count(self) -> u32 {
        self.end.saturating_sub(self.start)
    }
}

/// A search among sorted suffixes for the first whose tokens from `depth` on are not below
/// `wanted`, or, `past` these, above them.
struct Search<'a> {
    low: u32,
    len: u32,
    depth: u32,
    wanted: &'a [u32],
    past: bool,
}

impl<'a> Search<'a> {
    /// The two searches for the suffixes of `within` that go on with `wanted`.
    fn both(within: Suffixes, depth: u32, wanted: &'a [u32]) -> [Self; 2] {
        [false, true].map(|past| Self { low: within.start, len: within.count(), depth, wanted, past })
    }

    fn middle(&self) -> u32 {
        self.low + self.len / 2
    }
}

/// The last tokens of what was read, where the text has them.
#[derive(Debug, Clone, Copy)]
struct Context {
    len: u32,
    found: Suffixes,
}

/// The contexts of what was read, from the shortest, without the empty one. Their counts descend.
#[derive(Debug, Clone, Default)]
struct Reading {
    contexts: Vec<Context>,
}

/// Bytes of a token of a vocabulary.
fn width(vocab_size: u32) -> usize {
    match vocab_size {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// Adds a longer context: of those with one count the longest is kept.
fn keep(contexts: &mut Vec<Context>, longer: Context) {
    contexts.pop_if(|last| last.found.count() == longer.found.count());
    contexts.push(longer);
}

fn failed(problem: impl std::fmt::Display) -> Error {
    Error::Config(problem.to_string())
}

impl Infinigram {
    /// The model of a text, in which each sentence begins with `bos`, if there are any.
    ///
    /// # Errors
    /// A token outside the vocabulary; 2³¹ tokens or more.
    pub fn new(tokens: &[u32], vocab_size: u32, bos: Option<u32>) -> Result<Self> {
        check_tokens(tokens, vocab_size as usize)?;
        if tokens.len() >= 1 << 31 {
            return Err(failed("a text of 2³¹ tokens or more has no suffix array here"));
        }
        let width = width(vocab_size);
        let mut text = vec![0; tokens.len() * width];
        text.par_chunks_mut(width).zip(tokens).for_each(|(bytes, token)| {
            bytes.copy_from_slice(&token.to_le_bytes()[..width]);
        });
        // The library takes an empty text for a mistake.
        let suffixes = if tokens.is_empty() {
            Vec::new()
        } else if width == 1 {
            let found = SuffixArrayConstruction::for_text(&text).in_owned_buffer32().single_threaded().run();
            found.map_err(failed)?.into_vec()
        } else {
            let mut numbers: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
            let of = SuffixArrayConstruction::for_text_mut(&mut numbers);
            of.in_owned_buffer32().single_threaded().run().map_err(failed)?.into_vec()
        };
        let mut bytes = vec![0; suffixes.len() * PLACE];
        bytes.par_chunks_exact_mut(PLACE).zip(&suffixes).for_each(|(bytes, place)| {
            bytes.copy_from_slice(&place.to_le_bytes());
        });
        drop(suffixes);
        let header = Header { vocab_size, bos, tokens: tokens.len() as u32, weights: Weights::default() };
        let mut model = Self::from_parts(header, text.into(), bytes.into())?;
        model.header.weights = model.fitted(tokens);
        Ok(model)
    }

    /// A model from its parts, which may come from a damaged file.
    ///
    /// # Errors
    /// Parts of other lengths than the header says.
    pub fn from_parts(header: Header, text: Bytes, suffixes: Bytes) -> Result<Self> {
        let (width, tokens) = (width(header.vocab_size), header.tokens as usize);
        let lens = [tokens.checked_mul(width), tokens.checked_mul(PLACE)];
        if lens != [&text, &suffixes].map(|bytes| Some(bytes.as_slice().len())) {
            return Err(failed("the text and its suffix array have different lengths"));
        }
        header.weights.check().map_err(failed)?;
        let (starts, followers) = (OnceLock::new(), RwLock::default());
        Ok(Self { header, width, text, suffixes, starts, followers })
    }

    /// The part that is stored beside text and suffix array.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The text and its suffix array.
    pub fn parts(&self) -> [&Bytes; 2] {
        [&self.text, &self.suffixes]
    }

    /// The number of times that each token follows `context` in the text, by token.
    pub fn next_counts(&self, context: &[u32]) -> Vec<(u32, u32)> {
        let mut found = self.empty();
        for &token in context {
            found = Context { len: found.len + 1, found: self.narrowed(found, token) };
        }
        let mut counts = Vec::new();
        self.each_follower(found, |token, count| counts.push((token, count)));
        counts
    }

    /// The empty context.
    fn empty(&self) -> Context {
        Context { len: 0, found: Suffixes { start: 0, end: self.header.tokens } }
    }

    /// Where suffix `i` begins in the text.
    #[inline]
    fn place(&self, i: u32) -> Option<usize> {
        let place = self.suffixes.as_slice().get(i as usize * PLACE..)?.first_chunk().copied()?;
        Some(u32::from_le_bytes(place) as usize)
    }

    /// The token `depth` after the beginning of suffix `i`; `None` at the end of the text.
    #[inline]
    fn token(&self, i: u32, depth: u32) -> Option<u32> {
        let at = (self.place(i)? + depth as usize) * self.width;
        let bytes = self.text.as_slice().get(at..)?;
        match self.width {
            1 => bytes.first().map(|&byte| byte.into()),
            2 => bytes.first_chunk().map(|&bytes| u16::from_le_bytes(bytes).into()),
            _ => bytes.first_chunk().map(|&bytes| u32::from_le_bytes(bytes)),
        }
    }

    /// The first of the suffixes from `start` whose token at `depth` is no longer below `limit`; it
    /// is looked for in steps that double.
    fn first_from(&self, within: Suffixes, depth: u32, limit: u32) -> u32 {
        let is_below = |i: u32| self.token(i, depth).is_none_or(|token| token < limit);
        let (mut low, mut step) = (within.start, 1);
        while step < within.end - low && is_below(low + step - 1) {
            low += step;
            step = step.saturating_mul(2);
        }
        let mut len = step.min(within.end - low);
        // All before `low` are below the limit, and what comes `len` after it is not.
        while len > 0 {
            let half = len / 2;
            if is_below(low + half) {
                low += half + 1;
                len -= half + 1;
            } else {
                len = half;
            }
        }
        low
    }

    /// The suffixes of a context that go on with `token`, where memory says so.
    fn known(&self, context: Context, token: u32) -> Option<Suffixes> {
        const NONE: Suffixes = Suffixes { start: 0, end: 0 };
        if context.len == 0 {
            let found = self.starts().get(token as usize..)?.first_chunk();
            return Some(found.map_or(NONE, |&[start, end]| Suffixes { start, end }));
        }
        // Every text needs the followers of the shortest contexts.
        let followers =
            if context.len <= 2 { self.followers(context) } else { self.known_followers(context) }?;
        let at = followers.partition_point(|&(found, _)| found < token);
        Some(match followers.get(at..at + 2) {
            Some(&[(found, start), (_, end)]) if found == token => Suffixes { start, end },
            _ => NONE,
        })
    }

    /// The suffixes of each context that go on with `token`.
    fn narrowed_all(&self, contexts: impl Iterator<Item = Context>, token: u32) -> Vec<Suffixes> {
        let (mut searches, wanted) = (Vec::new(), [token]);
        let known: Vec<Option<Suffixes>> = contexts
            .map(|context| {
                let known = self.known(context, token);
                if known.is_none() {
                    searches.extend(Search::both(context.found, context.len, &wanted));
                }
                known
            })
            .collect();
        let mut searched = self.search(searches);
        let next = |known: Option<Suffixes>| known.or_else(|| searched.next());
        known.into_iter().filter_map(next).collect()
    }

    /// [`Self::narrowed_all`] of one context.
    fn narrowed(&self, context: Context, token: u32) -> Suffixes {
        self.narrowed_all(std::iter::once(context), token)[0]
    }

    /// Binary searches side by side: what they look at comes from memory at the same time. Gives
    /// what is between the first and the second, the third and the fourth, and so on.
    fn search(&self, mut searches: Vec<Search<'_>>) -> impl Iterator<Item = Suffixes> + use<> {
        while searches.iter().any(|search| search.len > 0) {
            let open = || searches.iter().filter(|search| search.len > 0);
            for search in open() {
                prefetch(self.suffixes.as_slice(), search.middle() as usize * PLACE);
            }
            for search in open() {
                if let Some(place) = self.place(search.middle()) {
                    prefetch(self.text.as_slice(), (place + search.depth as usize) * self.width);
                }
            }
            for search in searches.iter_mut().filter(|search| search.len > 0) {
                let half = search.len / 2;
                if self.is_before(search) {
                    search.low += half + 1;
                    search.len -= half + 1;
                } else {
                    search.len = half;
                }
            }
        }
        let ends: Vec<u32> = searches.into_iter().map(|search| search.low).collect();
        (0..ends.len() / 2).map(move |i| Suffixes { start: ends[2 * i], end: ends[2 * i + 1] })
    }

    /// Whether what is searched for comes after the middle.
    fn is_before(&self, search: &Search<'_>) -> bool {
        let i = search.middle();
        for (depth, wanted) in (search.depth..).zip(search.wanted) {
            match self.token(i, depth).cmp(&Some(*wanted)) {
                Ordering::Less => return true,
                Ordering::Greater => return false,
                Ordering::Equal => {}
            }
        }
        search.past
    }

    fn starts(&self) -> &[u32] {
        self.starts.get_or_init(|| {
            let mut starts = Vec::with_capacity(self.header.vocab_size as usize + 1);
            let mut rest = self.empty().found;
            for token in 0..self.header.vocab_size {
                rest.start = self.first_from(rest, 0, token);
                starts.push(rest.start);
            }
            starts.push(self.header.tokens);
            starts
        })
    }

    /// The followers of a frequent context, where they were looked for before.
    fn known_followers(&self, context: Context) -> Option<Arc<Followers>> {
        if context.found.count() < FREQUENT {
            return None;
        }
        let known = self.followers.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(context.len, context.found.start)).cloned()
    }

    /// The followers of a frequent context. There are few of these, and they have the most.
    fn followers(&self, context: Context) -> Option<Arc<Followers>> {
        let known = self.known_followers(context);
        if known.is_some() || context.found.count() < FREQUENT {
            return known;
        }
        let (mut followers, mut end) = (Vec::new(), context.found.start);
        self.search_followers(context, |token, count, first| {
            followers.push((token, first));
            end = first + count;
        });
        followers.push((u32::MAX, end));
        let followers: Arc<Followers> = followers.into();
        let mut known = self.followers.write().unwrap_or_else(PoisonError::into_inner);
        known.insert((context.len, context.found.start), Arc::clone(&followers));
        Some(followers)
    }

    /// Visits each token that follows a context, and how often.
    fn each_follower(&self, context: Context, mut visit: impl FnMut(u32, u32)) {
        if context.len == 0 {
            for (token, starts) in (0..).zip(self.starts().windows(2)) {
                if starts[0] < starts[1] {
                    visit(token, starts[1] - starts[0]);
                }
            }
        } else if let Some(known) = self.followers(context) {
            for pair in known.windows(2) {
                visit(pair[0].0, pair[1].1 - pair[0].1);
            }
        } else {
            self.search_followers(context, |token, count, _| visit(token, count));
        }
    }

    /// [`Self::each_follower`], and the first of the suffixes that go on so.
    fn search_followers(&self, context: Context, mut visit: impl FnMut(u32, u32, u32)) {
        let Context { len, found: mut rest } = context;
        if rest.count() < FREQUENT {
            return self.scan_followers(context, visit);
        }
        while rest.count() > 0 {
            let first = rest.start;
            let Some(token) = self.token(first, len) else {
                rest.start += 1;
                continue;
            };
            rest.start = self.first_from(rest, len, token.saturating_add(1)).max(first + 1);
            visit(token, rest.start - first, first);
        }
    }

    /// [`Self::search_followers`] by looking at every suffix, which few of them make faster: places
    /// in the text come from memory at the same time.
    fn scan_followers(&self, context: Context, mut visit: impl FnMut(u32, u32, u32)) {
        let Context { len, found } = context;
        let mut last = None;
        for i in found.start..found.end {
            if i + PREFETCHED < found.end
                && let Some(place) = self.place(i + PREFETCHED)
            {
                prefetch(self.text.as_slice(), (place + len as usize) * self.width);
            }
            match (self.token(i, len), last) {
                (Some(token), Some((same, _))) if token == same => {}
                (token, before) => {
                    if let Some((token, first)) = before {
                        visit(token, i - first, first);
                    }
                    last = token.map(|token| (token, i));
                }
            }
        }
        if let Some((token, first)) = last {
            visit(token, found.end - first, first);
        }
    }

    /// The number of times that a context is followed by a token that can be predicted.
    fn total(&self, context: Context) -> u32 {
        let ends = u32::from(self.token(context.found.start, context.len).is_none());
        let bos = self.header.bos.map_or(0, |bos| match context.len {
            0 => self.narrowed(context, bos).count(),
            // Only the end of a sentence is followed by the beginning of one.
            _ if self.token(context.found.end.saturating_sub(1), context.len) < Some(bos) => 0,
            _ => self.narrowed(context, bos).count(),
        });
        context.found.count().saturating_sub(ends + bos)
    }

    /// Whether the same token follows a context wherever it occurs.
    fn is_deterministic(&self, context: Context) -> bool {
        let Suffixes { start, end } = context.found;
        let first = self.token(start, context.len).or_else(|| self.token(start + 1, context.len));
        first == self.token(end.saturating_sub(1), context.len)
    }

    fn bin(&self, context: Context, total: u32) -> Bin {
        Bin::new(context.len, total, self.is_deterministic(context))
    }

    /// The empty context and those of `reading`.
    fn contexts<'a>(&self, reading: &'a Reading) -> impl Iterator<Item = Context> + use<'a> {
        std::iter::once(self.empty()).chain(reading.contexts.iter().copied())
    }

    /// 1 / |V|, without `<s>`.
    fn uniform(&self) -> f64 {
        1.0 / f64::from((self.header.vocab_size - u32::from(self.header.bos.is_some())).max(1))
    }

    /// Reads `token`; `visit` is called with every context before it, from the empty one, and with
    /// the suffixes of the context and the token.
    fn advance(&self, reading: &mut Reading, token: u32, mut visit: impl FnMut(Context, Suffixes)) {
        let mut next = Vec::with_capacity(reading.contexts.len() + 1);
        let found = self.narrowed_all(self.contexts(reading), token);
        for (context, found) in self.contexts(reading).zip(found) {
            visit(context, found);
            if found.count() == 0 {
                continue;
            }
            keep(&mut next, Context { len: context.len + 1, found });
        }
        reading.contexts = next;
    }

    /// Reads tokens that are only context.
    fn skip(&self, reading: &mut Reading, tokens: &[u32]) {
        for &token in tokens {
            self.advance(reading, token, |_, _| {});
        }
    }

    /// The state after a whole text, as [`Self::skip`] leaves it, from its last tokens: as many as
    /// are more than their longest context. Of a context that occurs once nothing longer is needed:
    /// what follows is the same, and so is the class of its length from [`DIRECT`] tokens on.
    fn reading_of(&self, tokens: &[u32]) -> Reading {
        let ends = |len: usize| &tokens[tokens.len() - len.min(tokens.len())..];
        let is_whole = |reading: &Reading, len: usize| {
            let longest = reading.contexts.last();
            len >= tokens.len() || longest.is_none_or(|it| (it.len as usize) < len || it.found.count() == 1)
        };
        // For one token, for two, and so on, at the same time.
        let lens = 1..=DIRECT.min(tokens.len());
        let within = |wanted: &[u32]| self.narrowed(self.empty(), wanted[0]);
        let searches = lens.flat_map(|len| Search::both(within(ends(len)), 0, ends(len)));
        let found = self.search(searches.collect());
        let mut reading = Reading::default();
        for (len, found) in (1..).zip(found).take_while(|(_, found)| found.count() > 0) {
            keep(&mut reading.contexts, Context { len, found });
        }
        let mut len = DIRECT;
        while !is_whole(&reading, len) {
            len *= 4;
            reading = Reading::default();
            self.skip(&mut reading, ends(len));
        }
        reading
    }

    /// Reads `token` and gives its q.
    fn read(&self, reading: &mut Reading, token: u32) -> f64 {
        let mut q = self.uniform();
        self.advance(reading, token, |context, found| {
            let total = self.total(context);
            if total > 0 {
                let weight = self.header.weights.of(self.bin(context, total));
                let counted = f64::from(found.count()) / f64::from(total);
                q = weight * counted + (1.0 - weight) * q;
            }
        });
        if Some(token) == self.header.bos { 0.0 } else { q }
    }

    /// q of every token.
    fn row(&self, reading: &Reading) -> Vec<f64> {
        let mut row = vec![self.uniform(); self.header.vocab_size as usize];
        for context in self.contexts(reading) {
            let total = self.total(context);
            if total == 0 {
                continue;
            }
            let weight = self.header.weights.of(self.bin(context, total));
            for q in &mut row {
                *q *= 1.0 - weight;
            }
            self.each_follower(context, |token, count| {
                if let Some(q) = row.get_mut(token as usize) {
                    *q += weight * f64::from(count) / f64::from(total);
                }
            });
        }
        if let Some(q) = self.header.bos.and_then(|bos| row.get_mut(bos as usize)) {
            *q = 0.0;
        }
        row
    }

    /// Weights that make the text likeliest, each token as if it were not in it.
    fn fitted(&self, tokens: &[u32]) -> Weights {
        /// Parts of the text that are read, and their tokens.
        const PARTS: usize = 32;
        const PART: usize = 1 << 12;
        let step = (tokens.len() / PARTS).max(PART);
        let parts = tokens.par_chunks(step).map(|part| {
            let mut reading = Reading::default();
            let mut positions: Vec<Vec<Level>> = Vec::new();
            for &token in &part[..part.len().min(PART)] {
                if Some(token) == self.header.bos {
                    reading = Reading::default();
                    self.skip(&mut reading, &[token]);
                    continue;
                }
                let mut levels = Vec::new();
                self.advance(&mut reading, token, |context, found| {
                    let total = self.total(context).saturating_sub(1);
                    if total > 0 {
                        let is_deterministic = self.is_deterministic_without(context, found);
                        let counted = f64::from(found.count() - 1) / f64::from(total);
                        levels.push((Bin::new(context.len, total, is_deterministic), counted));
                    }
                });
                positions.push(levels);
            }
            positions
        });
        let positions = parts.collect::<Vec<_>>().concat();
        Weights::fit(&positions, self.uniform())
    }

    /// [`Self::is_deterministic`] if one of the suffixes `found`, which go on with a token, were
    /// missing.
    fn is_deterministic_without(&self, context: Context, found: Suffixes) -> bool {
        let Suffixes { mut start, mut end } = context.found;
        if found.count() == 1 {
            start += u32::from(self.token(start, context.len).is_none());
            start += u32::from(start == found.start);
            end -= u32::from(end == found.end);
        }
        self.is_deterministic(Context { found: Suffixes { start, end }, ..context })
    }
}

impl LanguageModel for Infinigram {
    fn vocab_size(&self) -> usize {
        self.header.vocab_size as usize
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>> {
        scored(tokens, from, self.vocab_size())?;
        let tasks = (from..tokens.len()).into_par_iter().step_by(TOKENS_PER_TASK);
        let parts = tasks.map(|start| {
            let mut reading = self.reading_of(&tokens[..start]);
            let part = &tokens[start..tokens.len().min(start + TOKENS_PER_TASK)];
            part.iter().map(|&token| self.read(&mut reading, token).ln()).collect::<Vec<_>>()
        });
        Ok(parts.collect::<Vec<_>>().concat())
    }

    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>> {
        self.session()?.feed(context)
    }

    fn matched_orders(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<usize>>> {
        scored(tokens, from, self.vocab_size())?;
        let mut reading = Reading::default();
        let orders = tokens.iter().map(|&token| {
            self.skip(&mut reading, &[token]);
            reading.contexts.last().map_or(0, |longest| longest.len as usize).max(1)
        });
        Ok(Some(orders.skip(from).collect()))
    }

    fn context_bins(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<ContextBin>>> {
        scored(tokens, from, self.vocab_size())?;
        let mut reading = Reading::default();
        let mut bins = Vec::with_capacity(tokens.len() + 1);
        for token in tokens.iter().map(Some).chain([None]) {
            let longest = self.contexts(&reading).last().expect("the empty context");
            let bin = self.bin(longest, self.total(longest).max(1));
            bins.push(ContextBin { length: bin.length(), class: bin.class() });
            if let Some(&token) = token {
                self.skip(&mut reading, &[token]);
            }
        }
        bins.drain(..from);
        Ok(Some(bins))
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(InfinigramSession { model: self, reading: Reading::default() }))
    }
}

struct InfinigramSession<'a> {
    model: &'a Infinigram,
    reading: Reading,
}

impl Session for InfinigramSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.model.vocab_size())?;
        if self.reading.contexts.is_empty() {
            self.reading = self.model.reading_of(tokens);
        } else {
            self.model.skip(&mut self.reading, tokens);
        }
        Ok(self.model.row(&self.reading).into_iter().map(f64::ln).collect())
    }
}

#[cfg(test)]
mod tests;
