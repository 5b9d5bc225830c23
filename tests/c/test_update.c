/*
 * test_update.c - add, upsert, remove and vacuum: long random histories against a plain
 * model, ids up to the last one, upkeep, refused calls that leave no trace, and views
 * that outlive all of it.
 */
#include "index_cases.h"

#include "index/index_i.h"

static const rv_kind kinds[] = {RV_FLAT, RV_RABITQ, RV_PLUS, RV_ASYM};

/* ---- the model ---- */

#define MODEL_ROWS 4000u

typedef struct model {
    size_t dim, n; /* live rows, in order */
    uint64_t ids[MODEL_ROWS];
    float *rows;
    uint64_t next_id;
} model;

static model *model_of(size_t dim) {
    model *m = need(1, sizeof *m);
    m->dim = dim;
    m->rows = need(MODEL_ROWS * dim, sizeof *m->rows);
    return m;
}

static void model_free(model *m) {
    free(m->rows);
    free(m);
}

static size_t model_find(const model *m, uint64_t id) {
    size_t row = 0;
    while (row < m->n && m->ids[row] != id) row++;
    return row;
}

static bool model_remove(model *m, uint64_t id) {
    size_t row = model_find(m, id);
    if (row == m->n) return false;
    m->n--;
    memmove(m->ids + row, m->ids + row + 1, (m->n - row) * sizeof *m->ids);
    memmove(m->rows + row * m->dim, m->rows + (row + 1) * m->dim,
            (m->n - row) * m->dim * sizeof *m->rows);
    return true;
}

static void model_append(model *m, uint64_t id, const float *row) {
    assert_true(m->n < MODEL_ROWS);
    m->ids[m->n] = id;
    memcpy(m->rows + m->n++ * m->dim, row, m->dim * sizeof *row);
    if (id >= m->next_id) m->next_id = id + 1;
}

static void check_rows(const rv_index *index, const model *m, bool vectors,
                       uint64_t *seed) {
    uint64_t *ids = need(m->n, sizeof *ids);
    float *rows = need(m->n * m->dim, sizeof *rows), *norms = need(m->n, sizeof *norms);
    size_t begin = m->n ? next_below(seed, m->n) : 0, some = (m->n - begin) / 2;
    assert_ok(
        rv_index_copy_rows(index, 0, m->n, ids, norms, NULL, vectors ? rows : NULL, err));
    assert_memory_equal(ids, m->ids, m->n * sizeof *ids);
    if (vectors) assert_memory_equal(rows, m->rows, m->n * m->dim * sizeof *rows);
    for (size_t i = 0; i < m->n; i++) {
        const float *row = m->rows + i * m->dim;
        double norm = sqrt(exact_score(RV_IP, row, row, m->dim));
        assert_true(fabs((double)norms[i] - norm) <= 1e-6 * norm);
    }
    assert_ok(rv_index_copy_rows(index, begin, some, ids, NULL, NULL, NULL, err));
    assert_memory_equal(ids, m->ids + begin, some * sizeof *ids);
    assert_fails(RV_ERR_NOT_FOUND, rv_index_copy_rows(index, begin, m->n - begin + 1, ids,
                                                      NULL, NULL, NULL, err));
    free(ids);
    free(rows);
    free(norms);
}

static void check_search(const rv_index *index, const model *m, rv_metric metric,
                         bool vectors, uint64_t *seed) {
    rv_search_options wide = RV_SEARCH_DEFAULT;
    wide.epsilon = 1000;
    float *query = whole_rows(next_u64(seed), 1, m->dim);
    if (m->n == 0) {
        uint64_t id;
        float score;
        assert_fails(RV_ERR_EMPTY,
                     rv_index_search(index, &(rv_queries){query, 1, (uint32_t)m->dim}, 1,
                                     NULL, &(rv_result){&id, &score}, err));
        free(query);
        return;
    }
    size_t k = vectors ? 15 : m->n + 1;
    answer a = answer_of(index, query, 1, m->dim, k, &wide);
    exact_hit *exact = need(m->n, sizeof *exact);
    size_t count = oracle(metric, m->rows, m->ids, NULL, m->n, m->dim, query, exact);
    if (vectors) {
        assert_is_exact(&a, 0, metric, exact, count, metric == RV_COSINE ? 1e-6 : 0);
    } else {
        for (size_t i = 0; i < m->n; i++) /* every live row, no other */
            assert_true(model_find(m, a.ids[i]) < m->n);
        assert_true(a.ids[m->n] == RV_NO_ID);
    }
    free(exact);
    free(query);
    answer_free(&a);
}

