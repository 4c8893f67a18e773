//! Tests of attached files: chips, completion of paths, refusals, the transcript.

use super::*;
use crate::conversation::Attachment;
use crate::files::text::Refusal;
use crate::tui::input::Found;

impl App {
    /// As the event loop does after each batch of inputs; the reads are answered by `files`.
    fn attend(&mut self, all: bool, files: &[(&str, Found)]) -> &mut Self {
        let errands = self.screen.errands(&self.chat, all);
        for word in errands.gone {
            self.event(Event::Detached(word));
        }
        for read in errands.read {
            let found = files.iter().find(|(name, _)| read.names.contains(&(*name).to_owned()));
            let found = found.map_or(Err((String::new(), Refusal::Missing)), |(_, found)| found.clone());
            let (attached, outcomes) = self.screen.file_found(read.word, found);
            for event in attached.into_iter().chain(outcomes.into_iter().filter_map(|outcome| match outcome {
                Outcome::Chat(event) => Some(event),
                _ => None,
            })) {
                self.event(event);
            }
        }
        self
    }

    fn paths(&mut self, paths: &[&str]) -> &mut Self {
        self.screen.set_paths(String::new(), paths.iter().map(|path| (*path).to_owned()).collect());
        self
    }
}

fn text(name: &str, content: &str) -> (&'static str, Found) {
    let name: &'static str = name.to_owned().leak();
    (name, Ok(Attachment { name: name.into(), text: content.into() }))
}

fn refused(name: &'static str, why: &str) -> (&'static str, Found) {
    (name, Err((name.into(), Refusal::Because(why.into()))))
}

fn counted(app: &mut App) {
    let asked: Vec<_> =
        app.effects
            .iter()
            .filter_map(|effect| {
                if let Effect::CountMessages(id, messages) = effect { Some((*id, messages.clone())) } else { None }
            })
            .collect();
    for (id, messages) in asked {
        let prompt_tokens = 30 + messages[0].content.len() / 4;
        app.engine(EngineEvent::Counted {
            id,
            prompt_tokens,
            cached_tokens: 0,
            left_out: Some(0),
            context_length: 8192,
        });
    }
}

#[test]
fn an_attached_file_is_a_chip_with_size_and_tokens_and_backspace_detaches_it() {
    let mut app = App::new(80, 24);
    app.loaded().type_text("what is in @src/main.rs").attend(false, &[]);
    assert!(!app.screen().contains("[src/main.rs"), "the word may go on");
    app.type_text(" ").attend(false, &[text("src/main.rs", &"fn main() {}\n".repeat(1000))]).after(1);
    assert!(app.screen().contains("[src/main.rs · 13.0 kB]"), "{}", app.screen());
    counted(&mut app);
    assert!(app.screen().contains("[src/main.rs · 13.0 kB · 3,256 tokens]"), "{}", app.screen());
    in_all_looks!("chip", |app| {
        app.loaded().type_text("what is in @src/main.rs").attend(false, &[]);
        app.type_text(" ").attend(false, &[text("src/main.rs", &"fn main() {}\n".repeat(1000))]).after(1);
        counted(app);
    });
    app.key(KeyCode::Backspace).key(KeyCode::Backspace).attend(false, &[]);
    assert_eq!(app.screen.composer.draft(), "what is in ");
    assert!(!app.screen().contains("13.0 kB"), "{}", app.screen());
    assert!(app.chat.attached("@src/main.rs").is_none());
}

#[test]
fn enter_waits_for_the_file_and_the_transcript_shows_a_chip() {
    let mut app = App::new(80, 24);
    app.loaded().send("what is @a.md?");
    assert!(app.request.is_none(), "not sent before the file is read");
    app.attend(true, &[text("a.md", "secret content")]);
    let turn = &app.chat.conversation.turns()[0];
    assert_eq!((turn.prompt.as_str(), turn.files[0].text.as_str()), ("what is @a.md?", "secret content"));
    assert!(turn.question().starts_with("a.md:\n\n```md\nsecret content\n```\n\nwhat is"));
    let screen = app.screen();
    assert!(screen.contains("[a.md · 14 B]") && !screen.contains("secret"), "{screen}");
    in_all_looks!("sent_chip", |app| {
        app.loaded().send("what is @a.md?");
        app.attend(true, &[text("a.md", "secret content")]);
    });
}

#[test]
fn typing_after_enter_or_esc_keeps_the_prompt() {
    let mut app = App::new(80, 24);
    app.loaded().send("read @a.md").type_text("!").attend(true, &[text("a.md!", "x")]);
    assert_eq!((app.request, app.screen.composer.draft().as_str()), (None, "read @a.md!"));
    let mut app = App::new(80, 24);
    app.loaded().send("read @a.md").key(KeyCode::Esc).attend(true, &[text("a.md", "x")]);
    assert!(app.request.is_none() && app.screen().contains("not sent yet"), "{}", app.screen());
}

#[test]
fn a_refused_file_says_why_and_the_prompt_is_kept() {
    let mut app = App::new(80, 24);
    app.loaded().send("see @x.pdf").attend(true, &[refused("x.pdf", "is a PDF, not text: attach its text")]);
    assert!(app.request.is_none());
    assert_eq!(app.screen.composer.draft(), "see @x.pdf");
    let screen = app.screen();
    assert!(screen.contains("[x.pdf is a PDF, not text: attach its text]"), "{screen}");
    assert!(screen.contains("not sent: delete @x.pdf, or write it without the @"), "{screen}");
    in_all_looks!("refused_chip", |app| {
        app.loaded().send("see @x.pdf").attend(true, &[refused("x.pdf", "is a PDF, not text: attach its text")]);
    });
}

