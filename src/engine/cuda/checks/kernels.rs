//! GPU kernels against CPU references, on random input with stated tolerances. For `benches/gpu.sh`.
//!
//! An error is ‖got − wanted‖ / ‖wanted‖ over all numbers of a check. Outputs are filled with NaN before a kernel runs,
//! so an element that it does not write fails the check.

use std::io::Write;

use half::{bf16, f16};

use crate::engine::cpu::{AlignedBytes, GgmlType, Matrix};
use crate::engine::cuda::driver::{DeviceBuffer, Gpu, GpuProperties, LaunchConfig};
use crate::engine::cuda::kernels::{Gemv, GemvRole, HEAD_DIMS, Kernels};
use crate::engine::cuda::layout::{Arena, Format, Mat};
use crate::engine::cuda::load::upload;
use crate::engine::cuda::params::*;
use crate::engine::cuda::split::Piece;
use crate::engine::cuda::tuning::Tuning;
use crate::engine::error::ModelError;
use crate::engine::source::CancelFlag;
use crate::engine::weights::plan::PlannedTensor;

mod attention;
mod products;
mod sampler;

pub use sampler::sampler;

/// SplitMix64: a failing check can be repeated by its seed.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Roughly normal, standard deviation 1.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum::<f32>() * 1.732
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }

    /// Uniform in `0..most`.
    pub fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}

/// Counts results and prints each one at once.
#[derive(Default)]
pub struct Report {
    failed: usize,
    passed: usize,
}

impl Report {
    /// Prints and counts one result: it passes if `error <= tolerance`.
    pub fn tell(&mut self, name: &str, error: f64, tolerance: f64) {
        let good = error <= tolerance;
        if good {
            self.passed += 1
        } else {
            self.failed += 1
        }
        println!("{} {name}: error {error:.2e}, tolerated {tolerance:.0e}", if good { "ok  " } else { "FAIL" });
    }

    /// Numbers of failed and of passed checks.
    pub fn counts(&self) -> (usize, usize) {
        (self.failed, self.passed)
    }
}

/// ‖got − wanted‖ / ‖wanted‖; infinite if the lengths differ or `got` has a NaN.
pub fn relative_error(got: &[f32], wanted: &[f64]) -> f64 {
    if got.len() != wanted.len() || got.iter().any(|v| v.is_nan()) {
        return f64::INFINITY;
    }
    let (mut off, mut all) = (0.0, 0.0);
    for (g, w) in got.iter().zip(wanted) {
        off += (f64::from(*g) - w).powi(2);
        all += w * w;
    }
    (off / all.max(1e-30)).sqrt()
}

/// An open GPU with its kernels.
struct Bench {
    kernels: Kernels,
    gpu: Gpu,
}

/// Checks every kernel, on input from `seed`.
pub fn kernels(properties: GpuProperties, seed: u64, report: &mut Report) -> Result<(), ModelError> {
    let mut gpu = Gpu::open(properties)?;
    let mut kernels = Kernels::load(&mut gpu)?;
    // Their shared memory is not that of the smaller GPU that the tuning may stand for.
    let hopper = Tuning::for_capability(gpu.properties.compute_capability).hopper;
    kernels.hopper = kernels.hopper.filter(|_| hopper);
    let bench = Bench { kernels, gpu };
    let mut random = Random(seed);
    for kind in GgmlType::ALL {
        for (rows, cols) in [(300, 1024), (36, 2304), (33, 768)] {
            bench.matrix(kind, rows, cols, &mut random, report)?;
        }
        if kind.block_size() <= 32 {
            bench.matrix(kind, 31, 576, &mut random, report)?;
        }
    }
    for (m, n, k) in [(1, 200, 576), (50, 1000, 96), (300, 257, 1024), (513, 260, 32 + 32 * random.below(20))] {
        bench.products(m, n, k, &mut random, report)?;
    }
    for dim in HEAD_DIMS {
        for group in [1, 2, 3, 4, 7, 8, 12] {
            bench.decode_attention(dim, group, 1 + random.below(4000), 0, &mut random, report)?;
        }
        bench.decode_attention(dim, 4, 1, 0, &mut random, report)?;
        bench.decode_attention(dim, 4, 3000, 500, &mut random, report)?;
        bench.prefill_attention(dim, 1, 0, 0, &mut random, report)?;
        bench.prefill_attention(dim, 130, 77, 0, &mut random, report)?;
        bench.prefill_attention(dim, 200, 300, 100, &mut random, report)?;
        bench.prefill_attention(dim, 128, 256, 0, &mut random, report)?;
        bench.prefill_attention(dim, 1 + random.below(300), random.below(900), 0, &mut random, report)?;
    }
    sampler::check(&bench.gpu, &bench.kernels, 20, &mut random, report)
}

