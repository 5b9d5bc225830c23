/*
 * pool.c - loops shared by threads.
 *
 * A call of rvb_pool_for puts a job, which lives on its caller's stack, on the
 * pool's list. The caller and any idle threads take chunks from it by counting
 * `next` up; the caller then takes the job off the list and waits until no thread
 * is inside it. Callers never wait for each other, and a job is finished by its
 * caller alone if need be, so nothing can deadlock.
 *
 * Locks: `registry` guards the process's pool and its users; pool->lock guards the
 * list, the jobs' `running` and `error`. Neither is held while a body or a progress
 * callback runs, and never both at once, but for a pool that is given up before anyone
 * else has seen it, because no thread could be started.
 *
 * Fork: the child has no threads but its own and finds pool->lock in any state. It
 * forgets the pool, and a pool from before the fork is never locked again.
 */
#include "base/os.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS_MAX 1024u
#define REPORT_MS 50u

typedef struct job {
    struct job *newer, *older;
    rvb_pool *pool; /* NULL: only the caller runs it */
    rvb_body body;
    void *ctx;
    size_t n, grain, n_chunks;
    bool polite;
    atomic_size_t next; /* first chunk nobody took; n_chunks also ends the job early */
    atomic_size_t done; /* rows of the chunks that succeeded */
    unsigned running;   /* pool threads inside */
    size_t failed_chunk;
    rv_status status; /* of failed_chunk */
    rv_error error;
} job;

typedef struct worker {
    rvb_thread thread;
    rvb_pool *pool;
    unsigned index;
} worker;

struct rvb_pool {
    rvb_mutex lock;
    rvb_cond work; /* a job arrived, or stop was set */
    rvb_cond idle; /* no thread is inside some job any more */
    job *newest;
    atomic_uint arrivals; /* jobs ever added: a change tells threads to choose anew */
    bool stop;
    unsigned users;     /* guarded by registry */
    unsigned fork_life; /* value of fork_life when the pool was made */
    rvb_pool *lost;     /* next on the list of a fork's child */
    unsigned n_threads;
    worker workers[];
};

static rvb_mutex registry = RVB_MUTEX_STATIC;
static rvb_pool *current;        /* made at first use */
static unsigned chosen_threads;  /* by rv_set_num_threads; 0 = default */
static unsigned default_threads; /* 0 = not looked up yet */
static unsigned fork_life;       /* forks between the first process and this one */
static rvb_pool *lost;           /* pools of the parent: their memory stays as it is */
static _Thread_local bool inside_body;

/* ---- chunks -------------------------------------------------------------- */

static bool take_chunk(job *j, size_t *chunk) {
    size_t next = atomic_load_explicit(&j->next, memory_order_relaxed);
    do {
        if (next >= j->n_chunks) return false;
    } while (!atomic_compare_exchange_weak(&j->next, &next, next + 1));
    *chunk = next;
    return true;
}

static void end_early(job *j) { atomic_store(&j->next, j->n_chunks); }

static void note_failure(job *j, size_t chunk, rv_status status, const rv_error *error) {
    end_early(j);
    if (j->pool) rvb_mutex_lock(&j->pool->lock);
    if (j->status == RV_OK || chunk < j->failed_chunk) {
        j->failed_chunk = chunk;
        j->status = status;
        j->error = *error;
    }
    if (j->pool) rvb_mutex_unlock(&j->pool->lock);
}

static void run_chunk(job *j, size_t chunk, unsigned index) {
    rv_error error = {0};
    size_t begin = chunk * j->grain;
    size_t end = j->n - begin < j->grain ? j->n : begin + j->grain;
    bool nested = inside_body, polite = rvb_set_polite(j->polite);
    inside_body = true;
    rv_status status = j->body(j->ctx, index, begin, end, &error);
    inside_body = nested;
    (void)rvb_make_room();
    (void)rvb_set_polite(polite);
    if (status == RV_OK) {
        atomic_fetch_add(&j->done, end - begin);
    } else {
        note_failure(j, chunk, status, &error);
    }
}

/* ---- pool threads -------------------------------------------------------- */

/* Of the jobs with chunks left the one with the fewest threads, the oldest first. */
static job *choose_job(const rvb_pool *pool) {
    job *best = NULL;
    for (job *j = pool->newest; j; j = j->older) {
        if (atomic_load(&j->next) >= j->n_chunks) continue;
        if (!best || j->running <= best->running) best = j;
    }
    return best;
}

