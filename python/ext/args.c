/*
 * args.c - numbers and names that come as Python arguments. Each message names
 * the argument, what came and what is wanted.
 */
#include "rvpy.h"

#include <math.h>

PyObject *rvpy_type_name(PyObject *object) {
    return PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__name__");
}

void rvpy_wrong_type(const char *name, const char *wanted, PyObject *arg) {
    PyObject *type = rvpy_type_name(arg);
    if (type)
        PyErr_Format(PyExc_TypeError, "%s: expected %s, got %U", name, wanted, type);
    Py_XDECREF(type);
}

/* ---- texts ------------------------------------------------------------------ */

/* A UnicodeEncodeError names neither the argument nor, to most people, the fault. */
static void explain_surrogate(PyObject *arg, const char *name) {
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return;
    PyObject *type, *value, *traceback;
    Py_ssize_t place;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (PyUnicodeEncodeError_GetStart(value, &place) == 0)
        PyErr_Format(PyExc_ValueError, "%s: %R holds a lone surrogate at character %zd",
                     name, arg, place);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

PyObject *rvpy_utf8(PyObject *text, const char *name) {
    PyObject *bytes = PyUnicode_AsUTF8String(text);
    if (!bytes) explain_surrogate(text, name);
    return bytes;
}

PyObject *rvpy_path(PyObject *path, const char *name) {
    PyObject *bytes;
    if (PyUnicode_FSConverter(path, &bytes)) return bytes;
    explain_surrogate(path, name);
    return NULL;
}

/* ---- numbers and names ------------------------------------------------------ */

/* A new int, or NULL, without an exception if it is none. bool is an int to Python, but
 * never meant as one here. */
static PyObject *try_int(PyObject *arg) {
    if (!PyIndex_Check(arg) || PyBool_Check(arg)) return NULL;
    PyObject *value = PyNumber_Index(arg);
    if (!value && PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Clear(); /* an array with __index__, say */
    return value;
}

static PyObject *as_int(PyObject *arg, const char *name) {
    PyObject *value = try_int(arg);
    if (!value && !PyErr_Occurred()) rvpy_wrong_type(name, "an int", arg);
    return value;
}

/* 0 and *out, 1 if negative, 2 if too large, -1 on error. */
static int to_u64(PyObject *value, uint64_t *out) {
    *out = PyLong_AsUnsignedLongLong(value);
    if (!PyErr_Occurred()) return 0;
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return -1;
    PyErr_Clear();
    PyObject *zero = PyLong_FromLong(0);
    if (!zero) return -1;
    int negative = PyObject_RichCompareBool(value, zero, Py_LT);
    Py_DECREF(zero);
    return negative < 0 ? -1 : negative ? 1 : 2;
}

int rvpy_parse_u64(PyObject *arg, const char *name, uint64_t *out) {
    PyObject *value = as_int(arg, name);
    if (!value) return -1;
    int outside = to_u64(value, out);
    if (outside > 0)
        PyErr_Format(PyExc_ValueError, "%s: %S is not in 0..2^64-1", name, value);
    Py_DECREF(value);
    return outside ? -1 : 0;
}

int rvpy_parse_id(PyObject *arg, const char *name, uint64_t *out) {
    PyObject *value = as_int(arg, name);
    if (!value) return -1;
    int outside = to_u64(value, out);
    if (outside == 0 && *out == RV_NO_ID) outside = 2;
    if (outside > 0)
        PyErr_Format(PyExc_ValueError, "%s: %S is not in 0..2^64-2", name, value);
    Py_DECREF(value);
    return outside ? -1 : 0;
}

rvpy_item rvpy_parse_item(PyObject *arg, uint64_t *out) {
    PyObject *value = try_int(arg);
    if (!value) return PyErr_Occurred() ? RVPY_FAILED : RVPY_NO_INT;
    int outside = to_u64(value, out);
    Py_DECREF(value);
    if (outside < 0) return RVPY_FAILED;
    return outside ? RVPY_OUT_OF_RANGE : RVPY_IN_RANGE;
}

int rvpy_refuse_flags(PyObject *arg, const char *name, const rvpy_array *ids,
                      uint64_t rows) {
    const uint64_t *values = ids->data;
    uint64_t n = (uint64_t)ids->shape[0], above = 0;
    if (n < 2 || (n == 2 && values[0] != values[1])) return 0;
    if (ids->came_as_ids && n != rows) return 0;
    for (uint64_t i = 0; i < n && above <= 1; i++) above |= values[i];
    if (above > 1) return 0;
    return rvpy_refuse("flags", "(OsKO)", arg, name, (unsigned long long)n,
                       n == rows ? Py_True : Py_False);
}

int rvpy_parse_k(PyObject *arg, uint64_t *out) {
    PyObject *value = as_int(arg, "k");
    if (!value) return -1;
    int outside = to_u64(value, out);
    if (outside == 2) {
        *out = UINT64_MAX;
        outside = 0;
    }
    if (outside == 1 || (outside == 0 && *out == 0)) {
        PyErr_Format(PyExc_ValueError, "k must be at least 1, got %S", value);
        outside = -1;
    }
    Py_DECREF(value);
    return outside;
}

/* An int in 1..max. The message goes on with what may stand in its place. */
static int parse_range(PyObject *arg, const char *name, uint64_t max, const char *or_else,
                       uint64_t *out) {
    PyObject *value = as_int(arg, name);
    if (!value) return -1;
    int outside = to_u64(value, out);
    if (outside == 0 && *out >= 1 && *out <= max) {
        Py_DECREF(value);
        return 0;
    }
    if (outside >= 0)
        PyErr_Format(PyExc_ValueError, "%s must be 1..%llu%s, got %S", name,
                     (unsigned long long)max, or_else, value);
    Py_DECREF(value);
    return -1;
}

int rvpy_parse_count(PyObject *arg, const char *name, uint64_t max, uint64_t *out) {
    *out = 0;
    if (!rvpy_given(arg)) return 0;
    return parse_range(arg, name, max, ", or None for the default", out);
}

int rvpy_parse_bits(PyObject *arg, uint32_t *out) {
    uint64_t bits;
    if (!arg) return 0;
    if (parse_range(arg, "bits", RVPY_MAX_BITS, "", &bits) < 0) return -1;
    *out = (uint32_t)bits;
    return 0;
}

int rvpy_parse_nprobe(PyObject *arg, uint32_t *out) {
    static const char or_else[] = ", 'all', or None for the default";
    uint64_t lists;
    *out = 0;
    if (!rvpy_given(arg)) return 0;
    if (PyUnicode_Check(arg)) {
        *out = RV_ALL_LISTS;
        if (PyUnicode_CompareWithASCIIString(arg, "all") == 0) return 0;
        PyErr_Format(PyExc_ValueError, "nprobe must be 1..%u%s, got %R", RV_MAX_LISTS,
                     or_else, arg);
        return -1;
    }
    if (parse_range(arg, "nprobe", RV_MAX_LISTS, or_else, &lists) < 0) return -1;
    *out = (uint32_t)lists;
    return 0;
}

int rvpy_parse_double(PyObject *arg, const char *name, double *out) {
    *out = PyFloat_AsDouble(arg);
    if (*out != -1.0 || !PyErr_Occurred()) return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError)) rvpy_wrong_type(name, "a float", arg);
    return -1;
}

