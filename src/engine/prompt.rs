//! Renders messages into prompt tokens. Shared by generation and `--dry-run`.

use std::time::Duration;

use super::chat_template::{self, ChatTemplate, TemplateError};
use super::tokenizer::Tokenizer;
use crate::protocol::{ChatMessage, Role};

/// The marks that open and close a reasoning block if the template names no others.
pub const DEFAULT_MARKS: (&str, &str) = ("<think>", "</think>");

/// A rendered and tokenised prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// The output of the template, with the text of a leading BOS token if the template writes one.
    pub text: String,
    /// Its tokens. Control tokens come from the template only: one spelled out in a message is encoded as text.
    pub tokens: Vec<u32>,
}

/// Result of rendering messages for a limited number of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// The complete prompt; it may still exceed the limit.
    Whole(RenderedPrompt),
    /// Certainly longer than the limit, so not encoded completely; the estimated number of tokens.
    TooLong(usize),
}

impl Rendering {
    /// The number of tokens: exact for `Whole`, an estimate for `TooLong`.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Whole(prompt) => prompt.tokens.len(),
            Self::TooLong(about) => *about,
        }
    }
}

/// Renders `messages` with the generation prompt and encodes them, with at most one BOS, as the vocabulary requires. A
/// last message of the assistant is the beginning of the answer: it follows the generation prompt unchanged.
pub fn render(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[ChatMessage],
) -> Result<RenderedPrompt, TemplateError> {
    let framed = Framed::new(template, tokenizer, messages)?;
    Ok(framed.encode(tokenizer))
}

/// As `render`, for a context of `limit` tokens: of a text that is far longer, only the beginning is encoded.
pub fn render_within(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[ChatMessage],
    limit: usize,
) -> Result<Rendering, TemplateError> {
    let framed = Framed::new(template, tokenizer, messages)?;
    Ok(match framed.certainly_beyond(tokenizer, limit) {
        Some(about) => Rendering::TooLong(about),
        None => Rendering::Whole(framed.encode(tokenizer)),
    })
}

/// The text of a prompt before it is encoded.
struct Framed {
    text: String,
    /// Inserted into text that must not become a control token.
    mark: Option<char>,
}

