/*
 * avx512.c - AVX-512 F, BW, VL and DQ: sixteen lanes are one register. Also holds the
 * table for machines with VBMI and VNNI, which differs in the scan and the screen.
 */
#include <immintrin.h>

#include "scan.h"

typedef __m512 v16;

static inline v16 v16_all(float x) { return _mm512_set1_ps(x); }
static inline v16 v16_zero(void) { return _mm512_setzero_ps(); }
static inline v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v16_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
/* Masked-out lanes of a masked load are not accessed. */
static inline v16 v16_load_part(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline v16 v16_load_half(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline v16 v16_load_half_part(const uint8_t *p, size_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
static inline void v16_store_half(uint8_t *p, v16 v) {
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v16_abs(v16 v) { return _mm512_abs_ps(v); }
static inline v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v16_flip(v16 v, uint16_t bits) {
    return _mm512_mask_xor_ps(v, bits, v, _mm512_set1_ps(-0.0f));
}
static inline v16 v16_add_where(v16 v, uint16_t bits, v16 x) {
    return _mm512_mask_add_ps(v, bits, v, x);
}
static inline uint16_t v16_positive(v16 v) {
    return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
}
/* The second operand of a minimum is the result where the first is NaN. */
static inline v16 v16_level(v16 v, v16 top) {
    return _mm512_min_ps(_mm512_roundscale_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC),
                         top);
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

typedef __m256i b32;

static inline b32 b32_zero(void) { return _mm256_setzero_si256(); }
static inline b32 b32_add_bits(b32 x, uint32_t bits, unsigned p) {
    return _mm256_mask_add_epi8(x, bits, x, _mm256_set1_epi8((char)(1u << p)));
}
static inline v16 bytes_to_floats(__m128i bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}
static inline v16 b32_low(b32 x) { return bytes_to_floats(_mm256_castsi256_si128(x)); }
static inline v16 b32_high(b32 x) {
    return bytes_to_floats(_mm256_extracti128_si256(x, 1));
}

/* Each step of the fold for two, four, eight and sixteen sums at once: the parts to be
 * added come to lie in two registers. */
static inline __m512 merge8(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44),
                         _mm512_shuffle_f32x4(a, b, 0xEE));
}
static inline __m512 merge4(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88),
                         _mm512_shuffle_f32x4(a, b, 0xDD));
}
static inline __m512 merge2(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
}
static inline __m512 merge1(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}
#define V16_TILE 4

static inline void v16_fold_tile(v16 s[V16_TILE][V16_TILE], float *out, size_t pitch) {
    __m512 row[4];
    RVK_UNROLL
    for (int k = 0; k < 4; k++)
        row[k] = merge4(merge8(s[0][k], s[1][k]), merge8(s[2][k], s[3][k]));
    __m512 all = merge1(merge2(row[0], row[1]), merge2(row[2], row[3]));
    _mm_storeu_ps(out, _mm512_castps512_ps128(all));
    _mm_storeu_ps(out + pitch, _mm512_extractf32x4_ps(all, 1));
    _mm_storeu_ps(out + 2 * pitch, _mm512_extractf32x4_ps(all, 2));
    _mm_storeu_ps(out + 3 * pitch, _mm512_extractf32x4_ps(all, 3));
}

#include "lanes.h"

#define V16_PLACES 7
#define V16_GROUPS 3
#include "conv_lanes.h"

const rvk_ops rvk_ops_avx512 = {
    .name = "avx512",
    .group = 4,
    .turn = UINT64_C(1) << 29,
    .sharing = 32,
    .dot = dot,
    .l2sq = l2sq,
    .dot_half = dot_half,
    .l2sq_half = l2sq_half,
    .widen = widen,
    .narrow = narrow,
    .dot_tile = dot_tile,
    .l2sq_tile = l2sq_tile,
    .rotate = rotate,
    .encode = encode,
    .code_dot = code_dot,
    .quantize = quantize,
    .level_dot = level_dot,
    .scan = rvk_scan_avx512,
    .scan_many = rvk_scan_many_avx512,
    .conv = conv,
    .depthwise = depthwise,
    .channel_mean = channel_mean,
    .channel_scale = channel_scale,
};

#ifdef RVK_HAVE_AVX512VBMI
#include "screen_avx512vbmi.h"

const rvk_ops rvk_ops_avx512vbmi = {
    .name = "avx512vbmi",
    .group = 4,
    .turn = UINT64_C(1) << 29,
    .sharing = 32,
    .dot = dot,
    .l2sq = l2sq,
    .dot_half = dot_half,
    .l2sq_half = l2sq_half,
    .widen = widen,
    .narrow = narrow,
    .dot_tile = dot_tile,
    .l2sq_tile = l2sq_tile,
    .pack = pack,
    .screen = screen,
    .rotate = rotate,
    .encode = encode,
    .code_dot = code_dot,
    .quantize = quantize,
    .level_dot = level_dot,
    .scan = rvk_scan_avx512vbmi,
    .scan_many = rvk_scan_many_avx512vbmi,
    .conv = conv,
    .depthwise = depthwise,
    .channel_mean = channel_mean,
    .channel_scale = channel_scale,
};
#endif
