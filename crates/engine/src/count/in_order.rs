//! Brings what several threads write into order, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// The bytes to bring at a time.
pub(super) const BLOCK_BYTES: usize = 1 << 17;

/// A queue of sequences that are written one after the other. A thread writes its sequences in
/// ascending order. One thread at a time writes, what others bring meanwhile, too.
pub(super) struct InOrder<F> {
    state: Mutex<State>,
    moved: Condvar,
    /// The most bytes that wait to be written.
    limit: usize,
    put: Mutex<F>,
}

#[derive(Default)]
struct State {
    /// The sequence that is written.
    next: usize,
    /// The sequences that are complete, but not written.
    ended: BTreeSet<usize>,
    waiting: BTreeMap<usize, Vec<Vec<u8>>>,
    bytes: usize,
    /// Blocks to be used again: fresh memory costs more than the copy into it.
    spare: Vec<Vec<u8>>,
    /// Whether a thread writes.
    writing: bool,
    failed: bool,
}

impl<F: FnMut(&[u8]) -> Result<()>> InOrder<F> {
    pub(super) fn new(limit: usize, put: F) -> Self {
        Self { state: Mutex::default(), moved: Condvar::new(), limit, put: Mutex::new(put) }
    }

    /// Appends `bytes` to a sequence; waits while too many bytes do.
    pub(super) fn put(&self, sequence: usize, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        loop {
            if state.failed {
                return Err(Error::failed("another thread failed"));
            }
            if sequence == state.next && !state.writing {
                state.writing = true;
                return self.write(state, Some(bytes));
            }
            if state.bytes + bytes.len() <= self.limit {
                state.bytes += bytes.len();
                let mut block = state.spare.pop().unwrap_or_default();
                block.clear();
                block.extend_from_slice(bytes);
                state.waiting.entry(sequence).or_default().push(block);
                return Ok(());
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a sequence.
    pub(super) fn end(&self, sequence: usize) -> Result<()> {
        let mut state = self.state();
        state.ended.insert(sequence);
        if state.writing {
            return Ok(());
        }
        state.writing = true;
        self.write(state, None)
    }

    /// Writes what waits and can be written, and after it `last`.
    fn write<'a>(&'a self, mut state: MutexGuard<'a, State>, last: Option<&[u8]>) -> Result<()> {
        let mut put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = last;
        loop {
            let next = state.next;
            let blocks = state.waiting.remove(&next).unwrap_or_default();
            if blocks.is_empty() && last.is_none() {
                if !state.ended.remove(&next) {
                    break;
                }
                state.next += 1;
                continue;
            }
            drop(state);
            blocks.iter().try_for_each(|block| put(block))?;
            last.take().map_or(Ok(()), &mut *put)?;
            state = self.state();
            state.bytes -= blocks.iter().map(Vec::len).sum::<usize>();
            let room = (self.limit / BLOCK_BYTES).saturating_sub(state.spare.len());
            state.spare.extend(blocks.into_iter().take(room));
            self.moved.notify_all();
        }
        state.writing = false;
        self.moved.notify_all();
        Ok(())
    }
}

impl<F> InOrder<F> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`, which writes a sequence. If it fails or panics, no thread waits for that, and
    /// only the first that fails has an error.
    pub(super) fn guarded(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let guard = Fail(self);
        let done = work();
        if done.is_ok() {
            std::mem::forget(guard);
            return done;
        }
        let is_first = !self.state().failed;
        drop(guard);
        if is_first { done } else { Ok(()) }
    }
}

/// Wakes all threads when it is dropped: one has failed.
struct Fail<'a, F>(&'a InOrder<F>);

impl<F> Drop for Fail<'_, F> {
    fn drop(&mut self) {
        self.0.state().failed = true;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn sequences_come_in_order_and_a_failure_ends_them() {
        let mut written = Vec::new();
        let queue = InOrder::new(5, |bytes: &[u8]| {
            written.extend_from_slice(bytes);
            Ok(())
        });
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let sequence = next.fetch_add(1, Ordering::Relaxed);
                        if sequence >= 50 {
                            return;
                        }
                        for _ in 0..sequence % 4 {
                            queue.put(sequence, &[sequence as u8; 3]).unwrap();
                        }
                        queue.end(sequence).unwrap();
                    }
                });
            }
        });
        drop(queue);
        let expected: Vec<u8> = (0..50_usize).flat_map(|n| vec![n as u8; n % 4 * 3]).collect();
        assert_eq!(written, expected);
        let queue = InOrder::new(5, |_: &[u8]| Ok(()));
        queue.put(1, b"1234").unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.put(1, b"56"));
            let panics = scope.spawn(|| queue.guarded(|| panic!("a thread of this test panics")));
            assert!(panics.join().is_err());
            assert!(waiting.join().unwrap().is_err());
        });
        assert!(queue.guarded(|| queue.put(2, b"7")).is_ok(), "the error is that of another");
        assert!(queue.put(2, b"7").is_err());
    }
}
