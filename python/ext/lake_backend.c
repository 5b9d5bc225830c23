/*
 * lake_backend.c - LocalBackend and FsBackend: the library's own sources of vectors.
 */
#include "rvpy_lake.h"

#include <stdlib.h>
#include <string.h>

#include "lake_docs.h"

static rv_backend *handle(PyObject *self) { return ((rvpy_backend *)self)->backend; }

/* A collection of a backend in a call, with what errors are about. */
typedef struct subject {
    PyObject *name; /* as UTF-8 */
    const char *collection;
    rvpy_about about;
} subject;

static int take_subject(PyObject *self, PyObject *collection, subject *out) {
    *out = (subject){.name = rvpy_take_text(collection, "collection")};
    if (!out->name) return -1;
    out->collection = PyBytes_AsString(out->name);
    out->about.collection = collection;
    out->about.backend = PyUnicode_FromString(rv_backend_id(handle(self)));
    if (out->about.backend) return 0;
    Py_CLEAR(out->name);
    return -1;
}

/* Raises if there was an error, and leaves. */
static int leave(PyObject *self, subject *s, rv_status status, const rv_error *error) {
    if (status != RV_OK) rvpy_lake_raise(rvpy_object_state(self), error, &s->about);
    Py_CLEAR(s->name);
    Py_CLEAR(s->about.backend);
    return status == RV_OK ? 0 : -1;
}

/* ---- what both can do ------------------------------------------------------- */

static int backend_traverse(PyObject *self, visitproc visit, void *arg) {
    return rvpy_object_traverse(self, visit, arg);
}

static void backend_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    rv_backend_free(handle(self)); /* no lock to wait for, nobody is called */
    Py_XDECREF(((rvpy_backend *)self)->root);
    rvpy_object_free(self);
}

static PyObject *backend_id(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(rv_backend_id(handle(self)));
}

/* Names one after the other, each with its zero. */
typedef struct names {
    char *text;
    size_t size, room;
} names;

static rv_status add_name(void *ctx, const char *collection, rv_error *err) {
    names *n = ctx;
    size_t size = strlen(collection) + 1;
    if (size > n->room - n->size) {
        size_t room = 2 * (n->size + size);
        char *text = realloc(n->text, room);
        if (!text) {
            err->code = RV_ERR_MEMORY;
            return RV_ERR_MEMORY;
        }
        n->text = text;
        n->room = room;
    }
    memcpy(n->text + n->size, collection, size);
    n->size += size;
    return RV_OK;
}

static PyObject *list_of(const names *n) {
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list && at < n->size; at += strlen(n->text + at) + 1) {
        PyObject *name = PyUnicode_FromString(n->text + at);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyObject *list_collections(PyObject *self, PyObject *unused) {
    (void)unused;
    names n = {NULL, 0, 0};
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_backend_list(handle(self), add_name, &n, &error);
    PyEval_RestoreThread(thread);
    PyObject *list = status == RV_OK
                         ? list_of(&n)
                         : rvpy_lake_raise(rvpy_object_state(self), &error, NULL);
    free(n.text);
    return list;
}

static PyObject *generation(PyObject *self, PyObject *collection) {
    subject s;
    uint64_t number = 0;
    rv_error error = {0};
    if (take_subject(self, collection, &s) < 0) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_backend_generation(handle(self), s.collection, &number, &error);
    PyEval_RestoreThread(thread);
    return leave(self, &s, status, &error) < 0 ? NULL
                                               : PyLong_FromUnsignedLongLong(number);
}

/* An object of a class of the package that is written in Python. */
static PyObject *new_record(const char *module_name, const char *name, PyObject *args) {
    PyObject *module = args ? PyImport_ImportModule(module_name) : NULL;
    PyObject *class = module ? PyObject_GetAttrString(module, name) : NULL;
    PyObject *record = class ? PyObject_Call(class, args, NULL) : NULL;
    Py_XDECREF(class);
    Py_XDECREF(module);
    Py_XDECREF(args);
    return record;
}

static PyObject *copy_pull(const rv_pull *pull) {
    void *ids_data, *vectors_data;
    PyObject *ids = rvpy_array_new(RVPY_U64, (Py_ssize_t)pull->n, -1, &ids_data);
    PyObject *vectors = ids ? rvpy_array_new(RVPY_F32, (Py_ssize_t)pull->n,
                                             (Py_ssize_t)pull->dim, &vectors_data)
                            : NULL;
    if (vectors && pull->n) {
        memcpy(ids_data, pull->ids, (size_t)pull->n * sizeof *pull->ids);
        memcpy(vectors_data, pull->vectors,
               (size_t)pull->n * (size_t)pull->dim * sizeof *pull->vectors);
    }
    if (!vectors) {
        Py_XDECREF(ids);
        return NULL;
    }
    return Py_BuildValue("(NNKK)", ids, vectors, (unsigned long long)pull->dim,
                         (unsigned long long)pull->generation);
}

static PyObject *pull_vectors(PyObject *self, PyObject *collection) {
    subject s;
    rv_pull pull;
    rv_error error = {0};
    if (take_subject(self, collection, &s) < 0) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_backend_pull(handle(self), s.collection, &pull, &error);
    PyEval_RestoreThread(thread);
    if (leave(self, &s, status, &error) < 0) return NULL;
    PyObject *fields = copy_pull(&pull);
    rv_pull_release(&pull);
    return new_record("ruvector.lake.adapter", "PulledBatch", fields);
}

static PyObject *current_bundle(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection", "rotation_seed", "rerank_factor", NULL};
    PyObject *collection, *seed_arg, *rerank_arg;
    uint64_t seed, rerank;
    subject s;
    rv_bundle *bundle = NULL;
    rv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:current_bundle", keywords,
                                     &collection, &seed_arg, &rerank_arg) ||
        rvpy_parse_u64(seed_arg, "rotation_seed", &seed) < 0 ||
        rvpy_parse_u64(rerank_arg, "rerank_factor", &rerank) < 0 ||
        take_subject(self, collection, &s) < 0)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status =
        rv_backend_bundle(handle(self), s.collection, seed, rerank, &bundle, &error);
    PyEval_RestoreThread(thread);
    if (leave(self, &s, status, &error) < 0) return NULL;
    PyObject *fields = rvpy_bundle_tuple(bundle);
    rv_bundle_free(bundle);
    PyObject *arguments = fields ? PyTuple_Pack(1, fields) : NULL;
    Py_XDECREF(fields);
    return new_record("ruvector.lake.bundle", "from_fields", arguments);
}

