//! `C = A B` or `C += A B` on strided views.

use gemm::Parallelism;

use crate::threads::Pool;

/// A matrix that is read.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major view. `data` holds exactly `rows · columns` elements.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} x {columns} matrix");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub(super) fn transposed(self) -> Self {
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
pub(super) struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
}

impl<'a> MatrixMut<'a> {
    /// `data` holds exactly `rows · columns` elements.
    pub(super) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} x {columns} matrix");
        Self { data, rows, columns }
    }
}

/// `into = a b`, or `into += a b` when `add`. The product's inner dimension is never split, so the bits do not depend
/// on the pool.
#[expect(unsafe_code, reason = "gemm takes pointers and strides")]
pub(super) fn multiply(into: MatrixMut<'_>, add: bool, a: Matrix<'_>, b: Matrix<'_>, pool: Option<&Pool>) {
    assert!(into.rows == a.rows && into.columns == b.columns && a.columns == b.rows, "shapes of a product");
    let MatrixMut { data, rows, columns } = into;
    let mut call = |parallelism| {
        // SAFETY: the constructors checked that each slice holds rows · columns elements, and a view's strides only
        // swap, so every index within the shape is within its slice; `data` is borrowed mutably, so nothing overlaps.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                a.columns,
                data.as_mut_ptr(),
                1,
                columns as isize,
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
