/*
 * index_cases.h - what the tests of the index room share: seeded data, indexes over
 * it, and an oracle that computes in double precision and sorts everything.
 */
#ifndef INDEX_CASES_H
#define INDEX_CASES_H

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ruvector/index.h"

/* ---- random numbers (SplitMix64) ---- */

static inline uint64_t next_u64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static inline size_t next_below(uint64_t *state, size_t n) {
    return (size_t)(next_u64(state) % n);
}

static inline double next_unit(uint64_t *state) { /* in (0, 1) */
    return ((double)(next_u64(state) >> 11) + 0.5) * 0x1p-53;
}

static inline float next_normal(uint64_t *state) { /* Box and Muller */
    double radius = sqrt(-2 * log(next_unit(state)));
    return (float)(radius * cos(6.283185307179586 * next_unit(state)));
}

/* ---- memory that cannot run out unnoticed ---- */

static inline void *need(size_t n, size_t size) {
    void *memory = calloc(n ? n : 1, size);
    if (!memory) abort();
    return memory;
}

/* Test sizes under tools that slow everything down: RUVECTOR_TEST_SMALL=1. */
static inline size_t sized(size_t n) {
    return getenv("RUVECTOR_TEST_SMALL") ? (n + 7) / 8 : n;
}

/* ---- data ---- */

static inline float *normal_rows(uint64_t seed, size_t n, size_t dim) {
    float *rows = need(n * dim, sizeof *rows);
    for (size_t i = 0; i < n * dim; i++) rows[i] = next_normal(&seed);
    return rows;
}

/* Points around a few dozen centers away from the origin: what real embeddings look
 * like to a quantizer. */
static inline float *clustered_rows(uint64_t seed, size_t n, size_t dim) {
    uint64_t center_seed = 77;
    float *centers = need(20 * dim, sizeof *centers), *rows = need(n * dim, sizeof *rows);
    for (size_t i = 0; i < 20 * dim; i++) centers[i] = 0.5f + next_normal(&center_seed);
    for (size_t i = 0; i < n; i++) {
        const float *center = centers + next_below(&seed, 20) * dim;
        for (size_t j = 0; j < dim; j++)
            rows[i * dim + j] = center[j] + 0.6f * next_normal(&seed);
    }
    free(centers);
    return rows;
}

/* Small whole numbers: sums of their products are exact in float32, so distances and
 * inner products can be compared bit for bit, and many of them are equal. */
static inline float *whole_rows(uint64_t seed, size_t n, size_t dim) {
    float *rows = need(n * dim, sizeof *rows);
    for (size_t i = 0; i < n * dim; i++) rows[i] = (float)next_below(&seed, 7) - 3;
    return rows;
}

