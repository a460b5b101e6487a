//! Processes the chunks of a text on several threads. Which thread takes which chunk is random, so
//! no result may depend on it.

use std::sync::Mutex;

use rayon::prelude::*;

use crate::chunks::{CHUNK_BYTES, Span, TextChunk, TextChunks};
use crate::error::{Error, Result};
use crate::warnings::{TextWarnings, lock};

/// Calls `work` with every chunk of `spans` on up to `threads` threads of the current rayon pool.
///
/// Each thread has a state made by `make` and gets its chunks in order; records come one by one,
/// with the index of their chunk. Returns the states and the warnings about the text.
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
    let most = if spans.iter().any(Span::is_stream) {
        usize::MAX
    } else {
        usize::try_from(bytes / CHUNK_BYTES as u64).unwrap_or(usize::MAX) + 1
    };
    let threads = threads.min(rayon::current_num_threads()).clamp(1, most);
    let chunks = Mutex::new(TextChunks::new(spans));
    let run = || -> Result<(State, TextWarnings), (usize, Error)> {
        let mut state = make().map_err(|error| (0, error))?;
        let (mut chunk, mut piece) = (TextChunk::default(), TextChunk::default());
        let mut warnings = TextWarnings::default();
        loop {
            {
                let mut chunks = lock(&chunks);
                let index = chunks.handed_out();
                if !chunks.read_into(&mut chunk).map_err(|error| (index, error))? {
                    return Ok((state, warnings));
                }
            }
            let visit =
                |piece: &mut TextChunk, warnings: &mut TextWarnings| work(&mut state, warnings, piece);
            if let Err(error) = chunk.visit(&mut piece, &mut warnings, visit) {
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
        None => {
            warnings += lock(&chunks).found;
            Ok((states, warnings))
        }
    }
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
            let mut spans = [Span::from_text("memory", &text), Span::from_text("end", "end\r\n")];
            spans[0].cleaning.keep_nuls = true;
            let read = || for_each_chunk(&spans, threads, || Ok(Vec::new()), keep);
            let (states, warnings) = with_threads(in_pool, read).unwrap();
            assert!(states.len() <= threads.min(in_pool));
            assert_eq!(
                warnings,
                TextWarnings {
                    bytes: 1_800_005,
                    carriage_returns: 300_001,
                    nuls: 300_000,
                    ..TextWarnings::default()
                }
            );
            assert!(states.iter().all(|state| state.is_sorted_by(|a, b| a.0 < b.0)));
            let mut all: Vec<_> = states.into_iter().flatten().collect();
            all.sort();
            let joined: Vec<u8> = all.into_iter().flat_map(|(_, bytes)| bytes).collect();
            assert!(joined == format!("{text}end\r\n").into_bytes());
        }
    }
}
