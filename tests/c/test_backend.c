/* Calls to backends: what is believed, what is refused, and whose failure it is. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failing_allocator.h"
#include "lake/source_i.h"

static rv_error error;

/* A backend that does as it is told. */
typedef struct fake {
    rv_status fails; /* what every call returns */
    bool silent;     /* and without a message */
    rv_pull pull;
    rv_bundle bundle;     /* fields of the bundle, */
    bool break_witness;   /* which then gets another digit, */
    bool no_bundle;       /* or is not given at all */
    const char *names[4]; /* collections */
    uint64_t token;
    int pulls, released_pulls, released;
} fake;

static rv_status answer(const fake *f, const char *collection, rv_error *err) {
    if (strcmp(collection, "missing") == 0) return RV_ERR_NOT_FOUND;
    if (f->fails == RV_OK || f->silent) return f->fails;
    rvb_fail_numbers(err, f->fails, 5, 6, "it is broken");
    err->os_errno = ENOSPC;
    rvb_error_path(err, "/some/file");
    return f->fails;
}

static void release_fake_pull(void *owner) { ((fake *)owner)->released_pulls++; }

static rv_status fake_list(void *ctx,
                           rv_status (*each)(void *names, const char *collection,
                                             rv_error *err),
                           void *names, rv_error *err) {
    fake *f = ctx;
    RVB_TRY(answer(f, "", err));
    for (size_t i = 0; i < 4 && f->names[i]; i++) RVB_TRY(each(names, f->names[i], err));
    return RV_OK;
}

static rv_status fake_pull(void *ctx, const char *collection, rv_pull *out,
                           rv_error *err) {
    fake *f = ctx;
    RVB_TRY(answer(f, collection, err));
    f->pulls++;
    *out = f->pull;
    out->release = release_fake_pull;
    out->owner = f;
    return RV_OK;
}

static rv_status fake_generation(void *ctx, const char *collection, uint64_t *out,
                                 rv_error *err) {
    fake *f = ctx;
    *out = f->pull.generation;
    return answer(f, collection, err);
}

static rv_status fake_bundle(void *ctx, const char *collection, uint64_t seed,
                             uint64_t rerank, rv_bundle **out, rv_error *err) {
    fake *f = ctx;
    RVB_TRY(answer(f, collection, err));
    if (f->no_bundle) return RV_OK;
    rv_bundle fields = f->bundle;
    if (!fields.rotation_seed) fields.rotation_seed = seed;
    if (!fields.rerank_factor) fields.rerank_factor = rerank;
    RVB_TRY(rv_bundle_sealed(&fields, out, err));
    if (f->break_witness) ((char *)(uintptr_t)(*out)->witness.data)[63] ^= 1;
    return RV_OK;
}

static rv_status fake_token(void *ctx, const char *collection, uint64_t out[4],
                            rv_error *err) {
    fake *f = ctx;
    for (uint64_t i = 0; i < 4; i++) out[i] = f->token + i;
    return answer(f, collection, err);
}

static void fake_release(void *ctx) { ((fake *)ctx)->released++; }

static const uint64_t some_ids[] = {7, 8};
static const float some_rows[] = {1, 2, 3, 4, 5, 6};

static fake working(void) {
    return (fake){.pull = {.ids = some_ids,
                           .n_ids = 2,
                           .vectors = some_rows,
                           .n = 2,
                           .dim = 3,
                           .generation = 11},
                  .bundle = {.data_ref = {"s3://there", 10}, .dim = 3, .generation = 11},
                  .names = {"b", "a"},
                  .token = 70};
}

enum { WITH_BUNDLE = 1, WITH_TOKEN = 2 };

static rv_backend *make(fake *f, unsigned with) {
    rv_backend_calls calls = {.size = sizeof calls,
                              .list = fake_list,
                              .pull = fake_pull,
                              .generation = fake_generation,
                              .bundle = with & WITH_BUNDLE ? fake_bundle : NULL,
                              .token = with & WITH_TOKEN ? fake_token : NULL,
                              .release = fake_release};
    rv_backend *b = NULL;
    if (rv_backend_new("b1", &calls, f, &b, &error) != RV_OK)
        fail_msg("%s", error.message);
    return b;
}

/* ---- life ----------------------------------------------------------------------- */

static void owners(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = make(&f, 0);
    assert_string_equal(rv_backend_id(b), "b1");
    assert_ptr_equal(rv_backend_retain(b), b);
    rv_backend_free(b);
    assert_int_equal(f.released, 0);
    rv_backend_free(b);
    assert_int_equal(f.released, 1);
    rv_backend_free(NULL);
}

