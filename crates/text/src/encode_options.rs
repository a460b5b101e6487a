//! Options of encoding beyond the tokenizer's own rules.

use serde::{Deserialize, Serialize};

/// Options of encoding; the default is one thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The maximum number of threads of the current rayon pool; 0 is one. It changes no result.
    pub threads: usize,
    /// The treatment of words spelled like special tokens.
    pub literal_specials: LiteralSpecials,
    /// The treatment of a last line without a newline.
    pub last_line: LastLine,
}

/// The treatment, by a word tokenizer, of a word spelled like one of its special tokens: `<unk>`,
/// and in line mode `<s>` and `</s>`. It never becomes the special token. Other tokenizers read it
/// as characters.
///
/// Texts for other programs often have their sentences between `<s>` and `</s>`. A first word `<s>`
/// and a last word `</s>` of a line are left out, except with [`Self::Error`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiteralSpecials {
    /// An unknown word.
    #[default]
    Unk,
    /// White space, as KenLM's `lmplz --skip_symbols` reads it.
    Skip,
    /// An error, as in KenLM's `lmplz` without that option.
    Error,
}

/// The treatment, in line mode, of a file's last line when no newline ends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastLine {
    /// A sentence like the others.
    #[default]
    Sentence,
    /// The start of a sentence, without `</s>`, as in KenLM's `lmplz`.
    Open,
}
