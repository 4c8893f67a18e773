//! Measures of a text: words, characters, lines, scripts, code blocks, syllables. Pure.

use unicode_segmentation::UnicodeSegmentation;

/// Writing systems whose share can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as Unicode's scripts")]
pub enum Script {
    Arabic,
    Cyrillic,
    Devanagari,
    Greek,
    Han,
    Hangul,
    Hebrew,
    /// Hiragana and Katakana.
    Kana,
    Latin,
    Thai,
}

impl Script {
    /// All of them, in alphabetical order.
    pub const ALL: [Self; 10] = [
        Self::Arabic,
        Self::Cyrillic,
        Self::Devanagari,
        Self::Greek,
        Self::Han,
        Self::Hangul,
        Self::Hebrew,
        Self::Kana,
        Self::Latin,
        Self::Thai,
    ];

    /// The script of this name in lower case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|script| script.name() == name)
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arabic => "arabic",
            Self::Cyrillic => "cyrillic",
            Self::Devanagari => "devanagari",
            Self::Greek => "greek",
            Self::Han => "han",
            Self::Hangul => "hangul",
            Self::Hebrew => "hebrew",
            Self::Kana => "kana",
            Self::Latin => "latin",
            Self::Thai => "thai",
        }
    }

    /// Whether a letter belongs to it, by Unicode's blocks.
    fn has(self, letter: char) -> bool {
        match self {
            Self::Arabic => matches!(letter, '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' | '\u{8a0}'..='\u{8ff}'),
            Self::Cyrillic => matches!(letter, '\u{400}'..='\u{52f}'),
            Self::Devanagari => matches!(letter, '\u{900}'..='\u{97f}'),
            Self::Greek => matches!(letter, '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}'),
            Self::Han => matches!(letter, '\u{3005}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
                | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}'),
            Self::Hangul => {
                matches!(letter, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7af}')
            }
            Self::Hebrew => matches!(letter, '\u{590}'..='\u{5ff}'),
            Self::Kana => matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}'),
            Self::Latin => matches!(letter, 'A'..='Z' | 'a'..='z' | '\u{aa}' | '\u{ba}' | '\u{c0}'..='\u{24f}'
                | '\u{1e00}'..='\u{1eff}'),
            Self::Thai => matches!(letter, '\u{e00}'..='\u{e7f}'),
        }
    }
}

/// The share of a script among the letters of `text`; `None` if it has none.
pub fn share(text: &str, script: Script) -> Option<f64> {
    let letters: Vec<_> = text.chars().filter(|c| c.is_alphabetic()).collect();
    let own = letters.iter().filter(|letter| script.has(**letter)).count();
    (!letters.is_empty()).then(|| own as f64 / letters.len() as f64)
}

/// Words: runs of characters without white space that have a letter or a digit.
pub fn words(text: &str) -> usize {
    text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count()
}

/// Characters as readers see them (grapheme clusters), white space around the text left out.
pub fn characters(text: &str) -> usize {
    text.trim().graphemes(true).count()
}

/// The lines that are not empty.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Whether `text` contains `part`; with `whole` only where no letter or digit continues it on either side.
pub fn contains(text: &str, part: &str, whole: bool) -> bool {
    let continues = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let stands_alone = |at: usize| {
        let (before, after) = (&text[..at], &text[at + part.len()..]);
        !continues(before.chars().next_back()) && !continues(after.chars().next())
    };
    text.match_indices(part).any(|(at, _)| !whole || stands_alone(at))
}

/// The first sentence of `text` that has all of `parts` and nothing that denies it or leaves it open. All in lower case.
pub fn assertion<'a>(text: &'a str, parts: &[String]) -> Option<&'a str> {
    const OPEN: [&str; 19] = [
        "no", "not", "cannot", "can't", "don't", "doesn't", "isn't", "aren't", "won't", "couldn't", "never", "nothing",
        "neither", "whether", "if", "may", "might", "could", "possible",
    ];
    let sentences = text.split_inclusive(['.', '!', '?', '\n', '。']).map(str::trim);
    let asserts = |sentence: &&str| {
        parts.iter().all(|part| sentence.contains(part.as_str()))
            && !sentence.ends_with('?')
            && !OPEN.iter().any(|word| contains(sentence, word, true))
    };
    let mut found = sentences.filter(asserts);
    found.next()
}

