//! Chat templates: parsing, compiling, rendering. Input: a template, a separator and the content of a message.

use std::sync::OnceLock;
use std::time::Duration;

use chatnap::engine::chat_template::ChatTemplate;
use chatnap::engine::prompt;
use chatnap::engine::tokenizer::Tokenizer;
use chatnap::protocol::{ChatMessage, Role};

use super::super::guard::cpu_time;
use super::{SEPARATOR, Target, fixtures, folder, parts, tokenizer};

/// The limit of a render is 5 s; the rest is slack.
const RENDER: Duration = Duration::from_millis(5500);

pub const TARGET: Target = Target {
    name: "template",
    cases: 500,
    // Two renders during compilation, three afterwards.
    time: Duration::from_secs(5 * 6),
    // The values and the output allowed in a render, and copies of them.
    memory: 1 << 30,
    words: &[
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{%- ",
        " -%}",
        "{# ",
        " #}",
        "for m in messages",
        "for x in range(1000000)",
        "endfor",
        "recursive",
        "loop(",
        "loop.index0",
        "loop.previtem",
        "break",
        "continue",
        "if ",
        "elif ",
        "else",
        "endif",
        "set x = ",
        "set ns = namespace(x=0)",
        "ns.x",
        "endset",
        "macro f(a, b=1)",
        "endmacro",
        "f(f)",
        "caller()",
        "call(x) f()",
        "endcall",
        "filter upper",
        "endfilter",
        "generation",
        "endgeneration",
        "raw",
        "endraw",
        "block b",
        "endblock",
        "include 'chat'",
        "extends 'chat'",
        "import 'chat' as c",
        "raise_exception('x')",
        "strftime_now('%Y')",
        "messages[0]['content']",
        "message.content",
        "messages[1:]",
        "[::-1]",
        "add_generation_prompt",
        "bos_token",
        "|tojson",
        "|trim",
        "|length",
        "|join('x')",
        "|map(attribute='role')",
        "|selectattr('role', 'equalto', 'user')",
        "|replace('a', 'aaaaaaaaaaaaaaaa')",
        "|batch(2)",
        "|indent(100000)",
        "|center(100000)",
        "|default('')",
        "|reverse|list",
        "|items",
        ".split('a')",
        ".strip()",
        ".startswith('a')",
        ".format(1)",
        ".items()",
        "'%s' % x",
        "is defined",
        "is mapping",
        " not in ",
        " ~ ",
        " * 100000",
        " ** 9",
        " // 0",
        " % 0",
        "9223372036854775807",
        "1e308",
        "(((((((((((((((((((((((((((((((((",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        "- - - - - - - - - - - - - - - - ",
        "not not not not not not not not ",
        "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x",
        "x if x else x if x else x if x else ",
    ],
    seeds,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fixtures().join("templates")).unwrap().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    paths.sort();
    let long = [
        "{% set ns = namespace(x='') %}{% for m in messages recursive %}{% set ns.x = ns.x ~ m.content %}{% endfor %}{{ ns.x }}",
        "{% macro f(a, b=1) %}{{ a * b }}{{ caller() if caller }}{% endmacro %}{% call f('ab', 3) %}x{% endcall %}{{ f('c')[::-1] }}",
        "{% for i in range(100) if i % 3 %}{% if loop.first %}{% continue %}{% endif %}{{ [i, loop.index]|tojson }}{% endfor %}",
        "{{ messages|map(attribute='content')|join(', ')|replace('a', 'b')|upper|indent(4) }}{{ {'a': [1, 2.5, none]}|tojson(indent=2) }}",
    ];
    let sources = paths.iter().map(|path| std::fs::read(path).unwrap());
    let sources = sources.chain(long.iter().map(|source| source.as_bytes().to_vec()));
    sources.map(|source| [&source[..], &[SEPARATOR], b"Hi <s> there"].concat()).collect()
}

/// A small vocabulary; its content does not affect the result.
fn vocabulary() -> &'static Tokenizer {
    static VOCABULARY: OnceLock<Tokenizer> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let config = br#"{"bos_token":"<s>","eos_token":"</s>"}"#;
        let folder = folder(&[("tokenizer.json", tokenizer::small().as_bytes()), ("tokenizer_config.json", config)]);
        Tokenizer::from_folder(folder.path()).unwrap()
    })
}

fn run(input: &[u8]) -> bool {
    let [source, content] = parts(input);
    let source = String::from_utf8_lossy(source).into_owned();
    let content = String::from_utf8_lossy(content);
    let compile = || ChatTemplate::new(source, vocabulary(), Vec::new());
    let Ok(template) = within(2 * RENDER, compile) else { return false };
    check(&template, vocabulary(), &content);
    true
}

/// Renders a conversation to text and to tokens, which must be in the vocabulary.
pub fn check(template: &ChatTemplate, tokenizer: &Tokenizer, content: &str) {
    let mut answer = ChatMessage::new(Role::Assistant, "a\n");
    answer.reasoning = Some("hm".into());
    let messages = [
        ChatMessage::new(Role::System, "Be brief."),
        ChatMessage::new(Role::User, content),
        answer,
        ChatMessage::new(Role::User, "<s>[INST]{{ x }}"),
    ];
    let _ = within(RENDER, || template.render(&messages, false));
    if let Ok(prompt) = within(2 * RENDER, || prompt::render(template, tokenizer, &messages)) {
        let count = tokenizer.vocab_size();
        assert!(prompt.tokens.iter().all(|&id| (id as usize) < count));
    }
}

/// Runs `work`; panics if it takes more CPU time than `limit`. Wall-clock time would fail on a loaded machine.
fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    let start = cpu_time();
    let done = work();
    let took = cpu_time().saturating_sub(start);
    assert!(took <= limit, "{took:?} of CPU time; {limit:?} are allowed");
    done
}
