/*
 * test_tune.c - settings found on queries: they reach the recall on queries nobody has
 * seen, are the same wherever they are looked for, become the defaults and stay so in
 * files; and what is refused leaves the defaults as they were.
 */
#include "index_cases.h"

#include "index/index_i.h"

#define DIM 32u
#define K 10u
#define LISTS 64u

typedef struct fixture {
    size_t n, m;
    float *rows, *queries, *others; /* m queries to choose with, m more of the kind */
    exact_hit *exact;               /* of the others, for RV_L2: m lists of n */
} fixture;

static int set_up(void **state) {
    fixture *f = need(1, sizeof *f);
    f->n = sized(4000);
    f->m = 120;
    f->rows = clustered_rows(1, f->n, DIM);
    f->queries = clustered_rows(2, f->m, DIM);
    f->others = clustered_rows(3, f->m, DIM);
    f->exact = need(f->n * f->m, sizeof *f->exact);
    for (size_t i = 0; i < f->m; i++)
        oracle(RV_L2, f->rows, NULL, NULL, f->n, DIM, f->others + i * DIM,
               f->exact + i * f->n);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    free(f->rows);
    free(f->queries);
    free(f->others);
    free(f->exact);
    free(f);
    return 0;
}

static rv_index *index_of(const fixture *f, rv_kind kind, rv_metric metric,
                          uint32_t bits) {
    rv_build_options o = coded_options(kind, metric, DIM, bits, LISTS);
    return build_with(&o, f->rows, NULL, f->n);
}

static rv_tuning tuned(rv_index *index, const float *queries, size_t m, double recall) {
    rv_tuning t = RV_TUNING_DEFAULT;
    memset(&t.nprobe, 0x5a, sizeof t - offsetof(rv_tuning, nprobe));
    assert_ok(
        rv_index_tune(index, &(rv_queries){queries, m, DIM}, K, recall, NULL, &t, err));
    assert_true(t.nprobe >= 1 && (t.nprobe <= LISTS || t.nprobe == RV_ALL_LISTS));
    assert_true(t.epsilon > 0 && t.epsilon < 10);
    assert_true(t.recall >= 0 && t.recall <= 1);
    return t;
}

static void assert_same_tuning(const rv_tuning *a, const rv_tuning *b) {
    assert_int_equal(a->nprobe, b->nprobe);
    assert_true(a->epsilon == b->epsilon && a->recall == b->recall);
}

static void assert_defaults(const rv_index *index, uint32_t nprobe, float epsilon) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    assert_int_equal(info.nprobe, nprobe);
    assert_true(info.epsilon == epsilon);
}

/* ---- what is found ---- */

static double share_found(const fixture *f, const rv_index *index) {
    answer a = answer_of(index, f->others, f->m, DIM, K, NULL);
    size_t found = 0;
    for (size_t i = 0; i < f->m; i++)
        found += count_correct(&a, i, f->exact + i * f->n, f->n);
    answer_free(&a);
    return (double)found / (double)(f->m * K);
}

/* Within three standard errors of the queries that were not asked; what tuning says of
 * itself comes from half of those that were. */
static void other_queries_reach_the_recall(void **state) {
    const fixture *f = *state;
    static const double recalls[] = {0.5, 0.8, 0.95, 0.99};
    for (uint32_t bits = 1; bits <= 4; bits += 3) {
        rv_index *index = index_of(f, RV_PLUS, RV_L2, bits);
        uint32_t last = 0;
        for (size_t i = 0; i < 4; i++) {
            double recall = recalls[i];
            rv_tuning t = tuned(index, f->queries, f->m, recall);
            double error = sqrt(recall * (1 - recall) / (double)(f->m * K));
            double got = share_found(f, index), half = sqrt(2) * error;
            if (!(got >= recall - 3 * error && t.recall >= recall - 5 * half))
                fail_msg(
                    "recall %g: tuning says %g, other queries %g (nprobe %u, epsilon "
                    "%g)",
                    recall, t.recall, got, t.nprobe, (double)t.epsilon);
            if (i == 0) assert_true(t.nprobe < LISTS / 4);
            if (i == 3) assert_true(t.nprobe > last); /* more was asked for */
            last = i == 0 ? t.nprobe : last;
        }
        rv_index_free(index);
    }
}

/* The half that was not asked says what the choice is worth: true rows are those of all
 * lists, and those rows count that are as good. */
