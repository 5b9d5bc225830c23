/*
 * lake_federated.c - one query in several collections. Entries of backends in C are
 * brought up to date by the library, in parallel; those of two or more adapters by
 * Python threads, because an adapter is only called on threads Python made.
 */
#include "rvpy_lake.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- which collections ------------------------------------------------------ */

/* All backends that list the collection. */
static PyObject *holders(rvpy_lake *self, PyObject *collection) {
    PyObject *bytes = rvpy_take_text(collection, "collection");
    if (!bytes) return NULL;
    const char *name = PyBytes_AsString(bytes);
    rv_key few[16], *found = few;
    size_t capacity = 16, n = 0;
    rv_error error = {0};
    rv_status status;
    for (;;) {
        PyThreadState *thread = PyEval_SaveThread();
        status = rv_lake_holders(self->lake, name, found, capacity, &n, &error);
        PyEval_RestoreThread(thread);
        if (status != RV_OK || n <= capacity) break;
        if (found != few) PyMem_Free(found);
        capacity = n;
        found = PyMem_New(rv_key, capacity);
        if (!found) break;
    }
    PyObject *keys = NULL;
    rvpy_about about = {.collection = collection};
    if (found && status == RV_OK && n == 0) {
        status = error.code = RV_ERR_NOT_FOUND;
        snprintf(error.message, sizeof error.message,
                 "unknown collection: no backend has %.200s", name);
    }
    if (!found)
        PyErr_NoMemory();
    else if (status != RV_OK)
        rvpy_lake_raise(rvpy_object_state((PyObject *)self), &error, &about);
    else
        keys = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; keys && i < n; i++) {
        PyObject *key = rvpy_key_from_c(self, &found[i]);
        if (!key || PyList_SetItem(keys, (Py_ssize_t)i, key) < 0) Py_CLEAR(keys);
    }
    if (found && found != few) PyMem_Free(found);
    Py_DECREF(bytes);
    return keys;
}

static int add_target(rvpy_lake *self, PyObject *target, PyObject *seen, PyObject *keys) {
    PyObject *key = rvpy_take_key(self, target, "targets");
    PyObject *pair = key ? rvpy_key_pair(key) : NULL;
    int known = pair ? PyDict_Contains(seen, pair) : -1, result = known < 0 ? -1 : 0;
    if (known == 0 &&
        (PyDict_SetItem(seen, pair, Py_None) < 0 || PyList_Append(keys, key) < 0))
        result = -1;
    Py_XDECREF(pair);
    Py_XDECREF(key);
    return result;
}

