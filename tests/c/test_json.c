/* The JSON reader: which texts it takes, the tokens it makes of them, and that no text
 * makes it read outside or go deep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

/* The tokens of a text, a letter each; then '!' if it turned out not to be JSON. The
 * text is read from memory of its exact size, so that a sanitizer sees any overrun. */
static const char *tokens_of(const char *text, size_t size, const char **error) {
    static const char letters[] = ".{}[]ksntf0";
    static char out[2048];
    char *exact = malloc(size ? size : 1);
    rvb_json j;
    rvb_json_token t;
    size_t n = 0;
    assert_non_null(exact);
    if (size) memcpy(exact, text, size);
    rvb_json_init(&j, exact, size);
    while (rvb_json_next(&j, &t) && n < sizeof out - 2) {
        out[n++] = letters[t.kind];
        if (t.kind == RVB_JSON_END) break;
        if (t.kind == RVB_JSON_KEY || t.kind == RVB_JSON_STRING) {
            char *decoded = malloc(t.size ? t.size : 1);
            assert_non_null(decoded);
            rvb_json_decode(&t, decoded);
            assert_true(rvb_utf8_valid(decoded, t.size));
            assert_true(t.size <= t.raw_size);
            free(decoded);
        }
    }
    if (j.error) {
        out[n++] = '!';
        assert_true(j.at <= size);
        assert_false(rvb_json_next(&j, &t)); /* for good */
    }
    out[n] = '\0';
    if (error) *error = j.error;
    free(exact);
    return out;
}

static void assert_tokens(const char *text, const char *tokens) {
    assert_string_equal(tokens_of(text, strlen(text), NULL), tokens);
}

static void refused(const char *text, size_t size, const char *why) {
    const char *error = NULL;
    const char *tokens = tokens_of(text, size, &error);
    if (!strchr(tokens, '!')) fail_msg("accepted: %.*s", (int)size, text);
    assert_string_equal(error, why);
}

static void assert_refused(const char *text, const char *why) {
    refused(text, strlen(text), why);
}

static void structure(void **state) {
    (void)state;
    assert_tokens("1", "n.");
    assert_tokens(" \t\r\n true \n", "t.");
    assert_tokens("[]", "[].");
    assert_tokens("{}", "{}.");
    assert_tokens("[1,\"a\",true,false,null,[],{}]", "[nstf0[]{}].");
    assert_tokens("{\"a\":1,\"b\":[{\"c\":null}],\"\":\"\"}", "{knk[{k0}]ks}.");
    assert_tokens("{ \"a\" : 1 , \"a\" : 2 }", "{knkn}.");
}

static void malformed_structure(void **state) {
    (void)state;
    static const char early[] = "the text ends early",
                      more[] = "more text after the value";
    assert_refused("", early);
    assert_refused(" ", early);
    assert_refused("[", early);
    assert_refused("{", early);
    assert_refused("[1", early);
    assert_refused("[1,", early);
    assert_refused("{\"a\":", early);
    assert_refused("{\"a\":1,", early);
    assert_refused("{\"a\"", "no ':' after a key");
    assert_refused("{\"a\" 1}", "no ':' after a key");
    assert_refused("{\"a\",1}", "no ':' after a key");
    assert_refused("{1:2}", "no key");
    assert_refused("{,}", "no key");
    assert_refused("{\"a\":1,}", "no key");
    assert_refused("{\"a\":}", "no value");
    assert_refused("[1,]", "no value");
    assert_refused("[,1]", "no value");
    assert_refused("]", "no value");
    assert_refused("[1 2]", "no ',' between values");
    assert_refused("[1}", "no ',' between values");
    assert_refused("{\"a\":1]", "no ',' between values");
    assert_refused("{\"a\":1:2}", "no ',' between values");
    assert_refused("[}", "no value");
    assert_refused("{]", "no key");
    assert_refused("1 2", more);
    assert_refused("{}{}", more);
    assert_refused("{}]", more);
    assert_refused("\xEF\xBB\xBF{}", "no value"); /* a byte-order mark */
    assert_refused("'a'", "no value");
    assert_refused("\f1", "no value"); /* not white space in JSON */
    refused("1\0", 2, more);
    refused("\0", 1, "no value");
    assert_refused("/* */1", "no value");
}

