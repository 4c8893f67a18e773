//! A thin wrapper of the CUDA driver API: context, memory, streams, events, graphs, launches. Independent of models.
//!
//! Everything that owns device memory must be dropped before its [`Gpu`], because dropping the `Gpu` resets the primary
//! context and so frees all device memory of this process.

pub(super) mod background;
pub(super) mod buffer;
pub(super) mod context_lock;
pub(super) mod errors;
pub(super) mod launch;
pub(super) mod nvml;
pub(super) mod peers;
pub(super) mod shared;
pub(super) mod tensor_map;

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUfunction_attribute, CUresult};

use super::images;
use crate::engine::error::ModelError;
use crate::protocol::Freed;
pub use background::BackgroundTask;
pub use buffer::{DeviceBuffer, HostMemory, PinnedBuffer};
use context_lock::ContextLock;
use errors::check;
use launch::with_config;
pub use launch::{Graph, Kernel, LaunchConfig};

/// Whether a driver library can be loaded. Every other call of this module requires it.
pub fn driver_present() -> bool {
    // SAFETY: only tries to open the driver's library.
    unsafe { sys::is_culib_present() }
}

/// Properties of a GPU that can be queried without a context.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuProperties {
    /// CUDA's device ordinal, after `CUDA_VISIBLE_DEVICES`.
    pub ordinal: usize,
    pub name: String,
    /// Compute capability, for example (9, 0).
    pub compute_capability: (i32, i32),
    /// Bytes of memory.
    pub total: u64,
    pub multiprocessors: i32,
    /// Bytes of shared memory that a block may opt in to.
    pub shared_limit: i32,
    /// PCI address, for NVML.
    pub bus_id: String,
}

/// The GPUs visible to this process, possibly none. An error if there is no driver or it cannot be initialised.
pub fn list_gpus() -> Result<Vec<GpuProperties>, ModelError> {
    if !driver_present() {
        return Err(ModelError::Unsupported("there is no NVIDIA driver on this machine".into()));
    }
    let mut count = 0;
    // SAFETY: only initialises the driver, once per process.
    let started = unsafe { sys::cuInit(0) };
    if started as u32 == errors::NO_DEVICE {
        return Ok(Vec::new());
    }
    check(started, "starting CUDA").map_err(errors::unusable)?;
    // SAFETY: a query into a local.
    check(unsafe { sys::cuDeviceGetCount(&mut count) }, "counting GPUs").map_err(errors::unusable)?;
    (0..count).map(properties).collect()
}

