//! Vi keys of the composer: a normal, an insert and a visual mode. In insert mode the usual keys apply.
//!
//! The text is seen as a sequence of cells: a grapheme cluster, a placeholder of a folded paste, or a line end.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_textarea::{CursorMove, DataCursor, TextArea};

mod again;
mod cells;
mod visual;

use cells::{Cells, Motion, Span};

/// Largest count, so that a mistyped number takes no time.
const MOST: usize = 9999;

/// Most changes that can be taken back.
const UNDO: usize = 200;

/// The mode, and what is typed of a command.
#[derive(Clone, Debug, Default)]
pub struct Vi {
    normal: bool,
    /// The beginning of a command: counts, an operator, `g`, `r`, or a search in the line.
    typed: String,
    register: Register,
    /// The last search in a line: its key and its letter.
    sought: Option<(char, char)>,
    /// What `.` does again.
    again: again::Again,
    /// Where the visual mode began.
    anchor: Option<usize>,
    undo: Vec<State>,
    redo: Vec<State>,
    /// The state before the running insertion.
    before: Option<State>,
}

/// Text that was deleted or copied.
#[derive(Clone, Debug, Default)]
struct Register {
    text: String,
    lines: bool,
}

/// Text and cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    text: String,
    cursor: (usize, usize),
}

/// What a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// At most the cursor or the mode changed.
    Moved,
    /// The text changed.
    Changed,
    /// The key means this many presses of the arrow key up (true) or down.
    Vertical(bool, usize),
}

/// A complete command: count, operator, key.
#[derive(Clone, Debug)]
struct Command {
    count: Option<usize>,
    operator: Option<char>,
    key: char,
    /// `gg` has the key `g`; `rX`, `fX` and the like have this argument.
    argument: char,
}

impl Vi {
    /// Label for the frame: the mode, and what is typed of a command.
    pub fn label(&self) -> String {
        let mode = match (self.normal, self.anchor) {
            (false, _) => return "insert".to_owned(),
            (true, None) => "normal",
            (true, Some(_)) => "visual",
        };
        format!("{mode} {}", self.typed).trim_end().to_owned()
    }

    /// Back to the insert mode, for a new draft.
    pub fn reset(&mut self) {
        let old = std::mem::take(self);
        *self = Self { register: old.register, sought: old.sought, again: old.again, ..Self::default() };
    }

