//! Names of themes: the built-in ones, the user's own, and `auto`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{BUILT_IN, Chain, Kind, Theme};

/// The theme that follows the terminal's background.
pub const AUTO: &str = "auto";

/// Other spellings.
const ALIASES: &[(&str, &str)] = &[
    ("color-blind", "colour-blind"),
    ("color-blind-light", "colour-blind-light"),
    ("gruvbox", "gruvbox-dark"),
    ("catppuccin", "catppuccin-mocha"),
    ("solarized", "solarized-dark"),
];

/// Maximum number of the user's own themes that are listed.
const MOST: usize = 200;

/// An entry of the list of themes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThemeName {
    pub name: String,
    /// Kind of the background that the theme is for; `None` for `auto` and for a file that cannot be read.
    pub kind: Option<Kind>,
    /// Whether it is a file of the user's.
    pub own: bool,
}

impl ThemeName {
    /// Description for a list.
    pub fn about(&self) -> String {
        let kind = match (self.kind, self.name.as_str()) {
            (Some(kind), _) => kind.name(),
            (None, AUTO) => "dark or light, as the terminal is",
            (None, _) => "cannot be read",
        };
        if self.own { format!("{kind}, yours") } else { kind.to_owned() }
    }
}

impl Theme {
    /// All themes: `auto`, the built-in ones, then the files in `folder` by name. A file with a built-in theme's name
    /// takes its place. Reads the files.
    pub fn names(folder: &Path) -> Vec<ThemeName> {
        let mut own = own_names(folder);
        let mut names = vec![ThemeName { name: AUTO.to_owned(), kind: None, own: false }];
        names.extend(BUILT_IN.iter().map(|(name, _)| entry(name, folder, own.remove(*name))));
        names.extend(own.iter().map(|name| entry(name, folder, true)));
        names
    }
}

fn entry(name: &str, folder: &Path, own: bool) -> ThemeName {
    let kind = Chain::read(name, folder).ok().map(|chain| chain.kind());
    ThemeName { name: name.to_owned(), kind, own }
}

fn own_names(folder: &Path) -> BTreeSet<String> {
    if folder.as_os_str().is_empty() {
        return BTreeSet::new();
    }
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        name.strip_suffix(".toml").filter(|name| is_plain(name) && *name != AUTO).map(str::to_owned)
    });
    names.take(MOST).collect()
}

/// Whether `name` can be a theme's: it names a file in the folder of themes and no other.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
}

/// The name of the theme that `auto` stands for on this background; any other name as it is.
pub(super) fn on_background(name: &str, background: Option<Kind>) -> &str {
    match (name, background) {
        (AUTO, Some(Kind::Light)) => "light",
        (AUTO, _) => "dark",
        _ => name,
    }
}

/// The built-in name for another spelling; any other name as it is.
pub(super) fn unaliased(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, known)| known)
}
