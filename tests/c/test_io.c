/* Reading and atomic writing of files, and every way it can fail that a test can
 * bring about. Runs as root too, so nothing rests on permissions being denied. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#include <sys/mount.h>
#endif

#include <cmocka.h>

#include "base/base.h"
#include "failing_allocator.h"
#include "test_folder.h"

enum { KIB = 1024, BUFFER = 256 * KIB };

/* Number of entries of `folder`, and its temporary file's name if it holds one. */
static unsigned list_folder(char temporary[PATH_BYTES]) {
    unsigned n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    if (temporary) temporary[0] = '\0';
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        n++;
        if (temporary && strncmp(e->d_name, ".ruvector-", 10) == 0) {
            in_folder(temporary, e->d_name);
        }
    }
    closedir(d);
    return n;
}

static uint8_t *pattern(size_t size) {
    uint8_t *data = malloc(size + 1);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)((i * 131 + 7) % 251);
    return data;
}

static void put(const char *path, const void *data, size_t size) {
    rvb_writer *w;
    assert_int_equal(rvb_writer_open(path, &w, NULL), RV_OK);
    assert_int_equal(rvb_writer_write(w, data, size, NULL), RV_OK);
    assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
}

static void assert_holds(const char *path, const void *data, size_t size) {
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        rvb_bytes bytes;
        rv_error err;
        if (rvb_file_open(path, use_mmap, &bytes, &err) != RV_OK)
            fail_msg("%s", err.message);
        assert_int_equal(bytes.size, size);
        assert_int_equal(bytes.mapped, use_mmap && size > 0);
        if (size > 0) assert_memory_equal(bytes.data, data, size);
        rvb_file_close(&bytes);
        assert_null(bytes.data);
        assert_int_equal(bytes.size, 0);
        rvb_file_close(&bytes); /* of a zeroed struct */
    }
}

static mode_t mode_of(const char *path) {
    struct stat s;
    assert_int_equal(lstat(path, &s), 0);
    return s.st_mode;
}

/* ---- reading ------------------------------------------------------------- */

/* `words` are those of this program, not of the system. */
static void assert_told(const rv_error *err, int os_errno, const char *words) {
    assert_int_equal(err->os_errno, os_errno);
    assert_non_null(strstr(err->message, words ? words : strerror(os_errno)));
}

static void assert_cannot_open(const char *path, int os_errno, const char *words) {
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        rvb_bytes bytes = {.data = (const uint8_t *)"x", .size = 1, .mapped = true};
        rv_error err;
        assert_int_equal(rvb_file_open(path, use_mmap, &bytes, NULL), RV_ERR_IO);
        assert_int_equal(rvb_file_open(path, use_mmap, &bytes, &err), RV_ERR_IO);
        assert_told(&err, os_errno, words);
        assert_string_equal(err.path,
                            strlen(path) < 256 ? path : path + strlen(path) - 255);
        assert_null(bytes.data); /* so that closing is safe */
        rvb_file_close(&bytes);
    }
}

static void files_that_cannot_be_read(void **state) {
    (void)state;
    char path[PATH_BYTES], name[400];
    assert_cannot_open(in_folder(path, "missing"), ENOENT, NULL);
    assert_cannot_open("", ENOENT, NULL);
    assert_cannot_open(folder, EISDIR, NULL);
    assert_cannot_open("/dev/zero", EINVAL, "not a regular file");
    assert_int_equal(mkfifo(in_folder(path, "pipe"), 0600), 0);
    assert_cannot_open(path, EINVAL, "not a regular file"); /* and does not wait */
    put(in_folder(path, "file"), "x", 1);
    assert_cannot_open(in_folder(path, "file/below"), ENOTDIR, NULL);
    memset(name, 'n', sizeof name);
    name[300] = '\0';
    assert_cannot_open(name, ENAMETOOLONG, NULL);
}

