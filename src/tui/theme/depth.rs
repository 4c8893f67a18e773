//! Reduction of colours to the terminal's colour depth.

use std::fmt;

use ratatui::style::{Color, Style};

/// Colour depth of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorDepth {
    /// No colours (`NO_COLOR`); bold, reverse and other modifiers stay.
    None,
    /// The 16 ANSI colours.
    Ansi,
    /// The 256-colour palette.
    Indexed,
    /// 24-bit RGB.
    True,
}

impl ColorDepth {
    /// From `NO_COLOR`, `TERM` and `COLORTERM`.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let term = variable("TERM").unwrap_or_default();
        if is_set("NO_COLOR") || term == "dumb" || term.is_empty() || term.starts_with("vt") {
            Self::None
        } else if variable("COLORTERM").is_some_and(|value| value == "truecolor" || value == "24bit")
            || term.ends_with("-direct")
        {
            Self::True
        } else if term.contains("256color")
            || ["kitty", "ghostty", "foot", "alacritty"].iter().any(|t| term.contains(t))
        {
            Self::Indexed
        } else {
            Self::Ansi
        }
    }

    /// Whether the 16-colour table of a theme applies, if it has one: without colours its modifiers tell roles apart.
    pub(super) fn is_low(self) -> bool {
        matches!(self, Self::None | Self::Ansi)
    }

    fn color(self, color: Color) -> Option<Color> {
        match (self, color) {
            (Self::None, _) => None,
            (Self::Indexed, Color::Rgb(r, g, b)) => Some(Color::Indexed(to_indexed(r, g, b))),
            (Self::Ansi, Color::Rgb(r, g, b)) => Some(to_ansi(r, g, b)),
            (Self::Ansi, Color::Indexed(index)) if index > 15 => {
                let (r, g, b) = from_indexed(index);
                Some(to_ansi(r, g, b))
            }
            _ => Some(color),
        }
    }

    /// Reduces both colours of `style`.
    pub(super) fn style(self, style: Style) -> Style {
        let reduced = Style {
            fg: style.fg.and_then(|color| self.color(color)),
            bg: style.bg.and_then(|color| self.color(color)),
            ..style
        };
        // Text is invisible if both colours are reduced to the same one: drop both.
        if reduced.fg.is_some() && reduced.fg == reduced.bg { Style { fg: None, bg: None, ..reduced } } else { reduced }
    }
}

impl fmt::Display for ColorDepth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Ansi => "16",
            Self::Indexed => "256",
            Self::True => "true",
        })
    }
}

/// xterm's 6×6×6 cube and grey ramp.
fn to_indexed(r: u8, g: u8, b: u8) -> u8 {
    let nearest = (16..=255).min_by_key(|index| distance(from_indexed(*index), (r, g, b)));
    nearest.unwrap_or(7)
}

fn from_indexed(index: u8) -> (u8, u8, u8) {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    match index {
        0..=15 => ANSI[usize::from(index)].1,
        16..=231 => {
            let cube = usize::from(index - 16);
            (LEVELS[cube / 36], LEVELS[cube / 6 % 6], LEVELS[cube % 6])
        }
        _ => {
            let grey = 8 + 10 * (index - 232);
            (grey, grey, grey)
        }
    }
}

/// xterm's defaults for the 16 colours. Terminals choose others.
const ANSI: [(Color, (u8, u8, u8)); 16] = [
    (Color::Black, (0, 0, 0)),
    (Color::Red, (205, 0, 0)),
    (Color::Green, (0, 205, 0)),
    (Color::Yellow, (205, 205, 0)),
    (Color::Blue, (0, 0, 238)),
    (Color::Magenta, (205, 0, 205)),
    (Color::Cyan, (0, 205, 205)),
    (Color::Gray, (229, 229, 229)),
    (Color::DarkGray, (127, 127, 127)),
    (Color::LightRed, (255, 0, 0)),
    (Color::LightGreen, (0, 255, 0)),
    (Color::LightYellow, (255, 255, 0)),
    (Color::LightBlue, (92, 92, 255)),
    (Color::LightMagenta, (255, 0, 255)),
    (Color::LightCyan, (0, 255, 255)),
    (Color::White, (255, 255, 255)),
];

/// The nearest of the 16 colours; the terminal's default instead of bright black, which is invisible on some palettes.
fn to_ansi(r: u8, g: u8, b: u8) -> Color {
    let nearest = ANSI.iter().min_by_key(|(_, known)| distance(*known, (r, g, b)));
    nearest.map(|(color, _)| *color).filter(|color| *color != Color::DarkGray).unwrap_or(Color::Reset)
}

/// The relative luminance above which black text is more legible than white text.
pub(super) const MIDDLE: f32 = 0.18;

/// Relative luminance, 0 to 1; of the 16 colours as xterm draws them.
pub(super) fn luminance(color: Color) -> f32 {
    let (r, g, b) = match color {
        Color::Rgb(r, g, b) => (r, g, b),
        Color::Indexed(index) => from_indexed(index),
        named => ANSI.iter().find(|(known, _)| *known == named).map_or((0, 0, 0), |(_, rgb)| *rgb),
    };
    let linear = |channel: u8| (f32::from(channel) / 255.0).powf(2.2);
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}

fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> i32 {
    let square = |x: u8, y: u8| (i32::from(x) - i32::from(y)).pow(2);
    square(a.0, b.0) * 2 + square(a.1, b.1) * 4 + square(a.2, b.2) * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_depth_is_read_from_the_environment() {
        let depth = |set: &'static [(&str, &str)]| {
            ColorDepth::of_environment(|name| set.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).into()))
        };
        assert_eq!(depth(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), ColorDepth::None);
        assert_eq!(depth(&[("TERM", "xterm-256color"), ("NO_COLOR", "")]), ColorDepth::Indexed);
        assert_eq!(depth(&[("TERM", "xterm"), ("COLORTERM", "truecolor")]), ColorDepth::True);
        assert_eq!(depth(&[("TERM", "linux")]), ColorDepth::Ansi);
        assert_eq!(depth(&[]), ColorDepth::None);
    }

    #[test]
    fn greys_become_the_default_instead_of_bright_black() {
        let grey = Style::new().fg(Color::Rgb(120, 125, 130)).bg(Color::Indexed(243));
        assert_eq!(ColorDepth::Ansi.style(grey).fg, None, "both colours are the same: neither is set");
        assert_eq!(ColorDepth::Ansi.style(Style::new().fg(Color::Rgb(120, 125, 130))).fg, Some(Color::Reset));
    }
}
