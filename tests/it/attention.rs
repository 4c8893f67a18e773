//! The terminal's title, the announcement of a finished answer, and the mouse, in a pseudo-terminal.

use crate::support_pty::{Home, Tui};

const MODEL: &str = "fallback = \"You said: {user}\"\ntoken_ms = 1";

/// What a terminal sends when it loses or gains the focus.
const FOCUS_LOST: &str = "\x1b[O";
const FOCUS_GAINED: &str = "\x1b[I";

fn start(home: &Home, variables: &[(&str, &str)]) -> Tui {
    let mut command = home.command(&["--idle-window", "never"]);
    for (name, value) in variables {
        command.env(name, value);
    }
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("Ask anything");
    tui
}

#[test]
fn the_title_shows_state_and_conversation_and_is_restored() {
    let home = Home::new("fallback = \"You said: {user}\"\ntoken_ms = 20");
    let mut tui = start(&home, &[]);
    tui.wait_for_bytes("\x1b[22;0t").wait_for_bytes("\x1b]0;chatnap\x07");
    tui.send("Why is it so?").wait_for_bytes("\x1b]0;answering: Why is it so? - chatnap\x07");
    tui.wait_for_bytes("\x1b]0;Why is it so? - chatnap\x07");
    assert!(!tui.has_written("\x1b[23;0t"));
    tui.type_text("\x04").wait_for_exit();
    assert!(tui.has_written("\x1b[23;0t") && tui.has_written("\x1b[?1004l"));
    tui.assert_restored();
}

#[test]
fn an_answer_out_of_focus_is_announced_once() {
    let home = Home::new(MODEL);
    let mut tui = start(&home, &[("CHATNAP_NOTIFY_AFTER", "0"), ("CHATNAP_NOTIFY", "osc"), ("VTE_VERSION", "7600")]);
    tui.wait_for_bytes("\x1b[?1004h");
    tui.send("first").wait_for("You said: first").wait_for("TTFT");
    assert!(!tui.has_written("\x1b]777"), "it has the focus");
    tui.type_text(FOCUS_LOST).send("second").wait_for("You said: second");
    tui.wait_for_bytes("\x1b]777;notify;chatnap;first: the answer is complete after");
    tui.type_text(FOCUS_GAINED).send("third").wait_for("You said: third").wait_for_times("TTFT", 3);
    let written = tui.raw();
    assert_eq!(written.matches("\x1b]777").count(), 1);
}

#[test]
fn notify_off_announces_nothing() {
    let home = Home::new(MODEL);
    let mut tui = start(&home, &[("CHATNAP_NOTIFY_AFTER", "0"), ("CHATNAP_NOTIFY", "off")]);
    tui.type_text(FOCUS_LOST).send("hi").wait_for("You said: hi").wait_for("TTFT").settle();
    // Titles and queries end with the bell's byte, too.
    let raw = tui.raw();
    let outside = raw.split('\x07').filter(|part| !part.rsplit('\x1b').next().unwrap().starts_with(']')).count();
    assert_eq!(outside, 1, "only the end is outside of a control string");
    assert!(!raw.contains("\x1b]9;") && !raw.contains("\x1b]777"));
}

#[test]
fn the_mouse_is_left_to_the_terminal_unless_it_is_asked_for() {
    let home = Home::new(
        "[[answer]]\nwhen = \"long\"\ntext = \"0\\n\\n1\\n\\n2\\n\\n3\\n\\n4\\n\\n5\\n\\n6\\n\\n7\\n\\n8\\n\\n9\\n\\n10\\n\\n11\\n\\n12\\n\\n13\\n\\nEND\"",
    );
    let mut tui = start(&home, &[]);
    tui.type_text("\x04").wait_for_exit();
    assert!(!tui.has_written("\x1b[?1000h"));
    let mut tui = start(&home, &[("CHATNAP_MOUSE", "on")]);
    tui.wait_for_bytes("\x1b[?1000h\x1b[?1006h");
    tui.send("long").wait_for("END").wait_for("TTFT");
    // Two steps of the wheel, up and down.
    tui.type_text("\x1b[<64;10;5M\x1b[<64;10;5M").wait_for("more below");
    tui.type_text("\x1b[<65;10;5M\x1b[<65;10;5M").wait_until_gone("more below");
    // Three arrow keys at once are keys.
    tui.type_text("\x1b[A\x1b[A\x1b[A").wait_until("the prompt in the composer", |screen| {
        screen.contents().lines().rev().take(4).any(|line| line.contains("long"))
    });
    assert!(!tui.text().contains("more below"));
    tui.type_text("\x03\x03\x03").wait_for_exit();
    assert!(tui.has_written("\x1b[?1000l"));
    tui.assert_restored();
}

#[test]
fn set_mouse_takes_it_at_once_and_gives_it_back() {
    let home = Home::new("fallback = \"hi\"\n");
    let mut tui = start(&home, &[]);
    tui.type_text("/set mouse on\r").wait_for("mouse true: from now on").wait_for_bytes("\x1b[?1000h\x1b[?1006h");
    tui.type_text("/set mouse off\r").wait_for("mouse false: from now on").wait_for_bytes("\x1b[?1006l\x1b[?1000l");
    tui.type_text("/set mouse on\r").wait_for("mouse true: from now on");
    tui.type_text("\x04").wait_for_exit();
    let raw = tui.raw();
    assert!(raw.rfind("\x1b[?1000l") > raw.rfind("\x1b[?1000h"));
    tui.assert_restored();
}
