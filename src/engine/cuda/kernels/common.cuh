// Shared by all kernels: the layout of weights on the GPU, dot products over them, warp and block reductions.
//
// Weights are repacked once, at load (repack.cu), into planes of aligned words, so that each lane reads 16 bytes at a
// time. A quantised row is a sequence of blocks of 32 weights; the planes of block b (counted over the whole matrix):
//
//   main   16 bytes: byte i holds the low 4 bits of weight i (low nibble) and of weight i + 16 (high nibble);
//          Q8_0: weights 0 to 15, one byte each
//   high   Q5: 4 bytes, bit f of byte j is the fifth bit of weight 4f + j
//          Q6_K: 8 bytes, bits 2f, 2f+1 of byte j of word k are the upper bits of weight 16k + 4f + j
//          Q8_0: 16 bytes, weights 16 to 31
//   scale  Q4_0, Q5_0, Q8_0: f16 d. Q4_1, Q5_1: f16 d, f16 m. Q6_K: two int8 scales
//          Q4_K, Q5_K (for each 8 blocks): f16 d, f16 dmin, then 8 fields of 12 bits: 6-bit scale, 6-bit min
//   extra  Q6_K (for each 8 blocks): f16 d
//
// These structures are mirrored in src/engine/cuda/params.rs (Rust); the sizes of the layouts are in layout.rs.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include "ptx.cuh"

typedef __nv_bfloat16 bf16;
typedef unsigned long long u64;

enum Format { F32 = 0, F16 = 1, BF16 = 2, Q4_0 = 3, Q4_1 = 4, Q5_0 = 5, Q5_1 = 6, Q8_0 = 7, Q4_K = 8, Q5_K = 9, Q6_K = 10 };

struct Mat {
    const uint8_t* main;
    const uint8_t* high;
    const uint8_t* scale;
    const uint8_t* extra;
    int rows, cols, format, pad;
};

// State of the decode loop, on the GPU between steps.
struct State {
    int pos;          // position that the current step writes
    int token;        // token at `pos`
    int history_len;  // tokens written to the history of the penalties
    int step;         // tokens sampled since the loop began
    u64 best;         // packed argmax of the logits: ordered float, then the lowest index
    u64 seed;
    float temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
    int top_k, repeat_last_n;
};

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int o = 16; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, o));
    return v;
}
// Sum over the block; `scratch` holds 32 floats. Every thread gets the result.
__device__ __forceinline__ float block_sum(float v, float* scratch) {
    v = warp_sum(v);
    int warps = (blockDim.x + 31) >> 5;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    v = (threadIdx.x & 31) < warps ? scratch[threadIdx.x & 31] : 0.f;
    return warp_sum(v);
}

__device__ __forceinline__ float bf16_low(uint32_t v) { return __uint_as_float(v << 16); }
__device__ __forceinline__ float bf16_high(uint32_t v) { return __uint_as_float(v & 0xffff0000u); }
__device__ __forceinline__ float half_at(const uint8_t* p) { return __half2float(*(const __half*)p); }
__device__ __forceinline__ float2 half2_of(uint32_t v) { return __half22float2(*(const __half2*)&v); }
__device__ __forceinline__ uint32_t pack_bf16(float lo, float hi) {
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *(uint32_t*)&v;
}

// Maps a float to an unsigned integer with the same ordering.
__device__ __forceinline__ uint32_t ordered(float f) {
    uint32_t u = __float_as_uint(f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}
__device__ __forceinline__ float unordered(uint32_t u) { return __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u); }
__device__ __forceinline__ u64 best_key(float f, int index) { return ((u64)ordered(f) << 32) | (0xffffffffu - (uint32_t)index); }

// The place of activations k and k + 1 in a row, k even. `order` 0: unchanged. 1: as hopper_skinny.cu reads them: each
// 128 are sorted by the tensor core step that uses them, then by the position in the step.
__device__ __forceinline__ int slot_of(int k, int order) {
    return order ? (k & ~127) | (k >> 2 & 7) << 4 | (k >> 5 & 3) << 1 | (k >> 1 & 1) << 3 : k;
}

// 6-bit scale and min of sub-block `s` from a K header.
__device__ __forceinline__ uint32_t k_field(uint4 h, int s) {
    int bit = 12 * s, word = bit >> 5;
    uint32_t lo = word == 0 ? h.y : word == 1 ? h.z : h.w;
    uint32_t hi = word == 0 ? h.z : h.w;
    return __funnelshift_r(lo, hi, bit & 31);
}

// One block of 32 quantised weights in registers. Only the fields of its format are set; the compiler drops the others.
struct Block {
    uint4 q, r;   // main plane; Q8_0: second half, K formats: header
    uint2 high;
    uint32_t scale, extra;
};

