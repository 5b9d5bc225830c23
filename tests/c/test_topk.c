/*
 * test_topk.c - the k best against a full sort: total order, ties by id, NaN last, in the
 * small (sorted) and the large (heap) representation alike; the same of shortlists;
 * selecting and sorting whole arrays, whatever order they come in.
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

/* ---- shortlists ---- */

static void assert_k_shortlisted(size_t k, const rvx_hit *pushed, size_t n) {
    rvx_shortlist list;
    rvx_hit *sorted = need(n, sizeof *sorted);
    assert_ok(rvx_shortlist_init(&list, k, err));
    for (int round = 0; round < 2; round++) { /* once more after a reset */
        for (size_t i = 0; i < n; i++) {
            if (pushed[i].key <= list.worst) rvx_shortlist_push(&list, pushed[i]);
            if (i + 1 < k) assert_true(list.worst == INFINITY);
            if ((i + 1) % 97 || i + 1 < k) continue;
            memcpy(sorted, pushed, (i + 1) * sizeof *sorted);
            qsort(sorted, i + 1, sizeof *sorted, compare_hits);
            assert_true(list.worst >= sorted[k - 1].key);
            if (i + 1 >= 4 * (k + 64)) assert_true(list.worst < INFINITY);
        }
        memcpy(sorted, pushed, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, compare_hits);
        rvx_shortlist_cut(&list);
        assert_int_equal(list.n, n < k ? n : k);
        rvx_hits_sort(list.hit, list.n);
        for (size_t i = 0; i < list.n; i++) {
            assert_int_equal(list.hit[i].id, sorted[i].id);
            assert_int_equal(list.hit[i].row, sorted[i].row);
        }
        rvx_shortlist_reset(&list);
        assert_int_equal(list.n, 0);
    }
    rvx_shortlist_clear(&list);
    free(sorted);
}

static void shortlists(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 63, 64, 65, 200, 3000};
    void (*const makes[])(uint64_t *, rvx_hit *, size_t) = {make_random, make_ties,
                                                            make_falling, make_rising};
    uint64_t random = 12;
    rvx_hit *hits = need(3000, sizeof *hits);
    for (size_t i = 0; i < 4; i++) {
        for (size_t a = 0; a < 6; a++) {
            for (size_t b = 0; b < 7; b++) {
                makes[i](&random, hits, sizes[b]);
                assert_k_shortlisted(sizes[a], hits, sizes[b]);
            }
        }
    }
    free(hits);
}

/* ---- whole arrays ---- */

static void make_rising_in_two(uint64_t *state, rvx_hit *hits, size_t n) {
    (void)state;
    for (size_t i = 0; i < n; i++)
        hits[i] = (rvx_hit){(float)(i < n / 2 ? i : n - i), (uint32_t)i, i};
}

static void make_equal(uint64_t *state, rvx_hit *hits, size_t n) {
    (void)state;
    for (size_t i = 0; i < n; i++) hits[i] = (rvx_hit){1, (uint32_t)i, n - i};
}

static void make_infinite(uint64_t *state, rvx_hit *hits, size_t n) {
    const float keys[] = {INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f};
    for (size_t i = 0; i < n; i++)
        hits[i] = (rvx_hit){keys[next_below(state, 5)], (uint32_t)i, next_u64(state)};
}

/* Against the median of the first, middle and last entry (Musser 1997): each cut takes
 * off two entries only. */
static void make_adversarial(uint64_t *state, rvx_hit *hits, size_t n) {
    (void)state;
    size_t half = n / 2;
    for (size_t i = 0; i < n; i++) hits[i] = (rvx_hit){(float)n, (uint32_t)i, i};
    for (size_t i = 1; i <= half; i++) {
        hits[i - 1].key = (float)(i % 2 ? i : half + i - 1);
        hits[half + i - 1].key = (float)(2 * i);
    }
}

