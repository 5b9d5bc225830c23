/*
 * index_type.c - the four index classes: one C struct, one set of functions, one
 * type spec each. The classes differ in their docstrings, in the options they
 * take and in what they can tell about their codes.
 */
#include "rvpy.h"

#include <stddef.h>
#include <structmember.h>

#include "index_docs.h"

/* ---- the object ------------------------------------------------------------- */

static PyObject *index_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args;
    (void)kwargs;
    rvpy_class class;
    if (rvpy_class_of((PyObject *)type, &class) < 0) return NULL;
    const char *name = rvpy_class_name(class.kind);
    return PyErr_Format(PyExc_TypeError,
                        "use %s.build(vectors), %s.load(path) or %s.from_bytes(data)",
                        name, name, name);
}

static int index_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((rvpy_index *)self)->module);
    return 0;
}

static void index_dealloc(PyObject *self) {
    rvpy_index *object = (rvpy_index *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (object->weak_refs) PyObject_ClearWeakRefs(self);
    rv_index_free(object->index);
    Py_XDECREF(object->module);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* ---- protocol --------------------------------------------------------------- */

static Py_ssize_t index_length(PyObject *self) {
    rv_index_info info;
    rvpy_info(self, &info);
    return (Py_ssize_t)info.n;
}

static uint64_t memory_total(PyObject *self) {
    rv_memory_usage memory = RV_MEMORY_USAGE_DEFAULT;
    PyThreadState *thread = PyEval_SaveThread();
    (void)rv_index_memory(rvpy_handle(self), &memory, NULL);
    PyEval_RestoreThread(thread);
    return memory.total;
}

static PyObject *index_repr(PyObject *self) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    rv_index_info info;
    rvpy_info(self, &info);
    double memory = (double)memory_total(self);
    int unit = 0;
    while (memory >= 999.95 && unit < 4) {
        memory /= 1000;
        unit++;
    }
    char amount[32];
    PyOS_snprintf(amount, sizeof amount, unit ? "%.1f" : "%.0f", memory);
    char options[80] = "";
    int length = 0;
    if (info.bits > 1)
        length = PyOS_snprintf(options, sizeof options, ", bits=%u", info.bits);
    if (info.originals_bits == 16)
        length += PyOS_snprintf(options + length, sizeof options - (size_t)length,
                                ", originals='f16'");
    if (info.nprobe < info.n_lists)
        PyOS_snprintf(options + length, sizeof options - (size_t)length,
                      ", n_lists=%u, nprobe=%u", info.n_lists, info.nprobe);
    return PyUnicode_FromFormat("%s(n=%llu, dim=%u, metric='%s'%s, memory=%s %s)",
                                rvpy_class_name(info.kind), (unsigned long long)info.n,
                                info.dim, rvpy_metric_name(info.metric), options, amount,
                                units[unit]);
}

static PyObject *index_compare(PyObject *self, PyObject *other, int op) {
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(self) != Py_TYPE(other)) {
        Py_INCREF(Py_NotImplemented);
        return Py_NotImplemented;
    }
    int equal = 1;
    if (self != other) {
        rv_error error = {0};
        PyThreadState *thread = PyEval_SaveThread();
        equal = rv_index_equal(rvpy_handle(self), rvpy_handle(other));
        rv_status status = rv_index_check_file(rvpy_handle(self), &error);
        if (status == RV_OK) status = rv_index_check_file(rvpy_handle(other), &error);
        PyEval_RestoreThread(thread);
        if (status != RV_OK) return rvpy_raise(rvpy_state_of(self), &error, NULL);
    }
    return PyBool_FromLong((equal != 0) == (op == Py_EQ));
}

/* ---- attributes ------------------------------------------------------------- */

static PyObject *get_dim(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return PyLong_FromUnsignedLong(info.dim);
}

static PyObject *get_metric(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return PyUnicode_FromString(rvpy_metric_name(info.metric));
}

static PyObject *get_seed(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return PyLong_FromUnsignedLongLong(info.seed);
}

static PyObject *get_version(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return PyLong_FromUnsignedLongLong(info.changes);
}

static PyObject *get_epsilon(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return PyFloat_FromDouble((double)info.epsilon);
}

static PyObject *get_rerank_factor(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    if (info.rerank_factor == 0) Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(info.rerank_factor);
}

