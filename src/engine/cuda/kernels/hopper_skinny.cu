// Matrix products of a short prompt with quantised weights with Hopper instructions; other GPUs use skinny.cu.
// C[token][row] = sum over k of W[row][k] * X[token][k] for at most TOKENS tokens per block.
//
// The weights are the left operand, 64 rows per tensor core product: read from GPU memory into registers and converted
// to bf16 there. The activations are the right operand in shared memory; one thread copies them, 64 columns at a time.
// k is processed in slabs of 128: lane (g, t) of a warp holds the t-th run of 32 weights of its rows, for 8 tensor core
// steps of four weights each. A step may use any 16 values of k if X has the same ones, so X is in the order of
// `slot_of`. The blocks of a cluster split k, and their sums are added in a fixed order (deterministic).
#include "hopper.cuh"
#include "dequant_fragment.cuh"

constexpr int THREADS = 384, MULTIPLYING = 256, STAGES = 10;

struct HopperSkinnyArgs {
    TensorMap x;        // [tokens][cols] in the order of slot_of, tiles of 64 columns and TOKENS rows
    Mat w[3];           // stacked
    void* out;          // [tokens][ldc]
    int tokens, cols, ldc;
    int mode;           // 0: bf16 store, 1: f32 add, 2: f32 store
    int tiles_a, tiles_b;  // row tiles of the first matrix and of the first two
    int share;          // blocks of a cluster, which split k
};

// A block's part of the product: ROWS rows, and the range of k in slabs of 128.
template <int ROWS> struct Part {
    int which, first_row, column, first, depth;

    __device__ __forceinline__ Part(const HopperSkinnyArgs& p) {
        int tile = blockIdx.x / p.share, rank = blockIdx.x % p.share, all = p.cols / 128;
        which = tile < p.tiles_a ? 0 : tile < p.tiles_b ? 1 : 2;
        first_row = (tile - (which == 0 ? 0 : which == 1 ? p.tiles_a : p.tiles_b)) * ROWS;
        column = first_row + (which > 0 ? p.w[0].rows : 0) + (which > 1 ? p.w[1].rows : 0);
        first = all * rank / p.share, depth = all * (rank + 1) / p.share - first;
    }
};

struct Ring {
    uint32_t memory, full, empty;
};

// The consumer warpgroups: SIDES times 64 rows each, in sequence.
template <int FORMAT, int TOKENS, int SIDES>
__device__ __forceinline__ void multiply(const HopperSkinnyArgs& p, const Part<128 * SIDES>& part, const Mat& m, const Ring& ring, float (&sums)[SIDES][TOKENS / 8][4]) {
    constexpr int TILE = TOKENS * 128;
    int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, warp = threadIdx.x >> 5 & 3, group = threadIdx.x / 128 - 1;
    size_t from[2 * SIDES];
#pragma unroll
    for (int r = 0; r < 2 * SIDES; r++) from[r] = (size_t)min(part.first_row + group * 64 * SIDES + (r >> 1) * 64 + warp * 16 + (r & 1) * 8 + g, m.rows - 1) * (p.cols / 32) + t;
    int slab = part.first, end = slab + part.depth;
    Run<FORMAT> ahead[2][2 * SIDES];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int r = 0; r < 2 * SIDES; r++) ahead[i][r].template load<true>(m, from[r] + (slab + i) * 4, slab + i < end);
    uint32_t a[2][4][4];
    int stage = 0, parity = 0, last = -1;
    for (; slab < end; slab++) {
        Run<FORMAT> now[2 * SIDES];
#pragma unroll
        for (int r = 0; r < 2 * SIDES; r++) now[r] = ahead[0][r], ahead[0][r] = ahead[1][r];
#pragma unroll
        for (int r = 0; r < 2 * SIDES; r++) ahead[1][r].template load<true>(m, from[r] + (slab + 2) * 4, slab + 2 < end);
        uint32_t x = ring.memory + stage * TILE;
        int sub = slab * 4 + t & 7;
#pragma unroll
        for (int j = 0; j < SIDES; j++) {
            const Weights<FORMAT> low(now[2 * j], sub), high(now[2 * j + 1], sub);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                // All groups of products but the newest are complete: their registers can be overwritten.
                products_wait<1>();
                // After the second wait of a slab the previous slab is complete: release its two stages.
                if (j == 0 && h == 1 && last >= 0 && lane == 0) barrier_arrive(ring.empty + 8 * last), barrier_arrive(ring.empty + 8 * last + 8);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    a[h][i][0] = low.pair(4 * h + i, 0), a[h][i][1] = high.pair(4 * h + i, 0);
                    a[h][i][2] = low.pair(4 * h + i, 1), a[h][i][3] = high.pair(4 * h + i, 1);
                }
                if (j == 0 && h == 0) barrier_wait(ring.full + 8 * stage, parity), barrier_wait(ring.full + 8 * stage + 8, parity);
                products_begin();
#pragma unroll
                for (int i = 0; i < 4; i++) product(sums[j], a[h][i], tile_at(x + h * TILE + i * 32));
                products_end();
            }
        }
        last = stage;
        stage += 2;
        if (stage == STAGES) stage = 0, parity ^= 1;
    }
    products_wait<0>();
}

