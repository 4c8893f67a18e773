//! `/usage`: the store's thread sums up what is stored, and a note says it.

use super::{App, Input};
use crate::chat::{Event, Note, NoteKind};
use crate::settings::format_idle_window;
use crate::store::now_ms;
use crate::usage::{Figures, Period};

impl App {
    pub(super) fn show_usage(&mut self) {
        let (sender, prices) = (self.sender.clone(), self.layers.start().prices.clone());
        let job = move |store: &mut crate::store::Store| {
            let note = match store.usage() {
                Ok((answers, loads)) => {
                    let period = Period::of_all(&answers, &loads, u64::try_from(now_ms()).unwrap_or_default());
                    let figures = Figures::of(period, &answers, &loads, &prices);
                    Note { kind: NoteKind::Info, text: figures.summary(format_idle_window) }
                }
                Err(error) => Note::error(format!("The usage cannot be read. {error}")),
            };
            // The receiver is dropped only when the interface ends.
            let _ = sender.send(Input::Chat(Event::Noted(note)));
        };
        let reads = self.recorder.as_ref().is_some_and(|recorder| recorder.with_store(job));
        if !reads {
            self.chat_event(Event::Hinted("nothing is stored: there is no usage to sum up".into()));
        }
    }
}
