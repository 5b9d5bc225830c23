/*
 * test_file_read.c - what is read: files of the version-1 format, and bytes that lie,
 * are cut off or altered. Nothing loads that was changed unless it is said so here;
 * nothing is allocated on the word of a header.
 */
#define _GNU_SOURCE /* mkdtemp */
#include "index_cases.h"

#include <sys/stat.h>

#include "index/file_i.h"

#include "base/base.h"
#include "test_folder.h"

/* ---- version 1 ---- */

/* dim 2, seed 0x1122334455667788, rerank_factor 20, rows 7: (1, -2.5), 300: (0, 3); as
 * the first implementation of the format wrote it. */
static const uint8_t fixture[56] = {
    0x72, 0x62, 0x70, 0x78, 0x30, 0x30, 0x30, 0x31, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00,
    0x00, 0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x14, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x3f, 0x00, 0x00,
    0x20, 0xc0, 0x2c, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x40};

static rv_index *loaded_from(const void *data, size_t size, rv_verify verify) {
    rv_index *index = NULL;
    assert_ok(rv_index_from_memory(data, size, verify, NULL, NULL, &index, err));
    return index;
}

static void assert_is_the_fixture(const rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    assert_int_equal(info.kind, RV_PLUS);
    assert_int_equal(info.metric, RV_L2);
    assert_int_equal(info.dim, 2);
    assert_int_equal(info.seed, UINT64_C(0x1122334455667788));
    assert_int_equal(info.n, 2);
    assert_int_equal(info.next_id, 301);
    uint64_t ids[2];
    float rows[4], wanted[4] = {1, -2.5f, 0, 3};
    assert_ok(rv_index_copy_rows(index, 0, 2, ids, NULL, NULL, rows, err));
    assert_int_equal(ids[0], 7);
    assert_int_equal(ids[1], 300);
    assert_memory_equal(rows, wanted, sizeof rows);
    float query[] = {1, -2.5f};
    answer a = answer_of(index, query, 1, 2, 3, NULL);
    assert_true(a.ids[0] == 7 && a.ids[1] == 300 && a.ids[2] == RV_NO_ID);
    assert_true(a.scores[0] == 0 && a.scores[1] == 31.25f);
    answer_free(&a);
}

static void version_1(void **state) {
    (void)state;
    rv_index *index = loaded_from(fixture, sizeof fixture, RV_VERIFY_ALWAYS);
    assert_is_the_fixture(index);
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    assert_int_equal(info.rerank_factor, 20);
    rv_index_free(index);
}

static void version_1_variants(void **state) {
    (void)state;
    uint8_t b[sizeof fixture + 200];
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    memcpy(b, fixture, sizeof fixture);
    b[8] = 0; /* version 0 */
    rv_index *index = loaded_from(b, sizeof fixture, RV_VERIFY_ALWAYS);
    assert_is_the_fixture(index);
    rv_index_free(index);
    b[8] = 1;
    b[24] = 0; /* rerank_factor 0 means 1 */
    index = loaded_from(b, sizeof fixture, RV_VERIFY_ALWAYS);
    assert_is_the_fixture(index);
    assert_ok(rv_index_get_info(index, &info, err));
    assert_int_equal(info.rerank_factor, 1);
    rv_index_free(index);
    b[24] = 20;
    uint64_t seed = 1;
    for (size_t extra = 1; extra <= 200; extra++) { /* what follows is ignored */
        for (size_t i = 0; i < extra; i++) b[56 + i] = (uint8_t)(next_u64(&seed) | 1);
        index = loaded_from(b, 56 + extra, RV_VERIFY_ALWAYS);
        assert_is_the_fixture(index);
        rv_index_free(index);
    }
    b[28] = 0; /* no rows */
    index = loaded_from(b, 32, RV_VERIFY_ALWAYS);
    assert_int_equal(live_rows(index), 0);
    float row[2] = {1, 2};
    assert_ok(rv_index_add(index, &(rv_rows){row, NULL, 1, 2}, NULL, err));
    assert_true(rv_index_contains(index, 0));
    rv_index_free(index);
}

