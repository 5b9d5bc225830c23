/*
 * cache.c - entries, which key points at which of them, and which go. Everything here is
 * short: no call of this file asks a backend, builds, scans or touches a file. What is
 * dropped under the lock is freed after it.
 */
#include "lake/lake_i.h"

/* ---- entries ---------------------------------------------------------------------- */

rv_status rvl_entry_new(rv_lake *lake, rv_index *index, rv_bundle *bundle,
                        rvl_entry **out, rv_error *err) {
    rvl_entry *entry = rvb_alloc_zero(1, sizeof *entry);
    *out = entry;
    if (!entry) {
        rv_index_free(index);
        rv_bundle_free(bundle);
        return rvb_fail_memory(err, sizeof *entry);
    }
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    (void)rv_index_get_info(index, &info, NULL);
    entry->lake = lake;
    entry->index = index;
    entry->bundle = bundle;
    entry->n = info.n;
    entry->dim = info.dim;
    entry->changes = info.changes;
    atomic_init(&entry->owners, 1);
    rv_bundle_compute_witness(bundle, entry->witness);
    return RV_OK;
}

static void give_up(rvl_entry *entry) {
    if (atomic_fetch_sub(&entry->owners, 1) != 1) return;
    rv_index_free(entry->index);
    rv_bundle_free(entry->bundle);
    rvb_free(entry);
}

static void give_up_all(rvl_entry *dropped) {
    while (dropped) {
        rvl_entry *next = dropped->next;
        give_up(dropped);
        dropped = next;
    }
}

void rvl_entry_unlook(rvl_entry *entry) { give_up(entry); }

static rvl_entry *find_entry(const rv_lake *lake, const char *witness) {
    const rvl_table *t = &lake->entries;
    rvl_link *link =
        rvl_table_first(t, rvb_hash_bytes(&t->key, witness, RV_WITNESS_CHARS));
    for (; link; link = rvl_table_next(link)) {
        rvl_entry *e = RVL_RECORD(link, rvl_entry, by_witness);
        if (memcmp(e->witness, witness, RV_WITNESS_CHARS) == 0) return e;
    }
    return NULL;
}

/* ---- who is in use ---------------------------------------------------------------- */

/* A lake that may grow without limit never has to know who was used last. With a limit,
 * holding and releasing change the order and take the lock for it. */
static bool keeps_order(const rv_lake *lake) {
    return lake->options.max_cache_entries != 0;
}

static void lock_to_hold(rv_lake *lake) {
    if (keeps_order(lake))
        rvb_rwlock_write_lock(lake->state);
    else
        rvb_rwlock_read_lock(lake->state);
}

static void unlock_held(rv_lake *lake) {
    if (keeps_order(lake))
        rvb_rwlock_write_unlock(lake->state);
    else
        rvb_rwlock_read_unlock(lake->state);
}

static void start_idling(rv_lake *lake, rvl_entry *entry) {
    entry->idle = true;
    entry->idle_longer = lake->idle_least;
    entry->idle_less = NULL;
    *(lake->idle_least ? &lake->idle_least->idle_less : &lake->idle_most) = entry;
    lake->idle_least = entry;
}

static void stop_idling(rv_lake *lake, rvl_entry *entry) {
    if (!entry->idle) return;
    entry->idle = false;
    *(entry->idle_longer ? &entry->idle_longer->idle_less : &lake->idle_most) =
        entry->idle_less;
    *(entry->idle_less ? &entry->idle_less->idle_longer : &lake->idle_least) =
        entry->idle_longer;
}

/* Of one who is an owner already. */
static void begin_use(rv_lake *lake, rvl_entry *entry) {
    if (keeps_order(lake) && entry->users++ == 0) stop_idling(lake, entry);
}

static void end_use(rv_lake *lake, rvl_entry *entry) {
    if (--entry->users == 0 && entry->keys > 0) start_idling(lake, entry);
}

static rvl_entry *hold(rv_lake *lake, rvl_entry *entry) {
    atomic_fetch_add(&entry->owners, 1);
    begin_use(lake, entry);
    return entry;
}

/* ---- links ------------------------------------------------------------------------ */

static void link_entry(rv_lake *lake, rvl_entry *entry) {
    atomic_fetch_add(&entry->owners, 1);
    entry->number = lake->n_stored++;
    entry->previous = NULL;
    entry->next = lake->newest;
    if (entry->next) entry->next->previous = entry;
    lake->newest = entry;
    rvl_table *t = &lake->entries;
    rvl_table_add(t, &entry->by_witness,
                  rvb_hash_bytes(&t->key, entry->witness, RV_WITNESS_CHARS));
    atomic_fetch_add(&lake->n_entries, 1);
}

