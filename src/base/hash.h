/*
 * hash.h - a hash for tables whose keys strangers choose: SipHash-1-3 (Aumasson and
 * Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012) of a number, or of bytes.
 *
 * To who does not know the key its values are as good as random: keys cannot be chosen
 * to meet in one place of a table. What the times of calls tell about one table ends with
 * it, for the next has another key.
 */
#ifndef RVB_HASH_H
#define RVB_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct rvb_hash_key {
    uint64_t k0, k1;
} rvb_hash_key;
/* Unpredictable, and no two alike: for the places of one table, never for results. */
rvb_hash_key rvb_hash_key_draw(void);

static inline uint64_t rvb_rotated(uint64_t x, int by) {
    return x << by | x >> (64 - by);
}

static inline void rvb_hash_mix(uint64_t v[4]) {
    v[0] += v[1];
    v[1] = rvb_rotated(v[1], 13) ^ v[0];
    v[0] = rvb_rotated(v[0], 32);
    v[2] += v[3];
    v[3] = rvb_rotated(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rvb_rotated(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rvb_rotated(v[1], 17) ^ v[2];
    v[2] = rvb_rotated(v[2], 32);
}

static inline void rvb_hash_absorb(uint64_t v[4], uint64_t word) {
    v[3] ^= word;
    rvb_hash_mix(v);
    v[0] ^= word;
}

static inline void rvb_hash_begin(uint64_t v[4], const rvb_hash_key *key) {
    v[0] = key->k0 ^ UINT64_C(0x736f6d6570736575);
    v[1] = key->k1 ^ UINT64_C(0x646f72616e646f6d);
    v[2] = key->k0 ^ UINT64_C(0x6c7967656e657261);
    v[3] = key->k1 ^ UINT64_C(0x7465646279746573);
}

static inline uint64_t rvb_hash_end(uint64_t v[4]) {
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) rvb_hash_mix(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Of the number's eight bytes, lowest first. */
static inline uint64_t rvb_hash(const rvb_hash_key *key, uint64_t number) {
    uint64_t v[4];
    rvb_hash_begin(v, key);
    rvb_hash_absorb(v, number);
    rvb_hash_absorb(v, UINT64_C(8) << 56); /* the number of bytes, in the last of them */
    return rvb_hash_end(v);
}

uint64_t rvb_hash_bytes(const rvb_hash_key *key, const void *bytes, size_t n);

#endif
