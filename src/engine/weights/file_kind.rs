//! Recognises files of other formats by their first bytes, and names the remedy for each.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes to read from the beginning of a file: all signatures are within them (the last one is tar's, at 257).
const LOOK: u64 = 512;

/// Signatures at offset 0, with the description and remedy of each.
const BEGINNINGS: [(&[u8], &str); 13] = [
    (
        b"version https://git-lfs.github.com/spec/",
        "it is a Git LFS pointer, a few lines of text in place of the file: run `git lfs pull` in its folder, or fetch the \
         model again with `chatnap models pull`",
    ),
    (b"GGUF", "it is a GGUF file: name it itself, with a name that ends in .gguf"),
    (b"PK\x03\x04", PICKLED_ZIP),
    (b"PK\x05\x06", PICKLED_ZIP),
    (b"\x1F\x8B", "it is compressed with gzip: unpack it first (gunzip)"),
    (b"BZh", "it is compressed with bzip2: unpack it first (bunzip2)"),
    (b"\xFD7zXZ\0", "it is compressed with xz: unpack it first (unxz)"),
    (b"\x28\xB5\x2F\xFD", "it is compressed with zstd: unpack it first (unzstd)"),
    (b"7z\xBC\xAF\x27\x1C", "it is a 7-Zip archive: unpack it first"),
    (
        b"\x89HDF\r\n\x1A\n",
        "it is an HDF5 file, as Keras writes; chatnap reads GGUF and safetensors: take such a file of the model",
    ),
    (b"lmgg", OLD_GGML),
    (b"fmgg", OLD_GGML),
    (b"tjgg", OLD_GGML),
];

/// Description of a safetensors file: not an error for a caller that expects one.
pub const SAFETENSORS: &str =
    "it is a safetensors file: name the folder that contains it, with its config.json and tokenizer.json";
const PICKLED_ZIP: &str = "it is a zip archive, as PyTorch's .bin, .pt and .pth files are; chatnap reads GGUF and safetensors: \
                           take such a file of the model, or unpack the archive";
const OLD_GGML: &str =
    "it is a GGML file from before GGUF, which no current program reads: take a GGUF file of the model";
const PICKLE: &str = "it is a Python pickle, as old .bin and .pt files of PyTorch are; chatnap reads GGUF and safetensors: \
                      take such a file of the model";
const PAGE: &str =
    "it is a web page, an error message of a server most likely: fetch the file again, and see what the page says";

/// Description and remedy of the file at `path`, by its first 512 bytes; `None` if they are not recognised.
pub fn describe(path: &Path) -> Option<&'static str> {
    // Only regular files: a pipe could block for ever.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(LOOK).read_to_end(&mut start).ok()?;
    of_bytes(&start)
}

/// As `describe`, for bytes already read; the first 512 are enough.
pub fn of_bytes(start: &[u8]) -> Option<&'static str> {
    if start.is_empty() {
        return Some("it is empty: fetch it again");
    }
    if start.iter().all(|byte| *byte == 0) {
        return Some("it begins with nothing but zeros, as an interrupted download does: fetch it again");
    }
    // Safetensors: an 8-byte length, then JSON. Checked first: the length bytes can equal a signature below.
    if start.get(8) == Some(&b'{') && start.get(4..8) == Some(&[0; 4]) {
        return Some(SAFETENSORS);
    }
    if let Some((_, what)) = BEGINNINGS.iter().find(|(beginning, _)| start.starts_with(beginning)) {
        return Some(what);
    }
    // Protocols 2 to 5; protocol 0 is text without a signature.
    if let [0x80, 2..=5, ..] = start {
        return Some(PICKLE);
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some("it is a tar archive: unpack it first");
    }
    let text = start.trim_ascii_start();
    let begins = |tag: &str| text.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag.as_bytes()));
    if ["<!doctype", "<html", "<head", "<?xml"].into_iter().any(begins) {
        return Some(PAGE);
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn files_are_recognised_by_their_first_bytes() {
        for (start, what) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"[..], "Git LFS pointer"),
            (b"", "empty"),
            (&[0; 512], "zeros"),
            (b"  \n<!DOCTYPE html><html>", "web page"),
            (b"<HTML><head>", "web page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "web page"),
            (b"PK\x03\x04\x14\0", "zip archive"),
            (b"\x80\x02}q\0", "pickle"),
            (b"\x1F\x8B\x08\0", "gzip"),
            (b"tjgg\x03\0\0\0", "before GGUF"),
            (b"GGUF\x03\0\0\0", "GGUF file"),
            (b"\x10\0\0\0\0\0\0\0{\"a\":", "safetensors"),
        ] {
            assert!(of_bytes(start).unwrap().contains(what), "{what}");
        }
        for start in [&b"{\"model_type\": \"llama\"}"[..], b"hello", b"\x80"] {
            assert_eq!(of_bytes(start), None);
        }
    }
}
