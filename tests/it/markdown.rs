//! Markdown on a terminal: in the interface, in one-shot answers and in `conversations show`.

use crate::support_pty::{Home, Tui};

const ANSWER: &str = "[[answer]]\ntext = \"\"\"\n## Table\n\n| name | value |\n|---|---|\n| a | **1** |\n\nSo $x^2 \\\\leq 4$, \
                      see [docs](https://a.example/).\n\n```rust\nlet x = 1;\n```\n\"\"\"\n";

/// What a terminal of 100 columns shows after these bytes.
fn shown(bytes: &[u8]) -> String {
    let size = |size| std::num::NonZeroU16::new(size).unwrap();
    let mut parser = vt100::Parser::new(size(50), size(100), 0);
    parser.process(bytes);
    parser.screen().contents()
}

#[test]
fn one_shot_on_a_terminal_renders_markdown_and_raw_does_not() {
    let home = Home::new(ANSWER);
    let bytes = home.output(&["-p", "hi", "--quiet"]);
    let screen = shown(&bytes);
    for piece in ["│ name │ value │", "│ a    │ 1     │", "So x² ≤ 4, see docs (https://a.example/).", "│ let x = 1;"]
    {
        assert!(screen.contains(piece), "{piece} is missing in\n{screen}");
    }
    assert!(!screen.contains("##") && !screen.contains("**"), "{screen}");
    assert!(bytes.ends_with(b"\r\n"));
    let raw = shown(&home.output(&["-p", "hi", "--quiet", "--raw"]));
    assert!(raw.contains("## Table") && raw.contains("| a | **1** |"), "{raw}");
    let shown_again = shown(&home.output(&["conversations", "list"]));
    let id = shown_again.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap();
    let stored = shown(&home.output(&["conversations", "show", id]));
    assert!(stored.contains("│ a    │ 1     │") && !stored.contains("**"), "{stored}");
}

#[test]
fn the_interface_colours_code_and_shows_formulas() {
    let home = Home::new(ANSWER);
    let mut tui: Tui = home.start(&[]);
    tui.send("Answer me.").wait_for("So x² ≤ 4");
    tui.wait_for("│ let x = 1;");
    assert!(tui.text().contains("│ a    │ 1     │"), "{}", tui.text());
}

/// A redraw of the whole screen must write the links, too.
#[test]
fn links_are_links_of_the_terminal_also_after_a_redraw() {
    let home = Home::new(ANSWER);
    let mut command = home.command(&[]);
    command.env("TERM_PROGRAM", "WezTerm");
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("Ask anything").send("Answer me.").wait_for("a.example");
    tui.settle();
    let links = |tui: &Tui| tui.raw().matches(";https://a.example/\x1b\\").count();
    let before = links(&tui);
    assert!(before > 0, "{:?}", tui.raw());
    tui.type_text("\x0c").settle();
    assert!(links(&tui) > before, "Ctrl-L");
    let before = links(&tui);
    tui.resize(90, 30);
    tui.settle();
    assert!(links(&tui) > before, "a resize");
}
