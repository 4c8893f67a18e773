//! `chatnap models`: lists the catalogue and the cached models; fetches and removes models.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::catalogue::{Source, catalogue};
use crate::cli::args::{ModelsCommand, TableFormat};
use crate::commands::table::Table;
use crate::engine::source::{CancelFlag, ModelFiles, ModelSource};
use crate::failure::{Code, Failure};
use crate::hub::{HubSource, ModelName, Stored};
use crate::output::{self, Reader};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::wording::bytes;

pub(super) fn run(settings: &Settings, command: ModelsCommand) -> Result<Reader, Failure> {
    match command {
        ModelsCommand::List { format } => list(settings, format),
        ModelsCommand::Pull { name } => pull(settings, name),
        ModelsCommand::Path { name } => path(settings, name),
        ModelsCommand::Names => names(settings),
        ModelsCommand::Remove { name } => {
            let name = ModelName::parse(&name)?;
            let freed = match Stored::new(settings).remove(&name)? {
                0 => "only links, their targets are still there".to_owned(),
                freed => format!("{} freed", bytes(freed)),
            };
            output::write_foreign(&format!("removed {name}: {freed}\n"))
        }
    }
}

/// Columns that a narrow terminal shortens and then omits, in this order, with their minimum widths in cells.
const YIELDING: &[(&str, usize)] = &[("description", 24), ("licence", 10), ("context", 7)];

/// Every variant of the catalogue, then the other models in the shared cache.
fn list(settings: &Settings, format: TableFormat) -> Result<Reader, Failure> {
    let stored = Stored::new(settings);
    let mut table = Table::new(&["model", "size", "context", "licence", "here", "description"]).yielding(YIELDING);
    let mut objects = Vec::new();
    for model in &catalogue().models {
        for variant in &model.variants {
            let here = stored.variant(variant);
            let gated = variant.sources.iter().all(|source| matches!(source, Source::Hub { gated: true, .. }));
            // The size on disk, else the catalogue's: exact, or estimated from the number of parameters.
            let size = here.as_ref().map(|stored| (stored.size, true)).or_else(|| model.size_of(variant));
            let name = model.name_of(variant);
            table.row([
                name.clone(),
                size.map(|(size, exact)| if exact { bytes(size) } else { format!("about {}", bytes(size)) })
                    .unwrap_or_default(),
                model.context.to_string(),
                model.licence.clone(),
                if here.is_some() {
                    "yes".into()
                } else if gated {
                    "no (gated)".into()
                } else {
                    "no".to_owned()
                },
                model.description.clone(),
            ]);
            objects.push(json!({
                "model": name,
                "description": model.description,
                "licence": model.licence,
                "context_length": model.context,
                "size": size.map(|(size, _)| size),
                "size_is_exact": size.map(|(_, exact)| exact),
                "gated": gated,
                "path": here.map(|stored| stored.path),
            }));
        }
    }
    for (name, model) in stored.repos() {
        table.row([name.clone(), bytes(model.size), String::new(), String::new(), "yes".into(), String::new()]);
        objects.push(json!({"model": name, "size": model.size, "path": model.path}));
    }
    output::write(&table.render_within(output::columns(), format, &Value::Array(objects)))
}

/// The catalogue's names, then those of the other models in the shared cache.
fn names(settings: &Settings) -> Result<Reader, Failure> {
    let forms = catalogue().models.iter().flat_map(|model| model.variants.iter().map(|form| model.name_of(form)));
    let stored = Stored::new(settings).repos().into_iter().map(|(name, _)| name);
    output::write_foreign(&forms.chain(stored).map(|name| format!("{name}\n")).collect::<String>())
}

fn source(settings: &Settings, name: Option<String>) -> Result<HubSource, Failure> {
    let model = name.unwrap_or_else(|| settings.model.clone());
    Ok(HubSource::new(&Settings { model, ..settings.clone() })?)
}

fn pull(settings: &Settings, name: Option<String>) -> Result<Reader, Failure> {
    let mut source = source(settings, name)?;
    let mut progress = Progress::new(false);
    let files = source.locate(&mut |step| progress.show(&step), &CancelFlag::default());
    progress.clear();
    let files = files?;
    for warning in source.warnings() {
        let _ = writeln!(std::io::stderr(), "chatnap: warning: {}", crate::sanitize::sanitize_line(&warning));
    }
    let written = print_paths(&files);
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{} is on this machine", crate::sanitize::sanitize_line(&source.name()));
    }
    written
}

fn path(settings: &Settings, name: Option<String>) -> Result<Reader, Failure> {
    let source = source(settings, name)?;
    let files = source.local()?.ok_or_else(|| {
        let name = source.name();
        let message = format!("{name} is not on this machine; `chatnap models pull {name}` fetches it.");
        Failure::new(Code::ModelNotFound, message)
    })?;
    print_paths(&files)
}

fn print_paths(files: &ModelFiles) -> Result<Reader, Failure> {
    let paths = match files {
        ModelFiles::Gguf(parts) => parts.clone(),
        ModelFiles::Safetensors(path) | ModelFiles::Scripted(path) => vec![path.clone()],
    };
    output::write_foreign(&paths.iter().map(|path| format!("{}\n", path.display())).collect::<String>())
}
