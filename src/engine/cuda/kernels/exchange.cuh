// Exchange between the GPUs of one model, which are numbered by rank. Every rank has exchange memory that all ranks can
// write to. A word is {value, epoch}: 8 bytes, stored and loaded as one, so that the value is valid once the epoch is the
// awaited one. An epoch numbers the exchanges of all steps; its lowest bit selects one of two inboxes. A rank sends for
// epoch e + 2 only after it has received all of e + 1, which the receiver sends after it has read all of e: nothing is
// overwritten before it is read.
//
// No kernel waits without end: a wait also ends when the abort word is set, which every rank can read, and sets it after
// `limit_us`. The results of that step are then wrong; the host reads the word before it uses them.
#pragma once
#include "common.cuh"

#define MOST_RANKS 8

// The first CONTROL_BYTES of a rank's exchange memory; the inboxes follow, then the logits (exchange.rs). Each word that
// another rank writes has a cache line of its own.
struct Line {
    u64 word;
    u64 pad[15];
};
struct Control {
    Line token;              // {token, epoch}, from rank 0
    Line best[MOST_RANKS];   // on rank 0: the argmax of each rank's logits
    Line ready[MOST_RANKS];  // on rank 0: the epoch for which it and the logits are there
};
#define CONTROL_BYTES 4096

struct Link {
    char* memory[MOST_RANKS];  // exchange memory by rank
    uint32_t* epoch;           // epochs before this step, in this GPU's memory
    uint32_t* abort;           // in host memory, one word for all ranks
    int rank, ranks;
    uint32_t limit_us, pad;
};

__device__ __forceinline__ Control* control(const Link& l, int of) { return (Control*)l.memory[of]; }
// Words of rank `from` in the inbox of rank `of`; `width` words for each rank.
__device__ __forceinline__ u64* inbox(const Link& l, int of, int from, uint32_t epoch, int width) {
    return (u64*)(l.memory[of] + CONTROL_BYTES) + ((size_t)(epoch & 1) * l.ranks + from) * width;
}

__device__ __forceinline__ u64 word_of(float v, uint32_t epoch) { return (u64)epoch << 32 | __float_as_uint(v); }
__device__ __forceinline__ void store_word(u64* to, u64 v) { asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(to), "l"(v) : "memory"); }
__device__ __forceinline__ u64 load_word(const u64* from) {
    u64 v;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(from) : "memory");
    return v;
}
// Two adjacent words, each of which is stored as one; `to` is a multiple of 16 bytes.
__device__ __forceinline__ void send(u64* to, float a, float b, uint32_t epoch) {
    asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(word_of(a, epoch)), "l"(word_of(b, epoch)) : "memory");
}

// A limit for the time that one thread waits.
struct Patience {
    u64 begun = 0;
    uint32_t polls = 0;

    // True if the wait must end: another rank gave up, or this one does now.
    __device__ __forceinline__ bool over(const Link& l) {
        if (++polls & 63) return false;
        uint32_t aborted;
        asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(aborted) : "l"(l.abort) : "memory");
        if (aborted) return true;
        u64 now;
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
        if (begun == 0) begun = now;
        if (now - begun < (u64)l.limit_us * 1000) return false;
        asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(l.abort), "r"(1u + l.rank) : "memory");
        return true;
    }
};

// Waits for two adjacent words of this epoch.
__device__ __forceinline__ float2 receive(const Link& l, const u64* from, uint32_t epoch) {
    Patience patience;
    u64 a, b;
    do {
        asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(from) : "memory");
        if ((uint32_t)(a >> 32) == epoch && (uint32_t)(b >> 32) == epoch) break;
    } while (!patience.over(l));
    return make_float2(__uint_as_float((uint32_t)a), __uint_as_float((uint32_t)b));
}
