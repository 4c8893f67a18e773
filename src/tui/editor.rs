//! The external editor: edits the draft in `$VISUAL` or `$EDITOR`.

use std::io::{self, Write};

use tempfile::NamedTempFile;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::UnboundedSender;

use super::App;
use super::input::Input;
use crate::chat::Event;

/// The draft in a temporary file, and the editor's command line.
pub struct Prepared {
    program: String,
    file: NamedTempFile,
}

/// A running editor, which owns the terminal. Dropping it deletes the file.
pub struct Editor {
    _file: NamedTempFile,
}

impl App {
    /// Hands the terminal to the user's editor, with the draft. The engine keeps running.
    pub(super) fn open_editor(&mut self) -> io::Result<()> {
        let prepared = match Editor::prepare(&self.screen.composer.text()) {
            Ok(prepared) => prepared,
            Err(why) => {
                self.chat_event(Event::Hinted(why));
                return Ok(());
            }
        };
        self.leave_window();
        self.guard.restore();
        match prepared.open(self.sender.clone()) {
            Ok(editor) => self.editor = Some(editor),
            Err(why) => self.close_editor(Err(why))?,
        }
        Ok(())
    }

    pub(super) fn close_editor(&mut self, result: Result<String, String>) -> io::Result<()> {
        self.editor = None;
        self.resume()?;
        match result {
            Ok(text) => {
                let outcomes = self.screen.write(&text);
                outcomes.into_iter().for_each(|event| self.chat_event(event));
            }
            Err(why) => self.chat_event(Event::Hinted(format!("{why}; what you wrote is as it was"))),
        }
        Ok(())
    }
}

impl Editor {
    /// Writes the draft to a temporary file that only the user can read.
    pub fn prepare(draft: &str) -> Result<Prepared, String> {
        let named = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
        let program = named.into_iter().find(|program| !program.trim().is_empty());
        let program = program.or_else(usual_editor);
        let program = program.ok_or("there is no vi or nano; set VISUAL or EDITOR to write in your editor")?;
        let write = || {
            let mut file = tempfile::Builder::new().prefix("chatnap-").suffix(".md").tempfile()?;
            file.write_all(draft.as_bytes())?;
            Ok(file)
        };
        let file = write().map_err(|error: io::Error| format!("the draft cannot be written to a file: {error}"))?;
        Ok(Prepared { program, file })
    }
}

/// The editor that shells fall back to, if it is installed.
fn usual_editor() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let installed = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    ["vi", "nano"].into_iter().find(installed).map(str::to_owned)
}

impl Prepared {
    /// Starts the editor; sends `Input::Edited` when it exits.
    pub fn open(self, sender: UnboundedSender<Input>) -> Result<Editor, String> {
        let Self { program, file } = self;
        let path = file.path().to_owned();
        // A shell splits it, as in git: `code --wait` is a program and an argument.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{program} \"$@\""), &program]).arg(&path).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("the editor cannot be started: {error}"))?;
        tokio::spawn(async move {
            let ended = wait(child).await;
            let text = ended.and_then(|()| std::fs::read_to_string(&path).map_err(|error| error.to_string()));
            // The receiver is dropped only when the interface ends.
            let _ = sender.send(Input::Edited(text.map(without_last_newline)));
        });
        Ok(Editor { _file: file })
    }
}

async fn wait(mut child: Child) -> Result<(), String> {
    let status = child.wait().await.map_err(|error| format!("the editor is lost: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the editor failed ({status})")) }
}

/// Removes the newline that editors add to the last line.
fn without_last_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        text.truncate(text.trim_end_matches('\r').len());
    }
    text
}
