/*
 * snapshot.c - entries as files, and ready indexes as entries.
 *
 * An entry is written as two files: its index, and the bundle it was built from. The
 * index file carries a note with the witness and a digest of ids and vectors, so that
 * two files that do not belong together, as after a crash between them, are noticed; and
 * with what of the token lasts, so that data changed under the same witness are.
 */
#include "lake/lake_i.h"

#define NOTE_MAGIC "RVLAKE01"
#define NOTE_DIGEST 8u /* after the magic */
#define NOTE_WITNESS (NOTE_DIGEST + RVB_DIGEST_BYTES)
#define NOTE_TOKEN (NOTE_WITNESS + RV_WITNESS_CHARS) /* known or not, lasting parts */
#define NOTE_BYTES (NOTE_TOKEN + (1 + RVL_LASTING) * sizeof(uint64_t))

#define DIGEST_ROWS 1024u /* ids copied at a time */
/* The first search among 100,000 x 128 rows took 1.7 times as long as later ones if there
 * had been one for a zero vector, 1.3 times after one for a row, 1.1 after four. */
#define WARM_SEARCHES 4u
#define WARM_K 10u

/* ---- digests of content ------------------------------------------------------- */

static rv_status digest_ids(const rv_index *index, uint64_t n, rvb_tree *tree,
                            rv_error *err) {
    uint64_t ids[DIGEST_ROWS];
    for (uint64_t row = 0; row < n; row += DIGEST_ROWS) {
        uint64_t count = n - row < DIGEST_ROWS ? n - row : DIGEST_ROWS;
        RVB_TRY(rv_index_copy_rows(index, row, count, ids, NULL, NULL, NULL, err));
        rvb_tree_update(tree, ids, (size_t)count * sizeof *ids);
    }
    return RV_OK;
}

/* SHAKE-256 as rvb_tree_digest, of ids then vectors, little-endian. */
static rv_status index_digest(const rv_index *index, uint8_t out[RVB_DIGEST_BYTES],
                              rv_error *err) {
    rv_view view = RV_VIEW_DEFAULT;
    RVB_TRY(rv_index_view(index, &view, err));
    size_t row_bytes = (size_t)view.dim * view.bits / 8;
    rvb_tree tree;
    rvb_tree_init(&tree, view.n * (sizeof(uint64_t) + row_bytes));
    rv_status status = digest_ids(index, view.n, &tree, err);
    if (status == RV_OK && view.stride_bytes == row_bytes) {
        rvb_tree_update(&tree, view.data, (size_t)view.n * row_bytes);
    } else if (status == RV_OK) {
        const char *row = (const char *)view.data;
        for (uint64_t i = 0; i < view.n; i++, row += view.stride_bytes)
            rvb_tree_update(&tree, row, row_bytes);
    }
    if (status == RV_OK) rvb_tree_finish(&tree, out);
    rv_view_release(&view);
    return status;
}

static void pull_digest(const rv_pull *rows, uint8_t out[RVB_DIGEST_BYTES]) {
    size_t ids = (size_t)rows->n * sizeof(uint64_t);
    size_t vectors = (size_t)(rows->n * rows->dim) * sizeof(float);
    rvb_tree tree;
    rvb_tree_init(&tree, (uint64_t)ids + vectors);
    rvb_tree_update(&tree, rows->ids, ids);
    rvb_tree_update(&tree, rows->vectors, vectors);
    rvb_tree_finish(&tree, out);
}

/* ---- tokens in notes ---------------------------------------------------------- */

static void put_token(uint8_t *at, const rvl_token *token) {
    rvb_put_u64(at, token->known);
    for (size_t i = 0; i < RVL_LASTING; i++)
        rvb_put_u64(at + (1 + i) * sizeof(uint64_t), token->part[i]);
}

static void read_token(const uint8_t *at, rvl_token *out) {
    *out = (rvl_token){.known = rvb_get_u64(at) != 0, .lasting = true};
    for (size_t i = 0; i < RVL_LASTING; i++)
        out->part[i] = rvb_get_u64(at + (1 + i) * sizeof(uint64_t));
}

/* ---- saving ------------------------------------------------------------------- */

static rv_status nothing_cached(const rvl_key *key, rv_error *err) {
    return rvb_fail(err, RV_ERR_NOT_FOUND,
                    "unknown collection: nothing is cached for %s/%s; search or prime it "
                    "first",
                    key->backend, key->collection);
}

