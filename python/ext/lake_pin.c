/*
 * lake_pin.c - ruvector._core._Pin: an entry held, for sessions and for searches whose
 * entries Python threads bring up to date. Released by `release`, or when it goes.
 */
#include "rvpy_lake.h"

static void release(rvpy_pin *self) {
    rv_pin *pin = self->pin;
    self->pin = NULL;
    if (!pin) return;
    PyThreadState *thread = PyEval_SaveThread();
    rv_pin_release(pin);
    PyEval_RestoreThread(thread);
}

static PyObject *pin_release(PyObject *self, PyObject *unused) {
    (void)unused;
    release((rvpy_pin *)self);
    Py_RETURN_NONE;
}

static int pin_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((rvpy_pin *)self)->lake);
    Py_VISIT(((rvpy_pin *)self)->key);
    return rvpy_object_traverse(self, visit, arg);
}

static void pin_dealloc(PyObject *object) {
    rvpy_pin *self = (rvpy_pin *)object;
    PyObject_GC_UnTrack(object);
    release(self);
    Py_XDECREF(self->lake);
    Py_XDECREF(self->key);
    rvpy_object_free(object);
}

/* ---- acquiring -------------------------------------------------------------- */

static rv_status acquire(rvpy_lake *lake, rvpy_pin *self, int cached_only) {
    rv_acquire_options options = RV_ACQUIRE_DEFAULT;
    rvpy_call call;
    rv_error error = {0};
    rvpy_call_begin(&call, NULL); /* without a callback it cannot fail */
    options.cached_only = cached_only;
    options.progress = &call.progress;
    rv_status status =
        rv_lake_acquire(lake->lake, rvpy_key_c(self->key), &options, &self->pin, &error);
    if (rvpy_call_end(&call, status) < 0) {
        rvpy_about about = rvpy_about_key(self->key);
        rvpy_lake_raise(rvpy_object_state((PyObject *)lake), &error, &about);
    }
    return status;
}

PyObject *rvpy_lake_acquire(PyObject *object, PyObject *args) {
    PyObject *key;
    int cached_only = 0;
    rvpy_target target;
    rvpy_lake *lake = rvpy_lake_of(object);
    if (!lake || !PyArg_ParseTuple(args, "O|p:_acquire", &key, &cached_only) ||
        rvpy_take_target(lake, key, "key", &target) < 0)
        return NULL;
    rv_status status = RV_ERR_MEMORY;
    rvpy_pin *self = (rvpy_pin *)rvpy_object_new(rvpy_object_state(object)->pin_type);
    if (self) {
        Py_INCREF(object);
        self->lake = object;
        Py_INCREF(target.key);
        self->key = target.key;
        status = acquire(lake, self, cached_only);
    }
    if (rvpy_target_done(lake, &target, status) < 0 || PyErr_Occurred()) Py_CLEAR(self);
    return (PyObject *)self;
}

/* ---- searching -------------------------------------------------------------- */

static PyObject *search(PyObject *object, PyObject *args, rvpy_rank rank) {
    rvpy_pin *self = (rvpy_pin *)object;
    const rvpy_state *state = rvpy_object_state(object);
    PyObject *queries_arg, *k_arg, *result = NULL;
    rvpy_array queries = {0};
    uint64_t k;
    if (!PyArg_ParseTuple(args, "OO:search", &queries_arg, &k_arg)) return NULL;
    if (!self->pin) {
        PyErr_SetString(PyExc_ValueError, "this entry was released");
        return NULL;
    }
    if (rvpy_parse_k(k_arg, &k) < 0 ||
        rvpy_take_queries(queries_arg, rank == RVPY_VECTOR ? "query" : "queries", rank,
                          &queries) < 0)
        return NULL;
    rvpy_found found;
    rvpy_call call;
    rv_error error = {0};
    found.memory = NULL;
    rvpy_call_begin(&call, NULL);
    rv_status status =
        rvpy_found_search(&found, self->pin, &queries, k, &call.progress, &error);
    if (rvpy_call_end(&call, status) < 0) {
        rvpy_about about = rvpy_about_key(self->key);
        rvpy_lake_raise(state, &error, &about);
    } else if (rank == RVPY_VECTOR) {
        result = rvpy_lake_hits(state, self->key, found.ids, found.scores, found.k);
    } else {
        result = rvpy_lake_hit_lists(state, self->key, found.m, found.k, found.ids,
                                     found.scores);
    }
    rvpy_found_free(&found);
    rvpy_array_release(&queries);
    return result;
}

static PyObject *pin_search(PyObject *self, PyObject *args) {
    return search(self, args, RVPY_VECTOR);
}

static PyObject *pin_search_batch(PyObject *self, PyObject *args) {
    return search(self, args, RVPY_MATRIX);
}

static PyMethodDef methods[] = {
    {"release", pin_release, METH_NOARGS, NULL},
    {"search", pin_search, METH_VARARGS, NULL},
    {"search_batch", pin_search_batch, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "An entry of a lake, held."},
    {Py_tp_dealloc, pin_dealloc},
    {Py_tp_traverse, pin_traverse},
    {Py_tp_methods, methods},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "ruvector._core._Pin",
    .basicsize = sizeof(rvpy_pin),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int rvpy_pin_init(PyObject *module, rvpy_state *state) {
    state->pin_type = rvpy_type_new(module, &spec);
    return rvpy_module_add_type(module, "_Pin", state->pin_type);
}
