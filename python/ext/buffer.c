/*
 * buffer.c - arrays in and out; the only file that uses NumPy's C API.
 *
 * Vectors. An array, or an object that exports one (a tensor, a memoryview), must
 * already be float32, C-contiguous and of the right rank: it is used where it lies.
 * Anything else would be a silent copy of what may be gigabytes, so it is made if
 * the caller asks for it and else refused. Lists, tuples and other sequences are
 * copied, being no arrays to begin with. Queries are small: any real dtype and
 * layout is converted.
 *
 * Ids are small beside vectors and come in many integer types, so they are
 * converted. What can be no id is refused where rows get it, and stands for no row
 * where rows are looked up.
 *
 * What is said of arguments that are refused is written in ruvector/_advice.py.
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

#include <float.h>
#include <math.h>

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

static bool is_plain(PyObject *arg) { return PyList_Check(arg) || PyTuple_Check(arg); }

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

static PyArrayObject *as_array(PyObject *arg) {
    return (PyArrayObject *)PyArray_FromAny(arg, NULL, 0, 0, 0, NULL);
}

/* ---- masked values ---------------------------------------------------------- */

/* Whether values of an array are masked, which NumPy's conversions do not look at:
 * numpy.ma has subclasses of ndarray with an attribute `mask`. -1 on error. */
static int has_masked(PyObject *array) {
    if (!PyArray_Check(array) || PyArray_CheckExact(array) ||
        !PyObject_HasAttrString(array, "mask"))
        return 0;
    PyObject *mask = PyObject_GetAttrString(array, "mask");
    PyObject *any = mask ? PyObject_CallMethod(mask, "any", NULL) : NULL;
    int result = any ? PyObject_IsTrue(any) : -1;
    Py_XDECREF(any);
    Py_XDECREF(mask);
    return result;
}

/* The same of an array or of the items of a list or tuple. */
static int holds_masked(PyObject *arg) {
    int result = has_masked(arg);
    Py_ssize_t n = is_plain(arg) ? PySequence_Size(arg) : 0;
    for (Py_ssize_t i = 0; result == 0 && i < n; i++)
        result = has_masked(PyList_Check(arg) ? PyList_GetItem(arg, i)
                                              : PyTuple_GetItem(arg, i));
    return result;
}

static int refuse_masked(PyObject *arg, const char *name, const char *use) {
    int masked = holds_masked(arg);
    return masked > 0 ? rvpy_refuse("masked", "(Oss)", arg, name, use) : masked;
}

/* ---- float data ------------------------------------------------------------- */

/* As in ruvector/_advice.py. */
typedef enum how { STRICT, OFFER_CONVERSION, CONVERT } how;
static const char *const how_names[] = {"strict", "offer", "convert"};

static int refuse_floats(PyObject *arg, PyArrayObject *array, const char *name,
                         rvpy_rank rank, how how) {
    return rvpy_refuse("floats", "(OOsis)", arg, array, name, (int)rank, how_names[how]);
}

static bool is_exact(PyArrayObject *array, rvpy_rank rank) {
    return PyArray_TYPE(array) == NPY_FLOAT32 && PyArray_ISNOTSWAPPED(array) &&
           PyArray_NDIM(array) == (int)rank && PyArray_IS_C_CONTIGUOUS(array) &&
           PyArray_ISALIGNED(array);
}

/* Real numbers; dtypes that other packages add, such as bfloat16, if float32 holds all
 * of theirs. */
static bool is_real(PyArrayObject *array) {
    char kind = PyArray_DESCR(array)->kind;
    int type = PyArray_TYPE(array);
    if (PyTypeNum_ISUSERDEF(type)) return PyArray_CanCastSafely(type, NPY_FLOAT32);
    return kind == 'f' || kind == 'i' || kind == 'u';
}

/* Doubles as floats; -1 if one is finite and beyond the largest float. NaN and infinity
 * are for the library to find. */
static int narrow(const double *from, float *to, npy_intp n) {
    for (npy_intp i = 0; i < n; i++) {
        double size = fabs(from[i]);
        if (size > (double)FLT_MAX && size < (double)INFINITY) return -1;
        to[i] = (float)from[i];
    }
    return 0;
}

