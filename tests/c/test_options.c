/* Structs that start with their size, as programs of older and newer releases pass them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

typedef struct sample {
    size_t size;
    uint32_t first, second;
    uint64_t added; /* after 0.1.0 */
} sample;
typedef struct older_sample {
    size_t size;
    uint32_t first, second;
} older_sample;
typedef struct newer_sample {
    sample known;
    uint64_t unknown;
} newer_sample;

#define SAMPLE_DEFAULT                                                                   \
    { sizeof(sample), 1, 2, 3 }

static const rvb_sized type = RVB_SIZED(sample, offsetof(sample, added), SAMPLE_DEFAULT);

static void assert_sample(const sample *s, uint32_t first, uint32_t second,
                          uint64_t added) {
    assert_int_equal(s->size, sizeof *s);
    assert_int_equal(s->first, first);
    assert_int_equal(s->second, second);
    assert_int_equal(s->added, added);
}

static void options_of_any_known_release_are_taken(void **state) {
    (void)state;
    const sample same = {sizeof same, 7, 8, 9};
    const older_sample older = {sizeof older, 7, 8};
    sample taken = SAMPLE_DEFAULT;
    assert_int_equal(rvb_take_options(&type, NULL, &taken, NULL), RV_OK);
    assert_sample(&taken, 1, 2, 3);
    assert_int_equal(rvb_take_options(&type, &older, &taken, NULL), RV_OK);
    assert_sample(&taken, 7, 8, 3);
    assert_int_equal(rvb_take_options(&type, &same, &taken, NULL), RV_OK);
    assert_sample(&taken, 7, 8, 9);
}

static void info_goes_as_far_as_the_program_has_room(void **state) {
    (void)state;
    const sample info = {0, 7, 8, 9};
    struct {
        older_sample out;
        uint64_t beyond;
    } older = {{sizeof older.out, 0, 0}, 55};
    assert_int_equal(rvb_give_info(&type, &info, &older.out, NULL), RV_OK);
    assert_int_equal(older.out.size, sizeof older.out);
    assert_int_equal(older.out.first, 7);
    assert_int_equal(older.out.second, 8);
    assert_int_equal(older.beyond, 55);

    sample same = SAMPLE_DEFAULT;
    assert_int_equal(rvb_give_info(&type, &info, &same, NULL), RV_OK);
    assert_sample(&same, 7, 8, 9);
}

/* Neither direction touches what it refuses. */
static void assert_refused(size_t size, const char *begin, const char *end) {
    char message[sizeof(((rv_error *)NULL)->message)];
    snprintf(message, sizeof message, "%s ruvector %s %s", begin, rv_version(), end);
    newer_sample given = {{size, 7, 8, 9}, 10};
    const sample info = {0, 4, 5, 6};
    sample taken = SAMPLE_DEFAULT;
    rv_error err;
    assert_int_equal(rvb_take_options(&type, &given, &taken, &err), RV_ERR_ARGUMENT);
    assert_string_equal(err.message, message);
    assert_int_equal(err.expected, sizeof(sample));
    assert_int_equal(err.actual, size);
    assert_sample(&taken, 1, 2, 3);
    assert_int_equal(rvb_give_info(&type, &info, &given, &err), RV_ERR_ARGUMENT);
    assert_string_equal(err.message, message);
    assert_int_equal(given.known.first, 7);
    assert_int_equal(given.known.second, 8);
    assert_int_equal(given.known.added, 9);
}

static void a_size_that_is_not_known_is_refused(void **state) {
    (void)state;
    assert_refused(sizeof(newer_sample), "sample came with 32 bytes, and",
                   "knows 24: the program was compiled for a newer ruvector; run it with "
                   "the library it was compiled for, or a newer one");
    const char *start =
        "and had 16 in 0.1.0: start from SAMPLE_DEFAULT, which sets its size";
    assert_refused(0, "sample came with 0 bytes; it has 24 in", start);
    assert_refused(15, "sample came with 15 bytes; it has 24 in", start);
    assert_refused(SIZE_MAX / 255 * 90, /* what was never set */
                   sizeof(size_t) == 8
                       ? "sample came with 6510615555426900570 bytes; it has 24 in"
                       : "sample came with 1515870810 bytes; it has 24 in",
                   start);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_of_any_known_release_are_taken),
        cmocka_unit_test(info_goes_as_far_as_the_program_has_room),
        cmocka_unit_test(a_size_that_is_not_known_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
