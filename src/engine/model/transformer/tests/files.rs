//! Loading: progress, cancellation, damaged files, context lengths out of range.

use super::*;
use crate::engine::weights::testing::Meta;
use crate::protocol::LoadPhase;

fn written(spec: &Spec) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = spec.gguf().write(folder.path(), &spec.tensors());
    (folder, path)
}

fn failure(result: Result<Transformer, ModelError>) -> ModelError {
    match result {
        Ok(_) => panic!("this should not have loaded"),
        Err(error) => error,
    }
}

#[test]
fn progress_counts_the_bytes_of_the_weights() {
    let spec = Spec::new("llama");
    let (_folder, path) = written(&spec);
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path]), None).unwrap();
    let mut seen = Vec::new();
    let mut note = |p: LoadProgress| seen.push(p);
    let model = Transformer::load(&parts.config, &parts.plan, None, &CancelFlag::default(), &mut note).unwrap();
    let total = spec.tensors().values().map(|t| t.bytes.len() as u64).sum::<u64>();
    assert_eq!(model.memory().weights, total);
    assert!(seen.iter().all(|p| p.phase == LoadPhase::Read && p.total == Some(total)));
    assert!(seen.windows(2).all(|pair| pair[0].done < pair[1].done));
    assert_eq!((seen[0].done, seen.last().unwrap().done), (0, total));
}

#[test]
fn a_cancelled_load_stops() {
    let (_folder, path) = written(&Spec::new("llama"));
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path]), None).unwrap();
    let cancel = CancelFlag::default();
    cancel.cancel();
    let result = Transformer::load(&parts.config, &parts.plan, None, &cancel, &mut |_| {});
    assert_eq!(failure(result), ModelError::Cancelled);
}

#[test]
fn a_file_truncated_after_its_header_was_read_is_an_error() {
    let (_folder, path) = written(&Spec::new("llama"));
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path.clone()]), None).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let result = Transformer::load(&parts.config, &parts.plan, None, &CancelFlag::default(), &mut |_| {});
    assert!(
        matches!(failure(result), ModelError::Invalid(text) if text.contains("model.gguf") && text.contains("ended"))
    );
}

#[test]
fn a_truncated_file_is_an_error() {
    let (_folder, path) = written(&Spec::new("llama"));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 64).unwrap();
    assert!(
        matches!(failure(open(&ModelFiles::Gguf(vec![path]))), ModelError::Truncated(text) if text.contains("truncated"))
    );
}

#[test]
fn an_unknown_architecture_lists_the_known_ones() {
    let mut spec = Spec::new("llama");
    spec.architecture = "mamba";
    let (_folder, path) = written(&spec);
    let error = failure(open(&ModelFiles::Gguf(vec![path])));
    let ModelError::Unsupported(text) = error else { panic!("{error:?}") };
    for known in ["\"mamba\"", "llama", "qwen2", "qwen3", "gemma3", "phi3"] {
        assert!(text.contains(known), "{text}");
    }
}

#[test]
fn a_context_above_the_trained_length_is_an_error_with_the_number() {
    let (_folder, path) = written(&Spec::new("llama"));
    let files = ModelFiles::Gguf(vec![path]);
    let error = ModelParts::open(&files, Some(513)).err().unwrap();
    assert!(matches!(&error, ModelError::Unsupported(text) if text.contains("513") && text.contains("512")), "{error}");
    assert_eq!(ModelParts::open(&files, Some(100)).unwrap().config.context_length, 100);
    assert_eq!(ModelParts::open(&files, None).unwrap().config.context_length, 512);
}

