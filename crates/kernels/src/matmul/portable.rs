//! Portable gemm in plain Rust, with the same bits on every machine.
//!
//! A 4 × 8 tile of C is summed in registers. Products are rounded before they are added (no FMA),
//! and every element of C is a sum along k in ascending order, in blocks of [`KC`]. So the bits do
//! not depend on the processor, the compiler or the division of C among threads.

#![expect(unsafe_code, reason = "a part of a matrix that several threads write")]

use super::View;

/// Rows of a register tile.
pub(super) const MR: usize = 4;
/// Columns of a register tile.
pub(super) const NR: usize = 8;
/// Steps along k between two updates of C.
const KC: usize = 128;
/// Adjacent tiles that use one packed panel of A; their panels of B fill half of an L1 cache.
const TILES: usize = 4;

/// The [`super::Kernel`] for every machine.
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
    // Panels of A and B, k first. Missing rows and columns contain old values, not written to C.
    let (mut packed_a, mut packed_b) = ([[0.0; MR]; KC], [[[0.0; NR]; KC]; TILES]);
    for pc in (0..k.max(1)).step_by(KC) {
        let depth = KC.min(k - pc);
        let accumulate = accumulate || pc > 0;
        for first in (0..n).step_by(TILES * NR) {
            // (tile, first column, number of columns)
            let tiles =
                (first..n).step_by(NR).zip(0..TILES).map(|(column, tile)| (tile, column, NR.min(n - column)));
            for (tile, column, columns) in tiles.clone() {
                // SAFETY: the caller's: `depth` rows and `columns` columns of B from here on.
                unsafe { pack(&mut packed_b[tile][..depth], columns, b.at(pc, column)) };
            }
            for row in (0..m).step_by(MR) {
                let rows = MR.min(m - row);
                // SAFETY: the caller's: `rows` rows and `depth` columns of A from here on.
                unsafe { pack(&mut packed_a[..depth], rows, a.at(row, pc).transposed()) };
                for (tile, column, columns) in tiles.clone() {
                    let mut sums = [[0.0; NR]; MR];
                    for (xs, ys) in packed_a[..depth].iter().zip(&packed_b[tile]) {
                        for (sums, x) in sums.iter_mut().zip(xs) {
                            sums.iter_mut().zip(ys).for_each(|(sum, y)| *sum += x * y);
                        }
                    }
                    for (i, sums) in sums[..rows].iter().enumerate() {
                        let c = c.wrapping_add((row + i) * c_stride + column);
                        // SAFETY: `columns` elements of a row of C, which only this call writes.
                        let into = unsafe { std::slice::from_raw_parts_mut(c, columns) };
                        into.iter_mut()
                            .zip(sums)
                            .for_each(|(c, sum)| *c = if accumulate { *c + sum } else { *sum });
                    }
                }
            }
        }
    }
}

/// Copies the first `width` elements of each row of `from` to the rows of `panel`.
///
/// # Safety
/// These elements are in readable memory.
unsafe fn pack<const N: usize>(panel: &mut [[f32; N]], width: usize, from: View) {
    // The longer loop is the inner one.
    for j in 0..width {
        for (i, line) in panel.iter_mut().enumerate() {
            // SAFETY: the caller's.
            line[j] = unsafe { *from.at(i, j).data };
        }
    }
}
