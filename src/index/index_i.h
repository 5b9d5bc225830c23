/*
 * index_i.h - the inside of rv_index, shared by the files of this room.
 *
 * An index is a quantizer (frozen once trained), rows in insertion order (the
 * truth, what files hold) and lists of scan blocks (derived from the rows, for
 * the instruction set in use, rebuilt whenever missing).
 *
 * Locks: `writer` is held by whatever changes the index or needs it unchanged
 * for long (save); `making` by a search while it makes the lists, and by a writer
 * from when it looks at them until its change is visible; `state` is held shared by
 * readers and exclusively for the short moment in which a change becomes visible.
 * Order: writer, making, state. Row data beyond rows.n is invisible to readers, so
 * a writer fills it without `state`. Progress is reported with `writer` at most held,
 * so that a search never waits for somebody's callback.
 */
#ifndef RVX_INDEX_I_H
#define RVX_INDEX_I_H

#include <stdatomic.h>

#include "base/base.h"
#include "base/hash.h"
#include "kernel/kernel.h"
#include "ruvector/index.h"

#define RVX_MAX_BITS 8u
#define RVX_MAX_RERANK_FACTOR 1024u

/* ---- vector.c ---------------------------------------------------------------- */

/* Floats of a rotated vector: dim rounded up to a multiple of 32. */
uint32_t rvx_padded_dim(uint32_t dim);
/* Largest squared norm accepted: squares of sums of a few such rows stay in float32. */
#define RVX_MAX_NORM2 0x1p112f
/* Below it squares may be too small for float32. */
#define RVX_TINY_NORM 0x1p-40f
/* The norm of a row or query; 0 for a vector of zeros only. RV_ERR_VALUE for NaN,
 * infinity, or a norm above 2^56, where squares would leave float32; the message calls it
 * "<what> <number>". */
rv_status rvx_norm(const rvk_ops *ops, const float *vector, size_t dim, const char *what,
                   uint64_t number, float *norm, rv_error *err);
/* A vector in the same direction and its norm, whose square float32 can hold: the vector
 * itself, or, below RVX_TINY_NORM, a multiple in `room`, which may be the vector. */
const float *rvx_lifted(const rvk_ops *ops, const float *vector, size_t dim, float *room,
                        float *norm);

/* Vectors where they lie. */
typedef struct rvx_source {
    const uint8_t *data;
    size_t stride; /* bytes from row to row */
    bool halves;   /* binary16, else float */
} rvx_source;
/* A row as floats: where it lies, or widened into `room`. */
const float *rvx_source_row(const rvx_source *from, const rvk_ops *ops, size_t row,
                            size_t dim, float *room);
/* Rounds n rows that lie one after the other into `to`, which is of halves. RV_ERR_VALUE
 * names a component that would not be finite. */
rv_status rvx_round_rows(const rvk_ops *ops, const float *rows, size_t n, size_t dim,
                         const rvx_source *to, rvb_pool *pool,
                         const rv_progress *progress, rv_error *err);

/* ---- estimator.c ------------------------------------------------------------ */

/* Standard deviation of the estimates of sum_j q_j (u_j - 1/2), u the signs of a code,
 * for a centroid at that distance from the query, which is rounded by query_error. */
float rvx_estimator_stddev(size_t padded, float distance, float query_error);
/* The same of a squared distance that a code with magnitudes estimates, for each unit of
 * the distance between query and centroid. norm2: of the row, from the centroid. */
double rvx_ex_estimator_stddev(size_t padded, double norm2, const rvk_levels *level);

/* What float32 is off by at most in an estimate, as a share of the products of lengths it
 * is made of; see rerank.c. */
static inline float rvx_rounding(size_t padded) {
    return ((float)padded / 4 + 160) * 0x1p-24f;
}

/* ---- assign.c: the nearest of some centroids --------------------------------- */

