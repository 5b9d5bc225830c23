/*
 * test_filter.c - which rows a search may return: bits from ids and from masks, over
 * removed rows, and as words of scan blocks.
 */
#include "index_cases.h"

#include "index/index_i.h"

#define N 300u
#define DIM 4u

static rv_index *index_of(rv_kind kind, const uint64_t *ids, size_t n) {
    float *rows = normal_rows(1, n, DIM);
    rv_index *index = build(kind, RV_L2, DIM, rows, ids, n);
    free(rows);
    return index;
}

static rv_index *some_index(rv_kind kind, const uint64_t *ids) {
    return index_of(kind, ids, N);
}

static rvx_filter filter_of(const rv_index *index, const rv_search_options *o,
                            uint64_t query) {
    rvx_filter f;
    assert_ok(rvx_filter_build(index, o, query, &f, err));
    size_t count = 0;
    for (size_t row = 0; row < index->rows.n; row++) count += rvx_filter_passes(&f, row);
    assert_int_equal(f.count, count);
    assert_false(rvx_filter_passes(&f, index->rows.n)); /* rows added later */
    assert_false(rvx_filter_passes(&f, SIZE_MAX));
    return f;
}

static void from_ids(void **state) {
    (void)state;
    uint64_t *ids = scattered_ids(2, N);
    rv_index *index = some_index(RV_FLAT, ids);
    uint64_t allowed[] = {ids[7], 0, ids[299], ids[7], RV_NO_ID, ids[0], 5, ids[64]};
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_ids = allowed;
    o.allow_count = 8; /* unknown ids and repetitions change nothing */
    rvx_filter f = filter_of(index, &o, 0);
    for (size_t row = 0; row < N; row++)
        assert_int_equal(rvx_filter_passes(&f, row),
                         row == 7 || row == 299 || row == 0 || row == 64);
    rvx_filter_clear(&f);
    o.allow_count = 0; /* none, as opposed to no filter */
    f = filter_of(index, &o, 0);
    assert_int_equal(f.count, 0);
    rvx_filter_clear(&f);
    assert_ok(rv_index_remove(index, &ids[7], 1, NULL, err));
    o.allow_count = 8;
    f = filter_of(index, &o, 0);
    assert_int_equal(f.count, 3);
    assert_false(rvx_filter_passes(&f, 7));
    rvx_filter_clear(&f);
    rv_index_free(index);
    free(ids);
}

/* Ids that are numbers without gaps, wherever they start. */
static void from_consecutive_ids(void **state) {
    (void)state;
    const uint64_t starts[] = {0, 7, UINT64_MAX - N - 1};
    for (size_t s = 0; s < 3; s++) {
        uint64_t ids[N], first = starts[s];
        for (uint64_t i = 0; i < N; i++) ids[i] = first + i;
        rv_index *index = some_index(RV_FLAT, ids);
        const uint64_t gone = first + 64;
        assert_ok(rv_index_remove(index, &gone, 1, NULL, err));
        const uint64_t allowed[] = {first + 299, first + 64, first - 1, first + N, first,
                                    first + 63,  first,      RV_NO_ID,  first + 65};
        rv_search_options o = RV_SEARCH_DEFAULT;
        o.allow_ids = allowed;
        o.allow_count = 9;
        rvx_filter f = filter_of(index, &o, 0);
        for (size_t row = 0; row < N; row++)
            assert_int_equal(rvx_filter_passes(&f, row),
                             row == 299 || row == 0 || row == 63 || row == 65);
        rvx_filter_clear(&f);
        rv_index_free(index);
    }
}

static void a_mask_counts_live_rows(void **state) {
    (void)state;
    rv_index *index = some_index(RV_FLAT, NULL);
    uint64_t removed[] = {0, 1, 63, 64, 65, 200, 299};
    assert_ok(rv_index_remove(index, removed, 7, NULL, err));
    uint8_t masks[3 * (N - 7)];
    uint64_t seed = 6;
    for (size_t i = 0; i < sizeof masks; i++) masks[i] = (uint8_t)(next_u64(&seed) % 3);
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_mask = masks;
    o.allow_mask_len = N - 7;
    o.allow_mask_per_query = 1;
    for (size_t query = 0; query < 3; query++) {
        rvx_filter f = filter_of(index, &o, query);
        const uint8_t *mask = masks + query * (N - 7);
        for (size_t row = 0; row < N; row++) {
            bool live = rvx_row_live(&index->rows, row);
            assert_int_equal(rvx_filter_passes(&f, row), live && *mask != 0);
            mask += live;
        }
        rvx_filter_clear(&f);
    }
    o.allow_mask_per_query = 0; /* then every query has the first */
    rvx_filter first = filter_of(index, &o, 0), second = filter_of(index, &o, 2);
    assert_memory_equal(first.bits, second.bits, (N + 63) / 64 * 8);
    rvx_filter_clear(&first);
    rvx_filter_clear(&second);
    rv_index_free(index);
}

