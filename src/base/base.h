/*
 * base.h - errors, sizes of structs, memory, numbers, bytes, digests, files and threads
 * for the rooms above. Knows nothing of vectors.
 */
#ifndef RVB_BASE_H
#define RVB_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ruvector/ruvector.h"

#if defined(__MINGW32__)
#define RVB_PRINTF(fmt, first) __attribute__((format(gnu_printf, fmt, first)))
#define RVB_MUST_CHECK __attribute__((warn_unused_result))
#elif defined(__GNUC__)
#define RVB_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define RVB_MUST_CHECK __attribute__((warn_unused_result))
#else
#define RVB_PRINTF(fmt, first)
#define RVB_MUST_CHECK
#endif

/* ---- errors (error.c) ---------------------------------------------------- */

/* Fills *err (may be NULL) and returns `code`. */
rv_status rvb_fail(rv_error *err, rv_status code, const char *format, ...)
    RVB_PRINTF(3, 4);
/* The same with the two numbers the message compares. */
rv_status rvb_fail_numbers(rv_error *err, rv_status code, uint64_t expected,
                           uint64_t actual, const char *format, ...) RVB_PRINTF(5, 6);
/* RV_ERR_IO from an errno value: "<what> <path>: <strerror>". */
rv_status rvb_fail_os(rv_error *err, int os_errno, const char *what, const char *path);
/* Names the file an error that is filled in is about. */
void rvb_error_path(rv_error *err, const char *path);
/* The end of a path in at most `limit` bytes, from a whole UTF-8 character on. */
const char *rvb_path_end(const char *path, size_t limit);
/* RV_ERR_MEMORY naming the size asked for. */
rv_status rvb_fail_memory(rv_error *err, uint64_t bytes);

#define RVB_TRY(call)                                                                    \
    do {                                                                                 \
        rv_status rvb_status_ = (call);                                                  \
        if (rvb_status_ != RV_OK) return rvb_status_;                                    \
    } while (0)

/* ---- structs that start with their size (options.c) ---------------------- */

/* A struct of the public headers whose first field is `size_t size`. */
typedef struct rvb_sized {
    const char *name, *initializer;
    size_t first, now; /* bytes in release 0.1.0, and in this one */
} rvb_sized;
#define RVB_SIZED(type, first, initializer)                                              \
    { #type, #initializer, first, sizeof(type) }

/* RV_ERR_ARGUMENT for a size that the library does not know. */
rv_status rvb_check_size(const rvb_sized *type, const void *given,
                         rv_error *err) RVB_MUST_CHECK;
/* Copies the fields that `given` (may be NULL) has over the defaults in `out`. */
rv_status rvb_take_options(const rvb_sized *type, const void *given, void *out,
                           rv_error *err) RVB_MUST_CHECK;
/* Copies as much of `info` as `out`, whose size the caller has set, has room for. */
rv_status rvb_give_info(const rvb_sized *type, const void *info, void *out,
                        rv_error *err) RVB_MUST_CHECK;

/* ---- checked sizes ------------------------------------------------------- */

/* False, with *out untouched, when the exact result does not fit. */
static inline bool rvb_mul(size_t a, size_t b, size_t *out) {
    if (a != 0 && b > SIZE_MAX / a) return false;
    *out = a * b;
    return true;
}
static inline bool rvb_add(size_t a, size_t b, size_t *out) {
    if (b > SIZE_MAX - a) return false;
    *out = a + b;
    return true;
}

/* ---- memory (memory.c) --------------------------------------------------- */

/* 64-byte aligned, uninitialized. NULL on failure; n = 0 gives a valid pointer. */
void *rvb_alloc(size_t n, size_t size);
/* The same, all zero. */
void *rvb_alloc_zero(size_t n, size_t size);
void rvb_free(void *memory);

/* ---- little-endian bytes ------------------------------------------------- */

static inline uint32_t rvb_get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}
static inline uint64_t rvb_get_u64(const uint8_t *p) {
    return (uint64_t)rvb_get_u32(p) | (uint64_t)rvb_get_u32(p + 4) << 32;
}
static inline void rvb_put_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline void rvb_put_u64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}

/* ---- random numbers (rng.c) ---------------------------------------------- */

/* Counter-based: a pure function of its arguments, the same on every machine.
 * Streams keep uses of one seed apart. */
uint64_t rvb_random(uint64_t seed, uint64_t stream, uint64_t counter);
/* Uniform in [0, bound), bound > 0, without modulo bias beyond 2^-64 * bound. */
uint64_t rvb_random_below(uint64_t seed, uint64_t stream, uint64_t counter,
                          uint64_t bound);

/* ---- digests (shake.c) --------------------------------------------------- */

