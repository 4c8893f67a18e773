//! Markdown for front ends that print lines on a terminal instead of drawing a screen: the only part of the interface
//! that they use.
//!
//! A finished line is printed once. The lines of the open block are printed again where they change, as far as they are
//! still on the screen.

use std::fmt::Write;
use std::path::Path;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::layout::Look;
use super::links::{self, CLOSING, Links};
use super::theme::{ColorDepth, Theme};
use super::view::glyphs::Glyphs;
use super::view::markdown::Markdown;
use crate::sanitize::Sanitizer;

/// A text that grows on the terminal.
pub struct Printed {
    markdown: Markdown,
    sanitizer: Sanitizer,
    theme: Theme,
    glyphs: &'static Glyphs,
    /// `None`: the terminal shows no links.
    links: Option<Links>,
    columns: usize,
    rows: usize,
    /// Number of the first line in `open`.
    first: usize,
    /// The last lines as they were printed; the cursor is behind the last one.
    open: Vec<String>,
}

impl std::fmt::Debug for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printed").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Printed {
    /// For a terminal of `columns` and `rows` cells. `theme` is a theme's name and `folder` the user's themes. `None` if
    /// the terminal cannot move its cursor.
    pub fn new(
        (theme, folder): (&str, &Path),
        (columns, rows): (usize, usize),
        variable: impl Fn(&str) -> Option<String> + Copy,
    ) -> Option<Self> {
        if columns < 20 || rows < 2 || variable("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
            return None;
        }
        // The background is not asked for here: without colours, emphasis is readable on any.
        let depth = if theme == "auto" { ColorDepth::None } else { ColorDepth::of_environment(variable) };
        let theme =
            Theme::load(theme, folder, depth).or_else(|_| Theme::load("dark", Path::new(""), ColorDepth::None)).ok()?;
        Some(Self {
            markdown: Markdown::default(),
            sanitizer: Sanitizer::default(),
            theme,
            glyphs: Glyphs::of_environment(variable),
            links: links::are_shown(variable).then(Links::default),
            columns,
            rows,
            first: 0,
            open: Vec::new(),
        })
    }

    /// Takes foreign text; returns what to write to the terminal. No newline is written after the last line.
    pub fn push(&mut self, text: &str) -> String {
        let clean = self.sanitizer.push(text);
        self.add(&clean)
    }

    /// Ends the text; returns the rest of what to write.
    pub fn finish(&mut self) -> String {
        let rest = self.sanitizer.finish();
        self.markdown.finish();
        self.add(&rest)
    }

    fn add(&mut self, clean: &str) -> String {
        let clean = if self.markdown.is_blank() { clean.trim_start_matches(['\n', '\r']) } else { clean };
        self.markdown.push(clean);
        self.markdown.layout(self.columns, &Look { theme: &self.theme, glyphs: self.glyphs });
        let fresh = self.markdown.take_links();
        if let Some(links) = self.links.as_mut().filter(|_| !fresh.is_empty()) {
            links.merge(&fresh);
        }
        let lines: Vec<_> = (self.first..self.markdown.len())
            .filter_map(|index| self.markdown.line(index))
            .map(|line| sequence(line, self.links.as_ref()))
            .collect();
        let written = rewrite(&self.open, &lines, self.rows);
        // Keep the last line: the cursor is in it.
        let first = self.markdown.final_len().min(self.markdown.len().saturating_sub(1)).max(self.first);
        self.open = lines.into_iter().skip(first - self.first).collect();
        self.first = first;
        written
    }
}

/// What turns `old` lines on the terminal into `new` ones. The cursor is behind the last old line, and then behind the
/// last new one. Lines above the screen stay as they are.
fn rewrite(old: &[String], new: &[String], rows: usize) -> String {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let reach = old.len().saturating_sub(rows.saturating_sub(1).max(1));
    let from = same.max(reach);
    let (Some(last), true) = (old.len().checked_sub(1), from < old.len()) else {
        // Nothing that was printed has changed.
        let begins = if old.is_empty() { "" } else { "\n" };
        let rest = new.get(old.len()..).unwrap_or_default().join("\n");
        return if new.len() > old.len() { format!("{begins}{rest}") } else { String::new() };
    };
    let rest = new.get(from..).unwrap_or_default();
    if let (true, [first, more @ ..]) = (from == last, rest)
        && let Some(end) = first.strip_prefix(old[last].as_str())
    {
        return std::iter::once(end).chain(more.iter().map(String::as_str)).collect::<Vec<_>>().join("\n");
    }
    let up = if last > from { format!("\x1b[{}A", last - from) } else { String::new() };
    format!("\x1b[?2026h\r{up}\x1b[J{}\x1b[?2026l", rest.join("\n"))
}

/// A line with its styles as terminal sequences.
fn sequence(line: &Line<'_>, links: Option<&Links>) -> String {
    let mut text = String::new();
    for span in &line.spans {
        let style = line.style.patch(span.style);
        let opening = links.and_then(|links| links.opening(style.underline_color));
        text.extend(opening.as_deref());
        styled(&mut text, span, style);
        text.extend(opening.map(|_| CLOSING));
    }
    // A blank at the end of a line is not seen, and would be copied.
    text.truncate(text.trim_end_matches(' ').len());
    text
}

