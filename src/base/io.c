/*
 * io.c - whole files in, whole files out.
 *
 * A writer fills a temporary file in the directory of its target. Only when every
 * byte is on disk does a rename put it in the target's place, so a reader, or a
 * machine that lost power, finds the old file or the new one and nothing between.
 * A killed process may leave its temporary file, .ruvector-<16 hex digits>.tmp.
 */
#include "base/os.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define BUFFER_BYTES ((size_t)256 << 10)
#define NAME_TRIES 100

static rv_status fail(rv_error *err, int code, const char *what, const char *path) {
    if (code == ENOMEM)
        return rvb_fail(err, RV_ERR_MEMORY, "out of memory: %s %s", what, path);
    if (code != RVB_NOT_A_FILE) return rvb_fail_os(err, code, what, path);
    char text[80];
    snprintf(text, sizeof text, "%s (not a regular file)", what);
    return rvb_fail_os(err, EINVAL, text, path);
}

/* ---- reading ------------------------------------------------------------- */

static rv_status read_whole(rvb_fd fd, const char *path, size_t size, rvb_bytes *out,
                            rv_error *err) {
    uint8_t *data = rvb_alloc(size, 1);
    if (!data) return rvb_fail_memory(err, size);
    size_t got;
    int failed = rvb_os_read(fd, data, size, &got);
    if (!failed && got < size) failed = EIO; /* it shrank since it was opened */
    if (failed) {
        rvb_free(data);
        return fail(err, failed, "cannot read", path);
    }
    *out = (rvb_bytes){.data = data, .size = size};
    return RV_OK;
}

static rv_status read_or_map(rvb_fd fd, const char *path, uint64_t size, bool use_mmap,
                             rvb_bytes *out, rv_error *err) {
    if (size == 0) return RV_OK; /* which cannot be mapped */
#if SIZE_MAX < UINT64_MAX
    if (size > SIZE_MAX) {
        return rvb_fail_numbers(err, RV_ERR_LIMIT, SIZE_MAX, size,
                                "the file has %" PRIu64 " bytes, more than a 32-bit "
                                "process can address",
                                size);
    }
#endif
    if (!use_mmap) return read_whole(fd, path, (size_t)size, out, err);
    const uint8_t *data;
    int failed = rvb_os_map(fd, (size_t)size, &data);
    if (failed) return fail(err, failed, "cannot map", path);
    *out = (rvb_bytes){.data = data, .size = (size_t)size, .mapped = true};
    return RV_OK;
}

rv_status rvb_file_open(const char *path, bool use_mmap, rvb_bytes *out, rv_error *err) {
    rvb_fd fd;
    uint64_t size;
    *out = (rvb_bytes){0};
    int failed = rvb_os_open(path, &fd, &size);
    if (failed) return fail(err, failed, "cannot open", path);
    rv_status status = read_or_map(fd, path, size, use_mmap, out, err);
    if (status == RV_OK && out->mapped && rvb_os_may_keep(fd)) {
        status = rvb_watch_file(fd, path, out, err);
        if (status != RV_OK)
            rvb_file_close(out);
        else
            return RV_OK; /* the descriptor is kept */
    }
    rvb_os_close(fd);
    return status;
}

void rvb_file_close(rvb_bytes *bytes) {
    rvb_watch_end(bytes->watch);
    if (bytes->mapped) {
        rvb_os_unmap(bytes->data, bytes->size);
    } else {
        rvb_free((void *)(uintptr_t)bytes->data);
    }
    *bytes = (rvb_bytes){0};
}

/* ---- reading by parts ---------------------------------------------------- */

rv_status rvb_input_open(const char *what, const char *path, bool follow_links,
                         rvb_input *out, rv_error *err) {
    uint64_t size;
    *out = (rvb_input){RVB_NO_FD, what, path};
    int failed = follow_links ? rvb_os_open(path, &out->fd, &size)
                              : rvb_os_open_no_link(path, &out->fd, &size);
    return failed ? fail(err, failed, what, path) : RV_OK;
}

rv_status rvb_input_stamp(const rvb_input *in, rvb_stamp *out, rv_error *err) {
    int failed = rvb_os_stamp(in->fd, out);
    return failed ? fail(err, failed, in->what, in->path) : RV_OK;
}

rv_status rvb_input_read(const rvb_input *in, void *data, size_t size, size_t *got,
                         rv_error *err) {
    int failed = rvb_os_read(in->fd, data, size, got);
    return failed ? fail(err, failed, in->what, in->path) : RV_OK;
}

void rvb_input_close(const rvb_input *in) { rvb_os_close(in->fd); }

/* ---- directories --------------------------------------------------------- */

char *rvb_join_path(const char *directory, const char *name) {
    size_t length = strlen(directory), size = strlen(name) + 1;
    char *path = rvb_alloc(length + 1 + size, 1);
    if (!path) return NULL;
    memcpy(path, directory, length);
    if (rvb_os_directory_length(directory) < length) path[length++] = RVB_SEPARATOR;
    memcpy(path + length, name, size);
    return path;
}

/* Makes the directory and flushes the one it lies in, so that it lasts. */
static int make_directory(char *path) {
    int failed = rvb_os_make_directory(path);
    if (failed) return rvb_os_is_directory(path) ? 0 : failed;
    rvb_fd fd;
    path[rvb_os_directory_length(path)] = '\0';
    failed = rvb_os_open_directory(path, &fd);
    if (!failed && fd != RVB_NO_FD) {
        failed = rvb_os_sync_directory(fd);
        rvb_os_close(fd);
    }
    return failed;
}

static bool is_separator(char c) { return c == '/' || c == RVB_SEPARATOR; }

