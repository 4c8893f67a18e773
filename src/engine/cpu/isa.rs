//! Which instructions this processor has.

use std::sync::OnceLock;

/// A family of kernels. Later ones of a processor's kind need all that the ones before need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Rust without any assumption.
    Plain,
    /// The byte dot products of Armv8.2.
    Dotprod,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
}

impl Isa {
    /// The best that this processor has; `CHATNAP_CPU=plain|avx2|avx512` asks for less (to compare, or to work around
    /// a faulty emulator), never for more. Found once.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let best = Self::of_this_machine();
            match std::env::var("CHATNAP_CPU").as_deref() {
                Ok("plain") => Isa::Plain,
                Ok("avx2") => best.min(Isa::Avx2),
                _ => best,
            }
        })
    }

    /// Whether kernels of this family run here.
    pub fn is_available(self) -> bool {
        let best = Self::of_this_machine();
        if self == Isa::Dotprod { best == Isa::Dotprod } else { self <= best }
    }

    /// Those that run here, plain first.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Plain, Isa::Dotprod, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available())
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Plain => "plain",
            Isa::Dotprod => "NEON dot products",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512 VNNI",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn of_this_machine() -> Self {
        let avx2 =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni");
        match (avx512, avx2) {
            (true, _) => Isa::Avx512,
            (_, true) => Isa::Avx2,
            _ => Isa::Plain,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn of_this_machine() -> Self {
        if std::arch::is_aarch64_feature_detected!("dotprod") { Isa::Dotprod } else { Isa::Plain }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn of_this_machine() -> Self {
        Isa::Plain
    }
}

/// Compiles `$name` three times, for each family, and picks one at run time. The body must consist of `#[inline]`
/// functions, so that the compiler vectorises it for the family.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($isa:ident $(, $arg:ident: $type:ty)* $(,)?) = $body:path) => {
        $(#[$meta])*
        $vis fn $name($isa: $crate::engine::cpu::Isa $(, $arg: $type)*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $type),*) { $body($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                fn avx512($($arg: $type),*) { $body($($arg),*) }
                match $isa {
                    // SAFETY: an `Isa` is only handed out where the processor has it (`Threads::with_isa` checks).
                    $crate::engine::cpu::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::engine::cpu::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            let _ = $isa;
            $body($($arg),*)
        }
    };
}
pub(super) use for_each_isa;
