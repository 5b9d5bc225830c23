/*
 * safetensors.c - the header of a safetensors file, which may come from anywhere.
 *
 * The file is a length (u64), a JSON object of that many bytes and the data of the
 * tensors. The object is never deeper than three levels, so its grammar is read
 * straight down, without recursion. Strings are decoded in place, in a copy of the
 * header: they only ever get shorter. What the format does not know is refused, and no
 * length is used before it was compared with what is there.
 */
#include "embed/embed_i.h"

#include <inttypes.h>
#include <stdlib.h>

#define HEADER_MAX UINT64_C(100000000) /* the limit of the format's own reader */

static const struct {
    const char *name;
    unsigned bits;
} dtypes[] = {
    {"BOOL", 8}, {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
    {"U16", 16}, {"I16", 16}, {"F16", 16}, {"BF16", 16},   {"U32", 32},    {"I32", 32},
    {"F32", 32}, {"U64", 64}, {"I64", 64}, {"F64", 64},    {"C64", 64},
};

/* ---- JSON ----------------------------------------------------------------------- */

typedef struct reader {
    char *start, *at, *end;
    rv_error *err;
} reader;

static rv_status bad(const reader *r, const char *wanted) {
    return rvb_fail(r->err, RV_ERR_FORMAT,
                    "not a safetensors file: header byte %zu: expected %s",
                    (size_t)(r->at - r->start), wanted);
}

static void skip_space(reader *r) {
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

/* Takes `c` if it comes next. */
static bool take(reader *r, char c) {
    skip_space(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static rv_status need(reader *r, char c) {
    const char wanted[] = {'\'', c, '\'', '\0'};
    return take(r, c) ? RV_OK : bad(r, wanted);
}

static rv_status read_hex(reader *r, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char c = r->at < r->end ? *r->at : '\0';
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (uint32_t)((c | 0x20) - 'a') + 10;
        else
            return bad(r, "four hexadecimal digits");
        *out = *out * 16 + digit;
    }
    return RV_OK;
}

/* The code point of \uXXXX or of a pair of them; r->at is after the first 'u'. */
static rv_status read_code_point(reader *r, uint32_t *out) {
    uint32_t low;
    RVB_TRY(read_hex(r, out));
    if (*out < 0xD800 || *out > 0xDFFF) return RV_OK;
    const bool pair =
        *out < 0xDC00 && r->end - r->at >= 2 && r->at[0] == '\\' && r->at[1] == 'u';
    if (!pair) return bad(r, "a surrogate pair");
    r->at += 2;
    RVB_TRY(read_hex(r, &low));
    if (low < 0xDC00 || low > 0xDFFF) return bad(r, "a low surrogate");
    *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
    return RV_OK;
}

/* UTF-8; never longer than the escape it replaces. */
static char *write_code_point(char *to, uint32_t c) {
    if (c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t first[] = {0, 0xC0, 0xE0, 0xF0};
    *to++ = (char)(first[more] | c >> (6 * more));
    for (int i = more - 1; i >= 0; i--) *to++ = (char)(0x80 | (c >> (6 * i) & 0x3F));
    return to;
}

static rv_status read_escape(reader *r, char **to) {
    static const char from[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    const char c = r->at < r->end ? *r->at : '\0';
    if (c == 'u') {
        uint32_t code;
        r->at++;
        RVB_TRY(read_code_point(r, &code));
        *to = write_code_point(*to, code);
        return RV_OK;
    }
    const char *found = c ? strchr(from, c) : NULL;
    if (!found) return bad(r, "an escape of JSON");
    *(*to)++ = means[found - from];
    r->at++;
    return RV_OK;
}

/* Decodes a string where it stands. */
static rv_status read_string(reader *r, const char **out, size_t *bytes) {
    RVB_TRY(need(r, '"'));
    char *to = r->at;
    *out = to;
    for (;;) {
        if (r->at == r->end || (uint8_t)*r->at < 0x20) return bad(r, "'\"'");
        const char c = *r->at++;
        if (c == '"') break;
        if (c == '\\')
            RVB_TRY(read_escape(r, &to));
        else
            *to++ = c;
    }
    *bytes = (size_t)(to - *out);
    return RV_OK;
}

static rv_status read_number(reader *r, uint64_t *out) {
    skip_space(r);
    const char *first = r->at;
    *out = 0;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        const uint64_t digit = (uint64_t)(*r->at - '0');
        if (*out > (UINT64_MAX - digit) / 10) return bad(r, "a number below 2^64");
        *out = *out * 10 + digit;
    }
    if (r->at == first || (*first == '0' && r->at - first > 1))
        return bad(r, "a whole number");
    return RV_OK;
}

/* [a, b, ...] of at most `max` numbers. */
static rv_status read_numbers(reader *r, size_t max, uint64_t *out, size_t *n) {
    *n = 0;
    RVB_TRY(need(r, '['));
    if (take(r, ']')) return RV_OK;
    do {
        if (*n == max) return bad(r, "fewer numbers");
        RVB_TRY(read_number(r, &out[(*n)++]));
    } while (take(r, ','));
    return need(r, ']');
}

/* ---- the header ----------------------------------------------------------------- */

static bool is(const char *text, size_t bytes, const char *wanted) {
    return strlen(wanted) == bytes && memcmp(text, wanted, bytes) == 0;
}

/* An object of strings, of no use here. */
static rv_status skip_metadata(reader *r) {
    const char *text;
    size_t bytes;
    RVB_TRY(need(r, '{'));
    if (take(r, '}')) return RV_OK;
    do {
        RVB_TRY(read_string(r, &text, &bytes));
        RVB_TRY(need(r, ':'));
        RVB_TRY(read_string(r, &text, &bytes));
    } while (take(r, ','));
    return need(r, '}');
}

static rv_status read_dtype(reader *r, const char **out, unsigned *bits) {
    const char *text;
    size_t bytes;
    RVB_TRY(read_string(r, &text, &bytes));
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (!is(text, bytes, dtypes[i].name)) continue;
        *out = dtypes[i].name;
        *bits = dtypes[i].bits;
        return RV_OK;
    }
    return bad(r, "a dtype known here");
}

/* Whether a shape takes exactly this many bytes. */
static bool has_size(const rve_tensor *t, unsigned bits, size_t bytes) {
    size_t total = bits / 8;
    bool fits = true, empty = false;
    for (size_t i = 0; i < t->rank; i++) {
        if (t->shape[i] == 0) empty = true;
        fits = fits && t->shape[i] <= SIZE_MAX &&
               rvb_mul(total, (size_t)t->shape[i], &total);
    }
    return empty ? bytes == 0 : fits && total == bytes;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...}, each once and in any order. */
static rv_status read_tensor(reader *r, const uint8_t *data, size_t size,
                             rve_tensor *out) {
    uint64_t range[2] = {0, 0};
    unsigned bits = 0;
    bool has_shape = false, has_range = false;
    size_t n;
    RVB_TRY(need(r, '{'));
    do {
        const char *key;
        size_t bytes;
        RVB_TRY(read_string(r, &key, &bytes));
        RVB_TRY(need(r, ':'));
        if (bits == 0 && is(key, bytes, "dtype")) {
            RVB_TRY(read_dtype(r, &out->dtype, &bits));
        } else if (!has_shape && is(key, bytes, "shape")) {
            RVB_TRY(read_numbers(r, RVE_MAX_RANK, out->shape, &out->rank));
            has_shape = true;
        } else if (!has_range && is(key, bytes, "data_offsets")) {
            RVB_TRY(read_numbers(r, 2, range, &n));
            if (n != 2) return bad(r, "two offsets");
            has_range = true;
        } else {
            return bad(r, "dtype, shape and data_offsets, each once");
        }
    } while (take(r, ','));
    RVB_TRY(need(r, '}'));
    if (bits == 0 || !has_shape || !has_range)
        return bad(r, "dtype, shape and data_offsets before this");
    if (range[0] > range[1] || range[1] > size)
        return bad(r, "data_offsets inside the file before this");
    out->data = data + range[0];
    out->bytes = (size_t)(range[1] - range[0]);
    if (!has_size(out, bits, out->bytes))
        return bad(r, "data_offsets that fit dtype and shape before this");
    return RV_OK;
}

static rv_status grow(rve_tensors *t, size_t *capacity, rv_error *err) {
    if (t->n < *capacity) return RV_OK;
    const size_t wanted = *capacity ? 2 * *capacity : 256;
    rve_tensor *items = rvb_alloc(wanted, sizeof *items);
    if (!items) return rvb_fail_memory(err, (uint64_t)wanted * sizeof *items);
    if (t->n > 0) memcpy(items, t->items, t->n * sizeof *items);
    rvb_free(t->items);
    t->items = items;
    *capacity = wanted;
    return RV_OK;
}

static rv_status read_header(reader *r, const uint8_t *data, size_t size,
                             rve_tensors *out) {
    size_t capacity = 0;
    RVB_TRY(need(r, '{'));
    if (!take(r, '}')) {
        do {
            rve_tensor t = {0};
            RVB_TRY(read_string(r, &t.name, &t.name_bytes));
            RVB_TRY(need(r, ':'));
            if (is(t.name, t.name_bytes, "__metadata__")) {
                RVB_TRY(skip_metadata(r));
                continue;
            }
            RVB_TRY(read_tensor(r, data, size, &t));
            RVB_TRY(grow(out, &capacity, r->err));
            out->items[out->n++] = t;
        } while (take(r, ','));
        RVB_TRY(need(r, '}'));
    }
    skip_space(r);
    return r->at == r->end ? RV_OK : bad(r, "the end of the header");
}

/* ---- the tensors as a whole ----------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const rve_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int compare_names(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    const size_t common = a_bytes < b_bytes ? a_bytes : b_bytes;
    const int order = common > 0 ? memcmp(a, b, common) : 0;
    return order != 0 ? order : a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

static int by_name(const void *a, const void *b) {
    const rve_tensor *x = a, *y = b;
    return compare_names(x->name, x->name_bytes, y->name, y->name_bytes);
}

static rv_status check_ranges(rve_tensors *t, const uint8_t *data, size_t size,
                              rv_error *err) {
    const uint8_t *end = data;
    if (t->n > 0) qsort(t->items, t->n, sizeof *t->items, by_place);
    for (size_t i = 0; i < t->n; end += t->items[i++].bytes) {
        if (t->items[i].data == end) continue;
        return rvb_fail(
            err, RV_ERR_FORMAT, "not a safetensors file: %s at byte %zu of the data",
            t->items[i].data < end ? "tensors overlap" : "no tensor begins",
            (size_t)((t->items[i].data < end ? t->items[i].data : end) - data));
    }
    if (end == data + size) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_FORMAT, (uint64_t)(end - data), size,
                            "not a safetensors file: the tensors take %zu bytes, the "
                            "file holds %zu after its header",
                            (size_t)(end - data), size);
}

static rv_status check_names(rve_tensors *t, rv_error *err) {
    if (t->n > 0) qsort(t->items, t->n, sizeof *t->items, by_name);
    for (size_t i = 1; i < t->n; i++) {
        if (by_name(&t->items[i - 1], &t->items[i]) != 0) continue;
        return rvb_fail(err, RV_ERR_FORMAT,
                        "not a safetensors file: two tensors share a name");
    }
    return RV_OK;
}

rv_status rve_tensors_open(const uint8_t *file, size_t size, rve_tensors *out,
                           rv_error *err) {
    *out = (rve_tensors){0};
    if (size < 8)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, 8, size,
                                "not a safetensors file: it has %zu bytes", size);
    const uint64_t header_bytes = rvb_get_u64(file);
    if (header_bytes > HEADER_MAX || header_bytes > size - 8)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, size - 8, header_bytes,
                                "not a safetensors file: a header of %" PRIu64
                                " bytes in a file of %zu",
                                header_bytes, size);
    const size_t bytes = (size_t)header_bytes;
    out->header = rvb_alloc(bytes, 1);
    if (!out->header) return rvb_fail_memory(err, bytes);
    memcpy(out->header, file + 8, bytes);
    reader r = {out->header, out->header, out->header + bytes, err};
    const uint8_t *data = file + 8 + bytes;
    rv_status status = read_header(&r, data, size - 8 - bytes, out);
    if (status == RV_OK) status = check_ranges(out, data, size - 8 - bytes, err);
    if (status == RV_OK) status = check_names(out, err);
    if (status != RV_OK) rve_tensors_close(out);
    return status;
}

void rve_tensors_close(rve_tensors *tensors) {
    rvb_free(tensors->items);
    rvb_free(tensors->header);
    *tensors = (rve_tensors){0};
}

const rve_tensor *rve_tensors_find(const rve_tensors *tensors, const char *name) {
    size_t low = 0, high = tensors->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const rve_tensor *t = &tensors->items[middle];
        const int order = compare_names(name, strlen(name), t->name, t->name_bytes);
        if (order == 0) return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
