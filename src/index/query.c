/*
 * query.c - one query made ready to be compared with codes: rotated, rounded into a
 * table, and measured against the centroids, which puts the lists in order.
 *
 * The nearest few lists come first, because they hold the rows that bring the threshold
 * down; the other lists to be seen follow in the order of their numbers, so that
 * several queries can go through them together.
 */
#include "index/index_i.h"

#include <math.h>

/* Nearest lists seen first: this many at most. */
#define NEAR_LISTS 16u
/* Width of the bounds for keys of lists, in standard deviations of their estimates. */
#define LIST_SIGMAS 2.0f

static void *carve(uint8_t **arena, size_t bytes) {
    void *p = *arena;
    *arena += (bytes + 63) / 64 * 64;
    return p;
}

rv_status rvx_scan_init(rvx_query_state *s, rv_error *err) {
    const rvx_quantizer *q = s->index->quantizer;
    const rvx_params *p = &s->params;
    size_t row = q->padded * sizeof(float), n_lists = q->n_lists;
    size_t lut = rvk_lut_bytes(s->ops->group, q->padded);
    size_t bits = (n_lists + 63) / 64 * sizeof(uint64_t);
    size_t per_list = 2 * sizeof(float) + sizeof(rvx_hit);
    size_t total = 2 * row + n_lists * per_list + q->padded + lut + bits + 8 * 64;
    s->arena = rvb_alloc(total, 1);
    if (!s->arena) return rvb_fail_memory(err, total);
    uint8_t *at = s->arena;
    s->lut = carve(&at, lut);
    s->rotated = carve(&at, row);
    s->shifted = carve(&at, row);
    s->list_g2 = carve(&at, n_lists * sizeof(float));
    s->list_g = carve(&at, n_lists * sizeof(float));
    s->order = carve(&at, n_lists * sizeof(rvx_hit));
    s->rounded = carve(&at, q->padded);
    s->probed = carve(&at, bits);
    s->ahead = rvx_rows_ahead(&s->index->rows);
    size_t best = p->max_rerank ? p->max_rerank : p->min_rerank;
    size_t live = s->index->rows.n_live;
    return best ? rvx_shortlist_init(&s->shortlist, best < live ? best : live, err)
                : RV_OK;
}

void rvx_scan_clear(rvx_query_state *s) {
    rvb_free(s->arena);
    rvx_shortlist_clear(&s->shortlist);
}

/* ---- distances to the centroids ----------------------------------------------- */

/* P query is rotated by itself: P(query - m) + P m would keep the rounding of m where the
 * query is much shorter. */
static void prepare_products(rvx_query_state *s) {
    const rvx_quantizer *q = s->index->quantizer;
    memcpy(s->shifted, s->query, q->dim * sizeof *s->shifted);
    memset(s->shifted + q->dim, 0, (q->padded - q->dim) * sizeof *s->shifted);
    s->ops->rotate(s->shifted, q->padded, q->signs);
    s->mean_dot = s->ops->dot(q->mean, s->query, q->dim);
    s->mean_norm = sqrtf(s->ops->dot(q->mean, q->mean, q->dim)) + 0x1p-64f;
}

/* Lists first..first+n-1; the same bits for each, however many at a time. */
static void measure_lists(rvx_query_state *s, size_t first, size_t n) {
    const rvx_quantizer *q = s->index->quantizer;
    size_t padded = q->padded, stride = padded * sizeof(float);
    const float *centroids = q->centroids + first * padded;
    float *g2 = s->list_g2 + first, *g = s->list_g + first;
    s->ops->l2sq_tile(s->rotated, 1, centroids, stride, n, padded, g2);
    if (q->metric != RV_IP) {
        memcpy(g, g2, n * sizeof *g);
        return;
    }
    s->ops->dot_tile(s->shifted, 1, centroids, stride, n, padded, g);
    for (size_t l = 0; l < n; l++) g[l] = -(s->mean_dot + g[l]);
}

void rvx_measure_list(rvx_query_state *s, uint32_t list) {
    if (isnan(s->list_g2[list])) measure_lists(s, list, 1);
}

/* Keys that those of the lists are hardly below, by the codes of their centroids, at the
 * cost of a scan. */
static void bound_lists(rvx_query_state *s) {
    const rvx_lists *lists = &s->index->lists;
    float t =
        LIST_SIGMAS * rvx_estimator_stddev(lists->padded, s->rotated_norm, s->rq.error);
    rvk_scan scan = {.blocks = lists->centroids,
                     .n_blocks = (lists->n_lists + RVK_BLOCK - 1) / RVK_BLOCK,
                     .lut = s->lut,
                     .padded = lists->padded,
                     .step = s->rq.step,
                     .bias = s->rq.bias + t,
                     .limit = INFINITY};
    bool ip = s->index->metric == RV_IP;
    float base = ip ? -s->mean_dot : s->rotated_norm * s->rotated_norm;
    for (uint32_t l = 0; l < lists->n_lists; l++) s->list_g2[l] = NAN;
    for (size_t block = 0; block < scan.n_blocks; block++) {
        float values[RVK_BLOCK];
        uint64_t mask;
        block = s->ops->scan(&scan, block, &mask, values);
        if (block == scan.n_blocks) return;
        for (; mask; mask &= mask - 1) {
            unsigned lane = rvx_lowest_bit(mask);
            s->list_g[block * RVK_BLOCK + lane] = values[lane] + base;
        }
    }
}

