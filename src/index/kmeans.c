/*
 * kmeans.c - Lloyd's algorithm. Deterministic: points are assigned independently, and
 * each cluster's sum runs over its points in order, in double precision, whatever thread
 * does it.
 *
 * Centroids find their places with a quarter of the points, and settle with all of them:
 * where they end, a mean over many points is worth more than another step.
 */
#include "index/index_i.h"

#include <math.h>

enum { STREAM_INIT = 0x52420010 };
/* Iterations over the first n / part of n points. */
static const struct { size_t part, iterations; } schedule[] = {{4, 8}, {2, 3}, {1, 2}};
#define STAGES (sizeof schedule / sizeof *schedule)
/* A part takes part only with so many points per centroid. */
#define MIN_POINTS 32u

typedef struct kmeans {
    const float *points;
    size_t n, dim, k; /* n of the points take part */
    float *centroids;
    rvx_centroids near;
    float *point_norms; /* |x|^2 / 2 */
    float *scratch;     /* per worker */
    double *sums;       /* dim per worker */
    uint32_t *cluster;  /* of each point */
    uint32_t *member;   /* points by cluster, ascending within each */
    size_t *first;      /* of each cluster in `member`; k + 1 */
    float *distance;    /* of each point to its centroid, squared and halved */
    atomic_size_t moved;
} kmeans;

static rv_status assign(void *ctx, unsigned worker, size_t begin, size_t end,
                        rv_error *err) {
    (void)err;
    kmeans *m = ctx;
    size_t moved = 0;
    for (size_t i = begin; i < end; i += RVX_NEAREST_ROWS) {
        uint32_t nearest[RVX_NEAREST_ROWS];
        float value[RVX_NEAREST_ROWS];
        size_t n = end - i < RVX_NEAREST_ROWS ? end - i : RVX_NEAREST_ROWS;
        memcpy(nearest, m->cluster + i, n * sizeof *nearest);
        rvx_assign(&m->near, m->points + i * m->dim, n,
                   m->scratch + worker * rvx_assign_scratch(&m->near), nearest, value);
        for (size_t j = 0; j < n; j++) {
            moved += nearest[j] != m->cluster[i + j];
            m->cluster[i + j] = nearest[j];
            m->distance[i + j] = m->point_norms[i + j] + value[j];
        }
    }
    atomic_fetch_add(&m->moved, moved);
    return RV_OK;
}

/* Counting sort of the points by cluster. */
static void gather_members(kmeans *m) {
    memset(m->first, 0, (m->k + 1) * sizeof *m->first);
    for (size_t i = 0; i < m->n; i++) m->first[m->cluster[i] + 1]++;
    for (size_t c = 0; c < m->k; c++) m->first[c + 1] += m->first[c];
    for (size_t i = 0; i < m->n; i++) m->member[m->first[m->cluster[i]]++] = (uint32_t)i;
    for (size_t c = m->k; c > 0; c--) m->first[c] = m->first[c - 1];
    m->first[0] = 0;
}

static rv_status update(void *ctx, unsigned worker, size_t begin, size_t end,
                        rv_error *err) {
    (void)err;
    kmeans *m = ctx;
    double *sum = m->sums + worker * m->dim;
    for (size_t c = begin; c < end; c++) {
        size_t count = m->first[c + 1] - m->first[c];
        memset(sum, 0, m->dim * sizeof *sum);
        for (size_t i = m->first[c]; i < m->first[c + 1]; i++) {
            const float *p = m->points + m->member[i] * m->dim;
            for (size_t j = 0; j < m->dim; j++) sum[j] += (double)p[j];
        }
        for (size_t j = 0; count && j < m->dim; j++)
            m->centroids[c * m->dim + j] = (float)(sum[j] / (double)count);
    }
    return RV_OK;
}

/* An empty cluster takes over the point that its own centroid serves worst. */
static void refill_empty(kmeans *m) {
    for (size_t c = 0; c < m->k; c++) {
        if (m->first[c + 1] > m->first[c]) continue;
        size_t worst = 0;
        for (size_t i = 1; i < m->n; i++)
            if (m->distance[i] > m->distance[worst]) worst = i;
        memcpy(m->centroids + c * m->dim, m->points + worst * m->dim,
               m->dim * sizeof(float));
        m->distance[worst] = -1;
    }
}

