// Prefill kernels besides attention: norms, rope with KV write, SwiGLU, and a bf16 matrix product on tensor cores.
#include "common.cuh"

// One block per row: f32 rows → RMSNorm → bf16.
struct NormArgs {
    const float* x;
    const float* weight;
    bf16* out;
    float eps;
    int cols;
    int order;  // slot_of
};
extern "C" __global__ void norm_rows(NormArgs a) {
    __shared__ float scratch[32];
    pdl_launch();
    pdl_wait();
    const float4* x = (const float4*)(a.x + (size_t)blockIdx.x * a.cols);
    float ss = 0.f;
    for (int i = threadIdx.x; i < a.cols / 4; i += blockDim.x) {
        float4 v = x[i];
        ss += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    float r = rsqrtf(block_sum(ss, scratch) / a.cols + a.eps);
    bf16* out = a.out + (size_t)blockIdx.x * a.cols;
    for (int i = threadIdx.x; i < a.cols / 4; i += blockDim.x) {
        float4 v = x[i], w = __ldg((const float4*)a.weight + i);
        *(uint32_t*)(out + slot_of(4 * i, a.order)) = pack_bf16(v.x * r * w.x, v.y * r * w.y);
        *(uint32_t*)(out + slot_of(4 * i + 2, a.order)) = pack_bf16(v.z * r * w.z, v.w * r * w.w);
    }
}

// One warp per head of a token: bias, QK-norm, rope; q is updated in place, k and v are written to the cache.
// Prefill: bf16 rows q|k|v at `position`. Decode (state != null): f32 rows q and k; v is in the cache already.
struct RopeArgs {
    bf16* qkv;
    float *q, *k;
    const float *bias_q, *bias_k, *bias_v, *norm_q, *norm_k;
    bf16 *k_cache, *v_cache;
    const float2* rope;
    const State* state;
    float eps;
    int tokens, position, heads, kv_heads, head_dim, rope_half, neox, context;
};
extern "C" __global__ void rope_kv(const __grid_constant__ RopeArgs a) {
    __shared__ float rows[8][256];
    pdl_launch();
    pdl_wait();
    int lane = threadIdx.x & 31, item = blockIdx.x * 8 + (threadIdx.x >> 5);
    int per_token = a.heads + (a.state ? 1 : 2) * a.kv_heads;
    int t = item / per_token, h = item - t * per_token, D = a.head_dim;
    if (t >= a.tokens) return;
    float* row = rows[threadIdx.x >> 5];
    int which = h < a.heads ? 0 : h < a.heads + a.kv_heads ? 1 : 2;
    int local = which == 0 ? h : which == 1 ? h - a.heads : h - a.heads - a.kv_heads;
    int pos = a.state ? a.state->pos : a.position + t;
    bf16* in_half = a.qkv + (size_t)t * (a.heads + 2 * a.kv_heads) * D + (size_t)h * D;
    float* in = which == 0 ? a.q + local * D : a.k + local * D;
    const float* bias = a.state ? nullptr : which == 0 ? a.bias_q : which == 1 ? a.bias_k : a.bias_v;
    float ss = 0.f;
    for (int d = lane; d < D; d += 32) {
        float v = a.state ? in[d] : __bfloat162float(in_half[d]);
        if (bias) v += bias[local * D + d];
        row[d] = v, ss += v * v;
    }
    __syncwarp();
    const float* norm = which == 0 ? a.norm_q : a.norm_k;
    if (which < 2 && norm) {
        float r = rsqrtf(warp_sum(ss) / D + a.eps);
        for (int d = lane; d < D; d += 32) row[d] *= r * norm[d];
        __syncwarp();
    }
    bf16* cache = (which == 1 ? a.k_cache : a.v_cache) + ((size_t)local * a.context + pos) * D;
    for (int i = lane; i < D / 2; i += 32) {
        int x = 2 * i, y = 2 * i + 1;
        if (i < a.rope_half && a.neox) x = i, y = i + a.rope_half;
        float u = row[x], v = row[y];
        if (which < 2 && i < a.rope_half) {
            float2 cs = a.rope[(size_t)pos * a.rope_half + i];
            float turned = u * cs.x - v * cs.y;
            v = u * cs.y + v * cs.x, u = turned;
        }
        if (which == 0 && a.state) in[x] = u, in[y] = v;
        else if (which == 0) in_half[x] = __float2bfloat16(u), in_half[y] = __float2bfloat16(v);
        else cache[x] = __float2bfloat16(u), cache[y] = __float2bfloat16(v);
    }
}

// [token][gate | up] → silu(gate) * up.
struct SwigluArgs {
    const bf16* in;
    bf16* out;
    int width, tokens;
    int order;  // slot_of
};
extern "C" __global__ void swiglu(SwigluArgs a) {
    pdl_launch();
    pdl_wait();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    int units = a.width / 8;
    if (i >= (size_t)units * a.tokens) return;
    size_t t = i / units, u = i - t * units;
    uint4 g = *((const uint4*)(a.in + t * 2 * a.width) + u), v = *((const uint4*)(a.in + t * 2 * a.width + a.width) + u);
    uint32_t gw[4] = {g.x, g.y, g.z, g.w}, vw[4] = {v.x, v.y, v.z, v.w};
    bf16* out = a.out + t * a.width;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        float a0 = bf16_low(gw[k]), a1 = bf16_high(gw[k]);
        *(uint32_t*)(out + slot_of((int)u * 8 + k * 2, a.order)) = pack_bf16(a0 / (1.f + __expf(-a0)) * bf16_low(vw[k]), a1 / (1.f + __expf(-a1)) * bf16_high(vw[k]));
    }
}

