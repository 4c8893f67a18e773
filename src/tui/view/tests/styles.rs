//! Snapshots with the styles of each run of cells, in a dark, a light and the high-contrast theme.

use ratatui::style::Style;

use super::*;

/// Each row, and below it a letter for the style of each cell; the styles are listed at the end.
fn with_styles(app: &mut App) -> String {
    app.screen();
    let buffer = app.terminal.backend().buffer();
    let (mut styles, mut text) = (Vec::<Style>::new(), String::new());
    for row in buffer.content.chunks(usize::from(buffer.area.width)) {
        let (mut line, mut letters) = (String::new(), String::new());
        for cell in row {
            let style = Style::new().fg(cell.fg).bg(cell.bg).add_modifier(cell.modifier);
            let place = styles.iter().position(|known| *known == style).unwrap_or_else(|| {
                styles.push(style);
                styles.len() - 1
            });
            line.push_str(cell.symbol());
            letters.push(char::from(b'a' + u8::try_from(place).unwrap()));
        }
        text.push_str(&format!("{}\n{}\n", line.trim_end(), letters));
    }
    for (place, style) in (0u8..).zip(styles) {
        let (fg, bg) = (style.fg.unwrap_or_default(), style.bg.unwrap_or_default());
        text.push_str(&format!("{}: {fg} on {bg} {:?}\n", char::from(b'a' + place), style.add_modifier));
    }
    text
}

const ANSWER: &str = "## Why\n\nAir *scatters* `blue`.\n\n> A quote.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n";

#[test]
fn an_answer_in_three_themes() {
    for theme in ["dark", "light", "high-contrast"] {
        let mut app = App::with(60, 20, theme, &UNICODE);
        app.turn("Why is the sky blue?", ANSWER);
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(format!("styles_{theme}"), with_styles(&mut app));
        });
    }
}