static void check_index(const rv_index *index, const model *m, rv_metric metric,
                        uint64_t *seed) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(index, &info, err));
    assert_int_equal(info.n, m->n);
    assert_int_equal(info.next_id, m->next_id);
    check_rows(index, m, info.has_vectors, seed);
    check_search(index, m, metric, info.has_vectors, seed);
    float *row = need(m->dim, sizeof *row);
    for (int i = 0; i < 10; i++) {
        uint64_t id = m->n && i ? m->ids[next_below(seed, m->n)] : next_below(seed, 500);
        size_t at = model_find(m, id);
        assert_int_equal(rv_index_contains(index, id), at < m->n);
        if (!info.has_vectors) {
            assert_fails(RV_ERR_NO_VECTORS, rv_index_get(index, id, row, err));
        } else if (at == m->n) {
            assert_fails(RV_ERR_NOT_FOUND, rv_index_get(index, id, row, err));
        } else {
            assert_ok(rv_index_get(index, id, row, err));
            assert_memory_equal(row, m->rows + at * m->dim, m->dim * sizeof *row);
        }
    }
    free(row);
}

/* ---- histories ---- */

/* Ids that come back: a few hundred, some of them large. */
static uint64_t some_id(uint64_t *seed) {
    uint64_t id = next_below(seed, 500);
    return id % 5 == 0 ? id << 40 : id;
}

static size_t distinct_ids(uint64_t *seed, size_t n, uint64_t *out) {
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t id = some_id(seed);
        bool fresh = true;
        for (size_t j = 0; j < made; j++) fresh = fresh && out[j] != id;
        if (fresh) out[made++] = id;
    }
    return made;
}

static void step_add(rv_index *index, model *m, uint64_t *seed) {
    uint64_t ids[60];
    size_t n = next_below(seed, 60);
    float *rows = whole_rows(next_u64(seed), 60, m->dim);
    bool own = next_u64(seed) & 1, known = false;
    if (own) n = distinct_ids(seed, n, ids);
    for (size_t i = 0; own && i < n; i++) known = known || model_find(m, ids[i]) < m->n;
    uint32_t dim = (uint32_t)m->dim;
    if (known) {
        assert_fails(RV_ERR_DUPLICATE,
                     rv_index_add(index, &(rv_rows){rows, ids, n, dim}, NULL, err));
    } else {
        assert_ok(
            rv_index_add(index, &(rv_rows){rows, own ? ids : NULL, n, dim}, NULL, err));
        uint64_t first = m->next_id;
        for (size_t i = 0; i < n; i++)
            model_append(m, own ? ids[i] : first + i, rows + i * m->dim);
    }
    free(rows);
}

static void step_upsert(rv_index *index, model *m, uint64_t *seed) {
    uint64_t ids[60];
    size_t n = distinct_ids(seed, next_below(seed, 60), ids);
    float *rows = whole_rows(next_u64(seed), 60, m->dim);
    assert_ok(
        rv_index_upsert(index, &(rv_rows){rows, ids, n, (uint32_t)m->dim}, NULL, err));
    for (size_t i = 0; i < n; i++) model_remove(m, ids[i]);
    for (size_t i = 0; i < n; i++) model_append(m, ids[i], rows + i * m->dim);
    free(rows);
}

