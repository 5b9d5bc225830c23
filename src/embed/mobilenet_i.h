/*
 * mobilenet_i.h - MobileNetV3-Small in memory: its layers with batch-norm folded in and
 * weights in the order of the kernels.
 */
#ifndef RVE_MOBILENET_I_H
#define RVE_MOBILENET_I_H

#include "embed/embed_i.h"
#include "kernel/kernel.h"

#define RVE_BLOCKS 11u

/* Channels are padded to whole groups with zero weights; an activation keeps 0. */
static inline size_t rve_padded(size_t channels) {
    return (channels + RVK_CHANNELS - 1) / RVK_CHANNELS * RVK_CHANNELS;
}

typedef struct rve_layer {
    unsigned inputs, outputs; /* channels; inputs is 0 where each has its own */
    unsigned kernel, stride;
    rvk_activation activation;
    const float *weights, *bias;
} rve_layer;

/* An inverted residual block: up to the wide channels, along them, weigh them, down. */
typedef struct rve_block {
    rve_layer expand, depthwise, squeeze, excite, project;
    bool expands, weighs, adds; /* adds: the input is added to the output */
} rve_block;

typedef struct rve_space rve_space;

struct rv_mobilenet {
    rve_layer stem, head;
    rve_block blocks[RVE_BLOCKS];
    float *weights;    /* of all layers */
    rvb_mutex *lock;   /* guards `spaces` */
    rve_space *spaces; /* free ones */
};

/* ---- memory of one run (network.c) ------------------------------------------------ */

struct rve_space {
    rve_space *next;
    float *image;     /* prepared, with a border of zeros */
    float *wide;      /* a layer's input, with a border of zeros */
    float *deep;      /* output of a depthwise layer */
    float *narrow[2]; /* input and output of a block, in turn */
    float *gate[2];   /* one value a channel */
};

/* From the model's free ones, or new. */
rv_status rve_space_take(rv_mobilenet *model, rve_space **out,
                         rv_error *err) RVB_MUST_CHECK;
void rve_space_give(rv_mobilenet *model, rve_space *space);
void rve_space_free(rve_space *space); /* NULL is fine */

/* What a stage gives: the place of a channels-last array in the space. */
typedef struct rve_stage {
    const float *data;
    size_t side, channels; /* height = width = side */
    size_t row_floats, place_floats;
} rve_stage;

/* Runs the network on space->image up to and including features[last]. */
void rve_network_run(const rv_mobilenet *model, rve_space *space, unsigned last,
                     rve_stage *out);
/* Where a prepared image goes, and the floats of one of its rows. */
#define RVE_IMAGE_ROW_FLOATS ((size_t)(RVE_SIDE + 2) * 3)
static inline float *rve_image_start(const rve_space *space) {
    return space->image + RVE_IMAGE_ROW_FLOATS + 3;
}

#endif
