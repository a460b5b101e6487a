//! An allocator that counts, for benchmarks and tests that state how much memory something takes.
//!
//! ```
//! use std::alloc::System;
//! use surprisal_platform::counting_allocator::{CountingAllocator, peak_of};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator<System> = CountingAllocator::new(System);
//!
//! let (length, extra) = peak_of(|| vec![0_u8; 1000].len());
//! assert_eq!(length, 1000);
//! assert!(extra.is_some_and(|bytes| bytes >= 1000));
//! ```

use std::alloc::{GlobalAlloc, Layout};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static CURRENT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static ON_FAILURE: OnceLock<fn(usize)> = OnceLock::new();

/// Has `tell` called with the number of bytes that the allocator inside could not give, before whoever wanted them knows:
/// most often that is the program's end. `tell` must not allocate.
pub fn on_allocation_failure(tell: fn(usize)) {
    // The first one stays.
    let _ = ON_FAILURE.set(tell);
}

/// Counts the bytes that the allocator inside has given out.
#[derive(Debug)]
pub struct CountingAllocator<A>(A);

impl<A> CountingAllocator<A> {
    /// Wraps an allocator; make it the `#[global_allocator]`.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

fn grow(bytes: usize) {
    let now = CURRENT.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

/// `pointer`, to `bytes` bytes if there are any.
fn report_failure(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null()
        && let Some(tell) = ON_FAILURE.get()
    {
        tell(bytes);
    }
    pointer
}

fn shrink(bytes: usize) {
    CURRENT.fetch_sub(bytes, Relaxed);
}

#[expect(unsafe_code, reason = "what an allocator is")]
// SAFETY: every method hands its arguments to the inner allocator and returns what that returns, so its guarantees are
// kept; counting touches no memory but two atomics.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's contract is the inner allocator's.
        report_failure(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's contract is the inner allocator's.
        report_failure(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: the caller's contract is the inner allocator's.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may exist for a moment, while the contents move.
        grow(size);
        shrink(layout.size());
        // SAFETY: the caller's contract is the inner allocator's.
        report_failure(unsafe { self.0.realloc(pointer, layout, size) }, size)
    }
}

/// Runs `f` and says by how many bytes the memory in use rose above where it started, at most; `None` when no
/// [`CountingAllocator`] is the global allocator. Other threads' allocations count too.
pub fn peak_of<R>(f: impl FnOnce() -> R) -> (R, Option<usize>) {
    let before = CURRENT.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = f();
    let peak = PEAK.load(Relaxed);
    // A program that got here has allocated: a count of zero means that nobody counts.
    (result, (before > 0).then(|| peak.saturating_sub(before)))
}
