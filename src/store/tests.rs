//! Storing and loading conversations, locked and damaged databases, file permissions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::conversation::{Answer, Ending};
use crate::protocol::{FinishReason, Timing, Usage};

mod import;
mod search;
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

#[test]
fn database_of_schema_version_1_is_migrated() {
    let home = Home::new();
    let path = earlier(&home);
    let read = |mut store: Store| {
        let listed = store.list().unwrap().remove(0);
        assert_eq!((listed.turns, listed.answers, listed.title.as_str()), (2, 1, "vast and"));
        assert_eq!(listed.model, "other");
        assert_eq!(store.load(&listed.id).unwrap().path(), [TurnId(0), TurnId(1)]);
    };
    let before = std::fs::read(&path).unwrap();
    read(Store::open_to_read(&home.data()).unwrap().unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), before, "reading does not migrate");
    read(home.open());
    read(home.open());
    let db = Connection::open(&path).unwrap();
    assert_eq!(db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap(), schema::VERSION);
}

#[test]
fn database_of_schema_version_2_is_migrated_without_loss() {
    let home = Home::new();
    std::fs::create_dir(home.data()).unwrap();
    let db = Connection::open(home.data().join(DATABASE)).unwrap();
    db.execute_batch(&schema::STEPS[..2].concat()).unwrap();
    db.execute_batch(
        "INSERT INTO conversations (id, created, changed, settings, draft, head)
           VALUES ('0123456789abcdef', 1, 2, '{\"seed\":\"7\"}', 'half', 1);
         INSERT INTO turns (conversation, prompt, model, asked, answer, state, writer, sampling, files, timing,
             prompt_tokens, cached_tokens, completion_tokens)
           VALUES ('0123456789abcdef', 'one?', 'tiny', 9, '1', 'stop', '', NULL, '[{\"name\":\"a\",\"text\":\"b\"}]',
             '{\"load\":1,\"ttft\":2,\"prefill\":3,\"decode\":4,\"total\":5}', 8, 1, 2);",
    )
    .unwrap();
    drop(db);
    let mut store = home.open();
    let id = store.find("0123").unwrap();
    let talk = store.load(&id).unwrap();
    assert_eq!((talk.draft.as_str(), talk.settings["seed"].as_str()), ("half", "7"));
    let turn = talk.turn(TurnId(0)).unwrap();
    assert_eq!((turn.answer.text.as_str(), turn.files[0].name.as_str()), ("1", "a"));
    let Ending::Finished { usage, timing: Some(timing), .. } = &turn.answer.ending else { panic!("{turn:?}") };
    assert_eq!((usage.prompt_tokens, timing.total), (8, Duration::from_micros(5)));
    assert_eq!(store.trace(&id, TurnId(0)).unwrap(), None);
    assert_eq!(store.origins(&id).unwrap()[0].asked_ms, Some(9));
    assert!(store.loads().unwrap().is_empty());
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
fn new_data_folder_and_files_are_private() {
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
fn damaged_database_is_set_aside_unchanged() {
    let home = Home::new();
    let talk = branched(&mut home.open());
    let path = home.data().join(DATABASE);
    let sound = std::fs::read(&path).unwrap();
    for damage in [b"garbage, not a database".repeat(50), sound[..sound.len() - 5000].to_vec()] {
        std::fs::write(&path, &damage).unwrap();
        let Opened { mut store, notices } = Store::open(&home.data()).unwrap();
        let notice = &notices[0];
        let kept = notice.split("kept as ").nth(1).unwrap().split("; a new").next().unwrap();
        assert_eq!(std::fs::read(kept).unwrap(), damage, "{notice}");
        assert!(store.load(&talk.id).is_err());
        branched(&mut store);
    }
}

#[test]
fn newer_schema_is_an_error_and_the_file_is_not_changed() {
    let home = Home::new();
    branched(&mut home.open());
    Connection::open(home.data().join(DATABASE)).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(matches!(Store::open(&home.data()), Err(StoreError::Newer { found: 7, known: schema::VERSION, .. })));
    assert!(matches!(Store::open_to_read(&home.data()), Err(StoreError::Newer { .. })));
    let kept =
        std::fs::read_dir(home.data()).unwrap().flatten().any(|e| e.file_name().to_string_lossy().contains("damaged"));
    assert!(!kept);
}

#[test]
fn folder_that_cannot_be_created_is_an_error_and_reading_creates_none() {
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

/// A second connection that locks the database until it is dropped.
fn locked(home: &Home, how: &str) -> Connection {
    let other = Connection::open(home.data().join(DATABASE)).unwrap();
    other.execute_batch(how).unwrap();
    other
}

/// Saves through the handle and waits for the result.
fn save_by(handle: &StoreHandle, talk: &Conversation, id: TurnId) -> Result<()> {
    let (sender, done) = std::sync::mpsc::channel();
    handle.save(record(talk, id), move |saved| sender.send(saved).unwrap());
    done.recv().unwrap()
}

/// Saves two turns through the handle while another program locks the database.
fn two_turns_meanwhile(handle: &StoreHandle) -> Conversation {
    let mut talk = Conversation::new(new_conversation_id(), Some("Be brief.".into()));
    for (question, text) in [("one?", "1"), ("two?", "2")] {
        let id = talk.ask(talk.head(), question, "tiny");
        save_by(handle, &talk, id).unwrap();
        talk.turn_mut(id).unwrap().answer = Answer { text: text.into(), ending: finished(), ..Answer::default() };
        save_by(handle, &talk, id).unwrap();
    }
    talk
}

#[test]
fn turns_are_kept_in_a_spool_file_while_the_database_is_locked_and_stored_afterwards() {
    for how in ["BEGIN IMMEDIATE", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"] {
        let home = Home::new();
        branched(&mut home.open());
        let other = locked(&home, how);
        let start = Instant::now();
        let (sender, told) = std::sync::mpsc::channel();
        let handle = StoreHandle::start(home.data(), move |what| drop(sender.send(what))).unwrap();
        let talk = two_turns_meanwhile(&handle);
        assert!(start.elapsed() < Duration::from_secs(4), "{how}: waited {:?}", start.elapsed());
        assert!(matches!(told.recv().unwrap(), Told::Delayed(StoreError::Busy, _)), "{how}");
        assert!(matches!(handle.standing(&talk.id), Some(Standing::Aside(_))), "{how}");
        drop(other);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Told::CaughtUp), "{how}");
        assert_eq!(handle.standing(&talk.id), Some(Standing::Stored), "{how}");
        assert_eq!(std::fs::read_dir(home.data().join("unstored")).unwrap().count(), 0);
        drop(handle);
        assert_eq!(home.open().load(&talk.id).unwrap(), talk, "{how}");
    }
}

#[test]
fn turns_left_in_a_spool_file_are_stored_exactly_once_at_the_next_start() {
    let home = Home::new();
    let earlier = branched(&mut home.open());
    let other = locked(&home, "BEGIN IMMEDIATE");
    let handle = StoreHandle::start(home.data(), |_| ()).unwrap();
    let talk = two_turns_meanwhile(&handle);
    // One more turn of a conversation that is in the database.
    let (sender, loaded) = std::sync::mpsc::channel();
    let id = earlier.id.clone();
    handle.run(move |store| sender.send(store.unwrap().load(&id).unwrap()).unwrap());
    let mut longer = loaded.recv().unwrap();
    let next = longer.ask(longer.head(), "and then?", "tiny");
    save_by(&handle, &longer, next).unwrap();
    drop(handle);
    let file = std::fs::read_dir(home.data().join("unstored")).unwrap().next().unwrap().unwrap().path();
    let copy = std::fs::read(&file).unwrap();
    drop(other);
    for _ in 0..2 {
        let mut store = home.open();
        assert_eq!(store.load(&talk.id).unwrap(), talk);
        longer.turn_mut(next).unwrap().answer.ending = Ending::Interrupted;
        assert_eq!(store.load(&longer.id).unwrap(), longer);
        assert!(!file.exists());
        // As if the process had been killed after storing the turns and before removing the file.
        std::fs::write(&file, &copy).unwrap();
    }
    std::fs::write(&file, b"[{\"conversation\": 1").unwrap();
    let notices = Store::open(&home.data()).unwrap().notices;
    assert!(notices.len() == 1 && notices[0].contains("their file is kept as "), "{notices:?}");
}

#[test]
fn one_damaged_byte_affects_only_its_row() {
    let home = Home::new();
    let mut expected = Vec::new();
    {
        let mut store = home.open();
        for n in 0..3 {
            let mut talk = Conversation::new(new_conversation_id(), Some(format!("SYSTEM-{n}")));
            let id = talk.ask(None, format!("PROMPT-{n}"), format!("MODEL-{n}"));
            save(&mut store, &talk, id);
            let answer = Answer {
                reasoning: format!("THOUGHT-{n}"),
                text: format!("ANSWER-{n}"),
                ending: finished(),
                trace: None,
                served: None,
            };
            talk.turn_mut(id).unwrap().answer = answer;
            save(&mut store, &talk, id);
            store.rename(&talk.id, &format!("TITLE-{n}")).unwrap();
            talk.title = Some(format!("TITLE-{n}"));
            expected.push(talk);
        }
    }
    let path = home.data().join(DATABASE);
    Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let sound = std::fs::read(&path).unwrap();
    let words = ["SYSTEM-2", "PROMPT-2", "MODEL-2", "THOUGHT-2", "ANSWER-2", "TITLE-2", "length", &expected[2].id.0];
    for word in words {
        let places = sound.windows(word.len()).enumerate().filter(|(_, window)| *window == word.as_bytes());
        for (place, _) in places {
            let mut damaged = sound.clone();
            damaged[place] = 0xff;
            std::fs::write(&path, damaged).unwrap();
            let mut store = home.open();
            assert_eq!(store.list().unwrap().len(), 3, "{word} at {place}");
            assert_eq!(store.search("ANSWER-1", 10).unwrap().len(), 1, "{word} at {place}");
            let last = store.last_answered().unwrap();
            assert!(store.load(&last).is_ok(), "{word} at {place}");
            // All three turns have the state `length`, so any of them may be the damaged one.
            for talk in expected[..2].iter().filter(|_| word != "length") {
                assert_eq!(&store.load(&talk.id).unwrap(), talk, "{word} at {place}");
            }
        }
    }
}

#[test]
fn large_database_that_a_statement_finds_damaged_is_set_aside_at_the_next_start() {
    let home = Home::new();
    let mut talk = Conversation::new(new_conversation_id(), None);
    {
        let mut store = home.open();
        for n in 0..36 {
            let id = talk.ask(talk.head(), format!("{n} {}", "x".repeat(1 << 20)), "tiny");
            talk.turn_mut(id).unwrap().answer.ending = finished();
            save(&mut store, &talk, id);
        }
    }
    let path = home.data().join(DATABASE);
    Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 32 << 20);
    // The first four bytes of an overflow page are the number of the next one.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 40 * 4096].fill(0xee);
    std::fs::write(&path, &bytes).unwrap();
    let mut store = home.open();
    let error = store.load(&talk.id).unwrap_err();
    assert!(error.to_string().contains("Start chatnap again"), "{error}");
    drop(store);
    let notices = Store::open(&home.data()).unwrap().notices;
    assert!(notices.len() == 1 && notices[0].contains("kept as"), "{notices:?}");
    home.open();
    // Damage in the first page is found when the database is opened.
    bytes[100..4096].fill(0xee);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Store::open(&home.data()).unwrap().notices.len(), 1);
}

