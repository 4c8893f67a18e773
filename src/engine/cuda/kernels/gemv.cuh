// Matrix times vector for one token: norm + QKV + rope + KV write, O + residual, norm + gate/up + SwiGLU, down +
// residual, norm + head + argmax. The activations are staged in shared memory: for plain weights as f32 (bf16 if the
// product is added to the residual), for quantised ones as int8 with one scale per 32.
//
// Each warp streams the weights of all its pairs of rows (weight_ring.cuh) through a ring in shared memory, which does
// not drain between rows. The ring is filled before `pdl_wait`, while the previous kernel runs.
//
// SUM is RESIDUAL on one of several GPUs: each multiplies its part of the columns, and the sums of all are added to the
// residual (exchange.cuh). A warp sends the sums of its rows as soon as it has them and waits for those of the other GPUs
// only after its last row.
#pragma once
#include "activations.cuh"
#include "exchange.cuh"
#include "weight_ring.cuh"

__device__ __forceinline__ void store_qkv(const GemvArgs& p, const Task& task, float2 turn, float a, float b, int pos) {
    const float* bias = task.which == 0 ? p.bias_a : task.which == 1 ? p.bias_b : p.bias_c;
    if (bias) a += bias[task.ra], b += bias[task.rb];
    if (task.which < 2 && !p.k_raw && task.in_head < p.rope_half) {
        float x = a * turn.x - b * turn.y;
        b = a * turn.y + b * turn.x, a = x;
    }
    if (task.which == 0) {
        p.out[task.ra] = a, p.out[task.rb] = b;
    } else if (task.which == 1 && p.k_raw) {
        p.k_raw[task.ra] = a, p.k_raw[task.rb] = b;
    } else {
        int head = task.ra / p.head_dim;
        bf16* row = (task.which == 1 ? p.k_cache : p.v_cache) + ((size_t)head * p.context + pos) * p.head_dim - head * p.head_dim;
        row[task.ra] = __float2bfloat16(a), row[task.rb] = __float2bfloat16(b);
    }
}

// Adds the products of one unit of a task: each lane's words of both rows.
template <int FORMAT, uint32_t SET, bool HALF>
__device__ __forceinline__ void multiply(const Staged& s, const char* slot, int cols, int words, const Task& task, int unit, float& sa, float& sb) {
    constexpr int STEPS = steps_of(SET);
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        int u = unit + i * 32 + (threadIdx.x & 31);
        if (u >= words) return;
        if constexpr (FORMAT <= BF16) {
            const char* at = slot + i * 512 + (threadIdx.x & 31) * 16;
            dot_word<FORMAT, HALF>(s, *(const uint4*)at, *(const uint4*)(at + STEPS * 512), cols, u, sa, sb);
        } else {
            uint4 a0 = s.q[u], a1 = s.q[words + u];
            uint2 m = s.meta[u];
            Block va = block_in_slot<FORMAT, STEPS>(slot, 0, (uint32_t)task.ra * words, unit, i);
            Block vb = block_in_slot<FORMAT, STEPS>(slot, 1, (uint32_t)task.rb * words, unit, i);
            sa += dot_block<FORMAT>(va, u & 7, a0, a1, __uint_as_float(m.x), (int)m.y);
            sb += dot_block<FORMAT>(vb, u & 7, a0, a1, __uint_as_float(m.x), (int)m.y);
        }
    }
}

template <uint32_t SET, bool HALF>
__device__ __forceinline__ void multiply_any(int format, const Staged& s, const char* slot, int cols, int words, const Task& task, int unit, float& sa, float& sb) {
#define CASE(F) \
    case F: if constexpr ((SET & only(F)) != 0) multiply<F, SET, HALF>(s, slot, cols, words, task, unit, sa, sb); break;
    switch (format) { CASE(F32) CASE(F16) CASE(BF16) CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q4_K) CASE(Q5_K) CASE(Q6_K) }
#undef CASE
}

