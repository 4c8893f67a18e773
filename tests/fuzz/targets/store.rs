//! The conversation database: arbitrary bytes in place of the file, and valid databases with changed cells.
//!
//! Input: after an even first byte a database file; after an odd one cells to write into a valid database, each of them
//! column, row, kind of value and the 8 bytes of the value.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use chatnap::conversation::{Answer, Conversation, Ending, TurnId, TurnRecord};
use chatnap::protocol::{FinishReason, Timing, Usage};
use chatnap::store::{DATABASE, Store, json, markdown, new_conversation_id};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::{Target, folder};

pub const TARGET: Target = Target {
    name: "store",
    cases: 250,
    time: Duration::from_secs(2),
    memory: 64 << 20,
    words: &[
        "SQLite format 3\0",
        "CREATE TABLE conversations",
        "CREATE TABLE turns",
        "CREATE INDEX turns_pending",
        "CREATE TRIGGER t AFTER INSERT ON turns BEGIN",
        "CREATE VIEW turns AS SELECT",
        " INTEGER",
        " TEXT",
        " BLOB",
        "NOT NULL",
        "PRIMARY KEY",
        "AUTOINCREMENT",
        "REFERENCES",
        "pending",
        "stop",
        "\u{2}\u{2}",
        "\u{1}\u{1}",
        "\u{0}\u{0}\u{0}\u{7}",
    ],
    seeds,
    run,
};

const COLUMNS: [(&str, &str); 21] = [
    ("conversations", "id"),
    ("conversations", "title"),
    ("conversations", "system"),
    ("conversations", "created"),
    ("conversations", "changed"),
    ("conversations", "head"),
    ("turns", "conversation"),
    ("turns", "parent"),
    ("turns", "prompt"),
    ("turns", "model"),
    ("turns", "sampling"),
    ("turns", "asked"),
    ("turns", "reasoning"),
    ("turns", "answer"),
    ("turns", "state"),
    ("turns", "error"),
    ("turns", "prompt_tokens"),
    ("turns", "completion_tokens"),
    ("turns", "timing"),
    ("turns", "writer"),
    ("turns", "key"),
];

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![[&[0], sound()].concat()];
    for (column, kind) in (0..COLUMNS.len() as u8).zip((0..6).cycle()) {
        seeds.push([&[1, column, 1, kind][..], &u64::from(column).to_le_bytes()].concat());
    }
    seeds
}

/// A valid database with two branches and an answer of every ending, in pages of 512 bytes.
fn sound() -> &'static [u8] {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let folder = folder(&[]);
        write(&mut Store::open(folder.path()).unwrap().store);
        let path = folder.path().join(DATABASE);
        let db = Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA page_size = 512; VACUUM; PRAGMA journal_mode = WAL;")
            .unwrap();
        drop(db);
        std::fs::read(path).unwrap()
    })
}

fn write(store: &mut Store) {
    let usage = Usage { prompt_tokens: 5, cached_tokens: 2, completion_tokens: 3, ..Usage::default() };
    let finished = Ending::Finished { reason: FinishReason::Stop, usage, timing: Some(Timing::default()) };
    let mut talk = Conversation::new(new_conversation_id(), Some("Be brief.".into()));
    let endings = [finished, Ending::Failed { message: "no".into() }, Ending::Interrupted, Ending::Pending];
    for (index, ending) in endings.into_iter().enumerate() {
        let id = talk.ask(index.checked_sub(2).map(TurnId), format!("question {index}?\nmore"), "tiny");
        talk.turn_mut(id).unwrap().answer =
            Answer { reasoning: "hm".into(), text: "Grüße".into(), ending, trace: None, served: None };
        save(store, &talk, id).unwrap();
    }
    let mut other = Conversation::new(new_conversation_id(), None);
    let id = other.ask(None, "weather", "tiny");
    save(store, &other, id).unwrap();
    store.rename(&other.id, "Weather").unwrap();
}

fn save(store: &mut Store, talk: &Conversation, id: TurnId) -> Result<(), chatnap::store::StoreError> {
    let turn = talk.turn(id).unwrap();
    let (conversation, system, turn) = (talk.id.clone(), talk.system.clone(), turn.clone());
    let settings = talk.settings.clone();
    let record = TurnRecord { conversation, system, settings, id, turn, sampling: None, asked_ms: Some(0) };
    store.save(&record, std::time::Duration::from_secs(1))
}

