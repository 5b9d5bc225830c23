/*
 * levels.h - the scales tried when magnitudes are coded, shared by all instruction sets.
 *
 * With u one over the root mean square of the residual, t = u * first * ratio^i for
 * i < RVK_SCALES. First and last cover the middle 96 % of the best scales of normally
 * distributed residuals, which rotated ones are close to, at 32 to 8192 dimensions; the
 * best of the sixteen loses less than 0.003 % of the cosine that an exact sweep reaches.
 */
#ifndef RVK_LEVELS_H
#define RVK_LEVELS_H

#include <float.h>
#include <math.h>

#include "kernel.h"

#define RVK_SCALES 16u

typedef struct rvk_scale {
    float first, ratio;
} rvk_scale;

/* By the number of extra bits less one. */
static const rvk_scale rvk_scales[RVK_MAX_EXTRA] = {
    {0.6f, 1.04729f},
    {1.2f, 1.04280f},
    {2.22f, 1.04473f},
    {4.19f, 1.04696f},
    {7.78f, 1.05472f},
    {15.2f, 1.05637f},
    {28.2f, 1.06269f}};

/* First of the scales; 0, which codes every magnitude as 0, where there is nothing to
 * scale. */
static inline float rvk_first_scale(size_t padded, float norm2, unsigned extra) {
    if (!(norm2 >= FLT_MIN)) return 0.0f;
    return sqrtf((float)padded / norm2) * rvk_scales[extra - 1].first;
}

/* Square of the cosine between residual and levels, up to a factor. */
static inline double rvk_level_score(float dot, float norm2) {
    return (double)dot * (double)dot / (double)norm2;
}

#endif
