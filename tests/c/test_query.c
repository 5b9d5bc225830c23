/*
 * test_query.c - which lists a query looks into, and in which order: distances to
 * centroids in double precision, nearest lists first, as many as were asked for and then
 * as many more as it takes to fill the answer. Many lists are ranked by estimates.
 */
#include "index_cases.h"

#include "index/index_i.h"

#define DIM 100u /* so that 512 lists are ranked by codes */
#define LISTS 50u
#define MANY_LISTS 600u

static rvx_query_state prepared(const rv_index *index, const float *query,
                                uint32_t nprobe) {
    const rvk_ops *ops = rvk_ops_active();
    rvx_query_state s = {.index = index,
                         .ops = ops,
                         .params = {.k = 1, .nprobe = nprobe, .epsilon = 2},
                         .query = query};
    assert_ok(rvx_index_ensure_lists(index, ops, err));
    assert_ok(rvx_norm(ops, query, index->dim, "query", 0, &s.query_norm, err));
    assert_ok(rvx_scan_init(&s, err));
    rvx_query_prepare(&s);
    return s;
}

/* An index with more lists than so few rows could be given: its centroids are some of the
 * rows. */
static rv_index *crowded(rv_kind kind, rv_metric metric, uint32_t bits, uint32_t n_lists,
                         const float *rows, const uint64_t *ids, size_t n) {
    rv_build_options o = coded_options(kind, metric, DIM, bits, n_lists);
    rv_index *index = build_with(&o, NULL, NULL, 0);
    rvx_quantizer *q;
    assert_ok(rvx_quantizer_create(DIM, metric, o.seed, n_lists, bits, &q, err));
    assert_int_equal(q->n_lists, n_lists);
    float *scale = need(n, sizeof *scale);
    for (size_t i = 0; i < n; i++) {
        const float *row = rows + i * DIM;
        double length = sqrt(exact_score(RV_IP, row, row, DIM));
        scale[i] = metric == RV_COSINE && length > 0 ? (float)(1 / length) : 1;
        for (size_t j = 0; j < DIM; j++) q->mean[j] += row[j] * scale[i] / (float)n;
    }
    for (size_t l = 0; l < n_lists; l++) {
        size_t i = l * n / n_lists;
        rvx_quantizer_rotate(q, rvk_ops_active(), rows + i * DIM, scale[i],
                             q->centroids + l * q->padded);
    }
    free(scale);
    assert_ok(rvx_quantizer_finish(q, err));
    q->trained_on = RV_MAX_ROWS; /* and that is not to be done again */
    index->quantizer = q;
    assert_ok(rv_index_add(index, &(rv_rows){rows, ids, n, DIM}, NULL, err));
    assert_ptr_equal(index->quantizer, q);
    return index;
}

static uint32_t list_of(const rv_index *index, size_t row) {
    uint32_t list;
    memcpy(&list, rvx_cell(&index->rows.column[RVX_LISTS], row), sizeof list);
    return list;
}

/* Takes out the rows of every third list and, of the rest, every `other`-th. */
static void thin_out(rv_index *index, size_t other) {
    size_t n = 0;
    uint64_t *ids = need(index->rows.n, sizeof *ids);
    for (size_t row = 0; row < index->rows.n; row++)
        if (list_of(index, row) % 3 == 1 || row % other == 0)
            ids[n++] = rvx_row_id(&index->rows, row);
    assert_ok(rv_index_remove(index, ids, n, NULL, err));
    free(ids);
}

/* ---- distances and order ---- */

