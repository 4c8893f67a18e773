//! Keys: from the environment or from a command, each time a session begins. They are never stored or printed.

use std::process::Stdio;
use std::time::Duration;

use crate::protocol::{HeaderSource, KeySource};

/// Time for a command: a password manager may ask its user.
const COMMAND_TIME: Duration = Duration::from_secs(120);

/// The key of a server; `None`: it has none. The error is a part of a sentence and does not repeat the key.
pub(super) async fn read(source: &KeySource) -> Result<Option<String>, String> {
    let key = match source {
        KeySource::None => None,
        KeySource::Variable(name) => std::env::var(name).ok(),
        KeySource::Command(command) => Some(run(command).await?),
    };
    Ok(key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()))
}

/// The headers whose values are known.
pub(super) fn headers(all: &[(String, HeaderSource)]) -> Vec<(String, String)> {
    let value = |source: &HeaderSource| match source {
        HeaderSource::Text(text) => Some(text.clone()),
        HeaderSource::Variable(name) => std::env::var(name).ok().filter(|value| !value.is_empty()),
    };
    all.iter().filter_map(|(name, source)| Some((name.clone(), value(source)?.trim().to_owned()))).collect()
}

async fn run(command: &str) -> Result<String, String> {
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_TIME, shell.output()).await;
    let output = output.map_err(|_| format!("its key_command did not end in {} s", COMMAND_TIME.as_secs()))?;
    let output = output.map_err(|error| format!("its key_command cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("its key_command failed ({})", output.status));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| "its key_command printed no text".to_owned())?;
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    if line.is_empty() { Err("its key_command printed nothing".into()) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    fn read_now(source: KeySource) -> Result<Option<String>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(read(&source))
    }

    /// A4.22.
    #[test]
    fn key_comes_from_a_command_and_errors_do_not_repeat_it() {
        assert_eq!(read_now(KeySource::None), Ok(None));
        assert_eq!(read_now(KeySource::Variable("CHATNAP_NO_SUCH_KEY".into())), Ok(None));
        assert_eq!(read_now(KeySource::Command("printf ' k1\\nmore\\n'".into())), Ok(Some("k1".into())));
        let failed = read_now(KeySource::Command("echo k1; exit 3".into())).expect_err("a failure");
        assert!(failed.contains("failed") && !failed.contains("k1"), "{failed}");
        assert_eq!(read_now(KeySource::Command("true".into())), Err("its key_command printed nothing".into()));
    }
}
