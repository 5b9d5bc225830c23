/*
 * test_index.c - life of an index and what it tells about itself: build options, info,
 * rows, codes, equality, instruction sets, and bytes that depend on nothing else.
 */
#include "index_cases.h"

#include "index/index_i.h"

static const rv_kind kinds[] = {RV_FLAT, RV_RABITQ, RV_PLUS, RV_ASYM};

/* ---- building ---- */

static void options_left_out(void **state) {
    (void)state;
    const float rows[4] = {1, 2, 3, 4};
    rv_index *index, *same;
    rv_build_options o = RV_BUILD_DEFAULT;
    o.dim = 2;
    assert_ok(rv_index_build(NULL, &(rv_rows){rows, NULL, 2, 2}, &index, err));
    assert_ok(rv_index_build(&o, &(rv_rows){rows, NULL, 2, 2}, &same, err));
    assert_true(rv_index_equal(index, same));
    rv_index_free(same);
    rv_index_free(index);
}

static void bad_build_options(void **state) {
    (void)state;
    float rows[4] = {1, 2, 3, 4};
    rv_index *index = (rv_index *)rows; /* must become NULL */
    rv_build_options good = options_for(RV_PLUS, RV_L2, 2), o;
#define REFUSED(field, value)                                                            \
    do {                                                                                 \
        o = good;                                                                        \
        o.field = value;                                                                 \
        index = (rv_index *)rows;                                                        \
        assert_fails(RV_ERR_ARGUMENT,                                                    \
                     rv_index_build(&o, &(rv_rows){rows, NULL, 2, o.dim}, &index, err)); \
        assert_null(index);                                                              \
    } while (0)
    REFUSED(size, 0);
    REFUSED(size, sizeof o - 1);
    REFUSED(size, sizeof o + 1);
    REFUSED(kind, (rv_kind)4);
    REFUSED(metric, (rv_metric)3);
    REFUSED(dim, 0);
    REFUSED(dim, RV_MAX_DIM + 1);
    REFUSED(dim, UINT32_MAX);
    REFUSED(n_lists, 65);
    REFUSED(n_lists, RV_MAX_LISTS + 1);
    REFUSED(n_lists, UINT32_MAX);
    REFUSED(bits, 0);
    REFUSED(bits, RVX_MAX_BITS + 1);
    REFUSED(bits, UINT32_MAX);
    REFUSED(rerank_factor, 1025);
    REFUSED(epsilon, 0);
    REFUSED(epsilon, -1.9f);
    REFUSED(epsilon, NAN);
    REFUSED(epsilon, INFINITY);
    assert_fails(RV_ERR_DIM,
                 rv_index_build(&good, &(rv_rows){rows, NULL, 2, 1}, &index, err));
    assert_null(index);
    assert_fails(RV_ERR_ARGUMENT,
                 rv_index_build(NULL, &(rv_rows){rows, NULL, 2, 0}, &index, err));
    assert_null(index);
    uint64_t twins[] = {4, 4};
    assert_fails(
        RV_ERR_DUPLICATE,
        rv_index_build(&good, &(rv_rows){rows, twins, 2, good.dim}, &index, err));
    assert_null(index);
    rows[3] = NAN;
    rv_error error;
    assert_int_equal(
        rv_index_build(&good, &(rv_rows){rows, NULL, 2, good.dim}, &index, &error),
        RV_ERR_VALUE);
    assert_int_equal(error.actual, 1); /* the row */
    assert_non_null(strstr(error.message, "position 1"));
    assert_int_equal(
        rv_index_build(&good, &(rv_rows){rows, NULL, 2, good.dim}, &index, NULL),
        RV_ERR_VALUE);
    rv_index_free(NULL);
}

static void values_out_of_range(void **state) {
    (void)state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 3e38f, -0x1.8p56f};
    for (size_t kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < 6; i++) {
            float *rows = normal_rows(1, 3000, 7);
            rv_index *index;
            rows[2999 * 7 + 6] = bad[i];
            rv_build_options o = options_for(kinds[kind], RV_COSINE, 7);
            assert_fails(
                RV_ERR_VALUE,
                rv_index_build(&o, &(rv_rows){rows, NULL, 3000, o.dim}, &index, err));
            assert_null(index);
            rows[2999 * 7 + 6] = 0x1p56f; /* the largest there is */
            memset(rows + 2999 * 7, 0, 6 * sizeof *rows);
            rv_index_free(build_with(&o, rows, NULL, 3000));
            free(rows);
        }
    }
}

