/*
 * lake_async.c - searches nobody waits for, as ruvector.lake._async needs them: _Job,
 * the checked arguments of one search, and _Completions, which submits jobs and turns
 * what is finished into results. The library's threads never see Python: results
 * are taken, and everything is built from them, on the thread that asks.
 */
#include "rvpy_lake.h"

/* ---- jobs ------------------------------------------------------------------- */

typedef enum job_kind { SEARCH_ONE, SEARCH_BATCH, SEARCH_FEDERATED, PRIME } job_kind;

typedef struct job {
    rvpy_object head;
    PyObject *lake;
    rvpy_array queries; /* borrowed until submitted */
    job_kind kind;
    uint64_t k, per_shard_rerank;
    int cached_only;
} job;

static PyObject *job_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *lake, *query, *k, *rerank;
    int kind, cached_only;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OiOOOp:_Job", &lake, &kind, &query, &k, &rerank,
                          &cached_only) ||
        !rvpy_lake_of(lake))
        return NULL;
    job *self = (job *)rvpy_object_new(type);
    if (!self) return NULL;
    Py_INCREF(lake);
    self->lake = lake;
    self->kind = (job_kind)kind;
    self->cached_only = cached_only;
    if (kind == PRIME) return (PyObject *)self;
    bool batch = kind == SEARCH_BATCH;
    if (rvpy_parse_k(k, &self->k) == 0 &&
        rvpy_parse_count(rerank, "per_shard_rerank", 1024, &self->per_shard_rerank) ==
            0 &&
        rvpy_take_queries(query, batch ? "queries" : "query",
                          batch ? RVPY_MATRIX : RVPY_VECTOR, &self->queries) == 0)
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static int job_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((job *)self)->lake);
    Py_VISIT(((job *)self)->queries.owner);
    return rvpy_object_traverse(self, visit, arg);
}

static void job_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    rvpy_array_release(&((job *)self)->queries);
    Py_XDECREF(((job *)self)->lake);
    rvpy_object_free(self);
}

/* ---- completions ------------------------------------------------------------ */

typedef struct completions {
    rvpy_object head;
    rv_completions *queue;
    PyObject *under_way; /* dict: tag -> (job, list of keys) */
    uint64_t next_tag;
} completions;

static PyObject *completions_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":_Completions", keywords))
        return NULL;
    completions *self = (completions *)rvpy_object_new(type);
    if (!self) return NULL;
    rv_error error = {0};
    rv_status status = RV_OK;
    self->under_way = PyDict_New();
    if (self->under_way) status = rv_completions_new(&self->queue, &error);
    if (self->queue) return (PyObject *)self;
    if (status != RV_OK)
        rvpy_lake_raise(rvpy_object_state((PyObject *)self), &error, NULL);
    Py_DECREF(self);
    return NULL;
}

static int completions_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((completions *)self)->under_way);
    return rvpy_object_traverse(self, visit, arg);
}

static void completions_dealloc(PyObject *object) {
    completions *self = (completions *)object;
    PyObject_GC_UnTrack(object);
    PyThreadState *thread = PyEval_SaveThread();
    rv_completions_free(self->queue);
    PyEval_RestoreThread(thread);
    Py_XDECREF(self->under_way);
    rvpy_object_free(object);
}

static PyObject *completions_fd(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromLong(rv_completions_fd(((completions *)self)->queue));
}

/* ---- submitting ------------------------------------------------------------- */

/* One job with its shards: keys or pins, of which the list `keys` has the keys. */
typedef struct order {
    job *job;
    PyObject *keys;
    rv_key *c_keys;
    rv_pin **pins;
} order;

static void free_orders(order *orders, Py_ssize_t n) {
    for (Py_ssize_t i = 0; orders && i < n; i++) {
        Py_XDECREF(orders[i].keys);
        PyMem_Free(orders[i].c_keys);
        PyMem_Free(orders[i].pins);
    }
    PyMem_Free(orders);
}

