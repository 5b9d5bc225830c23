/*
 * test_quantizer.c - the quantizer against its theory, with everything that does not
 * come from the code under test computed in double precision: the rotation is
 * orthonormal, factors follow from the code, estimates are unbiased with the spread of
 * Gao & Long (SIGMOD 2024, theorem 3.2), and the bound fails about as often as a normal
 * tail - by signs alone and by codes of 2 to 8 bits.
 */
#include "index_cases.h"

#include "index/index_i.h"

static double dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t j = 0; j < n; j++) sum += (double)a[j] * (double)b[j];
    return sum;
}

static rvx_source source_of(const float *rows, size_t dim) {
    return (rvx_source){(const uint8_t *)rows, dim * sizeof *rows, false};
}

static rvx_quantizer *trained_bits(unsigned bits, size_t dim, rv_metric metric,
                                   uint64_t seed, uint32_t lists, const float *rows,
                                   size_t n) {
    rvx_quantizer *q;
    rvx_source source = source_of(rows, dim);
    assert_ok(rvx_quantizer_create((uint32_t)dim, metric, seed, lists, bits, &q, err));
    assert_ok(rvx_quantizer_train(q, seed, &source, n, false, NULL, NULL, err));
    return q;
}

static rvx_quantizer *trained(size_t dim, rv_metric metric, uint64_t seed, uint32_t lists,
                              const float *rows, size_t n) {
    return trained_bits(1, dim, metric, seed, lists, rows, n);
}

/* ---- small parts ---- */

static void sizes(void **state) {
    (void)state;
    assert_int_equal(rvx_auto_lists(0), 1);
    assert_int_equal(rvx_auto_lists(1000), 1);
    assert_int_equal(rvx_auto_lists(RV_MAX_ROWS), RV_MAX_LISTS);
    for (uint64_t n = 1; n < 500000; n += 97) {
        assert_true(rvx_auto_lists(n) <= rvx_auto_lists(n + 97));
        assert_true(rvx_auto_lists(n) <= rvx_most_lists(n));
    }
    assert_int_equal(rvx_most_lists(1), 1);
    assert_int_equal(rvx_most_lists(64), 64);
    assert_int_equal(rvx_most_lists(4096), 64);
    assert_int_equal(rvx_most_lists(64 * 100), 100);
    assert_int_equal(rvx_most_lists(RV_MAX_ROWS), RV_MAX_LISTS);
}

static void rotation_is_orthonormal(void **state) {
    (void)state;
    static const size_t dims[] = {1, 2, 5, 31, 32, 33, 64, 100, 128, 257, 768, 1536};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        size_t dim = dims[d], padded = rvx_padded_dim((uint32_t)dim);
        float *rows = clustered_rows(d, 20, dim), *y = need(20 * padded, sizeof *y);
        rvx_quantizer *q = trained(dim, RV_L2, d, 1, rows, 20);
        for (size_t i = 0; i < 20; i++) {
            float *v = rows + i * dim;
            rvx_quantizer_rotate(q, rvk_ops_active(), v, 1, y + i * padded);
            for (size_t j = 0; j < dim; j++) v[j] -= q->mean[j];
        }
        for (size_t i = 0; i < 20; i++) {
            double norm2 = dot(rows + i * dim, rows + i * dim, dim);
            for (size_t j = 0; j <= i; j++) {
                double other = dot(rows + j * dim, rows + j * dim, dim);
                double before = dot(rows + i * dim, rows + j * dim, dim);
                double after = dot(y + i * padded, y + j * padded, padded);
                assert_true(fabs(after - before) <= 2e-6 * sqrt(norm2 * other));
            }
        }
        rvx_quantizer_free(q);
        free(rows);
        free(y);
    }
}

