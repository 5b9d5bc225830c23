/*
 * ruvector.h - what every part of libruvector shares: status codes, the error
 * record, the allocator, threads, instruction sets, progress.
 *
 * Rules that hold for the whole library:
 *  - Every call that can fail returns rv_status and takes a last `rv_error *`,
 *    which may be NULL. On failure nothing the caller can see has changed, unless
 *    the call says otherwise.
 *  - Inputs are borrowed for the duration of the call. Outputs go to memory the
 *    caller owns. Handles are released by the matching `_free` or `_release`.
 *  - Structs that may grow, options and results alike, start with their own size; begin
 *    with the matching `_DEFAULT` initializer. The library takes every size from that of
 *    release 0.1.0 (`RV_..._0_1_0_SIZE`) to the one in its own headers and refuses any
 *    other. Options that an older program's struct lacks have their defaults; of a result
 *    it gets the fields that it knows. Structs without a size never change.
 */
#ifndef RUVECTOR_RUVECTOR_H
#define RUVECTOR_RUVECTOR_H

#include <stddef.h>
#include <stdint.h>

#if defined(RV_API)
/* The including project says what its functions are, such as nothing to show none. */
#elif defined(_WIN32) && defined(RV_SHARED)
#define RV_API __declspec(dllimport)
#elif defined(__GNUC__)
#define RV_API __attribute__((visibility("default")))
#else
#define RV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what every call returns ------------------------------------------------------ */

typedef enum rv_status {
    RV_OK = 0,
    RV_ERR_MEMORY,     /* an allocation failed */
    RV_ERR_ARGUMENT,   /* a parameter is outside its domain */
    RV_ERR_VALUE,      /* data holds NaN, infinity, or overflows float32 when squared */
    RV_ERR_DIM,        /* vector length is not the index dimension */
    RV_ERR_EMPTY,      /* search on an index without vectors */
    RV_ERR_DUPLICATE,  /* id already present, or twice in one call */
    RV_ERR_NOT_FOUND,  /* id absent */
    RV_ERR_NO_VECTORS, /* this kind of index keeps no original vectors */
    RV_ERR_IO,         /* the operating system said no; see os_errno and path */
    RV_ERR_FORMAT,     /* bytes are not a valid file of this kind */
    RV_ERR_DIGEST,     /* bytes are well formed but were altered */
    RV_ERR_LIMIT,      /* a documented size limit would be exceeded */
    RV_ERR_CANCELLED,  /* the progress callback asked to stop */
    RV_ERR_BACKEND,    /* the source of a lake's vectors failed, or gave bad data */
    RV_ERR_CACHE_MISS, /* not in the cache, and only that was asked for */
    RV_ERR_WITNESS     /* data is not what its witness says */
} rv_status;

/* What went wrong, in words that name what came and what to do. `expected` and
 * `actual` hold the two numbers the message compares; 0 where it compares none. */
typedef struct rv_error {
    rv_status code;
    int os_errno;
    uint64_t expected;
    uint64_t actual;
    char message[256];
    char path[256]; /* the file concerned, cut at the front if too long; else empty */
} rv_error;

/* Constant, lower-case name of a status, for logs. Never NULL. */
RV_API const char *rv_status_name(rv_status status);

/* "major.minor.patch" of the library; a build between releases adds a suffix as Python
 * packages have it: "0.2.0rc1", "0.2.0.post1". */
RV_API const char *rv_version(void);

/* ---- explicit: progress and threads ----------------------------------------------- */

/* Called on the calling thread only, about every 50 ms and once at the end.
 * `done` and `total` count what the call says, such as rows, queries or images. Non-zero
 * cancels the call, which then returns RV_ERR_CANCELLED with nothing changed. */
typedef struct rv_progress {
    int (*report)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
} rv_progress;

/* Threads used by builds and batches, the caller included. 0 restores the
 * default: RUVECTOR_NUM_THREADS if set, else the processors this process may
 * use. 1 runs everything on the caller. At most 1024 (RV_ERR_ARGUMENT). */
RV_API rv_status rv_set_num_threads(unsigned n, rv_error *err);
RV_API unsigned rv_get_num_threads(void);

/* ---- advanced: memory and instruction sets ---------------------------------------- */

/* Memory for everything the library keeps. Set before any other call and from
 * one thread; NULL restores malloc/free. `alloc` returns NULL when it cannot. */
typedef struct rv_allocator {
    void *(*alloc)(void *ctx, size_t bytes);
    void (*release)(void *ctx, void *memory);
    void *ctx;
} rv_allocator;
RV_API void rv_set_allocator(const rv_allocator *allocator);

/* Instruction sets: "scalar", "avx2", "avx512", "avx512vbmi", "neon". Results do
 * not depend on the choice, only speed does. The environment variable
 * RUVECTOR_ISA names the one to use; unknown or unsupported names are ignored
 * in favor of the best one found (rv_isa_requested tells). */
RV_API const char *rv_isa_active(void);

/* Fills up to `capacity` names this machine can run, best first; returns how many there
 * are. */
RV_API size_t rv_isa_available(const char **names, size_t capacity);

/* Forces one by name, for tests and comparisons; NULL returns to the best.
 * RV_ERR_ARGUMENT if this machine cannot run it. Indexes built before stay
 * valid: their scan blocks are rearranged at the next search. */
RV_API rv_status rv_isa_force(const char *name, rv_error *err);

#ifdef __cplusplus
}
#endif
#endif