static void info_tells_the_options(void **state) {
    (void)state;
    float *rows = normal_rows(1, 5000, 33);
    for (size_t kind = 0; kind < 4; kind++) {
        for (uint32_t factor = 0; factor <= 2; factor++) {
            rv_build_options o = options_for(kinds[kind], RV_IP, 33);
            o.rerank_factor = factor;
            o.epsilon = 2.5f;
            o.seed = UINT64_C(0x1122334455667788);
            bool codes = kinds[kind] != RV_FLAT;
            bool vectors = kinds[kind] == RV_FLAT || kinds[kind] == RV_PLUS ||
                           (kinds[kind] == RV_ASYM && factor == 2);
            for (size_t n = 0; n <= 5000; n += 5000) {
                rv_index *index = build_with(&o, rows, NULL, n);
                rv_index_info info = RV_INDEX_INFO_DEFAULT;
                assert_ok(rv_index_get_info(index, &info, err));
                assert_int_equal(info.kind, kinds[kind]);
                assert_int_equal(info.metric, RV_IP);
                assert_int_equal(info.dim, 33);
                assert_int_equal(info.bits, codes ? 1 : 0);
                assert_int_equal(info.code_bytes, codes ? 8 : 0);
                assert_true(info.nprobe == RV_ALL_LISTS);
                assert_int_equal(info.rerank_factor, factor);
                assert_true(info.epsilon == 2.5f);
                assert_int_equal(info.seed, o.seed);
                assert_int_equal(!!info.has_vectors, vectors);
                assert_int_equal(info.n, n);
                assert_int_equal(info.dead, 0);
                assert_int_equal(info.next_id, n);
                assert_int_equal(info.n_lists, codes ? (n ? rvx_auto_lists(n) : 1) : 0);
                rv_index_free(index);
            }
        }
    }
    rv_build_options o = options_for(RV_PLUS, RV_L2, 33);
    o.n_lists = 17;
    rv_index *index = build_with(&o, rows, NULL, 5000);
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    assert_int_equal(info.n_lists, 17);
    rv_index_free(index);
    free(rows);
}

static uint32_t lists_of(const rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    return info.n_lists;
}

/* Up to RV_SMALL_LISTS on any number of rows, more with RVK_BLOCK rows each. */
static void how_many_lists(void **state) {
    (void)state;
    const size_t n = 66 * 64;
    float *rows = normal_rows(1, n, 2);
    for (size_t kind = 0; kind < 2; kind++) {
        bool codes = kinds[kind] != RV_FLAT;
        rv_build_options o = options_for(kinds[kind], RV_L2, 2);
        static const struct {
            uint32_t asked;
            size_t rows;
            uint32_t made; /* 0 = refused */
        } cases[] = {{0, 10, 1},
                     {1, 10, 1},
                     {64, 10, 10},
                     {64, 64, 64},
                     {64, 65 * 64, 64},
                     {65, 64, 0},
                     {65, 65 * 64 - 1, 0},
                     {65, 65 * 64, 65},
                     {66, 65 * 64 + 63, 0},
                     {66, 66 * 64, 66},
                     {RV_MAX_LISTS, 66 * 64, 0}};
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            o.n_lists = cases[i].asked;
            if (codes && cases[i].made == 0) {
                rv_index *index = NULL;
                rv_error error;
                assert_int_equal(
                    rv_index_build(&o, &(rv_rows){rows, NULL, cases[i].rows, o.dim},
                                   &index, &error),
                    RV_ERR_ARGUMENT);
                assert_null(index);
                assert_int_equal(error.expected, cases[i].rows / 64);
                assert_int_equal(error.actual, cases[i].asked);
                continue;
            }
            rv_index *index = build_with(&o, rows, NULL, cases[i].rows);
            assert_int_equal(lists_of(index), codes ? cases[i].made : 0);
            rv_index_free(index);
        }
    }
    free(rows);
}

