/*
 * test_conv.c - the convolutions of the scalar table against plain sums in double, and
 * every table this machine can run against the scalar one, bit for bit.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "kernel_cases.h"

#include <math.h>
#include <stdlib.h>

/* One problem: a grid with a border of its own, arrays that end at a protected page. */
typedef struct problem {
    rvk_conv conv;
    bool deep;     /* each channel has inputs of its own */
    size_t inputs; /* channels of the input */
    size_t kernel, stride;
    fence x, weights, bias, add;
    size_t out_floats;
} problem;

static fence filled(uint64_t *rng, int kind, size_t n) {
    fence f = fence_open(n * sizeof(float));
    fill_floats(rng, kind, fence_floats(&f, n), n);
    return f;
}

static problem make_problem(uint64_t *rng, int kind, bool deep, size_t kernel,
                            size_t stride, size_t inputs, size_t channels, size_t rows,
                            size_t cols, bool adds, rvk_activation activation) {
    problem p = {.deep = deep, .kernel = kernel, .stride = stride};
    p.inputs = deep ? channels : inputs;
    const size_t width = (cols - 1) * stride + kernel;
    const size_t height = (rows - 1) * stride + kernel;
    const size_t x_floats = height * width * p.inputs;
    const size_t weights = (deep ? 1 : p.inputs) * kernel * kernel * channels;
    p.out_floats = rows * cols * channels;
    p.x = filled(rng, kind, x_floats);
    p.weights = filled(rng, kind, weights);
    p.bias = filled(rng, kind, channels);
    p.add = filled(rng, kind, p.out_floats);
    p.conv = (rvk_conv){
        .x = fence_floats(&p.x, x_floats),
        .x_col = stride * p.inputs,
        .x_row = stride * width * p.inputs,
        .runs = kernel,
        .run = deep ? kernel : kernel * p.inputs,
        .x_run = width * p.inputs,
        .weights = fence_floats(&p.weights, weights),
        .bias = fence_floats(&p.bias, channels),
        .add = adds ? fence_floats(&p.add, p.out_floats) : NULL,
        .out_col = channels,
        .out_row = cols * channels,
        .rows = rows,
        .cols = cols,
        .channels = channels,
        .activation = activation,
    };
    return p;
}

static void free_problem(problem *p) {
    fence_close(&p->x);
    fence_close(&p->weights);
    fence_close(&p->bias);
    fence_close(&p->add);
}

static void run(const rvk_ops *ops, const problem *p, float *out) {
    rvk_conv c = p->conv;
    c.out = out;
    (p->deep ? ops->depthwise : ops->conv)(&c);
}

/* ---- the specification ------------------------------------------------------------ */

static double activated(double x, rvk_activation activation) {
    const double gate = fmin(fmax(x + 3, 0), 6) / 6;
    switch (activation) {
    case RVK_RELU:
        return fmax(x, 0);
    case RVK_HARD_SIGMOID:
        return gate;
    case RVK_HARD_SWISH:
        return x * gate;
    default:
        return x;
    }
}

/* Output `channel` at (y, x) as the definition of a convolution has it. */
static double expected(const problem *p, size_t y, size_t x, size_t channel) {
    const rvk_conv *c = &p->conv;
    const size_t width = (c->cols - 1) * p->stride + p->kernel;
    double sum = (double)c->bias[channel];
    for (size_t ky = 0; ky < p->kernel; ky++)
        for (size_t kx = 0; kx < p->kernel; kx++)
            for (size_t i = 0; i < p->inputs; i++) {
                const size_t tap = ky * p->kernel + kx;
                const size_t j = tap * p->inputs + i;
                const size_t all = p->kernel * p->kernel * p->inputs;
                const float in =
                    c->x[((y * p->stride + ky) * width + x * p->stride + kx) * p->inputs +
                         i];
                if (p->deep && i == channel)
                    sum += (double)in * (double)c->weights[tap * c->channels + channel];
                if (!p->deep)
                    sum +=
                        (double)in *
                        (double)c->weights[(channel / 16 * all + j) * 16 + channel % 16];
            }
    sum = activated(sum, c->activation);
    const size_t at = (y * c->cols + x) * c->channels + channel;
    return c->add ? sum + (double)c->add[at] : sum;
}

