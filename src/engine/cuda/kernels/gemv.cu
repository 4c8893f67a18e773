// Matrix times vector for one token: norm + QKV + rope + KV write, O + residual, norm + gate/up + SwiGLU,
// down + residual, norm + head + argmax. One warp (or `split` of them) computes two rows at a time; the activations lie
// in shared memory: for plain weights as f32 (bf16 where they only feed the residual), for quantised ones as int8 with
// one scale for 32 of them.
#include "common.cuh"

#define THREADS 256

struct GemvArgs {
    Mat a, b, c;        // QKV: q, k, v. Gate/up: gate, up. Else: a
    const float* x;     // activations, or
    const bf16* xh;     // activations, or
    const uint8_t* xq;  // activations as int8, laid out as in shared memory
    const float* norm;  // RMSNorm weights, or null
    float eps;
    int cols;
    int stage;          // 1: f32 is needed, 2: int8 is needed
    int head_dim;
    float* out;         // QKV: q. Residual: what the product is added to. Head: logits
    bf16* out_half;     // gate/up: the product of both, or
    uint8_t* out_q;     // the same as int8, for the next product
    const float *bias_a, *bias_b, *bias_c;
    bf16 *k_cache, *v_cache;  // this layer's, [kv head][position][head_dim]
    float* k_raw;       // not null: QK-norm and rope come in a kernel of their own
    const float2* rope; // [position][rope_half] of cos, sin
    State* state;
    int context, rope_half, neox;
    int prefetch;       // bytes of each row to ask for early
    int split;          // warps that share a pair of rows: 1, 2, 4 or 8
    int pad;
};

// Which formats a kernel is compiled for: a smaller set takes fewer registers.
enum { PLAIN = 1, QUANTISED = 2 };

// Shared memory: f32 activations (4 * cols bytes; bf16: 2 * cols), if staged; int8 (cols), then {scale, sums} (cols / 4).
struct Staged {
    const char* x;
    const uint4* q;
    const uint2* meta;
};

__device__ __forceinline__ float4 activation(const GemvArgs& p, int i) {
    if (p.x) return ((const float4*)p.x)[i];
    uint2 v = ((const uint2*)p.xh)[i];
    return make_float4(bf16_low(v.x), bf16_high(v.x), bf16_low(v.y), bf16_high(v.y));
}

// One quad of activations into shared memory; all lanes of a warp come here together.
template <int KINDS, bool HALF>
__device__ __forceinline__ void stage_quad(const GemvArgs& p, int i, bool there, float4 v, char* xs, char* qs, uint2* meta) {
    // Units of 8, their halves in two planes: a warp's 16-byte reads then touch each bank once.
    if ((KINDS & PLAIN) && (KINDS == PLAIN || p.stage & 1) && there) {
        if (HALF) *(uint2*)(xs + i * 8) = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
        else *(float4*)(xs + ((i & 1) * (p.cols / 2) + (i >> 1) * 4) * 4) = v;
    }
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
template <int KINDS, bool HALF> __device__ __forceinline__ Staged stage(const GemvArgs& p, char* smem) {
    constexpr int HELD = 8;
    __shared__ float scratch[32];
    char* xs = smem;
    char* qs = smem + (p.stage & 1 ? p.cols * (HALF ? 2 : 4) : 0);
    uint2* meta = (uint2*)(qs + p.cols);
    if (p.xq) {
        for (int i = threadIdx.x; i < p.cols * 5 / 64; i += THREADS) ((uint4*)qs)[i] = __ldcg((const uint4*)p.xq + i);
        __syncthreads();
        return {xs, (const uint4*)qs, meta};
    }
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
            stage_quad<KINDS, HALF>(p, i, i < quads, v[k], xs, qs, meta);
        }
    }
    __syncthreads();
    return {xs, (const uint4*)qs, meta};
}

