/*
 * scan_avx512.c - the block scan with AVX-512 F and BW: pshufb looks the nibbles of two
 * columns up at once.
 */
#include "scan_avx512.h"

/* Two columns of 32 bytes, their tables in the matching halves of `tables`: adds the
 * entries of lanes 0..31 to *lo and of lanes 32..63 to *hi. */
static inline void two_columns(const uint8_t *codes, __m512i tables, __m512i *lo,
                               __m512i *hi) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i x = _mm512_loadu_si512(codes);
    __m512i low = _mm512_and_si512(x, nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble);
    *lo = _mm512_add_epi8(*lo, _mm512_shuffle_epi8(tables, low));
    *hi = _mm512_add_epi8(*hi, _mm512_shuffle_epi8(tables, high));
}

/* Eight columns (padded is a multiple of 32), four steps: four entries <= 63 add up
 * in a byte. */
static inline void eight_columns(const uint8_t *codes, const uint8_t *lut,
                                 rvk_wide512 *lower, rvk_wide512 *upper) {
    __m512i lo = _mm512_setzero_si512(), hi = lo;
    __m512i t = _mm512_loadu_si512(lut), u = _mm512_loadu_si512(lut + 64);
    two_columns(codes, _mm512_shuffle_i64x2(t, t, 0x50), &lo, &hi);
    two_columns(codes + 64, _mm512_shuffle_i64x2(t, t, 0xFA), &lo, &hi);
    two_columns(codes + 128, _mm512_shuffle_i64x2(u, u, 0x50), &lo, &hi);
    two_columns(codes + 192, _mm512_shuffle_i64x2(u, u, 0xFA), &lo, &hi);
    rvk_widen512(lower, lo);
    rvk_widen512(upper, hi);
}

/* Adds the halves of both arguments: those of `lower` give the lower half. */
static inline __m512i fold_halves(__m512i lower, __m512i upper) {
    return _mm512_add_epi16(_mm512_shuffle_i64x2(lower, upper, 0x44),
                            _mm512_shuffle_i64x2(lower, upper, 0xEE));
}

size_t rvk_scan_avx512(const rvk_scan *s, size_t start, uint64_t *mask,
                       float bounds[RVK_BLOCK]) {
    const __m512i zero = _mm512_setzero_si512();
    const size_t code_bytes = rvk_block_code_bytes(4, s->padded);
    const size_t block_bytes = rvk_block_bytes(4, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint64_t allowed = s->allow != NULL ? s->allow[block] : UINT64_MAX;
        if (allowed == 0) continue;
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        rvk_wide512 lower = {zero, zero}, upper = {zero, zero};
        for (size_t g = 0; g < code_bytes / 32; g += 8) {
            eight_columns(codes + 32 * g, s->lut + 16 * g, &lower, &upper);
        }
        __m512i even = fold_halves(rvk_even512(&lower), rvk_even512(&upper));
        __m512i odd = fold_halves(lower.odd, upper.odd);
        *mask = rvk_passing512(s, a, a + RVK_BLOCK, even, odd, allowed, bounds);
        if (*mask != 0) return block;
    }
    *mask = 0;
    return s->n_blocks;
}
