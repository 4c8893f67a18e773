//! `chatnap bench`: speed at depths, and `bench perplexity`: how well the model predicts a text.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Figure, Test, measure};
use crate::cli::args::{BenchArgs, BenchCommand, TableFormat};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::{self, Reader};
use crate::cli::table::Table;
use crate::engine::model::perplexity::{DEFAULT_CHUNK, perplexity};
use crate::engine::model::{self, LoadOptions, LoadedModel, ModelError};
use crate::engine::{CancelFlag, ModelSource};
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

fn load(settings: &Settings, context_length: Option<usize>) -> Result<LoadedModel, Failure> {
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
    Ok(loaded)
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
    let mut loaded = load(settings, settings.context_length)?;
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
    let head = format!(
        "{} ({}, {}), {} on {}, {machine}\n\n",
        sanitize_line(&loaded.info.name),
        sanitize_line(&loaded.info.quantization),
        human(loaded.info.memory.weights),
        sanitize_line(&loaded.info.architecture),
        sanitize_line(&loaded.info.device.name),
    );
    let table = table(&figures, loaded.info.memory.weights);
    let json = json!({
        "machine": {
            "device": {"kind": loaded.info.device.kind, "name": loaded.info.device.name},
            "system": machine,
        },
        "model": {
            "name": loaded.info.name,
            "architecture": loaded.info.architecture,
            "quantization": loaded.info.quantization,
            "parameters": loaded.info.parameters,
            "weights_bytes": loaded.info.memory.weights,
            "context_length": context_length,
        },
        "results": figures.iter().map(|figure| figure_json(figure, loaded.info.memory.weights)).collect::<Vec<_>>(),
    });
    let body = table.render(format, &json);
    output::write(&if format == TableFormat::Json { body } else { head + &body })
}

/// Bytes of weights that decode reads a second: each token reads all of them once. The KV cache comes on top.
fn bandwidth(figure: &Figure, weights: u64) -> Option<f64> {
    matches!(figure.test, Test::Decode { .. }).then(|| figure.tokens_per_second * weights as f64)
}

fn figure_json(figure: &Figure, weights: u64) -> Value {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    json!({
        "test": figure.test.to_string(),
        "tokens_per_second": rounded(figure.tokens_per_second),
        "stddev": rounded(figure.stddev),
        "weights_bytes_per_second": bandwidth(figure, weights).map(|rate| rate.round() as u64),
    })
}

fn table(figures: &[Figure], weights: u64) -> Table {
    let mut table = Table::new(&["test", "tokens/s", "stddev", "weights read"]);
    for figure in figures {
        table.row([
            figure.test.to_string(),
            format!("{:.1}", figure.tokens_per_second),
            format!("{:.1}", figure.stddev),
            bandwidth(figure, weights).map(|rate| format!("{}/s", human(rate as u64))).unwrap_or_default(),
        ]);
    }
    table
}

/// `linux x86_64, 2 threads`.
fn machine(settings: &Settings) -> String {
    let threads = match settings.threads {
        Some(threads) => format!("{threads} threads"),
        None => {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            format!("{cpus} logical CPUs")
        }
    };
    format!("{} {}, {threads}", std::env::consts::OS, std::env::consts::ARCH)
}

fn perplexity_of(settings: &Settings, file: &Path, chunk: usize, format: TableFormat) -> Result<Reader, Failure> {
    let text = read_text(file)?;
    let mut loaded = load(settings, Some(chunk))?;
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