static void backends_that_cannot_be(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = (rv_backend *)&f;
    rv_backend_calls calls = {.size = sizeof calls,
                              .list = fake_list,
                              .pull = fake_pull,
                              .release = fake_release};
    assert_int_equal(rv_backend_new("x", &calls, &f, &b, &error), RV_ERR_ARGUMENT);
    assert_string_equal(error.message, "backend x lacks list, pull or generation");
    assert_null(b);
    calls.generation = fake_generation;
    assert_int_equal(rv_backend_new(NULL, &calls, &f, &b, &error), RV_ERR_ARGUMENT);
    assert_int_equal(rv_backend_new("\xFF", &calls, &f, &b, &error), RV_ERR_ARGUMENT);
    calls.size = sizeof calls + 8;
    assert_int_equal(rv_backend_new("x", &calls, &f, &b, &error), RV_ERR_ARGUMENT);
    failing_allocator_install(1);
    calls.size = sizeof calls;
    assert_int_equal(rv_backend_new("x", &calls, &f, &b, &error), RV_ERR_MEMORY);
    failing_allocator_remove();
    calls.size = RV_BACKEND_CALLS_0_1_0_SIZE - 1;
    assert_int_equal(rv_backend_new("x", &calls, &f, &b, &error), RV_ERR_ARGUMENT);
    assert_int_equal(f.released, 0); /* it is still the caller's */
}

/* ---- failures ------------------------------------------------------------------- */

static rv_status add_name(void *names, const char *collection, rv_error *err) {
    char *text = names;
    if (strlen(text) > 2) return rvb_fail(err, RV_ERR_LIMIT, "enough names");
    strcat(strcat(text, collection), " ");
    return RV_OK;
}

/* Makes call number `which` of the five. */
static rv_status call(rv_backend *b, int which, const char *collection, rv_error *err) {
    rv_pull pull;
    uint64_t numbers[4];
    rv_bundle *bundle = NULL;
    char names[16] = "";
    bool has;
    rv_status status;
    switch (which) {
    case 0:
        status = rv_backend_pull(b, collection, &pull, err);
        if (status != RV_OK) assert_null(pull.release);
        rv_pull_release(&pull);
        rv_pull_release(&pull); /* twice is once */
        return status;
    case 1:
        return rv_backend_generation(b, collection, numbers, err);
    case 2:
        status = rv_backend_bundle(b, collection, 42, 20, &bundle, err);
        assert_true((status == RV_OK) == (bundle != NULL));
        rv_bundle_free(bundle);
        return status;
    case 3:
        return rvl_backend_token(b, collection, numbers, &has, err);
    default:
        return rv_backend_list(b, add_name, names, err);
    }
}

static void failures_name_the_backend(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = make(&f, WITH_BUNDLE | WITH_TOKEN);
    for (int which = 0; which < 5; which++) {
        f.fails = RV_OK;
        assert_int_equal(call(b, which, "c", NULL), RV_OK);
        if (which < 4) {
            assert_int_equal(call(b, which, "missing", &error), RV_ERR_NOT_FOUND);
            assert_string_equal(error.message, "unknown collection: b1/missing");
            assert_int_equal(error.code, RV_ERR_NOT_FOUND);
        }
        static const rv_status kinds[] = {RV_ERR_IO, RV_ERR_FORMAT, RV_ERR_BACKEND,
                                          RV_ERR_WITNESS, (rv_status)999};
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            f.fails = kinds[i];
            assert_int_equal(call(b, which, "c", &error), RV_ERR_BACKEND);
            assert_int_equal(error.code, RV_ERR_BACKEND);
            assert_string_equal(error.message, "backend error (b1): it is broken");
            assert_string_equal(error.path, "/some/file");
            assert_int_equal(error.os_errno, ENOSPC);
            assert_int_equal(error.expected, 5);
            assert_int_equal(error.actual, 6);
            assert_int_equal(call(b, which, "c", NULL), RV_ERR_BACKEND);
        }
        static const rv_status own[] = {RV_ERR_MEMORY, RV_ERR_CANCELLED};
        for (size_t i = 0; i < 2; i++) {
            f.fails = own[i];
            assert_int_equal(call(b, which, "c", &error), own[i]);
            assert_int_equal(error.code, own[i]);
            assert_string_equal(error.message, "it is broken");
        }
        f.silent = true;
        f.fails = RV_ERR_IO;
        assert_int_equal(call(b, which, "c", &error), RV_ERR_BACKEND);
        assert_string_equal(error.message, "backend error (b1): io");
        f.silent = false;
    }
    rv_backend_free(b);
}

