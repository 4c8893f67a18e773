//! `--dry-run`: prints what the model would read; loads its tokenizer and template, but no weights.

use serde_json::json;

use super::messages::Messages;
use crate::cli::{OneShot, OneShotFormat};
use crate::conversation::{Conversation, ConversationId};
use crate::engine::source::{CancelFlag, ModelSource};
use crate::engine::{load, prompt};
use crate::failure::Failure;
use crate::hub::HubSource;
use crate::output;
use crate::protocol::NO_THINK_SWITCH;
use crate::settings::Settings;
use crate::store::Store;
use crate::survey;

pub(super) fn run(settings: &Settings, one_shot: &OneShot) -> Result<u8, Failure> {
    let messages = Messages::new(one_shot.quiet);
    let settings = &survey::settled(settings);
    let mut conversation = history(settings, one_shot)?;
    if one_shot.system.is_some() {
        conversation.system = one_shot.system.clone();
    }
    let turn = conversation.ask(conversation.head(), one_shot.prompt.clone(), settings.model.clone());
    let files = super::attached::read(&one_shot.files)?;
    if let Some(turn) = conversation.turn_mut(turn) {
        turn.files = files;
    }
    let chosen = super::chosen_template(settings)?;
    let mut source = HubSource::new(settings)?;
    let files = source.locate(&mut |step| messages.progress(&step), &CancelFlag::default());
    messages.clear();
    let (tokenizer, template) = load::read_text(&files?, chosen.as_ref())?;
    for warning in tokenizer.warnings().iter().chain(template.warnings()).chain(&source.warnings()) {
        messages.warn(warning);
    }
    if settings.think.is_some() && !template.has_think_switch() {
        messages.warn(NO_THINK_SWITCH);
    }
    let template = template.thinking(settings.think);
    let rendered = prompt::render(&template, &tokenizer, &conversation.messages_for(turn))
        .map_err(|error| Failure::failed(error.to_string()))?;
    let written = match one_shot.format {
        OneShotFormat::Text if one_shot.raw => output::write(&rendered.text),
        OneShotFormat::Text => output::write_foreign(&rendered.text),
        OneShotFormat::Json | OneShotFormat::Jsonl => {
            let (ids, count) = (&rendered.tokens, rendered.tokens.len());
            output::write_json(&json!({"prompt": rendered.text, "ids": ids, "prompt_tokens": count}))
        }
    };
    written.map(|_| 0)
}

/// The conversation so far, from a store that is opened read-only.
fn history(settings: &Settings, one_shot: &OneShot) -> Result<Conversation, Failure> {
    let Some(resume) = &one_shot.resume else {
        return Ok(Conversation::new(ConversationId::default(), settings.system.clone()));
    };
    let mut store = Store::open_to_read(&settings.data_dir)?
        .ok_or_else(|| Failure::usage("There is no conversation yet to go on with."))?;
    let id = resume.find(&store)?;
    Ok(store.load(&id)?)
}
