/*
 * kernel.h - the arithmetic, once per instruction set. Pure functions on
 * arrays: no allocation, no errors, no state.
 *
 * One order for every sum. A reduction over n floats runs in 16 virtual lanes:
 * lane l takes elements l, l+16, l+32, ... in that order, starting from +0, each
 * step one fused multiply-add (or one addition where nothing is multiplied);
 * n is padded to a multiple of 16 with zeros, which take part. The lanes fold
 * pairwise: s[i] + s[i+8] for i < 8, then +4, +2, +1. scalar.c says it in
 * plain C, scan_scalar.c the block scan; every other file returns the same bits (of a NaN
 * only that it is one). `pack` and `screen`, of which plain C has none, make bounds.
 * Nothing here may be compiled with floating-point contraction or re-association,
 * and the rounding mode is to nearest.
 *
 * Rows, halves and codes may start at any byte; other arrays are aligned as their
 * elements are. Functions read exactly the elements named, never beyond. `padded` is the
 * padded dimension: a multiple of 32, 32..8192.
 */
#ifndef RVK_KERNEL_H
#define RVK_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RVK_BLOCK 64u /* vectors per scan block */
#define RVK_SCANS 4u  /* most queries that share a pass over blocks */

/* What coding a residual r = x - centroid yields besides its signs. */
typedef struct rvk_residual {
    float norm2;  /* sum r_j^2 */
    float norm1;  /* sum |r_j| */
    float sign_c; /* sum of centroid_j where r_j > 0, minus it elsewhere */
    float dot_w;  /* sum r_j * w_j, 0 when w is NULL */
} rvk_residual;

#define RVK_MAX_EXTRA 7u /* bits of a code beside the sign */

/* What the magnitudes v_j of a multi-bit code yield. With y_j = v_j + 1/2, signed like
 * the residual r_j (minus where r_j is 0): */
typedef struct rvk_levels {
    float dot;    /* sum r_j * y_j */
    float norm2;  /* sum y_j^2 */
    float sign_c; /* sum y_j * centroid_j */
} rvk_levels;

/* One pass over scan blocks for one query. Block b starts at blocks + b *
 * block_bytes: `cols` columns of sign codes, then 64 floats A, then 64 floats B. */
typedef struct rvk_scan {
    const uint8_t *blocks;
    size_t n_blocks;
    const uint8_t *lut;
    size_t padded;
    float step, bias; /* inner-product estimate = step * sum + bias */
    float limit;      /* a lane passes if A + B * estimate < limit */
    size_t ahead;     /* bytes of blocks to fetch before they are read; 0 = none */
} rvk_scan;

#define RVK_PACK 16u /* vectors of a pack */

/* Sixteen vectors rounded to bytes: component j of vector i is about scale[i] times its
 * byte, the integer nearest to 127 times its share of the largest magnitude. The bytes
 * are rvk_pack_bytes(dim), 64-byte aligned; those of components 4g..4g+3 of vector i
 * start at 64 g + 4 i, in a pack of rows with 128 added. */
typedef struct rvk_pack {
    uint8_t *bytes;
    int32_t start[RVK_PACK]; /* of sums of products with these bytes */
    float scale[RVK_PACK];
    float norm2[RVK_PACK];  /* squared length of the vector */
    float error[RVK_PACK];  /* length of the vector less its bytes times scale */
    float length[RVK_PACK]; /* the caller's */
} rvk_pack;

static inline size_t rvk_pack_bytes(size_t dim) {
    return RVK_PACK * ((dim + 15) / 16 * 16);
}

/* What a sum becomes before it is stored. With c(x) = min(max(x + 3, 0), 6), where max
 * and min give their second operand unless the first is greater or less: */
typedef enum rvk_activation {
    RVK_LINEAR,
    RVK_RELU,         /* max(x, 0) */
    RVK_HARD_SIGMOID, /* c(x) * (1/6) */
    RVK_HARD_SWISH    /* (x * c(x)) * (1/6) */
} rvk_activation;

#define RVK_CHANNELS 16u /* channels come in whole groups of so many */

/* A convolution over a grid of rows x cols outputs. Floats of one place lie together,
 * channels last; distances are in floats. Borders are the caller's: x is the input of
 * output (0, 0), and every input named is there. */
