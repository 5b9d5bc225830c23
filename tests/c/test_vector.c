/*
 * test_vector.c - padded dimensions, and indexes that keep their vectors in binary16:
 * they answer as indexes of the rounded vectors do, on every instruction set, and say
 * what does not fit.
 */
#include "index_cases.h"

#include "index/index_i.h"

/* The nearest half, of two the even one, from the spacing of halves: the arithmetic of
 * doubles rounds, not ours. */
static float rounded(float v) {
    int exponent;
    frexp((double)v, &exponent);
    double step = ldexp(1, (exponent < -13 ? -13 : exponent) - 11);
    return (float)(nearbyint((double)v / step) * step);
}

static float *rounded_rows(const float *rows, size_t n) {
    float *out = need(n, sizeof *out);
    for (size_t i = 0; i < n; i++) out[i] = rounded(rows[i]);
    return out;
}

static rv_build_options halves_for(rv_kind kind, rv_metric metric, size_t dim,
                                   uint32_t bits) {
    rv_build_options o = coded_options(kind, metric, dim, bits, 0);
    o.originals_bits = 16;
    return o;
}

static const rv_kind kinds[] = {RV_PLUS, RV_ASYM};

static void padded_to_the_next_multiple_of_32(void **state) {
    (void)state;
    assert_int_equal(rvx_padded_dim(1), 32);
    assert_int_equal(rvx_padded_dim(32), 32);
    assert_int_equal(rvx_padded_dim(33), 64);
    assert_int_equal(rvx_padded_dim(768), 768);
    assert_int_equal(rvx_padded_dim(RV_MAX_DIM), RV_MAX_DIM);
}

/* ---- answers ---- */

static void assert_same_rows(const rv_index *a, const rv_index *b) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(b, &info, err));
    size_t n = info.n, dim = info.dim;
    float *va = need(2 * n * dim, sizeof *va), *vb = va + n * dim;
    float *na = need(2 * n, sizeof *na), *nb = na + n;
    uint8_t *ca = need(2 * n, info.code_bytes), *cb = ca + n * info.code_bytes;
    uint64_t *ids = need(n, sizeof *ids);
    assert_ok(rv_index_copy_rows(b, 0, n, ids, nb, cb, vb, err));
    assert_ok(rv_index_copy_rows(a, 0, n, ids, na, ca, va, err));
    assert_memory_equal(va, vb, n * dim * sizeof *va);
    assert_memory_equal(na, nb, n * sizeof *na);
    assert_memory_equal(ca, cb, n * info.code_bytes);
    for (size_t i = 0; i < n; i++) {
        assert_ok(rv_index_get(a, ids[i], va, err));
        assert_memory_equal(va, vb + i * dim, dim * sizeof *va);
    }
    free(va);
    free(na);
    free(ca);
    free(ids);
}

static void assert_same_answers(const rv_index *a, const rv_index *b,
                                const float *queries, size_t m, size_t dim) {
    rv_search_options o = RV_SEARCH_DEFAULT;
    for (int i = 0; i < 4; i++) {
        if (i == 1) o.nprobe = 2;
        if (i == 2) o.max_rerank = 30;
        if (i == 3) o = (rv_search_options){.size = sizeof o, .epsilon = 1e6f};
        answer x = answer_of(a, queries, m, dim, 9, &o);
        answer y = answer_of(b, queries, m, dim, 9, &o);
        assert_same_answer(&x, &y);
        answer_free(&x);
        answer_free(&y);
    }
}

static void assert_exact(const rv_index *index, rv_metric metric, const float *rows,
                         const uint64_t *ids, size_t n, const float *queries, size_t m,
                         size_t dim) {
    rv_search_options all = RV_SEARCH_DEFAULT;
    all.epsilon = 1e6f;
    answer a = answer_of(index, queries, m, dim, 20, &all);
    exact_hit *hits = need(n, sizeof *hits);
    for (size_t i = 0; i < m; i++) {
        oracle(metric, rows, ids, NULL, n, dim, queries + i * dim, hits);
        assert_is_exact(&a, i, metric, hits, n, 1e-3);
    }
    free(hits);
    answer_free(&a);
}

