//! Inserts calls of `budget`'s functions into a template's source, to bound the memory and time of a render.
//!
//! minijinja counts steps (fuel), but one step may double a string or write a page. Each operation that can grow a
//! value gets a call that charges for its operands (`+`, `~`, `*`) or its result (filters, slices); each loop, macro
//! and block gets one that charges for the text that it writes. The calls return their argument and add no lines, so
//! that results and line numbers do not change. `{% generation %}`, a mark for training data only, is removed.

use super::budget::PASS;
use super::lexer::{Kind, Piece, Tag, Token, assignment, bracket, keyword, not_valid, pieces};
use super::{TemplateError, depth};
use operands::Operands;

/// Returns `source` with the calls inserted.
pub fn instrument(source: &str) -> Result<String, TemplateError> {
    let pieces = pieces(source)?;
    depth::check(&pieces)?;
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

/// Arguments of the call after a tag.
#[derive(Clone, Default)]
struct Region {
    /// Bytes of literal text in the block that starts here.
    written: Option<usize>,
    /// Variables that this tag sets.
    names: Vec<String>,
}

/// One region per piece. Blocks without an end are skipped: minijinja rejects them.
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

/// The names that a parameter list declares; `tokens` starts with its bracket.
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
        // `if true` keeps the white-space control of the tag.
        watched.push_str(&source[tag.start..token.at]);
        watched.push_str(instead);
        watched.push(' ');
        watched.push_str(&source[tag.close..tag.end]);
        return Ok(());
    }
    let mut at = tag.start;
    for edit in Operands::new(tag)?.edits()? {
        // Edits out of order mean overlapping operands, which a valid template does not have.
        let between = source.get(at..edit.from).ok_or_else(|| not_valid("operators without operands"))?;
        watched.push_str(between);
        watched.push_str(&edit.text);
        at = edit.to;
    }
    watched.push_str(&source[at..tag.close]);
    if region.written.is_some() || !region.names.is_empty() {
        let written = region.written.unwrap_or(0);
        let names: String = region.names.iter().map(|name| format!(", {name}")).collect();
        // The second tag takes over the white-space control of the first tag's closing mark.
        watched.push_str(&format!("%}}{{% do {PASS}({written}{names}) "));
    }
    watched.push_str(&source[tag.close..tag.end]);
    Ok(())
}

mod operands;
#[cfg(test)]
mod tests;
