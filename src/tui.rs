//! The terminal interface: an event loop of receive, update, effects and draw.
//!
//! The only module that uses ratatui and crossterm. The chat's state changes only in `chat::update`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ratatui::backend::Backend;
use ratatui::crossterm::event::Event as TerminalEvent;
use ratatui::layout::Rect;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::chat::{self, Cause, Chat, ChatOptions, EngineState, Event, Note, update};
use crate::clock::Timestamp;
use crate::conversation::Conversation;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::hub::ModelName;
use crate::protocol::*;
use crate::sanitize::sanitize;
use crate::settings::{AUTO, Keymap, Layers, Resolved, Settings};
use crate::store::Resume;

mod attaching;
mod attention;
mod background;
#[cfg(feature = "clipboard")]
mod clipboard;
mod code_colours;
mod completion;
mod composer;
mod days;
mod drafts;
mod editor;
mod effects;
mod ending;
mod engine;
mod follow;
mod frames;
mod fuzzy;
mod inline;
mod input;
mod keymap;
mod keys;
mod layout;
mod library;
mod links;
mod marked;
mod mouse;
mod output;
mod overlay;
mod picker;
mod pickers;
pub mod printed;
mod repaint;
mod supply;
mod terminal;
mod theme;
mod themes;
mod tuning;
mod turn_recorder;
mod ui_state;
mod unsent;
mod usage;
mod view;
mod window;

use attention::Attention;
use code_colours::{Coloured, Colourist};
use editor::Editor;
use ending::Ending;
use input::Input;
use keys::Keys;
use output::Output;
use theme::{Canvas, ColorDepth, Theme};
use turn_recorder::TurnRecorder;
use ui_state::{Outcome, UiState};
use unsent::Unsent;
use view::glyphs::Glyphs;
pub use view::help::KEYS;

/// Minimum time between two frames.
const FRAME: Duration = Duration::from_millis(16);

/// The same while nothing but an answer changes: half the drawing, and nobody reads faster.
const ANSWER_FRAME: Duration = Duration::from_millis(33);

/// Maximum inputs handled between two frames.
const BATCH: usize = 4096;

/// Drafts longer than this, in bytes, are not tokenised while they are edited.
const LONGEST_COUNTED: usize = 256 * 1024;

/// How long to wait for the engine and the store to end before the process exits without them.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Checks that the configured theme loads; the error is a message for the user.
pub fn check_theme(settings: &Settings) -> Result<(), String> {
    let loaded = Theme::load(&settings.theme, &settings.config_dir.join("themes"), ColorDepth::None);
    loaded.map(drop).map_err(|error| error.0)
}

/// The names of all themes: the built-in ones, then those of the user's folder.
pub fn theme_names(settings: &Settings) -> Vec<String> {
    Theme::names(&settings.config_dir.join("themes")).into_iter().map(|theme| theme.name).collect()
}

/// Runs the interface until the user quits; returns the exit code. `files` are attached to the first prompt, `warnings`
/// are the transcript's first notes.
pub fn run(
    resolved: Resolved,
    resume: Option<Resume>,
    files: Vec<String>,
    warnings: Vec<String>,
) -> Result<u8, Failure> {
    let settings = resolved.settings.clone();
    if std::env::var("TERM").is_ok_and(|term| term == "dumb") {
        return Err(Failure::usage(
            "This terminal (TERM=dumb) cannot show the interface. Use chatnap -p TEXT, or set TERM to what it really is.",
        ));
    }
    // Report an unknown template name before entering the alternate screen.
    engine::chosen_template(&settings).map_err(|error| Failure::usage(error.message))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("The interface could not start: {error}.")))?;
    let ended = runtime.block_on(async {
        let mut app = App::start(settings, Layers::new(resolved), warnings)?;
        let result = app.run(resume, &files).await;
        app.end(result)
    });
    // Do not wait for the key reader: its `read` may never return.
    runtime.shutdown_background();
    ended.map_err(|error| Failure::failed(format!("The terminal cannot be used: {error}.")))
}

fn colours_to(sender: UnboundedSender<Input>) -> impl Fn(u64, Coloured) + Send + Sync {
    // The receiver is dropped only when the interface ends.
    move |id, colours| drop(sender.send(Input::Coloured(id, colours)))
}