#[test]
fn a_word_that_names_no_file_is_sent_as_text() {
    let mut app = App::new(80, 24);
    app.loaded().send("hello @alice").attend(true, &[]);
    assert_eq!(app.chat.conversation.turns()[0].prompt, "hello @alice");
    assert!(app.chat.conversation.turns()[0].files.is_empty() && !app.screen().contains("no file"));
    let mut app = App::new(80, 24);
    app.loaded().send("see @nope.rs").attend(true, &[]);
    assert!(app.request.is_some() && app.screen().contains("there is no file for @nope.rs"), "{}", app.screen());
}

#[test]
fn a_demanded_file_must_exist() {
    let mut app = App::new(80, 24);
    app.screen.demand_file("nope.rs");
    app.loaded().attend(true, &[]).type_text("hi").key(KeyCode::Enter);
    let screen = app.screen();
    assert!(screen.contains("nope.rs does not exist. It is not attached.") && !screen.contains("@nope"), "{screen}");
    app.type_text("a draft").send("/file other.md");
    assert!(!app.effects.contains(&Effect::Attach("other.md".into())), "the draft is no command");
    app.press(KeyCode::Char('u'), KeyModifiers::CONTROL).send("/file other.md");
    assert!(app.effects.contains(&Effect::Attach("other.md".into())));
}

#[test]
fn paths_complete_while_they_are_written() {
    let mut app = App::new(80, 24);
    app.paths(&["README.md", "src/main.rs", "src/my notes.md", "tests/it/main.rs"]);
    app.type_text("compare @main");
    let screen = app.screen();
    assert!(screen.contains("src/main.rs") && screen.contains("tests/it/main.rs"), "{screen}");
    in_all_looks!("paths", |app| {
        app.paths(&["README.md", "src/main.rs", "src/my notes.md", "tests/it/main.rs"]);
        app.type_text("compare @main");
    });
    app.key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "compare @src/main.rs ");
    app.type_text("and @notes").key(KeyCode::Enter);
    assert_eq!(app.screen.composer.draft(), "compare @src/main.rs and @\"src/my notes.md\" ");
    assert!(app.request.is_none(), "Enter took the path");
    app.press(KeyCode::Char('u'), KeyModifiers::CONTROL).type_text("/file read").key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "/file README.md");
}

#[test]
fn enter_takes_no_path_that_only_resembles_the_word() {
    let mut app = App::new(80, 24);
    app.loaded().paths(&["src/malice.rs", "robert.md"]);
    app.send("hi @robrt").attend(true, &[]);
    assert_eq!(app.chat.conversation.turns()[0].prompt, "hi @robrt");
}

#[test]
fn an_edited_prompt_keeps_the_file_as_it_was_stored() {
    let mut app = App::new(80, 24);
    app.loaded().send("what is @a.md ?").attend(true, &[text("a.md", "old")]);
    app.stream("An answer").finish(FinishReason::Stop);
    app.send("/edit").attend(false, &[text("a.md", "new")]);
    assert!(app.screen().contains("[a.md · 3 B"), "{}", app.screen());
    app.key(KeyCode::Enter).attend(true, &[text("a.md", "new")]);
    let turns = app.chat.conversation.turns();
    assert_eq!((turns.len(), turns[1].files[0].text.as_str()), (2, "old"));
    app.stream("Another").finish(FinishReason::Stop).send("/regenerate");
    assert_eq!(app.chat.conversation.turns()[2].files[0].text, "old");
    app.stream("Third").finish(FinishReason::Stop).send("again @a.md .").attend(true, &[text("a.md", "new")]);
    assert_eq!(app.chat.conversation.turns()[3].files[0].text, "new", "another prompt reads the file again");
}

#[test]
fn many_files_are_counted_in_the_last_row() {
    let mut app = App::new(80, 24);
    let names: Vec<_> = (0..12).map(|n| format!("a-rather-long-name-{n}.rs")).collect();
    let files: Vec<_> = names.iter().map(|name| text(name, "x")).collect();
    let words: String = names.iter().map(|name| format!("@{name} ")).collect();
    app.terminal_event(TerminalEvent::Paste(words)).attend(false, &files);
    assert!(app.screen().contains("and 8 more files"), "{}", app.screen());
}

#[test]
fn the_command_file_leaves_a_draft_as_it_is() {
    let mut app = App::new(80, 24);
    app.loaded().paths(&["README.md", "src/main.rs"]);
    app.type_text("compare these").press(KeyCode::Char('j'), KeyModifiers::CONTROL).type_text("/file src/m");
    assert!(app.screen().contains("src/main.rs"), "the path is completed: {}", app.screen());
    app.key(KeyCode::Tab).key(KeyCode::Enter);
    assert_eq!(app.screen.composer.draft(), "@src/main.rs compare these");
    app.attend(true, &[text("src/main.rs", "fn main() {}")]);
    assert!(app.request.is_none() && app.screen().contains("[src/main.rs · 12 B"), "{}", app.screen());
    app.press(KeyCode::Char('j'), KeyModifiers::CONTROL).type_text("/file").key(KeyCode::Esc).key(KeyCode::Enter);
    assert_eq!(app.screen.composer.draft(), "@src/main.rs compare these\n@");
    app.screen.composer.set("a draft");
    app.event(Event::Submit("/file".into()));
    app.screen.begin_mention();
    assert_eq!((app.effects.last(), app.screen.composer.draft()), (Some(&Effect::BeginMention), "a draft @".into()));
}
