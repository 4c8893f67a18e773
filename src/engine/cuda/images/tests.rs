//! The embedded images hold every kernel, and every launch fits the limits of its target.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::engine::cuda::driver::Kernel;
use crate::engine::cuda::kernels::{Gemv, GemvRole, HEAD_DIMS, Kernels, Loader};
use crate::engine::cuda::layout::Format;
use crate::engine::cuda::matmul::{GEMM_SHARED, hopper_gemm, hopper_skinny, skinny};
use crate::engine::cuda::prompt::prefill_shared;
use crate::engine::cuda::step::{WARPS, decode_shared, staged_bytes};
use crate::engine::cuda::tuning::{Ring, Tuning};

/// What the machine code of one kernel needs.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    /// Registers per thread.
    registers: u32,
    /// Bytes of static shared memory per block, including those that CUDA reserves.
    shared: u32,
}

/// Kernels of an ELF image, by name. `.nv.info` has the registers of each by its symbol, which the lower bytes of a
/// section's `sh_info` name for `.text.NAME`; `.nv.shared.NAME` has the size of the static shared memory.
fn kernels_of(elf: &[u8]) -> BTreeMap<String, Needs> {
    let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap()) as usize;
    assert_eq!(&elf[..4], b"\x7fELF");
    let (sections, size, count, names) = (long(0x28), half(0x3a), half(0x3c), half(0x3e));
    let names = long(sections + names * size + 0x18);
    let sections: Vec<(String, usize)> = (0..count)
        .map(|index| sections + index * size)
        .map(|at| {
            let name = &elf[names + word(at) as usize..];
            let end = name.iter().position(|byte| *byte == 0).unwrap();
            (String::from_utf8_lossy(&name[..end]).into_owned(), at)
        })
        .collect();
    let mut registers = BTreeMap::new();
    for (_, at) in sections.iter().filter(|(name, _)| name == ".nv.info") {
        let (mut at, end) = (long(at + 0x18), long(at + 0x18) + long(at + 0x20));
        while at < end {
            let (form, attribute, length) = (elf[at], elf[at + 1], half(at + 2));
            // EIATTR_REGCOUNT
            if (form, attribute) == (4, 0x2f) {
                registers.insert(word(at + 4), word(at + 8));
            }
            // Other forms have their value in the place of the length.
            at += if form == 4 { 4 + length } else { 4 };
        }
    }
    let mut found: BTreeMap<String, Needs> = BTreeMap::new();
    for (name, at) in sections {
        if let Some(kernel) = name.strip_prefix(".text.") {
            let symbol = word(at + 0x2c) & 0xff_ffff;
            found.entry(kernel.to_owned()).or_default().registers = registers.get(&symbol).copied().unwrap_or(0);
        } else if let Some(kernel) = name.strip_prefix(".nv.shared.") {
            found.entry(kernel.to_owned()).or_default().shared = long(at + 0x20) as u32;
        }
    }
    found
}

/// Bytes of dynamic shared memory that a block may request, by target (CUDA C++ Programming Guide, table of technical
/// specifications per compute capability).
const SHARED: [((i32, i32), u32); 6] = [
    ((8, 0), 163 << 10),
    ((8, 6), 99 << 10),
    ((8, 9), 99 << 10),
    ((9, 0), 227 << 10),
    ((10, 0), 227 << 10),
    ((12, 0), 99 << 10),
];
/// Registers of a multiprocessor, of which a block may use all, on every target.
const REGISTERS: u32 = 65536;

fn shared_limit(architecture: (i32, i32)) -> u32 {
    SHARED.iter().find(|(target, _)| *target == architecture).unwrap().1
}

/// Finds kernels in machine code or PTX.
struct Reader {
    architecture: (i32, i32),
    modules: Vec<Option<BTreeMap<String, Needs>>>,
    texts: Vec<String>,
    asked: std::cell::RefCell<Vec<(String, Needs)>>,
}

impl Reader {
    fn new(architecture: (i32, i32)) -> Self {
        Self { architecture, modules: Vec::new(), texts: Vec::new(), asked: Default::default() }
    }
}

