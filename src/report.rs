//! The test report of a model: plays scenarios, judges the answers by their checks, and measures latency and memory.
//!
//! [`run`] asks an engine of its own and returns a [`Report`], plain data that `commands` prints; `compare` uses both.
//! Stores nothing. All figures of an answer come from [`crate::stats`].

use crate::engine::cpu::{Threads, instruction_set};
use crate::engine::source::{CancelFlag, ModelSource};
use crate::failure::Failure;
use crate::hub::HubSource;
use crate::protocol::*;
use crate::settings::Settings;
use crate::survey;
use crate::usage::TokenPrices;

mod charts;
mod check;
mod data;
mod files;
mod latency;
mod markdown;
mod measures;
mod memory;
mod page_cache;
mod phases;
mod play;
mod python;
pub mod rows;
mod scenario;
mod session;
mod svg;
mod wilson;

pub use check::{Check, Judged, Quantity, Wanted};
pub use data::*;
pub use markdown::markdown;
pub use measures::Script;
pub use scenario::{Scenario, ScenarioError, Scenarios, Turn};
pub use wilson::PassRate;

use session::{Ended, Session};

/// What a run does besides the scenarios.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often each scenario is played, at least once.
    pub repeat: usize,
    /// Run Python code of answers.
    pub run_code: bool,
    /// Measure the latency table.
    pub latency: bool,
    /// Number of warm answers in it.
    pub warm: usize,
    /// Drop the model's files from the page cache before the first load.
    pub drop_caches: bool,
    /// What the server that answers takes; `None`: no server answers, or it has no price.
    pub price: Option<Price>,
    /// Raise it to end the run; the report has what was done until then.
    pub stop: CancelFlag,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            repeat: 1,
            run_code: false,
            latency: true,
            warm: 5,
            drop_caches: false,
            price: None,
            stop: CancelFlag::default(),
        }
    }
}

/// What a server takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// For tokens.
    pub tokens: TokenPrices,
    /// In this currency.
    pub currency: String,
}

/// What the answers of a report cost; answers whose tokens are not known are not in the sum.
fn cost(report: &Report, price: &Price) -> String {
    let turns = report.scenarios.iter().flat_map(|scenario| &scenario.runs).flat_map(|run| &run.turns);
    let counts = |turn: &TurnResult| {
        let figures = turn.figures.as_ref()?;
        Some((figures.prompt_tokens?, figures.completion_tokens?))
    };
    let (counted, open): (Vec<_>, Vec<_>) = turns.map(counts).partition(Option::is_some);
    let sum: f64 = counted.iter().flatten().map(|(prompt, completion)| price.tokens.of(*prompt, *completion)).sum();
    let TokenPrices { input, output } = price.tokens;
    let open = match open.len() {
        0 => String::new(),
        some => format!("; {some} {} no counts", if some == 1 { "answer has" } else { "answers have" }),
    };
    let currency = &price.currency;
    format!(
        "The answers cost {sum:.6} {currency}, at {input} and {output} {currency} a million prompt and answer tokens{open}."
    )
}

