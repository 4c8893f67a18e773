//! Loads model files onto a device. The only module that depends on all loaders and devices and selects among them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::chat_template::{ChatTemplate, Chosen};
use super::cpu;
#[cfg(cuda)]
use super::cuda;
use super::error::ModelError;
use super::fingerprint::Pending;
use super::model::candle::CandleParts;
use super::model::config::read_folder_config;
use super::model::parts::ModelParts;
use super::model::transformer::Transformer;
use super::model::{LoadOptions, Model};
use super::scripted::ScriptParts;
use super::source::{CancelFlag, ModelFiles};
use super::tokenizer::{Tokenizer, TokenizerError};
use super::weights::gguf;
use crate::protocol::{DeviceInfo, DeviceKind, DevicePreference, EngineError, ErrorKind, LoadProgress, ModelInfo};

/// A model with its tokenizer and chat template.
pub struct LoadedModel {
    /// The forward pass and its KV cache.
    pub model: Box<dyn Model>,
    /// Text ↔ tokens.
    pub tokenizer: Tokenizer,
    /// Messages → text.
    pub template: ChatTemplate,
    /// Name, architecture, device, memory use and warnings.
    pub info: ModelInfo,
    /// Identifies the model's files.
    pub fingerprint: Pending,
}

/// A model's checked headers: a variant for each implementation of the forward pass.
enum Parts<'a> {
    Own(Box<ModelParts>),
    Candle(CandleParts<'a>),
    Scripted(ScriptParts<'a>),
}

/// The device that the weights are loaded onto.
enum Device {
    Cpu,
    #[cfg(cuda)]
    Cuda(Box<cuda::Opened>),
}

/// Positions that a model was trained for, by its headers; `None` if they cannot be read (the load reports why).
pub fn trained_context_length(files: &ModelFiles) -> Option<usize> {
    let parts = Headers::read(files).and_then(|headers| headers.parts(None)).ok()?;
    Some(parts.info().trained_context_length)
}

/// Whether a load for `device` would try a GPU first: the driver reports one.
pub fn expects_gpu(device: DevicePreference) -> bool {
    #[cfg(cuda)]
    return cuda::expected(device);
    #[cfg(not(cuda))]
    {
        let _ = device;
        false
    }
}

/// Starts the driver of the GPU that `device` may use, which takes 0.1 s and no GPU memory.
pub fn start_driver(device: DevicePreference) {
    expects_gpu(device);
}

/// Waits up to `timeout` for this process's last CUDA context to be destroyed: a cancelled load destroys its context in
/// the background.
pub fn wait_for_contexts(timeout: Duration) {
    #[cfg(cuda)]
    cuda::wait_for_contexts(timeout);
    #[cfg(not(cuda))]
    let _ = timeout;
}

/// Bytes a second that the device of a loaded model reads from its memory, measured now. No model may be loaded.
pub fn read_bandwidth(kind: DeviceKind, device: DevicePreference, threads: Option<usize>) -> Option<f64> {
    match kind {
        DeviceKind::Cpu => cpu::read_bandwidth(&cpu::Threads::new(threads)).ok(),
        DeviceKind::Server => None,
        #[cfg(cuda)]
        DeviceKind::Cuda => cuda::read_bandwidth(device).ok(),
        #[cfg(not(cuda))]
        DeviceKind::Cuda => {
            let _ = device;
            None
        }
    }
}

/// Loads a model: headers, checks, weights, KV cache, tokenizer, template. Calls `progress` once every few megabytes.
///
/// With `DevicePreference::Auto` a model that no GPU can run (no driver, no GPU, no code for its family) is loaded on
/// the CPU with a warning. Too little GPU memory is an error that lists what fits: the slower CPU needs `--device cpu`.
pub fn load(options: &LoadOptions<'_>, progress: &mut dyn FnMut(LoadProgress)) -> Result<LoadedModel, ModelError> {
    let begun = Instant::now();
    let (parts, device, fallback) = open(options)?;
    let fingerprint = Pending::start(options.files);
    tracing::debug!(took = ?begun.elapsed(), ?fallback, "headers read");
    let device_info = parts.device_info(&device);
    // Building a vocabulary takes about as long as reading small weights, so both run in parallel.
    let (text, model) = std::thread::scope(|scope| {
        let text = scope.spawn(|| parts.read_text(options.chat_template));
        let model = parts.load(device, options, progress);
        let text = text.join().unwrap_or_else(|_| Err(ModelError::Invalid("the tokenizer could not be made".into())));
        (text, model)
    });
    let (mut model, (tokenizer, template)) = (model?, text?);
    tracing::debug!(took = ?begun.elapsed(), "weights, tokenizer and template read");
    model.load_finished();
    let mut info = parts.info();
    (info.name, info.device, info.memory) = (options.name.to_owned(), device_info, model.memory());
    info.think_switch = template.has_think_switch();
    info.dated = template.is_dated();
    info.warnings.extend(tokenizer.warnings().iter().chain(template.warnings()).cloned().chain(model.warnings()));
    info.warnings.extend(fallback.map(|why| format!("running on the CPU: {why}")));
    Ok(LoadedModel { model, tokenizer, template, info, fingerprint })
}

/// The forward pass on the CPU, without tokenizer and template: for comparisons with other devices.
pub fn cpu_model(parts: &ModelParts, threads: Option<usize>) -> Result<Box<dyn Model>, ModelError> {
    let model = Transformer::load(&parts.config, &parts.plan, threads, &CancelFlag::default(), &mut |_| {})?;
    Ok(Box::new(model))
}

/// Reads only the tokenizer and the chat template of `files`; `chosen` replaces the template.
pub fn read_text(files: &ModelFiles, chosen: Option<&Chosen>) -> Result<(Tokenizer, ChatTemplate), EngineError> {
    let (tokenizer, template) = match files {
        ModelFiles::Gguf(paths) => {
            let header = gguf::read_split_header(paths)?;
            let tokenizer = Tokenizer::from_gguf(&header.metadata).map_err(tokenizer_problem)?;
            let template = ChatTemplate::from_gguf(&header.metadata, &tokenizer, chosen);
            (tokenizer, template)
        }
        ModelFiles::Safetensors(folder) => {
            let tokenizer = Tokenizer::from_folder(folder).map_err(tokenizer_problem)?;
            let template = ChatTemplate::from_folder(folder, &tokenizer, chosen);
            (tokenizer, template)
        }
        ModelFiles::Scripted(path) => return ScriptParts::open_text(path, chosen),
    };
    let template = template.map_err(|error| EngineError::new(ErrorKind::Failed, error.to_string()))?;
    Ok((tokenizer, template))
}

/// Reads only the tokenizer of `files`; works on a vocabulary-only GGUF.
pub fn read_tokenizer(files: &ModelFiles) -> Result<Tokenizer, EngineError> {
    match files {
        ModelFiles::Gguf(paths) => {
            Tokenizer::from_gguf(&gguf::read_split_header(paths)?.metadata).map_err(tokenizer_problem)
        }
        ModelFiles::Safetensors(folder) => Tokenizer::from_folder(folder).map_err(tokenizer_problem),
        ModelFiles::Scripted(path) => ScriptParts::open_text(path, None).map(|(tokenizer, _)| tokenizer),
    }
}

fn tokenizer_problem(error: TokenizerError) -> EngineError {
    EngineError::new(ErrorKind::Failed, format!("The model's tokenizer cannot be used: {error}"))
}

/// The headers, the device, and the reason if a GPU was possible and the CPU is used instead.
fn open<'a>(options: &LoadOptions<'a>) -> Result<(Parts<'a>, Device, Option<String>), ModelError> {
    let headers = Headers::read(options.files)?;
    #[cfg(cuda)]
    if gpu_possible(options.device) && headers.may_run_on_gpu() {
        return open_with_gpu(headers, options);
    }
    let parts = headers.parts(options.context_length)?;
    let fallback = parts.run_on_cpu(options.device)?;
    Ok((parts, Device::Cpu, fallback))
}