/* A version-1 file of these rows. */
static file_bytes version_1_of(const float *rows, const uint32_t *ids, size_t n,
                               size_t dim) {
    file_bytes b = {NULL, 32 + n * (4 + 4 * dim)};
    b.data = need(b.size, 1);
    memcpy(b.data, fixture, 32);
    rvb_put_u32(b.data + 12, (uint32_t)dim);
    rvb_put_u32(b.data + 24, 1);
    rvb_put_u32(b.data + 28, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        rvb_put_u32(b.data + 32 + i * (4 + 4 * dim), ids ? ids[i] : (uint32_t)i);
        memcpy(b.data + 32 + i * (4 + 4 * dim) + 4, rows + i * dim, 4 * dim);
    }
    return b;
}

static void version_1_searches_like_a_built_one(void **state) {
    (void)state;
    const size_t n = sized(5000), dim = 30;
    float *rows = clustered_rows(1, n, dim);
    file_bytes b = version_1_of(rows, NULL, n, dim);
    rv_build_options o = options_for(RV_PLUS, RV_L2, dim);
    o.seed = UINT64_C(0x1122334455667788);
    o.rerank_factor = 1;
    rv_index *built = build_with(&o, rows, NULL, n);
    rv_index *loaded = loaded_from(b.data, b.size, RV_VERIFY_AUTO);
    assert_true(rv_index_equal(built, loaded));
    answer a = answer_of(built, rows, 20, dim, 10, NULL);
    answer c = answer_of(loaded, rows, 20, dim, 10, NULL);
    assert_same_answer(&a, &c);
    answer_free(&a);
    answer_free(&c);
    file_bytes from_built = bytes_of(built), from_loaded = bytes_of(loaded);
    assert_same_bytes(&from_built, &from_loaded);
    free(from_built.data);
    free(from_loaded.data);
    rv_index_free(built);
    rv_index_free(loaded);
    free(b.data);
    free(rows);
}

/* Ids that stand on several rows: the lowest row is the one to get; removing and
 * replacing mean all of them. */
static void repeated_ids(void **state) {
    (void)state;
    const float rows[] = {0, 1, 2, 3, 4, 5, 6};
    const uint32_t ids[] = {9, 4, 9, 9, 4, 5, 2};
    file_bytes b = version_1_of(rows, ids, 7, 1);
    for (int reload = 0; reload <= 1; reload++) {
        rv_index *index = loaded_from(b.data, b.size, RV_VERIFY_ALWAYS);
        file_bytes saved = bytes_of(index);
        if (reload) { /* through our own format */
            rv_index_free(index);
            index = from_bytes(&saved);
        }
        assert_int_equal(live_rows(index), 7);
        float row, query = 3;
        assert_ok(rv_index_get(index, 9, &row, err));
        assert_true(row == 0);
        answer a = answer_of(index, &query, 1, 1, 9, NULL);
        const uint64_t order[] = {9, 4, 9, 4, 5, 2, 9};
        for (size_t i = 0; i < 7; i++) assert_int_equal(a.ids[i], order[i]);
        assert_true(a.ids[7] == RV_NO_ID);
        answer_free(&a);
        uint64_t nine = 9, four = 4, removed;
        rv_search_options o = RV_SEARCH_DEFAULT;
        o.allow_ids = &nine;
        o.allow_count = 1;
        a = answer_of(index, &query, 1, 1, 4, &o); /* every row with that id */
        assert_true(a.scores[0] == 0 && a.scores[1] == 1 && a.scores[2] == 9);
        assert_true(a.ids[3] == RV_NO_ID);
        answer_free(&a);
        assert_fails(RV_ERR_DUPLICATE,
                     rv_index_add(index, &(rv_rows){rows, &four, 1, 1}, NULL, err));
        assert_ok(rv_index_upsert(index, &(rv_rows){rows + 6, &four, 1, 1}, NULL, err));
        assert_int_equal(live_rows(index), 6);
        assert_ok(rv_index_get(index, 4, &row, err));
        assert_true(row == 6);
        assert_ok(rv_index_vacuum(index, err));
        assert_ok(rv_index_remove(index, &nine, 1, &removed, err));
        assert_int_equal(removed, 3);
        assert_false(rv_index_contains(index, 9));
        assert_int_equal(live_rows(index), 3);
        assert_ok(rv_index_add(index, &(rv_rows){rows, &nine, 1, 1}, NULL, err));
        assert_int_equal(live_rows(index), 4);
        rv_index_free(index);
        free(saved.data);
    }
    free(b.data);
}

