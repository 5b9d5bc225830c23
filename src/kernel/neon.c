/*
 * neon.c - AArch64 Advanced SIMD, part of every such machine: sixteen lanes are four
 * registers; the scan looks 16 lanes up at once in a table of four registers.
 */
#include <arm_neon.h>
#include <string.h>

#include "kernel.h"

typedef struct v16 {
    float32x4_t q[4];
} v16;

#define EACH(expression)                                                                 \
    v16 out;                                                                             \
    for (int i = 0; i < 4; i++) out.q[i] = (expression);                                 \
    return out

static inline v16 v16_all(float x) { EACH(vdupq_n_f32(x)); }
static inline v16 v16_zero(void) { return v16_all(0.0f); }
static inline v16 v16_load(const float *p) { EACH(vld1q_f32(p + 4 * i)); }
static inline void v16_store(float *p, v16 v) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.q[i]);
}
static inline v16 v16_load_part(const float *p, size_t n) {
    float whole[16] = {0};
    memcpy(whole, p, n * sizeof(float));
    return v16_load(whole);
}
static inline v16 v16_add(v16 a, v16 b) { EACH(vaddq_f32(a.q[i], b.q[i])); }
static inline v16 v16_sub(v16 a, v16 b) { EACH(vsubq_f32(a.q[i], b.q[i])); }
static inline v16 v16_mul(v16 a, v16 b) { EACH(vmulq_f32(a.q[i], b.q[i])); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    EACH(vfmaq_f32(c.q[i], a.q[i], b.q[i]));
}
static inline v16 v16_abs(v16 v) { EACH(vabsq_f32(v.q[i])); }

/* Bit 4i + k of sixteen moved to the sign of lane k. */
static inline uint32x4_t bits_to_signs(uint16_t bits, int i) {
    const int32x4_t shift = {31, 30, 29, 28};
    return vshlq_u32(vdupq_n_u32((uint32_t)bits >> (4 * i)), shift);
}
static inline float32x4_t flip4(float32x4_t v, uint32x4_t signs) {
    uint32x4_t sign = vandq_u32(signs, vdupq_n_u32(UINT32_C(0x80000000)));
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), sign));
}
static inline float32x4_t keep4(float32x4_t v, uint32x4_t signs) {
    int32x4_t all = vshrq_n_s32(vreinterpretq_s32_u32(signs), 31);
    uint32x4_t kept = vandq_u32(vreinterpretq_u32_f32(v), vreinterpretq_u32_s32(all));
    return vreinterpretq_f32_u32(kept);
}
static inline v16 v16_flip(v16 v, uint16_t bits) {
    EACH(flip4(v.q[i], bits_to_signs(bits, i)));
}
static inline v16 v16_add_where(v16 v, uint16_t bits, v16 x) {
    EACH(vaddq_f32(v.q[i], keep4(x.q[i], bits_to_signs(bits, i))));
}
/* Lane k of a comparison as bit k. */
static inline unsigned mask4(uint32x4_t lanes) {
    const uint32x4_t bit = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, bit));
}
static inline uint16_t v16_positive(v16 v) {
    unsigned bits = 0;
    for (int i = 0; i < 4; i++) bits |= mask4(vcgtzq_f32(v.q[i])) << (4 * i);
    return (uint16_t)bits;
}
/* partner + v in the lower lane of a pair, partner - v in the upper: a product with
 * +-1 is exact, so the fused step rounds like the plain sum. */
static inline float32x4_t hadamard4(float32x4_t v) {
    const float32x4_t at1 = {1, -1, 1, -1}, at2 = {1, 1, -1, -1};
    v = vfmaq_f32(vrev64q_f32(v), v, at1);
    return vfmaq_f32(vextq_f32(v, v, 2), v, at2);
}
static inline v16 v16_hadamard(v16 v) {
    float32x4_t a = hadamard4(v.q[0]), b = hadamard4(v.q[1]);
    float32x4_t c = hadamard4(v.q[2]), d = hadamard4(v.q[3]);
    float32x4_t ab = vaddq_f32(a, b), a_b = vsubq_f32(a, b);
    float32x4_t cd = vaddq_f32(c, d), c_d = vsubq_f32(c, d);
    return (v16){
        {vaddq_f32(ab, cd), vaddq_f32(a_b, c_d), vsubq_f32(ab, cd), vsubq_f32(a_b, c_d)}};
}
static inline float v16_fold(v16 v) {
    float32x4_t s4 = vaddq_f32(vaddq_f32(v.q[0], v.q[2]), vaddq_f32(v.q[1], v.q[3]));
    float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}

#include "lanes.h"

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
                               const uint16x8_t totals[8]) {
    const float32x4_t step4 = vdupq_n_f32(s->step), bias = vdupq_n_f32(s->bias);
    const float32x4_t limit = vdupq_n_f32(s->limit);
    uint64_t mask = 0;
    for (unsigned i = 0; i < 16; i++) {
        uint16x8_t eight = totals[i / 2];
        uint32x4_t four =
            vmovl_u16(i % 2 == 0 ? vget_low_u16(eight) : vget_high_u16(eight));
        float32x4_t estimate = vfmaq_f32(bias, vcvtq_f32_u32(four), step4);
        float32x4_t bound =
            vfmaq_f32(vld1q_f32(a + 4 * i), vld1q_f32(b + 4 * i), estimate);
        mask |= (uint64_t)mask4(vcltq_f32(bound, limit)) << (4 * i);
    }
    return mask;
}

static size_t scan(const rvk_scan *s, size_t start, uint64_t *mask,
                   uint16_t sums[RVK_BLOCK]) {
    const size_t code_bytes = rvk_block_code_bytes(6, s->padded);
    const size_t block_bytes = rvk_block_bytes(6, s->padded);
    for (size_t block = start; block < s->n_blocks; block++) {
        const uint64_t allowed = s->allow != NULL ? s->allow[block] : UINT64_MAX;
        if (allowed == 0) continue;
        const uint8_t *codes = s->blocks + block * block_bytes;
        const float *a = (const float *)(const void *)(codes + code_bytes);
        uint16x8_t totals[8];
        sum_block(codes, s->lut, code_bytes / 64, totals);
        *mask = passing(s, a, a + RVK_BLOCK, totals) & allowed;
        if (*mask != 0) {
            for (unsigned i = 0; i < 8; i++) vst1q_u16(sums + 8 * i, totals[i]);
            return block;
        }
    }
    *mask = 0;
    return s->n_blocks;
}

const rvk_ops rvk_ops_neon = {
    .name = "neon",
    .group = 6,
    .dot = dot,
    .l2sq = l2sq,
    .dot_tile = dot_tile,
    .l2sq_tile = l2sq_tile,
    .rotate = rotate,
    .encode = encode,
    .code_dot = code_dot,
    .scan = scan,
};
