//! A list to choose from, with a query line that filters it. `pickers` makes the items of each kind and performs what is
//! chosen; `view::picker` draws the list.

use std::ops::Range;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::fuzzy;
use crate::chat::View;

/// Longest query or input, in characters.
const LONGEST_INPUT: usize = 400;

/// An entry of a list. All texts are sanitised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// What the list's kind knows it by.
    pub id: String,
    /// The text that is matched first, and whose hits are marked.
    pub title: String,
    /// A description after the title; matched, too.
    pub about: String,
    /// Right-aligned figures, such as an age or a size.
    pub detail: String,
    /// The heading above the first item of a group; shown if nothing is typed.
    pub section: String,
    /// A passage from the text, on a line of its own.
    pub excerpt: Option<Excerpt>,
}

/// A passage with the byte ranges that match the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    pub text: String,
    pub hits: Vec<Range<usize>>,
}

/// Text beside the list about the selected item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The item's id.
    pub id: String,
    /// Sanitised text; `**` and other marks are not interpreted.
    pub text: String,
}

/// A line of input that replaces the query line, for example a new title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What is asked for.
    pub label: String,
    /// The item that it is about.
    pub id: String,
    text: String,
}

/// Who filters the items by the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// The list itself, by fuzzy matching.
    #[default]
    Fuzzy,
    /// The list's kind: it receives [`Picked::Query`] and calls [`Picker::set_items`] with the items in their order.
    Owner,
}

/// What a key did.
#[derive(Clone, Debug, PartialEq)]
pub enum Picked {
    /// Nothing that concerns the list's kind.
    Nothing,
    /// Close without choosing.
    Closed,
    /// Enter on this item.
    Chosen(Item),
    /// Enter while nothing matches this query.
    Unmatched(String),
    /// Another item is selected.
    Moved(Item),
    /// The query changed; only with [`Filter::Owner`].
    Query(String),
    /// A key that the list does not use, with the selected item.
    Key(KeyEvent, Option<Item>),
    /// The answer to an [`Ask`] about the item with this id.
    Answered {
        /// The item's id.
        id: String,
        /// The text, trimmed.
        text: String,
    },
}

/// An open list.
#[derive(Clone, Debug)]
pub struct Picker {
    /// Its kind.
    pub view: View,
    /// Title of the frame.
    pub title: String,
    /// Keys, for the lower edge of the frame.
    pub keys: &'static str,
    /// Shown instead of the list if it has no items.
    pub empty: String,
    /// Text beside the list.
    pub preview: Option<Preview>,
    /// The list is still being read.
    pub pending: bool,
    filter: Filter,
    items: Vec<Item>,
    names: Vec<String>,
    shown: Vec<usize>,
    selected: usize,
    query: String,
    ask: Option<Ask>,
}

impl Picker {
    /// An open list without items.
    pub fn new(view: View, title: impl Into<String>, keys: &'static str) -> Self {
        Self {
            view,
            title: title.into(),
            keys,
            empty: "nothing here yet".into(),
            preview: None,
            pending: false,
            filter: Filter::Fuzzy,
            items: Vec::new(),
            names: Vec::new(),
            shown: Vec::new(),
            selected: 0,
            query: String::new(),
            ask: None,
        }
    }

    /// With these items.
    pub fn with_items(mut self, items: Vec<Item>) -> Self {
        self.set_items(items);
        self
    }

    /// With a query.
    pub fn with_query(mut self, query: impl Into<String>) -> Self {
        self.query = query.into();
        if !self.query.is_empty() {
            self.refilter();
        }
        self
    }

    /// Filtered by the list's kind.
    pub fn filtered_by_owner(mut self) -> Self {
        self.filter = Filter::Owner;
        self
    }

    /// With the item of this id selected, if it is shown.
    pub fn at(mut self, id: &str) -> Self {
        self.select(id);
        self
    }

    /// Replaces the items. The selected item stays selected if it is still there.
    pub fn set_items(&mut self, items: Vec<Item>) {
        let selected = self.selected().map(|item| item.id.clone());
        self.names = items.iter().map(|item| format!("{} {}", item.title, item.about)).collect();
        self.items = items;
        self.pending = false;
        let place = self.selected;
        self.refilter();
        self.selected = place.min(self.shown.len().saturating_sub(1));
        if let Some(id) = selected {
            self.select(&id);
        }
    }

