/*
 * fuzz_snapshot.c - the index of a snapshot out of bytes nobody vouches for, beside a
 * bundle that is fine. The file's digest is made true first, so that damage reaches what
 * comes after it. What is accepted answers, and can be saved and read again; what is not
 * leaves nothing in the cache.
 */
#define _DEFAULT_SOURCE /* mkdtemp */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "ruvector/lake.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DIM = 3, ROWS = 5, TRAILER = 40 };

static char folder[64] = "/dev/shm/ruvector-fuzz-XXXXXX", in[72], out[72];
static const rv_key key = {"a", "docs"};

static void require(bool condition) {
    if (!condition) abort();
}

static const char *place(const char *directory, const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void clean_up(void) {
    const char *const directories[] = {in, out, folder};
    for (int i = 0; i < 3; i++) {
        remove(place(directories[i], RV_SNAPSHOT_FILE));
        remove(place(directories[i], RV_BUNDLE_FILE));
        rmdir(directories[i]);
    }
}

/* A snapshot in `in`: its bundle stays, its index is a file to start from. */
static void save_sample(void) {
    float rows[ROWS * DIM];
    const uint64_t ids[ROWS] = {7, 42, 99, 2000, UINT64_C(1) << 40};
    for (int i = 0; i < ROWS * DIM; i++) rows[i] = (float)(i * 5 % 17) - 8;
    rv_backend *backend;
    rv_lake *lake;
    rv_witness witness;
    require(rv_local_backend_new("a", &backend, NULL) == RV_OK);
    require(rv_local_put(backend, "docs", &(rv_rows){rows, ids, ROWS, DIM}, NULL) ==
            RV_OK);
    require(rv_lake_new(NULL, &lake, NULL) == RV_OK);
    require(rv_lake_register(lake, backend, NULL) == RV_OK);
    require(rv_lake_prime(lake, key, NULL, witness, NULL) == RV_OK);
    require(rv_lake_save(lake, key, in, NULL) == RV_OK);
    rv_lake_free(lake);
    rv_backend_free(backend);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    require(rv_set_num_threads(1, NULL) == RV_OK);
    if (!mkdtemp(folder)) {
        strcpy(folder, "/tmp/ruvector-fuzz-XXXXXX");
        require(mkdtemp(folder) != NULL);
    }
    snprintf(in, sizeof in, "%s/in", folder);
    snprintf(out, sizeof out, "%s/out", folder);
    save_sample();
    atexit(clean_up);
    return 0;
}

static void put_file(const uint8_t *data, size_t size) {
    FILE *f = fopen(place(in, RV_SNAPSHOT_FILE), "wb");
    require(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

/* Makes the digest, and the block's account of the file's size, true. */
static void repair(uint8_t *data, size_t size) {
    if (size < TRAILER || memcmp(data + size - 8, "RVXBEND1", 8) != 0) return;
    for (size_t at = 0; at + 32 <= size; at += 64)
        if (memcmp(data + at, "RVXBLOCK", 8) == 0) rvb_put_u64(data + at + 24, size);
    rvb_tree tree;
    rvb_tree_init(&tree, size - TRAILER);
    rvb_tree_update(&tree, data, size - TRAILER);
    rvb_tree_finish(&tree, data + size - TRAILER);
}

static rv_lake *new_lake(void) {
    rv_lake *lake;
    rv_lake_options o = RV_LAKE_DEFAULT;
    o.consistency = RV_STALE;
    require(rv_lake_new(&o, &lake, NULL) == RV_OK);
    return lake;
}

typedef struct answer {
    rv_status status;
    uint64_t ids[ROWS];
    float scores[ROWS];
} answer;

static answer search(rv_lake *lake) {
    const float query[DIM] = {1, -2, 3};
    answer a = {RV_OK, {0}, {0}};
    a.status = rv_lake_search(lake, key, &(rv_queries){query, 1, DIM}, ROWS,
                              &(rv_result){a.ids, a.scores}, NULL);
    return a;
}

static void use(rv_lake *lake, uint64_t n) {
    rv_entry_info entry = RV_ENTRY_INFO_DEFAULT;
    uint64_t again_n;
    require(rv_lake_get_entry(lake, key, &entry, NULL) == RV_OK && entry.n == n &&
            entry.dim == DIM);
    answer first = search(lake);
    require(first.status == (n ? RV_OK : RV_ERR_EMPTY));
    require(rv_lake_save(lake, key, out, NULL) == RV_OK);
    rv_lake *other = new_lake();
    require(rv_lake_warm(other, key, out, &again_n, NULL) == RV_OK && again_n == n);
    answer second = search(other);
    require(first.status == second.status);
    require(memcmp(first.ids, second.ids, sizeof first.ids) == 0);
    require(memcmp(first.scores, second.scores, sizeof first.scores) == 0);
    rv_lake_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *bytes = malloc(size ? size : 1);
    require(bytes != NULL);
    if (size) memcpy(bytes, data, size);
    repair(bytes, size);
    put_file(bytes, size);
    free(bytes);

    uint64_t n = 0;
    rv_error error = {RV_OK, 0, 0, 0, "", ""};
    rv_lake *lake = new_lake();
    rv_status status = rv_lake_warm(lake, key, in, &n, &error);
    if (status == RV_OK) {
        use(lake, n);
    } else {
        rv_lake_stats stats = RV_LAKE_STATS_DEFAULT;
        require(error.code == status && error.message[0]);
        (void)rv_lake_get_stats(lake, &stats, NULL);
        require(rv_lake_entry_count(lake) == 0 && stats.warm_installs == 0);
    }
    rv_lake_free(lake);
    return 0;
}
