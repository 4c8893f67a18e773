//! The charts of a report: latency by phase, memory over time, tokens per second.

use super::data::{FirstAnswer, MemorySample, PhaseName, Report, Warm};
use super::rows::span;
use super::svg::{Anchor, PALETTES, Palette, Svg};
use crate::wording::bytes;

/// The charts: the beginning of the file's name, and what is shown.
pub const CHARTS: [(&str, &str); 3] = [
    ("latency", "Latency by phase: from the request to the first token"),
    ("memory", "Memory over time"),
    ("speed", "Tokens per second of each answer"),
];

/// Width of each picture.
const WIDTH: f64 = 760.0;

/// Where the bars begin: left of it are their names.
const LEFT: f64 = 190.0;

/// Where the bars end: right of it are their figures.
const RIGHT: f64 = 670.0;

/// Height of a bar with its gap.
const ROW: f64 = 30.0;

/// Every chart for light and dark pages: its file's name and content.
pub fn charts(report: &Report) -> Vec<(String, String)> {
    let draw: [fn(&Report, Palette, &str) -> String; 3] = [latency, memory, speed];
    let mut files = Vec::new();
    for ((name, title), draw) in CHARTS.iter().zip(draw) {
        files.extend(PALETTES.iter().map(|page| (format!("{name}-{}.svg", page.name), draw(report, *page, title))));
    }
    files
}

/// A bar for each answer that needed a load, divided into phases, and one for the median of the warm answers.
fn latency(report: &Report, palette: Palette, title: &str) -> String {
    let latency = report.latency.as_ref();
    let first = |name: &str, first: Option<&FirstAnswer>| {
        let phases = first.map(|first| first.phases.iter().map(|phase| (phase.name, phase.ms)).collect::<Vec<_>>());
        (name.to_owned(), phases.unwrap_or_default())
    };
    let warm = latency.and_then(|latency| latency.warm.as_ref()).map(median).unwrap_or_default();
    let bars = [
        first("cold start", latency.and_then(|latency| latency.cold.as_ref())),
        first("after the release", latency.and_then(|latency| latency.after_release.as_ref())),
        ("warm, median".to_owned(), warm),
    ];
    let mut names: Vec<PhaseName> = Vec::new();
    for (name, _) in bars.iter().flat_map(|(_, phases)| phases) {
        if !names.contains(name) {
            names.push(*name);
        }
    }
    let sum = |phases: &[(PhaseName, f64)]| phases.iter().map(|(_, ms)| ms).sum::<f64>();
    let longest = bars.iter().map(|(_, phases)| sum(phases)).fold(0.0, f64::max);
    let mut svg = Svg::new(palette, WIDTH, 110.0 + ROW * bars.len() as f64, title);
    for (row, (name, phases)) in bars.iter().enumerate() {
        let y = 46.0 + ROW * row as f64;
        svg.text((LEFT - 10.0, y + 15.0), Anchor::End, name);
        let mut x = LEFT;
        for (phase, ms) in phases {
            let width = scaled(*ms, longest);
            svg.bar(x, y, width, ROW - 8.0, *phase as usize);
            x += width;
        }
        let total = (!phases.is_empty()).then(|| sum(phases));
        svg.text((x + 8.0, y + 15.0), Anchor::Start, &span(total));
    }
    let legend: Vec<_> = names.iter().map(|name| (*name as usize, name.words())).collect();
    svg.legend(16.0, 60.0 + ROW * bars.len() as f64, &legend);
    svg.finish()
}

/// The phases of the warm answer with the median time to first token; none if it is unknown.
fn median(warm: &Warm) -> Vec<(PhaseName, f64)> {
    let median = warm.answers.iter().find(|answer| answer.ttft_ms.is_some() && answer.ttft_ms == warm.ttft_p50_ms);
    let Some((answer, ttft)) = median.and_then(|answer| Some((answer, answer.ttft_ms?))) else { return Vec::new() };
    let prefill = answer.prefill_ms.min(ttft);
    vec![(PhaseName::Prefill, prefill), (PhaseName::FirstToken, ttft - prefill)]
}

