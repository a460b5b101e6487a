//! How operations on this thread are to be computed: for whom, and how precisely.

use std::cell::Cell;

use surprisal_kernels::matmul::Precision;

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
    static INFERENCE: Cell<bool> = const { Cell::new(false) };
}

/// Sets a cell for the time of a call, and puts the old value back also on unwinding.
fn with<T: Copy, R>(cell: &'static std::thread::LocalKey<Cell<T>>, value: T, f: impl FnOnce() -> R) -> R {
    struct Restore<T: Copy + 'static>(&'static std::thread::LocalKey<Cell<T>>, T);
    impl<T: Copy> Drop for Restore<T> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(cell, cell.replace(value));
    f()
}

/// Runs `f`; the products of linear layers in it, and in the backward passes of what it makes, read their inputs in `precision`.
/// Attention, norms and the head stay f32.
pub fn with_precision<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    with(&PRECISION, precision, f)
}

/// Runs `f`, which asks for no gradients: nothing is kept for a backward pass, and trying one is an error.
pub fn inference<R>(f: impl FnOnce() -> R) -> R {
    with(&INFERENCE, true, f)
}

pub(crate) fn precision() -> Precision {
    PRECISION.get()
}

pub(crate) fn is_inference() -> bool {
    INFERENCE.get()
}
