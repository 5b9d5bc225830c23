/*
 * scalar.c - the specification of every kernel, in plain C. The other files are this
 * one made fast: they perform the same roundings in the same order.
 */
#include "kernel.h"

#include <math.h>
#include <string.h>

#define LANES 16u

/* Rows may start at any byte, so floats are copied out rather than dereferenced. */
static float load(const void *base, size_t j) {
    float value;
    memcpy(&value, (const uint8_t *)base + j * sizeof value, sizeof value);
    return value;
}

/* a * b + c rounded once, as fmaf() should but does not in every C library. The
 * product is exact in double. The sum is rounded to odd: where it is inexact (its error
 * being found by Knuth's two-sum) and its last bit even, the neighbour on the side of
 * the error replaces it. Double has more than two bits beyond float, so rounding that
 * to float equals rounding the exact sum (Boldo and Melquiond, "Emulation of FMA and
 * correctly rounded sums", theorem 1). */
static float fused(float a, float b, float c) {
    const double product = (double)a * (double)b, addend = (double)c;
    double sum = product + addend;
    const double part = sum - product;
    const double error = (product - (sum - part)) + (addend - part);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((error > 0.0 || error < 0.0) && (bits & 1) == 0) {
        bits += (error > 0.0) == (sum > 0.0) ? UINT64_C(1) : UINT64_MAX;
        memcpy(&sum, &bits, sizeof bits);
    }
    return (float)sum;
}

static float fold(float s[LANES]) {
    for (unsigned half = LANES / 2; half > 0; half /= 2) {
        for (unsigned i = 0; i < half; i++) s[i] += s[i + half];
    }
    return s[0];
}

static bool code_bit(const uint8_t *code, size_t j) { return code[j / 8] >> (j % 8) & 1; }

static size_t round_up(size_t n) { return (n + LANES - 1) / LANES * LANES; }

static float dot_any(const void *a, const void *b, size_t n) {
    float s[LANES] = {0};
    for (size_t j = 0; j < round_up(n); j++) {
        float x = j < n ? load(a, j) : 0.0f;
        float y = j < n ? load(b, j) : 0.0f;
        s[j % LANES] = fused(x, y, s[j % LANES]);
    }
    return fold(s);
}

static float l2sq_any(const void *a, const void *b, size_t n) {
    float s[LANES] = {0};
    for (size_t j = 0; j < round_up(n); j++) {
        float d = j < n ? load(a, j) - load(b, j) : 0.0f;
        s[j % LANES] = fused(d, d, s[j % LANES]);
    }
    return fold(s);
}

static float dot(const float *a, const float *b, size_t n) { return dot_any(a, b, n); }

static float l2sq(const float *a, const float *b, size_t n) { return l2sq_any(a, b, n); }

static void dot_tile(const float *queries, size_t n_queries, const void *rows,
                     size_t stride_bytes, size_t n_rows, size_t dim, float *out) {
    for (size_t i = 0; i < n_queries; i++)
        for (size_t r = 0; r < n_rows; r++)
            *out++ =
                dot_any(queries + i * dim, (const uint8_t *)rows + r * stride_bytes, dim);
}

static void l2sq_tile(const float *queries, size_t n_queries, const void *rows,
                      size_t stride_bytes, size_t n_rows, size_t dim, float *out) {
    for (size_t i = 0; i < n_queries; i++)
        for (size_t r = 0; r < n_rows; r++)
            *out++ = l2sq_any(queries + i * dim, (const uint8_t *)rows + r * stride_bytes,
                              dim);
}

static void butterfly(float *a, float *b) {
    float sum = *a + *b, difference = *a - *b;
    *a = sum;
    *b = difference;
}

/* Walsh-Hadamard transform in natural order, without scaling. */
static void hadamard(float *y, size_t n) {
    for (size_t h = 1; h < n; h *= 2) {
        for (size_t i = 0; i < n; i += 2 * h) {
            for (size_t j = i; j < i + h; j++) butterfly(&y[j], &y[j + h]);
        }
    }
}

static void flip(float *y, size_t n, const uint32_t *signs) {
    for (size_t j = 0; j < n; j++) {
        if (signs[j / 32] >> (j % 32) & 1) y[j] = -y[j];
    }
}

static void scale(float *y, size_t n, float factor) {
    for (size_t j = 0; j < n; j++) y[j] *= factor;
}

