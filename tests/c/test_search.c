/*
 * test_search.c - answers against a brute force in double precision, for every kind,
 * metric, dimension and filter; equal bits for every instruction set and number of
 * threads; what is refused.
 */
#include "index_cases.h"

#include "failing_allocator.h"

#include "index/index_i.h"

#define HUGE_EPSILON 1000.0f

static const size_t dims[] = {1, 2, 3, 7, 31, 32, 33, 64, 100, 128, 257, 768};
#define N_DIMS (sizeof dims / sizeof *dims)

/* ---- exactness ---- */

typedef struct data {
    size_t n, m, dim;
    float *rows, *queries;
    uint64_t *ids;
} data;

static data data_of(float *(*make)(uint64_t, size_t, size_t), size_t n, size_t m,
                    size_t dim) {
    return (data){
        n, m, dim, make(dim, n, dim), make(dim + 1000, m, dim), scattered_ids(dim, n)};
}

static void data_free(data *d) {
    free(d->rows);
    free(d->queries);
    free(d->ids);
}

/* float32 sums of dim products are off by a few units in the last place of the
 * largest partial sum; |q|^2 + |v|^2 bounds all three metrics' ones. */
static double tolerance_of(const data *d, rv_metric metric) {
    double largest = 0;
    for (size_t i = 0; i < (d->n + d->m) * d->dim; i++) {
        const float *x =
            i < d->n * d->dim ? d->rows + i : d->queries + (i - d->n * d->dim);
        largest = fmax(largest, fabs((double)*x));
    }
    return metric == RV_COSINE ? 1e-6 : 2e-7 * largest * largest * (double)d->dim * 4;
}

static void compare_bits(const data *d, rv_kind kind, rv_metric metric, uint32_t bits,
                         size_t k, const rv_search_options *o, double tolerance) {
    rv_build_options b = coded_options(kind, metric, d->dim, bits, 0);
    rv_index *index = build_with(&b, d->rows, d->ids, d->n);
    answer a = answer_of(index, d->queries, d->m, d->dim, k, o);
    exact_hit *exact = need(d->n, sizeof *exact);
    for (size_t i = 0; i < d->m; i++) {
        size_t count = oracle(metric, d->rows, d->ids, NULL, d->n, d->dim,
                              d->queries + i * d->dim, exact);
        assert_is_exact(&a, i, metric, exact, count, tolerance);
    }
    free(exact);
    answer_free(&a);
    rv_index_free(index);
}

static void compare(const data *d, rv_kind kind, rv_metric metric, size_t k,
                    const rv_search_options *o, double tolerance) {
    compare_bits(d, kind, metric, 1, k, o, tolerance);
}

static const rv_kind exact_kinds[] = {RV_FLAT, RV_PLUS, RV_ASYM};

static void each_exact(float *(*make)(uint64_t, size_t, size_t), rv_metric first,
                       rv_metric last, bool bits) {
    rv_search_options wide = RV_SEARCH_DEFAULT;
    wide.epsilon = HUGE_EPSILON;
    for (size_t i = 0; i < N_DIMS; i++) {
        data d = data_of(make, sized(dims[i] > 200 ? 300 : 700), 6, dims[i]);
        for (int metric = (int)first; metric <= (int)last; metric++) {
            double tolerance = bits ? 0 : tolerance_of(&d, (rv_metric)metric);
            for (size_t kind = 0; kind < 3; kind++) {
                rv_kind which = exact_kinds[kind];
                compare(&d, which, (rv_metric)metric, 10, &wide, tolerance);
                if (which == RV_FLAT) /* whatever the options */
                    compare(&d, which, (rv_metric)metric, 10, NULL, tolerance);
            }
        }
        data_free(&d);
    }
}

/* Whole numbers: ids and bits of the scores, through many ties. */
static void exact_to_the_bit(void **state) {
    (void)state;
    each_exact(whole_rows, RV_L2, RV_IP, true);
}

static void exact_within_rounding(void **state) {
    (void)state;
    each_exact(clustered_rows, RV_L2, RV_COSINE, false);
    each_exact(normal_rows, RV_L2, RV_COSINE, false);
}