static void worker_main(void *ctx) {
    const worker *self = ctx;
    rvb_pool *pool = self->pool;
    rvb_mutex_lock(&pool->lock);
    for (;;) {
        job *j = choose_job(pool);
        if (j) {
            unsigned arrivals = atomic_load(&pool->arrivals);
            size_t chunk;
            j->running++;
            rvb_mutex_unlock(&pool->lock);
            while (atomic_load(&pool->arrivals) == arrivals && take_chunk(j, &chunk)) {
                run_chunk(j, chunk, self->index);
            }
            rvb_mutex_lock(&pool->lock);
            if (--j->running == 0) rvb_cond_broadcast(&pool->idle);
        } else if (pool->stop) {
            break;
        } else {
            rvb_cond_wait(&pool->work, &pool->lock);
        }
    }
    rvb_mutex_unlock(&pool->lock);
}

static void destroy_pool(rvb_pool *pool) {
    rvb_mutex_lock(&pool->lock);
    pool->stop = true;
    rvb_cond_broadcast(&pool->work);
    rvb_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        rvb_thread_join(&pool->workers[i].thread);
    }
    rvb_cond_destroy(&pool->idle);
    rvb_cond_destroy(&pool->work);
    rvb_mutex_destroy(&pool->lock);
    rvb_free(pool);
}

static bool init_locks(rvb_pool *pool) {
    if (rvb_mutex_init(&pool->lock) != 0) return false;
    if (rvb_cond_init(&pool->work) == 0) {
        if (rvb_cond_init(&pool->idle) == 0) return true;
        rvb_cond_destroy(&pool->work);
    }
    rvb_mutex_destroy(&pool->lock);
    return false;
}

/* NULL if not even one thread can be had; fewer than asked for will do. */
static rvb_pool *create_pool(unsigned n_threads) {
    rvb_pool *pool = rvb_alloc_zero(1, sizeof *pool + n_threads * sizeof *pool->workers);
    if (!pool) return NULL;
    if (!init_locks(pool)) {
        rvb_free(pool);
        return NULL;
    }
    pool->fork_life = fork_life;
    for (unsigned i = 0; i < n_threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i + 1;
        if (rvb_thread_start(&w->thread, worker_main, w) != 0) break;
        pool->n_threads++;
    }
    if (pool->n_threads > 0) return pool;
    destroy_pool(pool);
    return NULL;
}

/* ---- the process's pool -------------------------------------------------- */

static void before_fork(void) { rvb_mutex_lock(&registry); }
static void after_fork(void) { rvb_mutex_unlock(&registry); }

static void after_fork_in_child(void) {
    fork_life++;
    if (current) {
        current->lost = lost;
        lost = current;
        current = NULL;
    }
    default_threads = 0; /* the child may be given other processors */
    rvb_mutex_unlock(&registry);
}

/* A number from 1 to THREADS_MAX and nothing else, or 0. */
static unsigned parse_threads(const char *text) {
    unsigned n = 0;
    if (!text || !*text) return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return 0;
        n = 10 * n + (unsigned)(*text - '0');
        if (n > THREADS_MAX) return 0;
    }
    return n;
}

static unsigned threads_in_force(void) {
    if (chosen_threads > 0) return chosen_threads;
    if (default_threads == 0)
        default_threads = parse_threads(getenv("RUVECTOR_NUM_THREADS"));
    if (default_threads == 0) {
        unsigned cpus = rvb_cpu_count();
        default_threads = cpus < THREADS_MAX ? cpus : THREADS_MAX;
    }
    return default_threads;
}

rv_status rv_set_num_threads(unsigned n, rv_error *err) {
    if (n > THREADS_MAX) {
        return rvb_fail_numbers(
            err, RV_ERR_ARGUMENT, THREADS_MAX, n,
            "%u threads are too many: give 0 for the default, or 1 to %u", n,
            THREADS_MAX);
    }
    rvb_pool *retired = NULL;
    rvb_mutex_lock(&registry);
    unsigned before = threads_in_force();
    chosen_threads = n;
    if (n == 0) default_threads = 0;
    if (current && threads_in_force() != before) {
        if (current->users == 0) retired = current; /* else its last user retires it */
        current = NULL;
    }
    rvb_mutex_unlock(&registry);
    if (retired) destroy_pool(retired);
    return RV_OK;
}

unsigned rv_get_num_threads(void) {
    rvb_mutex_lock(&registry);
    unsigned n = threads_in_force();
    rvb_mutex_unlock(&registry);
    return n;
}

