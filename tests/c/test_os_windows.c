/*
 * test_os_windows.c - the layer over Windows: threads, paths in UTF-8, and files that
 * are replaced while others have them open.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/os.h"
#include "failing_allocator.h"
#include "test_folder.h"

#define EURO "\xE2\x82\xAC" /* no character of an 8-bit code page of old */

/* ---- threads ------------------------------------------------------------- */

static _Thread_local int mine = 1;

static void write_mine(void *ctx) {
    mine = 2;
    *(int *)ctx = mine;
}

static void threads_have_variables_of_their_own(void **state) {
    (void)state;
    int seen = 0;
    rvb_thread thread;
    assert_int_equal(rvb_thread_start(&thread, write_mine, &seen), 0);
    rvb_thread_join(&thread);
    assert_int_equal(seen, 2);
    assert_int_equal(mine, 1);
}

static void processors_and_chance(void **state) {
    (void)state;
    assert_true(rvb_cpu_count() >= 1);
    assert_true(rvb_os_entropy() != rvb_os_entropy());
}

/* ---- files --------------------------------------------------------------- */

static void directories_of_paths(void **state) {
    (void)state;
    assert_int_equal(rvb_os_directory_length("a"), 0);
    assert_int_equal(rvb_os_directory_length("C:a"), 2);
    assert_int_equal(rvb_os_directory_length("C:\\a"), 3);
    assert_int_equal(rvb_os_directory_length("a/b\\c"), 4);
}

static void create(const char *path, const char *text) {
    rvb_fd fd;
    assert_int_equal(rvb_os_create(path, -1, &fd), 0);
    assert_int_equal(rvb_os_write(fd, text, strlen(text)), 0);
    assert_int_equal(rvb_os_sync(fd), 0);
    assert_int_equal(rvb_os_close(fd), 0);
}

static void assert_holds(const char *path, const char *text) {
    char data[64] = "";
    rvb_fd fd;
    uint64_t size;
    size_t got;
    assert_int_equal(rvb_os_open(path, &fd, &size), 0);
    assert_int_equal(size, strlen(text));
    assert_int_equal(rvb_os_read(fd, data, sizeof data - 1, &got), 0);
    assert_int_equal(got, size);
    assert_string_equal(data, text);
    assert_int_equal(rvb_os_close(fd), 0);
}

static void paths_are_utf_8(void **state) {
    (void)state;
    char directory[PATH_BYTES], path[PATH_BYTES];
    in_folder(directory, EURO);
    in_folder(path, EURO "/" EURO EURO ".txt");
    assert_false(rvb_os_is_directory(directory));
    assert_int_equal(rvb_os_make_directory(directory), 0);
    assert_int_equal(rvb_os_make_directory(directory), EEXIST);
    assert_true(rvb_os_is_directory(directory));
    create(path, "euros");
    assert_holds(path, "euros");

    /* The same file by its name in UTF-16. */
    wchar_t wide[PATH_BYTES];
    assert_true(MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, PATH_BYTES) > 0);
    assert_true(GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES);
    assert_non_null(wcschr(wide, 0x20AC));

    char *target;
    int mode;
    assert_int_equal(rvb_os_target(path, true, &target, &mode), 0);
    assert_holds(target, "euros");
    rvb_free(target);
    rvb_os_unlink(path);
    assert_int_equal(GetFileAttributesW(wide), INVALID_FILE_ATTRIBUTES);
}

static void what_is_refused(void **state) {
    (void)state;
    char path[PATH_BYTES], *target;
    int mode;
    rvb_fd fd;
    uint64_t size;
    assert_int_equal(rvb_os_open(in_folder(path, "missing"), &fd, &size), ENOENT);
    assert_int_equal(rvb_os_open(in_folder(path, "no/such"), &fd, &size), ENOENT);
    assert_int_equal(rvb_os_open(folder, &fd, &size), EISDIR);
    assert_int_equal(rvb_os_open("NUL", &fd, &size), RVB_NOT_A_FILE);
    assert_int_equal(rvb_os_open("\xFF", &fd, &size), EINVAL); /* not UTF-8 */
    assert_int_equal(rvb_os_target("", true, &target, &mode), ENOENT);
    create(in_folder(path, "once"), "x");
    assert_int_equal(rvb_os_create(path, -1, &fd), EEXIST);
    assert_int_equal(rvb_os_open_no_link(path, &fd, &size), 0); /* for it is none */
    assert_int_equal(rvb_os_close(fd), 0);
    assert_int_equal(rvb_os_rename(in_folder(path, "none"), path), ENOENT);
    failing_allocator_install(1);
    assert_int_equal(rvb_os_open(path, &fd, &size), ENOMEM);
    failing_allocator_remove();
}

