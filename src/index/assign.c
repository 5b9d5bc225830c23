/*
 * assign.c - the nearest of some centroids, for clustering and for coding rows.
 *
 * The nearest centroid minimizes |c|^2/2 - <x, c>. Few centroids are all measured: one
 * product per element, and a few points share every centroid that is fetched. Many have
 * codes (RaBitQ around 0), and a scan of these leaves a handful to measure: a centroid is
 * passed over if the lower bound its code gives is not below the best so far. So the
 * nearest is now and then missed for one hardly farther away; which one is found is the
 * same for every instruction set.
 */
#include "index/index_i.h"

#include <math.h>

#define CENTROIDS_AT_ONCE 64u /* 32 KB at 128 dimensions */
/* Width of the bounds, in standard deviations of the estimates. */
#define SIGMAS 2.5f

static const float origin[RV_MAX_DIM];

static size_t blocks_for(size_t k) { return (k + RVK_BLOCK - 1) / RVK_BLOCK; }

bool rvx_many_centroids(size_t k, size_t dim) { return k * dim >= 65536u; }

void rvx_code_centroids(const rvk_ops *ops, unsigned group, const float *rows, size_t k,
                        size_t dim, const float *w, uint8_t *blocks) {
    uint8_t code[RV_MAX_DIM / 8];
    size_t block_bytes = rvk_block_bytes(group, dim);
    for (size_t i = 0; i < k; i++) {
        uint8_t *block = blocks + i / RVK_BLOCK * block_bytes;
        if (i % RVK_BLOCK == 0) rvk_block_clear(group, dim, block);
        rvk_residual r;
        ops->encode(rows + i * dim, origin, w, dim, code, &r);
        float s = r.norm1 > 0 ? 2 * r.norm2 / r.norm1 : 0;
        rvk_block_put(group, dim, block, i % RVK_BLOCK, code, w ? -r.dot_w : r.norm2,
                      w ? -s : -2 * s);
    }
}

/* ---- centroids -------------------------------------------------------------------- */

rv_status rvx_centroids_init(rvx_centroids *c, const float *rows, size_t k, size_t dim,
                             rv_error *err) {
    *c = (rvx_centroids){.ops = rvk_ops_active(), .rows = rows, .k = k, .dim = dim};
    if (rvx_many_centroids(k, dim))
        c->code_bytes = blocks_for(k) * rvk_block_bytes(c->ops->group, dim);
    c->half_norms = rvb_alloc(k, sizeof *c->half_norms);
    if (c->code_bytes) c->codes = rvb_alloc(c->code_bytes, 1);
    if (c->half_norms && (c->codes || !c->code_bytes)) return RV_OK;
    rv_status status = rvb_fail_memory(err, k * sizeof(float) + c->code_bytes);
    rvx_centroids_clear(c);
    return status;
}

void rvx_centroids_clear(rvx_centroids *c) {
    rvb_free(c->half_norms);
    rvb_free(c->codes);
    *c = (rvx_centroids){0};
}

void rvx_half_norms(const rvk_ops *ops, const float *rows, size_t n, size_t dim,
                    float *half_norms) {
    for (size_t i = 0; i < n; i++)
        half_norms[i] = 0.5f * ops->dot(rows + i * dim, rows + i * dim, dim);
}

void rvx_centroids_moved(rvx_centroids *c) {
    rvx_half_norms(c->ops, c->rows, c->k, c->dim, c->half_norms);
    if (c->codes)
        rvx_code_centroids(c->ops, c->ops->group, c->rows, c->k, c->dim, NULL, c->codes);
}

/* ---- few ------------------------------------------------------------------------ */

/* The first of the smallest of n values; 0 if none is below infinity. The smallest is
 * looked for in four lanes, for which every compiler has an instruction. */
static size_t argmin(const float *values, size_t n) {
    float lane[4] = {INFINITY, INFINITY, INFINITY, INFINITY};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t l = 0; l < 4; l++)
            lane[l] = values[i + l] < lane[l] ? values[i + l] : lane[l];
    for (; i < n; i++) lane[0] = values[i] < lane[0] ? values[i] : lane[0];
    for (size_t l = 1; l < 4; l++) lane[0] = lane[l] < lane[0] ? lane[l] : lane[0];
    for (i = 0; i < n; i++)
        if (values[i] == lane[0]) return i;
    return 0;
}

