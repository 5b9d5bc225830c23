/*
 * test_inverted_lists.c - the arrangement that is scanned: every live row stands once, in
 * its list, in row order; growing equals building anew; a removed row never passes. Of
 * many lists the centroids are arranged in the same way.
 */
#include "index_cases.h"

#include "failing_allocator.h"
#include "index/index_i.h"

#define DIM 70u /* padded to 96 */
#define PADDED 96u

static rvx_rows random_rows(uint64_t seed, size_t n, uint32_t n_lists) {
    rvx_rows rows;
    rvx_rows_init(&rows, DIM, 1, 0);
    rvx_column made[RVX_N_COLUMNS];
    assert_ok(rvx_columns_grow(&rows, n, true, made, err));
    memcpy(rows.column, made, sizeof made);
    rows.n = rows.n_live = n;
    for (size_t row = 0; row < n; row++) {
        uint8_t *code = rvx_cell(&rows.column[RVX_CODES], row);
        for (size_t j = 0; j < PADDED / 8; j++) code[j] = (uint8_t)next_u64(&seed);
        rvx_factors f = {next_normal(&seed), -1 - next_normal(&seed)};
        uint32_t list = (uint32_t)next_below(&seed, n_lists);
        memcpy(rvx_cell(&rows.column[RVX_FACTORS], row), &f, sizeof f);
        memcpy(rvx_cell(&rows.column[RVX_LISTS], row), &list, sizeof list);
    }
    return rows;
}

static uint32_t list_of(const rvx_rows *rows, size_t row) {
    uint32_t list;
    memcpy(&list, rvx_cell(&rows->column[RVX_LISTS], row), sizeof list);
    return list;
}

/* The lists hold exactly the rows that `wanted` says, arranged as block.c would. */
static void assert_holds(const rvx_lists *lists, const rvx_rows *rows,
                         bool (*wanted)(const rvx_rows *rows, size_t row)) {
    uint8_t *block = need(1, lists->block_bytes);
    for (uint32_t l = 0; l < lists->n_lists; l++) {
        const rvx_list *list = &lists->list[l];
        size_t slot = 0;
        float least_b = INFINITY;
        for (size_t row = 0; row <= rows->n; row++) {
            bool last = row == rows->n;
            if (!last && (list_of(rows, row) != l || !wanted(rows, row))) continue;
            if (slot % RVK_BLOCK == 0 || last) {
                if (slot > 0)
                    assert_memory_equal(
                        block, list->blocks + (slot - 1) / RVK_BLOCK * lists->block_bytes,
                        lists->block_bytes);
                rvk_block_clear(lists->group, lists->padded, block);
            }
            if (last) break;
            assert_true(slot < list->n);
            assert_int_equal(list->rows[slot], row);
            rvx_factors f;
            memcpy(&f, rvx_cell(&rows->column[RVX_FACTORS], row), sizeof f);
            if (-f.b < least_b) least_b = -f.b;
            rvk_block_put(lists->group, lists->padded, block, slot++ % RVK_BLOCK,
                          rvx_cell(&rows->column[RVX_CODES], row),
                          f.a - lists->curvature * f.b * f.b, f.b);
        }
        assert_int_equal(slot, list->n);
        assert_true(slot == 0 || list->least_b == least_b);
        assert_true(list->capacity * RVK_BLOCK >= list->n);
    }
    free(block);
}

static bool every_row(const rvx_rows *rows, size_t row) { return row < rows->n; }

/* A is lower by (D/4 + 160) 2^-24 (|B| sqrt(D) / 4)^2, but for inner products. */
static void assert_curvature(const rvx_lists *lists, rv_metric metric) {
    double d = (double)lists->padded, wanted = (d / 4 + 160) * 0x1p-24 * d / 16;
    assert_true(metric == RV_IP ? lists->curvature == 0
                                : fabs(lists->curvature / wanted - 1) < 1e-6);
}

static void built_from_live_rows(void **state) {
    (void)state;
    for (unsigned group = 4; group <= 6; group += 2) {
        for (uint32_t n_lists = 1; n_lists <= 64; n_lists = n_lists * 4) {
            rvx_quantizer q = {.n_lists = n_lists, .padded = PADDED};
            rvx_rows rows = random_rows(n_lists, 1000, n_lists);
            rvx_lists lists;
            assert_ok(rvx_lists_build(&rows, &q, group, NULL, &lists, err));
            assert_holds(&lists, &rows, every_row);
            rvx_lists_clear(&lists);
            assert_null(lists.list);
            rows.dead_words = 16;
            rows.dead = rvb_alloc_zero(16, sizeof *rows.dead);
            for (size_t i = 0; i < 16; i++) rows.dead[i] = UINT64_C(0x8000000100f0000f);
            assert_ok(rvx_lists_build(&rows, &q, group, NULL, &lists, err));
            assert_holds(&lists, &rows, rvx_row_live);
            rvx_lists_clear(&lists);
            rvx_rows_clear(&rows);
        }
    }
}

