/*
 * file_read.c - an index out of bytes, in place. Row columns point into the bytes, but
 * for ids and numbers of lists where others may write to them. Codes are made anew for
 * version-1 files only, which hold vectors only; every load makes the id table, where ids
 * do not ascend, and what follows from mean and centroids.
 *
 * The bytes may be hostile, and may change while they are read and later. All that is
 * computed with is copied first: headers, tables, ids, numbers of lists. Each number is
 * checked against the size of the file before it is multiplied, used as an offset, or
 * allocated for; values that are later used as array positions (lists) are checked one by
 * one. What stays in place (codes, factors, vectors) can only make answers wrong, and the
 * digest is there to tell. A mapping is not touched here, so that a file that is cut
 * meanwhile is an error, but for the vectors of a version-1 file while it is trained on.
 */
#include "index/file_i.h"

#include <float.h>
#include <math.h>

#define AUTO_VERIFY_BYTES 1000000000u

typedef struct reader {
    const rvb_bytes *file;
    uint64_t size;
    bool shared; /* others may write to the bytes */
    bool v1;     /* starts with a version-1 body */
    rvx_buf *buf;
    uint64_t block_at;
    /* copies: */
    uint8_t head[RVX_HEADER_BYTES], tail[RVX_TRAILER_BYTES];
    uint8_t block[RVX_BLOCK_BYTES + RVX_SECTION_END * RVX_SECTION_BYTES];
    uint64_t n;
    uint32_t dim, flags, n_lists;
    uint64_t offset[RVX_SECTION_END], bytes[RVX_SECTION_END];
} reader;

static rv_status bad(rv_error *err, const char *what) {
    return rvb_fail(
        err, RV_ERR_FORMAT,
        "not a usable index file: %s; it is damaged or was made by something else", what);
}

/* Bytes that are known to be there. */
static rv_status take(const reader *r, uint64_t at, void *out, size_t size,
                      rv_error *err) {
    return size ? rvb_file_read(r->file, at, out, size, err) : RV_OK;
}

static const uint8_t *in_place(const reader *r, uint64_t at) {
    return r->file->data + at;
}

/* ---- version 1 --------------------------------------------------------------------- */

static rv_status check_v1_header(const reader *r, rv_error *err) {
    uint32_t version = rvb_get_u32(r->head + 8), dim = rvb_get_u32(r->head + 12);
    uint32_t rerank = rvb_get_u32(r->head + 24), n = rvb_get_u32(r->head + 28);
    if (version > 1)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, 1, version,
                                "file version %u is newer than this library reads (1)",
                                version);
    if (dim == 0 || dim > RV_MAX_DIM)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RV_MAX_DIM, dim,
                                "file says dim %u, allowed are 1..%u", dim, RV_MAX_DIM);
    if (rerank > RVX_MAX_RERANK_FACTOR)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RVX_MAX_RERANK_FACTOR, rerank,
                                "file says rerank_factor %u, at most %u is allowed",
                                rerank, RVX_MAX_RERANK_FACTOR);
    if (n > RVX_V1_MAX_ROWS)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RVX_V1_MAX_ROWS, n,
                                "file says %u rows, version 1 allows %u", n,
                                RVX_V1_MAX_ROWS);
    uint64_t need = RVX_HEADER_BYTES + (uint64_t)n * rvx_v1_record(dim);
    if (r->size < need)
        return rvb_fail_numbers(
            err, RV_ERR_FORMAT, need, r->size,
            "file is cut off: %u rows of dim %u take %llu bytes, it has %llu", n, dim,
            (unsigned long long)need, (unsigned long long)r->size);
    return RV_OK;
}

static void use_v1_vectors(const reader *r, rvx_rows *rows) {
    if (r->n == 0) return;
    rvx_column *v = &rows->column[RVX_VECTORS];
    v->buf = rvx_buf_ref(r->buf);
    v->data = (uint8_t *)(uintptr_t)in_place(r, RVX_HEADER_BYTES + sizeof(uint32_t));
    v->stride = rvx_v1_record(r->dim);
    v->capacity = (size_t)r->n;
    v->mapped = r->file->mapped;
}

