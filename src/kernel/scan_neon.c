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
    for (int i = 0; i < 4; i++) {
        totals[2 * i] = vaddw_u8(totals[2 * i], vget_low_u8(bytes[i]));
        totals[2 * i + 1] = vaddw_high_u8(totals[2 * i + 1], bytes[i]);
    }
}

static inline uint8x16x4_t load64(const uint8_t *p) {
    return (uint8x16x4_t){
        {vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
}

/* The 64 lane totals of a block. Up to four entries <= 63 add up in a byte. */
static inline void sum_block(const uint8_t *codes, const uint8_t *lut, size_t columns,
                             uint16x8_t totals[8]) {
    for (int i = 0; i < 8; i++) totals[i] = vdupq_n_u16(0);
    for (size_t g = 0; g < columns;) {
        const size_t end = g + 4 < columns ? g + 4 : columns;
        uint8x16_t bytes[4];
        for (int i = 0; i < 4; i++) bytes[i] = vdupq_n_u8(0);
        for (; g < end; g++) {
            uint8x16x4_t table = load64(lut + g * 64);
            for (int i = 0; i < 4; i++) {
                uint8x16_t code = vld1q_u8(codes + g * 64 + 16 * i);
                bytes[i] = vaddq_u8(bytes[i], vqtbl4q_u8(table, code));
            }
        }
        widen(totals, bytes);
    }
}

/* Bits of the lanes below the limit, four at a time. */
static inline uint64_t passing(const rvk_scan *s, const float *a, const float *b,
                               const uint16x8_t totals[8], float32x4_t bounds[16]) {
    const float32x4_t step4 = vdupq_n_f32(s->step), bias = vdupq_n_f32(s->bias);
    const float32x4_t limit = vdupq_n_f32(s->limit);
    uint64_t mask = 0;
    for (unsigned i = 0; i < 16; i++) {
        uint16x8_t eight = totals[i / 2];
        uint32x4_t four =
            vmovl_u16(i % 2 == 0 ? vget_low_u16(eight) : vget_high_u16(eight));
        float32x4_t estimate = vfmaq_f32(bias, vcvtq_f32_u32(four), step4);
        bounds[i] = vfmaq_f32(vld1q_f32(a + 4 * i), vld1q_f32(b + 4 * i), estimate);
        mask |= (uint64_t)mask4(vcltq_f32(bounds[i], limit)) << (4 * i);
    }
    return mask;
}

size_t rvk_scan_neon(const rvk_scan *s, size_t start, uint64_t *mask,
                     float bounds[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded);
    const size_t block_bytes = rvk_block_bytes(6, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint64_t allowed = s->allow != NULL ? s->allow[block] : UINT64_MAX;
        if (allowed == 0) continue;
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        uint16x8_t totals[8];
        float32x4_t bound[16];
        sum_block(codes, s->lut, code_bytes / 64, totals);
        *mask = passing(s, a, a + RVK_BLOCK, totals, bound) & allowed;
        if (*mask != 0) {
            for (unsigned i = 0; i < 16; i++) vst1q_f32(bounds + 4 * i, bound[i]);
            return block;
        }
    }
    *mask = 0;
    return s->n_blocks;
}
