/*
 * scan.h - the block scans, one file per instruction set; the tables in the files of
 * the other kernels name them.
 */
#ifndef RVK_SCAN_H
#define RVK_SCAN_H

#include "kernel.h"

typedef size_t rvk_scan_function(const rvk_scan *s, size_t start, uint64_t *mask,
                                 float bounds[RVK_BLOCK]);

rvk_scan_function rvk_scan_scalar, rvk_scan_avx2, rvk_scan_avx512, rvk_scan_avx512vbmi,
    rvk_scan_neon;

typedef size_t rvk_scan_many_function(const rvk_scan *s, size_t n, size_t start,
                                      uint64_t masks[RVK_SCANS],
                                      float bounds[RVK_SCANS][RVK_BLOCK]);

rvk_scan_many_function rvk_scan_many_scalar, rvk_scan_many_avx2, rvk_scan_many_avx512,
    rvk_scan_many_avx512vbmi, rvk_scan_many_neon;

/* Asks for what a scan will read n bytes after p; past the last block nothing comes of
 * it. With n = 0 for what has just been read, which costs an instruction. */
static inline void rvk_fetch_ahead(const uint8_t *p, size_t n) {
#if defined(__GNUC__)
    __builtin_prefetch((const void *)((uintptr_t)p + n));
#else
    (void)p, (void)n;
#endif
}

/* For bodies with sizes among their arguments that are constants at every call: inlined
 * and unrolled, what they index stays in registers. */
#if defined(__GNUC__)
#define RVK_INLINE static inline __attribute__((always_inline))
#else
#define RVK_INLINE static inline
#endif
#if defined(__clang__)
#define RVK_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define RVK_UNROLL _Pragma("GCC unroll 32")
#else
#define RVK_UNROLL
#endif

#endif
