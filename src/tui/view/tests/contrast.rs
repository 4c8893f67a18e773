//! The contrast of every cell of real screens, in every theme, on the palettes of real terminals.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use super::*;
use crate::chat::View;
use crate::tui::picker::{Excerpt, Item, Picker};
use crate::tui::theme::{Background, Canvas};

/// Least contrast of text, by WCAG 2.2, 1.4.3.
const TEXT: f64 = 4.5;

/// Least contrast of secondary text, lines and gauges, by WCAG 2.2, 1.4.11.
const SECONDARY: f64 = 3.0;

#[derive(Deserialize)]
struct Palettes {
    terminal: Vec<Palette>,
}

/// A colour as "#rrggbb".
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Hex(Color);

impl TryFrom<String> for Hex {
    type Error = ratatui::style::ParseColorError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

#[derive(Deserialize)]
struct Palette {
    name: String,
    foreground: Hex,
    background: Hex,
    normal: Vec<Hex>,
    bright: Vec<Hex>,
}

fn palettes() -> Vec<Palette> {
    let mut all =
        toml::from_str::<Palettes>(include_str!("../../../../tests/fixtures/palettes.toml")).unwrap().terminal;
    // The lightest dark and the darkest light background on which themes paint none of their own.
    for (name, foreground, background) in [("Zenburn", "#dcdccc", "#3f3f3f"), ("Nord light", "#2e3440", "#eceff4")] {
        let color = |text: &str| Hex(text.parse().unwrap());
        let (normal, bright) = (all[0].normal.clone(), all[0].bright.clone());
        let (foreground, background) = (color(foreground), color(background));
        all.push(Palette { name: name.into(), foreground, background, normal, bright });
    }
    all
}

impl Palette {
    fn rgb(&self, color: Color) -> (u8, u8, u8) {
        const NAMED: [Color; 16] = [
            Color::Black,
            Color::Red,
            Color::Green,
            Color::Yellow,
            Color::Blue,
            Color::Magenta,
            Color::Cyan,
            Color::Gray,
            Color::DarkGray,
            Color::LightRed,
            Color::LightGreen,
            Color::LightYellow,
            Color::LightBlue,
            Color::LightMagenta,
            Color::LightCyan,
            Color::White,
        ];
        let indexed = |index: usize| self.normal.iter().chain(&self.bright).nth(index).map(|color| self.rgb(color.0));
        match color {
            Color::Rgb(r, g, b) => (r, g, b),
            Color::Indexed(index) if index < 16 => indexed(index.into()).unwrap(),
            Color::Indexed(index) if index < 232 => {
                let level = |n: u8| [0, 95, 135, 175, 215, 255][usize::from(n % 6)];
                (level((index - 16) / 36), level((index - 16) / 6), level(index - 16))
            }
            Color::Indexed(index) => [8 + 10 * (index - 232); 3].into(),
            named => indexed(NAMED.iter().position(|known| *known == named).unwrap()).unwrap(),
        }
    }

