/*
 * local.c - collections in memory.
 *
 * Rows lie in a buffer with spare places, shared by the collection and the pulls under
 * way. A pull is the buffer and the number of rows at that moment: appending writes
 * behind them, and whoever wants to change rows takes a buffer of its own while anybody
 * else holds the old one. So pulls copy nothing and see one state.
 *
 * Locks. A change holds its collection's `writing` from beginning to end, and the
 * backend's `lock`, which every question takes, only while it becomes visible: to swap
 * what was made beside the old state, or to overwrite the rows it replaces. Order:
 * creating, writing, lock.
 */
#include <inttypes.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/os.h"
#include "lake/source_i.h"

#define SCHEME "local" /* of a data_ref */

typedef struct rows {
    _Atomic uint32_t owners;
    size_t capacity;
    uint64_t *ids;
    float *vectors;
} rows;

/* Fields from `rows` on are read under either lock and written under both. */
typedef struct collection {
    rvl_named named;
    rvb_mutex *writing;
    rows *rows; /* NULL while there are none */
    size_t n;
    uint32_t dim; /* 0: of the first row to come */
    uint64_t generation;
    char name[];
} collection;

typedef struct local {
    rvb_rwlock *lock;    /* of names, and of what collections hold */
    rvb_mutex *creating; /* one new collection at a time */
    rvl_names names;     /* of collections; these stay as long as the backend */
    char id[];
} local;

/* ---- rows ----------------------------------------------------------------------- */

#define ALIGNMENT ((size_t)64)

