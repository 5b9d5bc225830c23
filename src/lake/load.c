/*
 * load.c - from a key to an entry that is up to date. Backends are asked here, and
 * collections pulled and built, by one caller at a time for a state: the others wait for
 * it and then ask again.
 */
#include "lake/lake_i.h"

#define PULL_TRIES 3

_Thread_local bool rvl_on_own_thread;

/* ---- pull, build, store ---------------------------------------------------------------
 */

typedef struct question {
    rv_lake *lake;
    rvl_key *key;
    rv_backend *backend;
    const rv_progress *progress;
    rvl_token token;
    rv_bundle *bundle; /* NULL: it comes with the pull only */
    bool stale;        /* the entry has this witness but other bytes */
} question;

static rv_status ask_bundle(question *q, rv_error *err) {
    rv_bundle_free(q->bundle);
    q->bundle = NULL;
    if (!rvl_backend_calls(q->backend)->bundle) return RV_OK;
    return rv_backend_bundle(q->backend, q->key->collection,
                             q->lake->options.rotation_seed,
                             q->lake->options.rerank_factor, &q->bundle, err);
}

/* Bytes, and the bundle that describes exactly them. */
static rv_status pull(question *q, rv_pull *out, rv_bundle **bundle, rv_error *err) {
    const rv_lake_options *o = &q->lake->options;
    const rv_backend_calls *calls = rvl_backend_calls(q->backend);
    bool described = calls->snapshots || !calls->bundle;
    for (int i = 0; i < PULL_TRIES; i++) {
        RVB_TRY(rv_backend_pull(q->backend, q->key->collection, out, err));
        rv_status status;
        if (described) {
            status = rvl_backend_bundle_of_pull(q->backend, q->key->collection,
                                                o->rotation_seed, o->rerank_factor, out,
                                                bundle, err);
            if (status != RV_OK) rv_pull_release(out);
            return status;
        }
        rv_witness before;
        rv_bundle_compute_witness(q->bundle, before);
        status = ask_bundle(q, err);
        if (status == RV_OK &&
            memcmp(q->bundle->witness.data, before, RV_WITNESS_CHARS) == 0) {
            *bundle = q->bundle;
            q->bundle = NULL;
            return RV_OK;
        }
        rv_pull_release(out);
        RVB_TRY(status);
    }
    return rvb_fail(err, RV_ERR_BACKEND,
                    "backend error (%s): collection %s changed during the pull, %d times "
                    "in a row",
                    q->key->backend, q->key->collection, PULL_TRIES);
}

static rv_status bad_rows(const question *q, rv_status status, const rv_error *why,
                          rv_error *err) {
    if (status == RV_ERR_MEMORY || status == RV_ERR_CANCELLED) {
        if (err) *err = *why;
        return status;
    }
    return rvb_fail_numbers(err, RV_ERR_BACKEND, why->expected, why->actual,
                            "backend error (%s): collection %s: %s", q->key->backend,
                            q->key->collection, why->message);
}

static rv_status build(const question *q, const rv_pull *rows, rv_index **out,
                       rv_error *err) {
    rv_build_options o = RV_BUILD_DEFAULT;
    o.rerank_factor = q->lake->options.rerank_factor;
    o.seed = q->lake->options.rotation_seed;
    o.progress = q->progress;
    o.repeated_ids = 1;
    const rv_rows all = {rows->vectors, rows->ids, rows->n,
                         (uint32_t)rows->dim}; /* the backend's pulls are checked */
    rv_error why = {0};
    rv_status status = rv_index_build(&o, &all, out, &why);
    return status == RV_OK ? RV_OK : bad_rows(q, status, &why, err);
}

static void count_prime(rv_lake *lake, rvl_key *key, uint64_t start_ns) {
    double ms = (double)(rvb_now_ns() - start_ns) * 1e-6;
    RVL_COUNT(lake, key, primes, 1);
    rvb_rwlock_write_lock(lake->state);
    lake->total_prime_ms += ms;
    lake->last_prime_ms = ms;
    rvb_rwlock_write_unlock(lake->state);
}

