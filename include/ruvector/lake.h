/*
 * lake.h - a cache of indexes over vectors that live elsewhere. A lake builds an index
 * of a collection when it is first searched, keeps it coherent with its source, shares
 * it between sources that hold the same state, and tells by a witness which state an
 * answer came from.
 *
 *   key      (backend id, collection)
 *   bundle   what a backend says about a collection's state: where, dimension, generation
 *   witness  64 hex digits: SHAKE-256 of the bundle; the address of an entry in the cache
 *   entry    an index of one state; several keys may point at one
 *   prime    pull a collection, build its index, store it as an entry
 *
 * Threads: everything may be called from any number of threads, `_free` last. No lock
 * of a lake is held during a call to a backend, a build, a scan or a file operation.
 * Strings are UTF-8 and borrowed for the call.
 */
#ifndef RUVECTOR_LAKE_H
#define RUVECTOR_LAKE_H

#include "index.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RV_WITNESS_CHARS 64u /* without the 0 at the end */
typedef char rv_witness[RV_WITNESS_CHARS + 1];

/* ---- the calls most programs need ------------------------------------------------- */

/* New, register, search, free; a call that fails says why in rv_error.message. Backends,
 * where vectors come from, and options are under "simple". */
typedef struct rv_lake rv_lake;
typedef struct rv_backend rv_backend;
struct rv_lake_options;

typedef struct rv_key {
    const char *backend; /* NULL in an argument: the one that has the collection */
    const char *collection;
} rv_key;

/* options NULL: RV_LAKE_DEFAULT. */
RV_API rv_status rv_lake_new(const struct rv_lake_options *options, rv_lake **out,
                             rv_error *err);

/* RV_ERR_DUPLICATE if its id is taken. The lake keeps a reference. */
RV_API rv_status rv_lake_register(rv_lake *lake, rv_backend *backend, rv_error *err);

/* The k nearest rows of the key's collection, which is pulled and built first if need be:
 * rv_lake_acquire, rv_pin_search, rv_pin_release. */
RV_API rv_status rv_lake_search(rv_lake *lake, rv_key key, const rv_queries *queries,
                                uint64_t k, const rv_result *result, rv_error *err);

/* NULL is fine. */
RV_API void rv_lake_free(rv_lake *lake);

/* ---- simple: options, vectors in memory and in files ------------------------------ */

typedef enum rv_consistency {
    RV_FRESH = 0,    /* every search asks the backend whether its state has changed */
    RV_EVENTUAL = 1, /* a search asks if it is eventual_ttl_ms since one did, or longer */
    RV_STALE = 2     /* asks for what is not in the cache only */
} rv_consistency;

typedef struct rv_lake_options {
    size_t size;
    uint32_t rerank_factor; /* of the indexes built, 1..1024; part of the witness */
    uint64_t rotation_seed;
    uint64_t max_cache_entries; /* 0 = no limit */
    rv_consistency consistency;
    uint64_t eventual_ttl_ms;
    int strict; /* never prime in a search: RV_ERR_CACHE_MISS instead */
} rv_lake_options;
#define RV_LAKE_OPTIONS_0_1_0_SIZE sizeof(rv_lake_options)
#define RV_LAKE_DEFAULT                                                                  \
    { sizeof(rv_lake_options), 20, 42, 0, RV_FRESH, 60000, 0 }

/* Gives one reference up; a lake has one of its own. NULL is fine. */
RV_API void rv_backend_free(rv_backend *backend);

/* Vectors in memory. data_ref is "local://<id>/<collection>"; every change of a
 * collection counts its generation up by one, from 1. A pull is the state of one
 * moment, without a copy. */
RV_API rv_status rv_local_backend_new(const char *id, rv_backend **out, rv_error *err);

/* Makes or replaces a collection. ids are needed, and one may stand twice. RV_ERR_LIMIT
 * where data_ref would be longer than RV_BUNDLE_MAX_TEXT. */
RV_API rv_status rv_local_put(rv_backend *local, const char *collection,
                              const rv_rows *rows, rv_error *err);