// A unit is 16 bytes of a row; each lane takes every 32nd. The next units are on their way while these are multiplied:
// two blocks a multiprocessor with that beat four without it (bf16 +3 %, Q8_0 +4 %, Q4_K the same).
template <int FORMAT, bool HALF>
__device__ __forceinline__ void dot_plain(const Mat& A, size_t ra, const Mat& B, size_t rb, const Staged& s, int cols, int part, int parts, float& oa, float& ob) {
    constexpr int PER = FORMAT == F32 ? 4 : 8, SIZE = FORMAT == F32 ? 4 : 2, UNROLL = 4;
    const uint8_t* pa = A.main + ra * cols * SIZE;
    const uint8_t* pb = B.main + rb * cols * SIZE;
    int units = cols / PER, lane = threadIdx.x & 31, each = (units + parts - 1) / parts;
    int last = min(units, (part + 1) * each);
    float sa = 0.f, sb = 0.f;
    uint4 va[UNROLL], vb[UNROLL], na[UNROLL], nb[UNROLL];
    auto fetch = [&](int u0) {
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = min(u0 + 32 * i, last - 1);
            na[i] = load16(pa + (size_t)u * 16), nb[i] = load16(pb + (size_t)u * 16);
        }
    };
    if (part * each + lane < last) fetch(part * each + lane);
    for (int u0 = part * each + lane; u0 < last; u0 += 32 * UNROLL) {
#pragma unroll
        for (int i = 0; i < UNROLL; i++) va[i] = na[i], vb[i] = nb[i];
        if (u0 + 32 * UNROLL < last) fetch(u0 + 32 * UNROLL);
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = u0 + 32 * i;
            if (u >= last) break;
            float4 x, y;
            if (HALF && FORMAT == F32) {
                uint2 h = *(const uint2*)(s.x + u * 8);
                x = make_float4(bf16_low(h.x), bf16_high(h.x), bf16_low(h.y), bf16_high(h.y));
            } else if (HALF) {
                uint4 h = *(const uint4*)(s.x + u * 16);
                x = make_float4(bf16_low(h.x), bf16_high(h.x), bf16_low(h.y), bf16_high(h.y));
                y = make_float4(bf16_low(h.z), bf16_high(h.z), bf16_low(h.w), bf16_high(h.w));
            } else if (FORMAT == F32) {
                x = *(const float4*)(s.x + ((u & 1) * (cols / 2) + (u >> 1) * 4) * 4);
            } else {
                x = *(const float4*)(s.x + u * 16), y = *(const float4*)(s.x + cols * 2 + u * 16);
            }
            if (FORMAT == F32) {
                sa += __uint_as_float(va[i].x) * x.x + __uint_as_float(va[i].y) * x.y + __uint_as_float(va[i].z) * x.z + __uint_as_float(va[i].w) * x.w;
                sb += __uint_as_float(vb[i].x) * x.x + __uint_as_float(vb[i].y) * x.y + __uint_as_float(vb[i].z) * x.z + __uint_as_float(vb[i].w) * x.w;
                continue;
            }
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
__device__ __forceinline__ void dot_quantised(const Mat& A, size_t ra, const Mat& B, size_t rb, const Staged& s, int cols, int part, int parts, float& oa, float& ob) {
    constexpr int UNROLL = 2;
    int blocks = cols / 32, lane = threadIdx.x & 31;
    // Parts begin at a multiple of 8 blocks, so that a lane meets the same place of a super-block every time.
    int each = ((blocks + parts - 1) / parts + 7) & ~7, last = min(blocks, (part + 1) * each);
    size_t ba = ra * blocks, bb = rb * blocks;
    float sa = 0.f, sb = 0.f;
    Block va[UNROLL], vb[UNROLL], na[UNROLL], nb[UNROLL];
    auto fetch = [&](int u0) {
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = min(u0 + 32 * i, last - 1);
            na[i] = load_block<FORMAT>(A, ba + u), nb[i] = load_block<FORMAT>(B, bb + u);
        }
    };
    if (part * each + lane < last) fetch(part * each + lane);
    for (int u0 = part * each + lane; u0 < last; u0 += 32 * UNROLL) {
#pragma unroll
        for (int i = 0; i < UNROLL; i++) va[i] = na[i], vb[i] = nb[i];
        if (u0 + 32 * UNROLL < last) fetch(u0 + 32 * UNROLL);
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            int u = u0 + 32 * i;
            if (u >= last) break;
            uint4 a0 = s.q[u], a1 = s.q[blocks + u];
            uint2 m = s.meta[u];
            float scale = __uint_as_float(m.x);
            sa += dot_block<FORMAT>(va[i], u & 7, a0, a1, scale, (int)m.y);
            sb += dot_block<FORMAT>(vb[i], u & 7, a0, a1, scale, (int)m.y);
        }
    }
    oa = sa, ob = sb;
}

