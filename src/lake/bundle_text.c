/*
 * bundle_text.c - the texts of a bundle in memory, and bundles as JSON. The writer's
 * bytes are fixed: other programs compare files. The reader takes any order of keys and
 * ignores keys it does not know.
 */
#include "lake/bundle_i.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"

/* ---- memory --------------------------------------------------------------------- */

rv_text *rvl_bundle_text(rv_bundle *b, size_t i) {
    rv_text *const texts[RVL_BUNDLE_TEXTS] = {&b->data_ref,   &b->generation_text,
                                              &b->witness,    &b->pii_policy,
                                              &b->lineage_id, &b->memory_class};
    return texts[i];
}

rv_bundle *rvl_bundle_alloc(const rv_bundle *sizes, size_t *bytes) {
    rv_bundle from = *sizes;
    *bytes = sizeof from;
    for (size_t i = 0; i < RVL_BUNDLE_TEXTS; i++)
        if (!rvb_add(*bytes, rvl_bundle_text(&from, i)->size + 1, bytes)) return NULL;
    rv_bundle *b = rvb_alloc_zero(*bytes, 1);
    if (!b) return NULL;
    *b = from;
    char *at = (char *)(b + 1);
    for (size_t i = 0; i < RVL_BUNDLE_TEXTS; i++) {
        rv_text *text = rvl_bundle_text(b, i);
        if (text->data) text->data = at;
        at += text->size + 1;
    }
    return b;
}

/* ---- writing -------------------------------------------------------------------- */

/* Counts all bytes, keeps those that fit. */
typedef struct sink {
    char *out;
    size_t capacity, size;
} sink;

static void put(sink *s, const char *data, size_t size) {
    if (s->size < s->capacity) {
        size_t room = s->capacity - s->size;
        memcpy(s->out + s->size, data, size < room ? size : room);
    }
    s->size += size;
}

static void put_string(sink *s, const char *string) { put(s, string, strlen(string)); }

static void put_u64(sink *s, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    put_string(s, digits);
}

static void put_char(sink *s, char c) {
    static const char special[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = c ? strchr(special, c) : NULL;
    char escape[8];
    if (found) {
        escape[0] = '\\';
        escape[1] = letters[found - special];
        put(s, escape, 2);
    } else if ((unsigned char)c < 0x20) {
        snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
        put(s, escape, 6);
    } else {
        put(s, &c, 1);
    }
}

static void put_text(sink *s, rv_text text) {
    if (!text.data) {
        put_string(s, "null");
        return;
    }
    put(s, "\"", 1);
    for (size_t i = 0; i < text.size; i++) put_char(s, text.data[i]);
    put(s, "\"", 1);
}

static void put_key(sink *s, const char *key) {
    put_string(s, s->size ? ",\n  \"" : "{\n  \"");
    put_string(s, key);
    put_string(s, "\": ");
}

static void put_number(sink *s, const char *key, uint64_t value) {
    put_key(s, key);
    put_u64(s, value);
}

static void put_field(sink *s, const char *key, rv_text text) {
    put_key(s, key);
    put_text(s, text);
}

void rv_bundle_format(const rv_bundle *bundle, char *out, size_t capacity, size_t *size) {
    sink s = {out, out ? capacity : 0, 0};
    put_number(&s, "format_version", bundle->format_version);
    put_field(&s, "data_ref", bundle->data_ref);
    put_number(&s, "dim", bundle->dim);
    put_number(&s, "rotation_seed", bundle->rotation_seed);
    put_number(&s, "rerank_factor", bundle->rerank_factor);
    if (bundle->generation_text.data) {
        put_field(&s, "generation", bundle->generation_text);
    } else {
        put_number(&s, "generation", bundle->generation);
    }
    put_field(&s, "rvf_witness", bundle->witness);
    put_field(&s, "pii_policy", bundle->pii_policy);
    put_field(&s, "lineage_id", bundle->lineage_id);
    if (bundle->memory_class.data) put_field(&s, "memory_class", bundle->memory_class);
    put_string(&s, "\n}");
    *size = s.size;
}

/* ---- reading -------------------------------------------------------------------- */

enum {
    FORMAT_VERSION,
    DATA_REF,
    DIM,
    ROTATION_SEED,
    RERANK_FACTOR,
    GENERATION,
    WITNESS,
    PII_POLICY,
    LINEAGE_ID,
    MEMORY_CLASS,
    N_FIELDS
};

enum { NUMBER = 1, STRING = 2, OPTIONAL = 4 };

static const struct {
    const char *key;
    unsigned type;
} fields[N_FIELDS] = {
    {"format_version", NUMBER},
    {"data_ref", STRING},
    {"dim", NUMBER},
    {"rotation_seed", NUMBER},
    {"rerank_factor", NUMBER},
    {"generation", NUMBER | STRING},
    {"rvf_witness", STRING},
    {"pii_policy", STRING | OPTIONAL},
    {"lineage_id", STRING | OPTIONAL},
    {"memory_class", STRING | OPTIONAL},
};

/* The values as they stand in the text: checked, not yet decoded. */
typedef struct record {
    bool seen[N_FIELDS];
    rvb_json_token token[N_FIELDS];
    uint64_t number[N_FIELDS];
} record;

static rv_status malformed(const rvb_json *j, rv_error *err) {
    return rvb_fail(err, RV_ERR_FORMAT, "bundle parse: %s (byte %zu)", j->error, j->at);
}

static rv_status read_field(rvb_json *j, size_t f, record *r, rv_error *err) {
    rvb_json_token *t = &r->token[f];
    unsigned type = fields[f].type;
    if (r->seen[f])
        return rvb_fail(err, RV_ERR_FORMAT, "bundle parse: %s is given twice",
                        fields[f].key);
    r->seen[f] = true;
    if (!rvb_json_next(j, t)) return malformed(j, err);
    if ((type & NUMBER) && rvb_json_u64(t, &r->number[f]) &&
        (f != FORMAT_VERSION || r->number[f] <= UINT32_MAX))
        return RV_OK;
    if ((type & STRING) && t->kind == RVB_JSON_STRING) return RV_OK;
    if ((type & OPTIONAL) && t->kind == RVB_JSON_NULL) return RV_OK;
    return rvb_fail(err, RV_ERR_FORMAT, "bundle parse: %s must be %s", fields[f].key,
                    type == NUMBER   ? "a whole number in range"
                    : type == STRING ? "a string"
                    : type & NUMBER  ? "a whole number in range or a string"
                                     : "a string or null");
}

static rv_status read_record(rvb_json *j, record *r, rv_error *err) {
    rvb_json_token t;
    if (!rvb_json_next(j, &t)) return malformed(j, err);
    if (t.kind != RVB_JSON_OBJECT)
        return rvb_fail(err, RV_ERR_FORMAT, "bundle parse: not a JSON object");
    for (;;) {
        if (!rvb_json_next(j, &t)) return malformed(j, err);
        if (t.kind == RVB_JSON_OBJECT_END) break;
        size_t f = 0;
        while (f < N_FIELDS && !rvb_json_equals(&t, fields[f].key)) f++;
        if (f < N_FIELDS) {
            RVB_TRY(read_field(j, f, r, err));
        } else if (!rvb_json_skip(j)) {
            return malformed(j, err);
        }
    }
    if (!rvb_json_next(j, &t)) return malformed(j, err);
    for (size_t f = 0; f < N_FIELDS; f++)
        if (!r->seen[f] && !(fields[f].type & OPTIONAL))
            return rvb_fail(err, RV_ERR_FORMAT, "bundle parse: %s is missing",
                            fields[f].key);
    return RV_OK;
}

static rv_status check_size(const record *r, size_t f, rv_error *err) {
    size_t size = r->token[f].size;
    if (size <= RV_BUNDLE_MAX_TEXT) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_FORMAT, RV_BUNDLE_MAX_TEXT, size,
                            "bundle parse: %s exceeds %u bytes", fields[f].key,
                            RV_BUNDLE_MAX_TEXT);
}