/* Empty, it takes the number at its word; with rows it makes what they allow, and more
 * of them when it is trained again. */
static void many_lists_for_rows_to_come(void **state) {
    (void)state;
    const size_t dim = 3, n = 8000;
    float *rows = normal_rows(1, n, dim);
    rv_build_options o = options_for(RV_PLUS, RV_L2, dim);
    o.n_lists = 100;
    o.epsilon = 1000;
    rv_index *flat = build(RV_FLAT, RV_L2, dim, rows, NULL, n);
    rv_index *index = build_with(&o, NULL, NULL, 0);
    assert_int_equal(lists_of(index), 100);
    assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 50, 3}, NULL, err));
    assert_int_equal(lists_of(index), 50);
    assert_ok(
        rv_index_add(index, &(rv_rows){rows + 50 * dim, NULL, 2000 - 50, 3}, NULL, err));
    assert_int_equal(lists_of(index), 64);
    assert_ok(
        rv_index_add(index, &(rv_rows){rows + 2000 * dim, NULL, n - 2000, 3}, NULL, err));
    assert_int_equal(lists_of(index), 100);
    answer a = answer_of(index, rows, 20, dim, 10, NULL);
    answer b = answer_of(flat, rows, 20, dim, 10, NULL);
    assert_same_answer(&a, &b);
    answer_free(&a);
    answer_free(&b);
    rv_index_free(index);
    rv_index_free(flat);
    o.n_lists = RV_MAX_LISTS; /* costs no more than the lists there are */
    index = build_with(&o, NULL, NULL, 0);
    assert_int_equal(lists_of(index), RV_MAX_LISTS);
    assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 1000, 3}, NULL, err));
    assert_int_equal(lists_of(index), 64);
    rv_index_free(index);
    free(rows);
}

typedef struct watch {
    uint64_t calls, done, total, stop_at;
} watch;

static int watching(void *ctx, uint64_t done, uint64_t total) {
    watch *w = ctx;
    assert_true(done >= w->done && done <= total);
    assert_true(w->total == 0 || w->total == total);
    w->done = done;
    w->total = total;
    return ++w->calls == w->stop_at;
}

static void building_reports_and_stops(void **state) {
    (void)state;
    const size_t n = 20000;
    float *rows = normal_rows(1, n, 32);
    for (size_t kind = 0; kind < 4; kind++) {
        rv_build_options o = options_for(kinds[kind], RV_L2, 32);
        watch w = {0};
        rv_progress progress = {watching, &w};
        o.progress = &progress;
        rv_index_free(build_with(&o, rows, NULL, n));
        assert_true(w.calls > 0);
        assert_int_equal(w.done, n); /* the last call says all */
        assert_int_equal(w.total, n);
        rv_index *index = NULL;
        w = (watch){.stop_at = 1};
        assert_fails(RV_ERR_CANCELLED,
                     rv_index_build(&o, &(rv_rows){rows, NULL, n, o.dim}, &index, err));
        assert_null(index);
        assert_int_equal(w.calls, 1); /* not asked again */
    }
    free(rows);
}

/* ---- the same bytes ---- */

static void bytes_depend_on_the_input_alone(void **state) {
    (void)state;
    const size_t n = sized(4800), dim = 70;
    float *rows = clustered_rows(3, n, dim);
    uint64_t *ids = scattered_ids(3, n);
    for (size_t kind = 0; kind < 4; kind++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            file_bytes first = {0};
            rv_build_options o = options_for(kinds[kind], (rv_metric)metric, dim);
            if (kinds[kind] == RV_PLUS) o.bits = 2u << metric;
            if (kinds[kind] == RV_ASYM) o.bits = 3;
            if (metric == RV_IP && kind == 1) o.n_lists = (uint32_t)(n / 70);
            for (size_t isa = 0; isa_at(isa); isa++) {
                for (unsigned threads = 1; threads <= 5; threads += 4) {
                    if (isa > 0 && (isa % 2) == (threads == 1)) continue;
                    assert_ok(rv_isa_force(isa_at(isa), err));
                    assert_ok(rv_set_num_threads(threads, err));
                    rv_index *index = build_with(&o, rows, ids, n);
                    answer a =
                        answer_of(index, rows, 1, dim, 1, NULL); /* leaves no trace */
                    answer_free(&a);
                    file_bytes b = bytes_of(index);
                    rv_index_free(index);
                    if (!first.data) {
                        first = b;
                        continue;
                    }
                    assert_same_bytes(&first, &b);
                    free(b.data);
                }
            }
            o.seed++;
            rv_index *other = build_with(&o, rows, ids, n);
            file_bytes b = bytes_of(other);
            assert_int_equal(b.size, first.size);
            assert_memory_not_equal(b.data, first.data, b.size);
            free(b.data);
            free(first.data);
            rv_index_free(other);
        }
    }
    assert_ok(rv_isa_force(NULL, err));
    assert_ok(rv_set_num_threads(0, err));
    free(rows);
    free(ids);
}

