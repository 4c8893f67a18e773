//! Compares tokenizers with llama.cpp's golden encodings and checks that damaged vocabularies are rejected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::engine::weights::gguf::{self, Metadata, Value};

mod added;
mod tricky;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vocab").join(name)
}

fn packed(name: &str) -> Json {
    let file = std::fs::File::open(fixture(&format!("{name}.json.gz"))).unwrap();
    serde_json::from_reader(std::io::BufReader::new(GzDecoder::new(file))).unwrap()
}

/// Unpacks the metadata of `pack_vocabulary.py` to what a GGUF reader returns.
fn unpack(packed: &Json) -> Metadata {
    let mut metadata = Metadata::default();
    let mut insert = |key: &str, value: Value| metadata.values.insert(key.to_owned(), value);
    for (key, value) in packed["metadata"].as_object().unwrap() {
        let value = match value {
            Json::Bool(flag) => Value::Bool(*flag),
            Json::String(text) => Value::String(text.clone()),
            number => Value::U64(number.as_u64().unwrap()),
        };
        insert(key, value);
    }
    let tokens: Vec<String> =
        packed["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap().to_owned()).collect();
    let mut types = Vec::new();
    for run in packed["types"].as_array().unwrap() {
        types.extend(std::iter::repeat_n(run[0].as_i64().unwrap(), run[1].as_u64().unwrap() as usize));
    }
    insert("tokenizer.ggml.token_type", Value::Ints(types));
    if let Some(scores) = packed["scores"].as_array() {
        insert("tokenizer.ggml.scores", Value::Floats(scores.iter().map(|s| s.as_f64().unwrap() as f32).collect()));
    }
    let merges: Vec<i64> = packed["merges"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
    if !merges.is_empty() {
        insert("tokenizer.ggml.merges", Value::Strings(merge_lines(&tokens, &merges)));
    }
    insert("tokenizer.ggml.tokens", Value::Strings(tokens));
    metadata
}

fn merge_lines(tokens: &[String], merges: &[i64]) -> Vec<String> {
    let mut product = 0i64;
    merges
        .chunks(2)
        .map(|pair| {
            product += pair[0];
            let text = &tokens[product as usize];
            let cut = text.char_indices().nth(pair[1] as usize).unwrap().0;
            format!("{} {}", &text[..cut], &text[cut..])
        })
        .collect()
}

/// A tokenizer from the packed vocabularies of llama.cpp.
pub(crate) fn golden_tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&unpack(&packed(name))).unwrap()
}

/// A small SPM vocabulary: bytes, all printable ASCII, a few merged pieces and `special` (piece, GGUF type).
pub(crate) fn small_spm(special: &[(&str, i64)], flags: &[(&str, Value)]) -> Tokenizer {
    let mut pieces: Vec<(String, i64, f32)> =
        vec![("<unk>".into(), 2, 0.0), ("<s>".into(), 3, 0.0), ("</s>".into(), 3, 0.0)];
    pieces.extend((0..=255u8).map(|byte| (bytes::hex_piece(byte), 6, 0.0)));
    pieces.extend((33..127u8).map(|byte| (char::from(byte).to_string(), 1, -100.0)));
    let joined = ["▁", "▁▁", "he", "ll", "hell", "hello", "▁hello", "</", "</s", "s>", "user", "<bos"];
    pieces.extend(joined.iter().enumerate().map(|(rank, piece)| ((*piece).to_owned(), 1, -(rank as f32))));
    pieces.extend(special.iter().map(|&(piece, kind)| (piece.to_owned(), kind, 0.0)));
    let mut metadata = Metadata::default();
    let mut insert = |key: &str, value| metadata.values.insert(format!("tokenizer.ggml.{key}"), value);
    insert("model", Value::String("llama".into()));
    insert("tokens", Value::Strings(pieces.iter().map(|(piece, ..)| piece.clone()).collect()));
    insert("token_type", Value::Ints(pieces.iter().map(|&(_, kind, _)| kind).collect()));
    insert("scores", Value::Floats(pieces.iter().map(|&(.., score)| score).collect()));
    for (key, value) in flags {
        insert(key, value.clone());
    }
    Tokenizer::from_gguf(&metadata).unwrap()
}

