/*
 * rvpy.h - what the files of the extension share.
 *
 * The extension turns Python arguments into plain C data, calls the library and
 * turns the answer back. It is written against the stable ABI and keeps no state
 * outside the module object.
 *
 * The GIL: arguments are parsed, borrowed and checked with it; every library
 * call that may wait for a lock or take time runs without it. So nothing waits
 * for a lock of the library while holding the GIL, and it is safe for the
 * library to call back (progress, release) while it holds a lock of its own.
 */
#ifndef RVPY_H
#define RVPY_H

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x03090000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "ruvector/index.h"

/* ---- module state and types (type.c) ------------------------------------------ */

#define RVPY_N_KINDS 4

typedef enum rvpy_error_class {
    RVPY_DIMENSION_MISMATCH,
    RVPY_EMPTY_INDEX,
    RVPY_DUPLICATE_ID,
    RVPY_UNKNOWN_ID,
    RVPY_NO_VECTORS,
    RVPY_PERSIST_ERROR, /* a function: it picks the class that fits the errno */
    RVPY_LAKE_VALUE_ERROR,
    RVPY_LAKE_DIMENSION_MISMATCH,
    RVPY_EMPTY_COLLECTION,
    RVPY_UNKNOWN_COLLECTION,
    RVPY_BACKEND_ERROR,
    RVPY_CACHE_MISS,
    RVPY_WITNESS_MISMATCH,
    RVPY_LAKE_FILE_ERROR, /* a function, too */
    RVPY_EMBED_ERROR,
    RVPY_N_ERRORS
} rvpy_error_class;

typedef struct rvpy_state {
    PyObject *module;                       /* borrowed: the state is a part of it */
    PyTypeObject *index_type[RVPY_N_KINDS]; /* by rv_kind */
    PyTypeObject *iterator_type;
    PyTypeObject *hit_type;
    PyTypeObject *rotation_type;
    PyTypeObject *tuning_type;
    PyTypeObject *lake_hit_type;
    PyTypeObject *local_type, *fs_type, *adapter_type;
    PyTypeObject *pin_type, *job_type;
    PyObject *error[RVPY_N_ERRORS];
} rvpy_state;

extern const char rvpy_module_name[];
/* NULL if `module` is not this one. */
rvpy_state *rvpy_module_state(PyObject *module);
/* A type that knows its module, and a new reference to the module of one. */
PyTypeObject *rvpy_type_new(PyObject *module, PyType_Spec *spec);
PyObject *rvpy_type_module(PyTypeObject *type);
/* Adds a value, which it owns from the call on; NULL passes an exception on. */
int rvpy_module_add(PyObject *module, const char *name, PyObject *value);
/* The same of a type, but keeps the caller's reference. */
int rvpy_module_add_type(PyObject *module, const char *name, PyTypeObject *type);

typedef struct rvpy_index {
    PyObject ob_base;
    rv_index *index;
    rv_kind kind;
    PyObject *module; /* whose state the object needs */
    PyObject *weak_refs;
} rvpy_index;

static inline rv_index *rvpy_handle(PyObject *self) {
    return ((rvpy_index *)self)->index;
}

static inline rvpy_state *rvpy_state_of(PyObject *self) {
    return PyModule_GetState(((rvpy_index *)self)->module);
}

/* ---- results (record.c) ------------------------------------------------------ */

/* A type of struct sequences that has what a namedtuple has: _fields, _asdict, ... */
PyTypeObject *rvpy_record_type(PyStructSequence_Desc *description);

/* ---- errors (errors.c) ------------------------------------------------------ */

/* Fetches the classes from ruvector.errors. */
int rvpy_errors_init(rvpy_state *state);
/* Raises what a failed call recorded and returns NULL. An exception that is set
 * already (by a progress callback or a signal) stands. `path` may be NULL. */
PyObject *rvpy_raise(const rvpy_state *state, const rv_error *error, PyObject *path);

/* Raises the exception that a function of ruvector/_advice.py returns for arguments in
 * the form of Py_BuildValue, a tuple; -1. */
int rvpy_refuse(const char *function, const char *format, ...);

/* ---- library calls (call.c) ------------------------------------------------- */

/* A library call without the GIL. While it runs, signals are handled and the
 * callback is called from the progress reports of the library. */
typedef struct rvpy_call {
    PyThreadState *thread;
    PyObject *callback; /* borrowed, or NULL */
    rv_progress progress;
} rvpy_call;
/* callback: NULL, None or a callable (done, total); else TypeError and -1. */
int rvpy_call_begin(rvpy_call *call, PyObject *callback);
/* Takes the GIL back. -1 if `status` is an error or an exception is set. */
int rvpy_call_end(rvpy_call *call, rv_status status);