#define KEYWORDS(function)                                                               \
    (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS
#define SHARED_METHODS                                                                   \
    {"list_collections", list_collections, METH_NOARGS, DOC_LIST_COLLECTIONS},           \
        {"generation", generation, METH_O, DOC_GENERATION},                              \
        {"pull_vectors", pull_vectors, METH_O, DOC_PULL_VECTORS}, {                      \
        "current_bundle", KEYWORDS(current_bundle), DOC_CURRENT_BUNDLE                   \
    }

static PyGetSetDef getters[] = {{"id", backend_id, NULL, DOC_BACKEND_ID, NULL},
                                {NULL, NULL, NULL, NULL, NULL}};

static PyObject *backend_repr(PyObject *self) {
    PyObject *class = PyObject_GetAttrString((PyObject *)Py_TYPE(self), "__name__");
    PyObject *id = class ? backend_id(self, NULL) : NULL;
    PyObject *names = id ? list_collections(self, NULL) : NULL;
    PyObject *text = names ? PyUnicode_FromFormat("%U(%R, collections=%zd)", class, id,
                                                  PyList_Size(names))
                           : NULL;
    Py_XDECREF(class);
    Py_XDECREF(id);
    Py_XDECREF(names);
    return text;
}

/* ---- rows ------------------------------------------------------------------- */

typedef struct rows {
    rvpy_array ids, vectors;
    rv_rows all; /* of them */
} rows;

static void release_rows(rows *r) {
    rvpy_array_release(&r->ids);
    rvpy_array_release(&r->vectors);
}

static int take_rows(PyObject *self, const char *method, PyObject *ids, PyObject *vectors,
                     rows *out) {
    memset(out, 0, sizeof *out);
    if (rvpy_take_ids(ids, "ids", RVPY_IDS_OF_ROWS, &out->ids) < 0 ||
        rvpy_take_floats(vectors, "vectors", RVPY_MATRIX, &out->vectors) < 0) {
        release_rows(out);
        return -1;
    }
    out->all = (rv_rows){out->vectors.data, out->ids.data,
                         (uint64_t)out->vectors.shape[0], rvpy_dim(&out->vectors)};
    if (out->ids.shape[0] == out->vectors.shape[0]) return 0;
    const rvpy_state *state = rvpy_object_state(self);
    PyErr_Format(state->error[RVPY_LAKE_VALUE_ERROR],
                 "%s: ids.len=%zd != vectors.len=%zd", method, out->ids.shape[0],
                 out->vectors.shape[0]);
    release_rows(out);
    return -1;
}

/* ---- LocalBackend ----------------------------------------------------------- */

typedef rv_status (*local_write)(rv_backend *, const char *, const rv_rows *, rv_error *);

static PyObject *write_local(PyObject *self, PyObject *args, PyObject *kwargs,
                             const char *format, const char *method, local_write write) {
    static char *keywords[] = {"collection", "ids", "vectors", NULL};
    PyObject *collection, *ids, *vectors;
    subject s;
    rows r;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, keywords, &collection, &ids,
                                     &vectors) ||
        take_rows(self, method, ids, vectors, &r) < 0)
        return NULL;
    if (take_subject(self, collection, &s) < 0) {
        release_rows(&r);
        return NULL;
    }
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = write(handle(self), s.collection, &r.all, &error);
    PyEval_RestoreThread(thread);
    release_rows(&r);
    if (leave(self, &s, status, &error) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *local_put(PyObject *self, PyObject *args, PyObject *kwargs) {
    return write_local(self, args, kwargs, "OOO:put_collection", "put_collection",
                       rv_local_put);
}

static PyObject *local_upsert(PyObject *self, PyObject *args, PyObject *kwargs) {
    return write_local(self, args, kwargs, "OOO:upsert", "upsert", rv_local_upsert);
}

static PyObject *local_append(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection", "id", "vector", NULL};
    PyObject *collection, *id_arg, *vector_arg;
    uint64_t id;
    rvpy_array vector = {0};
    subject s;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:append", keywords, &collection,
                                     &id_arg, &vector_arg) ||
        rvpy_parse_id(id_arg, "id", &id) < 0 ||
        rvpy_take_floats(vector_arg, "vector", RVPY_VECTOR, &vector) < 0)
        return NULL;
    if (take_subject(self, collection, &s) < 0) {
        rvpy_array_release(&vector);
        return NULL;
    }
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_local_append(handle(self), s.collection, id, vector.data,
                                       rvpy_dim(&vector), &error);
    PyEval_RestoreThread(thread);
    rvpy_array_release(&vector);
    if (leave(self, &s, status, &error) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *local_remove(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection", "ids", NULL};
    PyObject *collection, *ids_arg;
    rvpy_array ids = {0};
    subject s;
    uint64_t removed = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:remove", keywords, &collection,
                                     &ids_arg) ||
        rvpy_take_id_or_ids(ids_arg, "ids", RVPY_IDS_STORED, &ids) < 0)
        return NULL;
    if (rvpy_refuse_flags(ids_arg, "ids", &ids, RVPY_ROWS_UNKNOWN) < 0 ||
        take_subject(self, collection, &s) < 0) {
        rvpy_array_release(&ids);
        return NULL;
    }
    rv_error error = {0};
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_local_remove(handle(self), s.collection, ids.data,
                                       (uint64_t)ids.shape[0], &removed, &error);
    PyEval_RestoreThread(thread);
    rvpy_array_release(&ids);
    return leave(self, &s, status, &error) < 0 ? NULL
                                               : PyLong_FromUnsignedLongLong(removed);
}