/// A progress of the run.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Of a load.
    Load(&'a LoadProgress),
    /// What begins now.
    Says(&'a str),
    /// A repetition of a scenario begins.
    Begins {
        /// The scenario's name.
        name: &'a str,
        /// Its place, counted from 1, and the number of scenarios.
        place: (usize, usize),
        /// The repetition, counted from 1, and their number.
        repetition: (usize, usize),
    },
    /// It has ended.
    Ends {
        /// The scenario's name.
        name: &'a str,
        /// Its result.
        run: &'a ScenarioRun,
    },
}

/// Plays `scenarios` with the model and the sampling values of `settings`; a report decodes greedily unless their
/// temperature says otherwise, which is the caller's choice. An error if the model cannot be loaded. After the stop flag
/// was raised, or if the device is lost on the way, the report has what was done and `complete: false`.
pub fn run(
    settings: &Settings,
    scenarios: &Scenarios,
    options: &Options,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Report, Failure> {
    let settings = &survey::settled(settings);
    let mut report = empty(settings, scenarios, options);
    // Download before anything is measured.
    let mut source = HubSource::new(settings)?;
    let files = if source.server().is_some() {
        report.notes.push("A server answered: no memory and no latency of loads was measured.".into());
        None
    } else {
        match source.locate(&mut |step| progress(Step::Load(&step)), &options.stop) {
            Err(error) if error.kind == ErrorKind::Cancelled => return Ok(report),
            located => Some(located?),
        }
    };
    let mut session = Session::start(settings, options)?;
    let python = options.run_code.then(python::Python::find);
    if python.as_ref().is_some_and(|python| !python.cuts_network()) {
        report.notes.push("The network was not cut for the code that was run: the kernel does not allow it.".into());
    }
    let seed = base_seed(settings);
    let latency = (options.latency && files.is_some()).then(|| {
        let page_cache = page_cache::look(files.as_ref(), options.drop_caches);
        Latency { page_cache, ..Latency::default() }
    });
    let mut measured = Ok(());
    report.latency = latency.map(|mut latency| {
        measured = latency::measure(&mut session, options, seed, &mut latency, progress);
        latency
    });
    let ended = measured.and_then(|()| {
        let play = play::Play { options, python: python.as_ref(), seed };
        play.all(&mut session, &scenarios.list, &mut report.scenarios, progress)
    });
    match ended {
        Ok(()) => report.complete = true,
        Err(Ended::Stopped) => {}
        Err(Ended::Failed(error)) if nothing_done(&report) => return Err(error.into()),
        Err(Ended::Failed(error)) => report.notes.push(format!("The run ended early: {}", error.message)),
    }
    if options.repeat > 1 && seed.is_none() {
        report.notes.push("At temperature 0 the repetitions are alike; a temperature above 0 varies them.".into());
    }
    if let Some(price) = &options.price {
        report.notes.push(cost(&report, price));
    }
    fill(&mut report, session, settings, seed);
    Ok(report)
}

fn nothing_done(report: &Report) -> bool {
    report.scenarios.is_empty() && report.latency.as_ref().is_none_or(|latency| latency.cold.is_none())
}

/// The seed of the first repetition; `None` at temperature 0, which draws nothing.
fn base_seed(settings: &Settings) -> Option<u64> {
    let greedy = settings.sampling.temperature == Some(0.0);
    (!greedy).then(|| settings.sampling.seed.unwrap_or_else(random_seed))
}

/// A report of which nothing is done yet.
fn empty(settings: &Settings, scenarios: &Scenarios, options: &Options) -> Report {
    let now = jiff::Timestamp::now();
    let header = Header {
        date: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        build: build(),
        engine: None,
        model: ModelFacts { name: settings.model.clone(), ..ModelFacts::default() },
        device: DeviceFacts {
            threads: Threads::new(settings.threads).n(),
            instructions: instruction_set().to_string(),
            ..DeviceFacts::default()
        },
        sampling: sampling(&settings.sampling.resolve(&Recommended::default()), base_seed(settings)),
        scenarios: scenarios.name.clone(),
        repeat: options.repeat.max(1),
        run_code: options.run_code,
    };
    Report {
        format: FORMAT,
        complete: false,
        header,
        scenarios: Vec::new(),
        latency: None,
        memory_over_time: Vec::new(),
        notes: Vec::new(),
    }
}

/// Adds what is known about the model by now.
fn fill(report: &mut Report, session: Session<'_>, settings: &Settings, seed: Option<u64>) {
    if let Some(info) = &session.info {
        let header = &mut report.header;
        header.model = ModelFacts {
            name: info.name.clone(),
            architecture: info.architecture.clone(),
            quantization: info.quantization.clone(),
            parameters: info.parameters,
            context_length: info.context_length,
            weights_bytes: info.memory.weights,
            kv_cache_bytes: info.memory.kv_cache,
            hash: session.trace.as_ref().map(|trace| trace.model_hash.clone()),
            template_hash: session.trace.as_ref().map(|trace| trace.template_hash.clone()),
        };
        header.engine = session.trace.as_ref().map(|trace| trace.build.clone());
        (header.device.kind, header.device.name) = (info.device.kind, info.device.name.clone());
        header.sampling = sampling(&settings.sampling.resolve(&info.sampling), seed);
    }
    report.notes.extend(session.warnings.iter().cloned());
    report.memory_over_time = session.end();
}

fn sampling(params: &SamplingParams, seed: Option<u64>) -> SamplingFacts {
    // The digits of the 32-bit number.
    let number = |value: f32| value.to_string().parse().unwrap_or_default();
    SamplingFacts {
        temperature: number(params.temperature),
        top_k: params.top_k,
        top_p: number(params.top_p),
        min_p: number(params.min_p),
        repeat_penalty: number(params.repeat_penalty),
        seed,
    }
}

/// `release, linux x86_64, CUDA`.
fn build() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let device = if cfg!(cuda) { "CUDA" } else { "CPU only" };
    format!("{profile}, {} {}, {device}", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests;
