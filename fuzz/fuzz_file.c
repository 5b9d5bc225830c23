/*
 * fuzz_file.c - an index out of bytes nobody vouches for. The digest is not checked, so
 * that damage reaches the code behind it; whatever is accepted is then used in every
 * way. Starts from small valid files made here, so it needs no corpus.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ruvector/index.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#define K 5u

static void require(bool condition) {
    if (!condition) abort();
}

static void *need(size_t n, size_t size) {
    void *memory = calloc(n ? n : 1, size);
    require(memory != NULL);
    return memory;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    require(rv_set_num_threads(1, NULL) == RV_OK);
    return 0;
}

/* ---- using what was accepted ------------------------------------------------- */

static void search(const rv_index *index, const rv_index_info *info, const float *query,
                   const rv_search_options *o) {
    uint64_t ids[2 * K];
    float scores[2 * K];
    rv_status status = rv_index_search(index, &(rv_queries){query, 2, info->dim}, K, o,
                                       &(rv_result){ids, scores}, NULL);
    require(status == RV_OK || (status == RV_ERR_EMPTY && info->n == 0));
    for (size_t i = 0; status == RV_OK && i < 2 * K; i++)
        require(ids[i] == RV_NO_ID || rv_index_contains(index, ids[i]));
}

static void search_all_ways(const rv_index *index, const rv_index_info *info,
                            const float *query, const uint64_t *ids) {
    rv_search_options o = RV_SEARCH_DEFAULT;
    search(index, info, query, &o);
    o.nprobe = 1;
    search(index, info, query, &o);
    o.nprobe = RV_ALL_LISTS;
    o.allow_ids = ids;
    o.allow_count = info->n / 2;
    search(index, info, query, &o);
    uint8_t *mask = need(info->n, 1);
    for (uint64_t i = 0; i < info->n; i += 3) mask[i] = 1;
    o = (rv_search_options)RV_SEARCH_DEFAULT;
    o.allow_mask = mask;
    o.allow_mask_len = info->n;
    search(index, info, query, &o);
    free(mask);
    if (!info->code_bytes || !info->has_vectors) return;
    o = (rv_search_options)RV_SEARCH_DEFAULT;
    o.rerank_factor = 3;
    search(index, info, query, &o);
    o.max_rerank = K + 1;
    o.epsilon = 1e30f;
    search(index, info, query, &o);
}

static void read_rows(const rv_index *index, const rv_index_info *info, uint64_t *ids,
                      float *row) {
    size_t n = info->n;
    float *norms = need(n, sizeof *norms);
    float *vectors = info->has_vectors ? need(n * info->dim, sizeof *vectors) : NULL;
    uint8_t *codes = info->code_bytes ? need(n, info->code_bytes) : NULL;
    require(rv_index_copy_rows(index, 0, n, ids, norms, codes, vectors, NULL) == RV_OK);
    for (size_t i = 0; i < n; i++) {
        require(rv_index_contains(index, ids[i]));
        rv_status status = rv_index_get(index, ids[i], row, NULL);
        require(status == (vectors ? RV_OK : RV_ERR_NO_VECTORS));
    }
    rv_view view = RV_VIEW_DEFAULT;
    if (rv_index_view(index, &view, NULL) == RV_OK) {
        require(view.bits == info->originals_bits);
        for (size_t i = 0; view.bits == 32 && i < n; i++)
            require(memcmp((const char *)view.data + i * view.stride_bytes,
                           vectors + i * info->dim, info->dim * sizeof *vectors) == 0);
        rv_view_release(&view);
    }
    free(norms);
    free(vectors);
    free(codes);
}

/* What was accepted can be written and read again, digest and all. */
static void write_again(const rv_index *index) {
    uint64_t size = rv_index_serialized_size(index);
    void *bytes = need(size, 1);
    require(rv_index_serialize(index, bytes, size, NULL) == RV_OK);
    rv_index *again = NULL;
    require(rv_index_from_memory(bytes, size, RV_VERIFY_ALWAYS, free, bytes, &again,
                                 NULL) == RV_OK);
    require(rv_index_equal(index, again));
    rv_index_free(again);
}

static void tune(rv_index *index, const rv_index_info *info, const float *queries) {
    rv_tuning t = RV_TUNING_DEFAULT;
    rv_status status = rv_index_tune(index, &(rv_queries){queries, 2, info->dim}, 1, 0.5,
                                     NULL, &t, NULL);
    if (!info->code_bytes)
        require(status == RV_ERR_ARGUMENT);
    else
        require(status == (info->n ? RV_OK : RV_ERR_EMPTY));
    require(status != RV_OK || (t.nprobe >= 1 && t.recall >= 0 && t.recall <= 1));
}