/* ---- instruction sets ---- */

static void instruction_sets(void **state) {
    (void)state;
    const char *names[8] = {0};
    size_t n = rv_isa_available(names, 8);
    assert_true(n >= 1 && n <= 8);
    assert_int_equal(rv_isa_available(NULL, 0), n);
    const char *best = rv_isa_active();
    for (size_t i = 0; i < n; i++) {
        assert_ok(rv_isa_force(names[i], err));
        assert_string_equal(rv_isa_active(), names[i]);
        assert_fails(RV_ERR_ARGUMENT, rv_isa_force("abacus", err));
        assert_string_equal(rv_isa_active(), names[i]);
    }
    assert_ok(rv_isa_force(NULL, err));
    assert_string_equal(rv_isa_active(), best);
    assert_true(rv_version()[0] != 0);
}

/* ---- rows ---- */

/* A code is the signs of the rotated residual; with one list, of P(v - mean). */
static void codes_are_signs(void **state) {
    (void)state;
    const size_t n = 200, dim = 45, code_bytes = 8;
    float *rows = clustered_rows(1, n, dim), y[64];
    uint8_t *codes = need(n, code_bytes);
    rv_index *index = build(RV_RABITQ, RV_L2, dim, rows, NULL, n);
    assert_ok(rv_index_copy_rows(index, 0, n, NULL, NULL, codes, NULL, err));
    for (size_t i = 0; i < n; i++) {
        rvx_quantizer_rotate(index->quantizer, rvk_ops_active(), rows + i * dim, 1, y);
        for (size_t j = 0; j < 64; j++)
            assert_int_equal(codes[i * code_bytes + j / 8] >> (j % 8) & 1, y[j] > 0);
    }
    rv_index_free(index);
    rv_index *flat = build(RV_FLAT, RV_L2, dim, rows, NULL, n);
    assert_fails(RV_ERR_ARGUMENT,
                 rv_index_copy_rows(flat, 0, n, NULL, NULL, codes, NULL, err));
    rv_index_free(flat);
    free(rows);
    free(codes);
}

/* Planes from the sign down, read as one number X per dimension: X - (2^bits - 1)/2 has
 * the sign of the rotated residual and grows with it. */
static void codes_are_planes(void **state) {
    (void)state;
    const size_t n = 100, dim = 45, padded = 64;
    float *rows = clustered_rows(1, n, dim), y[64];
    for (unsigned bits = 1; bits <= RVX_MAX_BITS; bits++) {
        rv_build_options o = options_for(bits % 2 ? RV_RABITQ : RV_PLUS, RV_L2, dim);
        o.bits = bits;
        rv_index *index = build_with(&o, rows, NULL, n);
        rv_index_info info = RV_INDEX_INFO_DEFAULT;
        assert_ok(rv_index_get_info(index, &info, err));
        assert_int_equal(info.bits, bits);
        assert_int_equal(info.code_bytes, bits * padded / 8);
        uint8_t *codes = need(n, info.code_bytes);
        assert_ok(rv_index_copy_rows(index, 0, n, NULL, NULL, codes, NULL, err));
        for (size_t i = 0; i < n; i++) {
            const uint8_t *code = codes + i * info.code_bytes;
            double number[64];
            rvx_quantizer_rotate(index->quantizer, rvk_ops_active(), rows + i * dim, 1,
                                 y);
            for (size_t j = 0; j < padded; j++) {
                unsigned x = 0;
                for (unsigned p = 0; p < bits; p++)
                    x = 2 * x + (code[p * padded / 8 + j / 8] >> (j % 8) & 1);
                number[j] = x - 0.5 * ((1u << bits) - 1);
                assert_int_equal(number[j] > 0, y[j] > 0);
            }
            for (size_t j = 0; j < padded; j++)
                for (size_t other = 0; other < j; other++)
                    assert_true(number[j] == number[other] ||
                                (number[j] > number[other]) == (y[j] > y[other]));
        }
        free(codes);
        rv_index_free(index);
    }
    free(rows);
}

