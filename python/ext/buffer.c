/*
 * buffer.c - arrays in and out; the only file that uses NumPy's C API.
 *
 * Float data. An array, or an object that exports one (a tensor, a memoryview),
 * must already be float32, C-contiguous and of the right rank: it is used where
 * it lies. Anything else would be a silent copy of what may be gigabytes, so it
 * is refused with the call that makes the copy. Lists, tuples and other sequences
 * are copied, being no arrays to begin with.
 *
 * Ids are small beside vectors and come in many integer types, so they are
 * converted; what cannot be an id is refused.
 */
#include "rvpy.h"

#define PY_ARRAY_UNIQUE_SYMBOL rvpy_array_api
#ifndef NPY_TARGET_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#endif
#ifndef NPY_NO_DEPRECATED_API
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#endif
#include <numpy/arrayobject.h>

int rvpy_numpy_init(void) {
    import_array1(-1);
    return 0;
}

void rvpy_array_release(rvpy_array *a) { Py_CLEAR(a->owner); }

/* ---- what came -------------------------------------------------------------- */

static bool exports_array(PyObject *arg) {
    if (PyObject_HasAttrString(arg, "__array__") ||
        PyObject_HasAttrString(arg, "__array_interface__"))
        return true;
    PyObject *view = PyMemoryView_FromObject(arg);
    if (!view) PyErr_Clear();
    Py_XDECREF(view);
    return view != NULL;
}

static bool is_numpy_bool(PyObject *arg) {
    return PyBool_Check(arg) || PyArray_IsScalar(arg, Bool);
}

/* Keeps `array` (stolen) and its data. */
static void hold(PyArrayObject *array, rvpy_array *out) {
    int ndim = PyArray_NDIM(array);
    out->owner = (PyObject *)array;
    out->data = PyArray_DATA(array);
    out->shape[0] = ndim > 0 ? PyArray_DIM(array, 0) : 1;
    out->shape[1] = ndim > 1 ? PyArray_DIM(array, 1) : 1;
}

static int rank_error(PyArrayObject *array, const char *name, const char *wanted,
                      const char *fix) {
    PyObject *shape = PyObject_GetAttrString((PyObject *)array, "shape");
    if (shape)
        PyErr_Format(PyExc_ValueError, "%s: expected shape %s, got %R; %s", name, wanted,
                     shape, fix);
    Py_XDECREF(shape);
    return -1;
}

/* ---- float data ------------------------------------------------------------- */

static int check_rank(PyArrayObject *array, const char *name, rvpy_rank rank) {
    if (PyArray_NDIM(array) == (int)rank) return 0;
    if (rank == RVPY_VECTOR)
        return rank_error(array, name, "(dim,)",
                          "pass one vector; several go to search_batch or add_batch");
    return rank_error(array, name, "(n, dim)", "reshape(1, -1) makes one vector a row");
}

static int check_exact(PyArrayObject *array, const char *name, rvpy_rank rank) {
    if (PyArray_TYPE(array) != NPY_FLOAT32 || !PyArray_ISNOTSWAPPED(array)) {
        PyErr_Format(PyExc_TypeError,
                     "%s: expected dtype float32, got %S; pass np.ascontiguousarray(%s, "
                     "dtype=np.float32)",
                     name, PyArray_DESCR(array), name);
        return -1;
    }
    if (check_rank(array, name, rank) < 0) return -1;
    if (!PyArray_IS_C_CONTIGUOUS(array)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: array is not C-contiguous; pass np.ascontiguousarray(%s, "
                     "dtype=np.float32)",
                     name, name);
        return -1;
    }
    if (!PyArray_ISALIGNED(array)) {
        PyErr_Format(PyExc_ValueError, "%s: array data is not aligned; pass %s.copy()",
                     name, name);
        return -1;
    }
    return 0;
}