static void listing(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = make(&f, 0);
    char names[16] = "";
    assert_int_equal(rv_backend_list(b, add_name, names, &error), RV_OK);
    assert_string_equal(names, "b a ");
    /* the callback's failure is not the backend's */
    assert_int_equal(rv_backend_list(b, add_name, names, &error), RV_ERR_LIMIT);
    assert_string_equal(error.message, "enough names");
    names[0] = '\0';
    f.names[0] = "\xC3(";
    assert_int_equal(rv_backend_list(b, add_name, names, &error), RV_ERR_BACKEND);
    assert_string_equal(names, "");
    f.fails = RV_ERR_NOT_FOUND; /* means nothing here */
    assert_int_equal(rv_backend_list(b, add_name, names, &error), RV_ERR_BACKEND);
    rv_backend_free(b);
}

/* ---- pulls ---------------------------------------------------------------------- */

static void good_pulls(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = make(&f, 0);
    rv_pull pull;
    assert_int_equal(rv_backend_pull(b, "c", &pull, &error), RV_OK);
    assert_ptr_equal(pull.ids, some_ids);
    assert_ptr_equal(pull.vectors, some_rows);
    assert_true(pull.n == 2 && pull.dim == 3 && pull.generation == 11);
    rv_pull_release(&pull);
    assert_int_equal(f.released_pulls, 1);
    assert_null(pull.ids);
    f.pull = (rv_pull){.dim = 8192}; /* no rows are fine */
    assert_int_equal(rv_backend_pull(b, "c", &pull, &error), RV_OK);
    rv_pull_release(&pull);
    rv_backend_free(b);
}

static void pulls_over_a_limit(void **state) {
    (void)state;
    static const struct {
        uint64_t n_ids, n, dim;
        bool no_ids, no_vectors;
        const char *detail; /* NULL: all is well */
    } cases[] = {
        {2, 2, 3, 0, 0, NULL},
        {1, 2, 3, 0, 0, "PulledBatch: ids.len=1 != vectors.len=2"},
        {3, 200000000, 0, 0, 0, "PulledBatch: ids.len=3 != vectors.len=200000000"},
        {100000001, 100000001, 0, 0, 0,
         "PulledBatch: 100000001 vectors exceeds cap 100000000"},
        {UINT64_MAX, UINT64_MAX, 3, 0, 0,
         "PulledBatch: 18446744073709551615 vectors exceeds cap 100000000"},
        {2, 2, 0, 0, 0, "PulledBatch: dim=0 outside (0, 8192]"},
        {2, 2, 8193, 0, 0, "PulledBatch: dim=8193 outside (0, 8192]"},
        {2, 2, UINT64_MAX, 0, 0, "PulledBatch: dim=18446744073709551615 outside"},
        {0, 0, 0, 0, 0, "PulledBatch: dim=0 outside (0, 8192]"},
        {100000000, 100000000, 42, 0, 0, NULL}, /* 16.8e9 bytes */
        {100000000, 100000000, 43, 0, 0,
         "PulledBatch: 17200000000 bytes exceeds cap 17179869184"},
        {524288, 524288, 8192, 0, 0, NULL}, /* exactly 16 GiB */
        {524289, 524289, 8192, 0, 0,
         "PulledBatch: 17179901952 bytes exceeds cap 17179869184"},
        {2, 2, 3, true, 0, "PulledBatch: ids or vectors are missing"},
        {2, 2, 3, 0, true, "PulledBatch: ids or vectors are missing"},
    };
    fake f = working();
    rv_backend *b = make(&f, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rv_pull pull;
        char wanted[160];
        f.pull.n_ids = cases[i].n_ids;
        f.pull.n = cases[i].n;
        f.pull.dim = cases[i].dim;
        f.pull.ids = cases[i].no_ids ? NULL : some_ids;
        f.pull.vectors = cases[i].no_vectors ? NULL : some_rows;
        f.released_pulls = 0;
        rv_status status = rv_backend_pull(b, "c", &pull, &error);
        if (status == RV_OK) rv_pull_release(&pull);
        assert_int_equal(f.released_pulls, 1);
        assert_int_equal(status, cases[i].detail ? RV_ERR_BACKEND : RV_OK);
        if (!cases[i].detail) continue;
        assert_null(pull.vectors);
        snprintf(wanted, sizeof wanted, "backend error (b1): %s", cases[i].detail);
        if (!strstr(error.message, wanted)) fail_msg("%s", error.message);
    }
    rv_backend_free(b);
}

