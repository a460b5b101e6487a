//! Vectorised numerical kernels on slices, without candle, clock or files.
//!
//! A kernel runs serially on the calling thread unless it is given a
//! [`Pool`](surprisal_platform::threads::Pool); results have the same bits for any number of
//! threads. The instruction set is chosen at run time; every kernel has a portable path.

pub mod activation;
pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod elementary;
pub mod exp;
pub mod linear_cross_entropy;
pub mod matmul;
pub mod muon;
pub mod norm;
pub mod optim;
pub mod peak;
pub mod recurrent;
pub mod reduce;
pub mod rotary;
pub mod simd;
pub mod softcap;
#[cfg(test)]
mod testing;