// AROUND: the following bytes are needed soon, so the L2 fetches them too.
template <int FORMAT, bool AROUND = false> __device__ __forceinline__ Block load_block(const Mat& m, size_t b) {
    Block v;
    v.q = AROUND ? load16_around(m.main + b * 16) : load16(m.main + b * 16);
    if (FORMAT == Q8_0) v.r = AROUND ? load16_around(m.high + b * 16) : load16(m.high + b * 16);
    if (FORMAT == Q4_K || FORMAT == Q5_K) v.r = load16(m.scale + (b >> 3) * 16);
    if (FORMAT == Q5_0 || FORMAT == Q5_1 || FORMAT == Q5_K) v.high.x = __ldg((const uint32_t*)m.high + b);
    if (FORMAT == Q6_K) v.high = __ldg((const uint2*)m.high + b);
    if (FORMAT == Q4_0 || FORMAT == Q5_0 || FORMAT == Q8_0 || FORMAT == Q6_K) v.scale = __ldg((const uint16_t*)m.scale + b);
    if (FORMAT == Q4_1 || FORMAT == Q5_1) v.scale = __ldg((const uint32_t*)m.scale + b);
    if (FORMAT == Q6_K) v.extra = __ldg((const uint16_t*)m.extra + (b >> 3));
    return v;
}

// Eight words of four 8-bit weights, unsigned (Q8_0: signed); word f holds weights 4f to 4f + 3.
template <int FORMAT> __device__ __forceinline__ void unpack(const Block& v, uint32_t w[8]) {
    if (FORMAT == Q8_0) {
        w[0] = v.q.x, w[1] = v.q.y, w[2] = v.q.z, w[3] = v.q.w;
        w[4] = v.r.x, w[5] = v.r.y, w[6] = v.r.z, w[7] = v.r.w;
        return;
    }
    uint32_t q[4] = {v.q.x, v.q.y, v.q.z, v.q.w};
#pragma unroll
    for (int f = 0; f < 4; f++) w[f] = q[f] & 0x0f0f0f0fu, w[f + 4] = (q[f] >> 4) & 0x0f0f0f0fu;
    if (FORMAT == Q5_0 || FORMAT == Q5_1 || FORMAT == Q5_K) {
#pragma unroll
        for (int f = 0; f < 8; f++) w[f] |= (f <= 4 ? v.high.x << (4 - f) : v.high.x >> (f - 4)) & 0x10101010u;
    }
    if (FORMAT == Q6_K) {
#pragma unroll
        for (int f = 0; f < 4; f++) {
            w[f] |= (f <= 2 ? v.high.x << (4 - 2 * f) : v.high.x >> 2) & 0x30303030u;
            w[f + 4] |= (f <= 2 ? v.high.y << (4 - 2 * f) : v.high.y >> 2) & 0x30303030u;
        }
    }
}

// Dot product of a block with 32 activations: int8 in a0 and a1, with their `scale`; `sums` has the sums of their first
// and second half as two int16.
template <int FORMAT>
__device__ __forceinline__ float dot_block(const Block& v, int sub, uint4 a0, uint4 a1, float scale, int sums) {
    uint32_t w[8];
    unpack<FORMAT>(v, w);
    int lo = 0, hi = 0;
    lo = __dp4a((int)w[0], (int)a0.x, lo), lo = __dp4a((int)w[1], (int)a0.y, lo);
    lo = __dp4a((int)w[2], (int)a0.z, lo), lo = __dp4a((int)w[3], (int)a0.w, lo);
    hi = __dp4a((int)w[4], (int)a1.x, hi), hi = __dp4a((int)w[5], (int)a1.y, hi);
    hi = __dp4a((int)w[6], (int)a1.z, hi), hi = __dp4a((int)w[7], (int)a1.w, hi);
    int s_lo = (int)(short)(sums & 0xffff), s_hi = sums >> 16;
    if (FORMAT == Q6_K) {
        int c0 = (int)(signed char)(v.scale & 0xff), c1 = (int)(signed char)(v.scale >> 8);
        int sum = c0 * (lo - 32 * s_lo) + c1 * (hi - 32 * s_hi);
        return __half2float(__ushort_as_half((unsigned short)v.extra)) * scale * (float)sum;
    }
    int sum = lo + hi, s = s_lo + s_hi;
    if (FORMAT == Q8_0) return __half2float(__ushort_as_half((unsigned short)v.scale)) * scale * (float)sum;
    if (FORMAT == Q4_0) return __half2float(__ushort_as_half((unsigned short)v.scale)) * scale * (float)(sum - 8 * s);
    if (FORMAT == Q5_0) return __half2float(__ushort_as_half((unsigned short)v.scale)) * scale * (float)(sum - 16 * s);
    if (FORMAT == Q4_1 || FORMAT == Q5_1) {
        float2 dm = half2_of(v.scale);
        return scale * (dm.x * (float)sum + dm.y * (float)s);
    }
    float2 dm = half2_of(v.r.x);
    uint32_t f = k_field(v.r, sub);
    return scale * (dm.x * (float)((int)(f & 63) * sum) - dm.y * (float)((int)((f >> 6) & 63) * s));
}

