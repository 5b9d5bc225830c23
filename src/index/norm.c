/*
 * norm.c - lengths of vectors, and vectors that can be divided by theirs.
 *
 * The square of a number below 2^-75 is 0 in float32, and below 2^-63 it has lost digits.
 * So vectors of a norm below 2^-40 are lifted: multiplied by 2^100, which changes no
 * digit. What the squares of others lose, up to 2^-137 in all, is less than a rounding of
 * theirs. Lifted norms are within 2^-49 (that of the smallest float) and 2^60.
 */
#include "index/index_i.h"

#include <math.h>

#define LIFT 0x1p100f
#define TINY_NORM2 (RVX_TINY_NORM * RVX_TINY_NORM)

const float *rvx_lifted(const rvk_ops *ops, const float *vector, size_t dim, float *room,
                        float *norm) {
    float norm2 = ops->dot(vector, vector, dim);
    if (norm2 < TINY_NORM2) {
        for (size_t j = 0; j < dim; j++) room[j] = vector[j] * LIFT;
        vector = room;
        norm2 = ops->dot(vector, vector, dim);
    }
    *norm = sqrtf(norm2);
    return vector;
}

rv_status rvx_norm(const rvk_ops *ops, const float *vector, size_t dim, const char *what,
                   uint64_t number, float *norm, rv_error *err) {
    float norm2 = ops->dot(vector, vector, dim), room[RV_MAX_DIM];
    *norm = sqrtf(norm2);
    if (norm2 < TINY_NORM2) {
        rvx_lifted(ops, vector, dim, room, norm);
        *norm /= LIFT;
    }
    if (norm2 <= RVX_MAX_NORM2) return RV_OK;
    for (size_t j = 0; j < dim; j++)
        if (!isfinite(vector[j]))
            return rvb_fail_numbers(
                err, RV_ERR_VALUE, 0, number,
                "%s %llu holds %s at position %zu; vectors must be finite", what,
                (unsigned long long)number, isnan(vector[j]) ? "NaN" : "infinity", j);
    return rvb_fail_numbers(
        err, RV_ERR_VALUE, 0, number,
        "%s %llu has a norm above 2^56 (7.2e16), beyond which float32 "
        "squares overflow; scale the vectors down",
        what, (unsigned long long)number);
}
