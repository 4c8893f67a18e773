//! The terminal's title, and the announcement of an answer that ends while the user looks elsewhere.

use std::time::Duration;

use super::view::units;
use crate::cells;
use crate::chat::{Chat, EngineState};
use crate::sanitize::sanitize_line;
use crate::settings::{Comfort, Notify};

/// Maximum width of a conversation's title, in cells.
const WIDEST: usize = 60;

/// What the terminal can show, and whether it has the focus.
#[derive(Debug)]
pub(super) struct Attention {
    comfort: Comfort,
    means: Means,
    /// False after the terminal has reported that it lost the focus.
    focused: bool,
    titled: bool,
    /// The title that the terminal shows.
    title: String,
}

/// How the end of an answer is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Nothing,
    Bell,
    /// iTerm2, kitty, WezTerm, Ghostty and others.
    Osc9,
    /// VTE terminals, rxvt, foot.
    Osc777,
}

impl Attention {
    /// Chooses the means from the setting and the environment.
    pub fn new(comfort: &Comfort, environment: impl Fn(&str) -> Option<String>) -> Self {
        let means = means(comfort.notify, &environment);
        // The Linux console has no title and would draw the text.
        let titled = environment("TERM").is_some_and(|term| term != "linux");
        Self { comfort: comfort.clone(), means, focused: true, titled, title: String::new() }
    }

    /// Announces by these settings from now on.
    pub fn configure(&mut self, comfort: &Comfort, environment: impl Fn(&str) -> Option<String>) {
        self.means = means(comfort.notify, &environment);
        self.comfort = comfort.clone();
    }

    /// The terminal gained or lost the focus.
    pub fn focus(&mut self, focused: bool) {
        self.focused = focused;
    }

    /// The bytes that change the terminal's title, if it differs from the one that is shown.
    pub fn title(&mut self, chat: &Chat) -> Option<String> {
        let title = title(chat);
        if !self.titled || self.title == title {
            return None;
        }
        let bytes = format!("\x1b]0;{title}\x07");
        self.title = title;
        Some(bytes)
    }

    /// The title was removed from the terminal: set it again.
    pub fn forget_title(&mut self) {
        self.title.clear();
    }

    /// The bytes that announce the end of an answer that took this long; `None` if it was short or the user looks at it.
    pub fn ended(&self, chat: &Chat, took: Duration) -> Option<String> {
        let long = self.comfort.notify_after.is_some_and(|after| took >= after);
        if self.focused || !long || chat.activity.is_busy() {
            return None;
        }
        let text = format!("{}: the answer is complete after {}", name(chat), units::duration(took));
        // A semicolon would end the field.
        let text = text.replace(';', ",");
        match self.means {
            Means::Nothing => None,
            Means::Bell => Some("\x07".into()),
            Means::Osc9 => Some(format!("\x1b]9;{text}\x07")),
            Means::Osc777 => Some(format!("\x1b]777;notify;chatnap;{text}\x07")),
        }
    }
}

fn means(notify: Notify, environment: &impl Fn(&str) -> Option<String>) -> Means {
    let is_set = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
    // tmux and screen swallow notifications, and show a bell in the list of windows.
    let inside = is_set("TMUX") || is_set("STY");
    let program = environment("TERM_PROGRAM").unwrap_or_default();
    let shows_osc_9 = matches!(program.as_str(), "iTerm.app" | "WezTerm" | "ghostty") || is_set("KITTY_WINDOW_ID");
    match notify {
        Notify::Off => Means::Nothing,
        Notify::Bell => Means::Bell,
        Notify::Osc if is_set("VTE_VERSION") => Means::Osc777,
        Notify::Osc => Means::Osc9,
        Notify::Auto if inside => Means::Bell,
        Notify::Auto if shows_osc_9 => Means::Osc9,
        Notify::Auto if is_set("VTE_VERSION") => Means::Osc777,
        Notify::Auto => Means::Bell,
    }
}

/// The state and what the conversation is about: `answering: Why is the sky blue? - chatnap`.
fn title(chat: &Chat) -> String {
    let state = match &chat.engine.state {
        EngineState::Loading(_) => "loading: ",
        _ if chat.activity.is_busy() => "answering: ",
        _ => "",
    };
    match name(chat) {
        name if name.is_empty() => format!("{state}chatnap"),
        name => format!("{state}{name} - chatnap"),
    }
}