/* Order, duplicates, the table, and the next id to hand out. */
static rv_status finish_ids(rv_index *index, rv_error *err) {
    rvx_rows *rows = &index->rows;
    uint64_t largest = 0;
    rows->ids_ascending = true;
    for (size_t row = 0; row < rows->n; row++) {
        uint64_t id = rvx_row_id(rows, row);
        if (id == RV_NO_ID) return bad(err, "an id is 2^64-1");
        if (row && id <= rvx_row_id(rows, row - 1)) rows->ids_ascending = false;
        if (id > largest) largest = id;
    }
    RVB_TRY(rvx_idmap_build(rows, 0, !rows->ids_ascending, &index->ids, err));
    if (rows->n && index->next_id <= largest) index->next_id = largest + 1;
    return RV_OK;
}

static rv_status own_column(rvx_column *column, size_t n, rv_error *err) {
    column->buf = rvx_buf_alloc(n * column->width);
    if (!column->buf) return rvb_fail_memory(err, (uint64_t)n * column->width);
    column->data = column->buf->memory;
    column->capacity = n;
    return RV_OK;
}

static rv_status read_v1(reader *r, rv_index **out, rv_error *err) {
    rv_build_options o = RV_BUILD_DEFAULT;
    o.dim = r->dim;
    o.seed = rvb_get_u64(r->head + 16);
    o.rerank_factor = rvb_get_u32(r->head + 24);
    if (o.rerank_factor == 0) o.rerank_factor = 1;
    RVB_TRY(rvx_index_create(&o, out, err));
    rv_index *index = *out;
    rvx_rows *rows = &index->rows;
    rvx_column *ids = &rows->column[RVX_IDS];
    size_t n = (size_t)r->n;
    if (n == 0) return RV_OK;
    RVB_TRY(own_column(ids, n, err));
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[4];
        RVB_TRY(take(r, RVX_HEADER_BYTES + i * rvx_v1_record(r->dim), bytes, 4, err));
        uint64_t id = rvb_get_u32(bytes);
        memcpy(rvx_cell(ids, i), &id, sizeof id);
    }
    use_v1_vectors(r, rows);
    rows->n = rows->n_live = n;
    RVB_TRY(finish_ids(index, err));
    return rvx_retrain(index, NULL, err);
}

/* ---- the block ------------------------------------------------------------------ */

static rv_status check_block(reader *r, rv_error *err) {
    const uint8_t *b = r->block;
    if (rvb_get_u32(b + 8) != RVX_BLOCK_VERSION)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RVX_BLOCK_VERSION, rvb_get_u32(b + 8),
                                "file has block version %u, this library reads %u",
                                rvb_get_u32(b + 8), RVX_BLOCK_VERSION);
    if (rvb_get_u64(b + 24) != r->size)
        return rvb_fail_numbers(
            err, RV_ERR_FORMAT, rvb_get_u64(b + 24), r->size,
            "file is cut off or has grown: it should have %llu bytes, it "
            "has %llu",
            (unsigned long long)rvb_get_u64(b + 24), (unsigned long long)r->size);
    if (memcmp(r->tail + RVB_DIGEST_BYTES, RVX_END_MAGIC, 8) != 0)
        return bad(err, "no end mark");
    if (rvb_get_u64(b + 16) != r->block_at) return bad(err, "block offset");
    if (rvb_get_u32(b + 40) != r->dim || rvb_get_u64(b + 48) != r->n ||
        rvb_get_u64(b + 56) != rvb_get_u64(r->head + 16))
        return bad(err, "header and block disagree");
    if (r->n > RV_MAX_ROWS) return bad(err, "row count");
    r->flags = rvb_get_u32(b + 44);
    r->n_lists = rvb_get_u32(b + 92);
    bool trained = r->flags & RVX_FLAG_TRAINED;
    if (r->n_lists > RV_MAX_LISTS || (r->n_lists > 0) != trained)
        return bad(err, "list count");
    if ((r->flags & RVX_FLAG_CODES) && r->n > 0 && !trained)
        return bad(err, "no quantizer");
    return RV_OK;
}