static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| golden_tokenizer("gpt-2"));
static LLAMA_SPM: LazyLock<Tokenizer> = LazyLock::new(|| golden_tokenizer("llama-spm"));

/// llama.cpp's golden files: texts between separator lines, and one line of ids for each.
fn cases(inputs: &Path, ids: &Path) -> Vec<(String, Vec<u32>)> {
    let (inputs, ids) = (std::fs::read_to_string(inputs).unwrap(), std::fs::read_to_string(ids).unwrap());
    let inputs: Vec<String> = inputs.split("\n__ggml_vocab_test__\n").map(str::to_owned).collect();
    let lines: Vec<Vec<u32>> =
        ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert!(lines.len() >= 40 && inputs.len() >= lines.len(), "{} texts, {} lines", inputs.len(), lines.len());
    inputs.into_iter().zip(lines).collect()
}

fn check_golden(name: &str, tokenizer: &Tokenizer, cases: &[(String, Vec<u32>)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let got = tokenizer.encode(text);
        if got != *expected {
            let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
            let show = |ids: &[u32]| -> Vec<String> {
                ids.iter().skip(at.saturating_sub(2)).take(8).map(|&id| tokenizer.piece(id).to_owned()).collect()
            };
            let start: String = text.chars().take(60).collect();
            wrong.push(format!("{name}: {start:?} from token {at}: {:?}, expected {:?}", show(&got), show(expected)));
        }
        let decoded = tokenizer.decode(&got);
        if decoded != *text {
            wrong.push(format!("{name}: {text:?} decodes to {decoded:?}"));
        }
    }
    wrong
}

