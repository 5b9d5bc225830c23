/*
 * test_block_scan.c - every block scan this machine can run against arithmetic on
 * single bits.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernel_cases.h"

#include <math.h>

static fence fence_of_page;

static int open_fence(void **state) {
    (void)state;
    fence_of_page = fence_open(1 << 16);
    return 0;
}

static int close_fence(void **state) {
    (void)state;
    fence_close(&fence_of_page);
    return 0;
}

#define MAX_BLOCKS 5u

/* Codes and factors of MAX_BLOCKS blocks, from which blocks of any grouping are made,
 * and the bounds for each query computed from codes and rounded query bit by bit. */
typedef struct corpus {
    size_t padded;
    uint8_t codes[MAX_BLOCKS][RVK_BLOCK][MAX_DIM / 8];
    float a[MAX_BLOCKS][RVK_BLOCK], b[MAX_BLOCKS][RVK_BLOCK];
    float query[RVK_SCANS][MAX_DIM];
    float bounds[RVK_SCANS][MAX_BLOCKS][RVK_BLOCK];
} corpus;

static corpus set;

static float odd_factor(uint64_t *rng) {
    static const float values[] = {INFINITY, NAN, -INFINITY, 0.0f, -0.0f, 1e38f, -1e38f};
    return values[next_below(rng, sizeof values / sizeof values[0])];
}

static void make_bounds(size_t q) {
    static uint8_t lut[64 * ((MAX_DIM + 5) / 6)];
    static int8_t rounded[MAX_DIM];
    rvk_query query;
    rvk_lut_build(6, set.padded, set.query[q], rounded, lut, &query);
    for (size_t k = 0; k < MAX_BLOCKS; k++) {
        for (size_t i = 0; i < RVK_BLOCK; i++) {
            int total = 0;
            for (size_t j = 0; j < set.padded; j++) {
                const bool bit = set.codes[k][i][j / 8] >> (j % 8) & 1;
                total += (bit ? rounded[j] : 0) - (rounded[j] < 0 ? rounded[j] : 0);
            }
            assert_in_range(total, 0, 65535);
            const float estimate = fused_once((float)total, query.step, query.bias);
            set.bounds[q][k][i] = fused_once(set.b[k][i], estimate, set.a[k][i]);
        }
    }
}

/* Of a sparse corpus about 1 lane in 32 can pass at all, so that a block has none, one
 * or a few of them. */
static void make_corpus(uint64_t *rng, size_t padded, size_t n_queries, bool sparse) {
    set.padded = padded;
    for (size_t k = 0; k < MAX_BLOCKS; k++) {
        for (size_t i = 0; i < RVK_BLOCK; i++) {
            const bool odd = !sparse && next_below(rng, 8) == 0;
            const bool never = sparse && next_below(rng, 32) != 0;
            fill_bytes(rng, set.codes[k][i], padded / 8);
            set.a[k][i] = odd ? odd_factor(rng) : 1.0f + next_unit(rng);
            set.b[k][i] = odd ? odd_factor(rng) : next_unit(rng);
            if (never) set.a[k][i] = next_below(rng, 2) == 0 ? INFINITY : NAN;
        }
    }
    for (size_t q = 0; q < n_queries; q++) {
        fill_floats(rng, PLAIN, set.query[q], padded);
        make_bounds(q);
    }
}

static void lay_out(unsigned group, uint8_t *blocks) {
    const size_t bytes = rvk_block_bytes(group, set.padded);
    for (size_t k = 0; k < MAX_BLOCKS; k++) {
        rvk_block_clear(group, set.padded, blocks + k * bytes);
        for (unsigned i = 0; i < RVK_BLOCK; i++) {
            rvk_block_put(group, set.padded, blocks + k * bytes, i, set.codes[k][i],
                          set.a[k][i], set.b[k][i]);
        }
    }
}

