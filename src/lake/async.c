/*
 * async.c - searches nobody waits for. A few threads of the library take groups of jobs
 * from one queue, each of which one scan answers. They share the work of a scan with the
 * pool; there are some of them since a job may wait for a collection to be loaded.
 */
#include "lake/lake_i.h"

#define THREADS 4u

static struct {
    rvb_mutex lock;
    rvb_cond work;
    bool ready; /* condition and fork handlers are made */
    unsigned n_threads, idle;
    rvb_thread threads[THREADS]; /* once started they stay until the process ends */
    rvl_queue queue;
} office = {.lock = RVB_MUTEX_STATIC};

/* ---- one group of jobs ------------------------------------------------------------- */

static int all_cancelled(void *ctx, uint64_t done, uint64_t total) {
    (void)done;
    (void)total;
    for (const rvl_task *t = ctx; t; t = t->next)
        if (!atomic_load(&t->cancelled)) return 0;
    return 1;
}

static void set(rvl_task *task, rv_status status, const rv_error *error) {
    task->result.status = status;
    if (status != RV_OK) task->result.error = *error;
}

/* Comes last: who takes the last result may free the lake. */
static void finish_all(rvl_task *tasks) {
    while (tasks) {
        rvl_task *next = tasks->next;
        rv_completion *r = &tasks->result;
        if (atomic_load(&tasks->cancelled) && r->status == RV_OK) {
            rv_completion_clear(r);
            r->status = rvb_fail(&r->error, RV_ERR_CANCELLED, "the job was cancelled");
        }
        rvl_task_finish(tasks);
        tasks = next;
    }
}

static rv_status fate(const rvl_task *task, const rv_pin *pin, rv_error *err) {
    if (atomic_load(&task->cancelled))
        return rvb_fail(err, RV_ERR_CANCELLED, "the job was cancelled");
    if (!pin || task->job.dim == pin->dim) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_DIM, pin->dim, task->job.dim,
                            "dimension mismatch: collection dim=%u, query dim=%u; "
                            "make queries with the model that made its vectors",
                            pin->dim, task->job.dim);
}

/* Moves to `rest` those that need no answer, and those a scan cannot give one. */
static rvl_task *weed(rvl_task *group, const rv_pin *pin, rvl_task **rest) {
    rvl_task *kept = NULL, **last = &kept;
    while (group) {
        rvl_task *task = group;
        rv_error error = {0};
        group = task->next;
        set(task, fate(task, pin, &error), &error);
        if (task->result.status == RV_OK) {
            *last = task;
            last = &task->next;
        } else {
            task->next = *rest;
            *rest = task;
        }
    }
    *last = NULL;
    return kept;
}

typedef struct joint {
    uint64_t m, k;
    float *queries; /* owned, or the only task's */
    uint64_t *ids;
    float *scores;
} joint;

static rv_status make_room(uint64_t m, uint64_t k, uint64_t **ids, float **scores,
                           rv_error *err) {
    size_t places;
    *ids = NULL;
    *scores = NULL;
    if (!rvb_mul((size_t)m, (size_t)k, &places)) return rvb_fail_memory(err, UINT64_MAX);
    *ids = rvb_alloc(places, sizeof **ids);
    *scores = rvb_alloc(places, sizeof **scores);
    return *ids && *scores ? RV_OK : rvb_fail_memory(err, places * sizeof **ids);
}

static rv_status join_queries(const rvl_task *group, joint *j, rv_error *err) {
    size_t row = group->job.dim * sizeof(float), at = 0;
    j->queries = rvb_alloc((size_t)j->m, row);
    if (!j->queries) return rvb_fail_memory(err, j->m * row);
    for (const rvl_task *t = group; t; t = t->next) {
        memcpy((char *)j->queries + at, t->queries, (size_t)t->job.m * row);
        at += (size_t)t->job.m * row;
    }
    return RV_OK;
}

