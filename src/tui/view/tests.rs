//! Screen snapshots after scripted events.

use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyModifiers};

use crate::chat::{Chat, ChatOptions, Effect, Event, Note, View, update};
use crate::clock::Timestamp;
use crate::conversation::{Conversation, ConversationId};
use crate::protocol::*;
use crate::tui::theme::{ColorDepth, Theme};
use crate::tui::ui_state::{Outcome, UiState};
use crate::tui::view::glyphs::{ASCII, Glyphs, UNICODE};

/// Screen sizes of the snapshots.
const SIZES: [(u16, u16); 4] = [(80, 24), (200, 50), (40, 10), (20, 5)];

macro_rules! at_all_sizes {
    ($name:literal, $story:expr) => {
        for (width, height) in SIZES {
            let mut app = App::new(width, height);
            let story: fn(&mut App) = $story;
            story(&mut app);
            let screen = app.screen();
            insta::with_settings!({ omit_expression => true }, {
                insta::assert_snapshot!(format!("{}_{width}x{height}", $name), screen);
            });
        }
        in_all_looks!($name, $story);
    };
}

/// Snapshots with styles at 80×24 and 200×50 in three themes.
macro_rules! in_all_looks {
    ($name:literal, $story:expr) => {
        for theme in $crate::tui::view::tests::styles::THEMES {
            let mut looks = String::new();
            for (width, height) in [(80, 24), (200, 50)] {
                let mut app = App::with(width, height, theme, &UNICODE);
                let story: fn(&mut App) = $story;
                story(&mut app);
                looks += &$crate::tui::view::tests::styles::with_styles(&mut app);
            }
            insta::with_settings!({ omit_expression => true, snapshot_path => "looks" }, {
                insta::assert_snapshot!(format!("{}_{theme}", $name), looks);
            });
        }
    };
}

mod contrast;
mod files;
mod keys;
mod lists;
mod mouse;
mod panel;
mod room;
mod settings;
mod styles;
mod transcript;
mod turns;

/// The interface without a terminal, an engine or a disk.
struct App {
    chat: Chat,
    screen: UiState,
    terminal: Terminal<TestBackend>,
    at: Duration,
    effects: Vec<Effect>,
    request: Option<RequestId>,
}

impl App {
    fn new(width: u16, height: u16) -> Self {
        Self::with(width, height, "dark", &UNICODE)
    }

    fn with(width: u16, height: u16, theme: &str, glyphs: &'static Glyphs) -> Self {
        let options = ChatOptions {
            model: "smollm2-135m".into(),
            sampling: SamplingChoice::default(),
            think: None,
            max_tokens: None,
            on_overflow: OverflowPolicy::Error,
        };
        let conversation = Conversation::new(ConversationId("talk".into()), None);
        let theme = Theme::load(theme, Path::new(""), ColorDepth::True).unwrap();
        Self {
            chat: Chat::new(options, conversation, Timestamp::default()),
            screen: UiState::new(theme, glyphs),
            terminal: Terminal::new(TestBackend::new(width, height)).unwrap(),
            at: Duration::ZERO,
            effects: Vec::new(),
            request: None,
        }
    }

    fn screen(&mut self) -> String {
        let Self { chat, screen, terminal, .. } = self;
        terminal
            .draw(|frame| {
                screen.layout(chat, frame.area());
                super::draw(frame, chat, screen);
            })
            .unwrap();
        self.terminal.backend().to_string()
    }

    fn event(&mut self, event: Event) -> &mut Self {
        for effect in update(&mut self.chat, event) {
            match &effect {
                Effect::Save(record) => {
                    self.event(Event::Saved { turn: record.id, result: Ok(()) });
                }
                Effect::Generate(request) => self.request = Some(request.id),
                Effect::PutBack(text) => self.screen.composer.put_back(text),
                Effect::ReturnPrompts(prompts) => self.screen.composer.return_prompts(prompts.clone()),
                Effect::ClearDraft => self.screen.composer.discard(),
                _ => {}
            }
            self.effects.push(effect);
        }
        self
    }

