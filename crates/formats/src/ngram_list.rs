//! Lists of n-grams on their way from a text file to a trie: `len` word ids a gram, one gram behind the other.

use std::cmp::Ordering;

use rayon::prelude::*;

/// The names of special tokens in text files.
pub(crate) const SPECIALS: [&str; 3] = ["<unk>", "<s>", "</s>"];
/// How many bytes one task parses.
pub(crate) const BYTES_PER_TASK: usize = 1 << 20;

/// Whole lines of a text, in pieces of about [`BYTES_A_TASK`].
pub(crate) fn chunks(text: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let cut = rest.get(BYTES_PER_TASK..).and_then(|rest| memchr::memchr(b'\n', rest));
        let (piece, after) = rest.split_at(cut.map_or(rest.len(), |at| BYTES_PER_TASK + at + 1));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// A piece of a line for a message: not too much of it.
pub(crate) fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned()
}

/// Grams of one length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NgramList<'a> {
    /// Words a gram.
    pub(crate) len: usize,
    /// Their ids.
    pub(crate) words: &'a [u32],
}

impl<'a> NgramList<'a> {
    /// How many there are.
    pub(crate) fn count(self) -> usize {
        self.words.len() / self.len
    }

    #[inline]
    pub(crate) fn get(self, index: usize) -> &'a [u32] {
        &self.words[index * self.len..(index + 1) * self.len]
    }

    /// In which order the grams are sorted, each told by where it stands now; `None` if they are. `bits` hold an id.
    ///
    /// # Errors
    /// The place of a gram that stands there for the second time.
    pub(crate) fn argsort(self, bits: u32) -> Result<Option<Vec<u32>>, usize> {
        let next = self.words.get(self.len..).unwrap_or_default().par_chunks_exact(self.len);
        if self.words.par_chunks_exact(self.len).zip(next).all(|(a, b)| a < b) {
            return Ok(None);
        }
        let places: Vec<u32> = if bits as usize * self.len <= 96 {
            let key = |(place, gram): (usize, &[u32])| {
                let words = gram.iter().fold(0_u128, |key, &word| key << bits | u128::from(word));
                words << 32 | place as u128
            };
            let mut keys: Vec<u128> = self.words.par_chunks_exact(self.len).enumerate().map(key).collect();
            keys.par_sort_unstable();
            keys.into_par_iter().map(|key| key as u32).collect()
        } else {
            let mut places: Vec<u32> = (0..self.count() as u32).collect();
            let gram = |place: u32| self.get(place as usize);
            places.par_sort_unstable_by(|&a, &b| gram(a).cmp(gram(b)).then(a.cmp(&b)));
            places
        };
        let same = |pair: &&[u32]| self.get(pair[0] as usize) == self.get(pair[1] as usize);
        match places.par_windows(2).filter(same).map(|pair| pair[1] as usize).min() {
            Some(twice) => Err(twice),
            None => Ok(Some(places)),
        }
    }

    /// The words of the grams in another order.
    pub(crate) fn permuted(self, places: &[u32]) -> Vec<u32> {
        let mut words = vec![0; places.len() * self.len];
        let arrange = |(gram, &place): (&mut [u32], &u32)| gram.copy_from_slice(self.get(place as usize));
        words.par_chunks_exact_mut(self.len).zip(places).for_each(arrange);
        words
    }

    /// Where these grams start under each of their contexts, which are grams of one word less; all are sorted.
    ///
    /// # Errors
    /// The contexts that `above` lacks, in order: their words, and which of these grams first needs each.
    pub(crate) fn child_offsets(self, above: NgramList<'_>) -> Result<Vec<u32>, (Vec<u32>, Vec<usize>)> {
        let mut starts = Vec::with_capacity(above.count() + 1);
        let (mut missing, mut needed): (Vec<u32>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut node = 0;
        for index in 0..self.count() {
            let context = &self.get(index)[..above.len];
            while node < above.count() && above.get(node) < context {
                node += 1;
                // What has no continuation starts where the next one does.
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

    /// The place of `gram`, where these are sorted.
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
