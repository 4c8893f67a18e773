//! Tests of the layout: small screens, resizing, what is dropped first.

use super::*;

#[test]
fn every_screen_size_draws_without_a_panic() {
    for (width, height) in [(1, 1), (2, 1), (1, 30), (500, 1), (7, 3), (20, 5), (19, 10), (500, 200)] {
        let mut app = App::new(width, height);
        app.screen();
        app.turn("日本語 👩‍🚀 prompt", ANSWER).type_text("/").key(KeyCode::PageUp);
        app.loading(LoadPhase::Read, 1, Some(2));
        assert!(app.screen().trim().len() > 2, "{width}x{height}");
        app.event(Event::ToggleHelp).screen();
    }
}

#[test]
fn a_chat_survives_many_resizes() {
    let mut app = App::new(80, 24);
    app.turn("Why?", &ANSWER.repeat(20)).key(KeyCode::PageUp);
    for step in 0..200u16 {
        let (width, height) = (1 + step * 37 % 500, 1 + step * 53 % 200);
        app.terminal.backend_mut().resize(width, height);
        app.screen();
    }
    app.terminal.backend_mut().resize(80, 24);
    assert!(app.screen().contains("smollm2-135m"));
}

#[test]
fn resizing_keeps_the_scroll_position() {
    let text: String = (1..=80).map(|n| format!("Sentence {n} of a long answer that goes on and on. ")).collect();
    let mut app = App::new(80, 24);
    app.turn("Tell me a lot.", &text);
    let numbers = |screen: &str| -> Vec<usize> {
        let words = screen.split_whitespace().collect::<Vec<_>>();
        words.windows(2).filter(|pair| pair[0] == "Sentence").filter_map(|pair| pair[1].parse().ok()).collect()
    };
    app.key(KeyCode::PageUp).key(KeyCode::PageUp);
    let before = numbers(&app.screen())[0];
    for (width, height) in [(40, 10), (120, 24), (20, 10), (80, 24)] {
        let first = numbers(&app.resize(width, height).screen())[0];
        assert!(
            first.abs_diff(before) <= 1,
            "{before} was first, and {first} is, at {width}x{height}:\n{}",
            app.screen()
        );
    }
    // After scrolling up on a narrow screen, a wide screen that fits everything also shows the end.
    app.resize(20, 5).screen();
    app.key(KeyCode::End).key(KeyCode::PageUp);
    let wide = app.resize(200, 50).screen();
    assert!(wide.contains("Tell me a lot.") && wide.contains("TTFT"), "{wide}");
}

