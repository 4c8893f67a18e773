//! Forks of a conversation: where questions were asked again or changed, and how the versions differ.

use std::collections::BTreeSet;

use crate::conversation::{Conversation, Turn, TurnId};

/// Longest text of a version, in characters.
const LONGEST: usize = 200;

/// Words before the first one that differs.
const LEAD: usize = 2;

/// A place where several turns follow the same turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Number of the turn, counted from 1.
    pub number: usize,
    /// The prompt before the fork; `None` at the beginning of the conversation.
    pub after: Option<String>,
    /// The versions, in the order in which they were asked.
    pub versions: Vec<Version>,
}

/// One of the turns at a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The turn.
    pub turn: TurnId,
    /// The first words that differ from the other versions: of the prompt, or of the answer if the prompts are equal.
    pub words: String,
    /// Whether the words are of the answer.
    pub of_answer: bool,
    /// The beginning of the answer, if the words are of the prompt.
    pub answer: String,
    /// Whether the visible branch goes through it.
    pub shown: bool,
    /// Number of turns from this one to the end of its longest branch.
    pub turns: usize,
}

/// All forks, from the beginning of the conversation on.
pub fn forks(conversation: &Conversation) -> Vec<Fork> {
    let shown: BTreeSet<_> = conversation.path().into_iter().collect();
    let mut seen = BTreeSet::new();
    let mut forks = Vec::new();
    for id in (0..conversation.turns().len()).map(TurnId) {
        let siblings = conversation.siblings(id);
        if siblings.len() < 2 || siblings.first() != Some(&id) || !seen.insert(id) {
            continue;
        }
        let parent = conversation.turn(id).and_then(|turn| turn.parent);
        let before = conversation.path_to(parent);
        let after = before.last().and_then(|id| conversation.turn(*id)).map(|turn| turn.prompt.clone());
        forks.push(Fork { number: before.len() + 1, after, versions: versions(conversation, &siblings, &shown) });
    }
    forks.sort_by_key(|fork| fork.number);
    forks
}

fn versions(conversation: &Conversation, siblings: &[TurnId], shown: &BTreeSet<TurnId>) -> Vec<Version> {
    let turns: Vec<&Turn> = siblings.iter().filter_map(|id| conversation.turn(*id)).collect();
    let of_answer = turns.windows(2).all(|pair| pair[0].prompt.trim() == pair[1].prompt.trim());
    let texts: Vec<&str> =
        turns.iter().map(|turn| if of_answer { turn.answer.text.as_str() } else { turn.prompt.as_str() }).collect();
    let version = |(id, words): (&TurnId, String)| Version {
        turn: *id,
        words,
        of_answer,
        answer: if of_answer { String::new() } else { beginning(conversation, *id) },
        shown: shown.contains(id),
        turns: depth(conversation, *id),
    };
    siblings.iter().zip(differences(&texts)).map(version).collect()
}

/// The first words of an answer.
fn beginning(conversation: &Conversation, id: TurnId) -> String {
    let text = conversation.turn(id).map(|turn| turn.answer.text.as_str()).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().take(12).collect();
    words.join(" ").chars().take(LONGEST).collect()
}

/// Number of turns from `id` to the end of the longest branch through it.
fn depth(conversation: &Conversation, id: TurnId) -> usize {
    let later = (id.0..conversation.turns().len()).map(|last| conversation.path_to(Some(TurnId(last))));
    let behind = later.filter_map(|path| path.iter().position(|turn| *turn == id).map(|place| path.len() - place));
    behind.max().unwrap_or(1)
}

/// For each text: the words from where the texts begin to differ, after two common ones.
pub fn differences(texts: &[&str]) -> Vec<String> {
    let words: Vec<Vec<&str>> = texts.iter().map(|text| text.split_whitespace().collect()).collect();
    let first = words.first().map(Vec::as_slice).unwrap_or_default();
    let common =
        (0..first.len()).take_while(|at| words.iter().all(|other| other.get(*at) == Some(&first[*at]))).count();
    let start = common.saturating_sub(LEAD);
    let shown = |words: &Vec<&str>| {
        let rest = words[start.min(words.len())..].join(" ");
        let mut text = if start > 0 { format!("… {rest}") } else { rest };
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
        }
        text
    };
    words.iter().map(shown).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn answered(talk: &mut Conversation, parent: Option<TurnId>, prompt: &str, answer: &str) -> TurnId {
        let id = talk.ask(parent, prompt, "tiny");
        talk.turn_mut(id).unwrap().answer.text = answer.into();
        id
    }

    #[test]
    fn differences_begin_two_words_before_the_first_difference() {
        let said = differences(&["Tell me about the red sea", "Tell me about the blue sky", "Tell me about the"]);
        assert_eq!(said, ["… about the red sea", "… about the blue sky", "… about the"]);
        assert_eq!(differences(&["one", "two"]), ["one", "two"]);
        assert_eq!(differences(&["same", "same"]), ["same", "same"]);
    }

    #[test]
    fn forks_are_listed_with_what_differs_and_which_is_shown() {
        let mut talk = Conversation::default();
        let first = answered(&mut talk, None, "one?", "1");
        let second = answered(&mut talk, Some(first), "two?", "The answer is zwei.");
        answered(&mut talk, Some(second), "three?", "3");
        let again = answered(&mut talk, Some(first), "two?", "The answer is deux.");
        answered(&mut talk, None, "uno?", "I");
        talk.show(again);
        let forks = forks(&talk);
        let places: Vec<_> = forks.iter().map(|fork| (fork.number, fork.after.as_deref())).collect();
        assert_eq!(places, [(1, None), (2, Some("one?"))]);
        let [left, right] = &forks[1].versions[..] else { panic!("{forks:?}") };
        assert_eq!(
            (left.words.as_str(), left.shown, left.turns, left.of_answer),
            ("… answer is zwei.", false, 2, true)
        );
        assert_eq!((right.turn, right.words.as_str(), right.shown), (again, "… answer is deux.", true));
        assert!(!forks[0].versions[0].of_answer && forks[0].versions[0].turns == 3);
    }
}
