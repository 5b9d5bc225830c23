/*
 * Shared loops. Bodies run on threads that must not jump out of them, so they note
 * what they see and the test asserts afterwards. Where a test needs two threads at
 * once, bodies wait for each other: a pool that fails to bring them together shows
 * as a test that does not end.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "failing_allocator.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define WITH_TSAN 1
#endif
#ifdef __SANITIZE_ADDRESS__
#define WITH_ASAN 1
#endif

#define ROWS_MAX 3000

static rvb_pool *pool_of(unsigned threads) {
    assert_int_equal(rv_set_num_threads(threads, NULL), RV_OK);
    rvb_pool *pool = rvb_pool_acquire();
    assert_int_equal(rvb_pool_workers(pool), threads);
    return pool;
}

static void await(atomic_int *value, int at_least) {
    while (atomic_load(value) < at_least) usleep(50);
}

/* ---- which rows, by whom ------------------------------------------------- */

typedef struct coverage {
    size_t n, grain;
    unsigned workers;
    atomic_int visits[ROWS_MAX];
    atomic_int busy[64]; /* by worker */
    atomic_int wrong;
} coverage;

static rv_status cover(void *ctx, unsigned worker, size_t begin, size_t end,
                       rv_error *err) {
    (void)err;
    coverage *c = ctx;
    if (worker >= c->workers || atomic_fetch_add(&c->busy[worker], 1) != 0) c->wrong = 1;
    if (begin % c->grain != 0 || begin >= end || end > c->n) c->wrong = 1;
    if (end - begin != c->grain && end != c->n) c->wrong = 1;
    for (size_t i = begin; i < end; i++) atomic_fetch_add(&c->visits[i], 1);
    atomic_fetch_sub(&c->busy[worker], 1);
    return RV_OK;
}

static void every_row_once_in_chunks_of_the_grain(void **state) {
    (void)state;
    static const unsigned threads[] = {1, 2, 3, 16};
    static const size_t sizes[] = {0, 1, 2, 63, 64, 65, 1000, ROWS_MAX};
    static const size_t grains[] = {1, 2, 7, 64, 999, 1000, 5000, SIZE_MAX};
    static coverage c;
    for (size_t t = 0; t < 4; t++) {
        rvb_pool *pool = pool_of(threads[t]);
        for (size_t s = 0; s < 8; s++) {
            for (size_t g = 0; g < 8; g++) {
                memset(&c, 0, sizeof c);
                c.n = sizes[s];
                c.grain = grains[g];
                c.workers = threads[t];
                assert_int_equal(rvb_pool_for(pool, c.n, c.grain, cover, &c, NULL, NULL),
                                 RV_OK);
                assert_int_equal(c.wrong, 0);
                for (size_t i = 0; i < ROWS_MAX; i++) {
                    assert_int_equal(c.visits[i], i < c.n);
                }
            }
        }
        rvb_pool_release(pool);
    }
}

typedef struct trace {
    pthread_t caller;
    size_t next;
    bool wrong;
} trace;

static rv_status follow(void *ctx, unsigned worker, size_t begin, size_t end,
                        rv_error *err) {
    (void)err;
    trace *t = ctx;
    if (worker != 0 || begin != t->next || !pthread_equal(t->caller, pthread_self())) {
        t->wrong = true;
    }
    t->next = end;
    return RV_OK;
}

static void no_pool_means_one_after_the_other(void **state) {
    (void)state;
    trace t = {.caller = pthread_self()};
    assert_int_equal(rvb_pool_workers(NULL), 1);
    assert_int_equal(rvb_pool_for(NULL, 1000, 7, follow, &t, NULL, NULL), RV_OK);
    assert_int_equal(t.next, 1000);
    assert_false(t.wrong);
    rvb_pool_release(NULL);
}

static rv_status add_lengths(void *ctx, unsigned worker, size_t begin, size_t end,
                             rv_error *err) {
    (void)worker;
    (void)err;
    atomic_fetch_add((atomic_size_t *)ctx, end - begin);
    return RV_OK;
}

