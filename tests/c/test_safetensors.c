/*
 * test_safetensors.c - headers as they should be, and as nobody should send them.
 */
#include "embed_cases.h"
#include "failing_allocator.h"

#define ENTRY(name, dtype, shape, from, to)                                              \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape                            \
    "],\"data_offsets\":[" #from "," #to "]}"

static rv_status open_header(const char *header, size_t data_bytes, rve_tensors *out,
                             rv_error *err) {
    file f = make_file(header, data_bytes);
    /* The names live in a copy; the data pointers are not followed here. */
    const rv_status status = rve_tensors_open(f.bytes, f.size, out, err);
    free_file(&f);
    return status;
}

static void tensors_are_found_by_name(void **state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"x\":\"\"}, "
        "\"b\" : {\"shape\" : [2, 3],\n\t\"data_offsets\": [ 4 , 28 "
        "],\"dtype\":\"F32\"}," ENTRY("a", "I64", "0,7", 4, 4) "," ENTRY(
            "", "U8", "", 28, 29) "," ENTRY("a.b", "BF16", "2,1", 0, 4) "}   ";
    file f = make_file(header, 29);
    rve_tensors t;
    assert_int_equal(rve_tensors_open(f.bytes, f.size, &t, NULL), RV_OK);
    assert_int_equal(t.n, 4);
    const rve_tensor *b = rve_tensors_find(&t, "b");
    assert_non_null(b);
    assert_string_equal(b->dtype, "F32");
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->bytes, 24);
    assert_int_equal(b->data[0], 4);
    const rve_tensor *empty = rve_tensors_find(&t, "a");
    assert_int_equal(empty->bytes, 0);
    assert_int_equal(rve_tensors_find(&t, "")->rank, 0);
    assert_int_equal(rve_tensors_find(&t, "")->data[0], 28);
    assert_string_equal(rve_tensors_find(&t, "a.b")->dtype, "BF16");
    assert_null(rve_tensors_find(&t, "__metadata__"));
    assert_null(rve_tensors_find(&t, "a."));
    assert_null(rve_tensors_find(&t, "c"));
    rve_tensors_close(&t);
    free_file(&f);
}

static void a_file_may_hold_nothing(void **state) {
    (void)state;
    rve_tensors t;
    assert_int_equal(open_header("{}", 0, &t, NULL), RV_OK);
    assert_int_equal(t.n, 0);
    assert_null(rve_tensors_find(&t, "a"));
    rve_tensors_close(&t);
}

/* RFC 8259, section 7, to UTF-8. */
static void names_may_be_escaped(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"\\u0061\\u002eb", "a.b"},
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"},
        {"\\u00e9\\u20AC", "\xc3\xa9\xe2\x82\xac"},
        {"\\ud83d\\uDE00!", "\xf0\x9f\x98\x80!"},
        {"\\u07ff\\uFFFF", "\xdf\xbf\xef\xbf\xbf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char header[256];
        rve_tensors t;
        rv_error err;
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                 cases[i][0]);
        if (open_header(header, 1, &t, &err) != RV_OK) fail_msg("%s", err.message);
        assert_non_null(rve_tensors_find(&t, cases[i][1]));
        rve_tensors_close(&t);
    }
}

