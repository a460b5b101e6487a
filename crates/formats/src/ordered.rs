//! Text made in pieces by all threads and handed on in order.

use std::{ops::Range, sync::mpsc};

use rayon::prelude::*;

use crate::Result;

/// How many lines one task makes.
const LINES_A_TASK: usize = 1 << 13;
/// How many pieces wait to be handed on at most.
const WAITING: usize = 16;

/// Where pieces go.
pub(crate) struct Sink(mpsc::SyncSender<Vec<u8>>);

impl Sink {
    /// Hands on one piece; `None` when nobody takes it any more.
    pub(crate) fn send(&self, piece: Vec<u8>) -> Option<()> {
        self.0.send(piece).ok()
    }

    /// Hands on the text of `lines` lines, which `text` makes of a range of them.
    pub(crate) fn send_all(&self, lines: usize, text: impl Fn(Range<usize>) -> Vec<u8> + Sync) -> Option<()> {
        let starts: Vec<usize> = (0..lines).step_by(LINES_A_TASK).collect();
        for starts in starts.chunks(WAITING) {
            let make = |&start: &usize| text(start..lines.min(start + LINES_A_TASK));
            let pieces: Vec<Vec<u8>> = starts.par_iter().map(make).collect();
            pieces.into_iter().try_for_each(|piece| self.send(piece))?;
        }
        Some(())
    }
}

/// Calls `put` on this thread with the pieces that `make` sends from another, until either has enough.
pub(crate) fn produce(
    put: &mut impl FnMut(&[u8]) -> Result<()>,
    make: impl FnOnce(&Sink) -> Option<()> + Send,
) -> Result<()> {
    std::thread::scope(|scope| {
        // An error of `put` drops the receiver, which ends the other side.
        let (sender, pieces) = mpsc::sync_channel(WAITING);
        scope.spawn(move || make(&Sink(sender)));
        for piece in pieces {
            put(&piece)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn pieces_come_in_order_and_an_error_ends_them() {
        let mut text = Vec::new();
        let numbers =
            |range: Range<usize>| range.flat_map(|i| format!("{i}\n").into_bytes()).collect::<Vec<u8>>();
        let lines = 50 * LINES_A_TASK + 7;
        let mut put = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(())
        };
        produce(&mut put, |sink| sink.send_all(lines, numbers)).unwrap();
        assert!(text == numbers(0..lines));
        let mut calls = 0;
        let mut put = |_: &[u8]| {
            calls += 1;
            Err(Error::malformed("this", "no more"))
        };
        assert!(produce(&mut put, |sink| sink.send_all(lines, numbers)).is_err());
        assert_eq!(calls, 1);
    }
}
