//! Standard input as part of the prompt: read to its end, bounded, checked.

use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::failure::Failure;

/// More than this is no prompt (16 MiB); the limit bounds memory where the input never ends.
const LARGEST: usize = 16 << 20;

/// How long standard input may stay open before that is said.
const SILENCE: Duration = Duration::from_secs(3);

/// Everything on standard input, without a byte order mark and without the newline that ends it; `None` where nothing
/// but white space came.
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

/// A pipe that nobody closes looks like a program that hangs, on a terminal and in a log alike: one line says what it
/// waits for and what helps. Nothing is said if the returned end is dropped in time.
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

/// The prompt, then a blank line, then the piped text; either alone; `None` where there is nothing to answer.
pub(super) fn join(prompt: Option<String>, piped: Option<String>) -> Option<String> {
    match (prompt.filter(|prompt| !prompt.trim().is_empty()), piped) {
        (Some(prompt), Some(piped)) => Some(format!("{prompt}\n\n{piped}")),
        (prompt, piped) => prompt.or(piped),
    }
}