static void a_mask_of_another_length_is_refused(void **state) {
    (void)state;
    rv_index *index = some_index(RV_FLAT, NULL);
    assert_ok(rv_index_remove(index, (uint64_t[]){4}, 1, NULL, err));
    uint8_t mask[N + 1] = {0};
    rvx_filter f;
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_mask = mask;
    for (uint64_t length = N - 2; length <= N + 1; length++) {
        o.allow_mask_len = length;
        if (length == N - 1) continue;
        rv_error error = {0};
        assert_int_equal(rvx_filter_build(index, &o, 0, &f, &error), RV_ERR_ARGUMENT);
        assert_int_equal(error.expected, N - 1);
        assert_int_equal(error.actual, length);
    }
    rv_index_free(index);
}

static rv_index_info info_of(const rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    return info;
}

static rv_status filter_for_version(rv_index *index, uint64_t version, uint64_t live) {
    static const uint8_t mask[N + 1];
    rv_search_options o = RV_SEARCH_DEFAULT;
    rv_error error = {0};
    rvx_filter f = {0};
    o.allow_mask = mask;
    o.allow_mask_len = live;
    o.allow_version = version;
    rv_status status = rvx_filter_build(index, &o, 0, &f, &error);
    rvx_filter_clear(&f);
    return status;
}

/* No two states of rows have the same number, not even of two indexes. */
static void a_mask_of_another_version_is_refused(void **state) {
    (void)state;
    rv_index *index = some_index(RV_FLAT, NULL), *other = some_index(RV_FLAT, NULL);
    uint64_t at_first = info_of(index).changes;
    assert_true(at_first > 0);
    assert_false(info_of(index).moved);
    assert_int_equal(filter_for_version(index, at_first, N), RV_OK);
    assert_int_equal(filter_for_version(index, 0, N), RV_OK);
    assert_int_equal(filter_for_version(other, at_first, N), RV_ERR_ARGUMENT);
    assert_ok(rv_index_remove(index, (uint64_t[]){N + 7}, 1, NULL, err)); /* none there */
    assert_int_equal(info_of(index).changes, at_first);
    assert_false(info_of(index).moved);
    float vector[64] = {1};
    assert_true(info_of(index).dim <= 64);
    assert_ok(rv_index_upsert(
        index, &(rv_rows){vector, (uint64_t[]){4}, 1, info_of(index).dim}, NULL, err));
    assert_int_equal(info_of(index).n, N); /* as many, but others */
    assert_true(info_of(index).moved);
    assert_int_equal(filter_for_version(index, at_first, N), RV_ERR_ARGUMENT);
    assert_int_equal(filter_for_version(index, info_of(index).changes, N), RV_OK);
    rv_index_free(index);
    rv_index_free(other);
}

/* Any byte but 0 allows, whatever its bits; rows beyond whole words too. */
static void any_byte_but_zero_allows(void **state) {
    (void)state;
    rv_index *index = some_index(RV_RABITQ, NULL);
    uint8_t mask[N];
    uint64_t seed = 8;
    size_t count = 0;
    for (size_t i = 0; i < N; i++) {
        mask[i] = next_u64(&seed) & 1 ? (uint8_t)(1 << next_u64(&seed) % 8) : 0;
        count += mask[i] != 0;
    }
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_mask = mask;
    o.allow_mask_len = N;
    rvx_filter f = filter_of(index, &o, 0);
    for (size_t i = 0; i < N; i++) assert_int_equal(rvx_bit(f.bits, i), mask[i] != 0);
    assert_int_equal(f.count, count);
    rvx_filter_clear(&f);
    rv_index_free(index);
}

/* Rows are taken 64 at a time where none is removed, and one by one elsewhere. */
static void masks_of_every_length(void **state) {
    (void)state;
    uint8_t memory[3 * 200 + 8];
    uint64_t seed = 5, first = 0;
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = next_u64(&seed) % 3 ? (uint8_t)next_u64(&seed) : 0;
    for (size_t n = 2; n <= 200; n += n % 64 < 2 || n % 64 > 61 ? 1 : 7) {
        rv_index *index = index_of(RV_FLAT, NULL, n);
        for (size_t removed = 0; removed <= 1; removed++) {
            if (removed) assert_ok(rv_index_remove(index, &first, 1, NULL, err));
            rv_search_options o = RV_SEARCH_DEFAULT;
            o.allow_mask = memory + n % 8; /* at any address */
            o.allow_mask_len = n - removed;
            o.allow_mask_per_query = 1;
            for (size_t query = 0; query < 3; query++) {
                const uint8_t *mask = o.allow_mask + query * (n - removed);
                rvx_filter f = filter_of(index, &o, query);
                for (size_t row = 0; row < (n + 63) / 64 * 64; row++) {
                    bool allowed = row >= removed && row < n && mask[row - removed];
                    assert_int_equal(rvx_bit(f.bits, row), allowed);
                }
                rvx_filter_clear(&f);
            }
        }
        rv_index_free(index);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_ids),
        cmocka_unit_test(from_consecutive_ids),
        cmocka_unit_test(a_mask_counts_live_rows),
        cmocka_unit_test(a_mask_of_another_length_is_refused),
        cmocka_unit_test(a_mask_of_another_version_is_refused),
        cmocka_unit_test(any_byte_but_zero_allows),
        cmocka_unit_test(masks_of_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
