// Attention over the bf16 KV cache, [kv head][position][head_dim]: split over the keys for one token (decode), in tiles
// with tensor cores for a prompt (prefill). Softmax in base 2, sums in f32.
#include "common.cuh"

#define LOG2E 1.4426950408889634f
#define MIN_KEYS 64  // a split has at least this many keys

struct AttentionArgs {
    const float* q;    // [head][head_dim]
    const bf16 *k, *v; // this layer's cache
    float* out;        // [head][head_dim]
    float* part_o;     // [head][split][head_dim], not yet divided by the sum
    float2* part_ml;   // [head][split]: maximum, sum
    int* counters;     // [kv head][group of heads]: splits that are done; zero between launches
    const State* state;
    float scale;
    int context, heads_per_kv, window, splits;
};

template <int D, int G> __device__ __forceinline__ void attention_decode(const AttentionArgs& p) {
    constexpr int LANES = D / 8;        // lanes of one key
    constexpr int KEYS = 32 / LANES;    // keys of one load of a warp
    constexpr int LOADS = 4, WARPS = 8;
    extern __shared__ __align__(16) char smem[];
    float* sm_o = (float*)smem;                 // [warp][G][D]
    float2* sm_ml = (float2*)(sm_o + WARPS * G * D);
    __shared__ int last;

    int kvh = blockIdx.x, split = blockIdx.y, group = blockIdx.z;
    int heads = min(G, p.heads_per_kv - group * G);
    int head0 = kvh * p.heads_per_kv + group * G;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, key_slot = lane / LANES, part = lane % LANES;
    pdl_launch();
    pdl_wait();
    int len = p.state->pos + 1, first = p.window > 0 ? max(0, len - p.window) : 0, n = len - first;
    int active = min(p.splits, max(1, (n + MIN_KEYS - 1) / MIN_KEYS));
    if (split >= active) return;
    int per = (n + active - 1) / active;
    int start = first + split * per, end = min(start + per, len);

    float q[G][8], o[G][8], m[G], l[G];
#pragma unroll
    for (int g = 0; g < G; g++) {
        m[g] = -INFINITY, l[g] = 0.f;
        const float* src = p.q + (size_t)(head0 + min(g, heads - 1)) * D + part * 8;
#pragma unroll
        for (int i = 0; i < 8; i++) q[g][i] = src[i] * (p.scale * LOG2E), o[g][i] = 0.f;
    }
    const bf16* kbase = p.k + (size_t)kvh * p.context * D + part * 8;
    const bf16* vbase = p.v + (size_t)kvh * p.context * D + part * 8;
    for (int k0 = start + warp * KEYS * LOADS; k0 < end; k0 += WARPS * KEYS * LOADS) {
        uint4 kv[LOADS], vv[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; i++) kv[i] = *(const uint4*)(kbase + (size_t)min(k0 + i * KEYS + key_slot, end - 1) * D);
#pragma unroll
        for (int i = 0; i < LOADS; i++) vv[i] = *(const uint4*)(vbase + (size_t)min(k0 + i * KEYS + key_slot, end - 1) * D);
#pragma unroll
        for (int g = 0; g < G; g++) {
            float s[LOADS], top = m[g];
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                float d = q[g][0] * bf16_low(kv[i].x) + q[g][1] * bf16_high(kv[i].x) + q[g][2] * bf16_low(kv[i].y) + q[g][3] * bf16_high(kv[i].y);
                d += q[g][4] * bf16_low(kv[i].z) + q[g][5] * bf16_high(kv[i].z) + q[g][6] * bf16_low(kv[i].w) + q[g][7] * bf16_high(kv[i].w);
#pragma unroll
                for (int x = LANES / 2; x; x >>= 1) d += __shfl_xor_sync(~0u, d, x);
                s[i] = k0 + i * KEYS + key_slot < end ? d : -INFINITY;
                top = fmaxf(top, s[i]);
            }
            // A slot that has seen no key yet keeps a maximum of minus infinity; exp2 of (-inf) - (-inf) must not happen.
            float safe = top == -INFINITY ? 0.f : top, c = exp2f(m[g] - safe);
            m[g] = top, l[g] *= c;
#pragma unroll
            for (int i = 0; i < 8; i++) o[g][i] *= c;
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                float w = exp2f(s[i] - safe);
                l[g] += w;
                o[g][0] += w * bf16_low(vv[i].x), o[g][1] += w * bf16_high(vv[i].x), o[g][2] += w * bf16_low(vv[i].y), o[g][3] += w * bf16_high(vv[i].y);
                o[g][4] += w * bf16_low(vv[i].z), o[g][5] += w * bf16_high(vv[i].z), o[g][6] += w * bf16_low(vv[i].w), o[g][7] += w * bf16_high(vv[i].w);
            }
        }
    }
    // Key slots of the warp into one.