void rvpy_info(PyObject *self, rv_index_info *out);

/* ---- plain arguments (args.c): 0, or -1 with an exception set --------------- */

/* Not given: NULL or None. */
static inline bool rvpy_given(PyObject *arg) { return arg && arg != Py_None; }
/* Name of an object's type, a new reference. */
PyObject *rvpy_type_name(PyObject *object);
/* TypeError "<name>: expected <wanted>, got <type of arg>". */
void rvpy_wrong_type(const char *name, const char *wanted, PyObject *arg);
/* New bytes: a str as UTF-8, a path as the system has it. ValueError for a str with a
 * lone surrogate. */
PyObject *rvpy_utf8(PyObject *text, const char *name);
PyObject *rvpy_path(PyObject *path, const char *name);
/* An int (anything with __index__, but no bool) in 0..2^64-1. */
int rvpy_parse_u64(PyObject *arg, const char *name, uint64_t *out);
/* An id of a row, 0..2^64-2. */
int rvpy_parse_id(PyObject *arg, const char *name, uint64_t *out);
/* An id among others: no exception is set unless it is RVPY_FAILED. */
typedef enum rvpy_item {
    RVPY_IN_RANGE, /* 0..2^64-1 */
    RVPY_OUT_OF_RANGE,
    RVPY_NO_INT,
    RVPY_FAILED
} rvpy_item;
rvpy_item rvpy_parse_item(PyObject *arg, uint64_t *out);
/* At least 1; what exceeds 64 bits becomes UINT64_MAX. */
int rvpy_parse_k(PyObject *arg, uint64_t *out);
/* 1..max; 0 if not given. */
int rvpy_parse_count(PyObject *arg, const char *name, uint64_t max, uint64_t *out);
/* 1..8; *out stays if `arg` is NULL. */
#define RVPY_MAX_BITS 8u
int rvpy_parse_bits(PyObject *arg, uint32_t *out);
/* 1..RV_MAX_LISTS, or RV_ALL_LISTS for 'all'; 0 if not given. */
int rvpy_parse_nprobe(PyObject *arg, uint32_t *out);
int rvpy_parse_double(PyObject *arg, const char *name, double *out);
/* A finite number above 0; *out stays if not given. */
int rvpy_parse_epsilon(PyObject *arg, float *out);
int rvpy_parse_metric(PyObject *arg, rv_metric *out);
const char *rvpy_metric_name(rv_metric metric);
/* 'f32' or 'f16' as 32 or 16 bits; *out stays if `arg` is NULL. */
int rvpy_parse_originals(PyObject *arg, uint32_t *out);
/* None: automatic; else a bool. */
int rvpy_parse_verify(PyObject *arg, rv_verify *out);
const char *rvpy_class_name(rv_kind kind);
/* TypeError if `arg` is given and `kind` is not among `kinds` (bits 1 << rv_kind). */
#define RVPY_CODED (1u << RV_RABITQ | 1u << RV_PLUS | 1u << RV_ASYM)
#define RVPY_RERANKED (1u << RV_PLUS | 1u << RV_ASYM)
int rvpy_check_option(rv_kind kind, unsigned kinds, const char *method,
                      const char *option, PyObject *arg);
/* A number of lists as Python sees it: an int, or 'all'. */
PyObject *rvpy_nprobe(uint32_t nprobe, uint32_t n_lists);

/* ---- arrays (buffer.c): all that NumPy's C API is used for ------------------ */

int rvpy_numpy_init(void);

/* Data of an argument: borrowed where it lies if it can be, else a copy. */
typedef struct rvpy_array {
    PyObject *owner; /* keeps data alive */
    const void *data;
    Py_ssize_t shape[2]; /* rows, columns; columns = 1 for one dimension */
    bool came_as_ids;    /* an array of uint64, as searches return */
} rvpy_array;
void rvpy_array_release(rvpy_array *a); /* fine on a zeroed struct */

typedef enum rvpy_rank { RVPY_VECTOR = 1, RVPY_MATRIX = 2 } rvpy_rank;
/* Float32 data that is used where it lies. A vector of length d has shape {1, d}.
 * Arrays, and whatever exports one, must be float32 and C-contiguous; sequences are
 * copied. */
int rvpy_take_floats(PyObject *arg, const char *name, rvpy_rank rank, rvpy_array *out);
/* The same for a call that has convert=True: then every real dtype and layout is copied.
 */
int rvpy_take_vectors(PyObject *arg, const char *name, rvpy_rank rank, bool convert,
                      rvpy_array *out);
/* Every real dtype and layout; also a matrix of one row as a vector, and the reverse. */
int rvpy_take_queries(PyObject *arg, const char *name, rvpy_rank rank, rvpy_array *out);
/* Ids as uint64: integer arrays or any iterable of ints. Of ids that are wanted, the
 * integers that can be no id become RV_NO_ID; a batch has many queries. */
