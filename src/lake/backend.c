/*
 * backend.c - calls to a backend, checked: nothing it returns is believed before its
 * sizes, and of a bundle its witness, have been looked at.
 */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>

#include "base/json.h"
#include "lake/source_i.h"

struct rv_backend {
    _Atomic uint32_t owners;
    rv_backend_calls calls;
    void *ctx;
    const char *(*data_ref_of_pull)(const rv_pull *pull); /* may be NULL */
    char id[];
};

/* ---- life ----------------------------------------------------------------------- */

rv_status rv_backend_new(const char *id, const rv_backend_calls *calls, void *ctx,
                         rv_backend **out, rv_error *err) {
    static const rvb_sized type = RVB_SIZED(rv_backend_calls, RV_BACKEND_CALLS_0_1_0_SIZE,
                                            RV_BACKEND_CALLS_DEFAULT);
    *out = NULL;
    if (!id || !rvb_utf8_valid(id, strlen(id)))
        return rvb_fail(err, RV_ERR_ARGUMENT, "a backend's id must be UTF-8 text");
    rv_backend_calls known = RV_BACKEND_CALLS_DEFAULT;
    RVB_TRY(rvb_take_options(&type, calls, &known, err));
    if (!known.list || !known.pull || !known.generation)
        return rvb_fail(err, RV_ERR_ARGUMENT, "backend %s lacks list, pull or generation",
                        id);
    size_t length = strlen(id) + 1;
    rv_backend *b = rvb_alloc_zero(1, sizeof *b + length);
    if (!b) return rvb_fail_memory(err, sizeof *b + length);
    atomic_init(&b->owners, 1);
    b->calls = known;
    b->ctx = ctx;
    memcpy(b->id, id, length);
    *out = b;
    return RV_OK;
}

rv_backend *rv_backend_retain(rv_backend *backend) {
    atomic_fetch_add_explicit(&backend->owners, 1, memory_order_relaxed);
    return backend;
}

void rv_backend_free(rv_backend *backend) {
    if (!backend) return;
    if (atomic_fetch_sub_explicit(&backend->owners, 1, memory_order_acq_rel) > 1) return;
    if (backend->calls.release) backend->calls.release(backend->ctx);
    rvb_free(backend);
}

const char *rv_backend_id(const rv_backend *backend) { return backend->id; }

const rv_backend_calls *rvl_backend_calls(const rv_backend *backend) {
    return &backend->calls;
}

void *rvl_backend_context(const rv_backend *backend, void (*release)(void *ctx)) {
    return backend->calls.release == release ? backend->ctx : NULL;
}

void rvl_backend_set_data_ref(rv_backend *backend,
                              const char *(*of_pull)(const rv_pull *pull)) {
    backend->data_ref_of_pull = of_pull;
}

/* ---- errors --------------------------------------------------------------------- */

/* RV_ERR_BACKEND for what is wrong with an answer, whose numbers are kept. */
static rv_status blame(const rv_backend *b, const rv_error *why, rv_error *err) {
    if (!err) return RV_ERR_BACKEND;
    rv_error inner = *why;
    const char *detail = inner.message[0] ? inner.message : rv_status_name(inner.code);
    rvb_fail_numbers(err, RV_ERR_BACKEND, inner.expected, inner.actual,
                     "backend error (%s): %s", b->id, detail);
    err->os_errno = inner.os_errno;
    memcpy(err->path, inner.path, sizeof err->path);
    return RV_ERR_BACKEND;
}

/* What a call's failure is to the caller. `why` as the backend filled it, if it did. */
static rv_status translate(const rv_backend *b, const char *collection, rv_status status,
                           rv_error *why, rv_error *err) {
    why->code = status;
    if (status == RV_ERR_MEMORY || status == RV_ERR_CANCELLED) {
        if (err) *err = *why;
        return status;
    }
    if (status == RV_ERR_NOT_FOUND && collection)
        return rvb_fail(err, status, "unknown collection: %s/%s", b->id, collection);
    return blame(b, why, err);
}

/* ---- names and generations ------------------------------------------------------ */