/* One row at the end. An id that is there already then stands twice. RV_ERR_NOT_FOUND */
RV_API rv_status rv_local_append(rv_backend *local, const char *collection, uint64_t id,
                                 const float *vector, uint32_t dim, rv_error *err);

/* Replaces rows with these ids where they stand, appends the others; of an id given
 * twice the last counts. Makes the collection if need be. */
RV_API rv_status rv_local_upsert(rv_backend *local, const char *collection,
                                 const rv_rows *rows, rv_error *err);

/* Absent ids are ignored; without any present nothing changes. RV_ERR_NOT_FOUND */
RV_API rv_status rv_local_remove(rv_backend *local, const char *collection,
                                 const uint64_t *ids, uint64_t n, uint64_t *removed,
                                 rv_error *err);

/* Files of the form "ruvec1" in one directory, which is made if need be. data_ref is
 * "file://<root>/<file>" with the root as given; the generation is the file's time of
 * change in whole seconds. Symbolic links are refused unless `follow_links`. Messages
 * call it FsBackend, its name in Python. */
RV_API rv_status rv_fs_backend_new(const char *id, const char *root, int follow_links,
                                   rv_backend **out, rv_error *err);

/* Names the file of a collection; it may come later. RV_ERR_ARGUMENT for names that
 * are not plain file names, RV_ERR_LIMIT where data_ref would be too long. */
RV_API rv_status rv_fs_register(rv_backend *fs, const char *collection,
                                const char *filename, rv_error *err);

/* Writes the file, atomically, and registers it. */
RV_API rv_status rv_fs_write(rv_backend *fs, const char *collection, const char *filename,
                             const rv_rows *rows, rv_error *err);

/* Asks the backend and primes if need be. */
RV_API rv_status rv_lake_prime(rv_lake *lake, rv_key key, const rv_progress *progress,
                               rv_witness out, rv_error *err);

/* Forgets the key's entry; unless other keys point at it, the entry goes. */
RV_API void rv_lake_invalidate(rv_lake *lake, rv_key key);

/* ---- explicit: keys --------------------------------------------------------------- */

/* Backends in the order they were registered; NULL past the end. They live as long as
 * the lake. */
RV_API rv_backend *rv_lake_backend(const rv_lake *lake, size_t i);

/* The key meant by a collection alone: the only backend there is, else the only one that
 * lists it; without any backend, the only key of that collection in the cache.
 * RV_ERR_NOT_FOUND, or RV_ERR_ARGUMENT if there are several. The strings live as long as
 * the lake. */
RV_API rv_status rv_lake_resolve(rv_lake *lake, const char *collection, rv_key *out,
                                 rv_error *err);

/* All keys of a collection, one for each backend that lists it, in order of
 * registration: up to `capacity` of *n. */
RV_API rv_status rv_lake_holders(rv_lake *lake, const char *collection, rv_key *out,
                                 size_t capacity, size_t *n, rv_error *err);

/* ---- explicit: entries held ------------------------------------------------------- */

/* An entry held: it is neither changed nor evicted until released. */
typedef struct rv_pin rv_pin;
typedef struct rv_acquire_options {
    size_t size;
    int cached_only;             /* RV_ERR_CACHE_MISS where a pull would be needed */
    int always_check;            /* ask the backend, whatever the consistency */
    uint64_t calls;              /* for how many searches, in the counters; 0 = 1 */
    const rv_progress *progress; /* of a build, in rows; while waiting, total is 0 */
} rv_acquire_options;
#define RV_ACQUIRE_OPTIONS_0_1_0_SIZE sizeof(rv_acquire_options)
#define RV_ACQUIRE_DEFAULT                                                               \
    { sizeof(rv_acquire_options), 0, 0, 1, NULL }

/* Makes sure, as the consistency asks, that the key's entry is up to date, and holds it.
 */
RV_API rv_status rv_lake_acquire(rv_lake *lake, rv_key key,
                                 const rv_acquire_options *options, rv_pin **out,
                                 rv_error *err);
RV_API void rv_pin_release(rv_pin *pin); /* before rv_lake_free; NULL is fine */