#[test]
fn database_of_another_program_is_set_aside_with_one_notice() {
    let foreign: [fn(&Path); 4] = [
        |path| std::fs::write(path, "").unwrap(),
        |path| Connection::open(path).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap(),
        |path| Connection::open(path).unwrap().execute_batch("CREATE TABLE conversations (id, mail)").unwrap(),
        |path| {
            let sql = "CREATE TABLE conversations (id); CREATE TABLE turns (n); PRAGMA user_version = 1";
            Connection::open(path).unwrap().execute_batch(sql).unwrap();
        },
    ];
    for (n, make) in foreign.into_iter().enumerate() {
        let home = Home::new();
        std::fs::create_dir(home.data()).unwrap();
        make(&home.data().join(DATABASE));
        let found = std::fs::read(home.data().join(DATABASE)).unwrap();
        assert!(Store::open_to_read(&home.data()).is_err(), "{n}");
        let Opened { mut store, notices } = Store::open(&home.data()).unwrap();
        assert_eq!(notices.len(), 1, "{n}: {notices:?}");
        assert!(!notices[0].contains("SELECT") && !notices[0].contains("CREATE"), "{n}: {notices:?}");
        let kept = notices[0].split("kept as ").nth(1).unwrap().split("; a new").next().unwrap();
        assert_eq!(std::fs::read(kept).unwrap(), found, "{n}");
        branched(&mut store);
        home.open();
    }
}

