// Stages the activations of a matrix-vector product in shared memory: loads, normalises and, if needed, quantises them.
#pragma once
#include "common.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)

struct GemvArgs {
    Mat a, b, c;        // QKV: q, k, v. Gate/up: gate, up (of one format). Else: a
    const float* x;     // f32 activations, or null:
    const bf16* xh;     // bf16 activations
    const float* norm;  // RMSNorm weights, or null
    float eps;
    int cols;
    int stage;          // 1: f32 is needed, 2: int8 is needed
    int head_dim;
    float* out;         // QKV: q. Residual: the product is added to it. Head: logits
    bf16* out_half;     // gate/up: silu(gate) * up
    const float *bias_a, *bias_b, *bias_c;
    bf16 *k_cache, *v_cache;  // this layer's, [kv head][position][head_dim]
    float* k_raw;       // not null: a separate kernel does QK-norm and rope
    const float2* rope; // [position][rope_half] of cos, sin
    State* state;
    int context, rope_half, neox;
    int slot;           // bytes of a unit in the ring
    int depth;          // units of the ring: 2, 3, 4, 5, 6 or 8
    int ring;           // bytes of a warp's ring
    int first_row;      // head: the token of the first row of `a`
    int pad;
};

// The kinds of formats that a kernel is compiled for: a smaller set needs fewer registers.
enum { PLAIN = 1, QUANTISED = 2 };

// Shared memory: f32 activations (4 * cols bytes; bf16: 2 * cols), if staged; int8 (cols), then {scale, sums} (cols /
// 4). f32 is split into two planes, for the first and the second half of each 8: this makes a warp's 16-byte reads free
// of bank conflicts. int8 likewise, with the halves of each 32.
struct Staged {
    const char* x;
    const uint4* q;
    const uint2* meta;
};

// Eight activations.
struct Octet {
    float v[8];
};

__device__ __forceinline__ Octet octet_of(float4 a, float4 b) { return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}}; }
__device__ __forceinline__ Octet octet_of(uint4 h) {
    return {{bf16_low(h.x), bf16_high(h.x), bf16_low(h.y), bf16_high(h.y), bf16_low(h.z), bf16_high(h.z), bf16_low(h.w), bf16_high(h.w)}};
}
__device__ __forceinline__ float squares(const Octet& o) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum += o.v[i] * o.v[i];
    return sum;
}

// Writes octet `o` to shared memory. Uses warp shuffles: all lanes of a warp must call it together.
template <int KINDS, bool HALF>
__device__ __forceinline__ void put_octet(const GemvArgs& p, int o, bool there, const Octet& x, char* xs, char* qs, uint2* meta) {
    if ((KINDS & PLAIN) && (KINDS == PLAIN || p.stage & 1) && there) {
        if (HALF) {
            *(uint4*)(xs + o * 16) = make_uint4(pack_bf16(x.v[0], x.v[1]), pack_bf16(x.v[2], x.v[3]), pack_bf16(x.v[4], x.v[5]), pack_bf16(x.v[6], x.v[7]));
        } else {
            *(float4*)(xs + o * 16) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
            *(float4*)(xs + p.cols * 2 + o * 16) = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
        }
    }
    if (!(KINDS & QUANTISED) || (KINDS != QUANTISED && !(p.stage & 2))) return;
    float m = 0.f;
#pragma unroll
    for (int i = 0; i < 8; i++) m = fmaxf(m, fabsf(x.v[i]));
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
    float inv = m > 0.f ? 127.f / m : 0.f;
    uint32_t words[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int q[4];
#pragma unroll
        for (int k = 0; k < 4; k++) q[k] = __float2int_rn(x.v[4 * i + k] * inv);
        words[i] = __byte_perm(__byte_perm(q[0], q[1], 0x0040), __byte_perm(q[2], q[3], 0x0040), 0x5410);
    }
    int sum = __dp4a((int)words[1], 0x01010101, __dp4a((int)words[0], 0x01010101, 0));
    sum += __shfl_xor_sync(~0u, sum, 1);
    int other = __shfl_xor_sync(~0u, sum, 2);
    if (!there) return;
    int block = o >> 2, part = o & 3;
    *(uint2*)(qs + (part >> 1) * (p.cols / 2) + block * 16 + (part & 1) * 8) = make_uint2(words[0], words[1]);
    if (part == 0) meta[block] = make_uint2(__float_as_uint(m * (1.f / 127.f)), (uint32_t)(sum & 0xffff) | (uint32_t)other << 16);
}

// Norm weights loaded before `pdl_wait`, while the previous kernel may still run. `held`: they fit into registers.
struct Norm {
    float4 w[4];
    bool held;
};

__device__ __forceinline__ Norm early_norm(const GemvArgs& p) {
    Norm n;
    n.held = p.norm && p.cols <= 16 * THREADS;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        int o = k * THREADS + threadIdx.x;
        bool there = n.held && o < p.cols / 8;
        n.w[2 * k] = there ? __ldg((const float4*)p.norm + 2 * o) : make_float4(0.f, 0.f, 0.f, 0.f);
        n.w[2 * k + 1] = there ? __ldg((const float4*)p.norm + 2 * o + 1) : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    return n;
}

