/* Collections in memory: what each change does, that pulls are of one moment and cost
 * no copy, and that nothing is half changed. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failing_allocator.h"
#include "lake/source_i.h"
#include "meeting.h"

static rv_error error;
static rv_backend *local;

static int make_local(void **state) {
    (void)state;
    return rv_local_backend_new("mem", &local, &error) == RV_OK ? 0 : -1;
}

static int free_local(void **state) {
    (void)state;
    rv_backend_free(local);
    return 0;
}

static void ok(rv_status status) {
    if (status != RV_OK) fail_msg("%s", error.message);
}

static rv_pull pulled(const char *collection) {
    rv_pull pull;
    ok(rv_backend_pull(local, collection, &pull, &error));
    return pull;
}

static uint64_t generation(const char *collection) {
    uint64_t out = 0;
    ok(rv_backend_generation(local, collection, &out, &error));
    return out;
}

/* The rows of "c", each of `dim` numbers of which the first is given. */
static void assert_rows(uint64_t wanted_generation, uint32_t dim, size_t n,
                        const uint64_t *ids, const float *firsts) {
    rv_pull p = pulled("c");
    assert_int_equal(p.generation, wanted_generation);
    assert_int_equal(generation("c"), wanted_generation);
    assert_int_equal(p.dim, dim);
    assert_int_equal(p.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(p.ids[i], ids[i]);
        assert_true(p.vectors[i * dim] == firsts[i]);
        assert_true(p.vectors[i * dim + dim - 1] == -firsts[i]);
    }
    rv_pull_release(&p);
}

#define ROWS(generation, n, ...)                                                         \
    do {                                                                                 \
        const struct {                                                                   \
            uint64_t ids[n];                                                             \
            float firsts[n];                                                             \
        } wanted_ = {__VA_ARGS__};                                                       \
        assert_rows(generation, 2, n, wanted_.ids, wanted_.firsts);                      \
    } while (0)

/* ---- one change at a time ------------------------------------------------------- */

static void putting(void **state) {
    (void)state;
    const uint64_t ids[] = {5, 5, 1};
    const float rows[] = {1, -1, 2, -2, 3, -3}, wide[] = {7, 0, 0, -7};
    ok(rv_local_put(local, "c", &(rv_rows){rows, ids, 3, 2}, &error));
    ROWS(1, 3, {5, 5, 1}, {1, 2, 3});
    ok(rv_local_put(local, "c", &(rv_rows){rows + 2, ids + 1, 2, 2}, &error));
    ROWS(2, 2, {5, 1}, {2, 3});
    ok(rv_local_put(local, "c", &(rv_rows){wide, ids, 1, 4},
                    &error)); /* another dimension */
    assert_rows(3, 4, 1, ids, wide);
    ok(rv_local_put(local, "c", &(rv_rows){NULL, NULL, 0, 2}, &error));
    assert_rows(4, 2, 0, NULL, NULL);
    assert_int_equal(generation("c"), 4);
}

static void appending(void **state) {
    (void)state;
    const uint64_t ids[] = {5};
    const float rows[] = {1, -1, 2, -2, 3, -3};
    assert_int_equal(rv_local_append(local, "c", 1, rows, 2, &error), RV_ERR_NOT_FOUND);
    assert_string_equal(error.message, "unknown collection: mem/c");
    ok(rv_local_put(local, "c", &(rv_rows){rows, ids, 1, 2}, &error));
    ok(rv_local_append(local, "c", 9, rows + 2, 2, &error));
    ok(rv_local_append(local, "c", 5, rows + 4, 2, &error)); /* stands twice now */
    ROWS(3, 3, {5, 9, 5}, {1, 2, 3});
    assert_int_equal(rv_local_append(local, "c", 9, rows, 3, &error), RV_ERR_DIM);
    assert_string_equal(
        error.message, "dimension mismatch: collection dim=2, vectors dim=3; put vectors "
                       "of another model into another collection");
    assert_int_equal(error.expected, 2);
    assert_int_equal(error.actual, 3);
    ROWS(3, 3, {5, 9, 5}, {1, 2, 3});

    ok(rv_local_put(local, "open", &(rv_rows){NULL, NULL, 0, 0},
                    &error)); /* of no dimension yet */
    rv_pull p;
    assert_int_equal(rv_backend_pull(local, "open", &p, &error), RV_ERR_BACKEND);
    ok(rv_local_append(local, "open", 9, rows, 3, &error));
    p = pulled("open");
    assert_true(p.dim == 3 && p.n == 1 && p.generation == 2);
    rv_pull_release(&p);
}