static int take_shard(rvpy_lake *lake, order *o, Py_ssize_t i, PyObject *shard) {
    const rvpy_state *state = rvpy_object_state((PyObject *)lake);
    PyObject *key;
    if (Py_TYPE(shard) == state->pin_type) {
        rvpy_pin *pin = (rvpy_pin *)shard;
        if (!pin->pin || (i > 0 && !o->pins[0])) {
            PyErr_SetString(PyExc_ValueError, "a job takes pins or keys, not both");
            return -1;
        }
        o->pins[i] = pin->pin;
        key = pin->key;
        Py_INCREF(key);
    } else {
        key = rvpy_take_key(lake, shard, "shards");
        if (!key) return -1;
        o->c_keys[i] = rvpy_key_c(key);
    }
    return PyList_SetItem(o->keys, i, key);
}

/* pair: (job, list of shards) */
static int take_order(rvpy_lake *lake, PyObject *pair, order *o) {
    const rvpy_state *state = rvpy_object_state((PyObject *)lake);
    PyObject *job_object, *shards;
    if (!PyArg_ParseTuple(pair, "O!O!:submit", state->job_type, &job_object, &PyList_Type,
                          &shards))
        return -1;
    Py_ssize_t n = PyList_Size(shards);
    o->job = (job *)job_object;
    o->keys = PyList_New(n);
    o->c_keys = PyMem_New(rv_key, (size_t)n + 1);
    o->pins = PyMem_Calloc((size_t)n + 1, sizeof *o->pins);
    if (!o->keys) return -1;
    if (!o->c_keys || !o->pins) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (take_shard(lake, o, i, PyList_GetItem(shards, i)) < 0) return -1;
    return 0;
}

static rv_job c_job(const order *o, uint64_t tag) {
    const job *j = o->job;
    static const float no_queries;
    rv_job out = {
        .size = sizeof out,
        .tag = tag,
        .n_shards = (size_t)PyList_Size(o->keys),
        .k = j->k,
        .federated = j->kind == SEARCH_FEDERATED,
        .per_shard_rerank = (uint32_t)j->per_shard_rerank,
        .cached_only = j->cached_only,
    };
    if (o->pins[0])
        out.pins = o->pins;
    else
        out.keys = o->c_keys;
    if (j->kind == PRIME) return out;
    out.m = (uint64_t)j->queries.shape[0];
    out.dim = rvpy_dim(&j->queries);
    out.queries = out.m && out.dim ? j->queries.data : &no_queries;
    return out;
}

/* Enters the jobs in `under_way`, before they can finish. */
static int enter(completions *self, const order *orders, Py_ssize_t n, uint64_t tag) {
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(tag + (uint64_t)i);
        PyObject *value =
            number ? PyTuple_Pack(2, (PyObject *)orders[i].job, orders[i].keys) : NULL;
        int result = value ? PyDict_SetItem(self->under_way, number, value) : -1;
        Py_XDECREF(number);
        Py_XDECREF(value);
        if (result < 0) return -1;
    }
    return 0;
}

/* Removes a job from `under_way`: a new reference to (job, keys), or NULL. */
static PyObject *take_out(completions *self, uint64_t tag) {
    PyObject *number = PyLong_FromUnsignedLongLong(tag);
    PyObject *value = number ? PyDict_GetItemWithError(self->under_way, number) : NULL;
    Py_XINCREF(value);
    if (value && PyDict_DelItem(self->under_way, number) < 0) Py_CLEAR(value);
    Py_XDECREF(number);
    return value;
}

static void withdraw(completions *self, Py_ssize_t n, uint64_t tag) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *gone = take_out(self, tag + (uint64_t)i);
        Py_XDECREF(gone);
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
}

