//! f32 gemm for AVX-512 with a 12 × 32 microkernel; names (MR, NR, KC, jc, …) as in BLIS.
//!
//! The microkernel has 24 accumulators; each step along k multiplies two vectors of B by 12
//! broadcast elements of A, which keeps both FMA units of a core busy. B is packed in panels of
//! [`NR`] columns, once for all rows, and stays in the L2 cache. A is read in place, unless its
//! rows or columns would conflict in the L1 cache or its columns are pages apart. Every element of
//! C is a sum along k in ascending order, in blocks of [`KC`], so the bits do not depend on blocks.
//!
//! Memory is the bottleneck, so three things are prefetched: the tile of C during its sum, the next
//! rows of a transposed B, and the next panel of A.

#![expect(unsafe_code, reason = "vector intrinsics on raw pointers")]

use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
    _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};
use std::cell::RefCell;

use super::View;

/// Rows of the microkernel's tile.
pub(super) const MR: usize = 12;
/// Columns of the microkernel's tile.
pub(super) const NR: usize = 32;
/// Steps along k between two updates of C.
const KC: usize = 384;
/// Steps along k between two visits of a tile within a block, which keeps its sums: a panel of A of
/// so many columns stays in the L1 cache, also where another thread of the core uses half of it.
const KR: usize = 192;
/// Columns of a packed block of B, which has KC · NC elements: half of an L2 cache.
const NC: usize = 384;
/// Row stride of a copied panel of A: an odd number of cache lines.
const A_STRIDE: usize = KC + 16;
/// Column stride of A (4 KiB, a page) above which A is packed.
const PACK_A_STRIDE: usize = 1024;
/// Number of elements of A (half an L2 cache) above which A is prefetched.
const PREFETCH_A_LEN: usize = 128 * 1024;
/// Strides that are multiples of this (2 KiB) map the rows or columns of a panel to a few L1 cache
/// sets.
const L1_CONFLICT_STRIDE: usize = 512;

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

/// A cache line (64 bytes), as long as a vector.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct CacheLine([f32; 16]);

impl CacheLine {
    pub(super) const ZERO: Self = Self([0.0; 16]);
}

thread_local! {
    /// Packed block of B of this thread.
    static PACKED_B: RefCell<Vec<CacheLine>> = const { RefCell::new(Vec::new()) };
    /// Packed panel of A of this thread, and the sums of the tiles of a panel of C.
    static PACKED_A: RefCell<Vec<CacheLine>> = const { RefCell::new(Vec::new()) };
}

/// The [`super::Kernel`] for AVX-512F.
///
/// # Safety
/// As [`super::Kernel`].
pub(super) unsafe fn gemm(
    shape: (usize, usize, usize),
    a: View,
    b: View,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
) {
    PACKED_B.with_borrow_mut(|packed| {
        packed.resize(KC * NC / 16, CacheLine::ZERO);
        let packed = packed.as_mut_ptr().cast::<f32>();
        // SAFETY: the block lies within B, and the buffer holds KC x NC elements; the rest is the
        // caller's.
        unsafe {
            gemm_blocks(shape, a, c, c_stride, accumulate, |(pc, jc), block| {
                pack_b(b.at(pc, jc), block, packed);
                packed
            });
        }
    });
}

/// Packs B (k, n) whole, block after block as [`gemm_packed`] reads them.
///
/// # Safety
/// The machine has AVX-512F, and B lies in memory that may be read.
pub(super) unsafe fn pack(b: View, (k, n): (usize, usize), out: &mut Vec<CacheLine>) {
    out.resize(k * n.next_multiple_of(NR) / 16, CacheLine::ZERO);
    let mut at = out.as_mut_ptr().cast::<f32>();
    for jc in (0..n).step_by(NC) {
        let width = NC.min(n - jc);
        for pc in (0..k).step_by(KC) {
            let depth = KC.min(k - pc);
            // SAFETY: the block lies within B; the sizes of all blocks add up to the buffer's.
            unsafe {
                pack_b(b.at(pc, jc), (depth, width), at);
                at = at.add(depth * width.next_multiple_of(NR));
            }
        }
    }
}

