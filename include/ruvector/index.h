/*
 * index.h - vector indexes: exact float32 (flat) and RaBitQ codes with or
 * without the original vectors.
 *
 * Threads: any number of readers (search, get, views, info) and one writer at a
 * time (add, upsert, remove, vacuum, tune at its end, and save, which only keeps
 * the others out; more of these queue up) may use one index at once. A reader
 * sees whole rows only. `_free` must come last.
 *
 * Rows keep insertion order; removal keeps the order of the rest. Ids are
 * unsigned 64-bit, chosen by the caller or counted up from the largest seen.
 */
#ifndef RUVECTOR_INDEX_H
#define RUVECTOR_INDEX_H

#include "ruvector.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RV_MAX_DIM 8192u
#define RV_MAX_ROWS UINT64_C(4294967294)
#define RV_MAX_LISTS 65536u
#define RV_SMALL_LISTS 64u
#define RV_ALL_LISTS UINT32_MAX
#define RV_NO_ID UINT64_MAX /* fills unused places of a result; never a valid id */

/* ---- the calls most programs need ------------------------------------------------- */

/* Build, search, free; a call that fails says why in rv_error.message. The options, which
 * may be NULL, are under "explicit". */
typedef struct rv_index rv_index;
struct rv_build_options;
struct rv_search_options;

/* Vectors and their ids, borrowed for the call. */
typedef struct rv_rows {
    const float *vectors; /* n x dim, row-major, finite */
    const uint64_t *ids;  /* n of them, none RV_NO_ID, none twice; or NULL */
    uint64_t n;
    uint32_t dim;
} rv_rows;

/* Queries, borrowed for the call. */
typedef struct rv_queries {
    const float *data; /* m x dim, row-major, finite */
    uint64_t m;
    uint32_t dim;
} rv_queries;

/* Where the answers go, memory of the caller: m x k of each, best first. Places beyond
 * min(k, live allowed rows) hold RV_NO_ID and the worst value (+inf for L2, -inf
 * else). */
typedef struct rv_result {
    uint64_t *ids;
    float *scores;
} rv_result;

/* options NULL: RV_BUILD_DEFAULT. Where its dim is 0, that of the rows holds; else they
 * must agree (RV_ERR_DIM). ids NULL: 0..n-1. n may be 0. With originals_bits 16 vectors
 * are below 65520 in magnitude, in add and upsert too (RV_ERR_VALUE). Bytes of the result
 * depend on rows, options and library version only - not on threads or ISA. */
RV_API rv_status rv_index_build(const struct rv_build_options *options,
                                const rv_rows *rows, rv_index **out, rv_error *err);

/* The k best rows of each query. options NULL: RV_SEARCH_DEFAULT. Memory beside ids and
 * scores is for min(k, live rows) results of a query, whatever k is. */
RV_API rv_status rv_index_search(const rv_index *index, const rv_queries *queries,
                                 uint64_t k, const struct rv_search_options *options,
                                 const rv_result *result, rv_error *err);

/* Gives one ownership up; the index goes with the last. NULL is fine. */
RV_API void rv_index_free(rv_index *index);

/* ---- simple: rows that change, files ---------------------------------------------- */

/* Appends rows. ids NULL continues after the largest id ever used; an id already present
 * is RV_ERR_DUPLICATE. */
RV_API rv_status rv_index_add(rv_index *index, const rv_rows *rows,
                              const rv_progress *progress, rv_error *err);

/* As add, but rows whose id exists are replaced; the new row goes to the end. */
RV_API rv_status rv_index_upsert(rv_index *index, const rv_rows *rows,
                                 const rv_progress *progress, rv_error *err);

/* Removes the rows with these ids; absent ids are ignored. *removed may be NULL. */
RV_API rv_status rv_index_remove(rv_index *index, const uint64_t *ids, uint64_t n,
                                 uint64_t *removed, rv_error *err);

/* Copies the vector of `id` as it is kept: dim floats. RV_ERR_NO_VECTORS,
 * RV_ERR_NOT_FOUND */
