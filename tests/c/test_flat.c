/*
 * test_flat.c - the exact scan by tiles: any number of queries at once, rows and
 * dimensions around the edges of a tile, filters of every sort side by side, removed
 * rows between.
 */
#include "index_cases.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_of_rows),
        cmocka_unit_test(tiles_of_queries),
        cmocka_unit_test(long_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
