//! GEMM on x86: quantised weights times several activation rows.
//!
//! Sixteen weight rows are unpacked into a [`Panel`], a block of columns at a time. A few activation rows at a time are
//! multiplied with the whole panel, their sums in registers. The byte dot products of VNNI sum four products per
//! instruction. Without VNNI, pairs of products are summed in 16 bits for as many columns as the format's largest byte
//! allows (`X86::CHAIN`), then widened.

use std::cell::RefCell;

use super::Isa;
use super::activations::Quantised;
use super::dequantize::with_quant;
use super::interleave::{interleave_ymm, interleave_zmm, transpose8};
use super::panel::{COLUMNS, GROUPS, Panel, ROWS, Rows, Target, with_rows};
use super::vectors::{ymm, zmm};
use super::x86::{CHUNK, Groups, X86};

thread_local! {
    static SCRATCH: RefCell<Box<Scratch>> = RefCell::new(Box::new(Scratch::new()));
}

/// Buffers of one thread.
struct Scratch {
    panel: Panel,
    /// Scales and minima row by row, before they are transposed into the panel.
    of_rows: [Groups; ROWS],
}

impl Scratch {
    const fn new() -> Self {
        Self { panel: Panel::new(), of_rows: [const { Groups::new() }; ROWS] }
    }
}

/// `out[i * stride + r] = rows[r] · x[i]` for all activation rows.
///
/// # Safety
/// The CPU must support `isa` (AVX2 at least); `rows.bytes` must match its other fields, and `x` must have whole rows
/// of `rows.cols`. `out` must have `rows.count` elements at each `i * stride`, which nothing else may access.
pub(super) unsafe fn multiply(isa: Isa, rows: Rows<'_>, x: &Quantised, out: *mut f32, stride: usize) {
    debug_assert!(rows.count <= ROWS && x.q.len().is_multiple_of(rows.cols));
    SCRATCH.with_borrow_mut(|scratch| {
        // SAFETY: guaranteed by the caller.
        with_quant!(rows.kind, Q => unsafe {
            match isa {
                Isa::Avx512Vnni => avx512vnni::multiply::<Q>(scratch, rows, x, out, stride),
                Isa::Avx512 => avx512::multiply::<Q>(scratch, rows, x, out, stride),
                Isa::AvxVnni => avxvnni::multiply::<Q>(scratch, rows, x, out, stride),
                _ => avx2::multiply::<Q>(scratch, rows, x, out, stride),
            }
        }, else ());
    });
}

/// A few activation rows, from a given column on.
#[derive(Clone, Copy)]
struct Part {
    q: *const i8,
    scale: *const f32,
    sum: *const f32,
    /// Row strides: elements, and groups.
    cols: usize,
    row_groups: usize,
    /// Number of groups to multiply.
    groups: usize,
}

/// Unpacks scales and minima of blocks `from..to` of each row into the panel.
///
/// # Safety
/// Needs AVX2 and F16C; the blocks must be inside the rows and have at most `COLUMNS` elements.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack_groups<Q: X86>(scratch: &mut Scratch, rows: Rows<'_>, from: usize, to: usize) {
    const { assert!(COLUMNS <= CHUNK) };
    let row_bytes = rows.cols / Q::N * Q::BYTES;
    let groups = (to - from) * (Q::N / Q::GROUP);
    let Scratch { panel: Panel { scale: scales, min: mins, .. }, of_rows } = scratch;
    for (r, of_row) in of_rows.iter_mut().enumerate() {
        // Missing rows repeat the last one; their results are not stored.
        let row = &rows.bytes[r.min(rows.count - 1) * row_bytes..][from * Q::BYTES..to * Q::BYTES];
        // SAFETY: whole blocks of at most `CHUNK` elements.
        unsafe { Q::row_groups(row, of_row) };
    }
    let whole = groups / 8 * 8;
    for g in (0..whole).step_by(8) {
        for half in 0..2 {
            let load = |of: fn(&Groups) -> &[f32; CHUNK / 16]| {
                let at = |r: usize| of(&of_rows[8 * half + r])[g..g + 8].as_ptr();
                // SAFETY: eight elements from `g` on.
                let row = |r: usize| unsafe { std::arch::x86_64::_mm256_loadu_si256(at(r).cast()) };
                transpose8([row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)])
            };
            let (scale, min) = (load(|groups| &groups.scale), load(|groups| &groups.min));
            for j in 0..8 {
                let at = (g + j) * ROWS + 8 * half;
                let (to_scale, to_min) = (&mut scales[at..at + 8], &mut mins[at..at + 8]);
                // SAFETY: both have eight elements.
                unsafe {
                    std::arch::x86_64::_mm256_storeu_si256(to_scale.as_mut_ptr().cast(), scale[j]);
                    std::arch::x86_64::_mm256_storeu_si256(to_min.as_mut_ptr().cast(), min[j]);
                }
            }
        }
    }
    for g in whole..groups {
        for (r, of_row) in of_rows.iter().enumerate() {
            scales[g * ROWS + r] = of_row.scale[g];
            mins[g * ROWS + r] = of_row.min[g];
        }
    }
}

