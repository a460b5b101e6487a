//! The sum of the counts of parts of a text, equal to the counts of the whole text.

use rayon::prelude::*;

use super::counts::Counts;
use super::order_counts::OrderCounts;
use crate::{Error, Result};

/// The counts of one part, with a map of its token ids.
///
/// ```
/// # use surprisal_model::ngram::{Counts, Shard};
/// # fn main() -> surprisal_model::Result<()> {
/// // Two files of lines, `<s>` being word 0, with the same ids for the same words.
/// let (one, two) = ([0, 1, 2, 0, 2], [0, 1]);
/// let [a, b] = [&one[..], &two[..]].map(|text| Counts::new(text, 3, 2, Some(0)));
/// let (a, b, ids) = (a?, b?, [0, 1, 2]);
/// let merged = Counts::merge(&[Shard { counts: &a, ids: &ids }, Shard { counts: &b, ids: &ids }], 3)?;
/// assert_eq!(merged, Counts::new(&[0, 1, 2, 0, 2, 0, 1], 3, 2, Some(0))?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Shard<'a> {
    /// The counts of the part.
    pub counts: &'a Counts,
    /// The new id of each word, all different.
    pub ids: &'a [u32],
}

impl Counts {
    /// The counts of a text from those of its parts, in order.
    ///
    /// # Errors
    /// [`Error::Config`]: no shard; shards of different orders, or only some with `<s>`; ids that
    /// are duplicate or outside `vocab_size`; counts that are too large.
    pub fn merge(shards: &[Shard<'_>], vocab_size: usize) -> Result<Self> {
        let wrong = |message: &str| Err(Error::Config(message.into()));
        let Some(first) = shards.first() else { return wrong("there are no counts to merge") };
        let (order, bos) = (first.counts.order(), first.new_bos());
        for shard in shards {
            shard.check(vocab_size)?;
            if shard.counts.order() != order {
                return wrong("counts of different orders cannot be merged");
            }
            if shard.new_bos() != bos {
                return wrong("counts of lines and of a stream, or of different tokens, cannot be merged");
            }
        }
        let mut counts = vec![0; vocab_size];
        for shard in shards {
            for (&id, &count) in shard.ids.iter().zip(&shard.counts.levels[0].counts) {
                add_count(&mut counts[id as usize], count)?;
            }
        }
        // The new index of each shard's n-grams of the order merged last.
        let mut numbers: Vec<Vec<u32>> = shards.iter().map(|shard| shard.ids.to_vec()).collect();
        let mut levels = vec![OrderCounts { counts, ..OrderCounts::default() }];
        for len in 1..order {
            let (level, child_offsets, next) =
                merge_order(shards, len, &numbers, levels[len - 1].counts.len())?;
            levels[len - 1].child_offsets = child_offsets;
            levels.push(level);
            numbers = next;
        }
        // The prefix of the first part; parts without text have a shorter one.
        let first = shards.iter().max_by_key(|shard| shard.counts.text_prefix.len()).unwrap_or(first);
        let text_prefix = first.counts.text_prefix.iter().map(|&word| first.ids[word as usize]).collect();
        Ok(Self { vocab_size: vocab_size as u32, bos, levels, text_prefix })
    }
}

impl Shard<'_> {
    fn new_bos(&self) -> Option<u32> {
        self.counts.bos.and_then(|bos| self.ids.get(bos as usize).copied())
    }

    fn check(&self, vocab_size: usize) -> Result<()> {
        let mut taken = vec![false; vocab_size];
        let free =
            |&id: &u32| taken.get_mut(id as usize).is_some_and(|taken| !std::mem::replace(taken, true));
        if self.ids.len() != self.counts.vocab_size as usize || !self.ids.iter().all(free) {
            return Err(Error::Config("token ids must be different and within the merged vocabulary".into()));
        }
        Ok(())
    }
}

fn add_count(sum: &mut u32, count: u32) -> Result<()> {
    let message = || "an n-gram occurs 2³² times or more".into();
    *sum = sum.checked_add(count).ok_or_else(|| Error::Config(message()))?;
    Ok(())
}

