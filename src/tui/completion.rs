//! Completion of slash commands: the command's name, then its argument (model, conversation or theme).

use super::theme::Theme;
use super::view::wrap;
use crate::catalogue::catalogue;
use crate::chat::command;
use crate::wording::bytes;

/// An entry of the completion list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The composer's text after the entry is accepted.
    pub text: String,
    pub label: String,
    /// Description beside the label.
    pub about: String,
    /// Whether an argument must follow.
    pub unfinished: bool,
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
/// changed first.
pub fn choices(draft: &str, talks: &[ConversationChoice]) -> Vec<Choice> {
    match draft.split_once(' ') {
        None => command::completions(draft).into_iter().map(command_choice).collect(),
        Some(("/model", typed)) => among(models(), "/model", typed),
        Some(("/resume", typed)) => resumable(talks, typed),
        Some(("/theme", typed)) => among(themes(), "/theme", typed),
        Some(_) => Vec::new(),
    }
}

/// An entry of the history search, which starts with the first line of an earlier prompt.
pub fn earlier(begin: String) -> Choice {
    Choice { text: String::new(), label: begin, about: String::new(), unfinished: false }
}

fn command_choice(spec: &command::Spec) -> Choice {
    let takes_more = !spec.argument.is_empty();
    Choice {
        text: if takes_more { format!("{} ", spec.name) } else { spec.name.to_owned() },
        label: format!("{} {}", spec.name, spec.argument),
        about: spec.about.to_owned(),
        unfinished: takes_more,
    }
}

/// Conversations whose id starts with `typed` or whose title contains it, ignoring case.
fn resumable(talks: &[ConversationChoice], typed: &str) -> Vec<Choice> {
    let wanted = typed.to_lowercase();
    let fits = talks.iter().filter(|talk| talk.id.starts_with(typed) || talk.title.to_lowercase().contains(&wanted));
    let choice = |talk: &ConversationChoice| Choice {
        text: format!("/resume {}", talk.id),
        label: wrap::clip(&talk.title, 36, "…"),
        about: talk.about.clone(),
        unfinished: false,
    };
    fits.map(choice).collect()
}

fn among(names: Vec<(String, String)>, command: &str, typed: &str) -> Vec<Choice> {
    let fits = names.into_iter().filter(|(name, _)| name.starts_with(typed));
    let choice = |(name, about): (String, String)| Choice {
        text: format!("{command} {name}"),
        label: name,
        about,
        unfinished: false,
    };
    fits.map(choice).collect()
}

/// Every variant of every catalogue model, with its size on disk.
pub fn models() -> Vec<(String, String)> {
    let forms = catalogue().models.iter().flat_map(|model| model.variants.iter().map(move |form| (model, form)));
    let named = forms.map(|(model, form)| {
        let size = model.size_of(form).map(|(size, exact)| {
            let about = if exact { "" } else { "about " };
            format!("{about}{}; ", bytes(size))
        });
        (model.name_of(form), format!("{}{}", size.unwrap_or_default(), model.description))
    });
    named.collect()
}

pub fn themes() -> Vec<(String, String)> {
    Theme::built_in_names().map(|name| (name.to_owned(), String::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(draft: &str) -> Vec<String> {
        let talk =
            |id: &str, title: &str| ConversationChoice { id: id.into(), title: title.into(), about: String::new() };
        let talks = [talk("12ab", "Why is the sky blue?"), talk("34cd", "Rain")];
        choices(draft, &talks).into_iter().map(|choice| choice.label.trim_end().to_owned()).collect()
    }

    #[test]
    fn commands_complete_by_name_then_by_argument() {
        assert_eq!(labels("/re"), ["/resume ID", "/regenerate", "/release", "/reasoning"]);
        assert_eq!(labels("/theme "), ["dark", "light", "high-contrast"]);
        assert_eq!(labels("/theme h"), ["high-contrast"]);
        assert_eq!(labels("/resume "), ["Why is the sky blue?", "Rain"]);
        assert_eq!((labels("/resume SKY"), labels("/resume 34")), (labels("/resume 12ab"), vec!["Rain".to_owned()]));
        assert!(labels("/model ").contains(&"smollm2-135m".to_owned()));
        assert!(labels("/model llama-3.1-8b").contains(&"llama-3.1-8b:q8_0".to_owned()));
    }

    #[test]
    fn prompts_and_paths_have_no_completions() {
        for draft in ["", "hello", "/system Be", "/model ./file.gguf", "/new ", "/usr/bin x"] {
            assert_eq!(labels(draft), [""; 0], "{draft}");
        }
    }
}