static PyObject *get_originals(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    if (!info.has_vectors) Py_RETURN_NONE;
    return PyUnicode_FromString(info.originals_bits == 16 ? "f16" : "f32");
}

static PyObject *get_n_lists(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return PyLong_FromUnsignedLong(info.n_lists);
}

static PyObject *get_bits(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return PyLong_FromUnsignedLong(info.bits);
}

static PyObject *get_nprobe(PyObject *self, void *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    return rvpy_nprobe(info.nprobe, info.n_lists);
}

static PyObject *get_memory_bytes(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(memory_total(self));
}

static PyObject *memory_usage(PyObject *self, PyObject *unused) {
    (void)unused;
    rv_memory_usage m = RV_MEMORY_USAGE_DEFAULT;
    PyThreadState *thread = PyEval_SaveThread();
    (void)rv_index_memory(rvpy_handle(self), &m, NULL);
    PyEval_RestoreThread(thread);
    return Py_BuildValue(
        "{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "codes", (unsigned long long)m.codes,
        "blocks", (unsigned long long)m.blocks, "vectors", (unsigned long long)m.vectors,
        "ids", (unsigned long long)m.ids, "rotation", (unsigned long long)m.rotation,
        "slack", (unsigned long long)m.slack, "total", (unsigned long long)m.total,
        "mapped", (unsigned long long)m.mapped);
}

static PyObject *rotation(PyObject *self, PyObject *unused) {
    (void)unused;
    rv_index_info info;
    rvpy_info(self, &info);
    unsigned long long fields[] = {info.dim, info.code_bytes * 8ull / info.bits,
                                   info.seed};
    PyObject *value = PyStructSequence_New(rvpy_state_of(self)->rotation_type);
    for (Py_ssize_t i = 0; value && i < 3; i++) {
        PyObject *field = PyLong_FromUnsignedLongLong(fields[i]);
        if (field)
            PyStructSequence_SetItem(value, i, field);
        else
            Py_CLEAR(value);
    }
    return value;
}

/* ---- tables --------------------------------------------------------------------- */