    fn after(&mut self, millis: u64) -> &mut Self {
        self.at += Duration::from_millis(millis);
        self.event(Event::Tick(Timestamp::from_origin(self.at)))
    }

    fn terminal_event(&mut self, event: TerminalEvent) -> &mut Self {
        self.screen();
        for outcome in self.screen.terminal_event(event, &self.chat) {
            if let Outcome::Chat(event) = outcome {
                self.event(event);
            }
        }
        self
    }

    fn press(&mut self, code: KeyCode, modifiers: KeyModifiers) -> &mut Self {
        self.terminal_event(TerminalEvent::Key(KeyEvent::new(code, modifiers)))
    }

    fn key(&mut self, code: KeyCode) -> &mut Self {
        self.press(code, KeyModifiers::NONE)
    }

    fn type_text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            self.key(KeyCode::Char(c));
        }
        self
    }

    fn send(&mut self, text: &str) -> &mut Self {
        self.type_text(text).key(KeyCode::Enter)
    }

    fn engine(&mut self, event: EngineEvent) -> &mut Self {
        self.event(Event::Engine(event))
    }

    fn asked_to_count(&self) -> Option<RequestId> {
        self.effects.iter().rev().find_map(|effect| if let Effect::Count(id) = effect { Some(*id) } else { None })
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_origin(self.at)
    }

    fn loading(&mut self, phase: LoadPhase, done: u64, total: Option<u64>) -> &mut Self {
        if !matches!(self.chat.engine.state, crate::chat::EngineState::Loading(_)) {
            let at = self.at();
            self.engine(EngineEvent::Loading { at });
        }
        self.engine(EngineEvent::LoadProgress(LoadProgress { phase, done, total, detail: None }))
    }

    fn loaded(&mut self) -> &mut Self {
        let info = ModelInfo {
            name: "smollm2-135m".into(),
            architecture: "llama".into(),
            quantization: "Q4_1".into(),
            parameters: 134_515_008,
            context_length: 8192,
            trained_context_length: 8192,
            device: DeviceInfo { kind: DeviceKind::Cpu, name: "A processor".into() },
            memory: MemoryUse { weights: 98_000_000, kv_cache: 188_000_000, workspace: 4_000_000 },
            ..ModelInfo::default()
        };
        let at = self.at();
        self.engine(EngineEvent::Loaded { info, took: Duration::from_millis(140), at })
    }

    fn token(&mut self, channel: Channel, text: &str) -> &mut Self {
        let (id, at) = (self.request.unwrap(), self.at());
        self.engine(EngineEvent::Token { id, channel, text: text.into(), at })
    }

    fn stream(&mut self, text: &str) -> &mut Self {
        for piece in text.split_inclusive(' ') {
            self.token(Channel::Answer, piece).after(20);
        }
        self
    }

    fn finish(&mut self, reason: FinishReason) -> &mut Self {
        self.finish_with(
            reason,
            Usage { prompt_tokens: 1041, cached_tokens: 960, completion_tokens: 51, ..Usage::default() },
        )
    }

    fn finish_with(&mut self, reason: FinishReason, usage: Usage) -> &mut Self {
        let (id, at) = (self.request.unwrap(), self.at());
        let timing = Timing {
            load: Duration::from_millis(140),
            ttft: Duration::from_millis(96),
            prefill: Duration::from_millis(90),
            decode: Duration::from_millis(500),
            total: Duration::from_millis(740),
            inter_token: vec![Duration::from_millis(10); 50],
        };
        self.engine(EngineEvent::Finished { id, reason, usage, timing, at })
    }

    fn resize(&mut self, width: u16, height: u16) -> &mut Self {
        self.terminal.backend_mut().resize(width, height);
        self
    }

    fn idle(&mut self, seconds: u64) -> &mut Self {
        let at = self.at();
        self.engine(EngineEvent::Idle { release_at: Some(at + Duration::from_secs(seconds)), at })
    }

    /// One complete turn; the engine is idle at the end.
    fn turn(&mut self, prompt: &str, answer: &str) -> &mut Self {
        self.send(prompt).loaded().stream(answer).finish(FinishReason::Stop).idle(120)
    }
}

