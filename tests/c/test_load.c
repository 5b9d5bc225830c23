/*
 * test_load.c - when a backend is asked, who pulls, and what everybody else gets.
 */
#define _GNU_SOURCE
#include "index/index_i.h"
#include "lake_cases.h"
#include "meeting.h"
#include "test_folder.h"

#include <pthread.h>
#include <unistd.h>

static rv_lake *lake_of(rv_consistency consistency, uint64_t ttl_ms, source *s) {
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.consistency = consistency;
    o.eventual_ttl_ms = ttl_ms;
    rv_lake *lake = new_lake(&o);
    if (s) add_source(lake, s);
    return lake;
}

static void fresh_asks_every_time(void **state) {
    (void)state;
    source s = {.id = "a", .data_ref = "x://a", .rows = 3};
    rv_lake *lake = lake_of(RV_FRESH, 0, &s);
    for (uint64_t i = 0; i < 4; i++) {
        s.generation = i / 2;
        found_at(lake, docs_of(&s), i / 2, 1);
    }
    assert_counts(lake, 2, 2, 2, 1, 0);
    rv_lake_free(lake);
}

static void eventual_asks_after_a_while(void **state) {
    (void)state;
    source s = {.id = "a", .data_ref = "x://a", .rows = 3};
    rv_lake *lake = lake_of(RV_EVENTUAL, 3600000, &s);
    found_at(lake, docs_of(&s), 0, 1);
    uint64_t asked = s.bundles;
    s.generation = 1;
    found_at(lake, docs_of(&s), 0, 1);
    assert_int_equal(s.bundles, asked);
    rv_lake_free(lake);
    source u = {.id = "a", .data_ref = "x://a", .rows = 3};
    lake = lake_of(RV_EVENTUAL, 40, &u);
    found_at(lake, docs_of(&u), 0, 1);
    u.generation = 1;
    sleep_ms(60);
    found_at(lake, docs_of(&u), 1, 1);
    rv_lake_free(lake);
    /* 0 ms is always too long ago */
    source t = {.id = "a", .data_ref = "x://a", .rows = 3};
    lake = lake_of(RV_EVENTUAL, 0, &t);
    found_at(lake, docs_of(&t), 0, 1);
    t.generation = 1;
    found_at(lake, docs_of(&t), 1, 1);
    rv_lake_free(lake);
}

static void stale_asks_once(void **state) {
    (void)state;
    source s = {.id = "a", .data_ref = "x://a", .rows = 3};
    rv_lake *lake = lake_of(RV_STALE, 0, &s);
    for (int i = 0; i < 11; i++) {
        found_at(lake, docs_of(&s), 0, 1);
        s.generation++;
    }
    assert_counts(lake, 10, 1, 1, 0, 0);
    uint64_t now = s.generation;
    rv_lake_invalidate(lake, docs_of(&s));
    found_at(lake, docs_of(&s), now, 1);
    rv_witness witness;
    s.generation++;
    assert_ok(rv_lake_prime(lake, docs_of(&s), NULL, witness, err)); /* asks */
    found_at(lake, docs_of(&s), now + 1, 1);
    rv_lake_free(lake);
}

static void a_bundle_made_from_the_pull(void **state) {
    (void)state;
    source s = {.id = "a", .rows = 3, .generation = 4};
    rv_lake *lake = lake_of(RV_FRESH, 0, &s);
    found_at(lake, docs_of(&s), 4, 1);
    found_at(lake, docs_of(&s), 4, 1);
    assert_int_equal(s.pulls, 1);
    rv_bundle b = {.data_ref = {"a://docs", 8},
                   .dim = LAKE_DIM,
                   .rotation_seed = 42,
                   .rerank_factor = 20,
                   .generation = 4};
    rv_witness witness;
    rv_bundle_compute_witness(&b, witness);
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    assert_ok(rv_lake_get_entry(lake, docs_of(&s), &info, err));
    assert_string_equal(info.witness, witness);
    rv_lake_free(lake);
}

