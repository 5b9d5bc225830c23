/* test_lock.c - mutexes exclude, readers share, writers do not starve, waits end. */
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
            rvb_rwlock_write(c->lock);
            c->count[0]++;
            c->count[1]++;
            rvb_rwlock_unwrite(c->lock);
        } else {
            rvb_rwlock_read(c->lock);
            if (c->count[0] != c->count[1]) atomic_store(&c->torn, 1);
            rvb_rwlock_unread(c->lock);
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
    rvb_rwlock_read(m->lock);
    atomic_fetch_add(&m->present, 1);
    while (atomic_load(&m->present) < THREADS) usleep(100);
    rvb_rwlock_unread(m->lock);
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
    rvb_rwlock_write(t->lock);
    t->place = atomic_fetch_add(t->order, 1);
    rvb_rwlock_unwrite(t->lock);
}

static void read_in_turn(void *ctx) {
    turn *t = ctx;
    atomic_store(&t->thread_id, (int)syscall(SYS_gettid));
    rvb_rwlock_read(t->lock);
    t->place = atomic_fetch_add(t->order, 1);
    rvb_rwlock_unread(t->lock);
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
    rvb_rwlock_read(lock);
    assert_int_equal(rvb_thread_start(&write_thread, write_in_turn, &writer), 0);
    await_sleep(&writer);
    assert_int_equal(rvb_thread_start(&read_thread, read_in_turn, &reader), 0);
    await_sleep(&reader);
    assert_int_equal(atomic_load(&order), 0);
    rvb_rwlock_unread(lock);
    rvb_thread_join(&write_thread);
    rvb_thread_join(&read_thread);
    assert_int_equal(writer.place, 0);
    assert_int_equal(reader.place, 1);
    rvb_rwlock_free(lock);
}

#endif

static void locks_without_memory(void **state) {
    (void)state;
    failing_allocator_install(1);
    assert_null(rvb_mutex_create());
    failing_allocator_install(1);
    assert_null(rvb_rwlock_create());
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
        cmocka_unit_test(locks_without_memory),
        cmocka_unit_test(timed_waits_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
