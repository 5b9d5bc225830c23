/*
 * library.c - the public face of what the kernel room decides.
 */
#include "base/base.h"
#include "kernel/kernel.h"

const char *rv_isa_active(void) { return rvk_ops_active()->name; }

size_t rv_isa_available(const char **names, size_t capacity) {
    size_t n = 0;
    for (const rvk_ops *ops; (ops = rvk_ops_at(n)) != NULL; n++)
        if (n < capacity) names[n] = ops->name;
    return n;
}

rv_status rv_isa_force(const char *name, rv_error *err) {
    const rvk_ops *ops = name ? rvk_ops_find(name) : NULL;
    if (name && !ops)
        return rvb_fail(
            err, RV_ERR_ARGUMENT,
            "this machine cannot run instruction set \"%s\"; the one in use is %s", name,
            rv_isa_active());
    rvk_ops_set(ops);
    return RV_OK;
}
