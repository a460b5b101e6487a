//! Processes the chunks of a text on several threads. Which thread takes which chunk is random, so
//! no result may depend on it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

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
    for_each_of(TextChunks::new(spans), threads, make, work)
}

/// [`for_each_chunk`] of chunks that are cut in a way of their own.
///
/// # Errors
/// As [`for_each_chunk`].
pub(crate) fn for_each_of<State: Send>(
    chunks: TextChunks,
    threads: usize,
    make: impl Fn() -> Result<State> + Sync,
    work: impl Fn(&mut State, &mut TextWarnings, &mut TextChunk) -> Result<()> + Sync,
) -> Result<(Vec<State>, TextWarnings)> {
    for_each_raw_chunk(chunks, threads, make, |state, warnings, chunk, piece| {
        chunk.visit(piece, warnings, |piece, warnings| work(state, warnings, piece))
    })
}

/// Passes what `encode` makes of each of `chunks` to `write`, in the order of the text and in
/// bounded memory. Each thread adds up its counts; returns them and the warnings about the text.
///
/// # Errors
/// As [`for_each_chunk`]; an error of `write`.
pub(crate) fn write_in_order<Counts: Default + Send, Encoded: Default + Send>(
    chunks: TextChunks,
    threads: usize,
    encode: impl Fn(&mut Counts, &mut TextWarnings, &mut TextChunk, &mut Encoded) -> Result<()> + Sync,
    write: impl FnMut(Encoded) -> Result<()> + Send,
) -> Result<(Vec<Counts>, TextWarnings)> {
    let queue = Queue {
        state: Mutex::new(QueueState { next: 0, waiting: BTreeMap::new(), is_over: false, write }),
        moved: Condvar::new(),
    };
    for_each_raw_chunk(
        chunks,
        threads,
        || Ok(Counts::default()),
        |counts, warnings, chunk, piece| {
            let guard = EndQueue(&queue);
            let mut encoded = Encoded::default();
            chunk.visit(piece, warnings, |piece, warnings| encode(counts, warnings, piece, &mut encoded))?;
            queue.put(chunk.index, encoded)?;
            std::mem::forget(guard);
            Ok(())
        },
    )
}

/// The number of chunks that may wait for an earlier one.
const MAX_WAITING: usize = 64;

/// Brings chunks into the order of the text.
struct Queue<Encoded, W> {
    state: Mutex<QueueState<Encoded, W>>,
    moved: Condvar,
}

struct QueueState<Encoded, W> {
    /// The index of the chunk to write next.
    next: usize,
    waiting: BTreeMap<usize, Encoded>,
    /// Whether a chunk failed, so that later ones need not be written.
    is_over: bool,
    write: W,
}

impl<Encoded, W: FnMut(Encoded) -> Result<()>> Queue<Encoded, W> {
    fn put(&self, index: usize, encoded: Encoded) -> Result<()> {
        let mut state = lock(&self.state);
        // The thread with the next chunk never waits.
        while state.waiting.len() >= MAX_WAITING && index != state.next && !state.is_over {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.insert(index, encoded);
        let QueueState { next, waiting, is_over, write } = &mut *state;
        let before = *next;
        while let Some(encoded) = waiting.remove(next).filter(|_| !*is_over) {
            write(encoded)?;
            *next += 1;
        }
        if *next > before {
            self.moved.notify_all();
        }
        Ok(())
    }
}

/// Ends a queue when a thread fails or panics before its chunk is in it.
struct EndQueue<'a, Encoded, W>(&'a Queue<Encoded, W>);

impl<Encoded, W> Drop for EndQueue<'_, Encoded, W> {
    fn drop(&mut self) {
        lock(&self.0.state).is_over = true;
        self.0.moved.notify_all();
    }
}

/// [`for_each_chunk`] with the chunks as they are in the text, and a place for their pieces.
fn for_each_raw_chunk<State: Send>(
    chunks: TextChunks,
    threads: usize,
    make: impl Fn() -> Result<State> + Sync,
    work: impl Fn(&mut State, &mut TextWarnings, &mut TextChunk, &mut TextChunk) -> Result<()> + Sync,
) -> Result<(Vec<State>, TextWarnings)> {
    let chunks_of = |bytes: u64| usize::try_from(bytes / CHUNK_BYTES as u64).unwrap_or(usize::MAX - 1) + 1;
    let most = chunks.bytes().map_or(usize::MAX, chunks_of);
    let threads = threads.min(rayon::current_num_threads()).clamp(1, most);
    let chunks = Mutex::new(chunks);
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
            if let Err(error) = work(&mut state, &mut warnings, &mut chunk, &mut piece) {
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