fn properties(ordinal: i32) -> Result<GpuProperties, ModelError> {
    let mut device = 0;
    let (mut name, mut bus, mut total) = ([0i8; 256], [0i8; 32], 0usize);
    let attribute = |device, which| {
        let mut value = 0;
        // SAFETY: a query into a local.
        check(unsafe { sys::cuDeviceGetAttribute(&mut value, which, device) }, "querying the GPU").map(|()| value)
    };
    // SAFETY: queries into locals whose sizes are passed; both strings end in NUL.
    let (name, bus_id) = unsafe {
        check(sys::cuDeviceGet(&mut device, ordinal), "finding the GPU")?;
        check(sys::cuDeviceGetName(name.as_mut_ptr().cast(), 255, device), "querying the GPU's name")?;
        check(sys::cuDeviceTotalMem_v2(&mut total, device), "querying the GPU's memory")?;
        check(sys::cuDeviceGetPCIBusId(bus.as_mut_ptr().cast(), 31, device), "querying the GPU's PCI address")?;
        (CStr::from_ptr(name.as_ptr().cast()).to_string_lossy().into_owned(), CStr::from_ptr(bus.as_ptr().cast()))
    };
    Ok(GpuProperties {
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

/// The CUDA version that the driver supports, for example (13, 0).
pub fn driver_version() -> Option<(i32, i32)> {
    let mut version = 0;
    // SAFETY: a query into a local; called only if a driver is present.
    let known = driver_present() && unsafe { sys::cuDriverGetVersion(&mut version) } == CUresult::CUDA_SUCCESS;
    known.then_some((version / 1000, version % 1000 / 10))
}

/// A GPU with a retained primary context and one stream. Drop resets the context. At most one, or the ones of one group,
/// exist per process.
pub struct Gpu {
    pub properties: GpuProperties,
    device: sys::CUdevice,
    context: sys::CUcontext,
    modules: Vec<sys::CUmodule>,
    /// Bytes in use on the GPU when the model was ready.
    held: Arc<OnceLock<Freed>>,
    /// Bytes freed by destroying the context.
    freed: Arc<OnceLock<Freed>>,
    /// The stream of all work except uploads.
    pub stream: sys::CUstream,
    /// Called before the context is destroyed.
    before_end: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    /// Another `Gpu` uses the same context, resets it, and is dropped later.
    borrowed: bool,
    /// The last field, so that it is released after the context is destroyed.
    _lock: Arc<ContextLock>,
}

// SAFETY: the driver's handles may be used from any thread on which `activate` has made the context current.
unsafe impl Send for Gpu {}
// SAFETY: `&Gpu` is used by reader threads for `activate` and launches on their own streams, which the driver allows.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Retains the GPU's primary context. Blocks until an earlier context of this process is destroyed.
    pub fn open(properties: GpuProperties) -> Result<Self, ModelError> {
        Self::open_under(Arc::new(ContextLock::take()), properties, false)
    }

    /// As `open`, as one of several GPUs under a lock that the caller holds. `borrowed`: an earlier `Gpu` of the group uses
    /// the same context and is dropped after this one.
    pub fn open_under(lock: Arc<ContextLock>, properties: GpuProperties, borrowed: bool) -> Result<Self, ModelError> {
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: handles into locals; `properties` comes from `list_gpus`, which has initialised the driver.
        unsafe {
            check(sys::cuDeviceGet(&mut device, properties.ordinal as i32), "finding the GPU")?;
            check(sys::cuDevicePrimaryCtxRetain(&mut context, device), "making a context on the GPU")
                .map_err(|error| errors::no_context(error, &properties.name))?;
        }
        let (held, freed) = (Arc::default(), Arc::default());
        let (modules, stream) = (Vec::new(), ptr::null_mut());
        let mut gpu = Self {
            properties,
            device,
            context,
            modules,
            held,
            freed,
            stream,
            before_end: Mutex::default(),
            borrowed,
            _lock: lock,
        };
        gpu.activate()?;
        // SAFETY: a handle into a field; the context is current.
        check(unsafe { sys::cuStreamCreate(&mut gpu.stream, 1) }, "making a stream")?;
        Ok(gpu)
    }

    /// Records the GPU's memory in use and its energy counter, from which `drop` computes what was freed and used. Runs on a background thread, because
    /// the NVML query takes longer than a short answer.
    pub fn note_use(&self) {
        let (held, bus_id) = (Arc::clone(&self.held), self.properties.bus_id.clone());
        let asking = std::thread::Builder::new().name("memory".into());
        // If the thread cannot be started, the release reports no number of bytes.
        let _ = asking.spawn(move || held.set(now(&bus_id)));
    }

    /// Bytes in use (NVML) at `note_use` minus those after the context is destroyed, and the energy in between. The end of
    /// the context sets it.
    pub fn freed(&self) -> Arc<OnceLock<Freed>> {
        Arc::clone(&self.freed)
    }

    /// Only for [`BackgroundTask`].
    pub fn context(&self) -> sys::CUcontext {
        self.context
    }

    /// Whether another `Gpu` owns the context.
    pub fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    /// Calls `work` before the context is destroyed, with the context current: for what other GPUs' objects still hold.
    pub fn before_end(&self, work: impl FnOnce() + Send + 'static) {
        self.before_end.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(work));
    }

    /// Makes the context current on this thread.
    pub fn activate(&self) -> Result<(), ModelError> {
        // SAFETY: the context is valid as long as `self`.
        check(unsafe { sys::cuCtxSetCurrent(self.context) }, "using the GPU")
    }

    /// Loads a module from machine code (ELF) or PTX. `Unsupported` if this GPU and driver cannot run it.
    pub fn load_module(&mut self, image: &[u8]) -> Result<sys::CUmodule, ModelError> {
        let mut module = ptr::null_mut();
        // SAFETY: `image` is whole, PTX ends in NUL, and the driver copies what it keeps.
        let result = unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) };
        if matches!(result as u32, 209 | 218 | 222) {
            let needed = images::driver_needed(self.properties.compute_capability);
            return Err(ModelError::Unsupported(format!(
                "the NVIDIA driver cannot load this build's kernels for {}: they need driver {needed} or later; update it, \
                 or use --device cpu",
                self.properties.name,
            )));
        }
        check(result, "loading kernels")?;
        self.modules.push(module);
        Ok(module)
    }

    /// A kernel by name. `dynamic` raises its dynamic shared memory limit to the maximum that its static part leaves.
    pub fn find_function(&self, module: sys::CUmodule, name: &str, dynamic: bool) -> Result<Kernel, ModelError> {
        let mut function = ptr::null_mut();
        let c_name = CString::new(name).map_err(|e| ModelError::Invalid(e.to_string()))?;
        // SAFETY: the module is loaded and the name ends in NUL.
        check(unsafe { sys::cuModuleGetFunction(&mut function, module, c_name.as_ptr()) }, name)?;
        let mut fixed = 0;
        let shared = CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        // SAFETY: a query into a local; it also forces the driver to load the kernel now instead of during a capture.
        check(unsafe { sys::cuFuncGetAttribute(&mut fixed, shared, function) }, name)?;
        let most = self.properties.shared_limit - fixed;
        if dynamic {
            let limit = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded.
            check(unsafe { sys::cuFuncSetAttribute(function, limit, most) }, name)?;
            // The maximum shared memory carveout, so that the next kernel's blocks fit on the multiprocessor together
            // with this one's.
            let carveout = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
            // SAFETY: the function is loaded.
            check(unsafe { sys::cuFuncSetAttribute(function, carveout, 100) }, name)?;
        }
        Ok(Kernel { function, shared_limit: most as u32 })
    }

    /// Resident blocks per multiprocessor, at least 1; `shared`: bytes of dynamic shared memory per block.
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

    /// The maximum number of co-resident clusters of a kernel; 0 if the query fails.
    pub fn clusters(&self, kernel: Kernel, config: LaunchConfig) -> usize {
        let mut clusters = 0;
        let config = LaunchConfig { grid: (config.cluster.max(1), 1, 1), overlap: false, ..config };
        let answer = with_config(self.stream, config, |config| {
            // SAFETY: a query into a local; the configuration outlives it.
            unsafe { sys::cuOccupancyMaxActiveClusters(&mut clusters, kernel.function, config) }
        });
        if answer == CUresult::CUDA_SUCCESS { clusters.max(0) as usize } else { 0 }
    }

    /// Free and total bytes, as reported to this context.
    pub fn memory(&self) -> Result<(u64, u64), ModelError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: a query into locals; the context is current.
        check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }, "querying free memory")?;
        Ok((free as u64, total as u64))
    }

    /// Copies memory at `address` into `out`, after all earlier work on the stream.
    ///
    /// # Safety
    /// `out.len()` elements at `address` must be memory that this GPU can read.
    pub unsafe fn read_at<T: Copy>(&self, address: u64, out: &mut [T]) -> Result<(), ModelError> {
        let bytes = size_of_val(out);
        // SAFETY: the caller guarantees the source; `out` is writable for its length and outlives the wait below.
        let copied = unsafe { sys::cuMemcpyAsync(out.as_mut_ptr() as u64, address, bytes, self.stream) };
        check(copied, "copying from the GPU")?;
        self.synchronize()
    }

    /// Waits for all work on the stream.
    pub fn synchronize(&self) -> Result<(), ModelError> {
        // SAFETY: the stream is valid as long as `self`.
        check(unsafe { sys::cuStreamSynchronize(self.stream) }, "waiting for the GPU")
    }

    /// As `synchronize`, but also returns, with false, if `give_up` holds before the work is done.
    pub fn synchronize_unless(&self, give_up: impl Fn() -> bool) -> Result<bool, ModelError> {
        for polls in 0_u32.. {
            // SAFETY: the stream is valid as long as `self`.
            match unsafe { sys::cuStreamQuery(self.stream) } {
                CUresult::CUDA_ERROR_NOT_READY if give_up() => return Ok(false),
                // A step of a small model takes a millisecond; longer ones may be noticed later.
                CUresult::CUDA_ERROR_NOT_READY if polls < 2000 => std::hint::spin_loop(),
                CUresult::CUDA_ERROR_NOT_READY => std::thread::sleep(Duration::from_micros(50)),
                result => return check(result, "waiting for the GPU").map(|()| true),
            }
        }
        Ok(false)
    }

    /// Captures the launches of `work` on the stream as a graph.
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

