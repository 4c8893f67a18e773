//! The theme follows the terminal's background; the list of themes shows the selected one.

use crate::support_pty::{Home, Tui};

const MODEL: &str = "token_ms = 1\nfallback = \"The sky is blue.\"\n";

/// The program in a terminal with 24-bit colours.
fn start(home: &Home, arguments: &[&str]) -> Tui {
    let mut command = home.command(arguments);
    command.env("COLORTERM", "truecolor");
    Tui::spawn(command, 80, 24)
}

/// The colours of the first cell that shows `text`: foreground and background.
fn colors(screen: &vt100::Screen, text: &str) -> Option<(vt100::Color, vt100::Color)> {
    let (row, line) = screen.rows(0, 80).enumerate().find(|(_, line)| line.contains(text))?;
    let column = line[..line.find(text)?].chars().count();
    let cell = screen.cell(u16::try_from(row).ok()?, u16::try_from(column).ok()?)?;
    Some((cell.fgcolor(), cell.bgcolor()))
}

fn wait_for_colors(tui: &mut Tui, text: &str, expected: (vt100::Color, vt100::Color)) {
    tui.wait_until(&format!("{text} in {expected:?}"), |screen| colors(screen, text) == Some(expected));
}

const RGB: fn(u8, u8, u8) -> vt100::Color = vt100::Color::Rgb;
const DEFAULT: vt100::Color = vt100::Color::Default;

/// The title of the welcome in the themes dark, light and nord.
const TITLE: &str = "chatnap";
const DARK: (u8, u8, u8) = (0x5f, 0xd7, 0xff);
const LIGHT: (u8, u8, u8) = (0x05, 0x50, 0xae);

#[test]
fn a_light_terminal_gets_the_light_theme() {
    let home = Home::new(MODEL);
    let mut tui = start(&home, &[]);
    tui.answer_background(1, "ffff/ffff/ffff");
    wait_for_colors(&mut tui, TITLE, (RGB(LIGHT.0, LIGHT.1, LIGHT.2), DEFAULT));
}

#[test]
fn a_reported_change_is_followed_and_no_key_is_lost() {
    let home = Home::new(MODEL);
    let mut tui = start(&home, &[]);
    tui.answer_background(1, "1e1e/1e1e/1e1e");
    wait_for_colors(&mut tui, TITLE, (RGB(DARK.0, DARK.1, DARK.2), DEFAULT));
    tui.settle();
    tui.wait_for("Ask anything").type_text("\x1b[?997;2n").answer_background(2, "fdfd/f6f6/e3e3");
    wait_for_colors(&mut tui, TITLE, (RGB(LIGHT.0, LIGHT.1, LIGHT.2), DEFAULT));
    tui.send("sky").wait_for("The sky is blue.");
}

#[test]
fn a_late_answer_is_not_taken_for_keys() {
    let home = Home::new(MODEL);
    let mut tui = start(&home, &[]);
    // Unknown: the theme paints its own background.
    tui.wait_for("Ask anything").wait_until("a painted background", |screen| {
        colors(screen, TITLE) == Some((RGB(DARK.0, DARK.1, DARK.2), RGB(0x1c, 0x1c, 0x1c)))
    });
    tui.answer_background(1, "ffff/ffff/ffff");
    wait_for_colors(&mut tui, TITLE, (RGB(LIGHT.0, LIGHT.1, LIGHT.2), DEFAULT));
    tui.wait_for("Ask anything").send("sky").wait_for("The sky is blue.");
}

#[test]
fn a_setting_is_drawn_without_asking() {
    let home = Home::new(MODEL);
    let mut tui = start(&home, &["--theme", "nord"]);
    wait_for_colors(&mut tui, TITLE, (RGB(0x8f, 0xc4, 0xd3), RGB(0x2e, 0x34, 0x40)));
    assert!(!tui.has_asked());
}

#[test]
fn the_list_shows_the_selected_theme_on_the_conversation() {
    let home = Home::new(MODEL);
    let folder = home.folder.path().join("config/chatnap/themes");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("mine.toml"), "inherits = \"light\"\n[roles]\nuser = { fg = \"#123456\" }\n").unwrap();
    let mut tui = start(&home, &["--theme", "nord"]);
    let nord = (RGB(0xd8, 0xde, 0xe9), RGB(0x3b, 0x42, 0x52));
    tui.wait_for("Ask anything").send("sky").wait_for("The sky is blue.");
    wait_for_colors(&mut tui, "sky", nord);
    tui.type_text("/theme\r").wait_for("Enter takes it").type_text("mine").wait_for("light, yours");
    wait_for_colors(&mut tui, "sky", (RGB(0x12, 0x34, 0x56), RGB(0xfb, 0xfb, 0xf9)));
    tui.type_text("\x1b").wait_until_gone("Enter takes it");
    wait_for_colors(&mut tui, "sky", nord);
    tui.type_text("/theme m\t").wait_for("/theme mine").type_text("\r").wait_for("theme mine;");
    wait_for_colors(&mut tui, "sky", (RGB(0x12, 0x34, 0x56), RGB(0xfb, 0xfb, 0xf9)));
}