macro_rules! kernels {
    ($name:ident, $features:literal, $v:ident, $interleave:ident, rows: $most:literal, $dots:ident $(($dot:path))?) => {
        mod $name {
            use super::*;

            /// Activation rows whose sums fit in registers.
            const MOST: usize = $most;

            /// See the dispatching `multiply`.
            ///
            /// # Safety
            /// As for the dispatching `multiply`; the CPU must support the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn multiply<Q: X86>(
                scratch: &mut Scratch,
                rows: Rows<'_>,
                x: &Quantised,
                out: *mut f32,
                stride: usize,
            ) {
                let (blocks, step, row_groups) = (rows.cols / Q::N, COLUMNS / Q::N, rows.cols / Q::GROUP);
                let (scale, sum) = if Q::GROUP == 16 { (&x.scale16, &x.sum16) } else { (&x.scale, &x.sum) };
                let n = x.q.len() / rows.cols;
                debug_assert!(scale.len() == n * row_groups && sum.len() == n * row_groups);
                for from in (0..blocks).step_by(step) {
                    let to = (from + step).min(blocks);
                    // SAFETY: guaranteed by the caller; the blocks have at most `COLUMNS` elements.
                    unsafe { unpack::<Q>(scratch, rows, from, to) };
                    for i in (0..n).step_by(MOST) {
                        let group = i * row_groups + from * (Q::N / Q::GROUP);
                        // SAFETY: activation rows `i..n.min(i + MOST)` from column `from * Q::N` on; `out` is
                        // guaranteed by the caller.
                        unsafe {
                            let part = Part {
                                q: x.q.as_ptr().add(i * rows.cols + from * Q::N),
                                scale: scale.as_ptr().add(group),
                                sum: sum.as_ptr().add(group),
                                cols: rows.cols,
                                row_groups,
                                groups: (to - from) * (Q::N / Q::GROUP),
                            };
                            let out = out.add(i * stride);
                            let target = Target { out, stride, count: rows.count, add: from > 0 };
                            with_rows!(MOST.min(n - i), tile::<Q, M>(&scratch.panel, part, target));
                        }
                    }
                }
            }

            /// Unpacks blocks `from..to` of each row into the panel.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn unpack<Q: X86>(scratch: &mut Scratch, rows: Rows<'_>, from: usize, to: usize) {
                // SAFETY: guaranteed by the caller.
                unsafe { unpack_groups::<Q>(scratch, rows, from, to) };
                let (parts, row_bytes) = (Q::N / 32, rows.cols / Q::N * Q::BYTES);
                for b in from..to {
                    let block = |r: usize| {
                        let at = r.min(rows.count - 1) * row_bytes + b * Q::BYTES;
                        rows.bytes[at..at + Q::BYTES].as_ptr()
                    };
                    for part in 0..parts {
                        let at = ((b - from) * parts + part) * 32 * ROWS;
                        let out = scratch.panel.q[at..at + 32 * ROWS].as_mut_ptr();
                        // SAFETY: each block is whole; `out` has 32 columns.
                        unsafe { $interleave(|r| Q::part(block(r), part), out) };
                    }
                }
            }

            /// Multiplies a panel with `M` activation rows.
            #[target_feature(enable = $features)]
            unsafe fn tile<Q: X86, const M: usize>(panel: &Panel, part: Part, target: Target) {
                debug_assert!(part.groups * Q::GROUP <= COLUMNS && part.groups <= GROUPS);
                let mut total = [[$v::zero_float(); $v::HALVES]; M];
                for g in 0..part.groups {
                    // SAFETY: group `g` of the panel and of `M` activation rows.
                    unsafe {
                        let q = panel.q.as_ptr().add(g * Q::GROUP * ROWS);
                        let dots = dots::<Q, M>(q, part.q.add(g * Q::GROUP), part.cols);
                        for h in 0..$v::HALVES {
                            let at = g * ROWS + h * (ROWS / $v::HALVES);
                            let scale = $v::load_floats(panel.scale.as_ptr().add(at));
                            let min = $v::load_floats(panel.min.as_ptr().add(at));
                            for m in 0..M {
                                let at = m * part.row_groups + g;
                                let factor = $v::mul(scale, $v::set_float(*part.scale.add(at)));
                                total[m][h] = $v::fmadd($v::to_float(dots[m][h]), factor, total[m][h]);
                                if !SIGNED || !Q::WIDE {
                                    total[m][h] = $v::fmadd(min, $v::set_float(*part.sum.add(at)), total[m][h]);
                                }
                            }
                        }
                    }
                }
                for (m, total) in total.into_iter().enumerate() {
                    let mut sums = [0f32; ROWS];
                    for (h, total) in total.into_iter().enumerate() {
                        // SAFETY: the lanes of the register are inside `sums`.
                        unsafe { $v::store_floats(sums.as_mut_ptr().add(h * (ROWS / $v::HALVES)), total) };
                    }
                    // SAFETY: guaranteed by the caller.
                    unsafe { target.store(m, &sums) };
                }
            }

            $dots!($features, $v $(, $dot)?);
        }
    };
}

