//! `/set`, personas, vi keys and drafts in the real program.

use rustix::process::Signal;

use crate::support_pty::{Home, Tui, output};

const MODEL: &str = "fallback = \"You said: {user}\"";

fn configured(config: &str) -> Home {
    let home = Home::new(MODEL);
    let folder = home.folder.path().join("config/chatnap");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), config).unwrap();
    home
}

/// Types a command, waits until the composer shows it and presses Enter.
fn command(tui: &mut Tui, text: &str) {
    tui.type_text(text).wait_for(text).type_text("\r");
}

#[test]
fn set_changes_the_next_answer_and_is_remembered_by_the_conversation() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    command(&mut tui, "/set parameter num_predict 5");
    tui.wait_for("max_tokens 5: from the next prompt on, in this conversation");
    tui.send("hello").wait_for("You s").wait_for("TTFT");
    assert!(!tui.text().contains("You said"), "{}", tui.text());
    tui.type_text("\x04").wait_for_exit();
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You s");
    command(&mut tui, "/set max_tokens");
    tui.wait_for("max_tokens = 5 (this conversation)");
    command(&mut tui, "/set max_tokens default");
    tui.wait_for("max_tokens none");
    command(&mut tui, "/set device cuda:0,1");
    tui.wait_for("device cuda:0,1: ");
    tui.send("again").wait_for("You said: again");
    tui.type_text("\x04").wait_for_exit();
    // A flag beats what is remembered, and a new conversation remembers nothing.
    let mut tui = home.start(&["-c", "--max-tokens", "9"]);
    tui.wait_for("You said: again");
    command(&mut tui, "/set max_tokens");
    tui.wait_for("max_tokens = 9 (flag, --max-tokens)");
}

#[test]
fn wrong_setting_comes_back_with_advice() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    command(&mut tui, "/set temprature 1");
    tui.wait_for("did you mean temperature?").wait_for("› /set temprature 1").type_text("\x15");
    command(&mut tui, "/set temperature hot");
    tui.wait_for("a number is wanted").type_text("\x15");
    command(&mut tui, "/set device cuda:2,2");
    tui.wait_for("GPU 2 is named twice").type_text("\x15");
    command(&mut tui, "/set data_dir /x");
    tui.wait_for("data_dir changes only at the start").type_text("\x15");
    command(&mut tui, "/set inline on");
    tui.wait_for("inline changes only at the start");
}

#[test]
fn list_of_settings_changes_a_value_on_its_line() {
    let home = configured("top_k = 7\n");
    let mut tui = home.start(&[]);
    command(&mut tui, "/set");
    tui.wait_for("on_overflow").type_text("top_k").wait_for("7 · file, line 1").type_text("\r");
    tui.wait_for("empty takes back").type_text("\x15x\r").wait_for("a whole number of 0 or more is wanted");
    tui.type_text("\x1512\r").wait_for("12 · this conversation");
    tui.type_text("\x1b").wait_until_gone("this conversation");
    command(&mut tui, "/set");
    tui.wait_for("temperature")
        .type_text("overflow")
        .wait_for("error")
        .type_text("\r")
        .wait_for("take the change back");
    tui.type_text("trim\r").wait_for("on_overflow trim: from the next prompt on");
    tui.settle();
    tui.resize(50, 12);
    command(&mut tui, "/set");
    tui.wait_for("settings").resize(120, 40);
    tui.wait_for("this conversation").type_text("\x1b").wait_for("Ask anything");
}

#[test]
fn persona_is_used_and_remembered() {
    let home = configured("[persona.brief]\nsystem = \"Be brief.\"\nmax_tokens = 5\n");
    let mut tui = home.start(&[]);
    command(&mut tui, "/persona briefer");
    tui.wait_for("did you mean brief?").type_text("\x15");
    // Enter completes a name that matches, and sends it when it is whole.
    command(&mut tui, "/persona bri");
    tui.wait_for("› /persona brief").type_text("\r").wait_for("persona brief from the next prompt on");
    tui.send("hello").wait_for("You s").wait_for("TTFT");
    assert!(!tui.text().contains("You said"), "{}", tui.text());
    tui.type_text("\x04").wait_for_exit();
    let shown = output(home.folder.path(), &["conversations", "export", "last", "--format", "json"]);
    assert!(shown.contains("Be brief."), "{shown}");
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You s");
    command(&mut tui, "/set max_tokens");
    tui.wait_for("max_tokens = 5 (persona brief)");
    tui.wait_for("persona brief ·");
    command(&mut tui, "/persona none");
    tui.wait_for("no persona from the next prompt on").wait_until_gone("persona brief ·");
    tui.send("again").wait_for("You said: again");
}

#[test]
fn persona_error_names_file_line_and_key() {
    let home = configured("\n[persona.a]\ntop_p = 2\n");
    let shown = output(home.folder.path(), &["config", "show"]);
    assert!(shown.contains("config.toml:3: persona.a.top_p: a number from 0 to 1 is wanted, not 2"), "{shown}");
}