#[test]
fn store_file_that_is_not_regular_is_an_error_and_never_blocks() {
    use rustix::fs::{CWD, FileType, mknodat};
    for name in [DATABASE, "conversations.lock", "conversations.db-wal", "conversations.db-journal"] {
        let home = Home::new();
        branched(&mut home.open());
        let place = home.data().join(name);
        let _ = std::fs::remove_file(&place);
        mknodat(CWD, &place, FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = Store::open(&home.data()).err().unwrap().to_string();
        assert!(error.contains("FIFO, not a regular file"), "{name}: {error}");
    }
    let home = Home::new();
    branched(&mut home.open());
    mknodat(CWD, home.data().join("writers/0123456789ab"), FileType::Fifo, 0o600.into(), 0).unwrap();
    home.open();
}

#[test]
fn default_folder_is_made_private_and_a_writable_chosen_folder_gives_a_notice() {
    let home = Home::new();
    let usual = home.0.path().join("chatnap");
    drop(branched(&mut Store::open(&usual).unwrap().store));
    let chmod = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for (name, open, private) in [("", 0o777, 0o700), ("conversations.lock", 0o644, 0o600), (DATABASE, 0o644, 0o600)] {
        chmod(&usual.join(name), open);
        assert_eq!(Store::open(&usual).unwrap().notices, Vec::<String>::new());
        assert_eq!(mode(&usual.join(name)), private, "{name}");
    }
    branched(&mut home.open());
    chmod(&home.data(), 0o777);
    let notices = Store::open(&home.data()).unwrap().notices;
    assert!(notices.len() == 1 && notices[0].contains("Other users can write to"), "{notices:?}");
    assert_eq!(mode(&home.data()), 0o777, "a folder that the user chose is not changed");
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
