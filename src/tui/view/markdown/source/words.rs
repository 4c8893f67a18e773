//! Words that are not Markdown: URLs, paths with backslashes, TeX commands, names between double underscores.

use std::ops::Range;

use super::{Copy, LOOKAHEAD};

/// Names of programs between double underscores that models write without backticks. Any other word between double
/// underscores is bold.
const DUNDERS: &str = " abs add aenter aexit aiter all and anext annotations author await bases bool builtins bytes cached \
call ceil class closure code complex contains copy date debug deepcopy defaults del delattr delete delitem desc dict dir \
dirname divmod doc enter eq exit file filename float floor floordiv format fspath func function future ge get getattr \
getattribute getitem getnewargs getstate global globals gt hash iadd index init invert ior isub iter kwdefaults le len \
length line loader lshift lt main matmul mod module mro mul name ne neg new next objclass or package path pos post pow \
prepare proto pycache qualname radd rand reduce repr reversed rmul round rshift rsub self set setattr setitem setstate \
sizeof slots spec str sub subclasses subclasshook super test traceback truediv type typename version weakref xor ";

impl Copy<'_> {
    /// Hides the parts of the word at `at` that are not Markdown.
    pub(super) fn word(&mut self, at: usize) {
        if matches!(self.byte(at), b'\\' | b'$') && self.math(at).is_some() {
            return;
        }
        let rest = self.ahead(at);
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '`' | '<' | '>' | '|')).unwrap_or(rest.len());
        let word = &rest[..end];
        let after_drive = word.contains('\\') && self.goes_on_with_path(at);
        if let Some(found) = url(word).or_else(|| path(word, after_drive)) {
            let whole = at + found.start..at + found.end;
            // Leave a link's destination to the parser.
            if self.whole.last().is_none_or(|last| last.end <= whole.start) {
                self.hide(whole.clone());
                self.whole.push(whole);
            }
            return;
        }
        let mut from = 0;
        while let Some(name) = dunder(word, from) {
            from = name.end;
            self.hide(at + name.start..at + name.end);
        }
    }

    /// Whether the word at `at` continues a path with spaces: `C:\Program Files\_x`.
    fn goes_on_with_path(&self, at: usize) -> bool {
        let from = self.line_start.max(at.saturating_sub(LOOKAHEAD));
        let line = (from..at).find_map(|from| self.text.get(from..at)).unwrap_or_default();
        let path = line.rsplit_once(":\\").map(|(_, path)| path);
        path.is_some_and(|path| !path.contains([',', ';', '(', ')', '"', '\'', '*', '|', '`']) && !path.contains(". "))
    }
}

/// `https://…` without the punctuation after it.
fn url(word: &str) -> Option<Range<usize>> {
    let sign = word.find("://")?;
    let scheme = word[..sign].bytes().rev().take_while(u8::is_ascii_alphanumeric).count();
    let start = sign - scheme;
    if scheme == 0 || word[..start].contains("](") || word[..start].contains('\\') {
        return None;
    }
    let mut depth = 0i32;
    let length = word[start..].find(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth < 0 || matches!(c, ']' | '"' | '“' | '”' | '「' | '」' | '（' | '）' | '。' | '、' | '，')
    });
    let url = &word[start..length.map_or(word.len(), |length| start + length)];
    let url = url.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_', '~', '\'']);
    (url.len() > scheme + 3).then_some(start..start + url.len())
}

/// A word in which a backslash does not escape: `C:\Users\_x`, `\\server\share`, `src\_a\b`, `\frac{a}{b}`.
fn path(word: &str, after_drive: bool) -> Option<Range<usize>> {
    let begins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '\\' | '.' | '%' | '~');
    let start = word.find(begins)?;
    let mut core = &word[start..];
    if !core.contains('\\')
        || core.starts_with("\\begin{")
        || ["\\(", "\\)", "\\[", "\\]"].iter().any(|sign| core.contains(sign))
        || core.contains('$')
    {
        return None;
    }
    if let Some(end) = core.find("](") {
        core = &core[..end];
    }
    let core = core.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '~', ')', ']', '"', '\'']);
    let core = if word[..start].contains('_') { core.trim_end_matches('_') } else { core };
    let bytes = core.as_bytes();
    let letter_follows = |pair: &[u8]| pair[0] == b'\\' && pair[1].is_ascii_alphanumeric();
    let is_drive = bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && bytes[2] == b'\\';
    (is_drive || after_drive || bytes.windows(2).any(letter_follows)).then_some(start..start + core.len())
}

/// The next `__name__` of a program, from byte `from` on.
fn dunder(word: &str, from: usize) -> Option<Range<usize>> {
    let start = from + word.get(from..)?.find("__")?;
    let rest = &word[start + 2..];
    let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let name = rest[..length].strip_suffix("__")?;
    let end = start + 2 + length;
    if name.is_empty() || name.starts_with('_') {
        return None;
    }
    let known = DUNDERS.contains(&format!(" {} ", name.to_ascii_lowercase()));
    let after = word[end..].starts_with(['(', '/']) || word[end..].starts_with('.') && word.len() > end + 1;
    (known || name.contains('_') || after).then_some(start..end)
}
