//! The list of stored conversations: search in titles and texts, preview, open, rename, delete with undo, export.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ratatui::crossterm::event::{KeyEvent, KeyModifiers};

use super::*;
use crate::chat::Note;
use crate::conversation::{Change, Conversation, ConversationId, TurnId};
use crate::sanitize::{sanitize, sanitize_line};
use crate::settings::expand_path;
use crate::store::{self, Hit, Store, Summary};
use crate::tui::days::Days;
use crate::tui::fuzzy;
use crate::tui::library::{Reading, Recent};
use crate::tui::picker::Excerpt;
use crate::wording::{self, is_on_server, plural};

const KEYS: &str = "Enter opens · Ctrl-R renames · Ctrl-D deletes · Ctrl-E exports · Esc closes";
const KEYS_UNDO: &str = "Ctrl-Z brings the deleted one back · Enter opens · Esc closes";

/// Most conversations that are found by their title, and by their text.
const MOST_FOUND: usize = 100;

/// Longest preview, in characters of each question and answer, and in turns.
const PREVIEWED: (usize, usize) = (1500, 4);

/// The stored conversations, as the list shows them.
#[derive(Default)]
pub(in crate::tui) struct Library {
    /// All of them, most recently changed first.
    all: Vec<Item>,
    /// The open one, which only a search lists.
    open: String,
    titles: Vec<String>,
    /// Conversations whose text matches `found_for`, best first.
    found: Vec<Item>,
    found_for: String,
    /// The turn with the hit, by conversation.
    hits: HashMap<String, TurnId>,
    /// The conversations that were deleted, the last one last, with their places in `all`.
    deleted: Vec<(usize, Item)>,
    asked: Asked,
    /// The numbers of the latest search and of the latest preview: earlier ones need not be done.
    searching: Arc<AtomicU64>,
    previewing: Arc<AtomicU64>,
}

/// What the open input is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Title,
    File,
}

pub(super) fn list(app: &mut App, query: &str) -> Picker {
    let mut picker = Picker::new(View::Conversations, "conversations", keys(app)).filtered_by_owner();
    picker.empty = "No other conversation is stored yet.".into();
    if app.screen.has_room_for_preview() {
        picker.preview = Some(Preview::default());
    }
    picker.pending = read_all(app);
    if !query.trim().is_empty() {
        search(app, query);
    }
    picker
}

/// Conversations on the start screen.
const MOST_RECENT: usize = 5;
/// Conversations that are read first: more than a screen has rows.
const FIRST: u32 = 200;

impl App {
    /// Reads the conversations for the start screen.
    pub(in crate::tui) fn read_recent(&self) {
        let current = self.chat.conversation.id.clone();
        with_store(self, move |store, sender| {
            let Ok(found) = store.list_last(FIRST) else { return };
            let days = Days::now();
            let others = found.iter().filter(|summary| summary.id != current && summary.answers > 0).take(MOST_RECENT);
            let recent = others.map(|summary| {
                let item = item(summary, &days);
                let model = short_name(&sanitize_line(&summary.model));
                let about = format!("{} · {model}", days.age(summary.changed_ms));
                Recent { title: item.title, first: item.about, about }
            });
            let _ = sender.send(Input::Recent(recent.collect()));
        });
    }
}

fn read_all(app: &mut App) -> bool {
    let open = app.chat.conversation.id.clone();
    app.stored.open.clone_from(&open.0);
    with_store(app, move |store, sender| {
        let days = Days::now();
        // The receiver is dropped only when the interface ends.
        let send = |read: Result<Vec<Summary>, store::StoreError>| {
            let items = read.map(|found| found.iter().map(|summary| marked(item(summary, &days), &open)).collect());
            let reading = items.map_or_else(|error| Reading::Failed(error.to_string()), Reading::All);
            drop(sender.send(Input::Library(reading)));
        };
        // What the screen shows, before the list of all, which takes longer.
        let first = store.list_last(FIRST);
        let more = first.as_ref().is_ok_and(|found| found.len() >= FIRST as usize);
        send(first);
        if more {
            send(store.list());
        }
    })
}

