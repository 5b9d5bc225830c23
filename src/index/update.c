/*
 * update.c - what changes rows: build, add, upsert, remove.
 *
 * Work happens beside what readers see (new columns, or the room after the last
 * row), with the writer lock alone; then one short step under the state lock makes
 * it visible. All memory is reserved before that step, so it cannot fail, and a
 * refused call leaves no trace.
 */
#include "index/index_i.h"

/* ---- making changes visible ------------------------------------------------------ */

/* What an append has prepared, all of it owned here until it is adopted. */
typedef struct change {
    size_t n;
    const uint64_t *ids;
    uint64_t *made_ids;
    bool ascending;           /* ids strictly, among themselves and after those present */
    rvx_quantizer *quantizer; /* newly trained, or NULL */
    rvx_column column[RVX_N_COLUMNS];
    rvx_lists lists; /* grown ones */
    rvx_idmap map;   /* replaces the table if `new_map` */
    bool new_map;
    uint64_t *dead; /* replaces the bits, if rows are to be replaced */
    size_t dead_words;
} change;

static void change_clear(change *c) {
    rvb_free(c->made_ids);
    rvx_quantizer_free(c->quantizer);
    rvx_columns_clear(c->column);
    rvx_lists_clear(&c->lists);
    rvx_idmap_clear(&c->map);
    rvb_free(c->dead);
}

static rv_status prepare_ids(const rv_index *index, change *c, const uint64_t *ids,
                             bool replace, rv_error *err) {
    size_t n = c->n;
    const rvx_rows *rows = &index->rows;
    if (n > RV_MAX_ROWS - rows->n)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_MAX_ROWS, rows->n + n,
                                "an index holds at most %llu rows; split the data",
                                (unsigned long long)RV_MAX_ROWS);
    if (!ids) {
        if (n > RV_NO_ID - index->next_id)
            return rvb_fail(err, RV_ERR_LIMIT, "no ids are left after %llu; pass ids",
                            (unsigned long long)index->next_id);
        c->made_ids = rvb_alloc(n, sizeof *c->made_ids);
        if (!c->made_ids) return rvb_fail_memory(err, n * sizeof *c->made_ids);
        for (size_t i = 0; i < n; i++) c->made_ids[i] = index->next_id + i;
        ids = c->made_ids;
    }
    c->ids = ids;
    RVB_TRY(rvx_ids_check(ids, n, index->repeated_ids, &c->ascending, err));
    bool beyond = rows->n == 0 || ids[0] > rvx_row_id(rows, rows->n - 1);
    c->ascending = c->ascending && beyond && rows->ids_ascending;
    for (size_t i = 0; !replace && !c->ascending && i < n; i++)
        if (rvx_row_of_id(&index->ids, rows, ids[i]) != RVX_NO_ROW)
            return rvb_fail_numbers(
                err, RV_ERR_DUPLICATE, 0, ids[i],
                "id %llu is already in the index; use upsert to replace it",
                (unsigned long long)ids[i]);
    return RV_OK;
}

static rv_status reserve_dead(const rvx_rows *rows, size_t n_rows, change *c,
                              rv_error *err) {
    size_t words = (n_rows + 63) / 64;
    if (rows->dead && rows->dead_words >= words) return RV_OK;
    c->dead_words = words + words / 2;
    c->dead = rvb_alloc_zero(c->dead_words, sizeof *c->dead);
    if (!c->dead) return rvb_fail_memory(err, c->dead_words * sizeof *c->dead);
    if (rows->dead) memcpy(c->dead, rows->dead, rows->dead_words * sizeof *c->dead);
    return RV_OK;
}

static void adopt_dead(rvx_rows *rows, change *c) {
    if (!c->dead) return;
    rvb_free(rows->dead);
    rows->dead = c->dead;
    rows->dead_words = c->dead_words;
    c->dead = NULL;
}

static rv_status reserve_map(rv_index *index, change *c, rv_error *err) {
    const rvx_idmap *map = &index->ids;
    if (c->ascending) return RV_OK;
    if (map->slots && map->capacity / 3 * 2 >= map->n + c->n) return RV_OK;
    RVB_TRY(rvx_idmap_build(&index->rows, c->n, true, &c->map, err));
    c->new_map = true;
    if (!index->repeated_ids) return RV_OK;
    return rvx_idmap_reserve_twins(&c->map, index->rows.n + c->n, err);
}

