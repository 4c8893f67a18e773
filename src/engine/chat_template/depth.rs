//! Bounds the depth of a template's syntax tree before minijinja compiles it.
//!
//! minijinja bounds nested brackets and blocks (150), but not chains: `----1`, `not not x`, `1+1+…`, `a.b.b`,
//! `x[0][0]`, `a|b|b`, `x if y else x if y else …`, `elif`. It recurses with one or more stack frames per link.

use super::TemplateError;
use super::lexer::{Kind, Piece, Tag, Token, keyword, not_valid};

/// Maximum number of links of all chains in one tag. Real templates have fewer than 150.
pub const MAX_LINKS: usize = 2000;

/// Maximum number of branches of all `if`s and `for`s open at one point, `elif` included.
pub const MAX_BRANCHES: usize = 500;

/// Maximum sum of links² over the tags: minijinja folds constants again at each link.
const MAX_WORK: usize = 16_000_000;

/// Rejects a template whose tree would overflow the stack of `limited_thread`.
pub fn check(pieces: &[Piece<'_>]) -> Result<(), TemplateError> {
    let mut work = 0;
    // The number of branches of each open block.
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
            return Err(not_valid(&format!("blocks are nested more than {MAX_BRANCHES} deep")));
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

/// Whether a token can make the tree one level deeper; commas, colons, closing brackets and operands cannot.
fn is_link(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Sign => !matches!(token.text, "," | ":" | "=" | ")" | "]" | "}"),
        Kind::Name => matches!(token.text, "and" | "or" | "not" | "in" | "is" | "if" | "else"),
        Kind::Literal | Kind::Number => false,
    }
}