/* ---- backends that move, fail, or lie ---- */

static void step(void *ctx) { ((source *)ctx)->generation++; }
static void step_twice_only(void *ctx) {
    source *s = ctx;
    if (s->generation < 2) s->generation++;
}

static void data_and_witness_of_one_state(void **state) {
    (void)state;
    rv_pin *pin;
    source always = {.id = "a", .data_ref = "x://a", .rows = 3};
    always.during_pull = step;
    always.ctx = &always;
    rv_lake *lake = lake_of(RV_FRESH, 0, &always);
    assert_fails(RV_ERR_BACKEND,
                 rv_lake_acquire(lake, docs_of(&always), NULL, &pin, err));
    assert_null(pin);
    assert_int_equal(always.pulls, 3);
    assert_int_equal(rv_lake_entry_count(lake), 0);
    assert_counts(lake, 0, 1, 0, 0, 0);
    rv_lake_free(lake);

    source settles = {.id = "a", .data_ref = "x://a", .rows = 3};
    settles.during_pull = step_twice_only;
    settles.ctx = &settles;
    lake = lake_of(RV_FRESH, 0, &settles);
    found_at(lake, docs_of(&settles), 2, 1);
    assert_int_equal(settles.pulls, 3);
    rv_lake_free(lake);

    /* a pull that says of which state it is needs no second look */
    source exact = {.id = "a", .data_ref = "x://a", .rows = 3, .snapshots = true};
    exact.during_pull = step;
    exact.ctx = &exact;
    lake = lake_of(RV_STALE, 0, &exact);
    found_at(lake, docs_of(&exact), 0, 1);
    assert_int_equal(exact.pulls, 1);
    rv_lake_free(lake);
}

static void what_fails_leaves_nothing(void **state) {
    (void)state;
    rv_pin *pin;
    source s = {.id = "a", .data_ref = "x://a", .rows = 3, .pull_fails = RV_ERR_IO};
    rv_lake *lake = lake_of(RV_FRESH, 0, &s);
    assert_fails(RV_ERR_BACKEND, rv_lake_acquire(lake, docs_of(&s), NULL, &pin, err));
    assert_counts(lake, 0, 1, 0, 0, 0);
    s.pull_fails = 0;
    s.nan = true;
    assert_fails(RV_ERR_BACKEND, rv_lake_acquire(lake, docs_of(&s), NULL, &pin, err));
    assert_counts(lake, 0, 2, 0, 0, 0);
    assert_int_equal(rv_lake_entry_count(lake), 0);
    s.nan = false;
    found_at(lake, docs_of(&s), 0, 1);
    /* an entry that is there is not lost to a failure */
    s.generation = 1;
    s.pull_fails = RV_ERR_IO;
    assert_fails(RV_ERR_BACKEND, rv_lake_acquire(lake, docs_of(&s), NULL, &pin, err));
    assert_int_equal(rv_lake_entry_count(lake), 1);
    s.generation = 0;
    found_at(lake, docs_of(&s), 0, 1);
    assert_fails(RV_ERR_NOT_FOUND,
                 rv_lake_acquire(lake, (rv_key){"b", "docs"}, NULL, &pin, err));
    rv_acquire_options wrong = RV_ACQUIRE_DEFAULT;
    wrong.size = 1;
    assert_fails(RV_ERR_ARGUMENT, rv_lake_acquire(lake, docs_of(&s), &wrong, &pin, err));
    rv_lake_free(lake);
}

