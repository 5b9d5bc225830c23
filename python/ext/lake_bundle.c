/*
 * lake_bundle.c - bundles between tuples of ten fields and the library.
 */
#include "rvpy_lake.h"

/* ---- texts ------------------------------------------------------------------ */

int rvpy_take_tag(PyObject *arg, const char *name, PyObject *owner, rv_text *out) {
    *out = (rv_text){NULL, 0};
    if (!rvpy_given(arg)) return 0;
    if (!PyUnicode_Check(arg)) {
        rvpy_wrong_type(name, "a str or None", arg);
        return -1;
    }
    PyObject *bytes = rvpy_utf8(arg, name);
    int result = bytes ? PyList_Append(owner, bytes) : -1;
    if (result == 0)
        *out = (rv_text){PyBytes_AsString(bytes), (size_t)PyBytes_Size(bytes)};
    Py_XDECREF(bytes);
    return result;
}

static int take_text(PyObject *tuple, Py_ssize_t i, const char *name, PyObject *owner,
                     rv_text *out) {
    PyObject *arg = PyTuple_GetItem(tuple, i);
    if (!rvpy_given(arg)) {
        rvpy_wrong_type(name, "a str", arg);
        return -1;
    }
    return rvpy_take_tag(arg, name, owner, out);
}

static PyObject *text_object(rv_text text) {
    if (!text.data) {
        Py_INCREF(Py_None);
        return Py_None;
    }
    return PyUnicode_DecodeUTF8(text.data, (Py_ssize_t)text.size, "strict");
}

/* ---- bundles ---------------------------------------------------------------- */

static int take_fields(PyObject *tuple, PyObject *owner, rv_bundle *b) {
    uint64_t version;
    if (rvpy_parse_u64(PyTuple_GetItem(tuple, 0), "format_version", &version) < 0 ||
        take_text(tuple, 1, "data_ref", owner, &b->data_ref) < 0 ||
        rvpy_parse_u64(PyTuple_GetItem(tuple, 2), "dim", &b->dim) < 0 ||
        rvpy_parse_u64(PyTuple_GetItem(tuple, 3), "rotation_seed", &b->rotation_seed) <
            0 ||
        rvpy_parse_u64(PyTuple_GetItem(tuple, 4), "rerank_factor", &b->rerank_factor) < 0)
        return -1;
    if (version > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "format_version: %llu is not in 0..2^32-1",
                     (unsigned long long)version);
        return -1;
    }
    b->format_version = (uint32_t)version;
    PyObject *generation = PyTuple_GetItem(tuple, 5);
    int taken = PyUnicode_Check(generation)
                    ? rvpy_take_tag(generation, "generation", owner, &b->generation_text)
                    : rvpy_parse_u64(generation, "generation", &b->generation);
    if (taken < 0 ||
        rvpy_take_tag(PyTuple_GetItem(tuple, 6), "rvf_witness", owner, &b->witness) < 0 ||
        rvpy_take_tag(PyTuple_GetItem(tuple, 7), "pii_policy", owner, &b->pii_policy) <
            0 ||
        rvpy_take_tag(PyTuple_GetItem(tuple, 8), "lineage_id", owner, &b->lineage_id) < 0)
        return -1;
    return rvpy_take_tag(PyTuple_GetItem(tuple, 9), "memory_class", owner,
                         &b->memory_class);
}

int rvpy_bundle_take(PyObject *tuple, rvpy_bundle *out) {
    *out = (rvpy_bundle){.owner = NULL};
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != RVPY_N_BUNDLE) {
        rvpy_wrong_type("bundle", "a tuple of ten fields", tuple);
        return -1;
    }
    out->owner = PyList_New(0);
    if (out->owner && take_fields(tuple, out->owner, &out->fields) == 0) return 0;
    rvpy_bundle_release(out);
    return -1;
}

void rvpy_bundle_release(rvpy_bundle *bundle) { Py_CLEAR(bundle->owner); }

