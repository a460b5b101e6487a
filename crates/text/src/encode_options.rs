//! How texts become tokens, beyond the tokenizer's own rules.

use serde::{Deserialize, Serialize};

/// How texts are read; the default is one thread and no surprises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// How many threads of the current rayon pool read, at most; 0 is one. The tokens are the same for any number.
    pub threads: usize,
    /// What to do with words that are spelled like special tokens.
    pub literal_specials: LiteralSpecials,
    /// What a last line without a newline is.
    pub last_line: LastLine,
}

/// How a word tokenizer reads a word that is spelled like one of its special tokens: `<unk>`, and in line mode `<s>`
/// and `</s>`. No such word ever becomes the token of that name; to the other tokenizers it is only characters.
///
/// Texts for other programs often have their sentences between `<s>` and `</s>`. The first word of a line that is `<s>`
/// and the last one that is `</s>` say what is so anyway, and are no words unless this is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiteralSpecials {
    /// A word that the vocabulary lacks.
    #[default]
    Unk,
    /// White space, as KenLM's `lmplz --skip_symbols` reads it.
    Skip,
    /// An error, as in KenLM's `lmplz` without that option.
    Error,
}

/// What a file's last line is in line mode when no newline ends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastLine {
    /// A sentence like any other.
    #[default]
    Sentence,
    /// The start of one, without `</s>`, as KenLM's `lmplz` counts it.
    Open,
}
