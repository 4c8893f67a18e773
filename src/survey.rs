//! What this machine has for models: its memory, the models on disk, and which models of the catalogue fit; and from
//! that, what `-m auto` stands for and which model to recommend.
//!
//! Reads disk, driver and store, so not for the interface's thread. Downloads nothing.

use std::cmp::Reverse;

use crate::catalogue::{CatalogueModel, Class, ClassDevice, Variant, catalogue};
use crate::engine::room::{self, Gpu, Room, room};
use crate::hub::{ForeignFolders, HubSource, ModelName, Stored};
use crate::settings::{AUTO, Settings};
use crate::store::Store;
use crate::wording::bytes;

/// The shortest context that a model is said to fit with, in positions.
const LEAST_CONTEXT: u64 = 512;

/// Context that a recommended model has room for, in positions: the default of `context_length`.
const USUAL_CONTEXT: u64 = 8192;

/// Largest weights that `auto` chooses without a GPU, in bytes. Each token reads all of them, and a usual machine reads 20
/// to 40 GB a second: larger models answer with fewer than four tokens a second.
const LARGEST_ON_CPU: u64 = 6_000_000_000;

/// Most files of other programs whose headers are read.
const MOST_HEADERS: usize = 40;

/// Memory for models with and without GPU code; `None`: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rooms {
    /// For a model that runs on the GPU if there is one.
    pub any: Option<Room>,
    /// For a model that runs only on the CPU.
    pub cpu: Option<Room>,
}

impl Rooms {
    /// Measures the memory. Starts the GPU driver.
    pub fn look(settings: &Settings) -> Self {
        let of = |cpu_only| room(settings.device, settings.gpu_memory_utilization, cpu_only);
        Self { any: of(false), cpu: of(true) }
    }

    fn of(self, cpu_only: bool) -> Option<Room> {
        if cpu_only { self.cpu } else { self.any }
    }

    /// Whether models run on a GPU.
    pub fn has_gpu(self) -> bool {
        self.any.is_some_and(Room::is_gpu)
    }
}

/// The devices of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The GPUs that models run on.
    pub gpu: Option<Gpu>,
    /// Bytes of RAM in total; `None`: unknown.
    pub ram: Option<u64>,
    /// What models may take.
    pub rooms: Rooms,
}

impl Machine {
    /// Looks at the devices. Starts the GPU driver.
    pub fn look(settings: &Settings) -> Self {
        let gpu = room::gpu(settings.device, settings.gpu_memory_utilization);
        Self { gpu, ram: room::total_ram(), rooms: Rooms::look(settings) }
    }

    /// `NVIDIA L4 with 24.2 GB, 21.1 GB of it for a model; 64.3 GB of RAM`, or `2 × NVIDIA L4 with 48.4 GB, …`. The GPU's
    /// name is not sanitised.
    pub fn describe(&self) -> String {
        let usable = |gpu| match self.rooms.any.filter(|room| room.is_gpu() == gpu) {
            Some(room) => format!(", {} of it for a model", bytes(room.bytes)),
            None => String::new(),
        };
        let ram = match self.ram {
            Some(ram) => format!("{} of RAM{}", bytes(ram), usable(false)),
            None => "an unknown amount of RAM".to_owned(),
        };
        match &self.gpu {
            Some(gpu) => {
                let count = if gpu.count > 1 { format!("{} × ", gpu.count) } else { String::new() };
                format!("{count}{} with {}{}; {ram}", gpu.name, bytes(gpu.bytes), usable(true))
            }
            None => format!("no GPU that this build can use; {ram}"),
        }
    }
}

/// Whether a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// With its trained context length, or at least its weights if the rest is unknown.
    Whole,
    /// With a context of this many positions.
    UpTo(u64),
    /// It does not.
    TooLarge,
    /// Its size or the memory is unknown.
    Unknown,
}