/// NVML's counts of the GPU at this PCI address, for all processes: bytes in use, and millijoules since the driver started.
pub(super) fn now(bus_id: &str) -> Freed {
    let Some(management) = nvml::Management::open() else { return Freed::default() };
    Freed { bytes: management.usage(bus_id).used, energy_mj: management.energy_mj(bus_id) }
}

impl Drop for Gpu {
    /// Resets the primary context, which frees all device memory of this process. Errors are ignored: the reset is
    /// still attempted, and there is no recovery.
    fn drop(&mut self) {
        let (before, total) = (self.held.get().copied(), self.properties.total);
        // SAFETY: all memory, graphs and events of this context were dropped before (see the module documentation).
        unsafe {
            let usable = sys::cuCtxSetCurrent(self.context) == CUresult::CUDA_SUCCESS;
            // The owner of the context has destroyed it, with everything in it.
            if self.borrowed && !usable {
                return;
            }
            sys::cuCtxSynchronize();
            let before_end = self.before_end.get_mut().unwrap_or_else(PoisonError::into_inner);
            before_end.drain(..).for_each(|work| work());
            for module in self.modules.drain(..) {
                sys::cuModuleUnload(module);
            }
            if !self.stream.is_null() {
                sys::cuStreamDestroy_v2(self.stream);
            }
            sys::cuCtxSetCurrent(ptr::null_mut());
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
            if self.borrowed {
                return;
            }
            sys::cuDevicePrimaryCtxReset_v2(self.device);
        }
        let Some(before) = before else { return };
        let after = now(&self.properties.bus_id);
        let bytes = before.bytes.zip(after.bytes).map(|(before, after)| before.saturating_sub(after).min(total));
        let energy_mj = before.energy_mj.zip(after.energy_mj).map(|(before, after)| after.saturating_sub(before));
        // Cannot fail: a context is destroyed only once.
        let _ = self.freed.set(Freed { bytes: bytes.filter(|bytes| *bytes > 0), energy_mj });
    }
}

