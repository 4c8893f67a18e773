//! `/compact`: the model summarises the oldest turns, or the user leaves out chosen ones. Later prompts go without them;
//! they stay stored and visible.

use std::time::Duration;

use crate::conversation::{Change, Ending, TurnId};
use crate::protocol::{Channel, EngineEvent, FinishReason, GenerationRequest, OverflowPolicy, RequestId};
use crate::wording::plural;

use super::{Chat, Effect, Hint, NoteKind};

/// Turns at the end that are never summarised.
const RECENT: usize = 2;

/// Most tokens of a summary, and the share of the context that it may take.
const LONGEST: usize = 400;
const SHARE: usize = 4;

/// What the model is asked for. The words leave room for languages with more tokens for each.
fn instruction(longest: usize) -> String {
    let words = longest * 3 / 8;
    format!(
        "Summarise our conversation so far in at most {words} words, as notes for yourself: facts, names, numbers, \
         decisions and open questions. Write the summary alone."
    )
}

/// Marks a summary that ended at its limit.
const CUT: &str = "[…]";

/// `text` up to the end of its last whole sentence or line; up to its last whole word if it has none.
fn whole_sentences(text: &str) -> &str {
    let ends = |(at, c): (usize, char)| {
        let behind = &text[at + c.len_utf8()..];
        let ended = match c {
            '.' | '!' | '?' => behind.starts_with(char::is_whitespace),
            '。' | '！' | '？' => true,
            _ => behind.starts_with('\n'),
        };
        ended.then_some(at + c.len_utf8())
    };
    let end = text.char_indices().rev().find_map(ends).or_else(|| text.rfind(char::is_whitespace));
    text[..end.unwrap_or(text.len())].trim_end()
}

/// What `/compact` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compact {
    /// Summarise the oldest turns.
    Summary,
    /// Leave out the turns with these numbers.
    Turns(Vec<usize>),
    /// Bring back what was left out.
    Undo,
}

/// A summary that the model is writing.
#[derive(Clone, Debug)]
pub(super) struct Compacting {
    id: RequestId,
    turns: Vec<TurnId>,
    text: String,
}

/// Parses what follows `/compact`: nothing, `none`, or numbers and ranges such as `1,3-5`.
pub(super) fn parse(argument: &str) -> Result<Compact, String> {
    match argument {
        "" => return Ok(Compact::Summary),
        "none" | "undo" => return Ok(Compact::Undo),
        _ => {}
    }
    let wrong = || "/compact takes numbers of turns, such as 1,3-5, or none".to_owned();
    let mut numbers = Vec::new();
    for part in argument.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>(), last.parse::<usize>());
        let (Ok(first), Ok(last)) = (first, last) else { return Err(wrong()) };
        if first == 0 || last < first || last > 100_000 {
            return Err(wrong());
        }
        numbers.extend(first..=last);
    }
    Ok(Compact::Turns(numbers))
}

impl Chat {
    pub(super) fn compact(&mut self, what: Compact) -> Vec<Effect> {
        match what {
            Compact::Summary => self.summarise(),
            Compact::Turns(numbers) => self.leave_out(&numbers),
            Compact::Undo => {
                let told = match self.conversation.leave_out_none() {
                    true => "all turns are sent again",
                    false => "no turn was left out",
                };
                self.show_hint(Hint::Message(told.into()));
                self.omitted()
            }
        }
    }

    /// Whether the model is writing a summary.
    pub fn is_compacting(&self) -> bool {
        self.compacting.is_some()
    }

    /// The oldest turns that a summary would replace: as many as three quarters of the context hold, but not the last two.
    pub(super) fn to_compact(&self) -> Vec<TurnId> {
        let sent = self.conversation.sent_to(self.conversation.head());
        let most = sent.len().saturating_sub(RECENT);
        let known = self.engine.info.as_ref().filter(|info| info.context_length > 0);
        let room = known.map(|info| info.context_length * 3 / 4);
        let used = |id: &TurnId| match self.conversation.turn(*id).map(|turn| &turn.answer.ending) {
            Some(Ending::Finished { usage, .. }) => usage.total_tokens(),
            _ => 0,
        };
        let fits = |id: &&TurnId| room.is_none_or(|room| used(id) <= room);
        let fitting = sent.iter().take(most).take_while(fits).count();
        sent.into_iter().take(fitting.max(most.min(1))).collect()
    }

    /// Most tokens of a summary.
    fn longest_summary(&self) -> usize {
        let known = self.engine.info.as_ref().filter(|info| info.context_length > 0);
        known.map_or(LONGEST, |info| (info.context_length / SHARE).min(LONGEST))
    }

    /// About how many tokens these turns hold: four bytes each, which is near enough for English and for scripts of three
    /// bytes a letter.
    fn estimate(&self, turns: &[TurnId]) -> usize {
        let turns = turns.iter().filter_map(|id| self.conversation.turn(*id));
        turns.map(|turn| (turn.question().len() + turn.answer.text.len()) / 4).sum()
    }

    /// Whether a summary of the oldest turns would take less than they do.
    pub(super) fn is_worth_compacting(&self) -> bool {
        self.estimate(&self.to_compact()) > self.longest_summary()
    }

