/*
 * index_rows.c - the rows of an index seen from Python: one vector by id, all of
 * them as arrays, and iteration.
 */
#include "rvpy.h"

/* ---- one row ---------------------------------------------------------------- */

PyObject *rvpy_index_item(PyObject *self, PyObject *id_arg) {
    uint64_t id;
    rv_index_info info;
    if (rvpy_parse_id(id_arg, "id", &id) < 0) return NULL;
    rvpy_info(self, &info);
    void *out;
    PyObject *vector = rvpy_array_new(RVPY_F32, (Py_ssize_t)info.dim, -1, &out);
    if (!vector) return NULL;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_get(rvpy_handle(self), id, out, &error);
    PyEval_RestoreThread(thread);
    if (status == RV_OK) return rvpy_array_lock(vector);
    Py_DECREF(vector);
    return rvpy_raise(rvpy_state_of(self), &error, NULL);
}

/* As for a dict or a set of ints: what can be no id is simply not in it. */
int rvpy_index_contains(PyObject *self, PyObject *id_arg) {
    uint64_t id;
    if (rvpy_parse_id(id_arg, "id", &id) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) return -1;
        PyErr_Clear();
        return 0;
    }
    PyThreadState *thread = PyEval_SaveThread();
    int found = rv_index_contains(rvpy_handle(self), id);
    PyEval_RestoreThread(thread);
    return found;
}

/* ---- all rows --------------------------------------------------------------- */

/* What copy_rows should fill; NULL where not wanted. */
typedef struct wanted {
    PyObject *ids, *norms, *codes, *vectors;
    bool halves; /* the vectors are a view of float16 */
} wanted;

enum { IDS = 1, NORMS = 2, CODES = 4, VECTORS = 8 };

static void drop(wanted *w) {
    Py_CLEAR(w->ids);
    Py_CLEAR(w->norms);
    Py_CLEAR(w->codes);
    Py_CLEAR(w->vectors);
}

/* New arrays over the live rows: every row that stays from the call to its return is
 * among them. 0, -1 with an exception, or 1 if a writer left fewer rows between asking
 * for their number and copying. */
static int copy_once(PyObject *self, int what, wanted *w) {
    rv_index_info info;
    rvpy_info(self, &info);
    Py_ssize_t n = (Py_ssize_t)info.n, dim = (Py_ssize_t)info.dim;
    Py_ssize_t code_bytes = (Py_ssize_t)info.code_bytes;
    void *ids = NULL, *norms = NULL, *codes = NULL, *vectors = NULL;
    *w = (wanted){0};
    if ((what & IDS && !(w->ids = rvpy_array_new(RVPY_U64, n, -1, &ids))) ||
        (what & NORMS && !(w->norms = rvpy_array_new(RVPY_F32, n, -1, &norms))) ||
        (what & CODES && !(w->codes = rvpy_array_new(RVPY_U8, n, code_bytes, &codes))) ||
        (what & VECTORS && !(w->vectors = rvpy_array_new(RVPY_F32, n, dim, &vectors)))) {
        drop(w);
        return -1;
    }
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_copy_rows(rvpy_handle(self), 0, info.n, ids, norms, codes,
                                          vectors, &error);
    PyEval_RestoreThread(thread);
    if (status == RV_OK) return 0;
    drop(w);
    if (status == RV_ERR_NOT_FOUND) return 1;
    rvpy_raise(rvpy_state_of(self), &error, NULL);
    return -1;
}

static int copy_rows(PyObject *self, int what, wanted *w) {
    int result;
    while ((result = copy_once(self, what, w)) > 0)
        if (PyErr_CheckSignals() < 0) return -1;
    return result;
}

PyObject *rvpy_index_ids(PyObject *self, void *unused) {
    (void)unused;
    wanted w;
    return copy_rows(self, IDS, &w) < 0 ? NULL : w.ids;
}

PyObject *rvpy_index_norms(PyObject *self, void *unused) {
    (void)unused;
    wanted w;
    return copy_rows(self, NORMS, &w) < 0 ? NULL : w.norms;
}

PyObject *rvpy_index_codes(PyObject *self, void *unused) {
    (void)unused;
    wanted w;
    return copy_rows(self, CODES, &w) < 0 ? NULL : w.codes;
}

/* ---- the matrix ----------------------------------------------------------------- */

/* A new reference, or NULL. *gaps: removed rows lie between, so there is no view. */
static PyObject *take_view(PyObject *self, bool *gaps) {
    rv_view view = RV_VIEW_DEFAULT;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_index_view(rvpy_handle(self), &view, &error);
    PyEval_RestoreThread(thread);
    *gaps = status == RV_ERR_ARGUMENT;
    if (status == RV_OK) return rvpy_array_view(&view);
    return *gaps ? NULL : rvpy_raise(rvpy_state_of(self), &error, NULL);
}

static PyObject *take_copy(PyObject *self) {
    wanted w;
    return copy_rows(self, VECTORS, &w) < 0 ? NULL : w.vectors;
}

static int check_no_copy(bool native, rvpy_dtype kept, bool gaps) {
    if (native && !gaps) return 0;
    if (gaps)
        PyErr_SetString(PyExc_ValueError,
                        "removed rows lie between the vectors, so this would be a copy; "
                        "vacuum() first");
    else
        PyErr_Format(PyExc_ValueError, "the vectors are float%s: another dtype is a copy",
                     kept == RVPY_F16 ? "16" : "32");
    return -1;
}

