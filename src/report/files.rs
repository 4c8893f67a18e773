//! Writes a report into a folder: `report.md`, `report.json` and the charts.

use std::path::Path;

use super::charts::charts;
use super::data::Report;
use super::markdown::markdown;
use crate::failure::Failure;
use crate::sanitize::json_pretty;

impl Report {
    /// The content of `report.json`: control characters are escaped, so that it can be shown.
    pub fn json(&self) -> String {
        // Plain data with text keys always becomes JSON.
        json_pretty(&serde_json::to_value(self).unwrap_or_default()) + "\n"
    }

    /// Reads a `report.json`; an error says what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Writes all files into `folder`, which is created. Files of these names are replaced.
    pub fn write_into(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let texts = [("report.md".to_owned(), markdown(self, true)), ("report.json".to_owned(), self.json())];
        for (name, text) in texts.into_iter().chain(charts(self)) {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}. Nothing is lost: the report is on standard output.", path.display()))
}
