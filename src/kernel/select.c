/*
 * select.c - which tables this machine can run, and the one in use. The environment
 * variable RUVECTOR_ISA names a table; an unknown name or one this machine cannot run
 * is ignored in favor of the best.
 *
 * Threads: one atomic pointer, NULL until first asked. Callers that race to the first
 * choice all compute the same one.
 */
#include "kernel.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

/* Best first. */
static const struct {
    const rvk_ops *ops;
    unsigned needs; /* RVK_CPU_*; 0 = nothing beyond what all code is compiled for */
} candidates[] = {
#ifdef RVK_HAVE_AVX512VBMI
    {&rvk_ops_avx512vbmi, RVK_CPU_AVX512VBMI},
#endif
#ifdef RVK_HAVE_AVX512
    {&rvk_ops_avx512, RVK_CPU_AVX512},
#endif
#ifdef RVK_HAVE_AVX2
    {&rvk_ops_avx2, RVK_CPU_AVX2},
#endif
#ifdef RVK_HAVE_NEON
    {&rvk_ops_neon, 0},
#endif
    {&rvk_ops_scalar, 0},
};

static _Atomic(const rvk_ops *) active;

const rvk_ops *rvk_ops_at(size_t i) {
    unsigned sets = rvk_cpu_sets();
    for (size_t c = 0; c < sizeof candidates / sizeof candidates[0]; c++) {
        if ((candidates[c].needs & ~sets) == 0 && i-- == 0) return candidates[c].ops;
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
