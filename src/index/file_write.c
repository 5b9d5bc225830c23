/*
 * file_write.c - an index as bytes, into a file or memory. Every offset follows
 * from the counts, so the layout is known before the first byte is written. The
 * bytes depend on the live rows and the options alone: removed rows, reserved room
 * and scan blocks leave no trace.
 *
 * Writers are kept out meanwhile; searches go on.
 */
#include "index/file_i.h"

#include <assert.h>

typedef struct layout {
    bool v1;        /* vectors stand in a version-1 body at the front */
    uint64_t block; /* offset of the block */
    uint64_t offset[RVX_SECTION_END], bytes[RVX_SECTION_END];
    uint32_t n_sections;
    uint64_t size;
} layout;

typedef struct sink {
    rvb_writer *file; /* or */
    uint8_t *memory;
    uint64_t at;
    rvb_tree digest;
    uint8_t *room; /* for cells of a mapped file; NULL until needed */
} sink;

#define ROOM_BYTES ((size_t)256 << 10) /* a cell has at most 32 KB */

static layout plan(const rv_index *index, uint32_t note_size) {
    const rvx_rows *rows = &index->rows;
    uint64_t n = rows->n_live;
    /* a version-1 reader knows no metric but this one, and float vectors */
    layout p = {.v1 = index->kind == RV_PLUS && index->metric == RV_L2 &&
                      n <= RVX_V1_MAX_ROWS && !rvx_keeps_halves(index)};
    p.block = rvx_align(RVX_HEADER_BYTES + (p.v1 ? n * rvx_v1_record(index->dim) : 0));
    for (uint32_t c = 0; c < RVX_N_COLUMNS; c++)
        if (!(p.v1 && c == RVX_VECTORS)) p.bytes[c + 1] = n * rows->column[c].width;
    const rvx_quantizer *q = index->quantizer;
    if (q) {
        p.bytes[RVX_SECTION_MEAN] = q->dim * sizeof(float);
        p.bytes[RVX_SECTION_CENTROIDS] = (uint64_t)q->n_lists * q->padded * sizeof(float);
    }
    if (q && q->spread)
        p.bytes[RVX_SECTION_REACH] = (q->n_lists + RVX_PROBE_RADII) * sizeof(float);
    p.bytes[RVX_SECTION_NOTE] = note_size;
    for (uint32_t s = 1; s < RVX_SECTION_END; s++) p.n_sections += p.bytes[s] > 0;
    uint64_t at = p.block + RVX_BLOCK_BYTES + p.n_sections * RVX_SECTION_BYTES;
    for (uint32_t s = 1; s < RVX_SECTION_END; s++) {
        if (p.bytes[s] == 0) continue;
        p.offset[s] = rvx_align(at);
        at = p.offset[s] + p.bytes[s];
    }
    p.size = rvx_align(at) + RVX_TRAILER_BYTES;
    return p;
}

static rv_status emit_raw(sink *s, const void *data, size_t size, rv_error *err) {
    if (s->memory)
        memcpy(s->memory + s->at, data, size);
    else
        RVB_TRY(rvb_writer_write(s->file, data, size, err));
    s->at += size;
    return RV_OK;
}

static rv_status emit(sink *s, const void *data, size_t size, rv_error *err) {
    rvb_tree_update(&s->digest, data, size);
    return emit_raw(s, data, size, err);
}

static rv_status pad_to(sink *s, uint64_t offset, rv_error *err) {
    static const uint8_t zeros[RVX_ALIGN];
    return emit(s, zeros, (size_t)(offset - s->at), err);
}

/* The next run of live rows at or after *row: [*first, *row). False at the end. */
static bool next_run(const rvx_rows *rows, size_t *first, size_t *row) {
    while (*row < rows->n && !rvx_row_live(rows, *row)) (*row)++;
    *first = *row;
    if (!rows->dead) *row = rows->n;
    while (*row < rows->n && rvx_row_live(rows, *row)) (*row)++;
    return *first < *row;
}

typedef struct cells {
    const uint8_t *first;
    size_t n, stride;
} cells;

/* Up to `n` cells from row `first` on. Those of a mapped file are copied: to touch one
 * that was cut is fatal. */
static rv_status cells_at(sink *s, const rvx_column *column, size_t first, size_t n,
                          cells *out, rv_error *err) {
    *out = (cells){rvx_cell(column, first), n, column->stride};
    if (!column->mapped) return RV_OK;
    if (!s->room && !(s->room = rvb_alloc(ROOM_BYTES, 1)))
        return rvb_fail_memory(err, ROOM_BYTES);
    size_t at_once = ROOM_BYTES / column->width;
    *out = (cells){s->room, n < at_once ? n : at_once, column->width};
    return rvx_cells_copy(column, first, out->n, s->room, err);
}

/* Cells lie side by side: vectors among version-1 records, the only ones that do not,
 * are written as such records again. */
