// Matrix times vector for one token: norm + QKV + rope + KV write, O + residual, norm + gate/up + SwiGLU,
// down + residual, norm + head + argmax. One warp computes two rows at a time; the activations lie in shared memory, as
// f32 for plain weights and as int8 with one scale for 32 of them for quantised ones.
#include "common.cuh"

#define THREADS 256

struct GemvArgs {
    Mat a, b, c;        // QKV: q, k, v. Gate/up: gate, up. Else: a
    const float* x;     // activations, or
    const bf16* xh;     // activations
    const float* norm;  // RMSNorm weights, or null
    float eps;
    int cols;
    int stage;          // 1: f32 is needed, 2: int8 is needed
    int head_dim;
    float* out;         // QKV: q. Residual: what the product is added to. Head: logits
    bf16* out_half;     // gate/up: the product of both
    const float *bias_a, *bias_b, *bias_c;
    bf16 *k_cache, *v_cache;  // this layer's, [kv head][position][head_dim]
    float* k_raw;       // not null: QK-norm and rope come in a kernel of their own
    const float2* rope; // [position][rope_half] of cos, sin
    State* state;
    int context, rope_half, neox;
    int prefetch;       // bytes of each row to ask for early
};

// Which formats a kernel is compiled for: a smaller set takes fewer registers.
enum { PLAIN = 1, QUANTISED = 2 };

// Shared memory: f32 activations (4 * cols bytes, if staged), int8 (cols), then {scale, sums} (cols / 4).
struct Staged {
    const float* x;
    const uint4* q;
    const uint2* meta;
};

__device__ __forceinline__ float4 activation(const GemvArgs& p, int i) {
    if (p.x) return ((const float4*)p.x)[i];
    uint2 v = ((const uint2*)p.xh)[i];
    return make_float4(bf16_low(v.x), bf16_high(v.x), bf16_low(v.y), bf16_high(v.y));
}

// One quad of activations into shared memory; all lanes of a warp come here together.
template <int KINDS> __device__ __forceinline__ void stage_quad(const GemvArgs& p, int i, bool there, float4 v, float* xs, char* qs, uint2* meta) {
    // Units of 8, their halves in two planes: a warp's 16-byte reads then touch each bank once.
    if ((KINDS & PLAIN) && (KINDS == PLAIN || p.stage & 1) && there) *(float4*)(xs + (i & 1) * (p.cols / 2) + (i >> 1) * 4) = v;
    if (!(KINDS & QUANTISED) || (KINDS != QUANTISED && !(p.stage & 2))) return;
    float m = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
    for (int o = 4; o; o >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, o));
    float d = m / 127.f, inv = m > 0.f ? 127.f / m : 0.f;
    int a = __float2int_rn(v.x * inv), b = __float2int_rn(v.y * inv), c = __float2int_rn(v.z * inv), e = __float2int_rn(v.w * inv);
    int sum = a + b + c + e;
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    int other = __shfl_xor_sync(~0u, sum, 4);
    if (!there) return;
    uint32_t packed = (a & 255) | (b & 255) << 8 | (c & 255) << 16 | (uint32_t)(e & 255) << 24;
    int block = i >> 3, word = i & 7;
    ((uint32_t*)qs)[(word >> 2) * (p.cols / 8) + block * 4 + (word & 3)] = packed;
    if (word == 0) meta[block] = make_uint2(__float_as_uint(d), (uint32_t)(sum & 0xffff) | (uint32_t)other << 16);
}