/* A C-contiguous float32 copy, or NULL: without an exception if a value is too large.
 * Of other types than double and long double float32 holds every magnitude. */
static PyArrayObject *converted(PyArrayObject *array) {
    const int flags = NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST;
    char kind = PyArray_DESCR(array)->kind;
    if (kind != 'f' || PyArray_ITEMSIZE(array) <= (int)sizeof(float))
        return (PyArrayObject *)PyArray_FROMANY((PyObject *)array, NPY_FLOAT32, 0, 0,
                                                flags);
    PyArrayObject *wide =
        (PyArrayObject *)PyArray_FROMANY((PyObject *)array, NPY_DOUBLE, 0, 0, flags);
    if (!wide) return NULL;
    PyArrayObject *copy = (PyArrayObject *)PyArray_SimpleNew(
        PyArray_NDIM(wide), PyArray_DIMS(wide), NPY_FLOAT32);
    if (copy && narrow(PyArray_DATA(wide), PyArray_DATA(copy), PyArray_SIZE(wide)) < 0)
        Py_CLEAR(copy);
    Py_DECREF(wide);
    return copy;
}

/* One vector may stand for many, and a matrix of one row for a vector. */
static bool has_rank(PyArrayObject *array, rvpy_rank rank, bool either) {
    int ndim = PyArray_NDIM(array);
    if (ndim == (int)rank) return true;
    if (!either) return false;
    return rank == RVPY_VECTOR ? ndim == 2 && PyArray_DIM(array, 0) == 1
                               : ndim == 1 && PyArray_DIM(array, 0) > 0;
}

/* An array of a sequence of numbers or of vectors. */
static PyArrayObject *array_of_sequence(PyObject *arg, const char *name) {
    PyArrayObject *found = as_array(arg);
    if (!found && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        rvpy_refuse("uneven", "(Os)", arg, name);
    }
    return found;
}

/* `array` (stolen) as it lies, or a copy if the call makes one. */
static int take_array(PyObject *arg, PyArrayObject *array, const char *name,
                      rvpy_rank rank, how how, bool either, rvpy_array *out) {
    PyArrayObject *taken = NULL;
    if (is_exact(array, rank)) {
        taken = array;
        Py_INCREF(taken);
    } else if (how == CONVERT && is_real(array) && has_rank(array, rank, either)) {
        taken = converted(array);
    }
    if (!taken && !PyErr_Occurred()) refuse_floats(arg, array, name, rank, how);
    Py_DECREF(array);
    if (!taken) return -1;
    hold(taken, out);
    if (PyArray_NDIM(taken) == 1) {
        out->shape[1] = out->shape[0];
        out->shape[0] = 1;
    }
    return 0;
}

static int take_floats(PyObject *arg, const char *name, rvpy_rank rank, how how,
                       bool either, rvpy_array *out) {
    if (refuse_masked(arg, name, "floats") < 0) return -1;
    PyArrayObject *array = NULL;
    if (PyArray_Check(arg)) {
        array = (PyArrayObject *)arg;
        Py_INCREF(array);
    } else if (!is_plain(arg) && exports_array(arg)) {
        array = as_array(arg);
    } else if (PySequence_Check(arg) && !PyUnicode_Check(arg) && !PyDict_Check(arg)) {
        array = array_of_sequence(arg, name);
        how = CONVERT; /* a copy has been made anyway */
    } else {
        rvpy_refuse("not_floats", "(Osi)", arg, name, (int)rank);
    }
    return array ? take_array(arg, array, name, rank, how, either, out) : -1;
}

int rvpy_take_floats(PyObject *arg, const char *name, rvpy_rank rank, rvpy_array *out) {
    return take_floats(arg, name, rank, STRICT, false, out);
}

int rvpy_take_vectors(PyObject *arg, const char *name, rvpy_rank rank, bool convert,
                      rvpy_array *out) {
    how how = convert ? CONVERT : OFFER_CONVERSION;
    return take_floats(arg, name, rank, how, false, out);
}

int rvpy_take_queries(PyObject *arg, const char *name, rvpy_rank rank, rvpy_array *out) {
    return take_floats(arg, name, rank, CONVERT, true, out);
}

/* ---- ids -------------------------------------------------------------------- */