static uint64_t changes_of(const rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    return info.changes;
}

/* Rows that were taken out and put back with the same ids are told apart from rows
 * nobody touched. */
static void every_change_is_counted(void **state) {
    (void)state;
    const uint64_t last = 9;
    float *rows = normal_rows(1, 10, 3);
    rv_index *index = build(RV_PLUS, RV_L2, 3, rows, NULL, 10);
    uint64_t at[5] = {changes_of(index)};
    assert_ok(rv_index_remove(index, &last, 1, NULL, err));
    at[1] = changes_of(index);
    assert_ok(rv_index_vacuum(index, err));
    at[2] = changes_of(index);
    assert_ok(rv_index_add(index, &(rv_rows){rows, &last, 1, 3}, NULL, err));
    at[3] = changes_of(index);
    assert_ok(rv_index_upsert(index, &(rv_rows){rows, &last, 1, 3}, NULL, err));
    at[4] = changes_of(index);
    for (size_t i = 1; i < 5; i++) assert_true(at[i] > at[i - 1]);
    rv_index_free(index);
    free(rows);
}

/* An id that stands twice is found twice, also after a round trip through bytes. */
static void repeated_ids(void **state) {
    (void)state;
    const uint64_t ids[4] = {5, 9, 5, 1}, five = 5;
    const float rows[4] = {0, 1, 2, 3}, query = 0.9f;
    rv_build_options o = RV_BUILD_DEFAULT;
    o.dim = 1;
    rv_index *index;
    assert_fails(RV_ERR_DUPLICATE,
                 rv_index_build(&o, &(rv_rows){rows, ids, 4, o.dim}, &index, err));
    o.repeated_ids = 1;
    assert_ok(rv_index_build(&o, &(rv_rows){rows, ids, 4, o.dim}, &index, err));
    uint64_t size = rv_index_serialized_size(index), found[4], removed;
    float scores[4];
    void *bytes = need(size, 1);
    assert_ok(rv_index_serialize(index, bytes, size, err));
    rv_index *loaded;
    assert_ok(
        rv_index_from_memory(bytes, size, RV_VERIFY_ALWAYS, free, bytes, &loaded, err));
    rv_index *both[2] = {index, loaded};
    for (int i = 0; i < 2; i++) {
        assert_ok(rv_index_search(both[i], &(rv_queries){&query, 1, 1}, 4, NULL,
                                  &(rv_result){found, scores}, err));
        assert_int_equal(found[0], 9);
        assert_int_equal(found[1], 5);
        assert_int_equal(found[2], 5);
        assert_int_equal(found[3], 1);
        assert_fails(RV_ERR_DUPLICATE,
                     rv_index_add(both[i], &(rv_rows){rows, &five, 1, 1}, NULL, err));
        assert_ok(rv_index_remove(both[i], &five, 1, &removed, err));
        assert_int_equal(removed, 2);
    }
    rv_index_free(index);
    rv_index_free(loaded);
}

static void owners_share_an_index(void **state) {
    (void)state;
    const float row = 1;
    rv_index *index = build(RV_FLAT, RV_L2, 1, &row, NULL, 1);
    rv_index *shared = rv_index_retain(index);
    rv_index_free(index);
    assert_true(rv_index_contains(shared, 0));
    rv_index_free(shared);
}

