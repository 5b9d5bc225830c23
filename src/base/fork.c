/*
 * fork.c - what a fork's child does with the locks it inherits.
 *
 * A child has one thread, the one that forked, and finds every lock as others held it.
 * Objects that own locks are therefore on a list, and in the child each of them makes
 * its locks anew. What a lock guards must be whole for that: a step that leaves data in
 * between two states stands between rvb_step_begin and rvb_step_end, and a fork waits
 * until no thread is within one. Nothing is called back, and no lock is waited for,
 * within a step.
 */
#include "base/os.h"

static struct {
    rvb_mutex lock; /* held during a fork */
    rvb_cond changed;
    bool ready;
    unsigned steps; /* under way */
    unsigned forks; /* that wait or go on */
    unsigned life;  /* forks between the first process and this one */
    rvb_inherited *first;
} family = {.lock = RVB_MUTEX_STATIC};

static _Thread_local unsigned depth; /* steps of this thread, one within the other */

static void before_fork(void) {
    rvb_mutex_lock(&family.lock);
    family.forks++;
    while (family.steps > depth) rvb_cond_wait(&family.changed, &family.lock);
}

static void after_fork_in_parent(void) {
    family.forks--;
    rvb_cond_broadcast(&family.changed);
    rvb_mutex_unlock(&family.lock);
}

static void after_fork_in_child(void) {
    family.life++;
    family.forks = 0;
    family.steps = depth;
    (void)rvb_cond_init(&family.changed);
    for (rvb_inherited *i = family.first; i; i = i->next) i->reset(i->object);
    rvb_mutex_unlock(&family.lock);
}

/* Under the lock. */
static int get_ready(void) {
    if (family.ready) return 0;
    int failed = rvb_cond_init(&family.changed);
    if (!failed)
        failed = rvb_on_fork(before_fork, after_fork_in_parent, after_fork_in_child);
    family.ready = !failed;
    return failed;
}

int rvb_inherit(rvb_inherited *i, void (*reset)(void *object), void *object) {
    *i = (rvb_inherited){.reset = reset, .object = object};
    rvb_mutex_lock(&family.lock);
    int failed = get_ready();
    if (!failed) {
        i->next = family.first;
        if (i->next) i->next->previous = i;
        family.first = i;
    }
    rvb_mutex_unlock(&family.lock);
    return failed;
}

void rvb_disinherit(rvb_inherited *i) {
    rvb_mutex_lock(&family.lock);
    if (i->next) i->next->previous = i->previous;
    *(i->previous ? &i->previous->next : &family.first) = i->next;
    rvb_mutex_unlock(&family.lock);
}

void rvb_step_begin(void) {
    rvb_mutex_lock(&family.lock);
    /* within another step the fork is waiting for this thread */
    while (family.forks > 0 && depth == 0) rvb_cond_wait(&family.changed, &family.lock);
    family.steps++;
    depth++;
    rvb_mutex_unlock(&family.lock);
}

void rvb_step_end(void) {
    rvb_mutex_lock(&family.lock);
    family.steps--;
    depth--;
    if (family.forks > 0) rvb_cond_broadcast(&family.changed);
    rvb_mutex_unlock(&family.lock);
}

unsigned rvb_process_life(void) { return family.life; }