static void rotation_depends_on_the_seed(void **state) {
    (void)state;
    float v[64], a[64], b[64];
    for (size_t j = 0; j < 64; j++) v[j] = 1;
    rvx_quantizer *p, *q;
    assert_ok(rvx_quantizer_create(64, RV_L2, 1, 1, 1, &p, err));
    assert_ok(rvx_quantizer_create(64, RV_L2, 2, 1, 1, &q, err));
    rvx_quantizer_rotate(p, rvk_ops_active(), v, 1, a);
    rvx_quantizer_rotate(q, rvk_ops_active(), v, 1, b);
    assert_memory_not_equal(a, b, sizeof a);
    rvx_quantizer_rotate(q, rvk_ops_active(), v, 2, a); /* and scales */
    for (size_t j = 0; j < 64; j++) assert_true(a[j] == 2 * b[j]);
    rvx_quantizer_free(p);
    rvx_quantizer_free(q);
}

/* ---- the estimator ---- */

#define MAX_DIM 768u

typedef struct sums {
    double n, error, error2; /* of the normalized error */
    double too_high;         /* lower bounds above the truth, epsilon 1.9 */
} sums;

/* A row as the quantizer sees it, in double precision: r = P(scale * v - m) - c, and
 * what its code says of r: half of its signs, or X - (2^bits - 1)/2. */
typedef struct coded {
    uint8_t code[RVX_MAX_BITS * MAX_DIM / 8];
    rvx_fine_factors f;
    uint32_t list;
    double r_norm, r[MAX_DIM], y[MAX_DIM];
} coded;

static double number_of(const uint8_t *code, size_t padded, unsigned bits, size_t j) {
    unsigned number = 0;
    for (unsigned plane = 0; plane < bits; plane++)
        number = 2 * number + (code[plane * padded / 8 + j / 8] >> (j % 8) & 1);
    return number - 0.5 * ((1u << bits) - 1);
}

static float norm_of(const float *v, size_t dim) { return (float)sqrt(dot(v, v, dim)); }

static void code_row(const rvx_quantizer *q, const float *v, coded *out) {
    const rvk_ops *ops = rvk_ops_active();
    float norm = norm_of(v, q->dim);
    size_t finding = rvx_assign_scratch(&q->near);
    float *scratch = need(q->padded + finding, sizeof *scratch);
    float *y = scratch + finding;
    rvx_quantizer_place(q, ops, &v, &norm, 1, scratch, y, &out->list);
    assert_true(out->list < q->n_lists);
    memset(&out->f, 0xee, sizeof out->f);
    rvx_quantizer_encode(q, ops, y, norm, out->list, out->code, &out->f);
    const float *c = q->centroids + out->list * q->padded;
    for (size_t j = 0; j < q->padded; j++) {
        out->r[j] = (double)y[j] - (double)c[j];
        out->y[j] = number_of(out->code, q->padded, q->extra + 1, j);
    }
    out->r_norm = sqrt(exact_score(RV_L2, y, c, q->padded));
    free(scratch);
}

/* What the index would estimate, in scan space: squared distance or minus the inner
 * product. y = P(query - mean), p = P query. */
static double estimate(const rvx_quantizer *q, const coded *row, const float *query,
                       const float *y, const float *p, double *distance) {
    const float *c = q->centroids + row->list * q->padded;
    double g2 = exact_score(RV_L2, y, c, q->padded), g = g2, ip = 0;
    if (q->metric == RV_IP) g = -dot(q->mean, query, q->dim) - dot(c, p, q->padded);
    for (size_t j = 0; j < q->padded; j++) ip += (double)y[j] * row->y[j];
    *distance = sqrt(g2);
    if (!q->extra) return (double)row->f.sign.a + g + (double)row->f.sign.b * ip;
    return (double)row->f.a + g + (double)row->f.b * ip;
}

static double truth(const rvx_quantizer *q, const float *query, const float *v) {
    double score = exact_score(q->metric, query, v, q->dim);
    if (q->metric == RV_L2) return score;
    return q->metric == RV_IP ? -score : 2 - 2 * score;
}