static void upserting(void **state) {
    (void)state;
    const float rows[] = {1, -1, 2, -2, 3, -3, 4, -4};
    const uint64_t first[] = {5, 9}, more[] = {7, 9, 8, 9}, twice[] = {6, 6, 0, 6};
    ok(rv_local_upsert(local, "c", &(rv_rows){rows, first, 2, 2}, &error));
    ROWS(1, 2, {5, 9}, {1, 2});
    ok(rv_local_upsert(local, "c", &(rv_rows){rows, more, 4, 2},
                       &error)); /* of the two 9s the last */
    ROWS(2, 4, {5, 9, 7, 8}, {1, 4, 1, 3});
    ok(rv_local_upsert(local, "c", &(rv_rows){rows, twice, 4, 2}, &error));
    ROWS(3, 6, {5, 9, 7, 8, 6, 0}, {1, 4, 1, 3, 4, 3});
    ok(rv_local_append(local, "c", 9, rows + 4, 2, &error));
    ok(rv_local_upsert(local, "c", &(rv_rows){rows, more + 1, 1, 2},
                       &error)); /* both rows of 9 */
    ROWS(5, 7, {5, 9, 7, 8, 6, 0, 9}, {1, 1, 1, 3, 4, 3, 1});
    ok(rv_local_upsert(local, "c", &(rv_rows){NULL, NULL, 0, 2},
                       &error)); /* one step per call */
    assert_int_equal(generation("c"), 6);
    assert_int_equal(rv_local_upsert(local, "c", &(rv_rows){rows, first, 1, 4}, &error),
                     RV_ERR_DIM);
    assert_int_equal(generation("c"), 6);
    ok(rv_local_upsert(local, "new", &(rv_rows){NULL, NULL, 0, 4}, &error));
    assert_int_equal(generation("new"), 1);
    assert_int_equal(rv_local_upsert(local, "new", &(rv_rows){rows, first, 1, 2}, &error),
                     RV_ERR_DIM);
}

static void removing(void **state) {
    (void)state;
    const float rows[] = {1, -1, 2, -2, 3, -3, 4, -4, 5, -5};
    const uint64_t ids[] = {5, 9, 5, 7, 8}, gone[] = {5, 8, 5, 77}, absent[] = {77};
    uint64_t removed = 99;
    assert_int_equal(rv_local_remove(local, "c", ids, 1, &removed, &error),
                     RV_ERR_NOT_FOUND);
    ok(rv_local_put(local, "c", &(rv_rows){rows, ids, 5, 2}, &error));
    ok(rv_local_remove(local, "c", absent, 1, &removed, &error));
    assert_int_equal(removed, 0);
    assert_int_equal(generation("c"), 1); /* nothing has changed */
    ok(rv_local_remove(local, "c", gone, 4, &removed, &error));
    assert_int_equal(removed, 3);
    ROWS(2, 2, {9, 7}, {2, 4});
    ok(rv_local_remove(local, "c", NULL, 0, NULL, &error));
    ok(rv_local_remove(local, "c", ids, 5, NULL, &error));
    assert_rows(3, 2, 0, NULL, NULL);
    ok(rv_local_append(local, "c", 1, rows, 2, &error));
    ROWS(4, 1, {1}, {1});
}

