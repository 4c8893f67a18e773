//! Makes a prompt fit the context, or says by how much it does not.

use crate::engine::chat_template::ChatTemplate;
use crate::engine::prompt::{self, RenderedPrompt};
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
        prompt::render(template, tokenizer, messages).map_err(|error| {
            let message = format!("The chat template could not be used: {error}. Nothing was sent; the text is kept.");
            EngineError::new(ErrorKind::Failed, message)
        })
    };
    let whole = render(&request.messages)?;
    if whole.tokens.len() < context_length {
        return Ok(Fitted { prompt: whole, trimmed_turns: 0 });
    }
    let starts = turn_starts(&request.messages);
    let removable = starts.len().saturating_sub(1);
    let overflow = |needed: usize| {
        let policy = (removable > 0).then_some(request.on_overflow);
        overflow_error(needed, context_length, trained, policy)
    };
    let without = |turns: usize| render(&without_turns(&request.messages, &starts, turns));
    let shortest = without(removable)?;
    if request.on_overflow == OverflowPolicy::Error {
        // To leave turns out is no help where the last one alone is too long.
        let helps = removable > 0 && shortest.tokens.len() < context_length;
        let policy = helps.then_some(OverflowPolicy::Error);
        return Err(overflow_error(whole.tokens.len(), context_length, trained, policy));
    }
    if shortest.tokens.len() >= context_length {
        return Err(overflow(shortest.tokens.len()));
    }
    let reserve = (context_length / 4).min(request.max_tokens.unwrap_or(usize::MAX)).max(1);
    // The fewest turns whose absence makes it fit: the more are left out, the shorter it gets.
    let (mut low, mut high, mut best) = (1, removable, shortest);
    while low < high {
        let middle = low.midpoint(high);
        let candidate = without(middle)?;
        if candidate.tokens.len() + reserve <= context_length {
            (high, best) = (middle, candidate);
        } else {
            low = middle + 1;
        }
    }
    Ok(Fitted { prompt: best, trimmed_turns: high })
}

/// `policy`: what is to become of earlier turns, where there are any.
fn overflow_error(needed: usize, context_length: usize, trained: usize, policy: Option<OverflowPolicy>) -> EngineError {
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
        "The prompt takes {needed} tokens and the context holds {context_length}, of which at least 1 is for the \
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
        let advice = |needed, context, trained| overflow_error(needed, context, trained, None).message;
        let talk = overflow_error(600, 512, 8192, Some(OverflowPolicy::Error)).message;
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
