/*
 * record.c - the small immutable types results come in. They are struct sequences:
 * tuples with names, made without a call of Python. To them this adds what a
 * collections.namedtuple has besides: frames, and whatever else looks for `_fields`,
 * then see the names.
 */
#include "rvpy.h"

/* The names of the type, a new reference. */
static PyObject *fields_of(PyObject *type) {
    return PyObject_GetAttrString(type, "_fields");
}

static PyObject *make(PyObject *type, PyObject *iterable) {
    PyObject *values = PySequence_Tuple(iterable);
    PyObject *record = values ? PyObject_CallFunctionObjArgs(type, values, NULL) : NULL;
    Py_XDECREF(values);
    return record;
}

static PyObject *as_dict(PyObject *self, PyObject *unused) {
    (void)unused;
    PyObject *fields = fields_of((PyObject *)Py_TYPE(self));
    PyObject *dict = fields ? PyDict_New() : NULL;
    for (Py_ssize_t i = 0; dict && i < PyTuple_Size(fields); i++)
        if (PyDict_SetItem(dict, PyTuple_GetItem(fields, i), PyTuple_GetItem(self, i)) <
            0)
            Py_CLEAR(dict);
    Py_XDECREF(fields);
    return dict;
}

/* The first key of `changes` that is no field, borrowed; NULL if all are. */
static PyObject *stranger(PyObject *fields, PyObject *changes) {
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(changes, &at, &name, &value)) {
        int known = PySequence_Contains(fields, name);
        if (known <= 0) return name;
    }
    return NULL;
}

static PyObject *changed(PyObject *self, PyObject *fields, PyObject *changes) {
    PyObject *values = PyList_New(0), *record = NULL;
    bool good = values != NULL;
    for (Py_ssize_t i = 0; good && i < PyTuple_Size(fields); i++) {
        PyObject *value =
            changes ? PyDict_GetItemWithError(changes, PyTuple_GetItem(fields, i)) : NULL;
        if (!value && !PyErr_Occurred()) value = PyTuple_GetItem(self, i);
        good = value && PyList_Append(values, value) == 0;
    }
    if (good) record = make((PyObject *)Py_TYPE(self), values);
    Py_XDECREF(values);
    return record;
}

static PyObject *replace(PyObject *self, PyObject *args, PyObject *changes) {
    PyObject *record = NULL, *fields = fields_of((PyObject *)Py_TYPE(self));
    if (!fields) return NULL;
    PyObject *name = changes ? stranger(fields, changes) : NULL;
    if (PyTuple_Size(args) > 0)
        PyErr_SetString(PyExc_TypeError, "_replace() takes fields by name only");
    else if (name && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "_replace() got %R; fields are %R", name, fields);
    else if (!PyErr_Occurred())
        record = changed(self, fields, changes);
    Py_DECREF(fields);
    return record;
}

static PyMethodDef make_method = {"_make", make, METH_O | METH_CLASS,
                                  "_make($type, iterable, /)\n--\n\n"
                                  "One of the values of an iterable, in order."};
static PyMethodDef methods[] = {
    {"_asdict", as_dict, METH_NOARGS,
     "_asdict($self, /)\n--\n\nA dict from each field to its value."},
    {"_replace", (PyCFunction)(void (*)(void))replace, METH_VARARGS | METH_KEYWORDS,
     "_replace($self, /, **fields)\n--\n\nA copy with other values in some fields."},
};

static int set(PyTypeObject *type, const char *name, PyObject *value) {
    int result = value ? PyObject_SetAttrString((PyObject *)type, name, value) : -1;
    Py_XDECREF(value);
    return result;
}

static PyObject *names_of(const PyStructSequence_Desc *description) {
    PyObject *names = PyTuple_New(description->n_in_sequence);
    for (Py_ssize_t i = 0; names && i < description->n_in_sequence; i++) {
        PyObject *name = PyUnicode_InternFromString(description->fields[i].name);
        if (!name || PyTuple_SetItem(names, i, name) < 0) Py_CLEAR(names);
    }
    return names;
}

PyTypeObject *rvpy_record_type(PyStructSequence_Desc *description) {
    PyTypeObject *type = PyStructSequence_NewType(description);
    if (!type) return NULL;
    int result = set(type, "_fields", names_of(description));
    if (result == 0) result = set(type, "__match_args__", names_of(description));
    if (result == 0) result = set(type, "_field_defaults", PyDict_New());
    if (result == 0)
        result = set(type, "_make", PyDescr_NewClassMethod(type, &make_method));
    for (size_t i = 0; result == 0 && i < sizeof methods / sizeof *methods; i++)
        result = set(type, methods[i].ml_name, PyDescr_NewMethod(type, &methods[i]));
    if (result < 0) Py_CLEAR(type);
    return type;
}