/// Runs `job` on the store's thread; false if there is no store.
fn with_store(
    app: &App,
    job: impl FnOnce(&mut Store, &tokio::sync::mpsc::UnboundedSender<Input>) + Send + 'static,
) -> bool {
    let sender = app.sender.clone();
    app.recorder.as_ref().is_some_and(|recorder| recorder.with_store(move |store| job(store, &sender)))
}

/// An entry; its time stands under the heading of its day.
fn item(summary: &Summary, days: &Days) -> Item {
    let (title, first) = (sanitize_line(&summary.title), sanitize_line(&summary.first));
    let begin = title.trim_end_matches('…').trim_end();
    let about = if first.starts_with(begin) { String::new() } else { first };
    let turns = || format!("{} {}", summary.turns, plural(summary.turns, "turn"));
    let turns = summary.lack().map_or_else(turns, str::to_owned);
    let model = short_name(&sanitize_line(&summary.model));
    Item {
        id: summary.id.0.clone(),
        title,
        about,
        detail: format!("{model} · {turns} · {}", days.short(summary.changed_ms)),
        section: days.heading(summary.changed_ms),
        excerpt: None,
    }
}

/// The entry, which says so if it is the open conversation.
fn marked(mut item: Item, open: &ConversationId) -> Item {
    if item.id == open.0 {
        item.detail = format!("open · {}", item.detail);
    }
    item
}

/// The end of a path or of `owner/name`, at most 24 cells.
fn short_name(model: &str) -> String {
    let short = wording::short_name(model);
    let name = if is_on_server(model) { &short } else { short.rsplit('/').next().unwrap_or(&short) };
    crate::tui::view::wrap::clip(name, 24, "…")
}

/// Searches the texts, unless a later search begins first.
fn search(app: &mut App, query: &str) {
    let (query, latest) = (query.trim().to_owned(), app.stored.searching.clone());
    let number = latest.fetch_add(1, Ordering::Relaxed) + 1;
    if query.is_empty() {
        return;
    }
    let open = app.chat.conversation.id.clone();
    with_store(app, move |store, sender| {
        if latest.load(Ordering::Relaxed) != number {
            return;
        }
        let reading = match store.search(&query, MOST_FOUND) {
            Ok(found) => {
                let days = Days::now();
                let hits = found.iter().map(|hit| (hit.summary.id.0.clone(), hit.turn)).collect();
                let items = found.iter().map(|hit| marked(found_item(hit, &days), &open));
                Reading::Found { query, items: items.collect(), hits }
            }
            Err(error) => Reading::Failed(error.to_string()),
        };
        let _ = sender.send(Input::Library(reading));
    });
}

/// An entry with the passage that matches.
fn found_item(hit: &Hit, days: &Days) -> Item {
    let mut item = item(&hit.summary, days);
    let (mut text, mut hits, mut at) = (String::new(), Vec::new(), 0);
    for mark in &hit.marks {
        let (Some(before), Some(inside)) = (hit.excerpt.get(at..mark.start), hit.excerpt.get(mark.clone())) else {
            continue;
        };
        text += &sanitize_line(before);
        let start = text.len();
        text += &sanitize_line(inside);
        hits.push(start..text.len());
        at = mark.end;
    }
    text += &sanitize_line(hit.excerpt.get(at..).unwrap_or_default());
    item.excerpt = (!text.is_empty()).then_some(Excerpt { text, hits });
    item
}

