/*
 * scan.c - queries against the lists of codes.
 *
 * The kernel hands back the lanes of a block whose lower bound beats the threshold; the
 * bound is a function of integers and of one fused expression per lane, so every
 * instruction set hands back the same ones. A query sees lists, blocks and thresholds in
 * one order, whether it is alone or others go through the same blocks with it.
 */
#include "index/index_i.h"

#include <math.h>

/* Up to this share of the rows, and k more, comparing the code of each allowed row is
 * cheaper than scanning all. */
#define DIRECT_SHARE 64u

/* Of the blocks where lists are left out: a processor that follows a stream of reads by
 * itself has to find each list's anew. */
#define FETCH_BYTES 2048u

/* Blocks whose row numbers are on their way. */
#define FETCH_AHEAD 3u

static bool is_direct(const rvx_query_state *s) {
    return s->filter && s->filter->count <= s->index->rows.n / DIRECT_SHARE + s->params.k;
}

static void consider_allowed(rvx_query_state *s) {
    const rvx_filter *filter = s->filter;
    for (size_t word = 0; word < (filter->n_rows + 63) / 64; word++) {
        for (uint64_t bits = filter->bits[word]; bits; bits &= bits - 1) {
            size_t row = word * 64 + rvx_lowest_bit(bits);
            if (rvx_row_live(&s->index->rows, row)) rvx_consider_row(s, row);
        }
    }
    rvx_flush(s);
    if (s->shortlist.k) rvx_flush_shortlist(s);
}

/* ---- lists ------------------------------------------------------------------------ */

/* Of so many lists one is where others may have the processor. */
#define LISTS_A_TURN 8u

static rvk_scan enter(rvx_query_state *s, uint32_t l) {
    if (l % LISTS_A_TURN == 0) (void)rvb_make_room();
    const rvx_list *list = &s->index->lists.list[l];
    rvx_enter_list(s, l);
    rvk_scan scan = {.blocks = list->blocks,
                     .n_blocks = (list->n + RVK_BLOCK - 1) / RVK_BLOCK,
                     .lut = s->lut,
                     .padded = s->index->quantizer->padded,
                     .step = s->rq.step,
                     .ahead = s->n_probed < s->n_order ? FETCH_BYTES : 0,
                     .bias = s->rq.bias + (rvx_scans_estimates(s) ? 0 : s->t)};
    s->cost += RVX_LIST_COST + scan.n_blocks * s->index->lists.block_bytes;
    return scan;
}

/* Of the many lanes that pass where few rows are allowed, most end with the filter: their
 * row numbers are fetched a block at a time. */
static void visit_allowed(rvx_query_state *s, const rvx_list *list, size_t block,
                          uint64_t mask, const float *values, const float *b) {
    const uint32_t *rows = list->rows + block * RVK_BLOCK;
    if ((block + FETCH_AHEAD) * RVK_BLOCK < list->n)
        rvx_fetch(rows + FETCH_AHEAD * RVK_BLOCK, RVK_BLOCK * sizeof *rows);
    for (; mask; mask &= mask - 1) {
        unsigned lane = rvx_lowest_bit(mask);
        if (rvx_filter_passes(s->filter, rows[lane]))
            rvx_consider(s, rows[lane], values[lane], b[lane]);
    }
}

static void visit(rvx_query_state *s, const rvx_list *list, size_t block, uint64_t mask,
                  const float *values) {
    const rvx_lists *lists = &s->index->lists;
    uint8_t *at = list->blocks + block * lists->block_bytes;
    const float *b = rvk_block_b(lists->group, lists->padded, at);
    if (s->filter) {
        visit_allowed(s, list, block, mask, values, b);
        return;
    }
    for (; mask; mask &= mask - 1) {
        unsigned lane = rvx_lowest_bit(mask);
        rvx_consider_slot(s, &list->rows[block * RVK_BLOCK + lane], values[lane],
                          b[lane]);
    }
}

/* Offers hits whose `id` is a slot of the list. */
static void consider_hits(rvx_query_state *s, const rvx_list *list, const rvx_hit *hits,
                          size_t n) {
    const rvx_lists *lists = &s->index->lists;
    for (size_t i = 0; i < n; i++) {
        size_t slot = (size_t)hits[i].id;
        uint8_t *at = list->blocks + slot / RVK_BLOCK * lists->block_bytes;
        const float *b = rvk_block_b(lists->group, lists->padded, at);
        if (hits[i].key < rvx_limit(s) - s->g)
            rvx_consider(s, hits[i].row, hits[i].key, b[slot % RVK_BLOCK]);
    }
}

/* The first rows a query sees pass whatever their bound, for there is no threshold yet.
 * The best of FIRST_BLOCKS blocks are taken first, so that one is found before most rows
 * are compared with it. Returns the first block not seen. */
#define FIRST_BLOCKS 6u
#define FIRST_BEST 32u
static size_t scan_first(rvx_query_state *s, const rvx_list *list, rvk_scan *scan) {
    rvx_hit hits[FIRST_BLOCKS * RVK_BLOCK];
    float values[RVK_BLOCK];
    uint64_t mask;
    size_t n = 0, blocks = scan->n_blocks;
    if (blocks > FIRST_BLOCKS) blocks = FIRST_BLOCKS;
    scan->limit = INFINITY;
    for (size_t block = 0; block < blocks; block++) {
        block = s->ops->scan(scan, block, &mask, values);
        if (block >= blocks) break;
        for (; mask; mask &= mask - 1) {
            unsigned lane = rvx_lowest_bit(mask);
            size_t slot = block * RVK_BLOCK + lane;
            uint32_t row = list->rows[slot];
            if (!s->filter || rvx_filter_passes(s->filter, row))
                hits[n++] = (rvx_hit){.key = values[lane], .row = row, .id = slot};
        }
    }
    size_t best = 2 * s->params.k > FIRST_BEST ? 2 * s->params.k : FIRST_BEST;
    if (best > n) best = n;
    rvx_hits_select(hits, n, best);
    consider_hits(s, list, hits, best);
    rvx_flush(s);
    consider_hits(s, list, hits + best, n - best);
    return blocks;
}

