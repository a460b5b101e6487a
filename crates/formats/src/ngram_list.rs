//! Lists of n-grams of one length, as parsed from text files and before they become a trie.

use std::cmp::Ordering;

use rayon::prelude::*;

/// The names of special tokens in text files.
pub(crate) const SPECIALS: [&str; 3] = ["<unk>", "<s>", "</s>"];
/// Bytes of text per parsing task.
pub(crate) const BYTES_PER_TASK: usize = 1 << 20;

/// Splits a text into chunks of whole lines, of about [`BYTES_PER_TASK`].
pub(crate) fn chunks(text: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let cut = rest.get(BYTES_PER_TASK..).and_then(|rest| memchr::memchr(b'\n', rest));
        let (chunk, after) = rest.split_at(cut.map_or(rest.len(), |at| BYTES_PER_TASK + at + 1));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// At most 80 bytes of `text`, for a message.
pub(crate) fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned()
}

/// A list of n-grams of one length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NgramList<'a> {
    /// Words per n-gram.
    pub(crate) len: usize,
    /// The word ids, `len` per n-gram.
    pub(crate) words: &'a [u32],
}

impl<'a> NgramList<'a> {
    /// The number of n-grams.
    pub(crate) fn count(self) -> usize {
        self.words.len() / self.len
    }

    #[inline]
    pub(crate) fn get(self, index: usize) -> &'a [u32] {
        &self.words[index * self.len..(index + 1) * self.len]
    }

    /// The permutation that sorts the n-grams, or `None` if they are sorted. Ids have `bits` bits.
    ///
    /// # Errors
    /// The index of the first duplicate n-gram.
    pub(crate) fn argsort(self, bits: u32) -> Result<Option<Vec<u32>>, usize> {
        let next = self.words.get(self.len..).unwrap_or_default().par_chunks_exact(self.len);
        if self.words.par_chunks_exact(self.len).zip(next).all(|(a, b)| a < b) {
            return Ok(None);
        }
        let order: Vec<u32> = if bits as usize * self.len <= 96 {
            let key = |(index, gram): (usize, &[u32])| {
                let words = gram.iter().fold(0_u128, |key, &word| key << bits | u128::from(word));
                words << 32 | index as u128
            };
            let mut keys: Vec<u128> = self.words.par_chunks_exact(self.len).enumerate().map(key).collect();
            keys.par_sort_unstable();
            keys.into_par_iter().map(|key| key as u32).collect()
        } else {
            let mut order: Vec<u32> = (0..self.count() as u32).collect();
            let gram = |index: u32| self.get(index as usize);
            order.par_sort_unstable_by(|&a, &b| gram(a).cmp(gram(b)).then(a.cmp(&b)));
            order
        };
        let same = |pair: &&[u32]| self.get(pair[0] as usize) == self.get(pair[1] as usize);
        match order.par_windows(2).filter(same).map(|pair| pair[1] as usize).min() {
            Some(twice) => Err(twice),
            None => Ok(Some(order)),
        }
    }

    /// The word ids of the n-grams, permuted.
    pub(crate) fn permuted(self, order: &[u32]) -> Vec<u32> {
        let mut words = vec![0; order.len() * self.len];
        let arrange = |(gram, &index): (&mut [u32], &u32)| gram.copy_from_slice(self.get(index as usize));
        words.par_chunks_exact_mut(self.len).zip(order).for_each(arrange);
        words
    }

    /// The child offsets: where the n-grams of each context in `above` (n-grams one word shorter)
    /// begin. Both lists are sorted.
    ///
    /// # Errors
    /// The word ids of missing contexts, in order, and for each the index of the first n-gram that
    /// needs it.
    pub(crate) fn child_offsets(self, above: NgramList<'_>) -> Result<Vec<u32>, (Vec<u32>, Vec<usize>)> {
        let mut starts = Vec::with_capacity(above.count() + 1);
        let (mut missing, mut needed): (Vec<u32>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut node = 0;
        for index in 0..self.count() {
            let context = &self.get(index)[..above.len];
            while node < above.count() && above.get(node) < context {
                node += 1;
                // A context without continuations starts where the next one does.
                starts.resize(starts.len().max(node), index as u32);
            }
            if node < above.count() && above.get(node) == context {
                starts.resize(starts.len().max(node + 1), index as u32);
            } else if missing.len() < above.len || missing[missing.len() - above.len..] != *context {
                missing.extend_from_slice(context);
                needed.push(index);
            }
        }
        starts.resize(above.count() + 1, self.count() as u32);
        if missing.is_empty() { Ok(starts) } else { Err((missing, needed)) }
    }

    /// The index of `gram` in a sorted list.
    pub(crate) fn find(self, gram: &[u32]) -> Option<usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(gram) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grams_are_sorted_whether_they_fit_a_number_or_not() {
        let words = [3, 1, 2, 0, 1, 7, 3, 0];
        let grams = NgramList { len: 2, words: &words };
        for bits in [3, 32, 60] {
            assert_eq!(grams.argsort(bits), Ok(Some(vec![2, 1, 3, 0])), "{bits}");
            let twice = NgramList { len: 2, words: &[3, 1, 2, 0, 3, 1, 2, 0] };
            assert_eq!(twice.argsort(bits), Err(2), "{bits}");
        }
        let sorted = grams.permuted(&[2, 1, 3, 0]);
        let sorted = NgramList { words: &sorted, ..grams };
        assert_eq!(sorted.argsort(3), Ok(None));
        assert_eq!((sorted.find(&[3, 0]), sorted.find(&[3, 2])), (Some(2), None));
        assert_eq!(NgramList { len: 2, words: &[] }.argsort(3), Ok(None));
    }

    #[test]
    fn continuations_start_below_their_contexts() {
        let above = NgramList { len: 1, words: &[0, 1, 2, 3, 4] };
        let grams = NgramList { len: 2, words: &[1, 0, 1, 5, 3, 2] };
        assert_eq!(grams.child_offsets(above), Ok(vec![0, 0, 2, 2, 3, 3]));
        let few = NgramList { len: 1, words: &[0, 3] };
        assert_eq!(grams.child_offsets(few), Err((vec![1], vec![0])));
    }
}
