/*
 * test_block.c - block layout and lookup tables against their definition, and the bounds
 * that keep byte and 16-bit sums from overflowing.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernel_cases.h"

#include <math.h>

static const unsigned groups[] = {6, 4};

#define MAX_COLUMNS (MAX_DIM / 4)
static int8_t rounded[MAX_DIM];
static uint8_t lut[64 * MAX_COLUMNS];
static float query[MAX_DIM];

static bool bit_of(const uint8_t *code, size_t j) { return code[j / 8] >> (j % 8) & 1; }

static void sizes_follow_the_layout(void **state) {
    (void)state;
    assert_int_equal(rvk_block_code_bytes(6, 32), 6 * 64);
    assert_int_equal(rvk_block_code_bytes(6, 96), 16 * 64);
    assert_int_equal(rvk_block_code_bytes(6, 128), 22 * 64);
    assert_int_equal(rvk_block_code_bytes(6, 768), 128 * 64);
    assert_int_equal(rvk_block_code_bytes(4, 32), 8 * 32);
    assert_int_equal(rvk_block_code_bytes(4, 768), 192 * 32);
    assert_int_equal(rvk_lut_bytes(6, 128), 22 * 64);
    assert_int_equal(rvk_lut_bytes(4, 128), 32 * 16);
    for (size_t padded = 32; padded <= MAX_DIM; padded += 32) {
        for (size_t g = 0; g < 2; g++) {
            const size_t bytes = rvk_block_bytes(groups[g], padded);
            assert_int_equal(bytes, rvk_block_code_bytes(groups[g], padded) + 512);
            assert_int_equal(bytes % 64, 0);
        }
    }
}

/* Code bits of one lane, read back by the documented position. */
static void read_back(unsigned group, size_t padded, const uint8_t *block, unsigned lane,
                      uint8_t *code) {
    memset(code, 0, padded / 8);
    for (size_t j = 0; j < padded; j++) {
        unsigned bit;
        if (group == 6) {
            bit = (unsigned)block[j / 6 * 64 + lane] >> (j % 6) & 1u;
        } else {
            const size_t shift = j % 4 + (lane < 32 ? 0 : 4);
            bit = (unsigned)block[j / 4 * 32 + lane % 32] >> shift & 1u;
        }
        code[j / 8] |= (uint8_t)(bit << (j % 8));
    }
}

static void codes_sit_where_documented(void **state) {
    (void)state;
    static uint8_t codes[RVK_BLOCK][MAX_DIM / 8], back[MAX_DIM / 8];
    fence f = fence_open(rvk_block_bytes(6, MAX_DIM));
    fence code_end = fence_open(MAX_DIM / 8);
    uint64_t rng = 1;
    for (size_t p = 0, padded; (padded = padded_at(p)) != 0; p++) {
        for (size_t g = 0; g < 2; g++) {
            uint8_t *block = f.end - rvk_block_bytes(groups[g], padded);
            rvk_block_clear(groups[g], padded, block);
            /* Twice, so that the second writing has to replace the first. */
            for (unsigned n = 0; n < 2 * RVK_BLOCK; n++) {
                const unsigned lane = n * 37 % RVK_BLOCK;
                uint8_t *code = code_end.end - padded / 8;
                fill_bytes(&rng, code, padded / 8);
                memcpy(codes[lane], code, padded / 8);
                rvk_block_put(groups[g], padded, block, lane, code, (float)n, -(float)n);
            }
            for (unsigned n = RVK_BLOCK; n < 2 * RVK_BLOCK; n++) {
                const unsigned lane = n * 37 % RVK_BLOCK;
                read_back(groups[g], padded, block, lane, back);
                assert_memory_equal(back, codes[lane], padded / 8);
                assert_true(rvk_block_a(groups[g], padded, block)[lane] == (float)n);
                assert_true(rvk_block_b(groups[g], padded, block)[lane] == -(float)n);
            }
            if (groups[g] == 6) { /* bits past padded are 0 */
                const uint8_t *last = block + rvk_block_code_bytes(6, padded) - 64;
                const size_t used = padded % 6 == 0 ? 6 : padded % 6;
                for (size_t i = 0; i < 64; i++) assert_true(last[i] >> used == 0);
            }
        }
    }
    fence_close(&f);
    fence_close(&code_end);
}

static void cleared_lanes_never_pass(void **state) {
    (void)state;
    for (size_t g = 0; g < 2; g++) {
        static _Alignas(64) uint8_t block[4096];
        memset(block, 0xA5, sizeof block);
        rvk_block_clear(groups[g], 128, block);
        for (size_t i = 0; i < rvk_block_code_bytes(groups[g], 128); i++) {
            assert_int_equal(block[i], 0);
        }
        for (size_t i = 0; i < RVK_BLOCK; i++) {
            assert_true(rvk_block_a(groups[g], 128, block)[i] == INFINITY);
            assert_true(rvk_block_b(groups[g], 128, block)[i] == 0.0f);
        }
        assert_int_equal(block[rvk_block_bytes(groups[g], 128)], 0xA5);
    }
}