static rv_status read_sections(reader *r, rv_error *err) {
    uint64_t start = r->block_at + RVX_BLOCK_BYTES;
    uint64_t end = r->size - RVX_TRAILER_BYTES;
    uint32_t n = rvb_get_u32(r->block + 12);
    if (n >= RVX_SECTION_END || end < start || (end - start) / RVX_SECTION_BYTES < n)
        return bad(err, "section count");
    const uint8_t *entry = r->block + RVX_BLOCK_BYTES;
    uint64_t at = start + n * RVX_SECTION_BYTES;
    for (uint32_t i = 0, last = 0; i < n; i++, entry += RVX_SECTION_BYTES) {
        uint32_t tag = rvb_get_u32(entry);
        uint64_t offset = rvb_get_u64(entry + 8), bytes = rvb_get_u64(entry + 16);
        if (tag <= last || tag >= RVX_SECTION_END) return bad(err, "section tag");
        if (offset != rvx_align(at) || offset > end || bytes == 0 || bytes > end - offset)
            return bad(err, "section bounds");
        r->offset[tag] = offset;
        r->bytes[tag] = bytes;
        at = offset + bytes;
        last = tag;
    }
    return at <= end && rvx_align(at) == end ? RV_OK : bad(err, "bytes between sections");
}

static rv_status check_bytes(const reader *r, uint32_t tag, uint64_t rows, uint64_t width,
                             rv_error *err) {
    /* rows < 2^32 and width <= 2^21, so the product is exact */
    return r->bytes[tag] == rows * width ? RV_OK : bad(err, "section size");
}

static rv_status use_columns(const reader *r, rv_index *index, rv_error *err) {
    rvx_rows *rows = &index->rows;
    for (uint32_t c = 0; c < RVX_N_COLUMNS; c++) {
        rvx_column *column = &rows->column[c];
        if (c == RVX_VECTORS && r->v1) {
            RVB_TRY(check_bytes(r, c + 1, 0, 0, err));
            use_v1_vectors(r, rows);
            continue;
        }
        RVB_TRY(check_bytes(r, c + 1, r->n, column->width, err));
        if (r->bytes[c + 1] == 0) continue;
        if (r->shared && (c == RVX_IDS || c == RVX_LISTS)) {
            RVB_TRY(own_column(column, (size_t)r->n, err));
            RVB_TRY(
                take(r, r->offset[c + 1], column->data, (size_t)r->bytes[c + 1], err));
            continue;
        }
        column->buf = rvx_buf_ref(r->buf);
        column->data = (uint8_t *)(uintptr_t)in_place(r, r->offset[c + 1]);
        column->capacity = (size_t)r->n;
        column->mapped = r->file->mapped;
    }
    rows->n = rows->n_live = (size_t)r->n;
    for (size_t row = 0; index->has_codes && row < rows->n; row++)
        if (rvb_get_u32(rvx_cell(&rows->column[RVX_LISTS], row)) >= r->n_lists)
            return bad(err, "a row's list");
    return finish_ids(index, err);
}

/* Neither a mean of acceptable rows nor the difference of two such is any longer;
 * beyond, arithmetic on them could leave float32. */
static bool within_reach(const float *v, size_t n, size_t dim) {
    for (size_t i = 0; i < n; i++, v += dim) {
        double norm2 = 0;
        for (size_t j = 0; j < dim; j++) norm2 += (double)v[j] * (double)v[j];
        if (!(norm2 <= 16.0 * (double)RVX_MAX_NORM2)) return false;
    }
    return true;
}

static bool finite_from_0(const float *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(v[i] >= 0 && v[i] <= FLT_MAX)) return false;
    return true;
}

