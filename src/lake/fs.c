/*
 * fs.c - collections that are files of one directory.
 *
 * Nothing is discovered: a collection is a name given to a file. A file's state is read
 * from its open descriptor, before and after the bytes, so a pull's generation is that
 * of the bytes pulled, whatever is renamed over the file meanwhile. Two states may have
 * one generation, whole seconds; the token tells them apart.
 */
#include <errno.h>
#include <stdio.h>

#include "base/json.h"
#include "lake/ruvec1.h"
#include "lake/source_i.h"

#define NAME_MAX_BYTES 255u
/* Other writers add to a name for their temporary file. */
#define WRITTEN_NAME_MAX_BYTES 240u
#define READ_TRIES 3
#define SCHEME "file" /* of a data_ref */

typedef struct place {
    rvl_named named;
    char *filename;
    char name[];
} place;

typedef struct fs {
    rvb_rwlock *lock; /* of names and what they lead to */
    rvl_names names;
    bool follow_links;
    char *root;
    char id[];
} fs;

static char *copy_text(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = rvb_alloc(size, 1);
    if (copy) memcpy(copy, text, size);
    return copy;
}

/* ---- names of files ------------------------------------------------------------- */

static bool has_control(const char *name) {
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == 0x7F) return true;
    return false;
}

/* Why there can be no such file; NULL if there can. */
static const char *illegal(const char *name, bool written) {
    size_t size = strlen(name);
    if (size == 0) return "empty";
    if (size > NAME_MAX_BYTES) return "exceeds 255 bytes (POSIX NAME_MAX)";
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return "reserved component";
    if (has_control(name)) return "control byte";
    if (strpbrk(name, "/\\")) return "path separator";
    if (strchr(name, ':')) return "colon";
    if (!rvb_utf8_valid(name, size)) return "not UTF-8";
    if (written && size > WRITTEN_NAME_MAX_BYTES)
        return "exceeds 240 bytes, no room for a temporary file's name";
    if (written && name[0] == '.') return "leading dot, kept for temporary files";
    return NULL;
}

/* As much of a name as a message should show, without bytes that would garble it. */
static void printable(const char *name, char out[128]) {
    size_t at = 0, size = strlen(name);
    while (*name && at < 100) {
        size_t n = rvb_utf8_size(name, size);
        bool plain = n > 0 && (unsigned char)*name >= 0x20 && *name != 0x7F;
        if (n == 0) n = 1;
        if (plain)
            memcpy(out + at, name, n);
        else
            out[at] = '?';
        at += plain ? n : 1;
        name += n;
        size -= n;
    }
    memcpy(out + at, *name ? "..." : "", *name ? 4 : 1);
}

static rv_status check_names(const fs *f, const char *collection, const char *filename,
                             bool written, rv_error *err) {
    char shown[128];
    const char *reason = illegal(filename, written);
    if (!rvb_utf8_valid(collection, strlen(collection)))
        return rvb_fail(err, RV_ERR_ARGUMENT, "a collection's name must be UTF-8 text");
    if (!reason) return rvl_check_data_ref(SCHEME, f->root, filename, err);
    printable(filename, shown);
    return rvb_fail(err, RV_ERR_ARGUMENT, "FsBackend: illegal filename \"%s\": %s", shown,
                    reason);
}

/* ---- collections ---------------------------------------------------------------- */

static void free_place(place *p) {
    if (!p) return;
    rvb_free(p->filename);
    rvb_free(p);
}

static void release_fs(void *ctx) {
    fs *f = ctx;
    for (size_t i = 0; i < f->names.n; i++) free_place((place *)f->names.records[i]);
    rvb_free(f->names.records);
    rvb_rwlock_free(f->lock);
    rvb_free(f->root);
    rvb_free(f);
}

static rv_status of_backend(const rv_backend *backend, fs **out, rv_error *err) {
    *out = rvl_backend_context(backend, release_fs);
    if (*out) return RV_OK;
    return rvb_fail(err, RV_ERR_ARGUMENT, "backend %s is not one of files",
                    rv_backend_id(backend));
}

