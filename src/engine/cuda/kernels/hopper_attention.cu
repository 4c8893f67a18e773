// Prefill attention over the bf16 KV cache with Hopper instructions; other GPUs use attention.cu.
//
// A block has 128 queries of one head. One producer thread copies tiles of 128 keys and their values, double-buffered
// in shared memory. Two consumer warpgroups with 64 queries each alternate, so that the exponentials of one overlap
// with the products of the other (FlashAttention-3, arXiv:2407.08608). Softmax in base 2, sums in f32.
#include "common.cuh"
#include "hopper.cuh"

constexpr int ROWS = 128, KEYS = 128, STAGES = 2, THREADS = 384, MULTIPLYING = 256;
// Tiles are stored in halves of 64 columns: rows of 128 bytes.
constexpr int HALF = 128 * 128;
constexpr float LOG2E = 1.4426950408889634f;
// Named barriers: TURN and TURN + 1 alternate the two warpgroups, BOTH synchronises them.
constexpr int TURN = 1, BOTH = 3;

struct HopperAttentionArgs {
    TensorMap queries;  // [token][q_stride], tiles of 64 columns and ROWS rows
    TensorMap cache;    // all layers' keys and values, [row][head_dim], tiles of 64 columns and KEYS rows
    bf16* out;          // [token][head][head_dim]
    float scale;
    int tokens, position, heads, heads_per_kv, context, window;
    int k_row, v_row;   // first rows of this layer's keys and values in the cache
    int order;          // element order of a row of `out`: slot_of
};

__device__ __forceinline__ float power2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The work of a block, and the shared-memory addresses of its tiles and barriers.
template <int D> struct Work {
    static constexpr int SIDE = KEYS * D * 2;
    uint32_t queries, keys, values;
    uint32_t q_full, k_full, v_full, k_empty, v_empty;  // barriers; one for each stage, 8 bytes apart
    int head, kv_head, first_row, len, first_tile, tiles;

    __device__ __forceinline__ Work(const HopperAttentionArgs& p, uint32_t memory, uint32_t barriers) {
        queries = memory, keys = queries + ROWS * D * 2, values = keys + STAGES * SIDE;
        q_full = barriers, k_full = q_full + 8, v_full = k_full + 8 * STAGES, k_empty = v_full + 8 * STAGES, v_empty = k_empty + 8 * STAGES;
        head = blockIdx.y, kv_head = head / p.heads_per_kv;
        first_row = (gridDim.x - 1 - blockIdx.x) * ROWS;  // the longest first
        len = p.position + min(first_row + ROWS, p.tokens);
        first_tile = p.window > 0 ? max(0, p.position + first_row + 1 - p.window) / KEYS : 0;
        tiles = (len + KEYS - 1) / KEYS - first_tile;
    }
    __device__ __forceinline__ void make_barriers() const {
        barrier_init(q_full, 1);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(k_full + 8 * i, 1), barrier_init(v_full + 8 * i, 1);
            barrier_init(k_empty + 8 * i, MULTIPLYING / 32), barrier_init(v_empty + 8 * i, MULTIPLYING / 32);
        }
        barriers_made();
    }
    // The producer thread: issues each copy as soon as its stage is free.
    __device__ __forceinline__ void copy(const HopperAttentionArgs& p) const {
        barrier_expect(q_full, ROWS * D * 2);
        for (int h = 0; h < D / 64; h++) copy_tile(queries + h * HALF, p.queries, head * D + h * 64, first_row, q_full);
        for (int n = 0; n < tiles; n++) {
            int stage = n % STAGES, parity = n / STAGES + 1 & 1, row = kv_head * p.context + (first_tile + n) * KEYS;
            copy_side(p, keys, k_full, k_empty, p.k_row + row, stage, parity);
            copy_side(p, values, v_full, v_empty, p.v_row + row, stage, parity);
        }
    }
    __device__ __forceinline__ void copy_side(const HopperAttentionArgs& p, uint32_t to, uint32_t full, uint32_t empty, int row, int stage, int parity) const {
        barrier_wait(empty + 8 * stage, parity);
        barrier_expect(full + 8 * stage, SIDE);
        for (int h = 0; h < D / 64; h++) copy_tile(to + stage * SIDE + h * HALF, p.cache, h * 64, row, full + 8 * stage);
    }
    // Zeroes the rows after the last value: NaN there would survive a weight of zero. Called by both warpgroups.
    __device__ __forceinline__ void clear_rest() const {
        int valid = len - (first_tile + tiles - 1) * KEYS;
        if (valid == KEYS) return;
        uint32_t tile = values + (tiles - 1) % STAGES * SIDE;
        for (int i = threadIdx.x % MULTIPLYING; i < (KEYS - valid) * (D / 8); i += MULTIPLYING) {
            int row = valid + i / (D / 8), chunk = i % (D / 8);
            asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(tile + (chunk >> 3) * HALF + row * 128 + ((chunk & 7) << 4)), "r"(0) : "memory");
        }
        publish();
        named_sync<MULTIPLYING>(BOTH);
    }
};