/* Files may lack it, as those of inner products do: lists then go by distance alone. */
static rv_status use_reach(const reader *r, rvx_quantizer *q, rv_error *err) {
    uint64_t from = r->offset[RVX_SECTION_REACH];
    size_t bytes = q->n_lists * sizeof *q->spread;
    if (r->bytes[RVX_SECTION_REACH] == 0) return RV_OK;
    RVB_TRY(check_bytes(r, RVX_SECTION_REACH, q->n_lists + RVX_PROBE_RADII, sizeof(float),
                        err));
    if (q->metric == RV_IP) return bad(err, "reach");
    if (!(q->spread = rvb_alloc(bytes, 1))) return rvb_fail_memory(err, bytes);
    RVB_TRY(take(r, from, q->spread, bytes, err));
    RVB_TRY(take(r, from + bytes, q->reach, sizeof q->reach, err));
    bool ascending = true;
    for (size_t i = 1; i < RVX_PROBE_RADII; i++)
        ascending = ascending && q->reach[i - 1] <= q->reach[i];
    if (!finite_from_0(q->spread, q->n_lists) ||
        !finite_from_0(q->reach, RVX_PROBE_RADII) || !ascending)
        return bad(err, "reach");
    return RV_OK;
}

static rv_status use_quantizer(const reader *r, rv_index *index, rv_error *err) {
    uint64_t padded = rvx_padded_dim(r->dim);
    RVB_TRY(
        check_bytes(r, RVX_SECTION_MEAN, r->n_lists ? r->dim : 0, sizeof(float), err));
    RVB_TRY(
        check_bytes(r, RVX_SECTION_CENTROIDS, r->n_lists * padded, sizeof(float), err));
    if (r->n_lists == 0) return check_bytes(r, RVX_SECTION_REACH, 0, 0, err);
    if (!index->has_codes) return bad(err, "quantizer without codes");
    RVB_TRY(rvx_quantizer_create(r->dim, index->metric, index->seed, r->n_lists,
                                 index->bits, &index->quantizer, err));
    rvx_quantizer *q = index->quantizer;
    q->trained_on = rvb_get_u64(r->block + 72);
    RVB_TRY(take(r, r->offset[RVX_SECTION_MEAN], q->mean, r->dim * sizeof(float), err));
    RVB_TRY(take(r, r->offset[RVX_SECTION_CENTROIDS], q->centroids,
                 (size_t)r->bytes[RVX_SECTION_CENTROIDS], err));
    if (!within_reach(q->mean, 1, r->dim) ||
        !within_reach(q->centroids, r->n_lists, padded))
        return bad(err, "mean or centroids");
    RVB_TRY(use_reach(r, q, err));
    return rvx_quantizer_finish(q, err);
}

static rv_status use_note(const reader *r, rv_index *index, rv_error *err) {
    uint64_t size = r->bytes[RVX_SECTION_NOTE];
    if (size > RV_MAX_NOTE) return bad(err, "note");
    if (size == 0) return RV_OK;
    index->note = rvb_alloc((size_t)size, 1);
    if (!index->note) return rvb_fail_memory(err, size);
    index->note_size = (uint32_t)size;
    return take(r, r->offset[RVX_SECTION_NOTE], index->note, (size_t)size, err);
}

/* Vectors are in version-1 records if, and only if, the file has some. */
static bool flags_fit(const reader *r, const rv_index *index) {
    bool records = r->flags & RVX_FLAG_V1_RECORDS;
    return r->flags < RVX_FLAG_END && index->has_codes == !!(r->flags & RVX_FLAG_CODES) &&
           index->has_vectors == !!(r->flags & RVX_FLAG_VECTORS) && records == r->v1 &&
           !(records && (index->kind != RV_PLUS || rvx_keeps_halves(index)));
}