/* Rows nobody could add any more; they load, and rank last. */
static void rows_that_are_not_finite(void **state) {
    (void)state;
    const size_t n = 400, dim = 8;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 3e38f};
    float *rows = clustered_rows(1, n, dim);
    for (size_t i = 0; i < 20; i++) rows[i * 20 * dim + i % dim] = bad[i % 5];
    file_bytes b = version_1_of(rows, NULL, n, dim);
    rv_index *index = loaded_from(b.data, b.size, RV_VERIFY_ALWAYS);
    for (int reload = 0; reload <= 1; reload++) {
        for (uint32_t factor = 1; factor <= 100; factor += 99) {
            rv_search_options o = RV_SEARCH_DEFAULT;
            o.epsilon = 1000;
            o.rerank_factor = factor;
            answer a = answer_of(index, rows + dim, 3, dim, n, &o);
            for (size_t i = 0; i < 3 * n; i++) {
                assert_int_equal(a.ids[i] % 20 == 0, i % n >= n - 20);
                assert_int_equal(isfinite(a.scores[i]) != 0, i % n < n - 20);
                assert_true(!isnan(a.scores[i]));
            }
            answer_free(&a);
            /* as every index does: finite ones are found, bad ones do not get in the way
             */
            o.epsilon = 4;
            a = answer_of(index, rows + dim, 3, dim, 10, &o);
            exact_hit *exact = need(n, sizeof *exact);
            uint8_t *good = need(n, 1);
            for (size_t i = 0; i < n; i++) good[i] = i % 20 != 0;
            for (size_t i = 0; i < 3; i++) {
                size_t count =
                    oracle(RV_L2, rows, NULL, good, n, dim, rows + (i + 1) * dim, exact);
                assert_int_equal(count_correct(&a, i, exact, count), 10);
            }
            free(exact);
            free(good);
            answer_free(&a);
        }
        file_bytes saved = bytes_of(index);
        rv_index_free(index);
        index = NULL;
        assert_ok(rv_index_from_memory(saved.data, saved.size, RV_VERIFY_ALWAYS, free,
                                       saved.data, &index, err));
    }
    assert_ok(rv_index_remove(index, (uint64_t[]){0, 20}, 2, NULL, err));
    assert_ok(rv_index_add(index, &(rv_rows){rows + dim, NULL, 10, 8}, NULL, err));
    rv_index_free(index);
    free(b.data);
    free(rows);
}

/* ---- small files of every kind ---- */

#define N_SAMPLES 16u
/* From one to the next: all of them, or few but of every kind. */
#define SAMPLE_STEP (sized(8) < 8 ? 5u : 1u)

static file_bytes sample(size_t i) {
    static const rv_kind kinds[] = {RV_FLAT, RV_RABITQ, RV_PLUS, RV_ASYM};
    rv_kind kind = kinds[i % 4];
    rv_metric metric = (rv_metric)(i / 4 % 3);
    size_t n = i < 12 ? 5 : 0, dim = i % 2 ? 3 : 33;
    float *rows = normal_rows(i, 5, dim);
    uint64_t *ids = scattered_ids(i, 5);
    rv_build_options o = options_for(kind, metric, dim);
    if (i % 5 == 0) o.bits = 2 + (uint32_t)i / 5; /* of each kind, and one without rows */
    if (i == 7 || i == 10 || i == 15) o.originals_bits = 16;
    rv_index *index = build_with(&o, rows, i % 3 ? ids : NULL, n);
    file_bytes b = bytes_of(index);
    rv_index_free(index);
    free(rows);
    free(ids);
    return b;
}

static bool loads(const void *data, size_t size, rv_verify verify) {
    rv_index *index = NULL;
    rv_error err;
    rv_status status = rv_index_from_memory(data, size, verify, NULL, NULL, &index, &err);
    assert_true((status == RV_OK) == (index != NULL));
    if (status != RV_OK) {
        assert_true(status == RV_ERR_FORMAT || status == RV_ERR_DIGEST);
        assert_true(err.message[0] != 0);
    }
    rv_index_free(index);
    return status == RV_OK;
}

