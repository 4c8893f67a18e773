//! From files to a model that runs: header, checks, weights, KV cache, tokenizer, template.

use std::path::{Path, PathBuf};

use super::config::ModelConfig;
use super::transformer::Transformer;
use super::{LoadOptions, LoadedModel, Model};
use crate::engine::chat_template::{ChatTemplate, Chosen};
use crate::engine::error::ModelError;
use crate::engine::source::ModelFiles;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::gguf::{self, Header};
use crate::engine::weights::plan::TensorPlan;
use crate::protocol::{DeviceInfo, DeviceKind, DevicePreference, LoadProgress, ModelInfo};

/// A model's files, understood: what any device needs to load it.
pub struct ModelParts {
    /// Shape and constants.
    pub config: ModelConfig,
    /// Where the weights lie.
    pub plan: TensorPlan,
    /// GGUF metadata; `None` for a safetensors folder.
    pub header: Option<Header>,
}

impl ModelParts {
    /// Reads and checks the headers; no weights.
    pub fn open(files: &ModelFiles, context_length: Option<usize>) -> Result<Self, ModelError> {
        match files {
            ModelFiles::Gguf(paths) => {
                let header = gguf::read_split_header(&all_parts(paths)?)?;
                gguf::check_whole(&header)?;
                let (config, plan) = ModelConfig::from_gguf(&header, context_length)?;
                Ok(Self { config, plan, header: Some(header) })
            }
            ModelFiles::Safetensors(folder) => {
                let (config, plan) = ModelConfig::from_folder(folder, context_length)?;
                Ok(Self { config, plan, header: None })
            }
            ModelFiles::Scripted(path) => {
                Err(ModelError::Unsupported(format!("{}: a script has no weights", path.display())))
            }
        }
    }

    /// What the user should know about the model: its files, its tokenizer, its template.
    pub fn warnings(&self, tokenizer: &Tokenizer, template: &ChatTemplate) -> Vec<String> {
        all_warnings(&self.plan, tokenizer, template)
    }

    /// What the weights are mostly stored in, as people call it (`Q4_K_M`, `BF16`).
    pub fn quantization(&self) -> String {
        let stated = self.header.as_ref().and_then(|h| h.metadata.uint("general.file_type")).and_then(file_type_name);
        let name = stated.or_else(|| self.plan.main_type().map(|kind| kind.name()));
        name.unwrap_or("unknown").to_owned()
    }
}

/// What the user should know of each part of a model, in the order in which they are read.
pub(super) fn all_warnings(plan: &TensorPlan, tokenizer: &Tokenizer, template: &ChatTemplate) -> Vec<String> {
    [&plan.warnings[..], tokenizer.warnings(), template.warnings()].concat()
}

/// One path may stand for a split model's first part; several are taken as they are.
fn all_parts(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ModelError> {
    match paths {
        [single] => gguf::split_files(single),
        several => Ok(several.to_vec()),
    }
}

/// `general.file_type` (`enum llama_ftype` of llama.h), the types that we read.
fn file_type_name(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        32 => "BF16",
        _ => return None,
    })
}

/// The forward pass on the CPU alone, without tokenizer and template: for comparisons with other devices.
pub fn cpu_model(parts: &ModelParts, threads: Option<usize>) -> Result<Box<dyn Model>, ModelError> {
    let cancel = crate::engine::source::CancelFlag::default();
    let model = Transformer::load(&parts.config, &parts.plan, threads, &cancel, &mut |_| {})?;
    Ok(Box::new(model))
}

/// Loads a model onto the CPU.
pub(super) fn load_on_cpu(
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<LoadedModel, ModelError> {
    if cfg!(not(feature = "cuda")) && matches!(options.device, DevicePreference::Cuda(_)) {
        return Err(ModelError::Unsupported(
            "this chatnap was built without CUDA; build it with --features cuda or use --device cpu".into(),
        ));
    }
    let parts = ModelParts::open(options.files, options.context_length)?;
    let folder = match options.files {
        ModelFiles::Safetensors(folder) => folder.as_path(),
        _ => Path::new(""),
    };
    // A vocabulary takes about as long to build as small weights to read, so both happen at once.
    let (text, model) = std::thread::scope(|scope| {
        let text = scope.spawn(|| read_text(&parts, folder, options.chat_template));
        let model = Transformer::load(&parts.config, &parts.plan, options.threads, options.cancel, progress);
        let text = text.join().unwrap_or_else(|_| Err(ModelError::Invalid("the tokenizer could not be made".into())));
        (text, model)
    });
    let (model, (tokenizer, template)) = (model?, text?);
    let info = describe(options.name, &parts, &model, &tokenizer, &template);
    Ok(LoadedModel { model: Box::new(model), tokenizer, template, info })
}

/// Tokenizer and chat template, from where the format keeps them; `chosen` instead of the model's template.
pub fn read_text(
    parts: &ModelParts,
    folder: &Path,
    chosen: Option<&Chosen>,
) -> Result<(Tokenizer, ChatTemplate), ModelError> {
    let wrong = |error: &dyn std::fmt::Display| parts.plan.invalid(error);
    match &parts.header {
        Some(header) => {
            let tokenizer = Tokenizer::from_gguf(&header.metadata).map_err(|e| wrong(&e))?;
            let template = ChatTemplate::from_gguf(&header.metadata, &tokenizer, chosen).map_err(|e| wrong(&e))?;
            Ok((tokenizer, template))
        }
        None => text_of_folder(&parts.plan, folder, chosen),
    }
}

/// Tokenizer and chat template of a safetensors folder.
pub(super) fn text_of_folder(
    plan: &TensorPlan,
    folder: &Path,
    chosen: Option<&Chosen>,
) -> Result<(Tokenizer, ChatTemplate), ModelError> {
    // The errors name their own file.
    let tokenizer = Tokenizer::from_folder(folder).map_err(|error| ModelError::Invalid(error.to_string()))?;
    let template = ChatTemplate::from_folder(folder, &tokenizer, chosen).map_err(|e| plan.invalid(e))?;
    Ok((tokenizer, template))
}

fn describe(
    name: &str,
    parts: &ModelParts,
    model: &Transformer,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
) -> ModelInfo {
    ModelInfo {
        name: name.to_owned(),
        architecture: parts.config.architecture.clone(),
        quantization: parts.quantization(),
        parameters: parts.plan.parameters(),
        context_length: parts.config.context_length,
        trained_context_length: parts.config.trained_context_length,
        device: DeviceInfo { kind: DeviceKind::Cpu, name: cpu_name() },
        memory: model.memory(),
        warnings: parts.warnings(tokenizer, template),
    }
}

/// The processor as its maker calls it, where the system tells.
pub fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod refusals;
