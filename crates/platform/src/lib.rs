//! The machine under Surprisal: the thread pool, mapped files, prefetching, memory and its limits.
//!
//! Besides `surprisal-kernels` this is the only crate with `unsafe` code; `crates/kernels/UNSAFE.md` lists every block of it.

pub mod counting_allocator;
pub mod memory;
pub mod mmap;
pub mod prefetch;
pub mod threads;
