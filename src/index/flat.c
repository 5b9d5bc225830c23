/*
 * flat.c - the exact scan of the float32 rows, for some queries at once: rows are taken
 * in tiles that stay in the cache while every query is compared with them.
 *
 * For several queries a lower bound rules most rows out, and only the others' keys are
 * computed, as ever. The bounds start from inner products, of bytes where those are fast,
 * else, for RV_L2 only, of floats, and subtract all they may be off by. With u = 2^-24, n
 * dimensions, L = n/16 + 1 steps per lane and 4 of folding, and S = |x|^2 + |q|^2 >= 2
 * |x| |q|:
 *
 *   the key        at most 2 S, off by (L + 8) u times that, or by (L + 8) u |x| |q|
 *   |x|^2, |q|^2   off by (L + 8) u S
 *   2 <x, q>       in floats off by (L + 4) u S
 *   what is left   a few sums and products of at most 10 S, off by 100 u S
 *
 * together less than (4 L + 200) u S. Squares too small for a float lose less than
 * n 2^-150, which is below FLT_MIN.
 *
 * With x = s b + e and q = t c + f, b and c bytes,
 *   |<x, q> - s t <b, c>| = |<s b, f> + <e, q>| <= (|x| + |e|) |f| + |e| |q|.
 */
#include "index/index_i.h"

#include <float.h>
#include <math.h>

static void push_row(rvx_query_state *s, size_t row, float key) {
    if (key > s->top.worst || !rvx_row_live(&s->index->rows, row)) return;
    uint64_t id = rvx_row_id(&s->index->rows, row);
    rvx_topk_push(&s->top, (rvx_hit){.key = key, .row = (uint32_t)row, .id = id});
}

/* A row that the bounds have let pass. */
static void decide(rvx_query_state *s, const rvx_filter *filter, size_t row) {
    if (filter && !rvx_filter_passes(filter, row)) return;
    push_row(s, row, rvx_exact_key(s, row));
}

static float slack(size_t dim) {
    const size_t roundings = 4 * (dim / 16 + 1) + 200;
    return (float)roundings * 0x1p-24f;
}

/* A square less its share of what may be off. */
static float lowered(float norm2, size_t dim) {
    return norm2 * (1 - slack(dim)) - FLT_MIN;
}

/* ---- by bytes -------------------------------------------------------------------- */

#define SCREEN_QUERIES 4u /* for fewer, memory is the limit; rounding takes as long */
#define MAX_PACKS (RVX_FLAT_AT_ONCE / RVK_PACK)

typedef struct screen {
    rvk_pack rows, queries[MAX_PACKS];
    float own[RVX_FLAT_AT_ONCE], limit[RVX_FLAT_AT_ONCE];
    uint8_t *bytes; /* of all packs */
} screen;

static bool open_screen(screen *c, size_t n_queries, size_t dim) {
    size_t n = (n_queries + RVK_PACK - 1) / RVK_PACK, bytes = rvk_pack_bytes(dim);
    memset(c, 0, sizeof *c);
    c->bytes = rvb_alloc_zero(n + 1, bytes);
    if (!c->bytes) return false;
    for (size_t i = 0; i < n; i++) c->queries[i].bytes = c->bytes + i * bytes;
    c->rows.bytes = c->bytes + n * bytes;
    return true;
}

static bool is_zero(const uint8_t *vector, size_t dim) {
    for (size_t j = 0; j < dim; j++) {
        float x;
        memcpy(&x, vector + j * sizeof x, sizeof x);
        if (x != 0) return false;
    }
    return true;
}

/* Upper bounds of the lengths, from sums in float: these are off by less than 2^-10, and
 * by 2^-67 where squares underflow. A cosine is the product of vectors of length 1; those
 * whose length is too small to divide by are never ruled out, but for zeros. */