/* SHAKE-256 (FIPS 202), incremental. */
typedef struct rvb_shake {
    uint64_t state[25];
    unsigned at; /* byte position in the rate while absorbing, then squeezing */
} rvb_shake;
void rvb_shake_init(rvb_shake *s);
void rvb_shake_update(rvb_shake *s, const void *data, size_t size);
/* Absorbing ends; squeeze may be called repeatedly. */
void rvb_shake_finish(rvb_shake *s);
void rvb_shake_squeeze(rvb_shake *s, void *out, size_t size);
void rvb_shake256(const void *data, size_t size, void *out, size_t out_size);

#define RVB_DIGEST_BYTES 32
#define RVB_DIGEST_LEAF ((size_t)1 << 20)
struct rvb_pool;
/* Digest of large data, by leaves so that threads can share the work:
 * SHAKE-256, 32 bytes, of "ruvector-tree-1" (15 ASCII bytes), the total size as
 * u64, and the 32-byte SHAKE-256 of each 1 MiB leaf (the last may be shorter;
 * no leaf for empty data). */
rv_status rvb_tree_digest(struct rvb_pool *pool, const void *data, size_t size,
                          uint8_t out[RVB_DIGEST_BYTES], rv_error *err) RVB_MUST_CHECK;

/* The same digest of data that arrives in pieces, in order: exactly as many bytes
 * as promised at init. */
typedef struct rvb_tree {
    rvb_shake root, leaf;
    uint64_t left;    /* bytes still to come */
    size_t leaf_fill; /* bytes in the current leaf */
} rvb_tree;
void rvb_tree_init(rvb_tree *t, uint64_t total_size);
void rvb_tree_update(rvb_tree *t, const void *data, size_t size);
void rvb_tree_finish(rvb_tree *t, uint8_t out[RVB_DIGEST_BYTES]);

/* ---- files (io.c, shake.c, watch.c, os_posix.c, os_windows.c) ------------ */

/* What tells one state of a file from the next. Times are since 1970. */
typedef struct rvb_stamp {
    int64_t modified_s;               /* the time the data changed, rounded down */
    uint64_t modified_ns, changed_ns; /* of data; of data or attributes; modulo 2^64 */
    uint64_t size, inode;
} rvb_stamp;

/* Bytes of a file, mapped or read whole. */
typedef struct rvb_bytes {
    const uint8_t *data;
    size_t size;
    bool mapped;             /* else owned heap memory */
    struct rvb_watch *watch; /* of a mapped file */
} rvb_bytes;
rv_status rvb_file_open(const char *path, bool use_mmap, rvb_bytes *out,
                        rv_error *err) RVB_MUST_CHECK;
void rvb_file_close(rvb_bytes *bytes); /* safe on a zeroed struct */
/* RV_ERR_DIGEST if the file that is mapped has been written to or cut since it was
 * opened, as far as its size and times tell. One fstat, some 0.7 us; nothing for bytes
 * that are not mapped. Another file in its place, and removal, change nothing. */
rv_status rvb_file_check(const rvb_bytes *bytes, rv_error *err) RVB_MUST_CHECK;
/* Copies bytes at..at+size-1 without touching the mapping: from a file that was cut too,
 * whose pages would end the process. */
rv_status rvb_file_read(const rvb_bytes *bytes, uint64_t at, void *out, size_t size,
                        rv_error *err) RVB_MUST_CHECK;
/* The digest of the first `size` bytes, read so. */
rv_status rvb_file_digest(struct rvb_pool *pool, const rvb_bytes *bytes, size_t size,
                          uint8_t out[RVB_DIGEST_BYTES], rv_error *err) RVB_MUST_CHECK;

/* A regular file open to be read from its start, for readers that want a part of it or
 * must know whether it changes meanwhile. Messages are "<what> <path>: <reason>". */
typedef struct rvb_input {
    intptr_t fd;
    const char *what, *path; /* borrowed */
} rvb_input;
rv_status rvb_input_open(const char *what, const char *path, bool follow_links,
                         rvb_input *out, rv_error *err) RVB_MUST_CHECK;
rv_status rvb_input_stamp(const rvb_input *in, rvb_stamp *out,
                          rv_error *err) RVB_MUST_CHECK;
/* Waits until a later write would show in the stamp: at most 10 ms, some 16 on Windows,
 * where the file was written to a moment ago, for the system's own times of files go in
 * such steps. */
void rvb_stamp_outlast(const rvb_stamp *stamp);
/* *got < size at the end of the file only. */
rv_status rvb_input_read(const rvb_input *in, void *data, size_t size, size_t *got,
                         rv_error *err) RVB_MUST_CHECK;
void rvb_input_close(const rvb_input *in);

/* Makes a directory, and those it lies in, unless they are there. "" is there. */
rv_status rvb_make_directories(const char *path, rv_error *err) RVB_MUST_CHECK;
/* "<directory>/<name>", or the name alone for "". NULL when memory is out. */
char *rvb_join_path(const char *directory, const char *name);