static void reading_without_memory(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_bytes bytes;
    rv_error err;
    put(in_folder(path, "file"), "0123456789", 10);
    failing_allocator_install(1);
    assert_int_equal(rvb_file_open(path, false, &bytes, &err), RV_ERR_MEMORY);
    assert_int_equal(err.expected, 10);
    assert_null(bytes.data);
    assert_int_equal(failing_allocator_live(), 0);
    failing_allocator_remove();
}

/* ---- writing ------------------------------------------------------------- */

static void any_cut_gives_the_same_file(void **state) {
    (void)state;
    enum { SIZE = 3 * BUFFER + 17 };
    static const size_t pieces[] = {1, 4096, BUFFER - 1, BUFFER, BUFFER + 1, SIZE};
    char path[PATH_BYTES];
    uint8_t *data = pattern(SIZE);
    in_folder(path, "file");
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        rvb_writer *w;
        assert_int_equal(rvb_writer_open(path, &w, NULL), RV_OK);
        for (size_t at = 0; at < SIZE; at += pieces[i]) {
            size_t size = SIZE - at < pieces[i] ? SIZE - at : pieces[i];
            assert_int_equal(rvb_writer_write(w, data + at, size, NULL), RV_OK);
            assert_int_equal(rvb_writer_write(w, NULL, 0, NULL), RV_OK);
        }
        assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
        assert_holds(path, data, SIZE);
    }
    assert_int_equal(list_folder(NULL), 1);
    free(data);
}

/* Small and large writes mixed: the buffer must go out before what bypasses it. */
static void mixed_sizes_keep_their_order(void **state) {
    (void)state;
    enum { SIZE = 4 << 20 };
    char path[PATH_BYTES];
    uint8_t *data = pattern(SIZE);
    rvb_writer *w;
    assert_int_equal(rvb_writer_open(in_folder(path, "file"), &w, NULL), RV_OK);
    for (size_t at = 0, i = 0; at < SIZE; i++) {
        size_t size = (size_t)rvb_random_below(1, 0, i, i % 3 ? 1000 : 2 * BUFFER);
        if (size > SIZE - at) size = SIZE - at;
        assert_int_equal(rvb_writer_write(w, data + at, size, NULL), RV_OK);
        at += size;
    }
    assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
    assert_holds(path, data, SIZE);
    free(data);
}

static void empty_files(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_writer *w;
    assert_int_equal(rvb_writer_open(in_folder(path, "file"), &w, NULL), RV_OK);
    assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
    assert_holds(path, NULL, 0);
}

static void the_target_changes_at_commit_only(void **state) {
    (void)state;
    char path[PATH_BYTES], temporary[PATH_BYTES];
    rvb_writer *w;
    put(in_folder(path, "file"), "old", 3);
    for (int commit = 0; commit < 2; commit++) {
        assert_int_equal(rvb_writer_open(path, &w, NULL), RV_OK);
        assert_int_equal(rvb_writer_write(w, "newer", 5, NULL), RV_OK);
        assert_holds(path, "old", 3);
        assert_int_equal(list_folder(temporary), 2);
        assert_int_not_equal(temporary[0], '\0');
        if (commit) {
            assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
        } else {
            rvb_writer_abort(w);
            assert_holds(path, "old", 3);
        }
        assert_int_equal(list_folder(NULL), 1);
    }
    assert_holds(path, "newer", 5);
    rvb_writer_abort(NULL);
}

static void open_maps_keep_the_old_bytes(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_bytes bytes;
    put(in_folder(path, "file"), "old", 3);
    assert_int_equal(rvb_file_open(path, true, &bytes, NULL), RV_OK);
    put(path, "new", 3);
    assert_memory_equal(bytes.data, "old", 3);
    rvb_file_close(&bytes);
    assert_holds(path, "new", 3);
}

