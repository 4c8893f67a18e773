//! Renders the pictures of the README: real screens, cell by cell, as SVG.
//!
//! `cargo test --release --test it screenshot -- --ignored` rewrites assets/*.svg. The first picture shows the starter
//! model, the others a scripted one.

use std::fmt::Write;

use crate::support::{cache_dir, starter_model};
use crate::support_pty::{Home, Tui};

const COLUMNS: u16 = 92;
const ROWS: u16 = 30;

/// Width of a picture with a preview or a panel.
const WIDE: u16 = 124;

/// Width and height of a cell in SVG units.
const CELL: (f64, f64) = (8.4, 18.0);

#[test]
#[ignore = "writes assets/screenshot.svg; needs a release build and an idle machine"]
fn write_readme_screenshot() {
    let home = Home::new("");
    starter_model();
    let mut command = home.command(&["-m", "smollm2-135m", "--temperature", "0", "--idle-window", "2m"]);
    command.env("CHATNAP_CACHE_DIR", cache_dir());
    command.env("COLORTERM", "truecolor");
    let mut tui = Tui::spawn(command, COLUMNS, ROWS);
    tui.wait_for("Ask anything");
    tui.send("Why is the sky blue? Answer in one sentence.").wait_for("releases in");
    tui.send("Write a Python function that adds two numbers.")
        .wait_until("the second answer's figures", |screen| screen.contents().matches("tok/s").count() == 2);
    tui.wait_for("releases in");
    write_picture("screenshot", &tui, COLUMNS);
}

#[test]
#[ignore = "writes assets/tour-*.svg"]
fn write_readme_tour() {
    let home = Home::new(TOUR);
    let start = |arguments: &[&str], columns| {
        let mut command = home.command(arguments);
        command.env("COLORTERM", "truecolor");
        let mut tui = Tui::spawn(command, columns, ROWS);
        tui.wait_for("Ask anything");
        tui
    };
    let ask = |tui: &mut Tui, prompt: &str, end: &str| {
        tui.send(prompt).wait_for(end).wait_for("releases in");
    };
    let mut tui = start(&["--idle-window", "90s"], COLUMNS);
    ask(&mut tui, "Compare the three sorts, with code for one.", "left + right");
    write_picture("tour-answer", &tui, COLUMNS);
    for (prompt, end) in [("Why do cats purr?", "soothe"), ("Plan three days in Lisbon.", "Sintra")] {
        tui.type_text("/new\r").wait_until_gone("releases in");
        ask(&mut tui, prompt, end);
    }
    tui.type_text("/edit 1\r").wait_for("Ctrl-C").type_text("\x15");
    ask(&mut tui, "Plan three days in Porto.", "Douro");
    tui.type_text("/branch\r").wait_for("Enter shows the branch");
    write_picture("tour-branches", &tui, COLUMNS);
    tui.type_text("\x1b").wait_until_gone("Enter shows the branch").type_text("/quit\r");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = start(&["--idle-window", "3s"], WIDE);
    tui.type_text("\x13").wait_for("Ctrl-R renames").wait_for("Douro");
    write_picture("tour-conversations", &tui, WIDE);
    tui.type_text("sort")
        .wait_for("merge sort")
        .wait_for("Quicksort")
        .type_text("\r")
        .wait_for("Compare the three sorts, with code for one.")
        .wait_until_gone("Ctrl-R renames");
    ask(&mut tui, "And which is stable?", "order of equal");
    tui.wait_for("cold");
    ask(&mut tui, "Why do cats purr?", "soothe");
    tui.type_text("/stats\r").wait_for("always on would be");
    write_picture("tour-panel", &tui, WIDE);
    tui.type_text("/stats\r").wait_until_gone("always on would be").wait_for("cold");
    write_picture("tour-release", &tui, WIDE);
}

