/*
 * mobilenet.c - MobileNetV3-Small from torchvision's state dict. The table of blocks is
 * table 2 of Howard et al. 2019 (arXiv:1905.02244) as torchvision builds it: the width
 * of a squeeze is a quarter of the channels, rounded to a multiple of 8.
 *
 * Batch normalization has fixed statistics here and is folded into the convolution before
 * it: w' = w * gamma / sqrt(variance + 0.001), b' = beta - mean * gamma / sqrt(...).
 */
#include "embed/mobilenet_i.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define EPSILON 0.001 /* of torchvision's batch norms */
#define NAME_BYTES 64

static const struct {
    uint16_t inputs, wide, outputs, squeeze; /* 0: no squeeze-and-excite */
    uint8_t kernel, stride;
    rvk_activation activation;
} shapes[RVE_BLOCKS] = {
    {16, 16, 16, 8, 3, 2, RVK_RELU},          {16, 72, 24, 0, 3, 2, RVK_RELU},
    {24, 88, 24, 0, 3, 1, RVK_RELU},          {24, 96, 40, 24, 5, 2, RVK_HARD_SWISH},
    {40, 240, 40, 64, 5, 1, RVK_HARD_SWISH},  {40, 240, 40, 64, 5, 1, RVK_HARD_SWISH},
    {40, 120, 48, 32, 5, 1, RVK_HARD_SWISH},  {48, 144, 48, 40, 5, 1, RVK_HARD_SWISH},
    {48, 288, 96, 72, 5, 2, RVK_HARD_SWISH},  {96, 576, 96, 144, 5, 1, RVK_HARD_SWISH},
    {96, 576, 96, 144, 5, 1, RVK_HARD_SWISH},
};

/* ---- reading tensors ------------------------------------------------------------ */

static void write_shape(char *text, size_t room, const uint64_t *shape, size_t rank) {
    size_t used = (size_t)snprintf(text, room, "[");
    for (size_t i = 0; i < rank && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%" PRIu64, i ? ", " : "",
                                 shape[i]);
    if (used < room) snprintf(text + used, room - used, "]");
}

static rv_status wrong_shape(const char *name, const rve_tensor *t, const uint64_t *shape,
                             size_t rank, rv_error *err) {
    char found[64], wanted[64];
    write_shape(found, sizeof found, t->shape, t->rank);
    write_shape(wanted, sizeof wanted, shape, rank);
    return rvb_fail(err, RV_ERR_FORMAT,
                    "tensor %s has shape %s, expected %s as in mobilenet_v3_small", name,
                    found, wanted);
}

