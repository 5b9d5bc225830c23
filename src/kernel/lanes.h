/*
 * lanes.h - every kernel but the block scan, the screen and the convolutions
 * (conv_lanes.h), written once over a vector of sixteen floats. The includer defines the
 * type v16 and, all static inline:
 *
 *   v16_zero()  v16_all(x)            all lanes +0; all lanes x
 *   v16_load(p)  v16_store(p, v)      sixteen floats, any alignment
 *   v16_load_part(p, n)               n < 16 floats, the other lanes +0, no byte beyond
 *   v16_load_half(p)  v16_load_half_part(p, n)  v16_store_half(p, v)
 *                                     the same of sixteen in binary16; stored is the
 *                                     nearest, of two the even one
 *   v16_add  v16_sub  v16_mul         lane by lane
 *   v16_fma(a, b, c)                  a * b + c, rounded once
 *   v16_abs(v)
 *   v16_max(a, b)                     a in the lanes where it is greater, else b
 *   v16_flip(v, bits)                 negates the lanes whose bit is set
 *   v16_add_where(v, bits, x)         v + x in the lanes whose bit is set
 *   v16_positive(v)                   bits of the lanes > 0
 *   v16_level(v, top)                 v cut to an integer where that is < top, else top
 *   v16_hadamard(v)                   butterflies at distance 1, 2, 4, 8 in that order
 *   v16_fold(v)                       s[i] + s[i+8], then +4, +2, +1
 *   v16_fold_tile(s, out, pitch)      out[i * pitch + k] = v16_fold(s[i][k]) for i and k
 *                                     below V16_TILE: its square of sums and as many
 *                                     inputs as its side stay in registers
 *
 * and over a vector of thirty-two bytes, b32:
 *
 *   b32_zero()
 *   b32_add_bits(x, bits, p)          x + 2^p in the bytes whose bit is set
 *   b32_low(x)  b32_high(x)           the first and the last sixteen as floats
 *
 * Everything here is static: each includer gets its own copy under its own flags.
 */
#ifndef RVK_LANES_H
#define RVK_LANES_H

#include <string.h>

#include "levels.h"
#include "scan.h"

/* One element-wise step of a distance. `squared` is a constant at every call. */
RVK_INLINE v16 step(v16 acc, v16 a, v16 b, bool squared) {
    if (!squared) return v16_fma(a, b, acc);
    v16 d = v16_sub(a, b);
    return v16_fma(d, d, acc);
}

RVK_INLINE float pair(const float *a, const float *b, size_t n, bool squared) {
    v16 acc = v16_zero();
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        acc = step(acc, v16_load(a + j), v16_load(b + j), squared);
    }
    if (j < n) {
        v16 x = v16_load_part(a + j, n - j), y = v16_load_part(b + j, n - j);
        acc = step(acc, x, y, squared);
    }
    return v16_fold(acc);
}

RVK_INLINE float pair_half(const float *a, const uint8_t *halves, size_t n,
                           bool squared) {
    v16 acc = v16_zero();
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        acc = step(acc, v16_load(a + j), v16_load_half(halves + 2 * j), squared);
    }
    if (j < n) {
        v16 x = v16_load_part(a + j, n - j);
        acc = step(acc, x, v16_load_half_part(halves + 2 * j, n - j), squared);
    }
    return v16_fold(acc);
}

static inline const float *row_at(const uint8_t *rows, size_t stride, size_t i) {
    return (const float *)(const void *)(rows + i * stride);
}

enum { TILE = V16_TILE };

/* TILE queries by as many rows: every load serves that many steps. */
RVK_INLINE void square(const float *const q[TILE], const float *const r[TILE], size_t n,
                       size_t pitch, float *out, bool squared) {
    v16 s[TILE][TILE], x[TILE];
    size_t j = 0;
    RVK_UNROLL
    for (int i = 0; i < TILE * TILE; i++) s[i / TILE][i % TILE] = v16_zero();
    for (; j + 16 <= n; j += 16) {
        RVK_UNROLL
        for (int i = 0; i < TILE; i++) x[i] = v16_load(r[i] + j);
        RVK_UNROLL
        for (int i = 0; i < TILE; i++) {
            v16 y = v16_load(q[i] + j);
            RVK_UNROLL
            for (int k = 0; k < TILE; k++) s[i][k] = step(s[i][k], y, x[k], squared);
        }
    }
    if (j < n) {
        RVK_UNROLL
        for (int i = 0; i < TILE; i++) x[i] = v16_load_part(r[i] + j, n - j);
        RVK_UNROLL
        for (int i = 0; i < TILE; i++) {
            v16 y = v16_load_part(q[i] + j, n - j);
            RVK_UNROLL
            for (int k = 0; k < TILE; k++) s[i][k] = step(s[i][k], y, x[k], squared);
        }
    }
    v16_fold_tile(s, out, pitch);
}