impl Loader for Reader {
    type Module = usize;

    fn compute_capability(&self) -> (i32, i32) {
        self.architecture
    }

    fn module(&mut self, image: &[u8]) -> Result<usize, ModelError> {
        let machine_code = image.starts_with(b"\x7fELF");
        self.modules.push(machine_code.then(|| kernels_of(image)));
        self.texts.push(if machine_code { String::new() } else { String::from_utf8_lossy(image).into_owned() });
        Ok(self.modules.len() - 1)
    }

    fn function(&self, module: usize, name: &str, _: bool) -> Result<Kernel, ModelError> {
        let missing = || ModelError::Invalid(format!("no kernel {name}"));
        let needs = match &self.modules[module] {
            Some(kernels) => *kernels.get(name).ok_or_else(missing)?,
            None => {
                let text = &self.texts[module];
                assert!(text.ends_with('\0'), "PTX must end in NUL");
                text.contains(&format!(".entry {name}(")).then(Needs::default).ok_or_else(missing)?
            }
        };
        self.asked.borrow_mut().push((name.to_owned(), needs));
        let limit = SHARED.iter().find(|(target, _)| *target == self.architecture).map_or(0, |(_, limit)| *limit);
        Ok(Kernel::unloaded(limit.saturating_sub(needs.shared)))
    }
}

fn loaded(set: &Set) -> (Kernels, Reader) {
    let mut reader = Reader::new(set.architecture());
    let images = set.unpack().unwrap();
    let mut kernels = Kernels::load_images(&mut reader, &images).unwrap();
    kernels.load_parallel(&mut reader, &images).unwrap();
    (kernels, reader)
}

#[test]
fn every_set_has_every_kernel() {
    assert!(!SETS.is_empty());
    for set in SETS {
        let (kernels, reader) = loaded(set);
        assert_eq!(kernels.architecture, set.architecture());
        assert_eq!(kernels.hopper.is_some(), set.architecture() == (9, 0) && !set.is_ptx(), "{}", set.target);
        assert!(reader.asked.borrow().len() >= 64, "{}: {}", set.target, reader.asked.borrow().len());
    }
}

/// Threads of a block of this kernel, as its launches set them.
fn threads(kernel: &str) -> u32 {
    match kernel {
        "sample" => 1024,
        "probe_exchange" => 512,
        "embed" => 64,
        "repack" | "gemm_bf16" => 128,
        _ if kernel.starts_with("attention_prefill") => 128,
        _ if kernel.starts_with("attention_hopper") => crate::engine::cuda::hopper_attention::THREADS,
        _ if kernel.starts_with("gemm_hopper") => hopper_gemm::THREADS,
        _ if kernel.starts_with("skinny_hopper") => hopper_skinny::THREADS,
        _ => 256,
    }
}

#[test]
fn registers_suffice_on_every_target() {
    for set in SETS.iter().filter(|set| !set.is_ptx()) {
        let (_, reader) = loaded(set);
        for (name, needs) in reader.asked.borrow().iter() {
            // Registers are allocated to warps in units of 8 per thread.
            let used = needs.registers.next_multiple_of(8) * threads(name);
            assert!(needs.registers > 0 && used <= REGISTERS, "{} {name}: {needs:?}", set.target);
        }
    }
}

/// Hidden width, feed-forward width, width of the queries: SmolLM2 135M, Qwen 2.5 0.5B and 7B, Llama 3 8B, Phi 3 mini,
/// Qwen 3 14B, Qwen 2.5 32B, Llama 3 70B.
const SHAPES: [(u32, u32, u32); 8] = [
    (576, 1536, 576),
    (896, 4864, 896),
    (3584, 18944, 3584),
    (4096, 14336, 4096),
    (3072, 8192, 3072),
    (5120, 17408, 5120),
    (5120, 27648, 5120),
    (8192, 28672, 8192),
];

