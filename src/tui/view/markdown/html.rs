//! Inline HTML tags that models write for emphasis. Other tags are shown as written.

use ratatui::style::{Modifier, Style};

use crate::tui::theme::Theme;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bold,
    Italic,
    Underlined,
    Struck,
    Code,
    /// Without a style of its own.
    Plain,
}

const ELEMENTS: &[(&str, Kind)] = &[
    ("b", Kind::Bold),
    ("strong", Kind::Bold),
    ("mark", Kind::Bold),
    ("i", Kind::Italic),
    ("em", Kind::Italic),
    ("cite", Kind::Italic),
    ("var", Kind::Italic),
    ("u", Kind::Underlined),
    ("ins", Kind::Underlined),
    ("s", Kind::Struck),
    ("del", Kind::Struck),
    ("strike", Kind::Struck),
    ("code", Kind::Code),
    ("kbd", Kind::Code),
    ("samp", Kind::Code),
    ("tt", Kind::Code),
    ("span", Kind::Plain),
    ("font", Kind::Plain),
    ("small", Kind::Plain),
    ("big", Kind::Plain),
    ("abbr", Kind::Plain),
    ("center", Kind::Plain),
];

impl Element {
    /// The element of a tag, and whether the tag opens it.
    pub fn of(tag: &str) -> Option<(Self, bool)> {
        let inner = tag.strip_prefix('<')?.strip_suffix('>')?;
        let (inner, opens) = inner.strip_prefix('/').map_or((inner, true), |inner| (inner, false));
        let name = inner.split_whitespace().next()?.to_ascii_lowercase();
        let (name, kind) = ELEMENTS.iter().find(|(known, _)| *known == name)?;
        Some((Self { name, kind: *kind }, opens))
    }

    /// Whether `rest`, the text after the opening tag, has the closing one in the same block.
    pub fn is_closed_in(self, rest: &str) -> bool {
        let block = &rest[..rest.find("\n\n").unwrap_or(rest.len())];
        let closing = format!("</{}>", self.name);
        block.match_indices("</").any(|(at, _)| {
            block.as_bytes().get(at..at + closing.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(closing.as_bytes()))
        })
    }

    pub fn style(self, theme: &Theme) -> Style {
        let style = Style::new();
        match self.kind {
            Kind::Bold => style.add_modifier(Modifier::BOLD),
            Kind::Italic => style.add_modifier(Modifier::ITALIC),
            Kind::Underlined => style.add_modifier(Modifier::UNDERLINED),
            Kind::Struck => style.add_modifier(Modifier::CROSSED_OUT),
            Kind::Code => theme.code,
            Kind::Plain => style,
        }
    }
}
