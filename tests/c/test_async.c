/*
 * test_async.c - jobs and their results: joint scans, shared loads, cancelling, and
 * what becomes of jobs whose owner is gone.
 */
#define _GNU_SOURCE
#include "lake_cases.h"
#include "meeting.h"

#include "lake/lake_i.h"

#ifndef _WIN32
#include <poll.h>
#endif

#define JOBS 50

static rv_completions *new_completions(void) {
    rv_completions *c;
    assert_ok(rv_completions_new(&c, err));
    return c;
}

static rv_completion take(rv_completions *c) {
    rv_completion out = RV_COMPLETION_DEFAULT;
    assert_true(rv_completions_wait(c, PATIENCE_MS));
    assert_ok(rv_completions_take(c, &out, err));
    return out;
}

/* Where there is a descriptor; else whether there is something to take. */
static bool readable(rv_completions *c) {
#ifdef _WIN32
    assert_int_equal(rv_completions_fd(c), -1);
    return rv_completions_wait(c, 0);
#else
    struct pollfd p = {.fd = rv_completions_fd(c), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
#endif
}

static rv_job search_job(uint64_t tag, const rv_key *key, const float *query) {
    return (rv_job){.size = sizeof(rv_job),
                    .tag = tag,
                    .keys = key,
                    .n_shards = 1,
                    .queries = query,
                    .m = 1,
                    .dim = LAKE_DIM,
                    .k = 2};
}

static void together_they_are_one_scan(void **state) {
    (void)state;
    source s = {.id = "a", .rows = JOBS};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_completions *c = new_completions();
    const rv_key key = docs_of(&s);
    float queries[JOBS][LAKE_DIM] = {{0}};
    rv_job jobs[JOBS];
    for (uint64_t i = 0; i < JOBS; i++) {
        queries[i][1] = (float)i;
        jobs[i] = search_job(i, &key, queries[i]);
    }
    assert_false(readable(c));
    assert_ok(rv_lake_submit(lake, c, jobs, JOBS, err));
    bool seen[JOBS] = {false};
    for (int i = 0; i < JOBS; i++) {
        rv_completion r = take(c);
        assert_int_equal(r.status, RV_OK);
        assert_int_equal(r.m, 1);
        assert_int_equal(r.k, 2);
        assert_int_equal(r.ids[0], r.tag);
        assert_true(r.scores[0] == 0 && r.scores[1] == 1);
        seen[r.tag] = true;
        rv_completion_clear(&r);
    }
    for (int i = 0; i < JOBS; i++) assert_true(seen[i]);
    assert_false(readable(c));
    assert_false(rv_completions_wait(c, 1));
    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    assert_ok(rv_lake_get_stats(lake, &stats, err));
    assert_int_equal(stats.scans, 1);
    assert_counts(lake, 0, JOBS, 1, 0, 0); /* each waited for the same prime */
    assert_ok(rv_lake_submit(lake, c, jobs, 1, err));
    while (!readable(c)) sleep_ms(1);
    rv_completion r = take(c);
    rv_completion_clear(&r);
    assert_counts(lake, 1, JOBS, 1, 0, 0);
    rv_completions_free(c);
    rv_lake_free(lake);
}

/* Neither a query of another length nor one that is no vector spoils the others. */
static void everyone_has_its_own_fate(void **state) {
    (void)state;
    source s = {.id = "a", .rows = 9};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_completions *c = new_completions();
    const rv_key key = docs_of(&s), unknown = {"b", "docs"};
    const float good[LAKE_DIM] = {0, 3}, bad[LAKE_DIM] = {0, NAN};
    rv_job jobs[5];
    for (uint64_t i = 0; i < 5; i++) jobs[i] = search_job(i, &key, good);
    jobs[1].dim = 4;
    jobs[2].queries = bad;
    jobs[3].keys = &unknown;
    jobs[4].k = 100; /* all there are */
    assert_ok(rv_lake_submit(lake, c, jobs, 5, err));
    const rv_status wanted[5] = {RV_OK, RV_ERR_DIM, RV_ERR_VALUE, RV_ERR_NOT_FOUND,
                                 RV_OK};
    for (int i = 0; i < 5; i++) {
        rv_completion r = take(c);
        assert_int_equal(r.status, wanted[r.tag]);
        if (r.status == RV_OK) assert_int_equal(r.ids[0], 3);
        if (r.status != RV_OK) assert_int_equal(r.error.code, r.status);
        if (r.tag == 4) assert_int_equal(r.k, 9);
        rv_completion_clear(&r);
    }
    rv_completions_free(c);
    rv_lake_free(lake);
}

static void primes_and_federated_searches(void **state) {
    (void)state;
    source s[2] = {{.id = "a", .rows = 3}, {.id = "b", .rows = 4, .first_id = 10}};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s[0]);
    add_source(lake, &s[1]);
    rv_completions *c = new_completions();
    const rv_key keys[2] = {docs_of(&s[0]), docs_of(&s[1])};
    const float query[LAKE_DIM] = {0, 2};
    rv_job prime = {.size = sizeof prime, .tag = 1, .keys = keys, .n_shards = 1};
    rv_job both = search_job(2, keys, query);
    both.n_shards = 2;
    both.federated = 1;
    both.k = 100;
    assert_ok(rv_lake_submit(lake, c, &prime, 1, err));
    rv_completion r = take(c);
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_lake_get_entry(lake, keys[0], &info, err));
    assert_string_equal(r.witness, info.witness);
    rv_completion_clear(&r);
    assert_ok(rv_lake_submit(lake, c, &both, 1, err));
    r = take(c);
    assert_int_equal(r.status, RV_OK);
    assert_int_equal(r.n_hits, 7);
    assert_true(r.hits[0].id == 2 && r.hits[0].shard == 0);
    assert_true(r.hits[1].id == 12 && r.hits[1].shard == 1);
    rv_completion_clear(&r);
    /* with entries acquired before */
    rv_pin *pins[2];
    size_t failed;
    assert_ok(rv_lake_acquire_all(lake, keys, 2, NULL, pins, &failed, err));
    both.keys = NULL;
    both.pins = pins;
    assert_ok(rv_lake_submit(lake, c, &both, 1, err));
    r = take(c);
    assert_int_equal(r.n_hits, 7);
    rv_completion_clear(&r);
    assert_ok(rv_lake_get_entry(lake, keys[0], &info, err));
    assert_int_equal(info.holds, 0);
    rv_completions_free(c);
    rv_lake_free(lake);
}