static rv_status check_record(const record *r, rv_error *err) {
    uint64_t version = r->number[FORMAT_VERSION];
    if (version > RV_BUNDLE_VERSION)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RV_BUNDLE_VERSION, version,
                                "bundle format_version=%" PRIu64
                                " newer than this binary supports (%u)",
                                version, RV_BUNDLE_VERSION);
    RVB_TRY(check_size(r, PII_POLICY, err));
    RVB_TRY(check_size(r, LINEAGE_ID, err));
    RVB_TRY(check_size(r, MEMORY_CLASS, err));
    RVB_TRY(check_size(r, DATA_REF, err));
    if (r->token[WITNESS].size > RV_BUNDLE_MAX_WITNESS)
        return rvb_fail_numbers(
            err, RV_ERR_FORMAT, RV_BUNDLE_MAX_WITNESS, r->token[WITNESS].size,
            "bundle parse: rvf_witness not a hex-encoded SHAKE-256(32)");
    return RV_OK;
}

/* data NULL if the field is absent, null or a number. */
static rv_text text_of(const record *r, size_t f) {
    bool string = r->seen[f] && r->token[f].kind == RVB_JSON_STRING;
    return string ? (rv_text){r->token[f].raw, r->token[f].size} : (rv_text){NULL, 0};
}

static rv_status make_bundle(const record *r, rv_bundle **out, rv_error *err) {
    /* in the order of rvl_bundle_text */
    static const size_t texts[RVL_BUNDLE_TEXTS] = {DATA_REF,   GENERATION, WITNESS,
                                                   PII_POLICY, LINEAGE_ID, MEMORY_CLASS};
    rv_bundle b = {.format_version = (uint32_t)r->number[FORMAT_VERSION],
                   .dim = r->number[DIM],
                   .rotation_seed = r->number[ROTATION_SEED],
                   .rerank_factor = r->number[RERANK_FACTOR],
                   .generation = r->number[GENERATION]};
    for (size_t i = 0; i < RVL_BUNDLE_TEXTS; i++)
        *rvl_bundle_text(&b, i) = text_of(r, texts[i]);
    size_t bytes;
    *out = rvl_bundle_alloc(&b, &bytes);
    if (!*out) return rvb_fail_memory(err, bytes);
    for (size_t i = 0; i < RVL_BUNDLE_TEXTS; i++) {
        const rv_text *to = rvl_bundle_text(*out, i);
        if (to->data) rvb_json_decode(&r->token[texts[i]], (char *)(uintptr_t)to->data);
    }
    return RV_OK;
}

rv_status rv_bundle_parse(const char *json, size_t size, rv_bundle **out, rv_error *err) {
    *out = NULL;
    if (size > RV_BUNDLE_MAX_BYTES)
        return rvb_fail_numbers(err, RV_ERR_FORMAT, RV_BUNDLE_MAX_BYTES, size,
                                "bundle parse: exceeds %u bytes", RV_BUNDLE_MAX_BYTES);
    rvb_json j;
    record r = {0};
    rvb_json_init(&j, json, size);
    RVB_TRY(read_record(&j, &r, err));
    RVB_TRY(check_record(&r, err));
    return make_bundle(&r, out, err);
}