/// Whether `device` names a GPU, or leaves the choice and there is a driver: without one there is nothing to report.
fn gpu_possible(device: DevicePreference) -> bool {
    match device {
        DevicePreference::Cpu => false,
        DevicePreference::Cuda(_) => true,
        #[cfg(cuda)]
        DevicePreference::Auto => cuda::driver_present(),
        #[cfg(not(cuda))]
        DevicePreference::Auto => false,
    }
}

/// Reads the headers while the driver creates a context on the GPU.
#[cfg(cuda)]
fn open_with_gpu<'a>(
    headers: Headers<'a>,
    options: &LoadOptions<'a>,
) -> Result<(Parts<'a>, Device, Option<String>), ModelError> {
    let opening =
        cuda::Opening::start(options.device, bytes_of(options.files), options.gpu_memory_utilization, options.cancel);
    let parts = headers.parts(options.context_length);
    let opened = opening.and_then(|opening| opening.finish(options.cancel));
    if matches!(opened, Err(ModelError::Cancelled)) {
        return Err(ModelError::Cancelled);
    }
    let parts = parts?;
    let supported = |opened| match &parts {
        Parts::Own(own) => cuda::unsupported(&own.config, &own.plan).map_or(Ok(opened), Err),
        Parts::Candle(_) | Parts::Scripted(_) => Err("no GPU code exists for this family".to_owned()),
    };
    match opened.and_then(|opened| supported(opened).map_err(ModelError::Unsupported)) {
        Err(ModelError::Unsupported(why)) if options.device == DevicePreference::Auto => {
            Ok((parts, Device::Cpu, Some(why)))
        }
        opened => Ok((parts, Device::Cuda(Box::new(opened?)), None)),
    }
}