static uint64_t passing(size_t query, size_t block, float limit) {
    uint64_t mask = 0;
    for (size_t i = 0; i < RVK_BLOCK; i++) {
        if (set.bounds[query][block][i] < limit) mask |= UINT64_C(1) << i;
    }
    return mask;
}

static void check_scan(const rvk_ops *ops, const rvk_scan *s, size_t start) {
    float bounds[RVK_BLOCK];
    uint64_t mask = 1;
    size_t want = start;
    while (want < s->n_blocks && passing(0, want, s->limit) == 0) want++;
    const size_t got = ops->scan(s, start, &mask, bounds);
    assert_int_equal(got, want);
    if (want < s->n_blocks) {
        assert_true(mask == passing(0, want, s->limit));
        assert_same(bounds, set.bounds[0][want], RVK_BLOCK, ops->name, set.padded);
    } else {
        assert_true(mask == 0);
    }
}

/* The bound of some lane that can pass; 0 where there is none. */
static float some_bound(uint64_t *rng, size_t query) {
    const size_t n = MAX_BLOCKS * RVK_BLOCK, first = next_below(rng, n);
    for (size_t i = 0; i < n; i++) {
        const size_t lane = (first + i) % n;
        const float bound = set.bounds[query][lane / RVK_BLOCK][lane % RVK_BLOCK];
        if (bound < INFINITY) return bound;
    }
    return 0;
}

/* A choice of limits, ties among them. */
#define N_LIMITS 6u
static void choose_limits(uint64_t *rng, size_t query, float limits[N_LIMITS]) {
    const float some = some_bound(rng, query);
    limits[0] = INFINITY;
    limits[1] = -INFINITY;
    limits[2] = NAN;
    limits[3] = some;
    limits[4] = nextafterf(some, INFINITY);
    limits[5] = 0.0f;
}

/* Every count of blocks, start and limit. */
static void check_scans(const rvk_ops *ops, rvk_scan *s, uint64_t *rng) {
    static const size_t counts[] = {0, 1, 2, MAX_BLOCKS};
    for (size_t c = 0; c < 4; c++) {
        s->n_blocks = counts[c];
        for (size_t start = 0; start <= s->n_blocks; start++) {
            float limits[N_LIMITS];
            choose_limits(rng, 0, limits);
            for (size_t i = 0; i < N_LIMITS; i++) {
                s->limit = limits[i];
                check_scan(ops, s, start);
            }
        }
    }
}

/* Blocks and table end where a protected page begins, or shortly before. */
static void check_table(const rvk_ops *ops, size_t shift, uint64_t *rng) {
    static int8_t rounded[MAX_DIM];
    const size_t bytes = MAX_BLOCKS * rvk_block_bytes(ops->group, set.padded);
    const size_t lut_bytes = rvk_lut_bytes(ops->group, set.padded);
    fence blocks = fence_open(bytes + 4), lut = fence_open(lut_bytes + 1);
    uint8_t *table = lut.end - lut_bytes - shift;
    rvk_query query;
    lay_out(ops->group, blocks.end - bytes - 4 * shift);
    rvk_lut_build(ops->group, set.padded, set.query[0], rounded, table, &query);
    rvk_scan s = {.blocks = blocks.end - bytes - 4 * shift,
                  .lut = table,
                  .padded = set.padded,
                  .step = query.step,
                  .bias = query.bias};
    check_scans(ops, &s, rng);
    fence_close(&blocks);
    fence_close(&lut);
}

static void scans_agree(void **state) {
    (void)state;
    const rvk_ops *ops;
    uint64_t rng = 6;
    for (size_t p = 0, padded; (padded = padded_at(p)) != 0; p++) {
        for (size_t round = 0; round < 3; round++) {
            make_corpus(&rng, padded, 1, round > 0);
            for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
                check_table(ops, 0, &rng);
                check_table(ops, 1, &rng);
            }
        }
    }
}

/* ---- several queries at once ---- */

static bool some_pass(const rvk_scan *s, size_t n, size_t block) {
    for (size_t q = 0; q < n; q++) {
        if (passing(q, block, s[q].limit) != 0) return true;
    }
    return false;
}

