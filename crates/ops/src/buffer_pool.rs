//! Per-thread pool of f32 buffers for temporaries of a step, which avoids allocation and zeroing.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Maximum free buffers of a thread or a shard.
const MAX_FREE_BUFFERS: usize = 96;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with the free buffers of `own` instead of the thread's. Those of a shard's step go with
/// the shard: as any thread may compute it, each would otherwise keep the buffers of all.
pub(crate) fn lend<R>(own: &Mutex<Vec<Vec<f32>>>, f: impl FnOnce() -> R) -> R {
    let swap = || {
        let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
        FREE.with_borrow_mut(|free| std::mem::swap(free, &mut own));
    };
    swap();
    let result = f();
    swap();
    result
}

/// A buffer that returns to its thread's pool when it is dropped.
#[derive(Debug)]
pub(crate) struct PooledBuffer {
    values: Vec<f32>,
    len: usize,
}

impl PooledBuffer {
    /// A buffer of `len` unspecified values, which the caller must overwrite.
    pub(crate) fn take(len: usize) -> Self {
        let class = size_class(len);
        let found = FREE.with_borrow_mut(|free| {
            // The newest one is most likely in a cache.
            let at = free.iter().rposition(|values| values.len() == class)?;
            Some(free.swap_remove(at))
        });
        Self { values: found.unwrap_or_else(|| vec![0.0; class]), len }
    }
}

/// Rounds a length up, by an eighth at most, so that similar lengths use the same buffers.
fn size_class(len: usize) -> usize {
    let step = (len.max(64).next_power_of_two() / 16).max(16);
    len.next_multiple_of(step)
}

impl Deref for PooledBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        // At the end of a thread the pool may be gone: then the memory is freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() == MAX_FREE_BUFFERS {
                free.remove(0);
            }
            free.push(values);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shards_buffers_go_with_it() {
        let (one, other) = (Mutex::default(), Mutex::default());
        let address = lend(&one, || PooledBuffer::take(5000).as_ptr().addr());
        assert_ne!(lend(&other, || PooledBuffer::take(5000).as_ptr().addr()), address);
        let again = std::thread::scope(|scope| {
            scope.spawn(|| lend(&one, || PooledBuffer::take(5000).as_ptr().addr())).join().unwrap()
        });
        assert_eq!(again, address, "on another thread");
    }

    #[test]
    fn buffers_come_back_and_are_bounded_in_number() {
        let mut first = PooledBuffer::take(1000);
        first.fill(3.0);
        let address = first.as_ptr();
        drop(first);
        let again = PooledBuffer::take(1010);
        assert_eq!((again.as_ptr(), again.len()), (address, 1010));
        assert_ne!(PooledBuffer::take(1000).as_ptr(), address, "it is in use");
        drop((0..2 * MAX_FREE_BUFFERS).map(|i| PooledBuffer::take(64 * i)).collect::<Vec<_>>());
        assert_eq!(FREE.with_borrow(Vec::len), MAX_FREE_BUFFERS);
        for len in [0, 1, 63, 64, 65, 1000, 12_345, 1 << 20] {
            assert!(size_class(len) >= len && size_class(len) <= len + len / 8 + 64, "{len}");
        }
    }
}
