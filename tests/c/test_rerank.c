/*
 * test_rerank.c - what decides which rows get an exact distance: the bound and its
 * epsilon, the floor (rerank_factor), the cap (max_rerank), with codes of signs alone and
 * with magnitudes; and results of codes alone.
 */
#include "index_cases.h"

#include <float.h>

#define DIM 64u
#define K 10u

/* Codes of one bit go through one step, codes of several through two. */
static const uint32_t some_bits[] = {1, 4};

typedef struct fixture {
    size_t n, m;
    float *rows, *queries;
    exact_hit *exact; /* m lists of n, for RV_L2 */
} fixture;

static int set_up(void **state) {
    fixture *f = need(1, sizeof *f);
    f->n = sized(4000);
    f->m = sized(50);
    f->rows = clustered_rows(1, f->n, DIM);
    f->queries = clustered_rows(2, f->m, DIM);
    f->exact = need(f->n * f->m, sizeof *f->exact);
    for (size_t i = 0; i < f->m; i++)
        oracle(RV_L2, f->rows, NULL, NULL, f->n, DIM, f->queries + i * DIM,
               f->exact + i * f->n);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    free(f->rows);
    free(f->queries);
    free(f->exact);
    free(f);
    return 0;
}

static rv_index *coded(const fixture *f, rv_kind kind, rv_metric metric, uint32_t bits) {
    rv_build_options o = coded_options(kind, metric, DIM, bits, 0);
    return build_with(&o, f->rows, NULL, f->n);
}

static bool contains(const uint64_t *ids, size_t n, uint64_t id) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

/* Correct ones of the K results of every query. */
static void correct(const fixture *f, const rv_index *index, const rv_search_options *o,
                    size_t *out) {
    answer a = answer_of(index, f->queries, f->m, DIM, K, o);
    for (size_t i = 0; i < f->m; i++) {
        out[i] = count_correct(&a, i, f->exact + i * f->n, f->n);
        for (size_t j = 0; j < K; j++) { /* whatever is found has its exact score */
            const float *row = f->rows + a.ids[i * K + j] * DIM;
            double score = exact_score(RV_L2, f->queries + i * DIM, row, DIM);
            assert_true(fabs((double)a.scores[i * K + j] - score) < 1e-4);
        }
    }
    answer_free(&a);
}

static size_t total(const fixture *f, const rv_index *index, const rv_search_options *o) {
    size_t *each = need(f->m, sizeof *each), sum = 0;
    correct(f, index, o, each);
    for (size_t i = 0; i < f->m; i++) sum += each[i];
    free(each);
    return sum;
}

static void recall_rises_with_epsilon(void **state) {
    const fixture *f = *state;
    const rv_build_options defaults = RV_BUILD_DEFAULT;
    const float epsilons[] = {0.01f, 0.5f, 1.0f, defaults.epsilon, 4.0f};
    for (size_t b = 0; b < 2; b++) {
        size_t found[5];
        rv_index *index = coded(f, RV_PLUS, RV_L2, some_bits[b]);
        rv_search_options o = RV_SEARCH_DEFAULT;
        for (size_t i = 0; i < 5; i++) {
            o.epsilon = epsilons[i];
            found[i] = total(f, index, &o);
            if (i > 0) assert_true(found[i] >= found[i - 1]);
        }
        assert_true(found[0] < f->m * K); /* the first rules out too much */
        assert_true((double)found[3] >= 0.98 * (double)(f->m * K));
        assert_int_equal(found[4], f->m * K);
        assert_int_equal(total(f, index, NULL), found[3]);
        rv_build_options build_options =
            coded_options(RV_PLUS, RV_L2, DIM, some_bits[b], 0);
        build_options.epsilon = 0.01f; /* or what the index was built with */
        rv_index *narrow = build_with(&build_options, f->rows, NULL, f->n);
        assert_int_equal(total(f, narrow, NULL), found[0]);
        rv_index_free(narrow);
        rv_index_free(index);
    }
}

/* Rows on a sphere around the query, their distances all but equal: once k are held,
 * a row is lost just when its estimate is off by epsilon standard deviations. */
