//! Conversion of f16 and bf16 bit patterns, branch-free, so that inner loops vectorise without a library call.

/// The value of an IEEE half-precision bit pattern. Branch-free, so that loops over it can be vectorised. Method of
/// the FP16 library (Marat Dukhan), which ggml uses too.
#[inline(always)]
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let wide = u32::from(bits) << 16;
    let sign = wide & 0x8000_0000;
    let doubled = wide.wrapping_add(wide);
    let normal = f32::from_bits((doubled >> 4).wrapping_add(0xE0 << 23)) * f32::from_bits(0x0780_0000);
    let subnormal = f32::from_bits((doubled >> 17) | (126 << 23)) - 0.5;
    let magnitude = if doubled < (1 << 27) { subnormal.to_bits() } else { normal.to_bits() };
    f32::from_bits(sign | magnitude)
}

/// The nearest half-precision bit pattern (ties to even; overflow to infinity). Branch-free, as above.
#[inline(always)]
pub(super) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let doubled = bits.wrapping_add(bits);
    let base = value.abs() * f32::from_bits(0x7780_0000) * f32::from_bits(0x0880_0000);
    let exponent = (doubled & 0xFF00_0000).max(0x7100_0000);
    let rounded = (f32::from_bits((exponent >> 1) + 0x0780_0000) + base).to_bits();
    let magnitude = ((rounded >> 13) & 0x7C00) + (rounded & 0x0FFF);
    let magnitude = if doubled > 0xFF00_0000 { 0x7E00 } else { magnitude };
    ((bits >> 16) & 0x8000 | magnitude) as u16
}

/// The value of a bfloat16 bit pattern.
#[inline(always)]
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Reads a little-endian half-precision number at byte `at`.
#[inline(always)]
pub(super) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_to_f32_matches_the_half_crate_for_every_bit_pattern() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{bits:04x}: {ours} {theirs}");
            assert!(f32_to_f16(theirs) == bits || theirs.is_nan());
        }
    }

    #[test]
    fn f32_to_f16_rounds_like_the_half_crate() {
        for step in 0..4_000_000u32 {
            let value = f32::from_bits(step.wrapping_mul(1073));
            let (ours, theirs) = (f32_to_f16(value), half::f16::from_f32(value));
            assert!(ours == theirs.to_bits() || (value.is_nan() && ours & 0x7FFF > 0x7C00), "{value}: {ours:04x}");
        }
    }
}