#pragma unroll
    for (int g = 0; g < G; g++) {
        float top = m[g];
#pragma unroll
        for (int x = LANES; x < 32; x <<= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, x));
        float c = top == -INFINITY ? 0.f : exp2f(m[g] - top);
        l[g] *= c;
#pragma unroll
        for (int i = 0; i < 8; i++) o[g][i] *= c;
#pragma unroll
        for (int x = LANES; x < 32; x <<= 1) {
            l[g] += __shfl_xor_sync(~0u, l[g], x);
#pragma unroll
            for (int i = 0; i < 8; i++) o[g][i] += __shfl_xor_sync(~0u, o[g][i], x);
        }
        if (key_slot == 0) {
            float4* dst = (float4*)(sm_o + (warp * G + g) * D + part * 8);
            dst[0] = make_float4(o[g][0], o[g][1], o[g][2], o[g][3]);
            dst[1] = make_float4(o[g][4], o[g][5], o[g][6], o[g][7]);
            if (part == 0) sm_ml[warp * G + g] = make_float2(top, l[g]);
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * D; i += blockDim.x) {
        int g = i / D, d = i - g * D;
        float top = -INFINITY, sum = 0.f, acc = 0.f;
        for (int w = 0; w < WARPS; w++) top = fmaxf(top, sm_ml[w * G + g].x);
        for (int w = 0; w < WARPS; w++) {
            float2 ml = sm_ml[w * G + g];
            float c = ml.x == -INFINITY ? 0.f : exp2f(ml.x - top);
            sum += c * ml.y, acc += c * sm_o[(w * G + g) * D + d];
        }
        size_t head = head0 + g;
        if (active == 1) p.out[head * D + d] = acc / sum;
        else {
            p.part_o[(head * p.splits + split) * D + d] = acc;
            if (d == 0) p.part_ml[head * p.splits + split] = make_float2(top, sum);
        }
    }
    if (active == 1) return;
    // The last split of these heads puts all of them together.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        int* counter = p.counters + kvh * gridDim.z + group;
        last = atomicAdd(counter, 1) == active - 1;
        if (last) *counter = 0;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int i = threadIdx.x; i < heads * active; i += blockDim.x) {
        int g = i / active, s = i - g * active;
        ((float2*)smem)[g * p.splits + s] = __ldcg(p.part_ml + (size_t)(head0 + g) * p.splits + s);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * D; i += blockDim.x) {
        int g = i / D, d = i - g * D;
        const float2* ml = (const float2*)smem + g * p.splits;
        float top = -INFINITY, sum = 0.f, acc = 0.f;
        for (int s = 0; s < active; s++) top = fmaxf(top, ml[s].x);
        const float* src = p.part_o + (size_t)(head0 + g) * p.splits * D + d;
#pragma unroll 8
        for (int s = 0; s < active; s++) {
            float c = ml[s].x == -INFINITY ? 0.f : exp2f(ml[s].x - top);
            sum += c * ml[s].y, acc += c * __ldcg(src + (size_t)s * D);
        }
        p.out[(size_t)(head0 + g) * D + d] = acc / sum;
    }
}

