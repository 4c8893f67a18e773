//! Rules of the layout, checked by reading the source tree: which module may import which, no circles of imports, where
//! `unsafe` code is allowed, what the pure core must not use, and that every file opens with a module doc.

use std::collections::{BTreeMap, BTreeSet};
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

type ModulePath = Vec<String>;

/// Every path of `code` that begins with one of `heads`, the groups of a `use` unfolded: `crate::{a, b::{self, C}}` gives
/// `crate::a`, `crate::b` and `crate::b::C`.
fn paths(code: &str, heads: &[&str]) -> Vec<ModulePath> {
    let mut found = Vec::new();
    for (at, word) in identifiers(code) {
        let continues = code[..at].trim_end().ends_with("::") || code[..at].ends_with('.');
        if heads.contains(&word) && !continues && code[at + word.len()..].starts_with("::") {
            unfold(&code[at..], &mut Vec::new(), &mut found);
        }
    }
    found
}

fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    words(code).map(|word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// Unfolds the tree at the start of `code` below `prefix`; returns what follows it.
fn unfold<'c>(code: &'c str, prefix: &mut ModulePath, found: &mut Vec<ModulePath>) -> &'c str {
    let depth = prefix.len();
    let mut rest = code.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            loop {
                rest = rest.trim_start_matches([',', ' ', '\n']);
                match rest.strip_prefix('}') {
                    Some(after) => {
                        prefix.truncate(depth);
                        return after;
                    }
                    None if rest.is_empty() => return rest,
                    None => {
                        let before = rest.len();
                        rest = unfold(rest, prefix, found);
                        if rest.len() == before {
                            return "";
                        }
                    }
                }
            }
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        if !matches!(name, "" | "self") || prefix.is_empty() {
            prefix.push(name.to_owned());
        }
        match after.strip_prefix("::") {
            Some(next) if !next.starts_with('<') => rest = next.trim_start(),
            _ => {
                found.push(prefix.clone());
                prefix.truncate(depth);
                let alias =
                    after.trim_start().strip_prefix("as ").map(|name| name.trim_start_matches(char::is_alphanumeric));
                let after = alias.unwrap_or(after);
                return after.strip_prefix('*').unwrap_or(after);
            }
        }
    }
}

/// The module of a file: `engine/cpu.rs` is `engine::cpu`.
fn module_of(path: &str) -> ModulePath {
    match path.trim_end_matches(".rs") {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// The files of the crate by module, and what each re-exports or imports under which name.
struct Tree {
    modules: BTreeMap<ModulePath, Source>,
    names: BTreeMap<ModulePath, BTreeMap<String, ModulePath>>,
}

impl Tree {
    fn new() -> Self {
        let modules: BTreeMap<_, _> = sources().into_iter().map(|source| (module_of(&source.path), source)).collect();
        let mut names = BTreeMap::new();
        for (module, source) in &modules {
            let own: BTreeMap<_, _> = source
                .code
                .split(';')
                .filter_map(|statement| statement.rfind("use ").map(|at| &statement[at + 4..]))
                .flat_map(|tree| {
                    let mut found = Vec::new();
                    unfold(tree, &mut Vec::new(), &mut found);
                    found
                })
                .filter_map(|path| Some((path.last()?.clone(), path)))
                .collect();
            names.insert(module.clone(), own);
        }
        Self { modules, names }
    }

    /// `path`, written in `module`, from the crate's root on; `None` for a path of another crate.
    fn absolute(&self, module: &ModulePath, path: &[String]) -> Option<ModulePath> {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => Some([&module[..module.len().checked_sub(supers)?], &path[supers..]].concat()),
            first => {
                let child = [&module[..], &[first.to_owned()]].concat();
                self.modules.contains_key(&child).then(|| [module, path].concat())
            }
        }
    }

    /// The file that defines what `path` names, re-exports followed.
    fn definer(&self, path: &[String], depth: usize) -> Option<&ModulePath> {
        let (module, rest) = (1..=path.len()).rev().find_map(|length| {
            self.modules.get_key_value(&path[..length]).map(|(module, _)| (module, &path[length..]))
        })?;
        let (Some(name), true) = (rest.first(), depth < 6) else { return Some(module) };
        match self.names[module].get(name).and_then(|path| self.absolute(module, path)) {
            Some(target) => self.definer(&[&target, &rest[1..]].concat(), depth + 1),
            None => Some(module),
        }
    }

    /// The files that the file of `module` imports. A module's own children are part of it and do not count.
    fn imports(&self, module: &ModulePath) -> BTreeSet<&ModulePath> {
        let children: Vec<&str> = (self.modules.keys())
            .filter(|other| other.len() == module.len() + 1 && other.starts_with(module))
            .filter_map(|other| other.last().map(String::as_str))
            .collect();
        let heads = [&["crate", "super", "self"], &children[..]].concat();
        paths(&self.modules[module].code, &heads)
            .iter()
            .filter_map(|path| self.definer(&self.absolute(module, path)?, 0))
            .filter(|other| !other.starts_with(module))
            .collect()
    }

    /// Files that import each other, directly or through others of the group.
    fn circles(&self) -> BTreeSet<Vec<String>> {
        let imports: BTreeMap<_, _> = self.modules.keys().map(|module| (module, self.imports(module))).collect();
        let reachable = |from| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(module) = open.pop() {
                open.extend(imports[module].iter().filter(|next| seen.insert(**next)));
            }
            seen
        };
        let reach: BTreeMap<_, _> = self.modules.keys().map(|module| (module, reachable(module))).collect();
        let group = |module: &&ModulePath| {
            let both = |other: &&&ModulePath| reach[*other].contains(*module);
            reach[*module].iter().filter(both).map(|other| other.join("::")).collect::<Vec<_>>()
        };
        self.modules.keys().filter(|module| reach[module].contains(module)).map(|module| group(&module)).collect()
    }
}

