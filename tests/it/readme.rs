//! The README's table of commands, and what the manual pages refer to.

use std::collections::BTreeSet;

use chatnap::chat::command::COMMANDS;

use crate::run::Home;

const BEGIN: &str = "<!-- commands -->\n";
const END: &str = "<!-- end of commands -->";

fn table() -> String {
    let row = |name: &str, argument: &str, about: &str| {
        let name = format!("{name} {argument}");
        format!("| `{}` | {about} |\n", name.trim_end())
    };
    let rows: String = COMMANDS.iter().map(|spec| row(spec.name, spec.argument, spec.about)).collect();
    format!("| command | what it does |\n| --- | --- |\n{rows}")
}

/// `UPDATE_README=1` writes the table.
#[test]
fn readme_lists_every_command_as_the_program_does() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert_eq!(found, table(), "UPDATE_README=1 cargo test --test it -- readme writes the table");
    }
}

/// Names of the pages that `page` refers to, as `chatnap\-models(1)`.
fn references(page: &str) -> BTreeSet<String> {
    let plain = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
    let before = plain.split("(1)").collect::<Vec<_>>();
    let names = before[..before.len() - 1].iter();
    names.filter_map(|text| text.split(|c: char| c.is_whitespace()).next_back().map(str::to_owned)).collect()
}

#[test]
fn every_page_that_a_manual_page_refers_to_exists() {
    let home = Home::new();
    let folder = home.path().join("man1");
    let written = home.run(&["man", "--dir", folder.to_str().unwrap()]);
    assert_eq!(written.code(), 0, "{written:?}");
    let mut pages = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for path in written.stdout.lines().map(std::path::Path::new) {
        pages.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        wanted.extend(references(&std::fs::read_to_string(path).unwrap()));
    }
    assert!(pages.contains("chatnap") && pages.contains("chatnap-models-pull"), "{pages:?}");
    assert!(!pages.iter().any(|page| page.contains("help") || page.contains("complete")), "{pages:?}");
    assert!(wanted.contains("chatnap-models"), "{wanted:?}");
    assert_eq!(wanted.difference(&pages).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_main_page_has_keys_commands_environment_files_and_examples() {
    let home = Home::new();
    let page = home.run(&["man"]).stdout;
    for head in ["KEYS", "COMMANDS IN THE CHAT", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES"] {
        assert!(page.contains(&format!(".SH \"{head}\"")), "{head}:\n{page}");
    }
    for word in ["Ctrl\\-R", "/resume", "CHATNAP_IDLE_WINDOW", "config.toml", "chatnap.log"] {
        assert!(page.contains(word), "{word}:\n{page}");
    }
    let one = home.run(&["man", "models", "pull"]);
    assert!(one.code() == 0 && one.stdout.contains("chatnap-models-pull"), "{one:?}");
    let usage = home.run(&["man", "usage"]).stdout;
    assert!(usage.contains(".SH \"NOTES\"") && usage.contains("chatnap usage \\-\\-since 7d"), "{usage}");
    let none = home.run(&["man", "nothing"]);
    assert!(none.code() == 2 && none.stderr.contains("no subcommand `nothing`"), "{none:?}");
}