static void the_largest_sizes_do_not_wrap(void **state) {
    (void)state;
    rvb_pool *pool = pool_of(3);
    static const size_t grains[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2,
                                    SIZE_MAX / 3 + 1};
    for (size_t i = 0; i < 4; i++) {
        atomic_size_t rows = 0;
        assert_int_equal(
            rvb_pool_for(pool, SIZE_MAX, grains[i], add_lengths, &rows, NULL, NULL),
            RV_OK);
        assert_true(rows == SIZE_MAX);
    }
    rvb_pool_release(pool);
}

typedef struct meeting {
    atomic_int arrived;
    int wanted;
} meeting;

static rv_status meet(void *ctx, unsigned worker, size_t begin, size_t end,
                      rv_error *err) {
    (void)worker;
    (void)begin;
    (void)end;
    (void)err;
    meeting *m = ctx;
    atomic_fetch_add(&m->arrived, 1);
    await(&m->arrived, m->wanted);
    return RV_OK;
}

typedef struct polite_meeting {
    meeting m;
    atomic_int polite;
} polite_meeting;

static rv_status meet_politely(void *ctx, unsigned worker, size_t begin, size_t end,
                               rv_error *err) {
    polite_meeting *p = ctx;
    atomic_fetch_add(&p->polite, rvb_is_polite());
    return meet(&p->m, worker, begin, end, err);
}

static void threads_are_as_polite_as_the_caller(void **state) {
    (void)state;
    rvb_pool *pool = pool_of(3);
    for (int round = 0; round < 4; round++) {
        bool polite = round % 2;
        polite_meeting p = {.m.wanted = 3};
        rvb_set_polite(polite);
        assert_int_equal(rvb_pool_for(pool, 3, 1, meet_politely, &p, NULL, NULL), RV_OK);
        assert_int_equal(p.polite, polite ? 3 : 0);
        assert_int_equal(rvb_set_polite(false), polite);
    }
    rvb_pool_release(pool);
}

static void all_threads_take_part(void **state) {
    (void)state;
    rvb_pool *pool = pool_of(5);
    for (int i = 0; i < 50; i++) { /* idle threads must wake each time */
        meeting m = {.wanted = i % 2 ? 5 : 2};
        assert_int_equal(rvb_pool_for(pool, (size_t)m.wanted, 1, meet, &m, NULL, NULL),
                         RV_OK);
    }
    rvb_pool_release(pool);
}

/* ---- failures ------------------------------------------------------------ */

typedef struct failing {
    size_t first_bad;
    atomic_size_t ran;
    meeting together;
    bool silent;
} failing;

static rv_status fail_from(void *ctx, unsigned worker, size_t begin, size_t end,
                           rv_error *err) {
    (void)worker;
    (void)end;
    failing *f = ctx;
    atomic_fetch_add(&f->ran, 1);
    if (f->together.wanted) meet(&f->together, worker, begin, end, err);
    if (begin < f->first_bad) return RV_OK;
    if (f->silent) return RV_ERR_VALUE;
    return rvb_fail_numbers(err, RV_ERR_VALUE, 0, begin, "row %zu", begin);
}

static void a_failure_ends_the_loop(void **state) {
    (void)state;
    failing f = {.first_bad = 30};
    rv_error err;
    assert_int_equal(rvb_pool_for(NULL, 100, 10, fail_from, &f, NULL, &err),
                     RV_ERR_VALUE);
    assert_int_equal(f.ran, 4);
    assert_int_equal(err.code, RV_ERR_VALUE);
    assert_string_equal(err.message, "row 30");
    assert_int_equal(rvb_pool_for(NULL, 100, 10, fail_from, &f, NULL, NULL),
                     RV_ERR_VALUE);

    /* So many chunks that a loop which goes on would not come back. */
    rvb_pool *pool = pool_of(4);
    failing g = {.first_bad = 1000};
    assert_int_equal(rvb_pool_for(pool, SIZE_MAX, 1, fail_from, &g, NULL, &err),
                     RV_ERR_VALUE);
    assert_int_equal(err.actual, 1000);
    rvb_pool_release(pool);
}