/* Everything a registration needs, so that nothing can fail once a file is written. */
static rv_status prepare(fs *f, const char *name, const char *filename, place **out,
                         rv_error *err) {
    size_t length = strlen(name) + 1;
    place *p = rvb_alloc_zero(1, sizeof *p + length);
    if (!p) return rvb_fail_memory(err, sizeof *p + length);
    memcpy(p->name, name, length);
    p->named.name = p->name;
    p->filename = copy_text(filename);
    rv_status status = p->filename ? RV_OK : rvb_fail_memory(err, strlen(filename) + 1);
    if (status == RV_OK) {
        rvb_rwlock_write_lock(f->lock);
        status = rvl_names_reserve(&f->names, err);
        rvb_rwlock_write_unlock(f->lock);
    }
    if (status != RV_OK) {
        free_place(p);
        return status;
    }
    *out = p;
    return RV_OK;
}

/* Either a new collection or another file for one there is. */
static void settle(fs *f, place *p) {
    rvb_rwlock_write_lock(f->lock);
    place *old = rvl_names_find(&f->names, p->name);
    if (old) {
        char *filename = old->filename;
        old->filename = p->filename;
        p->filename = filename;
        rvl_names_cancel(&f->names);
    } else {
        rvl_names_add(&f->names, p);
    }
    rvb_rwlock_write_unlock(f->lock);
    if (old) free_place(p);
}

static void forget(fs *f, place *p) {
    rvb_rwlock_write_lock(f->lock);
    rvl_names_cancel(&f->names);
    rvb_rwlock_write_unlock(f->lock);
    free_place(p);
}

rv_status rv_fs_register(rv_backend *backend, const char *collection,
                         const char *filename, rv_error *err) {
    fs *f;
    place *p;
    RVB_TRY(of_backend(backend, &f, err));
    RVB_TRY(check_names(f, collection, filename, false, err));
    RVB_TRY(prepare(f, collection, filename, &p, err));
    settle(f, p);
    return RV_OK;
}

rv_status rv_fs_write(rv_backend *backend, const char *collection, const char *filename,
                      const rv_rows *rows, rv_error *err) {
    fs *f;
    place *p;
    RVB_TRY(of_backend(backend, &f, err));
    RVB_TRY(check_names(f, collection, filename, true, err));
    RVB_TRY(rvl_check_rows("FsBackend: write", rows, err));
    RVB_TRY(prepare(f, collection, filename, &p, err));
    char *path = rvb_join_path(f->root, filename);
    rv_status status =
        path ? rvl_ruvec1_write(path, rows->vectors, rows->dim, rows->ids, rows->n, err)
             : rvb_fail_memory(err, strlen(f->root) + strlen(filename));
    rvb_free(path);
    if (status == RV_OK)
        settle(f, p);
    else
        forget(f, p);
    return status;
}

/* ---- states of a file ----------------------------------------------------------- */

/* rvb_free *path. */
static rv_status path_of(fs *f, const char *collection, char **path, rv_error *err) {
    rvb_rwlock_read_lock(f->lock);
    const place *p = rvl_names_find(&f->names, collection);
    *path = p ? rvb_join_path(f->root, p->filename) : NULL;
    rvb_rwlock_read_unlock(f->lock);
    if (*path) return RV_OK;
    if (p) return rvb_fail_memory(err, strlen(f->root) + NAME_MAX_BYTES);
    return rvb_fail(err, RV_ERR_NOT_FOUND, "unknown collection: %s/%s", f->id,
                    collection);
}

static rv_status open_file(const fs *f, const char *path, rvb_input *out, rv_error *err) {
    rv_error why = {0};
    rv_status status =
        rvb_input_open("FsBackend: open", path, f->follow_links, out, &why);
    if (status != RV_OK && why.os_errno == ELOOP && !f->follow_links) {
        rvb_fail(&why, status,
                 "FsBackend: open: a symbolic link, and follow_links is off: %s", path);
        why.os_errno = ELOOP;
        rvb_error_path(&why, path);
    }
    if (status != RV_OK && err) *err = why;
    return status;
}

static uint64_t generation_of(const rvb_stamp *s) {
    return s->modified_s > 0 ? (uint64_t)s->modified_s : 0;
}

/* What is read of a file in one go. */
typedef rv_status (*reader)(const rvb_input *in, const rvb_stamp *stamp, void *ctx,
                            rv_error *err);

