//! Checks the GPU's sampler against the host's, with the same logits, parameters, history and random draw.
//!
//! With a top-k of 1 to 1024 the GPU ranks its candidates and must draw the host's token. Without such a top-k it does
//! not rank: it keeps the same tokens, and the same draw selects among their probabilities in the order of their ids
//! instead of their ranks. Sums of floats differ in their last digits, so if the draw or the bound of a filter is
//! within `DRAW` or `BOUND` of the boundary between two tokens, both are accepted. The accepted tokens are computed
//! here in f64. If every logit is NaN or -inf the GPU must report that; the host's sampler is not called then.

use std::collections::{BTreeSet, HashMap};

use super::{Random, Report};
use crate::engine::cuda::decode::NOTHING;
use crate::engine::cuda::driver::{DeviceBuffer, Gpu, GpuProperties, LaunchConfig, PinnedBuffer};
use crate::engine::cuda::kernels::Kernels;
use crate::engine::cuda::params::{SampleArgs, State};
use crate::engine::error::ModelError;
use crate::engine::sampler::Sampler;
use crate::protocol::SamplingParams;

/// Tolerance of a draw, as a share of the total probability.
const DRAW: f64 = 2e-5;
/// Relative tolerance of the bound of top-p or min-p.
const BOUND: f64 = 2e-5;
/// The increment of SplitMix64 (golden ratio) between consecutive draws of one seed.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
/// Capacity of the GPU's ring of history tokens.
const HISTORY: usize = 512;
/// Limits of the ranking in `sample.cu`: candidates in its list, maximum top-k, and histogram bins over the distances.
const LIST: usize = 4096;
const MOST: usize = 1024;
const BINS: f64 = 2048.0;

/// The inputs of one draw.
#[derive(Debug)]
struct Case {
    logits: Vec<f32>,
    params: SamplingParams,
    recent: Vec<u32>,
    seed: u64,
    step: u64,
}

/// Checks draws from vocabularies of several sizes; `part` divides the number of rounds.
pub(super) fn check(
    gpu: &Gpu,
    kernels: &Kernels,
    part: i32,
    random: &mut Random,
    report: &mut Report,
) -> Result<(), ModelError> {
    for (vocab, rounds) in [(1, 40), (7, 200), (300, 1000), (5000, 2000), (49_152, 100), (128_256, 60)] {
        let rounds = (rounds / part).max(1);
        let on_gpu = GpuSampler::new(vocab)?;
        let (mut wrong, mut other, mut ranked) = (0, 0, 0);
        for round in 0..rounds {
            let case = Case::random(vocab, round, random);
            let token = on_gpu.draw(gpu, kernels, &case)?;
            let nothing = case.penalised().iter().all(|logit| *logit == f32::NEG_INFINITY);
            let accepted = if nothing { BTreeSet::from([NOTHING]) } else { case.accepted() };
            if !accepted.contains(&token) {
                wrong += 1;
                let (params, first) = (&case.params, accepted.iter().take(8).collect::<Vec<_>>());
                println!("     drew {token}, not one of {first:?}: round {round}, {params:?}");
            }
            if !nothing && case.is_ranked() {
                ranked += 1;
                other += usize::from(case.host() != token);
            }
        }
        let draws = format!("sampler, {rounds} draws from {vocab} tokens");
        report.tell(&format!("{draws}: wrong ones"), f64::from(wrong), 0.0);
        let share = other as f64 / f64::from(ranked.max(1));
        report.tell(&format!("{draws}: {ranked} ranked, not the CPU's token"), share, 2e-3);
    }
    Ok(())
}

/// Opens the GPU and runs all rounds of the sampler check.
pub fn sampler(properties: GpuProperties, seed: u64, report: &mut Report) -> Result<(), ModelError> {
    let mut gpu = Gpu::open(properties)?;
    let kernels = Kernels::load(&mut gpu)?;
    check(&gpu, &kernels, 1, &mut Random(seed), report)
}

/// Device buffers for one vocabulary size.
struct GpuSampler {
    vocab: usize,
    logits: DeviceBuffer<f32>,
    state: DeviceBuffer<State>,
    history: DeviceBuffer<i32>,
    out: PinnedBuffer,
}

impl GpuSampler {
    fn new(vocab: usize) -> Result<Self, ModelError> {
        Ok(Self {
            vocab,
            logits: DeviceBuffer::new(vocab)?,
            state: DeviceBuffer::new(1)?,
            history: DeviceBuffer::new(HISTORY)?,
            out: PinnedBuffer::new(64 * 4)?,
        })
    }