#define DECODE(D, G) \
    extern "C" __global__ void __launch_bounds__(256) attention_decode_##D##_##G(const __grid_constant__ AttentionArgs p) { attention_decode<D, G>(p); }
DECODE(32, 1) DECODE(32, 2) DECODE(32, 4) DECODE(32, 8)
DECODE(64, 1) DECODE(64, 2) DECODE(64, 4) DECODE(64, 8)
DECODE(128, 1) DECODE(128, 2) DECODE(128, 4) DECODE(128, 8)

// ---- prefill ----

struct PrefillAttentionArgs {
    const bf16* q;      // [token][head][head_dim], rows of q_stride
    const bf16 *k, *v;
    bf16* out;          // [token][head][head_dim]
    float scale;
    int tokens, position, heads, heads_per_kv, context, window, q_stride;
};

__device__ __forceinline__ void copy16(uint32_t dst, const void* src, bool valid) {
    int n = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(n));
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ __forceinline__ void wait_group() { asm volatile("cp.async.wait_group %0;" ::"n"(N)); }
__device__ __forceinline__ void ldmatrix(uint32_t r[4], uint32_t addr) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(addr));
}
__device__ __forceinline__ void ldmatrix_trans(uint32_t r[4], uint32_t addr) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(addr));
}
__device__ __forceinline__ void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 64 queries of one head a block, 16 a warp; tiles of 64 keys, two in flight.
template <int D> __device__ __forceinline__ void attention_prefill(const PrefillAttentionArgs& p) {
    constexpr int TILE = 64, STRIDE = D + 8, CHUNKS = D / 8;
    extern __shared__ __align__(16) char smem[];
    uint32_t base = (uint32_t)__cvta_generic_to_shared(smem);
    uint32_t sq = base, sk = sq + TILE * STRIDE * 2, sv = sk + 2 * TILE * STRIDE * 2;
    int head = blockIdx.y, kvh = head / p.heads_per_kv;
    int tile = gridDim.x - 1 - blockIdx.x;  // the longest first
    int q0 = tile * TILE, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const bf16* kbase = p.k + (size_t)kvh * p.context * D;
    const bf16* vbase = p.v + (size_t)kvh * p.context * D;
    int len = min(p.position + q0 + TILE, p.position + p.tokens);
    int first = p.window > 0 ? max(0, p.position + q0 + 1 - p.window) / TILE : 0, tiles = (len + TILE - 1) / TILE;

    for (int i = threadIdx.x; i < TILE * CHUNKS; i += 128) {
        int r = i / CHUNKS, c = i - r * CHUNKS;
        bool ok = q0 + r < p.tokens;
        copy16(sq + (r * STRIDE + c * 8) * 2, p.q + (size_t)(ok ? q0 + r : 0) * p.q_stride + head * D + c * 8, ok);
    }
    auto load = [&](int t, int stage) {
        for (int i = threadIdx.x; i < TILE * CHUNKS; i += 128) {
            int r = i / CHUNKS, c = i - r * CHUNKS, key = t * TILE + r;
            bool ok = key < len;
            size_t at = (size_t)(ok ? key : 0) * D + c * 8;
            uint32_t off = ((stage * TILE + r) * STRIDE + c * 8) * 2;
            copy16(sk + off, kbase + at, ok);
            copy16(sv + off, vbase + at, ok);
        }
        commit();
    };
    load(first, 0);
    float o[D / 8][4], m[2] = {-INFINITY, -INFINITY}, l[2] = {0.f, 0.f};
#pragma unroll
    for (int i = 0; i < D / 8; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;
    uint32_t qf[D / 16][4];
    float scale = p.scale * LOG2E;
    int row0 = p.position + q0 + warp * 16 + (lane >> 2);  // position of this lane's first query
    for (int t = first; t < tiles; t++) {
        int stage = (t - first) & 1;
        if (t + 1 < tiles) {
            load(t + 1, stage ^ 1);
            wait_group<1>();
        } else {
            wait_group<0>();
        }
        __syncthreads();
        if (t == first) {
#pragma unroll
            for (int k = 0; k < D / 16; k++)
                ldmatrix(qf[k], sq + ((warp * 16 + (lane & 15)) * STRIDE + k * 16 + (lane >> 4) * 8) * 2);
        }
        float s[8][4];
#pragma unroll
        for (int n = 0; n < 8; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.f;
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
#pragma unroll
            for (int n = 0; n < 4; n++) {
                uint32_t b[4];
                int r = n * 16 + (lane & 7) + ((lane >> 4) << 3), c = k * 16 + ((lane >> 3) & 1) * 8;
                ldmatrix(b, sk + ((stage * TILE + r) * STRIDE + c) * 2);
                mma(s[2 * n], qf[k], b[0], b[1]);
                mma(s[2 * n + 1], qf[k], b[2], b[3]);
            }
        }
        bool edge = t * TILE + TILE > p.position + q0 + warp * 16 || p.window > 0;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int pos = row0 + h * 8;
            float top = m[h];
#pragma unroll
            for (int n = 0; n < 8; n++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float& x = s[n][h * 2 + e];
                    int key = t * TILE + n * 8 + (lane & 3) * 2 + e;
                    x = edge && (key > pos || (p.window > 0 && key <= pos - p.window)) ? -INFINITY : x * scale;
                    top = fmaxf(top, x);
                }
            }
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
            float safe = top == -INFINITY ? 0.f : top, c = exp2f(m[h] - safe), sum = 0.f;
            m[h] = top;
#pragma unroll
            for (int n = 0; n < 8; n++) {
                s[n][h * 2] = exp2f(s[n][h * 2] - safe), s[n][h * 2 + 1] = exp2f(s[n][h * 2 + 1] - safe);
                sum += s[n][h * 2] + s[n][h * 2 + 1];
            }
            l[h] = l[h] * c + sum;
#pragma unroll
            for (int i = 0; i < D / 8; i++) o[i][h * 2] *= c, o[i][h * 2 + 1] *= c;
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t a[4] = {pack_bf16(s[2 * k][0], s[2 * k][1]), pack_bf16(s[2 * k][2], s[2 * k][3]),
                             pack_bf16(s[2 * k + 1][0], s[2 * k + 1][1]), pack_bf16(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4];
                int r = k * 16 + (lane & 15), c = n * 16 + (lane >> 4) * 8;
                ldmatrix_trans(b, sv + ((stage * TILE + r) * STRIDE + c) * 2);
                mma(o[2 * n], a, b[0], b[1]);
                mma(o[2 * n + 1], a, b[2], b[3]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        l[h] += __shfl_xor_sync(~0u, l[h], 1);
        l[h] += __shfl_xor_sync(~0u, l[h], 2);
        int row = q0 + warp * 16 + (lane >> 2) + h * 8;
        if (row >= p.tokens) continue;
        float inv = l[h] > 0.f ? 1.f / l[h] : 0.f;
        bf16* dst = p.out + ((size_t)row * p.heads + head) * D + (lane & 3) * 2;
#pragma unroll
        for (int i = 0; i < D / 8; i++) *(uint32_t*)(dst + i * 8) = pack_bf16(o[i][h * 2] * inv, o[i][h * 2 + 1] * inv);
    }
}

extern "C" __global__ void __launch_bounds__(128) attention_prefill_32(const __grid_constant__ PrefillAttentionArgs p) { attention_prefill<32>(p); }
extern "C" __global__ void __launch_bounds__(128) attention_prefill_64(const __grid_constant__ PrefillAttentionArgs p) { attention_prefill<64>(p); }
extern "C" __global__ void __launch_bounds__(128) attention_prefill_128(const __grid_constant__ PrefillAttentionArgs p) { attention_prefill<128>(p); }
