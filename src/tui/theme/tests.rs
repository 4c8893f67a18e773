//! Tests of loading themes.

use ratatui::style::{Color, Modifier};

use super::*;

#[test]
fn every_built_in_theme_loads_at_every_depth() {
    for (name, _) in BUILT_IN {
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
    let itself = error("inherits = \"bad\"\n");
    assert!(
        itself.ends_with("bad.toml: `inherits`: bad inherits itself; name another theme, such as dark"),
        "{itself}"
    );
    std::fs::write(folder.path().join("worse.toml"), "inherits = \"bad\"\n").unwrap();
    let round = error("inherits = \"worse\"\n");
    assert!(round.contains("bad inherits itself through other themes"), "{round}");
    let missing = Theme::load("nosuch", folder.path(), ColorDepth::True).unwrap_err().0;
    assert!(missing.contains("dark, light, high-contrast"), "{missing}");
    assert!(Theme::load("../bad", folder.path(), ColorDepth::True).is_err());
}

#[test]
fn a_user_theme_may_inherit_the_built_in_theme_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nord.toml"), "inherits = \"nord\"\n[roles]\nuser = { fg = \"#ff0000\" }\n")
        .unwrap();
    let mine = Theme::load("nord", folder.path(), ColorDepth::True).unwrap();
    let nord = Theme::load("nord", Path::new(""), ColorDepth::True).unwrap();
    assert_eq!((mine.user.fg, mine.text), (Some(Color::Rgb(255, 0, 0)), nord.text));
}

#[test]
fn auto_takes_the_kind_of_the_background() {
    let on = |background| Theme::load_on(AUTO, Path::new(""), Canvas { depth: ColorDepth::True, background }).unwrap();
    let named = |name| Theme::load(name, Path::new(""), ColorDepth::True).unwrap();
    assert_eq!(on(Some(Background::of_rgb(0, 43, 54))), named("dark"));
    assert_eq!(on(Some(Background::of_rgb(253, 246, 227))), named("light"));
}

#[test]
fn a_theme_paints_its_background_where_the_terminals_does_not_suit_it() {
    for (name, grey) in [("dark", 0x70), ("light", 0xc0)] {
        let own = Theme::load(name, Path::new(""), ColorDepth::True).unwrap();
        assert_eq!(own.text.bg, None, "{name} keeps a background of its kind");
        let other = Background::plain(if name == "dark" { Kind::Light } else { Kind::Dark });
        for background in [None, Some(other), Some(Background::of_rgb(grey, grey, grey))] {
            let canvas = |depth| Canvas { depth, background };
            let painted = Theme::load_on(name, Path::new(""), canvas(ColorDepth::True)).unwrap();
            assert!(painted.text.bg.is_some() && painted.text.fg.is_some(), "{name} on {background:?}");
            let low = Theme::load_on(name, Path::new(""), canvas(ColorDepth::Ansi)).unwrap();
            assert_eq!((low.accent.fg, low.text.bg), (None, None), "{name} on {background:?}");
        }
    }
}

#[test]
fn names_list_the_built_in_themes_and_the_users() {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("mine.toml", "inherits = \"light\"\n"),
        ("broken.toml", "[rols]\n"),
        ("auto.toml", ""),
        ("no theme.toml", ""),
        ("notes.txt", ""),
        ("nord.toml", "inherits = \"light\"\nkind = \"light\"\n"),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let names = Theme::names(folder.path());
    let about = |name: &str| names.iter().find(|known| known.name == name).map(ThemeName::about).unwrap_or_default();
    assert_eq!(names.len(), 1 + BUILT_IN.len() + 2);
    assert_eq!((about("mine"), about("broken")), ("light, yours".to_owned(), "cannot be read, yours".to_owned()));
    assert_eq!((about("nord"), about("dracula")), ("light, yours".to_owned(), "dark".to_owned()));
    assert_eq!(about("auto"), "dark or light, as the terminal is");
}
