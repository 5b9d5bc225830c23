/*
 * scan_avx512.h - what the two AVX-512 scans share: turning byte sums into lane totals
 * and testing 64 lanes against the limit. All static.
 */
#ifndef RVK_SCAN_AVX512_H
#define RVK_SCAN_AVX512_H

#include <immintrin.h>

#include "scan.h"

/* Compilers would rather load a value again at each use; the loads are what limits the
 * scans. */
RVK_INLINE __m512i rvk_load_once512(const uint8_t *p) {
    __m512i x = _mm512_loadu_si512(p);
#if defined(__GNUC__)
    __asm__("" : "+v"(x));
#endif
    return x;
}

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

static inline __mmask16 rvk_below512(const rvk_scan *s, const float *a, const float *b,
                                     __m512i totals, __m512 *bound) {
    __m512 estimate = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals), _mm512_set1_ps(s->step),
                                      _mm512_set1_ps(s->bias));
    *bound = _mm512_fmadd_ps(_mm512_loadu_ps(b), estimate, _mm512_loadu_ps(a));
    return _mm512_cmp_ps_mask(*bound, _mm512_set1_ps(s->limit), _CMP_LT_OQ);
}

/* Bits of the lanes below the limit; if there are any, the bounds of all lanes are
 * stored. `even` and `odd` are the totals of the even and the odd lanes. */
static inline uint64_t rvk_passing512(const rvk_scan *s, const float *a, const float *b,
                                      __m512i even, __m512i odd,
                                      float bounds[RVK_BLOCK]) {
    /* Word j of the even lanes, then word j of the odd ones (32 on), zero-extended. */
    const __m512i first =
        _mm512_setr_epi32(0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39);
    __m512 bound[4];
    __mmask16 below[4];
    RVK_UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i index = _mm512_add_epi32(first, _mm512_set1_epi32(8 * i));
        __m512i totals = _mm512_maskz_permutex2var_epi16(0x55555555, even, index, odd);
        below[i] = rvk_below512(s, a + 16 * i, b + 16 * i, totals, &bound[i]);
    }
    __mmask32 low = _mm512_kunpackw(below[1], below[0]);
    __mmask32 high = _mm512_kunpackw(below[3], below[2]);
    uint64_t mask = _mm512_kunpackd(high, low);
    if (mask == 0) return 0;
    for (unsigned i = 0; i < 4; i++) _mm512_storeu_ps(bounds + 16 * i, bound[i]);
    return mask;
}

#endif