static PyObject *given_targets(rvpy_lake *self, PyObject *targets) {
    if (PyUnicode_Check(targets)) {
        rvpy_wrong_type("targets", "a list of (backend, collection)", targets);
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(targets);
    PyObject *seen = PyDict_New(), *keys = PyList_New(0), *target;
    bool good = iterator && seen && keys;
    while (good && (target = PyIter_Next(iterator)) != NULL) {
        good = add_target(self, target, seen, keys) == 0;
        Py_DECREF(target);
    }
    if (!good || PyErr_Occurred()) Py_CLEAR(keys);
    Py_XDECREF(iterator);
    Py_XDECREF(seen);
    return keys;
}

PyObject *rvpy_lake_shards(rvpy_lake *self, PyObject *collection, PyObject *targets) {
    if (rvpy_given(collection) == rvpy_given(targets)) {
        PyErr_SetString(PyExc_TypeError,
                        "search_federated() takes either collection= or targets=");
        return NULL;
    }
    return rvpy_given(targets) ? given_targets(self, targets) : holders(self, collection);
}

/* ---- the search ------------------------------------------------------------- */

typedef struct federated {
    PyObject *keys; /* a list */
    size_t n;
    rvpy_array query;
    uint64_t k, per_shard_rerank;
    int cached_only;
    rv_key *c_keys;
    rv_pin **pins;
    rv_lake_hit *hits; /* `few`, or memory of its own */
    uint64_t n_hits;
    rv_lake_hit few[RVPY_FEW];
} federated;

PyObject *rvpy_lake_merged_hits(const rvpy_state *state, PyObject *keys,
                                const rv_lake_hit *hits, uint64_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (uint64_t i = 0; list && i < n; i++) {
        PyObject *key = PyList_GetItem(keys, (Py_ssize_t)hits[i].shard);
        PyObject *hit = key ? rvpy_lake_hit(state, key, hits[i].id, hits[i].score) : NULL;
        if (!hit || PyList_SetItem(list, (Py_ssize_t)i, hit) < 0) Py_CLEAR(list);
    }
    return list;
}

/* Without the GIL. No more hits than rows can come back. */
static rv_status scan(federated *f, rv_error *err) {
    f->hits = f->few;
    if (f->k > RVPY_FEW) {
        uint64_t rows = 0;
        for (size_t i = 0; i < f->n; i++) {
            rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
            (void)rv_pin_info(f->pins[i], &info, NULL);
            rows += info.n;
        }
        if (f->k > rows) f->k = rows > 0 ? rows : 1;
        f->hits = malloc((size_t)f->k * sizeof *f->hits);
    }
    if (!f->hits) {
        err->code = RV_ERR_MEMORY;
        snprintf(err->message, sizeof err->message,
                 "out of memory: %llu results were asked for", (unsigned long long)f->k);
        return RV_ERR_MEMORY;
    }
    return rv_pins_search(f->pins, f->n,
                          &(rv_queries){f->query.data, 1, rvpy_dim(&f->query)}, f->k,
                          (uint32_t)f->per_shard_rerank, f->hits, &f->n_hits, err);
}

static PyObject *finish(rvpy_lake *self, federated *f, rv_status status, size_t failed,
                        const rv_error *error) {
    const rvpy_state *state = rvpy_object_state((PyObject *)self);
    if (status == RV_OK && !PyErr_Occurred())
        return rvpy_lake_merged_hits(state, f->keys, f->hits, f->n_hits);
    if (failed >= f->n) return rvpy_lake_raise(state, error, NULL);
    rvpy_about about = rvpy_about_key(PyList_GetItem(f->keys, (Py_ssize_t)failed));
    return rvpy_lake_raise(state, error, &about);
}

static PyObject *search_here(rvpy_lake *self, federated *f) {
    rv_acquire_options options = RV_ACQUIRE_DEFAULT;
    size_t failed = SIZE_MAX;
    rvpy_call call;
    rv_error error = {0};
    if (rvpy_call_begin(&call, NULL) < 0) return NULL;
    options.cached_only = f->cached_only;
    options.progress = &call.progress;
    rv_status status = rv_lake_acquire_all(self->lake, f->c_keys, f->n, &options, f->pins,
                                           &failed, &error);
    if (status == RV_OK) {
        failed = SIZE_MAX;
        status = scan(f, &error);
        for (size_t i = 0; i < f->n; i++) rv_pin_release(f->pins[i]);
    }
    rvpy_call_end(&call, status);
    return finish(self, f, status, failed, &error);
}

/* pins: a list of objects that release themselves, one for each key. */
static PyObject *search_pins(rvpy_lake *self, federated *f, PyObject *pins) {
    const rvpy_state *state = rvpy_object_state((PyObject *)self);
    bool good = (size_t)PyList_Size(pins) == f->n;
    for (size_t i = 0; good && i < f->n; i++) {
        PyObject *pin = PyList_GetItem(pins, (Py_ssize_t)i);
        good = Py_TYPE(pin) == state->pin_type && ((rvpy_pin *)pin)->pin;
        if (good) f->pins[i] = ((rvpy_pin *)pin)->pin;
    }
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "expected entries that are held");
        return NULL;
    }
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = scan(f, &error);
    PyEval_RestoreThread(thread);
    return finish(self, f, status, SIZE_MAX, &error);
}

