/*
 * error.c - fills rv_error records. Nothing here allocates or takes a lock, so an
 * error can be reported when memory is gone. Text that does not fit is cut, never
 * inside a UTF-8 character; of a path the end is kept, for it names the file.
 */
#ifndef _WIN32
#undef _GNU_SOURCE /* with it glibc declares a strerror_r of its own kind */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#endif

#include "base/base.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

const char *rv_status_name(rv_status status) {
    switch (status) {
    case RV_OK:
        return "ok";
    case RV_ERR_MEMORY:
        return "memory";
    case RV_ERR_ARGUMENT:
        return "argument";
    case RV_ERR_VALUE:
        return "value";
    case RV_ERR_DIM:
        return "dim";
    case RV_ERR_EMPTY:
        return "empty";
    case RV_ERR_DUPLICATE:
        return "duplicate";
    case RV_ERR_NOT_FOUND:
        return "not found";
    case RV_ERR_NO_VECTORS:
        return "no vectors";
    case RV_ERR_IO:
        return "io";
    case RV_ERR_FORMAT:
        return "format";
    case RV_ERR_DIGEST:
        return "digest";
    case RV_ERR_LIMIT:
        return "limit";
    case RV_ERR_BACKEND:
        return "backend";
    case RV_ERR_CACHE_MISS:
        return "cache miss";
    case RV_ERR_WITNESS:
        return "witness";
    case RV_ERR_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}

static bool is_continuation(char c) { return ((unsigned char)c & 0xC0u) == 0x80u; }

/* Length of the longest prefix of text[0..limit] that ends between characters. */
static size_t cut_at(const char *text, size_t limit) {
    size_t length = strlen(text);
    if (length <= limit) return length;
    while (limit > 0 && is_continuation(text[limit])) limit--;
    return limit;
}

const char *rvb_path_end(const char *path, size_t limit) {
    size_t length = strlen(path);
    if (length <= limit) return path;
    path += length - limit;
    while (is_continuation(*path)) path++;
    return path;
}

/* The arguments may point into *err: it is written last. */
static void fill(rv_error *err, rv_status code, uint64_t expected, uint64_t actual,
                 const char *format, va_list arguments) {
    char text[sizeof err->message + 4]; /* room to see a cut character whole */
    if (vsnprintf(text, sizeof text, format, arguments) < 0) text[0] = '\0';
    memset(err, 0, sizeof *err);
    err->code = code;
    err->expected = expected;
    err->actual = actual;
    memcpy(err->message, text, cut_at(text, sizeof err->message - 1));
}

rv_status rvb_fail(rv_error *err, rv_status code, const char *format, ...) {
    if (!err) return code;
    va_list arguments;
    va_start(arguments, format);
    fill(err, code, 0, 0, format, arguments);
    va_end(arguments);
    return code;
}

rv_status rvb_fail_numbers(rv_error *err, rv_status code, uint64_t expected,
                           uint64_t actual, const char *format, ...) {
    if (!err) return code;
    va_list arguments;
    va_start(arguments, format);
    fill(err, code, expected, actual, format, arguments);
    va_end(arguments);
    return code;
}

enum { PATH_ROOM = sizeof((rv_error){0}.path) };

static void keep_tail(char out[PATH_ROOM], const char *path) {
    const char *end = rvb_path_end(path, PATH_ROOM - 1);
    memmove(out, end, strlen(end) + 1);
}

void rvb_error_path(rv_error *err, const char *path) {
    if (err) keep_tail(err->path, path);
}

rv_status rvb_fail_os(rv_error *err, int os_errno, const char *what, const char *path) {
    if (!err) return RV_ERR_IO;
    char reason[128];
#ifdef _WIN32
    int failed = strerror_s(reason, sizeof reason, os_errno);
#else
    int failed = strerror_r(os_errno, reason, sizeof reason);
#endif
    if (failed) snprintf(reason, sizeof reason, "error %d", os_errno);

    char kept[PATH_ROOM];
    keep_tail(kept, path);

    size_t room = sizeof err->message - 1;
    size_t used = strlen(what) + strlen(reason) + strlen(" : ");
    const char *shown = rvb_path_end(kept, used < room ? room - used : 0);
    rvb_fail(err, RV_ERR_IO, "%s %s: %s", what, shown, reason);
    err->os_errno = os_errno;
    memcpy(err->path, kept, sizeof kept);
    return RV_ERR_IO;
}

rv_status rvb_fail_memory(rv_error *err, uint64_t bytes) {
    return rvb_fail_numbers(err, RV_ERR_MEMORY, bytes, 0,
                            "out of memory: %" PRIu64 " bytes were asked for", bytes);
}