/* A backend only asked on its callers' threads is not asked here. */
static void backends_of_callers_threads(void **state) {
    (void)state;
    source s = {.id = "a", .rows = 3, .callers_thread = true};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_completions *c = new_completions();
    const rv_key key = docs_of(&s);
    const float query[LAKE_DIM] = {0, 2};
    rv_job job = search_job(1, &key, query);
    assert_ok(rv_lake_submit(lake, c, &job, 1, err));
    rv_completion r = take(c);
    assert_int_equal(r.status, RV_ERR_ARGUMENT);
    assert_int_equal(s.pulls, 0);
    rv_pin *pin;
    assert_ok(rv_lake_acquire(lake, key, NULL, &pin, err));
    job.keys = NULL;
    job.pins = &pin;
    assert_ok(rv_lake_submit(lake, c, &job, 1, err));
    r = take(c);
    assert_int_equal(r.status, RV_OK);
    assert_int_equal(r.ids[0], 2);
    rv_completion_clear(&r);
    rv_completions_free(c);
    rv_lake_free(lake);
}

/* Jobs of one call do not wait for each other's pulls. */
static void jobs_of_one_call_run_side_by_side(void **state) {
    (void)state;
    meeting together = {.expected = 4};
    source s[4] = {{.id = "a"}, {.id = "b"}, {.id = "c"}, {.id = "d"}};
    rv_lake *lake = new_lake(NULL);
    rv_completions *c = new_completions();
    rv_key keys[4];
    rv_job primes[4];
    for (uint64_t i = 0; i < 4; i++) {
        s[i].rows = 3;
        s[i].during_pull = meet;
        s[i].ctx = &together;
        add_source(lake, &s[i]);
        keys[i] = docs_of(&s[i]);
        primes[i] =
            (rv_job){.size = sizeof(rv_job), .tag = i, .keys = &keys[i], .n_shards = 1};
    }
    assert_ok(rv_lake_submit(lake, c, primes, 4, err));
    for (int i = 0; i < 4; i++) assert_int_equal(take(c).status, RV_OK);
    assert_int_equal(together.there, 4);
    rv_completions_free(c);
    rv_lake_free(lake);
}

