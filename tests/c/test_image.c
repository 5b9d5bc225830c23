/*
 * test_image.c - calls with many images: the same vectors whatever the company, the
 * threads and the instruction set; progress, errors and lack of memory.
 */
#include "embed_cases.h"
#include "failing_allocator.h"

#include <math.h>

enum { N = 7, DIM = RV_MOBILENET_DIM };

static size_t used = N; /* of the images; fewer where time is short */
static rv_mobilenet *model;
static rv_image images[N];
static float alone[N][DIM], together[N][DIM];

static int set_up(void **state) {
    (void)state;
    static const uint32_t sides[N][2] = {{256, 256}, {40, 300},  {300, 40}, {1, 1},
                                         {500, 333}, {224, 224}, {77, 78}};
    model = make_model(9);
    if (small_tests()) used = 2;
    for (size_t i = 0; i < used; i++) {
        images[i] = make_image(i, sides[i][0], sides[i][1]);
        if (rv_mobilenet_embed(model, &images[i], 1, 1, alone[i], NULL, NULL) != RV_OK)
            return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (size_t i = 0; i < used; i++) free_image(&images[i]);
    rv_mobilenet_free(model);
    return 0;
}

static void vectors_have_norm_one(void **state) {
    (void)state;
    for (size_t i = 0; i < used; i++) {
        double norm2 = 0;
        for (size_t j = 0; j < DIM; j++)
            norm2 += (double)alone[i][j] * (double)alone[i][j];
        assert_true(fabs(norm2 - 1) < 1e-6);
    }
}

/* The last stage's means, scaled. */
static void vectors_are_means_of_the_last_stage(void **state) {
    (void)state;
    static float last[49 * DIM];
    uint32_t shape[3];
    double mean[DIM] = {0}, norm2 = 0;
    assert_int_equal(
        rv_mobilenet_stage(model, &images[1], 12, last, 49 * DIM, shape, NULL), RV_OK);
    for (size_t i = 0; i < 49 * DIM; i++) mean[i % DIM] += (double)last[i] / 49;
    for (size_t j = 0; j < DIM; j++) norm2 += mean[j] * mean[j];
    for (size_t j = 0; j < DIM; j++)
        assert_true(fabs(mean[j] / sqrt(norm2) - (double)alone[1][j]) < 1e-6);
}

static void company_and_threads_change_nothing(void **state) {
    (void)state;
    static const unsigned threads[] = {0, 2, 1, 3, 4, 100};
    assert_int_equal(rv_set_num_threads(4, NULL), RV_OK);
    for (size_t i = 0; i < (small_tests() ? 3 : 6); i++) {
        memset(together, 0xFF, sizeof together);
        assert_int_equal(
            rv_mobilenet_embed(model, images, used, threads[i], together[0], NULL, NULL),
            RV_OK);
        assert_memory_equal(together, alone, used * sizeof alone[0]);
    }
    assert_int_equal(rv_set_num_threads(0, NULL), RV_OK);
}

static void instruction_sets_change_nothing(void **state) {
    (void)state;
    const char *names[8];
    const size_t n = rv_isa_available(names, 8), some = small_tests() ? 1 : N;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rv_isa_force(names[i], NULL), RV_OK);
        memset(together, 0xFF, sizeof together);
        assert_int_equal(
            rv_mobilenet_embed(model, images, some, 0, together[0], NULL, NULL), RV_OK);
        assert_memory_equal(together, alone, some * sizeof alone[0]);
    }
    assert_int_equal(rv_isa_force(NULL, NULL), RV_OK);
}

typedef struct seen {
    uint64_t done, total, stop_at;
    unsigned calls;
} seen;

static int note(void *ctx, uint64_t done, uint64_t total) {
    seen *s = ctx;
    assert_true(done >= s->done);
    s->done = done;
    s->total = total;
    s->calls++;
    return done >= s->stop_at;
}

