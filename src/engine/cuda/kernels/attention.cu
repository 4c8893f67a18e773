// Attention over the bf16 KV cache, [kv head][position][head_dim]: split over the keys for one token (decode), tiled
// for a prompt (prefill), both on tensor cores. Softmax in base 2, sums in f32.
#include "common.cuh"

#define LOG2E 1.4426950408889634f

struct AttentionArgs {
    const float* q;    // [head][head_dim]
    const bf16 *k, *v; // this layer's cache
    float* out;        // [head][head_dim]
    float* part_o;     // [head][split][head_dim], not yet divided by the sum
    float2* part_ml;   // [head][split]: maximum, sum
    int* counters;     // [kv head][group of heads]: completed splits; zero between launches
    const State* state;
    float scale;
    int context, heads_per_kv, window, splits;
    int keys;          // minimum keys of a split
    int stages;        // tiles of each warp in its ring: 1 or 2
};

// ---- one token ----

#define HEADS 8   // query heads of one key head per block
#define TILE 16   // keys that a warp processes at a time
#define DECODE_WARPS 8

// Byte offset of chunk c (8 numbers) of row r, swizzled so that ldmatrix has no bank conflicts.
template <int D> __device__ __forceinline__ int swizzle(int r, int c) { return r * D * 2 + ((D >= 64 ? c ^ (r & 7) : c ^ (r >> 1 & 3)) << 4); }

// Maximum and sum of one query's softmax over some keys.
struct Sums {
    float top, sum;
};

// Tensor cores need bf16, so each f32 number is split into two bf16: the rounded value and the rest. Eight heads fill
// only half the rows of a fragment: row r is head r, row r + 8 the rest of head r.
template <int D> __device__ __forceinline__ void stage_queries(const AttentionArgs& p, int head0, int heads, char* sq) {
    for (int i = threadIdx.x; i < HEADS * D / 4; i += blockDim.x) {
        int r = i / (D / 4), quad = i - r * (D / 4);
        float4 q = make_float4(0.f, 0.f, 0.f, 0.f);
        if (r < heads) q = __ldcg((const float4*)(p.q + (size_t)(head0 + r) * D) + quad);
        float scale = p.scale * LOG2E;
        q.x *= scale, q.y *= scale, q.z *= scale, q.w *= scale;
        uint2 high = make_uint2(pack_bf16(q.x, q.y), pack_bf16(q.z, q.w));
        uint2 rest = make_uint2(pack_bf16(q.x - bf16_low(high.x), q.y - bf16_high(high.x)), pack_bf16(q.z - bf16_low(high.y), q.w - bf16_high(high.y)));
        *(uint2*)(sq + swizzle<D>(r, quad >> 1) + (quad & 1) * 8) = high;
        *(uint2*)(sq + swizzle<D>(r + 8, quad >> 1) + (quad & 1) * 8) = rest;
    }
}

// Merges one number of a head from all warps or splits, each rescaled to the common maximum.
template <typename Weights, typename Values>
__device__ __forceinline__ Sums weighed(int count, Weights weights, Values values, float& acc) {
    Sums all = {-INFINITY, 0.f};
    acc = 0.f;
    for (int i = 0; i < count; i++) all.top = fmaxf(all.top, weights(i).x);
#pragma unroll 8
    for (int i = 0; i < count; i++) {
        float2 ml = weights(i);
        float c = ml.x == -INFINITY ? 0.f : exp2f(ml.x - all.top);
        all.sum += c * ml.y, acc += c * values(i);
    }
    return all;
}

