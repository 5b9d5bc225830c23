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

/* Tests the blocks at[0..n_at), in this order, until one has a passing lane. */
RVK_INLINE size_t test(const rvk_scan *s, size_t n, size_t code_bytes, const size_t at[2],
                       size_t n_at, uint64_t *masks, float (*bounds)[RVK_BLOCK]) {
    const size_t block_bytes = code_bytes + 2 * RVK_BLOCK * sizeof(float);
    const uint8_t *codes[2];
    rvk_wide512 totals[2 * RVK_SCANS];
    RVK_UNROLL
    for (size_t i = 0; i < n_at; i++) codes[i] = s->blocks + at[i] * block_bytes;
    sum(s, n, codes, n_at, code_bytes / 64, totals);
    RVK_UNROLL
    for (size_t i = 0; i < n_at; i++) {
        const float *a = (const float *)(const void *)(codes[i] + code_bytes);
        uint64_t any = 0;
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) {
            const rvk_wide512 *total = &totals[i * n + q];
            masks[q] = rvk_passing512(&s[q], a, a + RVK_BLOCK, rvk_even512(total),
                                      total->odd, rvk_allowed(&s[q], at[i]), bounds[q]);
            any |= masks[q];
        }
        if (any != 0) return at[i];
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
    size_t at[2] = {rvk_next_block(s, n, start), end}, passed;
    for (bool pair = false; at[0] < end; pair = crowded) {
        at[1] = pair ? rvk_next_block(s, n, at[0] + 1) : end;
        if (at[1] < end) {
            passed = test(s, n, code_bytes, at, 2, masks, bounds);
        } else {
            passed = test(s, n, code_bytes, at, 1, masks, bounds);
            at[1] = at[0];
        }
        if (passed < end) return passed;
        at[0] = rvk_next_block(s, n, at[1] + 1);
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
