//! Formulas in TeX as Unicode text, where that says exactly the same. Anything else, such as a matrix or a script without
//! a Unicode form, makes the whole formula stay as it is written.

mod signs;

use signs::{accent, font, function, sign, subscript, superscript};

/// Deepest nesting of groups.
const DEEPEST: usize = 12;

const DELIMITERS: &[(&str, &str)] = &[("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")];

/// Environments whose rows are lines.
const ROWS: &[&str] =
    &["align", "align*", "aligned", "gather", "gather*", "gathered", "equation", "equation*", "split"];

/// The formula as text, one line for each row. `None` if it has no exact form or is no complete formula.
pub(super) fn unicode(formula: &str) -> Option<String> {
    let inner = DELIMITERS.iter().find_map(|(open, close)| formula.strip_prefix(open)?.strip_suffix(close));
    let inner = match inner {
        Some(inner) => inner,
        None => Some(formula).filter(|formula| formula.starts_with("\\begin{"))?,
    };
    if is_name(inner) {
        return None;
    }
    let mut reader = Reader { rest: inner.trim(), depth: 0, in_rows: false };
    let mut writer = Writer::default();
    reader.sequence(&mut writer, None)?;
    let rows: Vec<_> = writer.text.split('\n').map(str::trim).filter(|row| !row.is_empty()).collect();
    (!rows.is_empty()).then(|| rows.join("\n"))
}

/// A word between dollars may be a placeholder, as in `$name$`.
fn is_name(inner: &str) -> bool {
    let inner = inner.trim();
    inner.len() > 1
        && inner.chars().all(|c| c.is_alphanumeric() || c == '-')
        && inner.contains(char::is_alphabetic)
        && !inner.starts_with(|c: char| c.is_ascii_digit())
}

/// Text with the spaces between its parts.
#[derive(Default)]
struct Writer {
    text: String,
    /// The next letter or digit must not touch the text before.
    apart: Apart,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Apart {
    #[default]
    No,
    /// A function or a sum was before: a space.
    Space,
    /// A fraction or a root begins at this byte: it needs brackets.
    Brackets(usize),
}

impl Writer {
    /// Adds a letter, a number or a group.
    fn put(&mut self, text: &str) {
        let joins = text.starts_with(|c: char| c.is_alphanumeric() || c == '(' || c == '√' || !c.is_ascii());
        match std::mem::take(&mut self.apart) {
            Apart::Space if joins && !self.text.ends_with(' ') && !text.starts_with('(') => self.text.push(' '),
            Apart::Brackets(at) if joins => {
                self.text.insert(at, '(');
                self.text.push(')');
            }
            _ => {}
        }
        self.text.push_str(text);
    }

    /// Adds a relation or an operator between two spaces, or a sign.
    fn operator(&mut self, sign: &str) {
        self.apart = Apart::No;
        let is_prefix = self.text.trim_end().is_empty() || self.text.trim_end().ends_with(['(', '[', '{', '=', '\n']);
        if is_prefix && matches!(sign, "±" | "∓" | "¬") {
            return self.text.push_str(sign);
        }
        self.space();
        self.text.push_str(sign);
        self.text.push(' ');
    }

    fn space(&mut self) {
        self.apart = Apart::No;
        if !self.text.is_empty() && !self.text.ends_with([' ', '\n', '(', '[', '{']) {
            self.text.push(' ');
        }
    }

    fn function(&mut self, name: &str) {
        if self.text.ends_with(|c: char| c.is_alphanumeric() || c == ')') {
            self.text.push(' ');
        }
        self.text.push_str(name);
        self.apart = Apart::Space;
    }

    /// Adds a quotient or a root, in brackets if a factor touches it.
    fn quotient(&mut self, text: &str) {
        let apart = std::mem::take(&mut self.apart);
        match apart {
            Apart::Space => self.text.push(' '),
            Apart::Brackets(at) => {
                self.text.insert(at, '(');
                self.text.push(')');
            }
            Apart::No => {}
        }
        if self.text.ends_with(|c: char| c.is_alphanumeric() || c == ')') {
            self.text.push_str(&format!("({text})"));
        } else {
            let at = self.text.len();
            self.text.push_str(text);
            self.apart = Apart::Brackets(at);
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
    /// `&` and `\\` separate cells and rows.
    in_rows: bool,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        Some(next)
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// The name of the command whose backslash was read.
    fn command(&mut self) -> &'t str {
        let letters = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let length = if letters > 0 { letters } else { self.rest.chars().next().map_or(0, char::len_utf8) };
        let (name, rest) = self.rest.split_at(length);
        self.rest = if letters > 0 { rest.trim_start() } else { rest };
        name
    }

    /// Reads up to `until`, or to the end.
    fn sequence(&mut self, writer: &mut Writer, until: Option<char>) -> Option<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        loop {
            let Some(next) = self.next() else { return until.is_none().then_some(()) };
            if Some(next) == until {
                self.depth -= 1;
                return Some(());
            }
            self.part(next, writer)?;
        }
    }

