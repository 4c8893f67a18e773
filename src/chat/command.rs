//! Slash commands: list and parsing. `commands` executes them.

use super::compact::Compact;
use super::copying::CopyTarget;

/// A parsed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show the keys and commands.
    Help,
    /// Start a new conversation.
    New,
    /// Resume the stored conversation whose id begins with this; `None` opens the list.
    Resume(Option<String>),
    /// Set the conversation's title.
    Rename(String),
    /// Write the conversation into this file; `None`: a file named by the title.
    Export(Option<String>),
    /// Open the list of conversations, filtered by this text.
    List(String),
    /// Switch to another model; `None` opens the list, `cancel` stops a download.
    Model(Option<String>),
    /// Change the system message from the next prompt on; empty removes it; `None` shows it.
    System(Option<String>),
    /// Change a setting (key, value); show it without a value; `None` lists all.
    Set(Option<(String, Option<String>)>),
    /// Use a persona of the config file; `None` lists them.
    Persona(Option<String>),
    /// Ask this model the last prompt, on a new branch, and go back to the model in use.
    Compare(Option<String>),
    /// Answer the last prompt again, on a new branch.
    Regenerate,
    /// Put this prompt back into the composer, or the last one; the next prompt replaces it, on a new branch.
    Edit(Option<usize>),
    /// Show the branches of the conversation.
    Branch,
    /// Attach this file; `None` begins a mention in the draft.
    File(Option<String>),
    /// Copy the conversation up to this turn, or all of it, into a new one.
    Fork(Option<usize>),
    /// Let the model go on with its last answer, which was cut.
    Continue,
    /// Delete this turn, the last one if it is 0; `None` brings back the one that was deleted last.
    Delete(Option<usize>),
    /// Select a turn.
    Turns,
    /// Show the tokens that each turn takes.
    Context,
    /// Load the model with a context of so many tokens.
    ContextLength(usize),
    /// Leave out the oldest turns from now on if the context is full.
    Trim,
    /// Summarise or leave out turns.
    Compact(Compact),
    /// Copy an answer, code blocks or the conversation.
    Copy(CopyTarget),
    /// Release the model's memory now.
    Release,
    /// Load the model now.
    Load,
    /// Switch to another theme; `None`: open the list of themes.
    Theme(Option<String>),
    /// Fold or unfold the reasoning.
    Reasoning,
    /// Show the conversation's figures.
    Stats,
    /// Sum up all stored answers and loads.
    Usage,
    /// Quit the program.
    Quit,
}

/// An entry of the list of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name with the slash.
    pub name: &'static str,
    /// Placeholder of the argument; empty if the command takes none.
    pub argument: &'static str,
    /// Description for the list.
    pub about: &'static str,
}

const fn spec(name: &'static str, argument: &'static str, about: &'static str) -> Spec {
    Spec { name, argument, about }
}

/// Every command, in display order.
pub const COMMANDS: &[Spec] = &[
    spec("/help", "", "keys and commands"),
    spec("/new", "", "begin a new conversation"),
    spec("/resume", "ID", "go on with an earlier conversation; words or alone: a list"),
    spec("/list", "", "the conversations: open, search, rename, delete, export"),
    spec("/find", "TEXT", "search the titles and texts of all conversations"),
    spec("/rename", "TITLE", "give this conversation a title"),
    spec("/export", "FILE", "write this conversation into a new file: .md or .json"),
    spec("/model", "NAME", "use another model; alone: choose from a list"),
    spec("/system", "TEXT", "set the system message, or none; alone: show it"),
    spec("/persona", "NAME", "use a persona of the config, or none; alone: list them"),
    spec("/set", "KEY VALUE", "change a setting; alone: list them all"),
    spec("/turns", "", "select a turn, to change, fork, delete or copy it"),
    spec("/edit", "N", "change the last prompt, or the n-th, and ask anew"),
    spec("/retry", "", "ask the last prompt again"),
    spec("/continue", "", "let the model go on with an answer that was cut"),
    spec("/branch", "", "show the other answers, versions of a prompt, or deleted turns"),
    spec("/context", "N", "hold N tokens, or trim old turns; alone: what each takes"),
    spec("/compact", "N,M", "leave out turns; alone: the model summarises the oldest; none: take back"),
    spec("/fork", "N", "begin a new conversation with a copy of this one, up to turn n"),
    spec("/delete", "N", "delete the last turn, or the n-th; /delete undo brings the latest back"),
    spec("/file", "PATH", "attach a text file, as @PATH does; also as a draft's last line"),
    spec("/copy", "N", "the last answer, code block N or N,M, answer #N, or all"),
    spec("/load", "", "load the model now"),
    spec("/release", "", "give the model's memory back now"),
    spec("/theme", "NAME", "change the colours; alone: the list, with a preview"),
    spec("/reasoning", "", "show or fold what the model thought"),
    spec("/stats", "", "figures of this conversation"),
    spec("/usage", "", "tokens, loads and costs of all that is stored"),
    spec("/compare", "MODEL", "ask another model the last prompt, and compare the figures"),
    spec("/keys", "", "keys and commands"),
    spec("/quit", "", "leave"),
];

/// The argument of `/system` that removes the system message.
pub(super) const NO_SYSTEM: &str = "none";

