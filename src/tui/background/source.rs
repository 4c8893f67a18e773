//! Reads the terminal through crossterm, and takes out what terminals say about their background.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use tokio::sync::mpsc::UnboundedSender;

use super::answer::{Answer, Step};
use crate::tui::input::Input;

/// Maximum time between two bytes of an answer.
const PAUSE: Duration = Duration::from_millis(30);

/// Length of a report of changed colours, `ESC [ ? 997 ; 1 n`, alone or with a key.
const REPORT: RangeInclusive<u64> = 9..=16;

/// How long crossterm needs at most to make an event of bytes that have come.
const PROMPT: Duration = Duration::from_millis(20);

/// Timeout for events that crossterm has read already.
const MOMENT: Duration = Duration::from_millis(10);

/// Bytes of two presses of Esc in one read, on a terminal without the kitty keyboard protocol.
const TWO_ESCAPES: u64 = 2;

/// The events of the terminal, without answers and reports.
pub struct Source {
    sender: UnboundedSender<Input>,
    /// Events that looked like the beginning of an answer.
    held: VecDeque<Event>,
    /// Number of events read.
    reads: Arc<AtomicU64>,
    /// The last bytes were several: crossterm may have more events of them.
    more: bool,
}

/// Waits a moment; returns whether the read with this number has still made no event, so that it was a report.
pub async fn is_report(number: u64, reads: Arc<AtomicU64>) -> bool {
    tokio::time::sleep(PROMPT).await;
    reads.load(Ordering::Acquire) == number
}

impl Source {
    /// Answers and reports go to `sender`.
    pub fn new(sender: UnboundedSender<Input>) -> Self {
        Self { sender, held: VecDeque::new(), reads: Arc::default(), more: false }
    }

    /// Waits for the next event; returns also whether it stands for two presses of Esc: crossterm reads two Esc bytes as
    /// one key.
    pub fn read(&mut self) -> io::Result<(Event, bool)> {
        loop {
            if let Some(event) = self.held.pop_front() {
                return Ok((event, false));
            }
            let (event, bytes) = self.next()?;
            if Answer::begins(&event) {
                self.answer(event)?;
                continue;
            }
            let twice = is_escape(&event) && bytes == TWO_ESCAPES && waiting()? == 0;
            return Ok((event, twice));
        }
    }

    /// Reads the rest of an answer that begins with `first`; holds the events if it is none.
    fn answer(&mut self, first: Event) -> io::Result<()> {
        let (mut answer, mut read) = (Answer::default(), vec![first]);
        while event::poll(PAUSE)? {
            let event = event::read()?;
            match answer.step(&event) {
                Step::More => read.push(event),
                Step::Told(background) => return self.send(Input::Background(background)),
                Step::Key => {
                    read.push(event);
                    break;
                }
            }
        }
        self.held.extend(read);
        Ok(())
    }

    /// The next event, and the number of bytes that the terminal had to read for it; 0 if it had been read before.
    ///
    /// crossterm's parser takes a report for the beginning of something longer: it would swallow all keys up to the next
    /// `c` or `u`. So a read that could be a report is announced, and the answer to the question that follows ends with
    /// `c`.
    ///
    /// crossterm's lock is held only for a moment: another thread may ask for the cursor's position meanwhile.
    fn next(&mut self) -> io::Result<(Event, u64)> {
        let mut bytes = 0;
        while !self.more || !has_read()? {
            wait()?;
            bytes = waiting()?;
            if REPORT.contains(&bytes) {
                let reads = self.reads.clone();
                self.send(Input::ColoursPerhaps { number: reads.load(Ordering::Acquire), reads })?;
            }
            self.more = bytes > 1;
            if has_read()? {
                break;
            }
        }
        let event = event::read()?;
        self.reads.fetch_add(1, Ordering::Release);
        Ok((event, bytes))
    }

    fn send(&self, input: Input) -> io::Result<()> {
        self.sender.send(input).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Whether crossterm has read more events than it has returned. It returns none if the timeout is over before it looks:
/// always with a timeout of zero, and on a busy computer with another one. So look twice.
fn has_read() -> io::Result<bool> {
    Ok(event::poll(MOMENT)? || event::poll(MOMENT)?)
}

/// Number of bytes that the terminal has to read.
fn waiting() -> io::Result<u64> {
    Ok(ioctl_fionread(rustix::stdio::stdin())?)
}

fn is_escape(event: &Event) -> bool {
    event.as_key_press_event().is_some_and(|key| key.code == KeyCode::Esc && key.modifiers.is_empty())
}

/// Waits until the terminal has something to read.
fn wait() -> io::Result<()> {
    let stdin = rustix::stdio::stdin();
    loop {
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => return Ok(()),
            // A closed terminal.
            Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
