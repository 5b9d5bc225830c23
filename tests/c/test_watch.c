/*
 * test_watch.c - what counts as a change of a mapped file, and what does not. POSIX.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "test_folder.h"

enum { BYTES = 10000 };

static char path[PATH_BYTES], other[PATH_BYTES];

static void fill_file(const char *to, int with, size_t size) {
    uint8_t bytes[BYTES];
    memset(bytes, with, sizeof bytes);
    FILE *f = fopen(to, "wb"); /* which empties a file that is there */
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static rvb_bytes mapped(void) {
    rvb_bytes file;
    fill_file(in_folder(path, "file"), 'a', BYTES);
    assert_int_equal(rvb_file_open(path, true, &file, NULL), RV_OK);
    assert_true(file.mapped);
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    return file;
}

static void assert_changed(rvb_bytes *file, const char *said) {
    rv_error err = {0};
    assert_int_equal(rvb_file_check(file, &err), RV_ERR_DIGEST);
    assert_non_null(strstr(err.message, said));
    assert_non_null(strstr(err.message, "file was changed in place"));
    assert_string_equal(err.path, path);
    assert_int_equal(rvb_file_check(file, NULL), RV_ERR_DIGEST);
    rvb_file_close(file);
}

/* U+20AC is three bytes: of three names that differ by one byte each, the cut falls into
 * a character with two. */
static void a_long_path_is_shown_from_a_whole_character_on(void **state) {
    (void)state;
    for (unsigned more = 0; more < 3; more++) {
        char name[160] = "";
        for (size_t i = 0; i < 40; i++) strcat(name, "\xE2\x82\xAC");
        strncat(name, "file", 2 + more);
        rvb_bytes file;
        rv_error err = {0};
        fill_file(in_folder(other, name), 'a', BYTES);
        assert_int_equal(rvb_file_open(other, true, &file, NULL), RV_OK);
        fill_file(other, 'b', BYTES / 2);
        assert_int_equal(rvb_file_check(&file, &err), RV_ERR_DIGEST);
        assert_memory_equal(err.message, "...\xE2\x82\xAC", 6);
        assert_non_null(strstr(err.message, " was changed in place"));
        rvb_file_close(&file);
    }
}

/* At once, within the steps in which the system counts the times of files. */
static void writing_is_a_change(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        rvb_bytes file = mapped();
        fill_file(path, 'b', BYTES);
        assert_changed(&file, "written to or touched");
    }
}

static void another_size_is_a_change(void **state) {
    (void)state;
    const size_t sizes[] = {0, 1, BYTES - 1, BYTES + 1};
    for (size_t i = 0; i < 4; i++) {
        char said[40];
        rvb_bytes file = mapped();
        assert_int_equal(truncate(path, (off_t)sizes[i]), 0);
        snprintf(said, sizeof said, "10000 bytes, now %zu", sizes[i]);
        assert_changed(&file, said);
    }
}

static void other_bytes_with_the_times_of_before_are_a_change(void **state) {
    (void)state;
    rvb_bytes file = mapped();
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    fill_file(path, 'b', BYTES);
#ifdef __APPLE__
    struct timespec times[2] = {s.st_atimespec, s.st_mtimespec};
#else
    struct timespec times[2] = {s.st_atim, s.st_mtim};
#endif
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_changed(&file, "its last bytes are others");
}

static void names_and_modes_are_no_change(void **state) {
    (void)state;
    rvb_bytes file = mapped();
    in_folder(other, "other");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    fill_file(path, 'b', BYTES / 2); /* another file of that name */
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    assert_int_equal(file.data[BYTES - 1], 'a');
    rvb_file_close(&file);
}

static void reading_a_file_that_was_cut_is_an_error(void **state) {
    (void)state;
    rvb_bytes file = mapped();
    uint8_t got[8], digest[RVB_DIGEST_BYTES], wanted[RVB_DIGEST_BYTES];
    assert_int_equal(rvb_file_read(&file, BYTES - 8, got, 8, NULL), RV_OK);
    assert_memory_equal(got, "aaaaaaaa", 8);
    assert_int_equal(rvb_file_digest(NULL, &file, BYTES, digest, NULL), RV_OK);
    assert_int_equal(rvb_tree_digest(NULL, file.data, BYTES, wanted, NULL), RV_OK);
    assert_memory_equal(digest, wanted, sizeof wanted);
    assert_int_equal(truncate(path, 100), 0);
    rv_error err = {0};
    assert_int_equal(rvb_file_read(&file, BYTES - 8, got, 8, &err), RV_ERR_DIGEST);
    assert_non_null(strstr(err.message, "10000 bytes, now 100"));
    assert_int_equal(rvb_file_digest(NULL, &file, BYTES, digest, NULL), RV_ERR_DIGEST);
    assert_int_equal(rvb_file_read(&file, 92, got, 8, NULL), RV_OK);
    assert_changed(&file, "now 100");
}

static int lowest_descriptor(void) {
    int fd = open("/dev/null", O_RDONLY);
    close(fd);
    return fd;
}

/* The number comes to mean another file, which nobody reads by mistake and nobody closes.
 */
static void a_descriptor_may_be_taken_away(void **state) {
    (void)state;
    int fd = lowest_descriptor();
    rvb_bytes file = mapped();
    uint8_t got[3] = {0};
    close(fd);
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    assert_int_equal(rvb_file_read(&file, 7, got, 3, NULL), RV_OK);
    assert_memory_equal(got, "aaa", 3);
    fill_file(in_folder(other, "other"), 'b', BYTES);
    assert_int_equal(open(other, O_RDONLY), fd);
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    assert_int_equal(rvb_file_read(&file, 7, got, 3, NULL), RV_OK);
    assert_memory_equal(got, "aaa", 3);
    rvb_file_close(&file);
    assert_int_equal(close(fd), 0);
}

/* A process may have thousands of indexes and few descriptors: from half of them on,
 * files are mapped without one. */
static void descriptors_are_left_for_others(void **state) {
    (void)state;
    struct rlimit before, few;
    int lowest = lowest_descriptor();
    rvb_bytes file = mapped();
    assert_int_equal(lowest_descriptor(), lowest + 1);
    rvb_file_close(&file);
    assert_int_equal(lowest_descriptor(), lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = (rlim_t)(2 * lowest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    file = mapped();
    assert_int_equal(lowest_descriptor(), lowest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(file.data[0], 'a');
    uint8_t got;
    assert_int_equal(rvb_file_read(&file, 5, &got, 1, NULL), RV_OK);
    assert_int_equal(got, 'a');
    rvb_file_close(&file);
}

static void bytes_in_memory_are_never_changed(void **state) {
    (void)state;
    rvb_bytes file;
    fill_file(in_folder(path, "file"), 'a', BYTES);
    assert_int_equal(rvb_file_open(path, false, &file, NULL), RV_OK);
    fill_file(path, 'b', BYTES / 2);
    assert_int_equal(rvb_file_check(&file, NULL), RV_OK);
    assert_int_equal(file.data[BYTES - 1], 'a');
    rvb_file_close(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_path_is_shown_from_a_whole_character_on),
        cmocka_unit_test(writing_is_a_change),
        cmocka_unit_test(another_size_is_a_change),
        cmocka_unit_test(other_bytes_with_the_times_of_before_are_a_change),
        cmocka_unit_test(names_and_modes_are_no_change),
        cmocka_unit_test(reading_a_file_that_was_cut_is_an_error),
        cmocka_unit_test(a_descriptor_may_be_taken_away),
        cmocka_unit_test(descriptors_are_left_for_others),
        cmocka_unit_test(bytes_in_memory_are_never_changed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
