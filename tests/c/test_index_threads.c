/*
 * test_index_threads.c - readers of every sort beside a writer, while the instruction
 * set and the number of threads change. Rows are made so that a torn or mixed-up one
 * shows: all numbers of a row are equal, and follow from its id up to the sign, which
 * the writer changes. Meant for ThreadSanitizer as well.
 */
#define _GNU_SOURCE
#include "index_cases.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define DIM 24u
#define N_IDS 3000u
#define K 8u

typedef struct shared {
    rv_index *index;
    bool has_codes, has_vectors;
    atomic_bool done;
    atomic_size_t failures, reads;
} shared;

/* cmocka's own assertions leave the thread by a jump and do not work here. */
#define CHECK(s, condition)                                                              \
    do {                                                                                 \
        if (!(condition) && atomic_fetch_add(&(s)->failures, 1) < 10)                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);              \
    } while (0)

static float magnitude(uint64_t id) { return (float)(id % 50 + 1); }

static void make_row(uint64_t id, bool negative, float *row) {
    for (size_t j = 0; j < DIM; j++) row[j] = negative ? -magnitude(id) : magnitude(id);
}

static bool is_row_of(uint64_t id, const float *row) {
    for (size_t j = 1; j < DIM; j++)
        if (row[j] != row[0]) return false;
    return row[0] == magnitude(id) || row[0] == -magnitude(id);
}

/* ---- readers ---- */

static void check_answer(shared *s, const float *query, const uint64_t *ids,
                         const float *scores) {
    for (size_t i = 0; i < K; i++) {
        if (ids[i] == RV_NO_ID) continue;
        CHECK(s, i == 0 || scores[i - 1] <= scores[i]);
        for (size_t j = 0; j < i; j++) CHECK(s, ids[j] != ids[i]);
        if (!s->has_vectors) continue;
        float near = query[0] - magnitude(ids[i]), far = query[0] + magnitude(ids[i]);
        CHECK(s, scores[i] == DIM * near * near || scores[i] == DIM * far * far);
    }
}

static void search(shared *s, uint64_t *seed) {
    float queries[20 * DIM], scores[20 * K];
    uint64_t ids[20 * K], allowed[30];
    size_t m = 1 + next_below(seed, 20);
    for (size_t i = 0; i < m; i++)
        make_row(next_below(seed, N_IDS), next_u64(seed) & 1, queries + i * DIM);
    rv_search_options o = RV_SEARCH_DEFAULT;
    o.nprobe = (uint32_t)next_below(seed, 12); /* 0: what it was tuned to last */
    for (size_t i = 0; i < 30; i++) allowed[i] = next_below(seed, N_IDS);
    if (next_below(seed, 3) == 0) {
        o.allow_ids = allowed;
        o.allow_count = 30;
    }
    rv_status status = rv_index_search(s->index, &(rv_queries){queries, m, DIM}, K, &o,
                                       &(rv_result){ids, scores}, NULL);
    CHECK(s, status == RV_OK);
    for (size_t i = 0; status == RV_OK && i < m; i++) {
        check_answer(s, queries + i * DIM, ids + i * K, scores + i * K);
        for (size_t j = 0; o.allow_ids && j < K; j++) {
            bool in_list = ids[i * K + j] == RV_NO_ID;
            for (size_t a = 0; a < 30; a++) in_list |= allowed[a] == ids[i * K + j];
            CHECK(s, in_list);
        }
    }
}

static void search_masked(shared *s, uint64_t *seed) {
    rv_search_options o = RV_SEARCH_DEFAULT;
    float query[DIM], scores[K];
    uint64_t ids[K];
    uint8_t *mask = need(4 * N_IDS, 1);
    for (size_t i = 0; i < 4 * N_IDS; i++) mask[i] = next_u64(seed) % 4 == 0;
    make_row(next_below(seed, N_IDS), false, query);
    o.allow_mask = mask;
    o.allow_mask_len = live_rows(s->index);
    rv_status status = rv_index_search(s->index, &(rv_queries){query, 1, DIM}, K, &o,
                                       &(rv_result){ids, scores}, NULL);
    /* the number of rows may change before the search begins, or their numbers in it */
    CHECK(s, status == RV_OK || status == RV_ERR_ARGUMENT);
    if (status == RV_OK) check_answer(s, query, ids, scores);
    free(mask);
}

/* Reads for long, then writes for a moment. */
static void tune(shared *s, uint64_t *seed) {
    float queries[6 * DIM];
    rv_tuning t = RV_TUNING_DEFAULT;
    for (size_t i = 0; i < 6; i++)
        make_row(next_below(seed, N_IDS), next_u64(seed) & 1, queries + i * DIM);
    double recall = 0.2 + 0.7 * next_unit(seed);
    rv_status status = rv_index_tune(s->index, &(rv_queries){queries, 6, DIM}, K, recall,
                                     NULL, &t, NULL);
    CHECK(s, status == (s->has_codes ? RV_OK : RV_ERR_ARGUMENT));
    if (status != RV_OK) return;
    CHECK(s, t.nprobe >= 1 && t.epsilon > 0 && t.recall >= 0 && t.recall <= 1);
    rv_index_info info =
        RV_INDEX_INFO_DEFAULT; /* another thread may have tuned it since */
    (void)rv_index_get_info(s->index, &info, NULL);
    CHECK(s, info.nprobe >= 1 && info.epsilon > 0);
}

