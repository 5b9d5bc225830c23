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

#endif
