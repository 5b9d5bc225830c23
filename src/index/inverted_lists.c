/*
 * inverted_lists.c - the arrangement that is scanned: for each centroid a run of blocks
 * of 64 codes with their factors, and the row of every slot. Derived from the
 * rows; removed rows are left out when built, or silenced in place later.
 */
#include "index/index_i.h"

#include <math.h>

static size_t blocks_for(size_t slots) { return (slots + RVK_BLOCK - 1) / RVK_BLOCK; }

static void list_free(rvx_list *list) {
    if (list->own) {
        rvb_free(list->blocks);
        rvb_free(list->rows);
    }
    *list = (rvx_list){0};
}

void rvx_lists_clear(rvx_lists *lists) {
    for (uint32_t l = 0; lists->list && l < lists->n_lists; l++)
        list_free(&lists->list[l]);
    rvb_free(lists->list);
    rvb_free(lists->blocks);
    rvb_free(lists->rows);
    rvb_free(lists->centroids);
    lists->centroids = NULL;
    lists->list = NULL;
    lists->blocks = NULL;
    lists->rows = NULL;
    lists->shared_blocks = 0;
}

static rv_status list_alloc(const rvx_lists *lists, size_t blocks, rvx_list *out,
                            rv_error *err) {
    size_t bytes;
    *out = (rvx_list){.capacity = blocks, .own = true};
    if (blocks == 0) return RV_OK;
    if (rvb_mul(blocks, lists->block_bytes, &bytes)) {
        out->blocks = rvb_alloc(bytes, 1);
        out->rows = rvb_alloc(blocks * RVK_BLOCK, sizeof *out->rows);
    }
    if (out->blocks && out->rows) return RV_OK;
    list_free(out);
    return rvb_fail_memory(err, (uint64_t)blocks * lists->block_bytes);
}

static uint32_t list_of(const rvx_rows *rows, size_t row) {
    uint32_t list;
    memcpy(&list, rvx_cell(&rows->column[RVX_LISTS], row), sizeof list);
    return list;
}

static void put(const rvx_lists *lists, rvx_list *list, const rvx_rows *rows,
                size_t row) {
    uint8_t *block = list->blocks + list->n / RVK_BLOCK * lists->block_bytes;
    if (list->n % RVK_BLOCK == 0) rvk_block_clear(lists->group, lists->padded, block);
    rvx_factors f;
    memcpy(&f, rvx_cell(&rows->column[RVX_FACTORS], row), sizeof f);
    rvk_block_put(lists->group, lists->padded, block, list->n % RVK_BLOCK,
                  rvx_cell(&rows->column[RVX_CODES], row),
                  f.a - lists->curvature * f.b * f.b, f.b);
    if (list->n == 0 || -f.b < list->least_b) list->least_b = -f.b;
    list->rows[list->n++] = (uint32_t)row;
}

void rvx_lists_append(rvx_lists *lists, const rvx_rows *rows, size_t row) {
    put(lists, &lists->list[list_of(rows, row)], rows, row);
}

typedef struct fill {
    const rvx_rows *rows;
    rvx_lists *lists;
} fill;

/* Each list gathers its own rows, so threads share nothing. `rows` was filled
 * with row numbers while counting. */
static rv_status fill_lists(void *ctx, unsigned worker, size_t begin, size_t end,
                            rv_error *err) {
    (void)worker, (void)err;
    fill *f = ctx;
    for (size_t l = begin; l < end; l++) {
        rvx_list *list = &f->lists->list[l];
        size_t n = list->n;
        list->n = 0;
        for (size_t i = 0; i < n; i++) put(f->lists, list, f->rows, list->rows[i]);
    }
    return RV_OK;
}

/* All lists lie one after the other in two pieces of memory; one that outgrows its
 * place moves to memory of its own. */
static rv_status allocate_lists(const rvx_rows *rows, rvx_lists *lists, rv_error *err) {
    size_t blocks = 0, bytes;
    for (size_t row = 0; row < rows->n; row++)
        if (rvx_row_live(rows, row)) lists->list[list_of(rows, row)].n++;
    for (uint32_t l = 0; l < lists->n_lists; l++) {
        lists->list[l].capacity = blocks_for(lists->list[l].n);
        blocks += lists->list[l].capacity;
    }
    if (rvb_mul(blocks, lists->block_bytes, &bytes)) {
        lists->blocks = rvb_alloc(bytes, 1);
        lists->rows = rvb_alloc(blocks * RVK_BLOCK, sizeof *lists->rows);
    }
    if (!lists->blocks || !lists->rows)
        return rvb_fail_memory(err, (uint64_t)blocks * lists->block_bytes);
    lists->shared_blocks = blocks;
    for (uint32_t l = 0, at = 0; l < lists->n_lists; l++) {
        rvx_list *list = &lists->list[l];
        list->blocks = lists->blocks + at * lists->block_bytes;
        list->rows = lists->rows + (size_t)at * RVK_BLOCK;
        at += (uint32_t)list->capacity;
        list->n = 0;
    }
    for (size_t row = 0; row < rows->n; row++) {
        if (!rvx_row_live(rows, row)) continue;
        rvx_list *list = &lists->list[list_of(rows, row)];
        list->rows[list->n++] = (uint32_t)row;
    }
    return RV_OK;
}

