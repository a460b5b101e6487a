//! Matrix multiplication: `C = A B` or `C += A B` in f32, on strided views.
//!
//! AVX-512, AVX2 and [`Isa::PORTABLE`] have kernels in this module; NEON uses the `gemm` crate.
//! With [`Precision::Bf16`], the inputs are rounded to bf16.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(target_arch = "x86_64")]
mod blocked;
mod gemv;
mod portable;

pub use gemv::gemv;

use surprisal_platform::threads::Pool;

use crate::simd::Isa;
#[cfg(target_arch = "x86_64")]
use {avx2::Avx2, avx512::Avx512, blocked::CacheLine};

/// A read-only view of a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major view.
    ///
    /// # Panics
    /// If `data` does not have `rows · columns` elements.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} x {columns} matrix");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Some columns of a wider row-major matrix: row i starts at element `i · row_stride` of
    /// `data`.
    ///
    /// # Panics
    /// If the last row ends past the end of `data`.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        check_strided(data.len(), rows, columns, row_stride);
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed view of the same elements.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn view(self) -> View {
        View { data: self.data.as_ptr(), row_stride: self.row_stride, column_stride: self.column_stride }
    }
}

/// A mutable view of a row-major matrix.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A view of all of `data`.
    ///
    /// # Panics
    /// If `data` does not have `rows · columns` elements.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} x {columns} matrix");
        Self { data, rows, columns, row_stride: columns }
    }

    /// Some columns of a wider matrix, as [`Matrix::strided`].
    ///
    /// # Panics
    /// If the last row ends past the end of `data`.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        check_strided(data.len(), rows, columns, row_stride);
        Self { data, rows, columns, row_stride }
    }
}

/// Checks that the last row of a strided view ends within its slice.
fn check_strided(len: usize, rows: usize, columns: usize, row_stride: usize) {
    let fits = rows == 0
        || (columns <= row_stride.max(columns * usize::from(rows == 1))
            && (rows - 1) * row_stride + columns <= len);
    assert!(fits, "a strided {rows} x {columns} matrix, stride {row_stride}");
}

/// Precision of a matmul's inputs. Sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Rounded to bf16 (relative error at most 2⁻⁹ per element): twice as fast as f32 with
    /// AVX512-BF16, slower without.
    Bf16,
}

impl Precision {
    /// Whether this machine has instructions for this precision.
    pub fn is_fast(self) -> bool {
        match self {
            Self::F32 => true,
            #[cfg(target_arch = "x86_64")]
            Self::Bf16 => bf16::available() && Isa::current().name() == "avx512",
            #[cfg(not(target_arch = "x86_64"))]
            Self::Bf16 => false,
        }
    }
}

/// [`matmul`] with inputs in `precision`.
///
/// # Panics
/// If the shapes do not match.
pub fn matmul_with_precision(
    precision: Precision,
    into: MatrixMut<'_>,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    pool: Option<&Pool>,
) {
    assert!(
        into.rows == a.rows && into.columns == b.columns && a.columns == b.rows,
        "matmul: shapes do not match"
    );
    // Only the portable kernel writes zeros for an inner dimension of 0.
    let isa = if a.columns == 0 { Isa::PORTABLE } else { Isa::current() };
    match (precision, isa.name()) {
        #[cfg(target_arch = "x86_64")]
        (Precision::F32, "avx512") => {
            gemm_parallel(blocked::gemm::<Avx512>, (avx512::MR, avx512::NR), into, accumulate, a, b, pool);
        }
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, "avx512") if precision.is_fast() => {
            gemm_parallel(bf16::gemm, (avx512::MR, avx512::NR), into, accumulate, a, b, pool);
        }
        #[cfg(target_arch = "x86_64")]
        (Precision::F32, "avx2") => {
            gemm_parallel(blocked::gemm::<Avx2>, (avx2::MR, avx2::NR), into, accumulate, a, b, pool);
        }
        #[cfg(not(target_arch = "x86_64"))]
        (Precision::F32, "neon") => gemm_crate(into, accumulate, a, b, pool),
        (Precision::F32, _) => {
            gemm_parallel(portable::gemm, (portable::MR, portable::NR), into, accumulate, a, b, pool);
        }
        (Precision::Bf16, _) => {
            let (a_rounded, b_rounded) = (rounded(a), rounded(b));
            let (a, b) = (Matrix { data: &a_rounded, ..a }, Matrix { data: &b_rounded, ..b });
            matmul(into, accumulate, a, b, pool);
        }
    }
}