static void measure(const rvx_quantizer *q, const float *rows, size_t n,
                    const float *queries, size_t m, sums *out) {
    size_t padded = q->padded;
    float *y = need(2 * padded, sizeof *y), *p = y + padded;
    coded *codes = need(n, sizeof *codes);
    assert_true(padded <= MAX_DIM);
    for (size_t i = 0; i < n; i++) code_row(q, rows + i * q->dim, &codes[i]);
    for (size_t k = 0; k < m; k++) {
        const float *query = queries + k * q->dim;
        float scale = q->metric == RV_COSINE ? 1 / norm_of(query, q->dim) : 1;
        rvx_quantizer_rotate(q, rvk_ops_active(), query, scale, y);
        memset(p, 0, padded * sizeof *p);
        memcpy(p, query, q->dim * sizeof *p);
        rvk_ops_active()->rotate(p, padded, q->signs);
        for (size_t i = 0; i < n; i++) {
            double distance, spread = q->metric == RV_IP ? 1 : 2;
            double got = estimate(q, &codes[i], query, y, p, &distance);
            double wanted = truth(q, query, rows + i * q->dim);
            if (codes[i].r_norm < 1e-4) { /* alone in its list: nothing is estimated */
                assert_true(fabs(got - wanted) < 1e-3 * (1 + fabs(wanted)));
                continue;
            }
            double deviation = distance * (double)codes[i].f.e;
            double error = (got - wanted) / deviation;
            if (!q->extra) {
                error = (got - wanted) / (spread * codes[i].r_norm * distance);
                deviation = -0.3014 * distance * (double)codes[i].f.sign.b *
                            sqrt((double)padded / (double)(padded - 1));
            }
            out->n++;
            out->error += error;
            out->error2 += error * error;
            out->too_high += got - 1.9 * deviation > wanted;
        }
    }
    free(codes);
    free(y);
}

/* Signs of a random unit vector: sqrt(1 - 2/pi) / sqrt(2/pi) = 0.7555. With magnitudes
 * errors come in units of what is to be expected. */
static void assert_theory(const sums *s, size_t dim, unsigned bits,
                          double width_tolerance) {
    double mean = s->error / s->n, deviation = sqrt(s->error2 / s->n - mean * mean);
    double wanted =
        bits > 1 ? 1 : 0.7555 / sqrt((double)rvx_padded_dim((uint32_t)dim) - 1);
    if (fabs(mean) > 4 * deviation / sqrt(s->n))
        fail_msg("dim %zu: mean error %g, %g standard errors", dim, mean,
                 fabs(mean) / deviation * sqrt(s->n));
    if (fabs(deviation / wanted - 1) > width_tolerance)
        fail_msg("dim %zu: spread %g instead of %g", dim, deviation, wanted);
}

static void estimates_are_unbiased(void **state) {
    (void)state;
    static const size_t dims[] = {64, 128, 768};
    const size_t n = sized(3000);
    for (size_t d = 0; d < 3; d++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            for (uint32_t lists = 1; lists <= 16; lists *= 16) {
                size_t dim = dims[d];
                float *rows = normal_rows(d + 1, n, dim),
                      *query = normal_rows(90, 2, dim);
                for (size_t j = 0; j < n * dim; j++)
                    rows[j] += 0.3f; /* a mean to remove */
                rvx_quantizer *q = trained(dim, (rv_metric)metric, d, lists, rows, n);
                sums s = {0};
                measure(q, rows, n, query, 2, &s);
                assert_theory(&s, dim, 1, 0.08);
                /* one side of a normal distribution beyond 1.9 is 2.9 % */
                double share = s.too_high / s.n;
                if (!(share > 0.015 && share < 0.045))
                    fail_msg("dim %zu %s, %u lists: bound fails for %g", dim,
                             metric_names[metric], lists, share);
                rvx_quantizer_free(q);
                free(rows);
                free(query);
            }
        }
    }
}

