//! The thread that reads the terminal, so that a long paste does not block the interface. It stops reading at the key
//! that opens the editor, until `go_on`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyCode, KeyModifiers};
use tokio::sync::mpsc::UnboundedSender;

use super::background::Source;
use super::input::Input;

/// Arrow keys at most this far apart come from the mouse wheel, not from key presses.
const SAME_TURN: Duration = Duration::from_millis(2);

/// Minimum arrow keys that a terminal sends for one wheel step on the alternate screen.
const LINES_OF_A_TURN: usize = 3;

/// A handle to the reading thread.
pub struct Keys {
    go_on: Sender<()>,
    guesses: Arc<AtomicBool>,
}

impl Keys {
    /// Starts the thread. `guesses`: several arrow keys at once are taken for the wheel.
    pub fn start(sender: UnboundedSender<Input>, guesses: bool) -> io::Result<Self> {
        let (go_on, told) = channel();
        let guesses = Arc::new(AtomicBool::new(guesses));
        let reader = Reader { source: Source::new(sender.clone()), sender, told, guesses: guesses.clone() };
        std::thread::Builder::new().name("keys".into()).spawn(move || reader.run())?;
        Ok(Self { go_on, guesses })
    }

    /// Whether several arrow keys at once are taken for the wheel from now on.
    pub fn guess(&self, on: bool) {
        self.guesses.store(on, Ordering::Relaxed);
    }

    /// Resumes reading after an event that `lets_go`; call it once for each.
    pub fn go_on(&self) {
        // A thread that has ended has already sent `TerminalGone`.
        let _ = self.go_on.send(());
    }
}

/// Whether reading stops after this event until `go_on`: the editor may take over the keyboard.
pub fn lets_go(event: &TerminalEvent) -> bool {
    let key = event.as_key_press_event();
    key.is_some_and(|key| key.code == KeyCode::Char('g') && key.modifiers == KeyModifiers::CONTROL)
}

struct Reader {
    source: Source,
    sender: UnboundedSender<Input>,
    told: Receiver<()>,
    /// Several arrow keys at once are taken for the wheel. Not while the terminal reports the mouse.
    guesses: Arc<AtomicBool>,
}

impl Reader {
    fn run(mut self) {
        let mut next = None;
        loop {
            let read = match next.take() {
                Some(event) => Ok((event, false)),
                None => self.source.read(),
            };
            let Ok(following) = read.and_then(|(event, twice)| self.forward(event, twice)) else { break };
            next = following;
        }
        // The receiver is dropped only when the interface ends.
        let _ = self.sender.send(Input::TerminalGone);
    }

    /// Forwards an event, or two of them, and the arrow keys of the same wheel step; returns the first event after them.
    fn forward(&self, first: TerminalEvent, twice: bool) -> io::Result<Option<TerminalEvent>> {
        let up = match arrow(&first) {
            Some(up) if self.guesses.load(Ordering::Relaxed) => up,
            _ if twice => return self.pass(first.clone()).and_then(|()| self.pass(first)).map(|()| None),
            _ => return self.pass(first).map(|()| None),
        };
        let (mut lines, mut other) = (1, None);
        while other.is_none() && event::poll(SAME_TURN)? {
            let next = event::read()?;
            if next == first { lines += 1 } else { other = Some(next) }
        }
        if lines >= LINES_OF_A_TURN {
            self.send(Input::Arrows { up, count: lines })?;
        } else {
            (0..lines).try_for_each(|_| self.pass(first.clone()))?;
        }
        Ok(other)
    }

    fn pass(&self, event: TerminalEvent) -> io::Result<()> {
        let lets_go = lets_go(&event);
        self.send(Input::Terminal(event))?;
        if lets_go { self.told.recv().map_err(|_| io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn send(&self, input: Input) -> io::Result<()> {
        self.sender.send(input).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Whether this is Up (true) or Down (false) without modifiers.
fn arrow(event: &TerminalEvent) -> Option<bool> {
    let key = event.as_key_press_event().filter(|key| key.modifiers.is_empty())?;
    match key.code {
        KeyCode::Up => Some(true),
        KeyCode::Down => Some(false),
        _ => None,
    }
}