static void every_k(void **state) {
    (void)state;
    static const size_t ks[] = {1, 2, 31, 32, 33, 100, 399, 400, 401, 1000};
    rv_search_options wide = RV_SEARCH_DEFAULT;
    wide.epsilon = HUGE_EPSILON;
    data d = data_of(whole_rows, 400, 3, 20);
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
        for (size_t kind = 0; kind < 3; kind++)
            for (int metric = RV_L2; metric <= RV_IP; metric++)
                compare(&d, exact_kinds[kind], (rv_metric)metric, ks[i], &wide, 0);
    data_free(&d);
}

/* Coded kinds take their exact distances from the same kernel as the flat one. */
static void coded_equals_flat(void **state) {
    (void)state;
    rv_search_options wide = RV_SEARCH_DEFAULT;
    wide.epsilon = HUGE_EPSILON;
    for (size_t i = 0; i < N_DIMS; i++) {
        data d = data_of(clustered_rows, 500, 5, dims[i]);
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            answer first = {0};
            for (size_t kind = 0; kind < 3; kind++) {
                rv_index *index = build(exact_kinds[kind], (rv_metric)metric, d.dim,
                                        d.rows, d.ids, d.n);
                answer a = answer_of(index, d.queries, d.m, d.dim, 33, &wide);
                if (kind == 0) {
                    first = a;
                } else {
                    assert_same_answer(&first, &a);
                    answer_free(&a);
                }
                rv_index_free(index);
            }
            answer_free(&first);
        }
        data_free(&d);
    }
}

/* The same vector under many ids: the lowest ids win, whatever the rows' order. Their
 * codes say all there is to say, so nothing but the allowance for rounding keeps equal
 * rows from being ruled out. One query is that vector, one lies close by. */
static void equal_rows_by_id(void **state) {
    (void)state;
    for (size_t i = 0; i < N_DIMS; i++) {
        const size_t dim = dims[i], n = 500;
        data d = data_of(clustered_rows, n, 4, dim);
        for (size_t row = 1; row < n; row++)
            memcpy(d.rows + row * dim, d.rows, dim * sizeof *d.rows);
        memcpy(d.queries, d.rows, dim * sizeof *d.rows);
        memcpy(d.queries + dim, d.rows, dim * sizeof *d.rows);
        d.queries[dim] += 2e-4f;
        for (int metric = RV_L2; metric <= RV_COSINE; metric++)
            for (size_t kind = 0; kind < 4; kind++) {
                rv_build_options o =
                    coded_options(exact_kinds[kind % 3], (rv_metric)metric, dim, 1, 0);
                if (kind % 3) o.bits = 1 + (uint32_t)(i + kind) % 8;
                rv_index *index = build_with(&o, d.rows, d.ids, n);
                answer a = answer_of(index, d.queries, d.m, dim, 40, NULL);
                exact_hit *exact = need(n, sizeof *exact);
                oracle((rv_metric)metric, d.rows, d.ids, NULL, n, dim, d.queries, exact);
                for (size_t place = 0; place < d.m * 40; place++)
                    assert_int_equal(a.ids[place], exact[place % 40].id);
                free(exact);
                answer_free(&a);
                rv_index_free(index);
            }
        data_free(&d);
    }
}

static void zero_vectors(void **state) {
    (void)state;
    const size_t n = 300, dim = 40;
    data d = data_of(clustered_rows, n, 3, dim);
    for (size_t row = 0; row < n; row += 4) memset(d.rows + row * dim, 0, dim * 4);
    memset(d.queries, 0, dim * sizeof *d.queries);
    for (size_t j = 0; j < dim; j++) d.queries[dim + j] *= -1; /* zero rows come first */
    rv_search_options wide = RV_SEARCH_DEFAULT;
    wide.epsilon = HUGE_EPSILON;
    for (size_t kind = 0; kind < 3; kind++)
        for (int metric = RV_L2; metric <= RV_COSINE; metric++)
            for (uint32_t bits = 1; bits <= (kind ? 7 : 1); bits += 3)
                compare_bits(&d, exact_kinds[kind], (rv_metric)metric, bits, 100, &wide,
                             tolerance_of(&d, (rv_metric)metric));
    data_free(&d);
}