/* Distances that are known are right. Returns how many are. */
static size_t assert_measured(const rvx_query_state *s) {
    const rvx_quantizer *q = s->index->quantizer;
    size_t padded = q->padded;
    float *y = need(2 * padded, sizeof *y), *p = y + padded;
    double length = sqrt(exact_score(RV_IP, s->query, s->query, q->dim));
    float scale = q->metric == RV_COSINE ? 1 / s->query_norm : 1;
    rvx_quantizer_rotate(q, s->ops, s->query, scale, y);
    memcpy(p, s->query, q->dim * sizeof *p);
    s->ops->rotate(p, padded, q->signs);
    double mean_dot = exact_score(RV_IP, s->query, q->mean, q->dim);
    size_t known = 0;
    for (size_t l = 0; l < q->n_lists; l++) {
        if (isnan(s->list_g2[l])) continue;
        known++;
        const float *c = q->centroids + l * padded;
        double g2 = exact_score(RV_L2, y, c, padded), g = g2;
        if (q->metric == RV_IP) g = -mean_dot - exact_score(RV_IP, p, c, padded);
        double size = q->metric == RV_IP ? 1 + length * length : 1 + g2;
        assert_true(fabs((double)s->list_g2[l] - g2) < 1e-5 * (1 + g2));
        assert_true(fabs((double)s->list_g[l] - g) < 1e-5 * size);
    }
    free(y);
    return known;
}

static bool before(const rvx_query_state *s, uint32_t a, uint32_t b) {
    return s->list_g[a] < s->list_g[b] || (s->list_g[a] == s->list_g[b] && a < b);
}

/* Every list that holds rows stands in the order once. */
static void assert_complete(const rvx_query_state *s) {
    const rvx_lists *lists = &s->index->lists;
    uint8_t *seen = need(lists->n_lists, 1);
    size_t filled = 0;
    for (size_t i = 0; i < s->n_order; i++) {
        uint32_t list = s->order[i].row;
        assert_true(list < lists->n_lists && !seen[list] && lists->list[list].n > 0);
        seen[list] = 1;
    }
    for (uint32_t l = 0; l < lists->n_lists; l++) filled += lists->list[l].n > 0;
    assert_int_equal(s->n_order, filled);
    free(seen);
}

static void assert_ordered(rvx_query_state *s, uint32_t nprobe) {
    assert_complete(s);
    assert_int_equal(s->n_probed, nprobe < s->n_order ? nprobe : s->n_order);
    assert_true(s->n_near >= 1 && s->n_near <= s->n_probed);
    for (size_t i = 1; i < s->n_near; i++)
        assert_true(before(s, s->order[i - 1].row, s->order[i].row));
    for (size_t i = s->n_near; i < s->n_order; i++)
        assert_true(before(s, s->order[s->n_near - 1].row, s->order[i].row));
    for (size_t i = s->n_near + 1; i < s->n_probed; i++)
        assert_true(s->order[i - 1].row < s->order[i].row);
    for (size_t i = 0; i < s->n_probed; i++)
        for (size_t j = s->n_probed; j < s->n_order; j++)
            assert_true(before(s, s->order[i].row, s->order[j].row));
    rvx_order_rest(s);
    assert_complete(s);
    for (size_t i = s->n_probed + 1; i < s->n_order; i++)
        assert_true(before(s, s->order[i - 1].row, s->order[i].row));
}

static void nearest_lists_come_first(void **state) {
    (void)state;
    static const uint32_t lists[] = {1, 2, 17, 64, 150};
    static const uint32_t nprobes[] = {1, 2, 15, 16, 17, 40, 149, 150, RV_ALL_LISTS};
    const size_t n = 2000;
    float *rows = clustered_rows(1, n, DIM), *queries = clustered_rows(2, 5, DIM);
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
        for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
            rv_index *index =
                crowded(RV_RABITQ, (rv_metric)metric, 1, lists[l], rows, NULL, n);
            if (metric == RV_L2 && lists[l] > 2) {
                thin_out(index, n);
                assert_ok(rv_index_vacuum(index, err)); /* and lists are empty */
            }
            for (size_t i = 0; i < 5; i++) {
                for (size_t p = 0; p < sizeof nprobes / sizeof *nprobes; p++) {
                    rvx_query_state s = prepared(index, queries + i * DIM, nprobes[p]);
                    assert_int_equal(assert_measured(&s), lists[l]);
                    assert_ordered(&s, nprobes[p]);
                    rvx_scan_clear(&s);
                }
            }
            rv_index_free(index);
        }
    }
    free(rows);
    free(queries);
}

