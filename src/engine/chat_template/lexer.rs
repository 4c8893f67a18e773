//! Splits a template's source into text and tags with tokens, exactly as minijinja's lexer does (3.1,
//! `compiler/lexer.rs`, default delimiters). Input that minijinja rejects is rejected too: the two must never disagree.

use super::TemplateError;

/// Token kinds, only as fine as the instrumentation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or a keyword.
    Name,
    /// A string, quotes included.
    Literal,
    Number,
    /// An operator, a bracket, a comma, …
    Sign,
}

/// A token of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'s> {
    pub kind: Kind,
    pub text: &'s str,
    /// Byte offset in the source.
    pub at: usize,
}

impl Token<'_> {
    /// Whether this token is the operator or bracket `sign`.
    pub fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    /// Byte offset of the end in the source.
    pub fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

/// `{{ … }}` or `{% … %}`.
#[derive(Debug)]
pub struct Tag<'s> {
    /// Byte offset of the opening mark in the source.
    pub start: usize,
    /// Byte offset of the closing mark, `-` or `+` included.
    pub close: usize,
    /// Byte offset after the closing mark.
    pub end: usize,
    /// `{% … %}` instead of `{{ … }}`.
    pub statement: bool,
    pub tokens: Vec<Token<'s>>,
}

#[derive(Debug)]
pub enum Piece<'s> {
    /// Text, comments and raw blocks, verbatim.
    Text(&'s str),
    Tag(Tag<'s>),
}

/// Splits `source`; the pieces concatenate to `source`.
pub fn pieces(source: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut lexer = Lexer { source, at: 0, balance: 0 };
    let mut pieces = Vec::new();
    while lexer.at < source.len() {
        let start = lexer.find_mark().unwrap_or(source.len());
        if start > lexer.at {
            pieces.push(Piece::Text(&source[lexer.at..start]));
        }
        lexer.at = start;
        if start < source.len() {
            pieces.push(lexer.marked()?);
        }
    }
    Ok(pieces)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// Number of open brackets; a tag ends only at 0. As in minijinja, not reset between tags.
    balance: isize,
}

fn problem(what: &str) -> TemplateError {
    TemplateError(format!("the chat template is not valid: {what}"))
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn find_mark(&self) -> Option<usize> {
        let mut from = self.at;
        while let Some(found) = self.source[from..].find('{') {
            if matches!(self.source.as_bytes().get(from + found + 1), Some(b'{' | b'%' | b'#')) {
                return Some(from + found);
            }
            from += found + 1;
        }
        None
    }

    /// Reads the comment, raw block or tag that starts at `self.at`.
    fn marked(&mut self) -> Result<Piece<'s>, TemplateError> {
        let (start, rest) = (self.at, self.rest());
        let skip = 2 + usize::from(matches!(rest.as_bytes().get(2), Some(b'-' | b'+')));
        if rest.starts_with("{#") {
            let end = rest[skip..].find("#}").ok_or_else(|| problem("unexpected end of comment"))?;
            self.at += skip + end + 2;
            return Ok(Piece::Text(&self.source[start..self.at]));
        }
        let statement = rest.starts_with("{%");
        if let Some(raw) = statement.then(|| basic_tag(&rest[skip..], "raw", false)).flatten() {
            self.at += skip + raw;
            self.skip_raw()?;
            return Ok(Piece::Text(&self.source[start..self.at]));
        }
        self.at += skip;
        self.tag(start, statement).map(Piece::Tag)
    }

    fn skip_raw(&mut self) -> Result<(), TemplateError> {
        while let Some(found) = self.rest().find("{%") {
            self.at += found + 2;
            if let Some(end) = basic_tag(self.rest(), "endraw", true) {
                self.at += end;
                return Ok(());
            }
        }
        Err(problem("unexpected end of raw block"))
    }

    fn tag(&mut self, start: usize, statement: bool) -> Result<Tag<'s>, TemplateError> {
        let mut tokens = Vec::new();
        loop {
            let blank = self.rest().bytes().take_while(u8::is_ascii_whitespace).count();
            self.at += blank;
            let (close, rest) = (self.at, self.rest());
            let Some(&first) = rest.as_bytes().first() else { return Err(problem("unexpected end of input")) };
            if self.balance == 0 {
                let marked = usize::from(matches!(first, b'-' | b'+'));
                if rest[marked..].starts_with(if statement { "%}" } else { "}}" }) {
                    self.at += marked + 2;
                    return Ok(Tag { start, close, end: self.at, statement, tokens });
                }
            }
            let (kind, length) = self.token(first)?;
            tokens.push(Token { kind, text: &rest[..length], at: close });
            self.at += length;
        }
    }

    fn token(&mut self, first: u8) -> Result<(Kind, usize), TemplateError> {
        let rest = self.rest();
        if ["//", "**", "==", "!=", ">=", "<="].iter().any(|sign| rest.starts_with(sign)) {
            return Ok((Kind::Sign, 2));
        }
        match first {
            b'(' | b'[' | b'{' => self.balance += 1,
            b')' | b']' | b'}' => self.balance -= 1,
            b'\'' | b'"' => return Ok((Kind::Literal, string(rest, first)?)),
            b'0'..=b'9' => return Ok((Kind::Number, number(rest, self.source[..self.at].ends_with('.')))),
            _ if first.is_ascii_alphabetic() || first == b'_' => return Ok((Kind::Name, name(rest))),
            _ if b"+-*/%.,:~|=><".contains(&first) => {}
            _ => return Err(problem("unexpected character")),
        }
        Ok((Kind::Sign, 1))
    }
}

