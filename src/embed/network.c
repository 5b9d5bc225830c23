/*
 * network.c - one pass through MobileNetV3-Small, on one thread and with one set of
 * buffers. Arrays are channels last. What a k x k layer reads has a border of zeros
 * around it, so that its kernel has none to look out for; the layer before writes inside.
 */
#include "embed/mobilenet_i.h"

/* ---- buffers -------------------------------------------------------------------- */

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t bordered(size_t side, unsigned kernel) { return side + kernel - 1; }

/* Floats of each buffer, by walking through the layers. */
typedef struct sizes {
    size_t wide, deep, narrow, gate;
} sizes;

static sizes measure(const rv_mobilenet *m) {
    sizes s = {0};
    size_t side = RVE_SIDE / m->stem.stride;
    for (size_t i = 0; i < RVE_BLOCKS; i++) {
        const rve_layer *d = &m->blocks[i].depthwise;
        const size_t channels = rve_padded(d->outputs);
        const size_t border = bordered(side, d->kernel);
        s.wide = larger(s.wide, border * border * channels);
        side /= d->stride;
        s.deep = larger(s.deep, side * side * channels);
        const size_t outputs = rve_padded(m->blocks[i].project.outputs);
        s.narrow = larger(s.narrow, side * side * outputs);
        s.gate = larger(s.gate, channels);
    }
    s.deep = larger(s.deep, side * side * RV_MOBILENET_DIM); /* the head's */
    return s;
}

void rve_space_free(rve_space *space) { rvb_free(space); }

static rve_space *create_space(const rv_mobilenet *m, rv_error *err) {
    const sizes s = measure(m);
    const size_t image = (RVE_SIDE + 2) * RVE_IMAGE_ROW_FLOATS;
    /* Every part begins at a cache line. */
    const size_t head = rve_padded(sizeof(rve_space) / sizeof(float) + 1);
    const size_t floats = head + rve_padded(image) + rve_padded(s.wide) +
                          rve_padded(s.deep) + 2 * rve_padded(s.narrow) + 2 * s.gate;
    rve_space *space = rvb_alloc(floats, sizeof(float));
    if (!space) {
        rvb_fail_memory(err, floats * sizeof(float));
        return NULL;
    }
    float *at = (float *)(void *)space + head;
    space->image = at;
    memset(at, 0, image * sizeof *at); /* the border, for good */
    space->wide = at += rve_padded(image);
    space->deep = at += rve_padded(s.wide);
    space->narrow[0] = at += rve_padded(s.deep);
    space->narrow[1] = at += rve_padded(s.narrow);
    space->gate[0] = at += rve_padded(s.narrow);
    space->gate[1] = at + s.gate;
    return space;
}

rv_status rve_space_take(rv_mobilenet *model, rve_space **out, rv_error *err) {
    rvb_mutex_lock(model->lock);
    *out = model->spaces;
    if (*out) model->spaces = (*out)->next;
    rvb_mutex_unlock(model->lock);
    if (!*out) *out = create_space(model, err);
    return *out ? RV_OK : RV_ERR_MEMORY;
}

void rve_space_give(rv_mobilenet *model, rve_space *space) {
    rvb_mutex_lock(model->lock);
    space->next = model->spaces;
    model->spaces = space;
    rvb_mutex_unlock(model->lock);
}

/* ---- layers --------------------------------------------------------------------- */

/* A square channels-last array, possibly the inside of a larger one. */
typedef struct plane {
    float *data;
    size_t side, channels, row; /* row: floats from one row to the next */
} plane;

static plane whole(float *data, size_t side, unsigned channels) {
    const size_t padded = rve_padded(channels);
    return (plane){data, side, padded, side * padded};
}

/* The inside of `data` with the border a kernel needs, which is set to zero. */
static plane inside(float *data, size_t side, unsigned channels, unsigned kernel) {
    const size_t padded = rve_padded(channels), border = kernel / 2;
    const size_t row = bordered(side, kernel) * padded;
    const size_t first = border * (row + padded); /* floats before the inside */
    const size_t between = 2 * border * padded;   /* from one row's end to the next row */
    memset(data, 0, first * sizeof *data);
    for (size_t y = 0; y + 1 < side; y++)
        memset(data + first + y * row + side * padded, 0, between * sizeof *data);
    memset(data + first + (side - 1) * row + side * padded, 0, first * sizeof *data);
    return (plane){data + first, side, padded, row};
}

