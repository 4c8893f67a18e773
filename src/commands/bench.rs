//! `chatnap bench`: prefill and decode speed at depths. `chatnap bench perplexity`: perplexity of a text.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Figure, Test, measure};
use crate::cli::args::{BenchArgs, BenchCommand, TableFormat};
use crate::commands::table::Table;
use crate::engine::cpu::{Threads, instruction_set};
use crate::engine::error::ModelError;
use crate::engine::load::{self, LoadedModel};
use crate::engine::model::LoadOptions;
use crate::engine::model::perplexity::{DEFAULT_CHUNK, perplexity};
use crate::engine::source::{CancelFlag, ModelSource};
use crate::failure::Failure;
use crate::hub::{HubSource, chosen_template};
use crate::output::{self, Reader};
use crate::progress::Progress;
use crate::protocol::EngineError;
use crate::sanitize::sanitize_line;
use crate::settings::{Origin, Resolved, Settings};
use crate::survey;
use crate::wording::bytes;

/// Default tests on a CPU; they take a minute or two.
const ON_CPU: &[&str] = &["pp64", "pp512", "pp2048", "tg64", "tg64@2048", "tg64@8192"];

/// Default tests on a GPU.
const ON_CUDA: &[&str] = &["pp64", "pp512", "pp2048", "tg64", "tg64@4096", "tg64@16384"];

/// Maximum size of the text in bytes (64 MiB): a larger one would take days.
const LARGEST_TEXT: u64 = 64 << 20;

pub(super) fn run(resolved: &Resolved, args: BenchArgs) -> Result<Reader, Failure> {
    let settings = &resolved.settings;
    let own = match &args.command {
        Some(BenchCommand::Perplexity { format, .. }) => *format,
        None => None,
    };
    let format = own.or(args.format).unwrap_or_default();
    // The config file and the environment set the context of chats; only the flag sets that of a measurement.
    let flag = matches!(resolved.origin("context_length"), Origin::Flag(_));
    let asked = settings.context_length.filter(|_| flag);
    let result = match &args.command {
        Some(_) if !args.test.is_empty() || args.repeat.is_some() => {
            Err(Failure::usage("--test and --repeat do not apply to `chatnap bench perplexity`."))
        }
        Some(BenchCommand::Perplexity { file, .. }) => {
            perplexity_of(settings, file, asked.unwrap_or(DEFAULT_CHUNK), format)
        }
        None => speed(settings, &args, asked, format),
    };
    result.map_err(|failure| failure.with_json(format == TableFormat::Json))
}

/// Prints a note on stderr if it is a terminal.
fn note(text: &str) {
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{}", sanitize_line(text));
    }
}

/// Requested size of the KV cache, in positions.
#[derive(Clone, Copy)]
enum Context {
    Exactly(usize),
    /// This many, or the model's own limit if that is smaller.
    UpTo(usize),
}

/// Bytes that one decode step reads with `positions` in the KV cache.
fn step_bytes(loaded: &LoadedModel, positions: usize) -> u64 {
    let (model, memory) = (&loaded.model, &loaded.info.memory);
    let position = memory.kv_cache / model.context_length().max(1) as u64;
    model.step_bytes(positions).unwrap_or_else(|| memory.weights + position * positions as u64)
}

fn load_model(settings: &Settings, context: Context) -> Result<LoadedModel, Failure> {
    let settings = &survey::settled(settings);
    let mut source = HubSource::new(settings)?;
    let mut progress = Progress::new(false);
    let cancel = CancelFlag::default();
    let files = source.locate(&mut |step| progress.show(&step), &cancel)?;
    let context_length = match context {
        Context::Exactly(length) => length,
        Context::UpTo(length) => load::trained_context_length(&files).map_or(length, |trained| length.min(trained)),
    };
    let chosen = chosen_template(settings).map_err(|error| Failure::usage(error.to_string()))?;
    let options = LoadOptions {
        name: &source.name(),
        files: &files,
        context_length: Some(context_length),
        device: settings.device,
        gpu_memory_utilization: settings.gpu_memory_utilization,
        threads: settings.threads,
        smaller: &source.smaller(),
        chat_template: chosen.as_ref(),
        cancel: &cancel,
    };
    let mut loaded = load::load(&options, &mut |step| progress.show(&step)).map_err(failure)?;
    loaded.model.finish_warmup();
    progress.clear();
    loaded.info.warnings.extend(source.warnings());
    loaded.info.warnings.iter().for_each(|warning| warn(warning));
    Ok(loaded)
}