RVK_INLINE void tile(const float *queries, size_t n_queries, const uint8_t *rows,
                     size_t stride, size_t n_rows, size_t n, float *out, bool squared) {
    size_t i = 0;
    for (; i + TILE <= n_queries; i += TILE) {
        const float *q[TILE], *x[TILE];
        size_t r = 0;
        for (size_t k = 0; k < TILE; k++) q[k] = queries + (i + k) * n;
        for (; r + TILE <= n_rows; r += TILE) {
            for (size_t k = 0; k < TILE; k++) x[k] = row_at(rows, stride, r + k);
            square(q, x, n, n_rows, out + i * n_rows + r, squared);
        }
        for (; r < n_rows; r++)
            for (size_t k = 0; k < TILE; k++)
                out[(i + k) * n_rows + r] =
                    pair(q[k], row_at(rows, stride, r), n, squared);
    }
    /* Row after row, as memory is fetched best: the processor overlaps their sums. */
    for (; i < n_queries; i++)
        for (size_t r = 0; r < n_rows; r++)
            out[i * n_rows + r] =
                pair(queries + i * n, row_at(rows, stride, r), n, squared);
}

static float dot(const float *a, const float *b, size_t n) {
    return pair(a, b, n, false);
}

static float l2sq(const float *a, const float *b, size_t n) {
    return pair(a, b, n, true);
}

static float dot_half(const float *a, const void *halves, size_t n) {
    return pair_half(a, halves, n, false);
}

static float l2sq_half(const float *a, const void *halves, size_t n) {
    return pair_half(a, halves, n, true);
}

static void widen(const void *halves, size_t n, float *out) {
    const uint8_t *at = halves;
    float rest[16];
    size_t j = 0;
    for (; j + 16 <= n; j += 16) v16_store(out + j, v16_load_half(at + 2 * j));
    if (j == n) return;
    v16_store(rest, v16_load_half_part(at + 2 * j, n - j));
    memcpy(out + j, rest, (n - j) * sizeof *rest);
}

/* Bits of the lanes that stay finite. */
static inline uint16_t fits_half(v16 v) {
    return v16_positive(v16_sub(v16_all(65520.0f), v16_abs(v)));
}

static bool narrow(const float *x, size_t n, void *halves) {
    uint8_t *at = halves, rest[32];
    uint16_t fits = UINT16_MAX;
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        v16 v = v16_load(x + j);
        fits &= fits_half(v);
        v16_store_half(at + 2 * j, v);
    }
    if (j < n) {
        v16 v = v16_load_part(x + j, n - j);
        fits &= fits_half(v);
        v16_store_half(rest, v);
        memcpy(at + 2 * j, rest, 2 * (n - j));
    }
    return fits == UINT16_MAX;
}

static void dot_tile(const float *queries, size_t n_queries, const void *rows,
                     size_t stride_bytes, size_t n_rows, size_t dim, float *out) {
    tile(queries, n_queries, rows, stride_bytes, n_rows, dim, out, false);
}

static void l2sq_tile(const float *queries, size_t n_queries, const void *rows,
                      size_t stride_bytes, size_t n_rows, size_t dim, float *out) {
    tile(queries, n_queries, rows, stride_bytes, n_rows, dim, out, true);
}

/* Sign flips, then the stages at distance 1 to 16: one word of signs per step. */
static inline void flip_and_start(float *y, size_t n, const uint32_t *signs) {
    for (size_t j = 0; j < n; j += 32) {
        const uint32_t word = signs[j / 32];
        v16 a = v16_hadamard(v16_flip(v16_load(y + j), (uint16_t)word));
        v16 b = v16_hadamard(v16_flip(v16_load(y + j + 16), (uint16_t)(word >> 16)));
        v16_store(y + j, v16_add(a, b));
        v16_store(y + j + 16, v16_sub(a, b));
    }
}

/* Stages at distance h and 2h in one pass over memory. */
static inline void two_stages(float *y, size_t n, size_t h) {
    for (size_t i = 0; i < n; i += 4 * h) {
        for (size_t j = i; j < i + h; j += 16) {
            v16 a = v16_load(y + j), b = v16_load(y + j + h);
            v16 c = v16_load(y + j + 2 * h), d = v16_load(y + j + 3 * h);
            v16 ab = v16_add(a, b), a_b = v16_sub(a, b);
            v16 cd = v16_add(c, d), c_d = v16_sub(c, d);
            v16_store(y + j, v16_add(ab, cd));
            v16_store(y + j + h, v16_add(a_b, c_d));
            v16_store(y + j + 2 * h, v16_sub(ab, cd));
            v16_store(y + j + 3 * h, v16_sub(a_b, c_d));
        }
    }
}