/// Random raw blocks, with scales that give weights of a usual magnitude.
fn random_blocks(kind: GgmlType, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let numbers = rows * cols;
    match kind {
        GgmlType::F32 => random.normals(numbers).iter().flat_map(|v| v.to_le_bytes()).collect(),
        GgmlType::F16 => random.normals(numbers).iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        GgmlType::BF16 => random.normals(numbers).iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => {
            let scales: &[usize] = match kind {
                GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => &[0, 2],
                GgmlType::Q6K => &[208],
                GgmlType::Q3K => &[108],
                GgmlType::Q2K => &[80, 82],
                _ => &[0],
            };
            let size = kind.block_bytes();
            let mut bytes: Vec<u8> = (0..numbers / kind.block_size() * size).map(|_| random.next() as u8).collect();
            for block in bytes.chunks_mut(size) {
                for at in scales {
                    block[*at..at + 2]
                        .copy_from_slice(&f16::from_f32(0.01 + 0.01 * random.normal().abs()).to_le_bytes());
                }
            }
            bytes
        }
    }
}

/// Quantises to int8 by blocks of 32 and back, as the kernels do with activations before an int8 product.
fn through_int8(x: &[f32]) -> Vec<f64> {
    let quantise = |block: &[f32]| {
        let most = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
        block.iter().map(move |v| f64::from((v * inverse).round_ties_even() * (most / 127.0))).collect::<Vec<_>>()
    };
    x.chunks(32).flat_map(quantise).collect()
}

fn halves(values: &[f32]) -> Vec<u16> {
    values.iter().map(|v| bf16::from_f32(*v).to_bits()).collect()
}

fn wide(halves: &[u16]) -> Vec<f32> {
    halves.iter().map(|h| bf16::from_bits(*h).to_f32()).collect()
}

impl Bench {
    /// Checks loading, dequantisation and products of one matrix.
    fn matrix(
        &self,
        kind: GgmlType,
        rows: usize,
        cols: usize,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), ModelError> {
        let raw = random_blocks(kind, rows, cols, random);
        let exact = Matrix::new(kind, rows, cols, AlignedBytes::copy_of(&raw)?)?;
        let mut weights = vec![0.0; rows * cols];
        for (row, out) in weights.chunks_mut(cols).enumerate() {
            exact.dequantize_row(row, out);
        }
        let (mat, _arena) = self.load(kind, rows, cols, &raw)?;
        let name = format!("{} {rows} x {cols}", kind.name());

        let out = DeviceBuffer::<u16>::from_slice(&self.gpu, &vec![0x7fff; rows * cols])?;
        let args = DequantiseArgs { m: mat, out: out.pointer(), first: 0, count: (rows * cols / 32) as u64 };
        // SAFETY: `out` has room for the matrix.
        unsafe {
            self.kernels.dequantise_rows.launch(
                self.gpu.stream,
                LaunchConfig::linear(args.count.div_ceil(64), 256),
                &args,
            )?
        };
        let mut got = vec![0; rows * cols];
        out.read(&self.gpu, 0, &mut got)?;
        let wanted: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        report.tell(&format!("dequantise {name}"), relative_error(&wide(&got), &wanted), 3e-3);

        self.short_prompts(&name, mat, &weights, random, report)?;
        self.products_of(&name, mat, &weights, kind == GgmlType::Q2K, random, report)
    }

