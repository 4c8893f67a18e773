//! The command line: parses argv, environment and standard input into an [`Invocation`].
//!
//! Only parses: independent of the engine's threads and of the terminal interface.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};

use clap::error::ErrorKind as ClapError;
use clap::{CommandFactory, FromArgMatches};

pub mod args;
mod flags;
mod hint;
pub(crate) mod input;

use crate::failure::Failure;
use crate::sanitize::sanitize_line;
use crate::settings::{Folders, Resolved, Sources, cpu_warning, environment_warnings, resolve};
use crate::store::Resume;
pub use args::{Args, Command, OneShotFormat, TableFormat};

/// Options of a one-shot answer.
#[derive(Clone, Debug)]
pub struct OneShot {
    /// The prompt, standard input included.
    pub prompt: String,
    /// Paths of the files to attach.
    pub files: Vec<String>,
    /// The conversation to continue; `None` starts a new one.
    pub resume: Option<Resume>,
    /// System message of this run; it replaces the one of a continued conversation.
    pub system: Option<String>,
    /// Format of stdout.
    pub format: OneShotFormat,
    /// Print statistics on stderr.
    pub stats: bool,
    /// Print the answer at the end.
    pub no_stream: bool,
    /// Print only errors on stderr.
    pub quiet: bool,
    /// Leave control characters as they are.
    pub raw: bool,
    /// Show the rendered prompt and stop.
    pub dry_run: bool,
    /// Do not store the turn.
    pub no_save: bool,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// The terminal interface.
    Interactive {
        /// The effective settings.
        resolved: Resolved,
        /// The conversation to continue.
        resume: Option<Resume>,
        /// Paths of the files to attach to the first prompt.
        files: Vec<String>,
    },
    /// One answer.
    OneShot(Resolved, OneShot),
    /// A subcommand.
    Command(Resolved, Command),
}

/// State of the process's standard streams.
pub struct Streams<'a> {
    /// Whether stdin is a terminal.
    pub stdin_is_terminal: bool,
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// Where piped input is read from.
    pub stdin: &'a mut dyn Read,
}

/// Reads the process's own arguments, environment and standard input.
pub fn from_process() -> Result<Invocation, Failure> {
    let mut stdin = std::io::stdin();
    let mut streams = Streams {
        stdin_is_terminal: stdin.is_terminal(),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stdin: &mut stdin,
    };
    interpret(std::env::args_os().collect(), &|name| std::env::var_os(name), &mut streams)
}

/// Warnings about unknown `CHATNAP_*` variables in the process's environment, and about a value of `CHATNAP_CPU`.
pub fn warnings() -> Vec<String> {
    let names: Vec<_> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let cpu = cpu_warning(std::env::var("CHATNAP_CPU").ok().as_deref());
    environment_warnings(names.iter().map(String::as_str)).into_iter().chain(cpu).collect()
}

/// Prints warnings on stderr; a closed stderr is not an error.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "chatnap: warning: {}", sanitize_line(warning));
    }
}

/// Interprets `argv`. Standard input is read only if it is part of the prompt.
pub fn interpret(
    argv: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    streams: &mut Streams<'_>,
) -> Result<Invocation, Failure> {
    let json = asks_for_json(&argv);
    parse(argv)
        .and_then(|args| {
            let sources = Sources {
                folders: Folders::of_user().map_err(|error| Failure::usage(error.0))?,
                config: args.setup.config.as_deref(),
                environment,
                flags: args.overrides(),
                log: args.setup.log.clone(),
            };
            let resolved = resolve(&sources).map_err(|error| Failure::usage(error.0))?;
            choose(args, resolved, streams)
        })
        .map_err(|failure| failure.with_json(json))
}

/// Whether errors go to stdout as JSON too. Scans the words before clap parses them, so that usage errors do as well.
pub fn asks_for_json(argv: &[OsString]) -> bool {
    let json = |text: &str| matches!(text, "json" | "jsonl");
    let words: Vec<_> = argv.iter().filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--").collect();
    words.windows(2).any(|pair| pair[0] == "--format" && json(pair[1]))
        || words.iter().any(|word| word.strip_prefix("--format=").is_some_and(json))
}

/// Parses argv; help and version are failures with code 0 that carry their text for stdout.
fn parse(argv: Vec<OsString>) -> Result<Args, Failure> {
    let words: Vec<_> = argv.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let usage = |error: clap::Error| match error.kind() {
        ClapError::InvalidSubcommand => hint::of_subcommand(&error, &words),
        ClapError::UnknownArgument => hint::of_flag(&error, &words),
        ClapError::DisplayHelp | ClapError::DisplayVersion => Failure::help(error.render().to_string()),
        _ => rendered(&error),
    };
    flags::refuse_flag_as_text(&words)?;
    let matches = Args::command().try_get_matches_from(argv).map_err(usage)?;
    if let Some((name, _)) = matches.subcommand() {
        flags::refuse_stray_flags(&matches, name)?;
    }
    Args::from_arg_matches(&matches).map_err(usage)
}

/// clap's own message.
fn rendered(error: &clap::Error) -> Failure {
    Failure::usage(error.render().to_string().trim_start_matches("error: ").trim_end())
}

/// Selects the front end by DESIGN's rule: interactive only if stdin and stdout are terminals and there is no prompt.
fn choose(args: Args, resolved: Resolved, streams: &mut Streams<'_>) -> Result<Invocation, Failure> {
    if let Some(command) = args.command {
        return Ok(Invocation::Command(resolved, command));
    }
    if args.chat.prompt.as_deref().is_some_and(|prompt| prompt.trim() == "-") {
        return Err(hint::lone_dash());
    }
    if args.chat.files.iter().any(|file| file == "-") {
        return Err(hint::dash_as_file());
    }
    let (resume, has_prompt) = (args.chat.resume(), args.chat.prompt.is_some());
    let one_shot_flag = args.one_shot.first_given();
    if args.chat.prompt.is_none() && streams.stdin_is_terminal && streams.stdout_is_terminal {
        return match one_shot_flag {
            Some(flag) => Err(Failure::usage(format!("{flag} needs a prompt: -p TEXT, or text on standard input."))),
            None => Ok(Invocation::Interactive { resolved, resume, files: args.chat.files }),
        };
    }
    let piped = if streams.stdin_is_terminal { None } else { input::read(streams.stdin, args.one_shot.quiet)? };
    let nothing = || if has_prompt { hint::empty_prompt() } else { hint::nothing_to_answer() };
    let prompt = input::join(args.chat.prompt, piped).ok_or_else(nothing)?;
    let flags = args.one_shot;
    let one_shot = OneShot {
        prompt,
        files: args.chat.files,
        resume,
        system: args.chat.system,
        format: flags.format.unwrap_or(OneShotFormat::Text),
        stats: flags.stats,
        no_stream: flags.no_stream,
        quiet: flags.quiet,
        raw: flags.raw,
        dry_run: flags.dry_run,
        no_save: flags.no_save,
    };
    Ok(Invocation::OneShot(resolved, one_shot))
}

#[cfg(test)]
mod tests;
