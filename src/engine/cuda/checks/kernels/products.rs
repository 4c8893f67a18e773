//! Matrix products of short and long prompts against sums in f64.

use super::{Bench, Random, Report, halves, relative_error, wide};
use crate::engine::cuda::driver::{DeviceBuffer, Gpu};
use crate::engine::cuda::layout::{Format, Mat};
use crate::engine::cuda::matmul::hopper_gemm::{self, HopperGemm};
use crate::engine::cuda::matmul::hopper_skinny::{HopperSkinny, Order};
use crate::engine::cuda::matmul::{Gemm, skinny};
use crate::engine::cuda::params::{Epilogue, Problem};
use crate::engine::cuda::tuning::{ShortPromptLimits, Tuning};
use crate::engine::error::ModelError;

/// A product of a short prompt with the same matrix twice, side by side, and the expected result.
struct ShortPrompt {
    x: Vec<u16>,
    before: Vec<f32>,
    wanted: Vec<f64>,
    cols: usize,
}

impl ShortPrompt {
    /// `weights`: those of `mat`, rounded to bf16.
    fn new(mat: Mat, weights: &[f32], tokens: usize, random: &mut Random) -> Self {
        let (rows, cols) = (mat.rows as usize, mat.cols as usize);
        let (x, before) = (halves(&random.normals(tokens * cols)), random.normals(tokens * 2 * rows));
        let mut wanted = Vec::with_capacity(before.len());
        for (x, before) in wide(&x).chunks(cols).zip(before.chunks(2 * rows)) {
            let product = |row: &[f32]| -> f64 { row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum() };
            let once: Vec<f64> = weights.chunks(cols).map(product).collect();
            wanted.extend(once.iter().chain(&once).zip(before).map(|(y, b)| y + f64::from(*b)));
        }
        Self { x, before, wanted, cols }
    }

    /// X in the order of columns that the Hopper kernel reads.
    fn in_slots(&self) -> Vec<u16> {
        let mut ordered = vec![0; self.x.len()];
        for (to, from) in ordered.chunks_mut(self.cols).zip(self.x.chunks(self.cols)) {
            for k in (0..self.cols).step_by(2) {
                to[Order::Slots.slot_of(k)..][..2].copy_from_slice(&from[k..k + 2]);
            }
        }
        ordered
    }

    /// Relative error of `out`, to which the kernel added its product.
    fn error(&self, gpu: &Gpu, out: &DeviceBuffer<f32>) -> Result<f64, ModelError> {
        let mut got = vec![0.0; self.before.len()];
        out.read(gpu, 0, &mut got)?;
        Ok(relative_error(&got, &self.wanted))
    }
}

impl Bench {
    /// Checks products of short prompts in every tiling that fits into shared memory.
    pub(super) fn short_prompts(
        &self,
        name: &str,
        mat: Mat,
        weights: &[f32],
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), ModelError> {
        if !skinny::takes(mat.format()) {
            return Ok(());
        }
        let tuning = Tuning::for_capability(self.gpu.properties.compute_capability);
        let skinny = Gemm::new(&self.gpu, &self.kernels, tuning, None, 0, Vec::new())?.skinny();
        let rows = mat.rows as usize;
        let rounded: Vec<f32> = wide(&halves(weights));
        for groups in skinny::GROUPS {
            let tokens = [1, 7 + random.below(10), 50, 64, 70 + random.below(100)][random.below(5)];
            let Some(tiling) = skinny.limits.tiling(groups, tokens) else { continue };
            let case = ShortPrompt::new(mat, &rounded, tokens, random);
            let x = DeviceBuffer::from_slice(&self.gpu, &case.x)?;
            let out = DeviceBuffer::from_slice(&self.gpu, &case.before)?;
            let (a, c) = ((x.pointer(), tokens), (out.pointer(), 2 * rows));
            skinny.launch(&self.gpu, &[mat, mat], a, c, Epilogue::AddF32, tiling)?;
            let error = case.error(&self.gpu, &out)?;
            report.tell(&format!("short prompt {name}, {tokens} tokens, {groups} groups"), error, 3e-4);
        }
        let Some(kernels) = self.kernels.hopper.filter(|_| HopperSkinny::takes(&[mat, mat])) else { return Ok(()) };
        let skinny = HopperSkinny::new(&self.gpu, kernels.skinny, false);
        for share in [1, 2, 3, 5, 8] {
            let tokens = [1 + random.below(16), 17 + random.below(47), 64, 65 + random.below(100)][random.below(4)];
            let case = ShortPrompt::new(mat, &rounded, tokens, random);
            let x = DeviceBuffer::from_slice(&self.gpu, &case.in_slots())?;
            let out = DeviceBuffer::from_slice(&self.gpu, &case.before)?;
            let (a, c) = ((x.pointer(), tokens, 0), (out.pointer(), 2 * rows));
            // SAFETY: all sizes match the buffers, which live until the read in `error`.
            unsafe { skinny.launch(&self.gpu, &[mat, mat], a, c, Epilogue::AddF32, share)? };
            let error = case.error(&self.gpu, &out)?;
            report.tell(
                &format!("short prompt {name} by the Hopper kernel, {tokens} tokens, {share} share"),
                error,
                3e-4,
            );
        }
        Ok(())
    }

