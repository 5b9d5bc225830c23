/*
 * completions.c - where finished jobs wait to be taken, and how somebody learns that
 * there are some. Owned by who made it and by every job on its way. In the child of a
 * fork those of the parent are left alone, and nothing comes out of them: jobs and the
 * descriptor that is watched are the parent's.
 */
#include "lake/lake_i.h"

bool rvl_completions_lost(const rv_completions *c) {
    return c->life != rvb_process_life();
}

static void give_up(rv_completions *c) {
    if (atomic_fetch_sub(&c->owners, 1) != 1) return;
    rvb_wake_close(&c->wake);
    rvb_cond_destroy(&c->finished);
    rvb_mutex_destroy(&c->lock);
    rvl_table_clear(&c->under_way);
    rvb_free(c);
}

rv_status rv_completions_new(rv_completions **out, rv_error *err) {
    *out = NULL;
    rv_completions *c = rvb_alloc_zero(1, sizeof *c);
    if (!c) return rvb_fail_memory(err, sizeof *c);
    atomic_init(&c->owners, 1);
    c->life = rvb_process_life();
    c->last = &c->first;
    rvl_table_init(&c->under_way);
    int failed = rvb_mutex_init(&c->lock);
    if (!failed && (failed = rvb_cond_init(&c->finished)) != 0)
        rvb_mutex_destroy(&c->lock);
    if (!failed && (failed = rvb_wake_open(&c->wake)) != 0) {
        rvb_cond_destroy(&c->finished);
        rvb_mutex_destroy(&c->lock);
    }
    if (failed) {
        rvb_free(c);
        return rvb_fail_os(err, failed, "cannot make a queue for results", "");
    }
    *out = c;
    return RV_OK;
}

int rv_completions_fd(const rv_completions *completions) {
    return completions->wake.read_fd;
}

/* ---- tasks ------------------------------------------------------------------------ */

void rvl_task_free(rvl_task *task) {
    for (size_t i = 0; task->pins && i < task->job.n_shards; i++)
        rv_pin_release(task->pins[i]);
    rv_completion_clear(&task->result);
    rvb_free(task->pins);
    rvb_free(task->keys);
    rvb_free(task->queries);
    rv_errand_free(task->errand);
    rv_lake_free(task->lake);
    rvb_free(task);
}

static uint64_t place_of(const rv_completions *c, uint64_t tag) {
    return rvb_hash(&c->under_way.key, tag);
}

void rvl_task_begin(rvl_task *task) {
    rv_completions *c = task->completions;
    atomic_fetch_add(&c->owners, 1);
    rvb_mutex_lock(&c->lock);
    rvl_table_add(&c->under_way, &task->by_tag, place_of(c, task->job.tag));
    rvb_mutex_unlock(&c->lock);
}

void rvl_task_finish(rvl_task *task) {
    rv_completions *c = task->completions;
    task->next = NULL;
    task->result.tag = task->job.tag;
    rvb_mutex_lock(&c->lock);
    rvl_table_remove(&c->under_way, &task->by_tag);
    bool discard = c->closed;
    if (!discard) {
        if (!c->first) rvb_wake_raise(&c->wake);
        *c->last = task;
        c->last = &task->next;
        rvb_cond_broadcast(&c->finished);
    }
    rvb_mutex_unlock(&c->lock);
    if (discard) rvl_task_free(task);
    give_up(c);
}

void rv_completions_cancel(rv_completions *c, uint64_t tag) {
    if (rvl_completions_lost(c)) return;
    rvb_mutex_lock(&c->lock);
    rvl_link *link = rvl_table_first(&c->under_way, place_of(c, tag));
    for (; link; link = rvl_table_next(link)) {
        rvl_task *t = RVL_RECORD(link, rvl_task, by_tag);
        if (t->job.tag == tag) atomic_store(&t->cancelled, true);
    }
    rvb_mutex_unlock(&c->lock);
}

/* ---- results ---------------------------------------------------------------------- */

int rv_completions_wait(rv_completions *c, unsigned timeout_ms) {
    if (rvl_completions_lost(c)) return 0;
    uint64_t end = rvb_now_ns() + (uint64_t)timeout_ms * 1000000, now;
    rvb_mutex_lock(&c->lock);
    while (!c->first && (now = rvb_now_ns()) < end)
        rvb_cond_wait_ms(&c->finished, &c->lock, (unsigned)((end - now) / 1000000 + 1));
    int some = c->first != NULL;
    rvb_mutex_unlock(&c->lock);
    return some;
}

static rv_status none(rv_error *err) {
    return rvb_fail(err, RV_ERR_NOT_FOUND, "no job has finished");
}

rv_status rv_completions_take(rv_completions *c, rv_completion *out, rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_completion, RV_COMPLETION_0_1_0_SIZE, RV_COMPLETION_DEFAULT);
    RVB_TRY(rvb_check_size(&type, out, err));
    if (rvl_completions_lost(c)) return none(err);
    rvb_mutex_lock(&c->lock);
    rvl_task *task = c->first;
    if (task && !(c->first = task->next)) {
        c->last = &c->first;
        rvb_wake_lower(&c->wake);
    }
    rvb_mutex_unlock(&c->lock);
    if (!task) return none(err);
    rv_status status = rvb_give_info(&type, &task->result, out, err);
    task->result = (rv_completion){0};
    rvl_task_free(task);
    return status;
}

void rv_completion_clear(rv_completion *completion) {
    rvb_free(completion->ids);
    rvb_free(completion->scores);
    rvb_free(completion->hits);
    completion->ids = NULL;
    completion->scores = NULL;
    completion->hits = NULL;
}

static void cancel(rvl_link *by_tag) {
    atomic_store(&RVL_RECORD(by_tag, rvl_task, by_tag)->cancelled, true);
}

void rv_completions_free(rv_completions *c) {
    if (!c) return;
    if (rvl_completions_lost(c)) {
        rvb_wake_close(&c->wake); /* the child's copies; the rest may be in any state */
        return;
    }
    rvb_mutex_lock(&c->lock);
    c->closed = true;
    rvl_table_each(&c->under_way, cancel);
    rvl_task *left = c->first;
    c->first = NULL;
    c->last = &c->first;
    rvb_mutex_unlock(&c->lock);
    while (left) {
        rvl_task *next = left->next;
        rvl_task_free(left);
        left = next;
    }
    give_up(c);
}
