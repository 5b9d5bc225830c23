/*
 * test_levels.c - the magnitudes of multi-bit codes: the scalar table against arithmetic
 * in double and an exact search for the best scale, and every table this machine can run
 * against the scalar one, bit for bit.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernel_cases.h"

#include <math.h>
#include <stdlib.h>

static const rvk_ops *scalar(void) { return rvk_ops_find("scalar"); }

enum { PLANES_MAX = RVK_MAX_EXTRA * MAX_DIM / 8 };

/* ---- residuals ---- */

static float normal(uint64_t *rng) { /* Box and Muller */
    const double u = (double)(next_u64(rng) >> 11) * 0x1p-53 + 0x1p-54;
    const double angle = (double)(next_u64(rng) >> 11) * 0x1p-53 * 6.283185307179586;
    return (float)(sqrt(-2 * log(u)) * cos(angle));
}

enum { NORMAL, HEAVY_TAILED, SPIKE, EVEN, LONE, N_SHAPES };

static void fill_residual(uint64_t *rng, int shape, float *r, size_t n) {
    for (size_t j = 0; j < n; j++) {
        r[j] = normal(rng);
        if (shape == HEAVY_TAILED) { /* Student's t with 3 degrees of freedom */
            const float a = normal(rng), b = normal(rng), c = normal(rng);
            r[j] /= sqrtf((a * a + b * b + c * c) / 3);
        }
        if (shape == EVEN) r[j] = next_unit(rng);
        if (shape == LONE) r[j] *= 0.01f;
    }
    if (shape == SPIKE) r[n / 3] *= sqrtf((float)n);
    if (shape == LONE) r[n / 2] = -1.0f;
}

/* ---- the code as documented ---- */

static unsigned plane_bit(const uint8_t *planes, size_t padded, unsigned p, size_t j) {
    return planes[p * (padded / 8) + j / 8] >> (j % 8) & 1;
}

/* |y_j| from the stored number: complemented where the residual is not positive. */
static double level(const uint8_t *planes, size_t padded, unsigned extra, bool positive,
                    size_t j) {
    unsigned e = 0;
    for (unsigned p = 0; p < extra; p++) e = 2 * e + plane_bit(planes, padded, p, j);
    return (positive ? e : (1u << extra) - 1 - e) + 0.5;
}

static void check_code(uint64_t *rng, int shape, size_t n, unsigned extra) {
    static float x[MAX_DIM], c[MAX_DIM], w[MAX_DIM], r[MAX_DIM];
    static uint8_t signs[MAX_DIM / 8], planes[PLANES_MAX];
    fill_residual(rng, shape, r, n);
    fill_floats(rng, PLAIN, c, n);
    fill_floats(rng, PLAIN, w, n);
    for (size_t j = 0; j < n; j++) x[j] = c[j] + r[j];
    x[1] = c[1];
    rvk_residual residual;
    rvk_levels got;
    scalar()->encode(x, c, NULL, n, signs, &residual);
    scalar()->quantize(x, c, n, residual.norm2, extra, planes, &got);
    const double top = (1u << extra) - 1;
    double dot = 0, norm2 = 0, sign_c = 0, least = 0, most = INFINITY, size = 0, x_w = 0;
    for (size_t j = 0; j < n; j++) {
        const double a = fabs((double)(x[j] - c[j])), sign = x[j] > c[j] ? 1.0 : -1.0;
        const double y = level(planes, n, extra, x[j] > c[j], j);
        dot += a * y;
        norm2 += y * y;
        sign_c += sign * y * (double)c[j];
        x_w += (sign * y + ((double)(2u << extra) - 1) / 2) * (double)w[j];
        size += fabs((double)w[j]);
        if (y - 0.5 > least * a) least = (y - 0.5) / a;
        if (y < top && y + 0.5 < most * a) most = (y + 0.5) / a;
    }
    assert_true(least <= most * (1 + 1e-6)); /* one scale made all of them */
    assert_true(fabs((double)got.dot / dot - 1) < 1e-5);
    assert_true(fabs((double)got.norm2 / norm2 - 1) < 1e-5);
    assert_true(fabs((double)got.sign_c - sign_c) < 1e-5 * (double)n * (top + 1));
    const float product = scalar()->level_dot(signs, planes, extra, w, n);
    assert_true(fabs((double)product - x_w) < 1e-5 * size * 2 * (top + 1));
}

static void scalar_codes_are_as_documented(void **state) {
    (void)state;
    uint64_t rng = 1;
    for (size_t i = 0, n; (n = padded_at(i)) != 0; i++)
        for (unsigned extra = 1; extra <= RVK_MAX_EXTRA; extra++)
            for (int shape = 0; shape < N_SHAPES; shape++)
                check_code(&rng, shape, n, extra);
}

