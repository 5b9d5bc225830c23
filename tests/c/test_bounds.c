/*
 * test_bounds.c - bounds hold. With an epsilon so wide that no code can be off by more,
 * what is left of a bound is what float32 may be off by; then no row's lower bound is
 * above its exact key, however far apart the scales of rows, queries, mean and centroids.
 *
 * A code of signs is off by at most |r| tan(r, u) |q - c| and sqrt(D)/2 times the
 * rounding of the query, D the padded dimension. Both are at most 2 sqrt(D) times the
 * deviation the bound starts from; of magnitudes it is sqrt(D - 1).
 */
#include "index_cases.h"

#include "index/index_i.h"

#define N 240u
#define QUERIES 12u

typedef struct world {
    uint64_t seed;
    rv_metric metric;
    size_t dim;
    uint32_t bits, n_lists;
    bool halves;
    double decades; /* over which the rows' distances from their centers range */
    double mean, centers, scale;
    size_t distinct; /* rows */
} world;

static double power_of_ten(uint64_t *seed, double low, double high) {
    return pow(10, low + (high - low) * next_unit(seed));
}

static void limit_length(float *v, size_t dim, double most) {
    double length = sqrt(exact_score(RV_IP, v, v, dim));
    for (size_t j = 0; length > most && j < dim; j++)
        v[j] = (float)((double)v[j] * (most / length));
}

static float *rows_of(const world *w) {
    uint64_t seed = w->seed;
    double most = w->halves ? 6e4 : 7e16;
    float *rows = need(N * w->dim, sizeof *rows), *around = need(9 * w->dim, 4);
    for (size_t i = 0; i < 9 * w->dim; i++) around[i] = next_normal(&seed);
    for (size_t i = 0; i < N; i++) {
        float *row = rows + i * w->dim;
        const float *center = around + (1 + i % 8) * w->dim;
        double by = power_of_ten(&seed, -w->decades / 2, w->decades / 2);
        for (size_t j = 0; j < w->dim; j++) {
            double x = w->mean * (double)around[j] + w->centers * (double)center[j];
            row[j] = (float)(w->scale * (x + by * (double)next_normal(&seed)));
        }
        limit_length(row, w->dim, most);
        if (i >= w->distinct)
            memcpy(row, rows + i % w->distinct * w->dim, w->dim * sizeof *row);
    }
    free(around);
    return rows;
}

/* Rows, their opposites, the mean, and rows made larger, smaller and a little different.
 */
static void make_query(const world *w, const float *rows, size_t i, float *query) {
    uint64_t seed = w->seed * 1000 + i;
    const float *row = rows + next_below(&seed, N) * w->dim;
    static const double factors[] = {1, -1, 1e-6, -1e6, 1e3, 1e-12};
    memcpy(query, row, w->dim * sizeof *row);
    for (size_t j = 0; j < w->dim; j++) {
        double x = (double)row[j], mean = 0;
        for (size_t r = 0; r < N; r++) mean += (double)rows[r * w->dim + j] / N;
        if (i < 6) x *= factors[i];
        if (i == 6) x = mean;
        if (i == 7) x = mean + 1e-3 * (x - mean);
        if (i >= 8) x += power_of_ten(&seed, -8, 1) * (double)next_normal(&seed) * x;
        query[j] = (float)x;
    }
    limit_length(query, w->dim, 7e16);
}

static void describe(const world *w, const char *what, size_t i, double bound,
                     double key) {
    fail_msg("seed %llu %s dim %zu bits %u lists %u halves %d decades %g mean %g centers "
             "%g scale %g distinct %zu query %zu: %s bound %.9g above key %.9g",
             (unsigned long long)w->seed, metric_names[w->metric], w->dim, w->bits,
             w->n_lists, w->halves, w->decades, w->mean, w->centers, w->scale,
             w->distinct, i, what, bound, key);
}

