//! Puts calls of the meter into a template's source, so that a render has an end in memory and in time.
//!
//! minijinja counts steps, but one step may double a string or write a page. Each place where a value can grow gets a
//! call that pays for what goes in (`+`, `~`, `*`) or comes out (filters, slices), and each loop, macro and block one that
//! pays for the text it is about to write. The calls give their argument back and stand on the same line, so that nothing
//! else changes, line numbers included. `{% generation %}`, which marks what the model wrote for training, goes.

use super::TemplateError;
use super::lexer::{Kind, Piece, Tag, Token, pieces};
use super::meter::{FACTOR, GROWN, MAX_FACTOR_BYTES, PASS, RESERVED, SLICE, TERM, TEXT};

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

/// `source` with the calls.
pub fn watch(source: &str) -> Result<String, TemplateError> {
    let pieces = pieces(source)?;
    let regions = regions(&pieces);
    let mut watched = String::with_capacity(source.len() * 2);
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => watched.push_str(text),
            Piece::Tag(tag) => write_tag(source, tag, &regions[index], &mut watched)?,
        }
    }
    Ok(watched)
}

/// What the call behind a tag pays for and looks at.
#[derive(Clone, Default)]
struct Region {
    /// Bytes that the block which begins here writes by itself.
    written: Option<usize>,
    /// Variables that are set here.
    names: Vec<String>,
}

/// For each piece. A block that has no end is one that minijinja refuses.
fn regions(pieces: &[Piece<'_>]) -> Vec<Region> {
    let mut regions = vec![Region::default(); pieces.len()];
    let mut open: Vec<(&str, usize, usize)> = Vec::new();
    let mut written = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let tag = match piece {
            Piece::Text(text) => {
                written += text.len();
                continue;
            }
            Piece::Tag(tag) => tag,
        };
        written +=
            tag.tokens.iter().filter(|token| token.kind == Kind::Literal).map(|token| token.text.len()).sum::<usize>();
        let keyword = keyword(tag);
        let is_block = keyword != "set" || assignment(tag).is_none();
        match keyword {
            "for" | "macro" | "call" | "block" => open.push((keyword, index, written)),
            "set" if is_block => open.push((keyword, index, written)),
            _ => {}
        }
        if keyword != "set" || !is_block {
            regions[index].names = targets(tag);
        }
        let ends = |(begun, ..): &&(&str, usize, usize)| keyword.strip_prefix("end") == Some(*begun);
        if let Some(&(begun, at, before)) = open.last().filter(ends) {
            open.pop();
            if begun == "set" {
                let Piece::Tag(set) = &pieces[at] else { continue };
                regions[index].names = targets(set);
            } else {
                regions[at].written = Some(written - before);
            }
        }
    }
    regions
}

/// What kind of statement `tag` is; nothing for `{{ … }}`.
fn keyword<'s>(tag: &Tag<'s>) -> &'s str {
    tag.tokens.first().filter(|token| tag.statement && token.kind == Kind::Name).map_or("", |token| token.text)
}

/// The place of the `=` that stands in no bracket.
fn assignment(tag: &Tag<'_>) -> Option<usize> {
    let mut depth = 0;
    tag.tokens.iter().position(|token| {
        depth += bracket(token);
        depth == 0 && token.is("=")
    })
}

/// 1 for an opening bracket, -1 for a closing one.
fn bracket(token: &Token<'_>) -> isize {
    match (token.kind, token.text) {
        (Kind::Sign, "(" | "[" | "{") => 1,
        (Kind::Sign, ")" | "]" | "}") => -1,
        _ => 0,
    }
}

/// The variables that `tag` sets, `namespace.attribute` included.
fn targets(tag: &Tag<'_>) -> Vec<String> {
    let tokens = tag.tokens.get(1..).unwrap_or_default();
    match keyword(tag) {
        "set" => paths(&tokens[..assignment(tag).map_or(tokens.len(), |at| at - 1)]),
        "for" => {
            let end = tokens.iter().position(|token| token.kind == Kind::Name && token.text == "in");
            paths(&tokens[..end.unwrap_or(0)])
        }
        "with" => before_equals(tokens),
        "macro" => parameters(tokens.get(1..).unwrap_or_default()),
        "call" => parameters(tokens),
        _ => Vec::new(),
    }
}

