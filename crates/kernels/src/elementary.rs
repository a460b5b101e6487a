//! Scalar elementary functions that give the same bits on every machine under [`Isa::PORTABLE`].
//!
//! The standard library calls the C library, whose results can depend on the processor: of a
//! million values of glibc's `exp`, about 700 differ in the last bit between processors with and
//! without FMA. Portable code uses the `libm` crate, which is plain Rust.

use pulp::Simd;

use crate::simd::Isa;

/// The source of elementary functions: the standard library or `libm`.
///
/// ```
/// use surprisal_kernels::elementary::Elementary;
/// assert!((Elementary::current().ln(2.0) - std::f64::consts::LN_2).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Elementary {
    portable: bool,
}

impl Elementary {
    /// The functions for [`Isa::current`].
    pub fn current() -> Self {
        Self { portable: Isa::current().is_portable() }
    }

    /// The functions for the instruction set `S`, which is portable if it has one lane.
    #[inline(always)]
    pub fn new<S: Simd>(_: S) -> Self {
        Self { portable: S::F32_LANES == 1 }
    }
}

macro_rules! functions {
    ($($name:ident($($x:ident),+): $type:ident = $std:ident or $libm:ident;)+) => {
        impl Elementary {
            $(
                #[doc = concat!("[`", stringify!($type), "::", stringify!($std), "`].")]
                #[inline]
                pub fn $name(self, $($x: $type),+) -> $type {
                    if self.portable { libm::$libm($($x),+) } else { $type::$std($($x),+) }
                }
            )+
        }
    };
}

functions! {
    exp(x): f64 = exp or exp;
    ln(x): f64 = ln or log;
    ln_f32(x): f32 = ln or logf;
    ln_1p(x): f64 = ln_1p or log1p;
    powf(x, y): f64 = powf or pow;
    sin(x): f64 = sin or sin;
    cos(x): f64 = cos or cos;
    tanh_f32(x): f32 = tanh or tanhf;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_isa;

    #[test]
    fn both_sources_agree_and_the_portable_one_keeps_its_bits() {
        let [std, portable] = [false, true].map(|portable| Elementary { portable });
        let mut bits = 0_u64;
        for i in 1..2000 {
            let x = f64::from(i) * 0.37;
            let all = |of: Elementary| {
                let small = 1.0 / x;
                let of_f32 = [of.ln_f32(x as f32), of.tanh_f32(small as f32)].map(f64::from);
                let of_f64 =
                    [of.exp(-small), of.ln(x), of.ln_1p(small), of.powf(small, 0.3), of.sin(x), of.cos(x)];
                (of_f64, of_f32)
            };
            let (a, b) = (all(std), all(portable));
            assert!(a.0.iter().zip(b.0).all(|(a, b)| (a - b).abs() <= 4e-16 * b.abs().max(1.0)), "{x}");
            assert!(a.1.iter().zip(b.1).all(|(a, b)| (a - b).abs() <= 3e-7 * b.abs().max(1.0)), "{x}");
            for value in b.0.iter().chain(&b.1) {
                bits = bits.rotate_left(5) ^ value.to_bits();
            }
        }
        assert_eq!(bits, 0x25cb_9b13_e3ef_677a, "{bits:#x}");
        assert!(with_isa(Isa::PORTABLE, Elementary::current).portable);
    }
}