typedef struct rvk_conv {
    const float *x;
    size_t x_col, x_row; /* from the input of one output to that of the next */
    size_t runs, run;    /* an output sees `runs` runs of `run` inputs each */
    size_t x_run;        /* from one run to the next */
    const float *weights, *bias;
    const float *add; /* added after the activation; laid out as out, or NULL */
    float *out;
    size_t out_col, out_row;
    size_t rows, cols;
    size_t channels; /* of the output: a multiple of RVK_CHANNELS */
    rvk_activation activation;
} rvk_conv;

typedef struct rvk_ops {
    const char *name;
    unsigned group; /* dimensions per scan column: 4 (nibbles) or 6 (bytes) */
    /* Of queries compared with the same rows: products that take some 40 ms, and how many
     * queries have to share a pass lest memory be the limit. */
    uint64_t turn;
    unsigned sharing;

    float (*dot)(const float *a, const float *b, size_t n);
    /* d = a - b, rounded; then fma(d, d, lane). */
    float (*l2sq)(const float *a, const float *b, size_t n);

    /* The same of a and n numbers in binary16, which a float holds exactly. */
    float (*dot_half)(const float *a, const void *halves, size_t n);
    float (*l2sq_half)(const float *a, const void *halves, size_t n);
    void (*widen)(const void *halves, size_t n, float *out);
    /* Rounds to nearest, ties to even. False if a result is infinite or NaN: if an x is
     * not below 65520 in magnitude. */
    bool (*narrow)(const float *x, size_t n, void *halves);

    /* out[i * n_rows + r] for query i and row r, each equal to the single call. Queries
     * lie dim floats apart, rows stride_bytes. */
    void (*dot_tile)(const float *queries, size_t n_queries, const void *rows,
                     size_t stride_bytes, size_t n_rows, size_t dim, float *out);
    void (*l2sq_tile)(const float *queries, size_t n_queries, const void *rows,
                      size_t stride_bytes, size_t n_rows, size_t dim, float *out);

    /* Both NULL where bytes are not multiplied much faster than floats.
     *
     * The first n = 1..RVK_PACK vectors of a pack of rows or of queries; its other lanes
     * are undefined. norm2 and error are sums like those of dot(), in another order. */
    void (*pack)(const void *vectors, size_t stride_bytes, size_t n, size_t dim,
                 bool rows, rvk_pack *out);
    /* Bit r of masks[i] is clear if term[r] - (scale of row r * scale of query i * their
     * bytes' inner product + length of row * error of query + error of row * length of
     * query) > limit[i], in floats; set if it is not, or a NaN. */
    void (*screen)(const rvk_pack *rows, const float term[RVK_PACK],
                   const rvk_pack *queries, const float limit[RVK_PACK], size_t dim,
                   uint16_t masks[RVK_PACK]);

    /* In place: four rounds of sign flips (padded bits per round, bit j of word
     * j/32 set = negate), fast Hadamard transform and Kac butterfly. Orthonormal. */
    void (*rotate)(float *y, size_t padded, const uint32_t *signs);

    /* Signs of x - centroid into code (padded/8 bytes; bit j of byte j/8 set when
     * the residual is > 0) and the sums that make the factors. */
    void (*encode)(const float *x, const float *centroid, const float *w, size_t padded,
                   uint8_t *code, rvk_residual *out);

    /* Sum of query_j over the set bits of a code: lane order as above, an
     * addition only where the bit is set (elsewhere the lane adds +0). */
    float (*code_dot)(const uint8_t *code, const float *query, size_t padded);

    /* The other bits of a code: the magnitudes v_j = min(trunc(|r_j| * t), 2^extra - 1),
     * r = x - centroid, for the t of a grid that brings y closest in angle to r (Gao et
     * al. 2024, arXiv:2409.09913, section 3). norm2 is |r|^2, extra 1..RVK_MAX_EXTRA.
     * Writes `extra` planes of padded/8 bytes, the most significant bits first; stored
     * is v_j where r_j > 0 and 2^extra - 1 - v_j elsewhere, so that with the sign as top
     * bit the number X_j stands for X_j - (2^(extra+1) - 1)/2 = +-y_j. */
    void (*quantize)(const float *x, const float *centroid, size_t padded, float norm2,
                     unsigned extra, uint8_t *planes, rvk_levels *out);

    /* Sum of X_j * query_j: X_j is built exactly, then fma(X_j, query_j, lane). */
    float (*level_dot)(const uint8_t *signs, const uint8_t *planes, unsigned extra,
                       const float *query, size_t padded);

    /* First block >= start with a passing lane, else n_blocks. Sets *mask to the
     * passing lanes and bounds[i] of every lane i of that block, which is
     * fma(B, fma((float)sum, step, bias), A); with no such block *mask is 0 and bounds
     * is undefined. A lane passes if its bound < limit: never for A = +inf or NaN. */
    size_t (*scan)(const rvk_scan *s, size_t start, uint64_t *mask,
                   float bounds[RVK_BLOCK]);

    /* The same for n = 1..RVK_SCANS scans of the same blocks (blocks, n_blocks and
     * padded agree) in one pass over memory: the first block >= start with a passing
     * lane in any of them. masks[i] and, where masks[i] is not 0, bounds[i] are those of
     * scan i. */
    size_t (*scan_many)(const rvk_scan *s, size_t n, size_t start,
                        uint64_t masks[RVK_SCANS], float bounds[RVK_SCANS][RVK_BLOCK]);

    /* Every output is one chain, unlike the sums above: it starts from the bias and
     * takes one fused multiply-add for each input in order. Input j of all runs of
     * channel c has its weight at weights[(c / 16 * runs * run + j) * 16 + c % 16]. */
    void (*conv)(const rvk_conv *c);
    /* The same where every channel has inputs of its own: a run is `run` places, each
     * `channels` from the next, and place j of all runs has its weights at
     * weights[j * channels]. */
    void (*depthwise)(const rvk_conv *c);
    /* out[c] = (1/n) * the sum of x[i * channels + c], added up in order from +0. */
    void (*channel_mean)(const float *x, size_t n, size_t channels, float *out);
    /* x[i * channels + c] *= by[c] */
    void (*channel_scale)(float *x, size_t n, size_t channels, const float *by);
} rvk_ops;

