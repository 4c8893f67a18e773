//! Tests of the vi keys: `|` is the cursor, `^` in the keys is Esc, `@` is Ctrl-R.

use super::*;
use crate::tui::composer::Composer;

/// A composer with vi keys in normal mode and this text.
fn composer(text: &str) -> Composer {
    let mut composer = Composer::default();
    composer.use_vi(true);
    let at = text.find('|').unwrap();
    composer.set(&text.replace('|', ""));
    press(&mut composer, "^");
    let before = &text[..at];
    let row = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap().chars().count();
    composer.edit_with(|area| {
        jump_to(area, row, column);
        false
    });
    composer
}

fn press(composer: &mut Composer, keys: &str) {
    for c in keys.chars() {
        let key = match c {
            '^' => KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE),
            '@' => KeyEvent::new(KeyCode::Char('r'), KeyModifiers::CONTROL),
            // A test cannot press the key ^ otherwise.
            '§' => KeyEvent::new(KeyCode::Char('^'), KeyModifiers::NONE),
            c => KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE),
        };
        if composer.vi_key(key).is_none() {
            composer.edit(key);
        }
    }
}

fn shown(composer: &Composer) -> String {
    let DataCursor(row, column) = composer.widget().cursor();
    let lines = composer.widget().lines().iter().enumerate().map(|(at, line)| {
        let mut line: Vec<char> = line.chars().collect();
        if at == row {
            line.insert(column, '|');
        }
        line.into_iter().collect::<String>()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn keys_move_and_edit_as_in_vi() {
    for (text, keys, result) in [
        // Movements.
        ("one |two", "h", "one| two"),
        ("|one two", "3l", "one| two"),
        ("|one two", "9l", "one tw|o"),
        ("|one, two", "w", "one|, two"),
        ("|one, two", "2w", "one, |two"),
        ("|one\n\ntwo", "w", "one\n|\ntwo"),
        ("one two |three", "2b", "|one two three"),
        ("|one two", "e", "on|e two"),
        ("|one two", "2e", "one tw|o"),
        ("  one |two", "0", "|  one two"),
        ("  one |two", "§", "  |one two"),
        ("|one two", "$", "one tw|o"),
        ("|1\n2\n3", "G", "1\n2\n|3"),
        ("1\n2\n|3", "gg", "|1\n2\n3"),
        ("|1\n2\n3", "2G", "1\n|2\n3"),
        // Searches in the line.
        ("|one two three", "ft", "one |two three"),
        ("|one two three", "2ft", "one two |three"),
        ("|one two three", "tt", "one| two three"),
        ("|one two three", "ft;", "one two |three"),
        ("|one two three", "tt;", "one two| three"),
        ("|one two three", "2ft,", "one |two three"),
        ("one two |three", "Fo", "one tw|o three"),
        ("one two |three", "To;", "o|ne two three"),
        ("|one\ntwo", "ft", "|one\ntwo"),
        ("|one two three", "dft", "|wo three"),
        ("|one two three", "dtt", "|two three"),
        ("|a b a c a", "fad;", "a b| "),
        ("one two |three", "dFo", "one tw|three"),
        ("|f(a, b)", "f(lct)x^", "f(|x)"),
        // The last change again.
        ("|one two three", "dw.", "|three"),
        ("|abcdef", "2x.", "|ef"),
        ("|abcdef", "x3.", "|ef"),
        ("|one two three", "cwx^w.", "x |x three"),
        ("|1\n2", "Ax^G.", "1x\n2|x"),
        ("|ab", "ix^.", "|xxab"),
        ("|a", "oz^.", "a\nz\n|z"),
        ("|abc", "rxl.", "x|xc"),
        ("|one two three", "dwu.", "|two three"),
        ("|one two three", "cwx^w.u", "x |two three"),
        ("|ab", ".", "|ab"),
        // The visual mode.
        ("|one two three", "vwd", "|wo three"),
        ("one |two three", "vbd", "|wo three"),
        ("|one two three", "vey$p", "one two threeon|e"),
        ("|one two three", "vftcx^", "|xwo three"),
        ("|abc", "vl~", "|ABc"),
        ("|one\ntwo", "vjd", "|wo"),
        ("|abc", "vl^x", "a|c"),
        ("|abc", "v$d", "|"),
        ("|abc", "vlvx", "a|c"),
        ("|one two", "vwdu", "one |two"),
        // Deletions.
        ("|abc", "x", "|bc"),
        ("|abc", "2x", "|c"),
        ("ab|c", "x", "a|b"),
        ("|one two three", "dw", "|two three"),
        ("|one two three", "d2w", "|three"),
        ("|one two three", "2dw", "|three"),
        ("one |two\nthree", "dw", "one| \nthree"),
        ("one |two", "db", "|two"),
        ("|one two", "de", "| two"),
        ("one |two", "d0", "|two"),
        ("one |two", "D", "one| "),
        ("one |two", "d$", "one| "),
        ("1\n|2\n3", "dd", "1\n|3"),
        ("1\n2\n|3", "dd", "1\n|2"),
        ("|1", "dd", "|"),
        ("|1\n2\n3", "2dd", "|3"),
        ("1\n|2\n3", "dj", "|1"),
        ("1\n|2\n3", "dk", "|3"),
        ("1\n|2\n3", "dG", "|1"),
        ("1\n|2\n3", "dgg", "|3"),
        // Changes.
        ("|one two", "cwnew", "new| two"),
        ("one |two three", "c2wnew", "one new|"),
        ("one |two", "Cnew", "one new|"),
        ("1\n|two\n3", "ccnew", "1\nnew|\n3"),
        ("1\n|two", "Snew", "1\nnew|"),
        ("|abc", "rx", "|xbc"),
        ("|abc", "2rx", "x|xc"),
        ("ab|c", "2rx", "ab|c"),
        ("|aBc", "3~", "Ab|C"),
        // Insertions.
        ("a|b", "ix", "ax|b"),
        ("a|b", "ax", "abx|"),
        ("  a|b", "Ix", "  x|ab"),
        ("|ab", "Ax^", "ab|x"),
        ("|1\n2", "ox", "1\nx|\n2"),
        ("1\n|2", "Ox", "1\nx|\n2"),
        // Registers.
        ("|one two", "dwp", "tone| wo"),
        ("1\n|2\n3", "ddp", "1\n3\n|2"),
        ("1\n|2", "yyp", "1\n2\n|2"),
        ("|1\n2", "yyjP", "|1\n1\n2"),
        ("|ab", "yw$p", "aba|b"),
        ("|ab", "x3p", "baa|a"),
        // Undo.
        ("|one two", "dwu", "|one two"),
        ("|one two", "dwu@", "|two"),
        ("|one", "Axyz^u", "|one"),
        ("|one", "ccabc^ddu", "ab|c"),
        ("|one", "ccabc^dd2u", "|one"),
        // What is not a command does nothing.
        ("|one", "dz", "|one"),
        ("|one", "q", "|one"),
        ("|one two", "d^w", "one |two"),
        ("e\u{301}|x", "hx", "|x"),
    ] {
        let mut composer = composer(text);
        press(&mut composer, keys);
        assert_eq!(shown(&composer), result, "{text:?} {keys}");
    }
}

#[test]
fn a_folded_paste_is_one_cell() {
    let mut composer = Composer::default();
    composer.use_vi(true);
    composer.set("see ");
    composer.paste(&"line\n".repeat(100));
    press(&mut composer, "^x");
    assert_eq!(composer.text(), "see ");
    press(&mut composer, "p");
    assert_eq!(composer.text(), format!("see {}", "line\n".repeat(100)));
    press(&mut composer, "0dw");
    assert_eq!(composer.text(), "line\n".repeat(100));
}

#[test]
fn the_label_shows_mode_and_unfinished_command() {
    let mut composer = composer("|one");
    assert_eq!(composer.vi_label().as_deref(), Some("normal"));
    press(&mut composer, "2d");
    assert_eq!(composer.vi_label().as_deref(), Some("normal 2d"));
    press(&mut composer, "^v2f");
    assert_eq!(composer.vi_label().as_deref(), Some("visual 2f"));
    press(&mut composer, "^i");
    assert_eq!(composer.vi_label().as_deref(), Some("insert"));
    press(&mut composer, "^");
    assert_eq!(composer.send(), "one");
    assert_eq!(composer.vi_label().as_deref(), Some("insert"), "a new draft begins in insert mode");
    composer.use_vi(false);
    assert_eq!(composer.vi_label(), None);
}

#[test]
fn j_and_k_are_the_arrow_keys() {
    let mut composer = composer("1\n|2");
    let key = KeyEvent::new(KeyCode::Char('k'), KeyModifiers::NONE);
    assert_eq!(composer.vi_key(key), Some(Did::Vertical(true, 1)));
    press(&mut composer, "3");
    assert_eq!(composer.vi_key(key), Some(Did::Vertical(true, 3)));
}