__device__ __forceinline__ void store(const HopperSkinnyArgs& p, size_t at, float4 v) {
    if (p.mode == 0) {
        *(uint2*)((bf16*)p.out + at) = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
        return;
    }
    float4* to = (float4*)((float*)p.out + at);
    if (p.mode == 1) {
        float4 before = *to;
        v.x += before.x, v.y += before.y, v.z += before.z, v.w += before.w;
    }
    *to = v;
}

template <int TOKENS, int SIDES> __device__ __forceinline__ void skinny(const HopperSkinnyArgs& p) {
    // (Four floats of padding between two tokens' sums in shared memory.)
    constexpr int STAGE = TOKENS * 128, ROWS = 128 * SIDES, SUM_STRIDE = ROWS + 4;
    extern __shared__ char smem[];
    __shared__ uint64_t barriers[2 * STAGES];
    Ring ring = {(shared_address(smem) + 1023) & ~1023u, shared_address(barriers), shared_address(barriers) + 8 * STAGES};
    Part<ROWS> part(p);
    const Mat& m = part.which == 0 ? p.w[0] : part.which == 1 ? p.w[1] : p.w[2];
    int first_token = blockIdx.y * TOKENS;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) barrier_init(ring.full + 8 * i, 1), barrier_init(ring.empty + 8 * i, MULTIPLYING / 32);
        barriers_made();
    }
    __syncthreads();
    pdl_launch();
    if (threadIdx.x < 128) {
        registers_down<24>();
        if (threadIdx.x == 0) {
            pdl_wait();
            int stage = 0, parity = 1;
            for (int n = 0; n < 2 * part.depth; n++) {
                barrier_wait(ring.empty + 8 * stage, parity);
                barrier_expect(ring.full + 8 * stage, STAGE);
                copy_tile(ring.memory + stage * STAGE, p.x, part.first * 128 + n * 64, first_token, ring.full + 8 * stage);
                if (++stage == STAGES) stage = 0, parity ^= 1;
            }
        }
        __syncwarp();
    } else {
        registers_up<240>();
        float sums[SIDES][TOKENS / 8][4];
#pragma unroll
        for (int j = 0; j < SIDES; j++)
#pragma unroll
            for (int i = 0; i < TOKENS / 8; i++) sums[j][i][0] = sums[j][i][1] = sums[j][i][2] = sums[j][i][3] = 0.f;
#define CASE(F) \
    case F: multiply<F, TOKENS, SIDES>(p, part, m, ring, sums); break;
        switch (m.format) { CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q4_K) CASE(Q5_K) CASE(Q6_K) }
#undef CASE
        // Both warpgroups have finished reading the ring: the sums overwrite it.
        named_sync<MULTIPLYING>(1);
        int lane = threadIdx.x & 31, row = (threadIdx.x / 128 - 1) * 64 * SIDES + (threadIdx.x >> 5 & 3) * 16 + (lane >> 2);
#pragma unroll
        for (int j = 0; j < SIDES; j++)
#pragma unroll
            for (int i = 0; i < TOKENS / 8; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int token = i * 8 + (lane & 3) * 2 + (e & 1);
                    asm volatile("st.shared.f32 [%0], %1;" ::"r"(ring.memory + (token * SUM_STRIDE + row + j * 64 + (e >> 1) * 8) * 4), "f"(sums[j][i][e]) : "memory");
                }
    }
    cluster_sync();
    if (threadIdx.x >= 128) {
        // Before C is read or written, the previous kernel must have ended.
        pdl_wait();
        constexpr int ACROSS = ROWS / 4, AT_ONCE = MULTIPLYING / ACROSS;
        int four = threadIdx.x % ACROSS * 4, tokens = min(TOKENS, p.tokens - first_token), rank = blockIdx.x % p.share;
        for (int token = rank * AT_ONCE + (threadIdx.x - 128) / ACROSS; token < tokens; token += AT_ONCE * p.share) {
            if (part.first_row + four >= m.rows) break;
            uint32_t at = ring.memory + (token * SUM_STRIDE + four) * 4;
            float4 all = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 8
            for (int other = 0; other < p.share; other++) {
                float4 v = cluster_load(place_in(at, other));
                all.x += v.x, all.y += v.y, all.z += v.z, all.w += v.w;
            }
            store(p, (size_t)(first_token + token) * p.ldc + part.column + four, all);
        }
    }
    // A block must not exit while others read its shared memory.
    cluster_sync();
}

// 128 tokens with half as many rows: the sums must fit into registers.
#define KERNEL(TOKENS, SIDES) \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) skinny_hopper_##TOKENS(const __grid_constant__ HopperSkinnyArgs p) { skinny<TOKENS, SIDES>(p); }
KERNEL(16, 2)
KERNEL(64, 2)
KERNEL(128, 1)