static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    for (size_t s = 0; s < N_SAMPLES; s += SAMPLE_STEP) {
        file_bytes b = sample(s);
        assert_true(loads(b.data, b.size, RV_VERIFY_ALWAYS));
        for (size_t bit = 0; bit < 8 * b.size; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (loads(b.data, b.size, RV_VERIFY_ALWAYS))
                fail_msg("sample %zu loads with bit %zu of byte %zu flipped", s, bit % 8,
                         bit / 8);
            assert_false(loads(b.data, b.size, RV_VERIFY_AUTO));
            b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        free(b.data);
    }
}

/* One cut cannot be noticed: what is left of a version-1 body whose block is gone to the
 * last byte is a whole version-1 file. */
static void every_cut_is_noticed(void **state) {
    (void)state;
    for (size_t s = 0; s < N_SAMPLES; s += SAMPLE_STEP) {
        file_bytes b = sample(s);
        bool v1 = memcmp(b.data, "rbpx0001", 8) == 0;
        size_t body = v1 ? 32 + (size_t)rvb_get_u32(b.data + 28) *
                                    (4 + 4 * (size_t)rvb_get_u32(b.data + 12))
                         : 0;
        for (size_t size = 0; size < b.size; size++) {
            uint8_t *cut =
                malloc(size ? size : 1); /* so that tools see reads beyond it */
            memcpy(cut, b.data, size);
            bool whole = v1 && size == body;
            if (loads(cut, size, RV_VERIFY_ALWAYS) != whole)
                fail_msg("sample %zu cut to %zu of %zu bytes", s, size, b.size);
            assert_int_equal(loads(cut, size, RV_VERIFY_NEVER), whole);
            free(cut);
        }
        rv_index *index;
        rv_error error;
        assert_int_equal(rv_index_from_memory(b.data, b.size - 1, RV_VERIFY_NEVER, NULL,
                                              NULL, &index, &error),
                         RV_ERR_FORMAT);
        if (s < 12) { /* the block is there still and knows */
            assert_int_equal(error.expected, b.size);
            assert_int_equal(error.actual, b.size - 1);
        }
        uint8_t *longer = need(b.size + 64, 1); /* nor may anything be added */
        memcpy(longer, b.data, b.size);
        for (size_t more = 1; more <= 64; more++)
            assert_false(loads(longer, b.size + more, RV_VERIFY_ALWAYS));
        free(longer);
        free(b.data);
    }
}

/* ---- hostile bytes ---- */

static struct { size_t largest; } watched;

static void *watching_alloc(void *ctx, size_t bytes) {
    (void)ctx;
    if (bytes > watched.largest) watched.largest = bytes;
    return bytes > (size_t)64 << 20 ? NULL : malloc(bytes);
}

static void watching_release(void *ctx, void *memory) {
    (void)ctx;
    free(memory);
}

/* Uses an index whose bytes nobody vouches for in every way there is. */
static void use(rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    rv_memory_usage memory = RV_MEMORY_USAGE_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    assert_ok(rv_index_memory(index, &memory, err));
    float *row = need(info.dim, sizeof *row), scores[7];
    uint64_t ids[7];
    row[0] = 1;
    (void)rv_index_search(index, &(rv_queries){row, 1, info.dim}, 7, NULL,
                          &(rv_result){ids, scores}, NULL);
    (void)rv_index_get(index, 1, row, NULL);
    memset(row, 0, info.dim * sizeof *row);
    (void)rv_index_add(index, &(rv_rows){row, NULL, 1, info.dim}, NULL, NULL);
    (void)rv_index_remove(index, ids, 2, NULL, NULL);
    file_bytes b = bytes_of(index);
    (void)loads(b.data, b.size, RV_VERIFY_ALWAYS);
    free(b.data);
    free(row);
}

/* With the digest unread, every byte in turn is set to what liars write. */
static void lying_headers(void **state) {
    (void)state;
    static const rv_allocator watching = {watching_alloc, watching_release, NULL};
    static const uint8_t lies[] = {0, 1, 2, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff};
    for (size_t s = 0; s < N_SAMPLES; s += SAMPLE_STEP) {
        file_bytes b = sample(s);
        rv_set_allocator(&watching);
        for (size_t at = 0; at < b.size; at++) {
            for (size_t lie = 0; lie < sizeof lies; lie++) {
                uint8_t kept = b.data[at];
                b.data[at] = lies[lie];
                rv_index *index = NULL;
                watched.largest = 0;
                rv_status status = rv_index_from_memory(b.data, b.size, RV_VERIFY_NEVER,
                                                        NULL, NULL, &index, NULL);
                assert_true(watched.largest < 100000); /* files have some 1000 bytes */
                if (status == RV_OK) use(index);
                rv_index_free(index);
                b.data[at] = kept;
            }
        }
        rv_set_allocator(NULL);
        free(b.data);
    }
}

