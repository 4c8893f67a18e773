//! Storing and loading conversations.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::conversation::{Answer, Ending};
use crate::protocol::{FinishReason, Timing, Usage};

mod files;
mod import;
mod search;
mod spool;
mod traces;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn open(&self) -> Store {
        let opened = Store::open(&self.data()).unwrap();
        assert_eq!(opened.notices, Vec::<String>::new());
        opened.store
    }
}

fn save(store: &mut Store, conversation: &Conversation, id: TurnId) {
    store.save(&record(conversation, id), Duration::from_secs(10)).unwrap();
}

fn record(conversation: &Conversation, id: TurnId) -> TurnRecord {
    TurnRecord {
        conversation: conversation.id.clone(),
        system: conversation.system.clone(),
        settings: conversation.settings.clone(),
        id,
        turn: conversation.turn(id).unwrap().clone(),
        sampling: None,
        asked_ms: Some(now_ms()),
    }
}

fn finished() -> Ending {
    let usage = Usage { prompt_tokens: 5, cached_tokens: 2, completion_tokens: 3, ..Usage::default() };
    let timing = Timing { ttft: Duration::from_millis(7), ..Timing::default() };
    Ending::Finished { reason: FinishReason::Length, usage, timing: Some(timing) }
}

/// Stores a conversation with two branches.
fn branched(store: &mut Store) -> Conversation {
    let mut talk = Conversation::new(new_conversation_id(), Some("Be brief.".into()));
    let first = talk.ask(None, "Grüße?\nsecond line", "tiny");
    save(store, &talk, first);
    talk.turn_mut(first).unwrap().answer =
        Answer { reasoning: "hm".into(), text: "Hallo\x1b[0m".into(), ending: finished(), trace: None, served: None };
    save(store, &talk, first);
    let second = talk.ask(Some(first), "two?", "tiny");
    save(store, &talk, second);
    talk.turn_mut(second).unwrap().answer.ending = Ending::Failed { message: "out of memory".into() };
    save(store, &talk, second);
    let again = talk.ask(Some(first), "two again?", "other");
    talk.turn_mut(again).unwrap().answer =
        Answer { reasoning: String::new(), text: "zwei".into(), ending: finished(), trace: None, served: None };
    save(store, &talk, again);
    talk
}

#[test]
fn saved_conversation_is_loaded_with_all_branches() {
    let home = Home::new();
    let talk = branched(&mut home.open());
    let mut store = home.open();
    assert_eq!(store.load(&talk.id).unwrap(), talk);
    assert_eq!(store.last().unwrap(), Some(talk.id.clone()));
    store.select(&talk.id, TurnId(1)).unwrap();
    assert_eq!(store.load(&talk.id).unwrap().head(), Some(TurnId(1)));
    // Continuing after a reload keeps the parents.
    let mut again = store.load(&talk.id).unwrap();
    let next = again.ask(again.head(), "three?", "tiny");
    save(&mut store, &again, next);
    assert_eq!(home.open().load(&talk.id).unwrap().path(), [TurnId(0), TurnId(1), TurnId(3)]);
}

#[test]
fn list_search_rename_remove_export() {
    let home = Home::new();
    let mut store = home.open();
    let talk = branched(&mut store);
    let mut other = Conversation::new(new_conversation_id(), None);
    let id = other.ask(None, "weather", "tiny");
    save(&mut store, &other, id);
    let listed = store.list().unwrap();
    assert_eq!(listed.iter().map(|s| s.title.as_str()).collect::<Vec<_>>(), ["weather", "Grüße?"]);
    assert_eq!(store.list_last(1).unwrap(), listed[..1]);
    assert_eq!((listed[1].turns, listed[1].model.as_str()), (3, "other"));
    assert_eq!((listed[0].answers, listed[1].answers), (0, 2), "a question that failed has none");
    assert_eq!((listed[0].lack(), listed[1].lack()), (Some("no answer"), None));
    other.turn_mut(id).unwrap().answer.ending = Ending::Failed { message: "no such model".into() };
    save(&mut store, &other, id);
    let listed = store.list().unwrap();
    assert_eq!(listed[0].lack(), Some("failed"));
    assert_eq!(store.search("GRÜSSE", 10).unwrap().len(), 0);
    for word in ["grüße", "ZWEI"] {
        let found = store.search(word, 10).unwrap();
        assert_eq!(found.iter().map(|hit| &hit.summary).collect::<Vec<_>>(), [&listed[1]]);
    }
    store.rename(&talk.id, "Greetings").unwrap();
    let renamed: Vec<Summary> = store.search("greet", 10).unwrap().into_iter().map(|hit| hit.summary).collect();
    let text = markdown(&renamed[0], &talk);
    assert!(text.starts_with("# Greetings\n\n## system\n\nBe brief.\n\n## user\n\nGrüße?"), "{text}");
    assert!(text.contains("## assistant (other, cut at the limit)\n\nzwei\n") && !text.contains("two?"), "{text}");
    let exported = json(&renamed[0], &talk, &store.origins(&talk.id).unwrap());
    assert_eq!(exported["turns"][1]["error"], "out of memory");
    assert_eq!((&exported["turns"][2]["parent"], &exported["head"]), (&0.into(), &2.into()));
    assert_eq!(exported["turns"][0]["timing_us"]["ttft"], 7000);
    assert_eq!(store.find(&talk.id.0[..6]).unwrap(), talk.id);
    // Of seventeen ids at least two begin with the same hexadecimal digit.
    let mut ids: Vec<String> = store.list().unwrap().into_iter().map(|summary| summary.id.0).collect();
    while ids.len() < 17 {
        let mut more = Conversation::new(new_conversation_id(), None);
        let id = more.ask(None, "more", "tiny");
        save(&mut store, &more, id);
        ids.push(more.id.0);
    }
    let shared = |id: &&String| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1;
    let digit = &ids.iter().find(shared).unwrap()[..1];
    assert!(store.find(digit).unwrap_err().to_string().contains(&format!("conversations begin with {digit:?}")));
    assert!(store.find("xyz").unwrap_err().to_string().contains("no conversation \"xyz\""));
    let single = Home::new();
    branched(&mut single.open());
    assert!(single.open().find("").unwrap_err().to_string().contains("not an empty text"));
    store.remove(&talk.id).unwrap();
    assert!(store.remove(&talk.id).is_err());
    assert_eq!((store.list().unwrap().len(), store.list_removed().unwrap()[0].id.clone()), (16, talk.id.clone()));
    assert!(store.find(&talk.id.0).is_err());
    assert_eq!(store.find_removed(&talk.id.0).unwrap(), talk.id);
    store.restore(&talk.id).unwrap();
    assert!(store.restore(&talk.id).is_err());
    assert_eq!(store.list().unwrap().len(), 17);
    store.purge(&talk.id).unwrap();
    assert!(store.load(&talk.id).is_err() && store.purge(&talk.id).is_err());
    save(&mut store, &other, id);
}

