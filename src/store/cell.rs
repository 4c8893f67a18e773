//! Reads single values so that a damaged one is not an error: invalid UTF-8 becomes replacement characters, and a value
//! of another type is converted.

use rusqlite::Row;
use rusqlite::types::ValueRef;

/// The text of a column; empty for NULL. An error only if the column does not exist.
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

/// The bytes of a BLOB; `None` for any other type.
pub(super) fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Vec<u8>>> {
    Ok(row.get_ref(column)?.as_blob().ok().map(<[u8]>::to_vec))
}

/// The integer of a column; `None` for any other type.
pub(super) fn integer(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(row.get_ref(column)?.as_i64().ok())
}

/// Like [`integer`]; 0 for a negative number or another type.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(integer(row, column)?.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

/// The count of a column; `None` for NULL, 0 for a negative number or another type.
pub(super) fn known(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<usize>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(None);
    }
    count(row, column).map(|count| Some(usize::try_from(count).unwrap_or(usize::MAX)))
}
