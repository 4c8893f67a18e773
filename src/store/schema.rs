//! The schema of the database: its tables, columns and version.

/// The schema that this program writes; `PRAGMA user_version`.
pub(super) const VERSION: i64 = 1;

/// Creates all tables and indexes.
pub(super) const CREATE: &str = "
CREATE TABLE conversations (
  id TEXT PRIMARY KEY,
  title TEXT,
  system TEXT,
  created INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  head INTEGER
);
CREATE INDEX conversations_changed ON conversations (changed);
CREATE TABLE turns (
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
  parent INTEGER REFERENCES turns (key) ON DELETE SET NULL,
  prompt TEXT NOT NULL,
  model TEXT NOT NULL,
  sampling TEXT,
  asked INTEGER NOT NULL,
  reasoning TEXT NOT NULL DEFAULT '',
  answer TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL DEFAULT 'pending'
    CHECK (state IN ('pending', 'stop', 'length', 'cancelled', 'failed', 'interrupted')),
  error TEXT,
  prompt_tokens INTEGER,
  cached_tokens INTEGER,
  completion_tokens INTEGER,
  timing TEXT,
  writer TEXT NOT NULL
);
CREATE INDEX turns_conversation ON turns (conversation, key);
CREATE INDEX turns_parent ON turns (parent);
CREATE INDEX turns_pending ON turns (writer) WHERE state = 'pending';
PRAGMA user_version = 1;
";

/// Tables and columns that this program reads and writes.
pub(super) const TABLES: [(&str, &[&str]); 2] = [
    ("conversations", &["id", "title", "system", "created", "changed", "head"]),
    (
        "turns",
        &[
            "key",
            "conversation",
            "parent",
            "prompt",
            "model",
            "sampling",
            "asked",
            "reasoning",
            "answer",
            "state",
            "error",
            "prompt_tokens",
            "cached_tokens",
            "completion_tokens",
            "timing",
            "writer",
        ],
    ),
];
