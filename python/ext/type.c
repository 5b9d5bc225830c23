/*
 * type.c - the module as its types know it: its state, and what is added to it.
 */
#include "rvpy.h"

const char rvpy_module_name[] = "ruvector._core";

/* Our modules, in whatever interpreter, are those defined with this very name. */
rvpy_state *rvpy_module_state(PyObject *module) {
    PyModuleDef *definition = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    bool ours = definition && definition->m_name == rvpy_module_name;
    return ours ? PyModule_GetState(module) : NULL;
}

/* An attribute, because the call that finds the module of a type is missing from the
 * stable ABI of Python 3.9. */
#define MODULE_ATTRIBUTE "_module"

PyTypeObject *rvpy_type_new(PyObject *module, PyType_Spec *spec) {
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyObject_SetAttrString(type, MODULE_ATTRIBUTE, module) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

PyObject *rvpy_type_module(PyTypeObject *type) {
    /* An interned name is found in the interpreter's cache of lookups; a new one would
     * take a place of it at every call. */
    PyObject *name = PyUnicode_InternFromString(MODULE_ATTRIBUTE);
    PyObject *module = name ? PyObject_GetAttr((PyObject *)type, name) : NULL;
    Py_XDECREF(name);
    if (module && !rvpy_module_state(module)) {
        PyErr_Format(PyExc_TypeError, "%R has lost its module", type);
        Py_CLEAR(module);
    }
    return module;
}

int rvpy_module_add(PyObject *module, const char *name, PyObject *value) {
    if (value && PyModule_AddObject(module, name, value) == 0) return 0;
    Py_XDECREF(value);
    return -1;
}

int rvpy_module_add_type(PyObject *module, const char *name, PyTypeObject *type) {
    if (!type) return -1;
    Py_INCREF(type);
    return rvpy_module_add(module, name, (PyObject *)type);
}
