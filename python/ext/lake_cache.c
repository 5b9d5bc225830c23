/*
 * lake_cache.c - what a lake tells about its cache, and forgetting a part of it.
 */
#include "rvpy_lake.h"

PyObject *rvpy_lake_invalidate(PyObject *object, PyObject *arg) {
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *key = self ? rvpy_take_key(self, arg, "key") : NULL;
    if (!key) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    rv_lake_invalidate(self->lake, rvpy_key_c(key));
    PyEval_RestoreThread(thread);
    Py_DECREF(key);
    Py_RETURN_NONE;
}

/* 1 and *out, 0 if the key has no entry, -1 with an exception. */
static int get_entry(PyObject *object, PyObject *arg, rv_entry_info *out) {
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *key = self ? rvpy_take_key(self, arg, "key") : NULL;
    if (!key) return -1;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_lake_get_entry(self->lake, rvpy_key_c(key), out, NULL);
    PyEval_RestoreThread(thread);
    Py_DECREF(key);
    return status == RV_OK;
}

PyObject *rvpy_lake_witness_of(PyObject *self, PyObject *key) {
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    int found = get_entry(self, key, &info);
    if (found < 0) return NULL;
    if (found == 0) Py_RETURN_NONE;
    return PyUnicode_FromString(info.witness);
}

PyObject *rvpy_lake_entry(PyObject *self, PyObject *key) {
    rv_entry_info info = RV_ENTRY_INFO_DEFAULT;
    int found = get_entry(self, key, &info);
    if (found < 0) return NULL;
    if (found == 0) Py_RETURN_NONE;
    return Py_BuildValue("(sKIKKN)", info.witness, (unsigned long long)info.n, info.dim,
                         (unsigned long long)info.keys, (unsigned long long)info.holds,
                         PyBool_FromLong(info.ids_unverified));
}

PyObject *rvpy_lake_entry_count(PyObject *object, PyObject *unused) {
    (void)unused;
    rvpy_lake *self = rvpy_lake_of(object);
    return self ? PyLong_FromUnsignedLongLong(rv_lake_entry_count(self->lake)) : NULL;
}

PyObject *rvpy_lake_refcount_of(PyObject *object, PyObject *arg) {
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *witness = self ? rvpy_take_text(arg, "witness") : NULL;
    if (!witness) return NULL;
    const char *text = PyBytes_AsString(witness);
    PyThreadState *thread = PyEval_SaveThread();
    uint64_t n = rv_lake_refcount(self->lake, text);
    PyEval_RestoreThread(thread);
    Py_DECREF(witness);
    return PyLong_FromUnsignedLongLong(n);
}

/* ---- counters --------------------------------------------------------------- */

#define FIVE(s)                                                                          \
    (unsigned long long)(s).hits, (unsigned long long)(s).misses,                        \
        (unsigned long long)(s).primes, (unsigned long long)(s).invalidations,           \
        (unsigned long long)(s).shared_hits

PyObject *rvpy_lake_stats(PyObject *object, PyObject *unused) {
    (void)unused;
    rvpy_lake *self = rvpy_lake_of(object);
    if (!self) return NULL;
    rv_lake_stats s = RV_LAKE_STATS_DEFAULT;
    PyThreadState *thread = PyEval_SaveThread();
    (void)rv_lake_get_stats(self->lake, &s, NULL);
    PyEval_RestoreThread(thread);
    return Py_BuildValue("(KKKKKKKKdd)", FIVE(s), (unsigned long long)s.warm_installs,
                         (unsigned long long)s.evictions, (unsigned long long)s.scans,
                         s.total_prime_ms, s.last_prime_ms);
}

static int add_stats(rvpy_lake *self, rv_key key, PyObject *out) {
    rv_lake_stats s = RV_LAKE_STATS_DEFAULT;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_lake_get_key_stats(self->lake, key, &s, NULL);
    PyEval_RestoreThread(thread);
    if (status != RV_OK) return 0;
    PyObject *name = key.collection ? Py_BuildValue("(ss)", key.backend, key.collection)
                                    : PyUnicode_FromString(key.backend);
    PyObject *value = Py_BuildValue("(KKKKK)", FIVE(s));
    int result = name && value ? PyDict_SetItem(out, name, value) : -1;
    Py_XDECREF(name);
    Py_XDECREF(value);
    return result;
}

/* By (backend, collection), or by backend. */
PyObject *rvpy_lake_key_stats(PyObject *object, PyObject *by_collection) {
    rvpy_lake *self = rvpy_lake_of(object);
    int each_key = self ? PyObject_IsTrue(by_collection) : -1;
    if (each_key < 0) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    size_t n = rv_lake_keys(self->lake, NULL, 0), room = n;
    PyEval_RestoreThread(thread);
    rv_key *keys = PyMem_New(rv_key, room + 1);
    PyObject *out = keys ? PyDict_New() : PyErr_NoMemory();
    thread = PyEval_SaveThread();
    if (keys) n = rv_lake_keys(self->lake, keys, room);
    PyEval_RestoreThread(thread);
    for (size_t i = 0; out && i < n && i < room; i++) {
        rv_key key = {keys[i].backend, each_key ? keys[i].collection : NULL};
        if (add_stats(self, key, out) < 0) Py_CLEAR(out);
    }
    PyMem_Free(keys);
    return out;
}
