//! The TUI in a pseudo-terminal: conversations, loading, input, queueing, resuming, notices.

use std::time::{Duration, Instant};

use crate::support_pty::{Home, PATIENCE, Tui, output};

const MODEL: &str = r#"
load_ms = 30
ballast_mib = 8
token_ms = 1
fallback = "You said: {user}"

[[answer]]
when = "sky"
text = "The sky is **blue**.\n\n- one\n- two\n"

[[answer]]
when = "first"
text = "It was: {first}"

[[answer]]
when = "think"
text = "<think>\nsecret thoughts\n</think>\n\nDone."
"#;

#[test]
fn a_conversation_of_several_turns() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("Why is the sky blue?").wait_for("The sky is blue.").wait_for("• two").wait_for("TTFT");
    tui.send("What came first?").wait_for("It was: Why is the sky blue?").wait_for("warm, kept");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    tui.assert_restored();
    assert!(tui.text().contains("goes on with this conversation"), "{}", tui.text());
}

#[test]
fn unknown_model_name_keeps_the_current_model() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.type_text("/model nosuch\r").wait_for("The model stays model.toml").wait_for("nosuch");
    tui.send("hello").wait_for("You said: hello").wait_for("TTFT");
    // A new conversation begins with an empty context.
    tui.type_text("/new\r").wait_for("context 0 /");
}

#[test]
fn unknown_model_is_reported_once_from_the_first_frame() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["-m", "nosuch"]);
    let told = "there is no model nosuch";
    tui.wait_for(told).wait_for("could not load");
    tui.send("hello").wait_for("There is no engine");
    let text = tui.text();
    assert_eq!(text.matches(told).count(), 1, "{text}");
    assert!(!text.contains("runs in this process"), "{text}");
    // Another model answers.
    let script = format!("/model scripted:{}\r", home.script().display());
    tui.type_text(&script).wait_for("The next prompt is answered by");
    tui.send("again").wait_for("You said: again");
}

#[test]
fn missing_model_file_is_reported_without_a_keystroke() {
    let home = Home::new(MODEL);
    let mut tui = Tui::spawn(home.command(&["-m", "./nofile.gguf"]), 80, 24);
    tui.wait_for("There is no file or folder ./nofile.gguf").wait_until_gone("runs in this process");
}

#[test]
fn failed_load_is_reported_once() {
    let home = Home::new("this is no script");
    let mut tui = home.start(&[]);
    tui.type_text("h").wait_for("could not load");
    tui.type_text("i\r").wait_for("/retry asks again");
    let text = tui.text();
    assert_eq!(text.matches("model.toml could not").count() + text.matches("The model could not").count(), 1, "{text}");
}

#[test]
fn unknown_chatnap_variable_is_a_notice() {
    let home = Home::new(MODEL);
    let mut command = home.command(&[]);
    command.env("CHATNAP_IDLE_WINDW", "1s");
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("did you mean CHATNAP_IDLE_WINDOW?").wait_for("Ask anything");
}

#[test]
fn lists_fit_a_terminal_of_80_columns() {
    let home = Home::new(MODEL);
    let mut tui = Tui::spawn(home.command(&["models", "list"]), 80, 40);
    tui.wait_for_exit();
    let text = tui.text();
    assert!(text.lines().count() < 40 && text.contains("gemma-3-4b:q8_0"), "{text}");
    let starter = text.lines().find(|line| line.starts_with("smollm2-135m")).unwrap();
    assert!(starter.contains("98.4 MB") && starter.contains("no"), "{text}");
    let lines = output(home.folder.path(), &["models", "list"]);
    assert!(lines.lines().any(|line| line.len() > 120), "a pipe gets all of it: {lines}");
}