/* Rows that lie along the axes, which only the rotation makes look random: over many
 * seeds. */
static void structured_rows_over_many_rotations(void **state) {
    (void)state;
    static const size_t dims[] = {33, 64, 100, 128};
    for (size_t d = 0; d < 4; d++) {
        size_t dim = dims[d];
        float *rows = need(4 * dim, sizeof *rows), *query = normal_rows(5, 1, dim);
        for (size_t i = 0; i < 4; i++) rows[i * dim + i * 7] = i % 2 ? 3 : -1;
        rows[3 * dim] = 2;
        sums s = {0};
        for (uint64_t seed = 0; seed < sized(1500); seed++) {
            rvx_quantizer *q;
            assert_ok(rvx_quantizer_create((uint32_t)dim, RV_L2, seed, 1, 1, &q, err));
            measure(q, rows, 4, query, 1, &s);
            rvx_quantizer_free(q);
        }
        assert_theory(&s, dim, 1, 0.12);
        free(rows);
        free(query);
    }
}

static void a_row_at_its_centroid_is_exact(void **state) {
    (void)state;
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        for (size_t dim = 1; dim <= 100; dim += 33) {
            float *row = normal_rows(dim, 1, dim), *query = normal_rows(3, 1, dim);
            rvx_quantizer *q = trained(dim, (rv_metric)metric, 1, 1, row, 1);
            float y[128], p[128];
            coded c;
            code_row(q, row, &c);
            if (metric != RV_COSINE) { /* there the mean is that of rounded rows */
                assert_memory_equal(q->mean, row, dim * sizeof *row);
                for (size_t j = 0; j < q->padded / 8; j++) assert_int_equal(c.code[j], 0);
                assert_true(c.f.sign.a == 0 && c.f.sign.b == 0);
            }
            float scale = metric == RV_COSINE ? 1 / norm_of(query, dim) : 1;
            rvx_quantizer_rotate(q, rvk_ops_active(), query, scale, y);
            memset(p, 0, sizeof p);
            memcpy(p, query, dim * sizeof *p);
            rvk_ops_active()->rotate(p, q->padded, q->signs);
            double distance, got = estimate(q, &c, query, y, p, &distance);
            assert_true(fabs(got - truth(q, query, row)) < 1e-4 * (1 + fabs(got)));
            rvx_quantizer_free(q);
            free(row);
            free(query);
        }
    }
}

/* The squared distance that stands for cosine 0 is 2, to any unit vector. */
static void zero_rows_under_cosine(void **state) {
    (void)state;
    const size_t dim = 100, n = 400;
    float *rows = normal_rows(1, n, dim), *query = normal_rows(2, 1, dim);
    memset(rows, 0, dim * sizeof *rows);
    double sum = 0;
    const size_t seeds = sized(400);
    for (uint64_t seed = 0; seed < seeds; seed++) {
        rvx_quantizer *q = trained(dim, RV_COSINE, seed, 1, rows, n);
        float y[128];
        coded c;
        code_row(q, rows, &c);
        rvx_quantizer_rotate(q, rvk_ops_active(), query, 1 / norm_of(query, dim), y);
        double distance;
        sum += estimate(q, &c, query, y, NULL, &distance) / (double)seeds;
        rvx_quantizer_free(q);
    }
    assert_true(fabs(sum - 2) < 0.02);
    free(rows);
    free(query);
}

/* Few dimensions stay few after padding, so that errors do not average out over rows;
 * over rotations they do. */