static void the_recall_is_that_of_the_odd_queries(void **state) {
    const fixture *f = *state;
    exact_hit *exact = need(f->n, sizeof *exact);
    rv_index *index = index_of(f, RV_PLUS, RV_L2, 1);
    const size_t m = 41; /* the last one is left over */
    rv_tuning t = tuned(index, f->queries, m, 0.9);
    answer a = answer_of(index, f->queries, m, DIM, K, NULL);
    size_t found = 0;
    for (size_t i = 1; i < 40; i += 2) {
        oracle(RV_L2, f->rows, NULL, NULL, f->n, DIM, f->queries + i * DIM, exact);
        found += count_correct(&a, i, exact, f->n);
    }
    assert_true(fabs(t.recall - (double)found / (20 * K)) < 1e-12);
    answer_free(&a);
    free(exact);
    rv_index_free(index);
}

typedef struct trial {
    double recall;
    uint64_t cost;
} trial;

/* What a setting is worth on every second query, and what it costs. */
static trial try_setting(const fixture *f, const rv_index *index, uint32_t nprobe,
                         float epsilon) {
    const size_t half = f->m / 2;
    float *queries = need(half * DIM, sizeof *queries), *scores = need(half * K, 4);
    uint64_t *ids = need(half * K, sizeof *ids);
    for (size_t i = 0; i < half; i++)
        memcpy(queries + i * DIM, f->others + 2 * i * DIM, DIM * sizeof *queries);
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.nprobe = nprobe;
    o.epsilon = epsilon;
    trial t = {0};
    assert_ok(rvx_search(index, &(rv_queries){queries, half, DIM}, K, &o,
                         &(rv_result){ids, scores}, &t.cost, err));
    answer a = {half, K, ids, scores};
    for (size_t i = 0; i < half; i++)
        t.recall += (double)count_correct(&a, i, f->exact + 2 * i * f->n, f->n);
    t.recall /= (double)(half * K);
    answer_free(&a);
    free(queries);
    return t;
}

/* Wider bounds, and the same with more lists, cost more wherever they are good enough. */
static void nothing_cheaper_is_good_enough(void **state) {
    const fixture *f = *state;
    static const float widths[] = {1, 1.3f, 1.6f, 1.9f, 2.2f, 2.6f, 3};
    const double recall = 0.9, n = (double)(f->m / 2 * K);
    const double target = recall + 2 * sqrt(recall * (1 - recall) / n);
    for (uint32_t bits = 1; bits <= 4; bits += 3) {
        rv_index *index = index_of(f, RV_PLUS, RV_L2, bits);
        rv_tuning chosen = tuned(index, f->others, f->m, recall);
        trial best = try_setting(f, index, chosen.nprobe, chosen.epsilon);
        assert_true(best.recall >= target - 1e-9 && best.cost > 0);
        size_t compared = 0;
        for (size_t w = 0; w < 7; w++) {
            const uint32_t nprobes[] = {chosen.nprobe, chosen.nprobe * 3 / 2,
                                        2 * chosen.nprobe, LISTS / 2, RV_ALL_LISTS};
            for (size_t i = 0; i < 5; i++) {
                trial t = try_setting(f, index, nprobes[i], widths[w]);
                if (t.recall < target) continue;
                compared++;
                assert_true(t.cost >= best.cost);
            }
        }
        assert_true(compared > 10);
        /* and with fewer lists it is not, but for a step of the search for them */
        uint32_t fewer = chosen.nprobe - 1 - chosen.nprobe / 8;
        if (fewer > 0)
            assert_true(try_setting(f, index, fewer, chosen.epsilon).recall < target);
        rv_index_free(index);
    }
}

/* Nothing short of everything may be enough, and then that is the choice. */
static void all_of_the_recall(void **state) {
    const fixture *f = *state;
    rv_index *index = index_of(f, RV_PLUS, RV_L2, 4);
    rv_tuning t = tuned(index, f->others, f->m, 1);
    assert_true(t.recall > 0.98);
    answer a = answer_of(index, f->others, f->m, DIM, K, NULL);
    for (size_t i = 0; i < f->m; i += 2) /* those it was chosen with */
        assert_int_equal(count_correct(&a, i, f->exact + i * f->n, f->n), K);
    answer_free(&a);
    rv_index_free(index);
}

/* Where no setting is enough, the best there is: all lists, and the widest bound. Rows
 * all but equally far from the query are lost just when a bound fails. */
