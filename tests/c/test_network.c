/*
 * test_network.c - the layers in their order, against the network written down plainly:
 * batch norms unfolded, no borders, sums in double. The Python tests compare with ONNX
 * Runtime.
 */
#include "embed_cases.h"

#include <math.h>

/* ---- the plain network ------------------------------------------------------------- */

/* channels x side x side */
typedef struct map {
    size_t channels, side;
    double *data;
} map;

static map make_map(size_t channels, size_t side) {
    map m = {channels, side, calloc(channels * side * side, sizeof(double))};
    assert_non_null(m.data);
    return m;
}

static const rve_tensors *file_tensors;

static float weight(const char *layer, const char *part, size_t i) {
    char name[128];
    float value;
    snprintf(name, sizeof name, "%s.%s", layer, part);
    const rve_tensor *t = rve_tensors_find(file_tensors, name);
    assert_non_null(t);
    memcpy(&value, t->data + 4 * i, sizeof value);
    return value;
}

static double swish(double x) { return x * fmin(fmax(x + 3, 0), 6) / 6; }

static double pixel(const map *m, size_t channel, long y, long x) {
    const long side = (long)m->side;
    if (y < 0 || x < 0 || y >= side || x >= side) return 0;
    return m->data[(channel * m->side + (size_t)y) * m->side + (size_t)x];
}

/* Convolution, batch norm and, unless NULL, an activation. Frees the input. */
static map layer(map in, const char *name, size_t outputs, size_t kernel, size_t stride,
                 bool deep, double (*activation)(double)) {
    map out = make_map(outputs, in.side / stride);
    const size_t inputs = deep ? 1 : in.channels, taps = kernel * kernel;
    float *w = malloc(inputs * taps * sizeof *w);
    assert_non_null(w);
    for (size_t o = 0; o < outputs; o++) {
        const double mean = (double)weight(name, "1.running_mean", o);
        const double factor = (double)weight(name, "1.weight", o) /
                              sqrt((double)weight(name, "1.running_var", o) + 1e-3);
        for (size_t j = 0; j < inputs * taps; j++)
            w[j] = weight(name, "0.weight", o * inputs * taps + j);
        for (size_t at = 0; at < out.side * out.side; at++) {
            const long top = (long)(at / out.side * stride) - (long)kernel / 2;
            const long left = (long)(at % out.side * stride) - (long)kernel / 2;
            double sum = 0;
            for (size_t j = 0; j < inputs * taps; j++) {
                const size_t tap = j % taps, channel = deep ? o : j / taps;
                sum += (double)w[j] * pixel(&in, channel, top + (long)(tap / kernel),
                                            left + (long)(tap % kernel));
            }
            sum = (sum - mean) * factor + (double)weight(name, "1.bias", o);
            out.data[o * out.side * out.side + at] = activation ? activation(sum) : sum;
        }
    }
    free(w);
    free(in.data);
    return out;
}

static double relu(double x) { return fmax(x, 0); }

static void gate(map *m, const char *name, size_t squeeze) {
    const size_t places = m->side * m->side;
    double *mean = calloc(m->channels, sizeof *mean);
    double *small = calloc(squeeze, sizeof *small);
    assert_true(mean && small);
    for (size_t i = 0; i < m->channels * places; i++)
        mean[i / places] += m->data[i] / (double)places;
    for (size_t s = 0; s < squeeze; s++) {
        small[s] = (double)weight(name, "fc1.bias", s);
        for (size_t c = 0; c < m->channels; c++)
            small[s] += (double)weight(name, "fc1.weight", s * m->channels + c) * mean[c];
        small[s] = relu(small[s]);
    }
    for (size_t c = 0; c < m->channels; c++) {
        double sum = (double)weight(name, "fc2.bias", c);
        for (size_t s = 0; s < squeeze; s++)
            sum += (double)weight(name, "fc2.weight", c * squeeze + s) * small[s];
        sum = fmin(fmax(sum + 3, 0), 6) / 6;
        for (size_t i = 0; i < places; i++) m->data[c * places + i] *= sum;
    }
    free(mean);
    free(small);
}

static const size_t blocks[][5] = {/* expanded, outputs, squeeze, kernel, stride */
                                   {16, 16, 8, 3, 2},   {72, 24, 0, 3, 2},
                                   {88, 24, 0, 3, 1},   {96, 40, 24, 5, 2},
                                   {240, 40, 64, 5, 1}, {240, 40, 64, 5, 1},
                                   {120, 48, 32, 5, 1}, {144, 48, 40, 5, 1},
                                   {288, 96, 72, 5, 2}, {576, 96, 144, 5, 1},
                                   {576, 96, 144, 5, 1}};