static void bad_input_changes_nothing(void **state) {
    (void)state;
    const uint64_t ids[] = {5, 9}, reserved[] = {1, UINT64_MAX};
    const float rows[] = {1, -1, 2, -2};
    const float bad[3][4] = {{1, 2, NAN, 4}, {1, 2, 3, INFINITY}, {-INFINITY, 2, 3, 4}};
    static const char *const words[] = {"row 1 holds NaN at position 0",
                                        "row 1 holds infinity at position 1",
                                        "row 0 holds infinity at position 0"};
    ok(rv_local_put(local, "c", &(rv_rows){rows, ids, 2, 2}, &error));
    for (size_t i = 0; i < 3; i++) {
        char wanted[80];
        assert_int_equal(rv_local_put(local, "c", &(rv_rows){bad[i], ids, 2, 2}, &error),
                         RV_ERR_VALUE);
        snprintf(wanted, sizeof wanted, "put: %s", words[i]);
        assert_string_equal(error.message, wanted);
        assert_int_equal(
            rv_local_upsert(local, "c", &(rv_rows){bad[i], ids, 2, 2}, &error),
            RV_ERR_VALUE);
        assert_int_equal(
            rv_local_upsert(local, "new", &(rv_rows){bad[i], ids, 2, 2}, &error),
            RV_ERR_VALUE);
        assert_int_equal(rv_local_append(local, "c", 1, bad[i], 4, &error), RV_ERR_VALUE);
    }
    static const uint32_t dims[] = {0, 8193, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(
            rv_local_put(local, "c", &(rv_rows){rows, ids, 2, dims[i]}, &error),
            RV_ERR_ARGUMENT);
        assert_int_equal(rv_local_append(local, "c", 1, rows, dims[i], &error),
                         RV_ERR_ARGUMENT);
        assert_int_equal(
            rv_local_upsert(local, "c", &(rv_rows){rows, ids, 2, dims[i]}, &error),
            RV_ERR_ARGUMENT);
    }
    assert_int_equal(rv_local_put(local, "c", &(rv_rows){rows, reserved, 2, 2}, &error),
                     RV_ERR_ARGUMENT);
    assert_string_equal(error.message, "put: the id of row 1 is 2^64-1, which "
                                       "stands for no id");
    assert_int_equal(rv_local_append(local, "c", UINT64_MAX, rows, 2, &error),
                     RV_ERR_ARGUMENT);
    assert_int_equal(rv_local_put(local, "c", &(rv_rows){NULL, ids, 2, 2}, &error),
                     RV_ERR_ARGUMENT);
    assert_int_equal(rv_local_put(local, "c", &(rv_rows){rows, NULL, 2, 2}, &error),
                     RV_ERR_ARGUMENT);
    assert_int_equal(rv_local_remove(local, "c", NULL, 2, NULL, &error), RV_ERR_ARGUMENT);
    assert_int_equal(rv_local_put(local, "\xFF", &(rv_rows){rows, ids, 2, 2}, &error),
                     RV_ERR_ARGUMENT);
    /* refused before a row is looked at */
    assert_int_equal(
        rv_local_put(local, "c", &(rv_rows){rows, ids, 100000001, 2}, &error),
        RV_ERR_LIMIT);
    assert_int_equal(
        rv_local_put(local, "c", &(rv_rows){rows, ids, 524289, 8192}, &error),
        RV_ERR_LIMIT);
    assert_int_equal(
        rv_local_upsert(local, "c", &(rv_rows){rows, ids, UINT64_MAX, 2}, &error),
        RV_ERR_LIMIT);
    assert_int_equal(rv_local_remove(local, "c", ids, 100000001, NULL, &error),
                     RV_ERR_LIMIT);
    ROWS(1, 2, {5, 9}, {1, 2});
    uint64_t none;
    assert_int_equal(rv_backend_generation(local, "new", &none, &error),
                     RV_ERR_NOT_FOUND);
}

static void other_backends_are_refused(void **state) {
    (void)state;
    rv_backend_calls copy = *rvl_backend_calls(local);
    copy.release = NULL;
    rv_backend *other = NULL;
    const uint64_t id = 1;
    const float row[] = {1};
    ok(rv_backend_new("other", &copy, NULL, &other, &error));
    assert_int_equal(rv_local_put(other, "c", &(rv_rows){row, &id, 1, 1}, &error),
                     RV_ERR_ARGUMENT);
    assert_string_equal(error.message, "backend other is not one in memory");
    assert_int_equal(rv_local_append(other, "c", 1, row, 1, &error), RV_ERR_ARGUMENT);
    assert_int_equal(rv_local_upsert(other, "c", &(rv_rows){row, &id, 1, 1}, &error),
                     RV_ERR_ARGUMENT);
    assert_int_equal(rv_local_remove(other, "c", &id, 1, NULL, &error), RV_ERR_ARGUMENT);
    rv_backend_free(other);
}

