//! Tests of the text that is shown, in this notation: `<b>…</b>`, `¶` at a paragraph's end, `¦` at a table cell's.

use proptest::prelude::*;
use pulldown_cmark::{Event, Tag, TagEnd};

use super::Source;

fn show(text: &str) -> String {
    let source = Source::new(text, true);
    let mut out = String::new();
    for (event, range) in source.events() {
        let mark = match event {
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => source.written(&text, range).to_owned(),
            Event::Code(code) => format!("`{}`", source.written(&code, range)),
            Event::SoftBreak | Event::HardBreak => "\n".to_owned(),
            Event::Rule => "<hr>".to_owned(),
            Event::Start(Tag::Link { dest_url, .. }) => format!("<a {}>", source.written(&dest_url, range)),
            Event::Start(Tag::Heading { level, .. }) => format!("<h{}>", level as u8),
            Event::Start(tag) => format!("<{}>", name(&tag.to_end())),
            Event::End(TagEnd::Paragraph) => "¶".to_owned(),
            Event::End(TagEnd::TableCell) => " ¦ ".to_owned(),
            Event::End(tag) => format!("</{}>", name(&tag)),
            _ => String::new(),
        };
        out += &mark.replace("<>", "").replace("</>", "");
    }
    out.trim_end().to_owned()
}

fn name(tag: &TagEnd) -> &'static str {
    match tag {
        TagEnd::Emphasis => "i",
        TagEnd::Strong => "b",
        TagEnd::Strikethrough => "s",
        TagEnd::Heading(_) => "h",
        TagEnd::Link => "a",
        TagEnd::Item => "li",
        TagEnd::BlockQuote(_) => "q",
        TagEnd::CodeBlock => "pre",
        _ => "",
    }
}

fn check(cases: &[(&str, &str)]) {
    for (text, shown) in cases {
        assert_eq!(show(text), shown.trim_end(), "{text:?}");
    }
}

#[test]
fn formulas_are_shown_as_written() {
    check(&[
        (
            "Inline $x*y*z$ and $a_i, b_{i+1}$ and \\(a_1 + b_1\\) and \\[ \\{1,2\\}_{P_1} \\].",
            "Inline $x*y*z$ and $a_i, b_{i+1}$ and \\(a_1 + b_1\\) and \\[ \\{1,2\\}_{P_1} \\].¶",
        ),
        (
            "$$\n\\underbrace{\\{1,2\\}}_{P_1},\\;\\dots,\\underbrace{\\{3,4\\}}_{P_2} \\\\\na * b * c\n$$\n\nx",
            "$$\n\\underbrace{\\{1,2\\}}_{P_1},\\;\\dots,\\underbrace{\\{3,4\\}}_{P_2} \\\\\na * b * c\n$$¶x¶",
        ),
        ("Prices: $5 and $10 *stay* prices.", "Prices: $5 and $10 <i>stay</i> prices.¶"),
        ("$5 and **bold** $6", "$5 and <b>bold</b> $6¶"),
        ("US$5 *a* and $6,000.50 *b* or $7-$8 *c*", "US$5 <i>a</i> and $6,000.50 <i>b</i> or $7-$8 <i>c</i>¶"),
        ("**$5** or **$6**", "<b>$5</b> or <b>$6</b>¶"),
        ("**$HOME** and **$PATH** or $USER", "<b>$HOME</b> and <b>$PATH</b> or $USER¶"),
        ("`$x*y*` and $a*b*c$ `*c*`", "`$x*y*` and $a*b*c$ `*c*`¶"),
        ("- item $x_1*x_2*$\n- \\(a*b*c\\)", "<li>item $x_1*x_2*$</li><li>\\(a*b*c\\)</li>"),
        ("a $x +\ny*z*$ b", "a $x +\ny*z*$ b¶"),
        ("> $$\n> a_1*b*\n> - c\n> $$\n> end", "<q>$$\na_1*b*\n- c\n$$\nend¶</q>"),
        ("1. first\n   $$\n   a\n   = b\n   $$\n2. two", "<li>first\n$$\na\n= b\n$$</li><li>two</li>"),
        ("$$\na\n\nb\n$$\n", "$$\na\n\nb\n$$¶"),
        (
            "\\[\n\\begin{aligned}\na &= b \\\\\n  &= *c*\n\\end{aligned}\n\\]",
            "\\[\n\\begin{aligned}\na &= b \\\\\n  &= *c*\n\\end{aligned}\n\\]¶",
        ),
        ("\\begin{cases} a*b* \\\\ c \\end{cases} *x*", "\\begin{cases} a*b* \\\\ c \\end{cases} <i>x</i>¶"),
        ("Open $x*y*", "Open $x*y*¶"),
        ("Open $x *y*\n\nnext", "Open $x <i>y</i>¶next¶"),
        ("Open \\(x*y*", "Open \\(x*y*¶"),
        ("pay $5 *now*", "pay $5 <i>now</i>¶"),
        ("$$\nx*y*\n\nz*w*", "$$\nx*y*\n\nz*w*¶"),
        ("$HOME is *nice* and", "$HOME is <i>nice</i> and¶"),
        ("```\n$$\n```\n*x* $y$", "<pre>$$\n</pre><i>x</i> $y$¶"),
        ("```\n    ```\n```\n$a*b*$ c", "<pre>    ```\n</pre>$a*b*$ c¶"),
        ("`a $b` *x* `c$` d", "`a $b` <i>x</i> `c$` d¶"),
        ("其中$x*y*z$是*重*要", "其中$x*y*z$是<i>重</i>要¶"),
        ("echo $$ and *x* $$", "echo $$ and *x* $$¶"),
        ("\\[1\\] and \\[a\\](b)", "\\[1\\] and [a](b)¶"),
        ("H$_2$O and n$^{th}$ *x*", "H$_2$O and n$^{th}$ <i>x</i>¶"),
        ("$x^*$ and $y^*$ *z*", "$x^*$ and $y^*$ <i>z</i>¶"),
        ("# $a*b*c$\ntext", "<h1>$a*b*c$</h>text¶"),
        ("- costs US$x\n- other CA$y", "<li>costs US$x</li><li>other CA$y</li>"),
        ("$HOME/foo_bar is *nice*", "$HOME/foo_bar is <i>nice</i>¶"),
        ("$f(x) = \\text{ if *x* then } y", "$f(x) = \\text{ if *x* then } y¶"),
        ("$5 *million* and 6$ *x*", "$5 <i>million</i> and 6$ <i>x</i>¶"),
    ]);
}

