//! Formulas: `$…$`, `$$…$$`, `\(…\)`, `\[…\]` and `\begin{…}…\end{…}`. They are shown as written.
//!
//! Dollars follow Pandoc's rules: the opening one has no space after it, the closing one no space before it and no
//! digit after it. So amounts of money stay text.

use super::{Copy, LETTER, lines};

/// Maximum length of an inline formula, in bytes.
const LONGEST_INLINE: usize = 1000;

/// Maximum length of a displayed formula, in bytes.
const LONGEST_DISPLAY: usize = 8000;

/// The end of a formula.
enum End {
    /// After its closing delimiter.
    At(usize),
    /// The text ends before the closing delimiter.
    Open,
    /// It is not a formula.
    None,
}

impl Copy<'_> {
    /// Hides the formula that begins at `at`, if there is one; returns its end.
    pub(super) fn math(&mut self, at: usize) -> Option<usize> {
        let found = match (self.byte(at), self.byte(at + 1)) {
            (b'$', b'$') => self.display(at, "$$"),
            (b'$', _) => self.dollar(at),
            (b'\\', b'(') => self.closed_by(at, at + 2, "\\)", self.block_end),
            (b'\\', b'[') => match self.display(at, "\\]") {
                // An escaped bracket before a link destination.
                End::At(end) if self.byte(end) == b'(' => End::None,
                found => found,
            },
            (b'\\', b'b') => self.environment(at),
            _ => End::None,
        };
        let end = match found {
            End::At(end) => end,
            End::Open if self.growing => self.text.len(),
            _ => return None,
        };
        self.hide_lines(at, end);
        self.whole.push(at..end);
        Some(end)
    }

    /// Searches for `close` from `from` to `limit`.
    fn closed_by(&mut self, at: usize, from: usize, close: &str, limit: usize) -> End {
        let limit = limit.min(at + LONGEST_DISPLAY);
        let known = self.missing.iter().find(|(sign, range)| sign == close && range.contains(&from));
        let mut next = known.map_or(from, |(_, range)| range.end);
        while next < limit {
            if self.text.get(next..).is_some_and(|rest| rest.starts_with(close)) {
                let is_empty = self.text.get(from..next).is_none_or(|formula| formula.trim().is_empty());
                return if is_empty { End::None } else { End::At(next + close.len()) };
            }
            next += if self.byte(next) == b'\\' { 2 } else { 1 };
        }
        self.missing.retain(|(sign, _)| sign != close);
        self.missing.push((close.to_owned(), from..next));
        if next >= self.text.len() { End::Open } else { End::None }
    }

    /// A formula between two-character delimiters. If the first is alone on its line, blank lines may follow.
    fn display(&mut self, at: usize, close: &str) -> End {
        let from = at + 2;
        if self.byte(at) == b'$' && self.run(at, b'$') > 2 {
            return End::None;
        }
        let before = self.text.get(self.line_start..at).unwrap_or_default();
        let behind = self.ahead(from);
        let alone = behind.trim().is_empty() && before.trim_matches([' ', '\t', '>']).is_empty();
        let limit = if alone { self.next_fence(from) } else { self.block_end };
        match self.closed_by(at, from, close, limit) {
            End::Open if !alone && close == "$$" && !self.may_be_formula(from) => End::None,
            found => found,
        }
    }

    /// Start of the next code fence: no formula contains one.
    fn next_fence(&self, from: usize) -> usize {
        let mut at = self.line_end(from) + 1;
        while at < self.text.len() && at < from + LONGEST_DISPLAY {
            let end = self.line_end(at);
            let line = self.text.get(at..end).unwrap_or_default();
            if lines::fence(line.trim_start_matches([' ', '\t', '>'])).is_some() {
                return at;
            }
            at = end + 1;
        }
        self.text.len()
    }

    fn environment(&mut self, at: usize) -> End {
        let name = self.ahead(at).strip_prefix("\\begin{");
        let Some(name) = name.and_then(|line| line.get(..line.find('}')?)) else { return End::None };
        let from = at + "\\begin{}".len() + name.len();
        self.closed_by(at, from, &format!("\\end{{{name}}}"), self.block_end)
    }

    /// A formula between single dollars.
    fn dollar(&self, at: usize) -> End {
        let (from, limit) = (at + 1, self.block_end.min(at + LONGEST_INLINE));
        let before = if at == 0 { b' ' } else { self.byte(at - 1) };
        let first = self.byte(from);
        // `US$5` and `n$^{th}$`.
        let in_word = before.is_ascii_alphanumeric() && !b"\\^_{".contains(&first);
        if in_word || self.text.get(from..).is_none_or(|rest| rest.starts_with(char::is_whitespace)) {
            return End::None;
        }
        let in_row = !self.pipes.is_empty();
        let mut next = from;
        while next < limit {
            match self.byte(next) {
                b'\\' => next += 1,
                b'`' => return End::None,
                b'|' if in_row && self.byte(next - 1) == b' ' && b" \n".contains(&self.byte(next + 1)) => {
                    return End::None;
                }
                b'\n' => {
                    let line = self.text.get(next + 1..self.line_end(next + 1)).unwrap_or_default();
                    if in_row || lines::begins_block(line.trim_start_matches([' ', '\t', '>'])) {
                        return End::None;
                    }
                }
                b'$' => return if self.closes(from, next) { End::At(next + 1) } else { End::None },
                _ => {}
            }
            next += 1;
        }
        if next >= self.text.len() && self.may_be_formula(from) { End::Open } else { End::None }
    }

    /// Whether the dollar at `at` ends a formula that begins at `from`.
    fn closes(&self, from: usize, at: usize) -> bool {
        let Some(formula) = self.text.get(from..at).filter(|formula| !formula.is_empty()) else { return false };
        let next = self.byte(at + 1);
        let spaced = formula.ends_with(char::is_whitespace);
        // Emphasis of two words that begin with a dollar: `**$a** and **$b**`.
        let emphasis = formula.matches("**").count() % 2 == 1;
        let sentence = formula.contains(char::is_whitespace) && !has_tex(formula) && has_prose(formula);
        let joins = next.is_ascii_alphanumeric()
            && (formula.ends_with(['*', '_', '(', '"', '/', ',']) || formula.contains(' ') && !has_tex(formula));
        !spaced && !next.is_ascii_digit() && next != b'$' && !emphasis && !sentence && !joins
    }

    /// Whether the text from `from` on may be a formula whose end has not arrived yet.
    fn may_be_formula(&self, from: usize) -> bool {
        let rest = self.text.get(from..).unwrap_or_default();
        let first = rest.split_whitespace().next().unwrap_or_default().trim_end_matches(['*', '_', '~', '"']);
        let amount = first.starts_with(|c: char| c.is_ascii_digit())
            && first.chars().all(|c| c.is_ascii_alphanumeric() || ".,:;!?%)-+/".contains(c));
        let sentence = rest.contains(char::is_whitespace) && (!has_tex(rest) || has_prose(rest));
        !rest.is_empty() && !amount && !sentence
    }

    /// Hides a formula, except newlines of lines that are not blank and quotation or list prefixes.
    fn hide_lines(&mut self, at: usize, end: usize) {
        let prefix = self.text.get(self.line_start..at).unwrap_or_default();
        let in_container = prefix.contains('>') || prefix.trim_start().len() < prefix.len() || ends_marker(prefix);
        let columns = if in_container { prefix.chars().count() } else { 0 };
        let mut next = at;
        loop {
            let line_end = self.line_end(next).min(end);
            self.hide(next..line_end);
            if line_end >= end {
                return;
            }
            next = line_end + 1;
            // A blank line would end the block: hide its newline.
            while next < end && self.byte(next) == b'\n' {
                if let Some(byte) = self.read.get_mut(next) {
                    *byte = LETTER;
                }
                next += 1;
            }
            let line = self.text.get(next..end).unwrap_or_default();
            next += line.bytes().take(columns).take_while(|byte| matches!(byte, b' ' | b'>')).count();
        }
    }
}

/// Whether `prefix` starts with the marker of a list item or another block.
fn ends_marker(prefix: &str) -> bool {
    !prefix.is_empty() && lines::begins_block(prefix)
}

/// Whether `text` contains TeX syntax: `^`, `_`, `{` or a command.
fn has_tex(text: &str) -> bool {
    let command = |pair: &[u8]| pair[0] == b'\\' && pair[1].is_ascii_alphabetic();
    text.contains(['^', '_', '{']) || text.as_bytes().windows(2).any(command)
}

/// Whether `text` contains a word of prose outside braces (`\text{ if }`).
fn has_prose(text: &str) -> bool {
    const SHORT: &[&str] =
        &["is", "of", "to", "in", "or", "an", "as", "at", "be", "by", "do", "if", "it", "on", "so", "we"];
    let mut depth = 0i32;
    text.split_whitespace().any(|word| {
        let outside = depth <= 0;
        depth += word.matches('{').count() as i32 - word.matches('}').count() as i32;
        let letters = word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '\\');
        outside
            && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
            && (letters.len() > 2 || SHORT.contains(&letters))
    })
}
