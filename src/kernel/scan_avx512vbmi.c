/*
 * scan_avx512vbmi.c - the block scan where vpermb exists, which looks up in 64 entries:
 * the tables of four columns as they lie in memory, so that none has to be spread over a
 * register first. Two bits above each nibble say which of the four.
 *
 * Codes of six dimensions a byte, each with a table of its own, would take a third fewer
 * instructions and as many bytes more. Scans mostly wait for bytes.
 */
#include "scan_avx512.h"

static inline __m512i rvk_index512(__m512i codes, size_t k) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const char even = k % 2 ? 0x20 : 0, odd = even + 0x10;
    const __m512i which =
        _mm512_inserti64x4(_mm512_set1_epi8(even), _mm256_set1_epi8(odd), 1);
    return _mm512_ternarylogic_epi64(codes, nibble, which, 0xEA); /* codes & 15 | which */
}

static inline void rvk_tables512(const uint8_t *lut, __m512i tables[4]) {
    tables[0] = tables[1] = rvk_load_once512(lut);
    tables[2] = tables[3] = rvk_load_once512(lut + 64);
}

static inline __m512i rvk_look_up512(__m512i index, __m512i table) {
    return _mm512_permutexvar_epi8(index, table);
}

size_t rvk_scan_avx512vbmi(const rvk_scan *s, size_t start, uint64_t *mask,
                           float bounds[RVK_BLOCK]) {
    return rvk_scan512(s, 1, start, mask, (float(*)[RVK_BLOCK])(void *)bounds);
}

size_t rvk_scan_many_avx512vbmi(const rvk_scan *s, size_t n, size_t start,
                                uint64_t masks[RVK_SCANS],
                                float bounds[RVK_SCANS][RVK_BLOCK]) {
    return rvk_scan_many512(s, n, start, masks, bounds);
}