#[test]
fn reasoning_and_stats_are_dimmed_unless_no_color_is_set() {
    let home = Home::new(MODEL);
    for (no_color, dim) in [("", true), ("1", false)] {
        let mut command = home.command(&["-p", "think", "--stats"]);
        command.env("NO_COLOR", no_color);
        let mut tui = Tui::spawn(command, 80, 24);
        assert_eq!(tui.wait_for_exit(), 0);
        let (screen, text) = (tui.screen(), tui.text());
        let is_dim = |what: &str| {
            let (row, line) = text.lines().enumerate().find(|(_, line)| line.contains(what)).unwrap();
            let column = line.find(what).unwrap();
            screen.cell(row as u16, column as u16).unwrap().dim()
        };
        assert_eq!((is_dim("secret thoughts"), is_dim("Done."), is_dim("tokens: ")), (dim, false, dim), "{text}");
    }
}

#[test]
fn first_frame_is_drawn_before_the_model_loads() {
    // The script is invalid, so the model never loads.
    let home = Home::new("this is no script");
    let begin = Instant::now();
    let mut tui = home.start(&[]);
    // 50 ms on an idle machine; the rest is slack for a loaded one.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    tui.wait_for("cold");
    tui.send("hi").wait_for("/retry asks again");
}

#[test]
fn idle_tui_writes_nothing_to_the_terminal() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    // The rest of the first frame may still be in the pty.
    tui.settle();
    assert!(tui.is_silent_for(Duration::from_millis(1500)), "output before any event");
    tui.send("hello").wait_for("You said: hello").wait_for("warm, kept").wait_for("TTFT");
    tui.settle();
    assert!(tui.is_silent_for(Duration::from_millis(1500)), "output without any event");
}

#[test]
fn countdown_ends_in_a_release_and_the_next_prompt_reloads() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "2s"]);
    tui.send("hello").wait_for("You said: hello").wait_for("releases in 0:0").wait_for("cold");
    tui.send("again").wait_for("You said: again");
}

#[test]
fn paste_with_line_breaks_is_inserted_and_not_sent() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.paste("one\rtwo\rthree").wait_for("three");
    assert!(!tui.text().contains("You said"));
    tui.type_text("\r").wait_for("You said: one");
    tui.wait_for("three");
}

#[test]
fn composer_stays_responsive_with_a_ten_megabyte_paste() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    let paste = "0123456789 0123456789 0123456789 0123456789 0123456789\r".repeat(190_000);
    assert!(paste.len() > 10_000_000);
    tui.paste(&paste).wait_for("[pasted #1: 190,000 lines]");
    let begin = Instant::now();
    tui.type_text(" and more").wait_for("and more");
    assert!(begin.elapsed() < PATIENCE / 6, "{:?}", begin.elapsed());
    // Ctrl-C clears it, so that nothing is sent.
    tui.type_text("\x03").wait_until_gone("pasted");
}

#[test]
fn alt_enter_ctrl_j_and_shift_enter_insert_line_breaks() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.type_text("a\x1b\rb\nc\x1b[13;2ud").wait_for("d");
    tui.type_text("\r").wait_for("You said: a");
    let text = tui.text();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert!(lines.windows(3).any(|window| window == ["b", "c", "d"]), "{text}");
}

#[test]
fn reasoning_is_folded_until_ctrl_t() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("think").wait_for("Done.").wait_for("thought for");
    assert!(!tui.text().contains("secret"));
    tui.type_text("\x14").wait_for("secret thoughts");
}

#[test]
fn prompt_sent_during_an_answer_is_queued_and_answered() {
    let home = Home::new("token_ms = 20\nfallback = \"You said: {user}, and that was all of it.\"");
    let mut tui = home.start(&[]);
    tui.send("one").wait_for("You said: one").send("two").wait_for("queued");
    tui.wait_for("You said: two, and that was all of it.");
}

#[test]
fn continue_flag_resumes_the_last_conversation() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("remember me").wait_for("You said: remember me").wait_for("TTFT");
    tui.type_text("/quit\r");
    assert_eq!(tui.wait_for_exit(), 0);
    assert!(output(home.folder.path(), &["conversations", "list"]).contains("remember me"));
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: remember me");
    tui.send("What came first?").wait_for("It was: remember me");
}

