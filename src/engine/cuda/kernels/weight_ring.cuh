// Streams a warp's weights. A task is a pair of rows, a unit is 16-byte words of both (one or two per lane) with their
// part of the other planes. Units go through a ring in shared memory with `depth` - 1 copies pending at any time, also
// across task borders. (Prefetching more than the ring into the L2 was 10 % slower on an H100.)
#pragma once
#include "activations.cuh"

enum { QKV = 0, GATE_UP = 1, RESIDUAL = 2, LOGITS = 3, SUM = 4 };

// The formats that a kernel is compiled for, one bit each. A single format is a compile-time constant, which halves the
// instructions per unit.
__host__ __device__ constexpr uint32_t only(int format) { return 1u << format; }
constexpr uint32_t PLAIN_SET = 7, QUANTISED_SET = 0x7f8, K_SET = 1u << Q4_K | 1u << Q6_K;
__host__ __device__ constexpr int kinds_of(uint32_t set) { return (set & PLAIN_SET ? PLAIN : 0) | (set & QUANTISED_SET ? QUANTISED : 0); }
// Words per lane and row in a unit: one if Q8_0, whose blocks are twice as long, is in the set.
__host__ __device__ constexpr int steps_of(uint32_t set) { return set & 1u << Q8_0 ? 1 : 2; }
// The format of a matrix; a constant if the set has one format.
template <uint32_t SET> __device__ __forceinline__ int known(int format) {
    if constexpr ((SET & (SET - 1)) == 0) {
        return SET == only(F32) ? F32 : SET == only(F16) ? F16 : SET == only(BF16) ? BF16 : SET == only(Q4_0) ? Q4_0 : SET == only(Q4_1) ? Q4_1 : SET == only(Q5_0) ? Q5_0
             : SET == only(Q5_1) ? Q5_1 : SET == only(Q8_0) ? Q8_0 : SET == only(Q4_K) ? Q4_K : SET == only(Q5_K) ? Q5_K : Q6_K;
    }
    return format;
}

// 16-byte words of a row's main plane.
__device__ __forceinline__ int row_words(int format, int cols) { return format == F32 ? cols / 4 : format <= BF16 ? cols / 8 : cols / 32; }

// Bytes of 8 blocks in the planes high, scale and extra, one byte each; Q8_0's high plane is copied with main.
__host__ __device__ constexpr uint32_t side_bytes(int format) {
    return format == Q4_0 || format == Q8_0 ? 16u << 8
         : format == Q4_1 ? 32u << 8
         : format == Q5_0 ? 32u | 16u << 8
         : format == Q5_1 ? 32u | 32u << 8
         : format == Q4_K ? 16u << 8
         : format == Q5_K ? 32u | 16u << 8
         : format == Q6_K ? 64u | 16u << 8 | 2u << 16
         : 0u;
}
// Bytes for one row's part of such a plane in a unit: whole words of 16 bytes, for any alignment. The planes are
// aligned and padded to 256 bytes (layout.rs), so that reading whole words is in bounds.
__host__ __device__ constexpr int side_room(int bytes8, int steps) { return bytes8 ? (bytes8 * 4 * steps + 30) & ~15 : 0; }

// The two rows of a head that form task `t` of head_dim / 2: a pair that rope rotates together.
__device__ __forceinline__ void rope_pair(int t, int rope_half, int neox, int& first, int& second) {
    if (t >= rope_half) first = 2 * t, second = 2 * t + 1;
    else if (neox) first = t, second = t + rope_half;
    else first = 2 * t, second = 2 * t + 1;
}

// A pair of rows.
struct Task {
    int which, ra, rb, in_head;

    template <int MODE> __device__ __forceinline__ void seek(const GemvArgs& p, int t) {
        which = 0, in_head = 0;
        if (MODE == GATE_UP) {
            ra = rb = t;
        } else if (MODE != QKV) {
            ra = 2 * t, rb = min(2 * t + 1, p.a.rows - 1);
        } else {
            int half = p.head_dim / 2, pairs_q = p.a.rows / 2, pairs_k = p.b.rows / 2;
            which = t < pairs_q ? 0 : t < pairs_q + pairs_k ? 1 : 2;
            t -= which == 0 ? 0 : which == 1 ? pairs_q : pairs_q + pairs_k;
            int head = t / half;
            in_head = t - head * half;
            rope_pair(in_head, p.rope_half, p.neox, ra, rb);
            ra += head * p.head_dim, rb += head * p.head_dim;
        }
    }
    __device__ __forceinline__ const Mat& matrix(const GemvArgs& p) const { return which == 0 ? p.a : which == 1 ? p.b : p.c; }
};

