/*
 * lake_error.c - from the error record of a lake to a Python exception, with the
 * backend and the collection it is about.
 */
#include "rvpy_lake.h"

#include <string.h>

static PyObject *message_of(const rv_error *e) {
    return PyUnicode_DecodeUTF8(e->message, (Py_ssize_t)strlen(e->message), "replace");
}

static PyObject *class_of(const rvpy_state *state, rv_status code) {
    switch (code) {
    case RV_ERR_DIM:
        return state->error[RVPY_LAKE_DIMENSION_MISMATCH];
    case RV_ERR_EMPTY:
        return state->error[RVPY_EMPTY_COLLECTION];
    case RV_ERR_NOT_FOUND:
        return state->error[RVPY_UNKNOWN_COLLECTION];
    case RV_ERR_BACKEND:
        return state->error[RVPY_BACKEND_ERROR];
    case RV_ERR_CACHE_MISS:
        return state->error[RVPY_CACHE_MISS];
    case RV_ERR_WITNESS:
    case RV_ERR_DIGEST:
        return state->error[RVPY_WITNESS_MISMATCH];
    default:
        return state->error[RVPY_LAKE_VALUE_ERROR];
    }
}

static int set_fact(PyObject *exception, const char *name, PyObject *value) {
    return value ? PyObject_SetAttrString(exception, name, value) : 0;
}

static int set_number(PyObject *exception, const char *name, uint64_t value) {
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    int result = number ? PyObject_SetAttrString(exception, name, number) : -1;
    Py_XDECREF(number);
    return result;
}

/* A file is at fault: the class follows from errno. */
static PyObject *file_exception(const rvpy_state *state, const rv_error *e,
                                PyObject *message, PyObject *path) {
    PyObject *from_record = NULL;
    if (e->path[0]) path = from_record = PyUnicode_DecodeFSDefault(e->path);
    if (e->path[0] && !path) return NULL;
    PyObject *exception = PyObject_CallFunction(
        state->error[RVPY_LAKE_FILE_ERROR], "OiO", message,
        e->code == RV_ERR_IO ? e->os_errno : 0, path ? path : Py_None);
    Py_XDECREF(from_record);
    return exception;
}

static PyObject *new_exception(const rvpy_state *state, const rv_error *e,
                               PyObject *message, PyObject *path) {
    if (e->code == RV_ERR_MEMORY)
        return PyObject_CallFunctionObjArgs(PyExc_MemoryError, message, NULL);
    if (e->code == RV_ERR_CANCELLED)
        return PyObject_CallFunctionObjArgs(PyExc_KeyboardInterrupt, message, NULL);
    if (e->code == RV_ERR_IO || (e->code == RV_ERR_FORMAT && (path || e->path[0])))
        return file_exception(state, e, message, path);
    return PyObject_CallFunctionObjArgs(class_of(state, e->code), message, NULL);
}

PyObject *rvpy_lake_exception(const rvpy_state *state, const rv_error *error,
                              const rvpy_about *about) {
    static const rvpy_about nothing;
    if (!about) about = &nothing;
    PyObject *message = message_of(error);
    PyObject *exception =
        message ? new_exception(state, error, message, about->path) : NULL;
    Py_XDECREF(message);
    if (!exception || error->code == RV_ERR_MEMORY || error->code == RV_ERR_CANCELLED)
        return exception;
    bool numbers = error->code == RV_ERR_DIM;
    if (set_fact(exception, "backend", about->backend) < 0 ||
        set_fact(exception, "collection", about->collection) < 0 ||
        (numbers && set_number(exception, "expected", error->expected) < 0) ||
        (numbers && set_number(exception, "actual", error->actual) < 0))
        Py_CLEAR(exception);
    return exception;
}

/* The exception an adapter left on this thread, a new reference; NULL if there is none
 * or it is to be raised as it is: Ctrl-C, or what a progress function raised. */
static PyObject *take_cause(const rv_error *error) {
    bool from_backend = error->code == RV_ERR_BACKEND || error->code == RV_ERR_NOT_FOUND;
    if (!from_backend || !PyErr_ExceptionMatches(PyExc_Exception)) return NULL;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

PyObject *rvpy_lake_raise(const rvpy_state *state, const rv_error *error,
                          const rvpy_about *about) {
    PyObject *cause = NULL;
    if (PyErr_Occurred() && !(cause = take_cause(error))) return NULL;
    PyObject *exception = rvpy_lake_exception(state, error, about);
    if (exception && cause) {
        Py_INCREF(cause);
        PyException_SetContext(exception, cause); /* steals */
        PyException_SetCause(exception, cause);   /* steals */
        cause = NULL;
    }
    Py_XDECREF(cause);
    if (!exception) return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
    return NULL;
}