/* Gives a new object its backend, or raises. */
static PyObject *finish_new(PyObject *self, rv_status status, const rv_error *error,
                            PyObject *path) {
    if (!self || status == RV_OK) return self;
    rvpy_about about = {.path = path};
    rvpy_lake_raise(rvpy_object_state(self), error, &about);
    Py_DECREF(self);
    return NULL;
}

static PyObject *local_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"name", NULL};
    PyObject *name;
    rv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:LocalBackend", keywords, &name))
        return NULL;
    PyObject *text = rvpy_take_text(name, "name");
    rvpy_backend *self = text ? (rvpy_backend *)rvpy_object_new(type) : NULL;
    rv_status status = RV_OK;
    if (self)
        status = rv_local_backend_new(PyBytes_AsString(text), &self->backend, &error);
    Py_XDECREF(text);
    return finish_new((PyObject *)self, status, &error, NULL);
}

static PyMethodDef local_methods[] = {
    {"upsert", KEYWORDS(local_upsert), DOC_LOCAL_UPSERT},
    {"put_collection", KEYWORDS(local_put), DOC_LOCAL_PUT},
    {"append", KEYWORDS(local_append), DOC_LOCAL_APPEND},
    {"remove", KEYWORDS(local_remove), DOC_LOCAL_REMOVE},
    SHARED_METHODS,
    {NULL, NULL, 0, NULL},
};

/* ---- FsBackend -------------------------------------------------------------- */

static PyObject *fs_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"name", "root", "follow_links", NULL};
    PyObject *name, *root, *root_bytes;
    int follow_links = 0;
    rv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$p:FsBackend", keywords, &name,
                                     &root, &follow_links) ||
        !(root_bytes = rvpy_path(root, "root")))
        return NULL;
    PyObject *text = rvpy_take_text(name, "name");
    rvpy_backend *self = text ? (rvpy_backend *)rvpy_object_new(type) : NULL;
    rv_status status = RV_OK;
    if (self)
        status = rv_fs_backend_new(PyBytes_AsString(text), PyBytes_AsString(root_bytes),
                                   follow_links, &self->backend, &error);
    if (self) self->root = PyUnicode_DecodeFSDefault(PyBytes_AsString(root_bytes));
    Py_XDECREF(text);
    Py_DECREF(root_bytes);
    if (self && !self->root) Py_CLEAR(self);
    return finish_new((PyObject *)self, status, &error, root);
}