/* Many lists are ranked by what the codes of their centroids say; those to be looked into
 * are measured, and are the nearest but for few. */
static void nearest_of_very_many_lists(void **state) {
    (void)state;
    static const uint32_t lists[] = {511, 512, 700, 2000};
    static const uint32_t nprobes[] = {1, 5, 30, 60, 250, 2000, RV_ALL_LISTS};
    const size_t n = 3000, m = 10;
    float *rows = clustered_rows(1, n, DIM), *queries = clustered_rows(2, m, DIM);
    for (size_t run = 0; run < 12; run++) {
        uint32_t n_lists = lists[run % 4];
        rv_index *index =
            crowded(RV_RABITQ, (rv_metric)(run / 4), 1, n_lists, rows, NULL, n);
        if (run % 4 == 3) thin_out(index, n);
        assert_ok(rv_index_vacuum(index, err));
        size_t asked = 0, found = 0, estimated = 0;
        for (size_t i = 0; i < m * 7; i++) {
            uint32_t nprobe = nprobes[i % 7];
            const float *query = queries + i / 7 * DIM;
            rvx_query_state s = prepared(index, query, nprobe);
            rvx_query_state all = prepared(index, query, RV_ALL_LISTS);
            estimated += assert_measured(&s) < n_lists;
            assert_int_equal(assert_measured(&all), n_lists);
            assert_complete(&s);
            assert_int_equal(s.n_probed, nprobe < s.n_order ? nprobe : s.n_order);
            for (size_t a = 1; a < s.n_near; a++)
                assert_true(before(&s, s.order[a - 1].row, s.order[a].row));
            for (size_t a = 0; a < s.n_probed; a++) {
                uint32_t list = s.order[a].row;
                size_t nearer = 0;
                assert_true(s.list_g[list] == all.list_g[list]);
                assert_true(s.list_g2[list] == all.list_g2[list]);
                for (size_t b = 0; b < all.n_order; b++)
                    nearer += before(&all, all.order[b].row, list);
                found += nearer < s.n_probed;
                if (a > s.n_near) assert_true(s.order[a - 1].row < list);
            }
            asked += s.n_probed;
            rvx_order_rest(&s);
            assert_complete(&s);
            rvx_scan_clear(&s);
            rvx_scan_clear(&all);
        }
        if (n_lists < 512) assert_int_equal(found, asked);
        if (!((double)found > 0.998 * (double)asked))
            fail_msg("%u lists: %zu of %zu are the nearest", n_lists, found, asked);
        assert_true((estimated > 0) == (n_lists >= 512));
        rv_index_free(index);
    }
    free(rows);
    free(queries);
}

static void the_same_order_everywhere(void **state) {
    (void)state;
    static const uint32_t lists[] = {100, 600};
    const size_t n = 2000;
    float *rows = clustered_rows(1, n, DIM), *query = clustered_rows(2, 1, DIM);
    for (size_t run = 0; run < 6; run++) {
        uint32_t n_lists = lists[run % 2], order[600];
        rv_index *index =
            crowded(RV_RABITQ, (rv_metric)(run / 2), 1, n_lists, rows, NULL, n);
        for (size_t isa = 0; isa_at(isa); isa++) {
            assert_ok(rv_isa_force(isa_at(isa), err));
            rvx_query_state s = prepared(index, query, 40);
            rvx_order_rest(&s);
            for (size_t i = 0; i < n_lists; i++) {
                if (isa == 0) order[i] = s.order[i].row;
                assert_int_equal(s.order[i].row, order[i]);
            }
            rvx_scan_clear(&s);
        }
        rv_index_free(index);
    }
    assert_ok(rv_isa_force(NULL, err));
    free(rows);
    free(query);
}