/* ---- what a backend answers ----------------------------------------------------- */

static rv_status join(void *names, const char *name, rv_error *err) {
    (void)err;
    strcat(strcat(names, name), ",");
    return RV_OK;
}

static void answers(void **state) {
    (void)state;
    const uint64_t ids[] = {5};
    const float row[] = {1, 2};
    char names[64] = "";
    rv_bundle *bundle;
    uint64_t token[4], number;
    bool has;
    ok(rv_backend_list(local, join, names, &error));
    assert_string_equal(names, "");
    ok(rv_local_put(local, "docs", &(rv_rows){row, ids, 1, 2}, &error));
    ok(rv_local_put(local, "a", &(rv_rows){row, ids, 1, 1}, &error));
    ok(rv_local_append(local, "docs", 1, row, 2, &error));
    ok(rv_backend_list(local, join, names, &error));
    assert_string_equal(names, "a,docs,");

    ok(rv_backend_bundle(local, "docs", 42, 20, &bundle, &error));
    assert_memory_equal(bundle->data_ref.data, "local://mem/docs", 17);
    assert_true(bundle->dim == 2 && bundle->generation == 2);
    assert_true(rv_bundle_verify(bundle));
    rv_bundle_free(bundle);
    ok(rvl_backend_token(local, "docs", token, &has, &error));
    assert_true(has && token[0] == 2 && !token[1] && !token[2] && !token[3]);
    assert_true(rvl_backend_calls(local)->snapshots);

    assert_int_equal(rv_backend_generation(local, "none", &number, &error),
                     RV_ERR_NOT_FOUND);
    assert_int_equal(rv_backend_bundle(local, "none", 1, 1, &bundle, &error),
                     RV_ERR_NOT_FOUND);
    assert_int_equal(rvl_backend_token(local, "none", token, &has, &error),
                     RV_ERR_NOT_FOUND);
    rv_pull p;
    assert_int_equal(rv_backend_pull(local, "none", &p, &error), RV_ERR_NOT_FOUND);

    p = pulled("docs");
    ok(rv_local_append(local, "docs", 2, row, 2, &error));
    ok(rvl_backend_bundle_of_pull(local, "docs", 42, 20, &p, &bundle, &error));
    assert_int_equal(bundle->generation, 2); /* of the pull, not of now */
    rv_bundle_free(bundle);
    rv_pull_release(&p);
}

/* Digest of row 2 of the published table: a first put gives generation 1. */
static void a_published_witness(void **state) {
    (void)state;
    rv_backend *hot;
    rv_bundle *bundle;
    float row[768] = {1};
    const uint64_t id = 1;
    ok(rv_local_backend_new("hot-shard", &hot, &error));
    ok(rv_local_put(hot, "docs", &(rv_rows){row, &id, 1, 768}, &error));
    ok(rv_backend_bundle(hot, "docs", 42, 20, &bundle, &error));
    assert_memory_equal(
        bundle->witness.data,
        "789483ccb92077cb1f3791f327b0e0fa24f4854f88243ebf6f832890183bb568", 65);
    rv_bundle_free(bundle);
    rv_backend_free(hot);
}

/* ---- pulls are of one moment ---------------------------------------------------- */