static void finish_pack(rvk_pack *p, const void *vectors, size_t stride, size_t n,
                        size_t dim, bool unit) {
    for (size_t i = 0; i < n; i++) {
        float norm = sqrtf(p->norm2[i]), error = p->error[i] * (1 + 0x1p-10f) + 0x1p-66f;
        p->length[i] = (norm + error) * (1 + 0x1p-10f) + 0x1p-66f;
        p->error[i] = error + slack(dim) * p->length[i];
        if (!unit) continue;
        float by = p->norm2[i] >= 0x1p-80f ? 1 / norm : 0;
        p->scale[i] *= by;
        p->length[i] *= by;
        p->error[i] *= by;
        if (by == 0 && !is_zero((const uint8_t *)vectors + i * stride, dim))
            p->error[i] = INFINITY;
    }
}

static void pack_queries(screen *c, const rvx_query_state *s, size_t n_queries) {
    const rv_index *index = s->index;
    bool l2 = index->metric == RV_L2;
    for (size_t i = 0; i < n_queries; i += RVK_PACK) {
        rvk_pack *p = &c->queries[i / RVK_PACK];
        size_t n = n_queries - i < RVK_PACK ? n_queries - i : RVK_PACK;
        size_t row = index->dim * sizeof(float);
        s->ops->pack(s[i].query, row, n, index->dim, false, p);
        finish_pack(p, s[i].query, row, n, index->dim, index->metric == RV_COSINE);
        for (size_t k = 0; k < n; k++) {
            c->own[i + k] = l2 ? lowered(p->norm2[k], index->dim) : 0;
            c->limit[i + k] = s[i + k].top.worst - c->own[i + k];
            p->scale[k] *= l2 ? 2.0f : 1.0f;
            p->error[k] *= l2 ? 2.0f : 1.0f;
            p->length[k] *= l2 ? 2.0f : 1.0f;
        }
    }
}

static void screen_pack(screen *c, rvx_query_state *s, size_t n_queries,
                        const rvx_filter *const *filters, size_t first, size_t n) {
    const rv_index *index = s->index;
    const rvx_column *v = &index->rows.column[RVX_VECTORS];
    float term[RVK_PACK] = {0};
    const void *at = rvx_cell(v, first);
    s->ops->pack(at, v->stride, n, index->dim, true, &c->rows);
    finish_pack(&c->rows, at, v->stride, n, index->dim, index->metric == RV_COSINE);
    for (size_t r = 0; index->metric == RV_L2 && r < n; r++)
        term[r] = lowered(c->rows.norm2[r], index->dim);
    for (size_t i = 0; i < n_queries; i += RVK_PACK) {
        uint16_t masks[RVK_PACK];
        size_t m = n_queries - i < RVK_PACK ? n_queries - i : RVK_PACK;
        s->ops->screen(&c->rows, term, &c->queries[i / RVK_PACK], c->limit + i,
                       index->dim, masks);
        for (size_t k = i; k < i + m; k++) {
            unsigned passed = masks[k - i] & ((1u << n) - 1);
            if (!passed) continue;
            for (; passed; passed &= passed - 1)
                decide(&s[k], filters[k], first + rvx_lowest_bit(passed));
            c->limit[k] = s[k].top.worst - c->own[k];
        }
    }
}

#define SCREEN_TURN (64 * RVK_PACK) /* rows after which others may want the processor */

/* Whether it could be done. */
static bool screened(rvx_query_state *s, size_t n_queries,
                     const rvx_filter *const *filters) {
    screen c;
    size_t n = s->index->rows.n;
    if (!s->ops->screen || n_queries < SCREEN_QUERIES) return false;
    if (!open_screen(&c, n_queries, s->index->dim)) return false;
    pack_queries(&c, s, n_queries);
    for (size_t first = 0; first < n; first += RVK_PACK) {
        size_t rows = n - first < RVK_PACK ? n - first : RVK_PACK;
        screen_pack(&c, s, n_queries, filters, first, rows);
        if (first % SCREEN_TURN == 0) (void)rvb_make_room();
    }
    rvb_free(c.bytes);
    return true;
}

/* ---- by floats ------------------------------------------------------------------- */