typedef struct rv_entry_info {
    size_t size;
    rv_witness witness;
    uint64_t n;
    uint32_t dim;
    uint64_t keys;      /* that point at it */
    uint64_t holds;     /* searches, sessions and saves under way */
    int ids_unverified; /* from a snapshot that may have lost its ids */
} rv_entry_info;
#define RV_ENTRY_INFO_0_1_0_SIZE sizeof(rv_entry_info)
#define RV_ENTRY_INFO_DEFAULT                                                            \
    { sizeof(rv_entry_info), "", 0, 0, 0, 0, 0 }
RV_API rv_status rv_pin_info(const rv_pin *pin, rv_entry_info *out, rv_error *err);

/* Scores are squared distances, best first; as rv_index_search. rerank_factor 0: the
 * lake's. */
RV_API rv_status rv_pin_search(rv_pin *pin, const rv_queries *queries, uint64_t k,
                               uint32_t rerank_factor, const rv_progress *progress,
                               const rv_result *result, rv_error *err);

/* One query, so m is 1, in several entries. Each is asked for somewhat more than k hits
 * with a share of the rerank factor, at least 5 (or per_shard_rerank, if not 0); the best
 * k of all are returned by score, then position of the entry. Entries without rows add
 * nothing. */
typedef struct rv_lake_hit {
    uint64_t id;
    float score;
    uint32_t shard;
} rv_lake_hit;
RV_API rv_status rv_pins_search(rv_pin *const *pins, size_t n_pins,
                                const rv_queries *query, uint64_t k,
                                uint32_t per_shard_rerank, rv_lake_hit *hits,
                                uint64_t *n_hits, rv_error *err);

/* Acquires many at once, in parallel where the backends allow it. On failure none is
 * held and *failed tells which it was. */
RV_API rv_status rv_lake_acquire_all(rv_lake *lake, const rv_key *keys, size_t n,
                                     const rv_acquire_options *options, rv_pin **out,
                                     size_t *failed, rv_error *err);

/* ---- explicit: files -------------------------------------------------------------- */

#define RV_SNAPSHOT_FILE "index.rbpx"

/* Writes the key's entry and the bundle it was built from: RV_SNAPSHOT_FILE and
 * RV_BUNDLE_FILE. */
RV_API rv_status rv_lake_save(rv_lake *lake, rv_key key, const char *directory,
                              rv_error *err);

/* Reads them back, checks that they belong together and are whole, and lets the key
 * point at the entry. *n: rows. RV_ERR_IO, RV_ERR_FORMAT, RV_ERR_WITNESS. */
RV_API rv_status rv_lake_warm(rv_lake *lake, rv_key key, const char *directory,
                              uint64_t *n, rv_error *err);

/* ---- explicit: what is in the cache ----------------------------------------------- */

