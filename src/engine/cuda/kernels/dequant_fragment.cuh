// Loads runs of 32 weights from GPU memory and converts them to bf16 fragments of the tensor cores, in registers.
#pragma once
#include "common.cuh"

// 32 weights of a row in registers, in their stored format.
template <int FORMAT> struct Run {
    Block v;
    template <bool AROUND = false> __device__ __forceinline__ void load(const Mat& m, size_t b, bool there) {
        if (there) v = load_block<FORMAT, AROUND>(m, b);
        else v = Block{};
    }
};
template <> struct Run<BF16> {
    uint4 w[4];
    __device__ __forceinline__ void load(const Mat& m, size_t b, bool there) {
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = there ? load16(m.main + b * 64 + i * 16) : make_uint4(0, 0, 0, 0);
    }
};
template <> struct Run<F16> : Run<BF16> {};

// A run unpacked for conversion to bf16, two weights at a time.
template <int FORMAT> struct Weights {
    uint32_t w[8];
    float d0, d1, m0, m1;  // scales and addends of the halves, applied to 128 + q (Q8_0: 2^15 + 128 + q)

    __device__ __forceinline__ Weights(const Run<FORMAT>& run, int sub) {
        const Block& v = run.v;
        unpack<FORMAT>(v, w);
        const float offset = FORMAT == Q8_0 ? 32896.f : 128.f + offset_of(FORMAT);
        Scales s = scales_of<FORMAT>(v, sub);
        d0 = s.d0, d1 = s.d1, m0 = s.add - offset * d0, m1 = s.add - offset * d1;
        if (FORMAT == Q8_0) {
#pragma unroll
            for (int i = 0; i < 8; i++) w[i] ^= 0x80808080u;
        }
    }
    // Weights 4f + 2h and 4f + 2h + 1. The bytes are inserted into a float's mantissa, which gives 128 + q exactly.
    __device__ __forceinline__ uint32_t pair(int f, int h) const {
        const uint32_t magic = FORMAT == Q8_0 ? 0x47000000u : 0x43000000u;
        uint32_t a = FORMAT == Q8_0 ? __byte_perm(w[f], magic, 0x7604 + (2 * h) * 16) : __byte_perm(w[f], magic, 0x7044 + (2 * h) * 256);
        uint32_t b = FORMAT == Q8_0 ? __byte_perm(w[f], magic, 0x7604 + (2 * h + 1) * 16) : __byte_perm(w[f], magic, 0x7044 + (2 * h + 1) * 256);
        float d = f < 4 ? d0 : d1, m = f < 4 ? m0 : m1;
        return pack_bf16(fmaf(__uint_as_float(a), d, m), fmaf(__uint_as_float(b), d, m));
    }
};
template <> struct Weights<BF16> {
    const Run<BF16>& run;
    __device__ __forceinline__ Weights(const Run<BF16>& run, int) : run(run) {}
    __device__ __forceinline__ uint32_t pair(int f, int h) const {
        const uint4& w = run.w[f >> 1];
        return f & 1 ? (h ? w.w : w.z) : (h ? w.y : w.x);
    }
};
template <> struct Weights<F16> {
    Weights<BF16> bits;
    __device__ __forceinline__ Weights(const Run<F16>& run, int sub) : bits(run, sub) {}
    __device__ __forceinline__ uint32_t pair(int f, int h) const {
        float2 v = half2_of(bits.pair(f, h));
        return pack_bf16(v.x, v.y);
    }
};