RV_API rv_status rv_index_get(const rv_index *index, uint64_t id, float *out,
                              rv_error *err);
RV_API int rv_index_contains(const rv_index *index, uint64_t id);

/* Files (docs/format.md). Saving is atomic: `path` holds either what it held
 * before or the whole new index. */
RV_API rv_status rv_index_save(const rv_index *index, const char *path, rv_error *err);

typedef enum rv_verify {
    RV_VERIFY_AUTO = 0, /* check the digest of files under 1 GB */
    RV_VERIFY_ALWAYS = 1,
    RV_VERIFY_NEVER = 2 /* structure is still checked */
} rv_verify;

/* use_mmap non-zero: map the file and leave vectors and codes on disk until touched.
 * The file must then not be written to in place or cut while the index lives; saving
 * over it, replacing and removing it are fine. */
RV_API rv_status rv_index_load(const char *path, int use_mmap, rv_verify verify,
                               rv_index **out, rv_error *err);

/* ---- explicit: kinds, metrics and options; tuning; what an index is made of ------- */

typedef enum rv_kind {
    RV_FLAT = 0,   /* float32 vectors, exact search */
    RV_RABITQ = 1, /* codes only; scores are estimates */
    RV_PLUS = 2,   /* codes and vectors; scores are exact */
    RV_ASYM = 3    /* codes, and vectors if built with a rerank factor above 1 */
} rv_kind;

/* Scores: squared distance for RV_L2 (smaller is better); inner product and
 * cosine similarity for the others (larger is better). Cosine with a zero
 * vector is 0. Results come best first; equal scores by ascending id. */
typedef enum rv_metric { RV_L2 = 0, RV_IP = 1, RV_COSINE = 2 } rv_metric;

typedef struct rv_build_options {
    size_t size;
    rv_kind kind;
    rv_metric metric;
    uint32_t dim;           /* 1..RV_MAX_DIM; 0 = that of the rows */
    uint32_t rerank_factor; /* 0 = let the bound decide; 1..1024, default of searches */
    uint32_t n_lists;       /* 0 = chosen from n; else 1..RV_MAX_LISTS, and with more than
                               RV_SMALL_LISTS at most one per 64 rows */
    uint32_t bits;          /* of a code per dimension, 1..8: 1 for the sign, the others
                               for its magnitude (multi-bit RaBitQ) */
    float epsilon;          /* width of the error bound, > 0; default of searches */
    uint64_t seed;
    const rv_progress *progress; /* NULL = none */
    int repeated_ids; /* non-zero: an id may stand twice; calls by id take the first */
    uint32_t originals_bits; /* of a kept component: 32, or with codes beside it 16: rows
                                are rounded to binary16, and are then what is indexed */
} rv_build_options;
#define RV_BUILD_OPTIONS_0_1_0_SIZE sizeof(rv_build_options)
#define RV_BUILD_DEFAULT                                                                 \
    { sizeof(rv_build_options), RV_PLUS, RV_L2, 0, 0, 0, 1, 2.2f, 42, NULL, 0, 32 }

/* allow_ids selects when non-NULL (also with allow_count 0), else allow_mask. */
typedef struct rv_search_options {
    size_t size;
    float epsilon;             /* 0 = the index's */
    uint32_t nprobe;           /* lists to look into on average, nearest first: half to
                                  twice as many as a query needs them, with RV_IP always
                                  so many; 0 = the index's, RV_ALL_LISTS = all */
    uint32_t rerank_factor;    /* floor: the best k * factor estimates are checked
                                  exactly as well. 0 = the index's */
    uint64_t max_rerank;       /* cap on exact distances per query, >= k; 0 = none */
    const uint64_t *allow_ids; /* search these only; unknown ids are ignored */
    uint64_t allow_count;
    const uint8_t *allow_mask; /* or: a byte per live row, in row order; 0 = forbidden */
    uint64_t allow_mask_len;   /* must equal the number of live rows */
    int allow_mask_per_query;  /* non-zero: the mask holds one such row per query */
    const rv_progress *progress;
    uint64_t allow_version; /* rv_index_info.changes of the rows the mask was made for: a
                               search of other rows fails with RV_ERR_ARGUMENT; 0 = the
                               caller knows that they are the same */
} rv_search_options;
#define RV_SEARCH_OPTIONS_0_1_0_SIZE offsetof(rv_search_options, allow_version)
#define RV_SEARCH_DEFAULT                                                                \
    { sizeof(rv_search_options), 0, 0, 0, 0, NULL, 0, NULL, 0, 0, NULL, 0 }

