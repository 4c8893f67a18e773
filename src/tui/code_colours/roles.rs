//! The role of a piece of code, from the scopes that a grammar gives it.

use std::sync::LazyLock;

use ratatui::style::Style;
use syntect::parsing::Scope;

use crate::tui::theme::Theme;

/// A kind of code that the themes give a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    Keyword,
    String,
    Comment,
    Number,
    Type,
    Function,
    Added,
    Removed,
}

/// Scopes and their roles; the first that matches the innermost scope counts.
const ROLES: &[(&str, Role)] = &[
    ("comment", Role::Comment),
    ("punctuation.definition.comment", Role::Comment),
    ("markup.inserted", Role::Added),
    ("markup.deleted", Role::Removed),
    ("meta.diff.header", Role::Keyword),
    ("meta.diff.range", Role::Function),
    ("meta.diff.index", Role::Keyword),
    ("constant.numeric", Role::Number),
    ("constant.language", Role::Keyword),
    ("constant.character", Role::Number),
    ("constant.other.color", Role::Number),
    ("support.constant", Role::Number),
    ("storage", Role::Keyword),
    ("keyword", Role::Keyword),
    ("variable.language", Role::Keyword),
    ("variable.function", Role::Function),
    ("entity.name.function", Role::Function),
    ("entity.name.macro", Role::Function),
    ("entity.name.section", Role::Function),
    ("entity.name.label", Role::Function),
    ("support.function", Role::Function),
    ("support.macro", Role::Function),
    ("entity.name.tag", Role::Keyword),
    ("entity.other.attribute-name", Role::Type),
    ("entity.other.inherited-class", Role::Type),
    ("entity.name", Role::Type),
    ("support.type", Role::Type),
    ("support.class", Role::Type),
    ("markup.heading", Role::Keyword),
    ("markup.raw", Role::String),
    ("string", Role::String),
    // Code inside a string, as in `f"{x}"`.
    ("meta.interpolation", Role::Plain),
    ("source", Role::Plain),
];

static SCOPES: LazyLock<Vec<(Scope, Role)>> = LazyLock::new(|| {
    ROLES.iter().filter_map(|(name, role)| Scope::new(name).ok().map(|scope| (scope, *role))).collect()
});

impl Role {
    /// The role of `text` in these scopes, outermost first.
    pub(super) fn of(scopes: &[Scope], text: &str) -> Self {
        let role = |scope: &Scope| SCOPES.iter().find(|(known, _)| known.is_prefix_of(*scope)).map(|(_, role)| *role);
        match scopes.iter().rev().find_map(role) {
            // Operators are keywords only if they are words.
            Some(Self::Keyword) if !text.contains(char::is_alphabetic) && !is_marked(scopes) => Self::Plain,
            Some(role) => role,
            None => Self::Plain,
        }
    }

    pub fn style(self, theme: &Theme) -> Style {
        match self {
            Self::Plain => theme.code,
            Self::Keyword => theme.keyword,
            Self::String => theme.string,
            Self::Comment => theme.comment,
            Self::Number => theme.number,
            Self::Type => theme.r#type,
            Self::Function => theme.function,
            Self::Added => theme.added,
            Self::Removed => theme.removed,
        }
    }
}

/// Whether punctuation keeps the role of its line: the head of a difference, the mark of a heading.
fn is_marked(scopes: &[Scope]) -> bool {
    let begins = |scope: &Scope, name: &str| scope.build_string().starts_with(name);
    scopes.iter().any(|scope| begins(scope, "meta.diff") || begins(scope, "markup.heading"))
}
