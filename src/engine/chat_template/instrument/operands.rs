//! Finds the operands of a tag's operators, filters and slices, and makes the edits that wrap them in calls.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::engine::chat_template::TemplateError;
use crate::engine::chat_template::budget::{GROWN, REMAINDER, RESERVED, SLICE, TERM, TEXT, TIMES};
use crate::engine::chat_template::lexer::{Kind, Tag, Token, assignment, bracket, keyword, not_valid};

/// Names that end an operand.
const KEYWORDS: [&str; 14] = [
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "recursive",
    "as",
    "import",
    "ignore",
    "missing",
    "without",
    "context",
];

/// A replacement of the source bytes `from..to`.
pub struct Edit {
    pub from: usize,
    pub to: usize,
    pub text: String,
    /// For the start of a call: the end of its operand, for sorting; `None` for an end or a separator.
    begins: Option<usize>,
}

/// Finds the operands of a tag's operators.
pub struct Operands<'t, 's> {
    tokens: &'t [Token<'s>],
    /// For each bracket the token index of its partner; 0 for other tokens.
    partners: Vec<usize>,
    /// Index of the first token of the expression: 1 after a statement's keyword, else 0.
    first: usize,
    /// Whether filters outside of brackets belong to the statement (`filter`, block `set`).
    filters_block: bool,
}

