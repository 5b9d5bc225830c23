/*
 * encode.c - rows as they are kept: their norms, vectors, lists, codes and factors, and
 * the quantizer that is trained on the first of them or on all anew.
 */
#include "index/index_i.h"

#include <math.h>

typedef struct encoding {
    const rv_index *index;
    const rvx_quantizer *quantizer;
    const rvk_ops *ops;
    const rvx_column *column; /* written from row `first` on */
    size_t first;
    rvx_source vectors; /* from row `first` on */
    float *scratch;     /* per worker */
    size_t scratch_floats;
    bool recode; /* vectors are in place already and are taken as they are */
} encoding;

/* Norms of n rows, the i-th and those after it, and copies of them in their place. Rows
 * that are taken as they are may have norms that are no use; bit k of *bad then marks the
 * k-th. */
static rv_status take_rows(const encoding *e, size_t i, size_t n,
                           const float *const *vectors, float *norms, uint64_t *bad,
                           rv_error *err) {
    const rvx_column *column = e->column;
    size_t dim = e->index->dim;
    *bad = 0;
    for (size_t k = 0; k < n; k++) {
        const float *v = vectors[k];
        size_t row = e->first + i + k;
        rv_status status =
            rvx_norm(e->ops, v, dim, "vector", i + k, &norms[k], e->recode ? NULL : err);
        if (status != RV_OK && !e->recode) return status;
        *bad |= (uint64_t)(status != RV_OK) << k;
        memcpy(rvx_cell(&column[RVX_NORMS], row), &norms[k], sizeof norms[k]);
        if (column[RVX_VECTORS].width && !e->recode)
            memcpy(rvx_cell(&column[RVX_VECTORS], row), v, dim * sizeof *v);
    }
    return RV_OK;
}

/* A row whose code means nothing is never ruled out by it. */
static const rvx_fine_factors always = {
    .sign = {-INFINITY, 0}, .a = -INFINITY, .b = 0, .e = 0};

static rv_status encode_rows(void *ctx, unsigned worker, size_t begin, size_t end,
                             rv_error *err) {
    const encoding *e = ctx;
    const rvx_column *column = e->column;
    const rvx_quantizer *q = e->quantizer;
    for (size_t i = begin; i < end; i += RVX_NEAREST_ROWS) {
        size_t n = end - i < RVX_NEAREST_ROWS ? end - i : RVX_NEAREST_ROWS;
        const float *vectors[RVX_NEAREST_ROWS];
        float norms[RVX_NEAREST_ROWS];
        uint32_t lists[RVX_NEAREST_ROWS];
        uint64_t bad;
        float *scratch = NULL, *y = NULL;
        if (q) {
            scratch = e->scratch + worker * e->scratch_floats;
            y = scratch + rvx_assign_scratch(&q->near);
        }
        for (size_t k = 0; k < n; k++)
            vectors[k] = rvx_source_row(&e->vectors, e->ops, i + k, e->index->dim,
                                        q ? y + k * q->padded : NULL);
        RVB_TRY(take_rows(e, i, n, vectors, norms, &bad, err));
        if (!q) continue;
        rvx_quantizer_place(q, e->ops, vectors, norms, n, scratch, y, lists);
        for (size_t k = 0; k < n; k++) {
            size_t row = e->first + i + k;
            rvx_fine_factors f;
            rvx_quantizer_encode(q, e->ops, y + k * q->padded, norms[k], lists[k],
                                 rvx_cell(&column[RVX_CODES], row), &f);
            if (bad >> k & 1) f = always;
            memcpy(rvx_cell(&column[RVX_FACTORS], row), &f, column[RVX_FACTORS].width);
            memcpy(rvx_cell(&column[RVX_LISTS], row), &lists[k], sizeof lists[k]);
        }
    }
    return RV_OK;
}

static rv_status encode(encoding *e, size_t n, rvb_pool *pool,
                        const rv_progress *progress, rv_error *err) {
    e->ops = rvk_ops_active();
    if (e->quantizer) {
        size_t rows = n < RVX_NEAREST_ROWS ? n : RVX_NEAREST_ROWS;
        e->scratch_floats =
            rvx_assign_scratch(&e->quantizer->near) + rows * e->quantizer->padded;
        e->scratch = rvb_alloc(rvb_pool_workers(pool) * e->scratch_floats, sizeof(float));
        if (!e->scratch) return rvb_fail_memory(err, e->scratch_floats * sizeof(float));
    }
    rv_status status =
        rvb_pool_for(pool, n, RVX_CODE_ROWS, encode_rows, e, progress, err);
    rvb_free(e->scratch);
    return status;
}

