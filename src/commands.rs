//! The subcommands: each does one thing, writes stdout, and returns.

use super::cli::args::{
    CacheCommand, Command, ConversationsArgs, ConversationsCommand, ExportFormat, ModelsArgs, ModelsCommand,
    ReportArgs, TableFormat, UsageFormat,
};
use super::failure::{Code, Failure};
use super::output;
use crate::settings::{Resolved, Settings};

mod bench;
mod cache;
mod compare;
mod complete;
mod config;
mod conversations;
mod generate;
mod gpu;
mod man;
mod models;
mod replay;
mod report;
mod table;
mod tokenize;
mod usage;

/// What subcommands tell about the terminal interface, which they do not import.
pub struct Interface {
    /// Its keys and what they do.
    pub keys: &'static [(&'static str, &'static str)],
    /// Names of all themes, for completion.
    pub themes: fn(&Settings) -> Vec<String>,
}

/// Runs a subcommand and returns the exit code. If JSON output was requested, errors are JSON too.
pub fn run(resolved: &Resolved, command: Command, interface: &Interface) -> Result<u8, Failure> {
    let json = wants_json(&command);
    dispatch(resolved, command, interface).map_err(|failure| failure.with_json(json))
}

/// Whether `command` writes JSON; `bench` and `tokenize` handle that themselves.
fn wants_json(command: &Command) -> bool {
    let formats = match command {
        Command::Gpu { format } | Command::Report(ReportArgs { format, .. }) => [Some(*format), None],
        Command::Models(ModelsArgs {
            format,
            command: Some(ModelsCommand::List { format: own, .. } | ModelsCommand::Recommend { format: own }),
        }) => [*format, Some(*own)],
        Command::Models(args) => [args.format, None],
        Command::Conversations(ConversationsArgs { format, command }) => match command {
            Some(ConversationsCommand::List { format: own, .. } | ConversationsCommand::Search { format: own, .. }) => {
                [*format, Some(*own)]
            }
            Some(ConversationsCommand::Export { format: ExportFormat::Json | ExportFormat::Jsonl, .. }) => return true,
            _ => [*format, None],
        },
        Command::Compare(args) => [Some(args.format), None],
        Command::Usage(args) => return args.format == UsageFormat::Json,
        _ => [None, None],
    };
    formats.contains(&Some(TableFormat::Json))
}

fn dispatch(resolved: &Resolved, command: Command, interface: &Interface) -> Result<u8, Failure> {
    let written = match command {
        Command::Config(command) => config::run(resolved, command)?,
        Command::Completions { shell } => output::write(&generate::completions(shell))?,
        Command::Complete { kind } => complete::run(&resolved.settings, kind, interface.themes)?,
        Command::Man { dir: Some(folder), .. } => output::write_foreign(&man::write_all(&folder, interface)?)?,
        Command::Man { command, dir: None } => output::write(&man::page(&command, interface)?)?,
        Command::Tokenize(args) => tokenize::run(&resolved.settings, args)?,
        Command::Gpu { format } => gpu::run(&resolved.settings, format)?,
        Command::Models(args) => {
            let list = |format| ModelsCommand::List { fits: false, format };
            models::run(&resolved.settings, or_list(args.command, args.format, list)?)?
        }
        Command::Conversations(args) => {
            let list = |format| ConversationsCommand::List { format, removed: false };
            conversations::run(&resolved.settings, or_list(args.command, args.format, list)?)?
        }
        Command::Usage(args) => usage::run(resolved, &args)?,
        Command::Compare(args) => return compare::run(resolved, &args),
        Command::Bench(args) => bench::run(resolved, args)?,
        Command::Report(args) => return report::run(resolved, &args),
        Command::Replay(args) => replay::run(resolved, &args)?,
        Command::Cache(CacheCommand::Clear) => cache::clear(&resolved.settings)?,
    };
    // A closed stdout is not an error: its reader needs no more output.
    let _ = written;
    Ok(Code::Ok as u8)
}

/// The given subcommand, else the list, which takes the `--format` before it.
fn or_list<C>(command: Option<C>, format: Option<TableFormat>, list: impl Fn(TableFormat) -> C) -> Result<C, Failure> {
    match (command, format) {
        (None, format) => Ok(list(format.unwrap_or_default())),
        (Some(command), None) => Ok(command),
        (Some(_), Some(_)) => Err(Failure::usage("--format belongs behind the subcommand: … list --format json.")),
    }
}