static void step_remove(rv_index *index, model *m, uint64_t *seed) {
    uint64_t ids[80], removed;
    size_t n = next_below(seed, 80), expected = 0;
    for (size_t i = 0; i < n; i++) /* repeated and absent ones too */
        ids[i] = m->n && i % 3 ? m->ids[next_below(seed, m->n)] : some_id(seed);
    for (size_t i = 0; i < n; i++) expected += model_remove(m, ids[i]);
    assert_ok(rv_index_remove(index, ids, n, n % 2 ? &removed : NULL, err));
    if (n % 2) assert_int_equal(removed, expected);
}

static void step_reload(rv_index **index) {
    file_bytes b = bytes_of(*index);
    rv_index_info before = RV_INDEX_INFO_DEFAULT, after = RV_INDEX_INFO_DEFAULT;
    assert_ok(rv_index_get_info(*index, &before, err));
    rv_index_free(*index);
    *index = NULL;
    assert_ok(
        rv_index_from_memory(b.data, b.size, RV_VERIFY_ALWAYS, free, b.data, index, err));
    assert_ok(rv_index_get_info(*index, &after, err));
    assert_int_equal(after.dead, 0);
    assert_int_equal(after.n, before.n);
}

static void history(rv_kind kind, rv_metric metric, size_t dim, uint32_t bits,
                    uint64_t seed) {
    rv_build_options o = options_for(kind, metric, dim);
    o.n_lists = seed % 3 ? 0 : seed % 2 ? 43 : 3;
    o.bits = bits;
    rv_index *index = build_with(&o, NULL, NULL, 0);
    model *m = model_of(dim);
    for (size_t step = 0; step < sized(120); step++) {
        switch (next_below(&seed, 8)) {
        case 0:
        case 1:
        case 2:
            step_add(index, m, &seed);
            break;
        case 3:
        case 4:
            step_upsert(index, m, &seed);
            break;
        case 5:
            step_remove(index, m, &seed);
            break;
        case 6:
            assert_ok(rv_index_vacuum(index, err));
            break;
        default:
            step_reload(&index);
            break;
        }
        if (m->n > MODEL_ROWS - 200) break;
        check_index(index, m, metric, &seed);
    }
    uint64_t *all = need(m->n, sizeof *all);
    memcpy(all, m->ids, m->n * sizeof *all);
    assert_ok(rv_index_remove(index, all, m->n, NULL, err)); /* down to nothing */
    for (size_t i = m->n; i-- > 0;) model_remove(m, all[i]);
    check_index(index, m, metric, &seed);
    step_add(index, m, &seed); /* and back */
    check_index(index, m, metric, &seed);
    free(all);
    model_free(m);
    rv_index_free(index);
}

static void random_histories(void **state) {
    (void)state;
    static const size_t dims[] = {1, 3, 32, 40, 100};
    uint64_t seed = 1;
    for (size_t kind = 0; kind < 4; kind++)
        for (int metric = RV_L2; metric <= RV_COSINE; metric++)
            for (size_t d = 0; d < 5; d++)
                history(kinds[kind], (rv_metric)metric, dims[d], 1, seed++);
}

/* Row, code, planes and factors stay together with codes of every width. */
static void random_histories_of_wider_codes(void **state) {
    (void)state;
    static const size_t dims[] = {33, 1, 20, 100, 32};
    uint64_t seed = 100;
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (size_t kind = 1; kind < 4; kind++)
            history(kinds[kind], (rv_metric)((bits + kind) % 3), dims[(bits + kind) % 5],
                    bits, seed++);
}

/* Bits for removed rows must keep up with rows that are merely added. */
static void adding_after_removing(void **state) {
    (void)state;
    float *rows = whole_rows(1, 2000, 4);
    for (size_t kind = 0; kind < 4; kind++) {
        for (size_t first = 0; first <= 10; first += 10) {
            rv_index *index = build(kinds[kind], RV_L2, 4, rows, NULL, first);
            uint64_t id = 3, removed;
            assert_ok(rv_index_remove(index, &id, 1, &removed, err));
            assert_int_equal(removed, first ? 1 : 0);
            for (size_t i = 0; i < 20; i++)
                assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 100, 4}, NULL, err));
            assert_int_equal(live_rows(index), 2000 + first - removed);
            answer a = answer_of(index, rows, 1, 4, 2005 + first, NULL);
            assert_true(a.ids[2000 + first - removed - 1] != RV_NO_ID);
            assert_true(a.ids[2000 + first - removed] == RV_NO_ID);
            answer_free(&a);
            rv_index_free(index);
        }
    }
    free(rows);
}