#[test]
fn resume_command_opens_a_conversation_from_the_list() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("remember me").wait_for("You said: remember me").wait_for("TTFT");
    tui.type_text("/new\r").wait_until_gone("You said");
    tui.send("something else").wait_for("You said: something else").wait_for("TTFT");
    tui.type_text("/resume\r").wait_for("› remember me").type_text("MEMB\r").wait_for("You said: remember me");
    // An unknown id keeps the current conversation.
    tui.send("What came first?").wait_for("It was: remember me").wait_for_times("TTFT", 2);
    tui.type_text("/resume abc123\r").wait_for("This one goes on.");
}

#[test]
fn up_recalls_the_prompts_of_a_resumed_conversation() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("remember me").wait_for("You said: remember me").wait_for("TTFT");
    tui.type_text("/quit\r");
    tui.wait_for_exit();
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: remember me");
    tui.type_text("\x1b[A").wait_for("│ › remember me");
}

#[test]
fn prompt_sent_before_the_store_opens_goes_to_the_resumed_conversation() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("remember me").wait_for("You said: remember me").wait_for("TTFT");
    tui.type_text("/quit\r");
    tui.wait_for_exit();
    // Holds the store's lock as another process would, so that the store cannot be opened yet.
    let lock = std::fs::File::open(home.folder.path().join("data/chatnap/conversations.lock")).unwrap();
    lock.lock().unwrap();
    let mut tui = home.start(&["-c"]);
    tui.type_text("What came first?\r").wait_for("queued › What came first?");
    lock.unlock().unwrap();
    tui.wait_for("You said: remember me").wait_for("It was: remember me");
}

#[test]
fn queued_prompts_are_stored_on_quit() {
    let home = Home::new("token_ms = 50\nfallback = \"You said: {user}, and that was all of it, slowly.\"");
    let mut tui = home.start(&[]);
    tui.send("one").wait_for("You said").send("two").wait_for("queued").send("three").wait_for("queued › three");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = home.start(&["-c"]);
    tui.wait_for("› one").wait_for("› two").wait_for("› three");
}

#[test]
fn continue_flag_resumes_the_chosen_branch() {
    let home = Home::new("[[answer]]\ntext = \"answer {nth}.\"");
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("hi").wait_for("answer 1.").wait_for("TTFT");
    tui.type_text("/regenerate\r").wait_for("answer 2.").wait_for("2 of 2 branches");
    tui.type_text("/branch\r").wait_for("Enter shows the branch");
    tui.type_text("\x1b[A\r").wait_for("answer 1.").wait_for("1 of 2 branches").type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = home.start(&["-c"]);
    tui.wait_for("answer 1.");
}

#[test]
fn up_recalls_text_cleared_by_ctrl_c() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.type_text("a thought that took long").wait_for("took long").type_text("\x03").wait_until_gone("took long");
    tui.type_text("\x1b[A").wait_for("a thought that took long");
}

#[test]
fn full_context_notice_names_the_remedies() {
    let home = Home::new("fallback = \"0123456789012345678901234567890123456789012345678901234567890123456789\"");
    let mut tui = home.start(&["--context-length", "64"]);
    tui.send("hi").wait_for("the context is full (length)").wait_for("What helps: /context").wait_for("up to 8,192");
}

#[test]
fn dumb_terminal_is_refused_with_exit_code_2() {
    let home = Home::new(MODEL);
    let mut command = home.command(&[]);
    command.env("TERM", "dumb");
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("TERM=dumb");
    assert_eq!(tui.wait_for_exit(), 2);
    tui.assert_restored();
}

#[test]
fn no_color_draws_no_colours() {
    let home = Home::new(MODEL);
    let mut command = home.command(&["--theme", "light"]);
    command.env("NO_COLOR", "1");
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("Ask anything").send("sky").wait_for("The sky is blue.");
    let screen = tui.screen();
    let coloured = (0..24).flat_map(|row| (0..80).map(move |column| (row, column))).filter(|(row, column)| {
        screen
            .cell(*row, *column)
            .is_some_and(|cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default)
    });
    assert_eq!(coloured.count(), 0);
}