static void only_what_is_cached(void **state) {
    (void)state;
    source s = {.id = "a", .data_ref = "x://s", .rows = 3};
    source t = {.id = "b", .data_ref = "x://s", .rows = 3};
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.strict = 1;
    rv_lake *lake = new_lake(&o);
    add_source(lake, &s);
    add_source(lake, &t);
    rv_pin *pin;
    rv_witness witness;
    assert_fails(RV_ERR_CACHE_MISS, rv_lake_acquire(lake, docs_of(&s), NULL, &pin, err));
    assert_counts(lake, 0, 1, 0, 0, 0);
    assert_int_equal(s.pulls, 0);
    assert_ok(rv_lake_prime(lake, docs_of(&s), NULL, witness, err));
    found_at(lake, docs_of(&s), 0, 1);
    found_at(lake, docs_of(&t), 0, 1); /* another key's entry needs no pull */
    assert_int_equal(t.pulls, 0);
    s.generation = 1;
    assert_fails(RV_ERR_CACHE_MISS, rv_lake_acquire(lake, docs_of(&s), NULL, &pin, err));
    rv_lake_free(lake);
}

static void empty_collections(void **state) {
    (void)state;
    source s = {.id = "a", .rows = 0};
    rv_lake *lake = lake_of(RV_FRESH, 0, &s);
    float query[LAKE_DIM] = {0}, score;
    uint64_t id;
    assert_fails(RV_ERR_EMPTY,
                 rv_lake_search(lake, docs_of(&s), &(rv_queries){query, 1, LAKE_DIM}, 1,
                                &(rv_result){&id, &score}, err));
    assert_counts(lake, 0, 1, 1, 0, 0);
    rv_lake_free(lake);
}

/* A rewrite within the second is noticed by both, and each sees the other's writes. */
static void two_backends_of_one_folder(void **state) {
    (void)state;
    rv_lake *lake = new_lake(NULL);
    rv_backend *fs[2];
    const uint64_t ids[2] = {5, 6};
    float rows[2 * LAKE_DIM] = {0};
    for (int i = 0; i < 2; i++) {
        assert_ok(rv_fs_backend_new(i ? "b" : "a", folder, 0, &fs[i], err));
        assert_ok(rv_fs_register(fs[i], "docs", "docs.bin", err));
        assert_ok(rv_lake_register(lake, fs[i], err));
    }
    for (uint64_t g = 0; g < 4; g++) {
        rows[0] = (float)g;
        assert_ok(rv_fs_write(fs[g % 2], "docs", "docs.bin",
                              &(rv_rows){rows, ids, 2, LAKE_DIM}, err));
        for (int i = 0; i < 6; i++)
            assert_int_equal(found_at(lake, (rv_key){i % 2 ? "b" : "a", "docs"}, g, 0),
                             5);
        rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
        assert_ok(rv_lake_get_stats(lake, &stats, err));
        assert_int_equal(stats.primes, g + 1);
    }
    for (int i = 0; i < 2; i++) rv_backend_free(fs[i]);
    rv_lake_free(lake);
}

/* ---- names ---- */

static void a_collection_alone(void **state) {
    (void)state;
    rv_key key, keys[2];
    size_t n;
    rv_lake *lake = lake_of(RV_FRESH, 0, NULL);
    assert_fails(RV_ERR_NOT_FOUND, rv_lake_resolve(lake, "docs", &key, err));
    source a = {.id = "a", .rows = 3}, b = {.id = "b", .rows = 3};
    add_source(lake, &a);
    assert_ok(rv_lake_resolve(lake, "anything", &key, err)); /* the only backend */
    assert_string_equal(key.backend, "a");
    assert_int_equal(a.lists, 0);
    assert_ok(rv_lake_resolve(lake, "docs", &key, err));
    add_source(lake, &b);
    assert_fails(RV_ERR_ARGUMENT, rv_lake_resolve(lake, "docs", &key, err));
    assert_fails(RV_ERR_NOT_FOUND, rv_lake_resolve(lake, "anything", &key, err));
    assert_ok(rv_lake_resolve(lake, "b", &key, err)); /* only b lists it */
    assert_string_equal(key.backend, "b");
    uint64_t listed = b.lists;
    found_at(lake, (rv_key){NULL, "b"}, 0, 1);
    assert_int_equal(b.lists, listed); /* remembered */
    assert_ok(rv_lake_holders(lake, "docs", keys, 2, &n, err));
    assert_int_equal(n, 2);
    assert_string_equal(keys[0].backend, "a");
    assert_string_equal(keys[1].backend, "b");
    assert_ok(rv_lake_holders(lake, "a", keys, 2, &n, err));
    assert_int_equal(n, 1);
    rv_backend *again = source_backend(&(source){.id = "a"});
    assert_fails(RV_ERR_DUPLICATE, rv_lake_register(lake, again, err));
    rv_backend_free(again);
    assert_string_equal(rv_backend_id(rv_lake_backend(lake, 1)), "b");
    assert_null(rv_lake_backend(lake, 2));
    rv_lake_free(lake);
}