/// The running interface: chat, screen, terminal, engine and store.
struct App {
    chat: Chat,
    screen: UiState,
    output: Output,
    terminal: terminal::CrosstermTerminal,
    row_repainter: repaint::RowRepainter,
    guard: terminal::Guard,
    ending: Ending,
    settings: Settings,
    /// Where the settings come from.
    layers: Layers,
    canvas: Canvas,
    engine: Option<Engine>,
    recorder: Option<TurnRecorder>,
    colourist: Colourist,
    fetcher: supply::Fetcher,
    /// The model that `auto` stood for at the start.
    automatic: Option<String>,
    sender: UnboundedSender<Input>,
    inputs: UnboundedReceiver<Input>,
    /// Events of the engine, apart from the other inputs because tokens can wait for the next frame.
    answers: (UnboundedSender<Input>, UnboundedReceiver<Input>),
    /// The engine's last event was a token.
    streaming: bool,
    keys: Option<Keys>,
    /// The external editor, while it owns the terminal.
    editor: Option<Editor>,
    unsent: Unsent,
    drafts: drafts::Drafts,
    attention: Attention,
    /// The window in the normal screen, with `--inline`.
    inline: Option<inline::Inline>,
    #[cfg(feature = "clipboard")]
    clipboard: Option<clipboard::SystemClipboard>,
    stored: pickers::Library,
    /// The stored conversations were requested for the current command.
    listing: bool,
    /// The composer's revision at the last `DraftChanged`.
    draft: u64,
    dirty: bool,
    /// Something else than an answer has changed since the last frame.
    urgent: bool,
    drawn: Option<Instant>,
    quit: Option<Cause>,
}