/* ---- ids ---- */

static void the_last_ids(void **state) {
    (void)state;
    float *rows = normal_rows(1, 10, 4), got[4];
    for (size_t kind = 0; kind < 4; kind++) {
        rv_index *index = build(kinds[kind], RV_L2, 4, rows, NULL, 2);
        rv_index_info info = RV_INDEX_INFO_DEFAULT;
        uint64_t wide[] = {(UINT64_C(1) << 32) + 5, 5};
        assert_ok(rv_index_add(index, &(rv_rows){rows, wide, 2, 4}, NULL, err));
        assert_true(rv_index_contains(index, wide[0]) && rv_index_contains(index, 5));
        assert_ok(rv_index_remove(index, &wide[1], 1, NULL, err));
        assert_true(rv_index_contains(index, wide[0])); /* not cut to 32 bits */
        assert_ok(rv_index_get_info(index, &info, err));
        assert_int_equal(info.next_id, wide[0] + 1);
        uint64_t last[] = {RV_NO_ID - 3};
        assert_ok(rv_index_add(index, &(rv_rows){rows, last, 1, 4}, NULL, err));
        assert_fails(RV_ERR_LIMIT,
                     rv_index_add(index, &(rv_rows){rows, NULL, 3, 4}, NULL, err));
        assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 2, 4}, NULL, err));
        assert_true(rv_index_contains(index, RV_NO_ID - 1));
        assert_fails(RV_ERR_LIMIT,
                     rv_index_add(index, &(rv_rows){rows, NULL, 1, 4}, NULL, err));
        assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 0, 4}, NULL, err));
        uint64_t reserved[] = {RV_NO_ID};
        assert_fails(RV_ERR_ARGUMENT,
                     rv_index_add(index, &(rv_rows){rows, reserved, 1, 4}, NULL, err));
        assert_fails(RV_ERR_ARGUMENT,
                     rv_index_upsert(index, &(rv_rows){rows, reserved, 1, 4}, NULL, err));
        uint64_t smaller[] = {77}; /* passed ids still go */
        assert_ok(rv_index_add(index, &(rv_rows){rows, smaller, 1, 4}, NULL, err));
        answer a = answer_of(index, rows + 4, 1, 4, 7, NULL);
        for (size_t i = 0; i < 7; i++) assert_true(rv_index_contains(index, a.ids[i]));
        if (kinds[kind] != RV_RABITQ) {
            assert_ok(rv_index_get(index, RV_NO_ID - 1, got, err));
            assert_memory_equal(got, rows + 4, sizeof got);
            assert_int_equal(a.ids[0], 1); /* the same vector */
            assert_true(a.ids[1] == RV_NO_ID - 1);
        }
        answer_free(&a);
        rv_index_free(index);
    }
    free(rows);
}

/* Removed ids are not handed out again, but may be passed again. */
static void removed_ids(void **state) {
    (void)state;
    float *rows = normal_rows(1, 10, 4);
    rv_index *index = build(RV_PLUS, RV_L2, 4, rows, NULL, 10);
    uint64_t gone[] = {9, 8, 2};
    assert_ok(rv_index_remove(index, gone, 3, NULL, err));
    assert_ok(rv_index_vacuum(index, err));
    assert_ok(rv_index_add(index, &(rv_rows){rows, NULL, 1, 4}, NULL, err));
    assert_true(rv_index_contains(index, 10) && !rv_index_contains(index, 9));
    assert_ok(rv_index_add(index, &(rv_rows){rows, gone, 3, 4}, NULL, err));
    for (size_t i = 0; i < 3; i++) assert_true(rv_index_contains(index, gone[i]));
    assert_fails(RV_ERR_DUPLICATE,
                 rv_index_add(index, &(rv_rows){rows, gone, 1, 4}, NULL, err));
    rv_index_free(index);
    free(rows);
}

