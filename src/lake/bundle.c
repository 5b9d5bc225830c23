/*
 * bundle.c - the record of a collection's state: its witness, what it may hold, its file.
 * docs/witness.md gives the bytes; bundle_text.c keeps the texts and has the JSON.
 */
#include "lake/bundle_i.h"

#include "base/json.h"

/* ---- witness -------------------------------------------------------------------- */

static void absorb_u64(rvb_shake *s, uint64_t value) {
    uint8_t bytes[8];
    rvb_put_u64(bytes, value);
    rvb_shake_update(s, bytes, sizeof bytes);
}

/* The length comes first, and a tag keeps numbers and texts apart. */
static void absorb_generation(rvb_shake *s, const rv_bundle *b) {
    bool text = b->generation_text.data != NULL;
    const uint8_t tag = text;
    absorb_u64(s, 1 + (text ? (uint64_t)b->generation_text.size : 8));
    rvb_shake_update(s, &tag, 1);
    if (text) {
        rvb_shake_update(s, b->generation_text.data, b->generation_text.size);
    } else {
        absorb_u64(s, b->generation);
    }
}

void rv_bundle_compute_witness(const rv_bundle *bundle, rv_witness out) {
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[RV_WITNESS_CHARS / 2];
    rvb_shake s;
    rvb_shake_init(&s);
    rvb_shake_update(&s, "rulake-bundle-witness-v1|", 25);
    absorb_u64(&s, bundle->data_ref.size);
    rvb_shake_update(&s, bundle->data_ref.data, bundle->data_ref.size);
    rvb_shake_update(&s, "|", 1);
    absorb_u64(&s, bundle->dim);
    absorb_u64(&s, bundle->rotation_seed);
    absorb_u64(&s, bundle->rerank_factor);
    rvb_shake_update(&s, "|", 1);
    absorb_generation(&s, bundle);
    rvb_shake_finish(&s);
    rvb_shake_squeeze(&s, digest, sizeof digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[RV_WITNESS_CHARS] = '\0';
}

int rv_bundle_verify(const rv_bundle *bundle) {
    rv_witness witness;
    if (!bundle->witness.data || bundle->witness.size != RV_WITNESS_CHARS) return 0;
    rv_bundle_compute_witness(bundle, witness);
    return memcmp(witness, bundle->witness.data, RV_WITNESS_CHARS) == 0;
}

/* ---- sealing -------------------------------------------------------------------- */

/* What a reader would refuse is not made either. */
static rv_status check_text(rv_text text, const char *name, size_t most, rv_error *err) {
    if (text.size > most)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, most, text.size,
                                "bundle: %s has %zu bytes, at most %zu are allowed", name,
                                text.size, most);
    if (text.data && !rvb_utf8_valid(text.data, text.size))
        return rvb_fail(err, RV_ERR_ARGUMENT, "bundle: %s is not valid UTF-8", name);
    return RV_OK;
}

static rv_status check(const rv_bundle *b, rv_error *err) {
    if (!b->data_ref.data || !b->witness.data)
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "bundle: data_ref or rvf_witness is not set; use a sealed one");
    RVB_TRY(check_text(b->data_ref, "data_ref", RV_BUNDLE_MAX_TEXT, err));
    RVB_TRY(check_text(b->generation_text, "generation", RV_BUNDLE_MAX_BYTES, err));
    RVB_TRY(check_text(b->witness, "rvf_witness", RV_BUNDLE_MAX_WITNESS, err));
    RVB_TRY(check_text(b->pii_policy, "pii_policy", RV_BUNDLE_MAX_TEXT, err));
    RVB_TRY(check_text(b->lineage_id, "lineage_id", RV_BUNDLE_MAX_TEXT, err));
    RVB_TRY(check_text(b->memory_class, "memory_class", RV_BUNDLE_MAX_TEXT, err));
    size_t size = b->data_ref.size + b->generation_text.size + b->pii_policy.size +
                  b->lineage_id.size + b->memory_class.size;
    if (size < 8192) return RV_OK; /* fits, though an escape takes 6 bytes for one */
    rv_bundle_format(b, NULL, 0, &size);
    if (size <= RV_BUNDLE_MAX_BYTES) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_BUNDLE_MAX_BYTES, size,
                            "bundle: takes %zu bytes as text, at most %u are allowed",
                            size, RV_BUNDLE_MAX_BYTES);
}

