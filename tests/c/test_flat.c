/*
 * test_flat.c - the exact scan by tiles: any number of queries at once, rows and
 * dimensions around the edges of a tile, filters of every sort side by side, removed
 * rows between.
 */
#include "index_cases.h"

#include <math.h>

static void compare(size_t n, size_t m, size_t dim, bool with_removed, bool filtered) {
    float *rows = whole_rows(n + dim, n, dim), *queries = whole_rows(m, m, dim);
    uint64_t *ids = scattered_ids(n, n), seed = n * m;
    uint8_t *live = need(n, 1), *masks = need(n * m, 1), *packed = need(n * m, 1);
    exact_hit *exact = need(n, sizeof *exact);
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        rv_index *index = build(RV_FLAT, (rv_metric)metric, dim, rows, ids, n);
        for (size_t i = 0; i < n; i++) {
            live[i] = !with_removed || i % 3 != 1 || n == 2;
            if (!live[i]) assert_ok(rv_index_remove(index, ids + i, 1, NULL, err));
        }
        size_t n_live = live_rows(index), at = 0;
        for (size_t i = 0; i < n * m; i++) { /* sparse and dense ones in turn */
            masks[i] = live[i % n] && (!filtered || next_below(&seed, 8) < i / n % 9);
            if (live[i % n]) packed[at++] = masks[i];
        }
        rv_search_options o = RV_SEARCH_DEFAULT;
        o.allow_mask = packed;
        o.allow_mask_len = n_live;
        o.allow_mask_per_query = 1;
        answer a = answer_of(index, queries, m, dim, 7, filtered ? &o : NULL);
        for (size_t i = 0; i < m; i++) {
            size_t count = oracle((rv_metric)metric, rows, ids, masks + i * n, n, dim,
                                  queries + i * dim, exact);
            assert_is_exact(&a, i, (rv_metric)metric, exact, count,
                            metric == RV_COSINE ? 1e-6 : 0);
        }
        answer_free(&a);
        rv_index_free(index);
    }
    free(rows);
    free(queries);
    free(ids);
    free(live);
    free(masks);
    free(packed);
    free(exact);
}

static void tiles_of_rows(void **state) {
    (void)state;
    static const size_t counts[] = {1, 2, 3, 4, 5, 63, 255, 256, 257, 259, 700};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (int mode = 0; mode < 4; mode++)
            compare(counts[i], 1 + i, 9, mode & 1, mode & 2);
}

static void tiles_of_queries(void **state) {
    (void)state;
    for (size_t m = 1; m <= 40; m += m < 18 ? 1 : 7)
        for (int mode = 0; mode < 4; mode++) compare(300, m, 17, mode & 1, mode & 2);
}

static void long_rows(void **state) {
    (void)state;
    static const size_t dims[] = {127, 128, 129, 1000, 4096, RV_MAX_DIM};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int mode = 0; mode < 4; mode++)
            compare(i < 3 ? 300 : 21, 5, dims[i], mode & 1, mode & 2);
}

/* ---- many queries against one at a time, where bounds could go wrong ---- */

enum { CLOSE, SCALES, LARGE, TINY, WHOLE, N_SORTS };

/* Vectors that differ in the last places, of very different lengths, near either end of
 * the range, and many at the same distance. */
static void fill_sort(uint64_t *seed, int sort, float *x, size_t dim) {
    static const float base[] = {0.9f, -0.7f, 0.1f, 0.5f, -0.3f};
    float scale = 1;
    if (sort == SCALES) scale = ldexpf(1, (int)next_below(seed, 60) - 30);
    if (sort == LARGE) scale = 0x1p52f / sqrtf((float)dim);
    if (sort == TINY) scale = ldexpf(1, -50 - (int)next_below(seed, 90));
    for (size_t j = 0; j < dim; j++) {
        x[j] = next_normal(seed) * scale;
        if (sort == CLOSE) x[j] = base[j % 5] + 1e-3f * x[j];
        if (sort == WHOLE) x[j] = (float)next_below(seed, 3) - 1;
    }
    if (next_below(seed, 50) == 0) memset(x, 0, dim * sizeof *x);
}

static void compare_with_single(int sort, rv_metric metric, size_t n, size_t m,
                                size_t dim, size_t k) {
    float *rows = need(n * dim, sizeof *rows), *queries = need(m * dim, sizeof *queries);
    uint64_t seed = (uint64_t)sort * 100 + dim;
    for (size_t i = 0; i < n; i++) fill_sort(&seed, sort, rows + i * dim, dim);
    for (size_t i = 0; i < m; i++) fill_sort(&seed, sort, queries + i * dim, dim);
    uint64_t *ids = scattered_ids(n, n);
    rv_index *index = build(RV_FLAT, metric, dim, rows, ids, n);
    answer all = answer_of(index, queries, m, dim, k, NULL);
    for (size_t i = 0; i < m; i++) {
        answer one = answer_of(index, queries + i * dim, 1, dim, k, NULL);
        assert_memory_equal(one.ids, all.ids + i * k, k * sizeof *one.ids);
        assert_memory_equal(one.scores, all.scores + i * k, k * sizeof *one.scores);
        answer_free(&one);
    }
    answer_free(&all);
    rv_index_free(index);
    free(rows);
    free(queries);
    free(ids);
}

static void batches_answer_as_single_queries_do(void **state) {
    (void)state;
    static const size_t dims[] = {1, 3, 16, 33, 128, 200};
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        for (int sort = 0; sort < N_SORTS; sort++) {
            for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
                compare_with_single(sort, (rv_metric)metric, 700, 11 + 7 * i, dims[i],
                                    1 + 4 * i);
            compare_with_single(sort, (rv_metric)metric, 300, 270, 20, 10);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_of_rows),
        cmocka_unit_test(tiles_of_queries),
        cmocka_unit_test(long_rows),
        cmocka_unit_test(batches_answer_as_single_queries_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
