/*
 * test_crash.c - a process killed at any moment of a save loses nothing: the file is
 * the old state or the new one, whole. A child saves two states over one path in turn
 * and is killed again and again.
 */
#define _GNU_SOURCE /* mkdtemp, kill */
#include "index_cases.h"
#include "ruvector/lake.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS 200u

/* Saves state 0 or 1. */
typedef rv_status (*saver)(const void *ctx, size_t which, rv_error *err);

static void save_for_ever(saver save, const void *ctx, int started) {
    for (size_t i = 0;; i++) {
        if (save(ctx, i % 2, NULL) != RV_OK) _exit(1);
        if (i == 0 && write(started, "x", 1) != 1) _exit(1);
    }
}

/* Kills the child `delay_ns` after its start or its first save. */
static void save_and_kill(saver save, const void *ctx, bool from_start,
                          uint64_t delay_ns) {
    int started[2];
    char byte;
    assert_int_equal(pipe(started), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) save_for_ever(save, ctx, started[1]);
    close(started[1]);
    if (!from_start) assert_int_equal(read(started[0], &byte, 1), 1);
    const struct timespec pause = {(time_t)(delay_ns / 1000000000),
                                   (long)(delay_ns % 1000000000)};
    nanosleep(&pause, NULL);
    assert_int_equal(kill(child, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* no save failed */
    close(started[0]);
}

/* How long one save takes here. */
static uint64_t save_ns(saver save, const void *ctx) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_ok(save(ctx, 0, err));
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000 + (uint64_t)to.tv_nsec -
           (uint64_t)from.tv_nsec;
}

/* Files beside the one saved, which a killed writer may leave; removed on the way. */
static size_t sweep(const char *directory) {
    size_t n = 0;
    char path[400];
    DIR *d = opendir(directory);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        if (strncmp(entry->d_name, ".ruvector-", 10) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        assert_int_equal(unlink(path), 0);
        n++;
    }
    closedir(d);
    return n;
}

/* Which of the two states the file is in; fails the test if it is neither. */
typedef size_t (*recognizer)(const void *ctx);

static void kill_again_and_again(saver save, recognizer recognize, const void *ctx,
                                 const char *directory, size_t kills) {
    uint64_t once = save_ns(save, ctx), seed = 7;
    size_t seen[2] = {0}, left_behind = 0;
    assert_true(once > 0);
    for (size_t i = 0; i < sized(kills); i++) {
        /* from within the first save to some later, even where saves get slower */
        uint64_t delay = next_u64(&seed) % (once * (1 + i % 8));
        save_and_kill(save, ctx, i % 4 == 0, delay);
        seen[recognize(ctx)]++;
        size_t strays = sweep(directory);
        assert_true(strays <= 1); /* the one it was writing */
        left_behind += strays;
    }
    print_message("old %zu times, new %zu times, %zu unfinished files\n", seen[0],
                  seen[1], left_behind);
    if (sized(kills) == kills) /* else the kills all came at one moment */
        assert_true(seen[0] > 0 && seen[1] > 0 && left_behind > 0);
}

static char directory[] = "/tmp/ruvector-crash-XXXXXX", path[64];

static int make_directory(void **state) {
    (void)state;
    memcpy(directory + strlen(directory) - 6, "XXXXXX", 6);
    rv_set_num_threads(1, NULL); /* the children have no other threads */
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    char bundle[80];
    snprintf(bundle, sizeof bundle, "%s/%s", directory, RV_BUNDLE_FILE);
    unlink(bundle); /* if there is one beside the file */
    unlink(path);
    return rmdir(directory);
}

/* ---- indexes -------------------------------------------------------------------- */

static rv_status save_index(const void *ctx, size_t which, rv_error *err) {
    return rv_index_save(((rv_index *const *)ctx)[which], path, err);
}

static size_t which_index(const void *ctx) {
    rv_index *const *indexes = ctx, *loaded = NULL;
    assert_ok(rv_index_load(path, 1, RV_VERIFY_ALWAYS, &loaded, err));
    bool first = rv_index_equal(loaded, indexes[0]);
    assert_true(first || rv_index_equal(loaded, indexes[1]));
    rv_index_free(loaded);
    return first ? 0 : 1;
}

static void killed_saves_lose_nothing(void **state) {
    (void)state;
    const size_t n = 5000, dim = 64;
    float *rows = normal_rows(1, 2 * n, dim);
    uint64_t *ids = scattered_ids(1, n);
    rv_index *indexes[2] = {build(RV_PLUS, RV_L2, dim, rows, ids, n),
                            build(RV_PLUS, RV_L2, dim, rows + n * dim, NULL, n / 2)};
    snprintf(path, sizeof path, "%s/index.rbpx", directory);
    kill_again_and_again(save_index, which_index, indexes, directory, KILLS);
    rv_index_free(indexes[0]);
    rv_index_free(indexes[1]);
    free(rows);
    free(ids);
}

/* ---- bundles -------------------------------------------------------------------- */

static rv_status save_bundle(const void *ctx, size_t which, rv_error *err) {
    return rv_bundle_write(((rv_bundle *const *)ctx)[which], directory, err);
}

static size_t which_bundle(const void *ctx) {
    rv_bundle *const *bundles = ctx, *b = NULL;
    assert_ok(rv_bundle_read(directory, &b, err));
    bool first = memcmp(b->witness.data, bundles[0]->witness.data, 64) == 0;
    assert_true(first || memcmp(b->witness.data, bundles[1]->witness.data, 64) == 0);
    assert_int_equal(b->lineage_id.size, first ? 4000 : 0);
    rv_bundle_free(b);
    return first ? 0 : 1;
}

static void killed_publishers_lose_nothing(void **state) {
    (void)state;
    static char text[4000];
    memset(text, 'a', sizeof text);
    rv_bundle fields = {.data_ref = {text, 4000}, .dim = 3, .lineage_id = {text, 4000}};
    rv_bundle *bundles[2];
    assert_ok(rv_bundle_sealed(&fields, &bundles[0], err));
    fields = (rv_bundle){.data_ref = {"x", 1}, .dim = 3};
    assert_ok(rv_bundle_sealed(&fields, &bundles[1], err));
    snprintf(path, sizeof path, "%s/%s", directory, RV_BUNDLE_FILE);
    kill_again_and_again(save_bundle, which_bundle, bundles, directory, KILLS);
    rv_bundle_free(bundles[0]);
    rv_bundle_free(bundles[1]);
}

/* ---- ruvec1 files --------------------------------------------------------------- */

enum { FILE_ROWS = 3000, FILE_DIM = 32 };

typedef struct collection {
    rv_backend *files;
    uint64_t ids[FILE_ROWS];
    float *rows; /* two times FILE_ROWS, of which the second state has half */
} collection;

static rv_status save_rows(const void *ctx, size_t which, rv_error *err) {
    const collection *c = ctx;
    return rv_fs_write(c->files, "c", "c.bin",
                       &(rv_rows){c->rows + which * FILE_ROWS * FILE_DIM, c->ids,
                                  FILE_ROWS / (1 + which), FILE_DIM},
                       err);
}

static size_t which_rows(const void *ctx) {
    const collection *c = ctx;
    rv_pull p;
    assert_ok(rv_backend_pull(c->files, "c", &p, err));
    size_t which = p.n == FILE_ROWS ? 0 : 1;
    assert_int_equal(p.n, FILE_ROWS / (1 + which));
    assert_memory_equal(p.ids, c->ids, p.n * sizeof *p.ids);
    assert_memory_equal(p.vectors, c->rows + which * FILE_ROWS * FILE_DIM,
                        p.n * FILE_DIM * sizeof *p.vectors);
    rv_pull_release(&p);
    return which;
}

static void killed_writers_of_rows_lose_nothing(void **state) {
    (void)state;
    static collection c;
    c.rows = normal_rows(2, 2 * (size_t)FILE_ROWS, FILE_DIM);
    for (uint64_t i = 0; i < FILE_ROWS; i++) c.ids[i] = i << 32;
    assert_ok(rv_fs_backend_new("files", directory, 0, &c.files, err));
    snprintf(path, sizeof path, "%s/c.bin", directory);
    kill_again_and_again(save_rows, which_rows, &c, directory, KILLS);
    rv_backend_free(c.files);
    free(c.rows);
}

/* ---- snapshots of a lake -------------------------------------------------------- */

static const rv_key docs = {"a", "docs"};

typedef struct pair {
    rv_lake *lakes[2];
    rv_index *indexes[2]; /* as they are in the files */
    rv_witness witnesses[2];
    size_t *torn; /* pairs of an index and a bundle of different states */
} pair;

static rv_status save_pair(const void *ctx, size_t which, rv_error *err) {
    return rv_lake_save(((const pair *)ctx)->lakes[which], docs, directory, err);
}

/* Each file is of one of the states, and a pair of two is refused. */
static size_t which_pair(const void *ctx) {
    const pair *p = ctx;
    rv_bundle *bundle;
    rv_lake *lake;
    rv_lake_options o = RV_LAKE_DEFAULT;
    size_t of_index = which_index(p->indexes);
    assert_ok(rv_bundle_read(directory, &bundle, err));
    size_t of_bundle = memcmp(bundle->witness.data, p->witnesses[0], 64) == 0 ? 0 : 1;
    assert_memory_equal(bundle->witness.data, p->witnesses[of_bundle], 64);
    rv_bundle_free(bundle);
    o.consistency = RV_STALE;
    assert_ok(rv_lake_new(&o, &lake, err));
    rv_status status = rv_lake_warm(lake, docs, directory, NULL, NULL);
    assert_int_equal(status, of_index == of_bundle ? RV_OK : RV_ERR_WITNESS);
    rv_entry_info entry = RV_ENTRY_INFO_DEFAULT;
    assert_int_equal(rv_lake_get_entry(lake, docs, &entry, NULL) == RV_OK,
                     status == RV_OK);
    if (status == RV_OK) assert_string_equal(entry.witness, p->witnesses[of_index]);
    *p->torn += status != RV_OK;
    rv_lake_free(lake);
    return of_index;
}

/* A lake over n rows, whose snapshot lies in the directory. */
static rv_lake *saved_lake(const float *rows, uint32_t dim, uint64_t n, rv_witness out) {
    rv_backend *backend;
    rv_lake *lake;
    uint64_t *ids = scattered_ids(3, n);
    assert_ok(rv_local_backend_new("a", &backend, err));
    for (uint64_t i = 0; i < n; i += n / 2) /* the more rows, the more generations */
        assert_ok(rv_local_upsert(
            backend, "docs",
            &(rv_rows){rows + i * dim, ids + i, n - i < n / 2 ? n - i : n / 2, dim},
            err));
    assert_ok(rv_lake_new(NULL, &lake, err));
    assert_ok(rv_lake_register(lake, backend, err));
    assert_ok(rv_lake_prime(lake, docs, NULL, out, err));
    assert_ok(rv_lake_save(lake, docs, directory, err));
    rv_backend_free(backend);
    free(ids);
    return lake;
}

static void killed_snapshots_lose_nothing(void **state) {
    (void)state;
    const uint32_t dim = 32;
    float *rows = normal_rows(3, 3001, dim);
    size_t torn = 0;
    pair p = {.torn = &torn};
    snprintf(path, sizeof path, "%s/%s", directory, RV_SNAPSHOT_FILE);
    for (size_t i = 0; i < 2; i++) {
        p.lakes[i] = saved_lake(rows, dim, 3000 + i, p.witnesses[i]);
        assert_ok(rv_index_load(path, 0, RV_VERIFY_ALWAYS, &p.indexes[i], err));
    }
    assert_string_not_equal(p.witnesses[0], p.witnesses[1]);
    kill_again_and_again(save_pair, which_pair, &p, directory, KILLS);
    print_message("%zu times an index and a bundle of two states, refused\n", torn);
    for (size_t i = 0; i < 2; i++) {
        rv_index_free(p.indexes[i]);
        rv_lake_free(p.lakes[i]);
    }
    free(rows);
}

#define IN_DIRECTORY(test)                                                               \
    cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {IN_DIRECTORY(killed_saves_lose_nothing),
                                       IN_DIRECTORY(killed_publishers_lose_nothing),
                                       IN_DIRECTORY(killed_writers_of_rows_lose_nothing),
                                       IN_DIRECTORY(killed_snapshots_lose_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