#[test]
fn a_missing_or_misshapen_tensor_is_named_in_the_error() {
    let spec = Spec::new("llama");
    let folder = tempfile::tempdir().unwrap();
    for (name, wrong) in [("blk.1.attn_k.weight", true), ("blk.0.ffn_norm.weight", false)] {
        let mut tensors = spec.tensors();
        if wrong {
            let other = tensors["blk.1.attn_q.weight"].clone();
            tensors.insert(name.into(), other);
        } else {
            tensors.remove(name);
        }
        let path = spec.gguf().write(folder.path(), &tensors);
        let error = failure(open(&ModelFiles::Gguf(vec![path])));
        assert!(matches!(&error, ModelError::Invalid(text) if text.contains(name)), "{error}");
    }
}

#[test]
fn out_of_range_metadata_values_are_errors() {
    let spec = Spec::new("llama");
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("attention.head_count", Meta::U32(0)),
        ("attention.head_count_kv", Meta::U32(3)),
        ("attention.head_count_kv", Meta::U32(0)),
        ("attention.key_length", Meta::U32(u32::MAX)),
        ("block_count", Meta::U32(u32::MAX)),
        ("embedding_length", Meta::U32(0)),
        ("context_length", Meta::U32(0)),
        ("rope.dimension_count", Meta::U32(66)),
        ("rope.dimension_count", Meta::U32(3)),
        ("rope.freq_base", Meta::F32(f32::NAN)),
        ("rope.freq_base", Meta::F32(-3.0)),
        ("attention.layer_norm_rms_epsilon", Meta::F32(f32::INFINITY)),
        ("feed_forward_length", Meta::Text("many".into())),
    ];
    for (key, value) in cases {
        let mut writer = spec.gguf();
        let pair = writer.pairs.iter_mut().find(|(name, _)| name.ends_with(key)).unwrap();
        pair.1 = value.clone();
        let path = writer.write(folder.path(), &spec.tensors());
        let error = failure(open(&ModelFiles::Gguf(vec![path])));
        assert!(matches!(error, ModelError::Invalid(_) | ModelError::Unsupported(_)), "{key} = {value:?}: {error}");
    }
}

#[test]
fn a_split_model_is_found_from_its_first_file() {
    let spec = Spec::new("llama");
    let folder = tempfile::tempdir().unwrap();
    let tensors = spec.tensors();
    let middle = tensors.keys().nth(tensors.len() / 2).unwrap().clone();
    let mut first = tensors.clone();
    let second = first.split_off(&middle);
    let path = |n: u32| folder.path().join(format!("m-0000{n}-of-00002.gguf"));
    std::fs::write(path(1), spec.gguf().bytes(&first)).unwrap();
    assert!(
        matches!(failure(open(&ModelFiles::Gguf(vec![path(1)]))), ModelError::Invalid(text) if text.contains("missing"))
    );
    let pairs = vec![("split.no".to_owned(), Meta::U32(1)), ("split.count".to_owned(), Meta::U32(2))];
    std::fs::write(path(2), crate::engine::weights::testing::GgufWriter::new(pairs).bytes(&second)).unwrap();
    let mut model = open(&ModelFiles::Gguf(vec![path(1)])).unwrap();
    check("split", &spec, &tensors, &mut model, EXACT);
    assert!(open(&ModelFiles::Gguf(vec![path(2)])).is_err());
    let wrong = vec![("split.no".to_owned(), Meta::U32(4))];
    std::fs::write(path(2), crate::engine::weights::testing::GgufWriter::new(wrong).bytes(&second)).unwrap();
    assert!(
        matches!(failure(open(&ModelFiles::Gguf(vec![path(1)]))), ModelError::Invalid(text) if text.contains("split.no"))
    );
}

