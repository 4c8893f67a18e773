//! A model's headers, parsed and checked, and its text side: tokenizer and chat template. Reads no weights.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::{ModelConfig, read_folder_config};
use crate::engine::chat_template::{ChatTemplate, Chosen};
use crate::engine::error::ModelError;
use crate::engine::recommended;
use crate::engine::source::ModelFiles;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::gguf::{self, Header, Metadata};
use crate::engine::weights::plan::TensorPlan;
use crate::protocol::{ModelInfo, Recommended};

/// The parsed headers of a model's files: input of the loaders for every device.
pub struct ModelParts {
    /// Shape and constants of the network.
    pub config: ModelConfig,
    /// Files and offsets of the weights.
    pub plan: TensorPlan,
    text: TextFiles,
}

/// Source of the tokenizer and the chat template.
enum TextFiles {
    Gguf(Header),
    Folder(PathBuf),
}

impl ModelParts {
    /// Reads and checks the headers; no weights.
    pub fn open(files: &ModelFiles, context_length: Option<usize>) -> Result<Self, ModelError> {
        match files {
            ModelFiles::Gguf(paths) => {
                let header = gguf::read_split_header(&all_parts(paths)?)?;
                gguf::check_whole(&header)?;
                let (config, plan) = ModelConfig::from_gguf(&header, context_length)?;
                Ok(Self { config, plan, text: TextFiles::Gguf(header) })
            }
            ModelFiles::Safetensors(folder) => Self::of_folder(folder, read_folder_config(folder)?, context_length),
            ModelFiles::Scripted(path) => {
                Err(ModelError::Unsupported(format!("{}: a script has no weights", path.display())))
            }
        }
    }

    /// [`Self::open`] for a folder whose `config.json` was parsed as `json`.
    pub fn of_folder(folder: &Path, json: Value, context_length: Option<usize>) -> Result<Self, ModelError> {
        let (config, plan) = ModelConfig::from_folder(folder, json, context_length)?;
        Ok(Self { config, plan, text: TextFiles::Folder(folder.to_path_buf()) })
    }

    /// Reads tokenizer and chat template from the place that the format uses; `chosen` overrides the model's template.
    pub fn read_text(&self, chosen: Option<&Chosen>) -> Result<(Tokenizer, ChatTemplate), ModelError> {
        match &self.text {
            TextFiles::Gguf(header) => {
                let wrong = |error: &dyn std::fmt::Display| self.plan.invalid(error);
                let tokenizer = Tokenizer::from_gguf(&header.metadata).map_err(|e| wrong(&e))?;
                let template = ChatTemplate::from_gguf(&header.metadata, &tokenizer, chosen).map_err(|e| wrong(&e))?;
                Ok((tokenizer, template))
            }
            TextFiles::Folder(folder) => text_of_folder(&self.plan, folder, chosen),
        }
    }

    /// GGUF metadata; `None` for a safetensors folder.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.text {
            TextFiles::Gguf(header) => Some(&header.metadata),
            TextFiles::Folder(_) => None,
        }
    }

    /// The part of `ModelInfo` that the headers determine; the rest are defaults.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            architecture: self.config.architecture.clone(),
            quantization: self.quantization(),
            parameters: self.plan.parameters(),
            context_length: self.config.context_length,
            trained_context_length: self.config.trained_context_length,
            sampling: self.recommended(),
            warnings: self.plan.warnings.clone(),
            ..ModelInfo::default()
        }
    }

    /// The sampling values that the files recommend.
    fn recommended(&self) -> Recommended {
        match &self.text {
            TextFiles::Gguf(header) => recommended::of_gguf(&header.metadata),
            TextFiles::Folder(folder) => recommended::of_folder(folder),
        }
    }

    /// Usual name of the storage format of most weights (`Q4_K_M`, `BF16`), or `unknown`.
    pub fn quantization(&self) -> String {
        let stated = self.metadata().and_then(|metadata| metadata.uint("general.file_type")).and_then(file_type_name);
        let name = stated.or_else(|| self.plan.main_type().map(|kind| kind.name()));
        name.unwrap_or("unknown").to_owned()
    }
}

/// Expands the path of a split model's first part to all parts; several paths are returned unchanged.
fn all_parts(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ModelError> {
    match paths {
        [single] => gguf::split_files(single),
        several => Ok(several.to_vec()),
    }
}

/// Name of a `general.file_type` (`enum llama_ftype` of llama.h) that this engine reads.
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

/// Tokenizer and chat template of a safetensors folder.
pub(super) fn text_of_folder(
    plan: &TensorPlan,
    folder: &Path,
    chosen: Option<&Chosen>,
) -> Result<(Tokenizer, ChatTemplate), ModelError> {
    // These errors already contain the file name.
    let tokenizer = Tokenizer::from_folder(folder).map_err(|error| ModelError::Invalid(error.to_string()))?;
    let template = ChatTemplate::from_folder(folder, &tokenizer, chosen).map_err(|e| plan.invalid(e))?;
    Ok((tokenizer, template))
}

#[cfg(test)]
mod refusals;
