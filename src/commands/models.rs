//! `chatnap models`: lists the catalogue and the cached models; fetches and removes models.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::catalogue::{ClassDevice, Source, catalogue};
use crate::cli::args::{ModelsCommand, TableFormat};
use crate::commands::table::Table;
use crate::engine::remote::session;
use crate::engine::room::Room;
use crate::engine::source::{CancelFlag, ModelFiles, ModelSource};
use crate::failure::{Code, Failure};
use crate::hub::{HubSource, ModelName, Stored};
use crate::output::{self, Reader};
use crate::progress::Progress;
use crate::protocol::EngineEvent;
use crate::sanitize::sanitize_line;
use crate::settings::{AUTO, Settings};
use crate::survey::{self, Machine, Rooms};
use crate::wording::bytes;

pub(super) fn run(settings: &Settings, command: ModelsCommand) -> Result<Reader, Failure> {
    match command {
        ModelsCommand::List { fits, format } => match &settings.servers.chosen {
            Some(name) => of_server(settings, name, format),
            None => list(settings, fits, format),
        },
        ModelsCommand::Recommend { format } => recommend(settings, format),
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

/// The models that a server lists.
fn of_server(settings: &Settings, name: &str, format: TableFormat) -> Result<Reader, Failure> {
    let server = settings.servers.find(name).map_err(Failure::usage)?;
    let mut progress = Progress::new(false);
    let listing = session::list(&server, &mut |event| {
        if let EngineEvent::Waiting { waited, why, .. } = event {
            progress.wait(&format!("waiting for {name}: {why}, {} s", waited.as_secs()));
        }
    })?;
    progress.clear();
    let mut table = Table::new(&["model", "context"]);
    let mut objects = Vec::new();
    for model in listing.models() {
        table.row([model.id.clone(), model.context_length.map(|length| length.to_string()).unwrap_or_default()]);
        objects.push(json!({"model": model.id, "context_length": model.context_length, "server": server.name}));
    }
    output::write(&table.render_within(output::columns(), format, &Value::Array(objects)))
}

/// Columns that a narrow terminal shortens and then omits, in this order, with their minimum widths in cells.
const YIELDING: &[(&str, usize)] = &[("description", 24), ("licence", 10), ("context", 7)];

/// Every variant of the catalogue, then the other models in the shared cache and those of other programs; with `fits` only
/// those that fit.
fn list(settings: &Settings, fits: bool, format: TableFormat) -> Result<Reader, Failure> {
    let stored = Stored::new(settings);
    let rows = survey::rows(settings);
    let rooms = if fits { Rooms::look(settings) } else { Rooms::default() };
    let is_listed = |name: &str| !fits || rows.iter().any(|row| row.name == name && row.fit(rooms).fits());
    let mut table = Table::new(&["model", "size", "context", "licence", "here", "description"]).yielding(YIELDING);
    let mut objects = Vec::new();
    for model in &catalogue().models {
        for variant in &model.variants {
            let here = stored.variant(variant);
            let gated = variant.sources.iter().all(|source| matches!(source, Source::Hub { gated: true, .. }));
            // The size on disk, else the catalogue's: exact, or estimated from the number of parameters.
            let size = here.as_ref().map(|stored| (stored.size, true)).or_else(|| model.size_of(variant));
            let name = model.name_of(variant);
            if !is_listed(&name) {
                continue;
            }
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
    for (name, model) in stored.repos().into_iter().filter(|(name, _)| is_listed(name)) {
        table.row([name.clone(), bytes(model.size), String::new(), String::new(), "yes".into(), String::new()]);
        objects.push(json!({"model": name, "size": model.size, "path": model.path}));
    }
    for row in rows.iter().filter(|row| is_listed(&row.name)) {
        let (Some(program), Some((size, _))) = (row.program, row.size) else { continue };
        let context = row.context.map(|context| context.to_string()).unwrap_or_default();
        let about = format!("{}: {}", row.title.as_deref().unwrap_or_default(), row.about);
        table.row([row.name.clone(), bytes(size), context, String::new(), "yes".into(), about]);
        objects.push(json!({
            "model": row.name, "name": row.title, "program": program, "context_length": row.context, "size": size,
            "path": row.name,
        }));
    }
    output::write(&table.render_within(output::columns(), format, &Value::Array(objects)))
}

/// What this machine has, what is on disk, and the model of each class of device.
fn recommend(settings: &Settings, format: TableFormat) -> Result<Reader, Failure> {
    let machine = Machine::look(settings);
    let chosen = survey::recommended(machine.rooms);
    let rows = survey::rows(settings);
    let here: Vec<_> = rows.iter().filter(|row| row.here).collect();
    let mut table = Table::new(&["class", "model", "size", "context", "licence", "here", "this machine"]);
    let mut classes = Vec::new();
    for class in &catalogue().classes {
        let Ok((model, variant)) = catalogue().find(&class.model) else { continue };
        let (is_here, is_chosen) = (here.iter().any(|row| row.name == class.model), chosen == Some(class));
        let size = model.size_of(variant);
        table.row([
            class.name(),
            class.model.clone(),
            size.map(|(size, exact)| if exact { bytes(size) } else { format!("about {}", bytes(size)) })
                .unwrap_or_default(),
            model.context.to_string(),
            model.licence.clone(),
            if is_here { "yes" } else { "no" }.to_owned(),
            if is_chosen { "recommended" } else { "" }.to_owned(),
        ]);
        classes.push(json!({
            "device": if class.device == ClassDevice::Gpu { "gpu" } else { "cpu" },
            "memory_gib": class.memory,
            "model": class.model,
            "size": size.map(|(size, _)| size),
            "size_is_exact": size.map(|(_, exact)| exact),
            "context_length": model.context,
            "licence": model.licence,
            "on_disk": is_here,
        }));
    }
    let room = |room: Option<Room>| room.map(|room| room.bytes);
    let object = json!({
        "machine": {
            "gpu": machine.gpu.as_ref().map(|gpu| json!({
                "name": gpu.name, "count": gpu.count, "vram_bytes": gpu.bytes,
            })),
            "ram_bytes": machine.ram,
            "usable_gpu_bytes": room(machine.rooms.any.filter(|room| room.is_gpu())),
            "usable_ram_bytes": room(machine.rooms.cpu),
        },
        "on_disk": here.iter().map(|row| json!({
            "model": row.name, "name": row.title, "program": row.program, "size": row.size.map(|(size, _)| size),
            "fits": row.fit(machine.rooms).fits(),
        })).collect::<Vec<_>>(),
        "recommended": chosen.map(|class| &class.model),
        "auto": survey::automatic(settings).model,
        "classes": classes,
    });
    let shown = table.render_within(output::columns(), format, &object);
    if format == TableFormat::Json {
        return output::write(&shown);
    }
    let on_disk = match here.len() {
        0 => "no models yet".to_owned(),
        _ => {
            here.iter().map(|row| row.title.clone().unwrap_or_else(|| row.name.clone())).collect::<Vec<_>>().join(", ")
        }
    };
    let take = match chosen {
        Some(class) => format!("{0}; `chatnap models pull {0}` fetches it, `-m {0}` uses it", class.model),
        None => format!("{}, the starter: no other model fits the memory that is free", catalogue().default),
    };
    let line = |text: String| sanitize_line(&text) + "\n";
    let head = [
        line(format!("this machine: {}", machine.describe())),
        line(format!("on disk: {on_disk}")),
        line(format!("recommended: {take}")),
    ];
    output::write(&format!("{}\n{shown}", head.concat()))
}

/// `auto`, the catalogue's names, then those of the other models in the shared cache.
fn names(settings: &Settings) -> Result<Reader, Failure> {
    let forms = catalogue().models.iter().flat_map(|model| model.variants.iter().map(|form| model.name_of(form)));
    let stored = Stored::new(settings).repos().into_iter().map(|(name, _)| name);
    let auto = [AUTO.to_owned()].into_iter();
    output::write_foreign(&auto.chain(forms).chain(stored).map(|name| format!("{name}\n")).collect::<String>())
}

fn source(settings: &Settings, name: Option<String>) -> Result<HubSource, Failure> {
    let model = name.unwrap_or_else(|| settings.model.clone());
    Ok(HubSource::new(&survey::settled(&Settings { model, ..settings.clone() }))?)
}

fn pull(settings: &Settings, name: Option<String>) -> Result<Reader, Failure> {
    let mut source = source(settings, name)?;
    let mut progress = Progress::new(false);
    let files = source.locate(&mut |step| progress.show(&step), &CancelFlag::default());
    progress.clear();
    let files = files?;
    for warning in source.warnings() {
        let _ = writeln!(std::io::stderr(), "chatnap: warning: {}", sanitize_line(&warning));
    }
    let written = print_paths(&files);
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{} is on this machine", sanitize_line(&source.name()));
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
