//! Unpacking of the quantised formats in AVX2 registers, shared by the AVX2 and AVX-512 kernels.

use std::arch::x86_64::*;

use super::GgmlType;
use super::dequantize::*;
use super::half::f16_at;

/// Elements of a row per iteration of a kernel: bounds the scales on the stack.
pub(super) const CHUNK: usize = 2048;

/// Scales and minima of a chunk's groups.
pub(super) struct Groups {
    pub scale: [f32; CHUNK / 16],
    pub min: [f32; CHUNK / 16],
}

impl Groups {
    pub(super) const fn new() -> Self {
        Self { scale: [0.0; CHUNK / 16], min: [0.0; CHUNK / 16] }
    }
}

/// A format whose parts of 32 elements unpack into one register.
pub(super) trait X86: Quant {
    /// For formats with a scale and no stored minimum: the minimum as a multiple of the scale.
    const OFFSET: Option<f32> = None;
    /// Whether a block is a scale, an optional minimum, and 32 elements.
    const SIMPLE: bool = false;
    /// How many pair sums (two products with bytes of -127..=127 each) fit in 16 bits.
    const CHAIN: usize = (i16::MAX / (2 * 127 * Self::TOP)) as usize;
    /// The largest unpacked byte; for wide formats the largest magnitude after subtracting 128.
    const TOP: i16;

    /// The bytes of elements `32 * part..32 * part + 32` of a block, in order.
    ///
    /// # Safety
    /// Needs AVX2; `block` must point to a whole block and `part < N / 32`.
    unsafe fn part(block: *const u8, part: usize) -> __m256i;

    /// Scales and minima of the groups of the whole blocks in `bytes`.
    ///
    /// # Safety
    /// Needs AVX2 and F16C; `bytes` must hold at most `CHUNK` elements.
    unsafe fn row_groups(bytes: &[u8], groups: &mut Groups);
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(at: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller (32 readable bytes); the load needs no alignment.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// Unpacks 16 bytes to 32 nibbles, low nibbles first.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(at: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller (16 readable bytes).
    let packed = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(at.cast()) });
    let shifted = _mm256_srlv_epi64(packed, _mm256_setr_epi64x(0, 0, 4, 4));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

/// Expands 32 bits to 32 bytes of 16 or 0.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn fifth_bits(at: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller (4 readable bytes).
    let bits = _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() });
    let spread = _mm256_shuffle_epi8(
        bits,
        _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303),
    );
    let one = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, one), one);
    _mm256_and_si256(set, _mm256_set1_epi8(16))
}

/// Shifts each byte right by `count` and masks it with `mask`.
#[inline]
#[target_feature(enable = "avx2")]
fn shift(bytes: __m256i, count: usize, mask: i8) -> __m256i {
    let shifted = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(count as i32));
    _mm256_and_si256(shifted, _mm256_set1_epi8(mask))
}

/// Like `shift`, with the result shifted left by `up` bits within each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn shift_up(bytes: __m256i, count: usize, mask: i8, up: usize) -> __m256i {
    _mm256_sll_epi16(shift(bytes, count, mask), _mm_cvtsi32_si128(up as i32))
}

/// Loads eight elements of a float type, as f32 bit patterns.
///
/// # Safety
/// Needs AVX2 and F16C; eight elements must be readable at `at`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn eight(kind: GgmlType, at: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match kind {
            GgmlType::F32 => _mm256_loadu_si256(at.cast()),
            GgmlType::F16 => _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(at.cast()))),
            _ => _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()))),
        }
    }
}

/// Loads two half-precision values: scale and minimum of a block that has both.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn two_halves(at: *const u8) -> __m128 {
    // SAFETY: guaranteed by the caller (4 readable bytes).
    _mm_cvtph_ps(_mm_cvtsi32_si128(unsafe { at.cast::<i32>().read_unaligned() }))
}

/// `row_groups` of the simple formats: a scale, and a minimum that follows it or is `offset` times the scale.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn simple_groups<Q: Quant>(bytes: &[u8], groups: &mut Groups, offset: Option<f32>) {
    let pairs = groups.scale.iter_mut().zip(&mut groups.min);
    for (block, (scale, min)) in bytes.chunks_exact(Q::BYTES).zip(pairs) {
        // SAFETY: a block has more than four bytes.
        let both = unsafe { two_halves(block.as_ptr()) };
        *scale = _mm_cvtss_f32(both);
        *min = offset.map_or(_mm_cvtss_f32(_mm_movehdup_ps(both)), |offset| *scale * offset);
    }
}