/* What is wrong with a file or its name is the backend's error. */
static void blame_backend(rv_error *error) {
    if (error->code == RV_ERR_ARGUMENT || error->code == RV_ERR_IO ||
        error->code == RV_ERR_FORMAT || error->code == RV_ERR_LIMIT)
        error->code = RV_ERR_BACKEND;
}

/* A name may hold zeros: the library must refuse it, not see the part before. */
static PyObject *take_filename(PyObject *self, subject *s, PyObject *arg) {
    if (!PyUnicode_Check(arg)) {
        rvpy_wrong_type("filename", "a str", arg);
        return NULL;
    }
    PyObject *bytes = PyUnicode_AsUTF8String(arg);
    rv_error error = {.code = RV_ERR_BACKEND};
    if (bytes && (size_t)PyBytes_Size(bytes) == strlen(PyBytes_AsString(bytes)))
        return bytes;
    if (!bytes && !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return NULL;
    PyErr_Clear();
    PyOS_snprintf(error.message, sizeof error.message, "FsBackend: illegal filename: %s",
                  bytes ? "control byte" : "not valid UTF-8");
    Py_XDECREF(bytes);
    return rvpy_lake_raise(rvpy_object_state(self), &error, &s->about);
}

static PyObject *fs_register(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection", "filename", NULL};
    PyObject *collection, *filename;
    subject s;
    rv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:register", keywords, &collection,
                                     &filename) ||
        take_subject(self, collection, &s) < 0)
        return NULL;
    PyObject *bytes = take_filename(self, &s, filename);
    if (!bytes) {
        leave(self, &s, RV_OK, NULL);
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status =
        rv_fs_register(handle(self), s.collection, PyBytes_AsString(bytes), &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    blame_backend(&error);
    if (leave(self, &s, status, &error) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *path_in_root(PyObject *self, PyObject *filename) {
    PyObject *root = ((rvpy_backend *)self)->root;
    Py_ssize_t length = PyUnicode_GetLength(root);
    bool ended = length > 0 && PyUnicode_ReadChar(root, length - 1) == '/';
    return PyUnicode_FromFormat(ended ? "%U%U" : "%U/%U", root, filename);
}

static PyObject *fs_write(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"collection", "filename", "ids", "vectors", NULL};
    PyObject *collection, *filename, *ids, *vectors;
    subject s;
    rows r;
    rv_error error = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:write", keywords, &collection,
                                     &filename, &ids, &vectors) ||
        take_rows(self, "FsBackend::write", ids, vectors, &r) < 0)
        return NULL;
    if (take_subject(self, collection, &s) < 0) {
        release_rows(&r);
        return NULL;
    }
    PyObject *bytes = take_filename(self, &s, filename);
    if (!bytes) {
        leave(self, &s, RV_OK, NULL);
        release_rows(&r);
        return NULL;
    }
    const char *name = PyBytes_AsString(bytes);
    PyThreadState *thread = PyEval_SaveThread();
    rv_status status = rv_fs_write(handle(self), s.collection, name, &r.all, &error);
    PyEval_RestoreThread(thread);
    Py_DECREF(bytes);
    release_rows(&r);
    blame_backend(&error);
    return leave(self, &s, status, &error) < 0 ? NULL : path_in_root(self, filename);
}

static PyMethodDef fs_methods[] = {
    {"register", KEYWORDS(fs_register), DOC_FS_REGISTER},
    {"write", KEYWORDS(fs_write), DOC_FS_WRITE},
    SHARED_METHODS,
    {NULL, NULL, 0, NULL},
};

/* ---- types ------------------------------------------------------------------ */

static PyTypeObject *make_type(PyObject *module, const char *name, const char *doc,
                               newfunc new, PyMethodDef *methods) {
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)(uintptr_t)doc},
        {Py_tp_new, new},
        {Py_tp_dealloc, backend_dealloc},
        {Py_tp_traverse, backend_traverse},
        {Py_tp_repr, backend_repr},
        {Py_tp_methods, methods},
        {Py_tp_getset, getters},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(rvpy_backend),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    return rvpy_type_new(module, &spec);
}

int rvpy_backend_init(PyObject *module, rvpy_state *state) {
    state->local_type =
        make_type(module, "ruvector.LocalBackend", DOC_LOCAL, local_new, local_methods);
    if (rvpy_module_add_type(module, "LocalBackend", state->local_type) < 0) return -1;
    state->fs_type = make_type(module, "ruvector.FsBackend", DOC_FS, fs_new, fs_methods);
    return rvpy_module_add_type(module, "FsBackend", state->fs_type);
}
