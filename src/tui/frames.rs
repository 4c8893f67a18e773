//! Frames, the title, announcements, and giving the terminal to the shell and taking it back.

use super::*;

impl App {
    /// Announces the end of an answer to a prompt of this time, if the user looks elsewhere.
    pub(super) fn announce(&mut self, since: Timestamp) {
        if let Some(bytes) = self.attention.ended(&self.chat, Timestamp::now().since(since)) {
            // A terminal that cannot be written to fails at the next frame.
            let _ = terminal::write(&mut self.terminal, &bytes);
        }
    }

    pub(super) fn note_focus(&mut self, event: &TerminalEvent) {
        match event {
            TerminalEvent::FocusGained => self.attention.focus(true),
            TerminalEvent::FocusLost => self.attention.focus(false),
            _ => {}
        }
    }

    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.leave_window();
        self.guard.restore();
        let stopped = input::stop_process();
        self.resume()?;
        if !stopped {
            self.chat_event(Event::Hinted("there is no shell to go back to".into()));
        }
        Ok(())
    }

    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.guard.resume()?;
        self.follow_background(true)?;
        self.redraw()
    }

    /// Clears and redraws the screen. ratatui's `Terminal::clear` would block: it queries the cursor position, and the
    /// reply goes to the thread that reads keys.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        match &mut self.inline {
            Some(inline) => inline.lose(),
            None => {
                self.terminal = terminal::screen(&self.output, None)?;
                self.terminal.backend_mut().know(&self.screen.transcript.links);
                self.terminal.backend_mut().clear()?;
            }
        }
        self.attention.forget_title();
        self.dirty = true;
        Ok(())
    }

    pub(super) fn draw(&mut self) -> io::Result<()> {
        self.place_window()?;
        let Self { chat, screen, terminal, row_repainter, colourist, .. } = self;
        terminal::draw(terminal, |frame| {
            let area: Rect = frame.area();
            screen.layout(chat, area);
            view::draw(frame, chat, screen);
            row_repainter.mark(frame.buffer_mut());
        })?;
        screen.transcript.take_jobs().into_iter().for_each(|job| colourist.ask(job));
        if let Some(title) = self.attention.title(&self.chat) {
            terminal::write(&mut self.terminal, &title)?;
        }
        (self.dirty, self.urgent) = (false, false);
        self.drawn = Some(Instant::now());
        Ok(())
    }
}
