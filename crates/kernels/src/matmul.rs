//! The one door to matrix products: `C = A B` or `C += A B` in f32, on strided views.
//!
//! Behind it stands the `gemm` crate with its AVX-512, AVX2, NEON and portable kernels, chosen at run time. A kernel of our
//! own, or one in bf16, would come in here.

use gemm::Parallelism;

use crate::threads::Pool;

/// A matrix that is read.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major view. `data` holds exactly `rows · columns` elements.
    ///
    /// # Panics
    /// If it does not.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} x {columns} matrix");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// `columns` of every row of a wider row-major matrix: row i starts at element `i · row_stride` of `data`.
    ///
    /// # Panics
    /// If the last row would end past the end of `data`.
    pub fn part(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            fits(data.len(), rows, columns, row_stride),
            "a {rows} x {columns} part, stride {row_stride}"
        );
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The same elements with rows and columns swapped; nothing moves.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A row-major matrix that is written.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `data` holds exactly `rows · columns` elements.
    ///
    /// # Panics
    /// If it does not.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} x {columns} matrix");
        Self { data, rows, columns, row_stride: columns }
    }

    /// As [`Matrix::part`].
    ///
    /// # Panics
    /// If the last row would end past the end of `data`.
    pub fn part(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            fits(data.len(), rows, columns, row_stride),
            "a {rows} x {columns} part, stride {row_stride}"
        );
        Self { data, rows, columns, row_stride }
    }
}

/// Whether the last row of a strided view ends within its slice.
fn fits(len: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    rows == 0
        || (columns <= row_stride.max(columns * usize::from(rows == 1))
            && (rows - 1) * row_stride + columns <= len)
}

/// `into = a b`, or `into += a b` when `add`. The product's inner dimension is never split, so the bits do not depend
/// on the pool.
///
/// # Panics
/// If the shapes do not make a product.
#[expect(unsafe_code, reason = "gemm takes pointers and strides")]
pub fn multiply(into: MatrixMut<'_>, add: bool, a: Matrix<'_>, b: Matrix<'_>, pool: Option<&Pool>) {
    assert!(into.rows == a.rows && into.columns == b.columns && a.columns == b.rows, "shapes of a product");
    let MatrixMut { data, rows, columns, row_stride } = into;
    let mut call = |parallelism| {
        // SAFETY: the constructors checked that each slice reaches to the end of its last row, and a transposed view's
        // strides only swap, so every index within the shape is within its slice; `data` is borrowed mutably, so nothing overlaps.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                a.columns,
                data.as_mut_ptr(),
                1,
                row_stride as isize,
                add,
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
        Some(pool) => pool.install(|| call(Parallelism::Rayon(pool.threads()))),
        None => call(Parallelism::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_parts_and_transposes() {
        // A is columns 1..3 of a 2 x 4 matrix.
        let wide = [0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0];
        let a = Matrix::part(&wide[1..], 2, 2, 4);
        let b = [1.0, 0.0, 2.0, 1.0];
        let mut c = [10.0; 4];
        multiply(MatrixMut::new(&mut c, 2, 2), false, a, Matrix::new(&b, 2, 2), None);
        assert_eq!(c, [5.0, 2.0, 11.0, 4.0]);
        multiply(MatrixMut::new(&mut c, 2, 2), true, a.transposed(), Matrix::new(&b, 2, 2), None);
        assert_eq!(c, [5.0 + 7.0, 2.0 + 3.0, 11.0 + 10.0, 4.0 + 4.0]);
        let mut wide = [7.0; 6];
        multiply(MatrixMut::part(&mut wide, 2, 2, 4), false, a, Matrix::new(&b, 2, 2), None);
        assert_eq!(wide, [5.0, 2.0, 7.0, 7.0, 11.0, 4.0]);
    }

    #[test]
    #[should_panic(expected = "part")]
    fn a_part_past_the_end_is_refused() {
        let _ = Matrix::part(&[0.0; 5], 2, 2, 4);
    }
}