typedef struct rv_lake_stats {
    size_t size;
    uint64_t hits;          /* searches answered without a pull */
    uint64_t misses;        /* searches that needed one, or another key's entry */
    uint64_t primes;        /* entries built */
    uint64_t invalidations; /* pointers forgotten, entries dropped */
    uint64_t shared_hits;   /* pointers moved to an entry another key brought in */
    uint64_t warm_installs; /* this and what follows count for the lake as a whole only */
    uint64_t evictions;
    uint64_t scans; /* passes over entries; awaits answered together share one */
    double total_prime_ms, last_prime_ms;
} rv_lake_stats;
#define RV_LAKE_STATS_0_1_0_SIZE sizeof(rv_lake_stats)
#define RV_LAKE_STATS_DEFAULT                                                            \
    { sizeof(rv_lake_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
RV_API rv_status rv_lake_get_stats(const rv_lake *lake, rv_lake_stats *out,
                                   rv_error *err);

/* Counters of one key, or of a whole backend if `collection` is NULL. RV_ERR_NOT_FOUND if
 * nothing has happened there. */
RV_API rv_status rv_lake_get_key_stats(const rv_lake *lake, rv_key key,
                                       rv_lake_stats *out, rv_error *err);

/* Keys the lake has seen, in that order: up to `capacity` of the number returned. */
RV_API size_t rv_lake_keys(const rv_lake *lake, rv_key *out, size_t capacity);

/* RV_ERR_NOT_FOUND if the key has no entry. */
RV_API rv_status rv_lake_get_entry(const rv_lake *lake, rv_key key, rv_entry_info *out,
                                   rv_error *err);
RV_API uint64_t rv_lake_entry_count(const rv_lake *lake);

/* Keys that point at this witness's entry. */
RV_API uint64_t rv_lake_refcount(const rv_lake *lake, const char *witness);

/* Whether an entry holds this index, or one with the same rows and options. */
RV_API int rv_lake_has_index(const rv_lake *lake, const rv_index *index);

/* ---- advanced: bundles (docs/witness.md gives the bytes) -------------------------- */

#define RV_BUNDLE_FILE "table.rulake.json"
#define RV_BUNDLE_VERSION 2u
#define RV_BUNDLE_MAX_BYTES 65536u
#define RV_BUNDLE_MAX_TEXT 4096u   /* data_ref and the three tags */
#define RV_BUNDLE_MAX_WITNESS 128u /* as read; a valid one has 64 */

/* Text that may hold any UTF-8, zeros included. data NULL: there is none. */
typedef struct rv_text {
    const char *data;
    size_t size;
} rv_text;

typedef struct rv_bundle {
    uint32_t format_version;
    rv_text data_ref;
    uint64_t dim, rotation_seed, rerank_factor;
    uint64_t generation;     /* unless there is a text */
    rv_text generation_text; /* an opaque token in its place */
    rv_text witness;
    rv_text pii_policy, lineage_id, memory_class; /* passed through; not in the witness */
} rv_bundle;

/* The witness of data_ref, dim, rotation_seed, rerank_factor and generation: the first
 * 32 bytes of SHAKE-256 (FIPS 202), in lower-case hex. */
RV_API void rv_bundle_compute_witness(const rv_bundle *bundle, rv_witness out);

/* Whether the bundle's witness is that, digit for digit. */
RV_API int rv_bundle_verify(const rv_bundle *bundle);

/* A copy in one block, with a witness computed anew; free it with rv_bundle_free. */
RV_API rv_status rv_bundle_sealed(const rv_bundle *fields, rv_bundle **out,
                                  rv_error *err);
RV_API void rv_bundle_free(rv_bundle *bundle);

/* Reads JSON text; does not verify the witness. RV_ERR_FORMAT. */
RV_API rv_status rv_bundle_parse(const char *json, size_t size, rv_bundle **out,
                                 rv_error *err);

/* Writes JSON text: *size bytes, at most `capacity` of them to `out` (NULL with 0). */
RV_API void rv_bundle_format(const rv_bundle *bundle, char *out, size_t capacity,
                             size_t *size);

/* RV_BUNDLE_FILE in `directory`, which is made with its parents; atomic. */
RV_API rv_status rv_bundle_write(const rv_bundle *bundle, const char *directory,
                                 rv_error *err);

/* Reads and verifies it: RV_ERR_IO, RV_ERR_FORMAT, RV_ERR_WITNESS. */
RV_API rv_status rv_bundle_read(const char *directory, rv_bundle **out, rv_error *err);

/* Writes the backend's present bundle with these tags (each may be without data). */
typedef struct rv_tags {
    rv_text pii_policy, lineage_id, memory_class;
} rv_tags;
RV_API rv_status rv_lake_publish(rv_lake *lake, rv_key key, const char *directory,
                                 const rv_tags *tags, rv_witness out, rv_error *err);

typedef enum rv_refresh {
    RV_UP_TO_DATE = 0,
    RV_INVALIDATED = 1,
    RV_BUNDLE_MISSING = 2
} rv_refresh;

/* Forgets the key's entry if the published bundle has another witness. */
RV_API rv_status rv_lake_refresh(rv_lake *lake, rv_key key, const char *directory,
                                 rv_refresh *out, rv_error *err);

/* Lets the key point at a ready index, which is shared, not copied. bundle NULL: what the
 * backend says, or "<backend>://<collection>" of generation 0 if it is not registered.
 * Once somebody changes the index, the key counts as missing. */
RV_API rv_status rv_lake_install(rv_lake *lake, rv_key key, rv_index *index,
                                 const rv_bundle *bundle, rv_error *err);

/* ---- advanced: backends of a program's own ---------------------------------------- */

#define RV_PULL_MAX_ROWS UINT64_C(100000000)
#define RV_PULL_MAX_BYTES (UINT64_C(16) << 30) /* of float32 */

/* One state of a collection, borrowed until `release(owner)` (NULL: nothing to do).
 * Messages about one that is refused call it PulledBatch, its name in Python. */
typedef struct rv_pull {
    const uint64_t *ids; /* in row order; one may stand twice */
    uint64_t n_ids;
    const float *vectors; /* n x dim, row-major */
    uint64_t n, dim;
    uint64_t generation;
    void (*release)(void *owner);
    void *owner;
} rv_pull;

/* What a backend can do. Each call may come from several threads at once and returns
 * RV_ERR_NOT_FOUND for a collection it does not have. */
typedef struct rv_backend_calls {
    size_t size;
    /* Calls each(names, collection) for every collection; stops when that fails. */
    rv_status (*list)(void *ctx,
                      rv_status (*each)(void *names, const char *collection,
                                        rv_error *err),
                      void *names, rv_error *err);
    rv_status (*pull)(void *ctx, const char *collection, rv_pull *out, rv_error *err);
    /* Changes whenever the collection does. Cheap. */
    rv_status (*generation)(void *ctx, const char *collection, uint64_t *out,
                            rv_error *err);
    /* The bundle of the present state, with this seed and rerank factor, sealed. Cheap.
     * NULL: "<id>://<collection>" with dim and generation of a pull. */
    rv_status (*bundle)(void *ctx, const char *collection, uint64_t rotation_seed,
                        uint64_t rerank_factor, rv_bundle **out, rv_error *err);
    /* Four numbers that change whenever the bytes do, told apart more finely than by
     * the bundle. The first two stay as they are where the data are moved or copied:
     * snapshots remember those. NULL: bundle and generation say it all. */
    rv_status (*token)(void *ctx, const char *collection, uint64_t out[4], rv_error *err);
    void (*release)(void *ctx); /* at the last rv_backend_free; may be NULL */
    /* A pull's generation is that of exactly the bytes pulled, and a bundle follows
     * from it. Else the bundle is read before and after the pull, and must agree. */
    int snapshots;
    /* Only ever called on threads that call the lake, never on its own. */
    int callers_thread;
} rv_backend_calls;
#define RV_BACKEND_CALLS_0_1_0_SIZE sizeof(rv_backend_calls)
#define RV_BACKEND_CALLS_DEFAULT                                                         \
    { sizeof(rv_backend_calls), NULL, NULL, NULL, NULL, NULL, NULL, 0, 0 }

/* Owns `ctx` if it succeeds. */
RV_API rv_status rv_backend_new(const char *id, const rv_backend_calls *calls, void *ctx,
                                rv_backend **out, rv_error *err);
RV_API rv_backend *rv_backend_retain(rv_backend *backend);
RV_API const char *rv_backend_id(const rv_backend *backend);

/* The calls themselves, checked: what `list`, `pull` and so on return, with the
 * backend's name in messages, and a pull within all limits. */
RV_API rv_status rv_backend_list(rv_backend *backend,
                                 rv_status (*each)(void *names, const char *collection,
                                                   rv_error *err),
                                 void *names, rv_error *err);
RV_API rv_status rv_backend_pull(rv_backend *backend, const char *collection,
                                 rv_pull *out, rv_error *err);
RV_API void rv_pull_release(rv_pull *pull);
RV_API rv_status rv_backend_generation(rv_backend *backend, const char *collection,
                                       uint64_t *out, rv_error *err);
RV_API rv_status rv_backend_bundle(rv_backend *backend, const char *collection,
                                   uint64_t rotation_seed, uint64_t rerank_factor,
                                   rv_bundle **out, rv_error *err);

/* ---- advanced: threads of a backend's own ----------------------------------------- */

/* A backend that is being called may search lakes, but for what only its own call could
 * bring: that is RV_ERR_BACKEND, and never waited for. Where it lets other threads do so
 * and waits for them, they have to know what it is being called for: they do its
 * errand. */
typedef struct rv_errand rv_errand;

/* That of the calling thread, to be freed; *out is NULL where no backend is being called.
 */
RV_API rv_status rv_errand_here(rv_errand **out, rv_error *err);

/* The calling thread does it from now on, or none (NULL). Returns what it did before, to
 * be begun again when it is done. */
RV_API rv_errand *rv_errand_begin(rv_errand *errand);
RV_API void rv_errand_free(rv_errand *errand);

/* ---- advanced: searching without waiting ------------------------------------------ */

/* Finished jobs. Jobs run on threads of the library and leave their results here. */
typedef struct rv_completions rv_completions;
RV_API rv_status rv_completions_new(rv_completions **out, rv_error *err);

/* Results of jobs still under way are discarded. */
RV_API void rv_completions_free(rv_completions *completions);

/* Readable while something is finished; -1 where there is no such thing. */
RV_API int rv_completions_fd(const rv_completions *completions);

/* Waits until something is finished or `timeout_ms` have passed; 1 or 0. */
RV_API int rv_completions_wait(rv_completions *completions, unsigned timeout_ms);

typedef struct rv_job {
    size_t size;
    uint64_t tag;         /* comes back with the result; unique among unfinished jobs */
    const rv_key *keys;   /* these, or */
    rv_pin *const *pins;  /* entries acquired already; the job takes the holds over */
    size_t n_shards;      /* of keys or pins; more than 1: federated, one query */
    const float *queries; /* m x dim, copied. NULL: a prime, of one key */
    uint64_t m;
    uint32_t dim;
    uint64_t k;
    int federated; /* hits carry shards even if there is just one */
    uint32_t per_shard_rerank;
    int cached_only;
} rv_job;
#define RV_JOB_0_1_0_SIZE sizeof(rv_job)
#define RV_JOB_DEFAULT                                                                   \
    { sizeof(rv_job), 0, NULL, NULL, 0, NULL, 0, 0, 0, 0, 0, 0 }

/* Jobs that wait at the same time and search one key for equally many hits are answered
 * by one scan, up to 4096 queries of several jobs by each. All are taken or none. */
RV_API rv_status rv_lake_submit(rv_lake *lake, rv_completions *completions,
                                const rv_job *jobs, size_t n, rv_error *err);

/* The job will not start; if it has, it stops soon. Its result is RV_ERR_CANCELLED,
 * unless it was finished. */
RV_API void rv_completions_cancel(rv_completions *completions, uint64_t tag);

typedef struct rv_completion {
    size_t size;
    uint64_t tag;
    rv_status status;
    rv_error error;
    size_t failed_shard;
    uint64_t m, k; /* shape of ids and scores: k is at most the rows there are */
    uint64_t *ids; /* m x k, filled up with RV_NO_ID */
    float *scores;
    rv_lake_hit *hits;  /* of a federated search, */
    uint64_t n_hits;    /* this many */
    rv_witness witness; /* of a prime */
} rv_completion;
#define RV_COMPLETION_0_1_0_SIZE sizeof(rv_completion)
#define RV_COMPLETION_DEFAULT                                                            \
    {                                                                                    \
        sizeof(rv_completion), 0, RV_OK, {RV_OK, 0, 0, 0, "", ""}, 0, 0, 0, NULL, NULL,  \
            NULL, 0, ""                                                                  \
    }

/* Takes the oldest finished job; RV_ERR_NOT_FOUND if there is none. */
RV_API rv_status rv_completions_take(rv_completions *completions, rv_completion *out,
                                     rv_error *err);
RV_API void rv_completion_clear(rv_completion *completion);

#ifdef __cplusplus
}
#endif
#endif
