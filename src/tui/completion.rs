//! Completion of slash commands (the command's name, then its argument), and the palette's entries: commands, models,
//! themes and conversations, each with the command that it stands for.

use super::fuzzy;
use super::theme::ThemeName;
use super::view::wrap;
use crate::catalogue::catalogue;
use crate::chat::command::{self, COMMANDS};
use crate::sanitize::{sanitize, sanitize_line};
use crate::settings::{AUTO, Applies, KEYS, Key, Persona, named as setting_named};
use crate::wording::bytes;

/// Queries of at least this many letters find more than commands.
const SPECIFIC: usize = 2;

/// Most entries of each kind that a query finds beside the commands.
const MOST_FOUND: usize = 20;

/// Most conversations that `/resume` lists; the list of conversations has all.
const MOST_LISTED: usize = 200;

/// What an entry stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Command,
    Model,
    Theme,
    Conversation,
    Setting,
    Persona,
    /// An earlier prompt.
    Prompt,
}

impl Kind {
    /// Heading of the kind's entries in the palette.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Command => "commands",
            Self::Model => "models",
            Self::Theme => "themes",
            Self::Conversation => "conversations",
            Self::Setting => "settings",
            Self::Persona => "personas",
            Self::Prompt => "prompts",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Model => "model",
            Self::Theme => "theme",
            Self::Conversation => "conversation",
            Self::Setting => "setting",
            Self::Persona => "persona",
            Self::Prompt => "prompt",
        }
    }
}

/// An entry of the completion list or of the palette.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The composer's text after the entry is accepted.
    pub text: String,
    pub label: String,
    /// Description beside the label.
    pub about: String,
    /// Whether an argument must follow.
    pub unfinished: bool,
    pub kind: Kind,
}

/// A stored conversation, as `/resume` offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationChoice {
    pub id: String,
    /// Sanitised title.
    pub title: String,
    /// Time of the last change and number of turns.
    pub about: String,
}

/// Completions of `draft` in display order; empty if it is a prompt. `talks`: the stored conversations, most recently
/// changed first; `themes`: all themes.
pub fn choices(draft: &str, talks: &[ConversationChoice], themes: &[ThemeName]) -> Vec<Choice> {
    match draft.split_once(' ') {
        None => by_name(draft, talks, themes),
        Some(("/model", typed)) => among(models(), typed),
        Some(("/compare", typed)) => among(models().into_iter().map(for_comparison).collect(), typed),
        Some(("/resume", typed)) => resumable(talks, typed),
        Some(("/theme", typed)) => among(named(themes), typed),
        Some(("/set", typed)) => set_choices(typed),
        Some(_) => Vec::new(),
    }
}

/// Everything that a command line can reach, commands first.
pub fn everything(talks: &[ConversationChoice], themes: &[ThemeName]) -> Vec<Choice> {
    let conversations = talks.iter().map(conversation);
    COMMANDS
        .iter()
        .map(command_choice)
        .chain(models())
        .chain(named(themes))
        .chain(settings())
        .chain(conversations)
        .collect()
}

/// An entry of the history search, which starts with the first line of an earlier prompt.
pub fn earlier(begin: String) -> Choice {
    Choice { label: begin, kind: Kind::Prompt, ..Choice::default() }
}

/// Commands whose name begins with `draft`, then others that match, then models, themes and conversations whose name
/// contains it.
fn by_name(draft: &str, talks: &[ConversationChoice], themes: &[ThemeName]) -> Vec<Choice> {
    let Some(typed) = draft.strip_prefix('/').filter(|typed| !typed.contains('/')) else { return Vec::new() };
    let begin: Vec<&command::Spec> = COMMANDS.iter().filter(|spec| spec.name.starts_with(draft)).collect();
    let mut found: Vec<Choice> = begin.iter().copied().map(command_choice).collect();
    if typed.chars().count() < SPECIFIC {
        return found;
    }
    let names: Vec<_> = COMMANDS.iter().map(|spec| spec.name).collect();
    let similar = fuzzy::matches(typed, &names).into_iter().map(|index| &COMMANDS[index]);
    found.extend(similar.filter(|spec| !begin.contains(spec)).map(command_choice));
    let wanted = typed.to_lowercase();
    for kind in [models(), named(themes)] {
        let fits = kind.into_iter().filter(|choice| choice.label.to_lowercase().contains(&wanted));
        found.extend(fits.take(MOST_FOUND).map(with_noun));
    }
    let fits = talks.iter().filter(|talk| talk.title.to_lowercase().contains(&wanted));
    found.extend(fits.take(MOST_FOUND).map(conversation).map(with_noun));
    found
}

