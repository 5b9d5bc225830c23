/*
 * search.c - the public search: arguments, locks, threads. Queries are independent;
 * each thread takes a few at a time and holds the state lock only while it works on
 * those, so writers get in between and a progress callback never runs under a lock.
 */
#include "index/index_i.h"

#include <math.h>

typedef struct search {
    const rv_index *index;
    const rvk_ops *ops;
    const float *queries; /* as given, or those of `lifted` */
    float *query_norms;
    float *lifted; /* a copy, where some are too short to be multiplied with */
    rv_search_options options;
    uint64_t k;
    rvx_params params;
    rvx_filter *filters; /* none, one, or one per query */
    size_t n_filters;
    uint64_t *ids;
    float *scores;
    atomic_uint_fast64_t *cost; /* of all queries; NULL = nobody asks */
} search;

/* ---- one thread's share ---------------------------------------------------------- */

static void write_result(const search *c, rvx_topk *top, size_t query) {
    uint64_t *ids = c->ids + query * c->k;
    float *scores = c->scores + query * c->k;
    bool distance = c->index->metric == RV_L2;
    rvx_topk_sort(top);
    for (size_t i = 0; i < c->k; i++) {
        bool filled = i < top->n;
        ids[i] = filled ? rvx_row_id(&c->index->rows, top->hit[i].row) : RV_NO_ID;
        float key = filled ? top->hit[i].key : INFINITY;
        scores[i] = distance ? key : -key;
    }
}

/* A filter made before rows were renumbered is made again, if that can be done. */
static rv_status current_filter(const search *c, size_t query, rvx_filter *own,
                                const rvx_filter **filter, rv_error *err) {
    *filter = c->n_filters ? &c->filters[c->n_filters > 1 ? query : 0] : NULL;
    if (!*filter || (*filter)->renumbered == c->index->rows.renumbered) return RV_OK;
    if (!c->options.allow_ids)
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "vacuum moved the rows while a search with a mask was running; "
                        "search again with a mask over the rows as they are now");
    rvx_filter_clear(own);
    *filter = own;
    return rvx_filter_build(c->index, &c->options, query, own, err);
}

static void set_query(const search *c, rvx_query_state *s, size_t query) {
    s->query = c->queries + query * c->index->dim;
    s->query_norm = c->query_norms[query];
    rvx_topk_reset(&s->top);
}

/* s is an array of one scratch per query. */
static rv_status answer_coded(const search *c, rvx_query_state *s, size_t begin,
                              size_t end, rvx_filter *own, rv_error *err) {
    const rvx_filter *filters[RVX_QUERIES_AT_ONCE];
    for (size_t i = begin; i < end; i++) {
        RVB_TRY(rvx_topk_init(&s[i - begin].top, s->params.k, err));
        RVB_TRY(rvx_scan_init(&s[i - begin], err));
        RVB_TRY(current_filter(c, i, own, &filters[i - begin], err));
        set_query(c, &s[i - begin], i);
    }
    rvx_scan_queries(s, end - begin, filters);
    for (size_t i = begin; i < end; i++) {
        write_result(c, &s[i - begin].top, i);
        if (c->cost) atomic_fetch_add(c->cost, s[i - begin].cost);
    }
    return RV_OK;
}

static rv_status answer_flat(const search *c, rvx_query_state *s, size_t begin,
                             size_t end, rvx_filter *own, rv_error *err) {
    const rvx_filter *filters[RVX_FLAT_AT_ONCE] = {NULL};
    for (size_t i = begin; i < end; i++) {
        RVB_TRY(rvx_topk_init(&s[i - begin].top, s->params.k, err));
        RVB_TRY(current_filter(c, i, own, &filters[i - begin], err));
        set_query(c, &s[i - begin], i);
    }
    rvx_flat_search(s, end - begin, filters);
    for (size_t i = begin; i < end; i++) write_result(c, &s[i - begin].top, i);
    return RV_OK;
}

