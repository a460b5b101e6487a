//! The 12 × 32 tile of f32 gemm for AVX-512.
//!
//! The microkernel has 24 accumulators; each step along k multiplies two vectors of B by 12
//! broadcast elements of A, which keeps both FMA units of a core busy.

#![expect(unsafe_code, reason = "vector intrinsics on raw pointers")]

use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

use super::View;
use super::blocked::{OutputTile, Sums, Tile};

/// Rows of the microkernel's tile.
pub(super) const MR: usize = 12;
/// Columns of the microkernel's tile.
pub(super) const NR: usize = 32;

/// The tile for AVX-512F.
pub(super) struct Avx512;

impl Tile for Avx512 {
    const MR: usize = MR;
    const NR: usize = NR;
    const KC: usize = 384;
    const KR: usize = 192;
    const NC: usize = 384;

    unsafe fn pack_b(b: View, size: (usize, usize), out: *mut f32) {
        // SAFETY: the caller's.
        unsafe { pack_b(b, size, out) }
    }

    #[inline(always)]
    unsafe fn microkernel(rows: usize, depth: usize, a: View, b: *const f32, sums: Sums, into: OutputTile) {
        // SAFETY: the caller's.
        unsafe { dispatch_rows!(rows, microkernel(depth, a, b, sums, into)) }
    }
}

/// Calls a microkernel with the number of rows as its const parameter.
macro_rules! dispatch_rows {
    ($rows:expr, $tile:ident($($argument:expr),*)) => {
        match $rows {
            12 => $tile::<12>($($argument),*),
            11 => $tile::<11>($($argument),*),
            10 => $tile::<10>($($argument),*),
            9 => $tile::<9>($($argument),*),
            8 => $tile::<8>($($argument),*),
            7 => $tile::<7>($($argument),*),
            6 => $tile::<6>($($argument),*),
            5 => $tile::<5>($($argument),*),
            4 => $tile::<4>($($argument),*),
            3 => $tile::<3>($($argument),*),
            2 => $tile::<2>($($argument),*),
            _ => $tile::<1>($($argument),*),
        }
    };
}
pub(super) use dispatch_rows;

/// Masks of the lowest `count` lanes of two vectors.
pub(super) fn masks(count: usize) -> (__mmask16, __mmask16) {
    let all = ((1u64 << count) - 1) as u32;
    (all as u16, (all >> 16) as u16)
}

/// Copies a (depth, width) block into zero-padded panels, each (depth, 32).
#[target_feature(enable = "avx512f")]
unsafe fn pack_b(b: View, (depth, width): (usize, usize), out: *mut f32) {
    for jr in (0..width).step_by(NR) {
        let columns = NR.min(width - jr);
        // SAFETY: the caller's block and buffer; masked lanes are not accessed.
        unsafe {
            let out = out.add(jr * depth);
            let from = b.at(0, jr);
            if b.column_stride == 1 {
                let (low, high) = masks(columns);
                for i in 0..depth {
                    let row = from.data.add(i * b.row_stride);
                    _mm512_storeu_ps(out.add(i * NR), _mm512_maskz_loadu_ps(low, row));
                    let second = _mm512_maskz_loadu_ps(high, row.wrapping_add(16));
                    _mm512_storeu_ps(out.add(i * NR + 16), second);
                }
            } else {
                for half in [0, 16] {
                    let here = columns.saturating_sub(half).min(16);
                    for i in (0..depth).step_by(16) {
                        transpose(
                            from.data.wrapping_add(half * b.column_stride + i),
                            b.column_stride,
                            (here, 16.min(depth - i)),
                            out.add(i * NR + half),
                        );
                    }
                }
            }
        }
    }
}

