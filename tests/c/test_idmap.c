/*
 * test_idmap.c - from an id to its row: the hash table against a plain array, through
 * long random histories in a crowded table; the binary search; the check of ids.
 */
#include "index_cases.h"

#include "index/index_i.h"

/* Rows with these ids and nothing else; all live. */
static rvx_rows rows_over(const uint64_t *ids, size_t n) {
    rvx_rows rows = {.n = n, .n_live = n};
    rows.column[RVX_IDS] =
        (rvx_column){.data = (uint8_t *)(uintptr_t)ids, .width = 8, .stride = 8};
    return rows;
}

static void kill_bit(uint64_t *dead, size_t row) {
    dead[row / 64] |= UINT64_C(1) << (row % 64);
}

/* ---- the table ---- */

/* Ids that stress a hash: neighbors, multiples of powers of two, the top end. */
static uint64_t awkward_id(size_t i) {
    switch (i % 4) {
    case 0:
        return i;
    case 1:
        return (uint64_t)i << 32;
    case 2:
        return (uint64_t)i << 50;
    default:
        return RV_NO_ID - 1 - i;
    }
}

/* Every id has two rows, r and r + n_ids; at most one of them stands in the table. */
static void random_history(size_t n_ids, size_t steps, uint64_t seed) {
    uint64_t *ids = need(2 * n_ids, sizeof *ids);
    size_t *row_of = need(n_ids, sizeof *row_of);
    for (size_t i = 0; i < 2 * n_ids; i++) ids[i] = awkward_id(i % n_ids);
    for (size_t i = 0; i < n_ids; i++) row_of[i] = RVX_NO_ROW;
    rvx_rows rows = rows_over(ids, 2 * n_ids);
    rvx_rows none = rows_over(ids, 0);
    rvx_idmap map;
    assert_ok(rvx_idmap_build(&none, n_ids, true, &map, err));
    size_t in_table = 0;
    for (size_t step = 0; step < steps; step++) {
        size_t i = next_below(&seed, n_ids);
        if (row_of[i] != RVX_NO_ROW) {
            rvx_idmap_erase(&map, &rows, row_of[i]);
            row_of[i] = RVX_NO_ROW;
            in_table--;
        } else {
            row_of[i] = i + (next_u64(&seed) & 1 ? n_ids : 0);
            rvx_idmap_insert(&map, &rows, row_of[i]);
            in_table++;
        }
        assert_int_equal(map.n, in_table);
        size_t from = n_ids <= 32 ? 0 : i, to = n_ids <= 32 ? n_ids : i + 1;
        for (size_t j = from; j < to; j++)
            assert_int_equal(rvx_row_of_id(&map, &rows, ids[j]), row_of[j]);
    }
    for (size_t j = 0; j < n_ids; j++)
        assert_int_equal(rvx_row_of_id(&map, &rows, ids[j]), row_of[j]);
    assert_int_equal(rvx_row_of_id(&map, &rows, RV_NO_ID), RVX_NO_ROW);
    rvx_idmap_clear(&map);
    free(row_of);
    free(ids);
}

static void crowded_tables(void **state) {
    (void)state;
    /* as many ids as the table was made for: long runs, many wrapping around */
    for (size_t n = 1; n <= 32; n++) random_history(n, sized(4000), n);
}

static void large_table(void **state) {
    (void)state;
    random_history(5000, sized(100000), 3);
}

static void a_table_of_live_rows_only(void **state) {
    (void)state;
    const size_t n = 1000;
    uint64_t *ids = scattered_ids(8, n), dead[16] = {0};
    rvx_rows rows = rows_over(ids, n);
    rows.dead = dead;
    for (size_t row = 0; row < n; row += 3, rows.n_live--) kill_bit(dead, row);
    rvx_idmap map;
    assert_ok(rvx_idmap_build(&rows, 7, true, &map, err));
    assert_int_equal(map.n, rows.n_live);
    assert_true(map.capacity / 3 * 2 >= rows.n_live + 7); /* room for the extra ones */
    for (size_t row = 0; row < n; row++)
        assert_int_equal(rvx_row_of_id(&map, &rows, ids[row]),
                         row % 3 ? row : RVX_NO_ROW);
    rvx_idmap_clear(&map);
    free(ids);
}

