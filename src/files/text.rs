//! Reads a file that is attached to a prompt. Its content decides what it is: text of any Unicode encoding is converted to
//! UTF-8; everything else is refused with a reason and a way out.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::PathBuf;

use super::{kind, open_regular};

/// Size limit of an attached file, in bytes: about half a million tokens.
pub const LARGEST: u64 = 2_000_000;

/// Why a file cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing has this name.
    Missing,
    /// The reason, as a part of a sentence that begins with the file's name.
    Because(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Because(why) => f.write_str(why),
        }
    }
}

/// The text of the file `name`, which may begin with `~/`. Reads at most [`LARGEST`] bytes, and never waits for a FIFO or
/// a device.
pub fn read(name: &str) -> Result<String, Refusal> {
    let path = path_of(name);
    let because = |why: &str| Err(Refusal::Because(why.to_owned()));
    match path.metadata() {
        Err(error) => return Err(refusal(&error)),
        Ok(found) if found.is_dir() => return because("is a folder: name a file in it"),
        Ok(found) if found.is_file() && found.len() > LARGEST => return Err(too_large(found.len())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let read = open_regular(&path, OpenOptions::new().read(true))
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| refusal(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(too_large(bytes.len() as u64));
    }
    let text = text_of(bytes).map_err(Refusal::Because)?;
    if text.trim().is_empty() { because("is empty: there is nothing to attach") } else { Ok(text) }
}

/// The path of `name`, with `~/` replaced by the home folder.
pub fn path_of(name: &str) -> PathBuf {
    let home = name.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
    home.unwrap_or_else(|| PathBuf::from(name))
}

fn too_large(bytes: u64) -> Refusal {
    let (size, most) = (bytes as f64 / 1e6, LARGEST as f64 / 1e6);
    Refusal::Because(format!(
        "has {size:.1} MB, and at most {most:.0} MB can be attached: attach the part that matters"
    ))
}

fn refusal(error: &io::Error) -> Refusal {
    use io::ErrorKind::*;
    match error.kind() {
        NotFound | NotADirectory | InvalidInput | InvalidFilename => Refusal::Missing,
        PermissionDenied => Refusal::Because("may not be read: permission denied".into()),
        // From `open_regular`: "it is a FIFO, not a regular file".
        _ => {
            let why = error.to_string();
            Refusal::Because(why.strip_prefix("it ").map_or_else(|| format!("cannot be read: {why}"), str::to_owned))
        }
    }
}

/// `bytes` as text; the error is the reason.
fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if let Some((text, name)) = wide(&bytes) {
        return text.ok_or_else(|| format!("begins like {name} but is not valid: save it as UTF-8"));
    }
    if let Some(found) = kind::of(&bytes) {
        return Err(found.refusal());
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if is_binary(error.as_bytes()) => return Err(BINARY.into()),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            return Err(format!(
                "is not UTF-8 (byte {at} is the first wrong one): convert it with iconv, then attach it"
            ));
        }
    };
    if is_binary(text.as_bytes()) {
        return Err(BINARY.into());
    }
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

const BINARY: &str = "is binary: only text can be attached";

/// The text of UTF-16 or UTF-32, recognised by its byte order mark, and the encoding's name; no text if it is invalid.
fn wide(bytes: &[u8]) -> Option<(Option<String>, &'static str)> {
    let four = |from: fn([u8; 4]) -> u32| {
        let (units, rest) = bytes[4..].as_chunks::<4>();
        rest.is_empty().then(|| units.iter().map(|unit| char::from_u32(from(*unit))).collect::<Option<String>>())?
    };
    let two = |from: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes[2..].as_chunks::<2>();
        let units = units.iter().map(|unit| from(*unit));
        rest.is_empty().then(|| char::decode_utf16(units).collect::<Result<String, _>>().ok())?
    };
    // UTF-32 first: its little-endian mark begins with that of UTF-16.
    match bytes {
        [0xff, 0xfe, 0, 0, ..] => Some((four(u32::from_le_bytes), "UTF-32")),
        [0, 0, 0xfe, 0xff, ..] => Some((four(u32::from_be_bytes), "UTF-32")),
        [0xff, 0xfe, ..] => Some((two(u16::from_le_bytes), "UTF-16")),
        [0xfe, 0xff, ..] => Some((two(u16::from_be_bytes), "UTF-16")),
        _ => None,
    }
}

/// Whether `bytes` hold a NUL, or so many control characters that they are no text.
fn is_binary(bytes: &[u8]) -> bool {
    let is_control = |b: &&u8| **b < 0x20 && !matches!(**b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    bytes.contains(&0) || bytes.iter().filter(is_control).count() * 20 > bytes.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn in_file(content: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        read(path.to_str().unwrap()).map_err(|refusal| refusal.to_string())
    }

    fn why(content: &[u8]) -> String {
        in_file(content).unwrap_err()
    }

    #[test]
    fn text_of_every_unicode_encoding_is_read() {
        let text = "Grüße, 日本 👩‍🚀\n";
        let units = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
        let wide = |bytes: fn(u32) -> [u8; 4]| text.chars().flat_map(|c| bytes(c.into())).collect::<Vec<_>>();
        let forms = [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [vec![0xff, 0xfe], units(u16::to_le_bytes)].concat(),
            [vec![0xfe, 0xff], units(u16::to_be_bytes)].concat(),
            [vec![0xff, 0xfe, 0, 0], wide(u32::to_le_bytes)].concat(),
            [vec![0, 0, 0xfe, 0xff], wide(u32::to_be_bytes)].concat(),
        ];
        for form in forms {
            assert_eq!(in_file(&form).as_deref(), Ok(text), "{:?}", &form[..4]);
        }
    }

    #[test]
    fn content_that_is_no_text_is_refused_with_its_kind() {
        assert!(why(b"%PDF-1.7\nx").contains("PDF"));
        assert!(why(b"\x89PNG\r\n\x1a\n\0").contains("image"));
        assert!(why(b"PK\x03\x04\0").contains("archive"));
        assert!(why(b"a\0b").contains("binary"));
        assert!(why(&[1, 2, 3, b'a', b'b']).contains("binary"));
        assert!(why(b"caf\xe9").contains("byte 3 is the first wrong one"));
        assert!(why(b"\xff\xfea").contains("UTF-16"));
        assert!(why(b" \n").contains("empty"));
        assert!(why(&vec![b'a'; LARGEST as usize + 1]).contains("at most 2 MB"));
        assert_eq!(in_file(&vec![b'a'; LARGEST as usize]).map(|text| text.len() as u64), Ok(LARGEST));
    }

    #[test]
    fn folders_fifos_devices_and_missing_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let why = |path: &std::path::Path| read(path.to_str().unwrap()).unwrap_err();
        assert_eq!(why(&folder.path().join("absent")), Refusal::Missing);
        assert_eq!(why(&fifo.join("below")), Refusal::Missing);
        assert_eq!(read("a\0b").unwrap_err(), Refusal::Missing);
        assert_eq!(read("").unwrap_err(), Refusal::Missing);
        assert!(why(folder.path()).to_string().contains("is a folder"));
        assert_eq!(why(&fifo).to_string(), "is a FIFO, not a regular file");
        assert_eq!(read("/dev/zero").unwrap_err().to_string(), "is a device, not a regular file");
    }
}