/// Its description begins with what kind of thing it is; a command shows that by its slash.
pub fn with_noun(choice: Choice) -> Choice {
    if choice.kind == Kind::Command {
        return choice;
    }
    let noun = choice.kind.noun();
    let about = if choice.about.is_empty() { noun.to_owned() } else { format!("{noun} · {}", choice.about) };
    Choice { about, ..choice }
}

fn command_choice(spec: &command::Spec) -> Choice {
    let takes_more = !spec.argument.is_empty();
    Choice {
        text: if takes_more { format!("{} ", spec.name) } else { spec.name.to_owned() },
        label: format!("{} {}", spec.name, spec.argument).trim_end().to_owned(),
        about: spec.about.to_owned(),
        unfinished: takes_more,
        kind: Kind::Command,
    }
}

fn conversation(talk: &ConversationChoice) -> Choice {
    Choice {
        text: format!("/resume {}", talk.id),
        label: wrap::clip(&talk.title, 60, "…"),
        about: talk.about.clone(),
        unfinished: false,
        kind: Kind::Conversation,
    }
}

/// Conversations whose id starts with `typed`, or whose title matches it.
fn resumable(talks: &[ConversationChoice], typed: &str) -> Vec<Choice> {
    let by_id = talks.iter().filter(|talk| !typed.is_empty() && talk.id.starts_with(typed));
    let by_id: Vec<_> = by_id.take(MOST_LISTED).map(conversation).collect();
    if !by_id.is_empty() {
        return by_id;
    }
    let titles: Vec<_> = talks.iter().map(|talk| talk.title.as_str()).collect();
    fuzzy::matches(typed, &titles).into_iter().take(MOST_LISTED).map(|index| conversation(&talks[index])).collect()
}

/// The entries whose label matches, best first.
pub fn among(entries: Vec<Choice>, typed: &str) -> Vec<Choice> {
    let labels: Vec<_> = entries.iter().map(|choice| choice.label.as_str()).collect();
    fuzzy::matches(typed, &labels).into_iter().map(|index| entries[index].clone()).collect()
}

/// Every variant of every catalogue model, with its size on disk.
pub fn models() -> Vec<Choice> {
    let forms = catalogue().models.iter().flat_map(|model| model.variants.iter().map(move |form| (model, form)));
    let named = forms.map(|(model, form)| {
        let size = model.size_of(form).map(|(size, exact)| {
            let about = if exact { "" } else { "about " };
            format!("{about}{}; ", bytes(size))
        });
        let (name, about) = (model.name_of(form), format!("{}{}", size.unwrap_or_default(), model.description));
        Choice { text: format!("/model {name}"), label: name, about, unfinished: false, kind: Kind::Model }
    });
    let about = "a model on this machine that fits, else the starter".to_owned();
    let auto =
        Choice { text: format!("/model {AUTO}"), label: AUTO.to_owned(), about, unfinished: false, kind: Kind::Model };
    named.chain([auto]).collect()
}

/// A model as `/compare` takes it.
fn for_comparison(model: Choice) -> Choice {
    Choice { text: model.text.replacen("/model", "/compare", 1), ..model }
}

fn named(themes: &[ThemeName]) -> Vec<Choice> {
    let choice = |theme: &ThemeName| Choice {
        text: format!("/theme {}", theme.name),
        label: theme.name.clone(),
        about: theme.about(),
        unfinished: false,
        kind: Kind::Theme,
    };
    themes.iter().map(choice).collect()
}

