/*
 * test_prepare.c - resize, crop and normalization where the answer can be told by hand;
 * the Python tests compare every pixel with Pillow's.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "embed_cases.h"
#include "failing_allocator.h"
#include "kernel_cases.h"

#include <math.h>

enum { SIDE = 224, FLOATS = RV_IMAGE_PREPARED_FLOATS };

static float out[FLOATS];

static float normalized(unsigned byte, size_t channel) {
    static const float mean[] = {0.485f, 0.456f, 0.406f};
    static const float deviation[] = {0.229f, 0.224f, 0.225f};
    return ((float)byte / 255.0f - mean[channel]) / deviation[channel];
}

static void prepare(const rv_image *image) {
    rv_error err = {0};
    memset(out, 0xFF, sizeof out);
    if (rv_image_prepare(image, out, &err) != RV_OK) fail_msg("%s", err.message);
}

static void one_color_stays_one_color(void **state) {
    (void)state;
    static const uint32_t sides[][2] = {{1, 1},    {2, 3},       {256, 256}, {97, 300},
                                        {640, 31}, {1, 1000000}, {1500, 1},  {1023, 999}};
    static const uint8_t color[] = {255, 0, 100};
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        rv_image image = make_image(1, sides[i][0], sides[i][1]);
        uint8_t *pixels = (uint8_t *)(uintptr_t)image.pixels;
        const size_t n = (size_t)image.height * image.width * 3;
        for (size_t j = 0; j < n; j++) pixels[j] = color[j % 3];
        prepare(&image);
        for (size_t j = 0; j < FLOATS; j++)
            assert_true(out[j] == normalized(color[j % 3], j % 3));
        free_image(&image);
    }
}

/* A shorter side of 256 is not resized; half a pixel goes to the even side. */
static void the_crop_is_the_middle(void **state) {
    (void)state;
    static const uint32_t cases[][4] = {/* height, width, top, left */
                                        {256, 256, 16, 16},   {256, 257, 16, 16},
                                        {259, 256, 18, 16},   {256, 258, 16, 17},
                                        {256, 1001, 16, 388}, {483, 256, 130, 16}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t *c = cases[i];
        rv_image image = make_image(7, c[0], c[1]);
        prepare(&image);
        for (size_t j = 0; j < FLOATS; j++) {
            const size_t y = j / 3 / SIDE + c[2], x = j / 3 % SIDE + c[3];
            const uint8_t byte = image.pixels[(y * c[1] + x) * 3 + j % 3];
            if (out[j] != normalized(byte, j % 3))
                fail_msg("%u x %u, value %zu", c[0], c[1], j);
        }
        free_image(&image);
    }
}

/* Twice the size: the triangle has weights 1/8, 3/8, 3/8, 1/8, across and then down. */
static void halving_averages_four_by_four(void **state) {
    (void)state;
    rv_image image = make_image(5, 512, 512);
    static const unsigned weight[] = {1, 3, 3, 1};
    prepare(&image);
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        unsigned sum = 0;
        for (size_t r = 0; r < 4; r++) {
            const size_t y = 2 * (i / SIDE + 16) + r - 1, x = 2 * (i % SIDE + 16) - 1;
            unsigned across = 0;
            for (size_t k = 0; k < 4; k++)
                across += weight[k] * image.pixels[(y * 512 + x + k) * 3];
            sum += weight[r] * ((across + 4) / 8);
        }
        assert_true(out[3 * i] == normalized((sum + 4) / 8, 0));
    }
    free_image(&image);
}

static void nothing_beyond_the_image_is_read(void **state) {
    (void)state;
    static const uint32_t sides[][2] = {
        {1, 1}, {3, 5}, {300, 225}, {17, 700}, {257, 256}};
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        const size_t bytes = (size_t)sides[i][0] * sides[i][1] * 3;
        fence f = fence_open(bytes);
        memset(f.end - bytes, 9, bytes);
        const rv_image image = {f.end - bytes, sides[i][0], sides[i][1]};
        prepare(&image);
        fence_close(&f);
    }
}

static void wrong_sides_are_refused(void **state) {
    (void)state;
    static const uint32_t sides[][2] = {{0, 5}, {5, 0}, {1000001, 1}, {1, UINT32_MAX}};
    for (size_t i = 0; i < 4; i++) {
        const rv_image image = {NULL, sides[i][0], sides[i][1]};
        rv_error err = {0};
        assert_int_equal(rv_image_prepare(&image, out, &err), RV_ERR_ARGUMENT);
        assert_int_equal(err.expected, RV_IMAGE_MAX_SIDE);
        assert_non_null(strstr(err.message, "sides are 1 to 1000000"));
    }
}

static void lack_of_memory_is_survived(void **state) {
    (void)state;
    rv_image image = make_image(3, 40, 50);
    for (size_t n = 1; n <= 4; n++) {
        failing_allocator_install(n);
        const rv_status status = rv_image_prepare(&image, out, NULL);
        assert_int_equal(status, n < 4 ? RV_ERR_MEMORY : RV_OK);
        assert_int_equal(failing_allocator_live(), 0);
        failing_allocator_remove();
    }
    free_image(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_color_stays_one_color),
        cmocka_unit_test(the_crop_is_the_middle),
        cmocka_unit_test(halving_averages_four_by_four),
        cmocka_unit_test(nothing_beyond_the_image_is_read),
        cmocka_unit_test(wrong_sides_are_refused),
        cmocka_unit_test(lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
