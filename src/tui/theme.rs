//! Themes: colours by role, from `themes/*.toml` (compiled in) and the user's own folder; `inherits` takes the other
//! roles from another theme. Colours are reduced to the terminal's colour depth.

use std::fmt;
use std::path::Path;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use crate::files;

const BUILT_IN: &[(&str, &str)] = &[
    ("dark", include_str!("../../themes/dark.toml")),
    ("light", include_str!("../../themes/light.toml")),
    ("high-contrast", include_str!("../../themes/high-contrast.toml")),
];

/// Maximum length of a chain of `inherits`.
const LONGEST_CHAIN: usize = 8;

/// Maximum size of a theme file, in bytes.
const LARGEST_FILE: u64 = 256 * 1024;

macro_rules! roles {
    ($($(#[$doc:meta])* $role:ident),* $(,)?) => {
        /// A style for each role of a screen element.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Theme { $($(#[$doc])* pub $role: Style,)* }

        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Roles { $(#[serde(default)] $role: Option<RoleStyle>,)* }

        impl Theme {
            fn apply(&mut self, roles: &Roles) {
                $(if let Some(style) = &roles.$role { self.$role = style.to_style(); })*
            }

            fn map(&self, f: impl Fn(Style) -> Style) -> Self {
                Self { $($role: f(self.$role),)* }
            }
        }
    };
}

roles! {
    /// Ordinary text, and the background of the whole screen.
    text,
    /// Secondary text: figures under an answer, borders' titles, hints.
    dim,
    /// Emphasised text: prompt marks, keys, selected entries.
    accent,
    /// The user's messages.
    user,
    /// The model's reasoning.
    reasoning,
    /// First-level headings.
    heading,
    /// Second-level headings.
    heading2,
    /// Headings of the third level and below.
    heading3,
    /// Inline code and code blocks.
    code,
    /// Keywords in code.
    keyword,
    /// String literals in code.
    string,
    /// Comments in code.
    comment,
    /// Numbers in code.
    number,
    /// Types in code.
    r#type,
    /// Names of functions and macros in code.
    function,
    /// Added lines of a diff.
    added,
    /// Removed lines of a diff.
    removed,
    link,
    quote,
    /// List markers.
    marker,
    /// Rules and table lines.
    border,
    /// Frames of the composer and the help.
    border_active,
    /// The hint in an empty composer.
    placeholder,
    /// The status line.
    status,
    /// The completed part of a gauge.
    gauge,
    /// The remaining part of a gauge.
    gauge_rest,
    /// Good states: warm, released.
    success,
    /// Messages in the status line that are neither a success nor a problem.
    hint,
    warning,
    error,
    /// The selected entry of a list.
    selection,
    /// The letters of an entry or an excerpt that a search matched.
    r#match,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThemeFile {
    inherits: Option<String>,
    #[serde(default)]
    roles: Roles,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RoleStyle {
    fg: Option<ThemeColor>,
    bg: Option<ThemeColor>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    reverse: bool,
    strike: bool,
}

#[derive(Clone, Copy, Debug)]
struct ThemeColor(Color);

impl<'de> Deserialize<'de> for ThemeColor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = if name == "default" { Some(Color::Reset) } else { name.parse().ok() };
        known.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{name:?} is not a colour: use a name (red, light-blue, dark-gray, …), \"#rrggbb\", a number from 0 to \
                 255, or \"default\""
            ))
        })
    }
}

impl RoleStyle {
    fn to_style(&self) -> Style {
        let modifiers = [
            (self.bold, Modifier::BOLD),
            (self.dim, Modifier::DIM),
            (self.italic, Modifier::ITALIC),
            (self.underline, Modifier::UNDERLINED),
            (self.reverse, Modifier::REVERSED),
            (self.strike, Modifier::CROSSED_OUT),
        ];
        let set = modifiers.into_iter().filter(|(on, _)| *on).fold(Modifier::empty(), |all, (_, one)| all | one);
        Style { fg: self.fg.map(|color| color.0), bg: self.bg.map(|color| color.0), ..Style::new() }.add_modifier(set)
    }
}

/// Why a theme cannot be used: file, line, key and reason. May quote unsanitised text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ThemeError(pub String);

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

    fn style(self, style: Style) -> Style {
        let reduced = Style {
            fg: style.fg.and_then(|color| self.color(color)),
            bg: style.bg.and_then(|color| self.color(color)),
            ..style
        };
        // Text is invisible if both colours are reduced to the same one: drop both.
        if reduced.fg.is_some() && reduced.fg == reduced.bg { Style { fg: None, bg: None, ..reduced } } else { reduced }
    }
}

