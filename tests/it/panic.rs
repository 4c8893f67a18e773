//! Panics: of the engine, which the chat survives, and of the interface, which leaves a sane terminal.

use crate::support_pty::{Home, Tui};

#[test]
fn a_panic_of_the_engine_fails_the_turn_and_nothing_else() {
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
    tui.send("break it").wait_for("/regenerate asks again");
    let text = tui.text();
    assert!(!text.contains("panicked at"), "the panic tore the screen:\n{text}");
    tui.send("hello").wait_for("You said: hello");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    tui.assert_restored();
}

#[test]
fn a_panic_of_the_interface_restores_the_terminal_and_says_what_happened() {
    if !cfg!(debug_assertions) {
        return; // Release builds have no way to cause one.
    }
    let home = Home::new("");
    let mut command = home.command(&[]);
    command.env("CHATNAP_TEST_PANIC", "1");
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("Ask anything").send("boom").wait_for("a panic for the test");
    assert_ne!(tui.wait_for_exit(), 0);
    tui.assert_restored();
}
