//! The 6 × 16 tile of f32 gemm for AVX2 and FMA.
//!
//! The microkernel has twelve of the sixteen registers as accumulators; each step along k
//! multiplies two vectors of B by six broadcast elements of A.

#![expect(unsafe_code, reason = "vector intrinsics on raw pointers")]

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_castpd_ps,
    _mm256_castps_pd, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps,
    _mm256_maskstore_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_unpackhi_pd,
    _mm256_unpackhi_ps, _mm256_unpacklo_pd, _mm256_unpacklo_ps,
};
use std::hint::black_box;

use super::View;
use super::blocked::{OutputTile, Sums, Tile};

/// Rows of the microkernel's tile.
pub(super) const MR: usize = 6;
/// Columns of the microkernel's tile.
pub(super) const NR: usize = 16;

/// The tile for AVX2 and FMA.
pub(super) struct Avx2;

impl Tile for Avx2 {
    const MR: usize = MR;
    const NR: usize = NR;
    const KC: usize = 256;
    const KR: usize = 256;
    const NC: usize = 256;

    unsafe fn pack_b(b: View, size: (usize, usize), out: *mut f32) {
        // SAFETY: the caller's.
        unsafe { pack_b(b, size, out) }
    }

    #[inline(always)]
    unsafe fn microkernel(rows: usize, depth: usize, a: View, b: *const f32, sums: Sums, into: OutputTile) {
        // SAFETY: the caller's.
        unsafe {
            match rows {
                6 => microkernel::<6>(depth, a, b, sums, into),
                5 => microkernel::<5>(depth, a, b, sums, into),
                4 => microkernel::<4>(depth, a, b, sums, into),
                3 => microkernel::<3>(depth, a, b, sums, into),
                2 => microkernel::<2>(depth, a, b, sums, into),
                _ => microkernel::<1>(depth, a, b, sums, into),
            }
        }
    }
}

/// Mask of the lowest `count` ≤ 8 lanes.
#[target_feature(enable = "avx2,fma")]
fn mask(count: usize) -> __m256i {
    const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: eight elements from `8 - count` on.
    unsafe { _mm256_loadu_si256(LANES[8 - count..].as_ptr().cast()) }
}

/// The first `count` ≤ 8 elements, then zeros.
#[target_feature(enable = "avx2,fma")]
unsafe fn load(from: *const f32, count: usize) -> __m256 {
    // SAFETY: the caller's `count` elements; masked lanes are not accessed.
    unsafe { if count == 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask(count)) } }
}

/// Copies a (depth, width) block into zero-padded panels, each (depth, 16).
#[target_feature(enable = "avx2,fma")]
unsafe fn pack_b(b: View, (depth, width): (usize, usize), out: *mut f32) {
    for jr in (0..width).step_by(NR) {
        let from = b.at(0, jr);
        let columns = [width - jr, (width - jr).saturating_sub(8)].map(|count| count.min(8));
        // SAFETY: the caller's block and buffer.
        unsafe {
            let out = out.add(jr * depth);
            if b.column_stride == 1 {
                for i in 0..depth {
                    let row = from.data.add(i * b.row_stride);
                    _mm256_storeu_ps(out.add(i * NR), load(row, columns[0]));
                    _mm256_storeu_ps(out.add(i * NR + 8), load(row.wrapping_add(8), columns[1]));
                }
                continue;
            }
            for (half, columns) in [0, 8].into_iter().zip(columns) {
                for i in (0..depth).step_by(8) {
                    let rows = from.data.wrapping_add(half * b.column_stride + i);
                    transpose(rows, b.column_stride, (columns, 8.min(depth - i)), out.add(i * NR + half));
                }
            }
        }
    }
}

