//! gemm with bf16 inputs and f32 sums for AVX512-BF16: twice the arithmetic of f32 per instruction.
//!
//! Packing rounds both matrices to bf16 (to nearest, ties to even), as pairs along k: a 32-bit word
//! contains the elements k (low half) and k + 1 (high half). The microkernel is that of
//! [`super::avx512`], 12 × 32, on words. Subnormal numbers count as zero.

#![expect(unsafe_code, reason = "vector intrinsics on raw pointers")]

use std::arch::x86_64::{
    __m256i, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps,
    _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_si512,
};
use std::cell::RefCell;

use super::View;
use super::avx512::{MR, NR, dispatch_rows, masks, transpose_16x16};
use super::blocked::{CacheLine, OutputTile};

/// Pairs along k between two updates of C.
const KC: usize = 384;
/// Columns of a packed block of B, which has KC · NC words: half of an L2 cache.
const NC: usize = 384;
/// Row stride of a packed panel of A, in pairs: an odd number of cache lines.
const A_STRIDE: usize = KC + 16;
/// Words of a packed panel of A.
const PANEL: usize = A_STRIDE * MR;
/// Rows of A packed at a time; if A is column-major, these are whole cache lines.
const MC: usize = 4 * MR;

thread_local! {
    /// Buffers of this thread for packed B and packed A.
    static PACKED: RefCell<(Vec<CacheLine>, Vec<CacheLine>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Whether this machine has AVX-512F and AVX512-BF16.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// The [`super::Kernel`] for AVX-512F and AVX512-BF16; rounds its inputs.
///
/// # Safety
/// As [`super::Kernel`].
pub(super) unsafe fn gemm(
    (m, n, k): (usize, usize, usize),
    a: View,
    b: View,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
) {
    PACKED.with_borrow_mut(|(packed_b, packed_a)| {
        packed_b.resize(KC * NC / 16, CacheLine::ZERO);
        packed_a.resize(PANEL * MC / MR / 16, CacheLine::ZERO);
        let (packed_b, packed_a) = (packed_b.as_mut_ptr().cast::<u32>(), packed_a.as_mut_ptr().cast::<u32>());
        for jc in (0..n).step_by(NC) {
            let width = NC.min(n - jc);
            for pc in (0..k).step_by(2 * KC) {
                let depth = (2 * KC).min(k - pc);
                let pairs = depth.div_ceil(2);
                // SAFETY: the block is within B, and the buffer holds KC x NC words.
                unsafe { pack_b(b.at(pc, jc), (depth, width), packed_b) };
                for ic in (0..m).step_by(MC) {
                    let height = MC.min(m - ic);
                    // SAFETY: the block is within A, and the buffer holds its panels.
                    let (row_stride, pair_stride) =
                        unsafe { pack_a(a.at(ic, pc), (height, depth), packed_a) };
                    for ir in (0..height).step_by(MR) {
                        let rows = MR.min(height - ir);
                        let data = packed_a.wrapping_add(ir / MR * PANEL);
                        let a = PackedA { data, row_stride, pair_stride };
                        for jr in (0..width).step_by(NR) {
                            let columns = NR.min(width - jr);
                            // SAFETY: rows and columns are within C; both panels are packed.
                            unsafe {
                                let c = c.add((ic + ir) * c_stride + jc + jr);
                                let b = packed_b.add(jr * pairs);
                                let into =
                                    OutputTile { c, c_stride, columns, accumulate: accumulate || pc > 0 };
                                dispatch_rows!(rows, microkernel(pairs, a, b, into));
                            }
                        }
                    }
                }
            }
        }
    });
}

/// A packed panel of A.
#[derive(Clone, Copy)]
struct PackedA {
    data: *const u32,
    row_stride: usize,
    pair_stride: usize,
}

/// Sixteen words, of which word i contains element i of `low` and, in its high half, of `high`.
#[target_feature(enable = "avx512f,avx512bf16")]
fn interleave(low: __m512i, high: __m512i) -> __m512i {
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
}

/// Sixteen rounded elements of a row, each in the low half of a word.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rounded(row: *const f32, mask: u16) -> __m512i {
    // SAFETY: the caller's: masked lanes are not read. __m256bh and __m256i are the same bits.
    unsafe {
        let half: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, row)));
        _mm512_cvtepu16_epi32(half)
    }
}

/// Thirty-two elements of a row as sixteen pairs; elements from `count` on are zeros.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs_of(row: *const f32, count: usize) -> __m512i {
    let (low, high) = masks(count.min(32));
    // SAFETY: the caller's: masked lanes are not read. __m512bh and __m512i are the same bits.
    unsafe {
        let (first, second) =
            (_mm512_maskz_loadu_ps(low, row), _mm512_maskz_loadu_ps(high, row.wrapping_add(16)));
        std::mem::transmute(_mm512_cvtne2ps_pbh(second, first))
    }
}