/// A copy of the view's elements, rounded to bf16 (to nearest, ties to even).
fn rounded(m: Matrix<'_>) -> Vec<f32> {
    let round = |x: f32| {
        let bits = x.to_bits();
        let up = 0x7fff + ((bits >> 16) & 1);
        if x.is_nan() { x } else { f32::from_bits(bits.wrapping_add(up) & 0xffff_0000) }
    };
    m.data.iter().map(|&x| round(x)).collect()
}

/// `into = a b`, or `into += a b` if `accumulate`.
///
/// A pool divides the rows or columns of the result among its threads. The inner dimension is never
/// divided, so the bits do not depend on the pool.
///
/// # Panics
/// If the shapes do not match.
pub fn matmul(into: MatrixMut<'_>, accumulate: bool, a: Matrix<'_>, b: Matrix<'_>, pool: Option<&Pool>) {
    matmul_with_precision(Precision::F32, into, accumulate, a, b, pool);
}

/// The right-hand matrix of several matmuls, packed once if this machine's kernel packs it.
#[derive(Debug)]
pub struct Packed<'a> {
    matrix: Matrix<'a>,
    /// The panels, and the kernel that reads them; none on other instruction sets.
    #[cfg(target_arch = "x86_64")]
    panels: Vec<CacheLine>,
    #[cfg(target_arch = "x86_64")]
    gemm: Option<blocked::PackedKernel>,
}

