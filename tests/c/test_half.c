/*
 * test_half.c - binary16: the scalar conversions against arithmetic in double, and
 * every table this machine can run against the scalar one, bit for bit.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernel_cases.h"

#include <math.h>

#define N_HALVES 65536u
#define HALF_INFINITY 0x7C00u

static const rvk_ops *scalar(void) { return rvk_ops_find("scalar"); }

static float bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float widened(uint16_t half) {
    float value;
    scalar()->widen(&half, 1, &value);
    return value;
}

static uint16_t narrowed(float value) {
    uint16_t half;
    scalar()->narrow(&value, 1, &half);
    return half;
}

/* The value of a finite half, from its definition. */
static double value_of(unsigned half) {
    const int exponent = half >> 10 & 31, significand = half & 1023;
    const double size =
        exponent ? ldexp(1024 + significand, exponent - 25) : ldexp(significand, -24);
    return half & 0x8000u ? -size : size;
}

static void scalar_widening_is_exact(void **state) {
    (void)state;
    for (unsigned half = 0; half < N_HALVES; half++) {
        const unsigned size = half & 0x7FFFu;
        const float got = widened((uint16_t)half);
        if (size > HALF_INFINITY)
            assert_true(isnan(got));
        else if (size == HALF_INFINITY)
            assert_true(isinf(got));
        else
            assert_true((double)got == value_of(half));
        assert_int_equal(!!signbit(got), half >> 15);
    }
}

/* Both signs of a float and the half it is to become. */
static void check_narrow(float value, unsigned half) {
    if (narrowed(value) != half || narrowed(-value) != (half | 0x8000u))
        fail_msg("%a became %#x instead of %#x", (double)value, narrowed(value), half);
}

static void scalar_narrowing_is_to_nearest(void **state) {
    (void)state;
    for (unsigned half = 0; half < HALF_INFINITY; half++) {
        const float value = widened((uint16_t)half);
        /* 2^16, the next one if there were more exponents, rounds to infinity */
        const double next = half + 1 < HALF_INFINITY ? value_of(half + 1) : 65536.0;
        const float middle = (float)((value_of(half) + next) / 2); /* exact */
        check_narrow(value, half);
        check_narrow(nextafterf(value, INFINITY), half);
        check_narrow(nextafterf(middle, 0.0f), half);
        check_narrow(middle, half + (half & 1));
        check_narrow(nextafterf(middle, INFINITY), half + 1);
    }
    check_narrow(FLT_TRUE_MIN, 0);
    check_narrow(0x1.fffffep-127f, 0);
    check_narrow(nextafterf(65520.0f, 0.0f), 0x7BFFu);
    check_narrow(65520.0f, HALF_INFINITY);
    check_narrow(FLT_MAX, HALF_INFINITY);
    check_narrow(INFINITY, HALF_INFINITY);
    for (unsigned i = 0; i < 23; i++) {
        const unsigned half = narrowed(bits_to_float(UINT32_C(0x7F800000) | 1u << i));
        assert_true((half & 0x7FFFu) > HALF_INFINITY);
    }
}

static void what_does_not_fit_is_told(void **state) {
    (void)state;
    static const float bad[] = {65520.0f, -65520.0f, FLT_MAX, INFINITY, -INFINITY, NAN};
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        for (size_t n = 1; n < 70; n++) {
            float x[70];
            uint16_t out[70];
            for (size_t j = 0; j < n; j++) x[j] = j % 2 ? 0x1.ffdffep15f : -65504.0f;
            assert_true(ops->narrow(x, n, out));
            for (size_t at = 0; at < n; at++) {
                const float kept = x[at];
                for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                    x[at] = bad[i];
                    assert_false(ops->narrow(x, n, out));
                }
                x[at] = kept;
            }
        }
        assert_true(ops->narrow(NULL, 0, NULL));
    }
}

/* ---- every table against the scalar one ---- */

