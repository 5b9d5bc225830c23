/*
 * index_build.c - everything that makes or changes an index: build, add, upsert,
 * remove, vacuum. All arguments are borrowed and checked before the GIL is let
 * go; a call that fails changes nothing.
 */
#include "rvpy.h"

/* ids: NULL, or one per vector. */
static int check_pairs(const rvpy_array *vectors, const rvpy_array *ids) {
    if (!ids->owner || ids->shape[0] == vectors->shape[0]) return 0;
    PyErr_Format(PyExc_ValueError, "ids: %zd ids for %zd vectors; pass one id per vector",
                 ids->shape[0], vectors->shape[0]);
    return -1;
}

static int take_rows(PyObject *vectors_arg, PyObject *ids_arg, rvpy_array *vectors,
                     rvpy_array *ids) {
    if (rvpy_take_floats(vectors_arg, "vectors", RVPY_MATRIX, vectors) < 0) return -1;
    if (rvpy_given(ids_arg) && rvpy_take_ids(ids_arg, "ids", ids) < 0) return -1;
    return check_pairs(vectors, ids);
}

/* ---- build ---------------------------------------------------------------------- */

typedef struct build_args {
    PyObject *vectors, *ids, *seed, *metric, *rerank_factor, *epsilon, *n_lists, *progress;
} build_args;

static int build_options(PyTypeObject *type, const build_args *a, rv_build_options *o) {
    uint64_t rerank_factor, n_lists;
    if (rvpy_check_option(type, RVPY_RERANKED, "build", "rerank_factor", a->rerank_factor) < 0 ||
        rvpy_check_option(type, RVPY_RERANKED, "build", "epsilon", a->epsilon) < 0 ||
        rvpy_check_option(type, RVPY_CODED, "build", "n_lists", a->n_lists) < 0 ||
        (a->seed && rvpy_parse_u64(a->seed, "seed", &o->seed) < 0) ||
        rvpy_parse_metric(a->metric, &o->metric) < 0 ||
        rvpy_parse_count(a->rerank_factor, "rerank_factor", 1024, &rerank_factor) < 0 ||
        rvpy_parse_count(a->n_lists, "n_lists", 64, &n_lists) < 0 ||
        rvpy_parse_epsilon(a->epsilon, &o->epsilon) < 0)
        return -1;
    o->kind = rvpy_kind_of(type);
    o->rerank_factor = (uint32_t)rerank_factor;
    o->n_lists = (uint32_t)n_lists;
    return 0;
}

static PyObject *build(PyTypeObject *type, rv_build_options *o, const rvpy_array *vectors,
                       const rvpy_array *ids, PyObject *progress) {
    rvpy_call call;
    rv_index *index = NULL;
    rv_error error = {0};
    o->dim = rvpy_dim(vectors);
    o->progress = &call.progress;
    if (rvpy_call_begin(&call, progress) < 0) return NULL;
    rv_status status = rv_index_build(o, vectors->data, ids->data, (uint64_t)vectors->shape[0],
                                      &index, &error);
    if (rvpy_call_end(&call, status) < 0) {
        if (status == RV_OK) rv_index_free(index);
        return rvpy_raise(rvpy_state_of(type), &error, NULL);
    }
    return rvpy_index_wrap(rvpy_state_of(type), index);
}

PyObject *rvpy_index_build(PyObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"vectors", "ids",     "seed",     "metric", "rerank_factor",
                               "epsilon", "n_lists", "progress", NULL};
    build_args a = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOOOO:build", keywords, &a.vectors,
                                     &a.ids, &a.seed, &a.metric, &a.rerank_factor, &a.epsilon,
                                     &a.n_lists, &a.progress))
        return NULL;
    rv_build_options options = RV_BUILD_DEFAULT;
    rvpy_array vectors = {0}, ids = {0};
    PyObject *result = NULL;
    if (build_options((PyTypeObject *)type, &a, &options) == 0 &&
        take_rows(a.vectors, a.ids, &vectors, &ids) == 0)
        result = build((PyTypeObject *)type, &options, &vectors, &ids, a.progress);
    rvpy_array_release(&vectors);
    rvpy_array_release(&ids);
    return result;
}

/* ---- add ------------------------------------------------------------------------ */

static rv_status add_once(PyObject *self, const rvpy_array *vectors, const uint64_t *ids,
                          PyObject *progress, bool *raised) {
    rvpy_call call;
    rv_error error = {0};
    *raised = true;
    if (rvpy_call_begin(&call, progress) < 0) return RV_ERR_ARGUMENT;
    uint64_t n = (uint64_t)vectors->shape[0];
    const rv_progress *reports = n > 1 ? &call.progress : NULL;
    rv_status status = rv_index_add(rvpy_handle(self), vectors->data, rvpy_dim(vectors), ids, n,
                                    reports, &error);
    if (rvpy_call_end(&call, status) == 0)
        *raised = false;
    else if (PyErr_Occurred() || status != RV_ERR_DUPLICATE)
        rvpy_raise(rvpy_state_of(Py_TYPE(self)), &error, NULL);
    else
        *raised = false; /* the caller may have a better id */
    return status;
}