static double share_lost(uint32_t bits, float epsilon) {
    const size_t n = sized(4000), k = n / 2, rounds = 5;
    size_t correct = 0;
    exact_hit *exact = need(n, sizeof *exact);
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t seed = round;
        float *rows = normal_rows(round + 10, n, DIM),
              *query = normal_rows(round, 1, DIM);
        for (size_t i = 0; i < n; i++) {
            float *row = rows + i * DIM;
            row[0] = fabsf(row[0]); /* half a sphere: its mean is not the query */
            double length = sqrt(exact_score(RV_IP, row, row, DIM));
            double radius = 1 + 1e-3 * next_unit(&seed);
            for (size_t j = 0; j < DIM; j++)
                row[j] = query[j] + (float)(radius * (double)row[j] / length);
        }
        rv_build_options o = coded_options(RV_PLUS, RV_L2, DIM, bits, 1);
        o.epsilon = epsilon;
        o.seed = round;
        rv_index *index = build_with(&o, rows, NULL, n);
        answer a = answer_of(index, query, 1, DIM, k, NULL);
        oracle(RV_L2, rows, NULL, NULL, n, DIM, query, exact);
        correct += count_correct(&a, 0, exact, n);
        answer_free(&a);
        rv_index_free(index);
        free(rows);
        free(query);
    }
    free(exact);
    return 1 - (double)correct / (double)(k * rounds);
}

static void the_bound_fails_like_a_normal_tail(void **state) {
    (void)state;
    /* half of the best rows come after the first k; normal tails beyond 1 and 1.9 */
    double wide = share_lost(1, 1.0f) / (0.5 * 0.1587);
    double usual = share_lost(1, 1.9f) / (0.5 * 0.0287);
    if (!(wide > 0.7 && wide < 1.3 && usual > 0.5 && usual < 1.5))
        fail_msg("lost %.2f of what should be at epsilon 1, %.2f at 1.9", wide, usual);
    /* Magnitudes are a second bound, which fails for other rows; the more bits, the fewer
     * rows lie so close to the edge that it can. */
    static const struct {
        uint32_t bits;
        double least, most;
    } more[] = {
        {2, 0.2, 0.9}, {3, 0.2, 0.9}, {4, 0.2, 0.9}, {6, -0.1, 0.4}, {8, -0.1, 0.2}};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        double both = share_lost(more[i].bits, 1.0f) / (0.5 * 0.1587) - wide;
        double narrow = share_lost(more[i].bits, 1.9f) / (0.5 * 0.0287);
        if (!(both > more[i].least && both < more[i].most && narrow > 0.5 && narrow < 2))
            fail_msg("%u bits: lost %.2f more than signs do at epsilon 1, %.2f at 1.9",
                     more[i].bits, both, narrow);
    }
}

/* Whatever the epsilon, the answers of the flat index. */
static void assert_like_flat(const fixture *f, rv_metric metric, uint32_t bits,
                             const float *rows, float epsilon) {
    rv_build_options b = coded_options(RV_PLUS, metric, DIM, bits, 0);
    rv_index *index = build_with(&b, rows, NULL, f->n);
    rv_index *flat = build(RV_FLAT, metric, DIM, rows, NULL, f->n);
    answer wanted = answer_of(flat, f->queries, f->m, DIM, K, NULL);
    for (uint32_t factor = 0; factor <= 4; factor++) {
        rv_search_options o = RV_SEARCH_DEFAULT;
        o.epsilon = epsilon;
        o.rerank_factor = factor;
        if (factor == 4) o.max_rerank = f->n;
        answer a = answer_of(index, f->queries, f->m, DIM, K, &o);
        assert_same_answer(&wanted, &a);
        answer_free(&a);
    }
    answer_free(&wanted);
    rv_index_free(index);
    rv_index_free(flat);
}

/* No epsilon is so large that arithmetic breaks down. */
static void any_epsilon_is_sound(void **state) {
    const fixture *f = *state;
    const float epsilons[] = {1e6f, 1e20f, 1e38f, FLT_MAX};
    float *same = need(f->n * DIM, sizeof *same); /* all at their centroid: B = 0 */
    for (size_t i = 0; i < f->n; i++) memcpy(same + i * DIM, f->rows, DIM * sizeof *same);
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        for (size_t i = 0; i < 4; i++) {
            uint32_t bits = 1 + (uint32_t)i % 3;
            assert_like_flat(f, (rv_metric)metric, bits, f->rows, epsilons[i]);
            assert_like_flat(f, (rv_metric)metric, bits, same, epsilons[i]);
        }
    }
    free(same);
}

