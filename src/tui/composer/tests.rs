//! Tests of the composer: pastes, history, height.

use super::history::{HISTORY, HISTORY_BYTES};
use super::*;

fn send(composer: &mut Composer, text: &str) -> String {
    composer.set(text);
    composer.send()
}

#[test]
fn history_entries_keep_the_full_text_of_folded_pastes() {
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
    // The abandoned draft is restored whole too.
    composer.browse(false);
    assert_eq!(composer.text(), format!("and {}", "more\n".repeat(50)));
    composer.browse(true);
    assert_eq!(composer.send(), format!("look: {paste}"));
    composer.browse(true);
    assert_eq!(composer.text(), format!("look: {paste}"));
}

#[test]
fn returned_prompts_are_separate_history_entries() {
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
    // A draft in the composer is not replaced.
    composer.clear();
    composer.set("draft");
    composer.return_prompts(prompts[..1].to_vec());
    assert_eq!(composer.draft(), "draft");
    composer.browse(true);
    assert_eq!(composer.draft(), "one");
}

#[test]
fn editing_a_history_entry_keeps_the_previous_draft() {
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
fn the_history_is_limited_in_entries_and_bytes() {
    let mut composer = Composer::default();
    let large = "x".repeat(HISTORY_BYTES / 2);
    for n in 0..3 {
        composer.paste(&format!("{n}{large}"));
        composer.send();
    }
    assert_eq!(composer.history.len(), 1, "two of them exceed the limit");
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
fn a_short_paste_is_inserted_sanitised() {
    let mut composer = Composer::default();
    composer.paste("one\rtwo\r\nthree\u{1b}[31m");
    assert_eq!(composer.draft(), "one\ntwo\nthree");
}

#[test]
fn browsing_the_history_moves_both_ways_and_restores_the_draft() {
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
fn layout_counts_wrapped_lines() {
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
fn a_discarded_draft_is_kept_in_the_history_with_its_paste() {
    let mut composer = Composer::default();
    let paste = "line\n".repeat(100);
    composer.set("look: ");
    composer.paste(&paste);
    composer.discard();
    assert!(composer.is_empty());
    composer.browse(true);
    assert_eq!(composer.text(), format!("look: {paste}"));
    // The editor's result replaces the draft; a draft that it does not start with goes to the history.
    composer.replace("another text\nof two lines");
    assert_eq!(composer.draft(), "another text\nof two lines");
    composer.replace("another text\nof two lines and more");
    assert_eq!(composer.history.len(), 1, "the new text contains the old one");
    composer.replace("short");
    composer.browse(true);
    assert_eq!(composer.draft(), "another text\nof two lines and more");
}

#[test]
fn put_back_shows_own_text_and_keeps_pastes_folded() {
    let mut composer = Composer::default();
    let written: String = (0..100).map(|n| format!("line {n} of my own\n")).collect();
    composer.put_back(&written);
    assert_eq!(composer.draft(), written, "the user's own text is not folded");
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
fn history_search_lists_newest_first_and_keeps_the_draft() {
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

/// A prompt of 20,000 characters is laid out on each keystroke.
#[test]
fn editing_a_long_own_prompt_stays_fast() {
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
