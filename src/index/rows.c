/*
 * rows.c - the row store: one column per attribute, rows in insertion order.
 * A column lies in shared, reference-counted memory, so that views and older
 * readers keep what they see while the index moves on. Cells of rows below
 * rows.n never change; removal sets a bit beside them.
 */
#include "index/index_i.h"

rvx_buf *rvx_buf_alloc(size_t bytes) {
    rvx_buf *buf = rvb_alloc_zero(1, sizeof *buf);
    void *memory = buf ? rvb_alloc(bytes, 1) : NULL;
    if (!memory) {
        rvb_free(buf);
        return NULL;
    }
    buf->memory = memory;
    atomic_init(&buf->refs, 1);
    return buf;
}

rvx_buf *rvx_buf_borrow(void (*release)(void *ctx), void *ctx) {
    rvx_buf *buf = rvb_alloc_zero(1, sizeof *buf);
    if (!buf) return NULL;
    buf->release = release;
    buf->ctx = ctx;
    atomic_init(&buf->refs, 1);
    return buf;
}

rvx_buf *rvx_buf_ref(rvx_buf *buf) {
    atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
    return buf;
}

void rvx_buf_unref(rvx_buf *buf) {
    if (!buf || atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) != 1)
        return;
    rvb_free(buf->memory);
    if (buf->release) buf->release(buf->ctx);
    rvb_free(buf);
}

void rvx_rows_init(rvx_rows *rows, uint32_t dim, unsigned bits, unsigned vector_bits) {
    memset(rows, 0, sizeof *rows);
    size_t width[RVX_N_COLUMNS] = {
        [RVX_IDS] = sizeof(uint64_t),
        [RVX_CODES] = (size_t)bits * rvx_padded_dim(dim) / 8,
        [RVX_FACTORS] = bits > 1 ? sizeof(rvx_fine_factors)
                        : bits   ? sizeof(rvx_factors)
                                 : 0,
        [RVX_NORMS] = sizeof(float),
        [RVX_LISTS] = bits ? sizeof(uint32_t) : 0,
        [RVX_VECTORS] = (size_t)dim * vector_bits / 8,
    };
    for (int c = 0; c < RVX_N_COLUMNS; c++)
        rows->column[c].width = rows->column[c].stride = width[c];
    rows->ids_ascending = true;
}

void rvx_columns_clear(rvx_column columns[RVX_N_COLUMNS]) {
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        rvx_buf_unref(columns[c].buf);
        columns[c].buf = NULL;
        columns[c].data = NULL;
        columns[c].capacity = 0;
    }
}

void rvx_rows_clear(rvx_rows *rows) {
    rvx_columns_clear(rows->column);
    rvb_free(rows->dead);
    rows->dead = NULL;
    rows->n = rows->n_live = rows->dead_words = 0;
}

static void copy_cells(const rvx_column *from, size_t first, size_t n, uint8_t *to) {
    if (from->stride == from->width) {
        memcpy(to, rvx_cell(from, first), n * from->width);
        return;
    }
    for (size_t i = 0; i < n; i++, to += from->width)
        memcpy(to, rvx_cell(from, first + i), from->width);
}

/* An empty column like `from` with room for `rows`. */
static rv_status column_alloc(const rvx_column *from, size_t rows, rvx_column *out,
                              rv_error *err) {
    *out = (rvx_column){.width = from->width, .stride = from->width};
    size_t bytes;
    if (from->width == 0) return RV_OK;
    if (rvb_mul(rows, from->width, &bytes)) out->buf = rvx_buf_alloc(bytes);
    if (!out->buf) return rvb_fail_memory(err, (uint64_t)rows * from->width);
    out->data = out->buf->memory;
    out->capacity = rows;
    return RV_OK;
}

rv_status rvx_columns_grow(const rvx_rows *from, size_t rows, bool exact,
                           rvx_column grown[RVX_N_COLUMNS], rv_error *err) {
    memset(grown, 0, RVX_N_COLUMNS * sizeof *grown);
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        const rvx_column *old = &from->column[c];
        if (old->buf && old->capacity >= rows) {
            grown[c] = *old;
            rvx_buf_ref(old->buf);
            continue;
        }
        size_t target = rows;
        if (!exact && from->n / 2 < SIZE_MAX - from->n && from->n + from->n / 2 > rows)
            target = from->n + from->n / 2;
        rv_status status = column_alloc(old, target, &grown[c], err);
        if (status != RV_OK) {
            rvx_columns_clear(grown);
            return status;
        }
        if (from->n && old->width) copy_cells(old, 0, from->n, grown[c].data);
    }
    return RV_OK;
}

rv_status rvx_rows_compact(const rvx_rows *from, rvx_rows *out, rv_error *err) {
    *out = *from;
    out->dead = NULL;
    out->dead_words = 0;
    out->n = from->n_live;
    out->renumbered = from->renumbered + 1;
    memset(out->column, 0, sizeof out->column);
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        rv_status status = column_alloc(&from->column[c], out->n, &out->column[c], err);
        if (status != RV_OK) {
            rvx_columns_clear(out->column);
            return status;
        }
        if (from->column[c].width == 0) continue;
        uint8_t *to = out->column[c].data;
        for (size_t row = 0; row < from->n;) {
            size_t first = row;
            while (row < from->n && rvx_row_live(from, row)) row++;
            copy_cells(&from->column[c], first, row - first, to);
            to += (row - first) * out->column[c].width;
            while (row < from->n && !rvx_row_live(from, row)) row++;
        }
    }
    return RV_OK;
}
