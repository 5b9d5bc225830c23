/*
 * prepare.c - an image as torchvision's preset for MobileNetV3-Small gives it to the
 * network: shorter side resized to 256, the middle 224 x 224, normalized.
 *
 * The resize is Pillow's, pixel for pixel: the triangle filter is stretched by the scale
 * when an image shrinks (that is what antialiasing means here), its weights are rounded
 * to 22 bits, and rows are resampled before columns with a rounding to bytes after
 * each. (Pillow 13 takes columns first for some tall images; bytes then differ by 1.)
 * Only what the crop keeps is computed, so a very long image costs no more.
 */
#include "embed/embed_i.h"

#include <inttypes.h>
#include <math.h>

#define CHANNELS 3u
#define WEIGHT_BITS 22

/* ---- weights of one direction ---------------------------------------------------- */

/* Output i is the sum of weights[i * most + j] * input first[i] + j for j < count[i]. */
typedef struct taps {
    size_t most;
    uint32_t first[RVE_SIDE], count[RVE_SIDE];
    uint32_t *weights;
} taps;

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Where the crop of `size` pixels begins: half of the rest, halves to even. */
static uint64_t crop_start(uint64_t size) {
    const uint64_t rest = size - RVE_SIDE, half = rest / 2;
    return rest % 2 == 1 && half % 2 == 1 ? half + 1 : half;
}

/* The triangle at pixel j, around `center` and 1 / shrink wide to either side. */
static double triangle(uint32_t j, double center, double shrink) {
    const double distance = fabs(((double)j - center + 0.5) * shrink);
    return distance < 1.0 ? 1.0 - distance : 0.0;
}

static void fill_taps(taps *t, size_t i, double center, double stretch, uint32_t side) {
    const double low = center - stretch + 0.5, high = center + stretch + 0.5;
    const double shrink = 1.0 / stretch;
    const uint32_t first = low > 0.0 ? (uint32_t)low : 0;
    const uint32_t end = high < (double)side ? (uint32_t)high : side;
    double total = 0.0;
    for (uint32_t j = first; j < end; j++) total += triangle(j, center, shrink);
    for (uint32_t j = first; j < end; j++) {
        const double share = triangle(j, center, shrink) / total;
        t->weights[i * t->most + (j - first)] =
            (uint32_t)(share * (double)(1 << WEIGHT_BITS) + 0.5);
    }
    t->first[i] = first;
    t->count[i] = end - first;
    while (t->count[i] > 1 && t->weights[i * t->most + t->count[i] - 1] == 0)
        t->count[i]--; /* as where nothing is resized */
}

/* The crop's part of resizing `side` pixels to `resized`. */
static rv_status make_taps(taps *t, uint32_t side, uint64_t resized, rv_error *err) {
    const double scale = (double)side / (double)resized;
    const double stretch = scale > 1.0 ? scale : 1.0;
    const uint64_t start = crop_start(resized);
    t->most = 2 * (size_t)ceil(stretch) + 1;
    t->weights = rvb_alloc(RVE_SIDE * t->most, sizeof *t->weights);
    if (!t->weights)
        return rvb_fail_memory(err, RVE_SIDE * (uint64_t)t->most * sizeof *t->weights);
    for (uint32_t i = 0; i < RVE_SIDE; i++)
        fill_taps(t, i, ((double)(start + i) + 0.5) * scale, stretch, side);
    return RV_OK;
}

/* ---- resampling ----------------------------------------------------------------- */

/* Weights are rounded one by one, but even of the 7,815 that the longest side can bring
 * the errors do not add up to half a byte: a sum stays below 256 units. */
#define HALF ((uint32_t)1 << (WEIGHT_BITS - 1))

static uint8_t to_byte(uint32_t sum) { return (uint8_t)(sum >> WEIGHT_BITS); }

/* A row of the image to RVE_SIDE pixels. */
static void resample_row(const taps *t, const uint8_t *row, uint8_t *out) {
    for (size_t i = 0; i < RVE_SIDE; i++, out += CHANNELS) {
        const uint8_t *in = row + (size_t)t->first[i] * CHANNELS;
        const uint32_t *w = t->weights + i * t->most;
        uint32_t red = HALF, green = HALF, blue = HALF;
        for (uint32_t j = 0; j < t->count[i]; j++, in += CHANNELS) {
            red += w[j] * in[0];
            green += w[j] * in[1];
            blue += w[j] * in[2];
        }
        out[0] = to_byte(red);
        out[1] = to_byte(green);
        out[2] = to_byte(blue);
    }
}