static void pulls_do_not_change(void **state) {
    (void)state;
    const uint64_t ids[] = {1, 2, 3}, two[] = {2};
    const float rows[] = {1, -1, 2, -2, 3, -3}, other[] = {9, -9};
    ok(rv_local_put(local, "c", &(rv_rows){rows, ids, 2, 2}, &error));
    ok(rv_local_append(local, "c", 3, rows + 4, 2, &error)); /* leaves spare places */
    for (int change = 0; change < 4; change++) {
        rv_pull p = pulled("c"), q = pulled("c");
        assert_ptr_equal(p.vectors, q.vectors); /* no copy */
        rv_pull_release(&q);
        assert_int_equal(p.n, 3);
        switch (change) {
        case 0:
            ok(rv_local_append(local, "c", 4, other, 2, &error));
            q = pulled("c");
            assert_ptr_equal(p.vectors, q.vectors); /* behind the pull's rows */
            rv_pull_release(&q);
            break;
        case 1:
            ok(rv_local_upsert(local, "c", &(rv_rows){other, two, 1, 2}, &error));
            break;
        case 2:
            ok(rv_local_remove(local, "c", two, 1, NULL, &error));
            break;
        default:
            ok(rv_local_put(local, "c", &(rv_rows){other, two, 1, 2}, &error));
        }
        assert_memory_equal(p.ids, ids, sizeof ids);
        assert_memory_equal(p.vectors, rows, sizeof rows);
        rv_pull_release(&p);
        ok(rv_local_put(local, "c", &(rv_rows){rows, ids, 2, 2}, &error));
        ok(rv_local_append(local, "c", 3, rows + 4, 2, &error));
    }
    /* alone, it changes rows where they stand */
    rv_pull p = pulled("c");
    const float *before = p.vectors;
    rv_pull_release(&p);
    ok(rv_local_upsert(local, "c", &(rv_rows){other, two, 1, 2}, &error));
    p = pulled("c");
    assert_ptr_equal(p.vectors, before);
    assert_true(p.vectors[2] == 9);
    rv_pull_release(&p);
}

static void pulls_outlive_the_backend(void **state) {
    (void)state;
    rv_backend *b;
    const uint64_t id = 4;
    const float row[] = {8};
    rv_pull p;
    ok(rv_local_backend_new("gone", &b, &error));
    ok(rv_local_put(b, "c", &(rv_rows){row, &id, 1, 1}, &error));
    ok(rv_backend_pull(b, "c", &p, &error));
    rv_backend_free(b);
    assert_true(p.ids[0] == 4 && p.vectors[0] == 8);
    rv_pull_release(&p);
}

static void growth_is_amortised(void **state) {
    (void)state;
    const float row[] = {1, -1};
    ok(rv_local_put(local, "c", &(rv_rows){NULL, NULL, 0, 2}, &error));
    failing_allocator_install(0);
    for (uint64_t i = 0; i < 20000; i++)
        ok(rv_local_append(local, "c", i, row, 2, &error));
    assert_true(failing_allocator_calls() < 60); /* log(20000) / log(1.5) is 25 */
    rv_pull p = pulled("c");
    assert_int_equal(p.n, 20000);
    for (uint64_t i = 0; i < 20000; i++) assert_int_equal(p.ids[i], i);
    rv_pull_release(&p);
    ok(rv_local_put(local, "c", &(rv_rows){NULL, NULL, 0, 2}, &error));
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
}

/* ---- many changes against a simple model ---------------------------------------- */

enum { MODEL_ROWS = 4096, MODEL_IDS = 40 };

typedef struct model {
    uint64_t ids[MODEL_ROWS], generation;
    float values[MODEL_ROWS];
    size_t n;
} model;

static void model_upsert(model *m, const uint64_t *ids, const float *values, size_t n) {
    size_t old = m->n;
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (size_t r = 0; r < m->n; r++) {
            if (m->ids[r] != ids[i]) continue;
            m->values[r] = values[i];
            found = true;
        }
        if (found) continue;
        m->ids[m->n] = ids[i];
        m->values[m->n++] = values[i];
    }
    assert_true(m->n >= old);
    m->generation++;
}

static void model_remove(model *m, const uint64_t *ids, size_t n) {
    size_t kept = 0;
    for (size_t r = 0; r < m->n; r++) {
        bool gone = false;
        for (size_t i = 0; i < n; i++) gone |= ids[i] == m->ids[r];
        if (gone) continue;
        m->ids[kept] = m->ids[r];
        m->values[kept++] = m->values[r];
    }
    m->generation += kept != m->n;
    m->n = kept;
}

static void assert_is(const rv_pull *p, const model *m) {
    assert_int_equal(p->n, m->n);
    assert_int_equal(p->generation, m->generation);
    if (!m->n) return;
    assert_memory_equal(p->ids, m->ids, m->n * sizeof *m->ids);
    assert_memory_equal(p->vectors, m->values, m->n * sizeof *m->values);
}

