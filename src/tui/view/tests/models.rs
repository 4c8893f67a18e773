//! The list of models.

use super::*;
use crate::engine::room::Room;
use crate::survey::{Rooms, Row};
use crate::tui::picker::Picker;
use crate::tui::pickers::models::{Used, items};

fn row(name: &str, size: u64, here: bool) -> Row {
    Row {
        name: name.into(),
        quantization: "q4_k_m".into(),
        size: Some((size, true)),
        context: Some(131_072),
        cache: Some(131_072),
        here,
        about: "A model for tests".into(),
        ..Row::default()
    }
}

#[test]
fn the_recommended_model_is_first_among_those_to_fetch() {
    let used = Used { name: "smollm2-135m".into(), info: None };
    let rooms = Rooms { any: Some(Room { bytes: 12_000_000_000, gpus: 1 }), cpu: None };
    let rows = || vec![row("llama-3.1-8b", 4_920_739_232, true), row("qwen3-8b", 1, false), row("qwen3-14b", 2, false)];
    let listed = |rows| items(rows, &used, rooms).into_iter().map(|item| (item.section, item.id)).collect::<Vec<_>>();
    let names: Vec<_> = listed(rows()).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["smollm2-135m", "qwen3-14b", "llama-3.1-8b", "qwen3-8b"]);
    assert_eq!(listed(rows())[1].0, "recommended for this machine");
    let foreign = Row {
        title: Some("llama3.2\u{1b}[31m:3b".into()),
        program: Some("ollama"),
        ..row("/models/blobs/sha256-00", 1, true)
    };
    let items = items(vec![foreign], &used, rooms);
    let found = items.iter().find(|item| item.id == "/models/blobs/sha256-00").unwrap();
    assert_eq!((found.title.as_str(), found.section.as_str()), ("llama3.2:3b", "on this machine"));
}

fn open(app: &mut App) {
    let used = Used { name: "smollm2-135m".into(), info: app.chat.engine.info.clone() };
    let room = Some(Room { bytes: 12_000_000_000, gpus: 1 });
    let starter = Row { context: Some(8192), quantization: "q4_1".into(), ..row("smollm2-135m", 98_362_432, true) };
    let rows = vec![
        row("llama-3.1-8b", 4_920_739_232, false),
        Row { size: Some((8_540_775_840, false)), ..row("llama-3.1-8b:q8_0", 0, false) },
        row("llama-3.3-70b", 42_520_395_584, false),
        starter,
        Row { cache: None, context: None, ..row("owner/repo", 1_000_000, true) },
    ];
    let items = items(rows, &used, Rooms { any: room, cpu: None });
    app.screen.open_list(Picker::new(View::Models, "models", "Enter uses it").with_items(items));
}

#[test]
fn the_list_of_models_says_what_is_here_and_what_fits() {
    at_all_sizes!("model_list", |app| {
        app.loaded();
        open(app);
    });
    let mut app = App::new(80, 24);
    app.loaded();
    open(&mut app);
    let screen = app.screen();
    let line = |name: &str| screen.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    let at = |text: &str| screen.find(text).expect(text);
    assert!(at("in use") < at("on this machine") && at("on this machine") < at("can be fetched"));
    for (name, told) in [
        (" smollm2-135m", "loaded"),
        ("owner/repo", "1.0 MB        fits"),
        ("llama-3.1-8b ", "4.9 GB  128k  to 52k"),
        ("llama-3.1-8b:q8_0", "~8.5 GB  128k  to 24k"),
        ("llama-3.3-70b", "too large"),
    ] {
        assert!(line(name).contains(told), "{name}: {screen}");
    }
    app.type_text("70b");
    assert!(!app.screen().contains("owner/repo"), "{}", app.screen());
}
