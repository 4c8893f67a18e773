//! Tables as aligned text, as Markdown and as JSON.

use crate::cells::{drawn, pieces, width};
use crate::cli::args::TableFormat;
use crate::sanitize::{json_pretty, sanitize_line};

/// A table whose cells may hold foreign text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Columns that may shrink, in this order: index and minimum width in cells, below which the column is omitted.
    yielding: Vec<(usize, usize)>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), ..Self::default() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<_> = cells.into_iter().map(|cell| sanitize_line(&cell)).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// Lets these columns shrink on a narrow terminal, in this order: name and minimum width in cells, below which the
    /// column is omitted.
    pub fn yielding(mut self, columns: &[(&'static str, usize)]) -> Self {
        let place = |name| self.head.iter().position(|head| *head == name);
        self.yielding = columns.iter().filter_map(|(name, least)| Some((place(*name)?, *least))).collect();
        self
    }

    /// As `render`, with an aligned table shrunk to `columns` cells as far as its yielding columns allow.
    pub fn render_within(&self, columns: Option<usize>, format: TableFormat, json: &serde_json::Value) -> String {
        match columns {
            Some(columns) if format == TableFormat::Table => self.within(columns).aligned(),
            _ => self.render(format, json),
        }
    }

    fn within(&self, columns: usize) -> Self {
        let mut widths: Vec<_> = (0..self.head.len()).map(|column| Some(self.width(column))).collect();
        for (column, least) in &self.yielding {
            let total = widths.iter().flatten().map(|width| width + GAP.len()).sum::<usize>().saturating_sub(GAP.len());
            let Some(width) = widths[*column].filter(|_| total > columns) else { continue };
            let left = width.saturating_sub(total - columns);
            widths[*column] = (left >= self.head[*column].len().max(*least)).then_some(left);
        }
        let kept = |cells: Vec<String>| -> Vec<String> {
            cells.iter().zip(&widths).filter_map(|(cell, width)| width.map(|width| clip(cell, width))).collect()
        };
        let head = self.head.iter().zip(&widths).filter_map(|(head, width)| width.map(|_| *head)).collect();
        Self { head, rows: self.rows.iter().map(|row| kept(row.clone())).collect(), yielding: Vec::new() }
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| width(&row[column]));
        cells.chain([self.head[column].len()]).max().unwrap_or(0)
    }

    /// The table as text, or `json` if the format is JSON.
    pub fn render(&self, format: TableFormat, json: &serde_json::Value) -> String {
        match format {
            TableFormat::Table => self.aligned(),
            TableFormat::Markdown => self.markdown(),
            TableFormat::Json => json_pretty(json) + "\n",
        }
    }

    fn aligned(&self) -> String {
        let widths: Vec<_> = (0..self.head.len()).map(|column| self.width(column)).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let text: Vec<_> = cells.zip(&widths).map(|(cell, column)| pad(cell, *column)).collect();
            format!("{}\n", text.join(GAP).trim_end())
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

/// Separator of two columns.
const GAP: &str = "  ";

/// `cell` as drawn, padded with spaces to `column` cells.
fn pad(cell: &str, column: usize) -> String {
    format!("{}{}", drawn(cell), " ".repeat(column.saturating_sub(width(cell))))
}

/// `cell` cut to `room` cells, with an ellipsis if it was cut.
fn clip(cell: &str, room: usize) -> String {
    if width(cell) <= room {
        return cell.to_owned();
    }
    let (mut clipped, mut taken) = (String::new(), 0);
    for (piece, cells) in pieces(&drawn(cell)) {
        taken += cells;
        if taken >= room {
            break;
        }
        clipped.push_str(piece);
    }
    format!("{}…", clipped.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_shrinks_to_a_narrow_terminal_but_not_for_a_pipe() {
        let mut table = Table::new(&["name", "licence", "about"]).yielding(&[("about", 8), ("licence", 4)]);
        table.row(["llama".into(), "Apache-2.0".into(), "quick answers on a laptop".into()]);
        table.row(["日本".into(), "MIT".into(), "x".into()]);
        let within = |columns| table.render_within(columns, TableFormat::Table, &serde_json::Value::Null);
        assert_eq!(within(None), table.aligned());
        assert_eq!(within(Some(44)), table.aligned());
        assert_eq!(
            within(Some(30)),
            "name   licence     about\nllama  Apache-2.0  quick answ…\n日本   MIT         x\n"
        );
        assert_eq!(within(Some(17)), "name   licence\nllama  Apache-2.0\n日本   MIT\n");
        assert_eq!(within(Some(14)), "name   licence\nllama  Apache…\n日本   MIT\n");
        assert_eq!(within(Some(13)), "name\nllama\n日本\n");
        let markdown = table.render_within(Some(9), TableFormat::Markdown, &serde_json::Value::Null);
        assert!(markdown.contains("laptop"), "{markdown}");
    }

    #[test]
    fn columns_align_by_cell_width_and_cells_are_sanitised() {
        let mut table = Table::new(&["name", "size"]);
        table.row(["日本".into(), "1".into()]);
        table.row(["a|b\x1b[31m\nc".into()]);
        let text = table.render(TableFormat::Table, &serde_json::Value::Null);
        assert_eq!(text, "name   size\n日本   1\na|b c\n");
        let text = table.render(TableFormat::Markdown, &serde_json::Value::Null);
        assert_eq!(text, "| name | size |\n| --- | --- |\n| 日本 | 1 |\n| a\\|b c |  |\n");
    }
}
