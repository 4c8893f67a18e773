//! `/copy`: which text of the conversation goes to the clipboard.

use crate::conversation::Turn;
use crate::wording::plural;

use super::{Chat, Effect, Hint};

/// The text that `/copy` copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTarget {
    /// The last answer that has text.
    Last,
    /// The answer to the n-th prompt, counted from 1.
    Answer(usize),
    /// Code blocks by number, counted from 1, of the answer to the n-th prompt or of the last answer that has text.
    Blocks(Option<usize>, Vec<usize>),
    /// All prompts and answers.
    All,
}

impl CopyTarget {
    /// Parses the argument of `/copy`: nothing, `2`, `1,3`, `#4`, `#4.2` or `all`.
    pub(super) fn parse(argument: Option<&str>) -> Result<Self, String> {
        let wrong = || {
            "/copy takes the number of a code block (2 or 1,3), of an answer (#4, its block #4.2), or all".to_owned()
        };
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let numbers = |text: &str| text.split(',').map(number).collect::<Result<Vec<_>, _>>();
        let Some(argument) = argument.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(Self::Last) };
        match argument.strip_prefix('#') {
            _ if argument == "all" => Ok(Self::All),
            None => Ok(Self::Blocks(None, numbers(argument)?)),
            Some(rest) => match rest.split_once('.') {
                None => Ok(Self::Answer(number(rest)?)),
                Some((answer, blocks)) => Ok(Self::Blocks(Some(number(answer)?), numbers(blocks)?)),
            },
        }
    }
}

impl Chat {
    /// Copies the text, or shows a hint that says what there is to copy.
    pub(super) fn copy(&mut self, target: &CopyTarget) -> Vec<Effect> {
        match self.text_to_copy(target) {
            Ok(text) => vec![Effect::Copy(text)],
            Err(why) => {
                self.show_hint(Hint::Message(why));
                Vec::new()
            }
        }
    }

    fn text_to_copy(&self, target: &CopyTarget) -> Result<String, String> {
        let turns: Vec<_> = self.conversation.path().into_iter().filter_map(|id| self.conversation.turn(id)).collect();
        if turns.is_empty() {
            return Err("nothing was asked yet".into());
        }
        let (number, text) = match target {
            CopyTarget::All => return Ok(all(&turns)),
            CopyTarget::Last | CopyTarget::Blocks(None, _) => last(&turns)?,
            CopyTarget::Answer(number) | CopyTarget::Blocks(Some(number), _) => (*number, answer(&turns, *number)?),
        };
        match target {
            CopyTarget::Blocks(_, wanted) => blocks(number, text, wanted),
            _ => Ok(text.to_owned()),
        }
    }
}

/// The last answer that has text, and its number.
fn last<'a>(turns: &[&'a Turn]) -> Result<(usize, &'a str), String> {
    let mut numbered = turns.iter().enumerate().rev();
    let found = numbered.find(|(_, turn)| !turn.answer.text.is_empty());
    found.map(|(index, turn)| (index + 1, turn.answer.text.as_str())).ok_or_else(|| "no answer has text yet".into())
}

fn answer<'a>(turns: &[&'a Turn], number: usize) -> Result<&'a str, String> {
    let count = turns.len();
    match number.checked_sub(1).and_then(|index| turns.get(index)) {
        None if count == 1 => Err("there is one answer: /copy #1".into()),
        None => Err(format!("there are {count} answers: /copy #1 to /copy #{count}")),
        Some(turn) if turn.answer.text.is_empty() => Err(format!("answer #{number} is empty")),
        Some(turn) => Ok(&turn.answer.text),
    }
}

/// The wanted code blocks of an answer, with a blank line between them.
fn blocks(number: usize, text: &str, wanted: &[usize]) -> Result<String, String> {
    let blocks = code_blocks(text);
    let found: Option<Vec<_>> = wanted.iter().map(|n| n.checked_sub(1).and_then(|index| blocks.get(index))).collect();
    match (found, blocks.len()) {
        (Some(found), _) => Ok(found.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n")),
        (None, 0) => Err(format!("answer #{number} has no code block; /copy #{number} copies all of it")),
        (None, count) => Err(format!("answer #{number} has {count} code {}", plural(count, "block"))),
    }
}

/// Prompts and answers as Markdown.
fn all(turns: &[&Turn]) -> String {
    let turn = |turn: &&Turn| format!("## You\n\n{}\n\n## {}\n\n{}\n", turn.prompt, turn.model, turn.answer.text);
    turns.iter().map(turn).collect::<Vec<_>>().join("\n")
}

/// The contents of the fenced code blocks of a Markdown text, in order.
fn code_blocks(markdown: &str) -> Vec<String> {
    use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
    let mut blocks = Vec::new();
    let mut open = None;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => open = Some(String::new()),
            Event::Text(text) => {
                if let Some(block) = &mut open {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
            _ => {}
        }
    }
    blocks
}