#[test]
fn every_launch_fits_the_shared_memory_of_every_target() {
    for set in SETS.iter().filter(|set| !set.is_ptx()) {
        let (kernels, _) = loaded(set);
        let fits = |what: &str, kernel: Kernel, bytes: u32| {
            assert!(bytes <= kernel.shared_limit, "{} {what}: {bytes} of {}", set.target, kernel.shared_limit);
        };
        let tuning = Tuning::for_capability(set.architecture());
        for (shape, format) in SHAPES.into_iter().flat_map(|shape| Format::ALL.map(|format| (shape, format))) {
            let (hidden, inner, queries) = shape;
            // Such weights are for checks: their activations are 4 bytes each, so the widest models do not fit.
            if matches!(format, Format::F32 | Format::F16) && inner > 18944 {
                continue;
            }
            for (role, cols) in [
                (GemvRole::Qkv, hidden),
                (GemvRole::GateUp, hidden),
                (GemvRole::Residual, queries),
                (GemvRole::Residual, inner),
                (GemvRole::Sum, queries),
                (GemvRole::Sum, inner),
                (GemvRole::Logits, hidden),
            ] {
                let Gemv { kernel, unit, stage } = kernels.gemv(role, &[format]);
                let staged = staged_bytes(role, stage, cols);
                let Ring { blocks, depth } = tuning.ring(unit, staged, kernel.shared_limit);
                let bytes = WARPS * depth * unit + staged;
                fits(&format!("{role:?} {format:?} {shape:?}"), kernel, bytes);
                // The blocks of a multiprocessor share its memory, which is 1 KiB more than a block may have.
                let all = (bytes + (1 << 10)) * blocks;
                assert!(blocks == 1 || all <= shared_limit(set.architecture()) + (1 << 10), "{} {role:?}", set.target);
            }
        }
        for (index, dim) in HEAD_DIMS.into_iter().enumerate() {
            let decode = kernels.attention_decode[index];
            fits("decode attention", decode, decode_shared(dim, 1));
            fits("prefill attention", kernels.attention_prefill[index], prefill_shared(dim));
        }
        fits("gemm", kernels.gemm, GEMM_SHARED);
        for (tokens, kernel) in skinny::ROOMS.into_iter().zip(kernels.skinny) {
            let limits = skinny::Limits { multiprocessors: 84, shared: kernel.shared_limit };
            let tiling = skinny::tiling(&[4096, 1024, 1024], 4096, 8192, tokens, limits).unwrap();
            fits("skinny", kernel, tiling.shared);
        }
    }
}

#[test]
fn a_gpu_gets_machine_code_of_its_generation_and_ptx_if_it_is_newer() {
    let target = |major, minor| for_gpu((major, minor)).map(|set| set.target).unwrap_or("none");
    let expected = [
        ((8, 0), "sm_80"),
        ((8, 6), "sm_86"),
        ((8, 7), "sm_86"),
        ((8, 9), "sm_89"),
        ((9, 0), "sm_90"),
        ((10, 0), "sm_100"),
        ((10, 3), "sm_100"),
        ((11, 0), "compute_90"),
        ((12, 0), "sm_120"),
        ((12, 1), "sm_120"),
        ((13, 0), "compute_90"),
        ((7, 5), "none"),
    ];
    for ((major, minor), set) in expected {
        assert_eq!(target(major, minor), set, "{major}.{minor}");
    }
    assert!(targets().contains("8.6") && targets().contains("PTX"), "{}", targets());
    if !ORIGIN.contains("nvcc") {
        assert_eq!([(8, 6), (9, 0), (12, 0), (13, 0)].map(driver_needed), [525, 525, 570, 570]);
    }
}

#[test]
fn a_damaged_blob_is_an_error() {
    let whole = SETS[0].blob;
    let cut = Set { target: "sm_80", blob: &whole[..whole.len() / 2] };
    assert!(cut.unpack().is_err());
    let mut table = vec![2, 0, 0, 0, 1, b'x'];
    table.extend(u64::MAX.to_le_bytes());
    table.extend(u64::MAX.to_le_bytes());
    assert!(read_table(&table).is_none());
    assert!(Set { target: "sm_80", blob: Vec::leak(table) }.unpack().is_err());
}
