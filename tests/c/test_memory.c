/* Allocation: alignment, overflow, zeroes, other allocators, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "failing_allocator.h"

static bool is_aligned(const void *p) { return (uintptr_t)p % 64 == 0; }

static void blocks_are_aligned_and_whole(void **state) {
    (void)state;
    for (size_t n = 0; n < 300; n++) {
        uint8_t *p = rvb_alloc(n, 3);
        assert_non_null(p);
        assert_true(is_aligned(p));
        memset(p, 0xFF, 3 * n); /* a sanitizer or valgrind sees a byte too many */
        rvb_free(p);
    }
}

static void zeroed_blocks_are_zero(void **state) {
    (void)state;
    for (int custom = 0; custom < 2; custom++) {
        if (custom) failing_allocator_install(0);
        for (size_t n = 0; n < 200000; n = 3 * n + 1) {
            uint8_t *p = rvb_alloc_zero(n, 1);
            assert_non_null(p);
            assert_true(is_aligned(p));
            for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
            memset(p, 0xFF, n); /* the next block may get this memory again */
            rvb_free(p);
        }
        if (custom) failing_allocator_remove();
    }
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    static const size_t sizes[][2] = {
        {SIZE_MAX, 1},     {SIZE_MAX - 60, 1},    {SIZE_MAX, SIZE_MAX},
        {2, SIZE_MAX},     {SIZE_MAX / 8 + 2, 8}, {SIZE_MAX / 2 + 1, 2},
        {3, SIZE_MAX / 2}, {SIZE_MAX / 4 + 1, 4},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_null(rvb_alloc(sizes[i][0], sizes[i][1]));
        assert_null(rvb_alloc_zero(sizes[i][0], sizes[i][1]));
    }
}

static void checked_sizes(void **state) {
    (void)state;
    size_t out = 77;
    assert_false(rvb_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(rvb_add(SIZE_MAX, 1, &out));
    assert_int_equal(out, 77);
    assert_true(rvb_mul(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    assert_true(rvb_mul(0, SIZE_MAX, &out) && out == 0);
    assert_true(rvb_mul(SIZE_MAX, 0, &out) && out == 0);
    assert_true(rvb_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
}

static void bytes_are_little_endian(void **state) {
    (void)state;
    uint8_t bytes[8];
    rvb_put_u64(bytes, UINT64_C(0x8877665544332211));
    for (unsigned i = 0; i < 8; i++) assert_int_equal(bytes[i], 0x11 * (i + 1));
    assert_true(rvb_get_u64(bytes) == UINT64_C(0x8877665544332211));
    assert_true(rvb_get_u32(bytes) == 0x44332211);
    rvb_put_u32(bytes, 0xFEDCBA98);
    assert_true(rvb_get_u64(bytes) == UINT64_C(0x88776655FEDCBA98));
}

/* An allocator that aligns nothing: every pointer is odd. */
static void *odd_alloc(void *ctx, size_t bytes) {
    char *p = malloc(bytes + 1);
    ++*(int *)ctx;
    return p ? p + 1 : NULL;
}
static void odd_release(void *ctx, void *memory) {
    --*(int *)ctx;
    free((char *)memory - 1);
}

static void any_allocator_will_do(void **state) {
    (void)state;
    int live = 0;
    const rv_allocator odd = {odd_alloc, odd_release, &live};
    void *blocks[20];
    rv_set_allocator(&odd);
    for (size_t i = 0; i < 20; i++) {
        blocks[i] = i % 2 ? rvb_alloc(i, 7) : rvb_alloc_zero(i, 7);
        assert_true(is_aligned(blocks[i]));
        memset(blocks[i], 0xFF, 7 * i);
    }
    assert_int_equal(live, 20);
    for (size_t i = 0; i < 20; i++) rvb_free(blocks[i]);
    rvb_free(NULL);
    assert_int_equal(live, 0);
    rv_set_allocator(NULL);
    rvb_free(rvb_alloc(1, 1));
    assert_int_equal(live, 0);
}

static void refusals_reach_the_caller(void **state) {
    (void)state;
    failing_allocator_install(2);
    void *first = rvb_alloc(10, 1);
    assert_non_null(first);
    assert_null(rvb_alloc(10, 1));
    void *third = rvb_alloc_zero(1000, 1);
    assert_non_null(third);
    assert_int_equal(failing_allocator_calls(), 3);
    assert_int_equal(failing_allocator_live(), 2);
    assert_in_range(failing_allocator_live_bytes(), 1010, 1010 + 2 * 80);
    rvb_free(first);
    rvb_free(third);
    assert_int_equal(failing_allocator_live(), 0);
    assert_int_equal(failing_allocator_live_bytes(), 0);

    failing_allocator_install(1);
    assert_null(rvb_alloc_zero(10, 1));
    failing_allocator_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_whole),
        cmocka_unit_test(zeroed_blocks_are_zero),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(checked_sizes),
        cmocka_unit_test(bytes_are_little_endian),
        cmocka_unit_test(any_allocator_will_do),
        cmocka_unit_test(refusals_reach_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
