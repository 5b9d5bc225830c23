/*
 * tune.c - the cheapest search settings that reach a recall, found on queries.
 *
 * Recall rises with the number of lists looked into and with the width of the bound, and
 * so does the cost. For each of a few widths the smallest number of lists that is enough
 * is found by halving; of these pairs the cheapest wins. The even-numbered queries
 * choose, the odd-numbered ones tell what the choice is worth.
 */
#include "index/index_i.h"

#include <math.h>

/* A bound this wide leaves out one row in 10^12. */
#define WIDE 7.0f
static const float widths[] = {1.0f, 1.3f, 1.6f, 1.9f, 2.2f, 2.6f, 3.0f};
#define N_WIDTHS (sizeof widths / sizeof *widths)

typedef struct tuning {
    rv_index *index;
    uint32_t dim, n_lists;
    float epsilon;  /* of the index when the call began */
    uint64_t k, m;  /* of each half */
    float *queries; /* the half that is asked */
    float *worst;   /* score of the true k-th row of each of its queries */
    uint64_t *ids;  /* of one search */
    float *scores;
    double target;
    const rv_progress *progress;
    uint64_t done, total; /* searches of all queries */
} tuning;

/* One setting, and what it is worth on the queries of a half. */
typedef struct trial {
    uint32_t nprobe;
    float epsilon;
    double recall;
    uint64_t cost;
} trial;

static int report(void *ctx, uint64_t done, uint64_t total) {
    const tuning *t = ctx;
    uint64_t at = t->done * t->m + done;
    (void)total;
    return t->progress->report(t->progress->ctx, at, t->total * t->m);
}

static rv_status ask(tuning *t, trial *r, rv_error *err) {
    rv_progress progress = {report, t};
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.nprobe = r->nprobe;
    o.epsilon = r->epsilon;
    if (t->progress) o.progress = &progress;
    RVB_TRY(rvx_search(t->index, &(rv_queries){t->queries, t->m, t->dim}, t->k, &o,
                       &(rv_result){t->ids, t->scores}, &r->cost, err));
    t->done += t->done + 1 < t->total;
    return RV_OK;
}

/* Rows as good as the true k-th one are found, whichever they are. */
static rv_status measure(tuning *t, trial *r, rv_error *err) {
    RVB_TRY(ask(t, r, err));
    bool distance = t->index->metric == RV_L2;
    uint64_t found = 0;
    for (uint64_t i = 0; i < t->m * t->k; i++) {
        float score = t->scores[i], worst = t->worst[i / t->k];
        bool near = distance ? score <= worst : score >= worst;
        found += near && t->ids[i] != RV_NO_ID;
    }
    r->recall = (double)found / (double)(t->m * t->k);
    return RV_OK;
}

static rv_status find_truth(tuning *t, rv_error *err) {
    trial r = {.nprobe = RV_ALL_LISTS, .epsilon = WIDE};
    RVB_TRY(ask(t, &r, err));
    for (uint64_t i = 0; i < t->m; i++) t->worst[i] = t->scores[(i + 1) * t->k - 1];
    return RV_OK;
}

/* The smallest number of lists that reaches the target with this width; *reached tells
 * whether any does. */
static rv_status fewest_lists(tuning *t, trial *r, bool *reached, rv_error *err) {
    uint32_t low = 0, high = t->n_lists; /* low is too few */
    trial last = {.nprobe = RV_ALL_LISTS, .epsilon = r->epsilon};
    RVB_TRY(measure(t, &last, err));
    *r = last;
    *reached = last.recall >= t->target;
    while (*reached && high - low > 1 + low / 16) {
        last.nprobe = low + (high - low) / (low ? 2 : 8);
        if (last.nprobe == low) last.nprobe++;
        RVB_TRY(measure(t, &last, err));
        if (last.recall < t->target) {
            low = last.nprobe;
        } else {
            high = last.nprobe;
            *r = last;
        }
    }
    return RV_OK;
}

static rv_status choose(tuning *t, trial *best, rv_error *err) {
    /* without vectors a code of signs has no bound to widen */
    bool bounded = t->index->has_vectors || t->index->bits > 1;
    bool found = false;
    for (size_t w = 0; w < N_WIDTHS; w++) {
        trial r = {.epsilon = bounded ? widths[w] : t->epsilon};
        bool reached;
        RVB_TRY(fewest_lists(t, &r, &reached, err));
        bool better = reached && (!found || r.cost < best->cost);
        if (better || (!found && (w == 0 || r.recall > best->recall))) *best = r;
        found |= reached;
        if (!bounded) break;
    }
    return RV_OK;
}

/* Gathers the queries of one half, 0 or 1. */
static void take_half(tuning *t, const float *queries, uint64_t half) {
    for (uint64_t i = 0; i < t->m; i++)
        memcpy(t->queries + i * t->dim, queries + (2 * i + half) * t->dim,
               t->dim * sizeof *queries);
}

