//! What the store keeps, and what it does with files that it cannot use.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::conversation::Ending;
use crate::protocol::Timing;

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
        assert_eq!(opened.notice, None);
        opened.store
    }
}

fn save(store: &mut Store, conversation: &Conversation, id: TurnId) {
    store.save(&record(conversation, id)).unwrap();
}

fn record(conversation: &Conversation, id: TurnId) -> TurnRecord<'_> {
    TurnRecord {
        conversation: &conversation.id,
        system: conversation.system.as_deref(),
        id,
        turn: conversation.turn(id).unwrap(),
        sampling: None,
    }
}

fn finished() -> Ending {
    let usage = Usage { prompt_tokens: 5, cached_tokens: 2, completion_tokens: 3 };
    let timing = Timing { ttft: Duration::from_millis(7), ..Timing::default() };
    Ending::Finished { reason: FinishReason::Length, usage, timing: Some(timing) }
}

/// A conversation of two branches, stored.
fn branched(store: &mut Store) -> Conversation {
    let mut talk = Conversation::new(new_conversation_id(), Some("Be brief.".into()));
    let first = talk.ask(None, "Grüße?\nsecond line", "tiny");
    save(store, &talk, first);
    talk.turn_mut(first).unwrap().answer =
        Answer { reasoning: "hm".into(), text: "Hallo\x1b[0m".into(), ending: finished() };
    save(store, &talk, first);
    let second = talk.ask(Some(first), "two?", "tiny");
    save(store, &talk, second);
    talk.turn_mut(second).unwrap().answer.ending = Ending::Failed { message: "out of memory".into() };
    save(store, &talk, second);
    let again = talk.ask(Some(first), "two again?", "other");
    talk.turn_mut(again).unwrap().answer = Answer { reasoning: String::new(), text: "zwei".into(), ending: finished() };
    save(store, &talk, again);
    talk
}

#[test]
fn what_was_said_comes_back_with_every_branch() {
    let home = Home::new();
    let talk = branched(&mut home.open());
    let mut store = home.open();
    assert_eq!(store.load(&talk.id).unwrap(), talk);
    assert_eq!(store.last().unwrap(), Some(talk.id.clone()));
    store.select(&talk.id, TurnId(1)).unwrap();
    assert_eq!(store.load(&talk.id).unwrap().head(), Some(TurnId(1)));
    // Going on after a reload keeps the parents.
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
    assert_eq!((listed[1].turns, listed[1].model.as_str()), (3, "other"));
    assert_eq!((listed[0].answers, listed[1].answers), (0, 2), "a question that failed has none");
    assert_eq!(store.search("GRÜSSE").unwrap().len(), 0);
    assert_eq!(store.search("grüße").unwrap(), [listed[1].clone()]);
    assert_eq!(store.search("ZWEI").unwrap(), [listed[1].clone()]);
    store.rename(&talk.id, "Greetings").unwrap();
    let renamed = store.search("greet").unwrap();
    let text = markdown(&renamed[0], &talk);
    assert!(text.starts_with("# Greetings\n\n## system\n\nBe brief.\n\n## user\n\nGrüße?"), "{text}");
    assert!(text.contains("## assistant (other, cut at the limit)\n\nzwei\n") && !text.contains("two?"), "{text}");
    let exported = json(&renamed[0], &talk);
    assert_eq!(exported["turns"][1]["error"], "out of memory");
    assert_eq!((&exported["turns"][2]["parent"], &exported["head"]), (&0.into(), &2.into()));
    assert_eq!(exported["turns"][0]["timing_us"]["ttft"], 7000);
    assert_eq!(store.find(&talk.id.0[..6]).unwrap(), talk.id);
    // Of seventeen ids two begin with the same digit.
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
    assert!(store.load(&talk.id).is_err() && store.remove(&talk.id).is_err());
    assert!(store.save(&record(&other, id)).is_ok());
}

#[test]
fn an_answer_whose_writer_is_gone_was_interrupted_and_a_living_one_was_not() {
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
fn folder_and_files_are_private() {
    let home = Home::new();
    let mut store = home.open();
    branched(&mut store);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.data()), 0o700);
    let mut seen = 0;
    for entry in std::fs::read_dir(home.data()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
        seen += 1;
    }
    assert!(seen >= 3, "database, log and lock");
}

#[test]
fn a_damaged_file_is_kept_aside() {
    let home = Home::new();
    let talk = branched(&mut home.open());
    let path = home.data().join(DATABASE);
    let sound = std::fs::read(&path).unwrap();
    for damage in [b"garbage, not a database".repeat(50), sound[..sound.len() - 5000].to_vec()] {
        std::fs::write(&path, &damage).unwrap();
        let Opened { mut store, notice } = Store::open(&home.data()).unwrap();
        let notice = notice.unwrap();
        let kept = notice.split("kept as ").nth(1).unwrap().split("; a new").next().unwrap();
        assert_eq!(std::fs::read(kept).unwrap(), damage, "{notice}");
        assert!(store.load(&talk.id).is_err());
        branched(&mut store);
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let home = Home::new();
    branched(&mut home.open());
    Connection::open(home.data().join(DATABASE)).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(matches!(Store::open(&home.data()), Err(StoreError::Newer { found: 7, known: 1, .. })));
    assert!(matches!(Store::open_to_read(&home.data()), Err(StoreError::Newer { .. })));
    let kept =
        std::fs::read_dir(home.data()).unwrap().flatten().any(|e| e.file_name().to_string_lossy().contains("damaged"));
    assert!(!kept);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_and_reading_makes_none() {
    let home = Home::new();
    assert!(Store::open_to_read(&home.data()).unwrap().is_none());
    assert!(!home.data().exists());
    let file = home.0.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Store::open(&file.join("data")).err().unwrap().to_string();
    assert!(error.starts_with("The conversations cannot be stored: "), "{error}");
    let talk = branched(&mut home.open());
    assert_eq!(Store::open_to_read(&home.data()).unwrap().unwrap().load(&talk.id).unwrap(), talk);
}

#[test]
fn the_handle_does_everything_before_it_goes() {
    let home = Home::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let handle = StoreHandle::start(home.data(), move |opened| sender.send(opened.cloned_notice()).unwrap()).unwrap();
    let mut talk = Conversation::new(new_conversation_id(), None);
    for n in 0..20 {
        let id = talk.ask(talk.head(), format!("{n}?"), "tiny");
        let talk = talk.clone();
        handle.run(move |store| store.unwrap().save(&record(&talk, id)).unwrap());
    }
    drop(handle);
    assert_eq!(receiver.recv().unwrap(), None);
    assert_eq!(home.open().load(&talk.id).unwrap(), {
        let mut ended = talk.clone();
        for n in 0..20 {
            ended.turn_mut(TurnId(n)).unwrap().answer.ending = Ending::Interrupted;
        }
        ended
    });
}

trait ClonedNotice {
    fn cloned_notice(&self) -> Option<String>;
}

impl ClonedNotice for std::result::Result<Option<String>, &StoreError> {
    fn cloned_notice(&self) -> Option<String> {
        self.clone().unwrap()
    }
}

#[test]
fn what_goes_on_is_the_last_conversation_that_has_an_answer() {
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
    assert_eq!(home.open().last_answered().unwrap(), failed, "better than nothing");
    let answered = asked("two?", "2");
    let last = asked("three?", "");
    assert_eq!(home.open().last_answered().unwrap(), answered);
    assert_eq!(home.open().last().unwrap(), Some(last));
}
