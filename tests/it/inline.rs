//! `--inline` in a pseudo-terminal: the normal screen, finished turns above the window, resizing, and the end.

use crate::support_pty::{Home, Tui};

const MODEL: &str = "fallback = \"You said: {user}\"\ntoken_ms = 1";

fn start(home: &Home) -> Tui {
    home.start(&["--inline", "--idle-window", "never"])
}

#[test]
fn finished_turns_stay_in_the_normal_screen() {
    let home = Home::new(MODEL);
    let mut tui = start(&home);
    assert!(!tui.screen().alternate_screen());
    tui.send("first").wait_for("You said: first").wait_for_times("TTFT", 1);
    tui.send("second").wait_for("You said: second").wait_for_times("TTFT", 2);
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let text = tui.text();
    for line in ["You said: first", "You said: second", "goes on with this conversation"] {
        assert_eq!(text.matches(line).count(), 1, "{line}:\n{text}");
    }
    assert!(!text.contains("Ask anything"), "the window is gone:\n{text}");
    assert!(!tui.has_written("\x1b[?1049h"));
    tui.assert_restored();
}

#[test]
fn resizing_keeps_what_was_printed_and_one_window() {
    let home = Home::new(MODEL);
    let mut tui = start(&home);
    tui.send("first").wait_for("You said: first").wait_for("TTFT");
    for (columns, rows) in [(100, 30), (120, 40), (90, 32)] {
        tui.resize(columns, rows);
        tui.settle();
    }
    // The window is drawn after the lines above it.
    tui.send("second").wait_for("You said: second").wait_for_times("TTFT", 2).settle();
    tui.wait_for("Ask anything");
    let text = tui.text();
    for line in ["You said: first", "You said: second", "Ask anything"] {
        assert_eq!(text.matches(line).count(), 1, "{line}:\n{text}");
    }
    tui.type_text("\x04").wait_for_exit();
    tui.assert_restored();
}

#[test]
fn a_list_takes_the_rows_that_it_needs_and_gives_them_back() {
    let home = Home::new(MODEL);
    let mut tui = start(&home);
    tui.type_text("?").wait_for("chatnap: Esc closes").wait_for("Ctrl-Home");
    tui.type_text("\x1b").wait_until_gone("Ctrl-Home").wait_for("Ask anything");
    tui.send("first").wait_for("You said: first");
    tui.type_text("\x04").wait_for_exit();
    tui.assert_restored();
}
