//! Matrix products of weights and activations: selects the kernel and distributes the rows among the threads.

use super::activations::Activations;
#[cfg(target_arch = "aarch64")]
use super::neon as gemv;
#[cfg(target_arch = "aarch64")]
use super::neon_gemm;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::{GgmlType, Isa, Matrix, Threads, panel, scalar};
#[cfg(target_arch = "x86_64")]
use super::{gemm, gemm_float, gemv};

/// `out[i * w.rows() + r] = w[r] · x[i]` for each activation row `i`.
///
/// # Panics
/// If the columns differ or `out.len() != x.rows() * w.rows()`.
pub fn matmul(pool: &Threads, w: &Matrix, x: &mut Activations, out: &mut [f32]) {
    matmul_many(pool, &mut [(w, out)], x);
}

/// Several products with the same activations (query, key and value; gate and up) in one parallel loop.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_many(pool: &Threads, jobs: &mut [(&Matrix, &mut [f32])], x: &mut Activations) {
    for (w, out) in jobs.iter() {
        assert_eq!(w.cols(), x.cols(), "a matrix has as many columns as its input has numbers");
        assert_eq!(out.len(), x.rows() * w.rows(), "the output has a number for each row and input");
        x.prepare(pool, w.kind());
    }
    let x = &*x;
    let outs: Vec<Output> = jobs.iter_mut().map(|(_, out)| Output(out.as_mut_ptr())).collect();
    let rows: usize = jobs.iter().map(|(w, _)| w.rows()).sum();
    let jobs: Vec<&Matrix> = jobs.iter().map(|&(w, _)| w).collect();
    pool.split(rows, STEP, &|start, end| {
        let mut base = 0;
        for (&w, out) in jobs.iter().zip(&outs) {
            let (from, to) = (start.max(base), end.min(base + w.rows()));
            if from < to {
                // SAFETY: `split` returns disjoint ranges of rows, clamped to this matrix above, and `out` has an
                // element for each row and input (checked at entry).
                unsafe { rows_of(pool, w, x, from - base, to - base, out) };
            }
            base += w.rows();
        }
    });
}

/// Rows are distributed in multiples of this.
const STEP: usize = 16;

/// Pointer to a product's output; threads write disjoint rows of it.
struct Output(*mut f32);

// SAFETY: `rows_of` requires disjoint rows.
unsafe impl Sync for Output {}

/// # Safety
/// `out` must have `x.rows() * w.rows()` elements, and nothing else may access rows `start..end` of it.
unsafe fn rows_of(pool: &Threads, w: &Matrix, x: &Activations, start: usize, end: usize, out: &Output) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if pool.isa() != Isa::Plain && x.rows() >= gemm_from(w.kind()) {
        for from in (start..end).step_by(panel::ROWS) {
            let to = (from + panel::ROWS).min(end);
            let rows = panel::Rows { kind: w.kind(), bytes: w.row_range(from, to), count: to - from, cols: w.cols() };
            // SAFETY: the CPU supports the pool's `Isa`; rows and activations match (checked at entry).
            unsafe { panel_of(pool.isa(), rows, x, out.0.add(from), w.rows()) };
        }
        return;
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if pool.isa() != Isa::Plain && w.kind().is_quantised() {
        let (bytes, count, cols, stride) = (w.row_range(start, end), end - start, w.cols(), w.rows());
        for i in (0..x.rows()).step_by(gemv::ROWS) {
            let batch = gemv::ROWS.min(x.rows() - i);
            let rows = x.quantised().range(i * cols, (i + batch) * cols);
            // SAFETY: the CPU supports the pool's `Isa`; rows and activations match (checked at entry).
            unsafe {
                let out = out.0.add(i * stride + start);
                gemv::multiply(pool.isa(), w.kind(), bytes, count, rows, batch, out, stride);
            }
        }
        return;
    }
    let bytes = w.row_range(start, end);
    for i in 0..x.rows() {
        // SAFETY: guaranteed by the caller; `i < x.rows()` and `start..end` are rows of `w`.
        let out = unsafe { std::slice::from_raw_parts_mut(out.0.add(i * w.rows() + start), end - start) };
        let range = i * x.cols()..(i + 1) * x.cols();
        if w.kind().is_quantised() {
            let row = x.quantised().range(range.start, range.end);
            scalar::gemv_quantised(pool.isa(), w.kind(), bytes, row, out);
        } else {
            float_rows(pool.isa(), w.kind(), bytes, &x.floats()[range], out);
        }
    }
}

/// `out[r] = rows[r] · x` for a float type.
fn float_rows(isa: Isa, kind: GgmlType, rows: &[u8], x: &[f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Plain {
        // SAFETY: the CPU supports the pool's `Isa`, and every one but `Plain` includes AVX2 here.
        return unsafe { gemv::multiply_float(kind, rows, x, out) };
    }
    scalar::gemv_float(isa, kind, rows, x, out);
}

/// Minimum activation rows for which unpacking the weights once into a panel is faster.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn gemm_from(kind: GgmlType) -> usize {
    match (kind.is_quantised(), cfg!(target_arch = "x86_64")) {
        (true, true) => 3,
        // Float weights are cheaper to widen twice than to transpose into a panel.
        (false, true) => 4,
        (true, false) => gemv::ROWS + 1,
        (false, false) => usize::MAX,
    }
}

/// Multiplies up to sixteen weight rows with all activation rows.
///
/// # Safety
/// As `gemm::multiply`.
#[cfg(target_arch = "x86_64")]
unsafe fn panel_of(isa: Isa, rows: panel::Rows<'_>, x: &Activations, out: *mut f32, stride: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if rows.kind.is_quantised() {
            gemm::multiply(isa, rows, x.quantised(), out, stride);
        } else {
            gemm_float::multiply(isa, rows, x.floats(), out, stride);
        }
    }
}

/// Multiplies up to sixteen weight rows with all activation rows.
///
/// # Safety
/// As `neon_gemm::multiply`.
#[cfg(target_arch = "aarch64")]
unsafe fn panel_of(_: Isa, rows: panel::Rows<'_>, x: &Activations, out: *mut f32, stride: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe { neon_gemm::multiply(rows, x.quantised(), out, stride) }
}
