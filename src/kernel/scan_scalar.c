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

static uint64_t test(const rvk_scan *s, size_t block, float bounds[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded);
    const uint8_t *codes = s->blocks + block * rvk_block_bytes(6, s->padded);
    const uint8_t *a = codes + code_bytes, *b = a + RVK_BLOCK * sizeof(float);
    uint16_t total[RVK_BLOCK] = {0};
    for (size_t g = 0; g < code_bytes / RVK_BLOCK; g++) {
        const uint8_t *column = codes + g * RVK_BLOCK, *entries = s->lut + g * 64;
        for (unsigned i = 0; i < RVK_BLOCK; i++) {
            total[i] = (uint16_t)(total[i] + entries[column[i] & 63]);
        }
    }
    return passing(s, a, b, total, bounds);
}

size_t rvk_scan_many_scalar(const rvk_scan *s, size_t n, size_t start,
                            uint64_t masks[RVK_SCANS],
                            float bounds[RVK_SCANS][RVK_BLOCK]) {
    for (size_t block = start; block < s->n_blocks; block++) {
        uint64_t any = 0;
        for (size_t q = 0; q < n; q++) {
            masks[q] = test(&s[q], block, bounds[q]);
            any |= masks[q];
        }
        if (any != 0) return block;
    }
    for (size_t q = 0; q < n; q++) masks[q] = 0;
    return s->n_blocks;
}

size_t rvk_scan_scalar(const rvk_scan *s, size_t start, uint64_t *mask,
                       float bounds[RVK_BLOCK]) {
    return rvk_scan_many_scalar(s, 1, start, mask, (float(*)[RVK_BLOCK])(void *)bounds);
}
