//! Stopping an answer, a load and the program with Esc and Ctrl-C.

use crate::support_pty::Home;

const SLOW: &str = r#"
token_ms = 40
fallback = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen THE END"
"#;

#[test]
fn escape_stops_an_answer_and_keeps_its_text() {
    let home = Home::new(SLOW);
    let mut tui = home.start(&[]);
    tui.send("count").wait_for("one two three").type_text("\x1b");
    tui.wait_for("stopped");
    let text = tui.text();
    assert!(text.contains("one two three") && !text.contains("THE END"), "{text}");
    tui.send("again").wait_for("THE END");
}

#[test]
fn control_c_stops_then_clears_then_quits() {
    let home = Home::new(SLOW);
    let mut tui = home.start(&[]);
    tui.send("count").wait_for("one two").type_text("draft").wait_for("draft").type_text("\x03");
    tui.wait_for("stopped").wait_for("draft");
    tui.type_text("\x03").wait_until_gone("draft");
    tui.type_text("\x03").wait_for("press Ctrl-C again to quit").type_text("\x03");
    assert_eq!(tui.wait_for_exit(), 0);
    tui.assert_restored();
}

#[test]
fn escape_stops_a_load() {
    let home = Home::new("load_ms = 60000\nload_steps = 600");
    let mut tui = home.start(&[]);
    tui.type_text("h").wait_for("loading 1 %").type_text("\x1b");
    tui.wait_for("cold");
}

#[test]
fn a_prompt_that_waits_for_a_load_can_be_stopped() {
    let home = Home::new("load_ms = 60000\nload_steps = 600");
    let mut tui = home.start(&[]);
    tui.send("hello").wait_for("loading the model").type_text("\x1b");
    tui.wait_for("stopped").wait_for("cold");
}