static void check_many(const rvk_ops *ops, const rvk_scan *s, size_t n, size_t start) {
    float bounds[RVK_SCANS][RVK_BLOCK];
    uint64_t masks[RVK_SCANS] = {1, 1, 1, 1};
    size_t want = start;
    while (want < s->n_blocks && !some_pass(s, n, want)) want++;
    assert_int_equal(ops->scan_many(s, n, start, masks, bounds), want);
    for (size_t q = 0; q < n; q++) {
        const uint64_t mask = want < s->n_blocks ? passing(q, want, s[q].limit) : 0;
        assert_true(masks[q] == mask);
        if (mask == 0) continue;
        assert_same(bounds[q], set.bounds[q][want], RVK_BLOCK, ops->name, set.padded);
    }
    for (size_t q = n; q < RVK_SCANS; q++) assert_true(masks[q] == 1);
}

/* Limits are drawn for each query; in half of the rounds few lanes pass, so that the
 * scans get beyond the first block. */
static void check_many_limits(const rvk_ops *ops, rvk_scan *s, size_t n, uint64_t *rng) {
    static const size_t counts[] = {0, 1, 2, MAX_BLOCKS};
    for (size_t c = 0; c < 4; c++) {
        for (size_t start = 0; start <= counts[c]; start++) {
            for (size_t round = 0; round < N_LIMITS; round++) {
                for (size_t q = 0; q < n; q++) {
                    float limits[N_LIMITS];
                    choose_limits(rng, q, limits);
                    s[q].n_blocks = counts[c];
                    s[q].limit = round % 2 == 0 ? limits[next_below(rng, N_LIMITS)]
                                 : next_below(rng, 3) == 0 ? -1.5f
                                                           : -INFINITY;
                }
                check_many(ops, s, n, start);
            }
        }
    }
}

/* Blocks and tables end where a protected page begins, or shortly before. */
static void check_many_tables(const rvk_ops *ops, size_t n, size_t shift, uint64_t *rng) {
    static int8_t rounded[MAX_DIM];
    const size_t bytes = MAX_BLOCKS * rvk_block_bytes(ops->group, set.padded);
    const size_t lut_bytes = rvk_lut_bytes(ops->group, set.padded);
    fence blocks = fence_open(bytes + 4), lut[RVK_SCANS];
    rvk_scan s[RVK_SCANS];
    lay_out(ops->group, blocks.end - bytes - 4 * shift);
    for (size_t q = 0; q < n; q++) {
        rvk_query query;
        lut[q] = fence_open(lut_bytes + 1);
        uint8_t *table = lut[q].end - lut_bytes - shift;
        rvk_lut_build(ops->group, set.padded, set.query[q], rounded, table, &query);
        s[q] = (rvk_scan){.blocks = blocks.end - bytes - 4 * shift,
                          .lut = table,
                          .padded = set.padded,
                          .step = query.step,
                          .bias = query.bias};
    }
    check_many_limits(ops, s, n, rng);
    for (size_t q = 0; q < n; q++) fence_close(&lut[q]);
    fence_close(&blocks);
}

static void many_scans_agree(void **state) {
    (void)state;
    const rvk_ops *ops;
    uint64_t rng = 7;
    for (size_t p = 0, padded; (padded = padded_at(p)) != 0; p++) {
        for (size_t round = 0; round < 5; round++) {
            make_corpus(&rng, padded, RVK_SCANS, round > 0);
            for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
                for (size_t n = 1; n <= RVK_SCANS; n++) {
                    check_many_tables(ops, n, 0, &rng);
                    check_many_tables(ops, n, 1, &rng);
                }
            }
        }
    }
}

