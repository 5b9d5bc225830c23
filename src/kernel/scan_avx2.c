/*
 * scan_avx2.c - the block scan with AVX2: nibbles are looked up with pshufb in tables
 * of 16 entries.
 */
#include <immintrin.h>

#include "scan.h"

/* 32 byte sums in 16-bit words: `odd` holds the odd bytes, `both` the even ones plus
 * 256 times the odd ones, modulo 2^16. */
typedef struct wide {
    __m256i both, odd;
} wide;

static inline void widen(wide *w, __m256i bytes) {
    w->both = _mm256_add_epi16(w->both, bytes);
    w->odd = _mm256_add_epi16(w->odd, _mm256_srli_epi16(bytes, 8));
}

/* 32 totals in the order of their bytes. */
static inline void in_order(const wide *w, __m256i out[2]) {
    __m256i even = _mm256_sub_epi16(w->both, _mm256_slli_epi16(w->odd, 8));
    __m256i lo = _mm256_unpacklo_epi16(even, w->odd);
    __m256i hi = _mm256_unpackhi_epi16(even, w->odd);
    out[0] = _mm256_permute2x128_si256(lo, hi, 0x20);
    out[1] = _mm256_permute2x128_si256(lo, hi, 0x31);
}

/* Adds the entries of four columns, which fit a byte as none is > 63, to the totals of
 * lanes 0..31 and 32..63. */
RVK_INLINE void four_columns(const __m256i low[4], const __m256i high[4],
                             const uint8_t *lut, wide *lower, wide *upper) {
    __m256i lo = _mm256_setzero_si256(), hi = lo;
    RVK_UNROLL
    for (int k = 0; k < 4; k++) {
        __m256i table =
            _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)(lut + 16 * k)));
        lo = _mm256_add_epi8(lo, _mm256_shuffle_epi8(table, low[k]));
        hi = _mm256_add_epi8(hi, _mm256_shuffle_epi8(table, high[k]));
    }
    widen(lower, lo);
    widen(upper, hi);
}

/* The 64 lane totals of a block for n queries. */
RVK_INLINE void sum_block(const rvk_scan *s, size_t n, const uint8_t *codes,
                          size_t columns, __m256i totals[][4]) {
    const __m256i zero = _mm256_setzero_si256(), nibble = _mm256_set1_epi8(15);
    wide lower[RVK_SCANS], upper[RVK_SCANS];
    const uint8_t *lut[RVK_SCANS];
    RVK_UNROLL
    for (size_t q = 0; q < n; q++) {
        lower[q] = upper[q] = (wide){zero, zero};
        lut[q] = s[q].lut;
    }
    for (size_t g = 0; g < columns; g += 4) {
        __m256i low[4], high[4];
        RVK_UNROLL
        for (size_t k = 0; k < 4; k++) {
            __m256i x = _mm256_loadu_si256((const void *)(codes + (g + k) * 32));
            if (k % 2 == 0) rvk_fetch_ahead(codes + (g + k) * 32, s->ahead);
            low[k] = _mm256_and_si256(x, nibble);
            high[k] = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
        }
        RVK_UNROLL
        for (size_t q = 0; q < n; q++)
            four_columns(low, high, lut[q] + g * 16, &lower[q], &upper[q]);
    }
    RVK_UNROLL
    for (size_t q = 0; q < n; q++) {
        in_order(&lower[q], totals[q]);
        in_order(&upper[q], totals[q] + 2);
    }
}

/* Bits of the lanes below the limit; if there are any, the bounds of all lanes are
 * stored. */
static inline uint64_t passing(const rvk_scan *s, const float *a, const float *b,
                               const __m256i totals[4], float bounds[RVK_BLOCK]) {
    const __m256 step_ = _mm256_set1_ps(s->step), bias = _mm256_set1_ps(s->bias);
    const __m256 limit = _mm256_set1_ps(s->limit);
    __m256 bound[8];
    uint64_t mask = 0;
    for (unsigned i = 0; i < 8; i++) {
        __m256i pair_ = totals[i / 2];
        __m128i eight = i % 2 == 0 ? _mm256_castsi256_si128(pair_)
                                   : _mm256_extracti128_si256(pair_, 1);
        __m256 sum = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(eight));
        __m256 estimate = _mm256_fmadd_ps(sum, step_, bias);
        bound[i] = _mm256_fmadd_ps(_mm256_loadu_ps(b + 8 * i), estimate,
                                   _mm256_loadu_ps(a + 8 * i));
        int bits = _mm256_movemask_ps(_mm256_cmp_ps(bound[i], limit, _CMP_LT_OQ));
        mask |= (uint64_t)(unsigned)bits << (8 * i);
    }
    if (mask == 0) return 0;
    for (unsigned i = 0; i < 8; i++) _mm256_storeu_ps(bounds + 8 * i, bound[i]);
    return mask;
}

RVK_INLINE size_t scan(const rvk_scan *s, size_t n, size_t start, uint64_t *masks,
                       float (*bounds)[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(4, s->padded);
    const size_t block_bytes = rvk_block_bytes(4, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        __m256i totals[RVK_SCANS][4];
        uint64_t any = 0;
        sum_block(s, n, codes, code_bytes / 32, totals);
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) {
            masks[q] = passing(&s[q], a, a + RVK_BLOCK, totals[q], bounds[q]);
            any |= masks[q];
        }
        if (any != 0) return block;
    }
    for (size_t q = 0; q < n; q++) masks[q] = 0;
    return s->n_blocks;
}

size_t rvk_scan_avx2(const rvk_scan *s, size_t start, uint64_t *mask,
                     float bounds[RVK_BLOCK]) {
    return scan(s, 1, start, mask, (float(*)[RVK_BLOCK])(void *)bounds);
}

size_t rvk_scan_many_avx2(const rvk_scan *s, size_t n, size_t start,
                          uint64_t masks[RVK_SCANS], float bounds[RVK_SCANS][RVK_BLOCK]) {
    if (n == 1) return scan(s, 1, start, masks, bounds);
    if (n == 2) return scan(s, 2, start, masks, bounds);
    if (n == 3) return scan(s, 3, start, masks, bounds);
    return scan(s, 4, start, masks, bounds);
}