static void get(shared *s, uint64_t *seed) {
    float row[DIM];
    uint64_t id = next_below(seed, N_IDS);
    rv_status status = rv_index_get(s->index, id, row, NULL);
    if (!s->has_vectors) {
        CHECK(s, status == RV_ERR_NO_VECTORS);
    } else {
        CHECK(s, status == RV_OK || status == RV_ERR_NOT_FOUND);
        if (status == RV_OK) CHECK(s, is_row_of(id, row));
    }
    (void)rv_index_contains(s->index, id);
}

static void copy(shared *s, uint64_t *seed) {
    float rows[16 * DIM], norms[16];
    uint64_t ids[16];
    size_t n = live_rows(s->index), begin = n > 16 ? next_below(seed, n - 16) : 0;
    rv_status status = rv_index_copy_rows(s->index, begin, 16, ids, norms, NULL,
                                          s->has_vectors ? rows : NULL, NULL);
    CHECK(s, status == RV_OK || status == RV_ERR_NOT_FOUND);
    for (size_t i = 0; status == RV_OK && i < 16; i++) {
        double norm = (double)magnitude(ids[i]) * sqrt(DIM);
        CHECK(s, fabs((double)norms[i] - norm) < 1e-4 * norm);
        if (s->has_vectors) CHECK(s, is_row_of(ids[i], rows + i * DIM));
    }
}

static void view(shared *s) {
    rv_view v = RV_VIEW_DEFAULT;
    if (rv_index_view(s->index, &v, NULL) != RV_OK) return;
    for (uint64_t i = 0; i < v.n; i++) {
        const float *row =
            (const float *)(const void *)((const char *)v.data + i * v.stride_bytes);
        for (size_t j = 1; j < DIM; j++) CHECK(s, row[j] == row[0]);
    }
    rv_view_release(&v);
}

static void serialize(shared *s) {
    uint64_t size = rv_index_serialized_size(s->index), ids[N_IDS];
    void *data = need(size, 1);
    rv_status status = rv_index_serialize(s->index, data, size, NULL);
    CHECK(s, status == RV_OK || status == RV_ERR_ARGUMENT);
    rv_index *loaded = NULL;
    if (status == RV_OK) {
        status =
            rv_index_from_memory(data, size, RV_VERIFY_ALWAYS, NULL, NULL, &loaded, NULL);
        CHECK(s, status == RV_OK);
    }
    if (loaded) {
        uint64_t n = live_rows(loaded);
        CHECK(s, n <= N_IDS);
        if (n <= N_IDS) {
            rv_index_copy_rows(loaded, 0, n, ids, NULL, NULL, NULL, NULL);
            for (uint64_t i = 0; i < n; i++) CHECK(s, ids[i] < N_IDS);
        }
        (void)rv_index_equal(loaded, s->index);
    }
    rv_index_free(loaded);
    free(data);
}

static void ask(shared *s) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    rv_memory_usage memory = RV_MEMORY_USAGE_DEFAULT;
    (void)rv_index_get_info(s->index, &info, NULL);
    (void)rv_index_memory(s->index, &memory, NULL);
    CHECK(s, info.n <= N_IDS && info.n >= N_IDS / 4);
    CHECK(s, memory.total > 0);
}

static void *reader(void *ctx) {
    shared *s = ctx;
    uint64_t seed = atomic_fetch_add(&s->reads, 1);
    while (!atomic_load(&s->done)) {
        switch (next_below(&seed, 80) / 7) {
        case 0:
            get(s, &seed);
            break;
        case 1:
            copy(s, &seed);
            break;
        case 2:
            view(s);
            break;
        case 3:
            serialize(s);
            break;
        case 4:
            ask(s);
            break;
        case 5:
            search_masked(s, &seed);
            break;
        case 11: /* takes as long as many others: 3 of 80 */
            tune(s, &seed);
            break;
        default:
            search(s, &seed);
        }
        atomic_fetch_add(&s->reads, 1);
    }
    return NULL;
}

