/*
 * test_kernel.c - the scalar table against independent arithmetic, and every table this
 * machine can run against the scalar one, bit for bit.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernel_cases.h"

#include <math.h>

static const rvk_ops *scalar(void) { return rvk_ops_find("scalar"); }

/* ---- the specification itself ---- */

/* Sixteen lanes, folded i with i + 8: 2^24 + 1 rounds to 2^24 in lane 0, which lane 8
 * cancels. Left to right, or in four or eight lanes, another number comes out. */
static void lanes_and_fold_are_as_documented(void **state) {
    (void)state;
    float a[33] = {0}, ones[33], zeros[33] = {0};
    for (size_t j = 0; j < 33; j++) ones[j] = 1.0f;
    a[0] = 0x1p24f;
    a[16] = 1.0f;
    a[8] = -0x1p24f;
    a[24] = 3.0f; /* -2^24 + 3 is exact */
    assert_true(scalar()->dot(a, ones, 33) == 3.0f);
    memset(a, 0, sizeof a);
    a[1] = 4096.0f; /* squares: 2^24, then + 1 is lost, then + 1 is lost */
    a[17] = 1.0f;
    a[2] = 1.0f;
    assert_true(scalar()->l2sq(a, zeros, 32) == 0x1p24f);
    a[9] = 1.0f; /* met first in the fold: 2^24 + 1, again lost; lane 2 then too */
    assert_true(scalar()->l2sq(a, zeros, 32) == 0x1p24f);
    a[10] = 1.0f; /* lanes 2 and 10 make 2, and 2^24 + 2 exists */
    assert_true(scalar()->l2sq(a, zeros, 32) == 0x1p24f + 2.0f);
}

/* (1 + 2^-12)^2 - (1 + 2^-11) = 2^-24 exactly; two roundings would give 0. */
static void products_are_fused(void **state) {
    (void)state;
    float a[17] = {0}, b[17] = {0};
    a[0] = 1.0f + 0x1p-11f;
    b[0] = -1.0f;
    a[16] = b[16] = 1.0f + 0x1p-12f;
    assert_true(scalar()->dot(a, b, 17) == 0x1p-24f);
}

/* Any bits with an exponent in [lowest, lowest + span). */
static float any_float(uint64_t *rng, uint32_t lowest, uint32_t span) {
    const uint64_t word = next_u64(rng);
    const uint32_t exponent = lowest + (uint32_t)(word >> 40) % span;
    const uint32_t bits = ((uint32_t)word & 0x807FFFFFu) | exponent << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Against the C library: products and sums of close exponents, where they cancel and
 * tie, results that are subnormal, and everything between. */
static void fused_steps_round_once(void **state) {
    (void)state;
    static const uint32_t ranges[][2] = {
        {126, 2}, {120, 14}, {63, 3}, {52, 24}, {0, 255}};
    float a[17] = {0}, b[17] = {0};
    uint64_t rng = 8;
    b[0] = 1.0f;
    for (size_t i = 0; i < 400000; i++) {
        const uint32_t lowest = ranges[i % 5][0], span = ranges[i % 5][1];
        a[16] = any_float(&rng, lowest, span);
        b[16] = any_float(&rng, lowest, span);
        const bool low = lowest == 63 || lowest == 52;
        a[0] = low ? any_float(&rng, 0, 3) : any_float(&rng, lowest, span);
        if (i % 3 == 0) a[0] = -(a[16] * b[16]); /* what is left is the rounding error */
        const float want = fused_once(a[16], b[16], a[0]) + 0.0f; /* other lanes are +0 */
        const float got = scalar()->dot(a, b, 17);
        assert_same(&got, &want, 1, "fused step", i);
    }
}

/* c plus a product off by one part in 2^2k from half a unit in the last place of c. In
 * double the sum is just that half, and rounding it again would take the wrong side. */
static void near_ties_round_once(void **state) {
    (void)state;
    float a[17] = {0}, b[17] = {0};
    uint64_t rng = 9;
    b[0] = 1.0f;
    for (size_t i = 0; i < 4000; i++) {
        const float small = ldexpf(1.0f, -(int)(15 + i % 8));
        const float sign = next_u64(&rng) & 1 ? 1.0f : -1.0f;
        a[0] = sign * (1.0f + (float)next_below(&rng, 1000) * 0x1p-23f);
        a[16] = next_u64(&rng) & 1 ? 1.0f + small : -1.0f - small;
        b[16] = (1.0f - small) * 0x1p-24f;
        if (i % 8 == 0) { /* (1 + 2^-11)(1 - 2^-11 + 2^-22) = 1 + 2^-33: above the half */
            a[16] = sign * (1.0f + 0x1p-11f);
            b[16] = (1.0f - 0x1p-11f + 0x1p-22f) * 0x1p-24f;
        }
        const float want = fused_once(a[16], b[16], a[0]), got = scalar()->dot(a, b, 17);
        assert_same(&got, &want, 1, "fused step near a tie", i);
    }
    a[0] = 1.0f + 0x1p-23f; /* by hand: 1 + 2^-23 + 2^-24 - 2^-64 */
    a[16] = 1.0f + 0x1p-20f;
    b[16] = (1.0f - 0x1p-20f) * 0x1p-24f;
    assert_true(scalar()->dot(a, b, 17) == 1.0f + 0x1p-23f);
}

static void a_sum_of_nothing_is_zero(void **state) {
    (void)state;
    const float x = 1.0f;
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        float zero = 0.0f, out = 7.0f;
        assert_true(same_bits(ops->dot(&x, &x, 0), zero));
        assert_true(same_bits(ops->l2sq(&x, &x, 0), zero));
        ops->dot_tile(&x, 1, &x, 4, 1, 0, &out);
        assert_true(same_bits(out, zero));
    }
}

