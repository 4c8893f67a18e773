//! `chatnap config`: prints settings with their origins; prints or writes the commented default.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::cli::args::ConfigCommand;
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::settings::{DEFAULT_CONFIG, Resolved};

pub(super) fn run(resolved: &Resolved, command: ConfigCommand) -> Result<Reader, Failure> {
    match command {
        ConfigCommand::Path => output::write_foreign(&format!("{}\n", resolved.config_file.display())),
        ConfigCommand::Show => output::write_foreign(&resolved.show()),
        ConfigCommand::Default { file: Some(file), .. } => write_default(&file),
        ConfigCommand::Default { write: true, .. } => write_default(&resolved.config_file),
        ConfigCommand::Default { .. } => output::write(DEFAULT_CONFIG),
    }
}

/// Writes the commented default to a new file; an existing file is an error and stays unchanged.
fn write_default(path: &Path) -> Result<Reader, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::usage(format!(
                "{} exists already and was left as it is; `chatnap config default` alone prints the default.",
                path.display()
            )));
        }
        other => other.map_err(failed)?,
    };
    file.write_all(DEFAULT_CONFIG.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    output::write_foreign(&format!("{}\n", path.display()))
}
