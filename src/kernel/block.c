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
            const unsigned nibble = (unsigned)code[g / 2] >> (g % 2 * 4) & 15u;
            *byte = (uint8_t)((*byte & keep) | nibble << shift);
        }
    }
    rvk_block_a(group, padded, block)[lane] = a;
    rvk_block_b(group, padded, block)[lane] = b;
}

size_t rvk_lut_bytes(unsigned group, size_t padded) {
    return columns_of(group, padded) << group;
}

static double larger(double a, double b) { return a > b ? a : b; }

/* Largest sum of magnitudes over an aligned group of 6 or of 4 dimensions, from sums
 * of pairs. In double, so that it cannot overflow. */
static double largest_group(const float *query, size_t padded) {
    double largest = 0.0;
    for (size_t j = 0; j < padded; j += 12) {
        const size_t n = padded - j < 12 ? padded - j : 12;
        double p[6] = {0};
        for (size_t i = 0; i < n / 2; i++) {
            p[i] = fabs((double)query[j + 2 * i]) + fabs((double)query[j + 2 * i + 1]);
        }
        const double p01 = p[0] + p[1], p45 = p[4] + p[5];
        double four = larger(p01, larger(p[2] + p[3], p45));
        double six = larger(p01 + p[2], p[3] + p45);
        largest = larger(largest, larger(four, six));
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

/* The loops below run in chunks of constant length, which compilers vectorize. */
#define CHUNK 32u

/* qi_j = q_j / step by true division, to nearest, ties to even: adding 1.5 * 2^23
 * leaves no fraction bits, and the subtraction is exact. Returns |q - step * qi|^2. */
static double round_query(const float *restrict query, size_t padded, float step,
                          int8_t *restrict rounded) {
    const float magic = 12582912.0f;
    double squares[4] = {0};
    for (size_t j = 0; j < padded; j += CHUNK) {
        float nearest[CHUNK];
        double d[CHUNK];
        for (size_t i = 0; i < CHUNK; i++)
            nearest[i] = (query[j + i] / step + magic) - magic;
        for (size_t i = 0; i < CHUNK; i++) rounded[j + i] = (int8_t)(int)nearest[i];
        for (size_t i = 0; i < CHUNK; i++) {
            d[i] = (double)query[j + i] - (double)step * (double)nearest[i];
            d[i] *= d[i];
        }
        for (size_t i = 0; i < CHUNK; i += 4) {
            for (size_t l = 0; l < 4; l++) squares[l] += d[i + l];
        }
    }
    return (squares[0] + squares[1]) + (squares[2] + squares[3]);
}

static int sum_of_magnitudes(const int8_t *rounded, size_t padded) {
    int sum = 0;
    for (size_t j = 0; j < padded; j += CHUNK) {
        for (size_t i = 0; i < CHUNK; i++) {
            sum += rounded[j + i] < 0 ? -rounded[j + i] : rounded[j + i];
        }
    }
    return sum;
}

static int if_negative(int value) { return value < 0 ? value : 0; }

/* Tables are filled eight entries at a time, a byte of a word each, by doubling: entry
 * e | 1 << b is entry e plus q[b]. A signed number times a pattern of ones is added to
 * each byte chosen, because every entry arrived at fits its byte. Patterns are read
 * from memory, as entries are stored, so the byte order does not matter. */
static uint64_t times(int value, const uint8_t ones[8]) {
    uint64_t pattern;
    memcpy(&pattern, ones, sizeof pattern);
    return (uint64_t)(int64_t)value * pattern;
}

static uint64_t to_all(int value) {
    return times(value, (const uint8_t[8]){1, 1, 1, 1, 1, 1, 1, 1});
}

/* The eight entries over q[0..2], entry 0 being minus the negative ones of q[0..n-1]. */
static uint64_t first_word(const int8_t *q, unsigned n) {
    int offset = 0;
    for (unsigned b = 0; b < n; b++) offset -= if_negative(q[b]);
    return to_all(offset) + times(q[0], (const uint8_t[8]){0, 1, 0, 1, 0, 1, 0, 1}) +
           times(q[1], (const uint8_t[8]){0, 0, 1, 1, 0, 0, 1, 1}) +
           times(q[2], (const uint8_t[8]){0, 0, 0, 0, 1, 1, 1, 1});
}

static void put16(uint8_t *entries, uint64_t low, uint64_t high) {
    memcpy(entries, &low, sizeof low);
    memcpy(entries + 8, &high, sizeof high);
}

static void column4(const int8_t *q, uint8_t *entries) {
    const uint64_t low = first_word(q, 4);
    put16(entries, low, low + to_all(q[3]));
}

static void column6(const int8_t *q, uint8_t *entries) {
    const uint64_t q4 = to_all(q[4]), q5 = to_all(q[5]);
    const uint64_t low = first_word(q, 6), high = low + to_all(q[3]);
    put16(entries, low, high);
    put16(entries + 16, low + q4, high + q4);
    put16(entries + 32, low + q5, high + q5);
    put16(entries + 48, low + q4 + q5, high + q4 + q5);
}

void rvk_lut_build(unsigned group, size_t padded, const float *query, int8_t *rounded,
                   uint8_t *lut, rvk_query *out) {
    const float step = choose_step(query, padded);
    out->step = step;
    out->error = (float)sqrt(round_query(query, padded, step, rounded));
    out->bias = step * (0.5f * (float)-sum_of_magnitudes(rounded, padded));
    if (group == 4) {
        for (size_t j = 0; j < padded; j += 4, lut += 16) column4(rounded + j, lut);
        return;
    }
    size_t j = 0;
    for (; j + 6 <= padded; j += 6, lut += 64) column6(rounded + j, lut);
    if (j < padded) {
        int8_t last[6] = {0};
        memcpy(last, rounded + j, padded - j);
        column6(last, lut);
    }
}
