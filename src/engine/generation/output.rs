//! Tokens → events: assembles whole characters, splits off the reasoning, and records the time of each token.

use std::time::Duration;

use super::reasoning::ReasoningSplitter;
use crate::clock::Timestamp;
use crate::engine::chat_template::ChatTemplate;
use crate::engine::prompt::DEFAULT_MARKS;
use crate::engine::tokenizer::{TextStream, Tokenizer};
use crate::protocol::*;

/// The event stream of one answer.
pub struct Output<'a> {
    id: RequestId,
    tokenizer: &'a Tokenizer,
    emit: &'a mut dyn FnMut(EngineEvent),
    text: TextStream,
    /// Whether the next text may begin with the space that the vocabulary adds before a first word; it is dropped.
    strips_space: bool,
    splitter: ReasoningSplitter,
    /// Reasoning marks that are a single token. A control token has no text, so the mark's text is stored here.
    mark_tokens: Vec<(u32, String)>,
    /// Time of the first token.
    pub first: Option<Timestamp>,
    last: Option<Timestamp>,
    gaps: Vec<Duration>,
    /// Tokens so far, without the end token.
    pub count: usize,
}

impl<'a> Output<'a> {
    /// `prompt`: the rendered text of `request`, which may end inside a reasoning block.
    pub fn new(
        request: &GenerationRequest,
        tokenizer: &'a Tokenizer,
        template: &ChatTemplate,
        prompt: &str,
        emit: &'a mut dyn FnMut(EngineEvent),
    ) -> Self {
        let marks = template.reasoning_marks().unwrap_or(DEFAULT_MARKS);
        let token_of = |mark: &str| Some((tokenizer.token_id(mark)?, mark.to_string()));
        // When an answer is continued, a first space separates two words and is kept.
        let begun = request.messages.last().filter(|message| message.role == Role::Assistant);
        let splitter = match begun {
            Some(begun) => ReasoningSplitter::continued(marks, begun.content.is_empty() && begun.reasoning.is_some()),
            None => ReasoningSplitter::new(marks, prompt),
        };
        Self {
            id: request.id,
            tokenizer,
            emit,
            text: TextStream::default(),
            strips_space: tokenizer.strips_first_space() && begun.is_none(),
            splitter,
            mark_tokens: [marks.0, marks.1].into_iter().filter_map(token_of).collect(),
            first: None,
            last: None,
            gaps: Vec::new(),
            count: 0,
        }
    }

    /// Sends another event about the request.
    pub fn tell(&mut self, event: EngineEvent) {
        (self.emit)(event);
    }

    /// Emits the text that `token`, sampled at `at`, completes.
    pub fn token(&mut self, token: u32, at: Timestamp) {
        self.count += 1;
        self.first.get_or_insert(at);
        if let Some(last) = self.last.replace(at) {
            self.gaps.push(at.since(last));
        }
        let mark = self.mark_tokens.iter().find(|(mark, _)| *mark == token);
        let text = match mark {
            Some((_, mark)) => self.text.push(mark.as_bytes()),
            None => self.text.push(&self.tokenizer.token_bytes(token)),
        };
        let text = self.without_first_space(&text);
        let mut pieces = self.splitter.push(text);
        if pieces.is_empty() {
            pieces.push((self.splitter.channel(), String::new()));
        }
        self.show(pieces, at);
    }

    /// `text` without the space that the vocabulary adds before the first word of an answer.
    fn without_first_space<'t>(&mut self, text: &'t str) -> &'t str {
        if text.is_empty() || !std::mem::take(&mut self.strips_space) {
            return text;
        }
        text.strip_prefix(' ').unwrap_or(text)
    }

    /// Emits the text that was held back. Call it once, when the answer has ended.
    pub fn finish(&mut self, at: Timestamp) {
        let rest = self.text.finish();
        let mut pieces = self.splitter.push(&rest);
        pieces.extend(self.splitter.finish());
        self.show(pieces, at);
    }

    /// Time from the first token to the last, and the gaps between tokens.
    pub fn decode_times(&mut self) -> (Duration, Vec<Duration>) {
        let decode = self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last.since(first));
        (decode, std::mem::take(&mut self.gaps))
    }

    fn show(&mut self, pieces: Vec<(Channel, String)>, at: Timestamp) {
        for (channel, text) in pieces {
            (self.emit)(EngineEvent::Token { id: self.id, channel, text, at });
        }
    }
}

#[cfg(test)]
mod tests;