static void ranges_of_rows(void **state) {
    (void)state;
    float *rows = normal_rows(1, 10, 3), got[30];
    uint64_t ids[10];
    rv_index *index = build(RV_PLUS, RV_L2, 3, rows, NULL, 10);
    const uint64_t bad[][2] = {
        {11, 0},         {10, 1},         {0, 11},         {5, 6},
        {UINT64_MAX, 1}, {1, UINT64_MAX}, {UINT64_MAX, 0}, {2, UINT64_MAX - 1}};
    for (size_t i = 0; i < 8; i++)
        assert_fails(RV_ERR_NOT_FOUND, rv_index_copy_rows(index, bad[i][0], bad[i][1],
                                                          ids, NULL, NULL, NULL, err));
    assert_ok(rv_index_copy_rows(index, 10, 0, ids, NULL, NULL, NULL, err));
    assert_ok(rv_index_copy_rows(index, 0, 10, NULL, NULL, NULL, NULL, err));
    assert_ok(rv_index_remove(index, (uint64_t[]){0, 4, 9}, 3, NULL, err));
    assert_ok(rv_index_copy_rows(index, 2, 3, ids, NULL, NULL, got, err));
    for (size_t i = 0; i < 3; i++) { /* 1 2 3 5 6 7 8 are left */
        const uint64_t left[] = {3, 5, 6};
        assert_int_equal(ids[i], left[i]);
        assert_memory_equal(got + 3 * i, rows + 3 * left[i], 3 * sizeof *rows);
    }
    assert_ok(rv_index_copy_rows(index, 7, 0, ids, NULL, NULL, NULL, err));
    assert_fails(RV_ERR_NOT_FOUND,
                 rv_index_copy_rows(index, 0, 8, ids, NULL, NULL, NULL, err));
    rv_index_free(index);
    rv_index *codes = build(RV_RABITQ, RV_L2, 3, rows, NULL, 10);
    assert_fails(RV_ERR_NO_VECTORS,
                 rv_index_copy_rows(codes, 0, 10, NULL, NULL, NULL, got, err));
    rv_index_free(codes);
    free(rows);
}

/* ---- equality ---- */

static void equality(void **state) {
    (void)state;
    const size_t n = 100, dim = 6;
    float *rows = normal_rows(1, n, dim);
    uint64_t *ids = scattered_ids(1, n);
    for (size_t kind = 0; kind < 4; kind++) {
        rv_build_options o = options_for(kinds[kind], RV_L2, dim);
        rv_index *a = build_with(&o, rows, ids, n), *b = build_with(&o, rows, ids, n);
        assert_true(rv_index_equal(a, a) && rv_index_equal(a, b) && rv_index_equal(b, a));
        assert_ok(rv_index_remove(b, ids + 7, 1, NULL, err));
        assert_false(rv_index_equal(a, b));
        assert_ok(rv_index_remove(a, ids + 7, 1, NULL, err));
        assert_true(rv_index_equal(a, b));
        assert_ok(rv_index_vacuum(b, err)); /* how rows lie does not count */
        assert_true(rv_index_equal(a, b) && rv_index_equal(b, a));
        file_bytes bytes = bytes_of(a);
        rv_index *c = from_bytes(&bytes);
        assert_true(rv_index_equal(a, c));
        assert_ok(
            rv_index_remove(c, ids + n - 1, 1, NULL, err)); /* one fewer at the end */
        assert_false(rv_index_equal(a, c));
        assert_false(rv_index_equal(c, a));
        rv_index_free(c);
        free(bytes.data);
        rv_index_free(b);

        rv_build_options other[9];
        size_t n_other = kinds[kind] == RV_FLAT ? 6 : kinds[kind] == RV_RABITQ ? 8 : 9;
        for (size_t i = 0; i < 9; i++) other[i] = o;
        other[8].originals_bits = 16;
        other[6].bits = 2;
        other[7].n_lists = 1;
        other[0].kind = (rv_kind)((kinds[kind] + 1) % 4);
        other[1].metric = RV_IP;
        other[2].dim = 5;
        other[3].seed++;
        other[4].epsilon = 2;
        other[5].rerank_factor = 7;
        for (size_t i = 0; i < n_other; i++) {
            b = build_with(&other[i], rows, ids, n);
            assert_ok(rv_index_remove(b, ids + 7, 1, NULL, err));
            assert_false(rv_index_equal(a, b));
            assert_false(rv_index_equal(b, a));
            rv_index_free(b);
        }
        uint64_t swapped[100];
        memcpy(swapped, ids, sizeof swapped);
        swapped[50] = ids[51];
        swapped[51] = ids[50];
        b = build_with(&o, rows, swapped, n); /* ids elsewhere */
        assert_ok(rv_index_remove(b, ids + 7, 1, NULL, err));
        assert_false(rv_index_equal(a, b));
        rv_index_free(b);
        float kept = rows[99 * dim];
        rows[99 * dim] = -kept;
        b = build_with(&o, rows, ids, n); /* one number in one vector */
        assert_ok(rv_index_remove(b, ids + 7, 1, NULL, err));
        assert_false(rv_index_equal(a, b));
        rows[99 * dim] = kept;
        rv_index_free(a);
        rv_index_free(b);
    }
    free(rows);
    free(ids);
}