static rv_status save_index(const rvl_entry *entry, const char *path, rv_error *err) {
    uint8_t note[NOTE_BYTES];
    rvl_token token = rvl_token_of(entry->lake, entry);
    memcpy(note, NOTE_MAGIC, NOTE_DIGEST);
    RVB_TRY(index_digest(entry->index, note + NOTE_DIGEST, err));
    memcpy(note + NOTE_WITNESS, entry->witness, RV_WITNESS_CHARS);
    put_token(note + NOTE_TOKEN, &token);
    rv_save_options o = RV_SAVE_DEFAULT;
    o.row_numbers = 1;
    o.note = note;
    o.note_size = sizeof note;
    return rv_index_save_as(entry->index, path, &o, err);
}

static rv_status save_entry(const rvl_entry *entry, const char *directory,
                            rv_error *err) {
    RVB_TRY(rvb_make_directories(directory, err));
    char *path = rvb_join_path(directory, RV_SNAPSHOT_FILE);
    if (!path) return rvb_fail_memory(err, strlen(directory));
    rv_status status = save_index(entry, path, err);
    rvb_free(path);
    return status == RV_OK ? rv_bundle_write(entry->bundle, directory, err) : status;
}

rv_status rv_lake_save(rv_lake *lake, rv_key name, const char *directory, rv_error *err) {
    rvl_key *key;
    RVB_TRY(rvl_resolve(lake, name, &key, err));
    rvl_entry *entry = rvl_hold(lake, key, RVL_ANY, NULL, NULL, NULL);
    if (!entry) return nothing_cached(key, err);
    rv_status status = save_entry(entry, directory, err);
    rv_pin_release(entry);
    return status;
}

/* ---- warming ------------------------------------------------------------------ */

typedef struct snapshot {
    rv_bundle *bundle;
    rv_index *index;
    rv_index_info info;
    bool ids_unverified;
    rvl_token token;
} snapshot;

static rv_status mismatch(rv_error *err, const char *what, uint64_t index,
                          uint64_t bundle) {
    return rvb_fail_numbers(err, RV_ERR_WITNESS, bundle, index,
                            "warm: index %s %llu != bundle %s %llu", what,
                            (unsigned long long)index, what, (unsigned long long)bundle);
}

static rv_status check_note(snapshot *s, const char *path, rv_error *err) {
    uint8_t note[NOTE_BYTES];
    if (rv_index_note(s->index, note, sizeof note) != sizeof note ||
        memcmp(note, NOTE_MAGIC, NOTE_DIGEST) != 0)
        return rvb_fail(err, RV_ERR_WITNESS, "warm: %s carries a note no lake wrote",
                        path);
    if (memcmp(note + NOTE_WITNESS, s->bundle->witness.data, RV_WITNESS_CHARS) != 0)
        return rvb_fail(err, RV_ERR_WITNESS,
                        "warm: %s belongs to witness %.64s, not to that of the "
                        "bundle beside it",
                        path, (const char *)note + NOTE_WITNESS);
    uint8_t digest[RVB_DIGEST_BYTES];
    RVB_TRY(index_digest(s->index, digest, err));
    if (memcmp(note + NOTE_DIGEST, digest, sizeof digest) != 0)
        return rvb_fail(err, RV_ERR_WITNESS,
                        "warm: ids and vectors in %s are not those it was saved with",
                        path);
    read_token(note + NOTE_TOKEN, &s->token);
    return RV_OK;
}

/* Without a note a file is not a lake's of ours: if its ids are the row numbers, the
 * real ones may have been left out. */
static rv_status check_ids(snapshot *s, rv_error *err) {
    uint64_t ids[DIGEST_ROWS];
    s->ids_unverified = true;
    for (uint64_t row = 0; row < s->info.n && s->ids_unverified; row += DIGEST_ROWS) {
        uint64_t left = s->info.n - row, count = left < DIGEST_ROWS ? left : DIGEST_ROWS;
        RVB_TRY(rv_index_copy_rows(s->index, row, count, ids, NULL, NULL, NULL, err));
        for (uint64_t i = 0; i < count; i++)
            if (ids[i] != row + i) s->ids_unverified = false;
    }
    return RV_OK;
}

