//! x86 intrinsics under width-independent names, so that one kernel source serves 256 and 512 bits.

/// 256 bits: AVX2.
pub(super) mod ymm {
    pub use std::arch::x86_64::{
        __m256 as Float, __m256i as Int, _mm256_abs_epi8 as abs8, _mm256_add_epi16 as add16, _mm256_add_epi32 as add32,
        _mm256_add_ps as add_floats, _mm256_cvtepi32_ps as to_float, _mm256_fmadd_ps as fmadd,
        _mm256_fnmadd_ps as fnmadd, _mm256_loadu_ps as load_floats, _mm256_loadu_si256 as load,
        _mm256_madd_epi16 as madd16, _mm256_maddubs_epi16 as maddubs, _mm256_max_ps as max_floats,
        _mm256_mul_ps as mul, _mm256_set1_epi8 as set8, _mm256_set1_epi16 as set16, _mm256_set1_epi32 as set32,
        _mm256_set1_ps as set_float, _mm256_setzero_ps as zero_float, _mm256_setzero_si256 as zero,
        _mm256_sign_epi8 as sign8, _mm256_storeu_ps as store_floats, _mm256_sub_ps as sub_floats,
        _mm256_xor_si256 as xor,
    };
    use std::arch::x86_64::{
        _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128,
        _mm_max_ps, _mm_max_ss, _mm_movehdup_ps, _mm_movehl_ps, _mm256_add_epi32, _mm256_castps256_ps128,
        _mm256_castsi256_ps, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_extractf128_ps, _mm256_round_ps,
        _mm256_slli_epi32,
    };

    /// Registers that hold one 32-bit value for each row of a panel.
    pub const HALVES: usize = 2;
    /// 32-bit lanes per register.
    pub const LANES: usize = 8;

    /// Loads `LANES` half-precision values and widens them to f32.
    ///
    /// # Safety
    /// `LANES` values must be readable at `at`.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub unsafe fn load_halves(at: *const u16) -> Float {
        // SAFETY: guaranteed by the caller.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn largest(a: Float) -> f32 {
        let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn sum(a: Float) -> f32 {
        let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
    }

    /// Rounds each lane to the nearest integer.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn round(a: Float) -> Float {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }

    /// `a * 2^n` for integers `n` from -126 to 127.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn scale(a: Float, n: Float) -> Float {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), set32(127));
        mul(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
    }
}

/// 512 bits: AVX-512.
pub(super) mod zmm {
    pub use std::arch::x86_64::{
        __m512 as Float, __m512i as Int, _mm512_abs_epi8 as abs8, _mm512_add_epi16 as add16, _mm512_add_epi32 as add32,
        _mm512_add_ps as add_floats, _mm512_cvtepi32_ps as to_float, _mm512_fmadd_ps as fmadd,
        _mm512_fnmadd_ps as fnmadd, _mm512_loadu_ps as load_floats, _mm512_loadu_si512 as load,
        _mm512_madd_epi16 as madd16, _mm512_maddubs_epi16 as maddubs, _mm512_max_ps as max_floats,
        _mm512_mul_ps as mul, _mm512_reduce_add_ps as sum, _mm512_reduce_max_ps as largest, _mm512_scalef_ps as scale,
        _mm512_set1_epi8 as set8, _mm512_set1_epi16 as set16, _mm512_set1_epi32 as set32, _mm512_set1_ps as set_float,
        _mm512_setzero_ps as zero_float, _mm512_setzero_si512 as zero, _mm512_storeu_ps as store_floats,
        _mm512_sub_ps as sub_floats, _mm512_xor_si512 as xor,
    };
    use std::arch::x86_64::{
        _mm256_loadu_si256, _mm512_cvtph_ps, _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_roundscale_ps,
        _mm512_setzero_si512,
    };

    /// See `ymm::HALVES`.
    pub const HALVES: usize = 1;
    /// See `ymm::LANES`.
    pub const LANES: usize = 16;

    /// See `ymm::load_halves`.
    ///
    /// # Safety
    /// `LANES` values must be readable at `at`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn load_halves(at: *const u16) -> Float {
        // SAFETY: guaranteed by the caller.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(at.cast()) })
    }

    /// See `ymm::round`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn round(a: Float) -> Float {
        _mm512_roundscale_ps::<0>(a)
    }

    /// Negates the bytes of `a` whose byte in `b` is negative. (AVX2's `vpsignb` also clears those whose byte in `b` is
    /// zero, which makes no difference in a product with `b`.)
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn sign8(a: Int, b: Int) -> Int {
        _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(b), _mm512_setzero_si512(), a)
    }
}
