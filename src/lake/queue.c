/*
 * queue.c - jobs that wait for a thread, in groups that one scan answers: those that
 * search one key, or one entry, for equally many hits. A group waits where its first job
 * does, and takes in those that come while it waits.
 */
#include "lake/lake_i.h"

void rvl_queue_init(rvl_queue *queue) {
    queue->first = NULL;
    queue->last = &queue->first;
    rvl_table_init(&queue->open);
}

void rvl_queue_forget(rvl_queue *queue) {
    queue->first = NULL;
    queue->last = &queue->first;
    rvl_table_forget(&queue->open);
}

static uint64_t work_of(const rvl_queue *queue, const rvl_task *t) {
    uint64_t what[] = {(uintptr_t)t->lake,
                       t->pins ? (uintptr_t)t->pins[0] : (uintptr_t)t->keys[0],
                       (uintptr_t)t->errand, t->job.k, t->job.cached_only != 0};
    return rvb_hash_bytes(&queue->open.key, what, sizeof what);
}

static bool same_work(const rvl_task *a, const rvl_task *b) {
    return a->lake == b->lake && a->job.k == b->job.k &&
           !a->job.cached_only == !b->job.cached_only && a->errand == b->errand &&
           (a->pins ? b->pins && a->pins[0] == b->pins[0]
                    : !b->pins && a->keys[0] == b->keys[0]);
}

static rvl_task *open_group(const rvl_queue *queue, const rvl_task *t, uint64_t work) {
    rvl_link *link = rvl_table_first(&queue->open, work);
    for (; link; link = rvl_table_next(link)) {
        rvl_task *group = RVL_RECORD(link, rvl_task, by_work);
        if (same_work(group, t)) return group;
    }
    return NULL;
}

static void close_group(rvl_queue *queue, rvl_task *group) {
    if (group->open) rvl_table_remove(&queue->open, &group->by_work);
    group->open = false;
}

/* Whether it is in a group now; else it is an open one of its own. */
static bool join(rvl_queue *queue, rvl_task *t) {
    uint64_t work = work_of(queue, t);
    rvl_task *group = open_group(queue, t, work);
    if (group && group->group_queries + t->job.m <= RVL_MOST_QUERIES) {
        *group->group_end = t;
        group->group_end = &t->next;
        group->group_queries += t->job.m;
        return true;
    }
    if (group) close_group(queue, group);
    t->open = true;
    rvl_table_add(&queue->open, &t->by_work, work);
    return false;
}

void rvl_queue_add(rvl_queue *queue, rvl_task *t) {
    t->next = t->next_group = NULL;
    t->group_end = &t->next;
    t->group_queries = t->job.m;
    if (t->queries && !t->job.federated && t->job.m <= RVL_MOST_QUERIES && join(queue, t))
        return;
    *queue->last = t;
    queue->last = &t->next_group;
}

rvl_task *rvl_queue_take(rvl_queue *queue) {
    rvl_task *group = queue->first;
    queue->first = group->next_group;
    if (!queue->first) queue->last = &queue->first;
    close_group(queue, group);
    return group;
}
