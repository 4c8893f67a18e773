// Logits → token on the device, in the order of src/engine/sampler.rs: penalties, top-k, top-p, min-p, temperature,
// draw. One block. All filters keep a prefix of the ranking, so each is a threshold on the distance from the best
// logit. With a top-k of at most MOST the candidates are ranked and the draw equals the CPU's; otherwise they are not
// ranked: thresholds come from histograms, and the draw accumulates probabilities by token id.
#include "common.cuh"

#define BLOCK 1024
#define BINS 2048
#define LIST 4096
#define MOST 1024

struct SampleArgs {
    float* logits;
    int vocab;
    int history_capacity;
    State* state;
    int* history;  // ring of the last tokens
    int* out;      // ring in host memory
    int out_capacity, pad;
};

__device__ __forceinline__ float distance(float top, float l) {
    if (l != l) l = -INFINITY;  // NaN is never drawn, like -inf
    return l == top ? 0.f : top - l;
}

// Exclusive prefix sum over the block; `total` is set to the sum of all.
template <typename T> __device__ T block_scan(T v, T* scratch, T& total) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    T x = v;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
        T y = __shfl_up_sync(~0u, x, o);
        if (lane >= o) x += y;
    }
    __syncthreads();
    if (lane == 31) scratch[warp] = x;
    __syncthreads();
    T before = 0, all = 0;
    for (int w = 0; w < BLOCK / 32; w++) {
        if (w < warp) before += scratch[w];
        all += scratch[w];
    }
    total = all;
    return before + x - v;
}

// Returns the first of BINS bins at which the running sum reaches `wanted`, or BINS; `before` gets the sum before it.
template <typename T> __device__ int find_bin(const T* bins, T wanted, T* scratch, T& before) {
    __shared__ int found;
    __shared__ T found_before;
    if (threadIdx.x == 0) found = BINS;
    T a = bins[2 * threadIdx.x], b = bins[2 * threadIdx.x + 1], total;
    T s = block_scan<T>(a + b, scratch, total);
    if (s < wanted && s + a >= wanted) found = 2 * threadIdx.x, found_before = s;
    else if (s + a < wanted && s + a + b >= wanted) found = 2 * threadIdx.x + 1, found_before = s + a;
    __syncthreads();
    int bin = found;
    before = bin < BINS ? found_before : total;
    __syncthreads();
    return bin;
}

// Distance up to `limit` at which the running count (mass == false) or mass reaches `wanted`: two rounds of histograms,
// the second within the bin found by the first. Distances closer than range / 2^22 count as equal.
__device__ float threshold(const SampleArgs& p, float top, float range, float limit, bool mass, float share, u64 wanted, u64* bins, u64* scratch) {
    float lo = 0.f, width = range / BINS;
    u64 before = 0;
    for (int level = 0; level < 2; level++) {
        for (int i = threadIdx.x; i < BINS; i += BLOCK) bins[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < p.vocab; i += BLOCK) {
            float z = distance(top, p.logits[i]), at = (z - lo) / width;
            if (at < 0.f || at >= BINS || z > limit) continue;
            atomicAdd(bins + (int)at, mass ? (u64)(__expf(-z) * 4294967296.f) : 1ull);
        }
        __syncthreads();
        if (mass && level == 0) {
            u64 mine = bins[2 * threadIdx.x] + bins[2 * threadIdx.x + 1], total;
            block_scan<u64>(mine, scratch, total);
            wanted = (u64)((double)total * share);
            if (wanted == 0) wanted = 1;
        }
        u64 sum;
        int bin = find_bin<u64>(bins, wanted - before, scratch, sum);
        if (bin == BINS) return level == 0 ? limit : lo + width * BINS;
        before += sum;
        lo += bin * width;
        if (level == 1) return lo + width;
        width /= BINS;
    }
    return limit;
}

