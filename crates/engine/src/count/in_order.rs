//! Brings what several threads write into order, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// A queue of sequences that are written one after the other. A thread writes its sequences in
/// ascending order.
pub(super) struct InOrder<F> {
    state: Mutex<State<F>>,
    moved: Condvar,
    /// The most bytes that wait for an earlier sequence.
    limit: usize,
}

struct State<F> {
    /// The sequence that is written.
    next: usize,
    /// The sequences that are complete, but not written.
    ended: BTreeSet<usize>,
    waiting: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
    failed: bool,
    put: F,
}

impl<F: FnMut(&[u8]) -> Result<()>> State<F> {
    /// Writes what waits of the next sequence.
    fn flush(&mut self) -> Result<()> {
        let Some(bytes) = self.waiting.remove(&self.next) else { return Ok(()) };
        self.bytes -= bytes.len();
        (self.put)(&bytes)
    }
}

impl<F: FnMut(&[u8]) -> Result<()>> InOrder<F> {
    pub(super) fn new(limit: usize, put: F) -> Self {
        let (ended, waiting) = (BTreeSet::new(), BTreeMap::new());
        let state = State { next: 0, ended, waiting, bytes: 0, failed: false, put };
        Self { state: Mutex::new(state), moved: Condvar::new(), limit }
    }

    /// Appends `bytes` to a sequence; waits while too many bytes do.
    pub(super) fn put(&self, sequence: usize, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        while sequence != state.next && state.bytes + bytes.len() > self.limit && !state.failed {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failed {
            return Err(Error::failed("another thread failed"));
        }
        if sequence != state.next {
            state.bytes += bytes.len();
            state.waiting.entry(sequence).or_default().extend_from_slice(bytes);
            return Ok(());
        }
        state.flush()?;
        (state.put)(bytes)
    }

    /// Ends a sequence.
    pub(super) fn end(&self, sequence: usize) -> Result<()> {
        let mut state = self.state();
        state.ended.insert(sequence);
        loop {
            let next = state.next;
            if !state.ended.remove(&next) {
                break;
            }
            state.flush()?;
            state.next += 1;
        }
        state.flush()?;
        self.moved.notify_all();
        Ok(())
    }
}

impl<F> InOrder<F> {
    fn state(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`, which writes a sequence. If it fails or panics, no thread waits for that.
    pub(super) fn guarded(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let guard = Fail(self);
        work()?;
        std::mem::forget(guard);
        Ok(())
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
        assert!(queue.put(2, b"7").is_err());
    }
}
