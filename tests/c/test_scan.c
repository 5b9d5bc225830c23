/*
 * test_scan.c - queries that go through the lists together get the bits each would get
 * alone, on every instruction set and number of threads; filtered searches find what
 * brute force over the allowed rows finds, down to few of them.
 */
#include "index_cases.h"

/* ---- together and alone ---- */

#define DIM 40u
#define LISTS 40u
#define M 19u /* more than two threads' shares of queries, and not a whole number */
#define K 10u

typedef struct shared_data {
    size_t n;
    float *rows, *queries;
    uint8_t *mask;  /* one for all */
    uint8_t *masks; /* one per query: from none at all to every row */
    uint64_t *ids;  /* the rows' own */
} shared_data;

static shared_data make_data(void) {
    static const double shares[] = {0.5, 0, 0.002, 0.03, 1, 0.2};
    shared_data d = {.n = sized(1600)};
    d.rows = clustered_rows(1, d.n, DIM);
    d.queries = clustered_rows(2, M, DIM);
    memset(d.queries + 3 * DIM, 0, DIM * sizeof *d.queries);
    d.mask = need(d.n, 1);
    d.masks = need(M * d.n, 1);
    d.ids = scattered_ids(5, d.n);
    uint64_t seed = 6;
    for (size_t i = 0; i < d.n; i++) d.mask[i] = next_u64(&seed) % 3 == 0;
    for (size_t i = 0; i < M * d.n; i++)
        d.masks[i] = next_unit(&seed) < shares[i / d.n % 6];
    return d;
}

static void free_data(shared_data *d) {
    free(d->rows);
    free(d->queries);
    free(d->mask);
    free(d->masks);
    free(d->ids);
}

#define N_NPROBES 3u
#define N_FILTERS 4u
#define N_RERANKS 4u
#define N_CASES (N_NPROBES * N_FILTERS * N_RERANKS)

/* Search number i, for `query` alone or (SIZE_MAX) for all of them. */
static rv_search_options options_of(const shared_data *d, size_t i, size_t query) {
    static const uint32_t nprobes[N_NPROBES] = {1, 25, RV_ALL_LISTS};
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.nprobe = nprobes[i % N_NPROBES];
    i /= N_NPROBES;
    if (i % N_FILTERS == 1) o.allow_mask = d->mask;
    if (i % N_FILTERS == 2) {
        o.allow_mask = d->masks + (query == SIZE_MAX ? 0 : query * d->n);
        o.allow_mask_per_query = query == SIZE_MAX;
    }
    if (o.allow_mask) o.allow_mask_len = d->n;
    if (i % N_FILTERS == 3) {
        o.allow_ids = d->ids;
        o.allow_count = d->n / 2;
    }
    i /= N_FILTERS;
    if (i % 2) o.rerank_factor = 4;
    if (i / 2) o.max_rerank = 3 * K;
    return o;
}

static answer one_by_one(const rv_index *index, const shared_data *d, size_t i) {
    answer all = {M, K, need(M * K, sizeof *all.ids), need(M * K, sizeof *all.scores)};
    for (size_t query = 0; query < M; query++) {
        rv_search_options o = options_of(d, i, query);
        answer a = answer_of(index, d->queries + query * DIM, 1, DIM, K, &o);
        memcpy(all.ids + query * K, a.ids, K * sizeof *a.ids);
        memcpy(all.scores + query * K, a.scores, K * sizeof *a.scores);
        answer_free(&a);
    }
    return all;
}

static void compare_batches(const rv_index *index, const shared_data *d, size_t cases,
                            size_t shift) {
    answer alone[N_CASES];
    for (size_t i = 0; i < cases; i++) alone[i] = one_by_one(index, d, i);
    for (size_t isa = 0; isa_at(isa); isa++) {
        assert_ok(rv_isa_force(isa_at(isa), err));
        for (size_t i = 0; i < cases; i++) {
            unsigned threads = 1 + (unsigned)(i + isa + shift) % 3;
            assert_ok(rv_set_num_threads(threads, err));
            rv_search_options o = options_of(d, i, SIZE_MAX);
            answer together = answer_of(index, d->queries, M, DIM, K, &o);
            assert_same_answer(&alone[i], &together);
            answer_free(&together);
        }
    }
    for (size_t i = 0; i < cases; i++) answer_free(&alone[i]);
    assert_ok(rv_isa_force(NULL, err));
    assert_ok(rv_set_num_threads(0, err));
}

static void together_or_alone(rv_kind kind) {
    shared_data d = make_data();
    /* the last cases ask for exact distances of more rows than the bound does */
    size_t cases = kind == RV_RABITQ ? N_CASES / N_RERANKS : N_CASES;
    for (uint32_t bits = 1; bits <= 4; bits += 3) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            rv_build_options o = coded_options(kind, (rv_metric)metric, DIM, bits, LISTS);
            rv_index *index = build_with(&o, d.rows, d.ids, d.n);
            compare_batches(index, &d, cases, (size_t)metric);
            rv_index_free(index);
        }
    }
    free_data(&d);
}

