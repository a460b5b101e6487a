//! Machine-dependent services: thread pool, memory-mapped files, prefetching, memory limits,
//! free disk space, and reads at a position.
//!
//! Only this crate and `surprisal-kernels` have `unsafe` code, listed in
//! `crates/kernels/UNSAFE.md`.

pub mod counting_allocator;
pub mod disk;
pub mod memory;
pub mod mmap;
pub mod positioned;
pub mod prefetch;
pub mod threads;