static void random_changes(void **state) {
    (void)state;
    static model m, then;
    memset(&m, 0, sizeof m);
    rv_pull held = {0};
    uint64_t at = 0;
    ok(rv_local_put(local, "c", &(rv_rows){NULL, NULL, 0, 1}, &error));
    m.generation = 1;
    for (size_t step = 0; step < 3000; step++) {
        uint64_t ids[12];
        float values[12];
        size_t n = (size_t)rvb_random_below(3, 0, at++, 12);
        for (size_t i = 0; i < n; i++) {
            ids[i] = rvb_random_below(3, 0, at++, MODEL_IDS) << 40;
            values[i] = (float)(step * 16 + i);
        }
        switch (rvb_random_below(3, 0, at++, 4)) {
        case 0:
            ok(rv_local_upsert(local, "c", &(rv_rows){values, ids, n, 1}, &error));
            model_upsert(&m, ids, values, n);
            break;
        case 1:
            ok(rv_local_remove(local, "c", ids, n, NULL, &error));
            model_remove(&m, ids, n);
            break;
        case 2:
            if (n == 0 || m.n == MODEL_ROWS) break;
            ok(rv_local_append(local, "c", ids[0], values, 1, &error));
            m.ids[m.n] = ids[0];
            m.values[m.n++] = values[0];
            m.generation++;
            break;
        default:
            if (held.generation) assert_is(&held, &then); /* as it was */
            rv_pull_release(&held);
            if (n % 2) continue;
            held = pulled("c");
            then = m;
        }
        rv_pull now = pulled("c");
        assert_is(&now, &m);
        rv_pull_release(&now);
    }
    rv_pull_release(&held);
}

/* ---- memory that runs out ------------------------------------------------------- */

static rv_status change(int which, const char *collection) {
    const uint64_t ids[] = {3, 77};
    const float rows[] = {8, -8, 9, -9};
    switch (which) {
    case 0:
        return rv_local_put(local, collection, &(rv_rows){rows, ids, 2, 2}, &error);
    case 1:
        return rv_local_append(local, collection, 3, rows, 2, &error);
    case 2:
        return rv_local_upsert(local, collection, &(rv_rows){rows, ids, 2, 2}, &error);
    default:
        return rv_local_remove(local, collection, ids, 2, NULL, &error);
    }
}

static void without_memory(void **state) {
    (void)state;
    const uint64_t ids[] = {1, 2, 3};
    const float rows[] = {1, -1, 2, -2, 3, -3};
    for (int which = 0; which < 8; which++) {
        bool new_one = which >= 4;
        if (new_one && which % 2) continue; /* append and remove do not make one */
        for (size_t n = 1;; n++) {
            char name[32];
            snprintf(name, sizeof name, "new-%d-%zu", which, n);
            ok(rv_local_put(local, "c", &(rv_rows){rows, ids, 3, 2}, &error));
            rv_pull held = pulled("c"); /* so that changing rows takes a copy */
            uint64_t before = generation("c"), after;
            failing_allocator_install(n);
            rv_status status = change(which % 4, new_one ? name : "c");
            bool reached = failing_allocator_calls() >= n;
            rv_set_allocator(NULL);
            assert_int_equal(status, reached ? RV_ERR_MEMORY : RV_OK);
            rv_status there = rv_backend_generation(local, name, &after, &error);
            assert_int_equal(there, new_one && !reached ? RV_OK : RV_ERR_NOT_FOUND);
            if (reached) ROWS(before, 3, {1, 2, 3}, {1, 2, 3});
            rv_pull_release(&held);
            failing_allocator_remove();
            if (!reached) break;
        }
    }
    for (size_t n = 1;; n++) {
        rv_backend *b = NULL;
        rv_bundle *bundle = NULL;
        char names[64] = "";
        failing_allocator_install(n);
        rv_status status = rv_local_backend_new("x", &b, &error);
        if (status == RV_OK) {
            status = rv_local_put(b, "c", &(rv_rows){rows, ids, 3, 2}, &error);
            if (status == RV_OK)
                status = rv_backend_bundle(b, "c", 1, 1, &bundle, &error);
            if (status == RV_OK) status = rv_backend_list(b, join, names, &error);
        }
        rv_bundle_free(bundle);
        rv_backend_free(b);
        bool reached = failing_allocator_calls() >= n;
        assert_int_equal(failing_allocator_live(), 0);
        failing_allocator_remove();
        assert_int_equal(status, reached ? RV_ERR_MEMORY : RV_OK);
        if (!reached) break;
    }
}