static rvk_conv describe(const rve_layer *layer, plane in, plane out) {
    const size_t border = layer->kernel / 2;
    return (rvk_conv){
        .x = in.data - border * (in.row + in.channels),
        .x_col = layer->stride * in.channels,
        .x_row = layer->stride * in.row,
        .runs = layer->kernel,
        .run = (size_t)layer->kernel * layer->inputs,
        .x_run = in.row,
        .weights = layer->weights,
        .bias = layer->bias,
        .out = out.data,
        .out_col = out.channels,
        .out_row = out.row,
        .rows = out.side,
        .cols = out.side,
        .channels = out.channels,
        .activation = layer->activation,
    };
}

/* 1 x 1: places in one line, unless the output has a border, make the fullest tiles. */
static void pointwise(const rve_layer *layer, plane in, const float *add, plane out) {
    rvk_conv c = describe(layer, in, out);
    c.add = add;
    if (out.row == out.side * out.channels) {
        c.cols = out.side * out.side;
        c.rows = 1;
    }
    rvk_ops_active()->conv(&c);
}

static void depthwise(const rve_layer *layer, plane in, plane out) {
    rvk_conv c = describe(layer, in, out);
    c.run = layer->kernel;
    rvk_ops_active()->depthwise(&c);
}

/* Squeeze-and-excite: channels weighed by what two small layers make of their means. */
static void weigh(const rve_block *b, const rve_space *space, plane p) {
    const rvk_ops *ops = rvk_ops_active();
    const size_t places = p.side * p.side;
    ops->channel_mean(p.data, places, p.channels, space->gate[0]);
    pointwise(&b->squeeze, whole(space->gate[0], 1, b->squeeze.inputs), NULL,
              whole(space->gate[1], 1, b->squeeze.outputs));
    pointwise(&b->excite, whole(space->gate[1], 1, b->excite.inputs), NULL,
              whole(space->gate[0], 1, b->excite.outputs));
    ops->channel_scale(p.data, places, p.channels, space->gate[0]);
}

/* ---- the network ---------------------------------------------------------------- */

/* `in` is narrow, or the wide plane itself if the block does not expand. */
static plane run_block(const rve_block *b, const rve_space *space, plane in, float *to) {
    plane wide = in;
    if (b->expands) {
        wide = inside(space->wide, in.side, b->expand.outputs, b->depthwise.kernel);
        pointwise(&b->expand, in, NULL, wide);
    }
    const size_t side = in.side / b->depthwise.stride;
    const plane deep = whole(space->deep, side, b->depthwise.outputs);
    const plane out = whole(to, side, b->project.outputs);
    depthwise(&b->depthwise, wide, deep);
    if (b->weighs) weigh(b, space, deep);
    pointwise(&b->project, deep, b->adds ? in.data : NULL, out);
    return out;
}

static void run_stem(const rve_layer *stem, const rve_space *space, plane out) {
    const plane image = {rve_image_start(space), RVE_SIDE, 3, RVE_IMAGE_ROW_FLOATS};
    const rvk_conv c = describe(stem, image, out);
    rvk_ops_active()->conv(&c);
}

void rve_network_run(const rv_mobilenet *m, rve_space *space, unsigned last,
                     rve_stage *out) {
    plane p = inside(space->wide, RVE_SIDE / m->stem.stride, m->stem.outputs,
                     m->blocks[0].depthwise.kernel);
    unsigned channels = m->stem.outputs;
    run_stem(&m->stem, space, p);
    for (unsigned i = 0; i < RVE_BLOCKS && i < last; i++) {
        p = run_block(&m->blocks[i], space, p, space->narrow[i % 2]);
        channels = m->blocks[i].project.outputs;
    }
    if (last > RVE_BLOCKS) {
        const plane head = whole(space->deep, p.side, m->head.outputs);
        pointwise(&m->head, p, NULL, head);
        p = head;
        channels = m->head.outputs;
    }
    *out = (rve_stage){p.data, p.side, channels, p.row, p.channels};
}
