/*
 * embed_cases.h - safetensors files made in memory: any header over any data, and the
 * weights of a whole MobileNetV3-Small, one tensor of which may be left out or altered.
 */
#ifndef EMBED_CASES_H
#define EMBED_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "embed/mobilenet_i.h"

/* ---- files ------------------------------------------------------------------------ */

typedef struct file {
    uint8_t *bytes;
    size_t size;
} file;

/* Length, header, then `data_bytes` of data: 0, 1, 2, ... */
static inline file make_file(const char *header, size_t data_bytes) {
    const size_t n = strlen(header);
    file f = {malloc(8 + n + data_bytes), 8 + n + data_bytes};
    assert_non_null(f.bytes);
    for (size_t i = 0; i < 8; i++) f.bytes[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(f.bytes + 8, header, n);
    for (size_t i = 0; i < data_bytes; i++) f.bytes[8 + n + i] = (uint8_t)i;
    return f;
}

static inline void free_file(file *f) { free(f->bytes); }

/* ---- weights ---------------------------------------------------------------------- */

/* What is wrong with one tensor. */
typedef enum fault { NO_FAULT, MISSING, WRONG_DTYPE, WRONG_SHAPE, VALUE } fault;

typedef struct weights_maker {
    char header[64 << 10];
    size_t used, floats;
    float *data;
    uint64_t state;
    const char *name; /* of the tensor with the fault */
    fault fault;
    float value; /* VALUE: its first element */
} weights_maker;

static inline float next_weight(weights_maker *m) { /* in [-1, 1) */
    m->state = m->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(int32_t)(m->state >> 32) * 0x1p-31f;
}

enum { MAX_FLOATS = 1 << 20 };

/* Values in [middle - spread, middle + spread). */
static inline void add_tensor(weights_maker *m, const char *layer, const char *part,
                              unsigned a, unsigned b, unsigned kernel, float middle,
                              float spread) {
    char name[128], shape[64];
    const size_t n = (size_t)a * (b ? (size_t)b * kernel * kernel : 1);
    snprintf(name, sizeof name, "%s.%s", layer, part);
    const bool altered = m->name && strcmp(name, m->name) == 0;
    if (altered && m->fault == MISSING) return;
    if (altered && m->fault == WRONG_SHAPE)
        snprintf(shape, sizeof shape, "1,%zu", n);
    else if (b)
        snprintf(shape, sizeof shape, "%u,%u,%u,%u", a, b, kernel, kernel);
    else
        snprintf(shape, sizeof shape, "%u", a);
    assert_true(m->floats + n <= MAX_FLOATS);
    m->used += (size_t)snprintf(
        m->header + m->used, sizeof m->header - m->used,
        "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
        m->used > 1 ? "," : "", name, altered && m->fault == WRONG_DTYPE ? "I32" : "F32",
        shape, 4 * m->floats, 4 * (m->floats + n));
    assert_true(m->used < sizeof m->header);
    for (size_t i = 0; i < n; i++)
        m->data[m->floats + i] = middle + spread * next_weight(m);
    if (altered && m->fault == VALUE) m->data[m->floats] = m->value;
    m->floats += n;
}

static inline void add_normalized(weights_maker *m, const char *layer, unsigned inputs,
                                  unsigned outputs, unsigned kernel) {
    const unsigned fan_in = inputs * kernel * kernel;
    add_tensor(m, layer, "0.weight", outputs, inputs, kernel, 0,
               fan_in > 100 ? 0.15f : 0.5f);
    add_tensor(m, layer, "1.weight", outputs, 0, 0, 1, 0.2f);
    add_tensor(m, layer, "1.bias", outputs, 0, 0, 0, 0.5f);
    add_tensor(m, layer, "1.running_mean", outputs, 0, 0, 0, 0.3f);
    add_tensor(m, layer, "1.running_var", outputs, 0, 0, 1, 0.5f);
}

static inline void add_gate(weights_maker *m, const char *layer, unsigned wide,
                            unsigned squeeze) {
    add_tensor(m, layer, "fc1.weight", squeeze, wide, 1, 0, 0.1f);
    add_tensor(m, layer, "fc1.bias", squeeze, 0, 0, 0, 0.5f);
    add_tensor(m, layer, "fc2.weight", wide, squeeze, 1, 0, 0.2f);
    add_tensor(m, layer, "fc2.bias", wide, 0, 0, 0, 0.5f);
}

static inline void add_layers(weights_maker *m) {
    static const unsigned blocks[][5] = {
        /* inputs, wide, outputs, squeeze, kernel */
        {16, 16, 16, 8, 3},    {16, 72, 24, 0, 3},   {24, 88, 24, 0, 3},
        {24, 96, 40, 24, 5},   {40, 240, 40, 64, 5}, {40, 240, 40, 64, 5},
        {40, 120, 48, 32, 5},  {48, 144, 48, 40, 5}, {48, 288, 96, 72, 5},
        {96, 576, 96, 144, 5}, {96, 576, 96, 144, 5}};
    char name[64];
    add_normalized(m, "features.0", 3, 16, 3);
    for (unsigned i = 0; i < 11; i++) {
        const unsigned *b = blocks[i];
        unsigned part = 0;
        for (int step = 0; step < 4; step++) {
            if ((step == 0 && b[0] == b[1]) || (step == 2 && b[3] == 0)) continue;
            snprintf(name, sizeof name, "features.%u.block.%u", i + 1, part++);
            if (step == 0) add_normalized(m, name, b[0], b[1], 1);
            if (step == 1) add_normalized(m, name, 1, b[1], b[4]);
            if (step == 2) add_gate(m, name, b[1], b[3]);
            if (step == 3) add_normalized(m, name, b[1], b[2], 1);
        }
    }
    add_normalized(m, "features.12", 96, 576, 1);
    add_tensor(m, "classifier.3", "bias", 10, 0, 0, 0, 1); /* of no interest */
}

/* A file of weights; tensor `name` has the fault. */
static inline file make_weights(uint64_t seed, const char *name, fault what,
                                float value) {
    weights_maker *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->state = seed;
    m->name = name;
    m->fault = what;
    m->value = value;
    m->data = malloc(MAX_FLOATS * sizeof *m->data);
    assert_non_null(m->data);
    m->header[m->used++] = '{';
    add_layers(m);
    m->header[m->used++] = '}';
    file f = make_file(m->header, 4 * m->floats);
    memcpy(f.bytes + 8 + m->used, m->data, 4 * m->floats);
    free(m->data);
    free(m);
    return f;
}

static inline rv_mobilenet *make_model(uint64_t seed) {
    rv_mobilenet *model = NULL;
    rv_error err = {0};
    file f = make_weights(seed, NULL, NO_FAULT, 0);
    const rv_status status = rv_mobilenet_from_memory(f.bytes, f.size, &model, &err);
    free_file(&f);
    if (status != RV_OK) fail_msg("%s", err.message);
    return model;
}

/* Pixels of a seed. */
static inline rv_image make_image(uint64_t seed, uint32_t height, uint32_t width) {
    uint8_t *pixels = malloc((size_t)height * width * 3);
    assert_non_null(pixels);
    for (size_t i = 0; i < (size_t)height * width * 3; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        pixels[i] = (uint8_t)(seed >> 56);
    }
    return (rv_image){pixels, height, width};
}

static inline void free_image(rv_image *image) { free((void *)(uintptr_t)image->pixels); }

static inline bool small_tests(void) { return getenv("RUVECTOR_TEST_SMALL") != NULL; }

#endif