fn styled(text: &mut String, span: &Span<'_>, style: Style) {
    let codes = codes(style);
    if codes.is_empty() {
        text.push_str(&span.content);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(text, "\x1b[{}m{}\x1b[0m", codes.join(";"), span.content);
    }
}

/// The parameters of SGR.
fn codes(style: Style) -> Vec<String> {
    const MODIFIERS: [(Modifier, u8); 6] = [
        (Modifier::BOLD, 1),
        (Modifier::DIM, 2),
        (Modifier::ITALIC, 3),
        (Modifier::UNDERLINED, 4),
        (Modifier::REVERSED, 7),
        (Modifier::CROSSED_OUT, 9),
    ];
    let set = MODIFIERS.iter().filter(|(modifier, _)| style.add_modifier.contains(*modifier));
    let mut codes: Vec<_> = set.map(|(_, code)| code.to_string()).collect();
    codes.extend(style.fg.and_then(|color| color_code(color, 30)));
    codes.extend(style.bg.and_then(|color| color_code(color, 40)));
    codes
}

/// The parameter of a colour; `base`: 30 for letters, 40 for their background.
fn color_code(color: Color, base: u8) -> Option<String> {
    let place = match color {
        Color::Reset => return None,
        Color::Rgb(red, green, blue) => return Some(format!("{};2;{red};{green};{blue}", base + 8)),
        Color::Indexed(index) => return Some(format!("{};5;{index}", base + 8)),
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 60,
        Color::LightRed => 61,
        Color::LightGreen => 62,
        Color::LightYellow => 63,
        Color::LightBlue => 64,
        Color::LightMagenta => 65,
        Color::LightCyan => 66,
        Color::White => 67,
    };
    Some((base + place).to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn printed(size: (usize, usize)) -> Printed {
        let variable = |name: &str| (name == "TERM").then(|| "xterm-256color".to_owned());
        Printed::new(("dark", Path::new("")), size, variable).unwrap()
    }

    /// The screen after these pieces, without blank lines at its end.
    fn screen(pieces: &[&str], (columns, rows): (u16, u16)) -> String {
        let mut printed = printed((columns.into(), rows.into()));
        let size = |size| std::num::NonZeroU16::new(size).unwrap();
        let mut parser = vt100::Parser::new(size(rows), size(columns), 100);
        let mut written: String = pieces.iter().map(|piece| printed.push(piece)).collect();
        written.push_str(&printed.finish());
        parser.process(written.replace('\n', "\r\n").as_bytes());
        parser.screen().contents()
    }

    const TEXT: &str = "# Title\n\nSome **bold** text that is longer than one line of forty.\n\n| a | b |\n|---|---|\n| 1 | \
                        two words |\n\n- one\n- two\n\n```rust\nlet x = 1;\n```\n";

    #[test]
    fn a_stream_ends_as_the_whole_text() {
        let whole = screen(&[TEXT], (40, 40));
        assert!(whole.contains("│ 1 │ two words │") && whole.contains("• two") && !whole.contains('#'), "{whole}");
        for size in [1, 3, 7] {
            let chars: Vec<_> = TEXT.chars().collect();
            let pieces: Vec<String> = chars.chunks(size).map(|piece| piece.iter().collect()).collect();
            let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
            assert_eq!(screen(&pieces, (40, 40)), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn words_that_grow_at_the_end_of_a_line_are_not_broken() {
        let text = "She looked at the horizon and dreamt of the desired place.";
        let pieces: Vec<_> = text.split_inclusive(|c: char| c.is_alphabetic()).collect();
        assert_eq!(screen(&pieces, (40, 10)), "She looked at the horizon and dreamt of\nthe desired place.");
    }

    #[test]
    fn an_open_block_that_is_longer_than_the_screen_loses_nothing() {
        let rows: String = (0..30).map(|n| format!("| row {n} | {} |\n", "x".repeat(n % 7))).collect();
        let table = format!("| a | b |\n|---|---|\n{rows}\nend");
        let pieces: Vec<_> = table.split_inclusive('\n').collect();
        assert!(screen(&pieces, (40, 10)).ends_with("\nend"), "{}", screen(&pieces, (40, 10)));
    }

    #[test]
    fn plain_text_that_grows_is_written_once() {
        let mut printed = printed((60, 20));
        let written: Vec<_> = ["Hel", "lo", " there"].iter().map(|piece| printed.push(piece)).collect();
        assert_eq!(written, ["Hel", "lo", " there"]);
        assert_eq!(printed.finish(), "");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut printed = printed((60, 20));
        let written = printed.push("a\x1b[2Jb\x07") + &printed.finish();
        assert!(!written.contains("[2J") && !written.contains('\x07'), "{written:?}");
    }

    #[test]
    fn terminals_without_a_cursor_get_plain_text() {
        for term in ["dumb", ""] {
            let variable = |name: &str| (name == "TERM").then(|| term.to_owned());
            assert!(Printed::new(("dark", Path::new("")), (80, 24), variable).is_none());
        }
    }
}