static void a_higher_floor_never_finds_less(void **state) {
    const fixture *f = *state;
    static const uint32_t factors[] = {1, 2, 3, 5, 10, 20, 50, 100, 400};
    size_t *before = need(f->m, sizeof *before), *now = need(f->m, sizeof *now);
    rv_search_options o = RV_SEARCH_DEFAULT;
    for (size_t e = 0; e < 4; e++) {
        rv_index *index = coded(f, RV_PLUS, RV_L2, some_bits[e / 2]);
        o.epsilon = e % 2 ? 0.01f : 1.9f;
        memset(before, 0, f->m * sizeof *before);
        size_t last = 0;
        for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
            size_t sum = 0;
            o.rerank_factor = factors[i];
            correct(f, index, &o, now);
            for (size_t q = 0; q < f->m; q++) {
                /* signs without a bound to speak of may drop what magnitudes would not,
                 * the more the closer rows are that a floor has found */
                assert_true(now[q] >= before[q] || e == 3);
                sum += before[q] = now[q];
            }
            assert_true(sum >= last);
            last = sum;
            /* every row is among the best K * 400 estimates */
            if (factors[i] == 400) assert_int_equal(sum, f->m * K);
        }
        rv_index_free(index);
    }
    rv_build_options build_options = options_for(RV_PLUS, RV_L2, DIM);
    build_options.rerank_factor = 400;
    build_options.epsilon = 0.01f;
    rv_index *floor = build_with(&build_options, f->rows, NULL, f->n);
    assert_int_equal(total(f, floor, NULL), f->m * K);
    rv_index_free(floor);
    free(before);
    free(now);
}

/* Whatever the bound says, a row counts that is clearly among the best K * factor
 * estimates, by those of an index of codes alone; of rows that codes hardly tell apart,
 * half of them added later. */
static void a_floor_looks_at_the_best_estimates(void **state) {
    const fixture *f = *state;
    const uint32_t factor = 20, clearly = factor * K * 7 / 8;
    const size_t half = f->n / 2;
    float *rows = normal_rows(11, f->n, DIM);
    float *queries = normal_rows(12, f->m, DIM);
    rv_build_options plus = coded_options(RV_PLUS, RV_L2, DIM, 1, 4);
    rv_build_options codes = coded_options(RV_RABITQ, RV_L2, DIM, 1, 4);
    rv_index *index = build_with(&plus, rows, NULL, half);
    rv_index *coded = build_with(&codes, rows, NULL, half);
    answer a = answer_of(index, queries, f->m, DIM, K, NULL); /* makes the lists */
    answer_free(&a);
    assert_ok(
        rv_index_add(index, &(rv_rows){rows + half * DIM, NULL, half, DIM}, NULL, err));
    assert_ok(
        rv_index_add(coded, &(rv_rows){rows + half * DIM, NULL, half, DIM}, NULL, err));
    answer estimates = answer_of(coded, queries, f->m, DIM, clearly, NULL);
    exact_hit *exact = need(f->n, sizeof *exact);
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.rerank_factor = factor;
    for (o.epsilon = 0.25f; o.epsilon <= 1; o.epsilon *= 2) {
        a = answer_of(index, queries, f->m, DIM, K, &o);
        for (size_t q = 0; q < f->m; q++) {
            oracle(RV_L2, rows, NULL, NULL, f->n, DIM, queries + q * DIM, exact);
            for (size_t i = 0; i < K; i++)
                if (contains(estimates.ids + q * clearly, clearly, exact[i].id))
                    assert_true(contains(a.ids + q * K, K, exact[i].id));
        }
        answer_free(&a);
    }
    answer_free(&estimates);
    rv_index_free(index);
    rv_index_free(coded);
    free(exact);
    free(rows);
    free(queries);
}

/* With a cap of K no more than K rows are ever compared exactly: the result holds what
 * the estimates alone would choose, which misses many. */
