//! How attached files are put to the model: before the question, each as a fenced block below its name.

use super::Attachment;

/// The question as the model reads it. A fence is longer than any run of backticks in its file, so that no file can end
/// its own block.
pub fn with_files(files: &[Attachment], prompt: &str) -> String {
    let blocks: String = files.iter().map(|file| block(file) + "\n\n").collect();
    blocks + prompt
}

fn block(Attachment { name, text }: &Attachment) -> String {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let name = name.replace(char::is_control, " ");
    format!("{name}:\n\n{fence}{}\n{text}{end}{fence}", language(&name))
}

/// The extension, which is the language's name or close to it; empty if there is none.
fn language(name: &str) -> &str {
    let extension =
        name.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension);
    let plain = extension.len() <= 12 && extension.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { extension } else { "" }
}

/// Length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for b in text.bytes() {
        run = if b == b'`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> Attachment {
        Attachment { name: name.into(), text: text.into() }
    }

    #[test]
    fn files_are_fenced_and_named_before_the_question() {
        let files = [file("src/a.rs", "fn a() {}\n"), file("notes", "one")];
        let whole = with_files(&files, "Why?");
        assert_eq!(whole, "src/a.rs:\n\n```rs\nfn a() {}\n```\n\nnotes:\n\n```\none\n```\n\nWhy?");
        assert_eq!(with_files(&[], "Why?"), "Why?");
    }

    #[test]
    fn a_fence_is_longer_than_any_inside() {
        let whole = with_files(&[file("a.md", "````\nx\n````\n")], "?");
        assert!(whole.starts_with("a.md:\n\n`````md\n````\nx\n````\n`````\n"), "{whole}");
        assert!(with_files(&[file("a\nb.$(x)", "x")], "?").starts_with("a b.$(x):\n\n```\nx\n```"));
    }
}
