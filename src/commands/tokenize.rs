//! `chatnap tokenize`: prints a text as the model's tokens.

use std::io::{IsTerminal, Read};

use serde_json::json;

use crate::cli::args::{TextFormat, TokenizeArgs};
use crate::cli::input::say_what_is_waited_for;
use crate::engine::load;
use crate::engine::source::{CancelFlag, ModelSource};
use crate::engine::tokenizer::Tokenizer;
use crate::failure::Failure;
use crate::hub::HubSource;
use crate::output::{self, Reader};
use crate::sanitize::sanitize_line;
use crate::settings::Settings;
use crate::survey;

/// Maximum size of standard input in bytes (256 MiB).
const LARGEST: u64 = 256 << 20;

pub(super) fn run(settings: &Settings, args: TokenizeArgs) -> Result<Reader, Failure> {
    let result = tokens(settings, &args);
    result.map_err(|failure| failure.with_json(args.format == TextFormat::Json))
}

fn tokens(settings: &Settings, args: &TokenizeArgs) -> Result<Reader, Failure> {
    let text = match &args.text {
        Some(text) => text.clone(),
        None => read_stdin()?,
    };
    let tokenizer = open(settings)?;
    let ids = if args.special { tokenizer.encode_special(&text) } else { tokenizer.encode(&text) };
    match args.format {
        TextFormat::Text => {
            output::write(&format!("{}\n", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")))
        }
        TextFormat::Json => {
            let pieces: Vec<_> = ids.iter().map(|id| tokenizer.piece(*id)).collect();
            output::write_json(&json!({"ids": ids, "pieces": pieces}))
        }
    }
}

fn open(settings: &Settings) -> Result<Tokenizer, Failure> {
    let mut source = HubSource::new(&survey::settled(settings))?;
    let files = source.locate(&mut |_| (), &CancelFlag::default())?;
    let tokenizer = load::read_tokenizer(&files)?;
    for warning in tokenizer.warnings().iter().chain(&source.warnings()) {
        eprintln_quietly(&format!("chatnap: warning: {}", sanitize_line(warning)));
    }
    Ok(tokenizer)
}

/// Like `eprintln!`, but ignores a closed stderr instead of panicking.
fn eprintln_quietly(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// All of standard input, byte for byte.
fn read_stdin() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::usage("There is no text: give it as an argument or on standard input."));
    }
    let mut bytes = Vec::new();
    let _until_read = say_what_is_waited_for();
    let read = stdin.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("Standard input could not be read: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("Standard input is longer than {LARGEST} bytes (256 MiB).")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("Standard input is not UTF-8 (byte {at} is the first wrong one)."))
    })
}
