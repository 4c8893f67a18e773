//! The sampling values that a model's files recommend: `generation_config.json` of transformers, and llama.cpp's GGUF
//! keys `general.sampling.*`. A value of the wrong type or out of its range is ignored.

use std::path::Path;

use serde_json::Value;

use super::source::ModelFiles;
use super::weights::gguf::{self, Metadata};
use super::weights::safetensors::read_json;
use crate::protocol::{Recommended, SamplingChoice, SamplingSource};

const GENERATION_CONFIG: &str = "generation_config.json";

/// Higher temperatures and penalties are taken for mistakes.
const HIGHEST: f64 = 100.0;

/// What the files recommend. Reads no weights; a file that cannot be read recommends nothing (the load reports it).
pub fn of_files(files: &ModelFiles) -> Recommended {
    match files {
        ModelFiles::Gguf(paths) => {
            let header = paths.first().and_then(|first| gguf::read_header(first).ok());
            header.map(|header| of_gguf(&header.metadata)).unwrap_or_default()
        }
        ModelFiles::Safetensors(folder) => of_folder(folder),
        ModelFiles::Scripted(_) => Recommended::default(),
    }
}

/// What a GGUF recommends.
pub fn of_gguf(metadata: &Metadata) -> Recommended {
    Recommended::from(SamplingSource::Gguf, of_metadata(metadata))
}

/// What a safetensors folder recommends.
pub fn of_folder(folder: &Path) -> Recommended {
    // No file is no error, and about a damaged one the tokenizer warns.
    let config = read_json::<Value>(&folder.join(GENERATION_CONFIG)).unwrap_or_default();
    Recommended::from(SamplingSource::GenerationConfig, of_config(&config))
}

/// The values of `generation_config.json`. `do_sample: false` is a temperature of 0; without that key the values apply
/// as they are.
fn of_config(config: &Value) -> SamplingChoice {
    let number = |key: &str| config[key].as_f64();
    let greedy = config["do_sample"] == Value::Bool(false);
    SamplingChoice {
        temperature: if greedy { Some(0.0) } else { number("temperature").and_then(up_to_highest) },
        top_k: number("top_k").and_then(count),
        top_p: number("top_p").and_then(share),
        min_p: number("min_p").and_then(share),
        repeat_penalty: number("repetition_penalty").and_then(penalty),
        ..SamplingChoice::default()
    }
}

/// The values of llama.cpp's keys (`gguf-py/gguf/constants.py`, `Keys.General`). Its samplers that chatnap lacks, XTC
/// and Mirostat, are ignored.
fn of_metadata(metadata: &Metadata) -> SamplingChoice {
    let number = |key: &str| metadata.float(&format!("general.sampling.{key}"));
    SamplingChoice {
        temperature: number("temp").and_then(up_to_highest),
        top_k: number("top_k").and_then(count),
        top_p: number("top_p").and_then(share),
        min_p: number("min_p").and_then(share),
        repeat_penalty: number("penalty_repeat").and_then(penalty),
        repeat_last_n: number("penalty_last_n").and_then(count),
        ..SamplingChoice::default()
    }
}

fn up_to_highest(value: f64) -> Option<f32> {
    // `abs` makes -0 a plain 0.
    (0.0..=HIGHEST).contains(&value).then_some(value.abs() as f32)
}

/// A penalty divides logits: it must stay above 0 in 32 bits.
fn penalty(value: f64) -> Option<f32> {
    up_to_highest(value).filter(|value| *value >= 0.01)
}

fn share(value: f64) -> Option<f32> {
    (0.0..=1.0).contains(&value).then_some(value.abs() as f32)
}

