//! Run-time choice of the instruction set (ISA).
//!
//! A kernel is written once, generic over [`pulp::Simd`], as a struct that implements
//! [`pulp::WithSimd`]; [`Isa::run`] compiles it for AVX-512, AVX2 + FMA, NEON and plain scalar code
//! and calls one of these. A kernel that uses several threads reads [`Isa::current`] once, before
//! it starts them, and passes the value on.
//!
//! The environment variable `SURPRISAL_ISA` (`portable`, `neon`, `avx2`, `avx512`) sets it for a
//! process; [`with_isa`] sets it for one call on this thread, so that tests can compare the paths.
//!
//! ```
//! use surprisal_kernels::simd::Isa;
//! use pulp::{Simd, WithSimd};
//!
//! struct Double<'a>(&'a mut [f32]);
//! impl WithSimd for Double<'_> {
//!     type Output = ();
//!     #[inline(always)]
//!     fn with_simd<S: Simd>(self, simd: S) {
//!         let (vectors, tail) = S::as_mut_simd_f32s(self.0);
//!         for v in vectors {
//!             *v = simd.add_f32s(*v, *v);
//!         }
//!         for x in tail {
//!             *x += *x;
//!         }
//!     }
//! }
//! let mut xs = vec![1.5; 37];
//! Isa::current().run(Double(&mut xs));
//! assert_eq!(xs, vec![3.0; 37]);
//! ```

use std::cell::Cell;
use std::sync::OnceLock;

use pulp::{Arch, WithSimd};

/// An instruction set that this machine supports.
#[derive(Clone, Copy, Debug)]
pub struct Isa(Arch);

thread_local! {
    static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// Plain scalar code; gives the same bits on every machine.
    pub const PORTABLE: Self = Self(Arch::Scalar);

    /// All instruction sets of this machine with kernels, the fastest first, portable last.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            found.extend(pulp::x86::V4::try_new().map(|simd| Self(Arch::V4(simd))));
            found.extend(pulp::x86::V3::try_new().map(|simd| Self(Arch::V3(simd))));
        }
        #[cfg(target_arch = "aarch64")]
        found.extend(pulp::aarch64::Neon::try_new().map(|simd| Self(Arch::Neon(simd))));
        found.push(Self::PORTABLE);
        found
    }

    /// The instruction set of [`with_isa`], else of `SURPRISAL_ISA`, else the machine's fastest. A
    /// name that this machine does not support is ignored.
    #[inline]
    pub fn current() -> Self {
        OVERRIDE.get().unwrap_or_else(Self::process_default)
    }

    fn process_default() -> Self {
        static DEFAULT: OnceLock<Isa> = OnceLock::new();
        *DEFAULT.get_or_init(|| {
            let available = Self::available();
            let requested = std::env::var("SURPRISAL_ISA").unwrap_or_default();
            let named = available.iter().find(|isa| isa.name() == requested);
            named.or(available.first()).copied().unwrap_or(Self::PORTABLE)
        })
    }

    /// `portable`, `neon`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(_) => "avx512",
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => "neon",
            _ => "portable",
        }
    }

    /// Whether this is [`Self::PORTABLE`]. If so, callers must not use functions whose bits depend
    /// on the processor (a C library's `exp`, another crate's sums).
    pub fn is_portable(self) -> bool {
        self.name() == Self::PORTABLE.name()
    }

    /// Runs `kernel`, compiled for this instruction set.
    #[inline(always)]
    pub fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        self.0.dispatch(kernel)
    }
}

/// Calls `f` with [`Isa::current`] set to `isa` on this thread; restored afterwards, also on panic.
pub fn with_isa<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(isa)));
    f()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Simd;

    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }

    #[test]
    fn every_available_isa_runs_its_own_code() {
        for isa in Isa::available() {
            let lanes = match isa.name() {
                "avx512" => 16,
                "avx2" => 8,
                "neon" => 4,
                _ => 1,
            };
            assert_eq!(isa.run(Lanes), lanes, "{}", isa.name());
        }
        assert_eq!(Isa::available().last().map(|isa| isa.name()), Some("portable"));
    }

    #[test]
    fn override_nests_and_ends() {
        let current = || Isa::current().name();
        let outside = current();
        let inside = with_isa(Isa::PORTABLE, || {
            for isa in Isa::available() {
                assert_eq!(with_isa(isa, current), isa.name());
            }
            current()
        });
        assert_eq!((inside, current()), ("portable", outside));
    }
}
