/*
 * index_file.c - indexes as files and as bytes. Bytes given to from_bytes are
 * used where they lie: the index holds on to their owner, and lets go of it when
 * neither the index nor an array over it needs them.
 */
#include "rvpy.h"

#include <stdio.h>

#define SERIALIZE_TRIES 100

/* ---- files ------------------------------------------------------------------ */

PyObject *rvpy_index_save(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"path", NULL};
    PyObject *path, *bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:save", keywords, &path))
        return NULL;
    if (!(bytes = rvpy_path(path, "path"))) return NULL;
    const char *c_path = PyBytes_AsString(bytes);
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_save(rvpy_handle(self), c_path, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    /* the file that was altered is the one the index is mapped from */
    if (status == RV_ERR_DIGEST) path = NULL;
    if (status != RV_OK) return rvpy_raise(rvpy_state_of(self), &error, path);
    Py_RETURN_NONE;
}

/* A file of another class is refused as any other wrong file is. */
static PyObject *wrap_checked(const rvpy_class *class, rv_index *index, PyObject *path) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    (void)rv_index_get_info(index, &info, NULL);
    if (info.kind == class->kind) return rvpy_index_wrap(class->state, index);
    rv_index_free(index);
    rv_error error = {.code = RV_ERR_FORMAT};
    snprintf(error.message, sizeof error.message,
             "this is a saved %s; load it with that class", rvpy_class_name(info.kind));
    return rvpy_raise(class->state, &error, path);
}

PyObject *rvpy_index_load(PyObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"path", "mmap", "verify", NULL};
    PyObject *path, *verify_arg = NULL, *bytes;
    int use_mmap = 1;
    rv_verify verify;
    rvpy_class class;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$pO:load", keywords, &path,
                                     &use_mmap, &verify_arg))
        return NULL;
    if (rvpy_class_of(type, &class) < 0) return NULL;
    if (rvpy_parse_verify(verify_arg, &verify) < 0) return NULL;
    if (!(bytes = rvpy_path(path, "path"))) return NULL;
    const char *c_path = PyBytes_AsString(bytes);
    rv_index *index = NULL;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_load(c_path, use_mmap, verify, &index, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    if (status != RV_OK) return rvpy_raise(class.state, &error, path);
    return wrap_checked(&class, index, path);
}

/* ---- bytes ------------------------------------------------------------------ */

static PyObject *serialize(PyObject *self, rv_status *status, rv_error *error) {
    const rv_index *index = rvpy_handle(self);
    PyThreadState *thread = PyEval_SaveThread();
    uint64_t size = rv_index_serialized_size(index);
    PyEval_RestoreThread(thread);
    if (size > (uint64_t)PY_SSIZE_T_MAX) return PyErr_NoMemory();
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!bytes) return NULL;
    void *out = PyBytes_AsString(bytes);
    thread = PyEval_SaveThread();
    *status = rv_index_serialize(index, out, size, error);
    PyEval_RestoreThread(thread);
    if (*status != RV_OK) Py_CLEAR(bytes);
    return bytes;
}

/* A writer may change the size between asking for it and writing; it is then asked again.
 */
PyObject *rvpy_index_to_bytes(PyObject *self, PyObject *unused) {
    (void)unused;
    rv_error error = {0};
    for (int i = 0;; i++) {
        rv_status status = RV_OK;
        PyObject *bytes = serialize(self, &status, &error);
        if (bytes || PyErr_Occurred()) return bytes;
        if (status != RV_ERR_ARGUMENT || i == SERIALIZE_TRIES)
            return rvpy_raise(rvpy_state_of(self), &error, NULL);
        if (PyErr_CheckSignals() < 0) return NULL;
    }
}

static int drop(void *owner) {
    Py_DECREF((PyObject *)owner);
    return 0;
}

/* May run with or without the GIL. Where a thread of the library held on to the index
 * last, Python is asked to drop the owner when it next can: such threads must not wait
 * for it, the interpreter may be going down. With its queue full, the owner stays. */
static void release_owner(void *owner) {
    if (!PyGILState_GetThisThreadState()) {
        (void)Py_AddPendingCall(drop, owner);
        return;
    }
    PyGILState_STATE gil = PyGILState_Ensure();
    Py_DECREF((PyObject *)owner);
    PyGILState_Release(gil);
}

PyObject *rvpy_index_from_bytes(PyObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"data", "verify", NULL};
    PyObject *data_arg, *verify_arg = NULL;
    rv_verify verify;
    rvpy_class class;
    rvpy_array data = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:from_bytes", keywords, &data_arg,
                                     &verify_arg))
        return NULL;
    if (rvpy_class_of(type, &class) < 0) return NULL;
    if (rvpy_parse_verify(verify_arg, &verify) < 0) return NULL;
    if (rvpy_take_bytes(data_arg, "data", &data) < 0) return NULL;
    rv_index *index = NULL;
    rv_error error = {0};
    PyObject *owner = data.owner; /* passed to the library */
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_from_memory(data.data, (uint64_t)data.shape[0], verify,
                                            release_owner, owner, &index, &error);
    PyEval_RestoreThread(thread);
    if (status != RV_OK) return rvpy_raise(class.state, &error, NULL);
    return wrap_checked(&class, index, NULL);
}

/* (cls.from_bytes, (data,)). From protocol 5 on, data is a PickleBuffer, so that
 * pickle can hand the bytes over outside its stream. */
PyObject *rvpy_index_reduce_ex(PyObject *self, PyObject *protocol_arg) {
    long protocol = PyLong_AsLong(protocol_arg);
    if (protocol == -1 && PyErr_Occurred()) return NULL;
    PyObject *data = rvpy_index_to_bytes(self, NULL);
    if (!data) return NULL;
    if (protocol >= 5) {
        PyObject *pickle = PyImport_ImportModule("pickle");
        PyObject *buffer =
            pickle ? PyObject_CallMethod(pickle, "PickleBuffer", "O", data) : NULL;
        Py_XDECREF(pickle);
        Py_DECREF(data);
        data = buffer;
    }
    PyObject *from_bytes =
        PyObject_GetAttrString((PyObject *)Py_TYPE(self), "from_bytes");
    PyObject *result =
        data && from_bytes ? Py_BuildValue("O(O)", from_bytes, data) : NULL;
    Py_XDECREF(from_bytes);
    Py_XDECREF(data);
    return result;
}