static void all_widen_alike(void **state) {
    (void)state;
    static uint16_t halves[N_HALVES];
    static float want[N_HALVES], got[N_HALVES];
    const rvk_ops *ops;
    for (unsigned half = 0; half < N_HALVES; half++) halves[half] = (uint16_t)half;
    scalar()->widen(halves, N_HALVES, want);
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        memset(got, 0x5a, sizeof got);
        ops->widen(halves, N_HALVES, got);
        assert_memory_equal(got, want, sizeof got); /* NaNs too */
        for (size_t at = 0, n = 1; at + n <= N_HALVES; at += n, n = n % 37 + 1) {
            memset(got, 0x5a, (n + 1) * sizeof *got);
            ops->widen(halves + at, n, got);
            assert_memory_equal(got, want + at, n * sizeof *got);
            assert_true(got[n] == bits_to_float(0x5a5a5a5au));
        }
    }
}

/* Floats around the ties and the ends of binary16, among any others. */
static float near_half(uint64_t *rng) {
    const float value = widened((uint16_t)next_below(rng, HALF_INFINITY));
    const uint32_t ulps = (uint32_t)next_below(rng, 3), sign = next_u64(rng) & 1;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (next_u64(rng) % 2) bits += 0x1000u; /* half a step, where it is normal */
    if (next_u64(rng) % 8 == 0) bits = (uint32_t)next_u64(rng) & 0x7FFFFFFFu;
    return bits_to_float((bits + ulps - (bits > 0)) | sign << 31);
}

static void all_narrow_alike(void **state) {
    (void)state;
    static float x[4096];
    static uint16_t want[4096], got[4096];
    const rvk_ops *ops;
    uint64_t rng = 21;
    for (int round = 0; round < 200; round++) {
        const size_t n = round < 70 ? (size_t)round + 1 : 4096;
        for (size_t j = 0; j < n; j++) x[j] = near_half(&rng);
        const bool fits = scalar()->narrow(x, n, want);
        for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
            memset(got, 0x5a, sizeof got);
            assert_true(ops->narrow(x, n, got) == fits);
            assert_memory_equal(got, want, n * sizeof *got);
            if (n < 4096) assert_int_equal(got[n], 0x5a5a);
        }
    }
}

/* Of a NaN only that it is one. */
static void assert_pair(const rvk_ops *ops, const float *a, const void *halves,
                        size_t n) {
    static float row[MAX_DIM];
    const float dot = ops->dot_half(a, halves, n), l2sq = ops->l2sq_half(a, halves, n);
    ops->widen(halves, n, row);
    const float want_dot = scalar()->dot(a, row, n),
                want_l2sq = scalar()->l2sq(a, row, n);
    assert_same(&dot, &want_dot, 1, ops->name, n);
    assert_same(&l2sq, &want_l2sq, 1, ops->name, n);
}

/* Sums are those of the floats the halves stand for, rows start at any byte, and nothing
 * is read beyond the last element. */
static void all_sums_are_those_of_floats(void **state) {
    (void)state;
    const fence floats = fence_open((MAX_DIM + 4) * sizeof(float));
    const fence halves = fence_open((MAX_DIM + 4) * sizeof(uint16_t));
    const rvk_ops *ops;
    uint64_t rng = 22;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        for (size_t i = 0, n; (n = dim_at(i)) != 0; i++) {
            for (size_t shift = 0; shift < 4; shift++) {
                float *a = fence_floats(&floats, n + shift % 2);
                uint8_t *b = halves.end - 2 * n - shift;
                fill_floats(&rng, (int)(i % N_KINDS), a, n);
                fill_bytes(&rng, b, 2 * n);
                assert_pair(ops, a, b, n);
                for (size_t j = 0; j < n; j++) b[2 * j + 1] &= 0xBFu; /* finite, < 2 */
                assert_pair(ops, a, b, n);
                for (size_t j = 0; j < n; j++) b[2 * j + 1] &= 0x83u; /* subnormal */
                assert_pair(ops, a, b, n);
                assert_true(ops->narrow(a, n, b) == scalar()->narrow(a, n, b));
            }
        }
        const float one = 1.0f;
        assert_true(same_bits(ops->dot_half(&one, &one, 0), 0.0f));
        assert_true(same_bits(ops->l2sq_half(&one, &one, 0), 0.0f));
    }
    fence_close(&floats);
    fence_close(&halves);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_widening_is_exact),
        cmocka_unit_test(scalar_narrowing_is_to_nearest),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(all_widen_alike),
        cmocka_unit_test(all_narrow_alike),
        cmocka_unit_test(all_sums_are_those_of_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