static void the_lowest_failing_chunk_is_told(void **state) {
    (void)state;
    rvb_pool *pool = pool_of(4);
    for (int i = 0; i < 300; i++) {
        failing f = {.first_bad = 1, .together = {.wanted = 4}};
        rv_error err;
        assert_int_equal(rvb_pool_for(pool, 4, 1, fail_from, &f, NULL, &err),
                         RV_ERR_VALUE);
        assert_int_equal(err.actual, 1); /* 1, 2 and 3 failed, in whatever order */
        assert_string_equal(err.message, "row 1");
    }
    rvb_pool_release(pool);
}

static void a_body_may_fail_without_words(void **state) {
    (void)state;
    failing f = {.silent = true};
    rv_error err;
    memset(&err, 0x5A, sizeof err);
    assert_int_equal(rvb_pool_for(NULL, 1, 1, fail_from, &f, NULL, &err), RV_ERR_VALUE);
    assert_int_equal(err.code, RV_ERR_VALUE);
    assert_string_equal(err.message, "value");
}

/* ---- progress ------------------------------------------------------------ */

typedef struct watch {
    pthread_t caller;
    uint64_t total, last_done;
    atomic_int reports;
    int complete; /* reports of all rows */
    int stop_at;  /* number of the report that cancels; 0 = none */
    bool wrong;
} watch;

static int on_progress(void *ctx, uint64_t done, uint64_t total) {
    watch *w = ctx;
    if (!pthread_equal(w->caller, pthread_self())) w->wrong = true;
    if (total != w->total || done > total || done < w->last_done) w->wrong = true;
    w->last_done = done;
    w->complete += done == total;
    return atomic_fetch_add(&w->reports, 1) + 1 == w->stop_at;
}

static rv_status wait_for_reports(void *ctx, unsigned worker, size_t begin, size_t end,
                                  rv_error *err) {
    (void)begin;
    (void)end;
    (void)err;
    watch *w = ctx;
    /* The caller must get away to report, and runs only what it needs to. */
    if (worker == 0) {
        usleep(1000);
    } else {
        await(&w->reports, 3);
    }
    return RV_OK;
}

static void progress_comes_while_the_caller_works(void **state) {
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        rvb_pool *pool = pool_of(threads);
        watch w = {.caller = pthread_self(), .total = 400 * 3};
        const rv_progress progress = {on_progress, &w};
        assert_int_equal(
            rvb_pool_for(pool, 400 * 3, 3, wait_for_reports, &w, &progress, NULL), RV_OK);
        assert_false(w.wrong);
        assert_true(w.reports >= 3); /* 400 ms of work in all */
        assert_int_equal(w.complete, 1);
        assert_int_equal(w.last_done, w.total);
        rvb_pool_release(pool);
    }
}

typedef struct straggle {
    meeting both;
    watch w;
} straggle;

static rv_status straggle_on_others(void *ctx, unsigned worker, size_t begin, size_t end,
                                    rv_error *err) {
    straggle *s = ctx;
    meet(&s->both, worker, begin, end, err);
    if (worker != 0) await(&s->w.reports, 2);
    return RV_OK;
}

static void progress_comes_while_the_caller_waits(void **state) {
    (void)state;
    rvb_pool *pool = pool_of(2);
    for (int stop_at = 0; stop_at <= 2; stop_at += 2) {
        straggle s = {{.wanted = 2}, {.caller = pthread_self(), .total = 2}};
        s.w.stop_at = stop_at;
        const rv_progress progress = {on_progress, &s.w};
        rv_error err;
        rv_status status =
            rvb_pool_for(pool, 2, 1, straggle_on_others, &s, &progress, &err);
        assert_false(s.w.wrong);
        assert_int_equal(status, stop_at ? RV_ERR_CANCELLED : RV_OK);
        assert_int_equal(s.w.complete, !stop_at);
        if (stop_at) assert_int_equal(err.code, RV_ERR_CANCELLED);
    }
    rvb_pool_release(pool);
}

