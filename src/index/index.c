/*
 * index.c - life of an index and the questions it answers about itself.
 */
#include "index/index_i.h"

#include <math.h>

static rv_status would_wait_for_itself(const rv_index *index, rv_error *err) {
    if (rvb_baton_is_mine(index->writer))
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "a progress callback may not change or save the index it reports "
                        "on; do it after the call has returned");
    return rvb_fail(
        err, RV_ERR_ARGUMENT,
        "this call would never end: another thread changes this index, and its "
        "progress callback waits for an index that this thread is changing; "
        "change other indexes after the call has returned");
}

rv_status rvx_writer_check(const rv_index *index, rv_error *err) {
    return rvb_baton_is_mine(index->writer) ? would_wait_for_itself(index, err) : RV_OK;
}

rv_status rvx_writer_lock(const rv_index *index, rv_error *err) {
    return rvb_baton_take(index->writer) ? RV_OK : would_wait_for_itself(index, err);
}

void rvx_writer_unlock(const rv_index *index) { rvb_baton_give(index->writer); }

rv_status rvx_index_ensure_lists(const rv_index *index, const rvk_ops *ops,
                                 rv_error *err) {
    rv_index *self = (rv_index *)(uintptr_t)index;
    rvx_lists made = {0};
    rv_status status = RV_OK;
    rvb_mutex_lock(self->making);
    if (!self->lists.list || self->lists.group != ops->group) {
        rvb_pool *pool = rvb_pool_acquire();
        status = rvx_rows_check(&self->rows, err);
        if (status == RV_OK)
            status = rvx_lists_build(&self->rows, self->quantizer, ops->group, pool,
                                     &made, err);
        rvb_pool_release(pool);
        if (status == RV_OK) status = rvx_rows_check(&self->rows, err);
        if (status == RV_OK) {
            rvb_rwlock_write_lock(self->state);
            rvx_lists old = self->lists;
            self->lists = made;
            made = old;
            rvb_rwlock_write_unlock(self->state);
        }
    }
    rvb_mutex_unlock(self->making);
    rvx_lists_clear(&made);
    return status;
}

#define PROBED_SHARE 8u
#define MIN_PROBED 32u

uint32_t rvx_default_nprobe(const rv_index *index) {
    if (index->nprobe) return index->nprobe;
    if (!index->quantizer || index->rows.n_live < RVX_PROBING_ROWS) return RV_ALL_LISTS;
    uint32_t share = index->quantizer->n_lists / PROBED_SHARE;
    return share > MIN_PROBED ? share : MIN_PROBED;
}

uint64_t rvx_next_change(void) {
    static atomic_uint_fast64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}

static bool has_codes(const rv_build_options *o) { return o->kind != RV_FLAT; }

static bool has_vectors(const rv_build_options *o) {
    return o->kind == RV_FLAT || o->kind == RV_PLUS ||
           (o->kind == RV_ASYM && o->rerank_factor > 1);
}

