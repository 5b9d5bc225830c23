/*
 * lake_adapter.c - a backend written in Python, as the library sees it.
 *
 * The library calls it on the thread that called the lake, without the GIL, which each
 * call takes. What Python raises becomes a status and stays set until the lake's call
 * has come back and rvpy_lake_raise makes it the cause of a BackendError; until then no
 * Python is run, so a further call is refused at once.
 */
#include "rvpy_lake.h"

#include <string.h>

typedef struct rvpy_adapter {
    rvpy_object head;
    PyObject *calls; /* NULL once collected */
} rvpy_adapter;

/* ---- errors ----------------------------------------------------------------- */

/* Puts "<type>: <text>" of the exception that is set into the record; it stays set. */
static void describe(rv_error *err) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *name = value ? rvpy_type_name(value) : NULL;
    PyObject *text = name ? PyUnicode_FromFormat("%U: %S", name, value) : NULL;
    PyObject *bytes =
        text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
    PyOS_snprintf(err->message, sizeof err->message, "%.200s",
                  bytes ? PyBytes_AsString(bytes) : "an exception");
    PyErr_Clear(); /* of the text, if any */
    Py_XDECREF(name);
    Py_XDECREF(text);
    Py_XDECREF(bytes);
    PyErr_Restore(type, value, traceback);
}

static rv_status failed(const rvpy_adapter *self, rv_error *err) {
    const rvpy_state *state = rvpy_object_state((PyObject *)(uintptr_t)self);
    bool unknown = PyErr_ExceptionMatches(state->error[RVPY_UNKNOWN_COLLECTION]);
    rv_status status = unknown ? RV_ERR_NOT_FOUND : RV_ERR_BACKEND;
    if (err) {
        memset(err, 0, sizeof *err);
        err->code = status;
        describe(err);
    }
    return status;
}

/* A method of `calls`; NULL with an exception. */
static PyObject *call(const rvpy_adapter *self, const char *method,
                      const char *collection, PyObject *more) {
    if (PyErr_Occurred()) return NULL;
    if (!self->calls) {
        PyErr_SetString(PyExc_RuntimeError, "the adapter was collected");
        return NULL;
    }
    PyObject *args = collection && more ? Py_BuildValue("(sO)", collection, more)
                     : collection       ? Py_BuildValue("(s)", collection)
                                        : PyTuple_New(0);
    PyObject *function = args ? PyObject_GetAttrString(self->calls, method) : NULL;
    PyObject *result = function ? PyObject_Call(function, args, NULL) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(args);
    return result;
}

/* ---- the calls of a backend ------------------------------------------------- */

typedef rv_status (*each_name)(void *names, const char *collection, rv_error *err);

static rv_status hand_names(const rvpy_adapter *self, PyObject *list, each_name each,
                            void *names, rv_error *err) {
    rv_status status = RV_OK;
    for (Py_ssize_t i = 0; status == RV_OK && i < PyList_Size(list); i++) {
        PyObject *name = rvpy_take_text(PyList_GetItem(list, i), "list_collections()");
        status = name ? each(names, PyBytes_AsString(name), err) : failed(self, err);
        Py_XDECREF(name);
    }
    return status;
}

static rv_status adapter_list(void *ctx, each_name each, void *names, rv_error *err) {
    const rvpy_adapter *self = ctx;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *list = call(self, "list", NULL, NULL);
    rv_status status =
        list ? hand_names(self, list, each, names, err) : failed(self, err);
    Py_XDECREF(list);
    PyGILState_Release(gil);
    return status;
}

static rv_status adapter_generation(void *ctx, const char *collection, uint64_t *out,
                                    rv_error *err) {
    const rvpy_adapter *self = ctx;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *number = call(self, "generation", collection, NULL);
    rv_status status = RV_OK;
    if (!number || rvpy_parse_u64(number, "generation", out) < 0)
        status = failed(self, err);
    Py_XDECREF(number);
    PyGILState_Release(gil);
    return status;
}

static rv_status adapter_bundle(void *ctx, const char *collection, uint64_t seed,
                                uint64_t rerank, rv_bundle **out, rv_error *err) {
    const rvpy_adapter *self = ctx;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *asked =
        Py_BuildValue("(KK)", (unsigned long long)seed, (unsigned long long)rerank);
    PyObject *fields = asked ? call(self, "bundle", collection, asked) : NULL;
    rvpy_bundle bundle;
    rv_status status;
    if (fields && rvpy_bundle_take(fields, &bundle) == 0) {
        status = rv_bundle_sealed(&bundle.fields, out, err);
        rvpy_bundle_release(&bundle);
    } else {
        status = failed(self, err);
    }
    Py_XDECREF(fields);
    Py_XDECREF(asked);
    PyGILState_Release(gil);
    return status;
}

/* ---- pulling ---------------------------------------------------------------- */

typedef struct batch {
    rvpy_array ids, vectors;
} batch;

static void release_batch(void *owner) {
    batch *b = owner;
    PyGILState_STATE gil = PyGILState_Ensure();
    rvpy_array_release(&b->ids);
    rvpy_array_release(&b->vectors);
    PyMem_Free(b);
    PyGILState_Release(gil);
}

static int check_width(const batch *b, uint64_t dim) {
    if ((uint64_t)b->vectors.shape[1] == dim) return 0;
    PyErr_Format(PyExc_ValueError,
                 "PulledBatch: vectors have shape (%zd, %zd), but dim is %llu",
                 b->vectors.shape[0], b->vectors.shape[1], (unsigned long long)dim);
    return -1;
}