static void more_than_there_is(void **state) {
    (void)state;
    const size_t n = 6000, k = n / 2;
    float *rows = normal_rows(7, n, DIM), queries[2 * DIM] = {0};
    uint64_t seed = 5;
    for (size_t i = 0; i < n; i++) {
        float *row = rows + i * DIM;
        row[0] = fabsf(row[0]); /* so that their mean is not the query */
        double length = sqrt(exact_score(RV_IP, row, row, DIM));
        for (size_t j = 0; j < DIM; j++)
            row[j] *= (float)((1 + 1e-3 * next_unit(&seed)) / length);
    }
    rv_build_options o = coded_options(RV_PLUS, RV_L2, DIM, 1, 2);
    rv_index *index = build_with(&o, rows, NULL, n);
    rv_tuning t = RV_TUNING_DEFAULT;
    assert_ok(rv_index_tune(index, &(rv_queries){queries, 2, DIM}, k, 1, NULL, &t, err));
    assert_true(t.recall > 0.99 && t.recall < 1); /* of the same query again */
    assert_int_equal(t.nprobe, RV_ALL_LISTS);
    assert_true(t.epsilon == 3);
    assert_defaults(index, RV_ALL_LISTS, 3);
    rv_index_free(index);
    free(rows);
}

/* Without vectors the best estimates are the truth; signs alone have no bound to widen.
 */
static void codes_alone(void **state) {
    const fixture *f = *state;
    for (uint32_t bits = 1; bits <= 4; bits += 3) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            rv_index *index = index_of(f, RV_RABITQ, (rv_metric)metric, bits);
            rv_search_options all = RV_SEARCH_DEFAULT;
            all.nprobe = RV_ALL_LISTS;
            all.epsilon = 7;
            answer a = answer_of(index, f->others, f->m, DIM, K, &all);
            rv_tuning t = tuned(index, f->queries, f->m, 0.9);
            answer b = answer_of(index, f->others, f->m, DIM, K, NULL);
            size_t found = 0;
            for (size_t i = 0; i < f->m * K; i++)
                for (size_t j = i / K * K; j < i / K * K + K; j++)
                    found += a.ids[i] == b.ids[j];
            assert_true((double)found > 0.86 * (double)(f->m * K));
            assert_true(t.nprobe < LISTS);
            rv_build_options o = RV_BUILD_DEFAULT;
            if (bits == 1) assert_true(t.epsilon == o.epsilon);
            answer_free(&a);
            answer_free(&b);
            rv_index_free(index);
        }
    }
}

/* Rows that are equally good are worth the same, whichever are found. */
static void ties_count(void **state) {
    (void)state;
    const size_t n = 2000;
    float *rows = need(n * DIM, sizeof *rows), *queries = clustered_rows(2, 20, DIM);
    float *kinds = clustered_rows(1, 10, DIM);
    for (size_t i = 0; i < n; i++) /* every vector 200 times */
        memcpy(rows + i * DIM, kinds + i % 10 * DIM, DIM * sizeof *rows);
    rv_build_options o = coded_options(RV_PLUS, RV_L2, DIM, 1, 10);
    rv_index *index = build_with(&o, rows, NULL, n);
    rv_tuning t = tuned(index, queries, 20, 0.99);
    assert_true(t.recall > 0.8 && t.nprobe <= 10);
    rv_index_free(index);
    free(rows);
    free(queries);
    free(kinds);
}

static void the_same_everywhere(void **state) {
    const fixture *f = *state;
    static const rv_kind kinds[] = {RV_RABITQ, RV_PLUS, RV_ASYM};
    for (size_t kind = 0; kind < 3; kind++) {
        rv_metric metric = (rv_metric)kind;
        rv_index *index = index_of(f, kinds[kind], metric, kind ? 3 : 1);
        rv_tuning first = RV_TUNING_DEFAULT;
        for (size_t isa = 0; isa_at(isa); isa++) {
            assert_ok(rv_isa_force(isa_at(isa), err));
            for (unsigned threads = 1; threads <= 3; threads++) {
                assert_ok(rv_set_num_threads(threads, err));
                rv_tuning t = tuned(index, f->queries, 40, 0.9);
                if (isa == 0 && threads == 1) first = t;
                assert_same_tuning(&t, &first); /* whatever the defaults were */
            }
        }
        rv_index_free(index);
    }
    assert_ok(rv_isa_force(NULL, err));
    assert_ok(rv_set_num_threads(0, err));
}

/* ---- defaults ---- */

