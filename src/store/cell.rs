//! Values of the database's cells, read so that a damaged one costs itself alone: text that is no longer UTF-8 is shown
//! with replacement characters, a value of another type as what can be made of it.

use rusqlite::Row;
use rusqlite::types::ValueRef;

/// The text of a column; empty for NULL. An error only if there is no such column.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(optional_text(row, column)?.unwrap_or_default())
}

/// The text of a column; `None` for NULL.
pub(super) fn optional_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    })
}

/// The whole number of a column; `None` for anything else.
pub(super) fn integer(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(row.get_ref(column)?.as_i64().ok())
}

/// Like [`integer`], 0 for what cannot be a count or a time.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(integer(row, column)?.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}
