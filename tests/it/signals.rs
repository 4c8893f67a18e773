//! Signals: the terminal is restored, the partial answer is stored, job control works.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support_pty::{Home, output};

const ENDLESS: &str = "token_ms = 20\nfallback = \"partial words that go on and on and on and on and on and on and on and on \
    and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on\"";

fn ends_well(signal: Signal, code: u32) {
    let home = Home::new(ENDLESS);
    let mut tui = home.start(&[]);
    tui.send("talk").wait_for("partial words");
    let begin = Instant::now();
    tui.signal(signal);
    assert_eq!(tui.wait_for_exit(), code);
    // The limit is 2 s; the rest is slack for a loaded machine.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    tui.assert_restored();
    let kept = output(home.folder.path(), &["conversations", "show", "last"]);
    assert!(kept.contains("partial words"), "{kept}");
    let mut again = home.start(&["-c"]);
    again.wait_for("partial words").wait_for("interrupted");
}

#[test]
fn sigterm_stores_the_answer_and_restores_the_terminal() {
    ends_well(Signal::TERM, 143);
}

#[test]
fn sighup_stores_the_answer_and_restores_the_terminal() {
    ends_well(Signal::HUP, 129);
}

#[test]
fn closed_pty_ends_the_program_and_stores_the_answer() {
    let home = Home::new(ENDLESS);
    let mut tui = home.start(&[]);
    tui.send("talk").wait_for("partial words");
    assert_eq!(tui.vanish(), 129);
    let kept = output(home.folder.path(), &["conversations", "show", "last"]);
    assert!(kept.contains("partial words"), "{kept}");
}

#[test]
fn unsent_prompt_is_kept_on_sighup_and_recalled_once() {
    let home = Home::new(ENDLESS);
    let mut tui = home.start(&[]);
    tui.type_text("a long prompt not yet submitted").wait_for("not yet submitted");
    tui.signal(Signal::HUP);
    assert_eq!(tui.wait_for_exit(), 129);
    let mut tui = home.start(&[]);
    tui.wait_for("is kept: Up brings it back").type_text("\x1b[A").wait_for("a long prompt not yet submitted");
    // The prompt was recalled once; clearing it discards it.
    tui.type_text("\x03").wait_until_gone("not yet submitted").type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = home.start(&[]);
    tui.type_text("\x1b[A").settle();
    assert!(!tui.text().contains("is kept") && !tui.text().contains("not yet submitted"), "{}", tui.text());
}

#[test]
fn control_z_suspends_to_the_shell_and_fg_resumes() {
    let home = Home::new("fallback = \"You said: {user}\"");
    let mut shell = home.shell();
    let command = format!("{} -m scripted:{}\r", env!("CARGO_BIN_EXE_chatnap"), home.script().display());
    shell.type_text(&command).wait_for("Ask anything");
    shell.send("before").wait_for("You said: before");
    shell.type_text("\x1a").wait_until("the shell", |screen| !screen.alternate_screen());
    shell.wait_for("Stopped");
    shell.type_text("echo $((40+2))\r").wait_for("42");
    shell.type_text("fg\r").wait_until("the chat", vt100::Screen::alternate_screen);
    shell.wait_for("You said: before");
    shell.send("after").wait_for("You said: after");
    shell.type_text("\x04").wait_until("the shell", |screen| !screen.alternate_screen());
    // bash prints its prompt only after it has the terminal back.
    let asks = |screen: &vt100::Screen| screen.contents().trim_end().ends_with("shell>");
    shell.wait_for("goes on with").wait_until("the prompt", asks).type_text("exit\r");
    shell.wait_for_exit();
}

#[test]
fn control_z_without_a_shell_prints_a_notice_and_continues() {
    let home = Home::new("fallback = \"You said: {user}\"");
    let mut tui = home.start(&[]);
    tui.type_text("\x1a").wait_for("there is no shell to go back to");
    tui.send("still here").wait_for("You said: still here");
}

#[test]
fn stalled_terminal_does_not_delay_signals() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let home = Home::new(ENDLESS);
        let mut tui = home.start(&[]);
        tui.send("talk").wait_for("partial words");
        tui.type_text("half a thought").wait_for("half a thought");
        tui.stall();
        let begin = Instant::now();
        tui.signal(signal);
        assert_eq!(tui.wait_for_exit_unread(), code);
        // The limit is 2 s; the rest is slack for a loaded machine.
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        tui.go_on();
        let kept = output(home.folder.path(), &["conversations", "show", "last"]);
        assert!(kept.contains("partial words") && kept.contains("interrupted"), "{kept}");
        let mut again = home.start(&[]);
        again.wait_for("is kept: Up brings it back");
    }
}

#[test]
fn fatal_signal_restores_the_terminal_and_keeps_the_answer() {
    for signal in [Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::QUIT, Signal::USR1] {
        let home = Home::new(ENDLESS);
        let mut tui = home.start(&[]);
        tui.send("talk").wait_for("partial words");
        // Shown text is stored within 250 ms.
        std::thread::sleep(Duration::from_millis(600));
        tui.signal(signal);
        assert_ne!(tui.wait_for_exit(), 0, "{signal:?}");
        tui.assert_restored();
        assert!(tui.text().contains("chatnap -c goes on"), "{signal:?}: {}", tui.text());
        let kept = output(home.folder.path(), &["conversations", "show", "last"]);
        assert!(kept.contains("partial words"), "{signal:?}: {kept}");
    }
}
