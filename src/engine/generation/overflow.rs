//! Fits a prompt into the context, or reports the token counts if it is too long.

use crate::engine::chat_template::ChatTemplate;
use crate::engine::prompt::{self, RenderedPrompt, Rendering};
use crate::engine::tokenizer::Tokenizer;
use crate::protocol::*;

/// A prompt that leaves room for at least one token of the answer.
#[derive(Debug)]
pub struct Fitted {
    /// Text and tokens.
    pub prompt: RenderedPrompt,
    /// Number of oldest turns that were left out.
    pub trimmed_turns: usize,
}

/// Renders the request's messages for a context of `context_length` tokens; the model was trained for `trained`.
///
/// If they do not fit, `Trim` leaves out the oldest turns (a user message and the answers after it), never the system
/// message or the last turn. It then leaves room for an answer of a quarter of the context or `max_tokens`, whichever
/// is less, so that the next few turns can reuse the cache.
pub fn fit(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    request: &GenerationRequest,
    context_length: usize,
    trained: usize,
) -> Result<Fitted, EngineError> {
    let render = |messages: &[ChatMessage]| {
        prompt::render_within(template, tokenizer, messages, context_length).map_err(|error| {
            let message = format!(
                "The chat template could not be used: {error}. Nothing was sent; the text is kept. --chat-template FILE or \
                 NAME uses another template."
            );
            EngineError::new(ErrorKind::Failed, message)
        })
    };
    let whole = match render(&request.messages)? {
        Rendering::Whole(prompt) if prompt.tokens.len() < context_length => {
            return Ok(Fitted { prompt, trimmed_turns: 0 });
        }
        longer => longer,
    };
    let starts = turn_starts(&request.messages);
    let removable = starts.len().saturating_sub(1);
    let without = |turns: usize| render(&without_turns(&request.messages, &starts, turns));
    let shortest = without(removable)?;
    if request.on_overflow == OverflowPolicy::Error {
        // Trimming does not help if the last turn is too long by itself.
        let helps = removable > 0 && shortest.tokens() < context_length;
        let policy = helps.then_some(OverflowPolicy::Error);
        return Err(overflow_error(&whole, context_length, trained, policy));
    }
    let mut best = match shortest {
        Rendering::Whole(prompt) if prompt.tokens.len() < context_length => prompt,
        longer => {
            let policy = (removable > 0).then_some(request.on_overflow);
            return Err(overflow_error(&longer, context_length, trained, policy));
        }
    };
    let reserve = (context_length / 4).min(request.max_tokens.unwrap_or(usize::MAX)).max(1);
    // Binary search for the fewest turns to leave out: the prompt shrinks with each.
    let (mut low, mut high) = (1, removable);
    while low < high {
        let middle = low.midpoint(high);
        match without(middle)? {
            Rendering::Whole(candidate) if candidate.tokens.len() + reserve <= context_length => {
                (high, best) = (middle, candidate);
            }
            _ => low = middle + 1,
        }
    }
    Ok(Fitted { prompt: best, trimmed_turns: high })
}

/// `policy`: `None` if there are no earlier turns, or leaving them out does not help.
fn overflow_error(
    prompt: &Rendering,
    context_length: usize,
    trained: usize,
    policy: Option<OverflowPolicy>,
) -> EngineError {
    let needed = prompt.tokens();
    let about = if matches!(prompt, Rendering::TooLong(_)) { "about " } else { "" };
    let shorten = match policy {
        None => "Shorten it.",
        Some(OverflowPolicy::Error) => {
            "Shorten it, start a new conversation or let the oldest turns be left out (--on-overflow trim)."
        }
        Some(OverflowPolicy::Trim) => "Even without the earlier turns it is too long: shorten the last message.",
    };
    // Suggest --context-length only if the load would accept a value that is large enough.
    let more = if trained <= context_length {
        format!("The context cannot be larger: this model was made for {trained} tokens.")
    } else if needed >= trained {
        format!("A larger context would not help: this model was made for {trained} tokens.")
    } else {
        format!(
            "Or ask for a larger context: --context-length, up to the {trained} tokens that this model was made for."
        )
    };
    let message = format!(
        "The prompt takes {about}{needed} tokens and the context holds {context_length}, of which at least 1 is for the \
         answer. {shorten} {more}"
    );
    EngineError::new(ErrorKind::ContextOverflow, message)
}

/// Indices of the user messages; each starts a turn.
pub fn turn_starts(messages: &[ChatMessage]) -> Vec<usize> {
    let users = messages.iter().enumerate().filter(|(_, message)| message.role == Role::User);
    users.map(|(index, _)| index).collect()
}

/// The messages without the first `turns` turns; messages before the first turn are kept.
pub fn without_turns(messages: &[ChatMessage], starts: &[usize], turns: usize) -> Vec<ChatMessage> {
    let (Some(&first), Some(&kept)) = (starts.first(), starts.get(turns)) else { return messages.to_vec() };
    messages[..first].iter().chain(&messages[kept..]).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_error_suggests_a_larger_context_only_if_the_model_allows_it() {
        let takes = |needed| Rendering::Whole(RenderedPrompt { text: String::new(), tokens: vec![0; needed] });
        let advice = |needed, context, trained| overflow_error(&takes(needed), context, trained, None).message;
        let talk = overflow_error(&takes(600), 512, 8192, Some(OverflowPolicy::Error)).message;
        assert!(talk.contains("--on-overflow trim") && talk.contains("start a new conversation"), "{talk}");
        let larger = advice(600, 512, 8192);
        assert!(larger.contains("--context-length, up to the 8192 tokens"), "{larger}");
        for said in [advice(9000, 512, 8192), advice(9000, 8192, 8192), advice(600, 512, 512)] {
            assert!(
                !said.contains("--context-length")
                    && !said.contains("--on-overflow")
                    && said.contains("this model was made for"),
                "{said}"
            );
        }
    }
}