macro_rules! simple {
    ($name:ident, $top:literal, $offset:expr, |$block:ident| $part:expr) => {
        impl X86 for $name {
            const TOP: i16 = $top;
            const OFFSET: Option<f32> = $offset;
            const SIMPLE: bool = true;

            #[inline]
            #[target_feature(enable = "avx2")]
            unsafe fn part($block: *const u8, _: usize) -> __m256i {
                // SAFETY: guaranteed by the caller.
                unsafe { $part }
            }

            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn row_groups(bytes: &[u8], groups: &mut Groups) {
                // SAFETY: guaranteed by the caller.
                unsafe { simple_groups::<Self>(bytes, groups, $offset) }
            }
        }
    };
}

simple!(Q4_0, 15, Some(-8.0), |block| nibbles(block.add(2)));
simple!(Q4_1, 15, None, |block| nibbles(block.add(4)));
simple!(Q5_0, 31, Some(-16.0), |block| _mm256_or_si256(nibbles(block.add(6)), fifth_bits(block.add(2))));
simple!(Q5_1, 31, None, |block| _mm256_or_si256(nibbles(block.add(8)), fifth_bits(block.add(4))));
simple!(Q8_0, 128, Some(-128.0), |block| _mm256_xor_si256(load(block.add(2)), _mm256_set1_epi8(i8::MIN)));

/// Converts sixteen signed bytes to f32 and multiplies them by `d`.
#[inline]
#[target_feature(enable = "avx2")]
fn times_bytes(bytes: __m128i, d: __m256) -> [__m256; 2] {
    let eight = |bytes| _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), d);
    [eight(bytes), eight(_mm_unpackhi_epi64(bytes, bytes))]
}

/// Stores the sixteen values of block `b`.
#[inline]
#[target_feature(enable = "avx2")]
fn store_groups(to: &mut [f32], b: usize, groups: [__m256; 2]) {
    let to = &mut to[16 * b..16 * b + 16];
    // SAFETY: `to` has sixteen elements.
    unsafe {
        _mm256_storeu_ps(to.as_mut_ptr(), groups[0]);
        _mm256_storeu_ps(to.as_mut_ptr().add(8), groups[1]);
    }
}

/// `row_groups` of Q2_K: a byte per group, scale in the low nibble, minimum in the high one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q2k_groups<Q: Quant>(bytes: &[u8], groups: &mut Groups) {
    for (b, block) in bytes.chunks_exact(Q::BYTES).enumerate() {
        // SAFETY: a block begins with its 16 bytes of scales and ends with two half-precision values.
        let (packed, both) = unsafe { (_mm_loadu_si128(block.as_ptr().cast()), two_halves(block.as_ptr().add(80))) };
        let nibble = _mm_set1_epi8(15);
        let scales = _mm_and_si128(packed, nibble);
        let mins = _mm_and_si128(_mm_srli_epi16::<4>(packed), nibble);
        let dmin = _mm_sub_ps(_mm_setzero_ps(), _mm_movehdup_ps(both));
        store_groups(&mut groups.scale, b, times_bytes(scales, _mm256_broadcastss_ps(both)));
        store_groups(&mut groups.min, b, times_bytes(mins, _mm256_broadcastss_ps(dmin)));
    }
}

/// `row_groups` of Q3_K: 8 bytes with the low 4 bits of the sixteen scales, then 4 bytes with the high 2 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q3k_groups<Q: Quant>(bytes: &[u8], groups: &mut Groups) {
    for (b, block) in bytes.chunks_exact(Q::BYTES).enumerate() {
        // SAFETY: a block's scales are bytes 96 to 107; a half-precision value ends it.
        let (low, high) = unsafe {
            let scales = block.as_ptr().add(96);
            (_mm_loadl_epi64(scales.cast()), _mm_set1_epi32(scales.add(8).cast::<i32>().read_unaligned()))
        };
        let low = _mm_and_si128(_mm_unpacklo_epi64(low, _mm_srli_epi16::<4>(low)), _mm_set1_epi8(15));
        let high = _mm_and_si128(_mm_srlv_epi32(high, _mm_setr_epi32(0, 2, 4, 6)), _mm_set1_epi8(3));
        let scales = _mm_sub_epi8(_mm_or_si128(low, _mm_slli_epi16::<4>(high)), _mm_set1_epi8(32));
        let d = _mm256_set1_ps(f16_at(block, 108));
        let scales = times_bytes(scales, d);
        let four = _mm256_set1_ps(-4.0);
        store_groups(&mut groups.scale, b, scales);
        store_groups(&mut groups.min, b, [_mm256_mul_ps(scales[0], four), _mm256_mul_ps(scales[1], four)]);
    }
}

