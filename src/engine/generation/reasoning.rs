//! Splits a streaming answer into reasoning and answer text. Works on text, independent of tokens and events.

use crate::protocol::Channel;

/// An incremental splitter. It removes the marks, even if they arrive in pieces. A block is recognised only at the
/// start of the answer: later marks are part of the text.
#[derive(Clone, Debug)]
pub struct ReasoningSplitter {
    open: String,
    close: String,
    place: Place,
    /// Text at the end of the input that may be the start of a mark.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Only white space so far.
    Start,
    /// In the block, before its first character that is not a line break.
    Opened,
    /// In the block.
    Reasoning,
    /// After it, before the answer's first character that is not a line break.
    Closed,
    /// In the answer.
    Answer,
}

impl ReasoningSplitter {
    /// `prompt_end`: the end of the rendered prompt, in which the template may have opened the block.
    pub fn new(marks: (&str, &str), prompt_end: &str) -> Self {
        let opened = prompt_end.trim_end().ends_with(marks.0);
        let place = if opened { Place::Opened } else { Place::Start };
        Self { open: marks.0.to_string(), close: marks.1.to_string(), place, held: String::new() }
    }

    /// A splitter for the rest of an answer that has begun, in its reasoning or after it.
    pub fn continued(marks: (&str, &str), in_reasoning: bool) -> Self {
        let place = if in_reasoning { Place::Reasoning } else { Place::Answer };
        Self { open: marks.0.to_string(), close: marks.1.to_string(), place, held: String::new() }
    }

    /// The pieces that `text` completes, in order.
    pub fn push(&mut self, text: &str) -> Vec<(Channel, String)> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.advance(&mut pieces) {}
        pieces
    }

    /// The text that was held back, at the end of the answer: it is not a mark.
    pub fn finish(&mut self) -> Option<(Channel, String)> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty() && self.place != Place::Closed).then(|| (self.channel(), held))
    }

    /// The channel of the text that follows.
    pub fn channel(&self) -> Channel {
        match self.place {
            Place::Opened | Place::Reasoning => Channel::Reasoning,
            Place::Start | Place::Closed | Place::Answer => Channel::Answer,
        }
    }

    /// Processes the held text; true if the place changed, so that it has to be called again.
    fn advance(&mut self, pieces: &mut Vec<(Channel, String)>) -> bool {
        match self.place {
            Place::Start => self.start(),
            Place::Opened => self.skip_line_breaks(Place::Reasoning),
            Place::Reasoning => self.reason(pieces),
            Place::Closed => self.skip_line_breaks(Place::Answer),
            Place::Answer => {
                if !self.held.is_empty() {
                    pieces.push((Channel::Answer, std::mem::take(&mut self.held)));
                }
                false
            }
        }
    }

    fn start(&mut self) -> bool {
        let begun = self.held.trim_start();
        if let Some(rest) = begun.strip_prefix(self.open.as_str()) {
            self.held = rest.to_string();
            self.place = Place::Opened;
            return true;
        }
        if self.open.starts_with(begun) {
            return false;
        }
        self.place = Place::Answer;
        true
    }

    fn skip_line_breaks(&mut self, next: Place) -> bool {
        self.held = self.held.trim_start_matches(['\n', '\r']).to_string();
        if self.held.is_empty() {
            return false;
        }
        self.place = next;
        true
    }

    fn reason(&mut self, pieces: &mut Vec<(Channel, String)>) -> bool {
        let closed = self.held.find(self.close.as_str());
        let shown = closed.unwrap_or_else(|| self.held.len() - self.partial_close());
        let rest = self.held.split_off(shown);
        let thought = std::mem::replace(&mut self.held, rest);
        if !thought.is_empty() {
            pieces.push((Channel::Reasoning, thought));
        }
        if closed.is_some() {
            self.held = self.held.split_off(self.close.len());
            self.place = Place::Closed;
        }
        closed.is_some()
    }

    /// Length in bytes of the longest end of the held text that is a proper prefix of the closing mark.
    fn partial_close(&self) -> usize {
        let fits = |&length: &usize| self.close.is_char_boundary(length) && self.held.ends_with(&self.close[..length]);
        (1..self.close.len()).rev().find(fits).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::prompt::DEFAULT_MARKS;
    use proptest::prelude::*;

    /// Answer and reasoning of `text`, fed in `pieces`.
    fn split(prompt_end: &str, pieces: &[&str]) -> (String, String) {
        let mut splitter = ReasoningSplitter::new(DEFAULT_MARKS, prompt_end);
        let (mut answer, mut reasoning) = (String::new(), String::new());
        let mut take = |(channel, text): (Channel, String)| match channel {
            Channel::Answer => answer.push_str(&text),
            Channel::Reasoning => reasoning.push_str(&text),
        };
        pieces.iter().for_each(|piece| splitter.push(piece).into_iter().for_each(&mut take));
        splitter.finish().into_iter().for_each(&mut take);
        (answer, reasoning)
    }

    fn pair(answer: &str, reasoning: &str) -> (String, String) {
        (answer.into(), reasoning.into())
    }

    #[test]
    fn reasoning_block_is_split_off_if_marks_arrive_in_pieces() {
        let text = "<think>\nHm, 1 < 2 </thin\n</think>\n\nYes: <think> is a mark.";
        let expected = pair("Yes: <think> is a mark.", "Hm, 1 < 2 </thin\n");
        assert_eq!(split("", &[text]), expected);
        let characters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(split("", &characters.iter().map(String::as_str).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn reasoning_block_may_be_opened_or_closed_by_the_prompt() {
        assert_eq!(split("<|im_start|>assistant\n<think>\n", &["so", "</think>", "\n\nA"]), pair("A", "so"));
        assert_eq!(split("<think>\n\n</think>\n\n", &["A"]), pair("A", ""));
    }

    #[test]
    fn text_without_a_complete_reasoning_block_is_kept() {
        assert_eq!(split("", &["  <", "b>bold"]), pair("  <b>bold", ""));
        assert_eq!(split("", &["<thi"]), pair("<thi", ""));
        assert_eq!(split("", &["<think>unclosed </thi"]), pair("", "unclosed </thi"));
        assert_eq!(split("", &["<think>a</think>\n"]), pair("", "a"));
    }

    proptest! {
        #[test]
        fn split_at_any_boundary(text in "(<think>|</think>|[a<>/\n ]|é){0,12}", cut in 0usize..40, again in 0usize..40) {
            let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            let (first, second) = (boundary(cut.min(again)), boundary(cut.max(again)));
            let pieces = [&text[..first], &text[first..second], &text[second..]];
            prop_assert_eq!(split("", &pieces), split("", &[&text]));
        }
    }
}
