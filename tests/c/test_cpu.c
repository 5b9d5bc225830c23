/*
 * test_cpu.c - what may run, given what a processor says of itself. Numbers of bits are
 * those of Intel's Software Developer's Manual, volume 2, CPUID, and volume 1, 13.3.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernel/cpu.h"

enum { AVX2 = RVK_CPU_AVX2, AVX512 = RVK_CPU_AVX512, VBMI = RVK_CPU_AVX512VBMI };

/* CPUID.1:ECX: SSE3 0, SSSE3 9, FMA 12, SSE4.1 19, SSE4.2 20, POPCNT 23, XSAVE 26,
 * OSXSAVE 27, AVX 28, F16C 29. CPUID.7:EBX: AVX2 5, AVX512F 16, DQ 17, BW 30, VL 31.
 * CPUID.7:ECX: VBMI 1, VNNI 11. XCR0: x87 0, SSE 1, AVX 2, opmask 5, ZMM_Hi256 6,
 * Hi16_ZMM 7. */
#define B(n) (UINT32_C(1) << (n))
static const rvk_cpu_registers haswell = {
    .leaf1_ecx =
        B(0) | B(9) | B(12) | B(19) | B(20) | B(23) | B(26) | B(27) | B(28) | B(29),
    .leaf7_ebx = B(5),
    .xcr0 = 0x7,
};
static const rvk_cpu_registers ice_lake = {
    .leaf1_ecx =
        B(0) | B(9) | B(12) | B(19) | B(20) | B(23) | B(26) | B(27) | B(28) | B(29),
    .leaf7_ebx = B(5) | B(16) | B(17) | B(30) | B(31),
    .leaf7_ecx = B(1) | B(11),
    .xcr0 = 0xe7,
};

static unsigned decide(rvk_cpu_registers r) { return rvk_cpu_decide(&r, 0); }

static void whole_processors(void **state) {
    (void)state;
    assert_int_equal(decide(haswell), AVX2);
    assert_int_equal(decide(ice_lake), AVX2 | AVX512 | VBMI);
    rvk_cpu_registers skylake = ice_lake; /* no VBMI, no VNNI */
    skylake.leaf7_ecx = 0;
    assert_int_equal(decide(skylake), AVX2 | AVX512);
    rvk_cpu_registers cascade_lake = ice_lake; /* VNNI alone */
    cascade_lake.leaf7_ecx = B(11);
    assert_int_equal(decide(cascade_lake), AVX2 | AVX512);
    rvk_cpu_registers cannon_lake = ice_lake; /* VBMI alone */
    cannon_lake.leaf7_ecx = B(1);
    assert_int_equal(decide(cannon_lake), AVX2 | AVX512);
    rvk_cpu_registers knights_mill = ice_lake; /* AVX512F without BW, DQ, VL */
    knights_mill.leaf7_ebx = B(5) | B(16);
    assert_int_equal(decide(knights_mill), AVX2);
    rvk_cpu_registers sandy_bridge = haswell; /* AVX, but no FMA, F16C, AVX2 */
    sandy_bridge.leaf1_ecx &= ~(B(12) | B(29));
    sandy_bridge.leaf7_ebx = 0;
    assert_int_equal(decide(sandy_bridge), 0);
    assert_int_equal(decide((rvk_cpu_registers){0}), 0);
}

static void every_bit_that_avx2_needs(void **state) {
    (void)state;
    static const unsigned needed[] = {0, 9, 12, 19, 20, 23, 27, 28, 29};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        rvk_cpu_registers r = ice_lake;
        r.leaf1_ecx &= ~B(needed[i]);
        assert_int_equal(decide(r), 0);
        assert_int_equal(rvk_cpu_decide(&r, 1), 0);
    }
    rvk_cpu_registers r = ice_lake; /* a virtual machine that masks AVX2 alone */
    r.leaf7_ebx &= ~B(5);
    assert_int_equal(decide(r), 0);
}

static void every_bit_that_avx512_needs(void **state) {
    (void)state;
    static const unsigned needed[] = {16, 17, 30, 31};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        rvk_cpu_registers r = ice_lake;
        r.leaf7_ebx &= ~B(needed[i]);
        assert_int_equal(decide(r), AVX2);
    }
}

static void registers_the_system_does_not_save(void **state) {
    (void)state;
    static const struct {
        uint64_t xcr0;
        unsigned sets;
    } cases[] = {
        {0x00, 0},
        {0x01, 0},
        {0x03, 0} /* xmm only */,
        {0x05, 0},
        {0x07, AVX2},
        {0xe3, 0},
        {0x27, AVX2},
        {0x67, AVX2},
        {0xa7, AVX2},
        {0xc7, AVX2},
        {0xe7, AVX2 | AVX512 | VBMI},
        {0x602e7, AVX2 | AVX512 | VBMI}, /* with protection keys and AMX tiles */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rvk_cpu_registers r = ice_lake;
        r.xcr0 = cases[i].xcr0;
        assert_int_equal(decide(r), cases[i].sets);
    }
    rvk_cpu_registers r = ice_lake; /* XSAVE of the processor, not of the system */
    r.leaf1_ecx &= ~B(27);
    assert_int_equal(decide(r), 0);
}

/* macOS sets the bits 5 to 7 in a thread's XCR0 when it first uses AVX-512. */
static void registers_the_system_saves_from_first_use(void **state) {
    (void)state;
    rvk_cpu_registers r = ice_lake;
    r.xcr0 = 0x7;
    assert_int_equal(rvk_cpu_decide(&r, 1), AVX2 | AVX512 | VBMI);
    r.xcr0 = 0x3;
    assert_int_equal(rvk_cpu_decide(&r, 1), 0);
    assert_int_equal(rvk_cpu_decide(&haswell, 1), AVX2);
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
/* GCC's library fills in the table of __builtin_cpu_supports. */
static void this_machine_as_gcc_sees_it(void **state) {
    (void)state;
    __builtin_cpu_init();
    unsigned sets = 0;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets |= AVX2;
    if (sets && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        sets |= AVX512;
    if ((sets & AVX512) && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vnni"))
        sets |= VBMI;
    assert_int_equal(rvk_cpu_sets(), sets);
    assert_int_equal(rvk_cpu_sets(), sets); /* remembered */
}
#elif !defined(__x86_64__)
static void other_processors_have_none_of_them(void **state) {
    (void)state;
    assert_int_equal(rvk_cpu_sets(), 0);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_processors),
        cmocka_unit_test(every_bit_that_avx2_needs),
        cmocka_unit_test(every_bit_that_avx512_needs),
        cmocka_unit_test(registers_the_system_does_not_save),
        cmocka_unit_test(registers_the_system_saves_from_first_use),
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
        cmocka_unit_test(this_machine_as_gcc_sees_it),
#elif !defined(__x86_64__)
        cmocka_unit_test(other_processors_have_none_of_them),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
