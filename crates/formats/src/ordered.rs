//! Text made in pieces by all threads and handed on in order.

use std::{ops::Range, sync::Mutex};

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
    /// Memory of pieces that were handed on: new memory costs as much as filling it does.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl<F: FnMut(&[u8]) -> Result<()> + Send> Sink<F> {
    pub(crate) fn new(put: F) -> Self {
        Self { put, waiting: Vec::new(), spare: Mutex::default() }
    }

    /// Hands on one piece.
    pub(crate) fn put(&mut self, piece: &[u8]) -> Result<()> {
        self.flush()?;
        (self.put)(piece)
    }

    /// Hands on the text of `lines` lines, of which `text` appends a range.
    pub(crate) fn put_all(
        &mut self,
        lines: usize,
        text: impl Fn(Range<usize>, &mut Vec<u8>) + Sync,
    ) -> Result<()> {
        let starts: Vec<usize> = (0..lines).step_by(LINES_A_TASK).collect();
        for starts in starts.chunks(TASKS) {
            let Self { put, waiting, spare } = self;
            let spare = &*spare; // shared by the tasks
            let make = |&start: &usize| {
                let mut piece = spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
                piece.clear();
                text(start..lines.min(start + LINES_A_TASK), &mut piece);
                piece
            };
            let (put, pieces) =
                rayon::join(|| flush(put, waiting, spare), || starts.par_iter().map(make).collect());
            put?;
            self.waiting = pieces;
        }
        Ok(())
    }

    /// Hands on what waits.
    pub(crate) fn flush(&mut self) -> Result<()> {
        flush(&mut self.put, &mut self.waiting, &self.spare)
    }
}

fn flush(
    put: &mut impl FnMut(&[u8]) -> Result<()>,
    waiting: &mut Vec<Vec<u8>>,
    spare: &Mutex<Vec<Vec<u8>>>,
) -> Result<()> {
    for piece in std::mem::take(waiting) {
        put(&piece)?;
        if let Ok(mut spare) = spare.lock() {
            spare.push(piece);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn pieces_come_in_order_and_an_error_ends_them() {
        let numbers = |range: Range<usize>, text: &mut Vec<u8>| {
            text.extend(range.flat_map(|i| format!("{i}\n").into_bytes()));
        };
        let lines = 3 * TASKS * LINES_A_TASK + 7;
        let mut expected = b"first\n".to_vec();
        numbers(0..lines, &mut expected);
        expected.extend(b"last\n");
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