static void change(rv_index *index, const rv_index_info *info, uint64_t *ids,
                   const float *rows) {
    uint64_t removed;
    rv_status status =
        rv_index_add(index, &(rv_rows){rows, NULL, 2, info->dim}, NULL, NULL);
    require(status == RV_OK || status == RV_ERR_LIMIT); /* no ids left */
    if (info->n > 0) {
        require(rv_index_upsert(index, &(rv_rows){rows, ids, 1, info->dim}, NULL, NULL) ==
                RV_OK);
        require(rv_index_remove(index, ids, info->n / 2, &removed, NULL) == RV_OK);
        require(removed >= (info->n > 1));
    }
    require(rv_index_vacuum(index, NULL) == RV_OK);
}

static void use(rv_index *index) {
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    rv_memory_usage memory = RV_MEMORY_USAGE_DEFAULT;
    (void)rv_index_get_info(index, &info, NULL);
    (void)rv_index_memory(index, &memory, NULL);
    float *rows = need(2 * (size_t)info.dim, sizeof *rows);
    float *row = need(info.dim, sizeof *row);
    uint64_t *ids = need(info.n, sizeof *ids);
    for (uint32_t j = 0; j < 2 * info.dim; j++) rows[j] = (float)(j * 7 % 11) - 5;
    read_rows(index, &info, ids, row);
    search_all_ways(index, &info, rows, ids);
    write_again(index);
    tune(index, &info, rows);
    write_again(index);
    change(index, &info, ids, rows);
    (void)rv_index_get_info(index, &info, NULL);
    search(index, &info, rows, NULL);
    write_again(index);
    free(rows);
    free(row);
    free(ids);
}

static void count_release(void *ctx) { ++*(int *)ctx; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t shift = size % 3 == 0; /* misaligned memory is read from a copy */
    uint8_t *memory = need(size + shift, 1);
    int released = 0;
    rv_index *index = NULL;
    if (size) memcpy(memory + shift, data, size);
    rv_status status = rv_index_from_memory(memory + shift, size, RV_VERIFY_NEVER,
                                            count_release, &released, &index, NULL);
    require((status == RV_OK) == (index != NULL));
    if (index) use(index);
    rv_index_free(index);
    require(released == 1);
    free(memory);
    return 0;
}

/* ---- valid files to start from ------------------------------------------------- */

static size_t sample(uint8_t *out, size_t room, unsigned choice) {
    static const uint32_t dims[] = {1, 3, 33};
    static const uint64_t counts[] = {0, 1, 4, 9};
    float rows[9 * 33];
    uint64_t ids[9];
    rv_build_options o = RV_BUILD_DEFAULT;
    o.kind = (rv_kind)(choice % 4);
    o.metric = (rv_metric)(choice / 4 % 3);
    o.dim = dims[choice / 12 % 3];
    o.n_lists = choice / 36 % 3;
    o.rerank_factor = choice / 108 % 3;
    o.bits = 1 + choice / 5184 % 8;
    if (o.kind == RV_PLUS || (o.kind == RV_ASYM && o.rerank_factor > 1))
        o.originals_bits = choice / 82944 % 2 ? 16 : 32;
    uint64_t n = counts[choice / 324 % 4];
    for (size_t i = 0; i < 9 * 33; i++) rows[i] = (float)(i * 5 % 17) - 8;
    for (size_t i = 0; i < 9; i++) ids[i] = (i * 4 + 3) % 9 + (i == 2 ? 1ull << 40 : 0);
    rv_index *index = NULL;
    require(rv_index_build(&o, &(rv_rows){rows, choice / 1296 % 2 ? ids : NULL, n, o.dim},
                           &index, NULL) == RV_OK);
    rv_tuning tuned = RV_TUNING_DEFAULT; /* its settings stand in the file */
    if (n > 0 && o.kind != RV_FLAT && choice / 41472 % 2)
        require(rv_index_tune(index, &(rv_queries){rows, 4, o.dim}, 1, 0.5, NULL, &tuned,
                              NULL) == RV_OK);
    uint64_t size = rv_index_serialized_size(index);
    if (size <= room) require(rv_index_serialize(index, out, size, NULL) == RV_OK);
    rv_index_free(index);
    bool v1 = size <= room && memcmp(out, "rbpx0001", 8) == 0;
    if (v1 && choice / 2592 % 2) return 32 + n * (4 + 4 * o.dim); /* and nothing else */
    return size <= room ? (size_t)size : 0;
}

static void put_u64(uint8_t *at, uint64_t value) {
    for (int i = 0; i < 8; i++) at[i] = (uint8_t)(value >> 8 * i);
}

/* Makes the block's own account of the file's size true again, so that bytes put in or
 * taken out are looked at closer. */
static void repair(uint8_t *data, size_t size) {
    for (size_t at = 0; at + 168 <= size; at += 64) {
        if (memcmp(data + at, "RVXBLOCK", 8) != 0) continue;
        put_u64(data + at + 16, at);
        put_u64(data + at + 24, size);
        memcpy(data + size - 8, "RVXBEND1", 8);
        return;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed) {
    if (size < 32 || seed % 64 == 0) {
        size_t made = sample(data, max_size, seed / 64);
        if (made) return made;
    }
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 2) repair(data, size);
    return size;
}