static rv_status read_block(reader *r, rv_index **out, rv_error *err) {
    const uint8_t *b = r->block;
    RVB_TRY(check_block(r, err));
    RVB_TRY(read_sections(r, err));
    rv_build_options o = RV_BUILD_DEFAULT;
    uint32_t epsilon = rvb_get_u32(b + 84);
    memcpy(&o.epsilon, &epsilon, sizeof o.epsilon);
    uint32_t kind = rvb_get_u32(b + 32), metric = rvb_get_u32(b + 36);
    if (kind > RV_ASYM || metric > RV_COSINE) return bad(err, "kind or metric");
    o.kind = (rv_kind)kind;
    o.metric = (rv_metric)metric;
    o.dim = r->dim;
    o.seed = rvb_get_u64(b + 56);
    o.rerank_factor = rvb_get_u32(b + 80);
    o.n_lists = rvb_get_u32(b + 88);
    uint32_t bits = rvb_get_u32(b + 96);
    o.bits = kind == RV_FLAT ? 1 : bits;
    o.originals_bits = r->flags & RVX_FLAG_HALVES ? 16 : 32;
    rv_status created = rvx_index_create(&o, out, err);
    if (created == RV_ERR_ARGUMENT) return bad(err, "build options");
    RVB_TRY(created);
    rv_index *index = *out;
    if (index->bits != bits || !flags_fit(r, index)) return bad(err, "flags");
    index->next_id = rvb_get_u64(b + 64);
    index->nprobe = rvb_get_u32(b + 100);
    RVB_TRY(use_quantizer(r, index, err));
    RVB_TRY(use_note(r, index, err));
    return use_columns(r, index, err);
}

static rv_status check_digest(const reader *r, rv_verify verify, rv_error *err) {
    if (verify == RV_VERIFY_NEVER) return RV_OK;
    if (verify == RV_VERIFY_AUTO && r->size >= AUTO_VERIFY_BYTES) return RV_OK;
    uint8_t digest[RVB_DIGEST_BYTES];
    rvb_pool *pool = rvb_pool_acquire();
    rv_status status = rvb_file_digest(
        pool, r->file, (size_t)(r->size - RVX_TRAILER_BYTES), digest, err);
    rvb_pool_release(pool);
    RVB_TRY(status);
    if (memcmp(digest, r->tail, sizeof digest) == 0) return RV_OK;
    return rvb_fail(
        err, RV_ERR_DIGEST,
        "the file's digest does not match its bytes: it has been altered or damaged "
        "since it was saved; restore it from a copy");
}

/* ---- choosing ------------------------------------------------------------------- */

static bool ends_like_ours(const reader *r) {
    return r->size >= RVX_HEADER_BYTES + RVX_BLOCK_BYTES + RVX_TRAILER_BYTES &&
           memcmp(r->tail + RVB_DIGEST_BYTES, RVX_END_MAGIC, 8) == 0;
}

/* Whether what follows the version-1 body is how our block begins: padding, magic. */
static rv_status goes_on_like_ours(const reader *r, bool *so, rv_error *err) {
    uint64_t at = RVX_HEADER_BYTES + r->n * rvx_v1_record(r->dim);
    uint8_t bytes[RVX_ALIGN + 8];
    size_t padding = (size_t)(r->block_at - at), n = padding + 8;
    *so = false;
    if (r->size == at) return RV_OK;
    if (r->size - at < n) n = (size_t)(r->size - at);
    RVB_TRY(take(r, at, bytes, n, err));
    size_t zeros = 0;
    while (zeros < padding && zeros < n && bytes[zeros] == 0) zeros++;
    *so = (zeros == padding || zeros == n) &&
          memcmp(bytes + zeros, RVX_BLOCK_MAGIC, n - zeros) == 0;
    return RV_OK;
}

/* Copies of the first bytes and the last, and dim, n and the place of the block. */
static rv_status read_ends(reader *r, rv_error *err) {
    if (r->size < RVX_HEADER_BYTES)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RVX_HEADER_BYTES, r->size,
                                "an index file has at least %u bytes, this has %llu",
                                RVX_HEADER_BYTES, (unsigned long long)r->size);
    RVB_TRY(take(r, 0, r->head, sizeof r->head, err));
    if (r->size >= sizeof r->tail)
        RVB_TRY(take(r, r->size - sizeof r->tail, r->tail, sizeof r->tail, err));
    r->v1 = memcmp(r->head, RVX_V1_MAGIC, 8) == 0;
    if (!r->v1 && memcmp(r->head, RVX_NATIVE_MAGIC, 8) != 0)
        return bad(err, "it does not start like one");
    r->dim = rvb_get_u32(r->head + 12);
    r->block_at = rvx_align(RVX_HEADER_BYTES);
    if (r->v1) {
        RVB_TRY(check_v1_header(r, err));
        r->n = rvb_get_u32(r->head + 28);
        r->block_at = rvx_align(RVX_HEADER_BYTES + r->n * rvx_v1_record(r->dim));
        return RV_OK;
    }
    r->n = rvb_get_u64(r->head + 24);
    if (rvb_get_u32(r->head + 8) != 1) return bad(err, "header version");
    return r->dim == 0 || r->dim > RV_MAX_DIM ? bad(err, "dim") : RV_OK;
}

