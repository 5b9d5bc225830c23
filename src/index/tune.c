/*
 * tune.c - the cheapest search settings that reach a recall, found on queries.
 */
#include "index/index_i.h"

rv_status rv_index_tune(rv_index *index, const float *queries, uint64_t m, uint32_t dim,
                        uint64_t k, double recall, const rv_progress *progress,
                        rv_tuning *out, rv_error *err) {
    (void)index, (void)queries, (void)m, (void)dim, (void)k, (void)recall;
    (void)progress, (void)out;
    return rvb_fail(err, RV_ERR_ARGUMENT, "not built in");
}