    fn summarise(&mut self) -> Vec<Effect> {
        let turns = self.to_compact();
        let Some(last) = turns.last().copied() else {
            self.show_hint(Hint::Message("there is nothing to summarise: the last two turns stay as they are".into()));
            return Vec::new();
        };
        if !self.supply.may_load() {
            self.show_hint(Hint::Message("the model's files are not here yet: a prompt offers to fetch them".into()));
            return Vec::new();
        }
        let (count, longest) = (turns.len(), self.longest_summary());
        if !self.is_worth_compacting() {
            let told = format!(
                "nothing to gain: the oldest {count} {} about {} tokens, and a summary may take {longest}; /compact N,M \
                 leaves turns out",
                if count == 1 { "turn holds" } else { "turns hold" },
                self.estimate(&turns),
            );
            self.show_hint(Hint::Message(told));
            return Vec::new();
        }
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let messages = self.conversation.messages_after(Some(last), instruction(longest));
        self.compacting = Some(Compacting { id, turns, text: String::new() });
        let told = format!("the oldest {count} {} are being summarised; Esc stops it", plural(count, "turn"));
        self.show_hint_for(Hint::Message(told), Duration::from_secs(600));
        vec![Effect::Generate(GenerationRequest {
            max_tokens: Some(longest),
            on_overflow: OverflowPolicy::Trim,
            ..self.request(id, messages, self.options.sampling.clone())
        })]
    }

    /// Stops the summary.
    pub(super) fn stop_compacting(&self) -> Option<Effect> {
        self.compacting.as_ref().map(|compacting| Effect::Cancel(compacting.id))
    }

    /// Takes an event of the request for a summary; `None` if it belongs to something else.
    pub(super) fn compacting_event(&mut self, event: &EngineEvent) -> Option<Vec<Effect>> {
        let compacting = self.compacting.as_mut()?;
        match event {
            EngineEvent::Token { id, channel, text, .. } if *id == compacting.id => {
                if *channel == Channel::Answer {
                    compacting.text.push_str(text);
                }
                Some(Vec::new())
            }
            EngineEvent::Prefill { id, .. } if *id == compacting.id => Some(Vec::new()),
            EngineEvent::Finished { id, reason, .. } if *id == compacting.id => Some(self.summarised(*reason)),
            EngineEvent::Failed { id, error, .. } if *id == compacting.id => {
                self.compacting = None;
                self.hint = None;
                self.note(NoteKind::Error, format!("Nothing was summarised, all turns stay. {}", error.message));
                Some(self.go_on())
            }
            _ => None,
        }
    }

    fn summarised(&mut self, reason: FinishReason) -> Vec<Effect> {
        let Some(compacting) = self.compacting.take() else { return Vec::new() };
        self.hint = None;
        let mut text = compacting.text.trim().to_owned();
        if reason == FinishReason::Length && !text.is_empty() {
            text = format!("{} {CUT}", whole_sentences(&text));
        }
        if reason == FinishReason::Cancelled || text.is_empty() {
            let why = if text.is_empty() { "the model wrote no summary" } else { "stopped" };
            self.show_hint(Hint::Message(format!("{why}: all turns stay as they were")));
            return self.go_on();
        }
        let count = compacting.turns.len();
        let told = format!(
            "The model reads this instead of the oldest {count} {}; /compact none brings them back.\n{text}",
            plural(count, "turn")
        );
        self.note(NoteKind::Info, told);
        self.conversation.leave_out(compacting.turns, Some(text));
        let mut effects = self.omitted();
        effects.extend(self.go_on());
        effects
    }

    fn leave_out(&mut self, numbers: &[usize]) -> Vec<Effect> {
        let turns: Option<Vec<_>> = numbers.iter().map(|number| self.turn_at(*number)).collect();
        let Some(turns) = turns.filter(|turns| !turns.is_empty()) else {
            let count = self.conversation.path().len();
            let told = match count {
                0 => "nothing was asked yet".to_owned(),
                _ => format!("there is no such turn: they are numbered 1 to {count}"),
            };
            self.show_hint(Hint::Message(told));
            return Vec::new();
        };
        let told = format!(
            "{} {} left out of later prompts; /compact none brings back all",
            turns.len(),
            if turns.len() == 1 { "turn is" } else { "turns are" }
        );
        self.conversation.leave_out(turns, None);
        self.show_hint(Hint::Message(told));
        self.omitted()
    }

    /// Stores what is left out, and counts the draft again.
    fn omitted(&mut self) -> Vec<Effect> {
        self.recount();
        let stored = !self.conversation.turns().is_empty();
        let change = Change::Settings(self.conversation.settings.clone());
        stored.then(|| Effect::Change(self.conversation.id.clone(), change)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_summary_ends_with_a_whole_sentence_line_or_word() {
        for (text, kept) in [
            ("They met in Rome. Version 1.5 is out. Nex", "They met in Rome. Version 1.5 is out."),
            ("Facts:\n- Ada is 36\n- the code is 4", "Facts:\n- Ada is 36"),
            ("彼はローマにいる。次の", "彼はローマにいる。"),
            ("no end at al", "no end at"),
            ("word", "word"),
        ] {
            assert_eq!(whole_sentences(text), kept);
        }
    }

    #[test]
    fn numbers_and_ranges_are_parsed() {
        assert_eq!(parse(""), Ok(Compact::Summary));
        assert_eq!(parse("none"), Ok(Compact::Undo));
        assert_eq!(parse("1,3-5"), Ok(Compact::Turns(vec![1, 3, 4, 5])));
        assert_eq!(parse("2 4"), Ok(Compact::Turns(vec![2, 4])));
        for wrong in ["0", "x", "3-1", "1-", "1-999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