#[test]
fn a_hint_is_never_cut_off() {
    for (width, height) in SIZES {
        let mut app = App::new(width, height);
        app.turn("Why?", "So.").send("/hlep");
        let screen: String = app
            .screen()
            .split(|c: char| c == '"' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        assert!(screen.contains("begin with a space") || height < 10, "{width}x{height}: {screen}");
        assert!(screen.contains("there is no"), "{width}x{height}: {screen}");
    }
}

#[test]
fn queued_prompts_are_counted_on_small_screens() {
    let mut app = App::new(20, 5);
    app.send("First").loaded().stream("An answer").send("Second");
    assert!(app.screen().contains("1 queued"), "{}", app.screen());
}

#[test]
fn the_frame_edges_show_labels_side_by_side() {
    let long: String = (1..=60).map(|n| format!("Paragraph {n}.\n\n")).collect();
    for (width, height) in [(80, 24), (40, 10), (24, 10)] {
        let mut app = App::new(width, height);
        app.turn("Tell me a lot.", &long).send("/edit").key(KeyCode::PageUp);
        let screen = app.screen();
        let edge = screen.lines().find(|line| line.contains('╭')).unwrap();
        assert!(edge.contains("in place") || width < 40, "{width}: {edge}");
        assert!(edge.contains('↓') && edge.ends_with("─╮\""), "{width}: {edge}");
    }
    let mut app = App::new(80, 24);
    for line in 1..=30 {
        app.type_text(&format!("line {line}")).press(KeyCode::Enter, KeyModifiers::ALT);
    }
    assert!(app.screen().contains("╰─ ↑ 23 ─"), "{}", app.screen());
    for _ in 0..20 {
        app.key(KeyCode::Up);
    }
    let screen = app.screen();
    assert!(screen.contains("line 11") && screen.contains("↑ 10 ↓ 13"), "{screen}");
}

#[test]
fn a_long_model_name_is_cut_before_the_figures() {
    let mut app = App::new(80, 24);
    app.chat.options.model = "SmolLM2-135M-Instruct.Q4_1.gguf".into();
    app.loaded().idle(120);
    app.chat.engine.model = "SmolLM2-135M-Instruct.Q4_1.gguf".into();
    let status = app.screen().lines().last().unwrap().to_owned();
    for figure in ["SmolLM2-135M", "releases in 2:00", "102 MB RAM", "ctx 0/8,192", "? help"] {
        assert!(status.contains(figure), "{status}");
    }
}

#[test]
fn a_table_breaks_no_words_and_becomes_a_list_if_they_do_not_fit() {
    let table = "| name | what it is | value |\n|---|---|---:|\n| short | a text in narrow terminals | 12345.67 |\n";
    let mut app = App::new(46, 20);
    app.turn("Show me.", table);
    assert!(app.screen().contains("terminals") && app.screen().contains("12345.67 │"), "{}", app.screen());
    app.resize(33, 20);
    let screen = app.screen();
    assert!(screen.contains("what it is: a text in narrow") && screen.contains("value: 12345.67"), "{screen}");
}

#[test]
fn a_wrapped_code_line_has_a_different_bar() {
    let mut app = App::new(40, 16);
    app.turn("Show me code.", "```\nlet words = \"that go on beyond the end\";\nend\n```\n");
    let screen = app.screen();
    assert!(screen.contains("│ let words") && screen.contains("┊ ") && screen.contains("│ end"), "{screen}");
}

#[test]
fn an_error_is_indented_below_its_mark() {
    let mut app = App::new(40, 16);
    app.send("Write.").loaded();
    let (id, at) = (app.request.unwrap(), app.at());
    let error = EngineError::new(ErrorKind::OutOfMemory, "Memory ran out. A shorter --context-length needs less.");
    app.engine(EngineEvent::Failed { id, error, at });
    let screen = app.screen();
    let error: Vec<_> = screen.lines().skip_while(|line| !line.contains('✗')).take(4).collect();
    let indents =
        |line: &&str| line.trim_matches('"').starts_with("    ") && !line.trim_matches('"').starts_with("     ");
    assert!(error[0].starts_with("\"  ✗ Memory") && error[1..].iter().all(indents), "{screen}");
    assert!(screen.contains("--context-length"), "a flag stays whole:\n{screen}");
}

#[test]
fn a_long_prompt_is_cut_with_a_count_of_the_rest() {
    let mut app = App::new(80, 60);
    let prompt: String = (1..=100).map(|n| format!("line {n}\n")).collect();
    app.event(Event::Submit(prompt));
    let screen = app.screen();
    assert!(
        screen.contains("line 40 ") && screen.contains("… and 60 more lines") && !screen.contains("line 41"),
        "{screen}"
    );
    let mut app = App::new(80, 60);
    app.event(Event::Submit("x".repeat(4500)));
    assert!(app.screen().contains("… and 500 more characters"), "{}", app.screen());
}

/// Every overlay and mode draws at any size.
#[test]
fn overlays_and_modes_survive_many_resizes() {
    let open: [fn(&mut App); 7] = [
        |app| {
            app.press(KeyCode::Char('r'), KeyModifiers::CONTROL).type_text("h");
        },
        |app| {
            app.send("/edit").key(KeyCode::PageUp);
        },
        |app| {
            app.send("/nosuch");
        },
        |app| {
            app.key(KeyCode::Char('?')).key(KeyCode::PageDown);
        },
        |app| {
            app.type_text("/").key(KeyCode::Up);
        },
        |app| {
            app.type_text(&"日本語 ".repeat(200)).key(KeyCode::Up);
        },
        |app| {
            app.send("Another").send("waits").send("and another");
        },
    ];
    for begin in open {
        let mut app = App::new(80, 24);
        app.turn("Why?", &ANSWER.repeat(20)).turn("How?", &ANSWER.repeat(3));
        begin(&mut app);
        for step in 0..60u16 {
            app.resize(1 + step * 37 % 130, 1 + step * 53 % 60).screen();
            app.key(KeyCode::PageUp).screen();
        }
    }
}

#[test]
fn a_long_note_folds_to_one_line_at_the_next_prompt() {
    let mut app = App::new(60, 20);
    app.event(Event::Noted(Note::error("The model could not be loaded because of this. ".repeat(4))));
    assert!(app.screen().matches("because of this").count() > 2, "{}", app.screen());
    app.send("Anything else?");
    let screen = app.screen();
    assert_eq!(screen.matches("could not").count(), 1, "{screen}");
    assert!(screen.contains("… (Ctrl-T)"), "{screen}");
    app.press(KeyCode::Char('t'), KeyModifiers::CONTROL);
    assert!(app.screen().matches("because of this").count() > 2, "{}", app.screen());
}

#[test]
fn the_help_says_what_each_command_does() {
    let mut app = App::new(80, 24);
    app.key(KeyCode::Char('?'));
    let mut seen = app.screen();
    for _ in 0..4 {
        seen += &app.key(KeyCode::PageDown).screen();
    }
    for spec in crate::chat::command::COMMANDS {
        let first = spec.about.split(' ').next().unwrap();
        assert!(seen.lines().any(|line| line.contains(spec.name) && line.contains(first)), "{}:\n{seen}", spec.name);
    }
}