#define TILE_QUERIES 32u
#define TILE_ROWS 256u
#define TILE_FLOATS 32768u /* 128 KB: half of a small second-level cache */
#define PRODUCT_QUERIES 4u /* for fewer, memory is the limit, and products do not pay */

static void push_tile(rvx_query_state *s, const rvx_filter *filter, size_t first,
                      size_t n, const float *value) {
    rv_metric metric = s->index->metric;
    for (size_t i = 0; i < n; i++) {
        if (filter && !rvx_filter_passes(filter, first + i)) continue;
        float key = value[i];
        if (metric == RV_IP) key = -key;
        if (metric == RV_COSINE) key = rvx_cosine_key(s, first + i, key);
        push_row(s, first + i, key);
    }
}

/* |x|^2 of a tile of rows. */
static void row_terms(const rv_index *index, size_t first, size_t n, float *terms) {
    const rvx_column *norms = &index->rows.column[RVX_NORMS];
    for (size_t i = 0; i < n; i++) {
        float norm;
        memcpy(&norm, rvx_cell(norms, first + i), sizeof norm);
        terms[i] = lowered(norm * norm, index->dim);
    }
}

#define AT_ONCE 16u

/* Rows whose distance cannot be above the threshold, from the products of a tile. */
static void push_near(rvx_query_state *s, const rvx_filter *filter, size_t first,
                      size_t n, const float *product, const float *terms) {
    float own = lowered(s->query_norm * s->query_norm, s->index->dim);
    for (size_t i = 0; i < n; i += AT_ONCE) {
        size_t m = n - i < AT_ONCE ? n - i : AT_ONCE;
        float worst = s->top.worst - own;
        int far = 1;
        for (size_t k = 0; k < m; k++) far &= terms[i + k] - 2 * product[i + k] > worst;
        for (size_t k = 0; !far && k < m; k++) {
            if (terms[i + k] - 2 * product[i + k] > s->top.worst - own) continue;
            decide(s, filter, first + i + k);
        }
    }
}

static size_t tile_rows(const rv_index *index) {
    size_t rows = TILE_FLOATS / index->dim / 4 * 4;
    return rows < 4 ? 4 : rows > TILE_ROWS ? TILE_ROWS : rows;
}

static void tiled(rvx_query_state *s, size_t n_queries,
                  const rvx_filter *const *filters) {
    const rv_index *index = s->index;
    const rvx_column *v = &index->rows.column[RVX_VECTORS];
    float value[TILE_QUERIES * TILE_ROWS], terms[TILE_ROWS];
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
        (void)rvb_make_room();
    }
}

/* ---- all rows -------------------------------------------------------------------- */

static void dense(rvx_query_state *s, size_t n_queries,
                  const rvx_filter *const *filters) {
    if (screened(s, n_queries, filters)) return;
    for (size_t i = 0; i < n_queries; i += TILE_QUERIES) {
        size_t n = n_queries - i < TILE_QUERIES ? n_queries - i : TILE_QUERIES;
        tiled(s + i, n, filters + i);
    }
}

/* Where fewer than a quarter of the rows are allowed, only those are read. */
static bool is_sparse(const rvx_filter *filter, size_t n_rows) {
    return filter && filter->count < n_rows / 4;
}

static void sparse(rvx_query_state *s, const rvx_filter *filter) {
    for (size_t row = 0; row < s->index->rows.n; row++)
        if (rvx_filter_passes(filter, row)) push_row(s, row, rvx_exact_key(s, row));
}

void rvx_flat_search(rvx_query_state *s, size_t n_queries,
                     const rvx_filter *const *filters) {
    size_t n_rows = s->index->rows.n;
    for (size_t i = 0, end; i < n_queries; i = end) {
        for (end = i; end < n_queries && !is_sparse(filters[end], n_rows);) end++;
        if (end > i)
            dense(s + i, end - i, filters + i);
        else
            sparse(&s[i], filters[end++]);
    }
}
