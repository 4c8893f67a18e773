//! How deep a template's syntax tree can become, found out before minijinja compiles it.
//!
//! minijinja bounds brackets and blocks inside each other (150), but no chains: `----1`, `not not x`, `1+1+…`, `a.b.b`,
//! `x[0][0]`, `a|b|b`, `x if y else x if y else …`, `elif`. It walks each of them with one stack frame or more per link.

use super::TemplateError;
use super::lexer::{Kind, Piece, Tag, Token, keyword, not_valid};

/// Links of all chains in one tag. Real templates stay below 150.
pub const MAX_LINKS: usize = 2000;

/// Branches of the `if`s that stand inside each other at one place, `elif` included.
pub const MAX_BRANCHES: usize = 500;

/// The sum of each tag's links squared: minijinja folds constants anew at each link.
const MAX_WORK: usize = 16_000_000;

/// Refuses a template whose tree would be deeper than the stack of `aside` is made for.
pub fn check(pieces: &[Piece<'_>]) -> Result<(), TemplateError> {
    let mut work = 0;
    // One entry for each open block: how many branches it has.
    let mut open: Vec<usize> = Vec::new();
    for piece in pieces {
        let Piece::Tag(tag) = piece else { continue };
        let links = tag.tokens.iter().filter(|token| is_link(token)).count();
        work += links * links;
        if links > MAX_LINKS || work > MAX_WORK {
            return Err(not_valid(&format!("an expression is longer than {MAX_LINKS} operators")));
        }
        branch(tag, &mut open);
        if open.iter().sum::<usize>() > MAX_BRANCHES {
            return Err(not_valid(&format!("blocks stand more than {MAX_BRANCHES} deep inside each other")));
        }
    }
    Ok(())
}

fn branch(tag: &Tag<'_>, open: &mut Vec<usize>) {
    match keyword(tag) {
        "elif" => {
            if let Some(branches) = open.last_mut() {
                *branches += 1;
            }
        }
        "if" | "for" => open.push(1),
        "endif" | "endfor" => {
            open.pop();
        }
        _ => {}
    }
}

/// Whether a token can make the tree one level deeper. Commas, colons, closing brackets and operands cannot.
fn is_link(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Sign => !matches!(token.text, "," | ":" | "=" | ")" | "]" | "}"),
        Kind::Name => matches!(token.text, "and" | "or" | "not" | "in" | "is" | "if" | "else"),
        Kind::Literal | Kind::Number => false,
    }
}