/* The table goes once ids ascend again. */
static void vacuum_gives_the_table_back(void **state) {
    (void)state;
    float *rows = normal_rows(1, 4, 4);
    const uint64_t ids[] = {1, 9, 4, 7};
    rv_index *index = build(RV_FLAT, RV_L2, 4, rows, ids, 4);
    assert_non_null(index->ids.slots);
    assert_ok(rv_index_remove(index, ids + 3, 1, NULL, err)); /* 1 9 4 */
    assert_ok(rv_index_vacuum(index, err));
    assert_non_null(index->ids.slots);
    assert_ok(rv_index_remove(index, ids + 1, 1, NULL, err)); /* 1 4 */
    assert_ok(rv_index_vacuum(index, err));
    assert_null(index->ids.slots);
    assert_true(rv_index_contains(index, 1) && rv_index_contains(index, 4));
    assert_false(rv_index_contains(index, 9));
    assert_ok(
        rv_index_add(index, &(rv_rows){rows, ids + 1, 1, 4}, NULL, err)); /* 1 4 9 */
    assert_null(index->ids.slots);
    rv_index_free(index);
    free(rows);
}

/* ---- upkeep ---- */

static void vacuum_comes_by_itself(void **state) {
    (void)state;
    float *rows = whole_rows(1, 3000, 4);
    uint64_t ids[3000];
    for (size_t i = 0; i < 3000; i++) ids[i] = i;
    for (size_t kind = 0; kind < 4; kind++) {
        rv_index *index = build(kinds[kind], RV_L2, 4, rows, ids, 3000);
        rv_index_info info = RV_INDEX_INFO_DEFAULT;
        assert_ok(rv_index_remove(index, ids, 1500, NULL, err));
        assert_ok(rv_index_get_info(index, &info, err));
        assert_int_equal(info.dead, 1500); /* not more than half yet */
        assert_ok(rv_index_remove(index, ids + 1500, 1, NULL, err));
        assert_ok(rv_index_get_info(index, &info, err));
        assert_int_equal(info.dead, 0);
        assert_int_equal(info.n, 1499);
        assert_int_equal(info.next_id, 3000);
        uint64_t first;
        assert_ok(rv_index_copy_rows(index, 0, 1, &first, NULL, NULL, NULL, err));
        assert_int_equal(first, 1501);
        rv_index_free(index);
    }
    free(rows);
}

/* An index grown from a few rows ends up as good as one built at once. */
static void growing_trains_again(void **state) {
    (void)state;
    const size_t n = sized(6000), dim = 32, m = 60;
    float *rows = clustered_rows(1, n, dim), *queries = clustered_rows(2, m, dim);
    for (size_t j = 0; j < 8 * dim; j++) rows[j] += 50; /* a misleading beginning */
    for (int metric = RV_L2; metric <= RV_COSINE; metric++) {
        rv_build_options o = options_for(RV_PLUS, (rv_metric)metric, dim);
        o.bits = metric == RV_IP ? 4 : 1;
        rv_index *grown = build_with(&o, rows, NULL, 8);
        for (size_t at = 8, step = 1; at < n; at += step, step = step * 3 / 2 + 1) {
            if (step > n - at) step = n - at;
            assert_ok(rv_index_add(grown,
                                   &(rv_rows){rows + at * dim, NULL, step, (uint32_t)dim},
                                   NULL, err));
            assert_true(live_rows(grown) < 256 ||
                        grown->quantizer->trained_on * 4 > live_rows(grown));
        }
        assert_true(grown->quantizer->trained_on > n / 8);
        exact_hit *exact = need(n, sizeof *exact);
        answer a = answer_of(grown, queries, m, dim, 10, NULL);
        size_t correct = 0;
        for (size_t i = 0; i < m; i++) {
            size_t count = oracle((rv_metric)metric, rows, NULL, NULL, n, dim,
                                  queries + i * dim, exact);
            correct += count_correct(&a, i, exact, count);
        }
        assert_true((double)correct > 0.97 * (double)m * 10);
        answer_free(&a);
        free(exact);
        rv_index_free(grown);
    }
    free(rows);
    free(queries);
}

