//! The list of models: the one in use, those on disk and the rest of the catalogue; which of them fit this machine.

use super::*;
use crate::chat::{EngineState, Files};
use crate::hub::ModelName;
use crate::protocol::ModelInfo;
use crate::sanitize::sanitize_line;
use crate::survey::{Fit, Rooms, Row, recommended, rows};
use crate::tui::picker::Excerpt;
use crate::tui::view::units;
use crate::wording::bytes;

const KEYS: &str = "Enter uses it, or offers the download · a hub name works, too · Esc closes";

/// The model in use.
#[derive(Clone, Debug)]
pub(in crate::tui) struct Used {
    /// Its name as the user gave it.
    pub name: String,
    /// Its properties if it is loaded.
    pub info: Option<ModelInfo>,
}

pub(super) fn list(app: &App) -> Picker {
    let mut picker = Picker::new(View::Models, "models", KEYS);
    picker.pending = true;
    let engine = &app.chat.engine;
    let used = Used { name: app.chat.options.model.clone(), info: engine.info.clone().filter(|_| engine.is_loaded()) };
    let (settings, sender) = (app.settings.clone(), app.sender.clone());
    let reading = std::thread::Builder::new().name("models".into()).spawn(move || {
        let rooms = Rooms::look(&settings);
        // The receiver is dropped only when the interface ends.
        let _ = sender.send(Input::List(View::Models, items(rows(&settings), &used, rooms)));
    });
    if reading.is_err() {
        picker.pending = false;
        picker.empty = "The system cannot start a thread; /model NAME uses a model.".into();
    }
    picker
}

/// Changes to the model, which asks before a download. A name that matches nothing may be a hub repository.
pub(super) fn picked(app: &mut App, picked: Picked) {
    let name = match picked {
        Picked::Chosen(item)
            if item.section == IN_USE
                && app.chat.engine.state != EngineState::Failed
                && !matches!(app.chat.supply.files, Files::Missing(_)) =>
        {
            return app.chat_event(Event::Hinted(format!("{} is in use already", item.title)));
        }
        Picked::Chosen(item) => item.id,
        Picked::Unmatched(name) if !name.trim().is_empty() => {
            app.screen.close_list();
            name.trim().to_owned()
        }
        _ => return,
    };
    app.run_command(&format!("/model {name}"));
}

const IN_USE: &str = "in use";

/// The items in their order: in use, recommended if it is not on disk, on disk, the rest.
pub(in crate::tui) fn items(mut rows: Vec<Row>, used: &Used, rooms: Rooms) -> Vec<Item> {
    let name = canonical(&used.name);
    if !rows.iter().any(|row| row.name == name) {
        rows.push(Row { name: name.clone(), here: true, ..Row::default() });
    }
    let best = recommended(rooms).map(|class| canonical(&class.model));
    let place = |row: &Row| match () {
        () if row.name == name => 0,
        () if row.here => 2,
        () if best.as_ref() == Some(&row.name) => 1,
        () => 3,
    };
    rows.sort_by_key(place);
    let sections = [IN_USE, "recommended for this machine", "on this machine", "can be fetched"];
    rows.iter().map(|row| item(row, sections[place(row)], used, rooms)).collect()
}

/// The catalogue's form of a name: `smollm2-135m:q4_1` is `smollm2-135m`.
fn canonical(name: &str) -> String {
    match ModelName::parse(name) {
        Ok(ModelName::Catalogue(model, form)) => model.name_of(form),
        _ => name.to_owned(),
    }
}

fn item(row: &Row, section: &str, used: &Used, rooms: Rooms) -> Item {
    let info = used.info.as_ref().filter(|_| section == IN_USE);
    let quantization = info.map_or_else(|| row.quantization.clone(), |info| info.quantization.to_lowercase());
    let size = row.size.map(|(size, exact)| format!("{}{}", if exact { "" } else { "~" }, bytes(size)));
    let context = info.map(|info| info.trained_context_length).or(row.context).map(thousands);
    let fit = if info.is_some() { "loaded".to_owned() } else { fit(row, rooms) };
    let figures = [quantization, size.unwrap_or_default(), context.unwrap_or_default(), fit];
    let [quantization, size, context, fit] = figures.map(|figure| sanitize_line(&figure));
    Item {
        id: row.name.clone(),
        title: row.title.as_ref().map_or_else(|| units::short_name(&row.name), |title| sanitize_line(title)),
        about: sanitize_line(&row.about),
        detail: format!("{quantization:>6} {size:>8} {context:>5}  {fit:<9}"),
        section: section.to_owned(),
        excerpt: info.map(|info| Excerpt { text: describe(info), hits: Vec::new() }),
    }
}

/// `fits`, `to 24k` (the longest context that fits), `too large`; empty if it is unknown.
fn fit(row: &Row, rooms: Rooms) -> String {
    match row.fit(rooms) {
        Fit::Whole => "fits".to_owned(),
        Fit::UpTo(most) => format!("to {}", thousands(most as usize)),
        Fit::TooLarge => "too large".to_owned(),
        Fit::Unknown => String::new(),
    }
}

/// `8k`, `128k`: a context length in units of 1,024; below that the number.
fn thousands(positions: usize) -> String {
    if positions < 1024 { positions.to_string() } else { format!("{}k", positions / 1024) }
}

fn describe(info: &ModelInfo) -> String {
    let text = format!(
        "weights {}, KV cache {}; context {} of {}; {}, {:.0} M parameters; {}",
        bytes(info.memory.weights),
        bytes(info.memory.kv_cache),
        units::count(info.context_length),
        units::count(info.trained_context_length),
        info.architecture,
        info.parameters as f64 / 1e6,
        info.device.name,
    );
    sanitize_line(&text)
}