/* ---- bundles and tokens --------------------------------------------------------- */

static bool is_text(rv_text text, const char *string) {
    return text.size == strlen(string) && memcmp(text.data, string, text.size) == 0;
}

static void bundles_made_from_a_pull(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = make(&f, 0);
    rv_bundle *bundle;
    assert_int_equal(rv_backend_bundle(b, "docs", 42, 20, &bundle, &error), RV_OK);
    assert_true(is_text(bundle->data_ref, "b1://docs"));
    assert_true(bundle->dim == 3 && bundle->generation == 11);
    assert_true(bundle->rotation_seed == 42 && bundle->rerank_factor == 20);
    assert_null(bundle->generation_text.data);
    assert_true(rv_bundle_verify(bundle));
    assert_int_equal(f.pulls, 1);
    assert_int_equal(f.released_pulls, 1);
    rv_bundle_free(bundle);
    rv_backend_free(b);
}

static void bundles_of_the_backend(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = make(&f, WITH_BUNDLE);
    rv_bundle *bundle;
    f.bundle.generation_text = rvl_text("snap-1");
    f.bundle.pii_policy = rvl_text("none");
    assert_int_equal(rv_backend_bundle(b, "docs", 42, 20, &bundle, &error), RV_OK);
    assert_true(is_text(bundle->data_ref, "s3://there"));
    assert_true(is_text(bundle->generation_text, "snap-1"));
    assert_true(is_text(bundle->pii_policy, "none"));
    assert_int_equal(f.pulls, 0);
    rv_bundle_free(bundle);

    f.break_witness = true;
    assert_int_equal(rv_backend_bundle(b, "docs", 42, 20, &bundle, &error),
                     RV_ERR_BACKEND);
    assert_string_equal(
        error.message,
        "backend error (b1): bundle: its witness is not that of its fields");
    assert_null(bundle);
    f.break_witness = false;
    f.bundle.rotation_seed = 43;
    assert_int_equal(rv_backend_bundle(b, "docs", 42, 20, &bundle, &error),
                     RV_ERR_BACKEND);
    assert_string_equal(
        error.message,
        "backend error (b1): bundle: rotation_seed is 43, asked for was 42");
    assert_int_equal(error.expected, 42);
    assert_int_equal(error.actual, 43);
    f.bundle.rotation_seed = 42;
    f.bundle.rerank_factor = 19;
    assert_int_equal(rv_backend_bundle(b, "docs", 42, 20, &bundle, &error),
                     RV_ERR_BACKEND);
    assert_string_equal(
        error.message,
        "backend error (b1): bundle: rerank_factor is 19, asked for was 20");
    f.no_bundle = true;
    assert_int_equal(rv_backend_bundle(b, "docs", 42, 20, &bundle, &error),
                     RV_ERR_BACKEND);
    rv_backend_free(b);
}

static void bundles_of_one_pull(void **state) {
    (void)state;
    fake f = working();
    rv_pull pull = f.pull;
    rv_bundle *bundle;
    f.pull.generation = 99; /* what it has now */
    f.bundle.generation = 99;
    f.bundle.dim = 77;
    for (unsigned with = 0; with <= WITH_BUNDLE; with += WITH_BUNDLE) {
        rv_backend *b = make(&f, with);
        assert_int_equal(
            rvl_backend_bundle_of_pull(b, "docs", 42, 20, &pull, &bundle, &error), RV_OK);
        assert_true(is_text(bundle->data_ref, with ? "s3://there" : "b1://docs"));
        assert_true(bundle->dim == 3 && bundle->generation == 11);
        assert_true(rv_bundle_verify(bundle));
        rv_bundle_free(bundle);
        rv_backend_free(b);
    }
    assert_int_equal(f.pulls, 0);
}

static void tokens(void **state) {
    (void)state;
    fake f = working();
    uint64_t token[4];
    bool has = false;
    rv_backend *b = make(&f, WITH_TOKEN | WITH_BUNDLE);
    assert_int_equal(rvl_backend_token(b, "c", token, &has, &error), RV_OK);
    assert_true(has && token[0] == 70 && token[3] == 73);
    rv_backend_free(b);
    b = make(&f, 0);
    assert_int_equal(rvl_backend_token(b, "c", token, &has, &error), RV_OK);
    assert_true(has && token[0] == 11 && !token[1] && !token[2] && !token[3]);
    rv_backend_free(b);
    b = make(&f, WITH_BUNDLE);
    assert_int_equal(rvl_backend_token(b, "c", token, &has, &error), RV_OK);
    assert_false(has);
    rv_backend_free(b);
}

