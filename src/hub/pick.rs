//! Selects the files of a repository (or of its cached part) that make up the requested model. Pure functions.

use super::local::{part_name, split_name};
use super::name::Pick;

/// The files of one model, by their names within the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// GGUF parts, in order.
    Gguf(Vec<String>),
    /// Configuration, tokenizer and weights of a safetensors folder.
    Safetensors(Vec<String>),
}

impl Choice {
    pub(super) fn files(&self) -> &[String] {
        match self {
            Self::Gguf(files) | Self::Safetensors(files) => files,
        }
    }
}

/// Quantizations in order of preference; unlisted ones rank last.
const PREFERENCE: &[&str] = &[
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M",
    "Q3_K_S", "Q2_K", "BF16", "F16", "F32",
];

/// Files of a safetensors folder beside the weights. Only `config.json` is required.
const COMPANIONS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "model.safetensors.index.json",
];

/// The files that `pick` selects from `files`; the error lists the available quantizations.
pub(super) fn choose(files: &[String], pick: &Pick) -> Result<Choice, String> {
    match pick {
        Pick::Best => safetensors(files)
            .or_else(|| best_gguf(files))
            .ok_or_else(|| "it holds neither GGUF files nor config.json with safetensors".to_owned()),
        Pick::Safetensors => safetensors(files).ok_or_else(|| "it has no config.json with safetensors".to_owned()),
        Pick::File(name) => file(files, name),
        Pick::Quantization(tag) => models(files)
            .find(|name| quantization(name).is_some_and(|found| found == tag))
            .or_else(|| models(files).find(|name| is_tag(tag) && is_tagged(name, tag)))
            .ok_or_else(|| format!("it has no GGUF of quantization {tag}{}", there_is(files)))
            .and_then(|name| parts(files, name)),
    }
}

fn file(files: &[String], name: &str) -> Result<Choice, String> {
    match files.iter().find(|file| *file == name) {
        Some(found) => parts(files, found),
        None => Err(format!("it has no file {name}{}", there_is(files))),
    }
}

fn there_is(files: &[String]) -> String {
    let mut known: Vec<_> = models(files).filter_map(quantization).collect();
    known.dedup();
    if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) }
}

/// GGUF files that are models: no projectors, no importance matrices; of a split file only the first part.
fn models(files: &[String]) -> impl Iterator<Item = &str> {
    files.iter().map(String::as_str).filter(|file| {
        let name = base(file).to_ascii_lowercase();
        let is_later_part = split_name(base(file)).is_some_and(|(stem, count)| base(file) != part_name(stem, 1, count));
        name.ends_with(".gguf") && !name.contains("mmproj") && !name.contains("imatrix") && !is_later_part
    })
}

fn best_gguf(files: &[String]) -> Option<Choice> {
    let rank = |name: &&str| {
        let tag = quantization(name).unwrap_or_default();
        PREFERENCE.iter().position(|known| *known == tag).unwrap_or(PREFERENCE.len())
    };
    // `min_by_key` returns the first minimum, so the repository's own order breaks ties.
    models(files).min_by_key(rank).and_then(|name| parts(files, name).ok())
}

/// All parts of a split file, given any of them; the file itself if it is not split.
fn parts(files: &[String], name: &str) -> Result<Choice, String> {
    let Some((stem, count)) = split_name(base(name)) else { return Ok(Choice::Gguf(vec![name.to_owned()])) };
    let folder = &name[..name.len() - base(name).len()];
    let parts: Vec<_> = (1..=count).map(|i| format!("{folder}{}", part_name(stem, i, count))).collect();
    match parts.iter().find(|part| !files.contains(part)) {
        None => Ok(Choice::Gguf(parts)),
        Some(missing) => Err(format!("its part {missing} is missing")),
    }
}

fn safetensors(files: &[String]) -> Option<Choice> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let mut weights: Vec<_> =
        files.iter().filter(|file| file.ends_with(".safetensors") && !file.contains('/')).cloned().collect();
    // Some repositories carry the weights twice, once as `consolidated*.safetensors`.
    if weights.iter().any(|file| file.starts_with("model")) {
        weights.retain(|file| file.starts_with("model"));
    }
    if weights.is_empty() || !has("config.json") {
        return None;
    }
    let mut all: Vec<_> = COMPANIONS.iter().filter(|name| has(name)).map(|name| (*name).to_owned()).collect();
    all.extend(weights);
    Some(Choice::Safetensors(all))
}

/// `Q4_K_M` of `model-Q4_K_M.gguf`, `model.q4_k_m.gguf`, `Q4_K_M/model-Q4_K_M-00001-of-00002.gguf`.
pub(super) fn quantization(name: &str) -> Option<&'static str> {
    PREFERENCE.iter().copied().find(|tag| is_tagged(name, tag))
}

