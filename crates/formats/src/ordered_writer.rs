//! Parallel production of text chunks, which are written in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::token_strings::TextBuffer;
use crate::{Error, Result};

/// Lines per chunk, few enough that the text stays in the thread's cache until it is written.
const LINES_PER_CHUNK: usize = 1 << 11;
/// The largest number of chunks that wait for an earlier one.
const MAX_WAITING: usize = 64;

/// Writes chunks of text in order with `put`.
pub(crate) struct OrderedWriter<F> {
    put: F,
}

/// The state of the chunks of a text.
#[derive(Default)]
struct Chunks {
    /// The number of chunks written.
    done: usize,
    /// Waiting chunks by number.
    waiting: BTreeMap<usize, TextBuffer>,
    /// Whether a thread is writing.
    busy: bool,
    /// Buffers of written chunks, for reuse: page faults of new memory cost as much as filling it.
    spare: Vec<TextBuffer>,
    failure: Option<Error>,
    /// Whether writing has ended early, by an error or a panic.
    over: bool,
}

/// A buffer that puts chunks into order, and threads that wait until it has room.
#[derive(Default)]
struct ReorderBuffer {
    chunks: Mutex<Chunks>,
    moved: Condvar,
}

impl ReorderBuffer {
    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds chunk `n`. Unless another thread is writing, this thread writes all chunks that are
    /// next in order.
    fn take(&self, n: usize, chunk: TextBuffer, put: &Mutex<impl FnMut(&[u8]) -> Result<()>>) {
        let mut chunks = self.chunks();
        // The next chunk in order never waits.
        while n >= chunks.done + MAX_WAITING && !chunks.over {
            chunks = self.moved.wait(chunks).unwrap_or_else(PoisonError::into_inner);
        }
        chunks.waiting.insert(n, chunk);
        if chunks.busy {
            return;
        }
        chunks.busy = true;
        while let Some(chunk) = chunks.next() {
            drop(chunks);
            let outcome = (put.lock().unwrap_or_else(PoisonError::into_inner))(chunk.as_bytes());
            chunks = self.chunks();
            chunks.done += 1;
            chunks.spare.push(chunk);
            if let Err(failure) = outcome {
                chunks.failure = Some(failure);
                chunks.over = true;
            }
            // Those who wait are far ahead: waking them for every chunk would be most of the work.
            if chunks.done.is_multiple_of(MAX_WAITING / 4) {
                self.moved.notify_all();
            }
        }
        chunks.busy = false;
        self.moved.notify_all();
    }
}

impl Chunks {
    fn next(&mut self) -> Option<TextBuffer> {
        if self.over { None } else { self.waiting.remove(&self.done) }
    }
}

/// The guard of a producing thread: if the thread panics, nobody waits for its chunk.
struct PanicGuard<'a>(&'a ReorderBuffer);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.chunks().over = true;
            self.0.moved.notify_all();
        }
    }
}

impl<F: FnMut(&[u8]) -> Result<()> + Send> OrderedWriter<F> {
    pub(crate) fn new(put: F) -> Self {
        Self { put }
    }

    /// Writes one chunk.
    pub(crate) fn put(&mut self, chunk: &[u8]) -> Result<()> {
        (self.put)(chunk)
    }

    /// Writes `lines` lines in parallel chunks. `text` appends the lines of a range.
    pub(crate) fn put_parallel(
        &mut self,
        lines: usize,
        text: impl Fn(Range<usize>, &mut TextBuffer) + Sync,
    ) -> Result<()> {
        let put = Mutex::new(&mut self.put);
        let (queue, next) = (ReorderBuffer::default(), AtomicUsize::new(0));
        rayon::broadcast(|_| {
            let _maker = PanicGuard(&queue);
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let start = n * LINES_PER_CHUNK;
                if start >= lines || queue.chunks().over {
                    return;
                }
                let mut chunk = queue.chunks().spare.pop().unwrap_or_default();
                chunk.clear();
                text(start..lines.min(start + LINES_PER_CHUNK), &mut chunk);
                queue.take(n, chunk, &put);
            }
        });
        queue.chunks().failure.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn pieces_come_in_order_and_an_error_ends_them() {
        let numbers = |range: Range<usize>, text: &mut TextBuffer| {
            range.for_each(|i| text.extend(format!("{i}\n").as_bytes()));
        };
        let lines = 3 * MAX_WAITING * LINES_PER_CHUNK + 7;
        let mut expected = TextBuffer::default();
        expected.extend(b"first\n");
        numbers(0..lines, &mut expected);
        expected.extend(b"last\n");
        for threads in [1, 3] {
            let mut text = Vec::new();
            let mut writer = OrderedWriter::new(|chunk: &[u8]| {
                text.extend_from_slice(chunk);
                Ok(())
            });
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                writer.put(b"first\n").unwrap();
                writer.put_parallel(lines, numbers).unwrap();
                writer.put(b"last\n").unwrap();
            });
            assert!(text == expected.as_bytes(), "{threads}");
        }
        let mut calls = 0;
        let mut writer = OrderedWriter::new(|_: &[u8]| {
            calls += 1;
            Err(Error::malformed("this", "no more"))
        });
        assert!(writer.put_parallel(lines, numbers).is_err());
        assert_eq!(calls, 1);
    }

    #[test]
    fn nobody_waits_for_a_piece_whose_making_panicked() {
        let made = std::panic::catch_unwind(|| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let lines = 3 * MAX_WAITING * LINES_PER_CHUNK;
            let text = |range: Range<usize>, _: &mut TextBuffer| assert!(range.start != 0, "the first chunk");
            pool.install(|| OrderedWriter::new(|_: &[u8]| Ok(())).put_parallel(lines, text))
        });
        assert!(made.is_err());
    }
}
