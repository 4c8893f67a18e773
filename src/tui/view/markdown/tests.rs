//! Rendering of Markdown, and that streamed text renders the same as the complete text.

use std::path::Path;

use super::*;
use crate::tui::theme::{ColorDepth, Theme};
use crate::tui::view::glyphs::UNICODE;
use crate::tui::view::wrap;

mod streaming;

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

#[test]
fn all_block_types_render() {
    insta::assert_snapshot!(render(EVERYTHING, 44).join("\n"));
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