// After the macro, which they use.
mod models;
mod servers;
mod supply;
const ANSWER: &str = "The sky looks blue because air scatters **short** waves more than long ones \
    (*Rayleigh scattering*):\n\n1. Sunlight holds all colours.\n2. Blue is scattered about `(700/450)^4` times \
    as much as red.\n";

#[test]
fn an_empty_conversation_shows_the_welcome() {
    at_all_sizes!("empty", |_| {});
}

#[test]
fn a_download_shows_phase_bytes_speed_and_time_left() {
    at_all_sizes!("download", |app| {
        app.type_text("Why is");
        app.loading(LoadPhase::Download, 0, Some(98_400_000)).after(1000);
        app.loading(LoadPhase::Download, 42_100_000, Some(98_400_000));
    });
}

#[test]
fn an_answer_streams() {
    at_all_sizes!("streaming", |app| {
        app.send("Why is the sky blue?").loaded().stream("The sky looks **blue** because air");
    });
}

#[test]
fn a_finished_answer_shows_figures_and_the_release_countdown() {
    at_all_sizes!("idle", |app| {
        app.turn("Why is the sky blue?", ANSWER).after(17_500);
    });
}

#[test]
fn an_empty_answer_is_reported() {
    let mut app = App::new(100, 24);
    app.send("Well?").loaded().token(Channel::Reasoning, "Hm.").finish(FinishReason::Stop);
    let screen = app.screen();
    assert!(screen.contains("the model gave no answer"), "{screen}");
    let lines: Vec<_> = screen.lines().map(|line| line.trim_matches(['"', ' '])).collect();
    let folded = lines.iter().position(|line| line.starts_with("▸ thought")).unwrap();
    assert_eq!(lines[folded + 1], "", "{screen}");
}

#[test]
fn the_status_line_shows_the_released_memory() {
    at_all_sizes!("released", |app| {
        app.turn("Why is the sky blue?", ANSWER);
        let at = app.at();
        app.engine(EngineEvent::Releasing).engine(EngineEvent::Released { freed: 290_000_000, energy_mj: None, at });
    });
}

#[test]
fn a_failed_turn_shows_the_error_and_advice() {
    at_all_sizes!("error", |app| {
        app.send("Write a book.").loaded().stream("Once upon a time");
        let (id, at) = (app.request.unwrap(), app.at());
        let error = EngineError::new(ErrorKind::OutOfMemory, "The CPU has no memory left for this context.");
        app.engine(EngineEvent::Failed { id, error, at });
        app.event(Event::Noted(Note::warning("Something else is not as wanted.")));
    });
}

#[test]
fn the_help_overlay_is_drawn() {
    at_all_sizes!("help", |app| {
        app.key(KeyCode::Char('?'));
    });
}

#[test]
fn wide_characters_and_emoji_are_drawn() {
    at_all_sizes!("wide", |app| {
        app.turn(
            "日本語で答えて 👩‍🚀",
            "空が青いのは、大気が短い波長の光をより強く散乱させるためです。これをレイリー散乱と呼びます。👨‍👩‍👧‍👦 e\u{301}te\u{301} עברית\n\n\
             | 名前 | 値 |\n|---|--:|\n| 空 🌌 | 青 |\n| 海 | 青い |\n",
        );
        app.type_text("ありがとう");
    });
}

#[test]
fn code_and_a_table_are_drawn() {
    at_all_sizes!("code", |app| {
        app.turn(
            "Show me code.",
            "```rust\nfn main() {\n    println!(\"hello\"); // greets\n}\n```\n\n| call | cost |\n|---|---:|\n| `main` | 1 |\n",
        );
    });
}

