//! A model's headers, read and checked, and the text side that they hold: tokenizer and chat template. No weights.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::{ModelConfig, read_folder_config};
use crate::engine::chat_template::{ChatTemplate, Chosen};
use crate::engine::error::ModelError;
use crate::engine::source::ModelFiles;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::gguf::{self, Header, Metadata};
use crate::engine::weights::plan::TensorPlan;

/// A model's files, understood: what any device needs to load it.
pub struct ModelParts {
    /// Shape and constants.
    pub config: ModelConfig,
    /// Where the weights lie.
    pub plan: TensorPlan,
    text: TextFiles,
}

/// What a model's headers say about it, for `ModelInfo`.
pub struct Facts {
    /// `general.architecture` or `model_type`.
    pub architecture: String,
    /// For example `Q4_K_M`.
    pub quantization: String,
    /// Weights in all.
    pub parameters: u64,
    /// Positions that the KV cache will hold.
    pub context_length: usize,
    /// Positions that the model was trained for.
    pub trained_context_length: usize,
    /// About the files.
    pub warnings: Vec<String>,
}

/// Where the tokenizer and the chat template are read from.
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

    /// The same of a folder whose `config.json` holds `json`.
    pub fn of_folder(folder: &Path, json: Value, context_length: Option<usize>) -> Result<Self, ModelError> {
        let (config, plan) = ModelConfig::from_folder(folder, json, context_length)?;
        Ok(Self { config, plan, text: TextFiles::Folder(folder.to_path_buf()) })
    }

    /// Tokenizer and chat template, from where the format keeps them; `chosen` instead of the model's template.
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

    /// What they say about the model.
    pub fn facts(&self) -> Facts {
        Facts {
            architecture: self.config.architecture.clone(),
            quantization: self.quantization(),
            parameters: self.plan.parameters(),
            context_length: self.config.context_length,
            trained_context_length: self.config.trained_context_length,
            warnings: self.plan.warnings.clone(),
        }
    }

    /// What the weights are mostly stored in, as people call it (`Q4_K_M`, `BF16`).
    pub fn quantization(&self) -> String {
        let stated = self.metadata().and_then(|metadata| metadata.uint("general.file_type")).and_then(file_type_name);
        let name = stated.or_else(|| self.plan.main_type().map(|kind| kind.name()));
        name.unwrap_or("unknown").to_owned()
    }
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

#[cfg(test)]
mod refusals;
