//! Snapshots of text and styles, in a dark, a light and the high-contrast theme.

use ratatui::style::Style;

use super::*;

pub(super) const THEMES: [&str; 3] = ["dark", "light", "high-contrast"];

/// The rows; then, for each row, the style of each run of cells by a letter and the run's length, without the last run if
/// it has the row's first style `a`; then the styles.
pub(super) fn with_styles(app: &mut App) -> String {
    app.screen();
    let buffer = app.terminal.backend().buffer();
    let (mut styles, mut text, mut runs) = (Vec::<Style>::new(), String::new(), String::new());
    for (number, row) in buffer.content.chunks(usize::from(buffer.area.width)).enumerate() {
        let (mut line, mut found) = (String::new(), Vec::<(usize, usize)>::new());
        for cell in row {
            let style = Style::new().fg(cell.fg).bg(cell.bg).add_modifier(cell.modifier);
            let place = styles.iter().position(|known| *known == style).unwrap_or_else(|| {
                styles.push(style);
                styles.len() - 1
            });
            line.push_str(cell.symbol());
            match found.last_mut().filter(|(last, _)| *last == place) {
                Some((_, count)) => *count += 1,
                None => found.push((place, 1)),
            }
        }
        text.push_str(&format!("|{}\n", line.trim_end()));
        found.pop_if(|(place, _)| *place == 0);
        if !found.is_empty() {
            let found: Vec<_> = found.iter().map(|(place, count)| format!("{}{count}", letter(*place))).collect();
            runs.push_str(&format!("{}: {}\n", number + 1, found.join(" ")));
        }
    }
    text.push_str(&runs);
    for (place, style) in styles.iter().enumerate() {
        let (fg, bg) = (style.fg.unwrap_or_default(), style.bg.unwrap_or_default());
        text.push_str(&format!("{}: {fg} on {bg} {:?}\n", letter(place), style.add_modifier));
    }
    text
}

fn letter(place: usize) -> char {
    char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[place])
}

const ANSWER: &str = "## Why\n\nAir *scatters* `blue`.\n\n> A quote.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n\
    ```rust\nfn main() { println!(\"{}\", 1); } // prints\n```\n\n```diff\n- old\n+ new\n```\n\nSee <https://a.example>.\n";

#[test]
fn an_answer_in_three_themes() {
    in_all_looks!("answer", |app| {
        app.turn("Why is the sky blue?", ANSWER);
    });
}
