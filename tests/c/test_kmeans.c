/*
 * test_kmeans.c - the coarse centroids: separated clusters are found, the result does
 * not depend on threads or instruction set, and degenerate data ends.
 */
#include "index_cases.h"

#include "index/index_i.h"

#define DIM 32u

static float spread[40];

/* k far clusters, one after another: the first centroids come from equal stretches. */
static float *blobs(size_t n, size_t k) {
    uint64_t state = 11;
    float *points = need(n * DIM, sizeof *points);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < DIM; j++)
            points[i * DIM + j] = (j == i / (n / k) ? 100.0f : 0) + next_normal(&state);
    return points;
}

static void separated_clusters_are_found(void **state) {
    (void)state;
    const size_t n = 800, k = 8;
    float *points = blobs(n, k), centroids[8 * DIM];
    assert_ok(rvx_kmeans(points, n, DIM, k, 1, NULL, NULL, centroids, spread, err));
    /* every blob's mean lies within its standard error of one centroid of its own */
    for (size_t blob = 0; blob < k; blob++) {
        size_t close = 0;
        for (size_t c = 0; c < k; c++) {
            double d2 = 0;
            for (size_t j = 0; j < DIM; j++) {
                double d = (double)centroids[c * DIM + j] - (j == blob ? 100 : 0);
                d2 += d * d;
            }
            close += d2 < 4 * DIM / 100.0;
        }
        assert_int_equal(close, 1);
        /* half of |x - mean|^2, the sum of DIM squares of unit variance */
        assert_float_equal(spread[blob], 0.495f * DIM, 0.1f * DIM);
    }
    free(points);
}

static void the_same_bits_everywhere(void **state) {
    (void)state;
    const size_t n = 3000, k = 20;
    float *points = normal_rows(2, n, DIM);
    float *first = need(k * DIM, sizeof *first), *again = need(k * DIM, sizeof *again);
    float first_spread[20];
    assert_ok(rvx_kmeans(points, n, DIM, k, 5, NULL, NULL, first, first_spread, err));
    for (unsigned threads = 1; threads <= 5; threads += 2) {
        assert_ok(rv_set_num_threads(threads, err));
        for (size_t i = 0; isa_at(i); i++) {
            assert_ok(rv_isa_force(isa_at(i), err));
            rvb_pool *pool = rvb_pool_acquire();
            assert_ok(rvx_kmeans(points, n, DIM, k, 5, pool, NULL, again, spread, err));
            rvb_pool_release(pool);
            assert_memory_equal(first, again, k * DIM * sizeof *first);
            assert_memory_equal(first_spread, spread, sizeof first_spread);
        }
    }
    assert_ok(rv_isa_force(NULL, err));
    assert_ok(rv_set_num_threads(0, err));
    assert_ok(rvx_kmeans(points, n, DIM, k, 6, NULL, NULL, again, spread, err));
    assert_memory_not_equal(first, again, k * DIM * sizeof *first); /* the seed counts */
    free(points);
    free(first);
    free(again);
}

static double mean_distance(const float *points, size_t n, const float *centroids,
                            size_t k) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY;
        for (size_t c = 0; c < k; c++)
            best = fmin(best,
                        exact_score(RV_L2, points + i * DIM, centroids + c * DIM, DIM));
        sum += best;
    }
    return sum / (double)n;
}

static void better_than_taking_points(void **state) {
    (void)state;
    const size_t n = 2000, k = 16;
    float *points = clustered_rows(3, n, DIM), centroids[16 * DIM];
    assert_ok(rvx_kmeans(points, n, DIM, k, 5, NULL, NULL, centroids, spread, err));
    double plain = mean_distance(points, n, points, k);
    assert_true(mean_distance(points, n, centroids, k) < 0.8 * plain);
    free(points);
}

static void degenerate_points(void **state) {
    (void)state;
    float same[40 * DIM], centroids[40 * DIM];
    for (size_t i = 0; i < 40 * DIM; i++) same[i] = 3;
    assert_ok(rvx_kmeans(same, 40, DIM, 7, 1, NULL, NULL, centroids, spread, err));
    for (size_t i = 0; i < 7 * DIM; i++) assert_true(centroids[i] == 3.0f);
    for (size_t c = 0; c < 7; c++) assert_true(spread[c] >= 0 && spread[c] < 1e-3f);

    /* as many centroids as points: each point is one */
    float *points = normal_rows(6, 40, DIM);
    assert_ok(rvx_kmeans(points, 40, DIM, 40, 1, NULL, NULL, centroids, spread, err));
    assert_true(mean_distance(points, 40, centroids, 40) < 1e-9);

    /* two places, many centroids: the empty ones move but stay finite and on data */
    for (size_t i = 0; i < 40 * DIM; i++) points[i] = (float)(i / DIM % 2);
    assert_ok(rvx_kmeans(points, 40, DIM, 9, 1, NULL, NULL, centroids, spread, err));
    assert_true(mean_distance(points, 40, centroids, 9) == 0);
    for (size_t i = 0; i < 9 * DIM; i++)
        assert_true(centroids[i] == 0.0f || centroids[i] == 1.0f);

    /* few places apart from a crowd: centroids without points go there */
    memset(points, 0, 40 * DIM * sizeof *points);
    for (size_t i = 0; i < 4; i++) points[i * DIM + i] = (float)(i + 1);
    assert_ok(rvx_kmeans(points, 40, DIM, 5, 1, NULL, NULL, centroids, spread, err));
    assert_true(mean_distance(points, 40, centroids, 5) == 0);
    free(points);
}

static int stop(void *ctx, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    ++*(int *)ctx;
    return 1;
}

static void can_be_cancelled(void **state) {
    (void)state;
    int asked = 0;
    rv_progress progress = {stop, &asked};
    float *points = normal_rows(1, 500, DIM), centroids[4 * DIM];
    assert_fails(RV_ERR_CANCELLED, rvx_kmeans(points, 500, DIM, 4, 1, NULL, &progress,
                                              centroids, spread, err));
    assert_int_equal(asked, 1);
    free(points);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(separated_clusters_are_found),
        cmocka_unit_test(the_same_bits_everywhere),
        cmocka_unit_test(better_than_taking_points),
        cmocka_unit_test(degenerate_points),
        cmocka_unit_test(can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