#[cfg(target_arch = "x86_64")]
thread_local! {
    /// The memory of the last [`Packed`] that this thread dropped.
    static PANELS: std::cell::RefCell<Vec<CacheLine>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl<'a> Packed<'a> {
    /// Packs `matrix`.
    pub fn new(matrix: Matrix<'a>) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let (pack, gemm): (blocked::Pack, blocked::PackedKernel) = match Isa::current().name() {
                "avx512" => (blocked::pack::<Avx512>, blocked::gemm_packed::<Avx512>),
                "avx2" => (blocked::pack::<Avx2>, blocked::gemm_packed::<Avx2>),
                _ => return Self { matrix, panels: Vec::new(), gemm: None },
            };
            let mut panels = PANELS.take();
            // SAFETY: the machine has the instructions, and the view lies within its slice.
            #[expect(unsafe_code, reason = "the kernel takes pointers and strides")]
            unsafe {
                pack(matrix.view(), (matrix.rows, matrix.columns), &mut panels);
            }
            Self { matrix, panels, gemm: Some(gemm) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self { matrix }
    }

    /// `into = a b`, or `into += a b` when `accumulate`, in f32 and on this thread, to the bits of
    /// [`matmul`].
    ///
    /// # Panics
    /// If the shapes do not match.
    pub fn matmul(&self, into: MatrixMut<'_>, accumulate: bool, a: Matrix<'_>) {
        let Matrix { rows, columns, .. } = self.matrix;
        assert!(into.rows == a.rows && into.columns == columns && a.columns == rows, "shapes of a product");
        #[cfg(target_arch = "x86_64")]
        if let Some(gemm) = self.gemm.filter(|_| !self.panels.is_empty()) {
            let c = into.data.as_mut_ptr();
            let shape = (a.rows, columns, rows);
            // SAFETY: only a machine with the instructions packs; the constructors checked that the
            // views lie within their slices.
            #[expect(unsafe_code, reason = "the kernel takes pointers and strides")]
            unsafe {
                gemm(shape, a.view(), &self.panels, c, into.row_stride, accumulate);
            }
            return;
        }
        matmul(into, accumulate, a, self.matrix, None);
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for Packed<'_> {
    fn drop(&mut self) {
        // While the thread ends, its thread-local may be gone: then the memory is freed.
        let _ = PANELS.try_with(|spare| spare.replace(std::mem::take(&mut self.panels)));
    }
}

/// A pointer to a matrix of which each thread writes different elements.
#[derive(Clone, Copy)]
struct SendPtr(*mut f32);

#[expect(unsafe_code, reason = "parts of one matrix for several threads")]
// SAFETY: `gemm_parallel` gives each thread different rows or columns.
unsafe impl Send for SendPtr {}
#[expect(unsafe_code, reason = "parts of one matrix for several threads")]
// SAFETY: as above.
unsafe impl Sync for SendPtr {}

/// A strided matrix without a length, for the kernels of this module. One of the strides is 1.
#[derive(Clone, Copy)]
struct View {
    data: *const f32,
    row_stride: usize,
    column_stride: usize,
}

impl View {
    /// The submatrix that starts at (row, column).
    fn at(self, row: usize, column: usize) -> Self {
        Self { data: self.data.wrapping_add(row * self.row_stride + column * self.column_stride), ..self }
    }

    fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// A kernel for `C = A B` or `C += A B`, with A (m, k), B (k, n) and C (m, n). Arguments: (m, n,
/// k), A, B, C, the row stride of C, and whether to accumulate.
///
/// # Safety
/// The machine has the kernel's instructions. All elements of the three matrices are in readable
/// memory, those of C in writable memory that no other code uses during the call.
type Kernel = unsafe fn((usize, usize, usize), View, View, *mut f32, usize, bool);

/// Runs `kernel`, whose instructions the machine must have, on the threads of the pool. Each gets
/// whole tiles of C, which have the size `tile`, unless there are no more.
#[expect(unsafe_code, reason = "the kernel takes pointers and strides")]
fn gemm_parallel(
    kernel: Kernel,
    tile: (usize, usize),
    into: MatrixMut<'_>,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    pool: Option<&Pool>,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m == 0 || n == 0 {
        return;
    }
    let c = SendPtr(into.data.as_mut_ptr());
    let stride = into.row_stride;
    let block = move |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        let c = c;
        let (a, b) = (a.view().at(rows.start, 0), b.view().at(0, columns.start));
        let shape = (rows.len(), columns.len(), k);
        // SAFETY: the constructors checked that each view is within its slice, a transposed one
        // only swaps strides, and these are ranges of C's rows and columns; the machine has the
        // instructions. `into` is borrowed mutably and no two calls write the same element of it.
        unsafe {
            kernel(shape, a, b, c.0.wrapping_add(rows.start * stride + columns.start), stride, accumulate);
        }
    };
    let threads = pool.map_or(1, Pool::threads);
    let by_rows = m > n;
    let (len, unit) = if by_rows { (m, tile.0) } else { (n, tile.1) };
    let step = len.div_ceil(threads).next_multiple_of(unit);
    let tasks = len.div_ceil(step);
    let range = |i: usize| i * step..len.min((i + 1) * step);
    match pool {
        Some(pool) if tasks > 1 => {
            pool.map(tasks, |i| if by_rows { block(range(i), 0..n) } else { block(0..m, range(i)) });
        }
        _ => block(0..m, 0..n),
    }
}

/// Calls the `gemm` crate, which uses the machine's best instructions and ignores [`Isa::current`].
#[cfg(not(target_arch = "x86_64"))]
#[expect(unsafe_code, reason = "gemm takes pointers and strides")]
fn gemm_crate(into: MatrixMut<'_>, accumulate: bool, a: Matrix<'_>, b: Matrix<'_>, pool: Option<&Pool>) {
    let MatrixMut { data, rows, columns, row_stride } = into;
    let mut call = |parallelism| {
        // SAFETY: the constructors checked that the last row ends within the slice, and transposing
        // only swaps strides, so every index is in bounds; `data` is borrowed mutably.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                a.columns,
                data.as_mut_ptr(),
                1,
                row_stride as isize,
                accumulate,
                a.data.as_ptr(),
                a.column_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.column_stride as isize,
                b.row_stride as isize,
                1.0_f32,
                1.0_f32,
                false,
                false,
                false,
                parallelism,
            );
        }
    };
    match pool {
        Some(pool) => pool.install(|| call(gemm::Parallelism::Rayon(pool.threads()))),
        None => call(gemm::Parallelism::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn matmul_of_strided_and_transposed_views() {
        // A is columns 1..3 of a 2 x 4 matrix.
        let wide = [0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0];
        let a = Matrix::strided(&wide[1..], 2, 2, 4);
        let b = [1.0, 0.0, 2.0, 1.0];
        let mut c = [10.0; 4];
        matmul(MatrixMut::new(&mut c, 2, 2), false, a, Matrix::new(&b, 2, 2), None);
        assert_eq!(c, [5.0, 2.0, 11.0, 4.0]);
        matmul(MatrixMut::new(&mut c, 2, 2), true, a.transposed(), Matrix::new(&b, 2, 2), None);
        assert_eq!(c, [5.0 + 7.0, 2.0 + 3.0, 11.0 + 10.0, 4.0 + 4.0]);
        let mut wide = [7.0; 6];
        matmul(MatrixMut::strided(&mut wide, 2, 2, 4), false, a, Matrix::new(&b, 2, 2), None);
        assert_eq!(wide, [5.0, 2.0, 7.0, 7.0, 11.0, 4.0]);
    }

    #[test]
    fn every_shape_and_layout_agrees_with_f64_on_every_instruction_set() {
        let pool = Pool::new(2).unwrap();
        let sizes = [1, 2, 5, 6, 7, 11, 12, 13, 15, 16, 17, 24, 31, 32, 33, 47, 65, 100];
        let mut shapes: Vec<(usize, usize, usize)> = Vec::new();
        for (i, &m) in sizes.iter().enumerate() {
            for (j, &n) in sizes.iter().enumerate() {
                shapes.push((m, n, sizes[(3 * i + 5 * j) % sizes.len()]));
            }
        }
        shapes.extend([
            (3, 500, 2),
            (13, 401, 3),
            (5, 7, 900),
            (30, 385, 390),
            (0, 3, 2),
            (3, 0, 2),
            (3, 2, 0),
        ]);
        // The kernel copies or packs A for strides of 2 KiB, or over a page.
        shapes.extend([(14, 161, 512), (1030, 40, 20)]);
        for (m, n, k) in shapes {
            let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let (mut at, mut bt) = (vec![0.0; m * k], vec![0.0; k * n]);
            for i in 0..m {
                for l in 0..k {
                    at[l * m + i] = a[i * k + l];
                }
            }
            for l in 0..k {
                for j in 0..n {
                    bt[j * k + l] = b[l * n + j];
                }
            }
            let product = |a: &[f32], b: &[f32]| -> Vec<f64> {
                let term = |e: usize, l: usize| f64::from(a[e / n * k + l]) * f64::from(b[l * n + e % n]);
                (0..m * n).map(|e| (0..k).map(|l| term(e, l)).sum()).collect()
            };
            let expected = product(&a, &b);
            let half = |values: &[f32]| -> Vec<f32> {
                values.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect()
            };
            let rounded_product = product(&half(&a), &half(&b));
            let lefts = [Matrix::new(&a, m, k), Matrix::new(&at, k, m).transposed()];
            let rights = [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).transposed()];
            for isa in Isa::available() {
                crate::simd::with_isa(isa, || {
                    for (left, right) in lefts.iter().flat_map(|l| rights.iter().map(move |r| (*l, *r))) {
                        for accumulate in [false, true] {
                            let mut c = start.clone();
                            matmul(MatrixMut::new(&mut c, m, n), accumulate, left, right, None);
                            for ((c, e), s) in c.iter().zip(&expected).zip(&start) {
                                let e = e + if accumulate { f64::from(*s) } else { 0.0 };
                                let close = (f64::from(*c) - e).abs() < 1e-6 * (k as f64 + 4.0);
                                assert!(close, "{m} x {n} x {k} {}: {c} and {e}", isa.name());
                            }
                            let mut shared = start.clone();
                            matmul(MatrixMut::new(&mut shared, m, n), accumulate, left, right, Some(&pool));
                            assert!(
                                shared == c,
                                "{m} x {n} x {k} {}: other bits with two threads",
                                isa.name()
                            );
                            let mut by_panels = start.clone();
                            let into = MatrixMut::new(&mut by_panels, m, n);
                            Packed::new(right).matmul(into, accumulate, left);
                            assert!(by_panels == c, "{m} x {n} x {k} {}: other bits if packed", isa.name());
                            let mut c = start.clone();
                            let into = MatrixMut::new(&mut c, m, n);
                            matmul_with_precision(Precision::Bf16, into, accumulate, left, right, None);
                            for ((c, e), s) in c.iter().zip(&rounded_product).zip(&start) {
                                let e = e + if accumulate { f64::from(*s) } else { 0.0 };
                                let close = (f64::from(*c) - e).abs() < 1e-6 * (k as f64 + 4.0);
                                assert!(close, "bf16 {m} x {n} x {k} {}: {c} and {e}", isa.name());
                            }
                        }
                    }
                });
            }
        }
    }

    #[test]
    #[should_panic(expected = "strided")]
    fn a_strided_view_past_the_end_is_refused() {
        let _ = Matrix::strided(&[0.0; 5], 2, 2, 4);
    }
}
