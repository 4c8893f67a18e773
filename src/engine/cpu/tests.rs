//! Every kernel against f64 on fresh random input, for each instruction set that this CPU supports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

/// A small generator (xorshift64*), seeded from the clock, so that each run uses other input. `fresh` prints the seed,
/// which the output of a failing test shows.
pub(super) struct Random(pub u64);

impl Random {
    pub fn fresh() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64 | 1;
        println!("seed {seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    /// Uniform in -1..1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// A matrix of random bytes with small scales: every bit pattern of the quants occurs.
pub(super) fn random_matrix(random: &mut Random, kind: GgmlType, rows: usize, cols: usize) -> Matrix {
    let bytes = kind.row_bytes(cols).unwrap() * rows;
    let mut data: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
    let put = |data: &mut [u8], at: usize, x: f32| data[at..at + 2].copy_from_slice(&half::f32_to_f16(x).to_le_bytes());
    for block in data.chunks_exact_mut(kind.block_bytes()) {
        let (d, m) = (random.float() * 0.1, random.float() * 0.1);
        match kind {
            GgmlType::F32 => block.copy_from_slice(&d.to_le_bytes()),
            GgmlType::F16 => put(block, 0, d),
            GgmlType::BF16 => block.copy_from_slice(&::half::bf16::from_f32(d).to_le_bytes()),
            GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => put(block, 0, d),
            GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4K | GgmlType::Q5K => {
                put(block, 0, d);
                put(block, 2, m);
            }
            GgmlType::Q2K => {
                put(block, 80, d);
                put(block, 82, m);
            }
            GgmlType::Q3K => put(block, 108, d),
            GgmlType::Q6K => put(block, 208, d),
        }
    }
    Matrix::new(kind, rows, cols, AlignedBytes::copy_of(&data).unwrap()).unwrap()
}

fn dequantised(w: &Matrix) -> Vec<f32> {
    let mut all = vec![0.0; w.rows() * w.cols()];
    for (row, out) in all.chunks_exact_mut(w.cols()).enumerate() {
        w.dequantize_row(row, out);
    }
    all
}

fn pools() -> Vec<Threads> {
    Isa::available().flat_map(|isa| [1, 3].map(|n| Threads::with_isa(Some(n), isa))).collect()
}

/// Error bound for 8-bit activations: rounding is uniform within a step of each block (variance step²/12), weighted by
/// the weights. Errors of random sign add in quadrature; the bound is six standard deviations plus f32 rounding.
fn tolerance(kind: GgmlType, w: &[f32], x: &[f32]) -> f64 {
    let exact: f64 = w.iter().zip(x).map(|(&w, &x)| (f64::from(w) * f64::from(x)).abs()).sum();
    if !kind.is_quantised() {
        return exact * 4e-6 + 1e-6;
    }
    let variance: f64 = w
        .chunks(32)
        .zip(x.chunks(32))
        .map(|(w, x)| {
            let step = f64::from(x.iter().fold(0f32, |a, b| a.max(b.abs()))) / 127.0;
            w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() * step * step / 12.0
        })
        .sum();
    6.0 * variance.sqrt() + exact * 1e-5
}

#[test]
fn products_agree_with_f64_for_every_type_shape_and_batch() {
    let mut random = Random::fresh();
    for pool in pools() {
        for kind in GgmlType::ALL {
            for batch in [1, 2, 3, 7, 8, 9, 17, 33] {
                let (rows, cols) = (1 + random.below(70), 256 * (1 + random.below(3)));
                let cols = if kind.block_size() == 1 { cols + random.below(40) } else { cols };
                let cols = if kind.block_size() == 32 { cols + 32 * random.below(5) } else { cols };
                let w = random_matrix(&mut random, kind, rows, cols);
                let (weights, x) = (dequantised(&w), random.floats(batch * cols));
                let mut activations = Activations::new();
                activations.set(&pool, &x, batch, cols);
                let mut out = vec![f32::NAN; batch * rows];
                matmul(&pool, &w, &mut activations, &mut out);
                for i in 0..batch {
                    for r in 0..rows {
                        let (w, x) = (&weights[r * cols..(r + 1) * cols], &x[i * cols..(i + 1) * cols]);
                        let exact: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        let error = (f64::from(out[i * rows + r]) - exact).abs();
                        assert!(
                            error <= tolerance(kind, w, x),
                            "{kind:?} {:?} {rows}x{cols} batch {batch} at {i},{r}: {} instead of {exact}",
                            pool.isa(),
                            out[i * rows + r]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_scalar_reference() {
    let mut random = Random::fresh();
    for kind in GgmlType::ALL {
        for batch in [1, 5, 16, 50] {
            let (rows, cols) = (1 + random.below(50), 512);
            let w = random_matrix(&mut random, kind, rows, cols);
            let (weights, x) = (dequantised(&w), random.floats(batch * cols));
            let mut results = pools().into_iter().map(|pool| {
                let mut activations = Activations::new();
                activations.set(&pool, &x, batch, cols);
                let mut out = vec![f32::NAN; batch * rows];
                matmul(&pool, &w, &mut activations, &mut out);
                (pool.isa(), out)
            });
            let (_, plain) = results.next().unwrap();
            for (isa, out) in results {
                for (at, (a, b)) in plain.iter().zip(&out).enumerate() {
                    let (w, x) = (&weights[at % rows * cols..][..cols], &x[at / rows * cols..][..cols]);
                    let size: f32 = w.iter().zip(x).map(|(w, x)| (w * x).abs()).sum();
                    assert!((a - b).abs() <= 4e-6 * size, "{kind:?} {isa:?} batch {batch}: {a} {b}");
                }
            }
        }
    }
}

#[test]
fn matmul_many_equals_separate_products() {
    let mut random = Random::fresh();
    for pool in pools() {
        for batch in [1, 12] {
            let matrices: Vec<Matrix> = [(GgmlType::Q4_1, 40), (GgmlType::Q8_0, 7), (GgmlType::F16, 33)]
                .into_iter()
                .map(|(kind, rows)| random_matrix(&mut random, kind, rows, 96))
                .collect();
            let mut x = Activations::new();
            x.set(&pool, &random.floats(batch * 96), batch, 96);
            let mut together: Vec<Vec<f32>> = matrices.iter().map(|w| vec![0.0; batch * w.rows()]).collect();
            let mut jobs: Vec<(&Matrix, &mut [f32])> =
                matrices.iter().zip(&mut together).map(|(w, out)| (w, out.as_mut_slice())).collect();
            matmul_many(&pool, &mut jobs, &mut x);
            for (w, together) in matrices.iter().zip(&together) {
                let mut alone = vec![0.0; batch * w.rows()];
                matmul(&pool, w, &mut x, &mut alone);
                assert_eq!(&alone, together);
            }
        }
    }
}

struct Case {
    heads: usize,
    kv_heads: usize,
    d: usize,
    window: Option<usize>,
    rows: usize,
    position: usize,
}

fn check_attention(random: &mut Random, pool: &Threads, case: &Case) {
    let Case { heads, kv_heads, d, window, rows, position } = *case;
    let end = position + rows;
    let mut cache = KvCache::new(2, kv_heads, end + random.below(30), d).unwrap();
    let (keys, values) = (random.floats(end * kv_heads * d), random.floats(end * kv_heads * d));
    // Two writes, as for prefill and decode; the other layer holds other values.
    let cut = random.below(end + 1) * kv_heads * d;
    cache.write(pool, 0, 0, &values, &keys);
    cache.write(pool, 1, 0, &keys[..cut], &values[..cut]);
    cache.write(pool, 1, cut / (kv_heads * d), &keys[cut..], &values[cut..]);
    let q = random.floats(rows * heads * d);
    let mut out = vec![f32::NAN; q.len()];
    let shape = AttentionShape { heads, scale: 0.7, window };
    attention(pool, &shape, &cache, 1, &q, position, &mut out);
    let round = |x: f32| f64::from(half::f16_to_f32(half::f32_to_f16(x)));
    for i in 0..rows {
        for h in 0..heads {
            let kv = h / (heads / kv_heads);
            let seen = window.map_or(0, |w| (position + i + 1).saturating_sub(w))..position + i + 1;
            let q = &q[(i * heads + h) * d..][..d];
            let at = |j: usize| (j * kv_heads + kv) * d;
            let score = |j: usize| {
                let dot: f64 = q.iter().zip(&keys[at(j)..]).map(|(&q, &k)| f64::from(q) * round(k)).sum();
                (dot * f64::from(0.7f32)).exp()
            };
            let weights: Vec<f64> = seen.clone().map(score).collect();
            let sum: f64 = weights.iter().sum();
            for e in 0..d {
                let exact: f64 =
                    seen.clone().zip(&weights).map(|(j, w)| w * round(values[at(j) + e])).sum::<f64>() / sum;
                let got = f64::from(out[(i * heads + h) * d + e]);
                assert!(
                    (got - exact).abs() < 3e-5,
                    "{:?} rows {rows} at {position}, row {i} head {h}: {got} {exact}",
                    pool.isa()
                );
            }
        }
    }
}

#[test]
fn attention_agrees_with_f64_for_every_shape() {
    let mut random = Random::fresh();
    for pool in pools() {
        for (heads, kv_heads, d) in [(9, 3, 64), (8, 2, 128), (4, 4, 80), (7, 1, 24), (6, 3, 96), (2, 2, 256)] {
            for (rows, position) in [(1, 0), (1, 15), (1, 700), (2, 16), (5, 3), (40, 0), (19, 130)] {
                let window = [None, Some(1), Some(20), Some(300)][random.below(4)];
                check_attention(&mut random, &pool, &Case { heads, kv_heads, d, window, rows, position });
            }
        }
        check_attention(
            &mut random,
            &pool,
            &Case { heads: 6, kv_heads: 2, d: 64, window: None, rows: 1, position: 2100 },
        );
    }
}

/// With 16 threads and 8 key heads the keys of these positions are split into 8 parts, which once left the last one empty.
#[test]
fn attention_of_one_row_agrees_with_f64_for_every_number_of_threads() {
    let mut random = Random::fresh();
    for (threads, kv_heads) in [(16, 8), (2, 1), (32, 2), (5, 3)] {
        for position in [2049, 2100, 2239] {
            let case = Case { heads: kv_heads, kv_heads, d: 16, window: None, rows: 1, position };
            check_attention(&mut random, &Threads::new(Some(threads)), &case);
        }
    }
}

#[test]
fn row_operations_agree_with_f64() {
    let mut random = Random::fresh();
    for pool in pools() {
        for (rows, width) in [(1, 576), (3, 37), (70, 300)] {
            let (x, weight) = (random.floats(rows * width), random.floats(width));
            let mut out = vec![0.0; x.len()];
            rms_norm(&pool, &x, &weight, 1e-5, &mut out);
            let mut in_place = x.clone();
            rms_norm_heads(&pool, &mut in_place, &weight, 1e-5);
            for (i, row) in x.chunks(width).enumerate() {
                let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
                for e in 0..width {
                    let exact = f64::from(row[e]) / (mean + 1e-5).sqrt() * f64::from(weight[e]);
                    assert!((f64::from(out[i * width + e]) - exact).abs() < 2e-6);
                    assert!((f64::from(in_place[i * width + e]) - exact).abs() < 2e-6);
                }
            }
            let gate: Vec<f32> = random.floats(x.len()).iter().map(|g| g * 20.0).collect();
            let (mut silu, mut gelu, mut sum) = (gate.clone(), gate.clone(), gate.clone());
            silu_mul(&pool, &mut silu, &x);
            gelu_mul(&pool, &mut gelu, &x);
            add(&pool, &x, &mut sum);
            for e in 0..x.len() {
                let (g, u) = (f64::from(gate[e]), f64::from(x[e]));
                let tanh = (0.797_884_560_8 * (g + 0.044_715 * g.powi(3))).tanh();
                let exact = g / (1.0 + (-g).exp()) * u;
                assert!((f64::from(silu[e]) - exact).abs() < 1e-6 * (1.0 + exact.abs()));
                let exact = 0.5 * g * (1.0 + tanh) * u;
                assert!((f64::from(gelu[e]) - exact).abs() < 2e-6 * (1.0 + exact.abs()));
                assert_eq!(sum[e], gate[e] + x[e]);
            }
        }
    }
}

#[test]
fn rope_rotates_pairs_in_both_layouts_and_leaves_the_rest() {
    let mut random = Random::fresh();
    for pool in pools() {
        for (rows, heads, d, pairs) in [(1, 9, 64, 32), (5, 2, 80, 16), (60, 4, 128, 64)] {
            let x = random.floats(rows * heads * d);
            let angles = random.floats(rows * pairs);
            let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
            for layout in [RopeLayout::Norm, RopeLayout::Neox] {
                let mut out = x.clone();
                rope(&pool, layout, &mut out, d, &cos, &sin, rows);
                for (head, (x, out)) in x.chunks(d).zip(out.chunks(d)).enumerate() {
                    for p in 0..pairs {
                        let (a, b) = if layout == RopeLayout::Norm { (2 * p, 2 * p + 1) } else { (p, p + pairs) };
                        let (c, s) = (cos[head / heads * pairs + p], sin[head / heads * pairs + p]);
                        assert!((out[a] - (x[a] * c - x[b] * s)).abs() < 1e-6);
                        assert!((out[b] - (x[a] * s + x[b] * c)).abs() < 1e-6);
                    }
                    assert_eq!(out[2 * pairs..], x[2 * pairs..]);
                }
            }
        }
    }
}

#[test]
fn q4_0_block_dequantises_to_hand_computed_values() {
    // Q4_0 with d = 2: low nibbles 0 to 15, high nibbles 15 to 0.
    let mut block = half::f32_to_f16(2.0).to_le_bytes().to_vec();
    block.extend((0..16u8).map(|i| i | ((15 - i) << 4)));
    let w = Matrix::new(GgmlType::Q4_0, 1, 32, AlignedBytes::copy_of(&block).unwrap()).unwrap();
    let expected: Vec<f32> =
        (0..16).map(|i| 2.0 * (i as f32 - 8.0)).chain((0..16).map(|i| 2.0 * (7.0 - i as f32))).collect();
    assert_eq!(dequantised(&w), expected);
}

#[test]
fn matrix_new_rejects_data_of_the_wrong_size() {
    let data = || AlignedBytes::zeroed(36).unwrap();
    assert!(Matrix::new(GgmlType::Q4_0, 2, 32, data()).is_ok());
    assert!(Matrix::new(GgmlType::Q4_0, 3, 32, data()).is_err());
    assert!(Matrix::new(GgmlType::Q4_0, 1, 33, data()).is_err());
    assert!(Matrix::new(GgmlType::Q4_0, usize::MAX, 32, data()).is_err());
    assert!(Matrix::new(GgmlType::Q4_0, 1, 0, data()).is_err());
}

#[test]
fn every_type_dequantises_like_candle() {
    use candle_core::quantized::{GgmlDType, QStorage, QTensor};
    let mut random = Random::fresh();
    for (kind, theirs) in [
        (GgmlType::F16, GgmlDType::F16),
        (GgmlType::BF16, GgmlDType::BF16),
        (GgmlType::Q4_0, GgmlDType::Q4_0),
        (GgmlType::Q4_1, GgmlDType::Q4_1),
        (GgmlType::Q5_0, GgmlDType::Q5_0),
        (GgmlType::Q5_1, GgmlDType::Q5_1),
        (GgmlType::Q8_0, GgmlDType::Q8_0),
        (GgmlType::Q2K, GgmlDType::Q2K),
        (GgmlType::Q3K, GgmlDType::Q3K),
        (GgmlType::Q4K, GgmlDType::Q4K),
        (GgmlType::Q5K, GgmlDType::Q5K),
        (GgmlType::Q6K, GgmlDType::Q6K),
    ] {
        let w = random_matrix(&mut random, kind, 3, 512);
        let device = candle_core::Device::Cpu;
        let storage = QStorage::from_data(w.row_range(0, 3).to_vec().into(), &device, theirs).unwrap();
        let tensor = QTensor::new(storage, (3, 512)).unwrap().dequantize(&device).unwrap();
        let expected = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (ours, theirs) in dequantised(&w).iter().zip(&expected) {
            assert!((ours - theirs).abs() <= 1e-6 * theirs.abs(), "{kind:?}: {ours} {theirs}");
        }
    }
}
