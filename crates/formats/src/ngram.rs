//! Counted models as bytes: `model.ngram`.
//!
//! ```text
//! "SURPNGM1"  order: u64     then for each order: five arrays (contexts: u32, words: u32, starts: u64, counts: u64,
//!                            totals: u64), each as its length in elements (u64) and its elements
//! ```
//!
//! All numbers are little-endian. Lengths are checked against what is left of the bytes before anything is allocated;
//! whether the counts are those of a model is checked by `surprisal_model`.

use surprisal_model::ngram::{Counts, Level, MAX_ORDER};

use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"SURPNGM1";

/// The bytes of `counts`.
pub fn to_bytes(counts: &Counts) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((counts.levels.len() as u64).to_le_bytes());
    let narrow = |values: &[u32], bytes: &mut Vec<u8>| {
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let wide = |values: &[u64], bytes: &mut Vec<u8>| {
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    for level in &counts.levels {
        narrow(&level.contexts, &mut bytes);
        narrow(&level.words, &mut bytes);
        wide(&level.starts, &mut bytes);
        wide(&level.counts, &mut bytes);
        wide(&level.totals, &mut bytes);
    }
    bytes
}

/// The counts in `bytes`.
///
/// # Errors
/// [`Error::Malformed`].
pub fn from_bytes(bytes: &[u8]) -> Result<Counts> {
    let wrong = |problem: &str| Error::malformed("model.ngram", &problem);
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not start as one"))?;
    let order = number(&mut rest)
        .filter(|&order| order as usize <= MAX_ORDER)
        .ok_or_else(|| wrong("its order is impossible"))?;
    let mut counts = Counts::default();
    for context_len in 0..order as usize {
        let level = (|| {
            Some(Level {
                context_len,
                contexts: array(&mut rest, u32::from_le_bytes)?,
                words: array(&mut rest, u32::from_le_bytes)?,
                starts: array(&mut rest, u64::from_le_bytes)?,
                counts: array(&mut rest, u64::from_le_bytes)?,
                totals: array(&mut rest, u64::from_le_bytes)?,
            })
        })();
        counts.levels.push(level.ok_or_else(|| wrong("it ends too early"))?);
    }
    if !rest.is_empty() {
        return Err(wrong("there is more after its end"));
    }
    Ok(counts)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*head))
}

fn array<T, const N: usize>(rest: &mut &[u8], read: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let len = usize::try_from(number(rest)?).ok()?;
    let (elements, tail) = rest.split_at_checked(len.checked_mul(N)?)?;
    *rest = tail;
    Some(elements.as_chunks::<N>().0.iter().map(|&element| read(element)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let text = [0u32, 1, 2, 0, 1, 1];
        Counts::of(&[&text[..]], 3, false)
    }

    #[test]
    fn counts_come_back() {
        assert_eq!(from_bytes(&to_bytes(&counts())).unwrap(), counts());
        assert_eq!(from_bytes(&to_bytes(&Counts::default())).unwrap(), Counts::default());
    }

    #[test]
    fn every_truncation_and_every_claim_of_more_is_refused() {
        let bytes = to_bytes(&counts());
        for len in 0..bytes.len() {
            assert!(from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(from_bytes(&longer).is_err());
        for at in [8, 16, 24] {
            let mut huge = bytes.clone();
            huge[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
            assert!(from_bytes(&huge).is_err(), "{at}");
        }
    }
}
