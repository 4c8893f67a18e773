//! The lists of the TUI in a pseudo-terminal: conversations and the palette.

use crate::support_pty::{Home, output};

const MODEL: &str = r#"
load_ms = 10
token_ms = 1
fallback = "You said: {user}"

[[answer]]
when = "secret"
text = "The word is xylophone, vast and mysterious."
"#;

/// Three conversations are stored; the interface shows an empty one.
fn stored() -> (Home, crate::support_pty::Tui) {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("about the moon").wait_for("You said: about the moon").wait_for("TTFT");
    tui.type_text("/new\r").wait_until_gone("You said");
    tui.send("tell me the secret").wait_for("xylophone").wait_for("TTFT");
    tui.type_text("/new\r").wait_until_gone("The word");
    tui.send("about rust").wait_for("You said: about rust").wait_for("TTFT");
    tui.type_text("/new\r").wait_until_gone("You said");
    (home, tui)
}

#[test]
fn a_word_of_an_answer_finds_its_conversation_and_one_enter_opens_it() {
    let (_home, mut tui) = stored();
    tui.wait_for("Recent conversations").wait_for("about the moon");
    tui.type_text("\x13").wait_for("Ctrl-R renames").wait_for("today").wait_for("tell me the secret");
    tui.type_text("vast myst").wait_for("vast and mysterious");
    // The interface shows what is found; only then it can be opened.
    tui.type_text("\r").wait_for("› tell me the secret").wait_for("The word is xylophone");
    tui.type_text("/resume vast mysterious\x1b").wait_for("/resume vast mysterious").type_text("\r");
    tui.wait_for("Ctrl-R renames").wait_for("vast and mysterious");
    tui.type_text("\x1b").wait_until_gone("Ctrl-R renames");
    tui.type_text("/find moon\r").wait_for("about the moon").type_text("\r").wait_for("You said: about the moon");
}

#[test]
fn conversations_are_renamed_deleted_brought_back_and_exported() {
    let (home, mut tui) = stored();
    let folder = home.folder.path().to_owned();
    tui.type_text("/list\r").wait_for("Ctrl-R renames").wait_for("› about rust");
    tui.type_text("\x12").wait_for("new title: about rust").type_text("\x15Ferris\r").wait_for("› Ferris");
    tui.type_text("\x04").wait_for("“Ferris” is deleted").wait_for("Ctrl-Z brings").wait_until_gone("› Ferris");
    tui.type_text("\x1a").wait_for("“Ferris” is back").wait_for("Ferris  ");
    let file = folder.join("ferris.md");
    tui.type_text("Ferris").wait_for("› Ferris").type_text("\x05").wait_for("export to: ferris.md");
    tui.type_text("\x15").type_text(&format!("{}\r", file.display())).wait_for("exported to");
    assert!(std::fs::read_to_string(&file).unwrap().contains("You said: about rust"));
    tui.type_text("\x1b").wait_until_gone("Ctrl-R renames");
    assert!(output(&folder, &["conversations", "list"]).contains("Ferris"));
}

#[test]
fn a_deleted_conversation_is_in_no_list() {
    let (home, mut tui) = stored();
    tui.type_text("/list\r").wait_for("› about rust").type_text("\x04").wait_for("is deleted");
    tui.type_text("\x1b").wait_until_gone("Ctrl-Z brings");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let listed = output(home.folder.path(), &["conversations", "list"]);
    assert!(!listed.contains("about rust") && listed.contains("about the moon"), "{listed}");
}

#[test]
fn the_palette_runs_commands_and_opens_conversations() {
    let (_home, mut tui) = stored();
    tui.type_text("\x0f").wait_for("palette").wait_for("/help").type_text("secret").wait_for("› tell me the secret");
    tui.type_text("\r").wait_for("The word is xylophone");
    // A draft stays where it is while a command runs.
    tui.type_text("my draft\x0f").wait_for("palette").type_text("rename").wait_for("› /rename TITLE");
    tui.type_text("\x1b").wait_until_gone("palette").wait_for("my draft");
    tui.type_text("\x15/rename The word\r").wait_for("this conversation is now “The word”");
    tui.type_text("/new\r").wait_until_gone("xylophone").type_text("/resume word").wait_for("› The word");
    tui.type_text("\r").wait_for("The word is xylophone");
}

/// Keys that open a list or another overlay, a text that it shows after them, and a text of it that is on no other screen.
const OVERLAYS: [(&str, &str, &str); 13] = [
    ("\x13moon", "› about the moon", "Ctrl-R renames"),
    ("\x0fmodel", "/model NAME", "Enter runs it"),
    ("/model\r", "in use", "Enter uses it"),
    ("/theme\r", "high-contrast", "Enter takes it"),
    ("/set\r", "temperature", "Del takes back"),
    ("/persona\r", "coder", "personas"),
    ("/branch\r", "turn 1", "Enter shows the branch"),
    ("/context\r", "about rust", "Enter selects the turn"),
    ("\x1b[1;3A", "answer 1 of 1", "Esc leaves"),
    ("?", "Ctrl-Home", "chatnap: Esc closes"),
    ("\x12rust", "› about rust", "search"),
    ("see @mod", "model.toml", "@mod"),
    ("/re", "› /resume ID", "/rename TITLE"),
];

#[test]
fn every_list_survives_a_storm_of_resizes() {
    let home = Home::new(MODEL);
    let config = home.folder.path().join("config/chatnap");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "[persona.coder]\nsystem = \"Code.\"\n").unwrap();
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("about the moon").wait_for("You said: about the moon").wait_for("TTFT");
    tui.type_text("/new\r").wait_until_gone("You said");
    tui.send("about rust").wait_for("You said: about rust").wait_for("TTFT");
    tui.type_text("/retry\r").wait_for("2 of 2 branches").wait_for("TTFT");
    for (keys, shown, own) in OVERLAYS {
        tui.type_text(keys).wait_for(shown);
        for step in 0..16u16 {
            tui.resize(20 + step * 67 % 180, 5 + step * 13 % 45);
        }
        tui.resize(100, 30);
        tui.wait_for(shown).wait_for(own);
        // A draft is cleared first.
        tui.type_text("\x1b").settle();
        if tui.text().contains(own) {
            tui.type_text("\x1b").settle();
        }
        tui.type_text("\x05\x15").wait_for("Ask anything").wait_until_gone(own);
    }
    tui.send("still here").wait_for("You said: still here");
}