impl<'t, 's> Operands<'t, 's> {
    /// Rejects unmatched brackets, reserved names, and statements that load another template.
    pub fn new(tag: &'t Tag<'s>) -> Result<Self, TemplateError> {
        let tokens = &tag.tokens[..];
        let mut partners = vec![0; tokens.len()];
        let mut open = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            if token.kind == Kind::Name && token.text.starts_with(RESERVED) {
                return Err(TemplateError(format!("the chat template uses the reserved name {}", token.text)));
            }
            match bracket(token) {
                1 => open.push(index),
                -1 => {
                    let partner = open.pop().ok_or_else(|| not_valid("unmatched bracket"))?;
                    (partners[partner], partners[index]) = (index, partner);
                }
                _ => {}
            }
        }
        let keyword = keyword(tag);
        if ["import", "from", "include", "extends"].contains(&keyword) {
            // There is no other template to load, and minijinja 3.0.5 panics on some of these.
            return Err(TemplateError(format!("the chat template loads another template ({keyword})")));
        }
        let filters_block = keyword == "filter" || (keyword == "set" && assignment(tag).is_none());
        Ok(Self { tokens, partners, first: usize::from(tag.statement), filters_block })
    }

    /// All edits, sorted by position.
    pub fn edits(&self) -> Result<Vec<Edit>, TemplateError> {
        let mut edits = Vec::new();
        let mut seen = HashSet::new();
        let mut depth = 0;
        for (index, token) in self.tokens.iter().enumerate().skip(self.first) {
            depth += bracket(token);
            if self.compares(index)
                && let Some(operand) = self.right(index + 1)
                && !self.is_constant(operand, TERM)
                && seen.insert((TERM, operand))
            {
                self.wrap(TERM, operand, &mut edits);
            }
            if token.kind != Kind::Sign {
                continue;
            }
            match token.text {
                "*" | "%" if self.ends_operand(index.wrapping_sub(1)) => self.product(index, &mut edits)?,
                "+" | "~" if self.ends_operand(index.wrapping_sub(1)) => {
                    let name = if token.text == "+" { TERM } else { TEXT };
                    let left = self.left(index - 1, false).map(|start| (start, index - 1));
                    for operand in [left, self.right(index + 1)].into_iter().flatten() {
                        if !self.is_constant(operand, name) && seen.insert((name, operand)) {
                            self.wrap(name, operand, &mut edits);
                        }
                    }
                }
                "|" if !(self.filters_block && depth == 0) => {
                    let end = self.filter_end(index);
                    let last = self.tokens.get(end + 1).is_none_or(|next| !next.is("|"));
                    if let Some(start) = self.left(index.wrapping_sub(1), true).filter(|_| last && end > index) {
                        self.wrap(GROWN, (start, end), &mut edits);
                    }
                }
                "]" => self.slice(index, &mut edits),
                _ => {}
            }
        }
        // At equal positions ends come before starts, and longer calls start first, since they enclose the others.
        edits.sort_by_key(|edit| (edit.from, edit.begins.map(Reverse)));
        Ok(edits)
    }

    /// Whether the token at `index` is a comparison, which walks lists item by item. The `in` of a loop and the test
    /// `is in` are not.
    fn compares(&self, index: usize) -> bool {
        let token = &self.tokens[index];
        let word = |at: usize, text| self.tokens[at].kind == Kind::Name && self.tokens[at].text == text;
        match token.kind {
            Kind::Sign => matches!(token.text, "==" | "!=" | "<" | ">" | "<=" | ">="),
            Kind::Name if token.text == "in" && index > self.first => {
                let loops = self.first == 1 && word(0, "for") && !(1..index).any(|at| word(at, "in"));
                let tests = word(index - 1, "is") || (index > 1 && word(index - 1, "not") && word(index - 2, "is"));
                !loops && !tests
            }
            _ => false,
        }
    }

    /// Whether the operand is a literal that needs no call of `name`: its size is bounded, its text unchanged.
    fn is_constant(&self, (start, end): (usize, usize), name: &str) -> bool {
        let token = &self.tokens[start];
        start == end
            && match token.kind {
                Kind::Literal => true,
                Kind::Number => name != TEXT || token.text.bytes().all(|byte| byte.is_ascii_digit()),
                _ => false,
            }
    }

    /// Turns `left * right` and `left % right` into calls: minijinja's product of a list is a view (see
    /// `budget::times`), and its remainder takes only numbers. The left side is the whole chain of such operators.
    fn product(&self, index: usize, edits: &mut Vec<Edit>) -> Result<(), TemplateError> {
        let is_product = |at: usize| ["*", "/", "//", "%", "**"].iter().any(|sign| self.tokens[at].is(sign));
        let name = if self.tokens[index].is("*") { TIMES } else { REMAINDER };
        let tested = || not_valid("it uses the result of a test in arithmetic");
        let mut start = self.left(index - 1, true).ok_or_else(tested)?;
        while start > self.first + 1 && is_product(start - 1) && self.ends_operand(start - 2) {
            start = self.left(start - 2, true).ok_or_else(tested)?;
        }
        let Some((_, mut end)) = self.right(index + 1) else { return Ok(()) };
        while let Some((_, last)) =
            self.tokens.get(end + 1).filter(|next| next.is("**")).and_then(|_| self.right(end + 2))
        {
            end = last;
        }
        if self.tokens.get(end + 1).is_some_and(|next| next.kind == Kind::Name && next.text == "is") {
            return Err(tested());
        }
        let (from, to, sign) = (self.tokens[start].at, self.tokens[end].end(), &self.tokens[index]);
        edits.push(Edit { from, to: from, begins: Some(to), text: format!("{}{name}(", self.space_before(start)) });
        edits.push(Edit { from: sign.at, to: sign.end(), begins: None, text: ",".into() });
        edits.push(Edit { from: to, to, begins: None, text: ")".into() });
        Ok(())
    }

    fn wrap(&self, name: &str, (start, end): (usize, usize), edits: &mut Vec<Edit>) {
        let (from, to) = (self.tokens[start].at, self.tokens[end].end());
        edits.push(Edit { from, to: from, begins: Some(to), text: format!("{}{name}(", self.space_before(start)) });
        edits.push(Edit { from: to, to, begins: None, text: ")".into() });
    }

    /// A space if the call would otherwise join a preceding keyword, as in `not[a]`.
    fn space_before(&self, start: usize) -> &'static str {
        let before = start.checked_sub(1).map(|before| &self.tokens[before]);
        if before.is_some_and(|token| token.kind == Kind::Name && token.end() == self.tokens[start].at) {
            " "
        } else {
            ""
        }
    }

    /// Turns `value[from:to:step]` into a call.
    fn slice(&self, end: usize, edits: &mut Vec<Edit>) {
        let colons = self.slice_colons(end);
        let Some(start) = self.left(end, false).filter(|_| !colons.is_empty()) else { return };
        let from = self.tokens[start].at;
        let call = format!("{}{SLICE}(", self.space_before(start));
        edits.push(Edit { from, to: from, begins: Some(self.tokens[end].at), text: call });
        let separators: Vec<usize> = std::iter::once(self.partners[end]).chain(colons).chain([end]).collect();
        for pair in separators.windows(2) {
            let separator = &self.tokens[pair[0]];
            let text = if pair[1] == pair[0] + 1 { ", none" } else { ", " };
            edits.push(Edit { from: separator.at, to: separator.end(), begins: None, text: text.into() });
        }
        let text = if separators.len() == 3 { ", none)" } else { ")" };
        edits.push(Edit { from: self.tokens[end].at, to: self.tokens[end].end(), begins: None, text: text.into() });
    }

    /// Whether an operand ends with the token at `index`.
    fn ends_operand(&self, index: usize) -> bool {
        index >= self.first
            && self.tokens.get(index).is_some_and(|token| match token.kind {
                Kind::Name => !KEYWORDS.contains(&token.text),
                Kind::Literal | Kind::Number => true,
                Kind::Sign => bracket(token) == -1,
            })
    }

    /// Index of the first token of the operand that ends at `index`. If `filtered`, its signs are included, since
    /// filters bind weaker. `None` for the result of a test, which is a boolean.
    fn left(&self, mut index: usize, mut filtered: bool) -> Option<usize> {
        loop {
            if !self.ends_operand(index) {
                return None;
            }
            let token = &self.tokens[index];
            let start = if bracket(token) == -1 { self.partners[index] } else { index };
            let before = start.checked_sub(1).filter(|before| *before >= self.first);
            let Some(before) = before else { return Some(start) };
            filtered |= self.tokens[before].is("|");
            let previous = &self.tokens[before];
            let joined = previous.is(".") || previous.is("|");
            let called = bracket(token) == -1 && !self.tokens[start].is("{") && self.ends_operand(before);
            let glued = token.kind == Kind::Literal && previous.kind == Kind::Literal;
            if joined && before > self.first {
                index = before - 1;
            } else if called || glued {
                index = before;
            } else {
                let word = |at: usize, text| self.tokens[at].kind == Kind::Name && self.tokens[at].text == text;
                let tested =
                    word(before, "is") || (word(before, "not") && before > self.first && word(before - 1, "is"));
                return (!tested).then(|| if filtered { self.signs_before(start) } else { start });
            }
        }
    }

    /// Index of the first sign before the operand at `start`.
    fn signs_before(&self, mut start: usize) -> usize {
        while start > self.first
            && (self.tokens[start - 1].is("-") || self.tokens[start - 1].is("+"))
            && !self.ends_operand(start.wrapping_sub(2))
        {
            start -= 1;
        }
        start
    }

    /// First and last token of the operand that starts at `index`; if it is filtered, its signs are included.
    fn right(&self, mut index: usize) -> Option<(usize, usize)> {
        let signs = index;
        while self.tokens.get(index).is_some_and(|token| token.is("-") || token.is("+")) {
            index += 1;
        }
        let mut start = index;
        let first = self.tokens.get(start)?;
        if bracket(first) == 1 {
            index = self.partners[start];
        } else if bracket(first) == -1 || !self.ends_operand(start) {
            return None;
        }
        loop {
            let Some(next) = self.tokens.get(index + 1) else { return Some((start, index)) };
            if next.is(".") && index + 2 < self.tokens.len() {
                index += 2;
            } else if next.is("(") || next.is("[") {
                index = self.partners[index + 1];
            } else if next.is("|") && !self.filters_block {
                let end = self.filter_end(index + 1);
                if end == index + 1 {
                    return Some((start, index));
                }
                (start, index) = (signs, end);
            } else if next.kind == Kind::Literal && self.tokens[index].kind == Kind::Literal {
                index += 1;
            } else {
                return Some((start, index));
            }
        }
    }

    /// The last token of the filter after the `|` at `index`; `index` if there is none.
    fn filter_end(&self, index: usize) -> usize {
        let name = |at: usize| self.tokens.get(at).is_some_and(|token| token.kind == Kind::Name);
        if !name(index + 1) {
            return index;
        }
        let mut end = index + 1;
        while self.tokens.get(end + 1).is_some_and(|token| token.is(".")) && name(end + 2) {
            end += 2;
        }
        match self.tokens.get(end + 1) {
            Some(next) if next.is("(") => self.partners[end + 1],
            _ => end,
        }
    }

    /// Indices of the colons of the slice that ends with the `]` at `index`; empty if it is not a slice.
    fn slice_colons(&self, index: usize) -> Vec<usize> {
        let open = self.partners[index];
        if open == 0 || !self.tokens[open].is("[") || !self.ends_operand(open - 1) {
            return Vec::new();
        }
        let mut depth = 0;
        let outer = |at: &usize| {
            depth += bracket(&self.tokens[*at]);
            depth == 1 && self.tokens[*at].is(":")
        };
        (open..index).filter(outer).collect()
    }
}