/* ---- lookup tables ---- */

enum {
    RANDOM,
    ONE_HUGE,
    ALL_EQUAL,
    ALL_ZERO,
    ALTERNATING,
    STRADDLING,
    TINY,
    SUBNORMAL,
    LARGEST,
    N_QUERIES
};

static void make_query(uint64_t *rng, int shape, size_t padded) {
    for (size_t j = 0; j < padded; j++) {
        const float sign = j % 2 == 0 ? 1.0f : -1.0f;
        switch (shape) {
        case ONE_HUGE:
            query[j] = j == padded / 3 ? -1e30f : next_unit(rng);
            break;
        case ALL_EQUAL:
            query[j] = 0.7f;
            break;
        case ALL_ZERO:
            query[j] = sign * 0.0f;
            break;
        case ALTERNATING:
            query[j] = sign * 2.5f;
            break;
        /* Half an aligned group of 4 in each of two groups of 6. */
        case STRADDLING:
            query[j] = j % 12 >= 4 && j % 12 < 8 ? sign * 9.0f : 0.0f;
            break;
        case TINY:
            query[j] = next_unit(rng) * FLT_MIN * 64.0f;
            break;
        case SUBNORMAL:
            query[j] = sign * 0x1p-140f;
            break;
        case LARGEST:
            query[j] = sign * (FLT_MAX / (float)padded);
            break;
        default:
            query[j] = next_unit(rng);
        }
    }
}

static int sum_positive(size_t first, size_t n, size_t padded, int sign) {
    int sum = 0;
    for (size_t j = first; j < first + n && j < padded; j++) {
        if (sign * rounded[j] > 0) sum += sign * rounded[j];
    }
    return sum;
}

static void check_entries(unsigned group, size_t padded) {
    const size_t columns = (padded + group - 1) / group;
    for (size_t g = 0; g < columns; g++) {
        const int offset = sum_positive(g * group, group, padded, -1);
        for (size_t e = 0; e < (size_t)1 << group; e++) {
            int want = offset;
            for (size_t b = 0; b < group && g * group + b < padded; b++) {
                if (e >> b & 1) want += rounded[g * group + b];
            }
            assert_in_range(want, 0, 63);
            assert_int_equal(lut[(g << group) + e], want);
        }
    }
}

static void check_query(size_t padded, const rvk_query *q) {
    double squares = 0, sum = 0, negative = 0;
    for (size_t j = 0; j < padded; j++) {
        const double d = (double)query[j] - (double)q->step * rounded[j];
        assert_true((float)rounded[j] == nearbyintf(query[j] / q->step));
        squares += d * d;
        sum += rounded[j];
        negative += rounded[j] < 0 ? rounded[j] : 0;
    }
    const double bias = (double)q->step * (negative - sum / 2), error = sqrt(squares);
    assert_true(fabs((double)q->bias - bias) <= 1e-6 * fabs(bias));
    assert_true(fabs((double)q->error - error) <= 1e-6 * error + (double)FLT_TRUE_MIN);
    const int most =
        sum_positive(0, padded, padded, 1) + sum_positive(0, padded, padded, -1);
    assert_in_range(most, 0, 65535);
}

static void tables_hold_their_sums_within_bounds(void **state) {
    (void)state;
    uint64_t rng = 2;
    for (size_t padded = 32; padded <= MAX_DIM; padded += padded < 512 ? 32 : 320) {
        for (int shape = 0; shape < N_QUERIES; shape++) {
            make_query(&rng, shape, padded);
            for (size_t g = 0; g < 2; g++) {
                rvk_query q;
                memset(lut, 0xFF, sizeof lut);
                rvk_lut_build(groups[g], padded, query, rounded, lut, &q);
                check_entries(groups[g], padded);
                check_query(padded, &q);
                assert_int_equal(lut[rvk_lut_bytes(groups[g], padded)], 0xFF);
            }
        }
    }
}

/* The largest dimension a cap of 63 fits, the next one and the largest of all. */
static void totals_reach_but_never_pass_sixteen_bits(void **state) {
    (void)state;
    static const size_t sizes[] = {6240, 6272, MAX_DIM};
    for (size_t s = 0; s < 3; s++) {
        uint64_t rng = 3;
        rvk_query q;
        make_query(&rng, ALL_EQUAL, sizes[s]);
        rvk_lut_build(6, sizes[s], query, rounded, lut, &q);
        const int most = sum_positive(0, sizes[s], sizes[s], 1);
        assert_in_range(most, 57000, 65535);
    }
}