static size_t aligned(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* capacity <= RV_PULL_MAX_ROWS * 2, dim <= RV_MAX_DIM */
static rows *alloc_rows(size_t capacity, uint32_t dim, rv_error *err) {
    size_t head = aligned(sizeof(rows)) + aligned(capacity * sizeof(uint64_t));
    size_t data, bytes = 0;
    bool fits =
        rvb_mul(capacity, dim * sizeof(float), &data) && rvb_add(head, data, &bytes);
    rows *r = fits ? rvb_alloc(bytes, 1) : NULL;
    if (!r) {
        rvb_fail_memory(err, fits ? bytes : UINT64_MAX);
        return NULL;
    }
    atomic_init(&r->owners, 1);
    r->capacity = capacity;
    r->ids = (uint64_t *)(void *)((char *)r + aligned(sizeof(rows)));
    r->vectors = (float *)(void *)((char *)r + head);
    return r;
}

static void release_rows(void *owner) {
    rows *r = owner;
    if (!r) return;
    if (atomic_fetch_sub_explicit(&r->owners, 1, memory_order_acq_rel) == 1) rvb_free(r);
}

/* While the lock is held exclusively nobody can become an owner; one who has stopped
 * being one has read all it wanted. */
static bool shared(const rows *r) {
    return r && atomic_load_explicit(&r->owners, memory_order_acquire) > 1;
}

static void copy_rows(rows *to, size_t at, const uint64_t *ids, const float *vectors,
                      size_t n, uint32_t dim) {
    if (n == 0) return;
    memcpy(to->ids + at, ids, n * sizeof *ids);
    memcpy(to->vectors + at * dim, vectors, n * dim * sizeof *vectors);
}

/* A buffer with the collection's rows and room for `n` in all: its own if that will do,
 * and not `anew`. */
static rows *room_for(const collection *c, uint32_t dim, size_t n, bool anew,
                      rv_error *err) {
    size_t capacity = c->rows ? c->rows->capacity : 0;
    if (n <= capacity && !anew) return c->rows;
    if (n > capacity) capacity = c->n ? n + n / 2 : n;
    rows *r = alloc_rows(capacity, dim, err);
    if (r && c->n) copy_rows(r, 0, c->rows->ids, c->rows->vectors, c->n, dim);
    return r;
}

/* The next state. The lock is held; returns what is to be released without it. */
static rows *settle(collection *c, rows *r, size_t n, uint32_t dim) {
    rows *before = c->rows;
    c->rows = r;
    c->n = n;
    c->dim = dim;
    c->generation++;
    return before == r ? NULL : before;
}

/* ---- ids of a call -------------------------------------------------------------- */

/* The different ids of a call in order of their first appearance, with a hash table
 * (open addressing) of them, whose key no stranger knows. */
typedef struct id_set {
    rvb_hash_key key;
    uint32_t *slots; /* entry + 1, or 0 */
    size_t mask;
    size_t n;
    uint64_t *ids;
    uint32_t *last;  /* where it appears last in the call */
    uint8_t *stored; /* whether the collection has it */
    uint32_t *rows;  /* of the collection that have one of them, */
    size_t n_rows;   /* so many */
} id_set;

/* Of the slot that holds the id, or that it may be put in. */
static size_t slot_of(const id_set *s, uint64_t id) {
    size_t at = (size_t)rvb_hash(&s->key, id) & s->mask;
    while (s->slots[at] && s->ids[s->slots[at] - 1] != id) at = (at + 1) & s->mask;
    return at;
}

static void free_set(id_set *s) {
    rvb_free(s->slots);
    rvb_free(s->ids);
    rvb_free(s->last);
    rvb_free(s->stored);
    rvb_free(s->rows);
}

/* n <= RV_PULL_MAX_ROWS */
static rv_status make_set(id_set *s, const uint64_t *ids, size_t n, rv_error *err) {
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    *s = (id_set){.key = rvb_hash_key_draw(), .mask = slots - 1};
    s->slots = rvb_alloc_zero(slots, sizeof *s->slots);
    s->ids = rvb_alloc(n, sizeof *s->ids);
    s->last = rvb_alloc(n, sizeof *s->last);
    s->stored = rvb_alloc_zero(n, 1);
    if (!s->slots || !s->ids || !s->last || !s->stored) {
        free_set(s);
        return rvb_fail_memory(err, slots * sizeof *s->slots + n * 13);
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = slot_of(s, ids[i]);
        if (!s->slots[at]) {
            s->ids[s->n] = ids[i];
            s->slots[at] = (uint32_t)++s->n;
        }
        s->last[s->slots[at] - 1] = (uint32_t)i;
    }
    return RV_OK;
}

/* Marks the ids the collection has, and notes its rows that have them. */
static rv_status find_stored(id_set *s, const collection *c, rv_error *err) {
    size_t found = 0;
    for (size_t row = 0; row < c->n; row++) {
        uint32_t entry = s->slots[slot_of(s, c->rows->ids[row])];
        if (!entry) continue;
        s->stored[entry - 1] = 1;
        found++;
    }
    if (found == 0) return RV_OK;
    s->rows = rvb_alloc(found, sizeof *s->rows);
    if (!s->rows) return rvb_fail_memory(err, found * sizeof *s->rows);
    for (size_t row = 0; row < c->n && s->n_rows < found; row++)
        if (s->slots[slot_of(s, c->rows->ids[row])]) s->rows[s->n_rows++] = (uint32_t)row;
    return RV_OK;
}

/* ---- collections ---------------------------------------------------------------- */

static void free_collection(collection *c) {
    release_rows(c->rows);
    rvb_mutex_free(c->writing);
    rvb_free(c);
}

static void release_local(void *ctx) {
    local *l = ctx;
    for (size_t i = 0; i < l->names.n; i++) {
        collection *c = (collection *)l->names.records[i];
        free_collection(c);
    }
    rvb_free(l->names.records);
    rvb_mutex_free(l->creating);
    rvb_rwlock_free(l->lock);
    rvb_free(l);
}

static rv_status of_backend(const rv_backend *backend, local **out, rv_error *err) {
    *out = rvl_backend_context(backend, release_local);
    if (*out) return RV_OK;
    return rvb_fail(err, RV_ERR_ARGUMENT, "backend %s is not one in memory",
                    rv_backend_id(backend));
}

static rv_status find(const local *l, const char *name, collection **out, rv_error *err) {
    *out = rvl_names_find(&l->names, name);
    if (*out) return RV_OK;
    return rvb_fail(err, RV_ERR_NOT_FOUND, "unknown collection: %s/%s", l->id, name);
}

/* One that nobody knows of yet. */
static rv_status prepare(const local *l, const char *name, collection **out,
                         rv_error *err) {
    size_t length = strlen(name) + 1;
    *out = NULL;
    if (!rvb_utf8_valid(name, length - 1))
        return rvb_fail(err, RV_ERR_ARGUMENT, "a collection's name must be UTF-8 text");
    RVB_TRY(rvl_check_data_ref(SCHEME, l->id, name, err));
    collection *c = rvb_alloc_zero(1, sizeof *c + length);
    if (!c) return rvb_fail_memory(err, sizeof *c + length);
    memcpy(c->name, name, length);
    c->named.name = c->name;
    if (!(c->writing = rvb_mutex_create())) {
        rvb_free(c);
        return rvb_fail_memory(err, sizeof *c + length);
    }
    *out = c;
    return RV_OK;
}

static rv_status known(local *l, const char *name, collection **out, rv_error *err) {
    rvb_rwlock_read_lock(l->lock);
    rv_status status = find(l, name, out, err);
    rvb_rwlock_read_unlock(l->lock);
    return status;
}

static rv_status check_dim(const collection *c, uint32_t dim, rv_error *err) {
    if (c->dim == dim || c->dim == 0) return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_DIM, c->dim, dim,
                            "dimension mismatch: collection dim=%" PRIu32
                            ", vectors dim=%" PRIu32
                            "; put vectors of another model into another collection",
                            c->dim, dim);
}

