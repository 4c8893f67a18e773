//! `chatnap bench`: speed at depths, and `bench perplexity`: how well the model predicts a text.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Figure, Test, measure};
use crate::cli::args::{BenchArgs, BenchCommand, TableFormat};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::{self, Reader};
use crate::cli::table::Table;
use crate::engine::cpu::{Threads, instruction_set, read_bandwidth};
use crate::engine::model::load::ModelParts;
use crate::engine::model::perplexity::{DEFAULT_CHUNK, perplexity};
use crate::engine::model::{self, LoadOptions, LoadedModel, ModelError};
use crate::engine::{CancelFlag, ModelFiles, ModelSource};
use crate::hub::{HubSource, human};
use crate::oneshot::Progress;
use crate::protocol::DeviceKind;
use crate::sanitize::sanitize_line;
use crate::settings::{Origin, Resolved, Settings};

/// Depths that show a CPU's limits within a minute or two.
const ON_CPU: &[&str] = &["pp64", "pp512", "pp2048", "tg64", "tg64@2048", "tg64@8192"];

/// Depths that show a card's.
const ON_CUDA: &[&str] = &["pp64", "pp512", "pp2048", "tg64", "tg64@4096", "tg64@16384"];

/// A text larger than this (64 MiB) would take days.
const LARGEST_TEXT: u64 = 64 << 20;

pub(super) fn run(resolved: &Resolved, args: BenchArgs) -> Result<Reader, Failure> {
    let settings = &resolved.settings;
    let own = match &args.command {
        Some(BenchCommand::Perplexity { format, .. }) => *format,
        None => None,
    };
    let format = own.or(args.format).unwrap_or_default();
    let result = match &args.command {
        Some(_) if !args.test.is_empty() || args.repeat.is_some() => {
            Err(Failure::usage("--test and --repeat mean nothing to `chatnap bench perplexity`."))
        }
        Some(BenchCommand::Perplexity { file, .. }) => {
            // A context that was set for chats says nothing about chunks; the flag does.
            let asked = matches!(resolved.origin("context_length"), Origin::Flag(_));
            let chunk = settings.context_length.filter(|_| asked).unwrap_or(DEFAULT_CHUNK);
            perplexity_of(settings, file, chunk, format)
        }
        None => speed(settings, &args, format),
    };
    result.map_err(|failure| failure.with_json(format == TableFormat::Json))
}

/// A note on stderr where somebody watches.
fn note(text: &str) {
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{}", sanitize_line(text));
    }
}

/// A model, ready to be measured.
struct Subject {
    loaded: LoadedModel,
    /// Bytes of weights that one token of decode reads: all but an embedding table that only looks tokens up.
    weights_read: u64,
}

fn load(settings: &Settings, context_length: Option<usize>) -> Result<Subject, Failure> {
    let mut source = HubSource::new(settings)?;
    let mut progress = Progress::new(false);
    let cancel = CancelFlag::default();
    let files = source.locate(&mut |step| progress.show(&step), &cancel)?;
    let options = LoadOptions {
        name: &source.name(),
        files: &files,
        context_length,
        device: settings.device,
        gpu_memory_utilization: settings.gpu_memory_utilization,
        threads: settings.threads,
        cancel: &cancel,
    };
    let loaded = model::load(&options, &mut |step| progress.show(&step)).map_err(failure)?;
    progress.clear();
    for warning in &loaded.info.warnings {
        let _ = writeln!(std::io::stderr(), "chatnap: warning: {}", sanitize_line(warning));
    }
    let weights_read = loaded.info.memory.weights.saturating_sub(looked_up(&files, context_length));
    Ok(Subject { loaded, weights_read })
}

/// Bytes of an embedding table that makes no logits.
fn looked_up(files: &ModelFiles, context_length: Option<usize>) -> u64 {
    let parts = ModelParts::open(files, context_length).ok().filter(|parts| !parts.config.tied);
    parts.and_then(|parts| parts.plan.get("token_embd.weight").map(|tensor| tensor.bytes)).unwrap_or(0)
}

fn failure(error: ModelError) -> Failure {
    let code = match error {
        ModelError::OutOfMemory(_) => Code::OutOfMemory,
        ModelError::Cancelled => Code::Interrupted,
        _ => Code::Failed,
    };
    Failure::new(code, error.to_string())
}

