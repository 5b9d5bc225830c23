/*
 * test_lake_memory.c - a life of a lake in which one allocation is refused, for every
 * one of them: the call that met it says so, works when tried again, and in the end
 * nothing is left behind.
 */
#define _GNU_SOURCE /* mkdtemp, usleep */
#include "lake_cases.h"

#include <unistd.h>

#include "failing_allocator.h"
#include "test_folder.h"

static struct {
    float *rows;
    uint64_t ids[50];
    rv_lake *lake, *other;
    rv_backend *backends[2];
    rv_completions *completions;
} life;

static const rv_key keys[2] = {{"a", "docs"}, {"b", "docs"}};

typedef rv_status (*step)(rv_error *err);

static rv_status make_lake(rv_error *err) { return rv_lake_new(NULL, &life.lake, err); }
static rv_status make_other(rv_error *err) { return rv_lake_new(NULL, &life.other, err); }
static rv_status make_a(rv_error *err) {
    return rv_local_backend_new("a", &life.backends[0], err);
}
static rv_status make_b(rv_error *err) {
    return rv_local_backend_new("b", &life.backends[1], err);
}
static rv_status fill_a(rv_error *err) {
    return rv_local_put(life.backends[0], "docs",
                        &(rv_rows){life.rows, life.ids, 50, LAKE_DIM}, err);
}
static rv_status fill_b(rv_error *err) {
    return rv_local_upsert(life.backends[1], "docs",
                           &(rv_rows){life.rows, life.ids, 50, LAKE_DIM}, err);
}
static rv_status register_a(rv_error *err) {
    return rv_lake_register(life.lake, life.backends[0], err);
}
static rv_status register_b(rv_error *err) {
    return rv_lake_register(life.lake, life.backends[1], err);
}
static rv_status search_both(rv_error *err) {
    rv_pin *pins[2];
    size_t failed;
    RVB_TRY(rv_lake_acquire_all(life.lake, keys, 2, NULL, pins, &failed, err));
    rv_lake_hit hits[8];
    uint64_t n;
    rv_status status = rv_pins_search(pins, 2, &(rv_queries){life.rows, 1, LAKE_DIM}, 8,
                                      0, hits, &n, err);
    for (int i = 0; i < 2; i++) rv_pin_release(pins[i]);
    return status;
}
static rv_status search_again(rv_error *err) {
    uint64_t id;
    float score;
    return rv_lake_search(life.lake, keys[0], &(rv_queries){life.rows, 1, LAKE_DIM}, 1,
                          &(rv_result){&id, &score}, err);
}
static rv_status publish(rv_error *err) {
    rv_witness witness;
    return rv_lake_publish(life.lake, keys[1], folder, NULL, witness, err);
}
static rv_status refresh(rv_error *err) {
    rv_refresh result;
    return rv_lake_refresh(life.lake, keys[1], folder, &result, err);
}
static rv_status save(rv_error *err) {
    return rv_lake_save(life.lake, keys[0], folder, err);
}
static rv_status warm(rv_error *err) {
    uint64_t n;
    return rv_lake_warm(life.other, keys[0], folder, &n, err);
}
static rv_status install(rv_error *err) {
    rv_build_options o = RV_BUILD_DEFAULT;
    rv_index *index;
    o.dim = LAKE_DIM;
    RVB_TRY(rv_index_build(&o, &(rv_rows){life.rows, NULL, 50, o.dim}, &index, err));
    rv_status status = rv_lake_install(life.other, keys[1], index, NULL, err);
    rv_index_free(index);
    return status;
}
static rv_status make_completions(rv_error *err) {
    return rv_completions_new(&life.completions, err);
}
static rv_status run_jobs(rv_error *err) {
    rv_job jobs[3];
    for (uint64_t i = 0; i < 3; i++)
        jobs[i] = (rv_job){.size = sizeof(rv_job),
                           .tag = i,
                           .keys = keys,
                           .n_shards = i == 2 ? 2 : 1,
                           .federated = i == 2,
                           .queries = life.rows,
                           .m = 1,
                           .dim = LAKE_DIM,
                           .k = 3};
    RVB_TRY(rv_lake_submit(life.lake, life.completions, jobs, 3, err));
    rv_status status = RV_OK;
    for (int i = 0; i < 3; i++) {
        rv_completion r = RV_COMPLETION_DEFAULT;
        assert_true(rv_completions_wait(life.completions, 20000));
        assert_int_equal(rv_completions_take(life.completions, &r, NULL), RV_OK);
        if (r.status != RV_OK) status = r.status;
        rv_completion_clear(&r);
    }
    return status;
}

static const step steps[] = {
    make_lake,  make_other, make_a,      make_b,           fill_a,  fill_b,
    register_a, register_b, search_both, search_again,     publish, refresh,
    save,       warm,       install,     make_completions, run_jobs};

/* Threads of the library allocate what is theirs once and keep it. */
static void start_threads(void) {
    assert_int_equal(make_lake(NULL), RV_OK);
    assert_int_equal(make_completions(NULL), RV_OK);
    const rv_key nowhere = {"x", "y"};
    for (uint64_t i = 0; i < 8; i++) {
        rv_job job = {.size = sizeof job, .tag = i, .keys = &nowhere, .n_shards = 1};
        assert_int_equal(rv_lake_submit(life.lake, life.completions, &job, 1, NULL),
                         RV_OK);
    }
    for (int i = 0; i < 8; i++) {
        rv_completion r = RV_COMPLETION_DEFAULT;
        while (rv_completions_take(life.completions, &r, NULL) != RV_OK)
            (void)rv_completions_wait(life.completions, 1000);
    }
    rv_completions_free(life.completions);
    rv_lake_free(life.lake);
}

static void every_allocation_refused_once(void **state) {
    (void)state;
    start_threads();
    for (size_t n = 1;; n++) {
        failing_allocator_install(n);
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            rv_error error = {0};
            rv_status status = steps[i](&error);
            if (status == RV_ERR_MEMORY) status = steps[i](&error);
            if (status != RV_OK)
                fail_msg("allocation %zu, step %zu: %s: %s", n, i, rv_status_name(status),
                         error.message);
        }
        rv_completions_free(life.completions);
        rv_lake_free(life.lake);
        rv_lake_free(life.other);
        for (int i = 0; i < 2; i++) rv_backend_free(life.backends[i]);
        bool reached = failing_allocator_calls() >= n;
        /* the thread that ran a job lets go of its completions a moment later */
        for (int i = 0; failing_allocator_live() && i < 60000; i++) usleep(1000);
        size_t left = failing_allocator_live();
        failing_allocator_remove();
        if (left) fail_msg("allocation %zu refused: %zu blocks are left", n, left);
        if (!reached) break;
    }
}

static int set_up(void **state) {
    life.rows = normal_rows(1, 50, LAKE_DIM);
    for (uint64_t i = 0; i < 50; i++) life.ids[i] = 7 * i;
    return make_folder(state) != 0 || rv_set_num_threads(1, NULL) != RV_OK;
}

static int tear_down(void **state) {
    free(life.rows);
    return remove_folder(state) != 0 || rv_set_num_threads(0, NULL) != RV_OK;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_refused_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