impl App {
    /// Takes what the store's thread read for the list of conversations.
    pub(in crate::tui) fn read_library(&mut self, reading: Reading) {
        match reading {
            Reading::All(items) => {
                self.stored.titles = items.iter().map(|item| format!("{} {}", item.title, item.about)).collect();
                self.stored.all = items;
            }
            Reading::Found { query, items, hits } => {
                self.stored.found = items;
                self.stored.hits = hits.into_iter().collect();
                self.stored.found_for = query;
            }
            Reading::Failed(why) => {
                self.chat_event(Event::Noted(Note::error(format!("The stored conversations cannot be read: {why}"))));
            }
        }
        refresh(self);
    }
}

/// Sets the items that match the list's query.
fn refresh(app: &mut App) {
    let Some(list) = app.screen.list_mut().filter(|list| list.view == View::Conversations) else { return };
    let query = list.query().trim().to_owned();
    list.set_items(matching(&app.stored, &query));
    if let Some(item) = list.selected().cloned() {
        preview(app, &item);
    }
}

/// Conversations with all words in the title, then those with the words in the text, then those whose title is similar.
fn matching(library: &Library, query: &str) -> Vec<Item> {
    if query.is_empty() {
        return library.all.iter().filter(|item| item.id != library.open).cloned().collect();
    }
    let found: &[Item] = if library.found_for == query { &library.found } else { &[] };
    let with_words: HashSet<_> = fuzzy::containing(query, &library.titles).into_iter().collect();
    let by_title = fuzzy::matches(query, &library.titles).into_iter().take(MOST_FOUND);
    let (exact, similar): (Vec<_>, Vec<_>) = by_title.partition(|index| with_words.contains(index));
    let mut items: Vec<Item> = exact.into_iter().map(|index| library.all[index].clone()).collect();
    for hit in found {
        match items.iter_mut().find(|item| item.id == hit.id) {
            Some(item) => item.excerpt.clone_from(&hit.excerpt),
            None => items.push(hit.clone()),
        }
    }
    for item in similar.into_iter().map(|index| &library.all[index]) {
        if !items.iter().any(|other| other.id == item.id) {
            items.push(item.clone());
        }
    }
    items
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    match picked {
        Picked::Chosen(item) if item.id == app.chat.conversation.id.0 => {
            app.chat_event(Event::Hinted("this conversation is open".into()));
        }
        Picked::Chosen(item) => app.run_command(&format!("/resume {}", item.id)),
        Picked::Moved(item) => preview(app, &item),
        Picked::Query(query) => {
            search(app, &query);
            refresh(app);
        }
        Picked::Key(key, Some(item)) => act(app, key, &item),
        Picked::Answered { id, text } => answered(app, &id, &text),
        Picked::Key(key, None) if is_control(key, 'z') => undo(app),
        _ => {}
    }
}

fn is_control(key: KeyEvent, letter: char) -> bool {
    key.code == KeyCode::Char(letter) && key.modifiers.contains(KeyModifiers::CONTROL)
}

fn act(app: &mut App, key: KeyEvent, item: &Item) {
    if is_control(key, 'd') || key.code == KeyCode::Delete {
        delete(app, item);
    } else if is_control(key, 'z') {
        undo(app);
    } else if is_control(key, 'r') {
        ask(app, Asked::Title, "new title", &item.id, &item.title);
    } else if is_control(key, 'e') {
        ask(app, Asked::File, "export to", &item.id, &file_name(&item.title));
    }
}

fn ask(app: &mut App, what: Asked, label: &str, id: &str, text: &str) {
    app.stored.asked = what;
    if let Some(list) = app.screen.list_mut() {
        list.ask(label, id, text);
    }
}

/// A file name from the title's words.
fn file_name(title: &str) -> String {
    let kept: String = title.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let words: Vec<_> = kept.split_whitespace().take(6).collect();
    let name = if words.is_empty() { "conversation".to_owned() } else { words.join("-").to_lowercase() };
    format!("{name}.md")
}

fn answered(app: &mut App, id: &str, text: &str) {
    match app.stored.asked {
        _ if text.is_empty() => app.chat_event(Event::Hinted("nothing was changed: the line was empty".into())),
        Asked::Title => rename(app, id, text),
        Asked::File => app.export(ConversationId(id.to_owned()), text.to_owned()),
    }
}