/// Prints a warning on stderr, even if it is not a terminal.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "chatnap: warning: {}", sanitize_line(text));
}

fn failure(error: ModelError) -> Failure {
    EngineError::from(error).into()
}

/// The requested tests, else the default set of the device that will run the model.
fn tests(settings: &Settings, chosen: &[Test]) -> Vec<Test> {
    let names = if load::expects_gpu(settings.device) { ON_CUDA } else { ON_CPU };
    match chosen {
        [] => names.iter().filter_map(|name| Test::parse(name).ok()).collect(),
        chosen => chosen.to_vec(),
    }
}

/// The tests that fit the context. A requested test that does not fit is an error; a default one is reduced in depth or
/// left out, with a warning.
fn fitting(tests: &[Test], chosen: bool, context_length: usize) -> Result<Vec<Test>, Failure> {
    let mut fitting = Vec::new();
    for &test in tests {
        if test.positions() <= context_length {
            fitting.push(test);
            continue;
        }
        let too_long = format!("{test} takes {} positions and the context has {context_length}", test.positions());
        if chosen {
            let advice = "choose a smaller test, or give a larger --context-length where the model allows it";
            return Err(Failure::usage(format!("{too_long}: {advice}.")));
        }
        match test.within(context_length) {
            Some(shorter) => {
                warn(&format!("{too_long}; {shorter} is measured instead"));
                if !fitting.contains(&shorter) {
                    fitting.push(shorter);
                }
            }
            None => warn(&format!("{too_long}, so it is left out")),
        }
    }
    Ok(fitting)
}

fn speed(settings: &Settings, args: &BenchArgs, asked: Option<usize>, format: TableFormat) -> Result<Reader, Failure> {
    let tests = tests(settings, &args.test);
    let most = tests.iter().map(|test| test.positions()).max().unwrap_or(0);
    let mut loaded = load_model(settings, asked.map_or(Context::UpTo(most), Context::Exactly))?;
    let context_length = loaded.model.context_length();
    let mut rows = Vec::new();
    for test in fitting(&tests, !args.test.is_empty(), context_length)? {
        note(&format!("{test} ..."));
        let figure = measure(loaded.model.as_mut(), test, args.repeat.unwrap_or(3)).map_err(failure)?;
        let bytes = match test {
            Test::Prefill { .. } => None,
            // On average half of the decoded tokens are in the cache.
            Test::Decode { tokens, depth } => Some(step_bytes(&loaded, depth + tokens / 2)),
        };
        rows.push(Row { figure, bytes });
    }
    let info = loaded.info;
    // Release the model first: a GPU's bandwidth is measured with nothing else of this process on it.
    drop(loaded.model);
    note("memory ...");
    // The limit of decode. On the CPU it is measured with the tests' number of threads.
    let limit = load::read_bandwidth(info.device.kind, settings.device, settings.threads);
    let machine = machine(settings);
    let read = limit.map(|limit| format!(", memory read at {}/s", bytes(limit as u64))).unwrap_or_default();
    let head = format!(
        "{} ({}, {}), {} on {}, {machine}{read}\n\n",
        sanitize_line(&info.name),
        sanitize_line(&info.quantization),
        bytes(info.memory.weights),
        sanitize_line(&info.architecture),
        sanitize_line(&info.device.name),
    );
    let json = json!({
        "machine": {
            "device": {"kind": info.device.kind, "name": info.device.name},
            "system": machine,
            "read_bytes_per_second": limit.map(|limit| limit.round() as u64),
        },
        "model": {
            "name": info.name,
            "architecture": info.architecture,
            "quantization": info.quantization,
            "parameters": info.parameters,
            "weights_bytes": info.memory.weights,
            "context_length": context_length,
        },
        "results": rows.iter().map(|row| row.json(limit)).collect::<Vec<_>>(),
    });
    let body = table(&rows, limit).render(format, &json);
    output::write(&if format == TableFormat::Json { body } else { head + &body })
}