    /// Checks every matrix product of long prompts: cuBLASLt, if present, and chatnap's own.
    pub(super) fn products(
        &self,
        m: usize,
        n: usize,
        k: usize,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), ModelError> {
        let (a, w) = (halves(&random.normals(m * k)), halves(&random.normals(n * k)));
        let before = random.normals(m * n);
        let (fa, fw) = (wide(&a), wide(&w));
        let (da, dw) = (DeviceBuffer::from_slice(&self.gpu, &a)?, DeviceBuffer::from_slice(&self.gpu, &w)?);
        let mat =
            Mat { main: dw.pointer(), rows: n as i32, cols: k as i32, format: Format::Bf16 as i32, ..Mat::default() };
        let mut wanted = Vec::with_capacity(m * n);
        for (row, b) in fa.chunks(k).zip(before.chunks(n)) {
            for (column, b) in fw.chunks(k).zip(b) {
                wanted.push(
                    row.iter().zip(column).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() + f64::from(*b),
                );
            }
        }
        let few = ShortPromptLimits { plain: 0, quantised: 0, hopper: 0 };
        let tuning = Tuning { few, ..Tuning::for_capability(self.gpu.properties.compute_capability) };
        let mut gemm = Gemm::new(&self.gpu, &self.kernels, tuning, None, 0, Vec::new())?;
        let (operands, size) = ((da.pointer(), m), m * n);
        for turn in 0..3 {
            if turn > 0 {
                gemm.use_own(turn == 2);
            }
            let c = DeviceBuffer::from_slice(&self.gpu, &before)?;
            gemm.multiply(&self.gpu, &[mat], operands, (c.pointer(), n), Epilogue::AddF32)?;
            let mut got = vec![0.0; size];
            c.read(&self.gpu, 0, &mut got)?;
            let name = format!("matrix product {m} x {n} x {k}, {}", gemm.backend());
            report.tell(&name, relative_error(&got, &wanted), 1e-5);
        }
        let Some(kernels) = self.kernels.hopper else { return Ok(()) };
        let hopper = HopperGemm { kernels: kernels.gemm, multiprocessors: 3, overlap: false };
        for (index, columns) in hopper_gemm::COLUMNS.into_iter().enumerate() {
            for into in [Epilogue::StoreBf16, Epilogue::AddF32, Epilogue::StoreF32] {
                let c = DeviceBuffer::from_slice(&self.gpu, &before)?;
                let operands = (da.pointer(), dw.pointer(), c.pointer());
                // SAFETY: all sizes match the buffers; a bf16 result uses half of C.
                if !unsafe { hopper.multiply(&self.gpu, index, operands, Problem { m, n, k, ldc: n, into }, m)? } {
                    continue;
                }
                let mut got = vec![0.0; size];
                c.read(&self.gpu, 0, &mut got)?;
                let mut tolerated = 1e-5;
                if into == Epilogue::StoreBf16 {
                    let halves: Vec<u16> =
                        got.iter().flat_map(|v| [v.to_bits() as u16, (v.to_bits() >> 16) as u16]).collect();
                    got = wide(&halves[..size]);
                    tolerated = 4e-3;
                }
                let added = if into == Epilogue::AddF32 { 0.0 } else { 1.0 };
                let wanted: Vec<f64> = wanted.iter().zip(&before).map(|(w, b)| w - added * f64::from(*b)).collect();
                let name = format!("matrix product {m} x {n} x {k} for Hopper, {columns} columns, {into:?}");
                report.tell(&name, relative_error(&got, &wanted), tolerated);
            }
        }
        Ok(())
    }
}
