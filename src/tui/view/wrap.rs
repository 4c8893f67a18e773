//! Wraps styled text by grapheme: words that fit in a line are not broken, wide characters may be broken anywhere, a
//! newline always breaks the line.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

use crate::cells;

/// Distance of the tab stops, in cells.
const TAB: usize = 4;

/// An invisible break opportunity.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

pub use crate::cells::width;

#[derive(Clone, Copy)]
struct Cell<'a> {
    text: &'a str,
    width: usize,
    style: Style,
}

/// Wraps `spans` to lines of at most `limit` cells (at least 1). A wider grapheme is dropped.
pub fn wrap(spans: &[Span<'_>], limit: usize) -> Vec<Vec<Span<'static>>> {
    let mut wrapper = Wrapper { limit: limit.max(1), lines: Vec::new(), line: Vec::new(), width: 0, break_at: 0 };
    let parts = spans.iter().flat_map(|span| {
        let parts = span.content.split(ZERO_WIDTH_SPACE).enumerate();
        parts.map(|(index, part)| (index > 0, cells::drawn(part), span.style))
    });
    let parts: Vec<_> = parts.collect();
    for (may_part, text, style) in &parts {
        if *may_part {
            wrapper.break_at = wrapper.line.len();
        }
        for text in text.graphemes(true) {
            match text {
                "\n" | "\r\n" => wrapper.end_line(),
                "\t" => (0..TAB - wrapper.width % TAB).for_each(|_| wrapper.push(" ", *style)),
                _ if text.contains(char::is_control) => {}
                _ => wrapper.push(text, *style),
            }
        }
    }
    wrapper.end_line();
    wrapper.lines
}

struct Wrapper<'a> {
    limit: usize,
    lines: Vec<Vec<Span<'static>>>,
    line: Vec<Cell<'a>>,
    width: usize,
    /// The line may be broken before the cell of this index; 0: nowhere.
    break_at: usize,
}

impl<'a> Wrapper<'a> {
    fn push(&mut self, text: &'a str, style: Style) {
        let width = width(text);
        if width > self.limit || text.is_empty() {
            return;
        }
        if self.may_part_before(text, width) {
            self.break_at = self.line.len();
        }
        if self.width + width > self.limit {
            // A space that does not fit ends the line and is dropped.
            if text == " " {
                self.break_at = 0;
                return self.end_line();
            }
            self.part();
        }
        // No leading spaces after a wrap; spaces that indent a line of the text are kept.
        self.line.push(Cell { text, width, style });
        self.width += width;
        if text == " " {
            self.break_at = self.line.len();
        }
    }

    /// Whether the line may be broken before `text`: beside a wide character, except next to punctuation that belongs
    /// to one side, and after a word's hyphen, but not inside a flag like `--max-tokens`.
    fn may_part_before(&self, text: &str, width: usize) -> bool {
        let Some(last) = self.line.last().filter(|_| !belongs_before(text)) else { return false };
        let wide = (width > 1 || last.width > 1) && !belongs_after(last.text);
        wide || last.text == "-" && text != " " && !self.in_flag()
    }

    /// Whether the word at the end of the line starts with a hyphen, like a flag.
    fn in_flag(&self) -> bool {
        let word = self.line.iter().rposition(|cell| cell.text == " ").map_or(0, |space| space + 1);
        let mut letters =
            self.line[word..].iter().map(|cell| cell.text).skip_while(|text| matches!(*text, "(" | "[" | "`" | "\""));
        letters.next() == Some("-")
    }

    fn part(&mut self) {
        let at = if self.break_at > 0 { self.break_at } else { self.line.len() };
        let rest = self.line.split_off(at);
        self.end_line();
        self.width = rest.iter().map(|cell| cell.width).sum();
        self.line = rest;
    }

    fn end_line(&mut self) {
        let mut spans: Vec<Span<'static>> = Vec::new();
        for cell in self.line.drain(..) {
            match spans.last_mut() {
                Some(last) if last.style == cell.style => last.content.to_mut().push_str(cell.text),
                _ => spans.push(Span::styled(cell.text.to_owned(), cell.style)),
            }
        }
        self.lines.push(spans);
        self.width = 0;
        self.break_at = 0;
    }
}

/// Characters that must not start a line beside wide characters: closing punctuation and small kana.
fn belongs_before(text: &str) -> bool {
    const CLOSING: &str =
        "、。，．・：；？！）」』】》〉〕］｝”’…‥ー々,.;:!?)]}%ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ";
    text.chars().next().is_some_and(|first| CLOSING.contains(first))
}

/// Characters that must not end a line beside wide characters: opening punctuation.
fn belongs_after(text: &str) -> bool {
    const OPENING: &str = "（「『【《〈〔［｛“‘([{";
    text.chars().next().is_some_and(|first| OPENING.contains(first))
}

/// Wraps text of one style; the first line starts with `first`, the others with `rest` (of equal width).
pub fn wrap_prefixed(
    text: &str,
    style: Style,
    first: &Span<'static>,
    rest: &Span<'static>,
    limit: usize,
) -> Vec<Line<'static>> {
    let room = limit.saturating_sub(width(&first.content)).max(1);
    let lines = wrap(&[Span::styled(text, style)], room);
    let prefixes = std::iter::once(first).chain(std::iter::repeat(rest));
    lines.into_iter().zip(prefixes).map(|(spans, prefix)| prepend(prefix.clone(), spans)).collect()
}