#[test]
fn files_settings_draft_and_deleted_turns_are_stored() {
    let home = Home::new();
    let mut store = home.open();
    let mut talk = Conversation::new(new_conversation_id(), None);
    talk.settings.insert("temperature".into(), "0.2".into());
    let first = talk.ask(None, "what is in it?", "tiny");
    let file = crate::conversation::Attachment { name: "a.txt".into(), text: "one\n".into() };
    talk.turn_mut(first).unwrap().files.push(file);
    talk.turn_mut(first).unwrap().answer = Answer { text: "one".into(), ending: finished(), ..Answer::default() };
    save(&mut store, &talk, first);
    let second = talk.ask(Some(first), "two?", "other");
    talk.turn_mut(second).unwrap().answer.ending = finished();
    save(&mut store, &talk, second);
    store.set_removed(&talk.id, second, true).unwrap();
    talk.set_removed(second, true);
    let listed = &store.list().unwrap()[0];
    assert_eq!((listed.turns, listed.answers, listed.model.as_str()), (1, 1, "tiny"));
    store.set_draft(&talk.id, "and the").unwrap();
    talk.draft = "and the".into();
    assert_eq!(home.open().load(&talk.id).unwrap(), talk);
    store.set_removed(&talk.id, second, false).unwrap();
    store.set_settings(&talk.id, &BTreeMap::new()).unwrap();
    talk.set_removed(second, false);
    talk.settings.clear();
    assert_eq!(home.open().load(&talk.id).unwrap(), talk);
    assert_eq!(store.list().unwrap()[0].turns, 2);
    let unknown = new_conversation_id();
    store.set_draft(&unknown, "text").unwrap();
    assert!(store.load(&unknown).is_err(), "a draft alone stores no conversation");
}