/* ---- changes -------------------------------------------------------------------- */

typedef struct change {
    const float *vectors;
    uint32_t dim;
    const uint64_t *ids;
    size_t n;
    id_set *set; /* of an upsert or a removal */
} change;

/* Makes a change wholly or not at all; the collection's `writing` is held. */
typedef rv_status (*changer)(local *l, collection *c, change *what, rv_error *err);

static rv_status change_known(local *l, collection *c, changer apply, change *what,
                              rv_error *err) {
    rvb_mutex_lock(c->writing);
    rv_status status = apply(l, c, what, err);
    rvb_mutex_unlock(c->writing);
    return status;
}

/* `creating` is held, and there is none of this name. */
static rv_status create(local *l, const char *name, changer apply, change *what,
                        rv_error *err) {
    collection *c;
    RVB_TRY(prepare(l, name, &c, err));
    rvb_rwlock_write_lock(l->lock);
    rv_status status = rvl_names_reserve(&l->names, err);
    rvb_rwlock_write_unlock(l->lock);
    if (status == RV_OK) {
        status = change_known(l, c, apply, what, err);
        rvb_rwlock_write_lock(l->lock);
        if (status == RV_OK)
            rvl_names_add(&l->names, c);
        else
            rvl_names_cancel(&l->names);
        rvb_rwlock_write_unlock(l->lock);
    }
    if (status != RV_OK) free_collection(c);
    return status;
}

static rv_status change_or_create(local *l, const char *name, changer apply, change *what,
                                  rv_error *err) {
    collection *c;
    if (known(l, name, &c, NULL) == RV_OK) return change_known(l, c, apply, what, err);
    rvb_mutex_lock(l->creating);
    rv_status status = known(l, name, &c, NULL) == RV_OK
                           ? change_known(l, c, apply, what, err)
                           : create(l, name, apply, what, err);
    rvb_mutex_unlock(l->creating);
    return status;
}

static rv_status put(local *l, collection *c, change *new, rv_error *err) {
    rows *r = NULL;
    if (new->n && !(r = alloc_rows(new->n, new->dim, err))) return RV_ERR_MEMORY;
    if (r) copy_rows(r, 0, new->ids, new->vectors, new->n, new->dim);
    rvb_rwlock_write_lock(l->lock);
    r = settle(c, r, new->n, new->dim);
    rvb_rwlock_write_unlock(l->lock);
    release_rows(r);
    return RV_OK;
}

rv_status rv_local_put(rv_backend *backend, const char *name, const rv_rows *given,
                       rv_error *err) {
    local *l;
    RVB_TRY(of_backend(backend, &l, err));
    /* no rows of no dimension: the first one to come decides */
    if (given->n || given->dim) RVB_TRY(rvl_check_rows("put", given, err));
    change new = {given->vectors, given->dim, given->ids, (size_t)given->n, NULL};
    return change_or_create(l, name, put, &new, err);
}

static rv_status check_total(const collection *c, uint64_t more, uint32_t dim,
                             rv_error *err) {
    uint64_t n = c->n + more;
    if (n <= RV_PULL_MAX_ROWS && n * dim * sizeof(float) <= RV_PULL_MAX_BYTES)
        return RV_OK;
    return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_ROWS, n,
                            "%" PRIu64 " rows of dim %" PRIu32
                            " are more than a collection may hold: %" PRIu64
                            " rows, %" PRIu64 " bytes",
                            n, dim, RV_PULL_MAX_ROWS, RV_PULL_MAX_BYTES);
}

static rv_status append(local *l, collection *c, change *new, rv_error *err) {
    RVB_TRY(check_dim(c, new->dim, err));
    RVB_TRY(check_total(c, 1, new->dim, err));
    rows *r = room_for(c, new->dim, c->n + 1, false, err);
    if (!r) return RV_ERR_MEMORY;
    copy_rows(r, c->n, new->ids, new->vectors, 1, new->dim);
    rvb_rwlock_write_lock(l->lock);
    r = settle(c, r, c->n + 1, new->dim);
    rvb_rwlock_write_unlock(l->lock);
    release_rows(r);
    return RV_OK;
}

