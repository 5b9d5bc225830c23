/*
 * filter.c - which rows a search may return, as one bit per row. Made once per call, and
 * per query where each has a mask of its own, from ids or from a mask over the live rows.
 * Scans do not look at it: they compare all rows of the lists they see, and a row is
 * asked for its bit when its bound has passed. Where few rows are allowed no scan is
 * made, and only those are compared (scan.c, flat.c).
 */
#include "index/index_i.h"

#if defined(__SSE2__) || defined(_M_X64) /* every x86-64 */
#include <emmintrin.h>
#define HAVE_SSE2
#endif

void rvx_filter_clear(rvx_filter *f) {
    rvb_free(f->bits);
    *f = (rvx_filter){0};
}

static void allow(rvx_filter *f, size_t row) {
    f->count += !rvx_bit(f->bits, row);
    f->bits[row / 64] |= UINT64_C(1) << (row % 64);
}

static bool without_gaps(const rvx_rows *rows) {
    return rows->n && rows->ids_ascending &&
           rvx_row_id(rows, rows->n - 1) - rvx_row_id(rows, 0) == rows->n - 1;
}

/* Rows follow from ids by a subtraction. Ids mostly ascend, so that neighbors set bits
 * of one word and wait for each other; four that are far apart do not. */
static void allow_numbers(const rvx_rows *rows, const rv_search_options *o,
                          rvx_filter *f) {
    const uint64_t first = rvx_row_id(rows, 0), quarter = (o->allow_count + 3) / 4;
    for (uint64_t i = 0; i < quarter; i++) {
        for (uint64_t at = i; at < o->allow_count; at += quarter) {
            uint64_t row = o->allow_ids[at] - first;
            if (row < rows->n) f->bits[row / 64] |= UINT64_C(1) << (row % 64);
        }
    }
    for (size_t word = 0; word < (rows->n + 63) / 64; word++) {
        if (rows->dead) f->bits[word] &= ~rows->dead[word];
        f->count += rvx_count_bits(f->bits[word]);
    }
}

static void allow_ids(const rv_index *index, const rv_search_options *o, rvx_filter *f) {
    if (without_gaps(&index->rows)) {
        allow_numbers(&index->rows, o, f);
        return;
    }
    for (uint64_t i = 0; i < o->allow_count; i++) {
        size_t row = rvx_row_of_id(&index->ids, &index->rows, o->allow_ids[i]);
        for (; row != RVX_NO_ROW && !rvx_bit(f->bits, row);
             row = rvx_idmap_twin(&index->ids, row))
            allow(f, row);
    }
}

#ifdef HAVE_SSE2

/* Bit i set where byte i is not 0. */
static uint64_t nonzero_bytes(const uint8_t bytes[64]) {
    uint64_t zeros = 0;
    for (unsigned i = 0; i < 4; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(bytes + 16 * i));
        int is_zero = _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128()));
        zeros |= (uint64_t)(uint32_t)is_zero << 16 * i;
    }
    return ~zeros;
}

#else

/* Bit i set where byte i is not 0. Bytes are in memory order, which is little-endian. */
static uint64_t nonzero_bytes(const uint8_t bytes[64]) {
    const uint64_t low7 = UINT64_C(0x7f7f7f7f7f7f7f7f);
    uint64_t bits = 0, v;
    for (unsigned i = 0; i < 8; i++) {
        memcpy(&v, bytes + 8 * i, sizeof v);
        v = ((((v & low7) + low7) | v) & ~low7) >> 7;
        bits |= (v * UINT64_C(0x0102040810204080) >> 56) << 8 * i;
    }
    return bits;
}

#endif

static void allow_mask(const rvx_rows *rows, const uint8_t *mask, rvx_filter *f) {
    size_t whole = rows->dead ? 0 : rows->n / 64;
    for (size_t word = 0; word < whole; word++, mask += 64) {
        uint64_t bits = nonzero_bytes(mask);
        f->bits[word] = bits;
        f->count += rvx_count_bits(bits);
    }
    for (size_t row = 64 * whole; row < rows->n; row++)
        if (rvx_row_live(rows, row) && *mask++) allow(f, row);
}

rv_status rvx_filter_build(const rv_index *index, const rv_search_options *o,
                           uint64_t query, rvx_filter *out, rv_error *err) {
    const rvx_rows *rows = &index->rows;
    *out = (rvx_filter){.n_rows = rows->n, .renumbered = rows->renumbered};
    if (!o->allow_ids && o->allow_mask_len != rows->n_live)
        return rvb_fail_numbers(
            err, RV_ERR_ARGUMENT, rows->n_live, o->allow_mask_len,
            "allow mask has %llu entries, but the index has %zu rows; "
            "make a mask with one entry for each row, in the order of ids",
            (unsigned long long)o->allow_mask_len, rows->n_live);
    if (!o->allow_ids && o->allow_version && o->allow_version != index->changes)
        return rvb_fail(
            err, RV_ERR_ARGUMENT,
            "the rows have changed since version %llu, for which the allow mask "
            "was made, to version %llu; read the version again, then make the mask anew; "
            "or allow ids, which always mean the same rows",
            (unsigned long long)o->allow_version, (unsigned long long)index->changes);
    out->bits = rvb_alloc_zero((rows->n + 63) / 64, sizeof *out->bits);
    if (!out->bits) return rvb_fail_memory(err, rows->n / 8);
    if (o->allow_ids)
        allow_ids(index, o, out);
    else
        allow_mask(rows,
                   o->allow_mask +
                       (o->allow_mask_per_query ? query * o->allow_mask_len : 0),
                   out);
    return RV_OK;
}
