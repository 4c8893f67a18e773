//! A conversation as plain data: Conversation ⊃ Turn ⊃ messages, with branches.
//!
//! Each turn holds the id of its parent. Asking again or editing an old question appends another turn with the same
//! parent, so that no text is lost; `head` selects the branch that is shown. Independent of disk, engine and clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::{Channel, ChatMessage, FinishReason, Role, SamplingParams, Served, Timing, Trace, Usage};

mod files;
pub mod mention;

pub use files::with_files;

mod omitted;

/// Identifies a conversation on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub String);

/// A turn's index in its conversation, in the order in which the questions were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnId(pub usize);

/// Questions and answers of all branches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Its id on disk.
    pub id: ConversationId,
    /// The title that the user set.
    pub title: Option<String>,
    /// System message of all later turns.
    pub system: Option<String>,
    /// Settings of this conversation: values as the user wrote them, by keys of `settings::KEYS`.
    pub settings: BTreeMap<String, String>,
    /// The text in the composer that is not sent yet.
    pub draft: String,
    turns: Vec<Turn>,
    head: Option<TurnId>,
}

/// A text file that is sent with a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The path as the user wrote it.
    pub name: String,
    /// Its content when it was attached.
    pub text: String,
}

/// A question and its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// The turn that it follows; `None` for a first turn.
    pub parent: Option<TurnId>,
    /// The question.
    pub prompt: String,
    /// The model's name, as the user sees it.
    pub model: String,
    /// The answer so far.
    pub answer: Answer,
    /// The files that are sent with the question.
    pub files: Vec<Attachment>,
    /// Whether the user deleted it: it stays on disk, but is neither shown nor sent.
    pub removed: bool,
}

/// A turn to be stored, with its conversation and index.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnRecord {
    /// The conversation; it is created if it does not exist.
    pub conversation: ConversationId,
    /// The conversation's system message from now on.
    pub system: Option<String>,
    /// The conversation's settings from now on.
    pub settings: BTreeMap<String, String>,
    /// The turn's index.
    pub id: TurnId,
    /// The whole turn; if it is stored already, only the answer is updated.
    pub turn: Turn,
    /// How its tokens are sampled, if known.
    pub sampling: Option<SamplingParams>,
    /// When it was asked, in milliseconds since 1970 (UTC); `None`: now. The first record of a turn counts.
    pub asked_ms: Option<i64>,
}

/// A small change of a stored conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The title.
    Title(String),
    /// The system message; empty: none.
    System(String),
    /// All settings of the conversation.
    Settings(BTreeMap<String, String>),
    /// The text in the composer that is not sent yet.
    Draft(String),
    /// Whether this turn is deleted.
    Removed(TurnId, bool),
    /// Move it to the trash.
    Trash,
    /// Bring it back from the trash.
    Restore,
}

/// The model's output, unchanged: sanitise it before display.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The reasoning before the answer; empty if there is none.
    pub reasoning: String,
    /// The answer itself.
    pub text: String,
    /// How it ended.
    pub ending: Ending,
    /// What it was computed from; `None` before its end, and for answers that this program did not compute.
    pub trace: Option<Arc<Trace>>,
    /// The server's model that wrote it; `None`: a model of this program, or of a program that did not store it.
    pub served: Option<Served>,
}

impl Answer {
    /// Appends a piece of text.
    pub fn push(&mut self, channel: Channel, text: &str) {
        match channel {
            Channel::Answer => self.text.push_str(text),
            Channel::Reasoning => self.reasoning.push_str(text),
        }
    }
}

/// How an answer ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Ending {
    /// It has not ended yet.
    #[default]
    Pending,
    /// The model or the user ended it.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Token counts.
        usage: Usage,
        /// Times; `None` for a stored answer without them.
        timing: Option<Timing>,
    },
    /// An error occurred; text that was streamed before is kept.
    Failed {
        /// The error message that the user saw.
        message: String,
    },
    /// The program ended before the answer did.
    Interrupted,
}

impl Conversation {
    /// An empty conversation.
    pub fn new(id: ConversationId, system: Option<String>) -> Self {
        Self { id, system, ..Self::default() }
    }

    /// The conversation with stored turns. A parent that does not come before its child and a `head` that does not
    /// exist are dropped, so that a damaged store cannot cause an endless loop.
    pub fn restored(self, mut turns: Vec<Turn>, head: Option<TurnId>) -> Self {
        for (index, turn) in turns.iter_mut().enumerate() {
            turn.parent = turn.parent.filter(|parent| parent.0 < index);
        }
        let head = head.filter(|head| head.0 < turns.len());
        Self { turns, head, ..self }
    }

