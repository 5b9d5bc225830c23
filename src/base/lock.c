/*
 * lock.c - the locks of base.h, from those of the operating system. The read-write lock
 * is ours: the systems' own differ in whether a waiting writer goes before new readers.
 */
#include "base/os.h"

/* ---- mutexes -------------------------------------------------------------- */

typedef struct shared_mutex {
    rvb_mutex mutex; /* first: what callers see */
    rvb_inherited inherited;
} shared_mutex;

static void reset_mutex(void *object) { (void)rvb_mutex_init(object); }

rvb_mutex *rvb_mutex_create(void) {
    shared_mutex *m = rvb_alloc(1, sizeof *m);
    if (!m) return NULL;
    if (rvb_mutex_init(&m->mutex) == 0) {
        if (rvb_inherit(&m->inherited, reset_mutex, &m->mutex) == 0) return &m->mutex;
        rvb_mutex_destroy(&m->mutex);
    }
    rvb_free(m);
    return NULL;
}

void rvb_mutex_free(rvb_mutex *mutex) {
    if (!mutex) return;
    shared_mutex *m = (shared_mutex *)mutex;
    rvb_disinherit(&m->inherited);
    rvb_mutex_destroy(&m->mutex);
    rvb_free(m);
}

/* ---- readers and a writer --------------------------------------------------- */

struct rvb_rwlock {
    rvb_mutex lock; /* held only to look at and change what follows */
    rvb_cond may_read, may_write;
    unsigned readers, waiting_writers;
    bool writing;
    rvb_inherited inherited;
};

static bool init_rwlock(rvb_rwlock *l) {
    if (rvb_mutex_init(&l->lock) != 0) return false;
    if (rvb_cond_init(&l->may_read) == 0) {
        if (rvb_cond_init(&l->may_write) == 0) return true;
        rvb_cond_destroy(&l->may_read);
    }
    rvb_mutex_destroy(&l->lock);
    return false;
}

static void clear_rwlock(rvb_rwlock *l) {
    rvb_cond_destroy(&l->may_write);
    rvb_cond_destroy(&l->may_read);
    rvb_mutex_destroy(&l->lock);
}

/* Readers change nothing, and no fork comes while somebody writes. */
static void reset_rwlock(void *object) {
    rvb_rwlock *l = object;
    (void)init_rwlock(l);
    l->readers = l->waiting_writers = 0;
    l->writing = false;
}

rvb_rwlock *rvb_rwlock_create(void) {
    rvb_rwlock *l = rvb_alloc_zero(1, sizeof *l);
    if (!l) return NULL;
    if (init_rwlock(l)) {
        if (rvb_inherit(&l->inherited, reset_rwlock, l) == 0) return l;
        clear_rwlock(l);
    }
    rvb_free(l);
    return NULL;
}

void rvb_rwlock_free(rvb_rwlock *l) {
    if (!l) return;
    rvb_disinherit(&l->inherited);
    clear_rwlock(l);
    rvb_free(l);
}

void rvb_rwlock_read_lock(rvb_rwlock *l) {
    rvb_mutex_lock(&l->lock);
    while (l->writing || l->waiting_writers > 0) rvb_cond_wait(&l->may_read, &l->lock);
    l->readers++;
    rvb_mutex_unlock(&l->lock);
}

void rvb_rwlock_read_unlock(rvb_rwlock *l) {
    rvb_mutex_lock(&l->lock);
    if (--l->readers == 0 && l->waiting_writers > 0) rvb_cond_signal(&l->may_write);
    rvb_mutex_unlock(&l->lock);
}

void rvb_rwlock_write_lock(rvb_rwlock *l) {
    rvb_mutex_lock(&l->lock);
    l->waiting_writers++;
    while (l->writing || l->readers > 0) rvb_cond_wait(&l->may_write, &l->lock);
    l->waiting_writers--;
    l->writing = true;
    rvb_mutex_unlock(&l->lock);
    rvb_step_begin();
}

void rvb_rwlock_write_unlock(rvb_rwlock *l) {
    rvb_step_end();
    rvb_mutex_lock(&l->lock);
    l->writing = false;
    if (l->waiting_writers > 0) {
        rvb_cond_signal(&l->may_write);
    } else {
        rvb_cond_broadcast(&l->may_read);
    }
    rvb_mutex_unlock(&l->lock);
}

/* ---- batons ----------------------------------------------------------------- */

/* What a thread waits for; its address names the thread. */
typedef struct hand {
    const rvb_baton *wants;
} hand;

struct rvb_baton {
    rvb_cond given;
    const hand *holder;
    rvb_inherited inherited;
};

static rvb_mutex hands = RVB_MUTEX_STATIC; /* guards all batons, and is never held long */
static _Thread_local hand mine;

/* The first object of a child makes the lock of all anew as well: no thread but this one
 * is there to hold it. */
static void reset_baton(void *object) {
    rvb_baton *b = object;
    (void)rvb_mutex_init(&hands);
    (void)rvb_cond_init(&b->given);
    if (b->holder != &mine) b->holder = NULL;
}

rvb_baton *rvb_baton_create(void) {
    rvb_baton *b = rvb_alloc_zero(1, sizeof *b);
    if (!b) return NULL;
    if (rvb_cond_init(&b->given) == 0) {
        if (rvb_inherit(&b->inherited, reset_baton, b) == 0) return b;
        rvb_cond_destroy(&b->given);
    }
    rvb_free(b);
    return NULL;
}

void rvb_baton_free(rvb_baton *b) {
    if (!b) return;
    rvb_disinherit(&b->inherited);
    rvb_cond_destroy(&b->given);
    rvb_free(b);
}

static bool waits_for_me(const rvb_baton *b) {
    while (b && b->holder && b->holder != &mine) b = b->holder->wants;
    return b && b->holder;
}

bool rvb_baton_take(rvb_baton *b) {
    rvb_mutex_lock(&hands);
    bool possible = !waits_for_me(b);
    if (possible) {
        mine.wants = b;
        while (b->holder) rvb_cond_wait(&b->given, &hands);
        mine.wants = NULL;
        b->holder = &mine;
    }
    rvb_mutex_unlock(&hands);
    return possible;
}

void rvb_baton_give(rvb_baton *b) {
    rvb_mutex_lock(&hands);
    b->holder = NULL;
    rvb_cond_signal(&b->given);
    rvb_mutex_unlock(&hands);
}

bool rvb_baton_is_mine(const rvb_baton *b) {
    rvb_mutex_lock(&hands);
    bool is_mine = b->holder == &mine;
    rvb_mutex_unlock(&hands);
    return is_mine;
}
