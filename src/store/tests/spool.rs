//! Turns that are kept in a file while the database is locked.

use super::*;

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
