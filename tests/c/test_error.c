/* Error records: names, formatting, cutting, operating-system errors. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

static void every_status_has_its_own_name(void **state) {
    (void)state;
    for (int a = RV_OK; a <= RV_ERR_WITNESS; a++) {
        const char *name = rv_status_name((rv_status)a);
        assert_string_not_equal(name, "unknown");
        assert_true(strspn(name, "abcdefghijklmnopqrstuvwxyz ") == strlen(name));
        for (int b = RV_OK; b < a; b++) {
            assert_string_not_equal(name, rv_status_name((rv_status)b));
        }
    }
    assert_string_equal(rv_status_name(RV_OK), "ok");
    assert_string_equal(rv_status_name((rv_status)(RV_ERR_WITNESS + 1)), "unknown");
}

static void record_holds_what_was_said(void **state) {
    (void)state;
    rv_error err;
    memset(&err, 0x5A, sizeof err);
    assert_int_equal(rvb_fail(&err, RV_ERR_ARGUMENT, "k is %d", -1), RV_ERR_ARGUMENT);
    assert_int_equal(err.code, RV_ERR_ARGUMENT);
    assert_string_equal(err.message, "k is -1");
    assert_string_equal(err.path, "");
    assert_int_equal(err.os_errno, 0);
    assert_int_equal(err.expected, 0);
    assert_int_equal(err.actual, 0);

    assert_int_equal(rvb_fail_numbers(&err, RV_ERR_DIM, 384, UINT64_MAX, "dim"),
                     RV_ERR_DIM);
    assert_int_equal(err.code, RV_ERR_DIM);
    assert_int_equal(err.expected, 384);
    assert_true(err.actual == UINT64_MAX);
}

static void nobody_has_to_listen(void **state) {
    (void)state;
    assert_int_equal(rvb_fail(NULL, RV_ERR_VALUE, "%s", "x"), RV_ERR_VALUE);
    assert_int_equal(rvb_fail_numbers(NULL, RV_ERR_DIM, 1, 2, "%s", "x"), RV_ERR_DIM);
    assert_int_equal(rvb_fail_os(NULL, ENOENT, "open", "x"), RV_ERR_IO);
    assert_int_equal(rvb_fail_memory(NULL, 1), RV_ERR_MEMORY);
}

static void long_messages_are_cut(void **state) {
    (void)state;
    rv_error err;
    char text[400];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    rvb_fail(&err, RV_ERR_VALUE, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);

    /* U+20AC is three bytes. Whatever its place, it is kept whole or dropped. */
    for (size_t at = 248; at <= 256; at++) {
        memcpy(text + at, "\xE2\x82\xAC", 3);
        rvb_fail(&err, RV_ERR_VALUE, "%s", text);
        size_t whole = at + 3 <= 255 ? 255 : at < 255 ? at : 255;
        assert_int_equal(strlen(err.message), whole);
        memset(text + at, 'x', 3);
    }
}

static void a_record_may_be_wrapped_in_itself(void **state) {
    (void)state;
    rv_error err;
    rvb_fail(&err, RV_ERR_FORMAT, "bad header");
    rvb_fail(&err, RV_ERR_FORMAT, "%s in %s", err.message, "file");
    assert_string_equal(err.message, "bad header in file");
}

static void os_errors_name_call_path_and_reason(void **state) {
    (void)state;
    rv_error err;
    memset(&err, 0x5A, sizeof err);
    assert_int_equal(rvb_fail_os(&err, ENOENT, "cannot open", "/a/b"), RV_ERR_IO);
    assert_int_equal(err.code, RV_ERR_IO);
    assert_int_equal(err.os_errno, ENOENT);
    assert_int_equal(err.expected, 0);
    assert_string_equal(err.path, "/a/b");
    assert_string_equal(err.message, "cannot open /a/b: No such file or directory");

    rvb_fail_os(&err, 123456, "cannot open", "x");
    assert_int_equal(err.os_errno, 123456);
    assert_memory_equal(err.message, "cannot open x: ", 15);
}

static void long_paths_keep_their_end(void **state) {
    (void)state;
    rv_error err;
    char path[600];
    for (size_t i = 0; i < sizeof path; i++) path[i] = "/directory"[i % 10];
    memcpy(path + sizeof path - 11, "index.rbpx", 11);
    rvb_fail_os(&err, EACCES, "cannot write", path);
    assert_int_equal(strlen(err.path), sizeof err.path - 1);
    assert_string_equal(err.path, path + sizeof path - 1 - (sizeof err.path - 1));
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_non_null(strstr(err.message, "index.rbpx: Permission denied"));
    assert_memory_equal(err.message, "cannot write ", 13);

    /* The cut does not split a character: 599 bytes, 3 each, start in the middle. */
    for (size_t i = 0; i + 3 < sizeof path; i += 3) memcpy(path + i, "\xE2\x82\xAC", 3);
    memcpy(path + 597, "ab", 3);
    rvb_fail_os(&err, EACCES, "cannot write", path);
    assert_int_equal(strlen(err.path) % 3, 2);
    assert_int_equal((unsigned char)err.path[0], 0xE2);
    char *shown = err.message + strlen("cannot write ");
    assert_int_equal((unsigned char)shown[0], 0xE2);
}

static void a_path_can_be_added(void **state) {
    (void)state;
    rv_error err;
    char path[600];
    rvb_fail_numbers(&err, RV_ERR_FORMAT, 5, 6, "cut off");
    rvb_error_path(&err, "/tmp/file");
    rvb_error_path(NULL, "/tmp/file");
    assert_string_equal(err.path, "/tmp/file");
    assert_string_equal(err.message, "cut off");
    assert_int_equal(err.actual, 6);
    memset(path, 'p', sizeof path);
    memcpy(path + sizeof path - 6, "/file", 6);
    rvb_error_path(&err, path);
    assert_string_equal(err.path, path + sizeof path - sizeof err.path);
    rvb_error_path(&err, err.path + 200); /* its own end */
    assert_int_equal(strlen(err.path), 55);
}

static void memory_errors_name_the_size(void **state) {
    (void)state;
    rv_error err;
    assert_int_equal(rvb_fail_memory(&err, UINT64_C(123456789012)), RV_ERR_MEMORY);
    assert_int_equal(err.code, RV_ERR_MEMORY);
    assert_true(err.expected == UINT64_C(123456789012));
    assert_non_null(strstr(err.message, "123456789012 bytes"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_own_name),
        cmocka_unit_test(record_holds_what_was_said),
        cmocka_unit_test(nobody_has_to_listen),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(a_record_may_be_wrapped_in_itself),
        cmocka_unit_test(os_errors_name_call_path_and_reason),
        cmocka_unit_test(long_paths_keep_their_end),
        cmocka_unit_test(a_path_can_be_added),
        cmocka_unit_test(memory_errors_name_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