static void of_equal_ids_the_lowest_row(void **state) {
    (void)state;
    const uint64_t ids[] = {9, 4, 9, 9, 4, 5};
    rvx_rows rows = rows_over(ids, 6);
    rvx_idmap map;
    assert_ok(rvx_idmap_build(&rows, 0, true, &map, err));
    assert_int_equal(map.n, 3);
    assert_int_equal(rvx_row_of_id(&map, &rows, 9), 0);
    assert_int_equal(rvx_row_of_id(&map, &rows, 4), 1);
    rvx_idmap_erase(&map, &rows, 3); /* not the one in the table: nothing happens */
    assert_int_equal(map.n, 3);
    assert_int_equal(rvx_row_of_id(&map, &rows, 9), 0);
    rvx_idmap_erase(&map, &rows, 0);
    assert_int_equal(rvx_row_of_id(&map, &rows, 9), RVX_NO_ROW);
    assert_int_equal(rvx_row_of_id(&map, &rows, 5), 5);
    rvx_idmap_clear(&map);
}

/* Of several rows with one id the others are reached from the lowest, in order. */
static void twins_follow_each_other(void **state) {
    (void)state;
    const size_t n = 3000;
    uint64_t *ids = need(n, sizeof *ids), dead[47] = {0}, seed = 5;
    for (size_t i = 0; i < n; i++) ids[i] = next_below(&seed, 100) << 40;
    rvx_rows rows = rows_over(ids, n);
    rows.dead = dead;
    for (size_t row = 0; row < n; row += 7, rows.n_live--) kill_bit(dead, row);
    rvx_idmap map;
    assert_ok(rvx_idmap_build(&rows, 0, true, &map, err));
    assert_int_equal(map.n, 100);
    for (uint64_t id = 0; id < 100; id++) {
        size_t row = rvx_row_of_id(&map, &rows, id << 40);
        for (size_t i = 0; i < n; i++) {
            if (ids[i] != id << 40 || i % 7 == 0) continue;
            assert_int_equal(row, i);
            row = rvx_idmap_twin(&map, row);
        }
        assert_int_equal(row, RVX_NO_ROW);
    }
    assert_int_equal(rvx_idmap_twin(&map, n), RVX_NO_ROW); /* a row added later */
    rvx_idmap_clear(&map);
    free(ids);
}

/* ---- ids that strangers chose ---- */

/* Occupied slots one after the other, the most there are: no call looks at more. Of n
 * keys that fall at random into a table loaded to a, the chance that some run is longer
 * than r is at most about n exp(-r (a - 1 - log a)): with a <= 0.45, n <= 10^5 and
 * r = 250 below 10^-22. */
enum { MAX_RUN = 250 };
static size_t longest_run(const rvx_idmap *map) {
    size_t longest = 0, run = 0;
    for (size_t i = 0; i < 2 * map->capacity; i++) {
        run = map->slots[i & (map->capacity - 1)] ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    return longest;
}

/* x with x * odd = 1 modulo 2^64; five steps of Newton from three right bits. */
static uint64_t inverse(uint64_t odd) {
    uint64_t x = odd;
    for (int i = 0; i < 5; i++) x *= 2 - odd * x;
    return x;
}

static uint64_t undo_shift(uint64_t y, int by) {
    uint64_t x = y;
    for (int at = by; at < 64; at += by) x = y ^ x >> by;
    return x;
}

/* The last step of rng.c undone: a constant that stream and seed make, plus a multiple of
 * the counter. */
static uint64_t before_mixing(uint64_t value) {
    uint64_t z = undo_shift(value, 31) * inverse(UINT64_C(0x94D049BB133111EB));
    z = undo_shift(z, 27) * inverse(UINT64_C(0xBF58476D1CE4E5B9));
    return undo_shift(z, 30);
}

/* The id whose rvb_random(0, stream, id) is `value`. */
static uint64_t id_with_number(uint64_t stream, uint64_t value) {
    uint64_t of_zero = before_mixing(rvb_random(0, stream, 0));
    return (before_mixing(value) - of_zero) * inverse(UINT64_C(0xDA942042E4DD58B5));
}

static uint64_t reversed(uint64_t v) {
    uint64_t r = 0;
    for (int i = 0; i < 64; i++) r = r << 1 | (v >> i & 1);
    return r;
}

static uint64_t bits_of(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

enum {
    CHOSEN,
    MULTIPLES,
    SEQUENTIAL = MULTIPLES + 4,
    REVERSED,
    FLOATS,
    UUIDS,
    TWO_RANGES,
    KINDS
};

/* The i-th id of a family, none of them twice. */
static uint64_t id_of_kind(int kind, uint64_t i) {
    switch (kind) {
    case CHOSEN: /* all low bits of the fixed hash that tables once had are 0 */
        return id_with_number(0x52420020, i << 32);
    case SEQUENTIAL: /* down, else they ascend */
        return (UINT64_C(1) << 50) - i;
    case REVERSED:
        return reversed(i) >> 1;
    case FLOATS:
        return bits_of(1.0 + (double)i / 4);
    case UUIDS: /* the upper half of version 7: 48 bits of time, version, counter */
        return (UINT64_C(0x018F3C5A0000) + i / 50) << 16 | 0x7000 | i % 50;
    case TWO_RANGES:
        return i % 2 ? i / 2 : UINT64_C(0x8000000000000000) + i / 2;
    default: { /* of 2^12, 2^24, 2^36, 2^47 */
        static const int power[4] = {12, 24, 36, 47};
        return i << power[kind - MULTIPLES];
    }
    }
}

static void no_ids_meet_in_one_place(void **state) {
    (void)state;
    assert_true(rvb_random(0, 0x52420020, id_of_kind(CHOSEN, 77)) ==
                UINT64_C(77) << 32); /* the inversion is right */
    const size_t n = sized(60000);
    uint64_t *ids = need(n, sizeof *ids);
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t i = 0; i < n; i++) ids[i] = id_of_kind(kind, i);
        bool ascending;
        assert_ok(rvx_ids_check(ids, n, false, &ascending, err));
        rvx_rows rows = rows_over(ids, n);
        rvx_idmap map;
        assert_ok(rvx_idmap_build(&rows, 0, true, &map, err));
        assert_int_equal(map.n, n);
        assert_true(longest_run(&map) < MAX_RUN);
        rvx_idmap_clear(&map);
    }
    free(ids);
}

