//! What a file that is not text is, by the bytes at its beginning.

/// A kind of file that cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pdf,
    Image,
    Sound,
    Archive,
    Program,
    Database,
    Weights,
}

impl Kind {
    /// Why it is refused and what to do, as a part of a sentence that begins with the file's name.
    pub(super) fn refusal(self) -> String {
        let (what, advice) = match self {
            Self::Pdf => ("a PDF", "attach its text, which pdftotext extracts"),
            Self::Image => ("an image", "models here read text only; describe it, or attach the text in it"),
            Self::Sound => ("a sound or a video", "models here read text only; attach a transcript"),
            Self::Archive => ("an archive or an office document", "unpack it or save it as text, and attach that"),
            Self::Program => ("a program", "attach its source"),
            Self::Database => ("a database", "export what matters as text, and attach that"),
            Self::Weights => ("a model", "-m or /model uses it"),
        };
        format!("is {what}, not text: {advice}")
    }
}

/// Beginnings of files, and their kinds.
const MAGIC: &[(&[u8], Kind)] = &[
    (b"\x89PNG\r\n\x1a\n", Kind::Image),
    (b"\xff\xd8\xff", Kind::Image),
    (b"GIF87a", Kind::Image),
    (b"GIF89a", Kind::Image),
    (b"II*\0", Kind::Image),
    (b"MM\0*", Kind::Image),
    (b"\0\0\x01\0", Kind::Image),
    (b"\x00\x00\x00\x0cjP  ", Kind::Image),
    (b"ID3", Kind::Sound),
    (b"OggS", Kind::Sound),
    (b"fLaC", Kind::Sound),
    (b"\x1a\x45\xdf\xa3", Kind::Sound),
    (b"PK\x03\x04", Kind::Archive),
    (b"PK\x05\x06", Kind::Archive),
    (b"\x1f\x8b", Kind::Archive),
    (b"BZh", Kind::Archive),
    (b"\xfd7zXZ\0", Kind::Archive),
    (b"7z\xbc\xaf\x27\x1c", Kind::Archive),
    (b"\x28\xb5\x2f\xfd", Kind::Archive),
    (b"Rar!\x1a\x07", Kind::Archive),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind::Archive),
    (b"\x7fELF", Kind::Program),
    (b"\xcf\xfa\xed\xfe", Kind::Program),
    (b"\0asm", Kind::Program),
    (b"SQLite format 3\0", Kind::Database),
    (b"GGUF", Kind::Weights),
];

/// The kind of `bytes`; `None` if they may be text. A beginning of letters alone counts only if a NUL or a byte beyond
/// ASCII follows: a text may begin with it.
pub(super) fn of(bytes: &[u8]) -> Option<Kind> {
    let head = &bytes[..bytes.len().min(1024)];
    let looks_binary = head.iter().any(|b| *b == 0 || *b >= 0x80);
    let found = MAGIC.iter().find(|(magic, _)| head.starts_with(magic));
    if let Some((magic, kind)) = found
        && (looks_binary || !magic.iter().all(u8::is_ascii_graphic))
    {
        return Some(*kind);
    }
    if head.starts_with(b"%PDF-") {
        return Some(Kind::Pdf);
    }
    let at = |start: usize| head.get(start..start + 4).unwrap_or_default();
    match (at(0), at(4), at(8)) {
        (b"RIFF", _, b"WEBP") => Some(Kind::Image),
        (b"RIFF", _, b"WAVE" | b"AVI ") => Some(Kind::Sound),
        (_, b"ftyp", b"avif" | b"heic" | b"heix" | b"mif1") => Some(Kind::Image),
        (_, b"ftyp", _) if looks_binary => Some(Kind::Sound),
        ([b'B', b'M', ..], ..) if head.contains(&0) => Some(Kind::Image),
        ([b'M', b'Z', ..], ..) if head.contains(&0) => Some(Kind::Program),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_first_bytes() {
        assert_eq!(of(b"%PDF-1.4"), Some(Kind::Pdf));
        assert_eq!(of(b"RIFF\x10\0\0\0WEBPVP8 "), Some(Kind::Image));
        assert_eq!(of(b"\0\0\0\x18ftypheic"), Some(Kind::Image));
        assert_eq!(of(b"\0\0\0\x18ftypmp42"), Some(Kind::Sound));
        assert_eq!(of(b"BM\x36\0\0\0"), Some(Kind::Image));
        assert_eq!(of(b"GGUF\x03\0\0\0"), Some(Kind::Weights));
    }

    #[test]
    fn texts_that_begin_like_another_kind_are_texts() {
        for text in ["", "BMW builds cars", "ID3 tags explained", "GGUF is a format", "MZ", "PK", "<svg/>", "RIFF"] {
            assert_eq!(of(text.as_bytes()), None, "{text}");
        }
    }
}
