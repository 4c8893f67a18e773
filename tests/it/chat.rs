//! A chat in the terminal, from the first frame to the end.

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
fn a_model_that_nobody_knows_changes_nothing() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.type_text("/model nosuch\r").wait_for("The model stays as it is").wait_for("nosuch");
    tui.send("hello").wait_for("You said: hello").wait_for("TTFT");
    // A new conversation begins with an empty context.
    tui.type_text("/new\r").wait_for("context 0 /");
}

#[test]
fn an_unknown_model_is_told_once_from_the_first_frame_on() {
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
fn a_file_that_is_not_there_is_told_without_a_keystroke() {
    let home = Home::new(MODEL);
    let mut tui = Tui::spawn(home.command(&["-m", "./nofile.gguf"]), 80, 24);
    tui.wait_for("There is no file or folder ./nofile.gguf").wait_until_gone("runs in this process");
}

#[test]
fn a_load_that_fails_is_told_once() {
    let home = Home::new("this is no script");
    let mut tui = home.start(&[]);
    tui.type_text("h").wait_for("could not load");
    tui.type_text("i\r").wait_for("/regenerate asks again");
    let text = tui.text();
    assert_eq!(text.matches("model.toml could not").count() + text.matches("The model could not").count(), 1, "{text}");
}

#[test]
fn a_variable_that_is_no_setting_is_a_notice() {
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
fn thoughts_and_figures_look_less_than_an_answer() {
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
fn the_first_frame_comes_before_the_model() {
    // The model does not even exist.
    let home = Home::new("this is no script");
    let begin = Instant::now();
    let mut tui = home.start(&[]);
    // 50 ms on a machine that has time for it; this one may be busy.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    tui.wait_for("cold");
    tui.send("hi").wait_for("/regenerate asks again");
}

#[test]
fn an_idle_screen_is_never_drawn() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    // The end of the first frame may still be on its way.
    tui.settle();
    assert!(tui.is_silent_for(Duration::from_millis(1500)), "it draws before anything happened");
    tui.send("hello").wait_for("You said: hello").wait_for("warm, kept").wait_for("TTFT");
    tui.settle();
    assert!(tui.is_silent_for(Duration::from_millis(1500)), "it draws although nothing happens");
}

#[test]
fn the_countdown_runs_to_the_release_and_the_next_prompt_loads_again() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "2s"]);
    tui.send("hello").wait_for("You said: hello").wait_for("releases in 0:0").wait_for("cold");
    tui.send("again").wait_for("You said: again");
}

#[test]
fn a_paste_goes_in_whole_and_is_not_sent() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.paste("one\rtwo\rthree").wait_for("three");
    assert!(!tui.text().contains("You said"));
    tui.type_text("\r").wait_for("You said: one");
    tui.wait_for("three");
}

#[test]
fn ten_megabytes_of_paste_stay_responsive() {
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
fn line_breaks_are_typed_in_three_ways() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.type_text("a\x1b\rb\nc\x1b[13;2ud").wait_for("d");
    tui.type_text("\r").wait_for("You said: a");
    let text = tui.text();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert!(lines.windows(3).any(|window| window == ["b", "c", "d"]), "{text}");
}

#[test]
fn reasoning_is_folded_until_it_is_asked_for() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("think").wait_for("Done.").wait_for("thought for");
    assert!(!tui.text().contains("secret"));
    tui.type_text("\x14").wait_for("secret thoughts");
}

#[test]
fn a_prompt_typed_meanwhile_waits_and_is_answered() {
    let home = Home::new("token_ms = 20\nfallback = \"You said: {user}, and that was all of it.\"");
    let mut tui = home.start(&[]);
    tui.send("one").wait_for("You said: one").send("two").wait_for("queued");
    tui.wait_for("You said: two, and that was all of it.");
}

#[test]
fn a_conversation_is_taken_up_again() {
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
fn an_earlier_conversation_is_chosen_from_a_list() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("remember me").wait_for("You said: remember me").wait_for("TTFT");
    tui.type_text("/new\r").wait_until_gone("remember me");
    tui.send("something else").wait_for("You said: something else").wait_for("TTFT");
    tui.type_text("/resume\r").wait_for("› remember me").type_text("MEMB\r\r").wait_for("You said: remember me");
    // While an answer is written nothing is taken up.
    tui.send("What came first?").wait_for("It was: remember me").wait_for_times("TTFT", 2);
    tui.type_text("/resume nosuch\r").wait_for("This one goes on.");
}

#[test]
fn prompts_of_a_conversation_that_is_taken_up_are_found_with_up() {
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
fn what_is_sent_before_the_conversation_is_there_goes_to_it() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("remember me").wait_for("You said: remember me").wait_for("TTFT");
    tui.type_text("/quit\r");
    tui.wait_for_exit();
    // Somebody else is busy with the store, so that it cannot be opened yet.
    let lock = std::fs::File::open(home.folder.path().join("data/chatnap/conversations.lock")).unwrap();
    lock.lock().unwrap();
    let mut tui = home.start(&["-c"]);
    tui.type_text("What came first?\r").wait_for("queued › What came first?");
    lock.unlock().unwrap();
    tui.wait_for("You said: remember me").wait_for("It was: remember me");
}

#[test]
fn prompts_that_wait_when_the_program_ends_are_kept() {
    let home = Home::new("token_ms = 50\nfallback = \"You said: {user}, and that was all of it, slowly.\"");
    let mut tui = home.start(&[]);
    tui.send("one").wait_for("You said").send("two").wait_for("queued").send("three").wait_for("queued › three");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = home.start(&["-c"]);
    tui.wait_for("› one").wait_for("› two").wait_for("› three");
}

#[test]
fn a_branch_that_was_chosen_is_the_one_that_goes_on() {
    let home = Home::new("[[answer]]\ntext = \"answer {nth}.\"");
    let mut tui = home.start(&["--idle-window", "never"]);
    tui.send("hi").wait_for("answer 1.").wait_for("TTFT");
    tui.type_text("/regenerate\r").wait_for("answer 2.").wait_for("2 of 2 branches");
    tui.type_text("/branch\r").wait_for("answer 1.").wait_for("1 of 2 branches").type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = home.start(&["-c"]);
    tui.wait_for("answer 1.");
}

#[test]
fn what_control_c_clears_comes_back_with_up() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.type_text("a thought that took long").wait_for("took long").type_text("\x03").wait_until_gone("took long");
    tui.type_text("\x1b[A").wait_for("a thought that took long");
}

#[test]
fn a_context_that_is_full_is_told_with_what_helps() {
    let home = Home::new("fallback = \"0123456789012345678901234567890123456789012345678901234567890123456789\"");
    let mut tui = home.start(&["--context-length", "64"]);
    tui.send("hi").wait_for("the context is full (length)").wait_for("What helps: /new").wait_for("up to 8,192");
}

#[test]
fn a_dumb_terminal_is_told_what_to_do() {
    let home = Home::new(MODEL);
    let mut command = home.command(&[]);
    command.env("TERM", "dumb");
    let mut tui = Tui::spawn(command, 80, 24);
    tui.wait_for("TERM=dumb");
    assert_eq!(tui.wait_for_exit(), 2);
    tui.assert_restored();
}

#[test]
fn no_color_means_none() {
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
