//! Slices in, slices out: everything in Surprisal that is hot and vectorised.
//!
//! No candle here, no clock, no file. A kernel runs serially on the calling thread unless it is handed a
//! [`Pool`](surprisal_platform::threads::Pool); how it cuts its work never depends on how many threads do it, so results are the same bits
//! for any thread count. Instruction sets are chosen at run time; every kernel has a portable path.

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
pub mod reduce;
pub mod rotary;
pub mod simd;
#[cfg(test)]
mod testing;