/* Centroids as codes around the mean, by which many of them are ranked. */
static rv_status build_centroids(const rvx_quantizer *q, rvx_lists *out, rv_error *err) {
    if (!rvx_many_centroids(q->n_lists, q->padded)) return RV_OK;
    size_t bytes = blocks_for(q->n_lists) * out->block_bytes;
    out->centroids = rvb_alloc(bytes, 1);
    if (!out->centroids) return rvb_fail_memory(err, bytes);
    rvx_code_centroids(rvk_ops_active(), out->group, q->centroids, q->n_lists, q->padded,
                       q->rotated_mean, out->centroids);
    return RV_OK;
}

rv_status rvx_lists_build(const rvx_rows *rows, const rvx_quantizer *q, unsigned group,
                          rvb_pool *pool, rvx_lists *out, rv_error *err) {
    *out = (rvx_lists){.n_lists = q->n_lists, .group = group, .padded = q->padded};
    out->block_bytes = rvk_block_bytes(group, q->padded);
    if (q->metric != RV_IP) /* K = |B| sqrt(D) / 4 */
        out->curvature = rvx_rounding(q->padded) * (float)q->padded / 16;
    out->list = rvb_alloc_zero(q->n_lists, sizeof *out->list);
    if (!out->list) return rvb_fail_memory(err, q->n_lists * sizeof *out->list);
    rv_status status = build_centroids(q, out, err);
    if (status == RV_OK) status = allocate_lists(rows, out, err);
    fill f = {rows, out};
    if (status == RV_OK)
        status = rvb_pool_for(pool, q->n_lists, 1, fill_lists, &f, NULL, err);
    if (status != RV_OK) rvx_lists_clear(out);
    return status;
}

/* Lists that must grow get a larger copy in `grown`; the others stay empty there. */
rv_status rvx_lists_reserve(const rvx_lists *lists, const rvx_rows *rows, size_t first,
                            size_t n, rvx_lists *grown, rv_error *err) {
    *grown = *lists;
    grown->list = NULL;
    grown->blocks = NULL;
    grown->rows = NULL;
    grown->centroids = NULL;
    if (!lists->list) return RV_OK;
    grown->list = rvb_alloc_zero(lists->n_lists, sizeof *grown->list);
    if (!grown->list) return rvb_fail_memory(err, lists->n_lists * sizeof *grown->list);
    for (size_t row = first; row < first + n; row++) grown->list[list_of(rows, row)].n++;
    for (uint32_t l = 0; l < lists->n_lists; l++) {
        const rvx_list *old = &lists->list[l];
        rvx_list *new = &grown->list[l];
        size_t need = blocks_for(old->n + new->n);
        if (need <= old->capacity) {
            *new = (rvx_list){0};
            continue;
        }
        size_t target = old->capacity + old->capacity / 2;
        rv_status status = list_alloc(lists, need > target ? need : target, new, err);
        if (status != RV_OK) {
            rvx_lists_clear(grown);
            return status;
        }
        new->n = old->n;
        new->least_b = old->least_b;
        if (old->n == 0) continue;
        memcpy(new->blocks, old->blocks, blocks_for(old->n) * lists->block_bytes);
        memcpy(new->rows, old->rows, old->n * sizeof *old->rows);
    }
    return RV_OK;
}

void rvx_lists_adopt(rvx_lists *lists, rvx_lists *grown) {
    for (uint32_t l = 0; grown->list && l < lists->n_lists; l++) {
        if (grown->list[l].capacity == 0) continue;
        list_free(&lists->list[l]);
        lists->list[l] = grown->list[l];
    }
    rvb_free(grown->list);
    grown->list = NULL;
}

void rvx_lists_kill(rvx_lists *lists, const rvx_rows *rows, size_t row) {
    rvx_list *list = &lists->list[list_of(rows, row)];
    size_t low = 0, high = list->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == list->n || list->rows[low] != row) return;
    uint8_t *block = list->blocks + low / RVK_BLOCK * lists->block_bytes;
    rvk_block_a(lists->group, lists->padded, block)[low % RVK_BLOCK] = INFINITY;
}

void rvx_lists_bytes(const rvx_lists *lists, uint64_t *used, uint64_t *slack) {
    *used = *slack = 0;
    if (!lists->list) return;
    size_t block = lists->block_bytes + RVK_BLOCK * sizeof(uint32_t);
    *used = lists->n_lists * sizeof *lists->list;
    if (lists->centroids) *used += blocks_for(lists->n_lists) * lists->block_bytes;
    *slack = lists->shared_blocks * block;
    for (uint32_t l = 0; l < lists->n_lists; l++) {
        size_t blocks = blocks_for(lists->list[l].n);
        *used += blocks * block;
        if (lists->list[l].own) *slack += lists->list[l].capacity * block;
        *slack -= blocks * block;
    }
}
