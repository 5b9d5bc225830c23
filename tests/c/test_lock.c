/*
 * test_lock.c - mutexes exclude, readers share, writers do not starve, waits end, batons
 * go round in no circle, and a fork's child finds no lock that nobody will open.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#ifndef _WIN32
#include <sys/wait.h>
#endif

#include <cmocka.h>

#include "base/os.h"
#include "failing_allocator.h"

enum { THREADS = 4, ROUNDS = 5000 };

typedef struct counting {
    rvb_mutex *mutex;
    rvb_rwlock *lock;
    int count[2]; /* equal whenever nobody writes */
    atomic_int torn;
} counting;

static void count_under_mutex(void *ctx) {
    counting *c = ctx;
    for (int i = 0; i < ROUNDS; i++) {
        rvb_mutex_lock(c->mutex);
        c->count[0]++;
        rvb_mutex_unlock(c->mutex);
    }
}

static void read_and_write(void *ctx) {
    counting *c = ctx;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 4 == 0) {
            rvb_rwlock_write_lock(c->lock);
            c->count[0]++;
            c->count[1]++;
            rvb_rwlock_write_unlock(c->lock);
        } else {
            rvb_rwlock_read_lock(c->lock);
            if (c->count[0] != c->count[1]) atomic_store(&c->torn, 1);
            rvb_rwlock_read_unlock(c->lock);
        }
    }
}

static void run_threads(void (*run)(void *ctx), void *ctx) {
    rvb_thread threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(rvb_thread_start(&threads[i], run, ctx), 0);
    }
    for (int i = 0; i < THREADS; i++) rvb_thread_join(&threads[i]);
}

static void a_mutex_excludes(void **state) {
    (void)state;
    counting c = {.mutex = rvb_mutex_create()};
    assert_non_null(c.mutex);
    run_threads(count_under_mutex, &c);
    assert_int_equal(c.count[0], THREADS * ROUNDS);
    rvb_mutex_free(c.mutex);
    rvb_mutex_free(NULL);
}

static void readers_see_whole_writes(void **state) {
    (void)state;
    counting c = {.lock = rvb_rwlock_create()};
    assert_non_null(c.lock);
    run_threads(read_and_write, &c);
    assert_int_equal(c.count[0], THREADS * ROUNDS / 4);
    assert_int_equal(c.count[1], c.count[0]);
    assert_int_equal(c.torn, 0);
    rvb_rwlock_free(c.lock);
    rvb_rwlock_free(NULL);
}

/* Every thread holds the lock until all of them do: with exclusive locks, never. */
typedef struct meeting {
    rvb_rwlock *lock;
    atomic_int present;
} meeting;

static void meet_as_reader(void *ctx) {
    meeting *m = ctx;
    rvb_rwlock_read_lock(m->lock);
    atomic_fetch_add(&m->present, 1);
    while (atomic_load(&m->present) < THREADS) usleep(100);
    rvb_rwlock_read_unlock(m->lock);
}

static void readers_share(void **state) {
    (void)state;
    meeting m = {.lock = rvb_rwlock_create()};
    run_threads(meet_as_reader, &m);
    rvb_rwlock_free(m.lock);
}

#ifdef __linux__

typedef struct turn {
    rvb_rwlock *lock;
    atomic_int thread_id; /* of the kernel, once about to lock */
    atomic_int *order;
    int place; /* what *order was when the lock was had */
} turn;

static void write_in_turn(void *ctx) {
    turn *t = ctx;
    atomic_store(&t->thread_id, (int)syscall(SYS_gettid));
    rvb_rwlock_write_lock(t->lock);
    t->place = atomic_fetch_add(t->order, 1);
    rvb_rwlock_write_unlock(t->lock);
}

static void read_in_turn(void *ctx) {
    turn *t = ctx;
    atomic_store(&t->thread_id, (int)syscall(SYS_gettid));
    rvb_rwlock_read_lock(t->lock);
    t->place = atomic_fetch_add(t->order, 1);
    rvb_rwlock_read_unlock(t->lock);
}

/* Returns when the kernel has seen the thread asleep for a while: it waits. */
static void await_sleep(turn *t) {
    int asleep = 0;
    while (asleep < 20) {
        char path[64], line[256], *close;
        usleep(1000);
        int id = atomic_load(&t->thread_id);
        if (id == 0) continue;
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
        FILE *f = fopen(path, "r");
        assert_non_null(f); /* else the thread got the lock and ended */
        assert_non_null(fgets(line, sizeof line, f));
        fclose(f);
        close = strrchr(line, ')');
        assert_non_null(close);
        asleep = close[2] == 'S' ? asleep + 1 : 0;
    }
}

