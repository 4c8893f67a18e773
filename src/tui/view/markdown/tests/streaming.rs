//! Text that arrives in pieces: it renders as the whole, at a cost that does not grow.

use super::*;

#[test]
fn streaming_in_pieces_of_any_size_renders_the_same() {
    let whole = render(EVERYTHING, 44);
    for size in [1, 2, 3, 7, 50] {
        let streamed = with_look(|look| {
            let mut markdown = Markdown::default();
            let chars: Vec<char> = EVERYTHING.chars().collect();
            for piece in chars.chunks(size) {
                markdown.push(&piece.iter().collect::<String>());
                markdown.layout(44, look);
            }
            plain(&markdown)
        });
        assert_eq!(streamed, whole, "in pieces of {size}");
    }
}

/// The blank lines between any two kinds of block are the same.
#[test]
fn streaming_any_two_blocks_renders_the_same() {
    let blocks = [
        "Words.",
        "# Title",
        "- [ ] open\n- [x] done",
        "- one",
        "3. three\n4. four",
        "- outer\n  ```\n  code\n  ```",
        "```rust\nlet x = 1;\n```",
        "    indented code",
        "> quoted",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "---",
    ];
    for (first, second) in blocks.iter().flat_map(|first| blocks.iter().map(move |second| (first, second))) {
        if first.starts_with("- ") && second.starts_with("- ") {
            // Both are one list; whether it is loose is unknown before its second part begins.
            continue;
        }
        let text = format!("{first}\n\n{second}\n\nEnd.\n");
        let streamed = with_look(|look| {
            let mut markdown = Markdown::default();
            for character in text.chars() {
                markdown.push(character.encode_utf8(&mut [0; 4]));
                markdown.layout(40, look);
            }
            plain(&markdown)
        });
        assert_eq!(streamed, render(&text, 40), "{text}");
    }
}

#[test]
fn an_open_fence_streams_lines_and_hides_a_partial_closing_fence() {
    with_look(|look| {
        let mut markdown = Markdown::default();
        for piece in ["Code:\n\n```py", "thon\nprint(1)\nx =", " 2\n``", "`\n", "after"] {
            markdown.push(piece);
            markdown.layout(40, look);
            assert!(!plain(&markdown).iter().any(|line| line.contains("│ ``")), "{:?}", plain(&markdown));
        }
        assert_eq!(plain(&markdown), ["Code:", "", "╭ python", "│ print(1)", "│ x = 2", "", "after"]);
    });
}