impl Fit {
    /// Whether it fits, as far as is known.
    pub fn fits(self) -> bool {
        matches!(self, Self::Whole | Self::UpTo(_))
    }
}

/// A model that can be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// What `-m` and `/model` take.
    pub name: String,
    /// The name in lists if it differs. Not sanitised.
    pub title: Option<String>,
    /// `q4_k_m`; empty if unknown.
    pub quantization: String,
    /// Bytes, and whether that is exact.
    pub size: Option<(u64, bool)>,
    /// Trained context length, in positions.
    pub context: Option<usize>,
    /// Bytes of KV cache for a position.
    pub cache: Option<u64>,
    /// Without GPU code.
    pub cpu_only: bool,
    /// On disk.
    pub here: bool,
    /// Description.
    pub about: String,
    /// The other program whose file it is.
    pub program: Option<&'static str>,
}

impl Row {
    /// Whether it fits into this memory.
    pub fn fit(&self, rooms: Rooms) -> Fit {
        let (Some(room), Some((size, _))) = (rooms.of(self.cpu_only), self.size) else { return Fit::Unknown };
        let (Some(cache), Some(context)) = (self.cache, self.context) else {
            return if room.holds(size) { Fit::Whole } else { Fit::TooLarge };
        };
        match room.positions(size, cache) {
            most if most >= context as u64 => Fit::Whole,
            most if most >= LEAST_CONTEXT => Fit::UpTo(most),
            _ => Fit::TooLarge,
        }
    }

    /// Whether it fits with the context that conversations usually take.
    fn fits_usually(&self, rooms: Rooms) -> bool {
        match self.fit(rooms) {
            Fit::Whole => true,
            Fit::UpTo(most) => most >= USUAL_CONTEXT,
            Fit::TooLarge | Fit::Unknown => false,
        }
    }
}

/// Every variant of the catalogue.
pub fn forms() -> impl Iterator<Item = (&'static CatalogueModel, &'static Variant)> {
    catalogue().models.iter().flat_map(|model| model.variants.iter().map(move |form| (model, form)))
}

/// Every variant of the catalogue, the other models in the shared cache, and those of other programs.
pub fn rows(settings: &Settings) -> Vec<Row> {
    let stored = Stored::new(settings);
    let mut rows: Vec<_> = forms()
        .map(|(model, form)| {
            let here = stored.variant(form);
            let gated = CatalogueModel::is_gated(form) && here.is_none();
            let row = row(model, form);
            Row {
                size: here.as_ref().map(|here| (here.size, true)).or(row.size),
                here: here.is_some(),
                about: format!("{}{}", if gated { "needs a hub account; " } else { "" }, row.about),
                ..row
            }
        })
        .collect();
    rows.extend(stored.repos().into_iter().map(|(name, model)| Row {
        quantization: model.quantization().unwrap_or_default().to_ascii_lowercase(),
        size: Some((model.size, true)),
        here: true,
        name,
        ..Row::default()
    }));
    rows.extend(foreign(&ForeignFolders::of_user()));
    rows
}

fn row(model: &CatalogueModel, form: &Variant) -> Row {
    Row {
        name: model.name_of(form),
        quantization: form.name.clone(),
        size: model.size_of(form),
        context: Some(model.context),
        cache: model.cache,
        cpu_only: model.cpu_only,
        about: model.description.clone(),
        ..Row::default()
    }
}

/// The models of other programs that this engine can run.
fn foreign(folders: &ForeignFolders) -> Vec<Row> {
    let usable = folders.models().into_iter().take(MOST_HEADERS).filter_map(|model| {
        let needs = room::needs_of(&model.path).ok()?;
        Some(Row {
            name: model.path.to_str()?.to_owned(),
            title: Some(model.name),
            quantization: needs.quantization.to_ascii_lowercase(),
            size: Some((model.size, true)),
            context: Some(needs.context),
            cache: Some(needs.cache),
            cpu_only: needs.cpu_only,
            here: true,
            about: format!("a file of {}, used in place", model.program),
            program: Some(model.program),
        })
    });
    usable.collect()
}