static rv_status read_once(const fs *f, const char *path, reader read, void *ctx,
                           bool *same, rv_error *err) {
    rvb_input in;
    rvb_stamp before, after;
    *same = true;
    RVB_TRY(open_file(f, path, &in, err));
    rv_status status = rvb_input_stamp(&in, &before, err);
    if (status == RV_OK) {
        rvb_stamp_outlast(&before);
        status = read(&in, &before, ctx, err);
        *same = rvb_input_stamp(&in, &after, NULL) == RV_OK &&
                before.modified_ns == after.modified_ns && before.size == after.size;
    }
    rvb_input_close(&in);
    return status;
}

/* Reads until the file was the same before and after; `undo` takes back what a read
 * has brought. Replacing the file does no harm, as the open one stays what it was. */
static rv_status read_state(const fs *f, const char *path, reader read,
                            void (*undo)(void *ctx), void *ctx, rv_error *err) {
    for (int i = 0; i < READ_TRIES; i++) {
        bool same;
        rv_status status = read_once(f, path, read, ctx, &same, err);
        if (status != RV_OK && status != RV_ERR_MEMORY) rvb_error_path(err, path);
        if (same || status == RV_ERR_MEMORY) return status;
        if (status == RV_OK && undo) undo(ctx);
    }
    rvb_fail(err, RV_ERR_BACKEND, "FsBackend: %s changes while it is read", path);
    rvb_error_path(err, path);
    return RV_ERR_BACKEND;
}

static rv_status stamp_of(fs *f, const char *collection, rvb_stamp *out, rv_error *err) {
    char *path;
    rvb_input in;
    RVB_TRY(path_of(f, collection, &path, err));
    rv_status status = open_file(f, path, &in, err);
    if (status == RV_OK) {
        status = rvb_input_stamp(&in, out, err);
        rvb_input_close(&in);
    }
    rvb_free(path);
    return status;
}

static rv_status generation(void *ctx, const char *collection, uint64_t *out,
                            rv_error *err) {
    rvb_stamp stamp;
    RVB_TRY(stamp_of(ctx, collection, &stamp, err));
    *out = generation_of(&stamp);
    return RV_OK;
}

static rv_status token(void *ctx, const char *collection, uint64_t out[4],
                       rv_error *err) {
    rvb_stamp stamp;
    RVB_TRY(stamp_of(ctx, collection, &stamp, err));
    out[0] = stamp.modified_ns;
    out[1] = stamp.size;
    out[2] = stamp.changed_ns;
    out[3] = stamp.inode;
    return RV_OK;
}

/* ---- pulls ---------------------------------------------------------------------- */

typedef struct batch {
    uint64_t *ids;
    float *vectors;
    uint64_t n, generation;
    uint32_t dim;
    char data_ref[];
} batch;

typedef struct pulling {
    const char *path;
    batch *batch;
} pulling;

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* One block: the record with its text, ids, vectors. */
static batch *alloc_batch(const rvl_ruvec1 *header, const char *path, rv_error *err) {
    size_t n = (size_t)header->count, length = strlen(path) + sizeof "file://";
    size_t ids = aligned(sizeof(batch) + length), vectors = ids + aligned(n * 8), bytes;
    bool fits = rvb_mul(n, header->dim * sizeof(float), &bytes) &&
                rvb_add(bytes, vectors, &bytes);
    batch *b = fits ? rvb_alloc(bytes, 1) : NULL;
    if (!b) {
        rvb_fail_memory(err, fits ? bytes : UINT64_MAX);
        return NULL;
    }
    b->ids = (uint64_t *)(void *)((char *)b + ids);
    b->vectors = (float *)(void *)((char *)b + vectors);
    b->n = header->count;
    b->dim = header->dim;
    snprintf(b->data_ref, length, "file://%s", path);
    return b;
}

static rv_status read_batch(const rvb_input *in, const rvb_stamp *stamp, void *ctx,
                            rv_error *err) {
    static const char call[] = "FsBackend: pull";
    pulling *p = ctx;
    rvl_ruvec1 header;
    RVB_TRY(rvl_ruvec1_header(in, call, &header, err));
    RVB_TRY(rvl_ruvec1_check(&header, stamp->size, call, err));
    batch *b = alloc_batch(&header, p->path, err);
    if (!b) return RV_ERR_MEMORY;
    b->generation = generation_of(stamp);
    rv_status status = rvl_ruvec1_read(in, &header, b->ids, b->vectors, err);
    if (status != RV_OK)
        rvb_free(b);
    else
        p->batch = b;
    return status;
}