static void permissions(void **state) {
    (void)state;
    static const mode_t modes[] = {0600, 0640, 0644, 0666, 0755};
    char path[PATH_BYTES], temporary[PATH_BYTES];
    rvb_writer *w;
    mode_t before = umask(027);
    put(in_folder(path, "new"), "x", 1);
    assert_int_equal(mode_of(path) & 07777, 0640);
    umask(077);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(rvb_writer_open(path, &w, NULL), RV_OK);
        list_folder(temporary);
        assert_int_equal(mode_of(temporary) & 07777, modes[i]);
        assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
        assert_int_equal(mode_of(path) & 07777, modes[i]);
    }
    umask(before);
}

static void links_stay_and_their_file_is_replaced(void **state) {
    (void)state;
    char link[PATH_BYTES], path[PATH_BYTES];
    assert_int_equal(mkdir(in_folder(path, "sub"), 0700), 0);
    put(in_folder(path, "sub/file"), "old", 3);
    assert_int_equal(symlink("sub/file", in_folder(link, "link")), 0);
    put(link, "new", 3);
    assert_true(S_ISLNK(mode_of(link)));
    assert_holds(path, "new", 3);

    assert_int_equal(symlink("sub/created", in_folder(link, "dangling")), 0);
    put(link, "made", 4);
    assert_true(S_ISLNK(mode_of(link)));
    assert_holds(in_folder(path, "sub/created"), "made", 4);
    assert_int_equal(list_folder(NULL), 3);
}

static void relative_paths(void **state) {
    (void)state;
    char here[PATH_MAX];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    put("file", "x", 1);
    assert_holds("file", "x", 1);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(list_folder(NULL), 1);
}

static void assert_cannot_write(const char *path, int os_errno, const char *words) {
    rvb_writer *w = (rvb_writer *)folder;
    rv_error err;
    assert_int_equal(rvb_writer_open(path, &w, NULL), RV_ERR_IO);
    assert_null(w);
    assert_int_equal(rvb_writer_open(path, &w, &err), RV_ERR_IO);
    assert_told(&err, os_errno, words);
    assert_string_equal(err.path, strlen(path) < 256 ? path : path + strlen(path) - 255);
}

static void places_that_cannot_be_written(void **state) {
    (void)state;
    char path[PATH_BYTES], name[400];
    struct stat device;
    assert_cannot_write(in_folder(path, "no/such"), ENOENT, NULL);
    assert_cannot_write(in_folder(path, "no-folder/"), ENOENT, NULL);
    assert_cannot_write("", ENOENT, NULL);
    assert_cannot_write(folder, EISDIR, NULL);
    put(in_folder(path, "file"), "x", 1);
    assert_cannot_write(in_folder(path, "file/below"), ENOTDIR, NULL);
    assert_int_equal(symlink("loop", in_folder(path, "loop")), 0);
    assert_cannot_write(path, ELOOP, NULL);
    memset(name, 'n', sizeof name);
    name[300] = '\0';
    assert_cannot_write(name, ENAMETOOLONG, NULL);
    assert_int_equal(mkfifo(in_folder(path, "pipe"), 0600), 0);
    assert_cannot_write(path, EINVAL, "not a regular file");
    assert_cannot_write("/dev/null", EINVAL, "not a regular file");
    assert_int_equal(stat("/dev/null", &device), 0);
    assert_true(S_ISCHR(device.st_mode));
    assert_int_equal(list_folder(NULL), 3);
}

static void writing_without_memory(void **state) {
    (void)state;
    char path[PATH_BYTES];
    put(in_folder(path, "file"), "old", 3);
    for (size_t n = 1;; n++) {
        rvb_writer *w;
        failing_allocator_install(n);
        rv_status status = rvb_writer_open(path, &w, NULL);
        if (status == RV_OK) status = rvb_writer_commit(w, NULL);
        bool reached = failing_allocator_calls() >= n;
        assert_int_equal(failing_allocator_live(), 0);
        failing_allocator_remove();
        assert_int_equal(list_folder(NULL), 1);
        if (!reached) {
            assert_true(n > 4); /* writer, its path, the target, the temporary name */
            assert_int_equal(status, RV_OK);
            break;
        }
        assert_int_equal(status, RV_ERR_MEMORY);
        assert_holds(path, "old", 3);
    }
    assert_holds(path, "", 0);
}

