/*
 * avx512.c - AVX-512 F, BW, VL and DQ: sixteen lanes are one register; the scan looks
 * the nibbles of two columns up at once with pshufb. Also holds the table for machines
 * with VBMI, which differs in the scan alone.
 */
#include "avx512.h"

typedef __m512 v16;

static inline v16 v16_all(float x) { return _mm512_set1_ps(x); }
static inline v16 v16_zero(void) { return _mm512_setzero_ps(); }
static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v16_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
/* Masked-out lanes of a masked load are not accessed. */
static inline v16 v16_load_part(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v16_abs(v16 v) { return _mm512_abs_ps(v); }
static inline v16 v16_flip(v16 v, uint16_t bits) {
    return _mm512_mask_xor_ps(v, bits, v, _mm512_set1_ps(-0.0f));
}
static inline v16 v16_add_where(v16 v, uint16_t bits, v16 x) {
    return _mm512_mask_add_ps(v, bits, v, x);
}
static inline uint16_t v16_positive(v16 v) {
    return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
}
/* partner + v in the lower lane of a pair, partner - v in the upper: a product with
 * +-1 is exact, so the fused step rounds like the plain sum. */
static inline v16 v16_hadamard(v16 v) {
    const __m512 at1 = _mm512_setr4_ps(1, -1, 1, -1);
    const __m512 at2 = _mm512_setr4_ps(1, 1, -1, -1);
    const __m512 at4 =
        _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1);
    const __m512 at8 =
        _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
    v = _mm512_fmadd_ps(v, at1, _mm512_permute_ps(v, 0xB1));
    v = _mm512_fmadd_ps(v, at2, _mm512_permute_ps(v, 0x4E));
    v = _mm512_fmadd_ps(v, at4, _mm512_shuffle_f32x4(v, v, 0xB1));
    return _mm512_fmadd_ps(v, at8, _mm512_shuffle_f32x4(v, v, 0x4E));
}
static inline float v16_fold(v16 v) {
    __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

#define V16_WIDE_TILE /* 32 registers */
#include "lanes.h"

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

static size_t scan(const rvk_scan *s, size_t start, uint64_t *mask,
                   uint16_t sums[RVK_BLOCK]) {
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
        *mask = rvk_passing512(s, a, a + RVK_BLOCK, even, odd, allowed, sums);
        if (*mask != 0) return block;
    }
    *mask = 0;
    return s->n_blocks;
}

const rvk_ops rvk_ops_avx512 = {
    .name = "avx512",
    .group = 4,
    .dot = dot,
    .l2sq = l2sq,
    .dot_tile = dot_tile,
    .l2sq_tile = l2sq_tile,
    .rotate = rotate,
    .encode = encode,
    .code_dot = code_dot,
    .scan = scan,
};

#ifdef RVK_HAVE_AVX512VBMI
const rvk_ops rvk_ops_avx512vbmi = {
    .name = "avx512vbmi",
    .group = 6,
    .dot = dot,
    .l2sq = l2sq,
    .dot_tile = dot_tile,
    .l2sq_tile = l2sq_tile,
    .rotate = rotate,
    .encode = encode,
    .code_dot = code_dot,
    .scan = rvk_scan_avx512vbmi,
};
#endif
