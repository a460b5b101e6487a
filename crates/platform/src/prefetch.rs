//! Asking for memory before it is needed.

/// Asks for the cache line of `slice[at]`, which is then on its way while other work is done. Nothing happens for a place
/// past the end, and on machines whose instruction for it is not known here.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if at < slice.len() {
        #[expect(unsafe_code, reason = "the instruction takes a pointer")]
        // SAFETY: the place lies within the slice, and fetching ahead never faults; every x86-64 has the instruction.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().add(at).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_may_be_asked_for() {
        let bytes = [1, 2, 3];
        for at in [0, 2, 3, usize::MAX] {
            prefetch(&bytes, at);
        }
        prefetch::<u64>(&[], 0);
        assert_eq!(bytes, [1, 2, 3]);
    }
}
