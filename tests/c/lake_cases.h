/*
 * lake_cases.h - a backend whose every answer a test decides, and what the tests of
 * the lake share. Row i of state g is (g, i, 0, ...), so that a distance tells both.
 */
#ifndef LAKE_CASES_H
#define LAKE_CASES_H

#include "index_cases.h"

#include <stdatomic.h>

#include "base/base.h"
#include "lake/table_i.h"
#include "ruvector/lake.h"

#define LAKE_DIM 8u

typedef struct source {
    const char *id;
    const char *data_ref; /* NULL: the lake's default, and no bundle call */
    uint64_t first_id;
    _Atomic uint64_t rows, generation;
    _Atomic uint64_t pulls, bundles, tokens_asked, lists;
    uint64_t token, place; /* if `has_token` */
    bool has_token, snapshots, callers_thread;
    _Atomic int pull_fails; /* a status, or 0 */
    bool nan;
    /* called in the middle of each pull */
    void (*during_pull)(void *ctx);
    void *ctx;
    _Atomic bool released;
} source;

static inline rv_status source_list(void *ctx,
                                    rv_status (*each)(void *names, const char *collection,
                                                      rv_error *err),
                                    void *names, rv_error *err) {
    source *s = ctx;
    s->lists++;
    rv_status status = each(names, "docs", err);
    return status == RV_OK ? each(names, s->id, err) : status;
}

static inline bool source_has(const source *s, const char *collection) {
    return strcmp(collection, "docs") == 0 || strcmp(collection, s->id) == 0;
}

static inline rv_status source_unknown(rv_error *err) {
    return rvb_fail(err, RV_ERR_NOT_FOUND, "no such collection");
}

static inline rv_status source_pull(void *ctx, const char *collection, rv_pull *out,
                                    rv_error *err) {
    source *s = ctx;
    if (!source_has(s, collection)) return source_unknown(err);
    s->pulls++;
    uint64_t generation = s->generation;
    if (s->during_pull) s->during_pull(s->ctx);
    if (s->pull_fails) return rvb_fail(err, (rv_status)s->pull_fails, "out of order");
    uint64_t n = s->rows;
    char *memory = need(n * (sizeof(uint64_t) + LAKE_DIM * sizeof(float)) + 8, 1);
    uint64_t *ids = (uint64_t *)memory;
    float *vectors = (float *)(ids + n);
    for (uint64_t i = 0; i < n; i++) {
        ids[i] = s->first_id + i;
        vectors[i * LAKE_DIM] = (float)generation;
        vectors[i * LAKE_DIM + 1] = (float)i;
    }
    if (s->nan && n) vectors[(n - 1) * LAKE_DIM] = NAN;
    *out = (rv_pull){ids, n, vectors, n, LAKE_DIM, generation, free, memory};
    return RV_OK;
}

static inline rv_status source_generation(void *ctx, const char *collection,
                                          uint64_t *out, rv_error *err) {
    source *s = ctx;
    if (!source_has(s, collection)) return source_unknown(err);
    *out = s->generation;
    return RV_OK;
}

static inline rv_status source_bundle(void *ctx, const char *collection, uint64_t seed,
                                      uint64_t rerank_factor, rv_bundle **out,
                                      rv_error *err) {
    source *s = ctx;
    if (!source_has(s, collection)) return source_unknown(err);
    s->bundles++;
    rv_bundle b = {.format_version = RV_BUNDLE_VERSION,
                   .data_ref = {s->data_ref, strlen(s->data_ref)},
                   .dim = LAKE_DIM,
                   .rotation_seed = seed,
                   .rerank_factor = rerank_factor,
                   .generation = s->generation};
    return rv_bundle_sealed(&b, out, err);
}

static inline rv_status source_token(void *ctx, const char *collection, uint64_t out[4],
                                     rv_error *err) {
    source *s = ctx;
    if (!source_has(s, collection)) return source_unknown(err);
    s->tokens_asked++;
    out[0] = s->token;
    out[1] = out[2] = 0;
    out[3] = s->place;
    return RV_OK;
}

static inline void source_release(void *ctx) { ((source *)ctx)->released = true; }

static inline rv_backend *source_backend(source *s) {
    rv_backend_calls calls = {sizeof calls,
                              source_list,
                              source_pull,
                              source_generation,
                              s->data_ref ? source_bundle : NULL,
                              s->has_token ? source_token : NULL,
                              source_release,
                              s->snapshots,
                              s->callers_thread};
    rv_backend *backend;
    assert_ok(rv_backend_new(s->id, &calls, s, &backend, err));
    return backend;
}

static inline rv_lake *new_lake(const rv_lake_options *options) {
    rv_lake *lake;
    assert_ok(rv_lake_new(options, &lake, err));
    return lake;
}

static inline void add_source(rv_lake *lake, source *s) {
    rv_backend *backend = source_backend(s);
    assert_ok(rv_lake_register(lake, backend, err));
    rv_backend_free(backend);
}

static inline rv_key docs_of(const source *s) { return (rv_key){s->id, "docs"}; }

/* The id of the nearest row to (generation, row): fails unless it is exactly there. */
static inline uint64_t found_at(rv_lake *lake, rv_key key, uint64_t generation,
                                uint64_t row) {
    float query[LAKE_DIM] = {(float)generation, (float)row}, score;
    uint64_t id;
    assert_ok(rv_lake_search(lake, key, &(rv_queries){query, 1, LAKE_DIM}, 1,
                             &(rv_result){&id, &score}, err));
    assert_true(score == 0);
    return id;
}

/* hits, misses, primes, invalidations, shared hits */
static inline void assert_counts(const rv_lake *lake, uint64_t hits, uint64_t misses,
                                 uint64_t primes, uint64_t invalidations,
                                 uint64_t shared_hits) {
    rv_lake_stats s = RV_LAKE_STATS_DEFAULT;
    assert_ok(rv_lake_get_stats(lake, &s, err));
    assert_int_equal(s.hits, hits);
    assert_int_equal(s.misses, misses);
    assert_int_equal(s.primes, primes);
    assert_int_equal(s.invalidations, invalidations);
    assert_int_equal(s.shared_hits, shared_hits);
}

/* How many links a search for each link of the table passes, beside its own. Balls thrown
 * into at least as many bins meet half another one each on average. */
static inline size_t passed_in(const rvl_table *table) {
    size_t n = 0, passed = 0;
    for (size_t i = 0; i < table->n_buckets; i++)
        for (rvl_link *link = table->bucket ? table->bucket[i] : table->only; link;
             link = link->next, n++)
            for (rvl_link *l = link->next; l; l = l->next) passed++;
    assert_int_equal(n, table->n);
    return passed;
}

#endif