/* Norms near both ends of what is accepted. */
static void large_and_small_numbers(void **state) {
    (void)state;
    rv_search_options wide = RV_SEARCH_DEFAULT;
    wide.epsilon = HUGE_EPSILON;
    static const float scales[] = {0x1p53f, 0x1p40f, 0x1p-20f, 0x1p-50f};
    for (size_t s = 0; s < 4; s++) {
        data d = data_of(normal_rows, 300, 4, 20);
        for (size_t i = 0; i < 300 * 20; i++) d.rows[i] *= scales[s];
        for (size_t i = 0; i < 4 * 20; i++) d.queries[i] *= scales[s];
        for (size_t kind = 0; kind < 3; kind++)
            for (int metric = RV_L2; metric <= RV_COSINE; metric++)
                for (uint32_t bits = 1; bits <= (kind ? 8 : 1); bits += 7)
                    compare_bits(&d, exact_kinds[kind], (rv_metric)metric, bits, 10,
                                 &wide, tolerance_of(&d, (rv_metric)metric));
        data_free(&d);
    }
}

/* ---- filters ---- */

static void check_filtered(const data *d, const rv_index *index, rv_metric metric,
                           const uint8_t *masks, bool per_query) {
    uint64_t *allowed = need(d->n, sizeof *allowed);
    exact_hit *exact = need(d->n, sizeof *exact);
    rv_search_options by_mask = RV_SEARCH_DEFAULT, by_ids = RV_SEARCH_DEFAULT;
    by_mask.epsilon = by_ids.epsilon = HUGE_EPSILON;
    by_mask.allow_mask = masks;
    by_mask.allow_mask_len = d->n;
    by_mask.allow_mask_per_query = per_query;
    by_ids.allow_ids = allowed;
    answer a = answer_of(index, d->queries, d->m, d->dim, 12, &by_mask);
    for (size_t i = 0; i < d->m; i++) {
        const uint8_t *mask = masks + (per_query ? i * d->n : 0);
        const float *query = d->queries + i * d->dim;
        size_t count = oracle(metric, d->rows, d->ids, mask, d->n, d->dim, query, exact);
        assert_is_exact(&a, i, metric, exact, count, 0);
        by_ids.allow_count = 0;
        for (size_t row = d->n; row-- > 0;)
            if (mask[row]) allowed[by_ids.allow_count++] = d->ids[row];
        answer b = answer_of(index, query, 1, d->dim, 12, &by_ids);
        assert_is_exact(&b, 0, metric, exact, count, 0);
        answer_free(&b);
    }
    answer_free(&a);
    free(allowed);
    free(exact);
}

static void filters(void **state) {
    (void)state;
    static const double shares[] = {0, 0.0005, 0.004, 0.03, 0.2, 0.7, 1};
    const size_t n = sized(3000), m = 5, dim = 33;
    data d = data_of(whole_rows, n, m, dim);
    uint8_t *masks = need(n * m, 1);
    for (size_t kind = 0; kind < 3; kind++) {
        for (int metric = RV_L2; metric <= RV_IP; metric++) {
            rv_index *index =
                build(exact_kinds[kind], (rv_metric)metric, dim, d.rows, d.ids, n);
            for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
                uint64_t seed = s;
                for (size_t i = 0; i < n * m; i++) /* each query has a share of its own */
                    masks[i] = next_unit(&seed) < shares[(s + i / n) % 7] ? 200 : 0;
                check_filtered(&d, index, (rv_metric)metric, masks, false);
                check_filtered(&d, index, (rv_metric)metric, masks, true);
            }
            rv_index_free(index);
        }
    }
    free(masks);
    data_free(&d);
}

static void filters_with_removed_rows(void **state) {
    (void)state;
    const size_t n = 900, dim = 20;
    data d = data_of(whole_rows, n, 4, dim);
    uint8_t *mask = need(n, 1), *live_mask = need(n, 1);
    uint64_t seed = 4;
    for (size_t kind = 0; kind < 3; kind++) {
        rv_index *index = build(exact_kinds[kind], RV_L2, dim, d.rows, d.ids, n);
        size_t live = 0;
        for (size_t row = 0; row < n; row++) {
            mask[row] = next_u64(&seed) & 1;
            if (row % 3 == 0) {
                assert_ok(rv_index_remove(index, &d.ids[row], 1, NULL, err));
                mask[row] = 0;
            } else {
                live_mask[live++] = mask[row];
            }
        }
        rv_search_options o = RV_SEARCH_DEFAULT;
        o.epsilon = HUGE_EPSILON;
        o.allow_mask = live_mask;
        o.allow_mask_len = live;
        answer a = answer_of(index, d.queries, d.m, dim, 20, &o);
        exact_hit *exact = need(n, sizeof *exact);
        for (size_t i = 0; i < d.m; i++) {
            size_t count =
                oracle(RV_L2, d.rows, d.ids, mask, n, dim, d.queries + i * dim, exact);
            assert_is_exact(&a, i, RV_L2, exact, count, 0);
        }
        free(exact);
        answer_free(&a);
        rv_index_free(index);
    }
    free(mask);
    free(live_mask);
    data_free(&d);
}