#[test]
fn golden_encodings_match_exactly_and_decode_to_their_text() {
    let mut wrong = Vec::new();
    for name in [
        "llama-bpe",
        "qwen2",
        "llama-spm",
        "phi-3",
        "gpt-2",
        "falcon",
        "deepseek-coder",
        "deepseek-llm",
        "starcoder",
        "refact",
        "mpt",
    ] {
        let mut metadata = unpack(&packed(name));
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        assert_eq!(tokenizer.warnings(), &[] as &[String], "{name}");
        wrong.extend(check_golden(name, &tokenizer, &cases(&fixture("texts.inp"), &fixture(&format!("{name}.out")))));
        if name == "qwen2" {
            // The same vocabulary under another pre-tokenizer name, with its own texts.
            metadata.values.insert("tokenizer.ggml.pre".into(), Value::String("qwen35".into()));
            let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
            wrong.extend(check_golden("qwen35", &tokenizer, &cases(&fixture("qwen35.inp"), &fixture("qwen35.out"))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Checks a folder of llama.cpp's `ggml-vocab-*.gguf` with their `.inp` and `.out`; skipped if the variable is unset.
#[test]
fn golden_vocabularies_from_environment_folder_match() {
    let Some(folder) = std::env::var_os("CHATNAP_GOLDEN_VOCABULARIES").map(PathBuf::from) else { return };
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let inputs = entry.unwrap().path();
        let Some(model) = inputs.to_str().unwrap().strip_suffix(".inp") else { continue };
        let header = gguf::read_header(Path::new(model)).unwrap();
        let started = Instant::now();
        match Tokenizer::from_gguf(&header.metadata) {
            Err(error) => eprintln!("{model}: {error}"),
            Ok(tokenizer) => {
                let loaded = started.elapsed();
                let cases = cases(&inputs, Path::new(&format!("{model}.out")));
                let bad = check_golden(model, &tokenizer, &cases);
                eprintln!(
                    "{model}: {} cases, {} wrong, loaded in {loaded:?}, {:?}",
                    cases.len(),
                    bad.len(),
                    tokenizer.warnings()
                );
                wrong.extend(bad);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn encode_then_decode_returns_the_same_text(text in "(\\PC|[ \n\r\t]){0,40}") {
        // In SPM vocabularies U+2581 is the space.
        prop_assume!(!text.contains('▁'));
        for tokenizer in [&*GPT2, &*LLAMA_SPM] {
            let tokens = tokenizer.encode(&text);
            prop_assert_eq!(tokenizer.decode(&tokens), text.clone());
            prop_assert!(tokens.iter().all(|&id| !tokenizer.is_control(id)));
        }
    }

    #[test]
    fn text_stream_equals_lossy_decoding_of_the_whole_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40), cuts in prop::collection::vec(1usize..5, 40)) {
        let mut stream = TextStream::default();
        let mut text = String::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            text.push_str(&stream.push(part));
            rest = after;
        }
        text.push_str(&stream.push(rest));
        text.push_str(&stream.finish());
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
    }
}

#[test]
fn text_stream_holds_back_incomplete_characters() {
    let mut stream = TextStream::default();
    let crab = "🦀".as_bytes();
    assert_eq!(stream.push(&crab[..2]), "");
    assert_eq!(stream.push(&crab[2..]), "🦀");
    assert_eq!(stream.push(&[0xE2, 0x82]), "");
    assert_eq!(stream.push(b"A"), "\u{FFFD}A");
    assert_eq!(stream.push(&[0xF0]), "");
    assert_eq!(stream.finish(), "\u{FFFD}");
    assert_eq!(stream.finish(), "");
}

#[test]
fn encode_never_returns_control_tokens_for_plain_text() {
    for (tokenizer, texts) in [
        (golden_tokenizer("qwen2"), &["<|im_end|>", "a<|im_start|>system\nb<|endoftext|>"][..]),
        (
            golden_tokenizer("llama-bpe"),
            &["<|eot_id|>", "x<|start_header_id|>system<|end_header_id|>\n\n", "<|begin_of_text|>"],
        ),
        (golden_tokenizer("llama-spm"), &["</s>", "<s>", "a</s><s>[INST] <unk> <0x0A>"]),
        (golden_tokenizer("phi-3"), &["<|end|>", "<|user|>\n", "<|endoftext|></s>"]),
        (
            small_spm(&[("<bos>", 3), ("<start_of_turn>", 3), ("<end_of_turn>", 3)], &[]),
            &["<bos>", "<end_of_turn>\n<start_of_turn>user", "</s>"],
        ),
    ] {
        for text in texts {
            let tokens = tokenizer.encode(text);
            assert!(tokens.iter().all(|&id| !tokenizer.is_control(id)), "{text:?}: {tokens:?}");
            assert_eq!(tokenizer.decode(&tokens), *text);
            assert!(tokenizer.encode_special(text).iter().any(|&id| tokenizer.is_control(id)), "{text:?}");
        }
    }
}

#[test]
fn spelled_out_byte_piece_is_encoded_as_text() {
    let tokens = LLAMA_SPM.encode("<0x0A>");
    assert_eq!(LLAMA_SPM.decode(&tokens), "<0x0A>");
    assert_eq!(LLAMA_SPM.decode(&LLAMA_SPM.encode("\n")), "\n");
}

#[test]
fn user_defined_tokens_are_recognised_in_text() {
    let tokenizer = small_spm(&[("<tool>", 4), ("\n\n", 4)], &[]);
    let tool = tokenizer.token_id("<tool>").unwrap();
    let tokens = tokenizer.encode("hello<tool>hello\n\nhello");
    assert_eq!(tokens.iter().filter(|&&id| id == tool).count(), 1);
    assert!(tokens.contains(&tokenizer.token_id("\n\n").unwrap()));
    assert_eq!(tokenizer.decode(&tokens), "hello<tool>hello\n\nhello");
    assert_eq!(tokenizer.token_bytes(tool), b"<tool>");
}

#[test]
fn space_prefix_is_added_by_encode_and_removed_by_decode() {
    let with = small_spm(&[], &[]);
    assert_eq!(with.piece(with.encode("hello")[0]), "▁hello");
    assert_eq!(with.decode(&with.encode(" hello")), " hello");
    let without = small_spm(&[], &[("add_space_prefix", Value::Bool(false))]);
    assert_eq!(without.piece(without.encode("hello")[0]), "hello");
    assert_eq!(without.decode(&without.encode(" hello")), " hello");
    // `token_bytes` keeps the leading space.
    assert_eq!(with.token_bytes(with.token_id("▁hello").unwrap()), b" hello");
}

#[test]
fn end_of_generation_tokens_are_found_by_name_and_by_id() {
    let llama3 = golden_tokenizer("llama-bpe");
    for piece in ["<|eot_id|>", "<|end_of_text|>"] {
        assert!(llama3.is_end_of_generation(llama3.token_id(piece).unwrap()), "{piece}");
    }
    assert!(!llama3.is_end_of_generation(llama3.token_id("<|start_header_id|>").unwrap()));
    assert!(llama3.adds_bos() && llama3.bos() == llama3.token_id("<|begin_of_text|>"));
    let qwen = golden_tokenizer("qwen2");
    assert!(qwen.is_end_of_generation(qwen.token_id("<|im_end|>").unwrap()));
    assert!(qwen.is_end_of_generation(qwen.eos().unwrap()) && !qwen.adds_bos());
    assert!(LLAMA_SPM.is_end_of_generation(2) && LLAMA_SPM.adds_bos());
    let named = small_spm(&[("<stop>", 3)], &[("eot_token_id", Value::U64(365))]);
    assert!(named.is_end_of_generation(365));
    // An end-of-turn token is a control token, whatever kind the file declares.
    let odd = small_spm(&[("<|im_end|>", 4)], &[]);
    assert!(odd.is_control(odd.token_id("<|im_end|>").unwrap()));
}

#[test]
fn out_of_range_ids_have_an_empty_piece_and_no_bytes() {
    let far = u32::MAX;
    assert_eq!((GPT2.piece(far), GPT2.token_bytes(far)), ("", Vec::new()));
    assert!(!GPT2.is_end_of_generation(far) && !GPT2.is_control(far));
    assert_eq!(GPT2.decode(&[far, GPT2.encode("x")[0]]), "x");
    assert_eq!(GPT2.piece(GPT2.encode(" the")[0]), "Ġthe");
}

#[test]
fn damaged_gguf_vocabulary_is_an_error() {
    let gpt2 = unpack(&packed("gpt-2"));
    let spm = unpack(&packed("llama-spm"));
    let broken = |base: &Metadata, key: &str, value: Option<Value>| {
        let mut metadata = base.clone();
        let key = format!("tokenizer.ggml.{key}");
        match value {
            Some(value) => metadata.values.insert(key, value),
            None => metadata.values.remove(&key),
        };
        Tokenizer::from_gguf(&metadata).err().map(|error| error.0).unwrap_or_default()
    };
    let strings = |texts: &[&str]| Some(Value::Strings(texts.iter().map(|&text| text.to_owned()).collect()));
    for (error, expected) in [
        (broken(&gpt2, "model", None), "tokenizer.ggml.model"),
        (broken(&gpt2, "model", Some(Value::String("bert".into()))), "bert"),
        (broken(&gpt2, "tokens", None), "tokenizer.ggml.tokens"),
        (broken(&gpt2, "tokens", strings(&[])), "0 tokens"),
        (broken(&gpt2, "merges", None), "tokenizer.ggml.merges"),
        (broken(&gpt2, "token_type", Some(Value::Ints(vec![1; 3]))), "3 entries"),
        (broken(&gpt2, "token_type", Some(Value::Bool(true))), "token_type"),
        (broken(&spm, "scores", Some(Value::Floats(vec![0.0]))), "1 entries"),
        (broken(&spm, "scores", Some(Value::Floats(vec![f32::NAN; 32000]))), "not numbers"),
    ] {
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }
}

#[test]
fn out_of_range_special_token_ids_produce_one_warning_each() {
    let keys = [
        "bos",
        "eos",
        "unknown",
        "padding",
        "seperator",
        "mask",
        "cls",
        "eot",
        "eom",
        "fim_pre",
        "fim_suf",
        "fim_mid",
        "fim_pad",
        "fim_rep",
        "fim_sep",
        "prefix",
        "suffix",
        "middle",
    ];
    for (base, sound) in [("gpt-2", &*GPT2), ("llama-spm", &*LLAMA_SPM)] {
        let metadata = unpack(&packed(base));
        for (key, value) in keys.iter().flat_map(|key| {
            [
                Value::U64(sound.vocab_size() as u64),
                Value::U64(u64::from(u32::MAX) - 1),
                Value::I64(-7),
                Value::Bool(true),
            ]
            .map(|value| (format!("tokenizer.ggml.{key}_token_id"), value))
        }) {
            let mut metadata = metadata.clone();
            metadata.values.insert(key.clone(), value.clone());
            let tokenizer =
                Tokenizer::from_gguf(&metadata).unwrap_or_else(|error| panic!("{key} = {value:?}: {error}"));
            let count = tokenizer.warnings().iter().filter(|warning| warning.contains(&key)).count();
            assert_eq!(count, 1, "{key} = {value:?}: {:?}", tokenizer.warnings());
            assert_eq!(tokenizer.encode("Hello, world"), sound.encode("Hello, world"));
        }
        // -1 and 0xFFFFFFFF mean "none" and cause no warning.
        for none in [Value::I64(-1), Value::U64(u64::from(u32::MAX))] {
            let mut metadata = metadata.clone();
            metadata.values.insert("tokenizer.ggml.padding_token_id".into(), none);
            let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
            assert!(
                !tokenizer.warnings().iter().any(|warning| warning.contains("padding")),
                "{:?}",
                tokenizer.warnings()
            );
        }
    }
    // SentencePiece's default ids replace invalid ones, as in llama.cpp.
    let mut metadata = unpack(&packed("llama-spm"));
    metadata.values.insert("tokenizer.ggml.eos_token_id".into(), Value::U64(32_000));
    assert_eq!(Tokenizer::from_gguf(&metadata).unwrap().eos(), Some(2));
}

#[test]
fn merges_of_pieces_outside_the_vocabulary_produce_a_warning() {
    let base = unpack(&packed("gpt-2"));
    let lines = base.strings("tokenizer.ggml.merges").unwrap();
    for odd in ["nosuchtoken x", "a", "", "q zzzz"] {
        let mut metadata = base.clone();
        let with: Vec<String> = lines.iter().cloned().chain([odd.to_owned()]).collect();
        metadata.values.insert("tokenizer.ggml.merges".into(), Value::Strings(with));
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        let warning = tokenizer.warnings().iter().find(|warning| warning.contains("1 of the vocabulary's")).unwrap();
        assert!(warning.contains(&format!("{odd:?}")), "{warning}");
        assert_eq!(tokenizer.encode("Hello, world"), GPT2.encode("Hello, world"));
    }
    // As in llama.cpp: the pair is merged, and the result is encoded as its bytes.
    let mut metadata = base.clone();
    let first: Vec<String> = ["q z".to_owned()].into_iter().chain(lines.iter().cloned()).collect();
    assert_eq!(GPT2.token_id("qz"), None);
    metadata.values.insert("tokenizer.ggml.merges".into(), Value::Strings(first));
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    assert_eq!(tokenizer.encode("qz"), [GPT2.token_id("q").unwrap(), GPT2.token_id("z").unwrap()]);
}

#[test]
fn unknown_gguf_pre_tokenizer_produces_a_warning() {
    let mut metadata = unpack(&packed("gpt-2"));
    metadata.values.insert("tokenizer.ggml.pre".into(), Value::String("brand-new".into()));
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    assert!(tokenizer.warnings()[0].contains("brand-new"));
    assert_eq!(tokenizer.decode(&tokenizer.encode("still works")), "still works");
}

#[test]
fn huge_texts_are_encoded_in_linear_time() {
    let started = Instant::now();
    let megabyte = 1 << 20;
    let gemma = small_spm(&[("\n", 4), ("\n\n", 4), ("\n\n\n", 4)], &[("add_space_prefix", Value::Bool(false))]);
    for text in [
        "a".repeat(megabyte),
        " ".repeat(megabyte),
        "\n".repeat(megabyte),
        "hello ".repeat(megabyte / 6),
        "!?".repeat(megabyte / 2),
    ] {
        for tokenizer in [&*GPT2, &*LLAMA_SPM, &gemma] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(&text)).len(), text.len());
        }
    }
    // A quadratic algorithm would take hours.
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

/// A folder with the packed GPT-2 vocabulary as `tokenizer.json`.
fn gpt2_folder() -> tempfile::TempDir {
    let packed = packed("gpt-2");
    let metadata = unpack(&packed);
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap();
    let merges = metadata.strings("tokenizer.ggml.merges").unwrap();
    let vocab: serde_json::Map<String, Json> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let byte_level =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let added = |id: u64, content: &str, special: bool| serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special});
    let source = serde_json::json!({
        "version": "1.0", "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}, "padding": null,
        "added_tokens": [added(50256, "<|endoftext|>", true), added(50257, "<|im_end|>", true), added(50258, "<tool>", false)],
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges},
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), source.to_string()).unwrap();
    let config = r#"{"bos_token": "<|endoftext|>", "eos_token": {"content": "<|endoftext|>"}, "add_bos_token": false}"#;
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    std::fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [50256, 11]}"#).unwrap();
    folder
}