    /// Handles a key; `None`: it has its usual meaning.
    pub fn key(&mut self, key: KeyEvent, area: &mut TextArea<'static>, names: &[String]) -> Option<Did> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if key.modifiers.contains(KeyModifiers::ALT) {
            return None;
        }
        match key.code {
            KeyCode::Esc if !self.normal => Some(self.leave_insert(area, names)),
            KeyCode::Esc if !self.typed.is_empty() || self.anchor.is_some() => {
                self.typed.clear();
                self.leave_visual(area);
                Some(Did::Moved)
            }
            _ if !self.normal => {
                self.before.get_or_insert_with(|| State::of(area));
                None
            }
            KeyCode::Char('r') if control => Some(self.redo(area)),
            KeyCode::Char('?' | '/') if area.is_empty() && !control => None,
            KeyCode::Char(c) if !control => Some(self.command_key(c, area, names)),
            KeyCode::Backspace => Some(self.command_key('h', area, names)),
            _ => {
                self.typed.clear();
                self.leave_visual(area);
                None
            }
        }
    }

    fn leave_insert(&mut self, area: &mut TextArea<'static>, names: &[String]) -> Did {
        self.normal = true;
        self.again.inserted(&State::of(area));
        let before = self.before.take();
        self.remember(before, area);
        let cells = Cells::of(area, names);
        let cursor = cells.cursor(area);
        jump(area, &cells, if cursor > cells.line_start(cursor) { cursor - 1 } else { cursor });
        Did::Moved
    }

    /// Makes `before` the state that `u` goes back to, if the text is another one now.
    fn remember(&mut self, before: Option<State>, area: &TextArea<'static>) {
        let Some(before) = before.filter(|before| before.text != area.lines().join("\n")) else { return };
        self.undo.push(before);
        let excess = self.undo.len().saturating_sub(UNDO);
        self.undo.drain(..excess);
        self.redo.clear();
    }

    fn command_key(&mut self, c: char, area: &mut TextArea<'static>, names: &[String]) -> Did {
        if self.anchor.is_some() {
            return self.visual_key(c, area, names);
        }
        self.typed.push(c);
        let command = match parse(&self.typed) {
            Parsed::Unfinished => return Did::Moved,
            Parsed::Wrong => {
                self.typed.clear();
                return Did::Moved;
            }
            Parsed::Whole(command) => command,
        };
        self.typed.clear();
        self.run(&command, area, names)
    }

    fn run(&mut self, command: &Command, area: &mut TextArea<'static>, names: &[String]) -> Did {
        let count = command.count.unwrap_or(1);
        match (command.operator, command.key) {
            (None, 'j') => return Did::Vertical(false, count),
            (None, 'k') => return Did::Vertical(true, count),
            (None, 'u') => return self.undo(count, area),
            (None, '.') => return self.repeat(command.count, area, names),
            _ => {}
        }
        let before = State::of(area);
        let cells = Cells::of(area, names);
        let cursor = cells.clamped(cells.cursor(area));
        self.again.note(command);
        match (command.operator, command.key) {
            (Some(operator), _) => self.operate(operator, command, area, &cells, cursor),
            (None, 'x') => self.cut(area, &cells, Span::chars(cursor, cells.right(cursor, count))),
            (None, 'X') => self.cut(area, &cells, Span::chars(cells.left(cursor, count), cursor)),
            (None, 'D') => self.cut(area, &cells, Span::chars(cursor, cells.line_end(cursor))),
            (None, 's') => self.change(area, &cells, Span::chars(cursor, cells.right(cursor, count))),
            (None, 'C') => self.change(area, &cells, Span::chars(cursor, cells.line_end(cursor))),
            (None, 'p' | 'P') => self.put(command.key == 'P', count, area, &cells, cursor),
            (None, 'r') => replace(area, &cells, cursor, count, command.argument),
            (None, '~') => swap_case(area, &cells, cursor, count),
            (None, 'i' | 'a' | 'I' | 'A' | 'o' | 'O') => self.insert(command.key, area, &cells, cursor),
            (None, 'v') => self.anchor = Some(cursor),
            (None, _) => {
                if let Some((to, _)) = self.motion(&cells, cursor, command.key, command) {
                    jump(area, &cells, to);
                }
            }
        }
        self.finish(before, area, names)
    }

    /// Where a movement leads: a search in the line, or a key of [`Cells::motion`].
    fn motion(&mut self, cells: &Cells, at: usize, key: char, command: &Command) -> Option<(usize, Motion)> {
        let (key, letter) = match key {
            'f' | 'F' | 't' | 'T' => *self.sought.insert((key, command.argument)),
            ';' => self.sought?,
            ',' => self.sought.map(|(key, letter)| (again::opposite(key), letter))?,
            key => return cells.motion(at, key, command.count),
        };
        let is_repeated = matches!(command.key, ';' | ',');
        cells.search(at, key, letter, command.count.unwrap_or(1), is_repeated)
    }

    /// After a command: the cursor is on a cell, and the change can be undone.
    fn finish(&mut self, before: State, area: &mut TextArea<'static>, names: &[String]) -> Did {
        if self.normal {
            let cells = Cells::of(area, names);
            let cursor = cells.cursor(area);
            jump(area, &cells, cells.clamped(cursor));
            self.remember(Some(before.clone()), area);
        } else {
            self.again.insertion_begins(State::of(area));
            self.before = Some(before.clone());
        }
        if before.text == area.lines().join("\n") { Did::Moved } else { Did::Changed }
    }

    fn operate(
        &mut self,
        operator: char,
        command: &Command,
        area: &mut TextArea<'static>,
        cells: &Cells,
        cursor: usize,
    ) {
        let key = match (operator, command.key) {
            // As in vi, cw does not take the space after the word.
            ('c', 'w') if !cells.is_blank(cursor) => 'e',
            (_, key) => key,
        };
        let span = if key == operator {
            cells.rows(cursor, command.count.unwrap_or(1))
        } else {
            let Some((to, motion)) = self.motion(cells, cursor, key, command) else { return };
            cells.span(cursor, to, motion, key)
        };
        match operator {
            'y' => {
                self.register = Register { text: cells.text(span), lines: span.lines };
                if !span.lines || key != 'y' {
                    jump(area, cells, span.from);
                }
            }
            'c' => self.change(area, cells, span),
            _ => self.cut(area, cells, span),
        }
    }

    /// Deletes `span` into the register.
    fn cut(&mut self, area: &mut TextArea<'static>, cells: &Cells, span: Span) {
        self.register = Register { text: cells.text(span), lines: span.lines };
        let (from, to) = cells.cut_of(span);
        delete(area, cells, from, to);
        if span.lines {
            area.move_cursor(CursorMove::Head);
        }
    }

    /// Deletes `span` into the register, without its last line end, and starts to insert.
    fn change(&mut self, area: &mut TextArea<'static>, cells: &Cells, span: Span) {
        self.register = Register { text: cells.text(span), lines: span.lines };
        let to = if span.lines { cells.line_end(span.last()) } else { span.to };
        delete(area, cells, span.from, to);
        self.normal = false;
    }

    fn put(&mut self, above: bool, count: usize, area: &mut TextArea<'static>, cells: &Cells, cursor: usize) {
        let text = self.register.text.repeat(count.min(MOST / self.register.text.len().max(1) + 1));
        if text.is_empty() {
            return;
        }
        if !self.register.lines {
            jump(area, cells, if above { cursor } else { cells.right(cursor, 1) });
            area.insert_str(text);
            area.move_cursor(CursorMove::Back);
        } else if above {
            jump(area, cells, cells.line_start(cursor));
            let DataCursor(row, _) = area.cursor();
            area.insert_str(text);
            jump_to(area, row, 0);
        } else {
            jump(area, cells, cells.line_end(cursor));
            let DataCursor(row, _) = area.cursor();
            area.insert_str(format!("\n{}", text.trim_end_matches('\n')));
            jump_to(area, row + 1, 0);
        }
    }

    fn insert(&mut self, key: char, area: &mut TextArea<'static>, cells: &Cells, cursor: usize) {
        let place = match key {
            'a' => cells.right(cursor, 1),
            'I' => cells.first_letter(cursor),
            'A' | 'o' => cells.line_end(cursor),
            'O' => cells.line_start(cursor),
            _ => cursor,
        };
        jump(area, cells, place);
        if matches!(key, 'o' | 'O') {
            area.insert_newline();
        }
        if key == 'O' {
            area.move_cursor(CursorMove::Back);
        }
        self.normal = false;
    }

    fn undo(&mut self, count: usize, area: &mut TextArea<'static>) -> Did {
        let mut did = Did::Moved;
        for _ in 0..count {
            let Some(state) = self.undo.pop() else { break };
            self.redo.push(State::of(area));
            state.restore(area);
            did = Did::Changed;
        }
        did
    }

    fn redo(&mut self, area: &mut TextArea<'static>) -> Did {
        self.typed.clear();
        let Some(state) = self.redo.pop() else { return Did::Moved };
        self.undo.push(State::of(area));
        state.restore(area);
        Did::Changed
    }
}

