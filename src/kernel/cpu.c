/*
 * cpu.c - the processor asked with CPUID and XGETBV, as Intel's Software Developer's
 * Manual says (volume 1, 14.3 "Detection of Intel AVX Instructions" and 15.2 "Detection
 * of AVX-512 Foundation Instructions"; the bits are those of CPUID in volume 2).
 *
 * 64-bit ARM needs no probe: Advanced SIMD, half floats converted included, is in the
 * base of ARMv8-A and in the calling conventions of Linux, macOS and Windows, and the
 * NEON kernels use nothing beyond it.
 */
#include "cpu.h"

#include <stdatomic.h>

#define BIT(n) (UINT32_C(1) << (n))

/* CPUID.1:ECX. The older ones come along with the flag for AVX. */
#define SSE3 BIT(0)
#define SSSE3 BIT(9)
#define FMA BIT(12)
#define SSE4_1 BIT(19)
#define SSE4_2 BIT(20)
#define POPCNT BIT(23)
#define OSXSAVE BIT(27) /* XGETBV may be used */
#define AVX BIT(28)
#define F16C BIT(29)
/* CPUID.(7,0):EBX */
#define AVX2 BIT(5)
#define AVX512F BIT(16)
#define AVX512DQ BIT(17)
#define AVX512BW BIT(30)
#define AVX512VL BIT(31)
/* CPUID.(7,0):ECX */
#define AVX512VBMI BIT(1)
#define AVX512VNNI BIT(11)

/* XCR0: the registers the system saves when it changes from one thread to another. */
#define XMM_YMM UINT64_C(0x06)
#define OPMASK_ZMM UINT64_C(0xe0)

static int has(uint64_t word, uint64_t bits) { return (word & bits) == bits; }

unsigned rvk_cpu_decide(const rvk_cpu_registers *r, int lazy_avx512) {
    if (!has(r->leaf1_ecx, OSXSAVE) || !has(r->xcr0, XMM_YMM)) return 0;
    if (!has(r->leaf1_ecx, SSE3 | SSSE3 | FMA | SSE4_1 | SSE4_2 | POPCNT | AVX | F16C) ||
        !has(r->leaf7_ebx, AVX2))
        return 0;
    unsigned sets = RVK_CPU_AVX2;
    if (!has(r->xcr0, OPMASK_ZMM) && !lazy_avx512) return sets;
    if (!has(r->leaf7_ebx, AVX512F | AVX512DQ | AVX512BW | AVX512VL)) return sets;
    sets |= RVK_CPU_AVX512;
    if (has(r->leaf7_ecx, AVX512VBMI | AVX512VNNI)) sets |= RVK_CPU_AVX512VBMI;
    return sets;
}

#if defined(__x86_64__)
#include <cpuid.h>

#ifdef __APPLE__
#define LAZY_AVX512 1 /* each thread's XCR0 gets its bits when it first uses them */
#else
#define LAZY_AVX512 0
#endif

/* The instruction itself, as the compilers' function for it needs a flag of its own. */
static uint64_t xgetbv(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static unsigned probe(void) {
    rvk_cpu_registers r = {0};
    uint32_t a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d)) r.leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        r.leaf7_ebx = b;
        r.leaf7_ecx = c;
    }
    if (has(r.leaf1_ecx, OSXSAVE)) r.xcr0 = xgetbv();
    return rvk_cpu_decide(&r, LAZY_AVX512);
}
#else
static unsigned probe(void) { return 0; }
#endif

/* CPUID takes tens of microseconds in a virtual machine. */
unsigned rvk_cpu_sets(void) {
    static atomic_uint known; /* the sets and ASKED; 0 = not asked yet */
    enum { ASKED = 1 << 30 };
    unsigned sets = atomic_load_explicit(&known, memory_order_relaxed);
    if (sets == 0) {
        sets = probe() | ASKED;
        atomic_store_explicit(&known, sets, memory_order_relaxed);
    }
    return sets & ~(unsigned)ASKED;
}
