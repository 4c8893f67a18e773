//! What somebody probably wanted who wrote a command line that means nothing.

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Error};

use super::args::Args;
use super::rendered;
use crate::failure::Failure;
use crate::wording::nearest;

/// Neither a terminal nor a prompt.
pub(super) fn nothing_to_answer() -> Failure {
    Failure::usage(
        "There is no terminal and nothing to answer: give -p TEXT or text on standard input, or start chatnap in a \
         terminal.",
    )
}

/// `-p ""`, perhaps from a variable of a script that is not set.
pub(super) fn empty_prompt() -> Failure {
    Failure::usage(
        "-p was given an empty text, so there is nothing to answer: write the prompt after it (chatnap -p \"Why is the \
         sky blue?\") or give text on standard input. chatnap alone opens the chat.",
    )
}

/// `-p -`, which elsewhere means standard input.
pub(super) fn lone_dash() -> Failure {
    Failure::usage(
        "-p - would ask the model a lone dash. Standard input is read without it: `cat FILE | chatnap` asks what the \
         file says, and `cat FILE | chatnap -p TEXT` puts TEXT before it.",
    )
}

/// A word where a subcommand belongs: a prompt without `-p`, or a mistyped subcommand. `argv` is the whole line.
pub(super) fn of_subcommand(error: &Error, argv: &[String]) -> Failure {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return rendered(error) };
    let Some(at) = argv.iter().skip(1).position(|arg| arg == word).map(|at| at + 1) else { return rendered(error) };
    let command = Args::command();
    // `chatnap models nosuch` is no prompt.
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

/// A text of several words that begins with a dash, where a flag belongs: a prompt without `-p`.
pub(super) fn of_flag(error: &Error, argv: &[String]) -> Failure {
    let texts = argv.iter().skip(1).take_while(|arg| *arg != "--");
    match texts.clone().find(|arg| arg.starts_with('-') && arg.trim_end().contains(char::is_whitespace)) {
        Some(text) if texts.clone().all(|arg| arg.starts_with('-')) => {
            Failure::usage(format!("There is no flag {text:?}. Did you mean chatnap -p {} to ask it?", quoted(text)))
        }
        _ => rendered(error),
    }
}

/// The one subcommand that `word` begins, or is nearly.
fn similar<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let mut begun = known.iter().filter(|name| word.len() > 2 && name.starts_with(word));
    match (begun.next(), begun.next()) {
        (Some(name), None) => Some(*name),
        _ => nearest(word, known.iter().copied()),
    }
}

/// `text` as one word of a shell.
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
    fn only_a_subcommand_that_is_near_is_offered() {
        let names = ["models", "conversations", "bench", "completions", "config", "gpu"];
        let similar = |word| similar(word, &names);
        assert_eq!(similar("conversation"), Some("conversations"));
        assert_eq!(similar("modles"), Some("models"));
        assert_eq!(similar("conv"), Some("conversations"));
        assert_eq!(similar("con"), None, "two begin so");
        assert_eq!(similar("nosuch"), None);
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(quoted("hello"), "\"hello\"");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("it's $5"), "'it'\\''s $5'");
    }
}
