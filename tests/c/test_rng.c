/* Random numbers: values from a Python rendering of the formula in rng.c, balance of
 * bits, independence of streams, bounds. Limits are six standard deviations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

static void known_values(void **state) {
    (void)state;
    static const struct {
        uint64_t seed, stream, counter, value;
    } known[] = {
        {0, 0, 0, UINT64_C(0x238275BC38FCBE91)},
        {42, 0, 0, UINT64_C(0x6310BF04D8207F46)},
        {42, 0, 1, UINT64_C(0x603F0CBACF0D8DB7)},
        {42, 1, 0, UINT64_C(0xEACB2F85D6EF96C7)},
        {1, 2, 3, UINT64_C(0xE7D0C47F7975EDBC)},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_C(0xA4F866D48574AB85)},
        {UINT64_C(0x0123456789ABCDEF), 7, UINT64_C(1) << 40,
         UINT64_C(0xB5149C75A919C141)},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_true(rvb_random(known[i].seed, known[i].stream, known[i].counter) ==
                    known[i].value);
    }
}

static void known_values_below_a_bound(void **state) {
    (void)state;
    static const struct {
        uint64_t bound, value[3];
    } known[] = {
        {1, {0, 0, 0}},
        {2, {1, 0, 1}},
        {3, {2, 1, 2}},
        {1000, {811, 342, 667}},
        {UINT64_C(4294967297), {3485274513, 1472768674, 2868975345}},
        {UINT64_C(9223372036854775808),
         {UINT64_C(7484570024795437725), UINT64_C(3162746644550923552),
          UINT64_C(6161077638952187480)}},
        {UINT64_MAX,
         {UINT64_C(14969140049590875450), UINT64_C(6325493289101847103),
          UINT64_C(12322155277904374959)}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        for (uint64_t counter = 0; counter < 3; counter++) {
            assert_true(rvb_random_below(42, 9, counter, known[i].bound) ==
                        known[i].value[counter]);
        }
    }
}

static unsigned ones(uint64_t v) {
    unsigned n = 0;
    for (; v; v &= v - 1) n++;
    return n;
}

enum { DRAWS = 65536, LIMIT = 6 * 128 /* sqrt(DRAWS) / 2 = 128 */ };

static void assert_half(uint64_t count) {
    assert_in_range(count, DRAWS / 2 - LIMIT, DRAWS / 2 + LIMIT);
}

static void bits_are_balanced(void **state) {
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t set = 0, pairs = 0;
        for (uint64_t i = 0; i < DRAWS; i++) {
            uint64_t v = rvb_random(42, 3, i);
            set += v >> bit & 1;
            pairs += (v ^ rvb_random(42, 3, i + 1)) >> bit & 1;
        }
        assert_half(set);
        assert_half(pairs);
    }
}

/* Bits that differ between two draws whose arguments differ a little. */
static void any_argument_changes_half_the_bits(void **state) {
    (void)state;
    uint64_t by_seed = 0, by_stream = 0, by_counter = 0, swapped = 0;
    for (uint64_t i = 0; i < DRAWS / 64; i++) {
        uint64_t v = rvb_random(i, i + 1, i + 2);
        by_seed += ones(v ^ rvb_random(i ^ 1, i + 1, i + 2));
        by_stream += ones(v ^ rvb_random(i, (i + 1) ^ 1, i + 2));
        by_counter += ones(v ^ rvb_random(i, i + 1, (i + 2) ^ 1));
        swapped += ones(v ^ rvb_random(i, i + 2, i + 1));
    }
    assert_half(by_seed);
    assert_half(by_stream);
    assert_half(by_counter);
    assert_half(swapped);
}

static void streams_do_not_follow_each_other(void **state) {
    (void)state;
    for (uint64_t lag = 0; lag < 8; lag++) {
        uint64_t differ = 0;
        for (uint64_t i = 0; i < DRAWS / 64; i++) {
            differ += ones(rvb_random(42, 0, i + lag) ^ rvb_random(42, 1, i));
        }
        assert_half(differ);
    }
}

static void below_fills_its_range_evenly(void **state) {
    (void)state;
    enum { BOUND = 10, EACH = 10000 };
    uint64_t count[BOUND] = {0};
    for (uint64_t i = 0; i < BOUND * EACH; i++) {
        uint64_t v = rvb_random_below(7, 1, i, BOUND);
        assert_true(v < BOUND);
        count[v]++;
    }
    for (unsigned v = 0; v < BOUND; v++) {
        assert_in_range(count[v], EACH - 6 * 95, EACH + 6 * 95); /* sqrt(n p (1 - p)) */
    }
    for (uint64_t bound = 1; bound != 0; bound <<= 1) {
        for (uint64_t i = 0; i < 100; i++) {
            assert_true(rvb_random_below(7, 2, i, bound) < bound);
            assert_true(rvb_random_below(7, 2, i, bound | 1) < (bound | 1));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(known_values_below_a_bound),
        cmocka_unit_test(bits_are_balanced),
        cmocka_unit_test(any_argument_changes_half_the_bits),
        cmocka_unit_test(streams_do_not_follow_each_other),
        cmocka_unit_test(below_fills_its_range_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