    /// Selects the item of this id, if it is shown.
    pub fn select(&mut self, id: &str) {
        if let Some(place) = self.shown.iter().position(|index| self.items[*index].id == id) {
            self.selected = place;
        }
    }

    fn refilter(&mut self) {
        self.selected = 0;
        self.shown = match self.filter {
            Filter::Fuzzy => self.fuzzy(),
            Filter::Owner => (0..self.items.len()).collect(),
        };
    }

    /// Items whose title matches, then those with the words in title and description.
    fn fuzzy(&self) -> Vec<usize> {
        let titles: Vec<_> = self.items.iter().map(|item| item.title.as_str()).collect();
        let mut found = fuzzy::matches(&self.query, &titles);
        let in_titles: std::collections::HashSet<usize> = found.iter().copied().collect();
        found
            .extend(fuzzy::containing(&self.query, &self.names).into_iter().filter(|index| !in_titles.contains(index)));
        found
    }

    /// The items that match, in display order.
    pub fn shown(&self) -> impl Iterator<Item = &Item> {
        self.shown.iter().filter_map(|index| self.items.get(*index))
    }

    /// Number of all items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Index in `shown` of the selected item.
    pub fn selected_place(&self) -> usize {
        self.selected
    }

    /// Selects the item at this place of the shown ones.
    pub fn select_place(&mut self, place: usize) {
        self.selected = place.min(self.shown.len().saturating_sub(1));
    }

    pub fn selected(&self) -> Option<&Item> {
        self.items.get(*self.shown.get(self.selected)?)
    }

    pub fn query(&self) -> &str {
        &self.query
    }

    /// The open input, with its text.
    pub fn asked(&self) -> Option<(&Ask, &str)> {
        self.ask.as_ref().map(|ask| (ask, ask.text.as_str()))
    }

    /// Asks for a line of text about the item `id`; `text` is its beginning.
    pub fn ask(&mut self, label: impl Into<String>, id: impl Into<String>, text: impl Into<String>) {
        self.ask = Some(Ask { label: label.into(), id: id.into(), text: text.into() });
    }

    /// Whether groups have headings: only in the list's own order.
    pub fn has_sections(&self) -> bool {
        self.query.trim().is_empty()
    }

    /// Handles a paste: its first line goes to the query or the input.
    pub fn paste(&mut self, text: &str) -> Picked {
        let line = text.lines().next().unwrap_or_default();
        self.change(|input| input.extend(line.chars().filter(|c| !c.is_control())))
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent) -> Picked {
        if key.kind == KeyEventKind::Release {
            return Picked::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc => self.escape(),
            KeyCode::Char('c' | 'g') if control => self.escape(),
            KeyCode::Enter if !alt && !control => self.enter(),
            _ if self.ask.is_some() => self.edit(key, control),
            KeyCode::Up => self.go(-1),
            KeyCode::Down => self.go(1),
            KeyCode::Char('p') if control => self.go(-1),
            KeyCode::Char('n') if control => self.go(1),
            KeyCode::PageUp => self.go(-10),
            KeyCode::PageDown => self.go(10),
            KeyCode::Home if control || self.query.is_empty() => self.go(isize::MIN),
            KeyCode::End if control || self.query.is_empty() => self.go(isize::MAX),
            KeyCode::Char(_) | KeyCode::Backspace if !alt => self.edit(key, control),
            _ => Picked::Key(key, self.selected().cloned()),
        }
    }

    /// Esc closes the input, or else the list.
    fn escape(&mut self) -> Picked {
        if self.ask.take().is_some() { Picked::Nothing } else { Picked::Closed }
    }

    fn enter(&mut self) -> Picked {
        if let Some(ask) = self.ask.take() {
            return Picked::Answered { id: ask.id, text: ask.text.trim().to_owned() };
        }
        match self.selected() {
            Some(item) => Picked::Chosen(item.clone()),
            None => Picked::Unmatched(self.query.clone()),
        }
    }

    fn edit(&mut self, key: KeyEvent, control: bool) -> Picked {
        match key.code {
            KeyCode::Char('u') if control => self.change(String::clear),
            KeyCode::Char('h') if control => self.change(delete_letter),
            KeyCode::Char('w') if control => self.change(delete_word),
            KeyCode::Backspace if control => self.change(delete_word),
            KeyCode::Backspace => self.change(delete_letter),
            KeyCode::Char(c) if !control => self.change(|input| input.push(c)),
            _ if self.ask.is_some() => Picked::Nothing,
            _ => Picked::Key(key, self.selected().cloned()),
        }
    }

