//! `chatnap completions` and `chatnap man`: generated from the definitions that parse the command line.

use clap::CommandFactory;

use crate::cli::args::Args;
use crate::failure::Failure;

pub(super) fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "chatnap", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if shell == clap_complete::Shell::Bash { script + MODELS_IN_BASH } else { script }
}

/// Completes model names, which clap's script does not.
const MODELS_IN_BASH: &str = include_str!("../../assets/completions.bash");

/// One page in troff: the flags, then the subcommands.
pub(super) fn man() -> Result<String, Failure> {
    let mut page = Vec::new();
    let mut command = Args::command();
    command.build();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::failed(format!("The manual page could not be written: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
