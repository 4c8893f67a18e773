//! A small writer of SVG: rectangles, lines and texts in the colours of a light or a dark page.

use std::fmt::Write;

use crate::sanitize::sanitize_line;

/// Colours of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Part of the file's name.
    pub name: &'static str,
    background: &'static str,
    text: &'static str,
    grid: &'static str,
    series: [&'static str; 8],
}

/// A light and a dark page.
pub const PALETTES: [Palette; 2] = [
    Palette {
        name: "light",
        background: "#ffffff",
        text: "#1f2328",
        grid: "#d1d9e0",
        series: ["#0969da", "#bf5700", "#1a7f37", "#8250df", "#0a7d91", "#a40e26", "#7d6200", "#6e7781"],
    },
    Palette {
        name: "dark",
        background: "#0d1117",
        text: "#e6edf3",
        grid: "#30363d",
        series: ["#58a6ff", "#f0883e", "#56d364", "#bc8cff", "#39c5cf", "#ff7b72", "#e3b341", "#8b949e"],
    },
];

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that is being written. Coordinates are pixels from the upper left corner.
pub(super) struct Svg {
    palette: Palette,
    size: (f64, f64),
    title: String,
    body: String,
}

impl Svg {
    pub fn new(palette: Palette, width: f64, height: f64, title: &str) -> Self {
        Self { palette, size: (width, height), title: escape(title), body: String::new() }
    }

    /// A filled rectangle in the colour of a series.
    pub fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, series: usize) {
        let colour = self.colour(series);
        self.put(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    /// A thin line of the grid.
    pub fn rule(&mut self, from: (f64, f64), to: (f64, f64)) {
        let grid = self.palette.grid;
        self.put(&format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{grid}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// A line through points in the colour of a series.
    pub fn curve(&mut self, points: &[(f64, f64)], series: usize) {
        let places: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let colour = self.colour(series);
        self.put(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            places.join(" ")
        ));
    }

    /// Foreign text on one line.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.put(&format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>", at.0, at.1));
    }

    /// Names of series with their colours, side by side below `y`; returns the height that they take.
    pub fn legend(&mut self, x: f64, y: f64, names: &[(usize, &str)]) -> f64 {
        let (mut at, mut row) = (x, 0.0);
        for (series, name) in names {
            let width = 30.0 + 7.0 * name.chars().count() as f64;
            if at + width > self.size.0 {
                (at, row) = (x, row + 20.0);
            }
            self.bar(at, y + row, 12.0, 12.0, *series);
            self.text((at + 18.0, y + row + 11.0), Anchor::Start, name);
            at += width;
        }
        row + 20.0
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let ((width, height), palette) = (self.size, self.palette);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{}\">\n\
             <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n\
             <text x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"600\">{title}</text>\n{}</svg>\n",
            palette.text,
            palette.background,
            self.body,
            title = self.title,
        )
    }

    fn colour(&self, series: usize) -> &'static str {
        self.palette.series[series % self.palette.series.len()]
    }

    fn put(&mut self, element: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// Foreign text as the content of an element or attribute.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in sanitize_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_leave_its_element() {
        let mut svg = Svg::new(PALETTES[0], 100.0, 50.0, "a & b");
        svg.text((1.0, 2.0), Anchor::Start, "</text><script>\"x\"</script>\x1b[31m'");
        let text = svg.finish();
        assert!(text.contains("&lt;/text&gt;&lt;script&gt;&quot;x&quot;&lt;/script&gt;&#39;"), "{text}");
        assert!(text.contains("<title>a &amp; b</title>") && !text.contains('\x1b'), "{text}");
    }
}