fn speed(settings: &Settings, args: &BenchArgs, format: TableFormat) -> Result<Reader, Failure> {
    let Subject { mut loaded, weights_read } = load(settings, settings.context_length)?;
    let context_length = loaded.model.context_length();
    let tests = match &args.test[..] {
        [] => {
            let names = if loaded.info.device.kind == DeviceKind::Cuda { ON_CUDA } else { ON_CPU };
            let tests = names.iter().filter_map(|name| Test::parse(name).ok()?.within(context_length));
            tests.collect::<Vec<_>>()
        }
        chosen => chosen.to_vec(),
    };
    if let Some(test) = tests.iter().find(|test| test.positions() > context_length) {
        return Err(Failure::usage(format!(
            "{test} takes {} positions and the context has {context_length}; give --context-length.",
            test.positions()
        )));
    }
    let mut figures = Vec::new();
    for test in tests {
        note(&format!("{test} ..."));
        figures.push(measure(loaded.model.as_mut(), test, args.repeat.unwrap_or(3)).map_err(failure)?);
    }
    let machine = machine(settings);
    let memory = Memory {
        weights: weights_read,
        position: loaded.info.memory.kv_cache / context_length.max(1) as u64,
        limit: if loaded.info.device.kind == DeviceKind::Cpu { read_limit(settings) } else { None },
    };
    let limit = memory.limit.map(|limit| format!(", memory read at {}/s", human(limit as u64)));
    let head = format!(
        "{} ({}, {}), {} on {}, {machine}{}\n\n",
        sanitize_line(&loaded.info.name),
        sanitize_line(&loaded.info.quantization),
        human(loaded.info.memory.weights),
        sanitize_line(&loaded.info.architecture),
        sanitize_line(&loaded.info.device.name),
        limit.unwrap_or_default(),
    );
    let table = table(&figures, &memory);
    let json = json!({
        "machine": {
            "device": {"kind": loaded.info.device.kind, "name": loaded.info.device.name},
            "system": machine,
            "read_bytes_per_second": memory.limit.map(|limit| limit.round() as u64),
        },
        "model": {
            "name": loaded.info.name,
            "architecture": loaded.info.architecture,
            "quantization": loaded.info.quantization,
            "parameters": loaded.info.parameters,
            "weights_bytes": loaded.info.memory.weights,
            "context_length": context_length,
        },
        "results": figures.iter().map(|figure| figure_json(figure, &memory)).collect::<Vec<_>>(),
    });
    let body = table.render(format, &json);
    output::write(&if format == TableFormat::Json { body } else { head + &body })
}

/// What decoding reads, and how fast that can be.
struct Memory {
    /// Bytes of weights a token.
    weights: u64,
    /// Bytes of the KV cache a position.
    position: u64,
    /// Bytes a second that the threads read from main memory, measured; `None` on a card.
    limit: Option<f64>,
}

impl Memory {
    /// Bytes a second that a decode test read: for each token the weights and the KV cache as far as it was filled.
    fn reached(&self, figure: &Figure) -> Option<f64> {
        let Test::Decode { tokens, depth } = figure.test else { return None };
        let filled = (depth + tokens / 2) as f64;
        Some(figure.tokens_per_second * (self.weights as f64 + filled * self.position as f64))
    }

    /// The same as a share of the limit.
    fn share(&self, figure: &Figure) -> Option<f64> {
        Some(self.reached(figure)? / self.limit?)
    }
}

/// Measured once, after the model's own figures, with as many threads as they had.
fn read_limit(settings: &Settings) -> Option<f64> {
    note("memory ...");
    read_bandwidth(&Threads::new(settings.threads)).ok()
}

fn figure_json(figure: &Figure, memory: &Memory) -> Value {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    json!({
        "test": figure.test.to_string(),
        "tokens_per_second": rounded(figure.tokens_per_second),
        "stddev": rounded(figure.stddev),
        "read_bytes_per_second": memory.reached(figure).map(|rate| rate.round() as u64),
        "share_of_read_bandwidth": memory.share(figure).map(|share| (share * 1000.0).round() / 1000.0),
    })
}

fn table(figures: &[Figure], memory: &Memory) -> Table {
    let mut table = Table::new(&["test", "tokens/s", "stddev", "memory read", "share"]);
    for figure in figures {
        table.row([
            figure.test.to_string(),
            format!("{:.1}", figure.tokens_per_second),
            format!("{:.1}", figure.stddev),
            memory.reached(figure).map(|rate| format!("{}/s", human(rate as u64))).unwrap_or_default(),
            memory.share(figure).map(|share| format!("{:.0} %", share * 100.0)).unwrap_or_default(),
        ]);
    }
    table
}

/// `linux x86_64, 2 threads, AVX2`.
fn machine(settings: &Settings) -> String {
    let threads = Threads::new(settings.threads).n();
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{os} {arch}, {threads} {}, {}", if threads == 1 { "thread" } else { "threads" }, instruction_set())
}

fn perplexity_of(settings: &Settings, file: &Path, chunk: usize, format: TableFormat) -> Result<Reader, Failure> {
    let text = read_text(file)?;
    let Subject { mut loaded, .. } = load(settings, Some(chunk))?;
    let mut progress = |so_far: crate::engine::model::perplexity::Perplexity, chunks: usize| {
        if so_far.chunks.is_multiple_of(16) {
            note(&format!("{} of {chunks} chunks: {:.4}", so_far.chunks, so_far.perplexity));
        }
    };
    let cancel = CancelFlag::default();
    let result = perplexity(loaded.model.as_mut(), &loaded.tokenizer, &text, chunk, &cancel, &mut progress);
    let result = result.map_err(failure)?;
    let rounded = |value: f64| (value * 10_000.0).round() / 10_000.0;
    let json = json!({
        "perplexity": rounded(result.perplexity),
        "error": rounded(result.error),
        "chunks": result.chunks,
        "context_length": result.context_length,
    });
    let mut table = Table::new(&["perplexity", "error", "chunks", "context_length"]);
    table.row([
        format!("{:.4}", result.perplexity),
        format!("{:.4}", result.error),
        result.chunks.to_string(),
        result.context_length.to_string(),
    ]);
    output::write(&table.render(format, &json))
}

fn read_text(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    std::fs::File::open(file).map_err(failed)?.take(LARGEST_TEXT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_TEXT {
        return Err(Failure::usage(format!("{} is longer than {LARGEST_TEXT} bytes (64 MiB).", file.display())));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{} is not UTF-8.", file.display())))
}