template <int D> __device__ __forceinline__ void attention_decode(const AttentionArgs& p) {
    constexpr int CHUNKS = D / 8, SIDE = TILE * D * 2, STAGE = 2 * SIDE;
    extern __shared__ __align__(128) char smem[];
    __shared__ float2 warp_ml[DECODE_WARPS][HEADS];
    __shared__ int last;
    int kvh = blockIdx.x, split = blockIdx.y, group = blockIdx.z;
    int heads = min(HEADS, p.heads_per_kv - group * HEADS), head0 = kvh * p.heads_per_kv + group * HEADS;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    // The QKV kernel of a layer calls `pdl_launch` only after `pdl_wait` (gemv.cu). So when this kernel starts, the
    // position is set, and all keys but the newest are written.
    int len = *(const volatile int*)&p.state->pos + 1, lower = p.window > 0 ? max(0, len - p.window) : 0, n = len - lower;
    int active = min(p.splits, max(1, (n + p.keys - 1) / p.keys));
    // Unused splits return without `pdl_wait`: split 0 always exists and waits for the previous kernel.
    if (split >= active) return;
    int per = (n + active - 1) / active;
    int start = lower + split * per, end = min(start + per, len);
    int stages = p.stages, size = stages * STAGE;
    char* mine = smem + warp * size;
    char* sq = smem + DECODE_WARPS * size;
    uint32_t ring = shared_address(mine);
    const bf16* kbase = p.k + (size_t)kvh * p.context * D;
    const bf16* vbase = p.v + (size_t)kvh * p.context * D;
    auto tile = [&](int i) { return start + (i * DECODE_WARPS + warp) * TILE; };
    auto copy = [&](int i) {
        int k0 = tile(i);
        if (k0 < end) {
            uint32_t dst = ring + (stages == 2 ? i & 1 : 0) * STAGE;
#pragma unroll
            for (int j = 0; j < TILE * CHUNKS / 32; j++) {
                int id = j * 32 + lane, r = id / CHUNKS, c = id % CHUNKS;
                bool there = k0 + r < end;
                size_t at = (size_t)(there ? k0 + r : k0) * D + c * 8;
                copy16(dst + swizzle<D>(r, c), kbase + at, there);
                copy16(dst + SIDE + swizzle<D>(r, c), vbase + at, there);
            }
        }
        commit();
    };
    int sent = 0;
    for (; sent < stages && tile(sent) + TILE < len; sent++) copy(sent);
    // Launch the next kernel, which prefetches its weights, only after the last copy of keys was issued.
    bool launched = tile(stages) >= end;
    if (launched) pdl_launch();
    pdl_wait();
    for (; sent < stages; sent++) copy(sent);
    stage_queries<D>(p, head0, heads, sq);
    __syncthreads();

    uint32_t queries = shared_address(sq);
    float o[D / 8][4], top = -INFINITY, sum = 0.f;
#pragma unroll
    for (int i = 0; i < D / 8; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;
    for (int i = 0; tile(i) < end; i++) {
        if (stages == 2) wait_group<1>();
        else wait_group<0>();
        __syncwarp();
        uint32_t sk = ring + (stages == 2 ? i & 1 : 0) * STAGE, sv = sk + SIDE;
        float s[2][4];
#pragma unroll
        for (int h = 0; h < 2; h++) s[h][0] = s[h][1] = s[h][2] = s[h][3] = 0.f;
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            uint32_t a[4], b[4];
            ldmatrix(a, queries + swizzle<D>(lane & 15, k * 2 + (lane >> 4)));
            ldmatrix(b, sk + swizzle<D>((lane & 7) + ((lane >> 4) << 3), k * 2 + (lane >> 3 & 1)));
            mma(s[0], a, b[0], b[1]);
            mma(s[1], a, b[2], b[3]);
        }
        // s[h]: head lane / 4, keys (lane & 3) * 2 + e of half h of the tile.
        float w[2][2], most = top;
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                w[h][e] = tile(i) + h * 8 + (lane & 3) * 2 + e < end ? s[h][e] + s[h][e + 2] : -INFINITY;
                most = fmaxf(most, w[h][e]);
            }
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        // A tile has at least one key, so `most` is finite.
        float c = exp2f(top - most);
        top = most, sum *= c;
        uint32_t a[4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            w[h][0] = exp2f(w[h][0] - most), w[h][1] = exp2f(w[h][1] - most);
            sum += w[h][0] + w[h][1];
            a[2 * h] = pack_bf16(w[h][0], w[h][1]);
            a[2 * h + 1] = pack_bf16(w[h][0] - bf16_low(a[2 * h]), w[h][1] - bf16_high(a[2 * h]));
        }
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) o[2 * j][e] *= c, o[2 * j + 1][e] *= c;
            uint32_t b[4];
            ldmatrix_trans(b, sv + swizzle<D>(lane & 15, j * 2 + (lane >> 4)));
            mma(o[2 * j], a, b[0], b[1]);
            mma(o[2 * j + 1], a, b[2], b[3]);
        }
        __syncwarp();
        copy(i + stages);
        if (!launched && tile(i + stages + 1) >= end) launched = true, pdl_launch();
    }
    if (!launched) pdl_launch();
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    wait_group<0>();
    __syncwarp();
    // Each warp writes its sums over its own ring: [head][D].
    float* sm_o = (float*)mine;
#pragma unroll
    for (int i = 0; i < D / 8; i++) *(float2*)(sm_o + (lane >> 2) * D + i * 8 + (lane & 3) * 2) = make_float2(o[i][0] + o[i][2], o[i][1] + o[i][3]);
    if ((lane & 3) == 0) warp_ml[warp][lane >> 2] = make_float2(top, sum);
    __syncthreads();
    for (int i = threadIdx.x; i < heads * D; i += blockDim.x) {
        int g = i / D, d = i - g * D;
        float acc;
        Sums all = weighed(DECODE_WARPS, [&](int w) { return warp_ml[w][g]; }, [&](int w) { return ((const float*)(smem + w * size))[g * D + d]; }, acc);
        size_t head = head0 + g;
        if (active == 1) p.out[head * D + d] = acc / all.sum;
        else {
            p.part_o[(head * p.splits + split) * D + d] = acc;
            if (d == 0) p.part_ml[head * p.splits + split] = make_float2(all.top, all.sum);
        }
    }
    if (active == 1) return;
    // The last split to finish merges all splits of these heads.
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
    float2* ml = (float2*)smem;
    for (int i = threadIdx.x; i < heads * active; i += blockDim.x) {
        int g = i / active, s = i - g * active;
        ml[g * p.splits + s] = __ldcg(p.part_ml + (size_t)(head0 + g) * p.splits + s);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * D; i += blockDim.x) {
        int g = i / D, d = i - g * D;
        const float* src = p.part_o + (size_t)(head0 + g) * p.splits * D + d;
        float acc;
        Sums all = weighed(active, [&](int s) { return ml[g * p.splits + s]; }, [&](int s) { return __ldcg(src + (size_t)s * D); }, acc);
        p.out[(size_t)(head0 + g) * D + d] = acc / all.sum;
    }
}

extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32) attention_decode_32(const __grid_constant__ AttentionArgs p) { attention_decode<32>(p); }
extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32) attention_decode_64(const __grid_constant__ AttentionArgs p) { attention_decode<64>(p); }
extern "C" __global__ void __launch_bounds__(DECODE_WARPS * 32) attention_decode_128(const __grid_constant__ AttentionArgs p) { attention_decode<128>(p); }

// ---- prefill ----

struct PrefillAttentionArgs {
    const bf16* q;      // [token][head][head_dim], rows of q_stride
    const bf16 *k, *v;
    bf16* out;          // [token][head][head_dim]
    float scale;
    int tokens, position, heads, heads_per_kv, context, window, q_stride;
    int order;          // element order of a row of `out`: slot_of
};

// A block has 64 queries of one head, a warp 16; tiles of 64 keys, double-buffered.
template <int D> __device__ __forceinline__ void attention_prefill(const PrefillAttentionArgs& p) {
    constexpr int ROWS = 64, STRIDE = D + 8, CHUNKS = D / 8;
    extern __shared__ __align__(128) char smem[];
    pdl_launch();
    pdl_wait();
    uint32_t base = (uint32_t)__cvta_generic_to_shared(smem);
    uint32_t sq = base, sk = sq + ROWS * STRIDE * 2, sv = sk + 2 * ROWS * STRIDE * 2;
    int head = blockIdx.y, kvh = head / p.heads_per_kv;
    int tile = gridDim.x - 1 - blockIdx.x;  // the longest first
    int q0 = tile * ROWS, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const bf16* kbase = p.k + (size_t)kvh * p.context * D;
    const bf16* vbase = p.v + (size_t)kvh * p.context * D;
    int len = min(p.position + q0 + ROWS, p.position + p.tokens);
    int first = p.window > 0 ? max(0, p.position + q0 + 1 - p.window) / ROWS : 0, tiles = (len + ROWS - 1) / ROWS;

    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += 128) {
        int r = i / CHUNKS, c = i - r * CHUNKS;
        bool ok = q0 + r < p.tokens;
        copy16(sq + (r * STRIDE + c * 8) * 2, p.q + (size_t)(ok ? q0 + r : 0) * p.q_stride + head * D + c * 8, ok);
    }
    auto load = [&](int t, int stage) {
        for (int i = threadIdx.x; i < ROWS * CHUNKS; i += 128) {
            int r = i / CHUNKS, c = i - r * CHUNKS, key = t * ROWS + r;
            bool ok = key < len;
            size_t at = (size_t)(ok ? key : 0) * D + c * 8;
            uint32_t off = ((stage * ROWS + r) * STRIDE + c * 8) * 2;
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
                ldmatrix(b, sk + ((stage * ROWS + r) * STRIDE + c) * 2);
                mma(s[2 * n], qf[k], b[0], b[1]);
                mma(s[2 * n + 1], qf[k], b[2], b[3]);
            }
        }
        bool edge = t * ROWS + ROWS > p.position + q0 + warp * 16 || p.window > 0;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int pos = row0 + h * 8;
            float top = m[h];
#pragma unroll
            for (int n = 0; n < 8; n++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float& x = s[n][h * 2 + e];
                    int key = t * ROWS + n * 8 + (lane & 3) * 2 + e;
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
                ldmatrix_trans(b, sv + ((stage * ROWS + r) * STRIDE + c) * 2);
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
        bf16* dst = p.out + (size_t)row * p.heads * D;
        int column = head * D + (lane & 3) * 2;
#pragma unroll
        for (int i = 0; i < D / 8; i++) *(uint32_t*)(dst + slot_of(column + i * 8, p.order)) = pack_bf16(o[i][h * 2] * inv, o[i][h * 2 + 1] * inv);
    }
}

extern "C" __global__ void __launch_bounds__(128) attention_prefill_32(const __grid_constant__ PrefillAttentionArgs p) { attention_prefill<32>(p); }
extern "C" __global__ void __launch_bounds__(128) attention_prefill_64(const __grid_constant__ PrefillAttentionArgs p) { attention_prefill<64>(p); }
extern "C" __global__ void __launch_bounds__(128) attention_prefill_128(const __grid_constant__ PrefillAttentionArgs p) { attention_prefill<128>(p); }
