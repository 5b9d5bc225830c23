/*
 * flight.c - one loader at a time: who is at work on which key or state, and who waits.
 *
 * Who waits for whom is written down, so that a backend that searches, during a pull,
 * what only that pull could bring gets an error and no eternal wait. A thread that works
 * for such a backend counts as its thread, if it was told: that is its errand.
 */
#include "lake/lake_i.h"

#define WAIT_MS 50

/* One for all lakes: a backend of one may search another. */
static rvb_mutex loading = RVB_MUTEX_STATIC;
static rvl_wait *waits;  /* of all threads; guarded, as the next two, by that lock */
static uint64_t n_loads; /* so far */
static uint64_t n_inquiries;
static bool hooked;

static _Thread_local rvl_frame *innermost;
static _Thread_local rv_errand *errand; /* of whoever this thread works for */

/* ---- what a thread is being asked ----------------------------------------------------
 */

void rvl_frame_enter(rvl_frame *frame, const rv_lake *lake, const rvl_key *key) {
    *frame = (rvl_frame){.outer = innermost, .lake = lake, .key = key};
    innermost = frame;
}

/* Who has an errand of the innermost frame has it for what went on until now. */
static void errand_is_over(void) {
    rv_errand *given = innermost->errand;
    innermost->errand = NULL;
    if (!given) return;
    atomic_store(&given->over, true);
    rv_errand_free(given);
}

void rvl_frame_leave(const rvl_frame *frame) {
    errand_is_over();
    innermost = frame->outer;
}

bool rvl_being_asked(const rv_lake *lake, const rvl_key *key) {
    for (const rvl_frame *f = innermost; f; f = f->outer)
        if (f->lake == lake && f->key == key) return true;
    for (const rv_errand *e = errand; e; e = e->outer)
        for (size_t i = 0; !atomic_load(&e->over) && i < e->n; i++)
            if (e->asked[i].lake == lake && e->asked[i].key == key) return true;
    return false;
}

rv_status rvl_calls_itself(const rvl_key *key, rv_error *err) {
    return rvb_fail(err, RV_ERR_BACKEND,
                    "backend error (%s): collection %s is searched from inside the call "
                    "that brings it up to date, by its backend or a progress callback; "
                    "search it when that has returned",
                    key->backend, key->collection);
}

/* ---- errands ------------------------------------------------------------------------
 */

static size_t depth(void) {
    size_t n = 0;
    for (const rvl_frame *f = innermost; f; f = f->outer) n++;
    return n;
}

static rv_errand *retain(rv_errand *e) {
    if (e) atomic_fetch_add(&e->owners, 1);
    return e;
}

rv_status rv_errand_here(rv_errand **out, rv_error *err) {
    *out = NULL;
    if (!innermost) {
        *out = retain(errand);
        return RV_OK;
    }
    if (!innermost->errand) {
        size_t n = depth(), bytes = sizeof(rv_errand) + n * sizeof(rvl_asked);
        rv_errand *made = rvb_alloc_zero(1, bytes);
        if (!made) return rvb_fail_memory(err, bytes);
        atomic_init(&made->owners, 1);
        made->outer = retain(errand);
        for (const rvl_frame *f = innermost; f; f = f->outer)
            made->asked[made->n++] =
                (rvl_asked){f->lake, f->key, f->load ? f->load->number : 0};
        innermost->errand = made;
    }
    *out = retain(innermost->errand);
    return RV_OK;
}

rv_errand *rv_errand_begin(rv_errand *begun) {
    rv_errand *before = errand;
    errand = begun;
    return before;
}

void rv_errand_free(rv_errand *e) {
    while (e && atomic_fetch_sub(&e->owners, 1) == 1) {
        rv_errand *outer = e->outer;
        rvb_free(e);
        e = outer;
    }
}

/* ---- who waits for whom ---------------------------------------------------------------
 * All under the lock. */

/* Whether a thread with these frames, on this errand, is needed for the load to end. */
static bool works_on(const rvl_frame *frame, const rv_errand *e, uint64_t load) {
    for (; frame; frame = frame->outer)
        if (frame->load && frame->load->number == load) return true;
    for (; e; e = e->outer)
        for (size_t i = 0; !atomic_load(&e->over) && i < e->n; i++)
            if (e->asked[i].load == load) return true;
    return false;
}

/* Whether waiting for `load` would be waiting for this thread itself. */
static bool leads_back(rvl_load *load, uint64_t inquiry) {
    if (works_on(innermost, errand, load->number)) return true;
    load->seen = inquiry;
    for (const rvl_wait *w = waits; w; w = w->next)
        if (w->target->seen != inquiry && works_on(w->frame, w->errand, load->number) &&
            leads_back(w->target, inquiry))
            return true;
    return false;
}

static void forget_wait(const rvl_wait *wait) {
    rvl_wait **at = &waits;
    while (*at != wait) at = &(*at)->next;
    *at = wait->next;
}

/* ---- fork ----------------------------------------------------------------------------
 */