/* Where the block of a file of `n` rows of that kind of header starts. */
static size_t block_of(const file_bytes *b) {
    bool v1 = memcmp(b->data, "rbpx0001", 8) == 0;
    size_t dim = rvb_get_u32(b->data + 12), n = rvb_get_u32(b->data + (v1 ? 28 : 24));
    return (32 + (v1 ? n * (4 + 4 * dim) : 0) + 63) / 64 * 64;
}

/* Another number of bits is not believed, whatever else it makes of the sections. */
static void lying_widths(void **state) {
    (void)state;
    const uint32_t lies[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 255, UINT32_MAX};
    for (size_t s = 0; s < N_SAMPLES; s++) {
        file_bytes b = sample(s);
        uint8_t *block = b.data + block_of(&b);
        uint32_t bits = rvb_get_u32(block + 96);
        bool codes = rvb_get_u32(block + 44) & 1;
        assert_int_equal(bits > 0, codes);
        for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
            if (lies[i] == bits) continue;
            rvb_put_u32(block + 96, lies[i]);
            /* without rows there is nothing else that could tell */
            bool possible = s >= 12 && codes && lies[i] >= 1 && lies[i] <= 8;
            assert_int_equal(loads(b.data, b.size, RV_VERIFY_NEVER), possible);
            assert_false(loads(b.data, b.size, RV_VERIFY_ALWAYS));
        }
        free(b.data);
    }
}

/* Any number of lists to look into means something. */
static void any_default_nprobe(void **state) {
    (void)state;
    const uint32_t numbers[] = {
        0, 1, 2, 1000, RV_MAX_LISTS + 1, RV_ALL_LISTS - 1, RV_ALL_LISTS};
    for (size_t s = 0; s < 12; s++) {
        file_bytes b = sample(s);
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            rvb_put_u32(b.data + block_of(&b) + 100, numbers[i]);
            rv_index *index = loaded_from(b.data, b.size, RV_VERIFY_NEVER);
            rv_index_info info = RV_INDEX_INFO_DEFAULT;
            assert_ok(rv_index_get_info(index, &info, err));
            assert_int_equal(info.nprobe, numbers[i] ? numbers[i] : RV_ALL_LISTS);
            float query[33] = {1};
            answer a = answer_of(index, query, 1, info.dim, 6, NULL);
            assert_true(a.ids[4] != RV_NO_ID && a.ids[5] == RV_NO_ID);
            answer_free(&a);
            rv_index_free(index);
        }
        free(b.data);
    }
}

static void lying_version_1_headers(void **state) {
    (void)state;
    static const rv_allocator watching = {watching_alloc, watching_release, NULL};
    static const struct {
        size_t at;
        uint32_t value;
    } lies[] = {{8, 2},           {8, UINT32_MAX}, {12, 0},         {12, 8193},
                {12, UINT32_MAX}, {12, 8192},      {24, 1025},      {24, UINT32_MAX},
                {28, 3},          {28, 100000000}, {28, 100000001}, {28, UINT32_MAX}};
    uint8_t b[sizeof fixture];
    rv_set_allocator(&watching);
    watched.largest = 0;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(b, fixture, sizeof b);
        rvb_put_u32(b + lies[i].at, lies[i].value);
        assert_false(loads(b, sizeof b, RV_VERIFY_NEVER));
    }
    memcpy(b, fixture, sizeof b);
    for (size_t size = 0; size < sizeof b; size++)
        assert_false(loads(b, size, RV_VERIFY_NEVER));
    assert_true(watched.largest < 10000);
    rv_set_allocator(NULL);
    for (size_t i = 0; i < 8; i++) {
        b[i] ^= 0x20;
        assert_false(loads(b, sizeof b, RV_VERIFY_NEVER));
        b[i] ^= 0x20;
    }
}

