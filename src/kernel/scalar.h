/*
 * scalar.h - the two steps from which the scalar kernels are made: reading a float and
 * the fused multiply-add.
 */
#ifndef RVK_SCALAR_H
#define RVK_SCALAR_H

#include <string.h>

#include "scan.h"

/* Rows may start at any byte, so floats are copied out rather than dereferenced. */
static inline float load(const void *base, size_t j) {
    float value;
    memcpy(&value, (const uint8_t *)base + j * sizeof value, sizeof value);
    return value;
}

/* a * b + c rounded once, as fmaf() should but does not in every C library. The
 * product is exact in double. The sum is rounded to odd: where it is inexact (its error
 * being found by Knuth's two-sum) and its last bit even, the neighbor on the side of
 * the error replaces it. Double has more than two bits beyond float, so rounding that
 * to float equals rounding the exact sum (Boldo and Melquiond, "Emulation of FMA and
 * correctly rounded sums", theorem 1). */
static inline float fused(float a, float b, float c) {
    const double product = (double)a * (double)b, addend = (double)c;
    double sum = product + addend;
    const double part = sum - product;
    const double error = (product - (sum - part)) + (addend - part);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((error > 0.0 || error < 0.0) && (bits & 1) == 0) {
        bits += (error > 0.0) == (sum > 0.0) ? UINT64_C(1) : UINT64_MAX;
        memcpy(&sum, &bits, sizeof bits);
    }
    return (float)sum;
}

#endif
