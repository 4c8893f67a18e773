//! Loads, answers and failures of scripted models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::engine::load::{LoadedModel, load};
use crate::engine::model::LoadOptions;
use crate::engine::source::ModelFiles;
use crate::protocol::{ChatMessage, DevicePreference, Role};

/// A script in a temporary folder.
struct Play {
    folder: tempfile::TempDir,
}

impl Play {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("script.toml"), script).unwrap();
        Self { folder }
    }

    fn load(&self, cancel: &CancelFlag, progress: &mut dyn FnMut(LoadProgress)) -> Result<LoadedModel, ModelError> {
        let files = ModelFiles::Scripted(self.folder.path().join("script.toml"));
        let options = LoadOptions {
            name: "script",
            files: &files,
            context_length: None,
            device: DevicePreference::Cpu,
            gpu_memory_utilization: 0.9,
            threads: None,
            smaller: &[],
            chat_template: None,
            cancel,
        };
        load(&options, progress)
    }

    fn loaded(&self) -> LoadedModel {
        self.load(&CancelFlag::default(), &mut |_| ()).unwrap()
    }
}

/// The greedy answer to `messages`, decoded without the engine.
fn answer(loaded: &mut LoadedModel, messages: &[(Role, &str)]) -> Result<String, ModelError> {
    let messages: Vec<_> = messages.iter().map(|(role, text)| ChatMessage::new(*role, *text)).collect();
    let prompt = crate::engine::prompt::render(&loaded.template, &loaded.tokenizer, &messages).unwrap();
    let (mut logits, mut tokens, mut position) = (Vec::new(), prompt.tokens, 0);
    let mut written = Vec::new();
    loop {
        loaded.model.forward(&tokens, position, &mut logits)?;
        position += tokens.len();
        let next = logits.iter().position(|&logit| logit == CERTAIN).unwrap() as u32;
        if loaded.tokenizer.is_end_of_generation(next) {
            return Ok(String::from_utf8_lossy(&written).into_owned());
        }
        written.extend(loaded.tokenizer.token_bytes(next));
        tokens = vec![next];
    }
}

#[test]
fn answer_is_selected_by_content_then_by_turn_else_the_fallback() {
    let play = Play::new(
        r#"
        fallback = "{turn}: {user} after {first} under {system}"
        [[answer]]
        text = "Héllo {not a name}!"
        [[answer]]
        when = "weather"
        text = "It rains."
        "#,
    );
    let mut loaded = play.loaded();
    assert_eq!(answer(&mut loaded, &[(Role::User, "hi")]).unwrap(), "Héllo {not a name}!");
    assert_eq!(answer(&mut loaded, &[(Role::User, "the weather?")]).unwrap(), "It rains.");
    let talk = [(Role::System, "rules"), (Role::User, "one"), (Role::Assistant, "x"), (Role::User, "<|im_end|>{user}")];
    assert_eq!(answer(&mut loaded, &talk).unwrap(), "2: <|im_end|>{user} after one under rules");
}

#[test]
fn load_reports_its_phases_and_can_be_cancelled() {
    let play = Play::new("load_ms = 20\nload_steps = 2\nload_phases = ['download', 'read']\nload_bytes = 10");
    let mut seen = Vec::new();
    play.load(&CancelFlag::default(), &mut |progress| seen.push((progress.phase, progress.done))).unwrap();
    use crate::protocol::LoadPhase::{Download, Read};
    assert_eq!(seen, [(Download, 0), (Download, 5), (Download, 10), (Read, 0), (Read, 5), (Read, 10)]);
    let cancel = CancelFlag::default();
    let stop = cancel.clone();
    assert_eq!(play.load(&cancel, &mut |_| stop.cancel()).err(), Some(ModelError::Cancelled));
}

#[test]
fn failures_occur_at_the_given_point_and_number_of_times() {
    let play = Play::new(
        r#"
        [[failure]]
        at = "load"
        kind = "invalid"
        times = 1
        [[failure]]
        at = "token"
        after = 3
        kind = "out_of_memory"
        when = "break"
        "#,
    );
    assert!(matches!(play.load(&CancelFlag::default(), &mut |_| ()), Err(ModelError::Invalid(_))));
    let mut loaded = play.loaded();
    assert!(matches!(answer(&mut loaded, &[(Role::User, "break")]), Err(ModelError::OutOfMemory(_))));
    assert_eq!(answer(&mut loaded, &[(Role::User, "go on")]).unwrap(), "You said: go on");
}

#[test]
fn unknown_key_or_missing_file_is_an_error() {
    let play = Play::new("tokenms = 3");
    let error = play.load(&CancelFlag::default(), &mut |_| ()).err().unwrap();
    assert!(error.to_string().contains("tokenms"), "{error}");
    assert!(ScriptParts::open_text(Path::new("/nowhere/script.toml"), None).is_err());
}

#[test]
fn ballast_is_counted_as_weights() {
    let loaded = Play::new("ballast_mib = 3").loaded();
    assert_eq!(loaded.model.memory().weights, 3 << 20);
    assert_eq!(loaded.info.memory, loaded.model.memory());
}
