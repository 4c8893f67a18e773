//! Turns that the user leaves out of later prompts, and the summary that replaces them. They stay stored and visible.

use std::collections::BTreeSet;

use super::{Conversation, TurnId};

/// Keys of `Conversation::settings`.
const LEFT_OUT: &str = "left_out";
const SUMMARY: &str = "summary";

impl Conversation {
    /// The turns that the user left out.
    pub fn left_out(&self) -> BTreeSet<TurnId> {
        let Some(text) = self.settings.get(LEFT_OUT) else { return BTreeSet::new() };
        text.split(',').filter_map(|id| id.parse().ok().map(TurnId)).collect()
    }

    /// What the model reads instead of the turns that were left out.
    pub fn summary(&self) -> Option<&str> {
        self.settings.get(SUMMARY).map(String::as_str)
    }

    /// Leaves out these turns; with a summary, later prompts begin with it.
    pub fn leave_out(&mut self, turns: impl IntoIterator<Item = TurnId>, summary: Option<String>) {
        let mut all = self.left_out();
        all.extend(turns);
        let ids: Vec<_> = all.iter().map(|id| id.0.to_string()).collect();
        self.settings.insert(LEFT_OUT.to_owned(), ids.join(","));
        if let Some(summary) = summary {
            self.settings.insert(SUMMARY.to_owned(), summary);
        }
    }

    /// Brings back every turn that was left out; the summary goes. False if there was none.
    pub fn leave_out_none(&mut self) -> bool {
        let summary = self.settings.remove(SUMMARY).is_some();
        self.settings.remove(LEFT_OUT).is_some() || summary
    }

    /// Sets what is left out after the turns were numbered anew; without any, the summary goes, too.
    pub(super) fn renumber_left_out(&mut self, turns: impl IntoIterator<Item = TurnId>) {
        let summary = self.summary().map(str::to_owned);
        self.leave_out_none();
        let turns: Vec<_> = turns.into_iter().collect();
        if !turns.is_empty() {
            self.leave_out(turns, summary);
        }
    }

    /// Keeps what was left out when other settings are replaced.
    pub fn replace_settings(&mut self, mut settings: std::collections::BTreeMap<String, String>) {
        for key in [LEFT_OUT, SUMMARY] {
            settings.remove(key);
            settings.extend(self.settings.remove_entry(key));
        }
        self.settings = settings;
    }

    /// The system message with the summary, if one of the turns in `path` is left out.
    pub(super) fn system_text(&self, path: &[TurnId]) -> Option<String> {
        let system = self.system.as_deref().filter(|text| !text.is_empty());
        let left_out = self.left_out();
        let summary = self.summary().filter(|_| path.iter().any(|id| left_out.contains(id)));
        let summary = summary.map(|text| format!("Summary of the earlier conversation:\n{text}"));
        let parts: Vec<_> = system.map(str::to_owned).into_iter().chain(summary).collect();
        (!parts.is_empty()).then(|| parts.join("\n\n"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::Role;

    #[test]
    fn turns_left_out_are_not_sent_and_the_summary_is() {
        let mut talk = Conversation { system: Some("Be brief.".into()), ..Conversation::default() };
        let mut ids = Vec::new();
        for (prompt, answer) in [("one", "1"), ("two", "2"), ("three", "3")] {
            let id = talk.ask(ids.last().copied(), prompt, "tiny");
            talk.turn_mut(id).unwrap().answer.text = answer.into();
            ids.push(id);
        }
        let said = |talk: &Conversation| {
            let messages = talk.messages_after(talk.head(), "four".into());
            messages.into_iter().map(|message| message.content).collect::<Vec<_>>()
        };
        talk.leave_out([ids[0]], None);
        talk.leave_out([ids[1]], Some("We counted to two.".into()));
        assert_eq!(talk.left_out(), BTreeSet::from([ids[0], ids[1]]));
        let summary = "Be brief.\n\nSummary of the earlier conversation:\nWe counted to two.";
        assert_eq!(said(&talk), [summary, "three", "3", "four"]);
        assert_eq!(talk.messages_after(None, "x".into())[0].content, "Be brief.", "another branch has no summary");
        assert_eq!(talk.messages_after(talk.head(), "x".into())[0].role, Role::System);
        let copy = talk.branch(talk.path().get(1).copied());
        assert_eq!((copy.left_out().len(), copy.summary()), (2, talk.summary()));
        talk.replace_settings([("seed".to_owned(), "7".to_owned())].into());
        assert_eq!((talk.left_out().len(), talk.settings.len()), (2, 3));
        assert!(talk.leave_out_none() && !talk.leave_out_none());
        assert_eq!(said(&talk).len(), 8);
    }
}