static void ids_go_before_a_mask(void **state) {
    (void)state;
    float *rows = normal_rows(1, 10, 4);
    rv_index *index = build(RV_FLAT, RV_L2, 4, rows, NULL, 10);
    uint64_t id = 3;
    uint8_t mask[10] = {1};
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_ids = &id;
    o.allow_count = 1;
    o.allow_mask = mask;
    o.allow_mask_len = 10;
    answer a = answer_of(index, rows, 1, 4, 2, &o);
    assert_int_equal(a.ids[0], 3);
    assert_true(a.ids[1] == RV_NO_ID);
    answer_free(&a);
    rv_index_free(index);
    free(rows);
}

/* ---- the same everywhere ---- */

static void same_bits_on_every_machine(void **state) {
    (void)state;
    static const rv_kind kinds[] = {RV_FLAT, RV_RABITQ, RV_PLUS, RV_ASYM};
    const size_t n = sized(6000), m = 40, dim = 100;
    data d = data_of(clustered_rows, n, m, dim);
    uint8_t *mask = need(n, 1);
    for (size_t i = 0; i < n; i++) mask[i] = i % 5 == 0;
    rv_search_options plain = RV_SEARCH_DEFAULT, filtered = RV_SEARCH_DEFAULT;
    filtered.allow_mask = mask;
    filtered.allow_mask_len = n;
    for (size_t kind = 0; kind < 4; kind++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            rv_build_options o = options_for(kinds[kind], (rv_metric)metric, dim);
            if (kind && (kind + (size_t)metric) % 2) o.bits = 2 + (uint32_t)kind;
            rv_index *index = build_with(&o, d.rows, d.ids, n);
            answer all = {0}, some = {0};
            for (size_t isa = 0; isa_at(isa); isa++) {
                assert_ok(rv_isa_force(isa_at(isa), err));
                assert_string_equal(rv_isa_active(), isa_at(isa));
                for (unsigned threads = 1; threads <= 5; threads += threads) {
                    assert_ok(rv_set_num_threads(threads == 4 ? 5 : threads, err));
                    answer a = answer_of(index, d.queries, m, dim, 10, &plain);
                    answer b = answer_of(index, d.queries, m, dim, 10, &filtered);
                    if (!all.ids) {
                        all = a;
                        some = b;
                        continue;
                    }
                    assert_same_answer(&all, &a);
                    assert_same_answer(&some, &b);
                    answer_free(&a);
                    answer_free(&b);
                }
            }
            for (size_t i = 0; i < m; i++) { /* one at a time */
                answer a = answer_of(index, d.queries + i * dim, 1, dim, 10, &plain);
                assert_memory_equal(a.ids, all.ids + i * 10, 10 * sizeof *a.ids);
                assert_memory_equal(a.scores, all.scores + i * 10, 10 * sizeof *a.scores);
                answer_free(&a);
            }
            answer_free(&all);
            answer_free(&some);
            rv_index_free(index);
        }
    }
    assert_ok(rv_isa_force(NULL, err));
    assert_ok(rv_set_num_threads(0, err));
    free(mask);
    data_free(&d);
}

/* ---- what is refused ---- */

