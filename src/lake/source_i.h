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

/* For backends made here. The context, or NULL if `release` is not the backend's. */
void *rvl_backend_context(const rv_backend *backend, void (*release)(void *ctx));
/* Where a pull is from, for backends whose collections may move: borrowed from the pull.
 * Not called before rv_backend_new has returned. */
void rvl_backend_set_data_ref(rv_backend *backend,
                              const char *(*of_pull)(const rv_pull *pull));
/* "<scheme>://<place>/<name>", or without a name "<scheme>://<place>"; rvb_free it. */
char *rvl_data_ref(const char *scheme, const char *place, const char *name);
/* RV_ERR_LIMIT for one that no bundle takes, and so no lake. */
rv_status rvl_check_data_ref(const char *scheme, const char *place, const char *name,
                             rv_error *err) RVB_MUST_CHECK;

/* Within what a pull may hold? RV_ERR_ARGUMENT, RV_ERR_LIMIT, RV_ERR_VALUE for rows that
 * are not finite. Messages start with `call`. */
rv_status rvl_check_rows(const char *call, const rv_rows *rows,
                         rv_error *err) RVB_MUST_CHECK;
/* local.c: whether it is one of rv_local_backend_new. */
bool rvl_is_local(const rv_backend *backend);

/* ---- named records (names.c) ---------------------------------------------------- */

/* Records in order of their names, which they begin with. Not locked. */
typedef struct rvl_named {
    const char *name;
} rvl_named;
typedef struct rvl_names {
    rvl_named **records;
    size_t n, capacity;
    size_t promised; /* places that rvl_names_add will need no memory for */
} rvl_names;
void *rvl_names_find(const rvl_names *names, const char *name);
/* Makes room for one record more; each call must be followed by add or cancel. */
rv_status rvl_names_reserve(rvl_names *names, rv_error *err) RVB_MUST_CHECK;
void rvl_names_add(rvl_names *names, void *record);
void rvl_names_cancel(rvl_names *names);
/* Calls each(ctx, name) in their present order until that fails. `lock`, which guards
 * the names, is only taken to look. */
rv_status rvl_names_each(const rvl_names *names, rvb_rwlock *lock,
                         rv_status (*each)(void *ctx, const char *name, rv_error *err),
                         void *ctx, rv_error *err) RVB_MUST_CHECK;

#endif