/* From `n` rows to `n + more`, by appending to lists built over the first ones. */
static void grown(rvx_lists *lists, rvx_rows *rows, size_t n, size_t more) {
    rvx_lists larger;
    rows->n = n;
    assert_ok(rvx_lists_reserve(lists, rows, n, more, &larger, err));
    assert_holds(lists, rows, every_row); /* reserving is not seen */
    rvx_lists_adopt(lists, &larger);
    assert_null(larger.list);
    rows->n = n + more;
    for (size_t row = n; row < n + more; row++) rvx_lists_append(lists, rows, row);
    assert_holds(lists, rows, every_row);
}

static void appending_equals_building(void **state) {
    (void)state;
    static const size_t steps[] = {1, 1, 61, 1, 1, 63, 64, 65, 200, 0, 500, 1};
    rvx_quantizer q = {.n_lists = 3, .padded = PADDED};
    rvx_rows rows = random_rows(4, 1000, 3);
    rvx_lists lists;
    rows.n = 0;
    assert_ok(rvx_lists_build(&rows, &q, 6, NULL, &lists, err));
    size_t n = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        grown(&lists, &rows, n, steps[i]);
        n += steps[i];
    }
    rvx_lists_clear(&lists);
    rvx_rows_clear(&rows);
}

static void nothing_to_reserve_before_lists_exist(void **state) {
    (void)state;
    rvx_rows rows = random_rows(4, 10, 3);
    rvx_lists none = {0}, larger;
    assert_ok(rvx_lists_reserve(&none, &rows, 0, 10, &larger, err));
    assert_null(larger.list);
    rvx_lists_adopt(&none, &larger);
    assert_null(none.list);
    rvx_rows_clear(&rows);
}

/* Rows of a list whose A lets them pass at all. */
static size_t passing(const rvx_lists *lists) {
    size_t n = 0;
    for (uint32_t l = 0; l < lists->n_lists; l++) {
        const rvx_list *list = &lists->list[l];
        for (size_t i = 0; i < (list->n + RVK_BLOCK - 1) / RVK_BLOCK * RVK_BLOCK; i++) {
            uint8_t *block = list->blocks + i / RVK_BLOCK * lists->block_bytes;
            n +=
                rvk_block_a(lists->group, lists->padded, block)[i % RVK_BLOCK] < INFINITY;
        }
    }
    return n;
}

static void killed_rows_never_pass(void **state) {
    (void)state;
    const size_t n = 700;
    rvx_quantizer q = {.n_lists = 5, .padded = PADDED};
    rvx_rows rows = random_rows(12, n, 5);
    rvx_lists lists;
    assert_ok(rvx_lists_build(&rows, &q, 4, NULL, &lists, err));
    assert_int_equal(passing(&lists), n);
    uint64_t seed = 3;
    for (size_t killed = 0; killed < 100;) {
        size_t row = next_below(&seed, n), before = passing(&lists);
        rvx_lists_kill(&lists, &rows, row);
        killed += before - passing(&lists);
        rvx_lists_kill(&lists, &rows, row); /* again: nothing more */
        assert_true(before - passing(&lists) <= 1);
    }
    assert_int_equal(passing(&lists), n - 100);
    rvx_lists_kill(&lists, &rows, n - 1);
    rvx_lists_clear(&lists);
    rvx_rows_clear(&rows);
}