__device__ __forceinline__ Octet scaled(const Octet& x, float r, float4 a, float4 b) {
    return {{x.v[0] * r * a.x, x.v[1] * r * a.y, x.v[2] * r * a.z, x.v[3] * r * a.w, x.v[4] * r * b.x, x.v[5] * r * b.y, x.v[6] * r * b.z, x.v[7] * r * b.w}};
}
__device__ __forceinline__ Octet float_octet(const GemvArgs& p, int o, bool there) {
    float4 zero = make_float4(0.f, 0.f, 0.f, 0.f);
    return octet_of(there ? __ldcg((const float4*)p.x + 2 * o) : zero, there ? __ldcg((const float4*)p.x + 2 * o + 1) : zero);
}

template <int KINDS, bool HALF> __device__ __forceinline__ Staged stage(const GemvArgs& p, const Norm& norm, char* smem) {
    __shared__ float scratch[32];
    char* xs = smem;
    char* qs = smem + (p.stage & 1 ? p.cols * (HALF ? 2 : 4) : 0);
    uint2* meta = (uint2*)(qs + p.cols);
    int octets = p.cols / 8;
    if (norm.held) {
        Octet x[2];
#pragma unroll
        for (int k = 0; k < 2; k++) x[k] = float_octet(p, k * THREADS + threadIdx.x, k * THREADS + threadIdx.x < octets);
        float r = rsqrtf(block_sum(squares(x[0]) + squares(x[1]), scratch) / p.cols + p.eps);
#pragma unroll
        for (int k = 0; k < 2; k++) {
            int o = k * THREADS + threadIdx.x;
            put_octet<KINDS, HALF>(p, o, o < octets, scaled(x[k], r, norm.w[2 * k], norm.w[2 * k + 1]), xs, qs, meta);
        }
    } else if (p.x) {
        float r = 1.f;
        if (p.norm) {
            float ss = 0.f;
            for (int o = threadIdx.x; o < octets; o += THREADS) ss += squares(float_octet(p, o, true));
            r = rsqrtf(block_sum(ss, scratch) / p.cols + p.eps);
        }
        for (int base = 0; base < octets; base += 2 * THREADS) {
            Octet x[2];
#pragma unroll
            for (int k = 0; k < 2; k++) {
                int o = base + k * THREADS + threadIdx.x;
                x[k] = float_octet(p, o, o < octets);
                if (p.norm && o < octets) x[k] = scaled(x[k], r, __ldg((const float4*)p.norm + 2 * o), __ldg((const float4*)p.norm + 2 * o + 1));
            }
#pragma unroll
            for (int k = 0; k < 2; k++) {
                int o = base + k * THREADS + threadIdx.x;
                put_octet<KINDS, HALF>(p, o, o < octets, x[k], xs, qs, meta);
            }
        }
    } else {
        constexpr int BATCH = 8;
        for (int base = 0; base < octets; base += BATCH * THREADS) {
            uint4 raw[BATCH];
#pragma unroll
            for (int k = 0; k < BATCH; k++) {
                int o = base + k * THREADS + threadIdx.x;
                raw[k] = o < octets ? __ldcg((const uint4*)p.xh + o) : make_uint4(0, 0, 0, 0);
            }
#pragma unroll
            for (int k = 0; k < BATCH; k++) {
                int o = base + k * THREADS + threadIdx.x;
                if (base + k * THREADS < octets) put_octet<KINDS, HALF>(p, o, o < octets, octet_of(raw[k]), xs, qs, meta);
            }
        }
    }
    __syncthreads();
    return {xs, (const uint4*)qs, meta};
}

// Adds the products of one 16-byte word of plain weights, of each of two rows, with the activations.
template <int FORMAT, bool HALF>
__device__ __forceinline__ void dot_word(const Staged& s, uint4 va, uint4 vb, int cols, int u, float& sa, float& sb) {
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
        sa += __uint_as_float(va.x) * x.x + __uint_as_float(va.y) * x.y + __uint_as_float(va.z) * x.z + __uint_as_float(va.w) * x.w;
        sb += __uint_as_float(vb.x) * x.x + __uint_as_float(vb.y) * x.y + __uint_as_float(vb.z) * x.z + __uint_as_float(vb.w) * x.w;
        return;
    }
#define PAIR(w, k) (FORMAT == BF16 ? (k ? bf16_high(w) : bf16_low(w)) : (k ? half2_of(w).y : half2_of(w).x))
    sa += PAIR(va.x, 0) * x.x + PAIR(va.x, 1) * x.y + PAIR(va.y, 0) * x.z + PAIR(va.y, 1) * x.w;
    sa += PAIR(va.z, 0) * y.x + PAIR(va.z, 1) * y.y + PAIR(va.w, 0) * y.z + PAIR(va.w, 1) * y.w;
    sb += PAIR(vb.x, 0) * x.x + PAIR(vb.x, 1) * x.y + PAIR(vb.y, 0) * x.z + PAIR(vb.y, 1) * x.w;
    sb += PAIR(vb.z, 0) * y.x + PAIR(vb.z, 1) * y.y + PAIR(vb.w, 0) * y.z + PAIR(vb.w, 1) * y.w;
#undef PAIR
}