impl State {
    fn of(area: &TextArea<'_>) -> Self {
        let DataCursor(row, column) = area.cursor();
        Self { text: area.lines().join("\n"), cursor: (row, column) }
    }

    fn restore(&self, area: &mut TextArea<'static>) {
        area.clear();
        area.insert_str(&self.text);
        jump_to(area, self.cursor.0, self.cursor.1);
    }
}

enum Parsed {
    Unfinished,
    Wrong,
    Whole(Command),
}

/// Parses `[count][operator][count]key`.
fn parse(typed: &str) -> Parsed {
    let mut letters = typed.chars().peekable();
    let number = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        let mut count = None::<usize>;
        while let Some(digit) =
            letters.peek().and_then(|c| c.to_digit(10)).filter(|digit| *digit > 0 || count.is_some())
        {
            count = Some((count.unwrap_or(0) * 10 + digit as usize).min(MOST));
            letters.next();
        }
        count
    };
    let first = number(&mut letters);
    let operator = letters.next_if(|c| matches!(c, 'd' | 'c' | 'y'));
    let second = if operator.is_some() { number(&mut letters) } else { None };
    let count = match (first, second) {
        (None, None) => None,
        (first, second) => Some((first.unwrap_or(1) * second.unwrap_or(1)).min(MOST)),
    };
    let Some(key) = letters.next() else { return Parsed::Unfinished };
    let argument = letters.next();
    let whole = |key, argument| Parsed::Whole(Command { count, operator, key, argument });
    let known = match operator {
        Some(operator) => "hjklwbe0^$G;,".contains(key) || key == operator,
        None => "hjklwbe0^$G;,xXDsCpPiaIAoOu~.v".contains(key),
    };
    match (key, argument) {
        ('g', Some('g')) => whole('g', 'g'),
        ('r', Some(letter)) if operator.is_none() => whole('r', letter),
        ('r', None) if operator.is_none() => Parsed::Unfinished,
        ('f' | 'F' | 't' | 'T', Some(letter)) => whole(key, letter),
        ('f' | 'F' | 't' | 'T' | 'g', None) => Parsed::Unfinished,
        ('S', None) if operator.is_none() => {
            Parsed::Whole(Command { count, operator: Some('c'), key: 'c', argument: ' ' })
        }
        ('Y', None) if operator.is_none() => {
            Parsed::Whole(Command { count, operator: Some('y'), key: 'y', argument: ' ' })
        }
        (key, None) if known => whole(key, ' '),
        _ => Parsed::Wrong,
    }
}