/* (ids, vectors, dim, generation); the arrays are borrowed until released. */
static int take_batch(PyObject *fields, rv_pull *out) {
    PyObject *ids, *vectors, *dim, *generation;
    if (!PyArg_ParseTuple(fields, "OOOO", &ids, &vectors, &dim, &generation)) return -1;
    batch *b = PyMem_Calloc(1, sizeof *b);
    if (!b) {
        PyErr_NoMemory();
        return -1;
    }
    *out = (rv_pull){.release = release_batch, .owner = b};
    if (rvpy_parse_u64(dim, "dim", &out->dim) < 0 ||
        rvpy_parse_u64(generation, "generation", &out->generation) < 0 ||
        rvpy_take_ids(ids, "ids", RVPY_IDS_OF_ROWS, &b->ids) < 0 ||
        rvpy_take_floats(vectors, "vectors", RVPY_MATRIX, &b->vectors) < 0 ||
        check_width(b, out->dim) < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        release_batch(b);
        PyErr_Restore(type, value, traceback);
        return -1;
    }
    out->ids = b->ids.data;
    out->n_ids = (uint64_t)b->ids.shape[0];
    out->vectors = b->vectors.data;
    out->n = (uint64_t)b->vectors.shape[0];
    return 0;
}

static rv_status adapter_pull(void *ctx, const char *collection, rv_pull *out,
                              rv_error *err) {
    const rvpy_adapter *self = ctx;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *fields = call(self, "pull", collection, NULL);
    rv_status status = RV_OK;
    if (!fields || take_batch(fields, out) < 0) status = failed(self, err);
    Py_XDECREF(fields);
    PyGILState_Release(gil);
    return status;
}

/* ---- threads that work for an adapter ---------------------------------------- */

static const char errand_name[] = "ruvector._errand";

static void free_errand(PyObject *capsule) {
    rv_errand_free(PyCapsule_GetPointer(capsule, errand_name));
}

/* _errand() -> what this thread is being asked for by a lake, or None. */
PyObject *rvpy_errand(PyObject *module, PyObject *unused) {
    (void)unused;
    rv_errand *errand;
    rv_error error = {0};
    if (rv_errand_here(&errand, &error) != RV_OK)
        return rvpy_lake_raise(rvpy_module_state(module), &error, NULL);
    if (!errand) Py_RETURN_NONE;
    PyObject *capsule = PyCapsule_New(errand, errand_name, free_errand);
    if (!capsule) rv_errand_free(errand);
    return capsule;
}

/* _on_errand(errand, function, *args): the call, made by a thread that does an errand. */
PyObject *rvpy_on_errand(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *errand_arg = PyTuple_GetItem(args, 0), *function = PyTuple_GetItem(args, 1);
    if (!function) return NULL;
    rv_errand *errand = NULL;
    if (rvpy_given(errand_arg) &&
        !(errand = PyCapsule_GetPointer(errand_arg, errand_name)))
        return NULL;
    PyObject *rest = PyTuple_GetSlice(args, 2, PyTuple_Size(args));
    if (!rest) return NULL;
    rv_errand *before = rv_errand_begin(errand);
    PyObject *result = PyObject_Call(function, rest, NULL);
    (void)rv_errand_begin(before);
    Py_DECREF(rest);
    return result;
}

/* ---- the object ------------------------------------------------------------- */

rv_status rvpy_adapter_register(rvpy_lake *lake, PyObject *adapter, const char *id,
                                bool has_bundle, rv_error *err) {
    rv_backend_calls calls = {
        .size = sizeof calls,
        .list = adapter_list,
        .pull = adapter_pull,
        .generation = adapter_generation,
        .bundle = has_bundle ? adapter_bundle : NULL,
        .callers_thread = 1,
    };
    rv_backend *backend = NULL;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_backend_new(id, &calls, adapter, &backend, err);
    if (status == RV_OK) status = rv_lake_register(lake->lake, backend, err);
    rv_backend_free(backend); /* the lake has its own reference */
    PyEval_RestoreThread(thread);
    return status;
}

static int adapter_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((rvpy_adapter *)self)->calls);
    return rvpy_object_traverse(self, visit, arg);
}

static int adapter_clear(PyObject *self) {
    Py_CLEAR(((rvpy_adapter *)self)->calls);
    return 0;
}

static void adapter_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    adapter_clear(self);
    rvpy_object_free(self);
}

PyObject *rvpy_adapter_new(rvpy_lake *lake, PyObject *calls) {
    const rvpy_state *state = rvpy_object_state((PyObject *)lake);
    rvpy_adapter *self = (rvpy_adapter *)rvpy_object_new(state->adapter_type);
    if (!self) return NULL;
    Py_INCREF(calls);
    self->calls = calls;
    return (PyObject *)self;
}

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "A backend written in Python."},
    {Py_tp_dealloc, adapter_dealloc},
    {Py_tp_traverse, adapter_traverse},
    {Py_tp_clear, adapter_clear},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "ruvector._core._Adapter",
    .basicsize = sizeof(rvpy_adapter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int rvpy_adapter_init(PyObject *module, rvpy_state *state) {
    state->adapter_type = rvpy_type_new(module, &spec);
    return state->adapter_type ? 0 : -1;
}