template <int MODE> __device__ __forceinline__ int task_count(const GemvArgs& p) {
    return MODE == QKV ? (p.a.rows + p.b.rows + p.c.rows) / 2 : MODE == GATE_UP ? p.a.rows : (p.a.rows + 1) / 2;
}

// A lane's read position in the stream.
template <int MODE, uint32_t SET> struct Place {
    static constexpr bool SIDES = SET & QUANTISED_SET;
    int task, unit, words, format;
    const uint8_t *a, *b;         // the rows' main planes
    const uint8_t *wide_a, *wide_b;
    const uint8_t* side[3];       // the other planes of this half warp's row (lanes 0 to 15: the first row)

    __device__ __forceinline__ void seek(const GemvArgs& p, int t, int tasks) {
        task = t, unit = 0;
        if (t >= tasks) return;
        Task rows;
        rows.seek<MODE>(p, t);
        const Mat& ma = rows.matrix(p);
        const Mat& mb = MODE == GATE_UP ? p.b : ma;
        format = known<SET>(ma.format);
        words = row_words(format, p.cols);
        size_t from_a = (size_t)rows.ra * words, from_b = (size_t)rows.rb * words;
        a = ma.main + from_a * 16, b = mb.main + from_b * 16;
        if (!SIDES) return;
        uint32_t sides = side_bytes(known<SET>(format));
        if (wide()) wide_a = ma.high + from_a * 16, wide_b = mb.high + from_b * 16;
        bool second = threadIdx.x & 16;
        const Mat& m = second ? mb : ma;
        size_t from = second ? from_b : from_a;
        side[0] = m.high + (from * (sides & 255) >> 3);
        side[1] = m.scale + (from * (sides >> 8 & 255) >> 3);
        side[2] = m.extra + (from * (sides >> 16) >> 3);
    }
    __device__ __forceinline__ bool wide() const { return (SET & only(Q8_0)) && known<SET>(format) == Q8_0; }
    __device__ __forceinline__ int side_bytes8(int k) const { return side_bytes(known<SET>(format)) >> (8 * k) & 255; }
};

