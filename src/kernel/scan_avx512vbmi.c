/*
 * scan_avx512vbmi.c - the block scan where vpermb exists: one instruction looks up 64
 * lanes in a table of 64 entries.
 */
#include "scan_avx512.h"

/* Four entries <= 63 add up in a byte. */
RVK_INLINE __m512i four_columns(const __m512i codes[4], const __m512i tables[4]) {
    __m512i a = _mm512_permutexvar_epi8(codes[0], tables[0]);
    __m512i b = _mm512_permutexvar_epi8(codes[1], tables[1]);
    __m512i c = _mm512_permutexvar_epi8(codes[2], tables[2]);
    __m512i d = _mm512_permutexvar_epi8(codes[3], tables[3]);
    return _mm512_add_epi8(_mm512_add_epi8(a, b), _mm512_add_epi8(c, d));
}

RVK_INLINE __m512i one_column(const uint8_t *codes, const uint8_t *lut) {
    return _mm512_permutexvar_epi8(_mm512_loadu_si512(codes), _mm512_loadu_si512(lut));
}

RVK_INLINE void sum(const rvk_scan *s, size_t n, const uint8_t *const codes[],
                    size_t n_codes, size_t columns, rvk_wide512 *totals) {
    const uint8_t *lut[RVK_SCANS];
    size_t g = 0;
    RVK_UNROLL
    for (size_t q = 0; q < n; q++) lut[q] = s[q].lut;
    RVK_UNROLL
    for (size_t i = 0; i < n * n_codes; i++)
        totals[i] = (rvk_wide512){_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (; g + 4 <= columns; g += 4) {
        __m512i code[2][4], table[4];
        RVK_UNROLL
        for (size_t i = 0; i < n_codes * 4; i++)
            code[i / 4][i % 4] = rvk_load_once512(codes[i / 4] + (g + i % 4) * 64);
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) {
            RVK_UNROLL
            for (size_t k = 0; k < 4; k++)
                table[k] = n_codes > 1 ? rvk_load_once512(lut[q] + (g + k) * 64)
                                       : _mm512_loadu_si512(lut[q] + (g + k) * 64);
            RVK_UNROLL
            for (size_t i = 0; i < n_codes; i++)
                rvk_widen512(&totals[i * n + q], four_columns(code[i], table));
        }
    }
    if (g < columns) {
        __m512i rest[8];
        RVK_UNROLL
        for (size_t i = 0; i < n * n_codes; i++)
            rest[i] = one_column(codes[i / n] + g * 64, lut[i % n] + g * 64);
        while (++g < columns) {
            RVK_UNROLL
            for (size_t i = 0; i < n * n_codes; i++)
                rest[i] = _mm512_add_epi8(
                    rest[i], one_column(codes[i / n] + g * 64, lut[i % n] + g * 64));
        }
        RVK_UNROLL
        for (size_t i = 0; i < n * n_codes; i++) rvk_widen512(&totals[i], rest[i]);
    }
}

/* Tests `count` blocks from `first` on, in this order, until one has a passing lane. */
RVK_INLINE size_t test(const rvk_scan *s, size_t n, size_t code_bytes, size_t first,
                       size_t count, uint64_t *masks, float (*bounds)[RVK_BLOCK]) {
    const size_t block_bytes = code_bytes + 2 * RVK_BLOCK * sizeof(float);
    const uint8_t *codes[2];
    rvk_wide512 totals[2 * RVK_SCANS];
    RVK_UNROLL
    for (size_t i = 0; i < count; i++) codes[i] = s->blocks + (first + i) * block_bytes;
    sum(s, n, codes, count, code_bytes / 64, totals);
    RVK_UNROLL
    for (size_t i = 0; i < count; i++) {
        const float *a = (const float *)(const void *)(codes[i] + code_bytes);
        uint64_t any = 0;
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) {
            const rvk_wide512 *total = &totals[i * n + q];
            masks[q] = rvk_passing512(&s[q], a, a + RVK_BLOCK, rvk_even512(total),
                                      total->odd, bounds[q]);
            any |= masks[q];
        }
        if (any != 0) return first + i;
    }
    return s->n_blocks;
}

/* Tables of several queries that crowd the first-level cache are read once for two
 * blocks; but where a block has just passed, the next one is likely to as well and is
 * tested alone. */
#define CROWDED (24u << 10)

RVK_INLINE size_t scan(const rvk_scan *s, size_t n, size_t start, uint64_t *masks,
                       float (*bounds)[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded), end = s->n_blocks;
    const bool crowded = n > 1 && n * rvk_lut_bytes(6, s->padded) > CROWDED;
    for (size_t block = start, next; block < end; block = next) {
        const bool pair = crowded && block > start && end - block > 1;
        const size_t passed = pair ? test(s, n, code_bytes, block, 2, masks, bounds)
                                   : test(s, n, code_bytes, block, 1, masks, bounds);
        if (passed < end) return passed;
        next = block + (pair ? 2 : 1);
    }
    for (size_t q = 0; q < n; q++) masks[q] = 0;
    return end;
}

size_t rvk_scan_avx512vbmi(const rvk_scan *s, size_t start, uint64_t *mask,
                           float bounds[RVK_BLOCK]) {
    return scan(s, 1, start, mask, (float(*)[RVK_BLOCK])(void *)bounds);
}

size_t rvk_scan_many_avx512vbmi(const rvk_scan *s, size_t n, size_t start,
                                uint64_t masks[RVK_SCANS],
                                float bounds[RVK_SCANS][RVK_BLOCK]) {
    if (n == 1) return scan(s, 1, start, masks, bounds);
    if (n == 2) return scan(s, 2, start, masks, bounds);
    if (n == 3) return scan(s, 3, start, masks, bounds);
    return scan(s, 4, start, masks, bounds);
}