static void (*const makers[])(uint64_t *state, rvx_hit *hits, size_t n) = {
    make_random,        make_ties,  make_falling,  make_rising,
    make_rising_in_two, make_equal, make_infinite, make_adversarial};
#define N_MAKERS (sizeof makers / sizeof *makers)

/* Each of the hits that came in is still there, unchanged. */
static void assert_permuted(const rvx_hit *before, const rvx_hit *after, size_t n) {
    uint8_t *seen = need(n, 1);
    for (size_t i = 0; i < n; i++) {
        uint32_t row = after[i].row;
        assert_true(row < n && !seen[row]);
        seen[row] = 1;
        assert_memory_equal(&after[i], &before[row], sizeof *before);
    }
    free(seen);
}

static void assert_selected(const rvx_hit *given, rvx_hit *hits, size_t n, size_t m) {
    memcpy(hits, given, n * sizeof *hits);
    rvx_hits_select(hits, n, m);
    assert_permuted(given, hits, n);
    if (m == 0 || m >= n) return;
    const rvx_hit *last = &hits[0], *next = &hits[m];
    for (size_t i = 1; i < m; i++)
        if (compare_hits(last, &hits[i]) < 0) last = &hits[i];
    for (size_t i = m + 1; i < n; i++)
        if (compare_hits(next, &hits[i]) > 0) next = &hits[i];
    assert_true(compare_hits(last, next) < 0);
}

/* Where the first m end, for every m. */
static void the_first_of_an_array(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 10, 64, 65, 300, 2000};
    uint64_t random = 21;
    for (size_t make = 0; make < N_MAKERS; make++) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            size_t n = sizes[s], step = n > 500 ? 2000 / sized(2000) * 3 : 1;
            rvx_hit *given = need(n, sizeof *given), *hits = need(n, sizeof *hits);
            makers[make](&random, given, n);
            for (size_t m = 0; m <= n + 2; m += m < 40 || m + 40 > n ? 1 : step)
                assert_selected(given, hits, n, m);
            free(given);
            free(hits);
        }
    }
}

/* A hit stands for itself: neither its place among others nor its size matters. */
static void selecting_one_after_the_other_sorts(void **state) {
    (void)state;
    const size_t n = 200;
    uint64_t random = 2;
    rvx_hit given[200], hits[200], sorted[200];
    make_ties(&random, given, n);
    memcpy(hits, given, sizeof hits);
    memcpy(sorted, given, sizeof sorted);
    qsort(sorted, n, sizeof *sorted, compare_hits);
    for (size_t m = 0; m < n; m++) rvx_hits_select(hits + m, n - m, 1);
    for (size_t i = 0; i < n; i++) assert_int_equal(hits[i].row, sorted[i].row);
}

static void a_whole_array_in_order(void **state) {
    (void)state;
    uint64_t random = 22;
    for (size_t make = 0; make < N_MAKERS; make++) {
        for (size_t n = 0; n <= 2000; n += n < 70 ? 1 : 193) {
            rvx_hit *hits = need(n, sizeof *hits), *sorted = need(n, sizeof *sorted);
            makers[make](&random, hits, n);
            memcpy(sorted, hits, n * sizeof *hits);
            qsort(sorted, n, sizeof *sorted, compare_hits);
            rvx_hits_sort(hits, n);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(hits[i].row, sorted[i].row);
                assert_int_equal(hits[i].id, sorted[i].id);
            }
            free(hits);
            free(sorted);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_keys),
        cmocka_unit_test(ties_are_ordered_by_id),
        cmocka_unit_test(not_a_number_ranks_last),
        cmocka_unit_test(sorted_input),
        cmocka_unit_test(the_order_of_pushing_does_not_matter),
        cmocka_unit_test(none_wanted),
        cmocka_unit_test(shortlists),
        cmocka_unit_test(the_first_of_an_array),
        cmocka_unit_test(selecting_one_after_the_other_sorts),
        cmocka_unit_test(a_whole_array_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
