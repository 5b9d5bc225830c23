/*
 * test_topk.c - the k best against a full sort: total order, ties by id, NaN last, in
 * the small (sorted) and the large (heap) representation alike.
 */
#include "index_cases.h"

#include "index/index_i.h"

static int compare_hits(const void *a, const void *b) {
    const rvx_hit *x = a, *y = b;
    float kx = isnan(x->key) ? INFINITY : x->key, ky = isnan(y->key) ? INFINITY : y->key;
    if (kx < ky || kx > ky) return kx < ky ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void assert_k_best(size_t k, const rvx_hit *pushed, size_t n) {
    rvx_topk top;
    assert_ok(rvx_topk_init(&top, k, err));
    for (int round = 0; round < 2; round++) { /* once more after a reset */
        for (size_t i = 0; i < n; i++) rvx_topk_push(&top, pushed[i]);
        size_t kept = n < k ? n : k;
        assert_int_equal(top.n, kept);
        rvx_hit *sorted = need(n, sizeof *sorted);
        memcpy(sorted, pushed, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare_hits);
        float worst = sorted[kept - 1].key;
        if (kept < k || isnan(worst)) worst = INFINITY;
        assert_true(top.worst == worst);
        rvx_topk_sort(&top);
        for (size_t i = 0; i < kept; i++) {
            assert_int_equal(top.hit[i].id, sorted[i].id);
            assert_int_equal(top.hit[i].row, sorted[i].row);
            assert_true(!isnan(top.hit[i].key));
        }
        free(sorted);
        rvx_topk_reset(&top);
        assert_int_equal(top.n, 0);
        assert_true(top.worst == INFINITY);
    }
    rvx_topk_clear(&top);
}

/* Sizes around the change of representation, fewer and more hits than k. */
static void each_size(void (*make)(uint64_t *state, rvx_hit *hits, size_t n)) {
    static const size_t sizes[] = {1, 2, 3, 10, 31, 32, 33, 64, 100, 1000};
    uint64_t state = 5;
    for (size_t a = 0; a < sizeof sizes / sizeof *sizes; a++) {
        for (size_t b = 0; b < sizeof sizes / sizeof *sizes; b++) {
            rvx_hit *hits = need(sizes[b], sizeof *hits);
            make(&state, hits, sizes[b]);
            assert_k_best(sizes[a], hits, sizes[b]);
            free(hits);
        }
    }
}

static void make_random(uint64_t *state, rvx_hit *hits, size_t n) {
    for (size_t i = 0; i < n; i++)
        hits[i] = (rvx_hit){next_normal(state), (uint32_t)i, next_u64(state)};
}

static void make_ties(uint64_t *state, rvx_hit *hits, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float key = (float)next_below(state, 4) - 2;
        hits[i] = (rvx_hit){key, (uint32_t)i, n - i + (i % 2 ? UINT64_C(1) << 63 : 0)};
    }
}

static void make_special(uint64_t *state, rvx_hit *hits, size_t n) {
    const float keys[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f};
    for (size_t i = 0; i < n; i++) {
        uint64_t id = i * UINT64_C(0x9E3779B97F4A7C15);
        hits[i] = (rvx_hit){keys[next_below(state, 7)], (uint32_t)i, id};
    }
}

static void make_falling(uint64_t *state, rvx_hit *hits, size_t n) {
    (void)state;
    for (size_t i = 0; i < n; i++) hits[i] = (rvx_hit){-(float)i, (uint32_t)i, i};
}

static void make_rising(uint64_t *state, rvx_hit *hits, size_t n) {
    (void)state;
    for (size_t i = 0; i < n; i++) hits[i] = (rvx_hit){(float)i, (uint32_t)i, i};
}

static void random_keys(void **state) {
    (void)state;
    each_size(make_random);
}

static void ties_are_ordered_by_id(void **state) {
    (void)state;
    each_size(make_ties);
}

static void not_a_number_ranks_last(void **state) {
    (void)state;
    each_size(make_special);
}

static void sorted_input(void **state) {
    (void)state;
    each_size(make_falling);
    each_size(make_rising);
}

static void the_order_of_pushing_does_not_matter(void **state) {
    (void)state;
    const size_t k = 40, n = 200;
    uint64_t random = 9;
    rvx_hit hits[200], first[40];
    make_ties(&random, hits, n);
    for (int round = 0; round < 20; round++) {
        rvx_topk top;
        assert_ok(rvx_topk_init(&top, k, err));
        for (size_t i = 0; i < n; i++) rvx_topk_push(&top, hits[i]);
        rvx_topk_sort(&top);
        if (round == 0) memcpy(first, top.hit, sizeof first);
        for (size_t i = 0; i < k; i++) assert_int_equal(top.hit[i].id, first[i].id);
        rvx_topk_clear(&top);
        for (size_t i = n; i > 1; i--) {
            size_t other = next_below(&random, i);
            rvx_hit swap = hits[i - 1];
            hits[i - 1] = hits[other];
            hits[other] = swap;
        }
    }
}

static void none_wanted(void **state) {
    (void)state;
    rvx_topk top;
    assert_ok(rvx_topk_init(&top, 0, err));
    rvx_topk_push(&top, (rvx_hit){-1, 0, 0});
    assert_int_equal(top.n, 0);
    assert_true(top.worst == -INFINITY); /* nothing beats it */
    rvx_topk_sort(&top);
    rvx_topk_clear(&top);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_keys),
        cmocka_unit_test(ties_are_ordered_by_id),
        cmocka_unit_test(not_a_number_ranks_last),
        cmocka_unit_test(sorted_input),
        cmocka_unit_test(the_order_of_pushing_does_not_matter),
        cmocka_unit_test(none_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
