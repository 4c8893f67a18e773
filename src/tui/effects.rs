//! Carries out the chat's effects on the engine, the store, the composer and the terminal.

use super::*;
use crate::chat::{Effect, NoteKind};

impl App {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Generate(request) => self.generate(request),
            Effect::Cancel(id) => self.with_engine(|engine| engine.cancel(id)),
            Effect::Count(id) => {
                let messages = self.chat.messages_with(self.screen.composer.text());
                self.count(id, messages);
            }
            Effect::CountMessages(id, messages) => self.count(id, messages),
            Effect::Attach(name) => self.attach(&name),
            Effect::BeginMention => self.screen.begin_mention(),
            Effect::Load if self.engine.is_none() => {
                self.chat_event(Event::Hinted("there is no engine; /model NAME tries again".into()));
            }
            Effect::Load => self.with_engine(Engine::load),
            Effect::Release => self.with_engine(Engine::release),
            Effect::Locate(model) => self.locate(model),
            Effect::UseModel(model) => self.use_automatic(model),
            Effect::Fetch(model) => self.fetch(model),
            Effect::StopFetch => self.fetcher.stop(),
            Effect::SwitchModel(name) => self.switch_model(name),
            Effect::Save(record) => {
                if let Some(recorder) = &self.recorder {
                    recorder.save(*record, &self.sender);
                }
            }
            Effect::NewConversation { system } => {
                let mut conversation = Conversation::new(turn_recorder::new_id(), system);
                conversation.settings.clone_from(self.layers.remembered());
                self.save_draft();
                self.drafts.carried = true;
                self.chat_event(Event::Opened(conversation));
                self.read_recent();
            }
            Effect::Fork(copy) => {
                let mut copy = *copy;
                copy.id = turn_recorder::new_id();
                self.chat_event(Event::Forked(copy));
            }
            Effect::Resume(id) => match &self.recorder {
                Some(recorder) => recorder.take_up(Resume::Id(id), None, "This one goes on.", &self.sender),
                None => self.chat_event(Event::NotOpened("No conversation can be read. This one goes on.".into())),
            },
            Effect::Select(conversation, turn) => {
                if let Some(recorder) = &self.recorder {
                    recorder.select(conversation, turn, &self.sender);
                }
            }
            Effect::Change(conversation, change) => {
                if let Some(recorder) = &self.recorder {
                    recorder.change(conversation, change, &self.sender);
                }
            }
            Effect::ClearDraft => self.screen.composer.discard(),
            Effect::PutBack(text) => self.screen.composer.put_back(&text),
            Effect::ReturnPrompts(prompts) => self.screen.composer.return_prompts(prompts),
            Effect::Copy(text) => self.copy(&text),
            Effect::ShowStats(_) if self.screen.has_room_for_panel() => drop(self.screen.toggle_panel()),
            Effect::ShowStats(text) => self.chat_event(Event::Noted(Note { kind: NoteKind::Info, text })),
            Effect::ShowUsage => self.show_usage(),
            Effect::Export(id, file) => self.export(id, file),
            Effect::Open(view, query) => self.open_view(view, &query),
            Effect::SetTheme(name) => self.set_theme(name),
            Effect::Set(name, value) => self.set(&name, value.as_deref()),
            Effect::SetPersona(name) => self.set_persona(&name),
            Effect::Quit(cause) => self.quit = Some(cause),
        }
    }

    fn copy(&mut self, text: &str) {
        let told = match terminal::copy(&mut self.terminal, text) {
            Ok(()) => "copied, if the terminal lets programs write to the clipboard (OSC 52)".to_owned(),
            Err(error) => format!("not copied: {error}"),
        };
        self.chat_event(Event::Hinted(told));
        #[cfg(feature = "clipboard")]
        {
            let sender = self.sender.clone();
            self.clipboard.get_or_insert_with(|| clipboard::SystemClipboard::start(sender)).copy(text);
        }
    }
}