static void padded_dimensions(void **state) {
    (void)state;
    static const size_t dims[] = {1, 5, 31, 33, 100};
    for (size_t d = 0; d < 5; d++) {
        size_t dim = dims[d];
        double padded = rvx_padded_dim((uint32_t)dim);
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            float *rows = normal_rows(d, 60, dim), *query = normal_rows(55, 2, dim);
            sums s = {0};
            for (uint64_t seed = 0; seed < sized(200); seed++) {
                rvx_quantizer *q = trained(dim, (rv_metric)metric, seed, 4, rows, 60);
                measure(q, rows, 60, query, 2, &s);
                rvx_quantizer_free(q);
            }
            /* dim 1 under cosine has two points, which are their own centroids */
            assert_true(s.n > 0 || (dim == 1 && metric == RV_COSINE));
            if (s.n == 0) s.n = 1;
            assert_true(fabs(s.error / s.n) < 0.05 / sqrt(padded));
            assert_true(sqrt(s.error2 / s.n) < 1.0 / sqrt(padded));
            free(rows);
            free(query);
        }
    }
}

/* ---- magnitudes ---- */

/* All three factors of a row from its residual and its code alone. */
static void assert_factors(const rvx_quantizer *q, const coded *row, bool zero_row) {
    const float *c = q->centroids + row->list * q->padded;
    double norm2 = 0, ry = 0, y2 = 0, yc = 0, rw = 0;
    for (size_t j = 0; j < q->padded; j++) {
        double r = row->r[j], y = row->y[j];
        assert_int_equal(y > 0, r > 0); /* the sign plane comes first */
        norm2 += r * r;
        ry += r * y;
        y2 += y * y;
        yc += y * (double)c[j];
        if (q->metric == RV_IP) rw += r * ((double)q->rotated_mean[j] + (double)c[j]);
    }
    bool ip = q->metric == RV_IP;
    double scale = ip ? 1 : 2, s = norm2 / ry, cosine2 = ry * ry / (norm2 * y2);
    double a = (ip ? -rw : norm2) + scale * s * yc, b = -scale * s;
    double unit = scale * scale * norm2 / (double)(q->padded - 1);
    double e2 = unit * (1 - cosine2) / cosine2, got = (double)row->f.e;
    double size = norm2 + fabs(rw) + scale * s * fabs(yc);
    if (zero_row) a++;
    assert_true(fabs((double)row->f.a - a) <= 4e-6 * size);
    assert_true(fabs((double)row->f.b - b) <= 4e-6 * fabs(b));
    assert_true(fabs(got * got - e2) <= 1e-6 * unit); /* 1 minus a float close to 1 */
    /* a code of so many bits is that close to the direction of a normal vector */
    static const double cosines[] = {0.88, 0.96, 0.985, 0.995, 0.998, 0.999, 0.9995};
    assert_true(zero_row || sqrt(cosine2) > cosines[q->extra - 1]);
}

static void factors_follow_from_the_code(void **state) {
    (void)state;
    static const size_t dims[] = {33, 64, 100, 257};
    const size_t n = sized(120) + 20;
    coded *row = need(1, sizeof *row), *sign = need(1, sizeof *sign);
    for (unsigned bits = 2; bits <= RVX_MAX_BITS; bits++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            size_t dim = dims[(bits + (unsigned)metric) % 4];
            float *rows = normal_rows(bits, n, dim);
            for (size_t j = 0; j < n * dim; j++) rows[j] += 0.3f;
            memset(rows, 0, dim * sizeof *rows);
            rvx_quantizer *q = trained_bits(bits, dim, (rv_metric)metric, 1, 3, rows, n);
            rvx_quantizer *plain = trained(dim, (rv_metric)metric, 1, 3, rows, n);
            for (size_t i = 0; i < n; i++) {
                code_row(q, rows + i * dim, row);
                code_row(plain, rows + i * dim, sign);
                assert_int_equal(row->list, sign->list);
                if (row->r_norm > 1e-4)
                    assert_factors(q, row, i == 0 && metric == RV_COSINE);
                /* and the signs are coded as ever */
                assert_memory_equal(row->code, sign->code, q->padded / 8);
                assert_memory_equal(&row->f.sign, &sign->f.sign, sizeof sign->f.sign);
            }
            rvx_quantizer_free(q);
            rvx_quantizer_free(plain);
            free(rows);
        }
    }
    free(row);
    free(sign);
}

