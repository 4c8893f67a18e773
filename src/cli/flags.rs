//! Rejects misplaced flags, which clap would take as a text or ignore silently.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, CommandFactory};

use super::args::Args;
use crate::failure::Failure;

/// Rejects a flag of the chat before a subcommand: clap accepts it there, and it would have no effect.
pub(super) fn refuse_stray_flags(matches: &clap::ArgMatches, subcommand: &str) -> Result<(), Failure> {
    let command = Args::command();
    for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
        let id = arg.get_id().as_str();
        if matches.try_contains_id(id).unwrap_or(false) && matches.value_source(id) == Some(ValueSource::CommandLine) {
            let flag = arg.get_long().unwrap_or(id);
            let advice = format!("--{flag} before the subcommand does not apply to `chatnap {subcommand}`");
            return Err(Failure::usage(format!("{advice}; `chatnap {subcommand} --help` shows its own flags.")));
        }
    }
    Ok(())
}

/// Rejects a known flag as the value of -p or -s: the text was probably forgotten. Other values may begin with a dash.
pub(super) fn refuse_flag_as_text(argv: &[String]) -> Result<(), Failure> {
    let mut command = Args::command();
    command.build();
    let takes_text = |arg: &&Arg| matches!(arg.get_id().as_str(), "prompt" | "system");
    let mut words = argv.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "--" || command.find_subcommand(word).is_some() {
            break;
        }
        let Some(arg) = value_follows(&command, word) else { continue };
        let Some(value) = words.next() else { break };
        if takes_text(&arg) && is_flag(&command, value) {
            return Err(Failure::usage(format!(
                "{word} needs a text, and the flag {value} follows it. Write the text behind {word} and {value} behind \
                 the text; {word}={value} makes {value} the text."
            )));
        }
    }
    Ok(())
}

/// The argument whose value is the next word: `--prompt`, `-p`, or `-cp` with flags before it that take none.
fn value_follows<'a>(command: &'a clap::Command, word: &str) -> Option<&'a Arg> {
    let takes_value = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    if let Some(long) = word.strip_prefix("--") {
        return command.get_arguments().filter(takes_value).find(|arg| arg.get_long() == Some(long));
    }
    let mut shorts = word.strip_prefix('-')?.chars().peekable();
    while let Some(short) = shorts.next() {
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(short))?;
        if takes_value(&arg) {
            return shorts.peek().is_none().then_some(arg);
        }
    }
    None
}

/// Whether `word` is one of the flags, with or without a value after `=`.
fn is_flag(command: &clap::Command, word: &str) -> bool {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let is = |arg: &Arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => name.strip_prefix('-').is_some_and(|short| {
            let mut letters = short.chars();
            letters.next().is_some_and(|letter| arg.get_short() == Some(letter)) && letters.next().is_none()
        }),
    };
    command.get_arguments().any(is)
}
