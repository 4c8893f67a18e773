//! Settings: defaults < config file < environment < flags, read once.

use std::path::PathBuf;

use crate::protocol::*;

/// Everything that the user can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Model name in any form of the command line's contract.
    pub model: String,
    /// System message.
    pub system: Option<String>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Most tokens an answer may have.
    pub max_tokens: Option<usize>,
    /// KV cache positions; `None`: 8192 or the model's own.
    pub context_length: Option<usize>,
    /// How long an idle engine keeps its weights.
    pub idle_window: IdleWindow,
    /// Where to run.
    pub device: DevicePreference,
    /// Share of the VRAM that may be used.
    pub gpu_memory_utilization: f32,
    /// CPU threads; `None`: one for each physical core.
    pub threads: Option<usize>,
    /// Never use the network.
    pub offline: bool,
    /// What to do with a conversation that outgrew the context.
    pub on_overflow: OverflowPolicy,
    /// Name of a built-in theme or of a file in the config folder's `themes/`.
    pub theme: String,
    /// Folder of conversations and state.
    pub data_dir: PathBuf,
    /// Folder of downloaded starter models.
    pub cache_dir: PathBuf,
    /// Folder of the config file and the user's themes.
    pub config_dir: PathBuf,
}
