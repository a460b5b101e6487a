//! Peak rate of floating-point arithmetic, to compare kernels with.

use std::hint::black_box;

use pulp::{Simd, WithSimd};

use crate::simd::Isa;

/// Independent multiply-adds of `rounds` rounds on this thread, in registers and with `isa`; the
/// number of floating-point operations. Divided by the seconds it takes, that is the peak.
pub fn multiply_adds(isa: Isa, rounds: usize) -> usize {
    isa.run(MultiplyAdds(rounds))
}

struct MultiplyAdds(usize);

impl WithSimd for MultiplyAdds {
    type Output = usize;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        // Enough chains for the latency of a multiply-add on every unit: 5 cycles on two units
        // (AVX2, of sixteen registers) or 4 cycles on four (NEON). On the portable path the
        // compiler makes vectors of four of 32 chains, and none of more.
        match S::F32_LANES {
            1 => chains::<S, 4, 8>(simd, self.0),
            8 => chains::<S, 12, 1>(simd, self.0),
            _ => chains::<S, 24, 1>(simd, self.0),
        }
    }
}

/// `N` times `W` chains x ← a x + b, which stay near 1.
#[inline(always)]
fn chains<S: Simd, const N: usize, const W: usize>(simd: S, rounds: usize) -> usize {
    let mut x = [[simd.splat_f32s(1.0); W]; N];
    let (a, b) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(0.5)));
    for _ in 0..rounds {
        for x in &mut x {
            for x in x {
                *x = simd.mul_add_e_f32s(a, *x, b);
            }
        }
    }
    let sum = x.as_flattened().iter().fold(simd.splat_f32s(0.0), |sum, &x| simd.add_f32s(sum, x));
    black_box(simd.reduce_sum_f32s(sum));
    2 * N * W * S::F32_LANES * rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_two_a_lane_and_chain() {
        for isa in Isa::available() {
            let per_round = match isa.name() {
                "avx512" => 2 * 24 * 16,
                "avx2" | "neon" => 2 * 12 * 8,
                _ => 2 * 32,
            };
            assert_eq!(multiply_adds(isa, 7), 7 * per_round, "{}", isa.name());
        }
    }
}