static void scan_list(rvx_query_state *s, uint32_t l) {
    const rvx_list *list = &s->index->lists.list[l];
    rvk_scan scan = enter(s, l);
    float values[RVK_BLOCK];
    uint64_t mask;
    size_t block = s->top.n == 0 ? scan_first(s, list, &scan) : 0;
    for (;; block++) {
        scan.limit = rvx_limit(s) - s->g;
        block = s->ops->scan(&scan, block, &mask, values);
        if (block >= scan.n_blocks) return;
        visit(s, list, block, mask, values);
    }
}

/* ---- queries -------------------------------------------------------------------- */

/* Filters that allow fewer rows than k do not get here. */
static bool is_filled(rvx_query_state *s) {
    rvx_flush(s);
    return s->params.max_rerank
               ? s->shortlist.n >= s->shortlist.k || s->shortlist.n >= s->params.k
               : s->top.n >= s->params.k;
}

/* The lists that were to be seen may hold fewer rows than were asked for. */
static void finish(rvx_query_state *s) {
    if (s->n_probed < s->n_order && !is_filled(s)) {
        rvx_order_rest(s);
        for (size_t i = s->n_probed; i < s->n_order && !is_filled(s); i++)
            scan_list(s, s->order[i].row);
    }
    rvx_flush(s);
    if (s->shortlist.k) rvx_flush_shortlist(s);
}

/* ---- several queries together --------------------------------------------------- */

/* What a group of queries shares: each has its own place in its own order of lists. */
typedef struct group {
    rvx_query_state *s[RVX_QUERIES_AT_ONCE];
    size_t at[RVX_QUERIES_AT_ONCE]; /* next list of s[i]->order */
    size_t n;
} group;

/* Queries `which` of the group, n <= RVK_SCANS of them, through one list. */
static void scan_together(group *g, const size_t *which, size_t n, uint32_t l) {
    const rvk_ops *ops = g->s[0]->ops;
    const rvx_list *list = &g->s[0]->index->lists.list[l];
    rvk_scan scan[RVK_SCANS];
    uint64_t mask[RVK_SCANS];
    float values[RVK_SCANS][RVK_BLOCK];
    for (size_t i = 0; i < n; i++) scan[i] = enter(g->s[which[i]], l);
    for (size_t block = 0;; block++) {
        for (size_t i = 0; i < n; i++) {
            const rvx_query_state *s = g->s[which[i]];
            scan[i].limit = rvx_limit(s) - s->g;
        }
        block = ops->scan_many(scan, n, block, mask, values);
        if (block >= scan->n_blocks) return;
        for (size_t i = 0; i < n; i++)
            visit(g->s[which[i]], list, block, mask[i], values[i]);
    }
}

/* The list with the lowest number that any query of the group has next, and which
 * queries have it. False when none is left. */
static bool next_list(const group *g, uint32_t *l, size_t *which, size_t *n) {
    *n = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (g->at[i] == g->s[i]->n_probed) continue;
        uint32_t mine = g->s[i]->order[g->at[i]].row;
        if (*n == 0 || mine < *l) {
            *l = mine;
            *n = 0;
        }
        if (mine == *l) which[(*n)++] = i;
    }
    return *n > 0;
}

/* Asks for the beginning of a list by its place in the order, if it is to be seen. */
static void fetch_list(const rvx_query_state *s, size_t which) {
    if (which < s->n_probed)
        rvx_fetch(s->index->lists.list[s->order[which].row].blocks, FETCH_BYTES);
}

static void scan_near(rvx_query_state *s) {
    for (size_t i = 0; i < s->n_near; i++) {
        fetch_list(s, i + 1);
        scan_list(s, s->order[i].row);
    }
}

static void scan_group(group *g) {
    for (size_t i = 0; i < g->n; i++) {
        scan_near(g->s[i]);
        g->at[i] = g->s[i]->n_near;
    }
    uint32_t l = 0;
    size_t which[RVX_QUERIES_AT_ONCE], n;
    while (next_list(g, &l, which, &n)) {
        for (size_t i = 0; i < n; i++) g->at[which[i]]++;
        fetch_list(g->s[*which], g->at[*which]);
        for (size_t i = 0; i < n; i += RVK_SCANS)
            scan_together(g, which + i, n - i < RVK_SCANS ? n - i : RVK_SCANS, l);
    }
    for (size_t i = 0; i < g->n; i++) finish(g->s[i]);
}

void rvx_scan_queries(rvx_query_state *s, size_t n, const rvx_filter *const *filters) {
    group g = {.n = 0};
    for (size_t i = 0; i < n; i++) {
        if (filters[i] && !filters[i]->count) continue;
        s[i].filter = filters[i];
        rvx_shortlist_reset(&s[i].shortlist);
        rvx_query_prepare(&s[i]);
        if (is_direct(&s[i]))
            consider_allowed(&s[i]);
        else
            g.s[g.n++] = &s[i];
    }
    scan_group(&g);
}
