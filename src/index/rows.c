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

#define STRIDED_BYTES ((size_t)64 << 10) /* a cell has at most 32 KB */

static rv_status copy_strided(const rvx_column *from, uint64_t at, size_t n, uint8_t *to,
                              rv_error *err) {
    uint8_t *room = rvb_alloc(STRIDED_BYTES, 1);
    if (!room) return rvb_fail_memory(err, STRIDED_BYTES);
    size_t at_once = STRIDED_BYTES / from->stride;
    rv_status status = RV_OK;
    for (size_t part; n && status == RV_OK; n -= part, at += part * from->stride) {
        part = n < at_once ? n : at_once;
        status = rvb_file_read(from->buf->file, at, room,
                               (part - 1) * from->stride + from->width, err);
        for (size_t i = 0; i < part && status == RV_OK; i++, to += from->width)
            memcpy(to, room + i * from->stride, from->width);
    }
    rvb_free(room);
    return status;
}

static rv_status copy_mapped(const rvx_column *from, size_t first, size_t n, uint8_t *to,
                             rv_error *err) {
    const rvb_bytes *file = from->buf->file;
    uint64_t at = (uint64_t)(from->data - file->data) + (uint64_t)first * from->stride;
    if (n == 1 || from->stride == from->width)
        return rvb_file_read(file, at, to, n * from->width, err);
    return copy_strided(from, at, n, to, err);
}

rv_status rvx_cells_copy(const rvx_column *from, size_t first, size_t n, void *to,
                         rv_error *err) {
    uint8_t *out = to;
    if (n == 0 || from->width == 0) return RV_OK;
    if (from->mapped) return copy_mapped(from, first, n, out, err);
    if (from->stride == from->width) {
        memcpy(out, rvx_cell(from, first), n * from->width);
        return RV_OK;
    }
    for (size_t i = 0; i < n; i++, out += from->width)
        memcpy(out, rvx_cell(from, first + i), from->width);
    return RV_OK;
}

rv_status rvx_rows_check(const rvx_rows *rows, rv_error *err) {
    for (int c = 0; c < RVX_N_COLUMNS; c++) /* one file has them all */
        if (rows->column[c].mapped && rows->column[c].buf)
            return rvb_file_check(rows->column[c].buf->file, err);
    return RV_OK;
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
        if (status == RV_OK) status = rvx_cells_copy(old, 0, from->n, grown[c].data, err);
        if (status != RV_OK) {
            rvx_columns_clear(grown);
            return status;
        }
    }
    return RV_OK;
}

void rvx_columns_swap(rvx_column a[RVX_N_COLUMNS], rvx_column b[RVX_N_COLUMNS]) {
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        rvx_column swap = a[c];
        a[c] = b[c];
        b[c] = swap;
    }
}

static rv_status copy_live(const rvx_rows *from, int c, uint8_t *to, rv_error *err) {
    for (size_t row = 0; row < from->n;) {
        size_t first = row;
        while (row < from->n && rvx_row_live(from, row)) row++;
        RVB_TRY(rvx_cells_copy(&from->column[c], first, row - first, to, err));
        to += (row - first) * from->column[c].width;
        while (row < from->n && !rvx_row_live(from, row)) row++;
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
        if (status == RV_OK) status = copy_live(from, c, out->column[c].data, err);
        if (status != RV_OK) {
            rvx_columns_clear(out->column);
            return status;
        }
    }
    return RV_OK;
}

#define MIN_AHEAD 2u

/* RVX_ROW_FETCH is a quarter of a small first-level cache, which also has to hold what
 * else a search reads. */
size_t rvx_rows_ahead(const rvx_rows *rows) {
    const rvx_column *column = rows->column;
    size_t width =
        column[RVX_VECTORS].width ? column[RVX_VECTORS].width : column[RVX_CODES].width;
    size_t n = RVX_ROW_FETCH / width;
    return n < MIN_AHEAD ? MIN_AHEAD : n < RVX_AHEAD ? n : RVX_AHEAD;
}
