/*
 * scan_avx512.h - the block scan of AVX-512, but for how nibbles are looked up, of which
 * there are two ways: a file that includes this says afterwards, by defining
 *   rvk_index512   what is looked up by the lower four bits of each byte of a register
 *                  that holds columns 2k and 2k + 1 of eight,
 *   rvk_tables512  in which tables, for k = 0..3, given those of eight columns,
 *   rvk_look_up512 and how.
 * All static.
 */
#ifndef RVK_SCAN_AVX512_H
#define RVK_SCAN_AVX512_H

#include <immintrin.h>

#include "scan.h"

static inline __m512i rvk_index512(__m512i codes, size_t k);
static inline void rvk_tables512(const uint8_t *lut, __m512i tables[4]);
static inline __m512i rvk_look_up512(__m512i index, __m512i table);

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

/* Totals of the lanes 0..31 and 32..63, those of even columns in the lower halves of the
 * registers, those of odd ones in the upper. */
typedef struct rvk_totals512 {
    rvk_wide512 lower, upper;
} rvk_totals512;

/* Eight columns (padded is a multiple of 32) in four steps, since four entries <= 63 add
 * up in a byte. */
RVK_INLINE void rvk_eight_columns512(const __m512i low[4], const __m512i high[4],
                                     const uint8_t *lut, rvk_totals512 *total) {
    __m512i tables[4], lo = _mm512_setzero_si512(), hi = lo;
    rvk_tables512(lut, tables);
    RVK_UNROLL
    for (size_t k = 0; k < 4; k++) {
        lo = _mm512_add_epi8(lo, rvk_look_up512(low[k], tables[k]));
        hi = _mm512_add_epi8(hi, rvk_look_up512(high[k], tables[k]));
    }
    rvk_widen512(&total->lower, lo);
    rvk_widen512(&total->upper, hi);
}

RVK_INLINE void rvk_sum512(const rvk_scan *s, size_t n, const uint8_t *codes,
                           size_t columns, rvk_totals512 *totals) {
    const __m512i zero = _mm512_setzero_si512();
    const uint8_t *lut[RVK_SCANS];
    RVK_UNROLL
    for (size_t q = 0; q < n; q++) {
        totals[q] = (rvk_totals512){{zero, zero}, {zero, zero}};
        lut[q] = s[q].lut;
    }
    for (size_t g = 0; g < columns; g += 8) {
        __m512i low[4], high[4];
        RVK_UNROLL
        for (size_t k = 0; k < 4; k++) {
            __m512i x = rvk_load_once512(codes + 32 * g + 64 * k);
            rvk_fetch_ahead(codes + 32 * g + 64 * k, s->ahead);
            low[k] = rvk_index512(x, k);
            high[k] = rvk_index512(_mm512_srli_epi16(x, 4), k);
        }
        RVK_UNROLL
        for (size_t q = 0; q < n; q++)
            rvk_eight_columns512(low, high, lut[q] + 16 * g, &totals[q]);
    }
}

/* Adds the halves of both arguments: those of `lower` give the lower half. */
RVK_INLINE __m512i rvk_fold_halves512(__m512i lower, __m512i upper) {
    return _mm512_add_epi16(_mm512_shuffle_i64x2(lower, upper, 0x44),
                            _mm512_shuffle_i64x2(lower, upper, 0xEE));
}

RVK_INLINE size_t rvk_scan512(const rvk_scan *s, size_t n, size_t start, uint64_t *masks,
                              float (*bounds)[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(4, s->padded);
    const size_t block_bytes = rvk_block_bytes(4, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        rvk_totals512 totals[RVK_SCANS];
        uint64_t any = 0;
        rvk_sum512(s, n, codes, code_bytes / 32, totals);
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) {
            const rvk_wide512 *lower = &totals[q].lower, *upper = &totals[q].upper;
            __m512i even = rvk_fold_halves512(rvk_even512(lower), rvk_even512(upper));
            __m512i odd = rvk_fold_halves512(lower->odd, upper->odd);
            masks[q] = rvk_passing512(&s[q], a, a + RVK_BLOCK, even, odd, bounds[q]);
            any |= masks[q];
        }
        if (any != 0) return block;
    }
    for (size_t q = 0; q < n; q++) masks[q] = 0;
    return s->n_blocks;
}

/* The loops over queries are to be unrolled. */
RVK_INLINE size_t rvk_scan_many512(const rvk_scan *s, size_t n, size_t start,
                                   uint64_t *masks, float (*bounds)[RVK_BLOCK]) {
    if (n == 1) return rvk_scan512(s, 1, start, masks, bounds);
    if (n == 2) return rvk_scan512(s, 2, start, masks, bounds);
    if (n == 3) return rvk_scan512(s, 3, start, masks, bounds);
    return rvk_scan512(s, 4, start, masks, bounds);
}

#endif