/* ---- threads -------------------------------------------------------------------- */

/* The first rows are all replaced at once, by as many that hold one number; behind them
 * others come and go, which hold 0. */
enum { SHARED_ROWS = 32 };
static atomic_bool stop;

static void *replace_all(void *ctx) {
    uint64_t ids[SHARED_ROWS];
    float rows[SHARED_ROWS * 2];
    for (uint64_t i = 0; i < SHARED_ROWS; i++) ids[i] = i;
    for (int round = 1; !atomic_load(&stop); round++) {
        for (size_t i = 0; i < SHARED_ROWS * 2; i++) rows[i] = (float)round;
        if (rv_local_upsert(ctx, "c", &(rv_rows){rows, ids, SHARED_ROWS, 2}, NULL) !=
            RV_OK)
            return ctx;
    }
    return NULL;
}

static void *append_and_remove(void *ctx) {
    const float row[] = {0, 0};
    for (uint64_t i = 0; !atomic_load(&stop); i++) {
        uint64_t id = 1000 + i % 50;
        if (rv_local_append(ctx, "c", id, row, 2, NULL) != RV_OK) return ctx;
        if (i % 7 == 0 && rv_local_remove(ctx, "c", &id, 1, NULL, NULL) != RV_OK)
            return ctx;
        if (i % 300 == 299) {
            uint64_t all[50];
            for (uint64_t j = 0; j < 50; j++) all[j] = 1000 + j;
            if (rv_local_remove(ctx, "c", all, 50, NULL, NULL) != RV_OK) return ctx;
        }
    }
    return NULL;
}

static void *read_all(void *ctx) {
    uint64_t last = 0;
    for (int i = 0; i < 1500 || last < 2000; i++) { /* while others change it */
        rv_pull p;
        if (rv_backend_pull(ctx, "c", &p, NULL) != RV_OK) return ctx;
        bool good = p.generation >= last && p.n >= SHARED_ROWS;
        last = p.generation;
        for (uint64_t r = 0; good && r < p.n; r++) {
            float wanted = r < SHARED_ROWS ? p.vectors[0] : 0;
            good = p.vectors[2 * r] == wanted && p.vectors[2 * r + 1] == wanted;
            good = good && (r < SHARED_ROWS ? p.ids[r] == r : p.ids[r] >= 1000);
        }
        rv_pull_release(&p);
        if (!good) return ctx;
    }
    return NULL;
}