/* As in ruvector/_advice.py. */
static const char *const use_names[] = {[RVPY_IDS_OF_ROWS] = "rows",
                                        [RVPY_IDS_WANTED] = "wanted",
                                        [RVPY_IDS_STORED] = "stored",
                                        [RVPY_IDS_BATCH] = "wanted"};

static int refuse_ids(PyObject *arg, PyArrayObject *array, const char *name,
                      rvpy_ids use) {
    return rvpy_refuse("ids", "(OOssO)", arg, array, name, use_names[use],
                       use == RVPY_IDS_BATCH ? Py_True : Py_False);
}

/* Negative numbers are no ids: refused, or RV_NO_ID, which no row has. `array` is of
 * int64 and may be the caller's own. */
static int without_negatives(PyArrayObject **array, const char *name, rvpy_ids use) {
    const int64_t *values = PyArray_DATA(*array);
    npy_intp n = PyArray_SIZE(*array);
    int64_t all = 0; /* negative if any is: no branch for each of many ids */
    for (npy_intp i = 0; i < n; i++) all |= values[i];
    if (all >= 0) return 0;
    if (use == RVPY_IDS_OF_ROWS) {
        npy_intp i = 0;
        while (values[i] >= 0) i++;
        PyErr_Format(PyExc_ValueError, "%s: %lld (position %zd) is not in 0..2^64-2",
                     name, (long long)values[i], (Py_ssize_t)i);
        return -1;
    }
    PyArrayObject *copy = (PyArrayObject *)PyArray_NewCopy(*array, NPY_CORDER);
    if (!copy) return -1;
    int64_t *ids = PyArray_DATA(copy);
    for (npy_intp i = 0; i < n; i++)
        if (ids[i] < 0) ids[i] = -1; /* the bits of RV_NO_ID */
    Py_DECREF(*array);
    *array = copy;
    return 0;
}

static int take_integers(PyArrayObject *array, const char *name, rvpy_ids use,
                         rvpy_array *out) {
    bool is_signed = PyArray_DESCR(array)->kind == 'i';
    PyArrayObject *wide = (PyArrayObject *)PyArray_FROMANY(
        (PyObject *)array, is_signed ? NPY_INT64 : NPY_UINT64, 1, 1, NPY_ARRAY_CARRAY_RO);
    if (!wide) return -1;
    if (is_signed && without_negatives(&wide, name, use) < 0) {
        Py_DECREF(wide);
        return -1;
    }
    hold(wide, out);
    out->came_as_ids = !is_signed && PyArray_ITEMSIZE(array) == (int)sizeof(uint64_t);
    return 0;
}

/* By hand, because NumPy makes floats of [1, 2**63]. */
static int take_id_list(PyObject *list, const char *name, rvpy_ids use, rvpy_array *out) {
    Py_ssize_t n = PyList_Size(list);
    void *data;
    PyObject *array = rvpy_array_new(RVPY_U64, n, -1, &data);
    if (!array) return -1;
    uint64_t *ids = data;
    for (Py_ssize_t i = 0; i < n; i++) {
        int result = rvpy_parse_item(PyList_GetItem(list, i), &ids[i]);
        if (result == RVPY_IN_RANGE) continue;
        if (result == RVPY_OUT_OF_RANGE && use != RVPY_IDS_OF_ROWS) {
            ids[i] = RV_NO_ID;
            continue;
        }
        if (result == RVPY_OUT_OF_RANGE)
            PyErr_Format(PyExc_ValueError, "%s: %S (position %zd) is not in 0..2^64-2",
                         name, PyList_GetItem(list, i), i);
        else if (result == RVPY_NO_INT)
            rvpy_refuse("id_item", "(OnssO)", list, i, name, use_names[use],
                        use == RVPY_IDS_BATCH ? Py_True : Py_False);
        Py_DECREF(array);
        return -1;
    }
    hold((PyArrayObject *)array, out);
    return 0;
}

static int take_id_array(PyObject *arg, PyArrayObject *array, const char *name,
                         rvpy_ids use, rvpy_array *out) {
    char kind = PyArray_DESCR(array)->kind;
    bool flat = PyArray_NDIM(array) == 1;
    if (flat && (kind == 'u' || kind == 'i')) return take_integers(array, name, use, out);
    bool empty = flat && PyArray_SIZE(array) == 0 && kind != 'b'; /* np.array([]) */
    if (!empty && (!flat || kind != 'O')) return refuse_ids(arg, array, name, use);
    PyObject *list = PyArray_ToList(array);
    int result = list ? take_id_list(list, name, use, out) : -1;
    Py_XDECREF(list);
    return result;
}