static void bytes_in_use_and_in_reserve(void **state) {
    (void)state;
    rvx_quantizer q = {.n_lists = 1, .padded = PADDED};
    rvx_rows rows = random_rows(12, 200, 1);
    rvx_lists lists = {0}, larger;
    uint64_t used, slack, used_after, slack_after;
    rvx_lists_bytes(&lists, &used, &slack);
    assert_int_equal(used + slack, 0);
    rows.n = 129; /* three blocks */
    assert_ok(rvx_lists_build(&rows, &q, 6, NULL, &lists, err));
    rvx_lists_bytes(&lists, &used, &slack);
    size_t block = rvk_block_bytes(6, PADDED) + 64 * sizeof(uint32_t);
    assert_int_equal(used, 3 * block + sizeof(rvx_list));
    assert_int_equal(slack, 0);
    assert_ok(rvx_lists_reserve(&lists, &rows, 129, 64, &larger, err));
    rvx_lists_adopt(&lists, &larger);
    rvx_lists_bytes(&lists, &used_after, &slack_after);
    assert_int_equal(used_after, used);
    assert_true(slack_after >= block && slack_after % block == 0);
    rvx_lists_clear(&lists);
    rvx_rows_clear(&rows);
}

/* Lists lie in common memory until they outgrow their place; those that do not stay. */
static void lists_move_one_by_one(void **state) {
    (void)state;
    rvx_quantizer q = {.n_lists = 4, .padded = PADDED};
    rvx_rows rows = random_rows(5, 600, 1);
    for (size_t row = 0; row < 600;
         row++) { /* 64 of the first, 70 of each of the others */
        uint32_t list = row < 64 ? 0 : row < 274 ? 1 + (uint32_t)(row % 3) : 0;
        memcpy(rvx_cell(&rows.column[RVX_LISTS], row), &list, sizeof list);
    }
    rvx_lists lists, larger;
    uint64_t used, slack, before;
    rows.n = 274;
    failing_allocator_install(0);
    assert_ok(rvx_lists_build(&rows, &q, 4, NULL, &lists, err));
    size_t block = lists.block_bytes + 64 * sizeof(uint32_t);
    assert_int_equal(lists.shared_blocks, 7);
    for (size_t l = 0; l < 4; l++) assert_false(lists.list[l].own);
    rvx_lists_bytes(&lists, &used, &slack);
    assert_int_equal(used, 7 * block + 4 * sizeof(rvx_list));
    assert_int_equal(slack, 0);
    before = used;
    for (size_t at = 274; at < 600; at += 163) { /* the first one only, twice */
        assert_ok(rvx_lists_reserve(&lists, &rows, at, 163, &larger, err));
        rvx_lists_adopt(&lists, &larger);
        rows.n = at + 163;
        for (size_t row = at; row < rows.n; row++) rvx_lists_append(&lists, &rows, row);
        assert_holds(&lists, &rows, every_row);
        for (size_t l = 0; l < 4; l++) assert_int_equal(lists.list[l].own, l == 0);
        rvx_lists_bytes(&lists, &used, &slack);
        size_t blocks = (64 + rows.n - 274 + 63) / 64;
        assert_int_equal(used, before + (blocks - 1) * block);
        /* the place it left, and what it has in reserve */
        assert_int_equal(slack, (1 + lists.list[0].capacity - blocks) * block);
        double given = (double)failing_allocator_live_bytes() -
                       71 * (double)failing_allocator_live();
        assert_true(fabs(given - (double)(used + slack)) < 1);
    }
    rvx_lists_clear(&lists);
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
    rvx_rows_clear(&rows);
}

/* ---- centroids of many lists ---- */

static rvx_quantizer *many_lists(rv_metric metric, uint32_t n_lists) {
    rvx_quantizer *q;
    assert_ok(rvx_quantizer_create(DIM, metric, 7, n_lists, 1, &q, err));
    float *centroids = normal_rows(3, n_lists, PADDED), *mean = normal_rows(4, 1, DIM);
    memset(centroids + 5 * PADDED, 0, PADDED * sizeof *centroids); /* one is the mean */
    memcpy(q->centroids, centroids, n_lists * PADDED * sizeof *centroids);
    memcpy(q->mean, mean, DIM * sizeof *mean);
    assert_ok(rvx_quantizer_finish(q, err));
    free(centroids);
    free(mean);
    return q;
}

/* Codes of the centroids around 0, with the factors of the estimate of |q - c|^2 - |q|^2
 * or of -<q, m + c>. */