static rv_status check_build_options(const rv_build_options *o, rv_error *err) {
    if ((unsigned)o->kind > RV_ASYM || (unsigned)o->metric > RV_COSINE)
        return rvb_fail(err, RV_ERR_ARGUMENT, "unknown kind %d or metric %d",
                        (int)o->kind, (int)o->metric);
    if (o->dim == 0 || o->dim > RV_MAX_DIM)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RV_MAX_DIM, o->dim,
                                "dim must be 1..%u, got %u", RV_MAX_DIM, o->dim);
    if (o->n_lists > RV_MAX_LISTS)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RV_MAX_LISTS, o->n_lists,
                                "n_lists must be 1..%u, got %u", RV_MAX_LISTS,
                                o->n_lists);
    if (o->bits < 1 || o->bits > RVX_MAX_BITS)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RVX_MAX_BITS, o->bits,
                                "bits must be 1..%u, got %u", RVX_MAX_BITS, o->bits);
    if (o->originals_bits != 32 && o->originals_bits != 16)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, 32, o->originals_bits,
                                "originals_bits must be 32 or 16, got %u",
                                o->originals_bits);
    if (o->originals_bits == 16 && !(has_codes(o) && has_vectors(o)))
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "originals of 16 bits are for an index with codes and vectors; "
                        "this one keeps %s only",
                        has_codes(o) ? "codes" : "vectors");
    if (o->rerank_factor > RVX_MAX_RERANK_FACTOR)
        return rvb_fail_numbers(err, RV_ERR_ARGUMENT, RVX_MAX_RERANK_FACTOR,
                                o->rerank_factor,
                                "rerank_factor must be at most %u, got %u",
                                RVX_MAX_RERANK_FACTOR, o->rerank_factor);
    if (!(o->epsilon > 0) || isinf(o->epsilon))
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "epsilon must be a finite number > 0, got %g",
                        (double)o->epsilon);
    return RV_OK;
}

rv_status rvx_index_create(const rv_build_options *o, rv_index **out, rv_error *err) {
    *out = NULL;
    RVB_TRY(check_build_options(o, err));
    rv_index *index = rvb_alloc_zero(1, sizeof *index);
    if (!index) return rvb_fail_memory(err, sizeof *index);
    index->kind = o->kind;
    index->metric = o->metric;
    index->dim = o->dim;
    index->rerank_factor = o->rerank_factor;
    index->n_lists_option = o->n_lists;
    index->epsilon = o->epsilon;
    index->seed = o->seed;
    index->repeated_ids = o->repeated_ids != 0;
    index->has_codes = has_codes(o);
    index->has_vectors = has_vectors(o);
    index->bits = index->has_codes ? o->bits : 0;
    index->vector_bits = index->has_vectors ? o->originals_bits : 0;
    rvx_rows_init(&index->rows, o->dim, index->bits, index->vector_bits);
    atomic_init(&index->owners, 1);
    index->changes = rvx_next_change();
    index->writer = rvb_baton_create();
    index->making = rvb_mutex_create();
    index->state = rvb_rwlock_create();
    if (!index->writer || !index->making || !index->state) {
        rv_index_free(index);
        return rvb_fail_memory(err, sizeof *index);
    }
    *out = index;
    return RV_OK;
}

rv_index *rv_index_retain(rv_index *index) {
    atomic_fetch_add_explicit(&index->owners, 1, memory_order_relaxed);
    return index;
}

void rv_index_free(rv_index *index) {
    if (!index || atomic_fetch_sub(&index->owners, 1) != 1) return;
    rvx_lists_clear(&index->lists);
    rvx_idmap_clear(&index->ids);
    rvx_rows_clear(&index->rows);
    rvx_quantizer_free(index->quantizer);
    rvb_baton_free(index->writer);
    rvb_mutex_free(index->making);
    rvb_rwlock_free(index->state);
    rvb_free(index->note);
    rvb_free(index);
}

/* Readers lock a field of an index they may not change. */
static rvb_rwlock *read_lock(const rv_index *index) {
    rvb_rwlock_read_lock(index->state);
    return index->state;
}

rv_status rv_index_get_info(const rv_index *index, rv_index_info *out, rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_index_info, RV_INDEX_INFO_0_1_0_SIZE, RV_INDEX_INFO_DEFAULT);
    rvb_rwlock *lock = read_lock(index);
    uint32_t lists = index->n_lists_option ? index->n_lists_option : 1;
    const rv_index_info info = {
        .kind = index->kind,
        .metric = index->metric,
        .dim = index->dim,
        .bits = index->bits,
        .nprobe = rvx_default_nprobe(index),
        .code_bytes = (uint32_t)index->rows.column[RVX_CODES].width,
        .n_lists = index->quantizer   ? index->quantizer->n_lists
                   : index->has_codes ? lists
                                      : 0,
        .rerank_factor = index->rerank_factor,
        .epsilon = index->epsilon,
        .has_vectors = index->has_vectors,
        .originals_bits = index->vector_bits,
        .seed = index->seed,
        .n = index->rows.n_live,
        .dead = index->rows.n - index->rows.n_live,
        .next_id = index->next_id,
        .changes = index->changes,
        .moved = index->moved,
    };
    rvb_rwlock_read_unlock(lock);
    return rvb_give_info(&type, &info, out, err);
}