static void bad_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *says;
    } cases[] = {
        {"", 0, "byte 0: expected '{'"},
        {"[]", 0, "byte 0: expected '{'"},
        {"{", 0, "byte 1: expected '\"'"},
        {"{}x", 0, "the end of the header"},
        {"{,}", 0, "expected '\"'"},
        {"{\"a\"}", 0, "expected ':'"},
        {"{\"a\":[]}", 0, "expected '{'"},
        {"{\"a\":{}}", 0, "expected '\"'"},
        {"{" ENTRY("a", "U8", "1", 0, 1) ",}", 1, "expected '\"'"},
        {"{" ENTRY("a", "U8", "1", 0, 1), 1, "expected '}'"},
        {"{" ENTRY("a", "U9", "1", 0, 1) "}", 1, "a dtype known here"},
        {"{" ENTRY("a", "u8", "1", 0, 1) "}", 1, "a dtype known here"},
        {"{" ENTRY("a", "U8", "-1", 0, 1) "}", 1, "a whole number"},
        {"{" ENTRY("a", "U8", "01", 0, 1) "}", 1, "a whole number"},
        {"{" ENTRY("a", "U8", "1.0", 0, 1) "}", 1, "expected ']'"},
        {"{" ENTRY("a", "U8", "1e0", 0, 1) "}", 1, "expected ']'"},
        {"{" ENTRY("a", "U8", "1,", 0, 1) "}", 1, "a whole number"},
        {"{" ENTRY("a", "U8", "18446744073709551616", 0, 1) "}", 1, "below 2^64"},
        {"{" ENTRY("a", "U8", "1,1,1,1,1,1,1,1,1", 0, 1) "}", 1, "fewer numbers"},
        {"{" ENTRY("a", "U8", "1", 1, 0) "}", 1, "inside the file"},
        {"{" ENTRY("a", "U8", "2", 0, 2) "}", 1, "inside the file"},
        {"{" ENTRY("a", "U8", "1", 0, 18446744073709551615) "}", 1, "inside the file"},
        {"{" ENTRY("a", "U8", "2", 0, 1) "}", 1, "fit dtype and shape"},
        {"{" ENTRY("a", "F32", "1", 0, 1) "}", 1, "fit dtype and shape"},
        {"{" ENTRY("a", "U8", "0", 0, 1) "}", 1, "fit dtype and shape"},
        /* 2^62 * 4 and 2^32 * 2^32 are 0 in 64 bits. */
        {"{" ENTRY("a", "F32", "4611686018427387904", 0, 0) "}", 0, "fit dtype"},
        {"{" ENTRY("a", "U8", "4294967296,4294967296", 0, 0) "}", 0, "fit dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets before this"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "before this"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "before this"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 1, "each once"},
        {"{\"a\":{\"strides\":[1]}}", 1, "each once"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1,
         "two offsets"},
        {"{\"a\":{\"data_offsets\":[0,1,2]}}", 1, "fewer numbers"},
        {"{" ENTRY("a", "U8", "1", 0, 1) "," ENTRY("b", "U8", "1", 0, 1) "}", 1,
         "tensors overlap at byte 0"},
        {"{" ENTRY("a", "U8", "2", 0, 2) "," ENTRY("b", "U8", "2", 1, 3) "}", 3,
         "tensors overlap at byte 1"},
        {"{" ENTRY("a", "U8", "1", 0, 1) "," ENTRY("b", "U8", "1", 2, 3) "}", 3,
         "no tensor begins at byte 1"},
        {"{" ENTRY("a", "U8", "1", 1, 2) "}", 2, "no tensor begins at byte 0"},
        {"{" ENTRY("a", "U8", "1", 0, 1) "}", 2, "take 1 bytes, the file holds 2"},
        {"{}", 1, "take 0 bytes, the file holds 1"},
        {"{" ENTRY("a", "U8", "1", 0, 1) "," ENTRY("\\u0061", "U8", "1", 1, 2) "}", 2,
         "share a name"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "expected '\"'"},
        {"{\"__metadata__\":{\"a\":{}}}", 0, "expected '\"'"},
        {"{\"__metadata__\":[]}", 0, "expected '{'"},
        {"{\"a\\x\":{}}", 0, "an escape of JSON"},
        {"{\"a\\u12g4\":{}}", 0, "four hexadecimal digits"},
        {"{\"a\\u12", 0, "four hexadecimal digits"},
        {"{\"a\\ud800\":{}}", 0, "a surrogate pair"},
        {"{\"a\\udc00\":{}}", 0, "a surrogate pair"},
        {"{\"a\\ud800\\u0041\":{}}", 0, "a low surrogate"},
        {"{\"a\n\":{}}", 0, "expected '\"'"},
        {"{\"a\\", 0, "an escape of JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rve_tensors t;
        rv_error err = {0};
        const rv_status status =
            open_header(cases[i].header, cases[i].data_bytes, &t, &err);
        if (status != RV_ERR_FORMAT || !strstr(err.message, cases[i].says))
            fail_msg("%s: %d, %s", cases[i].header, (int)status, err.message);
        assert_null(t.items);
        assert_null(t.header);
    }
}

