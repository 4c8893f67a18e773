//! Run-time detection of the CPU's SIMD instructions, and dispatch on them.

use std::sync::OnceLock;

/// An instruction set with kernels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust, no SIMD extension assumed.
    Plain,
    /// NEON with the byte dot products (SDOT) of Armv8.2.
    Dotprod,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2 with the byte dot products of AVX-VNNI.
    AvxVnni,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AVX-512 with the byte dot products of AVX-512 VNNI.
    Avx512Vnni,
}

impl Isa {
    /// All instruction sets, slowest first.
    const ALL: [Isa; 6] = [Isa::Plain, Isa::Dotprod, Isa::Avx2, Isa::AvxVnni, Isa::Avx512, Isa::Avx512Vnni];

    /// The fastest one that the CPU supports and `CHATNAP_CPU` allows. Detected once per process.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| Self::allowed(std::env::var("CHATNAP_CPU").ok().as_deref()))
    }

    /// `CHATNAP_CPU=plain|neon|avx2|avxvnni|avx512|avx512vnni` sets an upper limit (for comparisons, or to work around
    /// a faulty emulator). It never enables what the CPU lacks. Other values are ignored, and `settings` warns about them.
    fn allowed(asked: Option<&str>) -> Self {
        let most = match asked {
            Some("plain") => Isa::Plain,
            Some("neon") => Isa::Dotprod,
            Some("avx2") => Isa::Avx2,
            Some("avxvnni") => Isa::AvxVnni,
            Some("avx512") => Isa::Avx512,
            _ => Isa::Avx512Vnni,
        };
        Self::available().filter(|isa| *isa <= most).last().unwrap_or(Isa::Plain)
    }

    /// The instruction sets that this CPU supports, `Plain` first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Display name.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Plain => "plain",
            Isa::Dotprod => "NEON dot products",
            Isa::Avx2 => "AVX2",
            Isa::AvxVnni => "AVX-VNNI",
            Isa::Avx512 => "AVX-512",
            Isa::Avx512Vnni => "AVX-512 VNNI",
        }
    }

    /// Whether this CPU supports the instruction set.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        let avx2 =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        match self {
            Isa::Plain => true,
            Isa::Dotprod => false,
            Isa::Avx2 => avx2,
            Isa::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
            Isa::Avx512 => avx512,
            Isa::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
        }
    }

    /// Whether this CPU supports the instruction set.
    #[cfg(target_arch = "aarch64")]
    pub fn is_available(self) -> bool {
        self == Isa::Plain || (self == Isa::Dotprod && std::arch::is_aarch64_feature_detected!("dotprod"))
    }

    /// Whether this CPU supports the instruction set.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_available(self) -> bool {
        self == Isa::Plain
    }
}

/// Compiles `$name` once per register width and selects a version at run time. The body must consist of `#[inline]`
/// functions, so that the compiler vectorises it for each width.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($isa:ident $(, $arg:ident: $type:ty)* $(,)?) = $body:path) => {
        $(#[$meta])*
        $vis fn $name($isa: $crate::engine::cpu::Isa $(, $arg: $type)*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::engine::cpu::Isa;
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $type),*) { $body($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512($($arg: $type),*) { $body($($arg),*) }
                match $isa {
                    // SAFETY: callers pass an `Isa` that the CPU supports (`Threads::with_isa` checks it).
                    Isa::Avx512 | Isa::Avx512Vnni => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Isa::Avx2 | Isa::AvxVnni => return unsafe { avx2($($arg),*) },
                    Isa::Plain | Isa::Dotprod => {}
                }
            }
            let _ = $isa;
            $body($($arg),*)
        }
    };
}
pub(super) use for_each_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatnap_cpu_lowers_the_instruction_set_and_never_raises_it() {
        let best = Isa::available().last().unwrap_or(Isa::Plain);
        assert_eq!(Isa::allowed(None), best);
        assert_eq!(Isa::allowed(Some("nonsense")), best);
        for (asked, most) in [
            ("plain", Isa::Plain),
            ("neon", Isa::Dotprod),
            ("avx2", Isa::Avx2),
            ("avxvnni", Isa::AvxVnni),
            ("avx512", Isa::Avx512),
            ("avx512vnni", Isa::Avx512Vnni),
        ] {
            let found = Isa::allowed(Some(asked));
            assert!(found <= most && found.is_available(), "{asked}: {found:?}");
            assert!(!most.is_available() || found == most, "{asked}: {found:?}");
        }
    }
}