static void progress_counts_all_images(void **state) {
    (void)state;
    assert_int_equal(rv_set_num_threads(4, NULL), RV_OK);
    for (unsigned threads = 0; threads < (small_tests() ? 2 : 4); threads++) {
        seen s = {.stop_at = UINT64_MAX};
        const rv_progress progress = {note, &s};
        assert_int_equal(rv_mobilenet_embed(model, images, used, threads, together[0],
                                            &progress, NULL),
                         RV_OK);
        assert_int_equal(s.done, used);
        assert_int_equal(s.total, used);
    }
    assert_int_equal(rv_set_num_threads(0, NULL), RV_OK);
}

static void progress_can_cancel(void **state) {
    (void)state;
    seen s = {.stop_at = 0};
    const rv_progress progress = {note, &s};
    rv_error err = {0};
    assert_int_equal(
        rv_mobilenet_embed(model, images, used, 1, together[0], &progress, &err),
        RV_ERR_CANCELLED);
    assert_int_equal(s.calls, 1);
}

static void no_images_are_no_work(void **state) {
    (void)state;
    assert_int_equal(rv_mobilenet_embed(model, NULL, 0, 0, NULL, NULL, NULL), RV_OK);
}

static void an_image_without_pixels_is_refused(void **state) {
    (void)state;
    rv_error err = {0};
    const rv_image some[] = {images[0], {images[0].pixels, 0, 4}};
    assert_int_equal(rv_mobilenet_embed(model, some, 2, 1, together[0], NULL, &err),
                     RV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "an image of 0 x 4 pixels"));
}

static void vectors_that_are_not_finite_are_refused(void **state) {
    (void)state;
    file f = make_weights(1, "features.12.1.bias", VALUE, 3e38f);
    rv_mobilenet *large;
    rv_error err = {0};
    assert_int_equal(rv_mobilenet_from_memory(f.bytes, f.size, &large, NULL), RV_OK);
    assert_int_equal(rv_mobilenet_embed(large, images, 1, 1, together[0], NULL, &err),
                     RV_ERR_VALUE);
    assert_non_null(strstr(err.message, "not finite"));
    rv_mobilenet_free(large);
    free_file(&f);
}

static void stages_need_room(void **state) {
    (void)state;
    uint32_t shape[3];
    float *out = malloc(16 * 56 * 56 * sizeof *out);
    rv_error err = {0};
    assert_non_null(out);
    assert_int_equal(rv_mobilenet_stage(model, &images[0], 1, NULL, 0, shape, NULL),
                     RV_OK);
    assert_int_equal(shape[0] * shape[1] * shape[2], 16 * 56 * 56);
    assert_int_equal(
        rv_mobilenet_stage(model, &images[0], 1, out, 16 * 56 * 56 - 1, shape, &err),
        RV_ERR_LIMIT);
    assert_int_equal(err.expected, 16 * 56 * 56);
    assert_int_equal(rv_mobilenet_stage(model, &images[0], 13, NULL, 0, shape, &err),
                     RV_ERR_ARGUMENT);
    free(out);
}

static void lack_of_memory_is_survived(void **state) {
    (void)state;
    for (size_t n = 1;; n++) {
        rv_mobilenet *fresh = make_model(9); /* has no buffers yet */
        failing_allocator_install(n);
        const rv_status status =
            rv_mobilenet_embed(fresh, images, 1, 1, together[0], NULL, NULL);
        const bool reached = failing_allocator_calls() >= n;
        failing_allocator_remove();
        assert_int_equal(status, reached ? RV_ERR_MEMORY : RV_OK);
        rv_mobilenet_free(fresh);
        if (!reached) break;
        assert_true(n < 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_have_norm_one),
        cmocka_unit_test(vectors_are_means_of_the_last_stage),
        cmocka_unit_test(company_and_threads_change_nothing),
        cmocka_unit_test(instruction_sets_change_nothing),
        cmocka_unit_test(progress_counts_all_images),
        cmocka_unit_test(progress_can_cancel),
        cmocka_unit_test(no_images_are_no_work),
        cmocka_unit_test(an_image_without_pixels_is_refused),
        cmocka_unit_test(vectors_that_are_not_finite_are_refused),
        cmocka_unit_test(stages_need_room),
        cmocka_unit_test(lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