    fn draw(&self, gpu: &Gpu, kernels: &Kernels, case: &Case) -> Result<u32, ModelError> {
        self.logits.write(gpu, 0, &case.logits)?;
        let recent: Vec<i32> = case.recent.iter().map(|token| *token as i32).collect();
        self.history.write(gpu, 0, &recent)?;
        let params = &case.params;
        let state = State {
            history_len: recent.len() as i32,
            step: case.step as i32,
            best: case.packed_best(),
            seed: case.seed,
            temperature: params.temperature,
            top_p: params.top_p,
            min_p: params.min_p,
            repeat_penalty: params.repeat_penalty,
            frequency_penalty: params.frequency_penalty,
            presence_penalty: params.presence_penalty,
            top_k: params.top_k as i32,
            repeat_last_n: params.repeat_last_n.min(HISTORY) as i32,
            ..State::default()
        };
        self.state.write(gpu, 0, &[state])?;
        let args = SampleArgs {
            logits: self.logits.pointer(),
            vocab: self.vocab as i32,
            history_capacity: HISTORY as i32,
            state: self.state.pointer(),
            history: self.history.pointer(),
            out: self.out.pointer() as u64,
            out_capacity: 64,
            pad: 0,
        };
        let shape =
            LaunchConfig { grid: (1, 1, 1), threads: 1024, shared: 0, overlap: false, ..LaunchConfig::default() };
        // SAFETY: the buffers have the capacities in `args` and exist until the wait below.
        unsafe { kernels.sample.launch(gpu.stream, shape, &args)? };
        gpu.synchronize()?;
        // SAFETY: the ring has 64 cells of 4 bytes, and the kernel that wrote this cell has completed.
        Ok(unsafe { self.out.pointer().cast::<u32>().add(case.step as usize % 64).read_volatile() })
    }
}

/// A random element of `values`.
fn one<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len())]
}

impl Case {
    fn random(vocab: usize, round: i32, random: &mut Random) -> Self {
        let logits = logits(vocab, random);
        // Every fourth draw uses the default parameters, the others random ones.
        let params = if round % 4 == 0 { SamplingParams::default() } else { parameters(random) };
        let count = if params.repeat_last_n == 0 { 0 } else { random.below(params.repeat_last_n.min(HISTORY) + 1) };
        // Few distinct tokens, so that some repeat often.
        let kinds = vocab.min(40);
        let recent = (0..count).map(|_| (random.below(kinds) * (vocab / kinds)) as u32).collect();
        Self { logits, params, recent, seed: random.next(), step: random.below(5000) as u64 }
    }

    /// The argmax that the logits kernel writes to `State::best`: ordered float, then the lowest id.
    fn packed_best(&self) -> u64 {
        let key = |(id, logit): (usize, &f32)| {
            let bits = logit.max(f32::NEG_INFINITY).to_bits();
            let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            u64::from(ordered) << 32 | u64::from(u32::MAX - id as u32)
        };
        self.logits.iter().enumerate().map(key).max().unwrap_or(0)
    }

    /// The token that the host's sampler draws.
    fn host(&self) -> u32 {
        let mut sampler = Sampler::new(&self.params, self.seed.wrapping_add(self.step.wrapping_mul(STEP)));
        self.recent.iter().for_each(|token| sampler.accept(*token));
        sampler.sample(&mut self.logits.clone())
    }

