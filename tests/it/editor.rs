//! Ctrl-G with `$EDITOR`, the mouse wheel, and the draft's token count.

use std::os::unix::fs::PermissionsExt;

use crate::support_pty::{Home, Tui};

const MODEL: &str = "fallback = \"You said: {user}\"\ntoken_ms = 1";

/// Starts the TUI with this shell script as `$EDITOR`; `$1` is `--wait`, `$2` the draft's file.
fn with_editor(home: &Home, script: &str) -> Tui {
    let editor = home.folder.path().join("editor.sh");
    std::fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = home.command(&["--idle-window", "never"]);
    command.env("EDITOR", format!("{} --wait", editor.display()));
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("Ask anything");
    tui
}

#[test]
fn editor_receives_the_draft_and_returns_the_changed_text() {
    let home = Home::new(MODEL);
    // The script reads the keyboard in cooked mode; chatnap must not read it meanwhile.
    let script = r#"echo "mode $(stat -c %a "$2"), was: $(cat "$2")"; read line; printf '%s\nand %s\n' "$(cat "$2")" "$line" > "$2""#;
    let mut tui = with_editor(&home, script);
    tui.type_text("a question").wait_for("a question");
    tui.type_text("\x07").wait_for("mode 600, was: a question");
    assert!(!tui.screen().alternate_screen());
    tui.type_text("more\r").wait_until("the chat", vt100::Screen::alternate_screen).wait_for("and more");
    tui.type_text("\r").wait_for("You said: a question");
    tui.type_text("\x04").wait_for_exit();
    tui.assert_restored();
}

#[test]
fn failing_editor_leaves_the_draft_unchanged() {
    let home = Home::new(MODEL);
    let mut tui = with_editor(&home, "echo gone > \"$2\"; exit 3");
    tui.type_text("a question").wait_for("a question");
    tui.type_text("\x07").wait_for("what you wrote is as it was").wait_for("a question");
    tui.type_text("!\r").wait_for("You said: a question!");
}

/// Starts the TUI with this search path of programs, and without `$EDITOR`.
fn with_programs(home: &Home, path: &str) -> Tui {
    let mut command = home.command(&[]);
    command.env("PATH", path);
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("Ask anything");
    tui
}

#[test]
fn without_any_editor_the_variables_to_set_are_named() {
    let home = Home::new(MODEL);
    let mut tui = with_programs(&home, "/nowhere");
    tui.type_text("\x07").wait_for("set VISUAL or EDITOR");
}

#[test]
fn without_editor_variables_vi_is_opened() {
    let home = Home::new(MODEL);
    let folder = home.folder.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let vi = folder.join("vi");
    std::fs::write(&vi, "#!/bin/sh\necho 'written in vi' > \"$1\"\n").unwrap();
    std::fs::set_permissions(&vi, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut tui = with_programs(&home, &format!("{}:/usr/bin:/bin", folder.display()));
    tui.type_text("\x07").wait_for("written in vi");
}

#[test]
fn two_escapes_in_one_read_are_two_presses() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("hello").wait_for("You said: hello").wait_for("TTFT");
    tui.type_text("\x1b\x1b").wait_for("in place of your last prompt");
}

#[test]
fn three_arrow_keys_at_once_move_in_a_draft_of_several_rows() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.type_text("one\ntwo\nthree\nfour").wait_for("four");
    tui.type_text("\x1b[A\x1b[A\x1b[A").type_text("!").wait_for("one!");
}

#[test]
fn answer_continues_while_the_editor_is_open() {
    let home = Home::new("token_ms = 20\nfallback = \"one two three four five six seven eight nine ten END\"");
    let mut tui = with_editor(&home, "echo open; read line; echo $line > \"$2\"");
    tui.send("count").wait_for("one");
    tui.type_text("\x07").wait_until("the editor", |screen| !screen.alternate_screen()).wait_for("open");
    std::thread::sleep(std::time::Duration::from_millis(600));
    tui.type_text("next\r").wait_until("the chat", vt100::Screen::alternate_screen);
    tui.wait_for("END").wait_for("next");
}

#[test]
fn wheel_scrolls_and_a_single_arrow_key_does_not() {
    let home = Home::new(
        "[[answer]]\nwhen = \"long\"\ntext = \"0\\n\\n1\\n\\n2\\n\\n3\\n\\n4\\n\\n5\\n\\n6\\n\\n7\\n\\n8\\n\\n9\\n\\n10\\n\\n11\\n\\n12\\n\\n13\\n\\nEND\"",
    );
    let mut tui = home.start(&[]);
    tui.send("long").wait_for("END").wait_for("TTFT");
    tui.type_text("\x1b[A\x1b[A\x1b[A").wait_for("more below");
    tui.type_text("\x1b[B\x1b[B\x1b[B").wait_until_gone("more below");
    // A single Up recalls the previous prompt.
    tui.type_text("\x1b[A").wait_until("the prompt in the composer", |screen| {
        screen.contents().lines().rev().take(4).any(|line| line.contains("long"))
    });
}

#[test]
fn draft_token_count_equals_the_prompt_tokens_of_the_engine() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.type_text("hello there").wait_for(" tokens ");
    let screen = tui.text();
    let line = screen.lines().find(|line| line.contains(" tokens ")).unwrap();
    let counted: usize =
        line.split_whitespace().rev().skip_while(|word| *word != "of").nth(1).unwrap().parse().unwrap();
    // The engine reports the same number of prompt tokens.
    tui.type_text("\r").wait_for(&format!("{counted} prompt / 0 cached")).wait_until_gone(&format!("{counted} of"));
}