static void both_groupings_share_the_rounded_query(void **state) {
    (void)state;
    static int8_t other[MAX_DIM];
    uint64_t rng = 4;
    for (size_t p = 0, padded; (padded = padded_at(p)) != 0; p++) {
        for (int shape = 0; shape < N_QUERIES; shape++) {
            rvk_query six, four;
            make_query(&rng, shape, padded);
            rvk_lut_build(6, padded, query, rounded, lut, &six);
            rvk_lut_build(4, padded, query, other, lut, &four);
            assert_memory_equal(rounded, other, padded);
            assert_memory_equal(&six, &four, sizeof six);
        }
    }
}

/* Groups of 6 dominate this query: m = 60 makes step 1 (cap 63), and halves go to the
 * even neighbor. */
static void halves_round_to_even(void **state) {
    (void)state;
    static const float start[] = {60.0f, 0,    0,    0,     0,     0,
                                  0.5f,  1.5f, 2.5f, -0.5f, -1.5f, -2.5f};
    static const int8_t want[] = {60, 0, 0, 0, 0, 0, 0, 2, 2, 0, -2, -2};
    rvk_query q;
    memset(query, 0, sizeof query);
    memcpy(query, start, sizeof start);
    rvk_lut_build(6, 32, query, rounded, lut, &q);
    assert_true(q.step == 1.0f);
    assert_memory_equal(rounded, want, sizeof want);
    assert_true(q.bias == -4.0f - 0.5f * 60.0f);
    assert_true(q.error == (float)sqrt(6 * 0.25));
}

static void a_query_of_zeros_has_step_one(void **state) {
    (void)state;
    for (int shape = ALL_ZERO; shape <= SUBNORMAL; shape += SUBNORMAL - ALL_ZERO) {
        uint64_t rng = 5;
        rvk_query q;
        make_query(&rng, shape, 64);
        rvk_lut_build(6, 64, query, rounded, lut, &q);
        assert_true(q.step == 1.0f && q.bias == 0.0f);
        for (size_t j = 0; j < 64; j++) assert_int_equal(rounded[j], 0);
        for (size_t i = 0; i < rvk_lut_bytes(6, 64); i++) assert_int_equal(lut[i], 0);
    }
}

/* step * total + bias estimates sum of q_j (bit_j - 1/2) within error * sqrt(padded)/2.
 */
static void totals_estimate_the_inner_product(void **state) {
    (void)state;
    uint8_t code[128 / 8];
    uint64_t rng = 6;
    for (size_t n = 0; n < 100; n++) {
        rvk_query q;
        double exact = 0;
        int total = 0;
        make_query(&rng, RANDOM, 128);
        fill_bytes(&rng, code, sizeof code);
        rvk_lut_build(4, 128, query, rounded, lut, &q);
        for (size_t g = 0; g < 32; g++) {
            total += lut[16 * g + (code[g / 2] >> (g % 2 * 4) & 15)];
        }
        for (size_t j = 0; j < 128; j++) {
            exact += (double)query[j] * (bit_of(code, j) ? 0.5 : -0.5);
        }
        const double estimate = (double)q.step * total + (double)q.bias;
        assert_true(fabs(estimate - exact) <= (double)q.error * sqrt(128.0) / 2 + 1e-5);
        assert_true((double)q.error <= (double)q.step * sqrt(128.0) / 2);
    }
}

/* Nothing is read past the query or written past the table. */
static void tables_stay_inside_their_memory(void **state) {
    (void)state;
    fence in = fence_open(4 * MAX_DIM), out = fence_open(MAX_DIM);
    fence table = fence_open(64 * MAX_COLUMNS);
    uint64_t rng = 7;
    for (size_t p = 0, padded; (padded = padded_at(p)) != 0; p++) {
        for (size_t g = 0; g < 2; g++) {
            rvk_query at_end, q;
            float *floats = fence_floats(&in, padded);
            uint8_t *bytes = table.end - rvk_lut_bytes(groups[g], padded);
            make_query(&rng, RANDOM, padded);
            memcpy(floats, query, padded * sizeof(float));
            rvk_lut_build(groups[g], padded, floats, (int8_t *)out.end - padded, bytes,
                          &at_end);
            rvk_lut_build(groups[g], padded, query, rounded, lut, &q);
            assert_memory_equal(bytes, lut, rvk_lut_bytes(groups[g], padded));
            assert_memory_equal(out.end - padded, rounded, padded);
            assert_memory_equal(&at_end, &q, sizeof q);
        }
    }
    fence_close(&in);
    fence_close(&out);
    fence_close(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_follow_the_layout),
        cmocka_unit_test(codes_sit_where_documented),
        cmocka_unit_test(cleared_lanes_never_pass),
        cmocka_unit_test(tables_hold_their_sums_within_bounds),
        cmocka_unit_test(totals_reach_but_never_pass_sixteen_bits),
        cmocka_unit_test(both_groupings_share_the_rounded_query),
        cmocka_unit_test(halves_round_to_even),
        cmocka_unit_test(a_query_of_zeros_has_step_one),
        cmocka_unit_test(totals_estimate_the_inner_product),
        cmocka_unit_test(tables_stay_inside_their_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
