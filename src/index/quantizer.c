/*
 * quantizer.c - the RaBitQ quantizer: its training (mean, rotation, centroids), the
 * 1-bit code of a row with the two factors that turn it into an unbiased distance
 * estimate, and the code of more bits beside it.
 *
 * Gao & Long, "RaBitQ", SIGMOD 2024, arXiv:2405.12497. The estimator of
 * <r, q - c> is s <u - 1/2, q - c> with s = |r|^2 / <r, u - 1/2> = 2 |r|^2 / |r|_1; with
 * magnitudes (arXiv:2409.09913) y takes the place of u - 1/2, and s = |r|^2 / <r, y>.
 * Everything that does not depend on the query is folded into A and B:
 *   squared distance  A = |r|^2 + 2 s <u - 1/2, c>             B = -2 s
 *   -inner product    A = -<r, P m + c> + s <u - 1/2, c>       B = -s
 * Cosine uses the first on normalized data. Frozen after training, so readers
 * need no lock.
 */
#include "index/index_i.h"

#include <math.h>

/* Streams of the index seed. The salt keeps them apart from data a caller may
 * have drawn from the same seed. */
enum { STREAM_SIGNS = 0x52420001, STREAM_SAMPLE = 0x52420002 };

/* Training points per list: where there are few, all are seen by default. */
#define SAMPLE_PER_LIST 256u
#define SAMPLE_PER_FEW_LISTS 128u
#define MEAN_CHUNKS 256u

uint32_t rvx_most_lists(uint64_t n) {
    uint64_t most = n / RVK_BLOCK;
    if (most < RV_SMALL_LISTS) most = n < RV_SMALL_LISTS ? n : RV_SMALL_LISTS;
    return most < RV_MAX_LISTS ? (uint32_t)most : RV_MAX_LISTS;
}

uint32_t rvx_auto_lists(uint64_t n) {
    if (n < 4096) return 1;
    uint64_t lists = n / 512;
    if (lists > RV_SMALL_LISTS) lists = RV_SMALL_LISTS;
    if (n >= RVX_PROBING_ROWS) lists = n / 1024;
    return lists < RV_MAX_LISTS ? (uint32_t)lists : RV_MAX_LISTS;
}

void rvx_quantizer_free(rvx_quantizer *q) {
    if (!q) return;
    rvb_free(q->signs);
    rvb_free(q->mean);
    rvb_free(q->centroids);
    rvx_centroids_clear(&q->near);
    rvb_free(q->spread);
    rvb_free(q->rotated_mean);
    rvb_free(q->ip_weights);
    rvb_free(q);
}

rv_status rvx_quantizer_create(uint32_t dim, rv_metric metric, uint64_t seed,
                               uint32_t n_lists, unsigned bits, rvx_quantizer **out,
                               rv_error *err) {
    size_t padded = rvx_padded_dim(dim), words = 4 * padded / 32;
    rvx_quantizer *q = rvb_alloc_zero(1, sizeof *q);
    if (!q) return rvb_fail_memory(err, sizeof *q);
    q->metric = metric;
    q->dim = dim;
    q->padded = (uint32_t)padded;
    q->n_lists = n_lists;
    q->extra = bits - 1;
    q->signs = rvb_alloc(words, sizeof *q->signs);
    q->mean = rvb_alloc_zero(dim, sizeof *q->mean);
    q->centroids = rvb_alloc_zero(n_lists * padded, sizeof *q->centroids);
    if (!q->signs || !q->mean || !q->centroids) {
        rvx_quantizer_free(q);
        return rvb_fail_memory(err, (uint64_t)n_lists * padded * sizeof(float));
    }
    for (size_t w = 0; w < words; w++)
        q->signs[w] = (uint32_t)(rvb_random(seed, STREAM_SIGNS, w) >> 32);
    *out = q;
    return RV_OK;
}

size_t rvx_quantizer_bytes(const rvx_quantizer *q) {
    if (!q) return 0;
    size_t lists = (size_t)q->n_lists * q->padded;
    size_t floats = q->dim + lists + (q->near.half_norms ? q->n_lists : 0) +
                    (q->spread ? q->n_lists : 0) +
                    (q->rotated_mean ? q->padded + lists : 0);
    return sizeof *q + 4 * q->padded / 32 * sizeof *q->signs + floats * sizeof(float) +
           q->near.code_bytes;
}

void rvx_quantizer_rotate(const rvx_quantizer *q, const rvk_ops *ops, const float *v,
                          float scale, float *y) {
    for (uint32_t j = 0; j < q->dim; j++) y[j] = v[j] * scale - q->mean[j];
    for (uint32_t j = q->dim; j < q->padded; j++) y[j] = 0;
    ops->rotate(y, q->padded, q->signs);
}