typedef struct rvx_centroids {
    const rvk_ops *ops;
    const float *rows; /* k x dim, the caller's; dim is a padded dimension */
    size_t k, dim;
    float *half_norms; /* |c|^2 / 2 */
    uint8_t *codes;    /* scan blocks of their codes; NULL where they are few */
    size_t code_bytes;
} rvx_centroids;
/* Whether so many are told apart by codes first. */
bool rvx_many_centroids(size_t k, size_t dim);
/* Empty until told that the rows have moved to where they are. */
rv_status rvx_centroids_init(rvx_centroids *c, const float *rows, size_t k, size_t dim,
                             rv_error *err);
void rvx_centroids_moved(rvx_centroids *c);
void rvx_centroids_clear(rvx_centroids *c);
/* The nearest centroid, the lowest on a tie, of each of n <= RVX_NEAREST_ROWS points that
 * lie one after the other, and |c|^2/2 - <x, c> there. Of many centroids, one that is
 * hardly farther away may be taken for the nearest; a good guess in `nearest`, else a
 * number from k on, spares time. scratch: that many floats. */
#define RVX_NEAREST_ROWS 32u
size_t rvx_assign_scratch(const rvx_centroids *c);
void rvx_assign(const rvx_centroids *c, const float *points, size_t n, float *scratch,
                uint32_t *nearest, float *value);
/* |row|^2 / 2 of n rows. */
void rvx_half_norms(const rvk_ops *ops, const float *rows, size_t n, size_t dim,
                    float *half_norms);
/* Scan blocks of the codes of k rows around 0, with factors that estimate |q - c|^2 -
 * |q|^2; with w, those of -<q, w + c>. */
void rvx_code_centroids(const rvk_ops *ops, unsigned group, const float *rows, size_t k,
                        size_t dim, const float *w, uint8_t *blocks);

/* ---- quantizer.c: data -> codes and factors -------------------------------
 *
 * RaBitQ, Gao & Long 2024, arXiv:2405.12497. With mean m, rotation P, centroid c:
 * x = P(o - m), r = x - c, u = [r > 0]. The estimate of the squared distance is
 * A + G + B * sum_j q_j (u_j - 1/2), q = P(query - m), G = |q - c|^2. */

#define RVX_PROBE_RADII 32u

typedef struct rvx_quantizer {
    rv_metric metric;
    uint32_t dim, padded, n_lists;
    uint64_t trained_on; /* rows the mean and centroids were computed from */
    uint32_t *signs;     /* 4 * padded / 32 words */
    unsigned extra;      /* bits of a code beside the sign */
    float *mean;         /* dim */
    float *centroids;    /* n_lists x padded, rotated, relative to the mean */
    rvx_centroids near;  /* the same, to find the nearest of */
    float *spread;       /* of each list, see probe.c; NULL: lists go by distance alone */
    float reach[RVX_PROBE_RADII];
    /* RV_IP only, else NULL: P m (padded), and P m + c for each list. */
    float *rotated_mean, *ip_weights;
} rvx_quantizer;

/* Rows from which an index that has not been tuned has many lists and leaves some out. */
#define RVX_PROBING_ROWS 200000u

uint32_t rvx_auto_lists(uint64_t n);
/* Most lists that n rows can be spread over. */
uint32_t rvx_most_lists(uint64_t n);
rv_status rvx_quantizer_create(uint32_t dim, rv_metric metric, uint64_t seed,
                               uint32_t n_lists, unsigned bits, rvx_quantizer **out,
                               rv_error *err);
void rvx_quantizer_free(rvx_quantizer *q);
/* Mean and centroids from n > 0 rows; at most rvx_most_lists(n) lists are made. Rows
 * rvx_norm would refuse count as zero if `skip_bad`; else they make the quantizer
 * useless. */
rv_status rvx_quantizer_train(rvx_quantizer *q, uint64_t seed, const rvx_source *vectors,
                              size_t n, bool skip_bad, rvb_pool *pool,
                              const rv_progress *progress, rv_error *err);
/* Derives what follows from mean and centroids; train does this itself. */
rv_status rvx_quantizer_finish(rvx_quantizer *q, rv_error *err);
size_t rvx_quantizer_bytes(const rvx_quantizer *q);
/* y (padded floats) = P(scale * v - m); v may be y. */
void rvx_quantizer_rotate(const rvx_quantizer *q, const rvk_ops *ops, const float *v,
                          float scale, float *y);

