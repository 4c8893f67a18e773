//! Attached files: `@path`, `/file` and -f, what is refused, and what is stored and sent again.

use crate::run::Home;
use crate::support_pty;

/// Repeats what the model reads as the user's message.
const ECHO: &str = "fallback = \"READ {user} END\"\n";

#[test]
fn a_path_after_an_at_sign_is_completed_attached_and_replayed() {
    let home = support_pty::Home::new(ECHO);
    std::fs::create_dir(home.folder.path().join("src")).unwrap();
    std::fs::write(home.folder.path().join("src/secret.rs"), "fn answer() -> u8 { 42 }\n").unwrap();
    let mut tui = home.start(&[]);
    tui.type_text("what is in @secr").wait_for("src/secret.rs");
    tui.type_text("\t").wait_for("[src/secret.rs · 25 B · 5");
    tui.send("?").wait_for("fn answer() -> u8 { 42 }").wait_for("END");
    tui.wait_for("what is in @src/secret.rs ?");
    tui.type_text("\u{4}").wait_for_exit();
    std::fs::write(home.folder.path().join("src/secret.rs"), "changed\n").unwrap();
    let mut tui = home.start(&["-c"]);
    tui.wait_for("[src/secret.rs · 25 B]");
    tui.send("/regenerate").wait_for_times("fn answer() -> u8 { 42 }", 1);
    tui.wait_until_gone("changed");
}

#[test]
fn enter_right_behind_a_path_waits_for_the_file() {
    let home = support_pty::Home::new(ECHO);
    std::fs::write(home.folder.path().join("notes.md"), "bring bread").unwrap();
    let mut tui = home.start(&[]);
    tui.send("read @notes.md").wait_for("bring bread").wait_for("END");
    tui.wait_for("[notes.md · 11 B]");
}

#[test]
fn what_is_no_text_is_refused_and_the_draft_is_kept() {
    let home = support_pty::Home::new(ECHO);
    std::fs::write(home.folder.path().join("paper"), b"%PDF-1.7\n\x00").unwrap();
    let fifo = home.folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut tui = home.start(&[]);
    tui.send("see @paper").wait_for("[paper is a PDF, not text").wait_for("pdftotext").wait_for("not sent");
    tui.wait_for("see @paper");
    tui.type_text("\u{15}").send("see @pipe").wait_for("[pipe is a FIFO, not a regular file]");
    tui.type_text("\u{15}").send("hello @alice").wait_for("READ hello @alice END");
}

#[test]
fn the_command_file_attaches_and_its_path_is_completed() {
    let home = support_pty::Home::new(ECHO);
    std::fs::write(home.folder.path().join("my notes.md"), "bring bread").unwrap();
    let mut tui = home.start(&[]);
    tui.type_text("/file my").wait_for("my notes.md");
    tui.type_text("\t").send("").wait_for("[my notes.md · 11 B");
    // Backspace takes the space, then the whole mention.
    tui.type_text("\u{7f}\u{7f}").wait_until_gone("[my notes.md");
    tui.send("/file nope.md").wait_for("nope.md does not exist. It is not attached.").wait_until_gone("@nope.md");
}

#[test]
fn files_of_the_command_line_are_attached_to_the_first_prompt() {
    let home = support_pty::Home::new(ECHO);
    for (name, text) in [("a.md", "first file"), ("b.md", "second file")] {
        std::fs::write(home.folder.path().join(name), text).unwrap();
    }
    let mut tui = support_pty::Tui::spawn(home.command(&["-f", "a.md", "-f", "b.md"]), 100, 30);
    tui.wait_for("[a.md · 10 B").wait_for("[b.md · 11 B");
    tui.send("compare").wait_for("first file").wait_for("second file").wait_for("compare END");
}

#[test]
fn one_shot_reads_files_before_the_prompt_and_exports_them() {
    let home = Home::new();
    let model = home.model(ECHO);
    let file = home.file("a b.rs", "fn a() {}\n```\n");
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain("wide".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let wide = home.file("wide.txt", wide);
    let (file, wide) = (file.to_str().unwrap(), wide.to_str().unwrap());
    let ran = home.run(&["-m", &model, "-p", "Why?", "-f", file, "-f", wide, "--raw"]);
    let read = format!("READ {file}:\n\n````rs\nfn a() {{}}\n```\n````\n\n{wide}:\n\n```txt\nwide\n```\n\nWhy? END");
    assert_eq!((ran.code(), ran.stdout.trim_end()), (0, read.as_str()), "{ran:?}");
    let json = home.run(&["conversations", "export", "last", "--format", "json"]).json();
    assert_eq!(json["turns"][0]["prompt"], "Why?");
    assert_eq!(json["turns"][0]["files"][1]["text"], "wide");
    let markdown = home.run(&["conversations", "export", "last"]).stdout;
    assert!(markdown.contains("````rs\nfn a() {}"), "{markdown}");
    let dry = home.run(&["-m", &model, "-p", "Why?", "-f", wide, "--dry-run"]);
    assert!(dry.stdout.contains("```txt\nwide\n```\n\nWhy?"), "{dry:?}");
}

#[test]
fn one_shot_refuses_what_cannot_be_attached() {
    let home = Home::new();
    let model = home.model(ECHO);
    let image = home.file("x.png", b"\x89PNG\r\n\x1a\n\0");
    let big = home.file("big.txt", vec![b'x'; 2_000_001]);
    for (path, why) in [
        (image.to_str().unwrap(), "is an image"),
        (big.to_str().unwrap(), "at most 2 MB"),
        (home.path().to_str().unwrap(), "is a folder"),
        ("nope", "does not exist"),
        ("/dev/zero", "is a device"),
        ("-", "is not a file"),
    ] {
        let ran = home.run(&["-m", &model, "-p", "Why?", "-f", path]);
        assert!(ran.code() == 2 && ran.stdout.is_empty() && ran.stderr.contains(why), "{path}: {ran:?}");
    }
    let list = home.run(&["conversations", "list", "--format", "json"]).stdout;
    assert_eq!(list.trim(), "[]", "nothing was stored");
}
