/*
 * errors.c - from the library's error record to a Python exception. The classes
 * are written in ruvector/errors.py; this is the one place that chooses among
 * them. Misuse of an argument becomes a built-in ValueError.
 */
#include "rvpy.h"

#include <stdarg.h>
#include <string.h>

int rvpy_errors_init(rvpy_state *state) {
    static const char *const names[RVPY_N_ERRORS] = {
        "DimensionMismatch", "EmptyIndex",
        "DuplicateId",       "UnknownId",
        "NoVectors",         "persist_error",
        "LakeValueError",    "LakeDimensionMismatch",
        "EmptyCollection",   "UnknownCollection",
        "BackendError",      "CacheMissError",
        "WitnessMismatch",   "lake_file_error",
        "EmbedError",
    };
    PyObject *errors = PyImport_ImportModule("ruvector.errors");
    if (!errors) return -1;
    int result = 0;
    for (int i = 0; i < RVPY_N_ERRORS && result == 0; i++) {
        state->error[i] = PyObject_GetAttrString(errors, names[i]);
        if (!state->error[i]) result = -1;
    }
    Py_DECREF(errors);
    return result;
}

/* A message may quote a path, which need not be valid UTF-8. */
static PyObject *message_of(const rv_error *e) {
    return PyUnicode_DecodeUTF8(e->message, (Py_ssize_t)strlen(e->message), "replace");
}

static PyObject *new_persist_error(const rvpy_state *state, const rv_error *e,
                                   PyObject *message, PyObject *path) {
    PyObject *from_record = NULL;
    if (!path && e->path[0]) path = from_record = PyUnicode_DecodeFSDefault(e->path);
    if (!path && PyErr_Occurred()) return NULL;
    PyObject *exception = PyObject_CallFunction(
        state->error[RVPY_PERSIST_ERROR], "OiO", message,
        e->code == RV_ERR_IO ? e->os_errno : 0, path ? path : Py_None);
    Py_XDECREF(from_record);
    return exception;
}

static PyObject *new_exception(const rvpy_state *state, const rv_error *e,
                               PyObject *path) {
    PyObject *class = PyExc_ValueError, *facts = NULL;
    switch (e->code) {
    case RV_ERR_MEMORY:
        class = PyExc_MemoryError;
        break;
    case RV_ERR_DIM:
        class = state->error[RVPY_DIMENSION_MISMATCH];
        facts = Py_BuildValue("{s:K,s:K}", "expected", (unsigned long long)e->expected,
                              "actual", (unsigned long long)e->actual);
        break;
    case RV_ERR_EMPTY:
        class = state->error[RVPY_EMPTY_INDEX];
        break;
    case RV_ERR_DUPLICATE:
    case RV_ERR_NOT_FOUND:
        class = state->error[e->code == RV_ERR_DUPLICATE ? RVPY_DUPLICATE_ID
                                                         : RVPY_UNKNOWN_ID];
        facts = Py_BuildValue("{s:K}", "id", (unsigned long long)e->actual);
        break;
    case RV_ERR_NO_VECTORS:
        class = state->error[RVPY_NO_VECTORS];
        break;
    case RV_ERR_CANCELLED:
        class = PyExc_KeyboardInterrupt;
        break;
    default:
        break;
    }
    if (PyErr_Occurred()) return NULL;
    PyObject *exception = NULL, *message = message_of(e);
    if (message &&
        (e->code == RV_ERR_IO || e->code == RV_ERR_FORMAT || e->code == RV_ERR_DIGEST)) {
        exception = new_persist_error(state, e, message, path);
    } else if (message) {
        PyObject *args = PyTuple_Pack(1, message);
        if (args) exception = PyObject_Call(class, args, facts);
        Py_XDECREF(args);
    }
    Py_XDECREF(message);
    Py_XDECREF(facts);
    return exception;
}

PyObject *rvpy_raise(const rvpy_state *state, const rv_error *error, PyObject *path) {
    if (PyErr_Occurred()) return NULL;
    PyObject *exception = new_exception(state, error, path);
    if (!exception) return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
    return NULL;
}

int rvpy_refuse(const char *function, const char *format, ...) {
    va_list values;
    va_start(values, format);
    PyObject *args = Py_VaBuildValue(format, values);
    va_end(values);
    PyObject *advice = args ? PyImport_ImportModule("ruvector._advice") : NULL;
    PyObject *write = advice ? PyObject_GetAttrString(advice, function) : NULL;
    PyObject *exception = write ? PyObject_CallObject(write, args) : NULL;
    if (exception) PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_XDECREF(exception);
    Py_XDECREF(write);
    Py_XDECREF(advice);
    Py_XDECREF(args);
    return -1;
}
