/*
 * older_program.c - what a program does that was compiled when the structs were as small
 * as in release 0.1.0, with today's shared library: each struct has that many bytes and
 * no more, and what lies behind it is none of the library's business. The same calls with
 * a struct larger than the library knows are refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ruvector/lake.h>

/* Of the headers of 0.1.0, on 64-bit machines. What comes back had no size then. */
#if UINTPTR_MAX == UINT64_MAX
#define OPTIONS(name, bytes) _Static_assert((name) == (bytes), #name " has changed")
#define RESULT(name, bytes) OPTIONS(name, sizeof(size_t) + (bytes))
OPTIONS(RV_BUILD_OPTIONS_0_1_0_SIZE, 64);
OPTIONS(RV_SEARCH_OPTIONS_0_1_0_SIZE, 80);
OPTIONS(RV_SAVE_OPTIONS_0_1_0_SIZE, 32);
OPTIONS(RV_LAKE_OPTIONS_0_1_0_SIZE, 56);
OPTIONS(RV_ACQUIRE_OPTIONS_0_1_0_SIZE, 32);
OPTIONS(RV_BACKEND_CALLS_0_1_0_SIZE, 64);
OPTIONS(RV_JOB_0_1_0_SIZE, 88);
RESULT(RV_INDEX_INFO_0_1_0_SIZE, 88);
RESULT(RV_MEMORY_USAGE_0_1_0_SIZE, 64);
RESULT(RV_TUNING_0_1_0_SIZE, 16);
RESULT(RV_VIEW_0_1_0_SIZE, 48);
RESULT(RV_ENTRY_INFO_0_1_0_SIZE, 112);
RESULT(RV_LAKE_STATS_0_1_0_SIZE, 80);
RESULT(RV_COMPLETION_0_1_0_SIZE, 680);
#endif

enum { ROWS = 300, DIM = 16, K = 5, GUARD = 64 };

static rv_error error;
static float vectors[ROWS * DIM];
static uint64_t numbers[ROWS];

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, error.message);   \
            exit(EXIT_FAILURE);                                                          \
        }                                                                                \
    } while (0)
#define OK(call) CHECK((call) == RV_OK)

/* ---- structs of another size ------------------------------------------------------ */

/* The first `size` of the `known` bytes of `defaults`, with bytes of no meaning behind.
 */
static void *resized(const void *defaults, size_t known, size_t size) {
    unsigned char *memory = malloc(size + GUARD);
    CHECK(memory);
    memset(memory, 0xA5, size + GUARD);
    memcpy(memory, defaults, size < known ? size : known);
    memcpy(memory, &size, sizeof size);
    return memory;
}

static void give_back(void *memory) {
    size_t size;
    memcpy(&size, memory, sizeof size);
    const unsigned char *behind = (const unsigned char *)memory + size;
    for (size_t i = 0; i < GUARD; i++) CHECK(behind[i] == 0xA5);
    free(memory);
}