/* A view of what is kept, where that is what was asked for. The conversion of another
 * dtype is a copy; copy=False refuses every copy. */
PyObject *rvpy_index_array(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"dtype", "copy", NULL};
    PyObject *dtype = NULL, *copy = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:__array__", keywords, &dtype,
                                     &copy))
        return NULL;
    rv_index_info info;
    rvpy_info(self, &info);
    rvpy_dtype kept = info.originals_bits == 16 ? RVPY_F16 : RVPY_F32;
    int plain = rvpy_given(dtype) ? rvpy_dtype_is(dtype, RVPY_F32) : 1;
    int native = rvpy_given(dtype) ? rvpy_dtype_is(dtype, kept) : kept == RVPY_F32;
    int wants_copy = rvpy_given(copy) ? PyObject_IsTrue(copy) : -1;
    if (plain < 0 || native < 0 || (wants_copy < 0 && PyErr_Occurred())) return NULL;
    if (wants_copy == 0 && check_no_copy(native, kept, false) < 0) return NULL;
    bool gaps = false, viewed = native && wants_copy != 1;
    PyObject *array = viewed || !plain ? take_view(self, &gaps) : NULL;
    if (!array && PyErr_Occurred()) return NULL;
    if (wants_copy == 0 && check_no_copy(native, kept, gaps) < 0) return NULL;
    if (array && viewed) return array;
    if (!array) array = take_copy(self);
    if (array && plain && !native && wants_copy != 1) rvpy_array_lock(array);
    if (!array || plain) return array;
    PyObject *converted = PyObject_CallMethod(array, "astype", "O", dtype);
    Py_DECREF(array);
    return converted;
}

/* ---- iteration ------------------------------------------------------------------ */

/* Ids and vectors of the moment the iteration began. */
typedef struct iterator {
    PyObject ob_base;
    PyObject *ids, *vectors;
    Py_ssize_t at, n;
    bool halves; /* as in wanted */
} iterator;

/* The view and the ids come from two calls; they belong together if no writer
 * came between, else both are copied in one. */
static int snapshot(PyObject *self, wanted *w) {
    rv_index_info before, after;
    bool gaps;
    rvpy_info(self, &before);
    PyObject *view = take_view(self, &gaps);
    if (!view && PyErr_Occurred()) return -1;
    if (view) {
        if (copy_rows(self, IDS, w) < 0) {
            Py_DECREF(view);
            return -1;
        }
        rvpy_info(self, &after);
        w->vectors = view;
        w->halves = before.originals_bits == 16;
        if (before.changes == after.changes) return 0;
        drop(w);
    }
    if (copy_rows(self, IDS | VECTORS, w) < 0) return -1;
    rvpy_array_lock(w->vectors);
    return 0;
}

PyObject *rvpy_index_iter(PyObject *self) {
    PyTypeObject *type = rvpy_state_of(self)->iterator_type;
    wanted w = {0};
    if (snapshot(self, &w) < 0) return NULL;
    iterator *it = (iterator *)PyType_GenericAlloc(type, 0);
    if (!it) {
        drop(&w);
        return NULL;
    }
    it->ids = w.ids;
    it->vectors = w.vectors;
    it->halves = w.halves;
    it->n = PyObject_Size(w.ids);
    return (PyObject *)it;
}

/* The vector at hand as float32, read-only. */
static PyObject *next_vector(const iterator *it) {
    PyObject *vector = PySequence_GetItem(it->vectors, it->at);
    if (!vector || !it->halves) return vector;
    PyObject *wide = PyObject_CallMethod(vector, "astype", "s", "f4");
    Py_DECREF(vector);
    return wide ? rvpy_array_lock(wide) : NULL;
}

static PyObject *iterator_next(PyObject *self) {
    iterator *it = (iterator *)self;
    if (it->at >= it->n) return NULL;
    PyObject *id = PySequence_GetItem(it->ids, it->at);
    PyObject *number = id ? PyNumber_Index(id) : NULL;
    PyObject *vector = number ? next_vector(it) : NULL;
    PyObject *pair = vector ? PyTuple_Pack(2, number, vector) : NULL;
    Py_XDECREF(id);
    Py_XDECREF(number);
    Py_XDECREF(vector);
    if (pair) it->at++;
    return pair;
}

static PyObject *iterator_length_hint(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromSsize_t(((iterator *)self)->n - ((iterator *)self)->at);
}

static int iterator_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((iterator *)self)->ids);
    Py_VISIT(((iterator *)self)->vectors);
    return 0;
}

static int iterator_clear(PyObject *self) {
    Py_CLEAR(((iterator *)self)->ids);
    Py_CLEAR(((iterator *)self)->vectors);
    ((iterator *)self)->n = 0;
    return 0;
}

static void iterator_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    iterator_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

int rvpy_iterator_init(rvpy_state *state) {
    static PyMethodDef methods[] = {
        {"__length_hint__", iterator_length_hint, METH_NOARGS, "Pairs still to come."},
        {NULL, NULL, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "Iterator over (id, vector) pairs."},
        {Py_tp_dealloc, iterator_dealloc},
        {Py_tp_traverse, iterator_traverse},
        {Py_tp_clear, iterator_clear},
        {Py_tp_iter, PyObject_SelfIter},
        {Py_tp_iternext, iterator_next},
        {Py_tp_methods, methods},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "ruvector._core.IndexIterator",
        .basicsize = sizeof(iterator),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    state->iterator_type = (PyTypeObject *)PyType_FromSpec(&spec);
    return state->iterator_type ? 0 : -1;
}
