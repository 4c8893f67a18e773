//! Completion of names in the shells that are installed.

use std::process::Command;

use crate::run::{Home, finish};

const HELLO: &str = "fallback = \"hi\"\n";

/// A home with one conversation, and the program on the PATH.
struct Shell {
    home: Home,
    id: String,
}

impl Shell {
    fn new() -> Self {
        let home = Home::new();
        let ran = home.run(&["-m", &home.model(HELLO), "-p", "Why: is the sky blue?", "--format", "json"]);
        let id = ran.json()["conversation"].as_str().unwrap().to_owned();
        home.file("config/chatnap/themes/mine.toml", "inherits = \"dark\"\n");
        Self { home, id }
    }

    /// Runs a shell; `None` if it is not installed.
    fn run(&self, shell: &str, arguments: &[&str]) -> Option<String> {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_chatnap"));
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(shell);
        self.home.prepare(&mut command);
        let child = command.env("PATH", path).env("TERM", "dumb").args(arguments).spawn().ok()?;
        Some(finish(child).stdout)
    }

    fn script(&self, shell: &str) -> String {
        let name = if shell == "zsh" { "functions/_chatnap".to_owned() } else { format!("completions.{shell}") };
        let script = self.home.file(&name, self.home.run(&["completions", shell]).stdout);
        script.to_str().unwrap().to_owned()
    }

    /// What must be offered: a line, and a word among its completions.
    fn lines(&self) -> Vec<(String, String)> {
        let lines = [
            ("chatnap --theme ", "high-contrast"),
            ("chatnap --theme mi", "mine"),
            ("chatnap -m smol", "smollm2-135m"),
            ("chatnap --device cu", "cuda:0"),
            ("chatnap --server oll", "ollama"),
            ("chatnap bench --devi", "--device"),
            ("chatnap conversations list --form", "--format"),
            ("chatnap models pull smol", "smollm2-135m"),
            ("chatnap compare -m smollm2-135m -m smol", "smollm2-135m"),
            ("chatnap --conversation ", self.id.as_str()),
            ("chatnap conversations show ", self.id.as_str()),
            ("chatnap conversations remove last ", self.id.as_str()),
        ];
        lines.map(|(line, word)| (line.to_owned(), word.to_owned())).into()
    }
}

#[test]
fn bash_completes_names() {
    let shell = Shell::new();
    let script = shell.script("bash");
    let ask = "source \"$1\"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
               $(complete -p chatnap | sed 's/.*-F \\([^ ]*\\).*/\\1/') chatnap \"${2##* }\" x; \
               printf '%s\\n' \"${COMPREPLY[@]}\"";
    for (line, word) in shell.lines() {
        let found = shell.run("bash", &["--norc", "-c", ask, "bash", &script, &line]).unwrap();
        assert!(found.lines().any(|name| name == word), "{line}: {found}");
    }
}

#[test]
fn fish_completes_names_with_descriptions() {
    let shell = Shell::new();
    let script = shell.script("fish");
    for (line, word) in shell.lines() {
        let ask = format!("source {script}; complete -C '{line}'");
        let Some(found) = shell.run("fish", &["-N", "-c", &ask]) else { return };
        let name = |offer: &str| offer.split('\t').next() == Some(word.as_str());
        let offer = found.lines().find(|offer| name(offer)).unwrap_or_else(|| panic!("{line}: {found}"));
        assert!(word != shell.id || offer.contains("Why: is the sky blue?"), "{offer}");
    }
}

#[test]
fn zsh_completes_names_with_descriptions() {
    let shell = Shell::new();
    let script = shell.script("zsh");
    let folder = script.trim_end_matches("/_chatnap");
    // Lists the choices in a zsh on a pseudo-terminal of its own, and waits for the third argument among them: zsh lists
    // nothing while more is being typed.
    let ask = "zmodload zsh/zpty; zpty z zsh -f -i
        zpty -w z \"PS1=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -d $1/dump; \
            bindkey '^I' list-choices; LISTMAX=10000; stty rows 100 cols 200; echo RE''ADY\"
        zpty -r -m z out '*READY*'
        zpty -n -w z \"$2\"$'\\t'
        zpty -r -m z out \"*$3*\"; print -r -- $out";
    for (line, word) in shell.lines() {
        let wanted = if word == shell.id { format!("{word}*Why: is the sky blue") } else { word };
        if shell.run("zsh", &["--version"]).is_none() {
            return;
        }
        let found = shell.run("timeout", &["60", "zsh", "-f", "-c", ask, "zsh", folder, &line, &wanted]).unwrap();
        assert!(!found.is_empty(), "{line}: never listed {wanted}");
    }
}

#[test]
fn flags_about_the_model_are_offered_where_a_model_runs() {
    let home = Home::new();
    let script = home.run(&["completions", "fish"]).stdout;
    let offers = |begin: &str| script.lines().any(|line| line.starts_with(begin) && line.contains("-l context-length"));
    assert!(offers("complete -c chatnap -n \"__fish_chatnap_needs_command\""), "without a subcommand");
    assert!(offers("complete -c chatnap -n \"__fish_chatnap_using_subcommand bench"), "{script}");
    assert!(!offers("complete -c chatnap -n \"__fish_chatnap_using_subcommand conversations"), "{script}");
    // It is accepted nevertheless.
    assert_eq!(home.run(&["conversations", "list", "--context-length", "512"]).code(), 0);
}