    fn part(&mut self, next: char, writer: &mut Writer) -> Option<()> {
        match next {
            '\\' => return self.after_backslash(writer),
            '{' => {
                let group = self.rest_of_group()?;
                writer.put(&group);
            }
            '^' => self.script(writer, superscript)?,
            '_' => self.script(writer, subscript)?,
            '\'' => writer.text.push('′'),
            ' ' | '\n' | '\t' if writer.apart == Apart::No => writer.space(),
            ' ' | '\n' | '\t' => {
                let apart = writer.apart;
                writer.space();
                writer.apart = if apart == Apart::Space { apart } else { Apart::No };
            }
            '~' => writer.space(),
            '=' | '<' | '>' => writer.operator(&next.to_string()),
            '&' if self.in_rows => {}
            '}' | '&' | '%' | '#' | '$' => return None,
            '+' | '-' | '/' | ',' | ';' | '.' | ')' | ']' | '|' | '!' | ':' | '*' => {
                let mends = matches!(writer.apart, Apart::Brackets(_)) && matches!(next, '!' | '/' | '*');
                if mends {
                    writer.put("(");
                    writer.text.pop();
                }
                writer.apart = Apart::No;
                writer.text.push(next);
            }
            _ => writer.put(&next.to_string()),
        }
        Some(())
    }

    fn rest_of_group(&mut self) -> Option<String> {
        let mut writer = Writer::default();
        self.sequence(&mut writer, Some('}'))?;
        Some(writer.text.trim().to_owned())
    }

    /// The argument of a command or a script: a group, a command or a character.
    fn argument(&mut self) -> Option<String> {
        self.skip_spaces();
        match self.next()? {
            '{' => self.rest_of_group(),
            '\\' => {
                let mut writer = Writer::default();
                self.after_backslash(&mut writer)?;
                Some(writer.text.trim().to_owned())
            }
            c if c.is_alphanumeric() || matches!(c, '*' | '+' | '-' | '\'') => Some(c.to_string()),
            _ => None,
        }
    }

    /// A raw argument in braces.
    fn braces(&mut self) -> Option<&'t str> {
        self.skip_spaces();
        let inner = self.rest.strip_prefix('{')?;
        let (text, rest) = inner.split_at(inner.find('}')?);
        self.rest = &rest[1..];
        (!text.contains(['{', '\\', '$'])).then_some(text)
    }

    fn script(&mut self, writer: &mut Writer, form: fn(char) -> Option<char>) -> Option<()> {
        // The base of a quotient or of a root is not clear without brackets.
        if let Apart::Brackets(at) = std::mem::take(&mut writer.apart) {
            writer.text.insert(at, '(');
            writer.text.push(')');
        }
        let argument = self.argument()?;
        let script: Option<String> = argument.chars().filter(|c| *c != ' ').map(form).collect();
        let spaced = writer.text.trim_end().len();
        let after_sign = writer.text.trim_end().ends_with(['∑', '∏', '∫', '∮', '⋃', '⋂']);
        writer.text.truncate(spaced);
        writer.text.push_str(&script.filter(|script| !script.is_empty())?);
        let is_limit = after_sign || writer.text.ends_with(is_script) && limits(&writer.text);
        let is_function = function_before(&writer.text);
        writer.apart = if is_limit || is_function { Apart::Space } else { Apart::No };
        Some(())
    }

    fn after_backslash(&mut self, writer: &mut Writer) -> Option<()> {
        let name = self.command();
        match name {
            "\\" if self.in_rows => writer.text.push('\n'),
            "," | ";" | ":" | " " | ">" | "thinspace" | "medspace" => writer.space(),
            "!" | "displaystyle" | "textstyle" | "limits" | "nolimits" | "left" | "right" | "big" | "Big" | "bigl"
            | "bigr" | "Bigl" | "Bigr" | "bigg" | "Bigg" => self.skip_dot(name),
            "quad" | "qquad" => {
                writer.apart = Apart::No;
                writer.text.push_str("  ");
            }
            "frac" | "dfrac" | "tfrac" => {
                let (above, below) = (self.argument()?, self.argument()?);
                writer.quotient(&format!("{}/{}", bracketed(&above, false)?, bracketed(&below, true)?));
            }
            "sqrt" => self.root(writer)?,
            "text" | "textrm" | "textbf" | "textit" | "mbox" => {
                let text = self.braces()?;
                writer.apart = Apart::No;
                writer.text.push_str(if writer.text.ends_with(' ') { text.trim_start() } else { text });
            }
            "operatorname" | "mathrm" | "mathit" | "mathsf" | "rm" => {
                let text = self.argument()?;
                if text.chars().count() > 1 && name != "mathit" { writer.function(&text) } else { writer.put(&text) }
            }
            "begin" => self.environment(writer)?,
            "end" => return None,
            "pmod" => {
                let modulus = self.argument()?;
                writer.space();
                writer.text.push_str(&format!("(mod {modulus})"));
            }
            "bmod" | "mod" => writer.operator("mod"),
            "not" => {
                self.skip_spaces();
                match self.next()? {
                    '=' => writer.operator("≠"),
                    _ => return None,
                }
            }
            _ => return self.named(name, writer),
        }
        Some(())
    }

