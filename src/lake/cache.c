/*
 * cache.c - keys, entries, and which key points at which entry. Everything here is
 * short: no call of this file asks a backend, builds, scans or touches a file. What is
 * dropped under the lock is freed after it.
 */
#include "lake/lake_i.h"

/* ---- keys ------------------------------------------------------------------------- */

/* FNV-1a, 64 bit. */
static uint64_t hash_text(uint64_t h, const char *text) {
    for (; *text; text++) h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001B3);
    return (h ^ 0xFF) * UINT64_C(0x100000001B3);
}

static rvl_key **bucket_of(const rv_lake *lake, const char *backend,
                           const char *collection) {
    uint64_t h = hash_text(UINT64_C(0xCBF29CE484222325), backend ? backend : "");
    h = hash_text(backend ? h : ~h, collection);
    return &lake->bucket[(h ^ h >> 32) & (lake->n_buckets - 1)];
}

static bool same_backend(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

rvl_key *rvl_find_key(const rv_lake *lake, const char *backend, const char *collection) {
    if (!lake->bucket) return NULL;
    rvl_key *key = *bucket_of(lake, backend, collection);
    while (key && !(strcmp(key->collection, collection) == 0 &&
                    same_backend(key->backend, backend)))
        key = key->next_in_bucket;
    return key;
}

static rvl_key *new_key(const char *backend, const char *collection) {
    size_t b = backend ? strlen(backend) + 1 : 0, c = strlen(collection) + 1;
    rvl_key *key = rvb_alloc_zero(1, sizeof *key + b + c);
    if (!key) return NULL;
    char *text = (char *)(key + 1);
    memcpy(text, collection, c);
    key->collection = text;
    if (backend) key->backend = memcpy(text + c, backend, b);
    return key;
}

static void put_in_bucket(rv_lake *lake, rvl_key *key) {
    rvl_key **bucket = bucket_of(lake, key->backend, key->collection);
    key->next_in_bucket = *bucket;
    *bucket = key;
}

/* Names come from callers, as many as they like: a bucket for each. Without memory for
 * more the old ones stay. False if there is none at all. */
static bool reserve_bucket(rv_lake *lake) {
    if (lake->n_keys < lake->n_buckets) return true;
    size_t n = lake->n_buckets ? 2 * lake->n_buckets : 64;
    rvl_key **made = rvb_alloc_zero(n, sizeof *made);
    if (!made) return lake->bucket != NULL;
    rvb_free(lake->bucket);
    lake->bucket = made;
    lake->n_buckets = n;
    for (rvl_key *key = lake->first_key; key; key = key->next) put_in_bucket(lake, key);
    return true;
}

rv_status rvl_key_of(rv_lake *lake, const char *backend, const char *collection,
                     rvl_key **out, rv_error *err) {
    rvb_rwlock_read(lake->state);
    *out = rvl_find_key(lake, backend, collection);
    rvb_rwlock_unread(lake->state);
    if (*out) return RV_OK;
    rvl_key *made = new_key(backend, collection);
    if (!made) return rvb_fail_memory(err, sizeof *made);
    rvb_rwlock_write(lake->state);
    *out = rvl_find_key(lake, backend, collection);
    if (!*out && reserve_bucket(lake)) {
        put_in_bucket(lake, made);
        *lake->last_key = *out = made;
        lake->last_key = &made->next;
        lake->n_keys++;
        made = NULL;
    }
    rvb_rwlock_unwrite(lake->state);
    rvb_free(made);
    return *out ? RV_OK : rvb_fail_memory(err, sizeof *made);
}

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
    rv_index_info info;
    rv_index_get_info(index, &info);
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

void rv_pin_release(rv_pin *pin) {
    if (!pin) return;
    rv_lake *lake = pin->lake;
    give_up(pin);
    if (lake->options.max_cache_entries &&
        atomic_load(&lake->n_entries) > lake->options.max_cache_entries)
        rvl_trim(lake);
}

static void touch(rv_lake *lake, rvl_entry *entry) {
    atomic_store_explicit(
        &entry->last_used,
        atomic_fetch_add_explicit(&lake->uses, 1, memory_order_relaxed) + 1,
        memory_order_relaxed);
}

static rvl_entry *hold(rv_lake *lake, rvl_entry *entry) {
    atomic_fetch_add(&entry->owners, 1);
    touch(lake, entry);
    return entry;
}

static rvl_entry *find_entry(const rv_lake *lake, const char *witness) {
    rvl_entry *e = lake->entries;
    while (e && memcmp(e->witness, witness, sizeof e->witness) != 0) e = e->next;
    return e;
}

static void link_entry(rv_lake *lake, rvl_entry *entry) {
    atomic_fetch_add(&entry->owners, 1);
    entry->number = lake->n_stored++;
    entry->previous = NULL;
    entry->next = lake->entries;
    if (entry->next) entry->next->previous = entry;
    lake->entries = entry;
    atomic_fetch_add(&lake->n_entries, 1);
}

/* Takes an entry off the list and puts it on `dropped`, to be given up unlocked. */
static void unlink_entry(rv_lake *lake, rvl_entry *entry, rvl_entry **dropped) {
    if (entry->next) entry->next->previous = entry->previous;
    *(entry->previous ? &entry->previous->next : &lake->entries) = entry->next;
    atomic_fetch_sub(&lake->n_entries, 1);
    entry->previous = NULL;
    entry->next = *dropped;
    *dropped = entry;
}

static void give_up_all(rvl_entry *dropped) {
    while (dropped) {
        rvl_entry *next = dropped->next;
        give_up(dropped);
        dropped = next;
    }
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
    rvb_rwlock_read(lake->state);
    rvl_token token = entry->token;
    rvb_rwlock_unread(lake->state);
    return token;
}

/* True if the entry the key pointed at went. */
static bool unpoint(rv_lake *lake, rvl_key *key, rvl_entry **dropped) {
    rvl_entry *entry = key->entry;
    key->entry = NULL;
    atomic_store(&key->checked, 0);
    if (!entry || --entry->keys > 0) return false;
    unlink_entry(lake, entry, dropped);
    return true;
}

static void point(rv_lake *lake, rvl_key *key, rvl_entry *entry, rvl_entry **dropped) {
    if (key->entry != entry) {
        entry->keys++;
        if (unpoint(lake, key, dropped)) RVL_COUNT(lake, key, invalidations, 1);
        key->entry = entry;
    }
    atomic_store(&key->checked, rvb_now_ns());
}

/* The index has a lock of its own, so this one must not be held: the entry is. */
static bool altered(const rvl_entry *entry) {
    if (!entry->foreign) return false;
    rv_index_info info;
    rv_index_get_info(entry->index, &info);
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
    rvb_rwlock_write(lake->state);
    if (key->entry == entry) {
        (void)unpoint(lake, key, &dropped);
        RVL_COUNT(lake, key, invalidations, 1);
    }
    rvb_rwlock_unwrite(lake->state);
    give_up_all(dropped);
}

rvl_entry *rvl_hold(rv_lake *lake, rvl_key *key, rvl_ask ask, const char *witness,
                    const rvl_token *token, bool *stale) {
    rvl_entry *held = NULL;
    rvb_rwlock_read(lake->state);
    if (key->entry && is_asked(lake, key, ask, witness, token, stale))
        held = hold(lake, key->entry);
    bool learn = held && ask == RVL_WITNESS && can_learn(&held->token, token);
    rvb_rwlock_unread(lake->state);
    if (held && altered(held)) {
        forget(lake, key, held);
        rv_pin_release(held);
        return NULL;
    }
    if (held && ask >= RVL_TOKEN) atomic_store(&key->checked, rvb_now_ns());
    if (learn) {
        rvb_rwlock_write(lake->state);
        learn_token(held, token);
        rvb_rwlock_unwrite(lake->state);
    }
    return held;
}

/* The entry of a witness, held, and whether it is altered; NULL if there is none. */
static rvl_entry *look_at(rv_lake *lake, const char *witness, bool *is_altered) {
    rvb_rwlock_read(lake->state);
    rvl_entry *entry = find_entry(lake, witness);
    if (entry) atomic_fetch_add(&entry->owners, 1);
    rvb_rwlock_unread(lake->state);
    *is_altered = entry && altered(entry);
    return entry;
}

rvl_entry *rvl_share(rv_lake *lake, rvl_key *key, const char *witness,
                     const rvl_token *token) {
    bool is_altered;
    rvl_entry *dropped = NULL, *entry = look_at(lake, witness, &is_altered);
    if (!entry) return NULL;
    rvb_rwlock_write(lake->state);
    bool good = !is_altered && find_entry(lake, witness) == entry &&
                !tokens_differ(&entry->token, token);
    if (good) {
        learn_token(entry, token);
        point(lake, key, entry, &dropped);
        touch(lake, entry);
    }
    rvb_rwlock_unwrite(lake->state);
    give_up_all(dropped);
    if (good) return entry;
    rv_pin_release(entry);
    return NULL;
}

rvl_entry *rvl_hold_before(rv_lake *lake, uint64_t *before) {
    rvb_rwlock_read(lake->state);
    rvl_entry *entry = lake->entries;
    while (entry && entry->number >= *before) entry = entry->next;
    if (entry) {
        atomic_fetch_add(&entry->owners, 1);
        *before = entry->number;
    }
    rvb_rwlock_unread(lake->state);
    return entry;
}

/* Everything that points at `old` points at `entry` from now on. */
static void replace(rv_lake *lake, rvl_entry *old, rvl_entry *entry,
                    rvl_entry **dropped) {
    for (rvl_key *key = lake->first_key; key; key = key->next) {
        if (key->entry != old) continue;
        key->entry = entry;
        entry->keys++;
        old->keys--;
    }
    unlink_entry(lake, old, dropped);
}

rvl_entry *rvl_store(rv_lake *lake, rvl_key *key, rvl_entry *entry, bool *stored) {
    bool is_altered;
    rvl_entry *dropped = NULL, *seen = look_at(lake, entry->witness, &is_altered);
    rvb_rwlock_write(lake->state);
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
    rvb_rwlock_unwrite(lake->state);
    give_up(entry);
    if (seen) give_up(seen);
    give_up_all(dropped);
    rvl_trim(lake);
    return kept;
}

/* ---- what goes -------------------------------------------------------------------- */

/* The one used longest ago of those nobody holds. */
static rvl_entry *choose_victim(const rv_lake *lake) {
    rvl_entry *victim = NULL;
    for (rvl_entry *e = lake->entries; e; e = e->next)
        if (atomic_load(&e->owners) == 1 &&
            (!victim || atomic_load(&e->last_used) < atomic_load(&victim->last_used)))
            victim = e;
    return victim;
}

void rvl_trim(rv_lake *lake) {
    uint64_t most = lake->options.max_cache_entries;
    if (most == 0 || atomic_load(&lake->n_entries) <= most) return;
    rvl_entry *dropped = NULL, *victim;
    rvb_rwlock_write(lake->state);
    while (atomic_load(&lake->n_entries) > most && (victim = choose_victim(lake))) {
        for (rvl_key *key = lake->first_key; key; key = key->next) {
            if (key->entry != victim) continue;
            key->entry = NULL;
            atomic_store(&key->checked, 0);
        }
        victim->keys = 0;
        unlink_entry(lake, victim, &dropped);
        atomic_fetch_add(&lake->counters.invalidations, 1);
        atomic_fetch_add(&lake->evictions, 1);
    }
    rvb_rwlock_unwrite(lake->state);
    give_up_all(dropped);
}

void rv_lake_invalidate(rv_lake *lake, rv_key name) {
    rvl_entry *dropped = NULL;
    rvb_rwlock_write(lake->state);
    rvl_key *key = rvl_find_key(lake, name.backend, name.collection);
    if (key && !key->backend) key = key->meant;
    if (key && key->entry) {
        (void)unpoint(lake, key, &dropped);
        RVL_COUNT(lake, key, invalidations, 1);
    }
    if (key) atomic_store(&key->checked, 0);
    rvb_rwlock_unwrite(lake->state);
    give_up_all(dropped);
}

void rvl_cache_clear(rv_lake *lake) {
    for (rvl_key *key = lake->first_key, *next; key; key = next) {
        next = key->next;
        rvb_free(key);
    }
    rvb_free(lake->bucket);
    for (rvl_entry *e = lake->entries, *next; e; e = next) {
        next = e->next;
        give_up(e);
    }
}

/* ---- questions -------------------------------------------------------------------- */

static void read_counters(const rvl_counters *c, rv_lake_stats *out) {
    out->hits += atomic_load(&c->hits);
    out->misses += atomic_load(&c->misses);
    out->primes += atomic_load(&c->primes);
    out->invalidations += atomic_load(&c->invalidations);
    out->shared_hits += atomic_load(&c->shared_hits);
}

void rv_lake_get_stats(const rv_lake *lake, rv_lake_stats *out) {
    *out = (rv_lake_stats){.warm_installs = atomic_load(&lake->warm_installs),
                           .evictions = atomic_load(&lake->evictions),
                           .scans = atomic_load(&lake->scans)};
    read_counters(&lake->counters, out);
    rvb_rwlock_read(lake->state);
    out->total_prime_ms = lake->total_prime_ms;
    out->last_prime_ms = lake->last_prime_ms;
    rvb_rwlock_unread(lake->state);
}

int rv_lake_get_key_stats(const rv_lake *lake, rv_key name, rv_lake_stats *out) {
    *out = (rv_lake_stats){0};
    rvb_rwlock_read(lake->state);
    for (const rvl_key *key = lake->first_key; key; key = key->next)
        if (key->backend && same_backend(key->backend, name.backend) &&
            (!name.collection || strcmp(key->collection, name.collection) == 0))
            read_counters(&key->counters, out);
    rvb_rwlock_unread(lake->state);
    return out->hits || out->misses || out->primes || out->invalidations ||
           out->shared_hits;
}

size_t rv_lake_keys(const rv_lake *lake, rv_key *out, size_t capacity) {
    size_t n = 0;
    rvb_rwlock_read(lake->state);
    for (const rvl_key *key = lake->first_key; key; key = key->next) {
        if (!key->backend) continue;
        if (n < capacity) out[n] = (rv_key){key->backend, key->collection};
        n++;
    }
    rvb_rwlock_unread(lake->state);
    return n;
}

static void describe(const rvl_entry *entry, uint64_t own, rv_entry_info *out) {
    *out = (rv_entry_info){.n = entry->n,
                           .dim = entry->dim,
                           .keys = entry->keys,
                           .holds = atomic_load(&entry->owners) - own,
                           .ids_unverified = entry->ids_unverified};
    memcpy(out->witness, entry->witness, sizeof out->witness);
}

void rv_pin_info(const rv_pin *pin, rv_entry_info *out) {
    rvb_rwlock_read(pin->lake->state);
    /* the list owns what keys point at */
    describe(pin, pin->keys > 0, out);
    rvb_rwlock_unread(pin->lake->state);
}

int rv_lake_get_entry(const rv_lake *lake, rv_key name, rv_entry_info *out) {
    rvb_rwlock_read(lake->state);
    const rvl_key *key = rvl_find_key(lake, name.backend, name.collection);
    if (key && !key->backend) key = key->meant;
    bool there = key && key->entry;
    if (there) describe(key->entry, 1, out);
    rvb_rwlock_unread(lake->state);
    return there;
}

uint64_t rv_lake_entry_count(const rv_lake *lake) {
    return atomic_load(&lake->n_entries);
}

uint64_t rv_lake_refcount(const rv_lake *lake, const char *witness) {
    if (strlen(witness) != RV_WITNESS_CHARS) return 0;
    rvb_rwlock_read(lake->state);
    const rvl_entry *entry = find_entry(lake, witness);
    uint64_t keys = entry ? entry->keys : 0;
    rvb_rwlock_unread(lake->state);
    return keys;
}
