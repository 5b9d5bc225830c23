/*
 * scan_avx512vbmi.c - the block scan where vpermb exists: one instruction looks up 64 lanes
 * in a table of 64 entries.
 */
#include "scan_avx512.h"

static inline __m512i look_up(const uint8_t *codes, const uint8_t *lut, size_t g) {
    return _mm512_permutexvar_epi8(_mm512_loadu_si512(codes + g * 64),
                                   _mm512_loadu_si512(lut + g * 64));
}

/* Four entries <= 63 add up in a byte. */
static inline rvk_wide512 sum_block(const uint8_t *codes, const uint8_t *lut,
                                    size_t columns) {
    rvk_wide512 total = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t g = 0;
    for (; g + 4 <= columns; g += 4) {
        __m512i front =
            _mm512_add_epi8(look_up(codes, lut, g), look_up(codes, lut, g + 1));
        __m512i back =
            _mm512_add_epi8(look_up(codes, lut, g + 2), look_up(codes, lut, g + 3));
        rvk_widen512(&total, _mm512_add_epi8(front, back));
    }
    if (g < columns) {
        __m512i rest = look_up(codes, lut, g);
        while (++g < columns) rest = _mm512_add_epi8(rest, look_up(codes, lut, g));
        rvk_widen512(&total, rest);
    }
    return total;
}

size_t rvk_scan_avx512vbmi(const rvk_scan *s, size_t start, uint64_t *mask,
                           float bounds[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded);
    const size_t block_bytes = rvk_block_bytes(6, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint64_t allowed = s->allow != NULL ? s->allow[block] : UINT64_MAX;
        if (allowed == 0) continue;
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        rvk_wide512 total = sum_block(codes, s->lut, code_bytes / 64);
        *mask = rvk_passing512(s, a, a + RVK_BLOCK, rvk_even512(&total), total.odd,
                               allowed, bounds);
        if (*mask != 0) return block;
    }
    *mask = 0;
    return s->n_blocks;
}