rv_status rv_bundle_sealed(const rv_bundle *fields, rv_bundle **out, rv_error *err) {
    rv_witness witness;
    rv_bundle sealed = *fields;
    *out = NULL;
    sealed.format_version = RV_BUNDLE_VERSION;
    if (!sealed.data_ref.data) sealed.data_ref = rvl_text("");
    sealed.witness = (rv_text){witness, RV_WITNESS_CHARS};
    memset(witness, '0', sizeof witness);
    RVB_TRY(check(&sealed, err));
    rv_bundle_compute_witness(&sealed, witness);
    size_t bytes;
    rv_bundle *b = rvl_bundle_alloc(&sealed, &bytes);
    if (!b) return rvb_fail_memory(err, bytes);
    for (size_t i = 0; i < RVL_BUNDLE_TEXTS; i++) {
        const rv_text *from = rvl_bundle_text(&sealed, i), *to = rvl_bundle_text(b, i);
        if (to->data) memcpy((char *)(uintptr_t)to->data, from->data, from->size);
    }
    *out = b;
    return RV_OK;
}

void rv_bundle_free(rv_bundle *bundle) { rvb_free(bundle); }

/* ---- files ---------------------------------------------------------------------- */

static rv_status write_text(const char *text, size_t size, const char *path,
                            rv_error *err) {
    rvb_writer *w;
    RVB_TRY(rvb_writer_open(path, &w, err));
    rv_status status = rvb_writer_write(w, text, size, err);
    if (status == RV_OK) return rvb_writer_commit(w, err);
    rvb_writer_abort(w);
    return status;
}

rv_status rv_bundle_write(const rv_bundle *bundle, const char *directory, rv_error *err) {
    size_t size;
    RVB_TRY(check(bundle, err));
    RVB_TRY(rvb_make_directories(directory, err));
    rv_bundle_format(bundle, NULL, 0, &size);
    char *text = rvb_alloc(size, 1), *path = rvb_join_path(directory, RV_BUNDLE_FILE);
    rv_status status;
    if (text && path) {
        rv_bundle_format(bundle, text, size, &size);
        status = write_text(text, size, path, err);
    } else {
        status = rvb_fail_memory(err, size);
    }
    rvb_free(text);
    rvb_free(path);
    return status;
}

/* One byte more than is allowed tells a file that is too large. */
static rv_status read_text(const char *path, char *text, size_t *size, rv_error *err) {
    rvb_input in;
    RVB_TRY(rvb_input_open("bundle read: open", path, true, &in, err));
    in.what = "bundle read:";
    rv_status status = rvb_input_read(&in, text, RV_BUNDLE_MAX_BYTES + 1, size, err);
    rvb_input_close(&in);
    return status;
}

static rv_status read_verified(const char *path, char *text, rv_bundle **out,
                               rv_error *err) {
    size_t size;
    RVB_TRY(read_text(path, text, &size, err));
    rv_status status = rv_bundle_parse(text, size, out, err);
    if (status == RV_OK && !rv_bundle_verify(*out)) {
        rv_bundle_free(*out);
        *out = NULL;
        status =
            rvb_fail(err, RV_ERR_WITNESS, "bundle read: witness mismatch at %s", path);
    }
    if (status != RV_OK) rvb_error_path(err, path);
    return status;
}

rv_status rv_bundle_read(const char *directory, rv_bundle **out, rv_error *err) {
    *out = NULL;
    char *text = rvb_alloc(RV_BUNDLE_MAX_BYTES + 1, 1);
    char *path = rvb_join_path(directory, RV_BUNDLE_FILE);
    rv_status status = text && path ? read_verified(path, text, out, err)
                                    : rvb_fail_memory(err, RV_BUNDLE_MAX_BYTES + 1);
    rvb_free(text);
    rvb_free(path);
    return status;
}
