//! Changing the past in the real program: edit, fork, continue, delete, branches; a full context mended from inside.

use crate::support_pty::{Home, Tui, output};

const MODEL: &str = r#"
token_ms = 0.2
fallback = "You said: {user}"

[[answer]]
when = "sys"
text = "System: {system}"

[[answer]]
when = "slowly"
token_ms = 40
text = "one two three four five six seven eight nine ten, and this is the end"

[[answer]]
when = "for long"
token_ms = 100
text = "one two three four five six seven eight nine ten, one two three four five six seven eight nine ten, one two three four"

[[answer]]
when = "much"
text = "LONGthe last word"

[[answer]]
when = "Summarise our"
text = "They greeted each other."
"#;

const ALT_UP: &str = "\x1b[1;3A";

/// Asks each prompt and waits for its answer.
fn talk(tui: &mut Tui, prompts: &[&str]) {
    for prompt in prompts {
        tui.send(prompt).wait_for(&format!("You said: {prompt}")).wait_for("warm, kept");
    }
}

#[test]
fn an_early_turn_is_edited_and_the_branch_comes_back() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    talk(&mut tui, &["alpha", "beta", "gamma"]);
    tui.type_text("/edit 1\r").wait_for("in place of prompt 1");
    tui.type_text(" prime\r").wait_for("You said: alpha prime").wait_until_gone("gamma");
    tui.wait_for("2 of 2 branches");
    tui.type_text("/branch\r").wait_for("Enter shows the branch").wait_for("3 turns");
    tui.type_text("\x1b[A\r").wait_for("You said: gamma").wait_until_gone("alpha prime");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    // The branch that was shown last is shown again.
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: gamma");
}

#[test]
fn a_selected_turn_is_forked_into_a_new_conversation() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    talk(&mut tui, &["alpha", "beta"]);
    for _ in 0..3 {
        tui.type_text(ALT_UP);
    }
    tui.wait_for("answer 1 of 2").wait_for("f fork (keeps");
    tui.type_text("f").wait_for("a copy in a new conversation").wait_until_gone("You said: beta");
    talk(&mut tui, &["delta"]);
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let listed = output(home.folder.path(), &["conversations", "list"]);
    assert_eq!(listed.matches("alpha").count(), 2, "{listed}");
}

#[test]
fn a_stopped_answer_goes_on_where_it_was_cut() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("slowly").wait_for("three");
    tui.type_text("\x1b").wait_for("stopped");
    assert!(!tui.text().contains("the end"));
    tui.type_text("/continue\r").wait_for("and this is the end").wait_for("TTFT");
    let text = tui.text();
    assert!(text.contains("one two three four five six seven eight nine ten, and this is the end"), "{text}");
    assert_eq!(text.matches("one two").count(), 1, "{text}");
}

#[test]
fn an_answer_cut_by_sigkill_is_kept_and_goes_on() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    talk(&mut tui, &["alpha"]);
    tui.send("slowly").wait_for("one two three");
    // What is shown is stored 250 ms later.
    std::thread::sleep(std::time::Duration::from_millis(400));
    tui.signal(rustix::process::Signal::KILL);
    tui.wait_for_exit();
    let mut tui = home.start(&["-c", "--idle-window", "never"]);
    tui.wait_for("You said: alpha").wait_for("one two three").wait_for("interrupted");
    assert!(!tui.text().contains("the end"), "{}", tui.text());
    tui.type_text("/continue\r").wait_for("and this is the end").wait_for("TTFT");
    assert_eq!(tui.text().matches("one two").count(), 1, "{}", tui.text());
}

#[test]
fn queued_prompts_come_back_after_sigkill() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    talk(&mut tui, &["alpha"]);
    tui.send("talk for long").wait_for("one two");
    tui.send("the queued one").wait_for("queued");
    // A draft is stored a second after its last change.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    tui.signal(rustix::process::Signal::KILL);
    tui.wait_for_exit();
    let mut tui = home.start(&["-c", "--idle-window", "never"]);
    tui.wait_for("You said: alpha").wait_for("│ › the queued one");
}