/// Completions of `/set` followed by `typed`: a key, then its value if there are few.
fn set_choices(typed: &str) -> Vec<Choice> {
    let Some((name, value)) = typed.split_once(' ') else { return among(settings(), typed) };
    let Some(key) = setting_named(name) else { return Vec::new() };
    let values = key.facts().choices.iter().map(|choice| Choice {
        text: format!("/set {name} {choice}"),
        label: (*choice).to_owned(),
        kind: Kind::Setting,
        ..Choice::default()
    });
    among(values.collect(), value)
}

/// The settings that can change while the program runs, as completions.
fn settings() -> Vec<Choice> {
    let changeable = KEYS.iter().filter(|key| key.facts().applies != Applies::AtStart);
    let choice = |key: &Key| Choice {
        text: format!("/set {} ", key.name),
        label: key.name.to_owned(),
        about: key.facts().about.to_owned(),
        unfinished: true,
        kind: Kind::Setting,
    };
    changeable.map(choice).collect()
}

/// The personas as completions.
pub fn personas(personas: &[Persona]) -> Vec<Choice> {
    let choice = |persona: &Persona| Choice {
        text: format!("/persona {}", persona.name),
        label: sanitize_line(&persona.name),
        about: sanitize_line(sanitize(persona.system().unwrap_or_default()).lines().next().unwrap_or_default()),
        unfinished: false,
        kind: Kind::Persona,
    };
    personas.iter().map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(draft: &str) -> Vec<String> {
        let talk =
            |id: &str, title: &str| ConversationChoice { id: id.into(), title: title.into(), about: String::new() };
        let talks = [talk("12ab", "Why is the sky blue?"), talk("34cd", "Rain")];
        let theme = |name: &str, own| ThemeName { name: name.into(), kind: None, own };
        let themes = [theme("dark", false), theme("high-contrast", false), theme("mine", true)];
        choices(draft, &talks, &themes).into_iter().map(|choice| choice.label).collect()
    }

    #[test]
    fn commands_complete_by_name_then_by_argument() {
        assert_eq!(labels("/re")[..2], ["/resume ID", "/rename TITLE"]);
        assert_eq!(labels("/theme "), ["dark", "high-contrast", "mine"]);
        assert_eq!(labels("/theme h")[0], "high-contrast");
        assert_eq!(labels("/resume "), ["Why is the sky blue?", "Rain"]);
        assert_eq!(
            (labels("/resume blue SKY"), labels("/resume 34")),
            (labels("/resume 12ab"), vec!["Rain".to_owned()])
        );
        assert!(labels("/model ").contains(&"smollm2-135m".to_owned()));
        assert!(labels("/compare smol").contains(&"smollm2-135m".to_owned()));
        assert!(labels("/model llama-3.1-8b").contains(&"llama-3.1-8b:q8_0".to_owned()));
        assert_eq!(labels("/model gemma3")[0], "gemma-3-4b", "letters may be missing");
    }

    #[test]
    fn a_slash_finds_models_themes_and_conversations_too() {
        assert_eq!(labels("/sky"), ["Why is the sky blue?"]);
        assert!(labels("/smollm2").contains(&"smollm2-135m".to_owned()));
        assert!(labels("/high").contains(&"high-contrast".to_owned()));
        assert_eq!(labels("/s").last().map(String::as_str), Some("/stats"), "one letter finds commands only");
    }

    #[test]
    fn prompts_and_paths_have_no_completions() {
        for draft in
            ["", "hello", "/system Be", "/model ./file.gguf", "/model owner/repo", "/new ", "/usr/bin x", "/usr/bin"]
        {
            assert_eq!(labels(draft), [""; 0], "{draft}");
        }
    }

    fn set_texts(typed: &str) -> Vec<String> {
        set_choices(typed).into_iter().map(|choice| choice.text).collect()
    }

    #[test]
    fn set_completes_keys_and_values() {
        assert_eq!(set_texts("temp").first().map(String::as_str), Some("/set temperature "));
        assert_eq!(set_texts("on_overflow "), ["/set on_overflow error", "/set on_overflow trim"]);
        assert_eq!(set_texts("keymap v"), ["/set keymap vi"]);
        assert_eq!(set_texts("temperature "), [""; 0]);
        assert!(!set_texts("").iter().any(|text| text.contains("data_dir")));
    }
}
