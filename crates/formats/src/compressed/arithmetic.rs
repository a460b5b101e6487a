//! Arithmetic coding of binary decisions (Rissanen and Langdon 1979), with a range of 64 bits and
//! probabilities of 32, so that its length is the nats of the decisions but for some bytes.

use crate::{Error, Result};

/// The part of the range `low..=high` that stands for a one, from the low end: its last number.
fn split(low: u64, high: u64, p: f64) -> u64 {
    // At least 2⁻²⁰ of the range for either outcome. Products below 2³² are exact.
    let p = ((p * 4294967296.0) as u64).clamp(1 << 12, (1 << 32) - (1 << 12));
    low + ((u128::from(high - low) * u128::from(p)) >> 32) as u64
}

/// A coder of decisions.
#[derive(Debug)]
pub struct Encoder {
    low: u64,
    high: u64,
    out: Vec<u8>,
    is_empty: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { low: 0, high: u64::MAX, out: Vec::new(), is_empty: true }
    }
}

impl Encoder {
    /// Codes a decision that is a one with probability `p`.
    pub fn put(&mut self, bit: bool, p: f64) {
        let middle = split(self.low, self.high, p);
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        self.is_empty = false;
        while (self.low ^ self.high) >> 56 == 0 {
            self.out.push((self.high >> 56) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 255;
        }
    }

    /// The code: as few bytes as name a number in the range, with zeros after them.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.is_empty {
            let number = |bytes: u32| self.high & (u64::MAX << (64 - 8 * bytes));
            let bytes = (1..8).find(|&bytes| number(bytes) >= self.low).unwrap_or(8);
            self.out.extend(&self.high.to_be_bytes()[..bytes as usize]);
        }
        self.out
    }
}

/// A decoder of decisions.
#[derive(Debug)]
pub struct Decoder<'a> {
    low: u64,
    high: u64,
    value: u64,
    rest: &'a [u8],
    /// Bytes that were taken after the end.
    missing: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder of what [`Encoder::finish`] returned.
    pub fn new(code: &'a [u8]) -> Self {
        let mut decoder = Self { low: 0, high: u64::MAX, value: 0, rest: code, missing: 0 };
        (0..8).for_each(|_| decoder.shift());
        decoder
    }

    fn shift(&mut self) {
        let byte = match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                byte
            }
            None => {
                self.missing += 1;
                0
            }
        };
        self.value = self.value << 8 | u64::from(byte);
    }

    /// The next decision, which is a one with probability `p`.
    pub fn take(&mut self, p: f64) -> bool {
        let middle = split(self.low, self.high, p);
        let bit = self.value <= middle;
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        while (self.low ^ self.high) >> 56 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 255;
            self.shift();
        }
        bit
    }

    /// Checks that the code was long enough for what was taken.
    ///
    /// # Errors
    /// A code that ended before.
    pub fn check(&self) -> Result<()> {
        if self.missing > 8 { Err(damaged()) } else { Ok(()) }
    }

    /// Checks that all of the code was taken.
    ///
    /// # Errors
    /// A code that is longer, or ended before.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() { self.check() } else { Err(damaged()) }
    }
}

fn damaged() -> Error {
    Error::malformed("compressed file", "what it codes does not end with its bytes: they were damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decisions with probabilities, from a fixed sequence.
    fn decisions(count: u64) -> Vec<(bool, f64)> {
        let decision = |i: u64| {
            let x = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            let p = [0.5, 0.99, 1e-6, 0.3, 1.0, 0.0][(x % 6) as usize];
            (((x >> 8) % 1000) as f64 / 1000.0 < p, p)
        };
        (0..count).map(decision).collect()
    }

    fn coded(decisions: &[(bool, f64)]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for &(bit, p) in decisions {
            encoder.put(bit, p);
        }
        encoder.finish()
    }

    #[test]
    fn decisions_are_read_back_and_take_their_nats() {
        for count in [0, 1, 2, 7, 50, 20_000] {
            let decisions = decisions(count);
            let code = coded(&decisions);
            let mut decoder = Decoder::new(&code);
            for &(bit, p) in &decisions {
                assert_eq!(decoder.take(p), bit);
                decoder.check().unwrap();
            }
            decoder.end().unwrap();
            let bits: f64 = decisions
                .iter()
                .map(|&(bit, p)| (if bit { p } else { 1.0 - p }).clamp(1e-6, 1.0 - 1e-6))
                .map(|p| -p.log2())
                .sum();
            assert!(
                (code.len() as f64 - bits / 8.0).abs() < 2.0 + 1e-3 * bits / 8.0,
                "{} {bits}",
                code.len()
            );
        }
    }

    #[test]
    fn a_code_that_is_too_short_or_too_long_is_noticed() {
        let decisions = decisions(3000);
        let code = coded(&decisions);
        let read = |code: &[u8]| {
            let mut decoder = Decoder::new(code);
            let _bits: Vec<bool> = decisions.iter().map(|&(_, p)| decoder.take(p)).collect();
            decoder.end().is_ok()
        };
        assert!(read(&code));
        assert!(!read(&code[..code.len() - 20]));
        assert!(!read(&[&code[..], &[1; 20]].concat()));
    }
}