/// The merged n-grams of `len` + 1 words, the child offsets of those of `len` words, and the new
/// index of each.
fn merge_order(
    shards: &[Shard<'_>],
    len: usize,
    contexts: &[Vec<u32>],
    parents: usize,
) -> Result<(OrderCounts, Vec<u32>, Vec<Vec<u32>>)> {
    // Key: the new index of the context, and the word. Value: shard and index.
    let mut grams: Vec<(u64, u64)> = Vec::new();
    for (s, (shard, contexts)) in shards.iter().zip(contexts).enumerate() {
        let (lower_level, level) = (&shard.counts.levels[len - 1], &shard.counts.levels[len]);
        for (node, &context) in contexts.iter().enumerate() {
            grams.extend(lower_level.children(node).map(|gram| {
                let word = shard.ids[level.words[gram] as usize];
                (u64::from(context) << 32 | u64::from(word), (s as u64) << 32 | gram as u64)
            }));
        }
    }
    grams.par_sort_unstable();
    let mut next: Vec<Vec<u32>> =
        shards.iter().map(|shard| vec![0; shard.counts.levels[len].words.len()]).collect();
    let (mut level, mut child_offsets) = (OrderCounts::default(), Vec::with_capacity(parents + 1));
    for same in grams.chunk_by(|a, b| a.0 == b.0) {
        let number = level.words.len() as u32;
        let (context, word) = ((same[0].0 >> 32) as usize, same[0].0 as u32);
        // Contexts before this one without continuations.
        child_offsets.resize(child_offsets.len().max(context + 1), number);
        let mut count = 0;
        for &(_, place) in same {
            let (shard, gram) = ((place >> 32) as usize, place as u32 as usize);
            add_count(&mut count, shards[shard].counts.levels[len].counts[gram])?;
            next[shard][gram] = number;
        }
        let (shard, gram) = ((same[0].1 >> 32) as usize, same[0].1 as u32 as usize);
        let suffix = shards[shard].counts.levels[len].suffix_links[gram] as usize;
        level.words.push(word);
        level.counts.push(count);
        level.suffix_links.push(contexts[shard][suffix]);
    }
    child_offsets.resize(parents + 1, level.words.len() as u32);
    Ok((level, child_offsets, next))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ngram::testing;

    const BOS: u32 = 1;

    fn numbered(lines: &[Vec<u8>]) -> (Vec<u32>, Vec<u8>) {
        testing::numbered(lines, vec![0, 1, 2], Some(BOS))
    }

    proptest! {
        #[test]
        fn shards_of_lines_are_the_text(
            lines in prop::collection::vec(prop::collection::vec(10_u8..16, 0..8), 1..20),
            cuts in prop::collection::vec(0_usize..20, 0..4),
            order in 1_usize..7,
        ) {
            let (tokens, names) = numbered(&lines);
            let whole = Counts::new(&tokens, names.len(), order, Some(BOS)).unwrap();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(lines.len())).collect();
            cuts.extend([0, lines.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|cut| {
                let (tokens, own) = numbered(&lines[cut[0]..cut[1]]);
                let ids: Vec<u32> = own.iter().map(|name| names.iter().position(|other| other == name).unwrap() as u32).collect();
                (Counts::new(&tokens, own.len(), order, Some(BOS)).unwrap(), ids)
            }).collect();
            let shards: Vec<Shard<'_>> = parts.iter().map(|(counts, ids)| Shard { counts, ids }).collect();
            prop_assert_eq!(Counts::merge(&shards, names.len()).unwrap(), whole);
        }

    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let lines = Counts::new(&[1, 3, 2], 4, 2, Some(1)).unwrap();
        let stream = Counts::new(&[1, 3, 2], 4, 2, None).unwrap();
        let longer = Counts::new(&[1, 3, 2], 4, 3, Some(1)).unwrap();
        let ids = [0, 1, 2, 3];
        let shard = |counts| Shard { counts, ids: &ids[..] };
        for (wrong, says) in [
            (vec![], "no counts"),
            (vec![shard(&lines), shard(&stream)], "stream"),
            (vec![shard(&lines), shard(&longer)], "orders"),
            (vec![Shard { counts: &lines, ids: &[0, 1, 2, 4] }], "token ids"),
            (vec![Shard { counts: &lines, ids: &[0, 1, 2, 2] }], "token ids"),
            (vec![Shard { counts: &lines, ids: &[0, 1, 2] }], "token ids"),
        ] {
            let error = Counts::merge(&wrong, 4).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let mut many = lines.clone();
        many.levels[1].counts[0] = u32::MAX;
        assert!(Counts::merge(&[shard(&lines), shard(&many)], 4).is_err());
    }
}