static rv_status emit_column(sink *s, const rvx_rows *rows, int c, rv_error *err) {
    const rvx_column *column = &rows->column[c];
    cells some;
    assert(column->stride == column->width);
    for (size_t first, row = 0; next_run(rows, &first, &row);) {
        for (; first < row; first += some.n) {
            RVB_TRY(cells_at(s, column, first, row - first, &some, err));
            RVB_TRY(emit(s, some.first, some.n * column->width, err));
        }
    }
    return RV_OK;
}

/* ---- the front ---------------------------------------------------------------- */

static bool ids_fit_32_bits(const rvx_rows *rows) {
    for (size_t row = 0; row < rows->n; row++)
        if (rvx_row_live(rows, row) && rvx_row_id(rows, row) > UINT32_MAX) return false;
    return true;
}

static rv_status emit_record(sink *s, uint32_t id, const uint8_t *vector, uint32_t dim,
                             rv_error *err) {
    uint8_t bytes[4];
    rvb_put_u32(bytes, id);
    RVB_TRY(emit(s, bytes, sizeof bytes, err));
    return emit(s, vector, dim * sizeof(float), err);
}

/* Records carry ids if they fit and are wanted, else row numbers; the ids section has
 * them all. */
static rv_status emit_v1_body(sink *s, const rv_index *index, bool row_numbers,
                              rv_error *err) {
    const rvx_rows *rows = &index->rows;
    uint8_t header[RVX_HEADER_BYTES];
    memcpy(header, RVX_V1_MAGIC, 8);
    rvb_put_u32(header + 8, 1);
    rvb_put_u32(header + 12, index->dim);
    rvb_put_u64(header + 16, index->seed);
    rvb_put_u32(header + 24, index->rerank_factor ? index->rerank_factor : RVX_V1_RERANK);
    rvb_put_u32(header + 28, (uint32_t)rows->n_live);
    RVB_TRY(emit(s, header, sizeof header, err));
    bool real_ids = !row_numbers && ids_fit_32_bits(rows);
    uint32_t number = 0;
    cells some;
    for (size_t first, row = 0; next_run(rows, &first, &row);) {
        for (; first < row; first += some.n) {
            RVB_TRY(
                cells_at(s, &rows->column[RVX_VECTORS], first, row - first, &some, err));
            for (size_t i = 0; i < some.n; i++, number++) {
                uint64_t id = real_ids ? rvx_row_id(rows, first + i) : number;
                RVB_TRY(emit_record(s, (uint32_t)id, some.first + i * some.stride,
                                    index->dim, err));
            }
        }
    }
    return RV_OK;
}

static rv_status emit_native_header(sink *s, const rv_index *index, rv_error *err) {
    uint8_t header[RVX_HEADER_BYTES] = {0};
    memcpy(header, RVX_NATIVE_MAGIC, 8);
    rvb_put_u32(header + 8, 1);
    rvb_put_u32(header + 12, index->dim);
    rvb_put_u64(header + 16, index->seed);
    rvb_put_u64(header + 24, index->rows.n_live);
    return emit(s, header, sizeof header, err);
}

/* ---- the block ----------------------------------------------------------------- */

static rv_status emit_block(sink *s, const rv_index *index, const layout *p,
                            rv_error *err) {
    const rvx_quantizer *q = index->quantizer;
    uint8_t b[RVX_BLOCK_BYTES] = {0};
    uint32_t epsilon;
    memcpy(&epsilon, &index->epsilon, sizeof epsilon);
    uint32_t flags = (index->has_codes ? RVX_FLAG_CODES : 0u) |
                     (index->has_vectors ? RVX_FLAG_VECTORS : 0u) |
                     (p->v1 ? RVX_FLAG_V1_RECORDS : 0u) | (q ? RVX_FLAG_TRAINED : 0u) |
                     (rvx_keeps_halves(index) ? RVX_FLAG_HALVES : 0u);
    memcpy(b, RVX_BLOCK_MAGIC, 8);
    rvb_put_u32(b + 8, RVX_BLOCK_VERSION);
    rvb_put_u32(b + 12, p->n_sections);
    rvb_put_u64(b + 16, p->block);
    rvb_put_u64(b + 24, p->size);
    rvb_put_u32(b + 32, (uint32_t)index->kind);
    rvb_put_u32(b + 36, (uint32_t)index->metric);
    rvb_put_u32(b + 40, index->dim);
    rvb_put_u32(b + 44, flags);
    rvb_put_u64(b + 48, index->rows.n_live);
    rvb_put_u64(b + 56, index->seed);
    rvb_put_u64(b + 64, index->next_id);
    rvb_put_u64(b + 72, q ? q->trained_on : 0);
    rvb_put_u32(b + 80, index->rerank_factor);
    rvb_put_u32(b + 84, epsilon);
    rvb_put_u32(b + 88, index->n_lists_option);
    rvb_put_u32(b + 92, q ? q->n_lists : 0);
    rvb_put_u32(b + 96, index->bits);
    rvb_put_u32(b + 100, index->nprobe);
    RVB_TRY(emit(s, b, sizeof b, err));
    for (uint32_t tag = 1; tag < RVX_SECTION_END; tag++) {
        if (p->bytes[tag] == 0) continue;
        uint8_t entry[RVX_SECTION_BYTES] = {0};
        rvb_put_u32(entry, tag);
        rvb_put_u64(entry + 8, p->offset[tag]);
        rvb_put_u64(entry + 16, p->bytes[tag]);
        RVB_TRY(emit(s, entry, sizeof entry, err));
    }
    return RV_OK;
}

