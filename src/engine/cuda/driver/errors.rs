//! Maps CUDA driver error codes to `ModelError`, and distinguishes sticky errors from recoverable ones.

use std::ffi::CStr;
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use crate::engine::error::ModelError;

/// Converts a driver status into a result; `what` names the operation, for the message.
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

/// `CUDA_ERROR_NO_DEVICE`: there is no GPU, or `CUDA_VISIBLE_DEVICES` hides all of them.
pub const NO_DEVICE: u32 = 100;

/// The error for a failing `code` (`CUresult` of `cuda.h`), with `message`.
///
/// Sticky errors (a kernel fault, an uncorrectable memory error) leave the context unusable: every later call returns
/// the same error. Whether a new context in this process works depends on the driver: on an H100 (driver 580) it does
/// not after an illegal address.
pub fn classify(code: u32, message: &str) -> ModelError {
    match code {
        2 => ModelError::OutOfMemory(message.to_owned()),
        // 214, 220: uncorrectable memory and link errors. 700: illegal address, 702: timeout, 709: context destroyed,
        // 710: assertion, 714 to 719: illegal instructions and addresses, launch failure.
        _ => ModelError::Device {
            message: message.to_owned(),
            sticky: matches!(code, 214 | 220 | 700 | 702 | 709 | 710 | 714..=719),
        },
    }
}

/// An error from before a context exists. The GPU is unusable but there was no fault, so it becomes `Unsupported`.
pub fn unusable(error: ModelError) -> ModelError {
    match error {
        ModelError::Device { message, .. } => ModelError::Unsupported(format!("the NVIDIA driver refuses: {message}")),
        error => error,
    }
}

/// An error from creating the context, on the GPU called `name`.
pub fn no_context(error: ModelError, name: &str) -> ModelError {
    match error {
        ModelError::OutOfMemory(_) => ModelError::OutOfMemory(format!(
            "{name} is so full that not even CUDA's own half gigabyte is free; close what uses it, or take --device cpu"
        )),
        // Left by an earlier fault of this process. Stays a device error, so that `auto` does not use the CPU instead.
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
    fn out_of_memory_sticky_and_recoverable_codes_are_classified() {
        assert_eq!(classify(2, "x"), ModelError::OutOfMemory("x".into()));
        assert!([214, 700, 715, 716, 719].into_iter().all(sticky));
        // An invalid value, a GPU in exclusive use, a launch with too many registers: the context stays usable.
        assert!(![1, 46, 701, 712].into_iter().any(sticky));
    }

    #[test]
    fn failures_before_a_context_are_unsupported_or_out_of_memory() {
        let refused = unusable(classify(803, "starting CUDA: system has unsupported driver"));
        assert!(matches!(&refused, ModelError::Unsupported(text) if text.contains("unsupported driver")), "{refused}");
        let full = no_context(classify(2, "making a context: out of memory"), "A GPU");
        assert!(
            matches!(&full, ModelError::OutOfMemory(text) if text.contains("A GPU") && text.contains("--device cpu"))
        );
        assert!(matches!(no_context(classify(46, "busy"), "A GPU"), ModelError::Unsupported(_)));
    }

    #[test]
    fn sticky_error_on_context_creation_asks_for_a_restart_and_stays_a_device_error() {
        let closed = no_context(classify(700, "an illegal address"), "A GPU");
        let ModelError::Device { message, sticky: true } = closed else { panic!("{closed:?}") };
        assert!(message.contains("A GPU is closed") && message.contains("start chatnap again"), "{message}");
    }
}
