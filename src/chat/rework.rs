//! Changes of earlier turns: edit, ask again, fork, continue, delete. Old versions stay stored.

use crate::conversation::{Change, Conversation, Ending, TurnId};
use crate::protocol::{ChatMessage, FinishReason};
use crate::wording::plural;

use super::command::Command;
use super::marks::{Mark, Part, TurnAction};
use super::{Chat, Effect, Hint};

impl Chat {
    /// Performs an action on the selected turn.
    pub(super) fn on_marked(&mut self, action: TurnAction) -> Vec<Effect> {
        let Some(Mark { turn, part }) = self.marked() else { return Vec::new() };
        match action {
            TurnAction::Leave => return self.set_mark(None),
            TurnAction::Copy => return self.copy_part(turn, part),
            TurnAction::Branches => return self.show_branches(),
            _ if self.refuses_now() => return Vec::new(),
            _ => {}
        }
        match action {
            TurnAction::Edit => self.edit_turn(turn),
            TurnAction::Again => self.ask_again(turn),
            TurnAction::Fork => self.fork(turn, part),
            TurnAction::Continue => self.continue_turn(turn),
            TurnAction::Delete => self.delete(turn),
            TurnAction::Undo => self.undelete(),
            TurnAction::Leave | TurnAction::Copy | TurnAction::Branches => Vec::new(),
        }
    }

    /// Runs a command on an earlier turn.
    pub(super) fn rework(&mut self, command: Command) -> Vec<Effect> {
        let number = match &command {
            Command::Edit(number) | Command::Fork(number) => *number,
            Command::Delete(None) => return self.undelete(),
            Command::Delete(Some(number)) => Some(*number).filter(|number| *number > 0),
            _ => None,
        };
        let Some(turn) = self.numbered(number) else { return Vec::new() };
        match command {
            Command::Regenerate => self.ask_again(turn),
            Command::Edit(_) => self.edit_turn(turn),
            Command::Fork(_) => self.fork(turn, Part::Answer),
            Command::Continue => self.continue_turn(turn),
            Command::Delete(_) => self.delete(turn),
            _ => Vec::new(),
        }
    }

    /// Whether a change must wait; shows why.
    pub(super) fn refuses_now(&mut self) -> bool {
        let occupied = self.is_occupied();
        if occupied {
            let why = match (self.opening, self.is_compacting()) {
                (true, _) => "the conversation is on its way from the disk: wait a moment",
                (false, true) => "the oldest turns are being summarised: Esc stops it",
                (false, false) => "an answer is being written: Esc stops it",
            };
            self.show_hint(Hint::Message(why.into()));
        }
        occupied
    }

    /// The turn with this number, the last one without a number; a hint if there is none.
    pub(super) fn numbered(&mut self, number: Option<usize>) -> Option<TurnId> {
        let found = match number {
            Some(number) => self.turn_at(number),
            None => self.conversation.head(),
        };
        if found.is_none() {
            let count = self.conversation.path().len();
            let told = match count {
                0 => "nothing was asked yet".to_owned(),
                _ => format!("there is no such turn: they are numbered 1 to {count}"),
            };
            self.show_hint(Hint::Message(told));
        }
        found
    }

    /// Puts the prompt into the composer; the next prompt replaces it, on a new branch.
    pub(super) fn edit_turn(&mut self, id: TurnId) -> Vec<Effect> {
        let Some(turn) = self.conversation.turn(id) else { return Vec::new() };
        self.branch = Some(turn.parent);
        let prompt = self.draft_of(id);
        self.edited = Some(id);
        self.set_mark(None);
        self.recount();
        self.show_hint(Hint::Message("change it and send it: the version before is kept, /branch shows it".into()));
        vec![Effect::ClearDraft, Effect::PutBack(prompt)]
    }

    /// Asks the prompt again, on a new branch.
    pub(super) fn ask_again(&mut self, id: TurnId) -> Vec<Effect> {
        let Some(turn) = self.conversation.turn(id) else { return Vec::new() };
        let (prompt, files) = (turn.prompt.clone(), turn.files.clone());
        self.branch = Some(turn.parent);
        self.set_mark(None);
        self.show_hint(Hint::Message("the answer before is kept: /branch shows it again".into()));
        self.ask_with(prompt, files)
    }

    /// Begins a new conversation with the turns up to this one; from a prompt, with those before it and the prompt in
    /// the composer.
    pub(super) fn fork(&mut self, id: TurnId, part: Part) -> Vec<Effect> {
        let Some(turn) = self.conversation.turn(id) else { return Vec::new() };
        let (last, prompt) = match part {
            Part::Answer => (Some(id), None),
            Part::Prompt => (turn.parent, Some(id)),
        };
        let copy = self.conversation.branch(last);
        let mut effects = vec![Effect::Fork(Box::new(copy))];
        if let Some(prompt) = prompt.map(|id| self.draft_of(id)) {
            effects.extend([Effect::ClearDraft, Effect::PutBack(prompt)]);
        }
        effects
    }

    /// Shows a copy of the conversation, stores it, and says where the other one is.
    pub(super) fn forked(&mut self, conversation: Conversation) -> Vec<Effect> {
        let before = self.conversation.id.0.clone();
        self.open(conversation);
        self.elsewhere = super::elsewhere::Elsewhere::default();
        let told = format!("this is a copy in a new conversation; /resume {before} goes back to the other one");
        self.show_hint(Hint::Message(told));
        let turns = self.conversation.path();
        turns.into_iter().flat_map(|id| self.record(id)).collect()
    }