    fn named(&mut self, name: &str, writer: &mut Writer) -> Option<()> {
        if let Some(relation) = signs::relation(name) {
            writer.operator(relation);
        } else if function(name) {
            writer.function(name);
        } else if let Some(large) = signs::large(name) {
            writer.function(large);
        } else if let Some(sign) = sign(name) {
            if sign.starts_with(['⟩', '⌋', '⌉', '}']) {
                writer.apart = Apart::No;
            }
            writer.put(sign);
        } else if let Some(mark) = accent(name) {
            let base = self.argument()?;
            let mut letters = base.chars();
            let (Some(letter), None) = (letters.next(), letters.next()) else { return None };
            writer.put(&format!("{letter}{mark}"));
        } else {
            let set = font(name)?;
            let argument = self.argument()?;
            writer.put(&argument.chars().map(set).collect::<Option<String>>()?);
        }
        Some(())
    }

    /// `\left.` and `\right.` have no delimiter.
    fn skip_dot(&mut self, name: &str) {
        if matches!(name, "left" | "right")
            && let Some(rest) = self.rest.strip_prefix('.')
        {
            self.rest = rest;
        }
    }

    fn root(&mut self, writer: &mut Writer) -> Option<()> {
        self.skip_spaces();
        let sign = match self.rest.strip_prefix('[') {
            None => "√",
            Some(rest) => {
                let (degree, rest) = rest.split_once(']')?;
                self.rest = rest;
                match degree.trim() {
                    "2" => "√",
                    "3" => "∛",
                    "4" => "∜",
                    _ => return None,
                }
            }
        };
        let inner = self.argument()?;
        writer.quotient(&format!("{sign}{}", bracketed(&inner, true)?));
        Some(())
    }

    fn environment(&mut self, writer: &mut Writer) -> Option<()> {
        let name = self.braces().filter(|name| ROWS.contains(name) && !self.in_rows)?;
        let end = format!("\\end{{{name}}}");
        let (body, rest) = self.rest.split_once(&end)?;
        let mut rows = Reader { rest: body, depth: self.depth, in_rows: true };
        rows.sequence(writer, None)?;
        self.rest = rest;
        Some(())
    }
}

/// A part of a quotient or a root, in brackets if it is more than one factor. `below`: a product needs them, too.
fn bracketed(part: &str, below: bool) -> Option<String> {
    let is_simple = |c: char| c.is_alphanumeric() || is_script(c) || c == '′' || !below && c == '.';
    let is_number = part.chars().all(|c| c.is_ascii_digit() || c == '.');
    let letters = part.chars().filter(|c| !is_script(*c) && *c != '′').count();
    let plain = part.chars().all(is_simple) && (!below || letters == 1) || is_number;
    match part {
        "" => None,
        _ if plain || is_enclosed(part) => Some(part.to_owned()),
        _ => Some(format!("({part})")),
    }
}

/// Whether one pair of brackets encloses all of `part`.
fn is_enclosed(part: &str) -> bool {
    let mut depth = 0usize;
    part.starts_with('(')
        && part.ends_with(')')
        && part.char_indices().all(|(at, c)| {
            depth = if c == '(' {
                depth + 1
            } else if c == ')' {
                depth.saturating_sub(1)
            } else {
                depth
            };
            depth > 0 || at + 1 == part.len()
        })
}

fn is_script(c: char) -> bool {
    signs::is_superscript(c) || signs::is_subscript(c)
}

/// Whether the text ends with a large sign and its limits.
fn limits(text: &str) -> bool {
    text.trim_end_matches(is_script).ends_with(['∑', '∏', '∫', '∮', '⋃', '⋂'])
}

/// Whether the text ends with a function and its scripts, as in `log₂`.
fn function_before(text: &str) -> bool {
    let name = text.trim_end_matches(is_script);
    let letters = name.bytes().rev().take_while(u8::is_ascii_alphabetic).count();
    function(&name[name.len() - letters..])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