// Loads, normalises and (where needed) quantises the activations into shared memory. Eight quads a thread are in
// flight at a time; with a norm (at most 8192 wide) they stay in registers between the two passes.
template <int KINDS> __device__ __forceinline__ Staged stage(const GemvArgs& p, char* smem) {
    constexpr int HELD = 8;
    __shared__ float scratch[32];
    float* xs = (float*)smem;
    char* qs = smem + (p.stage & 1 ? p.cols * 4 : 0);
    uint2* meta = (uint2*)(qs + p.cols);
    int quads = p.cols / 4;
    bool held = p.norm && quads <= HELD * THREADS;
    float r = 1.f;
    if (p.norm && !held) {
        float ss = 0.f;
        for (int i = threadIdx.x; i < quads; i += THREADS) {
            float4 v = activation(p, i);
            ss += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        }
        r = rsqrtf(block_sum(ss, scratch) / p.cols + p.eps);
    }
    for (int base = 0; base < quads; base += HELD * THREADS) {
        float4 v[HELD];
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            int i = base + k * THREADS + threadIdx.x;
            v[k] = i < quads ? activation(p, i) : make_float4(0.f, 0.f, 0.f, 0.f);
        }
        if (held) {
            float ss = 0.f;
#pragma unroll
            for (int k = 0; k < HELD; k++) ss += v[k].x * v[k].x + v[k].y * v[k].y + v[k].z * v[k].z + v[k].w * v[k].w;
            r = rsqrtf(block_sum(ss, scratch) / p.cols + p.eps);
        }
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            int i = base + k * THREADS + threadIdx.x;
            if (base + k * THREADS >= quads) break;
            if (p.norm && i < quads) {
                float4 w = __ldg((const float4*)p.norm + i);
                v[k].x *= r * w.x, v[k].y *= r * w.y, v[k].z *= r * w.z, v[k].w *= r * w.w;
            }
            stage_quad<KINDS>(p, i, i < quads, v[k], xs, qs, meta);
        }
    }
    __syncthreads();
    return {xs, (const uint4*)qs, meta};
}

template <int FORMAT>
__device__ __forceinline__ void dot_plain(const Mat& A, size_t ra, const Mat& B, size_t rb, const Staged& s, int cols, float& oa, float& ob) {
    constexpr int PER = FORMAT == F32 ? 4 : 8, SIZE = FORMAT == F32 ? 4 : 2, UNROLL = 4;
    const uint8_t* pa = A.main + ra * cols * SIZE;
    const uint8_t* pb = B.main + rb * cols * SIZE;
    int units = cols / PER, lane = threadIdx.x & 31;
    float sa = 0.f, sb = 0.f;
    for (int u0 = lane; u0 < units; u0 += 32 * UNROLL) {
        uint4 va[UNROLL], vb[UNROLL];
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = min(u0 + 32 * i, units - 1);
            va[i] = load16(pa + (size_t)u * 16), vb[i] = load16(pb + (size_t)u * 16);
        }
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = u0 + 32 * i;
            if (u >= units) break;
            if (FORMAT == F32) {
                float4 x = *(const float4*)(s.x + (u & 1) * (cols / 2) + (u >> 1) * 4);
                sa += __uint_as_float(va[i].x) * x.x + __uint_as_float(va[i].y) * x.y + __uint_as_float(va[i].z) * x.z + __uint_as_float(va[i].w) * x.w;
                sb += __uint_as_float(vb[i].x) * x.x + __uint_as_float(vb[i].y) * x.y + __uint_as_float(vb[i].z) * x.z + __uint_as_float(vb[i].w) * x.w;
                continue;
            }
            float4 x = *(const float4*)(s.x + u * 4), y = *(const float4*)(s.x + cols / 2 + u * 4);
#define PAIR(w, k) (FORMAT == BF16 ? (k ? bf16_high(w) : bf16_low(w)) : (k ? half2_of(w).y : half2_of(w).x))
            sa += PAIR(va[i].x, 0) * x.x + PAIR(va[i].x, 1) * x.y + PAIR(va[i].y, 0) * x.z + PAIR(va[i].y, 1) * x.w;
            sa += PAIR(va[i].z, 0) * y.x + PAIR(va[i].z, 1) * y.y + PAIR(va[i].w, 0) * y.z + PAIR(va[i].w, 1) * y.w;
            sb += PAIR(vb[i].x, 0) * x.x + PAIR(vb[i].x, 1) * x.y + PAIR(vb[i].y, 0) * x.z + PAIR(vb[i].y, 1) * x.w;
            sb += PAIR(vb[i].z, 0) * y.x + PAIR(vb[i].z, 1) * y.y + PAIR(vb[i].w, 0) * y.z + PAIR(vb[i].w, 1) * y.w;
#undef PAIR
        }
    }
    oa = sa, ob = sb;
}

