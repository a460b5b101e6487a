//! An order-preserving prefix code that is short for frequent words, so that a sort key holds more
//! of them.
//!
//! Words are numbered by first appearance (or by frequency), so small numbers are frequent. A code
//! is two bits for the class of a number, and its distance from the first of the class. Codes
//! compare like the numbers.

/// Bits of the class.
const PREFIX: u32 = 2;

/// A code of numbers from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixCode {
    /// The first number of each class.
    bases: [u32; 4],
    /// The bits of a distance in each class.
    widths: [u32; 4],
}

impl PrefixCode {
    /// The code with the fewest bits for numbers with these frequencies.
    pub(super) fn new(frequencies: impl Iterator<Item = u32>) -> Self {
        let sum = |sum: &mut u64, frequency: u32| {
            *sum += u64::from(frequency);
            Some(*sum)
        };
        let below: Vec<u64> = std::iter::once(0).chain(frequencies.scan(0, sum)).collect();
        let total = below[below.len() - 1];
        let whole = super::packed::bits_for(below.len() as u64 - 1);
        let mut best = (u64::MAX, Self { bases: [0; 4], widths: [whole; 4] });
        for a in 1..=whole {
            for b in a..=whole {
                for c in b..=whole {
                    let bases = [0, 1 << a, (1 << a) + (1 << b), (1_u64 << a) + (1 << b) + (1 << c)];
                    let widths = [a, b, c, whole];
                    let mut bits = total * u64::from(PREFIX);
                    for class in 0..4 {
                        let end = bases.get(class + 1).copied().unwrap_or(u64::MAX);
                        let (start, end) = (cumulative(&below, bases[class]), cumulative(&below, end));
                        bits += (end - start) * u64::from(widths[class]);
                    }
                    if bits < best.0 {
                        // A base above all numbers is never used.
                        let bases = bases.map(|base| base.min(u64::from(u32::MAX)) as u32);
                        best = (bits, Self { bases, widths });
                    }
                }
            }
        }
        best.1
    }

    /// The code of `value`, and its length in bits.
    #[inline]
    pub(super) fn encode(&self, value: u32) -> (u64, u32) {
        let class = usize::from(value >= self.bases[1])
            + usize::from(value >= self.bases[2])
            + usize::from(value >= self.bases[3]);
        let width = self.widths[class];
        ((class as u64) << width | u64::from(value - self.bases[class]), width + PREFIX)
    }

    /// The number whose code begins `bits`, and the length of the code.
    #[inline]
    pub(super) fn decode(&self, bits: u128) -> (u32, u32) {
        let class = (bits >> (128 - PREFIX)) as usize;
        let width = self.widths[class];
        let distance = (bits << PREFIX >> 64) as u64 >> (64 - width);
        (self.bases[class].wrapping_add(distance as u32), width + PREFIX)
    }
}

fn cumulative(below: &[u64], index: u64) -> u64 {
    below[usize::try_from(index).map_or(below.len() - 1, |index| index.min(below.len() - 1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_and_keep_the_order() {
        for (n, skew) in [(1, 1), (5, 1), (300, 7), (70_000, 1000), (1_000_000, 3)] {
            let frequencies: Vec<u32> = (0..n).map(|i| 1 + skew * 1000 / (i + 1)).collect();
            let code = PrefixCode::new(frequencies.iter().copied());
            let mut before = None;
            for value in (0..n).step_by(1 + n as usize / 5000) {
                let (bits, len) = code.encode(value);
                let aligned = u128::from(bits) << (128 - len);
                assert_eq!(code.decode(aligned | 1), (value, len));
                assert!(before < Some(aligned));
                before = Some(aligned);
            }
        }
    }

    #[test]
    fn frequent_numbers_are_short() {
        let frequencies: Vec<u32> = (0..100_000).map(|i| 10_000_000 / (i + 1)).collect();
        let code = PrefixCode::new(frequencies.iter().copied());
        let bits: f64 =
            (0..).zip(&frequencies).map(|(v, &f)| f64::from(code.encode(v).1) * f64::from(f)).sum();
        assert!(bits / frequencies.iter().map(|&f| f64::from(f)).sum::<f64>() < 13.0);
    }
}