/* What comes before counts nothing the caller knows: it only asks whether to go on. */
typedef struct asking {
    const rv_progress *user;
    uint64_t total;
} asking;

static int ask(void *ctx, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    const asking *a = ctx;
    return a->user->report(a->user->ctx, 0, a->total);
}

/* Puts the rows in their place as halves, which then are what is coded: estimates and
 * exact distances are to speak of the same vectors. */
static rv_status round_rows(encoding *e, const float *vectors, size_t n, rvb_pool *pool,
                            const rv_progress *progress, rv_error *err) {
    const rvx_column *column = &e->column[RVX_VECTORS];
    asking a = {progress, n};
    rv_progress quiet = {ask, &a};
    e->vectors = (rvx_source){rvx_cell(column, e->first), column->stride, true};
    e->recode = true;
    return rvx_round_rows(rvk_ops_active(), vectors, n, e->index->dim, &e->vectors, pool,
                          progress ? &quiet : NULL, err);
}

static rv_status train(const rv_index *index, const rvx_source *vectors, size_t n,
                       bool skip_bad, rvb_pool *pool, const rv_progress *progress,
                       rvx_quantizer **out, rv_error *err) {
    uint32_t lists = index->n_lists_option ? index->n_lists_option : rvx_auto_lists(n);
    if (lists > rvx_most_lists(n)) lists = rvx_most_lists(n); /* room for no more */
    asking a = {progress, n};
    rv_progress quiet = {ask, &a};
    RVB_TRY(rvx_quantizer_create(index->dim, index->metric, index->seed, lists,
                                 index->bits, out, err));
    rv_status status = rvx_quantizer_train(*out, index->seed, vectors, n, skip_bad, pool,
                                           progress ? &quiet : NULL, err);
    if (status != RV_OK) {
        rvx_quantizer_free(*out);
        *out = NULL;
    }
    return status;
}

rv_status rvx_code_rows(const rv_index *index, const rvx_column column[RVX_N_COLUMNS],
                        const float *vectors, size_t n, rvx_quantizer **trained,
                        rvb_pool *pool, const rv_progress *progress, rv_error *err) {
    encoding e = {
        .index = index,
        .column = column,
        .first = index->rows.n,
        .vectors = {(const uint8_t *)vectors, index->dim * sizeof(float), false}};
    if (rvx_keeps_halves(index)) RVB_TRY(round_rows(&e, vectors, n, pool, progress, err));
    if (index->has_codes && !index->quantizer)
        RVB_TRY(train(index, &e.vectors, n, false, pool, progress, trained, err));
    e.quantizer = *trained ? *trained : index->quantizer;
    return encode(&e, n, pool, progress, err);
}

rv_status rvx_retrain(rv_index *index, const rv_progress *progress, rv_error *err) {
    rvx_rows *rows = &index->rows;
    const rvx_column *v = &rows->column[RVX_VECTORS];
    rvx_quantizer *quantizer = NULL;
    rvx_column made[RVX_N_COLUMNS] = {{0}};
    rvx_rows kept; /* ids and vectors stay where they are */
    rvx_rows_init(&kept, index->dim, index->bits, index->vector_bits);
    kept.column[RVX_IDS] = rows->column[RVX_IDS];
    kept.column[RVX_VECTORS] = *v;

    rvx_source vectors = {v->data, v->stride, rvx_keeps_halves(index)};
    rvb_pool *pool = rvb_pool_acquire();
    rv_status status = rvx_rows_check(rows, err);
    if (status == RV_OK)
        status = train(index, &vectors, rows->n, true, pool, progress, &quantizer, err);
    if (status == RV_OK) status = rvx_columns_grow(&kept, rows->n, true, made, err);
    if (status == RV_OK) {
        encoding e = {.index = index,
                      .quantizer = quantizer,
                      .column = made,
                      .vectors = vectors,
                      .recode = true};
        status = encode(&e, rows->n, pool, progress, err);
    }
    if (status == RV_OK) status = rvx_rows_check(rows, err);
    rvb_pool_release(pool);
    if (status == RV_OK) {
        rvb_mutex_lock(index->making);
        rvb_rwlock_write_lock(index->state);
        rvx_quantizer *old = index->quantizer;
        if (!old || old->n_lists != quantizer->n_lists) index->nprobe = 0;
        index->quantizer = quantizer;
        quantizer = old;
        rvx_columns_swap(rows->column, made);
        rvx_lists_clear(&index->lists);
        rvb_rwlock_write_unlock(index->state);
        rvb_mutex_unlock(index->making);
    }
    rvx_columns_clear(made);
    rvx_quantizer_free(quantizer);
    return status;
}
