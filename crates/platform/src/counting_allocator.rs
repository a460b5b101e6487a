//! A global allocator that counts allocated bytes, for benchmarks and tests of memory use.
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

/// Sets a callback for failed allocations, which most often end the program right after it; only
/// the first call has an effect. Its argument is the size in bytes. It must not allocate.
pub fn on_allocation_failure(callback: fn(usize)) {
    let _ = ON_FAILURE.set(callback);
}

/// Makes mimalloc return freed memory at once, not some time later, which takes more time: the
/// resident memory is what is in use. Without the feature `mimalloc`, it does nothing.
pub fn return_freed_memory() {
    #[cfg(feature = "mimalloc")]
    {
        /// `mi_option_purge_delay` of mimalloc.h, versions 2 and 3.
        const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
        #[expect(unsafe_code, reason = "a function of C")]
        // SAFETY: it stores a number, which may be changed at any time, by any thread.
        unsafe {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
        }
    }
}

/// An allocator that counts the bytes allocated by an inner allocator.
#[derive(Debug)]
pub struct CountingAllocator<A>(A);

impl<A> CountingAllocator<A> {
    /// Wraps `inner`; the result is meant to be the `#[global_allocator]`.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

fn grow(bytes: usize) {
    let now = CURRENT.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

/// Returns `pointer`, and calls the callback if it is null.
fn report_failure(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null()
        && let Some(callback) = ON_FAILURE.get()
    {
        callback(bytes);
    }
    pointer
}

fn shrink(bytes: usize) {
    CURRENT.fetch_sub(bytes, Relaxed);
}

#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
// SAFETY: every method passes its arguments to the inner allocator and returns its result, so its
// guarantees hold; counting only accesses two atomics.
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
        // Both blocks may exist while the contents are copied.
        grow(size);
        shrink(layout.size());
        // SAFETY: the caller's contract is the inner allocator's.
        report_failure(unsafe { self.0.realloc(pointer, layout, size) }, size)
    }
}

/// Runs `f` and returns its result and the peak increase of allocated memory in bytes, of all
/// threads; `None` if no [`CountingAllocator`] is the global allocator.
pub fn peak_of<R>(f: impl FnOnce() -> R) -> (R, Option<usize>) {
    let before = CURRENT.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = f();
    let peak = PEAK.load(Relaxed);
    // Every program has allocated before this, so 0 means that there is no counting allocator.
    (result, (before > 0).then(|| peak.saturating_sub(before)))
}