#[test]
fn emphasis_opens_and_closes_beside_chinese_japanese_and_korean() {
    check(&[
        ("**「A」**なので**「B」**です。", "<b>「A」</b>なので<b>「B」</b>です。¶"),
        ("**注意：**これは", "<b>注意：</b>これは¶"),
        ("한국어 **마크다운(Markdown)**을 쓴다", "한국어 <b>마크다운(Markdown)</b>을 쓴다¶"),
        ("これは***「重要」***です", "これは<i><b>「重要」</b></i>です¶"),
        ("これは~~「旧」~~です", "これは<s>「旧」</s>です¶"),
        ("これは*「旧」*です", "これは<i>「旧」</i>です¶"),
        ("他说**“你好”**。然后", "他说<b>“你好”</b>。然后¶"),
        ("**ｶﾞｷﾞ｡**ｶﾞ", "<b>ｶﾞｷﾞ｡</b>ｶﾞ¶"),
        ("**[a](b)**を**`c`**は", "<b><a b>a</a></b>を<b>`c`</b>は¶"),
        ("**「A」:**なので *x*", "<b>「A」:</b>なので <i>x</i>¶"),
    ]);
}

#[test]
fn paths_dunder_names_and_urls_are_not_markdown() {
    check(&[
        ("C:\\Program Files\\_foo\\*.txt *x*", "C:\\Program Files\\_foo\\*.txt <i>x</i>¶"),
        ("C:\\Users\\_x and \\\\server\\_share\\a *b*", "C:\\Users\\_x and \\\\server\\_share\\a <i>b</i>¶"),
        ("**C:\\Users\\_x**, (C:\\__init__\\y) a\\_b 2\\*3", "<b>C:\\Users\\_x</b>, (C:\\__init__\\y) a_b 2*3¶"),
        (
            "`__init__` __init__ and __bold__ and __bold text__ x/__init__.py, obj.__my_x__",
            "`__init__` __init__ and <b>bold</b> and <b>bold text</b> x/__init__.py, obj.__my_x__¶",
        ),
        (
            "https://x.org/__a__/b_*c*_d and [t](https://y.z/__a__) <https://q/__a__>",
            "https://x.org/__a__/b_*c*_d and <a https://y.z/__a__>t</a> <a https://q/__a__>https://q/__a__</a>¶",
        ),
        ("[https://a.b/__c__](https://a.b/__c__)", "<a https://a.b/__c__>https://a.b/__c__</a>¶"),
        ("[1]: https://x.org\n[^2]: word", "[1]: https://x.org¶word¶"),
        ("PATH *x* \\frac{a}{b}\\;c \\alpha_1", "PATH <i>x</i> \\frac{a}{b}\\;c \\alpha_1¶"),
    ]);
}