static void measure_all(const rvx_centroids *c, const float *points, size_t n,
                        float *scratch, uint32_t *nearest, float *value) {
    size_t dim = c->dim;
    for (size_t i = 0; i < n; i++) {
        nearest[i] = 0;
        value[i] = INFINITY;
    }
    for (size_t first = 0; first < c->k; first += CENTROIDS_AT_ONCE) {
        size_t m = c->k - first < CENTROIDS_AT_ONCE ? c->k - first : CENTROIDS_AT_ONCE;
        c->ops->dot_tile(points, n, c->rows + first * dim, dim * sizeof(float), m, dim,
                         scratch);
        for (size_t i = 0; i < n; i++) {
            float *product = scratch + i * m;
            for (size_t j = 0; j < m; j++)
                product[j] = c->half_norms[first + j] - product[j];
            size_t best = argmin(product, m);
            if (product[best] < value[i]) {
                value[i] = product[best];
                nearest[i] = (uint32_t)(first + best);
            }
        }
    }
}

/* ---- many ----------------------------------------------------------------------- */

typedef struct finding {
    const rvx_centroids *c;
    const float *x;
    uint32_t nearest;
    float value;
} finding;

static void measure(finding *f, size_t i) {
    const rvx_centroids *c = f->c;
    float value = c->half_norms[i] - c->ops->dot(f->x, c->rows + i * c->dim, c->dim);
    if (!(value < f->value || (value == f->value && i < f->nearest))) return;
    f->value = value;
    f->nearest = (uint32_t)i;
}

static unsigned lowest_lane(uint64_t mask, const float *bounds) {
    unsigned best = rvx_lowest_bit(mask);
    for (; mask; mask &= mask - 1) {
        unsigned lane = rvx_lowest_bit(mask);
        if (bounds[lane] < bounds[best]) best = lane;
    }
    return best;
}

/* The centroid of the lowest bound: a threshold that leaves few others to measure. */
static void measure_likeliest(finding *f, rvk_scan scan) {
    const rvx_centroids *c = f->c;
    float bounds[RVK_BLOCK];
    size_t likeliest = c->k;
    uint64_t mask;
    scan.limit = INFINITY;
    for (size_t block = 0;; block++) {
        block = c->ops->scan(&scan, block, &mask, bounds);
        if (block == scan.n_blocks) break;
        unsigned lane = lowest_lane(mask, bounds);
        likeliest = block * RVK_BLOCK + lane;
        scan.limit = bounds[lane];
    }
    if (likeliest < c->k) measure(f, likeliest);
}

static void find_by_code(finding *f, float *scratch) {
    const rvx_centroids *c = f->c;
    size_t dim = c->dim;
    float norm2 = c->ops->dot(f->x, f->x, dim), bounds[RVK_BLOCK];
    if (!isfinite(norm2)) return; /* no distance is smaller than any other */
    uint8_t *lut = (uint8_t *)scratch;
    rvk_query q;
    rvk_lut_build(c->ops->group, dim, f->x,
                  (int8_t *)(lut + rvk_lut_bytes(c->ops->group, dim)), lut, &q);
    float t = SIGMAS * rvx_estimator_stddev(dim, sqrtf(norm2), q.error);
    rvk_scan scan = {.blocks = c->codes,
                     .n_blocks = blocks_for(c->k),
                     .lut = lut,
                     .padded = dim,
                     .step = q.step,
                     .bias = q.bias + t};
    if (f->value == INFINITY) measure_likeliest(f, scan);
    scan.limit = 2 * f->value;
    for (size_t block = 0;; block++) {
        uint64_t mask;
        block = c->ops->scan(&scan, block, &mask, bounds);
        if (block == scan.n_blocks) return;
        for (; mask; mask &= mask - 1) {
            unsigned lane = rvx_lowest_bit(mask);
            if (bounds[lane] < 2 * f->value) measure(f, block * RVK_BLOCK + lane);
        }
        scan.limit = 2 * f->value;
    }
}

size_t rvx_assign_scratch(const rvx_centroids *c) {
    if (!c->codes) return RVX_NEAREST_ROWS * CENTROIDS_AT_ONCE;
    return (rvk_lut_bytes(c->ops->group, c->dim) + c->dim) / sizeof(float);
}

void rvx_assign(const rvx_centroids *c, const float *points, size_t n, float *scratch,
                uint32_t *nearest, float *value) {
    if (!c->codes) {
        measure_all(c, points, n, scratch, nearest, value);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        finding f = {.c = c, .x = points + i * c->dim, .value = INFINITY};
        if (nearest[i] < c->k) measure(&f, nearest[i]);
        find_by_code(&f, scratch);
        nearest[i] = f.nearest;
        value[i] = f.value;
    }
}