#[test]
fn reasoning_is_folded_and_unfolds() {
    at_all_sizes!("reasoning", |app| {
        app.send("Think.").loaded();
        app.token(Channel::Reasoning, "The user wants me to think.").after(3200);
        app.stream("I did.").finish(FinishReason::Stop).idle(90);
    });
    let mut app = App::new(80, 24);
    app.send("Think.").loaded();
    app.token(Channel::Reasoning, "The user wants me to think.").after(3200);
    app.stream("I did.").finish(FinishReason::Stop);
    assert!(!app.screen().contains("The user wants"));
    app.press(KeyCode::Char('t'), KeyModifiers::CONTROL);
    assert!(app.screen().contains("The user wants"));
}

#[test]
fn queued_prompts_are_shown() {
    at_all_sizes!("queued", |app| {
        app.send("First question").loaded().stream("An answer that goes on");
        app.send("Second question").send("Third question").type_text("and a fourth");
    });
}

#[test]
fn commands_complete() {
    at_all_sizes!("completion", |app| {
        app.type_text("/re").key(KeyCode::Down);
    });
}

#[test]
fn a_long_completion_list_scrolls_and_counts_hidden_entries() {
    at_all_sizes!("commands", |app| {
        app.type_text("/");
        for _ in 0..7 {
            app.key(KeyCode::Down);
        }
    });
    let mut app = App::new(80, 24);
    app.type_text("/");
    let hidden = crate::chat::command::COMMANDS.len() - 8;
    assert!(app.screen().contains(&format!("↓ {hidden} more")) && !app.screen().contains("↑"), "{}", app.screen());
    for command in crate::chat::command::COMMANDS.iter().skip(1) {
        app.key(KeyCode::Down);
        assert!(app.screen().contains(&format!(" › {}", command.name)), "{}:\n{}", command.name, app.screen());
    }
    assert!(app.screen().contains(&format!("↑ {hidden} more")) && !app.screen().contains("↓"), "{}", app.screen());
    app.key(KeyCode::Down);
    assert!(app.screen().contains(" › /help"), "after the last comes the first");
    app.key(KeyCode::Up).key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "/quit");
    // Tab continues from there, and the accepted entry is visible.
    app.key(KeyCode::Tab).key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "/new");
    assert!(app.screen().contains(" › /new"), "{}", app.screen());
}

#[test]
fn an_answer_cut_off_by_the_context_shows_advice() {
    at_all_sizes!("full", |app| {
        app.send("Tell me everything.").loaded().stream("Once upon a");
        app.finish_with(
            FinishReason::Length,
            Usage { prompt_tokens: 8000, cached_tokens: 0, completion_tokens: 192, ..Usage::default() },
        );
    });
    let mut app = App::new(120, 24);
    app.send("Tell me everything.").loaded().stream("Once upon a").finish(FinishReason::Length);
    let screen = app.screen();
    assert!(screen.contains("cut off at the token limit (length)") && !screen.contains("/new"), "{screen}");
}

#[test]
fn a_long_draft_grows_to_a_third_of_the_screen_and_scrolls() {
    at_all_sizes!("draft", |app| {
        for line in 1..=30 {
            app.type_text(&format!("line {line}")).press(KeyCode::Enter, KeyModifiers::ALT);
        }
    });
}

#[test]
fn the_scroll_position_is_kept_while_text_arrives() {
    at_all_sizes!("scrolled", |app| {
        let long: String = (1..=60).map(|n| format!("Paragraph {n}.\n\n")).collect();
        app.send("Tell me a lot.").loaded().stream(&long);
        app.key(KeyCode::PageUp).stream("more and more\n\nand more");
    });
    let mut app = App::new(80, 24);
    let long: String = (1..=60).map(|n| format!("Paragraph {n}.\n\n")).collect();
    app.send("Tell me a lot.").loaded().stream(&long).key(KeyCode::PageUp).key(KeyCode::PageUp);
    let first_lines = |screen: &str| screen.lines().take(10).map(str::to_owned).collect::<Vec<_>>();
    let before = first_lines(&app.screen());
    app.stream("more\n\nand more\n\n");
    assert_eq!(first_lines(&app.screen()), before, "the view snapped back");
    assert!(app.screen().contains("more below"));
    app.key(KeyCode::End);
    assert!(!app.screen().contains("more below"));
    app.stream("THE END");
    assert!(app.screen().contains("THE END"), "it does not follow");
}