static void undo_batch(void *ctx) { rvb_free(((pulling *)ctx)->batch); }

static rv_status pull(void *ctx, const char *collection, rv_pull *out, rv_error *err) {
    fs *f = ctx;
    char *path;
    RVB_TRY(path_of(f, collection, &path, err));
    pulling p = {path, NULL};
    rv_status status = read_state(f, path, read_batch, undo_batch, &p, err);
    rvb_free(path);
    if (status != RV_OK) return status;
    const batch *b = p.batch;
    *out = (rv_pull){.ids = b->ids,
                     .n_ids = b->n,
                     .vectors = b->vectors,
                     .n = b->n,
                     .dim = b->dim,
                     .generation = b->generation,
                     .release = rvb_free,
                     .owner = p.batch};
    return RV_OK;
}

/* The file it was read from, even if the collection is another one by now. */
static const char *data_ref_of_pull(const rv_pull *pull) {
    return ((const batch *)pull->owner)->data_ref;
}

/* ---- bundles, names ------------------------------------------------------------- */

static rv_status read_fields(const rvb_input *in, const rvb_stamp *stamp, void *ctx,
                             rv_error *err) {
    rv_bundle *fields = ctx;
    rvl_ruvec1 header;
    RVB_TRY(rvl_ruvec1_header(in, "FsBackend: bundle", &header, err));
    fields->dim = header.dim;
    fields->generation = generation_of(stamp);
    return RV_OK;
}

static rv_status bundle(void *ctx, const char *collection, uint64_t rotation_seed,
                        uint64_t rerank_factor, rv_bundle **out, rv_error *err) {
    fs *f = ctx;
    char *path;
    rv_bundle fields = {.rotation_seed = rotation_seed, .rerank_factor = rerank_factor};
    RVB_TRY(path_of(f, collection, &path, err));
    rv_status status = read_state(f, path, read_fields, NULL, &fields, err);
    char *ref = rvl_data_ref(SCHEME, path, NULL);
    if (status == RV_OK && !ref) status = rvb_fail_memory(err, strlen(path));
    if (status == RV_OK) {
        fields.data_ref = rvl_text(ref);
        status = rv_bundle_sealed(&fields, out, err);
    }
    rvb_free(ref);
    rvb_free(path);
    return status;
}

static rv_status list(void *ctx,
                      rv_status (*each)(void *names, const char *name, rv_error *err),
                      void *names, rv_error *err) {
    fs *f = ctx;
    return rvl_names_each(&f->names, f->lock, each, names, err);
}

static rv_status new_fs(const char *id, const char *root, bool follow_links, fs **out,
                        rv_error *err) {
    size_t length = strlen(id) + 1;
    fs *f = rvb_alloc_zero(1, sizeof *f + length);
    if (!f) return rvb_fail_memory(err, sizeof *f + length);
    memcpy(f->id, id, length);
    f->follow_links = follow_links;
    f->lock = rvb_rwlock_create();
    f->root = copy_text(root);
    if (!f->lock || !f->root) {
        release_fs(f);
        return rvb_fail_memory(err, strlen(root) + 1);
    }
    *out = f;
    return RV_OK;
}

rv_status rv_fs_backend_new(const char *id, const char *root, int follow_links,
                            rv_backend **out, rv_error *err) {
    static const rv_backend_calls calls = {.size = sizeof calls,
                                           .list = list,
                                           .pull = pull,
                                           .generation = generation,
                                           .bundle = bundle,
                                           .token = token,
                                           .release = release_fs,
                                           .snapshots = 1};
    fs *f = NULL;
    *out = NULL;
    if (!id || !root || !rvb_utf8_valid(root, strlen(root)))
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "a backend of files needs an id and a root, both UTF-8 text");
    RVB_TRY(new_fs(id, root, follow_links != 0, &f, err));
    rv_status status = rvb_make_directories(root, err);
    if (status == RV_OK) status = rv_backend_new(id, &calls, f, out, err);
    if (status == RV_OK)
        rvl_backend_set_data_ref(*out, data_ref_of_pull);
    else
        release_fs(f);
    return status;
}
