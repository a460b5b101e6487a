//! Text made in pieces by all threads and handed on in order.

use std::ops::Range;

use rayon::prelude::*;

use crate::Result;

/// How many lines one task makes.
const LINES_A_TASK: usize = 1 << 11;
/// How many tasks are done before their pieces are handed on.
const TASKS: usize = 64;

/// Where pieces go: while those made before are handed on, the next ones are made.
pub(crate) struct Sink<F> {
    put: F,
    waiting: Vec<Vec<u8>>,
}

impl<F: FnMut(&[u8]) -> Result<()> + Send> Sink<F> {
    pub(crate) fn new(put: F) -> Self {
        Self { put, waiting: Vec::new() }
    }

    /// Hands on one piece.
    pub(crate) fn put(&mut self, piece: &[u8]) -> Result<()> {
        self.flush()?;
        (self.put)(piece)
    }

    /// Hands on the text of `lines` lines, which `text` makes of a range of them.
    pub(crate) fn put_all(
        &mut self,
        lines: usize,
        text: impl Fn(Range<usize>) -> Vec<u8> + Sync,
    ) -> Result<()> {
        let starts: Vec<usize> = (0..lines).step_by(LINES_A_TASK).collect();
        for starts in starts.chunks(TASKS) {
            let make = |&start: &usize| text(start..lines.min(start + LINES_A_TASK));
            let (put, pieces) =
                rayon::join(|| self.flush(), || starts.par_iter().map(make).collect::<Vec<Vec<u8>>>());
            put?;
            self.waiting = pieces;
        }
        Ok(())
    }

    /// Hands on what waits.
    pub(crate) fn flush(&mut self) -> Result<()> {
        std::mem::take(&mut self.waiting).iter().try_for_each(|piece| (self.put)(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn pieces_come_in_order_and_an_error_ends_them() {
        let numbers =
            |range: Range<usize>| range.flat_map(|i| format!("{i}\n").into_bytes()).collect::<Vec<u8>>();
        let lines = 3 * TASKS * LINES_A_TASK + 7;
        let expected = [&b"first\n"[..], &numbers(0..lines), b"last\n"].concat();
        for threads in [1, 3] {
            let mut text = Vec::new();
            let mut sink = Sink::new(|piece: &[u8]| {
                text.extend_from_slice(piece);
                Ok(())
            });
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                sink.put(b"first\n").unwrap();
                sink.put_all(lines, numbers).unwrap();
                sink.put(b"last\n").unwrap();
            });
            assert!(text == expected, "{threads}");
        }
        let mut calls = 0;
        let mut sink = Sink::new(|_: &[u8]| {
            calls += 1;
            Err(Error::malformed("this", "no more"))
        });
        assert!(sink.put_all(lines, numbers).is_err());
        assert_eq!(calls, 1);
    }
}
