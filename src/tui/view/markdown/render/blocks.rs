//! Lines of blocks: blank lines between them, prefixes of quotations and items, wrapping, tables, code and links.

use super::*;

impl Writer<'_> {
    pub(super) fn begin_block(&mut self) {
        self.flush();
        if let Some(carry) = self.given.carry.take() {
            self.push(carry);
        }
        if self.gap {
            // The blank line keeps quotation bars, but does not take the marker of an item that has no line yet.
            let blank = if self.begins_item() { Vec::new() } else { self.prefix() };
            self.lines.push(Line::from(blank));
        }
        self.gap = false;
    }

    pub(super) fn begins_item(&self) -> bool {
        matches!(self.containers.last(), Some(Container::Item { marker: Some(_), .. }))
    }

    pub(super) fn end_block(&mut self) {
        self.flush();
        let open = std::mem::take(&mut self.tags).len();
        self.styles.truncate(self.styles.len().saturating_sub(open));
        self.gap = true;
    }

    pub(super) fn rule(&mut self) {
        self.begin_block();
        let room = self.room().min(40);
        self.push(vec![Span::styled(self.look.glyphs.rule.repeat(room), self.look.theme.border)]);
        self.gap = true;
    }

    pub(super) fn end_code(&mut self, range: Range<usize>) {
        let Some((mut fence, code)) = self.code.take() else { return };
        let room = self.room();
        let mut lines = fence.label(room, self.look);
        for line in code.lines() {
            lines.extend(fence.line(line, room, self.look));
        }
        for line in lines {
            self.push(line.spans);
        }
        let base = self.given.base;
        let code = code.lines().collect::<Vec<_>>().join("\n");
        self.blocks.push((base + range.start..base + range.end, fence.language().to_owned(), code));
        self.gap = true;
    }

    pub(super) fn new_row(&mut self) {
        if let Some(table) = &mut self.table {
            table.rows.push(Vec::new());
        }
    }

    pub(super) fn end_cell(&mut self) {
        let cell = std::mem::take(&mut self.spans);
        if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
            row.push(cell);
        }
    }

    /// Appends cells beyond the header's columns to the last cell, as written: the parser drops them.
    pub(super) fn end_row(&mut self, end: usize) {
        let surplus = self.source.text.get(self.cell_end..end).unwrap_or_default();
        let surplus = surplus.trim_matches(|c: char| c == '|' || c.is_whitespace());
        let row = self.table.as_mut().and_then(|table| table.rows.last_mut());
        if let Some(cell) = row.and_then(|row| row.last_mut()).filter(|_| !surplus.is_empty()) {
            cell.push(Span::raw(format!(" | {surplus}")));
        }
    }

    pub(super) fn end_table(&mut self) {
        let Some(table) = self.table.take() else { return };
        for line in table.draw(self.room(), self.look) {
            self.push(line.spans);
        }
        self.gap = true;
    }

    pub(super) fn end_link(&mut self) {
        self.styles.pop();
        let Some((url, title, from)) = self.link.take() else { return };
        let text: String = self.spans.iter().skip(from).map(|span| &*span.content).collect();
        if !url.is_empty() && text != url && format!("mailto:{text}") != url {
            let title = if title.is_empty() { title } else { format!(" \"{title}\"") };
            let dim = self.look.theme.dim;
            self.inline(" (", dim);
            self.inline(&url, linked(dim, &url));
            self.inline(&format!("{title})"), dim);
        }
    }

    /// Width of prose, in cells.
    pub(super) fn measure(&self) -> usize {
        let beside = self.given.width.saturating_sub(self.room());
        self.room().min(MEASURE.saturating_sub(beside).max(MEASURE / 2))
    }

    /// Width left beside the prefixes, in cells.
    pub(super) fn room(&self) -> usize {
        let taken: usize = self
            .containers
            .iter()
            .map(|container| match container {
                Container::Quote => 2,
                Container::List { .. } => 0,
                Container::Item { indent, .. } => *indent,
            })
            .sum();
        self.given.width.saturating_sub(taken).max(1)
    }

    /// The prefix of the next line. Takes an item's marker, so that it appears once.
    pub(super) fn prefix(&mut self) -> Vec<Span<'static>> {
        let (theme, glyphs) = (self.look.theme, self.look.glyphs);
        let mut spans = Vec::new();
        for container in &mut self.containers {
            match container {
                Container::Quote => spans.push(Span::styled(format!("{} ", glyphs.quote_bar), theme.quote)),
                Container::List { .. } => {}
                Container::Item { marker, indent, .. } => spans.push(match marker.take() {
                    Some(marker) => Span::styled(marker, theme.marker),
                    None => Span::raw(" ".repeat(*indent)),
                }),
            }
        }
        spans
    }

    pub(super) fn push(&mut self, spans: Vec<Span<'static>>) {
        let mut line = self.prefix();
        line.extend(spans);
        self.lines.push(Line::from(line));
    }

    /// Writes the collected spans as wrapped lines.
    pub(super) fn flush(&mut self) {
        if self.spans.is_empty() || self.table.is_some() {
            return;
        }
        let mut spans = std::mem::take(&mut self.spans);
        // The final newline of an HTML block must not add a blank line.
        if let Some(last) = spans.last_mut().filter(|last| last.content.ends_with('\n')) {
            last.content.to_mut().pop();
        }
        if self.gap {
            self.gap = false;
            self.lines.push(Line::default());
        }
        for line in wrap::wrap(&spans, self.measure()) {
            self.push(line);
        }
    }
}