#[test]
fn operators_and_tildes_are_not_emphasis() {
    check(&[
        ("snake_case* and other_case*", "snake_case* and other_case*¶"),
        ("2*3*4 = 24, a*b*c, x**2 + y**2, f(x)*g(x)*h", "2*3*4 = 24, a*b*c, x**2 + y**2, f(x)*g(x)*h¶"),
        ("**x**2 *a*b", "<b>x</b>2 <i>a</i>b¶"),
        ("select count(*) from a where x*y*z", "select count(*) from a where x*y*z¶"),
        ("regex .*foo.* and a.*b, but *this.* too", "regex .*foo.* and a.*b, but <i>this.</i> too¶"),
        ("src/*.rs and tests/*.rs", "src/*.rs and tests/*.rs¶"),
        ("**yes**/**no** *and*/*or*", "<b>yes</b>/<b>no</b> <i>and</i>/<i>or</i>¶"),
        ("5~10 or 6~7, ~5 to~ x ~~gone~~", "5~10 or 6~7, ~5 to~ x <s>gone</s>¶"),
        ("pre**fix** un**believ**able *args, **kwargs", "pre<b>fix</b> un<b>believ</b>able *args, **kwargs¶"),
    ]);
}

#[test]
fn ambiguous_line_starts_are_read_as_intended() {
    check(&[
        ("This is prose.\n---\nmore", "This is prose.¶<hr>more¶"),
        ("A Title\n-------\nmore", "<h2>A Title</h>more¶"),
        ("Items:\n-", "Items:\n-¶"),
        ("Sum\n=", "Sum\n=¶"),
        ("---\ntitle: x\n---\nbody", "<hr>title: x¶<hr>body¶"),
        ("two\nlines\n---\n", "two\nlines¶<hr>"),
        ("- a\n  -", "<li>a\n-</li>"),
        ("- a\n- b\n---\nx", "<li>a</li><li>b</li><hr>x¶"),
        (">5 items\n\n>=3\n\n> q", ">5 items¶>=3¶<q>q¶</q>"),
        ("Vec<String> & List<T> x", "Vec<String> & List<T> x¶"),
    ]);
}

#[test]
fn no_table_cell_is_lost() {
    check(&[
        ("| a | b |\n|---|---|\n| $|x|*2*$ | \\(y_1*z*\\) |\n", "a ¦ b ¦ $|x|*2*$ ¦ \\(y_1*z*\\) ¦ "),
        ("| a | b |\n|---|---|\n| $5 | $6 |\n", "a ¦ b ¦ $5 ¦ $6 ¦ "),
        ("| a | b |\n|---|---|\n| 1 | 2 | 3 |\n| 4 | 5 |\n", "a ¦ b ¦ 1 ¦ 2 | 3 ¦ 4 ¦ 5 ¦ "),
        ("| a | b |\n|---|---|\n| `x|y` | `p\\|q` |\n", "a ¦ b ¦ `x|y` ¦ `p|q` ¦ "),
    ]);
}

/// Checks every prefix of the text, as during streaming.
#[test]
fn a_streaming_formula_is_never_shown_as_markdown() {
    for text in
        ["so $x*y*z$ and", "so \\(a_1 *b* c\\) and", "$$\na * b\n\n*c* + d\n$$\n", "\\[\n*a*\n\\]", "$a_{*b*} + c$"]
    {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        for shown in ends.map(|end| show(&text[..end])) {
            assert!(!shown.contains("<i>") && !shown.contains("<li>"), "{text:?}: {shown:?}");
        }
    }
}

#[test]
fn last_newline_skips_formulas() {
    let text = "before\n$$\na\nb\n$$\nafter\n";
    assert_eq!(Source::new(text, true).last_newline(), text.find("\nafter"));
    let text = "before\n$$\na\nb\n";
    assert_eq!(Source::new(text, true).last_newline(), text.find("\n$$"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn the_copy_keeps_the_length_of_any_text(pieces in prop::collection::vec(
        prop_oneof!["[$\\\\*_~|`()\\[\\]{}<>:/#=+.\n -]{1,3}", "[a-z0-9]{1,3}", "[「」、なので가é😀\u{301}]{1,2}",
            Just("\\begin{a}".to_owned()), Just("$$".to_owned()), Just("|---|\n".to_owned()), Just("```".to_owned())],
        0..40,
    )) {
        let text = pieces.concat();
        for growing in [false, true] {
            let source = Source::new(&text, growing);
            prop_assert_eq!(source.read.len(), text.len());
            for (event, range) in source.events() {
                if let Event::Text(parsed) | Event::Code(parsed) = event {
                    source.written(&parsed, range);
                }
            }
            source.last_newline();
        }
    }
}

/// Adversarial lines must not take quadratic time.
#[test]
fn adversarial_lines_are_scanned_fast() {
    for piece in [
        "\\(",
        "\\[",
        "$$a",
        "$a ",
        "$a",
        "](",
        "<a",
        "((",
        "a**b",
        "`",
        "`` ` ",
        "a*",
        "_a",
        "\\a ",
        "|",
        "\\begin{",
        "\\begin{a}",
        "__",
        "「*",
    ] {
        let text = piece.repeat(60_000 / piece.len());
        let start = std::time::Instant::now();
        Source::new(&text, true);
        Source::new(&format!("{text}\n\n"), false);
        assert!(start.elapsed() < std::time::Duration::from_secs(10), "{piece:?}: {:?}", start.elapsed());
    }
}