static rv_status emit_section(sink *s, const rv_index *index, uint32_t tag,
                              const layout *p, const rv_save_options *o, rv_error *err) {
    const rvx_quantizer *q = index->quantizer;
    if (tag == RVX_SECTION_MEAN) return emit(s, q->mean, (size_t)p->bytes[tag], err);
    if (tag == RVX_SECTION_CENTROIDS)
        return emit(s, q->centroids, (size_t)p->bytes[tag], err);
    if (tag == RVX_SECTION_NOTE) return emit(s, o->note, o->note_size, err);
    if (tag == RVX_SECTION_REACH) {
        RVB_TRY(emit(s, q->spread, q->n_lists * sizeof *q->spread, err));
        return emit(s, q->reach, sizeof q->reach, err);
    }
    return emit_column(s, &index->rows, (int)tag - 1, err);
}

static rv_status emit_parts(sink *s, const rv_index *index, const layout *p,
                            const rv_save_options *o, rv_error *err) {
    rvb_tree_init(&s->digest, p->size - RVX_TRAILER_BYTES);
    RVB_TRY(p->v1 ? emit_v1_body(s, index, o->row_numbers != 0, err)
                  : emit_native_header(s, index, err));
    RVB_TRY(pad_to(s, p->block, err));
    RVB_TRY(emit_block(s, index, p, err));
    for (uint32_t tag = 1; tag < RVX_SECTION_END; tag++) {
        if (p->bytes[tag] == 0) continue;
        RVB_TRY(pad_to(s, p->offset[tag], err));
        RVB_TRY(emit_section(s, index, tag, p, o, err));
    }
    RVB_TRY(pad_to(s, p->size - RVX_TRAILER_BYTES, err));
    uint8_t trailer[RVX_TRAILER_BYTES];
    rvb_tree_finish(&s->digest, trailer);
    memcpy(trailer + RVB_DIGEST_BYTES, RVX_END_MAGIC, 8);
    return emit_raw(s, trailer, sizeof trailer, err);
}

static rv_status emit_all(sink *s, const rv_index *index, const layout *p,
                          const rv_save_options *o, rv_error *err) {
    rv_status status = emit_parts(s, index, p, o, err);
    rvb_free(s->room);
    s->room = NULL;
    return status == RV_OK ? rvx_rows_check(&index->rows, err) : status;
}

/* ---- public ---------------------------------------------------------------------- */

static rv_status take_save_options(const rv_save_options *given, rv_save_options *o,
                                   rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_save_options, RV_SAVE_OPTIONS_0_1_0_SIZE, RV_SAVE_DEFAULT);
    RVB_TRY(rvb_take_options(&type, given, o, err));
    if (o->note_size > RV_MAX_NOTE || (o->note_size && !o->note))
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RV_MAX_NOTE, o->note_size,
                                "a note has at most %u bytes, got %u", RV_MAX_NOTE,
                                o->note_size);
    return RV_OK;
}

static rv_status save_locked(const rv_index *index, const char *path,
                             const rv_save_options *o, rv_error *err) {
    layout p = plan(index, o->note_size);
    sink s = {0};
    RVB_TRY(rvb_writer_open(path, &s.file, err));
    rv_status status = emit_all(&s, index, &p, o, err);
    if (status == RV_OK) return rvb_writer_commit(s.file, err);
    rvb_writer_abort(s.file);
    return status;
}

rv_status rv_index_save_as(const rv_index *index, const char *path,
                           const rv_save_options *options, rv_error *err) {
    rv_save_options o = RV_SAVE_DEFAULT;
    RVB_TRY(take_save_options(options, &o, err));
    RVB_TRY(rvx_writer_lock(index, err));
    rv_status status = save_locked(index, path, &o, err);
    rvx_writer_unlock(index);
    return status;
}

rv_status rv_index_save(const rv_index *index, const char *path, rv_error *err) {
    return rv_index_save_as(index, path, NULL, err);
}

uint64_t rv_index_serialized_size(const rv_index *index) {
    rvb_rwlock_read_lock(index->state);
    uint64_t size = plan(index, 0).size;
    rvb_rwlock_read_unlock(index->state);
    return size;
}

rv_status rv_index_serialize(const rv_index *index, void *out, uint64_t size,
                             rv_error *err) {
    RVB_TRY(rvx_writer_lock(index, err));
    layout p = plan(index, 0);
    sink s = {.memory = out};
    const rv_save_options plain = RV_SAVE_DEFAULT;
    rv_status status;
    if (p.size == size)
        status = emit_all(&s, index, &p, &plain, err);
    else
        status =
            rvb_fail_numbers(err, RV_ERR_ARGUMENT, p.size, size,
                             "the index takes %llu bytes now, room was made for %llu; "
                             "it changed in between, try again",
                             (unsigned long long)p.size, (unsigned long long)size);
    rvx_writer_unlock(index);
    return status;
}
