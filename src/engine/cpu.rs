//! Kernels of the CPU: quantised matrices, attention, norms, with dispatch at run time.
