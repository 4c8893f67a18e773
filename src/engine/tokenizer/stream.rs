//! Bytes that come in pieces → whole characters.

/// Turns tokens into text as they come, holding back the bytes of unfinished characters.
#[derive(Debug, Default)]
pub struct TextStream {
    /// The beginning of a character whose end has not come yet; at most 3 bytes.
    held: Vec<u8>,
}

impl TextStream {
    /// Adds a token's bytes; returns the whole characters that are now complete. Bytes that can belong to no
    /// character become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut used = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            used += chunk.valid().len();
            let rest = self.held.len() - used;
            if chunk.invalid().len() == rest && may_go_on(chunk.invalid()) {
                break;
            }
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                used += chunk.invalid().len();
            }
        }
        self.held.drain(..used);
        text
    }

    /// What is left at the end, unfinished bytes replaced by U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Whether more bytes could complete `bytes` to a character.
fn may_go_on(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}
