/*
 * test_lake_threads.c - everything a lake does, at once, on a few collections. Rows show
 * the version they belong to: row i of version v is (v, i, 0, ...), so the scores of a
 * query at the origin tell whether all hits are of one version, and of which. A search
 * must see a version no older than the one in place when it began.
 *
 * RUVECTOR_TEST_SECONDS says how long. Meant for ThreadSanitizer as well.
 */
#define _GNU_SOURCE
#include "lake_cases.h"
#include "test_folder.h"

#include <pthread.h>
#include <unistd.h>

#define COLLECTIONS 4u
#define THREADS 8u
#define ROWS 300u
#define K 4u

typedef struct sea {
    rv_lake *lake;
    rv_backend *backends[2];
    _Atomic uint64_t version[COLLECTIONS]; /* in place */
    rvb_mutex *writing[COLLECTIONS];
    _Atomic uint64_t failures, done;
    uint64_t end_ns;
} sea;

#define CHECK(s, condition)                                                              \
    do {                                                                                 \
        if (!(condition) && atomic_fetch_add(&(s)->failures, 1) < 10)                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);              \
    } while (0)

static const char *const collections[COLLECTIONS] = {"c0", "c1", "c2", "c3"};

static rv_key key_of(size_t c) { return (rv_key){c % 2 ? "b" : "a", collections[c]}; }

static void write_version(sea *s, size_t c, bool replace) {
    float *rows = need(ROWS * LAKE_DIM, sizeof *rows);
    uint64_t ids[ROWS];
    rvb_mutex_lock(s->writing[c]);
    uint64_t v = s->version[c] + 1;
    for (uint64_t i = 0; i < ROWS; i++) {
        ids[i] = c * 1000 + i;
        rows[i * LAKE_DIM] = (float)v;
        rows[i * LAKE_DIM + 1] = (float)i;
    }
    rv_backend *backend = s->backends[c % 2];
    const rv_rows given = {rows, ids, ROWS, LAKE_DIM};
    CHECK(s, (replace ? rv_local_put : rv_local_upsert)(backend, collections[c], &given,
                                                        NULL) == RV_OK);
    s->version[c] = v;
    rvb_mutex_unlock(s->writing[c]);
    free(rows);
}

/* Hits at the origin, best first, of versions from `oldest` on; version 0 is none. */
static void check_hit(sea *s, size_t c, size_t i, uint64_t id, float score,
                      uint64_t oldest, uint64_t *version) {
    double v = sqrt((double)score - (double)(i * i));
    if (i == 0) *version = (uint64_t)(v + 0.5);
    CHECK(s, fabs(v - (double)*version) < 1e-3);
    CHECK(s, *version >= oldest && *version <= s->version[c] + 1);
    CHECK(s, id == c * 1000 + i);
}

static void search_one(sea *s, size_t c) {
    uint64_t oldest = s->version[c], ids[K], v = 0;
    float query[LAKE_DIM] = {0}, scores[K];
    rv_status status =
        rv_lake_search(s->lake, key_of(c), &(rv_queries){query, 1, LAKE_DIM}, K,
                       &(rv_result){ids, scores}, NULL);
    CHECK(s, status == RV_OK);
    for (size_t i = 0; status == RV_OK && i < K; i++)
        check_hit(s, c, i, ids[i], scores[i], oldest, &v);
}

static void search_all(sea *s) {
    uint64_t oldest[COLLECTIONS], n;
    rv_key keys[COLLECTIONS];
    rv_pin *pins[COLLECTIONS];
    size_t failed;
    float query[LAKE_DIM] = {0};
    rv_lake_hit hits[16];
    for (size_t c = 0; c < COLLECTIONS; c++) {
        oldest[c] = s->version[c];
        keys[c] = key_of(c);
    }
    bool held = rv_lake_acquire_all(s->lake, keys, COLLECTIONS, NULL, pins, &failed,
                                    NULL) == RV_OK;
    CHECK(s, held);
    if (!held) return;
    CHECK(s, rv_pins_search(pins, COLLECTIONS, &(rv_queries){query, 1, LAKE_DIM}, 16, 0,
                            hits, &n, NULL) == RV_OK);
    size_t rank[COLLECTIONS] = {0};
    uint64_t v[COLLECTIONS] = {0};
    for (uint64_t i = 0; i < n; i++) {
        size_t c = hits[i].shard;
        check_hit(s, c, rank[c]++, hits[i].id, hits[i].score, oldest[c], &v[c]);
        CHECK(s, i == 0 || hits[i - 1].score <= hits[i].score);
    }
    for (size_t c = 0; c < COLLECTIONS; c++) rv_pin_release(pins[c]);
}

