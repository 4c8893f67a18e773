//! The thread that reads the terminal, so that a long paste holds nothing up. It lets go of the terminal at the key that
//! asks for the editor, until it is told to go on.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyCode, KeyModifiers};
use tokio::sync::mpsc::UnboundedSender;

use super::input::Input;

/// Arrow keys that follow one another this fast were not pressed by a finger.
const SAME_TURN: Duration = Duration::from_millis(2);

/// On the alternate screen a terminal tells a turn of the wheel as so many arrow keys at least.
const LINES_OF_A_TURN: usize = 3;

/// A handle to the reading thread.
pub struct Keys {
    go_on: Sender<()>,
}

impl Keys {
    /// Begins to read.
    pub fn start(sender: UnboundedSender<Input>) -> io::Result<Self> {
        let (go_on, told) = channel();
        let reader = Reader { sender, told };
        std::thread::Builder::new().name("keys".into()).spawn(move || reader.run())?;
        Ok(Self { go_on })
    }

    /// Reads on after an event that `lets_go`; once for each.
    pub fn go_on(&self) {
        // A thread that has ended has said so itself.
        let _ = self.go_on.send(());
    }
}

/// Whether nothing is read after this event until it is dealt with: the editor may want the keyboard.
pub fn lets_go(event: &TerminalEvent) -> bool {
    let key = event.as_key_press_event();
    key.is_some_and(|key| key.code == KeyCode::Char('g') && key.modifiers == KeyModifiers::CONTROL)
}

struct Reader {
    sender: UnboundedSender<Input>,
    told: Receiver<()>,
}

impl Reader {
    fn run(self) {
        let mut next = None;
        loop {
            let read = next.take().map_or_else(event::read, Ok);
            let Ok(following) = read.and_then(|event| self.forward(event)) else { break };
            next = following;
        }
        // The receiver is gone only where the interface has ended.
        let _ = self.sender.send(Input::TerminalGone);
    }

    /// Passes an event on, and those that belong to it; gives back one that does not.
    fn forward(&self, first: TerminalEvent) -> io::Result<Option<TerminalEvent>> {
        let Some(up) = arrow(&first) else { return self.pass(first).map(|()| None) };
        let (mut lines, mut other) = (1, None);
        while other.is_none() && event::poll(SAME_TURN)? {
            let next = event::read()?;
            if next == first { lines += 1 } else { other = Some(next) }
        }
        if lines >= LINES_OF_A_TURN {
            self.send(Input::Wheel { up, lines })?;
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

/// Whether this is the key Up (true) or Down, without anything else held.
fn arrow(event: &TerminalEvent) -> Option<bool> {
    let key = event.as_key_press_event().filter(|key| key.modifiers.is_empty())?;
    match key.code {
        KeyCode::Up => Some(true),
        KeyCode::Down => Some(false),
        _ => None,
    }
}