static rv_status build_and_store(question *q, const rv_pull *rows, rv_bundle *bundle,
                                 rvl_entry **out, rv_error *err) {
    uint64_t start = rvb_now_ns();
    rv_index *index;
    rvl_entry *entry;
    rv_status status = build(q, rows, &index, err);
    if (status != RV_OK) {
        rv_bundle_free(bundle);
        return status;
    }
    RVB_TRY(rvl_entry_new(q->lake, index, bundle, &entry, err));
    entry->token = q->token;
    bool stored;
    *out = rvl_store(q->lake, q->key, entry, &stored);
    if (stored)
        count_prime(q->lake, q->key, start);
    else
        RVL_COUNT(q->lake, q->key, shared_hits, 1);
    return RV_OK;
}

static rv_status load(question *q, rvl_entry **out, rv_error *err) {
    rv_pull rows;
    rv_bundle *bundle;
    RVB_TRY(pull(q, &rows, &bundle, err));
    if (bundle->dim != rows.dim) {
        rv_status status = rvb_fail_numbers(
            err, RV_ERR_BACKEND, bundle->dim, rows.dim,
            "backend error (%s): the bundle of collection %s says dim %llu, the pull "
            "brought %llu",
            q->key->backend, q->key->collection, (unsigned long long)bundle->dim,
            (unsigned long long)rows.dim);
        rv_bundle_free(bundle);
        rv_pull_release(&rows);
        return status;
    }
    rv_status status = RV_OK;
    *out = q->stale ? NULL : rvl_share(q->lake, q->key, bundle->witness.data, &q->token);
    if (*out) {
        RVL_COUNT(q->lake, q->key, shared_hits, 1);
        rv_bundle_free(bundle);
    } else {
        status = build_and_store(q, &rows, bundle, out, err);
    }
    rv_pull_release(&rows);
    return status;
}

/* ---- acquiring ---------------------------------------------------------------- */

static rv_status ask(question *q, rvl_entry **out, rv_error *err) {
    *out = NULL;
    q->stale = false;
    q->token.known = false;
    RVB_TRY(rvl_backend_token(q->backend, q->key->collection, q->token.part,
                              &q->token.known, err));
    if (q->token.known &&
        (*out = rvl_hold(q->lake, q->key, RVL_TOKEN, NULL, &q->token, NULL)))
        return RV_OK;
    RVB_TRY(ask_bundle(q, err));
    if (q->bundle)
        *out = rvl_hold(q->lake, q->key, RVL_WITNESS, q->bundle->witness.data, &q->token,
                        &q->stale);
    return RV_OK;
}

/* After a miss: another key's entry, somebody else's load, or one of our own. *out stays
 * NULL after waiting for somebody else's. */
static rv_status fetch(question *q, bool cached_only, rvl_entry **out, rv_error *err) {
    const char *witness = q->bundle ? q->bundle->witness.data : "";
    if (q->bundle && !q->stale &&
        (*out = rvl_share(q->lake, q->key, witness, &q->token))) {
        RVL_COUNT(q->lake, q->key, shared_hits, 1);
        return RV_OK;
    }
    if (cached_only)
        return rvb_fail(err, RV_ERR_CACHE_MISS,
                        "the present state of %s/%s is not in the cache; prime it first, "
                        "or allow a pull",
                        q->key->backend, q->key->collection);
    rvl_load own;
    rvl_load *other = rvl_load_join(q->lake, q->key, witness, &own);
    if (other) return rvl_load_wait(q->lake, other, q->key, q->progress, err);
    rv_error error = {0};
    rv_status status = load(q, out, &error);
    rvl_load_end(q->lake, &own, status, &error);
    if (status != RV_OK && err) *err = error;
    return status;
}

