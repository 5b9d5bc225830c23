/*
 * rvpy_lake.h - what the files of the lake's side of the extension share.
 *
 * Calls of the library that may wait run without the GIL, as everywhere in the
 * extension. The library calls adapters written in Python back on the thread that
 * called it; what they raise stays set on that thread until rvpy_lake_raise makes it
 * the cause of the lake's own exception.
 */
#ifndef RVPY_LAKE_H
#define RVPY_LAKE_H

#include "rvpy.h"

#include "ruvector/lake.h"

/* ---- objects (object.c) ----------------------------------------------------- */

/* How each object of the lake begins. */
typedef struct rvpy_object {
    PyObject ob_base;
    PyObject *module; /* whose state the object needs */
} rvpy_object;

static inline rvpy_state *rvpy_object_state(PyObject *self) {
    return PyModule_GetState(((rvpy_object *)self)->module);
}
/* A new object of the type or a class derived from it; zeroed after the head. */
PyObject *rvpy_object_new(PyTypeObject *type);
/* tp_traverse of objects that hold nothing else; the first step of others. */
int rvpy_object_traverse(PyObject *self, visitproc visit, void *arg);
/* The last steps of tp_dealloc. */
void rvpy_object_free(PyObject *self);

typedef struct rvpy_lake {
    rvpy_object head;
    rv_lake *lake;      /* NULL before __init__ */
    PyObject *keys;     /* dict: what a search asked for -> key it found */
    PyObject *backends; /* dict: id -> the object registered, or its rvpy_adapter */
    size_t n_adapters;
} rvpy_lake;

/* TypeError if `self` is no lake, RuntimeError if it was not initialized. */
rvpy_lake *rvpy_lake_of(PyObject *self);
bool rvpy_lake_is_adapter(const rvpy_lake *self, PyObject *backend_id);

/* lake_type.c */
int rvpy_lake_init_types(PyObject *module, rvpy_state *state);

/* ---- keys (lake_key.c) ------------------------------------------------------ */

/* A str as UTF-8 in a new bytes object; TypeError, or ValueError for a zero inside. */
PyObject *rvpy_take_text(PyObject *arg, const char *name);

/* A key is a tuple (backend, collection, both as UTF-8 bytes): hits share its strings,
 * the library borrows its bytes. New references. */
PyObject *rvpy_key_from_c(const rvpy_lake *self, const rv_key *key);
rv_key rvpy_key_c(PyObject *key);
static inline PyObject *rvpy_key_backend(PyObject *key) {
    return PyTuple_GetItem(key, 0);
}
static inline PyObject *rvpy_key_collection(PyObject *key) {
    return PyTuple_GetItem(key, 1);
}
/* (backend, collection) */
PyObject *rvpy_key_pair(PyObject *key);

/* The key meant by a collection and, if given, a backend. */
typedef struct rvpy_target {
    PyObject *key;
    PyObject *asked; /* what the lake remembers it by */
    bool remembered;
} rvpy_target;
int rvpy_target_find(rvpy_lake *self, PyObject *collection, PyObject *backend,
                     rvpy_target *out);
/* After use: keeps what was found in mind, or forgets what is gone. */
int rvpy_target_done(rvpy_lake *self, rvpy_target *target, rv_status status);
/* The same of one argument, a collection's name or a pair (backend, collection). */
int rvpy_take_target(rvpy_lake *self, PyObject *arg, const char *name, rvpy_target *out);
/* The key alone, for calls that leave nothing to remember. */
PyObject *rvpy_take_key(rvpy_lake *self, PyObject *arg, const char *name);

/* ---- errors (lake_error.c) -------------------------------------------------- */

/* What an error is about, as far as known. Borrowed. */
typedef struct rvpy_about {
    PyObject *backend, *collection, *path;
} rvpy_about;
static inline rvpy_about rvpy_about_key(PyObject *key) {
    return (rvpy_about){rvpy_key_backend(key), rvpy_key_collection(key), NULL};
}
/* The exception for a failed call, a new reference. */
PyObject *rvpy_lake_exception(const rvpy_state *state, const rv_error *error,
                              const rvpy_about *about);
/* Raises it and returns NULL. What a backend raised becomes its cause; any other
 * exception that is set stands. */
PyObject *rvpy_lake_raise(const rvpy_state *state, const rv_error *error,
                          const rvpy_about *about);

/* ---- bundles (lake_bundle.c) ------------------------------------------------ */

/* A bundle as Python sees it is a tuple of the ten fields in the order of the file:
 * format_version, data_ref, dim, rotation_seed, rerank_factor, generation (int or str),
 * rvf_witness, pii_policy, lineage_id, memory_class. */
