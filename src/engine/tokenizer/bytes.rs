//! The two encodings of bytes in vocabularies: GPT-2's printable stand-in characters, and `<0xXX>`.

/// GPT-2's table: printable Latin-1 maps to itself, every other byte to U+0100 and up, in order.
/// (`bytes_to_unicode` of the GPT-2 release.)
const fn stand_ins() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0u32;
    let mut byte = 0usize;
    while byte < 256 {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable {
            byte as u32
        } else {
            next += 1;
            255 + next
        };
        table[byte] = match char::from_u32(code) {
            Some(c) => c,
            None => '\0',
        };
        byte += 1;
    }
    table
}

static STAND_INS: [char; 256] = stand_ins();

/// The byte for each character up to U+0143, the last stand-in; 256 if the character is not a stand-in.
const fn bytes_of_stand_ins() -> [u16; 0x144] {
    let forward = stand_ins();
    let mut table = [256u16; 0x144];
    let mut byte = 0usize;
    while byte < 256 {
        table[forward[byte] as usize] = byte as u16;
        byte += 1;
    }
    table
}

static BYTES: [u16; 0x144] = bytes_of_stand_ins();

/// The stand-in character of `byte`.
pub fn stand_in(byte: u8) -> char {
    STAND_INS[byte as usize]
}

/// The byte of the stand-in character `c`.
pub fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).and_then(|&byte| u8::try_from(byte).ok())
}

/// The bytes of a piece in GPT-2's encoding; a character that is not a stand-in keeps its UTF-8.
pub fn decode_stand_ins(piece: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(piece.len());
    for c in piece.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The byte of `<0xXX>`.
pub fn hex_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// `<0xXX>` for `byte`.
pub fn hex_piece(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}