/* Rows get their ids by position, so what has no order is refused. */
static bool is_sequence_of_ids(PyObject *arg, rvpy_ids use) {
    if (PyUnicode_Check(arg) || PyBytes_Check(arg) || PyByteArray_Check(arg) ||
        PyDict_Check(arg))
        return false;
    return use != RVPY_IDS_OF_ROWS || !PyAnySet_Check(arg);
}

int rvpy_take_ids(PyObject *arg, const char *name, rvpy_ids use, rvpy_array *out) {
    bool good = is_sequence_of_ids(arg, use);
    if (refuse_masked(arg, name, use_names[use]) < 0) return -1;
    if (good && !is_plain(arg) && (PyArray_Check(arg) || exports_array(arg))) {
        PyArrayObject *array = as_array(arg);
        if (!array) return -1;
        int result = take_id_array(arg, array, name, use, out);
        Py_DECREF(array);
        return result;
    }
    PyObject *list = good ? PySequence_List(arg) : NULL;
    if (!list) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) return -1;
        PyErr_Clear();
        return rvpy_refuse("not_ids", "(Oss)", arg, name, use_names[use]);
    }
    int result = take_id_list(list, name, use, out);
    Py_DECREF(list);
    return result;
}

int rvpy_take_id_or_ids(PyObject *arg, const char *name, rvpy_ids use, rvpy_array *out) {
    if (!PyLong_Check(arg) && !PyArray_IsScalar(arg, Integer))
        return rvpy_take_ids(arg, name, use, out);
    PyObject *list = PyList_New(0);
    if (!list) return -1;
    int result = PyList_Append(list, arg);
    if (result == 0) result = take_id_list(list, name, use, out);
    Py_DECREF(list);
    return result;
}

/* ---- allowed rows --------------------------------------------------------------- */

static int take_mask(PyObject *arg, Py_ssize_t rows, rvpy_array *out, rvpy_allow *form) {
    if (refuse_masked(arg, "allow", "mask") < 0) return -1;
    PyArrayObject *mask =
        (PyArrayObject *)PyArray_FromAny(arg, NULL, 0, 0, NPY_ARRAY_CARRAY_RO, NULL);
    if (!mask) return -1;
    bool bools = PyArray_TYPE(mask) == NPY_BOOL;
    int ndim = PyArray_NDIM(mask);
    if (bools &&
        (ndim == 1 || (ndim == 2 && rows >= 0 && PyArray_DIM(mask, 0) == rows))) {
        *form = ndim == 1 ? RVPY_ALLOW_MASK : RVPY_ALLOW_MASKS;
        hold(mask, out);
        return 0;
    }
    rvpy_refuse("mask", "(OO)", mask, rows >= 0 ? Py_True : Py_False);
    Py_DECREF(mask);
    return -1;
}

int rvpy_take_allow(PyObject *arg, Py_ssize_t rows, rvpy_array *out, rvpy_allow *form) {
    rvpy_ids use = rows < 0 ? RVPY_IDS_WANTED : RVPY_IDS_BATCH;
    bool mask = false;
    *form = RVPY_ALLOW_IDS;
    if (PyArray_Check(arg)) {
        mask = PyArray_TYPE((PyArrayObject *)arg) == NPY_BOOL;
    } else if (is_plain(arg)) {
        PyObject *first = PySequence_Size(arg) > 0 ? PySequence_GetItem(arg, 0) : NULL;
        mask = first && is_numpy_bool(first);
        Py_XDECREF(first);
    } else if (is_sequence_of_ids(arg, use) && exports_array(arg)) {
        PyArrayObject *array = as_array(arg);
        if (!array) return -1;
        int result = PyArray_TYPE(array) == NPY_BOOL
                         ? take_mask((PyObject *)array, rows, out, form)
                         : take_id_array(arg, array, "allow", use, out);
        Py_DECREF(array);
        return result;
    }
    return mask ? take_mask(arg, rows, out, form) : rvpy_take_ids(arg, "allow", use, out);
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