static void bad_arguments(void **state) {
    (void)state;
    float *rows = normal_rows(1, 20, 4);
    uint64_t ids[5] = {7, 7, 7, 7, 7};
    float scores[5] = {7, 7, 7, 7, 7};
    rv_index *flat = build(RV_FLAT, RV_L2, 4, rows, NULL, 20);
    rv_index *codes = build(RV_RABITQ, RV_L2, 4, rows, NULL, 20);
    rv_index *plus = build(RV_PLUS, RV_L2, 4, rows, NULL, 20);
    rv_index *empty = build(RV_PLUS, RV_L2, 4, NULL, NULL, 0);
#define SEARCH(index, dim, k, o)                                                         \
    rv_index_search(index, &(rv_queries){rows, 1, dim}, k, o, &(rv_result){ids, scores}, \
                    err)
    assert_fails(RV_ERR_ARGUMENT, SEARCH(plus, 4, 0, NULL));
    assert_fails(RV_ERR_DIM, SEARCH(plus, 3, 5, NULL));
    assert_fails(RV_ERR_DIM, SEARCH(plus, 5, 5, NULL));
    assert_fails(RV_ERR_EMPTY, SEARCH(empty, 4, 5, NULL));
    assert_fails(RV_ERR_EMPTY, SEARCH(empty, 3, 5, NULL)); /* said first */
    assert_fails(RV_ERR_LIMIT,
                 rv_index_search(plus, &(rv_queries){rows, UINT64_MAX / 4, 4}, 5, NULL,
                                 &(rv_result){ids, scores}, err));
    assert_fails(RV_ERR_LIMIT, SEARCH(plus, 4, UINT64_MAX, NULL));
    rv_search_options o = RV_SEARCH_DEFAULT;
    const float epsilons[] = {NAN, -1, INFINITY, -INFINITY};
    for (size_t i = 0; i < 4; i++) {
        o.epsilon = epsilons[i];
        assert_fails(RV_ERR_ARGUMENT, SEARCH(plus, 4, 5, &o));
    }
    o = (rv_search_options)RV_SEARCH_DEFAULT;
    o.max_rerank = 4;
    assert_fails(RV_ERR_ARGUMENT, SEARCH(plus, 4, 5, &o));
    o.max_rerank = 5;
    assert_ok(SEARCH(plus, 4, 5, &o));
    assert_fails(RV_ERR_ARGUMENT, SEARCH(codes, 4, 5, &o));
    assert_fails(RV_ERR_ARGUMENT, SEARCH(flat, 4, 5, &o));
    o = (rv_search_options)RV_SEARCH_DEFAULT;
    o.rerank_factor = 1025;
    assert_fails(RV_ERR_ARGUMENT, SEARCH(plus, 4, 5, &o));
    o.rerank_factor = 2;
    assert_fails(RV_ERR_ARGUMENT, SEARCH(codes, 4, 5, &o));
    o = (rv_search_options)RV_SEARCH_DEFAULT;
    o.size = sizeof o + 8;
    assert_fails(RV_ERR_ARGUMENT, SEARCH(plus, 4, 5, &o));
    o.size = 0;
    assert_fails(RV_ERR_ARGUMENT, SEARCH(plus, 4, 5, &o));
    o.size = RV_SEARCH_OPTIONS_0_1_0_SIZE - 1;
    assert_fails(RV_ERR_ARGUMENT, SEARCH(plus, 4, 5, &o));
    o.size = RV_SEARCH_OPTIONS_0_1_0_SIZE;
    o.allow_version = 1; /* beyond the end of an older program's struct */
    assert_ok(SEARCH(plus, 4, 5, &o));
    assert_true(ids[4] != RV_NO_ID);
    ids[0] = 7;
    assert_ok(rv_index_search(plus, &(rv_queries){NULL, 0, 4}, 5, NULL,
                              &(rv_result){NULL, NULL}, err));
    const float bad[] = {NAN, INFINITY, -INFINITY, 0x1p57f};
    for (size_t i = 0; i < 4; i++) {
        float queries[8] = {0};
        rv_error error;
        queries[6] = bad[i];
        assert_int_equal(rv_index_search(plus, &(rv_queries){queries, 2, 4}, 2, NULL,
                                         &(rv_result){ids, scores}, &error),
                         RV_ERR_VALUE);
        assert_int_equal(error.actual, 1); /* the query's number */
        assert_int_equal(ids[0], 7);       /* nothing was written */
    }
    rv_index_free(flat);
    rv_index_free(codes);
    rv_index_free(plus);
    rv_index_free(empty);
    free(rows);
}

