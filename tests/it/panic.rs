//! Panics: a panic of the engine fails one turn, a panic of the TUI restores the terminal and exits.

use crate::support_pty::{Home, Tui};

#[test]
fn engine_panic_fails_only_the_current_turn() {
    let script = r#"
token_ms = 2
fallback = "You said: {user}"
[[failure]]
at = "token"
after = 4
kind = "panic"
when = "break"
"#;
    let home = Home::new(script);
    let mut tui = home.start(&[]);
    tui.send("break it").wait_for("/retry asks again");
    let text = tui.text();
    assert!(!text.contains("panicked at"), "the panic message is on the screen:\n{text}");
    tui.send("hello").wait_for("You said: hello");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    tui.assert_restored();
}

#[test]
fn tui_panic_restores_the_terminal_and_prints_the_message() {
    if !cfg!(debug_assertions) {
        return; // Release builds ignore `CHATNAP_TEST_PANIC`.
    }
    let home = Home::new("");
    let mut command = home.command(&[]);
    command.env("CHATNAP_TEST_PANIC", "1");
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("Ask anything").send("boom").wait_for("a panic for the test");
    assert_ne!(tui.wait_for_exit(), 0);
    tui.assert_restored();
}