    /// Changes the input or the query.
    fn change(&mut self, f: impl FnOnce(&mut String)) -> Picked {
        let input = self.ask.as_mut().map_or(&mut self.query, |ask| &mut ask.text);
        let before = input.clone();
        f(input);
        if let Some((end, _)) = input.char_indices().nth(LONGEST_INPUT) {
            input.truncate(end);
        }
        if self.ask.is_some() || before == self.query {
            return Picked::Nothing;
        }
        if self.filter == Filter::Owner {
            self.selected = 0;
            return Picked::Query(self.query.clone());
        }
        self.refilter();
        self.selected().cloned().map_or(Picked::Nothing, Picked::Moved)
    }

    /// Moves the selection; one step wraps around at the ends.
    fn go(&mut self, by: isize) -> Picked {
        let count = self.shown.len();
        if count == 0 {
            return Picked::Nothing;
        }
        let last = count - 1;
        self.selected = match by {
            -1 if self.selected == 0 => last,
            1 if self.selected == last => 0,
            by => self.selected.saturating_add_signed(by).min(last),
        };
        self.selected().cloned().map_or(Picked::Nothing, Picked::Moved)
    }
}

fn delete_letter(text: &mut String) {
    use unicode_segmentation::UnicodeSegmentation;
    let start = text.grapheme_indices(true).next_back().map_or(0, |(start, _)| start);
    text.truncate(start);
}

fn delete_word(text: &mut String) {
    let trimmed = text.trim_end();
    let start = trimmed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    text.truncate(start);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn picker() -> Picker {
        let item = |id: &str, title: &str| Item { id: id.into(), title: title.into(), ..Item::default() };
        let items = vec![item("1", "Rust lifetimes"), item("2", "Sky"), item("3", "Rust macros")];
        Picker::new(View::Conversations, "conversations", "").with_items(items)
    }

    fn press(picker: &mut Picker, code: KeyCode) -> Picked {
        picker.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn ids(picker: &Picker) -> Vec<&str> {
        picker.shown().map(|item| item.id.as_str()).collect()
    }

    #[test]
    fn typing_filters_and_enter_chooses() {
        let mut picker = picker();
        for c in "rust".chars() {
            press(&mut picker, KeyCode::Char(c));
        }
        assert_eq!(ids(&picker), ["1", "3"]);
        press(&mut picker, KeyCode::Down);
        let Picked::Chosen(item) = press(&mut picker, KeyCode::Enter) else { panic!() };
        assert_eq!(item.id, "3");
    }

    #[test]
    fn escape_closes_also_with_a_query() {
        let mut picker = picker();
        press(&mut picker, KeyCode::Char('z'));
        assert_eq!(press(&mut picker, KeyCode::Enter), Picked::Unmatched("z".into()));
        assert_eq!(press(&mut picker, KeyCode::Esc), Picked::Closed);
    }

    #[test]
    fn selection_wraps_and_stays_on_its_item_when_items_change() {
        let mut picker = picker();
        press(&mut picker, KeyCode::Up);
        assert_eq!(picker.selected().unwrap().id, "3");
        let items: Vec<_> = picker.shown().skip(1).cloned().collect();
        picker.set_items(items);
        assert_eq!(picker.selected().unwrap().id, "3");
        press(&mut picker, KeyCode::Down);
        assert_eq!(picker.selected().unwrap().id, "2");
    }

    #[test]
    fn an_input_takes_the_keys_until_it_is_answered() {
        let mut picker = picker();
        picker.ask("new title", "1", "Rust");
        press(&mut picker, KeyCode::Char('!'));
        press(&mut picker, KeyCode::Down);
        assert_eq!(press(&mut picker, KeyCode::Enter), Picked::Answered { id: "1".into(), text: "Rust!".into() });
        picker.ask("new title", "1", "x");
        assert_eq!(press(&mut picker, KeyCode::Esc), Picked::Nothing);
        assert_eq!(picker.query(), "");
    }

    #[test]
    fn the_owner_filters_if_it_wants_to() {
        let mut picker = picker().filtered_by_owner();
        assert_eq!(press(&mut picker, KeyCode::Char('x')), Picked::Query("x".into()));
        assert_eq!(ids(&picker).len(), 3);
    }
}
