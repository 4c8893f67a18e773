//! `chatnap config`: prints settings with their origins; prints or writes the commented default.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::cli::args::ConfigCommand;
use crate::engine::recommended;
use crate::engine::source::ModelSource;
use crate::failure::Failure;
use crate::hub::HubSource;
use crate::output::{self, Reader};
use crate::protocol::{Recommended, SamplingSource};
use crate::settings::{DEFAULT_CONFIG, Recommendation, Resolved, Settings};
use crate::survey;

pub(super) fn run(resolved: &Resolved, command: ConfigCommand) -> Result<Reader, Failure> {
    match command {
        ConfigCommand::Path => output::write_foreign(&format!("{}\n", resolved.config_file.display())),
        ConfigCommand::Show => output::write_foreign(&resolved.show(&recommendation(&resolved.settings))),
        ConfigCommand::Default { file: Some(file), .. } => write_default(&file),
        ConfigCommand::Default { write: true, .. } => write_default(&resolved.config_file),
        ConfigCommand::Default { .. } => output::write(DEFAULT_CONFIG),
    }
}

/// What the model of the settings recommends: by its headers, if it is on disk, and by the catalogue. Nothing is fetched.
fn recommendation(settings: &Settings) -> Recommendation {
    let settings = &survey::settled(settings);
    // A name that cannot be a model's is an error where a model is needed, not here.
    let Ok(source) = HubSource::new(settings) else {
        return Recommendation { values: Recommended::default(), complete: false };
    };
    let files = source.local().ok().flatten();
    let mut values = files.as_ref().map(recommended::of_files).unwrap_or_default();
    values.add(SamplingSource::Catalogue, source.recommended());
    Recommendation { values, complete: files.is_some() }
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