/// Whether the upper-case `tag` occurs in a file's name between separators.
fn is_tagged(name: &str, tag: &str) -> bool {
    let name = base(name).to_ascii_uppercase();
    name.match_indices(tag).any(|(at, _)| {
        let before = name[..at].chars().next_back();
        let after = name[at + tag.len()..].chars().next();
        before.is_some_and(|c| "-._".contains(c)) && after.is_some_and(|c| "-.".contains(c))
    })
}

/// Whether a text has the form of a quantization that `PREFERENCE` may not list: `IQ4_XS`, `UD-Q4_K_XL`, `MXFP4`.
fn is_tag(text: &str) -> bool {
    let follows_digit = |part: &str, start: &str| {
        part.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.split('-').any(|part| ["Q", "IQ", "TQ", "F", "BF", "MXFP"].iter().any(|start| follows_digit(part, start)))
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn best_pick_prefers_a_safetensors_folder_with_its_companions() {
        let files = names(&[
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "original/params.json",
            "tokenizer.json",
            "x-Q4_K_M.gguf",
        ]);
        let expected = names(&[
            "config.json",
            "tokenizer.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ]);
        assert_eq!(choose(&files, &Pick::Best), Ok(Choice::Safetensors(expected)));
    }

    #[test]
    fn best_gguf_prefers_q4_k_m_and_skips_projectors() {
        let files = names(&["a-Q8_0.gguf", "mmproj-a-Q4_K_M.gguf", "a-Q4_K_M.gguf", "a-IQ4_XS.gguf", "a.imatrix.gguf"]);
        assert_eq!(choose(&files, &Pick::Best), Ok(Choice::Gguf(names(&["a-Q4_K_M.gguf"]))));
        let files = names(&["a-IQ4_XS.gguf"]);
        assert_eq!(choose(&files, &Pick::Best), Ok(Choice::Gguf(names(&["a-IQ4_XS.gguf"]))));
        assert!(choose(&names(&["README.md"]), &Pick::Best).is_err());
    }

    #[test]
    fn split_gguf_resolves_to_all_parts_in_order() {
        let files =
            names(&["q8/a-Q8_0-00002-of-00002.gguf", "q8/a-Q8_0-00001-of-00002.gguf", "b-Q4_0-00001-of-00002.gguf"]);
        let both = Ok(Choice::Gguf(names(&["q8/a-Q8_0-00001-of-00002.gguf", "q8/a-Q8_0-00002-of-00002.gguf"])));
        assert_eq!(choose(&files, &Pick::Quantization("Q8_0".into())), both);
        assert_eq!(choose(&files, &Pick::File("q8/a-Q8_0-00002-of-00002.gguf".into())), both);
        assert!(choose(&files, &Pick::Quantization("Q4_0".into())).unwrap_err().contains("00002-of-00002"));
    }

    #[test]
    fn unlisted_quantizations_match_by_file_name() {
        let files = names(&["a-8B-Q8_0.gguf", "a-8B-IQ4_XS.gguf", "a-8B-UD-Q4_K_XL.gguf"]);
        for (tag, file) in [("IQ4_XS", "a-8B-IQ4_XS.gguf"), ("UD-Q4_K_XL", "a-8B-UD-Q4_K_XL.gguf")] {
            let found = choose(&files, &Pick::Quantization(tag.into()));
            assert_eq!(found, Ok(Choice::Gguf(names(&[file]))));
        }
        for tag in ["8B", "A", "Q4_K"] {
            assert!(choose(&files, &Pick::Quantization(tag.into())).is_err(), "{tag}");
        }
    }

    #[test]
    fn errors_list_the_available_quantizations() {
        let files = names(&["a-Q8_0.gguf", "a.Q4_K_M.gguf"]);
        assert!(choose(&files, &Pick::Quantization("Q2_K".into())).unwrap_err().ends_with("it has Q8_0, Q4_K_M"));
        assert!(choose(&files, &Pick::File("b.gguf".into())).unwrap_err().contains("no file b.gguf"));
    }

    #[test]
    fn quantization_is_parsed_from_the_file_name() {
        assert_eq!(quantization("Llama-Q4_K_M.gguf"), Some("Q4_K_M"));
        assert_eq!(quantization("SmolLM2.Q4_1.gguf"), Some("Q4_1"));
        assert_eq!(quantization("x/y-bf16-00001-of-00002.gguf"), Some("BF16"));
        assert_eq!(quantization("Q4_K_M/plain.gguf"), None);
    }
}