static void cancelled_jobs_do_not_run(void **state) {
    (void)state;
    gate g = {0};
    source s = {.id = "a", .rows = 3, .during_pull = wait_at_gate, .ctx = &g};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_completions *c = new_completions();
    const rv_key key = docs_of(&s);
    const float query[LAKE_DIM] = {0, 2};
    rv_job job = search_job(1, &key, query);
    assert_ok(rv_lake_submit(lake, c, &job, 1, err));
    wait_until(&g.begun);
    job.tag = 2;
    assert_ok(rv_lake_submit(lake, c, &job, 1, err)); /* waits for the other's pull */
    rv_completions_cancel(c, 2);
    rv_completions_cancel(c, 77);
    rv_completion r = take(c);
    assert_int_equal(r.tag, 2);
    assert_int_equal(r.status, RV_ERR_CANCELLED);
    g.open = true;
    r = take(c);
    assert_int_equal(r.tag, 1);
    assert_int_equal(r.status, RV_OK);
    rv_completion_clear(&r);
    rv_completions_free(c);
    rv_lake_free(lake);
}

static void note_politeness(void *ctx) {
    _Atomic int *noted = ctx;
    *noted = rvb_is_polite() ? 1 : -1;
}

static void jobs_make_room_for_the_loop(void **state) {
    (void)state;
    _Atomic int noted = 0;
    source s = {.id = "a", .rows = 3, .during_pull = note_politeness, .ctx = &noted};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_completions *c = new_completions();
    const rv_key key = docs_of(&s);
    const float query[LAKE_DIM] = {0};
    rv_job job = search_job(1, &key, query);
    assert_ok(rv_lake_submit(lake, c, &job, 1, err));
    rv_completion r = take(c);
    assert_int_equal(r.status, RV_OK);
    rv_completion_clear(&r);
    assert_int_equal(noted, 1);
    s.generation++; /* who waits for a load keeps the processor */
    rv_witness witness;
    assert_ok(rv_lake_prime(lake, key, NULL, witness, err));
    assert_int_equal(noted, -1);
    rv_completions_free(c);
    rv_lake_free(lake);
}

/* Lake and completions may go while jobs are on their way. */
static void nobody_waits_any_more(void **state) {
    (void)state;
    gate g = {0};
    source s = {.id = "a", .rows = 3, .during_pull = wait_at_gate, .ctx = &g};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_completions *c = new_completions();
    const rv_key key = docs_of(&s);
    const float query[LAKE_DIM] = {0, 2};
    for (uint64_t i = 0; i < 10; i++) {
        rv_job job = search_job(i, &key, query);
        assert_ok(rv_lake_submit(lake, c, &job, 1, err));
    }
    wait_until(&g.begun);
    rv_completions_free(c);
    rv_lake_free(lake);
    g.open = true;
    wait_until(&s.released);
    assert_true(s.released);
}

static void jobs_that_make_no_sense(void **state) {
    (void)state;
    source s = {.id = "a", .rows = 3};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    rv_completions *c = new_completions();
    const rv_key keys[2] = {docs_of(&s), docs_of(&s)};
    const float query[LAKE_DIM] = {0};
    rv_job good = search_job(1, keys, query), bad[6];
    for (int i = 0; i < 6; i++) bad[i] = good;
    bad[0].size = 0;
    bad[1].keys = NULL;
    bad[2].n_shards = 2;
    bad[3].k = 0;
    bad[4].queries = NULL;
    bad[4].n_shards = 2;
    bad[4].federated = 1;
    bad[5].federated = 1;
    bad[5].m = 2;
    for (int i = 0; i < 6; i++) {
        const rv_job jobs[2] = {good, bad[i]};
        assert_fails(RV_ERR_ARGUMENT, rv_lake_submit(lake, c, jobs, 2, err));
    }
    assert_false(rv_completions_wait(c, 20)); /* all or none */
    assert_ok(rv_lake_submit(lake, c, NULL, 0, err));
    rv_completions_free(c);
    rv_lake_free(lake);
}