/* ---- many at once ---- */

typedef struct caller {
    rv_lake *lake;
    rv_key key;
    rv_acquire_options options;
    rv_status status;
    uint64_t id;
} caller;

static void *call(void *ctx) {
    caller *c = ctx;
    rv_pin *pin;
    c->status = rv_lake_acquire(c->lake, c->key, &c->options, &pin, NULL);
    float query[LAKE_DIM] = {0, 2}, score;
    if (c->status == RV_OK)
        c->status = rv_pin_search(pin, &(rv_queries){query, 1, LAKE_DIM}, 1, 0, NULL,
                                  &(rv_result){&c->id, &score}, NULL);
    rv_pin_release(pin);
    return NULL;
}

#define CALLERS 8

/* In a pull, with its lake: goes on a while after all have found that they need it. */
static void let_all_miss(void *lake) {
    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    for (int i = 0; stats.misses < CALLERS && i < PATIENCE_MS; i++) {
        sleep_ms(1);
        assert_ok(rv_lake_get_stats(lake, &stats, err));
    }
    sleep_ms(30);
}

static void call_all(caller *callers) {
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
}

static void one_pulls_and_all_get_it(void **state) {
    (void)state;
    for (int round = 0; round < 5; round++) {
        source a = {.id = "a", .data_ref = "x://s", .rows = 9};
        source b = {.id = "b", .data_ref = "x://s", .rows = 9};
        rv_lake *lake = new_lake(NULL);
        a.during_pull = b.during_pull = let_all_miss;
        a.ctx = b.ctx = lake;
        add_source(lake, &a);
        add_source(lake, &b);
        caller c[CALLERS];
        for (int i = 0; i < CALLERS; i++)
            c[i] = (caller){lake, docs_of(i % 2 ? &a : &b), RV_ACQUIRE_DEFAULT, 0, 0};
        call_all(c);
        for (int i = 0; i < CALLERS; i++) {
            assert_int_equal(c[i].status, RV_OK);
            assert_int_equal(c[i].id, 2);
        }
        assert_int_equal(a.pulls + b.pulls, 1);
        rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
        assert_ok(rv_lake_get_stats(lake, &stats, err));
        assert_int_equal(stats.primes, 1);
        assert_int_equal(stats.misses, CALLERS);
        assert_int_equal(stats.hits, 0);
        assert_int_equal(rv_lake_entry_count(lake), 1);
        /* and the entry is a sound one */
        found_at(lake, docs_of(&a), 0, 3);
        found_at(lake, docs_of(&b), 0, 3);
        assert_int_equal(a.pulls + b.pulls, 1);
        rv_lake_free(lake);
    }
}