static void words(void **state) {
    (void)state;
    static const char *const wrong[] = {"t", "trUe", "nul", "nil", "falsy", "n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(wrong[i], "an unknown word");
    assert_refused("True", "no value");
    assert_refused("NaN", "no value");
    assert_refused("truefalse", "more text after the value");
}

static void numbers(void **state) {
    (void)state;
    static const char *const right[] = {"0",   "-0",    "10",      "-1",   "0.5",
                                        "1e5", "1E+05", "1.25e-7", "1e999"};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        assert_tokens(right[i], "n.");
    assert_refused("01", "a number with a leading zero");
    assert_refused("-01", "a number with a leading zero");
    assert_refused("-", "a number without digits");
    assert_refused("1.", "a number without digits");
    assert_refused("1.e1", "a number without digits");
    assert_refused("1e", "a number without digits");
    assert_refused("1e+", "a number without digits");
    assert_refused("--1", "a number without digits");
    assert_refused("+1", "no value");
    assert_refused(".5", "no value");
    assert_refused("Infinity", "no value");
    assert_refused("0x10", "more text after the value");
}

static bool reads_u64(const char *text, uint64_t *value) {
    rvb_json j;
    rvb_json_token t;
    rvb_json_init(&j, text, strlen(text));
    assert_true(rvb_json_next(&j, &t));
    return rvb_json_u64(&t, value);
}

static void integers(void **state) {
    (void)state;
    static const char *const wrong[] = {"18446744073709551616",
                                        "18446744073709551620",
                                        "28446744073709551615",
                                        "184467440737095516150",
                                        "99999999999999999999999999999999",
                                        "-1",
                                        "-0",
                                        "8.0",
                                        "1e0",
                                        "\"8\"",
                                        "true",
                                        "null",
                                        "[8]"};
    uint64_t value = 1;
    assert_true(reads_u64("0", &value));
    assert_int_equal(value, 0);
    assert_true(reads_u64("4294967296", &value));
    assert_true(value == UINT64_C(4294967296));
    assert_true(reads_u64("18446744073709551615", &value));
    assert_true(value == UINT64_MAX);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(reads_u64(wrong[i], &value));
}

/* ---- strings -------------------------------------------------------------------- */

static void assert_decodes(const char *text, const char *wanted, size_t size) {
    rvb_json j;
    rvb_json_token t;
    char out[64];
    rvb_json_init(&j, text, strlen(text));
    if (!rvb_json_next(&j, &t)) fail_msg("%s: %s", text, j.error);
    assert_int_equal(t.kind, RVB_JSON_STRING);
    assert_int_equal(t.size, size);
    assert_true(size < sizeof out);
    memset(out, 0x55, sizeof out);
    rvb_json_decode(&t, out);
    assert_memory_equal(out, wanted, size);
    assert_int_equal(out[size], 0x55);
    assert_true(rvb_json_next(&j, &t) && t.kind == RVB_JSON_END);
}

static void escapes(void **state) {
    (void)state;
    assert_decodes("\"\"", "", 0);
    assert_decodes("\"a\x7F/\"", "a\x7F/", 3);
    assert_decodes("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
    assert_decodes("\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC", 6);
    assert_decodes("\"\\u0000\\u001f\"", "\0\x1F", 2);
    assert_decodes("\"\\u07ff\\u0800\\uffff\"", "\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF", 8);
    assert_decodes("\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80", 4);
    assert_decodes("\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF",
                   8);
    assert_decodes("\"\xC3\xA9\xF0\x9F\x98\x80\"", "\xC3\xA9\xF0\x9F\x98\x80", 6);
}

static void malformed_strings(void **state) {
    (void)state;
    static const char lone[] = "a lone surrogate in a string";
    static const char escape[] = "an unknown escape in a string";
    assert_refused("\"", "a string without an end");
    assert_refused("\"a", "a string without an end");
    assert_refused("\"\\\"", "a string without an end");
    assert_refused("\"\\", escape);
    assert_refused("\"\\x41\"", escape);
    assert_refused("\"\\'\"", escape);
    assert_refused("\"\\u\"", escape);
    assert_refused("\"\\u123\"", escape);
    assert_refused("\"\\u12g4\"", escape);
    assert_refused("\"\\u+123\"", escape);
    assert_refused("\"\\U0041\"", escape);
    refused("\"\\\0\"", 4, escape);
    assert_refused("\"\\ud800\"", lone);
    assert_refused("\"\\udc00\"", lone);
    assert_refused("\"\\udfff\\ud800\"", lone);
    assert_refused("\"\\ud800\\ud800\"", lone);
    assert_refused("\"\\ud800\\u0041\"", lone);
    assert_refused("\"\\ud800x\"", lone);
    assert_refused("\"\\ud800\\n\"", lone);
    assert_refused("\"\\ud800\\", lone);
    assert_refused("\"\\ud800\\udc0", lone);
    assert_refused("\"a\nb\"", "a control character in a string");
    assert_refused("\"\x1F\"", "a control character in a string");
    refused("\"\0\"", 3, "a control character in a string");
    assert_refused("{\"\\ud800\":1}", lone); /* keys as well */
}

/* What is well formed and what is not, by the table of the Unicode Standard. */
static void utf8(void **state) {
    (void)state;
    static const char *const right[] = {
        "\xC2\x80",     "\xDF\xBF",     "\xE0\xA0\x80",     "\xED\x9F\xBF",
        "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"};
    static const char *const wrong[] = {"\x80",
                                        "\xBF",
                                        "\xC0\x80",
                                        "\xC1\xBF",
                                        "\xC2",
                                        "\xC2\x41",
                                        "\xE0\x9F\xBF",
                                        "\xE2\x82",
                                        "\xED\xA0\x80",
                                        "\xED\xBF\xBF",
                                        "\xE2\x28\xA1",
                                        "\xF0\x8F\xBF\xBF",
                                        "\xF4\x90\x80\x80",
                                        "\xF0\x9F\x98",
                                        "\xF5\x80\x80\x80",
                                        "\xFF",
                                        "\xFE"};
    char text[8];
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        assert_int_equal(rvb_utf8_size(right[i], strlen(right[i])), strlen(right[i]));
        snprintf(text, sizeof text, "\"%s\"", right[i]);
        assert_tokens(text, "s.");
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(rvb_utf8_size(wrong[i], strlen(wrong[i])), 0);
        assert_false(rvb_utf8_valid(wrong[i], strlen(wrong[i])));
        snprintf(text, sizeof text, "\"%s\"", wrong[i]);
        assert_refused(text, "invalid UTF-8");
    }
    assert_int_equal(rvb_utf8_size("", 0), 0);
    assert_true(rvb_utf8_valid("", 0));
    assert_true(rvb_utf8_valid("a\0b", 3));
}

static void names(void **state) {
    (void)state;
    rvb_json j;
    rvb_json_token t;
    static const char text[] =
        "[\"dim\",\"\\u0064im\",\"di\\u006D\",\"din\",\"d\\u0000m\","
        "\"di\",\"dimm\"]";
    static const bool equal[] = {true, true, true, false, false, false, false};
    rvb_json_init(&j, text, strlen(text));
    assert_true(rvb_json_next(&j, &t));
    for (size_t i = 0; i < sizeof equal; i++) {
        assert_true(rvb_json_next(&j, &t));
        assert_int_equal(rvb_json_equals(&t, "dim"), equal[i]);
    }
}

/* ---- depth ---------------------------------------------------------------------- */

static void nesting(void **state) {
    (void)state;
    char text[2 * RVB_JSON_DEPTH + 8], tokens[2 * RVB_JSON_DEPTH + 8];
    memset(text, '[', RVB_JSON_DEPTH);
    memset(text + RVB_JSON_DEPTH, ']', RVB_JSON_DEPTH);
    memcpy(tokens, text, 2 * RVB_JSON_DEPTH);
    memcpy(tokens + 2 * RVB_JSON_DEPTH, ".", 2);
    assert_string_equal(tokens_of(text, 2 * RVB_JSON_DEPTH, NULL), tokens);
    memset(text, '[', RVB_JSON_DEPTH + 1);
    refused(text, sizeof text, "too many levels of nesting");

    char *objects = malloc(600000);
    assert_non_null(objects);
    for (size_t i = 0; i < 100000; i++) memcpy(objects + 5 * i, "{\"a\":", 5);
    refused(objects, 500000, "too many levels of nesting");
    free(objects);
}

static void skipping(void **state) {
    (void)state;
    rvb_json j;
    rvb_json_token t;
    uint64_t value;
    static const char text[] = "{\"a\":[1,{\"b\":[[],{}]}],\"c\":\"x\",\"d\":7}";
    rvb_json_init(&j, text, strlen(text));
    assert_true(rvb_json_next(&j, &t));
    assert_true(rvb_json_next(&j, &t) && rvb_json_equals(&t, "a"));
    assert_true(rvb_json_skip(&j));
    assert_true(rvb_json_next(&j, &t) && rvb_json_equals(&t, "c"));
    assert_true(rvb_json_skip(&j));
    assert_true(rvb_json_next(&j, &t) && rvb_json_equals(&t, "d"));
    assert_true(rvb_json_next(&j, &t) && rvb_json_u64(&t, &value) && value == 7);
    assert_true(rvb_json_next(&j, &t) && t.kind == RVB_JSON_OBJECT_END);
    rvb_json_init(&j, "[[1,", 4);
    assert_false(rvb_json_skip(&j));
    assert_string_equal(j.error, "the text ends early");
}

/* Every prefix of a text with everything in it ends early, in one way or another. */
static void prefixes(void **state) {
    (void)state;
    static const char text[] =
        "{\"a\\u00e9\":[1.5e-3,true,null,\"\\ud83d\\ude00\xC3\xA9\"],\"b\":{\"c\":-7}}";
    for (size_t size = 0; size < sizeof text - 1; size++)
        assert_non_null(strchr(tokens_of(text, size, NULL), '!'));
    assert_tokens(text, "{k[nt0s]k{kn}}.");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structure),
        cmocka_unit_test(malformed_structure),
        cmocka_unit_test(words),
        cmocka_unit_test(numbers),
        cmocka_unit_test(integers),
        cmocka_unit_test(escapes),
        cmocka_unit_test(malformed_strings),
        cmocka_unit_test(utf8),
        cmocka_unit_test(names),
        cmocka_unit_test(nesting),
        cmocka_unit_test(skipping),
        cmocka_unit_test(prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