/* Takes an entry that no key points at off all lists and puts it on `dropped`, to be
 * given up unlocked. */
static void unlink_entry(rv_lake *lake, rvl_entry *entry, rvl_entry **dropped) {
    if (entry->next) entry->next->previous = entry->previous;
    *(entry->previous ? &entry->previous->next : &lake->newest) = entry->next;
    rvl_table_remove(&lake->entries, &entry->by_witness);
    stop_idling(lake, entry);
    atomic_fetch_sub(&lake->n_entries, 1);
    entry->previous = NULL;
    entry->next = *dropped;
    *dropped = entry;
}

static void attach(rvl_key *key, rvl_entry *entry) {
    key->entry = entry;
    key->previous_of_entry = NULL;
    key->next_of_entry = entry->first_key;
    if (entry->first_key) entry->first_key->previous_of_entry = key;
    entry->first_key = key;
    entry->keys++;
}

/* Returns the entry the key pointed at. */
static rvl_entry *detach(rvl_key *key) {
    rvl_entry *entry = key->entry;
    rvl_key *next = key->next_of_entry, *previous = key->previous_of_entry;
    if (next) next->previous_of_entry = previous;
    *(previous ? &previous->next_of_entry : &entry->first_key) = next;
    key->entry = NULL;
    entry->keys--;
    return entry;
}

/* ---- pointers --------------------------------------------------------------------- */

static bool tokens_differ(const rvl_token *a, const rvl_token *b) {
    size_t parts = a->lasting || b->lasting ? RVL_LASTING : 4;
    return a->known && b->known && memcmp(a->part, b->part, parts * sizeof *a->part) != 0;
}

/* Whether the one says more of the state than the other, which does not contradict it. */
static bool can_learn(const rvl_token *known, const rvl_token *token) {
    return token && token->known && !token->lasting && (!known->known || known->lasting);
}

static void learn_token(rvl_entry *entry, const rvl_token *token) {
    if (can_learn(&entry->token, token)) entry->token = *token;
}

rvl_token rvl_token_of(rv_lake *lake, const rvl_entry *entry) {
    rvb_rwlock_read_lock(lake->state);
    rvl_token token = entry->token;
    rvb_rwlock_read_unlock(lake->state);
    return token;
}

/* True if the entry the key pointed at went. */
static bool unpoint(rv_lake *lake, rvl_key *key, rvl_entry **dropped) {
    rvl_entry *entry = key->entry ? detach(key) : NULL;
    atomic_store(&key->checked, 0);
    if (!entry || entry->keys > 0) return false;
    unlink_entry(lake, entry, dropped);
    return true;
}

static void point(rv_lake *lake, rvl_key *key, rvl_entry *entry, rvl_entry **dropped) {
    if (key->entry != entry) {
        if (unpoint(lake, key, dropped)) RVL_COUNT(lake, key, invalidations, 1);
        attach(key, entry);
    }
    atomic_store(&key->checked, rvb_now_ns());
}

/* The index has a lock of its own, so this one must not be held: the entry is. */
static bool altered(const rvl_entry *entry) {
    if (!entry->foreign) return false;
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    (void)rv_index_get_info(entry->index, &info, NULL);
    return info.changes != entry->changes;
}

static bool unchecked_will_do(const rv_lake *lake, rvl_key *key) {
    if (lake->options.consistency != RV_EVENTUAL)
        return lake->options.consistency == RV_STALE;
    uint64_t checked = atomic_load(&key->checked);
    return checked && (rvb_now_ns() - checked) / 1000000 < lake->options.eventual_ttl_ms;
}

static bool is_asked(const rv_lake *lake, rvl_key *key, rvl_ask ask, const char *witness,
                     const rvl_token *token, bool *stale) {
    const rvl_entry *entry = key->entry;
    switch (ask) {
    case RVL_ANY:
        return true;
    case RVL_UNCHECKED:
        return unchecked_will_do(lake, key);
    case RVL_TOKEN:
        return entry->token.known && !entry->token.lasting &&
               !tokens_differ(&entry->token, token);
    default:
        if (memcmp(entry->witness, witness, sizeof entry->witness) != 0) return false;
        *stale = tokens_differ(&entry->token, token);
        return !*stale;
    }
}

