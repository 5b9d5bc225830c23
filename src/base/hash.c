/* hash.c - the keys of hash.h, and the hash of bytes. */
#include "base/hash.h"

#include "base/os.h"

#include <stdatomic.h>

/* A word of the process's key, the same for all threads; drawn at its first use. */
static uint64_t drawn(_Atomic uint64_t *word) {
    uint64_t now = atomic_load(word);
    while (now == 0) {
        uint64_t fresh = rvb_os_entropy();
        if (atomic_compare_exchange_strong(word, &now, fresh)) now = fresh;
    }
    return now;
}

rvb_hash_key rvb_hash_key_draw(void) {
    static _Atomic uint64_t word[2], drawings;
    rvb_hash_key process = {drawn(&word[0]), drawn(&word[1])};
    uint64_t drawing = atomic_fetch_add(&drawings, 2);
    return (rvb_hash_key){rvb_hash(&process, drawing), rvb_hash(&process, drawing + 1)};
}

uint64_t rvb_hash_bytes(const rvb_hash_key *key, const void *bytes, size_t n) {
    const uint8_t *at = bytes;
    uint64_t v[4], last = (uint64_t)n << 56;
    rvb_hash_begin(v, key);
    for (size_t left = n; left >= 8; left -= 8, at += 8)
        rvb_hash_absorb(v, rvb_get_u64(at));
    for (size_t i = 0; i < n % 8; i++) last |= (uint64_t)at[i] << 8 * i;
    rvb_hash_absorb(v, last);
    return rvb_hash_end(v);
}