static int submit(completions *self, rvpy_lake *lake, const order *orders, Py_ssize_t n) {
    uint64_t tag = self->next_tag;
    rv_job *jobs = PyMem_New(rv_job, (size_t)n + 1);
    if (!jobs) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) jobs[i] = c_job(&orders[i], tag + (uint64_t)i);
    rv_error error = {0};
    rv_status status = RV_ERR_MEMORY;
    if (enter(self, orders, n, tag) == 0) {
        PyThreadState *thread = PyEval_SaveThread();
        status = rv_lake_submit(lake->lake, self->queue, jobs, (size_t)n, &error);
        PyEval_RestoreThread(thread);
        if (status != RV_OK)
            rvpy_lake_raise(rvpy_object_state((PyObject *)self), &error, NULL);
    }
    PyMem_Free(jobs);
    if (status != RV_OK) {
        withdraw(self, n, tag);
        return -1;
    }
    self->next_tag += (uint64_t)n;
    return 0;
}

/* The pins of submitted jobs, and the queries, which were copied, are theirs no more. */
static void let_go(PyObject *pairs, const order *orders, Py_ssize_t n) {
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *shards = PyTuple_GetItem(PyList_GetItem(pairs, i), 1);
        for (Py_ssize_t s = 0; orders[i].pins[0] && s < PyList_Size(shards); s++)
            ((rvpy_pin *)PyList_GetItem(shards, s))->pin = NULL;
        rvpy_array_release(&orders[i].job->queries);
    }
}

/* submit(lake, [(job, shards), ...]) -> tag of the first; the others follow. */
static PyObject *completions_submit(PyObject *object, PyObject *args) {
    completions *self = (completions *)object;
    PyObject *lake_object, *pairs;
    if (!PyArg_ParseTuple(args, "OO!:submit", &lake_object, &PyList_Type, &pairs))
        return NULL;
    rvpy_lake *lake = rvpy_lake_of(lake_object);
    Py_ssize_t n = PyList_Size(pairs);
    order *orders = lake ? PyMem_Calloc((size_t)n + 1, sizeof *orders) : NULL;
    if (!orders) return lake ? PyErr_NoMemory() : NULL;
    bool good = true;
    for (Py_ssize_t i = 0; good && i < n; i++)
        good = take_order(lake, PyList_GetItem(pairs, i), &orders[i]) == 0;
    uint64_t tag = self->next_tag;
    good = good && submit(self, lake, orders, n) == 0;
    if (good) let_go(pairs, orders, n);
    free_orders(orders, n);
    return good ? PyLong_FromUnsignedLongLong(tag) : NULL;
}

/* ---- taking ----------------------------------------------------------------- */

/* A scan of several shards does not tell where it failed. */
static PyObject *exception_of(const rvpy_state *state, const rv_completion *c,
                              job_kind kind, PyObject *keys) {
    bool acquiring = c->status == RV_ERR_NOT_FOUND || c->status == RV_ERR_BACKEND ||
                     c->status == RV_ERR_CACHE_MISS;
    bool known = kind != SEARCH_FEDERATED || acquiring;
    Py_ssize_t shard = (Py_ssize_t)c->failed_shard;
    if (!known || shard >= PyList_Size(keys))
        return rvpy_lake_exception(state, &c->error, NULL);
    rvpy_about about = rvpy_about_key(PyList_GetItem(keys, shard));
    return rvpy_lake_exception(state, &c->error, &about);
}

static PyObject *result_of(const rvpy_state *state, const rv_completion *c, job_kind kind,
                           PyObject *keys) {
    PyObject *key = PyList_GetItem(keys, 0);
    switch (kind) {
    case PRIME:
        return PyUnicode_FromString(c->witness);
    case SEARCH_FEDERATED:
        return rvpy_lake_merged_hits(state, keys, c->hits, c->n_hits);
    case SEARCH_BATCH:
        return rvpy_lake_hit_lists(state, key, c->m, c->k, c->ids, c->scores);
    default:
        return rvpy_lake_hits(state, key, c->ids, c->scores, c->k);
    }
}

