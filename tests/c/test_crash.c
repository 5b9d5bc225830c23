/*
 * test_crash.c - a process killed at any moment of a save loses nothing: the file is
 * the old index or the new one, whole. A child saves two indexes over one path in turn
 * and is killed again and again.
 */
#define _GNU_SOURCE /* mkdtemp, kill */
#include "index_cases.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS 200u

static void save_for_ever(rv_index *const indexes[2], const char *path, int started) {
    for (size_t i = 0;; i++) {
        if (rv_index_save(indexes[i % 2], path, NULL) != RV_OK) _exit(1);
        if (i == 0 && write(started, "x", 1) != 1) _exit(1);
    }
}

/* Kills the child `delay_ns` after its start or its first save. */
static void save_and_kill(rv_index *const indexes[2], const char *path, bool from_start,
                          uint64_t delay_ns) {
    int started[2];
    char byte;
    assert_int_equal(pipe(started), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) save_for_ever(indexes, path, started[1]);
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
static uint64_t save_ns(const rv_index *index, const char *path) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_ok(rv_index_save(index, path, err));
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000 + (uint64_t)to.tv_nsec -
           (uint64_t)from.tv_nsec;
}

/* Files beside the index, which a killed writer may leave; removed on the way. */
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

static void killed_saves_lose_nothing(void **state) {
    (void)state;
    const size_t n = 5000, dim = 64;
    char directory[] = "/tmp/ruvector-crash-XXXXXX", path[64];
    float *rows = normal_rows(1, 2 * n, dim);
    uint64_t *ids = scattered_ids(1, n);
    assert_ok(rv_set_num_threads(1, err)); /* the children have no other threads */
    rv_index *indexes[2] = {build(RV_PLUS, RV_L2, dim, rows, ids, n),
                            build(RV_PLUS, RV_L2, dim, rows + n * dim, NULL, n / 2)};
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/index.rbpx", directory);
    uint64_t once = save_ns(indexes[0], path);
    assert_true(once > 0);

    size_t seen[2] = {0}, left_behind = 0;
    uint64_t seed = 7;
    for (size_t i = 0; i < sized(KILLS); i++) {
        /* from within the first save to some later, even where saves get slower */
        uint64_t delay = next_u64(&seed) % (once * (1 + i % 8));
        save_and_kill(indexes, path, i % 4 == 0, delay);
        rv_index *loaded = NULL;
        assert_ok(rv_index_load(path, 1, RV_VERIFY_ALWAYS, &loaded, err));
        bool first = rv_index_equal(loaded, indexes[0]);
        assert_true(first || rv_index_equal(loaded, indexes[1]));
        seen[first ? 0 : 1]++;
        rv_index_free(loaded);
        size_t strays = sweep(directory);
        assert_true(strays <= 1); /* the one it was writing */
        left_behind += strays;
    }
    print_message("old %zu times, new %zu times, %zu unfinished files\n", seen[0],
                  seen[1], left_behind);
    if (sized(KILLS) == KILLS) /* else the kills all came at one moment */
        assert_true(seen[0] > 0 && seen[1] > 0 && left_behind > 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
    rv_index_free(indexes[0]);
    rv_index_free(indexes[1]);
    free(rows);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_saves_lose_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