static void one_failure_is_everybodys(void **state) {
    (void)state;
    rv_lake *lake = new_lake(NULL);
    source s = {.id = "a", .data_ref = "x://s", .rows = 9};
    s.pull_fails = RV_ERR_IO;
    s.during_pull = let_all_miss;
    s.ctx = lake;
    add_source(lake, &s);
    caller c[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        c[i] = (caller){lake, docs_of(&s), RV_ACQUIRE_DEFAULT, 0, 0};
    call_all(c);
    for (int i = 0; i < CALLERS; i++) assert_int_equal(c[i].status, RV_ERR_BACKEND);
    assert_true(s.pulls < CALLERS);
    rv_lake_free(lake);
}

static int stop(void *ctx, uint64_t done, uint64_t total) {
    (void)ctx;
    (void)done;
    (void)total;
    return 1;
}

/* One who waits may give up; the one at work goes on. */
static void waiting_can_be_cancelled(void **state) {
    (void)state;
    gate g = {0};
    source s = {.id = "a", .rows = 9, .during_pull = wait_at_gate, .ctx = &g};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    const rv_progress impatient = {stop, NULL};
    caller patient = {lake, docs_of(&s), RV_ACQUIRE_DEFAULT, 0, 0}, hasty = patient;
    hasty.options.progress = &impatient;
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, call, &patient);
    wait_until(&g.begun);
    pthread_create(&threads[1], NULL, call, &hasty);
    pthread_join(threads[1], NULL);
    assert_int_equal(hasty.status, RV_ERR_CANCELLED);
    g.open = true;
    pthread_join(threads[0], NULL);
    assert_int_equal(patient.status, RV_OK);
    rv_lake_free(lake);
}

typedef struct searcher {
    rv_lake *lake;
    rv_key key;
    rv_status status;
    meeting *all_pull;
    _Atomic bool done;
} searcher;

static void *invalidate(void *ctx) {
    searcher *s = ctx;
    rv_lake_invalidate(s->lake, s->key);
    s->done = true;
    return NULL;
}

/* A lake that waits for the writer of an index it shares waits there alone. */
static void an_index_that_is_locked_locks_no_lake(void **state) {
    (void)state;
    const uint64_t ids[2] = {0, 1};
    const float rows[2 * LAKE_DIM] = {0, 2};
    rv_build_options o = RV_BUILD_DEFAULT;
    o.kind = RV_PLUS;
    o.dim = LAKE_DIM;
    rv_index *index;
    assert_ok(rv_index_build(&o, &(rv_rows){rows, ids, 2, o.dim}, &index, err));
    rv_lake *lake = lake_of(RV_STALE, 0, NULL);
    caller c = {lake, {"a", "docs"}, RV_ACQUIRE_DEFAULT, 0, 0};
    searcher other = {.lake = lake, .key = {"b", "docs"}};
    assert_ok(rv_lake_install(lake, c.key, index, NULL, err));
    rvb_rwlock_write_lock(index->state);
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, call, &c);
    sleep_ms(50); /* enough for it to get there, as a rule */
    pthread_create(&threads[1], NULL, invalidate, &other);
    wait_until(&other.done);
    bool free = other.done;
    rvb_rwlock_write_unlock(index->state);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_true(free);
    assert_int_equal(c.status, RV_OK);
    assert_int_equal(c.id, 0);
    rv_index_free(index);
    rv_lake_free(lake);
}

/* ---- backends that search ---- */

static void search_it(void *ctx) {
    searcher *s = ctx;
    float query[LAKE_DIM] = {0}, score;
    uint64_t id;
    s->status = rv_lake_search(s->lake, s->key, &(rv_queries){query, 1, LAKE_DIM}, 1,
                               &(rv_result){&id, &score}, NULL);
}

static void a_backend_that_searches_itself(void **state) {
    (void)state;
    source s = {.id = "a", .rows = 9, .during_pull = search_it};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &s);
    searcher inner = {lake, docs_of(&s), RV_OK, NULL, false};
    s.ctx = &inner;
    found_at(lake, docs_of(&s), 0, 1);
    assert_int_equal(inner.status, RV_ERR_BACKEND);
    rv_lake_free(lake);
}

static void a_backend_that_searches_another(void **state) {
    (void)state;
    source a = {.id = "a", .rows = 9, .during_pull = search_it},
           b = {.id = "b", .rows = 9};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &a);
    add_source(lake, &b);
    searcher inner = {lake, docs_of(&b), RV_ERR_IO, NULL, false};
    a.ctx = &inner;
    found_at(lake, docs_of(&a), 0, 1);
    assert_int_equal(inner.status, RV_OK);
    rv_lake_free(lake);
}

