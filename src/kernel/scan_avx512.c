/*
 * scan_avx512.c - the block scan with AVX-512 F and BW: pshufb looks nibbles up within
 * each 128 bits, which therefore hold the table of their column.
 */
#include "scan_avx512.h"

static inline __m512i rvk_index512(__m512i codes, size_t k) {
    (void)k;
    return _mm512_and_si512(codes, _mm512_set1_epi8(15));
}

static inline void rvk_tables512(const uint8_t *lut, __m512i tables[4]) {
    const __m512i t = rvk_load_once512(lut), u = rvk_load_once512(lut + 64);
    tables[0] = _mm512_shuffle_i64x2(t, t, 0x50);
    tables[1] = _mm512_shuffle_i64x2(t, t, 0xFA);
    tables[2] = _mm512_shuffle_i64x2(u, u, 0x50);
    tables[3] = _mm512_shuffle_i64x2(u, u, 0xFA);
}

static inline __m512i rvk_look_up512(__m512i index, __m512i table) {
    return _mm512_shuffle_epi8(table, index);
}

size_t rvk_scan_avx512(const rvk_scan *s, size_t start, uint64_t *mask,
                       float bounds[RVK_BLOCK]) {
    return rvk_scan512(s, 1, start, mask, (float(*)[RVK_BLOCK])(void *)bounds);
}

size_t rvk_scan_many_avx512(const rvk_scan *s, size_t n, size_t start,
                            uint64_t masks[RVK_SCANS],
                            float bounds[RVK_SCANS][RVK_BLOCK]) {
    return rvk_scan_many512(s, n, start, masks, bounds);
}