/// `row_groups` of Q4_K and Q5_K: eight scales and eight minima of 6 bits in 12 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn k4_groups<Q: Quant>(bytes: &[u8], groups: &mut Groups) {
    for (b, block) in bytes.chunks_exact(Q::BYTES).enumerate() {
        // SAFETY: a block begins with two half-precision values and its 12 bytes of scales.
        let (both, [low, mid, high]) = unsafe {
            let words = block.as_ptr().add(4).cast::<u32>();
            (two_halves(block.as_ptr()), [0, 1, 2].map(|i| words.add(i).read_unaligned()))
        };
        // The top two bits of the bytes of the first four scales (minima) belong to the last four.
        let eight = |first: u32, last: u32| {
            let last = (last & 0x0F0F_0F0F) | (first >> 2 & 0x3030_3030);
            let bytes = u64::from(first & 0x3F3F_3F3F) | u64::from(last) << 32;
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)))
        };
        let dmin = _mm_sub_ps(_mm_setzero_ps(), _mm_movehdup_ps(both));
        let scales = _mm256_mul_ps(eight(low, high), _mm256_broadcastss_ps(both));
        let mins = _mm256_mul_ps(eight(mid, high >> 4), _mm256_broadcastss_ps(dmin));
        let (to_scale, to_min) = (&mut groups.scale[8 * b..8 * b + 8], &mut groups.min[8 * b..8 * b + 8]);
        // SAFETY: both have eight elements.
        unsafe {
            _mm256_storeu_ps(to_scale.as_mut_ptr(), scales);
            _mm256_storeu_ps(to_min.as_mut_ptr(), mins);
        }
    }
}

/// `row_groups` of Q6_K: sixteen scales as signed bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q6k_groups<Q: Quant>(bytes: &[u8], groups: &mut Groups) {
    for (b, block) in bytes.chunks_exact(Q::BYTES).enumerate() {
        // SAFETY: a block's scales are bytes 192 to 207; a half-precision value ends it.
        let scales = unsafe { _mm_loadu_si128(block.as_ptr().add(192).cast()) };
        let scales = times_bytes(scales, _mm256_set1_ps(f16_at(block, 208)));
        let offset = _mm256_set1_ps(-32.0);
        store_groups(&mut groups.scale, b, scales);
        store_groups(&mut groups.min, b, [_mm256_mul_ps(scales[0], offset), _mm256_mul_ps(scales[1], offset)]);
    }
}

macro_rules! large {
    ($name:ident, $top:literal, $groups:ident, |$block:ident, $part:ident| $body:expr) => {
        impl X86 for $name {
            const TOP: i16 = $top;

            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn row_groups(bytes: &[u8], groups: &mut Groups) {
                $groups::<Self>(bytes, groups)
            }

            #[inline]
            #[target_feature(enable = "avx2")]
            unsafe fn part($block: *const u8, $part: usize) -> __m256i {
                // SAFETY: guaranteed by the caller.
                unsafe { $body }
            }
        }
    };
}

large!(Q2K, 3, q2k_groups, |block, part| shift(load(block.add(16 + 32 * (part / 4))), 2 * (part % 4), 3));
large!(Q3K, 7, q3k_groups, |block, part| {
    let low = shift(load(block.add(32 + 32 * (part / 4))), 2 * (part % 4), 3);
    _mm256_or_si256(low, shift_up(load(block), part, 1, 2))
});
large!(Q4K, 15, k4_groups, |block, part| shift(load(block.add(16 + 32 * (part / 2))), 4 * (part % 2), 15));
large!(Q5K, 31, k4_groups, |block, part| {
    let low = shift(load(block.add(48 + 32 * (part / 2))), 4 * (part % 2), 15);
    _mm256_or_si256(low, shift_up(load(block.add(16)), part, 1, 4))
});
large!(Q6K, 63, q6k_groups, |block, part| {
    let low = shift(load(block.add(64 * (part / 4) + 32 * (part % 2))), 4 * (part % 4 / 2), 15);
    _mm256_or_si256(low, shift_up(load(block.add(128 + 32 * (part / 4))), 2 * (part % 4), 3, 4))
});
