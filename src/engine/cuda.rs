//! The engine on NVIDIA GPUs: CUDA kernels for the Llama family, loading, prefill, decoding and releasing the device.
//!
//! The binary embeds machine code for several compute capabilities (`images`). The driver is loaded at run time, so a
//! build with this feature also starts without a driver. Dropping a loaded model resets the GPU's primary context,
//! which frees all device memory of this process. No dependency on conversations or the terminal.

mod bandwidth;
#[cfg(any(test, feature = "gpu-checks"))]
pub mod checks;
mod decode;
mod driver;
mod exchange;
mod exchange_test;
mod exchange_time;
mod hopper_attention;
mod images;
pub mod inspect;
mod kernels;
mod layout;
mod load;
mod matmul;
mod model;
mod params;
mod prefill_chunk;
mod prompt;
mod rank;
mod select;
mod split;
mod step;
mod tuning;

pub use bandwidth::read_bandwidth;
#[cfg(test)]
pub(crate) use driver::GpuProperties;
pub use driver::context_lock::wait_for_contexts;
pub use driver::driver_present;
pub use driver::nvml::Management;
pub use load::{Opened, Opening, load};
pub use model::CudaModel;
pub use rank::unsupported;
pub use select::{choose, choose_first, choose_for, expected, opened, suggestions, usable};
