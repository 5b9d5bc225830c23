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
 * and the bounds computed from codes and rounded query bit by bit. */
typedef struct corpus {
    size_t padded;
    uint8_t codes[MAX_BLOCKS][RVK_BLOCK][MAX_DIM / 8];
    float a[MAX_BLOCKS][RVK_BLOCK], b[MAX_BLOCKS][RVK_BLOCK];
    float query[MAX_DIM];
    float bounds[MAX_BLOCKS][RVK_BLOCK];
} corpus;

static corpus set;

static float odd_factor(uint64_t *rng) {
    static const float values[] = {INFINITY, NAN, -INFINITY, 0.0f, -0.0f, 1e38f, -1e38f};
    return values[next_below(rng, sizeof values / sizeof values[0])];
}

static void make_corpus(uint64_t *rng, size_t padded, int8_t *rounded, rvk_query *query) {
    static uint8_t lut[64 * ((MAX_DIM + 5) / 6)];
    set.padded = padded;
    fill_floats(rng, PLAIN, set.query, padded);
    rvk_lut_build(6, padded, set.query, rounded, lut, query);
    for (size_t k = 0; k < MAX_BLOCKS; k++) {
        for (size_t i = 0; i < RVK_BLOCK; i++) {
            const bool odd = next_below(rng, 8) == 0;
            fill_bytes(rng, set.codes[k][i], padded / 8);
            set.a[k][i] = odd ? odd_factor(rng) : 1.0f + next_unit(rng);
            set.b[k][i] = odd ? odd_factor(rng) : next_unit(rng);
            int total = 0;
            for (size_t j = 0; j < padded; j++) {
                const bool bit = set.codes[k][i][j / 8] >> (j % 8) & 1;
                total += (bit ? rounded[j] : 0) - (rounded[j] < 0 ? rounded[j] : 0);
            }
            assert_in_range(total, 0, 65535);
            const float estimate = fmaf((float)total, query->step, query->bias);
            set.bounds[k][i] = fmaf(set.b[k][i], estimate, set.a[k][i]);
        }
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

static uint64_t passing(size_t block, const uint64_t *allow, float limit) {
    uint64_t mask = 0;
    for (size_t i = 0; i < RVK_BLOCK; i++) {
        if (set.bounds[block][i] < limit) mask |= UINT64_C(1) << i;
    }
    return mask & (allow != NULL ? allow[block] : UINT64_MAX);
}

static void check_scan(const rvk_ops *ops, const rvk_scan *s, size_t start) {
    float bounds[RVK_BLOCK];
    uint64_t mask = 1;
    size_t want = start;
    while (want < s->n_blocks && passing(want, s->allow, s->limit) == 0) want++;
    const size_t got = ops->scan(s, start, &mask, bounds);
    assert_int_equal(got, want);
    if (want < s->n_blocks) {
        assert_true(mask == passing(want, s->allow, s->limit));
        assert_same(bounds, set.bounds[want], RVK_BLOCK, ops->name, set.padded);
    } else {
        assert_true(mask == 0);
    }
}

/* Every count of blocks, start and a choice of limits, ties among them. */
static void check_scans(const rvk_ops *ops, rvk_scan *s, uint64_t *rng) {
    static const size_t counts[] = {0, 1, 2, MAX_BLOCKS};
    for (size_t c = 0; c < 4; c++) {
        s->n_blocks = counts[c];
        for (size_t start = 0; start <= s->n_blocks; start++) {
            const float some =
                set.bounds[next_below(rng, MAX_BLOCKS)][next_below(rng, 64)];
            const float limits[] = {
                INFINITY, -INFINITY, NAN, some, nextafterf(some, INFINITY), 0.0f};
            for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
                s->limit = limits[i];
                check_scan(ops, s, start);
            }
        }
    }
}

static void scans_agree(void **state) {
    (void)state;
    static int8_t rounded[MAX_DIM];
    const rvk_ops *ops;
    uint64_t rng = 6;
    for (size_t p = 0, padded; (padded = padded_at(p)) != 0; p++) {
        rvk_query query;
        make_corpus(&rng, padded, rounded, &query);
        for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
            const size_t bytes = MAX_BLOCKS * rvk_block_bytes(ops->group, padded);
            const size_t lut_bytes = rvk_lut_bytes(ops->group, padded);
            fence blocks = fence_open(bytes + 4), lut = fence_open(lut_bytes + 1);
            uint64_t *allow = (uint64_t *)(void *)fence_of_page.end - MAX_BLOCKS;
            for (size_t shift = 0; shift < 2; shift++) {
                uint8_t *table = lut.end - lut_bytes - shift;
                rvk_scan s = {.blocks = blocks.end - bytes - 4 * shift,
                              .lut = table,
                              .padded = padded};
                lay_out(ops->group, blocks.end - bytes - 4 * shift);
                rvk_lut_build(ops->group, padded, set.query, rounded, table, &query);
                s.step = query.step;
                s.bias = query.bias;
                check_scans(ops, &s, &rng);
                s.allow = allow;
                for (size_t k = 0; k < MAX_BLOCKS; k++) {
                    allow[k] = k % 2 == 0 ? 0 : next_u64(&rng) & next_u64(&rng);
                }
                check_scans(ops, &s, &rng);
                allow[0] = UINT64_MAX;
                allow[MAX_BLOCKS - 1] = UINT64_C(1) << 63;
                check_scans(ops, &s, &rng);
            }
            fence_close(&blocks);
            fence_close(&lut);
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

/* The first block lies on a protected page and the second on a good one: reading any
 * byte of a block whose allow word is 0 would fault. */
static void forbidden_blocks_are_not_read(void **state) {
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map, page, PROT_NONE), 0);
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        const size_t bytes = rvk_block_bytes(ops->group, 32);
        uint8_t *blocks = map + page - bytes, lut[64 * 8], code[4] = {0};
        const uint64_t allow[2] = {0, UINT64_MAX};
        float query[32] = {0};
        int8_t rounded[32];
        rvk_query q;
        rvk_lut_build(ops->group, 32, query, rounded, lut, &q);
        rvk_block_clear(ops->group, 32, blocks + bytes);
        rvk_block_put(ops->group, 32, blocks + bytes, 5, code, 0.0f, 0.0f);
        rvk_scan s = {blocks, 2, allow, lut, 32, q.step, q.bias, 1.0f};
        uint64_t mask;
        float bounds[RVK_BLOCK];
        assert_int_equal(ops->scan(&s, 0, &mask, bounds), 1);
        assert_true(mask == UINT64_C(1) << 5);
    }
    munmap(map, 2 * page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_agree),
        cmocka_unit_test(ties_do_not_pass),
        cmocka_unit_test(forbidden_blocks_are_not_read),
    };
    return cmocka_run_group_tests(tests, open_fence, close_fence);
}