static rv_status tune(tuning *t, const float *queries, rv_tuning *out, rv_error *err) {
    trial best = {0};
    take_half(t, queries, 0);
    RVB_TRY(find_truth(t, err));
    RVB_TRY(choose(t, &best, err));
    take_half(t, queries, 1);
    RVB_TRY(find_truth(t, err));
    trial proof = best;
    RVB_TRY(measure(t, &proof, err));
    *out = (rv_tuning){0, best.nprobe, best.epsilon, proof.recall};
    return RV_OK;
}

static rv_status reserve(tuning *t, rv_error *err) {
    size_t cells, floats;
    if (rvb_mul(t->m, t->k, &cells) && rvb_mul(t->m, t->dim, &floats)) {
        t->queries = rvb_alloc(floats, sizeof *t->queries);
        t->worst = rvb_alloc(t->m, sizeof *t->worst);
        t->ids = rvb_alloc(cells, sizeof *t->ids);
        t->scores = rvb_alloc(cells, sizeof *t->scores);
    }
    if (t->queries && t->worst && t->ids && t->scores) return RV_OK;
    return rvb_fail_memory(err, t->m * (t->k * 12 + t->dim * 4));
}

static rv_status check_queries(const rv_index *index, const rv_queries *queries,
                               rv_error *err) {
    const rvk_ops *ops = rvk_ops_active();
    for (uint64_t i = 0; i < queries->m; i++) {
        float norm;
        RVB_TRY(rvx_norm(ops, queries->data + i * index->dim, index->dim, "query", i,
                         &norm, err));
    }
    return RV_OK;
}

static rv_status check(const rv_index *index, const rv_index_info *info,
                       const rv_queries *queries, uint64_t k, double recall,
                       rv_error *err) {
    uint64_t m = queries->m;
    uint32_t dim = queries->dim;
    if (!index->has_codes)
        return rvb_fail(
            err, RV_ERR_ARGUMENT,
            "a flat index compares every row exactly: there is nothing to tune");
    if (!(recall > 0 && recall <= 1))
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "recall must be above 0 and at most 1, got %g", recall);
    if (m < 2)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, 2, m,
                                "tuning needs queries to choose with and others to check "
                                "the choice: at least 2, better 200, got %llu",
                                (unsigned long long)m);
    if (info->n == 0)
        return rvb_fail(err, RV_ERR_EMPTY, "the index holds no vectors; add some first");
    if (dim != index->dim)
        return rvb_fail_numbers(
            err, RV_ERR_DIM, index->dim, dim,
            "query has %u dimensions, the index %u; make queries with "
            "the model that made its vectors",
            dim, index->dim);
    if (k == 0) return rvb_fail(err, RV_ERR_ARGUMENT, "k must be at least 1, got 0");
    if (k > info->n)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, info->n, k,
                                "k is %llu, the index holds %llu rows",
                                (unsigned long long)k, (unsigned long long)info->n);
    return RV_OK;
}

rv_status rv_index_tune(rv_index *index, const rv_queries *queries, uint64_t k,
                        double recall, const rv_progress *progress, rv_tuning *out,
                        rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_tuning, RV_TUNING_0_1_0_SIZE, RV_TUNING_DEFAULT);
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    rv_tuning chosen;
    RVB_TRY(rvb_check_size(&type, out, err));
    RVB_TRY(rv_index_get_info(index, &info, err));
    RVB_TRY(rvx_writer_check(index, err));
    RVB_TRY(check(index, &info, queries, k, recall, err));
    RVB_TRY(check_queries(index, queries, err));
    tuning t = {.index = index,
                .dim = queries->dim,
                .n_lists = info.n_lists,
                .epsilon = info.epsilon,
                .k = k,
                .m = queries->m / 2,
                .progress = progress};
    t.total = 3 + N_WIDTHS * 2;
    for (uint32_t lists = info.n_lists; lists > 1; lists /= 2) t.total += N_WIDTHS;
    /* two standard errors more, so that other queries of the kind reach it too */
    t.target = recall + 2 * sqrt(recall * (1 - recall) / ((double)t.m * (double)k));
    if (t.target > 1) t.target = 1;
    rv_status status = reserve(&t, err);
    if (status == RV_OK) status = tune(&t, queries->data, &chosen, err);
    rvb_free(t.queries);
    rvb_free(t.worst);
    rvb_free(t.ids);
    rvb_free(t.scores);
    RVB_TRY(status);
    RVB_TRY(rvx_writer_lock(index, err));
    rvb_rwlock_write_lock(index->state);
    index->nprobe = chosen.nprobe;
    index->epsilon = chosen.epsilon;
    rvb_rwlock_write_unlock(index->state);
    rvx_writer_unlock(index);
    return rvb_give_info(&type, &chosen, out, err);
}
