//! The composer's stories: pastes, history, growth.

use super::history::{HISTORY, HISTORY_BYTES};
use super::*;

fn send(composer: &mut Composer, text: &str) -> String {
    composer.set(text);
    composer.send()
}

#[test]
fn a_folded_paste_is_offered_again_with_its_whole_text() {
    let mut composer = Composer::default();
    let paste = "line\n".repeat(100);
    composer.set("look: ");
    composer.paste(&paste);
    composer.send();
    composer.set("and ");
    composer.paste(&"more\n".repeat(50));
    composer.browse(true);
    assert_eq!(composer.draft(), "look: [pasted #1: 100 lines]");
    assert_eq!(composer.text(), format!("look: {paste}"));
    // The draft that was left for it comes back whole too.
    composer.browse(false);
    assert_eq!(composer.text(), format!("and {}", "more\n".repeat(50)));
    composer.browse(true);
    assert_eq!(composer.send(), format!("look: {paste}"));
    composer.browse(true);
    assert_eq!(composer.text(), format!("look: {paste}"));
}

#[test]
fn prompts_that_come_back_are_offered_one_at_a_time() {
    let mut composer = Composer::default();
    let long = "a line\n".repeat(100);
    composer.paste(&long);
    let prompts = vec!["one".to_owned(), composer.send(), send(&mut composer, "three")];
    assert_eq!(prompts[1], long);
    composer.return_prompts(prompts.clone());
    let mut offered = vec![composer.text()];
    for _ in 0..2 {
        composer.browse(true);
        offered.insert(0, composer.text());
    }
    assert_eq!(offered, prompts);
    // What is being written stays where it is.
    composer.clear();
    composer.set("draft");
    composer.return_prompts(prompts[..1].to_vec());
    assert_eq!(composer.draft(), "draft");
    composer.browse(true);
    assert_eq!(composer.draft(), "one");
}

#[test]
fn a_draft_that_was_left_for_the_history_is_never_lost() {
    let mut composer = Composer::default();
    send(&mut composer, "sent");
    composer.set("draft");
    composer.browse(true);
    composer.edit_with(|area| area.insert_str("!"));
    assert_eq!(composer.draft(), "sent!");
    composer.browse(true);
    assert_eq!(composer.draft(), "draft");
}

#[test]
fn the_history_has_its_limits() {
    let mut composer = Composer::default();
    let large = "x".repeat(HISTORY_BYTES / 2);
    for n in 0..3 {
        composer.paste(&format!("{n}{large}"));
        composer.send();
    }
    assert_eq!(composer.history.len(), 1, "two of them are too much");
    for n in 0..HISTORY + 10 {
        send(&mut composer, &n.to_string());
    }
    assert_eq!(composer.history.len(), HISTORY);
}

#[test]
fn a_long_paste_is_folded_and_sent_whole() {
    let mut composer = Composer::default();
    composer.set("look: ");
    let paste = "line\r\n".repeat(12_345);
    composer.paste(&paste);
    assert_eq!(composer.draft(), "look: [pasted #1: 12,345 lines]");
    assert_eq!(composer.send(), format!("look: {}", "line\n".repeat(12_345)));
    assert!(composer.is_empty());
}

#[test]
fn a_short_paste_stands_as_it_is() {
    let mut composer = Composer::default();
    composer.paste("one\rtwo\r\nthree\u{1b}[31m");
    assert_eq!(composer.draft(), "one\ntwo\nthree");
}

#[test]
fn the_history_goes_back_and_forth_and_keeps_the_draft() {
    let mut composer = Composer::default();
    for prompt in ["first", "second", "second", " "] {
        send(&mut composer, prompt);
    }
    composer.set("draft");
    composer.browse(true);
    assert_eq!(composer.draft(), "second");
    composer.browse(true);
    composer.browse(true);
    assert_eq!(composer.draft(), "first");
    composer.browse(false);
    composer.browse(false);
    assert_eq!(composer.draft(), "draft");
    assert!(!composer.is_browsing());
}

#[test]
fn it_grows_with_what_is_written() {
    let mut composer = Composer::default();
    assert_eq!(composer.layout(10), 1);
    composer.set("one two three four");
    assert_eq!(composer.layout(10), 2);
    composer.set("日本語日本語");
    assert_eq!(composer.layout(4), 3);
    composer.put_back("before");
    assert_eq!(composer.draft(), "before\n\n日本語日本語");
}

#[test]
fn what_is_cleared_comes_back_with_its_paste() {
    let mut composer = Composer::default();
    let paste = "line\n".repeat(100);
    composer.set("look: ");
    composer.paste(&paste);
    composer.discard();
    assert!(composer.is_empty());
    composer.browse(true);
    assert_eq!(composer.text(), format!("look: {paste}"));
    // What an editor makes of it replaces it, and an unfinished text that it does not hold can be had back, too.
    composer.replace("another text\nof two lines");
    assert_eq!(composer.draft(), "another text\nof two lines");
    composer.replace("another text\nof two lines and more");
    assert_eq!(composer.history.len(), 1, "nothing of it is lost, so nothing is kept twice");
    composer.replace("short");
    composer.browse(true);
    assert_eq!(composer.draft(), "another text\nof two lines and more");
}

#[test]
fn a_prompt_that_is_put_back_can_be_read_and_its_pastes_stay_folded() {
    let mut composer = Composer::default();
    let written: String = (0..100).map(|n| format!("line {n} of my own\n")).collect();
    composer.put_back(&written);
    assert_eq!(composer.draft(), written, "it is the user's own text, not a name for it");
    composer.clear();
    let paste = "pasted\n".repeat(1000);
    composer.set("look: ");
    composer.paste(&paste);
    let sent = composer.send();
    composer.put_back(&sent);
    assert_eq!(composer.draft(), "look: [pasted #1: 1,000 lines]");
    assert_eq!(composer.text(), sent);
}

#[test]
fn earlier_prompts_are_found_newest_first_and_the_draft_is_kept() {
    let mut composer = Composer::default();
    assert!(!composer.begin_search(), "there is nothing to search in");
    composer.recall(["An old Question", "another"].into_iter());
    for prompt in ["first question", "second", "first question"] {
        send(&mut composer, prompt);
    }
    composer.set("draft");
    assert!(composer.begin_search());
    let found = |composer: &Composer| composer.found().into_iter().map(|(_, begin)| begin).collect::<Vec<_>>();
    assert_eq!(found(&composer), ["first question", "second", "another", "An old Question"]);
    composer.paste("QUEST");
    assert_eq!(found(&composer), ["first question", "An old Question"]);
    composer.end_search(None);
    assert_eq!(composer.draft(), "draft");
    composer.begin_search();
    let second = composer.found()[1].0;
    composer.end_search(Some(second));
    assert_eq!(composer.draft(), "second");
    composer.browse(true);
    assert_eq!(composer.draft(), "draft");
}

/// A prompt of many thousand characters is measured and drawn with each keystroke.
#[test]
fn a_long_text_of_the_users_own_stays_quick() {
    let mut composer = Composer::default();
    composer.put_back(&"some words of a long text ".repeat(LONGEST_OWN.chars / 26));
    composer.layout(76);
    let begin = std::time::Instant::now();
    for _ in 0..20 {
        composer.edit_with(|area| area.insert_str("x"));
        composer.layout(76);
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(4), "{:?}", begin.elapsed());
}