static rv_status nap(void *ctx, unsigned worker, size_t begin, size_t end,
                     rv_error *err) {
    (void)ctx;
    (void)worker;
    (void)begin;
    (void)end;
    (void)err;
    usleep(100);
    return RV_OK;
}

static void a_cancelled_loop_ends(void **state) {
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        rvb_pool *pool = pool_of(threads);
        watch w = {.caller = pthread_self(), .total = SIZE_MAX, .stop_at = 1};
        const rv_progress progress = {on_progress, &w};
        rv_error err;
        assert_int_equal(rvb_pool_for(pool, SIZE_MAX, 1, nap, NULL, &progress, &err),
                         RV_ERR_CANCELLED);
        assert_int_equal(err.code, RV_ERR_CANCELLED);
        assert_int_equal(w.reports, 1);
        assert_int_equal(w.complete, 0);
        rvb_pool_release(pool);
    }
}

static void the_last_report_counts_too(void **state) {
    (void)state;
    watch w = {.caller = pthread_self(), .total = 10, .stop_at = 1};
    const rv_progress progress = {on_progress, &w};
    atomic_size_t rows = 0;
    assert_int_equal(rvb_pool_for(NULL, 10, 1, add_lengths, &rows, &progress, NULL),
                     RV_ERR_CANCELLED);
    assert_int_equal(w.complete, 1);
    assert_int_equal(rows, 10);
}

static void failed_and_empty_loops_report_nothing(void **state) {
    (void)state;
    watch w = {.caller = pthread_self(), .total = 10};
    const rv_progress progress = {on_progress, &w};
    failing f = {.first_bad = 9};
    assert_int_equal(rvb_pool_for(NULL, 10, 1, fail_from, &f, &progress, NULL),
                     RV_ERR_VALUE);
    assert_int_equal(rvb_pool_for(NULL, 0, 1, fail_from, &f, &progress, NULL), RV_OK);
    assert_int_equal(w.reports, 0);
}

/* ---- loops inside loops, loops side by side ------------------------------- */

typedef struct nest {
    rvb_pool *pool;
    watch w;
    bool fail;
    atomic_int wrong;
} nest;

static rv_status loop_inside(void *ctx, unsigned worker, size_t begin, size_t end,
                             rv_error *err) {
    (void)worker;
    (void)begin;
    (void)end;
    nest *n = ctx;
    trace t = {.caller = pthread_self()};
    failing f = {.first_bad = 7};
    const rv_progress progress = {on_progress, &n->w};
    rv_status status = rvb_pool_for(n->pool, 100, 3, follow, &t, &progress, err);
    if (status != RV_OK || t.wrong || t.next != 100) n->wrong = 1;
    return n->fail ? rvb_pool_for(n->pool, 10, 1, fail_from, &f, NULL, err) : RV_OK;
}

static void inner_loops_are_serial_and_quiet(void **state) {
    (void)state;
    rvb_pool *pool = pool_of(4);
    nest n = {.pool = pool};
    rv_error err;
    assert_int_equal(rvb_pool_for(pool, 200, 1, loop_inside, &n, NULL, NULL), RV_OK);
    assert_int_equal(rvb_pool_for(NULL, 5, 1, loop_inside, &n, NULL, NULL), RV_OK);
    n.fail = true;
    assert_int_equal(rvb_pool_for(pool, 200, 1, loop_inside, &n, NULL, &err),
                     RV_ERR_VALUE);
    assert_string_equal(err.message, "row 7");
    assert_int_equal(n.wrong, 0);
    assert_int_equal(n.w.reports, 0);
    /* The caller was inside a body and is no longer. */
    meeting m = {.wanted = 2};
    assert_int_equal(rvb_pool_for(pool, 2, 1, meet, &m, NULL, NULL), RV_OK);
    rvb_pool_release(pool);
}

enum { CALLERS = 4, LOOPS = 200 };