/* The tensor <layer>.<part>. */
static rv_status find(const rve_tensors *tensors, const char *layer, const char *part,
                      const uint64_t *shape, size_t rank, const uint8_t **data,
                      rv_error *err) {
    char name[2 * NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", layer, part);
    const rve_tensor *t = rve_tensors_find(tensors, name);
    if (!t)
        return rvb_fail(err, RV_ERR_FORMAT,
                        "tensor %s is missing: these are not the weights of "
                        "torchvision's mobilenet_v3_small",
                        name);
    if (strcmp(t->dtype, "F32") != 0)
        return rvb_fail(err, RV_ERR_FORMAT,
                        "tensor %s has dtype %s, expected F32: save the state dict of "
                        "model.float()",
                        name, t->dtype);
    if (t->rank != rank || memcmp(t->shape, shape, rank * sizeof *shape) != 0)
        return wrong_shape(name, t, shape, rank, err);
    *data = t->data;
    return RV_OK;
}

static double value_at(const uint8_t *data, size_t i) {
    const uint32_t bits = rvb_get_u32(data + 4 * i);
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* ---- layers --------------------------------------------------------------------- */

/* Inputs of one output. */
static size_t fan_in(const rve_layer *layer) {
    const size_t taps = (size_t)layer->kernel * layer->kernel;
    return layer->inputs > 0 ? taps * layer->inputs : taps;
}

static size_t layer_floats(const rve_layer *layer) {
    return rve_padded(layer->outputs) * (fan_in(layer) + 1);
}

/* Where input channel i and tap `tap` of an output's weights are kept. */
static size_t weight_at(const rve_layer *layer, size_t output, size_t i, size_t tap) {
    if (layer->inputs == 0) return tap * rve_padded(layer->outputs) + output;
    const size_t j = tap * layer->inputs + i;
    return (output / RVK_CHANNELS * fan_in(layer) + j) * RVK_CHANNELS +
           output % RVK_CHANNELS;
}

/* What batch normalization, or a bias alone, makes of an output. */
typedef struct affine {
    const uint8_t *gamma, *beta, *mean, *variance; /* beta alone: a bias */
} affine;

static rv_status find_affine(const rve_tensors *tensors, const char *name,
                             bool normalized, uint64_t outputs, affine *out,
                             rv_error *err) {
    *out = (affine){0};
    if (!normalized) return find(tensors, name, "bias", &outputs, 1, &out->beta, err);
    RVB_TRY(find(tensors, name, "1.weight", &outputs, 1, &out->gamma, err));
    RVB_TRY(find(tensors, name, "1.bias", &outputs, 1, &out->beta, err));
    RVB_TRY(find(tensors, name, "1.running_mean", &outputs, 1, &out->mean, err));
    return find(tensors, name, "1.running_var", &outputs, 1, &out->variance, err);
}

/* Folds the tensors of a layer into `room`, which is zero. */
static rv_status load_layer(const rve_tensors *tensors, const char *name, bool normalized,
                            rve_layer *layer, float **room, rv_error *err) {
    const size_t taps = (size_t)layer->kernel * layer->kernel;
    const size_t inputs = layer->inputs > 0 ? layer->inputs : 1;
    const uint64_t shape[] = {layer->outputs, inputs, layer->kernel, layer->kernel};
    float *weights = *room, *bias = weights + rve_padded(layer->outputs) * fan_in(layer);
    const uint8_t *data;
    affine a;
    RVB_TRY(
        find(tensors, name, normalized ? "0.weight" : "weight", shape, 4, &data, err));
    RVB_TRY(find_affine(tensors, name, normalized, layer->outputs, &a, err));
    bool finite = true;
    for (size_t o = 0; o < layer->outputs; o++) {
        double factor = 1.0, shift = value_at(a.beta, o);
        if (normalized) {
            factor = value_at(a.gamma, o) / sqrt(value_at(a.variance, o) + EPSILON);
            shift -= value_at(a.mean, o) * factor;
        }
        bias[o] = (float)shift;
        finite = finite && isfinite(bias[o]);
        for (size_t i = 0; i < inputs * taps; i++) {
            const double w = value_at(data, o * inputs * taps + i) * factor;
            float *to = &weights[weight_at(layer, o, i / taps, i % taps)];
            *to = (float)w;
            finite = finite && isfinite(*to);
        }
    }
    if (!finite)
        return rvb_fail(err, RV_ERR_VALUE,
                        "the weights of %s hold NaN, infinity or a negative variance",
                        name);
    layer->weights = weights;
    layer->bias = bias;
    *room += layer_floats(layer);
    return RV_OK;
}

/* ---- the network ---------------------------------------------------------------- */

static rve_layer make_layer(unsigned inputs, unsigned outputs, unsigned kernel,
                            unsigned stride, rvk_activation activation) {
    return (rve_layer){inputs, outputs, kernel, stride, activation, NULL, NULL};
}

static void make_block(size_t i, rve_block *b) {
    const unsigned in = shapes[i].inputs, wide = shapes[i].wide;
    const unsigned out = shapes[i].outputs, squeeze = shapes[i].squeeze;
    const rvk_activation activation = shapes[i].activation;
    b->expands = wide != in;
    b->weighs = squeeze > 0;
    b->adds = shapes[i].stride == 1 && in == out;
    b->expand = make_layer(in, wide, 1, 1, activation);
    b->depthwise = make_layer(0, wide, shapes[i].kernel, shapes[i].stride, activation);
    b->squeeze = make_layer(wide, squeeze, 1, 1, RVK_RELU);
    b->excite = make_layer(squeeze, wide, 1, 1, RVK_HARD_SIGMOID);
    b->project = make_layer(wide, out, 1, 1, RVK_LINEAR);
}

static size_t block_floats(const rve_block *b) {
    return (b->expands ? layer_floats(&b->expand) : 0) + layer_floats(&b->depthwise) +
           (b->weighs ? layer_floats(&b->squeeze) + layer_floats(&b->excite) : 0) +
           layer_floats(&b->project);
}

static void make_layers(rv_mobilenet *m) {
    m->stem = make_layer(3, 16, 3, 2, RVK_HARD_SWISH);
    for (size_t i = 0; i < RVE_BLOCKS; i++) make_block(i, &m->blocks[i]);
    m->head = make_layer(96, RV_MOBILENET_DIM, 1, 1, RVK_HARD_SWISH);
}

static rv_status load_block(const rve_tensors *tensors, size_t i, rve_block *b,
                            float **room, rv_error *err) {
    char name[NAME_BYTES];
    unsigned part = 0;
#define NEXT(suffix)                                                                     \
    snprintf(name, sizeof name, "features.%zu.block.%u%s", i + 1, part, suffix)
    if (b->expands) {
        NEXT("");
        RVB_TRY(load_layer(tensors, name, true, &b->expand, room, err));
        part++;
    }
    NEXT("");
    RVB_TRY(load_layer(tensors, name, true, &b->depthwise, room, err));
    part++;
    if (b->weighs) {
        NEXT(".fc1");
        RVB_TRY(load_layer(tensors, name, false, &b->squeeze, room, err));
        NEXT(".fc2");
        RVB_TRY(load_layer(tensors, name, false, &b->excite, room, err));
        part++;
    }
    NEXT("");
#undef NEXT
    return load_layer(tensors, name, true, &b->project, room, err);
}

static rv_status load_layers(const rve_tensors *tensors, rv_mobilenet *m, rv_error *err) {
    float *room = m->weights;
    RVB_TRY(load_layer(tensors, "features.0", true, &m->stem, &room, err));
    for (size_t i = 0; i < RVE_BLOCKS; i++)
        RVB_TRY(load_block(tensors, i, &m->blocks[i], &room, err));
    return load_layer(tensors, "features.12", true, &m->head, &room, err);
}

static rv_status create(const rve_tensors *tensors, rv_mobilenet **out, rv_error *err) {
    rv_mobilenet *m = rvb_alloc_zero(1, sizeof *m);
    if (!m) return rvb_fail_memory(err, sizeof *m);
    make_layers(m);
    size_t floats = layer_floats(&m->stem) + layer_floats(&m->head);
    for (size_t i = 0; i < RVE_BLOCKS; i++) floats += block_floats(&m->blocks[i]);
    m->weights = rvb_alloc_zero(floats, sizeof *m->weights);
    m->lock = rvb_mutex_create();
    rv_status status = m->weights && m->lock
                           ? load_layers(tensors, m, err)
                           : rvb_fail_memory(err, floats * sizeof *m->weights);
    if (status == RV_OK)
        *out = m;
    else
        rv_mobilenet_free(m);
    return status;
}

rv_status rv_mobilenet_from_memory(const void *data, uint64_t size, rv_mobilenet **out,
                                   rv_error *err) {
    rve_tensors tensors;
    *out = NULL;
    if (size > SIZE_MAX)
        return rvb_fail_numbers(
            err, RV_ERR_LIMIT, SIZE_MAX, size,
            "%" PRIu64 " bytes are more than this process can address", size);
    RVB_TRY(rve_tensors_open(data, (size_t)size, &tensors, err));
    rv_status status = create(&tensors, out, err);
    rve_tensors_close(&tensors);
    return status;
}

rv_status rv_mobilenet_load(const char *path, rv_mobilenet **out, rv_error *err) {
    rvb_bytes file;
    *out = NULL;
    RVB_TRY(rvb_file_open(path, false, &file, err));
    rv_status status = rv_mobilenet_from_memory(file.data, file.size, out, err);
    rvb_file_close(&file);
    return status;
}

void rv_mobilenet_free(rv_mobilenet *model) {
    if (!model) return;
    while (model->spaces) {
        rve_space *next = model->spaces->next;
        rve_space_free(model->spaces);
        model->spaces = next;
    }
    rvb_mutex_free(model->lock);
    rvb_free(model->weights);
    rvb_free(model);
}