/// Transposes `rows` ≤ 16 rows of `columns` ≤ 16 elements, `stride` apart, into `columns` rows of
/// 16 elements, [`NR`] apart; missing elements are zeros.
#[target_feature(enable = "avx512f")]
unsafe fn transpose(from: *const f32, stride: usize, (rows, columns): (usize, usize), out: *mut f32) {
    let mask = masks(columns).0;
    let mut r: [__m512; 16] = [_mm512_setzero_ps(); 16];
    // Loops of fixed length, so that `r` stays in registers.
    for i in 0..16 {
        let here = if i < rows { mask } else { 0 };
        // SAFETY: `columns` elements of row i if there is one, else none; a prefetch never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add((i + 16) * stride).cast());
            r[i] = _mm512_maskz_loadu_ps(here, from.wrapping_add(i * stride));
        }
    }
    let r = transpose_16x16(r);
    for i in 0..16 {
        if i < columns {
            // SAFETY: the caller's buffer has `columns` rows.
            unsafe { _mm512_storeu_ps(out.add(i * NR), r[i]) };
        }
    }
}

/// Transposes sixteen vectors by unpacking pairs, then fours, then shuffling quarters.
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_16x16(mut r: [__m512; 16]) -> [__m512; 16] {
    let mut t = r;
    for i in (0..16).step_by(2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for i in (0..16).step_by(4) {
        let pd = |v: __m512| _mm512_castps_pd(v);
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[i]), pd(t[i + 2])));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[i]), pd(t[i + 2])));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[i + 1]), pd(t[i + 3])));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[i + 1]), pd(t[i + 3])));
    }
    for i in 0..4 {
        t[i] = _mm512_shuffle_f32x4::<0x88>(r[i], r[i + 4]);
        t[i + 4] = _mm512_shuffle_f32x4::<0xdd>(r[i], r[i + 4]);
        t[i + 8] = _mm512_shuffle_f32x4::<0x88>(r[i + 8], r[i + 12]);
        t[i + 12] = _mm512_shuffle_f32x4::<0xdd>(r[i + 8], r[i + 12]);
    }
    for i in 0..4 {
        r[i] = _mm512_shuffle_f32x4::<0x88>(t[i], t[i + 8]);
        r[i + 8] = _mm512_shuffle_f32x4::<0xdd>(t[i], t[i + 8]);
        r[i + 4] = _mm512_shuffle_f32x4::<0x88>(t[i + 4], t[i + 12]);
        r[i + 12] = _mm512_shuffle_f32x4::<0xdd>(t[i + 4], t[i + 12]);
    }
    r
}

#[target_feature(enable = "avx512f")]
unsafe fn microkernel<const R: usize>(depth: usize, a: View, b: *const f32, kept: Sums, into: OutputTile) {
    let (low, high) = masks(into.columns);
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the caller's shapes; masked lanes of C are not accessed; B is padded.
    unsafe {
        if !kept.first {
            for (i, sums) in sums.iter_mut().enumerate() {
                let at = kept.at.add(i * NR);
                *sums = [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(16))];
            }
        }
        let mut a_k = a.data;
        let mut b_k = b;
        for _ in 0..depth {
            let (b0, b1) = (_mm512_loadu_ps(b_k), _mm512_loadu_ps(b_k.add(16)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a_k.add(i * a.row_stride));
                sums[0] = _mm512_fmadd_ps(x, b0, sums[0]);
                sums[1] = _mm512_fmadd_ps(x, b1, sums[1]);
            }
            a_k = a_k.wrapping_add(a.column_stride);
            b_k = b_k.add(NR);
        }
        if !kept.last {
            for (i, sums) in sums.iter().enumerate() {
                let at = kept.at.add(i * NR);
                _mm512_storeu_ps(at, sums[0]);
                _mm512_storeu_ps(at.add(16), sums[1]);
            }
            return;
        }
        let one = _mm512_set1_ps(1.0);
        for (i, sums) in sums.iter_mut().enumerate() {
            let c = into.c.add(i * into.c_stride);
            let second = c.wrapping_add(16);
            if into.accumulate {
                sums[0] = _mm512_fmadd_ps(one, _mm512_maskz_loadu_ps(low, c), sums[0]);
                sums[1] = _mm512_fmadd_ps(one, _mm512_maskz_loadu_ps(high, second), sums[1]);
            }
            _mm512_mask_storeu_ps(c, low, sums[0]);
            _mm512_mask_storeu_ps(second, high, sums[1]);
        }
    }
}