static void threads(void **state) {
    (void)state;
    void *(*const bodies[])(void *) = {replace_all, append_and_remove, read_all,
                                       read_all};
    pthread_t thread[4];
    uint64_t ids[SHARED_ROWS];
    float rows[SHARED_ROWS * 2] = {0};
    for (uint64_t i = 0; i < SHARED_ROWS; i++) ids[i] = i;
    ok(rv_local_put(local, "c", &(rv_rows){rows, ids, SHARED_ROWS, 2}, &error));
    atomic_store(&stop, false);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, bodies[i], local), 0);
    void *failed[4];
    for (size_t i = 4; i-- > 0;) {
        if (i == 1) atomic_store(&stop, true);
        assert_int_equal(pthread_join(thread[i], &failed[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) assert_null(failed[i]);
}

/* An allocator that keeps whoever asks for a buffer of rows until the gate is open. */
static void *alloc_at_gate(void *ctx, size_t bytes) {
    gate *g = ctx;
    if (bytes > 100000 && !g->begun) wait_at_gate(g);
    return malloc(bytes);
}

static void release_at_gate(void *ctx, void *memory) {
    (void)ctx;
    free(memory);
}

enum { MANY = 20000 };
static uint64_t many_ids[MANY];
static float many_rows[MANY * 2];

static void *replace_one(void *ctx) {
    static const uint64_t id = 7;
    static const float row[] = {3, -3};
    return rv_local_upsert(local, "c", &(rv_rows){row, &id, 1, 2}, NULL) == RV_OK ? ctx
                                                                                  : NULL;
}

static void *remove_one(void *ctx) {
    static const uint64_t id = 8;
    return rv_local_remove(local, "c", &id, 1, NULL, NULL) == RV_OK ? ctx : NULL;
}

/* However long a change takes: the state before it is there until it is done. */
static void a_change_keeps_nobody_waiting(void **state) {
    (void)state;
    void *(*const changes[])(void *) = {replace_one, remove_one};
    for (uint64_t i = 0; i < MANY; i++) {
        many_ids[i] = i;
        many_rows[2 * i] = (float)i;
    }
    ok(rv_local_put(local, "c", &(rv_rows){many_rows, many_ids, MANY, 2}, &error));
    for (size_t i = 0; i < 2; i++) {
        gate g = {0};
        const rv_allocator allocator = {alloc_at_gate, release_at_gate, &g};
        char names[64] = "";
        void *done;
        pthread_t thread;
        rv_pull before = pulled("c"); /* so that rows are not replaced where they are */
        rv_set_allocator(&allocator);
        assert_int_equal(pthread_create(&thread, NULL, changes[i], &g), 0);
        wait_until(&g.begun);
        rv_pull during = pulled("c");
        ok(rv_backend_list(local, join, names, &error));
        ok(rv_local_upsert(local, "d", &(rv_rows){many_rows, many_ids, 2, 2}, &error));
        assert_int_equal(generation("c"), before.generation);
        bool all_the_while = !g.given_up;
        g.open = true;
        pthread_join(thread, &done);
        rv_set_allocator(NULL);
        assert_true(all_the_while && done == &g);
        assert_int_equal(during.generation, before.generation);
        assert_ptr_equal(during.vectors, before.vectors);
        assert_string_equal(names, i ? "c,d," : "c,");
        assert_int_equal(generation("c"), before.generation + 1);
        rv_pull_release(&during);
        rv_pull_release(&before);
    }
    rv_pull after = pulled("c");
    assert_int_equal(after.n, MANY - 1);
    assert_true(after.ids[7] == 7 && after.vectors[14] == 3);
    assert_true(after.ids[8] == 9 && after.vectors[16] == 9);
    rv_pull_release(&after);
}

#define LOCAL(test) cmocka_unit_test_setup_teardown(test, make_local, free_local)

static uint64_t upsert_ns(const uint64_t *ids, uint32_t n) {
    float *vectors = calloc(n, sizeof *vectors);
    uint64_t one = 1, begin = rvb_now_ns();
    ok(rv_local_put(local, "chosen", &(rv_rows){vectors, &one, 1, 1}, &error));
    ok(rv_local_upsert(local, "chosen", &(rv_rows){vectors, ids, n, 1}, &error));
    free(vectors);
    return rvb_now_ns() - begin;
}

/* The inverse of 2^64 over the golden ratio: times a small number, ids that the
 * customary hash by multiplication, (id * 0x9E3779B97F4A7C15) >> 32, all sends to 0. */
static void chosen_ids_take_no_longer(void **state) {
    (void)state;
    enum { N = 40000 };
    static uint64_t chosen[N], plain[N];
    uint64_t inverse = 1, best = UINT64_MAX, control = UINT64_MAX;
    for (int i = 0; i < 6; i++) inverse *= 2 - UINT64_C(0x9E3779B97F4A7C15) * inverse;
    assert_true(inverse * UINT64_C(0x9E3779B97F4A7C15) == 1);
    for (uint64_t i = 0; i < N; i++) {
        chosen[i] = inverse * (i + 2);
        plain[i] = i + 2;
    }
    for (int i = 0; i < 3; i++) {
        uint64_t took = upsert_ns(chosen, N), other = upsert_ns(plain, N);
        if (took < best) best = took;
        if (other < control) control = other;
    }
    assert_true(best < 20 * control);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        LOCAL(putting),
        LOCAL(appending),
        LOCAL(upserting),
        LOCAL(removing),
        LOCAL(bad_input_changes_nothing),
        LOCAL(other_backends_are_refused),
        LOCAL(answers),
        LOCAL(a_published_witness),
        LOCAL(pulls_do_not_change),
        LOCAL(pulls_outlive_the_backend),
        LOCAL(growth_is_amortised),
        LOCAL(random_changes),
        LOCAL(without_memory),
        LOCAL(a_change_keeps_nobody_waiting),
        LOCAL(threads),
        LOCAL(chosen_ids_take_no_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