/* (tag, result or exception) */
static PyObject *outcome(completions *self, const rv_completion *c) {
    const rvpy_state *state = rvpy_object_state((PyObject *)self);
    PyObject *what = take_out(self, c->tag), *value = NULL;
    if (!what) return NULL;
    const job *j = (job *)PyTuple_GetItem(what, 0);
    PyObject *keys = PyTuple_GetItem(what, 1);
    value = c->status == RV_OK ? result_of(state, c, j->kind, keys)
                               : exception_of(state, c, j->kind, keys);
    Py_DECREF(what);
    return value ? Py_BuildValue("(KN)", (unsigned long long)c->tag, value) : NULL;
}

#define AT_ONCE 16 /* taken with one release of the GIL */

static PyObject *completions_take(PyObject *object, PyObject *unused) {
    (void)unused;
    completions *self = (completions *)object;
    PyObject *list = PyList_New(0);
    rv_completion taken[AT_ONCE];
    int n = AT_ONCE;
    while (list && n == AT_ONCE) {
        n = 0;
        PyThreadState *thread = PyEval_SaveThread();
        for (; n < AT_ONCE; n++) {
            taken[n].size = sizeof taken[n];
            if (rv_completions_take(self->queue, &taken[n], NULL) != RV_OK) break;
        }
        PyEval_RestoreThread(thread);
        for (int i = 0; i < n; i++) {
            PyObject *pair = list ? outcome(self, &taken[i]) : NULL;
            if (!pair || PyList_Append(list, pair) < 0) Py_CLEAR(list);
            Py_XDECREF(pair);
            rv_completion_clear(&taken[i]);
        }
    }
    return list;
}

static PyObject *completions_cancel(PyObject *self, PyObject *tag_arg) {
    uint64_t tag;
    if (rvpy_parse_u64(tag_arg, "tag", &tag) < 0) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    rv_completions_cancel(((completions *)self)->queue, tag);
    PyEval_RestoreThread(thread);
    Py_RETURN_NONE;
}

static PyObject *completions_wait(PyObject *self, PyObject *ms_arg) {
    uint64_t ms;
    if (rvpy_parse_u64(ms_arg, "timeout_ms", &ms) < 0) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    int some = rv_completions_wait(((completions *)self)->queue,
                                   ms > UINT32_MAX ? UINT32_MAX : (unsigned)ms);
    PyEval_RestoreThread(thread);
    return PyBool_FromLong(some);
}

/* ---- types ------------------------------------------------------------------ */

static PyType_Slot job_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "The checked arguments of one search."},
    {Py_tp_new, job_new},
    {Py_tp_dealloc, job_dealloc},
    {Py_tp_traverse, job_traverse},
    {0, NULL},
};
static PyType_Spec job_spec = {
    .name = "ruvector._core._Job",
    .basicsize = sizeof(job),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = job_slots,
};

static PyMethodDef methods[] = {
    {"submit", completions_submit, METH_VARARGS, NULL},
    {"take", completions_take, METH_NOARGS, NULL},
    {"cancel", completions_cancel, METH_O, NULL},
    {"wait", completions_wait, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef getters[] = {{"fd", completions_fd, NULL, NULL, NULL},
                                {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot completions_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "Searches under way and finished."},
    {Py_tp_new, completions_new},
    {Py_tp_dealloc, completions_dealloc},
    {Py_tp_traverse, completions_traverse},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};
static PyType_Spec completions_spec = {
    .name = "ruvector._core._Completions",
    .basicsize = sizeof(completions),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = completions_slots,
};

int rvpy_async_init(PyObject *module, rvpy_state *state) {
    state->job_type = rvpy_type_new(module, &job_spec);
    if (rvpy_module_add_type(module, "_Job", state->job_type) < 0) return -1;
    PyTypeObject *type = rvpy_type_new(module, &completions_spec);
    int result = rvpy_module_add_type(module, "_Completions", type);
    Py_XDECREF(type);
    return result;
}
