// Matrix times vector for one token on one GPU: gemv.cuh, compiled for every role and set of formats.
#include "gemv.cuh"

#define KERNEL(NAME, MODE, SET, BLOCKS) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(const __grid_constant__ GemvArgs p) { gemv<MODE, SET>(p); }
// Mirrored by `SETS` in kernels.rs.
#define GEMV(NAME, MODE)                           \
    KERNEL(NAME##_bf16, MODE, only(BF16), 3)       \
    KERNEL(NAME##_q8_0, MODE, only(Q8_0), 2)       \
    KERNEL(NAME##_q4_k, MODE, only(Q4_K), 2)       \
    KERNEL(NAME##_q6_k, MODE, only(Q6_K), 2)       \
    KERNEL(NAME##_k, MODE, K_SET, 2)               \
    KERNEL(NAME##_plain, MODE, PLAIN_SET, 2)       \
    KERNEL(NAME##_quantised, MODE, QUANTISED_SET, 2) \
    KERNEL(NAME##_mixed, MODE, PLAIN_SET | QUANTISED_SET, 2)
GEMV(gemv_qkv, QKV)
GEMV(gemv_gate_up, GATE_UP)
GEMV(gemv_residual, RESIDUAL)
GEMV(gemv_logits, LOGITS)