    /// The random draw, in 0..1.
    fn unit(&self) -> f64 {
        let mut z = self.seed.wrapping_add((self.step + 1).wrapping_mul(STEP));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Logits after the penalties, in f32 as in both samplers; NaN becomes -inf.
    fn penalised(&self) -> Vec<f32> {
        let mut logits: Vec<f32> = self.logits.iter().map(|l| l.max(f32::NEG_INFINITY)).collect();
        let mut counts: HashMap<u32, u32> = HashMap::new();
        self.recent.iter().for_each(|token| *counts.entry(*token).or_default() += 1);
        let p = &self.params;
        let penalties = p.repeat_penalty != 1.0 || p.frequency_penalty != 0.0 || p.presence_penalty != 0.0;
        for (token, count) in counts.into_iter().filter(|_| penalties) {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            *logit = if *logit <= 0.0 { *logit * p.repeat_penalty } else { *logit / p.repeat_penalty };
            *logit -= count as f32 * p.frequency_penalty + p.presence_penalty;
        }
        logits.iter().map(|l| l.max(f32::NEG_INFINITY)).collect()
    }

    fn is_greedy(&self) -> bool {
        self.params.temperature <= 0.0 || !self.params.temperature.is_finite()
    }

    fn top_k(&self) -> usize {
        if self.params.top_k == 0 { self.logits.len() } else { self.params.top_k.min(self.logits.len()) }
    }

    /// Whether the GPU ranks the candidates: top-k is within `MOST`, and ties with the last candidate fit `LIST`.
    fn is_ranked(&self) -> bool {
        self.is_greedy() || self.top_k() <= MOST && self.crowd(&Ranking::new(&self.penalised()), self.top_k()) <= LIST
    }

    /// Width of a histogram bin of the GPU, as a distance from the best logit.
    fn bin(&self) -> f64 {
        32.0 * f64::from(self.params.temperature.max(1.0)) / BINS
    }

    /// An upper bound for the tokens in the GPU's bins up to that of the `k`-th candidate.
    fn crowd(&self, ranking: &Ranking, k: usize) -> usize {
        ranking.within(ranking.distance[k - 1] + self.bin())
    }

    /// Every token that a correct sampler may draw.
    fn accepted(&self) -> BTreeSet<u32> {
        let ranking = Ranking::new(&self.penalised());
        if self.is_greedy() {
            return BTreeSet::from([ranking.ids[0]]);
        }
        let k = self.top_k();
        let (exact, crowded) = (k <= MOST, self.crowd(&ranking, k) > LIST - 512);
        let mut accepted = BTreeSet::new();
        if exact {
            self.filtered(&ranking, &BTreeSet::from([k]), 0.0, &mut |kept| {
                self.drawn(&ranking, kept, false, &mut accepted)
            });
        }
        if !exact || crowded {
            // After two rounds of histograms, distances closer than this are equal for the GPU.
            let blur = self.bin() / BINS * 1.01;
            let first = if k < self.logits.len() { ranking.ends(k, blur) } else { BTreeSet::from([k]) };
            self.filtered(&ranking, &first, blur, &mut |kept| self.drawn(&ranking, kept, true, &mut accepted));
        }
        accepted
    }

    /// Calls `each` with every number of candidates that top-p and min-p may keep of the first `counts`.
    fn filtered(&self, ranking: &Ranking, counts: &BTreeSet<usize>, blur: f64, each: &mut dyn FnMut(usize)) {
        let (top_p, min_p) = (f64::from(self.params.top_p), f64::from(self.params.min_p.min(1.0)));
        let mut left = BTreeSet::new();
        for &count in counts {
            if top_p >= 1.0 || top_p.is_nan() {
                left.insert(count);
                continue;
            }
            let weights: Vec<f64> = ranking.distance[..count].iter().map(|z| (-z).exp()).collect();
            let total: f64 = weights.iter().sum();
            for off in [-BOUND, 0.0, BOUND] {
                let mut sum = 0.0;
                let reached = weights.iter().position(|weight| {
                    sum += weight;
                    sum >= top_p * total * (1.0 + off)
                });
                let kept = reached.map_or(count, |last| last + 1);
                left.extend(if blur > 0.0 { ranking.ends(kept, blur) } else { BTreeSet::from([kept]) });
            }
        }
        let mut last = BTreeSet::new();
        for count in left {
            if min_p > 0.0 {
                let most = -min_p.ln();
                last.extend([1.0 - BOUND, 1.0, 1.0 + BOUND].map(|off| count.min(ranking.within(most * off).max(1))));
            } else {
                last.insert(count);
            }
        }
        last.into_iter().for_each(each);
    }

    /// Adds the tokens among the first `kept` that the draw may select.
    fn drawn(&self, ranking: &Ranking, kept: usize, by_id: bool, accepted: &mut BTreeSet<u32>) {
        let temperature = f64::from(self.params.temperature);
        let weight = |i: usize| (ranking.ids[i], (-ranking.distance[i] / temperature).exp());
        let mut candidates: Vec<(u32, f64)> = (0..kept).map(weight).collect();
        if by_id {
            candidates.sort_unstable_by_key(|(id, _)| *id);
        }
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let (least, most) = ((self.unit() - DRAW) * total, (self.unit() + DRAW) * total);
        let mut before = 0.0;
        for (id, weight) in candidates {
            let after = before + weight;
            if weight > 0.0 && after >= least && before <= most {
                accepted.insert(id);
            }
            before = after;
        }
        if most >= total {
            // The cumulative sum can fall short of the draw by rounding: the sampler then takes the most likely token.
            accepted.insert(ranking.ids[0]);
        }
    }
}

/// Tokens by descending logit, then ascending id, with their distances from the best logit as on the GPU.
struct Ranking {
    ids: Vec<u32>,
    distance: Vec<f64>,
}

impl Ranking {
    fn new(logits: &[f32]) -> Self {
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        let logit = |id: &u32| logits[*id as usize];
        ids.sort_unstable_by(|a, b| logit(b).total_cmp(&logit(a)).then(a.cmp(b)));
        let top = logit(&ids[0]);
        let away = |id| if logit(id) == top { 0.0 } else { f64::from(top - logit(id)) };
        let distance = ids.iter().map(away).collect();
        Self { ids, distance }
    }

    /// The number of tokens within `limit` of the best.
    fn within(&self, limit: f64) -> usize {
        self.distance.partition_point(|z| *z <= limit)
    }