static void codes(void **state) {
    (void)state;
    together_or_alone(RV_RABITQ);
}

static void codes_and_vectors(void **state) {
    (void)state;
    together_or_alone(RV_PLUS);
}

static void a_floor_of_its_own(void **state) {
    (void)state;
    together_or_alone(RV_ASYM);
}

static void vectors(void **state) {
    (void)state;
    shared_data d = make_data();
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        rv_index *index = build(RV_FLAT, (rv_metric)metric, DIM, d.rows, d.ids, d.n);
        compare_batches(index, &d, N_CASES / N_RERANKS, (size_t)metric);
        rv_index_free(index);
    }
    free_data(&d);
}

/* Rows removed since the lists were made lie silenced among the others, and rows added
 * since lie in memory of their own. */
static void after_changes(void **state) {
    (void)state;
    shared_data d = make_data();
    rv_build_options o = coded_options(RV_PLUS, RV_L2, DIM, 1, LISTS);
    for (o.bits = 1; o.bits <= 2; o.bits++) {
        rv_index *index = build_with(&o, d.rows, d.ids, d.n);
        answer a = answer_of(index, d.queries, M, DIM, K, NULL); /* makes the lists */
        answer_free(&a);
        assert_ok(rv_index_remove(index, d.ids, d.n / 3, NULL, err));
        assert_ok(
            rv_index_add(index, &(rv_rows){d.rows, d.ids, d.n / 3, DIM}, NULL, err));
        compare_batches(index, &d, N_CASES, 0);
        rv_index_free(index);
    }
    free_data(&d);
}

/* ---- filters ---- */

/* Few allowed rows are compared by their codes, more of them are asked for after the
 * bound: the same answers, which are the right ones. */
static void filters_are_exact(void **state) {
    (void)state;
    static const rv_kind kinds[] = {RV_FLAT, RV_PLUS, RV_ASYM};
    const size_t n = sized(2400), dim = 24, m = 4, k = 12;
    float *rows = whole_rows(1, n, dim), *queries = whole_rows(2, m, dim);
    uint64_t *ids = scattered_ids(3, n), *allowed = need(n, sizeof *allowed);
    uint8_t *mask = need(n, 1);
    exact_hit *exact = need(n, sizeof *exact);
    const size_t counts[] = {
        0, 1, k - 1, k, n / 64 + k - 1, n / 64 + k, n / 64 + k + 1, n / 8, n - 1, n};
    for (size_t run = 0; run < 18; run++) {
        rv_metric metric = (rv_metric)(run / 3 % 3);
        rv_build_options o = coded_options(kinds[run % 3], metric, dim, 1, 30);
        if (run >= 9) o.bits = 2 + (uint32_t)(run % 7);
        rv_index *index = build_with(&o, rows, ids, n);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            rv_search_options by_mask = RV_SEARCH_DEFAULT, by_ids = RV_SEARCH_DEFAULT;
            by_mask.epsilon = by_ids.epsilon = 8;
            by_mask.nprobe = by_ids.nprobe = RV_ALL_LISTS;
            memset(mask, 0, n);
            uint64_t seed = c;
            for (size_t i = 0; i < counts[c];) { /* distinct rows, in any order */
                size_t row = counts[c] > n / 2 ? i : next_below(&seed, n);
                if (mask[row]) continue;
                mask[row] = (uint8_t)(1 + row % 255);
                allowed[i++] = ids[row];
            }
            by_mask.allow_mask = mask;
            by_mask.allow_mask_len = n;
            by_ids.allow_ids = allowed;
            by_ids.allow_count = counts[c];
            answer a = answer_of(index, queries, m, dim, k, &by_mask);
            answer b = answer_of(index, queries, m, dim, k, &by_ids);
            assert_same_answer(&a, &b);
            for (size_t i = 0; i < m; i++) {
                size_t count =
                    oracle(metric, rows, ids, mask, n, dim, queries + i * dim, exact);
                assert_int_equal(count, counts[c]);
                assert_is_exact(&a, i, metric, exact, count,
                                metric == RV_COSINE ? 1e-6 : 0);
            }
            answer_free(&a);
            answer_free(&b);
        }
        rv_index_free(index);
    }
    free(rows);
    free(queries);
    free(ids);
    free(allowed);
    free(mask);
    free(exact);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes),
        cmocka_unit_test(codes_and_vectors),
        cmocka_unit_test(a_floor_of_its_own),
        cmocka_unit_test(vectors),
        cmocka_unit_test(after_changes),
        cmocka_unit_test(filters_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
