//! f32 gemm in blocks, generic over the [`Tile`] of an instruction set; names (MR, NR, KC, jc, …)
//! as in BLIS (Van Zee and van de Geijn 2015).
//!
//! B is packed in panels of NR columns, once for all rows, and stays in the L2 cache. A is read in
//! place, unless its rows or columns would conflict in the L1 cache or its columns are pages apart.
//! Every element of C is a sum along k in ascending order, in blocks of KC, so the bits do not
//! depend on blocks.
//!
//! Memory is the bottleneck, so these are prefetched: the tile of C during its sum, the next panel
//! of A, the next rows of a transposed B, and the next block of a large B while this one is
//! multiplied.

#![expect(unsafe_code, reason = "kernels on raw pointers")]

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use std::cell::RefCell;

use super::View;

/// Column stride of A (4 KiB, a page) above which A is packed.
const PACK_A_STRIDE: usize = 1024;
/// Number of elements of A (half an L2 cache) above which A is prefetched.
const PREFETCH_A_LEN: usize = 128 * 1024;
/// Number of elements of B (4 MiB, more than an L2 cache) above which B is prefetched.
const PREFETCH_B_LEN: usize = 1024 * 1024;
/// Strides that are multiples of this (2 KiB) map the rows or columns of a panel to a few L1 cache
/// sets.
const L1_CONFLICT_STRIDE: usize = 512;

/// The parts of gemm that depend on the instruction set: a (MR, NR) tile of C summed in registers.
///
/// Its functions are not inlined into generic code, which lacks the instruction set.
pub(super) trait Tile {
    /// Rows of a tile.
    const MR: usize;
    /// Columns of a tile.
    const NR: usize;
    /// Steps along k between two updates of C.
    const KC: usize;
    /// Steps along k between two visits of a tile within a block, which keeps its sums: a panel of
    /// A of so many columns stays in the L1 cache, also where another thread of the core uses half
    /// of it.
    const KR: usize;
    /// Columns of a packed block of B, which has KC · NC elements: half of an L2 cache. Where k is
    /// smaller, a block has more of them ([`block_columns`]).
    const NC: usize;
    /// Row stride of a copied panel of A: an odd number of cache lines.
    const A_STRIDE: usize = Self::KC + 16;

    /// Copies a (depth, width) block into zero-padded panels, each (depth, NR).
    ///
    /// # Safety
    /// The machine has the instructions; the block is readable, and `out` has room for the panels.
    unsafe fn pack_b(b: View, size: (usize, usize), out: *mut f32);

    /// Adds the product of `rows` ≤ MR rows of A and a panel of B, over `depth` steps along k, to
    /// the sums of a tile.
    ///
    /// # Safety
    /// The machine has the instructions; the parts of A, B and C are in memory, C's writable.
    unsafe fn microkernel(rows: usize, depth: usize, a: View, b: *const f32, sums: Sums, into: OutputTile);
}

/// The sums of a tile (MR, NR) between two visits, and whether this is the first or the last of
/// them.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub(super) at: *mut f32,
    pub(super) first: bool,
    pub(super) last: bool,
}

/// A tile of C.
#[derive(Clone, Copy)]
pub(super) struct OutputTile {
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    pub(super) columns: usize,
    pub(super) accumulate: bool,
}

/// A cache line (64 bytes).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct CacheLine([f32; 16]);

impl CacheLine {
    pub(super) const ZERO: Self = Self([0.0; 16]);
}

/// [`pack`] of an instruction set.
pub(super) type Pack = unsafe fn(View, (usize, usize), &mut Vec<CacheLine>);

/// [`gemm_packed`] of an instruction set.
pub(super) type PackedKernel = unsafe fn((usize, usize, usize), View, &[CacheLine], *mut f32, usize, bool);

thread_local! {
    /// Packed block of B of this thread.
    static PACKED_B: RefCell<Vec<CacheLine>> = const { RefCell::new(Vec::new()) };
    /// Packed panel of A of this thread, and the sums of the tiles of a panel of C.
    static PACKED_A: RefCell<Vec<CacheLine>> = const { RefCell::new(Vec::new()) };
}

