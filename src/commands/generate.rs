//! `chatnap completions`: clap's script for each shell, and what completes names that change: models, themes and
//! conversations, which `chatnap complete` lists.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::Args;

const NAMES_IN_BASH: &str = include_str!("../../assets/completions.bash");
const NAMES_IN_ZSH: &str = include_str!("../../assets/completions.zsh");
const NAMES_IN_FISH: &str = include_str!("../../assets/completions.fish");

pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "chatnap", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script + NAMES_IN_BASH,
        Shell::Fish => script + NAMES_IN_FISH,
        Shell::Zsh => zsh(&script),
        _ => script,
    }
}

/// Beginnings of the arguments in clap's script for zsh, and the function that completes their names.
const ZSH_ARGUMENTS: &[(&str, &str)] = &[
    ("--model=[", "_chatnap_models"),
    ("'-m+[", "_chatnap_models"),
    (":name -- The model", "_chatnap_models"),
    ("--theme=[", "_chatnap_themes"),
    ("--conversation=[", "_chatnap_conversations"),
    (":id -- The beginning of its id", "_chatnap_conversations"),
    (":ids -- The beginnings of their ids", "_chatnap_conversations"),
];

/// In zsh an argument names its own completion, so that clap's lines are changed, and the functions come before the end,
/// which runs the script.
fn zsh(script: &str) -> String {
    let line = |line: &str| match ZSH_ARGUMENTS.iter().find(|(argument, _)| line.contains(argument)) {
        Some((_, function)) => line.replace(":_default'", &format!(":{function}'")) + "\n",
        None => format!("{line}\n"),
    };
    let script: String = script.lines().map(line).collect();
    let end = script.rfind("if [ \"$funcstack[1]\"").unwrap_or(script.len());
    let (functions, run) = script.split_at(end);
    format!("{functions}{NAMES_IN_ZSH}{run}")
}
