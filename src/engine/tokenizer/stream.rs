//! Joins the bytes of streamed tokens into whole characters.

/// Converts token bytes to text incrementally and holds back the bytes of incomplete characters.
#[derive(Debug, Default)]
pub struct TextStream {
    /// The first bytes of an incomplete character; at most 3.
    held: Vec<u8>,
}

impl TextStream {
    /// Adds a token's bytes and returns the characters that are now complete. Invalid bytes become U+FFFD.
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

    /// Returns the held bytes at the end of the stream, replaced by U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Whether `bytes` is the valid start of an incomplete character.
fn may_go_on(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}
