/*
 * test_polite.c - polite threads make room once in a while, others never; the busier
 * those that come in between, the more seldom.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/os.h"

#define MS UINT64_C(1000000)

static void nobody_is_polite_unasked(void **state) {
    (void)state;
    assert_false(rvb_is_polite());
    uint64_t end = rvb_now_ns() + 5 * MS;
    while (rvb_now_ns() < end) assert_false(rvb_make_room());
}

/* A thread that never made room, or did so at every call, would not come out of this. */
static void polite_threads_make_room_once_in_a_while(void **state) {
    (void)state;
    assert_false(rvb_set_polite(true));
    assert_true(rvb_is_polite());
    for (int turn = 0; turn < 20; turn++) {
        while (!rvb_make_room()) {
        }
        while (rvb_make_room()) {
        }
    }
    assert_true(rvb_set_polite(false));
    assert_false(rvb_is_polite());
}

static void busy_neighbors_get_fewer_turns(void **state) {
    (void)state;
    uint64_t first = rvb_next_turn_ns(0, 50 * MS), turn = first, before;
    assert_true(first > 0 && first <= MS);
    do {
        before = turn;
        turn = rvb_next_turn_ns(turn, 3 * MS);
        assert_true(turn >= before);
    } while (turn > before);
    assert_true(turn > 50 * MS && turn < 1000 * MS);
    assert_true(rvb_next_turn_ns(turn, MS / 10) == first); /* that one was no neighbor */
    assert_true(rvb_next_turn_ns(first, MS / 10) == first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_polite_unasked),
        cmocka_unit_test(polite_threads_make_room_once_in_a_while),
        cmocka_unit_test(busy_neighbors_get_fewer_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
