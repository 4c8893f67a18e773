//! Editing by grapheme cluster (a family emoji is five characters) and by placeholder of a folded paste.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_textarea::{CursorMove, DataCursor, TextArea};
use unicode_segmentation::UnicodeSegmentation;

/// A movement or deletion at the cursor.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Act {
    back: bool,
    deletes: bool,
    word: bool,
}

impl Act {
    fn of(key: KeyEvent) -> Option<Self> {
        let act = |back, deletes, word| Some(Self { back, deletes, word });
        match (key.modifiers, key.code) {
            (KeyModifiers::NONE, KeyCode::Left) | (KeyModifiers::CONTROL, KeyCode::Char('b')) => {
                act(true, false, false)
            }
            (KeyModifiers::NONE, KeyCode::Right) | (KeyModifiers::CONTROL, KeyCode::Char('f')) => {
                act(false, false, false)
            }
            (KeyModifiers::NONE, KeyCode::Backspace) | (KeyModifiers::CONTROL, KeyCode::Char('h')) => {
                act(true, true, false)
            }
            (KeyModifiers::NONE, KeyCode::Delete) | (KeyModifiers::CONTROL, KeyCode::Char('d')) => {
                act(false, true, false)
            }
            (KeyModifiers::CONTROL, KeyCode::Char('w')) | (KeyModifiers::ALT, KeyCode::Backspace) => {
                act(true, true, true)
            }
            (KeyModifiers::ALT, KeyCode::Char('d') | KeyCode::Delete) => act(false, true, true),
            _ => None,
        }
    }
}

/// Moves over or deletes a grapheme or placeholder of several characters at the cursor; returns whether the text
/// changed. `None`: there is none, and the text area handles the key.
pub(super) fn edit<'a>(area: &mut TextArea<'_>, key: KeyEvent, names: impl Iterator<Item = &'a str>) -> Option<bool> {
    let act = Act::of(key).filter(|_| !area.is_selecting())?;
    let DataCursor(row, column) = area.cursor();
    let line = area.lines().get(row)?;
    let (before, after) = line.split_at(line.char_indices().nth(column).map_or(line.len(), |(at, _)| at));
    // Deleting a word also deletes the space between it and the cursor.
    let (near, space) = match (act.word, act.back) {
        (false, true) => (before, ""),
        (false, false) => (after, ""),
        (true, true) => before.split_at(before.trim_end().len()),
        (true, false) => {
            let (space, near) = after.split_at(after.len() - after.trim_start().len());
            (near, space)
        }
    };
    let sign = match (act.word, act.back) {
        (false, true) => last(near, names),
        (false, false) => first(near, names),
        (true, true) => name_at_end(near, names),
        (true, false) => name_at_start(near, names),
    }?;
    let length = sign.chars().count() + space.chars().count();
    if length < 2 {
        return None;
    }
    if act.back || !act.deletes {
        let step = if act.back { CursorMove::Back } else { CursorMove::Forward };
        (0..length).for_each(|_| area.move_cursor(step));
    }
    // Only word deletions fill the yank buffer (Ctrl-Y).
    let cut = area.yank_text();
    let changed = act.deletes && area.delete_str(length);
    if !act.word {
        area.set_yank_text(cut);
    }
    Some(changed)
}

/// If a key has moved the cursor from `from` into a placeholder, moves it to an edge: text typed inside would break the
/// placeholder, and the paste would be lost.
pub(super) fn leave_names<'a>(area: &mut TextArea<'_>, from: DataCursor, names: impl Iterator<Item = &'a str>) {
    let DataCursor(row, column) = area.cursor();
    let Some(line) = area.lines().get(row) else { return };
    let edges = names.filter_map(|name| {
        let start = line[..line.find(name)?].chars().count();
        let end = start + name.chars().count();
        (start < column && column < end).then_some((start, end))
    });
    let Some((start, end)) = edges.into_iter().next() else { return };
    let forward = if from.0 == row { column > from.1 } else { end - column < column - start };
    let (step, count) = if forward { (CursorMove::Forward, end - column) } else { (CursorMove::Back, column - start) };
    (0..count).for_each(|_| area.move_cursor(step));
}

