//! Python's `datetime.now().strftime(format)`: glibc's directives in the C locale, for a time without a zone.

use jiff::ZonedDateTime;
use minijinja::{Error, ErrorKind};

/// Directives that jiff formats as glibc does.
const SAME: &str = "aAbBCdDeFgGhHIjklmMnpPRStTuUVwWyY";

/// Directives whose width has more digits are written verbatim.
const MAX_PADDING_DIGITS: usize = 2;

/// Formats `now`. Unknown directives are written verbatim.
pub fn strftime(now: &ZonedDateTime, format: &str) -> Result<String, Error> {
    let problem = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"))
    };
    let civil = now.datetime();
    let mut translated = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        translated.push_str(&rest[..at]);
        let directive = Directive::read(&rest[at..]);
        rest = &rest[at + directive.text.len()..];
        let Directive { text, padding, letter } = directive;
        match letter {
            Some('c') => translated.push_str("%a %b %e %H:%M:%S %Y"),
            Some('x') => translated.push_str("%m/%d/%y"),
            Some('X') => translated.push_str("%H:%M:%S"),
            Some('r') => translated.push_str("%I:%M:%S %p"),
            // A time without a zone has neither a name nor an offset.
            Some('z' | 'Z') => {}
            Some('f') => translated.push_str(&format!("{:06}", civil.subsec_nanosecond() / 1000)),
            Some('s') => translated.push_str(&now.timestamp().as_second().to_string()),
            Some('%') => translated.push_str("%%"),
            Some(letter) if SAME.contains(letter) => translated.push_str(&format!("%{padding}{letter}")),
            _ => translated.push_str(&text.replace('%', "%%")),
        }
    }
    translated.push_str(rest);
    jiff::fmt::strtime::format(&translated, civil).map_err(|error| problem(&error))
}

/// `%[flags][width][E|O]letter`.
struct Directive<'f> {
    text: &'f str,
    /// Flags and width.
    padding: &'f str,
    letter: Option<char>,
}

impl<'f> Directive<'f> {
    /// Parses the directive at the start of `text`.
    fn read(text: &'f str) -> Self {
        let behind = |from: usize, wanted: &str| {
            text[from..].find(|c| !wanted.contains(c)).map_or(text.len(), |length| from + length)
        };
        let flags = behind(1, "_-0^#");
        let width = behind(flags, "0123456789");
        let letter_at = behind(width, "EO:");
        let letter = text[letter_at..].chars().next().filter(|_| width - flags <= MAX_PADDING_DIGITS);
        let end = letter_at + text[letter_at..].chars().next().map_or(0, char::len_utf8);
        Self { text: &text[..end], padding: &text[1..width], letter }
    }
}
