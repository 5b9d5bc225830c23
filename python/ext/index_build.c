/*
 * index_build.c - everything that makes or changes an index: build, add, upsert,
 * remove, vacuum. All arguments are borrowed and checked before the GIL is let
 * go; a call that fails changes nothing.
 */
#include "rvpy.h"

#include <string.h>

/* ids: NULL, or one per vector. */
static int check_pairs(const rvpy_array *vectors, const rvpy_array *ids) {
    if (!ids->owner || ids->shape[0] == vectors->shape[0]) return 0;
    PyErr_Format(PyExc_ValueError, "ids: %zd ids for %zd vectors; pass one id per vector",
                 ids->shape[0], vectors->shape[0]);
    return -1;
}

static int take_rows(PyObject *vectors_arg, PyObject *ids_arg, bool convert,
                     rvpy_array *vectors, rvpy_array *ids) {
    if (rvpy_take_vectors(vectors_arg, "vectors", RVPY_MATRIX, convert, vectors) < 0 ||
        (rvpy_given(ids_arg) && rvpy_take_ids(ids_arg, "ids", RVPY_IDS_OF_ROWS, ids) < 0))
        return -1;
    return check_pairs(vectors, ids);
}

/* ---- build ------------------------------------------------------------------ */

typedef struct build_args {
    PyObject *vectors, *ids, *seed, *metric, *bits, *rerank_factor, *epsilon, *n_lists,
        *originals, *progress;
    int convert;
} build_args;

static int build_options(rv_kind kind, const build_args *a, rv_build_options *o) {
    uint64_t rerank_factor, n_lists;
    if (rvpy_check_option(kind, RVPY_RERANKED, "build", "rerank_factor",
                          a->rerank_factor) < 0 ||
        rvpy_check_option(kind, RVPY_RERANKED, "build", "epsilon", a->epsilon) < 0 ||
        rvpy_check_option(kind, RVPY_CODED, "build", "n_lists", a->n_lists) < 0 ||
        rvpy_check_option(kind, RVPY_CODED, "build", "bits", a->bits) < 0 ||
        rvpy_check_option(kind, RVPY_RERANKED, "build", "originals", a->originals) < 0 ||
        (a->seed && rvpy_parse_u64(a->seed, "seed", &o->seed) < 0) ||
        rvpy_parse_metric(a->metric, &o->metric) < 0 ||
        rvpy_parse_count(a->rerank_factor, "rerank_factor", 1024, &rerank_factor) < 0 ||
        rvpy_parse_count(a->n_lists, "n_lists", RV_MAX_LISTS, &n_lists) < 0 ||
        rvpy_parse_bits(a->bits, &o->bits) < 0 ||
        rvpy_parse_originals(a->originals, &o->originals_bits) < 0 ||
        rvpy_parse_epsilon(a->epsilon, &o->epsilon) < 0)
        return -1;
    o->kind = kind;
    o->rerank_factor = (uint32_t)rerank_factor;
    o->n_lists = (uint32_t)n_lists;
    return 0;
}

static PyObject *build(const rvpy_state *state, rv_build_options o,
                       const rvpy_array *vectors, const rvpy_array *ids,
                       PyObject *progress) {
    rvpy_call call;
    rv_index *index = NULL;
    rv_error error = {0};
    const rv_rows rows = {vectors->data, ids->data, (uint64_t)vectors->shape[0],
                          rvpy_dim(vectors)};
    o.progress = &call.progress;
    if (rvpy_call_begin(&call, progress) < 0) return NULL;
    rv_status status = rv_index_build(&o, &rows, &index, &error);
    if (rvpy_call_end(&call, status) < 0) {
        if (status == RV_OK) rv_index_free(index);
        return rvpy_raise(state, &error, NULL);
    }
    return rvpy_index_wrap(state, index);
}

PyObject *rvpy_index_build(PyObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"vectors",   "ids",     "seed",          "metric",
                               "bits",      "n_lists", "rerank_factor", "epsilon",
                               "originals", "convert", "progress",      NULL};
    build_args a = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOOOOOpO:build", keywords,
                                     &a.vectors, &a.ids, &a.seed, &a.metric, &a.bits,
                                     &a.n_lists, &a.rerank_factor, &a.epsilon,
                                     &a.originals, &a.convert, &a.progress))
        return NULL;
    rvpy_class class;
    rv_build_options options = RV_BUILD_DEFAULT;
    rvpy_array vectors = {0}, ids = {0};
    PyObject *result = NULL;
    if (rvpy_class_of(type, &class) == 0 &&
        build_options(class.kind, &a, &options) == 0 &&
        take_rows(a.vectors, a.ids, a.convert, &vectors, &ids) == 0)
        result = build(class.state, options, &vectors, &ids, a.progress);
    rvpy_array_release(&vectors);
    rvpy_array_release(&ids);
    return result;
}

/* ---- add -------------------------------------------------------------------- */

static rv_status add_rows(PyObject *self, const rvpy_array *vectors, const uint64_t *ids,
                          PyObject *progress, rv_error *error) {
    rvpy_call call;
    const rv_rows rows = {vectors->data, ids, (uint64_t)vectors->shape[0],
                          rvpy_dim(vectors)};
    if (rvpy_call_begin(&call, progress) < 0) return RV_ERR_CANCELLED;
    rv_status status =
        rv_index_add(rvpy_handle(self), &rows, rows.n > 1 ? &call.progress : NULL, error);
    if (rvpy_call_end(&call, status) < 0 && status == RV_OK) status = RV_ERR_CANCELLED;
    return status;
}