static void long_names_cannot_be_bundled(void **state) {
    (void)state;
    fake f = working();
    rv_backend *b = make(&f, 0);
    rv_bundle *bundle;
    char name[5000];
    memset(name, 'n', sizeof name);
    name[4096 - 5] = '\0'; /* behind "b1://" */
    assert_int_equal(rv_backend_bundle(b, name, 1, 1, &bundle, &error), RV_OK);
    rv_bundle_free(bundle);
    name[4096 - 5] = 'n';
    name[4097 - 5] = '\0';
    assert_int_equal(rv_backend_bundle(b, name, 1, 1, &bundle, &error), RV_ERR_BACKEND);
    assert_int_equal(f.pulls, f.released_pulls);
    rv_backend_free(b);
}

static void without_memory(void **state) {
    (void)state;
    fake f = working();
    for (unsigned with = 0; with <= WITH_BUNDLE; with += WITH_BUNDLE) {
        rv_backend *b = make(&f, with);
        for (size_t n = 1;; n++) {
            rv_pull pull = f.pull;
            rv_bundle *bundle = NULL, *other = NULL;
            failing_allocator_install(n);
            rv_status status = rv_backend_bundle(b, "c", 1, 1, &bundle, &error);
            if (status == RV_OK)
                status = rvl_backend_bundle_of_pull(b, "c", 1, 1, &pull, &other, &error);
            rv_bundle_free(bundle);
            rv_bundle_free(other);
            bool reached = failing_allocator_calls() >= n;
            assert_int_equal(failing_allocator_live(), 0);
            failing_allocator_remove();
            assert_int_equal(status, reached ? RV_ERR_MEMORY : RV_OK);
            if (!reached) break;
        }
        rv_backend_free(b);
    }
}

/* ---- names ---------------------------------------------------------------------- */

static rv_status stop_at_7(void *ctx, const char *name, rv_error *err) {
    const char **last = ctx;
    (void)err;
    assert_true(strcmp(*last, name) < 0);
    *last = name;
    return strcmp(name, "007") == 0 ? RV_ERR_CANCELLED : RV_OK;
}

static void records_are_kept_in_order(void **state) {
    (void)state;
    enum { N = 300 };
    static char texts[N][8];
    rvl_named records[N];
    rvl_names names = {0};
    assert_null(rvl_names_find(&names, "x"));
    for (size_t i = 0; i < N; i++) {
        snprintf(texts[i], sizeof texts[i], "%03zu", i * 7 % N);
        records[i].name = texts[i];
        assert_int_equal(rvl_names_reserve(&names, &error), RV_OK);
        assert_int_equal(rvl_names_reserve(&names, &error), RV_OK);
        rvl_names_cancel(&names);
        rvl_names_add(&names, &records[i]);
    }
    assert_int_equal(names.n, N);
    assert_int_equal(names.promised, 0);
    for (size_t i = 0; i < N; i++) {
        assert_ptr_equal(rvl_names_find(&names, texts[i]), &records[i]);
        if (i)
            assert_true(strcmp(names.records[i - 1]->name, names.records[i]->name) < 0);
    }
    assert_null(rvl_names_find(&names, "0000"));
    rvb_rwlock *lock = rvb_rwlock_create();
    const char *last = "";
    assert_int_equal(rvl_names_each(&names, lock, stop_at_7, &last, &error),
                     RV_ERR_CANCELLED);
    assert_string_equal(last, "007");
    rvb_rwlock_free(lock);

    /* what is promised needs no memory later */
    while (names.n + names.promised < names.capacity)
        assert_int_equal(rvl_names_reserve(&names, &error), RV_OK);
    failing_allocator_install(1);
    assert_int_equal(rvl_names_reserve(&names, &error), RV_ERR_MEMORY);
    failing_allocator_remove();
    assert_int_equal(names.n + names.promised, names.capacity);
    rvb_free(names.records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owners),
        cmocka_unit_test(backends_that_cannot_be),
        cmocka_unit_test(failures_name_the_backend),
        cmocka_unit_test(listing),
        cmocka_unit_test(good_pulls),
        cmocka_unit_test(pulls_over_a_limit),
        cmocka_unit_test(bundles_made_from_a_pull),
        cmocka_unit_test(bundles_of_the_backend),
        cmocka_unit_test(bundles_of_one_pull),
        cmocka_unit_test(tokens),
        cmocka_unit_test(long_names_cannot_be_bundled),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(records_are_kept_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
