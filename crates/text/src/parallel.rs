//! Processes the chunks of a text on several threads. Which thread takes which chunk is random, so
//! no result may depend on it.

use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use crate::LiteralSpecials;
use crate::chunks::{CHUNK_BYTES, Span, TextChunk, TextChunks};
use crate::error::{Error, Result};
use crate::numbers::many;

/// Counts of unusual things in a text, from which notices for the user are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TextWarnings {
    /// Carriage returns before a newline.
    pub(crate) carriage_returns: u64,
    pub(crate) nuls: u64,
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
    /// Cuts in very long lines without white space.
    pub(crate) mid_word_cuts: u64,
}

impl AddAssign for TextWarnings {
    fn add_assign(&mut self, other: Self) {
        self.carriage_returns += other.carriage_returns;
        self.nuls += other.nuls;
        self.special_lookalikes += other.special_lookalikes;
        self.sentence_marks += other.sentence_marks;
        self.mark_bytes += other.mark_bytes;
        self.marked_lines += other.marked_lines;
        self.uppercase_unk |= other.uppercase_unk;
        self.mid_word_cuts += other.mid_word_cuts;
    }
}

impl TextWarnings {
    /// Without `mid_word_cuts` if `anywhere`: the tokenizer may cut between any two characters.
    pub(crate) fn ignore_cuts_if(self, anywhere: bool) -> Self {
        Self { mid_word_cuts: if anywhere { 0 } else { self.mid_word_cuts }, ..self }
    }

    /// The notices for the user; `literal` is the treatment of `special_lookalikes`.
    pub(crate) fn notices(self, literal: LiteralSpecials) -> Vec<String> {
        let mut notices = Vec::new();
        if self.carriage_returns > 0 {
            notices.push(format!(
                "CRLF ends {}; the carriage returns are kept",
                many(self.carriage_returns, "line")
            ));
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

    fn count_bytes(&mut self, bytes: &[u8]) {
        for at in memchr::memchr2_iter(b'\r', b'\0', bytes) {
            if bytes[at] == b'\0' {
                self.nuls += 1;
            } else if bytes.get(at + 1) == Some(&b'\n') {
                self.carriage_returns += 1;
            }
        }
    }
}

/// Calls `work` with every chunk of `spans` on up to `threads` threads of the current rayon pool.
///
/// Each thread has a state made by `make` and gets its chunks in order. Returns the states and the
/// warnings about the text.
///
/// # Errors
/// The first error in the text, for any number of threads.
pub(crate) fn for_each_chunk<State: Send>(
    spans: &[Span],
    threads: usize,
    make: impl Fn() -> Result<State> + Sync,
    work: impl Fn(&mut State, &mut TextWarnings, &mut TextChunk) -> Result<()> + Sync,
) -> Result<(Vec<State>, TextWarnings)> {
    let bytes: u64 = spans.iter().map(Span::len).sum();
    let most = usize::try_from(bytes / CHUNK_BYTES as u64).unwrap_or(usize::MAX) + 1;
    let threads = threads.min(rayon::current_num_threads()).clamp(1, most);
    let chunks = Mutex::new(TextChunks::new(spans));
    let run = || -> Result<(State, TextWarnings), (usize, Error)> {
        let mut state = make().map_err(|error| (0, error))?;
        let mut chunk = TextChunk::default();
        let mut warnings = TextWarnings::default();
        loop {
            {
                let mut chunks = lock(&chunks);
                let index = chunks.handed_out();
                if !chunks.read_into(&mut chunk).map_err(|error| (index, error))? {
                    return Ok((state, warnings));
                }
            }
            warnings.count_bytes(&chunk.bytes);
            warnings.mid_word_cuts += u64::from(chunk.ends_mid_word);
            if let Err(error) = work(&mut state, &mut warnings, &mut chunk) {
                // The other threads finish their chunks: an earlier chunk may fail as well.
                lock(&chunks).stop();
                return Err((chunk.index, error));
            }
        }
    };
    let mut states = Vec::new();
    let mut warnings = TextWarnings::default();
    let mut failure: Option<(usize, Error)> = None;
    let results: Vec<_> = (0..threads).into_par_iter().map(|_| run()).collect();
    for result in results {
        match result {
            Ok((state, its)) => {
                states.push(state);
                warnings += its;
            }
            Err(found) if failure.as_ref().is_none_or(|first| found.0 < first.0) => failure = Some(found),
            Err(_) => {}
        }
    }
    match failure {
        Some((_, error)) => Err(error),
        None => Ok((states, warnings)),
    }
}

/// Locks `mutex`, also after a panic of another thread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `f` in a new pool.
    fn with_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
    }

    #[test]
    fn the_first_failure_is_told_whoever_met_it() {
        let text = "some words on a line\n".repeat(100_000);
        for threads in 1..6 {
            let fail_from_two = |(): &mut (), _: &mut TextWarnings, chunk: &mut TextChunk| match chunk.index {
                2.. => {
                    let (name, message) = (chunk.index.to_string(), String::new());
                    Err(Error::TooShort { name, message, split: false })
                }
                _ => Ok(()),
            };
            let read =
                || for_each_chunk(&[Span::from_text("memory", &text)], threads, || Ok(()), fail_from_two);
            let error = with_threads(threads, read).unwrap_err();
            assert!(error.to_string().starts_with("2 is"), "{error}");
        }
    }

    #[test]
    fn pieces_come_once_and_in_order() {
        let text = "a\r\nb\0\n".repeat(300_000);
        for (threads, in_pool) in [(1, 1), (2, 2), (7, 7), (7, 1), (2, 7)] {
            let keep = |state: &mut Vec<_>, _: &mut TextWarnings, chunk: &mut TextChunk| {
                state.push((chunk.index, chunk.bytes.clone()));
                Ok(())
            };
            let spans = [Span::from_text("memory", &text), Span::from_text("end", "end\r\n")];
            let read = || for_each_chunk(&spans, threads, || Ok(Vec::new()), keep);
            let (states, warnings) = with_threads(in_pool, read).unwrap();
            assert!(states.len() <= threads.min(in_pool));
            assert_eq!(
                warnings,
                TextWarnings { carriage_returns: 300_001, nuls: 300_000, ..TextWarnings::default() }
            );
            assert!(states.iter().all(|state| state.is_sorted_by(|a, b| a.0 < b.0)));
            let mut all: Vec<_> = states.into_iter().flatten().collect();
            all.sort();
            let joined: Vec<u8> = all.into_iter().flat_map(|(_, bytes)| bytes).collect();
            assert!(joined == format!("{text}end\r\n").into_bytes());
        }
    }
}