#[test]
fn trash_is_emptied_after_thirty_days_and_a_new_turn_brings_a_conversation_back() {
    let home = Home::new();
    let mut store = home.open();
    let talks = [branched(&mut store), branched(&mut store), branched(&mut store)];
    let days_ago = |days: i64| now_ms() - days * 24 * 3600 * 1000;
    for (talk, days) in talks.iter().zip([29, 31, 1]) {
        store.remove(&talk.id).unwrap();
        store
            .db
            .execute("UPDATE conversations SET removed = ?2 WHERE id = ?1", params![talk.id.0, days_ago(days)])
            .unwrap();
    }
    assert_eq!(store.last().unwrap(), None);
    let mut store = home.open();
    let kept: Vec<_> = store.list_removed().unwrap().into_iter().map(|summary| summary.id).collect();
    assert_eq!(kept, [talks[2].id.clone(), talks[0].id.clone()]);
    let mut talk = store.load(&talks[0].id).unwrap();
    let next = talk.ask(talk.head(), "still there?", "tiny");
    save(&mut store, &talk, next);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn pending_answer_is_interrupted_only_after_its_writer_has_ended() {
    let home = Home::new();
    let mut living = home.open();
    let mut talk = Conversation::new(new_conversation_id(), None);
    let id = talk.ask(None, "hi", "tiny");
    save(&mut living, &talk, id);
    talk.turn_mut(id).unwrap().answer.text = "par".into();
    save(&mut living, &talk, id);
    assert_eq!(home.open().load(&talk.id).unwrap().turn(id).unwrap().answer.ending, Ending::Pending);
    drop(living);
    let found = home.open().load(&talk.id).unwrap();
    let answer = &found.turn(id).unwrap().answer;
    assert_eq!((answer.text.as_str(), &answer.ending), ("par", &Ending::Interrupted));
    assert_eq!(std::fs::read_dir(home.data().join("writers")).unwrap().count(), 0);
}

#[test]
fn dropping_the_handle_finishes_all_queued_jobs() {
    let home = Home::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let handle = StoreHandle::start(home.data(), move |told| sender.send(told).unwrap()).unwrap();
    let mut talk = Conversation::new(new_conversation_id(), None);
    for n in 0..20 {
        let id = talk.ask(talk.head(), format!("{n}?"), "tiny");
        handle.save(record(&talk, id), |saved| saved.unwrap());
    }
    drop(handle);
    assert!(receiver.recv().is_err(), "no message was sent");
    assert_eq!(home.open().load(&talk.id).unwrap(), {
        let mut ended = talk.clone();
        for n in 0..20 {
            ended.turn_mut(TurnId(n)).unwrap().answer.ending = Ending::Interrupted;
        }
        ended
    });
}

#[test]
fn last_answered_is_the_last_changed_conversation_with_an_answer() {
    let home = Home::new();
    let mut store = home.open();
    assert!(store.last_answered().unwrap_err().to_string().contains("no such conversation yet"));
    let mut asked = |text: &str, answer: &str| {
        let mut talk = Conversation::new(new_conversation_id(), None);
        let id = talk.ask(None, text, "tiny");
        save(&mut store, &talk, id);
        talk.turn_mut(id).unwrap().answer = Answer {
            text: answer.into(),
            ending: if answer.is_empty() { Ending::Failed { message: "no model".into() } } else { finished() },
            ..Answer::default()
        };
        save(&mut store, &talk, id);
        talk.id
    };
    let failed = asked("one?", "");
    assert_eq!(home.open().last_answered().unwrap(), failed, "the last one if none has an answer");
    let answered = asked("two?", "2");
    let last = asked("three?", "");
    assert_eq!(home.open().last_answered().unwrap(), answered);
    assert_eq!(home.open().last().unwrap(), Some(last));
}

#[test]
fn the_end_of_an_answer_replaces_the_sampling_of_its_question() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap().store;
    let mut talk = Conversation::new(new_conversation_id(), None);
    let turn = talk.ask(None, "hi", "tiny");
    let sampled = |talk: &Conversation, temperature| {
        let sampling = crate::protocol::SamplingParams { temperature, ..Default::default() };
        TurnRecord { sampling: Some(sampling), ..record(talk, turn) }
    };
    let wait = Duration::from_secs(10);
    store.save(&sampled(&talk, 0.8), wait).unwrap();
    talk.turn_mut(turn).unwrap().answer.ending = finished();
    store.save(&sampled(&talk, 0.2), wait).unwrap();
    // A record that does not know the sampling leaves it.
    store.save(&record(&talk, turn), wait).unwrap();
    let stored: String = store.db.query_row("SELECT sampling FROM turns", [], |row| row.get(0)).unwrap();
    assert!(stored.contains("\"temperature\":0.2"), "{stored}");
}

#[test]
fn a_conversation_that_another_process_continued_is_reported_once() {
    let home = Home::new();
    let (mut here, mut there) = (home.open(), home.open());
    let mut talk = branched(&mut here);
    assert_eq!(here.take_continued(), []);
    let mut other = there.load(&talk.id).unwrap();
    let theirs = other.ask(other.head(), "theirs?", "tiny");
    save(&mut there, &other, theirs);
    assert_eq!(there.take_continued(), [], "nobody else continued it");
    for prompt in ["ours?", "ours again?"] {
        let ours = talk.ask(talk.head(), prompt, "tiny");
        save(&mut here, &talk, ours);
        save(&mut here, &talk, ours);
    }
    assert_eq!(here.take_continued(), [talk.id.clone()]);
    assert_eq!(here.load(&talk.id).unwrap().turns().len(), 6);
    let theirs = other.ask(other.head(), "theirs again?", "tiny");
    save(&mut there, &other, theirs);
    assert_eq!(there.take_continued(), [talk.id]);
}

/// A database with the schema of version 1: one conversation of two turns.
fn earlier(home: &Home) -> PathBuf {
    std::fs::create_dir(home.data()).unwrap();
    let path = home.data().join(DATABASE);
    let db = Connection::open(&path).unwrap();
    db.execute_batch(schema::STEPS[0]).unwrap();
    db.execute_batch(
        "INSERT INTO conversations VALUES ('0123456789abcdef', NULL, 'Be brief.', 1, 2, 2);
         INSERT INTO turns (conversation, parent, prompt, model, asked, answer, state, writer)
           VALUES ('0123456789abcdef', NULL, '  \n vast and\nmore', 'tiny', 1, 'one', 'stop', ''),
                  ('0123456789abcdef', 1, 'two?', 'other', 1, '', 'failed', '');",
    )
    .unwrap();
    path
}
