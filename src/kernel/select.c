/*
 * select.c - which tables this machine can run, and the one in use. The environment
 * variable RUVECTOR_ISA names a table; an unknown name or one this machine cannot run
 * is ignored in favour of the best.
 *
 * Threads: one atomic pointer, NULL until first asked. Callers that race to the first
 * choice all compute the same one.
 */
#include "kernel.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
/* The compilers' probe also asks whether the system saves the wider registers. */
#define CPU_HAS(feature) (__builtin_cpu_supports(feature) != 0)
#endif

static bool always(void) { return true; }

#ifdef RVK_HAVE_AVX2
/* Clang's probe does not know this one. Asked once: in a virtual machine the instruction
 * takes long. */
static bool has_f16c(void) {
    static atomic_int known; /* 0 = not yet, 1 = no, 2 = yes */
    if (!atomic_load(&known)) {
        unsigned a, b, c, d;
        atomic_store(&known, __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) ? 2 : 1);
    }
    return atomic_load(&known) == 2;
}

static bool has_avx2(void) {
    __builtin_cpu_init();
    return CPU_HAS("avx2") && CPU_HAS("fma") && has_f16c();
}
#endif

#ifdef RVK_HAVE_AVX512
static bool has_avx512(void) {
    __builtin_cpu_init();
    return CPU_HAS("fma") && CPU_HAS("avx512f") && CPU_HAS("avx512bw") &&
           CPU_HAS("avx512vl") && CPU_HAS("avx512dq");
}
#endif

#ifdef RVK_HAVE_AVX512VBMI
static bool has_avx512vbmi(void) {
    return has_avx512() && CPU_HAS("avx512vbmi") && CPU_HAS("avx512vnni");
}
#endif

/* Best first. */
static const struct {
    const rvk_ops *ops;
    bool (*supported)(void);
} candidates[] = {
#ifdef RVK_HAVE_AVX512VBMI
    {&rvk_ops_avx512vbmi, has_avx512vbmi},
#endif
#ifdef RVK_HAVE_AVX512
    {&rvk_ops_avx512, has_avx512},
#endif
#ifdef RVK_HAVE_AVX2
    {&rvk_ops_avx2, has_avx2},
#endif
#ifdef RVK_HAVE_NEON
    {&rvk_ops_neon, always},
#endif
    {&rvk_ops_scalar, always},
};

static _Atomic(const rvk_ops *) active;

const rvk_ops *rvk_ops_at(size_t i) {
    for (size_t c = 0; c < sizeof candidates / sizeof candidates[0]; c++) {
        if (candidates[c].supported() && i-- == 0) return candidates[c].ops;
    }
    return NULL;
}

const rvk_ops *rvk_ops_find(const char *name) {
    const rvk_ops *ops;
    for (size_t i = 0; (ops = rvk_ops_at(i)) != NULL; i++) {
        if (strcmp(ops->name, name) == 0) return ops;
    }
    return NULL;
}

static const rvk_ops *choose(void) {
    const char *wanted = getenv("RUVECTOR_ISA");
    const rvk_ops *ops = wanted != NULL ? rvk_ops_find(wanted) : NULL;
    return ops != NULL ? ops : rvk_ops_at(0);
}

const rvk_ops *rvk_ops_active(void) {
    const rvk_ops *ops = atomic_load_explicit(&active, memory_order_acquire);
    if (ops != NULL) return ops;
    const rvk_ops *chosen = choose();
    /* A table set meanwhile wins. */
    if (atomic_compare_exchange_strong(&active, &ops, chosen)) return chosen;
    return ops;
}

void rvk_ops_set(const rvk_ops *ops) {
    atomic_store_explicit(&active, ops, memory_order_release);
}