/* A lane whose bound equals the limit does not pass; one step above it does. */
static void ties_do_not_pass(void **state) {
    (void)state;
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        uint8_t code[4] = {0xFF, 0xFF, 0xFF, 0xFF};
        uint8_t *block = fence_of_page.end - rvk_block_bytes(ops->group, 32);
        uint8_t lut[64 * 8];
        float query[32] = {0};
        int8_t rounded[32];
        rvk_query q;
        rvk_scan s = {
            .blocks = block, .n_blocks = 1, .lut = lut, .padded = 32, .limit = 5};
        uint64_t mask;
        float bounds[RVK_BLOCK];
        rvk_lut_build(ops->group, 32, query, rounded, lut, &q);
        s.step = q.step;
        s.bias = q.bias;
        rvk_block_clear(ops->group, 32, block);
        rvk_block_put(ops->group, 32, block, 37, code, 5.0f, -1.0f);
        assert_int_equal(ops->scan(&s, 0, &mask, bounds), 1);
        s.limit = nextafterf(5.0f, 6.0f);
        assert_int_equal(ops->scan(&s, 0, &mask, bounds), 0);
        assert_true(mask == UINT64_C(1) << 37);
    }
}

#define SKIPPED 2u /* blocks before the start, on protected pages */
#define READ 3u

/* READ blocks alone in their pages, between protected ones: they begin or end where one
 * of those does. They are read to the end when no lane passes, and when one lane of the
 * last passes for every query but the first of several. */
static void check_reach(const rvk_ops *ops, size_t padded, bool at_end) {
    static const float zeros[MAX_DIM];
    static int8_t rounded[MAX_DIM];
    static uint8_t lut[64 * ((MAX_DIM + 5) / 6)], code[MAX_DIM / 8];
    const size_t bytes = rvk_block_bytes(ops->group, padded);
    const fence memory = fence_open(READ * bytes);
    uint8_t *blocks = at_end ? memory.end - READ * bytes : memory.start;
    rvk_query query;
    rvk_lut_build(ops->group, padded, zeros, rounded, lut, &query);
    for (size_t k = 0; k < READ; k++)
        rvk_block_clear(ops->group, padded, blocks + k * bytes);
    for (unsigned lanes = 0; lanes < 2; lanes++) {
        const size_t want = SKIPPED + READ - lanes;
        for (size_t n = 1; n <= RVK_SCANS; n++) {
            rvk_scan s[RVK_SCANS];
            uint64_t masks[RVK_SCANS];
            float bounds[RVK_SCANS][RVK_BLOCK];
            for (size_t q = 0; q < n; q++) {
                s[q] = (rvk_scan){.blocks = blocks - SKIPPED * bytes,
                                  .n_blocks = SKIPPED + READ,
                                  .lut = lut,
                                  .padded = padded,
                                  .step = query.step,
                                  .bias = query.bias,
                                  .limit = n > 1 && q == 0 ? -1.0f : 1.0f};
            }
            assert_int_equal(ops->scan_many(s, n, SKIPPED, masks, bounds), want);
            for (size_t q = 0; q < n; q++) {
                const bool some = lanes > 0 && s[q].limit > 0;
                assert_true(masks[q] == (some ? UINT64_C(1) << 5 : 0));
            }
            if (n > 1) continue;
            assert_int_equal(ops->scan(s, SKIPPED, masks, bounds[0]), want);
            assert_true(masks[0] == (lanes > 0 ? UINT64_C(1) << 5 : 0));
        }
        rvk_block_put(ops->group, padded, blocks + (READ - 1) * bytes, 5, code, 0, 0);
    }
    fence_close(&memory);
}

static void other_blocks_are_not_read(void **state) {
    (void)state;
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        for (size_t p = 0, padded; (padded = padded_at(p)) != 0; p++) {
            check_reach(ops, padded, false);
            check_reach(ops, padded, true);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_agree),
        cmocka_unit_test(many_scans_agree),
        cmocka_unit_test(ties_do_not_pass),
        cmocka_unit_test(other_blocks_are_not_read),
    };
    return cmocka_run_group_tests(tests, open_fence, close_fence);
}
