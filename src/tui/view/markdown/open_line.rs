//! Splits a long line that is still growing, so that a paragraph without a newline is not rendered again from its start
//! for each token.

use pulldown_cmark::{Event, Tag};

use super::source::Source;

/// At least this much of the line stays, in bytes: emphasis, links and formulas in it may still be closed.
const KEPT: usize = 768;

/// A split before an opening mark is preferred if it is at least this far into the line, in bytes.
const FAR: usize = 512;

/// Where `text`, one line of a paragraph, may be split: the byte at which the rest begins, and whether a space was
/// before it. `None` if it is no paragraph or has no such place.
pub(super) fn split(text: &str) -> Option<(usize, bool)> {
    let source = Source::new(text, true);
    let limit = text.len().checked_sub(KEPT)?;
    let mut depth = 0usize;
    // The last place of all, and the last one before a mark that may open emphasis, code or a link.
    let (mut last, mut before_mark, mut marked) = (None, None, false);
    for (event, range) in source.events() {
        match event {
            Event::Start(Tag::Paragraph) if depth == 0 => depth = 1,
            Event::Start(_) if depth == 0 => return None,
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(_) if depth == 1 => {
                let place = last_place(&source, range.start, range.end.min(limit));
                last = place.or(last);
                if !marked {
                    before_mark = place.or(before_mark);
                    marked = source.read(range).contains(['*', '`', '[', '_', '~']);
                }
            }
            _ => {}
        }
        if last.is_some_and(|_| depth == 0) {
            break;
        }
    }
    before_mark.filter(|(at, _)| *at >= FAR).or(last)
}

/// The last place between two bytes at which the rest begins with a letter: after a space, between two ideographs, or
/// in a word that is longer than any line.
fn last_place(source: &Source<'_>, from: usize, to: usize) -> Option<(usize, bool)> {
    let part = source.text.get(from..).filter(|_| to > from)?;
    let mut word = 0;
    let mut found = None;
    let mut before: Option<char> = None;
    let mut spaces = 0;
    for (offset, next) in part.char_indices() {
        let at = from + offset;
        if at >= to {
            break;
        }
        let space = before == Some(' ') && spaces == 1 && next.is_alphabetic();
        let ideographs = is_ideograph(next) && before.is_some_and(is_ideograph);
        let endless = word > 1000 && next.is_ascii_alphabetic() && before.is_some_and(|c| c.is_ascii_alphanumeric());
        if (space || ideographs || endless) && at > 0 && !source.is_whole(at) {
            found = Some((at, space));
        }
        spaces = if next == ' ' { spaces + 1 } else { 0 };
        word = if next == ' ' { 0 } else { word + 1 };
        before = Some(next);
    }
    found
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}
