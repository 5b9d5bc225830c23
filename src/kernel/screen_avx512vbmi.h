/*
 * screen_avx512vbmi.h - vectors rounded to bytes, and their inner products with AVX-512
 * VNNI: a row of a pack takes one lane, so that the sums of sixteen rows need no folding.
 * The instruction multiplies unsigned by signed bytes: rows are stored with 128 added,
 * and sums start that much lower.
 *
 * VNNI is allowed function by function, for the file that includes this one may not use
 * it elsewhere.
 */
#ifndef RVK_SCREEN_AVX512VBMI_H
#define RVK_SCREEN_AVX512VBMI_H

#include <immintrin.h>
#include <math.h>

#include "scan.h"

#if defined(__GNUC__)
#define RVK_VNNI __attribute__((target("avx512vnni")))
#else
#define RVK_VNNI
#endif

static inline __m512 load_up_to_16(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu), p);
}

static float largest_of(const float *x, size_t dim) {
    __m512 most = _mm512_setzero_ps();
    for (size_t j = 0; j < dim; j += 16)
        most = _mm512_max_ps(_mm512_abs_ps(load_up_to_16(x + j, dim - j)), most);
    return _mm512_reduce_max_ps(most);
}

/* Below this a scale would be inexact, or its reciprocal infinite. */
#define LEAST 0x1p-100f

#define AT_ONCE 4 /* vectors packed together */

/* Sixteen bytes of each of four vectors, so that four of one vector follow those of the
 * one before. */
static inline __m512i in_quads(const __m128i bytes[AT_ONCE]) {
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m256i lo = _mm256_inserti128_si256(_mm256_castsi128_si256(bytes[0]), bytes[1], 1);
    __m256i hi = _mm256_inserti128_si256(_mm256_castsi128_si256(bytes[2]), bytes[3], 1);
    __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
    return _mm512_permutexvar_epi32(order, all);
}

/* Fetches what lies `ahead` bytes on, for the next call. */
static void pack_some(const float *const x[AT_ONCE], size_t dim, bool rows, size_t i,
                      uintptr_t ahead, rvk_pack *out) {
    const __m128i flip = _mm_set1_epi8(rows ? (char)-128 : 0);
    __m512 by[AT_ONCE], back[AT_ONCE], norm2[AT_ONCE], error2[AT_ONCE];
    __m512i sum[AT_ONCE];
    RVK_UNROLL
    for (unsigned k = 0; k < AT_ONCE; k++) {
        const float most = largest_of(x[k], dim);
        out->scale[i + k] = most >= LEAST ? most / 127.0f : 0.0f;
        by[k] = _mm512_set1_ps(most >= LEAST ? 127.0f / most : 0.0f);
        back[k] = _mm512_set1_ps(out->scale[i + k]);
        norm2[k] = error2[k] = _mm512_setzero_ps();
        sum[k] = _mm512_setzero_si512();
    }
    __m128i *to = (__m128i *)(void *)out->bytes + i / AT_ONCE;
    for (size_t j = 0; j < dim; j += 16, to += 16) {
        __m128i bytes[AT_ONCE];
        RVK_UNROLL
        for (unsigned k = 0; k < AT_ONCE; k++) {
            _mm_prefetch((const char *)((uintptr_t)(x[k] + j) + ahead), _MM_HINT_T1);
            __m512 v = load_up_to_16(x[k] + j, dim - j);
            __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(v, by[k]));
            __m512 d = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(n), back[k], v);
            norm2[k] = _mm512_fmadd_ps(v, v, norm2[k]);
            error2[k] = _mm512_fmadd_ps(d, d, error2[k]);
            sum[k] = _mm512_add_epi32(sum[k], n);
            bytes[k] = _mm_xor_si128(_mm512_cvtepi32_epi8(n), flip);
        }
        const __m512i quads = in_quads(bytes);
        _mm_store_si128(to, _mm512_castsi512_si128(quads));
        _mm_store_si128(to + 4, _mm512_extracti32x4_epi32(quads, 1));
        _mm_store_si128(to + 8, _mm512_extracti32x4_epi32(quads, 2));
        _mm_store_si128(to + 12, _mm512_extracti32x4_epi32(quads, 3));
    }
    RVK_UNROLL
    for (unsigned k = 0; k < AT_ONCE; k++) {
        out->norm2[i + k] = _mm512_reduce_add_ps(norm2[k]);
        out->error[i + k] = sqrtf(_mm512_reduce_add_ps(error2[k]));
        out->start[i + k] = rows ? 0 : -128 * _mm512_reduce_add_epi32(sum[k]);
    }
}

static void pack(const void *vectors, size_t stride_bytes, size_t n, size_t dim,
                 bool rows, rvk_pack *out) {
    for (size_t i = 0; i < n; i += AT_ONCE) {
        const float *x[AT_ONCE];
        for (size_t k = 0; k < AT_ONCE; k++) {
            const size_t row = i + k < n ? i + k : n - 1;
            x[k] = (const float *)(const void *)((const uint8_t *)vectors +
                                                 row * stride_bytes);
        }
        pack_some(x, dim, rows, i, RVK_PACK * stride_bytes, out);
    }
}

/* Eight queries: with more, compilers run out of registers. */
RVK_VNNI static void screen_half(const rvk_pack *rows, const float *term,
                                 const rvk_pack *queries, size_t first,
                                 const float *limit, size_t dim, uint16_t *masks) {
    const int32_t *q = (const int32_t *)(const void *)queries->bytes + first;
    const uint8_t *r = rows->bytes;
    const __m512 at = _mm512_loadu_ps(term), scale = _mm512_loadu_ps(rows->scale);
    const __m512 length = _mm512_loadu_ps(rows->length);
    const __m512 error = _mm512_loadu_ps(rows->error);
    __m512i s[RVK_PACK / 2];
    RVK_UNROLL
    for (unsigned i = 0; i < RVK_PACK / 2; i++)
        s[i] = _mm512_set1_epi32(queries->start[first + i]);
    for (size_t j = 0; j < (dim + 15) / 16 * 4; j++, q += 16, r += 64) {
        const __m512i x = _mm512_load_si512((const void *)r);
        RVK_UNROLL
        for (unsigned i = 0; i < RVK_PACK / 2; i++)
            s[i] = _mm512_dpbusd_epi32(s[i], x, _mm512_set1_epi32(q[i]));
    }
    RVK_UNROLL
    for (unsigned i = 0; i < RVK_PACK / 2; i++) {
        const size_t k = first + i;
        __m512 low = _mm512_fnmadd_ps(length, _mm512_set1_ps(queries->error[k]), at);
        low = _mm512_fnmadd_ps(error, _mm512_set1_ps(queries->length[k]), low);
        __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(s[i]), scale);
        low = _mm512_fnmadd_ps(product, _mm512_set1_ps(queries->scale[k]), low);
        masks[k] = _mm512_cmp_ps_mask(low, _mm512_set1_ps(limit[k]), _CMP_NGT_UQ);
    }
}

static void screen(const rvk_pack *rows, const float term[RVK_PACK],
                   const rvk_pack *queries, const float limit[RVK_PACK], size_t dim,
                   uint16_t masks[RVK_PACK]) {
    screen_half(rows, term, queries, 0, limit, dim, masks);
    screen_half(rows, term, queries, RVK_PACK / 2, limit, dim, masks);
}

#endif
