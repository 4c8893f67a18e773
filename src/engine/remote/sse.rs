//! Bytes of an event stream → events, however the bytes are cut. More lenient than the standard: a last event without
//! its empty line counts, and so does the field `error` that llama-server of 2025 writes.

/// Most bytes of one event, so that a server cannot fill the memory.
pub const MAX_EVENT: usize = 8 << 20;

/// The mark at the start of a UTF-8 text.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The field `event`; empty if there is none, `error` after a field of that name.
    pub name: String,
    /// The lines of `data`, joined by line breaks.
    pub data: String,
}

/// An event is longer than [`MAX_EVENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// An incremental reader.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    event: Event,
    /// Whether `event` has a line of data.
    has_data: bool,
    /// The last byte was a carriage return, so a line feed belongs to it.
    after_return: bool,
    /// Whether the first line was read, before which a BOM may stand.
    begun: bool,
}

impl EventReader {
    /// The events that `bytes` complete, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ if self.line.len() + self.event.data.len() >= MAX_EVENT => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    /// The event that the end of the stream leaves open.
    pub fn finish(&mut self) -> Option<Event> {
        if !self.line.is_empty() {
            let _ = self.end_line();
        }
        self.dispatch()
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(BOM).unwrap_or(&line) } else { &line[..] };
        if line.is_empty() {
            return self.dispatch();
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => self.add(value),
            "event" => self.event.name = value.to_owned(),
            "error" => {
                self.event.name = "error".to_owned();
                self.add(value);
            }
            // A comment (no name), `id`, `retry` and fields of the future.
            _ => {}
        }
        None
    }

    fn add(&mut self, value: &str) {
        if std::mem::replace(&mut self.has_data, true) {
            self.event.data.push('\n');
        }
        self.event.data.push_str(value);
    }

    fn dispatch(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    /// The events of `text` in packets of `size` bytes, as (name, data).
    fn read(text: &[u8], size: usize) -> Vec<(String, String)> {
        let mut reader = EventReader::default();
        let mut events: Vec<Event> =
            text.chunks(size).flat_map(|packet| reader.push(packet).expect("short events")).collect();
        events.extend(reader.finish());
        events.into_iter().map(|event| (event.name, event.data)).collect()
    }

    /// A4.9.
    #[test]
    fn every_form_of_the_standard_is_read_in_packets_of_any_size() {
        type Case<'a> = (&'a str, &'a [u8], &'a [(&'a str, &'a str)]);
        let cases: &[Case<'_>] = &[
            ("comments", b": ping\n:\n: OPENROUTER PROCESSING\n\ndata: a\n\n", &[("", "a")]),
            ("empty data", b"data:\n\ndata\n\n", &[("", ""), ("", "")]),
            ("no space", b"data:a\n\ndata:  b\n\n", &[("", "a"), ("", " b")]),
            ("names", b"event: keepalive\ndata: {}\n\nevent: x\n\ndata: a\n\n", &[("keepalive", "{}"), ("", "a")]),
            ("id and retry", b"id: 7\nretry: 10\nother: 1\ndata: a\n\n", &[("", "a")]),
            ("returns", b"data: a\r\rdata: b\r\r", &[("", "a"), ("", "b")]),
            ("both", b"data: a\r\n\r\ndata: b\r\n\r\n", &[("", "a"), ("", "b")]),
            ("BOM", b"\xEF\xBB\xBFdata: a\n\n", &[("", "a")]),
            ("several lines", b"data: a\ndata: b\ndata:\n\n", &[("", "a\nb\n")]),
            ("UTF-8", "data: é漢🦀\n\n".as_bytes(), &[("", "é漢🦀")]),
            ("not UTF-8", b"data: a\xFFb\n\n", &[("", "a\u{FFFD}b")]),
            ("the end without an empty line", b"data: a\n\ndata: b", &[("", "a"), ("", "b")]),
            ("the field error", b"error: {\"code\":500}\n\n", &[("error", "{\"code\":500}")]),
            ("nothing", b"\n\n\r\n", &[]),
        ];
        for (what, text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(name, data)| (name.to_string(), data.to_string())).collect();
            for size in [1, 2, 3, 5, text.len()] {
                assert_eq!(read(text, size), expected, "{what}, packets of {size} bytes");
            }
        }
    }

    /// A4.9.
    #[test]
    fn event_beyond_the_limit_is_an_error_and_not_held() {
        let mut reader = EventReader::default();
        let packet = vec![b'x'; 1 << 20];
        let failed = (0..16).find_map(|_| reader.push(&packet).err());
        assert_eq!(failed, Some(TooLong));
        assert!(reader.line.len() <= MAX_EVENT);
        let mut reader = EventReader::default();
        let line = [b"data: ", &packet[..], b"\n"].concat();
        assert_eq!((0..16).find_map(|_| reader.push(&line).err()), Some(TooLong));
        assert!(reader.event.data.len() <= MAX_EVENT);
    }
}