    /// Appends a question after `parent` and makes it the head.
    pub fn ask(&mut self, parent: Option<TurnId>, prompt: impl Into<String>, model: impl Into<String>) -> TurnId {
        let id = TurnId(self.turns.len());
        let parent = parent.filter(|parent| parent.0 < id.0);
        self.turns.push(Turn { parent, prompt: prompt.into(), model: model.into(), ..Turn::default() });
        self.head = Some(id);
        id
    }

    /// The last turn of the branch that is shown.
    pub fn head(&self) -> Option<TurnId> {
        self.ancestors(self.head).find(|id| self.is_there(*id))
    }

    /// Deletes a turn, or brings it back. Later turns of its branch stay.
    pub fn set_removed(&mut self, id: TurnId, removed: bool) {
        if let Some(turn) = self.turns.get_mut(id.0) {
            turn.removed = removed;
        }
    }

    /// The deleted turns, in the order in which they were asked. A prompt that was taken back before its answer began is
    /// none: it went back into the composer.
    pub fn removed(&self) -> Vec<TurnId> {
        let ended = |answer: &Answer| !matches!(answer.ending, Ending::Pending | Ending::Interrupted);
        let deleted = |turn: &Turn| turn.removed && (!turn.answer.is_empty() || ended(&turn.answer));
        (0..self.turns.len()).map(TurnId).filter(|id| self.turn(*id).is_some_and(deleted)).collect()
    }

    fn is_there(&self, id: TurnId) -> bool {
        self.turn(id).is_some_and(|turn| !turn.removed)
    }

    fn ancestors(&self, last: Option<TurnId>) -> impl Iterator<Item = TurnId> {
        std::iter::successors(last, |id| self.turn(*id)?.parent)
    }

    /// The turn with this id.
    pub fn turn(&self, id: TurnId) -> Option<&Turn> {
        self.turns.get(id.0)
    }

    /// The turn with this id, to write its answer.
    pub fn turn_mut(&mut self, id: TurnId) -> Option<&mut Turn> {
        self.turns.get_mut(id.0)
    }

    /// The turns of all branches, in the order in which they were asked, with deleted ones.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The branch that ends with `last`, from its first turn on, without deleted turns.
    pub fn path_to(&self, last: Option<TurnId>) -> Vec<TurnId> {
        let mut path: Vec<_> = self.ancestors(last).filter(|id| self.is_there(*id)).collect();
        path.reverse();
        path
    }

    /// A copy of the branch that ends with `last`, without an id: its turns alone, numbered anew.
    pub fn branch(&self, last: Option<TurnId>) -> Self {
        let mut copy = Self { id: ConversationId::default(), turns: Vec::new(), head: None, ..self.clone() };
        let path = self.path_to(last);
        let left_out = self.left_out();
        let again = path.iter().enumerate().filter(|(_, id)| left_out.contains(id));
        copy.renumber_left_out(again.map(|(place, _)| TurnId(place)));
        for turn in path.into_iter().filter_map(|id| self.turn(id)) {
            let parent = copy.turns.len().checked_sub(1).map(TurnId);
            copy.head = Some(TurnId(copy.turns.len()));
            copy.turns.push(Turn { parent, ..turn.clone() });
        }
        copy
    }

    /// The branch that is shown.
    pub fn path(&self) -> Vec<TurnId> {
        self.path_to(self.head)
    }

    /// The turns with the same parent as `id`, including `id`: repeated or edited questions.
    pub fn siblings(&self, id: TurnId) -> Vec<TurnId> {
        let Some(turn) = self.turn(id) else { return Vec::new() };
        let others = self.turns.iter().enumerate().filter(|(_, other)| other.parent == turn.parent && !other.removed);
        others.map(|(index, _)| TurnId(index)).collect()
    }

    /// Shows the branch through `id` that ends with the latest turn.
    pub fn show(&mut self, id: TurnId) {
        let last = (id.0..self.turns.len()).rev().map(TurnId).find(|last| self.path_to(Some(*last)).contains(&id));
        self.head = last.or(self.head);
    }

    /// The request messages for turn `last`: the system message, the earlier turns that have an answer, and its
    /// question. A turn without an answer is left out: chat templates do not allow two questions in a row.
    pub fn messages_for(&self, last: TurnId) -> Vec<ChatMessage> {
        let Some(turn) = self.turn(last) else { return Vec::new() };
        self.messages_after(turn.parent, turn.question())
    }

    /// The turns that are sent with a question after `parent`: those with an answer that are not left out.
    pub fn sent_to(&self, parent: Option<TurnId>) -> Vec<TurnId> {
        let left_out = self.left_out();
        let answered = |id: &TurnId| self.turn(*id).is_some_and(|turn| !turn.answer.text.is_empty());
        self.path_to(parent).into_iter().filter(|id| answered(id) && !left_out.contains(id)).collect()
    }