static void the_choice_becomes_the_default(void **state) {
    const fixture *f = *state;
    for (size_t run = 0; run < 4; run++) {
        rv_index *index =
            index_of(f, run % 2 ? RV_PLUS : RV_RABITQ, RV_COSINE, run / 2 ? 4 : 1);
        rv_build_options built = RV_BUILD_DEFAULT;
        assert_defaults(index, RV_ALL_LISTS, built.epsilon);
        rv_tuning t = tuned(index, f->queries, 60, 0.7);
        assert_true(t.nprobe < LISTS);
        assert_defaults(index, t.nprobe, t.epsilon);
        rv_search_options o = RV_SEARCH_DEFAULT;
        answer plain = answer_of(index, f->others, 20, DIM, K, NULL);
        answer none = answer_of(index, f->others, 20, DIM, K, &o);
        o.nprobe = t.nprobe;
        o.epsilon = t.epsilon;
        answer named = answer_of(index, f->others, 20, DIM, K, &o);
        assert_same_answer(&plain, &named);
        assert_same_answer(&plain, &none);
        o.nprobe = RV_ALL_LISTS; /* and can be overruled */
        answer all = answer_of(index, f->others, 20, DIM, K, &o);
        assert_memory_not_equal(all.ids, plain.ids, 20 * K * sizeof *all.ids);

        file_bytes b = bytes_of(index);
        rv_index *loaded = from_bytes(&b);
        assert_defaults(loaded, t.nprobe, t.epsilon);
        answer from_file = answer_of(loaded, f->others, 20, DIM, K, NULL);
        assert_same_answer(&plain, &from_file);
        file_bytes again = bytes_of(loaded);
        assert_same_bytes(&b, &again);
        answer_free(&plain);
        answer_free(&none);
        answer_free(&named);
        answer_free(&all);
        answer_free(&from_file);
        free(b.data);
        free(again.data);
        rv_index_free(loaded);
        rv_index_free(index);
    }
}

/* A choice among lists is forgotten with them, and not before. */
static void changes_of_the_rows(void **state) {
    const fixture *f = *state;
    const size_t n = 1500;
    rv_build_options o = coded_options(RV_PLUS, RV_L2, DIM, 1, 0);
    o.n_lists = 30;
    rv_index *index = build_with(&o, f->rows, NULL, 20 * 8); /* 30 lists of a few rows */
    assert_ok(rv_index_add(index, &(rv_rows){f->rows, NULL, 200, DIM}, NULL, err));
    rv_tuning t = tuned(index, f->queries, 30, 0.6);
    assert_defaults(index, t.nprobe, t.epsilon);
    assert_ok(rv_index_remove(index, (uint64_t[]){3}, 1, NULL, err));
    assert_ok(rv_index_vacuum(index, err));
    assert_ok(rv_index_add(index, &(rv_rows){f->rows, NULL, 10, DIM}, NULL, err));
    assert_defaults(index, t.nprobe, t.epsilon);
    size_t more = n < f->n ? n : f->n; /* trains again: as many lists, others */
    assert_ok(rv_index_add(index, &(rv_rows){f->rows, NULL, more, DIM}, NULL, err));
    assert_defaults(index, t.nprobe, t.epsilon);
    rv_index_free(index);

    o.n_lists = 64; /* of 40 rows only so many can be made */
    index = build_with(&o, f->rows, NULL, 40);
    t = tuned(index, f->queries, 30, 0.6);
    assert_defaults(index, t.nprobe, t.epsilon);
    assert_ok(rv_index_add(index, &(rv_rows){f->rows, NULL, 500, DIM}, NULL, err));
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    assert_int_equal(info.n_lists, 64);
    assert_int_equal(info.nprobe, RV_ALL_LISTS);
    rv_index_free(index);
}

/* ---- what is refused ---- */

typedef struct watch {
    rv_index *index;
    uint64_t calls, done, total, stop_at;
    bool add; /* a row, from inside */
} watch;

static int watching(void *ctx, uint64_t done, uint64_t total) {
    watch *w = ctx;
    static const float row[DIM];
    assert_true(done >= w->done && done <= total);
    assert_true(w->total == 0 || w->total == total);
    w->done = done;
    w->total = total;
    if (w->add)
        assert_ok(rv_index_add(w->index, &(rv_rows){row, NULL, 1, DIM}, NULL, err));
    return ++w->calls == w->stop_at;
}