static void an_index_of_the_rounded_rows(void **state) {
    (void)state;
    static const size_t dims[] = {1, 19, 32, 70};
    const size_t n = sized(1500), m = 12;
    for (size_t d = 0; d < 4; d++) {
        size_t dim = dims[d];
        float *rows = clustered_rows(d + 1, n, dim), *queries = normal_rows(9, m, dim);
        for (size_t j = 0; j < 3 * dim; j++) rows[j] *= 1e-6f; /* subnormal halves */
        memset(rows + 5 * dim, 0, dim * sizeof *rows);
        float *exact = rounded_rows(rows, n * dim);
        uint64_t *ids = scattered_ids(d, n);
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            uint32_t bits = d % 2 ? 3 : 1;
            rv_build_options o =
                halves_for(kinds[metric % 2], (rv_metric)metric, dim, bits);
            rv_index *index = build_with(&o, rows, ids, n);
            o.originals_bits = 32;
            rv_index *plain = build_with(&o, exact, ids, n);
            assert_same_rows(index, plain);
            assert_same_answers(index, plain, queries, m, dim);
            assert_exact(index, (rv_metric)metric, exact, ids, n, queries, m, dim);
            assert_false(rv_index_equal(index, plain));
            file_bytes b = bytes_of(index);
            rv_index *again = from_bytes(&b);
            assert_true(rv_index_equal(index, again));
            assert_same_answers(again, plain, queries, m, dim);
            rv_index_free(again);
            free(b.data);
            rv_index_free(plain);
            rv_index_free(index);
        }
        free(rows);
        free(queries);
        free(exact);
        free(ids);
    }
}

/* Grows until it is trained anew, from the rows it has. */
static void changes_as_of_rounded_rows(void **state) {
    (void)state;
    const size_t n = 1200, dim = 21;
    float *rows = clustered_rows(3, n, dim), *exact = rounded_rows(rows, n * dim);
    uint64_t gone[] = {4, 60, 61}, replaced[] = {7, 5000};
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        rv_build_options o = halves_for(RV_PLUS, (rv_metric)metric, dim, 2);
        rv_index *index[2];
        for (int i = 0; i < 2; i++) {
            const float *from = i ? exact : rows;
            index[i] = build_with(&o, from, NULL, 70);
            assert_ok(rv_index_remove(index[i], gone, 3, NULL, err));
            assert_ok(rv_index_upsert(
                index[i], &(rv_rows){from + 70 * dim, replaced, 2, 21}, NULL, err));
            assert_ok(rv_index_add(
                index[i], &(rv_rows){from + 72 * dim, NULL, n - 72, 21}, NULL, err));
            o.originals_bits = 32;
        }
        for (int vacuumed = 0; vacuumed < 2; vacuumed++) {
            assert_same_rows(index[0], index[1]);
            assert_same_answers(index[0], index[1], rows, 10, dim);
            for (int i = 0; i < 2; i++) assert_ok(rv_index_vacuum(index[i], err));
        }
        for (int i = 0; i < 2; i++) rv_index_free(index[i]);
    }
    free(rows);
    free(exact);
}

static void the_same_on_every_machine(void **state) {
    (void)state;
    const size_t n = sized(3000), dim = 45, m = 30;
    float *rows = clustered_rows(4, n, dim);
    rv_build_options o = halves_for(RV_PLUS, RV_L2, dim, 1);
    file_bytes first = {0};
    answer wanted = {0};
    for (size_t isa = 0; isa_at(isa); isa++) {
        for (unsigned threads = 1; threads <= 4; threads += 3) {
            assert_ok(rv_isa_force(isa_at(isa), err));
            assert_ok(rv_set_num_threads(threads, err));
            rv_index *index = build_with(&o, rows, NULL, n);
            file_bytes b = bytes_of(index);
            answer a = answer_of(index, rows, m, dim, 10, NULL);
            if (!first.data) {
                first = b;
                wanted = a;
            } else {
                assert_same_bytes(&first, &b);
                assert_same_answer(&wanted, &a);
                free(b.data);
                answer_free(&a);
            }
            rv_index_free(index);
        }
    }
    assert_ok(rv_isa_force(NULL, err));
    assert_ok(rv_set_num_threads(0, err));
    answer_free(&wanted);
    free(first.data);
    free(rows);
}

/* ---- what does not fit ---- */

static void assert_refused(const rv_error *error, uint64_t row, const char *said) {
    assert_int_equal(error->code, RV_ERR_VALUE);
    assert_int_equal(error->actual, row);
    if (!strstr(error->message, said))
        fail_msg("\"%s\" does not say \"%s\"", error->message, said);
}