/* The same through the front door: build, a file's bytes, adds, a vacuum. */
static void chosen_ids_in_an_index(void **state) {
    (void)state;
    const size_t n = sized(20000), half = n / 2;
    uint64_t *ids = need(n, sizeof *ids), removed;
    float *rows = need(n, sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        ids[i] = id_of_kind(CHOSEN, i);
        rows[i] = (float)i;
    }
    rv_build_options o = options_for(RV_FLAT, RV_L2, 1);
    rv_index *index = build_with(&o, rows, ids, half);
    assert_true(longest_run(&index->ids) < MAX_RUN);
    file_bytes bytes = bytes_of(index);
    rv_index *loaded = from_bytes(&bytes);
    assert_true(longest_run(&loaded->ids) < MAX_RUN);
    assert_ok(
        rv_index_add(index, &(rv_rows){rows + half, ids + half, n - half, 1}, NULL, err));
    assert_ok(rv_index_remove(index, ids, half, &removed, err));
    assert_int_equal(removed, half);
    assert_ok(rv_index_vacuum(index, err));
    assert_true(longest_run(&index->ids) < MAX_RUN);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(rv_index_contains(index, ids[i]), i >= half);
    rv_index_free(index);
    rv_index_free(loaded);
    free(bytes.data);
    free(rows);
    free(ids);
}

/* ---- without a table ---- */

static void ascending_ids_are_searched(void **state) {
    (void)state;
    uint64_t ids[200], dead[4] = {0};
    for (size_t i = 0; i < 200; i++) ids[i] = i < 100 ? 3 * i + 1 : RV_NO_ID - 200 + i;
    rvx_idmap map;
    for (size_t n = 0; n <= 200; n++) {
        rvx_rows rows = rows_over(ids, n);
        assert_ok(rvx_idmap_build(&rows, 100, false, &map, err));
        assert_null(map.slots);
        for (size_t i = 0; i < 200; i++) {
            assert_int_equal(rvx_row_of_id(&map, &rows, ids[i]), i < n ? i : RVX_NO_ROW);
            assert_int_equal(rvx_row_of_id(&map, &rows, 3 * i), RVX_NO_ROW);
        }
    }
    rvx_rows rows = rows_over(ids, 200);
    rows.dead = dead;
    kill_bit(dead, 0);
    kill_bit(dead, 199);
    assert_int_equal(rvx_row_of_id(&map, &rows, ids[0]), RVX_NO_ROW);
    assert_int_equal(rvx_row_of_id(&map, &rows, ids[1]), 1);
    assert_int_equal(rvx_row_of_id(&map, &rows, ids[199]), RVX_NO_ROW);
}

/* Every id in and around a row of ids, against looking at all of them. */
static void assert_found(const uint64_t *ids, size_t n, uint64_t *dead) {
    rvx_idmap map = {0};
    rvx_rows rows = rows_over(ids, n);
    rows.dead = dead;
    for (size_t i = 0; i < n; i++) {
        for (uint64_t id = ids[i] - 3; id != ids[i] + 4; id++) {
            size_t row = 0;
            while (row < n && ids[row] != id) row++;
            if (row == n || (dead && rvx_bit(dead, row))) row = RVX_NO_ROW;
            assert_int_equal(rvx_row_of_id(&map, &rows, id), row);
        }
    }
    const uint64_t ends[] = {0, 1, UINT64_C(1) << 63, RV_NO_ID - 1, RV_NO_ID};
    for (size_t i = 0; i < 5; i++) {
        size_t row = 0;
        while (row < n && ids[row] != ends[i]) row++;
        if (row == n || (dead && rvx_bit(dead, row))) row = RVX_NO_ROW;
        assert_int_equal(rvx_row_of_id(&map, &rows, ends[i]), row);
    }
}

