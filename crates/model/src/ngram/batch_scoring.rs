//! Many point queries at once.
//!
//! What a point query costs is waiting: for the place where a context's continuations start, for each word that the
//! search among them looks at. One query's loads wait for each other, those of different words of a text do not, if they
//! are asked for order by order: the grams of k + 1 words that end at every place of a block need only the grams of k
//! words that end there. So each step below is a loop over the block, and each search asks for what it will look at next
//! and leaves: when its turn comes again, that has arrived.

use std::ops::Range;

use super::header::BackoffScheme;
use super::packed::Packed;
use super::view::{NONE, State, View, narrowed_range, possible_range, sparse_range};

/// Words a block.
const BLOCK: usize = 512;
/// How many places ahead it is asked for where the continuations of their contexts start.
const PREFETCH_DISTANCE: usize = 8;
/// So few words lie in the cache lines of the first and the last, mostly: they are asked for at once, and searched at once
/// when they are there.
const LINEAR_LEN: u32 = 9;

/// A search among the continuations of a context.
#[derive(Clone, Copy, Default)]
struct Search {
    /// Place in the block.
    index: u32,
    word: u32,
    /// What is left to be searched.
    low: u32,
    len: u32,
}

impl Search {
    fn range(&self) -> Range<usize> {
        self.low as usize..(self.low + self.len) as usize
    }

    /// Begins to search `among` some of `words`.
    fn search(&mut self, among: Range<usize>, words: Packed<'_>) {
        (self.low, self.len) = (among.start as u32, among.len() as u32);
        self.prefetch(words);
    }

    /// Asks for what the next step will look at.
    #[inline]
    fn prefetch(&self, words: Packed<'_>) {
        if self.len <= LINEAR_LEN {
            words.prefetch(self.low as usize);
            words.prefetch((self.low + self.len).saturating_sub(1) as usize);
        } else {
            words.prefetch(self.middle());
        }
    }

    #[inline]
    fn middle(&self) -> usize {
        (self.low + self.len / 2) as usize
    }

    /// Halves what is left; `words` ascend from the second place on. No branch depends on what is read.
    #[inline]
    fn halve(&mut self, words: Packed<'_>) {
        let middle = self.middle();
        let right = words.get(middle) <= u64::from(self.word);
        self.low = if right { middle as u32 } else { self.low };
        self.len -= self.len / 2;
    }
}

/// Halves what is left of each of `open` in turn, until it is one place, and hands it to `done`: the last place whose word
/// is not behind the wanted one, or the first place.
#[inline]
fn search(mut open: &mut [Search], words: Packed<'_>, mut done: impl FnMut(&Search)) {
    while !open.is_empty() {
        let mut i = 0;
        while i < open.len() {
            let search = &mut open[i];
            if search.len > LINEAR_LEN {
                search.halve(words);
                search.prefetch(words);
                i += 1;
                continue;
            }
            while search.len > 1 {
                search.halve(words);
            }
            done(search);
            let last = open.len() - 1;
            open.swap(i, last);
            open = &mut open[..last];
        }
    }
}

impl View<'_> {
    /// ln q of each of `words`, read on from `state`: to the bit what [`Self::score`] gives word by word.
    pub fn log_probs(&self, state: &mut State, words: &[u32]) -> Vec<f64> {
        self.scores(state, words, &[])
    }

    /// Hands `visit` the number of each sequence and ln q of its words from place `from` on, each read from its beginning.
    /// Sequences shorter than `from` have none.
    pub fn each_log_probs(&self, sequences: &[&[u32]], from: usize, mut visit: impl FnMut(usize, &[f64])) {
        let words = sequences.concat();
        let mut starts = Vec::with_capacity(sequences.len());
        let mut len = 0;
        for sequence in sequences {
            starts.push(len);
            len += sequence.len();
        }
        let scores = self.scores(&mut State::EMPTY.clone(), &words, &starts);
        for (i, (sequence, &start)) in sequences.iter().zip(&starts).enumerate() {
            visit(i, scores[start..start + sequence.len()].get(from..).unwrap_or_default());
        }
    }

    /// ln q of each of `words`, forgetting what was before at each of the places `starts`.
    fn scores(&self, state: &mut State, words: &[u32], mut starts: &[usize]) -> Vec<f64> {
        let mut block = QueryBlock::new(self.order(), words.len().min(BLOCK));
        let mut scores = Vec::with_capacity(words.len());
        for (number, words) in words.chunks(BLOCK).enumerate() {
            let first = number * BLOCK;
            let here = starts.partition_point(|&start| start < first + words.len());
            let (now, later) = starts.split_at(here);
            starts = later;
            block.score(self, state, words, now.iter().map(|start| start - first));
            scores.extend(block.probabilities[..words.len()].iter().map(|probability| probability.ln()));
        }
        scores
    }
}