static void values_out_of_range(void **state) {
    (void)state;
    static const struct {
        float value;
        const char *said;
    } bad[] = {{65520, "65520 at position 3"},
               {-65520, "-65520 at position 3"},
               {0x1p100f, "1.2676506e+30 at position 3"},
               {NAN, "NaN at position 3"},
               {-INFINITY, "infinity at position 3"}};
    const size_t n = 1400, dim = 7;
    float *rows = normal_rows(1, n, dim);
    uint64_t ids[1400];
    for (size_t i = 0; i < n; i++) ids[i] = i;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rv_build_options o = halves_for(kinds[i % 2], RV_L2, dim, 1);
        rv_index *index = build_with(&o, rows, NULL, n), *none = index;
        file_bytes before = bytes_of(index);
        float kept = rows[1300 * dim + 3];
        rows[1300 * dim + 3] = bad[i].value;
        rv_error error = {0};
        rv_index_build(&o, &(rv_rows){rows, NULL, n, o.dim}, &none, &error);
        assert_null(none);
        assert_refused(&error, 1300, bad[i].said);
        rv_index_add(index, &(rv_rows){rows, NULL, n, 7}, NULL, &error);
        assert_refused(&error, 1300, bad[i].said);
        rv_index_upsert(index, &(rv_rows){rows, ids, n, 7}, NULL, &error);
        assert_refused(&error, 1300, bad[i].said);
        assert_int_equal(
            rv_index_add(index, &(rv_rows){rows + 1300 * dim, NULL, 1, 7}, NULL, NULL),
            RV_ERR_VALUE);
        file_bytes after = bytes_of(index);
        assert_same_bytes(&before, &after);
        rows[1300 * dim + 3] = kept;
        free(before.data);
        free(after.data);
        rv_index_free(index);
    }
    rv_build_options o = halves_for(RV_PLUS, RV_IP, dim, 1);
    rows[3] = -0x1.ffdffep15f; /* just below 65520 */
    rv_index *index = build_with(&o, rows, NULL, n);
    assert_ok(rv_index_get(index, 0, rows, err));
    assert_true(rows[3] == -65504);
    rv_index_free(index);
    free(rows);
}

static void options(void **state) {
    (void)state;
    float rows[6] = {1, 2, 3, 4, 5, 6};
    const uint32_t bits[] = {0, 1, 8, 15, 17, 31, 33, 64, UINT32_MAX};
    rv_index *index = NULL;
    rv_build_options o = options_for(RV_PLUS, RV_L2, 3);
    assert_int_equal(o.originals_bits, 32);
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        o.originals_bits = bits[i];
        assert_fails(RV_ERR_ARGUMENT,
                     rv_index_build(&o, &(rv_rows){rows, NULL, 2, o.dim}, &index, err));
    }
    for (int kind = RV_FLAT; kind <= RV_ASYM; kind++) {
        for (uint32_t factor = 0; factor < 3; factor++) {
            o = options_for((rv_kind)kind, RV_L2, 3);
            o.rerank_factor = factor;
            rv_index_info info = RV_INDEX_INFO_DEFAULT;
            index = build_with(&o, rows, NULL, 2);
            assert_ok(rv_index_get_info(index, &info, err));
            assert_int_equal(info.originals_bits, info.has_vectors ? 32 : 0);
            bool possible = info.has_vectors && info.code_bytes;
            rv_index_free(index);
            o.originals_bits = 16;
            if (!possible) {
                assert_fails(
                    RV_ERR_ARGUMENT,
                    rv_index_build(&o, &(rv_rows){rows, NULL, 2, o.dim}, &index, err));
                continue;
            }
            index = build_with(&o, rows, NULL, 2);
            assert_ok(rv_index_get_info(index, &info, err));
            assert_int_equal(info.originals_bits, 16);
            assert_true(info.has_vectors);
            rv_index_free(index);
        }
    }
}

/* ---- views and files ---- */

static void views_are_halves(void **state) {
    (void)state;
    float rows[] = {1, -2, 0.5f, 65504, 0x1p-24f, -0.0f};
    const uint16_t halves[] = {0x3c00, 0xc000, 0x3800, 0x7bff, 0x0001, 0x8000};
    rv_build_options o = halves_for(RV_PLUS, RV_L2, 3, 1);
    rv_index *index = build_with(&o, rows, NULL, 2);
    rv_view view = RV_VIEW_DEFAULT;
    assert_ok(rv_index_view(index, &view, err));
    assert_int_equal(view.bits, 16);
    assert_int_equal(view.dim, 3);
    assert_int_equal(view.n, 2);
    assert_int_equal(view.stride_bytes, 6);
    assert_memory_equal(view.data, halves, sizeof halves);
    rv_index_free(index);
    assert_memory_equal(view.data, halves, sizeof halves);
    rv_view_release(&view);
    o.originals_bits = 32;
    index = build_with(&o, rows, NULL, 2);
    assert_ok(rv_index_view(index, &view, err));
    assert_int_equal(view.bits, 32);
    assert_int_equal(view.stride_bytes, 12);
    assert_memory_equal(view.data, rows, sizeof rows);
    rv_view_release(&view);
    rv_index_free(index);
}

