//! A weight matrix in the storage format of its file.

use super::{AlignedBytes, GgmlType, dequantize};
use crate::engine::error::ModelError;

/// Weights of `rows` × `cols`, row-major, each row a whole number of blocks.
#[derive(Debug)]
pub struct Matrix {
    kind: GgmlType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: AlignedBytes,
}

impl Matrix {
    /// A matrix over `data`; `Invalid` if its length does not match `rows` × `cols` elements of `kind`.
    pub fn new(kind: GgmlType, rows: usize, cols: usize, data: AlignedBytes) -> Result<Self, ModelError> {
        let row_bytes = kind.row_bytes(cols).filter(|&bytes| bytes > 0).ok_or_else(|| {
            ModelError::Invalid(format!("rows of {cols} numbers are not a whole number of {} blocks", kind.name()))
        })?;
        if row_bytes.checked_mul(rows) != Some(data.len()) {
            return Err(ModelError::Invalid(format!(
                "a {rows}x{cols} {} matrix needs {row_bytes} bytes a row, {} bytes are there",
                kind.name(),
                data.len()
            )));
        }
        Ok(Self { kind, rows, cols, row_bytes, data })
    }

    /// Storage format of its elements.
    pub fn kind(&self) -> GgmlType {
        self.kind
    }

    /// Rows: output features of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: input features of a product.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Dequantises row `row` (an embedding) into `out`, which has `cols()` elements.
    ///
    /// # Panics
    /// If `row` is out of range or `out` has another length.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols, "a row has as many numbers as the matrix has columns");
        dequantize::dequantize(self.kind, self.row(row), out);
    }

    /// The bytes of one row.
    #[inline]
    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.data[row * self.row_bytes..(row + 1) * self.row_bytes]
    }

    /// The bytes of rows `start..end`.
    #[inline]
    pub(super) fn row_range(&self, start: usize, end: usize) -> &[u8] {
        &self.data[start * self.row_bytes..end * self.row_bytes]
    }
}
