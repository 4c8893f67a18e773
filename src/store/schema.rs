//! The schema of the database: its tables, columns and version.

/// The schema that this program writes; `PRAGMA user_version`.
pub(super) const VERSION: i64 = 3;

/// The changes from each version to the next, from version 0, an empty database, on.
pub(super) const STEPS: [&str; VERSION as usize] = [TO_1, TO_2, TO_3];

const TO_1: &str = "
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

/// `removed` of a conversation: when it was moved to the trash. `turns`, `answers`, `first` and `model` repeat what a
/// list shows, so that it does not read the turns; triggers keep them. `indexed`: whether the search index holds the
/// turn as it is.
const TO_2: &str = "
ALTER TABLE conversations ADD COLUMN settings TEXT;
ALTER TABLE conversations ADD COLUMN draft TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN removed INTEGER;
ALTER TABLE conversations ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN answers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN first TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE turns ADD COLUMN files TEXT;
ALTER TABLE turns ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN model_hash TEXT;
ALTER TABLE turns ADD COLUMN template_hash TEXT;
ALTER TABLE turns ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX turns_unindexed ON turns (key) WHERE indexed = 0 AND state <> 'pending';
CREATE TRIGGER turns_added AFTER INSERT ON turns BEGIN
  UPDATE conversations SET
    turns = turns + 1,
    answers = answers + (new.answer <> ''),
    first = CASE turns WHEN 0 THEN substr(ltrim(new.prompt, char(9, 10, 13, 32)), 1, 200) ELSE first END,
    model = new.model
  WHERE id = new.conversation;
END;
CREATE TRIGGER turns_answered AFTER UPDATE OF answer ON turns WHEN (old.answer = '') <> (new.answer = '') BEGIN
  UPDATE conversations SET answers = answers + CASE new.answer WHEN '' THEN -1 ELSE 1 END
  WHERE id = new.conversation AND NOT new.removed;
END;
CREATE TRIGGER turns_removed AFTER UPDATE OF removed ON turns WHEN old.removed <> new.removed BEGIN
  UPDATE conversations SET
    turns = (SELECT count(*) FROM turns WHERE conversation = new.conversation AND NOT removed),
    answers = (SELECT count(*) FROM turns WHERE conversation = new.conversation AND NOT removed AND answer <> ''),
    first = coalesce((SELECT substr(ltrim(prompt, char(9, 10, 13, 32)), 1, 200) FROM turns
      WHERE conversation = new.conversation AND NOT removed ORDER BY key LIMIT 1), ''),
    model = coalesce((SELECT model FROM turns
      WHERE conversation = new.conversation AND NOT removed ORDER BY key DESC LIMIT 1), model)
  WHERE id = new.conversation;
END;
UPDATE conversations SET
  turns = (SELECT count(*) FROM turns WHERE conversation = conversations.id),
  answers = (SELECT count(*) FROM turns WHERE conversation = conversations.id AND answer <> ''),
  first = coalesce((SELECT substr(ltrim(prompt, char(9, 10, 13, 32)), 1, 200) FROM turns
    WHERE conversation = conversations.id ORDER BY key LIMIT 1), ''),
  model = coalesce((SELECT model FROM turns WHERE conversation = conversations.id ORDER BY key DESC LIMIT 1), '');
PRAGMA user_version = 2;
";

/// `prompt_ids`, `answer_ids`, `gaps`: integers as in `varints`; `gaps` in microseconds. `device`: JSON with kind and name.
/// `request`: the hash of a request whose answer can be repeated, for the answer cache. `loads`: times in milliseconds since
/// 1970 (UTC) of each load of a model; `asked` when it began, `loaded` when the model was ready, `seen` when the process
/// was last known to hold it, `released` when the memory was given back (NULL: not known). `energy_mj`: the GPU's own
/// count of millijoules from load to release. Turns with files are indexed anew, with the texts of the files.
const TO_3: &str = "
ALTER TABLE turns ADD COLUMN build TEXT;
ALTER TABLE turns ADD COLUMN device TEXT;
ALTER TABLE turns ADD COLUMN variant TEXT;
ALTER TABLE turns ADD COLUMN prompt_ids BLOB;
ALTER TABLE turns ADD COLUMN answer_ids BLOB;
ALTER TABLE turns ADD COLUMN spans TEXT;
ALTER TABLE turns ADD COLUMN gaps BLOB;
ALTER TABLE turns ADD COLUMN request TEXT;
CREATE INDEX turns_request ON turns (request) WHERE request IS NOT NULL;
CREATE INDEX turns_asked ON turns (asked);
CREATE TABLE loads (
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  writer TEXT NOT NULL,
  model TEXT NOT NULL,
  device TEXT,
  asked INTEGER NOT NULL,
  loaded INTEGER NOT NULL,
  seen INTEGER NOT NULL,
  released INTEGER,
  bytes INTEGER,
  energy_mj INTEGER
);
CREATE INDEX loads_asked ON loads (asked);
UPDATE turns SET indexed = 0 WHERE files IS NOT NULL;
PRAGMA user_version = 3;
";

/// A table, the schema version that added these columns, and the columns that this program reads and writes.
type Columns = (&'static str, i64, &'static [&'static str]);

/// The tables and columns of all versions.
pub(super) const TABLES: [Columns; 6] = [
    ("conversations", 1, &["id", "title", "system", "created", "changed", "head"]),
    (
        "turns",
        1,
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
    ("conversations", 2, &["settings", "draft", "removed", "turns", "answers", "first", "model"]),
    ("turns", 2, &["files", "removed", "model_hash", "template_hash", "indexed"]),
    ("turns", 3, &["build", "device", "variant", "prompt_ids", "answer_ids", "spans", "gaps", "request"]),
    ("loads", 3, &["key", "writer", "model", "device", "asked", "loaded", "seen", "released", "bytes", "energy_mj"]),
];
