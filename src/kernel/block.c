/*
 * block.c - the layout of scan blocks and the query's lookup table. Plain C shared by
 * every instruction set: equal inputs give equal bytes for one grouping, and equal
 * rounded queries for both.
 *
 * Why nothing overflows. Let cap = min(63, 65535 / ceil(padded / 6)) and m the largest
 * sum of |q_j| over an aligned group of 6 or of 4 dimensions. With step = m / (cap - 3)
 * the sum of |q_j| / step over a group is at most cap - 3, up to a relative error of
 * some 2^-22 from rounding step and the quotients. Rounding to integers adds at most
 * 1/2 per dimension, 3 per group, so the group's sum of |qi_j| is below cap + 1; being
 * an integer it is at most cap. A table entry is a sum over part of the positive qi
 * plus a part of the negated negative ones, hence 0..cap <= 63. A lane total is at most
 * the sum of |qi_j| over all groups of 6, hence <= cap * ceil(padded / 6) <= 65535.
 */
#include "kernel.h"

#include <float.h>
#include <math.h>
#include <string.h>

static size_t columns_of(unsigned group, size_t padded) {
    return group == 6 ? (padded + 5) / 6 : padded / 4;
}

size_t rvk_block_code_bytes(unsigned group, size_t padded) {
    return columns_of(group, padded) * (group == 6 ? RVK_BLOCK : RVK_BLOCK / 2);
}

size_t rvk_block_bytes(unsigned group, size_t padded) {
    return rvk_block_code_bytes(group, padded) + 2 * RVK_BLOCK * sizeof(float);
}

float *rvk_block_a(unsigned group, size_t padded, uint8_t *block) {
    return (float *)(void *)(block + rvk_block_code_bytes(group, padded));
}

float *rvk_block_b(unsigned group, size_t padded, uint8_t *block) {
    return rvk_block_a(group, padded, block) + RVK_BLOCK;
}

void rvk_block_clear(unsigned group, size_t padded, uint8_t *block) {
    float *a = rvk_block_a(group, padded, block);
    memset(block, 0, rvk_block_bytes(group, padded));
    for (unsigned i = 0; i < RVK_BLOCK; i++) a[i] = INFINITY;
}

/* Bits 6g .. 6g+5 of a code of `bytes` bytes, zeros past its end. */
static uint8_t six_bits(const uint8_t *code, size_t bytes, size_t g) {
    const size_t first = 6 * g / 8;
    unsigned window = code[first];
    if (first + 1 < bytes) window |= (unsigned)code[first + 1] << 8;
    return window >> (6 * g % 8) & 63;
}

void rvk_block_put(unsigned group, size_t padded, uint8_t *block, unsigned lane,
                   const uint8_t *code, float a, float b) {
    const size_t bytes = padded / 8, columns = columns_of(group, padded);
    if (group == 6) {
        for (size_t g = 0; g < columns; g++) {
            block[g * RVK_BLOCK + lane] = six_bits(code, bytes, g);
        }
    } else {
        const unsigned shift = lane < RVK_BLOCK / 2 ? 0 : 4, keep = 0xF0u >> shift;
        uint8_t *byte = block + lane % (RVK_BLOCK / 2);
        for (size_t g = 0; g < columns; g++, byte += RVK_BLOCK / 2) {
            unsigned nibble = code[g / 2] >> (g % 2 * 4) & 15u;
            *byte = (uint8_t)((*byte & keep) | nibble << shift);
        }
    }
    rvk_block_a(group, padded, block)[lane] = a;
    rvk_block_b(group, padded, block)[lane] = b;
}

size_t rvk_lut_bytes(unsigned group, size_t padded) {
    return columns_of(group, padded) << group;
}

/* Largest sum of magnitudes over an aligned group of 6 or of 4 dimensions. In double,
 * so that no finite query overflows. Missing dimensions of the last group are 0. */
