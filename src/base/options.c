/*
 * options.c - structs of the public headers that start with their size, across releases:
 * a program's may be smaller than the library's, never larger.
 */
#include "base/base.h"

/* No release's struct is larger: what is was never set. */
#define MAX_STRUCT_BYTES 65536u

const char *rv_version(void) { return RV_VERSION; }

static size_t size_of(const void *given) {
    size_t size;
    memcpy(&size, given, sizeof size);
    return size;
}

rv_status rvb_check_size(const rvb_sized *type, const void *given, rv_error *err) {
    size_t size = size_of(given);
    if (size > type->now && size <= MAX_STRUCT_BYTES)
        return rvb_fail_numbers(
            err, RV_ERR_ARGUMENT, type->now, size,
            "%s came with %zu bytes, and ruvector %s knows %zu: the program was compiled "
            "for a newer ruvector; run it with the library it was compiled for, or a "
            "newer one",
            type->name, size, rv_version(), type->now);
    if (size < type->first || size > MAX_STRUCT_BYTES)
        return rvb_fail_numbers(
            err, RV_ERR_ARGUMENT, type->now, size,
            "%s came with %zu bytes; it has %zu in ruvector %s and had %zu in 0.1.0: "
            "start from %s, which sets its size",
            type->name, size, type->now, rv_version(), type->first, type->initializer);
    return RV_OK;
}

rv_status rvb_take_options(const rvb_sized *type, const void *given, void *out,
                           rv_error *err) {
    if (!given) return RV_OK;
    RVB_TRY(rvb_check_size(type, given, err));
    memcpy(out, given, size_of(given));
    memcpy(out, &type->now, sizeof type->now);
    return RV_OK;
}

rv_status rvb_give_info(const rvb_sized *type, const void *info, void *out,
                        rv_error *err) {
    RVB_TRY(rvb_check_size(type, out, err));
    size_t skip = sizeof(size_t);
    memcpy((char *)out + skip, (const char *)info + skip, size_of(out) - skip);
    return RV_OK;
}