/* Python threads acquire. */
static PyObject *search_with_threads(rvpy_lake *self, federated *f) {
    PyObject *pins = PyObject_CallMethod((PyObject *)self, "_acquire_in_threads", "Oi",
                                         f->keys, f->cached_only);
    PyObject *result = pins ? search_pins(self, f, pins) : NULL;
    Py_XDECREF(pins);
    return result;
}

/* held: a list of pins, or NULL. */
static PyObject *search_shards(rvpy_lake *self, federated *f, PyObject *held) {
    Py_ssize_t n = PyList_Size(f->keys);
    size_t adapters = 0;
    if (n == 0) return PyList_New(0);
    f->n = (size_t)n;
    f->c_keys = PyMem_New(rv_key, f->n);
    f->pins = PyMem_New(rv_pin *, f->n);
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; f->c_keys && i < n; i++) {
        PyObject *key = PyList_GetItem(f->keys, i);
        f->c_keys[i] = rvpy_key_c(key);
        adapters += rvpy_lake_is_adapter(self, rvpy_key_backend(key));
    }
    if (!f->c_keys || !f->pins)
        PyErr_NoMemory();
    else if (held)
        result = search_pins(self, f, held);
    else
        result = adapters > 1 ? search_with_threads(self, f) : search_here(self, f);
    if (f->hits != f->few) free(f->hits);
    PyMem_Free(f->c_keys);
    PyMem_Free(f->pins);
    return result;
}

/* The rest of the arguments; 0 or -1. */
static int take_query(federated *f, PyObject *query, PyObject *k, PyObject *rerank) {
    *f = (federated){.k = 10};
    f->hits = f->few;
    if ((k && rvpy_parse_k(k, &f->k) < 0) ||
        rvpy_parse_count(rerank, "per_shard_rerank", 1024, &f->per_shard_rerank) < 0)
        return -1;
    return rvpy_take_queries(query, "query", RVPY_VECTOR, &f->query);
}

PyObject *rvpy_lake_search_federated(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection",       "query",       "k", "targets",
                               "per_shard_rerank", "cached_only", NULL};
    PyObject *collection = NULL, *query = NULL, *k = NULL, *targets = NULL,
             *rerank = NULL, *result = NULL;
    int cached_only = 0;
    federated f;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO$OOp:search_federated", keywords,
                                     &collection, &query, &k, &targets, &rerank,
                                     &cached_only))
        return NULL;
    rvpy_lake *self = rvpy_lake_of(object);
    if (!rvpy_given(query)) {
        PyErr_SetString(PyExc_TypeError, "search_federated() needs a query");
        return NULL;
    }
    if (!self || take_query(&f, query, k, rerank) < 0) return NULL;
    f.cached_only = cached_only;
    f.keys = rvpy_lake_shards(self, collection, targets);
    if (f.keys) result = search_shards(self, &f, NULL);
    Py_XDECREF(f.keys);
    rvpy_array_release(&f.query);
    return result;
}

/* _search_pins(pins, query, k, per_shard_rerank) */
PyObject *rvpy_lake_search_pins(PyObject *object, PyObject *args) {
    PyObject *pins, *query, *k, *rerank, *result = NULL;
    rvpy_lake *self = rvpy_lake_of(object);
    federated f;
    if (!self ||
        !PyArg_ParseTuple(args, "O!OOO:_search_pins", &PyList_Type, &pins, &query, &k,
                          &rerank) ||
        take_query(&f, query, k, rerank) < 0)
        return NULL;
    f.keys = PyList_New(0);
    bool good = f.keys != NULL;
    for (Py_ssize_t i = 0; good && i < PyList_Size(pins); i++) {
        PyObject *pin = PyList_GetItem(pins, i);
        good = Py_TYPE(pin) == rvpy_object_state(object)->pin_type &&
               PyList_Append(f.keys, ((rvpy_pin *)pin)->key) == 0;
    }
    if (good) result = search_shards(self, &f, pins);
    Py_XDECREF(f.keys);
    rvpy_array_release(&f.query);
    return result;
}
