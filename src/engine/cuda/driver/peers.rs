//! Whether GPUs can access each other's memory.

use cudarc::driver::sys::{self, CUresult};

/// Whether each of two GPUs can read and write the other's memory; ordinals as `list_gpus` gives them. False for a GPU that
/// does not exist, and without a driver. Creates no context.
pub fn peers(a: usize, b: usize) -> bool {
    super::driver_present() && can_access(a, b) && can_access(b, a)
}

fn can_access(from: usize, to: usize) -> bool {
    let (mut able, mut device, mut peer) = (0, 0, 0);
    let (Ok(from), Ok(to)) = (i32::try_from(from), i32::try_from(to)) else { return false };
    // SAFETY: queries into locals; a driver is present, and one that is not initialised answers with an error.
    let known = unsafe {
        sys::cuDeviceGet(&mut device, from) == CUresult::CUDA_SUCCESS
            && sys::cuDeviceGet(&mut peer, to) == CUresult::CUDA_SUCCESS
            && sys::cuDeviceCanAccessPeer(&mut able, device, peer) == CUresult::CUDA_SUCCESS
    };
    known && able != 0
}