fn name_at_end<'t, 'a>(before: &'t str, mut names: impl Iterator<Item = &'a str>) -> Option<&'t str> {
    names.find(|name| before.ends_with(name)).map(|name| &before[before.len() - name.len()..])
}

fn name_at_start<'t, 'a>(after: &'t str, mut names: impl Iterator<Item = &'a str>) -> Option<&'t str> {
    names.find(|name| after.starts_with(name)).map(|name| &after[..name.len()])
}

fn last<'t, 'a>(before: &'t str, names: impl Iterator<Item = &'a str>) -> Option<&'t str> {
    name_at_end(before, names).or_else(|| before.graphemes(true).next_back())
}

fn first<'t, 'a>(after: &'t str, names: impl Iterator<Item = &'a str>) -> Option<&'t str> {
    name_at_start(after, names).or_else(|| after.graphemes(true).next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::composer::Composer;

    fn press(composer: &mut Composer, codes: &[KeyCode]) {
        for code in codes {
            composer.edit(KeyEvent::new(*code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn keys_treat_a_grapheme_cluster_as_one_character() {
        let mut composer = Composer::default();
        composer.set("a👨‍👩‍👧e\u{301}");
        press(&mut composer, &[KeyCode::Backspace]);
        assert_eq!(composer.draft(), "a👨‍👩‍👧");
        press(&mut composer, &[KeyCode::Left, KeyCode::Char('b'), KeyCode::Right, KeyCode::Char('c')]);
        assert_eq!(composer.draft(), "ab👨‍👩‍👧c");
        press(&mut composer, &[KeyCode::Left, KeyCode::Left, KeyCode::Delete]);
        assert_eq!(composer.draft(), "abc");
        press(&mut composer, &[KeyCode::Backspace, KeyCode::Backspace, KeyCode::Backspace]);
        assert_eq!(composer.draft(), "c", "the cursor stays where it was");
    }

    /// Half a placeholder does not unfold: the paste would be lost, and the rest of the placeholder sent.
    #[test]
    fn a_folded_paste_is_deleted_whole_and_undo_restores_it() {
        let mut composer = Composer::default();
        let paste = "line\n".repeat(100);
        composer.set("see ");
        composer.paste(&paste);
        press(&mut composer, &[KeyCode::Left, KeyCode::Char('x'), KeyCode::Right]);
        assert_eq!(composer.text(), format!("see x{paste}"));
        press(&mut composer, &[KeyCode::Backspace]);
        assert_eq!(composer.draft(), "see x");
        composer.edit_with(TextArea::undo);
        assert_eq!(composer.text(), format!("see x{paste}"));
    }

    #[test]
    fn word_deletion_treats_a_folded_paste_as_one_word() {
        let paste = "line\n".repeat(100);
        let pasted = || {
            let mut composer = Composer::default();
            composer.set("see ");
            composer.paste(&paste);
            composer.edit(KeyEvent::new(KeyCode::Char(' '), KeyModifiers::NONE));
            composer
        };
        let mut composer = pasted();
        composer.edit(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(composer.draft(), "see ");
        composer.edit_with(TextArea::paste);
        assert_eq!(composer.text(), format!("see {paste} "), "Ctrl-Y brings back what was cut");
        let mut composer = pasted();
        press(&mut composer, &[KeyCode::Home]);
        composer.edit(KeyEvent::new(KeyCode::Char('d'), KeyModifiers::ALT));
        composer.edit(KeyEvent::new(KeyCode::Char('d'), KeyModifiers::ALT));
        assert_eq!(composer.draft(), " ");
    }

    #[test]
    fn the_cursor_never_stops_inside_a_paste_placeholder() {
        let paste = "line\n".repeat(100);
        let mut composer = Composer::default();
        composer.paste(&paste);
        composer.edit_with(|area| {
            area.insert_newline();
            area.insert_str("abcdef")
        });
        press(&mut composer, &[KeyCode::Up, KeyCode::Char('x')]);
        assert_eq!(composer.text(), format!("x{paste}\nabcdef"), "up: to the nearer edge");
        press(&mut composer, &[KeyCode::End]);
        composer.edit(KeyEvent::new(KeyCode::Left, KeyModifiers::CONTROL));
        press(&mut composer, &[KeyCode::Char('y')]);
        assert_eq!(composer.text(), format!("xy{paste}\nabcdef"), "a word back: to its beginning");
    }
}