/* Codes, factors and planes after any history are those of the rows alone: as if the rows
 * that are left had been coded by the same quantizer at once. */
static void codes_do_not_depend_on_history(void **state) {
    (void)state;
    const size_t n = 1200, dim = 40, m = 5;
    float *rows = clustered_rows(1, n, dim), *queries = clustered_rows(2, m, dim);
    uint64_t gone[100], *order = need(n, sizeof *order);
    for (uint32_t bits = 1; bits <= 8; bits += 3) {
        rv_build_options o = options_for(RV_RABITQ, RV_IP, dim);
        o.bits = bits;
        o.n_lists = 9;
        rv_index *whole = build_with(&o, rows, NULL, n); /* trains on the same rows */
        rv_index *other = build_with(&o, rows, NULL, n);
        answer a = answer_of(whole, queries, m, dim, n, NULL);
        for (size_t i = 0; i < n; i++) order[i] = (i * 7 + 3) % n;
        for (size_t i = 0; i < 100; i++) gone[i] = i * 11;
        assert_ok(rv_index_remove(other, gone, 100, NULL, err));
        assert_ok(rv_index_vacuum(other, err));
        for (size_t i = 0; i < n; i++) /* each row again, one by one, in another order */
            assert_ok(rv_index_upsert(
                other, &(rv_rows){rows + order[i] * dim, &order[i], 1, (uint32_t)dim},
                NULL, err));
        answer b = answer_of(other, queries, m, dim, n, NULL);
        assert_same_answer(&a, &b);
        assert_ok(rv_index_vacuum(other, err));
        answer_free(&b);
        b = answer_of(other, queries, m, dim, n, NULL);
        assert_same_answer(&a, &b);
        answer_free(&a);
        answer_free(&b);
        rv_index_free(whole);
        rv_index_free(other);
    }
    free(rows);
    free(queries);
    free(order);
}

/* ---- refused calls ---- */

typedef struct inside {
    rv_index *index;
    const float *rows;
    rv_status status[6];
} inside;

static int meddle(void *ctx, uint64_t done, uint64_t total) {
    inside *in = ctx;
    uint64_t id = 1;
    char byte[8];
    (void)done, (void)total;
    in->status[0] = rv_index_add(in->index, &(rv_rows){in->rows, NULL, 1, 4}, NULL, NULL);
    in->status[1] = rv_index_remove(in->index, &id, 1, NULL, NULL);
    in->status[2] = rv_index_vacuum(in->index, NULL);
    in->status[3] =
        rv_index_upsert(in->index, &(rv_rows){in->rows, &id, 1, 4}, NULL, NULL);
    in->status[4] = rv_index_save(in->index, "/nonexistent/x", NULL);
    in->status[5] = rv_index_serialize(in->index, byte, 8, NULL);
    return 0;
}

static void from_its_own_callback(void **state) {
    (void)state;
    float *rows = normal_rows(1, 100, 4);
    inside in = {.index = build(RV_PLUS, RV_L2, 4, rows, NULL, 100), .rows = rows};
    rv_progress progress = {meddle, &in};
    assert_ok(rv_index_add(in.index, &(rv_rows){rows, NULL, 100, 4}, &progress, err));
    for (size_t i = 0; i < 6; i++) assert_int_equal(in.status[i], RV_ERR_ARGUMENT);
    assert_int_equal(live_rows(in.index), 200);
    rv_index_free(in.index);
    free(rows);
}

static int cancel(void *ctx, uint64_t done, uint64_t total) {
    (void)ctx, (void)done, (void)total;
    return 1;
}