/// Transposes `rows` ≤ 8 rows of `columns` ≤ 8 elements, `stride` apart, into `columns` rows of 8
/// elements, [`NR`] apart; missing elements are zeros.
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose(from: *const f32, stride: usize, (rows, columns): (usize, usize), out: *mut f32) {
    let mut r = [_mm256_setzero_ps(); 8];
    // Loops of fixed length, so that `r` stays in registers.
    for i in 0..8 {
        // SAFETY: `columns` elements of row i, if there is one; a prefetch never faults.
        unsafe {
            let row = from.wrapping_add(i * stride);
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(8 * stride).cast());
            if i < rows {
                r[i] = load(row, columns);
            }
        }
    }
    let pd = |v: __m256| _mm256_castps_pd(v);
    let mut t = r;
    for i in (0..8).step_by(2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for i in (0..8).step_by(4) {
        r[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(pd(t[i]), pd(t[i + 2])));
        r[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(pd(t[i]), pd(t[i + 2])));
        r[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(pd(t[i + 1]), pd(t[i + 3])));
        r[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(pd(t[i + 1]), pd(t[i + 3])));
    }
    for i in 0..4 {
        t[i] = _mm256_permute2f128_ps::<0x20>(r[i], r[i + 4]);
        t[i + 4] = _mm256_permute2f128_ps::<0x31>(r[i], r[i + 4]);
    }
    for i in 0..8 {
        if i < columns {
            // SAFETY: the caller's buffer has `columns` rows.
            unsafe { _mm256_storeu_ps(out.add(i * NR), t[i]) };
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn microkernel<const R: usize>(depth: usize, a: View, b: *const f32, kept: Sums, into: OutputTile) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    // SAFETY: the caller's shapes; B is padded; `kept` has room for a tile.
    unsafe {
        if !kept.first {
            for (i, sums) in sums.iter_mut().enumerate() {
                let at = kept.at.add(i * NR);
                *sums = [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))];
            }
        }
        // Two pointers to A, as one would be a chain of R additions for each step.
        let (mut top, mut bottom) = (a.data, black_box(a.data.wrapping_add(3 * a.row_stride)));
        let mut b_k = b;
        for _ in 0..depth {
            let (b0, b1) = (_mm256_loadu_ps(b_k), _mm256_loadu_ps(b_k.add(8)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let (a_k, i) = if i < 3 { (top, i) } else { (bottom, i - 3) };
                let x = _mm256_broadcast_ss(&*a_k.add(i * a.row_stride));
                sums[0] = _mm256_fmadd_ps(x, b0, sums[0]);
                sums[1] = _mm256_fmadd_ps(x, b1, sums[1]);
            }
            top = top.wrapping_add(a.column_stride);
            bottom = bottom.wrapping_add(a.column_stride);
            b_k = b_k.add(NR);
        }
        if kept.last && into.columns == NR {
            for (i, sums) in sums.iter_mut().enumerate() {
                let c = into.c.add(i * into.c_stride);
                if into.accumulate {
                    sums[0] = _mm256_add_ps(_mm256_loadu_ps(c), sums[0]);
                    sums[1] = _mm256_add_ps(_mm256_loadu_ps(c.add(8)), sums[1]);
                }
                _mm256_storeu_ps(c, sums[0]);
                _mm256_storeu_ps(c.add(8), sums[1]);
            }
            return;
        }
        for (i, sums) in sums.iter().enumerate() {
            let at = kept.at.add(i * NR);
            _mm256_storeu_ps(at, sums[0]);
            _mm256_storeu_ps(at.add(8), sums[1]);
        }
        if kept.last {
            write_partial(R, kept.at, into);
        }
    }
}

/// Writes or adds the sums of a tile with fewer columns than [`NR`] to C.
#[target_feature(enable = "avx2,fma")]
unsafe fn write_partial(rows: usize, sums: *const f32, into: OutputTile) {
    for i in 0..rows {
        for half in (0..into.columns).step_by(8) {
            let columns = (into.columns - half).min(8);
            // SAFETY: the caller's tiles; masked lanes are not accessed.
            unsafe {
                let c = into.c.add(i * into.c_stride + half);
                let mut sum = _mm256_loadu_ps(sums.add(i * NR + half));
                if into.accumulate {
                    sum = _mm256_add_ps(load(c, columns), sum);
                }
                // What a masked store wrote is slow to read back.
                if columns == 8 {
                    _mm256_storeu_ps(c, sum);
                } else {
                    _mm256_maskstore_ps(c, mask(columns), sum);
                }
            }
        }
    }
}