/// Packs a (depth, width) block into zero-padded panels of (depth / 2, 32) words.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pack_b(b: View, (depth, width): (usize, usize), out: *mut u32) {
    let pairs = depth.div_ceil(2);
    for jr in (0..width).step_by(NR) {
        let columns = NR.min(width - jr);
        // SAFETY: the caller's block and buffer; masked lanes are not accessed.
        unsafe {
            let out = out.add(jr * pairs);
            let from = b.at(0, jr);
            if b.row_stride == 1 && b.column_stride != 1 {
                for half in [0, 16] {
                    let here = columns.saturating_sub(half).min(16);
                    for pair in (0..pairs).step_by(16) {
                        let rows = from.data.wrapping_add(half * b.column_stride + 2 * pair);
                        transpose(rows, b.column_stride, (here, depth - 2 * pair), out.add(pair * NR + half));
                    }
                }
            } else {
                for pair in 0..pairs {
                    let row = from.at(2 * pair, 0);
                    let second = if 2 * pair + 1 < depth { columns } else { 0 };
                    for half in [0, 16] {
                        let (low, high) = if b.column_stride == 1 {
                            let mask = |count: usize| masks(count.saturating_sub(half).min(16)).0;
                            let at = row.data.wrapping_add(half);
                            (rounded(at, mask(columns)), rounded(at.wrapping_add(b.row_stride), mask(second)))
                        } else {
                            (
                                gathered(row.at(0, half), columns, half),
                                gathered(row.at(1, half), second, half),
                            )
                        };
                        _mm512_storeu_si512(out.add(pair * NR + half).cast(), interleave(low, high));
                    }
                }
            }
        }
    }
}

/// The first `count - half` elements, at most 16, of a strided row, as low halves of words.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn gathered(row: View, count: usize, half: usize) -> __m512i {
    let mut values = [0.0_f32; 16];
    for (j, value) in values.iter_mut().enumerate().take(count.saturating_sub(half)) {
        // SAFETY: the caller's row has `count` elements.
        *value = unsafe { *row.at(0, j).data };
    }
    // SAFETY: sixteen local elements.
    unsafe { rounded(values.as_ptr(), u16::MAX) }
}

/// Transposes `rows` ≤ 16 rows of `depth` elements, `stride` apart, into at most sixteen rows of
/// pairs, [`NR`] apart; missing elements are zeros.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn transpose(from: *const f32, stride: usize, (rows, depth): (usize, usize), out: *mut u32) {
    let mut r = [_mm512_setzero_ps(); 16];
    for i in 0..16 {
        let here = if i < rows { depth } else { 0 };
        let row = from.wrapping_add(i * stride);
        // SAFETY: `depth` elements of row i if there is one, else none; a prefetch never faults.
        unsafe {
            let ahead = row.wrapping_add(16 * stride);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
            r[i] = _mm512_castsi512_ps(pairs_of(row, here));
        }
    }
    let r = transpose_16x16(r);
    for (i, row) in r.iter().enumerate().take(depth.div_ceil(2)) {
        // SAFETY: the caller's buffer has a row for every pair.
        unsafe { _mm512_storeu_si512(out.add(i * NR).cast(), _mm512_castps_si512(*row)) };
    }
}

/// Packs a (rows, depth) block of A in panels of [`MR`] rows, [`PANEL`] words apart; returns the
/// row and pair strides of a panel.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pack_a(a: View, (rows, depth): (usize, usize), out: *mut u32) -> (usize, usize) {
    let pairs = depth.div_ceil(2);
    // SAFETY: the caller's block and buffer; masked lanes are not accessed.
    unsafe {
        if a.column_stride == 1 {
            for i in 0..rows {
                let row = a.data.wrapping_add(i * a.row_stride);
                for pair in (0..pairs).step_by(16) {
                    let words = pairs_of(row.wrapping_add(2 * pair), depth - 2 * pair);
                    _mm512_storeu_si512(out.add(i * A_STRIDE + pair).cast(), words);
                }
            }
            return (A_STRIDE, 1);
        }
        for pair in 0..pairs {
            for ir in (0..rows).step_by(MR) {
                let here = MR.min(rows - ir);
                let (column, next) = (a.at(ir, 2 * pair), a.at(ir, 2 * pair + 1));
                let second = if 2 * pair + 1 < depth { here } else { 0 };
                let (low, high) = if a.row_stride == 1 {
                    _mm_prefetch::<_MM_HINT_T0>(column.at(0, 8).data.cast());
                    _mm_prefetch::<_MM_HINT_T0>(next.at(0, 8).data.cast());
                    (rounded(column.data, masks(here).0), rounded(next.data, masks(second).0))
                } else {
                    (gathered(column.transposed(), here, 0), gathered(next.transposed(), second, 0))
                };
                // Writes four words too many, which the next store overwrites; the buffer has room.
                let into = out.add(ir / MR * PANEL + pair * MR);
                _mm512_storeu_si512(into.cast(), interleave(low, high));
            }
        }
    }
    (1, MR)
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn microkernel<const R: usize>(pairs: usize, a: PackedA, b: *const u32, into: OutputTile) {
    let (low, high) = masks(into.columns);
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the caller's shapes; masked lanes of C are not accessed. __m512bh and __m512i are the
    // same bits.
    unsafe {
        for i in 0..R {
            _mm_prefetch::<_MM_HINT_T0>(into.c.wrapping_add(i * into.c_stride).cast());
            _mm_prefetch::<_MM_HINT_T0>(into.c.wrapping_add(i * into.c_stride + 16).cast());
        }
        let bf16 = |words: __m512i| -> __m512bh { std::mem::transmute(words) };
        let (mut a_k, mut b_k) = (a.data, b);
        for _ in 0..pairs {
            let b0 = bf16(_mm512_loadu_si512(b_k.cast()));
            let b1 = bf16(_mm512_loadu_si512(b_k.add(16).cast()));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = bf16(_mm512_set1_epi32((*a_k.add(i * a.row_stride)).cast_signed()));
                sums[0] = _mm512_dpbf16_ps(sums[0], x, b0);
                sums[1] = _mm512_dpbf16_ps(sums[1], x, b1);
            }
            a_k = a_k.wrapping_add(a.pair_stride);
            b_k = b_k.add(NR);
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