static uint64_t words_passed(const rv_index *index) { return index->cursor >> 32; }

/* Every third row is removed, so row i of those that live had number i + i / 2 + 1. */
static void pages_of_rows_are_one_walk(void **state) {
    (void)state;
    enum { N = 30000, LIVE = 20000, PAGE = 64 };
    float *rows = need(N, sizeof *rows);
    uint64_t *gone = need(N / 3, sizeof *gone), ids[PAGE], passed = 0;
    for (size_t i = 0; i < N / 3; i++) gone[i] = 3 * i;
    rv_build_options o = options_for(RV_FLAT, RV_L2, 1);
    rv_index *index = build_with(&o, rows, NULL, N);
    assert_ok(rv_index_copy_rows(index, N - 1, 1, ids, NULL, NULL, NULL, err));
    assert_int_equal(ids[0], N - 1);
    assert_int_equal(words_passed(index), 0); /* nothing is removed: nothing to pass */
    assert_ok(rv_index_remove(index, gone, N / 3, NULL, err));
    for (size_t at = 0; at < LIVE; at += PAGE) {
        size_t count = LIVE - at < PAGE ? LIVE - at : PAGE;
        assert_ok(rv_index_copy_rows(index, at, count, ids, NULL, NULL, NULL, err));
        for (size_t i = 0; i < count; i++)
            assert_int_equal(ids[i], at + i + (at + i) / 2 + 1);
        assert_true(words_passed(index) >= passed);
        passed = words_passed(index);
        assert_int_equal(passed, ids[0] / 64);
    }
    /* backwards, at the end, behind rows that came, and after others have gone */
    for (size_t at = LIVE; at-- > 0;) {
        assert_ok(rv_index_copy_rows(index, at, 1, ids, NULL, NULL, NULL, err));
        assert_int_equal(ids[0], at + at / 2 + 1);
        if (at == LIVE - 50) break;
    }
    assert_ok(rv_index_copy_rows(index, LIVE, 0, ids, NULL, NULL, NULL, err));
    assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 1, 1}, NULL, err));
    assert_ok(rv_index_copy_rows(index, LIVE, 1, ids, NULL, NULL, NULL, err));
    assert_int_equal(ids[0], N);
    uint64_t first = 1;
    assert_ok(rv_index_remove(index, &first, 1, NULL, err));
    assert_int_equal(words_passed(index), 0);
    assert_ok(rv_index_copy_rows(index, LIVE - 1, 1, ids, NULL, NULL, NULL, err));
    assert_int_equal(ids[0], N);
    rv_index_free(index);
    free(gone);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_left_out),
        cmocka_unit_test(bad_build_options),
        cmocka_unit_test(values_out_of_range),
        cmocka_unit_test(info_tells_the_options),
        cmocka_unit_test(how_many_lists),
        cmocka_unit_test(many_lists_for_rows_to_come),
        cmocka_unit_test(building_reports_and_stops),
        cmocka_unit_test(bytes_depend_on_the_input_alone),
        cmocka_unit_test(instruction_sets),
        cmocka_unit_test(codes_are_signs),
        cmocka_unit_test(codes_are_planes),
        cmocka_unit_test(every_change_is_counted),
        cmocka_unit_test(repeated_ids),
        cmocka_unit_test(owners_share_an_index),
        cmocka_unit_test(ranges_of_rows),
        cmocka_unit_test(pages_of_rows_are_one_walk),
        cmocka_unit_test(equality),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