static rv_status answer_locked(const search *c, size_t begin, size_t end, rv_error *err) {
    const rv_index *index = c->index;
    rvx_query_state *s = rvb_alloc(end - begin, sizeof *s);
    if (!s) return rvb_fail_memory(err, (end - begin) * sizeof *s);
    rvx_params p = c->params;
    if (p.k > index->rows.n_live) p.k = index->rows.n_live;
    if (!(p.epsilon > 0)) p.epsilon = index->epsilon;
    if (!p.nprobe) p.nprobe = rvx_default_nprobe(index);
    for (size_t i = 0; i < end - begin; i++)
        s[i] = (rvx_query_state){.index = index, .ops = c->ops, .params = p};
    rvx_filter own = {0};
    rv_status status = RV_OK;
    if (index->rows.n_live == 0) { /* emptied since the call began */
        for (size_t i = begin; i < end; i++) write_result(c, &s->top, i);
    } else if (index->has_codes) {
        status = answer_coded(c, s, begin, end, &own, err);
    } else {
        status = answer_flat(c, s, begin, end, &own, err);
    }
    rvx_filter_clear(&own);
    for (size_t i = 0; i < end - begin; i++) {
        rvx_scan_clear(&s[i]);
        rvx_topk_clear(&s[i].top);
    }
    rvb_free(s);
    return status;
}

static rv_status answer(void *ctx, unsigned worker, size_t begin, size_t end,
                        rv_error *err) {
    (void)worker;
    const search *c = ctx;
    const rv_index *index = c->index;
    for (;;) {
        rvb_rwlock_read_lock(index->state);
        bool ready = !index->has_codes || index->rows.n_live == 0 ||
                     (index->lists.list && index->lists.group == c->ops->group);
        if (ready) break;
        rvb_rwlock_read_unlock(index->state);
        RVB_TRY(rvx_index_ensure_lists(index, c->ops, err));
    }
    rv_status status = rvx_rows_check(&index->rows, err);
    if (status == RV_OK) status = answer_locked(c, begin, end, err);
    if (status == RV_OK) status = rvx_rows_check(&index->rows, err);
    rvb_rwlock_read_unlock(index->state);
    return status;
}

/* ---- arguments -------------------------------------------------------------------- */

static rv_status check_options(search *c, const rv_search_options *given, rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_search_options, RV_SEARCH_OPTIONS_0_1_0_SIZE, RV_SEARCH_DEFAULT);
    const rv_index *index = c->index;
    rv_search_options o = RV_SEARCH_DEFAULT;
    RVB_TRY(rvb_take_options(&type, given, &o, err));
    if (!(o.epsilon >= 0) || isinf(o.epsilon))
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "epsilon must be a finite number > 0, got %g", (double)o.epsilon);
    if (o.max_rerank && o.max_rerank < c->k)
        return rvb_fail_numbers(
            err, RV_ERR_ARGUMENT, c->k, o.max_rerank,
            "max_rerank is %llu but k is %llu: at least k rows must be "
            "checked; raise max_rerank or leave it out",
            (unsigned long long)o.max_rerank, (unsigned long long)c->k);
    if (o.rerank_factor > RVX_MAX_RERANK_FACTOR)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RVX_MAX_RERANK_FACTOR,
                                o.rerank_factor,
                                "rerank_factor must be at most %u, got %u",
                                RVX_MAX_RERANK_FACTOR, o.rerank_factor);
    bool asks_exact = o.max_rerank || o.rerank_factor > 1;
    if (asks_exact && !(index->has_codes && index->has_vectors))
        return rvb_fail(
            err, RV_ERR_ARGUMENT,
            "rerank_factor and max_rerank need an index with codes and vectors; "
            "this one keeps %s only",
            index->has_vectors ? "vectors" : "codes");
    c->options = o;
    uint32_t factor = o.rerank_factor ? o.rerank_factor : index->rerank_factor;
    size_t min_rerank = 0;
    if (index->has_vectors && !rvb_mul(c->k, factor, &min_rerank)) min_rerank = SIZE_MAX;
    c->params =
        (rvx_params){.k = c->k,
                     .nprobe = o.nprobe,
                     .epsilon = o.epsilon,
                     .min_rerank = min_rerank,
                     .max_rerank = o.max_rerank > SIZE_MAX ? SIZE_MAX : o.max_rerank};
    return RV_OK;
}