/* Sections lie where the format says and have the size that follows from the counts. */
static void lying_section_tables(void **state) {
    (void)state;
    for (size_t s = 0; s < 12; s++) {
        file_bytes b = sample(s);
        uint8_t *block = b.data + block_of(&b), *entry = block + 128;
        assert_memory_equal(block, "RVXBLOCK", 8);
        for (size_t i = 0; i < rvb_get_u32(block + 12); i++, entry += 24) {
            uint64_t offset = rvb_get_u64(entry + 8), bytes = rvb_get_u64(entry + 16);
            const uint64_t offsets[] = {
                0,      offset - 64,     offset + 64,           offset + 4,
                b.size, UINT64_MAX - 63, UINT64_MAX - bytes + 1};
            const uint64_t sizes[] = {0,      bytes - 1,      bytes + 1,
                                      b.size, UINT64_MAX - 7, 0 - offset};
            for (size_t j = 0; j < 7; j++) {
                rvb_put_u64(entry + 8, offsets[j]);
                assert_false(loads(b.data, b.size, RV_VERIFY_NEVER));
            }
            rvb_put_u64(entry + 8, offset);
            for (size_t j = 0; j < 6; j++) {
                rvb_put_u64(entry + 16, sizes[j]);
                assert_false(loads(b.data, b.size, RV_VERIFY_NEVER));
            }
            rvb_put_u64(entry + 16, bytes);
            uint32_t tag = rvb_get_u32(entry);
            rvb_put_u32(entry, 0);
            assert_false(loads(b.data, b.size, RV_VERIFY_NEVER));
            rvb_put_u32(entry, tag);
        }
        rvb_put_u64(block + 48, 4); /* one row fewer, in both places */
        b.data[block > b.data + 64 ? 28 : 24] = 4;
        assert_false(loads(b.data, b.size, RV_VERIFY_NEVER));
        free(b.data);
    }
}

/* Means and centroids so large that arithmetic on them leaves float32. */
/* A file that says its vectors are in version-1 records, and has none: section 6 is
 * taken out of one with a native header. */
static void records_that_are_not_there(void **state) {
    (void)state;
    float *rows = normal_rows(1, 90, 20);
    rv_build_options o = options_for(RV_PLUS, RV_IP, 20);
    rv_index *index = build_with(&o, rows, NULL, 90);
    file_bytes b = bytes_of(index);
    uint8_t *block = b.data + block_of(&b), *table = block + 128;
    assert_int_equal(rvb_get_u32(block + 12), 8);
    assert_int_equal(rvb_get_u32(table + 5 * 24), 6);
    uint64_t at = rvb_get_u64(table + 5 * 24 + 8), next = rvb_get_u64(table + 6 * 24 + 8);
    memmove(b.data + at, b.data + next, b.size - next);
    b.size -= next - at;
    memmove(table + 5 * 24, table + 6 * 24, 2 * 24);
    memset(table + 7 * 24, 0, 24);
    for (size_t i = 5; i < 7; i++)
        rvb_put_u64(table + i * 24 + 8, rvb_get_u64(table + i * 24 + 8) - (next - at));
    rvb_put_u32(block + 12, 7);
    rvb_put_u64(block + 24, b.size);
    for (uint32_t flags = 0; flags < 64; flags++) {
        rvb_put_u32(block + 44, flags);
        assert_false(loads(b.data, b.size, RV_VERIFY_NEVER));
    }
    free(b.data);
    rv_index_free(index);
    free(rows);
}

/* Where a section begins. */
static size_t section_of(const file_bytes *b, uint32_t tag) {
    const uint8_t *block = b->data + block_of(b);
    for (uint32_t i = 0; i < rvb_get_u32(block + 12); i++)
        if (rvb_get_u32(block + 128 + 24 * i) == tag)
            return (size_t)rvb_get_u64(block + 128 + 24 * i + 8);
    fail_msg("no section %u", tag);
    return 0;
}

static bool loads_with(const file_bytes *b, size_t at, float value) {
    uint8_t before[sizeof value];
    memcpy(before, b->data + at, sizeof value);
    memcpy(b->data + at, &value, sizeof value);
    bool loaded = loads(b->data, b->size, RV_VERIFY_NEVER);
    memcpy(b->data + at, before, sizeof value);
    return loaded;
}

