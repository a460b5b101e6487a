//! A patch from the text of tokens to the file that they were made of, where a tokenizer does not
//! give it back: unknown characters, bytes that are not UTF-8, white space of words.

use super::{put_number, take_number};
use crate::{Error, Result};

/// Bytes that must be alike for the two to go on together.
const ALIKE: usize = 8;
/// The longest part of either that is skipped at once.
const REACH: usize = 48;

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Instructions that make `to` of `from`: bytes to copy, bytes to leave out, and bytes to insert.
/// The rest is copied.
pub fn diff(from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut patch, mut f, mut t) = (Vec::new(), 0, 0);
    loop {
        let copied = common(&from[f..], &to[t..]);
        (f, t) = (f + copied, t + copied);
        if f == from.len() && t == to.len() {
            return patch;
        }
        let goes_on = |out: usize, into: usize| {
            let (from, to) = (&from[f + out..], &to[t + into..]);
            let alike = common(&from[..from.len().min(ALIKE)], to);
            alike == ALIKE || alike == from.len() && alike == to.len()
        };
        let (most_out, most_into) = (REACH.min(from.len() - f), REACH.min(to.len() - t));
        // The fewest bytes first.
        let ways = (1..=most_out + most_into).flat_map(|both| {
            (both.saturating_sub(most_into)..=both.min(most_out)).map(move |out| (out, both - out))
        });
        let (out, into) =
            ways.into_iter().find(|&(out, into)| goes_on(out, into)).unwrap_or((most_out, most_into));
        for number in [copied, out, into] {
            put_number(&mut patch, number as u64);
        }
        patch.extend(&to[t..t + into]);
        (f, t) = (f + out, t + into);
    }
}

/// `from` with the instructions of `patch`; at most `limit` bytes.
///
/// # Errors
/// Instructions that are not for `from`, or make more.
pub fn apply(from: &[u8], mut patch: &[u8], limit: u64) -> Result<Vec<u8>> {
    let wrong = || Error::malformed("compressed file", "its corrections are not of its text: it was damaged");
    let (mut to, mut rest) = (Vec::new(), from);
    let mut copy = |bytes: &mut &[u8], count: u64, keep: bool| {
        let count = usize::try_from(count).ok().filter(|&count| count <= bytes.len()).ok_or_else(wrong)?;
        let (front, after) = bytes.split_at(count);
        *bytes = after;
        if keep {
            to.extend(front);
        }
        if to.len() as u64 > limit { Err(wrong()) } else { Ok(()) }
    };
    while !patch.is_empty() {
        let [copied, out, into] = [(); 3].map(|()| take_number(&mut patch));
        copy(&mut rest, copied.ok_or_else(wrong)?, true)?;
        copy(&mut rest, out.ok_or_else(wrong)?, false)?;
        copy(&mut patch, into.ok_or_else(wrong)?, true)?;
    }
    let all = rest.len() as u64;
    copy(&mut rest, all, true)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_patch_makes_the_one_of_the_other(
            from in prop::collection::vec(prop::sample::select(vec![b'a', b'b', b' ', 255]), 0..300),
            cuts in prop::collection::vec((0..300usize, 0..6usize, "[ab X]{0,9}"), 0..8),
            other in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut to = from.clone();
            for (at, out, into) in cuts {
                let at = at.min(to.len());
                to.splice(at..(at + out).min(to.len()), into.bytes());
            }
            for to in [&to, &other] {
                let patch = diff(&from, to);
                prop_assert_eq!(&apply(&from, &patch, to.len() as u64).unwrap(), to);
            }
            prop_assert!(from.is_empty() || diff(&from, &from).is_empty());
            // Bytes that are no patch are an error or another text, within the limit.
            if let Ok(text) = apply(&from, &other, 400) {
                prop_assert!(text.len() <= 400);
            }
        }
    }

    #[test]
    fn an_unknown_character_takes_a_few_bytes() {
        let patch = diff("one <unk> two three".as_bytes(), "one é two three".as_bytes());
        assert_eq!(patch, [&[4, 5, 2][..], "é".as_bytes()].concat());
    }
}