/* A save while another process, or another index, reads the old file: the system may
 * refuse that, but then nothing has changed. */
static void a_file_in_use_is_replaced_or_stays(void **state) {
    (void)state;
    char path[PATH_BYTES], other[PATH_BYTES], data[4] = "";
    rvb_fd fd;
    uint64_t size;
    size_t got;
    rvb_stamp before, after;
    create(in_folder(path, "file"), "old");
    create(in_folder(other, "new"), "newer");
    assert_int_equal(rvb_os_open(path, &fd, &size), 0);
    assert_int_equal(rvb_os_stamp(fd, &before), 0);
    assert_int_equal(before.size, 3);
    assert_true(before.modified_s > 1500000000 && before.modified_s < 10000000000);
    assert_int_equal(before.modified_ns / 1000000000, (uint64_t)before.modified_s);
    const int failed = rvb_os_rename(other, path);
    assert_int_equal(rvb_os_read(fd, data, 3, &got), 0);
    assert_string_equal(data, "old");
    assert_int_equal(rvb_os_close(fd), 0);
    if (failed) {
        assert_int_equal(failed, EACCES);
        assert_holds(path, "old");
        assert_int_equal(rvb_os_rename(other, path), 0);
    }
    assert_holds(path, "newer");
    assert_int_equal(count_entries(folder), 1);
    assert_int_equal(rvb_os_open(path, &fd, &size), 0);
    assert_int_equal(rvb_os_stamp(fd, &after), 0);
    assert_true(after.inode != before.inode);
    assert_int_equal(rvb_os_close(fd), 0);
}

static void a_map_outlives_its_descriptor(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_fd fd;
    uint64_t size;
    const uint8_t *data;
    create(in_folder(path, "mapped"), "bytes");
    assert_int_equal(rvb_os_open(path, &fd, &size), 0);
    assert_int_equal(rvb_os_map(fd, (size_t)size, &data), 0);
    assert_int_equal(rvb_os_close(fd), 0);
    assert_memory_equal(data, "bytes", 5);
    rvb_os_unmap(data, (size_t)size);
}

static void a_mapped_file_that_is_written_to_is_noticed(void **state) {
    (void)state;
    char path[PATH_BYTES], got[5];
    rvb_bytes file;
    rv_error err = {0};
    create(in_folder(path, "mapped"), "bytes");
    assert_int_equal(rvb_file_open(path, true, &file, &err), RV_OK);
    assert_int_equal(rvb_file_check(&file, &err), RV_OK);
    assert_int_equal(rvb_file_read(&file, 2, got, 3, &err), RV_OK);
    assert_memory_equal(got, "tes", 3);
    assert_int_equal(rvb_file_read(&file, 2, got, 4, NULL), RV_ERR_DIGEST);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fwrite("other", 1, 5, f), 5);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rvb_file_check(&file, &err), RV_ERR_DIGEST);
    assert_string_equal(err.path, path);
    rvb_file_close(&file);
}

static void writers_replace_whole_files(void **state) {
    (void)state;
    char path[PATH_BYTES];
    rvb_writer *w;
    rv_error err;
    in_folder(path, EURO);
    for (int round = 0; round < 2; round++) {
        const char *text = round ? "second" : "first";
        assert_int_equal(rvb_writer_open(path, &w, &err), RV_OK);
        assert_int_equal(rvb_writer_write(w, text, strlen(text), &err), RV_OK);
        if (round) assert_holds(path, "first");
        assert_int_equal(rvb_writer_commit(w, &err), RV_OK);
        assert_holds(path, text);
    }
    assert_int_equal(rvb_writer_open(path, &w, &err), RV_OK);
    rvb_writer_abort(w);
    assert_holds(path, "second");
    assert_int_equal(count_entries(folder), 1);
    assert_int_equal(rvb_writer_open(folder, &w, &err), RV_ERR_IO);
    assert_int_equal(err.os_errno, EISDIR);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_have_variables_of_their_own),
        cmocka_unit_test(processors_and_chance),
        cmocka_unit_test(directories_of_paths),
        IN_FOLDER(paths_are_utf_8),
        IN_FOLDER(what_is_refused),
        IN_FOLDER(a_file_in_use_is_replaced_or_stays),
        IN_FOLDER(a_map_outlives_its_descriptor),
        IN_FOLDER(a_mapped_file_that_is_written_to_is_noticed),
        IN_FOLDER(writers_replace_whole_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