/// Length of `name %}` with the white space and marks around it; `None` if `rest` does not start with it.
fn basic_tag(rest: &str, name: &str, opens_with_mark: bool) -> Option<usize> {
    let blank = |text: &'_ str| text.bytes().take_while(u8::is_ascii_whitespace).count();
    let mut at = usize::from(opens_with_mark && rest.starts_with(['-', '+']));
    at += blank(&rest[at..]);
    at += rest[at..].starts_with(name).then_some(name.len())?;
    at += blank(&rest[at..]);
    at += usize::from(rest[at..].starts_with(['-', '+']));
    rest[at..].starts_with("%}").then_some(at + 2)
}

fn name(rest: &str) -> usize {
    rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

fn string(rest: &str, quote: u8) -> Result<usize, TemplateError> {
    let mut escaped = false;
    for (index, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return Ok(index + 1),
            _ => {}
        }
    }
    Err(problem("unexpected end of string"))
}

/// Length of a number; `indexes`: it follows a dot, so that it has no fraction (`a.1.0`).
fn number(rest: &str, indexes: bool) -> usize {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Radix,
        Integer,
        Fraction,
        Exponent,
        Signed,
    }
    let bytes = rest.as_bytes();
    let radix = match bytes.get(..2) {
        Some(b"0b" | b"0B" | b"0o" | b"0O") => Some(false),
        Some(b"0x" | b"0X") => Some(true),
        _ => None,
    };
    let mut state = if radix.is_some() { State::Radix } else { State::Integer };
    let mut at = if radix.is_some() { 2 } else { 0 };
    while let Some(&byte) = bytes.get(at) {
        state = match (byte, state) {
            (b'.', State::Integer) if !indexes => {
                let exponent = matches!(bytes.get(at + 1), Some(b'e' | b'E'))
                    && matches!(bytes.get(at + 2), Some(b'+' | b'-' | b'0'..=b'9'));
                let names = bytes.get(at + 1).is_some_and(|next| next.is_ascii_alphabetic() || *next == b'_');
                if names && !exponent {
                    break;
                }
                State::Fraction
            }
            (b'e' | b'E', State::Integer | State::Fraction) => State::Exponent,
            (b'+' | b'-' | b'0'..=b'9', State::Exponent) => State::Signed,
            (b'a'..=b'f' | b'A'..=b'F', State::Radix) if radix == Some(true) => state,
            (b'0'..=b'9' | b'_', state) => state,
            _ => break,
        };
        at += 1;
    }
    at
}

/// The statement's keyword; empty for `{{ … }}`.
pub(super) fn keyword<'s>(tag: &Tag<'s>) -> &'s str {
    tag.tokens.first().filter(|token| tag.statement && token.kind == Kind::Name).map_or("", |token| token.text)
}

/// Token index of the `=` outside of brackets.
pub(super) fn assignment(tag: &Tag<'_>) -> Option<usize> {
    let mut depth = 0;
    tag.tokens.iter().position(|token| {
        depth += bracket(token);
        depth == 0 && token.is("=")
    })
}

/// 1 for an opening bracket, -1 for a closing one.
pub(super) fn bracket(token: &Token<'_>) -> isize {
    match (token.kind, token.text) {
        (Kind::Sign, "(" | "[" | "{") => 1,
        (Kind::Sign, ")" | "]" | "}") => -1,
        _ => 0,
    }
}

pub(super) fn not_valid(what: &str) -> TemplateError {
    TemplateError(format!("the chat template is not valid: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn tokens(source: &str) -> Vec<Vec<&str>> {
        let tag = |piece: Piece<'_>| match piece {
            Piece::Tag(tag) => Some(tag.tokens.iter().map(|token| token.text.to_owned()).collect::<Vec<_>>()),
            Piece::Text(_) => None,
        };
        let all: Vec<_> = pieces(source).unwrap().into_iter().filter_map(tag).collect();
        all.into_iter().map(|tag| tag.into_iter().map(|text| &*text.leak()).collect()).collect()
    }

    #[test]
    fn tags_and_tokens_are_split_as_in_minijinja() {
        assert_eq!(tokens("a {{- x -}} b {%+ if y %}{{ z }}"), [vec!["x"], vec!["if", "y"], vec!["z"]]);
        assert_eq!(tokens(r#"{{ "}}" ~ '\'%}' }}{{ {'a': {1: 2}} }}"#).len(), 2);
        assert_eq!(tokens("{# {{ x #}{% raw %}{{ y }}{%- endraw -%}{{ z }}"), [["z"]]);
        assert_eq!(tokens("{{ 1.5e-3 }}{{ 1.e }}{{ a.1.0 }}{{ 0x1f+1 }}{{ 1_0 }}")[0], ["1.5e-3"]);
        assert_eq!(tokens("{{ a//b**c!=d }}"), [["a", "//", "b", "**", "c", "!=", "d"]]);
    }

    #[test]
    fn pieces_concatenate_to_the_source() {
        let source = "x{# c #}{{ a['}}'] }}{% raw %}{{{% endraw %}{% set b = 1 -%}\n{y}";
        let text: String = pieces(source)
            .unwrap()
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => *text,
                Piece::Tag(tag) => &source[tag.start..tag.end],
            })
            .collect();
        assert_eq!(text, source);
        for source in ["{{ a", "{% a", "{# a", "{% raw %}", "{{ 'a }}", "{{ ä }}", "{{ ) }}", "{{ ( }}", "{{ § }}"] {
            assert!(pieces(source).is_err(), "{source}");
        }
    }
}
