/*
 * lake_key.c - names of backends and collections. A lake remembers which key a name
 * led to, so that a search of a warm collection asks nobody and its hits share their
 * strings.
 */
#include "rvpy_lake.h"

#include <string.h>

PyObject *rvpy_take_text(PyObject *arg, const char *name) {
    if (!PyUnicode_Check(arg)) {
        rvpy_wrong_type(name, "a str", arg);
        return NULL;
    }
    PyObject *bytes = rvpy_utf8(arg, name);
    if (bytes && (size_t)PyBytes_Size(bytes) != strlen(PyBytes_AsString(bytes))) {
        PyErr_Format(PyExc_ValueError, "%s: %R holds a zero character", name, arg);
        Py_CLEAR(bytes);
    }
    return bytes;
}

/* ---- keys ------------------------------------------------------------------- */

static PyObject *key_new(PyObject *backend, PyObject *collection) {
    PyObject *b = rvpy_take_text(backend, "backend");
    PyObject *c = b ? rvpy_take_text(collection, "collection") : NULL;
    PyObject *key = c ? PyTuple_Pack(4, backend, collection, b, c) : NULL;
    Py_XDECREF(b);
    Py_XDECREF(c);
    return key;
}

rv_key rvpy_key_c(PyObject *key) {
    return (rv_key){PyBytes_AsString(PyTuple_GetItem(key, 2)),
                    PyBytes_AsString(PyTuple_GetItem(key, 3))};
}

PyObject *rvpy_key_pair(PyObject *key) { return PyTuple_GetSlice(key, 0, 2); }

/* The remembered key of a pair, a new reference; NULL without an exception if none. */
static PyObject *recall(const rvpy_lake *self, PyObject *asked) {
    PyObject *key = PyDict_GetItemWithError(self->keys, asked);
    Py_XINCREF(key);
    return key;
}

PyObject *rvpy_key_from_c(const rvpy_lake *self, const rv_key *c_key) {
    PyObject *pair = Py_BuildValue("(ss)", c_key->backend, c_key->collection);
    PyObject *key = pair ? recall(self, pair) : NULL;
    if (pair && !key && !PyErr_Occurred())
        key = key_new(PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1));
    Py_XDECREF(pair);
    return key;
}

/* ---- what a search asks for ------------------------------------------------- */

/* The key of a collection whose backend is not given. */
static PyObject *resolve(rvpy_lake *self, PyObject *collection) {
    PyObject *bytes = rvpy_take_text(collection, "collection");
    if (!bytes) return NULL;
    const char *name = PyBytes_AsString(bytes);
    rv_key found;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_lake_resolve(self->lake, name, &found, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    if (status == RV_OK) return rvpy_key_from_c(self, &found);
    rvpy_about about = {.collection = collection};
    return rvpy_lake_raise(rvpy_object_state((PyObject *)self), &error, &about);
}

int rvpy_target_find(rvpy_lake *self, PyObject *collection, PyObject *backend,
                     rvpy_target *out) {
    bool by_name = !rvpy_given(backend);
    *out = (rvpy_target){0};
    if (by_name) {
        Py_INCREF(collection);
        out->asked = collection;
    } else {
        out->asked = PyTuple_Pack(2, backend, collection);
    }
    if (!PyUnicode_Check(collection))
        rvpy_wrong_type("collection", "a str", collection);
    else if (!by_name && !PyUnicode_Check(backend))
        rvpy_wrong_type("backend", "a str", backend);
    else if (out->asked)
        out->key = recall(self, out->asked);
    out->remembered = out->key != NULL;
    if (!out->key && !PyErr_Occurred())
        out->key = by_name ? resolve(self, collection) : key_new(backend, collection);
    if (out->key) return 0;
    Py_CLEAR(out->asked);
    return -1;
}

int rvpy_target_done(rvpy_lake *self, rvpy_target *target, rv_status status) {
    int result = 0;
    if (status == RV_OK && !target->remembered) {
        result = PyDict_SetItem(self->keys, target->asked, target->key);
    } else if (status == RV_ERR_NOT_FOUND && target->remembered) {
        PyObject *type, *value, *traceback; /* an adapter may have raised */
        PyErr_Fetch(&type, &value, &traceback);
        if (PyDict_DelItem(self->keys, target->asked) < 0) PyErr_Clear();
        PyErr_Restore(type, value, traceback);
    }
    Py_CLEAR(target->key);
    Py_CLEAR(target->asked);
    return result;
}

int rvpy_take_target(rvpy_lake *self, PyObject *arg, const char *name, rvpy_target *out) {
    if (PyTuple_Check(arg) && PyTuple_Size(arg) == 2)
        return rvpy_target_find(self, PyTuple_GetItem(arg, 1), PyTuple_GetItem(arg, 0),
                                out);
    if (PyUnicode_Check(arg)) return rvpy_target_find(self, arg, NULL, out);
    rvpy_wrong_type(name, "a collection, or a tuple (backend, collection)", arg);
    return -1;
}

PyObject *rvpy_take_key(rvpy_lake *self, PyObject *arg, const char *name) {
    rvpy_target target;
    if (rvpy_take_target(self, arg, name, &target) < 0) return NULL;
    Py_DECREF(target.asked);
    return target.key;
}