/* A float32 copy of a sequence of numbers or of vectors. */
static PyArrayObject *copy_sequence(PyObject *arg, const char *name, rvpy_rank rank) {
    PyArrayObject *found = (PyArrayObject *)PyArray_FromAny(arg, NULL, 0, 0, 0, NULL);
    if (!found) {
        if (PyErr_ExceptionMatches(PyExc_ValueError))
            PyErr_Format(PyExc_ValueError,
                         "%s: rows must be of equal length and hold numbers", name);
        return NULL;
    }
    char kind = PyArray_DESCR(found)->kind;
    PyArrayObject *copy = NULL;
    if (kind != 'f' && kind != 'i' && kind != 'u')
        PyErr_Format(
            PyExc_TypeError,
            "%s: expected numbers in rows of equal length, got items of dtype %S", name,
            PyArray_DESCR(found));
    else if (check_rank(found, name, rank) == 0)
        copy = (PyArrayObject *)PyArray_FROMANY(
            (PyObject *)found, NPY_FLOAT32, (int)rank, (int)rank,
            NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    Py_DECREF(found);
    return copy;
}

int rvpy_take_floats(PyObject *arg, const char *name, rvpy_rank rank, rvpy_array *out) {
    PyArrayObject *array;
    if (PyArray_Check(arg)) {
        array = (PyArrayObject *)arg;
        Py_INCREF(array);
    } else if (!PyList_Check(arg) && !PyTuple_Check(arg) && exports_array(arg)) {
        array = (PyArrayObject *)PyArray_FromAny(arg, NULL, 0, 0, 0, NULL);
    } else if (PySequence_Check(arg) && !PyUnicode_Check(arg)) {
        array = copy_sequence(arg, name, rank);
    } else {
        rvpy_wrong_type(name, "a float32 array or a sequence of numbers", arg);
        array = NULL;
    }
    if (!array) return -1;
    if (check_exact(array, name, rank) < 0) {
        Py_DECREF(array);
        return -1;
    }
    hold(array, out);
    if (rank == RVPY_VECTOR) {
        out->shape[1] = out->shape[0];
        out->shape[0] = 1;
    }
    return 0;
}

/* ---- ids -------------------------------------------------------------------- */

static int check_not_negative(const int64_t *values, Py_ssize_t n, const char *name) {
    int64_t all = 0; /* negative if any is: no branch for each of many ids */
    for (Py_ssize_t i = 0; i < n; i++) all |= values[i];
    for (Py_ssize_t i = 0; all < 0 && i < n; i++) {
        if (values[i] >= 0) continue;
        PyErr_Format(PyExc_ValueError, "%s: %lld (position %zd) is not in 0..2^64-1",
                     name, (long long)values[i], i);
        return -1;
    }
    return 0;
}

static int take_id_array(PyArrayObject *array, const char *name, rvpy_array *out) {
    char kind = PyArray_DESCR(array)->kind;
    if (kind != 'u' && kind != 'i') {
        PyErr_Format(PyExc_TypeError,
                     "%s: expected integers, got dtype %S; pass %s.astype(np.uint64)",
                     name, PyArray_DESCR(array), name);
        return -1;
    }
    if (PyArray_NDIM(array) != 1)
        return rank_error(array, name, "(n,)", "pass one id per row");
    int type = kind == 'u' ? NPY_UINT64 : NPY_INT64;
    PyArrayObject *wide = (PyArrayObject *)PyArray_FROMANY((PyObject *)array, type, 1, 1,
                                                           NPY_ARRAY_CARRAY_RO);
    if (!wide) return -1;
    hold(wide, out);
    if (kind == 'i' && check_not_negative(out->data, out->shape[0], name) < 0) {
        rvpy_array_release(out);
        return -1;
    }
    return 0;
}

/* By hand, because NumPy makes floats of [1, 2**63]. */
static int take_id_list(PyObject *list, const char *name, rvpy_array *out) {
    Py_ssize_t n = PyList_Size(list);
    void *data;
    PyObject *array = rvpy_array_new(RVPY_U64, n, -1, &data);
    if (!array) return -1;
    uint64_t *ids = data;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (rvpy_parse_u64(PyList_GetItem(list, i), name, &ids[i]) == 0) continue;
        Py_DECREF(array);
        return -1;
    }
    hold((PyArrayObject *)array, out);
    return 0;
}

int rvpy_take_ids(PyObject *arg, const char *name, rvpy_array *out) {
    bool plain = PyList_Check(arg) || PyTuple_Check(arg);
    if (!plain && (PyArray_Check(arg) || exports_array(arg))) {
        PyArrayObject *array = (PyArrayObject *)PyArray_FromAny(arg, NULL, 0, 0, 0, NULL);
        if (!array) return -1;
        int result = take_id_array(array, name, out);
        Py_DECREF(array);
        return result;
    }
    PyObject *list = PyUnicode_Check(arg) ? NULL : PySequence_List(arg);
    if (!list) {
        if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            rvpy_wrong_type(name, "an integer array or ints", arg);
        }
        return -1;
    }
    int result = take_id_list(list, name, out);
    Py_DECREF(list);
    return result;
}

int rvpy_take_id_or_ids(PyObject *arg, const char *name, rvpy_array *out) {
    if (!PyLong_Check(arg) && !PyArray_IsScalar(arg, Integer))
        return rvpy_take_ids(arg, name, out);
    PyObject *list = PyList_New(0);
    if (!list) return -1;
    int result = PyList_Append(list, arg);
    if (result == 0) result = take_id_list(list, name, out);
    Py_DECREF(list);
    return result;
}

/* ---- allowed rows --------------------------------------------------------------- */

static int take_mask(PyObject *arg, Py_ssize_t rows, rvpy_array *out, rvpy_allow *form) {
    PyArrayObject *mask =
        (PyArrayObject *)PyArray_FromAny(arg, NULL, 0, 0, NPY_ARRAY_CARRAY_RO, NULL);
    if (!mask) return -1;
    if (PyArray_TYPE(mask) != NPY_BOOL) {
        PyErr_Format(PyExc_TypeError,
                     "allow: a mask must hold bools only, got items of dtype %S",
                     PyArray_DESCR(mask));
        Py_DECREF(mask);
        return -1;
    }
    int ndim = PyArray_NDIM(mask);
    if (ndim == 1) {
        *form = RVPY_ALLOW_MASK;
        hold(mask, out);
        return 0;
    }
    if (ndim == 2 && rows >= 0 && PyArray_DIM(mask, 0) == rows) {
        *form = RVPY_ALLOW_MASKS;
        hold(mask, out);
        return 0;
    }
    rank_error(mask, "allow", rows < 0 ? "(n,)" : "(n,) or (m, n)",
               rows < 0 ? "pass one bool per vector of the index"
                        : "pass one bool per vector, or one such row per query");
    Py_DECREF(mask);
    return -1;
}