/* Whole queries make every sum exact. */
static void scalar_level_dot_is_exact_on_whole_numbers(void **state) {
    (void)state;
    static uint8_t planes[PLANES_MAX], signs[MAX_DIM / 8];
    static float query[MAX_DIM];
    uint64_t rng = 2;
    for (size_t i = 0, n; (n = padded_at(i)) != 0 && n <= 1536; i++) {
        for (unsigned extra = 1; extra <= RVK_MAX_EXTRA; extra++) {
            int64_t want = 0;
            fill_bytes(&rng, planes, extra * n / 8);
            fill_bytes(&rng, signs, n / 8);
            for (size_t j = 0; j < n; j++) {
                const int64_t q = (int64_t)next_below(&rng, 41) - 20;
                int64_t number = signs[j / 8] >> (j % 8) & 1;
                for (unsigned p = 0; p < extra; p++)
                    number = 2 * number + plane_bit(planes, n, p, j);
                query[j] = (float)q;
                want += number * q;
            }
            const float got = scalar()->level_dot(signs, planes, extra, query, n);
            assert_true(got == (float)want);
        }
    }
}

/* ---- how close the codes come ---- */

typedef struct critical {
    double t, a; /* at t the level of magnitude a rises to `level` + 1/2 */
    unsigned level;
} critical;

static int by_scale(const void *a, const void *b) {
    const double x = ((const critical *)a)->t, y = ((const critical *)b)->t;
    return (x > y) - (x < y);
}

/* The largest cosine of any scale: one after the other, every level that changes. */
static double best_cosine(const float *r, size_t n, unsigned extra) {
    const unsigned top = (1u << extra) - 1;
    critical *at = malloc(n * top * sizeof *at);
    assert_non_null(at);
    size_t m = 0;
    double dot = 0, norm2 = 0.25 * (double)n, length2 = 0;
    for (size_t j = 0; j < n; j++) {
        const double a = fabs((double)r[j]);
        dot += 0.5 * a;
        length2 += a * a;
        for (unsigned v = 1; v <= top && a > 0; v++) at[m++] = (critical){v / a, a, v};
    }
    qsort(at, m, sizeof *at, by_scale);
    double best = dot / sqrt(norm2 * length2);
    for (size_t i = 0; i < m; i++) {
        dot += at[i].a;
        norm2 += 2.0 * at[i].level; /* (v + 1/2)^2 - (v - 1/2)^2 */
        best = fmax(best, dot / sqrt(norm2 * length2));
    }
    free(at);
    return best;
}

static double coded_cosine(const float *r, size_t n, unsigned extra) {
    static const float zero[MAX_DIM];
    uint8_t signs[MAX_DIM / 8], planes[PLANES_MAX];
    rvk_residual residual;
    rvk_levels got;
    scalar()->encode(r, zero, NULL, n, signs, &residual);
    scalar()->quantize(r, zero, n, residual.norm2, extra, planes, &got);
    return (double)got.dot / sqrt((double)got.norm2 * (double)residual.norm2);
}

/* Against the mean cosines of an exact search on SIFT at 128 dimensions. */
static void normal_residuals_are_coded_well(void **state) {
    (void)state;
    static const double want[RVK_MAX_EXTRA] = {0.9400,  0.9821,  0.9948, 0.9986,
                                               0.99965, 0.99991, 0.99998};
    enum { N = 128, ROWS = 400 };
    float r[N];
    for (unsigned extra = 1; extra <= RVK_MAX_EXTRA; extra++) {
        uint64_t rng = 3;
        double sum = 0;
        for (int i = 0; i < ROWS; i++) {
            fill_residual(&rng, NORMAL, r, N);
            sum += coded_cosine(r, N, extra);
        }
        assert_true(sum / ROWS >= want[extra - 1] - (extra < 4 ? 3e-4 : 3e-5));
    }
}

static void any_residual_is_coded_nearly_as_well_as_can_be(void **state) {
    (void)state;
    static const size_t sizes[] = {32, 128, 768};
    enum { ROWS = 12 };
    float r[768];
    uint64_t rng = 4;
    for (unsigned extra = 1; extra <= RVK_MAX_EXTRA; extra++) {
        for (size_t s = 0; s < 3; s++) {
            for (int shape = 0; shape < N_SHAPES; shape++) {
                double lost = 0;
                for (int i = 0; i < ROWS; i++) {
                    fill_residual(&rng, shape, r, sizes[s]);
                    const double best = best_cosine(r, sizes[s], extra);
                    const double loss = 1 - coded_cosine(r, sizes[s], extra) / best;
                    assert_true(loss > -1e-6 && loss < 5e-3);
                    lost += loss / ROWS;
                }
                assert_true(lost < 1e-3);
            }
        }
    }
}

/* ---- edges ---- */

