//! The subcommands: each does one thing, writes stdout, and returns.

use super::args::{Command, ConversationsCommand, ModelsCommand, TableFormat};
use super::failure::Failure;
use super::output;
use crate::settings::Resolved;

mod bench;
mod config;
mod conversations;
mod generate;
mod gpu;
mod models;
mod tokenize;

/// Runs a subcommand.
pub fn run(resolved: &Resolved, command: Command) -> Result<(), Failure> {
    let written = match command {
        Command::Config(command) => config::run(resolved, command)?,
        Command::Completions { shell } => output::write(&generate::completions(shell))?,
        Command::Man => output::write(&generate::man()?)?,
        Command::Tokenize(args) => tokenize::run(&resolved.settings, args)?,
        Command::Gpu { format } => gpu::run(&resolved.settings, format)?,
        Command::Models(args) => {
            let command = args.command.unwrap_or(ModelsCommand::List { format: TableFormat::default() });
            models::run(&resolved.settings, command)?
        }
        Command::Conversations(args) => {
            let command = args.command.unwrap_or(ConversationsCommand::List { format: TableFormat::default() });
            conversations::run(&resolved.settings, command)?
        }
        Command::Bench(args) => bench::run(resolved, args)?,
        Command::Report { .. } => return Err(not_built("report")),
    };
    // A reader that went away has what it wanted.
    let _ = written;
    Ok(())
}

fn not_built(name: &str) -> Failure {
    Failure::usage(format!("`chatnap {name}` is not built yet."))
}