static void meet_and_search(void *ctx) {
    searcher *s = ctx;
    meet(s->all_pull);
    search_it(s);
}

/* a's pull searches b and b's pull searches a: one of them is told no. */
static void two_backends_that_search_each_other(void **state) {
    (void)state;
    source a = {.id = "a", .rows = 9, .during_pull = meet_and_search};
    source b = {.id = "b", .rows = 9, .during_pull = meet_and_search};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &a);
    add_source(lake, &b);
    meeting both = {.expected = 2};
    searcher in_a = {lake, docs_of(&b), RV_OK, &both, false};
    searcher in_b = {lake, docs_of(&a), RV_OK, &both, false};
    a.ctx = &in_a;
    b.ctx = &in_b;
    caller c[2] = {{lake, docs_of(&a), RV_ACQUIRE_DEFAULT, 0, 0},
                   {lake, docs_of(&b), RV_ACQUIRE_DEFAULT, 0, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, call, &c[i]);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_int_equal(c[0].status, RV_OK);
    assert_int_equal(c[1].status, RV_OK);
    assert_true(in_a.status == RV_ERR_BACKEND || in_b.status == RV_ERR_BACKEND);
    rv_lake_free(lake);
}

/* ---- backends whose threads search ---- */

typedef struct errand_runner {
    searcher *searcher;
    rv_errand *errand;
} errand_runner;

static void *run_errand(void *ctx) {
    errand_runner *r = ctx;
    rv_errand *before = rv_errand_begin(r->errand);
    search_it(r->searcher);
    rv_errand_begin(before);
    return NULL;
}

static void search_it_in_a_thread(void *ctx) {
    errand_runner r = {ctx, NULL};
    pthread_t thread;
    assert_ok(rv_errand_here(&r.errand, err));
    pthread_create(&thread, NULL, run_errand, &r);
    pthread_join(thread, NULL);
    rv_errand_free(r.errand);
}

static void a_thread_on_an_errand_counts_as_who_sent_it(void **state) {
    (void)state;
    source a = {.id = "a", .rows = 9, .during_pull = search_it_in_a_thread},
           b = {.id = "b", .rows = 9, .during_pull = search_it_in_a_thread};
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &a);
    add_source(lake, &b);
    /* a's thread searches b, whose thread comes back to a */
    searcher in_a = {lake, docs_of(&b), RV_ERR_IO, NULL, false};
    searcher in_b = {lake, docs_of(&a), RV_OK, NULL, false};
    a.ctx = &in_a;
    b.ctx = &in_b;
    found_at(lake, docs_of(&a), 0, 1);
    assert_int_equal(in_a.status, RV_OK);
    assert_int_equal(in_b.status, RV_ERR_BACKEND);
    rv_errand *errand;
    assert_ok(rv_errand_here(&errand, err)); /* of nobody */
    assert_null(errand);
    rv_errand_free(NULL);
    rv_lake_free(lake);
}

typedef struct several {
    rv_lake *lake;
    rv_key keys[2];
    rv_status status;
} several;

static void acquire_several(void *ctx) {
    several *s = ctx;
    rv_pin *pins[2];
    s->status = rv_lake_acquire_all(s->lake, s->keys, 2, NULL, pins, NULL, NULL);
    for (int i = 0; i < 2 && s->status == RV_OK; i++) rv_pin_release(pins[i]);
}