/// A figure and, for decode, the bytes that one token reads.
struct Row {
    figure: Figure,
    /// Bytes of weights and KV cache per token.
    bytes: Option<u64>,
}

impl Row {
    /// Bytes that the test read per second.
    fn reached(&self) -> Option<f64> {
        Some(self.figure.tokens_per_second * self.bytes? as f64)
    }

    /// The share of the memory's bandwidth. `None` if a test read more than that: then part of it came from caches, or
    /// other programs used the memory while the bandwidth was measured.
    fn share(&self, limit: Option<f64>) -> Option<f64> {
        let share = self.reached()? / limit?;
        (share <= 1.05).then_some(share)
    }

    fn json(&self, limit: Option<f64>) -> Value {
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        let share = self.share(limit);
        json!({
            "test": self.figure.test.to_string(),
            "tokens_per_second": rounded(self.figure.tokens_per_second),
            "stddev": rounded(self.figure.stddev),
            "bytes_per_token": self.bytes,
            "read_bytes_per_second": self.reached().map(|rate| rate.round() as u64),
            "share_of_read_bandwidth": share.map(|share| (share * 1000.0).round() / 1000.0),
        })
    }
}

fn table(rows: &[Row], limit: Option<f64>) -> Table {
    let mut table = Table::new(&["test", "tokens/s", "stddev", "a token reads", "memory read", "share of the limit"]);
    for row in rows {
        let share = row.share(limit);
        table.row([
            row.figure.test.to_string(),
            format!("{:.1}", row.figure.tokens_per_second),
            format!("{:.1}", row.figure.stddev),
            row.bytes.map(bytes).unwrap_or_default(),
            row.reached().map(|rate| format!("{}/s", bytes(rate as u64))).unwrap_or_default(),
            share.map(|share| format!("{:.0} %", share * 100.0)).unwrap_or_default(),
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
    let mut loaded = load_model(settings, Context::Exactly(chunk))?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(names: &[&str]) -> Vec<Test> {
        names.iter().map(|name| Test::parse(name).unwrap()).collect()
    }

    #[test]
    fn default_tests_shrink_to_the_context_and_requested_ones_fail() {
        let all = parse(ON_CPU);
        assert_eq!(fitting(&all, false, 8258).unwrap(), all, "8192 and 64 tokens, and a step ahead");
        let names: Vec<_> = fitting(&all, false, 8192).unwrap().iter().map(Test::to_string).collect();
        assert_eq!(names, ["pp64", "pp512", "pp2048", "tg64", "tg64@2048", "tg64@8126"]);
        let names: Vec<_> = fitting(&all, false, 100).unwrap().iter().map(Test::to_string).collect();
        assert_eq!(names, ["pp64", "tg64", "tg64@34"]);
        assert!(fitting(&parse(&["tg64@8192"]), true, 8192).is_err());
    }

    #[test]
    fn share_of_read_bandwidth_is_bytes_read_over_the_limit() {
        let test = Test::Decode { tokens: 64, depth: 16384 };
        let figure = Figure { test, tokens_per_second: 160.0, stddev: 1.0 };
        let row = Row { figure, bytes: Some(17_000_000_000) };
        let json = row.json(Some(3.2e12));
        assert_eq!(json["bytes_per_token"], 17_000_000_000_u64);
        assert_eq!(json["read_bytes_per_second"], 2_720_000_000_000_u64);
        assert_eq!(json["share_of_read_bandwidth"], 0.85);
        let prefill = Row { figure: Figure { test: Test::Prefill { tokens: 512 }, ..figure }, bytes: None };
        assert_eq!(prefill.json(Some(3.2e12))["share_of_read_bandwidth"], Value::Null);
        assert_eq!(row.json(Some(1.0))["share_of_read_bandwidth"], Value::Null, "no share above the limit");
    }
}
