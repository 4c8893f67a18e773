//! The built-in themes: names, in the order of the list, and files.

macro_rules! themes {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../themes/", $name, ".toml"))),)*]
    };
}

/// Name and TOML text of each theme.
pub(super) const BUILT_IN: &[(&str, &str)] = themes![
    "dark",
    "light",
    "high-contrast",
    "colour-blind",
    "colour-blind-light",
    "solarized-dark",
    "solarized-light",
    "nord",
    "dracula",
    "gruvbox-dark",
    "gruvbox-light",
    "catppuccin-mocha",
    "catppuccin-latte",
    "tokyo-night",
    "one-light",
];