static rv_status check_snapshot(snapshot *s, const char *path, rv_error *err) {
    const rv_bundle *b = s->bundle;
    if (s->info.kind != RV_PLUS || s->info.metric != RV_L2)
        return rvb_fail(err, RV_ERR_WITNESS,
                        "warm: %s holds another kind of index than a lake's", path);
    if (s->info.dim != b->dim) return mismatch(err, "dim", s->info.dim, b->dim);
    if (s->info.rerank_factor != b->rerank_factor)
        return mismatch(err, "rerank_factor", s->info.rerank_factor, b->rerank_factor);
    if (s->info.seed != b->rotation_seed)
        return mismatch(err, "rotation_seed", s->info.seed, b->rotation_seed);
    if (rv_index_note(s->index, NULL, 0) > 0) return check_note(s, path, err);
    return check_ids(s, err);
}

static rv_status load_index(snapshot *s, const char *path, rv_error *err) {
    rv_error why = {0};
    rv_status status = rv_index_load(path, 0, RV_VERIFY_ALWAYS, &s->index, &why);
    if (status == RV_ERR_DIGEST)
        return rvb_fail(err, RV_ERR_WITNESS, "warm: %s: %s", path, why.message);
    if (status != RV_OK) {
        if (err) *err = why;
        return status;
    }
    s->info.size = sizeof s->info;
    RVB_TRY(rv_index_get_info(s->index, &s->info, err));
    return check_snapshot(s, path, err);
}

/* The first search arranges the codes for scanning, and what it looks at is far from the
 * processor, as it is for some that follow: better now than when it counts. */
static rv_status warm_up(const snapshot *s, rv_error *err) {
    float *query = rvb_alloc(s->info.dim, sizeof *query);
    if (!query) return rvb_fail_memory(err, s->info.dim * sizeof *query);
    uint64_t searches = s->info.n < WARM_SEARCHES ? s->info.n : WARM_SEARCHES;
    rv_status status = RV_OK;
    for (uint64_t i = 0; status == RV_OK && i < searches; i++) {
        uint64_t ids[WARM_K], row = s->info.n / searches * i;
        float scores[WARM_K];
        status = rv_index_copy_rows(s->index, row, 1, NULL, NULL, NULL, query, err);
        if (status == RV_OK)
            status = rv_index_search(s->index, &(rv_queries){query, 1, s->info.dim},
                                     WARM_K, NULL, &(rv_result){ids, scores}, err);
    }
    rvb_free(query);
    return status;
}

/* Generations of a backend in memory start anew with each process, so that two states
 * may have one witness. Where its rows are at hand, they are compared. */
static rv_status compare_with_memory(rv_lake *lake, const rvl_key *key, const snapshot *s,
                                     rv_error *err) {
    rv_backend *backend = rvl_backend(lake, key->backend);
    if (!backend || !rvl_is_local(backend)) return RV_OK;
    rv_pull rows;
    rv_bundle *present;
    rv_status status = rv_backend_pull(backend, key->collection, &rows, err);
    if (status != RV_OK) return status == RV_ERR_NOT_FOUND ? RV_OK : status;
    status =
        rvl_backend_bundle_of_pull(backend, key->collection, s->bundle->rotation_seed,
                                   s->bundle->rerank_factor, &rows, &present, err);
    if (status == RV_OK) {
        bool same_state =
            memcmp(present->witness.data, s->bundle->witness.data, RV_WITNESS_CHARS) == 0;
        uint8_t theirs[RVB_DIGEST_BYTES], ours[RVB_DIGEST_BYTES];
        if (same_state) {
            pull_digest(&rows, theirs);
            status = index_digest(s->index, ours, err);
            if (status == RV_OK && memcmp(theirs, ours, sizeof ours) != 0)
                status =
                    rvb_fail(err, RV_ERR_WITNESS,
                             "warm: %s/%s now holds other vectors than the snapshot of "
                             "the same witness: it was made by another process",
                             key->backend, key->collection);
        }
        rv_bundle_free(present);
    }
    rv_pull_release(&rows);
    return status;
}