fn rename(app: &mut App, id: &str, title: &str) {
    if id == app.chat.conversation.id.0 {
        app.run_command(&format!("/rename {title}"));
    } else {
        app.change(id, Change::Title(title.to_owned()));
    }
    for item in app.stored.all.iter_mut().chain(&mut app.stored.found).filter(|item| item.id == id) {
        item.title = sanitize_line(title);
    }
    app.stored.titles = app.stored.all.iter().map(|item| format!("{} {}", item.title, item.about)).collect();
    refresh(app);
}

fn delete(app: &mut App, item: &Item) {
    if item.id == app.chat.conversation.id.0 {
        return app.chat_event(Event::Hinted("this conversation is open: /new first, then delete it".into()));
    }
    app.change(&item.id, Change::Trash);
    let library = &mut app.stored;
    library.found.retain(|other| other.id != item.id);
    if let Some(place) = library.all.iter().position(|other| other.id == item.id) {
        library.titles.remove(place);
        library.deleted.push((place, library.all.remove(place)));
    }
    show_keys(app);
    app.chat_event(Event::Hinted(format!("“{}” is deleted", item.title)));
    refresh(app);
}

fn undo(app: &mut App) {
    let Some((place, item)) = app.stored.deleted.pop() else {
        return app.chat_event(Event::Hinted("nothing was deleted here yet".into()));
    };
    app.change(&item.id, Change::Restore);
    // The list may have been read again since.
    let place = place.min(app.stored.all.len());
    app.stored.titles.insert(place, format!("{} {}", item.title, item.about));
    app.stored.all.insert(place, item.clone());
    show_keys(app);
    app.chat_event(Event::Hinted(format!("“{}” is back", item.title)));
    refresh(app);
}

fn keys(app: &App) -> &'static str {
    if app.stored.deleted.is_empty() { KEYS } else { KEYS_UNDO }
}

fn show_keys(app: &mut App) {
    let keys = keys(app);
    if let Some(list) = app.screen.list_mut() {
        list.keys = keys;
    }
}

/// Reads the end of the conversation, or the turn with the hit, for the preview; unless a later one is wanted first.
fn preview(app: &mut App, item: &Item) {
    if app.screen.list().is_none_or(|list| list.preview.is_none()) {
        return;
    }
    let (id, latest) = (item.id.clone(), app.stored.previewing.clone());
    let number = latest.fetch_add(1, Ordering::Relaxed) + 1;
    let hit = item.excerpt.as_ref().and_then(|_| app.stored.hits.get(&id).copied());
    with_store(app, move |store, sender| {
        if latest.load(Ordering::Relaxed) != number {
            return;
        }
        let text = match store.load(&ConversationId(id.clone())) {
            Ok(conversation) => excerpt_of(&conversation, hit),
            Err(error) => error.to_string(),
        };
        let _ = sender.send(Input::Preview(View::Conversations, Preview { id, text }));
    });
}

/// The last turns of the branch that is shown, or of the branch with the hit from its turn on.
fn excerpt_of(conversation: &Conversation, hit: Option<TurnId>) -> String {
    let path = match hit {
        Some(hit) => conversation.path_to(Some(hit)).into_iter().rev().take(1).collect(),
        None => conversation.path(),
    };
    let begin = |text: &str| {
        let text = sanitize(text.trim());
        text.char_indices().nth(PREVIEWED.0).map_or_else(|| text.to_string(), |(end, _)| format!("{}…", &text[..end]))
    };
    let turns = path.iter().skip(path.len().saturating_sub(PREVIEWED.1));
    let parts = turns.filter_map(|id| conversation.turn(*id)).flat_map(|turn| {
        [format!("› {}", begin(&turn.prompt)), begin(&turn.answer.text)].into_iter().filter(|part| !part.is_empty())
    });
    parts.collect::<Vec<_>>().join("\n\n")
}