static void limit_files(rlim_t bytes) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Runs `body` with files limited to `bytes`, as a full disk would: a short write,
 * then errors. */
static void with_file_limit(rlim_t bytes, void (*body)(const char *path, size_t limit)) {
    char path[PATH_BYTES];
    put(in_folder(path, "file"), "old", 3);
    void (*action)(int) = signal(SIGXFSZ, SIG_IGN);
    limit_files(bytes);
    body(path, (size_t)bytes);
    limit_files(RLIM_INFINITY);
    signal(SIGXFSZ, action);
    assert_holds(path, "old", 3);
    assert_int_equal(list_folder(NULL), 1);
}

static void fill_up_at_once(const char *path, size_t limit) {
    rvb_writer *w;
    rv_error err;
    uint8_t *data = pattern(limit + 1);
    assert_int_equal(rvb_writer_open(path, &w, &err), RV_OK);
    assert_int_equal(rvb_writer_write(w, data, limit + 1, &err), RV_ERR_IO);
    assert_int_equal(err.os_errno, EFBIG);
    assert_string_equal(err.path, path);
    /* Even should there be room again: the file has lost bytes and is of no use. */
    limit_files(RLIM_INFINITY);
    memset(&err, 0, sizeof err);
    assert_int_equal(rvb_writer_write(w, data, 1, &err), RV_ERR_IO);
    assert_int_equal(err.os_errno, EFBIG);
    memset(&err, 0, sizeof err);
    assert_int_equal(rvb_writer_commit(w, &err), RV_ERR_IO);
    assert_int_equal(err.os_errno, EFBIG);
    assert_string_equal(err.path, path);

    limit_files(limit);
    assert_int_equal(rvb_writer_open(path, &w, &err), RV_OK);
    assert_int_equal(rvb_writer_write(w, data, limit + 1, &err), RV_ERR_IO);
    rvb_writer_abort(w);
    free(data);
}

static void fill_up_at_commit(const char *path, size_t limit) {
    rvb_writer *w;
    rv_error err;
    uint8_t *data = pattern(limit + 1);
    assert_true(limit + 1 < BUFFER);
    assert_int_equal(rvb_writer_open(path, &w, &err), RV_OK);
    assert_int_equal(rvb_writer_write(w, data, limit + 1, &err), RV_OK);
    assert_int_equal(rvb_writer_commit(w, &err), RV_ERR_IO);
    assert_int_equal(err.os_errno, EFBIG);
    free(data);
}

static void files_that_grow_too_large(void **state) {
    (void)state;
    with_file_limit(BUFFER + 5, fill_up_at_once);
    with_file_limit(5000, fill_up_at_commit);
    with_file_limit(0, fill_up_at_commit);
}

static void a_rename_that_fails(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_writer *w;
    rv_error err;
    assert_int_equal(rvb_writer_open(in_folder(path, "file"), &w, NULL), RV_OK);
    assert_int_equal(rvb_writer_write(w, "x", 1, NULL), RV_OK);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(rvb_writer_commit(w, &err), RV_ERR_IO);
    assert_int_equal(err.os_errno, EISDIR);
    assert_string_equal(err.path, path);
    assert_int_equal(list_folder(NULL), 1);
}

static void a_killed_writer_leaves_the_old_file(void **state) {
    (void)state;
    char path[PATH_BYTES];
    uint8_t *data = pattern(2 * BUFFER);
    put(in_folder(path, "file"), "old", 3);
    pid_t child = fork();
    if (child == 0) {
        rvb_writer *w;
        if (rvb_writer_open(path, &w, NULL) == RV_OK &&
            rvb_writer_write(w, data, 2 * BUFFER, NULL) == RV_OK) {
            raise(SIGKILL);
        }
        _exit(1);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFSIGNALED(ended));
    assert_holds(path, "old", 3);
    put(path, "new", 3); /* what the killed one left is in nobody's way */
    assert_holds(path, "new", 3);
    free(data);
}

