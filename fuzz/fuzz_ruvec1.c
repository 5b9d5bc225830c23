/*
 * fuzz_ruvec1.c - ruvec1 files nobody vouches for, through a backend of files. What is
 * pulled must be what stands in the bytes, and what is written again the same bytes.
 */
#define _DEFAULT_SOURCE /* mkdtemp */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ruvector/lake.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64] = "/dev/shm/ruvector-fuzz-XXXXXX", path[80];
static rv_backend *files;

static void require(bool condition) {
    if (!condition) abort();
}

static void clean_up(void) {
    remove(path);
    rmdir(folder);
    rv_backend_free(files);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    if (!mkdtemp(folder)) {
        strcpy(folder, "/tmp/ruvector-fuzz-XXXXXX");
        require(mkdtemp(folder) != NULL);
    }
    snprintf(path, sizeof path, "%s/in", folder);
    require(rv_fs_backend_new("fuzz", folder, 0, &files, NULL) == RV_OK);
    require(rv_fs_register(files, "c", "in", NULL) == RV_OK);
    atexit(clean_up);
    return 0;
}

static void put_file(const uint8_t *data, size_t size) {
    FILE *f = fopen(path, "wb");
    require(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

static uint64_t get_u64(const uint8_t *p) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | p[i];
    return value;
}

/* Row by row against the bytes; whether a writer may store them. */
static bool compare(const rv_pull *p, const uint8_t *data, size_t size) {
    bool storable = true;
    require(p->n == get_u64(data + 8) && p->dim == (uint32_t)get_u64(data + 16));
    require(size >= 24 + p->n * (8 + 4 * p->dim));
    const uint8_t *at = data + 24;
    for (uint64_t i = 0; i < p->n; i++, at += 8 + 4 * p->dim) {
        require(p->ids[i] == get_u64(at));
        require(memcmp(p->vectors + i * p->dim, at + 8, 4 * p->dim) == 0);
        storable = storable && p->ids[i] != RV_NO_ID;
        for (uint64_t j = 0; j < p->dim; j++)
            storable = storable && isfinite(p->vectors[i * p->dim + j]);
    }
    return storable;
}

static void write_again(const rv_pull *p, const uint8_t *data, bool storable) {
    rv_status status = rv_fs_write(
        files, "c", "in", &(rv_rows){p->vectors, p->ids, p->n, (uint32_t)p->dim}, NULL);
    require((status == RV_OK) == storable);
    if (!storable) return;
    size_t size = 24 + p->n * (8 + 4 * p->dim);
    uint8_t *bytes = malloc(size + 1);
    FILE *f = fopen(path, "rb");
    require(bytes && f && fread(bytes, 1, size + 1, f) == size && fclose(f) == 0);
    require(memcmp(bytes, data, size) == 0);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rv_pull pull;
    rv_bundle *bundle = NULL;
    put_file(data, size);
    rv_status status = rv_backend_pull(files, "c", &pull, NULL);
    rv_status bundled = rv_backend_bundle(files, "c", 42, 20, &bundle, NULL);
    require(status == RV_OK || status == RV_ERR_BACKEND);
    require(bundled == RV_OK || bundled == RV_ERR_BACKEND);
    require(status != RV_OK || bundled == RV_OK);
    if (status == RV_OK) {
        require(bundle->dim == pull.dim && bundle->generation == pull.generation);
        write_again(&pull, data, compare(&pull, data, size));
        rv_pull_release(&pull);
    }
    rv_bundle_free(bundle);
    return 0;
}
