//! What the slash commands do.

use crate::conversation::{Ending, TurnId};
use crate::protocol::ModelInfo;
use crate::stats::ConversationStats;
use crate::wording::plural;

use super::command::Command;
use super::{Cause, Chat, Effect, Hint, NoteKind};

impl Chat {
    pub(super) fn run_command(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Help => self.help = true,
            Command::Quit => return self.quit(Cause::User),
            Command::Copy(block) => return self.copy(block),
            Command::Release => return vec![Effect::Release],
            Command::Load => return vec![Effect::Load],
            Command::Theme(name) => return vec![Effect::SetTheme(name)],
            Command::Reasoning => self.reasoning_open = !self.reasoning_open,
            Command::Stats => self.note_stats(),
            Command::System(text) => self.set_system(text),
            Command::Model(None) => self.note_model(),
            Command::New | Command::Model(Some(_)) | Command::Regenerate | Command::Edit if self.activity.is_busy() => {
                self.show_hint(Hint::Message("an answer is being written: stop it first (Esc)".into()));
            }
            Command::New => {
                let system = self.conversation.system.clone();
                return vec![Effect::NewConversation { system }];
            }
            Command::Model(Some(name)) => return vec![Effect::SwitchModel(name)],
            Command::Regenerate => return self.regenerate(),
            Command::Edit => return self.edit(),
        }
        Vec::new()
    }

    pub(super) fn switched(&mut self, model: String) -> Vec<Effect> {
        self.note(NoteKind::Info, format!("The next prompt is answered by {model}."));
        self.options.model.clone_from(&model);
        self.engine.switched(model);
        Vec::new()
    }

    fn last_turn(&mut self) -> Option<(TurnId, Option<TurnId>, String)> {
        let head = self.conversation.head();
        let last = head.and_then(|id| self.conversation.turn(id).map(|turn| (id, turn.parent, turn.prompt.clone())));
        if last.is_none() {
            self.show_hint(Hint::Message("nothing was asked yet".into()));
        }
        last
    }

    fn regenerate(&mut self) -> Vec<Effect> {
        let Some((_, parent, prompt)) = self.last_turn() else { return Vec::new() };
        self.branch = Some(parent);
        self.ask(prompt)
    }

    fn edit(&mut self) -> Vec<Effect> {
        let Some((_, parent, prompt)) = self.last_turn() else { return Vec::new() };
        self.branch = Some(parent);
        self.show_hint(Hint::Message("change it and send it: the answer before stays on its own branch".into()));
        vec![Effect::ClearDraft, Effect::PutBack(prompt)]
    }

    fn copy(&mut self, block: Option<usize>) -> Vec<Effect> {
        let Some((id, ..)) = self.last_turn() else { return Vec::new() };
        let text = self.conversation.turn(id).map(|turn| turn.answer.text.as_str()).unwrap_or_default();
        let found = match block {
            None => Some(text.to_owned()).filter(|text| !text.is_empty()),
            Some(number) => number.checked_sub(1).and_then(|index| code_blocks(text).into_iter().nth(index)),
        };
        match found {
            Some(text) => vec![Effect::Copy(text)],
            None => {
                self.show_hint(Hint::Message("there is nothing of that kind to copy".into()));
                Vec::new()
            }
        }
    }

    fn set_system(&mut self, text: Option<String>) {
        let Some(text) = text else {
            let current = self.conversation.system.clone();
            let shown = current.map_or("There is no system message.".into(), |text| format!("System message: {text}"));
            return self.note(NoteKind::Info, shown);
        };
        self.note(NoteKind::Info, format!("System message from the next prompt on: {text}"));
        self.conversation.system = Some(text);
        self.recount();
    }

    fn note_model(&mut self) {
        let text = match &self.engine.info {
            Some(info) => describe_model(info),
            None => format!("{}: not loaded yet.", self.engine.model),
        };
        self.note(NoteKind::Info, text);
    }

    fn note_stats(&mut self) {
        let endings = self.conversation.turns().iter().filter_map(|turn| match &turn.answer.ending {
            Ending::Finished { usage, timing: Some(timing), .. } => Some((usage, timing)),
            _ => None,
        });
        let text = describe_stats(&ConversationStats::of(endings));
        self.note(NoteKind::Info, text);
    }
}

fn describe_model(info: &ModelInfo) -> String {
    let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    format!(
        "{}: {}, {}, {:.0} M parameters\ncontext {} of {} positions\non {}: weights {}, KV cache {}, workspace {}",
        info.name,
        info.architecture,
        info.quantization,
        info.parameters as f64 / 1e6,
        info.context_length,
        info.trained_context_length,
        info.device.name,
        megabytes(info.memory.weights),
        megabytes(info.memory.kv_cache),
        megabytes(info.memory.workspace),
    )
}

fn describe_stats(stats: &ConversationStats) -> String {
    let ms = |time: Option<std::time::Duration>| {
        time.map_or("unknown".into(), |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0))
    };
    let rate = stats.tokens_per_second.map_or("unknown".into(), |rate| format!("{rate:.1}"));
    let counted = |count: usize, noun: &str| format!("{count} {}", plural(count, noun));
    format!(
        "{}: {}, {} of them cached; {}\ntokens per second {rate}\n\
         TTFT p50 {}, p95 {}\ninter-token latency p50 {}, p95 {}",
        counted(stats.answers, "answer"),
        counted(stats.usage.prompt_tokens, "prompt token"),
        stats.usage.cached_tokens,
        counted(stats.usage.completion_tokens, "completion token"),
        ms(stats.ttft_p50),
        ms(stats.ttft_p95),
        ms(stats.inter_token_p50),
        ms(stats.inter_token_p95),
    )
}

/// The contents of the fenced code blocks of a Markdown text, in order.
fn code_blocks(markdown: &str) -> Vec<String> {
    use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
    let mut blocks = Vec::new();
    let mut open = None;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => open = Some(String::new()),
            Event::Text(text) => {
                if let Some(block) = &mut open {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
            _ => {}
        }
    }
    blocks
}