static void kill_row(rv_index *index, size_t row) {
    rvx_rows *rows = &index->rows;
    if (index->ids.slots) rvx_idmap_erase(&index->ids, rows, row);
    if (index->lists.list) rvx_lists_kill(&index->lists, rows, row);
    rows->dead[row / 64] |= UINT64_C(1) << (row % 64);
    rows->n_live--;
    atomic_store_explicit(&index->cursor, 0, memory_order_relaxed);
}

/* After an import each of the rows with this id goes. */
static void kill_id(rv_index *index, uint64_t id) {
    size_t row = rvx_row_of_id(&index->ids, &index->rows, id);
    while (row != RVX_NO_ROW) {
        size_t twin = rvx_idmap_twin(&index->ids, row);
        kill_row(index, row);
        row = twin;
    }
}

/* Under the state lock; cannot fail. What rows lay in until now goes to the change: to
 * let go of it may call its owner back. */
static void adopt(rv_index *index, change *c, bool replace) {
    rvx_rows *rows = &index->rows;
    index->changes = rvx_next_change();
    if (c->quantizer) {
        rvx_quantizer_free(index->quantizer);
        index->quantizer = c->quantizer;
        c->quantizer = NULL;
    }
    rvx_columns_swap(rows->column, c->column);
    adopt_dead(rows, c);
    if (c->new_map) {
        rvx_idmap_clear(&index->ids);
        index->ids = c->map;
        c->map = (rvx_idmap){0};
    }
    if (index->lists.list) rvx_lists_adopt(&index->lists, &c->lists);
    size_t live = rows->n_live, first = rows->n;
    for (size_t i = 0; replace && i < c->n; i++) kill_id(index, c->ids[i]);
    index->moved |= rows->n_live < live;
    rows->n += c->n;
    rows->n_live += c->n;
    rows->ids_ascending = c->ascending;
    for (size_t row = first; row < rows->n; row++) {
        if (index->lists.list) rvx_lists_append(&index->lists, rows, row);
        uint64_t id = rvx_row_id(rows, row);
        if (id >= index->next_id) index->next_id = id + 1;
    }
    if (index->ids.slots) rvx_idmap_insert_rows(&index->ids, rows, first, rows->n);
    if (index->repeated_ids && index->ids.slots) rvx_idmap_link_twins(&index->ids, rows);
}

static rv_status prepare_rows(rv_index *index, change *c, const float *vectors,
                              rvb_pool *pool, const rv_progress *progress,
                              rv_error *err) {
    const rvx_rows *rows = &index->rows;
    size_t n = c->n, total = rows->n + n;
    RVB_TRY(rvx_columns_grow(rows, total, rows->n == 0, c->column, err));
    for (size_t i = 0; i < n; i++)
        memcpy(rvx_cell(&c->column[RVX_IDS], rows->n + i), &c->ids[i], sizeof *c->ids);
    return rvx_code_rows(index, c->column, vectors, n, &c->quantizer, pool, progress,
                         err);
}

/* Room in the lists, the table and the bits for rows that are there already. `making` is
 * held. */
static rv_status reserve(rv_index *index, change *c, bool replace, rv_error *err) {
    const rvx_rows *rows = &index->rows;
    rvx_rows after = *rows;
    memcpy(after.column, c->column, sizeof after.column);
    RVB_TRY(rvx_lists_reserve(&index->lists, &after, rows->n, c->n, &c->lists, err));
    RVB_TRY(reserve_map(index, c, err));
    return replace || rows->dead ? reserve_dead(rows, rows->n + c->n, c, err) : RV_OK;
}

static rv_status append_rows(rv_index *index, const float *vectors, const uint64_t *ids,
                             size_t n, bool replace, const rv_progress *progress,
                             rv_error *err) {
    if (n == 0) return RV_OK;
    change c = {.n = n};
    rvb_pool *pool = n >= RVX_CODE_ROWS ? rvb_pool_acquire() : NULL;
    rv_status status = prepare_ids(index, &c, ids, replace, err);
    if (status == RV_OK) status = prepare_rows(index, &c, vectors, pool, progress, err);
    if (status == RV_OK) status = rvx_rows_check(&index->rows, err);
    rvb_pool_release(pool);
    if (status == RV_OK) {
        rvb_mutex_lock(index->making);
        status = reserve(index, &c, replace, err);
        if (status == RV_OK) {
            rvb_rwlock_write_lock(index->state);
            adopt(index, &c, replace);
            rvb_rwlock_write_unlock(index->state);
        }
        rvb_mutex_unlock(index->making);
    }
    change_clear(&c);
    return status;
}