static void fine_estimates_are_unbiased(void **state) {
    (void)state;
    static const size_t dims[] = {64, 128};
    const size_t n = sized(1200);
    for (unsigned bits = 2; bits <= RVX_MAX_BITS; bits++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            size_t dim = dims[bits % 2];
            uint32_t lists = (bits + (unsigned)metric) % 3 ? 1 : 16;
            float *rows = normal_rows(bits, n, dim), *query = normal_rows(91, 2, dim);
            for (size_t j = 0; j < n * dim; j++) rows[j] += 0.3f;
            sums s = {0};
            for (uint64_t seed = 0; seed < 4; seed++) {
                rvx_quantizer *q =
                    trained_bits(bits, dim, (rv_metric)metric, seed, lists, rows, n);
                measure(q, rows, n, query, 2, &s);
                rvx_quantizer_free(q);
            }
            assert_theory(&s, dim, bits, 0.08);
            double share = s.too_high / s.n;
            if (!(share > 0.018 && share < 0.040))
                fail_msg("%u bits %s: bound fails for %g", bits, metric_names[metric],
                         share);
            free(rows);
            free(query);
        }
    }
}

/* Few rows that lie along the axes, where nothing but the rotation averages errors. */
static void fine_estimates_over_many_rotations(void **state) {
    (void)state;
    static const size_t dims[] = {33, 64, 100, 128};
    for (unsigned bits = 2; bits <= RVX_MAX_BITS; bits += 2) {
        size_t dim = dims[bits / 2 - 1];
        float *rows = need(4 * dim, sizeof *rows), *query = normal_rows(5, 1, dim);
        for (size_t i = 0; i < 4; i++) rows[i * dim + i * 7] = i % 2 ? 3 : -1;
        rows[3 * dim] = 2;
        sums s = {0};
        for (uint64_t seed = 0; seed < sized(1500); seed++) {
            rvx_quantizer *q;
            assert_ok(rvx_quantizer_create((uint32_t)dim, RV_L2, seed, 1, bits, &q, err));
            measure(q, rows, 4, query, 1, &s);
            rvx_quantizer_free(q);
        }
        assert_theory(&s, dim, bits, 0.12);
        free(rows);
        free(query);
    }
}

/* No direction, no magnitudes: the estimate is the distance to the centroid, without
 * error. */
static void a_row_without_a_residual(void **state) {
    (void)state;
    coded *c = need(1, sizeof *c);
    for (unsigned bits = 2; bits <= RVX_MAX_BITS; bits++) {
        float *row = normal_rows(bits, 1, 40), y[64];
        rvx_quantizer *q = trained_bits(bits, 40, RV_L2, 1, 1, row, 1);
        code_row(q, row, c);
        assert_true(c->f.a == 0 && c->f.b == 0 && c->f.e == 0);
        assert_true(c->f.sign.a == 0 && c->f.sign.b == 0);
        float *query = normal_rows(30, 1, 40);
        rvx_quantizer_rotate(q, rvk_ops_active(), query, 1, y);
        double distance, got = estimate(q, c, query, y, NULL, &distance);
        assert_true(fabs(got - truth(q, query, row)) < 1e-4 * got);
        rvx_quantizer_free(q);
        q = trained_bits(bits, 40, RV_IP, 1, 1, row, 1);
        code_row(q, row, c);
        assert_true(c->f.a == 0 && c->f.b == 0 && c->f.e == 0);
        rvx_quantizer_free(q);
        free(row);
        free(query);
    }
    free(c);
}

/* ---- training ---- */

static void the_mean_is_the_mean(void **state) {
    (void)state;
    const size_t n = 10000, dim = 6;
    float *rows = clustered_rows(4, n, dim);
    rvx_quantizer *q = trained(dim, RV_L2, 1, 1, rows, n);
    assert_int_equal(q->trained_on, n);
    for (size_t j = 0; j < dim; j++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)rows[i * dim + j];
        assert_true(fabs((double)q->mean[j] - sum / (double)n) < 1e-6);
    }
    rvx_quantizer_free(q);
    free(rows);
}