/// The beginning of the conversation's first prompt, on one line; empty without prompts.
fn name(chat: &Chat) -> String {
    let first = chat.conversation.path().first().and_then(|id| chat.conversation.turn(*id));
    let text = first.map(|turn| turn.prompt.as_str()).unwrap_or_default();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let line = sanitize_line(line.trim());
    let mut end = 0;
    let mut width = 0;
    for (piece, cells) in cells::pieces(&line) {
        width += cells;
        if width > WIDEST {
            return format!("{}...", &line[..end]);
        }
        end += piece.len();
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::chat::{ChatOptions, Event, update};
    use crate::clock::Timestamp;
    use crate::conversation::{Conversation, ConversationId};
    use crate::protocol::{OverflowPolicy, SamplingChoice};

    fn chat() -> Chat {
        let options = ChatOptions {
            model: "tiny".into(),
            sampling: SamplingChoice::default(),
            think: None,
            max_tokens: None,
            on_overflow: OverflowPolicy::Error,
        };
        Chat::new(options, Conversation::new(ConversationId("talk".into()), None), Timestamp::default())
    }

    fn attention(notify: Notify, variables: &[(&str, &str)]) -> Attention {
        let comfort = Comfort { notify, ..Comfort::default() };
        Attention::new(&comfort, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_title_has_the_state_and_the_first_prompt_without_control_characters() {
        let (mut attention, mut chat) = (attention(Notify::Auto, &[("TERM", "xterm")]), chat());
        assert_eq!(attention.title(&chat).unwrap(), "\x1b]0;chatnap\x07");
        assert_eq!(attention.title(&chat), None, "it is written once");
        update(&mut chat, Event::Submit(format!("\n a\u{7}b\u{1b}]0;owned\u{7} {}\nsecond", "long ".repeat(30))));
        let title = attention.title(&chat).unwrap();
        let text = title.strip_prefix("\x1b]0;").and_then(|text| text.strip_suffix('\x07')).unwrap();
        assert!(!text.contains(char::is_control) && !text.contains("second"), "{text:?}");
        assert!(text.starts_with("answering: ab") && text.ends_with("... - chatnap"), "{text:?}");
        assert!(cells::width(text) < 100, "{text:?}");
    }

    #[test]
    fn the_linux_console_gets_no_title() {
        assert_eq!(attention(Notify::Auto, &[("TERM", "linux")]).title(&chat()), None);
    }

    #[test]
    fn only_long_answers_out_of_focus_are_announced() {
        let (mut attention, chat) = (attention(Notify::Bell, &[]), chat());
        let (short, long) = (Duration::from_secs(9), Duration::from_secs(10));
        assert_eq!(attention.ended(&chat, long), None, "a terminal that reports nothing has the focus");
        attention.focus(false);
        assert_eq!(attention.ended(&chat, short), None);
        assert_eq!(attention.ended(&chat, long).as_deref(), Some("\x07"));
        attention.focus(true);
        assert_eq!(attention.ended(&chat, long), None);
    }

    #[test]
    fn the_means_follow_the_setting_and_the_terminal() {
        let vte: &[(&str, &str)] = &[("VTE_VERSION", "7600")];
        let kitty: &[(&str, &str)] = &[("KITTY_WINDOW_ID", "1")];
        let tmux: &[(&str, &str)] = &[("VTE_VERSION", "7600"), ("TMUX", "/tmp/x")];
        for (notify, variables, means) in [
            (Notify::Auto, vte, Means::Osc777),
            (Notify::Auto, kitty, Means::Osc9),
            (Notify::Auto, tmux, Means::Bell),
            (Notify::Auto, &[], Means::Bell),
            (Notify::Osc, &[], Means::Osc9),
            (Notify::Osc, vte, Means::Osc777),
            (Notify::Off, kitty, Means::Nothing),
        ] {
            assert_eq!(attention(notify, variables).means, means, "{notify:?} {variables:?}");
        }
    }

    #[test]
    fn a_prompt_cannot_end_the_field_of_a_notification() {
        let mut chat = chat();
        update(&mut chat, Event::Submit("a;b".into()));
        chat.activity = crate::chat::Activity::Idle;
        let mut attention = attention(Notify::Osc, &[("VTE_VERSION", "1")]);
        attention.focus(false);
        let bytes = attention.ended(&chat, Duration::from_secs(12)).unwrap();
        assert_eq!(bytes, "\x1b]777;notify;chatnap;a,b: the answer is complete after 12.0 s\x07");
    }
}
