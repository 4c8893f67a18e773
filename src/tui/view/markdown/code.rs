//! Syntax highlighting of keywords, strings, comments and numbers while a block streams. One approximate scanner for all
//! languages instead of grammars, in linear time.

use ratatui::style::Style;
use ratatui::text::Span;

use crate::tui::layout::Look;

/// Words that are keywords in at least one of the languages that share a comment style.
const KEYWORDS_C: &[&str] = &[
    "abstract",
    "as",
    "async",
    "await",
    "bool",
    "boolean",
    "break",
    "byte",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "continue",
    "crate",
    "default",
    "defer",
    "delete",
    "do",
    "double",
    "dyn",
    "else",
    "enum",
    "export",
    "extends",
    "extern",
    "false",
    "final",
    "finally",
    "float",
    "fn",
    "for",
    "from",
    "func",
    "function",
    "go",
    "goto",
    "if",
    "impl",
    "implements",
    "import",
    "in",
    "instanceof",
    "int",
    "interface",
    "let",
    "long",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "namespace",
    "new",
    "nil",
    "null",
    "override",
    "package",
    "private",
    "protected",
    "pub",
    "public",
    "range",
    "ref",
    "return",
    "self",
    "Self",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "super",
    "switch",
    "template",
    "this",
    "throw",
    "throws",
    "trait",
    "true",
    "try",
    "type",
    "typedef",
    "typeof",
    "union",
    "unsafe",
    "unsigned",
    "use",
    "using",
    "val",
    "var",
    "virtual",
    "void",
    "volatile",
    "where",
    "while",
    "yield",
];
const KEYWORDS_HASH: &[&str] = &[
    "and", "as", "assert", "async", "await", "begin", "break", "case", "class", "continue", "def", "del", "do", "done",
    "echo", "elif", "else", "elsif", "end", "ensure", "esac", "except", "exit", "export", "False", "false", "fi",
    "finally", "for", "from", "function", "global", "if", "import", "in", "is", "lambda", "let", "local", "module",
    "next", "nil", "None", "nonlocal", "not", "null", "or", "pass", "raise", "require", "rescue", "return", "self",
    "set", "then", "True", "true", "try", "unless", "until", "when", "while", "with", "yield",
];
const KEYWORDS_SQL: &[&str] = &[
    "add", "all", "alter", "and", "as", "asc", "between", "by", "case", "create", "delete", "desc", "distinct", "drop",
    "else", "end", "exists", "from", "function", "group", "having", "if", "in", "index", "inner", "insert", "into",
    "is", "join", "key", "left", "like", "limit", "local", "not", "null", "on", "or", "order", "outer", "primary",
    "return", "right", "select", "set", "table", "then", "union", "unique", "update", "values", "view", "when",
    "where", "with",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    C,
    Hash,
    Dashes,
    Diff,
    Plain,
}

/// Highlights the lines of one code block, in order.
#[derive(Clone, Debug)]
pub(super) struct Highlighter {
    family: Family,
    in_comment: bool,
    /// The delimiter of an open string that may span lines.
    in_string: Option<&'static str>,
    /// Delimiters of such strings.
    long_strings: &'static [&'static str],
}

impl Highlighter {
    pub fn new(language: &str) -> Self {
        let language = language.to_ascii_lowercase();
        let family = match language.as_str() {
            "rust" | "rs" | "c" | "h" | "cpp" | "c++" | "cc" | "cuda" | "java" | "javascript" | "js" | "jsx" | "ts"
            | "tsx" | "typescript" | "go" | "golang" | "swift" | "kotlin" | "scala" | "csharp" | "cs" | "php"
            | "css" | "zig" | "dart" | "json" | "jsonc" | "glsl" => Family::C,
            "python" | "py" | "sh" | "bash" | "shell" | "zsh" | "fish" | "console" | "ruby" | "rb" | "perl" | "r"
            | "yaml" | "yml" | "toml" | "ini" | "make" | "makefile" | "dockerfile" | "elixir" | "julia" | "nix"
            | "cmake" => Family::Hash,
            "sql" | "lua" | "haskell" | "hs" | "ada" => Family::Dashes,
            "diff" | "patch" => Family::Diff,
            _ => Family::Plain,
        };
        let long_strings: &[_] = match language.as_str() {
            "python" | "py" => &["\"\"\"", "'''"],
            "javascript" | "js" | "jsx" | "ts" | "tsx" | "typescript" | "go" | "golang" => &["`"],
            "kotlin" | "scala" | "swift" | "java" | "toml" | "julia" => &["\"\"\""],
            _ => &[],
        };
        Self { family, in_comment: false, in_string: None, long_strings }
    }