/* Threads of the pool bring b and c up to date, and both come back to a. */
static void the_pool_works_for_who_gave_it_work(void **state) {
    (void)state;
    source a = {.id = "a", .rows = 9, .during_pull = acquire_several},
           b = {.id = "b", .rows = 9, .during_pull = search_it},
           c = {.id = "c", .rows = 9, .during_pull = search_it};
    assert_int_equal(rv_set_num_threads(4, NULL), RV_OK);
    rv_lake *lake = new_lake(NULL);
    add_source(lake, &a);
    add_source(lake, &b);
    add_source(lake, &c);
    several in_a = {lake, {docs_of(&b), docs_of(&c)}, RV_ERR_IO};
    searcher in_b = {lake, docs_of(&a), RV_OK, NULL, false}, in_c = in_b;
    a.ctx = &in_a;
    b.ctx = &in_b;
    c.ctx = &in_c;
    found_at(lake, docs_of(&a), 0, 1);
    assert_int_equal(in_a.status, RV_OK);
    assert_int_equal(in_b.status, RV_ERR_BACKEND);
    assert_int_equal(in_c.status, RV_ERR_BACKEND);
    assert_int_equal(rv_set_num_threads(0, NULL), RV_OK);
    rv_lake_free(lake);
}

/* ---- several keys ---- */

static void all_or_none(void **state) {
    (void)state;
    source s[3] = {{.id = "a", .rows = 3},
                   {.id = "b", .rows = 4, .callers_thread = true},
                   {.id = "c", .rows = 5}};
    rv_lake *lake = new_lake(NULL);
    rv_key keys[3];
    for (int i = 0; i < 3; i++) {
        add_source(lake, &s[i]);
        keys[i] = docs_of(&s[i]);
    }
    rv_pin *pins[3];
    size_t failed;
    for (int round = 0; round < 2; round++) {
        assert_ok(rv_lake_acquire_all(lake, keys, 3, NULL, pins, &failed, err));
        for (size_t i = 0; i < 3; i++) {
            rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
            assert_ok(rv_pin_info(pins[i], &info, err));
            assert_int_equal(info.n, 3 + i);
            rv_pin_release(pins[i]);
        }
    }
    assert_counts(lake, 3, 3, 3, 0, 0);
    for (size_t bad = 0; bad < 3; bad++) {
        for (int i = 0; i < 3; i++) rv_lake_invalidate(lake, keys[i]);
        s[bad].pull_fails = RV_ERR_IO;
        assert_fails(RV_ERR_BACKEND,
                     rv_lake_acquire_all(lake, keys, 3, NULL, pins, &failed, err));
        assert_int_equal(failed, bad);
        for (int i = 0; i < 3; i++) assert_null(pins[i]);
        s[bad].pull_fails = 0;
    }
    rv_key unknown[2] = {keys[0], {"d", "docs"}};
    assert_fails(RV_ERR_NOT_FOUND,
                 rv_lake_acquire_all(lake, unknown, 2, NULL, pins, &failed, err));
    assert_int_equal(failed, 1);
    assert_ok(rv_lake_acquire_all(lake, keys, 0, NULL, pins, &failed, err));
    rv_lake_free(lake);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_asks_every_time),
        cmocka_unit_test(eventual_asks_after_a_while),
        cmocka_unit_test(stale_asks_once),
        cmocka_unit_test(a_bundle_made_from_the_pull),
        cmocka_unit_test(data_and_witness_of_one_state),
        cmocka_unit_test(what_fails_leaves_nothing),
        cmocka_unit_test(only_what_is_cached),
        cmocka_unit_test(empty_collections),
        IN_FOLDER(two_backends_of_one_folder),
        cmocka_unit_test(a_collection_alone),
        cmocka_unit_test(one_pulls_and_all_get_it),
        cmocka_unit_test(one_failure_is_everybodys),
        cmocka_unit_test(waiting_can_be_cancelled),
        cmocka_unit_test(an_index_that_is_locked_locks_no_lake),
        cmocka_unit_test(a_backend_that_searches_itself),
        cmocka_unit_test(a_backend_that_searches_another),
        cmocka_unit_test(two_backends_that_search_each_other),
        cmocka_unit_test(a_thread_on_an_errand_counts_as_who_sent_it),
        cmocka_unit_test(the_pool_works_for_who_gave_it_work),
        cmocka_unit_test(all_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
