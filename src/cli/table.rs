//! Rows for people (aligned), for documents (Markdown) and for programs (JSON).

use unicode_width::UnicodeWidthStr;

use super::args::TableFormat;
use crate::sanitize::sanitize_line;

/// A table whose cells may hold foreign text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<_> = cells.into_iter().map(|cell| sanitize_line(&cell)).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// The text of the table, or of `json` where that is wanted.
    pub fn render(&self, format: TableFormat, json: &serde_json::Value) -> String {
        match format {
            TableFormat::Table => self.aligned(),
            TableFormat::Markdown => self.markdown(),
            TableFormat::Json => format!("{json:#}\n"),
        }
    }

    fn aligned(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].width());
            cells.chain([self.head[column].width()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let text: Vec<_> =
                cells.zip(&widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width()))).collect();
            format!("{}\n", text.join("  ").trim_end())
        };
        let mut out = line(&mut self.head.iter().copied());
        out.extend(self.rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
        out
    }

    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.head.iter().map(|cell| (*cell).to_owned()).collect());
        out += &line(vec!["---".to_owned(); self.head.len()]);
        out.extend(self.rows.iter().map(|row| line(row.iter().map(|cell| cell.replace('|', "\\|")).collect())));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_screen_width_and_cells_cannot_break_out() {
        let mut table = Table::new(&["name", "size"]);
        table.row(["日本".into(), "1".into()]);
        table.row(["a|b\x1b[31m\nc".into()]);
        let text = table.render(TableFormat::Table, &serde_json::Value::Null);
        assert_eq!(text, "name   size\n日本   1\na|b c\n");
        let text = table.render(TableFormat::Markdown, &serde_json::Value::Null);
        assert_eq!(text, "| name | size |\n| --- | --- |\n| 日本 | 1 |\n| a\\|b c |  |\n");
    }
}