static float scan_key(const rvx_query_state *s, size_t row) {
    float key = rvx_exact_key(s, row);
    return s->index->metric == RV_COSINE ? 2 + 2 * key : key;
}

static void check_list(const world *w, rvx_query_state *s, uint32_t l, size_t i) {
    const rvx_list *list = &s->index->lists.list[l];
    rvx_enter_list(s, l);
    rvk_scan scan = {.blocks = list->blocks,
                     .n_blocks = (list->n + RVK_BLOCK - 1) / RVK_BLOCK,
                     .lut = s->lut,
                     .padded = s->index->quantizer->padded,
                     .step = s->rq.step,
                     .bias = s->rq.bias + s->t,
                     .limit = INFINITY};
    for (size_t block = 0; block < scan.n_blocks; block++) {
        float values[RVK_BLOCK], bound;
        uint64_t mask;
        block = s->ops->scan(&scan, block, &mask, values);
        for (; block < scan.n_blocks && mask; mask &= mask - 1) {
            unsigned lane = rvx_lowest_bit(mask);
            uint32_t row = list->rows[block * RVK_BLOCK + lane];
            float key = scan_key(s, row);
            if (!(values[lane] < key - s->g))
                describe(w, "scan's", i, (double)values[lane] + (double)s->g,
                         (double)key);
            rvx_estimate(s, row, l, &bound);
            if (!(bound < key)) describe(w, "code's", i, (double)bound, (double)key);
        }
    }
}

static void check(const world *w) {
    float *rows = rows_of(w), *query = need(w->dim, sizeof *query);
    rv_build_options o = coded_options(RV_PLUS, w->metric, w->dim, w->bits, w->n_lists);
    o.originals_bits = w->halves ? 16 : 32;
    rv_index *index = build_with(&o, rows, NULL, N);
    const rvk_ops *ops = rvk_ops_active();
    assert_ok(rvx_index_ensure_lists(index, ops, err));
    for (size_t i = 0; i < QUERIES; i++) {
        make_query(w, rows, i, query);
        rvx_query_state s = {.index = index, .ops = ops, .query = query};
        s.params = (rvx_params){.k = 1, .nprobe = RV_ALL_LISTS};
        s.params.epsilon = 2.1f * sqrtf((float)index->quantizer->padded);
        assert_ok(rvx_norm(ops, query, w->dim, "query", i, &s.query_norm, err));
        if (w->metric == RV_COSINE) rvx_lifted(ops, query, w->dim, query, &s.query_norm);
        assert_ok(rvx_scan_init(&s, err));
        rvx_query_prepare(&s);
        for (size_t l = 0; l < s.n_order; l++) check_list(w, &s, s.order[l].row, i);
        rvx_scan_clear(&s);
    }
    rv_index_free(index);
    free(rows);
    free(query);
}

#define PICK(array) array[next_below(&seed, sizeof(array) / sizeof *(array))]

static void bounds_hold(void **state) {
    (void)state;
    static const size_t dims[] = {1, 3, 32, 64, 100, 200};
    static const uint32_t bits[] = {1, 2, 4, 7, 8}, lists[] = {1, 4, 16};
    static const double decades[] = {0, 1, 4, 8, 12, 20};
    static const double sizes[] = {0, 1, 1e3, 1e6, 1e9};
    static const size_t distinct[] = {2, 20, N, N};
    for (uint64_t i = 0, n = sized(400); i < n; i++) {
        uint64_t seed = i;
        world w = {.seed = i, .metric = (rv_metric)(i % 3)};
        w.dim = PICK(dims);
        w.bits = PICK(bits);
        w.n_lists = PICK(lists);
        w.decades = PICK(decades);
        w.mean = PICK(sizes);
        w.centers = PICK(sizes);
        w.distinct = PICK(distinct);
        w.halves = next_below(&seed, 6) == 0;
        w.scale = power_of_ten(&seed, w.halves ? -4 : -40, w.halves ? 3 : 12);
        check(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bounds_hold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