/* Writes a file beside `path`, flushes it to disk, renames it over `path` at commit
 * and flushes the directory. A symbolic link stays and the file it names is
 * replaced; permissions of an existing file are kept. Buffered. */
typedef struct rvb_writer rvb_writer;
rv_status rvb_writer_open(const char *path, rvb_writer **out,
                          rv_error *err) RVB_MUST_CHECK;
/* The same, but a symbolic link is itself replaced by the file. */
rv_status rvb_writer_open_at(const char *path, rvb_writer **out,
                             rv_error *err) RVB_MUST_CHECK;
/* After a failure every later call on the writer fails with the same error. */
rv_status rvb_writer_write(rvb_writer *w, const void *data, size_t size,
                           rv_error *err) RVB_MUST_CHECK;
/* Frees the writer, whatever happens; on failure the temporary file is gone and
 * `path` is as before, unless flushing the directory failed, which comes last. */
rv_status rvb_writer_commit(rvb_writer *w, rv_error *err) RVB_MUST_CHECK;
void rvb_writer_abort(rvb_writer *w); /* NULL is fine */

/* ---- threads (fork.c, lock.c, os_posix.c, os_windows.c, polite.c, pool.c) - */

/* In the child of a fork all locks of this section are free, but for batons that the
 * thread which forked holds. */
typedef struct rvb_mutex rvb_mutex;
rvb_mutex *rvb_mutex_create(void); /* NULL on failure */
void rvb_mutex_free(rvb_mutex *m);
void rvb_mutex_lock(rvb_mutex *m);
void rvb_mutex_unlock(rvb_mutex *m);

/* Many readers or one writer. A waiting writer goes before new readers. Not recursive.
 * Writing is a step as in os.h: a fork waits for its end. */
typedef struct rvb_rwlock rvb_rwlock;
rvb_rwlock *rvb_rwlock_create(void); /* NULL on failure */
void rvb_rwlock_free(rvb_rwlock *l);
void rvb_rwlock_read_lock(rvb_rwlock *l);
void rvb_rwlock_read_unlock(rvb_rwlock *l);
void rvb_rwlock_write_lock(rvb_rwlock *l);
void rvb_rwlock_write_unlock(rvb_rwlock *l);

/* A lock that may be held while something is called back, and so knows who holds it.
 * Taking it fails, in place of a wait without end, if this thread holds it, or its holder
 * waits, directly or through others, for a baton of this thread. */
typedef struct rvb_baton rvb_baton;
rvb_baton *rvb_baton_create(void); /* NULL on failure */
void rvb_baton_free(rvb_baton *b);
bool rvb_baton_take(rvb_baton *b) RVB_MUST_CHECK;
void rvb_baton_give(rvb_baton *b);
bool rvb_baton_is_mine(const rvb_baton *b);

/* Processors this process may use (affinity and cgroup quota respected), >= 1. */
unsigned rvb_cpu_count(void);
/* Monotonic clock. */
uint64_t rvb_now_ns(void);

/* Whether the calling thread works politely: beside an event loop that is not to wait. */
bool rvb_is_polite(void);
bool rvb_set_polite(bool now); /* returns what it was */
/* For long loops, every tenth of a millisecond or so: where the thread is polite and has
 * had its processor for long, lets others have it and returns true. */
bool rvb_make_room(void);

/* Worker threads. NULL is a valid pool: everything runs on the caller. */
typedef struct rvb_pool rvb_pool;
/* The process's pool, made at first use with the number of threads in force;
 * NULL if that is 1 or threads cannot be had. A fork's child gets a new one.
 * Release after use so that rv_set_num_threads can retire it. */
rvb_pool *rvb_pool_acquire(void);
void rvb_pool_release(rvb_pool *pool);
/* Distinct `worker` values a body may see: 1 for NULL. */
unsigned rvb_pool_workers(const rvb_pool *pool);

typedef rv_status (*rvb_body)(void *ctx, unsigned worker, size_t begin, size_t end,
                              rv_error *err);
/* Equals: for (b = 0; b < n; b += grain) body(ctx, 0, b, min(b + grain, n), err),
 * in any order and at once on several threads; the cuts depend on n and grain
 * only. The caller is worker 0 and the only one to call progress->report (done
 * and total count in units of n). The error of the lowest failing chunk that ran
 * is returned; after a failure or cancel no new chunk starts. Callers on
 * different threads may share one pool. Calls from inside a body run serially and
 * report nothing. All threads are as polite as the caller. n = 0 returns at once;
 * grain > 0. */
rv_status rvb_pool_for(rvb_pool *pool, size_t n, size_t grain, rvb_body body, void *ctx,
                       const rv_progress *progress, rv_error *err) RVB_MUST_CHECK;

#endif