impl App {
    fn change(&self, id: &str, change: Change) {
        if let Some(recorder) = &self.recorder {
            recorder.change(ConversationId(id.to_owned()), change, &self.sender);
        }
    }

    /// Writes a conversation into a new file: JSON if its name ends so, else Markdown. A hint says where it is, or why it
    /// is not.
    pub(in crate::tui) fn export(&mut self, id: ConversationId, file: String) {
        let stored = with_store(self, move |store, sender| {
            let told = match export(store, &id, &file) {
                Ok(path) => format!("exported to {}", path.display()),
                Err(why) => format!("not exported: {why}"),
            };
            let _ = sender.send(Input::Chat(Event::Hinted(sanitize_line(&told))));
        });
        if !stored {
            self.chat_event(Event::Hinted("not exported: no conversation can be read".into()));
        }
    }
}

fn export(store: &mut Store, id: &ConversationId, file: &str) -> Result<PathBuf, String> {
    let told = |error: store::StoreError| error.to_string();
    let conversation = store.load(id).map_err(told)?;
    let found = store.list().map_err(told)?.into_iter().find(|summary| summary.id == *id);
    let summary = found.ok_or("the conversation is not stored yet")?;
    let path = expand_path(file.as_ref());
    let text = match path.extension().and_then(|end| end.to_str()) {
        Some("json") => {
            let origins = store.origins(id).map_err(told)?;
            serde_json::to_string_pretty(&store::json(&summary, &conversation, &origins))
                .map_err(|error| error.to_string())?
        }
        _ => store::markdown(&summary, &conversation),
    };
    write_new(&path, text.as_bytes()).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => format!("{} exists already; name another file", path.display()),
        _ => format!("{}: {error}", path.display()),
    })?;
    Ok(std::path::absolute(&path).unwrap_or(path))
}

fn write_new(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(text)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    fn library() -> Library {
        let item = |id: &str, title: &str| Item { id: id.into(), title: title.into(), ..Item::default() };
        let all = vec![item("1", "Rust lifetimes"), item("2", "Sky"), item("3", "Rain in Spain")];
        let titles = all.iter().map(|item| item.title.clone()).collect();
        let mut hit = item("3", "Rain in Spain");
        hit.excerpt = Some(Excerpt { text: "the sky".into(), hits: vec![4..7] });
        Library { all, titles, found: vec![hit], found_for: "sky".into(), ..Library::default() }
    }

    fn ids(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.id.as_str()).collect()
    }

    #[test]
    fn titles_come_before_texts_and_old_hits_are_not_shown() {
        let library = library();
        assert_eq!(ids(&matching(&library, "")), ["1", "2", "3"]);
        assert_eq!(ids(&matching(&library, "sky")), ["2", "3"]);
        assert_eq!(ids(&matching(&library, "spain")), ["3"]);
        assert!(matching(&library, "spain")[0].excerpt.is_none());
    }

    #[test]
    fn words_in_a_text_come_before_similar_titles_and_the_open_one_is_found() {
        let mut library = library();
        library.all[2].title = "Silky".into();
        library.titles[2] = "Silky".into();
        library.found[0].id = "1".into();
        assert_eq!(ids(&matching(&library, "sky")), ["2", "1", "3"]);
        library.open = "2".into();
        assert_eq!(ids(&matching(&library, "")), ["1", "3"]);
        assert_eq!(ids(&matching(&library, "sky")), ["2", "1", "3"]);
    }

    #[test]
    fn file_names_are_made_of_words() {
        assert_eq!(file_name("Why is the sky/../blue? Tell me more"), "why-is-the-sky-blue-tell.md");
        assert_eq!(file_name("日本語の質問"), "日本語の質問.md");
        assert_eq!(file_name("…"), "conversation.md");
    }
}