/// Where each place of a block stands.
struct QueryBlock {
    probabilities: Vec<f64>,
    /// How many words of context each place has; one more than places, the last is the state after the block.
    context_lens: Vec<usize>,
    /// For k from 1: the grams of k words that end before each place, and after the last.
    nodes: Vec<Vec<u32>>,
    searches: Vec<Search>,
    sparse_searches: Vec<Search>,
}

impl QueryBlock {
    fn new(order: usize, words: usize) -> Self {
        Self {
            probabilities: vec![0.0; words],
            context_lens: vec![0; words + 1],
            nodes: vec![vec![NONE; words + 1]; order],
            searches: Vec::with_capacity(words),
            sparse_searches: Vec::with_capacity(words),
        }
    }

    fn score(
        &mut self,
        view: &View<'_>,
        state: &mut State,
        words: &[u32],
        starts: impl Iterator<Item = usize>,
    ) {
        let order = view.order();
        self.start(view, state, words, starts);
        for len in 1..order {
            self.find_ngrams(view, len, words);
            self.add_order(view, len, words);
        }
        *state = State::EMPTY;
        let end = words.len();
        state.len = self.context_lens[end];
        for (node, nodes) in state.nodes[..state.len].iter_mut().zip(&self.nodes) {
            *node = nodes[end];
        }
    }

    /// Unigrams, and how much context there is.
    fn start(&mut self, view: &View<'_>, state: &State, words: &[u32], starts: impl Iterator<Item = usize>) {
        let most = view.order() - 1;
        let longest = view.header.scheme == BackoffScheme::LongestOnly;
        self.context_lens[0] = state.len;
        for (nodes, &node) in self.nodes.iter_mut().zip(&state.nodes) {
            nodes[0] = node;
        }
        let mut starts = starts.peekable();
        for (place, &word) in words.iter().enumerate() {
            // A sequence without words starts where the next one does.
            while starts.next_if_eq(&place).is_some() {
                self.context_lens[place] = 0;
            }
            self.nodes[0][place + 1] = word;
            let begins = Some(word) == view.header.bos;
            self.probabilities[place] = if begins {
                0.0
            } else if longest && self.context_lens[place] > 0 {
                view.uniform()
            } else {
                view.unigram(word)
            };
            self.context_lens[place + 1] = (if begins { 1 } else { self.context_lens[place] + 1 }).min(most);
        }
    }

    /// The grams of `len` + 1 words.
    fn find_ngrams(&mut self, view: &View<'_>, len: usize, words: &[u32]) {
        let (level, above) = (&view.levels[len - 1], &view.levels[len]);
        let (shorter, longer) = self.nodes.split_at_mut(len);
        let (contexts, found) = (&shorter[len - 1], &mut longer[0]);
        self.searches.clear();
        for (place, &word) in words.iter().enumerate() {
            if let Some(&context) =
                contexts.get(place + PREFETCH_DISTANCE).filter(|&&context| context != NONE)
            {
                level.child_offsets.prefetch(context as usize);
            }
            found[place + 1] = NONE;
            let context = contexts[place];
            // What is unseen after a shorter context is unseen after a longer one.
            let hopeless = view.header.suffix_closed && contexts[place + 1] == NONE;
            if self.context_lens[place] < len || context == NONE || hopeless || Some(word) == view.header.bos
            {
                continue;
            }
            let among = possible_range(level.children(context as usize), word);
            if !among.is_empty() {
                let mut search = Search { index: place as u32, word, ..Search::default() };
                search.search(among, above.words);
                self.searches.push(search);
            }
        }
        // First among some of the words, where there are many.
        self.sparse_searches.clear();
        for (index, search) in self.searches.iter().enumerate() {
            if let Some(places) = sparse_range(&search.range()) {
                let mut wide = Search { index: index as u32, ..*search };
                wide.search(places, above.sparse_index);
                self.sparse_searches.push(wide);
            }
        }
        let searches = &mut self.searches;
        search(&mut self.sparse_searches, above.sparse_index, |wide| {
            let search = &mut searches[wide.index as usize];
            search.search(narrowed_range(wide.low as usize, &search.range()), above.words);
        });
        search(searches, above.words, |search| {
            if above.words.get(search.low as usize) == u64::from(search.word) {
                found[search.index as usize + 1] = search.low;
            }
        });
    }

    /// What contexts of `len` words have to say.
    fn add_order(&mut self, view: &View<'_>, len: usize, words: &[u32]) {
        let scheme = view.header.scheme;
        let (level, above) = (&view.levels[len - 1], &view.levels[len]);
        for (place, &word) in words.iter().enumerate() {
            if self.context_lens[place] < len || Some(word) == view.header.bos {
                continue;
            }
            let probability = &mut self.probabilities[place];
            let context = self.nodes[len - 1][place];
            if context == NONE {
                *probability *= view.header.unseen_context_factor;
            } else if scheme != BackoffScheme::LongestOnly || self.context_lens[place] == len {
                let gram = self.nodes[len][place + 1];
                let value = (gram != NONE).then(|| above.value(gram as usize));
                *probability = scheme.combine(value, level.weight(context as usize), *probability);
            }
        }
    }
}
