/*
 * object.c - how objects around those of the library begin, and end: each holds its
 * module, so that it finds the state.
 */
#include "rvpy_lake.h"

/* ---- indexes ---------------------------------------------------------------- */

int rvpy_class_of(PyObject *type, rvpy_class *out) {
    PyObject *module = rvpy_type_module((PyTypeObject *)type);
    if (!module) return -1;
    *out = (rvpy_class){.state = rvpy_module_state(module)};
    Py_DECREF(module); /* the class keeps it */
    for (int kind = 0; kind < RVPY_N_KINDS; kind++) {
        out->kind = (rv_kind)kind;
        if ((PyObject *)out->state->index_type[kind] == type) return 0;
    }
    PyErr_Format(PyExc_TypeError, "%R is no index class any more", type);
    return -1;
}

PyObject *rvpy_index_wrap(const rvpy_state *state, rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    /* nobody else has it yet: no lock to wait for */
    (void)rv_index_get_info(index, &info, NULL);
    rvpy_index *self = (rvpy_index *)PyType_GenericAlloc(state->index_type[info.kind], 0);
    if (!self) {
        rv_index_free(index);
        return NULL;
    }
    self->index = index;
    self->kind = info.kind;
    self->module = state->module;
    Py_INCREF(self->module);
    return (PyObject *)self;
}

/* ---- objects of the lake ---------------------------------------------------- */

PyObject *rvpy_object_new(PyTypeObject *type) {
    PyObject *module = rvpy_type_module(type);
    rvpy_object *self = module ? (rvpy_object *)PyType_GenericAlloc(type, 0) : NULL;
    if (self)
        self->module = module;
    else
        Py_XDECREF(module);
    return (PyObject *)self;
}

int rvpy_object_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((rvpy_object *)self)->module);
    return 0;
}

void rvpy_object_free(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((rvpy_object *)self)->module);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

rvpy_lake *rvpy_lake_of(PyObject *self) {
    rvpy_lake *lake = (rvpy_lake *)self;
    if (lake->lake) return lake;
    PyErr_SetString(PyExc_RuntimeError, "RuLake.__init__() was not called");
    return NULL;
}

bool rvpy_lake_is_adapter(const rvpy_lake *self, PyObject *backend_id) {
    PyObject *backend = PyDict_GetItemWithError(self->backends, backend_id);
    const rvpy_state *state = rvpy_object_state((PyObject *)self);
    return backend && Py_TYPE(backend) == state->adapter_type;
}
