//! Themes: colours by role, from `themes/*.toml` (compiled in) and the user's own folder; `inherits` takes the other
//! roles from another theme. Colours are reduced to the terminal's colour depth. `auto` is `dark` or `light`, as the
//! terminal's background is.

use std::path::Path;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use crate::files;

mod built_in;
mod depth;
mod names;

use built_in::BUILT_IN;
pub use depth::ColorDepth;
pub use names::{AUTO, ThemeName};

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
    kind: Option<Kind>,
    /// The text role where the terminal's background is unknown, grey or of the other kind, if `text` sets none.
    ground: Option<RoleStyle>,
    #[serde(default)]
    roles: Roles,
    /// Replaces `roles` at 16 colours and without colours.
    ansi: Option<Roles>,
}

impl ThemeFile {
    fn roles(&self, depth: ColorDepth) -> &Roles {
        self.ansi.as_ref().filter(|_| depth.is_low()).unwrap_or(&self.roles)
    }
}

/// Brightness of a background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Dark,
    Light,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Light => "light",
        }
    }
}

/// The terminal's background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Background {
    pub kind: Kind,
    /// Whether it is near enough to black or white that every colour of a theme of this kind is legible on it.
    pub plain: bool,
}

impl Background {
    /// The luminances up to and from which a background is plain: those of the themes Zenburn and Nord light.
    const PLAIN: (f32, f32) = (0.05, 0.85);

    pub fn of_rgb(r: u8, g: u8, b: u8) -> Self {
        let luminance = depth::luminance(Color::Rgb(r, g, b));
        let (darkest, lightest) = Self::PLAIN;
        let kind = if luminance > depth::MIDDLE { Kind::Light } else { Kind::Dark };
        Self { kind, plain: luminance <= darkest || luminance >= lightest }
    }

    /// A plain background of this kind.
    pub fn plain(kind: Kind) -> Self {
        Self { kind, plain: true }
    }
}

/// What is known of the terminal's colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canvas {
    pub depth: ColorDepth,
    /// `None`: unknown.
    pub background: Option<Background>,
}

impl Canvas {
    fn kind(&self) -> Option<Kind> {
        self.background.map(|background| background.kind)
    }
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

impl Theme {
    /// Loads the theme `name` for a terminal whose background is of the theme's kind; otherwise as [`Theme::load_on`].
    pub fn load(name: &str, folder: &Path, depth: ColorDepth) -> Result<Self, ThemeError> {
        let chain = Chain::read(names::on_background(name, None), folder)?;
        Ok(chain.theme(Canvas { depth, background: Some(Background::plain(chain.kind())) }))
    }

    /// Loads the theme `name`: the user's file `folder/NAME.toml` takes precedence over the built-in theme. A theme that
    /// keeps the terminal's background paints its own if that is unknown, grey or of the other kind; `auto` chooses one that
    /// suits it.
    pub fn load_on(name: &str, folder: &Path, canvas: Canvas) -> Result<Self, ThemeError> {
        Ok(Chain::read(names::on_background(name, canvas.kind()), folder)?.theme(canvas))
    }

    /// The built-in theme for this terminal; never fails.
    pub fn fallback(canvas: Canvas) -> Self {
        Self::load_on(AUTO, Path::new(""), canvas).unwrap_or_default()
    }
}

/// A theme's file and those that it inherits, the theme's own first.
struct Chain(Vec<ThemeFile>);

impl Chain {
    fn read(name: &str, folder: &Path) -> Result<Self, ThemeError> {
        let (mut names, mut files) = (Vec::<String>::new(), Vec::new());
        let mut next = Some(name.to_owned());
        while let Some(name) = next {
            if files.len() == LONGEST_CHAIN {
                return Err(ThemeError(format!(
                    "theme {name}: `inherits` goes through more than {LONGEST_CHAIN} themes"
                )));
            }
            // A user's `dark` may inherit the built-in `dark`.
            let again = names.contains(&name);
            if again && BUILT_IN.iter().all(|(known, _)| *known != name) {
                let path = folder.join(format!("{name}.toml"));
                let why = if names.last() == Some(&name) { "itself" } else { "itself through other themes" };
                return Err(ThemeError(format!(
                    "{}: `inherits`: {name} inherits {why}; name another theme, such as dark",
                    path.display()
                )));
            }
            let (label, text) = source(&name, folder, again)?;
            let file = parse(&label, &text)?;
            next = file.inherits.clone();
            names.push(name);
            files.push(file);
        }
        Ok(Self(files))
    }

    /// The kind that the files state; else by the brightness of the background that they set; else dark.
    fn kind(&self) -> Kind {
        let stated = self.0.iter().find_map(|file| file.kind);
        let light = || {
            let background = self.0.iter().find_map(|file| file.roles.text.as_ref()?.bg);
            background.is_some_and(|color| depth::luminance(color.0) > depth::MIDDLE)
        };
        stated.unwrap_or_else(|| if light() { Kind::Light } else { Kind::Dark })
    }

    fn theme(&self, canvas: Canvas) -> Theme {
        let depth = canvas.depth;
        let mut theme = Theme::default();
        for file in self.0.iter().rev() {
            theme.apply(file.roles(depth));
        }
        let keeps_background = matches!(theme.text.bg, None | Some(Color::Reset));
        if !keeps_background || canvas.background == Some(Background::plain(self.kind())) {
            return theme.map(|style| depth.style(style));
        }
        if depth.is_low() {
            // The 16 colours of an unknown palette on an unknown background: only the default is legible.
            return theme.map(|style| ColorDepth::None.style(style));
        }
        if let Some(ground) = self.0.iter().find_map(|file| file.ground.as_ref()) {
            theme.text = theme.text.patch(ground.to_style());
        }
        theme.map(|style| depth.style(style))
    }
}

fn source(name: &str, folder: &Path, built_in_only: bool) -> Result<(String, String), ThemeError> {
    let path = folder.join(format!("{name}.toml"));
    if names::is_plain(name) && !built_in_only && !folder.as_os_str().is_empty() {
        match files::read_text(&path, LARGEST_FILE) {
            Ok(text) => return Ok((path.display().to_string(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ThemeError(format!("{}: {error}", path.display()))),
        }
    }
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == names::unaliased(name));
    built_in.map(|(name, text)| (format!("themes/{name}.toml"), (*text).to_owned())).ok_or_else(|| {
        let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        ThemeError(format!(
            "there is no theme {name:?}; there are {AUTO}, {}, and files in {}",
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