/// `a`, `b.c`, … of a list of targets.
fn paths(tokens: &[Token<'_>]) -> Vec<String> {
    let mut paths = vec![String::new()];
    for token in tokens {
        match (token.kind, paths.last_mut()) {
            (Kind::Name, Some(path)) => path.push_str(token.text),
            (Kind::Sign, Some(path)) if token.is(".") => path.push('.'),
            (Kind::Sign, _) if token.is("|") => break,
            _ => paths.push(String::new()),
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// The names before each `=` of a `with`, alone or in brackets.
fn before_equals(tokens: &[Token<'_>]) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut since) = (0, 0);
    for (index, token) in tokens.iter().enumerate() {
        depth += bracket(token);
        if depth == 0 && token.is(",") {
            since = index + 1;
        } else if depth == 0 && token.is("=") {
            names.extend(paths(&tokens[since..index]));
        }
    }
    names
}

/// The names that a list of parameters, which begins with its bracket, declares.
fn parameters(tokens: &[Token<'_>]) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate() {
        depth += bracket(token);
        if depth == 0 {
            break;
        }
        let declared = depth == 1 && token.kind == Kind::Name && index > 0;
        if declared && (tokens[index - 1].is("(") || tokens[index - 1].is(",")) {
            names.push(token.text.to_owned());
        }
    }
    names
}

fn write_tag(source: &str, tag: &Tag<'_>, region: &Region, watched: &mut String) -> Result<(), TemplateError> {
    if let [token] = tag.tokens[..]
        && let Some(instead) = match (tag.statement, token.text) {
            (true, "generation") => Some("if true"),
            (true, "endgeneration") => Some("endif"),
            _ => None,
        }
    {
        // An `if` that is always true keeps the white-space rules of the tag.
        watched.push_str(&source[tag.start..token.at]);
        watched.push_str(instead);
        watched.push(' ');
        watched.push_str(&source[tag.close..tag.end]);
        return Ok(());
    }
    let mut at = tag.start;
    for edit in Operands::new(tag)?.edits()? {
        watched.push_str(&source[at..edit.from]);
        watched.push_str(&edit.text);
        at = edit.to;
    }
    watched.push_str(&source[at..tag.close]);
    if region.written.is_some() || !region.names.is_empty() {
        let written = region.written.unwrap_or(0);
        let names: String = region.names.iter().map(|name| format!(", {name}")).collect();
        // The white space behind is for the second tag to deal with.
        watched.push_str(&format!("%}}{{% do {PASS}({written}{names}) "));
    }
    watched.push_str(&source[tag.close..tag.end]);
    Ok(())
}

/// A change of the source.
struct Edit {
    from: usize,
    to: usize,
    text: String,
    /// Where what begins here ends; None for what ends here or stands between.
    begins: Option<usize>,
}

/// Finds the operands of a tag's operators.
struct Operands<'t, 's> {
    tokens: &'t [Token<'s>],
    /// For each bracket the place of its partner.
    partners: Vec<usize>,
    /// The place of the first token that belongs to an expression.
    first: usize,
    /// Whether filters outside of brackets belong to the statement.
    filters_block: bool,
}

impl<'t, 's> Operands<'t, 's> {
    fn new(tag: &'t Tag<'s>) -> Result<Self, TemplateError> {
        let tokens = &tag.tokens[..];
        let mut partners = vec![0; tokens.len()];
        let mut open = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            if token.kind == Kind::Name && token.text.starts_with(RESERVED) {
                return Err(TemplateError(format!("the model's chat template uses the reserved name {}", token.text)));
            }
            match bracket(token) {
                1 => open.push(index),
                -1 => {
                    let unmatched =
                        || TemplateError("the model's chat template is not valid: unmatched bracket".into());
                    let partner = open.pop().ok_or_else(unmatched)?;
                    (partners[partner], partners[index]) = (index, partner);
                }
                _ => {}
            }
        }
        let keyword = keyword(tag);
        let filters_block = keyword == "filter" || (keyword == "set" && assignment(tag).is_none());
        Ok(Self { tokens, partners, first: usize::from(tag.statement), filters_block })
    }

    /// What to change, in order.
    fn edits(&self) -> Result<Vec<Edit>, TemplateError> {
        let mut edits = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut depth = 0;
        for (index, token) in self.tokens.iter().enumerate().skip(self.first) {
            depth += bracket(token);
            if token.kind != Kind::Sign {
                continue;
            }
            match token.text {
                "+" | "~" | "*" if self.ends_operand(index.wrapping_sub(1)) => {
                    self.check_factors(index)?;
                    let name = match token.text {
                        "+" => TERM,
                        "~" => TEXT,
                        _ => FACTOR,
                    };
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
        // What ends comes before what begins; of what begins in one place the longest comes first and holds the others.
        edits.sort_by_key(|edit| (edit.from, edit.begins.map(std::cmp::Reverse)));
        Ok(edits)
    }

    /// What is as large as it stands in the source, or no text at all.
    fn is_constant(&self, (start, end): (usize, usize), name: &str) -> bool {
        start == end
            && match self.tokens[start].kind {
                Kind::Literal => true,
                Kind::Number => name != FACTOR,
                _ => false,
            }
    }

    fn wrap(&self, name: &str, (start, end): (usize, usize), edits: &mut Vec<Edit>) {
        let (from, to) = (self.tokens[start].at, self.tokens[end].end());
        edits.push(Edit { from, to: from, begins: Some(to), text: format!("{name}(") });
        edits.push(Edit { from: to, to, begins: None, text: ")".into() });
    }

    /// `value[from:to]` is paid for; `value[from:to:step]` becomes a call, since minijinja 3.0.5 steps backwards out of what
    /// is empty, and beyond where it should end.
    fn slice(&self, end: usize, edits: &mut Vec<Edit>) {
        let colons = self.slice_colons(end);
        let Some(start) = self.left(end, false).filter(|_| !colons.is_empty()) else { return };
        if colons.len() == 1 {
            return self.wrap(TERM, (start, end), edits);
        }
        let from = self.tokens[start].at;
        edits.push(Edit { from, to: from, begins: Some(self.tokens[end].at), text: format!("{SLICE}(") });
        let separators: Vec<usize> = std::iter::once(self.partners[end]).chain(colons).chain([end]).collect();
        for pair in separators.windows(2) {
            let separator = &self.tokens[pair[0]];
            let text = if pair[1] == pair[0] + 1 { ", none" } else { ", " };
            edits.push(Edit { from: separator.at, to: separator.end(), begins: None, text: text.into() });
        }
        edits.push(Edit { from: self.tokens[end].at, to: self.tokens[end].end(), begins: None, text: ")".into() });
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

    /// Where the operand that ends with the token at `index` begins: with its signs where it is `filtered`, since filters
    /// bind less than these. None for what a test says, which is yes or no.
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

    /// Where the signs of the operand at `start` begin.
    fn signs_before(&self, mut start: usize) -> usize {
        while start > self.first
            && (self.tokens[start - 1].is("-") || self.tokens[start - 1].is("+"))
            && !self.ends_operand(start.wrapping_sub(2))
        {
            start -= 1;
        }
        start
    }

    /// The first and last token of the operand that begins at `index`; its signs belong to it where it is filtered.
    fn right(&self, mut index: usize) -> Option<(usize, usize)> {
        let signs = index;
        while self.tokens.get(index).is_some_and(|token| token.is("-") || token.is("+")) {
            index += 1;
        }
        let mut start = index;
        let first = self.tokens.get(start)?;
        if bracket(first) == 1 {
            index = self.partners[start];
        } else if !self.ends_operand(start) {
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

    /// The last token of the filter behind the `|` at `index`; `index` where there is none.
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

    /// The colons of the slice that ends with the `]` at `index`; none where it ends something else.
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

    /// A product of more than two could be larger than its factors let see.
    fn check_factors(&self, index: usize) -> Result<(), TemplateError> {
        if !self.tokens[index].is("*") {
            return Ok(());
        }
        let refused = |what: &str| Err(TemplateError(format!("the model's chat template multiplies {what}")));
        let before = self.signs_before(self.left(index - 1, false).unwrap_or(index - 1));
        if before > self.first && self.tokens[before - 1].is("*") && self.ends_operand(before.wrapping_sub(2)) {
            return refused("more than two values at once");
        }
        let literals = [self.tokens.get(index - 1), self.tokens.get(index + 1)].into_iter().flatten();
        if literals.filter(|token| token.kind == Kind::Literal).any(|token| token.text.len() > MAX_FACTOR_BYTES) {
            return refused("a long text");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// `source` with short names for the calls.
    fn watched(source: &str) -> String {
        let mut text = watch(source).unwrap();
        for (name, short) in [(PASS, "P"), (TERM, "N"), (TEXT, "T"), (FACTOR, "F"), (GROWN, "G"), (SLICE, "S")] {
            text = text.replace(name, short);
        }
        text
    }

    #[test]
    fn operands_are_found() {
        for (source, expected) in [
            ("{{ a ~ b.c['d'](e).f }}", "{{ T(a) ~ T(b.c['d'](e).f) }}"),
            ("{{ 'x' + a|trim + 1 }}", "{{ 'x' + N(G(a|trim)) + 1 }}"),
            ("{{ a | f(b ~ c) | g }}", "{{ G(a | f(T(b) ~ T(c)) | g) }}"),
            ("{{ (a ~ b) + -c * 2 }}", "{{ N((T(a) ~ T(b))) + -N(F(c)) * F(2) }}"),
            ("{{ a[1:] + b[0] + [c] }}", "{{ N(N(a[1:])) + N(b[0]) + N([c]) }}"),
            ("{{ a[::-1] ~ b[1:c ~ d:2][0] }}", "{{ T(S(a, none, none, -1)) ~ T(S(b, 1, T(c) ~ T(d), 2)[0]) }}"),
            (
                "{% for a in b[::][::2] %}{% endfor %}",
                "{% for a in S(S(b, none, none, none), none, none, 2) %}{% do P(0, a) %}{% endfor %}",
            ),
            ("{{ x if a is string else b ~ 'c' }}", "{{ x if a is string else T(b) ~ 'c' }}"),
            ("{{ a is divisibleby(3) ~ b }}", "{{ a is divisibleby(3) ~ T(b) }}"),
            ("{{ f(*a, **b) }}", "{{ f(*a, **b) }}"),
            ("{{ {'a': b + c}['a':] }}", "{{ N({'a': N(b) + N(c)}['a':]) }}"),
            ("{% if not (a) ~ b in c %}", "{% if not T((a)) ~ T(b) in c %}"),
            ("{% filter upper | trim %}{% endfilter %}", "{% filter upper | trim %}{% endfilter %}"),
            ("{{ -a|abs - -b|abs ~ 'c' }}", "{{ G(-a|abs) - G(T(-b|abs)) ~ 'c' }}"),
            ("{{ 'a' 'b' ~ c }}", "{{ T('a' 'b') ~ T(c) }}"),
        ] {
            assert_eq!(watched(source), expected);
        }
    }

    #[test]
    fn what_is_set_and_what_is_written_is_paid_for() {
        for (source, expected) in [
            ("{%- set a, ns.b = c -%} x", "{%- set a, ns.b = c %}{% do P(0, a, ns.b) -%} x"),
            ("{% set a %}xyz{% endset +%}", "{% set a %}xyz{% endset %}{% do P(0, a) +%}"),
            ("{% set a | upper %}x{% endset %}", "{% set a | upper %}x{% endset %}{% do P(0, a) %}"),
            (
                "{% for a, (b, c) in d %}12345{{ 'x' }}{% endfor %}",
                "{% for a, (b, c) in d %}{% do P(8, a, b, c) %}12345{{ 'x' }}{% endfor %}",
            ),
            (
                "{% macro f(a, b=[c, d]) %}12{% endmacro %}",
                "{% macro f(a, b=[c, d]) %}{% do P(2, a, b) %}12{% endmacro %}",
            ),
            ("{% call(u) f(x) %}1{% endcall %}", "{% call(u) f(x) %}{% do P(1, u) %}1{% endcall %}"),
            (
                "{% with a = 1, (b, c) = d %}{% endwith %}",
                "{% with a = 1, (b, c) = d %}{% do P(0, a, b, c) %}{% endwith %}",
            ),
            ("{% generation %}x{%- endgeneration -%}", "{% if true %}x{%- endif -%}"),
            ("{%+  generation  +%}", "{%+  if true +%}"),
        ] {
            assert_eq!(watched(source), expected);
        }
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let long = format!("{{{{ '{}' * 3 }}}}", "x".repeat(1000));
        for source in ["{{ chatnap_term }}", "{{ 'x' * 9 * 9 }}", "{{ 'x' * -9 * 9 }}", "{{ a ) }}", &long] {
            assert!(watch(source).is_err(), "{source}");
        }
    }
}