PyObject *rvpy_bundle_tuple(const rv_bundle *b) {
    PyObject *generation = b->generation_text.data
                               ? text_object(b->generation_text)
                               : PyLong_FromUnsignedLongLong(b->generation);
    return Py_BuildValue("(INKKKNNNNN)", (unsigned)b->format_version,
                         text_object(b->data_ref), (unsigned long long)b->dim,
                         (unsigned long long)b->rotation_seed,
                         (unsigned long long)b->rerank_factor, generation,
                         text_object(b->witness), text_object(b->pii_policy),
                         text_object(b->lineage_id), text_object(b->memory_class));
}

/* ---- functions of the module ------------------------------------------------ */

static PyObject *bundle_witness(PyObject *module, PyObject *tuple) {
    (void)module;
    rvpy_bundle bundle;
    rv_witness witness;
    if (rvpy_bundle_take(tuple, &bundle) < 0) return NULL;
    rv_bundle_compute_witness(&bundle.fields, witness);
    rvpy_bundle_release(&bundle);
    return PyUnicode_FromString(witness);
}

static PyObject *bundle_format(PyObject *module, PyObject *tuple) {
    (void)module;
    rvpy_bundle bundle;
    size_t size = 0;
    if (rvpy_bundle_take(tuple, &bundle) < 0) return NULL;
    rv_bundle_format(&bundle.fields, NULL, 0, &size);
    PyObject *text = NULL, *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes) {
        rv_bundle_format(&bundle.fields, PyBytes_AsString(bytes), size, &size);
        text = PyUnicode_DecodeUTF8(PyBytes_AsString(bytes), (Py_ssize_t)size, "strict");
    }
    Py_XDECREF(bytes);
    rvpy_bundle_release(&bundle);
    return text;
}

static PyObject *bundle_parse(PyObject *module, PyObject *json) {
    char *data;
    Py_ssize_t size;
    rv_bundle *bundle = NULL;
    rv_error error = {0};
    if (PyBytes_AsStringAndSize(json, &data, &size) < 0) return NULL;
    if (rv_bundle_parse(data, (size_t)size, &bundle, &error) != RV_OK)
        return rvpy_lake_raise(PyModule_GetState(module), &error, NULL);
    PyObject *tuple = rvpy_bundle_tuple(bundle);
    rv_bundle_free(bundle);
    return tuple;
}

static PyObject *bundle_write(PyObject *module, PyObject *args) {
    PyObject *tuple, *dir, *bytes;
    rvpy_bundle bundle;
    if (!PyArg_ParseTuple(args, "OO:_bundle_write", &tuple, &dir) ||
        !(bytes = rvpy_path(dir, "dir")))
        return NULL;
    if (rvpy_bundle_take(tuple, &bundle) < 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    const char *directory = PyBytes_AsString(bytes);
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_bundle_write(&bundle.fields, directory, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    rvpy_bundle_release(&bundle);
    if (status == RV_OK) Py_RETURN_NONE;
    rvpy_about about = {.path = dir};
    return rvpy_lake_raise(PyModule_GetState(module), &error, &about);
}

static PyObject *bundle_read(PyObject *module, PyObject *dir) {
    PyObject *bytes = rvpy_path(dir, "dir");
    if (!bytes) return NULL;
    const char *directory = PyBytes_AsString(bytes);
    rv_bundle *bundle = NULL;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_bundle_read(directory, &bundle, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    if (status != RV_OK) {
        rvpy_about about = {.path = dir};
        return rvpy_lake_raise(PyModule_GetState(module), &error, &about);
    }
    PyObject *tuple = rvpy_bundle_tuple(bundle);
    rv_bundle_free(bundle);
    return tuple;
}

static PyMethodDef functions[] = {
    {"_bundle_witness", bundle_witness, METH_O, NULL},
    {"_bundle_format", bundle_format, METH_O, NULL},
    {"_bundle_parse", bundle_parse, METH_O, NULL},
    {"_bundle_write", bundle_write, METH_VARARGS, NULL},
    {"_bundle_read", bundle_read, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

int rvpy_bundle_init(PyObject *module) {
    return PyModule_AddFunctions(module, functions);
}