/* Row i of the crop from rows resampled before, of which `rows` is number `first`. */
static void resample_column(const taps *t, size_t i, const uint8_t *rows, uint32_t first,
                            uint8_t *out) {
    enum { WIDTH = RVE_SIDE * CHANNELS };
    uint32_t sums[WIDTH];
    for (size_t x = 0; x < WIDTH; x++) sums[x] = HALF;
    for (uint32_t j = 0; j < t->count[i]; j++) {
        const uint8_t *in = rows + (size_t)(t->first[i] + j - first) * WIDTH;
        const uint32_t w = t->weights[i * t->most + j];
        for (size_t x = 0; x < WIDTH; x++) sums[x] += w * in[x];
    }
    for (size_t x = 0; x < WIDTH; x++) out[x] = to_byte(sums[x]);
}

/* ---- the whole ------------------------------------------------------------------ */

/* Every value that a byte of a channel can become. */
static void fill_table(float table[CHANNELS][256]) {
    static const float mean[CHANNELS] = {0.485f, 0.456f, 0.406f};
    static const float deviation[CHANNELS] = {0.229f, 0.224f, 0.225f};
    for (size_t c = 0; c < CHANNELS; c++) {
        for (int v = 0; v < 256; v++)
            table[c][v] = ((float)v / 255.0f - mean[c]) / deviation[c];
    }
}

static rv_status resize(const rv_image *image, taps *across, taps *down, uint8_t **rows,
                        float *out, size_t row_floats, rv_error *err) {
    const uint32_t shorter = smaller(image->height, image->width);
    const uint64_t height = (uint64_t)RVE_SHORTER * image->height / shorter;
    const uint64_t width = (uint64_t)RVE_SHORTER * image->width / shorter;
    const size_t line = RVE_SIDE * CHANNELS;
    float table[CHANNELS][256];
    RVB_TRY(make_taps(across, image->width, width, err));
    RVB_TRY(make_taps(down, image->height, height, err));
    const uint32_t first = down->first[0];
    const uint32_t end = down->first[RVE_SIDE - 1] + down->count[RVE_SIDE - 1];
    *rows = rvb_alloc((size_t)(end - first) + 1, line);
    if (!*rows) return rvb_fail_memory(err, (uint64_t)(end - first + 1) * line);
    for (uint32_t y = first; y < end; y++)
        resample_row(across, image->pixels + (size_t)y * image->width * CHANNELS,
                     *rows + (y - first) * line);
    fill_table(table);
    uint8_t *finished = *rows + (size_t)(end - first) * line; /* the one row more */
    for (size_t y = 0; y < RVE_SIDE; y++, out += row_floats) {
        resample_column(down, y, *rows, first, finished);
        for (size_t i = 0; i < line; i += CHANNELS) {
            out[i] = table[0][finished[i]];
            out[i + 1] = table[1][finished[i + 1]];
            out[i + 2] = table[2][finished[i + 2]];
        }
    }
    return RV_OK;
}

rv_status rve_prepare(const rv_image *image, float *out, size_t row_floats,
                      rv_error *err) {
    const uint32_t sides[] = {image->height, image->width};
    for (int i = 0; i < 2; i++) {
        if (sides[i] > 0 && sides[i] <= RV_IMAGE_MAX_SIDE) continue;
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RV_IMAGE_MAX_SIDE, sides[i],
                                "an image of %" PRIu32 " x %" PRIu32
                                " pixels: sides are 1 to %d",
                                image->height, image->width, RV_IMAGE_MAX_SIDE);
    }
    taps across = {0}, down = {0};
    uint8_t *rows = NULL;
    rv_status status = resize(image, &across, &down, &rows, out, row_floats, err);
    rvb_free(rows);
    rvb_free(across.weights);
    rvb_free(down.weights);
    return status;
}

rv_status rv_image_prepare(const rv_image *image, float *out, rv_error *err) {
    return rve_prepare(image, out, RVE_SIDE * CHANNELS, err);
}