/* A negative product too small for a float leaves -0 in a lane; the zeros that pad n
 * to a multiple of 16 turn it into +0, which the fold keeps. */
static void padding_takes_part(void **state) {
    (void)state;
    float a[32], b[32];
    for (size_t j = 0; j < 32; j++) {
        a[j] = FLT_TRUE_MIN;
        b[j] = -FLT_TRUE_MIN;
    }
    assert_true(same_bits(scalar()->dot(a, b, 16), -0.0f));
    assert_true(same_bits(scalar()->dot(a, b, 17), 0.0f));
    assert_true(same_bits(scalar()->dot(a, b, 32), -0.0f));
}

static void scalar_sums_are_right(void **state) {
    (void)state;
    static float a[MAX_DIM], b[MAX_DIM];
    uint64_t rng = 1;
    for (size_t i = 0, n; (n = dim_at(i)) != 0; i++) {
        fill_floats(&rng, PLAIN, a, n);
        fill_floats(&rng, PLAIN, b, n);
        double dot = 0, l2sq = 0, size = 0;
        for (size_t j = 0; j < n; j++) {
            const double d = (double)a[j] - (double)b[j];
            dot += (double)a[j] * (double)b[j];
            size += fabs((double)a[j] * (double)b[j]);
            l2sq += d * d;
        }
        assert_true(fabs((double)scalar()->dot(a, b, n) - dot) <= 1e-4 * size);
        assert_true(fabs((double)scalar()->l2sq(a, b, n) - l2sq) <= 1e-4 * l2sq);
    }
}

static void scalar_encode_and_code_dot_are_right(void **state) {
    (void)state;
    static float x[MAX_DIM], c[MAX_DIM], w[MAX_DIM];
    static uint8_t code[MAX_DIM / 8];
    uint64_t rng = 2;
    for (size_t i = 0, n; (n = padded_at(i)) != 0; i++) {
        fill_floats(&rng, PLAIN, x, n);
        fill_floats(&rng, PLAIN, c, n);
        fill_floats(&rng, PLAIN, w, n);
        x[3] = c[3]; /* a residual of 0 has a clear bit */
        rvk_residual got;
        double norm2 = 0, norm1 = 0, sign_c = 0, dot_w = 0, set_w = 0;
        scalar()->encode(x, c, w, n, code, &got);
        for (size_t j = 0; j < n; j++) {
            const double r = (double)(x[j] - c[j]);
            const bool bit = code[j / 8] >> (j % 8) & 1;
            assert_true(bit == (x[j] > c[j]));
            norm2 += r * r;
            norm1 += fabs(r);
            sign_c += bit ? (double)c[j] : -(double)c[j];
            dot_w += r * (double)w[j];
            set_w += bit ? (double)w[j] : 0.0;
        }
        const double slack = 1e-5 * (double)n;
        assert_true(fabs((double)got.norm2 - norm2) <= slack);
        assert_true(fabs((double)got.norm1 - norm1) <= slack);
        assert_true(fabs((double)got.sign_c - sign_c) <= slack);
        assert_true(fabs((double)got.dot_w - dot_w) <= slack);
        assert_true(fabs((double)scalar()->code_dot(code, w, n) - set_w) <= slack);
        scalar()->encode(x, c, NULL, n, code, &got);
        assert_true(same_bits(got.dot_w, 0.0f));
    }
}