/* Where padded is no power of two, the transform covers the first or the last t
 * coordinates in turn and the butterfly between the halves mixes the rest in. Its
 * factors 1/sqrt(2) and those of the whole transforms are gathered at the end. */
static void rotate(float *y, size_t padded, const uint32_t *signs) {
    const size_t words = padded / 32, half = padded / 2;
    size_t t = 32;
    while (2 * t <= padded) t *= 2;
    if (t == padded) {
        for (size_t round = 0; round < 4; round++) {
            flip(y, padded, signs + round * words);
            hadamard(y, t);
        }
        scale(y, padded, 1.0f / (float)t / (float)t);
        return;
    }
    const float norm = (float)(1.0 / sqrt((double)t));
    for (size_t round = 0; round < 4; round++) {
        float *part = round % 2 == 0 ? y : y + (padded - t);
        flip(y, padded, signs + round * words);
        hadamard(part, t);
        scale(part, t, norm);
        for (size_t j = 0; j < half; j++) butterfly(&y[j], &y[j + half]);
    }
    scale(y, padded, 0.25f);
}

static void encode(const float *x, const float *centroid, const float *w, size_t padded,
                   uint8_t *code, rvk_residual *out) {
    float norm2[LANES] = {0}, norm1[LANES] = {0}, sign_c[LANES] = {0}, dot_w[LANES] = {0};
    memset(code, 0, padded / 8);
    for (size_t j = 0; j < padded; j++) {
        const size_t l = j % LANES;
        const float r = x[j] - centroid[j];
        const bool positive = r > 0.0f;
        if (positive) code[j / 8] |= (uint8_t)(1u << (j % 8));
        norm2[l] = fused(r, r, norm2[l]);
        norm1[l] += fabsf(r);
        sign_c[l] += positive ? centroid[j] : -centroid[j];
        if (w != NULL) dot_w[l] = fused(r, w[j], dot_w[l]);
    }
    out->norm2 = fold(norm2);
    out->norm1 = fold(norm1);
    out->sign_c = fold(sign_c);
    out->dot_w = fold(dot_w);
}

static float code_dot(const uint8_t *code, const float *query, size_t padded) {
    float s[LANES] = {0};
    for (size_t j = 0; j < padded; j++) {
        s[j % LANES] += code_bit(code, j) ? query[j] : 0.0f;
    }
    return fold(s);
}

static uint64_t passing(const rvk_scan *s, const uint8_t *a, const uint8_t *b,
                        const uint16_t sums[RVK_BLOCK]) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < RVK_BLOCK; i++) {
        float estimate = fused((float)sums[i], s->step, s->bias);
        float bound = fused(load(b, i), estimate, load(a, i));
        if (bound < s->limit) mask |= UINT64_C(1) << i;
    }
    return mask;
}

static size_t scan(const rvk_scan *s, size_t start, uint64_t *mask,
                   uint16_t sums[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded);
    const size_t block_bytes = rvk_block_bytes(6, s->padded);
    const size_t columns = code_bytes / RVK_BLOCK;
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint64_t allowed = s->allow != NULL ? s->allow[block] : UINT64_MAX;
        if (allowed == 0) continue;
        const uint8_t *codes = s->blocks + block * block_bytes;
        const uint8_t *a = codes + code_bytes, *b = a + RVK_BLOCK * sizeof(float);
        uint16_t total[RVK_BLOCK] = {0};
        for (size_t g = 0; g < columns; g++) {
            const uint8_t *column = codes + g * RVK_BLOCK, *entries = s->lut + g * 64;
            for (unsigned i = 0; i < RVK_BLOCK; i++) {
                total[i] = (uint16_t)(total[i] + entries[column[i] & 63]);
            }
        }
        *mask = passing(s, a, b, total) & allowed;
        if (*mask != 0) {
            memcpy(sums, total, sizeof total);
            return block;
        }
    }
    *mask = 0;
    return s->n_blocks;
}

const rvk_ops rvk_ops_scalar = {
    .name = "scalar",
    .group = 6,
    .dot = dot,
    .l2sq = l2sq,
    .dot_tile = dot_tile,
    .l2sq_tile = l2sq_tile,
    .rotate = rotate,
    .encode = encode,
    .code_dot = code_dot,
    .scan = scan,
};
