//! The full-text search: words, ranks, excerpts, and the index behind it.

#![allow(clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::conversation::Attachment;

fn asked(store: &mut Store, prompt: &str, answer: &str) -> Conversation {
    let mut talk = Conversation::new(new_conversation_id(), None);
    let id = talk.ask(None, prompt, "tiny");
    talk.turn_mut(id).unwrap().answer = Answer { text: answer.into(), ending: finished(), ..Answer::default() };
    save(store, &talk, id);
    talk
}

fn found(store: &mut Store, text: &str) -> Vec<ConversationId> {
    store.search(text, 10).unwrap().into_iter().map(|hit| hit.summary.id).collect()
}

fn is(id: &ConversationId) -> Vec<ConversationId> {
    vec![id.clone()]
}

fn waiting(store: &Store) -> i64 {
    store.db.query_row("SELECT count(*) FROM turns WHERE indexed = 0", [], |row| row.get(0)).unwrap()
}

#[test]
fn words_are_found_in_any_order_with_and_without_an_index() {
    let home = Home::new();
    let mut store = home.open();
    let sea = asked(&mut store, "Tell me of the sea.", "It is vast and mysterious, like a CAFÉ at night.").id;
    let deep = asked(&mut store, "什么是深度学习?", "机器学习的一种方法。").id;
    let other = asked(&mut store, "What is vast?", "Space.").id;
    for indexed in [false, true] {
        if indexed {
            store.index_all(Duration::from_secs(60)).unwrap();
            assert_eq!(waiting(&store), 0);
        }
        assert_eq!(found(&mut store, "vast mysterious"), is(&sea), "{indexed}");
        assert_eq!(found(&mut store, "MYST vas"), is(&sea), "{indexed}");
        assert_eq!(found(&mut store, "cafe"), is(&sea), "{indexed}");
        assert_eq!(found(&mut store, "\"and mysterious\" vast"), is(&sea), "{indexed}");
        assert_eq!(found(&mut store, "\"and vast\""), [], "{indexed}");
        assert_eq!(found(&mut store, "学习"), is(&deep), "{indexed}");
        assert_eq!(found(&mut store, "习"), is(&deep), "{indexed}");
        assert_eq!(found(&mut store, "学的"), [], "{indexed}");
        let mut both = found(&mut store, "v");
        both.sort();
        let mut expected = [sea.clone(), other.clone()];
        expected.sort();
        assert_eq!(both, expected, "{indexed}");
        for odd in ["", "  ", "++", "\"", "NEAR(", "title:", "' OR 1", "*"] {
            assert_eq!(found(&mut store, odd), [], "{odd}");
        }
    }
    let hit = store.search("mysterious vast", 10).unwrap().remove(0);
    assert_eq!(hit.excerpt, "Tell me of the sea. It is vast and mysterious, like a CAFÉ at night.");
    let marked: Vec<_> = hit.marks.into_iter().map(|mark| hit.excerpt[mark].to_owned()).collect();
    assert_eq!((marked, hit.turn), (vec!["vast".to_owned(), "mysterious".to_owned()], TurnId(0)));
}

#[test]
fn question_is_found_while_it_is_answered_and_escape_sequences_are_no_words() {
    let home = Home::new();
    let mut store = home.open();
    let mut talk = Conversation::new(new_conversation_id(), None);
    let id = talk.ask(None, "Where is \u{1b}[1mOslo?", "tiny");
    save(&mut store, &talk, id);
    store.index_all(Duration::from_secs(60)).unwrap();
    let hit = store.search("oslo", 10).unwrap().remove(0);
    assert_eq!(hit.excerpt, "Where is Oslo?");
    talk.turn_mut(id).unwrap().answer.ending = finished();
    save(&mut store, &talk, id);
    store.index_all(Duration::from_secs(60)).unwrap();
    assert_eq!(found(&mut store, "oslo"), is(&talk.id));
}

#[test]
fn hits_in_titles_come_first_and_one_conversation_is_found_once() {
    let home = Home::new();
    let mut store = home.open();
    let text = asked(&mut store, "one", "harbour harbour harbour");
    let mut titled = asked(&mut store, "two", "nothing");
    let next = titled.ask(titled.head(), "and the harbour?", "tiny");
    titled.turn_mut(next).unwrap().answer.ending = finished();
    save(&mut store, &titled, next);
    store.rename(&titled.id, "Harbour at night").unwrap();
    store.index_all(Duration::from_secs(60)).unwrap();
    assert_eq!(found(&mut store, "harbour"), [titled.id.clone(), text.id.clone()]);
    store.rename(&titled.id, "Other").unwrap();
    store.rename(&text.id, "Harbour").unwrap();
    let hits = store.search("harbour", 10).unwrap();
    assert_eq!(hits.iter().map(|hit| &hit.summary.id).collect::<Vec<_>>(), [&text.id, &titled.id]);
    assert_eq!((hits[1].turn, hits[1].excerpt.as_str()), (TurnId(1), "and the harbour?"));
    assert_eq!(store.search("harbour", 1).unwrap().len(), 1);
}