/* ---- the rotation ---- */

/* Element (i, j) of a Hadamard matrix in natural order: -1 to the number of common
 * set bits (Sylvester). */
static double hadamard(size_t i, size_t j) {
    size_t common = i & j;
    int odd = 0;
    for (; common != 0; common &= common - 1) odd = !odd;
    return odd ? -1.0 : 1.0;
}

static void transform(double *y, size_t n) {
    static double out[256];
    for (size_t i = 0; i < n; i++) {
        out[i] = 0.0;
        for (size_t j = 0; j < n; j++) out[i] += hadamard(i, j) * y[j] / sqrt((double)n);
    }
    memcpy(y, out, n * sizeof *y);
}

/* Sign flips, transform of a power of two of coordinates at one end or the other, Kac
 * walk between the halves; in double, by matrix product, normalized at each step. */
static void rotate_by_matrices(double *y, size_t padded, const uint32_t *signs) {
    size_t t = 1;
    while (2 * t <= padded) t *= 2;
    for (size_t round = 0; round < 4; round++) {
        const uint32_t *bits = signs + round * padded / 32;
        for (size_t j = 0; j < padded; j++) {
            if (bits[j / 32] >> (j % 32) & 1) y[j] = -y[j];
        }
        transform(round % 2 == 0 ? y : y + padded - t, t);
        for (size_t j = 0; t < padded && j < padded / 2; j++) {
            const double a = y[j], b = y[j + padded / 2];
            y[j] = (a + b) / sqrt(2.0);
            y[j + padded / 2] = (a - b) / sqrt(2.0);
        }
    }
}

static void scalar_rotation_is_the_product_of_its_matrices(void **state) {
    (void)state;
    float y[256];
    double want[256];
    uint32_t signs[4 * 256 / 32];
    uint64_t rng = 3;
    for (size_t padded = 32; padded <= 256; padded += 32) {
        fill_bytes(&rng, signs, sizeof signs);
        fill_floats(&rng, PLAIN, y, padded);
        for (size_t j = 0; j < padded; j++) want[j] = (double)y[j];
        scalar()->rotate(y, padded, signs);
        rotate_by_matrices(want, padded, signs);
        for (size_t j = 0; j < padded; j++) {
            assert_true(fabs((double)y[j] - want[j]) < 1e-5);
        }
    }
}

/* Rotated unit vectors are orthonormal: R R^T = I. */
static void scalar_rotation_is_orthonormal(void **state) {
    (void)state;
    static const size_t sizes[] = {32, 96, 128, 160, 768};
    static float r[768][768];
    uint32_t signs[4 * 768 / 32];
    uint64_t rng = 4;
    fill_bytes(&rng, signs, sizeof signs);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const size_t n = sizes[s];
        for (size_t i = 0; i < n; i++) {
            memset(r[i], 0, n * sizeof(float));
            r[i][i] = 1.0f;
            scalar()->rotate(r[i], n, signs);
        }
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k <= i; k++) {
                double sum = 0;
                for (size_t j = 0; j < n; j++) sum += (double)r[i][j] * (double)r[k][j];
                assert_true(fabs(sum - (i == k ? 1.0 : 0.0)) < 2e-6);
            }
        }
    }
}

static void scalar_rotation_keeps_norms(void **state) {
    (void)state;
    static float y[MAX_DIM];
    static uint32_t signs[4 * MAX_DIM / 32];
    uint64_t rng = 5;
    fill_bytes(&rng, signs, sizeof signs);
    for (size_t padded = 32; padded <= MAX_DIM; padded += padded < 1024 ? 32 : 544) {
        double before = 0, after = 0;
        fill_floats(&rng, PLAIN, y, padded);
        for (size_t j = 0; j < padded; j++) before += (double)y[j] * (double)y[j];
        scalar()->rotate(y, padded, signs);
        for (size_t j = 0; j < padded; j++) after += (double)y[j] * (double)y[j];
        assert_true(fabs(after / before - 1.0) < 1e-5);
    }
}

/* ---- every table against the scalar one ---- */

typedef void (*agreement)(const rvk_ops *ops, uint64_t *rng, int kind, size_t n);

static fence fences[4];