/// A fenced code block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeBlock<'a> {
    /// The word after the fence; empty if there is none.
    pub language: &'a str,
    /// The code without the fences. Without an end fence, the rest of the text.
    pub code: &'a str,
}

/// The fenced code blocks of a Markdown text.
pub fn code_blocks(text: &str) -> Vec<CodeBlock<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, &str, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, trimmed) = (at, line.trim());
        at += line.len();
        let fence = ["```", "~~~"].into_iter().find(|fence| trimmed.starts_with(fence));
        match (open, fence) {
            (None, Some(fence)) => {
                let language = trimmed.trim_start_matches(&fence[..1]).split_whitespace().next().unwrap_or_default();
                open = Some((fence, language, at));
            }
            (Some((begun, language, code)), Some(fence))
                if fence == begun && trimmed.trim_start_matches(&fence[..1]).is_empty() =>
            {
                blocks.push(CodeBlock { language, code: &text[code..start] });
                open = None;
            }
            _ => {}
        }
    }
    if let Some((_, language, code)) = open {
        blocks.push(CodeBlock { language, code: &text[code..] });
    }
    blocks
}

/// The code of the text's only code block if nothing but white space is around it, else the whole text.
pub fn only_block(text: &str) -> &str {
    match code_blocks(text)[..] {
        [block] if text.starts_with("```") && text.ends_with("```") => block.code.trim(),
        _ => text,
    }
}

/// Whether a line of `code` defines `name`: a function, class, type or variable of the usual languages.
pub fn defines(code: &str, name: &str) -> bool {
    const WORDS: [&str; 14] = [
        "def", "fn", "func", "fun", "function", "class", "struct", "enum", "trait", "type", "let", "const", "var",
        "sub",
    ];
    code.lines().any(|line| {
        let line = line.trim_start();
        let mut tokens = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|token| !token.is_empty());
        let before: Vec<_> = tokens.by_ref().take_while(|token| *token != name).collect();
        if !contains(line, name, true) {
            return false;
        }
        let after = line[line.find(name).unwrap_or(0) + name.len()..].trim_start();
        let assigned = before.is_empty() && after.starts_with('=') && !after.starts_with("==");
        // A function of C, Java and the like: a type before the name, parameters and a brace after it.
        let typed =
            !before.is_empty() && !line.contains("return") && after.starts_with('(') && line.trim_end().ends_with('{');
        before.last().is_some_and(|word| WORDS.contains(word)) || assigned || typed
    })
}

/// What shows that another turn follows the answer: a control token in it, or a line that begins with a role.
pub fn further_turn(text: &str) -> Option<&'static str> {
    const TOKENS: [&str; 11] = [
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
        "<start_of_turn>",
        "<end_of_turn>",
        "[INST]",
    ];
    const ROLES: [&str; 5] = ["User:", "Human:", "Assistant:", "### Instruction", "### Response"];
    let role = |role: &&&str| text.lines().skip(1).any(|line| line.trim_start().starts_with(**role));
    TOKENS.iter().find(|token| text.contains(**token)).or_else(|| ROLES.iter().find(role)).copied()
}

/// An estimate of the syllables of an English line: groups of vowels, without a silent e.
pub fn syllables(line: &str) -> usize {
    let words = line.split(|c: char| !c.is_alphabetic() && !matches!(c, '\'' | '’'));
    words.map(|word| syllables_of_word(&word.to_lowercase())).sum()
}

