//! The CUDA driver, as little of it as the engine needs: context, memory, streams, events, graphs, launches.
//!
//! Everything that owns device memory must be dropped before its [`Gpu`]: dropping that resets the primary context, so
//! that nothing of this process stays on the card. Knows nothing of models.

pub(super) mod background;
pub(super) mod buffer;
pub(super) mod context_lock;
pub(super) mod errors;
pub(super) mod launch;
pub(super) mod nvml;
pub(super) mod tensor_map;

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUfunction_attribute, CUresult};

use crate::engine::error::ModelError;
pub use background::BackgroundTask;
pub use buffer::{DeviceBuffer, HostMemory, PinnedBuffer};
use context_lock::ContextLock;
use errors::check;
use launch::with_config;
pub use launch::{Graph, Kernel, LaunchConfig};

/// Whether a driver library can be loaded at all. Every other call of this module comes after a yes.
pub fn driver_present() -> bool {
    // SAFETY: tries to open the driver's library, nothing else.
    unsafe { sys::is_culib_present() }
}

/// What is known of a card without a context on it.
#[derive(Clone, Debug, PartialEq)]
pub struct CardProperties {
    /// CUDA's number for it, after `CUDA_VISIBLE_DEVICES`.
    pub ordinal: usize,
    /// Its maker's name.
    pub name: String,
    /// Compute capability, for example (9, 0).
    pub compute_capability: (i32, i32),
    /// Bytes of memory.
    pub total: u64,
    /// Multiprocessors.
    pub multiprocessors: i32,
    /// Shared memory that a block may use.
    pub shared_limit: i32,
    /// PCI address, for NVML.
    pub bus_id: String,
}

/// The cards that CUDA shows this process, which may be none; an error where the driver does not answer.
pub fn cards() -> Result<Vec<CardProperties>, ModelError> {
    if !driver_present() {
        return Err(ModelError::Unsupported("there is no NVIDIA driver on this machine".into()));
    }
    let mut count = 0;
    // SAFETY: starts the driver, once for the process; nothing else.
    let started = unsafe { sys::cuInit(0) };
    if started as u32 == errors::NO_DEVICE {
        return Ok(Vec::new());
    }
    check(started, "starting CUDA").map_err(errors::unusable)?;
    // SAFETY: a query into a local.
    check(unsafe { sys::cuDeviceGetCount(&mut count) }, "counting cards").map_err(errors::unusable)?;
    (0..count).map(properties).collect()
}

