//! What a command that is being typed may become: its name, then the names that it takes.

use super::theme::Theme;
use super::view::{units, wrap};
use crate::catalogue::catalogue;
use crate::chat::command;

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What the composer holds once it is taken.
    pub text: String,
    /// How it is listed.
    pub label: String,
    /// What it is.
    pub about: String,
    /// Whether more words must follow before it means something.
    pub unfinished: bool,
}

/// A stored conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationChoice {
    /// Its name.
    pub id: String,
    /// Its title, harmless.
    pub title: String,
    /// When it was changed last, and how long it is.
    pub about: String,
}

/// Everything that `draft` may become, in the order in which it is listed; nothing where it is a prompt. `talks` is what
/// can be taken up, the last changed first.
pub fn choices(draft: &str, talks: &[ConversationChoice]) -> Vec<Choice> {
    match draft.split_once(' ') {
        None => command::completions(draft).into_iter().map(command_choice).collect(),
        Some(("/model", typed)) => among(models(), "/model", typed),
        Some(("/resume", typed)) => resumable(talks, typed),
        Some(("/theme", typed)) => among(themes(), "/theme", typed),
        Some(_) => Vec::new(),
    }
}

/// An earlier prompt that begins so.
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

/// Those whose id begins so, or in whose title this stands.
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

/// The catalogue's models in all their forms, and what each takes on disk.
fn models() -> Vec<(String, String)> {
    let forms = catalogue().models.iter().flat_map(|model| model.variants.iter().map(move |form| (model, form)));
    let named = forms.map(|(model, form)| {
        let size = model.size_of(form).map(|(bytes, exact)| {
            let about = if exact { "" } else { "about " };
            format!("{about}{}; ", units::bytes(bytes))
        });
        (model.name_of(form), format!("{}{}", size.unwrap_or_default(), model.description))
    });
    named.collect()
}

fn themes() -> Vec<(String, String)> {
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
    fn a_command_completes_and_then_its_names() {
        assert_eq!(labels("/re"), ["/resume ID", "/regenerate", "/release", "/reasoning"]);
        assert_eq!(labels("/theme "), ["dark", "light", "high-contrast"]);
        assert_eq!(labels("/theme h"), ["high-contrast"]);
        assert_eq!(labels("/resume "), ["Why is the sky blue?", "Rain"]);
        assert_eq!((labels("/resume SKY"), labels("/resume 34")), (labels("/resume 12ab"), vec!["Rain".to_owned()]));
        assert!(labels("/model ").contains(&"smollm2-135m".to_owned()));
        assert!(labels("/model llama-3.1-8b").contains(&"llama-3.1-8b:q8_0".to_owned()));
    }

    #[test]
    fn a_prompt_and_a_path_complete_to_nothing() {
        for draft in ["", "hello", "/system Be", "/model ./file.gguf", "/new ", "/usr/bin x"] {
            assert_eq!(labels(draft), [""; 0], "{draft}");
        }
    }
}