__device__ double unit(const State* s) {
    u64 z = s->seed + (u64)(s->step + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    return (double)(z >> 11) / 9007199254740992.0;
}

__device__ void penalise(const SampleArgs& p) {
    State* s = p.state;
    int n = min(min(s->repeat_last_n, s->history_len), p.history_capacity), first = s->history_len - n;
    for (int i = threadIdx.x; i < n; i += BLOCK) {
        int token = p.history[(first + i) % p.history_capacity], count = 0;
        bool seen = false;
        for (int j = 0; j < n; j++) {
            bool same = p.history[(first + j) % p.history_capacity] == token;
            count += same, seen |= same && j < i;
        }
        if (seen || token < 0 || token >= p.vocab) continue;
        float l = p.logits[token];
        l = l <= 0.f ? l * s->repeat_penalty : l / s->repeat_penalty;
        p.logits[token] = l - (count * s->frequency_penalty + s->presence_penalty);
    }
    __syncthreads();
}

// Packed argmax of the logits after the penalties; every thread gets it.
__device__ u64 block_best(const SampleArgs& p, u64* scratch) {
    u64 best = 0;
    for (int i = threadIdx.x; i < p.vocab; i += BLOCK) best = max(best, best_key(fmaxf(p.logits[i], -INFINITY), i));
#pragma unroll
    for (int o = 16; o; o >>= 1) best = max(best, __shfl_xor_sync(~0u, best, o));
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = best;
    __syncthreads();
    for (int w = 0; w < BLOCK / 32; w++) best = max(best, scratch[w]);
    __syncthreads();
    return best;
}

// Ranks the candidates in `list` (distance, id); returns false if more than LIST are in the bins.
__device__ bool rank(const SampleArgs& p, float top, float range, int k, u64* list, uint32_t* bins, uint32_t* scratch, int& count) {
    __shared__ int filled;
    for (int i = threadIdx.x; i < BINS; i += BLOCK) bins[i] = 0;
    if (threadIdx.x == 0) filled = 0;
    __syncthreads();
    float per = BINS / range;
    for (int i = threadIdx.x; i < p.vocab; i += BLOCK) {
        float at = distance(top, p.logits[i]) * per;
        if (at < BINS) atomicAdd(bins + (int)at, 1u);
    }
    __syncthreads();
    uint32_t before;
    int bin = min(find_bin<uint32_t>(bins, (uint32_t)k, scratch, before), BINS - 1);
    for (int i = threadIdx.x; i < p.vocab; i += BLOCK) {
        float z = distance(top, p.logits[i]), at = z * per;
        if (at >= BINS || (int)at > bin) continue;
        int slot = atomicAdd(&filled, 1);
        if (slot < LIST) list[slot] = (u64)__float_as_uint(z) << 32 | (uint32_t)i;
    }
    __syncthreads();
    count = filled;
    if (count > LIST) return false;
    int size = 32;
    while (size < count) size <<= 1;
    for (int i = count + threadIdx.x; i < size; i += BLOCK) list[i] = ~0ull;
    __syncthreads();
    for (int span = 2; span <= size; span <<= 1)
        for (int step = span >> 1; step; step >>= 1) {
            for (int i = threadIdx.x; i < size / 2; i += BLOCK) {
                int a = 2 * i - (i & (step - 1)), b = a + step;
                u64 x = list[a], y = list[b];
                if ((x > y) == ((a & span) == 0)) list[a] = y, list[b] = x;
            }
            __syncthreads();
        }
    count = min(count, k);
    return true;
}

// Draws from the first `n` ranked candidates.
__device__ int draw_ranked(const State* s, const u64* list, int n, float* weights) {
    for (int i = threadIdx.x; i < n; i += BLOCK) weights[i] = expf(-__uint_as_float((uint32_t)(list[i] >> 32)));
    __syncthreads();
    __shared__ int kept;
    if (threadIdx.x == 0) {
        int keep = n;
        if (s->top_p < 1.f) {
            double total = 0., sum = 0.;
            for (int i = 0; i < n; i++) total += weights[i];
            for (int i = 0; i < n; i++) {
                sum += weights[i];
                if (sum >= (double)s->top_p * total) { keep = i + 1; break; }
            }
        }
        if (s->min_p > 0.f) {
            float most = -logf(fminf(s->min_p, 1.f));
            while (keep > 1 && __uint_as_float((uint32_t)(list[keep - 1] >> 32)) > most) keep--;
        }
        kept = keep;
    }
    __syncthreads();
    n = kept;
    for (int i = threadIdx.x; i < n; i += BLOCK) weights[i] = expf(-__uint_as_float((uint32_t)(list[i] >> 32)) / s->temperature);
    __syncthreads();
    int token = (int)(uint32_t)list[0];
    if (threadIdx.x == 0) {
        double total = 0.;
        for (int i = 0; i < n; i++) total += weights[i];
        double left = unit(s) * total;
        for (int i = 0; i < n; i++) {
            left -= weights[i];
            if (left < 0.) { token = (int)(uint32_t)list[i]; break; }
        }
    }
    return token;
}

// Draws among all tokens within `limit` of the best, in the order of their ids.
__device__ int draw_by_id(const SampleArgs& p, float top, float limit, int best, double* scratch) {
    __shared__ int token;
    if (threadIdx.x == 0) token = best;
    int per = (p.vocab + BLOCK - 1) / BLOCK, first = threadIdx.x * per, last = min(first + per, p.vocab);
    double mine = 0., total;
    for (int i = first; i < last; i++) {
        float z = distance(top, p.logits[i]);
        if (z <= limit) mine += __expf(-z / p.state->temperature);
    }
    double before = block_scan<double>(mine, scratch, total), left = unit(p.state) * total - before;
    if (left >= 0. && left < mine) {
        for (int i = first; i < last; i++) {
            float z = distance(top, p.logits[i]);
            if (z > limit) continue;
            left -= __expf(-z / p.state->temperature);
            if (left < 0.) { token = i; break; }
        }
    }
    __syncthreads();
    return token;
}

extern "C" __global__ void __launch_bounds__(BLOCK) sample(const __grid_constant__ SampleArgs p) {
    __shared__ u64 list[LIST];
    __shared__ uint32_t bins[BINS];
    __shared__ u64 scratch[32];
    pdl_launch();
    pdl_wait();
    State* s = p.state;
    bool penalties = s->repeat_last_n > 0 && (s->repeat_penalty != 1.f || s->frequency_penalty != 0.f || s->presence_penalty != 0.f);
    u64 best = s->best;
    if (penalties) {
        penalise(p);
        best = block_best(p, scratch);
    }
    int token = (int)(0xffffffffu - (uint32_t)best);
    float top = unordered((uint32_t)(best >> 32)), temperature = s->temperature;
    // If all logits are NaN or -inf the host receives -1; the next step still runs with a valid token.
    bool nothing = top == -INFINITY;
    if (!nothing && temperature > 0.f && temperature < INFINITY) {
        // A token at a larger distance has a weight below e^-32.
        float range = 32.f * fmaxf(1.f, temperature);
        int k = s->top_k <= 0 ? p.vocab : min(s->top_k, p.vocab), count;
        if (k <= MOST && rank(p, top, range, k, list, bins, (uint32_t*)scratch, count)) {
            token = draw_ranked(s, list, count, (float*)bins);
        } else {
            float limit = INFINITY;
            if (k < p.vocab) limit = threshold(p, top, range, limit, false, 0.f, (u64)k, list, scratch);
            if (s->top_p < 1.f) limit = fminf(limit, threshold(p, top, range, limit, true, s->top_p, 0, list, scratch));
            if (s->min_p > 0.f) limit = fminf(limit, -logf(fminf(s->min_p, 1.f)));
            token = draw_by_id(p, top, limit, token, (double*)scratch);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        p.history[s->history_len % p.history_capacity] = token;
        ((volatile int*)p.out)[s->step % p.out_capacity] = nothing ? -1 : token;
        s->history_len++, s->step++, s->pos++;
        s->token = token;
        __threadfence_system();
    }
}
