/*
 * index_search.c - search, search_batch, and tune, which chooses their defaults.
 * `search` answers with a list of Hit, `search_batch` with two arrays the library
 * writes into directly.
 */
#include "rvpy.h"

#define STACK_HITS 64 /* results that need no allocation */

typedef struct search_args {
    PyObject *query, *k, *allow, *allow_version, *nprobe, *epsilon, *rerank_factor,
        *max_rerank, *progress;
} search_args;

/* Everything a search borrows. */
typedef struct search {
    rvpy_array query, allow;
    rv_search_options options;
    uint64_t k;
} search;

static void release(search *s) {
    rvpy_array_release(&s->query);
    rvpy_array_release(&s->allow);
}

/* A mask means the rows of a version. Without one it can only mean those at hand if no
 * earlier rows of the index could have been as many: if rows were added only. */
static int take_mask_version(uint64_t given, const rv_index_info *info,
                             rv_search_options *o) {
    if (!given && info->moved && o->allow_mask_len == info->n) {
        PyErr_SetString(
            PyExc_ValueError,
            "allow: rows have been removed or replaced, so a mask alone could mean other "
            "rows; first read version = index.version, then make the mask anew from "
            "index.ids, and pass allow_version=version; or allow ids, which always mean "
            "the same rows");
        return -1;
    }
    o->allow_version = given ? given : info->changes;
    return 0;
}

static int take_allow(PyObject *self, search *s, const search_args *a,
                      Py_ssize_t queries) {
    rvpy_allow form;
    rv_index_info info;
    rv_search_options *o = &s->options;
    uint64_t version;
    if (rvpy_parse_count(a->allow_version, "allow_version", UINT64_MAX, &version) < 0)
        return -1;
    form = RVPY_ALLOW_IDS;
    if (rvpy_given(a->allow)) {
        if (rvpy_take_allow(a->allow, queries, &s->allow, &form) < 0) return -1;
        rvpy_info(self, &info);
    }
    if (version && form == RVPY_ALLOW_IDS) {
        PyErr_SetString(PyExc_ValueError,
                        "allow_version goes with a mask; ids always mean the same rows");
        return -1;
    }
    if (!rvpy_given(a->allow)) return 0;
    static const uint64_t none;
    if (form == RVPY_ALLOW_IDS) {
        if (rvpy_refuse_flags(a->allow, "allow", &s->allow, info.n) < 0) return -1;
        o->allow_ids = s->allow.shape[0] ? s->allow.data : &none;
        o->allow_count = (uint64_t)s->allow.shape[0];
        return 0;
    }
    static const uint8_t no_rows;
    bool per_query = form == RVPY_ALLOW_MASKS;
    o->allow_mask_len = (uint64_t)s->allow.shape[per_query ? 1 : 0];
    o->allow_mask = o->allow_mask_len ? s->allow.data : &no_rows;
    o->allow_mask_per_query = per_query;
    return take_mask_version(version, &info, o);
}

static int parse_options(search *s, rv_kind kind, const char *method,
                         const search_args *a) {
    rv_search_options *o = &s->options;
    uint64_t factor;
    *o = (rv_search_options)RV_SEARCH_DEFAULT;
    s->k = 10;
    if (rvpy_check_option(kind, RVPY_CODED, method, "nprobe", a->nprobe) < 0 ||
        rvpy_check_option(kind, RVPY_RERANKED, method, "epsilon", a->epsilon) < 0 ||
        rvpy_check_option(kind, RVPY_RERANKED, method, "rerank_factor",
                          a->rerank_factor) < 0 ||
        rvpy_check_option(kind, RVPY_RERANKED, method, "max_rerank", a->max_rerank) < 0 ||
        (a->k && rvpy_parse_k(a->k, &s->k) < 0) ||
        rvpy_parse_nprobe(a->nprobe, &o->nprobe) < 0 ||
        rvpy_parse_epsilon(a->epsilon, &o->epsilon) < 0 ||
        rvpy_parse_count(a->rerank_factor, "rerank_factor", 1024, &factor) < 0 ||
        rvpy_parse_count(a->max_rerank, "max_rerank", UINT64_MAX, &o->max_rerank) < 0)
        return -1;
    o->rerank_factor = (uint32_t)factor;
    return 0;
}

/* ---- one query -------------------------------------------------------------- */

