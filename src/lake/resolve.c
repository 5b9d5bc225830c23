/*
 * resolve.c - which backend, and which key, a name means.
 */
#include "lake/lake_i.h"

#include <stdio.h>

/* ---- backends --------------------------------------------------------------------- */

/* Under the state lock. */
static rv_backend *find_backend(const rv_lake *lake, const char *id) {
    const rvl_table *t = &lake->backends_by_id;
    rvl_link *link = rvl_table_first(t, rvl_table_hash(t, id));
    for (; link; link = rvl_table_next(link)) {
        rv_backend *backend = RVL_RECORD(link, rvl_registered, by_id)->backend;
        if (strcmp(rv_backend_id(backend), id) == 0) return backend;
    }
    return NULL;
}

rv_backend *rvl_backend(const rv_lake *lake, const char *id) {
    rvb_rwlock_read_lock(lake->state);
    rv_backend *backend = find_backend(lake, id);
    rvb_rwlock_read_unlock(lake->state);
    return backend;
}

rv_status rvl_unknown_backend(const char *id, rv_error *err) {
    return rvb_fail(err, RV_ERR_NOT_FOUND, "unknown backend: %s", id);
}

/* Under the state lock. */
static rv_status reserve_backend(rv_lake *lake, rv_error *err) {
    if (lake->n_backends < lake->room_for_backends) return RV_OK;
    size_t room = lake->room_for_backends ? 2 * lake->room_for_backends : 4;
    rvl_registered **wider = rvb_alloc(room, sizeof *wider);
    if (!wider) return rvb_fail_memory(err, room * sizeof *wider);
    if (lake->n_backends) memcpy(wider, lake->backends, lake->n_backends * sizeof *wider);
    rvb_free(lake->backends);
    lake->backends = wider;
    lake->room_for_backends = room;
    return RV_OK;
}

/* Under the state lock. */
static rv_status add_backend(rv_lake *lake, rv_backend *backend, rv_error *err) {
    const char *id = rv_backend_id(backend);
    if (find_backend(lake, id))
        return rvb_fail(err, RV_ERR_DUPLICATE, "backend %s already registered", id);
    RVB_TRY(reserve_backend(lake, err));
    rvl_registered *made = rvb_alloc_zero(1, sizeof *made);
    if (!made) return rvb_fail_memory(err, sizeof *made);
    made->backend = rv_backend_retain(backend);
    rvl_table *t = &lake->backends_by_id;
    rvl_table_add(t, &made->by_id, rvl_table_hash(t, id));
    lake->backends[lake->n_backends++] = made;
    return RV_OK;
}

rv_status rv_lake_register(rv_lake *lake, rv_backend *backend, rv_error *err) {
    rvb_rwlock_write_lock(lake->state);
    rv_status status = add_backend(lake, backend, err);
    rvb_rwlock_write_unlock(lake->state);
    return status;
}

rv_backend *rv_lake_backend(const rv_lake *lake, size_t i) {
    rvb_rwlock_read_lock(lake->state);
    rv_backend *backend = i < lake->n_backends ? lake->backends[i]->backend : NULL;
    rvb_rwlock_read_unlock(lake->state);
    return backend;
}

/* ---- which key a collection means ---------------------------------------------------
 */

typedef struct listing {
    const char *wanted;
    bool found;
} listing;

static rv_status look(void *ctx, const char *collection, rv_error *err) {
    (void)err;
    listing *l = ctx;
    l->found = l->found || strcmp(collection, l->wanted) == 0;
    return RV_OK;
}

static rv_status lists(rv_backend *backend, const char *collection, bool *found,
                       rv_error *err) {
    listing l = {collection, false};
    rv_status status = rv_backend_list(backend, look, &l, err);
    *found = l.found;
    return status;
}

