//! `chatnap gpu`: the GPUs, how they are connected, what this build can run on them, and which models fit.

use crate::cli::args::TableFormat;
use crate::failure::Failure;
use crate::output::Reader;
use crate::settings::Settings;

#[cfg(cuda)]
mod shown;

#[cfg(not(cuda))]
pub(super) fn run(_settings: &Settings, _format: TableFormat) -> Result<Reader, Failure> {
    Err(Failure::usage(
        "This build has no CUDA support: it answers on the CPU. A build for Linux with default features \
         (`cargo build --release`) uses an NVIDIA GPU.",
    ))
}

#[cfg(cuda)]
pub(super) fn run(settings: &Settings, format: TableFormat) -> Result<Reader, Failure> {
    use crate::engine::cuda::inspect::inspect;
    use crate::output;

    let seen = inspect().map_err(|error| {
        Failure::failed(format!("No GPU can be used: {error}. chatnap answers on the CPU (--device cpu) meanwhile."))
    })?;
    let shown = shown::shown(&seen, settings.gpu_memory_utilization, format);
    if format == TableFormat::Json { output::write(&shown) } else { output::write_foreign(&shown) }
}