/// The [`super::Kernel`] for the instruction set of `T`.
///
/// # Safety
/// As [`super::Kernel`].
pub(super) unsafe fn gemm<T: Tile>(
    shape: (usize, usize, usize),
    a: View,
    b: View,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
) {
    PACKED_B.with_borrow_mut(|packed| {
        grow(packed, T::KC * T::NC);
        let packed = packed.as_mut_ptr().cast::<f32>();
        // SAFETY: the block lies within B, and the buffer holds KC x NC elements; the rest is the
        // caller's.
        unsafe {
            let later = (shape.1 * shape.2 > PREFETCH_B_LEN).then_some(b);
            gemm_blocks::<T>(shape, a, later, (c, c_stride), accumulate, |(pc, jc), block| {
                T::pack_b(b.at(pc, jc), block, packed);
                packed
            });
        }
    });
}

/// Columns of a packed block of B (k, n): with as many as fit, A is read or packed less often.
fn block_columns<T: Tile>(k: usize) -> usize {
    T::KC * T::NC / k.clamp(T::KC / 4, T::KC) / T::NR * T::NR
}

/// Makes room for `len` elements; never shrinks, as kernels with other sizes share the buffer.
fn grow(buffer: &mut Vec<CacheLine>, len: usize) {
    buffer.resize(buffer.len().max(len / 16), CacheLine::ZERO);
}

/// Packs B (k, n) whole, block after block as [`gemm_packed`] reads them.
///
/// # Safety
/// The machine has the instructions, and B lies in memory that may be read.
pub(super) unsafe fn pack<T: Tile>(b: View, (k, n): (usize, usize), out: &mut Vec<CacheLine>) {
    out.resize(k * n.next_multiple_of(T::NR) / 16, CacheLine::ZERO);
    let mut at = out.as_mut_ptr().cast::<f32>();
    let nc = block_columns::<T>(k);
    for jc in (0..n).step_by(nc) {
        let width = nc.min(n - jc);
        for pc in (0..k).step_by(T::KC) {
            let depth = T::KC.min(k - pc);
            // SAFETY: the block lies within B; the sizes of all blocks add up to the buffer's.
            unsafe {
                T::pack_b(b.at(pc, jc), (depth, width), at);
                at = at.add(depth * width.next_multiple_of(T::NR));
            }
        }
    }
}

/// [`gemm`] with a B packed by [`pack`]; the result has the same bits.
///
/// # Safety
/// As for [`gemm`]; `packed` is from a B of this shape.
pub(super) unsafe fn gemm_packed<T: Tile>(
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
        gemm_blocks::<T>(shape, a, None, (c, c_stride), accumulate, |_, (depth, width)| {
            let here = at;
            at = at.wrapping_add(depth * width.next_multiple_of(T::NR));
            here
        });
    }
}

/// Gemm with blocks of B from `packed_b`, which returns the packed panels of the block at (row,
/// column) with size (depth, width); the parts of `later` that come next are prefetched meanwhile.
///
/// # Safety
/// As for [`gemm`]; `packed_b` returns readable panels.
unsafe fn gemm_blocks<T: Tile>(
    (m, n, k): (usize, usize, usize),
    a: View,
    later: Option<View>,
    (c, c_stride): (*mut f32, usize),
    accumulate: bool,
    mut packed_b: impl FnMut((usize, usize), (usize, usize)) -> *const f32,
) {
    let nc = block_columns::<T>(k);
    PACKED_A.with_borrow_mut(|packed_a| {
        grow(packed_a, (T::A_STRIDE + nc) * T::MR);
        let packed_a = packed_a.as_mut_ptr().cast::<f32>();
        let sums = packed_a.wrapping_add(T::A_STRIDE * T::MR);
        let large = m * k > PREFETCH_A_LEN;
        for jc in (0..n).step_by(nc) {
            let width = nc.min(n - jc);
            for pc in (0..k).step_by(T::KC) {
                let depth = T::KC.min(k - pc);
                let packed_b = packed_b((pc, jc), (depth, width));
                let mut lines = later.map(|b| {
                    let below = pc + depth < k;
                    let (pc, jc) = if below { (pc + depth, jc) } else { (0, jc + width) };
                    let block = (T::KC.min(k - pc), nc.min(n - jc));
                    Lines::new(b.at(pc, jc), block, m.div_ceil(T::MR) * width.div_ceil(T::NR))
                });
                for ir in (0..m).step_by(T::MR) {
                    let rows = T::MR.min(m - ir);
                    // SAFETY: the panel is within A, and the buffer starts with A_STRIDE x MR
                    // elements.
                    let here = unsafe { prepare_a::<T>(a.at(ir, pc), (rows, depth), width, packed_a) };
                    // The next panel: below this one, or at the top of the next columns.
                    let next = if ir + T::MR < m { a.at(ir + T::MR, pc) } else { a.at(0, pc + depth) };
                    for kr in (0..depth).step_by(T::KR) {
                        let steps = T::KR.min(depth - kr);
                        let (first, last) = (kr == 0, kr + steps == depth);
                        for jr in (0..width).step_by(T::NR) {
                            if large && first && next.column_stride == 1 {
                                let columns = jr * depth / width..(jr + T::NR).min(width) * depth / width;
                                prefetch_rows(next, T::MR.min(m), columns);
                            }
                            if first && let Some(lines) = &mut lines {
                                lines.prefetch();
                            }
                            let columns = T::NR.min(width - jr);
                            // SAFETY: rows and columns stay within C; the panels were packed above;
                            // the buffer of sums has a tile for each jr.
                            unsafe {
                                let c = c.add(ir * c_stride + jc + jr);
                                if last {
                                    prefetch_c_tile(c, c_stride, rows, columns);
                                }
                                let (a, b) = (here.at(0, kr), packed_b.add(jr * depth + kr * T::NR));
                                let sums = Sums { at: sums.add(jr * T::MR), first, last };
                                let accumulate = accumulate || pc > 0;
                                let into = OutputTile { c, c_stride, columns, accumulate };
                                T::microkernel(rows, steps, a, b, sums, into);
                            }
                        }
                    }
                }
            }
        }
    });
}