static void a_waiting_writer_goes_before_new_readers(void **state) {
    (void)state;
    atomic_int order = 0;
    rvb_rwlock *lock = rvb_rwlock_create();
    turn writer = {.lock = lock, .order = &order},
         reader = {.lock = lock, .order = &order};
    rvb_thread write_thread, read_thread;
    rvb_rwlock_read_lock(lock);
    assert_int_equal(rvb_thread_start(&write_thread, write_in_turn, &writer), 0);
    await_sleep(&writer);
    assert_int_equal(rvb_thread_start(&read_thread, read_in_turn, &reader), 0);
    await_sleep(&reader);
    assert_int_equal(atomic_load(&order), 0);
    rvb_rwlock_read_unlock(lock);
    rvb_thread_join(&write_thread);
    rvb_thread_join(&read_thread);
    assert_int_equal(writer.place, 0);
    assert_int_equal(reader.place, 1);
    rvb_rwlock_free(lock);
}

#endif

/* ---- batons ---------------------------------------------------------------- */

typedef struct passing {
    rvb_baton *baton;
    int count;
} passing;

static void count_with_baton(void *ctx) {
    passing *p = ctx;
    for (int i = 0; i < ROUNDS; i++) {
        if (!rvb_baton_take(p->baton)) return;
        p->count++;
        rvb_baton_give(p->baton);
    }
}

static void a_baton_excludes(void **state) {
    (void)state;
    passing p = {.baton = rvb_baton_create()};
    assert_non_null(p.baton);
    run_threads(count_with_baton, &p);
    assert_int_equal(p.count, THREADS * ROUNDS);
    rvb_baton_free(p.baton);
    rvb_baton_free(NULL);
}

static void a_baton_is_not_taken_twice(void **state) {
    (void)state;
    rvb_baton *baton = rvb_baton_create();
    assert_false(rvb_baton_is_mine(baton));
    assert_true(rvb_baton_take(baton));
    assert_true(rvb_baton_is_mine(baton));
    assert_false(rvb_baton_take(baton));
    rvb_baton_give(baton);
    assert_true(rvb_baton_take(baton));
    rvb_baton_give(baton);
    rvb_baton_free(baton);
}

/* Philosophers, each with one baton, who reach for that of the next: all but one wait,
 * and the last to reach is refused, else none would ever have two. */
typedef struct table {
    rvb_baton *baton[THREADS];
    atomic_int seated, next, refused, served;
} table;

static void reach(void *ctx) {
    table *t = ctx;
    int me = atomic_fetch_add(&t->next, 1);
    rvb_baton *own = t->baton[me], *other = t->baton[(me + 1) % THREADS];
    if (!rvb_baton_take(own)) return;
    atomic_fetch_add(&t->seated, 1);
    while (atomic_load(&t->seated) < THREADS) rvb_os_yield();
    if (rvb_baton_take(other)) {
        atomic_fetch_add(&t->served, 1);
        rvb_baton_give(other);
    } else {
        atomic_fetch_add(&t->refused, 1);
    }
    rvb_baton_give(own);
}

static void a_circle_of_batons_is_refused(void **state) {
    (void)state;
    for (int round = 0; round < 50; round++) {
        table t = {.next = 0};
        for (int i = 0; i < THREADS; i++)
            assert_non_null(t.baton[i] = rvb_baton_create());
        run_threads(reach, &t);
        assert_int_equal(t.refused, 1);
        assert_int_equal(t.served, THREADS - 1);
        for (int i = 0; i < THREADS; i++) rvb_baton_free(t.baton[i]);
    }
}

/* ---- fork ------------------------------------------------------------------ */

#ifndef _WIN32

/* ThreadSanitizer does not follow a process of several threads into its fork. */
#ifdef WITH_TSAN
#define SKIP_FORK() skip()
#else
#define SKIP_FORK() (void)0
#endif

/* 0, or the signal that ended a child which hung. */
static int end_of(pid_t child) {
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : WTERMSIG(ended);
}

typedef struct holding {
    rvb_mutex *mutex;
    rvb_rwlock *read, *wanted; /* the second: one waits to write it */
    rvb_baton *baton, *own;
    atomic_int ready, stop;
} holding;

static void hold(void *ctx) {
    holding *h = ctx;
    rvb_mutex_lock(h->mutex);
    rvb_rwlock_read_lock(h->read);
    bool took = rvb_baton_take(h->baton);
    atomic_store(&h->ready, took ? 1 : -1);
    while (!atomic_load(&h->stop)) rvb_os_yield();
    rvb_baton_give(h->baton);
    rvb_rwlock_read_unlock(h->read);
    rvb_mutex_unlock(h->mutex);
}

static void want(void *ctx) {
    holding *h = ctx;
    rvb_rwlock_write_lock(h->wanted);
    rvb_rwlock_write_unlock(h->wanted);
}

