/*
 * flat.c - the exact scan of the float32 rows, for a few queries at once: rows are
 * taken in tiles that stay in the cache while every query is compared with them.
 */
#include "index/index_i.h"

#define TILE_ROWS 256u
#define TILE_FLOATS 32768u /* 128 KB: half of a small second-level cache */

static void push_row(rvx_scratch *s, size_t row, float key) {
    if (key > s->top.worst || !rvx_row_live(&s->index->rows, row)) return;
    uint64_t id = rvx_row_id(&s->index->rows, row);
    rvx_topk_push(&s->top, (rvx_hit){.key = key, .row = (uint32_t)row, .id = id});
}

static void push_tile(rvx_scratch *s, const rvx_filter *filter, size_t first, size_t n,
                      const float *value) {
    rv_metric metric = s->index->metric;
    for (size_t i = 0; i < n; i++) {
        if (filter && !rvx_filter_passes(filter, first + i)) continue;
        float key = value[i];
        if (metric == RV_IP) key = -key;
        if (metric == RV_COSINE) key = rvx_cosine_key(s, first + i, key);
        push_row(s, first + i, key);
    }
}

static size_t tile_rows(const rv_index *index) {
    size_t rows = TILE_FLOATS / index->dim / 4 * 4;
    return rows < 4 ? 4 : rows > TILE_ROWS ? TILE_ROWS : rows;
}

static void dense(rvx_scratch *s, size_t n_queries, const rvx_filter *const *filters) {
    const rv_index *index = s->index;
    const rvx_column *v = &index->rows.column[RVX_VECTORS];
    float value[RVX_QUERIES_AT_ONCE * TILE_ROWS];
    size_t n = index->rows.n, step = tile_rows(index);
    for (size_t first = 0; first < n; first += step) {
        size_t rows = n - first < step ? n - first : step;
        const void *at = rvx_cell(v, first);
        if (index->metric == RV_L2)
            s->ops->l2sq_tile(s->query, n_queries, at, v->stride, rows, index->dim,
                              value);
        else
            s->ops->dot_tile(s->query, n_queries, at, v->stride, rows, index->dim, value);
        for (size_t i = 0; i < n_queries; i++)
            push_tile(&s[i], filters[i], first, rows, value + i * rows);
    }
}

/* Where few rows are allowed, only those are read. */
static bool is_sparse(const rvx_filter *filter, size_t n_rows) {
    return filter && filter->count < n_rows / 4;
}

static void sparse(rvx_scratch *s, const rvx_filter *filter) {
    for (size_t row = 0; row < s->index->rows.n; row++)
        if (rvx_filter_passes(filter, row)) push_row(s, row, rvx_exact_key(s, row));
}

void rvx_flat_search(rvx_scratch *s, size_t n_queries, const rvx_filter *const *filters) {
    size_t n_rows = s->index->rows.n;
    bool together = true;
    for (size_t i = 0; i < n_queries; i++) together &= !is_sparse(filters[i], n_rows);
    if (together) {
        dense(s, n_queries, filters);
        return;
    }
    for (size_t i = 0; i < n_queries; i++) {
        if (is_sparse(filters[i], n_rows))
            sparse(&s[i], filters[i]);
        else
            dense(&s[i], 1, &filters[i]);
    }
}