fn syllables_of_word(word: &str) -> usize {
    let letters: Vec<char> = word.chars().filter(|c| c.is_alphabetic()).collect();
    if letters.is_empty() {
        return 0;
    }
    let is_vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y' | 'ä' | 'ö' | 'ü' | 'é' | 'è');
    let vowel = |at: usize| letters.get(at).is_some_and(|c| is_vowel(*c));
    let groups = (0..letters.len()).filter(|&at| vowel(at) && (at == 0 || !vowel(at - 1))).count();
    let ends = |end: &str| word.ends_with(end);
    let consonant_before = |count: usize| letters.len() > count && !vowel(letters.len() - count - 1);
    let silent_e = ends("e") && consonant_before(1) && !(ends("le") && consonant_before(2));
    // "loves" and "dreamed", but not "roses" and "wanted".
    let hissing = ["ses", "xes", "zes", "ces", "ges", "shes", "ches"].into_iter().any(ends);
    let silent_es = ends("es") && consonant_before(2) && !hissing;
    let silent_ed = ends("ed") && consonant_before(2) && !ends("ted") && !ends("ded");
    groups.saturating_sub(usize::from(silent_e || silent_es || silent_ed)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_characters_and_lines_are_counted() {
        assert_eq!((words("The capital - of France, is Paris."), words(""), words("  ...  ")), (6, 0, 0));
        assert_eq!((characters(" 人工智能。 "), characters("e\u{301}a")), (5, 2));
        assert_eq!(lines("a\n\n  b \n \nc\n").collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn scripts_are_shares_of_the_letters() {
        assert_eq!(share("人工智能 2024!", Script::Han), Some(1.0));
        assert_eq!(share("人工AI", Script::Han), Some(0.5));
        assert_eq!(share("人工AI", Script::Latin), Some(0.5));
        assert_eq!(share("123", Script::Han), None);
        assert_eq!(Script::ALL.map(Script::name).map(Script::named), Script::ALL.map(Some));
    }

    #[test]
    fn whole_words_are_not_found_inside_longer_ones() {
        assert!(contains("I know", "no", false) && !contains("I know", "no", true));
        assert!(contains("know: no.", "no", true) && contains("no", "no", true));
        assert!(!contains("12", "2", true) && contains("it's 2!", "2", true));
    }

    #[test]
    fn assertions_are_sentences_that_nothing_denies_or_leaves_open() {
        let parts = ["some roses", "fade"].map(str::to_owned);
        for text in ["no. some flowers, like some roses, fade.", "so some roses fade!", "some roses fade"] {
            assert!(assertion(text, &parts).is_some(), "{text}");
        }
        for text in
            ["we can't say that some roses fade.", "do some roses fade?", "some roses may fade.", "some roses. fade."]
        {
            assert_eq!(assertion(text, &parts), None, "{text}");
        }
        assert_eq!(assertion("no. some roses fade. x", &parts), Some("some roses fade."));
    }

    #[test]
    fn code_blocks_have_their_language_and_code() {
        let text = "Here:\n```python\ndef f():\n    pass\n```\nand\n~~~\nx\n```\n~~~\nopen\n```rust\nfn g() {}";
        let found: Vec<_> = code_blocks(text).iter().map(|block| (block.language, block.code)).collect();
        assert_eq!(found, [("python", "def f():\n    pass\n"), ("", "x\n```\n"), ("rust", "fn g() {}")]);
        assert_eq!(only_block("```json\n{}\n```"), "{}");
        assert_eq!(only_block("see ```json\n{}\n```"), "see ```json\n{}\n```");
    }

    #[test]
    fn definitions_of_the_usual_languages_are_found() {
        for code in ["def f(n):", "  async def f():", "fn f() {", "const f = 1", "f = lambda n: n", "int f(int n) {"] {
            assert!(defines(code, "f"), "{code}");
        }
        for code in ["print(f(3))", "def factorial(n):", "return f(n - 1)", "f == 3", "if (f(2)) {x", ""] {
            assert!(!defines(code, "f"), "{code}");
        }
    }

    #[test]
    fn further_turns_are_control_tokens_and_roles_at_a_line() {
        assert_eq!(further_turn("OK"), None);
        assert_eq!(further_turn("User: hi"), None);
        assert_eq!(further_turn("OK\nUser: hi"), Some("User:"));
        assert_eq!(further_turn("OK<|im_end|>"), Some("<|im_end|>"));
    }

    #[test]
    fn syllables_are_estimated() {
        for (line, count) in [
            ("An old silent pond", 5),
            ("A frog jumps into the pond", 7),
            ("machine", 2),
            ("table, roses, loves, dreamed, wanted", 8),
            ("1 2 3", 0),
        ] {
            assert_eq!(syllables(line), count, "{line}");
        }
    }
}
