//! Glyphs of the interface: Unicode in a UTF-8 locale, ASCII in any other.

/// A set of glyphs, each one cell wide unless noted.
#[derive(Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Before the user's text.
    pub prompt: &'static str,
    /// Before a list item.
    pub bullet: &'static str,
    /// Marks cut text.
    pub ellipsis: &'static str,
    /// Between figures.
    pub dot: &'static str,
    /// Before folded reasoning.
    pub folded: &'static str,
    /// Before unfolded reasoning.
    pub unfolded: &'static str,
    /// More lines above.
    pub up: &'static str,
    /// More lines below.
    pub down: &'static str,
    /// Left of each line of a quotation.
    pub quote_bar: &'static str,
    /// Left of each line of code.
    pub code_bar: &'static str,
    /// Left of the continuation of a wrapped code line.
    pub code_more: &'static str,
    /// Left of a code block's label.
    pub code_top: &'static str,
    /// Horizontal rule.
    pub rule: &'static str,
    /// The completed and the remaining part of a gauge.
    pub gauge: [&'static str; 2],
    /// Bars of a chart, lowest first.
    pub spark: [&'static str; 8],
    /// Left, line, crossing, right.
    pub table_top: [&'static str; 4],
    /// See `table_top`.
    pub table_middle: [&'static str; 4],
    /// See `table_top`.
    pub table_bottom: [&'static str; 4],
    /// Between columns.
    pub table_bar: &'static str,
    /// Three cells: a completed task.
    pub task_done: &'static str,
    /// Three cells: an open task.
    pub task_open: &'static str,
    /// Before an informational note.
    pub note: &'static str,
    /// Before a warning.
    pub warning: &'static str,
    /// Before an error.
    pub error: &'static str,
    /// Frames of the progress animation.
    pub spinner: &'static [&'static str],
    /// Whether frames are drawn with box-drawing characters.
    pub boxes: bool,
}

/// For UTF-8 locales.
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
    spark: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
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

/// For all other locales.
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
    spark: ["_", ".", ":", "-", "=", "+", "*", "#"],
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
    /// The set for the locale in `LC_ALL`, `LC_CTYPE` or `LANG`.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> &'static Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| variable(name)).find(|v| !v.is_empty());
        // Without a locale assume UTF-8: current terminals support it.
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
    fn glyphs_follow_the_locale() {
        let set = |value: &'static str| Glyphs::of_environment(move |name| (name == "LANG").then(|| value.to_owned()));
        assert_eq!(set("C"), &ASCII);
        assert_eq!(set("de_DE.UTF-8"), &UNICODE);
        assert_eq!(set(""), &UNICODE);
    }
}
