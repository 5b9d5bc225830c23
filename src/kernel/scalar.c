/*
 * scalar.c - the specification of every kernel but the block scan (scan_scalar.c) and the
 * screen, in plain C. The other files are this one made fast: they perform the same
 * roundings in the same order.
 */
#include "scalar.h"
#include "half.h"
#include "levels.h"

#include <math.h>

#define LANES 16u

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

static float load_half(const void *base, size_t j) {
    uint16_t half;
    memcpy(&half, (const uint8_t *)base + j * sizeof half, sizeof half);
    return rvk_widened(half);
}

static float dot_half(const float *a, const void *halves, size_t n) {
    float s[LANES] = {0};
    for (size_t j = 0; j < round_up(n); j++) {
        float x = j < n ? load(a, j) : 0.0f;
        float y = j < n ? load_half(halves, j) : 0.0f;
        s[j % LANES] = fused(x, y, s[j % LANES]);
    }
    return fold(s);
}

static float l2sq_half(const float *a, const void *halves, size_t n) {
    float s[LANES] = {0};
    for (size_t j = 0; j < round_up(n); j++) {
        float d = j < n ? load(a, j) - load_half(halves, j) : 0.0f;
        s[j % LANES] = fused(d, d, s[j % LANES]);
    }
    return fold(s);
}

static void widen(const void *halves, size_t n, float *out) {
    for (size_t j = 0; j < n; j++) out[j] = load_half(halves, j);
}

static bool narrow(const float *x, size_t n, void *halves) {
    bool finite = true;
    for (size_t j = 0; j < n; j++) {
        const uint16_t half = rvk_narrowed(load(x, j));
        finite = finite && (half & 0x7C00u) != 0x7C00u;
        memcpy((uint8_t *)halves + j * sizeof half, &half, sizeof half);
    }
    return finite;
}

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

/* v + 1/2 of one component. A NaN has the highest level. */
static float level_of(float r, float scale, float top) {
    const float v = truncf(fabsf(r) * scale);
    return (v < top ? v : top) + 0.5f;
}

static float largest(const float *x, const float *centroid, size_t padded) {
    float most = 0.0f;
    for (size_t j = 0; j < padded; j++) {
        const float a = fabsf(x[j] - centroid[j]);
        if (a > most) most = a;
    }
    return most;
}