    /// The contrast of a cell's text, 1 to 21.
    fn contrast(&self, style: Style) -> f64 {
        let or = |color: Option<Color>, default| match color {
            None | Some(Color::Reset) => self.rgb(default),
            Some(color) => self.rgb(color),
        };
        let (a, b) = (luminance(or(style.fg, self.foreground.0)), luminance(or(style.bg, self.background.0)));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn background(&self) -> Background {
        let (r, g, b) = self.rgb(self.background.0);
        Background::of_rgb(r, g, b)
    }
}

/// Relative luminance, by WCAG 2.2.
fn luminance((r, g, b): (u8, u8, u8)) -> f64 {
    let linear = |channel: u8| {
        let value = f64::from(channel) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}

const CODE: &str = "# One\n\nText with `code`, *emphasis*, a [link](https://example.org) and a rule:\n\n---\n\n## Two\n\n\
    > A quote.\n\n- item\n- [ ] task\n\n### Three\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n\
    ```rust\n// comment\nfn main() -> u32 { let s: String = \"text\".into(); 42 }\n```\n\n\
    ```diff\n+ added\n- removed\n```\n";

/// Screens with all parts of the interface, by name.
fn screens() -> Vec<(&'static str, App)> {
    let of = |story: fn(&mut App)| {
        let mut app = App::new(120, 60);
        story(&mut app);
        app
    };
    vec![
        ("welcome", of(|_| {})),
        (
            "transcript",
            of(|app| {
                app.send("Show me everything.").loaded().token(Channel::Reasoning, "Hm.");
                app.press(KeyCode::Char('t'), KeyModifiers::CONTROL);
                app.stream(CODE).finish(FinishReason::Length).idle(120).after(1000);
            }),
        ),
        (
            "running",
            of(|app| {
                app.send("Why?").loaded().stream("Because").type_text("and a\u{301} draft").send("queued");
            }),
        ),
        (
            "help",
            of(|app| {
                app.key(KeyCode::Char('?'));
            }),
        ),
        (
            "download",
            of(|app| {
                app.type_text("Why is").loading(LoadPhase::Download, 42_100_000, Some(98_400_000));
            }),
        ),
        (
            "errors",
            of(|app| {
                app.event(Event::Noted(Note::warning("a warning"))).event(Event::Noted(Note::error("an error")));
                app.send("Why?").loaded();
                let (id, at) = (app.request.unwrap(), app.at());
                let error = EngineError::new(ErrorKind::Failed, "it failed");
                app.engine(EngineEvent::Failed { id, error, at }).event(Event::Hinted("a hint".into()));
            }),
        ),
        (
            "completion",
            of(|app| {
                app.type_text("/");
            }),
        ),
        (
            "panel",
            of(|app| {
                app.turn("Why?", "So.").press(KeyCode::Char('x'), KeyModifiers::CONTROL);
            }),
        ),
        (
            "list",
            of(|app| {
                let item = |id: &str| Item {
                    id: id.into(),
                    title: format!("title {id}"),
                    about: "about".into(),
                    detail: "detail".into(),
                    section: "section".into(),
                    excerpt: Some(Excerpt { text: "an excerpt".into(), hits: vec![0..2, 3..10] }),
                };
                let picker = Picker::new(View::Conversations, "conversations", "Enter opens");
                app.screen.open_list(picker.with_items(vec![item("one"), item("two")]));
                app.type_text("tit");
            }),
        ),
    ]
}

/// Styles, each with whether it is of lines or gauges, and an example.
type Styles = BTreeMap<String, (Style, bool, String)>;

/// The styles of the cells that show something, each with what it was first seen on. `true`: a line or a gauge.
fn styles(screens: &mut [(&'static str, App)], theme: &Theme) -> Styles {
    let mut seen = BTreeMap::new();
    for (name, app) in screens {
        app.screen.set_theme(theme.clone());
        app.screen();
        for cell in &app.terminal.backend().buffer().content {
            let ornament =
                cell.symbol().starts_with(|c| matches!(c, '\u{2500}'..='\u{259f}' | '\u{2800}'..='\u{28ff}'));
            if cell.symbol() == " " {
                continue;
            }
            let mut style = Style::new().fg(cell.fg).bg(cell.bg).add_modifier(cell.modifier);
            if cell.modifier.contains(Modifier::REVERSED) {
                std::mem::swap(&mut style.fg, &mut style.bg);
            }
            let entry = seen.entry(format!("{style:?} {ornament}"));
            let (_, _, example) = entry.or_insert_with(|| (style, ornament, format!("{name}: ")));
            if example.chars().count() < 40 {
                example.push_str(cell.symbol());
            }
        }
    }
    seen
}

/// Reverse video with a default colour swaps the terminal's defaults.
fn resolved(style: Style, palette: &Palette) -> Style {
    let reversed = style.add_modifier.contains(Modifier::REVERSED);
    let (front, back) = if reversed {
        (palette.background.0, palette.foreground.0)
    } else {
        (palette.foreground.0, palette.background.0)
    };
    let or = |color: Option<Color>, default| color.filter(|color| *color != Color::Reset).or(Some(default));
    Style { fg: or(style.fg, front), bg: or(style.bg, back), ..style }
}

/// The colours of secondary text that no other text has.
fn is_secondary(style: Style, theme: &Theme) -> bool {
    let primary = [theme.text, theme.placeholder, theme.status, theme.reasoning, theme.quote, theme.hint];
    [theme.dim, theme.comment].iter().any(|role| role.fg == style.fg) && primary.iter().all(|role| role.fg != style.fg)
}

#[test]
fn text_is_legible_in_every_theme_on_every_palette() {
    let (mut screens, palettes) = (screens(), palettes());
    assert!(palettes.len() >= 12);
    let mut faults = Vec::new();
    for name in Theme::names(Path::new("")).into_iter().map(|theme| theme.name) {
        for depth in [ColorDepth::True, ColorDepth::Indexed, ColorDepth::Ansi, ColorDepth::None] {
            let mut drawn: Vec<(Theme, Styles)> = Vec::new();
            for palette in &palettes {
                for background in [Some(palette.background()), None] {
                    let theme = Theme::load_on(&name, Path::new(""), Canvas { depth, background }).unwrap();
                    if drawn.iter().all(|(known, _)| *known != theme) {
                        drawn.push((theme.clone(), styles(&mut screens, &theme)));
                    }
                    let (_, styles) = drawn.iter().find(|(known, _)| *known == theme).unwrap();
                    for (style, ornament, example) in styles.values() {
                        let least = if *ornament || is_secondary(*style, &theme) { SECONDARY } else { TEXT };
                        // The terminal's own colours are as legible as the user wants them.
                        let plain = [style.fg, style.bg].iter().all(|color| matches!(color, None | Some(Color::Reset)));
                        let contrast = palette.contrast(resolved(*style, palette));
                        let least = if plain { least.min(palette.contrast(Style::new())) } else { least };
                        if contrast < least - 0.005 {
                            let known = if background.is_some() { "known" } else { "unknown" };
                            faults.push(format!(
                                "{name} at {depth} on {} ({known}): {contrast:.2} < {least:.2} {:?} on {:?}: {example}",
                                palette.name, style.fg, style.bg
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
