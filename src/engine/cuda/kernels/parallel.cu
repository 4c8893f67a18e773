// Kernels of a model that runs on several GPUs: products whose sums are exchanged, the logits and the token of a step,
// and the sums of a prompt.
#include "gemv.cuh"

struct SumArgs {
    GemvArgs product;
    Link link;
    int index;  // of the exchange in the step, from 1
    int pad;
};
#define KERNEL(NAME, SET, BLOCKS) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(const __grid_constant__ SumArgs p) { gemv<SUM, SET>(p.product, &p.link, p.index); }
// Mirrored by `SETS` in kernels.rs.
KERNEL(gemv_sum_bf16, only(BF16), 3)
KERNEL(gemv_sum_q8_0, only(Q8_0), 2)
KERNEL(gemv_sum_q4_k, only(Q4_K), 2)
KERNEL(gemv_sum_q6_k, only(Q6_K), 2)
KERNEL(gemv_sum_k, K_SET, 2)
KERNEL(gemv_sum_plain, PLAIN_SET, 2)
KERNEL(gemv_sum_quantised, QUANTISED_SET, 2)
KERNEL(gemv_sum_mixed, PLAIN_SET | QUANTISED_SET, 2)

struct StepArgs {
    Link link;
    State* state;
    int index;  // of the exchange in the step
    int pad;
};

// Rank 0, between its logits and the sampler: waits for the logits of the other ranks, which are written to its memory.
extern "C" __global__ void await_logits(const __grid_constant__ StepArgs p) {
    pdl_launch();
    pdl_wait();
    int r = threadIdx.x;
    if (r == 0 || r >= p.link.ranks) return;
    u64 epoch = *p.link.epoch + p.index;
    Control* own = control(p.link, 0);
    Patience patience;
    while (load_word(&own->ready[r].word) != epoch && !patience.over(p.link)) {}
    __threadfence_system();
    atomicMax(&p.state->best, load_word(&own->best[r].word));
}

// Rank 0, after the sampler: sends the token.
extern "C" __global__ void send_token(const __grid_constant__ StepArgs p) {
    pdl_launch();
    pdl_wait();
    int r = threadIdx.x;
    if (r == 0 || r >= p.link.ranks) return;
    store_word(&control(p.link, r)->token.word, (u64)(*p.link.epoch + p.index) << 32 | (uint32_t)p.state->token);
}

// The other ranks, after their logits: announces these to rank 0 and waits for the token.
extern "C" __global__ void follow(const __grid_constant__ StepArgs p) {
    pdl_launch();
    pdl_wait();
    uint32_t epoch = *p.link.epoch + p.index;
    Control *first = control(p.link, 0), *own = control(p.link, p.link.rank);
    store_word(&first->best[p.link.rank].word, p.state->best);
    // Also orders the logits, which the previous kernel has written.
    __threadfence_system();
    store_word(&first->ready[p.link.rank].word, epoch);
    Patience patience;
    u64 word;
    do word = load_word(&own->token.word);
    while ((uint32_t)(word >> 32) != epoch && !patience.over(p.link));
    State* s = p.state;
    s->token = (int)(uint32_t)word;
    s->pos++, s->step++;
}

// Adds the products of all ranks to the rows of a prompt, in the order of the ranks.
struct CombineArgs {
    const bf16* parts[MOST_RANKS];
    float* x;
    u64 octets;
    int ranks, pad;
};
extern "C" __global__ void combine_rows(const __grid_constant__ CombineArgs p) {
    u64 stride = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < p.octets; i += stride) {
        uint4 part[MOST_RANKS];
#pragma unroll
        for (int r = 0; r < MOST_RANKS; r++)
            if (r < p.ranks) part[r] = __ldcg((const uint4*)p.parts[r] + i);
        float4* x = (float4*)p.x + 2 * i;
        float4 low = x[0], high = x[1], a = make_float4(0.f, 0.f, 0.f, 0.f), b = a;
#pragma unroll
        for (int r = 0; r < MOST_RANKS; r++)
            if (r < p.ranks) {
                uint4 v = part[r];
                a.x += bf16_low(v.x), a.y += bf16_high(v.x), a.z += bf16_low(v.y), a.w += bf16_high(v.y);
                b.x += bf16_low(v.z), b.y += bf16_high(v.z), b.z += bf16_low(v.w), b.w += bf16_high(v.w);
            }
        low.x += a.x, low.y += a.y, low.z += a.z, low.w += a.w;
        high.x += b.x, high.y += b.y, high.z += b.z, high.w += b.w;
        x[0] = low, x[1] = high;
    }
}

// One exchange of `width` floats without a product, to measure its time; with `alone` only this GPU's floats are added.
struct ProbeArgs {
    Link link;
    float* x;
    int width, index, alone, pad;
};
extern "C" __global__ void probe_exchange(const __grid_constant__ ProbeArgs p) {
    pdl_wait();
    pdl_launch();
    uint32_t epoch = *p.link.epoch + p.index;
    int pair = blockIdx.x * blockDim.x + threadIdx.x, row = 2 * pair;
    if (row >= p.width) return;
    float2 own = *(const float2*)(p.x + row), all = make_float2(0.f, 0.f);
    own.x *= 0.5f, own.y *= 0.5f;
    for (int r = 0; r < p.link.ranks && !p.alone; r++)
        if (r != p.link.rank) send(inbox(p.link, r, p.link.rank, epoch, p.width) + row, own.x, own.y, epoch);
    for (int r = 0; r < p.link.ranks; r++) {
        float2 part = r == p.link.rank || p.alone ? own : receive(p.link, inbox(p.link, p.link.rank, r, epoch, p.width) + row, epoch);
        all.x += part.x, all.y += part.y;
    }
    *(float2*)(p.x + row) = all;
}

// Counts the epochs of a measurement.
extern "C" __global__ void advance_epoch(const __grid_constant__ StepArgs p) {
    pdl_launch();
    pdl_wait();
    if (threadIdx.x == 0) *p.link.epoch += p.index;
}
