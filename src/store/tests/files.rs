//! The store's files: earlier schemas, damage, permissions, files that are no store.

use super::*;

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