#define KEYWORDS(function)                                                               \
    (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

#define METHODS(build_doc, search_doc, batch_doc, tune_doc)                              \
    {"build", KEYWORDS(rvpy_index_build) | METH_CLASS, build_doc},                       \
        {"search", KEYWORDS(rvpy_index_search), search_doc},                             \
        {"search_batch", KEYWORDS(rvpy_index_search_batch), batch_doc},                  \
        {"tune", KEYWORDS(rvpy_index_tune), tune_doc},                                   \
        {"add", KEYWORDS(rvpy_index_add), DOC_ADD},                                      \
        {"add_batch", KEYWORDS(rvpy_index_add_batch), DOC_ADD_BATCH},                    \
        {"upsert", KEYWORDS(rvpy_index_upsert), DOC_UPSERT},                             \
        {"remove", KEYWORDS(rvpy_index_remove), DOC_REMOVE},                             \
        {"vacuum", rvpy_index_vacuum, METH_NOARGS, DOC_VACUUM},                          \
        {"save", KEYWORDS(rvpy_index_save), DOC_SAVE},                                   \
        {"load", KEYWORDS(rvpy_index_load) | METH_CLASS, DOC_LOAD},                      \
        {"to_bytes", rvpy_index_to_bytes, METH_NOARGS, DOC_TO_BYTES},                    \
        {"from_bytes", KEYWORDS(rvpy_index_from_bytes) | METH_CLASS, DOC_FROM_BYTES},    \
        {"memory_usage", memory_usage, METH_NOARGS, DOC_MEMORY_USAGE},                   \
        {"__array__", KEYWORDS(rvpy_index_array), DOC_ARRAY}, {                          \
        "__reduce_ex__", rvpy_index_reduce_ex, METH_O, DOC_REDUCE                        \
    }
#define ROTATION                                                                         \
    { "rotation", rotation, METH_NOARGS, DOC_ROTATION }
#define END_OF_METHODS                                                                   \
    { NULL, NULL, 0, NULL }

static PyMethodDef flat_methods[] = {
    METHODS(DOC_BUILD_FLAT, DOC_SEARCH_FLAT, DOC_SEARCH_BATCH_FLAT, DOC_TUNE_FLAT),
    END_OF_METHODS};
static PyMethodDef rabitq_methods[] = {
    METHODS(DOC_BUILD_RABITQ, DOC_SEARCH_RABITQ, DOC_SEARCH_BATCH_RABITQ, DOC_TUNE),
    ROTATION, END_OF_METHODS};
static PyMethodDef reranked_methods[] = {
    METHODS(DOC_BUILD_RERANKED, DOC_SEARCH_RERANKED, DOC_SEARCH_BATCH_RERANKED, DOC_TUNE),
    ROTATION, END_OF_METHODS};

#define GETTER(name, function, doc)                                                      \
    { name, function, NULL, doc, NULL }
#define GETTERS                                                                          \
    GETTER("dim", get_dim, DOC_DIM), GETTER("metric", get_metric, DOC_METRIC),           \
        GETTER("seed", get_seed, DOC_SEED),                                              \
        GETTER("memory_bytes", get_memory_bytes, DOC_MEMORY),                            \
        GETTER("version", get_version, DOC_VERSION),                                     \
        GETTER("ids", rvpy_index_ids, DOC_IDS),                                          \
        GETTER("norms", rvpy_index_norms, DOC_NORMS)
#define CODED_GETTERS                                                                    \
    GETTER("bits", get_bits, DOC_BITS), GETTER("n_lists", get_n_lists, DOC_LISTS),       \
        GETTER("nprobe", get_nprobe, DOC_DEFAULT_NPROBE),                                \
        GETTER("codes", rvpy_index_codes, DOC_CODES)
#define END_OF_GETTERS                                                                   \
    { NULL, NULL, NULL, NULL, NULL }

static PyGetSetDef flat_getters[] = {GETTERS, END_OF_GETTERS};
static PyGetSetDef rabitq_getters[] = {GETTERS, CODED_GETTERS, END_OF_GETTERS};
static PyGetSetDef reranked_getters[] = {
    GETTERS,
    CODED_GETTERS,
    GETTER("epsilon", get_epsilon, DOC_EPSILON),
    GETTER("rerank_factor", get_rerank_factor, DOC_RERANK_FACTOR),
    GETTER("originals", get_originals, DOC_ORIGINALS),
    END_OF_GETTERS};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(rvpy_index, weak_refs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

typedef struct class_table {
    const char *name, *doc;
    PyMethodDef *methods;
    PyGetSetDef *getters;
} class_table;

static const class_table classes[RVPY_N_KINDS] = {
    [RV_FLAT] = {"ruvector.FlatF32Index", DOC_FLAT, flat_methods, flat_getters},
    [RV_RABITQ] = {"ruvector.RabitqIndex", DOC_RABITQ, rabitq_methods, rabitq_getters},
    [RV_PLUS] = {"ruvector.RabitqPlusIndex", DOC_PLUS, reranked_methods,
                 reranked_getters},
    [RV_ASYM] = {"ruvector.RabitqAsymIndex", DOC_ASYM, reranked_methods,
                 reranked_getters},
};

static PyTypeObject *make_class(PyObject *module, const class_table *c) {
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)(uintptr_t)c->doc},
        {Py_tp_new, index_new},
        {Py_tp_dealloc, index_dealloc},
        {Py_tp_traverse, index_traverse},
        {Py_tp_repr, index_repr},
        {Py_tp_richcompare, index_compare},
        {Py_tp_hash, PyObject_HashNotImplemented},
        {Py_tp_iter, rvpy_index_iter},
        {Py_tp_methods, c->methods},
        {Py_tp_getset, c->getters},
        {Py_tp_members, members},
        {Py_mp_length, index_length},
        {Py_mp_subscript, rvpy_index_item},
        {Py_sq_contains, rvpy_index_contains},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = c->name,
        .basicsize = sizeof(rvpy_index),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    return rvpy_type_new(module, &spec);
}

int rvpy_index_init(PyObject *module, rvpy_state *state) {
    for (int kind = 0; kind < RVPY_N_KINDS; kind++) {
        state->index_type[kind] = make_class(module, &classes[kind]);
        if (rvpy_module_add_type(module, rvpy_class_name((rv_kind)kind),
                                 state->index_type[kind]) < 0)
            return -1;
    }
    return rvpy_iterator_init(state);
}
