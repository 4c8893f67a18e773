//! Tests of the statistics panel.

use super::*;

fn shown(width: u16, height: u16) -> App {
    let mut app = App::new(width, height);
    show(&mut app);
    app
}

fn show(app: &mut App) {
    app.after(1000).turn("Why is the sky blue?", ANSWER).after(60_000);
    app.send("日本語で").stream("青 い").finish_with(
        FinishReason::Stop,
        Usage { prompt_tokens: 1110, cached_tokens: 1092, completion_tokens: 9, ..Usage::default() },
    );
    app.press(KeyCode::Char('x'), KeyModifiers::CONTROL);
}

#[test]
fn the_panel_shows_speed_context_and_memory() {
    in_all_looks!("panel", show);
    let screen = shown(104, 24).screen();
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!("panel_104x24", screen);
    });
}

#[test]
fn the_panel_follows_the_running_answer() {
    let mut app = shown(120, 40);
    app.send("More").stream("one two three ");
    let slow = app.screen();
    for _ in 0..20 {
        app.token(Channel::Answer, "x").after(400);
    }
    assert_ne!(slow.lines().nth(3), app.screen().lines().nth(3), "{slow}");
}

#[test]
fn a_release_shows_in_the_panel() {
    let mut app = shown(120, 40);
    assert!(app.screen().contains("0 releases"));
    let at = app.at();
    app.engine(EngineEvent::Released { freed: 290_000_000, energy_mj: None, at }).after(1000);
    let screen = app.screen();
    assert!(screen.contains("0 B now") && screen.contains("1 release"), "{screen}");
}

#[test]
fn a_narrow_screen_says_how_much_room_the_panel_needs() {
    let mut app = shown(80, 24);
    let screen = app.screen();
    assert!(screen.contains("the panel needs 104 columns") && !screen.contains("Ctrl-X closes"), "{screen}");
    // A panel that was open stays wanted while the screen is narrow.
    let mut app = shown(120, 40);
    assert!(!app.resize(90, 40).screen().contains("Ctrl-X closes"));
    assert!(app.resize(120, 40).screen().contains("Ctrl-X closes"));
}