static void search_later(sea *s, size_t c) {
    rv_completions *results;
    if (rv_completions_new(&results, NULL) != RV_OK) return;
    uint64_t oldest = s->version[c];
    float query[LAKE_DIM] = {0};
    const rv_key key = key_of(c);
    rv_job jobs[3];
    for (uint64_t i = 0; i < 3; i++)
        jobs[i] = (rv_job){.size = sizeof(rv_job),
                           .tag = i,
                           .keys = &key,
                           .n_shards = 1,
                           .queries = query,
                           .m = 1,
                           .dim = LAKE_DIM,
                           .k = K};
    CHECK(s, rv_lake_submit(s->lake, results, jobs, 3, NULL) == RV_OK);
    rv_completions_cancel(results, 1);
    for (int i = 0; i < 2; i++) { /* the third is left to itself */
        rv_completion r = RV_COMPLETION_DEFAULT;
        if (!rv_completions_wait(results, 60000) ||
            rv_completions_take(results, &r, NULL) != RV_OK) {
            CHECK(s, !"a result");
            continue;
        }
        uint64_t v = 0;
        CHECK(s, r.status == RV_OK || (r.status == RV_ERR_CANCELLED && r.tag == 1));
        for (size_t j = 0; r.status == RV_OK && j < K; j++)
            check_hit(s, c, j, r.ids[j], r.scores[j], oldest, &v);
        rv_completion_clear(&r);
    }
    rv_completions_free(results);
}

static void use_files(sea *s, size_t c, size_t what) {
    char name[24], place[PATH_BYTES];
    snprintf(name, sizeof name, "%zu", c);
    in_folder(place, name);
    rv_witness witness;
    rv_refresh result;
    uint64_t n;
    rv_status status;
    switch (what) {
    case 0:
        CHECK(s,
              rv_lake_publish(s->lake, key_of(c), place, NULL, witness, NULL) == RV_OK);
        break;
    case 1:
        CHECK(s, rv_lake_refresh(s->lake, key_of(c), place, &result, NULL) == RV_OK);
        break;
    case 2:
        status = rv_lake_save(s->lake, key_of(c), place, NULL);
        CHECK(s, status == RV_OK || status == RV_ERR_NOT_FOUND);
        break;
    default: /* a bundle published or an index saved in between fits no other */
        status = rv_lake_warm(s->lake, key_of(c), place, &n, NULL);
        CHECK(s, status == RV_OK || status == RV_ERR_IO || status == RV_ERR_WITNESS);
    }
}

static void *live(void *ctx) {
    sea *s = ctx;
    uint64_t seed = atomic_fetch_add(&s->done, 1);
    while (rvb_now_ns() < s->end_ns) {
        size_t c = next_below(&seed, COLLECTIONS), what = next_below(&seed, 20);
        if (what < 8)
            search_one(s, c);
        else if (what < 10)
            search_all(s);
        else if (what < 12)
            search_later(s, c);
        else if (what < 14)
            write_version(s, c, what == 12);
        else if (what < 15)
            rv_lake_invalidate(s->lake, key_of(c));
        else
            use_files(s, c, what - 15 < 3 ? what - 15 : 3);
    }
    return NULL;
}

static void everything_at_once(void **state) {
    (void)state;
    const char *seconds = getenv("RUVECTOR_TEST_SECONDS");
    sea *s = need(1, sizeof *s);
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.max_cache_entries = 3; /* fewer than there are collections */
    s->lake = new_lake(&o);
    for (int b = 0; b < 2; b++) {
        assert_ok(rv_local_backend_new(b ? "b" : "a", &s->backends[b], err));
        assert_ok(rv_lake_register(s->lake, s->backends[b], err));
    }
    for (size_t c = 0; c < COLLECTIONS; c++) {
        s->writing[c] = rvb_mutex_create();
        write_version(s, c, true);
    }
    s->end_ns = rvb_now_ns() + (seconds ? strtoull(seconds, NULL, 10) : 2) * 1000000000;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, live, s), 0);
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(s->failures, 0);
    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    (void)rv_lake_get_stats(s->lake, &stats, NULL);
    assert_true(stats.primes > 0 && stats.hits > 0 && stats.evictions > 0);
    for (size_t c = 0; c < COLLECTIONS; c++) rvb_mutex_free(s->writing[c]);
    for (int b = 0; b < 2; b++) rv_backend_free(s->backends[b]);
    rv_lake_free(s->lake);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(everything_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