static void loop_often(void *ctx) {
    atomic_int *wrong = ctx;
    for (size_t i = 0; i < LOOPS; i++) {
        atomic_size_t rows = 0;
        rvb_pool *pool = rvb_pool_acquire();
        if (rvb_pool_for(pool, 100 + i, 3, add_lengths, &rows, NULL, NULL) != RV_OK ||
            rows != 100 + i) {
            atomic_store(wrong, 1);
        }
        rvb_pool_release(pool);
    }
}

static void run_callers(rvb_thread callers[CALLERS], void (*run)(void *ctx), void *ctx) {
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(rvb_thread_start(&callers[i], run, ctx), 0);
    }
}

static void join_callers(rvb_thread callers[CALLERS]) {
    for (int i = 0; i < CALLERS; i++) rvb_thread_join(&callers[i]);
}

static void callers_share_a_pool(void **state) {
    (void)state;
    atomic_int wrong = 0;
    rvb_thread callers[CALLERS];
    assert_int_equal(rv_set_num_threads(3, NULL), RV_OK);
    run_callers(callers, loop_often, &wrong);
    join_callers(callers);
    assert_int_equal(wrong, 0);
}

typedef struct endless {
    rvb_pool *pool;
    meeting all;
    atomic_int stop;
} endless;

static rv_status until_stopped(void *ctx, unsigned worker, size_t begin, size_t end,
                               rv_error *err) {
    (void)worker;
    (void)begin;
    (void)end;
    endless *e = ctx;
    atomic_fetch_add(&e->all.arrived, 1);
    usleep(100);
    return atomic_load(&e->stop) ? rvb_fail(err, RV_ERR_LIMIT, "stopped") : RV_OK;
}

static void run_endless(void *ctx) {
    endless *e = ctx;
    rv_status status = rvb_pool_for(e->pool, SIZE_MAX, 1, until_stopped, e, NULL, NULL);
    if (status != RV_ERR_LIMIT) atomic_store(&e->stop, 2);
}

static void a_long_loop_gives_threads_to_a_new_one(void **state) {
    (void)state;
    endless e = {.pool = pool_of(3)};
    rvb_thread caller;
    assert_int_equal(rvb_thread_start(&caller, run_endless, &e), 0);
    await(&e.all.arrived, 20); /* by now it has all the threads there are */
    meeting m = {.wanted = 2};
    assert_int_equal(rvb_pool_for(e.pool, 2, 1, meet, &m, NULL, NULL), RV_OK);
    atomic_store(&e.stop, 1);
    rvb_thread_join(&caller);
    assert_int_equal(e.stop, 1);
    rvb_pool_release(e.pool);
}

/* ---- number of threads --------------------------------------------------- */

static void the_number_of_threads_can_be_set(void **state) {
    (void)state;
    rv_error err;
    assert_int_equal(rv_set_num_threads(1024, NULL), RV_OK);
    assert_int_equal(rv_get_num_threads(), 1024);
    assert_int_equal(rv_set_num_threads(1025, &err), RV_ERR_ARGUMENT);
    assert_int_equal(err.expected, 1024);
    assert_int_equal(err.actual, 1025);
    assert_int_equal(rv_get_num_threads(), 1024);
    assert_int_equal(rv_set_num_threads(1, NULL), RV_OK);
    assert_int_equal(rv_get_num_threads(), 1);
    assert_null(rvb_pool_acquire());
}

static unsigned threads_for(const char *value) {
    if (value) {
        setenv("RUVECTOR_NUM_THREADS", value, 1);
    } else {
        unsetenv("RUVECTOR_NUM_THREADS");
    }
    assert_int_equal(rv_set_num_threads(0, NULL), RV_OK);
    return rv_get_num_threads();
}

static void the_environment_gives_the_default(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",   "0",   "00",  "-1",   "+2",   " 2",         "2 ",
        "2x", "0x2", "2.0", "many", "1025", "4294967298", "99999999999999999999999"};
    unsigned cpus = rvb_cpu_count();
    assert_int_equal(threads_for("3"), 3);
    assert_int_equal(threads_for("1"), 1);
    assert_int_equal(threads_for("0007"), 7);
    assert_int_equal(threads_for("1024"), 1024);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(threads_for(bad[i]), cpus);
    }
    assert_int_equal(threads_for("5"), 5);
    assert_int_equal(rv_set_num_threads(2, NULL), RV_OK);
    assert_int_equal(rv_get_num_threads(), 2);
    assert_int_equal(threads_for(NULL), cpus);
}