static rv_status build_filters(search *c, uint64_t m, rv_error *err) {
    const rv_search_options *o = &c->options;
    if (!o->allow_ids && !o->allow_mask) return RV_OK;
    size_t n = !o->allow_ids && o->allow_mask_per_query ? m : 1;
    c->filters = rvb_alloc_zero(n, sizeof *c->filters);
    if (!c->filters) return rvb_fail_memory(err, n * sizeof *c->filters);
    c->n_filters = n;
    rvb_rwlock_read_lock(c->index->state);
    rv_status status = RV_OK;
    for (size_t i = 0; i < n && status == RV_OK; i++)
        status = rvx_filter_build(c->index, o, i, &c->filters[i], err);
    rvb_rwlock_read_unlock(c->index->state);
    return status;
}

static rv_status check_queries(search *c, uint64_t m, rv_error *err) {
    c->query_norms = rvb_alloc(m, sizeof(float));
    if (!c->query_norms) return rvb_fail_memory(err, m * sizeof(float));
    for (uint64_t i = 0; i < m; i++)
        RVB_TRY(rvx_norm(c->ops, c->queries + i * c->index->dim, c->index->dim, "query",
                         i, &c->query_norms[i], err));
    return RV_OK;
}

/* A cosine does not change with a query's length: short ones are made longer. */
static rv_status lift_queries(search *c, uint64_t m, rv_error *err) {
    size_t dim = c->index->dim, cells = 0;
    bool wanted = false;
    for (uint64_t i = 0; i < m; i++) wanted |= c->query_norms[i] < RVX_TINY_NORM;
    if (c->index->metric != RV_COSINE || !wanted) return RV_OK;
    if (rvb_mul(m, dim, &cells)) c->lifted = rvb_alloc(cells, sizeof *c->lifted);
    if (!c->lifted) return rvb_fail_memory(err, m * dim * sizeof *c->lifted);
    memcpy(c->lifted, c->queries, cells * sizeof *c->lifted);
    for (uint64_t i = 0; i < m; i++) {
        float *query = c->lifted + i * dim;
        rvx_lifted(c->ops, query, dim, query, &c->query_norms[i]);
    }
    c->queries = c->lifted;
    return RV_OK;
}

static rv_status check_shape(const rv_index *index, uint64_t m, uint32_t dim, uint64_t k,
                             rv_error *err) {
    if (k == 0) return rvb_fail(err, RV_ERR_ARGUMENT, "k must be at least 1, got 0");
    rvb_rwlock_read_lock(index->state);
    size_t live = index->rows.n_live;
    rvb_rwlock_read_unlock(index->state);
    if (live == 0)
        return rvb_fail(err, RV_ERR_EMPTY, "the index holds no vectors; add some first");
    if (dim != index->dim)
        return rvb_fail_numbers(
            err, RV_ERR_DIM, index->dim, dim,
            "query has %u dimensions, the index %u; make queries with "
            "the model that made its vectors",
            dim, index->dim);
    size_t cells, bytes;
    if (m > SIZE_MAX || k > SIZE_MAX || !rvb_mul(m, k, &cells) ||
        !rvb_mul(cells, sizeof(uint64_t), &bytes))
        return rvb_fail_numbers(
            err, RV_ERR_LIMIT, live, k,
            "%llu queries times k = %llu results do not fit in memory; the index holds "
            "%zu vectors, more results than that do not exist",
            (unsigned long long)m, (unsigned long long)k, live);
    return RV_OK;
}

