//! What the user takes for one sign: a cluster of characters (an emoji of a family is five), or a folded paste's name.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_textarea::{CursorMove, DataCursor, TextArea};
use unicode_segmentation::UnicodeSegmentation;

/// Moves over, or deletes, a sign of several characters beside the cursor. `None` where there is none: then the key
/// means what it means anywhere. Otherwise whether the text changed.
pub(super) fn edit<'a>(area: &mut TextArea<'_>, key: KeyEvent, names: impl Iterator<Item = &'a str>) -> Option<bool> {
    if area.is_selecting() || key.modifiers != KeyModifiers::NONE {
        return None;
    }
    let back = matches!(key.code, KeyCode::Backspace | KeyCode::Left);
    let deletes = matches!(key.code, KeyCode::Backspace | KeyCode::Delete);
    if !back && !deletes && key.code != KeyCode::Right {
        return None;
    }
    let DataCursor(row, column) = area.cursor();
    let line = area.lines().get(row)?;
    let (before, after) = line.split_at(line.char_indices().nth(column).map_or(line.len(), |(at, _)| at));
    let sign = if back { last(before, names) } else { first(after, names) }?;
    let length = sign.chars().count();
    if length < 2 {
        return None;
    }
    if back || !deletes {
        let step = if back { CursorMove::Back } else { CursorMove::Forward };
        (0..length).for_each(|_| area.move_cursor(step));
    }
    // What Ctrl-Y brings back is what was cut, and this was not.
    let cut = area.yank_text();
    let changed = deletes && area.delete_str(length);
    area.set_yank_text(cut);
    Some(changed)
}

fn last<'t, 'a>(before: &'t str, mut names: impl Iterator<Item = &'a str>) -> Option<&'t str> {
    let name = names.find(|name| before.ends_with(name)).map(|name| &before[before.len() - name.len()..]);
    name.or_else(|| before.graphemes(true).next_back())
}

fn first<'t, 'a>(after: &'t str, mut names: impl Iterator<Item = &'a str>) -> Option<&'t str> {
    let name = names.find(|name| after.starts_with(name)).map(|name| &after[..name.len()]);
    name.or_else(|| after.graphemes(true).next())
}

#[cfg(test)]
mod tests {
    use super::super::Composer;
    use super::*;

    fn press(composer: &mut Composer, codes: &[KeyCode]) {
        for code in codes {
            composer.edit(KeyEvent::new(*code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn a_cluster_is_one_sign_to_every_key() {
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

    /// Half a name stands for nothing: the paste would be lost, and what is left of its name sent.
    #[test]
    fn a_folded_paste_goes_as_a_whole_and_comes_back_as_one() {
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
}