// Two rows of matrices of one format times a part of the staged activations; every lane gets both sums.
template <int KINDS, bool HALF>
__device__ __forceinline__ void dot_rows(const Mat& A, int ra, const Mat& B, int rb, const Staged& s, int cols, int part, int parts, float& oa, float& ob) {
    oa = ob = 0.f;
#define PLAIN_CASE(F) \
    case F: if (KINDS & PLAIN) dot_plain<F, HALF>(A, ra, B, rb, s, cols, part, parts, oa, ob); break;
#define QUANTISED_CASE(F) \
    case F: if (KINDS & QUANTISED) dot_quantised<F>(A, ra, B, rb, s, cols, part, parts, oa, ob); break;
    switch (A.format) {
        PLAIN_CASE(F32) PLAIN_CASE(F16) PLAIN_CASE(BF16)
        QUANTISED_CASE(Q4_0) QUANTISED_CASE(Q4_1) QUANTISED_CASE(Q5_0) QUANTISED_CASE(Q5_1)
        QUANTISED_CASE(Q8_0) QUANTISED_CASE(Q4_K) QUANTISED_CASE(Q5_K) QUANTISED_CASE(Q6_K)
    }
#undef PLAIN_CASE
#undef QUANTISED_CASE
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

// Which rows task `t` is about.
template <int MODE> __device__ __forceinline__ void task_rows(const GemvArgs& p, int t, int& which, int& ra, int& rb, int& in_head) {
    which = 0, in_head = 0;
    if (MODE == QKV) qkv_rows(p, t, which, ra, rb, in_head);
    else if (MODE == GATE_UP) ra = rb = t;
    else ra = 2 * t, rb = min(2 * t + 1, p.a.rows - 1);
}

// 32 numbers of one block as int8, in the layout of `Staged`. One warp.
__device__ __forceinline__ void store_int8(const GemvArgs& p, int group, float v, int width) {
    int lane = threadIdx.x & 31;
    float m = warp_max(fabsf(v));
    int q = __float2int_rn(v * (m > 0.f ? 127.f / m : 0.f)), sum = q;
#pragma unroll
    for (int o = 8; o; o >>= 1) sum += __shfl_xor_sync(~0u, sum, o);
    int other = __shfl_xor_sync(~0u, sum, 16);
    p.out_q[(lane >> 4) * (width / 2) + group * 16 + (lane & 15)] = (uint8_t)q;
    if (lane == 0) ((uint2*)(p.out_q + width))[group] = make_uint2(__float_as_uint(m / 127.f), (uint32_t)(sum & 0xffff) | (uint32_t)other << 16);
}

template <int MODE, int KINDS> __device__ __forceinline__ void gemv(const GemvArgs& p) {
    constexpr int WARPS = THREADS / 32;
    constexpr bool HALF = MODE == RESIDUAL;
    extern __shared__ __align__(16) char smem[];
    __shared__ float sums[WARPS][2];
    __shared__ float hidden[32];
    pdl_launch();
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, split = MODE == GATE_UP ? 1 : p.split, part = warp % split;
    // A block takes `width` tasks at a time; of gate/up 32 in a row, so that their products can be quantised here.
    int width = MODE == GATE_UP ? 32 : WARPS / split, mine = MODE == GATE_UP ? warp * 4 : warp / split;
    int tasks = MODE == QKV ? (p.a.rows + p.b.rows + p.c.rows) / 2 : MODE == GATE_UP ? p.a.rows : (p.a.rows + 1) / 2;
    int first = blockIdx.x * width + mine, which, ra, rb, in_head;
    if (p.prefetch && part == 0 && first < tasks) {
        task_rows<MODE>(p, first, which, ra, rb, in_head);
        const Mat& a = which == 0 ? p.a : which == 1 ? p.b : p.c;
        prefetch_row(a, ra, p.prefetch), prefetch_row(MODE == GATE_UP ? p.b : a, rb, p.prefetch);
    }
    pdl_wait();
    Staged s = stage<KINDS, HALF>(p, smem);
    int pos = MODE == QKV ? p.state->pos : 0;
    u64 best = 0;
    for (int base = blockIdx.x * width; base < tasks; base += gridDim.x * width) {
        for (int k = 0; k < (MODE == GATE_UP ? 4 : 1); k++) {
            int t = base + mine + k;
            float a = 0.f, b = 0.f;
            if (t < tasks) {
                task_rows<MODE>(p, t, which, ra, rb, in_head);
                const Mat& m = which == 0 ? p.a : which == 1 ? p.b : p.c;
                dot_rows<KINDS, HALF>(m, ra, MODE == GATE_UP ? p.b : m, rb, s, p.cols, part, split, a, b);
            }
            if (split > 1) {
                __syncthreads();
                if (lane == 0) sums[warp][0] = a, sums[warp][1] = b;
                __syncthreads();
                if (part == 0)
                    for (int i = 1; i < split; i++) a += sums[warp + i][0], b += sums[warp + i][1];
            }
            if (lane != 0 || part != 0 || t >= tasks) continue;
            if (MODE == QKV) store_qkv(p, which, ra, rb, in_head, a, b, pos);
            if (MODE == GATE_UP) {
                a = a / (1.f + __expf(-a)) * b;
                if (p.out_q) hidden[warp * 4 + k] = a;
                else p.out_half[t] = __float2bfloat16(a);
            }
            if (MODE == RESIDUAL) {
                p.out[ra] += a;
                if (rb != ra) p.out[rb] += b;
            }
            if (MODE == LOGITS) {
                p.out[ra] = a, p.out[rb] = b;
                // fmaxf drops a NaN: what is not a number is impossible.
                best = max(best, max(best_key(fmaxf(a, -INFINITY), ra), best_key(fmaxf(b, -INFINITY), rb)));
            }
        }
        if (MODE == GATE_UP && p.out_q) {
            __syncthreads();
            if (warp == 0) store_int8(p, base / 32, hidden[lane], tasks);
            __syncthreads();
        }
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

#define GEMV(NAME, MODE)                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME##_plain(const __grid_constant__ GemvArgs p) { gemv<MODE, PLAIN>(p); }         \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME##_quantised(const __grid_constant__ GemvArgs p) { gemv<MODE, QUANTISED>(p); } \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME##_mixed(const __grid_constant__ GemvArgs p) { gemv<MODE, PLAIN | QUANTISED>(p); }
GEMV(gemv_qkv, QKV)
GEMV(gemv_gate_up, GATE_UP)
GEMV(gemv_residual, RESIDUAL)
GEMV(gemv_logits, LOGITS)
