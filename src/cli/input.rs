//! Standard input as part of the prompt: read to its end, bounded, checked.

use std::io::{IsTerminal, Read, Write};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::failure::Failure;

/// More than this is no prompt (16 MiB); the limit bounds memory where the input never ends.
const LARGEST: usize = 16 << 20;

/// Everything on standard input, without a byte order mark and without the newline that ends it; `None` where nothing
/// but white space came.
pub(super) fn read(stdin: &mut dyn Read) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let _until_read = say_what_is_waited_for();
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

/// A pipe that somebody forgot to close looks like a program that hangs; where a person watches, say what it is. Holds
/// its tongue when the returned end is dropped in time.
fn say_what_is_waited_for() -> Option<Sender<()>> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let (read, waiting) = channel::<()>();
    std::thread::spawn(move || {
        if waiting.recv_timeout(Duration::from_secs(3)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = writeln!(std::io::stderr(), "chatnap: reading standard input to its end (< /dev/null gives none)");
        }
    });
    Some(read)
}

/// The prompt, then a blank line, then the piped text; either alone; `None` where there is nothing to answer.
pub(super) fn join(prompt: Option<String>, piped: Option<String>) -> Option<String> {
    match (prompt.filter(|prompt| !prompt.trim().is_empty()), piped) {
        (Some(prompt), Some(piped)) => Some(format!("{prompt}\n\n{piped}")),
        (prompt, piped) => prompt.or(piped),
    }
}