rv_status rv_local_append(rv_backend *backend, const char *name, uint64_t id,
                          const float *vector, uint32_t dim, rv_error *err) {
    local *l;
    collection *c;
    RVB_TRY(of_backend(backend, &l, err));
    RVB_TRY(rvl_check_rows("append", &(rv_rows){vector, &id, 1, dim}, err));
    RVB_TRY(known(l, name, &c, err));
    change new = {vector, dim, &id, 1, NULL};
    return change_known(l, c, append, &new, err);
}

static void overwrite(rows *r, const change *new) {
    const id_set *s = new->set;
    for (size_t i = 0; i < s->n_rows; i++) {
        uint64_t id = r->ids[s->rows[i]];
        size_t from = s->last[s->slots[slot_of(s, id)] - 1];
        copy_rows(r, s->rows[i], &id, new->vectors + from *new->dim, 1, new->dim);
    }
}

/* Behind the first n rows; returns how many there are then. */
static size_t append_new(rows *r, size_t n, const change *new) {
    const id_set *s = new->set;
    for (size_t e = 0; e < s->n; e++)
        if (!s->stored[e])
            copy_rows(r, n++, &s->ids[e], new->vectors + (size_t)s->last[e] * new->dim, 1,
                      new->dim);
    return n;
}

/* With rows to replace, in a buffer that pulls hold: in one of its own. */
static rv_status upsert_anew(local *l, collection *c, const change *new, size_t n,
                             rv_error *err) {
    rows *r = room_for(c, new->dim, n, true, err);
    if (!r) return RV_ERR_MEMORY;
    overwrite(r, new);
    append_new(r, c->n, new);
    rvb_rwlock_write_lock(l->lock);
    r = settle(c, r, n, new->dim);
    rvb_rwlock_write_unlock(l->lock);
    release_rows(r);
    return RV_OK;
}

static rv_status upsert(local *l, collection *c, change *new, rv_error *err) {
    id_set *s = new->set;
    RVB_TRY(check_dim(c, new->dim, err));
    RVB_TRY(find_stored(s, c, err));
    size_t n = c->n;
    for (size_t e = 0; e < s->n; e++) n += !s->stored[e];
    RVB_TRY(check_total(c, n - c->n, new->dim, err));
    rows *r = NULL;
    if (n && !(r = room_for(c, new->dim, n, false, err))) return RV_ERR_MEMORY;
    if (r) append_new(r, c->n, new);
    bool own = r != c->rows;
    if (own && r) overwrite(r, new);
    rvb_rwlock_write_lock(l->lock);
    bool in_use = !own && s->n_rows > 0 && shared(r);
    if (!own && !in_use && r) overwrite(r, new);
    if (!in_use) r = settle(c, r, n, new->dim);
    rvb_rwlock_write_unlock(l->lock);
    if (in_use) return upsert_anew(l, c, new, n, err);
    release_rows(r);
    return RV_OK;
}

rv_status rv_local_upsert(rv_backend *backend, const char *name, const rv_rows *given,
                          rv_error *err) {
    local *l;
    id_set s;
    RVB_TRY(of_backend(backend, &l, err));
    RVB_TRY(rvl_check_rows("upsert", given, err));
    RVB_TRY(make_set(&s, given->ids, (size_t)given->n, err));
    change new = {given->vectors, given->dim, given->ids, (size_t)given->n, &s};
    rv_status status = change_or_create(l, name, upsert, &new, err);
    free_set(&s);
    return status;
}

/* The rows whose ids are not in the set, in a buffer of their own. */
static rv_status remove_rows(local *l, collection *c, change *gone, rv_error *err) {
    const id_set *s = gone->set;
    RVB_TRY(find_stored(gone->set, c, err));
    if (s->n_rows == 0) return RV_OK;
    size_t kept = 0, from = 0;
    rows *r = NULL;
    if (s->n_rows < c->n && !(r = alloc_rows(c->n - s->n_rows, c->dim, err)))
        return RV_ERR_MEMORY;
    for (size_t i = 0; r && i <= s->n_rows; i++) {
        size_t to = i < s->n_rows ? s->rows[i] : c->n;
        copy_rows(r, kept, c->rows->ids + from, c->rows->vectors + from * c->dim,
                  to - from, c->dim);
        kept += to - from;
        from = to + 1;
    }
    rvb_rwlock_write_lock(l->lock);
    r = settle(c, r, kept, c->dim);
    rvb_rwlock_write_unlock(l->lock);
    release_rows(r);
    return RV_OK;
}