template <int MODE, uint32_t SET> struct Stream {
    static constexpr int STEPS = steps_of(SET), UNIT = 32 * STEPS;
    static constexpr bool SIDES = SET & QUANTISED_SET;
    Place<MODE, SET> at;  // the next unit to copy
    const char* ring;
    uint64_t policy;
    int head, tail, stride, tasks;

    __device__ __forceinline__ Stream(const GemvArgs& p, const char* ring, int first, int stride, int tasks)
        : ring(ring), policy(read_once()), head(0), tail(0), stride(stride), tasks(tasks) {
        at.seek(p, first, tasks);
        for (int i = 0; i < p.depth - 1; i++) copy(p);
    }

    // Copies the next unit to the ring's next slot: the rows' main planes (Q8_0: main and high), then the others.
    __device__ __forceinline__ void copy(const GemvArgs& p) {
        int lane = threadIdx.x & 31;
        if (at.task < tasks) {
            uint32_t slot = shared_address(ring) + head * p.slot;
            bool wide = at.wide();
#pragma unroll
            for (int i = 0; i < STEPS; i++) {
                int u = at.unit + i * 32 + lane;
                if (u >= at.words) break;
                uint32_t dst = slot + i * 512 + lane * 16;
                copy16_once(dst, at.a + u * 16, policy);
                copy16_once(dst + UNIT * 16, at.b + u * 16, policy);
                if (wide) {
                    copy16_once(dst + 2 * UNIT * 16, at.wide_a + u * 16, policy);
                    copy16_once(dst + 3 * UNIT * 16, at.wide_b + u * 16, policy);
                }
            }
            if (SIDES) copy_sides(slot + (wide ? 4 : 2) * UNIT * 16);
            at.unit += UNIT;
            if (at.unit >= at.words) at.seek(p, at.task + stride, tasks);
        }
        commit();
        head = head + 1 == p.depth ? 0 : head + 1;
    }

    // Copies whole words of 16 bytes; each half of the warp does one row.
    __device__ __forceinline__ void copy_sides(uint32_t slot) {
        int word = threadIdx.x & 15, blocks = min(UNIT, at.words - at.unit);
        bool second = threadIdx.x & 16;
#pragma unroll
        for (int k = 0; k < 3; k++) {
            int bytes8 = at.side_bytes8(k);
            if (bytes8 == 0) continue;
            const uint8_t* start = at.side[k] + (at.unit >> 3) * bytes8;
            const uint8_t* from = (const uint8_t*)((uintptr_t)start & ~(uintptr_t)15) + word * 16;
            const uint8_t* end = start + (blocks * bytes8 >> 3);
            int room = side_room(bytes8, STEPS);
            uint32_t dst = slot + (second ? room : 0) + word * 16;
#pragma unroll
            for (int i = 0; i < 3; i++, from += 256, dst += 256)
                if (i * 256 < room && from < end) copy16_once(dst, from, policy);
            slot += 2 * room;
        }
    }

    // Waits for the next unit, which is valid for all lanes until the next call, and issues the copy of another.
    __device__ __forceinline__ const char* next(const GemvArgs& p) {
        switch (p.depth) {
        case 2: wait_group<0>(); break;
        case 3: wait_group<1>(); break;
        case 4: wait_group<2>(); break;
        case 5: wait_group<3>(); break;
        case 6: wait_group<4>(); break;
        default: wait_group<6>();
        }
        // All lanes' copies have arrived, and no lane reads the previous slot any more: the next copy overwrites it.
        __syncwarp();
        const char* slot = ring + tail * p.slot;
        copy(p);
        tail = tail + 1 == p.depth ? 0 : tail + 1;
        return slot;
    }
};

// Loads block `lane + 32 * step` of one row (0 or 1) of a unit; `first` is the number of the row's first block in its
// matrix.
template <int FORMAT, int STEPS> __device__ __forceinline__ Block block_in_slot(const char* slot, int row, uint32_t first, int unit, int step) {
    constexpr int HIGH = side_bytes(FORMAT) & 255, SCALE = side_bytes(FORMAT) >> 8 & 255, UNIT = 32 * STEPS;
    constexpr bool K = FORMAT == Q4_K || FORMAT == Q5_K || FORMAT == Q6_K, WIDE = FORMAT == Q8_0;
    constexpr int SIDES = (WIDE ? 4 : 2) * UNIT * 16, SCALES = SIDES + 2 * side_room(HIGH, STEPS), EXTRAS = SCALES + 2 * side_room(SCALE, STEPS);
    int at = (threadIdx.x & 31) + 32 * step;
    Block v;
    v.q = *(const uint4*)(slot + row * UNIT * 16 + at * 16);
    if (WIDE) v.r = *(const uint4*)(slot + (2 + row) * UNIT * 16 + at * 16);
    // Rows of K formats are aligned to 16 bytes in all planes but the extra one.
    const char* high = slot + SIDES + row * side_room(HIGH, STEPS) + (K ? 0 : first * (HIGH / 8) & 15);
    const char* scale = slot + SCALES + row * side_room(SCALE, STEPS) + (K ? 0 : first * (SCALE / 8) & 15);
    if (FORMAT == Q5_0 || FORMAT == Q5_1 || FORMAT == Q5_K) v.high.x = *(const uint32_t*)(high + at * 4);
    if (FORMAT == Q6_K) v.high = *(const uint2*)(high + at * 8);
    if (FORMAT == Q4_K || FORMAT == Q5_K) v.r = *(const uint4*)(scale + (at >> 3) * 16);
    if (FORMAT == Q4_0 || FORMAT == Q5_0 || FORMAT == Q8_0 || FORMAT == Q6_K) v.scale = *(const uint16_t*)(scale + at * 2);
    if (FORMAT == Q4_1 || FORMAT == Q5_1) v.scale = *(const uint32_t*)(scale + at * 4);
    if (FORMAT == Q6_K) v.extra = *(const uint16_t*)(slot + EXTRAS + row * side_room(2, STEPS) + (((first + unit) >> 3) * 2 & 15) + (at >> 3) * 2);
    return v;
}