static PyObject *new_hit(PyTypeObject *type, uint64_t id, float score) {
    PyObject *hit = PyStructSequence_New(type);
    PyObject *id_object = PyLong_FromUnsignedLongLong(id);
    PyObject *score_object = PyFloat_FromDouble((double)score);
    if (!hit || !id_object || !score_object) {
        Py_XDECREF(hit);
        Py_XDECREF(id_object);
        Py_XDECREF(score_object);
        return NULL;
    }
    PyStructSequence_SetItem(hit, 0, id_object);
    PyStructSequence_SetItem(hit, 1, score_object);
    return hit;
}

static PyObject *hit_list(const rvpy_state *state, const uint64_t *ids,
                          const float *scores, uint64_t k) {
    Py_ssize_t n = 0;
    while ((uint64_t)n < k && ids[n] != RV_NO_ID) n++;
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list && i < n; i++) {
        PyObject *hit = new_hit(state->hit_type, ids[i], scores[i]);
        if (!hit || PyList_SetItem(list, i, hit) < 0) Py_CLEAR(list);
    }
    return list;
}

static PyObject *search_into(PyObject *self, const search *s, uint64_t *ids,
                             float *scores) {
    const rvpy_state *state = rvpy_state_of(self);
    const rv_index *index = rvpy_handle(self);
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status =
        rv_index_search(index, &(rv_queries){s->query.data, 1, rvpy_dim(&s->query)}, s->k,
                        &s->options, &(rv_result){ids, scores}, &error);
    PyEval_RestoreThread(thread);
    if (status != RV_OK) return rvpy_raise(state, &error, NULL);
    return hit_list(state, ids, scores, s->k);
}

/* k may be anything; no more results than rows can come back. */
static PyObject *search_many(PyObject *self, search *s) {
    rv_index_info info;
    rvpy_info(self, &info);
    if (s->k > info.n) s->k = info.n > 0 ? info.n : 1;
    uint64_t *ids = PyMem_New(uint64_t, (size_t)s->k);
    float *scores = PyMem_New(float, (size_t)s->k);
    PyObject *hits = ids && scores ? search_into(self, s, ids, scores) : PyErr_NoMemory();
    PyMem_Free(ids);
    PyMem_Free(scores);
    return hits;
}

PyObject *rvpy_index_search(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"query",         "k",          "allow",
                               "allow_version", "nprobe",     "epsilon",
                               "rerank_factor", "max_rerank", NULL};
    search_args a = {0};
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O|O$OOOOOO:search", keywords, &a.query, &a.k, &a.allow,
            &a.allow_version, &a.nprobe, &a.epsilon, &a.rerank_factor, &a.max_rerank))
        return NULL;
    search s = {0};
    PyObject *hits = NULL;
    if (parse_options(&s, ((rvpy_index *)self)->kind, "search", &a) == 0 &&
        rvpy_take_queries(a.query, "query", RVPY_VECTOR, &s.query) == 0 &&
        take_allow(self, &s, &a, -1) == 0) {
        uint64_t ids[STACK_HITS];
        float scores[STACK_HITS];
        hits = s.k <= STACK_HITS ? search_into(self, &s, ids, scores)
                                 : search_many(self, &s);
    }
    release(&s);
    return hits;
}

/* ---- many queries ----------------------------------------------------------- */

static PyObject *batch_into(PyObject *self, const search *s, PyObject *progress,
                            uint64_t *ids, float *scores) {
    rvpy_call call;
    rv_error error = {0};
    if (rvpy_call_begin(&call, progress) < 0) return NULL;
    rv_search_options options = s->options;
    options.progress = &call.progress;
    rv_status status = rv_index_search(
        rvpy_handle(self),
        &(rv_queries){s->query.data, (uint64_t)s->query.shape[0], rvpy_dim(&s->query)},
        s->k, &options, &(rv_result){ids, scores}, &error);
    if (rvpy_call_end(&call, status) < 0)
        return rvpy_raise(rvpy_state_of(self), &error, NULL);
    Py_RETURN_NONE;
}

/* Places of a batch that asks for more than there are rows: 800 MB, mostly padding. */
#define MAX_PADDED (UINT64_C(1) << 26)

/* An index without rows says so itself, whatever k is. */
static int check_places(PyObject *self, const search *s) {
    rv_index_info info;
    rvpy_info(self, &info);
    uint64_t m = (uint64_t)s->query.shape[0];
    uint64_t most = m > 0 ? MAX_PADDED / m : (uint64_t)PY_SSIZE_T_MAX / sizeof(uint64_t);
    if (s->k <= info.n || s->k <= most) return 0;
    rv_error error = {0};
    if (info.n == 0 &&
        rv_index_search(rvpy_handle(self), &(rv_queries){NULL, 0, info.dim}, 1, NULL,
                        &(rv_result){NULL, NULL}, &error) != RV_OK) {
        rvpy_raise(rvpy_state_of(self), &error, NULL);
        return -1;
    }
    PyErr_Format(
        PyExc_ValueError,
        "k is %llu, the index holds %llu vectors: arrays of shape (%llu, %llu) "
        "would be padding but for %llu places a query; pass k=min(k, len(index))",
        (unsigned long long)s->k, (unsigned long long)info.n, (unsigned long long)m,
        (unsigned long long)s->k, (unsigned long long)info.n);
    return -1;
}