static void scalar_code_is_a_convolution(void **state) {
    (void)state;
    static const size_t shapes[][6] = {/* deep, kernel, stride, inputs, rows, cols */
                                       {0, 1, 1, 7, 1, 5}, {0, 3, 2, 3, 4, 3},
                                       {1, 3, 1, 0, 3, 4}, {1, 3, 2, 0, 2, 3},
                                       {1, 5, 1, 0, 2, 2}, {1, 5, 2, 0, 3, 1}};
    uint64_t rng = 1;
    for (size_t i = 0; i < 6 * 4 * 2; i++) {
        const size_t *s = shapes[i / 8];
        const size_t channels = i % 2 ? 16 : 48;
        problem p = make_problem(&rng, PLAIN, s[0], s[1], s[2], s[3], channels, s[4],
                                 s[5], i % 2, (rvk_activation)(i / 2 % 4));
        float *out = malloc(p.out_floats * sizeof *out);
        assert_non_null(out);
        run(rvk_ops_find("scalar"), &p, out);
        for (size_t at = 0; at < p.out_floats; at++) {
            const size_t place = at / channels;
            const double want = expected(&p, place / s[5], place % s[5], at % channels);
            if (!(fabs((double)out[at] - want) < 1e-5))
                fail_msg("case %zu, output %zu: %g, not %g", i, at, (double)out[at],
                         want);
        }
        free(out);
        free_problem(&p);
    }
}

/* 2^24 + 1 is lost where a sum begins with the bias and takes its inputs in order. */
static void sums_are_chains_from_the_bias(void **state) {
    (void)state;
    float x[3] = {1, 1, -0x1p24f}, weights[48], bias[16], out[16];
    for (size_t i = 0; i < 48; i++) weights[i] = 1;
    for (size_t i = 0; i < 16; i++) bias[i] = 0x1p24f;
    const rvk_conv c = {.x = x,
                        .runs = 1,
                        .run = 3,
                        .weights = weights,
                        .bias = bias,
                        .out = out,
                        .rows = 1,
                        .cols = 1,
                        .channels = 16};
    const rvk_ops *ops;
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        ops->conv(&c);
        for (size_t i = 0; i < 16; i++) assert_true(out[i] == 0.0f);
    }
}

/* ---- the tables ------------------------------------------------------------------- */

static void compare(const problem *p, size_t number) {
    fence got = fence_open(p->out_floats * sizeof(float));
    float *want = malloc(p->out_floats * sizeof *want);
    const rvk_ops *ops;
    assert_non_null(want);
    run(rvk_ops_find("scalar"), p, want);
    for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
        float *out = fence_floats(&got, p->out_floats);
        memset(out, 0xFF, p->out_floats * sizeof *out);
        run(ops, p, out);
        assert_same(out, want, p->out_floats, ops->name, number);
    }
    free(want);
    fence_close(&got);
}

static void tables_agree_on_convolutions(void **state) {
    (void)state;
    uint64_t rng = 2;
    for (size_t i = 0; i < 300; i++) {
        const bool deep = i % 2;
        const size_t kernel = 1 + 2 * next_below(&rng, 3),
                     stride = 1 + next_below(&rng, 2);
        const size_t inputs = 1 + next_below(&rng, 40);
        const size_t channels = 16 * (1 + next_below(&rng, 8));
        problem p =
            make_problem(&rng, (int)(i % N_KINDS), deep, kernel, stride, inputs, channels,
                         1 + next_below(&rng, 3), 1 + next_below(&rng, 17),
                         next_u64(&rng) & 1, (rvk_activation)next_below(&rng, 4));
        compare(&p, i);
        free_problem(&p);
    }
}

static void tables_agree_on_channels(void **state) {
    (void)state;
    uint64_t rng = 3;
    for (size_t i = 0; i < 60; i++) {
        const size_t channels = 16 * (1 + i % 7), n = 1 + next_below(&rng, 60);
        const int kind = (int)(i % N_KINDS);
        fence x = filled(&rng, kind, n * channels), by = filled(&rng, kind, channels);
        float *in = fence_floats(&x, n * channels), *gate = fence_floats(&by, channels);
        float *copy = malloc(n * channels * sizeof *copy);
        float *want = malloc(n * channels * sizeof *want), mean[112], mean_want[112];
        const rvk_ops *ops, *scalar = rvk_ops_find("scalar");
        assert_true(copy && want);
        memcpy(copy, in, n * channels * sizeof *copy);
        memcpy(want, in, n * channels * sizeof *want);
        scalar->channel_mean(in, n, channels, mean_want);
        scalar->channel_scale(want, n, channels, gate);
        for (size_t t = 0; (ops = rvk_ops_at(t)) != NULL; t++) {
            memcpy(in, copy, n * channels * sizeof *in);
            ops->channel_mean(in, n, channels, mean);
            assert_same(mean, mean_want, channels, ops->name, n);
            ops->channel_scale(in, n, channels, gate);
            assert_same(in, want, n * channels, ops->name, n);
        }
        for (size_t c = 0; c < channels && kind == PLAIN; c++) {
            double sum = 0;
            for (size_t j = 0; j < n; j++) sum += (double)copy[j * channels + c];
            assert_true(fabs(sum / (double)n - (double)mean_want[c]) < 1e-6);
            assert_true(want[c] == copy[c] * gate[c]);
        }
        free(copy);
        free(want);
        fence_close(&x);
        fence_close(&by);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_code_is_a_convolution),
        cmocka_unit_test(sums_are_chains_from_the_bias),
        cmocka_unit_test(tables_agree_on_convolutions),
        cmocka_unit_test(tables_agree_on_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