/* Without gaps an id tells its row; with gaps it still bounds it from both ends. */
static void ascending_ids_with_and_without_gaps(void **state) {
    (void)state;
    static const uint64_t firsts[] = {0, 1, 1000, UINT64_C(1) << 40};
    uint64_t ids[130], dead[3], seed = 31;
    for (size_t n = 1; n <= 130; n += n < 12 ? 1 : 13) {
        for (size_t round = 0; round < sized(160); round++) {
            bool at_the_end = round % 5 == 4; /* up to the largest id there is */
            uint64_t id = firsts[round % 4], gap_at = next_below(&seed, n);
            for (size_t i = 0; i < n; i++, id++) {
                if (round % 3 == 1 && i == gap_at) id += 1 + next_below(&seed, 2 * n);
                if (round % 3 == 2) id += next_below(&seed, 1 + round % 7);
                ids[i] = id;
            }
            for (size_t i = 0; at_the_end && i < n; i++) ids[i] += RV_NO_ID - id;
            assert_found(ids, n, NULL);
            for (size_t i = 0; i < 3; i++) dead[i] = next_u64(&seed) & next_u64(&seed);
            if (round % 2) kill_bit(dead, 0);
            if (round % 4 < 2) kill_bit(dead, n - 1);
            assert_found(ids, n, dead);
        }
    }
}

/* ---- checking ids ---- */

static void distinct_ids_pass(void **state) {
    (void)state;
    bool ascending;
    uint64_t rising[] = {0, 1, 7, UINT64_C(1) << 40, RV_NO_ID - 1};
    assert_ok(rvx_ids_check(rising, 5, false, &ascending, err));
    assert_true(ascending);
    assert_ok(rvx_ids_check(rising, 0, false, &ascending, err));
    assert_true(ascending);
    uint64_t *mixed = scattered_ids(4, 5000);
    assert_ok(rvx_ids_check(mixed, 5000, false, &ascending, err));
    assert_false(ascending);
    free(mixed);
}

static void a_repeated_id_is_named(void **state) {
    (void)state;
    bool ascending;
    uint64_t *ids = scattered_ids(4, 3000), state2 = 1;
    for (int round = 0; round < 50; round++) {
        size_t a = next_below(&state2, 3000),
               b = (a + 1 + next_below(&state2, 2999)) % 3000;
        uint64_t kept = ids[b];
        ids[b] = ids[a];
        rv_error error = {0};
        assert_int_equal(rvx_ids_check(ids, 3000, false, &ascending, &error),
                         RV_ERR_DUPLICATE);
        assert_int_equal(error.actual, ids[a]);
        assert_int_equal(rvx_ids_check(ids, 3000, false, &ascending, NULL),
                         RV_ERR_DUPLICATE);
        ids[b] = kept;
    }
    free(ids);
    uint64_t twins[] = {5, 5};
    assert_fails(RV_ERR_DUPLICATE, rvx_ids_check(twins, 2, false, &ascending, err));
}

static void the_reserved_id_is_refused(void **state) {
    (void)state;
    bool ascending;
    uint64_t ids[] = {1, 2, RV_NO_ID};
    assert_fails(RV_ERR_ARGUMENT, rvx_ids_check(ids, 3, false, &ascending, err));
    uint64_t first[] = {RV_NO_ID, 2, 1};
    assert_fails(RV_ERR_ARGUMENT, rvx_ids_check(first, 3, false, &ascending, err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crowded_tables),
        cmocka_unit_test(large_table),
        cmocka_unit_test(a_table_of_live_rows_only),
        cmocka_unit_test(of_equal_ids_the_lowest_row),
        cmocka_unit_test(twins_follow_each_other),
        cmocka_unit_test(no_ids_meet_in_one_place),
        cmocka_unit_test(chosen_ids_in_an_index),
        cmocka_unit_test(ascending_ids_are_searched),
        cmocka_unit_test(ascending_ids_with_and_without_gaps),
        cmocka_unit_test(distinct_ids_pass),
        cmocka_unit_test(a_repeated_id_is_named),
        cmocka_unit_test(the_reserved_id_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
