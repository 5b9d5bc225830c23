/*
 * embed.h - images into vectors: MobileNetV3-Small (Howard et al. 2019,
 * arXiv:1905.02244) without its classifier, reading the weights and preparing images
 * as torchvision does.
 *
 * A vector holds the 576 channel means of the last convolution, scaled to norm 1. It
 * does not depend on the instruction set, on the number of threads or on the other
 * images of a call.
 */
#ifndef RUVECTOR_EMBED_H
#define RUVECTOR_EMBED_H

#include "ruvector/ruvector.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the calls most programs need ------------------------------------------------- */

#define RV_MOBILENET_DIM 576
#define RV_MOBILENET_STAGES 13
#define RV_IMAGE_MAX_SIDE 1000000

/* Pixels of 8-bit red, green and blue, row after row without padding. */
typedef struct rv_image {
    const uint8_t *pixels;  /* height * width * 3 bytes */
    uint32_t height, width; /* 1..RV_IMAGE_MAX_SIDE */
} rv_image;

/* Load, embed, free; a call that fails says why in rv_error.message. */
typedef struct rv_mobilenet rv_mobilenet;

/* Reads a safetensors file with the state dict of torchvision's mobilenet_v3_small:
 * float32 tensors features.0.0.weight, ..., features.12.1.running_var. Others, such as
 * the classifier's, are ignored. Nothing of the file is needed after the call.
 * RV_ERR_FORMAT if it is no safetensors file or a tensor is missing or of another type
 * or shape; RV_ERR_VALUE if a weight is not finite. */
RV_API rv_status rv_mobilenet_load(const char *path, rv_mobilenet **out, rv_error *err);

/* out[i * RV_MOBILENET_DIM ...] is the vector of image i. An image is resized so that
 * its shorter side is 256 (as Pillow does with antialiasing), cropped to the 224 x 224 in
 * the middle and normalized with ImageNet's mean and deviation.
 *
 * At most `threads` threads work at once, the caller included; 0 is as many as are set.
 * A model may be used by several calls at the same time. `progress` (may be NULL) counts
 * images. RV_ERR_ARGUMENT if an image has a side of 0 or above RV_IMAGE_MAX_SIDE;
 * RV_ERR_VALUE if the weights are so large that a vector is not finite. On failure the
 * contents of `out` are undefined. */
RV_API rv_status rv_mobilenet_embed(rv_mobilenet *model, const rv_image *images, size_t n,
                                    unsigned threads, float *out,
                                    const rv_progress *progress, rv_error *err);

RV_API void rv_mobilenet_free(rv_mobilenet *model);

/* ---- advanced: a model in memory, steps to compare -------------------------------- */

/* As rv_mobilenet_load, from memory, at any address. */
RV_API rv_status rv_mobilenet_from_memory(const void *data, uint64_t size,
                                          rv_mobilenet **out, rv_error *err);

/* Output of features[stage] for one image, to compare a conversion step by step: a
 * height x width x channels array, which goes to `out` (NULL: only the shape is wanted)
 * if `capacity` floats hold it; else RV_ERR_LIMIT. */
RV_API rv_status rv_mobilenet_stage(rv_mobilenet *model, const rv_image *image,
                                    unsigned stage, float *out, size_t capacity,
                                    uint32_t shape[3], rv_error *err);

/* What the network is given: 224 x 224 x 3 floats. */
#define RV_IMAGE_PREPARED_FLOATS (224 * 224 * 3)
RV_API rv_status rv_image_prepare(const rv_image *image, float *out, rv_error *err);

#ifdef __cplusplus
}
#endif
#endif
