/*
 * scan_scalar.c - the specification of the block scan, in plain C.
 */
#include "scalar.h"

static uint64_t passing(const rvk_scan *s, const uint8_t *a, const uint8_t *b,
                        const uint16_t sums[RVK_BLOCK], float bounds[RVK_BLOCK]) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < RVK_BLOCK; i++) {
        float estimate = fused((float)sums[i], s->step, s->bias);
        bounds[i] = fused(load(b, i), estimate, load(a, i));
        if (bounds[i] < s->limit) mask |= UINT64_C(1) << i;
    }
    return mask;
}

size_t rvk_scan_scalar(const rvk_scan *s, size_t start, uint64_t *mask,
                       float bounds[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded);
    const size_t block_bytes = rvk_block_bytes(6, s->padded);
    const size_t columns = code_bytes / RVK_BLOCK;
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint64_t allowed = s->allow != NULL ? s->allow[block] : UINT64_MAX;
        if (allowed == 0) continue;
        const uint8_t *codes = s->blocks + block * block_bytes;
        const uint8_t *a = codes + code_bytes, *b = a + RVK_BLOCK * sizeof(float);
        uint16_t total[RVK_BLOCK] = {0};
        for (size_t g = 0; g < columns; g++) {
            const uint8_t *column = codes + g * RVK_BLOCK, *entries = s->lut + g * 64;
            for (unsigned i = 0; i < RVK_BLOCK; i++) {
                total[i] = (uint16_t)(total[i] + entries[column[i] & 63]);
            }
        }
        *mask = passing(s, a, b, total, bounds) & allowed;
        if (*mask != 0) return block;
    }
    *mask = 0;
    return s->n_blocks;
}
