//! `chatnap completions`: clap's script for each shell, and what completes names that change: models, themes,
//! conversations, devices and servers, which `chatnap complete` lists.

use clap::{Arg, Args as _, Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::args::{Args, ModelFlags};

const NAMES_IN_BASH: &str = include_str!("../../assets/completions.bash");
const NAMES_IN_ZSH: &str = include_str!("../../assets/completions.zsh");
const NAMES_IN_FISH: &str = include_str!("../../assets/completions.fish");

pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut offered(Args::command()), "chatnap", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script + NAMES_IN_BASH,
        Shell::Fish => script + NAMES_IN_FISH,
        Shell::Zsh => zsh(&script),
        _ => script,
    }
}

/// Subcommands that run no model, in which the flags about it are accepted but not offered.
const WITHOUT_MODEL: &[&str] = &["conversations", "usage", "completions", "man"];

/// The command with the flags about the model only where they have an effect: clap offers global ones everywhere.
fn offered(command: Command) -> Command {
    let of_model: Vec<_> =
        ModelFlags::augment_args(Command::new("")).get_arguments().map(Arg::get_id).cloned().collect();
    let is_of_model = |arg: &Arg| of_model.contains(arg.get_id()) && arg.is_global_set();
    let flags: Vec<_> = command.get_arguments().filter(|arg| is_of_model(arg)).cloned().collect();
    let command = command.mut_args(|arg| if is_of_model(&arg) { arg.global(false) } else { arg });
    let with_flags = |sub: Command| {
        let wanted = !WITHOUT_MODEL.contains(&sub.get_name());
        let missing = |sub: &Command, flag: &Arg| sub.get_arguments().all(|arg| arg.get_id() != flag.get_id());
        flags.iter().filter(|_| wanted).fold(sub, |sub, flag| if missing(&sub, flag) { sub.arg(flag) } else { sub })
    };
    command.mut_subcommands(with_flags)
}

/// Beginnings of the arguments in clap's script for zsh, and the function that completes their names.
const ZSH_ARGUMENTS: &[(&str, &str)] = &[
    ("--model=[", "_chatnap_models"),
    ("'-m+[", "_chatnap_models"),
    ("'*-m+[", "_chatnap_models"),
    (":name -- The model", "_chatnap_models"),
    ("--theme=[", "_chatnap_themes"),
    ("--device=[", "_chatnap_devices"),
    ("--server=[", "_chatnap_servers"),
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
