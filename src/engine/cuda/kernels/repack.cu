// Repacks raw GGUF tensor bytes into the planes of common.cuh, and dequantises planes to bf16 and f32.
#include "common.cuh"

struct RepackArgs {
    const uint8_t* src;  // raw ggml blocks
    Mat dst;             // planes of the whole matrix
    u64 first;           // index of the first block of 32 weights in this piece
    u64 count;           // blocks of 32 in this piece
    int source;          // ggml type number
    int pad;
};

__device__ __forceinline__ uint32_t word_at(const uint8_t* p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }
__device__ __forceinline__ uint16_t short_at(const uint8_t* p) { return (uint16_t)(p[0] | p[1] << 8); }

// Reorders fifth bits to the high plane of Q5; bit i of `bits` is that of weight i.
__device__ __forceinline__ uint32_t spread5(uint32_t bits) {
    uint32_t out = 0;
#pragma unroll
    for (int i = 0; i < 32; i++) out |= ((bits >> i) & 1u) << (8 * (i & 3) + (i >> 2));
    return out;
}

// Writes 32 values of 6 bits into the Q6_K planes.
__device__ __forceinline__ void store6(const Mat& m, u64 b, const uint8_t q[32]) {
    uint32_t w[4] = {0, 0, 0, 0}, h[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 16; i++) w[i >> 2] |= (uint32_t)((q[i] & 15) | (q[i + 16] & 15) << 4) << (8 * (i & 3));
#pragma unroll
    for (int i = 0; i < 32; i++) h[i >> 4] |= (uint32_t)(q[i] >> 4) << (8 * (i & 3) + 2 * ((i & 15) >> 2));
    ((uint4*)m.main)[b] = make_uint4(w[0], w[1], w[2], w[3]);
    ((uint2*)m.high)[b] = make_uint2(h[0], h[1]);
}

// Repacks the 6-bit scales and mins of Q4_K and Q5_K (12 bytes) into fields of 12 bits.
__device__ __forceinline__ void store_k_header(const Mat& m, u64 super, const uint8_t* p) {
    uint32_t out[3] = {0, 0, 0};
    const uint8_t* q = p + 4;
    for (int s = 0; s < 8; s++) {
        uint32_t sc, mn;
        if (s < 4) sc = q[s] & 63, mn = q[s + 4] & 63;
        else sc = (q[s + 4] & 15) | (q[s - 4] >> 6) << 4, mn = (q[s + 4] >> 4) | (q[s] >> 6) << 4;
        u64 field = (u64)(sc | mn << 6) << ((12 * s) & 31);
        int word = (12 * s) >> 5;
        out[word] |= (uint32_t)field;
        if (word < 2) out[word + 1] |= (uint32_t)(field >> 32);
    }
    ((uint4*)m.scale)[super] = make_uint4(word_at(p), out[0], out[1], out[2]);
}

