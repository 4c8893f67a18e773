//! The signs that the interface draws itself: beautiful where the locale is UTF-8, plain ASCII where it is not.

/// One set of signs. Each takes one cell, except where it says otherwise.
#[derive(Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Stands before what the user wrote.
    pub prompt: &'static str,
    /// Stands before items of a list.
    pub bullet: &'static str,
    /// Says that something is missing.
    pub ellipsis: &'static str,
    /// Between figures.
    pub dot: &'static str,
    /// Something folded, something unfolded.
    pub folded: &'static str,
    /// See `folded`.
    pub unfolded: &'static str,
    /// More above.
    pub up: &'static str,
    /// More below.
    pub down: &'static str,
    /// Down the side of a quotation.
    pub quote_bar: &'static str,
    /// Down the side of code.
    pub code_bar: &'static str,
    /// The same beside the rest of a line that is too long.
    pub code_more: &'static str,
    /// Above the side of code.
    pub code_top: &'static str,
    /// A line across.
    pub rule: &'static str,
    /// The done and the open part of a gauge.
    pub gauge: [&'static str; 2],
    /// Left, line, crossing, right.
    pub table_top: [&'static str; 4],
    /// See `table_top`.
    pub table_middle: [&'static str; 4],
    /// See `table_top`.
    pub table_bottom: [&'static str; 4],
    /// Between columns.
    pub table_bar: &'static str,
    /// Three cells: a task that is done.
    pub task_done: &'static str,
    /// Three cells: a task that is not.
    pub task_open: &'static str,
    /// Before a note, a warning, an error.
    pub note: &'static str,
    /// See `note`.
    pub warning: &'static str,
    /// See `note`.
    pub error: &'static str,
    /// Turns while something is under way.
    pub spinner: &'static [&'static str],
    /// Whether boxes may have round corners.
    pub boxes: bool,
}

/// For locales that have them.
pub const UNICODE: Glyphs = Glyphs {
    prompt: "›",
    bullet: "•",
    ellipsis: "…",
    dot: "·",
    folded: "▸",
    unfolded: "▾",
    up: "↑",
    down: "↓",
    quote_bar: "▎",
    code_bar: "│",
    code_more: "┊",
    code_top: "╭",
    rule: "─",
    gauge: ["━", "─"],
    table_top: ["┌", "─", "┬", "┐"],
    table_middle: ["├", "─", "┼", "┤"],
    table_bottom: ["└", "─", "┴", "┘"],
    table_bar: "│",
    task_done: "[✓]",
    task_open: "[ ]",
    note: "•",
    warning: "!",
    error: "✗",
    spinner: &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"],
    boxes: true,
};

/// For all others.
pub const ASCII: Glyphs = Glyphs {
    prompt: ">",
    bullet: "*",
    ellipsis: "~",
    dot: "-",
    folded: "+",
    unfolded: "-",
    up: "^",
    down: "v",
    quote_bar: "|",
    code_bar: "|",
    code_more: ":",
    code_top: "+",
    rule: "-",
    gauge: ["#", "-"],
    table_top: ["+", "-", "+", "+"],
    table_middle: ["+", "-", "+", "+"],
    table_bottom: ["+", "-", "+", "+"],
    table_bar: "|",
    task_done: "[x]",
    task_open: "[ ]",
    note: "*",
    warning: "!",
    error: "x",
    spinner: &["|", "/", "-", "\\"],
    boxes: false,
};

impl Glyphs {
    /// What the environment's locale can show.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> &'static Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| variable(name)).find(|v| !v.is_empty());
        // No locale at all says nothing about the terminal, and those of today all speak UTF-8.
        match locale.map(|locale| locale.to_ascii_lowercase()) {
            Some(locale) if !locale.contains("utf-8") && !locale.contains("utf8") => &ASCII,
            _ => &UNICODE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides() {
        let set = |value: &'static str| Glyphs::of_environment(move |name| (name == "LANG").then(|| value.to_owned()));
        assert_eq!(set("C"), &ASCII);
        assert_eq!(set("de_DE.UTF-8"), &UNICODE);
        assert_eq!(set(""), &UNICODE);
    }
}