impl App {
    /// Enters the alternate screen and draws the first frame, before any access to the model or the database.
    fn start(settings: Settings, layers: Layers, warnings: Vec<String>) -> io::Result<Self> {
        let (sender, inputs) = unbounded_channel();
        let (ending, ours) = (Ending::default(), Arc::<AtomicBool>::default());
        input::listen_to_signals(&sender, &ending, &ours)?;
        let environment = |name: &str| std::env::var(name).ok();
        let depth = ColorDepth::of_environment(environment);
        let known = background::at_start(&settings.theme, depth, environment);
        let canvas = Canvas { depth, background: known.background() };
        let theme = Theme::load_on(&settings.theme, &settings.config_dir.join("themes"), canvas);
        let options = ChatOptions {
            model: settings.model.clone(),
            sampling: settings.sampling.clone(),
            think: settings.think,
            max_tokens: settings.max_tokens,
            on_overflow: settings.on_overflow,
        };
        let conversation = Conversation::new(turn_recorder::new_id(), settings.system.clone());
        let mut chat = Chat::new(options, conversation, Timestamp::now());
        chat.seed_from(random_seed());
        let theme = theme.unwrap_or_else(|error| {
            update(&mut chat, Event::Noted(Note::error(error.0)));
            Theme::fallback(canvas)
        });
        for warning in warnings {
            update(&mut chat, Event::Noted(Note::warning(warning)));
        }
        // Report an unknown catalogue name in the first frame. Check paths only after it: `stat` can block on a slow
        // disk.
        let unknown = match ModelName::parse(&settings.model) {
            _ if settings.servers.of_model(&settings.model).is_some() => None,
            Ok(ModelName::Unknown(..)) if settings.model != AUTO => engine::model_source(&settings).err(),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = unknown {
            update(&mut chat, Event::Engine(EngineEvent::LoadFailed { error }));
        }
        let mut screen = UiState::new(theme, Glyphs::of_environment(environment));
        screen.personas = completion::personas(layers.personas());
        screen.composer.use_vi(settings.keymap == Keymap::Vi);
        chat.reasoning_open = settings.reasoning_open;
        let output = Output::open(ending.clone())?;
        let attention = Attention::new(&settings.comfort, environment);
        let modes = terminal::Modes::of_environment(
            settings.comfort.mouse && !settings.comfort.inline,
            settings.comfort.inline,
        );
        let inline = settings.comfort.inline.then(inline::Inline::new);
        screen.inline = inline.is_some();
        let guard = terminal::Guard::enter(output.clone(), ours, modes)?;
        let mut terminal = terminal::screen(&output, inline.map(inline::Inline::rows))?;
        terminal.backend_mut().know(&screen.transcript.links);
        let mut app = Self {
            chat,
            screen,
            output,
            terminal,
            row_repainter: repaint::RowRepainter::default(),
            guard,
            ending,
            settings,
            layers,
            canvas,
            engine: None,
            recorder: None,
            colourist: Colourist::new(colours_to(sender.clone())),
            fetcher: supply::Fetcher::default(),
            automatic: None,
            sender,
            inputs,
            answers: unbounded_channel(),
            streaming: false,
            keys: None,
            editor: None,
            unsent: Unsent::default(),
            drafts: drafts::Drafts::default(),
            attention,
            inline,
            #[cfg(feature = "clipboard")]
            clipboard: None,
            stored: pickers::Library::default(),
            listing: false,
            draft: 0,
            dirty: true,
            urgent: true,
            drawn: None,
            quit: None,
        };
        app.draw()?;
        app.follow_background(known == background::Known::NotAsked)?;
        Ok(app)
    }

    async fn run(&mut self, resume: Option<Resume>, files: &[String]) -> io::Result<()> {
        if resume.is_some() {
            // Before the first key: type-ahead belongs to the conversation that is being loaded.
            self.chat_event(Event::Opening);
        }
        self.keys = Some(Keys::start(self.sender.clone(), !self.settings.comfort.mouse || self.inline.is_some())?);
        input::watch_terminal(self.sender.clone())?;
        self.offer_unsent();
        let fresh = resume.is_none();
        files.iter().rev().for_each(|file| self.attach(file));
        self.list_themes();
        self.recorder = Some(TurnRecorder::start(&self.settings_to_resume(), resume, &self.sender));
        if fresh {
            self.read_recent();
        }
        if self.chat.engine.state != EngineState::Failed {
            if self.settings.model != AUTO {
                self.start_engine();
            }
            self.chat_event(Event::Checking);
            self.locate(self.settings.model.clone());
        }
        while self.quit.is_none() {
            self.wait().await?;
            if self.may_draw() && self.drawn.is_none_or(|drawn| drawn.elapsed() >= self.frame_time()) {
                self.draw()?;
            }
        }
        Ok(())
    }

    /// Waits for an input or the next deadline, then handles all queued inputs, at most `BATCH`.
    async fn wait(&mut self) -> io::Result<()> {
        let (time, held) = (self.time_to_wait(), self.time_held().is_some());
        let next = async {
            tokio::select! {
                biased;
                input = self.inputs.recv() => input,
                input = self.answers.1.recv(), if !held => input,
            }
        };
        let first = match time {
            Some(time) => tokio::time::timeout(time, next).await.ok().flatten(),
            None => next.await,
        };
        let due = self.chat.next_wake().is_some_and(|wake| wake <= Timestamp::now());
        self.chat_event(Event::Tick(Timestamp::now()));
        self.save_due_draft();
        let Some(mut input) = first else {
            // Saving the draft changes nothing on the screen.
            self.dirty |= due;
            return Ok(());
        };
        for _ in 0..BATCH {
            self.take(input)?;
            if self.quit.is_some() {
                break;
            }
            let next = self.inputs.try_recv().ok();
            let Some(next) = next.or_else(|| if held { None } else { self.answers.1.try_recv().ok() }) else { break };
            input = next;
        }
        self.note_draft();
        self.note_queue();
        self.attend_files(false);
        Ok(())
    }

    /// Minimum time between the last frame and the next.
    fn frame_time(&self) -> Duration {
        if self.urgent { FRAME } else { ANSWER_FRAME }
    }

    /// Time until the tokens that arrive are handled; `None`: at once. Handling each one alone would cost more than
    /// drawing, and would not change what is drawn.
    fn time_held(&self) -> Option<Duration> {
        let drawn = self.drawn.filter(|_| self.streaming)?;
        Some(ANSWER_FRAME.saturating_sub(drawn.elapsed())).filter(|time| !time.is_zero())
    }

    /// Whether a redraw is due and no editor owns the terminal.
    fn may_draw(&self) -> bool {
        self.dirty && self.editor.is_none()
    }

    /// Sends `DraftChanged` if the composer's text has changed.
    fn note_draft(&mut self) {
        let revision = self.screen.composer.revision();
        if std::mem::replace(&mut self.draft, revision) != revision {
            let draft = self.screen.composer.draft();
            self.list_talks(&draft);
            self.draft_touched();
            let prompt = !draft.trim().is_empty() && !draft.starts_with('/');
            let prompt = prompt && !self.screen.composer.is_searching();
            let prompt = prompt && self.screen.composer.text().len() <= LONGEST_COUNTED;
            self.chat_event(Event::DraftChanged { prompt });
        }
    }

    /// Requests the stored conversations when a command is started, once for each command.
    fn list_talks(&mut self, draft: &str) {
        let wanted = draft.starts_with('/');
        if wanted
            && !std::mem::replace(&mut self.listing, wanted)
            && let Some(recorder) = &self.recorder
        {
            recorder.list(self.chat.conversation.id.clone(), &self.sender);
        }
        self.listing = wanted;
    }

    /// Time until the next frame is allowed or the chat's next deadline; `None`: no deadline, wait for an input.
    fn time_to_wait(&self) -> Option<Duration> {
        let frame = self
            .may_draw()
            .then(|| self.drawn.map_or(Duration::ZERO, |drawn| self.frame_time().saturating_sub(drawn.elapsed())));
        let wake = self.chat.next_wake().map(|wake| wake.since(Timestamp::now()));
        [frame, wake, self.draft_wait(), self.time_held()].into_iter().flatten().min()
    }

    fn take(&mut self, input: Input) -> io::Result<()> {
        self.dirty = true;
        self.urgent |= !matches!(&input, Input::Chat(Event::Engine(_)) | Input::Coloured(..));
        if let Input::Chat(Event::Engine(event)) = &input {
            self.streaming = matches!(event, EngineEvent::Token { .. });
            if let Some(recorder) = &self.recorder {
                recorder.note(event);
            }
        }
        match input {
            Input::Terminal(event) => {
                let lets_go = keys::lets_go(&event);
                self.note_focus(&event);
                let outcomes = self.screen.terminal_event(event, &self.chat);
                self.carry_out(outcomes)?;
                if let Some(keys) = self.keys.as_ref().filter(|_| lets_go && self.editor.is_none()) {
                    keys.go_on();
                }
            }
            Input::Arrows { up, count } => {
                let outcomes = self.screen.arrows(up, count, &self.chat);
                self.carry_out(outcomes)?;
            }
            Input::Chat(event) => self.chat_event(event),
            Input::Coloured(id, colours) => self.screen.transcript.coloured(id, colours),
            Input::Talks(talks) => self.set_talks(talks),
            Input::File { word, found } => self.file_read(word, *found),
            Input::Paths(folder, paths) => self.screen.set_paths(folder, paths),
            Input::Themes(themes) => self.themes_listed(themes),
            Input::Background(background) => self.background_told(background),
            Input::ColoursPerhaps { number, reads } => self.background_perhaps_changed(number, reads),
            Input::ColoursReported => self.background_changed()?,
            Input::List(view, items) => self.fill(view, items),
            Input::Library(reading) => self.read_library(reading),
            Input::Recent(recent) => self.screen.recent = recent,
            Input::Preview(view, preview) => self.preview(view, preview),
            Input::Edited(result) => {
                self.close_editor(result)?;
                if let Some(keys) = &self.keys {
                    keys.go_on();
                }
            }
            // The editor owns the terminal: it redraws itself, and Ctrl-C is for the editor.
            Input::Resized | Input::Continued if self.editor.is_some() => {}
            Input::Signal(number) if self.editor.is_some() && number == rustix::process::Signal::INT.as_raw() => {}
            Input::Suspend if self.editor.is_some() => {
                input::stop_process();
            }
            // A frame for the old size may have been written after the resize: redraw the whole screen.
            Input::Resized => self.redraw()?,
            Input::Suspend => self.suspend()?,
            Input::Continued => self.resume()?,
            Input::Signal(number) => self.chat_event(Event::Quit(Cause::Signal(number))),
            Input::TerminalGone => {
                self.chat_event(Event::Quit(Cause::Signal(rustix::process::Signal::HUP.as_raw())));
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, outcomes: Vec<Outcome>) -> io::Result<()> {
        for outcome in outcomes {
            match outcome {
                Outcome::Chat(event) => self.chat_event(event),
                Outcome::Suspend => self.suspend()?,
                Outcome::Redraw => self.redraw()?,
                Outcome::Editor => self.open_editor()?,
                Outcome::Attend => self.attend_files(true),
                Outcome::Open(view) => self.open_view(view, ""),
                Outcome::Follow(address) => self.follow_link(&address),
                Outcome::Picked(view, picked) => self.picked(view, picked),
            }
        }
        Ok(())
    }

    fn chat_event(&mut self, event: Event) {
        test_hook(&event);
        let opened = matches!(event, Event::Opened(_));
        if let Event::Opened(conversation) = &event {
            self.leave_draft(conversation);
            let turns = conversation.path().into_iter().filter_map(|id| conversation.turn(id));
            self.screen.composer.recall(turns.map(|turn| turn.prompt.as_str()));
        }
        let before = self.chat.activity.answering().map(|answering| (answering.turn, answering.submitted));
        for effect in update(&mut self.chat, event) {
            self.perform(effect);
        }
        if opened {
            self.recall_settings();
            self.show_draft();
        }
        if let Some((_, since)) = before.filter(|(turn, _)| self.chat.activity.on(*turn).is_none()) {
            self.announce(since);
        }
    }

    /// Restores the terminal, ends the engine and the store, and prints the final messages.
    fn end(mut self, result: io::Result<()>) -> io::Result<u8> {
        if result.is_err() {
            // The terminal failed or, during a signal's shutdown, does not read: save the partial answer.
            let signal = self.ending.signal().unwrap_or(rustix::process::Signal::HUP.as_raw());
            self.chat_event(Event::Quit(Cause::Signal(signal)));
        }
        if self.quit == Some(Cause::User) || !self.chat.conversation.turns().is_empty() {
            self.save_draft();
        }
        self.keep_unsent();
        self.leave_window();
        self.guard.restore();
        // If the terminal is closed, so is stderr: ratatui's `Drop` would print an error to it and panic.
        std::mem::forget(self.terminal);
        let (engine, recorder, fetcher) = (self.engine.take(), self.recorder.take(), std::mem::take(&mut self.fetcher));
        fetcher.stop();
        let standings = recorder.as_ref().map(TurnRecorder::standings);
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(recorder);
            drop(engine);
            drop(fetcher);
            // The receiver is dropped after the timeout.
            let _ = done.send(());
        });
        let _ = ended.recv_timeout(self.ending.patience(PATIENCE));
        for panic in self.guard.panics.take() {
            // Ignore the error: stderr may be closed.
            let _ = writeln!(io::stderr(), "chatnap: a background thread failed: {}", sanitize(&panic));
        }
        match (result, self.quit) {
            // EIO: the terminal was hung up.
            (Err(error), _)
                if self.ending.signal().is_none()
                    && error.raw_os_error() != Some(rustix::io::Errno::IO.raw_os_error()) =>
            {
                Err(error)
            }
            (_, Some(Cause::Signal(number))) => Ok(u8::try_from(ending::exit_code(number)).unwrap_or(1)),
            _ => {
                let standing = standings.and_then(|standing| standing(&self.chat.conversation.id));
                turn_recorder::print_how_to_continue(&self.chat.conversation, standing);
                Ok(0)
            }
        }
    }
}

/// Panics on submit if `CHATNAP_TEST_PANIC` is set, to test that a panic restores the terminal.
#[cfg(debug_assertions)]
#[allow(clippy::panic, reason = "a test needs the panic; debug builds only")]
fn test_hook(event: &chat::Event) {
    if matches!(event, Event::Submit(_)) && std::env::var_os("CHATNAP_TEST_PANIC").is_some() {
        panic!("a panic for the test");
    }
}

#[cfg(not(debug_assertions))]
fn test_hook(_: &chat::Event) {}