rvb_pool *rvb_pool_acquire(void) {
    static bool hooked;
    rvb_mutex_lock(&registry);
    unsigned n = threads_in_force();
    if (!hooked && n > 1) {
        hooked = rvb_on_fork(before_fork, after_fork, after_fork_in_child) == 0;
    }
    if (!current && n > 1 && hooked) current = create_pool(n - 1);
    rvb_pool *pool = current;
    if (pool) pool->users++;
    rvb_mutex_unlock(&registry);
    return pool;
}

static bool is_lost(const rvb_pool *pool) { return pool && pool->fork_life != fork_life; }

void rvb_pool_release(rvb_pool *pool) {
    if (!pool || is_lost(pool)) return;
    rvb_mutex_lock(&registry);
    bool last = --pool->users == 0 && pool != current;
    rvb_mutex_unlock(&registry);
    if (last) destroy_pool(pool);
}

unsigned rvb_pool_workers(const rvb_pool *pool) { return pool ? pool->n_threads + 1 : 1; }

/* ---- the caller's side --------------------------------------------------- */

/* What only the caller of a job knows about it. */
typedef struct call {
    job *job;
    const rv_progress *progress; /* NULL = none */
    uint64_t reported_ns;
    bool cancelled;
} call;

static void report(call *c, size_t done) {
    int stop = c->progress->report(c->progress->ctx, done, c->job->n);
    /* Should the callback fork, the child has nobody to finish the job with. */
    if (stop || is_lost(c->job->pool)) {
        c->cancelled = true;
        end_early(c->job);
    }
    c->reported_ns = rvb_now_ns();
}

static void report_if_due(call *c) {
    if (!c->progress || c->cancelled) return;
    if (rvb_now_ns() - c->reported_ns < REPORT_MS * UINT64_C(1000000)) return;
    size_t done = atomic_load(&c->job->done);
    if (done < c->job->n) report(c, done); /* all of them are reported at the end */
}

static void add_job(job *j) {
    rvb_pool *pool = j->pool;
    rvb_mutex_lock(&pool->lock);
    j->older = pool->newest;
    if (j->older) j->older->newer = j;
    pool->newest = j;
    atomic_fetch_add(&pool->arrivals, 1);
    if (j->n_chunks > pool->n_threads) {
        rvb_cond_broadcast(&pool->work);
    } else {
        for (size_t i = 1; i < j->n_chunks; i++) rvb_cond_signal(&pool->work);
    }
    rvb_mutex_unlock(&pool->lock);
}

/* Takes the job off the list and waits for the threads still inside. */
static void finish_job(call *c) {
    job *j = c->job;
    rvb_pool *pool = j->pool;
    rvb_mutex_lock(&pool->lock);
    if (j->newer) {
        j->newer->older = j->older;
    } else {
        pool->newest = j->older;
    }
    if (j->older) j->older->newer = j->newer;
    while (j->running > 0) {
        if (!c->progress || c->cancelled) {
            rvb_cond_wait(&pool->idle, &pool->lock);
            continue;
        }
        rvb_cond_wait_ms(&pool->idle, &pool->lock, REPORT_MS);
        rvb_mutex_unlock(&pool->lock);
        report_if_due(c);
        if (is_lost(pool)) return;
        rvb_mutex_lock(&pool->lock);
    }
    rvb_mutex_unlock(&pool->lock);
}

rv_status rvb_pool_for(rvb_pool *pool, size_t n, size_t grain, rvb_body body, void *ctx,
                       const rv_progress *progress, rv_error *err) {
    assert(grain > 0);
    if (n == 0) return RV_OK;
    job j = {.body = body, .ctx = ctx, .n = n, .grain = grain};
    j.polite = rvb_is_polite();
    j.n_chunks = n / grain + (n % grain != 0);
    if (j.n_chunks > 1 && !inside_body && !is_lost(pool)) j.pool = pool;
    call c = {.job = &j, .progress = inside_body ? NULL : progress};
    if (c.progress) c.reported_ns = rvb_now_ns();

    if (j.pool) add_job(&j);
    size_t chunk;
    while (take_chunk(&j, &chunk)) {
        run_chunk(&j, chunk, 0);
        report_if_due(&c);
    }
    if (j.pool && !is_lost(j.pool)) finish_job(&c);

    if (j.status != RV_OK) {
        if (j.error.code != j.status) {
            return rvb_fail(err, j.status, "%s", rv_status_name(j.status));
        }
        if (err) *err = j.error;
        return j.status;
    }
    if (c.progress && !c.cancelled) report(&c, n);
    if (c.cancelled) {
        return rvb_fail(err, RV_ERR_CANCELLED, "cancelled by the progress callback");
    }
    return RV_OK;
}
