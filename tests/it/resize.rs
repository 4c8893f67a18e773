//! Terminal resizes: many while an answer streams, very small and very large sizes.

use crate::support_pty::{Home, Tui};

#[test]
fn many_resizes_while_an_answer_streams() {
    let answer = "Some **words** that wrap, 日本語 and 👩‍🚀 too. ".repeat(10);
    let home = Home::new(&format!("token_ms = 2\nfallback = \"{answer} THE END\""));
    let mut tui = home.start(&[]);
    tui.send("go").wait_for("Some words");
    for step in 0..60u16 {
        let (columns, rows) = if step % 2 == 0 { (1, 1) } else { (500, 200) };
        tui.resize(columns, rows);
        tui.resize(1 + step * 7 % 300, 1 + step * 3 % 60);
    }
    tui.resize(80, 24);
    tui.wait_for("THE END").wait_for("Ask anything").wait_for("TTFT");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    tui.assert_restored();
}

#[test]
fn draws_in_20x5_and_200x50() {
    let home = Home::new("fallback = \"small talk\"");
    let mut tui = Tui::spawn(home.command(&[]), 20, 5);
    tui.wait_for("cold").send("hi").wait_for("warm");
    tui.resize(200, 50);
    tui.wait_for("small talk").wait_for("context");
}