static void progress_and_cancelling(void **state) {
    const fixture *f = *state;
    rv_index *index = index_of(f, RV_PLUS, RV_L2, 2);
    rv_tuning before = tuned(index, f->queries, 20, 0.5), t = RV_TUNING_DEFAULT;
    watch w = {.index = index};
    rv_progress progress = {watching, &w};
    assert_ok(rv_set_num_threads(1, err)); /* who else reports not the queries it takes */
    assert_ok(rv_index_tune(index, &(rv_queries){f->queries, 60, DIM}, K, 0.99, &progress,
                            &t, err));
    assert_true(w.calls > 10 && w.done > w.total / 4);
    assert_true(t.nprobe > before.nprobe || t.epsilon > before.epsilon);
    before = t;
    uint64_t calls = w.calls;
    file_bytes bytes = bytes_of(index);
    for (uint64_t stop = 1; stop <= calls; stop += 1 + calls / 12) {
        w = (watch){.index = index, .stop_at = stop};
        rv_status status = rv_index_tune(index, &(rv_queries){f->queries, 60, DIM}, K,
                                         0.99, &progress, &t, NULL);
        /* Some reports come by the clock: a run may have fewer than the first had. */
        assert_int_equal(status, w.calls == stop ? RV_ERR_CANCELLED : RV_OK);
        assert_true(w.calls <= stop && w.calls > 0); /* not asked again */
        assert_defaults(index, before.nprobe, before.epsilon);
    }
    file_bytes after = bytes_of(index);
    assert_same_bytes(&bytes, &after);
    free(bytes.data);
    free(after.data);
    w = (watch){.index = index, .add = true}; /* nothing is locked meanwhile */
    assert_ok(rv_index_tune(index, &(rv_queries){f->queries, 20, DIM}, K, 0.9, &progress,
                            &t, err));
    assert_int_equal(live_rows(index), f->n + w.calls);
    assert_ok(rv_set_num_threads(0, err));
    rv_index_free(index);
}

static void bad_arguments(void **state) {
    const fixture *f = *state;
    rv_index *index = index_of(f, RV_PLUS, RV_L2, 1);
    rv_index *flat = index_of(f, RV_FLAT, RV_L2, 1);
    rv_build_options o = coded_options(RV_PLUS, RV_L2, DIM, 1, LISTS);
    rv_index *empty = build_with(&o, NULL, NULL, 0);
    rv_index *small = build_with(&o, f->rows, NULL, 9);
    file_bytes before = bytes_of(index);
    rv_tuning t = RV_TUNING_DEFAULT;
#define TUNE(index, m, dim, k, recall)                                                   \
    rv_index_tune(index, &(rv_queries){f->queries, m, dim}, k, recall, NULL, &t, err)
    assert_fails(RV_ERR_ARGUMENT, TUNE(flat, 20, DIM, K, 0.9));
    assert_fails(RV_ERR_DIM, TUNE(index, 20, DIM - 1, K, 0.9));
    assert_fails(RV_ERR_DIM, TUNE(index, 20, 0, K, 0.9));
    assert_fails(RV_ERR_ARGUMENT, TUNE(index, 0, DIM, K, 0.9));
    assert_fails(RV_ERR_ARGUMENT, TUNE(index, 1, DIM, K, 0.9));
    assert_fails(RV_ERR_ARGUMENT, TUNE(index, 20, DIM, 0, 0.9));
    assert_fails(RV_ERR_ARGUMENT, TUNE(small, 20, DIM, K, 0.9));
    assert_fails(RV_ERR_ARGUMENT, TUNE(index, 20, DIM, UINT64_MAX, 0.9));
    assert_fails(RV_ERR_EMPTY, TUNE(empty, 20, DIM, K, 0.9));
    const double bad[] = {0, -0.5, 1.0001, 90, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(RV_ERR_ARGUMENT, TUNE(index, 20, DIM, K, bad[i]));
    for (size_t at = 0; at < 10; at++) { /* in either half, by its own number */
        float queries[10 * DIM];
        memcpy(queries, f->queries, sizeof queries);
        queries[at * DIM + 3] = at % 3 ? NAN : INFINITY;
        rv_error error = {0};
        assert_int_equal(rv_index_tune(index, &(rv_queries){queries, 10, DIM}, K, 0.9,
                                       NULL, &t, &error),
                         RV_ERR_VALUE);
        assert_int_equal(error.actual, at);
    }
    file_bytes after = bytes_of(index);
    assert_same_bytes(&before, &after);
    free(before.data);
    free(after.data);
    assert_ok(TUNE(small, 2, DIM, 9, 1e-9)); /* as small as it gets */
    rv_index_free(index);
    rv_index_free(flat);
    rv_index_free(empty);
    rv_index_free(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_queries_reach_the_recall),
        cmocka_unit_test(the_recall_is_that_of_the_odd_queries),
        cmocka_unit_test(nothing_cheaper_is_good_enough),
        cmocka_unit_test(all_of_the_recall),
        cmocka_unit_test(more_than_there_is),
        cmocka_unit_test(codes_alone),
        cmocka_unit_test(ties_count),
        cmocka_unit_test(the_same_everywhere),
        cmocka_unit_test(the_choice_becomes_the_default),
        cmocka_unit_test(changes_of_the_rows),
        cmocka_unit_test(progress_and_cancelling),
        cmocka_unit_test(bad_arguments),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