static void a_cap_bounds_the_exact_distances(void **state) {
    const fixture *f = *state;
    rv_index *plus = build(RV_PLUS, RV_L2, DIM, f->rows, NULL, f->n);
    rv_index *codes = build(RV_RABITQ, RV_L2, DIM, f->rows, NULL, f->n);
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.epsilon = 4; /* so that the cap alone limits */
    o.max_rerank = K;
    answer capped = answer_of(plus, f->queries, f->m, DIM, K, &o);
    answer estimated = answer_of(codes, f->queries, f->m, DIM, K, NULL);
    size_t correct_capped = 0, correct_estimated = 0, shared = 0;
    for (size_t i = 0; i < f->m; i++) {
        correct_capped += count_correct(&capped, i, f->exact + i * f->n, f->n);
        correct_estimated += count_correct(&estimated, i, f->exact + i * f->n, f->n);
        for (size_t a = 0; a < K; a++)
            for (size_t b = 0; b < K; b++)
                shared += capped.ids[i * K + a] == estimated.ids[i * K + b];
    }
    double all = (double)(f->m * K);
    assert_true((double)shared > 0.85 * all); /* they differ by the rounded query only */
    assert_true(fabs((double)correct_capped - (double)correct_estimated) < 0.08 * all);
    assert_true((double)correct_capped < 0.8 * all);
    size_t before = correct_capped;
    for (uint64_t cap = 2 * K; cap < 2 * f->n; cap *= 3) {
        o.max_rerank = cap;
        size_t now = total(f, plus, &o);
        assert_true(now >= before);
        before = now;
        o.rerank_factor = 100; /* a floor does not lift the cap */
        assert_int_equal(total(f, plus, &o), now);
        o.rerank_factor = 0;
    }
    assert_int_equal(before, f->m * K);
    answer_free(&capped);
    answer_free(&estimated);
    rv_index_free(plus);
    rv_index_free(codes);
}

/* With magnitudes estimates are the same with and without vectors: a cap of K chooses
 * just the rows that codes alone would. */
static void a_cap_goes_by_the_best_estimates(void **state) {
    const fixture *f = *state;
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        rv_index *plus = coded(f, RV_PLUS, (rv_metric)metric, 3);
        rv_index *codes = coded(f, RV_RABITQ, (rv_metric)metric, 3);
        rv_search_options o = RV_SEARCH_DEFAULT;
        o.epsilon = 8;
        answer estimated = answer_of(codes, f->queries, f->m, DIM, K, &o);
        o.max_rerank = K;
        answer capped = answer_of(plus, f->queries, f->m, DIM, K, &o);
        for (size_t i = 0; i < f->m; i++) {
            size_t shared = 0;
            for (size_t a = 0; a < K; a++) {
                uint64_t id = capped.ids[i * K + a];
                for (size_t b = 0; b < K; b++) shared += id == estimated.ids[i * K + b];
                double score = exact_score((rv_metric)metric, f->queries + i * DIM,
                                           f->rows + id * DIM, DIM);
                assert_true(fabs((double)capped.scores[i * K + a] - score) < 1e-4);
            }
            assert_int_equal(shared, K);
        }
        answer_free(&capped);
        answer_free(&estimated);
        rv_index_free(plus);
        rv_index_free(codes);
    }
}

/* A bound of 8 standard deviations leaves nothing out. */
static void exact_with_codes_of_any_width(void **state) {
    (void)state;
    static const size_t dims[] = {7, 33, 100};
    rv_search_options wide = RV_SEARCH_DEFAULT;
    wide.epsilon = 8;
    const size_t n = sized(700), m = 6;
    exact_hit *exact = need(n, sizeof *exact);
    for (uint32_t bits = 1; bits <= 8; bits++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            size_t dim = dims[(bits + (uint32_t)metric) % 3];
            float *rows = whole_rows(bits, n, dim), *queries = whole_rows(90, m, dim);
            uint64_t *ids = scattered_ids(bits, n);
            rv_build_options o =
                coded_options(bits % 3 ? RV_PLUS : RV_ASYM, (rv_metric)metric, dim, bits,
                              bits % 2 ? 12 : 1);
            rv_index *index = build_with(&o, rows, ids, n);
            answer a = answer_of(index, queries, m, dim, 20, &wide);
            for (size_t i = 0; i < m; i++) {
                size_t count = oracle((rv_metric)metric, rows, ids, NULL, n, dim,
                                      queries + i * dim, exact);
                assert_is_exact(&a, i, (rv_metric)metric, exact, count,
                                metric == RV_COSINE ? 1e-6 : 0);
            }
            answer_free(&a);
            rv_index_free(index);
            free(rows);
            free(queries);
            free(ids);
        }
    }
    free(exact);
}

/* ---- codes alone ---- */

static void assert_well_formed(const answer *a, rv_metric metric, size_t filled,
                               size_t n) {
    uint8_t *seen = need(n, 1);
    for (size_t i = 0; i < a->m; i++) {
        memset(seen, 0, n);
        for (size_t j = 0; j < a->k; j++) {
            uint64_t id = a->ids[i * a->k + j];
            double score = (double)a->scores[i * a->k + j];
            if (j >= filled) {
                assert_true(id == RV_NO_ID);
                continue;
            }
            assert_true(id < n && !seen[id]);
            seen[id] = 1;
            if (metric == RV_COSINE) assert_true(score >= -1 && score <= 1);
            if (metric == RV_L2) assert_true(score >= 0);
            if (j == 0) continue;
            double before = (double)a->scores[i * a->k + j - 1];
            assert_true(metric == RV_L2 ? before <= score : before >= score);
            if (before == score) assert_true(a->ids[i * a->k + j - 1] < id);
        }
    }
    free(seen);
}