/* What a search takes besides the caller's arrays follows the rows, not k. */
static void large_k_takes_no_memory(void **state) {
    (void)state;
    const size_t n = 300, dim = 8, m = 9, k = 100000;
    float *rows = normal_rows(3, n, dim);
    uint64_t *ids = need(m * k, sizeof *ids);
    float *scores = need(m * k, sizeof *scores);
    assert_ok(rv_set_num_threads(1, err));
    for (rv_kind kind = RV_FLAT; kind <= RV_ASYM; kind++) {
        rv_index *index = build(kind, RV_L2, dim, rows, NULL, n);
        size_t peak[2];
        assert_ok(rv_index_search(index, &(rv_queries){rows, 1, dim}, 1, NULL,
                                  &(rv_result){ids, scores}, err));
        for (int large = 0; large < 2; large++) {
            failing_allocator_install(0);
            assert_ok(rv_index_search(index, &(rv_queries){rows, m, dim}, large ? k : n,
                                      NULL, &(rv_result){ids, scores}, err));
            peak[large] = failing_allocator_peak_bytes();
            failing_allocator_remove();
        }
        assert_int_equal(peak[1], peak[0]);
        rv_index_free(index);
        for (size_t i = 0; i < m * k; i++)
            assert_int_equal(ids[i] == RV_NO_ID, i % k >= n);
    }
    assert_ok(rv_set_num_threads(0, err));
    free(rows);
    free(ids);
    free(scores);
}

static int stop_later(void *ctx, uint64_t done, uint64_t total) {
    (void)done;
    assert_int_equal(total, 64);
    return ++*(int *)ctx > 0;
}

static int go_on(void *ctx, uint64_t done, uint64_t total) {
    *(uint64_t *)ctx = done;
    assert_true(done <= total);
    return 0;
}

/* A thread asks between two groups of queries whether to go on, and not within one. So
 * the products of a group, rows x dim for each query, are what Ctrl-C waits for: 40 ms,
 * measured for each instruction set, or one pass over rows that enough queries share. */
static void flat_batches_ask_often(void **state) {
    (void)state;
    static const size_t rows[] = {0, 1, 1000, 100000, 1000000, 4000000};
    static const size_t dims_tried[] = {1, 128, 768, 65536};
    static const size_t threads[] = {1, 2, 16};
    const rvk_ops *ops;
    for (size_t i = 0; (ops = rvk_ops_at(i)); i++)
        for (size_t c = 0; c < 6 * 4 * 3; c++) {
            size_t n = rows[c % 6], dim = dims_tried[c / 6 % 4],
                   workers = threads[c / 24];
            size_t group = rvx_flat_at_once(ops, n, dim, 1000, workers);
            assert_true(group >= 1 && group <= RVX_FLAT_AT_ONCE);
            assert_true(group <= 32 || (uint64_t)group * n * dim <= UINT64_C(1) << 29);
            if (strcmp(ops->name, "scalar") != 0) continue;
            assert_true(group == 1 || (uint64_t)group * n * dim <= UINT64_C(1) << 23);
        }
}

static void progress_and_cancelling(void **state) {
    (void)state;
    const size_t m = 64;
    float *rows = normal_rows(1, 200, 8);
    rv_index *index = build(RV_PLUS, RV_L2, 8, rows, NULL, 200);
    uint64_t done = 0, ids[64];
    float scores[64];
    int calls = 0;
    rv_progress stop = {stop_later, &calls}, watch = {go_on, &done};
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.progress = &stop;
    assert_fails(RV_ERR_CANCELLED, rv_index_search(index, &(rv_queries){rows, m, 8}, 1,
                                                   &o, &(rv_result){ids, scores}, err));
    o.progress = &watch;
    assert_ok(rv_index_search(index, &(rv_queries){rows, m, 8}, 1, &o,
                              &(rv_result){ids, scores}, err));
    assert_int_equal(done, m); /* at least once, at the end */
    rv_index_free(index);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_to_the_bit),
        cmocka_unit_test(exact_within_rounding),
        cmocka_unit_test(every_k),
        cmocka_unit_test(coded_equals_flat),
        cmocka_unit_test(equal_rows_by_id),
        cmocka_unit_test(zero_vectors),
        cmocka_unit_test(large_and_small_numbers),
        cmocka_unit_test(filters),
        cmocka_unit_test(filters_with_removed_rows),
        cmocka_unit_test(ids_go_before_a_mask),
        cmocka_unit_test(same_bits_on_every_machine),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(large_k_takes_no_memory),
        cmocka_unit_test(progress_and_cancelling),
        cmocka_unit_test(flat_batches_ask_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
