//! The header: magic, test values, parameters and the number of n-grams of each order.

use surprisal_model::ngram::MAX_ORDER;

use super::{bytes_at, f32_at};
use crate::kenlm_problem::{Problem, VERSION, check_version};

/// The start of a file of any version.
const MAGIC: &[u8] = b"mmap lm http://kheafield.com/code";
const VERSION_MAGIC: &[u8] = b" format version ";
/// The magic's length, padded to a multiple of eight.
const TEST_VALUES: usize = 56;
const PARAMETERS: usize = 88;
const COUNTS: usize = 108;

/// The data structure of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// Hash tables.
    Probing,
    /// Hash tables with costs for decoders, which have no effect on scores.
    RestProbing,
    /// A trie of packed bits.
    Trie,
    /// A trie with quantised values.
    QuantTrie,
    /// A trie with compressed pointers.
    ArrayTrie,
    /// A trie with quantised values and compressed pointers.
    QuantArrayTrie,
}

/// The variant of a trie.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrieKind {
    pub(super) quantized: bool,
    pub(super) compressed: bool,
}

impl Structure {
    /// By their numbers in files.
    const ALL: [Self; 6] = [
        Self::Probing,
        Self::RestProbing,
        Self::Trie,
        Self::QuantTrie,
        Self::ArrayTrie,
        Self::QuantArrayTrie,
    ];

    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probing => "probing hash tables",
            Self::RestProbing => "probing hash tables with rest costs",
            Self::Trie => "trie",
            Self::QuantTrie => "quantised trie",
            Self::ArrayTrie => "trie with compressed pointers",
            Self::QuantArrayTrie => "quantised trie with compressed pointers",
        }
    }

    /// The variant, if it is a trie.
    pub(super) fn trie(self) -> Option<TrieKind> {
        let kind = |quantized, compressed| Some(TrieKind { quantized, compressed });
        match self {
            Self::Probing | Self::RestProbing => None,
            Self::Trie => kind(false, false),
            Self::QuantTrie => kind(true, false),
            Self::ArrayTrie => kind(false, true),
            Self::QuantArrayTrie => kind(true, true),
        }
    }
}

/// Whether `head`, the start of a file, is that of a KenLM binary of any version.
pub fn has_magic(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// The content of a header.
pub(super) struct Header {
    pub(super) structure: Structure,
    /// Buckets of a hash table per entry.
    pub(super) multiplier: f32,
    /// Whether the words are at the end of the file.
    pub(super) has_words: bool,
    /// The number of n-grams of each order.
    pub(super) counts: Vec<u64>,
    /// The length in bytes.
    pub(super) len: usize,
}

impl Header {
    /// Reads the header of a file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        check_magic(bytes)?;
        let short = |needed| Problem::TooShort { needed, len: bytes.len() };
        if bytes.len() < COUNTS {
            return Err(short(COUNTS));
        }
        let number = |at| u32::from_le_bytes(bytes_at(bytes, PARAMETERS + at));
        let [order] = bytes_at(bytes, PARAMETERS);
        if !(2..=MAX_ORDER).contains(&usize::from(order)) {
            return Err(Problem::Order(order));
        }
        let multiplier = f32_at(bytes, PARAMETERS + 4);
        if !(1.0..f32::INFINITY).contains(&multiplier) {
            return Err(Problem::Multiplier(multiplier));
        }
        let number_of = number(8);
        let structure = Structure::ALL.get(number_of as usize).ok_or(Problem::Structure(number_of))?;
        check_version(structure.name(), number(16), u32::from(structure.trie().is_some()))?;
        let len = (COUNTS + 8 * usize::from(order)).next_multiple_of(8);
        let counts = (0..usize::from(order)).map(|i| u64::from_le_bytes(bytes_at(bytes, COUNTS + 8 * i)));
        let counts: Vec<u64> = counts.collect();
        // An n-gram has at least a bit, so that sizes in bits fit into 64 bits below.
        if bytes.len() < len || counts.iter().any(|count| count / 8 > bytes.len() as u64) {
            let bytes =
                counts.iter().max().map_or(0, |&most| usize::try_from(most / 8).unwrap_or(usize::MAX));
            return Err(short(bytes.max(len)));
        }
        Ok(Self { structure: *structure, multiplier, has_words: number(12) & 0xFF != 0, counts, len })
    }
}

/// The header of a file with words.
pub(super) fn to_bytes(structure: Structure, multiplier: f32, counts: &[u64]) -> Vec<u8> {
    let mut out = [MAGIC, VERSION_MAGIC, VERSION.as_bytes(), b"\n"].concat();
    out.resize(TEST_VALUES, 0);
    out.extend(test_values());
    out.extend([counts.len() as u8, 0, 0, 0]);
    out.extend(multiplier.to_le_bytes());
    let structure_number = Structure::ALL.iter().position(|one| *one == structure).unwrap_or(0) as u32;
    out.extend(structure_number.to_le_bytes());
    out.extend([1, 0, 0, 0]);
    out.extend(u32::from(structure.trie().is_some()).to_le_bytes());
    out.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

/// Numbers that a machine of another kind would read differently.
fn test_values() -> [u8; PARAMETERS - TEST_VALUES] {
    let mut bytes = [0; PARAMETERS - TEST_VALUES];
    let values = [0.0_f32.to_bits(), 1.0_f32.to_bits(), (-0.5_f32).to_bits(), 1, u32::MAX, 0, 1, 0];
    for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Checks everything before the parameters.
fn check_magic(bytes: &[u8]) -> Result<(), Problem> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Problem::Magic)?;
    if rest.starts_with(b" incomplete") {
        return Err(Problem::Unfinished);
    }
    let rest = rest.strip_prefix(VERSION_MAGIC).ok_or(Problem::Magic)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).take(20).count();
    let version = String::from_utf8_lossy(&rest[..digits]);
    if version != VERSION {
        return Err(Problem::Version(version.into_owned()));
    }
    if bytes.len() < PARAMETERS {
        return Err(Problem::TooShort { needed: PARAMETERS, len: bytes.len() });
    }
    if bytes[TEST_VALUES..PARAMETERS] == test_values() { Ok(()) } else { Err(Problem::Machine) }
}
