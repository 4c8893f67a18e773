//! One representation for all quantised formats: every block unpacks to unsigned bytes, and a scale and a minimum for
//! each group of 16 or 32 elements, so that `weight = scale * byte + minimum`. The products are exact in f32 (at most
//! 24 bits), so the results are bit-identical to ggml's.
//!
//! Source of the layouts: `ggml-common.h` and `dequantize_row_*` in `ggml-quants.c` of the ggml project.

use super::GgmlType;
use super::half::{bf16_to_f32, f16_at, f16_to_f32};

/// A quantised format.
pub(super) trait Quant {
    const KIND: GgmlType;
    /// Elements per block.
    const N: usize = Self::KIND.block_size();
    /// Bytes per block.
    const BYTES: usize = Self::KIND.block_bytes();
    /// Elements that share a scale and a minimum.
    const GROUP: usize = 32;
    /// Whether bytes exceed 127; the minimum is then -128 times the scale.
    const WIDE: bool = false;
    /// Writes `N / GROUP` scales and minima.
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]);
    /// Writes `N` bytes.
    fn bytes(block: &[u8], q: &mut [u8]);
    /// `groups` and `bytes` together.
    #[inline(always)]
    fn unpack(block: &[u8], q: &mut [u8], scale: &mut [f32], min: &mut [f32]) {
        Self::groups(block, scale, min);
        Self::bytes(block, q);
    }
}

/// Upper bounds over all formats: elements per block, and groups per block.
pub(super) const MAX_N: usize = 256;
pub(super) const MAX_GROUPS: usize = 16;

/// Runs `$body` with `$q` as a type alias for the format of `$kind`; `$otherwise` for the float types.
macro_rules! with_quant {
    (among $($format:ident)*: $kind:expr, $q:ident => $body:expr, else $otherwise:expr) => {
        match $kind {
            $($crate::engine::cpu::GgmlType::$format => {
                type $q = $crate::engine::cpu::dequantize::$format;
                $body
            })*
            _ => $otherwise,
        }
    };
    ($kind:expr, $q:ident => $body:expr, else $otherwise:expr) => {
        $crate::engine::cpu::dequantize::with_quant!(
            among Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K: $kind, $q => $body, else $otherwise
        )
    };
}
pub(super) use with_quant;

macro_rules! formats {
    ($($name:ident)*) => {$(pub(super) struct $name;)*};
}

formats!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K);

/// Unpacks low nibbles to the first half of `q`, high nibbles to the second.
#[inline(always)]
fn nibbles(packed: &[u8], q: &mut [u8]) {
    let half = packed.len();
    for j in 0..half {
        q[j] = packed[j] & 15;
        q[half + j] = packed[j] >> 4;
    }
}

/// ORs in the fifth bits of a block of 32.
#[inline(always)]
fn fifth_bits(high: &[u8], q: &mut [u8]) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    for (j, q) in q.iter_mut().enumerate().take(32) {
        *q |= (((high >> j) & 1) << 4) as u8;
    }
}

impl Quant for Q4_0 {
    const KIND: GgmlType = GgmlType::Q4_0;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = f16_at(block, 0);
        min[0] = -8.0 * scale[0];
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        nibbles(&block[2..18], q);
    }
}

impl Quant for Q4_1 {
    const KIND: GgmlType = GgmlType::Q4_1;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = f16_at(block, 0);
        min[0] = f16_at(block, 2);
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        nibbles(&block[4..20], q);
    }
}

impl Quant for Q5_0 {
    const KIND: GgmlType = GgmlType::Q5_0;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = f16_at(block, 0);
        min[0] = -16.0 * scale[0];
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        nibbles(&block[6..22], q);
        fifth_bits(&block[2..6], q);
    }
}

impl Quant for Q5_1 {
    const KIND: GgmlType = GgmlType::Q5_1;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = f16_at(block, 0);
        min[0] = f16_at(block, 2);
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        nibbles(&block[8..24], q);
        fifth_bits(&block[4..8], q);
    }
}

impl Quant for Q8_0 {
    const KIND: GgmlType = GgmlType::Q8_0;
    const WIDE: bool = true;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = f16_at(block, 0);
        min[0] = -128.0 * scale[0];
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        for j in 0..32 {
            q[j] = block[2 + j] ^ 0x80;
        }
    }
}

impl Quant for Q2K {
    const KIND: GgmlType = GgmlType::Q2K;
    const GROUP: usize = 16;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
        for g in 0..16 {
            scale[g] = d * f32::from(block[g] & 15);
            min[g] = -dmin * f32::from(block[g] >> 4);
        }
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        for half in 0..2 {
            let packed = &block[16 + 32 * half..48 + 32 * half];
            for pair in 0..4 {
                for l in 0..32 {
                    q[128 * half + 32 * pair + l] = (packed[l] >> (2 * pair)) & 3;
                }
            }
        }
    }
}

