/*
 * lake_type.c - ruvector._core._Lake, which the Python class RuLake derives from.
 *
 * Who keeps whom: a lake owns the objects of its backends, and the library's backend of
 * an adapter only borrows the object. So the collector sees every reference, also
 * where an adapter refers back to its lake.
 */
#include "rvpy_lake.h"

#include "lake_docs.h"

/* ---- the object ------------------------------------------------------------- */

static PyObject *lake_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args; /* __init__'s */
    (void)kwargs;
    rvpy_lake *self = (rvpy_lake *)rvpy_object_new(type);
    if (!self) return NULL;
    self->keys = PyDict_New();
    self->backends = PyDict_New();
    if (!self->keys || !self->backends) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int lake_init(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"rerank_factor",
                               "rotation_seed",
                               "max_cache_entries",
                               "consistency",
                               "eventual_ttl_ms",
                               "strict",
                               NULL};
    rvpy_lake *self = (rvpy_lake *)object;
    PyObject *rerank, *seed, *entries, *ttl;
    int consistency, strict;
    rv_lake_options o = RV_LAKE_DEFAULT;
    uint64_t factor;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOiOp:__init__", keywords, &rerank,
                                     &seed, &entries, &consistency, &ttl, &strict))
        return -1;
    if (rvpy_parse_count(rerank, "rerank_factor", 1024, &factor) < 0 ||
        rvpy_parse_u64(seed, "rotation_seed", &o.rotation_seed) < 0 ||
        rvpy_parse_u64(ttl, "eventual_ttl_ms", &o.eventual_ttl_ms) < 0 ||
        (rvpy_given(entries) &&
         rvpy_parse_u64(entries, "max_cache_entries", &o.max_cache_entries) < 0))
        return -1;
    if (rvpy_given(entries) && o.max_cache_entries == 0) o.max_cache_entries = 1;
    if (factor) o.rerank_factor = (uint32_t)factor;
    o.consistency = (rv_consistency)consistency;
    o.strict = strict;
    if (self->lake) {
        PyErr_SetString(PyExc_RuntimeError, "a lake is initialized once");
        return -1;
    }
    rv_error error = {0};
    if (rv_lake_new(&o, &self->lake, &error) == RV_OK) return 0;
    rvpy_lake_raise(rvpy_object_state(object), &error, NULL);
    return -1;
}

static int lake_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((rvpy_lake *)self)->backends);
    return rvpy_object_traverse(self, visit, arg);
}

/* Backends stay until the library has let go of them; an adapter clears itself. */
static void lake_dealloc(PyObject *object) {
    rvpy_lake *self = (rvpy_lake *)object;
    PyObject_GC_UnTrack(object);
    if (self->lake) {
        PyThreadState *thread = PyEval_SaveThread();
        rv_lake_free(self->lake);
        PyEval_RestoreThread(thread);
    }
    Py_XDECREF(self->keys);
    Py_XDECREF(self->backends);
    rvpy_object_free(object);
}

/* ---- backends --------------------------------------------------------------- */