static void large_indexes_leave_lists_out(void **state) {
    (void)state;
    rvx_quantizer q = {.n_lists = 1};
    rv_index index = {.quantizer = &q};
    uint32_t last = 0;
    for (size_t n = 1000; n < 100000000; n += n / 7) {
        index.rows.n_live = n;
        q.n_lists = rvx_auto_lists(n);
        uint32_t nprobe = rvx_default_nprobe(&index);
        if (n <= 100000) {
            assert_true(nprobe == RV_ALL_LISTS);
            continue;
        }
        if (n >= 1000000) assert_true(nprobe > 30 && nprobe <= q.n_lists / 4);
        assert_true(nprobe == RV_ALL_LISTS || nprobe >= last);
        if (nprobe != RV_ALL_LISTS) last = nprobe;
        index.nprobe = 3; /* unless it has been told */
        assert_int_equal(rvx_default_nprobe(&index), 3);
        index.nprobe = 0;
    }
    index.quantizer = NULL;
    assert_true(rvx_default_nprobe(&index) == RV_ALL_LISTS);
}

/* ---- answers ---- */

typedef struct fixture {
    size_t n, m;
    float *rows, *queries;
    uint64_t *ids;
} fixture;

static int set_up(void **state) {
    fixture *f = need(1, sizeof *f);
    f->n = sized(2000);
    f->m = sized(8);
    f->rows = whole_rows(1, f->n, DIM);
    f->queries = whole_rows(2, f->m, DIM);
    f->ids = scattered_ids(3, f->n);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    free(f->rows);
    free(f->queries);
    free(f->ids);
    free(f);
    return 0;
}

/* Rows in lists that a query may see, allowed ones of them: those in reach, and
 * further ones, nearest first, until there are `wanted`. */
static size_t visible(const rv_index *index, const float *query, uint32_t nprobe,
                      size_t wanted, const uint8_t *allowed, uint8_t *out) {
    rvx_query_state s = prepared(index, query, nprobe);
    size_t n = index->rows.n, count = 0, rows_in[MANY_LISTS] = {0};
    bool seen[MANY_LISTS] = {false};
    for (size_t row = 0; row < n; row++)
        rows_in[list_of(index, row)] += !allowed || allowed[row];
    rvx_order_rest(&s);
    for (size_t i = 0; i < s.n_order && (i < s.n_probed || count < wanted); i++) {
        seen[s.order[i].row] = true;
        count += rows_in[s.order[i].row];
    }
    for (size_t row = 0; row < n; row++)
        out[row] = seen[list_of(index, row)] && (!allowed || allowed[row]);
    rvx_scan_clear(&s);
    return count;
}

static size_t filled(const answer *a) {
    size_t n = 0;
    while (n < a->k && a->ids[n] != RV_NO_ID) n++;
    return n;
}

typedef struct probing {
    uint32_t nprobe, factor;
    size_t k;
    uint64_t cap;
    const uint8_t *allowed;
} probing;

/* The answer is that of all lists over the rows in reach: exact where there are
 * vectors, the same estimates where there are codes. */
