/*
 * search.c - libruvector from C: build an index, search it, save it, load it
 * back, remove a row.
 *
 *     cc search.c $(pkg-config --cflags --libs ruvector) -o search
 *     ./search /tmp/example.rbpx
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ruvector/index.h>

enum { ROWS = 5000, DIM = 96, K = 3 };

/* Every call reports through one record; this ends the program with its words. */
static void check(rv_status status, const rv_error *err) {
    if (status == RV_OK) return;
    fprintf(stderr, "search: %s: %s\n", rv_status_name(status), err->message);
    exit(EXIT_FAILURE);
}

/* Uniform in [-1, 1), from a fixed seed. */
static float next_value(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(int32_t)(*state >> 32) / 2147483648.0f;
}

static void print_hits(const char *title, const uint64_t *ids, const float *scores) {
    printf("%s:", title);
    for (int i = 0; i < K; i++)
        printf("  id %" PRIu64 " at %.3f", ids[i], (double)scores[i]);
    printf("\n");
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "example.rbpx";
    static float vectors[ROWS * DIM];
    static uint64_t ids[ROWS];

    uint64_t state = 1;
    for (int i = 0; i < ROWS * DIM; i++) vectors[i] = next_value(&state);
    for (int i = 0; i < ROWS; i++) ids[i] = 1000 + 10 * (uint64_t)i;

    rv_error err;
    rv_index *index = NULL;
    const rv_rows rows = {vectors, ids, ROWS, DIM};
    check(rv_index_build(NULL, &rows, &index, &err), &err);

    rv_memory_usage memory = RV_MEMORY_USAGE_DEFAULT;
    check(rv_index_memory(index, &memory, &err), &err);
    printf("libruvector %s (%s): %d vectors of dimension %d, %" PRIu64 " bytes\n",
           rv_version(), rv_isa_active(), ROWS, DIM, memory.total);

    /* The query is row 123 with a little noise, so id 2230 should come first. */
    float query[DIM];
    for (int j = 0; j < DIM; j++)
        query[j] = vectors[123 * DIM + j] + 0.05f * next_value(&state);

    const rv_queries queries = {query, 1, DIM};
    uint64_t found[K], again[K];
    float scores[K], scores_again[K];
    check(rv_index_search(index, &queries, K, NULL, &(rv_result){found, scores}, &err),
          &err);
    print_hits("built ", found, scores);

    rv_index *loaded = NULL;
    check(rv_index_save(index, path, &err), &err);
    check(rv_index_load(path, 1, RV_VERIFY_AUTO, &loaded, &err), &err);
    check(rv_index_search(loaded, &queries, K, NULL, &(rv_result){again, scores_again},
                          &err),
          &err);
    print_hits("loaded", again, scores_again);
    int same = memcmp(found, again, sizeof found) == 0 &&
               memcmp(scores, scores_again, sizeof scores) == 0;

    uint64_t removed = 0;
    check(rv_index_remove(index, found, 1, &removed, &err), &err);
    check(rv_index_search(index, &queries, K, NULL, &(rv_result){again, scores_again},
                          &err),
          &err);
    print_hits("without the first", again, scores_again);

    int good = same && found[0] == 2230 && removed == 1 && again[0] == found[1];
    printf("%s\n", good ? "as expected" : "NOT as expected");

    rv_index_free(loaded);
    rv_index_free(index);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