#[test]
fn vi_keys_edit_the_draft() {
    let home = configured("keymap = \"vi\"\n");
    let mut tui = home.start(&[]);
    tui.wait_for(" insert ");
    tui.type_text("one two three").wait_for("three").type_text("\x1b").wait_for(" normal ");
    tui.type_text("bcwTWO").wait_for("one two TWO");
    tui.type_text("\x1b").wait_for(" normal ").type_text("0cwONE").wait_for("ONE two TWO").type_text("\r");
    tui.wait_for("You said: ONE two TWO").wait_for(" insert ");
    // k on the first line goes to the history, as Up does.
    tui.type_text("\x1b").wait_for(" normal ").type_text("k").wait_for("› ONE two TWO");
    tui.type_text("dd").wait_for("Ask anything").type_text("i");
    command(&mut tui, "/set keymap emacs");
    tui.wait_for("keymap emacs").wait_until_gone(" insert ");
}

#[test]
fn draft_of_a_conversation_comes_back_after_sigkill() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("first").wait_for("You said: first").wait_for("TTFT");
    tui.type_text("half a thought").wait_for("half a thought");
    // The draft is saved a second after a change; nothing on the screen shows it.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    tui.signal(Signal::KILL);
    tui.wait_for_exit();
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: first").wait_for("half a thought").type_text(" ends\r");
    tui.wait_for("You said: half a thought ends");
    tui.type_text("\x04").wait_for_exit();
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: half a thought ends").wait_for("Ask anything");
}

#[test]
fn draft_of_a_new_conversation_comes_back_after_sigkill() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.type_text("never sent").wait_for("never sent");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    tui.signal(Signal::KILL);
    tui.wait_for_exit();
    let mut tui = home.start(&[]);
    tui.wait_for("is kept: Up brings it back").type_text("\x1b[A").wait_for("› never sent");
}

#[test]
fn drafts_stay_with_their_conversations() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("alpha").wait_for("You said: alpha").wait_for("TTFT");
    command(&mut tui, "/new");
    tui.wait_until_gone("You said: alpha");
    tui.send("beta").wait_for("You said: beta").wait_for("TTFT");
    tui.type_text("of beta").wait_for("of beta");
    tui.type_text("\x13").wait_for("alpha").type_text("\r").wait_for("You said: alpha").wait_for("Ask anything");
    tui.type_text("\x13").wait_for("beta").type_text("\r").wait_for("You said: beta").wait_for("› of beta");
}

#[test]
fn system_message_is_stored_without_another_prompt() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.send("first").wait_for("You said: first").wait_for("TTFT");
    tui.paste("/system Be brief.\nAlways.")
        .wait_for("Always.")
        .type_text("\r")
        .wait_for("System message from the next");
    tui.type_text("\x04").wait_for_exit();
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: first");
    command(&mut tui, "/system");
    tui.wait_for("System message: Be brief.").wait_for("Always.");
}

#[test]
fn names_of_other_programs_quit_and_help() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    tui.type_text("/?\r").wait_for("Esc closes").type_text("\x1b").wait_until_gone("Esc closes");
    tui.type_text("/bye\r");
    assert_eq!(tui.wait_for_exit(), 0);
}

#[test]
fn one_shot_answers_with_the_settings_of_a_continued_conversation() {
    let home = Home::new(MODEL);
    let mut tui = home.start(&[]);
    command(&mut tui, "/set max_tokens 5");
    tui.wait_for("max_tokens 5");
    tui.send("hello").wait_for("You s").wait_for("TTFT").type_text("\x04").wait_for_exit();
    let model = format!("scripted:{}", home.script().display());
    let asked = |more: &[&str]| output(home.folder.path(), &[&["-m", &model, "-c", "-p", "more"], more].concat());
    assert_eq!(asked(&["-q"]), "You s\n");
    assert_eq!(asked(&["-q", "--max-tokens", "8"]), "You said\n", "a flag beats it");
    let mut tui = home.start(&["-c"]);
    command(&mut tui, "/set max_tokens");
    tui.wait_for("max_tokens = 5 (this conversation)");
}

#[test]
fn the_model_that_was_chosen_is_used_when_the_conversation_goes_on() {
    let home = configured("");
    std::fs::write(home.folder.path().join("other.toml"), "fallback = \"other says {user}\"\n").unwrap();
    let start = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        let bare: Vec<_> = command.get_argv().clone();
        // Without -m, which beats what a conversation remembers.
        *command.get_argv_mut() =
            bare.into_iter().filter(|one| one != "-m" && !one.to_string_lossy().contains("scripted:")).collect();
        command.env("CHATNAP_MODEL", format!("scripted:{}", home.script().display()));
        let mut tui = crate::support_pty::Tui::spawn(command, 80, 24);
        tui.wait_for("Ask anything");
        tui
    };
    let mut tui = start(&[]);
    tui.send("one").wait_for("one").wait_for("TTFT");
    command(&mut tui, "/model scripted:other.toml");
    tui.wait_for("answered by scripted:other.toml").send("two").wait_for("other says two");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = start(&["-c"]);
    tui.wait_for("other says two").wait_for("other.toml").send("three").wait_for("other says three");
}