static void assert_coded_centroids(const rvx_lists *lists, const rvx_quantizer *q) {
    uint8_t *block = need(1, lists->block_bytes), code[PADDED / 8];
    size_t last = (q->n_lists + 63) / 64 * 64;
    for (size_t l = 0; l < last; l++) {
        const uint8_t *got = lists->centroids + l / 64 * lists->block_bytes;
        if (l % 64 == 0) rvk_block_clear(lists->group, PADDED, block);
        double norm2 = 0, norm1 = 0, dot = 0;
        const float *c = q->centroids + l * PADDED;
        memset(code, 0, sizeof code);
        for (size_t j = 0; l < q->n_lists && j < PADDED; j++) {
            norm2 += (double)c[j] * (double)c[j];
            norm1 += fabs((double)c[j]);
            if (q->metric == RV_IP) dot += (double)c[j] * (double)q->rotated_mean[j];
            if (c[j] > 0) code[j / 8] |= (uint8_t)(1 << j % 8);
        }
        const float *a = rvk_block_a(lists->group, PADDED, (uint8_t *)(uintptr_t)got);
        const float *b = rvk_block_b(lists->group, PADDED, (uint8_t *)(uintptr_t)got);
        double s = norm1 > 0 ? 2 * norm2 / norm1 : 0;
        double wanted_a = q->metric == RV_IP ? -dot : norm2;
        double wanted_b = q->metric == RV_IP ? -s : -2 * s;
        if (l < q->n_lists) {
            assert_true(fabs((double)a[l % 64] - wanted_a) < 1e-5 * (1 + norm2));
            assert_true(fabs((double)b[l % 64] - wanted_b) < 1e-5 * (1 + s));
            rvk_block_put(lists->group, PADDED, block, l % 64, code, a[l % 64],
                          b[l % 64]);
        }
        if (l % 64 == 63) assert_memory_equal(got, block, lists->block_bytes);
    }
    free(block);
}

static void centroids_of_many_lists(void **state) {
    (void)state;
    const uint32_t least = 65536 / PADDED + 1;
    const uint32_t counts[] = {64, least - 1, least, least + 200};
    for (size_t run = 0; run < 12; run++) {
        uint32_t n_lists = counts[run % 4];
        rvx_quantizer *q = many_lists((rv_metric)(run / 4), n_lists);
        rvx_rows rows = random_rows(run, 900, n_lists);
        rvx_lists lists;
        uint64_t used, slack;
        assert_ok(rvx_lists_build(&rows, q, run % 2 ? 4 : 6, NULL, &lists, err));
        assert_curvature(&lists, q->metric);
        assert_holds(&lists, &rows, every_row);
        assert_int_equal(lists.centroids != NULL, n_lists >= least);
        if (lists.centroids) assert_coded_centroids(&lists, q);
        rvx_lists_bytes(&lists, &used, &slack);
        uint8_t *coded = lists.centroids;
        rvx_lists larger;
        assert_ok(rvx_lists_reserve(&lists, &rows, 0, 900, &larger, err));
        rvx_lists_adopt(&lists, &larger);
        assert_ptr_equal(lists.centroids, coded);
        rvx_lists_clear(&lists);
        assert_null(lists.centroids);
        rvx_rows_clear(&rows);
        rvx_quantizer_free(q);
    }
}

static void refused_memory(void **state) {
    (void)state;
    rvx_quantizer *q = many_lists(RV_IP, 700);
    rvx_rows rows = random_rows(3, 900, 700);
    size_t refused = 0;
    for (size_t n = 1;; n++) {
        rvx_lists lists = {0}, larger = {0};
        failing_allocator_install(n);
        rv_status status = rvx_lists_build(&rows, q, 6, NULL, &lists, NULL);
        if (status == RV_OK) {
            uint64_t used, slack;
            rvx_lists_bytes(&lists, &used, &slack);
            double given = (double)failing_allocator_live_bytes() -
                           71 * (double)failing_allocator_live();
            assert_true(fabs(given - (double)(used + slack)) < 1);
            status = rvx_lists_reserve(&lists, &rows, 0, 900, &larger, NULL);
        }
        refused += status != RV_OK;
        assert_true(status == RV_OK || status == RV_ERR_MEMORY);
        rvx_lists_clear(&larger);
        rvx_lists_clear(&lists);
        bool reached = failing_allocator_calls() >= n;
        assert_int_equal(failing_allocator_live(), 0);
        failing_allocator_remove();
        if (!reached) break;
    }
    assert_true(refused >= 5);
    rvx_rows_clear(&rows);
    rvx_quantizer_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_from_live_rows),
        cmocka_unit_test(appending_equals_building),
        cmocka_unit_test(nothing_to_reserve_before_lists_exist),
        cmocka_unit_test(killed_rows_never_pass),
        cmocka_unit_test(bytes_in_use_and_in_reserve),
        cmocka_unit_test(lists_move_one_by_one),
        cmocka_unit_test(centroids_of_many_lists),
        cmocka_unit_test(refused_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