static void codes_alone_rank_by_estimate(void **state) {
    const fixture *f = *state;
    size_t n = f->n / 4;
    for (int run = 0; run < 6; run++) {
        rv_metric metric = (rv_metric)(run % 3);
        rv_build_options b = coded_options(RV_RABITQ, metric, DIM, run < 3 ? 1 : 4, 8);
        b.epsilon = 8; /* of which signs alone take no notice */
        rv_index *index = build_with(&b, f->rows, NULL, n);
        answer all = answer_of(index, f->queries, f->m, DIM, n + 5, NULL);
        assert_well_formed(&all, (rv_metric)metric, n, n);
        double error = 0, error2 = 0, count = (double)(f->m * n);
        for (size_t i = 0; i < f->m; i++) {
            for (size_t j = 0; j < n; j++) {
                const float *row = f->rows + all.ids[i * all.k + j] * DIM;
                double e = (double)all.scores[i * all.k + j] -
                           exact_score((rv_metric)metric, f->queries + i * DIM, row, DIM);
                error += e / count;
                error2 += e * e / count;
            }
        }
        /* a small bias: one rotation, one fixed data set */
        assert_true(fabs(error) < 0.2 * sqrt(error2));
        size_t missing = 0;
        for (size_t k = 1; k <= 40; k += 13) { /* fewer results are the first of all */
            answer few = answer_of(index, f->queries, f->m, DIM, k, NULL);
            assert_well_formed(&few, (rv_metric)metric, k, n);
            for (size_t i = 0; i < f->m; i++)
                for (size_t j = 0; j < k; j++)
                    missing += few.ids[i * k + j] != all.ids[i * all.k + j];
            answer_free(&few);
        }
        assert_true(missing <= 2); /* four standard deviations of the query's rounding */
        answer_free(&all);
        rv_index_free(index);
    }
}

/* A filter changes which rows take part, not their estimates. */
static void filtered_estimates_are_the_same(void **state) {
    const fixture *f = *state;
    size_t n = f->n;
    uint8_t *mask = need(n, 1);
    for (int run = 0; run < 6; run++) {
        rv_index *index = coded(f, RV_RABITQ, (rv_metric)(run % 3), some_bits[run / 3]);
        answer all = answer_of(index, f->queries, 4, DIM, n, NULL);
        for (size_t every = 2; every < n; every *= 8) { /* down to the direct path */
            size_t allowed = 0;
            for (size_t i = 0; i < n; i++) allowed += mask[i] = i % every == 1;
            rv_search_options o = RV_SEARCH_DEFAULT;
            o.allow_mask = mask;
            o.allow_mask_len = n;
            answer some = answer_of(index, f->queries, 4, DIM, allowed + 3, &o);
            for (size_t i = 0; i < 4; i++) {
                size_t at = 0;
                for (size_t j = 0; j < n; j++) {
                    if (!mask[all.ids[i * n + j]]) continue;
                    assert_int_equal(some.ids[i * some.k + at], all.ids[i * n + j]);
                    assert_true(some.scores[i * some.k + at] == all.scores[i * n + j]);
                    at++;
                }
                assert_int_equal(at, allowed);
                assert_true(some.ids[i * some.k + at] == RV_NO_ID);
            }
            answer_free(&some);
        }
        answer_free(&all);
        rv_index_free(index);
    }
    free(mask);
}

/* Cosine with a zero vector is 0, known without a code. */
static void zero_vectors_by_codes(void **state) {
    const fixture *f = *state;
    const size_t n = 500;
    float *rows = need(n * DIM, sizeof *rows), zero[DIM] = {0};
    memcpy(rows, f->rows, n * DIM * sizeof *rows);
    memset(rows + 70 * DIM, 0, DIM * sizeof *rows);
    for (size_t b = 0; b < 2; b++) {
        rv_build_options o = coded_options(RV_RABITQ, RV_COSINE, DIM, some_bits[b], 0);
        rv_index *index = build_with(&o, rows, NULL, n);
        answer a = answer_of(index, zero, 1, DIM, 200, NULL);
        for (size_t i = 0; i < 200; i++) {
            assert_int_equal(a.ids[i], i);
            assert_true(a.scores[i] == 0);
        }
        answer_free(&a);
        a = answer_of(index, f->queries, 1, DIM, n, NULL);
        for (size_t i = 0; i < n; i++)
            if (a.ids[i] == 70) assert_true(a.scores[i] == 0);
        answer_free(&a);
        rv_index_free(index);
    }
    free(rows);
}

