//! Counts of unusual things in texts, and the notices about them.

use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::LiteralSpecials;
use crate::numbers::many;

/// Counts of what a reader met, shared with that reader.
pub(crate) type Counted = Arc<Mutex<TextWarnings>>;

/// Counts of unusual things in a text, from which notices for the user are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextWarnings {
    /// The bytes of the text after cleaning.
    pub(crate) bytes: u64,
    /// Carriage returns before a newline that are a part of the text.
    pub(crate) carriage_returns: u64,
    /// Carriage returns before a newline that are read as a part of the end of the line.
    pub(crate) line_ends: u64,
    pub(crate) nuls: u64,
    /// Bytes that were no text and became U+FFFD.
    pub(crate) replaced: u64,
    /// Lines and records that were left out because of such bytes.
    pub(crate) skipped_lines: u64,
    /// Records that were left out because they have no text in the field, or are none.
    pub(crate) without_field: u64,
    pub(crate) damaged_records: u64,
    /// Byte-order marks that were removed from the starts of lines.
    pub(crate) marks: u64,
    /// Whether a start of the text is not in Unicode's normal form C.
    pub(crate) not_nfc: bool,
    /// Words spelled like special tokens, for word tokenizers; without `sentence_marks`.
    pub(crate) special_lookalikes: u64,
    /// `<s>` at the start and `</s>` at the end of lines, for word tokenizers in line mode.
    pub(crate) sentence_marks: u64,
    /// Bytes of these marks, which are not part of the sentences.
    pub(crate) mark_bytes: u64,
    /// Lines with such marks, for other tokenizers.
    pub(crate) marked_lines: u64,
    /// Whether `<UNK>` is one of the learned words.
    pub(crate) uppercase_unk: bool,
    /// Names of special tokens of a tokenizer's file, which are read as characters.
    pub(crate) special_names: u64,
    /// Cuts in very long lines without white space.
    pub(crate) mid_word_cuts: u64,
}

impl AddAssign for TextWarnings {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.carriage_returns += other.carriage_returns;
        self.line_ends += other.line_ends;
        self.replaced += other.replaced;
        self.skipped_lines += other.skipped_lines;
        self.without_field += other.without_field;
        self.damaged_records += other.damaged_records;
        self.marks += other.marks;
        self.not_nfc |= other.not_nfc;
        self.nuls += other.nuls;
        self.special_lookalikes += other.special_lookalikes;
        self.sentence_marks += other.sentence_marks;
        self.mark_bytes += other.mark_bytes;
        self.marked_lines += other.marked_lines;
        self.uppercase_unk |= other.uppercase_unk;
        self.mid_word_cuts += other.mid_word_cuts;
        self.special_names += other.special_names;
    }
}

impl TextWarnings {
    /// Without `mid_word_cuts` if `anywhere`: the tokenizer may cut between any two characters.
    pub(crate) fn ignore_cuts_if(self, anywhere: bool) -> Self {
        Self { mid_word_cuts: if anywhere { 0 } else { self.mid_word_cuts }, ..self }
    }

    /// The carriage returns are read as line ends if `read`: the tokenizer takes them for white
    /// space.
    pub(crate) fn with_line_ends_if(mut self, read: bool) -> Self {
        if read {
            self.line_ends += std::mem::take(&mut self.carriage_returns);
        }
        self
    }

    /// The notices for the user; `literal` is the treatment of `special_lookalikes`.
    pub(crate) fn notices(self, literal: LiteralSpecials) -> Vec<String> {
        let mut notices = self.cleaning_notices();
        if self.line_ends > 0 {
            notices.push(format!("CRLF ends {}; they are read as line ends", many(self.line_ends, "line")));
        }
        if self.nuls > 0 {
            notices.push(format!("the text has {}; NULs are kept", many(self.nuls, "NUL byte")));
        }
        if self.mid_word_cuts > 0 {
            let places = many(self.mid_word_cuts, "place");
            notices.push(format!(
                "no line end or space in 16 MiB: the text is cut in {places}, also within words"
            ));
        }
        notices.extend(self.mark_notices(literal));
        if self.uppercase_unk {
            notices.push(
                "the text has the word <UNK>, which is not <unk> here; some programs do not distinguish them"
                    .into(),
            );
        }
        notices
    }

    /// The notices about what was changed or left out of a text.
    pub(crate) fn cleaning_notices(self) -> Vec<String> {
        let mut notices = Vec::new();
        if self.replaced > 0 {
            notices.push(format!("{} became U+FFFD", many(self.replaced, "invalid byte")));
        }
        for (count, thing, why) in [
            (self.skipped_lines, "line", "with bytes that are no text"),
            (self.without_field, "record", "without a text in the field"),
            (self.damaged_records, "record", "not JSON, too long, or with a wrong number of fields"),
        ] {
            if count > 0 {
                notices.push(format!("left out {} {why}", many(count, thing)));
            }
        }
        if self.marks > 0 {
            notices.push(format!(
                "removed {} at starts of lines, as in texts that were joined",
                many(self.marks, "byte-order mark")
            ));
        }
        if self.carriage_returns > 0 {
            notices.push(format!(
                "CRLF ends {}; the carriage returns are kept",
                many(self.carriage_returns, "line")
            ));
        }
        if self.not_nfc {
            notices.push(
                "the text is not in Unicode's normal form C: an accent can be a character of its own, and one \
                 letter can have two spellings; data.normalize = \"nfc\" composes them"
                    .into(),
            );
        }
        notices
    }

    /// The notices about marks and names of special tokens in a text.
    pub(crate) fn mark_notices(self, literal: LiteralSpecials) -> Vec<String> {
        let mut notices = Vec::new();
        if self.sentence_marks > 0 {
            notices.push(format!(
                "recognised {}: <s> at the start of a line and </s> at its end are not words of the text",
                many(self.sentence_marks, "sentence mark")
            ));
        }
        if self.marked_lines > 0 {
            notices.push(format!(
                "<s> starts or </s> ends {}; this tokenizer reads them as characters, not as sentence marks",
                many(self.marked_lines, "line")
            ));
        }
        if self.special_names > 0 {
            notices.push(format!(
                "{} of the tokenizer's special tokens in the text: read as characters, not as those tokens",
                many(self.special_names, "name")
            ));
        }
        if self.special_lookalikes > 0 {
            let what = match literal {
                LiteralSpecials::Skip => "skipped",
                _ => "unknown words (literal_specials can be \"skip\" or \"error\" instead)",
            };
            notices.push(format!(
                "{} spelled like special tokens: {what}",
                many(self.special_lookalikes, "word")
            ));
        }
        notices
    }

    pub(crate) fn count_bytes(&mut self, bytes: &[u8]) {
        for at in memchr::memchr2_iter(b'\r', b'\0', bytes) {
            if bytes[at] == b'\0' {
                self.nuls += 1;
            } else if bytes.get(at + 1) == Some(&b'\n') {
                self.carriage_returns += 1;
            }
        }
    }
}

/// Locks `mutex`, also after a panic of another thread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