// Sums a and b over the warp; only lane 0 gets both. Each half of the warp reduces one of them.
__device__ __forceinline__ void pair_sum(float& a, float& b) {
    bool low = (threadIdx.x & 16) == 0;
    float v = (low ? a : b) + __shfl_xor_sync(~0u, low ? b : a, 16);
#pragma unroll
    for (int o = 8; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
    a = v, b = __shfl_xor_sync(~0u, v, 16);
}

// Adds the sums of all GPUs to the rows of this lane's task, in the order of the ranks: every GPU gets the same bits.
__device__ __forceinline__ void add_all(const GemvArgs& p, const Link& link, uint32_t epoch, int task, float2 own) {
    int row = 2 * task;
    if (row >= p.a.rows) return;
    float2 all = make_float2(0.f, 0.f);
    for (int r = 0; r < link.ranks; r++) {
        float2 part = r == link.rank ? own : receive(link, inbox(link, link.rank, r, epoch, p.a.rows) + row, epoch);
        all.x += part.x, all.y += part.y;
    }
    // One kernel at a time adds to the residual, and one lane to each row.
    atomicAdd(p.out + row, all.x);
    atomicAdd(p.out + row + 1, all.y);
}

template <int MODE, uint32_t SET> __device__ __forceinline__ void gemv(const GemvArgs& p, const Link* link = nullptr, int index = 0) {
    constexpr bool HALF = MODE == RESIDUAL || MODE == SUM;
    extern __shared__ __align__(128) char smem[];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    // Consecutive tasks go to different multiprocessors, which balances an incomplete last round.
    int first = warp * gridDim.x + blockIdx.x, stride = gridDim.x * WARPS, tasks = task_count<MODE>(p);
    Stream<MODE, SET> stream(p, smem + warp * p.ring, first, stride, tasks);
    Norm norm = early_norm(p);
    pdl_wait();
    // Only after `pdl_wait`: attention.cu relies on the end of all kernels before this one when it starts.
    pdl_launch();
    int pos = MODE == QKV ? p.state->pos : 0;
    bool turns = MODE == QKV && p.rope && !p.k_raw;
    if (turns && threadIdx.x * 16 < p.rope_half) prefetch_l2(p.rope + (size_t)pos * p.rope_half + threadIdx.x * 16);
    Staged s = stage<kinds_of(SET), HALF>(p, norm, smem + WARPS * p.ring);
    u64 best = 0;
    uint32_t epoch = MODE == SUM ? *link->epoch + index : 0;
    int kept = 0, oldest = first;
    float2 own = make_float2(0.f, 0.f);
    for (int t = first; t < tasks; t += stride) {
        Task task;
        task.seek<MODE>(p, t);
        int format = known<SET>(task.matrix(p).format), words = row_words(format, p.cols);
        float2 turn = make_float2(1.f, 0.f);
        if (turns && task.which < 2 && task.in_head < p.rope_half) turn = __ldg(p.rope + (size_t)pos * p.rope_half + task.in_head);
        float a = 0.f, b = 0.f;
        for (int unit = 0; unit < words; unit += 32 * steps_of(SET)) {
            const char* slot = stream.next(p);
            multiply_any<SET, HALF>(format, s, slot, p.cols, words, task, unit, a, b);
        }
        pair_sum(a, b);
        if constexpr (MODE == SUM) {
            a = __shfl_sync(~0u, a, 0), b = __shfl_sync(~0u, b, 0);
            if (lane < link->ranks && lane != link->rank) send(inbox(*link, lane, link->rank, epoch, p.a.rows) + task.ra, a, b, epoch);
            // Lane i keeps the sums of the warp's i-th task since `oldest`.
            if (lane == kept) own = make_float2(a, b);
            if (++kept == 32) {
                add_all(p, *link, epoch, oldest + lane * stride, own);
                kept = 0, oldest = t + stride;
            }
        } else if (lane == 0) {
            if (MODE == QKV) store_qkv(p, task, turn, a, b, pos);
            if (MODE == GATE_UP) p.out_half[t] = __float2bfloat16(a / (1.f + __expf(-a)) * b);
            if (MODE == RESIDUAL) {
                // No contention: atomicAdd without a used result does not stall the warp, as load and store would.
                atomicAdd(p.out + task.ra, a);
                if (task.rb != task.ra) atomicAdd(p.out + task.rb, b);
            }
            if (MODE == LOGITS) {
                p.out[task.ra] = a, p.out[task.rb] = b;
                // fmaxf maps NaN to -inf, so that it is never selected.
                best = max(best, max(best_key(fmaxf(a, -INFINITY), p.first_row + task.ra), best_key(fmaxf(b, -INFINITY), p.first_row + task.rb)));
            }
        }
    }
    if constexpr (MODE == SUM) {
        if (lane < kept) add_all(p, *link, epoch, oldest + lane * stride, own);
    }
    if (MODE == LOGITS) {
        __shared__ u64 bests[WARPS];
        if (lane == 0) bests[warp] = best;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int i = 1; i < WARPS; i++) best = max(best, bests[i]);
            atomicMax(&p.state->best, best);
        }
    }
}
