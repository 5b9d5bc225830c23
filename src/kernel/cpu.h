/*
 * cpu.h - which instruction sets the processor has and the system lets be used. The
 * compilers' __builtin_cpu_supports is not asked: it reads a table of the compiler's
 * run-time library, which some of these (zig's) never fill in.
 */
#ifndef RVK_CPU_H
#define RVK_CPU_H

#include <stdint.h>

/* What an x86 processor says of itself. A leaf that is not there reads as 0. */
typedef struct rvk_cpu_registers {
    uint32_t leaf1_ecx;            /* CPUID.1:ECX */
    uint32_t leaf7_ebx, leaf7_ecx; /* CPUID.(7,0) */
    uint64_t xcr0; /* XGETBV(0); 0 where the system has not turned it on */
} rvk_cpu_registers;

/* Sets of instructions, as the flags of one table allow them to the compiler. */
enum {
    RVK_CPU_AVX2 = 1 << 0,
    RVK_CPU_AVX512 = 1 << 1,
    RVK_CPU_AVX512VBMI = 1 << 2,
};

/* Which of them can run, given the registers and whether the system saves the AVX-512
 * registers from their first use on, whatever XCR0 says until then. */
unsigned rvk_cpu_decide(const rvk_cpu_registers *r, int lazy_avx512);

/* Which of them this machine can run: asked once. On other processors none; what they
 * are compiled for is what they run. */
unsigned rvk_cpu_sets(void);

#endif
