//! `chatnap gpu`: the cards, what this build can do with them, and what fits.

use crate::cli::args::TableFormat;
use crate::cli::failure::Failure;
use crate::cli::output::Reader;
use crate::settings::Settings;

#[cfg(not(feature = "cuda"))]
pub(super) fn run(_settings: &Settings, _format: TableFormat) -> Result<Reader, Failure> {
    Err(Failure::usage(
        "This build has no CUDA support: it answers on the CPU. To use an NVIDIA card, build it with \
         `cargo install chatnap --features cuda` (or `cargo build --release --features cuda` in its folder), \
         which needs the CUDA 13 toolkit.",
    ))
}

#[cfg(feature = "cuda")]
pub(super) fn run(_settings: &Settings, _format: TableFormat) -> Result<Reader, Failure> {
    Err(Failure::usage("`chatnap gpu` is not built yet."))
}