/* Distinct ids in no order, some of them beyond 32 bits. */
static inline uint64_t *scattered_ids(uint64_t seed, size_t n) {
    uint64_t *ids = need(n, sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (uint64_t)(i * 3 + 1) << (i % 3 ? 0 : 33);
    for (size_t i = n; i > 1; i--) {
        size_t other = next_below(&seed, i);
        uint64_t id = ids[i - 1];
        ids[i - 1] = ids[other];
        ids[other] = id;
    }
    return ids;
}

/* ---- indexes ---- */

#define assert_ok(call)                                                                  \
    do {                                                                                 \
        rv_error error_ = {0};                                                           \
        rv_error *err = &error_;                                                         \
        rv_status status_ = (call);                                                      \
        if (status_ != RV_OK)                                                            \
            fail_msg("%s: %s: %s", #call, rv_status_name(status_), error_.message);      \
    } while (0)

/* The call, which names its error record `err`, fails with `code` and says why. */
#define assert_fails(wanted, call)                                                       \
    do {                                                                                 \
        rv_error error_ = {0};                                                           \
        rv_error *err = &error_;                                                         \
        rv_status status_ = (call);                                                      \
        if (status_ != (wanted))                                                         \
            fail_msg("%s: %s instead of %s: %s", #call, rv_status_name(status_),         \
                     rv_status_name(wanted), error_.message);                            \
        assert_int_equal(error_.code, status_);                                          \
        assert_true(error_.message[0] != 0);                                             \
    } while (0)

static const char *const kind_names[] = {"flat", "rabitq", "plus", "asym"};
static const char *const metric_names[] = {"l2", "ip", "cosine"};

static inline rv_build_options options_for(rv_kind kind, rv_metric metric, size_t dim) {
    rv_build_options o = RV_BUILD_DEFAULT;
    o.kind = kind;
    o.metric = metric;
    o.dim = (uint32_t)dim;
    if (kind == RV_ASYM) o.rerank_factor = 2; /* with vectors */
    return o;
}

static inline rv_build_options coded_options(rv_kind kind, rv_metric metric, size_t dim,
                                             uint32_t bits, uint32_t n_lists) {
    rv_build_options o = options_for(kind, metric, dim);
    o.bits = bits;
    o.n_lists = n_lists;
    return o;
}

static inline rv_index *build_with(const rv_build_options *o, const float *vectors,
                                   const uint64_t *ids, size_t n) {
    rv_index *index = NULL;
    assert_ok(rv_index_build(o, &(rv_rows){vectors, ids, n, o->dim}, &index, err));
    assert_non_null(index);
    return index;
}

static inline rv_index *build(rv_kind kind, rv_metric metric, size_t dim,
                              const float *vectors, const uint64_t *ids, size_t n) {
    rv_build_options o = options_for(kind, metric, dim);
    return build_with(&o, vectors, ids, n);
}

static inline uint64_t live_rows(const rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    return info.n;
}

typedef struct file_bytes {
    uint8_t *data;
    size_t size;
} file_bytes;

static inline file_bytes bytes_of(const rv_index *index) {
    file_bytes b = {NULL, (size_t)rv_index_serialized_size(index)};
    b.data = need(b.size, 1);
    assert_ok(rv_index_serialize(index, b.data, b.size, err));
    return b;
}

static inline void assert_same_bytes(const file_bytes *a, const file_bytes *b) {
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static inline rv_index *from_bytes(const file_bytes *b) {
    rv_index *index = NULL;
    assert_ok(rv_index_from_memory(b->data, b->size, RV_VERIFY_ALWAYS, NULL, NULL, &index,
                                   err));
    return index;
}

/* ---- answers ---- */

typedef struct answer {
    size_t m, k;
    uint64_t *ids;
    float *scores;
} answer;

static inline answer answer_of(const rv_index *index, const float *queries, size_t m,
                               size_t dim, size_t k, const rv_search_options *o) {
    answer a = {m, k, need(m * k, sizeof *a.ids), need(m * k, sizeof *a.scores)};
    /* so that places nobody writes are seen */
    memset(a.ids, 0x5a, m * k * sizeof *a.ids);
    memset(a.scores, 0x5a, m * k * sizeof *a.scores);
    assert_ok(rv_index_search(index, &(rv_queries){queries, m, (uint32_t)dim}, k, o,
                              &(rv_result){a.ids, a.scores}, err));
    return a;
}

static inline void answer_free(answer *a) {
    free(a->ids);
    free(a->scores);
    *a = (answer){0};
}

static inline void assert_same_answer(const answer *a, const answer *b) {
    assert_int_equal(a->m * a->k, b->m * b->k);
    assert_memory_equal(a->ids, b->ids, a->m * a->k * sizeof *a->ids);
    assert_memory_equal(a->scores, b->scores, a->m * a->k * sizeof *a->scores);
}

/* ---- the oracle ---- */

typedef struct exact_hit {
    double key; /* smaller is better */
    uint64_t id;
} exact_hit;

static inline double exact_score(rv_metric metric, const float *q, const float *v,
                                 size_t dim) {
    double dot = 0, l2 = 0, qq = 0, vv = 0;
    for (size_t j = 0; j < dim; j++) {
        double a = (double)q[j], b = (double)v[j];
        dot += a * b;
        l2 += (a - b) * (a - b);
        qq += a * a;
        vv += b * b;
    }
    if (metric == RV_L2) return l2;
    if (metric == RV_IP) return dot;
    return qq > 0 && vv > 0 ? dot / sqrt(qq * vv) : 0;
}

static inline int compare_exact(const void *a, const void *b) {
    const exact_hit *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Every allowed row (allowed may be NULL), best first. ids may be NULL: row numbers.
 * Returns how many there are. */
static inline size_t oracle(rv_metric metric, const float *vectors, const uint64_t *ids,
                            const uint8_t *allowed, size_t n, size_t dim,
                            const float *query, exact_hit *out) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (allowed && !allowed[i]) continue;
        double score = exact_score(metric, query, vectors + i * dim, dim);
        out[count++] = (exact_hit){metric == RV_L2 ? score : -score, ids ? ids[i] : i};
    }
    qsort(out, count, sizeof *out, compare_exact);
    return count;
}

/* Row `query` of the answer, against the oracle's list of `count`: the same places
 * filled, scores equal within `tolerance` (0 = bits and ids), the rest empty. */
static inline void assert_is_exact(const answer *a, size_t query, rv_metric metric,
                                   const exact_hit *exact, size_t count,
                                   double tolerance) {
    const uint64_t *ids = a->ids + query * a->k;
    const float *scores = a->scores + query * a->k;
    for (size_t i = 0; i < a->k; i++) {
        double score = (double)scores[i], key = metric == RV_L2 ? score : -score;
        if (i >= count) {
            if (ids[i] != RV_NO_ID || key != (double)INFINITY)
                fail_msg("query %zu, place %zu should be empty: id %" PRIu64 ", score %g",
                         query, i, ids[i], score);
            continue;
        }
        bool same_id = ids[i] == exact[i].id;
        /* An id at another place is right if its own key lies within the tolerance. */
        for (size_t j = 0; tolerance > 0 && !same_id && j < count; j++)
            same_id = exact[j].id == ids[i] && fabs(exact[j].key - key) <= tolerance;
        for (size_t j = 0; j < i; j++) same_id = same_id && ids[j] != ids[i];
        if (!same_id || !(fabs(key - exact[i].key) <= tolerance))
            fail_msg("%s, query %zu, place %zu of %zu: id %" PRIu64 " score %.9g instead "
                     "of id %" PRIu64 " score %.9g",
                     metric_names[metric], query, i, a->k, ids[i], score, exact[i].id,
                     metric == RV_L2 ? exact[i].key : -exact[i].key);
        if (i > 0) {
            double before = (double)scores[i - 1];
            bool ordered = metric == RV_L2 ? before <= score : before >= score;
            assert_true(ordered && (before != score || ids[i - 1] < ids[i]));
        }
    }
}

/* How many of the true k best the answer holds, ties at the end counted. */
static inline size_t count_correct(const answer *a, size_t query, const exact_hit *exact,
                                   size_t count) {
    size_t k = a->k < count ? a->k : count, correct = 0;
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < count && exact[j].key <= exact[k - 1].key; j++)
            correct += exact[j].id == a->ids[query * a->k + i];
    }
    return correct;
}

/* ---- instruction sets ---- */

/* The i-th this machine can run, or NULL. */
static inline const char *isa_at(size_t i) {
    const char *names[8];
    size_t n = rv_isa_available(names, 8);
    return i < n ? names[i] : NULL;
}

#endif
