/*
 * lake_file.c - what a lake does with one key beside searching it: prime, install,
 * publish, refresh, save, warm.
 */
#include "rvpy_lake.h"

/* A key, and a directory where there is one. */
typedef struct place {
    rvpy_lake *lake;
    PyObject *key, *dir_bytes;
    const char *dir;
    rvpy_about about;
} place;

static int take_place(PyObject *object, PyObject *key, PyObject *dir, place *out) {
    *out = (place){.lake = rvpy_lake_of(object)};
    if (!out->lake) return -1;
    if (dir && !(out->dir_bytes = rvpy_path(dir, "dir"))) return -1;
    if (dir) out->dir = PyBytes_AsString(out->dir_bytes);
    out->key = rvpy_take_key(out->lake, key, "key");
    if (!out->key) {
        Py_CLEAR(out->dir_bytes);
        return -1;
    }
    out->about = rvpy_about_key(out->key);
    out->about.path = dir;
    return 0;
}

/* Leaves the place; `result` is for success. */
static PyObject *leave(place *p, rv_status status, const rv_error *error,
                       PyObject *result) {
    if (status != RV_OK || PyErr_Occurred()) {
        Py_CLEAR(result);
        rvpy_lake_raise(rvpy_object_state((PyObject *)p->lake), error, &p->about);
    }
    Py_CLEAR(p->key);
    Py_CLEAR(p->dir_bytes);
    return result;
}

static PyObject *none(void) {
    Py_INCREF(Py_None);
    return Py_None;
}

/* ---- entries ---------------------------------------------------------------- */

PyObject *rvpy_lake_prime(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"key", "progress", NULL};
    PyObject *key, *progress = NULL;
    place p;
    rvpy_call call;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:prime", keywords, &key,
                                     &progress) ||
        take_place(self, key, NULL, &p) < 0)
        return NULL;
    if (rvpy_call_begin(&call, progress) < 0) {
        Py_DECREF(p.key);
        return NULL;
    }
    rv_error error = {0};
    rv_witness witness = "";
    rv_status status =
        rv_lake_prime(p.lake->lake, rvpy_key_c(p.key), &call.progress, witness, &error);
    PyObject *result = NULL;
    if (rvpy_call_end(&call, status) == 0) result = PyUnicode_FromString(witness);
    return leave(&p, status, &error, result);
}

static rv_index *take_index(PyObject *self, PyObject *arg) {
    const rvpy_state *state = rvpy_object_state(self);
    for (int kind = 0; kind < RVPY_N_KINDS; kind++)
        if (Py_TYPE(arg) == state->index_type[kind]) return rvpy_handle(arg);
    rvpy_wrong_type("index", "one of ruvector's indexes", arg);
    return NULL;
}

PyObject *rvpy_lake_install(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"key", "index", "bundle", NULL};
    PyObject *key, *index_arg, *bundle_arg;
    place p;
    rvpy_bundle bundle = {.owner = NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:install", keywords, &key,
                                     &index_arg, &bundle_arg))
        return NULL;
    rv_index *index = take_index(self, index_arg);
    bool described = rvpy_given(bundle_arg);
    if (!index || (described && rvpy_bundle_take(bundle_arg, &bundle) < 0)) return NULL;
    if (take_place(self, key, NULL, &p) < 0) {
        rvpy_bundle_release(&bundle);
        return NULL;
    }
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_lake_install(p.lake->lake, rvpy_key_c(p.key), index,
                                       described ? &bundle.fields : NULL, &error);
    PyEval_RestoreThread(thread);
    rvpy_bundle_release(&bundle);
    PyDict_Clear(p.lake->keys); /* a name may mean another key now */
    return leave(&p, status, &error, none());
}

PyObject *rvpy_lake_has_index(PyObject *object, PyObject *arg) {
    rvpy_lake *self = rvpy_lake_of(object);
    rv_index *index = self ? take_index(object, arg) : NULL;
    if (!index) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    int found = rv_lake_has_index(self->lake, index);
    PyEval_RestoreThread(thread);
    return PyBool_FromLong(found);
}

/* ---- bundles on disk -------------------------------------------------------- */

PyObject *rvpy_lake_publish(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"key",        "out_dir",      "pii_policy",
                               "lineage_id", "memory_class", NULL};
    PyObject *key, *dir, *pii = NULL, *lineage = NULL, *memory = NULL;
    place p;
    rv_tags tags;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOO:publish_bundle", keywords,
                                     &key, &dir, &pii, &lineage, &memory))
        return NULL;
    PyObject *owner = PyList_New(0);
    if (!owner || rvpy_take_tag(pii, "pii_policy", owner, &tags.pii_policy) < 0 ||
        rvpy_take_tag(lineage, "lineage_id", owner, &tags.lineage_id) < 0 ||
        rvpy_take_tag(memory, "memory_class", owner, &tags.memory_class) < 0 ||
        take_place(self, key, dir, &p) < 0) {
        Py_XDECREF(owner);
        return NULL;
    }
    rv_error error = {0};
    rv_witness witness = "";
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status =
        rv_lake_publish(p.lake->lake, rvpy_key_c(p.key), p.dir, &tags, witness, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(owner);
    PyObject *result = status == RV_OK ? PyUnicode_FromString(witness) : NULL;
    return leave(&p, status, &error, result);
}

PyObject *rvpy_lake_refresh(PyObject *self, PyObject *args) {
    PyObject *key, *dir;
    place p;
    if (!PyArg_ParseTuple(args, "OO:_refresh", &key, &dir) ||
        take_place(self, key, dir, &p) < 0)
        return NULL;
    rv_error error = {0};
    rv_refresh outcome = RV_UP_TO_DATE;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status =
        rv_lake_refresh(p.lake->lake, rvpy_key_c(p.key), p.dir, &outcome, &error);
    PyEval_RestoreThread(thread);
    return leave(&p, status, &error, PyLong_FromLong(outcome));
}

/* ---- snapshots -------------------------------------------------------------- */

PyObject *rvpy_lake_save(PyObject *self, PyObject *args) {
    PyObject *key, *dir;
    place p;
    if (!PyArg_ParseTuple(args, "OO:_save", &key, &dir) ||
        take_place(self, key, dir, &p) < 0)
        return NULL;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_lake_save(p.lake->lake, rvpy_key_c(p.key), p.dir, &error);
    PyEval_RestoreThread(thread);
    return leave(&p, status, &error, none());
}

PyObject *rvpy_lake_warm(PyObject *self, PyObject *args) {
    PyObject *key, *dir;
    place p;
    if (!PyArg_ParseTuple(args, "OO:_warm", &key, &dir) ||
        take_place(self, key, dir, &p) < 0)
        return NULL;
    rv_error error = {0};
    uint64_t n = 0;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_lake_warm(p.lake->lake, rvpy_key_c(p.key), p.dir, &n, &error);
    PyEval_RestoreThread(thread);
    PyDict_Clear(p.lake->keys); /* a name may mean another key now */
    return leave(&p, status, &error, PyLong_FromUnsignedLongLong(n));
}
