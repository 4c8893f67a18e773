// Matrix products of a short prompt: C[token][row] = sum over k of W[row][k] * X[token][k] for at most 64 tokens per
// block, with weights in their stored format (quantised ones are converted to bf16 in registers) and f32 sums on tensor
// cores. Weights are read once per 64 tokens, and no scratch memory is written.
//
// A block has 8 warps: `groups` groups of 32 rows each, and the 8 / groups warps of a group split k. A slab is 128
// values of k: lane (g, t) of a warp holds the t-th run of 32 weights of rows g, g + 8, g + 16 and g + 24, for 8 tensor
// core steps of four weights each. A step may use any 16 values of k if X has the same ones, so X is in shared memory
// in that order: four planes per slab, plane `e` with the activations for weights 8e to 8e + 7 of the four runs,
// [token][run][8]. The sums of the warps that split k are added in a fixed order at the end (deterministic).
#include "dequant_fragment.cuh"

constexpr int WARPS = 8, THREADS = 32 * WARPS, MOST = 64, STAGES = 3;
// Floats from one token's sums to the next in shared memory: avoids bank conflicts between the lanes of a warp.
constexpr int SUM_STRIDE = 36;

struct SkinnyArgs {
    Mat w[3];           // stacked
    const bf16* x;      // [tokens][cols]
    void* out;          // [tokens][ldc]
    int tokens, cols, ldc;
    int mode;           // 0: bf16 store, 1: f32 add, 2: f32 store
    int tiles_a, tiles_b;  // row tiles of the first matrix and of the first two
    int groups;         // 1, 2, 4 or 8
};

// Bytes of a plane of a slab; 32 bytes of padding avoid bank conflicts between copies to adjacent planes.
__host__ __device__ constexpr int plane_bytes(int tokens) { return tokens * 64 + 32; }

// A thread's copies of X: the same 16 bytes of each stage, of every `stride`-th token.
struct Copier {
    const bf16* from;
    uint32_t to;
    int first, stride, left, k, depth;

    __device__ __forceinline__ Copier(const SkinnyArgs& p, int depths, int plane) {
        int pieces = 16 * depths, piece = threadIdx.x & (pieces - 1), slab = piece >> 4, run = piece >> 2 & 3, e = piece & 3;
        int first_token = blockIdx.y * MOST;
        first = threadIdx.x / pieces, stride = THREADS / pieces, left = p.tokens - first_token;
        k = slab * 128 + run * 32 + e * 8, depth = 128 * depths;
        from = p.x + (size_t)(first_token + first) * p.cols + k;
        to = (slab * 4 + e) * plane + first * 64 + run * 16;
    }
    // Issues the copies of the next stage, for `room` tokens.
    __device__ __forceinline__ void copy(const SkinnyArgs& p, int room, uint32_t stage) {
        const bf16* src = from;
#pragma unroll 4
        for (int token = first; token < room; token += stride, src += (size_t)stride * p.cols) {
            bool there = token < left && k < p.cols;
            copy16(stage + to + (token - first) * 64, there ? src : p.x, there);
        }
        k += depth, from += depth;
    }
};

