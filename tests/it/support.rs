//! Helpers that several test modules share.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};

use chatnap::engine::source::{CancelFlag, ModelFiles, ModelSource};
use chatnap::engine::{Engine, EngineOptions};
use chatnap::hub::HubSource;
use chatnap::protocol::*;
use chatnap::settings::Settings;

/// The user's real cache folder of chatnap, so that the starter model is downloaded once and not in every run.
pub fn cache_dir() -> PathBuf {
    directories::ProjectDirs::from("", "", "chatnap").expect("a home folder").cache_dir().to_path_buf()
}

/// The path of the real starter model, downloaded through `HubSource` if it is missing.
pub fn starter_model() -> PathBuf {
    static STARTER: OnceLock<PathBuf> = OnceLock::new();
    STARTER
        .get_or_init(|| {
            let mut source = HubSource::new(&settings("smollm2-135m")).expect("the starter's name is known");
            match source.locate(&mut |_| (), &CancelFlag::default()) {
                Ok(ModelFiles::Gguf(files)) => files[0].clone(),
                Ok(other) => panic!("the starter is a GGUF file, not {other:?}"),
                Err(error) => panic!("cannot get the starter model: {error}"),
            }
        })
        .clone()
}

/// An engine on the CPU, and its events.
pub fn engine(
    source: Box<dyn ModelSource>,
    idle_window: IdleWindow,
    context_length: Option<usize>,
) -> (Engine, Receiver<EngineEvent>) {
    let options = EngineOptions {
        source,
        idle_window,
        context_length,
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
        chat_template: None,
    };
    let (sender, events) = channel();
    (Engine::start(options, move |event| drop(sender.send(event))).unwrap(), events)
}

/// The default settings, without any file, flag or variable, for this model on the CPU with idle window `never`.
pub fn settings(model: &str) -> Settings {
    Settings {
        model: model.to_owned(),
        system: None,
        chat_template: None,
        sampling: SamplingChoice::default(),
        think: None,
        max_tokens: None,
        context_length: None,
        idle_window: IdleWindow::Never,
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
        offline: false,
        servers: chatnap::settings::Servers::default(),
        cache: false,
        on_overflow: OverflowPolicy::Error,
        theme: "dark".to_owned(),
        keymap: chatnap::settings::Keymap::Emacs,
        reasoning_open: false,
        comfort: chatnap::settings::Comfort::default(),
        data_dir: std::env::temp_dir(),
        cache_dir: cache_dir(),
        config_dir: std::env::temp_dir(),
    }
}