static uint8_t *block_of(const file_bytes *b) {
    for (size_t at = 64; at < b->size; at += 64)
        if (memcmp(b->data + at, "RVXBLOCK", 8) == 0) return b->data + at;
    fail_msg("no block");
    return NULL;
}

/* Halves need codes and vectors beside them, and leave no room for version 1. */
static void flags_that_do_not_fit(void **state) {
    (void)state;
    float *rows = normal_rows(1, 20, 5);
    for (size_t kind = 0; kind < 2; kind++) {
        for (uint32_t bits = 16; bits <= 32; bits += 16) {
            for (size_t n = 0; n <= 20; n += 20) {
                rv_build_options o = halves_for(kinds[kind], RV_L2, 5, 1);
                o.originals_bits = bits;
                rv_index *index = build_with(&o, rows, NULL, n);
                file_bytes b = bytes_of(index);
                bool v1 = bits == 32 && kinds[kind] == RV_PLUS;
                assert_memory_equal(b.data, v1 ? "rbpx0001" : "rvxi0001", 8);
                uint8_t *flags = block_of(&b) + 44;
                uint32_t own = rvb_get_u32(flags);
                assert_int_equal(own, 3u + (v1 ? 4u : 0) + (n ? 8u : 0) +
                                          (bits == 16 ? 16u : 0));
                for (uint32_t lie = 0; lie < 128; lie++) {
                    rvb_put_u32(flags, lie);
                    rv_index *other = NULL;
                    rv_status status = rv_index_from_memory(
                        b.data, b.size, RV_VERIFY_NEVER, NULL, NULL, &other, NULL);
                    rv_index_free(other);
                    /* without rows the size of one is anyone's guess */
                    bool possible = lie == own || (n == 0 && !v1 && lie == (own ^ 16u));
                    assert_int_equal(status, possible ? RV_OK : RV_ERR_FORMAT);
                }
                free(b.data);
                rv_index_free(index);
            }
        }
    }
    free(rows);
}

/* Bytes nobody vouches for hold infinities and NaNs: answers may be wrong. */
static void halves_that_are_not_finite(void **state) {
    (void)state;
    const size_t n = 300, dim = 5;
    float *rows = normal_rows(2, n, dim);
    rv_build_options o = halves_for(RV_PLUS, RV_L2, dim, 2);
    rv_index *index = build_with(&o, rows, NULL, n);
    file_bytes b = bytes_of(index);
    rv_index_free(index);
    const uint8_t *entry = block_of(&b) + 128;
    while (rvb_get_u32(entry) != RVX_VECTORS + 1) entry += 24;
    uint8_t *vectors = b.data + rvb_get_u64(entry + 8);
    assert_int_equal(rvb_get_u64(entry + 16), 2 * n * dim);
    for (size_t i = 0; i < n; i += 3) vectors[2 * i * dim + 1] = i % 2 ? 0x7c : 0xfe;
    assert_ok(
        rv_index_from_memory(b.data, b.size, RV_VERIFY_NEVER, NULL, NULL, &index, err));
    for (int round = 0; round < 2; round++) { /* the second after training anew */
        answer a = answer_of(index, rows, 3, dim, 10, NULL);
        for (size_t i = 0; i < 30; i++) assert_true(a.ids[i] != RV_NO_ID);
        answer_free(&a);
        for (int i = 0; i < 4; i++)
            assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, n, 5}, NULL, err));
    }
    rv_index_free(index);
    free(b.data);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(padded_to_the_next_multiple_of_32),
        cmocka_unit_test(an_index_of_the_rounded_rows),
        cmocka_unit_test(changes_as_of_rounded_rows),
        cmocka_unit_test(the_same_on_every_machine),
        cmocka_unit_test(values_out_of_range),
        cmocka_unit_test(options),
        cmocka_unit_test(views_are_halves),
        cmocka_unit_test(flags_that_do_not_fit),
        cmocka_unit_test(halves_that_are_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