static void try_scales(const float *x, const float *centroid, size_t padded, float scale,
                       float step, float top, rvk_best *best) {
    for (unsigned i = 0; i < RVK_SCALES; i++, scale *= step) {
        float dot_y[LANES] = {0}, norm2[LANES] = {0};
        for (size_t j = 0; j < padded; j++) {
            const float r = x[j] - centroid[j], y = level_of(r, scale, top);
            dot_y[j % LANES] = fused(fabsf(r), y, dot_y[j % LANES]);
            norm2[j % LANES] = fused(y, y, norm2[j % LANES]);
        }
        rvk_keep_better(best, scale, fold(dot_y), fold(norm2));
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
    float sign_c[LANES] = {0};
    memset(planes, 0, extra * (padded / 8));
    for (size_t j = 0; j < padded; j++) {
        const float r = x[j] - centroid[j], y = level_of(r, best.scale, top);
        const unsigned v = (unsigned)(y - 0.5f), e = r > 0.0f ? v : (unsigned)top - v;
        sign_c[j % LANES] = fused(r > 0.0f ? y : -y, centroid[j], sign_c[j % LANES]);
        for (unsigned p = 0; p < extra; p++) {
            uint8_t *plane = planes + (extra - 1 - p) * (padded / 8);
            if (e >> p & 1) plane[j / 8] |= (uint8_t)(1u << (j % 8));
        }
    }
    out->sign_c = fold(sign_c);
}

static float level_dot(const uint8_t *signs, const uint8_t *planes, unsigned extra,
                       const float *query, size_t padded) {
    float s[LANES] = {0};
    for (size_t j = 0; j < padded; j++) {
        unsigned x = code_bit(signs, j);
        for (unsigned p = 0; p < extra; p++)
            x = 2 * x + code_bit(planes + p * (padded / 8), j);
        s[j % LANES] = fused((float)x, query[j], s[j % LANES]);
    }
    return fold(s);
}

static float code_dot(const uint8_t *code, const float *query, size_t padded) {
    float s[LANES] = {0};
    for (size_t j = 0; j < padded; j++) {
        s[j % LANES] += code_bit(code, j) ? query[j] : 0.0f;
    }
    return fold(s);
}

/* ---- convolutions ---------------------------------------------------------- */

static float clipped(float x) {
    const float low = x + 3.0f > 0.0f ? x + 3.0f : 0.0f;
    return low < 6.0f ? low : 6.0f;
}

static float activate(float x, rvk_activation activation) {
    switch (activation) {
    case RVK_RELU:
        return x > 0.0f ? x : 0.0f;
    case RVK_HARD_SIGMOID:
        return clipped(x) * (1.0f / 6.0f);
    case RVK_HARD_SWISH:
        return (x * clipped(x)) * (1.0f / 6.0f);
    default:
        return x;
    }
}

/* Distance to input j of all runs; neighbors within a run lie `step` apart. */
static size_t input_at(const rvk_conv *c, size_t j, size_t step) {
    return j / c->run * c->x_run + j % c->run * step;
}

static void put(const rvk_conv *c, size_t row, size_t col, size_t channel, float sum) {
    const size_t at = row * c->out_row + col * c->out_col + channel;
    const float value = activate(sum, c->activation);
    c->out[at] = c->add != NULL ? value + c->add[at] : value;
}

static void conv(const rvk_conv *c) {
    const size_t inputs = c->runs * c->run;
    for (size_t i = 0; i < c->rows * c->cols * c->channels; i++) {
        const size_t channel = i % c->channels, col = i / c->channels % c->cols;
        const size_t row = i / c->channels / c->cols;
        const float *x = c->x + row * c->x_row + col * c->x_col;
        const float *weight =
            c->weights + channel / LANES * inputs * LANES + channel % LANES;
        float sum = c->bias[channel];
        for (size_t j = 0; j < inputs; j++)
            sum = fused(x[input_at(c, j, 1)], weight[j * LANES], sum);
        put(c, row, col, channel, sum);
    }
}

static void depthwise(const rvk_conv *c) {
    for (size_t i = 0; i < c->rows * c->cols * c->channels; i++) {
        const size_t channel = i % c->channels, col = i / c->channels % c->cols;
        const size_t row = i / c->channels / c->cols;
        const float *x = c->x + row * c->x_row + col * c->x_col + channel;
        float sum = c->bias[channel];
        for (size_t j = 0; j < c->runs * c->run; j++)
            sum = fused(x[input_at(c, j, c->channels)],
                        c->weights[j * c->channels + channel], sum);
        put(c, row, col, channel, sum);
    }
}

static void channel_mean(const float *x, size_t n, size_t channels, float *out) {
    for (size_t channel = 0; channel < channels; channel++) {
        float sum = 0.0f;
        for (size_t i = 0; i < n; i++) sum += x[i * channels + channel];
        out[channel] = sum * (1.0f / (float)n);
    }
}

static void channel_scale(float *x, size_t n, size_t channels, const float *by) {
    for (size_t i = 0; i < n * channels; i++) x[i] *= by[i % channels];
}

const rvk_ops rvk_ops_scalar = {
    .name = "scalar",
    .group = 6,
    .turn = UINT64_C(1) << 23,
    .sharing = 1,
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
    .scan = rvk_scan_scalar,
    .scan_many = rvk_scan_many_scalar,
    .conv = conv,
    .depthwise = depthwise,
    .channel_mean = channel_mean,
    .channel_scale = channel_scale,
};