fn jump(area: &mut TextArea<'static>, cells: &Cells, to: usize) {
    let (row, column) = cells.place(to);
    jump_to(area, row, column);
}

fn jump_to(area: &mut TextArea<'static>, row: usize, column: usize) {
    let small = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    area.move_cursor(CursorMove::Jump(small(row), small(column)));
}

fn delete(area: &mut TextArea<'static>, cells: &Cells, from: usize, to: usize) {
    jump(area, cells, from);
    let yank = area.yank_text();
    area.delete_str(cells.chars(from, to));
    area.set_yank_text(yank);
}

fn replace(area: &mut TextArea<'static>, cells: &Cells, cursor: usize, count: usize, letter: char) {
    // As in vi, nothing happens if the line has fewer letters.
    if cursor + count > cells.line_end(cursor) || letter.is_control() {
        return;
    }
    delete(area, cells, cursor, cursor + count);
    area.insert_str(letter.to_string().repeat(count));
    area.move_cursor(CursorMove::Back);
}

fn swap_case(area: &mut TextArea<'static>, cells: &Cells, cursor: usize, count: usize) {
    let to = cells.right(cursor, count);
    let swapped = cells.text(Span::chars(cursor, to)).chars().flat_map(swapped).collect::<String>();
    delete(area, cells, cursor, to);
    area.insert_str(swapped);
}

fn swapped(c: char) -> Vec<char> {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