extern "C" __global__ void repack(RepackArgs a) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.count) return;
    u64 b = a.first + i;
    const Mat& m = a.dst;
    int sub = (int)(i & 7);  // pieces begin at a super-block
    uint4* main = (uint4*)m.main + b;
    switch (a.source) {
    case 2: {  // Q4_0
        const uint8_t* p = a.src + i * 18;
        ((uint16_t*)m.scale)[b] = short_at(p);
        *main = make_uint4(word_at(p + 2), word_at(p + 6), word_at(p + 10), word_at(p + 14));
        break;
    }
    case 3: {  // Q4_1
        const uint8_t* p = a.src + i * 20;
        ((uint32_t*)m.scale)[b] = word_at(p);
        *main = make_uint4(word_at(p + 4), word_at(p + 8), word_at(p + 12), word_at(p + 16));
        break;
    }
    case 6: {  // Q5_0
        const uint8_t* p = a.src + i * 22;
        ((uint16_t*)m.scale)[b] = short_at(p);
        ((uint32_t*)m.high)[b] = spread5(word_at(p + 2));
        *main = make_uint4(word_at(p + 6), word_at(p + 10), word_at(p + 14), word_at(p + 18));
        break;
    }
    case 7: {  // Q5_1
        const uint8_t* p = a.src + i * 24;
        ((uint32_t*)m.scale)[b] = word_at(p);
        ((uint32_t*)m.high)[b] = spread5(word_at(p + 4));
        *main = make_uint4(word_at(p + 8), word_at(p + 12), word_at(p + 16), word_at(p + 20));
        break;
    }
    case 8: {  // Q8_0
        const uint8_t* p = a.src + i * 34;
        ((uint16_t*)m.scale)[b] = short_at(p);
        *main = make_uint4(word_at(p + 2), word_at(p + 6), word_at(p + 10), word_at(p + 14));
        ((uint4*)m.high)[b] = make_uint4(word_at(p + 18), word_at(p + 22), word_at(p + 26), word_at(p + 30));
        break;
    }
    case 12:    // Q4_K
    case 13: {  // Q5_K
        const bool five = a.source == 13;
        const uint8_t* p = a.src + (i >> 3) * (five ? 176 : 144);
        if (sub == 0) store_k_header(m, b >> 3, p);
        const uint8_t* q = p + (five ? 48 : 16) + (sub >> 1) * 32;
        int shift = (sub & 1) * 4;
        uint32_t w[4] = {0, 0, 0, 0};
        for (int l = 0; l < 16; l++)
            w[l >> 2] |= (uint32_t)(((q[l] >> shift) & 15) | ((q[l + 16] >> shift) & 15) << 4) << (8 * (l & 3));
        *main = make_uint4(w[0], w[1], w[2], w[3]);
        if (five) {
            uint32_t bits = 0;
            for (int l = 0; l < 32; l++) bits |= (uint32_t)((p[16 + l] >> sub) & 1) << l;
            ((uint32_t*)m.high)[b] = spread5(bits);
        }
        break;
    }
    case 14: {  // Q6_K
        const uint8_t* p = a.src + (i >> 3) * 210;
        int n = sub >> 2, part = sub & 3;
        uint8_t q[32];
#pragma unroll
        for (int l = 0; l < 32; l++) {
            uint8_t low = p[n * 64 + l + (part & 1) * 32];
            q[l] = (uint8_t)((part & 2 ? low >> 4 : low & 15) | ((p[128 + n * 32 + l] >> (2 * part)) & 3) << 4);
        }
        store6(m, b, q);
        ((uint16_t*)m.scale)[b] = short_at(p + 192 + sub * 2);
        if (sub == 0) ((uint16_t*)m.extra)[b >> 3] = short_at(p + 208);
        break;
    }
    case 11: {  // Q3_K: 3 bits and 6-bit scales, exactly representable as Q6_K
        const uint8_t* p = a.src + (i >> 3) * 110;
        int n = sub >> 2, part = sub & 3;
        uint8_t q[32];
#pragma unroll
        for (int l = 0; l < 32; l++) {
            int two = (p[32 + n * 32 + l] >> (2 * part)) & 3;
            q[l] = (uint8_t)(two - ((p[l] >> sub) & 1 ? 0 : 4) + 32);
        }
        store6(m, b, q);
        uint16_t both = 0;
        for (int h = 0; h < 2; h++) {
            int s = sub * 2 + h;
            int low = s < 8 ? p[96 + s] & 15 : p[96 + s - 8] >> 4;
            int scale = (low | ((p[96 + 8 + (s & 3)] >> (2 * (s >> 2))) & 3) << 4) - 32;
            both |= (uint16_t)((scale & 0xff) << (8 * h));
        }
        ((uint16_t*)m.scale)[b] = both;
        if (sub == 0) ((uint16_t*)m.extra)[b >> 3] = short_at(p + 108);
        break;
    }
    case 10: {  // Q2_K: no other format can represent its mins, so it is converted to BF16
        const uint8_t* p = a.src + (i >> 3) * 84;
        float d = __half2float(__ushort_as_half(short_at(p + 80))), dmin = __half2float(__ushort_as_half(short_at(p + 82)));
        int n = sub >> 2, part = sub & 3;
        bf16* out = (bf16*)m.main + b * 32;
        for (int l = 0; l < 32; l++) {
            uint8_t sc = p[sub * 2 + (l >> 4)];
            out[l] = __float2bfloat16(d * (float)(sc & 15) * (float)((p[16 + n * 32 + l] >> (2 * part)) & 3) - dmin * (float)(sc >> 4));
        }
        break;
    }
    }
}

struct DequantiseArgs {
    Mat m;
    bf16* out;
    u64 first, count;  // blocks of 32
};
// Four threads per block of weights, so that adjacent threads write adjacent words.
extern "C" __global__ void dequantise_rows(DequantiseArgs a) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.count * 4) return;
    size_t b = a.first + (i >> 2);
    int part = i & 3;
    float v[8];
#define CASE(F) \
    case F: dequantise_part<F>(a.m, b, part, v); break;
    switch (a.m.format) {
        CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q4_K) CASE(Q5_K) CASE(Q6_K)
    case BF16:
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = __bfloat162float(((const bf16*)a.m.main)[b * 32 + part * 8 + k]);
        break;
    case F16:
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = __half2float(((const __half*)a.m.main)[b * 32 + part * 8 + k]);
        break;
    default:
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = ((const float*)a.m.main)[b * 32 + part * 8 + k];
    }
#undef CASE
    ((uint4*)a.out)[i] = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

// Embeds the tokens of a prompt, or (tokens == null) the decode loop's token, which begins a step.
struct EmbedArgs {
    Mat m;
    const int* tokens;
    float* out;  // rows of cols floats
    State* state;
    uint32_t* epoch;  // of several GPUs (exchange.cuh), else null: a step takes `epochs` of them
    int epochs, pad;
};
extern "C" __global__ void embed(EmbedArgs a) {
    pdl_launch();
    pdl_wait();
    int row = blockIdx.y;
    int token = a.tokens ? a.tokens[row] : a.state->token;
    if (!a.tokens && blockIdx.x == 0 && threadIdx.x == 0) {
        a.state->best = 0;
        if (a.epoch) *a.epoch += a.epochs;
    }
    int blocks = a.m.cols / 32, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= blocks || token < 0 || token >= a.m.rows) return;
    float v[32];
    dequantise(a.m, (size_t)token * blocks + i, v);
    float4* out = (float4*)(a.out + (size_t)row * a.m.cols + i * 32);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = make_float4(v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]);
}

// Reads `count` 16-byte words, to measure the GPU's read bandwidth.
struct ReadArgs {
    const uint4* src;
    uint32_t* out;
    u64 count;
};
extern "C" __global__ void read_bandwidth(ReadArgs a) {
    uint32_t sum = 0;
    u64 stride = (u64)gridDim.x * blockDim.x, i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 7 * stride < a.count; i += 8 * stride) {
        uint4 v[8];
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = load16(a.src + i + k * stride);
#pragma unroll
        for (int k = 0; k < 8; k++) sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    if (sum == 0x12345678u) *a.out = sum;  // keeps the compiler from removing the loads
}