#[test]
fn ascii_glyphs_draw_an_ascii_screen() {
    let mut app = App::with(80, 24, "high-contrast", &ASCII);
    app.turn("Why?", "> Because.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n");
    let screen = app.screen();
    assert!(screen.is_ascii(), "{screen}");
    insta::assert_snapshot!(screen);
}

#[test]
fn escape_sequences_of_a_model_never_reach_the_screen() {
    let mut app = App::new(80, 24);
    app.turn("hi\u{1b}]0;owned\u{7}", "a\u{1b}[31mred\u{1b}]52;c;AAAA\u{7} b\u{202e}c \u{9b}2J end");
    app.event(Event::Noted(Note::error("bad \u{1b}[2J name")));
    let screen = app.screen();
    assert!(!screen.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{screen:?}");
    assert!(screen.contains("end"));
}

#[test]
fn a_long_transcript_scrolls_fast() {
    let mut app = App::new(80, 24);
    for turn in 0..300 {
        app.event(Event::Submit(format!("question {turn}")));
        app.loaded().token(Channel::Answer, "An answer.\n\nIn two paragraphs.").finish(FinishReason::Stop);
    }
    let begin = std::time::Instant::now();
    assert!(app.screen().contains("question 299"));
    for _ in 0..100 {
        app.key(KeyCode::PageUp);
    }
    app.press(KeyCode::Home, KeyModifiers::CONTROL);
    assert!(app.screen().contains("question 0"));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn the_frame_shows_the_token_count_of_the_draft() {
    at_all_sizes!("count", |app| {
        app.loaded().type_text("Why is the sky blue?");
        app.event(Event::DraftChanged { prompt: true }).after(200);
        let id = app.asked_to_count().unwrap();
        app.engine(EngineEvent::Counted {
            id,
            prompt_tokens: 36,
            cached_tokens: 0,
            left_out: Some(0),
            context_length: 8192,
        });
    });
    let mut app = App::new(80, 24);
    app.loaded().type_text("x").event(Event::DraftChanged { prompt: true }).after(200);
    let id = app.asked_to_count().unwrap();
    app.engine(EngineEvent::Counted {
        id,
        prompt_tokens: 9000,
        cached_tokens: 0,
        left_out: Some(0),
        context_length: 8192,
    });
    assert!(app.screen().contains("9,000 of 8,192 tokens · too long"), "{}", app.screen());
}

#[test]
fn model_names_complete() {
    at_all_sizes!("models", |app| {
        app.type_text("/model llama-3.1");
    });
    let mut app = App::new(80, 24);
    app.type_text("/model qwen3-4").key(KeyCode::Enter);
    assert!(app.effects.contains(&Effect::Locate("qwen3-4b".into())), "{:?}", app.effects);
    // Without an argument it opens the list.
    app.type_text("/model ").key(KeyCode::Enter);
    assert!(app.effects.contains(&Effect::Open(View::Models, String::new())), "{:?}", app.effects);
}

#[test]
fn a_missing_model_is_reported_once() {
    let mut app = App::new(80, 24);
    app.engine(EngineEvent::LoadFailed { error: EngineError::new(ErrorKind::ModelNotFound, "there is no such model") });
    app.type_text("hello");
    let screen = app.screen();
    assert_eq!(screen.matches("there is no such model").count(), 1, "{screen}");
    assert!(!screen.contains("runs in this process") && screen.contains("could not load"), "{screen}");
    app.event(Event::Opened(Conversation::new(ConversationId("new".into()), None)));
    let screen = app.screen();
    assert!(screen.contains("could not be loaded") && !screen.contains("runs in this process"), "{screen}");
}

#[test]
fn the_welcome_depends_on_whether_the_model_is_loaded() {
    let mut app = App::new(80, 24);
    assert!(app.screen().contains("It loads at your first keystroke"));
    app.chat.engine.state = crate::chat::EngineState::Warm;
    let screen = app.screen();
    assert!(screen.contains("It is loaded, and gives its memory back") && !screen.contains("keystroke"), "{screen}");
}
