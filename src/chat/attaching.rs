//! Files that the draft names: their contents until the prompt is asked, and their token counts.
//!
//! A file belongs to a word of the draft, such as `@src/main.rs`. Deleting the word detaches the file.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::conversation::{Attachment, TurnId, mention};
use crate::protocol::{ChatMessage, RequestId, Role};

use super::{Chat, Effect};

/// An attached file.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// Its name and content.
    pub file: Attachment,
    /// Its tokens with the name and the fence; `None` until a loaded model has counted them.
    pub tokens: Option<usize>,
    /// It comes from the turn that is edited: the disk is not read again.
    pub stored: bool,
    asked: Option<RequestId>,
}

/// The attached files by word, and what the chat template adds to each count.
#[derive(Clone, Debug, Default)]
pub(super) struct Attaching {
    files: BTreeMap<String, Attached>,
    template: Option<usize>,
    template_asked: Option<RequestId>,
}

/// The question whose tokens are subtracted: one token and what the template adds.
const SHORT: &str = "x";

impl Chat {
    /// The file that this word of the draft attaches.
    pub fn attached(&self, word: &str) -> Option<&Attached> {
        self.attaching.files.get(word)
    }

    /// The files that `prompt` attaches, in the order of their first mention.
    pub(super) fn files_in(&self, prompt: &str) -> Vec<Attachment> {
        let mut files: Vec<Attachment> = Vec::new();
        for mention in mention::mentions(prompt) {
            let found = self.attached(mention.word).map(|attached| &attached.file);
            if let Some(file) = found.filter(|file| files.iter().all(|other| other.name != file.name)) {
                files.push(file.clone());
            }
        }
        files
    }

    pub(super) fn attach(&mut self, word: String, file: Attachment) {
        self.attaching.files.insert(word, Attached { file, tokens: None, stored: false, asked: None });
        self.recount();
    }

    /// Forgets the file of a word that is no longer in the draft, unless a queued prompt has it, too.
    pub(super) fn detach(&mut self, word: &str) {
        let queued = |prompt: &String| mention::mentions(prompt).iter().any(|mention| mention.word == word);
        if !self.queue.iter().any(queued) {
            self.attaching.files.remove(word);
        }
    }

    /// The draft that asks this turn again: its prompt, with a mention for each of its files. They stay attached as they
    /// are stored.
    pub(super) fn draft_of(&mut self, id: TurnId) -> String {
        let Some(turn) = self.conversation.turn(id).cloned() else { return String::new() };
        let mut draft = turn.prompt;
        for file in turn.files.into_iter().rev() {
            let words = mention::mentions(&draft);
            let word = words.iter().find(|mention| mention.names().contains(&file.name.as_str()));
            let word = word.map(|mention| mention.word.to_owned()).unwrap_or_else(|| {
                let word = mention::mention(&file.name);
                draft = format!("{word} {draft}");
                word
            });
            self.attaching.files.insert(word, Attached { file, tokens: None, stored: true, asked: None });
        }
        draft
    }

    /// When the next file is to be counted: at once, but not during an answer or without a model.
    pub(super) fn files_due(&self) -> Option<Timestamp> {
        let waits = |attached: &Attached| attached.tokens.is_none() && attached.asked.is_none();
        let can = self.engine.is_loaded() && !self.activity.is_busy();
        (can && self.attaching.files.values().any(waits)).then_some(self.now)
    }

    /// Requests the missing token counts.
    pub(super) fn count_files(&mut self) -> Vec<Effect> {
        if self.files_due().is_none() {
            return Vec::new();
        }
        let mut last = self.last_request;
        let mut request = |content: String| {
            last += 1;
            (RequestId(last), Effect::CountMessages(RequestId(last), vec![ChatMessage::new(Role::User, content)]))
        };
        let mut effects = Vec::new();
        if self.attaching.template.is_none() && self.attaching.template_asked.is_none() {
            let (id, effect) = request(SHORT.into());
            self.attaching.template_asked = Some(id);
            effects.push(effect);
        }
        for attached in self.attaching.files.values_mut().filter(|attached| attached.asked.is_none()) {
            let content = crate::conversation::with_files(std::slice::from_ref(&attached.file), SHORT);
            let (id, effect) = request(content);
            attached.asked = Some(id);
            effects.push(effect);
        }
        self.last_request = last;
        effects
    }

    /// Takes a count that belongs to a file or to the template.
    pub(super) fn file_counted(&mut self, id: RequestId, tokens: usize) {
        if self.attaching.template_asked == Some(id) {
            self.attaching.template = Some(tokens);
        }
        let added = self.attaching.template.unwrap_or_default();
        let mut files = self.attaching.files.values_mut();
        if let Some(attached) = files.find(|attached| attached.asked == Some(id)) {
            attached.tokens = Some(tokens.saturating_sub(added));
        }
    }

    /// Counts again what no model has counted yet; with another model, everything.
    pub(super) fn recount_files(&mut self, other_model: bool) {
        for attached in self.attaching.files.values_mut() {
            attached.tokens = attached.tokens.filter(|_| !other_model);
            attached.asked = attached.asked.filter(|_| attached.tokens.is_some());
        }
        self.attaching.template = self.attaching.template.filter(|_| !other_model);
        self.attaching.template_asked = None;
    }
}