static rv_status hand_out(rvl_task *group, const joint *j, rv_error *err) {
    uint64_t at = 0;
    for (rvl_task *t = group; t; t = t->next) {
        rv_completion *r = &t->result;
        r->m = t->job.m;
        r->k = j->k;
        RVB_TRY(make_room(r->m, r->k, &r->ids, &r->scores, err));
        size_t places = (size_t)(r->m * r->k);
        memcpy(r->ids, j->ids + at, places * sizeof *r->ids);
        memcpy(r->scores, j->scores + at, places * sizeof *r->scores);
        at += places;
    }
    return RV_OK;
}

static rv_status scan(rvl_task *group, rv_pin *pin, rv_error *err) {
    joint j = {.k = group->job.k < pin->n || pin->n == 0 ? group->job.k : pin->n};
    if (pin->n == 0) j.k = 1; /* to fail for want of rows, not of memory */
    for (const rvl_task *t = group; t; t = t->next) j.m += t->job.m;
    rv_progress watch = {all_cancelled, group};
    rv_status status = make_room(j.m, j.k, &j.ids, &j.scores, err);
    const float *queries = group->queries;
    if (status == RV_OK && group->next) {
        status = join_queries(group, &j, err);
        queries = j.queries;
    }
    if (status == RV_OK)
        status = rv_pin_search(pin, &(rv_queries){queries, j.m, group->job.dim}, j.k, 0,
                               &watch, &(rv_result){j.ids, j.scores}, err);
    if (status == RV_OK) status = hand_out(group, &j, err);
    rvb_free(j.queries);
    rvb_free(j.ids);
    rvb_free(j.scores);
    return status;
}

/* A query that is no vector spoils its own answer only. */
static void scan_each(rvl_task *group, rv_pin *pin) {
    for (rvl_task *t = group; t; t = t->next) {
        rvl_task *next = t->next;
        rv_error error = {0};
        t->next = NULL;
        set(t, scan(t, pin, &error), &error);
        t->next = next;
    }
}

static uint64_t length(const rvl_task *group) {
    uint64_t n = 0;
    for (; group; group = group->next) n++;
    return n;
}

static rv_status acquire(rvl_task *group, rv_pin **pin, rv_error *err) {
    if (group->pins) {
        *pin = group->pins[0];
        group->pins[0] = NULL;
        return RV_OK;
    }
    rv_progress watch = {all_cancelled, group};
    rv_acquire_options o = RV_ACQUIRE_DEFAULT;
    o.cached_only = group->job.cached_only;
    o.calls = length(group);
    o.progress = &watch;
    const rvl_key *key = group->keys[0];
    return rv_lake_acquire(group->lake, (rv_key){key->backend, key->collection}, &o, pin,
                           err);
}

static void search(rvl_task *group) {
    rv_error error = {0};
    rv_pin *pin = NULL;
    rvl_task *rest = NULL;
    rv_status status = acquire(group, &pin, &error);
    if (status == RV_OK && (group = weed(group, pin, &rest)))
        status = scan(group, pin, &error);
    if (status == RV_ERR_VALUE && pin && group->next)
        scan_each(group, pin);
    else
        for (rvl_task *t = group; t; t = t->next) set(t, status, &error);
    rv_pin_release(pin);
    finish_all(rest);
    finish_all(group);
}

/* ---- other jobs -------------------------------------------------------------------- */

static rv_status acquire_shards(rvl_task *task, rv_pin ***pins, rv_error *err) {
    size_t n = task->job.n_shards;
    rv_progress watch = {all_cancelled, task};
    rv_acquire_options o = RV_ACQUIRE_DEFAULT;
    o.cached_only = task->job.cached_only;
    o.progress = &watch;
    rv_key *keys = rvb_alloc(n, sizeof *keys);
    *pins = rvb_alloc(n, sizeof **pins);
    rv_status status = RV_OK;
    if (!keys || !*pins) status = rvb_fail_memory(err, n * sizeof *keys);
    for (size_t i = 0; status == RV_OK && i < n; i++)
        keys[i] = (rv_key){task->keys[i]->backend, task->keys[i]->collection};
    if (status == RV_OK)
        status = rv_lake_acquire_all(task->lake, keys, n, &o, *pins,
                                     &task->result.failed_shard, err);
    rvb_free(keys);
    if (status == RV_OK) return RV_OK;
    rvb_free(*pins);
    *pins = NULL;
    return status;
}

