//! The rules of the layout, checked by reading the source tree: who may import whom, where `unsafe` may stand, what the
//! pure core must not touch, and that every module says what it is for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One source file without comments, strings and test modules.
struct Source {
    /// Relative to `src/`, with forward slashes.
    path: String,
    code: String,
    opens_with_prose: bool,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 30, "only {} files under {}", files.len(), root.display());
    files.iter().map(|file| read(&root, file)).filter(|source| !is_test(&source.path)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(root: &Path, file: &Path) -> Source {
    let text = std::fs::read_to_string(file).unwrap();
    let path = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    let opens_with_prose =
        first.is_some_and(|line| line.strip_prefix("//!").is_some_and(|prose| prose.trim().len() > 10));
    Source { path, code: code_of(&text), opens_with_prose }
}

/// Files that are compiled for tests alone.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "model_check.rs") || part.ends_with("_tests.rs"))
}

/// `text` without comments, string contents and what follows `#[cfg(test)] mod … {`.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = without_inline_tests(text);
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            raw_string(rest)
        } else if c == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") || rest.starts_with("b'\"'") {
            rest[1..].find('\'').map_or(1, |end| end + 2)
        } else {
            0
        };
        if skipped > 0 {
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

fn without_inline_tests(text: &str) -> &str {
    match text.find("#[cfg(test)]\nmod tests {") {
        Some(start) => &text[..start],
        None => text,
    }
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a raw string; 0 where it is a raw identifier.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..].find(&close).map_or(text.len(), |end| body + end + close.len())
}

/// Identifiers of `code`.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The crate's top-level modules that `code` names, as `crate::x` or in `crate::{x, y::z}`.
fn crate_modules(code: &str) -> BTreeSet<&str> {
    let mut modules = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let after = &code[at + "crate::".len()..];
        match after.strip_prefix('{') {
            None => modules.extend(words(after).next()),
            Some(group) => modules.extend(group_heads(group)),
        }
    }
    modules
}

/// The first identifier of each part of a `{…}` whose opening brace is gone.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts.into_iter().filter_map(|part| words(part).next()).collect()
}

fn is_engine(path: &str) -> bool {
    path == "engine.rs" || path.starts_with("engine/")
}

fn is_tui(path: &str) -> bool {
    path == "tui.rs" || path.starts_with("tui/")
}

fn is_core(path: &str) -> bool {
    matches!(path, "chat.rs" | "conversation.rs" | "stats.rs" | "engine/lifecycle.rs") || path.starts_with("chat/")
}

/// Fails with all of `problems`, so that one run shows them all.
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.opens_with_prose);
    none(silent.map(|source| format!("{} does not open with //! and a sentence", source.path)).collect());
}

#[test]
fn the_engine_knows_no_front_end() {
    const ALLOWED: [&str; 3] = ["clock", "engine", "protocol"];
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| is_engine(&source.path)) {
        let foreign = crate_modules(&source.code).into_iter().filter(|module| !ALLOWED.contains(module));
        problems.extend(foreign.map(|module| format!("{} imports {module}", source.path)));
    }
    none(problems);
}

#[test]
fn terminal_crates_stay_in_the_terminal_and_tensors_in_the_engine() {
    let mut problems = Vec::new();
    for source in sources() {
        for word in words(&source.code) {
            let terminal = matches!(word, "ratatui" | "crossterm" | "ratatui_textarea") && !is_tui(&source.path);
            let tensor = word.starts_with("candle") && !is_engine(&source.path);
            if terminal || tensor {
                problems.push(format!("{} uses {word}", source.path));
            }
        }
    }
    problems.dedup();
    none(problems);
}

#[test]
fn the_core_does_no_io_reads_no_clock_and_spawns_nothing() {
    const FORBIDDEN: [&str; 9] =
        ["Instant", "SystemTime", "Timestamp::now", "fs::", "io::", "net::", "thread::", "process::", "tokio"];
    let mut problems = Vec::new();
    let sources = sources();
    let core: Vec<_> = sources.iter().filter(|source| is_core(&source.path)).collect();
    assert!(core.iter().any(|source| source.path == "engine/lifecycle.rs"));
    for source in core {
        let found = FORBIDDEN.iter().filter(|word| source.code.contains(*word));
        problems.extend(found.map(|word| format!("{} uses {word}", source.path)));
    }
    none(problems);
}

#[test]
fn the_protocol_shares_plain_data_alone() {
    let sources = sources();
    let protocol = sources.iter().find(|source| source.path == "protocol.rs").unwrap();
    assert_eq!(crate_modules(&protocol.code), BTreeSet::from(["clock"]));
}

#[test]
fn unsafe_stands_under_the_engine_alone() {
    let outside = sources().into_iter().filter(|source| !source.path.starts_with("engine/"));
    let unsafe_ones = outside.filter(|source| words(&source.code).any(|word| word == "unsafe"));
    none(unsafe_ones.map(|source| format!("{} holds unsafe code", source.path)).collect());
}

#[test]
fn the_reader_of_sources_sees_what_is_code() {
    let text = "//! crate::tui\nuse crate::{clock::Timestamp, hub::{a, b}, store};\nlet s = \"unsafe \\\" crate::cli\"; \
                r#\"crate::chat\"#; /* unsafe */ crate::engine::x();\n#[cfg(test)]\nmod tests { use crate::oneshot; }";
    let code = code_of(text);
    assert_eq!(crate_modules(&code), BTreeSet::from(["clock", "engine", "hub", "store"]));
    assert!(!words(&code).any(|word| word == "unsafe"));
    assert!(words(&code_of("unsafe { x() }")).any(|word| word == "unsafe"));
}