/// [`gemm`] with a B packed by [`pack`]; the result has the same bits.
///
/// # Safety
/// As for [`gemm`]; `packed` is from a B of this shape.
pub(super) unsafe fn gemm_packed(
    shape: (usize, usize, usize),
    a: View,
    packed: &[CacheLine],
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
) {
    let mut at = packed.as_ptr().cast::<f32>();
    // SAFETY: the blocks come in the order and in the sizes in which they were packed; the rest is
    // the caller's.
    unsafe {
        gemm_blocks(shape, a, c, c_stride, accumulate, |_, (depth, width)| {
            let here = at;
            at = at.wrapping_add(depth * width.next_multiple_of(NR));
            here
        });
    }
}

/// Gemm with blocks of B from `packed_b`, which returns the packed panels of the block at (row,
/// column) with size (depth, width).
///
/// # Safety
/// As for [`gemm`]; `packed_b` returns readable panels.
unsafe fn gemm_blocks(
    (m, n, k): (usize, usize, usize),
    a: View,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
    mut packed_b: impl FnMut((usize, usize), (usize, usize)) -> *const f32,
) {
    PACKED_A.with_borrow_mut(|packed_a| {
        packed_a.resize((A_STRIDE + NC) * MR / 16, CacheLine::ZERO);
        let packed_a = packed_a.as_mut_ptr().cast::<f32>();
        let sums = packed_a.wrapping_add(A_STRIDE * MR);
        let large = m * k > PREFETCH_A_LEN;
        for jc in (0..n).step_by(NC) {
            let width = NC.min(n - jc);
            for pc in (0..k).step_by(KC) {
                let depth = KC.min(k - pc);
                let packed_b = packed_b((pc, jc), (depth, width));
                for ir in (0..m).step_by(MR) {
                    let rows = MR.min(m - ir);
                    // SAFETY: the panel is within A, and the buffer starts with A_STRIDE x MR
                    // elements.
                    let here = unsafe { prepare_a(a.at(ir, pc), (rows, depth), width, packed_a) };
                    // The next panel: below this one, or at the top of the next columns.
                    let next = if ir + MR < m { a.at(ir + MR, pc) } else { a.at(0, pc + depth) };
                    for kr in (0..depth).step_by(KR) {
                        let steps = KR.min(depth - kr);
                        let (first, last) = (kr == 0, kr + steps == depth);
                        for jr in (0..width).step_by(NR) {
                            if large && first && next.column_stride == 1 {
                                let columns = jr * depth / width..(jr + NR).min(width) * depth / width;
                                prefetch_rows(next, MR.min(m), columns);
                            }
                            let columns = NR.min(width - jr);
                            // SAFETY: rows and columns stay within C; the panels were packed above;
                            // the buffer of sums has a tile for each jr.
                            unsafe {
                                let c = c.add(ir * c_stride + jc + jr);
                                if last {
                                    prefetch_c_tile(c, c_stride, rows, columns);
                                }
                                let (a, b) = (here.at(0, kr), packed_b.add(jr * depth + kr * NR));
                                let sums = Sums { at: sums.add(jr * MR), first, last };
                                let accumulate = accumulate || pc > 0;
                                dispatch_rows!(
                                    rows,
                                    microkernel(steps, a, b, sums, c, c_stride, columns, accumulate)
                                );
                            }
                        }
                    }
                }
            }
        }
    });
}

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
            } else if b.row_stride == 1 {
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
            } else {
                for i in 0..depth {
                    for j in 0..NR {
                        let value = if j < columns { *from.at(i, j).data } else { 0.0 };
                        *out.add(i * NR + j) = value;
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

/// Returns A's (rows, depth) panel unchanged, or a copy in `out` when its strides would cause L1
/// set conflicts or page-sized jumps. `width` is the number of B's columns that will use it.
#[target_feature(enable = "avx512f")]
unsafe fn prepare_a(a: View, (rows, depth): (usize, usize), width: usize, out: *mut f32) -> View {
    let in_rows = a.column_stride == 1;
    let conflicts =
        |stride: usize, reuses: usize| stride.is_multiple_of(L1_CONFLICT_STRIDE) && width > reuses * NR;
    if in_rows && conflicts(a.row_stride, 4) {
        for i in 0..rows {
            // SAFETY: the caller's panel; row i of the buffer.
            unsafe {
                std::ptr::copy_nonoverlapping(a.data.add(i * a.row_stride), out.add(i * A_STRIDE), depth);
            }
        }
        View { data: out, row_stride: A_STRIDE, column_stride: 1 }
    } else if in_rows
        || a.row_stride == 1 && a.column_stride <= PACK_A_STRIDE && !conflicts(a.column_stride, 1)
    {
        a
    } else {
        // SAFETY: the caller's.
        unsafe { pack_a(a, (rows, depth), out) };
        View { data: out, row_stride: 1, column_stride: MR }
    }
}

/// Prefetches a tile of C into the L1 cache.
fn prefetch_c_tile(c: *const f32, c_stride: usize, rows: usize, columns: usize) {
    for i in 0..rows {
        let row = c.wrapping_add(i * c_stride);
        for at in [0, 16, columns - 1] {
            // SAFETY: a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(at).cast()) };
        }
    }
}

/// Prefetches some columns of a panel's rows into the L2 cache.
fn prefetch_rows(a: View, rows: usize, columns: std::ops::Range<usize>) {
    for i in 0..rows {
        for j in columns.clone().step_by(16) {
            // SAFETY: a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(a.at(i, j).data.cast()) };
        }
    }
}

/// Copies a (rows, depth) panel column by column, with a column stride of [`MR`].
#[target_feature(enable = "avx512f")]
unsafe fn pack_a(a: View, (rows, depth): (usize, usize), out: *mut f32) {
    let mask = masks(rows).0;
    for i in 0..depth {
        // SAFETY: the caller's panel and buffer.
        unsafe {
            let column = a.data.add(i * a.column_stride);
            if a.row_stride == 1 {
                _mm_prefetch::<_MM_HINT_T1>(column.wrapping_add(4 * MR).cast());
                _mm512_mask_storeu_ps(out.add(i * MR), mask, _mm512_maskz_loadu_ps(mask, column));
            } else {
                for j in 0..rows {
                    *out.add(i * MR + j) = *column.add(j * a.row_stride);
                }
            }
        }
    }
}

/// The sums of a tile (R, [`NR`]) between two visits, and whether this is the first or the last of
/// them.
#[derive(Clone, Copy)]
struct Sums {
    at: *mut f32,
    first: bool,
    last: bool,
}

#[target_feature(enable = "avx512f")]
#[expect(clippy::too_many_arguments, reason = "the parts of a matmul")]
unsafe fn microkernel<const R: usize>(
    depth: usize,
    a: View,
    b: *const f32,
    kept: Sums,
    c: *mut f32,
    c_stride: usize,
    columns: usize,
    accumulate: bool,
) {
    let (low, high) = masks(columns);
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
            let c = c.add(i * c_stride);
            let second = c.wrapping_add(16);
            if accumulate {
                sums[0] = _mm512_fmadd_ps(one, _mm512_maskz_loadu_ps(low, c), sums[0]);
                sums[1] = _mm512_fmadd_ps(one, _mm512_maskz_loadu_ps(high, second), sums[1]);
            }
            _mm512_mask_storeu_ps(c, low, sums[0]);
            _mm512_mask_storeu_ps(second, high, sums[1]);
        }
    }
}