/* A variable `name` with the bytes it had in 0.1.0. */
#define OLDER(type, name, defaults, size)                                                \
    const type name##_today = defaults;                                                  \
    type *name = resized(&name##_today, sizeof name##_today, size)

/* `call` is given `newer`, a struct with eight bytes more than the library knows. */
#define REFUSED(type, defaults, call)                                                    \
    do {                                                                                 \
        const type today = defaults;                                                     \
        type *newer = resized(&today, sizeof today, sizeof today + 8);                   \
        error.message[0] = '\0';                                                         \
        check_refused(call, #type, sizeof today);                                        \
        give_back(newer);                                                                \
    } while (0)

static void check_refused(rv_status status, const char *type, size_t known) {
    char want[256];
    snprintf(want, sizeof want,
             "%s came with %zu bytes, and ruvector %s knows %zu: ", type, known + 8,
             rv_version(), known);
    CHECK(status == RV_ERR_ARGUMENT);
    CHECK(strncmp(error.message, want, strlen(want)) == 0);
}

/* ---- indexes ---------------------------------------------------------------------- */

static rv_index *build(void) {
    rv_index *index;
    REFUSED(
        rv_build_options, RV_BUILD_DEFAULT,
        rv_index_build(newer, &(rv_rows){vectors, numbers, ROWS, DIM}, &index, &error));
    CHECK(!index);
    OLDER(rv_build_options, options, RV_BUILD_DEFAULT, RV_BUILD_OPTIONS_0_1_0_SIZE);
    options->dim = DIM;
    options->seed = 7;
    OK(rv_index_build(options, &(rv_rows){vectors, numbers, ROWS, DIM}, &index, &error));
    give_back(options);
    return index;
}

static void search(const rv_index *index) {
    uint64_t ids[K];
    float scores[K];
    uint8_t even[ROWS];
    for (size_t i = 0; i < ROWS; i++) even[i] = i % 2 == 0;
    OLDER(rv_search_options, options, RV_SEARCH_DEFAULT, RV_SEARCH_OPTIONS_0_1_0_SIZE);
    options->nprobe = RV_ALL_LISTS;
    options->allow_mask = even;
    options->allow_mask_len = ROWS;
    OK(rv_index_search(index, &(rv_queries){vectors + 8 * DIM, 1, DIM}, K, options,
                       &(rv_result){ids, scores}, &error));
    CHECK(ids[0] == 8 && scores[0] == 0);
    for (int i = 0; i < K; i++) CHECK(ids[i] % 2 == 0);
    give_back(options);
    ids[0] = 1;
    REFUSED(rv_search_options, RV_SEARCH_DEFAULT,
            rv_index_search(index, &(rv_queries){vectors, 1, DIM}, K, newer,
                            &(rv_result){ids, scores}, &error));
    CHECK(ids[0] == 1);
}

static void ask(rv_index *index) {
    OLDER(rv_index_info, info, RV_INDEX_INFO_DEFAULT, RV_INDEX_INFO_0_1_0_SIZE);
    OK(rv_index_get_info(index, info, &error));
    CHECK(info->kind == RV_PLUS && info->dim == DIM && info->n == ROWS);
    CHECK(info->seed == 7 && info->next_id == ROWS && info->changes > 0);
    give_back(info);
    REFUSED(rv_index_info, RV_INDEX_INFO_DEFAULT,
            rv_index_get_info(index, newer, &error));

    OLDER(rv_memory_usage, memory, RV_MEMORY_USAGE_DEFAULT, RV_MEMORY_USAGE_0_1_0_SIZE);
    OK(rv_index_memory(index, memory, &error));
    CHECK(memory->vectors == ROWS * DIM * sizeof(float));
    CHECK(memory->total > memory->vectors && memory->mapped == 0);
    give_back(memory);
    REFUSED(rv_memory_usage, RV_MEMORY_USAGE_DEFAULT,
            rv_index_memory(index, newer, &error));

    OLDER(rv_view, view, RV_VIEW_DEFAULT, RV_VIEW_0_1_0_SIZE);
    OK(rv_index_view(index, view, &error));
    CHECK(view->n == ROWS && view->dim == DIM && view->bits == 32);
    CHECK(memcmp(view->data, vectors, DIM * sizeof(float)) == 0);
    rv_view_release(view);
    give_back(view);
    REFUSED(rv_view, RV_VIEW_DEFAULT, rv_index_view(index, newer, &error));

    REFUSED(
        rv_tuning, RV_TUNING_DEFAULT,
        rv_index_tune(index, &(rv_queries){vectors, 20, DIM}, K, 1, NULL, newer, &error));
    OLDER(rv_tuning, tuning, RV_TUNING_DEFAULT, RV_TUNING_0_1_0_SIZE);
    OK(rv_index_tune(index, &(rv_queries){vectors, 20, DIM}, K, 1, NULL, tuning, &error));
    CHECK(tuning->nprobe > 0 && tuning->epsilon > 0 && tuning->recall > 0);
    give_back(tuning);
}

static void save(const rv_index *index, const char *path) {
    rv_index *loaded;
    char note[4];
    REFUSED(rv_save_options, RV_SAVE_DEFAULT,
            rv_index_save_as(index, path, newer, &error));
    CHECK(!fopen(path, "rb"));
    OLDER(rv_save_options, options, RV_SAVE_DEFAULT, RV_SAVE_OPTIONS_0_1_0_SIZE);
    options->note = "note";
    options->note_size = sizeof note;
    OK(rv_index_save_as(index, path, options, &error));
    give_back(options);
    OK(rv_index_load(path, 0, RV_VERIFY_ALWAYS, &loaded, &error));
    remove(path);
    CHECK(rv_index_note(loaded, note, sizeof note) == sizeof note);
    CHECK(memcmp(note, "note", sizeof note) == 0 && rv_index_equal(index, loaded));
    rv_index_free(loaded);
}

/* ---- a lake over a backend of the program's own ----------------------------------- */

static rv_status
list(void *ctx, rv_status (*each)(void *names, const char *collection, rv_error *err),
     void *names, rv_error *err) {
    (void)ctx;
    return each(names, "docs", err);
}

static rv_status pull(void *ctx, const char *collection, rv_pull *out, rv_error *err) {
    (void)ctx, (void)collection, (void)err;
    *out = (rv_pull){numbers, ROWS, vectors, ROWS, DIM, 1, NULL, NULL};
    return RV_OK;
}

static rv_status generation(void *ctx, const char *collection, uint64_t *out,
                            rv_error *err) {
    (void)ctx, (void)collection, (void)err;
    *out = 1;
    return RV_OK;
}

static void add_backend(rv_lake *lake) {
    rv_backend *backend;
    REFUSED(rv_backend_calls, RV_BACKEND_CALLS_DEFAULT,
            rv_backend_new("own", newer, NULL, &backend, &error));
    OLDER(rv_backend_calls, calls, RV_BACKEND_CALLS_DEFAULT, RV_BACKEND_CALLS_0_1_0_SIZE);
    calls->list = list;
    calls->pull = pull;
    calls->generation = generation;
    OK(rv_backend_new("own", calls, NULL, &backend, &error));
    give_back(calls);
    OK(rv_lake_register(lake, backend, &error));
    rv_backend_free(backend);
}

static rv_lake *open_lake(void) {
    rv_lake *lake;
    REFUSED(rv_lake_options, RV_LAKE_DEFAULT, rv_lake_new(newer, &lake, &error));
    OLDER(rv_lake_options, options, RV_LAKE_DEFAULT, RV_LAKE_OPTIONS_0_1_0_SIZE);
    options->max_cache_entries = 3;
    OK(rv_lake_new(options, &lake, &error));
    give_back(options);
    add_backend(lake);
    return lake;
}

static void hold(rv_lake *lake, rv_key key) {
    rv_pin *pin;
    REFUSED(rv_acquire_options, RV_ACQUIRE_DEFAULT,
            rv_lake_acquire(lake, key, newer, &pin, &error));
    OLDER(rv_acquire_options, options, RV_ACQUIRE_DEFAULT, RV_ACQUIRE_OPTIONS_0_1_0_SIZE);
    options->cached_only = 1;
    CHECK(rv_lake_acquire(lake, key, options, &pin, &error) == RV_ERR_CACHE_MISS);
    options->cached_only = 0;
    OK(rv_lake_acquire(lake, key, options, &pin, &error));
    give_back(options);

    OLDER(rv_entry_info, info, RV_ENTRY_INFO_DEFAULT, RV_ENTRY_INFO_0_1_0_SIZE);
    OK(rv_pin_info(pin, info, &error));
    CHECK(info->n == ROWS && info->dim == DIM && info->holds == 1);
    REFUSED(rv_entry_info, RV_ENTRY_INFO_DEFAULT, rv_pin_info(pin, newer, &error));
    rv_pin_release(pin);
    OK(rv_lake_get_entry(lake, key, info, &error));
    CHECK(strlen(info->witness) == RV_WITNESS_CHARS && info->holds == 0);
    give_back(info);
    REFUSED(rv_entry_info, RV_ENTRY_INFO_DEFAULT,
            rv_lake_get_entry(lake, key, newer, &error));
}

static void count(rv_lake *lake, rv_key key) {
    OLDER(rv_lake_stats, stats, RV_LAKE_STATS_DEFAULT, RV_LAKE_STATS_0_1_0_SIZE);
    OK(rv_lake_get_stats(lake, stats, &error));
    CHECK(stats->primes == 1 && stats->last_prime_ms > 0);
    OK(rv_lake_get_key_stats(lake, key, stats, &error));
    CHECK(stats->primes == 1 && stats->last_prime_ms == 0);
    give_back(stats);
    REFUSED(rv_lake_stats, RV_LAKE_STATS_DEFAULT, rv_lake_get_stats(lake, newer, &error));
    REFUSED(rv_lake_stats, RV_LAKE_STATS_DEFAULT,
            rv_lake_get_key_stats(lake, key, newer, &error));
}

/* ---- searching without waiting ----------------------------------------------------- */

static void take(rv_completions *finished, unsigned char *found) {
    OLDER(rv_completion, done, RV_COMPLETION_DEFAULT, RV_COMPLETION_0_1_0_SIZE);
    CHECK(rv_completions_wait(finished, 60000));
    REFUSED(rv_completion, RV_COMPLETION_DEFAULT,
            rv_completions_take(finished, newer, &error));
    OK(rv_completions_take(finished, done, &error));
    CHECK(done->status == RV_OK && done->m == 1 && done->k == K);
    CHECK(done->ids[0] == done->tag && done->scores[0] == 0);
    found[done->tag]++;
    rv_completion_clear(done);
    give_back(done);
}

/* Jobs lie in an array, so an older program's are nearer to each other. */
static void submit(rv_lake *lake, const rv_key *key) {
    enum { JOBS = 3 };
    rv_completions *finished;
    unsigned char found[JOBS] = {0};
    OK(rv_completions_new(&finished, &error));
    REFUSED(rv_job, RV_JOB_DEFAULT, rv_lake_submit(lake, finished, newer, 1, &error));
    const size_t size = RV_JOB_0_1_0_SIZE;
    unsigned char *jobs = malloc(JOBS * size);
    CHECK(jobs);
    for (size_t i = 0; i < JOBS; i++) {
        OLDER(rv_job, job, RV_JOB_DEFAULT, size);
        job->tag = i;
        job->keys = key;
        job->n_shards = 1;
        job->queries = vectors + i * DIM;
        job->m = 1;
        job->dim = DIM;
        job->k = K;
        memcpy(jobs + i * size, job, size);
        give_back(job);
    }
    OK(rv_lake_submit(lake, finished, (const void *)jobs, JOBS, &error));
    free(jobs);
    for (size_t i = 0; i < JOBS; i++) take(finished, found);
    for (size_t i = 0; i < JOBS; i++) CHECK(found[i] == 1);
    rv_completions_free(finished);
}

int main(int argc, char **argv) {
    uint32_t state = 1;
    for (size_t i = 0; i < ROWS * DIM; i++) {
        state = state * 1664525u + 1013904223u;
        vectors[i] = (float)(state >> 8) / 16777216.0f;
    }
    for (size_t i = 0; i < ROWS; i++) numbers[i] = i;
    rv_index *index = build();
    search(index);
    save(index, argc > 1 ? argv[1] : "older_program.rbpx");
    ask(index);
    rv_index_free(index);

    const rv_key key = {"own", "docs"};
    rv_lake *lake = open_lake();
    hold(lake, key);
    count(lake, key);
    submit(lake, &key);
    rv_lake_free(lake);
    return EXIT_SUCCESS;
}