/// 10,000 pieces: each may render a short tail again, but never the whole text before it.
#[test]
fn rendering_cost_per_piece_does_not_grow() {
    let paragraph = |n: usize| format!("Paragraph {n} with **some** text.\n\n");
    let list = |n: usize| format!("- item {n} of a list\n");
    let code = |n: usize| format!("let x{n} = {n}; // code\n");
    let line = |n: usize| format!("line {n} of one endless paragraph\n");
    type Piece<'a> = &'a dyn Fn(usize) -> String;
    let kinds: [(&str, &str, Piece<'_>); 4] =
        [("paragraphs", "", &paragraph), ("list", "", &list), ("code", "```rust\n", &code), ("lines", "", &line)];
    for (name, prefix, piece) in kinds {
        with_look(|look| {
            let mut markdown = Markdown::default();
            markdown.push(prefix);
            for n in 0..10_000 {
                markdown.push(&piece(n));
                markdown.layout(80, look);
            }
            assert!(markdown.len() >= 10_000, "{name}: {}", markdown.len());
            let each = markdown.work / 10_000;
            assert!(each <= 1200, "{name}: {each} bytes are rendered for each line");
        });
    }
}

/// A displayed formula longer than `LONGEST_PARAGRAPH`.
#[test]
fn a_long_streaming_formula_is_not_split() {
    let lines: String = (0..80).map(|n| format!("x_{n}*y* + z*w_{n}* \\\\\n\n")).collect();
    let text = format!("before\n\n$$\n{lines}$$\n\nafter *it*\n");
    let shown = streamed(&text, 60, 7);
    assert!(shown.contains(&"x_79*y* + z*w_79* \\\\".to_owned()), "{shown:#?}");
    assert_eq!(shown, render(&text, 60));
    assert_eq!(shown.last().unwrap(), "after it");
}

#[test]
fn the_colours_of_a_code_block_arrive_later() {
    use crate::tui::code_colours::Role;
    let text = "- item\n\n  ```rust\n  let x;\n  ```\n\nText\n\n```rust\nfn f\n```";
    with_look(|look| {
        let mut markdown = Markdown::default();
        markdown.push(text);
        markdown.layout(60, look);
        let first = markdown.take_jobs();
        assert_eq!(first.iter().map(|job| job.code.as_str()).collect::<Vec<_>>(), ["let x;"], "the second is open");
        markdown.finish();
        markdown.layout(60, look);
        let second = markdown.take_jobs();
        assert_eq!(second.iter().map(|job| job.code.as_str()).collect::<Vec<_>>(), ["fn f"]);
        let before = plain(&markdown);
        for (job, length) in [(&first[0], 6), (&second[0], 4)] {
            assert!(markdown.coloured(job.id, &std::sync::Arc::new(vec![vec![(length, Role::Added)]])));
        }
        markdown.layout(60, look);
        assert_eq!(plain(&markdown), before);
        let added = (0..markdown.len()).filter_map(|index| markdown.line(index)).flat_map(|line| &line.spans);
        let added: Vec<_> = added.filter(|span| span.style == look.theme.added).map(|span| &*span.content).collect();
        assert_eq!(added, ["let x;", "fn f"]);
        assert_eq!(markdown.take_jobs(), []);
    });
}

/// Colours that do not fit the line, as after a collision of hashes, are not used.
#[test]
fn colours_of_another_text_change_nothing() {
    with_look(|look| {
        let mut markdown = Markdown::default();
        markdown.push("```rust\nlet x;\n```\n");
        markdown.layout(60, look);
        let before = plain(&markdown);
        let id = markdown.take_jobs()[0].id;
        markdown.coloured(id, &std::sync::Arc::new(vec![vec![(99, crate::tui::code_colours::Role::Added)]]));
        markdown.layout(60, look);
        assert_eq!(plain(&markdown), before);
    });
}

#[test]
fn strings_over_lines_and_differences_have_colours_while_they_stream() {
    let dark = |text: &str, piece: &str| style_of(text, piece);
    let theme = Theme::load("dark", Path::new(""), ColorDepth::True).unwrap();
    let doc = "```python\n\"\"\"First\nsecond\n\"\"\"\nx = 1\n";
    assert_eq!(dark(doc, "second"), theme.string);
    assert_eq!(dark(doc, "1"), theme.number);
    let diff = "```diff\n@@ -1 @@\n-old\n+new\n same\n";
    assert_eq!([dark(diff, "-old"), dark(diff, "+new")], [theme.removed, theme.added]);
}

/// One paragraph without a newline: it is split, and shows the same as a whole.
#[test]
fn a_long_open_line_shows_every_letter_and_its_cost_does_not_grow() {
    let sentence = "A sentence with **bold**, `code`, $x*y$ and a [link](https://example.org/a), 30 words or so. ";
    let cjk = "这是一个很长的段落，没有换行，其中有**粗体**和`代码`。";
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    for (text, width) in [(sentence.repeat(60), 80), (cjk.repeat(80), 60), ("abc1".repeat(1500), 80)] {
        with_look(|look| {
            let mut markdown = Markdown::default();
            let chars: Vec<char> = text.chars().collect();
            for piece in chars.chunks(24) {
                markdown.push(&piece.iter().collect::<String>());
                markdown.layout(width, look);
            }
            let each = markdown.work / chars.len().div_ceil(24);
            assert!(each <= LONGEST_OPEN_LINE, "{each} bytes are rendered for each piece");
            let lines = plain(&markdown);
            assert_eq!(letters(&lines.concat()), letters(&text));
            let short = lines[..lines.len() - 1].iter().filter(|line| wrap::width(line) + 24 < width).count();
            assert_eq!(short, 0, "no line ends early: {lines:#?}");
        });
    }
}

#[test]
fn a_formula_that_streams_is_the_source_until_it_is_complete() {
    with_look(|look| {
        let mut markdown = Markdown::default();
        let mut seen = Vec::new();
        for piece in ["So $x", "^2", "$ is"] {
            markdown.push(piece);
            markdown.layout(40, look);
            seen.push(plain(&markdown).join("|"));
        }
        assert_eq!(seen, ["So $x", "So $x^2", "So x² is"]);
    });
}