static void no_more_lists_than_rows(void **state) {
    (void)state;
    float *rows = normal_rows(4, 5, 40);
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        rvx_quantizer *q = trained(40, (rv_metric)metric, 1, 64, rows, 5);
        assert_int_equal(q->n_lists, 5);
        coded c[5];
        for (size_t i = 0; i < 5; i++) {
            code_row(q, rows + i * 40, &c[i]);
            for (size_t j = 0; j < i; j++) assert_int_not_equal(c[i].list, c[j].list);
        }
        rvx_quantizer_free(q);
    }
    free(rows);
}

static void bad_rows_can_be_skipped(void **state) {
    (void)state;
    const size_t n = 300, dim = 10;
    float *rows = normal_rows(4, n, dim), *clean = need(n * dim, sizeof *clean);
    const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    memcpy(clean, rows, n * dim * sizeof *rows);
    for (size_t i = 0; i < 4; i++) {
        memset(clean + i * 70 * dim, 0, dim * sizeof *clean);
        rows[i * 70 * dim + i] = bad[i];
    }
    rvx_quantizer *p, *q;
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        assert_ok(rvx_quantizer_create(10, (rv_metric)metric, 1, 6, 1, &p, err));
        assert_ok(rvx_quantizer_create(10, (rv_metric)metric, 1, 6, 1, &q, err));
        rvx_source some_bad = source_of(rows, dim), good = source_of(clean, dim);
        assert_ok(rvx_quantizer_train(p, 1, &some_bad, n, true, NULL, NULL, err));
        assert_ok(rvx_quantizer_train(q, 1, &good, n, false, NULL, NULL, err));
        for (size_t j = 0; j < dim; j++)
            assert_true(fabs((double)(p->mean[j] - q->mean[j])) < 1e-6);
        for (size_t j = 0; j < 6 * p->padded; j++) assert_true(!isnan(p->centroids[j]));
        rvx_quantizer_free(p);
        rvx_quantizer_free(q);
    }
    free(rows);
    free(clean);
}

static void what_it_takes(void **state) {
    (void)state;
    float *rows = normal_rows(4, 50, 40);
    rvx_quantizer *l2 = trained(40, RV_L2, 1, 3, rows, 50);
    rvx_quantizer *ip = trained(40, RV_IP, 1, 3, rows, 50);
    size_t base = sizeof *l2 + 4 * 64 / 8 + (40 + 3 * 64 + 3) * sizeof(float);
    assert_int_equal(rvx_quantizer_bytes(l2), base + 3 * sizeof(float));
    assert_int_equal(rvx_quantizer_bytes(ip), base + 4 * 64 * sizeof(float));
    assert_int_equal(rvx_quantizer_bytes(NULL), 0);
    rvx_quantizer_free(l2);
    rvx_quantizer_free(ip);
    rvx_quantizer_free(NULL);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(rotation_is_orthonormal),
        cmocka_unit_test(rotation_depends_on_the_seed),
        cmocka_unit_test(estimates_are_unbiased),
        cmocka_unit_test(structured_rows_over_many_rotations),
        cmocka_unit_test(a_row_at_its_centroid_is_exact),
        cmocka_unit_test(zero_rows_under_cosine),
        cmocka_unit_test(padded_dimensions),
        cmocka_unit_test(factors_follow_from_the_code),
        cmocka_unit_test(fine_estimates_are_unbiased),
        cmocka_unit_test(fine_estimates_over_many_rotations),
        cmocka_unit_test(a_row_without_a_residual),
        cmocka_unit_test(the_mean_is_the_mean),
        cmocka_unit_test(no_more_lists_than_rows),
        cmocka_unit_test(bad_rows_can_be_skipped),
        cmocka_unit_test(what_it_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
