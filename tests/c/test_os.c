/* The layer over the operating system: threads, clocks, processors, files. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <cmocka.h>

#include "base/hash.h"
#include "base/os.h"
#include "failing_allocator.h"
#include "test_folder.h"

static void write_text(const char *name, const char *text) {
    char path[PATH_BYTES];
    FILE *f = fopen(in_folder(path, name), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* ---- keys of tables ------------------------------------------------------ */

/* What a process of its own, which has drawn none before, draws first. */
static rvb_hash_key key_of_a_process(void) {
    int fd[2];
    rvb_hash_key key = {0, 0};
    assert_int_equal(pipe(fd), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        key = rvb_hash_key_draw();
        _exit(write(fd[1], &key, sizeof key) == sizeof key ? 0 : 1);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(ended, 0);
    assert_int_equal(read(fd[0], &key, sizeof key), sizeof key);
    close(fd[0]);
    close(fd[1]);
    return key;
}

/* Else whoever has the library could compute what falls into one place of a table. */
static void keys_differ_from_process_to_process(void **state) {
    (void)state;
    rvb_hash_key first = key_of_a_process(), second = key_of_a_process();
    assert_true(first.k0 != second.k0);
    assert_true(first.k1 != second.k1);
}

/* ---- threads ------------------------------------------------------------- */

typedef struct masks {
    sigset_t thread;
} masks;

static void read_mask(void *ctx) {
    masks *m = ctx;
    pthread_sigmask(SIG_BLOCK, NULL, &m->thread);
}

static void threads_leave_signals_to_others(void **state) {
    (void)state;
    sigset_t before, after;
    masks m;
    rvb_thread thread;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_int_equal(rvb_thread_start(&thread, read_mask, &m), 0);
    rvb_thread_join(&thread);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
    assert_int_equal(sigismember(&m.thread, SIGINT), 1);
    assert_int_equal(sigismember(&m.thread, SIGTERM), 1);
    assert_int_equal(sigismember(&m.thread, SIGCHLD), 1);
    assert_int_equal(sigismember(&m.thread, SIGSEGV), 0);
    assert_int_equal(sigismember(&m.thread, SIGBUS), 0);
}

/* ---- processors, time, entropy ------------------------------------------- */

static void the_clock_never_goes_back(void **state) {
    (void)state;
    uint64_t last = rvb_now_ns();
    for (int i = 0; i < 10000; i++) {
        uint64_t now = rvb_now_ns();
        assert_true(now >= last);
        last = now;
    }
    uint64_t before = rvb_now_ns();
    usleep(2000);
    assert_true(rvb_now_ns() - before >= 2000000); /* a sleep is never shorter */
}

static void entropy_differs(void **state) {
    (void)state;
    assert_true(rvb_os_entropy() != rvb_os_entropy());
}

#ifdef __linux__

static void affinity_limits_the_processors(void **state) {
    (void)state;
    cpu_set_t all, one;
    unsigned cpus = rvb_cpu_count();
    assert_in_range(cpus, 1, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    unsigned restricted = rvb_cpu_count();
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(restricted, 1);
    assert_int_equal(rvb_cpu_count(), cpus);
}

static unsigned quota(const char *membership) {
    char file[PATH_BYTES], mount[PATH_BYTES];
    write_text("membership", membership);
    return rvb_cgroup_cpus(in_folder(file, "membership"), in_folder(mount, "cgroup"));
}

static void make_groups(const char *const *names) {
    char path[PATH_BYTES];
    for (; *names; names++) assert_int_equal(mkdir(in_folder(path, *names), 0700), 0);
}

static void quotas_of_version_2(void **state) {
    (void)state;
    char path[PATH_BYTES];
    static const char *const names[] = {"cgroup", "cgroup/a", "cgroup/a/b",
                                        "cgroup/a/b/c", NULL};
    make_groups(names);
    write_text("cgroup/a/cpu.max", "450000 100000\n");
    write_text("cgroup/a/b/cpu.max", "max 100000\n");
    write_text("cgroup/a/b/c/cpu.max", "50000 100000\n");
    assert_int_equal(quota("0::/\n"), 0);
    assert_int_equal(quota("0::/a\n"), 5);
    assert_int_equal(quota("0::/a/b\n"), 5);
    assert_int_equal(quota("0::/a/b/c\n"), 1);
    assert_int_equal(quota("0::/elsewhere\n"), 0);
    assert_int_equal(quota("0::/a/gone\n"), 5);
    write_text("cgroup/cpu.max", "200000 100000\n");
    assert_int_equal(quota("0::/a\n"), 2);
    assert_int_equal(quota("0::/\n"), 2);
    assert_int_equal(quota(""), 0);
    assert_int_equal(quota("no colons\n0:\n"), 0);
    assert_int_equal(rvb_cgroup_cpus(in_folder(path, "absent"), folder), 0);
    write_text("cgroup/cpu.max", "nonsense\n");
    assert_int_equal(quota("0::/\n"), 0);
    write_text("cgroup/cpu.max", "100000 0\n");
    assert_int_equal(quota("0::/\n"), 0);
}

static void quotas_of_version_1(void **state) {
    (void)state;
    static const char *const names[] = {"cgroup/cpu", "cgroup/cpu/x", "cgroup/cpu/x/y",
                                        NULL};
    make_groups(names);
    write_text("cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    write_text("cgroup/cpu/cpu.cfs_period_us", "100000\n");
    write_text("cgroup/cpu/x/cpu.cfs_quota_us", "250000\n");
    write_text("cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota("5:cpu:/\n"), 0);
    assert_int_equal(quota("5:cpu:/x\n"), 3);
    assert_int_equal(quota("5:cpu,cpuacct:/x/y\n"), 3);
    assert_int_equal(quota("9:memory:/x\n5:cpuacct,cpu:/x/y\n"), 3);
    assert_int_equal(quota("5:cpuset:/x\n6:cpuacct:/x\n"), 0);
    assert_int_equal(quota("5:name=cpu:/x\n"), 0);
}

#endif

/* ---- files --------------------------------------------------------------- */

static void directories_of_paths(void **state) {
    (void)state;
    assert_int_equal(rvb_os_directory_length("a"), 0);
    assert_int_equal(rvb_os_directory_length(""), 0);
    assert_int_equal(rvb_os_directory_length("/a"), 1);
    assert_int_equal(rvb_os_directory_length("a/b"), 2);
    assert_int_equal(rvb_os_directory_length("/a/b/"), 5);
}

static void nothing_is_created_twice(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_fd fd;
    in_folder(path, "created");
    assert_int_equal(rvb_os_create(path, -1, &fd), 0);
    assert_true(fcntl((int)fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(rvb_os_close(fd), 0);
    assert_int_equal(rvb_os_create(path, -1, &fd), EEXIST);
    assert_int_equal(symlink("nowhere", in_folder(path, "dangling")), 0);
    assert_int_equal(rvb_os_create(path, -1, &fd), EEXIST);
}

static void assert_target(const char *name, const char *expected, int expected_mode) {
    char path[PATH_BYTES], wanted[PATH_BYTES], *target = NULL;
    int mode = -2;
    assert_int_equal(rvb_os_target(in_folder(path, name), true, &target, &mode), 0);
    assert_string_equal(target, in_folder(wanted, expected));
    assert_int_equal(mode, expected_mode);
    rvb_free(target);
}

static void links_are_followed(void **state) {
    (void)state;
    char path[PATH_BYTES], other[PATH_BYTES], *target;
    int mode;
    assert_int_equal(mkdir(in_folder(path, "sub"), 0700), 0);
    write_text("sub/file", "x");
    assert_int_equal(chmod(in_folder(path, "sub/file"), 0640), 0);
    assert_int_equal(symlink("file", in_folder(path, "sub/near")), 0);
    assert_int_equal(symlink("sub/near", in_folder(path, "far")), 0);
    assert_int_equal(symlink("sub/new", in_folder(path, "new-link")), 0);
    assert_int_equal(symlink(in_folder(other, "sub/file"), in_folder(path, "absolute")),
                     0);
    assert_int_equal(symlink("loop-b", in_folder(path, "loop-a")), 0);
    assert_int_equal(symlink("loop-a", in_folder(path, "loop-b")), 0);

    assert_target("sub/file", "sub/file", 0640);
    assert_target("far", "sub/file", 0640);
    assert_target("absolute", "sub/file", 0640);
    assert_target("new-link", "sub/new", -1);
    assert_target("missing", "missing", -1);
    assert_int_equal(rvb_os_target(in_folder(path, "loop-a"), true, &target, &mode),
                     ELOOP);
    assert_int_equal(rvb_os_target(in_folder(path, "sub"), true, &target, &mode), EISDIR);
    assert_int_equal(rvb_os_target("/dev/null", true, &target, &mode), RVB_NOT_A_FILE);
    assert_int_equal(rvb_os_target("", true, &target, &mode), ENOENT);

    failing_allocator_install(1);
    assert_int_equal(rvb_os_target(in_folder(path, "far"), true, &target, &mode), ENOMEM);
    failing_allocator_install(2);
    assert_int_equal(rvb_os_target(in_folder(path, "far"), true, &target, &mode), ENOMEM);
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
}

enum { STREAM_BYTES = 1 << 20 };

typedef struct stream {
    rvb_fd from;
    atomic_bool reached_end;
    size_t got;
    uint8_t data[STREAM_BYTES + 1];
} stream;

static void read_slowly(void *ctx) {
    stream *s = ctx;
    usleep(5000); /* the pipe fills and the writer blocks */
    if (rvb_os_read(s->from, s->data, sizeof s->data, &s->got) == 0) {
        atomic_store(&s->reached_end, true);
    }
}

static atomic_int alarms;
static void on_alarm(int number) {
    (void)number;
    atomic_fetch_add(&alarms, 1);
}

/* A full pipe makes write stop half-way whenever a signal comes. */
static void transfers_survive_signals_and_short_counts(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = on_alarm}, before; /* no SA_RESTART */
    const struct itimerval every_ms = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    int ends[2];
    rvb_thread reader;
    stream *s = calloc(1, sizeof *s);
    uint8_t *data = malloc(STREAM_BYTES);
    assert_non_null(s);
    assert_non_null(data);
    for (size_t i = 0; i < STREAM_BYTES; i++) data[i] = (uint8_t)(i % 251);
    assert_int_equal(pipe(ends), 0);
    s->from = ends[0];
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every_ms, NULL), 0);

    assert_int_equal(rvb_thread_start(&reader, read_slowly, s), 0);
    assert_int_equal(rvb_os_write(ends[1], data, STREAM_BYTES), 0);
    while (atomic_load(&alarms) == 0) usleep(100);
    assert_int_equal(rvb_os_close(ends[1]), 0);
    rvb_thread_join(&reader);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);

    assert_true(atomic_load(&s->reached_end));
    assert_int_equal(s->got, STREAM_BYTES);
    assert_memory_equal(s->data, data, STREAM_BYTES);
    rvb_os_close(ends[0]);
    free(data);
    free(s);
}

static void descriptors_that_fail(void **state) {
    (void)state;
    char path[PATH_BYTES];
    uint8_t byte = 0;
    size_t got;
    const uint8_t *data;
    assert_int_equal(rvb_os_write(RVB_NO_FD, &byte, 1), EBADF);
    assert_int_equal(rvb_os_read(RVB_NO_FD, &byte, 1, &got), EBADF);
    assert_int_equal(rvb_os_map(RVB_NO_FD, 1, &data), EBADF);
    assert_int_equal(rvb_os_sync(RVB_NO_FD), EBADF);
    assert_int_equal(rvb_os_close(RVB_NO_FD), EBADF);
    assert_int_equal(rvb_os_rename(in_folder(path, "none"), path), ENOENT);
}

static void directories_can_be_flushed(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_fd fd;
    assert_int_equal(rvb_os_open_directory(in_folder(path, "no/such"), &fd), ENOENT);
    write_text("plain", "");
    assert_int_equal(rvb_os_open_directory(in_folder(path, "plain"), &fd), ENOTDIR);
    const char *const directories[] = {folder, ""};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(rvb_os_open_directory(directories[i], &fd), 0);
        assert_int_equal(rvb_os_sync_directory(fd), 0);
        assert_int_equal(rvb_os_close(fd), 0);
    }
    assert_int_equal(rvb_os_sync_directory(RVB_NO_FD), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_differ_from_process_to_process),
        cmocka_unit_test(threads_leave_signals_to_others),
        cmocka_unit_test(the_clock_never_goes_back),
        cmocka_unit_test(entropy_differs),
#ifdef __linux__
        cmocka_unit_test(affinity_limits_the_processors),
        cmocka_unit_test(quotas_of_version_2),
        cmocka_unit_test(quotas_of_version_1),
#endif
        cmocka_unit_test(directories_of_paths),
        cmocka_unit_test(nothing_is_created_twice),
        cmocka_unit_test(links_are_followed),
        cmocka_unit_test(transfers_survive_signals_and_short_counts),
        cmocka_unit_test(descriptors_that_fail),
        cmocka_unit_test(directories_can_be_flushed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