int rvpy_parse_epsilon(PyObject *arg, float *out) {
    double value;
    if (!rvpy_given(arg)) return 0;
    if (rvpy_parse_double(arg, "epsilon", &value) < 0) return -1;
    float narrow = (float)value;
    if (!(narrow > 0) || isinf(narrow)) {
        PyErr_Format(PyExc_ValueError, "epsilon must be a finite number above 0, got %R",
                     arg);
        return -1;
    }
    *out = narrow;
    return 0;
}

static const char *const metric_names[] = {"l2", "ip", "cosine"}; /* by rv_metric */

const char *rvpy_metric_name(rv_metric metric) { return metric_names[metric]; }

int rvpy_parse_metric(PyObject *arg, rv_metric *out) {
    if (!arg) return 0;
    if (!PyUnicode_Check(arg)) {
        rvpy_wrong_type("metric", "a str", arg);
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (PyUnicode_CompareWithASCIIString(arg, metric_names[i]) != 0) continue;
        *out = (rv_metric)i;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "metric must be 'l2', 'ip' or 'cosine', got %R", arg);
    return -1;
}

int rvpy_parse_originals(PyObject *arg, uint32_t *out) {
    if (!arg) return 0;
    if (!PyUnicode_Check(arg)) {
        rvpy_wrong_type("originals", "a str", arg);
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(arg, "f32") == 0) {
        *out = 32;
        return 0;
    }
    if (PyUnicode_CompareWithASCIIString(arg, "f16") == 0) {
        *out = 16;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "originals must be 'f32' or 'f16', got %R", arg);
    return -1;
}

int rvpy_parse_verify(PyObject *arg, rv_verify *out) {
    *out = RV_VERIFY_AUTO;
    if (!rvpy_given(arg)) return 0;
    if (!PyBool_Check(arg)) {
        rvpy_wrong_type("verify", "True, False or None", arg);
        return -1;
    }
    *out = arg == Py_True ? RV_VERIFY_ALWAYS : RV_VERIFY_NEVER;
    return 0;
}

/* ---- options of indexes ----------------------------------------------------- */

static const char *const class_names[RVPY_N_KINDS] = {
    "FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex"};

const char *rvpy_class_name(rv_kind kind) { return class_names[kind]; }

int rvpy_check_option(rv_kind kind, unsigned kinds, const char *method,
                      const char *option, PyObject *arg) {
    if (!rvpy_given(arg) || kinds >> kind & 1) return 0;
    PyErr_Format(PyExc_TypeError, "%s.%s() takes no %s: %s", class_names[kind], method,
                 option, kind == RV_FLAT ? "its search is exact" : "it keeps codes only");
    return -1;
}

PyObject *rvpy_nprobe(uint32_t nprobe, uint32_t n_lists) {
    if (nprobe >= n_lists) return PyUnicode_FromString("all");
    return PyLong_FromUnsignedLong(nprobe);
}