static void refused_calls_leave_no_trace(void **state) {
    (void)state;
    const size_t n = 600;
    float *rows = normal_rows(1, n, 4);
    uint64_t *ids = scattered_ids(1, n);
    rv_progress stop = {cancel, NULL};
    for (size_t kind = 0; kind < 4; kind++) {
        rv_index *index = build(kinds[kind], RV_COSINE, 4, rows, ids, n);
        assert_ok(rv_index_remove(index, ids + 10, 20, NULL, err));
        file_bytes before = bytes_of(index);
        answer first = answer_of(index, rows, 3, 4, 20, NULL);
        uint64_t known[] = {1000001, 1000002, ids[5]},
                 twice[] = {1000001, 7000007, 1000001};
        float *bad = normal_rows(2, n, 4);
        bad[4 * (n - 1) + 3] = NAN;
#define ADD(r, dim, i, m, p) rv_index_add(index, &(rv_rows){r, i, m, dim}, p, err)
#define UPSERT(r, dim, i, m, p) rv_index_upsert(index, &(rv_rows){r, i, m, dim}, p, err)
        assert_fails(RV_ERR_DUPLICATE, ADD(rows, 4, known, 3, NULL));
        assert_fails(RV_ERR_DUPLICATE, ADD(rows, 4, twice, 3, NULL));
        assert_fails(RV_ERR_DUPLICATE, UPSERT(rows, 4, twice, 3, NULL));
        assert_fails(RV_ERR_DIM, ADD(rows, 3, NULL, 3, NULL));
        assert_fails(RV_ERR_DIM, UPSERT(rows, 5, known, 3, NULL));
        assert_fails(RV_ERR_DIM, ADD(rows, 0, NULL, 0, NULL));
        assert_fails(RV_ERR_ARGUMENT, UPSERT(rows, 4, NULL, 3, NULL));
        assert_fails(RV_ERR_VALUE, ADD(bad, 4, NULL, n, NULL));
        assert_fails(RV_ERR_VALUE, UPSERT(bad, 4, ids, n, NULL));
        assert_fails(RV_ERR_LIMIT, ADD(rows, 4, NULL, RV_MAX_ROWS + 1, NULL));
        assert_fails(RV_ERR_LIMIT, ADD(rows, 4, NULL, RV_MAX_ROWS, NULL));
        assert_fails(RV_ERR_CANCELLED, ADD(rows, 4, NULL, n, &stop));
        assert_fails(RV_ERR_CANCELLED, UPSERT(rows, 4, ids, n, &stop));
        file_bytes after = bytes_of(index);
        assert_same_bytes(&before, &after);
        answer second = answer_of(index, rows, 3, 4, 20, NULL);
        assert_same_answer(&first, &second);
        rv_index_info info = RV_INDEX_INFO_DEFAULT;
        assert_ok(rv_index_get_info(index, &info, err));
        assert_int_equal(info.dead, 20);
        assert_ok(ADD(rows, 4, NULL, 10, NULL)); /* still usable */
        assert_ok(UPSERT(rows, 4, ids, n, NULL));
        free(before.data);
        free(after.data);
        answer_free(&first);
        answer_free(&second);
        rv_index_free(index);
        free(bad);
    }
    free(rows);
    free(ids);
}

/* ---- views ---- */

typedef struct held {
    rv_view view;
    float *copy;
} held;

static held hold(const rv_index *index) {
    held h = {RV_VIEW_DEFAULT, NULL};
    assert_ok(rv_index_view(index, &h.view, err));
    assert_int_equal(h.view.n, live_rows(index));
    h.copy = need(h.view.n * h.view.dim, sizeof *h.copy);
    for (size_t i = 0; i < h.view.n; i++)
        memcpy(h.copy + i * h.view.dim,
               (const char *)h.view.data + i * h.view.stride_bytes,
               h.view.dim * sizeof *h.copy);
    return h;
}

