/*
 * test_shards.c - one query in several entries: how many hits are asked of each, in
 * which order they come back, and that they are the best there are.
 */
#include "lake_cases.h"

#define SHARDS 5

static rv_pin *pin_of(rv_lake *lake, const source *s) {
    rv_pin *pin;
    assert_ok(rv_lake_acquire(lake, docs_of(s), NULL, &pin, err));
    return pin;
}

/* Shards of one state hold equal rows: order by score, then position, then id. */
static void equal_scores_in_order(void **state) {
    (void)state;
    source s[3] = {{.id = "a", .rows = 4, .first_id = 100},
                   {.id = "b", .rows = 4, .first_id = 50},
                   {.id = "c", .rows = 0}};
    rv_lake *lake = new_lake(NULL);
    rv_pin *pins[3];
    for (int i = 0; i < 3; i++) {
        add_source(lake, &s[i]);
        pins[i] = pin_of(lake, &s[i]);
    }
    const float query[LAKE_DIM] = {0, 1};
    rv_lake_hit hits[8];
    uint64_t n;
    assert_ok(
        rv_pins_search(pins, 3, &(rv_queries){query, 1, LAKE_DIM}, 5, 0, hits, &n, err));
    const uint64_t ids[5] = {101, 51, 100, 102, 50};
    const float scores[5] = {0, 0, 1, 1, 1};
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(hits[i].id, ids[i]);
        assert_true(hits[i].score == scores[i]);
        assert_int_equal(hits[i].shard, ids[i] < 100);
    }
    assert_ok(rv_pins_search(pins, 2, &(rv_queries){query, 1, LAKE_DIM}, 100, 0, hits, &n,
                             err));
    assert_int_equal(n, 8); /* all there are */
    assert_ok(rv_pins_search(pins + 2, 1, &(rv_queries){query, 1, LAKE_DIM}, 3, 0, hits,
                             &n, err));
    assert_int_equal(n, 0);
    assert_ok(
        rv_pins_search(pins, 0, &(rv_queries){query, 1, LAKE_DIM}, 3, 0, hits, &n, err));
    assert_int_equal(n, 0);
    assert_fails(RV_ERR_DIM, rv_pins_search(pins, 3, &(rv_queries){query, 1, 4}, 3, 0,
                                            hits, &n, err));
    assert_fails(
        RV_ERR_ARGUMENT,
        rv_pins_search(pins, 3, &(rv_queries){query, 1, LAKE_DIM}, 0, 0, hits, &n, err));
    const uint64_t not_one[] = {0, 2};
    for (size_t i = 0; i < 2; i++)
        assert_fails(RV_ERR_ARGUMENT,
                     rv_pins_search(pins, 3, &(rv_queries){query, not_one[i], LAKE_DIM},
                                    3, 0, hits, &n, err));
    for (int i = 0; i < 3; i++) rv_pin_release(pins[i]);
    rv_lake_free(lake);
}

static int by_distance(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Rows dealt out to local backends are found again, whichever holds them. */
static void the_best_of_all(void **state) {
    (void)state;
    const size_t n = 4000, dim = 32, k = 10, queries = 40;
    float *rows = clustered_rows(1, n, dim), *asked = clustered_rows(2, queries, dim);
    rv_lake *lake = new_lake(NULL);
    rv_key keys[SHARDS];
    static const char *const names[SHARDS] = {"a", "b", "c", "d", "e"};
    size_t each = n / SHARDS;
    uint64_t *ids = need(each, sizeof *ids);
    for (size_t s = 0; s < SHARDS; s++) {
        rv_backend *backend;
        for (size_t i = 0; i < each; i++) ids[i] = s * each + i;
        assert_ok(rv_local_backend_new(names[s], &backend, err));
        assert_ok(rv_local_put(
            backend, "docs", &(rv_rows){rows + s * each * dim, ids, each, (uint32_t)dim},
            err));
        assert_ok(rv_lake_register(lake, backend, err));
        rv_backend_free(backend);
        keys[s] = (rv_key){names[s], "docs"};
    }
    rv_pin *pins[SHARDS];
    size_t failed, found = 0;
    assert_ok(rv_lake_acquire_all(lake, keys, SHARDS, NULL, pins, &failed, err));
    double *all = need(n, sizeof *all), *sorted = need(n, sizeof *sorted);
    for (size_t q = 0; q < queries; q++) {
        for (size_t i = 0; i < n; i++) {
            all[i] = 0;
            for (size_t j = 0; j < dim; j++) {
                double d = (double)asked[q * dim + j] - (double)rows[i * dim + j];
                all[i] += d * d;
            }
        }
        memcpy(sorted, all, n * sizeof *all);
        qsort(sorted, n, sizeof *sorted, by_distance);
        rv_lake_hit hits[10];
        uint64_t got;
        assert_ok(rv_pins_search(pins, SHARDS,
                                 &(rv_queries){asked + q * dim, 1, (uint32_t)dim}, k, 0,
                                 hits, &got, err));
        assert_int_equal(got, k);
        for (size_t i = 0; i < k; i++) {
            assert_int_equal(hits[i].shard, hits[i].id / each);
            double exact = all[hits[i].id];
            assert_true(fabs((double)hits[i].score - exact) <= 1e-5 * exact);
            assert_true(i == 0 || hits[i - 1].score <= hits[i].score);
            found += exact <= sorted[k - 1];
        }
    }
    assert_true(found >= queries * k * 99 / 100);
    for (size_t s = 0; s < SHARDS; s++) rv_pin_release(pins[s]);
    rv_lake_free(lake);
    free(all);
    free(sorted);
    free(ids);
    free(rows);
    free(asked);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_scores_in_order),
        cmocka_unit_test(the_best_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