    /// The possible numbers of tokens before a bound that should be after the `count`-th: it may move up to `blur`
    /// further, or half of that back, because the histogram's sums are rounded down.
    fn ends(&self, count: usize, blur: f64) -> BTreeSet<usize> {
        let at = self.distance[count - 1];
        let (first, last) = (self.within(at - blur / 2.0).max(1), self.within(at + blur));
        (first..=last).filter(|end| *end == last || self.distance[*end] > self.distance[*end - 1]).collect()
    }
}

/// Random logits of several kinds: like those of models, with ties, with NaN and infinities, all equal.
fn logits(vocab: usize, random: &mut Random) -> Vec<f32> {
    let mut logits: Vec<f32> = random.normals(vocab).iter().map(|v| v * 3.0).collect();
    match random.below(8) {
        0 => logits.iter_mut().for_each(|l| *l = (*l * 2.0).round() / 2.0),
        1 => logits.iter_mut().for_each(|l| *l = (*l * 16.0).round() / 16.0),
        2 => spoil(&mut logits, &[f32::NAN], 3, random),
        3 => spoil(&mut logits, &[f32::NEG_INFINITY, f32::NAN], 2, random),
        4 => spoil(&mut logits, &[f32::INFINITY], vocab, random),
        5 if random.below(4) == 0 => logits.fill(one(random, &[f32::NAN, f32::NEG_INFINITY, 0.0, -7.5])),
        _ => {}
    }
    // No negative zeros: the host ranks them below zero, the GPU as equal.
    logits.iter().map(|l| l + 0.0).collect()
}

/// Replaces about one in `every` logits by one of `values`.
fn spoil(logits: &mut [f32], values: &[f32], every: usize, random: &mut Random) {
    for logit in logits {
        if random.below(every) == 0 {
            *logit = one(random, values);
        }
    }
}

fn parameters(random: &mut Random) -> SamplingParams {
    let penalties = random.below(2) == 0;
    let mut penalty = |values: &[f32], none: f32| if penalties { one(random, values) } else { none };
    let (repeat_penalty, frequency_penalty, presence_penalty) =
        (penalty(&[1.0, 1.1, 1.5], 1.0), penalty(&[0.0, 0.5, -0.25], 0.0), penalty(&[0.0, 0.5, 2.0], 0.0));
    SamplingParams {
        temperature: one(random, &[0.0, 0.1, 0.7, 1.0, 1.5, 5.0]),
        top_k: one(random, &[0, 0, 1, 5, 40, 200, 1000, 2000]),
        top_p: one(random, &[1.0, 1.0, 0.95, 0.5, 0.05, 0.0]),
        min_p: one(random, &[0.0, 0.0, 0.05, 0.5, 1.0]),
        repeat_penalty,
        frequency_penalty,
        presence_penalty,
        repeat_last_n: one(random, &[0, 1, 64, 300]),
        ..SamplingParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The accepted tokens must contain the host's draw, and few others, or the check would be too weak.
    #[test]
    fn accepted_tokens_contain_the_host_token_and_few_others() {
        let mut random = Random(1);
        let (mut ranked, mut accepted) = (0, 0);
        for round in 0..1500 {
            let case = Case::random([300, 3000][round as usize % 2], round, &mut random);
            if !case.is_ranked() {
                continue;
            }
            let right = case.accepted();
            assert!(right.contains(&case.host()), "{} is not one of {right:?}: {:?}", case.host(), case.params);
            (ranked, accepted) = (ranked + 1, accepted + right.len());
        }
        assert!(ranked > 800 && accepted < ranked + ranked / 10, "{accepted} accepted in {ranked} draws");
    }

    #[test]
    fn unranked_draw_goes_by_id_over_the_same_probabilities() {
        let mut counts = [0; 4];
        for step in 0..4000 {
            let params =
                SamplingParams { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplingParams::default() };
            let case = Case { logits: vec![0.0; 4000], params, recent: Vec::new(), seed: 9, step };
            let tokens = case.accepted();
            assert!(tokens.len() <= 2, "{tokens:?}");
            assert!(tokens.contains(&((case.unit() * 4000.0) as u32)), "by id");
            counts[*tokens.iter().next().unwrap_or(&0) as usize / 1000] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn packed_best_matches_the_kernel_encoding() {
        let case = |logits: Vec<f32>| {
            let params = SamplingParams::default();
            Case { logits, params, recent: Vec::new(), seed: 0, step: 0 }.packed_best()
        };
        let id = |key: u64| u32::MAX - key as u32;
        assert_eq!(id(case(vec![-3.0, 2.0, 2.0, f32::NAN])), 1);
        assert_eq!(id(case(vec![f32::NAN, -2.0, -1.0])), 2);
        assert_eq!(case(vec![1.0]) >> 32, 0xbf80_0000);
    }
}