static void a_pool_in_use_outlives_a_change(void **state) {
    (void)state;
    endless e = {.pool = pool_of(3)};
    rvb_thread caller;
    assert_int_equal(rvb_thread_start(&caller, run_endless, &e), 0);
    await(&e.all.arrived, 20);

    rvb_pool *other = pool_of(2);
    assert_ptr_not_equal(other, e.pool);
    assert_int_equal(rvb_pool_workers(e.pool), 3);
    rvb_pool *again = rvb_pool_acquire();
    assert_ptr_equal(again, other);
    rvb_pool_release(again);
    assert_int_equal(rv_set_num_threads(2, NULL), RV_OK); /* no change, no new pool */
    again = rvb_pool_acquire();
    assert_ptr_equal(again, other);
    rvb_pool_release(again);
    rvb_pool_release(other);

    atomic_store(&e.stop, 1);
    rvb_thread_join(&caller);
    assert_int_equal(e.stop, 1);
    rvb_pool_release(e.pool); /* its last user: threads and memory go */
}

#if defined(__linux__) && !defined(WITH_TSAN)

static unsigned threads_alive(void) {
    unsigned n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* A joined thread stays listed for a moment. (ThreadSanitizer's own thread comes and
 * would be counted.) */
static void await_threads(unsigned n) {
    while (threads_alive() != n) usleep(50);
}

/* Runs first, while no other pool's threads can be on their way out. */
static void threads_end_with_their_pool(void **state) {
    (void)state;
    unsigned before = threads_alive();
    rvb_pool *pool = pool_of(5);
    assert_int_equal(threads_alive(), before + 4);
    rvb_pool_release(pool);
    assert_int_equal(threads_alive(), before + 4); /* kept for the next call */
    assert_int_equal(rv_set_num_threads(1, NULL), RV_OK);
    await_threads(before);

    pool = pool_of(5);
    assert_int_equal(rv_set_num_threads(1, NULL), RV_OK);
    assert_int_equal(threads_alive(), before + 4);
    rvb_pool_release(pool);
    await_threads(before);
}

#endif

static void change_often(void *ctx) {
    atomic_int *stop = ctx;
    while (!atomic_load(stop)) {
        for (unsigned n = 1; n <= 4; n++) (void)rv_set_num_threads(n, NULL);
        usleep(100);
    }
}

static void changes_amid_calls(void **state) {
    (void)state;
    atomic_int wrong = 0, stop = 0;
    rvb_thread callers[CALLERS], changer;
    run_callers(callers, loop_often, &wrong);
    assert_int_equal(rvb_thread_start(&changer, change_often, &stop), 0);
    join_callers(callers);
    atomic_store(&stop, 1);
    rvb_thread_join(&changer);
    assert_int_equal(wrong, 0);
}

static int set_threads_in_report(void *ctx, uint64_t done, uint64_t total) {
    (void)done;
    (void)total;
    *(rv_status *)ctx = rv_set_num_threads(2, NULL);
    return 0;
}

static void a_callback_may_change_it(void **state) {
    (void)state;
    rvb_pool *pool = pool_of(3);
    rv_status status = RV_ERR_IO;
    const rv_progress progress = {set_threads_in_report, &status};
    assert_int_equal(rvb_pool_for(pool, 10, 1, nap, NULL, &progress, NULL), RV_OK);
    assert_int_equal(status, RV_OK);
    rvb_pool_release(pool);
    assert_int_equal(rv_get_num_threads(), 2);
}

/* ---- when threads or memory cannot be had --------------------------------- */

static void no_memory_means_no_pool(void **state) {
    (void)state;
    atomic_size_t rows = 0;
    assert_int_equal(rv_set_num_threads(1, NULL), RV_OK); /* gives back what there was */
    assert_int_equal(rv_set_num_threads(3, NULL), RV_OK);
    failing_allocator_install(1);
    rvb_pool *pool = rvb_pool_acquire();
    assert_int_equal(failing_allocator_calls(), 1);
    assert_null(pool);
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
    assert_int_equal(rvb_pool_for(pool, 100, 1, add_lengths, &rows, NULL, NULL), RV_OK);
    assert_int_equal(rows, 100);
    pool = rvb_pool_acquire(); /* asked again, it can be had */
    assert_int_equal(rvb_pool_workers(pool), 3);
    rvb_pool_release(pool);
}

#if defined(__linux__) && !defined(WITH_TSAN) && !defined(WITH_ASAN)

/* Stands before the C library's; sanitizers put their own there. */
static int threads_allowed = -1; /* -1 = any number */

int pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *ctx) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if (threads_allowed == 0) return EAGAIN;
    if (threads_allowed > 0) threads_allowed--;
    return real(id, attributes, run, ctx);
}

