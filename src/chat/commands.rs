//! Execution of the slash commands.

use std::time::Duration;

use crate::conversation::{Change, Ending};
use crate::stats::ConversationStats;
use crate::wording::{count, plural};

use super::command::Command;
use super::{Cause, Chat, Effect, EngineState, Hint, Step, View};

impl Chat {
    pub(super) fn run_command(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Help => self.help = true,
            Command::Quit => return self.quit(Cause::User),
            Command::Copy(target) => return self.copy(&target),
            Command::Release => return self.release(),
            Command::Load => return self.load(),
            Command::File(None) => return vec![Effect::BeginMention],
            Command::File(Some(name)) => return vec![Effect::Attach(name)],
            Command::Theme(Some(name)) => return vec![Effect::SetTheme(name)],
            Command::Theme(None) => return vec![Effect::Open(View::Themes, String::new())],
            Command::Reasoning => self.toggle_reasoning(),
            Command::Usage => return vec![Effect::ShowUsage],
            Command::Stats => return vec![Effect::ShowStats(self.stats_text())],
            Command::System(text) => return self.set_system(text),
            Command::Set(assignment) => return self.set(assignment),
            Command::Persona(name) => return self.persona(name),
            Command::Model(None) => return vec![Effect::Open(View::Models, String::new())],
            Command::Resume(None) => return vec![Effect::Open(View::Conversations, String::new())],
            // Words are searched for; an id is hexadecimal.
            Command::Resume(Some(words)) if words.contains(|c: char| !c.is_ascii_hexdigit()) => {
                return vec![Effect::Open(View::Conversations, words)];
            }
            Command::Rename(title) => return self.rename(title),
            Command::Export(file) => return self.export(file),
            Command::List(query) => return vec![Effect::Open(View::Conversations, query)],
            Command::Branch => return self.show_branches(),
            Command::Turns => return self.step(Step::Back),
            Command::Trim => return vec![Effect::Set("on_overflow".to_owned(), Some("trim".to_owned()))],
            Command::Context => return vec![Effect::Open(View::Context, String::new())],
            Command::Model(Some(name)) => return self.change_model(name),
            _ if self.refuses_now() => {}
            Command::Compare(model) => return self.compare(model),
            Command::Compact(what) => return self.compact(what),
            Command::ContextLength(length) => return self.set_context(length),
            Command::New => return self.begin_anew(),
            Command::Resume(Some(id)) => {
                self.opening = true;
                return vec![Effect::Resume(id)];
            }
            Command::Regenerate | Command::Edit(_) | Command::Fork(_) | Command::Continue | Command::Delete(_) => {
                return self.rework(command);
            }
        }
        Vec::new()
    }

    /// Releases the model. A hint shows what happens to the memory, unless the status line does.
    fn release(&mut self) -> Vec<Effect> {
        let told = match &self.engine.state {
            _ if self.activity.is_busy() => "the memory is given back as soon as the answer has ended",
            EngineState::Loading(_) => "loading stopped",
            EngineState::Cold | EngineState::Failed => "no model is loaded: there is nothing to give back",
            // The status line shows the release and its size.
            EngineState::Warm | EngineState::Idle { .. } | EngineState::Releasing => return vec![Effect::Release],
        };
        self.show_hint(Hint::Message(told.into()));
        vec![Effect::Release]
    }

    fn load(&mut self) -> Vec<Effect> {
        match &self.engine.state {
            EngineState::Loading(_) => self.show_hint(Hint::Message("the model is being loaded already".into())),
            _ if self.engine.is_loaded() => self.show_hint(Hint::Message("the model is loaded already".into())),
            _ if self.supply.may_load() => return vec![Effect::Load],
            _ => self.show_hint(Hint::Message("the model is not on this machine yet: Enter fetches it".into())),
        }
        Vec::new()
    }

    fn rename(&mut self, title: String) -> Vec<Effect> {
        if self.conversation.turns().is_empty() {
            self.show_hint(Hint::Message("nothing was asked yet: there is no conversation to name".into()));
            return Vec::new();
        }
        self.show_hint(Hint::Message(format!("this conversation is now “{title}”")));
        self.conversation.title = Some(title.clone());
        vec![Effect::Change(self.conversation.id.clone(), Change::Title(title))]
    }

    fn export(&mut self, file: Option<String>) -> Vec<Effect> {
        if self.conversation.turns().is_empty() {
            self.show_hint(Hint::Message("nothing was asked yet: there is nothing to export".into()));
            return Vec::new();
        }
        let id = self.conversation.id.clone();
        let file = file.unwrap_or_else(|| format!("chatnap-{}.md", id.0));
        vec![Effect::Export(id, file)]
    }

    fn begin_anew(&mut self) -> Vec<Effect> {
        let before = (!self.conversation.turns().is_empty()).then_some(&self.conversation.id.0);
        let told = match before {
            Some(id) => format!("chatnap --conversation {id} goes on with the conversation before"),
            None => "nothing was asked yet: this conversation is as good as new".into(),
        };
        self.show_hint(Hint::Message(told));
        let system = self.conversation.system.clone();
        vec![Effect::NewConversation { system }]
    }

    /// Shows a hint too: the transcript may contain no reasoning that would show the change.
    pub(super) fn toggle_reasoning(&mut self) {
        self.reasoning_open = !self.reasoning_open;
        let told = if self.reasoning_open {
            "what a model thinks is shown from now on; Ctrl-T folds it"
        } else {
            "what a model thinks is folded from now on; Ctrl-T shows it"
        };
        self.show_hint(Hint::Message(told.into()));
    }

    fn stats_text(&self) -> String {
        let endings = self.conversation.turns().iter().filter_map(|turn| match &turn.answer.ending {
            Ending::Finished { usage, timing: Some(timing), .. } => Some((usage, timing)),
            _ => None,
        });
        describe_stats(&ConversationStats::of(endings))
    }
}

/// The figures as text, a line for each kind; unknown figures are omitted.
fn describe_stats(stats: &ConversationStats) -> String {
    if stats.answers == 0 {
        return "No answers yet: the figures come with the first one.".into();
    }
    let counted = |number: usize, noun: &str| format!("{} {}", count(number), plural(number, noun));
    // A server need not count.
    let sum = |unknown: bool, text: String| if unknown { format!("at least {text}") } else { text };
    let crate::protocol::Usage { prompt_tokens, cached_tokens, completion_tokens, unknown } = stats.usage;
    let mut lines = vec![format!(
        "{}: {}, {} of them cached; {}",
        counted(stats.answers, "answer"),
        sum(unknown.prompt, counted(prompt_tokens, "prompt token")),
        sum(unknown.cached, count(cached_tokens)),
        sum(unknown.completion, counted(completion_tokens, "completion token")),
    )];
    let ms = |time: Duration| match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.1} ms", seconds * 1000.0),
    };
    lines.extend(stats.tokens_per_second.map(|rate| format!("tokens per second {rate:.1}")));
    let mut percentiles = |name: &str, p50: Option<Duration>, p95: Option<Duration>| {
        lines.extend(p50.zip(p95).map(|(p50, p95)| format!("{name} p50 {}, p95 {}", ms(p50), ms(p95))));
    };
    percentiles("TTFT", stats.ttft_p50, stats.ttft_p95);
    percentiles("inter-token latency", stats.inter_token_p50, stats.inter_token_p95);
    lines.join("\n")
}