fn is_engine(path: &str) -> bool {
    path == "engine.rs" || path.starts_with("engine/")
}

fn is_tui(path: &str) -> bool {
    path == "tui.rs" || path.starts_with("tui/")
}

fn is_core(path: &str) -> bool {
    matches!(path, "chat.rs" | "conversation.rs" | "stats.rs" | "usage.rs" | "engine/lifecycle.rs")
        || path.starts_with("chat/")
        || path.starts_with("usage/")
}

/// Fails with all of `problems`, so that one run shows them all.
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_opens_with_a_module_doc() {
    let silent = sources().into_iter().filter(|source| !source.opens_with_prose);
    none(silent.map(|source| format!("{} does not open with //! and a sentence", source.path)).collect());
}

/// Every top-level module with the top-level modules that it may import, from the ground up: no module imports one of a
/// later line.
const LAYERS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("files", &[]),
    ("wording", &[]),
    ("sanitize", &[]),
    ("protocol", &["clock"]),
    ("cells", &["sanitize"]),
    ("logging", &["files"]),
    ("stats", &["clock", "protocol"]),
    ("conversation", &["protocol"]),
    ("usage", &["protocol", "stats", "wording"]),
    ("catalogue", &["protocol", "wording"]),
    ("settings", &["files", "logging", "protocol", "usage", "wording"]),
    ("engine", &["clock", "protocol", "wording"]),
    ("bench", &["engine", "protocol"]),
    ("hub", &["catalogue", "engine", "protocol", "settings", "wording"]),
    ("store", &["clock", "conversation", "files", "protocol", "sanitize", "usage"]),
    ("survey", &["catalogue", "engine", "hub", "settings", "store", "wording"]),
    ("chat", &["clock", "conversation", "protocol", "stats", "wording"]),
    ("failure", &["protocol", "sanitize"]),
    ("output", &["failure", "sanitize"]),
    ("progress", &["cells", "protocol", "sanitize", "wording"]),
    ("signals", &["failure"]),
    (
        "report",
        &[
            "engine", "failure", "files", "hub", "protocol", "sanitize", "settings", "stats", "survey", "usage",
            "wording",
        ],
    ),
    ("cli", &["bench", "failure", "sanitize", "settings", "store", "wording"]),
    (
        "tui",
        &[
            "catalogue",
            "cells",
            "chat",
            "clock",
            "conversation",
            "engine",
            "failure",
            "files",
            "hub",
            "protocol",
            "sanitize",
            "settings",
            "stats",
            "store",
            "survey",
            "usage",
            "wording",
        ],
    ),
    (
        "commands",
        &[
            "bench",
            "catalogue",
            "cells",
            "chat",
            "cli",
            "conversation",
            "engine",
            "failure",
            "files",
            "hub",
            "output",
            "progress",
            "protocol",
            "report",
            "sanitize",
            "settings",
            "signals",
            "stats",
            "store",
            "survey",
            "tui",
            "usage",
            "wording",
        ],
    ),
    (
        "oneshot",
        &[
            "cli",
            "clock",
            "conversation",
            "engine",
            "failure",
            "files",
            "hub",
            "output",
            "progress",
            "protocol",
            "sanitize",
            "settings",
            "signals",
            "stats",
            "store",
            "survey",
            "tui",
            "wording",
        ],
    ),
];