    /// Whether the answer was cut, so that it can go on.
    pub fn is_cut(&self, id: TurnId) -> bool {
        let Some(turn) = self.conversation.turn(id) else { return false };
        let cut = match &turn.answer.ending {
            Ending::Finished { reason, .. } => *reason != FinishReason::Stop,
            Ending::Failed { .. } | Ending::Interrupted => true,
            Ending::Pending => false,
        };
        cut && !turn.answer.is_empty()
    }

    /// Lets the model go on with a cut answer. An answer with later turns keeps its text; another version grows.
    pub(super) fn continue_turn(&mut self, id: TurnId) -> Vec<Effect> {
        let Some(turn) = self.conversation.turn(id).cloned() else { return Vec::new() };
        if !self.is_cut(id) {
            let told = if turn.answer.is_empty() {
                "there is no answer to go on with: /retry asks again"
            } else {
                "this answer has ended by itself: ask for more"
            };
            self.show_hint(Hint::Message(told.into()));
            return Vec::new();
        }
        self.set_mark(None);
        if self.conversation.head() == Some(id) {
            return self.resume_answer(id);
        }
        let copy = self.conversation.ask(turn.parent, turn.prompt, turn.model);
        if let Some(other) = self.conversation.turn_mut(copy) {
            other.answer = turn.answer;
            other.files = turn.files;
        }
        self.feed.arrange(&self.conversation.path());
        self.show_hint(Hint::Message("the version before is kept: /branch shows it again".into()));
        self.resume_answer(copy)
    }

    /// The messages of the request that answers a turn; an answer that has begun is continued.
    pub(super) fn messages_of_request(&self, id: TurnId) -> Vec<ChatMessage> {
        let mut messages = self.conversation.messages_for(id);
        let begun = self.conversation.turn(id).map(|turn| &turn.answer).filter(|answer| !answer.is_empty());
        messages.extend(begun.map(|answer| answer.as_message()));
        messages
    }

    /// Deletes a turn; later turns stay.
    pub(super) fn delete(&mut self, id: TurnId) -> Vec<Effect> {
        self.deleted.push(id);
        let how = if self.marked().is_some() { "u" } else { "/delete undo" };
        self.show_hint(Hint::Message(format!("the turn is deleted; {how} brings it back")));
        self.set_removed(id, true)
    }

    /// Brings back the turn that was deleted last.
    pub(super) fn undelete(&mut self) -> Vec<Effect> {
        let Some(id) = self.deleted.last().copied() else {
            self.show_hint(Hint::Message("no turn was deleted here".into()));
            return Vec::new();
        };
        self.bring_back(id)
    }

    /// Brings back this deleted turn, and shows its branch if another one is shown.
    fn bring_back(&mut self, id: TurnId) -> Vec<Effect> {
        self.deleted.retain(|other| *other != id);
        let told = match self.deleted.len() {
            0 => "the turn is back".to_owned(),
            more => format!("the turn is back; /branch lists {more} more deleted {}", plural(more, "turn")),
        };
        self.show_hint(Hint::Message(told));
        let mut effects = self.set_removed(id, false);
        if !self.conversation.path().contains(&id) {
            effects.extend(self.show_branch(id));
        }
        effects
    }

    /// Whether a deleted turn can be brought back.
    pub fn can_undelete(&self) -> bool {
        !self.deleted.is_empty()
    }

    fn set_removed(&mut self, id: TurnId, removed: bool) -> Vec<Effect> {
        let mark = self.marked();
        self.conversation.set_removed(id, removed);
        self.feed.arrange(&self.conversation.path());
        self.branch = None;
        self.recount();
        let mut effects = vec![Effect::Change(self.conversation.id.clone(), Change::Removed(id, removed))];
        if let Some(mark) = mark {
            let wanted = if removed { mark } else { Mark { turn: id, part: Part::Prompt } };
            effects.extend(self.mark_near(wanted));
        }
        effects
    }

    fn copy_part(&mut self, id: TurnId, part: Part) -> Vec<Effect> {
        let Some(turn) = self.conversation.turn(id) else { return Vec::new() };
        let text = match part {
            Part::Prompt => &turn.prompt,
            Part::Answer => &turn.answer.text,
        };
        vec![Effect::Copy(text.clone())]
    }

    /// Shows the branch through this turn; a deleted one comes back.
    pub(super) fn show_branch(&mut self, id: TurnId) -> Vec<Effect> {
        if self.refuses_now() {
            return Vec::new();
        }
        if self.conversation.turn(id).is_some_and(|turn| turn.removed) {
            return self.bring_back(id);
        }
        let marked = self.marked().is_some();
        self.conversation.show(id);
        self.feed.arrange(&self.conversation.path());
        self.branch = None;
        self.recount();
        self.engine.context_used = self.stored_context();
        let head = self.conversation.head();
        let mut effects: Vec<_> =
            head.map(|head| Effect::Select(self.conversation.id.clone(), head)).into_iter().collect();
        if marked {
            effects.extend(self.mark_near(Mark { turn: id, part: Part::Prompt }));
        }
        effects
    }
}