int rvpy_take_allow(PyObject *arg, Py_ssize_t rows, rvpy_array *out, rvpy_allow *form) {
    bool mask = false;
    *form = RVPY_ALLOW_IDS;
    if (PyArray_Check(arg)) {
        mask = PyArray_TYPE((PyArrayObject *)arg) == NPY_BOOL;
    } else if ((PyList_Check(arg) || PyTuple_Check(arg)) && PySequence_Size(arg) > 0) {
        PyObject *first = PySequence_GetItem(arg, 0);
        if (!first) return -1;
        mask = is_numpy_bool(first);
        Py_DECREF(first);
    } else if (exports_array(arg)) {
        PyObject *array = PyArray_FromAny(arg, NULL, 0, 0, 0, NULL);
        if (!array) return -1;
        int result = rvpy_take_allow(array, rows, out, form);
        Py_DECREF(array);
        return result;
    }
    return mask ? take_mask(arg, rows, out, form) : rvpy_take_ids(arg, "allow", out);
}

/* ---- bytes ---------------------------------------------------------------------- */

int rvpy_take_bytes(PyObject *arg, const char *name, rvpy_array *out) {
    PyObject *view = PyMemoryView_FromObject(arg);
    if (!view) {
        PyErr_Clear();
        rvpy_wrong_type(name, "bytes or another buffer", arg);
        return -1;
    }
    Py_DECREF(view);
    PyObject *array = PyArray_FromBuffer(arg, PyArray_DescrFromType(NPY_UINT8), -1, 0);
    if (!array) return -1;
    hold((PyArrayObject *)array, out);
    return 0;
}

/* ---- arrays out ----------------------------------------------------------------- */

/* By rvpy_dtype. */
static const int type_numbers[] = {NPY_FLOAT32, NPY_FLOAT16, NPY_UINT64, NPY_UINT8};

PyObject *rvpy_array_new(rvpy_dtype dtype, Py_ssize_t rows, Py_ssize_t columns,
                         void **data) {
    npy_intp shape[2] = {rows, columns};
    PyObject *array = PyArray_SimpleNew(columns < 0 ? 1 : 2, shape, type_numbers[dtype]);
    if (array) *data = PyArray_DATA((PyArrayObject *)array);
    return array;
}

PyObject *rvpy_array_lock(PyObject *array) {
    PyArray_CLEARFLAGS((PyArrayObject *)array, NPY_ARRAY_WRITEABLE);
    return array;
}

#define VIEW_NAME "ruvector.view"

static void release_view(PyObject *capsule) {
    rv_view *view = PyCapsule_GetPointer(capsule, VIEW_NAME);
    rv_view_release(view);
    PyMem_Free(view);
}

static PyObject *view_capsule(rv_view *view) {
    rv_view *held = PyMem_Malloc(sizeof *held);
    PyObject *capsule = NULL;
    if (held) {
        *held = *view;
        capsule = PyCapsule_New(held, VIEW_NAME, release_view);
    } else {
        PyErr_NoMemory();
    }
    if (!capsule) {
        rv_view_release(view);
        PyMem_Free(held);
    }
    return capsule;
}

PyObject *rvpy_array_view(rv_view *view) {
    void *unused;
    rvpy_dtype dtype = view->bits == 16 ? RVPY_F16 : RVPY_F32;
    if (view->n == 0) { /* no data to point at */
        Py_ssize_t dim = (Py_ssize_t)view->dim;
        rv_view_release(view);
        return rvpy_array_new(dtype, 0, dim, &unused);
    }
    PyObject *capsule = view_capsule(view);
    if (!capsule) return NULL;
    npy_intp shape[2] = {(npy_intp)view->n, (npy_intp)view->dim};
    npy_intp strides[2] = {(npy_intp)view->stride_bytes, (npy_intp)view->bits / 8};
    void *data = (void *)(uintptr_t)view->data; /* const in effect: no writeable flag */
    PyObject *array = PyArray_New(&PyArray_Type, 2, shape, type_numbers[dtype], strides,
                                  data, 0, 0, NULL);
    if (!array) {
        Py_DECREF(capsule);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, capsule) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

int rvpy_dtype_is(PyObject *dtype, rvpy_dtype wanted) {
    PyArray_Descr *descr = NULL;
    if (!PyArray_DescrConverter2(dtype, &descr) || !descr)
        return PyErr_Occurred() ? -1 : wanted == RVPY_F32;
    int result =
        descr->type_num == type_numbers[wanted] && PyArray_ISNBO(descr->byteorder);
    Py_DECREF(descr);
    return result;
}