static void *changer(void *ctx) {
    shared *s = ctx;
    for (size_t i = 0; !atomic_load(&s->done); i++) {
        if (!isa_at(i)) i = 0;
        CHECK(s, rv_isa_force(isa_at(i), NULL) == RV_OK);
        CHECK(s, rv_set_num_threads((unsigned)(i % 3 + 1), NULL) == RV_OK);
        const struct timespec pause = {0, 3000000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* ---- the writer ---- */

/* Ids are those of a random stretch; beyond N_IDS / 4 they come and go. */
static void write_some(shared *s, uint64_t *seed, bool *negative) {
    float rows[200 * DIM];
    uint64_t ids[200];
    size_t n = 1 + next_below(seed, 200), first = next_below(seed, N_IDS - n);
    size_t kept = N_IDS / 4;
    *negative = !*negative;
    for (size_t i = 0; i < n; i++) {
        ids[i] = first + i;
        make_row(ids[i], *negative, rows + i * DIM);
    }
    switch (next_below(seed, 5)) {
    case 0: { /* some are there already as a rule */
        rv_status status =
            rv_index_add(s->index, &(rv_rows){rows, ids, n, DIM}, NULL, NULL);
        CHECK(s, status == RV_OK || status == RV_ERR_DUPLICATE);
        break;
    }
    case 1:
        for (size_t i = 0; i < n; i++) ids[i] = kept + (ids[i] % (N_IDS - kept));
        CHECK(s, rv_index_remove(s->index, ids, n, NULL, NULL) == RV_OK);
        break;
    case 2:
        CHECK(s, rv_index_vacuum(s->index, NULL) == RV_OK);
        break;
    default:
        CHECK(s, rv_index_upsert(s->index, &(rv_rows){rows, ids, n, DIM}, NULL, NULL) ==
                     RV_OK);
    }
}

static void read_and_write(rv_kind kind, uint32_t bits, bool from_file) {
    float *rows = need(N_IDS * DIM, sizeof *rows);
    for (size_t i = 0; i < N_IDS; i++) make_row(i, false, rows + i * DIM);
    rv_build_options o = coded_options(kind, RV_L2, DIM, bits, bits > 1 ? 40 : 4);
    o.epsilon = 50;
    shared s = {.index = build_with(&o, rows, NULL, N_IDS),
                .has_codes = kind != RV_FLAT,
                .has_vectors = kind != RV_RABITQ};
    if (from_file) {
        file_bytes b = bytes_of(s.index);
        rv_index_free(s.index);
        assert_ok(rv_index_from_memory(b.data, b.size, RV_VERIFY_ALWAYS, free, b.data,
                                       &s.index, err));
    }
    pthread_t readers[3], other;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader, &s), 0);
    assert_int_equal(pthread_create(&other, NULL, changer, &s), 0);
    uint64_t seed = kind;
    bool negative = false;
    size_t start = atomic_load(&s.reads);
    for (size_t i = 0; i < sized(1500) || atomic_load(&s.reads) < start + sized(1500);
         i++)
        write_some(&s, &seed, &negative);
    atomic_store(&s.done, true);
    for (size_t i = 0; i < 3; i++) pthread_join(readers[i], NULL);
    pthread_join(other, NULL);
    assert_int_equal(atomic_load(&s.failures), 0);
    rv_index_free(s.index);
    free(rows);
    assert_ok(rv_isa_force(NULL, err));
    assert_ok(rv_set_num_threads(0, err));
}

static void plus(void **state) {
    (void)state;
    read_and_write(RV_PLUS, 1, false);
}

static void plus_of_wide_codes(void **state) {
    (void)state;
    read_and_write(RV_PLUS, 3, false);
}

static void codes(void **state) {
    (void)state;
    read_and_write(RV_RABITQ, 1, false);
}

static void wide_codes(void **state) {
    (void)state;
    read_and_write(RV_RABITQ, 4, false);
}

static void flat(void **state) {
    (void)state;
    read_and_write(RV_FLAT, 1, false);
}

static void out_of_a_file(void **state) {
    (void)state;
    read_and_write(RV_PLUS, 2, true);
}

/* Two writers queue up; neither loses a row. */
static void *adder(void *ctx) {
    shared *s = ctx;
    float rows[10 * DIM] = {0};
    for (size_t i = 0; i < sized(200); i++)
        CHECK(s, rv_index_add(s->index, &(rv_rows){rows, NULL, 10, DIM}, NULL, NULL) ==
                     RV_OK);
    return NULL;
}

static void several_writers(void **state) {
    (void)state;
    rv_build_options o = options_for(RV_PLUS, RV_L2, DIM);
    shared s = {.index = build_with(&o, NULL, NULL, 0)};
    pthread_t writers[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, adder, &s), 0);
    for (size_t i = 0; i < 3; i++) pthread_join(writers[i], NULL);
    assert_int_equal(atomic_load(&s.failures), 0);
    assert_int_equal(live_rows(s.index), 30 * sized(200));
    uint64_t *ids = need(30 * sized(200), sizeof *ids);
    assert_ok(
        rv_index_copy_rows(s.index, 0, 30 * sized(200), ids, NULL, NULL, NULL, err));
    for (size_t i = 0; i < 30 * sized(200); i++) assert_int_equal(ids[i], i);
    free(ids);
    rv_index_free(s.index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plus),
        cmocka_unit_test(plus_of_wide_codes),
        cmocka_unit_test(codes),
        cmocka_unit_test(wide_codes),
        cmocka_unit_test(flat),
        cmocka_unit_test(out_of_a_file),
        cmocka_unit_test(several_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
