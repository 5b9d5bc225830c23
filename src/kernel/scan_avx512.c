/*
 * scan_avx512.c - the block scan with AVX-512 F and BW: pshufb looks the nibbles of
 * two columns up at once.
 */
#include "scan_avx512.h"

/* Totals of the lanes 0..31 and 32..63, those of even columns in the lower halves of the
 * registers, those of odd ones in the upper. */
typedef struct lane_totals {
    rvk_wide512 lower, upper;
} lane_totals;

/* Eight columns (padded is a multiple of 32) in four steps, since four entries <= 63 add
 * up in a byte. */
RVK_INLINE void eight_columns(const __m512i low[4], const __m512i high[4],
                              const uint8_t *lut, lane_totals *total) {
    const __m512i t = rvk_load_once512(lut), u = rvk_load_once512(lut + 64);
    const __m512i tables[4] = {
        _mm512_shuffle_i64x2(t, t, 0x50), _mm512_shuffle_i64x2(t, t, 0xFA),
        _mm512_shuffle_i64x2(u, u, 0x50), _mm512_shuffle_i64x2(u, u, 0xFA)};
    __m512i lo = _mm512_setzero_si512(), hi = lo;
    RVK_UNROLL
    for (int k = 0; k < 4; k++) {
        lo = _mm512_add_epi8(lo, _mm512_shuffle_epi8(tables[k], low[k]));
        hi = _mm512_add_epi8(hi, _mm512_shuffle_epi8(tables[k], high[k]));
    }
    rvk_widen512(&total->lower, lo);
    rvk_widen512(&total->upper, hi);
}

RVK_INLINE void sum(const rvk_scan *s, size_t n, const uint8_t *codes, size_t columns,
                    lane_totals *totals) {
    const __m512i zero = _mm512_setzero_si512(), nibble = _mm512_set1_epi8(15);
    const uint8_t *lut[RVK_SCANS];
    RVK_UNROLL
    for (size_t q = 0; q < n; q++) {
        totals[q] = (lane_totals){{zero, zero}, {zero, zero}};
        lut[q] = s[q].lut;
    }
    for (size_t g = 0; g < columns; g += 8) {
        __m512i low[4], high[4];
        RVK_UNROLL
        for (size_t k = 0; k < 4; k++) {
            __m512i x = rvk_load_once512(codes + 32 * g + 64 * k);
            low[k] = _mm512_and_si512(x, nibble);
            high[k] = _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble);
        }
        RVK_UNROLL
        for (size_t q = 0; q < n; q++)
            eight_columns(low, high, lut[q] + 16 * g, &totals[q]);
    }
}

/* Adds the halves of both arguments: those of `lower` give the lower half. */
RVK_INLINE __m512i fold_halves(__m512i lower, __m512i upper) {
    return _mm512_add_epi16(_mm512_shuffle_i64x2(lower, upper, 0x44),
                            _mm512_shuffle_i64x2(lower, upper, 0xEE));
}

RVK_INLINE size_t scan(const rvk_scan *s, size_t n, size_t start, uint64_t *masks,
                       float (*bounds)[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(4, s->padded);
    const size_t block_bytes = rvk_block_bytes(4, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        lane_totals totals[RVK_SCANS];
        uint64_t any = 0;
        sum(s, n, codes, code_bytes / 32, totals);
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) {
            const rvk_wide512 *lower = &totals[q].lower, *upper = &totals[q].upper;
            __m512i even = fold_halves(rvk_even512(lower), rvk_even512(upper));
            __m512i odd = fold_halves(lower->odd, upper->odd);
            masks[q] = rvk_passing512(&s[q], a, a + RVK_BLOCK, even, odd, bounds[q]);
            any |= masks[q];
        }
        if (any != 0) return block;
    }
    for (size_t q = 0; q < n; q++) masks[q] = 0;
    return s->n_blocks;
}

size_t rvk_scan_avx512(const rvk_scan *s, size_t start, uint64_t *mask,
                       float bounds[RVK_BLOCK]) {
    return scan(s, 1, start, mask, (float(*)[RVK_BLOCK])(void *)bounds);
}

size_t rvk_scan_many_avx512(const rvk_scan *s, size_t n, size_t start,
                            uint64_t masks[RVK_SCANS],
                            float bounds[RVK_SCANS][RVK_BLOCK]) {
    if (n == 1) return scan(s, 1, start, masks, bounds);
    if (n == 2) return scan(s, 2, start, masks, bounds);
    if (n == 3) return scan(s, 3, start, masks, bounds);
    return scan(s, 4, start, masks, bounds);
}
