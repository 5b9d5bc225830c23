/*
 * avx2.c - AVX2 with FMA and F16C: sixteen lanes are two registers.
 */
#include <immintrin.h>
#include <string.h>

#include "scan.h"

typedef struct v16 {
    __m256 lo, hi;
} v16;

static inline v16 v16_all(float x) {
    __m256 v = _mm256_set1_ps(x);
    return (v16){v, v};
}
static inline v16 v16_zero(void) { return v16_all(0.0f); }
static inline v16 v16_load(const float *p) {
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void v16_store(float *p, v16 v) {
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
/* Masked-out lanes of a masked load are not accessed. */
static inline v16 v16_load_part(const float *p, size_t n) {
    const __m256i count = _mm256_set1_epi32((int)n);
    const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
    return (v16){_mm256_maskload_ps(p, _mm256_cmpgt_epi32(count, low)),
                 _mm256_maskload_ps(p + 8, _mm256_cmpgt_epi32(count, high))};
}
static inline v16 v16_load_half(const uint8_t *p) {
    const __m128i *at = (const __m128i *)(const void *)p;
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(at)),
                 _mm256_cvtph_ps(_mm_loadu_si128(at + 1))};
}
static inline v16 v16_load_half_part(const uint8_t *p, size_t n) {
    uint8_t whole[32] = {0};
    memcpy(whole, p, 2 * n);
    return v16_load_half(whole);
}
static inline void v16_store_half(uint8_t *p, v16 v) {
    __m128i *at = (__m128i *)(void *)p;
    _mm_storeu_si128(at, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(at + 1, _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT));
}
static inline v16 v16_add(v16 a, v16 b) {
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
static inline v16 v16_sub(v16 a, v16 b) {
    return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
static inline v16 v16_mul(v16 a, v16 b) {
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 v16_abs(v16 v) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, v.lo), _mm256_andnot_ps(sign, v.hi)};
}
static inline v16 v16_max(v16 a, v16 b) {
    return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
static inline v16 v16_min(v16 a, v16 b) {
    return (v16){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
/* Bit i of eight moved to the sign of lane i. */
static inline __m256i bits_to_signs(unsigned bits) {
    const __m256i shift = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    return _mm256_sllv_epi32(_mm256_set1_epi32((int)bits), shift);
}
static inline v16 v16_flip(v16 v, uint16_t bits) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 lo = _mm256_castsi256_ps(bits_to_signs(bits));
    __m256 hi = _mm256_castsi256_ps(bits_to_signs(bits >> 8));
    return (v16){_mm256_xor_ps(v.lo, _mm256_and_ps(lo, sign)),
                 _mm256_xor_ps(v.hi, _mm256_and_ps(hi, sign))};
}
static inline v16 v16_add_where(v16 v, uint16_t bits, v16 x) {
    __m256i lo = _mm256_srai_epi32(bits_to_signs(bits), 31);
    __m256i hi = _mm256_srai_epi32(bits_to_signs(bits >> 8), 31);
    return (v16){_mm256_add_ps(v.lo, _mm256_and_ps(x.lo, _mm256_castsi256_ps(lo))),
                 _mm256_add_ps(v.hi, _mm256_and_ps(x.hi, _mm256_castsi256_ps(hi)))};
}
static inline uint16_t v16_positive(v16 v) {
    const __m256 zero = _mm256_setzero_ps();
    int lo = _mm256_movemask_ps(_mm256_cmp_ps(v.lo, zero, _CMP_GT_OQ));
    int hi = _mm256_movemask_ps(_mm256_cmp_ps(v.hi, zero, _CMP_GT_OQ));
    return (uint16_t)(lo | hi << 8);
}
/* The second operand of a minimum is the result where the first is NaN. */
static inline __m256 level8(__m256 v, __m256 top) {
    return _mm256_min_ps(_mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC), top);
}
static inline v16 v16_level(v16 v, v16 top) {
    return (v16){level8(v.lo, top.lo), level8(v.hi, top.hi)};
}
/* partner + v in the lower lane of a pair, partner - v in the upper: a product with
 * +-1 is exact, so the fused step rounds like the plain sum. */
static inline __m256 hadamard8(__m256 v) {
    const __m256 at1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
    const __m256 at2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
    const __m256 at4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    v = _mm256_fmadd_ps(v, at1, _mm256_permute_ps(v, 0xB1));
    v = _mm256_fmadd_ps(v, at2, _mm256_permute_ps(v, 0x4E));
    return _mm256_fmadd_ps(v, at4, _mm256_permute2f128_ps(v, v, 0x01));
}
static inline v16 v16_hadamard(v16 v) {
    __m256 lo = hadamard8(v.lo), hi = hadamard8(v.hi);
    return (v16){_mm256_add_ps(lo, hi), _mm256_sub_ps(lo, hi)};
}
static inline float v16_fold(v16 v) {
    __m256 s8 = _mm256_add_ps(v.lo, v.hi);
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

#define V16_TILE 2

/* Each step of the fold for two and four sums at once: the parts to be added come to lie
 * in two registers. */
static inline __m256 merge8_and_4(v16 a, v16 b) {
    __m256 x = _mm256_add_ps(a.lo, a.hi), y = _mm256_add_ps(b.lo, b.hi);
    return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20),
                         _mm256_permute2f128_ps(x, y, 0x31));
}
static inline void v16_fold_tile(v16 s[V16_TILE][V16_TILE], float *out, size_t pitch) {
    __m256 first = merge8_and_4(s[0][0], s[0][1]),
           second = merge8_and_4(s[1][0], s[1][1]);
    __m256 s2 = _mm256_add_ps(_mm256_shuffle_ps(first, second, 0x44),
                              _mm256_shuffle_ps(first, second, 0xEE));
    __m256 s1 = _mm256_add_ps(s2, _mm256_movehdup_ps(s2));
    __m128 lo = _mm256_castps256_ps128(s1), hi = _mm256_extractf128_ps(s1, 1);
    _mm_storel_pi((__m64 *)(void *)out, _mm_unpacklo_ps(lo, hi));
    _mm_storel_pi((__m64 *)(void *)(out + pitch), _mm_unpackhi_ps(lo, hi));
}

typedef __m256i b32;

static inline b32 b32_zero(void) { return _mm256_setzero_si256(); }
static inline b32 b32_add_bits(b32 x, uint32_t bits, unsigned p) {
    const __m256i byte_of =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte_of);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit_of), bit_of);
    return _mm256_or_si256(x, _mm256_and_si256(set, _mm256_set1_epi8((char)(1u << p))));
}
static inline v16 bytes_to_floats(__m128i bytes) {
    __m256i lo = _mm256_cvtepu8_epi32(bytes);
    __m256i hi = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
    return (v16){_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)};
}
static inline v16 b32_low(b32 x) { return bytes_to_floats(_mm256_castsi256_si128(x)); }
static inline v16 b32_high(b32 x) {
    return bytes_to_floats(_mm256_extracti128_si256(x, 1));
}

#include "lanes.h"

#define V16_PLACES 6
#define V16_GROUPS 1
#include "conv_lanes.h"

const rvk_ops rvk_ops_avx2 = {
    .name = "avx2",
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
    .scan = rvk_scan_avx2,
    .scan_many = rvk_scan_many_avx2,
    .conv = conv,
    .depthwise = depthwise,
    .channel_mean = channel_mean,
    .channel_scale = channel_scale,
};
