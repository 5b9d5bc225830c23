/*
 * flight.c - one loader at a time: who is at work on which key or state, and who waits.
 *
 * Who waits for whom is written down, so that a backend that searches, during a pull,
 * what only that pull could bring gets an error and no eternal wait.
 */
#include "lake/lake_i.h"

#define WAIT_MS 50

/* One for all lakes: a backend of one may search another. */
static rvb_mutex loading = RVB_MUTEX_STATIC;
static _Thread_local rvl_frame *innermost;

void rvl_frame_enter(rvl_frame *frame, const rv_lake *lake, const rvl_key *key) {
    *frame = (rvl_frame){innermost, lake, key, NULL};
    innermost = frame;
}

void rvl_frame_leave(const rvl_frame *frame) { innermost = frame->outer; }

bool rvl_being_asked(const rv_lake *lake, const rvl_key *key) {
    for (const rvl_frame *f = innermost; f; f = f->outer)
        if (f->lake == lake && f->key == key) return true;
    return false;
}

/* ---- one loader at a time ------------------------------------------------------------
 */

rv_status rvl_calls_itself(const rvl_key *key, rv_error *err) {
    return rvb_fail(err, RV_ERR_BACKEND,
                    "backend error (%s): it searched collection %s while the lake was "
                    "asking it for that very collection",
                    key->backend, key->collection);
}

static bool is_own(const rvl_load *load) {
    for (const rvl_frame *f = innermost; f; f = f->outer)
        if (f->load == load) return true;
    return false;
}

/* Whether waiting for `load` would be waiting for this thread itself. */
static bool leads_back(const rvl_load *load) {
    for (; load; load = load->waits_for)
        if (is_own(load)) return true;
    return false;
}

static rvl_load *outer_load(void) {
    for (const rvl_frame *f = innermost; f; f = f->outer)
        if (f->load) return f->load;
    return NULL;
}

static rvl_load *find_load(const rv_lake *lake, const rvl_key *key, const char *witness) {
    rvl_load *l = lake->loads;
    while (l && l->key != key && !(*witness && strcmp(l->witness, witness) == 0))
        l = l->next;
    return l;
}

rvl_load *rvl_load_join(rv_lake *lake, const rvl_key *key, const char *witness,
                        rvl_load *own) {
    *own = (rvl_load){.key = key, .watchers = 0};
    memcpy(own->witness, witness, strlen(witness) + 1);
    rvb_mutex_lock(&loading);
    rvl_load *other = find_load(lake, key, witness), *outer = outer_load();
    if (other) {
        other->watchers++;
    } else {
        own->next = lake->loads;
        lake->loads = own;
        if (outer) outer->waits_for = own;
        innermost->load = own;
    }
    rvb_mutex_unlock(&loading);
    return other;
}

void rvl_load_end(rv_lake *lake, rvl_load *own, rv_status status, const rv_error *error) {
    rvb_mutex_lock(&loading);
    innermost->load = NULL;
    rvl_load **at = &lake->loads, *outer = outer_load();
    while (*at != own) at = &(*at)->next;
    *at = own->next;
    own->status = status;
    own->error = *error;
    own->done = true;
    if (outer) outer->waits_for = NULL;
    rvb_cond_broadcast(&lake->loaded);
    while (own->watchers > 0) rvb_cond_wait(&lake->loaded, &loading);
    rvb_mutex_unlock(&loading);
}

static rv_status cancelled(rv_error *err) {
    return rvb_fail(err, RV_ERR_CANCELLED,
                    "stopped while waiting for a collection that is being loaded");
}

rv_status rvl_load_wait(rv_lake *lake, rvl_load *other, const rvl_key *key,
                        const rv_progress *progress, rv_error *err) {
    rv_status status = RV_OK;
    rvb_mutex_lock(&loading);
    rvl_load *outer = outer_load();
    if (leads_back(other)) status = rvl_calls_itself(key, err);
    if (status == RV_OK && outer) outer->waits_for = other;
    while (status == RV_OK && !other->done) {
        if (progress)
            rvb_cond_wait_ms(&lake->loaded, &loading, WAIT_MS);
        else
            rvb_cond_wait(&lake->loaded, &loading);
        if (other->done || !progress) continue;
        rvb_mutex_unlock(&loading);
        if (progress->report(progress->ctx, 0, 0)) status = cancelled(err);
        rvb_mutex_lock(&loading);
    }
    if (status == RV_OK && other->status != RV_ERR_CANCELLED) {
        status = other->status;
        if (status != RV_OK && err) *err = other->error;
    }
    if (outer) outer->waits_for = NULL;
    if (--other->watchers == 0) rvb_cond_broadcast(&lake->loaded);
    rvb_mutex_unlock(&loading);
    return status;
}
