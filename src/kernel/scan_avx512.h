/*
 * scan_avx512.h - what the two AVX-512 scans share: turning byte sums into lane totals and
 * testing 64 lanes against the limit. All static.
 */
#ifndef RVK_SCAN_AVX512_H
#define RVK_SCAN_AVX512_H

#include <immintrin.h>

#include "scan.h"

/* 64 byte sums in 16-bit words: `odd` holds the odd bytes, `both` the even ones plus
 * 256 times the odd ones, modulo 2^16. */
typedef struct rvk_wide512 {
    __m512i both, odd;
} rvk_wide512;

static inline void rvk_widen512(rvk_wide512 *w, __m512i bytes) {
    w->both = _mm512_add_epi16(w->both, bytes);
    w->odd = _mm512_add_epi16(w->odd, _mm512_srli_epi16(bytes, 8));
}

static inline __m512i rvk_even512(const rvk_wide512 *w) {
    return _mm512_sub_epi16(w->both, _mm512_slli_epi16(w->odd, 8));
}

static inline uint64_t rvk_below512(const rvk_scan *s, const float *a, const float *b,
                                    __m256i totals, __m512 *bound) {
    __m512 sum = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(totals));
    __m512 estimate =
        _mm512_fmadd_ps(sum, _mm512_set1_ps(s->step), _mm512_set1_ps(s->bias));
    *bound = _mm512_fmadd_ps(_mm512_loadu_ps(b), estimate, _mm512_loadu_ps(a));
    return _mm512_cmp_ps_mask(*bound, _mm512_set1_ps(s->limit), _CMP_LT_OQ);
}

/* Bits of the allowed lanes below the limit; if there are any, the bounds of all lanes
 * are stored. `even` and `odd` are the totals of the even and the odd lanes. */
static inline uint64_t rvk_passing512(const rvk_scan *s, const float *a, const float *b,
                                      __m512i even, __m512i odd, uint64_t allowed,
                                      float bounds[RVK_BLOCK]) {
    const __m512i front = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i back = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i lo = _mm512_unpacklo_epi16(even, odd), hi = _mm512_unpackhi_epi16(even, odd);
    __m512i first = _mm512_permutex2var_epi64(lo, front, hi);
    __m512i second = _mm512_permutex2var_epi64(lo, back, hi);
    const __m256i totals[4] = {
        _mm512_castsi512_si256(first), _mm512_extracti64x4_epi64(first, 1),
        _mm512_castsi512_si256(second), _mm512_extracti64x4_epi64(second, 1)};
    __m512 bound[4];
    uint64_t mask = 0;
    for (unsigned i = 0; i < 4; i++)
        mask |= rvk_below512(s, a + 16 * i, b + 16 * i, totals[i], &bound[i]) << 16 * i;
    mask &= allowed;
    if (mask == 0) return 0;
    for (unsigned i = 0; i < 4; i++) _mm512_storeu_ps(bounds + 16 * i, bound[i]);
    return mask;
}

#endif
