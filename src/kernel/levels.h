/*
 * levels.h - the scales tried when magnitudes are coded, shared by all instruction sets.
 *
 * The best scale t lies between two that are cheap to find: one at which the largest
 * magnitude just fits the levels, and one at which a residual of even magnitudes would.
 * For normally distributed residuals, which rotated ones are close to, they are a factor
 * of two to four apart; where few components hold most of the length, twenty and more.
 * Nine scales in geometric progression cover the range, and six at quarter steps
 * surround the best of these.
 *
 * The two factors below were found by comparison with an exact sweep over all critical
 * scales at 32, 128 and 768 dimensions: normal residuals lose less than 0.003 % of the
 * cosine on average; residuals from Student's t with 3 degrees of freedom, from a uniform
 * distribution, and normal ones with a component as long as all others less than 0.01 %.
 */
#ifndef RVK_LEVELS_H
#define RVK_LEVELS_H

#include <float.h>
#include <math.h>

#include "kernel.h"

/* Tried together, while a residual is in registers. */
#define RVK_SCALES 3u

typedef struct rvk_range {
    float first, step; /* of the nine scales */
    float fine;        /* fourth root of step */
} rvk_range;

/* Scales of 0, which code every magnitude as 0, where there is nothing to scale. */
static inline rvk_range rvk_scale_range(size_t padded, float norm2, float largest,
                                        unsigned extra) {
    if (!(norm2 >= FLT_MIN)) return (rvk_range){0.0f, 1.0f, 1.0f};
    const float levels = (float)(1u << extra);
    const float first = (extra == 1 ? 0.55f : 0.8f) * levels / largest;
    const float last = 0.68f * levels * sqrtf((float)padded / norm2);
    const float step = sqrtf(sqrtf(sqrtf(last / first)));
    return (rvk_range){first, step, sqrtf(sqrtf(step))};
}

typedef struct rvk_best {
    float scale;
    double score; /* square of the cosine between residual and levels, up to a factor */
    rvk_levels levels;
} rvk_best;

static inline void rvk_keep_better(rvk_best *best, float scale, float dot, float norm2) {
    const double score = (double)dot * (double)dot / (double)norm2;
    if (best->score >= 0.0 && !(score > best->score)) return;
    *best = (rvk_best){scale, score, {.dot = dot, .norm2 = norm2}};
}

#endif