/* ---- public --------------------------------------------------------------------- */

static rv_status append(rv_index *index, const rv_rows *rows, bool replace,
                        const rv_progress *progress, rv_error *err) {
    if (rows->dim != index->dim)
        return rvb_fail_numbers(
            err, RV_ERR_DIM, index->dim, rows->dim,
            "vector has %u dimensions, the index %u; make it with the "
            "model that made the others, or build another index",
            rows->dim, index->dim);
    if (rows->n > RV_MAX_ROWS)
        return rvb_fail_numbers(err, RV_ERR_LIMIT, RV_MAX_ROWS, rows->n,
                                "an index holds at most %llu rows; split the data",
                                (unsigned long long)RV_MAX_ROWS);
    RVB_TRY(rvx_writer_lock(index, err));
    rv_status status = append_rows(index, rows->vectors, rows->ids, (size_t)rows->n,
                                   replace, progress, err);
    if (status == RV_OK) rvx_tidy(index);
    rvx_writer_unlock(index);
    return status;
}

rv_status rv_index_add(rv_index *index, const rv_rows *rows, const rv_progress *progress,
                       rv_error *err) {
    return append(index, rows, false, progress, err);
}

rv_status rv_index_build(const rv_build_options *options, const rv_rows *rows,
                         rv_index **out, rv_error *err) {
    static const rvb_sized type =
        RVB_SIZED(rv_build_options, RV_BUILD_OPTIONS_0_1_0_SIZE, RV_BUILD_DEFAULT);
    rv_build_options o = RV_BUILD_DEFAULT;
    rv_index *index;
    *out = NULL;
    RVB_TRY(rvb_take_options(&type, options, &o, err));
    if (o.dim == 0) o.dim = rows->dim;
    uint64_t n = rows->n;
    RVB_TRY(rvx_index_create(&o, &index, err));
    if (index->has_codes && n && o.n_lists > RV_SMALL_LISTS &&
        o.n_lists > n / RVK_BLOCK) {
        rv_index_free(index);
        return rvb_fail_numbers(
            err, RV_ERR_ARGUMENT, n / RVK_BLOCK, o.n_lists,
            "n_lists is %u: %llu rows are enough for %llu lists; more than %u lists need "
            "%u rows each",
            o.n_lists, (unsigned long long)n,
            (unsigned long long)(n / RVK_BLOCK > RV_SMALL_LISTS ? n / RVK_BLOCK
                                                                : RV_SMALL_LISTS),
            RV_SMALL_LISTS, RVK_BLOCK);
    }
    rv_status status = rv_index_add(index, rows, o.progress, err);
    if (status != RV_OK) {
        rv_index_free(index);
        return status;
    }
    index->repeated_ids = false;
    *out = index;
    return RV_OK;
}

rv_status rv_index_upsert(rv_index *index, const rv_rows *rows,
                          const rv_progress *progress, rv_error *err) {
    if (!rows->ids && rows->n)
        return rvb_fail(err, RV_ERR_ARGUMENT,
                        "upsert needs ids; use add to have them made");
    return append(index, rows, true, progress, err);
}

rv_status rv_index_remove(rv_index *index, const uint64_t *ids, uint64_t n,
                          uint64_t *removed, rv_error *err) {
    if (removed) *removed = 0;
    RVB_TRY(rvx_writer_lock(index, err));
    change c = {0};
    rv_status status = reserve_dead(&index->rows, index->rows.n, &c, err);
    if (status == RV_OK) {
        rvb_mutex_lock(index->making);
        rvb_rwlock_write_lock(index->state);
        size_t before = index->rows.n_live;
        adopt_dead(&index->rows, &c);
        for (uint64_t i = 0; i < n; i++) kill_id(index, ids[i]);
        if (index->rows.n_live < before) {
            index->changes = rvx_next_change();
            index->moved = true;
        }
        if (removed) *removed = before - index->rows.n_live;
        rvb_rwlock_write_unlock(index->state);
        rvb_mutex_unlock(index->making);
        rvx_tidy(index);
    }
    change_clear(&c);
    rvx_writer_unlock(index);
    return status;
}