    /// The request messages for a question after `parent` that is not appended yet.
    pub fn messages_after(&self, parent: Option<TurnId>, prompt: String) -> Vec<ChatMessage> {
        let system = self.system_text(&self.path_to(parent));
        let mut messages: Vec<_> = system.map(|text| ChatMessage::new(Role::System, text)).into_iter().collect();
        for turn in self.sent_to(parent).into_iter().filter_map(|id| self.turn(id)) {
            messages.push(ChatMessage::new(Role::User, turn.question()));
            messages.push(turn.answer.as_message());
        }
        messages.push(ChatMessage::new(Role::User, prompt));
        messages
    }
}

impl Turn {
    /// The question as the model reads it: the files, then the prompt.
    pub fn question(&self) -> String {
        with_files(&self.files, &self.prompt)
    }
}

impl Answer {
    /// The answer as a message of later prompts.
    pub fn as_message(&self) -> ChatMessage {
        let reasoning = (!self.reasoning.is_empty()).then(|| self.reasoning.clone());
        ChatMessage { role: Role::Assistant, content: self.text.clone(), reasoning }
    }

    /// Whether the answer text is blank, with or without reasoning.
    pub fn is_silent(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Whether there is neither text nor reasoning.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answered(conversation: &mut Conversation, parent: Option<TurnId>, prompt: &str, answer: &str) -> TurnId {
        let id = conversation.ask(parent, prompt, "tiny");
        conversation.turn_mut(id).unwrap().answer.text = answer.into();
        id
    }

    fn contents(conversation: &Conversation, last: TurnId) -> Vec<String> {
        conversation.messages_for(last).into_iter().map(|message| message.content).collect()
    }

    #[test]
    fn request_messages_are_the_system_message_and_the_answered_turns() {
        let mut talk = Conversation::new(ConversationId("1".into()), Some("Be brief.".into()));
        let first = answered(&mut talk, None, "one?", "1");
        let silent = talk.ask(Some(first), "lost?", "tiny");
        let last = talk.ask(Some(silent), "two?", "tiny");
        assert_eq!(contents(&talk, last), ["Be brief.", "one?", "1", "two?"]);
    }

    #[test]
    fn asking_again_adds_a_branch_and_keeps_the_old_answer() {
        let mut talk = Conversation::default();
        let first = answered(&mut talk, None, "one?", "1");
        let second = answered(&mut talk, Some(first), "two?", "zwei");
        let again = talk.ask(talk.turn(second).unwrap().parent, "two?", "tiny");
        assert_eq!(talk.path(), [first, again]);
        assert_eq!(contents(&talk, again), ["one?", "1", "two?"]);
        assert_eq!(talk.turn(second).unwrap().answer.text, "zwei");
    }

    #[test]
    fn show_selects_the_branch_up_to_its_last_turn() {
        let mut talk = Conversation::default();
        let first = answered(&mut talk, None, "one?", "1");
        let second = answered(&mut talk, Some(first), "two?", "zwei");
        let third = answered(&mut talk, Some(second), "three?", "drei");
        let again = answered(&mut talk, Some(first), "two?", "deux");
        assert_eq!((talk.siblings(second), talk.siblings(again)), (vec![second, again], vec![second, again]));
        assert_eq!(talk.siblings(third), [third]);
        talk.show(second);
        assert_eq!(talk.path(), [first, second, third]);
        talk.show(again);
        assert_eq!(talk.path(), [first, again]);
    }

    #[test]
    fn deleted_turn_is_left_out_and_comes_back() {
        let mut talk = Conversation::default();
        let first = answered(&mut talk, None, "one?", "1");
        let second = answered(&mut talk, Some(first), "two?", "2");
        let third = answered(&mut talk, Some(second), "three?", "3");
        talk.set_removed(second, true);
        assert_eq!((talk.path(), talk.head()), (vec![first, third], Some(third)));
        assert_eq!(contents(&talk, third), ["one?", "1", "three?"]);
        assert_eq!(talk.siblings(second), []);
        talk.set_removed(third, true);
        let taken_back = talk.ask(Some(third), "too long?", "tiny");
        talk.set_removed(taken_back, true);
        assert_eq!(talk.removed(), [second, third]);
        assert_eq!((talk.path(), talk.head()), (vec![first], Some(first)));
        talk.set_removed(first, true);
        assert_eq!(talk.head(), None);
        for id in [first, second, third] {
            talk.set_removed(id, false);
        }
        assert_eq!(talk.path(), [first, second, third]);
    }

    #[test]
    fn cyclic_parents_of_a_stored_conversation_are_dropped() {
        let turn = |parent| Turn { parent, prompt: "p".into(), ..Turn::default() };
        let turns = vec![turn(Some(TurnId(1))), turn(Some(TurnId(0))), turn(Some(TurnId(9)))];
        let talk = Conversation::default().restored(turns, Some(TurnId(1)));
        assert_eq!(talk.path(), [TurnId(0), TurnId(1)]);
        assert_eq!(talk.path_to(Some(TurnId(2))), [TurnId(2)]);
    }
}
