/*
 * lake.c - a lake from C: vectors in memory, a search that builds the index, a change
 * that is noticed, a snapshot that a second lake reads back.
 *
 *     cc lake.c $(pkg-config --cflags --libs ruvector) -o lake
 *     ./lake /tmp/example-snapshot
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ruvector/lake.h>

enum { ROWS = 5000, DIM = 64, K = 3 };

static void check(rv_status status, const rv_error *err) {
    if (status == RV_OK) return;
    fprintf(stderr, "lake: %s: %s\n", rv_status_name(status), err->message);
    exit(EXIT_FAILURE);
}

/* Uniform in [-1, 1), from a fixed seed. */
static float next_value(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(int32_t)(*state >> 32) / 2147483648.0f;
}

typedef struct hits {
    uint64_t ids[K];
    float scores[K];
} hits;

static hits search(rv_lake *lake, rv_key key, const float *query, const char *title) {
    rv_error err;
    hits h;
    check(rv_lake_search(lake, key, &(rv_queries){query, 1, DIM}, K,
                         &(rv_result){h.ids, h.scores}, &err),
          &err);
    printf("%-14s", title);
    for (int i = 0; i < K; i++)
        printf("  id %" PRIu64 " at %.3f", h.ids[i], (double)h.scores[i]);
    printf("\n");
    return h;
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "example-snapshot";
    static float vectors[ROWS * DIM];
    static uint64_t ids[ROWS];
    uint64_t state = 1;
    for (int i = 0; i < ROWS * DIM; i++) vectors[i] = next_value(&state);
    for (int i = 0; i < ROWS; i++) ids[i] = 1000 + 10 * (uint64_t)i;

    rv_error err;
    rv_backend *backend = NULL;
    check(rv_local_backend_new("shard", &backend, &err), &err);
    check(rv_local_put(backend, "docs", &(rv_rows){vectors, ids, ROWS, DIM}, &err), &err);

    rv_lake *lake = NULL;
    rv_lake_options options = RV_LAKE_DEFAULT;
    check(rv_lake_new(&options, &lake, &err), &err);
    check(rv_lake_register(lake, backend, &err), &err);

    /* No backend in the key: the only one there is. */
    rv_key docs = {NULL, "docs"}, key = {"shard", "docs"};
    float query[DIM];
    for (int j = 0; j < DIM; j++)
        query[j] = vectors[123 * DIM + j] + 0.05f * next_value(&state);
    hits first = search(lake, docs, query, "built");

    check(rv_local_append(backend, "docs", 7, query, DIM, &err), &err);
    hits second = search(lake, docs, query, "after a change");

    rv_witness witness;
    check(rv_lake_publish(lake, key, folder, NULL, witness, &err), &err);
    check(rv_lake_save(lake, key, folder, &err), &err);

    /* A lake that never asks, without any backend. */
    rv_lake *again = NULL;
    uint64_t n = 0;
    options.consistency = RV_STALE;
    check(rv_lake_new(&options, &again, &err), &err);
    check(rv_lake_warm(again, key, folder, &n, &err), &err);
    hits third = search(again, docs, query, "read back");

    rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
    rv_entry_info entry = RV_ENTRY_INFO_DEFAULT;
    check(rv_lake_get_stats(lake, &stats, &err), &err);
    printf("%" PRIu64 " indexes built; witness %.16s...\n", stats.primes, witness);
    int good = first.ids[0] == 2230 && second.ids[0] == 7 && second.ids[1] == 2230 &&
               n == ROWS + 1 && memcmp(second.ids, third.ids, sizeof second.ids) == 0 &&
               memcmp(second.scores, third.scores, sizeof second.scores) == 0 &&
               stats.primes == 2 &&
               rv_lake_get_entry(again, key, &entry, &err) == RV_OK &&
               strcmp(entry.witness, witness) == 0;
    printf("%s\n", good ? "as expected" : "NOT as expected");

    rv_lake_free(again);
    rv_lake_free(lake);
    rv_backend_free(backend);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