/// The class of this machine by its free memory: the largest one whose model fits. `None`: none fits, or the memory is
/// unknown.
pub fn recommended(rooms: Rooms) -> Option<&'static Class> {
    let device = if rooms.has_gpu() { ClassDevice::Gpu } else { ClassDevice::Cpu };
    let classes = catalogue().classes.iter().rev().filter(|class| class.device == device);
    let mut fitting = classes.filter(|class| {
        let form = catalogue().find(&class.model).ok();
        form.is_some_and(|(model, form)| row(model, form).fits_usually(rooms))
    });
    fitting.next()
}

/// What `auto` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automatic {
    /// The model's name.
    pub model: String,
    /// Whether it is the starter because no other model is on disk.
    pub is_starter: bool,
}

/// What `auto` stands for: the model used last if it is on disk, else the best model of the catalogue that is on disk and
/// fits, else the starter.
pub fn automatic(settings: &Settings) -> Automatic {
    let found = used_last(settings).or_else(|| best_on_disk(settings));
    let model = found.clone().unwrap_or_else(|| catalogue().default.clone());
    Automatic { is_starter: model == catalogue().default, model }
}

/// The settings with the model that `auto` stands for; unchanged if they name one.
pub fn settled(settings: &Settings) -> Settings {
    let model = if settings.model == AUTO { automatic(settings).model } else { settings.model.clone() };
    Settings { model, ..settings.clone() }
}

/// The model of the conversation that was changed last, if its files are on disk.
fn used_last(settings: &Settings) -> Option<String> {
    let model = Store::open_to_read(&settings.data_dir).ok()??.last_model().ok()??;
    let lasting = match ModelName::parse(&model).ok()? {
        ModelName::Catalogue(..) | ModelName::Repo { .. } => true,
        // A relative path may mean another file by now.
        ModelName::Path(path) | ModelName::Scripted(path) => path.is_absolute(),
        ModelName::Unknown(..) => false,
    };
    let source = HubSource::new(&Settings { model: model.clone(), ..settings.clone() }).ok()?;
    (lasting && matches!(source.local(), Ok(Some(_)))).then_some(model)
}

/// The model with the most parameters among those on disk that fit, except the starter.
fn best_on_disk(settings: &Settings) -> Option<String> {
    let stored = Stored::new(settings);
    let here = forms().filter(|(model, form)| model.name != catalogue().default && stored.variant(form).is_some());
    let here: Vec<_> = here.collect();
    // Without a choice, the driver need not be asked.
    if here.is_empty() { None } else { best(&here, Rooms::look(settings)) }
}

