//! "Did you mean" hints for command lines that clap rejects or that have no prompt.

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Error};

use super::args::Args;
use super::rendered;
use crate::failure::Failure;
use crate::wording::nearest;

/// The error for a run with neither a terminal nor a prompt.
pub(super) fn nothing_to_answer() -> Failure {
    Failure::usage(
        "There is no terminal and nothing to answer: give -p TEXT or text on standard input, or start chatnap in a \
         terminal.",
    )
}

/// The error for `-p ""`, often an unset variable of a script.
pub(super) fn empty_prompt() -> Failure {
    Failure::usage(
        "-p was given an empty text, so there is nothing to answer: write the prompt after it (chatnap -p \"Why is the \
         sky blue?\") or give text on standard input. chatnap alone opens the chat.",
    )
}

/// The error for `-p -`, which means standard input in other programs.
pub(super) fn lone_dash() -> Failure {
    Failure::usage(
        "-p - would ask the model a lone dash. Standard input is read without it: `cat FILE | chatnap` asks what the \
         file says, and `cat FILE | chatnap -p TEXT` puts TEXT before it.",
    )
}

/// The error for `-f -`.
pub(super) fn dash_as_file() -> Failure {
    Failure::usage(
        "-f - is not a file. Standard input is read without it: `cat FILE | chatnap -p TEXT` puts TEXT before it.",
    )
}

/// The error for an unknown subcommand: a prompt without `-p`, or a mistyped subcommand. `argv` is the whole line.
pub(super) fn of_subcommand(error: &Error, argv: &[String]) -> Failure {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return rendered(error) };
    let Some(at) = argv.iter().skip(1).position(|arg| arg == word).map(|at| at + 1) else { return rendered(error) };
    let command = Args::command();
    // `chatnap models nosuch` is not a prompt.
    let below_another = argv[1..at].iter().any(|arg| command.find_subcommand(arg).is_some());
    if below_another || word.trim().is_empty() {
        return rendered(error);
    }
    let prompt: Vec<_> = argv[at..].iter().take_while(|arg| !arg.starts_with('-')).map(String::as_str).collect();
    let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
    let similar = similar(word, &names);
    let similar = similar.map(|name| format!("chatnap {name}, or ")).unwrap_or_default();
    Failure::usage(format!(
        "There is no subcommand {word:?}. Did you mean {similar}chatnap -p {} to ask it? `chatnap --help` lists the \
         subcommands.",
        quoted(&prompt.join(" "))
    ))
}

/// The error for an unknown flag. Several words in one argument that begins with a dash are a prompt without `-p`.
pub(super) fn of_flag(error: &Error, argv: &[String]) -> Failure {
    let texts = argv.iter().skip(1).take_while(|arg| *arg != "--");
    match texts.clone().find(|arg| arg.starts_with('-') && arg.trim_end().contains(char::is_whitespace)) {
        Some(text) if texts.clone().all(|arg| arg.starts_with('-')) => {
            Failure::usage(format!("There is no flag {text:?}. Did you mean chatnap -p {} to ask it?", quoted(text)))
        }
        _ => rendered(error),
    }
}

/// The only subcommand that begins with `word`, else the nearest one.
fn similar<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let mut begun = known.iter().filter(|name| word.len() > 2 && name.starts_with(word));
    match (begun.next(), begun.next()) {
        (Some(name), None) => Some(*name),
        _ => nearest(word, known.iter().copied()),
    }
}

/// `text` quoted as one shell word.
fn quoted(text: &str) -> String {
    if text.contains(['"', '$', '`', '\\', '!']) {
        format!("'{}'", text.replace('\'', "'\\''"))
    } else {
        format!("\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_subcommand_is_suggested() {
        let names = ["models", "conversations", "bench", "completions", "config", "gpu"];
        let similar = |word| similar(word, &names);
        assert_eq!(similar("conversation"), Some("conversations"));
        assert_eq!(similar("modles"), Some("models"));
        assert_eq!(similar("conv"), Some("conversations"));
        assert_eq!(similar("con"), None, "two match");
        assert_eq!(similar("nosuch"), None);
    }

    #[test]
    fn quoted_text_is_one_shell_word() {
        assert_eq!(quoted("hello"), "\"hello\"");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("it's $5"), "'it'\\''s $5'");
    }
}