fn write_picture(name: &str, tui: &Tui, columns: u16) {
    let path = format!("{}/assets/{name}.svg", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(path, picture_of(&tui.screen(), columns, ROWS)).unwrap();
}

/// The scripted model of the tour.
const TOUR: &str = r#"
load_ms = 300
token_ms = 6
ballast_mib = 120
fallback = "You said: {user}"

[[answer]]
when = "three sorts"
text = """
| algorithm | average | worst | stable |
|---|---|---|---|
| Quicksort | n log n | n² | no |
| merge sort | n log n | n log n | **yes** |
| insertion sort | n² | n² | **yes** |

For few elements *insertion sort* is the fastest, since `O(n²)` hides small constants. A merge sort:

```python
def merge_sort(items):
    if len(items) < 2:
        return items
    middle = len(items) // 2
    left, right = merge_sort(items[:middle]), merge_sort(items[middle:])
    merged = []
    while left and right:  # take the smaller head
        merged.append((left if left[0] <= right[0] else right).pop(0))
    return merged + left + right
```
"""

[[answer]]
when = "stable"
text = "Merge sort and insertion sort: both keep the **order of equal** elements."

[[answer]]
when = "purr"
text = "They purr when they are content, and also to *soothe* themselves."

[[answer]]
when = "Lisbon"
text = """
1. **Alfama** and the castle, with tram 28.
2. **Belém**: the tower, the monastery, the pastry.
3. **Sintra**, by train.
"""

[[answer]]
when = "Porto"
text = """
1. **Ribeira** and the bridge of Dom Luís.
2. The cellars of **Gaia**.
3. The **Douro** valley, by train.
"""
"#;

#[test]
fn svg_places_every_character_at_its_cell() {
    let mut parser = vt100::Parser::new(2.try_into().unwrap(), 20.try_into().unwrap(), 0);
    parser.process("a <b> \x1b[31mrot\x1b[m 日本 & e\u{301}".as_bytes());
    let picture = picture_of(parser.screen(), 20, 2);
    assert!(picture.contains("&lt;b&gt;") && picture.contains("&amp;"), "{picture}");
    // The second wide character is two cells after the first.
    let place = |text: &str| {
        let end = picture.find(&format!(">{text}</text>")).unwrap();
        let begin = picture[..end].rfind("x=\"").unwrap() + 3;
        picture[begin..].split('"').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((place("本") - place("日") - 2.0 * CELL.0).abs() < 0.01, "{picture}");
    assert!(picture.contains("e\u{301}"));
}

/// Adjacent cells with the same style.
struct Run {
    column: u16,
    cells: u16,
    text: String,
    look: (String, Option<String>, bool, bool, bool),
}

fn picture_of(screen: &vt100::Screen, columns: u16, rows: u16) -> String {
    let (width, height) = (f64::from(columns) * CELL.0 + 24.0, f64::from(rows) * CELL.1 + 24.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#16181d\"/>\n\
         <g font-family=\"'JetBrains Mono','DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"14\" \
         xml:space=\"preserve\">\n"
    );
    for row in 0..rows {
        for run in runs(screen, row, columns) {
            draw(&mut svg, row, &run);
        }
    }
    svg + "</g>\n</svg>\n"
}

fn runs(screen: &vt100::Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column).filter(|cell| !cell.is_wide_continuation()) else { continue };
        let (mut fg, mut bg) = (color(cell.fgcolor()), color(cell.bgcolor()));
        if cell.inverse() {
            let (text, ground) = (fg.take(), bg.take());
            fg = ground.or_else(|| Some("#16181d".into()));
            bg = text.or_else(|| Some("#d7dae0".into()));
        }
        let look = (fg.unwrap_or_else(|| "#d7dae0".into()), bg, cell.bold(), cell.italic(), cell.underline());
        let text = if cell.has_contents() { cell.contents() } else { " " };
        let cells = if cell.is_wide() { 2 } else { 1 };
        // A wide character gets its own `<text>`: in the viewer's font its glyph is rarely two cells wide.
        match runs
            .last_mut()
            .filter(|run| run.look == look && cells == 1 && run.cells == run.text.chars().count() as u16)
        {
            Some(run) => {
                run.text.push_str(text);
                run.cells += 1;
            }
            None => runs.push(Run { column, cells, text: text.to_owned(), look }),
        }
    }
    runs
}

fn draw(svg: &mut String, row: u16, run: &Run) {
    let (x, y) = (12.0 + f64::from(run.column) * CELL.0, 12.0 + f64::from(row) * CELL.1);
    let width = f64::from(run.cells) * CELL.0;
    let (fg, bg, bold, italic, underline) = &run.look;
    if let Some(bg) = bg {
        writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{bg}\"/>", CELL.1)
            .unwrap();
    }
    if run.text.trim().is_empty() {
        return;
    }
    let mut style = String::new();
    for (on, attribute) in [
        (*bold, " font-weight=\"bold\""),
        (*italic, " font-style=\"italic\""),
        (*underline, " text-decoration=\"underline\""),
    ] {
        style.push_str(if on { attribute } else { "" });
    }
    let text = run.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let baseline = y + CELL.1 - 5.0;
    writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{baseline:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{fg}\"{style}>{text}</text>"
    )
    .unwrap();
}

fn color(color: vt100::Color) -> Option<String> {
    const ANSI: [&str; 16] = [
        "#1e2127", "#e06c75", "#98c379", "#d19a66", "#61afef", "#c678dd", "#56b6c2", "#abb2bf", "#6b7280", "#ff7b86",
        "#b5e08c", "#e9c46a", "#7cc4ff", "#de94f0", "#70d5e0", "#ffffff",
    ];
    match color {
        vt100::Color::Default => None,
        vt100::Color::Rgb(r, g, b) => Some(format!("#{r:02x}{g:02x}{b:02x}")),
        vt100::Color::Idx(index @ 0..=15) => Some(ANSI[usize::from(index)].to_owned()),
        vt100::Color::Idx(index @ 16..=231) => {
            const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
            let cube = usize::from(index - 16);
            let (r, g, b) = (LEVELS[cube / 36], LEVELS[cube / 6 % 6], LEVELS[cube % 6]);
            Some(format!("#{r:02x}{g:02x}{b:02x}"))
        }
        vt100::Color::Idx(index) => {
            let grey = 8 + 10 * (index - 232);
            Some(format!("#{grey:02x}{grey:02x}{grey:02x}"))
        }
    }
}