/* Of batches small enough for it to matter, groups such that no thread gets many more
 * queries than another when they take groups in turn. */
#define MIN_AT_ONCE 5u /* fewer share too little of a pass */
static size_t coded_at_once(uint64_t m, size_t workers) {
    size_t best = RVX_QUERIES_AT_ONCE;
    uint64_t least = UINT64_MAX;
    for (size_t size = RVX_QUERIES_AT_ONCE; size >= MIN_AT_ONCE; size--) {
        uint64_t groups = (m + size - 1) / size, turns = (groups + workers - 1) / workers;
        uint64_t most = turns * size;
        if (groups % workers == 1 % workers) most -= groups * size - m; /* the last one */
        if (most >= least - least / 32) continue; /* smaller groups cost as much */
        least = most;
        best = size;
    }
    return best;
}

/* Flat batches want to be large, but every thread is to have two of them, and none is to
 * take long: Ctrl-C waits for it. */
size_t rvx_flat_at_once(const rvk_ops *ops, size_t rows, size_t dim, uint64_t m,
                        size_t workers) {
    uint64_t most = ops->turn / ((uint64_t)rows * dim + 1);
    size_t shares = workers > 1 ? 2 * workers : 1;
    uint64_t share = (m + shares - 1) / shares;
    if (share > most) share = most;
    if (share < ops->sharing) return ops->sharing;
    if (share > RVX_FLAT_AT_ONCE) return RVX_FLAT_AT_ONCE;
    return share < RVK_PACK ? (size_t)share : (size_t)share / RVK_PACK * RVK_PACK;
}

static size_t at_once(const search *c, uint64_t m, const rvb_pool *pool) {
    const rv_index *index = c->index;
    if (index->has_codes) return coded_at_once(m, rvb_pool_workers(pool));
    rvb_rwlock_read_lock(index->state);
    size_t rows = index->rows.n;
    rvb_rwlock_read_unlock(index->state);
    return rvx_flat_at_once(c->ops, rows, index->dim, m, rvb_pool_workers(pool));
}

rv_status rvx_search(const rv_index *index, const rv_queries *queries, uint64_t k,
                     const rv_search_options *options, const rv_result *result,
                     uint64_t *cost, rv_error *err) {
    uint64_t m = queries->m;
    RVB_TRY(check_shape(index, m, queries->dim, k, err));
    atomic_uint_fast64_t sum;
    atomic_init(&sum, 0);
    search c = {.index = index,
                .ops = rvk_ops_active(),
                .queries = queries->data,
                .k = k,
                .ids = result->ids,
                .scores = result->scores,
                .cost = cost ? &sum : NULL};
    RVB_TRY(check_options(&c, options, err));
    if (m == 0) return RV_OK;
    rv_status status = check_queries(&c, m, err);
    if (status == RV_OK) status = lift_queries(&c, m, err);
    if (status == RV_OK) status = build_filters(&c, m, err);
    if (status == RV_OK) {
        rvb_pool *pool = m > 1 ? rvb_pool_acquire() : NULL;
        status = rvb_pool_for(pool, m, at_once(&c, m, pool), answer, &c,
                              c.options.progress, err);
        rvb_pool_release(pool);
    }
    for (size_t i = 0; i < c.n_filters; i++) rvx_filter_clear(&c.filters[i]);
    rvb_free(c.filters);
    rvb_free(c.query_norms);
    rvb_free(c.lifted);
    if (cost) *cost = atomic_load(&sum);
    return status;
}

rv_status rv_index_search(const rv_index *index, const rv_queries *queries, uint64_t k,
                          const rv_search_options *options, const rv_result *result,
                          rv_error *err) {
    return rvx_search(index, queries, k, options, result, NULL, err);
}
