//! Finds conversations by words in their titles, questions and answers.

use std::collections::HashSet;
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::excerpt::{Excerpt, excerpt};
use super::read::{self, Summary};
use super::terms::Query;
use super::{Result, Store, cell, index};
use crate::conversation::TurnId;
use crate::sanitize::sanitize;

/// A conversation that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its entry in a list.
    pub summary: Summary,
    /// The turn with the hit; the first one if only the title has it.
    pub turn: TurnId,
    /// The part of the question or answer with the hit, as one line.
    pub excerpt: String,
    /// The places of the found words in `excerpt`, in bytes.
    pub marks: Vec<Range<usize>>,
}

/// A turn that matches.
struct Match {
    key: i64,
    /// Whether the title has the hit.
    is_title: bool,
    /// Whether the index has it; else the turn waits to be indexed.
    is_indexed: bool,
}

/// Ranks need the counts of all words in each turn with a hit; for a word that is in most turns this takes long.
const RANKED: i64 = 1000;

/// Turns that are read for each conversation that is wanted: several turns of one conversation may have hits.
const TURNS_PER_HIT: usize = 4;

impl Store {
    /// The conversations with all words of `text` in one turn or in the title, at most `most`; hits in titles first,
    /// then the best by the rarity of the words (BM25), among the latest for a frequent word. A word is a prefix, case
    /// and accents do not matter, and words in double quotes are a phrase. Any part of a text in a script without
    /// spaces is found.
    pub fn search(&mut self, text: &str, most: usize) -> Result<Vec<Hit>> {
        // The index holds sanitized text.
        let query = Query::parse(&sanitize(text));
        if query.is_empty() {
            return Ok(Vec::new());
        }
        let found = search(&self.db, &query, most);
        self.noted(found)
    }
}

fn search(db: &Connection, query: &Query, most: usize) -> Result<Vec<Hit>> {
    let mut matches = unindexed(db, query, most)?;
    if index::is_there(db)? {
        // A damaged index does not hide what waits to be indexed; the next step finds the damage.
        matches.extend(indexed(db, query, most).unwrap_or_default());
    }
    matches.sort_by_key(|found| !found.is_title);
    let (mut seen, mut hits) = (HashSet::new(), Vec::new());
    for found in matches {
        if hits.len() >= most {
            break;
        }
        if let Some(hit) = hit(db, query, &found)?
            && seen.insert(hit.summary.id.clone())
        {
            hits.push(hit);
        }
    }
    Ok(hits)
}

/// The best turns in the index: of the [`RANKED`] latest ones with hits in the title, then in the text.
fn indexed(db: &Connection, query: &Query, most: usize) -> Result<Vec<Match>> {
    let limit = i64::try_from(most.saturating_mul(TURNS_PER_HIT)).unwrap_or(i64::MAX);
    let latest = "SELECT rowid FROM search WHERE search MATCH ?1 ORDER BY rowid DESC LIMIT 1 OFFSET ?2";
    let best =
        "SELECT rowid FROM search WHERE search MATCH ?1 AND rowid >= ?2 ORDER BY bm25(search), rowid DESC LIMIT ?3";
    let (mut latest, mut best) = (db.prepare_cached(latest)?, db.prepare_cached(best)?);
    let mut found = Vec::new();
    for (column, is_title) in [("title", true), ("text", false)] {
        let expression = format!("{column} : ({})", query.expression());
        let oldest = latest.query_row(params![expression, RANKED], |row| row.get(0)).optional()?.unwrap_or(i64::MIN);
        let keys = best.query_map(params![expression, oldest, limit], |row| row.get(0))?;
        for key in keys {
            found.push(Match { key: key?, is_title, is_indexed: true });
        }
    }
    Ok(found)
}

/// Matching turns that wait to be indexed or whose answer has not ended, latest first.
fn unindexed(db: &Connection, query: &Query, most: usize) -> Result<Vec<Match>> {
    let mut found = Vec::new();
    for condition in ["t.state = 'pending'", index::WAITING] {
        let mut statement = db.prepare_cached(&format!(
            "SELECT t.key, coalesce(c.title, c.first), t.prompt, t.answer, t.files
             FROM turns t JOIN conversations c ON c.id = t.conversation WHERE {condition} ORDER BY +t.key DESC"
        ))?;
        let mut rows = statement.query([])?;
        while found.len() < most.saturating_mul(TURNS_PER_HIT)
            && let Some(row) = rows.next()?
        {
            let is_title = query.matches(&sanitize(&cell::text(row, 1)?));
            if is_title || query.matches(&index::turn_text(row, 2)?) {
                found.push(Match { key: row.get(0)?, is_title, is_indexed: false });
            }
        }
    }
    Ok(found)
}

/// The hit in this turn; `None` if it or its conversation is deleted, or the index has an earlier state of it.
fn hit(db: &Connection, query: &Query, found: &Match) -> Result<Option<Hit>> {
    let mut statement = db.prepare_cached(&format!(
        "{}, t.removed, t.prompt, t.answer, t.files,
           (SELECT count(*) FROM turns WHERE conversation = t.conversation AND key < t.key)
         FROM turns t JOIN conversations c ON c.id = t.conversation
         WHERE t.key = ?1 AND (t.indexed <> 0) = ?2 AND c.removed IS NULL",
        read::SUMMARY
    ))?;
    let at = read::SUMMARY_COLUMNS;
    let read = |row: &Row<'_>| {
        let removed = cell::integer(row, at)?.is_some_and(|removed| removed != 0);
        let Excerpt { text, marks } =
            if removed { Excerpt::default() } else { excerpt(&index::turn_text(row, at + 1)?, query) };
        let turn = TurnId(usize::try_from(cell::count(row, at + 4)?).unwrap_or_default());
        let hit = Hit { summary: read::summary(row)?, turn, excerpt: text, marks };
        Ok((!removed || found.is_title).then_some(hit))
    };
    Ok(statement.query_row(params![found.key, found.is_indexed], read).optional()?.flatten())
}
