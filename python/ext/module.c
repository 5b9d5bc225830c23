/*
 * module.c - ruvector._core: its state, its functions, its constants.
 */
#include "rvpy_lake.h"

#define MAX_ISAS 8

/* ---- functions -------------------------------------------------------------- */

static PyObject *isa_list(void) {
    const char *names[MAX_ISAS];
    size_t n = rv_isa_available(names, MAX_ISAS);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < n && i < MAX_ISAS; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

PyDoc_STRVAR(
    cpu_features_doc,
    "cpu_features()\n--\n\n"
    "What the library found on this machine and uses, as a dict.\n\n"
    "available: instruction sets that can be used, best first. active: the one in\n"
    "use; the environment variable RUVECTOR_ISA, read at import, chooses another.\n"
    "threads: as `get_num_threads`. Results do not depend on any of these.");

static PyObject *cpu_features(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    PyObject *available = isa_list();
    if (!available) return NULL;
    return Py_BuildValue("{s:s,s:N,s:I}", "active", rv_isa_active(), "available",
                         available, "threads", rv_get_num_threads());
}

PyDoc_STRVAR(get_num_threads_doc,
             "get_num_threads()\n--\n\n"
             "Threads used by builds and batches, the caller included.");

static PyObject *get_num_threads(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(rv_get_num_threads());
}

PyDoc_STRVAR(
    set_num_threads_doc,
    "set_num_threads(n)\n--\n\n"
    "Threads used by builds and batches from now on, 1..1024.\n\n"
    "0 restores the default: RUVECTOR_NUM_THREADS if set, else the processors this\n"
    "process may use. 1 runs everything on the calling thread.");

static PyObject *set_num_threads(PyObject *module, PyObject *arg) {
    uint64_t n;
    if (rvpy_parse_u64(arg, "n", &n) < 0) return NULL;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status =
        rv_set_num_threads(n > UINT32_MAX ? UINT32_MAX : (unsigned)n, &error);
    PyEval_RestoreThread(thread);
    if (status != RV_OK) return rvpy_raise(PyModule_GetState(module), &error, NULL);
    Py_RETURN_NONE;
}

/* ---- the module ------------------------------------------------------------- */

static int add_struct_types(PyObject *module, rvpy_state *state) {
    PyStructSequence_Field hit_fields[] = {
        {"id", "Id of the vector."},
        {"score", "Squared distance ('l2'), inner product ('ip') or cosine."},
        {NULL, NULL},
    };
    PyStructSequence_Desc hit = {"ruvector.Hit", "One search result.", hit_fields, 2};
    PyStructSequence_Field rotation_fields[] = {
        {"dim", "Dimension of the vectors."},
        {"padded_dim", "Dimension of the codes: dim, rounded up to a multiple of 32."},
        {"seed", "Seed the rotation is drawn from."},
        {NULL, NULL},
    };
    PyStructSequence_Desc rotation = {"ruvector.Rotation",
                                      "The random rotation of an index's codes.",
                                      rotation_fields, 3};
    state->hit_type = rvpy_record_type(&hit);
    if (rvpy_module_add_type(module, "Hit", state->hit_type) < 0) return -1;
    state->rotation_type = rvpy_record_type(&rotation);
    if (rvpy_module_add_type(module, "Rotation", state->rotation_type) < 0) return -1;
    PyStructSequence_Field tuning_fields[] = {
        {"nprobe", "Lists that a search looks into, or 'all'."},
        {"epsilon", "Width of the error bound."},
        {"recall", "What that finds for the queries that took no part in the choice."},
        {NULL, NULL},
    };
    PyStructSequence_Desc tuning = {"ruvector.Tuning", "What `tune` has chosen.",
                                    tuning_fields, 3};
    state->tuning_type = rvpy_record_type(&tuning);
    return rvpy_module_add_type(module, "Tuning", state->tuning_type);
}

static int module_exec(PyObject *module) {
    rvpy_state *state = PyModule_GetState(module);
    state->module = module;
    if (rvpy_numpy_init() < 0 || rvpy_errors_init(state) < 0 ||
        add_struct_types(module, state) < 0 || rvpy_index_init(module, state) < 0 ||
        rvpy_lake_init_types(module, state) < 0 ||
        rvpy_module_add(module, "NO_ID", PyLong_FromUnsignedLongLong(RV_NO_ID)) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", rv_version());
}

/* Every object of the state, for the collector. */
static PyObject **state_slot(rvpy_state *state, int i) {
    if (i < RVPY_N_KINDS) return (PyObject **)&state->index_type[i];
    i -= RVPY_N_KINDS;
    if (i < RVPY_N_ERRORS) return &state->error[i];
    PyTypeObject **types[] = {
        &state->iterator_type, &state->hit_type,      &state->rotation_type,
        &state->tuning_type,   &state->lake_hit_type, &state->local_type,
        &state->fs_type,       &state->adapter_type,  &state->pin_type,
        &state->job_type,
    };
    i -= RVPY_N_ERRORS;
    bool there = (size_t)i < sizeof types / sizeof *types;
    return there ? (PyObject **)types[i] : NULL;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    rvpy_state *state = PyModule_GetState(module);
    PyObject **slot;
    for (int i = 0; state && (slot = state_slot(state, i)); i++) Py_VISIT(*slot);
    return 0;
}

static int module_clear(PyObject *module) {
    rvpy_state *state = PyModule_GetState(module);
    PyObject **slot;
    for (int i = 0; state && (slot = state_slot(state, i)); i++) Py_CLEAR(*slot);
    return 0;
}

static void module_free(void *module) { module_clear(module); }

static PyMethodDef module_methods[] = {
    {"cpu_features", cpu_features, METH_NOARGS, cpu_features_doc},
    {"get_num_threads", get_num_threads, METH_NOARGS, get_num_threads_doc},
    {"set_num_threads", set_num_threads, METH_O, set_num_threads_doc},
    {"_mobilenet_load", rvpy_mobilenet_load, METH_O, NULL},
    {"_mobilenet_embed", rvpy_mobilenet_embed, METH_VARARGS, NULL},
    {"_mobilenet_stage", rvpy_mobilenet_stage, METH_VARARGS, NULL},
    {"_image_prepare", rvpy_image_prepare, METH_O, NULL},
    {"_errand", rvpy_errand, METH_NOARGS, NULL},
    {"_on_errand", rvpy_on_errand, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = rvpy_module_name,
    .m_doc = "The compiled part of ruvector.",
    .m_size = sizeof(rvpy_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
