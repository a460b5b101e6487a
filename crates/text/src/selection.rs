//! The lines or records that are one part of a split.

use std::sync::Arc;

/// The lines or records of a text that are one part of a split.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// A bit for each unit of all texts, set for validation.
    pub(crate) val: Arc<[u64]>,
    /// The number of units of earlier texts.
    pub(crate) first: u64,
    pub(crate) is_val: bool,
    /// The byte that ends a unit.
    pub(crate) end: u8,
}

impl Selection {
    /// The number of units that end in `bytes`.
    pub(crate) fn units(&self, bytes: &[u8]) -> u64 {
        memchr::memchr_iter(self.end, bytes).count() as u64
    }

    /// Whether a unit of the text is one of this part.
    pub(crate) fn has(&self, unit: u64) -> bool {
        is_set(&self.val, self.first + unit) == self.is_val
    }

    /// Keeps the units of this part in `bytes`, which `before` units of the text precede.
    pub(crate) fn retain(&self, bytes: &mut Vec<u8>, before: u64) {
        let units = (before..).zip(bytes.split_inclusive(|&byte| byte == self.end));
        let kept: Vec<&[u8]> = units.filter(|(unit, _)| self.has(*unit)).map(|(_, unit)| unit).collect();
        *bytes = kept.concat();
    }
}

/// Whether bit `at` of a bit set is set.
pub(crate) fn is_set(bits: &[u64], at: u64) -> bool {
    bits[(at / 64) as usize] >> (at % 64) & 1 == 1
}
