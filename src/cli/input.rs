//! Reads standard input as part of the prompt: to its end, bounded, checked to be UTF-8.

use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::failure::Failure;

/// Maximum size of the input in bytes (16 MiB); bounds memory if the input never ends.
const LARGEST: usize = 16 << 20;

/// How long reading may block before the waiting line is printed.
const SILENCE: Duration = Duration::from_secs(3);

/// All of standard input, without a byte order mark and without the final newline; `None` if it is only white space.
pub(super) fn read(stdin: &mut dyn Read, quiet: bool) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let _until_read = (!quiet).then(say_what_is_waited_for);
    stdin
        .take(LARGEST as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("Standard input could not be read: {error}")))?;
    if bytes.len() > LARGEST {
        return Err(Failure::usage(format!(
            "Standard input is longer than {LARGEST} bytes (16 MiB), which no model's context holds; nothing was sent."
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!(
            "Standard input is not UTF-8 (byte {at} is the first wrong one); convert it first, with iconv for example."
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok((!text.trim().is_empty()).then(|| text.to_owned()))
}

/// Prints a waiting line on stderr after [`SILENCE`], unless the returned sender is dropped before: with an open stdin
/// pipe the program looks like it hangs, on a terminal and in a log alike.
pub(crate) fn say_what_is_waited_for() -> Sender<()> {
    let (read, waiting) = channel::<()>();
    std::thread::spawn(move || {
        if waiting.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = writeln!(
                std::io::stderr(),
                "chatnap: waiting for the end of standard input, which the program that started chatnap keeps open; \
                 close it there, or add < /dev/null if nothing is to be read from it"
            );
        }
    });
    read
}

/// The prompt, then a blank line, then the piped text; either alone; `None` if both are empty.
pub(super) fn join(prompt: Option<String>, piped: Option<String>) -> Option<String> {
    match (prompt.filter(|prompt| !prompt.trim().is_empty()), piped) {
        (Some(prompt), Some(piped)) => Some(format!("{prompt}\n\n{piped}")),
        (prompt, piped) => prompt.or(piped),
    }
}