/* The table in use: chosen once, cheap to ask. */
const rvk_ops *rvk_ops_active(void);
/* Table by name if this machine can run it, else NULL. Best first by position. */
const rvk_ops *rvk_ops_find(const char *name);
const rvk_ops *rvk_ops_at(size_t i); /* NULL past the last one available */
/* Table used from now on; NULL chooses again as at start-up. */
void rvk_ops_set(const rvk_ops *ops);

/* The tables themselves; which of them exist is the build's choice, which of them
 * may run is select.c's. */
extern const rvk_ops rvk_ops_scalar, rvk_ops_avx2, rvk_ops_avx512, rvk_ops_avx512vbmi,
    rvk_ops_neon;

/* ---- scan blocks (block.c): plain C, the same bytes on every machine for one
 * `group` -------------------------------------------------------------------
 *
 * group 6: column g is 64 bytes; byte i holds bits 6g..6g+5 of lane i's code
 *          (bits past `padded` are 0), ceil(padded / 6) columns.
 * group 4: column g is 32 bytes; byte i holds bits 4g..4g+3 of lane i in its low
 *          and of lane 32+i in its high half; padded / 4 columns.
 *
 * A block starts at a multiple of 4 bytes (64 is faster).
 *
 * The query is rounded to integers, qi_j = nearest(q_j / step), with step such
 * that the magnitudes of no aligned group of 6 or of 4 add up to more than keeps
 * every table entry <= 63 and every lane total <= 65535. The integer total of a lane
 * is then the same for either grouping: what passes the scan does not depend on the
 * machine. */

size_t rvk_block_code_bytes(unsigned group, size_t padded); /* columns only */
size_t rvk_block_bytes(unsigned group, size_t padded); /* with A and B; multiple of 64 */
/* Marks all lanes as never passing: codes 0, A = +inf, B = 0. */
void rvk_block_clear(unsigned group, size_t padded, uint8_t *block);
void rvk_block_put(unsigned group, size_t padded, uint8_t *block, unsigned lane,
                   const uint8_t *code, float a, float b);
/* A and B of a block. */
float *rvk_block_a(unsigned group, size_t padded, uint8_t *block);
float *rvk_block_b(unsigned group, size_t padded, uint8_t *block);

typedef struct rvk_query {
    float step;
    float bias;  /* step * (offset of the table - half the sum of all qi) */
    float error; /* Euclidean norm of q - step * qi */
} rvk_query;
size_t rvk_lut_bytes(unsigned group, size_t padded);
/* Rounds the query and fills the table: 64 (or 16) bytes per column, entry e the
 * sum of qi over the set bits of e minus the sum of the column's negative qi.
 * step * total + bias then estimates the sum over j of q_j * (bit_j - 1/2). The
 * magnitudes of the query add up to a finite float. `rounded` receives qi, one per
 * padded dimension. */
void rvk_lut_build(unsigned group, size_t padded, const float *query, int8_t *rounded,
                   uint8_t *lut, rvk_query *out);

#endif