fn run(input: &[u8]) -> bool {
    let folder = folder(&[]);
    let path = folder.path().join(DATABASE);
    match input.split_first() {
        Some((first, bytes)) if first % 2 == 0 => std::fs::write(&path, bytes).unwrap(),
        Some((_, cells)) => {
            std::fs::write(&path, sound()).unwrap();
            change(&path, cells);
        }
        None => {}
    }
    let before = std::fs::read(&path).unwrap_or_default();
    let texts = texts(&path);
    if let Ok(Some(mut store)) = Store::open_to_read(folder.path()) {
        read(&mut store);
    }
    let named = match input.first() {
        Some(first) if first % 2 == 1 => named(&path),
        _ => Vec::new(),
    };
    let notices = match Store::open(folder.path()) {
        Ok(opened) => {
            let listed = opened.store.list().unwrap_or_default();
            let lost = named.iter().find(|id| !listed.iter().any(|summary| summary.id.0 == **id));
            assert!(lost.is_none() || !opened.notices.is_empty(), "{lost:?} is not listed, without a notice");
            use_it(opened.store);
            opened.notices
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            vec![error.to_string()]
        }
    };
    // Opening may set the two bytes of the journal mode in the 100-byte file header, and rebuild indexes.
    if let Some(notice) = notices.first() {
        let same = |kept: &Vec<u8>| kept.len() == before.len() && kept.iter().skip(100).eq(before.iter().skip(100));
        let is_kept = |path: &Path| {
            std::fs::read(path).is_ok_and(|kept| same(&kept)) || texts.is_some() && self::texts(path) == texts
        };
        let mut files = std::fs::read_dir(folder.path()).unwrap().flatten();
        assert!(files.any(|entry| is_kept(&entry.path())), "the old content is lost: {notice}");
    }
    notices.is_empty()
}

/// The bytes of every prompt and answer of a database, if it can be read.
fn texts(path: &Path) -> Option<Vec<(Value, Value)>> {
    let address = format!("file:{}?immutable=1", path.display());
    let db =
        Connection::open_with_flags(address, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).ok()?;
    let query = "SELECT CAST(prompt AS BLOB), CAST(answer AS BLOB) FROM turns NOT INDEXED ORDER BY rowid";
    let mut rows = db.prepare(query).ok()?;
    rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).ok()?.collect::<rusqlite::Result<_>>().ok()
}

/// The conversation ids that are text. A cell of another type must make only its own row unreadable.
fn named(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut rows = db.prepare("SELECT id FROM conversations WHERE typeof(id) = 'text'").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Writes cells with constraint checks off.
fn change(path: &Path, cells: &[u8]) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;").unwrap();
    for cell in cells.chunks_exact(11).take(32) {
        let (table, column) = COLUMNS[usize::from(cell[0]) % COLUMNS.len()];
        let number = i64::from_le_bytes(cell[3..].try_into().unwrap());
        let value = match cell[2] % 6 {
            0 => Value::Null,
            1 => Value::Integer(number),
            2 => Value::Real(f64::from_bits(number as u64)),
            3 => Value::Text(String::from_utf8_lossy(&cell[3..]).into_owned()),
            4 => Value::Blob(cell[3..].to_vec()),
            _ => {
                Value::Text("{\"load\":18446744073709551615,\"ttft\":1,\"prefill\":1,\"decode\":1,\"total\":1}".into())
            }
        };
        // Errors are ignored: SQLite enforces some constraints in any case.
        let _ = db.execute(
            &format!("UPDATE {table} SET {column} = ?1 WHERE rowid IN (SELECT rowid FROM {table} LIMIT 1 OFFSET ?2)"),
            (value, i64::from(cell[1] % 6)),
        );
    }
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

fn read(store: &mut Store) {
    let _ = (store.search("GRÜ", 10), store.last(), store.last_answered(), store.find("last"), store.find("a"));
    for summary in store.list().unwrap_or_default() {
        let Ok(talk) = store.load(&summary.id) else { continue };
        assert!(talk.turns().iter().enumerate().all(|(at, turn)| turn.parent.is_none_or(|parent| parent.0 < at)));
        assert!(markdown(&summary, &talk).starts_with("# "));
        assert!(json(&summary, &talk, &store.origins(&summary.id).unwrap_or_default()).is_object());
    }
}

/// Runs the store operations of a session.
fn use_it(mut store: Store) {
    read(&mut store);
    let mut fresh = Conversation::new(new_conversation_id(), None);
    let id = fresh.ask(None, "and now?", "tiny");
    if save(&mut store, &fresh, id).is_ok() {
        assert_eq!(store.load(&fresh.id).unwrap().turn(id).unwrap().prompt, "and now?");
    }
    for summary in store.list().unwrap_or_default().iter().take(3) {
        if let Ok(mut talk) = store.load(&summary.id) {
            let id = talk.ask(talk.head(), "more", "tiny");
            let _ = save(&mut store, &talk, id);
            let _ = store.select(&talk.id, TurnId(0));
        }
        let _ = (store.rename(&summary.id, "x"), store.remove(&summary.id));
    }
}