#[test]
fn an_inconsistent_safetensors_header_is_an_error() {
    let spec = Spec { kind: GgmlType::BF16, ..Spec::new("llama") };
    let folder = tempfile::tempdir().unwrap();
    spec.write_folder(folder.path(), &spec.tensors(), 1);
    let path = folder.path().join("model.safetensors");
    let sound = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(sound[8..8 + length].to_vec()).unwrap();
    let with_header =
        |header: &str| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &sound[8 + length..]].concat();
    let swapped = |old: &str, new: &str| {
        assert!(header.contains(old), "{old}");
        with_header(&header.replacen(old, new, 1))
    };
    let overlapping = {
        let mut json: serde_json::Value = serde_json::from_str(&header).unwrap();
        let place = json["model.layers.0.self_attn.q_proj.weight"]["data_offsets"].clone();
        json["model.layers.1.self_attn.q_proj.weight"]["data_offsets"] = place;
        with_header(&json.to_string())
    };
    let cases = [
        ("a huge header", [&u64::MAX.to_le_bytes()[..], &sound[8..]].concat()),
        ("a cut file", sound[..sound.len() - 2].to_vec()),
        ("a cut header", sound[..length / 2].to_vec()),
        ("nothing", Vec::new()),
        ("no JSON", with_header("[[[[[")),
        ("deep nesting", with_header(&"[".repeat(100_000))),
        ("a shape that wraps", swapped("\"shape\":[300,256]", "\"shape\":[9223372036854775808,4]")),
        ("a shape of another size", swapped("\"shape\":[300,256]", "\"shape\":[300,255]")),
        ("overlapping tensors", overlapping),
        ("a name that comes twice", swapped("model.norm.weight", "model.embed_tokens.weight")),
        ("a foreign type", swapped("\"BF16\"", "\"F8_E4M3\"")),
    ];
    for (label, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = failure(open(&ModelFiles::Safetensors(folder.path().to_path_buf())));
        let sort = matches!(&error, ModelError::Invalid(_) | ModelError::Truncated(_) | ModelError::Unsupported(_));
        assert!(sort && error.to_string().contains("safetensors"), "{label}: {error}");
    }
    std::fs::write(&path, &sound).unwrap();
    std::fs::write(
        folder.path().join("model.safetensors.index.json"),
        r#"{"weight_map": {"model.norm.weight": "../model.safetensors"}}"#,
    )
    .unwrap();
    assert!(open(&ModelFiles::Safetensors(folder.path().to_path_buf())).is_err());
}

#[test]
fn an_incomplete_config_json_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec { kind: GgmlType::BF16, ..Spec::new("llama") };
    spec.write_folder(folder.path(), &spec.tensors(), 1);
    for (config, lacks) in [
        ("{}", "it has no \"model_type\""),
        (r#"{"model_type": ""}"#, "it has no \"model_type\""),
        (r#"{"model_type": "llama"}"#, "missing field `hidden_size`"),
    ] {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let said = failure(open(&ModelFiles::Safetensors(folder.path().to_path_buf()))).to_string();
        assert!(said.contains("config.json: this file describes the model"), "{said}");
        assert!(said.contains(lacks) && said.contains("replace it by the config.json of the repository"), "{said}");
    }
}

#[test]
fn a_vocabulary_only_gguf_file_is_named_in_the_error() {
    let spec = Spec::new("llama");
    let folder = tempfile::tempdir().unwrap();
    let path = spec.gguf().write(folder.path(), &std::collections::BTreeMap::new());
    let said = failure(open(&ModelFiles::Gguf(vec![path]))).to_string();
    assert!(said.contains("a vocabulary without a model"), "{said}");
}

#[test]
fn rope_scaling_that_is_not_an_object_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec { kind: GgmlType::BF16, ..Spec::new("llama") };
    spec.write_folder(folder.path(), &spec.tensors(), 1);
    let path = folder.path().join("config.json");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (scaling, sound) in [("5", false), (r#""yarn""#, false), ("[]", false), ("null", true)] {
        let mut config = config.clone();
        config["rope_scaling"] = serde_json::from_str(scaling).unwrap();
        std::fs::write(&path, config.to_string()).unwrap();
        let opened = open(&ModelFiles::Safetensors(folder.path().to_path_buf()));
        assert_eq!(opened.is_ok(), sound, "{scaling}: {:?}", opened.err());
    }
}