/// A line that begins with `prefix`.
pub fn prepend(prefix: Span<'static>, spans: Vec<Span<'static>>) -> Line<'static> {
    Line::from_iter(std::iter::once(prefix).chain(spans))
}

/// Cuts the beginning of `text` to `limit` cells; begins with `mark` if it was cut.
pub fn clip_start(text: &str, limit: usize, mark: &str) -> String {
    let text = cells::drawn(text);
    if width(&text) <= limit {
        return text.into_owned();
    }
    let room = limit.saturating_sub(width(mark));
    let mut taken = 0;
    let kept = text.grapheme_indices(true).rev().take_while(|(_, grapheme)| {
        taken += width(grapheme);
        taken <= room
    });
    let from = kept.last().map_or(text.len(), |(at, _)| at);
    format!("{mark}{}", text[from..].trim_start())
}

/// Cuts `text` to `limit` cells; ends with `mark` if it was cut.
pub fn clip(text: &str, limit: usize, mark: &str) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(width(mark));
    let mut taken = 0;
    let text = cells::drawn(text);
    let kept = text.graphemes(true).take_while(|g| {
        taken += width(g);
        taken <= room
    });
    let mut clipped: String = kept.collect();
    if limit > 0 {
        clipped.push_str(mark);
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, limit: usize) -> Vec<String> {
        wrap(&[Span::raw(text)], limit).iter().map(|line| line.iter().map(|span| &*span.content).collect()).collect()
    }

    #[test]
    fn a_joiner_at_the_end_of_an_emoji_is_not_drawn() {
        let drawn =
            |text: &str| wrap(&[Span::raw(text)], 20).concat().iter().map(|span| &*span.content).collect::<String>();
        assert_eq!(drawn("ok \u{1f469}\u{200d}"), "ok \u{1f469}");
        assert_eq!(drawn("\u{200d}"), "");
        assert_eq!(drawn("\u{1f469}\u{200d}\u{1f680} go"), "\u{1f469}\u{200d}\u{1f680} go");
    }

    #[test]
    fn joiners_of_indic_and_arabic_scripts_are_drawn() {
        for text in
            ["\u{dc1}\u{dca}\u{200d}\u{dbb}\u{dd3} \u{d28}\u{d4d}\u{200d}", "\u{647}\u{200d} \u{915}\u{94d}\u{200d}"]
        {
            assert_eq!(lines(text, 20), [text]);
        }
    }

    #[test]
    fn invisible_characters_take_no_cells_and_are_not_drawn() {
        assert_eq!(lines("co\u{ad}op\u{2060}er\u{feff}ate", 20), ["cooperate"]);
        assert_eq!(lines("long\u{200b}word", 5), ["long", "word"], "a line may be parted there");
        assert_eq!(lines("a\u{202e}b\u{9b}c", 20), ["abc"]);
        assert_eq!(lines("ab\tc\td", 20), ["ab  c   d"]);
        assert_eq!(clip("a\u{200b}b\u{3164}c", 9, "…"), "a\u{200b}b\u{3164}c");
    }

    #[test]
    fn only_words_longer_than_a_line_are_broken() {
        assert_eq!(lines("the quick brown fox", 10), ["the quick ", "brown fox"]);
        assert_eq!(lines("abcdefghijkl mn", 5), ["abcde", "fghij", "kl mn"]);
        assert_eq!(lines("one two", 3), ["one", "two"]);
        assert_eq!(lines("a\n\nb", 5), ["a", "", "b"]);
        assert_eq!(lines("", 5), [""]);
    }

    #[test]
    fn wide_characters_take_two_cells_and_break_anywhere() {
        assert_eq!(lines("日本語テキスト", 6), ["日本語", "テキス", "ト"]);
        assert_eq!(lines("a日本", 4), ["a日", "本"]);
        assert_eq!(lines("日", 1), [""]);
    }

    #[test]
    fn no_line_starts_with_closing_or_ends_with_opening_punctuation() {
        assert_eq!(lines("天空是蓝的，真的。", 10), ["天空是蓝", "的，真的。"]);
        assert_eq!(lines("他说：“你好”", 8), ["他说：", "“你好”"]);
        assert_eq!(lines("你好,世界", 4), ["你", "好,", "世界"]);
        assert_eq!(lines("！！！！", 4), ["！！", "！！"]);
    }

    #[test]
    fn flags_are_not_broken_and_words_break_at_hyphens() {
        assert_eq!(lines("use --context-length now", 18), ["use ", "--context-length ", "now"]);
        assert_eq!(lines("a well-known thing", 8), ["a well-", "known ", "thing"]);
        assert_eq!(lines("(--max-tokens)", 10), ["(--max-tok", "ens)"]);
    }

    #[test]
    fn grapheme_clusters_are_not_broken() {
        let family = "👨‍👩‍👧‍👦";
        assert_eq!(width(family), 2);
        assert_eq!(lines(&family.repeat(3), 4), [family.repeat(2), family.to_owned()]);
        assert_eq!(lines("e\u{301}e\u{301}e\u{301}", 2), ["e\u{301}e\u{301}", "e\u{301}"]);
    }

    #[test]
    fn the_beginning_is_cut_before_the_mark() {
        assert_eq!(clip_start("hello", 5, "…"), "hello");
        assert_eq!(clip_start("hello", 4, "…"), "…llo");
        assert_eq!(clip_start("one two", 5, "…"), "…two");
        assert_eq!(clip_start("日本語", 4, "…"), "…語");
    }

    #[test]
    fn clip_appends_the_mark() {
        assert_eq!(clip("hello", 5, "…"), "hello");
        assert_eq!(clip("hello", 4, "…"), "hel…");
        assert_eq!(clip("日本語", 4, "…"), "日…");
        assert_eq!(clip("hello", 0, "…"), "");
    }

    #[test]
    fn no_wrapped_line_exceeds_the_limit() {
        let text = "Ünï 日本 👩‍🚀 word-with-dashes \t tab   spaces zażółć";
        for limit in 2..40 {
            for line in lines(text, limit) {
                assert!(width(&line) <= limit, "{line:?} at {limit}");
            }
        }
    }
}
