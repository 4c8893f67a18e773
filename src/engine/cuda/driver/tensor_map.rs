//! Tensor maps for Hopper's tensor memory accelerator, TMA (`kernels/hopper.cuh`).

use std::ffi::c_void;

use cudarc::driver::sys;

use super::errors::check;
use crate::engine::error::ModelError;

/// Columns of a tile: 128 bytes of bf16, the span of one swizzle pattern.
const TILE_COLUMNS: u32 = 64;

/// Describes a bf16 matrix in device memory to the TMA, in tiles of 64 columns.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct TensorMap(sys::CUtensorMap);

impl TensorMap {
    /// A row-major matrix of `rows` x `columns` at `pointer`, without padding between rows, in tiles of `tile_rows`
    /// rows. Elements of a tile outside the matrix are filled with zeros.
    pub fn new(pointer: u64, rows: usize, columns: usize, tile_rows: u32) -> Result<Self, ModelError> {
        // SAFETY: all zeros is a valid value of this plain C structure.
        let mut map: sys::CUtensorMap = unsafe { std::mem::zeroed() };
        let (sizes, stride) = ([columns as u64, rows as u64], [columns as u64 * 2]);
        let (tile, steps) = ([TILE_COLUMNS, tile_rows], [1, 1]);
        // SAFETY: every array has the rank 2 that is passed (the strides one fewer); the driver fills `map` and does
        // not access the memory behind `pointer`.
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
        check(result, "encoding a tensor map").map(|()| Self(map))
    }
}
