//! Roles by language, the guards, and all grammars on hostile lines.

use std::sync::LazyLock;

use super::*;

static GRAMMARS: LazyLock<SyntaxSet> = LazyLock::new(two_face::syntax::extra_newlines);

/// `text:role` of every piece that has a role.
fn roles(language: &str, code: &str) -> String {
    let lines = colour(&GRAMMARS, language, code).unwrap();
    assert_eq!(lines.len(), code.split('\n').count());
    let mut shown = Vec::new();
    for (line, pieces) in code.split('\n').zip(lines) {
        let mut at = 0;
        for (length, role) in pieces {
            if role != Role::Plain {
                shown.push(format!("{}:{role:?}", line[at..at + length].trim()));
            }
            at += length;
        }
        assert_eq!(at, line.len(), "every byte of {line:?} has a role");
    }
    shown.join(" ")
}

#[test]
fn kinds_of_code_have_their_roles() {
    for (language, code, wanted) in [
        (
            "rust",
            "fn main() { let x: Vec<u8> = f(1); } // end",
            &["fn:Keyword", "main:Function", "1:Number", "// end:Comment"][..],
        ),
        (
            "python",
            "def f(a):\n    \"\"\"Doc\n    more words\n    \"\"\"\n    return None",
            &["def:Keyword", "f:Function", "more words:Comment", "None:Keyword"],
        ),
        ("diff", "--- a\n+++ b\n@@ -1 +1 @@\n-old\n+new\n same", &["-old:Removed", "+new:Added"]),
        ("console", "for f in *.rs; do echo \"$f\"; done # all", &["for:Keyword", "# all:Comment"]),
        ("sh", "git commit -m 'text'", &["'text':String"]),
        ("typescript", "class A extends B { n: number = 1 }", &["class:Keyword", "A:Type", "1:Number"]),
    ] {
        let shown = roles(language, code);
        for piece in wanted {
            assert!(shown.contains(piece), "{language}: {piece} is missing in {shown}");
        }
    }
}

#[test]
fn long_lines_and_blocks_are_left_out() {
    let line = "let x = 1; ".repeat(60);
    let lines = colour(&GRAMMARS, "rust", &format!("let a = 1;\n{line}\nlet b = 2;")).unwrap();
    assert_eq!(lines.iter().map(Vec::is_empty).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(colour(&GRAMMARS, "rust", &"x;\n".repeat(LONGEST_BLOCK / 3 + 1)), None);
    assert_eq!(colour(&GRAMMARS, "no-such-language", "x"), None);
    assert_eq!(colour(&GRAMMARS, "", "x"), None);
}

#[test]
fn the_thread_answers_by_the_jobs_id() {
    let (sender, results) = channel();
    let mut colourist = Colourist::new(move |id, lines| sender.send((id, lines.len())).unwrap());
    let job = |id, language: &str| Job { id, language: language.into(), code: "let a;\nlet b;".into() };
    colourist.ask(job(1, "rust"));
    colourist.ask(job(2, "unknown"));
    colourist.ask(job(3, "js"));
    let answers: Vec<_> = (0..2).map(|_| results.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
    assert_eq!(answers, [(1, 2), (3, 2)]);
}

/// Lines of the greatest length that make patterns backtrack, in every grammar: none may panic.
#[test]
#[ignore = "takes minutes without optimisation"]
fn no_grammar_panics_on_hostile_lines() {
    let mut failed = Vec::new();
    let mut slow = Vec::new();
    let pieces = [
        "a", " ", "\t", "\"", "'", "`", "(", "[{", "<", "\\", "/*", "#", "-", "$", "%", "é", "a.", "a(", "0x", "<a ",
        "::", "@", "&&", "| ",
    ];
    for grammar in GRAMMARS.syntaxes() {
        let lines: Vec<_> = pieces.iter().map(|piece| piece.repeat(LONGEST_LINE / piece.len())).collect();
        let start = Instant::now();
        for line in lines {
            let result = panic::catch_unwind(AssertUnwindSafe(|| colour_by(&GRAMMARS, grammar, &line)));
            if result.is_err() {
                failed.push(format!("{}: {}", grammar.name, &line[..4.min(line.len())]));
            }
        }
        if start.elapsed() > 10 * DEADLINE {
            slow.push(format!("{} {:?}", grammar.name, start.elapsed()));
        }
    }
    println!("slow: {slow:#?}");
    assert_eq!(failed, Vec::<String>::new());
}