typedef struct rvx_factors {
    float a, b;
} rvx_factors;
/* Of codes with magnitudes: the estimate a + G + b * sum_j q_j (X_j - half) is off by
 * e |q - c| times a normal deviate, or less. */
typedef struct rvx_fine_factors {
    rvx_factors sign;
    float a, b, e;
} rvx_fine_factors;

/* y (n x padded) and lists of n <= RVX_NEAREST_ROWS rows of the given norms, which may
 * lie where y is to come. scratch: that of rvx_assign for q->near. */
void rvx_quantizer_place(const rvx_quantizer *q, const rvk_ops *ops,
                         const float *const *rows, const float *norms, size_t n,
                         float *scratch, float *y, uint32_t *lists);
/* Codes one placed row: q->extra + 1 planes of padded/8 bytes, and the factors, of which
 * all but `sign` are set only with extra bits. */
void rvx_quantizer_encode(const rvx_quantizer *q, const rvk_ops *ops, const float *y,
                          float norm, uint32_t list, uint8_t *code,
                          rvx_fine_factors *factors);

/* ---- kmeans.c -------------------------------------------------------------- */

/* k centroids (k x dim, dim a padded dimension) of n >= k points (n x dim), of which the
 * first quarter and half should be like all of them. The same bits for any number of
 * threads. `spread` (k) gets half the mean squared distance
 * between a centroid and its points, >= 0. */
rv_status rvx_kmeans(const float *points, size_t n, size_t dim, size_t k, uint64_t seed,
                     rvb_pool *pool, const rv_progress *progress, float *centroids,
                     float *spread, rv_error *err);
/* ---- rows.c: what is stored per row --------------------------------------- */

/* Memory shared by columns and views; freed with the last reference. */
typedef struct rvx_buf {
    atomic_size_t refs;
    void *memory; /* owned, or NULL */
    void (*release)(void *ctx);
    void *ctx;
    const rvb_bytes *file; /* whose bytes these are, or NULL */
} rvx_buf;
rvx_buf *rvx_buf_alloc(size_t bytes); /* NULL on failure */
/* Foreign memory: `release(ctx)` runs with the last reference. NULL on failure, nothing
 * released. */
rvx_buf *rvx_buf_borrow(void (*release)(void *ctx), void *ctx);
rvx_buf *rvx_buf_ref(rvx_buf *buf);
void rvx_buf_unref(rvx_buf *buf);

typedef struct rvx_column {
    rvx_buf *buf;
    uint8_t *data;
    size_t width;  /* bytes of one row; 0 = column not kept */
    size_t stride; /* bytes from row to row, >= width */
    size_t
        capacity; /* rows; just rows.n for a column in a file, which is never written */
    bool mapped;  /* lies in a mapped file, which others may change */
} rvx_column;

enum {
    RVX_IDS,
    RVX_CODES,
    RVX_FACTORS,
    RVX_NORMS,
    RVX_LISTS,
    RVX_VECTORS,
    RVX_N_COLUMNS
};

typedef struct rvx_rows {
    size_t n; /* rows, removed ones included */
    size_t n_live;
    rvx_column column[RVX_N_COLUMNS];
    uint64_t *dead; /* bit per row, NULL while nothing has been removed */
    size_t dead_words;
    bool ids_ascending;  /* strictly, over all rows */
    uint64_t renumbered; /* how often vacuum has changed row numbers */
} rvx_rows;

/* bits: of a code; vector_bits: of a component; 0 for none. */
void rvx_rows_init(rvx_rows *rows, uint32_t dim, unsigned bits, unsigned vector_bits);
void rvx_rows_clear(rvx_rows *rows);
/* Columns with room for `rows` rows, a copy of the first n in them; a column that
 * has room already is shared. On failure `grown` holds nothing. */
rv_status rvx_columns_grow(const rvx_rows *from, size_t rows, bool exact,
                           rvx_column grown[RVX_N_COLUMNS], rv_error *err);
