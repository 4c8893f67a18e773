//! Rendering of Markdown, and that streamed text renders the same as the complete text.

use std::path::Path;

use super::*;
use crate::tui::theme::{ColorDepth, Theme};
use crate::tui::view::glyphs::UNICODE;
use crate::tui::view::wrap;

fn with_look<T>(f: impl FnOnce(&Look<'_>) -> T) -> T {
    let theme = Theme::load("dark", Path::new(""), ColorDepth::True).unwrap();
    f(&Look { theme: &theme, glyphs: &UNICODE })
}

fn plain(markdown: &Markdown) -> Vec<String> {
    let text = |line: &Line<'_>| line.spans.iter().map(|span| &*span.content).collect::<String>();
    (0..markdown.len()).filter_map(|index| markdown.line(index)).map(text).collect()
}

fn render(text: &str, width: usize) -> Vec<String> {
    with_look(|look| {
        let mut markdown = Markdown::default();
        markdown.push(text);
        markdown.layout(width, look);
        plain(&markdown)
    })
}

const EVERYTHING: &str = "# Title

A paragraph with **bold**, *italic*, `code` and a [link](https://example.org/).
Its second line stays a line of its own.

1. first
2. second
   - nested one
   - nested two
3. third

> quoted text that is long enough to be wrapped somewhere
> and goes on

```rust
fn main() { // a comment
    println!(\"hello\");
}
```

| name | value |
|:-----|------:|
| a    | 1     |
| long name | 23 |

---

- [x] done
- [ ] open

The end.
";

#[test]
fn all_block_types_render() {
    insta::assert_snapshot!(render(EVERYTHING, 44).join("\n"));
}

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

/// A list whose items hold code, a quotation, a table or a second paragraph.
const TALL: &str = "1. **Install** it:

   ```sh
   make
   ```

2. Then run
3. and look:

   > quoted

4. last of
   - nested
     ```
     code
     ```
   - and

5. End

   of it.
6. over
";

#[test]
fn a_list_item_with_blocks_is_followed_by_a_blank_line() {
    let wanted = [
        "1. Install it:",
        "",
        "   ╭ sh",
        "   │ make",
        "",
        "2. Then run",
        "3. and look:",
        "",
        "   ▎ quoted",
        "",
        "4. last of",
        "   • nested",
        "     ╭ code",
        "     │ code",
        "",
        "   • and",
        "",
        "5. End",
        "",
        "   of it.",
        "",
        "6. over",
    ];
    let trimmed = |lines: Vec<String>| lines.into_iter().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(render(TALL, 40)), wanted);
    for size in [1, 2, 5, 30] {
        let streamed = with_look(|look| {
            let mut markdown = Markdown::default();
            let chars: Vec<char> = TALL.chars().collect();
            for piece in chars.chunks(size) {
                markdown.push(&piece.iter().collect::<String>());
                markdown.layout(40, look);
            }
            plain(&markdown)
        });
        assert_eq!(trimmed(streamed), wanted, "in pieces of {size}");
    }
}

#[test]
fn html_br_breaks_the_line_in_text_and_tables() {
    assert_eq!(render("one<br>two<BR/>three", 20), ["one", "two", "three"]);
    let table = render("| a | b |\n|---|---|\n| one<br />two | x |\n", 20);
    assert_eq!(table[3..5], ["│ one │ x │", "│ two │   │"]);
}

#[test]
fn a_new_width_renders_the_text_again() {
    with_look(|look| {
        let mut markdown = Markdown::default();
        markdown.push(EVERYTHING);
        markdown.layout(70, look);
        markdown.layout(30, look);
        assert_eq!(plain(&markdown), render(EVERYTHING, 30));
    });
}

#[test]
fn no_rendered_line_exceeds_the_width() {
    for width in [20, 30, 44, 80] {
        for line in render(EVERYTHING, width) {
            assert!(wrap::width(&line) <= width, "{line:?} at {width}");
        }
    }
    for width in 1..6 {
        render(EVERYTHING, width);
    }
}

#[test]
fn numbers_continue_after_a_list_is_split() {
    let text: String = (0..30).map(|n| format!("{}. item\n", n + 5)).collect();
    let lines = render(&text, 20);
    assert_eq!((lines[0].as_str(), lines[29].as_str()), ("5. item", "34. item"));
    assert_eq!(lines.len(), 30);
}

#[test]
fn table_borders_align_with_wide_characters() {
    let lines = render("| 名前 | emoji |\n|---|---|\n| 日本 | 👩‍🚀 |\n| é | x |\n", 40);
    let widths: Vec<_> = lines.iter().map(|line| wrap::width(line)).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{lines:#?}");
}

#[test]
fn a_table_that_does_not_fit_becomes_a_list() {
    let lines = render("| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n", 12);
    assert_eq!(lines, ["a: 1", "b: 2", "c: 3"]);
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

#[test]
fn formulas_render_in_lists_tables_and_quotations() {
    let text = "Inline $x*y*z$ and \\(a_1 + b_1\\) and \\[ \\{1,2\\}_{P_1} \\].\n\n$$\n\\underbrace{\\{1,2\\}}_{P_1},\\;\\dots \\\\\n\
                a * b * c\n$$\n\n- item $a*b*c$\n\n> \\[\n> x_*1*\n> \\]\n\nPrices: $5 and $10 stay *prices*.\n";
    let wanted = [
        "Inline x*y*z and a₁ + b₁ and \\[ \\{1,2\\}_{P_1} \\].",
        "",
        "$$",
        "\\underbrace{\\{1,2\\}}_{P_1},\\;\\dots \\\\",
        "a * b * c",
        "$$",
        "",
        "• item a*b*c",
        "",
        "▎ \\[",
        "▎ x_*1*",
        "▎ \\]",
        "",
        "Prices: $5 and $10 stay prices.",
    ];
    assert_eq!(render(text, 80), wanted);
    assert_eq!(streamed(text, 80, 1), wanted);
    let table = render("| a | b |\n|---|---|\n| $|x|$ | $y_1*z*$ |\n| `p|q` | 1 | 2 |\n", 60);
    assert_eq!(table[3..5], ["│ |x| │ y₁*z* │", "│ p|q │ 1 | 2 │"]);
}

fn streamed(text: &str, width: usize, size: usize) -> Vec<String> {
    with_look(|look| {
        let mut markdown = Markdown::default();
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(size) {
            markdown.push(&piece.iter().collect::<String>());
            markdown.layout(width, look);
        }
        plain(&markdown)
    })
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
fn ordered_lists_keep_their_written_numbers() {
    assert_eq!(render("7. a\n8. b\n10. c\n", 20), ["7. a", "8. b", "10. c"]);
    assert_eq!(render("1) a\n2) b\n", 20), ["1) a", "2) b"]);
    assert_eq!(render("1. a\n1. b\n1. c\n", 20), ["1. a", "2. b", "3. c"]);
    assert_eq!(render("3. a\n2. b\n1. c\n", 20), ["3. a", "2. b", "1. c"]);
    for text in ["7. a\n8. b\n10. c\n12. d\n", "1. a\n1. b\n1. c\n1. d\n", "2) a\n4) b\n   1. x\n   5. y\n6) c\n"] {
        assert_eq!(streamed(text, 20, 1), render(text, 20), "{text}");
    }
}

/// Text that the parser alone would drop.
#[test]
fn no_written_text_is_dropped() {
    for (text, wanted) in [
        ("[1]: https://x.org \"Title\"\n", &["[1]: https://x.org \"Title\""][..]),
        ("[^1]: word\n", &["¹ word"]),
        ("[t](https://x.org \"Title\")", &["t (https://x.org \"Title\")"]),
        ("#\n", &["#"]),
        ("```python title=a.py\nx\n```\n", &["╭ python title=a.py", "│ x"]),
        ("a\n  b\n    c", &["a", "  b", "    c"]),
        ("&#x202e;x&#27;[1m &amp; &#x200b;", &["&#x202e;x&#27;[1m & &#x200b;"]),
        ("It is.\n---\nmore", &["It is.", "", "────────────────────────────────────────", "", "more"]),
        ("> > a\n> b", &["▎ ▎ a", "▎ ▎ b"]),
        ("<think>\nfoo *x*\n</think>", &["<think>", "foo *x*", "</think>"]),
        ("Vec<String> a<b", &["Vec<String> a<b"]),
        ("C:\\Users\\_x\\_y_ __init__.py 2*3*4", &["C:\\Users\\_x\\_y_ __init__.py 2*3*4"]),
        ("```\na\tb\n\tc\n```\n", &["╭ code", "│ a   b", "│     c"]),
    ] {
        assert_eq!(render(text, 60), wanted, "{text:?}");
    }
}

/// The parser finds two columns, although the pipes look like three.
#[test]
fn table_cells_that_the_parser_drops_are_shown() {
    let shown = render("\\\\| a | b |\n|---|---|\n#| c | d |\n", 60).concat();
    assert!(shown.contains("c | d"), "{shown}");
}

#[test]
fn emphasis_beside_cjk_is_emphasis() {
    let text = "**「A」**なので**「B」**です。\n\n**注意：**これは大事です。\n\n한국어 **마크다운(Markdown)**을 쓴다\n";
    let wanted = ["「A」なので「B」です。", "", "注意：これは大事です。", "", "한국어 마크다운(Markdown)을 쓴다"];
    assert_eq!(render(text, 60), wanted);
    assert_eq!(streamed(text, 60, 1), wanted);
    with_look(|look| {
        let mut markdown = Markdown::default();
        markdown.push(text);
        markdown.layout(60, look);
        let bold = |span: &&ratatui::text::Span<'_>| span.style.add_modifier.contains(ratatui::style::Modifier::BOLD);
        let bold: Vec<_> = markdown.line(0).unwrap().spans.iter().filter(bold).map(|span| &*span.content).collect();
        assert_eq!(bold, ["「A」", "「B」"]);
    });
}

fn spans_of(text: &str, width: usize) -> Vec<(String, ratatui::style::Style)> {
    with_look(|look| {
        let mut markdown = Markdown::default();
        markdown.push(text);
        markdown.layout(width, look);
        let lines = (0..markdown.len()).filter_map(|index| markdown.line(index));
        lines.flat_map(|line| line.spans.iter().map(|span| (span.content.to_string(), span.style))).collect()
    })
}

fn style_of(text: &str, piece: &str) -> ratatui::style::Style {
    spans_of(text, 80).into_iter().find(|(content, _)| content == piece).unwrap().1
}

#[test]
fn headings_of_each_level_look_different() {
    let styles = ["# T", "## T", "### T"].map(|text| style_of(text, "T"));
    assert!(styles[0] != styles[1] && styles[1] != styles[2] && styles[0] != styles[2], "{styles:#?}");
}

#[test]
fn emphasis_inside_a_quotation_differs_from_the_quotation() {
    let text = "> quoted *stressed* **strong**";
    let [quoted, stressed, strong] = ["quoted ", "stressed", "strong"].map(|piece| style_of(text, piece));
    assert!(quoted != stressed && quoted != strong && stressed != strong);
}

#[test]
fn a_line_break_in_html_leaves_no_blank() {
    assert_eq!(render("one<br> two<br/>   three", 40), ["one", "two", "three"]);
}

#[test]
fn html_tags_of_emphasis_are_applied_if_they_are_closed() {
    assert_eq!(render("a <b>bold</b> and <i>x <u>y</u></i> <span style=\"a\">z</span>", 60), ["a bold and x y z"]);
    let bold = style_of("a <STRONG>bold</strong> b", "bold");
    assert!(bold.add_modifier.contains(ratatui::style::Modifier::BOLD));
    assert_eq!(style_of("a <b>bold</b> b", " b"), ratatui::style::Style::new());
    for text in ["the <b> tag", "the </b> tag", "a <think> b", "List<String> x", "<i>a</b>"] {
        assert_eq!(render(text, 60), [text]);
    }
}

#[test]
fn prose_is_at_most_a_hundred_cells_wide_and_code_and_tables_are_not() {
    let words = "word ".repeat(60);
    let lines = render(&format!("{words}\n\n> {words}\n\n- {words}"), 180);
    assert!(lines.iter().all(|line| wrap::width(line.trim_end()) <= render::MEASURE), "{lines:#?}");
    assert!(lines.iter().any(|line| wrap::width(line.trim_end()) > render::MEASURE - 6));
    let code = render(&format!("```\n{}\n```", "x".repeat(150)), 180);
    assert_eq!(code.len(), 2, "{code:#?}");
    let row = format!("| {} | {} |\n", "a ".repeat(40), "b ".repeat(40));
    assert!(render(&format!("{row}|---|---|\n{row}"), 180).iter().any(|line| wrap::width(line) > 150));
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
fn formulas_are_unicode_where_that_is_exact_and_the_source_elsewhere() {
    assert_eq!(
        render("So \\(x^2 \\leq \\alpha\\) and $y_1$, not $x^{*}$ or $a\\,b_Q$.", 70),
        ["So x² ≤ α and y₁, not $x^{*}$ or $a\\,b_Q$."]
    );
    let display = "Then\n\n\\[\nE = mc^2\n\\]\n\nand\n$$\n\\frac{a+b}{2}\n$$\nend";
    assert_eq!(render(display, 70), ["Then", "", "E = mc²", "", "and", "(a+b)/2", "end"]);
    assert_eq!(render("- item $x^2$\n  \\[\n  y^2\n  \\]\n", 70), ["• item x²", "  y²"]);
    assert_eq!(render("| a | b |\n|---|---|\n| $|x|^2$ | 1 |", 70)[3], "│ |x|² │ 1 │");
    assert_eq!(render("`$x^2$` and\n\n```\n$x^2$\n```", 70)[3], "│ $x^2$");
    assert_eq!(render("> $$\n> x^2\n> $$", 70), ["▎ $$", "▎ x^2", "▎ $$"]);
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

#[test]
fn footnotes_have_raised_numbers() {
    let text = "A claim[^1] and another[^note], but not [^ a].\n\n[^1]: The *source*.\n\n[^note]: More.\n";
    let wanted = ["A claim¹ and another[^note], but not [^ a].", "", "¹ The source.", "", "[^note] More."];
    assert_eq!(render(text, 70), wanted);
}

#[test]
fn links_and_bare_addresses_carry_their_link() {
    use crate::tui::links::linked;
    let text = "See [docs](https://a.example/x), https://b.example/y_z_. and <https://c.example>; [no](file:///x)";
    let theme = with_look(|look| look.theme.clone());
    for (piece, style) in [
        ("docs", linked(theme.link, "https://a.example/x")),
        ("https://a.example/x", linked(theme.dim, "https://a.example/x")),
        ("https://b.example/y_z", linked(theme.link, "https://b.example/y_z")),
        ("https://c.example", linked(theme.link, "https://c.example")),
        ("no", theme.link),
    ] {
        assert_eq!(style_of(text, piece), style, "{piece}");
    }
    with_look(|look| {
        let mut markdown = Markdown::default();
        markdown.push(text);
        markdown.layout(40, look);
        let links = markdown.take_links();
        let color = linked(theme.link, "https://b.example/y_z").underline_color;
        assert!(links.opening(color).is_some_and(|opening| opening.contains("https://b.example/y_z\x1b")));
    });
}

/// Every letter and digit of a text that is built from these pieces is shown, in order.
mod letters {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_definition_in_a_list_item_is_shown_if_backticks_surround_it() {
        assert_eq!(render("a `b\n- [a]: b`", 70).concat().replace(' ', ""), "a`b•[a]:b`");
        assert_eq!(render("a `b\n[c]: d` e", 70), ["a b [c]: d e"]);
    }

    #[test]
    fn a_definition_after_a_code_block_that_its_list_item_ends_is_shown() {
        assert!(render("- ~~~~\n[a]: ba", 70).concat().ends_with("[a]: ba"));
        assert!(render("> ~~~~\n[a]: ba", 70).concat().ends_with("[a]: ba"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_letter_is_lost(pieces in prop::collection::vec(prop_oneof![
            "[a-z]{1,4}", "[「」なのでé。、]{1,2}", Just("**".to_owned()), Just("*".to_owned()), Just("_".to_owned()),
            Just("`".to_owned()), Just("$".to_owned()), Just("\\(".to_owned()), Just("\\)".to_owned()), Just(" ".to_owned()),
            Just("\n".to_owned()), Just("\n\n".to_owned()), Just("- ".to_owned()), Just("> ".to_owned()), Just("[a]: b".to_owned()),
            Just("~~".to_owned()), Just("\\".to_owned()), Just("| a | b |\n|---|---|\n".to_owned()), Just("|".to_owned()),
            Just("---".to_owned()), Just("$$\n".to_owned()), Just("#".to_owned()),
        ], 0..30)) {
            let text = pieces.concat();
            // A command of TeX, such as \ge, is shown as its sign.
            prop_assume!(!text.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && pair[1].is_ascii_alphabetic()));
            // Additional letters are allowed: code fences have a label, and a table drawn as a list repeats its header.
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            let shown = render(&text, 400).concat();
            let wanted = letters(&text);
            // A formula shows `_h` as a subscript.
            let plain = |c| "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ".chars().position(|sub| sub == c).and_then(|n| "aehijklmnoprstuvx".chars().nth(n));
            let mut rest = shown.chars().map(|c| plain(c).unwrap_or(c));
            prop_assert!(wanted.chars().all(|c| rest.any(|shown| shown == c)), "{text:?} is shown as {shown:?}");
        }
    }
}
