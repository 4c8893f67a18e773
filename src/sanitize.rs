//! Makes foreign text harmless before it meets a terminal: model output, history, stdin, file names, server errors.
//!
//! Keeps a state machine's state between pieces, so that a sequence split across tokens is caught too.

/// Cleans a stream of text piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Sanitizer {}

impl Sanitizer {
    /// The harmless form of the next piece. Newlines and tabs stay; escape sequences (CSI, OSC, DCS, APC, PM, SOS,
    /// C1 forms, split ones, unterminated ones), other control characters and bidi controls go.
    pub fn push(&mut self, text: &str) -> String {
        let _ = text;
        todo!("owner: cli")
    }
}

/// The harmless form of a whole text.
pub fn sanitize(text: &str) -> String {
    Sanitizer::default().push(text)
}
