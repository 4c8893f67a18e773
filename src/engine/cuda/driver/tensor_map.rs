//! How Hopper's copy engine finds tiles of a matrix (`kernels/hopper.cuh`).

use std::ffi::c_void;

use cudarc::driver::sys;

use super::errors::check;
use crate::engine::error::ModelError;

/// Columns of a tile: 128 bytes of bf16, the width that is swizzled in one go.
const TILE_COLUMNS: u32 = 64;

/// A bf16 matrix on the card, cut into tiles of 64 columns.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct TensorMap(sys::CUtensorMap);

impl TensorMap {
    /// Of `rows` rows of `columns` numbers one behind the other from `pointer` on, in tiles of `tile_rows` rows. What a tile
    /// has beyond the matrix arrives as zeros.
    pub fn new(pointer: u64, rows: usize, columns: usize, tile_rows: u32) -> Result<Self, ModelError> {
        // SAFETY: all zeros is a valid value of this plain C structure.
        let mut map: sys::CUtensorMap = unsafe { std::mem::zeroed() };
        let (sizes, stride) = ([columns as u64, rows as u64], [columns as u64 * 2]);
        let (tile, steps) = ([TILE_COLUMNS, tile_rows], [1, 1]);
        // SAFETY: every array has the two dimensions that are announced (the strides one fewer); the driver fills `map`
        // and does not touch the memory behind `pointer`.
        let result = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                pointer as *mut c_void,
                sizes.as_ptr(),
                stride.as_ptr(),
                tile.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        check(result, "describing a matrix to the card").map(|()| Self(map))
    }
}
