/*
 * lake_search.c - search_one and search_batch: find the key, hold its entry, search
 * it, let it go; all of it but the arguments and the hits without the GIL.
 */
#include "rvpy_lake.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- hits ------------------------------------------------------------------- */

PyObject *rvpy_lake_hit(const rvpy_state *state, PyObject *key, uint64_t id,
                        float score) {
    PyObject *hit = PyStructSequence_New(state->lake_hit_type);
    PyObject *id_object = PyLong_FromUnsignedLongLong(id);
    PyObject *score_object = PyFloat_FromDouble((double)score);
    if (!hit || !id_object || !score_object) {
        Py_XDECREF(hit);
        Py_XDECREF(id_object);
        Py_XDECREF(score_object);
        return NULL;
    }
    PyObject *backend = rvpy_key_backend(key), *collection = rvpy_key_collection(key);
    Py_INCREF(backend);
    Py_INCREF(collection);
    PyStructSequence_SetItem(hit, 0, backend);
    PyStructSequence_SetItem(hit, 1, collection);
    PyStructSequence_SetItem(hit, 2, id_object);
    PyStructSequence_SetItem(hit, 3, score_object);
    return hit;
}

PyObject *rvpy_lake_hits(const rvpy_state *state, PyObject *key, const uint64_t *ids,
                         const float *scores, uint64_t k) {
    Py_ssize_t n = 0;
    while ((uint64_t)n < k && ids[n] != RV_NO_ID) n++;
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list && i < n; i++) {
        PyObject *hit = rvpy_lake_hit(state, key, ids[i], scores[i]);
        if (!hit || PyList_SetItem(list, i, hit) < 0) Py_CLEAR(list);
    }
    return list;
}

PyObject *rvpy_lake_hit_lists(const rvpy_state *state, PyObject *key, uint64_t m,
                              uint64_t k, const uint64_t *ids, const float *scores) {
    PyObject *list = PyList_New((Py_ssize_t)m);
    for (uint64_t i = 0; list && i < m; i++) {
        PyObject *hits = rvpy_lake_hits(state, key, ids + i * k, scores + i * k, k);
        if (!hits || PyList_SetItem(list, (Py_ssize_t)i, hits) < 0) Py_CLEAR(list);
    }
    return list;
}

/* ---- results ---------------------------------------------------------------- */

static rv_status make_room(rvpy_found *found, rv_error *err) {
    const size_t row = sizeof *found->ids + sizeof *found->scores;
    found->ids = found->few_ids;
    found->scores = found->few_scores;
    if (found->m <= RVPY_FEW / found->k) return RV_OK;
    if (found->m <= SIZE_MAX / row / found->k)
        found->memory = malloc((size_t)(found->m * found->k) * row);
    if (!found->memory) {
        err->code = RV_ERR_MEMORY;
        snprintf(err->message, sizeof err->message,
                 "out of memory: results of shape (%llu, %llu) were asked for",
                 (unsigned long long)found->m, (unsigned long long)found->k);
        return RV_ERR_MEMORY;
    }
    found->ids = found->memory;
    found->scores = (float *)(void *)(found->ids + found->m * found->k);
    return RV_OK;
}

rv_status rvpy_found_search(rvpy_found *found, rv_pin *pin, const rvpy_array *queries,
                            uint64_t k, const rv_progress *progress, rv_error *err) {
    found->m = (uint64_t)queries->shape[0];
    found->k = k;
    found->memory = NULL;
    if (found->m != 1 || k > RVPY_FEW) { /* no more results than rows can come back */
        rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
        (void)rv_pin_info(pin, &info, NULL);
        if (k > info.n) found->k = info.n > 0 ? info.n : 1;
    }
    rv_status status = make_room(found, err);
    if (status != RV_OK) return status;
    return rv_pin_search(pin, &(rv_queries){queries->data, found->m, rvpy_dim(queries)},
                         found->k, 0, progress, &(rv_result){found->ids, found->scores},
                         err);
}

void rvpy_found_free(rvpy_found *found) { free(found->memory); }

/* ---- searches --------------------------------------------------------------- */

typedef struct search {
    rvpy_target target;
    rvpy_array queries;
    uint64_t k;
    int cached_only;
    PyObject *progress;
    bool batch;
} search;

static rv_status run(rvpy_lake *self, const search *s, const rv_progress *progress,
                     rvpy_found *found, rv_error *err) {
    rv_acquire_options options = RV_ACQUIRE_DEFAULT;
    options.cached_only = s->cached_only;
    options.progress = progress;
    rv_pin *pin = NULL;
    rv_status status =
        rv_lake_acquire(self->lake, rvpy_key_c(s->target.key), &options, &pin, err);
    if (status != RV_OK) return status;
    status = rvpy_found_search(found, pin, &s->queries, s->k, progress, err);
    rv_pin_release(pin);
    return status;
}

static PyObject *search_key(rvpy_lake *self, search *s) {
    const rvpy_state *state = rvpy_object_state((PyObject *)self);
    rvpy_found found;
    rvpy_call call;
    rv_error error = {0};
    found.memory = NULL;
    if (rvpy_call_begin(&call, s->progress) < 0) return NULL;
    rv_status status = run(self, s, &call.progress, &found, &error);
    PyObject *key = s->target.key, *result = NULL;
    if (rvpy_call_end(&call, status) < 0) {
        rvpy_about about = rvpy_about_key(key);
        rvpy_lake_raise(state, &error, &about);
    } else if (s->batch) {
        result =
            rvpy_lake_hit_lists(state, key, found.m, found.k, found.ids, found.scores);
    } else {
        result = rvpy_lake_hits(state, key, found.ids, found.scores, found.k);
    }
    rvpy_found_free(&found);
    if (rvpy_target_done(self, &s->target, status) < 0) Py_CLEAR(result);
    return result;
}

PyObject *rvpy_lake_search_one(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection", "query",       "k",
                               "backend",    "cached_only", NULL};
    PyObject *collection, *query, *k = NULL, *backend = NULL, *result = NULL;
    search s = {.k = 10};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$Op:search_one", keywords,
                                     &collection, &query, &k, &backend, &s.cached_only))
        return NULL;
    rvpy_lake *self = rvpy_lake_of(object);
    if (self && (!k || rvpy_parse_k(k, &s.k) == 0) &&
        rvpy_take_queries(query, "query", RVPY_VECTOR, &s.queries) == 0 &&
        rvpy_target_find(self, collection, backend, &s.target) == 0)
        result = search_key(self, &s);
    rvpy_array_release(&s.queries);
    return result;
}

PyObject *rvpy_lake_search_batch(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection",  "queries",  "k", "backend",
                               "cached_only", "progress", NULL};
    PyObject *collection, *queries, *k = NULL, *backend = NULL, *result = NULL;
    search s = {.k = 10, .batch = true};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$OpO:search_batch", keywords,
                                     &collection, &queries, &k, &backend, &s.cached_only,
                                     &s.progress))
        return NULL;
    rvpy_lake *self = rvpy_lake_of(object);
    if (self && (!k || rvpy_parse_k(k, &s.k) == 0) &&
        rvpy_take_queries(queries, "queries", RVPY_MATRIX, &s.queries) == 0 &&
        rvpy_target_find(self, collection, backend, &s.target) == 0)
        result = search_key(self, &s);
    rvpy_array_release(&s.queries);
    return result;
}