rv_status rv_lake_holders(rv_lake *lake, const char *collection, rv_key *out,
                          size_t capacity, size_t *n, rv_error *err) {
    *n = 0;
    rv_backend *backend;
    for (size_t i = 0; (backend = rv_lake_backend(lake, i)); i++) {
        bool found;
        rvl_key *key;
        RVB_TRY(lists(backend, collection, &found, err));
        if (!found) continue;
        RVB_TRY(rvl_key_of(lake, rv_backend_id(backend), collection, &key, err));
        if (*n < capacity) out[*n] = (rv_key){key->backend, key->collection};
        ++*n;
    }
    return RV_OK;
}

static rv_status several(const rv_key *keys, size_t n, const char *collection,
                         rv_error *err) {
    char names[160] = "";
    size_t used = 0;
    for (size_t i = 0; i < n && used < sizeof names - 1; i++) {
        int more = snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                            keys[i].backend);
        used += more > 0 ? (size_t)more : 0;
    }
    return rvb_fail(err, RV_ERR_ARGUMENT,
                    "collection %s is held by several backends (%s): name one of them",
                    collection, names);
}

/* Without any backend: the only key of this collection that has an entry. */
static size_t cached_keys(rv_lake *lake, const char *collection, rv_key *out,
                          size_t capacity) {
    size_t n = 0;
    rvb_rwlock_read_lock(lake->state);
    for (rvl_key *key = NULL; (key = rvl_next_holder(lake, key, collection));) {
        if (!key->entry) continue;
        if (n < capacity) out[n] = (rv_key){key->backend, key->collection};
        n++;
    }
    rvb_rwlock_read_unlock(lake->state);
    return n;
}

#define NAMED_HOLDERS 8 /* in a message */

static rv_status find_out(rv_lake *lake, const char *collection, rvl_key **out,
                          rv_error *err) {
    rv_key keys[NAMED_HOLDERS];
    size_t n = 1;
    rv_backend *first = rv_lake_backend(lake, 0);
    if (!first)
        n = cached_keys(lake, collection, keys, NAMED_HOLDERS);
    else if (!rv_lake_backend(lake, 1))
        keys[0] = (rv_key){rv_backend_id(first), collection};
    else
        RVB_TRY(rv_lake_holders(lake, collection, keys, NAMED_HOLDERS, &n, err));
    if (n == 0)
        return rvb_fail(err, RV_ERR_NOT_FOUND,
                        first ? "unknown collection: no backend has %s"
                              : "unknown backend: none is registered, and nothing is "
                                "cached for collection %s",
                        collection);
    if (n > 1)
        return several(keys, n < NAMED_HOLDERS ? n : NAMED_HOLDERS, collection, err);
    return rvl_key_of(lake, keys[0].backend, collection, out, err);
}

rv_status rvl_resolve(rv_lake *lake, rv_key name, rvl_key **out, rv_error *err) {
    RVB_TRY(rvl_key_of(lake, name.backend, name.collection, out, err));
    rvl_key *alias = *out;
    if (alias->backend) return RV_OK;
    rvb_rwlock_read_lock(lake->state);
    *out = rvl_meant(lake, alias);
    size_t among = lake->n_backends;
    rvb_rwlock_read_unlock(lake->state);
    if (*out) return RV_OK;
    RVB_TRY(find_out(lake, name.collection, out, err));
    rvb_rwlock_write_lock(lake->state);
    alias->meant = *out;
    alias->meant_among = among;
    rvb_rwlock_write_unlock(lake->state);
    return RV_OK;
}

rv_status rv_lake_resolve(rv_lake *lake, const char *collection, rv_key *out,
                          rv_error *err) {
    rvl_key *key;
    RVB_TRY(rvl_resolve(lake, (rv_key){NULL, collection}, &key, err));
    *out = (rv_key){key->backend, key->collection};
    return RV_OK;
}

/* A collection that is gone may be somewhere else by the next search. */
void rvl_forget_meaning(rv_lake *lake, const char *collection) {
    rvb_rwlock_write_lock(lake->state);
    rvl_key *alias = rvl_find_key(lake, NULL, collection);
    if (alias) alias->meant = NULL;
    rvb_rwlock_write_unlock(lake->state);
}