static void before_fork(void) { rvb_mutex_lock(&loading); }
static void after_fork(void) { rvb_mutex_unlock(&loading); }

/* Nobody waits but for this thread, which may have forked while it told its progress. */
static void after_fork_in_child(void) {
    waits = NULL;
    rvb_mutex_unlock(&loading);
}

static bool is_own(const rvl_load *load) {
    for (const rvl_frame *f = innermost; f; f = f->outer)
        if (f->load == load) return true;
    return false;
}

/* Loads of threads that are not there will not end. */
static void reset(void *object) {
    rv_lake *lake = object;
    (void)rvb_cond_init(&lake->loaded);
    rvl_load **at = &lake->loads;
    while (*at) {
        (*at)->watchers = 0;
        if (is_own(*at))
            at = &(*at)->next;
        else
            *at = (*at)->next;
    }
}

int rvl_loads_init(rv_lake *lake) {
    int failed = rvb_cond_init(&lake->loaded);
    if (failed) return failed;
    failed = rvb_inherit(&lake->inherited, reset, lake);
    rvb_mutex_lock(&loading);
    if (!failed && !hooked)
        failed = rvb_on_fork(before_fork, after_fork, after_fork_in_child);
    hooked = hooked || !failed;
    rvb_mutex_unlock(&loading);
    if (failed) rvb_cond_destroy(&lake->loaded);
    return failed;
}

void rvl_loads_clear(rv_lake *lake) {
    rvb_disinherit(&lake->inherited);
    rvb_cond_destroy(&lake->loaded);
}

/* ---- one loader at a time ------------------------------------------------------------
 */

static rvl_load *find_load(const rv_lake *lake, const rvl_key *key, const char *witness) {
    rvl_load *l = lake->loads;
    while (l && l->key != key && !(*witness && strcmp(l->witness, witness) == 0))
        l = l->next;
    return l;
}

rvl_load *rvl_load_join(rv_lake *lake, const rvl_key *key, const char *witness,
                        rvl_load *own) {
    *own = (rvl_load){.key = key};
    memcpy(own->witness, witness, strlen(witness) + 1);
    rvb_mutex_lock(&loading);
    rvl_load *other = find_load(lake, key, witness);
    if (other) {
        other->watchers++;
    } else {
        own->number = ++n_loads;
        own->next = lake->loads;
        lake->loads = own;
        innermost->load = own;
    }
    rvb_mutex_unlock(&loading);
    if (!other) errand_is_over();
    return other;
}

void rvl_load_end(rv_lake *lake, rvl_load *own, rv_status status, const rv_error *error) {
    errand_is_over();
    rvb_mutex_lock(&loading);
    innermost->load = NULL;
    rvl_load **at = &lake->loads;
    while (*at != own) at = &(*at)->next;
    *at = own->next;
    own->status = status;
    own->error = *error;
    own->done = true;
    rvb_cond_broadcast(&lake->loaded);
    while (own->watchers > 0) rvb_cond_wait(&lake->loaded, &loading);
    rvb_mutex_unlock(&loading);
}

static rv_status cancelled(rv_error *err) {
    return rvb_fail(err, RV_ERR_CANCELLED,
                    "stopped while waiting for a collection that is being loaded");
}

/* Until the load is done. *lost: this is the child of a fork, which has no loader. */
static rv_status wait_for(rv_lake *lake, const rvl_load *other,
                          const rv_progress *progress, bool *lost, rv_error *err) {
    const unsigned life = rvb_process_life();
    rv_status status = RV_OK;
    while (status == RV_OK && !other->done) {
        if (progress)
            rvb_cond_wait_ms(&lake->loaded, &loading, WAIT_MS);
        else
            rvb_cond_wait(&lake->loaded, &loading);
        if (other->done || !progress) continue;
        rvb_mutex_unlock(&loading);
        if (progress->report(progress->ctx, 0, 0)) status = cancelled(err);
        rvb_mutex_lock(&loading);
        *lost = life != rvb_process_life();
        if (*lost) break;
    }
    return status;
}

rv_status rvl_load_wait(rv_lake *lake, rvl_load *other, const rvl_key *key,
                        const rv_progress *progress, rv_error *err) {
    rvb_mutex_lock(&loading);
    bool lost = false, back = leads_back(other, ++n_inquiries);
    rvl_wait wait = {waits, innermost, errand, other};
    rv_status status = RV_OK;
    if (!back) {
        waits = &wait;
        status = wait_for(lake, other, progress, &lost, err);
        if (!lost) forget_wait(&wait);
    }
    if (back) status = rvl_calls_itself(key, err);
    if (!back && !lost && status == RV_OK && other->status != RV_ERR_CANCELLED) {
        status = other->status;
        if (status != RV_OK && err) *err = other->error;
    }
    if (!lost && --other->watchers == 0) rvb_cond_broadcast(&lake->loaded);
    rvb_mutex_unlock(&loading);
    return status;
}
