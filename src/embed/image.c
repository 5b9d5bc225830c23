/*
 * image.c - images to vectors: prepare, run, average, scale to norm 1. Threads share
 * the images of a call; each has buffers of its own.
 */
#include "embed/mobilenet_i.h"

#include <inttypes.h>
#include <math.h>

static rv_status prepare(rv_mobilenet *model, const rv_image *image, rve_space **space,
                         rv_error *err) {
    RVB_TRY(rve_space_take(model, space, err));
    rv_status status =
        rve_prepare(image, rve_image_start(*space), RVE_IMAGE_ROW_FLOATS, err);
    if (status != RV_OK) rve_space_give(model, *space);
    return status;
}

/* Sums in double, of squares that are exact there and in one order: the same bits
 * everywhere. */
static rv_status normalize(float *v, rv_error *err) {
    double norm2 = 0.0;
    for (size_t i = 0; i < RV_MOBILENET_DIM; i++) norm2 += (double)v[i] * (double)v[i];
    if (!(norm2 < (double)INFINITY)) /* or it is no number */
        return rvb_fail(err, RV_ERR_VALUE,
                        "the vector of an image is not finite: the model's weights are "
                        "too large");
    const double scale = norm2 > 0.0 ? 1.0 / sqrt(norm2) : 0.0;
    for (size_t i = 0; i < RV_MOBILENET_DIM; i++) v[i] = (float)((double)v[i] * scale);
    return RV_OK;
}

typedef struct embed_job {
    rv_mobilenet *model;
    const rv_image *images;
    float *out;
} embed_job;

static rv_status embed_some(void *ctx, unsigned worker, size_t begin, size_t end,
                            rv_error *err) {
    (void)worker;
    const embed_job *job = ctx;
    for (size_t i = begin; i < end; i++) {
        float *out = job->out + i * RV_MOBILENET_DIM;
        rve_space *space;
        rve_stage last;
        RVB_TRY(prepare(job->model, &job->images[i], &space, err));
        rve_network_run(job->model, space, RV_MOBILENET_STAGES - 1, &last);
        rvk_ops_active()->channel_mean(last.data, last.side * last.side, last.channels,
                                       out);
        rve_space_give(job->model, space);
        RVB_TRY(normalize(out, err));
    }
    return RV_OK;
}

/* Progress over a part of the images, as the caller wants it: over all. */
typedef struct part {
    const rv_progress *progress;
    size_t before, total;
} part;

static int report_part(void *ctx, uint64_t done, uint64_t n) {
    const part *p = ctx;
    (void)n;
    return p->progress->report(p->progress->ctx, p->before + done, p->total);
}

/* The pool has no limit below its own: fewer threads get as many images at a time. */
static rv_status embed_in_parts(rvb_pool *pool, size_t n, size_t at_once, embed_job *job,
                                const rv_progress *progress, rv_error *err) {
    const embed_job whole = *job;
    part p = {progress, 0, n};
    const rv_progress partial = {report_part, &p};
    for (; p.before < n; p.before += at_once) {
        const size_t count = n - p.before < at_once ? n - p.before : at_once;
        job->images = whole.images + p.before;
        job->out = whole.out + p.before * RV_MOBILENET_DIM;
        RVB_TRY(rvb_pool_for(pool, count, 1, embed_some, job, progress ? &partial : NULL,
                             err));
    }
    return RV_OK;
}

rv_status rv_mobilenet_embed(rv_mobilenet *model, const rv_image *images, size_t n,
                             unsigned threads, float *out, const rv_progress *progress,
                             rv_error *err) {
    embed_job job = {model, images, out};
    rvb_pool *pool = threads == 1 ? NULL : rvb_pool_acquire();
    const bool limited = threads > 1 && threads < rvb_pool_workers(pool);
    rv_status status =
        embed_in_parts(pool, n, limited ? threads : n, &job, progress, err);
    if (pool) rvb_pool_release(pool);
    return status;
}

rv_status rv_mobilenet_stage(rv_mobilenet *model, const rv_image *image, unsigned stage,
                             float *out, size_t capacity, uint32_t shape[3],
                             rv_error *err) {
    rve_space *space;
    rve_stage s;
    if (stage >= RV_MOBILENET_STAGES)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RV_MOBILENET_STAGES - 1, stage,
                                "stage %u: there are 0 to %d", stage,
                                RV_MOBILENET_STAGES - 1);
    RVB_TRY(prepare(model, image, &space, err));
    rve_network_run(model, space, stage, &s);
    shape[0] = shape[1] = (uint32_t)s.side;
    shape[2] = (uint32_t)s.channels;
    const size_t floats = s.side * s.side * s.channels;
    rv_status status = RV_OK;
    if (out && capacity < floats)
        status = rvb_fail_numbers(err, RV_ERR_LIMIT, floats, capacity,
                                  "stage %u has %zu values, the array holds %zu", stage,
                                  floats, capacity);
    for (size_t i = 0; out && status == RV_OK && i < s.side * s.side; i++)
        memcpy(out + i * s.channels,
               s.data + i / s.side * s.row_floats + i % s.side * s.place_floats,
               s.channels * sizeof *out);
    rve_space_give(model, space);
    return status;
}