// Online softmax of a warpgroup's queries, two rows per lane: row h is the lane's first row plus 8h.
struct Softmax {
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.f, 0.f}, rescale[2];

    // Turns the scores of a tile into weights; the caller must multiply its earlier sums by `rescale`.
    __device__ __forceinline__ void weigh(float (&s)[KEYS / 8][4], float scale) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = top[h], part = 0.f;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) most = fmaxf(most, fmaxf(s[n][h * 2], s[n][h * 2 + 1]));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
            float low = most == -INFINITY ? 0.f : most * scale;
            rescale[h] = power2(top[h] * scale - low);
            top[h] = most;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                s[n][h * 2] = power2(fmaf(s[n][h * 2], scale, -low)), s[n][h * 2 + 1] = power2(fmaf(s[n][h * 2 + 1], scale, -low));
                part += s[n][h * 2] + s[n][h * 2 + 1];
            }
            sum[h] = sum[h] * rescale[h] + part;
        }
    }
};

// The consumer warpgroups: scores, softmax and weighted values of 64 queries each.
template <int D> __device__ __forceinline__ void attend(const HopperAttentionArgs& p, const Work<D>& w) {
    int group = threadIdx.x / 128 - 1, warp = threadIdx.x >> 5 & 3, lane = threadIdx.x & 31;
    int row0 = w.first_row + group * 64, row = row0 + warp * 16 + (lane >> 2);
    float s[KEYS / 8][4], o[D / 8][4], scale = p.scale * LOG2E;
    uint32_t weights[KEYS / 16][4];
    Softmax softmax;
#pragma unroll
    for (int i = 0; i < D / 8; i++) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.f;

    auto begin_scores = [&](int n) {
        uint32_t q = w.queries + group * 64 * 128, k = w.keys + n % STAGES * w.SIDE;
        products_begin();
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            int at = (i >> 2) * HALF + (i & 3) * 32;
            product(s, tile_at(q + at), tile_at(k + at), i > 0);
        }
        products_end();
    };
    auto begin_values = [&](int n) {
        uint32_t v = w.values + n % STAGES * w.SIDE;
        products_begin();
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++) add_product(o, weights[i], tile_at(v + i * 16 * 128, HALF));
        products_end();
    };
    auto weigh = [&](int n) {
        int key0 = (w.first_tile + n) * KEYS;
        if (key0 + KEYS - 1 > p.position + row0 || p.window > 0) {
#pragma unroll
            for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int key = key0 + i * 8 + (lane & 3) * 2 + (e & 1), at = p.position + row + (e >> 1) * 8;
                    if (key > at || (p.window > 0 && key <= at - p.window)) s[i][e] = -INFINITY;
                }
        }
        softmax.weigh(s, scale);
    };
    auto pack = [&]() {
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++) {
            weights[i][0] = pack_bf16(s[2 * i][0], s[2 * i][1]), weights[i][1] = pack_bf16(s[2 * i][2], s[2 * i][3]);
            weights[i][2] = pack_bf16(s[2 * i + 1][0], s[2 * i + 1][1]), weights[i][3] = pack_bf16(s[2 * i + 1][2], s[2 * i + 1][3]);
        }
    };
    auto give_back = [&](uint32_t empty, int n) {
        if (lane == 0) barrier_arrive(empty + 8 * (n % STAGES));
    };
    auto wait_for = [&](uint32_t full, int n) { barrier_wait(full + 8 * (n % STAGES), n / STAGES & 1); };

    if (group == 1) named_arrive<MULTIPLYING>(TURN);
    barrier_wait(w.q_full, 0);
    wait_for(w.k_full, 0);
    begin_scores(0);
    products_wait<0>();
    give_back(w.k_empty, 0);
    weigh(0);
    pack();
    for (int n = 1; n < w.tiles; n++) {
        wait_for(w.k_full, n);
        named_sync<MULTIPLYING>(TURN + group);
        begin_scores(n);
        wait_for(w.v_full, n - 1);
        begin_values(n - 1);
        named_arrive<MULTIPLYING>(TURN + 1 - group);
        products_wait<1>();
        give_back(w.k_empty, n);
        weigh(n);
        products_wait<0>();
        give_back(w.v_empty, n - 1);
#pragma unroll
        for (int i = 0; i < D / 8; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) o[i][e] *= softmax.rescale[e >> 1];
        pack();
    }
    if (group == 0) named_sync<MULTIPLYING>(TURN);
    wait_for(w.v_full, w.tiles - 1);
    w.clear_rest();
    begin_values(w.tiles - 1);
    products_wait<0>();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = softmax.sum[h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (row + h * 8 >= p.tokens) continue;
        float inv = sum > 0.f ? 1.f / sum : 0.f;
        bf16* to = p.out + (size_t)(row + h * 8) * p.heads * D;
        int column = w.head * D + (lane & 3) * 2;
#pragma unroll
        for (int i = 0; i < D / 8; i++) *(uint32_t*)(to + slot_of(column + i * 8, p.order)) = pack_bf16(o[i][h * 2] * inv, o[i][h * 2 + 1] * inv);
    }
}

template <int D> __device__ __forceinline__ void attention(const HopperAttentionArgs& p) {
    extern __shared__ char smem[];
    __shared__ uint64_t barriers[1 + 4 * STAGES];
    // Swizzled tiles must be aligned to 1024 bytes.
    Work<D> work(p, (shared_address(smem) + 1023) & ~1023u, shared_address(barriers));
    pdl_launch();
    if (threadIdx.x == 0) work.make_barriers();
    __syncthreads();
    if (threadIdx.x < 128) {
        registers_down<24>();
        if (threadIdx.x == 0) {
            pdl_wait();
            work.copy(p);
        }
    } else {
        registers_up<240>();
        attend<D>(p, work);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_hopper_64(const __grid_constant__ HopperAttentionArgs p) { attention<64>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_hopper_128(const __grid_constant__ HopperAttentionArgs p) { attention<128>(p); }
