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

/* Adds the entries of one column to the byte sums of lanes 0..31 and 32..63. */
static inline void add_column(const uint8_t *codes, const uint8_t *lut, size_t g,
                              __m256i *lo, __m256i *hi) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i x = _mm256_loadu_si256((const void *)(codes + g * 32));
    __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)(lut + g * 16)));
    __m256i low = _mm256_and_si256(x, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
    *lo = _mm256_add_epi8(*lo, _mm256_shuffle_epi8(table, low));
    *hi = _mm256_add_epi8(*hi, _mm256_shuffle_epi8(table, high));
}

/* The 64 lane totals of a block. Four entries <= 63 add up in a byte. */
static inline void sum_block(const uint8_t *codes, const uint8_t *lut, size_t columns,
                             __m256i totals[4]) {
    const __m256i zero = _mm256_setzero_si256();
    wide lower = {zero, zero}, upper = {zero, zero};
    for (size_t g = 0; g < columns; g += 4) {
        __m256i lo = zero, hi = zero;
        add_column(codes, lut, g, &lo, &hi);
        add_column(codes, lut, g + 1, &lo, &hi);
        add_column(codes, lut, g + 2, &lo, &hi);
        add_column(codes, lut, g + 3, &lo, &hi);
        widen(&lower, lo);
        widen(&upper, hi);
    }
    in_order(&lower, totals);
    in_order(&upper, totals + 2);
}

/* Bits of the lanes below the limit, eight at a time. */
static inline uint64_t passing(const rvk_scan *s, const float *a, const float *b,
                               const __m256i totals[4], __m256 bounds[8]) {
    const __m256 step_ = _mm256_set1_ps(s->step), bias = _mm256_set1_ps(s->bias);
    const __m256 limit = _mm256_set1_ps(s->limit);
    uint64_t mask = 0;
    for (unsigned i = 0; i < 8; i++) {
        __m256i pair_ = totals[i / 2];
        __m128i eight = i % 2 == 0 ? _mm256_castsi256_si128(pair_)
                                   : _mm256_extracti128_si256(pair_, 1);
        __m256 sum = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(eight));
        __m256 estimate = _mm256_fmadd_ps(sum, step_, bias);
        bounds[i] = _mm256_fmadd_ps(_mm256_loadu_ps(b + 8 * i), estimate,
                                    _mm256_loadu_ps(a + 8 * i));
        int bits = _mm256_movemask_ps(_mm256_cmp_ps(bounds[i], limit, _CMP_LT_OQ));
        mask |= (uint64_t)(unsigned)bits << (8 * i);
    }
    return mask;
}

size_t rvk_scan_avx2(const rvk_scan *s, size_t start, uint64_t *mask,
                     float bounds[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(4, s->padded);
    const size_t block_bytes = rvk_block_bytes(4, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint64_t allowed = s->allow != NULL ? s->allow[block] : UINT64_MAX;
        if (allowed == 0) continue;
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        __m256i totals[4];
        __m256 bound[8];
        sum_block(codes, s->lut, code_bytes / 32, totals);
        *mask = passing(s, a, a + RVK_BLOCK, totals, bound) & allowed;
        if (*mask != 0) {
            for (unsigned i = 0; i < 8; i++) _mm256_storeu_ps(bounds + 8 * i, bound[i]);
            return block;
        }
    }
    *mask = 0;
    return s->n_blocks;
}