static void writers_to_one_target_do_not_meet(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_writer *first, *second;
    in_folder(path, "file");
    assert_int_equal(rvb_writer_open(path, &first, NULL), RV_OK);
    assert_int_equal(rvb_writer_open(path, &second, NULL), RV_OK);
    assert_int_equal(rvb_writer_write(first, "first", 5, NULL), RV_OK);
    assert_int_equal(rvb_writer_write(second, "second", 6, NULL), RV_OK);
    assert_int_equal(rvb_writer_commit(second, NULL), RV_OK);
    assert_holds(path, "second", 6);
    assert_int_equal(rvb_writer_commit(first, NULL), RV_OK);
    assert_holds(path, "first", 5);
}

/* ---- reading by parts ---------------------------------------------------- */

static void an_input_is_read_in_order(void **state) {
    (void)state;
    char path[PATH_BYTES], bytes[8];
    rvb_input in;
    size_t got;
    put(in_folder(path, "file"), "0123456789", 10);
    assert_int_equal(rvb_input_open("test: open", path, false, &in, NULL), RV_OK);
    assert_int_equal(rvb_input_read(&in, bytes, 8, &got, NULL), RV_OK);
    assert_int_equal(got, 8);
    assert_memory_equal(bytes, "01234567", 8);
    assert_int_equal(rvb_input_read(&in, bytes, 8, &got, NULL), RV_OK);
    assert_int_equal(got, 2);
    assert_memory_equal(bytes, "89", 2);
    rvb_input_close(&in);
}

static void assert_no_input(const char *path, bool follow, int os_errno,
                            const char *words) {
    rvb_input in;
    rv_error err;
    assert_int_equal(rvb_input_open("test: open", path, follow, &in, NULL), RV_ERR_IO);
    assert_int_equal(rvb_input_open("test: open", path, follow, &in, &err), RV_ERR_IO);
    assert_told(&err, os_errno, words);
    assert_string_equal(err.path, path);
    assert_memory_equal(err.message, "test: open ", 11);
}

static void inputs_are_regular_files(void **state) {
    (void)state;
    char path[PATH_BYTES], link[PATH_BYTES];
    rvb_input in;
    put(in_folder(path, "file"), "x", 1);
    assert_no_input(in_folder(path, "missing"), false, ENOENT, NULL);
    assert_no_input(folder, false, EISDIR, NULL);
    assert_no_input("/dev/zero", true, EINVAL, "not a regular file");
    assert_int_equal(mkfifo(in_folder(path, "pipe"), 0600), 0);
    assert_no_input(path, false, EINVAL, "not a regular file"); /* and does not wait */
    assert_int_equal(symlink("file", in_folder(link, "link")), 0);
    assert_no_input(link, false, ELOOP, NULL);
    assert_int_equal(rvb_input_open("test", link, true, &in, NULL), RV_OK);
    rvb_input_close(&in);
    assert_int_equal(symlink(folder, in_folder(link, "here")), 0); /* on the way: fine */
    in_folder(path, "here/file");
    assert_int_equal(rvb_input_open("test", path, false, &in, NULL), RV_OK);
    rvb_input_close(&in);
}

static rvb_stamp stamp_of(const char *path) {
    rvb_input in;
    rvb_stamp stamp;
    assert_int_equal(rvb_input_open("test", path, true, &in, NULL), RV_OK);
    assert_int_equal(rvb_input_stamp(&in, &stamp, NULL), RV_OK);
    rvb_input_close(&in);
    return stamp;
}

