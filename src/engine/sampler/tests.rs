//! Tests the sampler against a naive implementation, and with infinite and NaN logits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

/// The documented chain, implemented with full sorts. Returns the tokens that may be drawn, most likely first, with
/// probabilities that add up to 1.
fn naive(params: &SamplingParams, history: &[u32], logits: &[f32]) -> Vec<(u32, f64)> {
    let mut logits = logits.to_vec();
    let recent = &history[history.len().saturating_sub(params.repeat_last_n)..];
    for (id, logit) in logits.iter_mut().enumerate() {
        let count = recent.iter().filter(|&&token| token as usize == id).count();
        if count > 0 {
            *logit = if *logit <= 0.0 { *logit * params.repeat_penalty } else { *logit / params.repeat_penalty };
            *logit -= count as f32 * params.frequency_penalty + params.presence_penalty;
        }
    }
    let mut rows: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(id, &logit)| (id as u32, f64::from(logit))).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if params.top_k > 0 {
        rows.truncate(params.top_k);
    }
    let soften = |rows: &[(u32, f64)], temperature: f64| -> Vec<f64> {
        let weights: Vec<f64> = rows.iter().map(|row| ((row.1 - rows[0].1) / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    };
    let mut sum = 0.0;
    let reached = soften(&rows, 1.0).iter().position(|p| {
        sum += p;
        sum >= f64::from(params.top_p)
    });
    if params.top_p < 1.0 {
        rows.truncate(reached.map_or(rows.len(), |last| last + 1));
    }
    let best = rows[0].1;
    rows.retain(|row| (row.1 - best).exp() >= f64::from(params.min_p));
    let probabilities = soften(&rows, f64::from(params.temperature));
    rows.iter().zip(probabilities).map(|(row, p)| (row.0, p)).collect()
}

prop_compose! {
    fn any_params()(
        temperature in 0.1f32..2.0, top_k in 0usize..40, top_p in 0.3f32..1.1, min_p in 0.0f32..0.3,
        repeat_penalty in 0.8f32..1.5, repeat_last_n in 0usize..12, frequency_penalty in -0.5f32..0.5, presence_penalty in -0.5f32..0.5,
    ) -> SamplingParams {
        SamplingParams { temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, frequency_penalty, presence_penalty, seed: None }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_sampled_token_is_allowed_by_the_naive_chain(
        params in any_params(), logits in prop::collection::vec(-8.0f32..8.0, 1..200),
        history in prop::collection::vec(0u32..200, 0..20), seed in any::<u64>(),
    ) {
        let allowed = naive(&params, &history, &logits);
        // A cumulative sum at the threshold can round to either side of it: the sampler uses another precision.
        let loose = SamplingParams { top_p: params.top_p + 1e-5, min_p: (params.min_p - 1e-5).max(0.0), ..params.clone() };
        let loose = naive(&loose, &history, &logits);
        let mut sampler = Sampler::new(&params, seed);
        history.iter().for_each(|&token| sampler.accept(token));
        for _ in 0..8 {
            let token = sampler.sample(&mut logits.clone());
            prop_assert!(loose.iter().any(|row| row.0 == token), "{} of {:?}", token, allowed);
        }
        prop_assert_eq!(allowed[0].0, loose[0].0);
        let mut first = Sampler::new(&SamplingParams { temperature: 0.0, ..params }, seed);
        history.iter().for_each(|&token| first.accept(token));
        prop_assert_eq!(first.sample(&mut logits.clone()), allowed[0].0);
    }

    #[test]
    fn top_k_by_partial_selection_matches_a_full_sort(
        logits in prop::collection::vec((-20i8..20).prop_map(|x| f32::from(x) / 4.0), 900..1500), k in 1usize..100,
    ) {
        let params = SamplingParams { top_k: k, ..SamplingParams::default() };
        let mut sampler = Sampler::new(&params, 1);
        sampler.select(&logits);
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        prop_assert_eq!(sampler.candidates.iter().map(|c| c.id).collect::<Vec<_>>(), &ids[..k]);
    }

    #[test]
    fn nan_and_infinite_logits_never_select_an_impossible_token(
        logits in prop::collection::vec(prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), -3.0f32..3.0], 1..50),
        params in any_params(), seed in any::<u64>(),
    ) {
        for temperature in [0.0, params.temperature] {
            let mut sampler = Sampler::new(&SamplingParams { temperature, ..params.clone() }, seed);
            let token = sampler.sample(&mut logits.clone()) as usize;
            prop_assert!(token < logits.len());
            if logits.iter().any(|logit| logit.is_finite()) {
                prop_assert!(logits[token] > f32::NEG_INFINITY, "token {} of {:?}", token, logits);
            }
        }
    }
}

#[test]
fn draws_follow_the_naive_probabilities() {
    let params = SamplingParams { temperature: 0.7, top_k: 5, top_p: 0.9, min_p: 0.02, ..SamplingParams::default() };
    let logits = [1.0, 2.0, 0.5, -1.0, 1.5, 0.0, 1.9];
    let expected = naive(&params, &[], &logits);
    let mut sampler = Sampler::new(&params, 42);
    let draws = 40_000;
    let mut counts = [0u32; 7];
    for _ in 0..draws {
        counts[sampler.sample(&mut logits.clone()) as usize] += 1;
    }
    for (id, &count) in counts.iter().enumerate() {
        let p = expected.iter().find(|row| row.0 as usize == id).map_or(0.0, |row| row.1);
        // Five standard deviations.
        let tolerance = 5.0 * (p * (1.0 - p) / f64::from(draws)).sqrt();
        assert!((f64::from(count) / f64::from(draws) - p).abs() <= tolerance, "{id}: {count} of {draws}, expected {p}");
    }
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 / 200.0).collect();
    let run = |seed| {
        let mut sampler = Sampler::new(&SamplingParams::default(), seed);
        (0..50).map(|_| sampler.sample(&mut logits.clone())).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn greedy_takes_the_lowest_id_on_a_tie() {
    let mut sampler = Sampler::new(&greedy(), 0);
    assert_eq!(sampler.sample(&mut [0.0, 3.0, 3.0, 1.0]), 1);
    assert_eq!(sampler.sample(&mut [f32::NAN, f32::NEG_INFINITY]), 0);
    assert_eq!(sampler.sample(&mut []), 0);
}

#[test]
fn penalties_ignore_tokens_outside_of_repeat_last_n() {
    let params = SamplingParams { repeat_penalty: 2.0, repeat_last_n: 2, ..greedy() };
    let mut sampler = Sampler::new(&params, 0);
    let logits = [3.0, 2.0, 1.0];
    assert_eq!(sampler.sample(&mut logits.clone()), 0);
    sampler.accept(0);
    assert_eq!(sampler.sample(&mut logits.clone()), 1);
    sampler.accept(1);
    sampler.accept(2);
    assert_eq!(sampler.sample(&mut logits.clone()), 0);
    let params = SamplingParams { frequency_penalty: 0.6, ..greedy() };
    let mut sampler = Sampler::new(&params, 0);
    sampler.accept(0);
    assert_eq!(sampler.sample(&mut logits.clone()), 0);
    sampler.accept(0);
    assert_eq!(sampler.sample(&mut logits.clone()), 1);
}

#[test]
fn a_large_vocabulary_is_sampled_quickly() {
    let logits: Vec<f32> = (0..131_072u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6).collect();
    let mut sampler = Sampler::new(&SamplingParams::default(), 3);
    let started = std::time::Instant::now();
    for _ in 0..20 {
        assert!((sampler.sample(&mut logits.clone()) as usize) < logits.len());
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}