template <int FORMAT>
__device__ __forceinline__ void dot_quantised(const Mat& A, size_t ra, const Mat& B, size_t rb, const Staged& s, int cols, float& oa, float& ob) {
    constexpr int UNROLL = FORMAT == Q4_0 || FORMAT == Q4_1 || FORMAT == Q5_0 || FORMAT == Q5_1 ? 4 : 2;
    int blocks = cols / 32, lane = threadIdx.x & 31;
    size_t ba = ra * blocks, bb = rb * blocks;
    float sa = 0.f, sb = 0.f;
    for (int u0 = lane; u0 < blocks; u0 += 32 * UNROLL) {
        Block va[UNROLL], vb[UNROLL];
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = min(u0 + 32 * i, blocks - 1);
            va[i] = load_block<FORMAT>(A, ba + u), vb[i] = load_block<FORMAT>(B, bb + u);
        }
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = u0 + 32 * i;
            if (u >= blocks) break;
            uint4 a0 = s.q[u], a1 = s.q[blocks + u];
            uint2 m = s.meta[u];
            float scale = __uint_as_float(m.x);
            sa += dot_block<FORMAT>(va[i], u & 7, a0, a1, scale, (int)m.y);
            sb += dot_block<FORMAT>(vb[i], u & 7, a0, a1, scale, (int)m.y);
        }
    }
    oa = sa, ob = sb;
}

// Two rows of matrices of one format times the staged activations; every lane gets both sums.
template <int KINDS>
__device__ __forceinline__ void dot_rows(const Mat& A, int ra, const Mat& B, int rb, const Staged& s, int cols, float& oa, float& ob) {
#define CASE(KIND, F, DOT) \
    case F: if (KINDS & KIND) DOT<F>(A, ra, B, rb, s, cols, oa, ob); break;
    switch (A.format) {
        CASE(PLAIN, F32, dot_plain) CASE(PLAIN, F16, dot_plain) CASE(PLAIN, BF16, dot_plain)
        CASE(QUANTISED, Q4_0, dot_quantised) CASE(QUANTISED, Q4_1, dot_quantised) CASE(QUANTISED, Q5_0, dot_quantised)
        CASE(QUANTISED, Q5_1, dot_quantised) CASE(QUANTISED, Q8_0, dot_quantised) CASE(QUANTISED, Q4_K, dot_quantised)
        CASE(QUANTISED, Q5_K, dot_quantised) CASE(QUANTISED, Q6_K, dot_quantised)
    }
#undef CASE
    oa = warp_sum(oa), ob = warp_sum(ob);
}

// Asks the L2 for the first bytes of a row's main plane (and of Q8_0's second one) before the activations are there.
__device__ __forceinline__ void prefetch_row(const Mat& m, int row, int most) {
    int lane = threadIdx.x & 31;
    int main = m.format == F32 ? m.cols * 4 : m.format <= BF16 ? m.cols * 2 : m.cols / 2;
    for (int i = lane * 128; i < min(main, most); i += 32 * 128) prefetch_l2(m.main + (size_t)row * main + i);
    if (m.format == Q8_0)
        for (int i = lane * 128; i < min(main, most); i += 32 * 128) prefetch_l2(m.high + (size_t)row * main + i);
}

// Which two rows of a head make task `t` of its head_dim / 2: those that rope turns into each other.
__device__ __forceinline__ void rope_pair(int t, int rope_half, int neox, int& first, int& second) {
    if (t >= rope_half) first = 2 * t, second = 2 * t + 1;
    else if (neox) first = t, second = t + rope_half;
    else first = 2 * t, second = 2 * t + 1;
}

__device__ __forceinline__ void qkv_rows(const GemvArgs& p, int t, int& which, int& ra, int& rb, int& in_head) {
    int half = p.head_dim / 2, pairs_q = p.a.rows / 2, pairs_k = p.b.rows / 2;
    which = t < pairs_q ? 0 : t < pairs_q + pairs_k ? 1 : 2;
    t -= which == 0 ? 0 : which == 1 ? pairs_q : pairs_q + pairs_k;
    int head = t / half;
    in_head = t - head * half;
    rope_pair(in_head, p.rope_half, p.neox, ra, rb);
    ra += head * p.head_dim, rb += head * p.head_dim;
}

__device__ __forceinline__ void store_qkv(const GemvArgs& p, int which, int ra, int rb, int t, float a, float b, int pos) {
    const float* bias = which == 0 ? p.bias_a : which == 1 ? p.bias_b : p.bias_c;
    if (bias) a += bias[ra], b += bias[rb];
    if (which < 2 && !p.k_raw && t < p.rope_half) {
        float2 cs = p.rope[(size_t)pos * p.rope_half + t];
        float x = a * cs.x - b * cs.y;
        b = a * cs.y + b * cs.x, a = x;
    }
    if (which == 0) {
        p.out[ra] = a, p.out[rb] = b;
    } else if (which == 1 && p.k_raw) {
        p.k_raw[ra] = a, p.k_raw[rb] = b;
    } else {
        int head = ra / p.head_dim;
        bf16* row = (which == 1 ? p.k_cache : p.v_cache) + ((size_t)head * p.context + pos) * p.head_dim - head * p.head_dim;
        row[ra] = __float2bfloat16(a), row[rb] = __float2bfloat16(b);
    }
}