fn count(value: f64) -> Option<usize> {
    let whole = (0.0..=f64::from(i32::MAX)).contains(&value) && value.fract() == 0.0;
    whole.then_some(value as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::engine::weights::gguf::Value as Entry;

    fn folder(config: &str) -> SamplingChoice {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(GENERATION_CONFIG), config).unwrap();
        let Recommended(found) = of_folder(folder.path());
        assert!(found.iter().all(|(source, _)| *source == SamplingSource::GenerationConfig));
        found.into_iter().next().map(|(_, choice)| choice).unwrap_or_default()
    }

    #[test]
    fn generation_config_is_read_value_by_value() {
        let found = folder(
            r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0,
                "repetition_penalty": 1.05, "eos_token_id": [1, 2]}"#,
        );
        let wanted = SamplingChoice {
            temperature: Some(0.6),
            top_p: Some(0.95),
            top_k: Some(20),
            min_p: Some(0.0),
            repeat_penalty: Some(1.05),
            ..SamplingChoice::default()
        };
        assert_eq!(found, wanted);
        assert_eq!(folder(r#"{"top_k": 50.0}"#).top_k, Some(50));
    }

    #[test]
    fn sampling_switched_off_is_a_temperature_of_zero() {
        let found = folder(r#"{"do_sample": false, "temperature": 0.7, "top_p": 0.9}"#);
        assert_eq!((found.temperature, found.top_p), (Some(0.0), Some(0.9)));
        assert_eq!(folder(r#"{"temperature": 0.7}"#).temperature, Some(0.7));
        assert_eq!(folder(r#"{"do_sample": "false", "temperature": 0.7}"#).temperature, Some(0.7));
    }

    #[test]
    fn invalid_values_and_files_are_ignored() {
        for config in [
            r#"{"temperature": -1, "top_p": 1.5, "top_k": -1, "min_p": -0.1, "repetition_penalty": 0}"#,
            r#"{"temperature": NaN, "top_p": Infinity, "top_k": 2.5, "repetition_penalty": -Infinity}"#,
            r#"{"temperature": "0.7", "top_p": null, "top_k": [50], "min_p": {}, "repetition_penalty": true}"#,
            r#"{"temperature": 1e300, "top_p": 1e999, "top_k": 1e18, "repetition_penalty": 1e-300}"#,
            "[1, 2]",
            "null",
            "not JSON",
            "",
        ] {
            assert_eq!(folder(config), SamplingChoice::default(), "{config}");
        }
        assert_eq!(of_folder(Path::new("/nonexistent")), Recommended::default());
        let nowhere = ModelFiles::Gguf(vec!["/nonexistent/x.gguf".into()]);
        assert_eq!(of_files(&nowhere), Recommended::default());
    }

    #[test]
    fn gguf_keys_are_read_in_any_number_type() {
        let of = |entries: &[(&str, Entry)]| {
            let values =
                entries.iter().map(|(key, value)| (format!("general.sampling.{key}"), value.clone())).collect();
            of_metadata(&Metadata { values })
        };
        let found = of(&[
            ("temp", Entry::F64(0.6)),
            ("top_k", Entry::I64(20)),
            ("top_p", Entry::F64(0.95)),
            ("min_p", Entry::U64(0)),
            ("penalty_repeat", Entry::F64(1.1)),
            ("penalty_last_n", Entry::I64(128)),
            ("mirostat", Entry::I64(2)),
        ]);
        let wanted = SamplingChoice {
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.95),
            min_p: Some(0.0),
            repeat_penalty: Some(1.1),
            repeat_last_n: Some(128),
            ..SamplingChoice::default()
        };
        assert_eq!(found, wanted);
        let wrong = of(&[
            ("temp", Entry::F64(f64::NAN)),
            ("top_k", Entry::I64(-1)),
            ("top_p", Entry::String("0.9".into())),
            ("min_p", Entry::F64(f64::INFINITY)),
            ("penalty_repeat", Entry::Bool(true)),
            ("penalty_last_n", Entry::U64(u64::MAX)),
        ]);
        assert_eq!(wrong, SamplingChoice::default());
    }
}