impl Theme {
    /// Loads the theme `name`: the user's file `folder/NAME.toml` takes precedence over the built-in theme.
    pub fn load(name: &str, folder: &Path, depth: ColorDepth) -> Result<Self, ThemeError> {
        let mut theme = Self::default();
        let mut chain = Vec::new();
        let mut next = Some(name.to_owned());
        while let Some(name) = next {
            if chain.len() == LONGEST_CHAIN {
                return Err(ThemeError(format!("theme {name}: `inherits` goes round in circles or too deep")));
            }
            let own_name_again = chain.iter().any(|(earlier, _)| *earlier == name);
            // A user's `dark` may inherit the built-in `dark`.
            let (label, text) = source(&name, folder, own_name_again)?;
            let file = parse(&label, &text)?;
            next = file.inherits.clone();
            chain.push((name, file));
        }
        for (_, file) in chain.iter().rev() {
            theme.apply(&file.roles);
        }
        Ok(theme.map(|style| depth.style(style)))
    }

    /// The built-in dark theme; never fails.
    pub fn fallback(depth: ColorDepth) -> Self {
        Self::load("dark", Path::new(""), depth).unwrap_or_default()
    }

    /// Names of the built-in themes, then of the files in `folder`.
    pub fn names(folder: &Path) -> Vec<String> {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let own = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".toml")?.to_owned()));
        let mut names: Vec<_> = own.filter(|name| Self::built_in_names().all(|known| known != name)).collect();
        names.sort();
        Self::built_in_names().map(str::to_owned).chain(names).collect()
    }

    /// Names of the built-in themes.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }
}

fn source(name: &str, folder: &Path, built_in_only: bool) -> Result<(String, String), ThemeError> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    let path = folder.join(format!("{name}.toml"));
    if plain && !built_in_only && !folder.as_os_str().is_empty() {
        match files::read_text(&path, LARGEST_FILE) {
            Ok(text) => return Ok((path.display().to_string(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ThemeError(format!("{}: {error}", path.display()))),
        }
    }
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
    built_in.map(|(name, text)| (format!("themes/{name}.toml"), (*text).to_owned())).ok_or_else(|| {
        let known: Vec<_> = Theme::built_in_names().collect();
        ThemeError(format!(
            "there is no theme {name:?}; there are {}, and files in {}",
            known.join(", "),
            folder.display()
        ))
    })
}

fn parse(label: &str, text: &str) -> Result<ThemeFile, ThemeError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        ThemeError(format!("{label}:{}: {key}{}", line + 1, error.message()))
    })
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

/// xterm's defaults for the 16 colours.
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

fn to_ansi(r: u8, g: u8, b: u8) -> Color {
    let nearest = ANSI.iter().min_by_key(|(_, known)| distance(*known, (r, g, b)));
    nearest.map_or(Color::Reset, |(color, _)| *color)
}

fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> i32 {
    let square = |x: u8, y: u8| (i32::from(x) - i32::from(y)).pow(2);
    square(a.0, b.0) * 2 + square(a.1, b.1) * 4 + square(a.2, b.2) * 3
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_theme_loads_at_every_depth() {
        for name in Theme::built_in_names() {
            for depth in [ColorDepth::None, ColorDepth::Ansi, ColorDepth::Indexed, ColorDepth::True] {
                let theme = Theme::load(name, Path::new(""), depth).unwrap();
                assert_ne!(theme, Theme::default(), "{name} at {depth}");
            }
        }
    }

    #[test]
    fn no_color_removes_colours_and_keeps_modifiers() {
        let theme = Theme::load("dark", Path::new(""), ColorDepth::None).unwrap();
        assert_eq!((theme.error.fg, theme.error.bg), (None, None));
        assert!(theme.heading.add_modifier.contains(Modifier::BOLD));
    }

    #[test]
    fn a_user_theme_inherits_and_overrides() {
        let folder = tempfile::tempdir().unwrap();
        let text = "inherits = \"light\"\n[roles]\nuser = { fg = \"#ff0000\", bold = true }\n";
        std::fs::write(folder.path().join("mine.toml"), text).unwrap();
        let mine = Theme::load("mine", folder.path(), ColorDepth::True).unwrap();
        let light = Theme::load("light", folder.path(), ColorDepth::True).unwrap();
        assert_eq!(mine.user.fg, Some(Color::Rgb(255, 0, 0)));
        assert_eq!(mine.text, light.text);
        assert_eq!(Theme::load("mine", folder.path(), ColorDepth::Ansi).unwrap().user.fg, Some(Color::LightRed));
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            std::fs::write(folder.path().join("bad.toml"), text).unwrap();
            Theme::load("bad", folder.path(), ColorDepth::True).unwrap_err().0
        };
        let colour = error("[roles]\n\nuser = { fg = \"blurple\" }\n");
        assert!(colour.contains("bad.toml:3: user: \"blurple\" is not a colour"), "{colour}");
        let key = error("[roles]\nusr = { fg = \"red\" }\n");
        assert!(key.contains("bad.toml:2: usr: unknown field `usr`"), "{key}");
        let round = error("inherits = \"bad\"\n");
        assert!(round.contains("no theme \"bad\""), "{round}");
        let missing = Theme::load("nosuch", folder.path(), ColorDepth::True).unwrap_err().0;
        assert!(missing.contains("dark, light, high-contrast"), "{missing}");
        assert!(Theme::load("../bad", folder.path(), ColorDepth::True).is_err());
    }

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
}
