/*
 * rng.c - random numbers by counting. A number depends on its seed, stream and
 * counter only, so threads may draw in any order and every machine sees the same.
 *
 *   h = mix(seed + K1); h = mix(h + stream * K2 + K1); result = mix(h + counter * K3 +
 * K1)
 *
 * mix is the output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable
 * pseudorandom number generators", OOPSLA 2014; constants of Stafford's variant 13).
 * It is a bijection and the K are odd: for one seed no two streams start alike, and
 * for one stream no number comes twice in 2^64.
 */
#include "base/base.h"

#define K1 UINT64_C(0x9E3779B97F4A7C15)
#define K2 UINT64_C(0xD1342543DE82EF95)
#define K3 UINT64_C(0xDA942042E4DD58B5)

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t rvb_random(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint64_t h = mix(seed + K1);
    h = mix(h + stream * K2 + K1);
    return mix(h + counter * K3 + K1);
}

/* High 64 bits of the 128-bit product. */
static uint64_t multiply_high(uint64_t a, uint64_t b) {
    uint64_t a0 = (uint32_t)a, a1 = a >> 32;
    uint64_t b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    uint64_t carry = a0 * b1 + (uint32_t)middle;
    return a1 * b1 + (middle >> 32) + (carry >> 32);
}

uint64_t rvb_random_below(uint64_t seed, uint64_t stream, uint64_t counter,
                          uint64_t bound) {
    return multiply_high(rvb_random(seed, stream, counter), bound);
}