static rv_status consult(question *q, const rv_acquire_options *o, bool cached_only,
                         bool only_hits, rvl_entry **out, rv_error *err) {
    for (bool missed = false;;) {
        RVB_TRY(ask(q, out, err));
        if (*out) {
            if (!missed) RVL_COUNT(q->lake, q->key, hits, o->calls);
            return RV_OK;
        }
        if (only_hits) return RV_OK;
        if (!missed) RVL_COUNT(q->lake, q->key, misses, o->calls);
        missed = true;
        RVB_TRY(fetch(q, cached_only, out, err));
        if (*out) return RV_OK;
    }
}

/* only_hits: *out is NULL, and nothing counted, where it would take more. */
static rv_status acquire(rv_lake *lake, rvl_key *key, const rv_acquire_options *options,
                         bool only_hits, rvl_entry **out, rv_error *err) {
    *out = NULL;
    rv_acquire_options o = *options;
    if (o.calls == 0) o.calls = 1;
    if (rvl_being_asked(lake, key)) return rvl_calls_itself(key, err);
    if (!o.always_check &&
        (*out = rvl_hold(lake, key, RVL_UNCHECKED, NULL, NULL, NULL))) {
        RVL_COUNT(lake, key, hits, o.calls);
        return RV_OK;
    }
    question q = {.lake = lake,
                  .key = key,
                  .backend = rvl_backend(lake, key->backend),
                  .progress = o.progress};
    if (!q.backend) return rvl_unknown_backend(key->backend, err);
    if (rvl_on_own_thread && rvl_backend_calls(q.backend)->callers_thread)
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "backend %s is only asked on threads that call the lake: acquire "
                        "its entry there and submit the job with it",
                        key->backend);
    rvl_frame here;
    rvl_frame_enter(&here, lake, key);
    bool cached_only = o.cached_only || (lake->options.strict && !o.always_check);
    rv_status status = consult(&q, &o, cached_only, only_hits, out, err);
    rvl_frame_leave(&here);
    rv_bundle_free(q.bundle);
    if (status == RV_ERR_NOT_FOUND) rvl_forget_meaning(lake, key->collection);
    return status;
}

static rv_status take_options(const rv_acquire_options *given, rv_acquire_options *o,
                              rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_acquire_options, RV_ACQUIRE_OPTIONS_0_1_0_SIZE, RV_ACQUIRE_DEFAULT);
    return rvb_take_options(&type, given, o, err);
}

rv_status rv_lake_acquire(rv_lake *lake, rv_key name, const rv_acquire_options *options,
                          rv_pin **out, rv_error *err) {
    rv_acquire_options o = RV_ACQUIRE_DEFAULT;
    rvl_key *key;
    *out = NULL;
    RVB_TRY(take_options(options, &o, err));
    RVB_TRY(rvl_resolve(lake, name, &key, err));
    return acquire(lake, key, &o, false, out, err);
}

rv_status rv_lake_prime(rv_lake *lake, rv_key key, const rv_progress *progress,
                        rv_witness out, rv_error *err) {
    rv_acquire_options o = RV_ACQUIRE_DEFAULT;
    o.always_check = 1;
    o.progress = progress;
    rv_pin *pin;
    RVB_TRY(rv_lake_acquire(lake, key, &o, &pin, err));
    memcpy(out, pin->witness, sizeof(rv_witness));
    rv_pin_release(pin);
    return RV_OK;
}

/* ---- several at once ---------------------------------------------------------- */

typedef struct batch {
    rv_lake *lake;
    rvl_key **keys;
    rv_pin **out;
    const size_t *todo;
    rv_acquire_options options;
    rv_errand *errand; /* of the caller, for threads that help it */
    size_t failed;     /* lowest so far; state lock */
} batch;

static rv_status acquire_one(batch *b, size_t i, const rv_progress *progress,
                             rv_error *err) {
    rv_acquire_options o = b->options;
    o.progress = progress;
    rv_status status = acquire(b->lake, b->keys[i], &o, false, &b->out[i], err);
    if (status != RV_OK) {
        rvb_rwlock_write_lock(b->lake->state);
        if (i < b->failed) b->failed = i;
        rvb_rwlock_write_unlock(b->lake->state);
    }
    return status;
}

