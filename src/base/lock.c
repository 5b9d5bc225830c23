/*
 * lock.c - the locks of base.h, from those of the operating system. The read-write lock
 * is ours: the systems' own differ in whether a waiting writer goes before new readers.
 */
#include "base/os.h"

rvb_mutex *rvb_mutex_create(void) {
    rvb_mutex *m = rvb_alloc(1, sizeof *m);
    if (!m || rvb_mutex_init(m) == 0) return m;
    rvb_free(m);
    return NULL;
}

void rvb_mutex_free(rvb_mutex *m) {
    if (!m) return;
    rvb_mutex_destroy(m);
    rvb_free(m);
}

struct rvb_rwlock {
    rvb_mutex lock; /* held only to look at and change what follows */
    rvb_cond may_read, may_write;
    unsigned readers, waiting_writers;
    bool writing;
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

rvb_rwlock *rvb_rwlock_create(void) {
    rvb_rwlock *l = rvb_alloc_zero(1, sizeof *l);
    if (!l || init_rwlock(l)) return l;
    rvb_free(l);
    return NULL;
}

void rvb_rwlock_free(rvb_rwlock *l) {
    if (!l) return;
    rvb_cond_destroy(&l->may_write);
    rvb_cond_destroy(&l->may_read);
    rvb_mutex_destroy(&l->lock);
    rvb_free(l);
}

void rvb_rwlock_read(rvb_rwlock *l) {
    rvb_mutex_lock(&l->lock);
    while (l->writing || l->waiting_writers > 0) rvb_cond_wait(&l->may_read, &l->lock);
    l->readers++;
    rvb_mutex_unlock(&l->lock);
}

void rvb_rwlock_unread(rvb_rwlock *l) {
    rvb_mutex_lock(&l->lock);
    if (--l->readers == 0 && l->waiting_writers > 0) rvb_cond_signal(&l->may_write);
    rvb_mutex_unlock(&l->lock);
}

void rvb_rwlock_write(rvb_rwlock *l) {
    rvb_mutex_lock(&l->lock);
    l->waiting_writers++;
    while (l->writing || l->readers > 0) rvb_cond_wait(&l->may_write, &l->lock);
    l->waiting_writers--;
    l->writing = true;
    rvb_mutex_unlock(&l->lock);
}

void rvb_rwlock_unwrite(rvb_rwlock *l) {
    rvb_mutex_lock(&l->lock);
    l->writing = false;
    if (l->waiting_writers > 0) {
        rvb_cond_signal(&l->may_write);
    } else {
        rvb_cond_broadcast(&l->may_read);
    }
    rvb_mutex_unlock(&l->lock);
}