static void check_probing(const fixture *f, const rv_index *index, const probing *p) {
    uint8_t *reach = need(f->n, 1);
    exact_hit *exact = need(f->n, sizeof *exact);
    size_t n_allowed = 0;
    for (size_t i = 0; i < f->n; i++) n_allowed += !p->allowed || p->allowed[i];
    size_t wanted = p->k < n_allowed ? p->k : n_allowed;
    rv_search_options probed = RV_SEARCH_DEFAULT, all = RV_SEARCH_DEFAULT;
    probed.epsilon = all.epsilon = 1000;
    probed.rerank_factor = all.rerank_factor = p->factor;
    probed.max_rerank = all.max_rerank = p->cap;
    probed.nprobe = p->nprobe;
    all.nprobe = RV_ALL_LISTS;
    probed.allow_mask = p->allowed;
    all.allow_mask = reach;
    probed.allow_mask_len = all.allow_mask_len = f->n;
    for (size_t i = 0; i < f->m; i++) {
        const float *query = f->queries + i * DIM;
        size_t count = visible(index, query, p->nprobe, wanted, p->allowed, reach);
        answer a = answer_of(index, query, 1, DIM, p->k, &probed);
        answer b = answer_of(index, query, 1, DIM, p->k, &all);
        assert_int_equal(filled(&a), wanted);
        for (size_t j = 0; j < wanted; j++)
            assert_true(reach[rvx_row_of_id(&index->ids, &index->rows, a.ids[j])]);
        /* a cap on signs goes by estimates with the query rounded, or not where few rows
         * are in reach and are compared one by one */
        if (!p->cap || index->bits > 1) assert_same_answer(&a, &b);
        if (index->has_vectors && !p->cap) {
            oracle(index->metric, f->rows, f->ids, reach, f->n, DIM, query, exact);
            assert_is_exact(&a, 0, index->metric, exact, count,
                            index->metric == RV_COSINE ? 1e-6 : 0);
        }
        answer_free(&a);
        answer_free(&b);
    }
    free(reach);
    free(exact);
}

static void answers_come_from_the_lists_in_reach(void **state) {
    const fixture *f = *state;
    static const uint32_t nprobes[] = {1, 7, 33};
    static const rv_kind kinds[] = {RV_RABITQ, RV_PLUS, RV_ASYM};
    const size_t ks[] = {1, 10, f->n / 10, f->n + 5};
    uint8_t *mask = need(f->n, 1);
    for (size_t i = 0; i < f->n; i++) mask[i] = i * i % 11 < 4;
    for (size_t run = 0; run < 18; run++) {
        rv_kind kind = kinds[run % 3];
        rv_metric metric = (rv_metric)(run / 3 % 3);
        rv_build_options o = coded_options(kind, metric, DIM, run % 2 ? 3 : 1, LISTS);
        rv_index *index =
            run < 9 ? build_with(&o, f->rows, f->ids, f->n)
                    : crowded(kind, metric, o.bits, MANY_LISTS, f->rows, f->ids, f->n);
        for (size_t i = 0; i < 3; i++) {
            for (size_t k = 0; k < 4; k++) {
                probing p = {.nprobe = nprobes[i], .k = ks[k]};
                check_probing(f, index, &p);
                bool reranked = kind != RV_RABITQ && (i + k) % 2;
                if (reranked) p.factor = 2;
                if (reranked && k % 2) p.cap = p.k + 9;
                if (reranked) check_probing(f, index, &p);
                if (k > 2) continue; /* so few would be compared one by one */
                p.allowed = mask;
                check_probing(f, index, &p);
            }
        }
        rv_index_free(index);
    }
    free(mask);
}

/* Few allowed rows are compared one by one, whatever list they are in. */
static void few_allowed_rows_are_always_in_reach(void **state) {
    const fixture *f = *state;
    uint8_t *mask = need(f->n, 1);
    exact_hit *exact = need(f->n, sizeof *exact);
    for (size_t i = 5; i < f->n; i += f->n / 12) mask[i] = 1;
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.allow_mask = mask;
    o.allow_mask_len = f->n;
    o.nprobe = 1;
    o.epsilon = 1000;
    for (int metric = RV_L2; metric <= RV_IP; metric++) {
        rv_build_options b = coded_options(RV_PLUS, (rv_metric)metric, DIM, 2, LISTS);
        rv_index *index = build_with(&b, f->rows, f->ids, f->n);
        answer a = answer_of(index, f->queries, f->m, DIM, 20, &o);
        for (size_t i = 0; i < f->m; i++) {
            size_t count = oracle((rv_metric)metric, f->rows, f->ids, mask, f->n, DIM,
                                  f->queries + i * DIM, exact);
            assert_is_exact(&a, i, (rv_metric)metric, exact, count, 0);
        }
        answer_free(&a);
        rv_index_free(index);
    }
    free(mask);
    free(exact);
}