    /// Checks the GEMV kernels that do not feed attention: residual add, fused gate and up, and logits with
    /// normalised input.
    fn products_of(
        &self,
        name: &str,
        mat: Mat,
        weights: &[f32],
        rounded: bool,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), ModelError> {
        let (rows, cols) = (mat.rows as usize, mat.cols as usize);
        let (x, before) = (random.normals(cols), random.normals(rows));
        let norm: Vec<f32> = random.normals(cols).iter().map(|v| 1.0 + 0.1 * v).collect();
        let (device_x, device_norm) =
            (DeviceBuffer::from_slice(&self.gpu, &x)?, DeviceBuffer::from_slice(&self.gpu, &norm)?);
        let device_half = DeviceBuffer::from_slice(&self.gpu, &halves(&x))?;
        let plain = mat.format().is_plain();
        let eps = 1e-5;
        let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / cols as f64;
        let normed: Vec<f32> =
            x.iter().zip(&norm).map(|(x, n)| (f64::from(*x) / (mean + eps).sqrt()) as f32 * n).collect();
        // Q2_K is stored on the GPU as bf16.
        let weight = |w: f32| f64::from(if rounded { bf16::from_f32(w).to_f32() } else { w });
        let product = |x: &[f64]| -> Vec<f64> {
            weights.chunks(cols).map(|row| row.iter().zip(x).map(|(w, x)| weight(*w) * x).sum()).collect()
        };
        let halved: Vec<f32> = wide(&halves(&x));
        use GemvRole::{GateUp, Logits, Residual};
        for (what, from_half) in [(Residual, false), (Residual, true), (Logits, false), (GateUp, false)] {
            let y = DeviceBuffer::from_slice(&self.gpu, &before)?;
            let hidden = DeviceBuffer::<u16>::from_slice(&self.gpu, &vec![0x7fff; rows])?;
            let state = DeviceBuffer::from_slice(&self.gpu, &[State::default()])?;
            let Gemv { kernel, unit, stage } = self.kernels.gemv_within(what, &[mat.format()], random.below(4));
            // The depths whose rings fit beside the staged input.
            let fits = |depth: &u32| 8 * depth * unit + cols as u32 * 4 <= kernel.shared_limit;
            let depths: Vec<u32> = [2, 3, 4, 5, 6, 8].into_iter().filter(fits).collect();
            let depth = depths[random.below(depths.len())] as i32;
            let args = GemvArgs {
                a: mat,
                b: mat,
                x: if from_half { 0 } else { device_x.pointer() },
                xh: device_half.pointer(),
                norm: if what == Residual { 0 } else { device_norm.pointer() },
                eps: eps as f32,
                cols: cols as i32,
                stage,
                out: y.pointer(),
                out_half: hidden.pointer(),
                state: state.pointer(),
                slot: unit as i32,
                depth,
                ring: depth * unit as i32,
                ..GemvArgs::default()
            };
            let shared = 8 * args.ring as u32 + cols as u32 * 4;
            let grid = (1 + random.below(4) as u32, 1, 1);
            let shape = LaunchConfig { grid, threads: 256, shared, overlap: false, ..LaunchConfig::default() };
            // SAFETY: all sizes are those of the matrix.
            unsafe { kernel.launch(self.gpu.stream, shape, &args)? };
            let mut got = vec![0.0; rows];
            let (input, tolerance) = match what {
                // With plain weights the input of a residual product is staged as bf16.
                Residual if plain || from_half => (&halved, 2e-5),
                Residual => (&x, 2e-5),
                // A last-digit difference of a normalised number can move an int8 by one: 1 / 40 σ in one of `cols`.
                _ => (&normed, if plain { 2e-5 } else { 3e-3 }),
            };
            let input = if plain { input.iter().map(|v| f64::from(*v)).collect() } else { through_int8(input) };
            let wanted = product(&input);
            let (wanted, tolerance): (Vec<f64>, f64) = match what {
                Residual => (wanted.iter().zip(&before).map(|(y, b)| y + f64::from(*b)).collect(), tolerance),
                GateUp => (wanted.iter().map(|y| y / (1.0 + (-y).exp()) * y).collect(), 3e-3 + 2.0 * tolerance),
                _ => (wanted, tolerance),
            };
            if what == GateUp {
                let mut bits = vec![0; rows];
                hidden.read(&self.gpu, 0, &mut bits)?;
                got = wide(&bits);
            } else {
                y.read(&self.gpu, 0, &mut got)?;
            }
            let label = if from_half { "residual from bf16".to_owned() } else { format!("{what:?}") };
            report.tell(&format!("{label} {name}, ring of {depth}"), relative_error(&got, &wanted), tolerance);
        }
        Ok(())
    }

    /// Loads a matrix by the production loader, from a temporary file.
    fn load(
        &self,
        kind: GgmlType,
        rows: usize,
        cols: usize,
        raw: &[u8],
    ) -> Result<(Mat, DeviceBuffer<u8>), ModelError> {
        let io = |error: std::io::Error| ModelError::Io(error.to_string());
        let path = std::env::temp_dir().join(format!("chatnap-check-{}", std::process::id()));
        std::fs::File::create(&path).and_then(|mut file| file.write_all(raw)).map_err(io)?;
        let size = {
            let mut arena = Arena::new(0);
            arena.matrix(Format::of(kind), rows, cols);
            arena.end()
        };
        let arena = DeviceBuffer::<u8>::new(size as usize)?;
        arena.fill(&self.gpu, 0xff)?;
        self.gpu.synchronize()?;
        let mat = Arena::new(arena.pointer()).matrix(Format::of(kind), rows, cols);
        let tensor = PlannedTensor { file: 0, offset: 0, bytes: raw.len() as u64, kind, rows, cols };
        let piece = Piece { rows: 0..rows, cols: 0..cols };
        let jobs = upload::jobs_for(&tensor, &piece, mat);
        let loaded = upload::upload(
            &self.gpu,
            self.kernels.repack,
            &upload::RingMemory::new(4).pin()?,
            std::slice::from_ref(&path),
            &jobs,
            &CancelFlag::default(),
            &mut |_| {},
        );
        std::fs::remove_file(&path).map_err(io)?;
        loaded.map(|()| (mat, arena))
    }
}