/* Tells failures of the caller's own callback from those of the backend. */
typedef struct listing {
    rv_status (*each)(void *names, const char *collection, rv_error *err);
    void *names;
    rv_status status;
    rv_error error;
} listing;

static rv_status list_one(void *ctx, const char *collection, rv_error *err) {
    listing *l = ctx;
    if (!collection || !rvb_utf8_valid(collection, strlen(collection)))
        return rvb_fail(err, RV_ERR_VALUE,
                        "a listed collection's name is not UTF-8 text");
    if (l->status == RV_OK) l->status = l->each(l->names, collection, &l->error);
    return l->status == RV_OK ? RV_OK : rvb_fail(err, l->status, "%s", l->error.message);
}

rv_status rv_backend_list(rv_backend *backend,
                          rv_status (*each)(void *names, const char *collection,
                                            rv_error *err),
                          void *names, rv_error *err) {
    rv_error why = {0};
    listing l = {each, names, RV_OK, {0}};
    rv_status status = backend->calls.list(backend->ctx, list_one, &l, &why);
    if (l.status != RV_OK) {
        if (err) *err = l.error;
        return l.status;
    }
    return status == RV_OK ? RV_OK : translate(backend, NULL, status, &why, err);
}

rv_status rv_backend_generation(rv_backend *backend, const char *collection,
                                uint64_t *out, rv_error *err) {
    rv_error why = {0};
    rv_status status = backend->calls.generation(backend->ctx, collection, out, &why);
    return status == RV_OK ? RV_OK : translate(backend, collection, status, &why, err);
}

rv_status rvl_backend_token(rv_backend *backend, const char *collection, uint64_t out[4],
                            bool *has, rv_error *err) {
    rv_error why = {0};
    memset(out, 0, 4 * sizeof *out);
    *has = backend->calls.token || !backend->calls.bundle;
    if (!*has) return RV_OK;
    if (!backend->calls.token)
        return rv_backend_generation(backend, collection, out, err);
    rv_status status = backend->calls.token(backend->ctx, collection, out, &why);
    return status == RV_OK ? RV_OK : translate(backend, collection, status, &why, err);
}

/* ---- pulls ---------------------------------------------------------------------- */

void rv_pull_release(rv_pull *pull) {
    if (pull->release) pull->release(pull->owner);
    *pull = (rv_pull){0};
}

static rv_status check_pull(const rv_pull *p, rv_error *err) {
    size_t bytes;
    if (p->n_ids != p->n)
        return rvb_fail_numbers(
            err, RV_ERR_VALUE, p->n, p->n_ids,
            "PulledBatch: ids.len=%" PRIu64 " != vectors.len=%" PRIu64, p->n_ids, p->n);
    if (p->n > RV_PULL_MAX_ROWS)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_ROWS, p->n,
                                "PulledBatch: %" PRIu64 " vectors exceeds cap %" PRIu64,
                                p->n, RV_PULL_MAX_ROWS);
    if (p->dim == 0 || p->dim > RV_MAX_DIM)
        return rvb_fail_numbers(err, RV_ERR_DIM, RV_MAX_DIM, p->dim,
                                "PulledBatch: dim=%" PRIu64 " outside (0, %u]", p->dim,
                                RV_MAX_DIM);
    if (!rvb_mul((size_t)p->n, (size_t)p->dim * sizeof(float), &bytes))
        return rvb_fail(err, RV_ERR_LIMIT,
                        "PulledBatch: size overflow (n=%" PRIu64 ", dim=%" PRIu64 ")",
                        p->n, p->dim);
    if (bytes > RV_PULL_MAX_BYTES)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_BYTES, bytes,
                                "PulledBatch: %zu bytes exceeds cap %" PRIu64, bytes,
                                RV_PULL_MAX_BYTES);
    if (p->n && (!p->ids || !p->vectors))
        return rvb_fail(err, RV_ERR_VALUE, "PulledBatch: ids or vectors are missing");
    return RV_OK;
}