static PyObject *search_batch(PyObject *self, const search *s, PyObject *progress) {
    if (check_places(self, s) < 0) return NULL;
    Py_ssize_t m = s->query.shape[0];
    void *ids_data, *scores_data;
    PyObject *ids = rvpy_array_new(RVPY_U64, m, (Py_ssize_t)s->k, &ids_data);
    PyObject *scores =
        ids ? rvpy_array_new(RVPY_F32, m, (Py_ssize_t)s->k, &scores_data) : NULL;
    PyObject *result =
        scores ? batch_into(self, s, progress, ids_data, scores_data) : NULL;
    if (result) {
        Py_DECREF(result);
        result = PyTuple_Pack(2, ids, scores);
    }
    Py_XDECREF(ids);
    Py_XDECREF(scores);
    return result;
}

PyObject *rvpy_index_search_batch(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"queries",  "k",       "allow",         "allow_version",
                               "nprobe",   "epsilon", "rerank_factor", "max_rerank",
                               "progress", NULL};
    search_args a = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OOOOOOO:search_batch", keywords,
                                     &a.query, &a.k, &a.allow, &a.allow_version,
                                     &a.nprobe, &a.epsilon, &a.rerank_factor,
                                     &a.max_rerank, &a.progress))
        return NULL;
    search s = {0};
    PyObject *result = NULL;
    if (parse_options(&s, ((rvpy_index *)self)->kind, "search_batch", &a) == 0 &&
        rvpy_take_queries(a.query, "queries", RVPY_MATRIX, &s.query) == 0 &&
        take_allow(self, &s, &a, s.query.shape[0]) == 0)
        result = search_batch(self, &s, a.progress);
    release(&s);
    return result;
}

/* ---- tuning ----------------------------------------------------------------- */

static PyObject *new_tuning(PyObject *self, const rv_tuning *t) {
    rv_index_info info;
    rvpy_info(self, &info);
    PyObject *fields[] = {rvpy_nprobe(t->nprobe, info.n_lists),
                          PyFloat_FromDouble((double)t->epsilon),
                          PyFloat_FromDouble(t->recall)};
    PyObject *value = PyStructSequence_New(rvpy_state_of(self)->tuning_type);
    bool complete = value && fields[0] && fields[1] && fields[2];
    for (int i = 0; i < 3; i++) {
        if (complete)
            PyStructSequence_SetItem(value, i, fields[i]);
        else
            Py_XDECREF(fields[i]);
    }
    if (!complete) Py_CLEAR(value);
    return value;
}

static PyObject *tune(PyObject *self, const rvpy_array *queries, uint64_t k,
                      double recall, PyObject *progress) {
    rvpy_call call;
    rv_tuning tuning = RV_TUNING_DEFAULT;
    rv_error error = {0};
    if (rvpy_call_begin(&call, progress) < 0) return NULL;
    rv_status status = rv_index_tune(
        rvpy_handle(self),
        &(rv_queries){queries->data, (uint64_t)queries->shape[0], rvpy_dim(queries)}, k,
        recall, &call.progress, &tuning, &error);
    if (rvpy_call_end(&call, status) < 0)
        return rvpy_raise(rvpy_state_of(self), &error, NULL);
    return new_tuning(self, &tuning);
}

PyObject *rvpy_index_tune(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"queries", "k", "recall", "progress", NULL};
    PyObject *queries_arg, *k_arg = NULL, *recall_arg = NULL, *progress = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOO:tune", keywords, &queries_arg,
                                     &k_arg, &recall_arg, &progress))
        return NULL;
    uint64_t k = 10;
    double recall = 0.99;
    rvpy_array queries = {0};
    PyObject *result = NULL;
    if ((!k_arg || rvpy_parse_k(k_arg, &k) == 0) &&
        (!recall_arg || rvpy_parse_double(recall_arg, "recall", &recall) == 0) &&
        rvpy_take_queries(queries_arg, "queries", RVPY_MATRIX, &queries) == 0)
        result = tune(self, &queries, k, recall, progress);
    rvpy_array_release(&queries);
    return result;
}