enum { QKV = 0, GATE_UP = 1, RESIDUAL = 2, LOGITS = 3 };

template <int MODE, int KINDS> __device__ __forceinline__ void gemv(const GemvArgs& p) {
    extern __shared__ __align__(16) char smem[];
    pdl_launch();
    int warps = gridDim.x * (THREADS / 32), warp = blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    int tasks = MODE == QKV ? (p.a.rows + p.b.rows + p.c.rows) / 2 : MODE == GATE_UP ? p.a.rows : (p.a.rows + 1) / 2;
    if (p.prefetch && warp < tasks) {
        if (MODE == QKV) {
            int which, ra, rb, t;
            qkv_rows(p, warp, which, ra, rb, t);
            const Mat& m = which == 0 ? p.a : which == 1 ? p.b : p.c;
            prefetch_row(m, ra, p.prefetch), prefetch_row(m, rb, p.prefetch);
        } else if (MODE == GATE_UP) {
            prefetch_row(p.a, warp, p.prefetch), prefetch_row(p.b, warp, p.prefetch);
        } else {
            prefetch_row(p.a, 2 * warp, p.prefetch), prefetch_row(p.a, min(2 * warp + 1, p.a.rows - 1), p.prefetch);
        }
    }
    pdl_wait();
    Staged s = stage<KINDS>(p, smem);
    int pos = MODE == QKV ? p.state->pos : 0;
    u64 best = 0;
    for (int t = warp; t < tasks; t += warps) {
        float a, b;
        if (MODE == QKV) {
            int which, ra, rb, in_head;
            qkv_rows(p, t, which, ra, rb, in_head);
            const Mat& m = which == 0 ? p.a : which == 1 ? p.b : p.c;
            dot_rows<KINDS>(m, ra, m, rb, s, p.cols, a, b);
            if (lane == 0) store_qkv(p, which, ra, rb, in_head, a, b, pos);
        } else if (MODE == GATE_UP) {
            dot_rows<KINDS>(p.a, t, p.b, t, s, p.cols, a, b);
            if (lane == 0) p.out_half[t] = __float2bfloat16(a / (1.f + __expf(-a)) * b);
        } else {
            int ra = 2 * t, rb = min(2 * t + 1, p.a.rows - 1);
            dot_rows<KINDS>(p.a, ra, p.a, rb, s, p.cols, a, b);
            if (lane == 0) {
                if (MODE == RESIDUAL) {
                    p.out[ra] += a;
                    if (rb != ra) p.out[rb] += b;
                } else {
                    p.out[ra] = a, p.out[rb] = b;
                    // fmaxf drops a NaN: what is not a number is impossible.
                    u64 ka = best_key(fmaxf(a, -INFINITY), ra), kb = best_key(fmaxf(b, -INFINITY), rb);
                    best = max(best, max(ka, kb));
                }
            }
        }
    }
    if (MODE == LOGITS) {
        __shared__ u64 bests[THREADS / 32];
        if (lane == 0) bests[threadIdx.x >> 5] = best;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int i = 1; i < THREADS / 32; i++) best = max(best, bests[i]);
            atomicMax(&p.state->best, best);
        }
    }
}

#define GEMV(NAME, MODE)                                                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, 3) NAME##_plain(const __grid_constant__ GemvArgs p) { gemv<MODE, PLAIN>(p); }         \
    extern "C" __global__ void __launch_bounds__(THREADS, 3) NAME##_quantised(const __grid_constant__ GemvArgs p) { gemv<MODE, QUANTISED>(p); } \
    extern "C" __global__ void __launch_bounds__(THREADS, 3) NAME##_mixed(const __grid_constant__ GemvArgs p) { gemv<MODE, PLAIN | QUANTISED>(p); }
GEMV(gemv_qkv, QKV)
GEMV(gemv_gate_up, GATE_UP)
GEMV(gemv_residual, RESIDUAL)
GEMV(gemv_logits, LOGITS)
