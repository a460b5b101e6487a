//! Software prefetching.

/// Prefetches the cache line of `slice[at]`, if it is in range and the processor is x86-64.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if at < slice.len() {
        #[expect(unsafe_code, reason = "the instruction takes a pointer")]
        // SAFETY: the index is in range, and every x86-64 has the instruction.
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
    fn any_index_is_allowed() {
        let bytes = [1, 2, 3];
        for at in [0, 2, 3, usize::MAX] {
            prefetch(&bytes, at);
        }
        prefetch::<u64>(&[], 0);
        assert_eq!(bytes, [1, 2, 3]);
    }
}