static rv_status search_shards(rvl_task *task, rv_error *err) {
    rv_completion *r = &task->result;
    size_t n = task->job.n_shards;
    uint64_t rows = 0, k = task->job.k;
    if (!task->pins) RVB_TRY(acquire_shards(task, &task->pins, err));
    for (size_t i = 0; i < n; i++) rows += task->pins[i]->n;
    if (k > rows) k = rows ? rows : 1;
    r->hits = rvb_alloc((size_t)k, sizeof *r->hits);
    if (!r->hits) return rvb_fail_memory(err, k * sizeof *r->hits);
    return rv_pins_search(task->pins, n, &(rv_queries){task->queries, 1, task->job.dim},
                          k, task->job.per_shard_rerank, r->hits, &r->n_hits, err);
}

static rv_status prime(rvl_task *task, rv_error *err) {
    rv_progress watch = {all_cancelled, task};
    const rvl_key *key = task->keys[0];
    return rv_lake_prime(task->lake, (rv_key){key->backend, key->collection}, &watch,
                         task->result.witness, err);
}

static void run_alone(rvl_task *task) {
    rv_error error = {0};
    set(task, task->queries ? search_shards(task, &error) : prime(task, &error), &error);
    finish_all(task);
}

static void run(rvl_task *group) {
    rvl_task *cancelled = NULL;
    group = weed(group, NULL, &cancelled);
    finish_all(cancelled);
    if (!group) return;
    rv_errand *none = rv_errand_begin(group->errand);
    if (group->queries && !group->job.federated)
        search(group);
    else
        run_alone(group);
    (void)rv_errand_begin(none);
}

/* ---- the queue --------------------------------------------------------------------- */

static void work(void *ctx);

/* One more thread, of which there are fewer than THREADS. The office's lock is held. */
static int hire(void) {
    int failed = rvb_thread_start(&office.threads[office.n_threads], work, NULL);
    if (!failed) office.n_threads++;
    return failed;
}

static void work(void *ctx) {
    (void)ctx;
    rvl_on_own_thread = true;
    (void)rvb_set_polite(true);
    rvb_mutex_lock(&office.lock);
    for (;;) {
        while (!office.queue.first) {
            office.idle++;
            rvb_cond_wait(&office.work, &office.lock);
            office.idle--;
        }
        rvl_task *group = rvl_queue_take(&office.queue);
        /* this one may take long: the rest shall not wait for it */
        if (office.queue.first && office.idle == 0 && office.n_threads < THREADS)
            (void)hire();
        rvb_mutex_unlock(&office.lock);
        run(group);
        rvb_mutex_lock(&office.lock);
    }
}

static void before_fork(void) { rvb_mutex_lock(&office.lock); }
static void after_fork(void) { rvb_mutex_unlock(&office.lock); }

/* Jobs of the parent are the parent's. */
static void after_fork_in_child(void) {
    office.n_threads = office.idle = 0;
    rvl_queue_forget(&office.queue);
    (void)rvb_cond_init(&office.work);
    rvb_mutex_unlock(&office.lock);
}

/* The office's lock is held. */
static rv_status open_office(rv_error *err) {
    if (office.ready) return RV_OK;
    rvl_queue_init(&office.queue);
    int failed = rvb_cond_init(&office.work);
    if (!failed) failed = rvb_on_fork(before_fork, after_fork, after_fork_in_child);
    if (failed) return rvb_fail_os(err, failed, "cannot start a thread", "");
    office.ready = true;
    return RV_OK;
}

/* Somebody for what is about to come. */
static rv_status staff(rv_error *err) {
    bool some_free = office.idle > 0 && !office.queue.first;
    if (some_free || office.n_threads == THREADS) return RV_OK;
    int failed = hire();
    return !failed || office.n_threads
               ? RV_OK
               : rvb_fail_os(err, failed, "cannot start a thread", "");
}

/* ---- submitting -------------------------------------------------------------------- */