/* (a, b) -> (a + b, a - b) between the halves of n elements, each then scaled. */
static inline void halves(float *y, size_t n, v16 factor) {
    for (size_t j = 0; j < n / 2; j += 16) {
        v16 a = v16_load(y + j), b = v16_load(y + j + n / 2);
        v16_store(y + j, v16_mul(v16_add(a, b), factor));
        v16_store(y + j + n / 2, v16_mul(v16_sub(a, b), factor));
    }
}

/* Flips and the whole unscaled transform of n = 2^k >= 32 elements. */
static inline void hadamard(float *y, size_t n, const uint32_t *signs) {
    size_t h = 32;
    flip_and_start(y, n, signs);
    for (; 4 * h <= n; h *= 4) two_stages(y, n, h);
    if (h < n) halves(y, n, v16_all(1.0f));
}

static inline void flip(float *y, size_t n, const uint32_t *signs) {
    for (size_t j = 0; j < n; j += 32) {
        const uint32_t word = signs[j / 32];
        v16_store(y + j, v16_flip(v16_load(y + j), (uint16_t)word));
        v16_store(y + j + 16, v16_flip(v16_load(y + j + 16), (uint16_t)(word >> 16)));
    }
}

static inline void scale(float *y, size_t n, float factor) {
    const v16 f = v16_all(factor);
    for (size_t j = 0; j < n; j += 16) v16_store(y + j, v16_mul(v16_load(y + j), f));
}

/* Half of padded may be an odd multiple of 16, hence steps of one vector in halves(). */
static void rotate(float *y, size_t padded, const uint32_t *signs) {
    const size_t words = padded / 32;
    size_t t = 32;
    while (2 * t <= padded) t *= 2;
    if (t == padded) {
        for (unsigned round = 0; round < 4; round++, signs += words) {
            hadamard(y, t, signs);
        }
        scale(y, padded, 1.0f / (float)t / (float)t);
        return;
    }
    const float norm = (float)(1.0 / sqrt((double)t));
    for (unsigned round = 0; round < 4; round++, signs += words) {
        const size_t part = round % 2 == 0 ? 0 : padded - t;
        const size_t rest = round % 2 == 0 ? t : 0;
        flip(y + rest, padded - t, signs + rest / 32);
        hadamard(y + part, t, signs + part / 32);
        scale(y + part, t, norm);
        halves(y, padded, v16_all(round < 3 ? 1.0f : 0.25f));
    }
}

static inline void put_bits(uint8_t *code, uint16_t bits) {
    code[0] = (uint8_t)bits;
    code[1] = (uint8_t)(bits >> 8);
}

static inline uint16_t get_bits(const uint8_t *code) {
    return (uint16_t)(code[0] | code[1] << 8);
}

static void encode(const float *x, const float *centroid, const float *w, size_t padded,
                   uint8_t *code, rvk_residual *out) {
    v16 norm2 = v16_zero(), norm1 = norm2, sign_c = norm2, dot_w = norm2;
    for (size_t j = 0; j < padded; j += 16) {
        v16 c = v16_load(centroid + j), r = v16_sub(v16_load(x + j), c);
        uint16_t bits = v16_positive(r);
        put_bits(code + j / 8, bits);
        norm2 = v16_fma(r, r, norm2);
        norm1 = v16_add(norm1, v16_abs(r));
        sign_c = v16_add(sign_c, v16_flip(c, (uint16_t)~bits));
        if (w != NULL) dot_w = v16_fma(r, v16_load(w + j), dot_w);
    }
    out->norm2 = v16_fold(norm2);
    out->norm1 = v16_fold(norm1);
    out->sign_c = v16_fold(sign_c);
    out->dot_w = v16_fold(dot_w);
}

/* A lane that skips an addition equals one that adds +0: sums that start at +0 and
 * only add never become -0. */
static float code_dot(const uint8_t *code, const float *query, size_t padded) {
    v16 acc = v16_zero();
    for (size_t j = 0; j < padded; j += 16) {
        acc = v16_add_where(acc, get_bits(code + j / 8), v16_load(query + j));
    }
    return v16_fold(acc);
}

/* |r| and v + 1/2 of sixteen components. */
static inline v16 level_of(v16 magnitude, v16 scale, v16 top) {
    return v16_add(v16_level(v16_mul(magnitude, scale), top), v16_all(0.5f));
}

