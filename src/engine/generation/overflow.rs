//! Makes a prompt fit the context, or says by how much it does not.

use crate::engine::chat_template::ChatTemplate;
use crate::engine::prompt::{self, RenderedPrompt, Rendering};
use crate::engine::tokenizer::Tokenizer;
use crate::protocol::*;

/// A prompt that leaves room for at least one token.
#[derive(Debug)]
pub struct Fitted {
    /// The prompt.
    pub prompt: RenderedPrompt,
    /// Oldest turns that were left out.
    pub trimmed_turns: usize,
}

/// Renders the request's messages for a context of `context_length` tokens, of the `trained` ones that the model was
/// made for. Where they do not fit, `Trim` leaves out
/// the oldest turns (a user message and the answers after it), never the system message nor the last turn; it then
/// makes room for an answer of a quarter of the context or `max_tokens`, whichever is less, so that the next few turns
/// can reuse the cache.
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
        // To leave turns out is no help where the last one alone is too long.
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
    // The fewest turns whose absence makes it fit: the more are left out, the shorter it gets.
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

/// `policy`: what is to become of earlier turns, where there are any.
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
    // An advice that the model would refuse is worse than none.
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

/// Where each turn begins: at each user message.
fn turn_starts(messages: &[ChatMessage]) -> Vec<usize> {
    let users = messages.iter().enumerate().filter(|(_, message)| message.role == Role::User);
    users.map(|(index, _)| index).collect()
}

/// The messages without the first `turns` turns; what stands before the first turn stays.
fn without_turns(messages: &[ChatMessage], starts: &[usize], turns: usize) -> Vec<ChatMessage> {
    let (Some(&first), Some(&kept)) = (starts.first(), starts.get(turns)) else { return messages.to_vec() };
    messages[..first].iter().chain(&messages[kept..]).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_context_is_advised_that_the_model_would_refuse() {
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
