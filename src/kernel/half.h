/*
 * half.h - IEEE 754 binary16 in plain C, a number of 16 bits: 1 of sign, 5 of exponent
 * less 15, 10 of significand.
 */
#ifndef RVK_HALF_H
#define RVK_HALF_H

#include <stdint.h>
#include <string.h>

/* The same value, exactly. A NaN becomes a quiet one, as the instructions make it. */
static inline float rvk_widened(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7FFFu;
    uint32_t bits = (rest << 13) + (UINT32_C(112) << 23); /* 112 = 127 - 15 */
    float value;
    if (rest < 0x0400u) { /* subnormal: multiples of 2^-24 */
        value = (float)rest * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
    } else if (rest >= 0x7C00u) {
        bits = UINT32_C(0x7F800000) | rest << 13;
        if (rest > 0x7C00u) bits |= UINT32_C(0x00400000);
    }
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The nearest, of two the one with an even last bit; infinity from 65520 on. */
static inline uint16_t rvk_narrowed(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000u;
    bits &= UINT32_C(0x7FFFFFFF);
    if (bits > UINT32_C(0x7F800000))
        return (uint16_t)(sign | 0x7E00u | (bits >> 13 & 0x03FFu));
    if (bits >= UINT32_C(0x477FF000)) return (uint16_t)(sign | 0x7C00u);
    if (bits < UINT32_C(0x38800000)) { /* below 2^-14; 2^-24 is the last place of 1/2 */
        memcpy(&value, &bits, sizeof value);
        value += 0.5f;
        memcpy(&bits, &value, sizeof bits);
        return (uint16_t)(sign | (bits - UINT32_C(0x3F000000)));
    }
    bits += 0x0FFFu + (bits >> 13 & 1u);
    return (uint16_t)(sign | (bits - (UINT32_C(112) << 23)) >> 13);
}

#endif
