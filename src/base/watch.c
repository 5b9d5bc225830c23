/*
 * watch.c - whether a mapped file is still what was opened. Others can write to it in
 * place, and its pages show that, or cut it, and touching pages that are gone raises
 * SIGBUS. No mapping is safe from that, and a handler for the signal would be the whole
 * process's; so the file is asked for its size and times, through a descriptor that stays
 * with it whatever its name comes to mean.
 *
 * The time of attributes also changes when the file is renamed, removed or given another
 * mode. Where it alone has changed the last bytes are compared, which in an index file
 * are a digest of the others.
 *
 * A program that becomes a daemon closes descriptors it did not open, and their numbers
 * come to mean other files. The inode tells; the mapping is then as one without a
 * descriptor.
 */
#include "base/os.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#define TAIL_BYTES 64u

typedef struct rvb_watch {
    rvb_fd fd;
    rvb_stamp stamp;
    _Atomic uint64_t changed_ns; /* the latest that was looked into */
    size_t tail_bytes;
    uint8_t tail[TAIL_BYTES];
    char path[];
} rvb_watch;

static rv_status changed(const rvb_watch *w, const char *what, rv_error *err) {
    const char *end = rvb_path_end(w->path, 80);
    rv_status status = rvb_fail(
        err, RV_ERR_DIGEST,
        "%s%s was changed in place while it was mapped (%s); load it again, or without "
        "mapping it (mmap=False, in C use_mmap 0)",
        end > w->path ? "..." : "", end, what);
    rvb_error_path(err, w->path);
    return status;
}

static rv_status changed_size(const rvb_watch *w, uint64_t now, rv_error *err) {
    char what[80];
    snprintf(what, sizeof what, "%" PRIu64 " bytes, now %" PRIu64, w->stamp.size, now);
    return changed(w, what, err);
}

static rv_status cannot_read(const rvb_watch *w, int failed, rv_error *err) {
    return rvb_fail_os(err, failed, "cannot read", w->path);
}

/* Whether the descriptor is still that of the file; `failed` is what asking answered. */
static bool is_ours(const rvb_watch *w, int failed, const rvb_stamp *now) {
    return failed ? failed != EBADF : now->inode == w->stamp.inode;
}

static bool still_ours(const rvb_watch *w) {
    rvb_stamp now;
    int failed = rvb_os_stamp(w->fd, &now);
    return is_ours(w, failed, &now);
}

static rv_status read_exactly(const rvb_watch *w, uint64_t at, void *out, size_t size,
                              rv_error *err) {
    size_t got;
    int failed = rvb_os_read_at(w->fd, at, out, size, &got);
    if (failed) return cannot_read(w, failed, err);
    if (got == size) return RV_OK;
    rvb_stamp now;
    failed = rvb_os_stamp(w->fd, &now);
    return failed ? cannot_read(w, failed, err) : changed_size(w, now.size, err);
}

static rv_status read_tail(const rvb_watch *w, uint8_t *tail, rv_error *err) {
    return read_exactly(w, w->stamp.size - w->tail_bytes, tail, w->tail_bytes, err);
}

static rv_status watch(rvb_watch *w, uint64_t size, rv_error *err) {
    int failed = rvb_os_stamp(w->fd, &w->stamp);
    if (failed) return cannot_read(w, failed, err);
    rvb_stamp_outlast(&w->stamp);
    atomic_init(&w->changed_ns, w->stamp.changed_ns);
    uint64_t now = w->stamp.size;
    w->stamp.size = size; /* that of the mapping */
    if (now != size) return changed_size(w, now, err);
    w->tail_bytes = size < TAIL_BYTES ? (size_t)size : TAIL_BYTES;
    return read_tail(w, w->tail, err);
}

rv_status rvb_watch_file(rvb_fd fd, const char *path, rvb_bytes *bytes, rv_error *err) {
    size_t path_bytes = strlen(path) + 1;
    rvb_watch *w = rvb_alloc_zero(1, sizeof *w + path_bytes);
    if (!w) return rvb_fail_memory(err, sizeof *w + path_bytes);
    w->fd = fd;
    memcpy(w->path, path, path_bytes);
    rv_status status = watch(w, bytes->size, err);
    if (status == RV_OK)
        bytes->watch = w;
    else
        rvb_free(w);
    return status;
}

void rvb_watch_end(rvb_watch *w) {
    if (w && still_ours(w)) rvb_os_close(w->fd);
    rvb_free(w);
}

/* The file has other attributes: its bytes may be what they were. */
static rv_status look_into(rvb_watch *w, uint64_t changed_ns, rv_error *err) {
    uint8_t tail[TAIL_BYTES];
    RVB_TRY(read_tail(w, tail, err));
    if (memcmp(tail, w->tail, w->tail_bytes) != 0)
        return changed(w, "its last bytes are others", err);
    atomic_store(&w->changed_ns, changed_ns);
    return RV_OK;
}

rv_status rvb_file_check(const rvb_bytes *bytes, rv_error *err) {
    rvb_watch *w = bytes->watch;
    if (!w) return RV_OK;
    rvb_stamp now;
    int failed = rvb_os_stamp(w->fd, &now);
    if (!is_ours(w, failed, &now)) return RV_OK;
    if (failed) return cannot_read(w, failed, err);
    if (now.size != w->stamp.size) return changed_size(w, now.size, err);
    if (now.modified_ns != w->stamp.modified_ns)
        return changed(w, "it was written to or touched", err);
    if (now.changed_ns == atomic_load(&w->changed_ns)) return RV_OK;
    return look_into(w, now.changed_ns, err);
}

rv_status rvb_file_read(const rvb_bytes *bytes, uint64_t at, void *out, size_t size,
                        rv_error *err) {
    if (bytes->watch) {
        rv_status status = read_exactly(bytes->watch, at, out, size, err);
        if (still_ours(bytes->watch)) return status;
    }
    memcpy(out, bytes->data + at, size);
    return RV_OK;
}