static double largest_group(const float *query, size_t padded) {
    double largest = 0.0;
    for (size_t j = 0; j < padded; j += 4) {
        double four = 0.0;
        for (size_t i = j; i < j + 4; i++) four += fabs((double)query[i]);
        largest = four > largest ? four : largest;
    }
    for (size_t j = 0; j < padded; j += 6) {
        const size_t end = j + 6 < padded ? j + 6 : padded;
        double six = 0.0;
        for (size_t i = j; i < end; i++) six += fabs((double)query[i]);
        largest = six > largest ? six : largest;
    }
    return largest;
}

static float choose_step(const float *query, size_t padded) {
    const size_t fair = UINT16_MAX / columns_of(6, padded);
    const size_t cap = fair < 63 ? fair : 63;
    const float step = (float)(largest_group(query, padded) / (double)(cap - 3));
    /* A subnormal step has lost its precision; at step 1 such a query rounds to 0. */
    return step >= FLT_MIN ? step : 1.0f;
}

/* qi_j = q_j / step by true division, to nearest, ties to even: adding 1.5 * 2^23
 * leaves no fraction bits, and the subtraction is exact. */
static void round_query(const float *query, size_t padded, float step, int8_t *rounded) {
    const float magic = 12582912.0f;
    for (size_t j = 0; j < padded; j++) {
        float nearest = (query[j] / step + magic) - magic;
        rounded[j] = (int8_t)(int)nearest;
    }
}

static void describe(const float *query, const int8_t *rounded, size_t padded, float step,
                     rvk_query *out) {
    double squares[4] = {0};
    int sum = 0, negative = 0;
    for (size_t j = 0; j < padded; j++) {
        const double d = (double)query[j] - (double)step * rounded[j];
        squares[j % 4] += d * d;
        sum += rounded[j];
        negative += rounded[j] < 0 ? rounded[j] : 0;
    }
    out->step = step;
    out->bias = step * (0.5f * (float)(2 * negative - sum));
    out->error = (float)sqrt((squares[0] + squares[1]) + (squares[2] + squares[3]));
}

/* Eight entries at once, entry i in byte i. Adding a signed number times a pattern of
 * ones adds it to each byte chosen, because every final entry fits its byte. */
#define BYTES_ALL UINT64_C(0x0101010101010101)
#define BYTES_BIT0 UINT64_C(0x0100010001000100)
#define BYTES_BIT1 UINT64_C(0x0101000001010000)
#define BYTES_BIT2 UINT64_C(0x0101010100000000)

static uint64_t times(int value, uint64_t pattern) {
    return (uint64_t)(int64_t)value * pattern;
}

static void store_le(uint8_t *p, uint64_t v) {
    for (unsigned i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}

/* The table of one column, by doubling: entry e | 1 << b is entry e plus q[b]. */
static void fill_column(const int8_t *q, unsigned group, uint8_t *entries) {
    uint64_t words[8];
    int offset = 0;
    for (unsigned b = 0; b < group; b++) offset -= q[b] < 0 ? q[b] : 0;
    words[0] = times(offset, BYTES_ALL) + times(q[0], BYTES_BIT0) +
               times(q[1], BYTES_BIT1) + times(q[2], BYTES_BIT2);
    for (unsigned b = 3; b < group; b++) {
        const unsigned known = 1u << (b - 3);
        const uint64_t more = times(q[b], BYTES_ALL);
        for (unsigned i = 0; i < known; i++) words[known + i] = words[i] + more;
    }
    for (unsigned i = 0; i < 1u << (group - 3); i++) store_le(entries + 8 * i, words[i]);
}

void rvk_lut_build(unsigned group, size_t padded, const float *query, int8_t *rounded,
                   uint8_t *lut, rvk_query *out) {
    const float step = choose_step(query, padded);
    round_query(query, padded, step, rounded);
    describe(query, rounded, padded, step, out);
    const size_t whole = padded / group, left = padded % group;
    if (group == 6) {
        for (size_t g = 0; g < whole; g++) fill_column(rounded + 6 * g, 6, lut + 64 * g);
    } else {
        for (size_t g = 0; g < whole; g++) fill_column(rounded + 4 * g, 4, lut + 16 * g);
    }
    if (left != 0) {
        int8_t last[6] = {0};
        memcpy(last, rounded + whole * group, left);
        fill_column(last, group, lut + (whole << group));
    }
}
