//! Pre-tokenizers by name: the patterns by which BPE families split text into words before merging.
//!
//! The patterns are those that the families publish in `tokenizer.json`, in the form that llama.cpp uses.
//! In [`Step::Words`] the ending `\s+(?!\S)|\s+` is implied.

/// One pass over the words of the previous pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Matches are words, and so is the text between them.
    Pattern(&'static str),
    /// As `Pattern`, and runs of white space leave their last character to the following word.
    Words(&'static str),
    /// As `Pattern`, and runs of white space are split into 512, 256, … 2, 1 characters and leave one to the next.
    HalvedRuns(&'static str),
    /// Runs of digits in groups of three from the right.
    Digits {
        /// Only 0 to 9, not all of `char::is_numeric`.
        ascii: bool,
        /// Only runs that no ASCII letter, digit or `_` follows.
        whole_words: bool,
    },
}

/// The rules of a pre-tokenizer.
#[derive(Debug, PartialEq, Eq)]
pub struct PreTokenizer {
    pub steps: &'static [Step],
    /// Whether a word that is in the vocabulary becomes one token, without merges.
    pub ignore_merges: bool,
    /// Whether BOS is added before plain text if the file has no `add_bos_token`.
    pub adds_bos: bool,
    /// Whether symbols are bytes in GPT-2's encoding; if not, they are characters, with spaces as `▁`.
    pub byte_level: bool,
}

const PLAIN: PreTokenizer = PreTokenizer { steps: GPT2, ignore_merges: false, adds_bos: false, byte_level: true };

const GPT2_WORDS: Step = Step::Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
const GPT2: &[Step] = &[GPT2_WORDS];
const STARCODER: &[Step] = &[Step::Pattern(r"\p{N}"), GPT2_WORDS];
const DEFAULT: &[Step] =
    &[Step::Pattern(r"[\p{P}$+<=>^~|]+"), GPT2_WORDS, Step::Pattern(r"\p{N}+"), Step::Pattern("[0-9][0-9][0-9]")];
const FALCON: &[Step] = &[Step::Pattern(r"[\p{P}$+<=>^~|`]+"), GPT2_WORDS, Step::Pattern("[0-9][0-9][0-9]")];
const LLAMA3_WORDS: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";
const LLAMA3: &[Step] = &[Step::Words(LLAMA3_WORDS)];
const JAIS2: &[Step] = &[Step::HalvedRuns(LLAMA3_WORDS)];
const QWEN2_WORDS: Step = Step::Words(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const QWEN2: &[Step] = &[QWEN2_WORDS];
const QWEN35: &[Step] = &[Step::Words(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
)];
const UFAKZEKA: &[Step] = &[Step::Words(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+")];
const BAILINGMOE: &[Step] = &[Step::Words(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]",
)];
const SEED_CODER: &[Step] = &[Step::Words(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+",
)];
const EXAONE_MOE: &[Step] = &[Step::Words(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]",
)];
const MINICPM5: &[Step] = &[
    Step::Pattern(r"\p{N}{1,3}"),
    Step::Words(
        r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    ),
];
// Without U+3000 in the punctuation: llama.cpp removes non-ASCII white space from such classes.
const DEEPSEEK_LLM: &[Step] = &[
    Step::Pattern(r"[\r\n]"),
    Step::Pattern(
        r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+",
    ),
    Step::Pattern(r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3001}\x{3002}]+"),
    Step::Pattern(r"\s+$"),
    Step::Pattern(r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+"),
    Step::Pattern(r"\p{N}+"),
];
const DEEPSEEK_CODER: &[Step] = &[
    Step::Pattern(r"[\r\n]"),
    Step::Pattern(r"\s?\p{L}+"),
    Step::Pattern(r"\s?\p{P}+"),
    Step::Pattern(r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+"),
    Step::Pattern(r"\p{N}"),
];
const DEEPSEEK_V3_WORDS: Step = Step::Words(
    r#"[!"\#$%\&'()*+,\-./:;<=>?@\[\\\]^_`{|}\~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"#,
);
const DEEPSEEK_V3: &[Step] = &[
    Step::Pattern(r"\p{N}{1,3}"),
    Step::Pattern(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"),
    DEEPSEEK_V3_WORDS,
];
const SPARK2_5: &[Step] = &[
    Step::Pattern(r"\p{N}{1,3}"),
    Step::Pattern(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"),
    Step::Words(
        r#"[!"\#$%\&'()*+,\-./:;<=>?@\[\\\]^_`{|}\~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]"#,
    ),
    Step::Pattern(r"\p{N}"),
];
const AFMOE: &[Step] = &[
    Step::Digits { ascii: false, whole_words: false },
    Step::Pattern(
        r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{309F}\x{30A0}-\x{30FF}\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{0E40}-\x{0E7F}\x{0E80}-\x{0EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+",
    ),
    DEEPSEEK_V3_WORDS,
];
const YOUTU: &[Step] = &[
    Step::Pattern(
        r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+",
    ),
    Step::Words(
        r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
    ),
];
const TINY_AYA: &[Step] = &[
    Step::Digits { ascii: true, whole_words: true },
    Step::Words(
        r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
    ),
];
const SUPERBPE: &[Step] = &[Step::Pattern(r"\p{N}+"), Step::Digits { ascii: true, whole_words: false }];
const BLOOM: &[Step] = &[Step::Pattern(r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+")];
const VIKING: &[Step] =
    &[Step::Pattern(r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"), Step::Pattern(r"\p{N}")];
const TEKKEN: &[Step] = &[Step::Words(
    r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
)];
const GPT4O: &[Step] = &[Step::Words(
    r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+(?:'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))?|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*(?:'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
)];
const GRANITE_EMBEDDING: &[Step] = &[Step::Words(
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^a-z]]*[\p{L}\p{M}&&[^A-Z]]+(?:'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))?|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^a-z]]+[\p{L}\p{M}&&[^A-Z]]*(?:'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
)];
const CHAMELEON: &[Step] = &[
    Step::Pattern("<sentinel:[0-9]+>"),
    Step::Pattern("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
    Step::Pattern(r"([\t\n]|    |  )"),
    Step::Pattern(r"\p{N}"),
    Step::Pattern(r"[\p{P}!-/:-@\[-`{-\~]"),
    GPT2_WORDS,
];
const KIMI_K2: &[Step] = &[Step::Words(
    r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B820}-\x{2EBEF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]+|[^\r\n\p{L}\p{N}]?[\p{L}--[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B820}-\x{2EBEF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]]+(?:'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE]))?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
)];
const LINES: &[Step] = &[Step::Pattern(r"[^\n]+|[\n]+")];
const LAGUNA: &[Step] = &[Step::Pattern(r"[^\n]+|[\n]+"), QWEN2_WORDS];

/// The rules, each with the values of `tokenizer.ggml.pre` that select it.
static KNOWN: &[(&[&str], PreTokenizer)] = &[
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        PreTokenizer { steps: LLAMA3, ignore_merges: true, adds_bos: true, ..PLAIN },
    ),
    (&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], PreTokenizer { steps: LLAMA3, ..PLAIN }),
    (&["glm5"], PreTokenizer { steps: LLAMA3, ignore_merges: true, ..PLAIN }),
    (&["jais-2"], PreTokenizer { steps: JAIS2, ..PLAIN }),
    (&["spark2_5"], PreTokenizer { steps: SPARK2_5, ..PLAIN }),
    (&["tekken"], PreTokenizer { steps: TEKKEN, ignore_merges: true, adds_bos: true, ..PLAIN }),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "megrez", "hunyuan", "grok-2", "solar-open"],
        PreTokenizer { steps: QWEN2, ..PLAIN },
    ),
    (&["qwen35"], PreTokenizer { steps: QWEN35, ..PLAIN }),
    (&["default"], PreTokenizer { steps: DEFAULT, ..PLAIN }),
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "roberta-bpe",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
        ],
        PLAIN,
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        PreTokenizer { steps: STARCODER, ..PLAIN },
    ),
    (&["falcon"], PreTokenizer { steps: FALCON, ..PLAIN }),
    (&["deepseek-llm"], PreTokenizer { steps: DEEPSEEK_LLM, ..PLAIN }),
    (&["deepseek-coder"], PreTokenizer { steps: DEEPSEEK_CODER, ..PLAIN }),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], PreTokenizer { steps: DEEPSEEK_V3, ..PLAIN }),
    (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], PreTokenizer { steps: GPT4O, ..PLAIN }),
    (&["granite-embed-multi-97m"], PreTokenizer { steps: GRANITE_EMBEDDING, ignore_merges: true, ..PLAIN }),
    (&["youtu"], PreTokenizer { steps: YOUTU, ignore_merges: true, ..PLAIN }),
    (&["tiny_aya", "cohere2moe"], PreTokenizer { steps: TINY_AYA, ..PLAIN }),
    (&["superbpe"], PreTokenizer { steps: SUPERBPE, ..PLAIN }),
    (&["bailingmoe", "bailingmoe2", "llada-moe"], PreTokenizer { steps: BAILINGMOE, ..PLAIN }),
    (&["seed-coder"], PreTokenizer { steps: SEED_CODER, ..PLAIN }),
    (&["ufakzeka"], PreTokenizer { steps: UFAKZEKA, ..PLAIN }),
    (&["exaone-moe"], PreTokenizer { steps: EXAONE_MOE, ..PLAIN }),
    (&["minicpm5"], PreTokenizer { steps: MINICPM5, ignore_merges: true, ..PLAIN }),
    (&["poro-chat", "bloom", "gpt3-finnish"], PreTokenizer { steps: BLOOM, ..PLAIN }),
    (&["viking"], PreTokenizer { steps: VIKING, ..PLAIN }),
    (&["chameleon"], PreTokenizer { steps: CHAMELEON, adds_bos: true, ..PLAIN }),
    (&["kimi-k2"], PreTokenizer { steps: KIMI_K2, ..PLAIN }),
    (&["afmoe"], PreTokenizer { steps: AFMOE, ..PLAIN }),
    (&["laguna"], PreTokenizer { steps: LAGUNA, ..PLAIN }),
    (
        &["gemma4", "granite-embed-multi-311m"],
        PreTokenizer { steps: LINES, adds_bos: true, byte_level: false, ..PLAIN },
    ),
    (&["sarvam-moe"], PreTokenizer { steps: LINES, byte_level: false, ..PLAIN }),
];

static FALLBACK: PreTokenizer = PreTokenizer { steps: DEFAULT, ..PLAIN };

/// The rules of `name`; if it is missing or unknown, those of `default`, with a warning.
pub fn find(name: Option<&str>, warnings: &mut Vec<String>) -> &'static PreTokenizer {
    let Some(name) = name else {
        warnings.push(
            "the file names no pre-tokenizer (tokenizer.ggml.pre): \"default\" is used, and answers may be worse for it"
                .into(),
        );
        return &FALLBACK;
    };
    let known = KNOWN.iter().find(|(names, _)| names.contains(&name));
    if known.is_none() {
        let name: String = name.chars().take(60).collect();
        warnings.push(format!("unknown pre-tokenizer {name:?}: \"default\" is used, and answers may be worse for it"));
    }
    known.map_or(&FALLBACK, |(_, pre)| pre)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;
    use crate::engine::tokenizer::split::Splitter;

    #[test]
    fn every_pre_tokenizer_compiles_and_preserves_all_bytes() {
        let text =
            "Hello  World's 12345 élan\r\n\n\tПривет 世界 ひらがな 한국어 !!?…  x\u{300} 🦀 IMGIMGAZ <sentinel:1>   ";
        for (names, pre) in KNOWN {
            let words = Splitter::new(pre.steps).unwrap_or_else(|error| panic!("{names:?}: {error}")).split(text);
            let joined: String = words.iter().map(|&(start, end)| &text[start as usize..end as usize]).collect();
            assert_eq!(joined, text, "{names:?}");
        }
    }

    #[test]
    fn unknown_pre_tokenizer_name_warns_and_falls_back_to_default() {
        let mut warnings = Vec::new();
        assert_eq!(find(Some("no-such"), &mut warnings), &FALLBACK);
        assert!(warnings[0].contains("no-such") && warnings[0].contains("default"), "{warnings:?}");
        find(None, &mut warnings);
        assert!(warnings[1].contains("tokenizer.ggml.pre"));
        find(Some("qwen2"), &mut warnings);
        assert_eq!(warnings.len(), 2);
    }
}
