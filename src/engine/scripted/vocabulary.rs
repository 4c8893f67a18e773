//! The vocabulary of every script: one token for each byte and ChatML's control tokens, in the form of GGUF metadata,
//! so that the product's tokenizer and template code is used.

use std::collections::HashMap;

use crate::engine::chat_template::{ChatTemplate, Chosen};
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::gguf::{Metadata, Value};

const END_OF_TEXT: u32 = 256;
const START_OF_TURN: u32 = 257;
/// `<|im_end|>`.
pub(super) const END_OF_TURN: u32 = 258;
/// Size of the vocabulary.
pub(super) const VOCABULARY: usize = 259;

const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// ggml's token types.
const NORMAL: i64 = 1;
const CONTROL_TYPE: i64 = 3;

/// ChatML, without a default system message.
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] \
                        + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' \
                        }}{% endif %}";

/// The tokenizer and the template; `chosen` replaces the template.
pub(super) fn open(chosen: Option<&Chosen>) -> Result<(Tokenizer, ChatTemplate), String> {
    let metadata = metadata();
    let tokenizer = Tokenizer::from_gguf(&metadata).map_err(|error| error.to_string())?;
    let template = ChatTemplate::from_gguf(&metadata, &tokenizer, chosen).map_err(|error| error.to_string())?;
    Ok((tokenizer, template))
}

fn metadata() -> Metadata {
    let tokens: Vec<String> =
        (0..=255).map(|byte| byte_piece(byte).to_string()).chain(CONTROL.map(String::from)).collect();
    let types = std::iter::repeat_n(NORMAL, 256).chain([CONTROL_TYPE; 3]).collect();
    let text = |value: &str| Value::String(value.into());
    let values = [
        ("general.architecture", text("scripted")),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Strings(tokens)),
        ("tokenizer.ggml.token_type", Value::Ints(types)),
        ("tokenizer.ggml.merges", Value::Strings(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Value::U64(END_OF_TEXT.into())),
        ("tokenizer.ggml.eos_token_id", Value::U64(END_OF_TURN.into())),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ];
    Metadata { values: values.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<HashMap<_, _>>() }
}

/// GPT-2's printable character for a byte (`bytes_to_unicode` of OpenAI's `encoder.py`).
fn byte_piece(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or('\u{FFFD}')
}

/// Bytes → tokens: token n is byte n.
pub(super) fn encode(bytes: &[u8]) -> Vec<u32> {
    bytes.iter().map(|&byte| byte.into()).collect()
}

/// The conversation that the evaluated tokens encode.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Conversation {
    pub system: String,
    pub users: Vec<String>,
    /// Number of tokens of the answer so far; `None` if the tokens do not end in an assistant turn.
    pub written: Option<usize>,
}

impl Conversation {
    pub fn last_user(&self) -> String {
        self.users.last().cloned().unwrap_or_default()
    }
}

/// Parses `tokens` as ChatML.
pub(super) fn read(tokens: &[u32]) -> Conversation {
    let mut conversation = Conversation::default();
    for part in tokens.split(|&token| token == START_OF_TURN).skip(1) {
        let message: Vec<u8> = part.iter().map_while(|&token| u8::try_from(token).ok()).collect();
        let ended = part.contains(&END_OF_TURN);
        let Some(line) = message.iter().position(|&byte| byte == b'\n') else {
            conversation.written = None;
            continue;
        };
        let content = String::from_utf8_lossy(&message[line + 1..]).into_owned();
        conversation.written = None;
        match &message[..line] {
            b"system" => conversation.system = content,
            b"user" => conversation.users.push(content),
            b"assistant" if !ended => conversation.written = Some(part.len() - line - 1),
            _ => {}
        }
    }
    conversation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_unique_printable_piece() {
        let pieces: std::collections::HashSet<char> = (0..=255).map(byte_piece).collect();
        assert_eq!(pieces.len(), 256);
        assert_eq!([byte_piece(b' '), byte_piece(b'\n'), byte_piece(b'a'), byte_piece(0xAD)], ['Ġ', 'Ċ', 'a', 'Ń']);
    }

    #[test]
    fn conversation_is_parsed_from_tokens_and_an_open_assistant_turn_is_recognised() {
        let mut tokens = vec![START_OF_TURN];
        tokens.extend(encode(b"system\nBe brief."));
        tokens.extend([END_OF_TURN, 10, START_OF_TURN]);
        tokens.extend(encode(b"user\nHi"));
        assert_eq!(read(&tokens).written, None);
        tokens.extend([END_OF_TURN, 10, START_OF_TURN]);
        tokens.extend(encode(b"assistant\n"));
        let expected = Conversation { system: "Be brief.".into(), users: vec!["Hi".into()], written: Some(0) };
        assert_eq!(read(&tokens), expected);
        tokens.extend(encode(b"Hel"));
        assert_eq!(read(&tokens).written, Some(3));
    }
}