    /// Splits a line into styled spans.
    pub fn line<'t>(&mut self, line: &'t str, look: &Look<'_>) -> Vec<Span<'t>> {
        if self.family == Family::Diff {
            return vec![Span::styled(line, diff_style(line, look))];
        }
        let mut spans = Vec::new();
        let mut rest = line;
        while !rest.is_empty() {
            let (length, style) = self.piece(rest, look);
            let (piece, left) = rest.split_at(length);
            spans.push(Span::styled(piece, style));
            rest = left;
        }
        spans
    }

    /// Length in bytes (never 0 for text that is not empty) and style of the token at the start of `text`.
    fn piece(&mut self, text: &str, look: &Look<'_>) -> (usize, Style) {
        let theme = look.theme;
        if self.in_comment {
            return match text.find("*/") {
                Some(end) => {
                    self.in_comment = false;
                    (end + 2, theme.comment)
                }
                None => (text.len(), theme.comment),
            };
        }
        if let Some(close) = self.in_string {
            let end = text.find(close).map(|at| at + close.len());
            self.in_string = self.in_string.filter(|_| end.is_none());
            return (end.unwrap_or(text.len()), theme.string);
        }
        if let Some(open) = self.long_strings.iter().find(|open| text.starts_with(**open)) {
            self.in_string = Some(open);
            return (open.len(), theme.string);
        }
        if self.family == Family::Plain {
            return (text.len(), theme.code);
        }
        if self.comment_begins(text) {
            return (text.len(), theme.comment);
        }
        if self.family == Family::C && text.starts_with("/*") {
            self.in_comment = true;
            return (2, theme.comment);
        }
        let first = text.chars().next().unwrap_or(' ');
        match first {
            '"' | '`' => (string_length(text, first), theme.string),
            '\'' => self.quote(text, look),
            _ if first.is_ascii_digit() => {
                (run(text, |c| c.is_ascii_alphanumeric() || c == '.' || c == '_'), theme.number)
            }
            _ if first.is_alphabetic() || first == '_' => {
                let length = run(text, |c| c.is_alphanumeric() || c == '_');
                (length, if self.is_keyword(&text[..length]) { theme.keyword } else { theme.code })
            }
            _ => (first.len_utf8(), theme.code),
        }
    }

    fn comment_begins(&self, text: &str) -> bool {
        match self.family {
            Family::C => text.starts_with("//"),
            Family::Hash => text.starts_with('#'),
            Family::Dashes => text.starts_with("--"),
            Family::Diff | Family::Plain => false,
        }
    }

    /// A single quote starts a string, unless it is a lifetime or an apostrophe.
    fn quote(&self, text: &str, look: &Look<'_>) -> (usize, Style) {
        let length = string_length(text, '\'');
        let closed = length > 1 && text[..length].ends_with('\'');
        let is_char = closed && (self.family != Family::C || length <= 12);
        if is_char { (length, look.theme.string) } else { (1, look.theme.code) }
    }

    fn is_keyword(&self, word: &str) -> bool {
        match self.family {
            Family::C => KEYWORDS_C.contains(&word),
            Family::Hash => KEYWORDS_HASH.contains(&word),
            Family::Dashes => KEYWORDS_SQL.contains(&word.to_ascii_lowercase().as_str()),
            Family::Diff | Family::Plain => false,
        }
    }
}

fn diff_style(line: &str, look: &Look<'_>) -> Style {
    let theme = look.theme;
    match line.as_bytes() {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'd', b'i', b'f', b'f', b' ', ..] => theme.keyword,
        [b'@', b'@', ..] => theme.function,
        [b'+', ..] => theme.added,
        [b'-', ..] => theme.removed,
        _ => theme.code,
    }
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return index + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}