static map block(map in, size_t i) {
    const size_t *b = blocks[i];
    double (*activation)(double) = i < 3 ? relu : swish;
    char name[64];
    unsigned part = 0;
    map kept = make_map(in.channels, in.side);
    memcpy(kept.data, in.data, in.channels * in.side * in.side * sizeof(double));
#define NAME() snprintf(name, sizeof name, "features.%zu.block.%u", i + 1, part++)
    if (i > 0) {
        NAME();
        in = layer(in, name, b[0], 1, 1, false, activation);
    }
    NAME();
    in = layer(in, name, b[0], b[3], b[4], true, activation);
    if (b[2]) {
        NAME();
        gate(&in, name, b[2]);
    }
    NAME();
    in = layer(in, name, b[1], 1, 1, false, NULL);
    const size_t n = in.channels * in.side * in.side;
    if (kept.channels == in.channels && kept.side == in.side)
        for (size_t j = 0; j < n; j++) in.data[j] += kept.data[j];
    free(kept.data);
    return in;
}

/* ---- comparisons ------------------------------------------------------------------- */

static void compare(rv_mobilenet *model, const rv_image *image, unsigned stage,
                    const map *want) {
    uint32_t shape[3];
    const size_t n = want->channels * want->side * want->side;
    float *got = malloc(n * sizeof *got);
    double largest = 0, off = 0;
    assert_non_null(got);
    assert_int_equal(rv_mobilenet_stage(model, image, stage, got, n, shape, NULL), RV_OK);
    assert_int_equal(shape[0], want->side);
    assert_int_equal(shape[1], want->side);
    assert_int_equal(shape[2], want->channels);
    for (size_t i = 0; i < n; i++) {
        const size_t channel = i % want->channels, place = i / want->channels;
        const double value = want->data[channel * want->side * want->side + place];
        largest = fmax(largest, fabs(value));
        off = fmax(off, fabs(value - (double)got[i]));
    }
    if (!(largest > 1e-3 && off < 1e-5 * largest))
        fail_msg("stage %u is off by %g of %g", stage, off, largest);
    free(got);
}

static void stages_are_those_of_the_plain_network(void **state) {
    (void)state;
    file f = make_weights(4, NULL, NO_FAULT, 0);
    rv_mobilenet *model = make_model(4);
    rv_image image = make_image(6, 250, 231);
    static float prepared[RV_IMAGE_PREPARED_FLOATS];
    rve_tensors tensors;
    assert_int_equal(rve_tensors_open(f.bytes, f.size, &tensors, NULL), RV_OK);
    file_tensors = &tensors;
    assert_int_equal(rv_image_prepare(&image, prepared, NULL), RV_OK);
    map m = make_map(3, 224);
    for (size_t i = 0; i < RV_IMAGE_PREPARED_FLOATS; i++)
        m.data[i % 3 * 224 * 224 + i / 3] = (double)prepared[i];
    m = layer(m, "features.0", 16, 3, 2, false, swish);
    compare(model, &image, 0, &m);
    const unsigned last = small_tests() ? 2 : 11;
    for (unsigned i = 0; i < last; i++) {
        m = block(m, i);
        compare(model, &image, i + 1, &m);
    }
    if (last == 11) {
        m = layer(m, "features.12", 576, 1, 1, false, swish);
        compare(model, &image, 12, &m);
    }
    free(m.data);
    rve_tensors_close(&tensors);
    rv_mobilenet_free(model);
    free_image(&image);
    free_file(&f);
}

/* Borders are set to zero anew: what ran before leaves nothing behind. */
static void buffers_are_used_again(void **state) {
    (void)state;
    rv_mobilenet *model = make_model(4);
    rv_image first = make_image(1, 300, 300), second = make_image(2, 300, 300);
    float before[RV_MOBILENET_DIM], after[RV_MOBILENET_DIM], other[RV_MOBILENET_DIM];
    assert_int_equal(rv_mobilenet_embed(model, &first, 1, 1, before, NULL, NULL), RV_OK);
    const rve_space *space = model->spaces;
    assert_int_equal(rv_mobilenet_embed(model, &second, 1, 1, other, NULL, NULL), RV_OK);
    assert_int_equal(rv_mobilenet_embed(model, &first, 1, 1, after, NULL, NULL), RV_OK);
    assert_ptr_equal(model->spaces, space);
    assert_memory_equal(before, after, sizeof before);
    assert_memory_not_equal(before, other, sizeof before);
    rv_mobilenet_free(model);
    free_image(&first);
    free_image(&second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_are_those_of_the_plain_network),
        cmocka_unit_test(buffers_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