rv_status rv_local_remove(rv_backend *backend, const char *name, const uint64_t *ids,
                          uint64_t n, uint64_t *removed, rv_error *err) {
    local *l;
    collection *c;
    id_set s;
    RVB_TRY(of_backend(backend, &l, err));
    if (n && !ids) return rvb_fail(err, RV_ERR_ARGUMENT, "remove: ids are missing");
    if (n > RV_PULL_MAX_ROWS)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_PULL_MAX_ROWS, n,
                                "remove: %" PRIu64 " ids, at most %" PRIu64
                                " can be removed at once",
                                n, RV_PULL_MAX_ROWS);
    RVB_TRY(known(l, name, &c, err));
    RVB_TRY(make_set(&s, ids, (size_t)n, err));
    change gone = {.set = &s};
    rv_status status = change_known(l, c, remove_rows, &gone, err);
    if (status == RV_OK && removed) *removed = s.n_rows;
    free_set(&s);
    return status;
}

/* ---- what a backend does -------------------------------------------------------- */

static rv_status list(void *ctx,
                      rv_status (*each)(void *names, const char *name, rv_error *err),
                      void *names, rv_error *err) {
    local *l = ctx;
    return rvl_names_each(&l->names, l->lock, each, names, err);
}

static rv_status pull(void *ctx, const char *name, rv_pull *out, rv_error *err) {
    local *l = ctx;
    collection *c;
    rvb_rwlock_read_lock(l->lock);
    rv_status status = find(l, name, &c, err);
    if (status == RV_OK) {
        *out = (rv_pull){
            .n_ids = c->n, .n = c->n, .dim = c->dim, .generation = c->generation};
        if (c->n) {
            atomic_fetch_add_explicit(&c->rows->owners, 1, memory_order_relaxed);
            out->ids = c->rows->ids;
            out->vectors = c->rows->vectors;
            out->owner = c->rows;
            out->release = release_rows;
        }
    }
    rvb_rwlock_read_unlock(l->lock);
    return status;
}

/* dim may be NULL */
static rv_status state_of(local *l, const char *name, uint64_t *generation, uint64_t *dim,
                          rv_error *err) {
    collection *c;
    rvb_rwlock_read_lock(l->lock);
    rv_status status = find(l, name, &c, err);
    if (status == RV_OK) {
        *generation = c->generation;
        if (dim) *dim = c->dim;
    }
    rvb_rwlock_read_unlock(l->lock);
    return status;
}

static rv_status generation(void *ctx, const char *name, uint64_t *out, rv_error *err) {
    return state_of(ctx, name, out, NULL, err);
}

static rv_status token(void *ctx, const char *name, uint64_t out[4], rv_error *err) {
    out[1] = out[2] = out[3] = 0;
    return state_of(ctx, name, &out[0], NULL, err);
}

static rv_status bundle(void *ctx, const char *name, uint64_t rotation_seed,
                        uint64_t rerank_factor, rv_bundle **out, rv_error *err) {
    local *l = ctx;
    rv_bundle fields = {.rotation_seed = rotation_seed, .rerank_factor = rerank_factor};
    RVB_TRY(state_of(l, name, &fields.generation, &fields.dim, err));
    char *ref = rvl_data_ref(SCHEME, l->id, name);
    if (!ref) return rvb_fail_memory(err, strlen(name));
    fields.data_ref = rvl_text(ref);
    rv_status status = rv_bundle_sealed(&fields, out, err);
    rvb_free(ref);
    return status;
}

rv_status rv_local_backend_new(const char *id, rv_backend **out, rv_error *err) {
    static const rv_backend_calls calls = {.size = sizeof calls,
                                           .list = list,
                                           .pull = pull,
                                           .generation = generation,
                                           .bundle = bundle,
                                           .token = token,
                                           .release = release_local,
                                           .snapshots = 1};
    *out = NULL;
    if (!id) return rvb_fail(err, RV_ERR_ARGUMENT, "a backend needs an id");
    size_t length = strlen(id) + 1;
    local *l = rvb_alloc_zero(1, sizeof *l + length);
    if (!l) return rvb_fail_memory(err, sizeof *l + length);
    memcpy(l->id, id, length);
    l->creating = rvb_mutex_create();
    l->lock = rvb_rwlock_create();
    rv_status status = l->creating && l->lock ? rv_backend_new(id, &calls, l, out, err)
                                              : rvb_fail_memory(err, sizeof *l);
    if (status != RV_OK) release_local(l);
    return status;
}

bool rvl_is_local(const rv_backend *backend) {
    return rvl_backend_context(backend, release_local) != NULL;
}
