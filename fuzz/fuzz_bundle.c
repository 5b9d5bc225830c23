/*
 * fuzz_bundle.c - bundles out of text nobody vouches for. What is accepted is written
 * and read again, sealed, and must stay what it was.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "ruvector/lake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition) abort();
}

static bool same_text(rv_text a, rv_text b) {
    if (!a.data || !b.data) return !a.data && !b.data;
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static bool same(const rv_bundle *a, const rv_bundle *b) {
    return a->format_version == b->format_version && a->dim == b->dim &&
           same_text(a->data_ref, b->data_ref) && a->rotation_seed == b->rotation_seed &&
           a->rerank_factor == b->rerank_factor &&
           same_text(a->generation_text, b->generation_text) &&
           (a->generation_text.data || a->generation == b->generation) &&
           same_text(a->witness, b->witness) && same_text(a->pii_policy, b->pii_policy) &&
           same_text(a->lineage_id, b->lineage_id) &&
           same_text(a->memory_class, b->memory_class);
}

static void check_text(rv_text text, size_t most) {
    require(text.size <= most);
    if (!text.data) return;
    require(rvb_utf8_valid(text.data, text.size));
    require(text.data[text.size] == '\0');
}

static char *formatted(const rv_bundle *b, size_t *size) {
    size_t again;
    rv_bundle_format(b, NULL, 0, size);
    char *text = malloc(*size);
    require(text != NULL);
    rv_bundle_format(b, text, *size, &again);
    require(again == *size);
    return text;
}

static void use(const rv_bundle *b) {
    require(b->format_version <= RV_BUNDLE_VERSION && b->data_ref.data &&
            b->witness.data);
    check_text(b->data_ref, RV_BUNDLE_MAX_TEXT);
    check_text(b->generation_text, RV_BUNDLE_MAX_BYTES);
    check_text(b->witness, RV_BUNDLE_MAX_WITNESS);
    check_text(b->pii_policy, RV_BUNDLE_MAX_TEXT);
    check_text(b->lineage_id, RV_BUNDLE_MAX_TEXT);
    check_text(b->memory_class, RV_BUNDLE_MAX_TEXT);

    size_t size;
    char *text = formatted(b, &size);
    rv_bundle *back = NULL, *sealed = NULL;
    rv_status status = rv_bundle_parse(text, size, &back, NULL);
    /* escapes may make it longer than what may be read */
    require(status == (size > RV_BUNDLE_MAX_BYTES ? RV_ERR_FORMAT : RV_OK));
    require(!back || same(b, back));
    free(text);

    status = rv_bundle_sealed(b, &sealed, NULL);
    require(status == RV_OK ||
            (status == RV_ERR_LIMIT && size > RV_BUNDLE_MAX_BYTES - 64));
    if (sealed) {
        require(rv_bundle_verify(sealed));
        require(!rv_bundle_verify(b) || same_text(b->witness, sealed->witness));
        text = formatted(sealed, &size);
        require(size <= RV_BUNDLE_MAX_BYTES);
        free(text);
    }
    rv_bundle_free(back);
    rv_bundle_free(sealed);
}

/* The tokens of a text do not go outside it and are balanced. */
static void walk(const char *text, size_t size) {
    rvb_json j;
    rvb_json_token t;
    unsigned depth = 0;
    rvb_json_init(&j, text, size);
    while (rvb_json_next(&j, &t) && t.kind != RVB_JSON_END) {
        require(t.raw == NULL || (t.raw >= text && t.raw_size <= size));
        depth += t.kind == RVB_JSON_OBJECT || t.kind == RVB_JSON_ARRAY;
        depth -= t.kind == RVB_JSON_OBJECT_END || t.kind == RVB_JSON_ARRAY_END;
        require(depth == j.depth && depth <= RVB_JSON_DEPTH && j.at <= size);
    }
    require(j.error || depth == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size ? size : 1);
    rv_bundle *b = NULL;
    rv_error error = {RV_OK, 0, 0, 0, "", ""};
    require(text != NULL);
    if (size) memcpy(text, data, size);
    walk(text, size);
    rv_status status = rv_bundle_parse(text, size, &b, &error);
    free(text);
    require((status == RV_OK) == (b != NULL));
    require(status == RV_OK || (status == RV_ERR_FORMAT && error.message[0]));
    if (b) use(b);
    rv_bundle_free(b);
    return 0;
}