rv_status rvx_quantizer_finish(rvx_quantizer *q, rv_error *err) {
    size_t padded = q->padded, n = q->n_lists;
    RVB_TRY(rvx_centroids_init(&q->near, q->centroids, n, padded, err));
    rvx_centroids_moved(&q->near);
    if (q->metric != RV_IP) return RV_OK;
    q->rotated_mean = rvb_alloc_zero(padded, sizeof(float));
    q->ip_weights = rvb_alloc(n * padded, sizeof(float));
    if (!q->rotated_mean || !q->ip_weights)
        return rvb_fail_memory(err, n * padded * sizeof(float));
    memcpy(q->rotated_mean, q->mean, q->dim * sizeof(float));
    rvk_ops_active()->rotate(q->rotated_mean, padded, q->signs);
    for (size_t l = 0; l < n; l++)
        for (size_t j = 0; j < padded; j++)
            q->ip_weights[l * padded + j] =
                q->rotated_mean[j] + q->centroids[l * padded + j];
    return RV_OK;
}

/* A code says nothing about a zero row, whose cosine is defined as 0: adding 1 to
 * its squared distance to any unit vector makes that distance 2. */
static double zero_row_offset(const rvx_quantizer *q, float norm) {
    return q->metric == RV_COSINE && norm == 0 ? 1 : 0;
}

/* 1 / norm for cosine, as every use of a row or query must scale it. */
static float scale_for(rv_metric metric, float norm) {
    if (metric != RV_COSINE) return 1;
    return norm > 0 ? 1 / norm : 0;
}

void rvx_quantizer_place(const rvx_quantizer *q, const rvk_ops *ops,
                         const float *const *rows, const float *norms, size_t n,
                         float *scratch, float *y, uint32_t *lists) {
    float value[RVX_NEAREST_ROWS];
    for (size_t i = 0; i < n; i++) {
        float *to = y + i * q->padded, norm = norms[i];
        const float *row = rows[i];
        if (q->metric == RV_COSINE && norm < RVX_TINY_NORM)
            row = rvx_lifted(ops, row, q->dim, to, &norm);
        rvx_quantizer_rotate(q, ops, row, scale_for(q->metric, norm), to);
    }
    memset(lists, q->n_lists == 1 ? 0 : 0xff, n * sizeof *lists);
    if (q->n_lists == 1) return;
    rvx_assign(&q->near, y, n, scratch, lists, value);
}

void rvx_quantizer_encode(const rvx_quantizer *q, const rvk_ops *ops, const float *y,
                          float norm, uint32_t list, uint8_t *code,
                          rvx_fine_factors *factors) {
    const float *centroid = q->centroids + list * (size_t)q->padded;
    const float *w = q->ip_weights ? q->ip_weights + list * (size_t)q->padded : NULL;
    rvk_residual r;
    ops->encode(y, centroid, w, q->padded, code, &r);
    bool ip = q->metric == RV_IP;
    double a = ip ? -(double)r.dot_w : r.norm2 + zero_row_offset(q, norm);
    double scale = ip ? 1 : 2; /* of <r, q - c> in the estimate */
    double s = r.norm1 > 0 ? 2.0 * r.norm2 / r.norm1 : 0;
    factors->sign.a = (float)(a + scale * s * (0.5 * r.sign_c));
    factors->sign.b = (float)(-scale * s);
    if (!q->extra) return;
    rvk_levels level;
    ops->quantize(y, centroid, q->padded, r.norm2, q->extra, code + q->padded / 8,
                  &level);
    bool some = r.norm2 > 0 && level.dot > 0;
    s = some ? (double)r.norm2 / level.dot : 0;
    factors->a = (float)(a + scale * s * level.sign_c);
    factors->b = (float)(-scale * s);
    double e = some ? rvx_ex_estimator_stddev(q->padded, r.norm2, &level) : 0;
    factors->e = (float)(ip ? 0.5 * e : e);
}

/* ---- training --------------------------------------------------------------- */

typedef struct training {
    const rvx_quantizer *q;
    const rvk_ops *ops;
    const rvx_source *vectors;
    size_t n, chunk, n_sample;
    uint64_t seed;
    bool skip_bad;
    double *sums; /* one row of dim per chunk */
    float *sample;
} training;

/* NULL for a row to be taken as zero. */
static const float *training_row(const training *t, size_t row, float *room,
                                 float *scale) {
    size_t dim = t->q->dim;
    const float *v = rvx_source_row(t->vectors, t->ops, row, dim, room);
    float norm;
    *scale = 1;
    if (t->skip_bad && !(t->ops->dot(v, v, dim) <= RVX_MAX_NORM2)) return NULL;
    if (t->q->metric != RV_COSINE) return v;
    v = rvx_lifted(t->ops, v, dim, room, &norm);
    *scale = scale_for(RV_COSINE, norm);
    return v;
}

static rv_status sum_rows(void *ctx, unsigned worker, size_t begin, size_t end,
                          rv_error *err) {
    (void)worker, (void)err;
    const training *t = ctx;
    size_t dim = t->q->dim;
    double *sum = t->sums + begin / t->chunk * dim;
    float room[RV_MAX_DIM];
    for (size_t row = begin; row < end; row++) {
        float scale;
        const float *v = training_row(t, row, room, &scale);
        for (size_t j = 0; v && j < dim; j++) sum[j] += (double)(v[j] * scale);
    }
    return RV_OK;
}

