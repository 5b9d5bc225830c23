/*
 * test_probe.c - how many lists a query looks into: as many as asked for on average over
 * queries like the rows, never fewer than half nor more than twice as many, and always
 * those with the smallest keys, computed here in double precision.
 */
#include "index_cases.h"

#include "index/index_i.h"

#define DIM 24u
#define LISTS 60u
#define ROWS 6000u

static const uint32_t nprobes[] = {1, 2, 3, 5, 8, 13, 16, 29, 40, 59};

static rvx_quantizer *trained(rv_metric metric, const float *rows, size_t n) {
    rvx_quantizer *q;
    rvx_source source = {(const uint8_t *)rows, DIM * sizeof *rows, false};
    assert_ok(rvx_quantizer_create(DIM, metric, 7, LISTS, 1, &q, err));
    assert_ok(rvx_quantizer_train(q, 7, &source, n, false, NULL, NULL, err));
    assert_int_equal(q->n_lists, LISTS);
    return q;
}

static int by_key(const void *a, const void *b) {
    const rvx_hit *x = a, *y = b;
    return rvx_hit_before(x, y) ? -1 : rvx_hit_before(y, x);
}

/* `lists` by distance, and by the keys that they are to be compared by. */
static void set_keys(const rvx_quantizer *q, const float *query, rvx_hit *lists,
                     rvx_hit *sorted) {
    float y[32];
    double length = sqrt(exact_score(RV_IP, query, query, DIM));
    float scale = q->metric == RV_COSINE ? (float)(1 / length) : 1;
    uint32_t nearest = 0;
    float best = INFINITY;
    rvx_quantizer_rotate(q, rvk_ops_active(), query, scale, y);
    for (uint32_t l = 0; l < q->n_lists; l++) {
        double d = exact_score(RV_L2, y, q->centroids + l * q->padded, q->padded);
        lists[l] = (rvx_hit){.key = (float)d, .row = l, .id = l};
        if (rvx_hit_before(&lists[l], &lists[nearest])) nearest = l;
        sorted[l] = lists[l];
        sorted[l].key += q->spread[l];
        best = fminf(best, sorted[l].key);
    }
    sorted[nearest].key = best;
    qsort(sorted, q->n_lists, sizeof *sorted, by_key);
}

/* The first n of lists are the n smallest of `sorted`. */
static void assert_smallest(const rvx_hit *lists, const rvx_hit *sorted, size_t n) {
    for (size_t i = 0; i < n; i++)
        assert_true(!rvx_hit_before(&sorted[n - 1], &lists[i]));
}

static void as_many_as_asked_for_on_average(void **state) {
    (void)state;
    const size_t m = 300;
    float *rows = clustered_rows(1, ROWS + m, DIM), *queries = rows + ROWS * DIM;
    for (int metric = RV_L2; metric <= RV_COSINE; metric += RV_COSINE - RV_L2) {
        rvx_quantizer *q = trained((rv_metric)metric, rows, ROWS);
        for (size_t p = 0; p < sizeof nprobes / sizeof *nprobes; p++) {
            size_t nprobe = nprobes[p], sum = 0, least = LISTS, most = 0;
            for (size_t i = 0; i < m; i++) {
                rvx_hit lists[LISTS], sorted[LISTS];
                set_keys(q, queries + i * DIM, lists, sorted);
                size_t n = rvx_probe_choose(q, nprobe, lists, LISTS);
                assert_true(2 * n >= nprobe && n <= 2 * nprobe && n <= LISTS);
                assert_smallest(lists, sorted, n);
                float limit = sorted[0].key + rvx_probe_radius(q, nprobe);
                if (2 * (n - 1) >= nprobe) assert_true(sorted[n - 1].key <= limit);
                if (n < 2 * nprobe && n < LISTS) assert_true(sorted[n].key > limit);
                sum += n;
                if (n < least) least = n;
                if (n > most) most = n;
            }
            double mean = (double)sum / (double)m;
            if (!(mean > 0.75 * (double)nprobe && mean < 1.3 * (double)nprobe + 0.5))
                fail_msg("nprobe %zu: %g lists on average", nprobe, mean);
            if (nprobe > 2 && nprobe < 40) assert_true(least < nprobe && most > nprobe);
        }
        rvx_quantizer_free(q);
    }
    free(rows);
}