static rv_status acquire_some(void *ctx, unsigned worker, size_t begin, size_t end,
                              rv_error *err) {
    batch *b = ctx;
    (void)worker;
    rv_errand *before = rv_errand_begin(b->errand);
    rv_status status = RV_OK;
    for (size_t i = begin; i < end && status == RV_OK; i++)
        status = acquire_one(b, b->todo[i], NULL, err);
    (void)rv_errand_begin(before);
    return status;
}

/* Keys that must be loaded: those that may be on any thread to the front of `todo`. */
static rv_status sort_out(batch *b, size_t n, size_t *todo, size_t *anywhere,
                          size_t *here, rv_error *err) {
    *anywhere = *here = 0;
    for (size_t i = 0; i < n; i++) {
        rv_status status =
            acquire(b->lake, b->keys[i], &b->options, true, &b->out[i], err);
        if (status != RV_OK) {
            b->failed = i;
            return status;
        }
        if (b->out[i]) continue;
        const rv_backend *backend = rvl_backend(b->lake, b->keys[i]->backend);
        if (rvl_backend_calls(backend)->callers_thread)
            todo[n - ++*here] = i;
        else
            todo[(*anywhere)++] = i;
    }
    return RV_OK;
}

/* One alone is loaded by all threads together, several by one thread each. */
static rv_status acquire_batch(batch *b, size_t n, size_t *todo, rv_error *err) {
    size_t anywhere, here;
    RVB_TRY(sort_out(b, n, todo, &anywhere, &here, err));
    b->todo = todo;
    for (size_t i = n; i-- > n - here;)
        RVB_TRY(acquire_one(b, todo[i], b->options.progress, err));
    if (anywhere == 1) return acquire_one(b, todo[0], b->options.progress, err);
    RVB_TRY(rv_errand_here(&b->errand, err));
    rvb_pool *pool = anywhere ? rvb_pool_acquire() : NULL;
    rv_progress quiet = {0};
    if (b->options.progress) quiet = *b->options.progress;
    rv_status status = rvb_pool_for(pool, anywhere, 1, acquire_some, b,
                                    b->options.progress ? &quiet : NULL, err);
    rvb_pool_release(pool);
    rv_errand_free(b->errand);
    return status;
}

static rv_status resolve_all(batch *b, const rv_key *names, size_t n, rv_error *err) {
    for (size_t i = 0; i < n; i++) {
        b->failed = i;
        RVB_TRY(rvl_resolve(b->lake, names[i], &b->keys[i], err));
    }
    b->failed = SIZE_MAX;
    return RV_OK;
}

rv_status rv_lake_acquire_all(rv_lake *lake, const rv_key *keys, size_t n,
                              const rv_acquire_options *options, rv_pin **out,
                              size_t *failed, rv_error *err) {
    batch b = {
        .lake = lake, .out = out, .options = RV_ACQUIRE_DEFAULT, .failed = SIZE_MAX};
    if (failed) *failed = 0;
    RVB_TRY(take_options(options, &b.options, err));
    for (size_t i = 0; i < n; i++) out[i] = NULL;
    b.keys = rvb_alloc(n, sizeof *b.keys);
    size_t *todo = rvb_alloc(n, sizeof *todo);
    rv_status status = b.keys && todo ? resolve_all(&b, keys, n, err)
                                      : rvb_fail_memory(err, n * sizeof *todo);
    if (status == RV_OK) status = acquire_batch(&b, n, todo, err);
    rvb_free(todo);
    rvb_free(b.keys);
    if (status == RV_OK) return RV_OK;
    for (size_t i = 0; i < n; i++) {
        rv_pin_release(out[i]);
        out[i] = NULL;
    }
    if (failed && b.failed < n) *failed = b.failed;
    return status;
}
