//! What a driver's error number means for the model and for this process.

use std::ffi::CStr;
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use crate::engine::error::ModelError;

/// Turns a driver's answer into a result; `what` says what was tried.
pub fn check(result: CUresult, what: &str) -> Result<(), ModelError> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = ptr::null();
    // SAFETY: the driver fills `text` with a static string or leaves it null.
    let known = unsafe { sys::cuGetErrorString(result, &mut text) } == CUresult::CUDA_SUCCESS && !text.is_null();
    let said = if known {
        // SAFETY: a successful call leaves a NUL-terminated static string.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    } else {
        "unknown error".to_owned()
    };
    Err(classify(result as u32, &format!("{what}: {said} (CUDA error {})", result as u32)))
}

/// CUDA hides every card from this process, or there is none (`CUDA_ERROR_NO_DEVICE`).
pub const NO_DEVICE: u32 = 100;

/// The error behind number `code` (`CUresult` of `cuda.h`), told with `message`.
///
/// Sticky ones (a kernel that faulted, memory that the card could not correct) leave the context unusable: every later call
/// answers the same. Whether a context that is made anew in this process works is the driver's to say: on an H100 (driver 580)
/// it does not after an illegal address.
pub fn classify(code: u32, message: &str) -> ModelError {
    match code {
        2 => ModelError::OutOfMemory(message.to_owned()),
        // 214, 220: uncorrectable memory and link errors. 700: illegal address, 702: timeout, 709: the context is gone,
        // 710: assertion, 714 to 719: illegal instructions and addresses, and a launch that failed.
        _ => ModelError::Device {
            message: message.to_owned(),
            sticky: matches!(code, 214 | 220 | 700 | 702 | 709 | 710 | 714..=719),
        },
    }
}

/// An error from before a context exists: the card cannot be used, by whoever asks, but nothing is broken.
pub fn unusable(error: ModelError) -> ModelError {
    match error {
        ModelError::Device { message, .. } => ModelError::Unsupported(format!("the NVIDIA driver refuses: {message}")),
        error => error,
    }
}

/// An error from making the context, on the card called `name`.
pub fn no_context(error: ModelError, name: &str) -> ModelError {
    match error {
        ModelError::OutOfMemory(_) => ModelError::OutOfMemory(format!(
            "{name} is so full that not even CUDA's own half gigabyte is free; close what uses it, or take --device cpu"
        )),
        // What an earlier fault of this process left behind: no reason to answer on the CPU without being asked.
        ModelError::Device { sticky: true, message } => ModelError::Device {
            message: format!(
                "{name} is closed to this process after a fault ({message}); the conversation is kept: quit and start \
                 chatnap again, or take --device cpu"
            ),
            sticky: true,
        },
        error => unusable(error),
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    fn sticky(code: u32) -> bool {
        matches!(classify(code, "x"), ModelError::Device { sticky: true, .. })
    }

    #[test]
    fn a_full_card_a_lost_context_and_a_refused_call_are_told_apart() {
        assert_eq!(classify(2, "x"), ModelError::OutOfMemory("x".into()));
        assert!([214, 700, 715, 716, 719].into_iter().all(sticky));
        // An invalid value, a card in exclusive use, a launch with too many registers: the context lives.
        assert!(![1, 46, 701, 712].into_iter().any(sticky));
    }

    #[test]
    fn what_fails_before_a_context_is_no_fault() {
        let refused = unusable(classify(803, "starting CUDA: system has unsupported driver"));
        assert!(matches!(&refused, ModelError::Unsupported(text) if text.contains("unsupported driver")), "{refused}");
        let full = no_context(classify(2, "making a context: out of memory"), "A card");
        assert!(
            matches!(&full, ModelError::OutOfMemory(text) if text.contains("A card") && text.contains("--device cpu"))
        );
        assert!(matches!(no_context(classify(46, "busy"), "A card"), ModelError::Unsupported(_)));
    }

    #[test]
    fn a_card_that_stays_closed_after_a_fault_says_so_and_is_not_swapped_for_the_cpu() {
        let closed = no_context(classify(700, "an illegal address"), "A card");
        let ModelError::Device { message, sticky: true } = closed else { panic!("{closed:?}") };
        assert!(message.contains("A card is closed") && message.contains("start chatnap again"), "{message}");
    }
}