typedef enum rvpy_ids {
    RVPY_IDS_OF_ROWS,
    RVPY_IDS_WANTED,
    RVPY_IDS_STORED, /* wanted, in a backend */
    RVPY_IDS_BATCH
} rvpy_ids;
int rvpy_take_ids(PyObject *arg, const char *name, rvpy_ids use, rvpy_array *out);
/* Wanted ids, or one int. */
int rvpy_take_id_or_ids(PyObject *arg, const char *name, rvpy_ids use, rvpy_array *out);
/* Ids, or a boolean mask of one or (`rows` >= 0) two dimensions with that many rows. */
typedef enum rvpy_allow { RVPY_ALLOW_IDS, RVPY_ALLOW_MASK, RVPY_ALLOW_MASKS } rvpy_allow;
int rvpy_take_allow(PyObject *arg, Py_ssize_t rows, rvpy_array *out, rvpy_allow *form);
/* Bytes of anything that exports a contiguous buffer; never a copy. */
int rvpy_take_bytes(PyObject *arg, const char *name, rvpy_array *out);

static inline uint32_t rvpy_dim(const rvpy_array *a) {
    return a->shape[1] > (Py_ssize_t)UINT32_MAX ? UINT32_MAX : (uint32_t)a->shape[1];
}

typedef enum rvpy_dtype { RVPY_F32, RVPY_F16, RVPY_U64, RVPY_U8 } rvpy_dtype;
/* A new array, uninitialized; columns < 0 makes it one-dimensional. */
PyObject *rvpy_array_new(rvpy_dtype dtype, Py_ssize_t rows, Py_ssize_t columns,
                         void **data);
/* Makes a new array read-only; returns it. */
PyObject *rvpy_array_lock(PyObject *array);
/* A read-only array over the view, which it releases when it goes (also on failure). */
PyObject *rvpy_array_view(rv_view *view);
/* Whether a dtype argument of __array__ means that type; -1 on error. */
int rvpy_dtype_is(PyObject *dtype, rvpy_dtype wanted);

/* args.c: ValueError if wanted ids are zeros and ones only and some are repeated: more
 * likely flags for rows, of now or of before a change, than ids. An array of uint64 holds
 * ids unless there is one for each of `rows` rows. */
#define RVPY_ROWS_UNKNOWN UINT64_MAX
int rvpy_refuse_flags(PyObject *arg, const char *name, const rvpy_array *ids,
                      uint64_t rows);

/* ---- the index classes ------------------------------------------------------ */

/* index_type.c */
int rvpy_index_init(PyObject *module, rvpy_state *state);

/* object.c */
/* Wraps a new index in the class of its kind; owns `index` from the call on. */
PyObject *rvpy_index_wrap(const rvpy_state *state, rv_index *index);
/* What a class method knows by its class. */
typedef struct rvpy_class {
    rvpy_state *state;
    rv_kind kind;
} rvpy_class;
int rvpy_class_of(PyObject *type, rvpy_class *out);

/* index_build.c */
PyObject *rvpy_index_build(PyObject *type, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_add(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_add_batch(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_upsert(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_remove(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_vacuum(PyObject *self, PyObject *unused);

/* index_search.c */
PyObject *rvpy_index_search(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_search_batch(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_tune(PyObject *self, PyObject *args, PyObject *kwargs);

/* index_rows.c */
int rvpy_iterator_init(rvpy_state *state);
PyObject *rvpy_index_ids(PyObject *self, void *unused);
PyObject *rvpy_index_norms(PyObject *self, void *unused);
PyObject *rvpy_index_codes(PyObject *self, void *unused);
PyObject *rvpy_index_array(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_item(PyObject *self, PyObject *id);
int rvpy_index_contains(PyObject *self, PyObject *id);
PyObject *rvpy_index_iter(PyObject *self);

/* index_file.c */
PyObject *rvpy_index_save(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_load(PyObject *type, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_to_bytes(PyObject *self, PyObject *unused);
PyObject *rvpy_index_from_bytes(PyObject *type, PyObject *args, PyObject *kwargs);
PyObject *rvpy_index_reduce_ex(PyObject *self, PyObject *protocol);

/* ---- images (image.c) -------------------------------------------------------- */

PyObject *rvpy_mobilenet_load(PyObject *module, PyObject *path);
PyObject *rvpy_mobilenet_embed(PyObject *module, PyObject *args);
PyObject *rvpy_mobilenet_stage(PyObject *module, PyObject *args);
PyObject *rvpy_image_prepare(PyObject *module, PyObject *item);

#endif