rv_status rv_backend_pull(rv_backend *backend, const char *collection, rv_pull *out,
                          rv_error *err) {
    rv_error why = {0};
    rv_pull pull = {0};
    *out = pull;
    rv_status status = backend->calls.pull(backend->ctx, collection, &pull, &why);
    if (status != RV_OK) return translate(backend, collection, status, &why, err);
    if (check_pull(&pull, &why) != RV_OK) {
        rv_pull_release(&pull);
        return blame(backend, &why, err);
    }
    *out = pull;
    return RV_OK;
}

/* ---- bundles -------------------------------------------------------------------- */

char *rvl_data_ref(const char *scheme, const char *place, const char *name) {
    size_t s = strlen(scheme), p = strlen(place), n = name ? strlen(name) + 1 : 0;
    char *text = rvb_alloc(s + 3 + p + n + 1, 1);
    if (!text) return NULL;
    memcpy(text, scheme, s);
    memcpy(text + s, "://", 3);
    memcpy(text + s + 3, place, p);
    if (name) text[s + 3 + p] = '/';
    if (name) memcpy(text + s + 3 + p + 1, name, n - 1);
    text[s + 3 + p + n] = '\0';
    return text;
}

rv_status rvl_check_data_ref(const char *scheme, const char *place, const char *name,
                             rv_error *err) {
    size_t size = strlen(scheme) + 3 + strlen(place) + 1 + strlen(name);
    if (size <= RV_BUNDLE_MAX_TEXT) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_BUNDLE_MAX_TEXT, size,
                            "the names are too long: the data_ref %s://... would have "
                            "%zu bytes, at most %u are allowed",
                            scheme, size, RV_BUNDLE_MAX_TEXT);
}

/* That the bundle is one, is whole, and is what was asked for. */
static rv_status check_bundle(const rv_bundle *b, uint64_t seed, uint64_t rerank,
                              rv_error *err) {
    if (!b) return rvb_fail(err, RV_ERR_VALUE, "bundle: there is none");
    if (!rv_bundle_verify(b))
        return rvb_fail(err, RV_ERR_WITNESS,
                        "bundle: its witness is not that of its fields");
    if (b->rotation_seed != seed)
        return rvb_fail_numbers(err, RV_ERR_VALUE, seed, b->rotation_seed,
                                "bundle: rotation_seed is %" PRIu64
                                ", asked for was %" PRIu64,
                                b->rotation_seed, seed);
    if (b->rerank_factor != rerank)
        return rvb_fail_numbers(err, RV_ERR_VALUE, rerank, b->rerank_factor,
                                "bundle: rerank_factor is %" PRIu64
                                ", asked for was %" PRIu64,
                                b->rerank_factor, rerank);
    return RV_OK;
}

static rv_status call_bundle(rv_backend *backend, const char *collection, uint64_t seed,
                             uint64_t rerank, rv_bundle **out, rv_error *err) {
    rv_error why = {0};
    rv_bundle *b = NULL;
    rv_status status =
        backend->calls.bundle(backend->ctx, collection, seed, rerank, &b, &why);
    if (status != RV_OK) return translate(backend, collection, status, &why, err);
    if (check_bundle(b, seed, rerank, &why) != RV_OK) {
        rv_bundle_free(b);
        return blame(backend, &why, err);
    }
    *out = b;
    return RV_OK;
}

static rv_status seal_pull(const rv_backend *backend, const char *data_ref, uint64_t seed,
                           uint64_t rerank, const rv_pull *pull, rv_bundle **out,
                           rv_error *err) {
    if (!data_ref) return rvb_fail_memory(err, RV_BUNDLE_MAX_TEXT);
    rv_error why = {0};
    const rv_bundle fields = {.data_ref = rvl_text(data_ref),
                              .dim = pull->dim,
                              .rotation_seed = seed,
                              .rerank_factor = rerank,
                              .generation = pull->generation};
    rv_status status = rv_bundle_sealed(&fields, out, &why);
    return status == RV_OK ? RV_OK : translate(backend, NULL, status, &why, err);
}