/* Removed rows fill no place: neither do lists that are empty by now. */
static void as_many_answers_as_there_are_rows(void **state) {
    const fixture *f = *state;
    static const rv_kind kinds[] = {RV_RABITQ, RV_PLUS};
    uint8_t *mask = need(f->n, 1);
    for (size_t run = 0; run < 12; run++) {
        rv_kind kind = kinds[run % 2];
        rv_build_options b =
            coded_options(kind, (rv_metric)(run / 2 % 3), DIM, run < 6 ? 1 : 5, LISTS);
        rv_index *index = build_with(&b, f->rows, f->ids, f->n);
        if (run % 3 == 0) { /* lists that are there are kept, those to come are not */
            answer a = answer_of(index, f->queries, 1, DIM, 1, NULL);
            answer_free(&a);
        }
        thin_out(index, 6);
        size_t live = live_rows(index), allowed = 0;
        for (size_t i = 0; i < live; i++) allowed += mask[i] = i % 3 != 0;
        for (size_t round = 0; round < 16; round++) {
            rv_search_options o = RV_SEARCH_DEFAULT;
            o.nprobe = 1 + (uint32_t)(round / 4) * 3;
            const size_t ks[] = {1, 40, live / 3, live + 3};
            size_t k = ks[round % 4], most = live;
            if (round % 3 == 0) {
                o.allow_mask = mask;
                o.allow_mask_len = live;
                most = allowed;
            }
            if (kind == RV_PLUS && round % 5 > 2) o.rerank_factor = 3;
            if (kind == RV_PLUS && round % 2) o.max_rerank = k + round;
            answer a = answer_of(index, f->queries, f->m, DIM, k, &o);
            for (size_t i = 0; i < f->m; i++)
                for (size_t j = 0; j < k; j++)
                    assert_int_equal(a.ids[i * k + j] != RV_NO_ID, j < k && j < most);
            answer_free(&a);
        }
        rv_index_free(index);
    }
    free(mask);
}

static void all_lists_by_any_name(void **state) {
    const fixture *f = *state;
    static const rv_kind kinds[] = {RV_RABITQ, RV_PLUS, RV_ASYM};
    for (size_t run = 0; run < 18; run++) {
        rv_build_options b = coded_options(kinds[run % 3], (rv_metric)(run / 3 % 3), DIM,
                                           run < 9 ? 1 : 4, LISTS);
        rv_index *index = build_with(&b, f->rows, f->ids, f->n);
        const uint32_t names[] = {RV_ALL_LISTS, LISTS, LISTS + 1, RV_MAX_LISTS,
                                  RV_ALL_LISTS - 1};
        rv_search_options o = RV_SEARCH_DEFAULT; /* an index of this size sees all */
        answer first = answer_of(index, f->queries, f->m, DIM, 10, &o);
        for (size_t i = 0; i < 5; i++) {
            o.nprobe = names[i];
            answer a = answer_of(index, f->queries, f->m, DIM, 10, &o);
            assert_same_answer(&first, &a);
            answer_free(&a);
        }
        o.nprobe = 1;
        answer a = answer_of(index, f->queries, f->m, DIM, 10, &o);
        assert_memory_not_equal(a.ids, first.ids, f->m * 10 * sizeof *a.ids);
        answer_free(&a);
        answer_free(&first);
        rv_index_free(index);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nearest_lists_come_first),
        cmocka_unit_test(nearest_of_very_many_lists),
        cmocka_unit_test(the_same_order_everywhere),
        cmocka_unit_test(large_indexes_leave_lists_out),
        cmocka_unit_test(answers_come_from_the_lists_in_reach),
        cmocka_unit_test(few_allowed_rows_are_always_in_reach),
        cmocka_unit_test(as_many_answers_as_there_are_rows),
        cmocka_unit_test(all_lists_by_any_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
