/*
 * shards.c - searches of entries that are held, one or several.
 */
#include "lake/lake_i.h"

#include <math.h>
#include <stdlib.h>

#define MIN_RERANK 5u  /* of a shard */
#define MAX_REQUEST 4u /* times k, from a shard */

static rv_status check_dim(const rv_pin *pin, uint32_t dim, rv_error *err) {
    if (dim == pin->dim) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_DIM, pin->dim, dim,
                            "dimension mismatch: collection dim=%u, query dim=%u; "
                            "make queries with the model that made its vectors",
                            pin->dim, dim);
}

rv_status rv_pin_search(rv_pin *pin, const rv_queries *queries, uint64_t k,
                        uint32_t rerank_factor, const rv_progress *progress,
                        const rv_result *result, rv_error *err) {
    RVB_TRY(check_dim(pin, queries->dim, err));
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.rerank_factor = rerank_factor;
    o.progress = progress;
    atomic_fetch_add_explicit(&pin->lake->scans, 1, memory_order_relaxed);
    return rv_index_search(pin->index, queries, k, &o, result, err);
}

rv_status rv_lake_search(rv_lake *lake, rv_key key, const rv_queries *queries, uint64_t k,
                         const rv_result *result, rv_error *err) {
    rv_pin *pin;
    RVB_TRY(rv_lake_acquire(lake, key, NULL, &pin, err));
    rv_status status = rv_pin_search(pin, queries, k, 0, NULL, result, err);
    rv_pin_release(pin);
    return status;
}

/* ---- several ------------------------------------------------------------------ */

typedef struct fan {
    rv_pin *const *pins;
    const rv_queries *query;
    uint32_t rerank_factor;
    uint64_t request; /* hits asked of a shard */
    uint64_t *ids;    /* request for each shard */
    float *scores;
} fan;

static rv_status search_shards(void *ctx, unsigned worker, size_t begin, size_t end,
                               rv_error *err) {
    const fan *f = ctx;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        if (f->pins[i]->n == 0) continue;
        RVB_TRY(rv_pin_search(
            f->pins[i], f->query, f->request, f->rerank_factor, NULL,
            &(rv_result){f->ids + i * f->request, f->scores + i * f->request}, err));
    }
    return RV_OK;
}

/* Of more than one shard somewhat more than k is asked, so that one that holds more than
 * its share of the best rows, or estimates them badly, costs little recall:
 * min(k + ceil(sqrt(k ln S)), 4 k). */
static uint64_t request_of(uint64_t k, size_t shards) {
    if (shards <= 1) return k;
    double more = ceil(sqrt((double)k * log((double)shards)));
    uint64_t most = k > UINT64_MAX / MAX_REQUEST ? UINT64_MAX : MAX_REQUEST * k;
    uint64_t extra = more < 0x1p63 ? (uint64_t)more : UINT64_MAX;
    uint64_t sum = extra > UINT64_MAX - k ? UINT64_MAX : k + extra;
    return sum < most ? sum : most;
}

static uint32_t rerank_of(const rv_pin *pin, size_t shards, uint32_t asked) {
    if (asked || shards <= 1) return asked;
    uint64_t share = pin->lake->options.rerank_factor / shards;
    return share > MIN_RERANK ? (uint32_t)share : MIN_RERANK;
}

static int by_score(const void *a, const void *b) {
    const rv_lake_hit *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint64_t gather(const fan *f, size_t shards, rv_lake_hit *all) {
    uint64_t n = 0;
    for (size_t s = 0; s < shards; s++) {
        const uint64_t *ids = f->ids + s * f->request;
        uint64_t there = f->pins[s]->n < f->request ? f->pins[s]->n : f->request;
        for (uint64_t i = 0; i < there && ids[i] != RV_NO_ID; i++)
            all[n++] = (rv_lake_hit){ids[i], f->scores[s * f->request + i], (uint32_t)s};
    }
    qsort(all, (size_t)n, sizeof *all, by_score);
    return n;
}

rv_status rv_pins_search(rv_pin *const *pins, size_t n_pins, const rv_queries *query,
                         uint64_t k, uint32_t per_shard_rerank, rv_lake_hit *hits,
                         uint64_t *n_hits, rv_error *err) {
    *n_hits = 0;
    if (query->m != 1)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, 1, query->m,
                                "a federated search takes one query, got %llu",
                                (unsigned long long)query->m);
    uint64_t largest = 0;
    for (size_t i = 0; i < n_pins; i++) {
        RVB_TRY(check_dim(pins[i], query->dim, err));
        if (pins[i]->n > largest) largest = pins[i]->n;
    }
    if (k < 1) return rvb_fail(err, RV_ERR_ARGUMENT, "k must be at least 1, got 0");
    if (largest == 0) return RV_OK;
    fan f = {.pins = pins, .query = query};
    f.rerank_factor = rerank_of(pins[0], n_pins, per_shard_rerank);
    f.request = request_of(k, n_pins);
    if (f.request > largest) f.request = largest;
    size_t places, bytes;
    rv_lake_hit *all = NULL;
    if (rvb_mul((size_t)f.request, n_pins, &places) &&
        rvb_mul(places, sizeof *all + sizeof *f.ids + sizeof *f.scores, &bytes))
        all = rvb_alloc(bytes, 1);
    if (!all) return rvb_fail_memory(err, UINT64_MAX);
    f.ids = (uint64_t *)(all + places);
    f.scores = (float *)(void *)(f.ids + places);
    rvb_pool *pool = n_pins > 1 ? rvb_pool_acquire() : NULL;
    rv_status status = rvb_pool_for(pool, n_pins, 1, search_shards, &f, NULL, err);
    rvb_pool_release(pool);
    if (status == RV_OK) {
        uint64_t n = gather(&f, n_pins, all);
        *n_hits = n < k ? n : k;
        memcpy(hits, all, (size_t)*n_hits * sizeof *hits);
    }
    rvb_free(all);
    return status;
}
