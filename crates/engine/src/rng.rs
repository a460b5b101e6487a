//! Random streams: one ChaCha8 key per run, one stream id per purpose.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Clone, Copy)]
pub(crate) enum RngStream {
    Init,
    Dropout,
    /// A sample by its number, from 0.
    Sampling(u64),
    Bootstrap,
}

/// Generator of `purpose` under `seed`. Streams of one seed never overlap.
pub(crate) fn rng_for(seed: u64, purpose: RngStream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(match purpose {
        RngStream::Init => 1,
        RngStream::Dropout => 2,
        RngStream::Sampling(number) => 3 + (number << 8),
        RngStream::Bootstrap => 4,
    });
    rng
}

/// Seed of the dropout masks of one step, which depends only on the run's seed and the step, so
/// that a resumed run has the same masks.
pub(crate) fn dropout_seed(seed: u64, step: usize) -> u64 {
    use rand::RngCore;
    let mut rng = rng_for(seed, RngStream::Dropout);
    // Two 32-bit words per step.
    rng.set_word_pos(2 * step as u128);
    rng.next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    #[test]
    fn purposes_and_steps_differ_and_repeat() {
        let draw = |seed, purpose| rng_for(seed, purpose).next_u64();
        assert_eq!(draw(1, RngStream::Init), draw(1, RngStream::Init));
        assert_ne!(draw(1, RngStream::Init), draw(1, RngStream::Sampling(0)));
        assert_ne!(draw(1, RngStream::Sampling(0)), draw(1, RngStream::Sampling(1)));
        assert_ne!(draw(1, RngStream::Init), draw(2, RngStream::Init));
        assert_eq!(dropout_seed(1, 7), dropout_seed(1, 7));
        assert_ne!(dropout_seed(1, 7), dropout_seed(1, 8));
    }
}