/* Keeps the object of a backend the library has just registered. */
static PyObject *keep_backend(rvpy_lake *self, PyObject *id, PyObject *object) {
    PyDict_Clear(self->keys);
    if (PyDict_SetItem(self->backends, id, object) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *lake_register(PyObject *object, PyObject *backend) {
    rvpy_lake *self = rvpy_lake_of(object);
    if (!self) return NULL;
    const rvpy_state *state = rvpy_object_state(object);
    if (Py_TYPE(backend) != state->local_type && Py_TYPE(backend) != state->fs_type) {
        rvpy_wrong_type("backend", "a LocalBackend or FsBackend", backend);
        return NULL;
    }
    rv_backend *c_backend = ((rvpy_backend *)backend)->backend;
    PyObject *id = PyUnicode_FromString(rv_backend_id(c_backend));
    if (!id) return NULL;
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_lake_register(self->lake, c_backend, &error);
    PyEval_RestoreThread(thread);
    rvpy_about about = {.backend = id};
    PyObject *result = status == RV_OK ? keep_backend(self, id, backend)
                                       : rvpy_lake_raise(state, &error, &about);
    Py_DECREF(id);
    return result;
}

static PyObject *lake_register_adapter(PyObject *object, PyObject *args) {
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *id, *calls;
    int has_bundle;
    if (!self ||
        !PyArg_ParseTuple(args, "UOp:_register_adapter", &id, &calls, &has_bundle))
        return NULL;
    PyObject *bytes = rvpy_take_text(id, "id");
    PyObject *adapter = bytes ? rvpy_adapter_new(self, calls) : NULL;
    PyObject *result = NULL;
    if (adapter) {
        rv_error error = {0};
        rvpy_about about = {.backend = id};
        rv_status status = rvpy_adapter_register(self, adapter, PyBytes_AsString(bytes),
                                                 has_bundle != 0, &error);
        if (status == RV_OK) self->n_adapters++;
        result = status == RV_OK
                     ? keep_backend(self, id, adapter)
                     : rvpy_lake_raise(rvpy_object_state(object), &error, &about);
    }
    Py_XDECREF(adapter);
    Py_XDECREF(bytes);
    return result;
}

static PyObject *lake_backend_ids(PyObject *object, PyObject *unused) {
    (void)unused;
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *list = self ? PyList_New(0) : NULL;
    for (size_t i = 0; list; i++) {
        PyThreadState *thread = PyEval_SaveThread();
        const rv_backend *backend = rv_lake_backend(self->lake, i);
        PyEval_RestoreThread(thread);
        if (!backend) break;
        PyObject *id = PyUnicode_FromString(rv_backend_id(backend));
        if (!id || PyList_Append(list, id) < 0) Py_CLEAR(list);
        Py_XDECREF(id);
    }
    return list;
}

/* The LocalBackend or FsBackend of an id, else None. */
static PyObject *lake_backend(PyObject *object, PyObject *id) {
    rvpy_lake *self = (rvpy_lake *)object;
    PyObject *backend = PyDict_GetItemWithError(self->backends, id);
    if (!backend && PyErr_Occurred()) return NULL;
    if (!backend || rvpy_lake_is_adapter(self, id)) backend = Py_None;
    Py_INCREF(backend);
    return backend;
}

static PyObject *lake_resolve(PyObject *object, PyObject *arg) {
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *key = self ? rvpy_take_key(self, arg, "key") : NULL;
    PyObject *pair = key ? rvpy_key_pair(key) : NULL;
    Py_XDECREF(key);
    return pair;
}

/* Whether finding this key, or checking it, may call Python: it must not then be done on
 * the thread of an event loop. Without a collection: whether any key may. */
static PyObject *lake_asks_python(PyObject *object, PyObject *args) {
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *collection, *backend;
    if (!self || !PyArg_ParseTuple(args, "OO:_asks_python", &collection, &backend))
        return NULL;
    if (self->n_adapters == 0) Py_RETURN_FALSE;
    if (!rvpy_given(collection)) Py_RETURN_TRUE;
    if (!rvpy_given(backend)) {
        PyObject *key = PyDict_GetItemWithError(self->keys, collection);
        if (!key && PyErr_Occurred()) return NULL;
        if (!key) Py_RETURN_TRUE;
        backend = rvpy_key_backend(key);
    }
    return PyBool_FromLong(rvpy_lake_is_adapter(self, backend));
}

static PyObject *lake_shards(PyObject *object, PyObject *args) {
    rvpy_lake *self = rvpy_lake_of(object);
    PyObject *collection, *targets;
    if (!self || !PyArg_ParseTuple(args, "OO:_shards", &collection, &targets))
        return NULL;
    PyObject *keys = rvpy_lake_shards(self, collection, targets);
    Py_ssize_t n = keys ? PyList_Size(keys) : 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *pair = rvpy_key_pair(PyList_GetItem(keys, i));
        if (!pair || PyList_SetItem(keys, i, pair) < 0) {
            Py_DECREF(keys);
            return NULL;
        }
    }
    return keys;
}

/* ---- the type --------------------------------------------------------------- */

#define KEYWORDS(function)                                                               \
    (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

static PyMethodDef lake_methods[] = {
    {"search_one", KEYWORDS(rvpy_lake_search_one), DOC_SEARCH_ONE},
    {"search_batch", KEYWORDS(rvpy_lake_search_batch), DOC_LAKE_SEARCH_BATCH},
    {"search_federated", KEYWORDS(rvpy_lake_search_federated), DOC_SEARCH_FEDERATED},
    {"prime", KEYWORDS(rvpy_lake_prime), DOC_PRIME},
    {"_warm", rvpy_lake_warm, METH_VARARGS, NULL},
    {"publish_bundle", KEYWORDS(rvpy_lake_publish), DOC_PUBLISH},
    {"invalidate_cache", rvpy_lake_invalidate, METH_O, DOC_INVALIDATE},
    {"cache_witness_of", rvpy_lake_witness_of, METH_O, DOC_WITNESS_OF},
    {"cache_entry_count", rvpy_lake_entry_count, METH_NOARGS, DOC_ENTRY_COUNT},
    {"cache_refcount_of", rvpy_lake_refcount_of, METH_O, DOC_REFCOUNT_OF},
    {"backend_ids", lake_backend_ids, METH_NOARGS, DOC_BACKEND_IDS},
    {"_register", lake_register, METH_O, NULL},
    {"_register_adapter", lake_register_adapter, METH_VARARGS, NULL},
    {"_backend", lake_backend, METH_O, NULL},
    {"_resolve", lake_resolve, METH_O, NULL},
    {"_asks_python", lake_asks_python, METH_VARARGS, NULL},
    {"_shards", lake_shards, METH_VARARGS, NULL},
    {"_acquire", rvpy_lake_acquire, METH_VARARGS, NULL},
    {"_search_pins", rvpy_lake_search_pins, METH_VARARGS, NULL},
    {"_install", KEYWORDS(rvpy_lake_install), NULL},
    {"_refresh", rvpy_lake_refresh, METH_VARARGS, NULL},
    {"_save", rvpy_lake_save, METH_VARARGS, NULL},
    {"_entry", rvpy_lake_entry, METH_O, NULL},
    {"_has_index", rvpy_lake_has_index, METH_O, NULL},
    {"_stats", rvpy_lake_stats, METH_NOARGS, NULL},
    {"_key_stats", rvpy_lake_key_stats, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot lake_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "What RuLake derives from."},
    {Py_tp_new, lake_new},
    {Py_tp_init, lake_init},
    {Py_tp_dealloc, lake_dealloc},
    {Py_tp_traverse, lake_traverse},
    {Py_tp_methods, lake_methods},
    {0, NULL},
};

static PyType_Spec lake_spec = {
    .name = "ruvector._core._Lake",
    .basicsize = sizeof(rvpy_lake),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = lake_slots,
};

static int add_hit_type(PyObject *module, rvpy_state *state) {
    PyStructSequence_Field fields[] = {
        {"backend", "Id of the backend."},
        {"collection", "Name of the collection."},
        {"id", "Id of the vector."},
        {"score", "Squared distance."},
        {NULL, NULL},
    };
    PyStructSequence_Desc description = {"ruvector.LakeHit",
                                         "One search result of a lake.", fields, 4};
    state->lake_hit_type = rvpy_record_type(&description);
    return rvpy_module_add_type(module, "LakeHit", state->lake_hit_type);
}

int rvpy_lake_init_types(PyObject *module, rvpy_state *state) {
    PyTypeObject *type = rvpy_type_new(module, &lake_spec);
    int result = rvpy_module_add_type(module, "_Lake", type);
    Py_XDECREF(type); /* instances keep it */
    if (result < 0 || add_hit_type(module, state) < 0 || rvpy_bundle_init(module) < 0 ||
        rvpy_backend_init(module, state) < 0 || rvpy_adapter_init(module, state) < 0 ||
        rvpy_pin_init(module, state) < 0)
        return -1;
    return rvpy_async_init(module, state);
}
