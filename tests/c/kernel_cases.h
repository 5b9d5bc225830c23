/*
 * kernel_cases.h - inputs for the kernel tests: a seeded generator, floats of several
 * kinds, memory between protected pages, equality of bits.
 */
#ifndef KERNEL_CASES_H
#define KERNEL_CASES_H

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <cmocka.h>

#include "kernel/kernel.h"

/* ---- random numbers (SplitMix64) ---- */

static inline uint64_t next_u64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static inline size_t next_below(uint64_t *state, size_t n) {
    return (size_t)(next_u64(state) % n);
}

static inline float next_unit(uint64_t *state) { /* in [-1, 1) */
    return (float)(int32_t)(next_u64(state) >> 32) * 0x1p-31f;
}

static inline void fill_bytes(uint64_t *state, void *out, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) ((uint8_t *)out)[i] = (uint8_t)next_u64(state);
}

/* ---- floats ---- */

enum { PLAIN, WIDE, SPECIAL, N_KINDS };

static inline float next_float(uint64_t *state, int kind) {
    static const float special[] = {0.0f,      -0.0f,      FLT_TRUE_MIN, -FLT_TRUE_MIN,
                                    0x1p-130f, -0x1p-140f, FLT_MIN,      -FLT_MIN,
                                    1.0f,      -1.0f,      FLT_MAX,      -FLT_MAX,
                                    3e-25f,    -2e30f,     0x1p24f,      -0x1.fffffep-1f};
    float value = next_unit(state);
    if (kind == WIDE) return value * (next_u64(state) & 1 ? 0x1p40f : 0x1p-60f);
    if (kind == SPECIAL && next_u64(state) % 4 != 0) return special[next_u64(state) % 16];
    return value;
}

static inline void fill_floats(uint64_t *state, int kind, void *out, size_t n) {
    for (size_t j = 0; j < n; j++) {
        float value = next_float(state, kind);
        memcpy((uint8_t *)out + j * sizeof value, &value, sizeof value);
    }
}

/* The C standard's fmaf. That of mingw-w64 rounds twice; the instruction does not. */
#ifdef __MINGW32__
__attribute__((target("fma")))
#endif
static inline float
fused_once(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}

/* Of a NaN only that it is one is specified. */
static inline bool same_bits(float a, float b) {
    return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0;
}

static inline void assert_same(const float *got, const float *want, size_t n,
                               const char *what, size_t size) {
    for (size_t i = 0; i < n; i++) {
        if (same_bits(got[i], want[i])) continue;
        fail_msg("%s, size %zu, element %zu: %a instead of %a", what, size, i,
                 (double)got[i], (double)want[i]);
    }
}

/* ---- memory between protected pages ---- */

/* Usable bytes from start to end, in pages of their own; reading or writing as many
 * before or behind them faults. */
typedef struct fence {
    uint8_t *start, *end;
} fence;

static inline fence fence_open(size_t bytes) {
#ifdef _WIN32
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    const size_t page = system.dwPageSize;
#else
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
#endif
    const size_t room = (bytes + page - 1) / page * page;
#ifdef _WIN32
    uint8_t *map = VirtualAlloc(NULL, 3 * room, MEM_RESERVE, PAGE_NOACCESS);
    assert_non_null(map);
    assert_non_null(VirtualAlloc(map + room, room, MEM_COMMIT, PAGE_READWRITE));
#else
    uint8_t *map = mmap(NULL, 3 * room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map + room, room, PROT_READ | PROT_WRITE), 0);
#endif
    return (fence){map + room, map + 2 * room};
}

static inline void fence_close(const fence *f) {
    const size_t room = (size_t)(f->end - f->start);
#ifdef _WIN32
    VirtualFree(f->start - room, 0, MEM_RELEASE);
#else
    munmap(f->start - room, 3 * room);
#endif
}

static inline float *fence_floats(const fence *f, size_t n) {
    return (float *)(void *)(f->end - n * sizeof(float));
}

/* ---- dimensions ---- */

#define MAX_DIM 8192u

/* Any dimension: 1..257 and some large ones. 0 ends. */
static inline size_t dim_at(size_t i) {
    static const size_t large[] = {384, 768, 1000, 1536, MAX_DIM, 0};
    return i < 257 ? i + 1 : large[i - 257];
}

/* Padded dimensions: 32..288 and some large ones. 0 ends. */
static inline size_t padded_at(size_t i) {
    static const size_t large[] = {384, 768, 1536, 6240, MAX_DIM, 0};
    return i < 9 ? 32 * (i + 1) : large[i - 9];
}

#endif