/// The sixteen 6-bit scales of Q3_K, minus 32.
#[inline(always)]
pub(super) fn q3k_scales(packed: &[u8]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (g, scale) in scales.iter_mut().enumerate() {
        let low = if g < 8 { packed[g] & 15 } else { packed[g - 8] >> 4 };
        let high = (packed[8 + g % 4] >> (2 * (g / 4))) & 3;
        *scale = (low | (high << 4)) as i8 - 32;
    }
    scales
}

impl Quant for Q3K {
    const KIND: GgmlType = GgmlType::Q3K;
    const GROUP: usize = 16;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        let d = f16_at(block, 108);
        for (g, s) in q3k_scales(&block[96..108]).into_iter().enumerate() {
            scale[g] = d * f32::from(s);
            min[g] = -4.0 * scale[g];
        }
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        let high = &block[0..32];
        for half in 0..2 {
            let packed = &block[32 + 32 * half..64 + 32 * half];
            for pair in 0..4 {
                for l in 0..32 {
                    let third = (high[l] >> (4 * half + pair)) & 1;
                    q[128 * half + 32 * pair + l] = ((packed[l] >> (2 * pair)) & 3) | (third << 2);
                }
            }
        }
    }
}

/// The eight 6-bit scales and minima of Q4_K and Q5_K.
#[inline(always)]
pub(super) fn k4_scales(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | ((packed[j] >> 6) << 4);
        mins[j + 4] = (packed[j + 8] >> 4) | ((packed[j + 4] >> 6) << 4);
    }
    (scales, mins)
}

/// Scales and minima of a Q4_K or Q5_K block.
#[inline(always)]
fn k4_groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, mins) = k4_scales(&block[4..16]);
    for g in 0..8 {
        scale[g] = d * f32::from(scales[g]);
        min[g] = -dmin * f32::from(mins[g]);
    }
}

impl Quant for Q4K {
    const KIND: GgmlType = GgmlType::Q4K;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        k4_groups(block, scale, min);
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        for j in 0..4 {
            nibbles(&block[16 + 32 * j..48 + 32 * j], &mut q[64 * j..64 * j + 64]);
        }
    }
}

impl Quant for Q5K {
    const KIND: GgmlType = GgmlType::Q5K;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        k4_groups(block, scale, min);
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        let high = &block[16..48];
        for j in 0..4 {
            let q = &mut q[64 * j..64 * j + 64];
            nibbles(&block[48 + 32 * j..80 + 32 * j], q);
            for l in 0..32 {
                q[l] |= ((high[l] >> (2 * j)) & 1) << 4;
                q[32 + l] |= ((high[l] >> (2 * j + 1)) & 1) << 4;
            }
        }
    }
}

impl Quant for Q6K {
    const KIND: GgmlType = GgmlType::Q6K;
    const GROUP: usize = 16;
    #[inline(always)]
    fn groups(block: &[u8], scale: &mut [f32], min: &mut [f32]) {
        let d = f16_at(block, 208);
        for g in 0..16 {
            scale[g] = d * f32::from(block[192 + g] as i8);
            min[g] = -32.0 * scale[g];
        }
    }
    #[inline(always)]
    fn bytes(block: &[u8], q: &mut [u8]) {
        for half in 0..2 {
            let (low, high) = (&block[64 * half..64 * half + 64], &block[128 + 32 * half..160 + 32 * half]);
            let q = &mut q[128 * half..128 * half + 128];
            for l in 0..32 {
                q[l] = (low[l] & 15) | ((high[l] & 3) << 4);
                q[32 + l] = (low[32 + l] & 15) | (((high[l] >> 2) & 3) << 4);
                q[64 + l] = (low[l] >> 4) | (((high[l] >> 4) & 3) << 4);
                q[96 + l] = (low[32 + l] >> 4) | ((high[l] >> 6) << 4);
            }
        }
    }
}

#[inline(always)]
fn dequantize_quant<Q: Quant>(row: &[u8], out: &mut [f32]) {
    let (mut q, mut scale, mut min) = ([0u8; MAX_N], [0f32; MAX_GROUPS], [0f32; MAX_GROUPS]);
    for (block, out) in row.chunks_exact(Q::BYTES).zip(out.chunks_exact_mut(Q::N)) {
        Q::unpack(block, &mut q, &mut scale, &mut min);
        for (i, out) in out.iter_mut().enumerate() {
            *out = scale[i / Q::GROUP] * f32::from(q[i]) + min[i / Q::GROUP];
        }
    }
}

/// Dequantises a row of whole blocks to f32. `row` and `out` must have matching lengths for `kind`; the excess of
/// the longer one is ignored.
pub(super) fn dequantize(kind: GgmlType, row: &[u8], out: &mut [f32]) {
    with_quant!(kind, Q => dequantize_quant::<Q>(row, out), else match kind {
        GgmlType::F32 => {
            for (b, out) in row.chunks_exact(4).zip(out) {
                *out = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        GgmlType::BF16 => {
            for (b, out) in row.chunks_exact(2).zip(out) {
                *out = bf16_to_f32(u16::from_le_bytes([b[0], b[1]]));
            }
        }
        _ => {
            for (b, out) in row.chunks_exact(2).zip(out) {
                *out = f16_to_f32(u16::from_le_bytes([b[0], b[1]]));
            }
        }
    });
}
