//! Which GPU a model goes to.

use super::driver::{self, CardProperties};
use crate::engine::error::ModelError;
use crate::protocol::DevicePreference;

/// What is said where a driver answers and shows nothing.
pub const NO_CARD: &str = "CUDA shows no card (CUDA_VISIBLE_DEVICES may hide it)";

/// Whether a card would be asked first for `device`: there is one, as far as a look without a context can tell.
pub fn expected(device: DevicePreference) -> bool {
    device != DevicePreference::Cpu && choose(device).is_ok()
}

/// The card that is asked for; with `Auto` the first.
pub fn choose(device: DevicePreference) -> Result<CardProperties, ModelError> {
    let wanted = match device {
        DevicePreference::Cuda(ordinal) => ordinal,
        DevicePreference::Auto | DevicePreference::Cpu => 0,
    };
    let mut cards = driver::cards()?;
    if wanted < cards.len() {
        return Ok(cards.swap_remove(wanted));
    }
    Err(ModelError::Unsupported(match cards.len() {
        0 => NO_CARD.into(),
        1 => format!("there is no card {wanted}; the only one is 0"),
        count => format!("there is no card {wanted}; CUDA shows 0 to {}", count - 1),
    }))
}
