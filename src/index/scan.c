/*
 * scan.c - queries against the lists of codes.
 *
 * The kernel hands back the lanes of a block whose lower bound beats the threshold; the
 * bound is a function of integers and of one fused expression per lane, so every
 * instruction set hands back the same ones. A query sees lists, blocks and thresholds in
 * one order, whether it is alone or others go through the same blocks with it.
 */
#include "index/index_i.h"

/* Below this share of allowed rows, comparing the code of each of them is cheaper than
 * scanning all. */
#define DIRECT_SHARE 64u

static bool is_direct(const rvx_scratch *s, const rvx_filter *filter) {
    return filter && filter->count <= s->index->rows.n / DIRECT_SHARE + s->params.k;
}

static void offer_allowed(rvx_scratch *s, const rvx_filter *filter) {
    for (size_t word = 0; word < (filter->n_rows + 63) / 64; word++) {
        for (uint64_t bits = filter->bits[word]; bits; bits &= bits - 1) {
            size_t row = word * 64 + rvx_lowest_bit(bits);
            if (rvx_row_live(&s->index->rows, row)) rvx_offer_row(s, row);
        }
    }
    rvx_settle(s);
    if (s->pool.k) rvx_finish_pool(s);
}

/* ---- lists ------------------------------------------------------------------------ */

static rvk_scan enter(rvx_scratch *s, uint32_t l) {
    const rvx_list *list = &s->index->lists.list[l];
    rvx_enter_list(s, l);
    rvk_scan scan = {.blocks = list->blocks,
                     .n_blocks = (list->n + RVK_BLOCK - 1) / RVK_BLOCK,
                     .lut = s->lut,
                     .padded = s->index->quantizer->padded,
                     .step = s->rq.step,
                     .bias = s->rq.bias + (rvx_scans_estimates(s) ? 0 : s->t)};
    s->cost += RVX_LIST_COST + scan.n_blocks * s->index->lists.block_bytes;
    return scan;
}

/* The filter is asked about rows that pass the bound only: they are few. */
static void visit(rvx_scratch *s, const rvx_filter *filter, const rvx_list *list,
                  size_t block, uint64_t mask, const float *values) {
    const rvx_lists *lists = &s->index->lists;
    uint8_t *at = list->blocks + block * lists->block_bytes;
    const float *b = rvk_block_b(lists->group, lists->padded, at);
    for (; mask; mask &= mask - 1) {
        unsigned lane = rvx_lowest_bit(mask);
        uint32_t row = list->rows[block * RVK_BLOCK + lane];
        if (!filter || rvx_filter_passes(filter, row))
            rvx_offer(s, row, values[lane], b[lane]);
    }
}

static void scan_list(rvx_scratch *s, uint32_t l, const rvx_filter *filter) {
    const rvx_list *list = &s->index->lists.list[l];
    rvk_scan scan = enter(s, l);
    float values[RVK_BLOCK];
    uint64_t mask;
    for (size_t block = 0;; block++) {
        scan.limit = rvx_limit(s) - s->g;
        block = s->ops->scan(&scan, block, &mask, values);
        if (block >= scan.n_blocks) return;
        visit(s, filter, list, block, mask, values);
    }
}

/* ---- queries ------------------------------------------------------------------------ */

/* How many answers there can be. */
static size_t answers(const rvx_scratch *s, const rvx_filter *filter) {
    size_t most = s->params.cap && s->pool.k < s->params.k ? s->pool.k : s->params.k;
    return filter && filter->count < most ? filter->count : most;
}

static bool is_filled(rvx_scratch *s, const rvx_filter *filter) {
    rvx_settle(s);
    return (s->params.cap ? s->pool.n : s->top.n) >= answers(s, filter);
}

/* The lists that were to be seen may hold fewer rows than were asked for. */
static void finish(rvx_scratch *s, const rvx_filter *filter) {
    if (s->n_probed < s->n_order && !is_filled(s, filter)) {
        rvx_order_rest(s);
        for (size_t i = s->n_probed; i < s->n_order && !is_filled(s, filter); i++)
            scan_list(s, s->order[i].row, filter);
    }
    rvx_settle(s);
    if (s->pool.k) rvx_finish_pool(s);
}

static void scan_query(rvx_scratch *s, const rvx_filter *filter) {
    for (size_t i = 0; i < s->n_probed; i++) scan_list(s, s->order[i].row, filter);
    finish(s, filter);
}

void rvx_scan_queries(rvx_scratch *s, size_t n, const rvx_filter *const *filters) {
    for (size_t i = 0; i < n; i++) {
        if (filters[i] && !filters[i]->count) continue;
        rvx_topk_reset(&s[i].pool);
        rvx_query_prepare(&s[i]);
        if (is_direct(&s[i], filters[i]))
            offer_allowed(&s[i], filters[i]);
        else
            scan_query(&s[i], filters[i]);
    }
}