rv_status rv_index_memory(const rv_index *index, rv_memory_usage *out, rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_memory_usage, RV_MEMORY_USAGE_0_1_0_SIZE, RV_MEMORY_USAGE_DEFAULT);
    rv_memory_usage m = {0};
    rvb_rwlock *lock = read_lock(index);
    const rvx_rows *rows = &index->rows;
    uint64_t used[RVX_N_COLUMNS];
    for (int c = 0; c < RVX_N_COLUMNS; c++) {
        const rvx_column *column = &rows->column[c];
        used[c] = (uint64_t)rows->n * column->stride;
        if (column->mapped)
            m.mapped += used[c];
        else if (column->width)
            m.slack += (uint64_t)(column->capacity - rows->n) * column->width;
    }
    uint64_t list_slack;
    rvx_lists_bytes(&index->lists, &m.blocks, &list_slack);
    m.slack += list_slack;
    m.codes = used[RVX_CODES] + used[RVX_FACTORS] + used[RVX_NORMS];
    m.vectors = used[RVX_VECTORS];
    m.ids = used[RVX_IDS] + used[RVX_LISTS] +
            (index->ids.capacity + index->ids.n_twins) * sizeof(uint32_t) +
            rows->dead_words * sizeof(uint64_t);
    m.rotation = rvx_quantizer_bytes(index->quantizer);
    m.total =
        m.codes + m.blocks + m.vectors + m.ids + m.rotation + m.slack + sizeof *index;
    m.slack += sizeof *index;
    rvb_rwlock_read_unlock(lock);
    return rvb_give_info(&type, &m, out, err);
}

static rv_status no_vectors(rv_error *err) {
    return rvb_fail(err, RV_ERR_NO_VECTORS,
                    "this index keeps codes only, not the original vectors; build a "
                    "RabitqPlusIndex (RV_PLUS) to get them back");
}

static rv_status copy_vectors(const rv_index *index, size_t row, size_t n, float *out,
                              rv_error *err) {
    const rvx_column *v = &index->rows.column[RVX_VECTORS];
    if (!rvx_keeps_halves(index)) return rvx_cells_copy(v, row, n, out, err);
    uint16_t halves[RV_MAX_DIM];
    size_t dim = index->dim, at_once = RV_MAX_DIM / dim;
    for (size_t end = row + n; row < end; row += at_once, out += at_once * dim) {
        size_t part = end - row < at_once ? end - row : at_once;
        RVB_TRY(rvx_cells_copy(v, row, part, halves, err));
        rvk_ops_active()->widen(halves, part * dim, out);
    }
    return RV_OK;
}

rv_status rv_index_get(const rv_index *index, uint64_t id, float *out, rv_error *err) {
    if (!index->has_vectors) return no_vectors(err);
    rvb_rwlock *lock = read_lock(index);
    size_t row = rvx_row_of_id(&index->ids, &index->rows, id);
    rv_status status = RV_OK;
    if (row != RVX_NO_ROW) status = copy_vectors(index, row, 1, out, err);
    if (status == RV_OK) status = rvx_rows_check(&index->rows, err);
    rvb_rwlock_read_unlock(lock);
    if (row != RVX_NO_ROW) return status;
    return rvb_fail_numbers(err, RV_ERR_NOT_FOUND, 0, id, "id %llu is not in the index",
                            (unsigned long long)id);
}