#[test]
fn folder_tokenizer_equals_the_gguf_tokenizer() {
    let folder = gpt2_folder();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let wrong = check_golden("folder", &tokenizer, &cases(&fixture("texts.inp"), &fixture("gpt-2.out")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(tokenizer.vocab_size(), 50259);
    assert_eq!(tokenizer.eos(), Some(50256));
    assert!([50256, 50257, 11].iter().all(|&id| tokenizer.is_end_of_generation(id)) && !tokenizer.adds_bos());
    assert_eq!(tokenizer.encode("<tool>"), [50258]);
    let typed = tokenizer.encode("a<|im_end|>b");
    assert!(typed.len() > 3 && tokenizer.decode(&typed) == "a<|im_end|>b");
    assert_eq!(tokenizer.encode_special("a<|im_end|>b"), [64, 50257, 65]);
}

#[test]
fn damaged_tokenizer_json_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = |text: &str| {
        std::fs::write(folder.path().join("tokenizer.json"), text).unwrap();
        Tokenizer::from_folder(folder.path()).err().unwrap().0
    };
    for text in ["", "{", "[]", "{}", r#"{"added_tokens": [{"id": -1}]}"#, r#"{"model": {"type": "BPE"}}"#] {
        assert!(error(text).contains("tokenizer.json"), "{text}: {}", error(text));
    }
    let far = r#"{"version":"1.0","added_tokens":[{"id":4000000000,"content":"x"}],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#;
    assert!(error(far).contains("4000000000"));
    let empty = tempfile::tempdir().unwrap();
    assert!(Tokenizer::from_folder(empty.path()).err().unwrap().0.contains("no tokenizer.json"));
}

#[test]
fn metaspace_prepend_scheme_controls_the_space_prefix() {
    let folder = |scheme: &str| {
        let source = serde_json::json!({
            "version": "1.0", "added_tokens": [{"id": 9, "content": "<x>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
            "normalizer": null, "post_processor": null, "decoder": null,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false},
            "model": {"type": "BPE", "vocab": {"▁": 0, "a": 1, "▁a": 2}, "merges": [["▁", "a"]]},
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), source.to_string()).unwrap();
        Tokenizer::from_folder(folder.path()).unwrap()
    };
    assert_eq!(folder("always").encode_special("a<x>a"), [2, 9, 2]);
    assert_eq!(folder("first").encode_special("a<x>a"), [2, 9, 1]);
    assert_eq!(folder("never").encode_special("a<x>a"), [1, 9, 1]);
    for scheme in ["always", "first", "never"] {
        let tokenizer = folder(scheme);
        assert_eq!(tokenizer.decode(&tokenizer.encode("a a")), "a a", "{scheme}");
    }
}
