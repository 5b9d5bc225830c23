/*
 * test_assign.c - the nearest centroid, beside a search in double precision: always
 * where centroids are few, almost always where they are many, the same one for every
 * instruction set, and for points no distance can be told of.
 */
#include "index_cases.h"

#include "index/index_i.h"

#define DIM 32u
#define MANY 2100u /* times DIM: told apart by codes */

typedef struct found {
    uint32_t nearest[RVX_NEAREST_ROWS];
    float value[RVX_NEAREST_ROWS];
} found;

/* Guesses are what `out` holds. */
static void find(const float *rows, size_t k, const float *points, size_t n, found *out) {
    rvx_centroids c;
    assert_ok(rvx_centroids_init(&c, rows, k, DIM, err));
    assert_int_equal(c.codes != NULL, rvx_many_centroids(k, DIM));
    rvx_centroids_moved(&c);
    float *scratch = need(rvx_assign_scratch(&c), sizeof *scratch);
    rvx_assign(&c, points, n, scratch, out->nearest, out->value);
    free(scratch);
    rvx_centroids_clear(&c);
}

static found unknown(void) {
    found f;
    memset(f.nearest, 0xff, sizeof f.nearest);
    return f;
}

static double distance(const float *rows, size_t i, const float *x) {
    return exact_score(RV_L2, x, rows + i * DIM, DIM);
}

static double least_distance(const float *rows, size_t k, const float *x) {
    double least = INFINITY;
    for (size_t i = 0; i < k; i++) least = fmin(least, distance(rows, i, x));
    return least;
}

/* value is |c|^2/2 - <x, c> of the centroid found. */
static void assert_value(const float *rows, const float *x, uint32_t nearest,
                         float value) {
    double norm2 = exact_score(RV_IP, x, x, DIM), got = distance(rows, nearest, x);
    assert_true(fabs(2 * (double)value + norm2 - got) < 1e-4 * (norm2 + got));
}

static void nearest_of_few(void **state) {
    (void)state;
    static const size_t counts[] = {1, 2, 3, 7, 63, 64, 65, 200, 2047};
    float *points = normal_rows(8, RVX_NEAREST_ROWS, DIM),
          *rows = normal_rows(9, 2047, DIM);
    memcpy(rows + 5 * DIM, rows + 1 * DIM, DIM * sizeof *rows); /* ties go to the lower */
    memcpy(rows + 70 * DIM, rows + 6 * DIM, DIM * sizeof *rows);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        size_t k = counts[c], n = c % 2 ? RVX_NEAREST_ROWS : 5;
        found f = unknown();
        find(rows, k, points, n, &f);
        for (size_t i = 0; i < n; i++) {
            const float *x = points + i * DIM;
            assert_true(f.nearest[i] < k && f.nearest[i] != 5 && f.nearest[i] != 70);
            assert_true(distance(rows, f.nearest[i], x) <=
                        least_distance(rows, k, x) * (1 + 1e-5));
            assert_value(rows, x, f.nearest[i], f.value[i]);
        }
    }
    free(points);
    free(rows);
}

static void nearest_of_many(void **state) {
    (void)state;
    const size_t rounds = 40;
    float *rows = clustered_rows(1, MANY, DIM);
    size_t exact = 0, all = 0;
    for (size_t round = 0; round < rounds; round++) {
        float *points = clustered_rows(2 + round, RVX_NEAREST_ROWS, DIM);
        memcpy(points, rows + 50 * round * DIM, DIM * sizeof *rows);
        found f = unknown();
        find(rows, MANY, points, RVX_NEAREST_ROWS, &f);
        for (size_t i = 0; i < RVX_NEAREST_ROWS; i++) {
            const float *x = points + i * DIM;
            double least = least_distance(rows, MANY, x),
                   got = distance(rows, f.nearest[i], x);
            assert_value(rows, x, f.nearest[i], f.value[i]);
            exact += got <= least * (1 + 1e-5) + 1e-9;
            assert_true(got <= 1.5 * least);
            all++;
        }
        free(points);
    }
    assert_true((double)exact > 0.98 * (double)all);
    free(rows);
}

/* A guess only helps: what is found is no farther away than it. */
static void guesses(void **state) {
    (void)state;
    float *rows = clustered_rows(1, MANY, DIM);
    float *points = clustered_rows(3, RVX_NEAREST_ROWS, DIM);
    found plain = unknown(), again, far;
    find(rows, MANY, points, RVX_NEAREST_ROWS, &plain);
    again = plain;
    find(rows, MANY, points, RVX_NEAREST_ROWS, &again);
    assert_memory_equal(again.nearest, plain.nearest, sizeof plain.nearest);
    assert_memory_equal(again.value, plain.value, sizeof plain.value);
    for (size_t i = 0; i < RVX_NEAREST_ROWS; i++)
        far.nearest[i] = (plain.nearest[i] + 700) % MANY;
    find(rows, MANY, points, RVX_NEAREST_ROWS, &far);
    for (size_t i = 0; i < RVX_NEAREST_ROWS; i++)
        assert_true(far.value[i] <= plain.value[i]);
    free(rows);
    free(points);
}

static void the_same_everywhere(void **state) {
    (void)state;
    float *rows = clustered_rows(1, MANY, DIM);
    float *points = clustered_rows(4, RVX_NEAREST_ROWS, DIM);
    found first = unknown();
    for (size_t isa = 0; isa_at(isa); isa++) {
        assert_ok(rv_isa_force(isa_at(isa), err));
        found f = unknown();
        find(rows, MANY, points, RVX_NEAREST_ROWS, &f);
        if (isa == 0) first = f;
        assert_memory_equal(first.nearest, f.nearest, sizeof f.nearest);
        assert_memory_equal(first.value, f.value, sizeof f.value);
    }
    assert_ok(rv_isa_force(NULL, err));
    free(rows);
    free(points);
}

/* The first centroid stands for points that are no use, and for a zero point among
 * centroids that are all the same. */
static void points_without_distances(void **state) {
    (void)state;
    static const size_t counts[] = {9, MANY};
    for (size_t c = 0; c < 2; c++) {
        size_t k = counts[c];
        float *rows = need(k * DIM, sizeof *rows),
              *points = need(3 * DIM, sizeof *points);
        for (size_t i = 0; i < k * DIM; i++) rows[i] = 2;
        points[1 * DIM + 7] = NAN;
        points[2 * DIM + 3] = INFINITY;
        found f = unknown();
        find(rows, k, points, 3, &f);
        for (size_t i = 0; i < 3; i++) assert_int_equal(f.nearest[i], 0);
        assert_value(rows, points, 0, f.value[0]);
        free(rows);
        free(points);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nearest_of_few),
        cmocka_unit_test(nearest_of_many),
        cmocka_unit_test(guesses),
        cmocka_unit_test(the_same_everywhere),
        cmocka_unit_test(points_without_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
