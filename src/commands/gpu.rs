//! `chatnap gpu`: the GPUs, what this build can run on them, and which models fit.

use crate::cli::args::TableFormat;
use crate::failure::Failure;
use crate::output::Reader;
use crate::settings::Settings;

#[cfg(not(cuda))]
pub(super) fn run(_settings: &Settings, _format: TableFormat) -> Result<Reader, Failure> {
    Err(Failure::usage(
        "This build has no CUDA support: it answers on the CPU. A build for Linux with default features \
         (`cargo build --release`) uses an NVIDIA GPU.",
    ))
}

#[cfg(cuda)]
pub(super) fn run(settings: &Settings, format: TableFormat) -> Result<Reader, Failure> {
    use crate::catalogue::catalogue;
    use crate::commands::table::Table;
    use crate::engine::cuda::inspect::inspect;
    use crate::output;
    use crate::wording::bytes;

    let seen = inspect().map_err(|error| {
        Failure::failed(format!("No GPU can be used: {error}. chatnap answers on the CPU (--device cpu) meanwhile."))
    })?;
    let share = f64::from(settings.gpu_memory_utilization);
    let mut gpus = Table::new(&["GPU", "name", "compute", "VRAM", "used", "free", "read bandwidth"]);
    let mut objects = Vec::new();
    for report in &seen.gpus {
        let (major, minor) = report.properties.compute_capability;
        gpus.row([
            format!("cuda:{}", report.properties.ordinal),
            report.properties.name.clone(),
            format!("{major}.{minor}"),
            bytes(report.properties.total),
            report.used.map(bytes).unwrap_or_else(|| "unknown".into()),
            bytes(report.free),
            match &report.bandwidth {
                Ok(rate) => format!("{:.2} TB/s", rate / 1e12),
                Err(why) => format!("not measured: {why}"),
            },
        ]);
        objects.push(serde_json::json!({
            "device": format!("cuda:{}", report.properties.ordinal),
            "name": report.properties.name,
            "compute_capability": format!("{major}.{minor}"),
            "total_bytes": report.properties.total,
            "used_bytes": report.used,
            "free_bytes": report.free,
            "driver_needed": report.driver_needed.to_string(),
            "read_bytes_per_second": report.bandwidth.as_ref().ok(),
        }));
    }
    let room = seen
        .gpus
        .first()
        .map_or(0, |first| first.free.saturating_sub((first.properties.total as f64 * (1.0 - share)) as u64));
    let mut models = Table::new(&["model", "weights", "fits cuda:0 with a context of 8192"]);
    let mut fitting = Vec::new();
    for model in &catalogue().models {
        for variant in &model.variants {
            let Some((size, _)) = model.size_of(variant) else { continue };
            // An estimate: the exact size needs the file's header and is computed before each load.
            let fits = !model.cpu_only && size + size / 10 + (2 << 30) <= room;
            let name = model.name_of(variant);
            let verdict = match fits {
                _ if model.cpu_only => "runs on the CPU alone",
                true => "yes",
                false => "no",
            };
            models.row([name.clone(), bytes(size), verdict.to_owned()]);
            fitting.push(serde_json::json!({ "model": name, "bytes": size, "fits": fits }));
        }
    }
    let driver = seen.driver.clone().unwrap_or_else(|| "unknown".into());
    let cuda = seen.cuda.map_or_else(|| "unknown".into(), |(major, minor)| format!("{major}.{minor}"));
    let json = serde_json::json!({
        "driver": seen.driver, "cuda": cuda, "kernels": seen.kernels, "build_targets": seen.targets,
        "families": seen.families, "cards": objects, "models": fitting,
    });
    if matches!(format, TableFormat::Json) {
        return output::write(&gpus.render(format, &json));
    }
    let head = format!(
        "driver {driver} (CUDA {cuda}); {} or later is needed\n\
         kernels: {}: {}\n\
         models on GPUs: {}, in every format that chatnap reads; others answer on the CPU\n\n",
        seen.gpus.iter().map(|gpu| gpu.driver_needed).max().unwrap_or_default(),
        seen.kernels,
        seen.targets,
        seen.families
    );
    let (gpus, models) = (gpus.render(format, &json), models.render(format, &json));
    output::write_foreign(&format!("{head}{gpus}\n{models}"))
}