static int open_fences(void **state) {
    (void)state;
    for (size_t i = 0; i < 4; i++) fences[i] = fence_open(16u * MAX_DIM);
    return 0;
}

static int close_fences(void **state) {
    (void)state;
    for (size_t i = 0; i < 4; i++) fence_close(&fences[i]);
    return 0;
}

static void compare_all(agreement compare, size_t (*size_at)(size_t)) {
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL && ops != scalar(); t++) {
        for (size_t i = 0, n; (n = size_at(i)) != 0; i++) {
            for (int kind = 0; kind < N_KINDS; kind++) {
                uint64_t rng = 1000 * n + (uint64_t)kind;
                compare(ops, &rng, kind, n);
            }
        }
    }
}

static void compare_pairs(const rvk_ops *ops, uint64_t *rng, int kind, size_t n) {
    for (size_t shift = 0; shift < 3; shift++) {
        /* At the fence, then 4 bytes and an odd byte before it. */
        const size_t back = shift == 2 ? 5 : 4 * shift;
        float *a = (float *)(void *)(fences[0].end - 4 * n - back);
        float *b = (float *)(void *)(fences[1].end - 4 * n - back);
        fill_floats(rng, kind, a, n);
        fill_floats(rng, kind, b, n);
        float got[2] = {ops->dot(a, b, n), ops->l2sq(a, b, n)};
        float want[2] = {scalar()->dot(a, b, n), scalar()->l2sq(a, b, n)};
        assert_same(got, want, 2, ops->name, n);
    }
}

static void pairs_agree(void **state) {
    (void)state;
    compare_all(compare_pairs, dim_at);
}

typedef void (*tile_kernel)(const float *queries, size_t n_queries, const void *rows,
                            size_t stride_bytes, size_t n_rows, size_t dim, float *out);

enum { MAX_QUERIES = 5, MAX_ROWS = 9 };

static void compare_tile(const rvk_ops *ops, size_t n_queries, const uint8_t *rows,
                         size_t stride, size_t n_rows, size_t n) {
    const tile_kernel fast[] = {ops->dot_tile, ops->l2sq_tile};
    const tile_kernel plain[] = {scalar()->dot_tile, scalar()->l2sq_tile};
    float (*const single[])(const float *, const float *, size_t) = {scalar()->dot,
                                                                     scalar()->l2sq};
    const float *queries = fence_floats(&fences[1], n_queries * n);
    for (size_t k = 0; k < 2; k++) {
        float want[MAX_QUERIES * MAX_ROWS], by_tile[MAX_QUERIES * MAX_ROWS];
        float *out = fence_floats(&fences[2], n_queries * n_rows);
        for (size_t i = 0; i < n_queries * n_rows; i++) {
            want[i] =
                single[k](queries + i / n_rows * n,
                          (const float *)(const void *)(rows + i % n_rows * stride), n);
        }
        fast[k](queries, n_queries, rows, stride, n_rows, n, out);
        plain[k](queries, n_queries, rows, stride, n_rows, n, by_tile);
        assert_same(out, want, n_queries * n_rows, ops->name, n);
        assert_same(by_tile, want, n_queries * n_rows, "scalar tile", n);
    }
}

static void compare_rows(const rvk_ops *ops, uint64_t *rng, int kind, size_t n) {
    static const size_t extra[] = {0, 4, 60, 3};
    static const size_t queries[] = {1, 4, 5, 0};
    if (n > 1000) return; /* nine rows must fit their fence */
    const size_t stride = 4 * n + extra[n % 4];
    fill_floats(rng, kind, fence_floats(&fences[1], MAX_QUERIES * n), MAX_QUERIES * n);
    for (size_t n_rows = 0; n_rows <= MAX_ROWS; n_rows++) {
        const size_t bytes = n_rows == 0 ? 0 : (n_rows - 1) * stride + 4 * n;
        uint8_t *rows = fences[0].end - bytes;
        for (size_t i = 0; i < n_rows; i++) fill_floats(rng, kind, rows + i * stride, n);
        for (size_t i = 0; i < sizeof queries / sizeof *queries; i++)
            compare_tile(ops, queries[i], rows, stride, n_rows, n);
    }
}

static void rows_agree(void **state) {
    (void)state;
    compare_all(compare_rows, dim_at);
}