static void set_modified(const char *path, time_t seconds, long ns) {
    const struct timespec times[2] = {{0, UTIME_OMIT}, {seconds, ns}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void stamps(void **state) {
    (void)state;
    char path[PATH_BYTES];
    put(in_folder(path, "file"), "12345", 5);
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    rvb_stamp a = stamp_of(path);
    assert_int_equal(a.size, 5);
    assert_int_equal(a.inode, s.st_ino);
    assert_int_equal(a.modified_s, s.st_mtime);
    set_modified(path, 1234567890, 987654321);
    a = stamp_of(path);
    assert_int_equal(a.modified_s, 1234567890);
    assert_true(a.modified_ns == UINT64_C(1234567890987654321));
    assert_true(a.changed_ns >= a.modified_ns); /* when the test ran */
    set_modified(path, -5, 250000000);
    a = stamp_of(path);
    assert_int_equal(a.modified_s, -5);
    assert_true((int64_t)a.modified_ns == -4750000000);
    put(path, "54321", 5); /* another file of this name */
    assert_true(stamp_of(path).inode != a.inode);
}

/* ---- directories --------------------------------------------------------- */

static void assert_directory(const char *name) {
    char path[PATH_BYTES];
    assert_int_equal(rvb_make_directories(in_folder(path, name), NULL), RV_OK);
    assert_true(S_ISDIR(mode_of(path)));
    assert_int_equal(rvb_make_directories(path, NULL), RV_OK); /* is there already */
}

static void directories_are_made_with_parents(void **state) {
    (void)state;
    char path[PATH_BYTES], here[PATH_BYTES];
    rv_error err;
    assert_directory("a");
    assert_directory("b/c/d");
    assert_directory("e//f///g//");
    assert_directory("h/./i");
    assert_int_equal(rvb_make_directories("", NULL), RV_OK);
    assert_int_equal(rvb_make_directories("/", NULL), RV_OK);
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(rvb_make_directories("relative/path", NULL), RV_OK);
    assert_int_equal(chdir(here), 0);
    assert_true(S_ISDIR(mode_of(in_folder(path, "relative/path"))));

    put(in_folder(path, "file"), "x", 1);
    assert_int_equal(rvb_make_directories(path, &err), RV_ERR_IO);
    assert_int_equal(err.os_errno, EEXIST);
    assert_string_equal(err.path, path);
    assert_int_equal(rvb_make_directories(in_folder(path, "file/x"), &err), RV_ERR_IO);
    failing_allocator_install(1);
    assert_int_equal(rvb_make_directories(in_folder(path, "z"), &err), RV_ERR_MEMORY);
    failing_allocator_remove();
}

static void joined_paths(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"},   {"", "b", "b"},
        {"/", "b", "/b"},  {"a//", "b", "a//b"}, {"../x/.", "b", "../x/./b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = rvb_join_path(cases[i][0], cases[i][1]);
        assert_string_equal(path, cases[i][2]);
        rvb_free(path);
    }
}

static void a_link_can_be_replaced(void **state) {
    (void)state;
    char path[PATH_BYTES], link[PATH_BYTES];
    rvb_writer *w;
    put(in_folder(path, "file"), "old", 3);
    assert_int_equal(symlink("file", in_folder(link, "link")), 0);
    assert_int_equal(rvb_writer_open_at(link, &w, NULL), RV_OK);
    assert_int_equal(rvb_writer_write(w, "new", 3, NULL), RV_OK);
    assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
    assert_true(S_ISREG(mode_of(link)));
    assert_holds(link, "new", 3);
    assert_holds(path, "old", 3);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(rvb_writer_open_at(path, &w, NULL), RV_OK);
    assert_int_equal(rvb_writer_commit(w, NULL), RV_OK);
    assert_int_equal(mode_of(path) & 0777, 0640);
    assert_int_equal(rvb_writer_open_at(folder, &w, NULL), RV_ERR_IO);
}

#ifdef __linux__

enum { NO_MOUNT = 77 };

/* In a process and mount namespace of its own, on a file system of 64 KiB. */
static int fill_small_disk(void) {
    char path[PATH_BYTES];
    rvb_writer *w;
    rv_error err;
    uint8_t *data = pattern(BUFFER);
    if (unshare(CLONE_NEWNS) != 0) return NO_MOUNT;
    if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0) return NO_MOUNT;
    if (mount("tmpfs", folder, "tmpfs", 0, "size=64k") != 0) return NO_MOUNT;
    put(in_folder(path, "file"), "old", 3);
    if (rvb_writer_open(path, &w, &err) != RV_OK) return 1;
    if (rvb_writer_write(w, data, BUFFER, &err) != RV_ERR_IO) return 2;
    if (err.os_errno != ENOSPC || strcmp(err.path, path) != 0) return 3;
    if (rvb_writer_commit(w, &err) != RV_ERR_IO || err.os_errno != ENOSPC) return 4;
    if (list_folder(NULL) != 1) return 5;
    assert_holds(path, "old", 3);
    if (mount("none", folder, "none", MS_REMOUNT | MS_RDONLY, NULL) != 0) return NO_MOUNT;
    if (rvb_writer_open(path, &w, &err) != RV_ERR_IO || err.os_errno != EROFS) return 6;
    free(data);
    return 0;
}

static void full_and_read_only_disks(void **state) {
    (void)state;
    int ended;
    pid_t child = fork();
    if (child == 0) _exit(fill_small_disk());
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFEXITED(ended));
    if (WEXITSTATUS(ended) == NO_MOUNT) skip(); /* needs the right to mount */
    assert_int_equal(WEXITSTATUS(ended), 0);
}

