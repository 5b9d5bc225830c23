/*
 * native.c - what the machine and the C library do without Python in between:
 * bytes per second of one thread that reads memory from end to end, and
 * nanoseconds of a search in an index of one row. Prints one JSON object.
 *
 *     native MEGABYTES DIM...
 */
#define _POSIX_C_SOURCE 200809L
#include <ruvector/index.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REPEATS = 60, CALLS = 2000, STREAMS = 8, K = 10 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Independent sums, so that the loads are what limits it. */
static float sum(const float *x, size_t n) {
    float lane[STREAMS][16] = {{0}};
    for (size_t i = 0; i + STREAMS * 16 <= n; i += STREAMS * 16)
        for (size_t s = 0; s < STREAMS; s++)
            for (size_t j = 0; j < 16; j++) lane[s][j] += x[i + s * 16 + j];
    float total = 0;
    for (size_t s = 0; s < STREAMS; s++)
        for (size_t j = 0; j < 16; j++) total += lane[s][j];
    return total;
}

static double read_gb_per_second(size_t bytes) {
    size_t n = bytes / sizeof(float);
    float *x = malloc(n * sizeof *x);
    if (!x) exit(1);
    for (size_t i = 0; i < n; i++) x[i] = (float)(i & 7);
    double best = 1e9;
    float total = 0;
    for (int r = 0; r < REPEATS; r++) {
        double start = seconds();
        total += sum(x, n);
        double taken = seconds() - start;
        if (taken < best) best = taken;
    }
    free(x);
    if (total < 0) exit(1); /* so that no sum may be left out */
    return (double)(n * sizeof *x) / best * 1e-9;
}

static void check(rv_status status, const rv_error *err) {
    if (status != RV_OK) {
        fprintf(stderr, "native: %s\n", err->message);
        exit(1);
    }
}

static double call_ns(rv_kind kind, uint32_t dim) {
    float *row = malloc(dim * sizeof *row);
    if (!row) exit(1);
    for (uint32_t i = 0; i < dim; i++) row[i] = (float)(i % 3);
    rv_build_options build = RV_BUILD_DEFAULT;
    build.kind = kind;
    rv_error err;
    rv_index *index = NULL;
    check(rv_index_build(&build, &(rv_rows){row, NULL, 1, dim}, &index, &err), &err);
    rv_search_options search = RV_SEARCH_DEFAULT;
    uint64_t ids[K];
    float scores[K];
    double best = 1e9;
    for (int r = 0; r < REPEATS; r++) {
        double start = seconds();
        for (int i = 0; i < CALLS; i++)
            check(rv_index_search(index, &(rv_queries){row, 1, dim}, K, &search,
                                  &(rv_result){ids, scores}, &err),
                  &err);
        double taken = (seconds() - start) / CALLS;
        if (taken < best) best = taken;
    }
    rv_index_free(index);
    free(row);
    return 1e9 * best;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: native MEGABYTES DIM...\n");
        return 2;
    }
    printf("{\"read_gb_per_second\": %.3f, \"calls\": [",
           read_gb_per_second(strtoul(argv[1], NULL, 10) * 1000000));
    static const struct {
        const char *name;
        rv_kind kind;
    } kinds[] = {{"FlatF32Index", RV_FLAT}, {"RabitqPlusIndex", RV_PLUS}};
    for (int i = 2; i < argc; i++) {
        uint32_t dim = (uint32_t)strtoul(argv[i], NULL, 10);
        for (int j = 0; j < 2; j++)
            printf("%s{\"index\": \"%s\", \"dim\": %u, \"ns\": %.1f}",
                   i + j == 2 ? "" : ", ", kinds[j].name, dim,
                   call_ns(kinds[j].kind, dim));
    }
    printf("]}\n");
    return 0;
}