/* Partial sums per chunk, added in chunk order: the cuts depend on n alone. */
static rv_status train_mean(training *t, rvx_quantizer *q, rvb_pool *pool,
                            const rv_progress *progress, rv_error *err) {
    t->chunk = (t->n + MEAN_CHUNKS - 1) / MEAN_CHUNKS;
    if (t->chunk < 4096) t->chunk = 4096;
    size_t chunks = (t->n + t->chunk - 1) / t->chunk, dim = q->dim;
    t->sums = rvb_alloc_zero(chunks * dim, sizeof(double));
    if (!t->sums) return rvb_fail_memory(err, chunks * dim * sizeof(double));
    rv_status status = rvb_pool_for(pool, t->n, t->chunk, sum_rows, t, progress, err);
    for (size_t j = 0; status == RV_OK && j < dim; j++) {
        double sum = 0;
        for (size_t c = 0; c < chunks; c++) sum += t->sums[c * dim + j];
        q->mean[j] = (float)(sum / (double)t->n);
    }
    rvb_free(t->sums);
    return status;
}

/* Place i of a sample of n is for this stretch of the rows: the first quarter and the
 * first half of the places are spread over the rows as all of them are. */
static size_t stretch_at(size_t i, size_t n) {
    size_t quarter = n / 4;
    if (i < quarter) return 4 * i;
    if (i < 2 * quarter) return 4 * (i - quarter) + 2;
    return i < 4 * quarter ? 2 * (i - 2 * quarter) + 1 : i;
}

/* A point comes from one of n_sample equal stretches of the rows, from a random place in
 * it: distinct, spread over any order of the data, cheap. */
static rv_status rotate_sample(void *ctx, unsigned worker, size_t begin, size_t end,
                               rv_error *err) {
    (void)worker, (void)err;
    const training *t = ctx;
    size_t whole = t->n / t->n_sample, rest = t->n % t->n_sample;
    for (size_t i = begin; i < end; i++) {
        size_t at = stretch_at(i, t->n_sample);
        size_t first = at * whole + (at < rest ? at : rest);
        size_t length = whole + (at < rest);
        size_t row = first + (size_t)rvb_random_below(t->seed, STREAM_SAMPLE, i, length);
        float scale, *y = t->sample + i * t->q->padded;
        const float *v = training_row(t, row, y, &scale);
        if (v)
            rvx_quantizer_rotate(t->q, t->ops, v, scale, y);
        else
            memset(y, 0, t->q->padded * sizeof *y);
    }
    return RV_OK;
}

static rv_status train_centroids(training *t, rvx_quantizer *q, rvb_pool *pool,
                                 const rv_progress *progress, rv_error *err) {
    if (q->n_lists > rvx_most_lists(t->n)) q->n_lists = rvx_most_lists(t->n);
    if (q->n_lists == 1) return RV_OK; /* the mean itself, which is 0 here */
    t->n_sample = (size_t)q->n_lists *
                  (q->n_lists > RV_SMALL_LISTS ? SAMPLE_PER_LIST : SAMPLE_PER_FEW_LISTS);
    if (t->n_sample > t->n) t->n_sample = t->n;
    size_t floats;
    if (rvb_mul(t->n_sample, q->padded, &floats))
        t->sample = rvb_alloc(floats, sizeof(float));
    float *spread = rvb_alloc(q->n_lists, sizeof *spread);
    rv_status status = RV_OK;
    if (!t->sample || !spread)
        status = rvb_fail_memory(err, (uint64_t)t->n_sample * q->padded * 4);
    if (status == RV_OK)
        status = rvb_pool_for(pool, t->n_sample, 256, rotate_sample, t, progress, err);
    if (status == RV_OK)
        status = rvx_kmeans(t->sample, t->n_sample, q->padded, q->n_lists, t->seed, pool,
                            progress, q->centroids, spread, err);
    if (status == RV_OK && q->metric != RV_IP) {
        q->spread = spread;
        spread = NULL;
        status = rvx_probe_train(q, t->ops, t->sample, t->n_sample, err);
    }
    rvb_free(spread);
    rvb_free(t->sample);
    return status;
}

rv_status rvx_quantizer_train(rvx_quantizer *q, uint64_t seed, const rvx_source *vectors,
                              size_t n, bool skip_bad, rvb_pool *pool,
                              const rv_progress *progress, rv_error *err) {
    training t = {.q = q,
                  .ops = rvk_ops_active(),
                  .vectors = vectors,
                  .n = n,
                  .seed = seed,
                  .skip_bad = skip_bad};
    RVB_TRY(train_mean(&t, q, pool, progress, err));
    RVB_TRY(train_centroids(&t, q, pool, progress, err));
    q->trained_on = n;
    return rvx_quantizer_finish(q, err);
}
