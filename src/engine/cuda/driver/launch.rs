//! Kernel launches, single or as a CUDA graph.

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use super::Gpu;
use super::errors::check;
use crate::engine::error::ModelError;

/// A loaded kernel.
#[derive(Clone, Copy)]
pub struct Kernel {
    pub(super) function: sys::CUfunction,
    /// Bytes of dynamic shared memory that a block may request.
    pub shared_limit: u32,
}

// SAFETY: a handle without thread affinity.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

#[derive(Clone, Copy, Debug, Default)]
pub struct LaunchConfig {
    /// Blocks.
    pub grid: (u32, u32, u32),
    /// Threads per block.
    pub threads: u32,
    /// Bytes of dynamic shared memory per block.
    pub shared: u32,
    /// Programmatic dependent launch: may start before the preceding kernel ends; must call `pdl_wait`.
    pub overlap: bool,
    /// Blocks per cluster, on GPUs that support clusters; 0 is 1.
    pub cluster: u32,
}

impl LaunchConfig {
    /// A one-dimensional grid.
    pub fn linear(blocks: u64, threads: u32) -> Self {
        Self { grid: (blocks.max(1) as u32, 1, 1), threads, ..Self::default() }
    }
}

/// Calls `work` with this config as a driver structure, which is valid only during the call.
pub(super) fn with_config(
    stream: sys::CUstream,
    config: LaunchConfig,
    work: impl FnOnce(&sys::CUlaunchConfig) -> CUresult,
) -> CUresult {
    // SAFETY: all zeros is a valid value of these plain C structures.
    let mut attributes: [sys::CUlaunchAttribute; 2] = unsafe { std::mem::zeroed() };
    let mut count = 0;
    if config.overlap {
        attributes[count].id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attributes[count].value.programmaticStreamSerializationAllowed = 1;
        count += 1;
    }
    if config.cluster > 1 {
        attributes[count].id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        let blocks = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: config.cluster, y: 1, z: 1 };
        attributes[count].value.clusterDim = blocks;
        count += 1;
    }
    work(&sys::CUlaunchConfig {
        gridDimX: config.grid.0,
        gridDimY: config.grid.1,
        gridDimZ: config.grid.2,
        blockDimX: config.threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: config.shared,
        hStream: stream,
        attrs: attributes.as_mut_ptr(),
        numAttrs: count as u32,
    })
}

impl Kernel {
    /// For tests of launch parameters without a GPU; must not be launched.
    #[cfg(test)]
    pub fn unloaded(shared_limit: u32) -> Self {
        Self { function: ptr::null_mut(), shared_limit }
    }

    /// Launches the kernel on `stream`. `args` must be the structure that the kernel takes.
    ///
    /// # Safety
    /// Every pointer in `args` must be valid on the GPU until the kernel has ended.
    pub unsafe fn launch<A: Copy>(
        self,
        stream: sys::CUstream,
        config: LaunchConfig,
        args: &A,
    ) -> Result<(), ModelError> {
        let mut params = [ptr::from_ref(args).cast_mut().cast::<c_void>()];
        // SAFETY: the driver copies the arguments before it returns; the caller guarantees the pointers in them.
        let launch =
            |config: &_| unsafe { sys::cuLaunchKernelEx(config, self.function, params.as_mut_ptr(), ptr::null_mut()) };
        check(with_config(stream, config, launch), "starting a kernel")
    }
}

/// An instantiated CUDA graph.
pub struct Graph(pub(super) sys::CUgraphExec);

// SAFETY: a handle, used by one thread at a time.
unsafe impl Send for Graph {}

impl Graph {
    /// Launches the graph on `gpu`'s stream.
    pub fn launch(&self, gpu: &Gpu) -> Result<(), ModelError> {
        // SAFETY: the same model owns the graph and the buffers of its kernels.
        check(unsafe { sys::cuGraphLaunch(self.0, gpu.stream) }, "starting the decode step")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: created by `capture`, destroyed once.
        unsafe { sys::cuGraphExecDestroy(self.0) };
    }
}
