//! `chatnap man`: the manual pages in troff, made from the definitions that parse the command line, the table of settings,
//! the table of slash commands and the table of keys.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::Interface;
use crate::chat::command::COMMANDS;
use crate::cli::args::Args;
use crate::failure::Failure;
use crate::settings::KEYS;

const FILES: &[(&str, &str)] = &[
    ("~/.config/chatnap/config.toml", "Settings and personas. `chatnap config default` prints it with every default."),
    ("~/.config/chatnap/themes/NAME.toml", "Themes of your own, for --theme NAME."),
    ("~/.local/share/chatnap/", "Stored conversations (SQLite), and drafts of a run that a signal ended."),
    (
        "~/.local/state/chatnap/chatnap.log",
        "The log, if CHATNAP_LOG asks for one; over 16 MiB it becomes chatnap.log.old at the next start.",
    ),
    ("~/.cache/huggingface/hub/", "Models, shared with other programs; HF_HOME and HF_HUB_CACHE move it."),
];

/// Variables beside one for each setting.
const VARIABLES: &[(&str, &str)] = &[
    ("CHATNAP_CONFIG", "Another config file, as --config."),
    ("CHATNAP_LOG", "Write the log: error, warn, info, debug or trace."),
    ("CHATNAP_CPU", "The fastest instructions that are used: plain, neon, avx2, avxvnni, avx512 or avx512vnni."),
    ("HF_TOKEN", "Token for models that the hub gives only to members."),
    ("HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE", "As in huggingface_hub."),
    ("HTTPS_PROXY, NO_PROXY", "Proxy for downloads."),
    ("VISUAL, EDITOR", "The editor that Ctrl-G opens."),
    ("NO_COLOR, COLORTERM, TERM", "Which colours are drawn."),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("chatnap", "Chat."),
    ("chatnap -c", "Continue the last conversation."),
    ("chatnap -m llama-3.2-1b -p 'Why is the sky blue?'", "Answer once, with a larger model."),
    ("git diff | chatnap -p 'Write a commit message.'", "Text on standard input follows the prompt."),
    ("chatnap -f src/main.rs -f Cargo.toml", "Chat about two files."),
    ("chatnap models list", "See which models are known and which are on this machine."),
    ("chatnap conversations search 'rust'", "Find a stored conversation."),
    ("chatnap usage --since 7d", "See answers, tokens, costs and advice on the idle window."),
    ("chatnap compare -m qwen3-0.6b -m llama-3.2-1b -p 'Hello!'", "Ask two models the same."),
    ("chatnap man --dir ~/.local/share/man/man1", "Install these pages."),
];

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Answered."),
    ("1", "Failed."),
    ("2", "Wrong usage."),
    ("3", "The model was not found or could not be fetched."),
    ("4", "Out of memory."),
    ("5", "The prompt does not fit the context."),
    ("130", "Interrupted."),
];

/// The page of the subcommand with these names; without names that of the program.
pub(super) fn page(names: &[String], interface: &Interface) -> Result<String, Failure> {
    let mut command = program();
    for name in names {
        let found = command.find_subcommand(name).filter(|found| !found.is_hide_set());
        let unknown = || Failure::usage(format!("chatnap has no subcommand `{}`.", names.join(" ")));
        command = found.cloned().ok_or_else(unknown)?;
    }
    render(command, interface)
}

/// Writes the page of the program and of every subcommand into `folder`, which is created; returns their paths, a line
/// each.
pub(super) fn write_all(folder: &Path, interface: &Interface) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut written = String::new();
    for command in with_subcommands(program()) {
        let path = folder.join(format!("{}.1", name_of(&command)));
        std::fs::write(&path, render(command, interface)?).map_err(failed)?;
        written += &format!("{}\n", path.display());
    }
    Ok(written)
}

/// The whole command line, without the subcommands `help`, which have no page.
fn program() -> Command {
    let mut command = without_help(Args::command());
    command.build();
    command
}

fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn with_subcommands(command: Command) -> Vec<Command> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set()).cloned();
    let below: Vec<_> = below.flat_map(with_subcommands).collect();
    std::iter::once(command).chain(below).collect()
}

fn name_of(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn render(command: Command, interface: &Interface) -> Result<String, Failure> {
    let is_program = name_of(&command) == "chatnap";
    let has = (command.get_arguments().any(|arg| !arg.is_hide_set()), command.get_subcommands().next().is_some());
    let man = Man::new(command.clone()).source(concat!("chatnap ", env!("CARGO_PKG_VERSION"))).manual("chatnap manual");
    let mut bytes = Vec::new();
    let written = man
        .render_title(&mut bytes)
        .and_then(|()| man.render_name_section(&mut bytes))
        .and_then(|()| man.render_synopsis_section(&mut bytes))
        .and_then(|()| man.render_description_section(&mut bytes))
        .and_then(|()| if has.0 { man.render_options_section(&mut bytes) } else { Ok(()) })
        .and_then(|()| if has.1 { man.render_subcommands_section(&mut bytes) } else { Ok(()) });
    written.map_err(|error| Failure::failed(format!("The manual page could not be written: {error}")))?;
    let page = String::from_utf8_lossy(&bytes).into_owned() + &notes(&command, is_program);
    Ok(page + &if is_program { own_sections(interface) } else { section("SEE ALSO", [("chatnap(1)", "")]) })
}

/// What a subcommand's help says after its flags: notes and examples, with their lines as they are.
fn notes(command: &Command, is_program: bool) -> String {
    let help = command.get_after_help().filter(|_| !is_program).map(|help| help.to_string());
    let lines = |text: String| text.lines().map(|line| format!("{}\n", escaped(line))).collect::<String>();
    help.map(|help| format!(".SH \"NOTES\"\n.nf\n{}.fi\n", lines(help))).unwrap_or_default()
}

/// The sections of the program's own page that are not made from the command line.
fn own_sections(interface: &Interface) -> String {
    let commands = COMMANDS.iter().map(|spec| (format!("{} {}", spec.name, spec.argument), spec.about));
    let commands: Vec<_> = commands.collect();
    let settings: Vec<_> = KEYS.iter().map(|key| (key.environment(), key.facts().about)).collect();
    let variables = settings.iter().map(|(name, about)| (name.as_str(), *about)).chain(VARIABLES.iter().copied());
    [
        section("KEYS", interface.keys.iter().copied()),
        section("COMMANDS IN THE CHAT", commands.iter().map(|(name, about)| (name.trim_end(), *about))),
        section("ENVIRONMENT", variables),
        section("FILES", FILES.iter().copied()),
        section("EXIT STATUS", EXIT_STATUS.iter().copied()),
        section("EXAMPLES", EXAMPLES.iter().copied()),
    ]
    .concat()
}

fn section<'a>(head: &str, entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let entry = |(term, text): (&str, &str)| format!(".TP\n\\fB{}\\fR\n{}\n", escaped(term), escaped(text));
    let entries: String = entries.into_iter().map(entry).collect();
    format!(".SH \"{head}\"\n{entries}")
}

/// Text for troff: a hyphen stays a hyphen, and no character begins a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('\n', " ");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