/// Bytes of the files that have weights; 0 if they cannot be read, which the load reports.
#[cfg(cuda)]
fn bytes_of(files: &ModelFiles) -> u64 {
    let size = |path: &Path| path.metadata().map_or(0, |found| found.len());
    match files {
        ModelFiles::Gguf(paths) => paths.iter().map(|path| size(path)).sum(),
        ModelFiles::Safetensors(folder) => {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            entries
                .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
                .map(|path| size(&path))
                .sum()
        }
        ModelFiles::Scripted(_) => 0,
    }
}

/// Model files by format, with the parsed `config.json` of a safetensors folder.
enum Headers<'a> {
    Gguf(&'a ModelFiles),
    Folder(&'a Path, Value),
    Script(&'a Path),
}

impl<'a> Headers<'a> {
    fn read(files: &'a ModelFiles) -> Result<Self, ModelError> {
        Ok(match files {
            ModelFiles::Gguf(_) => Self::Gguf(files),
            ModelFiles::Safetensors(folder) => Self::Folder(folder, read_folder_config(folder)?),
            ModelFiles::Scripted(path) => Self::Script(path),
        })
    }

    #[cfg(cuda)]
    fn may_run_on_gpu(&self) -> bool {
        match self {
            Self::Gguf(_) => true,
            Self::Folder(_, json) => CandleParts::family(json).is_none(),
            Self::Script(_) => false,
        }
    }

    fn parts(self, context_length: Option<usize>) -> Result<Parts<'a>, ModelError> {
        Ok(match self {
            Self::Gguf(files) => Parts::Own(Box::new(ModelParts::open(files, context_length)?)),
            Self::Folder(folder, json) => match CandleParts::family(&json) {
                Some(family) => Parts::Candle(CandleParts::open(folder, json, family, context_length)?),
                None => Parts::Own(Box::new(ModelParts::of_folder(folder, json, context_length)?)),
            },
            Self::Script(path) => Parts::Scripted(ScriptParts::open(path, context_length)?),
        })
    }
}

impl Parts<'_> {
    /// Checks that `device` permits the CPU. Returns the reason for a warning if `device` is `Auto` and this family has
    /// no GPU code.
    fn run_on_cpu(&self, device: DevicePreference) -> Result<Option<String>, ModelError> {
        match (self, device) {
            (Self::Candle(parts), DevicePreference::Cuda(_)) => Err(ModelError::Unsupported(format!(
                "{} models run on the CPU only; use --device cpu, or a model of another family",
                parts.name()
            ))),
            (Self::Candle(parts), DevicePreference::Auto) if gpu_possible(device) => {
                Ok(Some(format!("{} models have no GPU code", parts.name())))
            }
            (Self::Own(_), DevicePreference::Cuda(_)) if !cfg!(cuda) => Err(ModelError::Unsupported(
                "this chatnap was built without CUDA (on Linux, a build with default features has it); use --device cpu".into(),
            )),
            _ => Ok(None),
        }
    }

    fn device_info(&self, device: &Device) -> DeviceInfo {
        match (self, device) {
            (Self::Scripted(parts), _) => parts.device(),
            (_, Device::Cpu) => DeviceInfo { kind: DeviceKind::Cpu, name: cpu::name() },
            #[cfg(cuda)]
            (_, Device::Cuda(opened)) => DeviceInfo { kind: DeviceKind::Cuda, name: opened.name() },
        }
    }

    fn read_text(&self, chosen: Option<&Chosen>) -> Result<(Tokenizer, ChatTemplate), ModelError> {
        match self {
            Self::Own(parts) => parts.read_text(chosen),
            Self::Candle(parts) => parts.read_text(chosen),
            Self::Scripted(_) => ScriptParts::read_text(chosen),
        }
    }

    fn load(
        &self,
        device: Device,
        options: &LoadOptions<'_>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Model>, ModelError> {
        let (threads, cancel) = (options.threads, options.cancel);
        match (self, device) {
            #[cfg(cuda)]
            (Self::Own(parts), Device::Cuda(opened)) => Ok(Box::new(cuda::load(parts, *opened, options, progress)?)),
            (Self::Own(parts), _) => {
                Ok(Box::new(Transformer::load(&parts.config, &parts.plan, threads, cancel, progress)?))
            }
            (Self::Candle(parts), _) => parts.load(threads, cancel, progress),
            (Self::Scripted(parts), _) => parts.load(cancel, progress),
        }
    }

    /// The model's properties according to its headers.
    fn info(&self) -> ModelInfo {
        match self {
            Self::Own(parts) => parts.info(),
            Self::Candle(parts) => parts.info(),
            Self::Scripted(parts) => parts.info(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_a_missing_file_is_an_error() {
        let nowhere = Path::new("/nonexistent/model.gguf").to_path_buf();
        assert!(read_text(&ModelFiles::Gguf(vec![nowhere.clone()]), None).is_err());
        assert!(read_tokenizer(&ModelFiles::Safetensors(nowhere)).is_err());
    }
}