/// Lines of the process's resident memory, and of the GPU's where it is known.
fn memory(report: &Report, palette: Palette, title: &str) -> String {
    const HEIGHT: f64 = 300.0;
    type Of = fn(&MemorySample) -> Option<u64>;
    const LINES: [(&str, Of); 3] = [
        ("process, resident", |sample| sample.memory.resident_bytes),
        ("process, on the GPU", |sample| sample.memory.gpu_own_bytes),
        ("all processes, on the GPU", |sample| sample.memory.gpu_used_bytes),
    ];
    let (left, right, top, bottom) = (80.0, WIDTH - 20.0, 50.0, HEIGHT - 60.0);
    let samples = &report.memory_over_time;
    let most = samples.iter().flat_map(|sample| LINES.iter().filter_map(|(_, of)| of(sample))).max().unwrap_or(0);
    let (end, ceiling) = (samples.last().map_or(0.0, |sample| sample.at_ms).max(1.0), nice(most as f64).max(1.0));
    let mut svg = Svg::new(palette, WIDTH, HEIGHT, title);
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (x, y) = (left + share * (right - left), bottom - share * (bottom - top));
        svg.rule((left, y), (right, y));
        svg.text((left - 8.0, y + 4.0), Anchor::End, &bytes((ceiling * share) as u64));
        svg.text((x, bottom + 18.0), Anchor::Middle, &format!("{:.1} s", end * share / 1000.0));
    }
    let mut legend = Vec::new();
    for (series, (name, of)) in LINES.iter().enumerate() {
        let known = samples.iter().filter_map(|sample| Some((sample.at_ms, of(sample)?)));
        let point = |(at, bytes): (f64, u64)| {
            (left + at / end * (right - left), bottom - bytes as f64 / ceiling * (bottom - top))
        };
        let points: Vec<_> = known.map(point).collect();
        if points.len() > 1 {
            svg.curve(&points, series);
            legend.push((series, *name));
        }
    }
    svg.legend(left, HEIGHT - 28.0, &legend);
    svg.finish()
}

/// A bar for each answer of the first repetitions.
fn speed(report: &Report, palette: Palette, title: &str) -> String {
    let mut bars = Vec::new();
    for scenario in &report.scenarios {
        let turns = scenario.runs.first().map(|run| run.turns.as_slice()).unwrap_or_default();
        for (index, turn) in turns.iter().enumerate() {
            let name =
                if turns.len() > 1 { format!("{}, {}", scenario.name, index + 1) } else { scenario.name.clone() };
            bars.push((name, turn.figures.as_ref().and_then(|figures| figures.tokens_per_second)));
        }
    }
    let fastest = bars.iter().filter_map(|(_, speed)| *speed).fold(0.0, f64::max);
    let mut svg = Svg::new(palette, WIDTH, 60.0 + ROW * bars.len() as f64, title);
    for (row, (name, speed)) in bars.iter().enumerate() {
        let y = 46.0 + ROW * row as f64;
        let width = scaled(speed.unwrap_or(0.0), fastest);
        svg.text((LEFT - 10.0, y + 15.0), Anchor::End, &short(name));
        svg.bar(LEFT, y, width, ROW - 8.0, 0);
        let figure = speed.map_or("–".to_owned(), |speed| format!("{speed:.1}"));
        svg.text((LEFT + width + 8.0, y + 15.0), Anchor::Start, &figure);
    }
    svg.finish()
}

/// The length of a bar in pixels.
fn scaled(value: f64, most: f64) -> f64 {
    if most > 0.0 { value / most * (RIGHT - LEFT) } else { 0.0 }
}

/// At least `value`: 1, 2 or 5 times a power of ten.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

/// A name that fits left of its bar.
fn short(name: &str) -> String {
    const MOST: usize = 26;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!([0.0, 0.7, 1.0, 1.1, 230.0, 5_100_000.0].map(nice), [0.0, 1.0, 1.0, 2.0, 500.0, 10_000_000.0]);
        assert_eq!((scaled(5.0, 10.0), scaled(0.0, 0.0)), ((RIGHT - LEFT) / 2.0, 0.0));
        assert_eq!(short(&"x".repeat(27)), format!("{}…", "x".repeat(25)));
    }
}