fn properties(ordinal: i32) -> Result<CardProperties, ModelError> {
    let mut device = 0;
    let (mut name, mut bus, mut total) = ([0i8; 256], [0i8; 32], 0usize);
    let attribute = |device, which| {
        let mut value = 0;
        // SAFETY: a query into a local.
        check(unsafe { sys::cuDeviceGetAttribute(&mut value, which, device) }, "asking the card").map(|()| value)
    };
    // SAFETY: queries into locals whose sizes are passed along; both strings end in NUL.
    let (name, bus_id) = unsafe {
        check(sys::cuDeviceGet(&mut device, ordinal), "finding the card")?;
        check(sys::cuDeviceGetName(name.as_mut_ptr().cast(), 255, device), "naming the card")?;
        check(sys::cuDeviceTotalMem_v2(&mut total, device), "asking for the card's memory")?;
        check(sys::cuDeviceGetPCIBusId(bus.as_mut_ptr().cast(), 31, device), "asking for the card's address")?;
        (CStr::from_ptr(name.as_ptr().cast()).to_string_lossy().into_owned(), CStr::from_ptr(bus.as_ptr().cast()))
    };
    Ok(CardProperties {
        ordinal: ordinal as usize,
        name,
        bus_id: bus_id.to_string_lossy().into_owned(),
        total: total as u64,
        compute_capability: (
            attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_limit: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    })
}

/// CUDA's version of the driver, for example (13, 0).
pub fn driver_version() -> Option<(i32, i32)> {
    let mut version = 0;
    // SAFETY: a query into a local; asked only where a driver is there.
    let known = driver_present() && unsafe { sys::cuDriverGetVersion(&mut version) } == CUresult::CUDA_SUCCESS;
    known.then_some((version / 1000, version % 1000 / 10))
}

/// A card with our context on it and one stream. Dropping it gives everything back. There is one at a time.
pub struct Gpu {
    /// What card it is.
    pub card: CardProperties,
    device: sys::CUdevice,
    context: sys::CUcontext,
    modules: Vec<sys::CUmodule>,
    /// Bytes in use on the card when the model was ready.
    held: Arc<OnceLock<u64>>,
    /// Bytes that came back when the context was destroyed.
    freed: Arc<OnceLock<u64>>,
    /// The stream that all work but loading runs on.
    pub stream: sys::CUstream,
    /// Goes last.
    _lock: ContextLock,
}

// SAFETY: the driver's handles may be used from any thread that has made the context current; `activate` does.
unsafe impl Send for Gpu {}
// SAFETY: `&Gpu` is used by reader threads for `activate` and launches on their own streams, which the driver allows.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Makes the card's primary context, after the end of an earlier one.
    pub fn open(card: CardProperties) -> Result<Self, ModelError> {
        let lock = ContextLock::take();
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: handles into locals; `card` comes from `cards`, which has started the driver.
        unsafe {
            check(sys::cuDeviceGet(&mut device, card.ordinal as i32), "finding the card")?;
            check(sys::cuDevicePrimaryCtxRetain(&mut context, device), "making a context on the card")
                .map_err(|error| errors::no_context(error, &card.name))?;
        }
        let (held, freed) = (Arc::default(), Arc::default());
        let (modules, stream) = (Vec::new(), ptr::null_mut());
        let mut gpu = Self { card, device, context, modules, held, freed, stream, _lock: lock };
        gpu.activate()?;
        // SAFETY: a handle into a field; the context is current.
        check(unsafe { sys::cuStreamCreate(&mut gpu.stream, 1) }, "making a stream")?;
        Ok(gpu)
    }

    /// Notes how much of the card is in use, to tell later how much a release gave back. Asking takes longer than a short
    /// answer, so it happens beside.
    pub fn note_use(&self) {
        let (held, bus_id) = (Arc::clone(&self.held), self.card.bus_id.clone());
        let asking = std::thread::Builder::new().name("memory".into());
        // Without a thread the release stays without a figure.
        let _ = asking.spawn(move || used(&bus_id).map(|bytes| held.set(bytes)));
    }

    /// Is set when the context is destroyed: the bytes that came back since `note_use`, by NVML.
    pub fn freed(&self) -> Arc<OnceLock<u64>> {
        Arc::clone(&self.freed)
    }

    /// The context, for [`BackgroundTask`] alone.
    pub fn context(&self) -> sys::CUcontext {
        self.context
    }

    /// Makes the context current on this thread.
    pub fn activate(&self) -> Result<(), ModelError> {
        // SAFETY: the context lives as long as `self`.
        check(unsafe { sys::cuCtxSetCurrent(self.context) }, "using the card")
    }

    /// Loads a module of machine code.
    pub fn load_module(&mut self, image: &'static [u8]) -> Result<sys::CUmodule, ModelError> {
        let mut module = ptr::null_mut();
        // SAFETY: `image` is a whole fat binary and outlives the call.
        let result = unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) };
        if matches!(result as u32, 209 | 218 | 222) {
            let (major, minor) = self.card.compute_capability;
            return Err(ModelError::Unsupported(format!(
                "this build has no kernels for {} (compute capability {major}.{minor}) that its driver can run; it was \
                 built for {} and needs a driver for CUDA 13 (580 or later); use --device cpu",
                self.card.name,
                super::TARGETS
            )));
        }
        check(result, "loading kernels")?;
        self.modules.push(module);
        Ok(module)
    }

    /// A kernel by name; `dynamic`: with as much dynamic shared memory as the card allows beside its fixed one.
    pub fn function(&self, module: sys::CUmodule, name: &str, dynamic: bool) -> Result<Kernel, ModelError> {
        let mut function = ptr::null_mut();
        let c_name = CString::new(name).map_err(|e| ModelError::Invalid(e.to_string()))?;
        // SAFETY: the module is loaded and the name ends in NUL.
        check(unsafe { sys::cuModuleGetFunction(&mut function, module, c_name.as_ptr()) }, name)?;
        let mut fixed = 0;
        let shared = CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        // SAFETY: a query into a local; it also makes the driver load the kernel now and not during a capture.
        check(unsafe { sys::cuFuncGetAttribute(&mut fixed, shared, function) }, name)?;
        let most = self.card.shared_limit - fixed;
        if dynamic {
            let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded.
            check(unsafe { sys::cuFuncSetAttribute(function, limit, most) }, name)?;
            // All of the multiprocessor's memory that can be shared memory, so that the next kernel's blocks find room
            // beside this one's.
            let carveout = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
            // SAFETY: the function is loaded.
            check(unsafe { sys::cuFuncSetAttribute(function, carveout, 100) }, name)?;
        }
        Ok(Kernel { function, shared_limit: most as u32 })
    }

    /// Blocks of `threads` that one multiprocessor holds.
    pub fn occupancy(&self, kernel: Kernel, threads: u32, shared: u32) -> u32 {
        let mut blocks = 0;
        // SAFETY: a query into a local.
        let result = unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &mut blocks,
                kernel.function,
                threads as i32,
                shared as usize,
            )
        };
        if result == CUresult::CUDA_SUCCESS { blocks.max(1) as u32 } else { 1 }
    }

    /// Clusters of a kernel that the card runs at once; 0 where it cannot tell.
    pub fn clusters(&self, kernel: Kernel, config: LaunchConfig) -> usize {
        let mut clusters = 0;
        let config = LaunchConfig { grid: (config.cluster.max(1), 1, 1), overlap: false, ..config };
        let answer = with_config(self.stream, config, |config| {
            // SAFETY: a query into a local; the configuration outlives it.
            unsafe { sys::cuOccupancyMaxActiveClusters(&mut clusters, kernel.function, config) }
        });
        if answer == CUresult::CUDA_SUCCESS { clusters.max(0) as usize } else { 0 }
    }

    /// Bytes free and in all, as this context sees them.
    pub fn memory(&self) -> Result<(u64, u64), ModelError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: a query into locals; the context is current.
        check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }, "asking for free memory")?;
        Ok((free as u64, total as u64))
    }

    /// Waits for everything on the stream.
    pub fn synchronize(&self) -> Result<(), ModelError> {
        // SAFETY: the stream lives as long as `self`.
        check(unsafe { sys::cuStreamSynchronize(self.stream) }, "waiting for the card")
    }

    /// Records what `work` launches on the stream as a graph.
    pub fn capture(&self, work: impl FnOnce() -> Result<(), ModelError>) -> Result<Graph, ModelError> {
        let (mut graph, mut exec) = (ptr::null_mut(), ptr::null_mut());
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours and idle; every path ends the capture.
        unsafe {
            check(sys::cuStreamBeginCapture_v2(self.stream, mode), "recording the decode step")?;
            let worked = work();
            let ended = check(sys::cuStreamEndCapture(self.stream, &mut graph), "recording the decode step");
            worked?;
            ended?;
            let made = check(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0), "making the decode step");
            sys::cuGraphDestroy(graph);
            made?;
        }
        Ok(Graph(exec))
    }
}

