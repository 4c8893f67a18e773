//! The engine on NVIDIA cards: own kernels for the Llama family, loading, decoding and giving everything back.
//!
//! Machine code for the cards named in `TARGETS` is part of the program; the driver is loaded at run time, so a build with
//! this feature also starts where there is none. Dropping a loaded model resets the card's primary context: afterwards
//! nothing of this process is left on the card. Knows no conversations and no terminals.

mod bandwidth;
#[cfg(any(test, feature = "gpu-checks"))]
pub mod checks;
mod decode;
mod driver;
mod hopper_attention;
pub mod inspect;
mod kernels;
mod layout;
mod load;
mod matmul;
mod model;
mod params;
mod prefill_chunk;
mod prompt;
mod select;
mod step;
mod tuning;

pub use bandwidth::read_bandwidth;
pub use driver::context_lock::wait_for_contexts;
pub use load::{Opened, Opening, load};
pub use model::{CudaModel, unsupported};
pub use select::expected;

/// The compute capabilities that this build has machine code for.
pub const TARGETS: &str = env!("CHATNAP_CUDA_TARGETS");
