/*
 * conv_lanes.h - the convolutions, written once over the vector of sixteen floats that
 * lanes.h describes; a vector holds sixteen channels of one place. The includer also
 * defines
 *
 *   v16_min(a, b)             a in the lanes where it is less, else b
 *   V16_PLACES, V16_GROUPS    the largest tile, in places and in groups of sixteen
 *                             channels, whose sums stay in registers beside the weights
 *
 * A tile takes its inputs in order, so each of its sums is the chain that scalar.c has;
 * many sums at once hide how long a fused step takes.
 */
#ifndef RVK_CONV_LANES_H
#define RVK_CONV_LANES_H

#include "scan.h"

enum { PLACES = V16_PLACES, GROUPS = V16_GROUPS, GROUP = RVK_CHANNELS };

static inline v16 clipped(v16 x) {
    const v16 raised = v16_add(x, v16_all(3.0f));
    return v16_min(v16_max(raised, v16_zero()), v16_all(6.0f));
}

static inline v16 activate(v16 x, rvk_activation activation) {
    switch (activation) {
    case RVK_RELU:
        return v16_max(x, v16_zero());
    case RVK_HARD_SIGMOID:
        return v16_mul(clipped(x), v16_all(1.0f / 6.0f));
    case RVK_HARD_SWISH:
        return v16_mul(v16_mul(x, clipped(x)), v16_all(1.0f / 6.0f));
    default:
        return x;
    }
}

static inline void put(const rvk_conv *c, size_t at, v16 sum) {
    v16 value = activate(sum, c->activation);
    if (c->add != NULL) value = v16_add(value, v16_load(c->add + at));
    v16_store(c->out + at, value);
}

/* CALL(n) for a number of places, as a constant. */
#if V16_PLACES > 6
#define CASE_7(CALL)                                                                     \
    case 7:                                                                              \
        CALL(7);                                                                         \
        break;
#else
#define CASE_7(CALL)
#endif
#define WITH_PLACES(n, CALL)                                                             \
    switch (n) {                                                                         \
    case 1:                                                                              \
        CALL(1);                                                                         \
        break;                                                                           \
    case 2:                                                                              \
        CALL(2);                                                                         \
        break;                                                                           \
    case 3:                                                                              \
        CALL(3);                                                                         \
        break;                                                                           \
    case 4:                                                                              \
        CALL(4);                                                                         \
        break;                                                                           \
    case 5:                                                                              \
        CALL(5);                                                                         \
        break;                                                                           \
    case 6:                                                                              \
        CALL(6);                                                                         \
        break;                                                                           \
        CASE_7(CALL)                                                                     \
    }

/* `places` outputs of a row by `groups` groups of channels from `channel` on. */
RVK_INLINE void conv_tile(const rvk_conv *c, size_t row, size_t col, size_t channel,
                          int places, int groups) {
    const size_t group_floats = c->runs * c->run * GROUP;
    const float *x = c->x + row * c->x_row + col * c->x_col;
    const float *weight = c->weights + channel / GROUP * group_floats;
    v16 s[PLACES][GROUPS], w[GROUPS];
    RVK_UNROLL
    for (int g = 0; g < groups; g++) {
        w[g] = v16_load(c->bias + channel + (size_t)g * GROUP);
        RVK_UNROLL
        for (int p = 0; p < places; p++) s[p][g] = w[g];
    }
    for (size_t r = 0; r < c->runs; r++, x += c->x_run) {
        for (size_t j = 0; j < c->run; j++, weight += GROUP) {
            RVK_UNROLL
            for (int g = 0; g < groups; g++)
                w[g] = v16_load(weight + (size_t)g * group_floats);
            RVK_UNROLL
            for (int p = 0; p < places; p++) {
                const v16 all = v16_all(x[(size_t)p * c->x_col + j]);
                RVK_UNROLL
                for (int g = 0; g < groups; g++) s[p][g] = v16_fma(all, w[g], s[p][g]);
            }
        }
    }
    const size_t at = row * c->out_row + col * c->out_col + channel;
    RVK_UNROLL
    for (int p = 0; p < places; p++) {
        RVK_UNROLL
        for (int g = 0; g < groups; g++)
            put(c, at + (size_t)p * c->out_col + (size_t)g * GROUP, s[p][g]);
    }
}