/// A CUDA event.
pub struct Event(sys::CUevent);

// SAFETY: a handle without thread affinity.
unsafe impl Send for Event {}
// SAFETY: `&Event` only records it, which one thread does, and lets streams wait for it, which any thread may do.
unsafe impl Sync for Event {}

impl Event {
    /// `timing` enables [`Self::since`].
    pub fn new(timing: bool) -> Result<Self, ModelError> {
        let mut event = ptr::null_mut();
        // SAFETY: a handle into a local; the context is current.
        check(unsafe { sys::cuEventCreate(&mut event, if timing { 0 } else { 2 }) }, "making an event")?;
        Ok(Self(event))
    }

    /// Records the event after the work submitted to `stream` so far.
    pub fn record(&self, stream: sys::CUstream) -> Result<(), ModelError> {
        // SAFETY: both handles are valid.
        check(unsafe { sys::cuEventRecord(self.0, stream) }, "recording an event")
    }

    /// Blocks until the stream has reached the event.
    pub fn wait(&self) -> Result<(), ModelError> {
        // SAFETY: the handle is valid.
        check(unsafe { sys::cuEventSynchronize(self.0) }, "waiting for the GPU")
    }

    /// Makes later work on `stream`, of any GPU, wait for the work before the last `record`.
    pub fn hold(&self, stream: sys::CUstream) -> Result<(), ModelError> {
        // SAFETY: both handles are valid.
        check(unsafe { sys::cuStreamWaitEvent(stream, self.0, 0) }, "waiting for another GPU")
    }

    /// Milliseconds from `earlier` to this event. Both were created with `timing` and have completed.
    pub fn since(&self, earlier: &Event) -> Result<f32, ModelError> {
        type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;
        let mut ms = 0.0;
        // SAFETY: the library is loaded, or there would be no event; the type is that of cuda.h. The second version of
        // the function, which the bindings have, is missing in drivers before CUDA 12.8; this one is in all.
        let elapsed = unsafe { sys::culib().get::<Elapsed>(b"cuEventElapsedTime\0") };
        let elapsed = elapsed.map_err(|error| ModelError::Unsupported(format!("reading a time: {error}")))?;
        // SAFETY: both handles are valid.
        check(unsafe { elapsed(&mut ms, earlier.0, self.0) }, "reading a time")?;
        Ok(ms)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

/// A stream besides the main one, for example of a reader thread.
pub struct Stream(pub sys::CUstream);

// SAFETY: a handle, used by one thread at a time.
unsafe impl Send for Stream {}

impl Stream {
    /// A non-blocking stream: it does not synchronise with the legacy default stream.
    pub fn new() -> Result<Self, ModelError> {
        let mut stream = ptr::null_mut();
        // SAFETY: a handle into a local; the context is current.
        check(unsafe { sys::cuStreamCreate(&mut stream, 1) }, "making a stream")?;
        Ok(Self(stream))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: waits first, so that none of its copies is in flight when its buffers are freed; destroyed once.
        unsafe {
            sys::cuStreamSynchronize(self.0);
            sys::cuStreamDestroy_v2(self.0);
        }
    }
}