/// Parses `text`; `None` if it is a prompt. The error is a hint about an unknown command or a wrong argument.
pub fn parse(text: &str) -> Result<Option<Command>, String> {
    let Some(rest) = text.strip_prefix('/') else { return Ok(None) };
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if rest.trim_end() == "?" {
        return Ok(Some(Command::Help));
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic() || c == '-') {
        return Ok(None);
    }
    let argument = argument.trim();
    let given = (!argument.is_empty()).then(|| argument.to_owned());
    let command = match name {
        "help" | "keys" => Command::Help,
        "new" | "clear" => Command::New,
        "resume" => Command::Resume(given),
        "list" => Command::List(String::new()),
        "find" => Command::List(given.unwrap_or_default()),
        "rename" => Command::Rename(given.ok_or("/rename needs a title")?),
        "export" | "save" => Command::Export(given),
        "model" => Command::Model(given),
        "show" => Command::Model(None),
        "set" => set(argument),
        "persona" => Command::Persona(given),
        "system" => system(given),
        "retry" | "regenerate" => Command::Regenerate,
        "edit" => Command::Edit(number(given, name)?),
        "branch" => Command::Branch,
        "file" => Command::File(given),
        "fork" => Command::Fork(number(given, name)?),
        "continue" => Command::Continue,
        "delete" if argument == "undo" => Command::Delete(None),
        "delete" => Command::Delete(Some(number(given, name)?.unwrap_or(0))),
        "turns" => Command::Turns,
        "compact" => Command::Compact(super::compact::parse(argument)?),
        "context" => context(given)?,
        "copy" => Command::Copy(CopyTarget::parse(given.as_deref())?),
        "load" => Command::Load,
        "release" => Command::Release,
        "theme" => Command::Theme(given),
        "reasoning" => Command::Reasoning,
        "usage" => Command::Usage,
        "compare" => Command::Compare(given),
        "stats" => Command::Stats,
        "quit" | "exit" | "bye" => Command::Quit,
        _ => return Err(format!("there is no /{name}; to send it as text, begin with a space")),
    };
    let takes_none = COMMANDS.iter().any(|spec| spec.name[1..] == *name && spec.argument.is_empty());
    if takes_none && !argument.is_empty() {
        return Err(format!("/{name} takes nothing after it; to send it as text, begin with a space"));
    }
    Ok(Some(command))
}

fn system(text: Option<String>) -> Command {
    Command::System(text.map(|text| if text == NO_SYSTEM { String::new() } else { text }))
}

/// `/set`: the model and the system message have commands of their own.
fn set(argument: &str) -> Command {
    match super::assignment::parse(argument) {
        ("", _) => Command::Set(None),
        ("model", name) => Command::Model(name),
        ("system", text) => system(text),
        (key, value) => Command::Set(Some((key.to_owned(), value))),
    }
}

/// `/context 16k` sets the size, `/context trim` leaves out the oldest turns, `/context` shows what each turn takes.
fn context(given: Option<String>) -> Result<Command, String> {
    let Some(text) = given else { return Ok(Command::Context) };
    if text == "trim" {
        return Ok(Command::Trim);
    }
    let digits = text.to_ascii_lowercase().replace([',', '_'], "");
    let (digits, factor) = match digits.strip_suffix('k') {
        Some(digits) => (digits.to_owned(), 1024),
        None => (digits, 1),
    };
    let length = digits.parse::<usize>().ok().and_then(|length| length.checked_mul(factor));
    let length = length.filter(|length| *length > 0).ok_or(
        "/context takes a number of tokens, such as 16384 or 16k; /set context_length default takes a change back",
    )?;
    Ok(Command::ContextLength(length))
}

/// The number of a turn.
fn number(given: Option<String>, name: &str) -> Result<Option<usize>, String> {
    let parse = |given: String| given.parse().ok().filter(|number| *number > 0);
    let wrong = || format!("/{name} takes the number of a turn, counted from 1");
    given.map(|given| parse(given).ok_or_else(wrong)).transpose()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_command_parses() {
        for spec in COMMANDS {
            let argument = if spec.argument.starts_with('N') && spec.argument != "NAME" { "1" } else { spec.argument };
            let text = format!("{} {argument}", spec.name);
            assert!(parse(&text).unwrap().is_some(), "{text}");
        }
    }

    #[test]
    fn paths_are_prompts_and_unknown_commands_are_errors() {
        assert_eq!(parse("/usr/bin: what is it?"), Ok(None));
        assert_eq!(parse("1/2"), Ok(None));
        assert_eq!(parse(" /help"), Ok(None));
        assert!(parse("/hlep").unwrap_err().contains("there is no /hlep"));
        assert!(parse("/new beginnings of the world").is_err());
        assert_eq!(parse("/system Be\nbrief."), Ok(Some(Command::System(Some("Be\nbrief.".into())))));
    }

    #[test]
    fn system_none_removes_the_system_message() {
        assert_eq!(parse("/system none"), Ok(Some(Command::System(Some(String::new())))));
        assert_eq!(parse("/system"), Ok(Some(Command::System(None))));
        assert_eq!(parse("/system none of it"), Ok(Some(Command::System(Some("none of it".into())))));
    }
}
