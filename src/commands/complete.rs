//! `chatnap complete KIND`, hidden: what completion scripts ask for. A value on each line, with a tab and a description.

use crate::catalogue::catalogue;
use crate::cli::args::CompleteKind;
use crate::failure::Failure;
use crate::hub::Stored;
use crate::output::{self, Reader};
use crate::sanitize::sanitize_line;
use crate::settings::{AUTO, Settings};
use crate::store::Store;
use crate::wording::bytes;

/// Most conversations that are offered, the last changed first.
const MOST: usize = 200;

pub(super) fn run(
    settings: &Settings,
    kind: CompleteKind,
    themes: fn(&Settings) -> Vec<String>,
) -> Result<Reader, Failure> {
    let values = match kind {
        CompleteKind::Models => models(settings),
        CompleteKind::Themes => themes(settings).into_iter().map(|name| (name, String::new())).collect(),
        CompleteKind::Conversations => conversations(settings),
    };
    let line = |(value, about): (String, String)| match about.is_empty() {
        true => format!("{}\n", sanitize_line(&value)),
        false => format!("{}\t{}\n", sanitize_line(&value), sanitize_line(&about)),
    };
    output::write(&values.into_iter().map(line).collect::<String>())
}

/// The catalogue's models, then the others in the shared cache.
fn models(settings: &Settings) -> Vec<(String, String)> {
    let forms = catalogue().models.iter().flat_map(|model| model.variants.iter().map(move |form| (model, form)));
    let known = forms.map(|(model, form)| (model.name_of(form), model.description.clone()));
    let stored = Stored::new(settings).repos().into_iter();
    let stored = stored.map(|(name, model)| (name, format!("{} on this machine", bytes(model.size))));
    let auto = (AUTO.to_owned(), "a model on this machine that fits, else the starter".to_owned());
    [auto].into_iter().chain(known).chain(stored).collect()
}

/// `last` and the ids, described by their titles; none if the store cannot be read.
fn conversations(settings: &Settings) -> Vec<(String, String)> {
    let store = Store::open_to_read(&settings.data_dir).ok().flatten();
    let found = store.and_then(|store| store.list().ok()).unwrap_or_default();
    let last = found.first().map(|summary| ("last".to_owned(), summary.title.clone()));
    let all = found.into_iter().take(MOST).map(|summary| (summary.id.0, summary.title));
    last.into_iter().chain(all).collect()
}
