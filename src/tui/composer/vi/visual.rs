//! The visual mode: movements select, and an operator takes what is selected.

use ratatui_textarea::TextArea;

use super::cells::{Cells, Span};
use super::{Did, Parsed, Register, State, Vi, delete, jump, jump_to, parse, swapped};

impl Vi {
    /// Handles a key in visual mode.
    pub(super) fn visual_key(&mut self, c: char, area: &mut TextArea<'static>, names: &[String]) -> Did {
        let wants_letter = self.typed.ends_with(['f', 'F', 't', 'T', 'r', 'g']);
        if !wants_letter && "vydxcs~".contains(c) {
            self.typed.clear();
            return self.take_selection(c, area, names);
        }
        self.typed.push(c);
        let command = match parse(&self.typed) {
            Parsed::Unfinished => return Did::Moved,
            Parsed::Wrong => None,
            Parsed::Whole(command) => Some(command),
        };
        self.typed.clear();
        let Some(command) = command else { return Did::Moved };
        let cells = Cells::of(area, names);
        let cursor = cells.clamped(cells.cursor(area));
        let (count, (row, column)) = (command.count.unwrap_or(1), cells.place(cursor));
        match command.key {
            'j' => jump_to(area, row.saturating_add(count), column),
            'k' => jump_to(area, row.saturating_sub(count), column),
            key => {
                let to = self.motion(&cells, cursor, key, &command).map_or(cursor, |(to, _)| to);
                jump(area, &cells, cells.clamped(to));
            }
        }
        self.show_selection(area, &cells);
        Did::Moved
    }

    /// Marks the text between anchor and cursor. The cell under the cursor is shown by the cursor itself.
    fn show_selection(&mut self, area: &mut TextArea<'static>, cells: &Cells) {
        let Some(anchor) = self.anchor else { return };
        let cursor = cells.clamped(cells.cursor(area));
        area.cancel_selection();
        jump(area, cells, if cursor < anchor { anchor + 1 } else { anchor });
        area.start_selection();
        jump(area, cells, cursor);
    }

    /// Ends the visual mode; the text stays as it is.
    pub(super) fn leave_visual(&mut self, area: &mut TextArea<'static>) {
        if self.anchor.take().is_some() {
            area.cancel_selection();
        }
    }

    /// Applies an operator to the selected text.
    fn take_selection(&mut self, operator: char, area: &mut TextArea<'static>, names: &[String]) -> Did {
        let before = State::of(area);
        let cells = Cells::of(area, names);
        let cursor = cells.clamped(cells.cursor(area));
        let anchor = self.anchor.unwrap_or(cursor);
        self.leave_visual(area);
        let (from, last) = (anchor.min(cursor), anchor.max(cursor));
        let span = Span::chars(from, cells.right(last, 1));
        match operator {
            'y' => {
                self.register = Register { text: cells.text(span), lines: false };
                jump(area, &cells, from);
            }
            'd' | 'x' => self.cut(area, &cells, span),
            'c' | 's' => self.change(area, &cells, span),
            '~' => {
                let text = cells.text(span).chars().flat_map(swapped).collect::<String>();
                delete(area, &cells, span.from, span.to);
                area.insert_str(text);
                jump(area, &cells, from);
            }
            _ => {}
        }
        self.finish(before, area, names)
    }
}