/* Fills `ids` with the next free ones. Another thread may take them first: then
 * the counter has moved, and they are drawn again. */
static rv_status add_new_rows(PyObject *self, const rvpy_array *vectors, uint64_t *ids,
                              PyObject *progress, rv_error *error) {
    rv_index_info info;
    rvpy_info(self, &info);
    for (;;) {
        uint64_t first = info.next_id;
        for (Py_ssize_t i = 0; i < vectors->shape[0]; i++) ids[i] = first + (uint64_t)i;
        rv_status status = add_rows(self, vectors, ids, progress, error);
        if (status != RV_ERR_DUPLICATE) return status;
        rvpy_info(self, &info);
        if (info.next_id == first) return status;
    }
}

PyObject *rvpy_index_add(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"id", "vector", "convert", NULL};
    PyObject *id_arg, *vector_arg;
    int convert = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$p:add", keywords, &id_arg,
                                     &vector_arg, &convert))
        return NULL;
    uint64_t id = 0;
    rvpy_array vector = {0};
    if (id_arg != Py_None && rvpy_parse_id(id_arg, "id", &id) < 0) return NULL;
    if (rvpy_take_vectors(vector_arg, "vector", RVPY_VECTOR, convert, &vector) < 0)
        return NULL;
    rv_error error = {0};
    rv_status status = id_arg == Py_None ? add_new_rows(self, &vector, &id, NULL, &error)
                                         : add_rows(self, &vector, &id, NULL, &error);
    rvpy_array_release(&vector);
    if (status != RV_OK) return rvpy_raise(rvpy_state_of(self), &error, NULL);
    return PyLong_FromUnsignedLongLong(id);
}

PyObject *rvpy_index_add_batch(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"vectors", "ids", "convert", "progress", NULL};
    PyObject *vectors_arg, *ids_arg = NULL, *progress = NULL;
    int convert = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$pO:add_batch", keywords,
                                     &vectors_arg, &ids_arg, &convert, &progress))
        return NULL;
    rvpy_array vectors = {0}, ids = {0};
    void *result_ids;
    PyObject *result = NULL;
    if (take_rows(vectors_arg, ids_arg, convert, &vectors, &ids) == 0)
        result = rvpy_array_new(RVPY_U64, vectors.shape[0], -1, &result_ids);
    if (result) {
        rv_error error = {0};
        rv_status status;
        if (ids.owner) {
            memcpy(result_ids, ids.data, (size_t)ids.shape[0] * sizeof(uint64_t));
            status = add_rows(self, &vectors, result_ids, progress, &error);
        } else {
            status = add_new_rows(self, &vectors, result_ids, progress, &error);
        }
        if (status != RV_OK) {
            Py_CLEAR(result);
            rvpy_raise(rvpy_state_of(self), &error, NULL);
        }
    }
    rvpy_array_release(&vectors);
    rvpy_array_release(&ids);
    return result;
}

/* ---- upsert, remove, vacuum ------------------------------------------------- */

PyObject *rvpy_index_upsert(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"ids", "vectors", "convert", "progress", NULL};
    PyObject *ids_arg, *vectors_arg, *progress = NULL;
    int convert = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$pO:upsert", keywords, &ids_arg,
                                     &vectors_arg, &convert, &progress))
        return NULL;
    rvpy_array vectors = {0}, ids = {0};
    rvpy_call call;
    PyObject *result = NULL;
    if (rvpy_take_ids(ids_arg, "ids", RVPY_IDS_OF_ROWS, &ids) == 0 &&
        rvpy_take_vectors(vectors_arg, "vectors", RVPY_MATRIX, convert, &vectors) == 0 &&
        check_pairs(&vectors, &ids) == 0 && rvpy_call_begin(&call, progress) == 0) {
        rv_error error = {0};
        const rv_rows rows = {vectors.data, ids.data, (uint64_t)ids.shape[0],
                              rvpy_dim(&vectors)};
        rv_status status =
            rv_index_upsert(rvpy_handle(self), &rows, &call.progress, &error);
        if (rvpy_call_end(&call, status) < 0) {
            rvpy_raise(rvpy_state_of(self), &error, NULL);
        } else {
            Py_INCREF(Py_None);
            result = Py_None;
        }
    }
    rvpy_array_release(&vectors);
    rvpy_array_release(&ids);
    return result;
}

PyObject *rvpy_index_remove(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"ids", NULL};
    PyObject *ids_arg;
    rvpy_array ids = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:remove", keywords, &ids_arg))
        return NULL;
    rv_index_info info;
    rvpy_info(self, &info);
    if (rvpy_take_id_or_ids(ids_arg, "ids", RVPY_IDS_WANTED, &ids) < 0 ||
        rvpy_refuse_flags(ids_arg, "ids", &ids, info.n) < 0) {
        rvpy_array_release(&ids);
        return NULL;
    }
    uint64_t removed = 0;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_remove(rvpy_handle(self), ids.data,
                                       (uint64_t)ids.shape[0], &removed, &error);
    PyEval_RestoreThread(thread);
    rvpy_array_release(&ids);
    if (status != RV_OK) return rvpy_raise(rvpy_state_of(self), &error, NULL);
    return PyLong_FromUnsignedLongLong(removed);
}

PyObject *rvpy_index_vacuum(PyObject *self, PyObject *unused) {
    (void)unused;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_vacuum(rvpy_handle(self), &error);
    PyEval_RestoreThread(thread);
    if (status != RV_OK) return rvpy_raise(rvpy_state_of(self), &error, NULL);
    Py_RETURN_NONE;
}
