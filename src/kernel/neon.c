/*
 * neon.c - AArch64 Advanced SIMD, part of every such machine: sixteen lanes are four
 * registers.
 */
#include <arm_neon.h>
#include <string.h>

#include "scan.h"

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
static inline float32x4_t load_half4(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
static inline v16 v16_load_half(const uint8_t *p) { EACH(load_half4(p + 8 * i)); }
static inline v16 v16_load_half_part(const uint8_t *p, size_t n) {
    uint8_t whole[32] = {0};
    memcpy(whole, p, 2 * n);
    return v16_load_half(whole);
}
static inline void v16_store_half(uint8_t *p, v16 v) {
    for (int i = 0; i < 4; i++)
        vst1_u8(p + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(v.q[i])));
}
static inline v16 v16_add(v16 a, v16 b) { EACH(vaddq_f32(a.q[i], b.q[i])); }
static inline v16 v16_sub(v16 a, v16 b) { EACH(vsubq_f32(a.q[i], b.q[i])); }
static inline v16 v16_mul(v16 a, v16 b) { EACH(vmulq_f32(a.q[i], b.q[i])); }
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    EACH(vfmaq_f32(c.q[i], a.q[i], b.q[i]));
}
static inline v16 v16_abs(v16 v) { EACH(vabsq_f32(v.q[i])); }
static inline v16 v16_max(v16 a, v16 b) {
    EACH(vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i]));
}
static inline v16 v16_min(v16 a, v16 b) {
    EACH(vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i]));
}

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
static inline float32x4_t level4(float32x4_t v, float32x4_t top) {
    v = vrndq_f32(v);
    return vbslq_f32(vcltq_f32(v, top), v, top);
}
static inline v16 v16_level(v16 v, v16 top) { EACH(level4(v.q[i], top.q[i])); }
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

#define V16_TILE 2

static inline void v16_fold_tile(v16 s[V16_TILE][V16_TILE], float *out, size_t pitch) {
    for (size_t i = 0; i < V16_TILE; i++)
        for (size_t k = 0; k < V16_TILE; k++) out[i * pitch + k] = v16_fold(s[i][k]);
}

typedef uint8x16x2_t b32;

static inline b32 b32_zero(void) { return (b32){{vdupq_n_u8(0), vdupq_n_u8(0)}}; }
static inline b32 b32_add_bits(b32 x, uint32_t bits, unsigned p) {
    const uint8x16_t bit_of = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const uint8x16_t weight = vdupq_n_u8((uint8_t)(1u << p));
    for (unsigned i = 0; i < 2; i++, bits >>= 16) {
        uint8x8_t first = vdup_n_u8((uint8_t)bits),
                  second = vdup_n_u8((uint8_t)(bits >> 8));
        uint8x16_t set = vtstq_u8(vcombine_u8(first, second), bit_of);
        x.val[i] = vaddq_u8(x.val[i], vandq_u8(set, weight));
    }
    return x;
}
static inline v16 bytes_to_floats(uint8x16_t bytes) {
    uint16x8_t lo = vmovl_u8(vget_low_u8(bytes)), hi = vmovl_u8(vget_high_u8(bytes));
    return (v16){{vcvtq_f32_u32(vmovl_u16(vget_low_u16(lo))),
                  vcvtq_f32_u32(vmovl_u16(vget_high_u16(lo))),
                  vcvtq_f32_u32(vmovl_u16(vget_low_u16(hi))),
                  vcvtq_f32_u32(vmovl_u16(vget_high_u16(hi)))}};
}
static inline v16 b32_low(b32 x) { return bytes_to_floats(x.val[0]); }
static inline v16 b32_high(b32 x) { return bytes_to_floats(x.val[1]); }

#include "lanes.h"

#define V16_PLACES 6
#define V16_GROUPS 1
#include "conv_lanes.h"

const rvk_ops rvk_ops_neon = {
    .name = "neon",
    .group = 6,
    .turn = UINT64_C(1) << 28,
    .sharing = 32,
    .dot = dot,
    .l2sq = l2sq,
    .dot_half = dot_half,
    .l2sq_half = l2sq_half,
    .widen = widen,
    .narrow = narrow,
    .dot_tile = dot_tile,
    .l2sq_tile = l2sq_tile,
    .rotate = rotate,
    .encode = encode,
    .code_dot = code_dot,
    .quantize = quantize,
    .level_dot = level_dot,
    .scan = rvk_scan_neon,
    .scan_many = rvk_scan_many_neon,
    .conv = conv,
    .depthwise = depthwise,
    .channel_mean = channel_mean,
    .channel_scale = channel_scale,
};