static void compare_rotation(const rvk_ops *ops, uint64_t *rng, int kind, size_t n) {
    static float want[MAX_DIM];
    const size_t sign_bytes = n / 2;
    for (size_t shift = 0; shift < 2; shift++) {
        float *y = fence_floats(&fences[0], n + shift);
        uint32_t *signs = (uint32_t *)(void *)(fences[1].end - sign_bytes - 4 * shift);
        fill_bytes(rng, signs, sign_bytes);
        fill_floats(rng, kind, y, n);
        memcpy(want, y, n * sizeof(float));
        scalar()->rotate(want, n, signs);
        ops->rotate(y, n, signs);
        assert_same(y, want, n, ops->name, n);
    }
}

static void rotations_agree(void **state) {
    (void)state;
    compare_all(compare_rotation, padded_at);
}

static void compare_encode(const rvk_ops *ops, uint64_t *rng, int kind, size_t n) {
    static uint8_t want_code[MAX_DIM / 8];
    for (size_t shift = 0; shift < 4; shift++) {
        float *x = fence_floats(&fences[0], n + shift % 2);
        float *c = fence_floats(&fences[1], n + shift % 2);
        float *w = shift < 2 ? fence_floats(&fences[2], n + shift % 2) : NULL;
        uint8_t *code = fences[3].end - n / 8 - shift % 2;
        fill_floats(rng, kind, x, n);
        fill_floats(rng, shift == 3 ? PLAIN : kind, c, n);
        if (w != NULL) fill_floats(rng, kind, w, n);
        x[n / 2] = c[n / 2];
        rvk_residual got, want;
        ops->encode(x, c, w, n, code, &got);
        scalar()->encode(x, c, w, n, want_code, &want);
        assert_memory_equal(code, want_code, n / 8);
        assert_same(&got.norm2, &want.norm2, 1, ops->name, n);
        assert_same(&got.norm1, &want.norm1, 1, ops->name, n);
        assert_same(&got.sign_c, &want.sign_c, 1, ops->name, n);
        assert_same(&got.dot_w, &want.dot_w, 1, ops->name, n);

        float sum = ops->code_dot(code, x, n), want_sum = scalar()->code_dot(code, x, n);
        assert_same(&sum, &want_sum, 1, ops->name, n);
        fill_bytes(rng, code, n / 8);
        sum = ops->code_dot(code, x, n);
        want_sum = scalar()->code_dot(code, x, n);
        assert_same(&sum, &want_sum, 1, ops->name, n);
    }
}

static void encodings_agree(void **state) {
    (void)state;
    compare_all(compare_encode, padded_at);
}

/* ---- packs ---- */

static double larger(double a, double b) { return a > b ? a : b; }

static int byte_of(const rvk_pack *p, bool rows, size_t i, size_t j) {
    const uint8_t byte = p->bytes[64 * (j / 4) + 4 * i + j % 4];
    return rows ? (int)byte - 128 : (int)(int8_t)byte;
}

static void check_pack(const rvk_pack *p, bool rows, const float *x, size_t n,
                       size_t dim) {
    for (size_t i = 0; i < n; i++, x += dim) {
        double norm2 = 0, error2 = 0, most = 0;
        for (size_t j = 0; j < dim; j++) most = larger(most, fabs((double)x[j]));
        for (size_t j = 0; j < dim; j++) {
            const double back = byte_of(p, rows, i, j) * (double)p->scale[i];
            const double d = (double)x[j] - back;
            assert_true(fabs(d) <= most / 254 * (1 + 1e-4));
            norm2 += (double)x[j] * (double)x[j];
            error2 += d * d;
        }
        assert_true(fabs((double)p->norm2[i] - norm2) <= 1e-4 * norm2);
        assert_true(fabs((double)p->error[i] - sqrt(error2)) <= 1e-4 * sqrt(norm2));
    }
}