template <int FORMAT, int TILES>
__device__ __forceinline__ void multiply(const SkinnyArgs& p, const Mat& m, int first_row, int warp_group, int depth, int depths, const char* smem) {
    constexpr int ROOM = TILES * 8, PLANE = plane_bytes(ROOM);
    int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, warp = threadIdx.x >> 5;
    int stage = 4 * PLANE * depths, runs = p.cols / 32, steps = (runs + 4 * depths - 1) / (4 * depths);
    uint32_t base = shared_address(smem);
    size_t from[4];
#pragma unroll
    for (int r = 0; r < 4; r++) from[r] = (size_t)min(first_row + warp_group * 32 + r * 8 + g, m.rows - 1) * runs;
    Run<FORMAT> now[4], next[4];
    int at = depth * 4 + t;
#pragma unroll
    for (int r = 0; r < 4; r++) next[r].load(m, from[r] + at, at < runs);
    Copier copier(p, depths, PLANE);
    pdl_wait();
    pdl_launch();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) copier.copy(p, ROOM, base + s * stage);
        commit();
    }
    float acc[2][TILES][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < TILES; j++) acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0.f;
    for (int step = 0, slot = 0; step < steps; step++, slot = slot + 1 == STAGES ? 0 : slot + 1) {
        wait_group<STAGES - 2>();
        __syncthreads();
        int sub = at & 7;
#pragma unroll
        for (int r = 0; r < 4; r++) now[r] = next[r];
        // Issued before the loads, because waiting for a load also waits for earlier requests.
        int to = slot == 0 ? STAGES - 1 : slot - 1;
        if (step + STAGES - 1 < steps) copier.copy(p, ROOM, base + to * stage);
        commit();
        at += 4 * depths;
        if (step + 1 < steps) {
#pragma unroll
            for (int r = 0; r < 4; r++) next[r].load(m, from[r] + at, at < runs);
        }
        const char* slab = smem + slot * stage + depth * 4 * PLANE + g * 64 + t * 16;
        const Weights<FORMAT> w[4] = {{now[0], sub}, {now[1], sub}, {now[2], sub}, {now[3], sub}};
#pragma unroll
        for (int e = 0; e < 4; e++) {
            uint4 b[TILES];
#pragma unroll
            for (int j = 0; j < TILES; j++) b[j] = *(const uint4*)(slab + e * PLANE + j * 512);
            uint32_t a[2][2][4];
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int i = 0; i < 2; i++) a[r >> 1][i][r & 1] = w[r].pair(2 * e + i, 0), a[r >> 1][i][(r & 1) + 2] = w[r].pair(2 * e + i, 1);
            // Consecutive products use different sums: a dependent one would wait out the latency of an mma.
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < TILES; j++) mma(acc[i][j], a[i][0], b[j].x, b[j].y);
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < TILES; j++) mma(acc[i][j], a[i][1], b[j].z, b[j].w);
        }
    }
    // The ring is no longer needed: the sums overwrite it.
    wait_group<0>();
    __syncthreads();
    float* sums = (float*)smem + warp * MOST * SUM_STRIDE;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int v = 0; v < 4; v++) sums[(j * 8 + 2 * t + (v & 1)) * SUM_STRIDE + i * 16 + g + (v >> 1) * 8] = acc[i][j][v];
}

__device__ __forceinline__ void store(const SkinnyArgs& p, size_t at, float v) {
    if (p.mode == 0) ((bf16*)p.out)[at] = __float2bfloat16(v);
    else if (p.mode == 1) ((float*)p.out)[at] += v;
    else ((float*)p.out)[at] = v;
}

template <int TILES> __device__ __forceinline__ void skinny(const SkinnyArgs& p) {
    extern __shared__ __align__(128) char smem[];
    int warp = threadIdx.x >> 5, group = warp % p.groups, depths = WARPS / p.groups, depth = warp / p.groups;
    int tile = blockIdx.x, which = tile < p.tiles_a ? 0 : tile < p.tiles_b ? 1 : 2;
    const Mat& m = which == 0 ? p.w[0] : which == 1 ? p.w[1] : p.w[2];
    int shift = 4 + __ffs(p.groups), rows = 1 << shift, first = (tile - (which == 0 ? 0 : which == 1 ? p.tiles_a : p.tiles_b)) * rows;
#define CASE(F) \
    case F: multiply<F, TILES>(p, m, first, group, depth, depths, smem); break;
    switch (m.format) { CASE(F16) CASE(BF16) CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q4_K) CASE(Q5_K) CASE(Q6_K) }
#undef CASE
    __syncthreads();
    int first_token = blockIdx.y * MOST, tokens = min(TILES * 8, p.tokens - first_token);
    int column = first + (which > 0 ? p.w[0].rows : 0) + (which > 1 ? p.w[1].rows : 0);
    for (int id = threadIdx.x; id < rows * tokens; id += THREADS) {
        int token = id >> shift, row = id & (rows - 1);
        if (first + row >= m.rows) continue;
        const float* sums = (const float*)smem + ((row >> 5) * MOST + token) * SUM_STRIDE + (row & 31);
        float v = 0.f;
        for (int d = 0; d < depths; d++) v += sums[d * p.groups * MOST * SUM_STRIDE];
        store(p, (size_t)(first_token + token) * p.ldc + column + row, v);
    }
}

// One kernel per maximum number of tokens in a block.
extern "C" __global__ void __launch_bounds__(THREADS, 1) skinny_16(const __grid_constant__ SkinnyArgs p) { skinny<2>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) skinny_32(const __grid_constant__ SkinnyArgs p) { skinny<4>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) skinny_64(const __grid_constant__ SkinnyArgs p) { skinny<8>(p); }
