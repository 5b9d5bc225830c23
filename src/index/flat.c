/*
 * flat.c - the exact scan of the float32 rows, for some queries at once: rows are taken
 * in tiles that stay in the cache while every query is compared with them.
 *
 * Several queries' squared distances start from inner products, half the work of
 * differences: |x|^2 + |q|^2 - 2 <x, q> less all it may be off by rules most rows out,
 * and the distance of the others is then computed as ever. With u = 2^-24, n dimensions,
 * L = n/16 + 1 steps and 4 folds per sum, and S = |x|^2 + |q|^2 >= 2 |x| |q|:
 *   2 <x, q>     off by (L + 4) u S
 *   |x|^2, |q|^2 from rounded norms, (L + 8) u S
 *   the two sums 3 u S, and S itself when it is scaled 2 u S
 *   the distance as it will be computed, at most 2 S, off by (L + 8) u times that
 * together less than (4 L + 40) u S.
 */
#include "index/index_i.h"

#include <float.h>
#include <math.h>

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

/* ---- squared distances by way of inner products ------------------------------------ */

static float shrink(size_t dim) {
    return 1 - (float)(4 * (dim / 16 + 1) + 40) * 0x1p-24f;
}

/* |x|^2 of a tile of rows, less its share of what may be off. */
static void row_terms(const rv_index *index, size_t first, size_t n, float *terms) {
    const rvx_column *norms = &index->rows.column[RVX_NORMS];
    float kept = shrink(index->dim);
    for (size_t i = 0; i < n; i++) {
        float norm;
        memcpy(&norm, rvx_cell(norms, first + i), sizeof norm);
        terms[i] = norm * norm * kept - FLT_MIN;
    }
}

#define AT_ONCE 16u

/* Rows whose distance cannot be above the threshold, from the products of a tile. */
static void push_near(rvx_scratch *s, const rvx_filter *filter, size_t first, size_t n,
                      const float *product, const float *terms) {
    float own = s->query_norm * s->query_norm * shrink(s->index->dim) - FLT_MIN;
    for (size_t i = 0; i < n; i += AT_ONCE) {
        size_t m = n - i < AT_ONCE ? n - i : AT_ONCE;
        float worst = s->top.worst - own;
        int far = 1;
        for (size_t k = 0; k < m; k++)
            far &= terms[i + k] - 2 * product[i + k] > worst;
        for (size_t k = 0; !far && k < m; k++) {
            size_t row = first + i + k;
            if (terms[i + k] - 2 * product[i + k] > s->top.worst - own) continue;
            if (filter && !rvx_filter_passes(filter, row)) continue;
            push_row(s, row, rvx_exact_key(s, row));
        }
    }
}

/* Products pay from this many queries on; for fewer, memory is the limit. */
#define PRODUCT_QUERIES 4u

/* ---- all rows ------------------------------------------------------------------------ */

static size_t tile_rows(const rv_index *index) {
    size_t rows = TILE_FLOATS / index->dim / 4 * 4;
    return rows < 4 ? 4 : rows > TILE_ROWS ? TILE_ROWS : rows;
}

static void dense(rvx_scratch *s, size_t n_queries, const rvx_filter *const *filters) {
    const rv_index *index = s->index;
    const rvx_column *v = &index->rows.column[RVX_VECTORS];
    float value[RVX_FLAT_AT_ONCE * TILE_ROWS], terms[TILE_ROWS];
    size_t n = index->rows.n, step = tile_rows(index);
    bool products = index->metric == RV_L2 && n_queries >= PRODUCT_QUERIES;
    for (size_t first = 0; first < n; first += step) {
        size_t rows = n - first < step ? n - first : step;
        const void *at = rvx_cell(v, first);
        if (products) row_terms(index, first, rows, terms);
        if (index->metric == RV_L2 && !products)
            s->ops->l2sq_tile(s->query, n_queries, at, v->stride, rows, index->dim,
                              value);
        else
            s->ops->dot_tile(s->query, n_queries, at, v->stride, rows, index->dim, value);
        for (size_t i = 0; i < n_queries; i++) {
            if (products)
                push_near(&s[i], filters[i], first, rows, value + i * rows, terms);
            else
                push_tile(&s[i], filters[i], first, rows, value + i * rows);
        }
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