/// Pairs of files that import each other.
const PAIRS: &[&[&str]] = &[
    // The decode loop is a part of the model's state, and the model offers it.
    &["engine::cuda::decode", "engine::cuda::rank"],
    // An address may be a name and a name an address.
    &["hub::address", "hub::name"],
    // pip fetches the wheel that the mirror describes.
    &["hub::mirror", "hub::pip"],
];

#[test]
fn modules_import_only_what_the_table_of_layers_allows() {
    let tree = Tree::new();
    let mut problems = Vec::new();
    let tops: BTreeSet<_> = tree.modules.keys().filter_map(|module| module.first().map(String::as_str)).collect();
    let listed: BTreeSet<_> = LAYERS.iter().map(|(name, _)| *name).collect();
    problems.extend(
        tops.symmetric_difference(&listed).map(|name| format!("{name} is in the table or in src/, not in both")),
    );
    for (place, (name, allowed)) in LAYERS.iter().enumerate() {
        let below = |other: &str| LAYERS[..place].iter().any(|(below, _)| *below == other);
        problems.extend(
            allowed.iter().filter(|other| !below(other)).map(|other| format!("{name}: {other} is not below it")),
        );
        let mut used = BTreeSet::new();
        for module in tree.modules.keys().filter(|module| module.first().is_some_and(|top| top == name)) {
            for other in
                tree.imports(module).into_iter().filter_map(|other| other.first()).filter(|other| other != name)
            {
                used.insert(other.clone());
                if !allowed.contains(&other.as_str()) {
                    problems.push(format!("{} imports {other}", module.join("::")));
                }
            }
        }
        problems.extend(
            allowed.iter().filter(|other| !used.contains(**other)).map(|other| format!("{name} does not use {other}")),
        );
    }
    none(problems);
}

#[test]
fn printing_front_ends_use_nothing_of_the_interface_but_its_printed_markdown() {
    let tree = Tree::new();
    let printing = |module: &&ModulePath| matches!(module.first().map(String::as_str), Some("commands" | "oneshot"));
    let mut problems = Vec::new();
    for module in tree.modules.keys().filter(printing) {
        let drawn = |other: &&ModulePath| other.first().is_some_and(|top| top == "tui") && other[1..] != ["printed"];
        let found = tree.imports(module).into_iter().filter(drawn);
        problems.extend(found.map(|other| format!("{} imports {}", module.join("::"), other.join("::"))));
    }
    none(problems);
}

#[test]
fn no_files_import_each_other_in_a_circle_besides_the_listed_pairs() {
    let known: BTreeSet<Vec<String>> =
        PAIRS.iter().map(|pair| pair.iter().map(|&name| name.to_owned()).collect()).collect();
    assert_eq!(Tree::new().circles(), known);
}

#[test]
fn terminal_crates_are_only_in_tui_and_candle_only_in_engine() {
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
fn core_does_no_io_reads_no_clock_and_starts_no_thread() {
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
fn unsafe_code_is_only_under_the_engine() {
    let outside = sources().into_iter().filter(|source| !source.path.starts_with("engine/"));
    let unsafe_ones = outside.filter(|source| words(&source.code).any(|word| word == "unsafe"));
    none(unsafe_ones.map(|source| format!("{} holds unsafe code", source.path)).collect());
}

#[test]
fn code_reader_skips_comments_strings_and_tests_and_unfolds_paths() {
    let text = "//! crate::tui\nuse crate::{clock::Timestamp, hub::{self, a::b}, store};\nlet s = \"unsafe \\\" crate::cli\"; \
                r#\"crate::chat\"#; /* unsafe */ crate::engine::x();\n#[cfg(test)]\nmod tests { use crate::oneshot; }";
    let code = code_of(text);
    let found: Vec<_> = paths(&code, &["crate"]).iter().map(|path| path[1..].join("::")).collect();
    assert_eq!(found, ["clock::Timestamp", "hub", "hub::a::b", "store", "engine::x"]);
    assert!(!words(&code).any(|word| word == "unsafe"));
    assert!(words(&code_of("unsafe { x() }")).any(|word| word == "unsafe"));
    let aliased = paths("use super::a::{b as c, D as E, f::*}; super::super::x::y(1)", &["super"]);
    let aliased: Vec<_> = aliased.iter().map(|path| path.join("::")).collect();
    assert_eq!(aliased, ["super::a::b", "super::a::D", "super::a::f", "super::super::x::y"]);
}
