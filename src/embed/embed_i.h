/*
 * embed_i.h - what the files of this room share: tensors of a safetensors file, and
 * images made ready for the network.
 */
#ifndef RVE_EMBED_I_H
#define RVE_EMBED_I_H

#include "base/base.h"
#include "ruvector/embed.h"

/* ---- safetensors (safetensors.c) ----------------------------------------------- */

#define RVE_MAX_RANK 8u

typedef struct rve_tensor {
    const char *name; /* name_bytes of UTF-8, no terminator */
    size_t name_bytes;
    const char *dtype; /* "F32", ... */
    size_t rank;
    uint64_t shape[RVE_MAX_RANK];
    const uint8_t *data; /* little-endian, at any address */
    size_t bytes;
} rve_tensor;

/* The tensors of a file, by name. */
typedef struct rve_tensors {
    rve_tensor *items;
    size_t n;
    char *header; /* holds the names */
} rve_tensors;

/* Reads the header; the tensors' data stay where they are in `file`, which outlives
 * them. RV_ERR_FORMAT unless every range lies in the file and has the size of its
 * tensor, and the ranges cover what follows the header without gap or overlap. */
rv_status rve_tensors_open(const uint8_t *file, size_t size, rve_tensors *out,
                           rv_error *err) RVB_MUST_CHECK;
void rve_tensors_close(rve_tensors *tensors); /* safe on a zeroed struct */
/* NULL if there is none of that name. */
const rve_tensor *rve_tensors_find(const rve_tensors *tensors, const char *name);

/* ---- images (prepare.c) ---------------------------------------------------------- */

#define RVE_SIDE 224u    /* of the network's input */
#define RVE_SHORTER 256u /* an image's shorter side before the crop */

/* Resizes, crops and normalizes; pixel (y, x) goes to out + y * row_floats + 3 * x. */
rv_status rve_prepare(const rv_image *image, float *out, size_t row_floats,
                      rv_error *err) RVB_MUST_CHECK;

#endif
