/* ruvec1.c - reads and writes ruvec1 files, some rows at a time. */
#include "lake/ruvec1.h"

#include <inttypes.h>

#include "ruvector/lake.h"

#define TILE_BYTES ((size_t)1 << 20)

static const uint8_t magic[8] = {'r', 'u', 'v', 'e', 'c', '1', 0, 0};

static size_t record_bytes(uint32_t dim) { return 8 + 4 * (size_t)dim; }

static size_t rows_per_tile(uint32_t dim) {
    size_t rows = TILE_BYTES / record_bytes(dim);
    return rows ? rows : 1;
}

/* ---- reading -------------------------------------------------------------------- */

rv_status rvl_ruvec1_header(const rvb_input *in, const char *call, rvl_ruvec1 *out,
                            rv_error *err) {
    uint8_t bytes[RVL_RUVEC1_HEADER];
    size_t got;
    RVB_TRY(rvb_input_read(in, bytes, sizeof bytes, &got, err));
    if (got < sizeof bytes)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, sizeof bytes, got,
                                "%s: header: %zu bytes where it takes %zu, at %s", call,
                                got, sizeof bytes, in->path);
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return rvb_fail(err, RV_ERR_FORMAT, "%s: bad magic at %s", call, in->path);
    *out = (rvl_ruvec1){rvb_get_u64(bytes + 8), rvb_get_u32(bytes + 16),
                        rvb_get_u32(bytes + 20)};
    if (out->dim == 0 || out->dim > RV_MAX_DIM)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RV_MAX_DIM, out->dim,
                                "%s: dim=%" PRIu32 " outside (0, %u]", call, out->dim,
                                RV_MAX_DIM);
    return RV_OK;
}

rv_status rvl_ruvec1_check(const rvl_ruvec1 *header, uint64_t file_size, const char *call,
                           rv_error *err) {
    uint64_t n = header->count;
    if (n > RV_PULL_MAX_ROWS)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_ROWS, n,
                                "%s: count=%" PRIu64 " exceeds %" PRIu64, call, n,
                                RV_PULL_MAX_ROWS);
    uint64_t payload = n * header->dim * sizeof(float);
    if (payload > RV_PULL_MAX_BYTES)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_BYTES, payload,
                                "%s: %" PRIu64 " bytes of vectors exceed %" PRIu64, call,
                                payload, RV_PULL_MAX_BYTES);
    if (header->reserved != 0)
        return rvb_fail(err, RV_ERR_FORMAT,
                        "%s: the reserved field is %" PRIu32 ", must be 0", call,
                        header->reserved);
    uint64_t needed = RVL_RUVEC1_HEADER + n * record_bytes(header->dim);
    if (file_size < needed)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, needed, file_size,
                                "%s: %" PRIu64 " rows of dim %" PRIu32 " take %" PRIu64
                                " bytes, the file has %" PRIu64,
                                call, n, header->dim, needed, file_size);
    return RV_OK;
}

static void split(const uint8_t *records, size_t n, uint32_t dim, uint64_t *ids,
                  float *vectors) {
    for (size_t i = 0; i < n; i++) {
        ids[i] = rvb_get_u64(records);
        records += 8;
        for (uint32_t j = 0; j < dim; j++, records += 4) {
            uint32_t bits = rvb_get_u32(records);
            memcpy(vectors++, &bits, sizeof bits);
        }
    }
}

rv_status rvl_ruvec1_read(const rvb_input *in, const rvl_ruvec1 *header, uint64_t *ids,
                          float *vectors, rv_error *err) {
    size_t n = (size_t)header->count, record = record_bytes(header->dim);
    size_t tile = rows_per_tile(header->dim), got;
    if (tile > n) tile = n;
    uint8_t *records = rvb_alloc(tile, record);
    if (!records) return rvb_fail_memory(err, tile * record);
    rv_status status = RV_OK;
    for (size_t row = 0; status == RV_OK && row < n; row += tile) {
        size_t rows = n - row < tile ? n - row : tile;
        status = rvb_input_read(in, records, rows * record, &got, err);
        if (status == RV_OK && got < rows * record)
            status = rvb_fail(err, RV_ERR_FORMAT, "%s: %s was cut while it was read",
                              in->what, in->path);
        if (status == RV_OK)
            split(records, rows, header->dim, ids + row, vectors + row * header->dim);
    }
    rvb_free(records);
    return status;
}

/* ---- writing -------------------------------------------------------------------- */

static void join(const float *vectors, uint32_t dim, const uint64_t *ids, size_t n,
                 uint8_t *records) {
    for (size_t i = 0; i < n; i++) {
        rvb_put_u64(records, ids[i]);
        records += 8;
        for (uint32_t j = 0; j < dim; j++, records += 4) {
            uint32_t bits;
            memcpy(&bits, vectors++, sizeof bits);
            rvb_put_u32(records, bits);
        }
    }
}

static rv_status write_records(rvb_writer *w, const float *vectors, uint32_t dim,
                               const uint64_t *ids, size_t n, rv_error *err) {
    size_t tile = rows_per_tile(dim), record = record_bytes(dim);
    if (tile > n) tile = n;
    uint8_t *records = rvb_alloc(tile, record);
    if (!records) return rvb_fail_memory(err, tile * record);
    rv_status status = RV_OK;
    for (size_t row = 0; status == RV_OK && row < n; row += tile) {
        size_t rows = n - row < tile ? n - row : tile;
        join(vectors + row * dim, dim, ids + row, rows, records);
        status = rvb_writer_write(w, records, rows * record, err);
    }
    rvb_free(records);
    return status;
}

rv_status rvl_ruvec1_write(const char *path, const float *vectors, uint32_t dim,
                           const uint64_t *ids, uint64_t n, rv_error *err) {
    uint8_t header[RVL_RUVEC1_HEADER] = {0};
    rvb_writer *w;
    memcpy(header, magic, sizeof magic);
    rvb_put_u64(header + 8, n);
    rvb_put_u32(header + 16, dim);
    RVB_TRY(rvb_writer_open_at(path, &w, err));
    rv_status status = rvb_writer_write(w, header, sizeof header, err);
    if (status == RV_OK) status = write_records(w, vectors, dim, ids, (size_t)n, err);
    if (status == RV_OK) return rvb_writer_commit(w, err);
    rvb_writer_abort(w);
    return status;
}