#[test]
fn deleted_turns_and_conversations_are_not_found() {
    let home = Home::new();
    let mut store = home.open();
    let talk = asked(&mut store, "needle one", "x");
    let other = asked(&mut store, "needle two", "x");
    store.index_all(Duration::from_secs(60)).unwrap();
    store.set_removed(&talk.id, TurnId(0), true).unwrap();
    store.remove(&other.id).unwrap();
    assert_eq!(found(&mut store, "needle"), []);
    store.index_all(Duration::from_secs(60)).unwrap();
    assert_eq!(found(&mut store, "needle"), []);
    store.restore(&other.id).unwrap();
    store.set_removed(&talk.id, TurnId(0), false).unwrap();
    assert_eq!(found(&mut store, "needle").len(), 2);
}

#[test]
fn damaged_index_is_made_again() {
    let home = Home::new();
    let mut store = home.open();
    let talk = asked(&mut store, "needle", "x");
    store.index_all(Duration::from_secs(60)).unwrap();
    store.db.execute_batch("UPDATE search_data SET block = x'ffffffffffffffffffffffffffffff'").unwrap();
    let mut store = home.open();
    assert_eq!(found(&mut store, "needle"), []);
    let more = asked(&mut store, "needle again", "x");
    store.index_all(Duration::from_secs(60)).unwrap();
    assert_eq!(found(&mut store, "needle").len(), 2);
    assert_eq!(home.open().list().unwrap().len(), 2, "the conversations stay");
    assert_ne!(talk.id, more.id);
}

#[test]
fn thread_of_the_store_indexes_an_earlier_database_by_itself() {
    let home = Home::new();
    earlier(&home);
    let handle = StoreHandle::start(home.data(), |_| ()).unwrap();
    let begin = Instant::now();
    loop {
        let (sender, left) = std::sync::mpsc::channel();
        handle.run(move |store| sender.send(waiting(store.unwrap())).unwrap());
        if left.recv().unwrap() == 0 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(handle);
    assert_eq!(found(&mut home.open(), "more vast").len(), 1);
}

#[test]
fn attached_files_are_searched_by_name_and_by_their_beginning() {
    let home = Home::new();
    let mut store = home.open();
    let mut talk = Conversation::new(new_conversation_id(), None);
    let id = talk.ask(None, "what is this?", "tiny");
    let text = format!("fn lighthouse() {{}}\n{} lantern", "é ".repeat(50_000));
    talk.turn_mut(id).unwrap().files = vec![Attachment { name: "src/harbour.rs".into(), text }];
    talk.turn_mut(id).unwrap().answer.ending = finished();
    save(&mut store, &talk, id);
    for indexed in [false, true] {
        if indexed {
            store.index_all(Duration::from_secs(60)).unwrap();
        }
        assert_eq!(found(&mut store, "harbour"), is(&talk.id), "{indexed}");
        assert_eq!(found(&mut store, "lighthouse this"), is(&talk.id), "{indexed}");
        assert_eq!(found(&mut store, "lantern"), [], "{indexed}: beyond the beginning");
    }
    let hit = store.search("lighthouse", 10).unwrap().remove(0);
    assert!(hit.excerpt.contains("src/harbour.rs fn lighthouse() {}"), "{}", hit.excerpt);
}

#[test]
fn files_of_a_database_of_schema_version_2_are_indexed_anew() {
    let home = Home::new();
    std::fs::create_dir(home.data()).unwrap();
    let db = Connection::open(home.data().join(DATABASE)).unwrap();
    db.execute_batch(&schema::STEPS[..2].concat()).unwrap();
    db.execute_batch(
        "INSERT INTO conversations (id, created, changed) VALUES ('0123456789abcdef', 1, 2);
         INSERT INTO turns (conversation, prompt, model, asked, answer, state, writer, files, indexed)
           VALUES ('0123456789abcdef', 'one', 'tiny', 1, '1', 'stop', '', '[{\"name\":\"a.rs\",\"text\":\"lighthouse\"}]', 1),
                  ('0123456789abcdef', 'two', 'tiny', 1, '2', 'stop', '', NULL, 1);",
    )
    .unwrap();
    let mut store = home.open();
    // Creating the index would make all turns wait.
    assert_eq!(waiting(&store), 1);
    store.index_all(Duration::from_secs(60)).unwrap();
    assert_eq!(found(&mut store, "lighthouse").len(), 1);
}