/* Estimates overshoot; scores do not. */
static void cosines_stay_in_range(void **state) {
    const fixture *f = *state;
    const size_t n = 500;
    float query[DIM];
    for (size_t b = 0; b < 2; b++) {
        rv_build_options o = coded_options(RV_RABITQ, RV_COSINE, DIM, some_bits[b], 0);
        rv_index *index = build_with(&o, f->rows, NULL, n);
        size_t at_ends[2] = {0};
        for (size_t i = 0; i < 2 * n; i++) {
            for (size_t j = 0; j < DIM; j++)
                query[j] = f->rows[i / 2 * DIM + j] * (i % 2 ? -1.0f : 1.0f);
            answer a = answer_of(index, query, 1, DIM, n, NULL);
            assert_well_formed(&a, RV_COSINE, n, n);
            at_ends[0] += a.scores[0] == 1;
            at_ends[1] += a.scores[n - 1] == -1;
            answer_free(&a);
        }
        assert_true(at_ends[0] > 20 && at_ends[1] > 20);
        rv_index_free(index);
    }
}

/* Each bit makes estimates better, on the hardest data there is. */
static void wider_codes_find_more(void **state) {
    (void)state;
    const size_t n = 5000, m = sized(48);
    float *rows = normal_rows(7, n, DIM), *queries = normal_rows(8, m, DIM);
    exact_hit *exact = need(n * m, sizeof *exact);
    for (size_t i = 0; i < m; i++)
        oracle(RV_L2, rows, NULL, NULL, n, DIM, queries + i * DIM, exact + i * n);
    size_t last = 0;
    for (uint32_t bits = 1; bits <= 8; bits++) {
        rv_build_options o = coded_options(RV_RABITQ, RV_L2, DIM, bits, 0);
        rv_index *index = build_with(&o, rows, NULL, n);
        answer a = answer_of(index, queries, m, DIM, K, NULL);
        size_t found = 0;
        for (size_t i = 0; i < m; i++) found += count_correct(&a, i, exact + i * n, n);
        double recall = (double)found / (double)(m * K);
        if (found + m / 6 < last || (bits == 4 && recall < 0.85) ||
            (bits == 8 && recall < 0.97))
            fail_msg("%u bits: recall %g", bits, recall);
        last = found;
        answer_free(&a);
        rv_index_free(index);
    }
    free(rows);
    free(queries);
    free(exact);
}

static void codes_of_asym_without_vectors(void **state) {
    const fixture *f = *state;
    for (size_t b = 0; b < 2; b++) {
        rv_build_options o = coded_options(RV_ASYM, RV_L2, DIM, some_bits[b], 0);
        o.rerank_factor = 1;
        rv_index *asym = build_with(&o, f->rows, NULL, f->n);
        rv_index *rabitq = coded(f, RV_RABITQ, RV_L2, some_bits[b]);
        answer one = answer_of(asym, f->queries, f->m, DIM, K, NULL);
        answer other = answer_of(rabitq, f->queries, f->m, DIM, K, NULL);
        assert_same_answer(&one, &other);
        answer_free(&one);
        answer_free(&other);
        rv_index_free(asym);
        rv_index_free(rabitq);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_rises_with_epsilon),
        cmocka_unit_test(the_bound_fails_like_a_normal_tail),
        cmocka_unit_test(any_epsilon_is_sound),
        cmocka_unit_test(a_higher_floor_never_finds_less),
        cmocka_unit_test(a_floor_looks_at_the_best_estimates),
        cmocka_unit_test(a_cap_bounds_the_exact_distances),
        cmocka_unit_test(a_cap_goes_by_the_best_estimates),
        cmocka_unit_test(exact_with_codes_of_any_width),
        cmocka_unit_test(codes_alone_rank_by_estimate),
        cmocka_unit_test(filtered_estimates_are_the_same),
        cmocka_unit_test(zero_vectors_by_codes),
        cmocka_unit_test(cosines_stay_in_range),
        cmocka_unit_test(wider_codes_find_more),
        cmocka_unit_test(codes_of_asym_without_vectors),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
