/*
 * test_mobilenet.c - which files are taken for the network's weights, and how batch
 * normalization is folded in.
 */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "embed_cases.h"
#include "failing_allocator.h"
#include "test_folder.h"

#include <math.h>

static void a_whole_file_is_taken(void **state) {
    (void)state;
    rv_mobilenet *model = make_model(1);
    assert_int_equal(model->stem.outputs, 16);
    assert_true(model->blocks[10].weighs && model->blocks[10].adds);
    rv_mobilenet_free(model);
    rv_mobilenet_free(NULL);
}

static void bytes_may_lie_anywhere(void **state) {
    (void)state;
    file f = make_weights(1, NULL, NO_FAULT, 0);
    uint8_t *moved = malloc(f.size + 1);
    rv_mobilenet *a, *b;
    assert_non_null(moved);
    memcpy(moved + 1, f.bytes, f.size);
    assert_int_equal(rv_mobilenet_from_memory(f.bytes, f.size, &a, NULL), RV_OK);
    assert_int_equal(rv_mobilenet_from_memory(moved + 1, f.size, &b, NULL), RV_OK);
    assert_memory_equal(a->head.weights, b->head.weights, 96 * 576 * sizeof(float));
    free(moved);
    free_file(&f);
    rv_mobilenet_free(a);
    rv_mobilenet_free(b);
}

/* Tensor `name` of a file, for comparisons. */
static float given(const rve_tensors *t, const char *name, size_t i) {
    float value;
    const rve_tensor *found = rve_tensors_find(t, name);
    assert_non_null(found);
    memcpy(&value, found->data + 4 * i, sizeof value);
    return value;
}

/* Layer features.9.block.1 (depthwise, 288 channels) and features.12 (96 to 576). */
static void norms_are_folded_in(void **state) {
    (void)state;
    file f = make_weights(1, NULL, NO_FAULT, 0);
    rv_mobilenet *model = make_model(1);
    rve_tensors t;
    assert_int_equal(rve_tensors_open(f.bytes, f.size, &t, NULL), RV_OK);
    for (size_t c = 0; c < 288; c++) {
        const double factor =
            (double)given(&t, "features.9.block.1.1.weight", c) /
            sqrt((double)given(&t, "features.9.block.1.1.running_var", c) + 0.001);
        const rve_layer *layer = &model->blocks[8].depthwise;
        for (size_t tap = 0; tap < 25; tap++) {
            const float w = given(&t, "features.9.block.1.0.weight", c * 25 + tap);
            assert_true(layer->weights[tap * 288 + c] == (float)((double)w * factor));
        }
        const double shift =
            (double)given(&t, "features.9.block.1.1.bias", c) -
            (double)given(&t, "features.9.block.1.1.running_mean", c) * factor;
        assert_true(layer->bias[c] == (float)shift);
    }
    for (size_t c = 0; c < 576; c++) {
        const double factor =
            (double)given(&t, "features.12.1.weight", c) /
            sqrt((double)given(&t, "features.12.1.running_var", c) + 0.001);
        for (size_t i = 0; i < 96; i++) {
            const float w = given(&t, "features.12.0.weight", c * 96 + i);
            const size_t at = (c / 16 * 96 + i) * 16 + c % 16;
            assert_true(model->head.weights[at] == (float)((double)w * factor));
        }
    }
    rve_tensors_close(&t);
    rv_mobilenet_free(model);
    free_file(&f);
}

static void channels_that_fill_up_a_group_have_no_weight(void **state) {
    (void)state;
    rv_mobilenet *model = make_model(1);
    const rve_layer *layer = &model->blocks[1].expand; /* 16 to 72 */
    for (size_t i = 0; i < 16; i++)
        for (size_t c = 72; c < 80; c++)
            assert_true(layer->weights[(c / 16 * 16 + i) * 16 + c % 16] == 0.0f);
    for (size_t c = 72; c < 80; c++) assert_true(layer->bias[c] == 0.0f);
    rv_mobilenet_free(model);
}

