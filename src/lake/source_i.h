/*
 * source_i.h - what the cache needs of bundles and backends beyond the public header.
 */
#ifndef RVL_SOURCE_I_H
#define RVL_SOURCE_I_H

#include <stdbool.h>

#include "base/base.h"
#include "ruvector/lake.h"

/* ---- text (bundle.c) ------------------------------------------------------------ */

static inline rv_text rvl_text(const char *string) {
    return (rv_text){string, string ? strlen(string) : 0};
}
/* Whether the generations are the same: equal numbers or equal texts. */
bool rvl_same_generation(const rv_bundle *a, const rv_bundle *b);

/* ---- backends (backend.c) ------------------------------------------------------- */

/* As given to rv_backend_new; calls that were not given are NULL. */
const rv_backend_calls *rvl_backend_calls(const rv_backend *backend);
/* The token of a collection's present state: the backend's own, else, if it has no
 * bundle call either, {generation, 0, 0, 0}. *has is false if there is only a bundle. */
rv_status rvl_backend_token(rv_backend *backend, const char *collection, uint64_t out[4],
                            bool *has, rv_error *err) RVB_MUST_CHECK;
/* The bundle of the state that a pull is of: dim and generation are the pull's. For
 * backends with `snapshots`, or without a bundle call. */
rv_status rvl_backend_bundle_of_pull(rv_backend *backend, const char *collection,
                                     uint64_t rotation_seed, uint64_t rerank_factor,
                                     const rv_pull *pull, rv_bundle **out,
                                     rv_error *err) RVB_MUST_CHECK;

#endif