/// Dot products of a group with the byte dot products of VNNI.
macro_rules! vnni {
    ($features:literal, $v:ident, $dot:path) => {
        /// Whether wide formats are multiplied as signed bytes (128 subtracted), which need no minimum.
        const SIGNED: bool = false;

        /// # Safety
        /// Readable: at `q` a group of the panel; at `x` a group of each of `M` activation rows, `cols` apart.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn dots<Q: X86, const M: usize>(q: *const u8, x: *const i8, cols: usize) -> [[$v::Int; $v::HALVES]; M] {
            let mut dots = [[$v::zero(); $v::HALVES]; M];
            for k in 0..Q::GROUP / 4 {
                // SAFETY: guaranteed by the caller.
                unsafe {
                    let w: [$v::Int; $v::HALVES] =
                        std::array::from_fn(|h| $v::load(q.add((k * $v::HALVES + h) * (64 / $v::HALVES)).cast()));
                    for m in 0..M {
                        let x = $v::set32(x.add(m * cols + 4 * k).cast::<i32>().read_unaligned());
                        for h in 0..$v::HALVES {
                            dots[m][h] = $dot(dots[m][h], w[h], x);
                        }
                    }
                }
            }
            dots
        }
    };
}

/// Dot products of a group in 16 bits, widened after `X86::CHAIN` steps of four columns.
macro_rules! pairs {
    ($features:literal, $v:ident) => {
        /// Whether wide formats are multiplied as signed bytes (128 subtracted), which need no minimum.
        const SIGNED: bool = true;

        /// # Safety
        /// Readable: at `q` a group of the panel; at `x` a group of each of `M` activation rows, `cols` apart.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn dots<Q: X86, const M: usize>(q: *const u8, x: *const i8, cols: usize) -> [[$v::Int; $v::HALVES]; M] {
            let mut dots = [[$v::zero(); $v::HALVES]; M];
            let steps = Q::GROUP / 4;
            for chain in (0..steps).step_by(Q::CHAIN.min(steps)) {
                let mut sums = [[$v::zero(); $v::HALVES]; M];
                for k in chain..chain + Q::CHAIN.min(steps) {
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        let w: [$v::Int; $v::HALVES] =
                            std::array::from_fn(|h| $v::load(q.add((k * $v::HALVES + h) * (64 / $v::HALVES)).cast()));
                        for m in 0..M {
                            let x = $v::set32(x.add(m * cols + 4 * k).cast::<i32>().read_unaligned());
                            for h in 0..$v::HALVES {
                                // abs(-128) is 128 as an unsigned byte, and 2 * 128 * 127 fits in 16 bits.
                                let product = if Q::WIDE {
                                    let w = $v::xor(w[h], $v::set8(i8::MIN));
                                    $v::maddubs($v::abs8(w), $v::sign8(x, w))
                                } else {
                                    $v::maddubs(w[h], x)
                                };
                                sums[m][h] = $v::add16(sums[m][h], product);
                            }
                        }
                    }
                }
                for m in 0..M {
                    for h in 0..$v::HALVES {
                        dots[m][h] = $v::add32(dots[m][h], $v::madd16(sums[m][h], $v::set16(1)));
                    }
                }
            }
            dots
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", ymm, interleave_ymm, rows: 4, pairs);
kernels!(avxvnni, "avx2,fma,f16c,avxvnni", ymm, interleave_ymm, rows: 6, vnni(std::arch::x86_64::_mm256_dpbusd_avx_epi32));
kernels!(
    avx512,
    "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq",
    zmm,
    interleave_zmm,
    rows: 8,
    pairs
);
kernels!(
    avx512vnni,
    "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    zmm,
    interleave_zmm,
    rows: 8,
    vnni(std::arch::x86_64::_mm512_dpbusd_epi32)
);