/* The key counts as missing, if it still points there. */
static void forget(rv_lake *lake, rvl_key *key, const rvl_entry *entry) {
    rvl_entry *dropped = NULL;
    rvb_rwlock_write_lock(lake->state);
    if (key->entry == entry) {
        (void)unpoint(lake, key, &dropped);
        RVL_COUNT(lake, key, invalidations, 1);
    }
    rvb_rwlock_write_unlock(lake->state);
    give_up_all(dropped);
}

rvl_entry *rvl_hold(rv_lake *lake, rvl_key *key, rvl_ask ask, const char *witness,
                    const rvl_token *token, bool *stale) {
    rvl_entry *held = NULL;
    lock_to_hold(lake);
    if (key->entry && is_asked(lake, key, ask, witness, token, stale))
        held = hold(lake, key->entry);
    bool learn = held && ask == RVL_WITNESS && can_learn(&held->token, token);
    unlock_held(lake);
    if (held && altered(held)) {
        forget(lake, key, held);
        rv_pin_release(held);
        return NULL;
    }
    if (held && ask >= RVL_TOKEN) atomic_store(&key->checked, rvb_now_ns());
    if (learn) {
        rvb_rwlock_write_lock(lake->state);
        learn_token(held, token);
        rvb_rwlock_write_unlock(lake->state);
    }
    return held;
}

/* The entry of a witness, looked at, and whether it is altered; NULL if there is none. */
static rvl_entry *look_at(rv_lake *lake, const char *witness, bool *is_altered) {
    rvb_rwlock_read_lock(lake->state);
    rvl_entry *entry = find_entry(lake, witness);
    if (entry) atomic_fetch_add(&entry->owners, 1);
    rvb_rwlock_read_unlock(lake->state);
    *is_altered = entry && altered(entry);
    return entry;
}

rvl_entry *rvl_share(rv_lake *lake, rvl_key *key, const char *witness,
                     const rvl_token *token) {
    bool is_altered;
    rvl_entry *dropped = NULL, *entry = look_at(lake, witness, &is_altered);
    if (!entry) return NULL;
    rvb_rwlock_write_lock(lake->state);
    bool good = !is_altered && find_entry(lake, witness) == entry &&
                !tokens_differ(&entry->token, token);
    if (good) {
        learn_token(entry, token);
        point(lake, key, entry, &dropped);
        begin_use(lake, entry);
    }
    rvb_rwlock_write_unlock(lake->state);
    give_up_all(dropped);
    if (good) return entry;
    give_up(entry);
    return NULL;
}

rvl_entry *rvl_entry_look(rv_lake *lake, const rvl_entry *after) {
    rvb_rwlock_read_lock(lake->state);
    bool there = after && after->keys > 0;
    rvl_entry *entry = there ? after->next : lake->newest;
    while (after && entry && entry->number >= after->number) entry = entry->next;
    if (entry) atomic_fetch_add(&entry->owners, 1);
    rvb_rwlock_read_unlock(lake->state);
    return entry;
}

/* Everything that points at `old` points at `entry` from now on. */
static void replace(rv_lake *lake, rvl_entry *old, rvl_entry *entry,
                    rvl_entry **dropped) {
    while (old->first_key) {
        rvl_key *key = old->first_key;
        (void)detach(key);
        attach(key, entry);
    }
    unlink_entry(lake, old, dropped);
}

/* Those used longest ago go, until there are no more than there may be, or all that are
 * left are in use. */
static void evict(rv_lake *lake, rvl_entry **dropped) {
    while (atomic_load(&lake->n_entries) > lake->options.max_cache_entries &&
           lake->idle_most) {
        rvl_entry *victim = lake->idle_most;
        while (victim->first_key) {
            atomic_store(&victim->first_key->checked, 0);
            (void)detach(victim->first_key);
        }
        unlink_entry(lake, victim, dropped);
        atomic_fetch_add(&lake->counters.invalidations, 1);
        atomic_fetch_add(&lake->evictions, 1);
    }
}

