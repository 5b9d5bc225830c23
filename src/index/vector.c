/*
 * vector.c - the vectors an index is given: their padded dimension, their norms, and
 * rows in float or binary16.
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
#define ROUND_ROWS 512u    /* per unit of parallel work: some 50 us */
#define TOO_LARGE 65520.0f /* half way from the largest half to what would follow it */

uint32_t rvx_padded_dim(uint32_t dim) { return (dim + 31u) / 32u * 32u; }

/* ---- norms ------------------------------------------------------------------- */

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

/* ---- rows in float or binary16 ------------------------------------------------- */

const float *rvx_source_row(const rvx_source *from, const rvk_ops *ops, size_t row,
                            size_t dim, float *room) {
    const void *at = from->data + row * from->stride;
    if (!from->halves) return at;
    ops->widen(at, dim, room);
    return room;
}

typedef struct rounding {
    const rvk_ops *ops;
    const float *rows;
    size_t dim;
    const rvx_source *to;
} rounding;

/* Names the first component that binary16 has no number for. */
static rv_status no_half(const rounding *r, size_t i, rv_error *err) {
    const float *v = r->rows + i * r->dim;
    float norm;
    size_t j = 0;
    while (j + 1 < r->dim && fabsf(v[j]) < TOO_LARGE) j++;
    if (!isfinite(v[j])) return rvx_norm(r->ops, v, r->dim, "vector", i, &norm, err);
    return rvb_fail_numbers(
        err, RV_ERR_VALUE, 65520, i,
        "vector %zu holds %.9g at position %zu; originals of 16 bits hold magnitudes "
        "below 65520: scale the vectors down, or keep 32 bits",
        i, (double)v[j], j);
}

static rv_status round_some(void *ctx, unsigned worker, size_t begin, size_t end,
                            rv_error *err) {
    (void)worker;
    const rounding *r = ctx;
    for (size_t i = begin; i < end; i++) {
        void *halves = (uint8_t *)(uintptr_t)r->to->data + i * r->to->stride;
        if (!r->ops->narrow(r->rows + i * r->dim, r->dim, halves))
            return no_half(r, i, err);
    }
    return RV_OK;
}

rv_status rvx_round_rows(const rvk_ops *ops, const float *rows, size_t n, size_t dim,
                         const rvx_source *to, rvb_pool *pool,
                         const rv_progress *progress, rv_error *err) {
    rounding r = {ops, rows, dim, to};
    return rvb_pool_for(pool, n, ROUND_ROWS, round_some, &r, progress, err);
}