uint32_t rv_index_note(const rv_index *index, void *out, uint32_t capacity) {
    uint32_t n = index->note_size < capacity ? index->note_size : capacity;
    if (n) memcpy(out, index->note, n);
    return index->note_size;
}

int rv_index_contains(const rv_index *index, uint64_t id) {
    rvb_rwlock *lock = read_lock(index);
    size_t row = rvx_row_of_id(&index->ids, &index->rows, id);
    rvb_rwlock_read_unlock(lock);
    return row != RVX_NO_ROW;
}

static size_t live_in_word(const rvx_rows *rows, size_t word) {
    size_t n = rows->n - word * 64;
    uint64_t rest = n < 64 ? UINT64_MAX << n : 0;
    return rvx_count_bits(~(rows->dead[word] | rest));
}

/* The first live row with `skip` live rows before it. The search goes on where the last
 * one ended, so that all rows in turn are one walk. */
static size_t nth_live(const rv_index *index, size_t skip) {
    const rvx_rows *rows = &index->rows;
    if (rows->n == rows->n_live) return skip;
    _Atomic uint64_t *cursor = &((rv_index *)(uintptr_t)index)->cursor;
    uint64_t from = atomic_load_explicit(cursor, memory_order_relaxed);
    size_t word = (size_t)(from >> 32), before = (size_t)(from & UINT32_MAX), live;
    if (before > skip) word = before = 0;
    for (; word * 64 < rows->n; word++, before += live)
        if (before + (live = live_in_word(rows, word)) > skip) break;
    if (word * 64 >= rows->n) return rows->n;
    atomic_store_explicit(cursor, (uint64_t)word << 32 | before, memory_order_relaxed);
    size_t row = word * 64;
    while (!rvx_row_live(rows, row) || before++ < skip) row++;
    return row;
}

static size_t live_run(const rvx_rows *rows, size_t row, size_t most) {
    size_t n = 0;
    while (n < most && rvx_row_live(rows, row + n)) n++;
    return n;
}

static rv_status copy_rows(const rv_index *index, size_t begin, size_t count,
                           void *const out[], float *vectors, rv_error *err) {
    const rvx_rows *rows = &index->rows;
    if (begin > rows->n_live || count > rows->n_live - begin)
        return rvb_fail_numbers(err, RV_ERR_NOT_FOUND, rows->n_live, begin + count,
                                "rows %zu to %zu were asked for, the index has %zu",
                                begin, begin + count, rows->n_live);
    size_t row = nth_live(index, begin);
    for (size_t i = 0, n; i < count; i += n) {
        while (!rvx_row_live(rows, row)) row++;
        n = live_run(rows, row, count - i);
        for (int c = 0; c < RVX_N_COLUMNS; c++)
            if (out[c])
                RVB_TRY(rvx_cells_copy(&rows->column[c], row, n,
                                       (char *)out[c] + i * rows->column[c].width, err));
        if (vectors) RVB_TRY(copy_vectors(index, row, n, vectors + i * index->dim, err));
        row += n;
    }
    bool of_file = out[RVX_NORMS] || out[RVX_CODES] || vectors; /* ids are copies */
    return of_file ? rvx_rows_check(rows, err) : RV_OK;
}

rv_status rv_index_copy_rows(const rv_index *index, uint64_t begin, uint64_t count,
                             uint64_t *ids, float *norms, uint8_t *codes, float *vectors,
                             rv_error *err) {
    if (vectors && !index->has_vectors) return no_vectors(err);
    if (codes && !index->has_codes)
        return rvb_fail(err, RV_ERR_ARGUMENT, "a flat index has no codes");
    void *out[RVX_N_COLUMNS] = {
        [RVX_IDS] = ids, [RVX_NORMS] = norms, [RVX_CODES] = codes};
    if (begin > RV_MAX_ROWS || count > RV_MAX_ROWS) begin = count = RV_MAX_ROWS;
    rvb_rwlock *lock = read_lock(index);
    rv_status status = copy_rows(index, (size_t)begin, (size_t)count, out, vectors, err);
    rvb_rwlock_read_unlock(lock);
    return status;
}

