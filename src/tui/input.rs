//! Everything that reaches the interface, through one channel: keys, signals, the engine, the store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::crossterm::event::Event as TerminalEvent;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::completion::ConversationChoice;
use super::ending::Ending;
use crate::chat;

/// What can reach the interface.
#[derive(Debug)]
pub enum Input {
    /// A key, a paste, another size.
    Terminal(TerminalEvent),
    /// Something that the chat takes as it is.
    Chat(chat::Event),
    /// The wheel was turned so many lines, up or down.
    Wheel {
        /// Towards the beginning.
        up: bool,
        /// How far.
        lines: usize,
    },
    /// The conversations that are stored.
    Talks(Vec<ConversationChoice>),
    /// The editor ended, with this text or for that reason.
    Edited(Result<String, String>),
    /// Another size.
    Resized,
    /// Somebody else asks for a suspension.
    Suspend,
    /// The process was stopped and goes on.
    Continued,
    /// SIGTERM or the like.
    Signal(i32),
    /// There is no terminal any more.
    TerminalGone,
}

/// Watches for a terminal that goes away without a signal: crossterm's reader would wait for its keys for ever.
pub fn watch_terminal(sender: UnboundedSender<Input>) -> io::Result<()> {
    #[allow(
        deprecated,
        reason = "nobody closes the descriptor of standard input, so the safe constructor is sound here"
    )]
    let terminal = AsyncFd::with_interest(io::stdin(), Interest::READABLE)?;
    tokio::spawn(async move {
        while let Ok(mut ready) = terminal.readable().await {
            if ready.ready().is_read_closed() {
                // The receiver is gone only where the interface has ended.
                let _ = sender.send(Input::TerminalGone);
                return;
            }
            ready.clear_ready();
        }
    });
    Ok(())
}

/// Turns signals into inputs, on a thread of its own: the interface may be blocked by its terminal. Those that ask for
/// the end begin `ending` at once; Ctrl-C does so only while the terminal is `ours` and not the editor's.
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
                // The receiver is gone only where the interface has ended.
                let _ = sender.send(input);
            }
        });
    }
    let listen = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
}

/// Stops this process's group until the shell continues it. False where no shell is there that could.
pub fn stop_process() -> bool {
    use nix::unistd::{getppid, getsid};
    // A terminal window's first process has no shell above it: stopped, it would never run again.
    // nix, not rustix: within a container the leader of a session may lie outside, and its id reads as 0,
    // which rustix takes to be impossible.
    let own = getsid(None).ok();
    let parents = getsid(Some(getppid())).ok();
    own.is_some()
        && own == parents
        && rustix::process::kill_current_process_group(rustix::process::Signal::STOP).is_ok()
}