/* Limits lie around the values, and a value too close to its limit counts as either. */
static void check_screen(const rvk_ops *ops, uint64_t *rng, const rvk_pack *rows,
                         size_t n_rows, rvk_pack *queries, size_t n_queries, size_t dim) {
    float term[RVK_PACK] = {0}, limit[RVK_PACK] = {0};
    double value[RVK_PACK][RVK_PACK], size = 0;
    for (size_t r = 0; r < n_rows; r++) term[r] = next_unit(rng);
    for (size_t i = 0; i < n_queries; i++) {
        for (size_t r = 0; r < n_rows; r++) {
            double sum = 0;
            for (size_t j = 0; j < dim; j++)
                sum += (double)byte_of(queries, false, i, j) *
                       (double)byte_of(rows, true, r, j);
            value[i][r] = (double)term[r] -
                          (double)rows->scale[r] * (double)queries->scale[i] * sum -
                          (double)rows->length[r] * (double)queries->error[i] -
                          (double)rows->error[r] * (double)queries->length[i];
            size = larger(size, fabs(value[i][r]));
        }
        limit[i] = (float)value[i][next_below(rng, n_rows)] + next_unit(rng) * 0.1f;
    }
    uint16_t masks[RVK_PACK];
    ops->screen(rows, term, queries, limit, dim, masks);
    for (size_t i = 0; i < n_queries; i++) {
        for (size_t r = 0; r < n_rows; r++) {
            const double over = value[i][r] - (double)limit[i];
            if (fabs(over) > 1e-5 * (size + 10))
                assert_int_equal(masks[i] >> r & 1, over < 0);
        }
    }
    limit[0] = INFINITY;
    queries->error[n_queries - 1] = NAN;
    ops->screen(rows, term, queries, limit, dim, masks);
    assert_int_equal(masks[0] & ((1u << n_rows) - 1), (1u << n_rows) - 1);
    assert_int_equal(masks[n_queries - 1] & ((1u << n_rows) - 1), (1u << n_rows) - 1);
}

static void fill_vectors(uint64_t *rng, float *x, size_t n, size_t dim) {
    for (size_t i = 0; i < n; i++) {
        fill_floats(rng, PLAIN, x + i * dim, dim);
        if (i % 7 == 5) memset(x + i * dim, 0, dim * sizeof *x);
        if (i % 7 == 6) /* a magnitude that rounds upwards on the way to 127 */
            for (size_t j = 0; j < dim; j++) x[i * dim + j] *= 0x1.fffffep-1f;
    }
}

static void packs_and_screens_are_as_documented(void **state) {
    (void)state;
    uint64_t rng = 11;
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        assert_true((ops->pack == NULL) == (ops->screen == NULL));
        if (ops->pack == NULL) continue;
        for (size_t i = 0, dim; (dim = dim_at(i)) != 0 && dim <= 1000; i++) {
            const size_t n_rows = 1 + next_below(&rng, RVK_PACK);
            const size_t n_queries = 1 + next_below(&rng, RVK_PACK);
            float *x = fence_floats(&fences[0], n_rows * dim);
            float *y = fence_floats(&fences[1], n_queries * dim);
            rvk_pack rows = {0}, queries = {0};
            fill_vectors(&rng, x, n_rows, dim);
            fill_vectors(&rng, y, n_queries, dim);
            const fence memory[2] = {fence_open(rvk_pack_bytes(dim)),
                                     fence_open(rvk_pack_bytes(dim))};
            rows.bytes = memory[0].end - rvk_pack_bytes(dim);
            queries.bytes = memory[1].end - rvk_pack_bytes(dim);
            ops->pack(x, dim * sizeof *x, n_rows, dim, true, &rows);
            ops->pack(y, dim * sizeof *y, n_queries, dim, false, &queries);
            check_pack(&rows, true, x, n_rows, dim);
            check_pack(&queries, false, y, n_queries, dim);
            fill_floats(&rng, PLAIN, rows.length, RVK_PACK);
            fill_floats(&rng, PLAIN, queries.length, RVK_PACK);
            check_screen(ops, &rng, &rows, n_rows, &queries, n_queries, dim);
            for (size_t k = 0; k < 2; k++) fence_close(&memory[k]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_and_fold_are_as_documented),
        cmocka_unit_test(products_are_fused),
        cmocka_unit_test(fused_steps_round_once),
        cmocka_unit_test(near_ties_round_once),
        cmocka_unit_test(a_sum_of_nothing_is_zero),
        cmocka_unit_test(padding_takes_part),
        cmocka_unit_test(scalar_sums_are_right),
        cmocka_unit_test(scalar_encode_and_code_dot_are_right),
        cmocka_unit_test(scalar_rotation_is_the_product_of_its_matrices),
        cmocka_unit_test(scalar_rotation_is_orthonormal),
        cmocka_unit_test(scalar_rotation_keeps_norms),
        cmocka_unit_test(pairs_agree),
        cmocka_unit_test(rows_agree),
        cmocka_unit_test(rotations_agree),
        cmocka_unit_test(encodings_agree),
        cmocka_unit_test(packs_and_screens_are_as_documented),
    };
    return cmocka_run_group_tests(tests, open_fences, close_fences);
}
