//! Selection of a turn with the keyboard. `rework` performs what can be done with it.

use crate::conversation::TurnId;
use crate::protocol::{ChatMessage, RequestId};

use super::{Chat, Count, Effect, EngineState, Hint};

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The user's message.
    Prompt,
    /// The model's answer.
    Answer,
}

/// A selected part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The turn.
    pub turn: TurnId,
    /// Which part of it.
    pub part: Part,
}

/// A step of the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the part before; without a selection, to the last one.
    Back,
    /// To the part after; after the last one, the selection ends.
    On,
}

/// What is done with the selected turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnAction {
    /// Put its prompt into the composer; the next prompt replaces it, on a new branch.
    Edit,
    /// Ask its prompt again, on a new branch.
    Again,
    /// Copy the conversation up to it into a new one.
    Fork,
    /// Let the model go on with its answer, which was cut.
    Continue,
    /// Delete it.
    Delete,
    /// Bring back the turn that was deleted last.
    Undo,
    /// Copy its text to the clipboard.
    Copy,
    /// Show the branches of the conversation.
    Branches,
    /// End the selection.
    Leave,
}

/// What an action keeps of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// No model is loaded: the whole prompt is read.
    Cold,
    /// Not counted yet.
    Unknown,
    /// So many tokens of the prompt.
    Tokens {
        /// Tokens that are not read again.
        kept: usize,
        /// Tokens of the prompt.
        total: usize,
    },
}

/// The selection and what its actions keep.
#[derive(Clone, Debug, Default)]
pub(super) struct Marking {
    mark: Option<Mark>,
    asked: Vec<(RequestId, TurnAction)>,
    counts: Vec<(TurnAction, Count)>,
}

impl Chat {
    /// The selected part of a turn.
    pub fn marked(&self) -> Option<Mark> {
        self.marking.mark
    }

    /// The number of a turn on the visible branch, counted from 1, and the number of all turns on it.
    pub fn place_of(&self, turn: TurnId) -> Option<(usize, usize)> {
        let path = self.conversation.path();
        path.iter().position(|id| *id == turn).map(|place| (place + 1, path.len()))
    }

    /// The turn with this number on the visible branch.
    pub(super) fn turn_at(&self, number: usize) -> Option<TurnId> {
        number.checked_sub(1).and_then(|index| self.conversation.path().get(index).copied())
    }

    /// What an action on the selected turn keeps of the KV cache; `None` if it evaluates no prompt.
    pub fn kept(&self, action: TurnAction) -> Option<Kept> {
        let counted = match action {
            TurnAction::Delete => TurnAction::Edit,
            TurnAction::Fork if self.marked()?.part == Part::Prompt => TurnAction::Edit,
            TurnAction::Edit | TurnAction::Again | TurnAction::Fork | TurnAction::Continue => action,
            TurnAction::Undo | TurnAction::Copy | TurnAction::Branches | TurnAction::Leave => return None,
        };
        if !self.engine.is_loaded() && !matches!(self.engine.state, EngineState::Loading(_)) {
            return Some(Kept::Cold);
        }
        let count = self.marking.counts.iter().find(|(known, _)| *known == counted).map(|(_, count)| count);
        Some(
            count.map_or(Kept::Unknown, |count| Kept::Tokens { kept: count.cached_tokens, total: count.prompt_tokens }),
        )
    }

    /// Moves the selection.
    pub(super) fn step(&mut self, step: Step) -> Vec<Effect> {
        let all = self.parts();
        let place = self.marked().and_then(|mark| all.iter().position(|other| *other == mark));
        let wanted = match (step, place) {
            (Step::Back, None) => all.len().checked_sub(1),
            (Step::Back, Some(place)) => Some(place.saturating_sub(1)),
            (Step::On, Some(place)) => Some(place + 1).filter(|place| *place < all.len()),
            (Step::On, None) => None,
        };
        let mark = wanted.and_then(|place| all.get(place).copied());
        if all.is_empty() {
            self.show_hint(Hint::Message("nothing was asked yet".into()));
        }
        self.set_mark(mark)
    }

    /// Selects this part, or nothing.
    pub(super) fn set_mark(&mut self, mark: Option<Mark>) -> Vec<Effect> {
        self.marking = Marking { mark, ..Marking::default() };
        self.survey()
    }

    /// Selects what is left near `mark` after a change of the visible branch.
    pub(super) fn mark_near(&mut self, mark: Mark) -> Vec<Effect> {
        let all = self.parts();
        let kept = all.iter().rev().find(|other| other.turn <= mark.turn).or(all.first());
        let same = all.iter().find(|other| **other == mark);
        self.set_mark(same.or(kept).copied())
    }

    /// Every part of the visible turns that has a text.
    fn parts(&self) -> Vec<Mark> {
        let mut parts = Vec::new();
        for id in self.conversation.path() {
            parts.push(Mark { turn: id, part: Part::Prompt });
            if self.conversation.turn(id).is_some_and(|turn| !turn.answer.is_empty()) {
                parts.push(Mark { turn: id, part: Part::Answer });
            }
        }
        parts
    }

    /// Asks the engine what each action would keep.
    fn survey(&mut self) -> Vec<Effect> {
        let Some(mark) = self.marked().filter(|_| self.engine.is_loaded()) else { return Vec::new() };
        let prompts = [TurnAction::Edit, TurnAction::Again, TurnAction::Fork, TurnAction::Continue];
        let mut effects = Vec::new();
        for action in prompts {
            let Some(messages) = self.prompt_of(action, mark) else { continue };
            self.last_request += 1;
            let id = RequestId(self.last_request);
            self.marking.asked.push((id, action));
            effects.push(Effect::CountMessages(id, messages));
        }
        effects
    }

    /// The messages that an action evaluates first; `None` if it is not possible. A prompt that is not written yet is
    /// empty, so that nothing of its text counts as kept.
    fn prompt_of(&self, action: TurnAction, mark: Mark) -> Option<Vec<ChatMessage>> {
        let turn = self.conversation.turn(mark.turn)?;
        Some(match action {
            TurnAction::Again => self.conversation.messages_for(mark.turn),
            TurnAction::Fork => self.conversation.messages_after(Some(mark.turn), String::new()),
            TurnAction::Continue if self.is_cut(mark.turn) => self.messages_of_request(mark.turn),
            TurnAction::Continue => return None,
            _ => self.conversation.messages_after(turn.parent, String::new()),
        })
    }

    /// Records a count that `survey` has asked for; false if it belongs to something else.
    pub(super) fn surveyed(&mut self, id: RequestId, count: Count) -> bool {
        let Some(place) = self.marking.asked.iter().position(|(asked, _)| *asked == id) else { return false };
        let (_, action) = self.marking.asked.swap_remove(place);
        self.marking.counts.push((action, count));
        true
    }
}
