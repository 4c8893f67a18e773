//! `chatnap complete KIND`, hidden: what completion scripts ask for. A value on each line, with a tab and a description.

use std::path::Path;

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
        CompleteKind::Servers => servers(settings),
        CompleteKind::Devices => devices(gpus(Path::new("/dev"))),
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

fn servers(settings: &Settings) -> Vec<(String, String)> {
    settings.servers.names().into_iter().map(|(name, url)| (name.to_owned(), url.to_owned())).collect()
}

/// The values of `--device` on a machine with so many GPUs.
fn devices(gpus: usize) -> Vec<(String, String)> {
    let fixed = [
        ("auto", "as few GPUs as hold the model; the CPU if there is none"),
        ("cpu", "the CPU"),
        ("cuda", "the first GPU"),
    ];
    let fixed = fixed.map(|(name, about)| (name.to_owned(), about.to_owned()));
    let numbered = (0..gpus).map(|number| (format!("cuda:{number}"), format!("the GPU with number {number}")));
    let several = [2, 4, 8].into_iter().filter(|count| *count <= gpus).map(|count| {
        let numbers: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        (format!("cuda:{}", numbers.join(",")), format!("{count} GPUs as one"))
    });
    fixed.into_iter().chain(numbered).chain(several).collect()
}

/// Number of NVIDIA GPUs by their device files in `folder`; 1 if there are none, as an example.
fn gpus(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_gpu = |name: &str| name.strip_prefix("nvidia").is_some_and(|number| number.parse::<u32>().is_ok());
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_gpu)).count().max(1)
}

/// `last` and the ids, described by their titles; none if the store cannot be read.
fn conversations(settings: &Settings) -> Vec<(String, String)> {
    let store = Store::open_to_read(&settings.data_dir).ok().flatten();
    let found = store.and_then(|store| store.list().ok()).unwrap_or_default();
    let last = found.first().map(|summary| ("last".to_owned(), summary.title.clone()));
    let all = found.into_iter().take(MOST).map(|summary| (summary.id.0, summary.title));
    last.into_iter().chain(all).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_gpu_of_the_machine_is_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let names = |gpus| devices(gpus).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(gpus(folder.path())), ["auto", "cpu", "cuda", "cuda:0"]);
        for name in ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names(gpus(folder.path())), ["auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:0,1"]);
        assert_eq!(names(4).split_off(7), ["cuda:0,1", "cuda:0,1,2,3"]);
    }
}
