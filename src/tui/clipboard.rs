//! The system clipboard, beside OSC 52: a thread owns it, because on X11 the owner must serve what it has copied.

use std::sync::mpsc::{Sender, channel};

use tokio::sync::mpsc::UnboundedSender;

use super::input::Input;
use crate::chat::Event;

/// Copies texts in the order in which they are sent.
#[derive(Debug)]
pub(super) struct SystemClipboard(Sender<String>);

impl SystemClipboard {
    /// Starts the thread; without it only OSC 52 is used. A hint reports each copy.
    pub fn start(inputs: UnboundedSender<Input>) -> Self {
        let (sender, texts) = channel::<String>();
        let serve = move || {
            let mut clipboard = None;
            for text in texts {
                let told = match copy(&mut clipboard, text) {
                    Ok(()) => "copied to the system clipboard".to_owned(),
                    Err(error) => format!("copied, if the terminal writes to the clipboard (OSC 52); {error}"),
                };
                // The receiver is dropped only when the interface ends.
                let _ = inputs.send(Input::Chat(Event::Hinted(told)));
            }
        };
        let _ = std::thread::Builder::new().name("clipboard".into()).spawn(serve);
        Self(sender)
    }

    /// Copies `text` soon.
    pub fn copy(&self, text: &str) {
        let _ = self.0.send(text.to_owned());
    }
}

fn copy(clipboard: &mut Option<arboard::Clipboard>, text: String) -> Result<(), arboard::Error> {
    let open = match clipboard.take() {
        Some(open) => open,
        None => arboard::Clipboard::new()?,
    };
    clipboard.insert(open).set_text(text)
}