fn best(here: &[(&CatalogueModel, &Variant)], rooms: Rooms) -> Option<String> {
    let size = |model: &CatalogueModel, form: &Variant| model.size_of(form).map_or(u64::MAX, |(size, _)| size);
    let fits = |model: &CatalogueModel, form: &Variant| {
        let on_gpu = rooms.has_gpu() && !model.cpu_only;
        let quick = on_gpu || size(model, form) <= LARGEST_ON_CPU;
        quick && (rooms.of(model.cpu_only).is_none() || row(model, form).fits_usually(rooms))
    };
    let fitting = here.iter().filter(|(model, form)| fits(model, form));
    // The first of equals, as in the catalogue.
    let best = fitting.min_by_key(|(model, form)| Reverse((model.parameters.unwrap_or(0), size(model, form))));
    best.map(|(model, form)| model.name_of(form))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rooms(bytes: u64, gpu: bool) -> Rooms {
        Rooms { any: Some(Room { bytes, gpus: gpu.into() }), cpu: Some(Room { bytes: 60_000_000_000, gpus: 0 }) }
    }

    #[test]
    fn each_class_of_device_has_its_model() {
        let of = |bytes, gpu| recommended(rooms(bytes, gpu)).map(|class| class.model.as_str());
        // 90 % of the GPU's memory in GiB.
        let gpu = |gib: u64| of((gib << 30) / 10 * 9, true);
        assert_eq!([3, 4, 8, 12].map(gpu), ["qwen3-1.7b", "qwen3-4b-2507", "qwen3-8b", "qwen3-14b"].map(Some));
        let large = ["qwen3-14b", "mistral-small-3.2", "qwen3-32b:q8_0", "qwen3-32b:bf16"];
        assert_eq!([16, 24, 48, 80].map(gpu), large.map(Some));
        assert_eq!(of(5_000_000_000, false), Some("qwen3-4b-2507"), "a machine of 8 GB");
        assert_eq!(of(200_000_000_000, false), Some("qwen3-4b-2507"), "larger ones are too slow without a GPU");
        assert_eq!(of(500_000_000, false), None);
        assert_eq!(recommended(Rooms::default()), None);
    }

    #[test]
    fn best_model_on_disk_is_the_largest_that_fits_and_is_quick() {
        let here = |names: &[&str]| names.iter().map(|name| catalogue().find(name).unwrap()).collect::<Vec<_>>();
        let all = here(&["qwen3-0.6b", "qwen3-8b:q8_0", "qwen3-8b", "qwen3-14b", "gemma-3-4b"]);
        assert_eq!(best(&all, rooms(14_000_000_000, true)).as_deref(), Some("qwen3-14b"));
        assert_eq!(best(&all, rooms(10_200_000_000, true)).as_deref(), Some("qwen3-8b:q8_0"));
        assert_eq!(best(&all, rooms(60_000_000_000, false)).as_deref(), Some("qwen3-8b"));
        assert_eq!(best(&all, Rooms::default()).as_deref(), Some("qwen3-8b"));
        assert_eq!(best(&here(&["qwen3-32b"]), rooms(14_000_000_000, true)), None);
    }

    #[test]
    fn machine_is_described() {
        let ram = Some(33_000_000_000);
        let none = Machine { gpu: None, ram, rooms: rooms(20_000_000_000, false) };
        assert_eq!(none.describe(), "no GPU that this build can use; 33.0 GB of RAM, 20.0 GB of it for a model");
        let gpu = Gpu { name: "NVIDIA L4".into(), count: 1, bytes: 24_200_000_000 };
        let machine = Machine { gpu: Some(gpu.clone()), ram, rooms: rooms(21_100_000_000, true) };
        assert_eq!(machine.describe(), "NVIDIA L4 with 24.2 GB, 21.1 GB of it for a model; 33.0 GB of RAM");
        let two = Gpu { count: 2, bytes: 48_400_000_000, ..gpu };
        let machine = Machine { gpu: Some(two), ram, rooms: rooms(42_200_000_000, true) };
        assert_eq!(machine.describe(), "2 × NVIDIA L4 with 48.4 GB, 42.2 GB of it for a model; 33.0 GB of RAM");
    }

    #[test]
    fn files_of_other_programs_are_listed_if_the_engine_can_run_them() {
        let root = tempfile::tempdir().unwrap();
        let repo = root.path().join("publisher/repo");
        std::fs::create_dir_all(&repo).unwrap();
        std::fs::write(repo.join("damaged.gguf"), b"GGUF and nothing else").unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/reference/llama/converted.gguf");
        std::fs::copy(fixture, repo.join("good.gguf")).unwrap();
        let folders = ForeignFolders { ollama: Vec::new(), lm_studio: vec![root.path().to_owned()] };
        let rows = foreign(&folders);
        let titles: Vec<_> = rows.iter().map(|row| row.title.clone().unwrap()).collect();
        assert_eq!(titles, ["publisher/repo/good.gguf"]);
        assert!(
            rows[0].here && rows[0].cache.is_some_and(|cache| cache > 0) && rows[0].fit(rooms(1 << 40, true)).fits()
        );
    }
}