static rv_status check_job(const rv_job *j, rv_error *err) {
    if (!j->keys == !j->pins || j->n_shards < 1)
        return rvb_fail(err, RV_ERR_ARGUMENT, "a job needs keys or pins, not both");
    if (j->n_shards > 1 && !j->federated)
        return rvb_fail(err, RV_ERR_ARGUMENT, "several shards are searched federated");
    if (!j->queries && (j->pins || j->n_shards > 1))
        return rvb_fail(err, RV_ERR_ARGUMENT, "a prime takes one key");
    if (j->queries && j->k < 1)
        return rvb_fail(err, RV_ERR_ARGUMENT, "k must be at least 1, got 0");
    if (j->queries && j->federated && j->m != 1)
        return rvb_fail(err, RV_ERR_ARGUMENT, "a federated search takes one query");
    return RV_OK;
}

static rv_status copy_job(rvl_task *t, const rv_job *j, rv_error *err) {
    size_t floats, bytes;
    if (!rvb_mul((size_t)j->m, j->dim, &floats) ||
        !rvb_mul(floats, sizeof *j->queries, &bytes))
        return rvb_fail_memory(err, UINT64_MAX);
    t->job = *j;
    if (j->queries) {
        if (!(t->queries = rvb_alloc(floats, sizeof *t->queries)))
            return rvb_fail_memory(err, bytes);
        memcpy(t->queries, j->queries, bytes);
    }
    if (j->keys && !(t->keys = rvb_alloc(j->n_shards, sizeof(rvl_key *))))
        return rvb_fail_memory(err, j->n_shards * sizeof(rvl_key *));
    for (size_t i = 0; j->keys && i < j->n_shards; i++)
        RVB_TRY(rvl_key_of(t->lake, j->keys[i].backend, j->keys[i].collection,
                           &t->keys[i], err));
    if (j->pins && !(t->pins = rvb_alloc_zero(j->n_shards, sizeof(rv_pin *))))
        return rvb_fail_memory(err, j->n_shards * sizeof(rv_pin *));
    return RV_OK;
}

static rv_status make_task(rv_lake *lake, rv_completions *completions, const rv_job *j,
                           rvl_task **out, rv_error *err) {
    static const rvb_sized type = RVB_SIZED(rv_job, RV_JOB_0_1_0_SIZE, RV_JOB_DEFAULT);
    rv_job job = RV_JOB_DEFAULT;
    *out = NULL;
    RVB_TRY(rvb_take_options(&type, j, &job, err));
    RVB_TRY(check_job(&job, err));
    rvl_task *t = rvb_alloc_zero(1, sizeof *t);
    if (!t) return rvb_fail_memory(err, sizeof *t);
    t->lake = rvl_lake_retain(lake);
    t->completions = completions;
    *out = t;
    RVB_TRY(rv_errand_here(&t->errand, err));
    return copy_job(t, &job, err);
}

/* From here on nothing fails. */
static void enqueue(rvl_task *tasks) {
    while (tasks) {
        rvl_task *t = tasks;
        tasks = t->next;
        for (size_t i = 0; t->pins && i < t->job.n_shards; i++)
            t->pins[i] = t->job.pins[i];
        rvl_task_begin(t);
        rvl_queue_add(&office.queue, t);
    }
}

rv_status rv_lake_submit(rv_lake *lake, rv_completions *completions, const rv_job *jobs,
                         size_t n, rv_error *err) {
    rvl_task *tasks = NULL, **end = &tasks;
    rv_status status = RV_OK;
    if (rvl_completions_lost(completions))
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "these completions are of the process that forked this one: make "
                        "others here");
    for (size_t i = 0; i < n && status == RV_OK; i++) {
        /* An older program's jobs are smaller, and so nearer to each other. */
        const void *job = (const char *)jobs + i * jobs->size;
        status = make_task(lake, completions, job, end, err);
        if (*end) end = &(*end)->next;
    }
    if (status == RV_OK && tasks) {
        rvb_mutex_lock(&office.lock);
        status = open_office(err);
        if (status == RV_OK) status = staff(err);
        if (status == RV_OK) {
            enqueue(tasks);
            tasks = NULL;
            rvb_cond_broadcast(&office.work);
        }
        rvb_mutex_unlock(&office.lock);
    }
    while (tasks) {
        rvl_task *next = tasks->next;
        rvl_task_free(tasks);
        tasks = next;
    }
    return status;
}
