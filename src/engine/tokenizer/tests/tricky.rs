//! Compares encodings of difficult texts with llama.cpp's (`tests/fixtures/vocab/tricky.json.gz`, written by
//! `tricky.py` there).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    vocabularies: BTreeMap<String, Expected>,
}

/// Tokens of each text, without and with recognition of control tokens.
#[derive(Deserialize)]
struct Expected {
    plain: Vec<Vec<u32>>,
    special: Vec<Vec<u32>>,
}

/// Describes the difference for one text. Plain text must not encode to a control token, even if it does in llama.cpp.
fn wrong(tokenizer: &Tokenizer, text: &str, plain: &[u32], special: &[u32]) -> Option<String> {
    let show = |ids: &[u32]| ids.iter().map(|&id| tokenizer.piece(id).to_owned()).collect::<Vec<_>>();
    let ours = tokenizer.encode(text);
    let stricter = plain.iter().any(|&id| tokenizer.is_control(id)) && !ours.iter().any(|&id| tokenizer.is_control(id));
    if ours != plain && !stricter {
        return Some(format!("plain {text:?}:\n  {:?}\n  {:?}", show(&ours), show(plain)));
    }
    let ours = tokenizer.encode_special(text);
    (ours != special && !stricter).then(|| format!("special {text:?}:\n  {:?}\n  {:?}", show(&ours), show(special)))
}

fn report(name: &str, count: usize, wrong: &[String], all: &mut Vec<String>) {
    println!("{name}: {} of {count} differ", wrong.len());
    all.extend(wrong.iter().take(8).map(|text| format!("{name}: {text}")));
}

#[test]
fn tricky_texts_encode_as_in_llama_cpp() {
    let file = std::fs::File::open(fixture("tricky.json.gz")).unwrap();
    let golden: Golden = serde_json::from_reader(std::io::BufReader::new(GzDecoder::new(file))).unwrap();
    let mut all = Vec::new();
    for (name, expected) in &golden.vocabularies {
        let mut metadata = unpack(&packed(if name == "qwen35" { "qwen2" } else { name }));
        if name == "qwen35" {
            metadata.values.insert("tokenizer.ggml.pre".into(), Value::String(name.clone()));
        }
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        let cases = golden.texts.iter().zip(&expected.plain).zip(&expected.special);
        let found: Vec<_> =
            cases.filter_map(|((text, plain), special)| wrong(&tokenizer, text, plain, special)).collect();
        report(name, golden.texts.len(), &found, &mut all);
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert!(golden.vocabularies.len() >= 12 && golden.texts.len() >= 300);
}

/// Checks the vocabularies and texts of a folder written by `tricky.py --cases`.
#[test]
#[ignore = "needs a folder of cases (CHATNAP_TOKENIZER_CASES)"]
fn cases_from_environment_folder_encode_as_in_llama_cpp() {
    #[derive(Deserialize)]
    struct Cases {
        gguf: PathBuf,
        texts: Vec<String>,
        expected: Expected,
    }
    let folder = std::env::var_os("CHATNAP_TOKENIZER_CASES").expect("CHATNAP_TOKENIZER_CASES names a folder");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let cases: Cases = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let tokenizer = Tokenizer::from_gguf(&gguf::read_header(&cases.gguf).unwrap().metadata).unwrap();
        let rows = cases.texts.iter().zip(&cases.expected.plain).zip(&cases.expected.special);
        let found: Vec<_> =
            rows.filter_map(|((text, plain), special)| wrong(&tokenizer, text, plain, special)).collect();
        report(&cases.gguf.display().to_string(), cases.texts.len(), &found, &mut all);
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