static rv_status read_index(reader *r, rv_verify verify, rv_index **out, rv_error *err) {
    RVB_TRY(read_ends(r, err));
    uint64_t left = r->size > r->block_at ? r->size - r->block_at : 0;
    bool has_block = left >= RVX_BLOCK_BYTES + RVX_TRAILER_BYTES;
    if (has_block) {
        size_t bytes = left < sizeof r->block ? (size_t)left : sizeof r->block;
        RVB_TRY(take(r, r->block_at, r->block, bytes, err));
        has_block = memcmp(r->block, RVX_BLOCK_MAGIC, 8) == 0;
    }
    if (has_block) {
        RVB_TRY(read_block(r, out, err));
        return check_digest(r, verify, err);
    }
    bool like_ours = !r->v1 || ends_like_ours(r);
    if (!like_ours) RVB_TRY(goes_on_like_ours(r, &like_ours, err));
    return like_ours ? bad(err, "its block is missing or cut off") : read_v1(r, out, err);
}

/* Takes over r->buf. */
static rv_status open_bytes(reader *r, rv_verify verify, rv_index **out, rv_error *err) {
    rv_index *index = NULL;
    rv_status status = read_index(r, verify, &index, err);
    if (status == RV_OK) status = rvb_file_check(r->file, err);
    rvx_buf_unref(r->buf);
    if (status != RV_OK) {
        rv_index_free(index);
        return status;
    }
    *out = index;
    return RV_OK;
}

static void close_file(void *ctx) {
    rvb_bytes *file = ctx;
    rvb_file_close(file);
    rvb_free(file);
}

rv_status rv_index_load(const char *path, int use_mmap, rv_verify verify, rv_index **out,
                        rv_error *err) {
    *out = NULL;
    rvb_bytes *file = rvb_alloc_zero(1, sizeof *file);
    if (!file) return rvb_fail_memory(err, sizeof *file);
    rv_status status = rvb_file_open(path, use_mmap != 0, file, err);
    if (status != RV_OK) {
        rvb_free(file);
        return status;
    }
    reader r = {.file = file, .size = file->size, .shared = file->mapped};
    r.buf = rvx_buf_borrow(close_file, file);
    if (!r.buf) {
        close_file(file);
        return rvb_fail_memory(err, sizeof *r.buf);
    }
    r.buf->file = file;
    status = open_bytes(&r, verify, out, err);
    if (status != RV_OK && err && err->path[0] == 0) rvb_error_path(err, path);
    return status;
}

rv_status rv_index_from_memory(const void *data, uint64_t size, rv_verify verify,
                               void (*release)(void *ctx), void *ctx, rv_index **out,
                               rv_error *err) {
    *out = NULL;
    bool aligned = (uintptr_t)data % sizeof(uint64_t) == 0;
    rvb_bytes bytes = {.data = data, .size = (size_t)size};
    reader r = {.file = &bytes, .size = size, .shared = aligned};
    r.buf = aligned ? rvx_buf_borrow(release, ctx)
                    : rvx_buf_alloc(size <= SIZE_MAX ? (size_t)size : SIZE_MAX);
    if (r.buf && !aligned) {
        memcpy(r.buf->memory, data, (size_t)size);
        bytes.data = r.buf->memory;
    }
    if (release && (!r.buf || !aligned)) release(ctx);
    if (!r.buf) return rvb_fail_memory(err, size);
    return open_bytes(&r, verify, out, err);
}