static rv_status read_snapshot(rv_lake *lake, const rvl_key *key, const char *directory,
                               snapshot *s, rv_error *err) {
    RVB_TRY(rv_bundle_read(directory, &s->bundle, err));
    char *path = rvb_join_path(directory, RV_SNAPSHOT_FILE);
    if (!path) return rvb_fail_memory(err, strlen(directory));
    rv_status status = load_index(s, path, err);
    rvb_free(path);
    RVB_TRY(status);
    RVB_TRY(compare_with_memory(lake, key, s, err));
    return warm_up(s, err);
}

rv_status rv_lake_warm(rv_lake *lake, rv_key name, const char *directory, uint64_t *n,
                       rv_error *err) {
    rvl_key *key;
    RVB_TRY(rvl_resolve(lake, name, &key, err));
    snapshot s = {0};
    rv_status status = read_snapshot(lake, key, directory, &s, err);
    if (status != RV_OK) {
        rv_index_free(s.index);
        rv_bundle_free(s.bundle);
        return status;
    }
    rvl_entry *entry;
    RVB_TRY(rvl_entry_new(lake, s.index, s.bundle, &entry, err));
    entry->ids_unverified = s.ids_unverified;
    entry->token = s.token;
    if (n) *n = s.info.n;
    bool stored;
    rv_pin_release(rvl_store(lake, key, entry, &stored));
    if (stored) atomic_fetch_add(&lake->warm_installs, 1);
    return RV_OK;
}

/* ---- ready indexes ------------------------------------------------------------ */

/* What stands for an index whose backend is not known. */
static rv_status own_bundle(const rv_lake *lake, const rvl_key *key,
                            const rv_index_info *info, rv_bundle **out, rv_error *err) {
    size_t b = strlen(key->backend), c = strlen(key->collection);
    char *text = rvb_alloc(b + c + 3, 1);
    if (!text) return rvb_fail_memory(err, b + c + 3);
    memcpy(text, key->backend, b);
    memcpy(text + b, "://", 3);
    memcpy(text + b + 3, key->collection, c);
    rv_bundle fields = {.format_version = RV_BUNDLE_VERSION,
                        .data_ref = {text, b + 3 + c},
                        .dim = info->dim,
                        .rotation_seed = lake->options.rotation_seed,
                        .rerank_factor = lake->options.rerank_factor};
    rv_status status = rv_bundle_sealed(&fields, out, err);
    rvb_free(text);
    return status;
}

rv_status rv_lake_install(rv_lake *lake, rv_key name, rv_index *index,
                          const rv_bundle *bundle, rv_error *err) {
    rvl_key *key;
    rv_bundle *sealed;
    rv_index_info info = RV_INDEX_INFO_DEFAULT;
    RVB_TRY(rv_index_get_info(index, &info, err));
    if (info.kind != RV_PLUS || info.metric != RV_L2)
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "a lake takes only a RabitqPlusIndex (RV_PLUS) with metric 'l2'");
    RVB_TRY(rvl_resolve(lake, name, &key, err));
    if (bundle)
        RVB_TRY(rv_bundle_sealed(bundle, &sealed, err));
    else if (rvl_backend(lake, key->backend))
        RVB_TRY(rvl_present_bundle(lake, key, &sealed, err));
    else
        RVB_TRY(own_bundle(lake, key, &info, &sealed, err));
    if (sealed->dim != info.dim) {
        rv_status status =
            rvb_fail_numbers(err, RV_ERR_DIM, sealed->dim, info.dim,
                             "dimension mismatch: the bundle says %llu, the index has %u",
                             (unsigned long long)sealed->dim, info.dim);
        rv_bundle_free(sealed);
        return status;
    }
    rvl_entry *entry;
    RVB_TRY(rvl_entry_new(lake, rv_index_retain(index), sealed, &entry, err));
    entry->foreign = true;
    bool stored;
    rv_pin_release(rvl_store(lake, key, entry, &stored));
    return RV_OK;
}

int rv_lake_has_index(const rv_lake *lake, const rv_index *index) {
    /* entries are compared one by one, and not under the lock */
    rv_lake *self = (rv_lake *)(uintptr_t)lake;
    rvl_entry *entry = rvl_entry_look(self, NULL);
    bool same = false;
    while (entry && !(same = rv_index_equal(entry->index, index))) {
        rvl_entry *older = rvl_entry_look(self, entry);
        rvl_entry_unlook(entry);
        entry = older;
    }
    if (entry) rvl_entry_unlook(entry);
    return same;
}