static void lengths_are_checked_first(void **state) {
    (void)state;
    static const uint64_t lengths[] = {3, 100000001, UINT64_C(1) << 63, UINT64_MAX};
    rve_tensors t;
    rv_error err;
    file f = make_file("{}", 0);
    for (size_t size = 0; size < 8; size++)
        assert_int_equal(rve_tensors_open(f.bytes, size, &t, &err), RV_ERR_FORMAT);
    for (size_t i = 0; i < 4; i++) {
        for (size_t b = 0; b < 8; b++) f.bytes[b] = (uint8_t)(lengths[i] >> 8 * b);
        assert_int_equal(rve_tensors_open(f.bytes, f.size, &t, &err), RV_ERR_FORMAT);
        assert_int_equal(err.actual, lengths[i]);
        assert_int_equal(err.expected, 2);
    }
    free_file(&f);
}

/* Whatever is cut off, and wherever a byte is turned over: an answer, no more. */
static void damage_is_survived(void **state) {
    (void)state;
    static const char header[] = "{\"__metadata__\":{\"k\":\"\\u00e9\"}," ENTRY(
        "a", "F32", "2,1", 0, 8) "," ENTRY("b\\n", "U8", "", 8, 9) "}";
    const file whole = make_file(header, 9);
    for (size_t size = 0; size < whole.size; size++) {
        rve_tensors t;
        uint8_t *cut = malloc(size + 1); /* of its own, so that a sanitizer sees */
        assert_non_null(cut);
        memcpy(cut, whole.bytes, size);
        assert_int_equal(rve_tensors_open(cut, size, &t, NULL), RV_ERR_FORMAT);
        free(cut);
    }
    for (size_t at = 0; at < whole.size; at++) {
        for (unsigned flip = 1; flip < 256; flip++) {
            rve_tensors t;
            whole.bytes[at] ^= (uint8_t)flip;
            const rv_status status = rve_tensors_open(whole.bytes, whole.size, &t, NULL);
            assert_true(status == RV_OK || status == RV_ERR_FORMAT);
            rve_tensors_close(&t);
            whole.bytes[at] ^= (uint8_t)flip;
        }
    }
    free(whole.bytes);
}

static void lack_of_memory_is_survived(void **state) {
    (void)state;
    char header[40000] = "{";
    size_t used = 1;
    for (unsigned i = 0; i < 600; i++) /* the table grows twice */
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"t%u\":{\"dtype\":\"U8\",\"shape\":[1],"
                                 "\"data_offsets\":[%u,%u]}",
                                 i ? "," : "", i, i, i + 1);
    snprintf(header + used, sizeof header - used, "}");
    file f = make_file(header, 600);
    for (size_t n = 1;; n++) {
        rve_tensors t;
        failing_allocator_install(n);
        const rv_status status = rve_tensors_open(f.bytes, f.size, &t, NULL);
        const bool reached = failing_allocator_calls() >= n;
        assert_int_equal(status, reached ? RV_ERR_MEMORY : RV_OK);
        if (!reached) assert_int_equal(t.n, 600);
        rve_tensors_close(&t);
        assert_int_equal(failing_allocator_live(), 0);
        failing_allocator_remove();
        if (!reached) break;
        assert_true(n < 10);
    }
    free_file(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name),
        cmocka_unit_test(a_file_may_hold_nothing),
        cmocka_unit_test(names_may_be_escaped),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(lengths_are_checked_first),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