static void assert_unchanged(const held *h) {
    for (size_t i = 0; i < h->view.n; i++)
        assert_memory_equal((const char *)h->view.data + i * h->view.stride_bytes,
                            h->copy + i * h->view.dim, h->view.dim * sizeof *h->copy);
}

static void views_outlive_every_change(void **state) {
    (void)state;
    const size_t dim = 5;
    float *rows = normal_rows(1, 2000, dim);
    for (size_t kind = 0; kind < 4; kind++) {
        if (kinds[kind] == RV_RABITQ) continue;
        rv_index *index = build(kinds[kind], RV_L2, dim, rows, NULL, 100);
        held views[12];
        size_t n = 0;
        views[n++] = hold(index);
        assert_memory_equal(views[0].copy, rows, 100 * dim * sizeof *rows);
        uint64_t ids[] = {0, 99, 50, 17};
        for (size_t i = 0; i < 3; i++) { /* into reserved room, and beyond it */
            assert_ok(
                rv_index_add(index, &(rv_rows){rows, NULL, 20 + 400 * i, 5}, NULL, err));
            views[n++] = hold(index);
        }
        assert_ok(rv_index_upsert(index, &(rv_rows){rows, ids, 4, 5}, NULL, err));
        rv_view refused = RV_VIEW_DEFAULT;
        assert_fails(RV_ERR_ARGUMENT, rv_index_view(index, &refused, err));
        assert_ok(rv_index_vacuum(index, err));
        views[n++] = hold(index);
        assert_ok(rv_index_remove(index, ids, 4, NULL, err));
        assert_ok(rv_index_vacuum(index, err));
        views[n++] = hold(index);
        file_bytes b = bytes_of(index);
        rv_index *loaded = NULL; /* its rows lie between version-1 records */
        assert_ok(rv_index_from_memory(b.data, b.size, RV_VERIFY_ALWAYS, free, b.data,
                                       &loaded, err));
        views[n++] = hold(loaded);
        assert_ok(rv_index_add(loaded, &(rv_rows){rows, NULL, 600, 5}, NULL, err));
        views[n++] = hold(loaded);
        assert_ok(rv_index_remove(loaded, (uint64_t[]){1}, 1, NULL, err));
        assert_ok(rv_index_vacuum(loaded, err));
        rv_index_free(index);
        rv_index_free(loaded);
        for (size_t i = 0; i < n; i++) assert_unchanged(&views[i]);
        for (size_t i = 0; i < n; i++) {
            rv_view_release(&views[i].view);
            rv_view_release(&views[i].view); /* again: nothing */
            free(views[i].copy);
        }
    }
    rv_view_release(NULL);
    free(rows);
}

static void views_of_nothing(void **state) {
    (void)state;
    float *rows = normal_rows(1, 10, 5);
    rv_view view = RV_VIEW_DEFAULT;
    rv_index *codes = build(RV_RABITQ, RV_L2, 5, rows, NULL, 10);
    assert_fails(RV_ERR_NO_VECTORS, rv_index_view(codes, &view, err));
    rv_view_release(&view);
    rv_index *empty = build(RV_FLAT, RV_L2, 5, NULL, NULL, 0);
    assert_ok(rv_index_view(empty, &view, err));
    assert_int_equal(view.n, 0);
    assert_int_equal(view.dim, 5);
    rv_view_release(&view);
    rv_index_free(codes);
    rv_index_free(empty);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_histories),
        cmocka_unit_test(random_histories_of_wider_codes),
        cmocka_unit_test(adding_after_removing),
        cmocka_unit_test(the_last_ids),
        cmocka_unit_test(removed_ids),
        cmocka_unit_test(vacuum_gives_the_table_back),
        cmocka_unit_test(vacuum_comes_by_itself),
        cmocka_unit_test(growing_trains_again),
        cmocka_unit_test(codes_do_not_depend_on_history),
        cmocka_unit_test(from_its_own_callback),
        cmocka_unit_test(refused_calls_leave_no_trace),
        cmocka_unit_test(views_outlive_every_change),
        cmocka_unit_test(views_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
