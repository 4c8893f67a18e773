//! Selects a front end and maps its result to an exit code.

use std::process::ExitCode;

use chatnap::cli::{self, Invocation};
use chatnap::engine::crash;
use chatnap::failure::Failure;
use chatnap::settings::{Origin, Resolved};
use chatnap::{commands, logging, oneshot, tui};

#[global_allocator]
static ALLOCATOR: crash::Allocator = crash::Allocator;

fn main() -> ExitCode {
    let json = cli::asks_for_json(&std::env::args_os().collect::<Vec<_>>());
    let (stdout, stderr) = Failure::out_of_memory().lines(json);
    crash::say_out_of_memory(stdout.into_bytes(), stderr.into_bytes());
    ExitCode::from(run().unwrap_or_else(|failure| failure.with_json(json).report()))
}

fn run() -> Result<u8, Failure> {
    let invocation = cli::from_process()?;
    let warnings = cli::warnings();
    let (Invocation::Interactive { resolved, .. }
    | Invocation::OneShot(resolved, _)
    | Invocation::Command(resolved, _)) = &invocation;
    logging::start(&resolved.log).map_err(|why| Failure::usage(format!("{why}.")))?;
    check_theme(resolved)?;
    match invocation {
        Invocation::Interactive { resolved, resume, files } => tui::run(resolved, resume, files, warnings),
        Invocation::OneShot(resolved, one_shot) => {
            if !one_shot.quiet {
                cli::warn(&warnings);
            }
            oneshot::run(&resolved, &one_shot)
        }
        Invocation::Command(resolved, command) => {
            cli::warn(&warnings);
            let interface = commands::Interface { keys: tui::KEYS, themes: tui::theme_names };
            commands::run(&resolved, command, &interface)
        }
    }
}

/// An unknown `--theme` is a usage error even if nothing is drawn. A missing theme of the config file only warns: the
/// interface falls back to another one.
fn check_theme(resolved: &Resolved) -> Result<(), Failure> {
    match resolved.origin("theme") {
        Origin::Flag(flag) => {
            tui::check_theme(&resolved.settings).map_err(|why| Failure::usage(format!("{flag}: {why}.")))
        }
        _ => Ok(()),
    }
}