#define RVPY_N_BUNDLE 10
typedef struct rvpy_bundle {
    rv_bundle fields;
    PyObject *owner; /* of the texts */
} rvpy_bundle;
int rvpy_bundle_take(PyObject *tuple, rvpy_bundle *out);
void rvpy_bundle_release(rvpy_bundle *bundle);
PyObject *rvpy_bundle_tuple(const rv_bundle *bundle);
/* A text for the library, NULL data if not given. Keeps its bytes in `owner`, a list. */
int rvpy_take_tag(PyObject *arg, const char *name, PyObject *owner, rv_text *out);
int rvpy_bundle_init(PyObject *module);

/* ---- backends (lake_backend.c, lake_adapter.c) ------------------------------ */

typedef struct rvpy_backend {
    rvpy_object head;
    rv_backend *backend;
    PyObject *root; /* str, of a FsBackend */
} rvpy_backend;
int rvpy_backend_init(PyObject *module, rvpy_state *state);

/* A backend written in Python: `calls` is a ruvector.lake.adapter.Calls. */
PyObject *rvpy_adapter_new(rvpy_lake *lake, PyObject *calls);
rv_status rvpy_adapter_register(rvpy_lake *lake, PyObject *adapter, const char *id,
                                bool has_bundle, rv_error *err);
PyObject *rvpy_errand(PyObject *module, PyObject *unused);
PyObject *rvpy_on_errand(PyObject *module, PyObject *args);
int rvpy_adapter_init(PyObject *module, rvpy_state *state);

/* ---- searches (lake_search.c, lake_federated.c, lake_pin.c) ----------------- */

#define RVPY_FEW 64 /* results that need no allocation */

/* Ids and scores of m queries, k places each. */
typedef struct rvpy_found {
    uint64_t m, k;
    uint64_t *ids;
    float *scores;
    void *memory;
    uint64_t few_ids[RVPY_FEW];
    float few_scores[RVPY_FEW];
} rvpy_found;
/* Without the GIL. Makes room for what the entry can give, and searches it. */
rv_status rvpy_found_search(rvpy_found *found, rv_pin *pin, const rvpy_array *queries,
                            uint64_t k, const rv_progress *progress, rv_error *err);
void rvpy_found_free(rvpy_found *found);

PyObject *rvpy_lake_hit(const rvpy_state *state, PyObject *key, uint64_t id, float score);
/* The hits of one query, a list. */
PyObject *rvpy_lake_hits(const rvpy_state *state, PyObject *key, const uint64_t *ids,
                         const float *scores, uint64_t k);
/* The same for each of m queries. */
PyObject *rvpy_lake_hit_lists(const rvpy_state *state, PyObject *key, uint64_t m,
                              uint64_t k, const uint64_t *ids, const float *scores);
/* Of a federated search; keys: a list, by shard. */
PyObject *rvpy_lake_merged_hits(const rvpy_state *state, PyObject *keys,
                                const rv_lake_hit *hits, uint64_t n);

PyObject *rvpy_lake_search_one(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_lake_search_batch(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_lake_search_federated(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_lake_search_pins(PyObject *self, PyObject *args);
/* The keys a federated search means, each once: of a collection or of given targets. */
PyObject *rvpy_lake_shards(rvpy_lake *self, PyObject *collection, PyObject *targets);

typedef struct rvpy_pin {
    rvpy_object head;
    rv_pin *pin;    /* NULL once released */
    PyObject *lake; /* outlives the pin */
    PyObject *key;
} rvpy_pin;
PyObject *rvpy_lake_acquire(PyObject *self, PyObject *args);
int rvpy_pin_init(PyObject *module, rvpy_state *state);

/* ---- the rest of a lake's methods (lake_file.c, lake_cache.c) --------------- */

PyObject *rvpy_lake_prime(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_lake_install(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_lake_publish(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_lake_refresh(PyObject *self, PyObject *args);
PyObject *rvpy_lake_save(PyObject *self, PyObject *args);
PyObject *rvpy_lake_warm(PyObject *self, PyObject *args);

PyObject *rvpy_lake_invalidate(PyObject *self, PyObject *key);
PyObject *rvpy_lake_witness_of(PyObject *self, PyObject *key);
PyObject *rvpy_lake_entry(PyObject *self, PyObject *key);
PyObject *rvpy_lake_entry_count(PyObject *self, PyObject *unused);
PyObject *rvpy_lake_refcount_of(PyObject *self, PyObject *witness);
PyObject *rvpy_lake_has_index(PyObject *self, PyObject *index);
PyObject *rvpy_lake_stats(PyObject *self, PyObject *unused);
PyObject *rvpy_lake_key_stats(PyObject *self, PyObject *by_collection);

/* ---- searching without waiting (lake_async.c) ------------------------------- */

int rvpy_async_init(PyObject *module, rvpy_state *state);

#endif
