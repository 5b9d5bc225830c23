/*
 * test_rows.c - the row store: shared memory and its last owner, growth that leaves
 * what others see alone, compaction.
 */
#include "index_cases.h"

#include "index/index_i.h"

#define DIM 5u

static void count_release(void *ctx) { ++*(int *)ctx; }

static void borrowed_memory_is_released_once(void **state) {
    (void)state;
    int released = 0;
    rvx_buf *buf = rvx_buf_borrow(count_release, &released);
    assert_non_null(buf);
    assert_ptr_equal(rvx_buf_ref(buf), buf);
    rvx_buf_unref(buf);
    assert_int_equal(released, 0);
    rvx_buf_unref(buf);
    assert_int_equal(released, 1);
    rvx_buf_unref(rvx_buf_borrow(NULL, NULL)); /* nothing to call */
    rvx_buf_unref(NULL);
    rvx_buf_unref(rvx_buf_alloc(0));
}

static void what_is_kept(void **state) {
    (void)state;
    rvx_rows rows;
    for (unsigned i = 0; i < 12; i++) {
        unsigned bits = i & 1 ? i & 2 ? 5 : 1 : 0, vector_bits = i / 4 * 16;
        bool codes = bits > 0;
        rvx_rows_init(&rows, DIM, bits, vector_bits);
        assert_int_equal(rows.column[RVX_IDS].width, 8);
        assert_int_equal(rows.column[RVX_NORMS].width, 4);
        assert_int_equal(rows.column[RVX_CODES].width, 4 * bits);
        assert_int_equal(rows.column[RVX_FACTORS].width, bits > 1 ? 20 : bits ? 8 : 0);
        assert_int_equal(rows.column[RVX_LISTS].width, codes ? 4 : 0);
        assert_int_equal(rows.column[RVX_VECTORS].width, vector_bits / 8 * DIM);
        assert_true(rows.ids_ascending);
        rvx_rows_clear(&rows);
    }
}

/* Every byte of a cell tells its column and row. */
static void fill(const rvx_column *column, int c, size_t row) {
    memset(rvx_cell(column, row), (int)(row * 7 + (size_t)c + 1), column->width);
}

static bool holds(const rvx_column *column, int c, size_t at, size_t row) {
    const uint8_t *cell = rvx_cell(column, at);
    for (size_t i = 0; i < column->width; i++)
        if (cell[i] != (uint8_t)(row * 7 + (size_t)c + 1)) return false;
    return true;
}

static rvx_rows filled_rows(size_t n) {
    rvx_rows rows;
    rvx_rows_init(&rows, DIM, 1, 32);
    rvx_column made[RVX_N_COLUMNS];
    assert_ok(rvx_columns_grow(&rows, n, true, made, err));
    memcpy(rows.column, made, sizeof made);
    rows.n = rows.n_live = n;
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        assert_int_equal(rows.column[c].capacity, n);
        for (size_t row = 0; row < n; row++) fill(&rows.column[c], c, row);
    }
    return rows;
}

static void growing_copies_or_shares(void **state) {
    (void)state;
    rvx_rows rows = filled_rows(40);
    rvx_column grown[RVX_N_COLUMNS], again[RVX_N_COLUMNS];
    assert_ok(rvx_columns_grow(&rows, 41, false, grown, err));
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        assert_int_equal(grown[c].capacity,
                         60); /* room for more than one row at a time */
        assert_ptr_not_equal(grown[c].buf, rows.column[c].buf);
        for (size_t row = 0; row < 40; row++) assert_true(holds(&grown[c], c, row, row));
        fill(&grown[c], c, 40);
    }
    rvx_columns_clear(rows.column); /* the copy does not need the original */
    memcpy(rows.column, grown, sizeof grown);
    rows.n = 41;
    assert_ok(rvx_columns_grow(&rows, 60, false, again, err));
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        assert_ptr_equal(again[c].buf, rows.column[c].buf);
        assert_ptr_equal(again[c].data, rows.column[c].data);
    }
    rvx_rows_clear(&rows);
    for (int c = 0; c < RVX_N_COLUMNS; c++) assert_true(holds(&again[c], c, 40, 40));
    rvx_columns_clear(again);

    rvx_rows large = filled_rows(10);
    assert_ok(rvx_columns_grow(&large, 1000, false, grown, err));
    assert_int_equal(grown[RVX_IDS].capacity, 1000);
    rvx_columns_clear(grown);
    rvx_rows_clear(&large);
}

static void absurd_sizes_are_refused(void **state) {
    (void)state;
    rvx_rows rows = filled_rows(3);
    rvx_column grown[RVX_N_COLUMNS];
    const size_t absurd[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4, SIZE_MAX / 8};
    for (size_t i = 0; i < 4; i++) {
        assert_fails(RV_ERR_MEMORY, rvx_columns_grow(&rows, absurd[i], true, grown, err));
        for (int c = 0; c < RVX_N_COLUMNS; c++) assert_null(grown[c].buf);
    }
    rvx_rows_clear(&rows);
}

/* Rows as they lie in a version-1 record: each column interleaved with something. */
static rvx_rows strided_rows(size_t n, uint8_t *memory, size_t stride) {
    rvx_rows rows;
    rvx_rows_init(&rows, DIM, 1, 32);
    rows.n = rows.n_live = n;
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        rows.column[c].buf = rvx_buf_borrow(NULL, NULL);
        rows.column[c].data = memory + (size_t)c * 32;
        rows.column[c].stride = stride;
        rows.column[c].capacity = n;
        for (size_t row = 0; row < n; row++) fill(&rows.column[c], c, row);
    }
    return rows;
}

static void compacted(rvx_rows *rows, uint64_t dead_pattern) {
    uint64_t *dead = rvb_alloc_zero(2, sizeof *dead); /* rvx_rows_clear frees it */
    dead[0] = dead_pattern;
    dead[1] = ~dead_pattern;
    rows->dead = dead;
    rows->dead_words = 2;
    rows->n_live = 0;
    for (size_t row = 0; row < rows->n; row++) rows->n_live += rvx_row_live(rows, row);
    rvx_rows out;
    assert_ok(rvx_rows_compact(rows, &out, err));
    assert_int_equal(out.n, rows->n_live);
    assert_int_equal(out.n_live, rows->n_live);
    assert_null(out.dead);
    assert_int_equal(out.renumbered, rows->renumbered + 1);
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        size_t at = 0;
        assert_int_equal(out.column[c].stride, rows->column[c].width);
        for (size_t row = 0; row < rows->n; row++)
            if (rvx_row_live(rows, row)) assert_true(holds(&out.column[c], c, at++, row));
    }
    rvx_rows_clear(&out);
    rvx_rows_clear(rows);
}

static void compaction_keeps_the_order(void **state) {
    (void)state;
    const uint64_t patterns[] = {0,
                                 UINT64_MAX,
                                 1,
                                 UINT64_C(1) << 63,
                                 UINT64_C(0x5555555555555555),
                                 UINT64_C(0x00ff00ff12345678)};
    uint8_t *memory = need(128, 256);
    for (size_t i = 0; i < 6; i++) {
        for (size_t n = 1; n <= 128; n += n < 60 ? 59 : 4) {
            rvx_rows packed = filled_rows(n), strided = strided_rows(n, memory, 256);
            compacted(&packed, patterns[i]);
            compacted(&strided, patterns[i]);
        }
    }
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(borrowed_memory_is_released_once),
        cmocka_unit_test(what_is_kept),
        cmocka_unit_test(growing_copies_or_shares),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(compaction_keeps_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