rv_status rvl_backend_bundle_of_pull(rv_backend *backend, const char *collection,
                                     uint64_t rotation_seed, uint64_t rerank_factor,
                                     const rv_pull *pull, rv_bundle **out,
                                     rv_error *err) {
    *out = NULL;
    if (backend->data_ref_of_pull)
        return seal_pull(backend, backend->data_ref_of_pull(pull), rotation_seed,
                         rerank_factor, pull, out, err);
    if (!backend->calls.bundle) {
        char *ref = rvl_data_ref(backend->id, collection, NULL);
        rv_status status =
            seal_pull(backend, ref, rotation_seed, rerank_factor, pull, out, err);
        rvb_free(ref);
        return status;
    }
    rv_bundle *present = NULL;
    RVB_TRY(
        call_bundle(backend, collection, rotation_seed, rerank_factor, &present, err));
    rv_error why = {0};
    rv_bundle fields = *present;
    fields.dim = pull->dim;
    fields.generation = pull->generation;
    fields.generation_text = (rv_text){NULL, 0};
    rv_status status = rv_bundle_sealed(&fields, out, &why);
    rv_bundle_free(present);
    return status == RV_OK ? RV_OK : translate(backend, NULL, status, &why, err);
}

rv_status rv_backend_bundle(rv_backend *backend, const char *collection,
                            uint64_t rotation_seed, uint64_t rerank_factor,
                            rv_bundle **out, rv_error *err) {
    *out = NULL;
    if (backend->calls.bundle)
        return call_bundle(backend, collection, rotation_seed, rerank_factor, out, err);
    rv_pull pull;
    RVB_TRY(rv_backend_pull(backend, collection, &pull, err));
    rv_status status = rvl_backend_bundle_of_pull(backend, collection, rotation_seed,
                                                  rerank_factor, &pull, out, err);
    rv_pull_release(&pull);
    return status;
}

/* ---- rows given to backends ----------------------------------------------------- */

/* All exponent bits set: NaN or infinity. Without a branch, so that it is fast. */
static bool row_is_finite(const float *row, uint32_t dim) {
    uint32_t bad = 0;
    for (uint32_t j = 0; j < dim; j++) {
        uint32_t bits;
        memcpy(&bits, row + j, sizeof bits);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return !bad;
}

static rv_status check_values(const char *call, const float *vectors, uint32_t dim,
                              const uint64_t *ids, uint64_t n, rv_error *err) {
    for (uint64_t i = 0; i < n; i++, vectors += dim) {
        if (ids[i] == RV_NO_ID)
            return rvb_fail(err, RV_ERR_ARGUMENT,
                            "%s: the id of row %" PRIu64 " is 2^64-1, which stands for "
                            "no id",
                            call, i);
        if (row_is_finite(vectors, dim)) continue;
        uint32_t j = 0;
        while (isfinite(vectors[j])) j++;
        return rvb_fail(err, RV_ERR_VALUE,
                        "%s: row %" PRIu64 " holds %s at position %" PRIu32, call, i,
                        isnan(vectors[j]) ? "NaN" : "infinity", j);
    }
    return RV_OK;
}

rv_status rvl_check_rows(const char *call, const rv_rows *rows, rv_error *err) {
    uint64_t n = rows->n;
    uint32_t dim = rows->dim;
    if (dim > RV_MAX_DIM || dim == 0)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RV_MAX_DIM, dim,
                                "%s: dim=%" PRIu32 " outside (0, %u]", call, dim,
                                RV_MAX_DIM);
    if (n > RV_PULL_MAX_ROWS)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_ROWS, n,
                                "%s: %" PRIu64 " vectors exceeds cap %" PRIu64, call, n,
                                RV_PULL_MAX_ROWS);
    uint64_t bytes = n * dim * sizeof(float);
    if (bytes > RV_PULL_MAX_BYTES)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_BYTES, bytes,
                                "%s: %" PRIu64 " bytes exceeds cap %" PRIu64, call, bytes,
                                RV_PULL_MAX_BYTES);
    if (n && (!rows->vectors || !rows->ids))
        return rvb_fail(err, RV_ERR_ARGUMENT, "%s: ids or vectors are missing", call);
    return check_values(call, rows->vectors, dim, rows->ids, n, err);
}