static unsigned open_descriptors(void) {
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* Ways to fail that have a descriptor open at the time. */
static void failures_close_what_they_opened(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_bytes bytes;
    rvb_writer *w;
    put(in_folder(path, "file"), "x", 1);
    unsigned before = open_descriptors();
    for (int i = 0; i < 3; i++) {
        failing_allocator_install(1);
        assert_int_equal(rvb_file_open(path, false, &bytes, NULL), RV_ERR_MEMORY);
        failing_allocator_remove();
        assert_int_equal(rvb_file_open(folder, true, &bytes, NULL), RV_ERR_IO);
        assert_int_equal(rvb_file_open("/dev/zero", true, &bytes, NULL), RV_ERR_IO);
        assert_int_equal(rvb_file_open(path, true, &bytes, NULL), RV_OK);
        rvb_file_close(&bytes);
        assert_int_equal(rvb_writer_open(path, &w, NULL), RV_OK);
        rvb_writer_abort(w);
        put(path, "y", 1);
    }
    assert_int_equal(open_descriptors(), before);
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(files_that_cannot_be_read),
        IN_FOLDER(reading_without_memory),
        IN_FOLDER(any_cut_gives_the_same_file),
        IN_FOLDER(mixed_sizes_keep_their_order),
        IN_FOLDER(empty_files),
        IN_FOLDER(the_target_changes_at_commit_only),
        IN_FOLDER(open_maps_keep_the_old_bytes),
        IN_FOLDER(permissions),
        IN_FOLDER(links_stay_and_their_file_is_replaced),
        IN_FOLDER(relative_paths),
        IN_FOLDER(places_that_cannot_be_written),
        IN_FOLDER(writing_without_memory),
        IN_FOLDER(files_that_grow_too_large),
        IN_FOLDER(a_rename_that_fails),
        IN_FOLDER(a_killed_writer_leaves_the_old_file),
        IN_FOLDER(writers_to_one_target_do_not_meet),
        IN_FOLDER(an_input_is_read_in_order),
        IN_FOLDER(inputs_are_regular_files),
        IN_FOLDER(stamps),
        IN_FOLDER(directories_are_made_with_parents),
        IN_FOLDER(joined_paths),
        IN_FOLDER(a_link_can_be_replaced),
#ifdef __linux__
        IN_FOLDER(full_and_read_only_disks),
        IN_FOLDER(failures_close_what_they_opened),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
