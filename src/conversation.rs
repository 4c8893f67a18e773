//! A conversation as plain data: Conversation ⊃ Turn ⊃ messages, with branches.
//!
//! A turn names the turn before it. Asking anew or editing an old question appends another turn with the same
//! parent, so that nothing that was ever written is lost; `head` says which branch is shown. Knows no disk, no
//! engine and no clock.

use crate::protocol::{ChatMessage, FinishReason, Role, Timing, Usage};

/// Names a conversation on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub String);

/// A turn's place in its conversation: the n-th that was ever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnId(pub usize);

/// Questions and answers, every branch of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Its name on disk.
    pub id: ConversationId,
    /// What the user calls it.
    pub title: Option<String>,
    /// System message of every turn that is asked from now on.
    pub system: Option<String>,
    turns: Vec<Turn>,
    head: Option<TurnId>,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The turn that it follows; `None` for a first one.
    pub parent: Option<TurnId>,
    /// What the user wrote.
    pub prompt: String,
    /// The model that was asked, by the name that the user knows.
    pub model: String,
    /// What came back.
    pub answer: Answer,
}

/// What the model wrote, exactly as it wrote it: make it harmless before showing it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What it thought before it answered; empty where it did not.
    pub reasoning: String,
    /// What it said.
    pub text: String,
    /// How it ended, if it did.
    pub ending: Ending,
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
        /// Where the time went; `None` for a stored answer whose times were not kept.
        timing: Option<Timing>,
    },
    /// Something went wrong; what was streamed before stays.
    Failed {
        /// What the user was told.
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

    /// Takes up a conversation as it was stored. A parent must stand before its child and `head` must exist; what does
    /// not is cut loose rather than followed.
    pub fn restore(
        id: ConversationId,
        title: Option<String>,
        system: Option<String>,
        mut turns: Vec<Turn>,
        head: Option<TurnId>,
    ) -> Self {
        for (index, turn) in turns.iter_mut().enumerate() {
            turn.parent = turn.parent.filter(|parent| parent.0 < index);
        }
        let head = head.filter(|head| head.0 < turns.len());
        Self { id, title, system, turns, head }
    }

    /// Appends a question after `parent` and makes it the head.
    pub fn ask(&mut self, parent: Option<TurnId>, prompt: impl Into<String>, model: impl Into<String>) -> TurnId {
        let id = TurnId(self.turns.len());
        let parent = parent.filter(|parent| parent.0 < id.0);
        let answer = Answer::default();
        self.turns.push(Turn { parent, prompt: prompt.into(), model: model.into(), answer });
        self.head = Some(id);
        id
    }

    /// The last turn of the branch that is shown.
    pub fn head(&self) -> Option<TurnId> {
        self.head
    }

    /// A turn by its number.
    pub fn turn(&self, id: TurnId) -> Option<&Turn> {
        self.turns.get(id.0)
    }

    /// A turn by its number, to write its answer.
    pub fn turn_mut(&mut self, id: TurnId) -> Option<&mut Turn> {
        self.turns.get_mut(id.0)
    }

    /// Every turn of every branch, in the order in which they were asked.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The turns from the first one to `last`, along one branch.
    pub fn path_to(&self, last: Option<TurnId>) -> Vec<TurnId> {
        let mut path: Vec<_> = std::iter::successors(last, |id| self.turn(*id)?.parent).collect();
        path.reverse();
        path
    }

    /// The branch that is shown.
    pub fn path(&self) -> Vec<TurnId> {
        self.path_to(self.head)
    }

    /// The turns that follow the same turn as `id` does, itself among them: asked anew, or edited.
    pub fn siblings(&self, id: TurnId) -> Vec<TurnId> {
        let Some(turn) = self.turn(id) else { return Vec::new() };
        let others = self.turns.iter().enumerate().filter(|(_, other)| other.parent == turn.parent);
        others.map(|(index, _)| TurnId(index)).collect()
    }

    /// Shows the branch that goes through `id`, to its turn that was asked last.
    pub fn show(&mut self, id: TurnId) {
        let last = (id.0..self.turns.len()).rev().map(TurnId).find(|last| self.path_to(Some(*last)).contains(&id));
        self.head = last.or(self.head);
    }

    /// What the engine reads to answer turn `last`: the system message, the turns before it that have an answer, and
    /// its question. A turn that was never answered is left out: two questions in a row fit no chat template.
    pub fn messages_for(&self, last: TurnId) -> Vec<ChatMessage> {
        let Some(turn) = self.turn(last) else { return Vec::new() };
        self.messages_after(turn.parent, turn.prompt.clone())
    }

    /// The same for a question that is not asked yet, to follow `parent`.
    pub fn messages_after(&self, parent: Option<TurnId>, prompt: String) -> Vec<ChatMessage> {
        let system = self.system.iter().filter(|text| !text.is_empty());
        let mut messages: Vec<_> = system.map(|text| ChatMessage::new(Role::System, text.clone())).collect();
        let turns = self.path_to(parent).into_iter().filter_map(|id| self.turn(id));
        for turn in turns.filter(|turn| !turn.answer.text.is_empty()) {
            messages.push(ChatMessage::new(Role::User, turn.prompt.clone()));
            messages.push(turn.answer.as_message());
        }
        messages.push(ChatMessage::new(Role::User, prompt));
        messages
    }
}

impl Answer {
    /// The answer as later prompts carry it.
    pub fn as_message(&self) -> ChatMessage {
        let reasoning = (!self.reasoning.is_empty()).then(|| self.reasoning.clone());
        ChatMessage { role: Role::Assistant, content: self.text.clone(), reasoning }
    }

    /// Whether the model said nothing, whatever it thought.
    pub fn is_silent(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Whether the model wrote nothing at all.
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
    fn the_engine_reads_the_system_message_and_the_answered_turns() {
        let mut talk = Conversation::new(ConversationId("1".into()), Some("Be brief.".into()));
        let first = answered(&mut talk, None, "one?", "1");
        let silent = talk.ask(Some(first), "lost?", "tiny");
        let last = talk.ask(Some(silent), "two?", "tiny");
        assert_eq!(contents(&talk, last), ["Be brief.", "one?", "1", "two?"]);
    }

    #[test]
    fn asking_anew_is_a_branch_and_loses_nothing() {
        let mut talk = Conversation::default();
        let first = answered(&mut talk, None, "one?", "1");
        let second = answered(&mut talk, Some(first), "two?", "zwei");
        let again = talk.ask(talk.turn(second).unwrap().parent, "two?", "tiny");
        assert_eq!(talk.path(), [first, again]);
        assert_eq!(contents(&talk, again), ["one?", "1", "two?"]);
        assert_eq!(talk.turn(second).unwrap().answer.text, "zwei");
    }

    #[test]
    fn a_branch_is_shown_to_its_last_turn() {
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
    fn a_stored_loop_is_cut_instead_of_followed() {
        let turn = |parent| Turn { parent, prompt: "p".into(), model: "m".into(), answer: Answer::default() };
        let turns = vec![turn(Some(TurnId(1))), turn(Some(TurnId(0))), turn(Some(TurnId(9)))];
        let talk = Conversation::restore(ConversationId::default(), None, None, turns, Some(TurnId(1)));
        assert_eq!(talk.path(), [TurnId(0), TurnId(1)]);
        assert_eq!(talk.path_to(Some(TurnId(2))), [TurnId(2)]);
    }
}