static void absurd_reaches(void **state) {
    (void)state;
    const float absurd[] = {-1e-9f, NAN, INFINITY, -INFINITY};
    const size_t n = 400, lists = 5;
    float *rows = normal_rows(1, n, 8);
    rv_build_options o = options_for(RV_PLUS, RV_COSINE, 8);
    o.n_lists = (uint32_t)lists;
    rv_index *index = build_with(&o, rows, NULL, n);
    file_bytes b = bytes_of(index);
    size_t spread = section_of(&b, RVX_SECTION_REACH), reach = spread + 4 * lists;
    for (size_t i = 0; i < 4; i++) {
        for (size_t l = 0; l < lists; l++)
            assert_false(loads_with(&b, spread + 4 * l, absurd[i]));
        for (size_t r = 0; r < RVX_PROBE_RADII; r++)
            assert_false(loads_with(&b, reach + 4 * r, absurd[i]));
    }
    assert_true(loads_with(&b, spread, 3e38f));
    assert_true(loads_with(&b, reach, 0));
    assert_false(loads_with(&b, reach, 3e38f)); /* above the next one */
    /* another metric has none */
    uint8_t *metric = b.data + block_of(&b) + 36;
    assert_int_equal(rvb_get_u32(metric), RV_COSINE);
    rvb_put_u32(metric, RV_IP);
    assert_false(loads(b.data, b.size, RV_VERIFY_NEVER));
    free(b.data);
    rv_index_free(index);
    free(rows);
}

/* Without the section, lists go by distance, as many as asked for. */
static void files_without_reaches(void **state) {
    (void)state;
    const size_t n = 400;
    float *rows = normal_rows(1, n, 8), *query = normal_rows(2, 1, 8);
    rv_build_options o = options_for(RV_PLUS, RV_L2, 8);
    o.n_lists = 5;
    rv_index *index = build_with(&o, rows, NULL, n), *loaded;
    rvb_free(index->quantizer->spread);
    index->quantizer->spread = NULL;
    file_bytes b = bytes_of(index);
    loaded = from_bytes(&b);
    assert_null(loaded->quantizer->spread);
    rv_search_options search = RV_SEARCH_DEFAULT;
    search.nprobe = 2;
    answer x = answer_of(index, query, 1, 8, 9, &search);
    answer y = answer_of(loaded, query, 1, 8, 9, &search);
    assert_same_answer(&x, &y);
    answer_free(&x);
    answer_free(&y);
    free(b.data);
    rv_index_free(index);
    rv_index_free(loaded);
    free(rows);
    free(query);
}

static void absurd_quantizers(void **state) {
    (void)state;
    const float absurd[] = {3e38f, 1e30f, -1e25f, NAN, INFINITY};
    const rv_metric metrics[] = {RV_L2, RV_IP, RV_COSINE};
    float *rows = normal_rows(1, 40, 8);
    for (size_t m = 0; m < 3; m++) {
        rv_build_options o = options_for(RV_PLUS, metrics[m], 8);
        o.n_lists = 2;
        rv_index *index = build_with(&o, rows, NULL, 40);
        file_bytes b = bytes_of(index);
        size_t mean = section_of(&b, RVX_SECTION_MEAN),
               centroids = section_of(&b, RVX_SECTION_CENTROIDS);
        for (size_t i = 0; i < 5; i++) {
            for (size_t where = 0; where < 2; where++) {
                file_bytes lie = {need(b.size, 1), b.size};
                memcpy(lie.data, b.data, b.size);
                memcpy(lie.data + (where ? centroids : mean), &absurd[i], sizeof *absurd);
                assert_false(loads(lie.data, lie.size, RV_VERIFY_NEVER));
                free(lie.data);
            }
        }
        free(b.data);
        rv_index_free(index);
    }
    free(rows);
}

/* ---- memory that comes from elsewhere ---- */

static void count_release(void *ctx) { ++*(int *)ctx; }

static void any_alignment(void **state) {
    (void)state;
    for (size_t s = 0; s < N_SAMPLES; s++) {
        file_bytes b = sample(s);
        rv_index *wanted = from_bytes(&b);
        for (size_t shift = 0; shift < 8; shift++) {
            uint8_t *memory = need(b.size + 8, 1);
            memcpy(memory + shift, b.data, b.size);
            int released = 0;
            rv_index *index = NULL;
            assert_ok(rv_index_from_memory(memory + shift, b.size, RV_VERIFY_ALWAYS,
                                           count_release, &released, &index, err));
            if (released) memset(memory, 0xee, b.size + 8); /* no longer needed */
            assert_true(rv_index_equal(index, wanted));
            file_bytes again = bytes_of(index);
            assert_same_bytes(&b, &again);
            free(again.data);
            rv_index_free(index);
            assert_int_equal(released, 1);
            free(memory);
        }
        rv_index_free(wanted);
        free(b.data);
    }
}

