/*
 * halves.c - vectors kept as binary16: rows rounded into their place, and read as floats
 * again.
 */
#include "index/index_i.h"

#include <math.h>

#define ROUND_ROWS 512u    /* per unit of parallel work: some 50 us */
#define TOO_LARGE 65520.0f /* half way from the largest half to what would follow it */

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