/// Returns A's (rows, depth) panel unchanged, or a copy in `out` when its strides would cause L1
/// set conflicts or page-sized jumps. `width` is the number of B's columns that will use it.
unsafe fn prepare_a<T: Tile>(a: View, (rows, depth): (usize, usize), width: usize, out: *mut f32) -> View {
    let in_rows = a.column_stride == 1;
    let conflicts =
        |stride: usize, reuses: usize| stride.is_multiple_of(L1_CONFLICT_STRIDE) && width > reuses * T::NR;
    if in_rows && conflicts(a.row_stride, 4) {
        for i in 0..rows {
            // SAFETY: the caller's panel; row i of the buffer.
            unsafe {
                std::ptr::copy_nonoverlapping(a.data.add(i * a.row_stride), out.add(i * T::A_STRIDE), depth);
            }
        }
        View { data: out, row_stride: T::A_STRIDE, column_stride: 1 }
    } else if in_rows
        || a.row_stride == 1 && a.column_stride <= PACK_A_STRIDE && !conflicts(a.column_stride, 1)
    {
        a
    } else {
        // SAFETY: the caller's.
        unsafe { pack_a::<T>(a, (rows, depth), out) };
        View { data: out, row_stride: 1, column_stride: T::MR }
    }
}

/// The cache lines of a block of B, which are prefetched a few at each of so many steps.
struct Lines {
    block: View,
    /// Contiguous runs of elements, and the lines of each.
    runs: usize,
    per_run: usize,
    steps: usize,
    step: usize,
}

impl Lines {
    fn new(b: View, (depth, width): (usize, usize), steps: usize) -> Self {
        // As the transpose, whose rows are contiguous, if its columns are.
        let (block, runs, len) =
            if b.column_stride == 1 { (b, depth, width) } else { (b.transposed(), width, depth) };
        Self { block, runs, per_run: len.div_ceil(16), steps, step: 0 }
    }

    /// Prefetches the lines of the next step into the L2 cache.
    fn prefetch(&mut self) {
        let all = self.runs * self.per_run;
        for line in self.step * all / self.steps..(self.step + 1) * all / self.steps {
            let at = self.block.at(line / self.per_run, line % self.per_run * 16).data;
            // SAFETY: a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
        }
        self.step += 1;
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

/// Copies a (rows, depth) panel of a column-major A column by column, with a column stride of MR.
unsafe fn pack_a<T: Tile>(a: View, (rows, depth): (usize, usize), out: *mut f32) {
    for i in 0..depth {
        // SAFETY: the caller's panel and buffer; a prefetch never faults.
        unsafe {
            let (column, out) = (a.data.add(i * a.column_stride), out.add(i * T::MR));
            _mm_prefetch::<_MM_HINT_T1>(column.wrapping_add(4 * T::MR).cast());
            // A constant length needs no call.
            if rows == T::MR {
                std::ptr::copy_nonoverlapping(column, out, T::MR);
            } else {
                std::ptr::copy_nonoverlapping(column, out, rows);
            }
        }
    }
}