impl Framed {
    fn new(template: &ChatTemplate, tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Result<Self, TemplateError> {
        // The template may be rendered twice; both share the time limit.
        let limit = chat_template::RENDER_TIME / 2;
        let text = with_beginning(template, limit, messages)?;
        let foreign = frame_tokens_in(template, tokenizer, messages);
        if foreign.is_empty() {
            return Ok(Self { text, mark: None });
        }
        // A mark inside each spelled-out control token keeps the tokenizer from matching it; encoding drops the marks.
        let mark = unused_mark(&text)?;
        let text = with_beginning(template, limit, &mark_messages(messages, &foreign, mark))?;
        Ok(Self { text, mark: Some(mark) })
    }

    fn tokens(&self, tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        match self.mark {
            None => tokenizer.encode_special(text),
            Some(mark) => tokenizer.encode_marked(text, mark),
        }
    }

    fn encode(self, tokenizer: &Tokenizer) -> RenderedPrompt {
        let tokens = with_bos(tokenizer, self.tokens(tokenizer, &self.text));
        // A template that inspects message contents may render marked ones differently. Then that rendering
        // without the marks is the prompt, so that text and tokens agree.
        let text = match self.mark {
            None => self.text,
            Some(mark) => self.text.replace(mark, ""),
        };
        RenderedPrompt { text, tokens }
    }

    /// The estimated number of tokens, if the beginning of the text alone exceeds `limit`.
    fn certainly_beyond(&self, tokenizer: &Tokenizer, limit: usize) -> Option<usize> {
        // Margin: the last few tokens of a cut text can differ from those of the whole text.
        let enough = limit.saturating_add(256);
        let mut length = enough.saturating_mul(4).max(1 << 16);
        // At less than twice this length, encoding the whole text costs little more than its beginning.
        while length < self.text.len() / 2 {
            let start = beginning(&self.text, length);
            let tokens = self.tokens(tokenizer, start).len();
            if tokens > enough {
                return Some((tokens as f64 * self.text.len() as f64 / start.len() as f64) as usize);
            }
            length = length.saturating_mul(2);
        }
        None
    }
}

/// The rendered messages; if the last one is the assistant's, its text follows the generation prompt.
fn with_beginning(template: &ChatTemplate, limit: Duration, messages: &[ChatMessage]) -> Result<String, TemplateError> {
    let Some((answer, earlier)) = messages.split_last().filter(|(last, _)| last.role == Role::Assistant) else {
        return template.render_within(limit, messages, true);
    };
    let mut text = template.render_within(limit, earlier, true)?;
    let (open, close) = template.reasoning_marks().unwrap_or(DEFAULT_MARKS);
    let opened = text.trim_end().ends_with(open);
    let reasoning = answer.reasoning.as_deref().unwrap_or_default();
    if !reasoning.is_empty() && !opened {
        text = text + open + "\n";
    }
    text += reasoning;
    if !answer.content.is_empty() && (opened || !reasoning.is_empty()) {
        text = text + close + "\n\n";
    }
    Ok(text + &answer.content)
}

/// The first `length` bytes, rounded down to a character boundary.
fn beginning(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// The special tokens spelled out in messages that would be parsed as turn markers: every control token, and the
/// user-defined ones that the template itself writes.
fn frame_tokens_in(template: &ChatTemplate, tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Vec<String> {
    let mut pieces = Vec::new();
    for message in messages {
        for text in [Some(&message.content), message.reasoning.as_ref()].into_iter().flatten() {
            for id in tokenizer.special_tokens_in(text) {
                let piece = tokenizer.piece(id);
                let frames = tokenizer.is_control(id) || (piece.trim().len() > 1 && template.names(piece));
                if frames && !pieces.iter().any(|known| known == piece) {
                    pieces.push(piece.to_owned());
                }
            }
        }
    }
    pieces
}

/// A noncharacter (Unicode 16, chapter 23.7) that `text` does not contain.
fn unused_mark(text: &str) -> Result<char, TemplateError> {
    ('\u{FDD0}'..='\u{FDEF}').find(|&mark| !text.contains(mark)).ok_or_else(|| {
        TemplateError("the conversation has control tokens and all of Unicode's noncharacters; remove one".into())
    })
}

fn mark_messages(messages: &[ChatMessage], pieces: &[String], mark: char) -> Vec<ChatMessage> {
    let marked = |text: &str| {
        // Byte offsets behind the first character of every occurrence, overlapping ones included.
        let mut at: Vec<usize> = Vec::new();
        for piece in pieces {
            let first = piece.chars().next().map_or(1, char::len_utf8);
            let mut from = 0;
            while let Some(found) = text[from..].find(piece.as_str()) {
                at.push(from + found + first);
                from += found + first;
            }
        }
        at.sort_unstable();
        at.dedup();
        let mut result = String::with_capacity(text.len() + at.len() * mark.len_utf8());
        let mut from = 0;
        for offset in at {
            result.push_str(&text[from..offset]);
            result.push(mark);
            from = offset;
        }
        result.push_str(&text[from..]);
        result
    };
    let mark_message = |message: &ChatMessage| ChatMessage {
        role: message.role,
        content: marked(&message.content),
        reasoning: message.reasoning.as_deref().map(marked),
    };
    messages.iter().map(mark_message).collect()
}

/// Removes duplicate leading BOS tokens, and adds one if the vocabulary asks for it and the template wrote none.
fn with_bos(tokenizer: &Tokenizer, mut tokens: Vec<u32>) -> Vec<u32> {
    let Some(bos) = tokenizer.bos() else { return tokens };
    let written = tokens.iter().take_while(|&&token| token == bos).count();
    if written > 1 {
        tokens.drain(1..written);
    } else if written == 0 && tokenizer.adds_bos() {
        tokens.insert(0, bos);
    }
    tokens
}

#[cfg(test)]
mod tests;