static int use_in_child(holding *h) {
    alarm(20); /* a lock that stays shut is no success */
    rvb_mutex_lock(h->mutex);
    rvb_mutex_unlock(h->mutex);
    rvb_rwlock_read_lock(h->wanted);
    rvb_rwlock_read_unlock(h->wanted);
    rvb_rwlock_write_lock(h->read);
    rvb_rwlock_write_unlock(h->read);
    if (!rvb_baton_take(h->baton)) return 1;
    rvb_baton_give(h->baton);
    if (!rvb_baton_is_mine(h->own) || rvb_baton_take(h->own)) return 2;
    rvb_baton_give(h->own);
    return 0;
}

static void a_child_finds_no_lock_shut(void **state) {
    (void)state;
    SKIP_FORK();
    holding h = {.mutex = rvb_mutex_create(),
                 .read = rvb_rwlock_create(),
                 .wanted = rvb_rwlock_create(),
                 .baton = rvb_baton_create(),
                 .own = rvb_baton_create()};
    assert_true(rvb_baton_take(h.own));
    rvb_rwlock_read_lock(h.wanted);
    rvb_thread holder, waiter;
    assert_int_equal(rvb_thread_start(&holder, hold, &h), 0);
    assert_int_equal(rvb_thread_start(&waiter, want, &h), 0);
    while (!atomic_load(&h.ready)) rvb_os_yield();
    unsigned life = rvb_process_life();
    pid_t child = fork();
    if (child == 0) _exit(rvb_process_life() == life ? 3 : use_in_child(&h));
    assert_int_equal(end_of(child), 0);
    assert_int_equal(rvb_process_life(), life);
    rvb_rwlock_read_unlock(h.wanted);
    atomic_store(&h.stop, 1);
    rvb_thread_join(&holder);
    rvb_thread_join(&waiter);
    assert_int_equal(h.ready, 1);
    rvb_baton_give(h.own);
    rvb_mutex_free(h.mutex);
    rvb_rwlock_free(h.read);
    rvb_rwlock_free(h.wanted);
    rvb_baton_free(h.baton);
    rvb_baton_free(h.own);
}

/* Two numbers, equal whenever nobody writes. */
typedef struct pair {
    rvb_rwlock *lock;
    int count[2];
    atomic_int stop;
} pair;

static void write_pairs(void *ctx) {
    pair *p = ctx;
    while (!atomic_load(&p->stop)) {
        rvb_rwlock_write_lock(p->lock);
        p->count[0]++;
        for (int i = 0; i < 10; i++) rvb_os_yield();
        rvb_step_begin(); /* inside another one */
        p->count[1]++;
        rvb_step_end();
        rvb_rwlock_write_unlock(p->lock);
    }
}

static int read_pair(pair *p) {
    alarm(20);
    rvb_rwlock_read_lock(p->lock);
    return p->count[0] == p->count[1] ? 0 : 1;
}

static void a_fork_cuts_no_write_in_two(void **state) {
    (void)state;
    SKIP_FORK();
    pair p = {.lock = rvb_rwlock_create()};
    rvb_thread writers[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(rvb_thread_start(&writers[i], write_pairs, &p), 0);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) _exit(read_pair(&p));
        assert_int_equal(end_of(child), 0);
    }
    atomic_store(&p.stop, 1);
    for (int i = 0; i < 2; i++) rvb_thread_join(&writers[i]);
    rvb_rwlock_free(p.lock);
}

#endif

/* ---- trouble --------------------------------------------------------------- */

static void locks_without_memory(void **state) {
    (void)state;
    failing_allocator_install(1);
    assert_null(rvb_mutex_create());
    failing_allocator_install(1);
    assert_null(rvb_rwlock_create());
    failing_allocator_install(1);
    assert_null(rvb_baton_create());
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
}

static void timed_waits_end(void **state) {
    (void)state;
    rvb_mutex mutex = RVB_MUTEX_STATIC;
    rvb_cond cond;
    assert_int_equal(rvb_cond_init(&cond), 0);
    rvb_mutex_lock(&mutex);
    uint64_t before = rvb_now_ns();
    /* Nobody signals. A wait may wake early, so sum them up. */
    while (rvb_now_ns() - before < 20000000) rvb_cond_wait_ms(&cond, &mutex, 5);
    rvb_cond_wait_ms(&cond, &mutex, 0);
    rvb_mutex_unlock(&mutex);
    rvb_cond_destroy(&cond);
    rvb_mutex_destroy(&mutex);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mutex_excludes),
        cmocka_unit_test(readers_see_whole_writes),
        cmocka_unit_test(readers_share),
#ifdef __linux__
        cmocka_unit_test(a_waiting_writer_goes_before_new_readers),
#endif
        cmocka_unit_test(a_baton_excludes),
        cmocka_unit_test(a_baton_is_not_taken_twice),
        cmocka_unit_test(a_circle_of_batons_is_refused),
#ifndef _WIN32
        cmocka_unit_test(a_child_finds_no_lock_shut),
        cmocka_unit_test(a_fork_cuts_no_write_in_two),
#endif
        cmocka_unit_test(locks_without_memory),
        cmocka_unit_test(timed_waits_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