static inline float largest(const float *x, const float *centroid, size_t padded) {
    float lanes[16];
    v16 most = v16_zero();
    for (size_t j = 0; j < padded; j += 16)
        most = v16_max(v16_abs(v16_sub(v16_load(x + j), v16_load(centroid + j))), most);
    v16_store(lanes, most);
    for (unsigned l = 1; l < 16; l++)
        if (lanes[l] > lanes[0]) lanes[0] = lanes[l];
    return lanes[0];
}

RVK_INLINE void try_scales(const float *x, const float *centroid, size_t padded,
                           float scale, float step, float top, rvk_best *best) {
    v16 t[RVK_SCALES], dot_y[RVK_SCALES], norm2[RVK_SCALES];
    float scales[RVK_SCALES];
    RVK_UNROLL
    for (unsigned i = 0; i < RVK_SCALES; i++, scale *= step) {
        scales[i] = scale;
        t[i] = v16_all(scale);
        dot_y[i] = norm2[i] = v16_zero();
    }
    for (size_t j = 0; j < padded; j += 16) {
        v16 a = v16_abs(v16_sub(v16_load(x + j), v16_load(centroid + j)));
        RVK_UNROLL
        for (unsigned i = 0; i < RVK_SCALES; i++) {
            v16 y = level_of(a, t[i], v16_all(top));
            dot_y[i] = v16_fma(a, y, dot_y[i]);
            norm2[i] = v16_fma(y, y, norm2[i]);
        }
    }
    RVK_UNROLL
    for (unsigned i = 0; i < RVK_SCALES; i++)
        rvk_keep_better(best, scales[i], v16_fold(dot_y[i]), v16_fold(norm2[i]));
}

/* Bits of sixteen integers < 2^extra, the highest first. */
static inline void put_planes(v16 e, unsigned extra, uint8_t *planes, size_t stride) {
    for (unsigned p = extra; p-- > 0; planes += stride) {
        const float weight = (float)(1u << p);
        uint16_t bits = v16_positive(v16_sub(e, v16_all(weight - 0.5f)));
        put_bits(planes, bits);
        e = v16_add_where(e, bits, v16_all(-weight));
    }
}

static void quantize(const float *x, const float *centroid, size_t padded, float norm2,
                     unsigned extra, uint8_t *planes, rvk_levels *out) {
    const float top = (float)((1u << extra) - 1);
    const rvk_range range =
        rvk_scale_range(padded, norm2, largest(x, centroid, padded), extra);
    float scale = range.first;
    rvk_best best = {.score = -1.0};
    for (unsigned i = 0; i < 3; i++, scale *= range.step * range.step * range.step)
        try_scales(x, centroid, padded, scale, range.step, top, &best);
    scale = best.scale;
    try_scales(x, centroid, padded, scale / range.fine, 1 / range.fine, top, &best);
    try_scales(x, centroid, padded, scale * range.fine, range.fine, top, &best);
    *out = best.levels;
    v16 sign_c = v16_zero();
    for (size_t j = 0; j < padded; j += 16) {
        v16 c = v16_load(centroid + j), r = v16_sub(v16_load(x + j), c);
        v16 y = level_of(v16_abs(r), v16_all(best.scale), v16_all(top));
        uint16_t negative = (uint16_t)~v16_positive(r);
        sign_c = v16_fma(v16_flip(y, negative), c, sign_c);
        v16 v = v16_flip(v16_sub(y, v16_all(0.5f)), negative);
        put_planes(v16_add_where(v, negative, v16_all(top)), extra, planes + j / 8,
                   padded / 8);
    }
    out->sign_c = v16_fold(sign_c);
}

static inline uint32_t get_32_bits(const uint8_t *code) {
    return get_bits(code) | (uint32_t)get_bits(code + 2) << 16;
}

/* X_j fits a byte. */
static float level_dot(const uint8_t *signs, const uint8_t *planes, unsigned extra,
                       const float *query, size_t padded) {
    v16 acc = v16_zero();
    for (size_t j = 0; j < padded; j += 32) {
        const uint8_t *plane = planes + j / 8;
        b32 x = b32_add_bits(b32_zero(), get_32_bits(signs + j / 8), extra);
        for (unsigned p = extra; p-- > 0; plane += padded / 8)
            x = b32_add_bits(x, get_32_bits(plane), p);
        acc = v16_fma(b32_low(x), v16_load(query + j), acc);
        acc = v16_fma(b32_high(x), v16_load(query + j + 16), acc);
    }
    return v16_fold(acc);
}

#endif