rv_status rvb_make_directories(const char *path, rv_error *err) {
    size_t length = strlen(path);
    if (length == 0 || rvb_os_is_directory(path)) return RV_OK;
    char *part = rvb_alloc(length + 1, 1);
    if (!part) return rvb_fail_memory(err, length + 1);
    int failed = 0;
    for (size_t i = 1; !failed && i <= length; i++) {
        if (i < length && !is_separator(path[i])) continue;
        if (is_separator(path[i - 1])) continue;
        memcpy(part, path, i);
        part[i] = '\0';
        failed = make_directory(part);
    }
    rvb_free(part);
    return failed ? fail(err, failed, "cannot make directory", path) : RV_OK;
}

/* ---- writing ------------------------------------------------------------- */

struct rvb_writer {
    rvb_fd fd;
    char *path;   /* as the caller named it, for errors */
    char *target; /* what it leads to */
    char *temporary;
    int failed; /* the first error: all later calls fail with it */
    size_t fill;
    uint8_t buffer[BUFFER_BYTES];
};

static void free_writer(rvb_writer *w) {
    rvb_free(w->path);
    rvb_free(w->target);
    rvb_free(w->temporary);
    rvb_free(w);
}

static char *copy(const char *text) {
    char *copied = rvb_alloc(strlen(text) + 1, 1);
    if (copied) memcpy(copied, text, strlen(text) + 1);
    return copied;
}

/* Creates the temporary file under a name nobody can have prepared. */
static int create_temporary(rvb_writer *w, int mode) {
    static const char pattern[] = ".ruvector-0123456789abcdef.tmp";
    size_t directory = rvb_os_directory_length(w->target);
    w->temporary = rvb_alloc(directory + sizeof pattern, 1);
    if (!w->temporary) return ENOMEM;
    memcpy(w->temporary, w->target, directory);
    int failed = EEXIST;
    for (int i = 0; i < NAME_TRIES && failed == EEXIST; i++) {
        snprintf(w->temporary + directory, sizeof pattern, ".ruvector-%016" PRIx64 ".tmp",
                 rvb_os_entropy());
        failed = rvb_os_create(w->temporary, mode, &w->fd);
    }
    return failed;
}

static rv_status open_writer(const char *path, bool follow_links, rvb_writer **out,
                             rv_error *err) {
    *out = NULL;
    rvb_writer *w = rvb_alloc(1, sizeof *w);
    if (!w) return rvb_fail_memory(err, sizeof *w);
    w->target = w->temporary = NULL;
    w->failed = 0;
    w->fill = 0;
    w->path = copy(path);
    int mode = -1;
    int failed = w->path ? rvb_os_target(path, follow_links, &w->target, &mode) : ENOMEM;
    if (!failed) failed = create_temporary(w, mode);
    if (failed) {
        free_writer(w);
        return fail(err, failed, "cannot write", path);
    }
    *out = w;
    return RV_OK;
}

rv_status rvb_writer_open(const char *path, rvb_writer **out, rv_error *err) {
    return open_writer(path, true, out, err);
}

rv_status rvb_writer_open_at(const char *path, rvb_writer **out, rv_error *err) {
    return open_writer(path, false, out, err);
}

static void write_now(rvb_writer *w, const void *data, size_t size) {
    if (!w->failed && size > 0) w->failed = rvb_os_write(w->fd, data, size);
}

static void flush(rvb_writer *w) {
    write_now(w, w->buffer, w->fill);
    w->fill = 0;
}

rv_status rvb_writer_write(rvb_writer *w, const void *data, size_t size, rv_error *err) {
    if (size > BUFFER_BYTES - w->fill) flush(w);
    if (size >= BUFFER_BYTES) {
        write_now(w, data, size);
    } else if (size > 0) {
        memcpy(w->buffer + w->fill, data, size);
        w->fill += size;
    }
    return w->failed ? fail(err, w->failed, "cannot write", w->path) : RV_OK;
}

void rvb_writer_abort(rvb_writer *w) {
    if (!w) return;
    rvb_os_close(w->fd);
    rvb_os_unlink(w->temporary);
    free_writer(w);
}

/* Puts the temporary file in the target's place. The directory is opened first, so
 * that nothing but the last flush can fail once the target has changed. */
static int replace_target(rvb_writer *w, int *flush_failed) {
    rvb_fd directory;
    size_t length = rvb_os_directory_length(w->temporary);
    char first = w->temporary[length];
    w->temporary[length] = '\0';
    int failed = rvb_os_open_directory(w->temporary, &directory);
    w->temporary[length] = first;
    if (failed) return failed;
    failed = rvb_os_rename(w->temporary, w->target);
    if (!failed) *flush_failed = rvb_os_sync_directory(directory);
    if (directory != RVB_NO_FD) rvb_os_close(directory);
    return failed;
}

rv_status rvb_writer_commit(rvb_writer *w, rv_error *err) {
    int flush_failed = 0;
    flush(w);
    if (!w->failed) rvb_os_touch(w->fd);
    if (!w->failed) w->failed = rvb_os_sync(w->fd);
    int closed = rvb_os_close(w->fd); /* may be the first to notice a full disk */
    if (!w->failed) w->failed = closed;
    if (!w->failed) w->failed = replace_target(w, &flush_failed);
    rv_status status = RV_OK;
    if (w->failed) {
        status = fail(err, w->failed, "cannot write", w->path);
        rvb_os_unlink(w->temporary);
    } else if (flush_failed) {
        status = fail(err, flush_failed, "wrote, but cannot make last", w->path);
    }
    free_writer(w);
    return status;
}