// Scales of the first and the second half of a block, and the addend: a weight is scale * (q - offset) + add.
struct Scales {
    float d0, d1, add;
};
template <int FORMAT> __device__ __forceinline__ Scales scales_of(const Block& v, int sub) {
    if (FORMAT == Q6_K) {
        float d = __half2float(__ushort_as_half((unsigned short)v.extra));
        return {d * (float)(signed char)(v.scale & 0xff), d * (float)(signed char)(v.scale >> 8), 0.f};
    }
    if (FORMAT == Q4_1 || FORMAT == Q5_1) {
        float2 dm = half2_of(v.scale);
        return {dm.x, dm.x, dm.y};
    }
    if (FORMAT == Q4_K || FORMAT == Q5_K) {
        float2 dm = half2_of(v.r.x);
        uint32_t f = k_field(v.r, sub);
        float d = dm.x * (float)(f & 63);
        return {d, d, -dm.y * (float)((f >> 6) & 63)};
    }
    float d = __half2float(__ushort_as_half((unsigned short)v.scale));
    return {d, d, 0.f};
}
__host__ __device__ constexpr int offset_of(int format) { return format == Q4_0 ? 8 : format == Q5_0 ? 16 : format == Q6_K ? 32 : 0; }

// Converts the four weights of a word to floats.
template <int FORMAT> __device__ __forceinline__ void floats_of(uint32_t word, float d, float add, float out[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int byte = (word >> (8 * i)) & 0xff;
        int q = FORMAT == Q8_0 ? (int)(signed char)byte : byte - offset_of(FORMAT);
        out[i] = d * (float)q + add;
    }
}

// Converts the 32 weights of block b to floats.
template <int FORMAT> __device__ __forceinline__ void dequantise_block(const Mat& m, size_t b, float out[32]) {
    Block v = load_block<FORMAT>(m, b);
    uint32_t w[8];
    unpack<FORMAT>(v, w);
    Scales s = scales_of<FORMAT>(v, (int)(b & 7));
#pragma unroll
    for (int f = 0; f < 8; f++) floats_of<FORMAT>(w[f], f < 4 ? s.d0 : s.d1, s.add, out + 4 * f);
}

// Converts eight weights of block b to floats, starting at weight 8 * part.
template <int FORMAT> __device__ __forceinline__ void dequantise_part(const Mat& m, size_t b, int part, float out[8]) {
    Block v = load_block<FORMAT>(m, b);
    Scales s = scales_of<FORMAT>(v, (int)(b & 7));
    bool second = part & 2;
    uint4 q = FORMAT == Q8_0 && second ? v.r : v.q;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int f = 2 * part + i;
        uint32_t w = part & 1 ? (i ? q.w : q.z) : (i ? q.y : q.x);
        if (FORMAT != Q8_0) w = (second ? w >> 4 : w) & 0x0f0f0f0fu;
        if (FORMAT == Q5_0 || FORMAT == Q5_1 || FORMAT == Q5_K) w |= (f <= 4 ? v.high.x << (4 - f) : v.high.x >> (f - 4)) & 0x10101010u;
        if (FORMAT == Q6_K) {
            uint32_t high = second ? v.high.y : v.high.x;
            w |= ((f & 3) == 3 ? high >> 2 : high << (4 - 2 * (f & 3))) & 0x30303030u;
        }
        floats_of<FORMAT>(w, second ? s.d1 : s.d0, s.add, out + 4 * i);
    }
}

// As `dequantise_block`, with the format selected at run time; plain weights also count as blocks of 32.
__device__ __forceinline__ void dequantise(const Mat& m, size_t b, float out[32]) {
    switch (m.format) {
    case Q4_0: dequantise_block<Q4_0>(m, b, out); break;
    case Q4_1: dequantise_block<Q4_1>(m, b, out); break;
    case Q5_0: dequantise_block<Q5_0>(m, b, out); break;
    case Q5_1: dequantise_block<Q5_1>(m, b, out); break;
    case Q8_0: dequantise_block<Q8_0>(m, b, out); break;
    case Q4_K: dequantise_block<Q4_K>(m, b, out); break;
    case Q5_K: dequantise_block<Q5_K>(m, b, out); break;
    case Q6_K: dequantise_block<Q6_K>(m, b, out); break;
    case BF16:
#pragma unroll
        for (int i = 0; i < 32; i++) out[i] = __bfloat162float(((const bf16*)m.main)[b * 32 + i]);
        break;
    case F16:
#pragma unroll
        for (int i = 0; i < 32; i++) out[i] = __half2float(((const __half*)m.main)[b * 32 + i]);
        break;
    default:
#pragma unroll
        for (int i = 0; i < 32; i++) out[i] = ((const float*)m.main)[b * 32 + i];
    }
}