// cos and sin of position * frequency, in double: at position 30,000 a float angle has an error of about 0.001.
struct RopeTableArgs {
    const double* frequencies;  // [rope_half]
    float2* out;
    double scale;
    int rope_half, positions;
};
extern "C" __global__ void rope_table(RopeTableArgs a) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.rope_half * a.positions) return;
    double s, c;
    sincos((double)(i / a.rope_half) * a.frequencies[i % a.rope_half], &s, &c);
    a.out[i] = make_float2((float)(c * a.scale), (float)(s * a.scale));
}

// C[m][n] = A[m][k] · W[n][k]ᵀ, bf16 operands, f32 sums. 128 x 128 per block of four warps, k in steps of 64, three
// stages. Rows of 128 bytes are swizzled: chunk c of row r is at c ^ (r & 7), so that ldmatrix has no bank conflicts.
struct GemmArgs {
    const bf16 *a, *w;
    void* c;
    int m, n, k;
    int lda;   // elements
    int ldc;
    int mode;  // 0: bf16 store, 1: f32 add, 2: f32 store
};

__device__ __forceinline__ void store_pair(const GemmArgs& p, int row, int col, float x, float y) {
    if (row >= p.m || col >= p.n) return;
    size_t at = (size_t)row * p.ldc + col;
    bool both = col + 1 < p.n;
    if (p.mode == 0) {
        bf16* c = (bf16*)p.c + at;
        c[0] = __float2bfloat16(x);
        if (both) c[1] = __float2bfloat16(y);
    } else {
        float* c = (float*)p.c + at;
        c[0] = p.mode == 1 ? c[0] + x : x;
        if (both) c[1] = p.mode == 1 ? c[1] + y : y;
    }
}

extern "C" __global__ void __launch_bounds__(128, 2) gemm_bf16(const __grid_constant__ GemmArgs p) {
    constexpr int BM = 128, BN = 128, BK = 64, STAGES = 3, STAGE = (BM + BN) * BK * 2;
    extern __shared__ __align__(128) char smem[];
    uint32_t base = (uint32_t)__cvta_generic_to_shared(smem);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, wm = warp >> 1, wn = warp & 1;
    int m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, steps = (p.k + BK - 1) / BK;
    auto load = [&](int step) {
        if (step < steps) {
            uint32_t dst = base + (step % STAGES) * STAGE;
#pragma unroll
            for (int i = 0; i < 16; i++) {
                int id = i * 128 + threadIdx.x, r = (id >> 3) & 127, c = id & 7, k = step * BK + c * 8;
                bool weights = i >= 8;
                int row = (weights ? n0 : m0) + r, rows = weights ? p.n : p.m, stride = weights ? p.k : p.lda;
                bool ok = row < rows && k < p.k;
                const bf16* src = (weights ? p.w : p.a) + (ok ? (size_t)row * stride + k : 0);
                copy16(dst + (weights ? BM * BK * 2 : 0) + r * 128 + ((c ^ (r & 7)) << 4), src, ok);
            }
        }
        commit();
    };
    load(0), load(1);
    float acc[4][8][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0.f;
    for (int step = 0; step < steps; step++) {
        wait_group<1>();
        __syncthreads();
        load(step + 2);
        uint32_t sa = base + (step % STAGES) * STAGE, sb = sa + BM * BK * 2;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t a[4][4], b[4][4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int r = wm * 64 + i * 16 + (lane & 15), c = k * 2 + (lane >> 4);
                ldmatrix(a[i], sa + r * 128 + ((c ^ (r & 7)) << 4));
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int r = wn * 64 + j * 16 + (lane & 7) + ((lane >> 4) << 3), c = k * 2 + ((lane >> 3) & 1);
                ldmatrix(b[j], sb + r * 128 + ((c ^ (r & 7)) << 4));
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    mma(acc[i][2 * j], a[i], b[j][0], b[j][1]);
                    mma(acc[i][2 * j + 1], a[i], b[j][2], b[j][3]);
                }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int row = m0 + wm * 64 + i * 16 + (lane >> 2), col = n0 + wn * 64 + j * 8 + (lane & 3) * 2;
            store_pair(p, row, col, acc[i][j][0], acc[i][j][1]);
            store_pair(p, row + 8, col, acc[i][j][2], acc[i][j][3]);
        }
}
