//! `chatnap gpu`: the cards, what this build can do with them, and what fits.

use crate::cli::args::TableFormat;
use crate::failure::Failure;
use crate::output::Reader;
use crate::settings::Settings;

#[cfg(not(feature = "cuda"))]
pub(super) fn run(_settings: &Settings, _format: TableFormat) -> Result<Reader, Failure> {
    Err(Failure::usage(
        "This build has no CUDA support: it answers on the CPU. To use an NVIDIA card, build it with \
         `cargo build --release --features cuda` in its folder, \
         which needs the CUDA 13 toolkit.",
    ))
}

#[cfg(feature = "cuda")]
pub(super) fn run(settings: &Settings, format: TableFormat) -> Result<Reader, Failure> {
    use crate::catalogue::catalogue;
    use crate::commands::table::Table;
    use crate::engine::cuda::inspect::inspect;
    use crate::hub::human;
    use crate::output;

    let seen = inspect().map_err(|error| {
        Failure::failed(format!("No card can be used: {error}. chatnap answers on the CPU (--device cpu) meanwhile."))
    })?;
    let share = f64::from(settings.gpu_memory_utilization);
    let mut cards = Table::new(&["card", "name", "compute", "VRAM", "used", "free", "read bandwidth"]);
    let mut objects = Vec::new();
    for report in &seen.cards {
        let (major, minor) = report.card.compute_capability;
        cards.row([
            format!("cuda:{}", report.card.ordinal),
            report.card.name.clone(),
            format!("{major}.{minor}"),
            human(report.card.total),
            report.used.map(human).unwrap_or_else(|| "unknown".into()),
            human(report.free),
            match &report.bandwidth {
                Ok(rate) => format!("{:.2} TB/s", rate / 1e12),
                Err(why) => format!("not measured: {why}"),
            },
        ]);
        objects.push(serde_json::json!({
            "device": format!("cuda:{}", report.card.ordinal),
            "name": report.card.name,
            "compute_capability": format!("{major}.{minor}"),
            "total_bytes": report.card.total,
            "used_bytes": report.used,
            "free_bytes": report.free,
            "read_bytes_per_second": report.bandwidth.as_ref().ok(),
        }));
    }
    let room = seen
        .cards
        .first()
        .map_or(0, |first| first.free.saturating_sub((first.card.total as f64 * (1.0 - share)) as u64));
    let mut models = Table::new(&["model", "weights", "fits cuda:0 with a context of 8192"]);
    let mut fitting = Vec::new();
    for model in &catalogue().models {
        for variant in &model.variants {
            let Some((size, _)) = model.size_of(variant) else { continue };
            // An estimate: the exact one needs the file's header and is made before each load.
            let fits = !model.cpu_only && size + size / 10 + (2 << 30) <= room;
            let name = model.name_of(variant);
            let verdict = match fits {
                _ if model.cpu_only => "runs on the CPU alone",
                true => "yes",
                false => "no",
            };
            models.row([name.clone(), human(size), verdict.to_owned()]);
            fitting.push(serde_json::json!({ "model": name, "bytes": size, "fits": fits }));
        }
    }
    let driver = seen.driver.clone().unwrap_or_else(|| "unknown".into());
    let cuda = seen.cuda.map_or_else(|| "unknown".into(), |(major, minor)| format!("{major}.{minor}"));
    let json = serde_json::json!({
        "driver": seen.driver, "cuda": cuda, "build_targets": seen.targets, "families": seen.families, "cards": objects, "models": fitting,
    });
    if matches!(format, TableFormat::Json) {
        return output::write(&cards.render(format, &json));
    }
    let head = format!(
        "driver {driver} (CUDA {cuda}); this build has machine code for compute capability {}\n\
         it runs {} on cards, in every format that it reads; other models answer on the CPU\n\n",
        seen.targets, seen.families
    );
    let (cards, models) = (cards.render(format, &json), models.render(format, &json));
    output::write_foreign(&format!("{head}{cards}\n{models}"))
}