/* Where tile t of a row begins; tiles differ by one place at most. */
static inline size_t tile_at(const rvk_conv *c, size_t t, size_t tiles) {
    return t * c->cols / tiles;
}

/* All places for some groups of channels, whose weights stay in the nearest cache. */
RVK_INLINE void conv_groups(const rvk_conv *c, size_t channel, int groups) {
    const size_t tiles = (c->cols + PLACES - 1) / PLACES;
    for (size_t row = 0; row < c->rows; row++) {
        for (size_t t = 0; t < tiles; t++) {
            const size_t col = tile_at(c, t, tiles);
#define TILE_OF(places) conv_tile(c, row, col, channel, places, groups)
            WITH_PLACES(tile_at(c, t + 1, tiles) - col, TILE_OF)
#undef TILE_OF
        }
    }
}

static void conv(const rvk_conv *c) {
    size_t channel = 0;
    for (; channel + GROUPS * GROUP <= c->channels; channel += GROUPS * GROUP)
        conv_groups(c, channel, GROUPS);
#if V16_GROUPS > 2
    if (channel + 2 * GROUP <= c->channels) {
        conv_groups(c, channel, 2);
        channel += 2 * GROUP;
    }
#endif
#if V16_GROUPS > 1
    if (channel < c->channels) conv_groups(c, channel, 1);
#endif
}

RVK_INLINE void depthwise_tile(const rvk_conv *c, size_t row, size_t col, size_t channel,
                               int places) {
    const float *x = c->x + row * c->x_row + col * c->x_col + channel;
    const float *weight = c->weights + channel;
    v16 s[PLACES];
    RVK_UNROLL
    for (int p = 0; p < places; p++) s[p] = v16_load(c->bias + channel);
    for (size_t r = 0; r < c->runs; r++, x += c->x_run) {
        const float *in = x;
        for (size_t j = 0; j < c->run; j++, in += c->channels, weight += c->channels) {
            const v16 w = v16_load(weight);
            RVK_UNROLL
            for (int p = 0; p < places; p++)
                s[p] = v16_fma(v16_load(in + (size_t)p * c->x_col), w, s[p]);
        }
    }
    const size_t at = row * c->out_row + col * c->out_col + channel;
    RVK_UNROLL
    for (int p = 0; p < places; p++) put(c, at + (size_t)p * c->out_col, s[p]);
}

static void depthwise(const rvk_conv *c) {
    const size_t tiles = (c->cols + PLACES - 1) / PLACES;
    for (size_t row = 0; row < c->rows; row++) {
        for (size_t channel = 0; channel < c->channels; channel += GROUP) {
            for (size_t t = 0; t < tiles; t++) {
                const size_t col = tile_at(c, t, tiles);
#define TILE_OF(places) depthwise_tile(c, row, col, channel, places)
                WITH_PLACES(tile_at(c, t + 1, tiles) - col, TILE_OF)
#undef TILE_OF
            }
        }
    }
}

static void channel_mean(const float *x, size_t n, size_t channels, float *out) {
    const v16 share = v16_all(1.0f / (float)n);
    for (size_t channel = 0; channel < channels; channel += GROUP) {
        v16 sum = v16_zero();
        for (size_t i = 0; i < n; i++)
            sum = v16_add(sum, v16_load(x + i * channels + channel));
        v16_store(out + channel, v16_mul(sum, share));
    }
}

static void channel_scale(float *x, size_t n, size_t channels, const float *by) {
    for (size_t i = 0; i < n; i++, x += channels) {
        for (size_t channel = 0; channel < channels; channel += GROUP)
            v16_store(x + channel,
                      v16_mul(v16_load(x + channel), v16_load(by + channel)));
    }
}

#endif