typedef struct rv_tuning {
    size_t size;
    uint32_t nprobe; /* RV_ALL_LISTS if fewer do not reach the recall */
    float epsilon;
    double recall; /* of the half of the queries that took no part in the choice */
} rv_tuning;
#define RV_TUNING_0_1_0_SIZE sizeof(rv_tuning)
#define RV_TUNING_DEFAULT                                                                \
    { sizeof(rv_tuning), 0, 0, 0 }

/* Finds the cheapest nprobe and epsilon that find a share `recall` (0..1) of the true k
 * nearest rows of the even-numbered queries, and makes them the defaults of this
 * index's searches; files keep them. The true rows are those of a search of all lists
 * with a bound so wide that it leaves nothing out; without vectors, the best estimates.
 * Cost is counted in bytes touched, not timed: the same queries give the same result.
 * At least two queries, from where later ones will come, not rows of the index. */
RV_API rv_status rv_index_tune(rv_index *index, const rv_queries *queries, uint64_t k,
                               double recall, const rv_progress *progress, rv_tuning *out,
                               rv_error *err);

typedef struct rv_index_info {
    size_t size;
    rv_kind kind;
    rv_metric metric;
    uint32_t dim;
    uint32_t bits;       /* per dimension; 0 for RV_FLAT */
    uint32_t code_bytes; /* per row: bits * (dim rounded up to 32) / 8; 0 for RV_FLAT */
    uint32_t n_lists;
    uint32_t nprobe; /* default of searches; RV_ALL_LISTS = all */
    uint32_t rerank_factor;
    float epsilon;
    int has_vectors;
    uint32_t originals_bits; /* 32 or 16; 0 without vectors */
    uint64_t seed;
    uint64_t n;    /* live rows */
    uint64_t dead; /* removed rows not yet vacuumed */
    uint64_t next_id;
    uint64_t changes; /* grows whenever rows are added, removed or moved, and equals that
                         of no other rows in the process; above 0, not kept in files */
    int moved; /* rows were removed or replaced since the index was made or read, so
                  that an earlier state may have had as many others */
} rv_index_info;
#define RV_INDEX_INFO_0_1_0_SIZE offsetof(rv_index_info, moved)
#define RV_INDEX_INFO_DEFAULT                                                            \
    { sizeof(rv_index_info), RV_FLAT, RV_L2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
RV_API rv_status rv_index_get_info(const rv_index *index, rv_index_info *out,
                                   rv_error *err);

/* Bytes allocated or mapped, split by use; total is their sum. */
typedef struct rv_memory_usage {
    size_t size;
    uint64_t codes;    /* codes, factors, norms */
    uint64_t blocks;   /* scan blocks derived from the codes */
    uint64_t vectors;  /* original vectors */
    uint64_t ids;      /* ids, id table, list of each row, marks of removed rows */
    uint64_t rotation; /* rotation signs, mean, centroids */
    uint64_t slack; /* capacity reserved and not used, and what does not grow with rows */
    uint64_t total;
    uint64_t mapped; /* part of total that is a mapped file, not memory of this process */
} rv_memory_usage;
#define RV_MEMORY_USAGE_0_1_0_SIZE sizeof(rv_memory_usage)
#define RV_MEMORY_USAGE_DEFAULT                                                          \
    { sizeof(rv_memory_usage), 0, 0, 0, 0, 0, 0, 0, 0 }
RV_API rv_status rv_index_memory(const rv_index *index, rv_memory_usage *out,
                                 rv_error *err);

/* Gives back the memory of removed rows. Views taken earlier stay valid. */
RV_API rv_status rv_index_vacuum(rv_index *index, rv_error *err);

/* ---- advanced: owners, many rows at once, files with notes, bytes in memory ------- */

/* One more owner of the same index. */
RV_API rv_index *rv_index_retain(rv_index *index);

/* Copies rows begin..begin+count of the live rows, in row order; RV_ERR_NOT_FOUND if
 * there are fewer. Any output may be NULL. vectors: count x dim. codes: count x
 * code_bytes: `bits` planes from the sign plane down, each code_bytes / bits bytes in
 * which bit j of byte j/8 belongs to dimension j of the rotated residual. Read together
 * they are the unsigned number X_j of the estimate sum_j q_j (X_j - (2^bits - 1)/2). */
RV_API rv_status rv_index_copy_rows(const rv_index *index, uint64_t begin, uint64_t count,
                                    uint64_t *ids, float *norms, uint8_t *codes,
                                    float *vectors, rv_error *err);

/* The vectors where they lie, without a copy: float, or binary16 (16 bits). Valid, and
 * unchanged, until released, whatever happens to the index. Row i starts at (const char
 * *)data + i * stride_bytes. RV_ERR_NO_VECTORS if none are kept; RV_ERR_ARGUMENT if
 * removed rows lie between (vacuum first). */
typedef struct rv_view {
    size_t size;
    const void *data;
    uint32_t bits; /* of a component: 32 or 16 */
    uint64_t n;
    uint32_t dim;
    uint64_t stride_bytes;
    void *owner;
} rv_view;
#define RV_VIEW_0_1_0_SIZE sizeof(rv_view)
#define RV_VIEW_DEFAULT                                                                  \
    { sizeof(rv_view), NULL, 0, 0, 0, 0, NULL }
RV_API rv_status rv_index_view(const rv_index *index, rv_view *out, rv_error *err);
RV_API void rv_view_release(rv_view *view);

/* Same class, metric, dim, seed, options, ids and vectors (codes where no
 * vectors are kept), in the same order. Not equal to anything: an index whose mapped
 * file was changed, see rv_index_check_file. */
RV_API int rv_index_equal(const rv_index *a, const rv_index *b);

#define RV_MAX_NOTE 4096u
typedef struct rv_save_options {
    size_t size;
    int row_numbers;    /* records for readers of version 1 carry row numbers, not ids */
    const void *note;   /* bytes of the caller's own that go into the file; NULL = none */
    uint32_t note_size; /* at most RV_MAX_NOTE */
} rv_save_options;
#define RV_SAVE_OPTIONS_0_1_0_SIZE sizeof(rv_save_options)
#define RV_SAVE_DEFAULT                                                                  \
    { sizeof(rv_save_options), 0, NULL, 0 }
RV_API rv_status rv_index_save_as(const rv_index *index, const char *path,
                                  const rv_save_options *options, rv_error *err);

/* The note of the file the index was read from: copies up to `capacity` bytes, returns
 * how many there are. */
RV_API uint32_t rv_index_note(const rv_index *index, void *out, uint32_t capacity);

/* RV_ERR_DIGEST if the mapped file has been changed in place since, which every call that
 * reads from it asks too; RV_OK if not, or where no file is mapped. It goes by the size
 * and times of the file, and costs one fstat, some 0.7 us. */
RV_API rv_status rv_index_check_file(const rv_index *index, rv_error *err);

/* The bytes `save` would write. Exactly rv_index_serialized_size() of them;
 * call both under no concurrent writer, else RV_ERR_ARGUMENT may report that
 * the size has changed. */
RV_API uint64_t rv_index_serialized_size(const rv_index *index);
RV_API rv_status rv_index_serialize(const rv_index *index, void *out, uint64_t size,
                                    rv_error *err);

/* Uses `data` in place; `release(ctx)` is called once when it is needed no
 * longer (also on failure). release may be NULL. */
RV_API rv_status rv_index_from_memory(const void *data, uint64_t size, rv_verify verify,
                                      void (*release)(void *ctx), void *ctx,
                                      rv_index **out, rv_error *err);

#ifdef __cplusplus
}
#endif
#endif