void rvx_columns_clear(rvx_column columns[RVX_N_COLUMNS]);
void rvx_columns_swap(rvx_column a[RVX_N_COLUMNS], rvx_column b[RVX_N_COLUMNS]);
/* Copies cells first..first+n-1, side by side; those of a mapped file without touching
 * it. */
rv_status rvx_cells_copy(const rvx_column *from, size_t first, size_t n, void *to,
                         rv_error *err);
/* RV_ERR_DIGEST if a mapped file that rows lie in is not what it was. To be asked before
 * such rows are read, and again before what was made of them is believed. */
rv_status rvx_rows_check(const rvx_rows *rows, rv_error *err);
/* A row array without its removed rows, in fresh columns. */
rv_status rvx_rows_compact(const rvx_rows *from, rvx_rows *out, rv_error *err);

static inline void *rvx_cell(const rvx_column *c, size_t row) {
    return c->data + row * c->stride;
}
static inline uint64_t rvx_row_id(const rvx_rows *rows, size_t row) {
    uint64_t id;
    memcpy(&id, rvx_cell(&rows->column[RVX_IDS], row), sizeof id);
    return id;
}
static inline bool rvx_bit(const uint64_t *bits, size_t i) {
    return (bits[i / 64] >> (i % 64)) & 1;
}
/* A request to fetch `bytes` bytes from p on. */
static inline void rvx_fetch(const void *p, size_t bytes) {
#if defined(__GNUC__)
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)p + at);
#else
    (void)p, (void)bytes;
#endif
}
#define RVX_ROW_FETCH 8192u /* bytes of one row, and of all rows fetched ahead */
#define RVX_AHEAD 16u       /* most of them: hides one memory latency */
/* How many rows a search fetches ahead of those it compares with its query. */
size_t rvx_rows_ahead(const rvx_rows *rows);
/* Of bits != 0. */
static inline unsigned rvx_lowest_bit(uint64_t bits) {
#if defined(__GNUC__)
    return (unsigned)__builtin_ctzll(bits);
#else
    unsigned place = 0;
    while (!(bits >> place & 1)) place++;
    return place;
#endif
}
/* Pairs, fours and eights of bits are added up side by side: a call of the compiler's
 * own for processors without such an instruction takes several times as long. */
