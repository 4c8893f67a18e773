//! Loads the tensors of a folder with our own reader, as f32 candle tensors, each in memory once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::config::Config;
use crate::engine::error::ModelError;
use crate::engine::source::CancelFlag;
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::reader::{floats, read_tensors};
use crate::engine::weights::unused_tensors;
use crate::protocol::LoadProgress;

/// Tensors by the names that candle's code requests.
pub(super) struct Weights {
    tensors: HashMap<String, Tensor>,
    asked: Asked,
}

/// Names that candle's code has requested so far.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<HashSet<String>>>);

impl Asked {
    fn note(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Checks the tensors of `plan` that candle did not request, as for the native families.
    pub(super) fn unread(&self, plan: &TensorPlan, config: &Config) -> Result<Option<String>, ModelError> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = plan.tensors.keys().chain(plan.unreadable.keys()).map(String::as_str);
        let unread = names.filter(|name| !asked.contains(*name) && !is_spare(name, config));
        unused_tensors::check(plan, unread, config.layers, "num_hidden_layers")
    }
}

/// Whether a tensor is a duplicate, or is recomputed.
fn is_spare(name: &str, config: &Config) -> bool {
    config.tied && name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq")
}

impl Weights {
    pub(super) fn read(
        config: &Config,
        plan: &TensorPlan,
        readers: usize,
        cancel: &CancelFlag,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, ModelError> {
        let names: Vec<_> = plan.tensors.keys().filter(|name| !is_spare(name, config)).cloned().collect();
        let tensors = read_tensors(plan, &names, readers, cancel, progress, |name, tensor, bytes| {
            let values = floats(&plan.files[tensor.file], tensor, &bytes)?;
            Tensor::from_vec(values, (tensor.rows, tensor.cols), &Device::Cpu)
                .map_err(|error| plan.invalid(format!("tensor {name:?}: {error}")))
        })?;
        let mut weights = Self { tensors, asked: Asked::default() };
        weights.rename(config).map_err(|error| plan.invalid(super::first_line(&error)))?;
        Ok(weights)
    }

    /// Bytes in memory, as f32.
    pub(super) fn bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| (tensor.elem_count() * size_of::<f32>()) as u64).sum()
    }

    /// A handle to the set of requested names, which later requests extend.
    pub(super) fn asked(&self) -> Asked {
        self.asked.clone()
    }

    /// The `VarBuilder` for candle's code. Its clones share the tensors.
    pub(super) fn builder(self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self), DType::F32, Device::Cpu)
    }

    /// Renames tensors whose names in the files differ from those in candle's code.
    fn rename(&mut self, config: &Config) -> CandleResult<()> {
        match config.name {
            "granite" => (0..config.layers).try_for_each(|layer| self.join_gate_and_up(layer)),
            "stablelm" if config.tied => {
                let embedding = self.find("model.embed_tokens.weight")?;
                self.tensors.insert("lm_head.weight".into(), embedding);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Granite runs on the dense layers of Granite-MoE-hybrid, which have gate and up as one matrix.
    fn join_gate_and_up(&mut self, layer: usize) -> CandleResult<()> {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let mut take = |part: &str| {
            let tensor = self.find(&name(part))?;
            self.tensors.remove(&name(part));
            CandleResult::Ok(tensor)
        };
        let (gate, up, down) = (take("mlp.gate_proj")?, take("mlp.up_proj")?, take("mlp.down_proj")?);
        self.tensors.insert(name("shared_mlp.input_linear"), Tensor::cat(&[gate, up], 0)?);
        self.tensors.insert(name("shared_mlp.output_linear"), down);
        Ok(())
    }

    fn find(&self, name: &str) -> CandleResult<Tensor> {
        let missing = || candle_core::Error::Msg(format!("the model needs a tensor {name:?} and the files have none"));
        self.asked.note(name);
        self.tensors.get(name).cloned().ok_or_else(missing)
    }
}

impl SimpleBackend for Weights {
    /// The tensor, reshaped: the reader stores vectors as matrices of one row.
    fn get(&self, shape: Shape, name: &str, _: Init, _: DType, _: &Device) -> CandleResult<Tensor> {
        let tensor = self.find(name)?;
        let same = shape.elem_count() == tensor.elem_count() && shape.dims().last() == tensor.dims().last();
        if !same {
            candle_core::bail!("tensor {name:?} is {:?}, but the model needs {:?}", tensor.dims(), shape.dims());
        }
        tensor.reshape(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> CandleResult<Tensor> {
        self.find(name)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}