static void other_weights_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        fault fault;
        float value;
        rv_status status;
        const char *says;
    } cases[] = {
        {"features.0.0.weight", MISSING, 0, RV_ERR_FORMAT,
         "features.0.0.weight is missing"},
        {"features.12.1.running_var", MISSING, 0, RV_ERR_FORMAT,
         "running_var is missing"},
        {"features.4.block.2.fc1.bias", MISSING, 0, RV_ERR_FORMAT, "fc1.bias is missing"},
        {"features.11.block.3.0.weight", WRONG_DTYPE, 0, RV_ERR_FORMAT,
         "has dtype I32, expected F32"},
        {"features.2.block.1.0.weight", WRONG_SHAPE, 0, RV_ERR_FORMAT,
         "has shape [1, 648], expected [72, 1, 3, 3]"},
        {"features.1.block.0.1.bias", WRONG_SHAPE, 0, RV_ERR_FORMAT,
         "has shape [1, 16], expected [16]"},
        {"features.3.block.0.0.weight", VALUE, NAN, RV_ERR_VALUE, "features.3.block.0 "},
        {"features.3.block.0.1.bias", VALUE, INFINITY, RV_ERR_VALUE, "infinity"},
        {"features.5.block.1.1.running_var", VALUE, -1, RV_ERR_VALUE,
         "negative variance"},
        {"features.5.block.2.fc2.weight", VALUE, NAN, RV_ERR_VALUE,
         "features.5.block.2.fc2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rv_mobilenet *model = (rv_mobilenet *)&model;
        rv_error err = {0};
        file f = make_weights(2, cases[i].name, cases[i].fault, cases[i].value);
        const rv_status status = rv_mobilenet_from_memory(f.bytes, f.size, &model, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("%s: %d, %s", cases[i].name, (int)status, err.message);
        assert_null(model);
        free_file(&f);
    }
}

static void files_are_read(void **state) {
    (void)state;
    char path[PATH_BYTES];
    file f = make_weights(1, NULL, NO_FAULT, 0);
    rv_mobilenet *model;
    rv_error err = {0};
    in_folder(path, "model.safetensors");
    assert_int_equal(write_file(path, NULL, 0), 0);
    assert_int_equal(rv_mobilenet_load(path, &model, &err), RV_ERR_FORMAT); /* empty */
    assert_int_equal(write_file(path, f.bytes, f.size), 0);
    assert_int_equal(rv_mobilenet_load(path, &model, &err), RV_OK);
    rv_mobilenet_free(model);
    remove(path);
    assert_int_equal(rv_mobilenet_load(path, &model, &err), RV_ERR_IO);
    assert_null(model);
    assert_string_equal(err.path, path);
    free_file(&f);
}

static void lack_of_memory_is_survived(void **state) {
    (void)state;
    file f = make_weights(1, NULL, NO_FAULT, 0);
    for (size_t n = 1;; n++) {
        rv_mobilenet *model;
        failing_allocator_install(n);
        const rv_status status = rv_mobilenet_from_memory(f.bytes, f.size, &model, NULL);
        const bool reached = failing_allocator_calls() >= n;
        assert_int_equal(status, reached ? RV_ERR_MEMORY : RV_OK);
        rv_mobilenet_free(model);
        assert_int_equal(failing_allocator_live(), 0);
        failing_allocator_remove();
        if (!reached) break;
        assert_true(n < 20);
    }
    free_file(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_is_taken),
        cmocka_unit_test(bytes_may_lie_anywhere),
        cmocka_unit_test(norms_are_folded_in),
        cmocka_unit_test(channels_that_fill_up_a_group_have_no_weight),
        cmocka_unit_test(other_weights_are_refused),
        IN_FOLDER(files_are_read),
        cmocka_unit_test(lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