static void released_once_on_failure(void **state) {
    (void)state;
    file_bytes b = sample(2);
    uint8_t *memory = need(b.size + 8, 1);
    for (size_t shift = 0; shift < 2; shift++) {
        for (size_t bad = 0; bad < b.size; bad += 3) {
            memcpy(memory + shift, b.data, b.size);
            memory[shift + bad] ^= 4;
            int released = 0;
            rv_index *index = (rv_index *)memory;
            rv_status status =
                rv_index_from_memory(memory + shift, b.size, RV_VERIFY_ALWAYS,
                                     count_release, &released, &index, NULL);
            assert_int_not_equal(status, RV_OK);
            assert_null(index);
            assert_int_equal(released, 1);
        }
    }
    int released = 0;
    rv_index *index;
    assert_int_equal(rv_index_from_memory(NULL, 0, RV_VERIFY_ALWAYS, count_release,
                                          &released, &index, NULL),
                     RV_ERR_FORMAT);
    assert_int_equal(released, 1);
    free(memory);
    free(b.data);
}

/* A view keeps the memory it points into, not only the index. */
static void released_with_the_last_view(void **state) {
    (void)state;
    file_bytes b = sample(2);
    int released = 0;
    rv_index *index = NULL;
    rv_view view = RV_VIEW_DEFAULT;
    assert_ok(rv_index_from_memory(b.data, b.size, RV_VERIFY_ALWAYS, count_release,
                                   &released, &index, err));
    assert_ok(rv_index_view(index, &view, err));
    rv_index_free(index);
    assert_int_equal(released, 0);
    rv_view_release(&view);
    assert_int_equal(released, 1);
    free(b.data);
}

#ifndef _WIN32
/* Of a long path the error keeps the end, in whole characters. */
static void a_long_path_is_cut_between_characters(void **state) {
    (void)state;
    char name[101 * 2 + 1] = "", sub[PATH_BYTES], path[PATH_BYTES * 2];
    for (int i = 0; i < 100; i++) strcat(name, "\xc3\xa9"); /* e acute, two bytes */
    assert_int_equal(make_folder(NULL), 0);
    in_folder(sub, name);
    assert_int_equal(mkdir(sub, 0700), 0);
    for (int odd = 0; odd < 2; odd++) {
        snprintf(path, sizeof path, "%s/%s%s", sub, name, odd ? "x" : "");
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fputs("no index", f);
        fclose(f);
        rv_index *index = NULL;
        rv_error error = {0};
        assert_int_equal(rv_index_load(path, 0, RV_VERIFY_ALWAYS, &index, &error),
                         RV_ERR_FORMAT);
        size_t kept = strlen(error.path);
        assert_in_range(kept, sizeof error.path - 2, sizeof error.path - 1);
        assert_string_equal(error.path, path + strlen(path) - kept);
        assert_int_not_equal((unsigned char)error.path[0] & 0xC0, 0x80);
    }
    remove_folder(NULL);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1),
        cmocka_unit_test(version_1_variants),
        cmocka_unit_test(version_1_searches_like_a_built_one),
        cmocka_unit_test(repeated_ids),
        cmocka_unit_test(rows_that_are_not_finite),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(lying_headers),
        cmocka_unit_test(lying_widths),
        cmocka_unit_test(any_default_nprobe),
        cmocka_unit_test(lying_version_1_headers),
        cmocka_unit_test(lying_section_tables),
        cmocka_unit_test(records_that_are_not_there),
        cmocka_unit_test(absurd_quantizers),
        cmocka_unit_test(absurd_reaches),
        cmocka_unit_test(files_without_reaches),
        cmocka_unit_test(any_alignment),
        cmocka_unit_test(released_once_on_failure),
        cmocka_unit_test(released_with_the_last_view),
#ifndef _WIN32
        cmocka_unit_test(a_long_path_is_cut_between_characters),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
