/*
 * keys.c - the names a lake was asked for, and what is counted for each. They stay as
 * long as the lake.
 */
#include "lake/lake_i.h"

/* Of a collection alone: the alias. */
static uint64_t hash_of(const rvl_table *names, const char *backend,
                        const char *collection) {
    uint64_t hash = rvl_table_hash(names, collection);
    return backend ? rvb_rotated(hash, 1) ^ rvl_table_hash(names, backend) : hash;
}

static rvl_key *key_of(rvl_link *by_name) {
    return by_name ? RVL_RECORD(by_name, rvl_key, by_name) : NULL;
}

static bool same_backend(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

rvl_key *rvl_find_key(const rv_lake *lake, const char *backend, const char *collection) {
    const rvl_table *t = &lake->keys;
    rvl_key *key = key_of(rvl_table_first(t, hash_of(t, backend, collection)));
    while (key && !(strcmp(key->collection, collection) == 0 &&
                    same_backend(key->backend, backend)))
        key = key_of(rvl_table_next(&key->by_name));
    return key;
}

rvl_key *rvl_next_holder(const rv_lake *lake, const rvl_key *after,
                         const char *collection) {
    const rvl_table *t = &lake->holders;
    rvl_link *link = after ? rvl_table_next(&after->by_collection)
                           : rvl_table_first(t, rvl_table_hash(t, collection));
    for (; link; link = rvl_table_next(link)) {
        rvl_key *key = RVL_RECORD(link, rvl_key, by_collection);
        if (strcmp(key->collection, collection) == 0) return key;
    }
    return NULL;
}

rvl_key *rvl_meant(const rv_lake *lake, const rvl_key *alias) {
    return alias->meant_among == lake->n_backends ? alias->meant : NULL;
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

static void add_key(rv_lake *lake, rvl_key *key) {
    rvl_table_add(&lake->keys, &key->by_name,
                  hash_of(&lake->keys, key->backend, key->collection));
    if (key->backend)
        rvl_table_add(&lake->holders, &key->by_collection,
                      rvl_table_hash(&lake->holders, key->collection));
    *lake->last_key = key;
    lake->last_key = &key->next;
}

rv_status rvl_key_of(rv_lake *lake, const char *backend, const char *collection,
                     rvl_key **out, rv_error *err) {
    rvb_rwlock_read_lock(lake->state);
    *out = rvl_find_key(lake, backend, collection);
    rvb_rwlock_read_unlock(lake->state);
    if (*out) return RV_OK;
    rvl_key *made = new_key(backend, collection);
    if (!made) return rvb_fail_memory(err, sizeof *made);
    rvb_rwlock_write_lock(lake->state);
    *out = rvl_find_key(lake, backend, collection);
    if (!*out) {
        add_key(lake, made);
        *out = made;
        made = NULL;
    }
    rvb_rwlock_write_unlock(lake->state);
    rvb_free(made);
    return RV_OK;
}

void rvl_keys_init(rv_lake *lake) {
    lake->last_key = &lake->first_key;
    rvl_table_init(&lake->keys);
    rvl_table_init(&lake->holders);
}

void rvl_keys_clear(rv_lake *lake) {
    for (rvl_key *key = lake->first_key, *next; key; key = next) {
        next = key->next;
        rvb_free(key);
    }
    rvl_table_clear(&lake->keys);
    rvl_table_clear(&lake->holders);
}

/* ---- questions -------------------------------------------------------------------- */

static void read_counters(const rvl_counters *c, rv_lake_stats *out) {
    out->hits += atomic_load(&c->hits);
    out->misses += atomic_load(&c->misses);
    out->primes += atomic_load(&c->primes);
    out->invalidations += atomic_load(&c->invalidations);
    out->shared_hits += atomic_load(&c->shared_hits);
}

static const rvb_sized stats_type =
    RVB_SIZED(rv_lake_stats, RV_LAKE_STATS_0_1_0_SIZE, RV_LAKE_STATS_DEFAULT);

rv_status rv_lake_get_stats(const rv_lake *lake, rv_lake_stats *out, rv_error *err) {
    rv_lake_stats stats = {.warm_installs = atomic_load(&lake->warm_installs),
                           .evictions = atomic_load(&lake->evictions),
                           .scans = atomic_load(&lake->scans)};
    read_counters(&lake->counters, &stats);
    rvb_rwlock_read_lock(lake->state);
    stats.total_prime_ms = lake->total_prime_ms;
    stats.last_prime_ms = lake->last_prime_ms;
    rvb_rwlock_read_unlock(lake->state);
    return rvb_give_info(&stats_type, &stats, out, err);
}

rv_status rv_lake_get_key_stats(const rv_lake *lake, rv_key name, rv_lake_stats *out,
                                rv_error *err) {
    rv_lake_stats stats = {0};
    rvb_rwlock_read_lock(lake->state);
    const rvl_key *one =
        name.collection ? rvl_find_key(lake, name.backend, name.collection) : NULL;
    if (one && one->backend) read_counters(&one->counters, &stats);
    for (const rvl_key *key = lake->first_key; key && !name.collection; key = key->next)
        if (key->backend && same_backend(key->backend, name.backend))
            read_counters(&key->counters, &stats);
    rvb_rwlock_read_unlock(lake->state);
    if (!stats.hits && !stats.misses && !stats.primes && !stats.invalidations &&
        !stats.shared_hits)
        return rvb_fail(err, RV_ERR_NOT_FOUND, "nothing has been counted for %s%s%s yet",
                        name.backend ? name.backend : "", name.collection ? "/" : "",
                        name.collection ? name.collection : "");
    return rvb_give_info(&stats_type, &stats, out, err);
}

size_t rv_lake_keys(const rv_lake *lake, rv_key *out, size_t capacity) {
    size_t n = 0;
    rvb_rwlock_read_lock(lake->state);
    for (const rvl_key *key = lake->first_key; key; key = key->next) {
        if (!key->backend) continue;
        if (n < capacity) out[n] = (rv_key){key->backend, key->collection};
        n++;
    }
    rvb_rwlock_read_unlock(lake->state);
    return n;
}