#[test]
fn a_deleted_turn_is_forgotten_until_it_is_brought_back() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    talk(&mut tui, &["alpha", "beta"]);
    tui.type_text("/delete 1\r").wait_until_gone("You said: alpha");
    tui.type_text("/delete undo\r").wait_for("You said: alpha");
    tui.type_text(ALT_UP).wait_for("answer 2 of 2");
    tui.type_text("d").wait_until_gone("You said: beta");
    tui.type_text("\x1b").wait_until_gone("Esc leaves");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: alpha");
    assert!(!tui.text().contains("beta"), "{}", tui.text());
    // It comes back in another run, too.
    tui.type_text("/branch\r").wait_for("brings the deleted turn back").type_text("\r").wait_for("You said: beta");
}

#[test]
fn a_prompt_that_cannot_fit_is_not_sent_and_stays_in_the_composer() {
    let home = Home::new(&format!("context_length = 2000\n{MODEL}"));
    let mut tui = home.start(&["--idle-window", "never", "--context-length", "300"]);
    talk(&mut tui, &["alpha"]);
    tui.paste(&"long ".repeat(80)).wait_for("too long");
    tui.type_text("\r").wait_for("shorten the draft").wait_for("/context");
    tui.type_text("\x1b").wait_until_gone("shorten the draft").wait_for("too long");
    assert!(!tui.text().contains("You said: long"), "{}", tui.text());
    // The first remedy is a larger context; the draft stays and can be sent then.
    tui.type_text("\r").wait_for("shorten the draft");
    tui.type_text("\r").wait_until_gone("shorten the draft").wait_until_gone("too long");
    tui.wait_for("long long").type_text("\r").wait_for("You said: long long");
}

#[test]
fn a_prompt_refused_by_the_engine_returns_to_the_composer() {
    let home = Home::new(&format!("load_ms = 1500\n{MODEL}"));
    let mut tui = home.start(&["--idle-window", "never", "--context-length", "300"]);
    // It is sent before the model is there to count it.
    tui.paste(&"long ".repeat(80)).type_text("\r").wait_for("shorten the draft");
    tui.type_text("\x1b").wait_until_gone("shorten the draft").wait_for("too long");
    let text = tui.text();
    assert!(!text.contains("asks again") && !text.contains("--context-length"), "{text}");
}

#[test]
fn the_oldest_turns_are_summarised_and_left_out() {
    let home = Home::new(&MODEL.replace("LONG", &"much more ".repeat(200)));
    let mut tui = home.start(&["--idle-window", "never"]);
    talk(&mut tui, &["alpha"]);
    tui.type_text("/compact\r").wait_for("nothing to summarise");
    tui.send("tell much").wait_for("the last word").wait_for("warm, kept");
    talk(&mut tui, &["beta", "gamma"]);
    tui.type_text("/context\r").wait_for("Enter selects the turn").wait_for("of 8,192");
    tui.type_text("\x1b").wait_until_gone("Enter selects the turn");
    tui.type_text("/compact\r").wait_for("They greeted each other.").wait_for("/compact none brings");
    tui.send("sys").wait_for("System: Summary of the earlier conversation").wait_for("warm, kept");
    tui.type_text("\x1b[5~\x1b[5~").wait_for("left out: the next prompt goes without this turn");
    tui.type_text("/compact none\r").wait_until_gone("left out: the next prompt");
    tui.send("sys again")
        .wait_until("no summary", |screen| screen.contents().lines().any(|line| line.trim_end().ends_with("System:")));
}

#[test]
fn two_windows_on_one_conversation_say_so_and_show_both_branches() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    talk(&mut tui, &["alpha"]);
    let mut other = home.start(&["-c", "--idle-window", "never"]);
    other.wait_for("You said: alpha");
    talk(&mut other, &["beta"]);
    talk(&mut tui, &["gamma"]);
    tui.wait_for("continued in another window");
    tui.type_text("/branch\r").wait_for("Enter shows the branch").wait_for("gamma").wait_for("beta");
    tui.type_text("\x1b[A\r").wait_for("You said: beta").wait_until_gone("You said: gamma");
}