rv_status rv_index_view(const rv_index *index, rv_view *out, rv_error *err) {
    static const rvb_sized type = RVB_SIZED(rv_view, RV_VIEW_0_1_0_SIZE, RV_VIEW_DEFAULT);
    rv_view view = {.dim = index->dim, .bits = index->vector_bits};
    RVB_TRY(rvb_check_size(&type, out, err));
    if (!index->has_vectors) return no_vectors(err);
    rvb_rwlock *lock = read_lock(index);
    const rvx_column *v = &index->rows.column[RVX_VECTORS];
    view.stride_bytes = v->stride;
    rv_status status = RV_OK;
    if (index->rows.n != index->rows.n_live) {
        status = rvb_fail(err, RV_ERR_ARGUMENT,
                          "removed rows lie between the others; call vacuum first");
    } else if (v->buf && (status = rvx_rows_check(&index->rows, err)) == RV_OK) {
        view.data = v->data;
        view.n = index->rows.n;
        view.owner = rvx_buf_ref(v->buf);
    }
    rvb_rwlock_read_unlock(lock);
    return status == RV_OK ? rvb_give_info(&type, &view, out, err) : status;
}

void rv_view_release(rv_view *view) {
    if (!view) return;
    rvx_buf_unref(view->owner);
    view->owner = NULL;
    view->data = NULL;
    view->n = 0;
}

static bool same_rows(const rv_index *a, const rv_index *b) {
    int data = a->has_vectors ? RVX_VECTORS : RVX_CODES;
    const rvx_rows *ra = &a->rows, *rb = &b->rows;
    if (ra->n_live != rb->n_live) return false;
    size_t width = ra->column[data].width;
    for (size_t i = 0, j = 0;; i++, j++) {
        while (i < ra->n && !rvx_row_live(ra, i)) i++;
        while (j < rb->n && !rvx_row_live(rb, j)) j++;
        if (i >= ra->n) return true;
        if (rvx_row_id(ra, i) != rvx_row_id(rb, j)) return false;
        if (memcmp(rvx_cell(&ra->column[data], i), rvx_cell(&rb->column[data], j),
                   width) != 0)
            return false;
    }
}

static bool same_options(const rv_index *a, const rv_index *b) {
    return a->kind == b->kind && a->metric == b->metric && a->dim == b->dim &&
           a->seed == b->seed && a->rerank_factor == b->rerank_factor &&
           a->epsilon == b->epsilon && a->vector_bits == b->vector_bits &&
           a->bits == b->bits && a->n_lists_option == b->n_lists_option &&
           a->nprobe == b->nprobe;
}

rv_status rv_index_check_file(const rv_index *index, rv_error *err) {
    rvb_rwlock *lock = read_lock(index);
    rv_status status = rvx_rows_check(&index->rows, err);
    rvb_rwlock_read_unlock(lock);
    return status;
}

static bool files_stay(const rv_index *a, const rv_index *b) {
    return rvx_rows_check(&a->rows, NULL) == RV_OK &&
           rvx_rows_check(&b->rows, NULL) == RV_OK;
}

int rv_index_equal(const rv_index *a, const rv_index *b) {
    if (a == b) return 1;
    /* One order for both locks, so that a == b and b == a cannot wait for each other. */
    bool in_order = (uintptr_t)a < (uintptr_t)b;
    const rv_index *first = in_order ? a : b, *second = in_order ? b : a;
    rvb_rwlock *outer = read_lock(first), *inner = read_lock(second);
    bool same =
        files_stay(a, b) && same_options(a, b) && same_rows(a, b) && files_stay(a, b);
    rvb_rwlock_read_unlock(inner);
    rvb_rwlock_read_unlock(outer);
    return same;
}
