//! Text made in pieces by all threads and handed on in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::token_strings::TextBuffer;
use crate::{Error, Result};

/// How many lines a piece has: it stays in its thread's cache until it is handed on.
const LINES_PER_CHUNK: usize = 1 << 11;
/// How many pieces may wait for one before them.
const MAX_WAITING: usize = 64;

/// Where pieces go.
pub(crate) struct OrderedWriter<F> {
    put: F,
}

/// What is known of the pieces of a text.
#[derive(Default)]
struct Chunks {
    /// How many were handed on.
    done: usize,
    /// Those that wait, by number.
    waiting: BTreeMap<usize, TextBuffer>,
    /// Whether some thread is handing pieces on.
    busy: bool,
    /// Memory of pieces that were handed on: new memory costs as much as filling it does.
    spare: Vec<TextBuffer>,
    failure: Option<Error>,
    /// Whether nothing more will be handed on.
    over: bool,
}

/// The pieces, and those who wait until fewer of them do.
#[derive(Default)]
struct ReorderBuffer {
    chunks: Mutex<Chunks>,
    moved: Condvar,
}

impl ReorderBuffer {
    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes piece `n`. If its turn has come it is handed on by this thread, and whatever waited for it.
    fn take(&self, n: usize, piece: TextBuffer, put: &Mutex<impl FnMut(&[u8]) -> Result<()>>) {
        let mut pieces = self.chunks();
        // The piece that all others wait for never waits.
        while n >= pieces.done + MAX_WAITING && !pieces.over {
            pieces = self.moved.wait(pieces).unwrap_or_else(PoisonError::into_inner);
        }
        pieces.waiting.insert(n, piece);
        if pieces.busy {
            return;
        }
        pieces.busy = true;
        while let Some(piece) = pieces.next() {
            drop(pieces);
            let outcome = (put.lock().unwrap_or_else(PoisonError::into_inner))(piece.as_bytes());
            pieces = self.chunks();
            pieces.done += 1;
            pieces.spare.push(piece);
            if let Err(failure) = outcome {
                pieces.failure = Some(failure);
                pieces.over = true;
            }
            self.moved.notify_all();
        }
        pieces.busy = false;
    }
}

impl Chunks {
    fn next(&mut self) -> Option<TextBuffer> {
        if self.over { None } else { self.waiting.remove(&self.done) }
    }
}

/// One of the threads that make pieces. Should it panic, nobody waits for the piece that it was making.
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

    /// Hands on one piece.
    pub(crate) fn put(&mut self, piece: &[u8]) -> Result<()> {
        (self.put)(piece)
    }

    /// Hands on the text of `lines` lines, of which `text` appends a range.
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
                let mut piece = queue.chunks().spare.pop().unwrap_or_default();
                piece.clear();
                text(start..lines.min(start + LINES_PER_CHUNK), &mut piece);
                queue.take(n, piece, &put);
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
            let mut sink = OrderedWriter::new(|piece: &[u8]| {
                text.extend_from_slice(piece);
                Ok(())
            });
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                sink.put(b"first\n").unwrap();
                sink.put_parallel(lines, numbers).unwrap();
                sink.put(b"last\n").unwrap();
            });
            assert!(text == expected.as_bytes(), "{threads}");
        }
        let mut calls = 0;
        let mut sink = OrderedWriter::new(|_: &[u8]| {
            calls += 1;
            Err(Error::malformed("this", "no more"))
        });
        assert!(sink.put_parallel(lines, numbers).is_err());
        assert_eq!(calls, 1);
    }

    #[test]
    fn nobody_waits_for_a_piece_whose_making_panicked() {
        let made = std::panic::catch_unwind(|| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let lines = 3 * MAX_WAITING * LINES_PER_CHUNK;
            let text = |range: Range<usize>, _: &mut TextBuffer| assert!(range.start != 0, "the first piece");
            pool.install(|| OrderedWriter::new(|_: &[u8]| Ok(())).put_parallel(lines, text))
        });
        assert!(made.is_err());
    }
}