/* Half of them ask for as many hits as one other does. */
static void a_job_finds_its_group_at_once(void **state) {
    (void)state;
    enum { N = 20000 };
    rvl_queue queue;
    rvl_queue_init(&queue);
    float query = 0;
    rvl_key key = {0};
    rvl_key *keys[1] = {&key};
    rvl_task *task = need(N, sizeof *task);
    for (size_t i = 0; i < N; i++) {
        task[i] = (rvl_task){
            .job = {.m = 1, .k = i % (N / 2)}, .queries = &query, .keys = keys};
        rvl_queue_add(&queue, &task[i]);
    }
    assert_int_equal(queue.open.n, N / 2);
    assert_true(passed_in(&queue.open) < N / 2);
    for (size_t i = 0; i < N / 2; i++) {
        assert_ptr_equal(rvl_queue_take(&queue), &task[i]);
        assert_ptr_equal(task[i].next, &task[N / 2 + i]);
        assert_null(task[N / 2 + i].next);
    }
    assert_null(queue.first);
    assert_int_equal(queue.open.n, 0);
    rvl_table_clear(&queue.open);
    free(task);
}

/* Full groups are out of the way of those that come later. */
static void groups_that_are_full(void **state) {
    (void)state;
    static const uint64_t sizes[] = {5000, 4096, 1, 4000, 100, 5000, 3900, 200, 4096};
    static const size_t group[] = {0, 1, 2, 2, 3, 4, 3, 5, 6};
    enum { N = sizeof sizes / sizeof *sizes };
    rvl_queue queue;
    rvl_queue_init(&queue);
    float query = 0;
    rvl_key key = {0};
    rvl_key *keys[1] = {&key};
    rvl_task task[N];
    for (size_t i = 0; i < N; i++) {
        task[i] =
            (rvl_task){.job = {.m = sizes[i], .k = 3}, .queries = &query, .keys = keys};
        rvl_queue_add(&queue, &task[i]);
        assert_true(queue.open.n <= 1);
    }
    for (size_t g = 0; queue.first; g++)
        for (const rvl_task *t = rvl_queue_take(&queue); t; t = t->next)
            assert_int_equal(group[t - task], g);
    rvl_table_clear(&queue.open);
}

static void a_job_under_way_is_found_at_once(void **state) {
    (void)state;
    enum { N = 20000 };
    rv_completions *completions;
    assert_ok(rv_completions_new(&completions, err));
    rv_lake *lake = new_lake(NULL);
    rvl_task **task = need(N, sizeof *task);
    for (size_t i = 0; i < N; i++) {
        task[i] = rvb_alloc_zero(1, sizeof *task[i]);
        *task[i] = (rvl_task){.lake = rvl_lake_retain(lake),
                              .job = {.tag = i << 32},
                              .completions = completions};
        rvl_task_begin(task[i]);
    }
    assert_true(passed_in(&completions->under_way) < N);
    rv_completions_cancel(completions, UINT64_C(7) << 32);
    for (size_t i = 0; i < N; i++) assert_int_equal(task[i]->cancelled, i == 7);
    for (size_t i = 0; i < N; i++) rvl_task_finish(task[i]);
    assert_int_equal(completions->under_way.n, 0);
    rv_completion result = RV_COMPLETION_DEFAULT;
    for (size_t i = 0; i < N; i++) {
        assert_ok(rv_completions_take(completions, &result, err));
        assert_int_equal(result.tag, i << 32);
    }
    rv_completions_free(completions);
    rv_lake_free(lake);
    free(task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together_they_are_one_scan),
        cmocka_unit_test(everyone_has_its_own_fate),
        cmocka_unit_test(primes_and_federated_searches),
        cmocka_unit_test(backends_of_callers_threads),
        cmocka_unit_test(jobs_of_one_call_run_side_by_side),
        cmocka_unit_test(cancelled_jobs_do_not_run),
        cmocka_unit_test(jobs_make_room_for_the_loop),
        cmocka_unit_test(nobody_waits_any_more),
        cmocka_unit_test(jobs_that_make_no_sense),
        cmocka_unit_test(a_job_finds_its_group_at_once),
        cmocka_unit_test(groups_that_are_full),
        cmocka_unit_test(a_job_under_way_is_found_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