rvl_entry *rvl_store(rv_lake *lake, rvl_key *key, rvl_entry *entry, bool *stored) {
    bool is_altered;
    rvl_entry *dropped = NULL, *seen = look_at(lake, entry->witness, &is_altered);
    rvb_rwlock_write_lock(lake->state);
    rvl_entry *there = find_entry(lake, entry->witness);
    bool other =
        there && !entry->token.lasting && tokens_differ(&there->token, &entry->token);
    bool outdated = other || (there && there == seen && is_altered);
    *stored = !there || outdated;
    rvl_entry *kept = *stored ? entry : there;
    if (*stored) link_entry(lake, entry);
    if (outdated) {
        replace(lake, there, entry, &dropped);
        RVL_COUNT(lake, key, invalidations, 1);
    }
    learn_token(kept, &entry->token);
    point(lake, key, kept, &dropped);
    hold(lake, kept);
    if (keeps_order(lake)) evict(lake, &dropped);
    rvb_rwlock_write_unlock(lake->state);
    give_up(entry);
    if (seen) give_up(seen);
    give_up_all(dropped);
    return kept;
}

/* ---- what goes -------------------------------------------------------------------- */

void rv_pin_release(rv_pin *pin) {
    if (!pin) return;
    rv_lake *lake = pin->lake;
    rvl_entry *dropped = NULL;
    if (keeps_order(lake)) {
        rvb_rwlock_write_lock(lake->state);
        end_use(lake, pin);
        evict(lake, &dropped);
        rvb_rwlock_write_unlock(lake->state);
    }
    give_up(pin);
    give_up_all(dropped);
}

void rv_lake_invalidate(rv_lake *lake, rv_key name) {
    rvl_entry *dropped = NULL;
    rvb_rwlock_write_lock(lake->state);
    rvl_key *key = rvl_find_key(lake, name.backend, name.collection);
    if (key && !key->backend) key = rvl_meant(lake, key);
    if (key && key->entry) {
        (void)unpoint(lake, key, &dropped);
        RVL_COUNT(lake, key, invalidations, 1);
    }
    if (key) atomic_store(&key->checked, 0);
    rvb_rwlock_write_unlock(lake->state);
    give_up_all(dropped);
}

void rvl_entries_clear(rv_lake *lake) {
    for (rvl_entry *e = lake->newest, *next; e; e = next) {
        next = e->next;
        give_up(e);
    }
    rvl_table_clear(&lake->entries);
}

/* ---- questions -------------------------------------------------------------------- */

static void describe(const rvl_entry *entry, uint64_t own, rv_entry_info *out) {
    *out = (rv_entry_info){.n = entry->n,
                           .dim = entry->dim,
                           .keys = entry->keys,
                           .holds = atomic_load(&entry->owners) - own,
                           .ids_unverified = entry->ids_unverified};
    memcpy(out->witness, entry->witness, sizeof out->witness);
}

static const rvb_sized info_type =
    RVB_SIZED(rv_entry_info, RV_ENTRY_INFO_0_1_0_SIZE, RV_ENTRY_INFO_DEFAULT);

rv_status rv_pin_info(const rv_pin *pin, rv_entry_info *out, rv_error *err) {
    rv_entry_info info;
    rvb_rwlock_read_lock(pin->lake->state);
    /* the list owns what keys point at */
    describe(pin, pin->keys > 0, &info);
    rvb_rwlock_read_unlock(pin->lake->state);
    return rvb_give_info(&info_type, &info, out, err);
}

rv_status rv_lake_get_entry(const rv_lake *lake, rv_key name, rv_entry_info *out,
                            rv_error *err) {
    rv_entry_info info;
    rvb_rwlock_read_lock(lake->state);
    const rvl_key *key = rvl_find_key(lake, name.backend, name.collection);
    if (key && !key->backend) key = rvl_meant(lake, key);
    bool there = key && key->entry;
    if (there) describe(key->entry, 1, &info);
    rvb_rwlock_read_unlock(lake->state);
    if (!there)
        return rvb_fail(err, RV_ERR_NOT_FOUND, "%s%s%s is not in the cache",
                        name.backend ? name.backend : "", name.backend ? "/" : "",
                        name.collection);
    return rvb_give_info(&info_type, &info, out, err);
}

uint64_t rv_lake_entry_count(const rv_lake *lake) {
    return atomic_load(&lake->n_entries);
}

uint64_t rv_lake_refcount(const rv_lake *lake, const char *witness) {
    if (strlen(witness) != RV_WITNESS_CHARS) return 0;
    rvb_rwlock_read_lock(lake->state);
    const rvl_entry *entry = find_entry(lake, witness);
    uint64_t keys = entry ? entry->keys : 0;
    rvb_rwlock_read_unlock(lake->state);
    return keys;
}
