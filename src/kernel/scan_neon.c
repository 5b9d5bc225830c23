/*
 * scan_neon.c - the block scan with AArch64 Advanced SIMD: 16 lanes are looked up at
 * once in a table of four registers.
 */
#include <arm_neon.h>

#include "scan.h"

/* Lane k of a comparison as bit k. */
static inline unsigned mask4(uint32x4_t lanes) {
    const uint32x4_t bit = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, bit));
}

/* Adds the byte sums of 4 x 16 lanes to the totals, in lane order. */
static inline void widen(uint16x8_t totals[8], const uint8x16_t bytes[4]) {
    RVK_UNROLL
    for (int i = 0; i < 4; i++) {
        totals[2 * i] = vaddw_u8(totals[2 * i], vget_low_u8(bytes[i]));
        totals[2 * i + 1] = vaddw_high_u8(totals[2 * i + 1], bytes[i]);
    }
}

static inline uint8x16x4_t load64(const uint8_t *p) {
    return (uint8x16x4_t){
        {vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
}

/* Adds the entries of one column to the byte sums of 4 x 16 lanes. */
static inline void add_column(uint8x16x4_t codes, uint8x16x4_t table,
                              uint8x16_t bytes[4]) {
    RVK_UNROLL
    for (int i = 0; i < 4; i++)
        bytes[i] = vaddq_u8(bytes[i], vqtbl4q_u8(table, codes.val[i]));
}

/* The 64 lane totals of a block for n queries. Up to four entries <= 63 add up in a
 * byte. */
RVK_INLINE void sum_block(const rvk_scan *s, size_t n, const uint8_t *codes,
                          size_t columns, uint16x8_t totals[][8]) {
    RVK_UNROLL
    for (size_t i = 0; i < 8 * n; i++) totals[i / 8][i % 8] = vdupq_n_u16(0);
    for (size_t g = 0; g < columns;) {
        const size_t end = g + 4 < columns ? g + 4 : columns;
        uint8x16_t bytes[RVK_SCANS][4];
        RVK_UNROLL
        for (size_t i = 0; i < 4 * n; i++) bytes[i / 4][i % 4] = vdupq_n_u8(0);
        for (; g < end; g++) {
            uint8x16x4_t column = load64(codes + g * 64);
            RVK_UNROLL
            for (size_t q = 0; q < n; q++)
                add_column(column, load64(s[q].lut + g * 64), bytes[q]);
        }
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) widen(totals[q], bytes[q]);
    }
}

/* Bits of the lanes below the limit; if there are any, the bounds of all lanes are
 * stored. */
static inline uint64_t passing(const rvk_scan *s, const float *a, const float *b,
                               const uint16x8_t totals[8], float bounds[RVK_BLOCK]) {
    const float32x4_t step4 = vdupq_n_f32(s->step), bias = vdupq_n_f32(s->bias);
    const float32x4_t limit = vdupq_n_f32(s->limit);
    float32x4_t bound[16];
    uint64_t mask = 0;
    for (unsigned i = 0; i < 16; i++) {
        uint16x8_t eight = totals[i / 2];
        uint32x4_t four =
            vmovl_u16(i % 2 == 0 ? vget_low_u16(eight) : vget_high_u16(eight));
        float32x4_t estimate = vfmaq_f32(bias, vcvtq_f32_u32(four), step4);
        bound[i] = vfmaq_f32(vld1q_f32(a + 4 * i), vld1q_f32(b + 4 * i), estimate);
        mask |= (uint64_t)mask4(vcltq_f32(bound[i], limit)) << (4 * i);
    }
    if (mask == 0) return 0;
    for (unsigned i = 0; i < 16; i++) vst1q_f32(bounds + 4 * i, bound[i]);
    return mask;
}

RVK_INLINE size_t scan(const rvk_scan *s, size_t n, size_t start, uint64_t *masks,
                       float (*bounds)[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded);
    const size_t block_bytes = rvk_block_bytes(6, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        uint16x8_t totals[RVK_SCANS][8];
        uint64_t any = 0;
        sum_block(s, n, codes, code_bytes / 64, totals);
        RVK_UNROLL
        for (size_t q = 0; q < n; q++) {
            masks[q] = passing(&s[q], a, a + RVK_BLOCK, totals[q], bounds[q]);
            any |= masks[q];
        }
        if (any != 0) return block;
    }
    for (size_t q = 0; q < n; q++) masks[q] = 0;
    return s->n_blocks;
}

size_t rvk_scan_neon(const rvk_scan *s, size_t start, uint64_t *mask,
                     float bounds[RVK_BLOCK]) {
    return scan(s, 1, start, mask, (float(*)[RVK_BLOCK])(void *)bounds);
}

size_t rvk_scan_many_neon(const rvk_scan *s, size_t n, size_t start,
                          uint64_t masks[RVK_SCANS], float bounds[RVK_SCANS][RVK_BLOCK]) {
    if (n == 1) return scan(s, 1, start, masks, bounds);
    if (n == 2) return scan(s, 2, start, masks, bounds);
    if (n == 3) return scan(s, 3, start, masks, bounds);
    return scan(s, 4, start, masks, bounds);
}
