//! `chatnap conversations search`: the best hits first, each with the part of its text that was found.

use std::io::IsTerminal;
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use super::{changed, note_if, object, reading};
use crate::cells::width;
use crate::cli::args::TableFormat;
use crate::commands::table::Table;
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::sanitize::sanitize_line;
use crate::settings::Settings;
use crate::store::{Hit, Store};
use crate::wording::short_name;

/// More hits than these help nobody.
const MOST: usize = 100;

/// How long the search may first index what is not indexed yet.
const INDEXING: Duration = Duration::from_secs(5);

pub(super) fn run(settings: &Settings, text: &str, format: TableFormat) -> Result<Reader, Failure> {
    let found = match opened(settings)? {
        Some(mut store) => store.search(text, MOST)?,
        None => Vec::new(),
    };
    note_if(found.is_empty(), &format!("No stored conversation holds {:?}.", sanitize_line(text)));
    match format {
        TableFormat::Table => output::write(&lines(&found, std::io::stdout().is_terminal())),
        _ => table(&found, format),
    }
}

/// The store with all turns indexed, if it can be written; else as it is.
fn opened(settings: &Settings) -> Result<Option<Store>, Failure> {
    let Some(store) = reading(settings)? else { return Ok(None) };
    let indexed = Store::open(&settings.data_dir).and_then(|mut opened| {
        opened.store.index_all(INDEXING)?;
        Ok(opened.store)
    });
    // What is not indexed is searched, too, only slower.
    Ok(Some(indexed.unwrap_or(store)))
}

/// For each hit a line with id, time, model and title, and one with the excerpt; bold hits if `styled`.
fn lines(found: &[Hit], styled: bool) -> String {
    let columns = output::columns().unwrap_or(usize::MAX);
    let mut out = String::new();
    for hit in found {
        let summary = &hit.summary;
        let head = [summary.id.0.clone(), changed(summary), short_name(&summary.model), summary.title.clone()];
        let head = sanitize_line(&head.join("  "));
        out += &format!("{}\n  {}\n", fitting(&head, &[], columns, false), {
            fitting(&hit.excerpt, &hit.marks, columns.saturating_sub(2), styled)
        });
    }
    out
}

/// The text cut to `columns` cells, with bold `marks`.
fn fitting(text: &str, marks: &[Range<usize>], columns: usize, styled: bool) -> String {
    let (mut out, mut used, mut bold) = (String::new(), 0, false);
    for (at, c) in text.char_indices() {
        let piece = sanitize_line(&c.to_string());
        let cells = width(&piece);
        if used + cells > columns.saturating_sub(usize::from(at + c.len_utf8() < text.len())) {
            out.push('…');
            break;
        }
        let is_marked = styled && marks.iter().any(|mark| mark.contains(&at));
        if is_marked != bold {
            out += if is_marked { "\x1b[1m" } else { "\x1b[22m" };
            bold = is_marked;
        }
        out += &piece;
        used += cells;
    }
    if bold {
        out += "\x1b[22m";
    }
    out
}

fn table(found: &[Hit], format: TableFormat) -> Result<Reader, Failure> {
    let mut table = Table::new(&["id", "changed", "model", "title", "excerpt"]);
    for hit in found {
        let summary = &hit.summary;
        let cells = [summary.id.0.clone(), changed(summary), short_name(&summary.model)];
        table.row(cells.into_iter().chain([summary.title.clone(), hit.excerpt.clone()]));
    }
    let objects = found.iter().map(|hit| {
        let mut object = object(&hit.summary);
        object["turn"] = json!(hit.turn.0);
        object["excerpt"] = json!(hit.excerpt);
        object["marks"] = hit.marks.iter().map(|mark| json!([mark.start, mark.end])).collect();
        object
    });
    let objects: Vec<Value> = objects.collect();
    output::write(&table.render(format, &Value::Array(objects)))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_is_cut_to_the_width_and_hits_are_bold() {
        let mark = std::slice::from_ref(&(2..6));
        assert_eq!(fitting("a vast sea", mark, 20, true), "a \x1b[1mvast\x1b[22m sea");
        assert_eq!(fitting("a vast sea", mark, 5, true), "a \x1b[1mva…\x1b[22m");
        assert_eq!(fitting("a vast sea", mark, 10, false), "a vast sea");
        assert_eq!(fitting("深度\u{1b}学习", &[], 5, true), "深度…");
    }
}