static inline unsigned rvx_count_bits(uint64_t bits) {
    bits -= bits >> 1 & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) +
           (bits >> 2 & UINT64_C(0x3333333333333333));
    bits = (bits + (bits >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (unsigned)(bits * UINT64_C(0x0101010101010101) >> 56);
}
static inline bool rvx_row_live(const rvx_rows *rows, size_t row) {
    return !rows->dead || !rvx_bit(rows->dead, row);
}

/* ---- idmap.c: id -> row ---------------------------------------------------- */

#define RVX_NO_ROW SIZE_MAX

/* Open addressing over row numbers; the ids themselves stay in the rows. Unused
 * (capacity 0) while ids ascend, when a binary search does. */
typedef struct rvx_idmap {
    uint32_t *slots; /* row + 1, 0 = free */
    size_t capacity; /* power of two, or 0 */
    size_t n;
    rvb_hash_key key;
    uint32_t *twins; /* of each row, the next one with its id + 1, 0 = none; or NULL */
    size_t n_twins;  /* rows that have an entry there */
} rvx_idmap;
/* A table of the live rows with room for `extra` more, or an empty one when ids
 * ascend and stay so (`needed` false). */
rv_status rvx_idmap_build(const rvx_rows *rows, size_t extra, bool needed, rvx_idmap *out,
                          rv_error *err);
void rvx_idmap_clear(rvx_idmap *map);
void rvx_idmap_insert(rvx_idmap *map, const rvx_rows *rows, size_t row);
/* The live ones of rows begin..end-1; of rows with one id the lowest. */
void rvx_idmap_insert_rows(rvx_idmap *map, const rvx_rows *rows, size_t begin,
                           size_t end);
/* After an import an id may stand on several rows. The table then knows the lowest, and
 * from each of them the next is reached. Linking cannot fail once there is room. */
rv_status rvx_idmap_reserve_twins(rvx_idmap *map, size_t n_rows, rv_error *err);
void rvx_idmap_link_twins(rvx_idmap *map, const rvx_rows *rows);
/* The next higher row with the same id, or RVX_NO_ROW. */
size_t rvx_idmap_twin(const rvx_idmap *map, size_t row);
void rvx_idmap_erase(rvx_idmap *map, const rvx_rows *rows, size_t row);
/* The live row with this id (the lowest, if several), or RVX_NO_ROW. */
size_t rvx_row_of_id(const rvx_idmap *map, const rvx_rows *rows, uint64_t id);
/* RV_ERR_DUPLICATE if a value stands twice and may not (`repeated`), RV_ERR_ARGUMENT if
 * one is RV_NO_ID. *ascending tells whether they strictly ascend. */
rv_status rvx_ids_check(const uint64_t *ids, size_t n, bool repeated, bool *ascending,
                        rv_error *err);

/* ---- inverted_lists.c: scan blocks --------------------------------------------------
 */

typedef struct rvx_list {
    uint8_t *blocks;
    uint32_t *rows;  /* row of each slot, ascending */
    size_t n;        /* slots in use */
    size_t capacity; /* blocks */
    float least_b;   /* of the factors B, without their sign, at most the smallest */
    bool own;        /* blocks and rows are memory of this list's own */
} rvx_list;

typedef struct rvx_lists {
    rvx_list *list; /* NULL = not built */
    uint32_t n_lists;
    unsigned group; /* of the instruction set they were arranged for */
    size_t padded, block_bytes;
    float
        curvature; /* times B^2: what A is stored lower by, for rounding; see rerank.c */
    uint8_t *blocks; /* what lists that do not own theirs share */
    uint32_t *rows;
    size_t shared_blocks; /* room in them */
    uint8_t *centroids;   /* blocks of their codes; NULL where they are few */
} rvx_lists;

rv_status rvx_lists_build(const rvx_rows *rows, const rvx_quantizer *q, unsigned group,
                          rvb_pool *pool, rvx_lists *out, rv_error *err);
void rvx_lists_clear(rvx_lists *lists);
/* Makes room so that adding rows first..first+n-1 cannot fail. Writes to nothing readers
 * see. */
rv_status rvx_lists_reserve(const rvx_lists *lists, const rvx_rows *rows, size_t first,
                            size_t n, rvx_lists *grown, rv_error *err);
void rvx_lists_adopt(rvx_lists *lists, rvx_lists *grown);
void rvx_lists_append(rvx_lists *lists, const rvx_rows *rows, size_t row);
void rvx_lists_kill(rvx_lists *lists, const rvx_rows *rows, size_t row);
void rvx_lists_bytes(const rvx_lists *lists, uint64_t *used, uint64_t *slack);

/* ---- topk.c ---------------------------------------------------------------- */

/* Smaller is better; equal keys by id. `row` travels along. */
typedef struct rvx_hit {
    float key;
    uint32_t row;
    uint64_t id;
} rvx_hit;

static inline bool rvx_hit_before(const rvx_hit *a, const rvx_hit *b) {
    return a->key < b->key || (a->key == b->key && a->id < b->id);
}

/* The k best of what is pushed. Ascending array for small k, max-heap above. */
typedef struct rvx_topk {
    rvx_hit *hit;
    size_t k, n;
    float worst; /* key to beat: +inf until k are held */
} rvx_topk;
rv_status rvx_topk_init(rvx_topk *t, size_t k, rv_error *err);
void rvx_topk_clear(rvx_topk *t); /* frees */
void rvx_topk_reset(rvx_topk *t);
void rvx_topk_push(rvx_topk *t, rvx_hit hit); /* NaN keys are ranked last */
void rvx_topk_sort(rvx_topk *t);              /* best first; ends pushing */

/* The k best of what is pushed, put apart only now and then: for larger k than a
 * search's own, of which only a bound on the worst is wanted in between. */
typedef struct rvx_shortlist {
    rvx_hit *hit;
    size_t k, n, room; /* n may exceed k until it is cut */
    float worst;       /* no smaller than the k-th best key; +inf until that is known */
} rvx_shortlist;
rv_status rvx_shortlist_init(rvx_shortlist *t, size_t k, rv_error *err);
void rvx_shortlist_clear(rvx_shortlist *t); /* frees */
void rvx_shortlist_reset(rvx_shortlist *t);
void rvx_shortlist_push(rvx_shortlist *t, rvx_hit hit); /* key <= worst */
void rvx_shortlist_cut(rvx_shortlist *t);               /* leaves the k best, unordered */

/* Moves hits with keys below `key` to the front; returns how many they are. */
size_t rvx_hits_partition(rvx_hit *hits, size_t n, float key);
/* Moves the m first of n hits, in no order, to the front. */
void rvx_hits_select(rvx_hit *hits, size_t n, size_t m);
void rvx_hits_sort(rvx_hit *hits, size_t n);

/* ---- probe.c ------------------------------------------------------------------ */

/* Lists a search may look into that is to look into nprobe on average. */
#define RVX_MAX_PROBED(nprobe) (2 * (size_t)(nprobe))
/* Sets q->reach from n > 0 points as kmeans had them; needs centroids and spread. */
rv_status rvx_probe_train(rvx_quantizer *q, const rvk_ops *ops, const float *points,
                          size_t n, rv_error *err);
/* Squared distance from the smallest key, within which lie nprobe lists on average. */
float rvx_probe_radius(const rvx_quantizer *q, size_t nprobe);
/* Puts the lists to look into, of n > 0 whose `row` is their number and whose key is the
 * distance, to the front, with keys as compared; returns how many. */
size_t rvx_probe_choose(const rvx_quantizer *q, size_t nprobe, rvx_hit *lists, size_t n);

/* ---- filter.c -------------------------------------------------------------- */

typedef struct rvx_filter {
    uint64_t *bits; /* per row, removed rows never set; NULL = every live row */
    size_t n_rows;  /* rows the bits cover; later rows are not allowed */
    size_t count;
    uint64_t renumbered; /* of the rows they were made for */
} rvx_filter;
rv_status rvx_filter_build(const rv_index *index, const rv_search_options *o,
                           uint64_t query, rvx_filter *out, rv_error *err);
void rvx_filter_clear(rvx_filter *f);
static inline bool rvx_filter_passes(const rvx_filter *f, size_t row) {
    return row < f->n_rows && rvx_bit(f->bits, row);
}

/* ---- search.c and what it is made of --------------------------------------- */

typedef struct rvx_params {
    size_t k;        /* <= live rows */
    uint32_t nprobe; /* lists to look into */
    float epsilon;
    size_t min_rerank; /* best estimates to check exactly in any case */
    size_t max_rerank; /* most exact distances, 0 = no limit */
} rvx_params;

/* A row on its way to be looked at more closely; its memory is being fetched. */
typedef struct rvx_pending {
    uint32_t row, list;
    float bound; /* key the row cannot be better than */
} rvx_pending;

typedef struct rvx_prefetch_queue {
    rvx_pending at[RVX_AHEAD];
    size_t head, n;
} rvx_prefetch_queue;

/* A place of a list that passed; which row is there is being fetched. */
typedef struct rvx_candidate {
    const uint32_t *row;
    uint32_t list;
    float bound, estimated; /* key the row cannot be better than, and the likely one */
} rvx_candidate;
#define RVX_CANDIDATES 8u

/* What a search costs, in bytes read in order: a byte of a row somewhere else counts
 * several times, and going to a list or a row has a price of its own. The ratios are
 * those of times measured from memory, 40 GB/s in order and 12 GB/s by rows of 512 B. */
#define RVX_SCATTERED 3u
#define RVX_ROW_COST 512u
#define RVX_LIST_COST 2048u

/* What one query needs. Valid while the state lock is held. */
typedef struct rvx_query_state {
    const rv_index *index;
    const rvk_ops *ops;
    rvx_params params;
    const float *query; /* as given */
    float query_norm;
    rvx_topk top;

    /* coded search only */
    uint8_t *arena; /* holds the arrays below */
    float *rotated; /* P(query - m), padded */
    float *shifted; /* P query, RV_IP only */
    float *list_g2; /* |q - c|^2; NaN until measured */
    float *list_g;  /* G: what the query and the list add to every estimate */
    int8_t *rounded;
    uint8_t *lut;
    uint64_t *probed; /* bit per list */
    rvk_query rq;
    float rotated_norm, half_sum;
    float mean_dot;  /* RV_IP only: <m, query> */
    float mean_norm; /* RV_IP only: |m| */

    rvx_hit *order;  /* lists: first those to look into, in that order */
    size_t n_order;  /* lists that are not empty */
    size_t n_near;   /* of those, the nearest; nearest first */
    size_t n_probed; /* n_near and, in ascending order, others that are to be seen */
    rvx_shortlist
        shortlist; /* best estimates, where min_rerank or max_rerank asks for them */
    const rvx_filter *filter; /* NULL: all rows */
    rvx_candidate candidate[RVX_CANDIDATES];
    size_t first_candidate, n_candidates;
    rvx_prefetch_queue coarse; /* rows whose magnitudes come next */
    rvx_prefetch_queue fine;   /* rows to be reranked, */
    size_t ahead;              /* that many at most */
    uint32_t list;             /* being scanned; and of it, see rvx_enter_list: */
    float t, g;
    float least; /* by which estimates exceed their bounds at least; may be 0 */
    uint64_t cost;
} rvx_query_state;

/* rerank.c: key of a row by its original vector: squared distance, minus the inner
 * product, or minus the cosine. */
float rvx_exact_key(const rvx_query_state *s, size_t row);
/* Minus the cosine of the query and a row whose inner product is known. */
float rvx_cosine_key(const rvx_query_state *s, size_t row, float dot);

/* query.c: the query made ready, and the order of the lists. */
rv_status rvx_scan_init(rvx_query_state *s, rv_error *err);
void rvx_scan_clear(rvx_query_state *s);
void rvx_query_prepare(rvx_query_state *s);
/* Nearest first also those that were not to be looked into. */
void rvx_order_rest(rvx_query_state *s);
/* Fills list_g2 and list_g of a list, if that has not been done. */
void rvx_measure_list(rvx_query_state *s, uint32_t list);

/* rerank.c: from rows that pass a bound to answers. */
void rvx_enter_list(rvx_query_state *s, uint32_t list);
/* Of a row of a list that has been measured, by its stored code and the query as it is:
 * the estimate, in scan space, and what the key is hardly below. */
float rvx_estimate(const rvx_query_state *s, size_t row, uint32_t list, float *bound);
/* Lower bounds below this pass (with max_rerank and no magnitudes: estimates). */
float rvx_limit(const rvx_query_state *s);
/* Whether the scan compares estimates with the limit, not lower bounds. */
bool rvx_scans_estimates(const rvx_query_state *s);
/* A row of the current list whose value came out of the scan; `b` is its factor. */
void rvx_consider(rvx_query_state *s, uint32_t row, float value, float b);
/* The same by the place where the number of the row stands. */
void rvx_consider_slot(rvx_query_state *s, const uint32_t *row, float value, float b);
/* A row by its stored code, whatever list it is in. */
void rvx_consider_row(rvx_query_state *s, size_t row);
/* Waits for nothing more: all rows considered so far are ranked (with max_rerank: known).
 */
void rvx_flush(rvx_query_state *s);
/* What min_rerank or max_rerank still ask for once every list has been seen. */
void rvx_flush_shortlist(rvx_query_state *s);

/* scan.c: fills s[i].top for n <= RVX_QUERIES_AT_ONCE queries; the answers are those of
 * each alone. filters[i] may be NULL. */
#define RVX_QUERIES_AT_ONCE 8u /* that one thread answers before it lets writers in */
void rvx_scan_queries(rvx_query_state *s, size_t n, const rvx_filter *const *filters);

/* search.c: the public search, and the cost of all queries if `cost` is not NULL. */
rv_status rvx_search(const rv_index *index, const rv_queries *queries, uint64_t k,
                     const rv_search_options *options, const rv_result *result,
                     uint64_t *cost, rv_error *err);

/* How many of m queries a thread compares with rows of `dim` floats before it lets
 * writers in and asks whether to go on; the threads are `workers`. */
size_t rvx_flat_at_once(const rvk_ops *ops, size_t rows, size_t dim, uint64_t m,
                        size_t workers);

/* flat.c: fills s[i].top for n_queries <= RVX_FLAT_AT_ONCE queries that lie one after the
 * other in memory. filters[i] may be NULL. */
#define RVX_FLAT_AT_ONCE                                                                 \
    256u /* reading and packing the rows once for so many is little */
void rvx_flat_search(rvx_query_state *s, size_t n_queries,
                     const rvx_filter *const *filters);

/* ---- the index ------------------------------------------------------------- */

struct rv_index {
    rv_kind kind;
    rv_metric metric;
    uint32_t dim;
    uint32_t rerank_factor;
    uint32_t n_lists_option;
    uint32_t nprobe;      /* default of searches; 0 = chosen from the number of rows */
    unsigned bits;        /* of a code, 0 without codes */
    unsigned vector_bits; /* of a component, 0 without vectors */
    float epsilon;
    uint64_t seed;
    bool has_codes, has_vectors;

    rvx_quantizer *quantizer; /* NULL until the first rows; NULL for RV_FLAT */
    rvx_rows rows;
    rvx_idmap ids;
    rvx_lists lists;
    uint64_t next_id;
    uint64_t changes; /* as in rv_index_info */
    /* Where rows were last looked for by number, if some are removed: a word of their
     * bits, and in the lower half how many rows before it live. 0 once another one is
     * removed. */
    _Atomic uint64_t cursor;
    bool moved;        /* as there */
    bool repeated_ids; /* while it is built: an id may stand twice */
    uint8_t *note;     /* of the file it was read from */
    uint32_t note_size;

    _Atomic uint32_t owners;
    rvb_baton *writer;
    rvb_mutex *making;
    rvb_rwlock *state;
};

/* index.c */
rv_status rvx_index_create(const rv_build_options *o, rv_index **out, rv_error *err);
/* RV_ERR_ARGUMENT when called from a progress callback that this would make wait for
 * itself. */
rv_status rvx_writer_lock(const rv_index *index, rv_error *err);
/* The same refusal of a call that takes the lock later. */
rv_status rvx_writer_check(const rv_index *index, rv_error *err);
void rvx_writer_unlock(const rv_index *index);
static inline bool rvx_keeps_halves(const rv_index *index) {
    return index->vector_bits == 16;
}
/* What searches that name no number use. The state lock is held. */
uint32_t rvx_default_nprobe(const rv_index *index);
/* Makes the scan blocks for the instruction set in use, if they are not there. */
rv_status rvx_index_ensure_lists(const rv_index *index, const rvk_ops *ops,
                                 rv_error *err);
/* A number for rows as they are from now on, none twice in the process. */
uint64_t rvx_next_change(void);

/* encode.c: fills the cells of n rows after those of the index, but not their ids.
 * *trained, NULL before, gets a quantizer if the index needs one. The writer lock is
 * held. */
#define RVX_CODE_ROWS 512u /* per unit of parallel work: some 100 us */
rv_status rvx_code_rows(const rv_index *index, const rvx_column column[RVX_N_COLUMNS],
                        const float *vectors, size_t n, rvx_quantizer **trained,
                        rvb_pool *pool, const rv_progress *progress, rv_error *err);
/* Codes every row anew from its vector, with a quantizer trained on all of them.
 * Takes rows as they are: one that rvx_norm refuses is never ruled out by its code. */
rv_status rvx_retrain(rv_index *index, const rv_progress *progress, rv_error *err);
/* upkeep.c: after a change that has succeeded, with the writer lock held. When there is
 * no memory for it now, the index is merely slower or larger until the next change. */
void rvx_tidy(rv_index *index);

#endif