/* Points of a stage, if there are enough; the last one takes all. */
static size_t points_of(const kmeans *m, size_t n, size_t part) {
    return n / part < MIN_POINTS * m->k ? n : n / part;
}

static void initialize(kmeans *m, uint64_t seed) {
    size_t stretch = points_of(m, m->n, schedule[0].part) / m->k;
    for (size_t c = 0; c < m->k; c++) {
        size_t i = c * stretch + (size_t)rvb_random_below(seed, STREAM_INIT, c, stretch);
        memcpy(m->centroids + c * m->dim, m->points + i * m->dim, m->dim * sizeof(float));
    }
    memset(m->cluster, 0xff, m->n * sizeof *m->cluster);
    rvx_half_norms(m->near.ops, m->points, m->n, m->dim, m->point_norms);
}

static rv_status iterate(kmeans *m, rvb_pool *pool, const rv_progress *progress,
                         rv_error *err) {
    atomic_store(&m->moved, 0);
    rvx_centroids_moved(&m->near);
    RVB_TRY(rvb_pool_for(pool, m->n, 4 * RVX_NEAREST_ROWS, assign, m, progress, err));
    if (atomic_load(&m->moved) == 0) return RV_OK;
    gather_members(m);
    RVB_TRY(rvb_pool_for(pool, m->k, 1, update, m, progress, err));
    refill_empty(m);
    return RV_OK;
}

static rv_status run(kmeans *m, rvb_pool *pool, const rv_progress *progress,
                     rv_error *err) {
    size_t n = m->n;
    for (size_t i = 0; i < STAGES; i++) {
        m->n = points_of(m, n, schedule[i].part);
        atomic_store(&m->moved, 1);
        for (size_t it = 0; it < schedule[i].iterations && atomic_load(&m->moved); it++)
            RVB_TRY(iterate(m, pool, progress, err));
    }
    return RV_OK;
}

/* Clusters without points get the mean of all points. A distance below 0 is rounding, or
 * that of a point a cluster has taken over. */
static void measure_spread(kmeans *m, float *spread) {
    double all = 0;
    memset(spread, 0, m->k * sizeof *spread);
    memset(m->first, 0, m->k * sizeof *m->first);
    for (size_t i = 0; i < m->n; i++) {
        float d = m->distance[i] > 0 ? m->distance[i] : 0;
        m->first[m->cluster[i]]++;
        spread[m->cluster[i]] += d;
        all += (double)d;
    }
    for (size_t c = 0; c < m->k; c++)
        spread[c] =
            m->first[c] ? spread[c] / (float)m->first[c] : (float)(all / (double)m->n);
}

rv_status rvx_kmeans(const float *points, size_t n, size_t dim, size_t k, uint64_t seed,
                     rvb_pool *pool, const rv_progress *progress, float *centroids,
                     float *spread, rv_error *err) {
    size_t workers = rvb_pool_workers(pool);
    kmeans m = {.points = points, .n = n, .dim = dim, .k = k, .centroids = centroids};
    RVB_TRY(rvx_centroids_init(&m.near, centroids, k, dim, err));
    m.scratch = rvb_alloc(workers * rvx_assign_scratch(&m.near), sizeof *m.scratch);
    m.sums = rvb_alloc(workers * dim, sizeof *m.sums);
    m.point_norms = rvb_alloc(n, sizeof *m.point_norms);
    m.cluster = rvb_alloc(n, sizeof *m.cluster);
    m.member = rvb_alloc(n, sizeof *m.member);
    m.distance = rvb_alloc(n, sizeof *m.distance);
    m.first = rvb_alloc(k + 1, sizeof *m.first);
    rv_status status;
    if (!m.scratch || !m.sums || !m.point_norms || !m.cluster || !m.member ||
        !m.distance || !m.first) {
        status = rvb_fail_memory(err, (uint64_t)n * 16);
    } else {
        initialize(&m, seed);
        status = run(&m, pool, progress, err);
        if (status == RV_OK) measure_spread(&m, spread);
    }
    rvx_centroids_clear(&m.near);
    rvb_free(m.scratch);
    rvb_free(m.sums);
    rvb_free(m.point_norms);
    rvb_free(m.cluster);
    rvb_free(m.member);
    rvb_free(m.distance);
    rvb_free(m.first);
    return status;
}