static void nothing_to_code_has_the_lowest_levels(void **state) {
    (void)state;
    float x[64];
    uint64_t rng = 5;
    fill_floats(&rng, PLAIN, x, 64);
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        for (unsigned extra = 1; extra <= RVK_MAX_EXTRA; extra++) {
            uint8_t planes[RVK_MAX_EXTRA * 8] = {0};
            rvk_levels got = {9, 9, 9};
            double sum = 0;
            ops->quantize(x, x, 64, 0.0f, extra, planes, &got);
            for (size_t i = 0; i < extra * 8u; i++) assert_int_equal(planes[i], 0xff);
            for (size_t j = 0; j < 64; j++) sum -= 0.5 * (double)x[j];
            assert_true(same_bits(got.dot, 0.0f));
            assert_true(got.norm2 == 16.0f);
            assert_true(fabs((double)got.sign_c - sum) < 1e-4);
        }
    }
}

/* Components of one size are coded without error. */
static void even_residuals_are_coded_exactly(void **state) {
    (void)state;
    float r[96];
    for (size_t j = 0; j < 96; j++) r[j] = j % 3 ? 1e-15f : -1e-15f;
    for (unsigned extra = 1; extra <= RVK_MAX_EXTRA; extra++)
        assert_true(fabs(coded_cosine(r, 96, extra) - 1) < 1e-6);
}

/* ---- every table against the scalar one ---- */

static fence fences[5];

static int open_fences(void **state) {
    (void)state;
    for (size_t i = 0; i < 5; i++) fences[i] = fence_open(4u * MAX_DIM + 8);
    return 0;
}

static int close_fences(void **state) {
    (void)state;
    for (size_t i = 0; i < 5; i++) fence_close(&fences[i]);
    return 0;
}

static void compare_levels(const rvk_ops *ops, uint64_t *rng, int kind, size_t n,
                           unsigned extra) {
    static uint8_t want_planes[PLANES_MAX];
    const size_t shift = next_below(rng, 2), bytes = extra * n / 8;
    float *x = fence_floats(&fences[0], n + shift);
    float *c = fence_floats(&fences[1], n + shift);
    float *query = fence_floats(&fences[2], n + shift);
    uint8_t *planes = fences[3].end - bytes - shift;
    uint8_t *signs = fences[4].end - n / 8 - shift;
    fill_floats(rng, kind, query, n);
    if (kind < N_KINDS) {
        fill_floats(rng, kind, x, n);
        fill_floats(rng, kind, c, n);
    } else {
        fill_residual(rng, kind - N_KINDS, x, n);
        memset(c, 0, n * sizeof *c);
    }
    x[n / 2] = c[n / 2];
    rvk_residual residual;
    rvk_levels got, want;
    ops->encode(x, c, NULL, n, signs, &residual);
    ops->quantize(x, c, n, residual.norm2, extra, planes, &got);
    scalar()->quantize(x, c, n, residual.norm2, extra, want_planes, &want);
    assert_memory_equal(planes, want_planes, bytes);
    assert_same(&got.dot, &want.dot, 1, ops->name, n);
    assert_same(&got.norm2, &want.norm2, 1, ops->name, n);
    assert_same(&got.sign_c, &want.sign_c, 1, ops->name, n);
    float sum = ops->level_dot(signs, planes, extra, query, n);
    float want_sum = scalar()->level_dot(signs, planes, extra, query, n);
    assert_same(&sum, &want_sum, 1, ops->name, n);
    fill_bytes(rng, planes, bytes);
    fill_bytes(rng, signs, n / 8);
    sum = ops->level_dot(signs, planes, extra, query, n);
    want_sum = scalar()->level_dot(signs, planes, extra, query, n);
    assert_same(&sum, &want_sum, 1, ops->name, n);
}

static void tables_agree(void **state) {
    (void)state;
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL && ops != scalar(); t++) {
        for (size_t i = 0, n; (n = padded_at(i)) != 0; i++) {
            for (int kind = 0; kind < N_KINDS + N_SHAPES; kind++) {
                for (unsigned extra = 1; extra <= RVK_MAX_EXTRA; extra++) {
                    uint64_t rng = 1000 * n + 10 * (uint64_t)kind + extra;
                    compare_levels(ops, &rng, kind, n, extra);
                }
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_codes_are_as_documented),
        cmocka_unit_test(scalar_level_dot_is_exact_on_whole_numbers),
        cmocka_unit_test(normal_residuals_are_coded_well),
        cmocka_unit_test(any_residual_is_coded_nearly_as_well_as_can_be),
        cmocka_unit_test(nothing_to_code_has_the_lowest_levels),
        cmocka_unit_test(even_residuals_are_coded_exactly),
        cmocka_unit_test(tables_agree),
    };
    return cmocka_run_group_tests(tests, open_fences, close_fences);
}