static void fewer_threads_will_do(void **state) {
    (void)state;
    for (int allowed = 0; allowed <= 2; allowed++) {
        assert_int_equal(rv_set_num_threads(1, NULL), RV_OK);
        assert_int_equal(rv_set_num_threads(5, NULL), RV_OK);
        threads_allowed = allowed;
        rvb_pool *pool = rvb_pool_acquire();
        threads_allowed = -1;
        assert_int_equal(pool != NULL, allowed > 0);
        assert_int_equal(rvb_pool_workers(pool), allowed + 1);
        meeting m = {.wanted = allowed + 1};
        assert_int_equal(rvb_pool_for(pool, (size_t)m.wanted, 1, meet, &m, NULL, NULL),
                         RV_OK);
        rvb_pool_release(pool);
    }
}

#endif

/* ---- fork ---------------------------------------------------------------- */

static int exit_code(pid_t child) {
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
}

/* In a child: nothing of the parent's threads is left, yet loops work. */
static int use_pools_in_child(rvb_pool *of_parent) {
    atomic_size_t rows = 0;
    trace t = {.caller = pthread_self()};
    meeting m = {.wanted = 3};
    if (rvb_pool_for(of_parent, 1000, 7, follow, &t, NULL, NULL) != RV_OK) return 1;
    if (t.wrong || t.next != 1000) return 2;
    rvb_pool_release(of_parent);
    rvb_pool *own = rvb_pool_acquire();
    if (!own || own == of_parent || rvb_pool_workers(own) != 3) return 3;
    if (rvb_pool_for(own, 3, 1, meet, &m, NULL, NULL) != RV_OK) return 4;
    if (rvb_pool_for(own, 1000, 7, add_lengths, &rows, NULL, NULL) != RV_OK) return 5;
    rvb_pool_release(own);
    if (rv_set_num_threads(2, NULL) != RV_OK)
        return 6; /* joins the child's own threads */
    return rows == 1000 ? 0 : 7;
}

/* ThreadSanitizer does not follow a process of several threads into its fork. */
#ifdef WITH_TSAN
#define SKIP_FORK() skip()
#else
#define SKIP_FORK() (void)0
#endif

static void a_child_starts_anew(void **state) {
    (void)state;
    SKIP_FORK();
    rvb_pool *pool = pool_of(3);
    pid_t child = fork();
    if (child == 0) _exit(use_pools_in_child(pool));
    assert_int_equal(exit_code(child), 0);
    meeting m = {.wanted = 3}; /* the parent's threads are still there */
    assert_int_equal(rvb_pool_for(pool, 3, 1, meet, &m, NULL, NULL), RV_OK);
    rvb_pool_release(pool);
}

static void forks_amid_calls(void **state) {
    (void)state;
    SKIP_FORK();
    atomic_int wrong = 0;
    rvb_thread callers[CALLERS];
    rvb_pool *pool = pool_of(3);
    run_callers(callers, loop_often, &wrong);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) _exit(use_pools_in_child(pool));
        assert_int_equal(exit_code(child), 0);
    }
    join_callers(callers);
    assert_int_equal(wrong, 0);
    rvb_pool_release(pool);
}

