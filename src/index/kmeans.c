/*
 * kmeans.c - Lloyd's algorithm for a few dozen centroids. Deterministic: points
 * are assigned independently, and each cluster's sum runs over its points in
 * order, in double precision, whatever thread does it.
 */
#include "index/index_i.h"

#include <math.h>

enum { STREAM_INIT = 0x52420010 };
#define ITERATIONS 10

typedef struct kmeans {
    const float *points;
    size_t n, dim, k;
    const rvk_ops *ops;
    float *centroids;
    float *scratch;    /* k distances per worker */
    double *sums;      /* dim per worker */
    uint32_t *cluster; /* of each point */
    float *distance;   /* of each point to its centroid */
    size_t *count;     /* of each cluster */
    atomic_size_t moved;
} kmeans;

size_t rvx_argmin(const float *values, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] < values[best]) best = i;
    return best;
}

static rv_status assign(void *ctx, unsigned worker, size_t begin, size_t end,
                        rv_error *err) {
    (void)err;
    kmeans *m = ctx;
    float *dist = m->scratch + worker * m->k;
    size_t moved = 0;
    for (size_t i = begin; i < end; i++) {
        m->ops->l2sq_tile(m->points + i * m->dim, 1, m->centroids, m->dim * sizeof(float),
                          m->k, m->dim, dist);
        uint32_t nearest = (uint32_t)rvx_argmin(dist, m->k);
        moved += nearest != m->cluster[i];
        m->cluster[i] = nearest;
        m->distance[i] = dist[nearest];
    }
    atomic_fetch_add(&m->moved, moved);
    return RV_OK;
}

static rv_status update(void *ctx, unsigned worker, size_t begin, size_t end,
                        rv_error *err) {
    (void)err;
    kmeans *m = ctx;
    double *sum = m->sums + worker * m->dim;
    for (size_t c = begin; c < end; c++) {
        memset(sum, 0, m->dim * sizeof *sum);
        m->count[c] = 0;
        for (size_t i = 0; i < m->n; i++) {
            if (m->cluster[i] != c) continue;
            const float *p = m->points + i * m->dim;
            for (size_t j = 0; j < m->dim; j++) sum[j] += (double)p[j];
            m->count[c]++;
        }
        for (size_t j = 0; m->count[c] && j < m->dim; j++)
            m->centroids[c * m->dim + j] = (float)(sum[j] / (double)m->count[c]);
    }
    return RV_OK;
}

/* An empty cluster takes over the point that its own centroid serves worst. */
static void refill_empty(kmeans *m) {
    for (size_t c = 0; c < m->k; c++) {
        if (m->count[c]) continue;
        size_t worst = 0;
        for (size_t i = 1; i < m->n; i++)
            if (m->distance[i] > m->distance[worst]) worst = i;
        memcpy(m->centroids + c * m->dim, m->points + worst * m->dim,
               m->dim * sizeof(float));
        m->distance[worst] = -1;
    }
}

static void initialise(kmeans *m, uint64_t seed) {
    size_t stretch = m->n / m->k;
    for (size_t c = 0; c < m->k; c++) {
        size_t i = c * stretch + (size_t)rvb_random_below(seed, STREAM_INIT, c, stretch);
        memcpy(m->centroids + c * m->dim, m->points + i * m->dim, m->dim * sizeof(float));
    }
    memset(m->cluster, 0xff, m->n * sizeof *m->cluster);
}

rv_status rvx_kmeans(const float *points, size_t n, size_t dim, size_t k, uint64_t seed,
                     rvb_pool *pool, const rv_progress *progress, float *centroids,
                     rv_error *err) {
    size_t workers = rvb_pool_workers(pool);
    kmeans m = {.points = points, .n = n, .dim = dim, .k = k, .centroids = centroids};
    m.ops = rvk_ops_active();
    m.scratch = rvb_alloc(workers * k, sizeof *m.scratch);
    m.sums = rvb_alloc(workers * dim, sizeof *m.sums);
    m.cluster = rvb_alloc(n, sizeof *m.cluster);
    m.distance = rvb_alloc(n, sizeof *m.distance);
    m.count = rvb_alloc(k, sizeof *m.count);
    rv_status status = RV_OK;
    if (!m.scratch || !m.sums || !m.cluster || !m.distance || !m.count)
        status = rvb_fail_memory(err, (uint64_t)n * 8);
    else
        initialise(&m, seed);
    for (int it = 0; status == RV_OK && it < ITERATIONS; it++) {
        atomic_store(&m.moved, 0);
        status = rvb_pool_for(pool, n, 64, assign, &m, progress, err);
        if (status != RV_OK || atomic_load(&m.moved) == 0) break;
        status = rvb_pool_for(pool, k, 1, update, &m, progress, err);
        if (status == RV_OK) refill_empty(&m);
    }
    rvb_free(m.scratch);
    rvb_free(m.sums);
    rvb_free(m.cluster);
    rvb_free(m.distance);
    rvb_free(m.count);
    return status;
}
