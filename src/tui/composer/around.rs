//! The draft around the cursor: what completion replaces, and mentions of files as single signs.

use ratatui_textarea::{CursorMove, DataCursor};

use super::Composer;
use crate::conversation::mention;

impl Composer {
    /// Row and column of the cursor in the draft, in characters.
    pub fn cursor(&self) -> (usize, usize) {
        let DataCursor(row, column) = self.area.cursor();
        (row, column)
    }

    /// The draft before and behind the cursor.
    pub fn around_cursor(&self) -> (String, String) {
        let (row, column) = self.cursor();
        let draft = self.draft();
        let line: usize = draft.split_inclusive('\n').take(row).map(str::len).sum();
        let inside = draft[line..].char_indices().nth(column).map_or(draft.len() - line, |(at, _)| at);
        let (before, behind) = draft.split_at(line + inside);
        (before.to_owned(), behind.to_owned())
    }

    /// Where in the draft the mention begins that is being written at the cursor, in bytes.
    pub fn mention_at_cursor(&self) -> Option<usize> {
        let (before, behind) = self.around_cursor();
        let ends_here = behind.chars().next().is_none_or(char::is_whitespace);
        mention::unfinished(&before).filter(|_| ends_here).map(|(at, _)| at)
    }

    /// Replaces the draft by a completion. The cursor stays before the text that was behind it.
    pub fn complete(&mut self, text: &str) {
        let (_, behind) = self.around_cursor();
        self.set(text);
        if text.ends_with(&behind) {
            behind.chars().for_each(|_| self.area.move_cursor(CursorMove::Back));
        }
    }

    /// Mentions that are moved over and deleted as one sign.
    pub fn set_names(&mut self, names: Vec<String>) {
        self.names = names;
    }

    /// Inserts `text` before the draft; the cursor stays where it is in the draft.
    pub fn put_before(&mut self, text: &str) {
        self.leave_history();
        let (_, behind) = self.around_cursor();
        self.set(&format!("{text}{}", self.draft()));
        behind.chars().for_each(|_| self.area.move_cursor(CursorMove::Back));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_in_the_middle_leaves_the_cursor_there() {
        let mut composer = Composer::default();
        composer.set("a @s");
        composer.edit_with(|area| area.insert_str("\nz"));
        for step in [CursorMove::Up, CursorMove::End] {
            composer.area.move_cursor(step);
        }
        assert_eq!(composer.around_cursor(), ("a @s".into(), "\nz".into()));
        assert_eq!(composer.mention_at_cursor(), Some(2));
        composer.complete("a @src \nz");
        assert_eq!(composer.around_cursor(), ("a @src ".into(), "\nz".into()));
        composer.put_before("@b ");
        assert_eq!(composer.around_cursor(), ("@b a @src ".into(), "\nz".into()));
    }
}
