// C[m][n] = A[m][k] * W[n][k]^T with bf16 operands and f32 sums, with Hopper instructions; other GPUs use
// prompt_ops.cu.
//
// A persistent kernel: one block per multiprocessor loops over tiles of 128 rows of A and N of W. One producer thread
// fills the ring, across tile borders; two consumer warpgroups multiply, 64 rows of A each.
#include "common.cuh"
#include "hopper.cuh"

constexpr int ROWS = 128, DEPTH = 64, THREADS = 384;

struct HopperGemmArgs {
    TensorMap a, w;  // tiles of 64 columns and ROWS rows, of 64 columns and N rows
    void* c;         // [m][ldc]
    int m, n, k, ldc;
    int mode;        // 0: bf16 store, 1: f32 add, 2: f32 store
};

// Stages of the ring: as many as fit into 200 KB.
__host__ __device__ constexpr int stages(int columns) { return 200 * 1024 / ((ROWS + columns) * DEPTH * 2); }

// Order of the tiles of C: down the rows first, so that concurrent blocks share tiles of W.
template <int N> struct Tiles {
    int down, count;
    __device__ __forceinline__ Tiles(const HopperGemmArgs& p) : down((p.m + ROWS - 1) / ROWS), count(down * ((p.n + N - 1) / N)) {}
    __device__ __forceinline__ int row(int tile) const { return tile % down * ROWS; }
    __device__ __forceinline__ int column(int tile) const { return tile / down * N; }
};

// Stores or adds four adjacent f32 sums of a row; n and ldc must be multiples of 4.
__device__ __forceinline__ void store(const HopperGemmArgs& p, size_t at, float4 v) {
    float4* to = (float4*)((float*)p.c + at);
    // No contention: atomicAdd without a used result does not stall, as load and store would.
    if (p.mode == 1) atomicAdd(to, v);
    else *to = v;
}

// Writes a warpgroup's sums to C: rows `row` and `row` + 8 of this lane, columns from `column` on.
template <int N> __device__ __forceinline__ void store_tile(const HopperGemmArgs& p, const float (&sums)[N / 8][4], int row, int column) {
    int t = threadIdx.x & 3;
    // Lane pairs exchange halves, so that each lane has four adjacent columns.
    int four = (t & 1) * 8 + (t >> 1) * 4;
    bool whole = p.ldc % 4 == 0 && p.n % 4 == 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        bool there = row + h * 8 < p.m;
        size_t at = (size_t)(row + h * 8) * p.ldc + column;
        if (p.mode == 0) {
#pragma unroll
            for (int i = 0; i < N / 8; i += 2) {
                uint32_t first = pack_bf16(sums[i][h * 2], sums[i][h * 2 + 1]), second = pack_bf16(sums[i + 1][h * 2], sums[i + 1][h * 2 + 1]);
                uint32_t other = __shfl_xor_sync(~0u, t & 1 ? first : second, 1);
                uint2 both = t & 1 ? make_uint2(other, second) : make_uint2(first, other);
                if (there && column + i * 8 + four < p.n) *(uint2*)((bf16*)p.c + at + i * 8 + four) = both;
            }
        } else if (whole) {
#pragma unroll
            for (int i = 0; i < N / 8; i += 2) {
                float x = t & 1 ? sums[i][h * 2] : sums[i + 1][h * 2], y = t & 1 ? sums[i][h * 2 + 1] : sums[i + 1][h * 2 + 1];
                x = __shfl_xor_sync(~0u, x, 1), y = __shfl_xor_sync(~0u, y, 1);
                float4 v = t & 1 ? make_float4(x, y, sums[i + 1][h * 2], sums[i + 1][h * 2 + 1]) : make_float4(sums[i][h * 2], sums[i][h * 2 + 1], x, y);
                if (there && column + i * 8 + four < p.n) store(p, at + i * 8 + four, v);
            }
        } else {
#pragma unroll
            for (int i = 0; i < N / 8; i++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int to = i * 8 + t * 2 + e;
                    float* c = (float*)p.c + at + to;
                    if (there && column + to < p.n) *c = (p.mode == 1 ? *c : 0.f) + sums[i][h * 2 + e];
                }
        }
    }
}

template <int N> __device__ __forceinline__ void gemm(const HopperGemmArgs& p) {
    constexpr int STAGES = stages(N), SIDE_A = ROWS * DEPTH * 2, STAGE = SIDE_A + N * DEPTH * 2;
    extern __shared__ char smem[];
    __shared__ uint64_t barriers[2 * STAGES];
    uint32_t ring = (shared_address(smem) + 1023) & ~1023u, full = shared_address(barriers), empty = full + 8 * STAGES;
    Tiles<N> tiles(p);
    int steps = (p.k + DEPTH - 1) / DEPTH;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, 8);
        barriers_made();
    }
    __syncthreads();
    int stage = 0, parity = 0;
    auto advance = [&]() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    };
    pdl_launch();
    if (threadIdx.x < 128) {
        registers_down<24>();
        if (threadIdx.x > 0) return;
        pdl_wait();
        for (int tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
            for (int k = 0; k < steps; k++, advance()) {
                uint32_t to = ring + stage * STAGE, done = full + 8 * stage;
                barrier_wait(empty + 8 * stage, parity ^ 1);
                barrier_expect(done, STAGE);
                copy_tile(to, p.a, k * DEPTH, tiles.row(tile), done);
                copy_tile(to + SIDE_A, p.w, k * DEPTH, tiles.column(tile), done);
            }
        }
        return;
    }
    registers_up<240>();
    int group = threadIdx.x / 128 - 1, warp = threadIdx.x >> 5 & 3, lane = threadIdx.x & 31;
    float sums[N / 8][4];
    for (int tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
        uint32_t last = 0;
        // (If this is unrolled, the compiler splits the group of products and waits after each one.)
#pragma unroll 1
        for (int k = 0; k < steps; k++, advance()) {
            uint32_t a = ring + stage * STAGE + group * 64 * 128, w = ring + stage * STAGE + SIDE_A;
            barrier_wait(full + 8 * stage, parity);
            products_begin();
#pragma unroll
            for (int i = 0; i < DEPTH / 16; i++) product(sums, tile_at(a + i * 32), tile_at(w + i * 32), k + i > 0);
            products_end();
            // The products of the previous step are complete: release its stage.
            products_wait<1>();
            if (k > 0 && lane == 0) barrier_arrive(last);
            last = empty + 8 * stage;
        }
        products_wait<0>();
        if (lane == 0) barrier_arrive(last);
        store_tile<N>(p, sums, tiles.row(tile) + group * 64 + warp * 16 + (lane >> 2), tiles.column(tile));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) gemm_hopper_64(const __grid_constant__ HopperGemmArgs p) { gemm<64>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) gemm_hopper_128(const __grid_constant__ HopperGemmArgs p) { gemm<128>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) gemm_hopper_192(const __grid_constant__ HopperGemmArgs p) { gemm<192>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) gemm_hopper_256(const __grid_constant__ HopperGemmArgs p) { gemm<256>(p); }