static void reaches_grow_with_nprobe(void **state) {
    (void)state;
    float *rows = clustered_rows(1, ROWS, DIM);
    rvx_quantizer *q = trained(RV_L2, rows, ROWS);
    for (size_t nprobe = 1; nprobe < RV_MAX_LISTS; nprobe += 1 + nprobe / 9) {
        assert_true(rvx_probe_radius(q, nprobe) >= 0 &&
                    rvx_probe_radius(q, nprobe) < INFINITY);
        assert_true(rvx_probe_radius(q, nprobe) <= rvx_probe_radius(q, nprobe + 1));
    }
    assert_true(rvx_probe_radius(q, 2) < rvx_probe_radius(q, 10));
    assert_true(rvx_probe_radius(q, LISTS) <= rvx_probe_radius(q, RV_MAX_LISTS));
    /* between two entries of the table, in proportion */
    assert_float_equal(rvx_probe_radius(q, 14),
                       (rvx_probe_radius(q, 12) + rvx_probe_radius(q, 16)) / 2,
                       1e-5f * rvx_probe_radius(q, 16));
    rvx_quantizer_free(q);
    free(rows);
}

static void inner_products_take_what_is_asked_for(void **state) {
    (void)state;
    float *rows = clustered_rows(1, ROWS, DIM);
    rvx_quantizer *q = trained(RV_IP, rows, ROWS);
    uint64_t random = 5;
    assert_null(q->spread);
    for (size_t nprobe = 1; nprobe <= LISTS + 1; nprobe++) {
        rvx_hit lists[LISTS], sorted[LISTS];
        for (uint32_t l = 0; l < LISTS; l++)
            sorted[l] = lists[l] =
                (rvx_hit){.key = next_normal(&random), .row = l, .id = l};
        qsort(sorted, LISTS, sizeof *sorted, by_key);
        size_t n = rvx_probe_choose(q, nprobe, lists, LISTS);
        assert_int_equal(n, nprobe < LISTS ? nprobe : LISTS);
        assert_smallest(lists, sorted, n);
    }
    rvx_quantizer_free(q);
    free(rows);
}

static void equal_points(void **state) {
    (void)state;
    float *rows = need(ROWS * DIM, sizeof *rows);
    for (size_t i = 0; i < ROWS * DIM; i++) rows[i] = 2;
    rvx_quantizer *q = trained(RV_L2, rows, ROWS);
    rvx_hit lists[LISTS], sorted[LISTS];
    set_keys(q, rows, lists, sorted);
    size_t n = rvx_probe_choose(q, 10, lists, LISTS);
    assert_true(n >= 5 && n <= 20);
    assert_int_equal(rvx_probe_choose(q, 10, lists, 3), 3);
    assert_int_equal(rvx_probe_choose(q, 1, lists, 1), 1);
    rvx_quantizer_free(q);
    free(rows);
}

static void the_same_bits_everywhere(void **state) {
    (void)state;
    float *rows = clustered_rows(4, ROWS, DIM), spread[LISTS], reach[RVX_PROBE_RADII];
    for (size_t isa = 0; isa_at(isa); isa++) {
        assert_ok(rv_isa_force(isa_at(isa), err));
        rvx_quantizer *q = trained(RV_L2, rows, ROWS);
        if (isa == 0) {
            memcpy(spread, q->spread, sizeof spread);
            memcpy(reach, q->reach, sizeof reach);
        }
        assert_memory_equal(q->spread, spread, sizeof spread);
        assert_memory_equal(q->reach, reach, sizeof reach);
        rvx_quantizer_free(q);
    }
    assert_ok(rv_isa_force(NULL, err));
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_as_asked_for_on_average),
        cmocka_unit_test(reaches_grow_with_nprobe),
        cmocka_unit_test(inner_products_take_what_is_asked_for),
        cmocka_unit_test(equal_points),
        cmocka_unit_test(the_same_bits_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
