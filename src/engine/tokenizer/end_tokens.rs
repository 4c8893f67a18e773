//! Collects the end-of-generation tokens by their names, as llama.cpp does.

use super::vocabulary::{Kind, Vocabulary};

/// Names of end-of-turn and end-of-text tokens in known model families.
const END_NAMES: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Names of the fill-in-the-middle padding, repository and file separators: the answer ends at one of them.
const FIM_NAMES: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

/// Names of the fill-in-the-middle prefix, suffix and middle marks: control tokens that do not end a generation.
const GAP_NAMES: [&[&str]; 3] = [
    &[
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ],
    &[
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ],
    &[
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ],
];

/// Fills `special.end_of_generation` from `named` (ids from the file's keys) and the names above. Tokens with one of
/// the names become control tokens, whatever kind the file declares, so that plain text is never encoded to them.
pub fn collect(vocabulary: &mut Vocabulary, named: &[u32], named_fim: [Option<u32>; 3]) {
    let mut ends: Vec<u32> = Vec::new();
    for (names, given) in FIM_NAMES.iter().zip(named_fim) {
        ends.extend(given.or_else(|| names.iter().find_map(|name| vocabulary.find(name))));
    }
    for id in
        GAP_NAMES.iter().filter_map(|names| names.iter().find_map(|name| vocabulary.find(name))).collect::<Vec<_>>()
    {
        vocabulary.set_kind(id, Kind::Control);
    }
    ends.extend(END_NAMES.iter().filter_map(|name| vocabulary.find(name)));
    for &id in &ends {
        vocabulary.set_kind(id, Kind::Control);
    }
    ends.extend(named);
    ends.sort_unstable();
    ends.dedup();
    apply_exceptions(vocabulary, &mut ends);
    vocabulary.special.end_of_generation = ends;
}

/// In the harmony and solar formats `<|end|>` closes a channel, not the turn; gemma 4's `</s>` is an ordinary token.
fn apply_exceptions(vocabulary: &mut Vocabulary, ends: &mut Vec<u32>) {
    let has = |ends: &[u32], name: &str| vocabulary.find(name).filter(|id| ends.contains(id));
    let calls = has(ends, "<|call|>").or(has(ends, "<|calls|>")).is_some();
    let closes = has(ends, "<|return|>").or(has(ends, "<|flush|>")).is_some();
    let end = has(ends, "<|end|>").filter(|_| calls && closes);
    let s = has(ends, "</s>").filter(|_| has(ends, "<|tool_response>").is_some());
    if let Some(id) = end {
        ends.retain(|&other| other != id);
    }
    if let Some(id) = s {
        ends.retain(|&other| other != id);
        vocabulary.set_kind(id, Kind::Normal);
    }
}
