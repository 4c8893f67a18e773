//! Changes of settings while the program runs: `/set`, `/persona`, and what an opened conversation remembers.

use super::App;
use crate::chat::{Event, Note, NoteKind, Tuned};
use crate::engine::Engine;
use crate::engine::source::ModelSource;
use crate::hub::HubSource;
use crate::protocol::{NO_THINK_SWITCH, Recommended, SamplingSource};
use crate::sanitize::{sanitize, sanitize_line};
use crate::settings::{
    AUTO, Applies, DEFAULT, Key, Keymap, Layers, NO_PERSONA, Origin, Recommendation, Settings, named, unknown,
};

impl App {
    /// `/set KEY VALUE`, or `/set KEY`, which shows it. A wrong command comes back into the composer.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) {
        let done = match named(name) {
            None => Err(unknown(name)),
            Some(key) => match value {
                None => {
                    self.show_setting(key);
                    Ok(())
                }
                Some(value) => self.change_setting(key, value),
            },
        };
        if let Err(why) = done {
            self.chat_event(Event::Hinted(sanitize_line(&why)));
            let value = value.map(|value| format!(" {value}")).unwrap_or_default();
            self.screen.composer.put_back(&format!("/set {name}{value}"));
        }
    }

    /// Changes a setting and says when that takes effect; the error says what is wrong with the value.
    pub(super) fn change_setting(&mut self, key: &'static Key, value: &str) -> Result<(), String> {
        let facts = key.facts();
        match key.name {
            _ if facts.applies == Applies::AtStart => {
                let advice = format!("{} = … in {}", key.name, self.layers.start().config_file.display());
                return Err(format!("{} changes only at the start: set it with {advice} for the next one", key.name));
            }
            "mouse" if self.inline.is_some() => {
                return Err("with inline the mouse belongs to the terminal, which scrolls its own lines".to_owned());
            }
            "model" | "theme" | "system" => self.by_command(key, value)?,
            _ if facts.applies == Applies::Reload && self.is_answering() => {
                return Err("an answer is being written: Esc stops it".into());
            }
            _ => {
                self.layers.set(key, value)?;
                self.retune(key.name == "reasoning");
                let told = self.told(key);
                self.chat_event(Event::Hinted(told));
            }
        }
        self.refresh_settings();
        Ok(())
    }

    pub(super) fn is_answering(&self) -> bool {
        self.chat.activity.is_busy()
    }

    /// Settings with a command of their own.
    fn by_command(&mut self, key: &'static Key, value: &str) -> Result<(), String> {
        let value = match (value, (key.get)(&self.layers.effective())) {
            (DEFAULT, Some(start)) => start,
            (DEFAULT, None) => "none".to_owned(),
            (value, _) => value.to_owned(),
        };
        if key.name != "system" {
            (key.set)(&mut self.settings.clone(), &value)?;
        }
        self.chat_event(Event::Submit(format!("/{} {value}", key.name)));
        Ok(())
    }

    /// What a change of `key` has done.
    fn told(&self, key: &Key) -> String {
        let facts = key.facts();
        let value = self.shown_value(key);
        let when = match facts.applies {
            Applies::NextPrompt => "from the next prompt on",
            Applies::Reload if self.chat.engine.is_loaded() => "the model is loaded again",
            Applies::Reload => "with the next load",
            Applies::AtOnce | Applies::AtStart => "from now on",
        };
        let kept = match (facts.remembered, self.setting_origin(key)) {
            (true, Origin::Conversation) => "in this conversation".to_owned(),
            (false, Origin::Session) => "until chatnap ends".to_owned(),
            (_, origin) => origin.to_string(),
        };
        let switchless = self.chat.engine.info.as_ref().is_some_and(|info| !info.think_switch);
        if key.name == "think" && self.settings.think.is_some() && switchless {
            return sanitize_line(&format!("{} {value}: {NO_THINK_SWITCH}", key.name));
        }
        sanitize_line(&format!("{} {value}: {when}, {kept}", key.name))
    }

    /// The value in effect, as a line of text.
    pub(super) fn shown_value(&self, key: &Key) -> String {
        let value = match key.name {
            "system" => self.chat.conversation.system.clone().filter(|text| !text.is_empty()),
            "reasoning" => Some(if self.chat.reasoning_open { "show".to_owned() } else { "fold".to_owned() }),
            _ => (key.get)(&self.settings).or_else(|| self.recommendation().of(key).map(|(value, _)| value)),
        };
        value.unwrap_or_else(|| "none".to_owned())
    }

    /// What the model recommends: all of it once it was loaded, what the catalogue says before.
    fn recommendation(&self) -> Recommendation {
        match &self.chat.engine.info {
            Some(info) => Recommendation { values: info.sampling.clone(), complete: true },
            None => {
                let listed = HubSource::new(&self.settings).map(|source| source.recommended()).unwrap_or_default();
                let values = Recommended::from(SamplingSource::Catalogue, listed);
                Recommendation { values, complete: false }
            }
        }
    }

    /// Where the value in effect comes from.
    pub(super) fn setting_origin(&self, key: &Key) -> Origin {
        if (key.get)(&self.settings).is_none()
            && let Some((_, origin)) = self.recommendation().of(key)
        {
            return origin;
        }
        let (layers, start) = (&self.layers, &self.layers.start().settings);
        let from_layers = match key.name {
            "model" => {
                let model = layers.effective().model;
                self.settings.model == model || (model == AUTO && self.automatic.as_ref() == Some(&self.settings.model))
            }
            "theme" => self.settings.theme == start.theme,
            "system" => {
                let system = self.chat.conversation.system.as_deref().unwrap_or_default();
                system == layers.effective().system.as_deref().unwrap_or_default()
            }
            _ => true,
        };
        match key.name {
            _ if from_layers => layers.origin(key.name),
            "system" => Origin::Conversation,
            "model" if self.settings.model == start.model => layers.start().origin(key.name),
            _ => Origin::Session,
        }
    }

    fn show_setting(&mut self, key: &Key) {
        let facts = key.facts();
        let choices = if facts.choices.is_empty() { String::new() } else { format!(" ({})", facts.choices.join(", ")) };
        let (value, origin) = (self.shown_value(key), self.setting_origin(key));
        let text = format!("{} = {value} ({origin})\n{}{choices}", key.name, facts.about);
        self.chat_event(Event::Noted(Note { kind: NoteKind::Info, text: sanitize(&text) }));
    }

    /// `/persona NAME`.
    pub(super) fn set_persona(&mut self, name: &str) {
        let before = self.layers.effective();
        match self.layers.choose_persona(name) {
            Err(why) => {
                self.chat_event(Event::Hinted(sanitize_line(&why)));
                self.screen.composer.put_back(&format!("/persona {name}"));
            }
            Ok(_) => {
                self.retune(false);
                self.follow_persona(&before);
                let told = match self.layers.persona() {
                    Some(persona) => {
                        format!("persona {} from the next prompt on; /persona {NO_PERSONA} leaves it", persona.name)
                    }
                    None => "no persona from the next prompt on".to_owned(),
                };
                self.chat_event(Event::Hinted(sanitize_line(&told)));
            }
        }
    }

    /// Uses the system message and the model of the persona, or of the start if there is none any more.
    fn follow_persona(&mut self, before: &Settings) {
        let now = self.layers.effective();
        if now.system != before.system {
            self.chat_event(Event::System(now.system.clone().unwrap_or_default()));
        }
        self.use_model(before, now);
    }

    fn use_model(&mut self, before: &Settings, now: Settings) {
        if now.model != before.model && now.model != self.settings.model {
            self.chat_event(Event::Submit(format!("/model {}", now.model)));
        }
    }

    /// The settings for a conversation that is taken up: it keeps its system message unless this run was given another.
    pub(super) fn settings_to_resume(&self) -> Settings {
        let given = matches!(self.layers.start().origin("system"), Origin::Flag(_) | Origin::Environment(_));
        let system = self.settings.system.clone().filter(|_| given);
        Settings { system, ..self.settings.clone() }
    }

    /// Uses what the conversation that was just opened remembers.
    pub(super) fn recall_settings(&mut self) {
        if Layers::own(self.chat.conversation.settings.clone()) == *self.layers.remembered() {
            return;
        }
        let before = self.layers.effective();
        if let Err(why) = self.layers.open(self.chat.conversation.settings.clone()) {
            let text = format!("This conversation goes on without its persona: {why}.");
            self.chat_event(Event::Noted(Note::warning(sanitize(&text))));
        }
        self.retune(false);
        let now = self.layers.effective();
        self.use_model(&before, now);
    }

    /// Applies the settings of all layers; whether reasoning is shown only if `reasoning` says so, as Ctrl-T changes it,
    /// too.
    fn retune(&mut self, reasoning: bool) {
        let old = self.settings.clone();
        let mut new = self.layers.effective();
        // These two change with commands of their own.
        new.model.clone_from(&old.model);
        new.theme.clone_from(&old.theme);
        self.settings = new.clone();
        if new.idle_window != old.idle_window {
            self.with_engine(|engine| engine.set_idle_window(new.idle_window));
        }
        if needs_reload(&old, &new) {
            self.reload(&old);
        }
        if new.comfort.mouse != old.comfort.mouse && self.inline.is_none() {
            self.use_mouse(new.comfort.mouse);
        }
        if new.comfort != old.comfort {
            self.attention.configure(&new.comfort, |name| std::env::var(name).ok());
        }
        self.screen.composer.use_vi(new.keymap == Keymap::Vi);
        self.tell_tuned(reasoning);
    }

    fn use_mouse(&mut self, on: bool) {
        if let Some(keys) = &self.keys {
            keys.guess(!on);
        }
        // A terminal that cannot be written ends the program with the next frame.
        let _ = self.guard.use_mouse(on);
    }

    /// Has the chat use the settings from the next prompt on.
    pub(super) fn tell_tuned(&mut self, reasoning: bool) {
        let settings = &self.settings;
        let tuned = Tuned {
            sampling: settings.sampling.clone(),
            think: settings.think,
            max_tokens: settings.max_tokens,
            on_overflow: settings.on_overflow,
            reasoning_open: reasoning.then_some(settings.reasoning_open),
            persona: self.layers.persona().map(|persona| persona.name.clone()),
            remembered: self.layers.remembered().clone(),
        };
        self.chat_event(Event::Tuned(Box::new(tuned)));
    }

    /// Gives the engine its new options; loads the model again if it is loaded. On an error the old options stay.
    fn reload(&mut self, old: &Settings) {
        let options = match super::engine::engine_options(&self.settings) {
            Ok(options) => options,
            Err(error) => {
                self.settings = Settings { chat_template: old.chat_template.clone(), ..self.settings.clone() };
                return self.chat_event(Event::Noted(Note::error(error.message)));
            }
        };
        let loaded = self.chat.engine.is_loaded();
        self.with_engine(|engine| engine.switch(options));
        if loaded {
            self.with_engine(Engine::load);
        }
    }
}

/// Whether the engine must load the model again for this change.
fn needs_reload(old: &Settings, new: &Settings) -> bool {
    let of = |settings: &Settings| {
        let Settings { chat_template, context_length, device, gpu_memory_utilization, threads, offline, .. } = settings;
        let wait = settings.servers.wait;
        (chat_template.clone(), *context_length, *device, *gpu_memory_utilization, *threads, *offline, wait)
    };
    of(old) != of(new)
}