/// Bytes of the card at this address in use by everybody, where NVML tells.
pub(super) fn used(bus_id: &str) -> Option<u64> {
    nvml::Management::open()?.card(bus_id).used
}

impl Drop for Gpu {
    /// Leaves nothing of this process on the card. Failures cannot be mended here: the reset is what counts.
    fn drop(&mut self) {
        let (before, total) = (self.held.get().copied(), self.card.total);
        // SAFETY: all memory, graphs and events of this context are gone by now (see the module's text).
        unsafe {
            sys::cuCtxSetCurrent(self.context);
            sys::cuCtxSynchronize();
            for module in self.modules.drain(..) {
                sys::cuModuleUnload(module);
            }
            if !self.stream.is_null() {
                sys::cuStreamDestroy_v2(self.stream);
            }
            sys::cuCtxSetCurrent(ptr::null_mut());
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
            sys::cuDevicePrimaryCtxReset_v2(self.device);
        }
        if let Some((before, after)) = before.zip(used(&self.card.bus_id)) {
            // Set once: a context is destroyed once.
            let _ = self.freed.set(before.saturating_sub(after).min(total));
        }
    }
}

/// A mark on a stream.
pub struct Event(sys::CUevent);

// SAFETY: a handle, used by one thread at a time.
unsafe impl Send for Event {}

impl Event {
    /// A mark; `timing` where times between marks are wanted.
    pub fn new(timing: bool) -> Result<Self, ModelError> {
        let mut event = ptr::null_mut();
        // SAFETY: a handle into a local; the context is current.
        check(unsafe { sys::cuEventCreate(&mut event, if timing { 0 } else { 2 }) }, "making an event")?;
        Ok(Self(event))
    }

    /// Sets the mark after what `stream` has been given so far.
    pub fn record(&self, stream: sys::CUstream) -> Result<(), ModelError> {
        // SAFETY: both live.
        check(unsafe { sys::cuEventRecord(self.0, stream) }, "marking a stream")
    }

    /// Waits until the stream has come to the mark.
    pub fn wait(&self) -> Result<(), ModelError> {
        // SAFETY: the event lives.
        check(unsafe { sys::cuEventSynchronize(self.0) }, "waiting for the card")
    }

    /// Milliseconds from `earlier` to this; both were made for timing and have passed.
    pub fn since(&self, earlier: &Event) -> Result<f32, ModelError> {
        let mut ms = 0.0;
        // SAFETY: both live.
        check(unsafe { sys::cuEventElapsedTime_v2(&mut ms, earlier.0, self.0) }, "reading a time")?;
        Ok(ms)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

/// A stream of a reader thread.
pub struct Stream(pub sys::CUstream);

impl Stream {
    /// A stream that does not wait for others.
    pub fn new() -> Result<Self, ModelError> {
        let mut stream = ptr::null_mut();
        // SAFETY: a handle into a local; the context is current.
        check(unsafe { sys::cuStreamCreate(&mut stream, 1) }, "making a stream")?;
        Ok(Self(stream))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: waits first, so that nothing of it is in flight when buffers go; destroyed once.
        unsafe {
            sys::cuStreamSynchronize(self.0);
            sys::cuStreamDestroy_v2(self.0);
        }
    }
}
