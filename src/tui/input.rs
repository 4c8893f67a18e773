//! Inputs of the event loop, through one channel: keys, signals, engine events, store results.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ratatui::crossterm::event::Event as TerminalEvent;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::code_colours::Coloured;
use super::completion::ConversationChoice;
use super::ending::Ending;
use super::library::{Reading, Recent};
use super::picker::{Item, Preview};
use super::theme::{Background, ThemeName};
use crate::chat::{self, View};
use crate::conversation::Attachment;
use crate::files::text::Refusal;

/// The file of a word, or the name and the reason why there is none.
pub type Found = Result<Attachment, (String, Refusal)>;

/// An input of the event loop.
#[derive(Debug)]
pub enum Input {
    /// A key, a paste or a resize.
    Terminal(TerminalEvent),
    /// An event that is passed to the chat unchanged.
    Chat(chat::Event),
    /// This many arrow keys at once: most likely the mouse wheel.
    Arrows { up: bool, count: usize },
    /// The stored conversations, for `/resume`.
    Talks(Vec<ConversationChoice>),
    /// The file that a word of the draft names, or why there is none.
    File { word: String, found: Box<Found> },
    /// The paths of a folder, for completion.
    Paths(String, Vec<String>),
    /// All themes.
    Themes(Vec<ThemeName>),
    /// The terminal's background, as the terminal tells it after the first frame.
    Background(Background),
    /// The read with this number is perhaps a report of changed colours; `reads`: number of reads done.
    ColoursPerhaps { number: u64, reads: Arc<AtomicU64> },
    /// The terminal has reported a change of its colours.
    ColoursReported,
    /// Items for the list of this kind, if it is open.
    List(View, Vec<Item>),
    /// What was read for the list of conversations.
    Library(Reading),
    /// The conversations that the start screen shows.
    Recent(Vec<Recent>),
    /// The preview of an item of the list of this kind, if it is open.
    Preview(View, Preview),
    /// The colours of the code block of this job.
    Coloured(u64, Coloured),
    /// The editor exited: the new text, or the error.
    Edited(Result<String, String>),
    /// SIGWINCH: the terminal's size changed.
    Resized,
    /// SIGTSTP from another process.
    Suspend,
    /// SIGCONT: the process was stopped and continues.
    Continued,
    /// A signal that ends the program: SIGTERM, SIGHUP or SIGINT.
    Signal(i32),
    /// The terminal was closed.
    TerminalGone,
}

/// Watches for a terminal that closes without a signal: crossterm's reader would wait for keys for ever.
pub fn watch_terminal(sender: UnboundedSender<Input>) -> io::Result<()> {
    #[allow(
        deprecated,
        reason = "the descriptor of standard input is never closed, so the safe constructor is sound here"
    )]
    let terminal = AsyncFd::with_interest(io::stdin(), Interest::READABLE)?;
    tokio::spawn(async move {
        while let Ok(mut ready) = terminal.readable().await {
            if ready.ready().is_read_closed() {
                // The receiver is dropped only when the interface ends.
                let _ = sender.send(Input::TerminalGone);
                return;
            }
            ready.clear_ready();
        }
    });
    Ok(())
}

/// Turns signals into inputs, on a separate thread: a terminal write may block the interface. Signals that end the
/// program start `ending` at once; SIGINT only if `ours` is set, which an open editor clears.
pub fn listen_to_signals(sender: &UnboundedSender<Input>, ending: &Ending, ours: &Arc<AtomicBool>) -> io::Result<()> {
    use rustix::process::Signal;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut tasks = Vec::new();
    for number in [Signal::TERM, Signal::HUP, Signal::INT, Signal::TSTP, Signal::CONT, Signal::WINCH] {
        tasks.push((number, signal(SignalKind::from_raw(number.as_raw()))?));
    }
    drop(guard);
    for (number, mut stream) in tasks {
        let (sender, ending, ours) = (sender.clone(), ending.clone(), ours.clone());
        runtime.spawn(async move {
            while stream.recv().await.is_some() {
                tracing::info!(signal = number.as_raw(), "signal received");
                let input = match number {
                    Signal::TSTP => Input::Suspend,
                    Signal::CONT => Input::Continued,
                    Signal::WINCH => Input::Resized,
                    end => {
                        if end != Signal::INT || ours.load(Ordering::Acquire) {
                            ending.begin(end.as_raw());
                        }
                        Input::Signal(end.as_raw())
                    }
                };
                // The receiver is dropped only when the interface ends.
                let _ = sender.send(input);
            }
        });
    }
    let listen = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
}

/// Stops this process group until the shell continues it. False if there is no shell to do so.
pub fn stop_process() -> bool {
    use nix::unistd::{getppid, getsid};
    // The first process of a terminal window has no parent shell: once stopped, it would never be continued.
    // nix, not rustix: in a container the session leader may be outside the PID namespace. Its id then reads as 0,
    // which rustix treats as impossible.
    let own = getsid(None).ok();
    let parents = getsid(Some(getppid())).ok();
    own.is_some()
        && own == parents
        && rustix::process::kill_current_process_group(rustix::process::Signal::STOP).is_ok()
}