/* ---- order ---------------------------------------------------------------------- */

/* Lists order[begin..end) by ascending number. */
static void sort_by_number(rvx_query_state *s, size_t begin, size_t end) {
    size_t words = (s->index->quantizer->n_lists + 63) / 64;
    memset(s->probed, 0, words * sizeof *s->probed);
    for (size_t i = begin; i < end; i++) {
        uint32_t list = s->order[i].row;
        s->probed[list / 64] |= UINT64_C(1) << (list % 64);
    }
    for (size_t word = 0; word < words; word++)
        for (uint64_t bits = s->probed[word]; bits; bits &= bits - 1)
            s->order[begin++].row = (uint32_t)(word * 64 + rvx_lowest_bit(bits));
}

static bool lists_by_code(const rvx_query_state *s) {
    return s->index->lists.centroids && s->params.nprobe < s->index->lists.n_lists / 2;
}

static float spread_of(const rvx_quantizer *q, uint32_t list) {
    return q->spread ? q->spread[list] : 0;
}

/* Measures lists order[begin..end). */
static void measure_keys(rvx_query_state *s, size_t begin, size_t end) {
    const rvx_quantizer *q = s->index->quantizer;
    size_t row = q->padded * sizeof(float);
    for (size_t i = begin; i < end; i++) {
        if (i + 2 < end)
            rvx_fetch(q->centroids + (size_t)s->order[i + 2].row * q->padded, row);
        rvx_measure_list(s, s->order[i].row);
        s->order[i].key = s->list_g[s->order[i].row];
    }
}

/* What keys, their spreads included, may not exceed for a list to be looked into, by the
 * first n lists, which are known; never too small. */
static float limit_of(const rvx_query_state *s, size_t n) {
    const rvx_quantizer *q = s->index->quantizer;
    float least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        float key = s->order[i].key + spread_of(q, s->order[i].row);
        if (key < least) least = key;
        if (key > most) most = key;
    }
    return q->spread ? least + rvx_probe_radius(q, s->params.nprobe) : most;
}

/* Of n lists with bounds for keys, measures and puts first those that may be wanted;
 * returns how many. */
static size_t measure_candidates(rvx_query_state *s, size_t n) {
    const rvx_quantizer *q = s->index->quantizer;
    size_t nprobe = s->params.nprobe, known = q->spread ? (nprobe + 1) / 2 : nprobe;
    if (known > n) known = n;
    rvx_hits_select(s->order, n, known);
    measure_keys(s, 0, known);
    float limit = limit_of(s, known);
    size_t end = known;
    for (size_t i = known; i < n; i++) {
        rvx_hit hit = s->order[i];
        if (!(hit.key + spread_of(q, hit.row) <= limit)) continue;
        s->order[i] = s->order[end];
        s->order[end++] = hit;
    }
    measure_keys(s, known, end);
    return end;
}

static void order_lists(rvx_query_state *s) {
    const rvx_lists *lists = &s->index->lists;
    bool by_code = lists_by_code(s);
    size_t n = 0;
    if (by_code)
        bound_lists(s);
    else
        measure_lists(s, 0, lists->n_lists);
    for (uint32_t l = 0; l < lists->n_lists; l++)
        if (lists->list[l].n)
            s->order[n++] = (rvx_hit){.key = s->list_g[l], .row = l, .id = l};
    s->n_order = n;
    size_t known = by_code ? measure_candidates(s, n) : n;
    s->n_probed =
        rvx_probe_choose(s->index->quantizer, s->params.nprobe, s->order, known);
    s->n_near = s->n_probed < NEAR_LISTS ? s->n_probed : NEAR_LISTS;
    rvx_hits_select(s->order, s->n_probed, s->n_near);
    rvx_hits_sort(s->order, s->n_near);
    sort_by_number(s, s->n_near, s->n_probed);
}

void rvx_order_rest(rvx_query_state *s) {
    rvx_hits_sort(s->order + s->n_probed, s->n_order - s->n_probed);
}

void rvx_query_prepare(rvx_query_state *s) {
    const rvx_quantizer *q = s->index->quantizer;
    float scale = 1;
    if (q->metric == RV_COSINE) scale = s->query_norm > 0 ? 1 / s->query_norm : 0;
    rvx_quantizer_rotate(q, s->ops, s->query, scale, s->rotated);
    s->rotated_norm = sqrtf(s->ops->dot(s->rotated, s->rotated, q->padded));
    double sum = 0;
    for (size_t j = 0; j < q->padded; j++) sum += (double)s->rotated[j];
    s->half_sum = (float)(0.5 * (double)((1u << s->index->bits) - 1) * sum);
    rvk_lut_build(s->ops->group, q->padded, s->rotated, s->rounded, s->lut, &s->rq);
    if (q->metric == RV_IP) prepare_products(s);
    order_lists(s);
}