typedef struct forking {
    straggle s;
    pid_t child;
    int stop_at;
} forking;

static int fork_in_report(void *ctx, uint64_t done, uint64_t total) {
    forking *f = ctx;
    (void)done;
    (void)total;
    int report = atomic_fetch_add(&f->s.w.reports, 1) + 1;
    if (report == 1) f->child = fork();
    return report == f->stop_at;
}

/* The child of a fork in a callback has a loop that nobody can finish. */
static void a_callback_may_fork_while_the_caller_waits(void **state) {
    (void)state;
    SKIP_FORK();
    rvb_pool *pool = pool_of(3);
    forking f = {.s.both.wanted = 2, .child = -1};
    const rv_progress progress = {fork_in_report, &f};
    rv_status status =
        rvb_pool_for(pool, 2, 1, straggle_on_others, &f.s, &progress, NULL);
    if (f.child == 0) _exit(status == RV_ERR_CANCELLED ? use_pools_in_child(pool) : 10);
    assert_int_equal(status, RV_OK);
    assert_int_equal(exit_code(f.child), 0);
    rvb_pool_release(pool);
}

static void a_callback_may_fork_while_the_caller_works(void **state) {
    (void)state;
    SKIP_FORK();
    rvb_pool *pool = pool_of(3);
    forking f = {.child = -1, .stop_at = 2};
    const rv_progress progress = {fork_in_report, &f};
    rv_status status = rvb_pool_for(pool, SIZE_MAX, 1, nap, NULL, &progress, NULL);
    if (f.child == 0) _exit(status == RV_ERR_CANCELLED ? use_pools_in_child(pool) : 10);
    assert_int_equal(status, RV_ERR_CANCELLED);
    assert_int_equal(exit_code(f.child), 0);
    rvb_pool_release(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if defined(__linux__) && !defined(WITH_TSAN)
        cmocka_unit_test(threads_end_with_their_pool),
#endif
        cmocka_unit_test(every_row_once_in_chunks_of_the_grain),
        cmocka_unit_test(no_pool_means_one_after_the_other),
        cmocka_unit_test(the_largest_sizes_do_not_wrap),
        cmocka_unit_test(all_threads_take_part),
        cmocka_unit_test(threads_are_as_polite_as_the_caller),
        cmocka_unit_test(a_failure_ends_the_loop),
        cmocka_unit_test(the_lowest_failing_chunk_is_told),
        cmocka_unit_test(a_body_may_fail_without_words),
        cmocka_unit_test(progress_comes_while_the_caller_works),
        cmocka_unit_test(progress_comes_while_the_caller_waits),
        cmocka_unit_test(a_cancelled_loop_ends),
        cmocka_unit_test(the_last_report_counts_too),
        cmocka_unit_test(failed_and_empty_loops_report_nothing),
        cmocka_unit_test(inner_loops_are_serial_and_quiet),
        cmocka_unit_test(callers_share_a_pool),
        cmocka_unit_test(a_long_loop_gives_threads_to_a_new_one),
        cmocka_unit_test(the_number_of_threads_can_be_set),
        cmocka_unit_test(the_environment_gives_the_default),
        cmocka_unit_test(a_pool_in_use_outlives_a_change),
        cmocka_unit_test(changes_amid_calls),
        cmocka_unit_test(a_callback_may_change_it),
        cmocka_unit_test(no_memory_means_no_pool),
#if defined(__linux__) && !defined(WITH_TSAN) && !defined(WITH_ASAN)
        cmocka_unit_test(fewer_threads_will_do),
#endif
        cmocka_unit_test(a_child_starts_anew),
        cmocka_unit_test(forks_amid_calls),
        cmocka_unit_test(a_callback_may_fork_while_the_caller_waits),
        cmocka_unit_test(a_callback_may_fork_while_the_caller_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
