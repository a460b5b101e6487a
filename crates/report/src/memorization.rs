//! Detection of memorized text: the longest common substring of a sample and the training text.

/// A common substring of two texts, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommonRun {
    /// The start index in the sample.
    pub(crate) start: usize,
    /// The start index in the text.
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// The longest common substring, the first of its length in both, by a suffix array of the sample.
pub(crate) fn longest_common_substring(sample: &[u32], text: &[u32]) -> CommonRun {
    let mut suffixes: Vec<&[u32]> = (0..sample.len()).map(|start| &sample[start..]).collect();
    suffixes.sort_unstable();
    let (mut longest, mut at) = (0, 0);
    for index in 0..text.len() {
        let rest = &text[index..];
        let after = suffixes.partition_point(|suffix| *suffix < rest);
        // The suffix with the longest common prefix is next to the insertion point.
        for suffix in &suffixes[after.saturating_sub(1)..sample.len().min(after + 1)] {
            let len = suffix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if len > longest {
                (longest, at) = (len, index);
            }
        }
    }
    let run = &text[at..at + longest];
    let start = (0..sample.len()).find(|&start| sample[start..].starts_with(run)).unwrap_or(0);
    CommonRun { start, at, len: longest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(sample: &[u32], text: &[u32]) -> usize {
        let mut best = 0;
        for i in 0..sample.len() {
            for j in 0..text.len() {
                best = best.max(sample[i..].iter().zip(&text[j..]).take_while(|(a, b)| a == b).count());
            }
        }
        best
    }

    proptest! {
        #[test]
        fn it_is_the_longest_and_it_is_there(
            sample in prop::collection::vec(0u32..3, 0..40),
            text in prop::collection::vec(0u32..3, 0..80),
        ) {
            let found = longest_common_substring(&sample, &text);
            prop_assert_eq!(found.len, slow(&sample, &text));
            prop_assert_eq!(
                &sample[found.start..found.start + found.len],
                &text[found.at..found.at + found.len]
            );
        }
    }
}
